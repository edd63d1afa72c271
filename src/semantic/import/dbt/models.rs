//! Semantic models of both specs, with what the project's `models:` say of their columns.

use ecow::EcoString;

use super::*;

impl<'n> Reader<'_, 'n, '_> {
    /// A semantic model of the legacy spec or a manifest.
    pub(super) fn semantic_model(&mut self, node: &'n Node, file: &'n Arc<str>) {
        let Some((mut keys, name)) = Keys::named(node, "semantic model", self.report) else { return };
        let (relation, reference) = self.relation(&mut keys, &name);
        let mut dataset = blank::dataset(names::clean(&name), relation, source(file, node.at));
        dataset.description = self.description(&mut keys);
        dataset.synonyms.extend(Some(keys.text("label", self.report)).filter(|label| !label.is_empty()));
        let mut known = Known::default();
        if let Some(node) = keys.take("defaults").filter(|node| !is_empty(node))
            && let Some(mut defaults) = Keys::open(node, format!("defaults of {}", keys.what), self.report)
        {
            known.agg_time_dimension = defaults.text("agg_time_dimension", self.report);
            defaults.finish(self.report);
        }
        for node in keys.list("dimensions", self.report) {
            self.dimension(&mut dataset, &mut known, node, file);
        }
        for node in keys.list("entities", self.report) {
            self.entity(&mut dataset, &mut known, node, file);
        }
        let primary = keys.text("primary_entity", self.report);
        self.primary_entity(&mut known, &dataset, primary, keys.at);
        let position = self.model.datasets.len();
        for node in keys.list("measures", self.report) {
            self.measure(position, &known, node, file);
        }
        dataset.custom_extensions.extend(self.extras(&mut keys));
        keys.finish(self.report);
        self.add(dataset, known, reference);
    }

    fn add(&mut self, dataset: Dataset, mut known: Known, reference: String) {
        let position = self.model.datasets.len();
        known.columns = Columns::of(&dataset);
        for entity in known.entities.iter().filter(|entity| entity.is_key) {
            self.keys.entry(entity.name.clone()).or_default().push(position);
        }
        self.refs.insert(reference, position);
        self.positions.insert(dataset.name.clone(), position);
        self.model.datasets.push(dataset);
        self.known.push(known);
    }

    /// A primary entity that is no column names the row, and joins nothing.
    fn primary_entity(&mut self, known: &mut Known, dataset: &Dataset, name: String, at: Position) {
        if name.is_empty() || known.entities.iter().any(|entity| entity.name == name) {
            return;
        }
        let why = "it has no column, so that nothing joins by it; filters that name it are resolved";
        self.report.changed(at, format!("primary entity `{name}` of `{}`", dataset.name), why, "");
        known.entities.push(Entity { name, field: String::new(), is_key: true });
    }

    /// Where a semantic model's rows are, and the dbt model that makes them.
    fn relation(&mut self, keys: &mut Keys<'_>, name: &str) -> (String, String) {
        let reference = keys.text("model", self.report);
        let table = template::call(reference.trim_matches(['{', '}', ' ']))
            .and_then(|call| call.arguments.last().cloned())
            .unwrap_or_else(|| name.to_owned());
        if let Some(node) = keys.take("node_relation").filter(|node| !is_empty(node))
            && let Some(mut found) = Keys::open(node, format!("node_relation of {}", keys.what), self.report)
        {
            let database = found.text("database", self.report);
            let schema = found.any_text(&["schema_name", "schema"], self.report);
            let alias = found.any_text(&["alias", "identifier"], self.report);
            found.ignore(&["relation_name"]);
            found.finish(self.report);
            return (relation(&database, &schema, &alias, self.options), alias);
        }
        (relation("", "", &table, self.options), table)
    }

