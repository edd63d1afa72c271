//! What an agent sees of a body before it reads any of it: its shape with counts, its first bytes, its table.
//!
//! Knows spans only. All three are bounded, whatever the body.

use std::collections::HashMap;

use indexmap::IndexMap;

use crate::rag::chunk::span::{Kind, ROOT, Tree, cut};

const MAX_LINES: usize = 60;
const MAX_BYTES: usize = 4096;
/// Keys that are told apart in one place; an object with more is taken for a map keyed by ids.
const MAX_KEYS: usize = 40;
const EXAMPLE_KEYS: usize = 3;
/// Paths that are told apart in all.
const MAX_PATHS: usize = 2000;
const PREVIEW_CHARS: usize = 1000;

/// The start of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub text: String,
    /// Whether the body goes on where the text stops.
    pub is_cut: bool,
}

/// Everything seen at one path, over all records.
#[derive(Default)]
struct Shape {
    kinds: HashMap<&'static str, usize>,
    members: IndexMap<String, Shape>,
    /// Set once there were more than [`MAX_KEYS`] keys: an object keyed by ids or paths. Then `members` holds a few
    /// keys as examples, and this the shape of all members together.
    any_member: Option<Box<Shape>>,
    elements: Option<Box<Shape>>,
    element_count: usize,
}

impl Shape {
    /// `room` is how many more paths may be told apart in all.
    fn add(&mut self, tree: &Tree<'_>, node: usize, room: &mut usize) {
        *self.kinds.entry(tree.kind(node).name()).or_default() += 1;
        match tree.kind(node) {
            Kind::Object => {
                for child in tree.children(node) {
                    let Some(key) = tree.key(child) else { continue };
                    self.member(&key, room).add(tree, child, room);
                }
            }
            Kind::Array => {
                let elements = self.elements.get_or_insert_default();
                for child in tree.children(node) {
                    self.element_count += 1;
                    elements.add(tree, child, room);
                }
            }
            _ => {}
        }
    }

    /// The shape under a key; keys that nothing but data would have are taken together.
    fn member(&mut self, key: &str, room: &mut usize) -> &mut Shape {
        if self.any_member.is_none() && !self.members.contains_key(key) {
            if self.members.len() >= MAX_KEYS || *room == 0 {
                self.fold();
            } else {
                *room -= 1;
            }
        }
        match &mut self.any_member {
            Some(together) => together,
            None => self.members.entry(key.to_owned()).or_default(),
        }
    }

    /// Takes all members together from here on.
    fn fold(&mut self) -> &mut Shape {
        let together = self.any_member.get_or_insert_default();
        for (_, member) in self.members.iter_mut() {
            together.merge(std::mem::take(member));
        }
        self.members.truncate(EXAMPLE_KEYS);
        together
    }

    fn merge(&mut self, other: Shape) {
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (key, member) in other.members {
            // Members that are known already need no room.
            self.member(&key, &mut { 1 }).merge(member);
        }
        if let Some(together) = other.any_member {
            self.fold().merge(*together);
        }
        if let Some(elements) = other.elements {
            self.elements.get_or_insert_default().merge(*elements);
        }
        self.element_count += other.element_count;
    }

