//! From YAML nodes to the typed model, reporting every mistake of a file instead of the first.
//!
//! Knows the keys of the format; does not read files and does not check across datasets (that is `lint`).

use std::sync::Arc;

use super::diagnostic::{Findings, did_you_mean};
use super::model::*;
use super::node::{Entry, Node, Position, Value};

/// What one file contributes to a model; the loader merges documents of equal name.
#[derive(Debug)]
pub(super) struct Document {
    pub model: Model,
    /// Position of the key `datasets`, if there is one.
    pub has_datasets: bool,
}

const OSSIE_VERSIONS: &[&str] = &["0.2.0.dev0", "0.1.1"];
const DATATYPES: &[&str] =
    &["String", "Integer", "Decimal", "Float", "Boolean", "Date", "Time", "DateTime", "DateTimeTz", "Opaque"];
const DIALECTS: &[&str] = &[
    "ANSI_SQL",
    "SNOWFLAKE",
    "MDX",
    "TABLEAU",
    "DATABRICKS",
    "MAQL",
    "BIGQUERY",
    "SIGMA",
    "THOUGHTSPOT",
    "DAX",
    "OSSIE_SQL_2026",
    "DATAFUSION",
    "POSTGRESQL",
];
const CARDINALITIES: &[&str] = &["many_to_one", "one_to_one", "many_to_many"];
const GRAINS: &[&str] = &["second", "minute", "hour", "day", "week", "month", "quarter", "year"];
const AGGREGATIONS: &[&str] = &["sum", "avg", "min", "max", "count", "count_distinct", "median", "none"];
const SENSITIVITIES: &[&str] = &["public", "protected", "highly_sensitive"];

const MODEL_KEYS: &[&str] = &[
    "version",
    "name",
    "description",
    "ai_context",
    "custom_instructions",
    "synonyms",
    "datasets",
    "relationships",
    "metrics",
    "verified_queries",
    "custom_extensions",
];

/// Reads a file in any of Ossie's three shapes: the root form, or `semantic_model:` with a list of models.
pub(super) fn documents(root: &Node, findings: &mut Findings<'_>) -> Vec<Document> {
    let file: Arc<str> = findings.file.into();
    let Value::Mapping(entries) = &root.value else {
        findings.error(
            "not-a-model",
            root.at,
            format!("a semantic model is a mapping; this file holds {}", root.value.kind()),
            "start with `name:` and `datasets:`",
        );
        return Vec::new();
    };
    if let Some(wrapper) = entries.iter().find(|entry| entry.key == "semantic_model") {
        let mut reader = Reader::new(root, &file, findings, &["version", "semantic_model"], "the file");
        reader.version();
        let models = reader.list("semantic_model");
        if models.is_empty() {
            findings.error(
                "empty-model",
                wrapper.value.at,
                "`semantic_model` lists no model",
                "add one, or drop the key",
            );
        }
        return models.into_iter().filter_map(|node| model(node, &file, findings, false)).collect();
    }
    model(root, &file, findings, true).into_iter().collect()
}

fn model(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>, root: bool) -> Option<Document> {
    let keys = if root { MODEL_KEYS } else { &MODEL_KEYS[1..] };
    let mut reader = Reader::new(node, file, findings, keys, "a model");
    if root {
        reader.version();
    }
    let (name, source) = reader.name()?;
    let (ai_context, mut synonyms) = reader.ai_context();
    synonyms.extend(reader.strings("synonyms"));
    let mut model = Model {
        name,
        source,
        ai_context,
        synonyms,
        description: reader.text("description"),
        custom_instructions: reader.text("custom_instructions"),
        custom_extensions: reader.extensions(),
        datasets: Vec::new(),
        relationships: Vec::new(),
        metrics: Vec::new(),
        verified_queries: Vec::new(),
    };
    let has_datasets = reader.has("datasets");
    let (datasets, relationships) = (reader.list("datasets"), reader.list("relationships"));
    let (metrics, queries) = (reader.list("metrics"), reader.list("verified_queries"));
    model.datasets = datasets.into_iter().filter_map(|node| dataset(node, file, findings)).collect();
    model.relationships =
        relationships.into_iter().filter_map(|node| relationship(node, file, findings)).collect();
    model.metrics = metrics.into_iter().filter_map(|node| metric(node, file, findings)).collect();
    model.verified_queries =
        queries.into_iter().filter_map(|node| verified_query(node, file, findings)).collect();
    Some(Document { model, has_datasets })
}

