//! The semantic model as the rest of the service sees it: typed, checked, with the position of every definition.
//!
//! The vocabulary is Apache Ossie's 0.2.0.dev0; first-class keys that Ossie lacks are named as in Snowflake Cortex Analyst.

use std::sync::Arc;

use ecow::{EcoString, EcoVec};

pub use super::access::Policy;
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
pub struct Expression(Dialects);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Dialects {
    /// ANSI_SQL alone, as nearly all of very many are.
    Ansi(EcoString),
    /// Dialect name as in Ossie, then the text; at least one.
    Several(Arc<[(String, String)]>),
}

impl Expression {
    pub fn ansi(text: impl Into<EcoString>) -> Self {
        Self(Dialects::Ansi(text.into()))
    }

    /// In these dialects, in their order; `None` where there is none.
    pub fn new(dialects: Vec<(String, String)>) -> Option<Self> {
        match dialects.as_slice() {
            [] => None,
            [(dialect, text)] if dialect == ANSI_SQL => Some(Self::ansi(text)),
            _ => Some(Self(Dialects::Several(dialects.into()))),
        }
    }

    /// Every dialect with its text.
    pub fn dialects(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let (one, several) = match &self.0 {
            Dialects::Ansi(text) => (Some((ANSI_SQL, text.as_str())), [].as_slice()),
            Dialects::Several(several) => (None, several.as_ref()),
        };
        one.into_iter().chain(several.iter().map(|(dialect, text)| (dialect.as_str(), text.as_str())))
    }

    /// The text in one dialect.
    pub fn in_dialect(&self, wanted: &str) -> Option<&str> {
        self.dialects().find(|(dialect, _)| *dialect == wanted).map(|(_, text)| text)
    }

    /// The text to show: the one that the embedded engine evaluates, else the first.
    pub fn text(&self) -> &str {
        self.text_for_engine().or_else(|| self.dialects().next().map(|(_, text)| text)).unwrap_or("")
    }

    /// The text that the embedded engine evaluates; nothing if all dialects are other tools'.
    pub fn text_for_engine(&self) -> Option<&str> {
        [ANSI_SQL, "OSSIE_SQL_2026", "DATAFUSION", "POSTGRESQL"]
            .iter()
            .find_map(|wanted| self.in_dialect(wanted))
    }
}

const ANSI_SQL: &str = "ANSI_SQL";

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

impl AiContext {
    /// In its own place, where there is anything in it.
    pub fn boxed(self) -> Option<Box<Self>> {
        (!self.instructions.is_empty() || !self.examples.is_empty()).then(|| Box::new(self))
    }
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
    /// What the dataset is in joins; `None` leaves it to its keys and relationships.
    pub role: Option<DatasetRole>,
    pub sensitivity: Sensitivity,
    /// Which rows a caller may see; all where there is none.
    pub row_filter: Option<Arc<Policy>>,
    pub filters: Vec<NamedFilter>,
    pub fields: Vec<Field>,
    pub custom_extensions: Vec<CustomExtension>,
    pub source: Source,
}

/// There may be hundreds of thousands: short texts stand in place, copies share long ones.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub expression: Expression,
    pub label: EcoString,
    pub description: EcoString,
    /// Ossie's logical type, such as `Integer`; empty when not given.
    pub datatype: EcoString,
    pub unit: EcoString,
    /// Smallest and largest value, as text, inclusive.
    pub range: Option<Box<(String, String)>>,
    pub nullable: Option<bool>,
    /// True if `sample_values` is the complete list.
    pub is_enum: bool,
    pub sample_values: EcoVec<EcoString>,
    pub synonyms: EcoVec<EcoString>,
    pub hints: EcoVec<EcoString>,
    pub sensitivity: Sensitivity,
    pub pii: bool,
    /// What those below the sensitivity see instead of the values; without it the field does not exist for them.
    pub mask: Option<Arc<Policy>>,
    /// True in the view of somebody who sees the mask.
    pub is_masked: bool,
    pub is_time: bool,
    pub time_grains: EcoVec<EcoString>,
    pub default_aggregation: EcoString,
    pub ai_context: Option<Box<AiContext>>,
    pub custom_extensions: Vec<CustomExtension>,
    pub source: Source,
}

