//! Keys and relationships, as the source declares them or as the data suggest.
//!
//! A guess needs two things at once: values that fit, and a name or a variety of values that makes it likely. Small
//! numbers are contained in every list of numbers, so that numbers join by names alone.

use std::collections::HashSet;

use super::pii::words;
use super::{ColumnProfile, TableProfile, grouped, percent};

/// The key of a table, with what speaks for it.
#[derive(Debug, Default)]
pub struct Key {
    pub columns: Vec<String>,
    pub evidence: String,
}

/// A relationship between two tables, by position.
#[derive(Debug)]
pub struct Link {
    pub from: usize,
    pub to: usize,
    pub from_columns: Vec<String>,
    pub to_columns: Vec<String>,
    /// Whether the near side is unique too.
    pub is_unique: bool,
    pub evidence: String,
}

/// Words in the names of keys.
const KEY_WORDS: &[&str] = &["id", "key", "code", "uuid", "guid", "number", "no", "num", "sk", "pk"];

pub fn primary(table: &TableProfile) -> Key {
    if !table.primary_key.is_empty() {
        return Key {
            columns: table.primary_key.clone(),
            evidence: "The primary key is declared.".to_owned(),
        };
    }
    let rows = if table.is_whole { "all" } else { "the first" };
    let mut best: Option<(u32, &ColumnProfile)> = None;
    for (position, column) in table.columns.iter().enumerate() {
        if is_unique(column, table) {
            let score = likeliness(column, table, position);
            if best.is_none_or(|(known, _)| score > known) {
                best = Some((score, column));
            }
        }
    }
    if let Some((score, column)) = best.filter(|(score, _)| *score > 0) {
        let doubt = if score < 3 { "; the name does not say so, check it" } else { "" };
        let evidence = format!(
            "Primary key guessed: `{}` is unique in {rows} {} rows{doubt}.",
            column.name,
            grouped(table.rows)
        );
        return Key { columns: vec![column.name.clone()], evidence };
    }
    if !table.found_key.is_empty() {
        let evidence = format!(
            "Primary key guessed: `{}` are unique together in {rows} {} rows.",
            table.found_key.join("`, `"),
            grouped(table.rows)
        );
        return Key { columns: table.found_key.clone(), evidence };
    }
    Key::default()
}

/// Whether every row that was looked at has a value of its own.
fn is_unique(column: &ColumnProfile, table: &TableProfile) -> bool {
    table.rows > 1 && column.nulls == 0 && column.distinct == table.rows
}

/// How much a unique column looks like the key: zero for one that cannot be meant.
fn likeliness(column: &ColumnProfile, table: &TableProfile, position: usize) -> u32 {
    let words = words(&column.name);
    let own: HashSet<String> = words_of_table(&table.name).into_iter().collect();
    let is_key_word = words.last().is_some_and(|word| KEY_WORDS.contains(&word.as_str()));
    let base = match column.datatype.as_str() {
        "String" | "Integer" => 1,
        "Decimal" if is_key_word => 1,
        // A measured number that happens to be unique is no key.
        _ => return 0,
    };
    let names_table = words.iter().any(|word| own.contains(word));
    let is_only_key_word = words.len() == 1 && is_key_word;
    base + u32::from(position == 0)
        + 3 * u32::from(is_key_word)
        + 2 * u32::from(is_only_key_word || (is_key_word && names_table))
}

/// Words of a table's name, with their singulars.
fn words_of_table(name: &str) -> Vec<String> {
    let mut all = Vec::new();
    for word in words(name) {
        let singular = match word.strip_suffix("ies") {
            Some(stem) => format!("{stem}y"),
            None => word.strip_suffix('s').unwrap_or(&word).to_owned(),
        };
        all.push(singular);
        all.push(word);
    }
    all
}

