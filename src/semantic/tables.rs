//! The catalog as Arrow tables, one row a thing: schema `semantic`.
//!
//! T1 Column names and types are stable and documented by [`table_description`]. T2 Every table exists, if need be empty.

use std::sync::Arc;

use datafusion::arrow::array::builder::{ListBuilder, StringBuilder};
use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};

use super::diagnostic::Diagnostic;
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
        "diagnostics" => "one row a finding in the YAML files",
        _ => "",
    }
}

/// The tables of schema `semantic`, each as one batch.
#[derive(Debug, Clone)]
pub struct Tables {
    batches: Vec<(&'static str, RecordBatch)>,
}

impl Tables {
    /// Builds all tables of the given models; `diagnostics` may be empty for those who may not see them.
    pub fn build(models: &[Arc<Model>], diagnostics: &[Diagnostic]) -> Self {
        let batches = vec![
            ("models", models_table(models)),
            ("datasets", datasets_table(models)),
            ("fields", fields_table(models)),
            ("metrics", metrics_table(models)),
            ("relationships", relationships_table(models)),
            ("verified_queries", verified_queries_table(models)),
            ("synonyms", synonyms_table(models)),
            ("sample_values", sample_values_table(models)),
            ("filters", filters_table(models)),
            ("diagnostics", diagnostics_table(diagnostics)),
        ];
        Self { batches }
    }

    pub fn get(&self, name: &str) -> Option<&RecordBatch> {
        self.batches.iter().find(|(table, _)| *table == name).map(|(_, batch)| batch)
    }

    pub fn schema(&self, name: &str) -> Option<SchemaRef> {
        self.get(name).map(RecordBatch::schema)
    }
}

/// Collects columns of equal length; the first mistake would be a defect of this file, hence `expect`.
#[derive(Default)]
struct Columns {
    fields: Vec<ArrowField>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn text<'a>(mut self, name: &str, values: impl Iterator<Item = &'a str>) -> Self {
        // Empty text in YAML terms is "not given": NULL in SQL terms.
        let array: StringArray = values.map(|value| (!value.is_empty()).then_some(value)).collect();
        self.push(name, DataType::Utf8, Arc::new(array));
        self
    }

    fn int(mut self, name: &str, values: impl Iterator<Item = i64>) -> Self {
        self.push(name, DataType::Int64, Arc::new(values.map(Some).collect::<Int64Array>()));
        self
    }

    fn bool(mut self, name: &str, values: impl Iterator<Item = Option<bool>>) -> Self {
        self.push(name, DataType::Boolean, Arc::new(values.collect::<BooleanArray>()));
        self
    }

    fn list<'a>(mut self, name: &str, values: impl Iterator<Item = &'a [String]>) -> Self {
        let mut builder = ListBuilder::new(StringBuilder::new());
        for value in values {
            for item in value {
                builder.values().append_value(item);
            }
            builder.append(true);
        }
        let array: ListArray = builder.finish();
        let data_type = array.value_type();
        self.push(name, DataType::List(Arc::new(ArrowField::new("item", data_type, true))), Arc::new(array));
        self
    }

    fn push(&mut self, name: &str, data_type: DataType, array: ArrayRef) {
        self.fields.push(ArrowField::new(name, data_type, true));
        self.arrays.push(array);
    }

    fn finish(self) -> RecordBatch {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)
            .expect("every column was built from the same rows")
    }
}

fn models_table(models: &[Arc<Model>]) -> RecordBatch {
    let rows = || models.iter();
    Columns::default()
        .text("model", rows().map(|row| row.name.as_str()))
        .text("description", rows().map(|row| row.description.as_str()))
        .text("instructions", rows().map(|row| row.ai_context.instructions.as_str()))
        .text("custom_instructions", rows().map(|row| row.custom_instructions.as_str()))
        .list("example_questions", rows().map(|row| row.ai_context.examples.as_slice()))
        .int("datasets", rows().map(|row| row.datasets.len() as i64))
        .int("metrics", rows().map(|row| row.metrics.len() as i64))
        .finish()
}