impl Field {
    pub fn ai_context(&self) -> &AiContext {
        static NOTHING: AiContext = AiContext { instructions: String::new(), examples: Vec::new() };
        self.ai_context.as_deref().unwrap_or(&NOTHING)
    }
}

/// Many texts in little room.
pub fn compact<T: Into<EcoString>>(texts: impl IntoIterator<Item = T>) -> EcoVec<EcoString> {
    texts.into_iter().map(Into::into).collect()
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

/// What a dataset is in joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetRole {
    /// Its rows are measured.
    Fact,
    /// Its rows describe and group the rows of facts.
    Dimension,
    /// Its rows say which rows of two other datasets belong together, many to many.
    Bridge,
}

impl DatasetRole {
    pub const NAMES: &[&str] = &["fact", "dimension", "bridge"];

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fact, Self::Dimension, Self::Bridge].into_iter().find(|role| role.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fact => "fact",
            Self::Dimension => "dimension",
            Self::Bridge => "bridge",
        }
    }
}

/// A step of the calendar, finest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Grain {
    pub const ALL: &[Self] = &[
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Quarter,
        Self::Year,
    ];
    pub const NAMES: &[&str] = &["second", "minute", "hour", "day", "week", "month", "quarter", "year"];

    /// From its name, in any case, with or without the plural's `s`.
    pub fn from_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let singular = lower.strip_suffix('s').unwrap_or(&lower);
        Self::ALL.iter().copied().find(|grain| grain.as_str() == singular)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }
}

/// A length of time in whole steps of the calendar, such as `7 days`; at least one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan {
    pub count: u32,
    pub grain: Grain,
}

impl TimeSpan {
    /// Longer spans are taken for mistakes.
    pub const MAX_COUNT: u32 = 100_000;

    /// Reads `7 days`, `1 month` or `month`.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let first = words.next()?;
        let (count, grain) = match words.next() {
            None => (1, Grain::from_name(first)?),
            Some(grain) => (first.parse().ok()?, Grain::from_name(grain)?),
        };
        let whole = words.next().is_none() && (1..=Self::MAX_COUNT).contains(&count);
        whole.then_some(Self { count, grain })
    }
}

impl std::fmt::Display for TimeSpan {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(formatter, "{} {}{plural}", self.count, self.grain.as_str())
    }
}

/// How a metric comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Aggregates rows.
    Simple,
    /// One metric over another.
    Ratio,
    /// Arithmetic over other metrics.
    Derived,
    /// Aggregates rows up to and including each period.
    Cumulative,
}

impl MetricKind {
    pub const NAMES: &[&str] = &["simple", "ratio", "derived", "cumulative"];

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Simple, Self::Ratio, Self::Derived, Self::Cumulative]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Ratio => "ratio",
            Self::Derived => "derived",
            Self::Cumulative => "cumulative",
        }
    }
}

/// A metric that another one is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricInput {
    pub name: String,
    /// What the expression calls it; empty: its name.
    pub alias: String,
    /// SQL condition on the rows that this input aggregates, besides the metric's own; empty: all.
    pub filter: String,
    /// The input is taken that much earlier (period over period).
    pub offset_window: Option<TimeSpan>,
    /// The input is taken at the start of the period of this grain.
    pub offset_to_grain: Option<Grain>,
}

impl MetricInput {
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// What an expression calls this input.
    pub fn called(&self) -> &str {
        if self.alias.is_empty() { &self.name } else { &self.alias }
    }
}

