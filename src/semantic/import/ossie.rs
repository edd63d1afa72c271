//! Apache Ossie documents, in any of the three shapes that Steward reads; what `export::ossie` put into extensions
//! becomes keys again.

use super::{ImportError, ImportOptions, Parsed, Report, keys};
use crate::semantic::diagnostic::{Findings, Severity};
use crate::semantic::export::VENDOR;
use crate::semantic::node::{self, Entry, Node, Value};
use crate::semantic::{Model, read};

pub fn read(
    files: &[Parsed],
    _options: &ImportOptions,
    report: &mut Report,
) -> Result<Vec<Model>, ImportError> {
    let mut models: Vec<Model> = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        report.file = file.name.clone();
        let mut root = file.root.clone();
        restore(&mut root, report);
        contexts(&mut root, report);
        let mut findings = Findings::new(&file.name, "");
        for document in read::documents(&root, &mut findings) {
            merge(&mut models, document.model, report);
        }
        for finding in findings.finish() {
            match finding.severity {
                Severity::Error => errors.push(finding),
                Severity::Warning => {}
            }
        }
    }
    if errors.is_empty() { Ok(models) } else { Err(ImportError(errors)) }
}

/// Files of one model add up.
fn merge(models: &mut Vec<Model>, other: Model, report: &mut Report) {
    let Some(model) = models.iter_mut().find(|model| model.name == other.name) else {
        models.push(other);
        return;
    };
    let (name, at) = (other.name.clone(), other.source.at);
    model.append(other, |key, is_same| {
        if !is_same {
            report.lost(
                at,
                format!("`{key}` of model `{name}`"),
                "an earlier file sets it",
                "keep one of them",
            );
        }
    });
}

/// Puts the keys of STEWARD's extensions back where they came from, at every level.
fn restore(node: &mut Node, report: &mut Report) {
    match &mut node.value {
        Value::Sequence(items) => items.iter_mut().for_each(|item| restore(item, report)),
        Value::Mapping(entries) => {
            let at = entries.iter().position(|entry| entry.key == "custom_extensions");
            if let Some(at) = at {
                let restored = ours(&mut entries[at].value, report);
                let is_empty = matches!(&entries[at].value.value, Value::Sequence(items) if items.is_empty());
                if is_empty {
                    entries.remove(at);
                }
                for new in restored {
                    match entries.iter_mut().find(|entry| entry.key == new.key) {
                        Some(entry) => entry.value = new.value,
                        None => entries.push(new),
                    }
                }
            }
            for entry in entries {
                // What the extension of a model brought back has none of its own.
                restore(&mut entry.value, report);
            }
        }
        _ => {}
    }
}

/// Takes our extensions out of a list of extensions, as the keys that they hold.
fn ours(extensions: &mut Node, report: &mut Report) -> Vec<Entry> {
    let Value::Sequence(items) = &mut extensions.value else { return Vec::new() };
    let mut restored = Vec::new();
    items.retain(|item| {
        let Value::Mapping(entries) = &item.value else { return true };
        let text = |key: &str| {
            entries.iter().find(|entry| entry.key == key).and_then(|entry| keys::plain(&entry.value))
        };
        if text("vendor_name").as_deref() != Some(VENDOR) {
            return true;
        }
        let parsed = node::parse(&text("data").unwrap_or_default());
        match parsed.map(|node| node.value) {
            Ok(Value::Mapping(found)) => {
                restored.extend(found.into_iter().map(|entry| place(entry, item.at)));
                false
            }
            _ => {
                let what = format!("an extension of vendor {VENDOR}");
                report.changed(
                    item.at,
                    what,
                    "its data is no JSON object, so that it stays an extension",
                    "",
                );
                true
            }
        }
    });
    restored
}

/// Positions inside an extension's text say nothing of the file; its own does.
fn place(mut entry: Entry, at: crate::semantic::Position) -> Entry {
    fn walk(node: &mut Node, at: crate::semantic::Position) {
        node.at = at;
        match &mut node.value {
            Value::Sequence(items) => items.iter_mut().for_each(|item| walk(item, at)),
            Value::Mapping(entries) => {
                for entry in entries {
                    entry.key_at = at;
                    walk(&mut entry.value, at);
                }
            }
            _ => {}
        }
    }
    entry.key_at = at;
    walk(&mut entry.value, at);
    entry
}

/// Ossie allows any key in `ai_context`, and an `ai_context` on relationships: what the reader passes over is reported,
/// or said in another place.
fn contexts(node: &mut Node, report: &mut Report) {
    match &mut node.value {
        Value::Sequence(items) => items.iter_mut().for_each(|item| contexts(item, report)),
        Value::Mapping(entries) => {
            for entry in entries.iter_mut() {
                match (entry.key.as_str(), &mut entry.value.value) {
                    ("ai_context", Value::Mapping(inner)) => {
                        for extra in inner.iter().filter(|inner| {
                            !["instructions", "synonyms", "examples"].contains(&inner.key.as_str())
                        }) {
                            let what = format!("`{}` of an ai_context", extra.key);
                            report.lost(
                                extra.key_at,
                                what,
                                "Steward reads instructions, synonyms, examples",
                                "",
                            );
                        }
                    }
                    ("relationships", Value::Sequence(items)) => {
                        items.iter_mut().for_each(|item| of_relationship(item, report));
                    }
                    (_, _) => contexts(&mut entry.value, report),
                }
            }
        }
        _ => {}
    }
}

fn of_relationship(node: &mut Node, report: &mut Report) {
    let Value::Mapping(entries) = &mut node.value else { return };
    let Some(at) = entries.iter().position(|entry| entry.key == "ai_context") else { return };
    let context = entries.remove(at);
    let mut hints = Vec::new();
    let mut others = serde_json::Map::new();
    match &context.value.value {
        Value::String(_) => hints.push(context.value.clone()),
        Value::Mapping(inner) => {
            for part in inner {
                match part.key.as_str() {
                    "instructions" => hints.push(part.value.clone()),
                    key => {
                        others.insert(key.to_owned(), keys::to_json(&part.value));
                    }
                }
            }
        }
        _ => {}
    }
    if !others.is_empty() {
        let what = "synonyms or examples in the ai_context of a relationship";
        report.changed(
            context.key_at,
            what,
            "Steward's relationships have hints only; an extension keeps them",
            "",
        );
        let data = serde_json::json!({"ai_context": others}).to_string();
        let at = context.value.at;
        let text = |text: &str| Node { at, value: Value::String(text.to_owned()) };
        let entry = |key: &str, value: Node| Entry { key: key.to_owned(), key_at: at, value };
        let extension = vec![entry("vendor_name", text("OSSIE")), entry("data", text(&data))];
        let extension = Node { at, value: Value::Mapping(extension) };
        match entries
            .iter_mut()
            .find(|entry| entry.key == "custom_extensions")
            .map(|entry| &mut entry.value.value)
        {
            Some(Value::Sequence(items)) => items.push(extension),
            _ => {
                let list = Node { at, value: Value::Sequence(vec![extension]) };
                entries.push(entry("custom_extensions", list));
            }
        }
    }
    match entries.iter_mut().find(|entry| entry.key == "hints") {
        Some(Entry { value: Node { value: Value::Sequence(items), .. }, .. }) => items.extend(hints),
        _ if hints.is_empty() => {}
        _ => {
            let value = Node { at: context.value.at, value: Value::Sequence(hints) };
            entries.push(Entry { key: "hints".to_owned(), key_at: context.key_at, value });
        }
    }
}
