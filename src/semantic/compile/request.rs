//! What is asked, and what is answered. The same structs serve HTTP, the command line and the library.
//!
//! The shape takes from MetricFlow (metrics, group by, where, offsets), Cube (time dimension with grain and range,
//! structured filters) and Ossie's foundation (dimensions, measures, where, having, order by, limit).

use serde::{Deserialize, Serialize};

use super::dialect::Dialect;

/// A metric query.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompileRequest {
    /// The model; may be left out if the names say which.
    #[serde(default)]
    pub model: Option<String>,
    /// Names of metrics, `metric` or `model.metric`. Empty: the distinct values of the dimensions.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// What to group by, in the order of the result.
    #[serde(default)]
    pub dimensions: Vec<DimensionRequest>,
    /// Conditions on rows, all of which must hold.
    #[serde(default)]
    pub filters: Vec<FilterRequest>,
    /// Conditions on metrics of the query, after aggregation, all of which must hold.
    #[serde(default)]
    pub metric_filters: Vec<FilterRequest>,
    /// The time axis.
    #[serde(default)]
    pub time: Option<TimeRequest>,
    /// Relationships to go by where several ways join two datasets.
    #[serde(default)]
    pub joins: Vec<String>,
    #[serde(default)]
    pub order_by: Vec<OrderRequest>,
    #[serde(default)]
    pub limit: Option<u64>,
    #[serde(default)]
    pub dialect: Dialect,
}

/// A field to group by: `dataset.field`, or more.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum DimensionRequest {
    Name(String),
    Full(FullDimension),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FullDimension {
    pub name: String,
    /// Group a time field by periods of this length.
    #[serde(default)]
    pub grain: Option<String>,
    /// Name of the result's column.
    #[serde(default)]
    pub alias: Option<String>,
    /// Relationships to reach it by.
    #[serde(default)]
    pub joins: Vec<String>,
}

/// A condition: SQL, or a field with an operator and values.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum FilterRequest {
    Sql(String),
    Field(FieldFilter),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldFilter {
    /// `dataset.field`; for a metric filter the metric's name.
    pub field: String,
    pub op: FilterOp,
    #[serde(default)]
    pub value: Option<serde_json::Value>,
    /// For `in` and `not_in`, and the two bounds of `between`, both inclusive.
    #[serde(default)]
    pub values: Vec<serde_json::Value>,
    /// Relationships to reach the field by.
    #[serde(default)]
    pub joins: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum FilterOp {
    #[serde(rename = "=", alias = "eq", alias = "equals")]
    Eq,
    #[serde(rename = "!=", alias = "<>", alias = "ne")]
    NotEq,
    #[serde(rename = "<", alias = "lt")]
    Lt,
    #[serde(rename = "<=", alias = "lte")]
    LtEq,
    #[serde(rename = ">", alias = "gt")]
    Gt,
    #[serde(rename = ">=", alias = "gte")]
    GtEq,
    #[serde(rename = "in")]
    In,
    #[serde(rename = "not_in")]
    NotIn,
    #[serde(rename = "between")]
    Between,
    #[serde(rename = "like")]
    Like,
    #[serde(rename = "not_like")]
    NotLike,
    #[serde(rename = "is_null")]
    IsNull,
    #[serde(rename = "is_not_null")]
    IsNotNull,
}

/// The time axis of a query.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRequest {
    /// `dataset.field`; left out, each metric's own `time_dimension`.
    #[serde(default)]
    pub dimension: Option<String>,
    /// Group by periods of this length; left out, the axis only bounds the rows.
    #[serde(default)]
    pub grain: Option<String>,
    /// First moment that counts, ISO date or date and time.
    #[serde(default)]
    pub from: Option<String>,
    /// First moment that does not count any more.
    #[serde(default)]
    pub to: Option<String>,
    /// Also return the periods that have no rows; takes `grain`, `from` and `to`.
    #[serde(default)]
    pub fill_gaps: bool,
    /// Name of the result's column.
    #[serde(default)]
    pub alias: Option<String>,
}

/// A column of the result to sort by: its name, or with a direction.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum OrderRequest {
    Name(String),
    Full(FullOrder),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FullOrder {
    /// A metric, a dimension as it was asked for, or a column's name.
    #[serde(alias = "target")]
    pub name: String,
    #[serde(default)]
    pub direction: Direction,
}

/// NULL is the highest value: last ascending, first descending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Direction {
    #[default]
    #[serde(rename = "asc", alias = "ASC")]
    Asc,
    #[serde(rename = "desc", alias = "DESC")]
    Desc,
}

/// A compiled metric query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compiled {
    pub sql: String,
    pub dialect: Dialect,
    pub columns: Vec<CompiledColumn>,
    /// `model.dataset`, each once, sorted.
    pub datasets: Vec<String>,
    /// Relationships that the query joins by, each once, sorted.
    pub joins: Vec<String>,
    pub warnings: Vec<String>,
}

/// A column of the result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompiledColumn {
    pub name: String,
    /// `dimension`, `time` or `metric`; `field` in a query without aggregation.
    pub kind: &'static str,
    /// Ossie's logical type; empty when not declared.
    pub datatype: String,
    pub unit: String,
    pub description: String,
}
