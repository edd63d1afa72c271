//! Compiling metric queries over HTTP.

use std::sync::Arc;

use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Object, OpenApi};
use serde_json::Value;

use super::ApiTag;
use super::caller::{ApiScope, Caller, failed};
use super::problem::ApiError;
use crate::engine::{Engine, EngineError};
use crate::semantic::compile;

/// The time axis of a metric query.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct CompileTime {
    /// dataset.field; left out, each metric's own time dimension.
    pub dimension: Option<String>,
    /// second, minute, hour, day, week, month, quarter or year; left out, the axis only bounds the rows.
    pub grain: Option<String>,
    /// First moment that counts, ISO date or date and time.
    pub from: Option<String>,
    /// First moment that does not count any more.
    pub to: Option<String>,
    /// Also return periods without rows; takes grain, from and to.
    #[oai(default)]
    pub fill_gaps: bool,
    /// Name of the result's column.
    pub alias: Option<String>,
}

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct CompileRequest {
    /// The model; may be left out if the names say which.
    pub model: Option<String>,
    /// Names of metrics. Empty: the distinct values of the dimensions.
    #[oai(default)]
    pub metrics: Vec<String>,
    /// What to group by: "dataset.field", or {name, grain, alias, joins}.
    #[oai(default)]
    pub dimensions: Vec<Any<Value>>,
    /// Conditions on rows, all of which must hold: SQL, or {field, op, value, values, joins} with op one of =, !=, <, <=, >,
    /// >=, in, not_in, between, like, not_like, is_null, is_not_null.
    #[oai(default)]
    pub filters: Vec<Any<Value>>,
    /// Conditions on metrics, after aggregation, in the same form.
    #[oai(default)]
    pub metric_filters: Vec<Any<Value>>,
    pub time: Option<CompileTime>,
    /// Relationships to go by where several ways join two datasets.
    #[oai(default)]
    pub joins: Vec<String>,
    /// Columns of the result to sort by: a name, or {name, direction: asc or desc}. NULL is the highest value.
    #[oai(default)]
    pub order_by: Vec<Any<Value>>,
    pub limit: Option<u64>,
    /// ansi, datafusion, postgresql, snowflake or duckdb.
    #[oai(default = "default_dialect")]
    pub dialect: String,
}

fn default_dialect() -> String {
    compile::Dialect::default().as_str().to_owned()
}

#[derive(Debug, Object)]
pub struct CompiledColumn {
    pub name: String,
    /// dimension, time or metric.
    pub kind: String,
    /// Logical type; empty when not declared.
    pub datatype: String,
    pub unit: String,
    pub description: String,
}

#[derive(Debug, Object)]
pub struct CompileAnswer {
    /// One SELECT; in the dialect datafusion it is ready for /v1/sql/run.
    pub sql: String,
    pub dialect: String,
    /// Of the result, in order.
    pub columns: Vec<CompiledColumn>,
    /// model.dataset of everything it reads.
    pub datasets: Vec<String>,
    /// Relationships that it joins by.
    pub joins: Vec<String>,
    pub warnings: Vec<String>,
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(prefix_path = "/v1/semantic", tag = "ApiTag::Semantics")]
impl Api {
    /// Compile a metric query to SQL.
    #[oai(path = "/compile", method = "post", operation_id = "compile")]
    async fn compile(
        &self,
        #[oai(scope = "ApiScope::SqlGenerate")] caller: Caller,
        body: Json<CompileRequest>,
    ) -> Result<Json<CompileAnswer>, ApiError> {
        let failed = failed(&self.0, &caller.0);
        let request = request(body.0).map_err(&failed)?;
        let compiled = self.0.compile(&caller.0, &request).await.map_err(&failed)?;
        let columns = compiled.columns.into_iter().map(|column| CompiledColumn {
            name: column.name,
            kind: column.kind.to_owned(),
            datatype: column.datatype,
            unit: column.unit,
            description: column.description,
        });
        Ok(Json(CompileAnswer {
            sql: compiled.sql,
            dialect: compiled.dialect.as_str().to_owned(),
            columns: columns.collect(),
            datasets: compiled.datasets,
            joins: compiled.joins,
            warnings: compiled.warnings,
        }))
    }
}

/// The library's request; what its forms do not take is told with the list that it stands in.
fn request(body: CompileRequest) -> Result<compile::CompileRequest, EngineError> {
    fn list<T: serde::de::DeserializeOwned>(
        name: &str,
        items: Vec<Any<Value>>,
    ) -> Result<Vec<T>, EngineError> {
        let each = items.into_iter().enumerate().map(|(at, item)| {
            serde_json::from_value(item.0).map_err(|_| {
                let message = format!(
                    "{name}[{at}] is neither a text nor an object of the documented keys; see the schema"
                );
                EngineError::InvalidInput(message)
            })
        });
        each.collect()
    }
    let dialect = compile::Dialect::from_name(&body.dialect).ok_or_else(|| {
        let names = compile::Dialect::NAMES.join(", ");
        EngineError::InvalidInput(format!("there is no such dialect; use {names}"))
    })?;
    let time = body.time.map(|time| compile::TimeRequest {
        dimension: time.dimension,
        grain: time.grain,
        from: time.from,
        to: time.to,
        fill_gaps: time.fill_gaps,
        alias: time.alias,
    });
    Ok(compile::CompileRequest {
        model: body.model,
        metrics: body.metrics,
        dimensions: list("dimensions", body.dimensions)?,
        filters: list("filters", body.filters)?,
        metric_filters: list("metric_filters", body.metric_filters)?,
        time,
        joins: body.joins,
        order_by: list("order_by", body.order_by)?,
        limit: body.limit,
        dialect,
    })
}
