//! From YAML nodes to the typed model, reporting every mistake of a file instead of the first.
//!
//! Which keys there are and what they hold is said in `format`; here is said what becomes of them. Does not read files
//! and does not check across datasets (that is `lint`).

use std::sync::Arc;

use super::access::Policy;
use super::diagnostic::{Findings, did_you_mean};
use super::format::{self, Kind, Need, Shape};
use super::model::*;
use super::node::{Entry, Node, Position, Value};
use super::pii::looks_personal;

/// What one file contributes to a model; the loader merges documents of equal name.
#[derive(Debug)]
pub(super) struct Document {
    pub model: Model,
    /// Whether the key `datasets` is there.
    pub has_datasets: bool,
}

/// Reads a file in any of Ossie's three shapes: the root form, or `semantic_model:` with a list of models.
pub(super) fn documents(root: &Node, findings: &mut Findings<'_>) -> Vec<Document> {
    let file: Arc<str> = findings.file.into();
    let help = "start with `name:` and `datasets:`";
    let entries = match &root.value {
        Value::Mapping(entries) => entries,
        Value::Null => {
            let start = Position { line: 1, column: 1 };
            let help = format!("{help}, or remove the file");
            findings.error("empty-file", start, "the file holds no model", help);
            return Vec::new();
        }
        other => {
            let message = format!("a semantic model is a mapping; this file holds {}", other.kind());
            findings.error("not-a-model", root.at, message, help);
            return Vec::new();
        }
    };
    if let Some(wrapper) = entries.iter().find(|entry| entry.key == "semantic_model") {
        let reader = Reader::new(root, &file, findings, &format::WRAPPER);
        let models = reader.list("semantic_model");
        if matches!(&wrapper.value.value, Value::Sequence(items) if items.is_empty()) {
            let message = "`semantic_model` lists no model";
            reader.findings.error("empty-model", wrapper.value.at, message, "add one, or drop the key");
        }
        return models.iter().filter_map(|node| model(node, &file, findings, &format::MODEL)).collect();
    }
    model(root, &file, findings, &format::ROOT).into_iter().collect()
}

fn model(
    node: &Node,
    file: &Arc<str>,
    findings: &mut Findings<'_>,
    shape: &'static Shape,
) -> Option<Document> {
    let mut reader = Reader::new(node, file, findings, shape);
    let (name, source) = reader.name()?;
    let (ai_context, synonyms) = reader.ai_context();
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
    let has_datasets = reader.get("datasets").is_some();
    let (datasets, relationships) = (reader.list("datasets"), reader.list("relationships"));
    let (metrics, queries) = (reader.list("metrics"), reader.list("verified_queries"));
    model.datasets = datasets.iter().filter_map(|node| dataset(node, file, findings)).collect();
    model.relationships =
        relationships.iter().filter_map(|node| relationship(node, file, findings)).collect();
    model.metrics = metrics.iter().filter_map(|node| metric(node, file, findings)).collect();
    model.verified_queries = queries.iter().filter_map(|node| verified_query(node, file, findings)).collect();
    Some(Document { model, has_datasets })
}

