//! Ranked word search over short texts held in memory: BM25 (Robertson and Zaragoza, 2009; k1 = 1.2, b = 0.75).
//!
//! Serves `?q=` and linking, where the corpus is a model's names, synonyms and descriptions.

use std::collections::{BTreeMap, HashMap};

/// A searchable set of texts; documents are known by the order in which they were added.
#[derive(Debug, Default)]
pub struct SearchIndex {
    postings: HashMap<String, Vec<(u32, f32)>>,
    lengths: Vec<f32>,
    total_length: f32,
}

/// One hit: position of the document and its score, higher is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    pub document: usize,
    pub score: f32,
}

const K1: f32 = 1.2;
const B: f32 = 0.75;

impl SearchIndex {
    /// Adds a document of weighted texts, such as the name three times as heavy as the description.
    pub fn add(&mut self, parts: &[(&str, f32)]) -> usize {
        let document = self.lengths.len();
        let mut weights: BTreeMap<String, f32> = BTreeMap::new();
        let mut length = 0.0;
        for (text, weight) in parts {
            for word in words(text) {
                *weights.entry(word).or_default() += weight;
                length += 1.0;
            }
        }
        for (word, weight) in weights {
            self.postings.entry(word).or_default().push((document as u32, weight));
        }
        self.lengths.push(length);
        self.total_length += length;
        document
    }

    /// Gives back the room that was kept for more documents.
    pub fn shrink_to_fit(&mut self) {
        self.postings.values_mut().for_each(Vec::shrink_to_fit);
        self.postings.shrink_to_fit();
        self.lengths.shrink_to_fit();
    }

    /// All documents that share a word with `query`, best first; ties in the order of addition.
    pub fn search(&self, query: &str) -> Vec<Ranked> {
        let count = self.lengths.len() as f32;
        let average = (self.total_length / count.max(1.0)).max(1.0);
        let mut scores = vec![0.0_f32; self.lengths.len()];
        let mut hits = Vec::new();
        let mut terms = words(query);
        terms.sort();
        terms.dedup();
        for term in terms {
            let Some(postings) = self.postings.get(&term) else { continue };
            let found = postings.len() as f32;
            let idf = (1.0 + (count - found + 0.5) / (found + 0.5)).ln();
            for (document, weight) in postings {
                let length = self.lengths[*document as usize] / average;
                let score = idf * weight * (K1 + 1.0) / (weight + K1 * (1.0 - B + B * length));
                let sum = &mut scores[*document as usize];
                if *sum == 0.0 {
                    hits.push(*document);
                }
                *sum += score;
            }
        }
        let score = |document: u32| Ranked { document: document as usize, score: scores[document as usize] };
        let mut ranked: Vec<Ranked> = hits.into_iter().map(score).collect();
        ranked.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.document.cmp(&b.document)));
        ranked
    }
}

/// Lower-case words, split at punctuation, underscores and camelCase, common words dropped, plural and verb endings cut.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut previous_lower = false;
    for character in text.chars().chain(std::iter::once(' ')) {
        let boundary = !character.is_alphanumeric() || (character.is_uppercase() && previous_lower);
        if boundary && !word.is_empty() {
            let finished = std::mem::take(&mut word);
            if !STOP_WORDS.contains(&finished.as_str()) {
                words.push(stem(finished));
            }
        }
        if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
        }
        previous_lower = character.is_lowercase();
    }
    words
}

const STOP_WORDS: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "by", "did", "do", "does", "for", "from", "had", "has",
    "have", "how", "i", "in", "is", "it", "its", "me", "more", "most", "my", "of", "on", "or", "per", "show",
    "than", "that", "the", "their", "there", "this", "to", "was", "we", "were", "what", "when", "where",
    "which", "who", "with",
];

/// Harman's S-stemmer with the commonest verb endings; enough to join `delays`, `delayed` and `delay`.
fn stem(word: String) -> String {
    let cut = |suffix: &str, replacement: &str| {
        word.strip_suffix(suffix)
            .filter(|rest| rest.chars().count() >= 3)
            .map(|rest| format!("{rest}{replacement}"))
    };
    if word.ends_with("ss") || word.ends_with("us") {
        return word;
    }
    cut("ies", "y")
        .or_else(|| cut("ations", "at"))
        .or_else(|| cut("ation", "at"))
        .or_else(|| cut("ings", ""))
        .or_else(|| cut("ing", ""))
        .or_else(|| cut("ures", ""))
        .or_else(|| cut("ure", ""))
        .or_else(|| cut("ed", ""))
        .or_else(|| cut("es", ""))
        .or_else(|| cut("s", ""))
        .or_else(|| cut("e", ""))
        .unwrap_or(word)
}
