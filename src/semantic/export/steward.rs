//! The one writer of Steward's YAML: a model as a tree in a fixed order of keys.
//!
//! Knows every key of the format, no file. X1 What is written loads as the same model. X2 Keys that hold their default
//! are left out. X3 The patterns below name every member of the model's types, so that a new key cannot be forgotten.

use std::collections::HashMap;

use super::super::model::*;
use super::super::read::quote;
use super::yaml::{Map, Yaml, scalar};

/// The version of the format that is written.
pub const VERSION: &str = "0.2.0.dev0";

/// Comments for the written file, by what they stand above.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// At the top.
    pub file: Vec<String>,
    /// By `dataset` and `dataset.field`.
    pub items: HashMap<String, Vec<String>>,
    /// By name.
    pub relationships: HashMap<String, Vec<String>>,
}

/// The YAML of a model, with the line that tells an editor the schema at `schema`, a path relative to the file.
pub fn to_yaml(model: &Model, notes: &Notes, schema: &str) -> String {
    document(model_map(model, notes), &notes.file, schema)
}

/// The same as the files of one folder, `(name, text)`: `model.yaml` alone, unless it were larger than the loader takes
/// with ease; then each list has files of its own.
pub fn to_files(model: &Model, notes: &Notes, schema: &str) -> Vec<(String, String)> {
    let whole = model_map(model, notes);
    if fits(whole.weight()) {
        return vec![("model.yaml".to_owned(), document(whole, &notes.file, schema))];
    }
    let mut files = Vec::new();
    let mut rest = Map::default();
    for (key, value) in whole.entries {
        let items = match value {
            Yaml::List(items)
                if ["datasets", "relationships", "metrics", "verified_queries"].contains(&key) =>
            {
                items
            }
            value => {
                rest.entries.push((key, value));
                continue;
            }
        };
        for (number, part) in parts(items).into_iter().enumerate() {
            let mut map = Map::default();
            map.text("name", &model.name);
            map.list(key, part);
            files.push((format!("{key}_{:03}.yaml", number + 1), document(map, &[], schema)));
        }
    }
    files.push(("model.yaml".to_owned(), document(rest, &notes.file, schema)));
    files
}

/// Whether so many values and bytes are well within what one file may hold (250,000 values, 16 MB).
fn fits((values, bytes): (usize, usize)) -> bool {
    values <= 100_000 && bytes <= 4 * 1024 * 1024
}

/// A list cut into lists that each fit a file; an item is never cut.
fn parts(items: Vec<Yaml>) -> Vec<Vec<Yaml>> {
    let mut parts: Vec<Vec<Yaml>> = Vec::new();
    let mut weight = (0, 0);
    for item in items {
        let own = item.weight();
        weight = (weight.0 + own.0, weight.1 + own.1);
        match parts.last_mut() {
            Some(part) if fits(weight) => part.push(item),
            _ => {
                weight = own;
                parts.push(vec![item]);
            }
        }
    }
    parts
}

fn document(mut map: Map, notes: &[String], schema: &str) -> String {
    map.entries.insert(0, ("version", Yaml::Text(VERSION.to_owned())));
    map.comment = vec![format!("yaml-language-server: $schema={schema}")];
    if !notes.is_empty() {
        map.comment.push(" ".to_owned());
        map.comment.extend(notes.iter().cloned());
    }
    map.to_yaml()
}

pub(super) fn model_map(model: &Model, notes: &Notes) -> Map {
    let Model {
        name,
        description,
        ai_context,
        custom_instructions,
        synonyms,
        datasets,
        relationships,
        metrics,
        verified_queries,
        custom_extensions,
        source: _,
    } = model;
    let mut map = Map::default();
    map.text("name", name);
    map.text("description", description);
    map.texts("synonyms", synonyms);
    context(&mut map, ai_context);
    map.text("custom_instructions", custom_instructions);
    map.list("datasets", maps(datasets, |dataset| dataset_map(dataset, notes)));
    map.list(
        "relationships",
        maps(relationships, |link| Map {
            comment: notes.relationships.get(&link.name).cloned().unwrap_or_default(),
            ..relationship_map(link)
        }),
    );
    map.list("metrics", maps(metrics, metric_map));
    map.list("verified_queries", maps(verified_queries, query_map));
    extensions(&mut map, custom_extensions);
    map
}

fn maps<T>(items: &[T], to_map: impl Fn(&T) -> Map) -> Vec<Yaml> {
    items.iter().map(|item| Yaml::Map(to_map(item))).collect()
}

