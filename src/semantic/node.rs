//! YAML as a tree whose every node knows its line and column, so that any later finding can point at its cause.
//!
//! Knows YAML, nothing of the semantic model. JSON is YAML here.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// One-based line and column in a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// A YAML value with its position.
#[derive(Debug, Clone)]
pub struct Node {
    pub value: Value,
    pub at: Position,
}

/// The YAML core schema, without tags.
#[derive(Debug, Clone)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// One key of a mapping; keys keep the order of the file.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    pub key_at: Position,
    pub value: Node,
}

impl Value {
    /// What a person would call this kind of value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::String(_) => "text",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// Why a text isn't usable YAML, with the position if the parser knows it.
#[derive(Debug, Clone)]
pub struct SyntaxError {
    pub message: String,
    pub help: &'static str,
    pub at: Position,
}

/// Deeper nesting is refused; a model needs eight levels.
const MAX_DEPTH: usize = 64;
/// Values in one file, each of which takes about 100 bytes.
const MAX_NODES: usize = 1_000_000;

/// Parses one document. Duplicate keys, alias bombs and over-deep nesting are errors.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let budget = serde_saphyr::budget! {
        max_depth: MAX_DEPTH,
        max_nodes: MAX_NODES,
        max_events: 4 * MAX_NODES,
    };
    // YAML 1.2: `no`, `n` and `on` are text, so that Norway is a country and a model may be called n.
    let options = serde_saphyr::options! { with_snippet: false, budget: budget, strict_booleans: true };
    parse_with(text, options)
}

/// The same for documents that programs have written, such as manifests of 50 MB: up to eight million values. Other tools
/// read YAML 1.1, where `yes` is true.
pub fn parse_large(text: &str) -> Result<Node, SyntaxError> {
    const VALUES: usize = 8_000_000;
    let mut options = serde_saphyr::options! { with_snippet: false };
    if let Some(budget) = &mut options.budget {
        budget.max_nodes = VALUES;
        budget.max_events = 2 * VALUES;
        budget.max_total_scalar_bytes = 256 * 1024 * 1024;
    }
    parse_with(text, options)
}

fn parse_with(text: &str, options: serde_saphyr::Options) -> Result<Node, SyntaxError> {
    serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options).map(node).map_err(|error| {
        let message = plain_message(&error);
        SyntaxError {
            at: error.location().map_or(Position { line: 1, column: 1 }, position),
            help: help(&message),
            message,
        }
    })
}

fn help(message: &str) -> &'static str {
    let lower = message.to_lowercase();
    let mentions = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if mentions(&["duplicate"]) {
        "keep one of the two keys"
    } else if mentions(&["tab"]) {
        "indent with spaces"
    } else if mentions(&["budget", "alias", "limit"]) {
        "split the file, or write out what anchors repeat"
    } else if mentions(&["multiple yaml documents"]) {
        "keep one document a file: put what follows `---` into a file of its own"
    } else {
        "mend the YAML here or on the line above; check indentation, quotes and brackets"
    }
}

fn plain_message(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    // The position is shown separately; the parser repeats it at the end of its sentence.
    let first = first.split(" at line ").next().unwrap_or(first);
    // What a program should call instead is no help to who writes YAML.
    let first = first.split("; use ").next().unwrap_or(first);
    first.trim_start_matches("error: ").to_owned()
}

fn position(location: serde_saphyr::Location) -> Position {
    Position {
        line: u32::try_from(location.line()).unwrap_or(u32::MAX).max(1),
        column: u32::try_from(location.column()).unwrap_or(u32::MAX).max(1),
    }
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { at: position(spanned.referenced), value: spanned.value }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element::<Spanned<Value>>()? {
            items.push(node(item));
        }
        Ok(Value::Sequence(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<Value>>()?;
            entries.push(Entry { key_at: position(key.referenced), key: key.value, value: node(value) });
        }
        Ok(Value::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_and_key_knows_its_line_and_column() {
        let root = parse("name: flights\ndatasets:\n  - name: planes\n    seats: 12\n").unwrap();
        let Value::Mapping(entries) = root.value else { panic!("a mapping") };
        assert_eq!(entries[0].key_at, Position { line: 1, column: 1 });
        assert_eq!(entries[0].value.at, Position { line: 1, column: 7 });
        let Value::Sequence(items) = &entries[1].value.value else { panic!("a list") };
        let Value::Mapping(dataset) = &items[0].value else { panic!("a mapping") };
        assert_eq!(dataset[1].key_at, Position { line: 4, column: 5 });
        assert!(matches!(dataset[1].value.value, Value::Integer(12)));
    }

    #[test]
    fn a_file_cut_in_half_and_a_duplicate_key_are_errors_with_a_line() {
        assert_eq!(parse("a: [1, 2\nb: 3\n").unwrap_err().at.line, 2);
        let error = parse("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(error.at.line, 3, "{}", error.message);
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(",");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(parse(&text).is_err());
    }
}
