//! The lines that a prompt gets for each thing.

use std::fmt::Write as _;

use ecow::EcoString;

use super::super::model::{Dataset, Field, Metric, Model, Relationship, VerifiedQuery};
use super::corpus::shortened;

/// How much of a dataset is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detail {
    /// Fields that are listed.
    pub(super) fields: usize,
    /// Bytes of the description.
    pub(super) description: usize,
    pub(super) hints: bool,
}

/// From everything that a reasonable prompt holds to the name alone.
pub(super) const DETAILS: [Detail; 6] = [
    Detail { fields: 80, description: 4_000, hints: true },
    Detail { fields: 40, description: 600, hints: true },
    Detail { fields: 20, description: 300, hints: false },
    Detail { fields: 8, description: 120, hints: false },
    Detail { fields: 3, description: 0, hints: false },
    Detail { fields: 0, description: 0, hints: false },
];

/// The dataset with its keys and fields. `preferred` are positions of fields, most wanted first: where not all are
/// listed, these are, in the order of the model, and the text says how many are not.
pub(super) fn dataset(model: &Model, dataset: &Dataset, preferred: &[usize], detail: Detail) -> String {
    let mut text = format!("dataset {}.{}", model.name, dataset.name);
    if !dataset.description.is_empty() && detail.description > 0 {
        let _ = write!(text, ": {}", shortened(&dataset.description, detail.description));
    }
    if !dataset.primary_key.is_empty() {
        let _ = write!(text, "\n  key: {}", dataset.primary_key.join(", "));
    }
    if detail.fields > 0 && !dataset.fields.is_empty() {
        let mut listed: Vec<usize> = preferred.iter().copied().take(detail.fields).collect();
        listed.sort_unstable();
        let columns: Vec<String> = listed.iter().map(|at| column(&dataset.fields[*at])).collect();
        let _ = write!(text, "\n  fields: {}", columns.join(", "));
        if listed.len() < dataset.fields.len() {
            let _ = write!(text, " and {} more", dataset.fields.len() - listed.len());
        }
    } else if !dataset.fields.is_empty() {
        let _ = write!(text, "\n  {} fields", dataset.fields.len());
    }
    if detail.hints {
        with_hints(&mut text, &dataset.hints);
    }
    text
}

/// A dataset that is there to be joined through.
pub(super) fn passing(model: &Model, dataset: &Dataset) -> String {
    let mut text = format!("dataset {}.{} (joins others)", model.name, dataset.name);
    if !dataset.primary_key.is_empty() {
        let _ = write!(text, "\n  key: {}", dataset.primary_key.join(", "));
    }
    text
}

fn column(field: &Field) -> String {
    if field.datatype.is_empty() { field.name.clone() } else { format!("{} {}", field.name, field.datatype) }
}

pub(super) fn field(model: &Model, dataset: &Dataset, field: &Field) -> String {
    let mut text = format!("field {}.{}.{}", model.name, dataset.name, field.name);
    if !field.datatype.is_empty() {
        let _ = write!(text, " {}", field.datatype);
    }
    if !field.unit.is_empty() {
        let _ = write!(text, " [{}]", field.unit);
    }
    if !field.description.is_empty() {
        let _ = write!(text, ": {}", field.description);
    }
    if let Some((min, max)) = field.range.as_deref() {
        let _ = write!(text, " Range {min} to {max}.");
    }
    if field.nullable == Some(true) {
        text.push_str(" May be NULL.");
    }
    if !field.sample_values.is_empty() {
        let shown: Vec<&str> = field.sample_values.iter().take(12).map(EcoString::as_str).collect();
        let more = if field.is_enum && shown.len() == field.sample_values.len() { "" } else { ", …" };
        let _ = write!(text, " Values: {}{more}.", shown.join(", "));
    }
    with_hints(&mut text, &field.hints);
    text
}

pub(super) fn metric(model: &Model, metric: &Metric) -> String {
    let mut text = format!("metric {} = {}", metric.name, metric.expression.text());
    if !metric.dataset.is_empty() {
        let _ = write!(text, " over {}.{}", model.name, metric.dataset);
    }
    if !metric.description.is_empty() {
        let _ = write!(text, ": {}", metric.description);
    }
    with_hints(&mut text, &metric.hints);
    text
}

/// The equations of a join's ON, to be joined by AND.
pub(super) fn conditions(link: &Relationship) -> Vec<String> {
    let pairs = link.from_columns.iter().zip(&link.to_columns);
    pairs.map(|(from, to)| format!("{}.{from} = {}.{to}", link.from, link.to)).collect()
}

pub(super) fn relationship(link: &Relationship) -> String {
    let mut text = format!("join {}: {}", link.name, conditions(link).join(" AND "));
    if !link.cardinality.is_empty() {
        let _ = write!(text, " ({})", link.cardinality);
    }
    if !link.description.is_empty() {
        let _ = write!(text, ": {}", link.description);
    }
    with_hints(&mut text, &link.hints);
    text
}

pub(super) fn query(query: &VerifiedQuery) -> String {
    format!("verified query {}: {}\n{}", query.name, query.question, query.sql.trim_end())
}

pub(super) fn value(model: &Model, dataset: &Dataset, field: &Field, value: &str, literal: &str) -> String {
    let quoted = value.replace('\'', "''");
    let mut text = format!("value '{quoted}' is in {}.{}.{}", model.name, dataset.name, field.name);
    if literal != value {
        let _ = write!(text, " (the question says {literal})");
    }
    text
}

/// What the model tells those who write SQL; empty if nothing.
pub(super) fn instructions(model: &Model) -> String {
    let texts = [model.ai_context.instructions.trim(), model.custom_instructions.trim()];
    let told: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    if told.is_empty() { String::new() } else { format!("about {}: {}", model.name, told.join("\n")) }
}

fn with_hints(text: &mut String, hints: &[impl std::fmt::Display]) {
    for hint in hints {
        let _ = write!(text, "\n  hint: {hint}");
    }
}
