//! The catalog as Arrow tables, one row a thing: schema `semantic`.
//!
//! T1 Column names and types are stable and documented by [`table_description`]. T2 Every table exists, if need be empty.

mod columns;

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};

pub use self::columns::Table;
use self::columns::{Columns, Part, datasets, ended, fields, models, parts};
use super::diagnostic::Diagnostic;
use super::finder::Match;
use super::model::*;

/// Every table of schema `semantic`.
pub const TABLE_NAMES: &[&str] = &[
    "models",
    "datasets",
    "fields",
    "metrics",
    "relationships",
    "verified_queries",
    "synonyms",
    "sample_values",
    "filters",
    "row_filters",
    "masks",
    "diagnostics",
];

/// What a row of the table is.
pub fn table_description(name: &str) -> &'static str {
    match name {
        "models" => "one row a semantic model",
        "datasets" => "one row a dataset of a model; query it as model.dataset",
        "fields" => "one row a field of a dataset: meaning, unit, range, pitfalls",
        "metrics" => "one row a metric: a named aggregate with its SQL expression",
        "relationships" => "one row a join between two datasets, many side first",
        "verified_queries" => "one row a question with SQL that a person has checked",
        "synonyms" => "one row another name of a model, dataset, field, metric or filter",
        "sample_values" => "one row a value of a field; the complete list where fields.is_enum",
        "filters" => "one row a named condition of a dataset",
        "row_filters" => {
            "one row a dataset of which callers see only some rows; empty without data:highly_sensitive"
        }
        "masks" => "one row a field that is masked for some callers; empty without data:highly_sensitive",
        "diagnostics" => "one row a finding in the YAML files; empty without data:highly_sensitive",
        _ => "",
    }
}

/// The tables of schema `semantic`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tables {
    tables: Vec<(&'static str, Table)>,
}

impl Tables {
    /// All tables of the given models.
    pub fn build(models: &[Arc<Model>]) -> Self {
        let parts = parts(models);
        let none = parts_of_none();
        let of = |make| Table::of_parts(parts.clone(), make);
        let tables = vec![
            ("models", of(models_table)),
            ("datasets", of(datasets_table)),
            ("fields", of(fields_table)),
            ("metrics", of(metrics_table)),
            ("relationships", of(relationships_table)),
            ("verified_queries", of(verified_queries_table)),
            ("synonyms", of(synonyms_table)),
            ("sample_values", of(sample_values_table)),
            ("filters", of(filters_table)),
            ("row_filters", Table::of_parts(none.clone(), row_filters_table)),
            ("masks", Table::of_parts(none, masks_table)),
            ("diagnostics", Table::whole(diagnostics_table(&[]))),
        ];
        Self { tables }
    }

    /// The same with what tells of things above a clearance, for those whom nothing is above.
    pub fn with_policies_and_findings(mut self, models: &[Arc<Model>], findings: &[Diagnostic]) -> Self {
        let parts = parts(models);
        for (name, table) in &mut self.tables {
            match *name {
                "row_filters" => *table = Table::of_parts(parts.clone(), row_filters_table),
                "masks" => *table = Table::of_parts(parts.clone(), masks_table),
                "diagnostics" => *table = Table::whole(diagnostics_table(findings)),
                _ => {}
            }
        }
        self
    }

    pub fn get(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|(table, _)| *table == name).map(|(_, table)| table)
    }

    pub fn schema(&self, name: &str) -> Option<SchemaRef> {
        self.get(name).map(Table::schema)
    }
}

fn parts_of_none() -> Arc<[Part]> {
    parts(&[])
}