/// Declared foreign keys, then guesses, in the order of tables and columns.
pub fn links(tables: &[TableProfile], keys: &[Key]) -> Vec<Link> {
    let mut links = Vec::new();
    for (from, table) in tables.iter().enumerate() {
        for key in &table.foreign_keys {
            let is_unique = keys[from].columns == key.columns || table.unique_keys.contains(&key.columns);
            links.push(Link {
                from,
                to: key.table,
                from_columns: key.columns.clone(),
                to_columns: key.to_columns.clone(),
                is_unique,
                evidence: "The foreign key is declared.".to_owned(),
            });
        }
        let declared: HashSet<&String> = table.foreign_keys.iter().flat_map(|key| &key.columns).collect();
        for column in table.columns.iter().filter(|column| !declared.contains(&column.name)) {
            if let Some(link) = guess(tables, keys, from, column) {
                links.push(link);
            }
        }
    }
    links
}

/// The most likely table that a column leads to.
fn guess(tables: &[TableProfile], keys: &[Key], from: usize, column: &ColumnProfile) -> Option<Link> {
    let mut best: Option<(u32, f64, usize, u64)> = None;
    for (to, (table, key)) in tables.iter().zip(keys).enumerate() {
        let [key_name] = key.columns.as_slice() else { continue };
        let Some(target) = table.columns.iter().find(|target| target.name == *key_name) else { continue };
        if from == to || !same_kind(column, target) || column.distinct < 2 {
            continue;
        }
        // A key that equals another table's key by chance of counting is no reference.
        let named = named_like(&column.name, &target.name, &table.name);
        if column.fingerprints.is_empty() || target.fingerprints.is_empty() {
            continue;
        }
        let shared = column.fingerprints.iter().filter(|value| target.fingerprints.contains(value)).count();
        #[expect(clippy::cast_precision_loss, reason = "a share of at most millions")]
        let share = shared as f64 / column.fingerprints.len() as f64;
        let is_text = column.datatype == "String";
        let is_key_itself = keys[from].columns == [column.name.clone()];
        let fits = match named {
            // Equal names need most values; a reference may well lead to rows that are not there.
            2 => share >= 0.5,
            1 => share >= 0.9,
            _ => is_text && !is_key_itself && share >= 0.9 && shared >= 3,
        };
        // Two keys of one name lead to each other: the smaller one to the larger.
        let is_backward = is_key_itself && (column.distinct, to) > (target.distinct, from);
        if !fits || is_backward {
            continue;
        }
        if best.is_none_or(|(known, known_share, _, _)| (named, share) > (known, known_share)) {
            best = Some((named, share, to, shared as u64));
        }
    }
    let (named, _, to, shared) = best?;
    let target = keys[to].columns.clone();
    let share = percent(shared, column.fingerprints.len() as u64);
    let by_name = match named {
        2 => "the names are the same",
        1 => "the name says so",
        _ => "guessed from values alone, check it",
    };
    let evidence = format!(
        "{share} % of the {} values of `{}` are in `{}.{}`; {by_name}.",
        grouped(column.distinct),
        column.name,
        tables[to].name,
        target.join(", ")
    );
    Some(Link {
        from,
        to,
        from_columns: vec![column.name.clone()],
        to_columns: target,
        is_unique: is_unique(column, &tables[from]),
        evidence,
    })
}

fn same_kind(a: &ColumnProfile, b: &ColumnProfile) -> bool {
    let kind = |column: &ColumnProfile| match column.datatype.as_str() {
        "String" => 1,
        "Integer" => 2,
        "Decimal" => 2,
        _ => 0,
    };
    kind(a) != 0 && kind(a) == kind(b)
}

/// 2: the same name, and one that says more than `id`; 1: the name of the table and of its key; 0: neither.
fn named_like(column: &str, key: &str, table: &str) -> u32 {
    let (column, key) = (words(column), words(key));
    let is_general = key.len() == 1
        && key.first().is_some_and(|word| KEY_WORDS.contains(&word.as_str()) || word == "name");
    if column == key && !is_general {
        return 2;
    }
    let of_table = words_of_table(table);
    let names_table = column.iter().any(|word| of_table.contains(word));
    let ends_alike = column.last() == key.last();
    if names_table && (ends_alike || column.len() == 1) {
        return 1;
    }
    // `billing_customer_id` for `customer_id`.
    if !is_general && column.len() > key.len() && column.ends_with(&key) {
        return 1;
    }
    0
}