fn dataset(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<Dataset> {
    const KEYS: &[&str] = &[
        "name",
        "source",
        "primary_key",
        "unique_keys",
        "description",
        "ai_context",
        "synonyms",
        "hints",
        "sensitivity",
        "filters",
        "fields",
        "custom_extensions",
    ];
    let mut reader = Reader::new(node, file, findings, KEYS, "a dataset");
    let (name, source) = reader.name()?;
    let relation =
        reader.required_text("source", "name the physical relation, such as `local.schema.table`")?;
    let (ai_context, mut synonyms) = reader.ai_context();
    synonyms.extend(reader.strings("synonyms"));
    let (filters, fields) = (reader.list("filters"), reader.list("fields"));
    let unique_keys =
        reader.list("unique_keys").into_iter().map(|key| reader.string_list(key, "unique_keys")).collect();
    let mut dataset = Dataset {
        name,
        source,
        relation,
        ai_context,
        synonyms,
        unique_keys,
        primary_key: reader.strings("primary_key"),
        description: reader.text("description"),
        hints: reader.strings("hints"),
        sensitivity: reader.sensitivity(),
        custom_extensions: reader.extensions(),
        filters: Vec::new(),
        fields: Vec::new(),
    };
    dataset.filters = filters.into_iter().filter_map(|node| filter(node, file, findings)).collect();
    dataset.fields = fields.into_iter().filter_map(|node| field(node, file, findings)).collect();
    Some(dataset)
}

fn filter(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<NamedFilter> {
    let mut reader =
        Reader::new(node, file, findings, &["name", "description", "expression", "synonyms"], "a filter");
    let (name, source) = reader.name()?;
    let expression = reader.expression()?;
    Some(NamedFilter {
        name,
        source,
        expression,
        description: reader.text("description"),
        synonyms: reader.strings("synonyms"),
    })
}

fn field(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<Field> {
    const KEYS: &[&str] = &[
        "name",
        "expression",
        "label",
        "description",
        "datatype",
        "unit",
        "range",
        "nullable",
        "is_enum",
        "sample_values",
        "synonyms",
        "hints",
        "sensitivity",
        "pii",
        "dimension",
        "time_grains",
        "default_aggregation",
        "ai_context",
        "custom_extensions",
    ];
    let mut reader = Reader::new(node, file, findings, KEYS, "a field");
    let (name, source) = reader.name()?;
    let expression =
        if reader.has("expression") { reader.expression()? } else { Expression::ansi(quote(&name)) };
    let (ai_context, mut synonyms) = reader.ai_context();
    synonyms.extend(reader.strings("synonyms"));
    let datatype = reader.one_of("datatype", DATATYPES);
    let mut is_time = matches!(datatype.as_str(), "Date" | "Time" | "DateTime" | "DateTimeTz");
    if let Some(dimension) = reader.get("dimension") {
        let mut dimension = Reader::new(dimension, file, reader.findings, &["is_time"], "`dimension`");
        is_time = dimension.boolean("is_time").unwrap_or(is_time);
    }
    let range = reader.get("range").map(|node| {
        let mut range = Reader::new(node, file, reader.findings, &["min", "max"], "`range`");
        (range.scalar("min"), range.scalar("max"))
    });
    Some(Field {
        name,
        source,
        expression,
        ai_context,
        synonyms,
        datatype,
        is_time,
        range,
        label: reader.text("label"),
        description: reader.text("description"),
        unit: reader.text("unit"),
        nullable: reader.boolean("nullable"),
        is_enum: reader.boolean("is_enum").unwrap_or(false),
        sample_values: reader.scalars("sample_values"),
        hints: reader.strings("hints"),
        sensitivity: reader.sensitivity(),
        pii: reader.boolean("pii").unwrap_or(false),
        time_grains: reader.strings_of("time_grains", GRAINS),
        default_aggregation: reader.one_of("default_aggregation", AGGREGATIONS),
        custom_extensions: reader.extensions(),
    })
}

fn relationship(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<Relationship> {
    const KEYS: &[&str] = &[
        "name",
        "from",
        "to",
        "from_columns",
        "to_columns",
        "cardinality",
        "description",
        "hints",
        "ai_context",
        "custom_extensions",
    ];
    let mut reader = Reader::new(node, file, findings, KEYS, "a relationship");
    let (name, source) = reader.name()?;
    reader.ai_context();
    Some(Relationship {
        name,
        source,
        from: reader.required_text("from", "name the dataset on the many side")?,
        to: reader.required_text("to", "name the dataset on the one side")?,
        from_columns: reader.strings("from_columns"),
        to_columns: reader.strings("to_columns"),
        cardinality: reader.one_of("cardinality", CARDINALITIES),
        description: reader.text("description"),
        hints: reader.strings("hints"),
        custom_extensions: reader.extensions(),
    })
}

fn metric(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<Metric> {
    const KEYS: &[&str] = &[
        "name",
        "dataset",
        "expression",
        "description",
        "datatype",
        "unit",
        "synonyms",
        "hints",
        "ai_context",
        "custom_extensions",
    ];
    let mut reader = Reader::new(node, file, findings, KEYS, "a metric");
    let (name, source) = reader.name()?;
    let expression = reader.expression()?;
    let (ai_context, mut synonyms) = reader.ai_context();
    synonyms.extend(reader.strings("synonyms"));
    Some(Metric {
        name,
        source,
        expression,
        ai_context,
        synonyms,
        dataset: reader.text("dataset"),
        description: reader.text("description"),
        datatype: reader.one_of("datatype", DATATYPES),
        unit: reader.text("unit"),
        hints: reader.strings("hints"),
        custom_extensions: reader.extensions(),
    })
}

fn verified_query(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<VerifiedQuery> {
    const KEYS: &[&str] = &["name", "question", "sql", "description", "verified_by", "verified_at"];
    let mut reader = Reader::new(node, file, findings, KEYS, "a verified query");
    let (name, source) = reader.name()?;
    Some(VerifiedQuery {
        name,
        source,
        question: reader.required_text("question", "write the question that this query answers")?,
        sql: reader.required_text("sql", "write the query")?,
        description: reader.text("description"),
        verified_by: reader.text("verified_by"),
        verified_at: reader.text("verified_at"),
    })
}

/// Quotes an identifier so that its exact spelling reaches the database.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Takes keys out of one mapping and reports what is wrong with them.
struct Reader<'n, 'f, 's> {
    entries: &'n [Entry],
    at: Position,
    file: Arc<str>,
    what: &'static str,
    findings: &'f mut Findings<'s>,
}

impl<'n, 'f, 's> Reader<'n, 'f, 's> {
    fn new(
        node: &'n Node,
        file: &Arc<str>,
        findings: &'f mut Findings<'s>,
        keys: &[&'static str],
        what: &'static str,
    ) -> Self {
        let entries: &[Entry] = match &node.value {
            Value::Mapping(entries) => entries,
            other => {
                let help = format!("write `key: value` pairs: {}", keys.join(", "));
                findings.error(
                    "wrong-type",
                    node.at,
                    format!("{what} is a mapping, not {}", other.kind()),
                    help,
                );
                &[]
            }
        };
        for entry in entries.iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
            let mut help = did_you_mean(&entry.key, keys.iter().copied());
            if help.is_empty() {
                help = format!("keys of {what}: {}", keys.join(", "));
            }
            findings.error("unknown-key", entry.key_at, format!("{what} has no key `{}`", entry.key), help);
        }
        Self { entries, at: node.at, file: file.clone(), what, findings }
    }

    fn get(&self, key: &str) -> Option<&'n Node> {
        let node = &self.entries.iter().find(|entry| entry.key == key)?.value;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn wrong(&mut self, node: &Node, key: &str, wanted: &str) {
        let message = format!("`{key}` is {wanted}, not {}", node.value.kind());
        self.findings.error("wrong-type", node.at, message, "");
    }

    fn version(&mut self) {
        if let Some(node) = self.get("version") {
            match &node.value {
                Value::String(version) if OSSIE_VERSIONS.contains(&version.as_str()) => {}
                Value::String(version) => self.findings.error(
                    "unknown-version",
                    node.at,
                    format!("this is not a version of the format that I read: `{version}`"),
                    format!("use {}", OSSIE_VERSIONS.map_quoted()),
                ),
                _ => self.wrong(node, "version", "quoted text"),
            }
        }
    }

    fn name(&mut self) -> Option<(String, Source)> {
        let source = Source { file: self.file.clone(), at: self.at };
        let name = self.required_text("name", "every definition needs a name")?;
        let ok = !name.is_empty()
            && name.len() <= 128
            && name
                .chars()
                .all(|character| character.is_alphanumeric() || matches!(character, '_' | '-' | ' '));
        if !ok {
            let node = self.get("name").map_or(self.at, |node| node.at);
            self.findings.error(
                "bad-name",
                node,
                format!("`{}` cannot be the name of {}", name.escape_debug(), self.what),
                "use letters, digits, `_`, `-` and spaces, at most 128 of them",
            );
            return None;
        }
        Some((name, source))
    }

    fn required_text(&mut self, key: &'static str, help: &str) -> Option<String> {
        if !self.has(key) {
            if !self.entries.is_empty() {
                self.findings.error("missing-key", self.at, format!("{} without `{key}`", self.what), help);
            }
            return None;
        }
        let text = self.text(key);
        (!text.is_empty()).then_some(text)
    }

    fn text(&mut self, key: &str) -> String {
        match self.get(key) {
            None => String::new(),
            Some(node) => match &node.value {
                Value::String(text) => text.trim().to_owned(),
                _ => {
                    self.wrong(node, key, "text (quote it)");
                    String::new()
                }
            },
        }
    }

    fn scalar(&mut self, key: &str) -> String {
        self.get(key).and_then(scalar_text).unwrap_or_default()
    }

    fn boolean(&mut self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.wrong(node, key, "true or false");
                None
            }
        }
    }

    fn list(&mut self, key: &str) -> Vec<&'n Node> {
        match self.get(key) {
            None => Vec::new(),
            Some(node) => match &node.value {
                Value::Sequence(items) => items.iter().collect(),
                _ => {
                    self.wrong(node, key, "a list");
                    Vec::new()
                }
            },
        }
    }

    fn strings(&mut self, key: &str) -> Vec<String> {
        self.get(key).map(|node| self.string_list(node, key)).unwrap_or_default()
    }

    fn string_list(&mut self, node: &'n Node, key: &str) -> Vec<String> {
        let Value::Sequence(items) = &node.value else {
            self.wrong(node, key, "a list of texts");
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match &item.value {
                Value::String(text) => texts.push(text.trim().to_owned()),
                _ => self.wrong(item, key, "a list of texts (quote each)"),
            }
        }
        texts
    }

    fn scalars(&mut self, key: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for item in self.list(key) {
            match scalar_text(item) {
                Some(text) => texts.push(text),
                None => self.wrong(item, key, "a list of plain values"),
            }
        }
        texts
    }

    fn one_of(&mut self, key: &'static str, allowed: &[&'static str]) -> String {
        let value = self.text(key);
        if value.is_empty() || allowed.contains(&value.as_str()) {
            return value;
        }
        let at = self.get(key).map_or(self.at, |node| node.at);
        self.not_allowed(key, &value, at, allowed);
        String::new()
    }

    fn strings_of(&mut self, key: &'static str, allowed: &[&'static str]) -> Vec<String> {
        let at = self.get(key).map_or(self.at, |node| node.at);
        let values = self.strings(key);
        for value in values.iter().filter(|value| !allowed.contains(&value.as_str())) {
            self.not_allowed(key, value, at, allowed);
        }
        values
    }

    fn not_allowed(&mut self, key: &str, value: &str, at: Position, allowed: &[&'static str]) {
        let mut help = did_you_mean(value, allowed.iter().copied());
        if help.is_empty() {
            help = format!("use {}", allowed.map_quoted());
        }
        self.findings.error("unknown-value", at, format!("`{key}` cannot be `{value}`"), help);
    }

    fn sensitivity(&mut self) -> Sensitivity {
        // An unreadable level must never lower the wall: the strictest one stands in, and the error stops the file.
        if !self.has("sensitivity") {
            return Sensitivity::Public;
        }
        match self.one_of("sensitivity", SENSITIVITIES).as_str() {
            "public" => Sensitivity::Public,
            "protected" => Sensitivity::Protected,
            _ => Sensitivity::HighlySensitive,
        }
    }

    fn expression(&mut self) -> Option<Expression> {
        let Some(node) = self.get("expression") else {
            let message = format!("{} without `expression`", self.what);
            self.findings.error("missing-key", self.at, message, "write the SQL expression");
            return None;
        };
        match &node.value {
            Value::String(text) => Some(Expression::ansi(text.trim())),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => scalar_text(node).map(Expression::ansi),
            Value::Mapping(_) => {
                let file = self.file.clone();
                let mut outer = Reader::new(node, &file, self.findings, &["dialects"], "`expression`");
                let mut dialects = Vec::new();
                for item in outer.list("dialects") {
                    let mut one = Reader::new(
                        item,
                        &file,
                        outer.findings,
                        &["dialect", "expression"],
                        "a dialect's expression",
                    );
                    let dialect = one.one_of("dialect", DIALECTS);
                    if let Some(text) = one.required_text("expression", "write the SQL expression") {
                        dialects.push((dialect, text));
                    }
                }
                if dialects.is_empty() {
                    let help = "write the SQL as plain text, or list `dialects`";
                    self.findings.error("missing-key", node.at, "an expression without any dialect", help);
                    return None;
                }
                Some(Expression { dialects })
            }
            _ => {
                self.wrong(node, "expression", "SQL text, or `dialects`");
                None
            }
        }
    }

    fn ai_context(&mut self) -> (AiContext, Vec<String>) {
        let Some(node) = self.get("ai_context") else { return Default::default() };
        match &node.value {
            Value::String(text) => {
                (AiContext { instructions: text.trim().to_owned(), examples: Vec::new() }, Vec::new())
            }
            Value::Mapping(entries) => {
                let file = self.file.clone();
                // Ossie allows further keys here; they are somebody else's and stay unread.
                let known: Vec<Entry> = entries
                    .iter()
                    .filter(|entry| ["instructions", "synonyms", "examples"].contains(&entry.key.as_str()))
                    .cloned()
                    .collect();
                let node = Node { value: Value::Mapping(known), at: node.at };
                let keys = &["instructions", "synonyms", "examples"];
                let mut reader = Reader::new(&node, &file, self.findings, keys, "`ai_context`");
                let context = AiContext {
                    instructions: reader.text("instructions"),
                    examples: reader.strings("examples"),
                };
                (context, reader.strings("synonyms"))
            }
            _ => {
                self.wrong(node, "ai_context", "text or a mapping");
                Default::default()
            }
        }
    }

    fn extensions(&mut self) -> Vec<CustomExtension> {
        let file = self.file.clone();
        let mut extensions = Vec::new();
        for node in self.list("custom_extensions") {
            let mut reader =
                Reader::new(node, &file, self.findings, &["vendor_name", "data"], "a custom extension");
            if let Some(vendor_name) = reader.required_text("vendor_name", "name the vendor") {
                extensions.push(CustomExtension { vendor_name, data: reader.text("data") });
            }
        }
        extensions
    }
}

fn scalar_text(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Integer(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        _ => None,
    }
}

trait MapQuoted {
    fn map_quoted(&self) -> String;
}

impl MapQuoted for [&'static str] {
    fn map_quoted(&self) -> String {
        self.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
    }
}
