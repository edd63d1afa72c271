//! Snowflake: semantic models of Cortex Analyst, and semantic views, which have the same YAML with some more keys.
//!
//! Dimensions, time dimensions, facts and measures become fields; measures that aggregate by themselves become
//! metrics. A measure with a default aggregation stays a field: verified queries aggregate it themselves.

use std::collections::{HashMap, HashSet};

use serde_json::Map as Json;

use super::keys::{Keys, plain};
use super::{ImportError, ImportOptions, Parsed, Report, blank, datatype, names, relation, source, sql};
use crate::semantic::node::{Node, Value};
use crate::semantic::*;

const VENDOR: &str = "SNOWFLAKE";

pub fn read(
    files: &[Parsed],
    options: &ImportOptions,
    report: &mut Report,
) -> Result<Vec<Model>, ImportError> {
    let mut models = Vec::new();
    for file in files {
        report.file = file.name.clone();
        // Tools wrap the document in one key.
        let root = match &file.root.value {
            Value::Mapping(entries) if entries.len() == 1 && entries[0].key.starts_with("semantic_") => {
                &entries[0].value
            }
            _ => &file.root,
        };
        let Some(keys) = Keys::open(root, "the file", report) else { continue };
        models.push(Reader { file, options, report }.model(keys));
    }
    Ok(models)
}

struct Reader<'a, 'r> {
    file: &'a Parsed,
    options: &'a ImportOptions,
    report: &'r mut Report,
}

impl Reader<'_, '_> {
    fn source(&self, at: Position) -> Source {
        source(&self.file.name, at)
    }

    fn model(mut self, mut keys: Keys<'_>) -> Model {
        let report = &mut *self.report;
        let name = match keys.text("name", report) {
            name if name.is_empty() => self.options.default_name.clone().unwrap_or_else(|| "cortex".into()),
            name => name,
        };
        keys.what = format!("model `{name}`");
        let mut model = blank::model(name, source(&self.file.name, keys.at));
        model.description = keys.text("description", report);
        let mut instructions = vec![keys.text("custom_instructions", report)];
        if let Some(node) = keys.take("module_custom_instructions")
            && let Some(mut module) = Keys::open(node, "`module_custom_instructions`", report)
        {
            for part in ["sql_generation", "question_categorization"] {
                instructions.push(module.text(part, report));
            }
            module.finish(report);
        }
        instructions.retain(|text| !text.is_empty());
        model.custom_instructions = instructions.join("\n\n");
        model.custom_extensions.extend(blank::extension(VENDOR, keys.keep(&["tags", "comment"])));
        let (tables, relationships) = (keys.list("tables", report), keys.list("relationships", report));
        let (metrics, queries) = (keys.list("metrics", report), keys.list("verified_queries", report));
        keys.finish(report);
        let mut inner = Vec::new();
        for node in tables {
            if let Some(dataset) = self.table(node, &mut inner) {
                model.datasets.push(dataset);
            }
        }
        self.metrics(&mut model, &inner, metrics);
        for node in relationships {
            model.relationships.extend(self.relationship(node));
        }
        for (number, node) in queries.iter().enumerate() {
            model.verified_queries.extend(self.query(node, number + 1));
        }
        model
    }

    /// A logical table. Metrics of it go into `metrics`, as nodes, until all tables are known.
    fn table<'n>(&mut self, node: &'n Node, metrics: &mut Vec<(String, &'n Node)>) -> Option<Dataset> {
        let (mut keys, name) = Keys::named(node, "table", self.report)?;
        let name = names::clean(&name);
        let mut kept = Json::new();
        let relation = self.base_table(&mut keys, &name, &mut kept);
        let mut dataset = blank::dataset(name, relation, self.source(node.at));
        dataset.description = keys.text("description", self.report);
        dataset.synonyms = keys.texts("synonyms", self.report);
        dataset.primary_key = self.key_columns(keys.take("primary_key"));
        let unique = keys.list("unique_keys", self.report);
        dataset.unique_keys = unique.iter().map(|node| self.key_columns(Some(node))).collect();
        kept.extend(keys.keep(&["tags", "labels"]));
        for (list, kind) in [
            ("dimensions", Column::Dimension),
            ("time_dimensions", Column::Time),
            ("facts", Column::Fact),
            ("measures", Column::Fact),
            ("columns", Column::Any),
        ] {
            for node in keys.list(list, self.report) {
                if let Some(node) = self.column(&mut dataset, node, kind) {
                    metrics.push((dataset.name.clone(), node));
                }
            }
        }
        metrics.extend(keys.list("metrics", self.report).iter().map(|node| (dataset.name.clone(), node)));
        for node in keys.list("filters", self.report) {
            dataset.filters.extend(self.filter(node));
        }
        dataset.custom_extensions.extend(blank::extension(VENDOR, kept));
        keys.finish(self.report);
        Some(dataset)
    }

