//! Question → the part of the catalog that an agent needs to write SQL, within a token budget.
//!
//! K1 The join path between any two chosen datasets of a model is part of the answer. K2 The answer never exceeds its
//! budget, except that the best item always stays. K3 Same catalog and question, same answer.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;

use super::finder::{Finder, Thing};
use super::model::{Dataset, Field, Model};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkedKind {
    Dataset,
    Field,
    Metric,
    Relationship,
    VerifiedQuery,
    /// A literal of the question that is a value of a field.
    Value,
    Instructions,
}

impl LinkedKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Field => "field",
            Self::Metric => "metric",
            Self::Relationship => "relationship",
            Self::VerifiedQuery => "verified_query",
            Self::Value => "value",
            Self::Instructions => "instructions",
        }
    }
}

/// One thing worth knowing for the question.
#[derive(Debug, Clone)]
pub struct LinkedItem {
    pub kind: LinkedKind,
    pub model: String,
    /// `dataset`, `dataset.field`, or the metric's, relationship's or query's own name.
    pub name: String,
    pub score: f32,
    /// The lines that the prompt gets.
    pub text: String,
    pub tokens: usize,
}

/// What linking found, best first within each kind.
#[derive(Debug, Clone, Default)]
pub struct Link {
    pub items: Vec<LinkedItem>,
    /// All items as text for a prompt, grouped by model.
    pub prompt: String,
    pub tokens: usize,
    /// Items that the budget left out.
    pub left_out: usize,
}

/// Estimates tokens from above for English and SQL: a token holds at least three characters on average there.
fn estimate_tokens(text: &str) -> usize {
    text.chars().count().div_ceil(3)
}

impl Finder {
    /// Ranks the parts of its models for `question` and cuts the answer to `budget_tokens` (estimated).
    pub fn link(&self, question: &str, budget_tokens: usize) -> Link {
        link(self, question, budget_tokens)
    }
}

