//! A small tree, written as YAML that people like to edit: comments, blank lines, short lists in one line, long text
//! in blocks.
//!
//! Knows YAML, nothing of the semantic model. (serde-saphyr's serializer has no comments above a key.)
//! Y1 What is written reads back as the same tree, by readers of YAML 1.1 and of 1.2: text stands bare only where
//!    neither could take it for anything else. Y2 Keys keep their order.

use std::fmt::Write as _;

/// Where lines are broken, if they can be.
const WIDTH: usize = 110;

/// A value to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    Text(String),
    /// A number or truth value, in a spelling that YAML and JSON share.
    Bare(String),
    List(Vec<Yaml>),
    Map(Map),
}

/// A mapping in the order of writing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map {
    pub entries: Vec<(&'static str, Yaml)>,
    /// Lines that stand above the mapping, where it is an item of a list or the document.
    pub comment: Vec<String>,
}

impl Map {
    /// Adds text, unless it is empty.
    pub fn text(&mut self, key: &'static str, text: &str) {
        if !text.is_empty() {
            self.entries.push((key, Yaml::Text(text.to_owned())));
        }
    }

    pub fn bare(&mut self, key: &'static str, value: impl ToString) {
        self.entries.push((key, Yaml::Bare(value.to_string())));
    }

    /// Adds `true`, or nothing.
    pub fn flag(&mut self, key: &'static str, value: bool) {
        if value {
            self.bare(key, true);
        }
    }

    /// Adds a list of texts, unless it is empty.
    pub fn texts(&mut self, key: &'static str, texts: &[impl AsRef<str>]) {
        self.list(key, texts.iter().map(|text| Yaml::Text(text.as_ref().to_owned())).collect());
    }

    /// Adds a list, unless it is empty.
    pub fn list(&mut self, key: &'static str, items: Vec<Yaml>) {
        if !items.is_empty() {
            self.entries.push((key, Yaml::List(items)));
        }
    }

    /// Adds a mapping, unless it is empty.
    pub fn map(&mut self, key: &'static str, map: Map) {
        if !map.entries.is_empty() {
            self.entries.push((key, Yaml::Map(map)));
        }
    }
}

impl Yaml {
    /// The same as JSON, without comments.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Bare(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(map) => map.to_json(),
        }
    }

    /// Values in it, itself among them, and bytes of its texts.
    pub fn weight(&self) -> (usize, usize) {
        match self {
            Self::Text(text) | Self::Bare(text) => (1, text.len()),
            Self::List(items) => items.iter().map(Self::weight).fold((1, 0), sum),
            Self::Map(map) => map.weight(),
        }
    }

    fn is_scalar(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Bare(_))
    }
}

fn sum(a: (usize, usize), b: (usize, usize)) -> (usize, usize) {
    (a.0 + b.0, a.1 + b.1)
}

impl Map {
    /// Values in it, keys counted, and bytes of its texts.
    pub fn weight(&self) -> (usize, usize) {
        let entries = self.entries.iter().map(|(key, value)| sum(value.weight(), (1, key.len())));
        entries.fold((1, 0), sum)
    }

    /// The same as JSON, without comments.
    pub fn to_json(&self) -> serde_json::Value {
        let entries = self.entries.iter().map(|(key, value)| ((*key).to_owned(), value.to_json()));
        serde_json::Value::Object(entries.collect())
    }

    /// The whole document.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        comment(&mut out, 0, &self.comment);
        if !self.comment.is_empty() {
            out.push('\n');
        }
        entries(&mut out, 0, &self.entries, "");
        out
    }
}

/// A number or truth value bare where it reads back as the same text, any other text as text.
pub fn scalar(text: &str) -> Yaml {
    let same = text == "true"
        || text == "false"
        || text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
        || text.parse::<f64>().is_ok_and(|number| {
            number.is_finite() && text.contains('.') && number.to_string() == text && text.len() < 17
        });
    if same { Yaml::Bare(text.to_owned()) } else { Yaml::Text(text.to_owned()) }
}

fn comment(out: &mut String, indent: usize, lines: &[String]) {
    for line in lines.iter().flat_map(|text| text.lines()) {
        let clean: String = line.chars().map(|c| if is_odd(c) { '\u{fffd}' } else { c }).collect();
        let text = format!("# {}", clean.trim_end());
        let _ = writeln!(out, "{:indent$}{}", "", text.trim_end());
    }
}

