//! What of a model somebody of limited clearance may know.
//!
//! V1 What is above the clearance does not exist: it is not listed, not counted, not named in anything else.

use std::sync::Arc;

use super::lint::{columns_of, parse_expression};
use super::model::{Dataset, Expression, Model, Sensitivity};

/// The model as seen with `clearance`; the same `Arc` when nothing is hidden.
pub(super) fn reduce(model: &Arc<Model>, clearance: Sensitivity) -> Arc<Model> {
    let everything = model.datasets.iter().all(|dataset| {
        dataset.sensitivity <= clearance && dataset.fields.iter().all(|field| field.sensitivity <= clearance)
    });
    if everything {
        return model.clone();
    }
    let mut reduced = Model::clone(model);
    reduced.datasets.retain(|dataset| dataset.sensitivity <= clearance);
    for dataset in &mut reduced.datasets {
        let hidden: Vec<String> = dataset
            .fields
            .iter()
            .filter(|field| field.sensitivity > clearance)
            .map(|field| field.name.to_lowercase())
            .collect();
        dataset.fields.retain(|field| field.sensitivity <= clearance);
        let is_hidden = |column: &String| hidden.contains(&column.to_lowercase());
        if dataset.primary_key.iter().any(is_hidden) {
            dataset.primary_key.clear();
        }
        dataset.unique_keys.retain(|key| !key.iter().any(is_hidden));
        dataset.filters.retain(|filter| !names_any(&filter.expression, &hidden));
        // Free text of the dataset may name what is hidden; a hint that does goes with it.
        dataset.hints.retain(|hint| !mentions_any(hint, &hidden));
    }
    let hidden = hidden_names(model, &reduced);
    let shown = |name: &str, columns: &[String]| {
        reduced.datasets.iter().any(|dataset: &Dataset| {
            dataset.name == name && columns.iter().all(|column| dataset.field(column).is_some())
        })
    };
    let relationships = model
        .relationships
        .iter()
        .filter(|link| shown(&link.from, &link.from_columns) && shown(&link.to, &link.to_columns))
        .cloned()
        .collect();
    let metrics = model
        .metrics
        .iter()
        .filter(|metric| metric.dataset.is_empty() || shown(&metric.dataset, &[]))
        .filter(|metric| !names_any(&metric.expression, &hidden))
        .cloned()
        .collect();
    let queries =
        model.verified_queries.iter().filter(|query| !mentions_any(&query.sql, &hidden)).cloned().collect();
    reduced.relationships = relationships;
    reduced.metrics = metrics;
    reduced.verified_queries = queries;
    if mentions_any(&reduced.custom_instructions, &hidden) {
        reduced.custom_instructions.clear();
    }
    if mentions_any(&reduced.ai_context.instructions, &hidden) {
        reduced.ai_context.instructions.clear();
    }
    Arc::new(reduced)
}

/// Lower-case names that exist in `full` and nowhere in `reduced`.
fn hidden_names(full: &Model, reduced: &Model) -> Vec<String> {
    let names = |model: &Model| -> std::collections::BTreeSet<String> {
        let datasets = model.datasets.iter();
        datasets
            .flat_map(|dataset| {
                std::iter::once(dataset.name.to_lowercase())
                    .chain(dataset.fields.iter().map(|field| field.name.to_lowercase()))
            })
            .collect()
    };
    names(full).difference(&names(reduced)).cloned().collect()
}

fn names_any(expression: &Expression, hidden: &[String]) -> bool {
    // What cannot be parsed cannot be shown to be harmless.
    parse_expression(expression.text()).map_or(true, |expr| {
        columns_of(&expr).iter().any(|(_, column)| hidden.contains(&column.to_lowercase()))
    })
}

fn mentions_any(text: &str, hidden: &[String]) -> bool {
    let lower = text.to_lowercase();
    let mut words = lower.split(|character: char| !(character.is_alphanumeric() || character == '_'));
    words.any(|word| hidden.iter().any(|name| name == word))
}