    fn dimension(&mut self, dataset: &mut Dataset, known: &mut Known, node: &Node, file: &Arc<str>) {
        let Some((mut keys, name)) = Keys::named(node, "dimension", self.report) else { return };
        keys.what = format!("dimension `{}.{name}`", dataset.name);
        let text = keys.text("expr", self.report);
        let text = if text.is_empty() { sql::identifier(&name) } else { text };
        let mut granularity = String::new();
        if let Some(node) = keys.take("type_params").filter(|node| !is_empty(node))
            && let Some(mut params) = Keys::open(node, format!("type_params of {}", keys.what), self.report)
        {
            granularity = params.text("time_granularity", self.report);
            self.validity(&mut params, &keys.what);
            params.finish(self.report);
        }
        let field = self.field_of_dimension(&mut keys, &name, text, &granularity, file);
        keys.ignore(&["is_partition"]);
        keys.finish(self.report);
        if let Some(field) = field {
            known.dimensions.insert(name, field.name.clone());
            dataset.fields.push(field);
        }
    }

    fn validity(&mut self, keys: &mut Keys<'_>, what: &str) {
        if keys.take("validity_params").is_some_and(|node| !is_empty(node)) {
            let why = "Steward's joins do not pick the row that was valid at a time";
            let remedy = "join a view that holds the valid rows, or write the condition into queries";
            self.report.lost(keys.at, format!("validity_params of {what}"), why, remedy);
        }
    }

    /// The field of a dimension of either spec.
    fn field_of_dimension(
        &mut self,
        keys: &mut Keys<'_>,
        name: &str,
        text: String,
        granularity: &str,
        file: &Arc<str>,
    ) -> Option<Field> {
        if text.contains("{{") || text.contains("{%") {
            let what = format!("{} = `{text}`", keys.what);
            self.report.lost(keys.at, what, "Jinja is not run", "write its expression");
            return None;
        }
        let mut field = blank::field(names::clean(name), Expression::ansi(text), source(file, keys.at));
        field.description = self.description(keys).into();
        field.label = keys.text("label", self.report).into();
        field.is_time = keys.text("type", self.report).eq_ignore_ascii_case("time");
        if let Some(grain) = Grain::from_name(granularity) {
            let coarser = Grain::ALL.iter().filter(|other| **other >= grain);
            field.time_grains = coarser.map(|grain| EcoString::from(grain.as_str())).collect();
        } else if !granularity.is_empty() {
            let what = format!("granularity `{granularity}` of {}", keys.what);
            self.report.lost(keys.at, what, "Steward's grains are those of the calendar, from seconds", "");
        }
        field.custom_extensions.extend(self.extras(keys));
        Some(field)
    }

    fn entity(&mut self, dataset: &mut Dataset, known: &mut Known, node: &Node, file: &Arc<str>) {
        let Some((mut keys, name)) = Keys::named(node, "entity", self.report) else { return };
        keys.what = format!("entity `{}.{name}`", dataset.name);
        let text = keys.text("expr", self.report);
        let text = if text.is_empty() { sql::identifier(&name) } else { text };
        self.entity_over(dataset, known, &mut keys, &name, &text, file);
        keys.finish(self.report);
    }

    fn entity_over(
        &mut self,
        dataset: &mut Dataset,
        known: &mut Known,
        keys: &mut Keys<'_>,
        name: &str,
        text: &str,
        file: &Arc<str>,
    ) {
        let kind = keys.text("type", self.report).to_lowercase();
        let description = self.description(keys);
        let label = keys.text("label", self.report);
        keys.ignore(&["role"]);
        let extension = self.extras(keys);
        if text.contains("{{") {
            let what = format!("{} = `{text}`", keys.what);
            self.report.lost(keys.at, what, "Jinja is not run", "write its expression");
            return;
        }
        let column = sql::as_column(text);
        let called = names::clean(column.as_deref().unwrap_or(name));
        let there = dataset.fields.iter_mut().find(|field| match &column {
            Some(column) => sql::as_column(field.expression.text()).is_some_and(|known| known == *column),
            None => field.expression.text() == text,
        });
        let field = match there {
            Some(field) => field,
            None => {
                let mut fresh = blank::field(called, Expression::ansi(text), source(file, keys.at));
                fresh.nullable = (kind == "primary").then_some(false);
                dataset.fields.push(fresh);
                match dataset.fields.last_mut() {
                    Some(field) => field,
                    None => return,
                }
            }
        };
        if field.description.is_empty() {
            field.description = description.into();
        }
        if field.label.is_empty() {
            field.label = label.into();
        }
        if field.name != name && !field.synonyms.iter().any(|known| known == name) {
            field.synonyms.push(name.into());
        }
        field.custom_extensions.extend(extension);
        let field = field.name.clone();
        match kind.as_str() {
            "primary" => dataset.primary_key = vec![field.clone()],
            "unique" => dataset.unique_keys.push(vec![field.clone()]),
            _ => {}
        }
        let is_key = matches!(kind.as_str(), "primary" | "unique" | "natural");
        known.entities.push(Entity { name: name.to_owned(), field, is_key });
    }