fn dataset(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<Dataset> {
    let mut reader = Reader::new(node, file, findings, &format::DATASET);
    let (name, source) = reader.name()?;
    let (ai_context, synonyms) = reader.ai_context();
    let (filters, fields) = (reader.list("filters"), reader.list("fields"));
    let row_filter = reader
        .get("access")
        .and_then(|node| reader.inner(node, &format::DATASET_ACCESS).policy("row_filter"));
    let mut dataset = Dataset {
        name,
        source,
        ai_context,
        synonyms,
        row_filter,
        relation: reader.text("source"),
        unique_keys: reader.list("unique_keys").iter().map(texts).collect(),
        primary_key: reader.texts("primary_key"),
        description: reader.text("description"),
        hints: reader.texts("hints"),
        role: DatasetRole::from_name(&reader.text("role")),
        sensitivity: reader.sensitivity(),
        custom_extensions: reader.extensions(),
        filters: Vec::new(),
        fields: Vec::new(),
    };
    dataset.filters = filters.iter().filter_map(|node| filter(node, file, findings)).collect();
    let sensitivity = dataset.sensitivity;
    dataset.fields =
        exact(fields.iter().filter_map(|node| field(node, file, findings, sensitivity)).collect());
    Some(dataset)
}

fn filter(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<NamedFilter> {
    let mut reader = Reader::new(node, file, findings, &format::FILTER);
    let (name, source) = reader.name()?;
    Some(NamedFilter {
        name,
        source,
        expression: reader.expression()?,
        description: reader.text("description"),
        synonyms: reader.texts("synonyms"),
    })
}

/// `outer` is the dataset's sensitivity.
fn field(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>, outer: Sensitivity) -> Option<Field> {
    let mut reader = Reader::new(node, file, findings, &format::FIELD);
    let (name, source) = reader.name()?;
    let sensitivity = reader.sensitivity();
    if reader.get("pii").is_none()
        && sensitivity.max(outer) == Sensitivity::Public
        && let Some(words) = looks_personal(&name)
    {
        let at = reader.get("name").map_or(reader.at, |node| node.at);
        let message =
            format!("field `{}` looks like personal data ({words}) and is not marked", shown(&name));
        let help = "set `pii: true` and a `sensitivity`; if it is about no person, say so: `pii: false`";
        reader.findings.warn("unmarked-pii", at, message, help);
    }
    let expression = match reader.get("expression") {
        Some(_) => reader.expression()?,
        None => Expression::ansi(quote(&name)),
    };
    let (ai_context, synonyms) = reader.ai_context();
    let datatype = reader.text("datatype");
    let is_temporal = matches!(datatype.as_str(), "Date" | "Time" | "DateTime" | "DateTimeTz");
    let is_time = reader
        .get("dimension")
        .and_then(|node| reader.inner(node, &format::DIMENSION).flag("is_time"))
        .unwrap_or(is_temporal);
    let range = reader.get("range").map(|node| {
        let range = reader.inner(node, &format::RANGE);
        Box::new((range.scalar("min"), range.scalar("max")))
    });
    let mask = reader.get("access").and_then(|node| reader.inner(node, &format::FIELD_ACCESS).policy("mask"));
    Some(Field {
        name,
        source,
        expression,
        ai_context: ai_context.boxed(),
        synonyms: compact(synonyms),
        datatype: datatype.into(),
        is_time,
        range,
        mask,
        is_masked: false,
        label: reader.text("label").into(),
        description: reader.text("description").into(),
        unit: reader.text("unit").into(),
        nullable: reader.flag("nullable"),
        is_enum: reader.flag("is_enum").unwrap_or(false),
        sample_values: compact(reader.scalars("sample_values")),
        hints: compact(reader.texts("hints")),
        sensitivity,
        pii: reader.flag("pii").unwrap_or(false),
        time_grains: compact(reader.texts("time_grains")),
        default_aggregation: reader.text("default_aggregation").into(),
        custom_extensions: reader.extensions(),
    })
}

fn relationship(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<Relationship> {
    let mut reader = Reader::new(node, file, findings, &format::RELATIONSHIP);
    let (name, source) = reader.name()?;
    reader.ai_context();
    Some(Relationship {
        name,
        source,
        from: reader.raw("from"),
        to: reader.raw("to"),
        from_columns: reader.texts("from_columns"),
        to_columns: reader.texts("to_columns"),
        cardinality: reader.text("cardinality"),
        description: reader.text("description"),
        hints: reader.texts("hints"),
        custom_extensions: reader.extensions(),
    })
}

fn metric(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<Metric> {
    let mut reader = Reader::new(node, file, findings, &format::METRIC);
    let (name, source) = reader.name()?;
    let numerator = reader.get("numerator").and_then(|node| reader.metric_input(node));
    let denominator = reader.get("denominator").and_then(|node| reader.metric_input(node));
    let expression = match (&numerator, &denominator) {
        (Some(over), Some(under)) if reader.get("expression").is_none() => {
            Expression::ansi(format!("{} / NULLIF({}, 0)", quote(over.called()), quote(under.called())))
        }
        _ => reader.expression()?,
    };
    let (ai_context, synonyms) = reader.ai_context();
    let metric = Metric {
        name,
        kind: MetricKind::from_name(&reader.text("type")),
        source,
        expression,
        numerator,
        denominator,
        ai_context,
        synonyms,
        metrics: reader.metric_inputs(),
        window: TimeSpan::from_text(&reader.text("window")),
        grain_to_date: Grain::from_name(&reader.text("grain_to_date")),
        filter: reader.text("filter"),
        non_additive_dimension: reader.non_additive_dimension(),
        time_dimension: reader.text("time_dimension"),
        fill_nulls_with: reader.get("fill_nulls_with").and_then(scalar_text),
        joins: reader.texts("joins"),
        dataset: reader.raw("dataset"),
        description: reader.text("description"),
        datatype: reader.text("datatype"),
        unit: reader.text("unit"),
        hints: reader.texts("hints"),
        custom_extensions: reader.extensions(),
    };
    reader.fits_its_type(&metric);
    Some(metric)
}

fn verified_query(node: &Node, file: &Arc<str>, findings: &mut Findings<'_>) -> Option<VerifiedQuery> {
    let mut reader = Reader::new(node, file, findings, &format::VERIFIED_QUERY);
    let (name, source) = reader.name()?;
    Some(VerifiedQuery {
        name,
        source,
        question: reader.text("question"),
        sql: reader.text("sql"),
        description: reader.text("description"),
        verified_by: reader.text("verified_by"),
        verified_at: reader.text("verified_at"),
    })
}

/// Quotes an identifier so that its exact spelling reaches the database.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Reports what is wrong with the keys of one mapping, then hands out their values; what is wrong reads as left out.
struct Reader<'n, 'f, 's> {
    entries: &'n [Entry],
    at: Position,
    file: Arc<str>,
    shape: &'static Shape,
    findings: &'f mut Findings<'s>,
    /// Something that must be there is not.
    is_incomplete: bool,
}

impl<'n, 'f, 's> Reader<'n, 'f, 's> {
    fn new(node: &'n Node, file: &Arc<str>, findings: &'f mut Findings<'s>, shape: &'static Shape) -> Self {
        let mut reader =
            Reader { entries: &[], at: node.at, file: file.clone(), shape, findings, is_incomplete: false };
        let Value::Mapping(entries) = &node.value else {
            let message = format!("{} is a mapping, not {}", shape.what, node.value.kind());
            let help = format!("write `key: value` pairs: {}", names(shape));
            reader.findings.error("wrong-type", node.at, message, help);
            reader.is_incomplete = true;
            return reader;
        };
        reader.entries = entries;
        for entry in entries {
            match shape.key(&entry.key) {
                Some(key) => reader.check(key.name, key.kind, &entry.value),
                None if shape.is_open => {}
                None => {
                    let mut help = did_you_mean(&entry.key, shape.keys.iter().map(|key| key.name));
                    if help.is_empty() {
                        help = format!("keys of {}: {}", shape.what, names(shape));
                    }
                    let message = format!("{} has no key `{}`", shape.what, shown(&entry.key));
                    reader.findings.error("unknown-key", entry.key_at, message, help);
                }
            }
        }
        for key in shape.keys.iter().filter(|key| key.need != Need::Free) {
            let is_there = reader.get(key.name).is_some_and(|node| match &node.value {
                Value::String(text) => !text.is_empty() || key.need == Need::Present,
                Value::Sequence(items) => !items.is_empty() || key.need == Need::Present,
                _ => true,
            });
            if !is_there {
                reader.is_incomplete = true;
                // An empty list of models has a message of its own.
                if key.name != "semantic_model" {
                    let message = format!("{} without `{}`", shape.what, key.name);
                    let help = format!("add `{}`: {}", key.name, key.description);
                    let at = reader.get(key.name).map_or(reader.at, |node| node.at);
                    reader.findings.error("missing-key", at, message, help);
                }
            }
        }
        reader
    }

    /// A reader of a mapping inside this one.
    fn inner<'r>(&'r mut self, node: &'n Node, shape: &'static Shape) -> Reader<'n, 'r, 's> {
        Reader::new(node, &self.file, self.findings, shape)
    }

    /// Reports a value of the wrong kind. What is inside a mapping is checked when that is read.
    fn check(&mut self, key: &'static str, kind: Kind, node: &Node) {
        if matches!(node.value, Value::Null) {
            return;
        }
        let is_text = |node: &Node| matches!(node.value, Value::String(_));
        let is_mapping = |node: &Node| matches!(node.value, Value::Mapping(_));
        let (is_right, wanted) = match kind {
            Kind::Text | Kind::Name | Kind::OneOf(_) | Kind::Span => (is_text(node), "text (quote it)"),
            Kind::Scalar => (is_scalar(node), "a plain value"),
            Kind::Number => (is_number(node), "a number"),
            Kind::Flag => (matches!(node.value, Value::Bool(_)), "true or false"),
            // Said when it is read.
            Kind::Object(_) => (true, ""),
            Kind::TextOr(_) => (is_text(node) || is_mapping(node), "text or a mapping"),
            Kind::ScalarOr(_) => (is_scalar(node) || is_mapping(node), "text or a mapping"),
            Kind::Objects(_) => (is_list(node, |_| true), "a list"),
            Kind::Texts | Kind::SomeOf(_) => (is_list(node, is_text), "a list of texts (quote each)"),
            Kind::Scalars => (is_list(node, is_scalar), "a list of plain values"),
            Kind::TextLists => {
                (is_list(node, |item| is_list(item, is_text)), "a list of lists of texts (quote each)")
            }
            Kind::TextsOr(_) => {
                (is_list(node, |item| is_text(item) || is_mapping(item)), "a list of texts and mappings")
            }
        };
        if !is_right {
            let (at, found) = first_wrong(kind, node);
            let message = format!("`{key}` is {wanted}, not {found}");
            self.findings.error("wrong-type", at, message, "");
            return;
        }
        match (kind, &node.value) {
            (Kind::OneOf(allowed), Value::String(value)) => self.one_of(key, value, node.at, allowed),
            (Kind::SomeOf(allowed), Value::Sequence(items)) => {
                for item in items {
                    if let Value::String(value) = &item.value {
                        self.one_of(key, value, item.at, allowed);
                    }
                }
            }
            (Kind::Span, Value::String(value)) if TimeSpan::from_text(value).is_none() => {
                let help = format!("write a number and one of {}, such as `7 days`", Grain::NAMES.join(", "));
                let message = format!("`{key}` cannot be `{}`", shown(value));
                self.findings.error("unknown-value", node.at, message, help);
            }
            _ => {}
        }
    }

    fn one_of(&mut self, key: &str, value: &str, at: Position, allowed: &[&'static str]) {
        if allowed.contains(&value.trim()) {
            return;
        }
        let mut help = did_you_mean(value, allowed.iter().copied());
        if help.is_empty() {
            let quoted: Vec<String> = allowed.iter().map(|value| format!("`{value}`")).collect();
            help = format!("use {}", quoted.join(", "));
        }
        let message = format!("`{key}` cannot be `{}`", shown(value));
        self.findings.error("unknown-value", at, message, help);
    }

    /// The value of a key of this shape; `key:` with nothing behind it is left out.
    fn get(&self, key: &str) -> Option<&'n Node> {
        debug_assert!(self.shape.key(key).is_some(), "{} does not declare {key}", self.shape.name);
        let node = &self.entries.iter().find(|entry| entry.key == key)?.value;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The name and the place of a definition; nothing if it lacks what every such definition needs.
    fn name(&mut self) -> Option<(String, Source)> {
        let name = self.raw("name");
        if self.is_incomplete || name.is_empty() {
            return None;
        }
        let is_plain = name.len() <= 128
            && name.trim() == name
            && name
                .chars()
                .all(|character| character.is_alphanumeric() || matches!(character, '_' | '-' | ' '));
        if !is_plain {
            let at = self.get("name").map_or(self.at, |node| node.at);
            let message = format!("`{}` is hard to use as the name of {}", shown(&name), self.shape.what);
            let help =
                "use letters, digits, `_`, `-` and inner spaces, at most 128 of them: no scope names others";
            self.findings.warn("awkward-name", at, message, help);
        }
        Some((name, Source { file: self.file.clone(), at: self.at }))
    }

    /// Text as it stands.
    fn raw(&self, key: &str) -> String {
        match self.get(key).map(|node| &node.value) {
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        }
    }

    /// Text without the spaces round it.
    fn text(&self, key: &str) -> String {
        match self.get(key).map(|node| &node.value) {
            Some(Value::String(text)) => text.trim().to_owned(),
            _ => String::new(),
        }
    }

    fn scalar(&self, key: &str) -> String {
        self.get(key).and_then(scalar_text).unwrap_or_default()
    }

    fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)?.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    fn list(&self, key: &str) -> &'n [Node] {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Sequence(items)) => items,
            _ => &[],
        }
    }

    fn texts(&self, key: &str) -> Vec<String> {
        self.get(key).map(texts).unwrap_or_default()
    }

    fn scalars(&self, key: &str) -> Vec<String> {
        exact(self.list(key).iter().filter_map(scalar_text).collect())
    }

    fn sensitivity(&self) -> Sensitivity {
        // An unreadable level must never lower the wall: the strictest one stands in, and the error stops the file.
        if self.get("sensitivity").is_none() {
            return Sensitivity::Public;
        }
        match self.text("sensitivity").as_str() {
            "public" => Sensitivity::Public,
            "protected" => Sensitivity::Protected,
            _ => Sensitivity::HighlySensitive,
        }
    }

    /// SQL about access, checked when the whole model is known.
    fn policy(&self, key: &str) -> Option<Arc<Policy>> {
        let node = self.get(key)?;
        let source = Source { file: self.file.clone(), at: node.at };
        Some(Arc::new(Policy::new(scalar_text(node).unwrap_or_default(), source)))
    }

    fn expression(&mut self) -> Option<Expression> {
        let Some(node) = self.get("expression") else {
            let message = format!("{} without `expression`", self.shape.what);
            self.findings.error("missing-key", self.at, message, "write the SQL expression");
            return None;
        };
        if !matches!(node.value, Value::Mapping(_)) {
            return scalar_text(node).map(|text| Expression::ansi(text.trim()));
        }
        let mut reader = self.inner(node, &format::EXPRESSION);
        let mut dialects = Vec::new();
        for item in reader.list("dialects") {
            let one = reader.inner(item, &format::DIALECT_EXPRESSION);
            dialects.push((one.text("dialect"), one.text("expression")));
        }
        Expression::new(dialects)
    }

    /// A metric's name, or a mapping that says more.
    fn metric_input(&mut self, node: &'n Node) -> Option<MetricInput> {
        if let Value::String(name) = &node.value {
            return Some(MetricInput::named(name.trim()));
        }
        let reader = self.inner(node, &format::METRIC_INPUT);
        if reader.is_incomplete {
            return None;
        }
        let input = MetricInput {
            name: reader.text("name"),
            alias: reader.text("alias"),
            filter: reader.text("filter"),
            offset_window: TimeSpan::from_text(&reader.text("offset_window")),
            offset_to_grain: Grain::from_name(&reader.text("offset_to_grain")),
        };
        if input.offset_window.is_some() && input.offset_to_grain.is_some() {
            let message = format!("the input `{}` has two offsets", input.name);
            let help = "keep one of offset_window, offset_to_grain";
            self.findings.error("metric-keys", node.at, message, help);
        }
        Some(input)
    }

    fn metric_inputs(&mut self) -> Vec<MetricInput> {
        self.list("metrics").iter().filter_map(|node| self.metric_input(node)).collect()
    }

    fn non_additive_dimension(&mut self) -> Option<NonAdditiveDimension> {
        let node = self.get("non_additive_dimension")?;
        let reader = self.inner(node, &format::NON_ADDITIVE);
        (!reader.is_incomplete).then(|| NonAdditiveDimension {
            name: reader.text("name"),
            latest: reader.text("window_choice") != "min",
            window_groupings: reader.texts("window_groupings"),
        })
    }

    /// Keys that only another type of metric has are mistakes, and so is a ratio with half of its parts.
    fn fits_its_type(&mut self, metric: &Metric) {
        let at = self.at;
        let kind = metric.kind;
        let mut wrong = |message: &str, help: &str| {
            let message = format!("metric `{}` {message}", metric.name);
            self.findings.error("metric-keys", at, message, help);
        };
        let parts = usize::from(metric.numerator.is_some()) + usize::from(metric.denominator.is_some());
        match kind {
            Some(MetricKind::Ratio) if parts < 2 => {
                wrong("is a ratio without both its parts", "name a `numerator` and a `denominator`");
            }
            None | Some(MetricKind::Ratio) if parts != 1 => {}
            _ if parts > 0 => {
                wrong("has parts of a ratio", "set `type: ratio` and name both parts, or drop them")
            }
            _ => {}
        }
        let cumulative = metric.window.is_some() || metric.grain_to_date.is_some();
        if cumulative && kind != Some(MetricKind::Cumulative) {
            wrong("has keys of a cumulative metric", "set `type: cumulative`, or drop them");
        }
        if metric.window.is_some() && metric.grain_to_date.is_some() {
            wrong("has both a window and a grain_to_date", "keep one of them");
        }
        if !metric.metrics.is_empty() && !matches!(kind, None | Some(MetricKind::Derived)) {
            wrong("lists input metrics", "set `type: derived`, or drop `metrics`");
        }
    }

    /// The context, and all synonyms: Ossie keeps them in there, Steward beside it.
    fn ai_context(&mut self) -> (AiContext, Vec<String>) {
        let mut context = AiContext::default();
        let mut synonyms = Vec::new();
        match self.get("ai_context") {
            Some(Node { value: Value::String(text), .. }) => context.instructions = text.trim().to_owned(),
            Some(node @ Node { value: Value::Mapping(_), .. }) => {
                let reader = self.inner(node, &format::AI_CONTEXT);
                context.instructions = reader.text("instructions");
                context.examples = reader.texts("examples");
                synonyms = reader.texts("synonyms");
            }
            _ => {}
        }
        if self.shape.key("synonyms").is_some() {
            let more = self.texts("synonyms");
            synonyms = if synonyms.is_empty() { more } else { [synonyms, more].concat() };
        }
        (context, synonyms)
    }

    fn extensions(&mut self) -> Vec<CustomExtension> {
        let mut extensions = Vec::new();
        for node in self.list("custom_extensions") {
            let reader = self.inner(node, &format::EXTENSION);
            extensions
                .push(CustomExtension { vendor_name: reader.text("vendor_name"), data: reader.raw("data") });
        }
        extensions
    }
}