fn datasets(models: &[Arc<Model>]) -> impl Iterator<Item = (&Model, &Dataset)> + Clone {
    models.iter().flat_map(|model| model.datasets.iter().map(move |dataset| (model.as_ref(), dataset)))
}

fn fields(models: &[Arc<Model>]) -> impl Iterator<Item = (&Model, &Dataset, &Field)> + Clone {
    datasets(models)
        .flat_map(|(model, dataset)| dataset.fields.iter().map(move |field| (model, dataset, field)))
}

fn datasets_table(models: &[Arc<Model>]) -> RecordBatch {
    let rows = || datasets(models);
    Columns::default()
        .text("model", rows().map(|row| row.0.name.as_str()))
        .text("dataset", rows().map(|row| row.1.name.as_str()))
        .text("description", rows().map(|row| row.1.description.as_str()))
        .list("primary_key", rows().map(|row| row.1.primary_key.as_slice()))
        .list("hints", rows().map(|row| row.1.hints.as_slice()))
        .text("instructions", rows().map(|row| row.1.ai_context.instructions.as_str()))
        .text("sensitivity", rows().map(|row| row.1.sensitivity.as_str()))
        .int("fields", rows().map(|row| row.1.fields.len() as i64))
        .finish()
}

fn fields_table(models: &[Arc<Model>]) -> RecordBatch {
    let rows = || fields(models);
    let ordinals = datasets(models).flat_map(|(_, dataset)| 1..=dataset.fields.len() as i64);
    Columns::default()
        .text("model", rows().map(|row| row.0.name.as_str()))
        .text("dataset", rows().map(|row| row.1.name.as_str()))
        .text("field", rows().map(|row| row.2.name.as_str()))
        .int("ordinal", ordinals)
        .text("label", rows().map(|row| row.2.label.as_str()))
        .text("description", rows().map(|row| row.2.description.as_str()))
        .text("datatype", rows().map(|row| row.2.datatype.as_str()))
        .text("unit", rows().map(|row| row.2.unit.as_str()))
        .text("min_value", rows().map(|row| row.2.range.as_ref().map_or("", |range| range.0.as_str())))
        .text("max_value", rows().map(|row| row.2.range.as_ref().map_or("", |range| range.1.as_str())))
        .bool("nullable", rows().map(|row| row.2.nullable))
        .bool("is_enum", rows().map(|row| Some(row.2.is_enum)))
        .bool("is_time", rows().map(|row| Some(row.2.is_time)))
        .list("time_grains", rows().map(|row| row.2.time_grains.as_slice()))
        .text("default_aggregation", rows().map(|row| row.2.default_aggregation.as_str()))
        .list("hints", rows().map(|row| row.2.hints.as_slice()))
        .text("expression", rows().map(|row| row.2.expression.text()))
        .text("sensitivity", rows().map(|row| row.2.sensitivity.as_str()))
        .bool("pii", rows().map(|row| Some(row.2.pii)))
        .finish()
}

fn metrics_table(models: &[Arc<Model>]) -> RecordBatch {
    let rows = || models.iter().flat_map(|model| model.metrics.iter().map(move |metric| (model, metric)));
    Columns::default()
        .text("model", rows().map(|row| row.0.name.as_str()))
        .text("metric", rows().map(|row| row.1.name.as_str()))
        .text("dataset", rows().map(|row| row.1.dataset.as_str()))
        .text("expression", rows().map(|row| row.1.expression.text()))
        .text("description", rows().map(|row| row.1.description.as_str()))
        .text("datatype", rows().map(|row| row.1.datatype.as_str()))
        .text("unit", rows().map(|row| row.1.unit.as_str()))
        .list("hints", rows().map(|row| row.1.hints.as_slice()))
        .finish()
}

fn relationships_table(models: &[Arc<Model>]) -> RecordBatch {
    let rows = || models.iter().flat_map(|model| model.relationships.iter().map(move |link| (model, link)));
    Columns::default()
        .text("model", rows().map(|row| row.0.name.as_str()))
        .text("relationship", rows().map(|row| row.1.name.as_str()))
        .text("from_dataset", rows().map(|row| row.1.from.as_str()))
        .list("from_columns", rows().map(|row| row.1.from_columns.as_slice()))
        .text("to_dataset", rows().map(|row| row.1.to.as_str()))
        .list("to_columns", rows().map(|row| row.1.to_columns.as_slice()))
        .text("cardinality", rows().map(|row| row.1.cardinality.as_str()))
        .text("description", rows().map(|row| row.1.description.as_str()))
        .list("hints", rows().map(|row| row.1.hints.as_slice()))
        .finish()
}

