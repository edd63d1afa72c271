//! A foreign mapping, read key by key. What no importer asked for is reported, so that nothing is dropped silently.

use super::Report;
use crate::semantic::Position;
use crate::semantic::node::{Entry, Node, Value};

/// A mapping of which keys are taken one after the other.
#[derive(Debug)]
pub struct Keys<'n> {
    entries: &'n [Entry],
    taken: Vec<bool>,
    pub at: Position,
    /// What the mapping is, for remarks.
    pub what: String,
}

impl<'n> Keys<'n> {
    /// `None`, with a remark, if the node is no mapping.
    pub fn open(node: &'n Node, what: impl Into<String>, report: &mut Report) -> Option<Self> {
        let what = what.into();
        match &node.value {
            Value::Mapping(entries) => {
                Some(Self { entries, taken: vec![false; entries.len()], at: node.at, what })
            }
            other => {
                report.lost(node.at, what, format!("it is {}, not a mapping", other.kind()), "");
                None
            }
        }
    }

    /// Like [`Keys::open`] for a thing with a name: `kind` and the name say what it is.
    pub fn named(node: &'n Node, kind: &str, report: &mut Report) -> Option<(Self, String)> {
        let mut keys = Self::open(node, kind, report)?;
        let name = keys.text("name", report);
        if name.is_empty() {
            report.lost(node.at, format!("a {kind}"), "it has no name", "give it one");
            return None;
        }
        keys.what = format!("{kind} `{name}`");
        Some((keys, name))
    }

    /// The value of a key, unless it is null.
    pub fn take(&mut self, key: &str) -> Option<&'n Node> {
        let position = self.entries.iter().position(|entry| entry.key == key)?;
        self.taken[position] = true;
        let node = &self.entries[position].value;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The first of several spellings that is there.
    pub fn any(&mut self, keys: &[&str]) -> Option<&'n Node> {
        let mut found = None;
        for key in keys {
            let node = self.take(key);
            found = found.or(node);
        }
        found
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && !is_empty(&entry.value))
    }

    pub fn text(&mut self, key: &str, report: &mut Report) -> String {
        self.any_text(&[key], report)
    }

    /// A plain value as text; empty if there is none.
    pub fn any_text(&mut self, keys: &[&str], report: &mut Report) -> String {
        let Some(node) = self.any(keys) else { return String::new() };
        match plain(node) {
            Some(text) => text.trim().to_owned(),
            None => {
                if !is_empty(node) {
                    self.wrong(keys[0], node, "text", report);
                }
                String::new()
            }
        }
    }

    pub fn flag(&mut self, key: &str, report: &mut Report) -> Option<bool> {
        let node = self.take(key)?;
        match &node.value {
            Value::Bool(value) => Some(*value),
            Value::String(text) if matches!(text.as_str(), "true" | "True") => Some(true),
            Value::String(text) if matches!(text.as_str(), "false" | "False") => Some(false),
            _ => {
                self.wrong(key, node, "true or false", report);
                None
            }
        }
    }

    /// The items of a list; one plain value stands for a list of itself.
    pub fn list(&mut self, key: &str, report: &mut Report) -> &'n [Node] {
        let Some(node) = self.take(key) else { return &[] };
        match &node.value {
            Value::Sequence(items) => items,
            Value::Mapping(entries) if entries.is_empty() => &[],
            Value::Mapping(_) => {
                self.wrong(key, node, "a list", report);
                &[]
            }
            _ => std::slice::from_ref(node),
        }
    }

    /// The plain values of a list.
    pub fn texts(&mut self, key: &str, report: &mut Report) -> Vec<String> {
        let mut texts = Vec::new();
        for node in self.list(key, report) {
            match plain(node) {
                Some(text) => texts.push(text.trim().to_owned()),
                None => self.wrong(key, node, "a list of plain values", report),
            }
        }
        texts
    }

    /// Keys that say nothing that Steward would have to know.
    pub fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.take(key);
        }
    }

    /// Takes keys out as JSON, for an extension that keeps what has no counterpart.
    pub fn keep(&mut self, keys: &[&str]) -> serde_json::Map<String, serde_json::Value> {
        let mut kept = serde_json::Map::new();
        for key in keys {
            if let Some(node) = self.take(key).filter(|node| !is_empty(node)) {
                kept.insert((*key).to_owned(), to_json(node));
            }
        }
        kept
    }

    /// Takes out what nobody has asked for so far, as JSON.
    pub fn keep_rest(&mut self) -> serde_json::Map<String, serde_json::Value> {
        let mut kept = serde_json::Map::new();
        for (entry, taken) in self.entries.iter().zip(&mut self.taken).filter(|(_, taken)| !**taken) {
            *taken = true;
            if !is_empty(&entry.value) {
                kept.insert(entry.key.clone(), to_json(&entry.value));
            }
        }
        kept
    }

    /// Keys that are here, with the reason why they have no counterpart.
    /// Says whether there was any of them.
    pub fn lose(&mut self, keys: &[&str], why: &str, remedy: &str, report: &mut Report) -> bool {
        let mut any = false;
        for key in keys {
            if let Some(node) = self.take(key).filter(|node| !is_empty(node)) {
                report.lost(self.key_at(key).unwrap_or(node.at), self.part(key, node), why, remedy);
                any = true;
            }
        }
        any
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self, report: &mut Report) {
        for (entry, _) in self.entries.iter().zip(&self.taken).filter(|(_, taken)| !**taken) {
            if !is_empty(&entry.value) {
                let why = "there is no counterpart that the importer knows";
                report.lost(entry.key_at, self.part(&entry.key, &entry.value), why, "");
            }
        }
    }

    fn key_at(&self, key: &str) -> Option<Position> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.key_at)
    }

    fn part(&self, key: &str, node: &Node) -> String {
        format!("`{key}: {}` of {}", summary(node), self.what)
    }

    fn wrong(&self, key: &str, node: &Node, wanted: &str, report: &mut Report) {
        report.lost(node.at, self.part(key, node), format!("{wanted} was expected"), "");
    }
}