fn names(shape: &Shape) -> String {
    shape.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

/// A text of a file as a message may repeat it: without control characters, and not at any length.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.escape_debug().to_string()
}

fn is_scalar(node: &Node) -> bool {
    matches!(node.value, Value::String(_) | Value::Bool(_) | Value::Integer(_) | Value::Float(_))
}

fn is_number(node: &Node) -> bool {
    match node.value {
        Value::Integer(_) => true,
        Value::Float(value) => value.is_finite(),
        _ => false,
    }
}

fn is_list(node: &Node, is_right: impl Fn(&Node) -> bool) -> bool {
    matches!(&node.value, Value::Sequence(items) if items.iter().all(is_right))
}

/// Where a value of the wrong kind goes wrong, and what stands there.
fn first_wrong(kind: Kind, node: &Node) -> (Position, &'static str) {
    let Value::Sequence(items) = &node.value else { return (node.at, node.value.kind()) };
    let wrong = items.iter().find(|item| match kind {
        Kind::Texts | Kind::SomeOf(_) => !matches!(item.value, Value::String(_)),
        Kind::Scalars => !is_scalar(item),
        Kind::TextsOr(_) => !matches!(item.value, Value::String(_) | Value::Mapping(_)),
        Kind::TextLists => !is_list(item, |text| matches!(text.value, Value::String(_))),
        _ => false,
    });
    match wrong {
        Some(item) if matches!(kind, Kind::TextLists) => first_wrong(Kind::Texts, item),
        Some(item) => (item.at, item.value.kind()),
        None => (node.at, node.value.kind()),
    }
}

fn texts(node: &Node) -> Vec<String> {
    let Value::Sequence(items) = &node.value else { return Vec::new() };
    let text = |item: &Node| match &item.value {
        Value::String(text) => Some(text.trim().to_owned()),
        _ => None,
    };
    exact(items.iter().filter_map(text).collect())
}

/// Without spare room: there are many of these, and they stay.
fn exact<T>(mut items: Vec<T>) -> Vec<T> {
    items.shrink_to_fit();
    items
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
