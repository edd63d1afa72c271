//! Guarded SQL over HTTP.

use std::sync::Arc;

use poem::{Body, Request};
use poem_openapi::payload::{Binary, Json};
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::ApiTag;
use super::caller::{ApiScope, Caller, failed};
use super::problem::{ApiError, Problem};
use super::sql_stream;
use crate::engine::{Engine, EngineError, SqlOptions};
use crate::error::ErrorKind;
use crate::query::Format;

#[derive(Debug, Object)]
pub struct SqlCheckRequest {
    /// One SELECT.
    pub sql: String,
    /// As for the run.
    pub warehouse: Option<String>,
}

#[derive(Debug, Object)]
pub struct SqlRunRequest {
    /// One SELECT over published datasets, metadata and responses.
    pub sql: String,
    /// Fewer rows than your limit.
    pub max_rows: Option<u32>,
    /// The warehouse that runs the whole query, written in its dialect. Left out: the one that has every dataset that the
    /// query names, or the embedded engine, which joins what several have.
    pub warehouse: Option<String>,
}

#[derive(Debug, Object)]
pub struct ResultColumn {
    pub name: String,
    /// Arrow's name of the type.
    #[oai(rename = "type")]
    pub data_type: String,
}

#[derive(Debug, Object)]
pub struct ReadRelation {
    pub relation: String,
    /// Sorted. What names alone cannot tell counts for all that it may mean, and `*` for every column that you may see.
    pub columns: Vec<String>,
}

#[derive(Debug, Object)]
pub struct SqlCheckAnswer {
    /// True: the query would run.
    pub approved: bool,
    /// The query as it would run.
    pub secured_sql: Option<String>,
    /// Relations that it reads.
    pub relations: Vec<String>,
    /// The columns of each that it names, in any position.
    pub reads: Vec<ReadRelation>,
    /// Scopes that reading them takes.
    pub scopes: Vec<String>,
    /// Those of the result.
    pub columns: Vec<ResultColumn>,
    /// The engine's plan.
    pub plan: Option<String>,
    /// `datafusion`, `postgresql` or `snowflake`: what the query is read and would run as.
    pub dialect: Option<String>,
    /// The warehouse that would run it as a whole; null: the embedded engine would.
    pub warehouse: Option<String>,
    /// Rows that the engine or warehouse expects; null where it does not say.
    pub estimated_rows: Option<u64>,
    /// The guard's rule, if it refuses.
    pub rule: Option<String>,
    /// Why it would not run, and what to do.
    pub message: Option<String>,
    /// One-based.
    pub line: Option<u64>,
    /// One-based.
    pub column: Option<u64>,
}

#[derive(Debug, Object)]
pub struct Truncated {
    /// The row limit that cut the result.
    pub max_rows: u64,
    pub message: String,
}

#[derive(Debug, Object)]
pub struct SqlResult {
    pub columns: Vec<ResultColumn>,
    /// One object a row, keys in the order of the columns.
    pub rows: Vec<Any<serde_json::Value>>,
    pub row_count: u64,
    /// Absent or null: the rows were not cut.
    pub truncated: Option<Truncated>,
    /// Only in large results: the query failed after the first rows were sent, and these are not all.
    pub error: Option<Problem>,
    pub elapsed_ms: u64,
}

type Cut = Option<String>;
type RowLimit = Option<u64>;

/// A result in the form that Accept asked for. `Steward-Row-Limit` is the limit that is in force.
///
/// A result below some megabytes is complete before it is sent: `Steward-Truncated: rows=N` tells that it was cut at N
/// rows, and all errors are problems. A larger one is sent as it is made, and how it ended stands at its end. JSON: the
/// members `truncated` and `error` after `rows`. NDJSON: a last line `{"truncated": …}` or `{"error": …}`. CSV, Arrow and
/// Parquet: an error breaks the transfer off; a result of exactly `Steward-Row-Limit` rows may have been cut, which
/// Parquet tells in the metadata of the file under `steward.truncated_at_rows`.
#[derive(ApiResponse)]
pub enum SqlRunAnswer {
    #[oai(status = 200, content_type = "application/json", actual_type = "Json<SqlResult>")]
    Json(
        Binary<Body>,
        #[oai(header = "Steward-Truncated")] Cut,
        #[oai(header = "Steward-Row-Limit")] RowLimit,
    ),
    #[oai(status = 200, content_type = "application/x-ndjson")]
    Ndjson(
        Binary<Body>,
        #[oai(header = "Steward-Truncated")] Cut,
        #[oai(header = "Steward-Row-Limit")] RowLimit,
    ),
    #[oai(status = 200, content_type = "text/csv")]
    Csv(
        Binary<Body>,
        #[oai(header = "Steward-Truncated")] Cut,
        #[oai(header = "Steward-Row-Limit")] RowLimit,
    ),
    #[oai(status = 200, content_type = "application/vnd.apache.arrow.stream")]
    Arrow(
        Binary<Body>,
        #[oai(header = "Steward-Truncated")] Cut,
        #[oai(header = "Steward-Row-Limit")] RowLimit,
    ),
    #[oai(status = 200, content_type = "application/vnd.apache.parquet")]
    Parquet(
        Binary<Body>,
        #[oai(header = "Steward-Truncated")] Cut,
        #[oai(header = "Steward-Row-Limit")] RowLimit,
    ),
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(prefix_path = "/v1/sql", tag = "ApiTag::Sql")]
impl Api {
    /// Say whether SQL would be run, in which secured form, and with which scopes.
    #[oai(path = "/check", method = "post", operation_id = "sql_check")]
    async fn check(
        &self,
        #[oai(scope = "ApiScope::SqlGenerate")] caller: Caller,
        body: Json<SqlCheckRequest>,
    ) -> Result<Json<SqlCheckAnswer>, ApiError> {
        let mut answer = SqlCheckAnswer {
            approved: false,
            secured_sql: None,
            relations: Vec::new(),
            reads: Vec::new(),
            scopes: Vec::new(),
            columns: Vec::new(),
            plan: None,
            dialect: None,
            warehouse: None,
            estimated_rows: None,
            rule: None,
            message: None,
            line: None,
            column: None,
        };
        let SqlCheckRequest { sql, warehouse } = body.0;
        match self.0.sql_check_with(&caller.0, &sql, SqlOptions { max_rows: None, warehouse }).await {
            Ok(check) => {
                answer.approved = true;
                answer.secured_sql = Some(check.secured_sql);
                answer.relations = check.relations;
                answer.reads = check
                    .reads
                    .into_iter()
                    .map(|(relation, columns)| ReadRelation { relation, columns })
                    .collect();
                answer.scopes = check.scopes;
                answer.columns = check
                    .columns
                    .into_iter()
                    .map(|(name, data_type)| ResultColumn { name, data_type })
                    .collect();
                answer.plan = Some(check.plan);
                answer.dialect = Some(check.dialect.to_owned());
                answer.warehouse = check.warehouse;
                answer.estimated_rows = check.estimated_rows;
            }
            // A refusal is this operation's answer, not its failure.
            Err(error @ (EngineError::Refused(_) | EngineError::Query(_)))
                if !matches!(error.kind(), ErrorKind::Internal | ErrorKind::Unavailable) =>
            {
                answer.message = Some(error.to_string());
                answer.scopes = error.missing_scope().into_iter().collect();
                answer.rule = Some("plan".to_owned());
                if let EngineError::Refused(refusal) = &error {
                    answer.rule = Some(refusal.rule.to_owned());
                    (answer.line, answer.column) = refusal.position.unzip();
                }
            }
            Err(error) => return Err(failed(&self.0, &caller.0)(error)),
        }
        Ok(Json(answer))
    }

