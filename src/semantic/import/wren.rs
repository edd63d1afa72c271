//! Wren's Modeling Definition Language: `mdl.json`, in the camel case of the engine or the snake case of its tools.
//!
//! Calculated columns over their own row become fields; those that aggregate along a relationship become metrics.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Map as Json;

use super::keys::{Keys, find, is_empty, plain};
use super::{
    ImportError, ImportOptions, Parsed, Report, blank, datatype, names, relation, relation_parts, source, sql,
};
use crate::semantic::node::{Node, Value};
use crate::semantic::*;

const VENDOR: &str = "WREN";

pub fn read(
    files: &[Parsed],
    options: &ImportOptions,
    report: &mut Report,
) -> Result<Vec<Model>, ImportError> {
    let mut models = Vec::new();
    for file in files {
        report.file = file.name.clone();
        let Some(keys) = Keys::open(&file.root, "the manifest", report) else { continue };
        let targets = targets(&file.root);
        let reader = Reader { file, options, report, enums: HashMap::new(), targets };
        models.push(reader.manifest(keys));
    }
    Ok(models)
}

struct Reader<'a, 'r> {
    file: &'a Parsed,
    options: &'a ImportOptions,
    report: &'r mut Report,
    /// Values of the enums, by name.
    enums: HashMap<String, Vec<String>>,
    /// What a name in an expression leads to, in lower case: a model by its own name, or by that of a column that
    /// stands for a relationship.
    targets: HashMap<String, String>,
}

impl Reader<'_, '_> {
    fn source(&self, at: Position) -> Source {
        source(&self.file.name, at)
    }

    fn manifest(mut self, mut keys: Keys<'_>) -> Model {
        let catalog = keys.text("catalog", self.report);
        let schema = keys.text("schema", self.report);
        let name = [&catalog, &schema].into_iter().find(|name| !name.is_empty()).cloned();
        let name = self.options.default_name.clone().or(name).unwrap_or_else(|| "wren".to_owned());
        let mut model = blank::model(names::clean(&name), self.source(keys.at));
        let kept = keys.keep(&["dataSource", "data_source", "layoutVersion", "dateSpine"]);
        model.custom_extensions.extend(blank::extension(VENDOR, kept));
        keys.ignore(&["$schema", "version"]);
        for node in keys.list("enumDefinitions", self.report) {
            self.definition(node);
        }
        let nodes = keys.list("models", self.report);
        let mut calculated = Vec::new();
        for node in nodes {
            model.datasets.extend(self.model(node, &mut calculated));
        }
        for node in keys.list("relationships", self.report) {
            model.relationships.extend(self.relationship(node));
        }
        for (dataset, node) in calculated {
            model.metrics.extend(self.calculated(&dataset, node));
        }
        for node in keys.list("metrics", self.report) {
            self.metric(&mut model, node);
        }
        for node in keys.list("cumulativeMetrics", self.report) {
            self.cumulative(&mut model, node);
        }
        for node in keys.list("views", self.report) {
            self.view(&mut model, node);
        }
        let why = "Steward has no macros";
        keys.lose(&["macros"], why, "write out what they make in the expressions that use them", self.report);
        keys.finish(self.report);
        model
    }

    fn definition(&mut self, node: &Node) {
        let Some((mut keys, name)) = Keys::named(node, "enum", self.report) else { return };
        let mut values = Vec::new();
        for node in keys.list("values", self.report) {
            if let Some(value) = plain(node) {
                values.push(value);
            } else if let Some(mut value) = Keys::open(node, format!("a value of {}", keys.what), self.report)
            {
                let name = value.text("name", self.report);
                let text = value.text("value", self.report);
                values.push(if text.is_empty() { name } else { text });
                value.ignore(&["properties"]);
                value.finish(self.report);
            }
        }
        keys.ignore(&["description", "properties"]);
        keys.finish(self.report);
        self.enums.insert(name, values);
    }

