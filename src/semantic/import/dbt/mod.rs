//! dbt's semantic layer: `semantic_manifest.json`, `manifest.json`, and YAML of the legacy spec (`semantic_models:`
//! with measures) and of the latest (`models:` with `semantic_model:` and simple metrics).
//!
//! Semantic models become datasets, entities keys and relationships, measures and metrics metrics. Filters are
//! templates over entities and dimensions; they become SQL over fields ([`filters`]).

mod filters;
mod metrics;
mod models;

use std::collections::HashMap;
use std::sync::Arc;

use super::columns::Columns;
use super::keys::{Keys, find, is_empty, plain};
use super::{
    ImportError, ImportOptions, Parsed, Report, blank, datatype, names, relation, source, sql, template,
};
use crate::semantic::node::{Node, Value};
use crate::semantic::*;

const VENDOR: &str = "DBT";

/// An entity of a semantic model, with the field that holds it.
#[derive(Debug)]
struct Entity {
    name: String,
    field: String,
    /// Whether a row of the semantic model is one such entity.
    is_key: bool,
}

/// What metrics and filters need to know of a semantic model beside its dataset.
#[derive(Debug, Default)]
struct Known {
    entities: Vec<Entity>,
    /// Fields by the names of dimensions.
    dimensions: HashMap<String, String>,
    agg_time_dimension: String,
    columns: Columns,
}

/// What a measure or a simple metric aggregates.
#[derive(Debug, Clone, Default)]
struct Aggregate {
    /// Position of the dataset.
    dataset: usize,
    agg: String,
    expr: String,
    percentile: Option<f64>,
    is_discrete: bool,
    time_dimension: String,
    non_additive: Option<NonAdditiveDimension>,
}

/// A measure of the legacy spec.
#[derive(Debug)]
struct Measure<'n> {
    name: String,
    aggregate: Aggregate,
    description: String,
    label: String,
    create_metric: bool,
    node: &'n Node,
    file: &'n Arc<str>,
}

/// A metric that waits until all semantic models are known, with the dataset of the model it stands in.
type Waiting<'n> = (&'n Node, &'n Arc<str>, Option<usize>);

struct Reader<'a, 'n, 'r> {
    options: &'a ImportOptions,
    report: &'r mut Report,
    model: Model,
    /// By position of the dataset.
    known: Vec<Known>,
    measures: Vec<Measure<'n>>,
    metrics: Vec<Waiting<'n>>,
    /// Entries of `models:` by name, of the legacy spec.
    documented: HashMap<String, (&'n Node, &'n Arc<str>)>,
    /// Positions of datasets by their names.
    positions: HashMap<String, usize>,
    /// dbt models that have a dataset.
    refs: HashMap<String, usize>,
    /// Datasets in which an entity is the key, by the entity's name.
    keys: HashMap<String, Vec<usize>>,
}

pub fn read(
    files: &[Parsed],
    options: &ImportOptions,
    report: &mut Report,
) -> Result<Vec<Model>, ImportError> {
    let Some(first) = files.first() else { return Ok(Vec::new()) };
    let name = options.default_name.clone().unwrap_or_else(|| "dbt".to_owned());
    let mut reader = Reader {
        options,
        report,
        model: blank::model(names::clean(&name), source(&first.name, first.root.at)),
        known: Vec::new(),
        measures: Vec::new(),
        metrics: Vec::new(),
        documented: HashMap::new(),
        positions: HashMap::new(),
        refs: HashMap::new(),
        keys: HashMap::new(),
    };
    for file in files {
        reader.file(file);
    }
    reader.document();
    reader.relationships();
    reader.all_metrics();
    Ok(vec![reader.model])
}