    fn base_table(
        &mut self,
        keys: &mut Keys<'_>,
        name: &str,
        kept: &mut Json<String, serde_json::Value>,
    ) -> String {
        let Some(node) = keys.take("base_table") else {
            self.report.lost(keys.at, keys.what.clone(), "it has no base_table", "set `source` by hand");
            return relation("", "", name, self.options);
        };
        let Some(mut base) = Keys::open(node, format!("base_table of {}", keys.what), self.report) else {
            return relation("", "", name, self.options);
        };
        let [database, schema, table] =
            ["database", "schema", "table"].map(|key| base.text(key, self.report));
        let query = base.any_text(&["definition", "sql"], self.report);
        base.finish(self.report);
        if table.is_empty() {
            let why = "it is a query, and Steward's datasets are tables or views";
            let remedy = "create a view of this query (kept in custom_extensions) and set `source`";
            self.report.lost(node.at, format!("the base table of {}", keys.what), why, remedy);
            kept.insert("definition".to_owned(), query.into());
            return relation(&database, &schema, name, self.options);
        }
        relation(&database, &schema, &table, self.options)
    }

    fn key_columns(&mut self, node: Option<&Node>) -> Vec<String> {
        match node.map(|node| &node.value) {
            Some(Value::Sequence(items)) => items.iter().filter_map(plain).collect(),
            Some(Value::Mapping(_)) => {
                let Some(mut keys) = node.and_then(|node| Keys::open(node, "a key", self.report)) else {
                    return Vec::new();
                };
                let columns = keys.texts("columns", self.report);
                keys.finish(self.report);
                columns
            }
            _ => Vec::new(),
        }
    }

