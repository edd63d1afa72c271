//! A JSON body as a flat tree of byte spans: every value and key knows exactly where it stands in the stored bytes.
//!
//! Knows JSON text; must not know chunks, tokens or files.
//! S1 the text is checked by serde_json first, so that malformed JSON has its line and column; the walk that follows
//!    only records spans.  S2 one pass, no recursion, linear in the body; nesting and the number of values are bounded.
//! S3 nodes are in document order: a node's subtree is the run from itself to `next`.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use crate::rag::chunk::ChunkError;

/// Deepest nesting that is taken.
pub const MAX_DEPTH: usize = 128;

/// Most values in one body; at 28 bytes a node this bounds the tree to about 220 MB.
pub const MAX_VALUES: usize = 8_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "boolean",
            Self::Null => "null",
        }
    }
}

/// One value; offsets are bytes of the text.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub kind: Kind,
    /// Span of the member's key with its quotes; empty for elements and the root.
    key_start: u32,
    key_end: u32,
    start: u32,
    end: u32,
    /// Index of the first node behind this subtree.
    pub next: u32,
    /// Direct children.
    pub children: u32,
}

/// The nodes of one body, with the text that they point into.
#[derive(Debug)]
pub struct Tree<'text> {
    pub text: &'text str,
    pub nodes: Vec<Node>,
}

pub const ROOT: usize = 0;

impl<'text> Tree<'text> {
    /// Parses one JSON document.
    pub fn parse(text: &'text str) -> Result<Self, ChunkError> {
        check(text, 0)?;
        let mut tree = Self::with_text(text)?;
        tree.append(0, text.len())?;
        Ok(tree)
    }

