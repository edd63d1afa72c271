//! YAML with the place of every key and value, read key by key, so that all mistakes of a file are found at once.
//!
//! Pure. Y1 a key nobody asked for is an error. Y2 no diagnostic repeats a scalar's text unless the reader asks
//! for it, since a scalar may be a secret that somebody pasted.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::diagnostic::{ActionDiagnostic, Severity};
use super::name::closest;

/// One YAML node and where it stands.
pub type Placed = Spanned<Node>;

/// Any YAML value.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Placed>),
    Map(Vec<(Spanned<String>, Placed)>),
}

impl Node {
    /// What sort of value this is, for messages.
    pub fn sort(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Unsigned(_) | Self::Signed(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;

        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Unsigned(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
                Ok(u64::try_from(value).map_or(Node::Signed(value), Node::Unsigned))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Float(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }
            fn visit_string<E: de::Error>(self, value: String) -> Result<Node, E> {
                Ok(Node::Text(value))
            }
            fn visit_none<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                deserializer.deserialize_any(self)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Node::Map(map))
            }
        }
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// Where findings of one file are gathered.
pub struct Findings {
    file: String,
    list: RefCell<Vec<ActionDiagnostic>>,
}

impl Findings {
    pub fn new(file: String) -> Self {
        Self { file, list: RefCell::default() }
    }

    /// Adds an error at a place.
    pub fn error(&self, at: Location, rule: &'static str, message: String, help: impl Into<String>) {
        self.add(Severity::Error, at, rule, message, help.into());
    }

    /// Adds a warning at a place.
    pub fn warning(&self, at: Location, rule: &'static str, message: String, help: impl Into<String>) {
        self.add(Severity::Warning, at, rule, message, help.into());
    }

    fn add(&self, severity: Severity, at: Location, rule: &'static str, message: String, help: String) {
        let clamp = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        self.list.borrow_mut().push(ActionDiagnostic {
            file: self.file.clone(),
            line: clamp(at.line()),
            column: clamp(at.column()),
            severity,
            rule,
            message,
            help,
        });
    }

    /// How many findings there are so far.
    pub fn count(&self) -> usize {
        self.list.borrow().len()
    }

    /// Whether an error was found so far.
    pub fn has_errors(&self) -> bool {
        self.list.borrow().iter().any(|finding| finding.severity == Severity::Error)
    }

    /// All findings, in the order of the file.
    pub fn into_list(self) -> Vec<ActionDiagnostic> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|finding| (finding.line, finding.column));
        list
    }
}