pub(super) fn dataset_map(dataset: &Dataset, notes: &Notes) -> Map {
    let Dataset {
        name,
        relation,
        role,
        primary_key,
        unique_keys,
        description,
        ai_context,
        synonyms,
        hints,
        sensitivity,
        row_filter,
        filters,
        fields,
        custom_extensions,
        source: _,
    } = dataset;
    let mut map = Map { comment: notes.items.get(name).cloned().unwrap_or_default(), ..Map::default() };
    map.text("name", name);
    map.text("source", relation);
    map.text("role", role.map_or("", DatasetRole::as_str));
    map.texts("primary_key", primary_key);
    let keys = unique_keys.iter().map(|key| Yaml::List(key.iter().cloned().map(Yaml::Text).collect()));
    map.list("unique_keys", keys.collect());
    map.text("description", description);
    map.texts("synonyms", synonyms);
    map.texts("hints", hints);
    level(&mut map, *sensitivity);
    access(&mut map, "row_filter", row_filter.as_deref());
    context(&mut map, ai_context);
    map.list(
        "fields",
        maps(fields, |field| Map {
            comment: notes.items.get(&format!("{name}.{}", field.name)).cloned().unwrap_or_default(),
            ..field_map(field)
        }),
    );
    map.list("filters", maps(filters, filter_map));
    extensions(&mut map, custom_extensions);
    map
}

fn filter_map(filter: &NamedFilter) -> Map {
    let NamedFilter { name, description, expression, synonyms, source: _ } = filter;
    let mut map = Map::default();
    map.text("name", name);
    sql(&mut map, expression);
    map.text("description", description);
    map.texts("synonyms", synonyms);
    map
}

/// Whether a field of this type is of time unless it says otherwise.
pub(super) fn is_time_type(datatype: &str) -> bool {
    matches!(datatype, "Date" | "Time" | "DateTime" | "DateTimeTz")
}

pub(super) fn field_map(field: &Field) -> Map {
    let Field {
        name,
        expression,
        label,
        description,
        datatype,
        unit,
        range,
        nullable,
        is_enum,
        sample_values,
        synonyms,
        hints,
        sensitivity,
        mask,
        // Of a view, not of the model.
        is_masked: _,
        pii,
        is_time,
        time_grains,
        default_aggregation,
        ai_context: _,
        custom_extensions,
        source: _,
    } = field;
    let mut map = Map::default();
    map.text("name", name);
    if *expression != Expression::ansi(quote(name)) {
        sql(&mut map, expression);
    }
    map.text("label", label);
    map.text("description", description);
    map.text("datatype", datatype);
    if *is_time != is_time_type(datatype) {
        let mut dimension = Map::default();
        dimension.bare("is_time", is_time);
        map.map("dimension", dimension);
    }
    map.text("unit", unit);
    if let Some((min, max)) = range.as_deref() {
        let mut bounds = Map::default();
        for (key, bound) in [("min", min), ("max", max)] {
            if !bound.is_empty() {
                bounds.entries.push((key, scalar(bound)));
            }
        }
        map.map("range", bounds);
    }
    if let Some(nullable) = nullable {
        map.bare("nullable", nullable);
    }
    map.flag("is_enum", *is_enum);
    map.list("sample_values", sample_values.iter().map(|value| scalar(value)).collect());
    map.texts("synonyms", synonyms);
    map.texts("hints", hints);
    level(&mut map, *sensitivity);
    access(&mut map, "mask", mask.as_deref());
    map.flag("pii", *pii);
    map.texts("time_grains", time_grains);
    map.text("default_aggregation", default_aggregation);
    context(&mut map, field.ai_context());
    extensions(&mut map, custom_extensions);
    map
}

pub(super) fn relationship_map(relationship: &Relationship) -> Map {
    let Relationship {
        name,
        from,
        to,
        from_columns,
        to_columns,
        cardinality,
        description,
        hints,
        custom_extensions,
        source: _,
    } = relationship;
    let mut map = Map::default();
    map.text("name", name);
    map.text("from", from);
    map.text("to", to);
    map.texts("from_columns", from_columns);
    map.texts("to_columns", to_columns);
    map.text("cardinality", cardinality);
    map.text("description", description);
    map.texts("hints", hints);
    extensions(&mut map, custom_extensions);
    map
}

/// The expression that a ratio has without declaring one.
pub(super) fn division(over: &MetricInput, under: &MetricInput) -> Expression {
    Expression::ansi(format!("{} / NULLIF({}, 0)", quote(over.called()), quote(under.called())))
}