    fn model<'n>(&mut self, node: &'n Node, calculated: &mut Vec<(String, &'n Node)>) -> Option<Dataset> {
        let (mut keys, name) = Keys::named(node, "model", self.report)?;
        let clean = names::clean(&name);
        let mut kept = Json::new();
        let relation = self.relation(&mut keys, &clean, &mut kept);
        let mut dataset = blank::dataset(clean, relation, self.source(node.at));
        dataset.primary_key = keys.texts("primaryKey", self.report);
        self.properties(&mut keys, &mut dataset.description, &mut dataset.synonyms, &mut kept);
        for node in keys.list("columns", self.report) {
            if let Some(node) = self.column(&mut dataset, node) {
                calculated.push((dataset.name.clone(), node));
            }
        }
        let why = "Steward's row filters are written by hand: a filter that is only nearly the same would be a hole";
        let remedy = "nobody sees a row until you put it in the place of `FALSE` under `access`";
        if keys.lose(&["rowLevelAccessControls", "columnLevelAccessControl"], why, remedy, self.report) {
            // What was guarded there is not open here for want of a translation.
            dataset.row_filter = Some(Arc::new(Policy::new("FALSE".to_owned(), self.source(node.at))));
        }
        keys.ignore(&["cached", "refreshTime"]);
        dataset.custom_extensions.extend(blank::extension(VENDOR, kept));
        keys.finish(self.report);
        Some(dataset)
    }

    /// Where a model's rows are. A query is kept, and a view of the model's name stands for it.
    fn relation(
        &mut self,
        keys: &mut Keys<'_>,
        name: &str,
        kept: &mut Json<String, serde_json::Value>,
    ) -> String {
        let query = keys.any_text(&["refSql", "ref_sql"], self.report);
        let base = keys.any_text(&["baseObject", "base_object"], self.report);
        let reference = keys.any(&["tableReference", "table_reference"]).filter(|node| !is_empty(node));
        if let Some(node) = reference {
            if let Some(parts) = plain(node).as_deref().and_then(relation_parts) {
                return relation(&parts[0], &parts[1], &parts[2], self.options);
            }
            if let Some(mut table) = Keys::open(node, format!("tableReference of {}", keys.what), self.report)
            {
                let [catalog, schema, table_name] =
                    ["catalog", "schema", "table"].map(|key| table.text(key, self.report));
                table.finish(self.report);
                return relation(&catalog, &schema, &table_name, self.options);
            }
        }
        let text = if query.is_empty() { base } else { query };
        // `SELECT * FROM table` says no more than the table's name.
        let words: Vec<&str> = text.trim_end_matches(';').split_whitespace().collect();
        if let [select, "*", from, table] = words.as_slice()
            && select.eq_ignore_ascii_case("select")
            && from.eq_ignore_ascii_case("from")
            && let Some(parts) = relation_parts(table)
        {
            return relation(&parts[0], &parts[1], &parts[2], self.options);
        }
        let why = match text.is_empty() {
            true => "it names no table",
            false => "its rows come from a query, and Steward's datasets are tables or views",
        };
        let remedy = "create a view of the query (kept in custom_extensions) and set `source`";
        self.report.lost(keys.at, format!("the source of {}", keys.what), why, remedy);
        if !text.is_empty() {
            kept.insert("refSql".to_owned(), text.into());
        }
        relation("", "", name, self.options)
    }

    /// Descriptions and display names stand in `properties`, beside whatever else people put there.
    fn properties(
        &mut self,
        keys: &mut Keys<'_>,
        description: &mut String,
        synonyms: &mut Vec<String>,
        kept: &mut Json<String, serde_json::Value>,
    ) {
        *description = keys.text("description", self.report);
        let mut display = vec![keys.any_text(&["displayName", "display_name"], self.report)];
        if let Some(node) = keys.take("properties").filter(|node| !is_empty(node))
            && let Some(mut properties) =
                Keys::open(node, format!("properties of {}", keys.what), self.report)
        {
            let text = properties.text("description", self.report);
            if description.is_empty() {
                *description = text;
            }
            display.push(properties.any_text(&["displayName", "display_name", "alias"], self.report));
            let rest = properties.keep_rest();
            if !rest.is_empty() {
                kept.insert("properties".to_owned(), serde_json::Value::Object(rest));
            }
            properties.finish(self.report);
        }
        display.retain(|name| !name.is_empty());
        display.dedup();
        synonyms.extend(display);
    }

