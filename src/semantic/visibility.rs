//! What of a model somebody of limited clearance may know.
//!
//! V1 What is above the clearance does not exist: it is not listed, not counted, not named in anything else.
//! V2 A field with a mask stays, as the mask: nothing that tells of its values does, and nothing is computed from it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ecow::{EcoString, EcoVec};

use super::lint::{columns_of, parse_expression};
use super::model::{Dataset, Expression, Metric, Model, Relationship, Sensitivity};

/// The model as seen with `clearance`; the same `Arc` when nothing is hidden.
pub(super) fn reduce(model: &Arc<Model>, clearance: Sensitivity) -> Arc<Model> {
    let is_everything = model.datasets.iter().all(|dataset| {
        dataset.sensitivity <= clearance && dataset.fields.iter().all(|field| field.sensitivity <= clearance)
    });
    if is_everything {
        return model.clone();
    }
    let hidden = Hidden::new(model, clearance);
    let mut reduced = Model::clone(model);
    reduced.datasets.retain(|dataset| dataset.sensitivity <= clearance);
    for dataset in &mut reduced.datasets {
        reduce_dataset(dataset, clearance, &hidden);
    }
    reduced.relationships.retain(|link| hidden.shows_relationship(link));
    let shown = hidden.shown_metrics(model);
    reduced.metrics.retain(|metric| shown.contains(metric.name.as_str()));
    reduced.verified_queries.retain(|query| !hidden.is_mentioned_in_sql(&query.sql));
    if hidden.is_mentioned(&reduced.custom_instructions) {
        reduced.custom_instructions.clear();
    }
    if hidden.is_mentioned(&reduced.ai_context.instructions) {
        reduced.ai_context.instructions.clear();
    }
    reduced.ai_context.examples.retain(|example| !hidden.is_mentioned(example));
    Arc::new(reduced)
}

fn reduce_dataset(dataset: &mut Dataset, clearance: Sensitivity, hidden: &Hidden<'_>) {
    dataset.fields.retain(|field| field.sensitivity <= clearance || field.mask.is_some());
    for field in dataset.fields.iter_mut().filter(|field| field.sensitivity > clearance) {
        field.is_masked = true;
        field.expression = Expression::ansi(field.mask.as_ref().map_or("NULL", |mask| mask.text.as_str()));
        field.range = None;
        field.is_enum = false;
        field.sample_values = EcoVec::new();
        field.time_grains = EcoVec::new();
        field.default_aggregation = EcoString::new();
        // Examples and hints of a field like to quote its values.
        field.hints = EcoVec::new();
        field.ai_context = None;
    }
    let name = dataset.name.clone();
    let is_hidden = |column: &String| hidden.column(&name, column);
    if dataset.primary_key.iter().any(is_hidden) {
        dataset.primary_key.clear();
    }
    dataset.unique_keys.retain(|key| !key.iter().any(is_hidden));
    dataset.filters.retain(|filter| hidden.shows_text(filter.expression.text(), Some(&name)));
    // Free text of the dataset may name what is hidden; a hint that does goes with it.
    dataset.hints.retain(|hint| !hidden.is_mentioned(hint));
    if hidden.is_mentioned(&dataset.ai_context.instructions) {
        dataset.ai_context.instructions.clear();
    }
    dataset.ai_context.examples.retain(|example| !hidden.is_mentioned(example));
}

/// Everything of a model that is above a clearance; names in lower case, since SQL may write them in any.
struct Hidden<'m> {
    datasets: HashSet<String>,
    /// Dataset → its columns that are hidden or masked, where there are any.
    columns: HashMap<String, HashSet<String>>,
    /// Names that exist nowhere in what is left.
    names: HashSet<String>,
    /// Names of masked fields.
    masked: HashSet<String>,
    /// Datasets that are left, by their exact name.
    shown: HashMap<&'m str, &'m Dataset>,
}

impl<'m> Hidden<'m> {
    fn new(model: &'m Model, clearance: Sensitivity) -> Self {
        let mut hidden = Self {
            datasets: HashSet::new(),
            columns: HashMap::new(),
            names: HashSet::new(),
            masked: HashSet::new(),
            shown: HashMap::new(),
        };
        let mut left = HashSet::new();
        for dataset in &model.datasets {
            let name = dataset.name.to_lowercase();
            let is_shown = dataset.sensitivity <= clearance;
            if is_shown {
                hidden.shown.insert(&dataset.name, dataset);
                left.insert(name.clone());
            } else {
                hidden.datasets.insert(name.clone());
                hidden.names.insert(name.clone());
            }
            for field in &dataset.fields {
                let column = field.name.to_lowercase();
                match (is_shown && field.sensitivity <= clearance, &field.mask) {
                    (true, _) => {
                        left.insert(column);
                        continue;
                    }
                    (false, Some(_)) if is_shown => {
                        left.insert(column.clone());
                        hidden.masked.insert(column.clone());
                    }
                    (false, _) => {
                        hidden.names.insert(column.clone());
                    }
                }
                hidden.columns.entry(name.clone()).or_default().insert(column);
            }
        }
        hidden.names.retain(|name| !left.contains(name));
        hidden
    }