    fn measure(&mut self, position: usize, known: &Known, node: &'n Node, file: &'n Arc<str>) {
        let Some((mut keys, name)) = Keys::named(node, "measure", self.report) else { return };
        let mut aggregate = self.aggregate(&mut keys, &name, position);
        if aggregate.time_dimension.is_empty() {
            aggregate.time_dimension.clone_from(&known.agg_time_dimension);
        }
        let description = self.description(&mut keys);
        let label = keys.text("label", self.report);
        let create_metric = keys.flag("create_metric", self.report).unwrap_or(false);
        keys.keep(&["config", "meta"]);
        keys.finish(self.report);
        self.measures.push(Measure { name, aggregate, description, label, create_metric, node, file });
    }

    /// An entry of `models:`: a semantic model of the latest spec, or the documentation of a dbt model.
    pub(super) fn dbt_model(&mut self, node: &'n Node, file: &'n Arc<str>) {
        let Some(name) = find(node, "name").and_then(plain) else {
            self.report.lost(node.at, "a model", "it has no name", "give it one");
            return;
        };
        let semantic = find(node, "semantic_model");
        let enabled = match semantic.map(|node| &node.value) {
            Some(Value::Bool(enabled)) => *enabled,
            Some(Value::Mapping(_)) => {
                let enabled = semantic.and_then(|node| find(node, "enabled")).map(|node| &node.value);
                !matches!(enabled, Some(Value::Bool(false)))
            }
            _ => false,
        };
        if !enabled {
            self.documented.insert(name, (node, file));
            return;
        }
        let Some(mut keys) = Keys::open(node, format!("model `{name}`"), self.report) else { return };
        keys.ignore(&["name"]);
        let mut called = name.clone();
        if let Some(node) = keys.take("semantic_model").filter(|node| matches!(node.value, Value::Mapping(_)))
            && let Some(mut semantic) = Keys::open(node, format!("semantic_model of `{name}`"), self.report)
        {
            let own = semantic.text("name", self.report);
            called = if own.is_empty() { called } else { own };
            semantic.ignore(&["enabled"]);
            semantic.keep(&["config", "group"]);
            semantic.finish(self.report);
        }
        let mut dataset = blank::dataset(
            names::clean(&called),
            relation("", "", &name, self.options),
            source(file, node.at),
        );
        dataset.description = self.description(&mut keys);
        let mut known =
            Known { agg_time_dimension: keys.text("agg_time_dimension", self.report), ..Known::default() };
        for node in keys.list("columns", self.report) {
            self.column(&mut dataset, &mut known, node, file);
        }
        if let Some(node) = keys.take("derived_semantics")
            && let Some(mut derived) = Keys::open(node, "`derived_semantics`", self.report)
        {
            for node in derived.list("dimensions", self.report) {
                self.derived_dimension(&mut dataset, &mut known, node, file);
            }
            for node in derived.list("entities", self.report) {
                self.entity(&mut dataset, &mut known, node, file);
            }
            derived.finish(self.report);
        }
        let primary = keys.text("primary_entity", self.report);
        self.primary_entity(&mut known, &dataset, primary, keys.at);
        let position = self.model.datasets.len();
        for node in keys.list("metrics", self.report) {
            self.metrics.push((node, file, Some(position)));
        }
        dataset.custom_extensions.extend(self.extras(&mut keys));
        let why = "a test checks data, and Steward describes them";
        keys.lose(&["tests", "data_tests", "constraints"], why, "", self.report);
        keys.finish(self.report);
        self.add(dataset, known, name);
    }