    /// Parses one document a line; blank lines are skipped. The root is an array of the documents.
    pub fn parse_lines(text: &'text str) -> Result<Self, ChunkError> {
        let mut tree = Self::with_text(text)?;
        tree.nodes.push(Node {
            kind: Kind::Array,
            key_start: 0,
            key_end: 0,
            start: 0,
            end: text.len() as u32,
            next: 0,
            children: 0,
        });
        let mut at = 0;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            if !line.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
                check(line, number)?;
                tree.append(at, at + line.len())?;
                tree.nodes[ROOT].children += 1;
            }
            at += line.len();
        }
        tree.nodes[ROOT].next = tree.nodes.len() as u32;
        Ok(tree)
    }

    fn with_text(text: &'text str) -> Result<Self, ChunkError> {
        if u32::try_from(text.len()).is_err() {
            return Err(ChunkError::TooManyValues { limit: u32::MAX as usize });
        }
        Ok(Self { text, nodes: Vec::with_capacity(text.len() / 24 + 1) })
    }

    /// Appends the one value between two offsets, which `check` has found to be JSON.
    fn append(&mut self, from: usize, to: usize) -> Result<(), ChunkError> {
        let bytes = self.text.as_bytes();
        let mut open: Vec<usize> = Vec::new();
        let mut key: Option<(u32, u32)> = None;
        let mut at = from;
        while at < to {
            match bytes[at] {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => at += 1,
                b'{' | b'[' => {
                    let kind = if bytes[at] == b'{' { Kind::Object } else { Kind::Array };
                    let node = self.push(kind, key.take(), at, at + 1, open.last().copied())?;
                    open.push(node);
                    if open.len() > MAX_DEPTH {
                        let (line, column) = line_and_column(self.text, at);
                        return Err(ChunkError::TooDeep { limit: MAX_DEPTH, line, column });
                    }
                    at += 1;
                }
                b'}' | b']' => {
                    at += 1;
                    if let Some(node) = open.pop() {
                        self.nodes[node].end = at as u32;
                        self.nodes[node].next = self.nodes.len() as u32;
                    }
                }
                b'"' => {
                    let end = end_of_string(bytes, at);
                    let parent = open.last().copied();
                    let in_object = parent.is_some_and(|parent| self.nodes[parent].kind == Kind::Object);
                    if in_object && key.is_none() {
                        key = Some((at as u32, end as u32));
                    } else {
                        self.push(Kind::String, key.take(), at, end, parent)?;
                    }
                    at = end;
                }
                first => {
                    let kind = match first {
                        b't' | b'f' => Kind::Bool,
                        b'n' => Kind::Null,
                        _ => Kind::Number,
                    };
                    let end = bytes[at..to]
                        .iter()
                        .position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'))
                        .map_or(to, |length| at + length);
                    self.push(kind, key.take(), at, end, open.last().copied())?;
                    at = end;
                }
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        kind: Kind,
        key: Option<(u32, u32)>,
        start: usize,
        end: usize,
        parent: Option<usize>,
    ) -> Result<usize, ChunkError> {
        if self.nodes.len() >= MAX_VALUES {
            return Err(ChunkError::TooManyValues { limit: MAX_VALUES });
        }
        if let Some(parent) = parent {
            self.nodes[parent].children += 1;
        }
        let (key_start, key_end) = key.unwrap_or((0, 0));
        let index = self.nodes.len();
        let next = index as u32 + 1;
        self.nodes.push(Node {
            kind,
            key_start,
            key_end,
            start: start as u32,
            end: end as u32,
            next,
            children: 0,
        });
        Ok(index)
    }

    /// The indexes of the direct children, in order.
    pub fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let mut next = node + 1;
        (0..self.nodes[node].children).map(move |_| {
            let child = next;
            next = self.nodes[child].next as usize;
            child
        })
    }

    pub fn kind(&self, node: usize) -> Kind {
        self.nodes[node].kind
    }

    pub fn is_container(&self, node: usize) -> bool {
        matches!(self.kind(node), Kind::Object | Kind::Array)
    }

    /// An array with elements, all of them scalars.
    pub fn is_plain_list(&self, node: usize) -> bool {
        let Node { kind, children, next, .. } = self.nodes[node];
        // Each child is one node exactly if none has children; empty containers are looked for separately.
        kind == Kind::Array
            && children > 0
            && next as usize - node - 1 == children as usize
            && self.children(node).all(|child| !self.is_container(child))
    }

    /// The value's bytes, as they stand in the body.
    pub fn raw(&self, node: usize) -> &'text str {
        let (start, end) = self.value_span(node);
        &self.text[start..end]
    }

    pub fn value_span(&self, node: usize) -> (usize, usize) {
        (self.nodes[node].start as usize, self.nodes[node].end as usize)
    }

    /// The key's span with its quotes; `None` for elements and the root.
    pub fn key_span(&self, node: usize) -> Option<(usize, usize)> {
        let Node { key_start, key_end, .. } = self.nodes[node];
        (key_end > key_start).then_some((key_start as usize, key_end as usize))
    }

    /// From the key, where there is one, to the end of the value.
    pub fn member_span(&self, node: usize) -> (usize, usize) {
        let (start, end) = self.value_span(node);
        (self.key_span(node).map_or(start, |(key_start, _)| key_start), end)
    }

    /// The member's key, decoded.
    pub fn key(&self, node: usize) -> Option<Cow<'text, str>> {
        self.key_span(node).map(|(start, end)| decode(&self.text[start + 1..end - 1]).text)
    }

    /// The node that an RFC 6901 pointer leads to; the error says at which segment it got lost.
    pub fn at_pointer(&self, pointer: &str) -> Result<usize, String> {
        if pointer.is_empty() {
            return Ok(ROOT);
        }
        let Some(rest) = pointer.strip_prefix('/') else {
            return Err(format!(
                "'{}' is not a JSON Pointer; start it with /, or leave it empty",
                cut(pointer, 80)
            ));
        };
        let mut node = ROOT;
        let mut walked = String::new();
        for segment in rest.split('/') {
            let name = segment.replace("~1", "/").replace("~0", "~");
            let place = if walked.is_empty() { "the top level".to_owned() } else { format!("'{walked}'") };
            let found = match self.kind(node) {
                // Of keys that are given twice, parsers take the last.
                Kind::Object => self
                    .children(node)
                    .filter(|child| self.key(*child).is_some_and(|key| key == name))
                    .last()
                    .ok_or_else(|| {
                        let keys: Vec<String> = self
                            .children(node)
                            .take(12)
                            .filter_map(|child| self.key(child).map(|key| cut(&key, 40).to_owned()))
                            .collect();
                        format!(
                            "segment '{}' leads nowhere: {place} is an object with the keys {}",
                            cut(segment, 80),
                            if keys.is_empty() { "(none)".to_owned() } else { keys.join(", ") }
                        )
                    }),
                Kind::Array => {
                    let length = self.nodes[node].children as usize;
                    let lost = || {
                        format!(
                            "segment '{}' leads nowhere: {place} is an array of {length}, counted from 0",
                            cut(segment, 80)
                        )
                    };
                    let index: usize = name.parse().map_err(|_| lost())?;
                    self.children(node).nth(index).filter(|_| index < length).ok_or_else(lost)
                }
                other => Err(format!(
                    "segment '{}' leads nowhere: {place} is a {}, which has no members",
                    cut(segment, 80),
                    other.name()
                )),
            };
            node = found?;
            walked.push('/');
            walked.push_str(cut(segment, 80));
        }
        Ok(node)
    }
}