    /// A dimension, fact or measure as a field; gives the node back if it is a metric.
    fn column<'n>(&mut self, dataset: &mut Dataset, node: &'n Node, kind: Column) -> Option<&'n Node> {
        let (mut keys, name) = Keys::named(node, kind.word(), self.report)?;
        keys.what = format!("{} `{}.{name}`", kind.word(), dataset.name);
        let text = match keys.text("expr", self.report) {
            text if text.is_empty() => sql::identifier(&name),
            text => text,
        };
        let kind = match (kind, keys.text("kind", self.report).as_str()) {
            (Column::Any, "measure" | "fact") => Column::Fact,
            (Column::Any, "time_dimension") => Column::Time,
            (kind, _) => kind,
        };
        let aggregates = parse_expression(&text).is_ok_and(|expr| sql::is_aggregate(&expr));
        if kind == Column::Fact && aggregates {
            return Some(node);
        }
        let mut field = blank::field(names::clean(&name), expression(&text), self.source(node.at));
        field.description = keys.text("description", self.report).into();
        field.synonyms = compact(keys.texts("synonyms", self.report));
        field.sample_values = compact(keys.texts("sample_values", self.report));
        field.is_enum = keys.flag("is_enum", self.report).unwrap_or(false);
        let type_name = keys.text("data_type", self.report);
        field.datatype = datatype(&type_name).into();
        let is_time_type = matches!(field.datatype.as_str(), "Date" | "Time" | "DateTime" | "DateTimeTz");
        field.is_time = kind == Column::Time || (kind == Column::Any && is_time_type);
        if field.datatype.is_empty() && !type_name.is_empty() {
            let what = format!("`data_type: {type_name}` of {}", keys.what);
            self.report.lost(keys.at, what, "Ossie has no such type", "set `datatype`");
        }
        if kind == Column::Fact {
            let aggregation = keys.text("default_aggregation", self.report).to_lowercase();
            match aggregation.as_str() {
                "sum" | "avg" | "min" | "max" | "count" | "count_distinct" | "median" => {
                    field.default_aggregation = aggregation.into();
                }
                "" => {}
                other => {
                    let what = format!("`default_aggregation: {other}` of {}", keys.what);
                    self.report.lost(keys.at, what, "Steward has no such aggregation", "write a metric");
                }
            }
        }
        if keys.flag("unique", self.report) == Some(true) && dataset.primary_key != [field.name.clone()] {
            dataset.unique_keys.push(vec![field.name.clone()]);
        }
        self.access(&mut keys);
        let kept = keys.keep(&["cortex_search_service", "cortex_search_service_name", "tags", "labels"]);
        field.custom_extensions.extend(blank::extension(VENDOR, kept));
        keys.finish(self.report);
        dataset.fields.push(field);
        None
    }

    /// What is private in Snowflake must not become public without a word.
    fn access(&mut self, keys: &mut Keys<'_>) {
        if keys.text("access_modifier", self.report) == "private_access" {
            let what = format!("`access_modifier: private_access` of {}", keys.what);
            let why = "Steward hides by clearance, not by part of a model";
            self.report.lost(keys.at, what, why, "set `sensitivity`, or delete it");
        }
    }

    fn filter(&mut self, node: &Node) -> Option<NamedFilter> {
        let (mut keys, name) = Keys::named(node, "filter", self.report)?;
        let filter = NamedFilter {
            name: names::clean(&name),
            description: keys.text("description", self.report),
            expression: expression(&keys.text("expr", self.report)),
            synonyms: keys.texts("synonyms", self.report),
            source: self.source(node.at),
        };
        keys.ignore(&["labels"]);
        keys.finish(self.report);
        Some(filter)
    }

    /// Metrics of tables, which `table.metric` names, and derived metrics of the model.
    fn metrics(&mut self, model: &mut Model, inner: &[(String, &Node)], derived: &[Node]) {
        let name_of = |node: &Node| match &node.value {
            Value::Mapping(entries) => {
                let entry = entries.iter().find(|entry| entry.key == "name")?;
                plain(&entry.value).map(|name| names::clean(&name))
            }
            _ => None,
        };
        // Two tables may have a metric of the same name; in Steward, a name is the model's.
        let mut counts: HashMap<String, usize> = HashMap::new();
        for node in inner.iter().map(|(_, node)| *node).chain(derived) {
            *counts.entry(name_of(node).unwrap_or_default().to_lowercase()).or_default() += 1;
        }
        let mut given: HashMap<(String, String), String> = HashMap::new();
        for (table, node) in inner {
            let Some(name) = name_of(node) else { continue };
            let is_shared = counts.get(&name.to_lowercase()).is_some_and(|count| *count > 1);
            let new = if is_shared { format!("{table}_{name}") } else { name.clone() };
            given.insert((table.to_lowercase(), name.to_lowercase()), new);
        }
        for (table, node) in inner {
            model.metrics.extend(self.metric(node, Some(table), &given));
        }
        for node in derived {
            model.metrics.extend(self.metric(node, None, &given));
        }
    }

    fn metric(
        &mut self,
        node: &Node,
        table: Option<&str>,
        given: &HashMap<(String, String), String>,
    ) -> Option<Metric> {
        let (mut keys, name) = Keys::named(node, "metric", self.report)?;
        let clean = names::clean(&name);
        let known = |table: &str, name: &str| given.get(&(table.to_lowercase(), name.to_lowercase()));
        let name = table.and_then(|table| known(table, &clean)).cloned().unwrap_or_else(|| clean.clone());
        if name != clean {
            self.report.changed(
                keys.at,
                keys.what.clone(),
                format!("it is called `{name}` now, since another table has such a metric"),
                "",
            );
        }
        let text = keys.text("expr", self.report);
        if text.is_empty() {
            self.report.lost(keys.at, keys.what.clone(), "it has no expr", "");
            return None;
        }
        let mut inputs: HashSet<String> = HashSet::new();
        let mut others = false;
        let named = sql::with_columns(&text, |qualifier, column| {
            let found = known(qualifier.or(table)?, column).filter(|found| **found != name);
            match found {
                Some(found) => {
                    inputs.insert(found.clone());
                    Some(sql::identifier(found))
                }
                None => {
                    others |= qualifier.is_some();
                    None
                }
            }
        });
        let mut metric = blank::metric(name, expression(&text), self.source(node.at));
        match named {
            Ok(named) if !inputs.is_empty() => {
                metric.kind = Some(MetricKind::Derived);
                metric.expression = expression(&named);
                let mut inputs: Vec<String> = inputs.into_iter().collect();
                inputs.sort();
                metric.metrics = inputs.into_iter().map(MetricInput::named).collect();
            }
            _ => metric.dataset = table.unwrap_or_default().to_owned(),
        }
        metric.description = keys.text("description", self.report);
        metric.synonyms = keys.texts("synonyms", self.report);
        metric.joins =
            keys.texts("using_relationships", self.report).iter().map(|name| names::clean(name)).collect();
        metric.datatype = datatype(&keys.text("data_type", self.report)).to_owned();
        // Of measures that turned out to be metrics: they aggregate already.
        keys.ignore(&["default_aggregation", "kind"]);
        let additive = keys.list("non_additive_dimensions", self.report);
        if let [node, rest @ ..] = additive {
            metric.non_additive_dimension = self.non_additive(node, &keys.what);
            for node in rest {
                let what = format!("a further non-additive dimension of {}", keys.what);
                self.report.lost(node.at, what, "Steward has one a metric", "");
            }
        }
        self.access(&mut keys);
        let kept = keys.keep(&["tags", "labels", "sample_values"]);
        metric.custom_extensions.extend(blank::extension(VENDOR, kept));
        keys.finish(self.report);
        Some(metric)
    }

    fn non_additive(&mut self, node: &Node, what: &str) -> Option<NonAdditiveDimension> {
        let mut keys = Keys::open(node, format!("the non-additive dimension of {what}"), self.report)?;
        let (table, dimension) = (keys.text("table", self.report), keys.text("dimension", self.report));
        let name = names::clean(&dimension);
        let descending = keys.text("sort_direction", self.report).to_lowercase().starts_with("desc");
        keys.ignore(&["null_order", "nulls_position"]);
        keys.finish(self.report);
        let name = if table.is_empty() { name } else { format!("{}.{name}", names::clean(&table)) };
        // Snowflake sorts and takes the last row: ascending gives the latest.
        (!dimension.is_empty()).then_some(NonAdditiveDimension {
            name,
            latest: !descending,
            window_groupings: Vec::new(),
        })
    }

    fn relationship(&mut self, node: &Node) -> Option<Relationship> {
        let (mut keys, name) = Keys::named(node, "relationship", self.report)?;
        let [left, right] =
            ["left_table", "right_table"].map(|key| names::clean(&keys.text(key, self.report)));
        let mut relationship = blank::relationship(names::clean(&name), left, right, self.source(node.at));
        for node in keys.list("relationship_columns", self.report) {
            let Some(mut pair) = Keys::open(node, format!("columns of {}", keys.what), self.report) else {
                continue;
            };
            relationship.from_columns.push(pair.text("left_column", self.report));
            relationship.to_columns.push(pair.text("right_column", self.report));
            pair.finish(self.report);
        }
        relationship.description = keys.text("description", self.report);
        match keys.text("relationship_type", self.report).to_lowercase().as_str() {
            "one_to_many" => {
                std::mem::swap(&mut relationship.from, &mut relationship.to);
                std::mem::swap(&mut relationship.from_columns, &mut relationship.to_columns);
                relationship.cardinality = "many_to_one".to_owned();
            }
            kind @ ("many_to_one" | "one_to_one" | "many_to_many") => {
                relationship.cardinality = kind.to_owned();
            }
            "" => {}
            other => {
                let what = format!("`relationship_type: {other}` of {}", keys.what);
                self.report.lost(keys.at, what, "Steward has no such cardinality", "");
            }
        }
        match keys.text("join_type", self.report).to_lowercase().as_str() {
            "" | "left_outer" | "left" => {}
            other => {
                let what = format!("`join_type: {other}` of {}", keys.what);
                let why = "in Steward, the rows of the many side always stay";
                self.report.lost(keys.at, what, why, "put a condition into metrics or queries that need it");
            }
        }
        keys.finish(self.report);
        Some(relationship)
    }

    fn query(&mut self, node: &Node, number: usize) -> Option<VerifiedQuery> {
        let mut keys = Keys::open(node, format!("verified query {number}"), self.report)?;
        let name = match keys.text("name", self.report) {
            name if name.is_empty() => format!("query {number}"),
            name => names::clean(&name),
        };
        keys.what = format!("verified query `{name}`");
        let verified_at = keys.text("verified_at", self.report);
        let query = VerifiedQuery {
            name,
            question: keys.text("question", self.report),
            sql: keys.text("sql", self.report),
            description: keys.text("description", self.report),
            verified_by: keys.text("verified_by", self.report),
            verified_at: epoch_date(&verified_at),
            source: self.source(node.at),
        };
        keys.ignore(&["use_as_onboarding_question", "semantic_model_name"]);
        keys.finish(self.report);
        Some(query)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Dimension,
    Time,
    Fact,
    /// Of the old format, which says `kind` in each.
    Any,
}

impl Column {
    fn word(self) -> &'static str {
        match self {
            Self::Dimension => "dimension",
            Self::Time => "time dimension",
            Self::Fact => "measure",
            Self::Any => "column",
        }
    }
}

/// SQL that only Snowflake reads is marked as its own; the rest is everybody's.
fn expression(text: &str) -> Expression {
    let own = text.contains(':').then(|| vec![("SNOWFLAKE".to_owned(), text.to_owned())]);
    own.and_then(Expression::new).unwrap_or_else(|| Expression::ansi(text))
}

/// Seconds since 1970 as an instant in UTC; any other text as it is.
fn epoch_date(text: &str) -> String {
    text.parse()
        .ok()
        .and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0))
        .map_or_else(|| text.to_owned(), |at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
