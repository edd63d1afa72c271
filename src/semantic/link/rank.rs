//! Which datasets a question is about: words, meaning, values and verified queries, then what belongs together.
//!
//! Each part is brought to the scale of 0 to 1 within the catalog, so that no embedding model and no size of catalog
//! outweighs the others. The sum is a dataset's own evidence. Datasets of a model with strong evidence gain a share of
//! it, since a query's datasets come from one model, and most from neighbours in its joins.

use super::words::{QuestionWords, WordIndex};
use super::{Linker, literals::Literal};

/// Share of a model's best evidence that each of its datasets gains. Measured on the first half of Spider dev: flat
/// from 0.4 to 1.
const MODEL_SHARE: f32 = 0.6;
/// Share of the best direct neighbour's evidence; it tells the datasets of one large model apart.
const NEIGHBOUR_SHARE: f32 = 0.1;
/// Evidence of a name or synonym that stands in the question in full. Names count in the words already; this keeps
/// them from drowning among rarer words (words alone, Spider dev: recall at 5 from 0.910 to 0.916).
const NAME_EVIDENCE: f32 = 0.2;
/// Evidence of a literal that one dataset has; datasets that share a value share it by the root of their number.
const LITERAL_EVIDENCE: f32 = 0.6;
/// Evidence of a verified query that asks the same.
const QUERY_EVIDENCE: f32 = 0.5;
/// From this likeness on (of 0 to 1), a verified query is worth showing.
pub(super) const QUERY_LIKENESS: f32 = 0.4;
/// From this likeness on, it is likely to be the question itself in other words.
pub(super) const SAME_QUESTION: f32 = 0.7;
/// A best cosine so close to the mean says nothing; it is not blown up to 1.
const LEAST_SPREAD: f32 = 0.15;

/// Where a score comes from; they add up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScoreParts {
    /// Words shared with names, synonyms, descriptions and values: 0 to 1, and 0.2 more for a name in full.
    pub words: f32,
    /// Likeness of meaning, from vectors; 0 to 1.
    pub meaning: f32,
    /// Values that the question names.
    pub values: f32,
    /// Verified queries that ask something like it.
    pub queries: f32,
    /// What it gains from datasets of its model.
    pub company: f32,
}

impl ScoreParts {
    pub fn total(&self) -> f32 {
        self.own() + self.company
    }

    /// Without what others lend it.
    pub(super) fn own(&self) -> f32 {
        self.words + self.meaning + self.values + self.queries
    }
}

/// Scores of everything in a linker for one question, by position.
pub(super) struct Ranking {
    pub(super) datasets: Vec<ScoreParts>,
    pub(super) metrics: Vec<ScoreParts>,
    /// Likeness of each verified query to the question, 0 to 1.
    pub(super) queries: Vec<f32>,
    /// Whether vectors took part.
    pub(super) by_meaning: bool,
}

impl Linker {
    pub(super) fn rank(
        &self,
        question: &QuestionWords,
        literals: &[Literal],
        vector: Option<&[f32]>,
    ) -> Ranking {
        let cosines = vector.and_then(|vector| self.cosines(vector));
        let by_meaning = cosines.is_some();
        let cosines = cosines.unwrap_or_default();
        let (of_datasets, rest) = cosines.split_at(self.datasets.len().min(cosines.len()));
        let (of_metrics, of_queries) = rest.split_at(self.metrics.len().min(rest.len()));

        let queries = self.query_likeness(question, of_queries);
        let mut datasets = evidence(&self.dataset_words, question, of_datasets);
        for (parts, names) in datasets.iter_mut().zip(&self.names).filter(|(parts, _)| parts.words > 0.0) {
            let share = names.iter().map(|name| question.share_of(name)).fold(0.0, f32::max);
            parts.words += NAME_EVIDENCE * share;
        }
        for literal in literals {
            let mut holders: Vec<u32> = literal.places.iter().map(|place| place.dataset).collect();
            holders.dedup();
            let share = LITERAL_EVIDENCE / (holders.len() as f32).sqrt();
            for holder in holders {
                let parts = &mut datasets[holder as usize];
                parts.values = parts.values.max(share);
            }
        }
        for (query, likeness) in self.queries.iter().zip(&queries) {
            if *likeness >= QUERY_LIKENESS {
                for dataset in &query.datasets {
                    let parts = &mut datasets[*dataset as usize];
                    parts.queries = parts.queries.max(QUERY_EVIDENCE * likeness);
                }
            }
        }
        self.add_company(&mut datasets);
        let metrics = evidence(&self.metric_words, question, of_metrics);
        Ranking { datasets, metrics, queries, by_meaning }
    }

    fn add_company(&self, datasets: &mut [ScoreParts]) {
        let own: Vec<f32> = datasets.iter().map(ScoreParts::own).collect();
        let mut best_of_model = vec![0.0f32; self.models.len()];
        for ((model, _), own) in self.datasets.iter().zip(&own) {
            let best = &mut best_of_model[*model as usize];
            *best = best.max(*own);
        }
        for (at, parts) in datasets.iter_mut().enumerate() {
            let (model, position) = self.datasets[at];
            let first = self.first_dataset[model as usize];
            let neighbours = self.graphs[model as usize].neighbours(position as usize);
            let best_neighbour = neighbours.map(|next| own[first + next]).fold(0.0, f32::max);
            parts.company = MODEL_SHARE * best_of_model[model as usize] + NEIGHBOUR_SHARE * best_neighbour;
        }
    }

    /// By rare words in common (Jaccard, weighted by rarity) or by meaning, whichever says more.
    fn query_likeness(&self, question: &QuestionWords, cosines: &[f32]) -> Vec<f32> {
        let rarity = |word: &String| self.query_words.rarity(word).max(1.0);
        let asked: f32 = question.words.iter().map(|(word, _)| rarity(word)).sum();
        let likeness = |(at, query): (usize, &super::PreparedQuery)| {
            let shared: f32 = question
                .words
                .iter()
                .filter(|(word, _)| query.words.binary_search(word).is_ok())
                .map(|(word, _)| rarity(word))
                .sum();
            let either = asked + query.words.iter().map(rarity).sum::<f32>() - shared;
            let by_words = if either > 0.0 { shared / either } else { 0.0 };
            by_words.max(cosines.get(at).copied().unwrap_or(0.0)).clamp(0.0, 1.0)
        };
        self.queries.iter().enumerate().map(likeness).collect()
    }
}

/// Words over their best score, and meaning from the catalog's mean (0) to its best (1).
fn evidence(index: &WordIndex, question: &QuestionWords, cosines: &[f32]) -> Vec<ScoreParts> {
    let words = index.scores(question);
    let best = words.iter().copied().fold(0.0, f32::max);
    let mean = cosines.iter().sum::<f32>() / (cosines.len() as f32).max(1.0);
    let spread = (cosines.iter().copied().fold(0.0, f32::max) - mean).max(LEAST_SPREAD);
    let meaning = |at: usize| cosines.get(at).map_or(0.0, |cosine| ((cosine - mean) / spread).max(0.0));
    let parts = |(at, words): (usize, &f32)| ScoreParts {
        words: if best > 0.0 { words / best } else { 0.0 },
        meaning: meaning(at),
        ..ScoreParts::default()
    };
    words.iter().enumerate().map(parts).collect()
}