fn link(finder: &Finder, question: &str, budget_tokens: usize) -> Link {
    let models = &finder.models;
    let mut items = Vec::new();
    // Per model: dataset → best score of anything in it. BTreeMap keeps the answer deterministic.
    let mut chosen: BTreeMap<&str, BTreeMap<&str, f32>> = BTreeMap::new();
    let mut counts: BTreeMap<LinkedKind, usize> = BTreeMap::new();
    for hit in finder.search(question) {
        let model = hit.model;
        let mut touch = |dataset: &'_ str, score: f32| {
            let Some(dataset) = model.dataset(dataset) else { return };
            let best =
                chosen.entry(model.name.as_str()).or_default().entry(dataset.name.as_str()).or_default();
            *best = best.max(score);
        };
        let (kind, limit) = match hit.thing {
            Thing::Dataset(_) => (LinkedKind::Dataset, 8),
            Thing::Field(..) => (LinkedKind::Field, 24),
            Thing::Metric(_) => (LinkedKind::Metric, 8),
            Thing::VerifiedQuery(_) => (LinkedKind::VerifiedQuery, 4),
            Thing::Model | Thing::Filter(..) | Thing::Relationship(_) => continue,
        };
        let count = counts.entry(kind).or_default();
        *count += 1;
        if *count > limit {
            continue;
        }
        match hit.thing {
            Thing::Dataset(dataset) => touch(&dataset.name, hit.score),
            Thing::Field(dataset, field) => {
                touch(&dataset.name, hit.score * 0.8);
                items.push(item(
                    kind,
                    model,
                    format!("{}.{}", dataset.name, field.name),
                    hit.score,
                    field_text(dataset, field),
                ));
            }
            Thing::Metric(metric) => {
                touch(&metric.dataset, hit.score * 0.8);
                let mut text = format!("metric {} = {}", metric.name, metric.expression.text());
                if !metric.dataset.is_empty() {
                    let _ = write!(text, " over {}.{}", model.name, metric.dataset);
                }
                let _ = write!(text, ": {}", metric.description);
                with_hints(&mut text, &metric.hints);
                items.push(item(kind, model, metric.name.clone(), hit.score, text));
            }
            Thing::VerifiedQuery(query) => {
                let text = format!("verified query {}: {}\n{}", query.name, query.question, query.sql);
                items.push(item(kind, model, query.name.clone(), hit.score, text));
            }
            Thing::Model | Thing::Filter(..) | Thing::Relationship(_) => {}
        }
    }

    for (model, dataset, field, value) in finder.literals(question) {
        let best = chosen.entry(model.name.as_str()).or_default().entry(dataset.name.as_str()).or_default();
        *best = best.max(1.0);
        let text = format!("value '{value}' is in {}.{}.{}", model.name, dataset.name, field.name);
        // A literal that the question names outright outranks any likeness of words.
        items.push(item(LinkedKind::Value, model, format!("{}.{}", dataset.name, field.name), 100.0, text));
    }

    for model in models {
        let Some(datasets) = chosen.get_mut(model.name.as_str()) else { continue };
        keep_best(datasets, 6);
        let names: BTreeSet<&str> = datasets.keys().copied().collect();
        let (links, passing) = join_paths(model, &names);
        for dataset in passing {
            datasets.entry(dataset).or_insert(0.01);
        }
        let top = datasets.values().copied().fold(0.0, f32::max);
        for (name, score) in datasets.iter() {
            let Some(dataset) = model.dataset(name) else { continue };
            items.push(item(
                LinkedKind::Dataset,
                model,
                (*name).to_owned(),
                *score + 50.0,
                dataset_text(model, dataset),
            ));
        }
        for position in links {
            let link = &model.relationships[position];
            let on: Vec<String> = link
                .from_columns
                .iter()
                .zip(&link.to_columns)
                .map(|(from, to)| format!("{}.{from} = {}.{to}", link.from, link.to))
                .collect();
            let mut text = format!("join {}: {}", link.name, on.join(" AND "));
            if !link.cardinality.is_empty() {
                let _ = write!(text, " ({})", link.cardinality);
            }
            if !link.description.is_empty() {
                let _ = write!(text, ": {}", link.description);
            }
            with_hints(&mut text, &link.hints);
            items.push(item(LinkedKind::Relationship, model, link.name.clone(), 40.0, text));
        }
        let instructions = [&model.ai_context.instructions, &model.custom_instructions];
        let text = instructions
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| text.as_str())
            .collect::<Vec<_>>()
            .join("\n");
        if !text.is_empty() {
            items.push(item(LinkedKind::Instructions, model, model.name.clone(), 30.0 + top, text));
        }
    }
    items.retain(|item| {
        let datasets = chosen.get(item.model.as_str());
        item.kind != LinkedKind::Field
            || item
                .name
                .split_once('.')
                .is_some_and(|(dataset, _)| datasets.is_some_and(|all| all.contains_key(dataset)))
    });
    cut(items, budget_tokens)
}

fn item(kind: LinkedKind, model: &Model, name: String, score: f32, text: String) -> LinkedItem {
    let tokens = estimate_tokens(&text) + 1;
    LinkedItem { kind, model: model.name.clone(), name, score, text, tokens }
}

fn keep_best(datasets: &mut BTreeMap<&str, f32>, limit: usize) {
    let mut ranked: Vec<(&str, f32)> = datasets.iter().map(|(name, score)| (*name, *score)).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    for (name, _) in ranked.iter().skip(limit) {
        datasets.remove(name);
    }
}