/// A dimension over which a metric must not be summed, such as the day of a balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonAdditiveDimension {
    /// Name of a time field, `field` or `dataset.field`.
    pub name: String,
    /// The last value of each period counts; otherwise the first.
    pub latest: bool,
    /// The value is picked for each combination of these fields by itself.
    pub window_groupings: Vec<String>,
}

/// A named aggregate, or arithmetic over such.
#[derive(Debug, Clone)]
pub struct Metric {
    pub name: String,
    /// `type` as declared; `None`: derived if the expression names other metrics, simple otherwise.
    pub kind: Option<MetricKind>,
    /// The dataset whose rows it aggregates; empty when the expression qualifies its columns itself.
    pub dataset: String,
    /// For a ratio that declares none: the division of its two inputs.
    pub expression: Expression,
    /// Of a ratio.
    pub numerator: Option<MetricInput>,
    /// Of a ratio.
    pub denominator: Option<MetricInput>,
    /// Inputs of a derived metric, where the names in its expression do not say enough.
    pub metrics: Vec<MetricInput>,
    /// Of a cumulative metric: how far it reaches back from the end of each period. Neither this nor
    /// `grain_to_date`: everything before.
    pub window: Option<TimeSpan>,
    /// Of a cumulative metric: it starts anew with each period of this grain.
    pub grain_to_date: Option<Grain>,
    /// SQL condition on the rows that it aggregates; empty: all.
    pub filter: String,
    pub non_additive_dimension: Option<NonAdditiveDimension>,
    /// The field that says when a row counts, `field` or `dataset.field`; empty: the query says.
    pub time_dimension: String,
    /// A number that stands where there is no value.
    pub fill_nulls_with: Option<String>,
    /// Relationships to go by where two join the same pair of datasets.
    pub joins: Vec<String>,
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

impl Metric {
    /// The type that it declares, or the one that its keys and its expression make it.
    pub fn kind(&self, model: &Model) -> MetricKind {
        if let Some(kind) = self.kind {
            return kind;
        }
        if self.numerator.is_some() && self.denominator.is_some() {
            return MetricKind::Ratio;
        }
        let names_metrics = || {
            let Ok(expr) = super::lint::parse_expression(self.expression.text()) else { return false };
            super::lint::columns_of(&expr).iter().any(|(qualifier, name)| {
                qualifier.is_none() && self.dataset.is_empty() && model.metric(name).is_some()
            })
        };
        if !self.metrics.is_empty() || names_metrics() { MetricKind::Derived } else { MetricKind::Simple }
    }

    /// Every input that it declares.
    pub fn inputs(&self) -> impl Iterator<Item = &MetricInput> {
        self.numerator.iter().chain(&self.denominator).chain(&self.metrics)
    }
}

impl Model {
    /// Takes over all that `other`, a further part of the same model, has. Of a text that both set, this one's stays, and
    /// `clash` hears its key and whether they say the same.
    pub(super) fn append(&mut self, other: Self, mut clash: impl FnMut(&'static str, bool)) {
        for (key, ours, theirs) in [
            ("description", &mut self.description, other.description),
            ("custom_instructions", &mut self.custom_instructions, other.custom_instructions),
            ("ai_context", &mut self.ai_context.instructions, other.ai_context.instructions),
        ] {
            if ours.is_empty() {
                *ours = theirs;
            } else if !theirs.is_empty() {
                clash(key, *ours == theirs);
            }
        }
        self.synonyms.extend(other.synonyms);
        self.ai_context.examples.extend(other.ai_context.examples);
        self.datasets.extend(other.datasets);
        self.relationships.extend(other.relationships);
        self.metrics.extend(other.metrics);
        self.verified_queries.extend(other.verified_queries);
        self.custom_extensions.extend(other.custom_extensions);
    }

    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    pub fn dataset(&self, name: &str) -> Option<&Dataset> {
        self.datasets.iter().find(|dataset| dataset.name == name)
    }
}
