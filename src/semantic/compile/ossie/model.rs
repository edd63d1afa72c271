//! The model file of the suite: what the foundation takes, and what it defers.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::measures;
use crate::semantic::compile::error::{CompileCode, CompileError, Result};
use crate::semantic::compile::expr::{self, Names};
use crate::semantic::compile::graph::Prepared;
use crate::semantic::diagnostic::{Findings, Severity};
use crate::semantic::{node, read};

/// Keys that the foundation knows of and defers (§10), by where they would stand.
const DEFERRED_IN_MODEL: &[&str] =
    &["natural_grain", "filters", "parameters", "variables", "hierarchies", "perspectives"];
const DEFERRED_IN_DATASET: &[&str] =
    &["metrics", "measures", "filters", "natural_grain", "hierarchies", "grain"];
const DEFERRED_IN_FIELD: &[&str] = &["grain", "filter", "reset", "joins"];
const DEFERRED_IN_RELATIONSHIP: &[&str] = &[
    "referential_integrity",
    "from_all_rows_match",
    "to_all_rows_match",
    "condition",
    "asof",
    "range",
    "type",
    "join_type",
    "on",
];
const DEFERRED_IN_METRIC: &[&str] = &[
    "grain",
    "filter",
    "filters",
    "joins",
    "using_relationships",
    "reset",
    "query_filter",
    "unsafe",
    "numerator",
    "denominator",
    "metrics",
    "window",
    "grain_to_date",
    "non_additive_dimension",
    "type",
];
/// Keys of the foundation that change nothing in the SQL.
const WITHOUT_EFFECT: &[&str] = &["access_modifier", "data_type", "type", "dialect", "label"];
/// Words of SQL that no definition may be called by without quotes.
const RESERVED: &[&str] = &[
    "all",
    "and",
    "any",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "cast",
    "create",
    "cross",
    "delete",
    "desc",
    "distinct",
    "drop",
    "else",
    "end",
    "except",
    "exists",
    "from",
    "full",
    "group",
    "having",
    "in",
    "inner",
    "insert",
    "intersect",
    "into",
    "is",
    "join",
    "like",
    "limit",
    "not",
    "null",
    "on",
    "or",
    "order",
    "outer",
    "over",
    "partition",
    "select",
    "table",
    "then",
    "union",
    "update",
    "using",
    "values",
    "when",
    "where",
    "with",
];
const RESERVED_BY_OSSIE: &[&str] = &["grain", "filter", "query_filter"];

pub(super) fn load(text: &str) -> Result<Prepared> {
    let invalid = |message: String| CompileError::new(CompileCode::InvalidModel, message);
    let mut raw: Value =
        serde_saphyr::from_str(text).map_err(|error| invalid(format!("the model is no YAML: {error}")))?;
    let model = match raw.get_mut("semantic_model") {
        None => raw,
        Some(Value::Array(models)) if models.len() == 1 => models.remove(0),
        Some(_) => return Err(invalid("the file has several models; keep one".to_owned())),
    };
    let model = strip(model)?;
    let text = model.to_string();
    let mut findings = Findings::new("model.yaml", &text);
    let root = node::parse(&text).map_err(|error| invalid(error.message))?;
    let mut documents = read::documents(&root, &mut findings);
    let errors: Vec<String> = findings
        .finish()
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| format!("{} {}", finding.message, finding.help).trim().to_owned())
        .collect();
    if !errors.is_empty() {
        return Err(invalid(errors.join("; ")));
    }
    let document = documents.pop().ok_or_else(|| invalid("the file holds no model".to_owned()))?;
    Ok(Prepared::new(Arc::new(document.model)))
}

/// Refuses deferred keys and takes those out that have no effect here.
fn strip(mut model: Value) -> Result<Value> {
    refuse(&model, DEFERRED_IN_MODEL, "the model")?;
    drop_keys(&mut model);
    for dataset in items(&mut model, "datasets") {
        let what = described(dataset, "dataset");
        refuse(dataset, DEFERRED_IN_DATASET, &what)?;
        for field in items(dataset, "fields") {
            let what = described(field, "field");
            refuse(field, DEFERRED_IN_FIELD, &what)?;
            drop_keys(field);
        }
    }
    for relationship in items(&mut model, "relationships") {
        let what = described(relationship, "relationship");
        refuse(relationship, DEFERRED_IN_RELATIONSHIP, &what)?;
        drop_keys(relationship);
    }
    for metric in items(&mut model, "metrics") {
        let what = described(metric, "metric");
        refuse(metric, DEFERRED_IN_METRIC, &what)?;
        drop_keys(metric);
    }
    Ok(model)
}

