//! The texts by which things are found: weighted ones for word search, short ones for the embedding model.
//!
//! Made from models that are already reduced to a clearance, so that nothing hidden is in them.

use std::fmt::Write as _;

use super::super::lint::{columns_of, parse_expression};
use super::super::model::{Dataset, Field, Metric, Model, VerifiedQuery};

/// Sample values of one field that word search reads; the literal index has all of them.
const VALUES_FOR_WORDS: usize = 100;

/// Characters of a text for the embedding model: models of this kind were trained on 128 to 256 tokens, and more
/// only blurs.
const MAX_EMBEDDED: usize = 1_000;

/// Characters of a description in such a text.
const MAX_DESCRIPTION: usize = 300;

/// Texts of a dataset with everything in it, and their weights (tuned on the first half of Spider dev).
pub(super) fn dataset_words<'m>(model: &'m Model, dataset: &'m Dataset) -> Vec<(&'m str, f32)> {
    let mut parts = vec![
        (dataset.name.as_str(), 4.0),
        (model.name.as_str(), 1.0),
        (dataset.description.as_str(), 1.0),
        (model.description.as_str(), 0.2),
    ];
    parts.extend(dataset.synonyms.iter().map(|synonym| (synonym.as_str(), 4.0)));
    parts.extend(model.synonyms.iter().map(|synonym| (synonym.as_str(), 1.0)));
    for field in &dataset.fields {
        parts.extend(field_words(field));
    }
    for filter in &dataset.filters {
        parts.push((&filter.name, 1.0));
        parts.push((&filter.description, 0.3));
        parts.extend(filter.synonyms.iter().map(|synonym| (synonym.as_str(), 1.0)));
    }
    parts
}

/// Texts of a field and their weights, the same in its dataset and by itself.
pub(super) fn field_words(field: &Field) -> Vec<(&str, f32)> {
    let mut parts =
        vec![(field.name.as_str(), 1.5), (field.label.as_str(), 1.5), (field.description.as_str(), 0.4)];
    parts.extend(field.synonyms.iter().map(|synonym| (synonym.as_str(), 1.5)));
    parts.extend(field.sample_values.iter().take(VALUES_FOR_WORDS).map(|value| (value.as_str(), 0.2)));
    parts
}

/// Texts of a metric and their weights, the same in its dataset and by itself.
pub(super) fn metric_words(metric: &Metric) -> Vec<(&str, f32)> {
    let mut parts = vec![(metric.name.as_str(), 1.5), (metric.description.as_str(), 0.4)];
    parts.extend(metric.synonyms.iter().map(|synonym| (synonym.as_str(), 1.5)));
    parts
}

pub(super) fn query_words(query: &VerifiedQuery) -> [(&str, f32); 3] {
    [(&query.question, 2.0), (&query.name, 1.0), (&query.description, 0.5)]
}

/// What the embedding model reads of a dataset: its name and model, what it is, and its fields, as people say them.
pub(super) fn dataset_text(model: &Model, dataset: &Dataset) -> String {
    let mut text = spoken(&dataset.name);
    for synonym in &dataset.synonyms {
        let synonym = spoken(synonym);
        if !text.contains(&synonym) {
            let _ = write!(text, ", {synonym}");
        }
    }
    let _ = write!(text, " ({})", spoken(&model.name));
    if !dataset.description.is_empty() {
        let _ = write!(text, ". {}", shortened(&dataset.description, MAX_DESCRIPTION));
    }
    let mut separator = ": ";
    for field in &dataset.fields {
        if text.len() >= MAX_EMBEDDED {
            break;
        }
        let said = if field.label.is_empty() { field.name.as_str() } else { &field.label };
        let _ = write!(text, "{separator}{}", spoken(said));
        separator = ", ";
    }
    text
}

pub(super) fn metric_text(metric: &Metric) -> String {
    let mut text = spoken(&metric.name);
    for synonym in &metric.synonyms {
        let _ = write!(text, ", {}", spoken(synonym));
    }
    if !metric.description.is_empty() {
        let _ = write!(text, ". {}", shortened(&metric.description, MAX_DESCRIPTION));
    }
    shortened(&text, MAX_EMBEDDED)
}

pub(super) fn query_text(query: &VerifiedQuery) -> String {
    shortened(&query.question, MAX_EMBEDDED)
}

/// Positions of the datasets whose rows a metric aggregates, as far as it says so.
pub(super) fn metric_datasets(model: &Model, metric: &Metric) -> Vec<usize> {
    let position = |name: &str| model.datasets.iter().position(|dataset| dataset.name == name);
    if !metric.dataset.is_empty() {
        return position(&metric.dataset).into_iter().collect();
    }
    let Ok(expression) = parse_expression(metric.expression.text()) else { return Vec::new() };
    let mut found: Vec<usize> = columns_of(&expression)
        .iter()
        .filter_map(|(qualifier, _)| position(qualifier.as_ref()?.as_str()))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Positions of the datasets that a verified query reads: those that its text names as `model.dataset`, or alone
/// behind FROM or JOIN.
pub(super) fn query_datasets(model: &Model, query: &VerifiedQuery) -> Vec<usize> {
    let is_name = |character: char| character.is_alphanumeric() || matches!(character, '_' | '.');
    let words: Vec<String> = query
        .sql
        .replace('"', "")
        .split(|character: char| !is_name(character))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let model_name = model.name.to_lowercase();
    let named = |dataset: &Dataset| {
        let name = dataset.name.to_lowercase();
        let full = format!("{model_name}.{name}");
        (0..words.len()).any(|at| {
            words[at] == full
                || (words[at] == name && at > 0 && matches!(words[at - 1].as_str(), "from" | "join"))
        })
    };
    (0..model.datasets.len()).filter(|position| named(&model.datasets[*position])).collect()
}

/// A name as one says it: words in lower case instead of `snake_case` and `camelCase`.
fn spoken(name: &str) -> String {
    let mut said = String::with_capacity(name.len() + 4);
    let mut before_is_lower = false;
    for character in name.chars() {
        let is_gap = character.is_whitespace() || matches!(character, '_' | '-' | '.');
        if (is_gap || (character.is_uppercase() && before_is_lower)) && !said.ends_with(' ') {
            said.push(' ');
        }
        if !is_gap {
            said.extend(character.to_lowercase());
        }
        before_is_lower = character.is_lowercase();
    }
    said.trim().to_owned()
}

/// At most `limit` bytes of a text, ending with a word and an ellipsis where something was left out.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = &text[..end];
    let kept = kept.rsplit_once(char::is_whitespace).map_or(kept, |(words, _)| words);
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_people_say_them() {
        assert_eq!(spoken("StuID"), "stu id");
        assert_eq!(spoken("Singer_in_Concert"), "singer in concert");
        assert_eq!(spoken("__x--Y "), "x y");
    }

    proptest! {
        #[test]
        fn a_shortened_text_is_a_beginning(text in ".{0,60}", limit in 0usize..80) {
            let short = shortened(&text, limit);
            let kept = short.strip_suffix('…').unwrap_or(&short);
            prop_assert!(text.starts_with(kept));
            prop_assert!(kept.len() <= limit.max(text.len().min(limit)));
        }
    }
}