    /// `array of 205`, `object`, `string (150), null (55)`.
    fn summary(&self) -> String {
        let total: usize = self.kinds.values().sum();
        let mut kinds: Vec<(&&str, &usize)> = self.kinds.iter().collect();
        kinds.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), **name));
        kinds
            .iter()
            .map(|(name, count)| {
                let of = match **name {
                    "array" => {
                        format!(" of {}{}", self.element_count, if **count > 1 { " in all" } else { "" })
                    }
                    _ => String::new(),
                };
                if total == 1 { format!("{name}{of}") } else { format!("{name}{of} ({count})") }
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn lines(&self, path: &str, depth: usize, out: &mut Vec<(usize, String)>) {
        let shown = if path.is_empty() { "(root)" } else { path };
        out.push((depth, format!("{shown}: {}", self.summary())));
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        if let Some(together) = &self.any_member {
            let examples: Vec<String> =
                self.members.keys().map(|key| format!("{:?}", cut(key, 40))).collect();
            let line = out.len();
            together.lines(&below("*"), depth + 1, out);
            out[line].1.push_str(&format!("; keys such as {}", examples.join(", ")));
        } else {
            for (key, member) in &self.members {
                member.lines(&below(cut(key, 60)), depth + 1, out);
            }
        }
        if let Some(elements) = &self.elements
            && self.element_count > 0
        {
            elements.lines(&format!("{path}[]"), depth + 1, out);
        }
    }
}

/// The shape of a body, one line a path with types and counts, parents first.
///
/// At most 60 lines and 4 KB: of a larger shape the shallowest paths are shown, and the last line says how many more
/// there are.
pub fn outline(tree: &Tree<'_>) -> Vec<String> {
    let mut shape = Shape::default();
    shape.add(tree, ROOT, &mut { MAX_PATHS });
    let mut lines = Vec::new();
    shape.lines("", 0, &mut lines);
    let total = lines.len();
    // The shallowest lines that fit; a stable sort keeps document order within a depth.
    let mut by_depth: Vec<usize> = (0..total).collect();
    by_depth.sort_by_key(|line| lines[*line].0);
    let mut bytes = 0;
    let mut shown: Vec<usize> = Vec::new();
    for line in by_depth {
        let size = lines[line].1.len() + 1;
        if shown.len() + 1 >= MAX_LINES || bytes + size > MAX_BYTES - 64 {
            break;
        }
        bytes += size;
        shown.push(line);
    }
    shown.sort_unstable();
    let hidden = total - shown.len();
    let mut outline: Vec<String> = shown.into_iter().map(|line| std::mem::take(&mut lines[line].1)).collect();
    if hidden > 0 {
        outline.push(format!("… {hidden} more paths, deeper down"));
    }
    outline
}

/// The start of a body: the first record where it holds records and one fits, else its first 1,000 characters.
pub fn preview(text: &str, json: Option<(&Tree<'_>, Option<&str>)>) -> Preview {
    if let Some((tree, Some(records))) = json
        && let Ok(array) = tree.at_pointer(records)
        && let Some(first) = tree.children(array).next()
        && tree.raw(first).len() <= PREVIEW_CHARS
    {
        return Preview { text: tree.raw(first).to_owned(), is_cut: true };
    }
    match text.char_indices().nth(PREVIEW_CHARS) {
        Some((end, _)) => Preview { text: text[..end].to_owned(), is_cut: true },
        None => Preview { text: text.to_owned(), is_cut: false },
    }
}

/// The JSON Pointer of the array that makes a table: at least two elements, all of them objects, and not inside
/// another array. Of several the longest; of equally long ones the shallowest, then the first.
pub fn records(tree: &Tree<'_>) -> Option<String> {
    let mut best: Option<(usize, usize, String)> = None;
    let mut open = vec![(ROOT, 0usize, String::new())];
    while let Some((node, depth, pointer)) = open.pop() {
        match tree.kind(node) {
            Kind::Array => {
                let count = tree.nodes[node].children as usize;
                let is_table =
                    count >= 2 && tree.children(node).all(|child| tree.kind(child) == Kind::Object);
                let is_better = best
                    .as_ref()
                    .is_none_or(|(length, at, _)| count > *length || (count == *length && depth < *at));
                if is_table && is_better {
                    best = Some((count, depth, pointer));
                }
            }
            Kind::Object => {
                // Pushed last to first, so that they are popped in document order.
                let mut members: Vec<_> = tree
                    .children(node)
                    .filter(|child| tree.is_container(*child))
                    .filter_map(|child| {
                        let key = tree.key(child)?.replace('~', "~0").replace('/', "~1");
                        // A pointer that nobody can type is no table's name.
                        (pointer.len() + key.len() < 512)
                            .then(|| (child, depth + 1, format!("{pointer}/{key}")))
                    })
                    .collect();
                members.reverse();
                open.extend(members);
            }
            _ => {}
        }
    }
    best.map(|(_, _, pointer)| pointer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_outline_counts_types_over_all_records() {
        let body = json!({
            "total": 3,
            "rows": [{"id": "a", "x": 1}, {"id": "b", "x": null}, {"id": "c", "tags": ["p", "q"]}],
        })
        .to_string();
        let tree = Tree::parse(&body).unwrap();
        assert_eq!(
            outline(&tree),
            [
                "(root): object",
                "total: number",
                "rows: array of 3",
                "rows[]: object (3)",
                "rows[].id: string (3)",
                "rows[].x: null (1), number (1)",
                "rows[].tags: array of 2",
                "rows[].tags[]: string (2)",
            ]
        );
    }

    #[test]
    fn an_object_keyed_by_ids_shows_what_its_members_have_in_common() {
        let body: serde_json::Map<_, _> =
            (0..5000).map(|key| (format!("key{key}"), json!({"a": {"b": key}}))).collect();
        let body = serde_json::Value::Object(body).to_string();
        assert_eq!(
            outline(&Tree::parse(&body).unwrap()),
            [
                "(root): object",
                "*: object (5000); keys such as \"key0\", \"key1\", \"key2\"",
                "*.a: object (5000)",
                "*.a.b: number (5000)",
            ]
        );
    }

    #[test]
    fn the_outline_of_a_huge_shape_is_bounded_and_says_so() {
        let mut body = json!(1);
        for _ in 0..3 {
            let members: serde_json::Map<_, _> =
                (0..12).map(|key| (format!("key{key}"), body.clone())).collect();
            body = members.into();
        }
        let lines = outline(&Tree::parse(&body.to_string()).unwrap());
        assert!(lines.len() <= MAX_LINES);
        assert!(lines.iter().map(|line| line.len() + 1).sum::<usize>() <= MAX_BYTES);
        assert!(lines.last().unwrap().contains("more paths"), "{lines:?}");
        assert_eq!(lines[0], "(root): object");
    }

    #[test]
    fn records_are_the_longest_array_of_objects() {
        for (body, expected) in [
            (json!([{"a": 1}, {"a": 2}]), Some("")),
            (json!({"links": [{}, {}], "data": {"a/b": [{}, {}, {}]}}), Some("/data/a~1b")),
            (json!({"deep": {"rows": [{}, {}]}, "rows": [{}, {}]}), Some("/rows")),
            (json!({"first": [{}, {}], "second": [{}, {}]}), Some("/first")),
            (json!({"one": [{}], "mixed": [{}, 1, 2]}), None),
            (json!([[{}, {}]]), None),
            (json!("text"), None),
        ] {
            let text = body.to_string();
            assert_eq!(records(&Tree::parse(&text).unwrap()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_preview_is_the_first_record_or_says_that_it_is_cut() {
        let text = json!({"rows": [{"a": 1}, {"a": 2}]}).to_string();
        let tree = Tree::parse(&text).unwrap();
        let shown = preview(&text, Some((&tree, Some("/rows"))));
        assert_eq!(shown, Preview { text: "{\"a\":1}".into(), is_cut: true });
        assert_eq!(preview("short", None), Preview { text: "short".into(), is_cut: false });
        let long = preview(&"é".repeat(1001), None);
        assert!(long.is_cut && long.text.chars().count() == 1000);
    }

    proptest! {
        #[test]
        fn the_outline_is_always_bounded(text in "[\\[\\]{}\",:0-9a]{0,80}") {
            if let Ok(tree) = Tree::parse(&text) {
                let lines = outline(&tree);
                prop_assert!(!lines.is_empty() && lines.len() <= MAX_LINES);
                let _ = records(&tree);
            }
        }
    }
}