fn dataset_text(model: &Model, dataset: &Dataset) -> String {
    let mut text = format!("dataset {}.{}", model.name, dataset.name);
    if !dataset.description.is_empty() {
        let _ = write!(text, ": {}", dataset.description);
    }
    if !dataset.primary_key.is_empty() {
        let _ = write!(text, "\n  key: {}", dataset.primary_key.join(", "));
    }
    let columns: Vec<String> = dataset
        .fields
        .iter()
        .map(|field| {
            if field.datatype.is_empty() {
                field.name.clone()
            } else {
                format!("{} {}", field.name, field.datatype)
            }
        })
        .collect();
    let _ = write!(text, "\n  fields: {}", columns.join(", "));
    with_hints(&mut text, &dataset.hints);
    text
}

fn field_text(dataset: &Dataset, field: &Field) -> String {
    let mut text = format!("field {}.{}", dataset.name, field.name);
    if !field.datatype.is_empty() {
        let _ = write!(text, " {}", field.datatype);
    }
    if !field.unit.is_empty() {
        let _ = write!(text, " [{}]", field.unit);
    }
    if !field.description.is_empty() {
        let _ = write!(text, ": {}", field.description);
    }
    if let Some((min, max)) = &field.range {
        let _ = write!(text, " Range {min} to {max}.");
    }
    if field.nullable == Some(true) {
        text.push_str(" May be NULL.");
    }
    if !field.sample_values.is_empty() {
        let shown: Vec<&str> = field.sample_values.iter().take(12).map(String::as_str).collect();
        let more = if field.is_enum && shown.len() == field.sample_values.len() { "" } else { ", …" };
        let _ = write!(text, " Values: {}{more}.", shown.join(", "));
    }
    with_hints(&mut text, &field.hints);
    text
}

fn with_hints(text: &mut String, hints: &[String]) {
    for hint in hints {
        let _ = write!(text, "\n  hint: {hint}");
    }
}

/// Relationships on the shortest paths between each two of `names`, and the datasets that those pass through.
fn join_paths<'m>(model: &'m Model, names: &BTreeSet<&'m str>) -> (BTreeSet<usize>, BTreeSet<&'m str>) {
    let mut links = BTreeSet::new();
    let mut passing = BTreeSet::new();
    if names.len() < 2 {
        return (links, passing);
    }
    let mut neighbours: HashMap<&str, Vec<(&'m str, usize)>> = HashMap::new();
    for (position, link) in model.relationships.iter().enumerate() {
        neighbours.entry(&link.from).or_default().push((&link.to, position));
        neighbours.entry(&link.to).or_default().push((&link.from, position));
    }
    let of = |at: &str| neighbours.get(at).map_or(&[][..], Vec::as_slice);
    for start in names {
        // Breadth-first search; where several relationships join the same two datasets, all of them are kept.
        let mut previous: HashMap<&str, &'m str> = HashMap::from([(*start, *start)]);
        let mut queue = VecDeque::from([*start]);
        while let Some(at) = queue.pop_front() {
            for (next, _) in of(at) {
                if !previous.contains_key(next) {
                    previous.insert(next, at);
                    queue.push_back(next);
                }
            }
        }
        for end in names.iter().filter(|end| *end > start) {
            let mut at = *end;
            while let Some(before) = previous.get(at).copied().filter(|before| *before != at) {
                links
                    .extend(of(at).iter().filter(|(next, _)| *next == before).map(|(_, position)| *position));
                passing.insert(before);
                at = before;
            }
        }
    }
    (links, passing)
}

fn cut(mut items: Vec<LinkedItem>, budget_tokens: usize) -> Link {
    items.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| (a.kind, &a.model, &a.name).cmp(&(b.kind, &b.model, &b.name)))
    });
    items.dedup_by(|a, b| a.text == b.text);
    let all = items.len();
    let mut tokens = 0;
    let mut kept: Vec<LinkedItem> = Vec::new();
    for item in items {
        if kept.is_empty() || tokens + item.tokens <= budget_tokens {
            tokens += item.tokens;
            kept.push(item);
        }
    }
    let prompt = kept.iter().map(|item| item.text.as_str()).collect::<Vec<_>>().join("\n");
    Link { left_out: all - kept.len(), tokens, prompt, items: kept }
}
