//! The semantic model as the rest of the service sees it: typed, checked, with the position of every definition.
//!
//! The vocabulary is Apache Ossie's 0.2.0.dev0; first-class keys that Ossie lacks are named as in Snowflake Cortex Analyst.

use std::sync::Arc;

use super::node::Position;
pub use crate::auth::Sensitivity;

/// Where a definition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub file: Arc<str>,
    pub at: Position,
}

/// One expression, in one or more dialects. A plain string in YAML is ANSI_SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// Dialect name as in Ossie, then the text; at least one.
    pub dialects: Vec<(String, String)>,
}

impl Expression {
    pub fn ansi(text: impl Into<String>) -> Self {
        Self { dialects: vec![("ANSI_SQL".into(), text.into())] }
    }

    /// The text that the embedded engine evaluates: ANSI_SQL, else OSSIE_SQL_2026, else the first.
    pub fn text(&self) -> &str {
        ["ANSI_SQL", "OSSIE_SQL_2026"]
            .iter()
            .find_map(|wanted| self.dialects.iter().find(|(dialect, _)| dialect == wanted))
            .or_else(|| self.dialects.first())
            .map_or("", |(_, text)| text)
    }
}

/// A vendor's extra, kept as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomExtension {
    pub vendor_name: String,
    pub data: String,
}

/// What AI tools are told besides the description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AiContext {
    pub instructions: String,
    pub examples: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Model {
    pub name: String,
    pub description: String,
    pub ai_context: AiContext,
    pub custom_instructions: String,
    pub synonyms: Vec<String>,
    pub datasets: Vec<Dataset>,
    pub relationships: Vec<Relationship>,
    pub metrics: Vec<Metric>,
    pub verified_queries: Vec<VerifiedQuery>,
    pub custom_extensions: Vec<CustomExtension>,
    pub source: Source,
}

#[derive(Debug, Clone)]
pub struct Dataset {
    pub name: String,
    /// Physical relation, `warehouse.schema.table`.
    pub relation: String,
    pub primary_key: Vec<String>,
    pub unique_keys: Vec<Vec<String>>,
    pub description: String,
    pub ai_context: AiContext,
    pub synonyms: Vec<String>,
    pub hints: Vec<String>,
    pub sensitivity: Sensitivity,
    pub filters: Vec<NamedFilter>,
    pub fields: Vec<Field>,
    pub custom_extensions: Vec<CustomExtension>,
    pub source: Source,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub expression: Expression,
    pub label: String,
    pub description: String,
    /// Ossie's logical type, such as `Integer`; empty when not given.
    pub datatype: String,
    pub unit: String,
    /// Smallest and largest value, as text, inclusive.
    pub range: Option<(String, String)>,
    pub nullable: Option<bool>,
    /// True if `sample_values` is the complete list.
    pub is_enum: bool,
    pub sample_values: Vec<String>,
    pub synonyms: Vec<String>,
    pub hints: Vec<String>,
    pub sensitivity: Sensitivity,
    pub pii: bool,
    pub is_time: bool,
    pub time_grains: Vec<String>,
    pub default_aggregation: String,
    pub ai_context: AiContext,
    pub custom_extensions: Vec<CustomExtension>,
    pub source: Source,
}

#[derive(Debug, Clone)]
pub struct NamedFilter {
    pub name: String,
    pub description: String,
    pub expression: Expression,
    pub synonyms: Vec<String>,
    pub source: Source,
}

#[derive(Debug, Clone)]
pub struct Relationship {
    pub name: String,
    /// Dataset on the many side.
    pub from: String,
    /// Dataset on the one side.
    pub to: String,
    pub from_columns: Vec<String>,
    pub to_columns: Vec<String>,
    pub cardinality: String,
    pub description: String,
    pub hints: Vec<String>,
    pub custom_extensions: Vec<CustomExtension>,
    pub source: Source,
}

#[derive(Debug, Clone)]
pub struct Metric {
    pub name: String,
    /// The dataset whose rows it aggregates; empty when the expression qualifies its columns itself.
    pub dataset: String,
    pub expression: Expression,
    pub description: String,
    pub datatype: String,
    pub unit: String,
    pub synonyms: Vec<String>,
    pub hints: Vec<String>,
    pub ai_context: AiContext,
    pub custom_extensions: Vec<CustomExtension>,
    pub source: Source,
}

#[derive(Debug, Clone)]
pub struct VerifiedQuery {
    pub name: String,
    pub question: String,
    pub sql: String,
    pub description: String,
    pub verified_by: String,
    pub verified_at: String,
    pub source: Source,
}

impl Dataset {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The fields that somebody of this clearance may know of.
    pub fn visible_fields(&self, clearance: Sensitivity) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.sensitivity <= clearance)
    }
}

impl Model {
    pub fn dataset(&self, name: &str) -> Option<&Dataset> {
        self.datasets.iter().find(|dataset| dataset.name == name)
    }
}