/// The value of a key of a mapping, unless it is null.
pub fn find<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Mapping(entries) => {
            let value = &entries.iter().find(|entry| entry.key == key)?.value;
            (!matches!(value.value, Value::Null)).then_some(value)
        }
        _ => None,
    }
}

/// A scalar as text.
pub fn plain(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Integer(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
    }
}

/// Whether the value says nothing.
pub fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Sequence(items) => items.iter().all(is_empty),
        Value::Mapping(entries) => entries.iter().all(|entry| is_empty(&entry.value)),
        _ => false,
    }
}

pub fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(value) => match i64::try_from(*value) {
            Ok(value) => value.into(),
            // JSON has the number, our reader of it may not: as text it is whole in any case.
            Err(_) => value.to_string().into(),
        },
        Value::Float(value) => {
            serde_json::Number::from_f64(*value).map_or_else(|| value.to_string().into(), Into::into)
        }
        Value::String(text) => text.as_str().into(),
        Value::Sequence(items) => items.iter().map(to_json).collect(),
        Value::Mapping(entries) => serde_json::Value::Object(
            entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.value))).collect(),
        ),
    }
}

/// A few words of a value, for a remark.
fn summary(node: &Node) -> String {
    let text = match &node.value {
        Value::Null => "null".to_owned(),
        Value::Sequence(items) => match items.as_slice() {
            [one] => format!("[{}]", summary(one)),
            items => format!("[{} items]", items.len()),
        },
        Value::Mapping(entries) => {
            let keys: Vec<&str> = entries.iter().take(4).map(|entry| entry.key.as_str()).collect();
            let more = if entries.len() > 4 { ", …" } else { "" };
            format!("{{{}{more}}}", keys.join(", "))
        }
        _ => plain(node).unwrap_or_default(),
    };
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}
