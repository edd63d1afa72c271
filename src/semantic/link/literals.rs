//! Literals: which values of which fields a question names.
//!
//! A value is known by its words, lower-case. Spans of the question are looked up, longest first, so that `New York`
//! is not also `York`. What could as well be a word of the sentence needs more than that: short codes want their
//! exact case, numbers four digits and a field that lists all its values, single characters quotation marks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::super::model::{Field, Model};

/// Longer values are only found when the question quotes them.
const MAX_WORDS: usize = 8;

/// Where a value stands, by position: dataset of the linker, field of the dataset, sample value of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) dataset: u32,
    pub(super) field: u32,
    pub(super) value: u32,
}

/// One literal of a question with all the places that have it as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    /// As the question has it.
    pub(super) text: String,
    pub(super) places: Vec<Place>,
}

#[derive(Debug, Default)]
pub(super) struct LiteralIndex {
    places: HashMap<String, Vec<Place>>,
}

impl LiteralIndex {
    pub(super) fn new(models: &[Arc<Model>], datasets: &[(u32, u32)]) -> Self {
        let mut places: HashMap<String, Vec<Place>> = HashMap::new();
        for (dataset, (model, position)) in (0u32..).zip(datasets) {
            let fields = &models[*model as usize].datasets[*position as usize].fields;
            for (field, described) in (0u32..).zip(fields) {
                for (value, text) in (0u32..).zip(&described.sample_values) {
                    let key = normal(text);
                    if !key.is_empty() {
                        places.entry(key).or_default().push(Place { dataset, field, value });
                    }
                }
            }
        }
        Self { places }
    }

    /// The literals of `question`, longest first, then in its order; a value only where `field` allows it.
    pub(super) fn find<'m>(
        &self,
        question: &str,
        field: impl Fn(Place) -> Option<&'m Field>,
    ) -> Vec<Literal> {
        if self.places.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        let value = |place: Place| {
            let field = field(place)?;
            Some((field, field.sample_values.get(place.value as usize)?.as_str()))
        };
        for quoted in quoted(question) {
            // Between quotation marks it is meant as a value, whatever it looks like.
            if let Some(places) = self.places.get(&normal(quoted)) {
                found.push(Literal { text: quoted.to_owned(), places: places.clone() });
            }
        }
        let words = words(question);
        let shouted = !question.chars().any(char::is_lowercase);
        let mut covered = vec![false; words.len()];
        for length in (1..=MAX_WORDS.min(words.len())).rev() {
            for start in 0..=words.len() - length {
                let span = start..start + length;
                if covered[span.clone()].iter().all(|covered| *covered) {
                    continue;
                }
                let key = joined(words[span.clone()].iter().map(|(_, word)| *word));
                let Some(places) = self.places.get(&key) else { continue };
                let (from, last) = (words[start].0, words[start + length - 1]);
                let text = &question[from..last.0 + last.1.len()];
                let meant = |place: &Place| {
                    value(*place).is_some_and(|(field, value)| is_meant(field, value, text, shouted))
                };
                let places: Vec<Place> = places.iter().copied().filter(meant).collect();
                if !places.is_empty() {
                    covered[span].fill(true);
                    found.push(Literal { text: text.to_owned(), places });
                }
            }
        }
        let mut seen = BTreeSet::new();
        found.retain(|literal| seen.insert(normal(&literal.text)));
        found
    }
}

/// Whether words of a sentence that spell a value also mean it.
fn is_meant(field: &Field, value: &str, written: &str, shouted: bool) -> bool {
    let characters = value.chars().count();
    if value.parse::<f64>().is_ok() {
        return field.is_enum && value.chars().filter(char::is_ascii_digit).count() >= 4;
    }
    let is_code = characters <= 3 || (characters == 4 && value.chars().any(char::is_uppercase));
    if is_code {
        return characters >= 2 && value == written && !(shouted && super::words_of(written).is_empty());
    }
    // A word that says nothing, such as `from`, is no value either.
    !super::words_of(value).is_empty()
}

/// The words of a text with their offsets.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, character) in text.char_indices().chain(std::iter::once((text.len(), ' '))) {
        match (character.is_alphanumeric(), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                words.push((from, &text[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    words
}

fn joined<'t>(words: impl Iterator<Item = &'t str>) -> String {
    let mut joined = String::new();
    for word in words {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.extend(word.chars().flat_map(char::to_lowercase));
    }
    joined
}

/// What two spellings of a value have in common: their words, lower-case.
fn normal(text: &str) -> String {
    joined(words(text).into_iter().map(|(_, word)| word))
}

/// What stands between quotation marks. An apostrophe inside a word opens nothing.
fn quoted(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut open: Option<(usize, char)> = None;
    let mut before = ' ';
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let after = characters.peek().map_or(' ', |(_, character)| *character);
        match open {
            Some((from, end)) if character == end && !(end == '\'' && after.is_alphanumeric()) => {
                found.push(&text[from..at]);
                open = None;
            }
            Some(_) => {}
            None => {
                let end = match character {
                    '"' => '"',
                    '\'' if !before.is_alphanumeric() => '\'',
                    '“' => '”',
                    '‘' => '’',
                    '`' => '`',
                    _ => {
                        before = character;
                        continue;
                    }
                };
                open = Some((at + character.len_utf8(), end));
            }
        }
        before = character;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotation_marks_are_told_from_apostrophes() {
        assert_eq!(quoted("singers' names in 'New York' or \"O'Hare\""), ["New York", "O'Hare"]);
        assert_eq!(quoted("What's the airline's code?"), [""; 0]);
        assert_eq!(quoted("the “Blue Note” and an \"open end"), ["Blue Note"]);
    }

    #[test]
    fn spellings_of_one_value_are_one() {
        assert_eq!(normal("  New-York "), normal("NEW york"));
        assert_eq!(normal("¿?"), "");
    }

    proptest! {
        #[test]
        fn any_question_can_be_searched(question in ".{0,80}", value in ".{0,12}") {
            let index = LiteralIndex {
                places: HashMap::from([(normal(&value), vec![Place { dataset: 0, field: 0, value: 0 }])]),
            };
            let _ = index.find(&question, |_| None);
            for text in quoted(&question) {
                prop_assert!(question.contains(text));
            }
            for (at, word) in words(&question) {
                prop_assert_eq!(&question[at..at + word.len()], word);
            }
        }
    }
}