/// Parses one YAML document; a syntax error becomes one finding.
pub fn parse(text: &str, findings: &Findings) -> Option<Placed> {
    match serde_saphyr::from_str::<Placed>(text) {
        Ok(node) => Some(node),
        Err(error) => {
            let at = error.location().unwrap_or(Location::UNKNOWN);
            let message = first_line(&error.without_snippet().to_string());
            findings.error(at, "actions/yaml", message, "mend the YAML syntax");
            None
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("the file is not YAML").to_owned()
}

/// A mapping that is read key by key; `finish` reports the keys that nobody read.
pub struct Section<'a> {
    findings: &'a Findings,
    /// How messages name this mapping, such as `limits`; empty at the top.
    label: String,
    at: Location,
    entries: &'a [(Spanned<String>, Placed)],
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The node as a mapping, or a finding.
    pub fn new(node: &'a Placed, label: impl Into<String>, findings: &'a Findings) -> Option<Self> {
        let label = label.into();
        match &node.value {
            Node::Map(entries) => {
                Some(Self { findings, label, at: node.referenced, entries, known: RefCell::default() })
            }
            other => {
                let what = if label.is_empty() { "the file".to_owned() } else { format!("`{label}`") };
                findings.error(
                    node.referenced,
                    "actions/type",
                    format!("{what} must be a mapping, but is {}", other.sort()),
                    "write `key: value` lines",
                );
                None
            }
        }
    }

    /// Where the mapping starts.
    pub fn at(&self) -> Location {
        self.at
    }

    /// All entries, for mappings whose keys are names of the user's.
    pub fn entries(&self) -> &'a [(Spanned<String>, Placed)] {
        self.entries
    }

    fn key_label(&self, key: &str) -> String {
        if self.label.is_empty() { key.to_owned() } else { format!("{}.{key}", self.label) }
    }

    /// The value of a key, `None` where it is absent or null. Marks the key as known.
    pub fn get(&self, key: &'static str) -> Option<&'a Placed> {
        self.known.borrow_mut().push(key);
        let (_, node) = self.entries.iter().find(|(name, _)| name.value == key)?;
        if node.value == Node::Null { None } else { Some(node) }
    }

    fn wrong_type(&self, key: &str, node: &Placed, wanted: &str) {
        self.findings.error(
            node.referenced,
            "actions/type",
            format!("`{}` must be {wanted}, but is {}", self.key_label(key), node.value.sort()),
            "",
        );
    }

    /// A text.
    pub fn text(&self, key: &'static str) -> Option<Spanned<&'a str>> {
        let node = self.get(key)?;
        match &node.value {
            Node::Text(text) => Some(Spanned::new(text.as_str(), node.referenced, node.defined)),
            _ => {
                self.wrong_type(key, node, "a text");
                None
            }
        }
    }

    /// A boolean.
    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        let node = self.get(key)?;
        if let Node::Bool(value) = node.value {
            return Some(value);
        }
        self.wrong_type(key, node, "true or false");
        None
    }

    /// A whole number within a range.
    pub fn whole_number(&self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let node = self.get(key)?;
        match node.value {
            Node::Unsigned(value) if range.contains(&value) => Some(value),
            Node::Unsigned(_) | Node::Signed(_) => {
                self.findings.error(
                    node.referenced,
                    "actions/range",
                    format!("`{}` must be from {} to {}", self.key_label(key), range.start(), range.end()),
                    "",
                );
                None
            }
            _ => {
                self.wrong_type(key, node, "a whole number");
                None
            }
        }
    }

    /// A list of texts; a single text counts as a list of one.
    pub fn texts(&self, key: &'static str) -> Option<Vec<Spanned<&'a str>>> {
        let node = self.get(key)?;
        match &node.value {
            Node::Text(text) => Some(vec![Spanned::new(text.as_str(), node.referenced, node.defined)]),
            Node::List(items) => {
                let mut texts = Vec::new();
                for item in items {
                    match &item.value {
                        Node::Text(text) => {
                            texts.push(Spanned::new(text.as_str(), item.referenced, item.defined));
                        }
                        _ => self.wrong_type(key, item, "a list of texts"),
                    }
                }
                Some(texts)
            }
            _ => {
                self.wrong_type(key, node, "a list of texts");
                None
            }
        }
    }

    /// A nested mapping.
    pub fn section(&self, key: &'static str) -> Option<Section<'a>> {
        Section::new(self.get(key)?, self.key_label(key), self.findings)
    }

    /// A finding that a key is missing.
    pub fn missing(&self, key: &str, help: &str) {
        self.findings.error(
            self.at,
            "actions/missing-key",
            format!("`{}` is missing", self.key_label(key)),
            help.to_owned(),
        );
    }

    /// Reports every key that was not asked for.
    pub fn finish(self) {
        let known = self.known.into_inner();
        for (key, _) in self.entries {
            if known.contains(&key.value.as_str()) {
                continue;
            }
            let help = match closest(&key.value, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys are {}", known.join(", ")),
            };
            let place = if self.label.is_empty() { String::new() } else { format!(" in `{}`", self.label) };
            self.findings.error(
                key.referenced,
                "actions/unknown-key",
                format!("unknown key `{}`{place}", key.value),
                help,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_knows_its_place() {
        let findings = Findings::new("f".into());
        let node = parse("a: 1\nb:\n  c: [x, 200]\n", &findings).unwrap();
        let Node::Map(entries) = &node.value else { panic!("a mapping") };
        let (key, value) = &entries[1];
        assert_eq!((key.value.as_str(), key.referenced.line(), key.referenced.column()), ("b", 2, 1));
        let Node::Map(inner) = &value.value else { panic!("a mapping") };
        let Node::List(items) = &inner[0].1.value else { panic!("a list") };
        assert_eq!((items[1].referenced.line(), items[1].referenced.column()), (3, 10));
        assert_eq!(items[1].value, Node::Unsigned(200));
    }

    #[test]
    fn a_syntax_error_is_one_finding_with_its_line() {
        let findings = Findings::new("f".into());
        assert!(parse("a: [1,\nb: }", &findings).is_none());
        let list = findings.into_list();
        assert_eq!(list.len(), 1);
        assert!(list[0].line >= 1);
    }
}