    fn column(&self, dataset: &str, column: &str) -> bool {
        let columns = self.columns.get(&dataset.to_lowercase());
        columns.is_some_and(|columns| columns.contains(&column.to_lowercase()))
    }

    fn shows_relationship(&self, link: &Relationship) -> bool {
        let shows = |dataset: &str, columns: &[String]| {
            self.shown.get(dataset).is_some_and(|known| {
                columns.iter().all(|column| known.field(column).is_some() && !self.column(dataset, column))
            })
        };
        shows(&link.from, &link.from_columns) && shows(&link.to, &link.to_columns)
    }

    /// Whether SQL over `dataset` names nothing hidden; what cannot be parsed cannot be shown to be harmless.
    fn shows_text(&self, sql: &str, dataset: Option<&str>) -> bool {
        let Ok(expr) = parse_expression(sql) else { return false };
        columns_of(&expr).iter().all(|(qualifier, column)| {
            let dataset = qualifier.as_deref().or(dataset);
            !self.names.contains(&column.to_lowercase())
                && dataset.is_none_or(|dataset| {
                    !self.datasets.contains(&dataset.to_lowercase()) && !self.column(dataset, column)
                })
        })
    }

    /// Names of the metrics that are computed from nothing hidden, directly or through other metrics.
    fn shown_metrics(&self, model: &'m Model) -> HashSet<&'m str> {
        let mut shown: HashSet<&str> = model
            .metrics
            .iter()
            .filter(|metric| self.shows_metric(metric))
            .map(|metric| metric.name.as_str())
            .collect();
        let all: HashMap<&str, &Metric> =
            model.metrics.iter().map(|metric| (metric.name.as_str(), metric)).collect();
        let inputs: HashMap<&str, Vec<&str>> =
            shown.iter().filter_map(|name| Some((*name, inputs_of(all.get(name)?, &all)))).collect();
        // A metric that goes takes those that are made of it along.
        loop {
            let gone: Vec<&str> = shown
                .iter()
                .copied()
                .filter(|name| {
                    inputs.get(name).is_some_and(|names| names.iter().any(|name| !shown.contains(name)))
                })
                .collect();
            if gone.is_empty() {
                return shown;
            }
            for name in gone {
                shown.remove(name);
            }
        }
    }

    fn shows_metric(&self, metric: &Metric) -> bool {
        let dataset = Some(metric.dataset.as_str()).filter(|name| !name.is_empty());
        let names_field = |text: &str| match text.rsplit_once('.') {
            _ if text.is_empty() => true,
            Some((dataset, field)) => {
                !self.column(dataset, field) && !self.datasets.contains(&dataset.to_lowercase())
            }
            None => dataset.is_none_or(|dataset| !self.column(dataset, text)),
        };
        let shows_filter = |sql: &str| sql.is_empty() || self.shows_text(sql, dataset);
        dataset.is_none_or(|dataset| self.shown.contains_key(dataset))
            && self.shows_text(metric.expression.text(), dataset)
            && shows_filter(&metric.filter)
            && metric.inputs().all(|input| shows_filter(&input.filter))
            && names_field(&metric.time_dimension)
            && metric.non_additive_dimension.as_ref().is_none_or(|dimension| {
                names_field(&dimension.name)
                    && dimension.window_groupings.iter().all(|name| names_field(name))
            })
    }

    /// Whether a text has a hidden name among its words.
    fn is_mentioned(&self, text: &str) -> bool {
        is_mentioned(text, &self.names)
    }

    /// The same for a query, which must not compute from masked values either.
    fn is_mentioned_in_sql(&self, sql: &str) -> bool {
        is_mentioned(sql, &self.names) || is_mentioned(sql, &self.masked)
    }
}

/// The metrics that a metric is made of.
fn inputs_of<'m>(metric: &'m Metric, all: &HashMap<&'m str, &'m Metric>) -> Vec<&'m str> {
    let mut names: Vec<&str> = metric.inputs().map(|input| input.name.as_str()).collect();
    if metric.dataset.is_empty()
        && let Ok(expr) = parse_expression(metric.expression.text())
    {
        let named = columns_of(&expr);
        names.extend(named.iter().filter_map(|(qualifier, name)| match qualifier {
            None => all.get_key_value(name.as_str()).map(|(name, _)| *name),
            Some(_) => None,
        }));
    }
    names
}

/// Whether one of these lower-case names stands in the text, as a word or, if it is more than a word, as it is.
fn is_mentioned(text: &str, names: &HashSet<String>) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let lower = text.to_lowercase();
    !names.is_empty()
        && (lower.split(|character| !is_word(character)).any(|word| names.contains(word))
            || names.iter().any(|name| !name.chars().all(is_word) && lower.contains(name.as_str())))
}
