//! A model as a strict Ossie document: what Ossie has no key for goes into `custom_extensions`, vendor STEWARD.
//!
//! O1 The document is valid by Ossie's JSON Schema. O2 Nothing is lost: an extension's `data` is a JSON object of the
//! very keys of Steward's YAML that the thing has besides Ossie's, and `import::ossie` puts them back.

use super::super::format::OSSIE_DIALECTS;
use super::super::model::*;
use super::steward::{self, Notes, VERSION};
use super::yaml::{Map, Yaml};

/// Vendor name of our extensions.
pub const VENDOR: &str = "STEWARD";

/// The document in the root form; `to_yaml` and `to_json` of the result write it.
pub fn to_ossie(model: &Model) -> Map {
    let notes = Notes::default();
    let mut map = Map::default();
    map.entries.push(("version", Yaml::Text(VERSION.to_owned())));
    let whole = steward::model_map(model, &notes);
    let mut parts = Parts::new(whole, &["name", "description"]);
    parts.drop(&["datasets", "relationships", "metrics"]);
    map.entries.append(&mut parts.kept.entries);
    parts.context(&mut map, &model.ai_context, &model.synonyms);
    let list = |items: Vec<Map>| items.into_iter().map(Yaml::Map).collect();
    map.list("datasets", list(model.datasets.iter().map(|dataset| of_dataset(dataset, &notes)).collect()));
    map.list("relationships", list(model.relationships.iter().map(of_relationship).collect()));
    map.list("metrics", list(model.metrics.iter().map(of_metric).collect()));
    parts.extensions(&mut map, &model.custom_extensions);
    map
}

fn of_dataset(dataset: &Dataset, notes: &Notes) -> Map {
    let native = &["name", "source", "primary_key", "unique_keys", "description"];
    let mut parts = Parts::new(steward::dataset_map(dataset, notes), native);
    parts.drop(&["fields"]);
    let mut map = std::mem::take(&mut parts.kept);
    parts.context(&mut map, &dataset.ai_context, &dataset.synonyms);
    map.list("fields", dataset.fields.iter().map(|field| Yaml::Map(of_field(field))).collect());
    parts.extensions(&mut map, &dataset.custom_extensions);
    map
}

fn of_field(field: &Field) -> Map {
    let native = &["name", "label", "description", "datatype", "dimension"];
    let mut parts = Parts::new(steward::field_map(field), native);
    let mut map = std::mem::take(&mut parts.kept);
    parts.expression(&mut map, &field.expression);
    parts.context(&mut map, field.ai_context(), &field.synonyms);
    parts.extensions(&mut map, &field.custom_extensions);
    map
}

fn of_relationship(relationship: &Relationship) -> Map {
    let native = &["name", "from", "to", "from_columns", "to_columns"];
    let mut parts = Parts::new(steward::relationship_map(relationship), native);
    let mut map = std::mem::take(&mut parts.kept);
    parts.extensions(&mut map, &relationship.custom_extensions);
    map
}

fn of_metric(metric: &Metric) -> Map {
    let mut parts = Parts::new(steward::metric_map(metric), &["name", "description", "datatype"]);
    let mut map = std::mem::take(&mut parts.kept);
    parts.expression(&mut map, &metric.expression);
    parts.context(&mut map, &metric.ai_context, &metric.synonyms);
    parts.extensions(&mut map, &metric.custom_extensions);
    map
}

/// The keys of one thing: those that Ossie has as they are, and the rest.
struct Parts {
    kept: Map,
    extra: Map,
}

impl Parts {
    fn new(map: Map, native: &[&str]) -> Self {
        let (kept, extra) = map.entries.into_iter().partition(|(key, _)| native.contains(key));
        let whole = |entries| Map { entries, comment: Vec::new() };
        let mut parts = Self { kept: whole(kept), extra: whole(extra) };
        parts.drop(&["synonyms", "ai_context", "custom_extensions"]);
        parts
    }

    /// Forgets extra keys that are written in another way.
    fn drop(&mut self, keys: &[&str]) {
        self.extra.entries.retain(|(key, _)| !keys.contains(key));
    }

    fn expression(&mut self, map: &mut Map, expression: &Expression) {
        let is_ossie = |dialect: &str| OSSIE_DIALECTS.contains(&dialect);
        let mut dialects: Vec<(&str, &str)> =
            expression.dialects().filter(|(dialect, _)| is_ossie(dialect)).collect();
        if dialects.len() == expression.dialects().count() {
            self.drop(&["expression"]);
        }
        if dialects.is_empty() {
            dialects.push(("ANSI_SQL", expression.text()));
        }
        let list = dialects.into_iter().map(|(dialect, text)| {
            let mut one = Map::default();
            one.text("dialect", dialect);
            one.entries.push(("expression", Yaml::Text(text.to_owned())));
            Yaml::Map(one)
        });
        let mut outer = Map::default();
        outer.list("dialects", list.collect());
        map.map("expression", outer);
    }

    fn context(&mut self, map: &mut Map, context: &AiContext, synonyms: &[impl AsRef<str>]) {
        if synonyms.is_empty() && context.examples.is_empty() {
            map.text("ai_context", &context.instructions);
            return;
        }
        let mut inner = Map::default();
        inner.text("instructions", &context.instructions);
        inner.texts("synonyms", synonyms);
        inner.texts("examples", &context.examples);
        map.map("ai_context", inner);
    }

    /// The extensions that were there, and ours; what an earlier export left under our name is brought up to date.
    fn extensions(self, map: &mut Map, there: &[CustomExtension]) {
        let mut ours = serde_json::Map::new();
        let mut list = Vec::new();
        for extension in there {
            match serde_json::from_str(&extension.data) {
                Ok(serde_json::Value::Object(data)) if extension.vendor_name == VENDOR => ours.extend(data),
                _ => list.push(extension.clone()),
            }
        }
        if let serde_json::Value::Object(extra) = self.extra.to_json() {
            ours.extend(extra);
        }
        if !ours.is_empty() {
            let data = serde_json::Value::Object(ours).to_string();
            list.push(CustomExtension { vendor_name: VENDOR.to_owned(), data });
        }
        steward::extensions(map, &list);
    }
}