impl<'n> Reader<'_, 'n, '_> {
    fn file(&mut self, file: &'n Parsed) {
        self.report.file = file.name.clone();
        let Some(mut keys) = Keys::open(&file.root, "the file", self.report) else { return };
        keys.ignore(&["version", "metadata", "project_configuration"]);
        for node in items(keys.take("semantic_models")) {
            self.semantic_model(node, &file.name);
        }
        for node in items(keys.take("models")) {
            self.dbt_model(node, &file.name);
        }
        for node in items(keys.take("metrics")) {
            self.metrics.push((node, &file.name, None));
        }
        for node in items(keys.take("saved_queries")) {
            let name = find(node, "name").and_then(plain).unwrap_or_default();
            let why = "a saved query has no SQL to verify";
            let remedy = "write a verified query that answers its question";
            self.report.lost(node.at, format!("saved query `{name}`"), why, remedy);
        }
        let why = "it is no part of the semantic layer";
        let others = [
            "sources",
            "seeds",
            "snapshots",
            "macros",
            "exposures",
            "groups",
            "unit_tests",
            "tests",
            "data_tests",
            "analyses",
            "nodes",
            "docs",
            "child_map",
            "parent_map",
            "group_map",
            "selectors",
            "disabled",
            "functions",
        ];
        keys.lose(&others, why, "", self.report);
        keys.finish(self.report);
    }

    /// A description, unless dbt would have to make it.
    fn description(&mut self, keys: &mut Keys<'_>) -> String {
        let text = keys.text("description", self.report);
        if text.contains("{{") {
            let what = format!("`description: {text}` of {}", keys.what);
            self.report.lost(keys.at, what, "Jinja is not run", "write the description");
            return String::new();
        }
        text
    }

    /// What dbt's `config`, `meta` and the like say stays in an extension.
    fn extras(&mut self, keys: &mut Keys<'_>) -> Option<CustomExtension> {
        keys.ignore(&[
            "metadata",
            "unique_id",
            "fqn",
            "original_file_path",
            "path",
            "package_name",
            "checksum",
        ]);
        keys.ignore(&["resource_type", "created_at", "refs", "sources", "depends_on", "unrendered_config"]);
        let mut kept = keys.keep(&["config", "meta", "tags", "group", "docs", "latest_version"]);
        // A compiled manifest says `enabled: true` of everything.
        if let Some(config) = kept.get_mut("config").and_then(serde_json::Value::as_object_mut) {
            config.retain(|_, value| !is_nothing(value));
            if config.keys().all(|key| key == "enabled") {
                kept.remove("config");
            }
        }
        kept.retain(|key, value| !is_nothing(value) && key != "docs");
        blank::extension(VENDOR, kept)
    }

    /// One relationship for each foreign entity and each dataset in which it is the key.
    fn relationships(&mut self) {
        let mut found = Vec::new();
        let mut taken = names::Unique::default();
        for (position, known) in self.known.iter().enumerate() {
            let dataset = &self.model.datasets[position];
            for entity in &known.entities {
                for other in self.keys.get(&entity.name).into_iter().flatten().copied() {
                    // Two keys of one entity join once, from the first to the second.
                    if other == position || (entity.is_key && other < position) {
                        continue;
                    }
                    let target = self.known[other]
                        .entities
                        .iter()
                        .find(|known| known.is_key && known.name == entity.name);
                    let Some(target) = target else { continue };
                    let to = &self.model.datasets[other];
                    let name = taken.take(&format!("{}_to_{}", dataset.name, to.name));
                    let mut relationship = blank::relationship(
                        name,
                        dataset.name.clone(),
                        to.name.clone(),
                        dataset.source.clone(),
                    );
                    relationship.from_columns = vec![entity.field.clone()];
                    relationship.to_columns = vec![target.field.clone()];
                    let cardinality = if entity.is_key { "one_to_one" } else { "many_to_one" };
                    relationship.cardinality = cardinality.to_owned();
                    found.push(relationship);
                }
            }
        }
        self.model.relationships = found;
    }
}

fn is_nothing(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::String(text) => text.is_empty(),
        serde_json::Value::Array(items) => items.is_empty(),
        serde_json::Value::Object(map) => map.values().all(is_nothing),
        _ => false,
    }
}

/// The items of a list, or the values of a mapping, as `manifest.json` has them.
fn items(node: Option<&Node>) -> impl Iterator<Item = &Node> {
    let (list, map) = match node.map(|node| &node.value) {
        Some(Value::Sequence(items)) => (items.as_slice(), [].as_slice()),
        Some(Value::Mapping(entries)) => ([].as_slice(), entries.as_slice()),
        _ => ([].as_slice(), [].as_slice()),
    };
    list.iter().chain(map.iter().map(|entry| &entry.value))
}