/// A string's text, and how its offsets map back to the raw bytes.
#[derive(Debug)]
pub struct Decoded<'text> {
    pub text: Cow<'text, str>,
    /// (offset in `text`, offset in the raw bytes) behind each escape; empty when nothing was escaped.
    breaks: Vec<(usize, usize)>,
}

impl Decoded<'_> {
    /// The raw offset of a character boundary of the text.
    pub fn raw_offset(&self, offset: usize) -> usize {
        let behind = self.breaks.partition_point(|(decoded, _)| *decoded <= offset);
        match behind.checked_sub(1).and_then(|last| self.breaks.get(last)) {
            Some((decoded, raw)) => raw + (offset - decoded),
            None => offset,
        }
    }
}

/// Decodes what stands between a string's quotes. A lone surrogate becomes U+FFFD.
pub fn decode(raw: &str) -> Decoded<'_> {
    if !raw.contains('\\') {
        return Decoded { text: Cow::Borrowed(raw), breaks: Vec::new() };
    }
    let bytes = raw.as_bytes();
    let mut text = String::with_capacity(raw.len());
    let mut breaks = Vec::new();
    let mut at = 0;
    while let Some(length) = raw[at..].find('\\') {
        text.push_str(&raw[at..at + length]);
        at += length;
        let (character, width) = match bytes.get(at + 1).copied() {
            Some(b'n') => ('\n', 2),
            Some(b't') => ('\t', 2),
            Some(b'r') => ('\r', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'u') => unicode_escape(bytes, at),
            // JSON has only \" \\ \/ besides; of anything else the character stays.
            Some(_) => raw[at + 1..].chars().next().map_or(('\\', 1), |other| (other, 1 + other.len_utf8())),
            None => ('\\', 1),
        };
        text.push(character);
        at += width;
        breaks.push((text.len(), at));
    }
    text.push_str(&raw[at..]);
    Decoded { text: Cow::Owned(text), breaks }
}

/// The character of a `\uXXXX` at `at`, or of a surrogate pair, and how many bytes it took.
fn unicode_escape(bytes: &[u8], at: usize) -> (char, usize) {
    let unit = |at: usize| -> Option<u32> {
        let digits = bytes.get(at..at + 6)?;
        if !digits.starts_with(b"\\u") {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(&digits[2..]).ok()?, 16).ok()
    };
    let Some(first) = unit(at) else { return (char::REPLACEMENT_CHARACTER, 2) };
    if let Some(character) = char::from_u32(first) {
        return (character, 6);
    }
    if (0xD800..0xDC00).contains(&first)
        && let Some(second) = unit(at + 6)
        && (0xDC00..0xE000).contains(&second)
        && let Some(character) = char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    {
        return (character, 12);
    }
    (char::REPLACEMENT_CHARACTER, 6)
}

