//! BM25 over weighted texts (Robertson and Zaragoza, 2009), built once and asked often.
//!
//! Besides [`super::super::SearchIndex`], which is built for one search, this one keeps the rarity of each word, so that
//! parts of a document (a dataset's fields) can be scored by themselves with the weights of the whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use super::super::search::words;

/// How soon more of the same word stops counting.
const K1: f32 = 1.2;
/// How much long documents are held back. Less than the usual 0.75: a wide table is no worse an answer (measured on
/// the first half of Spider dev: 0.4 gives 0.958 recall at 5, 0.75 gives 0.945).
const B: f32 = 0.4;

/// Documents of weighted words; known by the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct WordIndex {
    postings: HashMap<String, Vec<(u32, f32)>>,
    lengths: Vec<f32>,
    total_length: f32,
}

impl WordIndex {
    /// Adds a document of texts with their weights. A word counts with the sum of its weights; texts of a weight
    /// below one make the document as much less longer.
    pub(super) fn add<'t>(&mut self, parts: impl IntoIterator<Item = (&'t str, f32)>) {
        let document = u32::try_from(self.lengths.len()).expect("a catalog has fewer than 2^32 things");
        let mut weights: BTreeMap<String, f32> = BTreeMap::new();
        let mut length = 0.0;
        for (text, weight) in parts {
            for word in words(text) {
                *weights.entry(word).or_default() += weight;
                length += weight.min(1.0);
            }
        }
        for (word, weight) in weights {
            self.postings.entry(word).or_default().push((document, weight));
        }
        self.lengths.push(length);
        self.total_length += length;
    }

    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// How much a word says: most if one document has it, little but not nothing if all do (as in a catalog of four
    /// datasets), 0 if none does.
    pub(super) fn rarity(&self, word: &str) -> f32 {
        let found = self.postings.get(word).map_or(0, Vec::len) as f32;
        if found == 0.0 { 0.0 } else { (1.0 + self.len() as f32 / found).ln() }
    }

    /// The score of each document for the question, 0 where they share no word.
    pub(super) fn scores(&self, question: &QuestionWords) -> Vec<f32> {
        let mut scores = vec![0.0; self.len()];
        let average = (self.total_length / (self.len() as f32).max(1.0)).max(1.0);
        for (word, _) in &question.words {
            let Some(postings) = self.postings.get(word) else { continue };
            let rarity = self.rarity(word);
            for (document, weight) in postings {
                let length = self.lengths[*document as usize] / average;
                let saturated = weight * (K1 + 1.0) / (weight + K1 * (1.0 - B + B * length));
                scores[*document as usize] += rarity * saturated;
            }
        }
        scores
    }

    /// The question's words, as they were written, that the document holds.
    pub(super) fn shared<'q>(&self, question: &'q QuestionWords, document: usize) -> Vec<&'q str> {
        let holds = |word: &String| {
            self.postings.get(word).is_some_and(|postings| {
                postings.binary_search_by_key(&document, |(known, _)| *known as usize).is_ok()
            })
        };
        question.words.iter().filter(|(word, _)| holds(word)).map(|(_, written)| written.as_str()).collect()
    }
}

/// What a question asks about, without the words that it asks with.
#[derive(Debug, Default)]
pub(super) struct QuestionWords {
    /// Stem and how it was written, each stem once, in the question's order.
    pub(super) words: Vec<(String, String)>,
}

impl QuestionWords {
    /// The share of a name's words that the question has; 0 for a name without words.
    pub(super) fn share_of(&self, name: &[String]) -> f32 {
        let found = name.iter().filter(|word| self.words.iter().any(|(known, _)| known == *word)).count();
        if name.is_empty() { 0.0 } else { found as f32 / name.len() as f32 }
    }

    pub(super) fn new(question: &str) -> Self {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for written in question.split_whitespace() {
            for word in words(written) {
                if !ASKING.contains(&word) && seen.insert(word.clone()) {
                    let written = written.trim_matches(|character: char| !character.is_alphanumeric());
                    found.push((word, written.to_owned()));
                }
            }
        }
        Self { words: found }
    }
}

/// Words that questions are asked with. In names they mean something (`number`, `list`), so documents keep them.
static ASKING: LazyLock<HashSet<String>> = LazyLock::new(|| {
    words(
        "about all also any been being between both but can could different each either every find give he her his \
         if into list many much neither no nor not number only other our please return same she should some tell \
         them these they those us will would you your",
    )
    .into_iter()
    .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_a_question_is_asked_with_are_not_looked_for() {
        let question =
            QuestionWords::new("Please list all the singers, and give the number of Concerts of each!");
        let written: Vec<&str> = question.words.iter().map(|(_, written)| written.as_str()).collect();
        assert_eq!(written, ["singers", "Concerts"]);
    }

    #[test]
    fn rare_words_and_heavy_texts_count_more() {
        let mut index = WordIndex::default();
        index.add([("orders", 4.0), ("name country", 1.0)]);
        index.add([("customers", 4.0), ("name", 1.0)]);
        index.add([("countries", 4.0), ("name orders_count", 1.0)]);
        let best = |question: &str| {
            let scores = index.scores(&QuestionWords::new(question));
            (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
        };
        assert_eq!(best("orders"), 0);
        assert_eq!(best("names of countries"), 2);
        assert!(index.rarity("customer") > index.rarity("nam"));
        assert_eq!(index.rarity("unheard"), 0.0);
        assert_eq!(
            index.shared(&QuestionWords::new("Which Countries ordered?"), 0),
            ["Countries", "ordered"]
        );
    }
}