/// `docs/tables.md`.
pub fn tables_document() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "# Tables of the semantic layer\n\n\
         Made from `src/semantic/tables.rs`. Schema `semantic`, for SQL in any door (`POST /v1/sql/run`, `steward sql`), with the \
         scope `semantic:read`. A row is there only if the caller may know of the thing: what is above the caller's clearance \
         is in no table. REST (`/v1/semantic/...`) returns the same facts. What is not given is NULL; lists are arrays of text.\n\n\
         `semantic_search('words', 10)` is a table function: the best matches of a search over all of these, best first.\n",
    );
    let tables = Tables::build(&[]);
    for name in TABLE_NAMES.iter().chain(&["semantic_search"]) {
        let (title, about, table) = match tables.get(name) {
            Some(table) => (format!("semantic.{name}"), table_description(name), table.clone()),
            None => {
                let about = "one row a match; the arguments are the words and, optionally, how many rows at most (1 to 1,000; 10 if left out)";
                ("semantic_search(words, rows)".to_owned(), about, Table::whole(search_table(&[])))
            }
        };
        let _ = write!(text, "\n## {title}\n\n{about}.\n\n| column | type | holds |\n|---|---|---|\n");
        for (field, about) in table.schema().fields().iter().zip(table.about()) {
            let _ = writeln!(text, "| {} | {} | {about} |", field.name(), type_name(field.data_type()));
        }
    }
    text
}

fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int64 => "integer",
        DataType::Float32 => "real",
        DataType::Boolean => "boolean",
        DataType::List(_) => "list of text",
        _ => "text",
    }
}