fn items<'v>(value: &'v mut Value, key: &str) -> impl Iterator<Item = &'v mut Value> {
    value.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn described(value: &Value, kind: &str) -> String {
    format!("{kind} `{}`", value.get("name").and_then(Value::as_str).unwrap_or("?"))
}

fn refuse(value: &Value, deferred: &[&str], what: &str) -> Result<()> {
    let Some(key) = deferred.iter().find(|key| value.get(**key).is_some()) else { return Ok(()) };
    let message = format!("{what} has the key `{key}`, which is deferred (§10); drop it");
    Err(CompileError::new(CompileCode::DeferredKeyRejected, message))
}

fn drop_keys(value: &mut Value) {
    if let Some(entries) = value.as_object_mut() {
        entries.retain(|key, _| !WITHOUT_EFFECT.contains(&key.as_str()));
    }
}

/// O1. Names, fields and metrics of the whole model.
pub(super) fn check(names: &Names<'_>) -> Result<()> {
    let model = &names.graph.model;
    let mut global: HashSet<String> = HashSet::new();
    let all = model.datasets.iter().map(|dataset| ("dataset", &dataset.name));
    let all = all.chain(model.relationships.iter().map(|link| ("relationship", &link.name)));
    for (kind, name) in all.chain(model.metrics.iter().map(|metric| ("metric", &metric.name))) {
        not_reserved(kind, name)?;
        if !global.insert(name.to_lowercase()) {
            let message =
                format!("the {kind} `{name}` has the name of another global definition; rename one");
            return Err(CompileError::new(CompileCode::NameCollision, message));
        }
    }
    for (at, dataset) in model.datasets.iter().enumerate() {
        let mut own = HashSet::new();
        for field in &dataset.fields {
            not_reserved("field", &field.name)?;
            if !own.insert(field.name.to_lowercase()) {
                let message = format!("`{}` has two fields `{}`; rename one", dataset.name, field.name);
                return Err(CompileError::new(CompileCode::NameCollision, message));
            }
            let expr = names.field(at, &field.name)?;
            if expr::as_column(&expr).is_some_and(|column| column.windowed) {
                expr::window_of(names, at, &field.name)?;
            }
        }
    }
    for link in &model.relationships {
        for end in [&link.from, &link.to] {
            names.graph.find_dataset(end).ok_or_else(|| names.graph.no_such_dataset(end))?;
        }
        if link.from_columns.is_empty() || link.from_columns.len() != link.to_columns.len() {
            let message = format!(
                "relationship `{}` needs as many from_columns as to_columns, one at least",
                link.name
            );
            return Err(CompileError::new(CompileCode::InvalidModel, message));
        }
    }
    for (at, metric) in model.metrics.iter().enumerate() {
        let mut measures = measures(names, Vec::new(), BTreeSet::new(), None);
        let Err(error) = measures.metric(at) else { continue };
        // What else is wrong with a metric is told when a query asks for it.
        let always = [
            CompileCode::NestedAggregationDeferred,
            CompileCode::NestedWindow,
            CompileCode::WindowedMetricComposition,
            CompileCode::DeferredFrameMode,
            CompileCode::DeferredFrameBound,
            CompileCode::Syntax,
        ];
        if always.contains(&error.code) {
            return Err(CompileError::new(
                error.code,
                format!("{} (metric `{}`)", error.message, metric.name),
            ));
        }
    }
    Ok(())
}

fn not_reserved(kind: &str, name: &str) -> Result<()> {
    let lower = name.to_lowercase();
    if RESERVED_BY_OSSIE.contains(&lower.as_str()) {
        let message = format!(
            "the {kind} name `{name}` is reserved for a deferred extension (§10); rename it (E_RESERVED_NAME)"
        );
        return Err(CompileError::new(CompileCode::DeferredKeyRejected, message));
    }
    if RESERVED.contains(&lower.as_str()) {
        let message = format!(
            "the {kind} name `{name}` is a reserved word of SQL; rename it (E_DEFERRED_KEY_REJECTED)"
        );
        return Err(CompileError::new(CompileCode::ReservedName, message));
    }
    Ok(())
}