fn end_of_string(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn check(text: &str, line_offset: usize) -> Result<(), ChunkError> {
    serde_json::from_str::<IgnoredAny>(text).map(|_| ()).map_err(|error| {
        let reason = error.to_string();
        ChunkError::NotJson {
            line: error.line() + line_offset,
            column: error.column(),
            reason: reason.split(" at line ").next().unwrap_or_default().to_owned(),
        }
    })
}

/// Line and column of an offset, both from 1, the column in bytes.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

/// At most `limit` bytes of a text, cut at a character.
pub fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_value_and_key_knows_its_bytes() {
        let text = r#" {"a": [1, -2.5e3, "x\"y"], "b": {"c": null}, "d": []} "#;
        let tree = Tree::parse(text).unwrap();
        let raws: Vec<&str> = (0..tree.nodes.len()).map(|node| tree.raw(node)).collect();
        assert_eq!(
            raws,
            [
                text.trim(),
                r#"[1, -2.5e3, "x\"y"]"#,
                "1",
                "-2.5e3",
                r#""x\"y""#,
                r#"{"c": null}"#,
                "null",
                "[]"
            ]
        );
        let keys: Vec<_> = tree.children(ROOT).map(|child| tree.key(child).unwrap().into_owned()).collect();
        assert_eq!(keys, ["a", "b", "d"]);
        assert!(tree.is_plain_list(1) && !tree.is_plain_list(7));
    }

    #[test]
    fn malformed_json_names_line_and_column() {
        let error = Tree::parse("{\"a\": 1,\n  oops}").unwrap_err();
        assert!(matches!(error, ChunkError::NotJson { line: 2, column: 3, .. }), "{error}");
        let error = Tree::parse_lines("{\"a\": 1}\n\n{\"a\": }\n").unwrap_err();
        assert!(matches!(error, ChunkError::NotJson { line: 3, .. }), "{error}");
    }

    #[test]
    fn nesting_is_bounded_and_the_limit_itself_is_taken() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Tree::parse(&nested(MAX_DEPTH)).is_ok());
        let error = Tree::parse(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert!(error.to_string().contains("128"), "{error}");
        assert!(Tree::parse(&nested(200_000)).is_err());
    }

    #[test]
    fn a_pointer_finds_its_value_and_a_lost_one_says_where() {
        let tree = Tree::parse(r#"{"a/b": [{"~x": 7}], "n": 1}"#).unwrap();
        assert_eq!(tree.raw(tree.at_pointer("/a~1b/0/~0x").unwrap()), "7");
        assert_eq!(tree.at_pointer("").unwrap(), ROOT);
        for (pointer, words) in [
            ("/nope", "segment 'nope' leads nowhere: the top level is an object with the keys a/b, n"),
            ("/a~1b/1", "segment '1' leads nowhere: '/a~1b' is an array of 1"),
            ("/a~1b/x", "segment 'x'"),
            ("/n/x", "'/n' is a number"),
            ("n", "start it with /"),
        ] {
            let error = tree.at_pointer(pointer).unwrap_err();
            assert!(error.contains(words), "{pointer}: {error}");
        }
    }

    proptest! {
        #[test]
        fn decoding_agrees_with_serde_json_and_maps_offsets_back(text in "(\\PC|[\\n\\t\"\\\\😀é]){0,40}") {
            let quoted = serde_json::to_string(&text).unwrap();
            let raw = &quoted[1..quoted.len() - 1];
            let decoded = decode(raw);
            prop_assert_eq!(&*decoded.text, text.as_str());
            for (offset, _) in text.char_indices() {
                let tail = decode(&raw[decoded.raw_offset(offset)..]).text.into_owned();
                prop_assert_eq!(tail, &text[offset..]);
            }
        }

        #[test]
        fn surrogate_pairs_decode(code in 0x10000u32..0x110000) {
            let high = 0xD800 + ((code - 0x10000) >> 10);
            let low = 0xDC00 + ((code - 0x10000) & 0x3FF);
            let escaped = format!("\\u{high:04x}\\u{low:04X}");
            let decoded = decode(&escaped);
            prop_assert_eq!(decoded.text.chars().collect::<Vec<_>>(), vec![char::from_u32(code).unwrap()]);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = Tree::parse(&text);
            let _ = Tree::parse_lines(&text);
            let _ = decode(&text);
        }

        #[test]
        fn jsonish_text_never_panics(text in "[\\[\\]{}\",:0-9a\\\\u \\n-]{0,60}") {
            let _ = Tree::parse(&text);
            let _ = Tree::parse_lines(&text);
        }
    }
}