    fn derived_dimension(&mut self, dataset: &mut Dataset, known: &mut Known, node: &Node, file: &Arc<str>) {
        let Some((mut keys, name)) = Keys::named(node, "dimension", self.report) else { return };
        keys.what = format!("dimension `{}.{name}`", dataset.name);
        let text = keys.text("expr", self.report);
        let granularity = keys.text("granularity", self.report);
        self.validity(&mut keys, &name);
        let field = self.field_of_dimension(&mut keys, &name, text, &granularity, file);
        keys.ignore(&["is_partition"]);
        keys.finish(self.report);
        if let Some(field) = field {
            known.dimensions.insert(name, field.name.clone());
            dataset.fields.push(field);
        }
    }

    /// A column of the latest spec: a dimension, an entity, or a plain one.
    fn column(&mut self, dataset: &mut Dataset, known: &mut Known, node: &Node, file: &Arc<str>) {
        let Some((mut keys, column)) = Keys::named(node, "column", self.report) else { return };
        keys.what = format!("column `{}.{column}`", dataset.name);
        let granularity = keys.text("granularity", self.report);
        let mut field = blank::field(
            names::clean(&column),
            Expression::ansi(sql::identifier(&column)),
            source(file, node.at),
        );
        let (dimension, entity) = (keys.take("dimension"), keys.take("entity"));
        if let Some(node) = dimension {
            let mut name = column.clone();
            // `dimension: categorical` says the type alone.
            match plain(node) {
                Some(kind) => field.is_time = kind == "time",
                None => {
                    if let Some(mut inner) = Keys::open(node, keys.what.clone(), self.report) {
                        let own = inner.text("name", self.report);
                        name = if own.is_empty() { name } else { own };
                        self.validity(&mut inner, &keys.what);
                        let text = field.expression.text().to_owned();
                        if let Some(found) =
                            self.field_of_dimension(&mut inner, &name, text, &granularity, file)
                        {
                            field = found;
                        }
                        inner.ignore(&["is_partition"]);
                        inner.finish(self.report);
                    }
                }
            }
            known.dimensions.insert(name, field.name.clone());
        }
        self.document_column(&mut keys, dataset, &mut field);
        dataset.fields.push(field);
        if let Some(node) = entity {
            let text = sql::identifier(&column);
            match plain(node) {
                Some(kind) => {
                    let field = names::clean(&column);
                    match kind.as_str() {
                        "primary" => dataset.primary_key = vec![field.clone()],
                        "unique" => dataset.unique_keys.push(vec![field.clone()]),
                        _ => {}
                    }
                    let is_key = matches!(kind.as_str(), "primary" | "unique" | "natural");
                    known.entities.push(Entity { name: column, field, is_key });
                }
                None => {
                    if let Some(mut inner) = Keys::open(node, keys.what.clone(), self.report) {
                        let own = inner.text("name", self.report);
                        let name = if own.is_empty() { column } else { own };
                        self.entity_over(dataset, known, &mut inner, &name, &text, file);
                        inner.finish(self.report);
                    }
                }
            }
        }
        keys.finish(self.report);
    }

    /// What any `models:` entry says of a column: description, type, tests.
    fn document_column(&mut self, keys: &mut Keys<'_>, dataset: &mut Dataset, field: &mut Field) {
        let description = self.description(keys);
        if field.description.is_empty() {
            field.description = description.into();
        }
        let type_name = keys.text("data_type", self.report);
        field.datatype = datatype(&type_name).into();
        field.is_time |= matches!(field.datatype.as_str(), "Date" | "Time" | "DateTime" | "DateTimeTz");
        keys.ignore(&["quote", "constraints"]);
        for list in ["tests", "data_tests"] {
            for test in keys.list(list, self.report) {
                self.test(test, dataset, field, &keys.what);
            }
        }
        let extension = self.extras(keys);
        field.custom_extensions.extend(extension);
    }

