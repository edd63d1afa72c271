//! The keys of the semantic YAML, declared once: the reader checks files by this table, and the JSON Schema that
//! editors use is made from it.
//!
//! D1 A key, its kind and whether it must be there are said here and nowhere else.

use super::model::{DatasetRole, Grain, MetricKind};

/// What the value of a key may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Text that is taken as it is, spaces included.
    Name,
    /// Text, a number, or true or false.
    Scalar,
    Number,
    Flag,
    /// A length of time such as `7 days`.
    Span,
    OneOf(&'static [&'static str]),
    SomeOf(&'static [&'static str]),
    Texts,
    Scalars,
    /// A list of lists of texts.
    TextLists,
    Object(&'static Shape),
    Objects(&'static Shape),
    /// Text, or a mapping that says more.
    TextOr(&'static Shape),
    /// Text, a number, or true or false; or a mapping that says more.
    ScalarOr(&'static Shape),
    /// A list of texts and of mappings that say more.
    TextsOr(&'static Shape),
}

#[derive(Debug)]
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub need: Need,
    pub description: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// May be left out.
    Free,
    /// Must be there.
    Present,
    /// Must be there and not be empty.
    Filled,
}

/// A mapping with its keys.
#[derive(Debug)]
pub(super) struct Shape {
    /// Name in the schema's `$defs`.
    pub name: &'static str,
    /// How a message calls one of these.
    pub what: &'static str,
    pub description: &'static str,
    pub keys: &'static [Key],
    /// Whether further keys are somebody else's and stay unread.
    pub is_open: bool,
}

impl Shape {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, kind: Kind, description: &'static str) -> Key {
    Key { name, kind, need: Need::Free, description }
}

impl Key {
    const fn present(self) -> Self {
        Self { need: Need::Present, ..self }
    }

    const fn filled(self) -> Self {
        Self { need: Need::Filled, ..self }
    }
}

const fn shape(
    name: &'static str,
    what: &'static str,
    description: &'static str,
    keys: &'static [Key],
) -> Shape {
    Shape { name, what, description, keys, is_open: false }
}

pub(super) const VERSIONS: &[&str] = &["0.2.0.dev0", "0.1.1"];
pub(super) const DATATYPES: &[&str] =
    &["String", "Integer", "Decimal", "Float", "Boolean", "Date", "Time", "DateTime", "DateTimeTz", "Opaque"];
/// Those of Ossie 0.2.0.dev0; the others that are read are Steward's own.
pub(super) const OSSIE_DIALECTS: &[&str] = DIALECTS.split_at(11).0;
pub(super) const DIALECTS: &[&str] = &[
    "ANSI_SQL",
    "SNOWFLAKE",
    "MDX",
    "TABLEAU",
    "DATABRICKS",
    "MAQL",
    "BIGQUERY",
    "SIGMA",
    "THOUGHTSPOT",
    "DAX",
    "OSSIE_SQL_2026",
    "DATAFUSION",
    "POSTGRESQL",
];
const CARDINALITIES: &[&str] = &["many_to_one", "one_to_one", "many_to_many"];
const AGGREGATIONS: &[&str] = &["sum", "avg", "min", "max", "count", "count_distinct", "median", "none"];
const SENSITIVITIES: &[&str] = &["public", "protected", "highly_sensitive"];

const SYNONYMS: Key = key("synonyms", Kind::Texts, "Other names.");
const HINTS: Key = key("hints", Kind::Texts, "Pitfalls and advice.");
const CONTEXT: Key =
    key("ai_context", Kind::TextOr(&AI_CONTEXT), "What AI tools are told besides the description.");
const EXTENSIONS: Key =
    key("custom_extensions", Kind::Objects(&EXTENSION), "Extras of a vendor, kept as they are.");
const DATATYPE: Key = key("datatype", Kind::OneOf(DATATYPES), "Logical type.");
const SENSITIVITY: Key = key(
    "sensitivity",
    Kind::OneOf(SENSITIVITIES),
    "Who may see it: protected needs the scope data:protected, highly_sensitive needs data:highly_sensitive.",
);
const VERSION: Key = key("version", Kind::OneOf(VERSIONS), "Version of the format.");

/// The keys of a model, behind `version`, which only the root form has.
const MODEL_NAME: Key = key("name", Kind::Name, "Unique name; SQL's schema.").filled();
const MODEL_DESCRIPTION: Key =
    key("description", Kind::Text, "What the data is, where it is from, which period it covers.");
const MODEL_INSTRUCTIONS: Key =
    key("custom_instructions", Kind::Text, "What an agent must know before it writes SQL.");
const MODEL_DATASETS: Key = key("datasets", Kind::Objects(&DATASET), "Tables as business entities.");
const MODEL_RELATIONSHIPS: Key = key("relationships", Kind::Objects(&RELATIONSHIP), "How datasets join.");
const MODEL_METRICS: Key = key("metrics", Kind::Objects(&METRIC), "Named aggregates.");
const MODEL_QUERIES: Key =
    key("verified_queries", Kind::Objects(&VERIFIED_QUERY), "Questions with SQL that a person has checked.");

pub(super) static ROOT: Shape = shape(
    "Root",
    "a model",
    "A semantic model in the root form.",
    &[
        VERSION,
        MODEL_NAME,
        MODEL_DESCRIPTION,
        CONTEXT,
        MODEL_INSTRUCTIONS,
        SYNONYMS,
        MODEL_DATASETS,
        MODEL_RELATIONSHIPS,
        MODEL_METRICS,
        MODEL_QUERIES,
        EXTENSIONS,
    ],
);

pub(super) static MODEL: Shape = shape(
    "Model",
    "a model",
    "A semantic model.",
    &[
        MODEL_NAME,
        MODEL_DESCRIPTION,
        CONTEXT,
        MODEL_INSTRUCTIONS,
        SYNONYMS,
        MODEL_DATASETS,
        MODEL_RELATIONSHIPS,
        MODEL_METRICS,
        MODEL_QUERIES,
        EXTENSIONS,
    ],
);

pub(super) static WRAPPER: Shape = shape(
    "Wrapper",
    "the file",
    "A list of semantic models.",
    &[VERSION, key("semantic_model", Kind::Objects(&MODEL), "The models.").filled()],
);

pub(super) static DATASET: Shape = shape(
    "Dataset",
    "a dataset",
    "A table as a business entity.",
    &[
        key("name", Kind::Name, "Unique name; SQL's table.").filled(),
        key("source", Kind::Text, "Physical relation: warehouse.schema.table.").filled(),
        key("primary_key", Kind::Texts, "Fields that identify a row."),
        key("unique_keys", Kind::TextLists, "Other keys."),
        key("description", Kind::Text, "What one row is."),
        CONTEXT,
        SYNONYMS,
        HINTS,
        key("role", Kind::OneOf(DatasetRole::NAMES), "What the dataset is in joins."),
        SENSITIVITY,
        key("access", Kind::Object(&DATASET_ACCESS), "Which rows a caller may see."),
        key("filters", Kind::Objects(&FILTER), "Named conditions."),
        key("fields", Kind::Objects(&FIELD), "Columns and computed columns."),
        EXTENSIONS,
    ],
);

pub(super) static DATASET_ACCESS: Shape = shape(
    "DatasetAccess",
    "`access` of a dataset",
    "Which rows a caller may see.",
    &[key(
        "row_filter",
        Kind::Text,
        "SQL condition over the fields of this dataset; {{claims.x}} stands for a claim of the caller's token. Without the claim there are no rows.",
    )
    .filled()],
);

pub(super) static FILTER: Shape = shape(
    "Filter",
    "a filter",
    "A named condition.",
    &[
        key("name", Kind::Name, "Unique name in the dataset.").filled(),
        key("description", Kind::Text, "What it selects."),
        key("expression", Kind::ScalarOr(&EXPRESSION), "SQL condition.").present(),
        SYNONYMS,
    ],
);

pub(super) static FIELD: Shape = shape(
    "Field",
    "a field",
    "A column or computed column.",
    &[
        key("name", Kind::Name, "Unique name in the dataset; SQL's column.").filled(),
        key(
            "expression",
            Kind::ScalarOr(&EXPRESSION),
            "SQL over the physical columns; the column of the field's name when left out.",
        ),
        key("label", Kind::Text, "Name for people."),
        key("description", Kind::Text, "Meaning and pitfalls."),
        DATATYPE,
        key("unit", Kind::Text, "Unit of the numbers."),
        key("range", Kind::Object(&RANGE), "Smallest and largest value, inclusive."),
        key("nullable", Kind::Flag, "Whether NULL occurs."),
        key("is_enum", Kind::Flag, "Whether sample_values is the complete list."),
        key("sample_values", Kind::Scalars, "Values that occur."),
        SYNONYMS,
        HINTS,
        SENSITIVITY,
        key("pii", Kind::Flag, "Whether it holds personal data."),
        key("access", Kind::Object(&FIELD_ACCESS), "What those see who may not see the values."),
        key("dimension", Kind::Object(&DIMENSION), "Role of the field."),
        key("time_grains", Kind::SomeOf(Grain::NAMES), "Grains that make sense."),
        key("default_aggregation", Kind::OneOf(AGGREGATIONS), "How to aggregate it unless asked otherwise."),
        CONTEXT,
        EXTENSIONS,
    ],
);

pub(super) static RANGE: Shape = shape(
    "Range",
    "`range`",
    "Smallest and largest value, inclusive.",
    &[key("min", Kind::Scalar, "Smallest value."), key("max", Kind::Scalar, "Largest value.")],
);

pub(super) static DIMENSION: Shape = shape(
    "Dimension",
    "`dimension`",
    "Role of the field.",
    &[key("is_time", Kind::Flag, "Whether it is a time dimension.")],
);

pub(super) static FIELD_ACCESS: Shape = shape(
    "FieldAccess",
    "`access` of a field",
    "What those see who may not see the values.",
    &[key(
        "mask",
        Kind::Scalar,
        "SQL over the fields of this dataset, in place of the values for those below the field's sensitivity; without a mask the field does not exist for them.",
    )
    .present()],
);

pub(super) static RELATIONSHIP: Shape = shape(
    "Relationship",
    "a relationship",
    "A join between two datasets.",
    &[
        key("name", Kind::Name, "Unique name.").filled(),
        key("from", Kind::Name, "Dataset on the many side.").filled(),
        key("to", Kind::Name, "Dataset on the one side.").filled(),
        key("from_columns", Kind::Texts, "Columns of the many side.").filled(),
        key("to_columns", Kind::Texts, "Columns of the one side, in the same order.").filled(),
        key("cardinality", Kind::OneOf(CARDINALITIES), "How many rows meet how many."),
        key("description", Kind::Text, "What the join means, and what stays unmatched."),
        HINTS,
        CONTEXT,
        EXTENSIONS,
    ],
);

pub(super) static METRIC: Shape = shape(
    "Metric",
    "a metric",
    "A named aggregate, or arithmetic over such.",
    &[
        key("name", Kind::Name, "Unique name.").filled(),
        key(
            "type",
            Kind::OneOf(MetricKind::NAMES),
            "How it comes about; derived if its expression names other metrics, else simple.",
        ),
        key("dataset", Kind::Name, "The dataset whose rows it aggregates."),
        key(
            "expression",
            Kind::ScalarOr(&EXPRESSION),
            "SQL aggregate, or arithmetic over other metrics; a ratio needs none.",
        ),
        key("numerator", Kind::TextOr(&METRIC_INPUT), "Metric above the line of a ratio."),
        key("denominator", Kind::TextOr(&METRIC_INPUT), "Metric below the line of a ratio."),
        key("metrics", Kind::TextsOr(&METRIC_INPUT), "Inputs of a derived metric."),
        key("window", Kind::Span, "How far a cumulative metric reaches back, such as 7 days."),
        key(
            "grain_to_date",
            Kind::OneOf(Grain::NAMES),
            "The period with which a cumulative metric starts anew.",
        ),
        key("filter", Kind::Text, "SQL condition on the rows that it aggregates."),
        key(
            "non_additive_dimension",
            Kind::Object(&NON_ADDITIVE),
            "A dimension over which it must not be summed, such as the day of a balance.",
        ),
        key("time_dimension", Kind::Text, "The field that says when a row counts: field, or dataset.field."),
        key("fill_nulls_with", Kind::Number, "A number that stands where there is no value."),
        key("joins", Kind::Texts, "Relationships to go by where two join the same pair of datasets."),
        key("description", Kind::Text, "What it measures, and how it is defined."),
        DATATYPE,
        key("unit", Kind::Text, "Unit of the result."),
        SYNONYMS,
        HINTS,
        CONTEXT,
        EXTENSIONS,
    ],
);

pub(super) static METRIC_INPUT: Shape = shape(
    "MetricInput",
    "an input metric",
    "A metric that another one is made of.",
    &[
        key("name", Kind::Text, "The metric.").filled(),
        key("alias", Kind::Text, "What the expression calls it."),
        key("filter", Kind::Text, "SQL condition on the rows that this input aggregates."),
        key("offset_window", Kind::Span, "The input is taken that much earlier, such as 1 year."),
        key(
            "offset_to_grain",
            Kind::OneOf(Grain::NAMES),
            "The input is taken at the start of the period of this grain.",
        ),
    ],
);

pub(super) static NON_ADDITIVE: Shape = shape(
    "NonAdditiveDimension",
    "`non_additive_dimension`",
    "A dimension over which a metric must not be summed.",
    &[
        key("name", Kind::Text, "A time field: field, or dataset.field.").filled(),
        key("window_choice", Kind::OneOf(&["min", "max"]), "Whether the first or the last value counts."),
        key("window_groupings", Kind::Texts, "The value is picked for each combination of these by itself."),
    ],
);

pub(super) static VERIFIED_QUERY: Shape = shape(
    "VerifiedQuery",
    "a verified query",
    "A question with SQL that a person has checked.",
    &[
        key("name", Kind::Name, "Unique name.").filled(),
        key("question", Kind::Text, "The question that it answers.").filled(),
        key("sql", Kind::Text, "The query.").filled(),
        key("description", Kind::Text, "What to know about it."),
        key("verified_by", Kind::Text, "Who checked it."),
        key("verified_at", Kind::Text, "When, as an ISO date."),
    ],
);

pub(super) static EXTENSION: Shape = shape(
    "CustomExtension",
    "a custom extension",
    "A vendor's extra.",
    &[
        key("vendor_name", Kind::Text, "Whose it is.").present(),
        key("data", Kind::Name, "JSON text.").present(),
    ],
);

pub(super) static AI_CONTEXT: Shape = Shape {
    name: "AiContext",
    what: "`ai_context`",
    description: "What AI tools are told besides the description.",
    keys: &[
        key("instructions", Kind::Text, "Instructions."),
        key("synonyms", Kind::Texts, "Other names."),
        key("examples", Kind::Texts, "Example questions."),
    ],
    is_open: true,
};

pub(super) static EXPRESSION: Shape = shape(
    "DialectExpressions",
    "`expression`",
    "An expression by dialect.",
    &[key("dialects", Kind::Objects(&DIALECT_EXPRESSION), "One or more.").filled()],
);

pub(super) static DIALECT_EXPRESSION: Shape = shape(
    "DialectExpression",
    "a dialect's expression",
    "An expression in one dialect.",
    &[
        key("dialect", Kind::OneOf(DIALECTS), "Its dialect.").present(),
        key("expression", Kind::Text, "The expression.").present(),
    ],
);
