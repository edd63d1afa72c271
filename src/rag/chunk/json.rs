//! JSON as chunks: flat `path: value` lines, as many neighbours in one chunk as fit, records whole where they can be.
//!
//! Knows spans and token costs; must not know documents.
//! A container that fits is one *unit* of its parent; units of one parent are packed into chunks. One that doesn't
//! fit is opened, and its children become units. Each chunk is led by a breadcrumb (the parent's path) and by context
//! (scalars of the records above it), so that a piece of a record still says which record it is of.
//! J1 costs are summed from parts, each counted once (see `tokens`, T2), bottom-up: linear in the body.
//! J2 header and pointers are bounded, so that a long path repeated in many chunks cannot blow the output up: a path
//!    over its share is shown from its end; a pointer over [`MAX_POINTER_BYTES`] stops at the nearest ancestor.
//! J3 a key that a breadcrumb cannot show in full gets a chunk of its own: no key is dropped.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use crate::rag::chunk::span::{Kind, ROOT, Tree, decode};
use crate::rag::chunk::tokens::TokenCounter;
use crate::rag::chunk::{Chunk, ChunkKind, Limits, prose};

/// Longest JSON Pointer that is kept as provenance.
pub const MAX_POINTER_BYTES: usize = 2048;

/// Most scalars of one record that are repeated as context.
const MAX_CONTEXT_LINES: usize = 4;

/// Keys that tell which record this is; they come first in the context.
const TELLING_KEYS: &[&str] =
    &["name", "title", "id", "key", "code", "symbol", "label", "type", "date", "time", "timestamp"];

/// What a value's lines cost without the path that leads to it, and how many lines repeat that path.
#[derive(Clone, Copy, Default)]
struct Measure {
    cost: u32,
    lines: u32,
}

/// Where the units of one container stand.
struct Crumb {
    /// `docs[3].rocket`, from its end where it is too long; empty for the root.
    path: String,
    path_cost: usize,
    path_is_cut: bool,
    pointer: String,
    /// Set once the pointer stopped growing.
    pointer_is_cut: bool,
    /// Scalars of this record and of those above it, nearest first.
    context: Vec<ContextLine>,
}

#[derive(Clone)]
struct ContextLine {
    node: usize,
    path: String,
    text: String,
    cost: usize,
}

struct Unit {
    node: usize,
    /// Position among its siblings.
    ordinal: usize,
}

struct Chunker<'a> {
    counter: &'a TokenCounter,
    tree: &'a Tree<'a>,
    measures: Vec<Measure>,
    kind: ChunkKind,
    budget: usize,
    chunks: Vec<Chunk>,
}

/// Cuts a parsed body.
pub fn chunk_tree(counter: &TokenCounter, tree: &Tree<'_>, kind: ChunkKind, limits: Limits) -> Vec<Chunk> {
    let mut chunker =
        Chunker { counter, tree, measures: Vec::new(), kind, budget: limits.budget(), chunks: Vec::new() };
    if kind == ChunkKind::JsonLines && tree.nodes[ROOT].children == 0 {
        return Vec::new();
    }
    chunker.measure();
    let root = Crumb {
        path: String::new(),
        path_cost: 0,
        path_is_cut: false,
        pointer: String::new(),
        pointer_is_cut: false,
        context: chunker.telling_scalars(ROOT, ""),
    };
    // Lines of NDJSON are records: as elements they keep their numbers, even if all of them fit one chunk.
    let Measure { cost, lines } = chunker.measures[ROOT];
    let is_small = cost.saturating_sub(lines) as usize <= chunker.budget;
    if is_small && kind == ChunkKind::Json {
        let mut text = String::new();
        chunker.render(ROOT, &mut String::new(), &mut text);
        let (start, end) = tree.value_span(ROOT);
        chunker.push(text.trim_end().to_owned(), (String::new(), String::new()), start..end);
    } else if tree.is_container(ROOT) {
        chunker.open(ROOT, &root);
    } else {
        chunker.split_scalar(ROOT, 0, &root);
    }
    chunker.chunks
}