pub(super) fn metric_map(metric: &Metric) -> Map {
    let Metric {
        name,
        kind,
        dataset,
        expression,
        numerator,
        denominator,
        metrics,
        window,
        grain_to_date,
        filter,
        non_additive_dimension,
        time_dimension,
        fill_nulls_with,
        joins,
        description,
        datatype,
        unit,
        synonyms,
        hints,
        ai_context,
        custom_extensions,
        source: _,
    } = metric;
    let mut map = Map::default();
    map.text("name", name);
    map.text("type", kind.map_or("", MetricKind::as_str));
    map.text("dataset", dataset);
    let implied = match (numerator, denominator) {
        (Some(over), Some(under)) => *expression == division(over, under),
        _ => false,
    };
    if !implied {
        sql(&mut map, expression);
    }
    for (key, input) in [("numerator", numerator), ("denominator", denominator)] {
        if let Some(input) = input {
            map.entries.push((key, input_yaml(input)));
        }
    }
    map.list("metrics", metrics.iter().map(input_yaml).collect());
    map.text("filter", filter);
    map.text("window", &window.map(|span| span.to_string()).unwrap_or_default());
    map.text("grain_to_date", grain_to_date.map_or("", Grain::as_str));
    map.text("time_dimension", time_dimension);
    if let Some(NonAdditiveDimension { name, latest, window_groupings }) = non_additive_dimension {
        let mut dimension = Map::default();
        dimension.text("name", name);
        dimension.text("window_choice", if *latest { "max" } else { "min" });
        dimension.texts("window_groupings", window_groupings);
        map.map("non_additive_dimension", dimension);
    }
    if let Some(number) = fill_nulls_with {
        map.bare("fill_nulls_with", number);
    }
    map.texts("joins", joins);
    map.text("description", description);
    map.text("datatype", datatype);
    map.text("unit", unit);
    map.texts("synonyms", synonyms);
    map.texts("hints", hints);
    context(&mut map, ai_context);
    extensions(&mut map, custom_extensions);
    map
}

fn input_yaml(input: &MetricInput) -> Yaml {
    let MetricInput { name, alias, filter, offset_window, offset_to_grain } = input;
    if *input == MetricInput::named(name.clone()) {
        return Yaml::Text(name.clone());
    }
    let mut map = Map::default();
    map.text("name", name);
    map.text("alias", alias);
    map.text("filter", filter);
    map.text("offset_window", &offset_window.map(|span| span.to_string()).unwrap_or_default());
    map.text("offset_to_grain", offset_to_grain.map_or("", Grain::as_str));
    Yaml::Map(map)
}

fn query_map(query: &VerifiedQuery) -> Map {
    let VerifiedQuery { name, question, sql, description, verified_by, verified_at, source: _ } = query;
    let mut map = Map::default();
    map.text("name", name);
    map.text("question", question);
    map.text("sql", sql);
    map.text("description", description);
    map.text("verified_by", verified_by);
    map.text("verified_at", verified_at);
    map
}

fn sql(map: &mut Map, expression: &Expression) {
    let dialects: Vec<(&str, &str)> = expression.dialects().collect();
    match dialects.as_slice() {
        [("ANSI_SQL", text)] => map.text("expression", text),
        dialects => {
            let list = dialects.iter().map(|(dialect, text)| {
                let mut one = Map::default();
                one.text("dialect", dialect);
                one.text("expression", text);
                Yaml::Map(one)
            });
            let mut outer = Map::default();
            outer.list("dialects", list.collect());
            map.map("expression", outer);
        }
    }
}

fn access(map: &mut Map, key: &'static str, policy: Option<&Policy>) {
    if let Some(policy) = policy {
        let mut inner = Map::default();
        inner.text(key, &policy.text);
        map.map("access", inner);
    }
}

fn level(map: &mut Map, sensitivity: Sensitivity) {
    map.text(
        "sensitivity",
        match sensitivity {
            Sensitivity::Public => "",
            Sensitivity::Protected => "protected",
            Sensitivity::HighlySensitive => "highly_sensitive",
        },
    );
}

fn context(map: &mut Map, context: &AiContext) {
    let AiContext { instructions, examples } = context;
    if examples.is_empty() {
        map.text("ai_context", instructions);
        return;
    }
    let mut inner = Map::default();
    inner.text("instructions", instructions);
    inner.texts("examples", examples);
    map.map("ai_context", inner);
}

pub(super) fn extensions(map: &mut Map, extensions: &[CustomExtension]) {
    let list = extensions.iter().map(|CustomExtension { vendor_name, data }| {
        let mut one = Map::default();
        one.text("vendor_name", vendor_name);
        one.entries.push(("data", Yaml::Text(data.clone())));
        Yaml::Map(one)
    });
    map.list("custom_extensions", list.collect());
}