    /// Tests say what data are like: keys, nulls, values.
    fn test(&mut self, test: &Node, dataset: &mut Dataset, field: &mut Field, what: &str) {
        let (name, body) = match &test.value {
            Value::String(name) => (name.as_str(), None),
            Value::Mapping(entries) => match entries.first() {
                Some(entry) => (entry.key.as_str(), Some(&entry.value)),
                None => return,
            },
            _ => return,
        };
        match name.rsplit('.').next().unwrap_or(name) {
            "not_null" => field.nullable = Some(false),
            "unique" => {
                let key = vec![field.name.clone()];
                if dataset.primary_key != key && !dataset.unique_keys.contains(&key) {
                    dataset.unique_keys.push(key);
                }
            }
            "accepted_values" => {
                let body = body.map(|body| find(body, "arguments").unwrap_or(body));
                let values = body.and_then(|body| find(body, "values"));
                field.sample_values = compact(items(values).filter_map(plain));
                field.is_enum = !field.sample_values.is_empty();
            }
            other => {
                let why = "Steward has no counterpart of this test";
                self.report.lost(test.at, format!("test `{other}` of {what}"), why, "");
            }
        }
    }

    /// Puts what the legacy spec's `models:` say into the datasets made of them.
    pub(super) fn document(&mut self) {
        let mut documented: Vec<_> = std::mem::take(&mut self.documented).into_iter().collect();
        documented.sort_by(|a, b| (a.1.1, a.1.0.at).cmp(&(b.1.1, b.1.0.at)));
        for (name, (node, file)) in documented {
            self.report.file = file.clone();
            let Some(position) = self.refs.get(&name).copied() else {
                let why = "it has no semantic model";
                self.report.lost(node.at, format!("model `{name}`"), why, "describe its table as a dataset");
                continue;
            };
            let Some(mut keys) = Keys::open(node, format!("model `{name}`"), self.report) else { continue };
            keys.ignore(&["name", "semantic_model"]);
            let description = self.description(&mut keys);
            let mut dataset = std::mem::replace(
                &mut self.model.datasets[position],
                blank::dataset(String::new(), String::new(), source(file, node.at)),
            );
            if dataset.description.is_empty() {
                dataset.description = description;
            } else if !description.is_empty() && description != dataset.description {
                dataset.hints.push(description);
            }
            let by_name: HashMap<String, usize> = dataset
                .fields
                .iter()
                .enumerate()
                .filter_map(|(at, field)| Some((sql::as_column(field.expression.text())?, at)))
                .collect();
            for node in keys.list("columns", self.report) {
                let Some((mut keys, column)) = Keys::named(node, "column", self.report) else { continue };
                keys.what = format!("column `{name}.{column}`");
                let mut field = match by_name.get(&column) {
                    Some(at) => dataset.fields[*at].clone(),
                    None => {
                        // A dimension of that name shows something else than the column itself.
                        let taken = dataset.fields.iter().any(|field| field.name == column);
                        let called = if taken { format!("{column}_column") } else { column.clone() };
                        let expression = Expression::ansi(sql::identifier(&column));
                        blank::field(names::clean(&called), expression, source(file, node.at))
                    }
                };
                self.document_column(&mut keys, &mut dataset, &mut field);
                keys.finish(self.report);
                match by_name.get(&column) {
                    Some(at) => dataset.fields[*at] = field,
                    None => dataset.fields.push(field),
                }
            }
            let extension = self.extras(&mut keys);
            dataset.custom_extensions.extend(extension);
            let why = "a test checks data, and Steward describes them";
            keys.lose(&["tests", "data_tests", "constraints"], why, "", self.report);
            keys.finish(self.report);
            self.known[position].columns = Columns::of(&dataset);
            self.model.datasets[position] = dataset;
        }
    }
}