impl Chunker<'_> {
    /// Bottom-up: children stand behind their parents, so one walk from the end sees them first.
    fn measure(&mut self) {
        let count = self.tree.nodes.len();
        self.measures = vec![Measure::default(); count];
        for node in (0..count).rev() {
            let measure = if !self.tree.is_container(node) || self.tree.nodes[node].children == 0 {
                Measure { cost: self.cost(&self.scalar_text(node)) as u32 + 1, lines: 1 }
            } else if self.tree.is_plain_list(node) {
                // One line: the elements' own line costs hold a mark each, which pays for the comma.
                let cost = self
                    .tree
                    .children(node)
                    .fold(1u32, |sum, child| sum.saturating_add(self.measures[child].cost));
                Measure { cost, lines: 1 }
            } else {
                self.tree.children(node).enumerate().fold(Measure::default(), |sum, (ordinal, child)| {
                    let Measure { cost, lines } = self.measures[child];
                    let segment = self.segment_cost(child, ordinal) as u32;
                    Measure {
                        cost: sum.cost.saturating_add(cost).saturating_add(lines.saturating_mul(segment)),
                        lines: sum.lines.saturating_add(lines),
                    }
                })
            };
            self.measures[node] = measure;
        }
    }

    fn cost(&self, text: &str) -> usize {
        self.counter.cost(text)
    }

    /// What `key.` or `[17].` costs in a path.
    fn segment_cost(&self, node: usize, ordinal: usize) -> usize {
        match self.tree.key(node) {
            Some(key) => self.cost(&shown_key(&key)) + 1,
            None => self.cost(&ordinal.to_string()) + 3,
        }
    }

    /// What a child costs as a unit: an object's member with its path on each line, an array's element under `[17]`.
    fn unit_cost(&self, node: usize, ordinal: usize) -> usize {
        let Measure { cost, lines } = self.measures[node];
        let (cost, lines) = (cost as usize, lines as usize);
        let segment = self.segment_cost(node, ordinal);
        match self.tree.key_span(node) {
            // No dot stands before the first segment of a line.
            Some(_) => cost + lines * (segment - 1),
            None if lines > 1 => cost - lines + segment,
            None => cost + segment,
        }
    }

    /// A scalar as it is shown: strings decoded, the rest as it stands.
    fn scalar_text(&self, node: usize) -> Cow<'_, str> {
        let raw = self.tree.raw(node);
        match self.tree.kind(node) {
            Kind::String => match decode(&raw[1..raw.len() - 1]).text {
                text if text.is_empty() => Cow::Borrowed("\"\""),
                text => text,
            },
            Kind::Object => Cow::Borrowed("{}"),
            Kind::Array => Cow::Borrowed("[]"),
            _ => Cow::Borrowed(raw),
        }
    }

    /// Writes a value's lines; `path` is what stands before them, and comes back as it was.
    fn render(&self, node: usize, path: &mut String, out: &mut String) {
        let lead = |path: &str, out: &mut String| {
            if !path.is_empty() {
                out.push_str(path);
                out.push_str(": ");
            }
        };
        if !self.tree.is_container(node) || self.tree.nodes[node].children == 0 {
            lead(path, out);
            out.push_str(&self.scalar_text(node));
            out.push('\n');
        } else if self.tree.is_plain_list(node) {
            lead(path, out);
            for (ordinal, child) in self.tree.children(node).enumerate() {
                if ordinal > 0 {
                    out.push_str(", ");
                }
                out.push_str(&self.scalar_text(child));
            }
            out.push('\n');
        } else {
            for (ordinal, child) in self.tree.children(node).enumerate() {
                let length = path.len();
                push_segment(path, self.tree.key(child).as_deref(), ordinal);
                self.render(child, path, out);
                path.truncate(length);
            }
        }
    }

    /// Packs the children of a container that does not fit into chunks, opening those that don't fit either.
    fn open(&mut self, node: usize, crumb: &Crumb) {
        let tree = self.tree;
        let plain = tree.is_plain_list(node);
        let context_cost: usize = crumb.context.iter().map(|line| line.cost).sum();
        // A plain list's chunk starts with `[first..last]: `.
        let range_cost = if plain { 2 * self.cost(&tree.nodes[node].children.to_string()) + 5 } else { 0 };
        let header = crumb.path_cost + context_cost + range_cost;
        let mut units: Vec<Unit> = Vec::new();
        let mut used = header;
        for (ordinal, child) in tree.children(node).enumerate() {
            let cost =
                if plain { self.measures[child].cost as usize } else { self.unit_cost(child, ordinal) };
            if header + cost > self.budget {
                self.flush(node, crumb, plain, &mut units);
                used = header;
                if tree.is_container(child) && tree.nodes[child].children > 0 {
                    let below = self.crumb_of(child, ordinal, crumb);
                    self.open(child, &below);
                } else {
                    self.split_scalar(child, ordinal, crumb);
                }
                continue;
            }
            if used + cost > self.budget {
                self.flush(node, crumb, plain, &mut units);
                used = header;
            }
            used += cost;
            units.push(Unit { node: child, ordinal });
        }
        self.flush(node, crumb, plain, &mut units);
    }

    /// Makes a chunk of the units that have gathered.
    fn flush(&mut self, parent: usize, crumb: &Crumb, plain: bool, units: &mut Vec<Unit>) {
        let (Some(first), Some(last)) = (units.first(), units.last()) else { return };
        let mut text = self.header(crumb, first.node..last.node + 1);
        if plain {
            let _ = write!(text, "[{}..{}]: ", first.ordinal, last.ordinal);
            for (position, unit) in units.iter().enumerate() {
                text.push_str(if position > 0 { ", " } else { "" });
                text.push_str(&self.scalar_text(unit.node));
            }
        } else {
            for unit in units.iter() {
                let mut path = String::new();
                push_segment(&mut path, self.tree.key(unit.node).as_deref(), unit.ordinal);
                let many = self.measures[unit.node].lines > 1;
                if self.tree.kind(parent) == Kind::Array && many {
                    text.push_str(&path);
                    text.push('\n');
                    path.clear();
                }
                self.render(unit.node, &mut path, &mut text);
            }
        }
        let pointers = (self.pointer_of(first, crumb), self.pointer_of(last, crumb));
        let bytes = self.tree.member_span(first.node).0..self.tree.member_span(last.node).1;
        self.push(text.trim_end().to_owned(), pointers, bytes);
        units.clear();
    }

    /// Breadcrumb and context; lines that the chunk shows anyway are left out.
    fn header(&self, crumb: &Crumb, shown: Range<usize>) -> String {
        let mut text = String::new();
        if !crumb.path.is_empty() {
            text.push_str(&crumb.path);
            text.push('\n');
        }
        for line in crumb.context.iter().filter(|line| !shown.contains(&line.node)) {
            text.push_str(&line.text);
            text.push('\n');
        }
        text
    }

    fn push(&mut self, text: String, pointers: (String, String), bytes: Range<usize>) {
        self.chunks.push(Chunk::new(self.counter, self.kind, text, pointers, bytes));
    }

    /// A scalar that is over the budget by itself, in pieces: `summary (2/5): …`.
    fn split_scalar(&mut self, node: usize, ordinal: usize, crumb: &Crumb) {
        let key = self.tree.key(node);
        let mut label = String::new();
        if node != ROOT || key.is_some() {
            push_segment(&mut label, key.as_deref(), ordinal);
        }
        let share = self.budget / 4;
        if self.cost(&label) > share {
            self.split_key(node, crumb);
            label = self.tail_within(&label, share);
        }
        let (start, end) = self.tree.value_span(node);
        let raw = self.tree.raw(node);
        let (inner, offset) = match self.tree.kind(node) {
            Kind::String => (&raw[1..raw.len() - 1], start + 1),
            _ => (raw, start),
        };
        let decoded = decode(inner);
        let pieces = |header: &str| {
            // `(12/34): ` costs at most 3 marks, two numbers and the colon.
            let label_cost = self.cost(&label) + 4 + 2 * self.cost(&inner.len().to_string());
            let room = self.budget.saturating_sub(self.cost(header) + label_cost);
            (room, prose::split(self.counter, &decoded.text, room, 0))
        };
        // Where the header leaves little room, its context goes first; the path is the last to go, and then it has had
        // a chunk of its own.
        let mut header = self.header(crumb, node..node + 1);
        let (mut room, mut ranges) = pieces(&header);
        if room < self.budget / 3 && !header.is_empty() {
            header = if crumb.path.is_empty() { String::new() } else { format!("{}\n", crumb.path) };
            (room, ranges) = pieces(&header);
        }
        let loses_path = room < self.budget / 8 && !header.is_empty();
        if loses_path {
            header = String::new();
            ranges = pieces(&header).1;
        }
        if loses_path {
            for range in prose::split(self.counter, &crumb.path, self.budget, 0) {
                let pointers = (crumb.pointer.clone(), crumb.pointer.clone());
                self.push(crumb.path[range].to_owned(), pointers, start..end);
            }
        }
        let pointer = self.pointer_of(&Unit { node, ordinal }, crumb);
        if ranges.is_empty() {
            // Whitespace only: nothing to find, but its place is recorded.
            self.push(format!("{header}{label}: \"\""), (pointer.clone(), pointer), start..end);
            return;
        }
        let count = ranges.len();
        for (part, range) in ranges.into_iter().enumerate() {
            let piece = &decoded.text[range.clone()];
            let text = format!("{header}{label} ({}/{count}): {piece}", part + 1);
            let bytes = offset + decoded.raw_offset(range.start)..offset + decoded.raw_offset(range.end);
            self.push(text.trim_start().to_owned(), (pointer.clone(), pointer.clone()), bytes);
        }
    }

    /// A key that no breadcrumb or label can show in full, in pieces.
    fn split_key(&mut self, node: usize, crumb: &Crumb) {
        let Some((start, end)) = self.tree.key_span(node) else { return };
        let decoded = decode(&self.tree.text[start + 1..end - 1]);
        let mut header = self.header(crumb, node..node + 1);
        if self.cost(&header) > self.budget / 2 {
            header = if crumb.path.is_empty() { String::new() } else { format!("{}\n", crumb.path) };
        }
        let room = self.budget.saturating_sub(self.cost(&header) + self.cost("key: "));
        let pointer = self.pointer_of(&Unit { node, ordinal: 0 }, crumb);
        for range in prose::split(self.counter, &decoded.text, room, 0) {
            let text = format!("{header}key: {}", &decoded.text[range.clone()]);
            let bytes =
                start + 1 + decoded.raw_offset(range.start)..start + 1 + decoded.raw_offset(range.end);
            self.push(text, (pointer.clone(), pointer.clone()), bytes);
        }
    }

    /// Breadcrumb, pointer and context for the children of `node`.
    fn crumb_of(&mut self, node: usize, ordinal: usize, above: &Crumb) -> Crumb {
        let key = self.tree.key(node);
        let mut path = above.path.clone();
        push_segment(&mut path, key.as_deref(), ordinal);
        let share = self.budget / 4;
        let path_is_cut = above.path_is_cut || self.cost(&path) > share;
        if path_is_cut {
            if key.is_some() {
                self.split_key(node, above);
            }
            path = self.tail_within(&path, share);
        }
        let mut context = self.telling_scalars(node, &path);
        let mut left = share.saturating_sub(context.iter().map(|line| line.cost).sum());
        for line in &above.context {
            // Above, a line stood under its own breadcrumb; here it needs its path.
            let text = match line.path.is_empty() || line.text.starts_with(&line.path) {
                true => line.text.clone(),
                false => format!("{}.{}", line.path, line.text),
            };
            let cost = self.cost(&text);
            if cost < left {
                left -= cost;
                context.push(ContextLine { node: line.node, path: line.path.clone(), text, cost });
            }
        }
        let pointer = self.pointer_of(&Unit { node, ordinal }, above);
        let pointer_is_cut = above.pointer_is_cut || pointer.len() == above.pointer.len();
        Crumb { path_cost: self.cost(&path), path, path_is_cut, pointer, pointer_is_cut, context }
    }

    /// A few short scalars of a record that tell it from its neighbours.
    fn telling_scalars(&self, node: usize, path: &str) -> Vec<ContextLine> {
        if self.tree.kind(node) != Kind::Object {
            return Vec::new();
        }
        let share = self.budget / 4;
        let mut lines: Vec<(usize, ContextLine)> = Vec::new();
        for (position, child) in self.tree.children(node).enumerate() {
            let is_telling = !self.tree.is_container(child) && self.tree.kind(child) != Kind::Null;
            if !is_telling || self.tree.member_span(child).1 - self.tree.member_span(child).0 > 160 {
                continue;
            }
            let Some(key) = self.tree.key(child) else { continue };
            let rank = TELLING_KEYS.iter().position(|telling| key.eq_ignore_ascii_case(telling));
            // Of the rest, only the first few can get in: don't render thousands of lines to drop them.
            if rank.is_none() && position > 16 {
                continue;
            }
            let text = format!("{}: {}", shown_key(&key), self.scalar_text(child));
            let cost = self.cost(&text);
            let line = ContextLine { node: child, path: path.to_owned(), text, cost };
            lines.push((rank.unwrap_or(TELLING_KEYS.len() + position), line));
        }
        lines.sort_by_key(|(rank, _)| *rank);
        let mut used = 0;
        let mut chosen = Vec::new();
        for (_, line) in lines {
            if chosen.len() < MAX_CONTEXT_LINES && used + line.cost <= share {
                used += line.cost;
                chosen.push(line);
            }
        }
        chosen
    }

    fn pointer_of(&self, unit: &Unit, crumb: &Crumb) -> String {
        if crumb.pointer_is_cut {
            return crumb.pointer.clone();
        }
        if unit.node == ROOT {
            return String::new();
        }
        let segment = match self.tree.key(unit.node) {
            Some(key) => key.replace('~', "~0").replace('/', "~1"),
            None => unit.ordinal.to_string(),
        };
        if crumb.pointer.len() + 1 + segment.len() > MAX_POINTER_BYTES {
            return crumb.pointer.clone();
        }
        format!("{}/{segment}", crumb.pointer)
    }

    /// The end of a path that costs at most `share`.
    fn tail_within(&self, path: &str, share: usize) -> String {
        let mut kept = path.len().min(share * 4);
        loop {
            let from = path.ceil_char_boundary(path.len() - kept);
            let tail = format!("…{}", path[from..].trim_start_matches('…'));
            if kept == 0 || self.cost(&tail) <= share {
                return tail;
            }
            kept /= 2;
        }
    }
}

/// A key in a path: quoted where it holds what would break the line or the path.
fn shown_key(key: &str) -> Cow<'_, str> {
    let plain = !key.is_empty() && !key.chars().any(|character| character.is_control() || character == '"');
    if plain { Cow::Borrowed(key) } else { Cow::Owned(format!("\"{}\"", key.escape_debug())) }
}

fn push_segment(path: &mut String, key: Option<&str>, ordinal: usize) {
    match key {
        Some(key) => {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&shown_key(key));
        }
        None => {
            let _ = write!(path, "[{ordinal}]");
        }
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
