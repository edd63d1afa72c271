//! Finds operations by words. Pure.

use std::collections::{BTreeMap, HashMap};

/// An inverted index over weighted words.
#[derive(Debug, Default)]
pub struct WordIndex {
    /// Word → (entry, weight).
    postings: BTreeMap<String, Vec<(usize, f64)>>,
    entries: usize,
}

/// A word that only starts like the one asked for counts for less.
const PREFIX_WEIGHT: f64 = 0.4;
/// Shorter beginnings match too much.
const MIN_PREFIX: usize = 3;

impl WordIndex {
    /// Adds the next entry (they are numbered from 0) with its texts and their weights.
    pub fn add(&mut self, texts: &[(&str, f64)]) {
        let mut weights: HashMap<String, f64> = HashMap::new();
        for (text, weight) in texts {
            for word in words(text) {
                // The best place counts, not how often a word is repeated.
                let best = weights.entry(word).or_default();
                *best = best.max(*weight);
            }
        }
        for (word, weight) in weights {
            self.postings.entry(word).or_default().push((self.entries, weight));
        }
        self.entries += 1;
    }

    /// Entries that hold any word of the query, best first; ties in the order they were added.
    pub fn find(&self, query: &str) -> Vec<(usize, f64)> {
        let mut scores: HashMap<usize, f64> = HashMap::new();
        for word in words(query) {
            let mut of_word: HashMap<usize, f64> = HashMap::new();
            for (found, postings) in
                self.postings.range(word.clone()..).take_while(|(w, _)| w.starts_with(&word))
            {
                let share = match found == &word {
                    true => 1.0,
                    false if word.len() >= MIN_PREFIX => PREFIX_WEIGHT,
                    false => continue,
                };
                let rarity = (1.0 + self.entries as f64 / postings.len() as f64).ln();
                for (entry, weight) in postings {
                    let best = of_word.entry(*entry).or_default();
                    *best = best.max(share * weight * rarity);
                }
            }
            for (entry, score) in of_word {
                *scores.entry(entry).or_default() += score;
            }
        }
        let mut found: Vec<_> = scores.into_iter().collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found
    }
}

/// Lowercase words without the plural's s.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .flat_map(|word| match word.is_ascii() {
            true => super::name::snake_case(word).split('_').map(str::to_owned).collect::<Vec<_>>(),
            false => vec![word.to_lowercase()],
        })
        .filter(|word| !word.is_empty())
        .map(|word| match word.strip_suffix('s') {
            Some(stem) if stem.len() > 2 && !stem.ends_with('s') => stem.to_owned(),
            _ => word,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_more_than_descriptions_and_rare_words_more_than_common_ones() {
        let mut index = WordIndex::default();
        index.add(&[("list_flights", 4.0), ("weather is in another operation", 1.0)]);
        index.add(&[("get_hourly", 4.0), ("hourly weather records", 3.0)]);
        index.add(&[("get_daily", 4.0), ("daily weather records", 3.0)]);
        let order = |query: &str| index.find(query).into_iter().map(|(entry, _)| entry).collect::<Vec<_>>();
        assert_eq!(order("weather"), [1, 2, 0]);
        assert_eq!(order("daily weather"), [2, 1, 0]);
        assert_eq!(order("flight"), [0]);
        assert_eq!(order("record"), [1, 2]);
        assert_eq!(order("hour"), [1]);
        assert_eq!(order("nothing like it"), [0; 0]);
        assert_eq!(order(""), [0; 0]);
    }
}