/// Matches of a search as the rows of `semantic_search`.
pub fn search_batch(matches: &[Match<'_>]) -> RecordBatch {
    Table::whole(search_table(matches)).all()
}

fn search_table(matches: &[Match<'_>]) -> Columns {
    let rows = || matches.iter();
    Columns::default()
        .text(
            "kind",
            "What it is: model, dataset, field, metric, relationship, verified_query or filter.",
            rows().map(|row| row.kind()),
        )
        .text("model", "Its model.", rows().map(|row| row.model.name.as_str()))
        .text("dataset", "Its dataset, where it has one.", rows().map(|row| row.dataset()))
        .text("name", "Its name.", rows().map(|row| row.name()))
        .text(
            "description",
            "Its description; of a verified query, the question.",
            rows().map(|row| row.description()),
        )
        .float("score", "BM25; higher is better.", rows().map(|row| row.score))
}

fn models_table(parts: &[&Part], columns: Columns) -> Columns {
    let rows = || models(parts);
    columns
        .rows(rows())
        .text("model", "Name of the model; SQL's schema.", rows().map(|row| row.name.as_str()))
        .text("description", "What the data is.", rows().map(|row| row.description.as_str()))
        .text(
            "instructions",
            "What AI tools are told, from `ai_context`.",
            rows().map(|row| row.ai_context.instructions.as_str()),
        )
        .text(
            "custom_instructions",
            "What to know before writing SQL.",
            rows().map(|row| row.custom_instructions.as_str()),
        )
        .list(
            "example_questions",
            "Questions that the model answers.",
            rows().map(|row| row.ai_context.examples.as_slice()),
        )
        .int("datasets", "Number of datasets.", rows().map(|row| row.datasets.len() as i64))
        .int("metrics", "Number of metrics.", rows().map(|row| row.metrics.len() as i64))
}

fn datasets_table(parts: &[&Part], columns: Columns) -> Columns {
    let rows = || datasets(parts);
    columns
        .rows(rows())
        .text("model", "Its model.", rows().map(|row| row.0.name.as_str()))
        .text("dataset", "Name of the dataset; SQL's table.", rows().map(|row| row.1.name.as_str()))
        .text("description", "What one row is.", rows().map(|row| row.1.description.as_str()))
        .text(
            "role",
            "What it is in joins: fact, dimension or bridge.",
            rows().map(|row| row.1.role.map_or("", DatasetRole::as_str)),
        )
        .list("primary_key", "Fields that identify a row.", rows().map(|row| row.1.primary_key.as_slice()))
        .list("hints", "Pitfalls and advice.", rows().map(|row| row.1.hints.as_slice()))
        .text(
            "instructions",
            "What AI tools are told, from `ai_context`.",
            rows().map(|row| row.1.ai_context.instructions.as_str()),
        )
        .text(
            "sensitivity",
            "Who may see it: public, protected or highly_sensitive.",
            rows().map(|row| row.1.sensitivity.as_str()),
        )
        .bool(
            "has_row_filter",
            "Whether you see only the rows that your claims open.",
            rows().map(|row| Some(row.1.row_filter.is_some())),
        )
        .int("fields", "Number of fields.", rows().map(|row| row.1.fields.len() as i64))
}

fn fields_table(parts: &[&Part], columns: Columns) -> Columns {
    let rows = || fields(parts);
    let ordinals = datasets(parts).flat_map(|(_, dataset)| 1..=dataset.fields.len() as i64);
    columns
        .rows(rows())
        .text("model", "Its model.", rows().map(|row| row.0.name.as_str()))
        .text("dataset", "Its dataset.", rows().map(|row| row.1.name.as_str()))
        .text("field", "Name of the field; SQL's column.", rows().map(|row| row.2.name.as_str()))
        .int("ordinal", "Its place in the dataset, counted from 1.", ordinals)
        .text("label", "Name for people.", rows().map(|row| row.2.label.as_str()))
        .text("description", "Meaning and pitfalls.", rows().map(|row| row.2.description.as_str()))
        .text("datatype", "Logical type.", rows().map(|row| row.2.datatype.as_str()))
        .text("unit", "Unit of the numbers.", rows().map(|row| row.2.unit.as_str()))
        .text(
            "min_value",
            "Smallest value, as text.",
            rows().map(|row| row.2.range.as_ref().map_or("", |range| range.0.as_str())),
        )
        .text(
            "max_value",
            "Largest value, as text.",
            rows().map(|row| row.2.range.as_ref().map_or("", |range| range.1.as_str())),
        )
        .bool("nullable", "Whether NULL occurs.", rows().map(|row| row.2.nullable))
        .bool("is_enum", "Whether `sample_values` holds all values.", rows().map(|row| Some(row.2.is_enum)))
        .bool("is_time", "Whether it is a time dimension.", rows().map(|row| Some(row.2.is_time)))
        .list("time_grains", "Grains that make sense.", rows().map(|row| row.2.time_grains.as_slice()))
        .text(
            "default_aggregation",
            "How to aggregate it unless asked otherwise.",
            rows().map(|row| row.2.default_aggregation.as_str()),
        )
        .list("hints", "Pitfalls and advice.", rows().map(|row| row.2.hints.as_slice()))
        .text(
            "expression",
            "SQL over the physical columns; for a masked field, the mask.",
            rows().map(|row| row.2.expression.text()),
        )
        .text(
            "sensitivity",
            "Who may see the values: public, protected or highly_sensitive.",
            rows().map(|row| row.2.sensitivity.as_str()),
        )
        .bool("pii", "Whether it holds personal data.", rows().map(|row| Some(row.2.pii)))
        .bool(
            "is_masked",
            "Whether you see a mask instead of the values.",
            rows().map(|row| Some(row.2.is_masked)),
        )
}

fn metrics_table(parts: &[&Part], columns: Columns) -> Columns {
    let rows = || models(parts).flat_map(|model| model.metrics.iter().map(move |metric| (model, metric)));
    columns
        .rows(rows())
        .text("model", "Its model.", rows().map(|row| row.0.name.as_str()))
        .text("metric", "Name of the metric.", rows().map(|row| row.1.name.as_str()))
        .text(
            "type",
            "How it comes about: simple, ratio, derived or cumulative.",
            rows().map(|row| row.1.kind(row.0).as_str()),
        )
        .text(
            "dataset",
            "The dataset whose rows it aggregates; NULL if its expression says.",
            rows().map(|row| row.1.dataset.as_str()),
        )
        .text(
            "expression",
            "SQL aggregate, or arithmetic over other metrics.",
            rows().map(|row| row.1.expression.text()),
        )
        .text(
            "filter",
            "SQL condition on the rows that it aggregates.",
            rows().map(|row| row.1.filter.as_str()),
        )
        .text(
            "time_dimension",
            "The field that says when a row counts.",
            rows().map(|row| row.1.time_dimension.as_str()),
        )
        .text(
            "description",
            "What it measures, and how it is defined.",
            rows().map(|row| row.1.description.as_str()),
        )
        .text("datatype", "Logical type.", rows().map(|row| row.1.datatype.as_str()))
        .text("unit", "Unit of the result.", rows().map(|row| row.1.unit.as_str()))
        .list("hints", "Pitfalls and advice.", rows().map(|row| row.1.hints.as_slice()))
}

fn relationships_table(parts: &[&Part], columns: Columns) -> Columns {
    let rows = || models(parts).flat_map(|model| model.relationships.iter().map(move |link| (model, link)));
    columns
        .rows(rows())
        .text("model", "Its model.", rows().map(|row| row.0.name.as_str()))
        .text("relationship", "Name of the relationship.", rows().map(|row| row.1.name.as_str()))
        .text("from_dataset", "Dataset on the many side.", rows().map(|row| row.1.from.as_str()))
        .list("from_columns", "Its columns.", rows().map(|row| row.1.from_columns.as_slice()))
        .text("to_dataset", "Dataset on the one side.", rows().map(|row| row.1.to.as_str()))
        .list("to_columns", "Its columns, in the same order.", rows().map(|row| row.1.to_columns.as_slice()))
        .text("cardinality", "How many rows meet how many.", rows().map(|row| row.1.cardinality.as_str()))
        .text(
            "description",
            "What the join means, and what stays unmatched.",
            rows().map(|row| row.1.description.as_str()),
        )
        .list("hints", "Pitfalls and advice.", rows().map(|row| row.1.hints.as_slice()))
}

fn verified_queries_table(parts: &[&Part], columns: Columns) -> Columns {
    let rows =
        || models(parts).flat_map(|model| model.verified_queries.iter().map(move |query| (model, query)));
    columns
        .rows(rows())
        .text("model", "Its model.", rows().map(|row| row.0.name.as_str()))
        .text("verified_query", "Name of the query.", rows().map(|row| row.1.name.as_str()))
        .text("question", "The question that it answers.", rows().map(|row| row.1.question.as_str()))
        .text("sql", "The query.", rows().map(|row| row.1.sql.as_str()))
        .text("description", "What to know about it.", rows().map(|row| row.1.description.as_str()))
        .text("verified_by", "Who checked it.", rows().map(|row| row.1.verified_by.as_str()))
        .text("verified_at", "When.", rows().map(|row| row.1.verified_at.as_str()))
}

/// The model, the kind of thing, its dataset, its name, and another name of it.
type Named<'p> = (&'p Model, &'static str, &'p str, &'p str, &'p str);

fn synonyms_table<'p>(parts: &'p [&'p Part], columns: Columns) -> Columns {
    let mut rows: Vec<Named<'_>> = Vec::new();
    for part in parts.chunks(1) {
        for model in models(part) {
            rows.extend(
                model
                    .synonyms
                    .iter()
                    .map(|synonym| (model, "model", "", model.name.as_str(), synonym.as_str())),
            );
        }
        for (model, dataset) in datasets(part) {
            let (of, own) = (dataset.name.as_str(), dataset.synonyms.iter());
            rows.extend(own.map(|synonym| (model, "dataset", of, of, synonym.as_str())));
            for field in &dataset.fields {
                let own = field.synonyms.iter();
                rows.extend(own.map(|synonym| (model, "field", of, field.name.as_str(), synonym.as_str())));
            }
            for filter in &dataset.filters {
                let own = filter.synonyms.iter();
                rows.extend(own.map(|synonym| (model, "filter", of, filter.name.as_str(), synonym.as_str())));
            }
        }
        for model in ended(part) {
            for metric in &model.metrics {
                let (of, own) = (metric.dataset.as_str(), metric.synonyms.iter());
                rows.extend(own.map(|synonym| (model, "metric", of, metric.name.as_str(), synonym.as_str())));
            }
        }
    }
    columns
        .rows(rows.iter())
        .text("model", "Its model.", rows.iter().map(|row| row.0.name.as_str()))
        .text("kind", "Of what: model, dataset, field, metric or filter.", rows.iter().map(|row| row.1))
        .text("dataset", "Its dataset, where it has one.", rows.iter().map(|row| row.2))
        .text("name", "The thing itself.", rows.iter().map(|row| row.3))
        .text("synonym", "Another name of it.", rows.iter().map(|row| row.4))
}

fn sample_values_table(parts: &[&Part], columns: Columns) -> Columns {
    let rows = || {
        fields(parts).flat_map(|(model, dataset, field)| {
            field.sample_values.iter().map(move |value| (model, dataset, field, value.as_str()))
        })
    };
    columns
        .rows(rows())
        .text("model", "Its model.", rows().map(|row| row.0.name.as_str()))
        .text("dataset", "Its dataset.", rows().map(|row| row.1.name.as_str()))
        .text("field", "Its field.", rows().map(|row| row.2.name.as_str()))
        .text("value", "A value that occurs, as text.", rows().map(|row| row.3))
}

fn filters_table(parts: &[&Part], columns: Columns) -> Columns {
    let rows = || {
        datasets(parts)
            .flat_map(|(model, dataset)| dataset.filters.iter().map(move |filter| (model, dataset, filter)))
    };
    columns
        .rows(rows())
        .text("model", "Its model.", rows().map(|row| row.0.name.as_str()))
        .text("dataset", "Its dataset.", rows().map(|row| row.1.name.as_str()))
        .text("filter", "Name of the filter.", rows().map(|row| row.2.name.as_str()))
        .text("expression", "SQL condition.", rows().map(|row| row.2.expression.text()))
        .text("description", "What it selects.", rows().map(|row| row.2.description.as_str()))
}

fn row_filters_table(parts: &[&Part], columns: Columns) -> Columns {
    let rows = || {
        datasets(parts).filter_map(|(model, dataset)| Some((model, dataset, dataset.row_filter.as_ref()?)))
    };
    columns
        .rows(rows())
        .text("model", "Its model.", rows().map(|row| row.0.name.as_str()))
        .text("dataset", "Its dataset.", rows().map(|row| row.1.name.as_str()))
        .text(
            "row_filter",
            "SQL condition on the rows that a caller sees.",
            rows().map(|row| row.2.text.as_str()),
        )
        .list(
            "claims",
            "Claims that it asks for; without one of them there are no rows.",
            rows().map(|row| row.2.claims()),
        )
}

fn masks_table(parts: &[&Part], columns: Columns) -> Columns {
    let rows = || {
        fields(parts)
            .filter_map(|(model, dataset, field)| Some((model, dataset, field, field.mask.as_ref()?)))
    };
    columns
        .rows(rows())
        .text("model", "Its model.", rows().map(|row| row.0.name.as_str()))
        .text("dataset", "Its dataset.", rows().map(|row| row.1.name.as_str()))
        .text("field", "Its field.", rows().map(|row| row.2.name.as_str()))
        .text("sensitivity", "Below it, the mask is seen.", rows().map(|row| row.2.sensitivity.as_str()))
        .text("mask", "SQL in place of the values.", rows().map(|row| row.3.text.as_str()))
        .list(
            "claims",
            "Claims that it asks for; without one of them the mask is NULL.",
            rows().map(|row| row.3.claims()),
        )
}

fn diagnostics_table(diagnostics: &[Diagnostic]) -> Columns {
    let rows = || diagnostics.iter();
    Columns::default()
        .text("severity", "error or warning.", rows().map(|row| row.severity.as_str()))
        .text("rule", "Id of the rule; docs/rules.md has them all.", rows().map(|row| row.rule))
        .text("file", "The file.", rows().map(|row| row.file.as_str()))
        .int("line", "Counted from 1.", rows().map(|row| i64::from(row.line)))
        .int("column", "In characters, counted from 1.", rows().map(|row| i64::from(row.column)))
        .text("message", "What is wrong.", rows().map(|row| row.message.as_str()))
        .text("help", "What to do.", rows().map(|row| row.help.as_str()))
}