fn verified_queries_table(models: &[Arc<Model>]) -> RecordBatch {
    let rows =
        || models.iter().flat_map(|model| model.verified_queries.iter().map(move |query| (model, query)));
    Columns::default()
        .text("model", rows().map(|row| row.0.name.as_str()))
        .text("verified_query", rows().map(|row| row.1.name.as_str()))
        .text("question", rows().map(|row| row.1.question.as_str()))
        .text("sql", rows().map(|row| row.1.sql.as_str()))
        .text("description", rows().map(|row| row.1.description.as_str()))
        .text("verified_by", rows().map(|row| row.1.verified_by.as_str()))
        .text("verified_at", rows().map(|row| row.1.verified_at.as_str()))
        .finish()
}

fn synonyms_table(models: &[Arc<Model>]) -> RecordBatch {
    let mut rows: Vec<(&str, &str, &str, &str, &str)> = Vec::new();
    for model in models {
        let mut add = |kind, dataset, name, synonyms| {
            let synonyms: &Vec<String> = synonyms;
            rows.extend(
                synonyms.iter().map(|synonym| (model.name.as_str(), kind, dataset, name, synonym.as_str())),
            );
        };
        add("model", "", &model.name, &model.synonyms);
        for dataset in &model.datasets {
            add("dataset", &dataset.name, &dataset.name, &dataset.synonyms);
            for field in &dataset.fields {
                add("field", &dataset.name, &field.name, &field.synonyms);
            }
            for filter in &dataset.filters {
                add("filter", &dataset.name, &filter.name, &filter.synonyms);
            }
        }
        for metric in &model.metrics {
            add("metric", &metric.dataset, &metric.name, &metric.synonyms);
        }
    }
    Columns::default()
        .text("model", rows.iter().map(|row| row.0))
        .text("kind", rows.iter().map(|row| row.1))
        .text("dataset", rows.iter().map(|row| row.2))
        .text("name", rows.iter().map(|row| row.3))
        .text("synonym", rows.iter().map(|row| row.4))
        .finish()
}

fn sample_values_table(models: &[Arc<Model>]) -> RecordBatch {
    let rows = || {
        fields(models).flat_map(|(model, dataset, field)| {
            field.sample_values.iter().map(move |value| (model, dataset, field, value.as_str()))
        })
    };
    Columns::default()
        .text("model", rows().map(|row| row.0.name.as_str()))
        .text("dataset", rows().map(|row| row.1.name.as_str()))
        .text("field", rows().map(|row| row.2.name.as_str()))
        .text("value", rows().map(|row| row.3))
        .finish()
}

fn filters_table(models: &[Arc<Model>]) -> RecordBatch {
    let rows = || {
        datasets(models)
            .flat_map(|(model, dataset)| dataset.filters.iter().map(move |filter| (model, dataset, filter)))
    };
    Columns::default()
        .text("model", rows().map(|row| row.0.name.as_str()))
        .text("dataset", rows().map(|row| row.1.name.as_str()))
        .text("filter", rows().map(|row| row.2.name.as_str()))
        .text("expression", rows().map(|row| row.2.expression.text()))
        .text("description", rows().map(|row| row.2.description.as_str()))
        .finish()
}

fn diagnostics_table(diagnostics: &[Diagnostic]) -> RecordBatch {
    let rows = || diagnostics.iter();
    Columns::default()
        .text("severity", rows().map(|row| row.severity.as_str()))
        .text("rule", rows().map(|row| row.rule))
        .text("file", rows().map(|row| row.file.as_str()))
        .int("line", rows().map(|row| i64::from(row.line)))
        .int("column", rows().map(|row| i64::from(row.column)))
        .text("message", rows().map(|row| row.message.as_str()))
        .text("help", rows().map(|row| row.help.as_str()))
        .finish()
}