    /// Run guarded SQL. Accept chooses the form: JSON (default), NDJSON, CSV, Arrow IPC stream or Parquet. Large results are
    /// sent as they are made; hanging up cancels the query.
    #[oai(path = "/run", method = "post", operation_id = "sql_run")]
    async fn run(
        &self,
        #[oai(scope = "ApiScope::SqlRun")] caller: Caller,
        request: &Request,
        body: Json<SqlRunRequest>,
    ) -> Result<SqlRunAnswer, ApiError> {
        let failed = failed(&self.0, &caller.0);
        let format = wanted(request.header("accept").unwrap_or_default()).map_err(&failed)?;
        let max_rows = body.0.max_rows.map(|rows| rows as usize);
        let options = SqlOptions { max_rows, warehouse: body.0.warehouse };
        let stream = self.0.sql_stream(&caller.0, &body.0.sql, options).await.map_err(&failed)?;
        let cut = stream.end().and_then(|end| end.truncated_at).map(|rows| format!("rows={rows}"));
        let limit = u64::try_from(stream.max_rows()).ok();
        let bytes = Binary(sql_stream::body(stream, format, &caller.0.request_id).await.map_err(&failed)?);
        Ok(match format {
            Format::Json | Format::Table => SqlRunAnswer::Json(bytes, cut, limit),
            Format::Ndjson => SqlRunAnswer::Ndjson(bytes, cut, limit),
            Format::Csv => SqlRunAnswer::Csv(bytes, cut, limit),
            Format::ArrowStream => SqlRunAnswer::Arrow(bytes, cut, limit),
            Format::Parquet => SqlRunAnswer::Parquet(bytes, cut, limit),
        })
    }
}

/// The first media type of Accept, by weight, that is on offer (RFC 9110 section 12.5.1).
fn wanted(accept: &str) -> Result<Format, EngineError> {
    let mut ranges: Vec<(&str, f32)> = accept
        .split(',')
        .filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().filter(|text| !text.is_empty())?;
            let weight = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            Some((media_type, weight))
        })
        .filter(|(_, weight)| *weight > 0.0)
        .collect();
    if ranges.is_empty() {
        return Ok(Format::Json);
    }
    ranges.sort_by(|a, b| b.1.total_cmp(&a.1));
    let offered = |media_type: &str| match media_type.to_ascii_lowercase().as_str() {
        "*/*" | "application/*" | "application/json" => Some(Format::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Format::Ndjson),
        "text/csv" | "text/*" => Some(Format::Csv),
        "application/vnd.apache.arrow.stream" => Some(Format::ArrowStream),
        "application/vnd.apache.parquet" => Some(Format::Parquet),
        _ => None,
    };
    ranges.iter().find_map(|(media_type, _)| offered(media_type)).ok_or_else(|| {
        EngineError::InvalidInput(
            "none of the media types in Accept is on offer; there are application/json, application/x-ndjson, text/csv, \
             application/vnd.apache.arrow.stream and application/vnd.apache.parquet"
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_by_weight_and_what_is_not_on_offer_is_told() {
        assert_eq!(wanted("").unwrap(), Format::Json);
        assert_eq!(wanted("*/*").unwrap(), Format::Json);
        assert_eq!(wanted("application/json;q=0.5, text/csv").unwrap(), Format::Csv);
        assert_eq!(wanted("application/vnd.apache.arrow.stream").unwrap(), Format::ArrowStream);
        assert_eq!(wanted("image/png, application/x-ndjson;q=0.1").unwrap(), Format::Ndjson);
        assert!(wanted("image/png").is_err());
        assert!(wanted("text/csv;q=0, image/png").is_err());
    }
}