    /// A column as a field; gives the node back if it aggregates. Columns that stand for relationships say nothing
    /// that the relationships don't.
    fn column<'n>(&mut self, dataset: &mut Dataset, node: &'n Node) -> Option<&'n Node> {
        let (mut keys, name) = Keys::named(node, "column", self.report)?;
        keys.what = format!("column `{}.{name}`", dataset.name);
        let type_name = keys.text("type", self.report);
        if !keys.text("relationship", self.report).is_empty() && !keys.has("expression") {
            return None;
        }
        let text = match keys.text("expression", self.report) {
            text if text.is_empty() => sql::identifier(&name),
            text => text,
        };
        let parsed = parse_expression(&text).ok();
        let follows = parsed
            .as_ref()
            .map(columns_of)
            .is_some_and(|columns| columns.iter().any(|(qualifier, _)| qualifier.is_some()));
        if parsed.as_ref().is_some_and(sql::is_aggregate) {
            return Some(node);
        }
        if follows {
            let what = format!("{} = {text}", keys.what);
            let why = "it follows a relationship, and Steward's fields see their own table only";
            self.report.lost(keys.at, what, why, "query the field of the other dataset; the join is known");
            return None;
        }
        let mut field = blank::field(names::clean(&name), Expression::ansi(text), self.source(node.at));
        let mut kept = Json::new();
        let (mut description, mut synonyms) = (String::new(), Vec::new());
        self.properties(&mut keys, &mut description, &mut synonyms, &mut kept);
        (field.description, field.synonyms) = (description.into(), compact(synonyms));
        field.nullable = keys.any(&["notNull", "not_null"]).and_then(|node| match node.value {
            Value::Bool(true) => Some(false),
            _ => None,
        });
        if let Some(values) = self.enums.get(&type_name) {
            field.datatype = "String".into();
            field.sample_values = compact(values);
            field.is_enum = !values.is_empty();
        } else {
            field.datatype = datatype(&type_name).into();
            if field.datatype.is_empty() && !type_name.is_empty() {
                let what = format!("`type: {type_name}` of {}", keys.what);
                self.report.lost(keys.at, what, "Ossie has no such type", "set `datatype`");
            }
        }
        field.is_time = matches!(field.datatype.as_str(), "Date" | "Time" | "DateTime" | "DateTimeTz");
        if keys.any(&["isHidden", "is_hidden"]).is_some_and(|node| matches!(node.value, Value::Bool(true))) {
            let what = format!("`isHidden` of {}", keys.what);
            self.report.lost(keys.at, what, "Steward hides by clearance", "set `sensitivity`, or delete it");
        }
        let why = "Steward's masks are written by hand: one that is only nearly the same would be a hole";
        let access = ["columnLevelAccessControl", "rowLevelAccessControls"];
        let remedy = "write it under `access`, and lower the `sensitivity`, which is the highest until then";
        if keys.lose(&access, why, remedy, self.report) {
            field.sensitivity = Sensitivity::HighlySensitive;
        }
        keys.ignore(&["isCalculated", "is_calculated"]);
        field.custom_extensions.extend(blank::extension(VENDOR, kept));
        keys.finish(self.report);
        dataset.fields.push(field);
        None
    }

    /// A column that aggregates along a relationship: `sum(orders.totalprice)`.
    fn calculated(&mut self, dataset: &str, node: &Node) -> Option<Metric> {
        let (mut keys, name) = Keys::named(node, "column", self.report)?;
        keys.what = format!("calculated column `{dataset}.{name}`");
        keys.ignore(&["isCalculated", "is_calculated", "notNull", "relationship"]);
        let text = keys.text("expression", self.report);
        let mut unknown = None;
        let mut datasets = HashSet::new();
        // `customer.orders.totalprice` goes from model to model: the last one has the column.
        let new = sql::with_columns(&text, |qualifier, column| {
            let Some(qualifier) = qualifier else {
                datasets.insert(dataset.to_owned());
                return Some(sql::qualified(dataset, column));
            };
            let Some(target) = self.targets.get(&qualifier.to_lowercase()) else {
                unknown.get_or_insert_with(|| qualifier.to_owned());
                return None;
            };
            datasets.insert(target.clone());
            Some(sql::qualified(target, column))
        });
        let text = match (new, unknown) {
            (Ok(text), None) => text,
            (Ok(_), Some(unknown)) => {
                let why = format!("`{unknown}` is no model or relationship");
                self.report.lost(keys.at, keys.what.clone(), why, "write a metric by hand");
                return None;
            }
            (Err(problem), _) => {
                let why = format!("its SQL does not parse ({problem})");
                self.report.lost(keys.at, keys.what.clone(), why, "write a metric by hand");
                return None;
            }
        };
        let name = format!("{dataset}_{}", names::clean(&name));
        let mut metric = blank::metric(name.clone(), Expression::ansi(text), self.source(node.at));
        if let (1, Some(only)) = (datasets.len(), datasets.into_iter().next()) {
            metric.dataset = only;
        }
        let mut kept = Json::new();
        self.properties(&mut keys, &mut metric.description, &mut metric.synonyms, &mut kept);
        metric.datatype = datatype(&keys.text("type", self.report)).to_owned();
        metric.custom_extensions.extend(blank::extension(VENDOR, kept));
        let why =
            format!("it is the metric `{name}` now; group it by the key of `{dataset}` for a value a row");
        self.report.changed(keys.at, keys.what.clone(), why, "");
        keys.finish(self.report);
        Some(metric)
    }

    fn relationship(&mut self, node: &Node) -> Option<Relationship> {
        let (mut keys, name) = Keys::named(node, "relationship", self.report)?;
        let models = keys.texts("models", self.report);
        let condition = keys.text("condition", self.report);
        let kind = keys.any_text(&["joinType", "join_type"], self.report).to_uppercase();
        let mut kept = Json::new();
        let (mut description, mut synonyms) = (String::new(), Vec::new());
        self.properties(&mut keys, &mut description, &mut synonyms, &mut kept);
        let what = keys.what.clone();
        keys.lose(&["manySideSortKeys"], "Steward's joins have no order", "", self.report);
        keys.finish(self.report);
        let [first, second] = models.as_slice() else {
            self.report.lost(node.at, what, "it does not name two models", "");
            return None;
        };
        let (from, to, cardinality) = match kind.as_str() {
            "MANY_TO_ONE" => (first, second, "many_to_one"),
            "ONE_TO_MANY" => (second, first, "many_to_one"),
            "ONE_TO_ONE" => (first, second, "one_to_one"),
            "MANY_TO_MANY" => (first, second, "many_to_many"),
            other => {
                self.report.lost(node.at, what, format!("Steward has no join type `{other}`"), "");
                return None;
            }
        };
        let mut relationship = blank::relationship(
            names::clean(&name),
            names::clean(from),
            names::clean(to),
            self.source(node.at),
        );
        relationship.cardinality = cardinality.to_owned();
        relationship.description = description;
        let is = |side: &Option<String>, name: &str| {
            side.as_deref().is_some_and(|side| side.eq_ignore_ascii_case(name))
        };
        for (left, right) in sql::equalities(&condition).unwrap_or_default() {
            let (near, far) = match (&left.0, &right.0) {
                (a, b) if is(a, from) && is(b, to) => (left.1, right.1),
                (a, b) if is(a, to) && is(b, from) => (right.1, left.1),
                _ => {
                    relationship.from_columns.clear();
                    break;
                }
            };
            relationship.from_columns.push(near);
            relationship.to_columns.push(far);
        }
        if relationship.from_columns.is_empty() {
            let what = format!("{what}, condition `{condition}`");
            let why = "Steward joins where columns of the one equal columns of the other";
            self.report.lost(node.at, what, why, "add a view with such columns");
            return None;
        }
        relationship.custom_extensions.extend(blank::extension(VENDOR, kept));
        Some(relationship)
    }

    /// A metric of Wren is a table of measures by dimensions: each measure becomes a metric of its base.
    fn metric(&mut self, model: &mut Model, node: &Node) {
        let Some((mut keys, name)) = Keys::named(node, "metric", self.report) else { return };
        let base = names::clean(&keys.any_text(&["baseObject", "base_object"], self.report));
        let mut kept = Json::new();
        let (mut description, mut synonyms) = (String::new(), Vec::new());
        self.properties(&mut keys, &mut description, &mut synonyms, &mut kept);
        let measures = keys.list("measure", self.report);
        for measure in measures {
            let Some((mut inner, measure_name)) = Keys::named(measure, "measure", self.report) else {
                continue;
            };
            inner.what = format!("measure `{name}.{measure_name}`");
            let text = inner.text("expression", self.report);
            // One measure is what the metric is for; of several, each goes by both names.
            let called = match measures.len() {
                1 => names::clean(&name),
                _ => names::clean(&format!("{name}_{measure_name}")),
            };
            let mut metric = blank::metric(called, Expression::ansi(text), self.source(measure.at));
            metric.dataset.clone_from(&base);
            let mut own = Json::new();
            self.properties(&mut inner, &mut metric.description, &mut metric.synonyms, &mut own);
            if metric.description.is_empty() {
                metric.description.clone_from(&description);
            }
            metric.synonyms.extend(synonyms.iter().cloned());
            metric.datatype = datatype(&inner.text("type", self.report)).to_owned();
            own.extend(kept.clone());
            metric.custom_extensions.extend(blank::extension(VENDOR, own));
            inner.ignore(&["isCalculated", "notNull"]);
            inner.finish(self.report);
            model.metrics.push(metric);
        }
        let why = "a metric of Steward takes every dimension that its dataset can reach";
        keys.lose(&["dimension", "timeGrain"], why, "", self.report);
        keys.ignore(&["cached", "refreshTime"]);
        keys.finish(self.report);
    }

    fn cumulative(&mut self, model: &mut Model, node: &Node) {
        let Some((mut keys, name)) = Keys::named(node, "cumulative metric", self.report) else { return };
        let base = names::clean(&keys.any_text(&["baseObject", "base_object"], self.report));
        let measure = keys.take("measure").and_then(|node| Keys::open(node, "a measure", self.report));
        let window = keys.take("window").and_then(|node| Keys::open(node, "a window", self.report));
        let (Some(mut measure), Some(mut window)) = (measure, window) else {
            self.report.lost(node.at, keys.what.clone(), "it lacks its measure or its window", "");
            return;
        };
        let operator = measure.text("operator", self.report).to_uppercase();
        let column = measure.any_text(&["refColumn", "ref_column"], self.report);
        measure.ignore(&["name", "type", "properties"]);
        measure.finish(self.report);
        let mut metric = blank::metric(
            names::clean(&name),
            Expression::ansi(format!("{operator}({})", sql::identifier(&column))),
            self.source(node.at),
        );
        metric.kind = Some(MetricKind::Cumulative);
        metric.dataset = base;
        metric.time_dimension = names::clean(&window.any_text(&["refColumn", "ref_column"], self.report));
        window.ignore(&["name", "timeUnit"]);
        let why = "a query says from when to when it looks";
        window.lose(&["start", "end"], why, "", self.report);
        window.finish(self.report);
        let mut kept = Json::new();
        self.properties(&mut keys, &mut metric.description, &mut metric.synonyms, &mut kept);
        metric.custom_extensions.extend(blank::extension(VENDOR, kept));
        keys.ignore(&["cached", "refreshTime"]);
        keys.finish(self.report);
        model.metrics.push(metric);
    }

    /// A view that answers a question is a verified query; any other has no counterpart.
    fn view(&mut self, model: &mut Model, node: &Node) {
        let Some((mut keys, name)) = Keys::named(node, "view", self.report) else { return };
        let statement = keys.text("statement", self.report);
        let question = match keys.take("properties").map(|node| &node.value) {
            Some(Value::Mapping(entries)) => entries
                .iter()
                .find(|entry| entry.key == "question")
                .and_then(|entry| plain(&entry.value))
                .unwrap_or_default(),
            _ => String::new(),
        };
        if question.is_empty() {
            let what =
                format!("{}: {}", keys.what, statement.split_whitespace().collect::<Vec<_>>().join(" "));
            let why = "Steward has no views, and this one says no question that it would answer";
            let remedy = "create it in the warehouse and describe it as a dataset, or write a verified query";
            self.report.lost(node.at, what, why, remedy);
        } else {
            model.verified_queries.push(VerifiedQuery {
                name: names::clean(&name),
                question,
                sql: statement,
                description: keys.text("description", self.report),
                verified_by: String::new(),
                verified_at: String::new(),
                source: self.source(node.at),
            });
        }
        keys.finish(self.report);
    }
}

/// See [`Reader::targets`]. A model's own name comes before a column of the same name.
fn targets(root: &Node) -> HashMap<String, String> {
    fn list<'n>(node: &'n Node, key: &str) -> &'n [Node] {
        match find(node, key).map(|node| &node.value) {
            Some(Value::Sequence(items)) => items,
            _ => &[],
        }
    }
    let text = |node: &Node, key: &str| find(node, key).and_then(plain);
    let mut targets = HashMap::new();
    let models = list(root, "models");
    for column in models.iter().flat_map(|model| list(model, "columns")) {
        if let (Some(_), Some(name), Some(model)) =
            (text(column, "relationship"), text(column, "name"), text(column, "type"))
        {
            targets.insert(name.to_lowercase(), names::clean(&model));
        }
    }
    for name in models.iter().filter_map(|model| text(model, "name")) {
        targets.insert(name.to_lowercase(), names::clean(&name));
    }
    targets
}