/// Writes a mapping's entries; the first stands behind `lead` (`- ` in a list) where that is not empty.
fn entries(out: &mut String, indent: usize, entries: &[(&'static str, Yaml)], lead: &str) {
    for (position, (key, value)) in entries.iter().enumerate() {
        let is_section = matches!(value, Yaml::List(items) if items.iter().any(|item| !item.is_scalar()));
        if indent == 0 && is_section && position > 0 && out.ends_with('\n') && !out.ends_with("\n\n") {
            out.push('\n');
        }
        match (position, lead) {
            (0, lead) if !lead.is_empty() => {
                let _ = write!(out, "{:width$}{lead}{key}:", "", width = indent - lead.len());
            }
            _ => {
                let _ = write!(out, "{:indent$}{key}:", "");
            }
        }
        let column = indent + key.len() + 2;
        match value {
            Yaml::List(items) => list(out, indent, column, items),
            Yaml::Map(map) => match flow_map(map).filter(|text| column + text.len() <= WIDTH) {
                Some(text) => {
                    let _ = writeln!(out, " {text}");
                }
                None => {
                    out.push('\n');
                    self::entries(out, indent + 2, &map.entries, "");
                }
            },
            value => text_or_bare(out, indent, column, value),
        }
    }
}

fn list(out: &mut String, indent: usize, column: usize, items: &[Yaml]) {
    if let Some(text) = flow_list(items, false).filter(|text| column + text.len() <= WIDTH) {
        let _ = writeln!(out, " {text}");
        return;
    }
    out.push('\n');
    let indent = indent + 2;
    for (position, item) in items.iter().enumerate() {
        match item {
            Yaml::Map(map) => {
                let is_large = map.entries.iter().any(|(key, value)| {
                    *key != "expression"
                        && matches!(value, Yaml::List(items) if items.iter().any(|item| matches!(item, Yaml::Map(_))))
                });
                if indent == 2 && position > 0 && is_large {
                    out.push('\n');
                }
                comment(out, indent, &map.comment);
                entries(out, indent + 2, &map.entries, "- ");
            }
            Yaml::List(items) => {
                // A list of lists is one of keys: short names, which one line holds.
                let text = flow_list(items, true).unwrap_or_default();
                let _ = writeln!(out, "{:indent$}- {text}", "");
            }
            value => {
                let _ = write!(out, "{:indent$}-", "");
                text_or_bare(out, indent, indent + 2, value);
            }
        }
    }
}

fn text_or_bare(out: &mut String, indent: usize, column: usize, value: &Yaml) {
    let text = match value {
        Yaml::Bare(text) => {
            let _ = writeln!(out, " {text}");
            return;
        }
        Yaml::Text(text) => text,
        Yaml::List(_) | Yaml::Map(_) => return,
    };
    let indent = indent + 2;
    if is_literal(text) {
        let chomp = if text.ends_with('\n') { "" } else { "-" };
        let _ = writeln!(out, " |{chomp}");
        for line in text.lines() {
            match line {
                "" => out.push('\n'),
                line => {
                    let _ = writeln!(out, "{:indent$}{line}", "");
                }
            }
        }
        return;
    }
    let short = inline(text, false);
    if column + short.chars().count() <= WIDTH || !is_foldable(text) {
        let _ = writeln!(out, " {short}");
        return;
    }
    out.push_str(" >-\n");
    let mut width = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width > 0 && indent + width + 1 + length > WIDTH {
            out.push('\n');
            width = 0;
        }
        if width == 0 {
            let _ = write!(out, "{:indent$}{word}", "");
            width = length;
        } else {
            let _ = write!(out, " {word}");
            width += 1 + length;
        }
    }
    out.push('\n');
}

/// A list in one line; one that holds text of several lines only if it is `forced`.
fn flow_list(items: &[Yaml], forced: bool) -> Option<String> {
    let items: Option<Vec<String>> = items
        .iter()
        .map(|item| match item {
            Yaml::Text(text) => Some(inline(text, true)).filter(|_| forced || !text.contains('\n')),
            Yaml::Bare(text) => Some(text.clone()),
            Yaml::List(items) => flow_list(items, forced),
            Yaml::Map(_) => None,
        })
        .collect();
    Some(format!("[{}]", items?.join(", ")))
}

fn flow_map(map: &Map) -> Option<String> {
    let entries: Option<Vec<String>> = map
        .entries
        .iter()
        .map(|(key, value)| match value {
            Yaml::Text(text) if !text.contains('\n') => Some(format!("{key}: {}", inline(text, true))),
            Yaml::Bare(text) => Some(format!("{key}: {text}")),
            Yaml::List(items) if items.iter().all(Yaml::is_scalar) => {
                Some(format!("{key}: {}", flow_list(items, false)?))
            }
            _ => None,
        })
        .collect();
    Some(format!("{{{}}}", entries?.join(", ")))
}

/// Text in one line: bare where that is safe, else in quotes.
fn inline(text: &str, in_flow: bool) -> String {
    if is_plain(text, in_flow) {
        return text.to_owned();
    }
    let has_odd = text.chars().any(is_odd);
    if !has_odd && (text.contains(['"', '\\']) || !text.contains('\'')) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            odd if is_odd(odd) => {
                let code = u32::from(odd);
                let _ = match code {
                    0..=0xff => write!(quoted, "\\x{code:02x}"),
                    0x100..=0xffff => write!(quoted, "\\u{code:04x}"),
                    _ => write!(quoted, "\\U{code:08x}"),
                };
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

/// Characters that YAML 1.1 or 1.2 does not print, breaks lines at, or drops.
fn is_odd(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{85}' | '\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
        || matches!(u32::from(character) & 0xffff, 0xfffe | 0xffff)
}

/// Whether every reader takes the bare text for this text.
fn is_plain(text: &str, in_flow: bool) -> bool {
    const WORDS: &[&str] =
        &["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf", "infinity"];
    let starts =
        text.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_' || first == '(');
    let ends = text.chars().next_back().is_some_and(|last| last != ' ' && last != ':');
    let breaks = |character| match character {
        ',' | '[' | ']' | '{' | '}' | ':' | '"' | '\'' | '#' => in_flow,
        character => is_odd(character) || (character.is_whitespace() && character != ' '),
    };
    starts
        && ends
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(breaks)
        && !WORDS.contains(&text.to_lowercase().as_str())
}

/// Whether a literal block shows the text as it is.
fn is_literal(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n', '\t'])
        && !text.chars().any(|character| character != '\n' && character != '\t' && is_odd(character))
        && text.lines().all(|line| line.is_empty() || !line.ends_with([' ', '\t']))
}

/// Whether breaking the text at its spaces loses nothing.
fn is_foldable(text: &str) -> bool {
    !text.contains("  ")
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && text.contains(' ')
        && !text.chars().any(is_odd)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(yaml: &str) -> serde_json::Value {
        serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
    }

    fn document(text: &str) -> Map {
        let mut map = Map::default();
        map.text("name", "a");
        map.list("flow", vec![Yaml::Text(text.to_owned()), Yaml::Text("b".into())]);
        let mut inner = Map::default();
        inner.entries.push(("value", Yaml::Text(text.to_owned())));
        inner.entries.push(("lists", Yaml::List(vec![Yaml::List(vec![Yaml::Text(text.to_owned())])])));
        inner.comment = vec![text.to_owned()];
        map.list("items", vec![Yaml::Map(inner.clone()), Yaml::Map(inner.clone())]);
        map.map("map", inner);
        map
    }

    #[test]
    fn text_that_yaml_1_1_or_1_2_would_take_for_something_else_is_quoted() {
        for text in [
            "no",
            "Yes",
            "ON",
            "y",
            "null",
            "~",
            "1e3",
            "0x1f",
            "0o17",
            "017",
            "1_000",
            "190:20:30",
            "2013-01-01",
            ".inf",
            "-",
            "- a",
            "? a",
            "a: b",
            "a #b",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a}",
            "[a",
            "|",
            ">",
            "'",
            "\"",
            "",
            " a",
            "a ",
            "a:",
            "=",
            "<<",
            "a\tb",
            "a\u{85}b",
            "\u{feff}a",
            "#a",
            "---",
            "...",
            "nan",
            "Infinity",
            "true",
        ] {
            let yaml = document(text).to_yaml();
            assert_eq!(read(&yaml), document(text).to_json(), "{yaml}");
            assert!(!is_plain(text, false), "{text:?} stands bare");
        }
        for text in ["COUNT(*)", "Number of flights", "(a - b) * 100 / b", "x = 'y'", "größe"] {
            assert!(is_plain(text, false), "{text:?} is quoted without need");
        }
    }

    #[test]
    fn long_text_is_folded_and_text_of_several_lines_is_a_block() {
        let long = "word ".repeat(60).trim().to_owned();
        let mut map = Map::default();
        map.text("long", &long);
        map.text("sql", "SELECT a\nFROM b\n\nWHERE c");
        let yaml = map.to_yaml();
        assert!(yaml.starts_with("long: >-\n  word"), "{yaml}");
        assert!(yaml.contains("sql: |-\n  SELECT a\n  FROM b\n\n  WHERE c\n"), "{yaml}");
        assert!(yaml.lines().all(|line| line.len() <= WIDTH), "{yaml}");
        assert_eq!(read(&yaml), map.to_json());
    }

    #[test]
    fn numbers_stand_bare_only_if_they_read_back_as_the_same_text() {
        for text in ["1", "-7", "0.5", "true"] {
            assert_eq!(scalar(text), Yaml::Bare(text.to_owned()));
        }
        for text in ["1.0", "01", "1e3", "+1", "2013-01-01", "True", "1.50", "NaN"] {
            assert_eq!(scalar(text), Yaml::Text(text.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back_as_itself(text in any::<String>()) {
            let map = document(&text);
            prop_assert_eq!(read(&map.to_yaml()), map.to_json());
        }

        #[test]
        fn text_made_of_what_yaml_is_made_of_reads_back_as_itself(
            text in "[-a-c0-9 :#,\\[\\]{}'\"|>&*!%@`?~=<\\n\\t\\\\.]{0,300}"
        ) {
            let map = document(&text);
            prop_assert_eq!(read(&map.to_yaml()), map.to_json());
        }
    }
}
