//! Choosing what goes into the answer, within the budget.
//!
//! The best dataset comes first and stays. Then, each as far as the budget goes: what its model tells those who write
//! SQL, verified queries that ask the same, further datasets, each together with its joins to the ones before it, and
//! of the chosen datasets the values that the question names, fields and metrics. A first round leaves something for
//! each kind, a second one fills up.

mod company;

use std::collections::{BTreeMap, BTreeSet};

use super::literals::{Literal, Place};
use super::rank::{QUERY_LIKENESS, Ranking, SAME_QUESTION, ScoreParts};
use super::text::{self, DETAILS, Detail};
use super::words::QuestionWords;
use super::{Join, Link, LinkRequest, LinkedItem, LinkedKind, Linker, narrow};

const MAX_DATASETS: usize = 10;
/// Datasets with less than these shares of the best score, and of the best evidence of their own, are noise: on Spider
/// dev 7.5 of 10 are left, and no question loses a table that it had. The second one tells datasets of one model apart.
const LEAST_SHARE: f32 = 0.5;
const LEAST_OWN_SHARE: f32 = 0.15;
const MAX_QUERIES: usize = 3;
const MAX_METRICS: usize = 8;
const LEAST_METRIC_SHARE: f32 = 0.4;
/// Metrics and fields that come before further datasets in a tight budget.
const FIRST_METRICS: usize = 3;
const FIRST_FIELDS: usize = 6;
const MAX_VALUES: usize = 16;
const MAX_FIELDS: usize = 40;

/// Parts of the budget, in percent, up to which each kind may go in the first round, so that many datasets leave
/// room for values, metrics and fields of the best.
const UP_TO_QUERIES: usize = 50;
const UP_TO_DATASETS: usize = 70;
const UP_TO_DETAILS: usize = 90;

pub(super) fn assemble(
    linker: &Linker,
    request: &LinkRequest<'_>,
    question: &QuestionWords,
    literals: &[Literal],
    ranking: &Ranking,
) -> Link {
    let field_scores = linker.field_words.scores(question);
    let mut assembly = Assembly {
        linker,
        request,
        question,
        ranking,
        field_scores,
        literal_fields: literals.iter().flat_map(|literal| literal.places.iter().copied()).collect(),
        pieces: Vec::new(),
        tokens: 0,
        chosen: Vec::new(),
        left_out: BTreeSet::new(),
    };
    let candidates = candidates(&ranking.datasets);
    let Some((best, others)) = candidates.split_first() else { return Link::default() };

    assembly.add_best(*best);
    assembly.add_instructions(UP_TO_QUERIES);
    assembly.add_queries(SAME_QUESTION, UP_TO_QUERIES);
    for dataset in others {
        assembly.add_dataset(*dataset, UP_TO_DATASETS);
    }
    assembly.add_values(literals, UP_TO_DETAILS);
    assembly.add_fields(FIRST_FIELDS, UP_TO_DETAILS);
    assembly.add_metrics(FIRST_METRICS, UP_TO_DETAILS);
    assembly.add_instructions(100);
    for dataset in others {
        assembly.add_dataset(*dataset, 100);
    }
    assembly.add_values(literals, 100);
    assembly.add_queries(QUERY_LIKENESS, 100);
    assembly.add_metrics(MAX_METRICS, 100);
    assembly.add_fields(MAX_FIELDS, 100);
    // Once more for the models of the datasets that came last.
    assembly.add_instructions(100);
    assembly.finish()
}

/// The best datasets, best first; ties in the order of the catalog.
fn candidates(scores: &[ScoreParts]) -> Vec<usize> {
    let totals: Vec<f32> = scores.iter().map(ScoreParts::total).collect();
    let best = totals.iter().copied().fold(0.0, f32::max);
    if best <= 0.0 {
        return Vec::new();
    }
    let best_own = scores.iter().map(ScoreParts::own).fold(0.0, f32::max);
    let is_near =
        |at: &usize| totals[*at] >= LEAST_SHARE * best && scores[*at].own() >= LEAST_OWN_SHARE * best_own;
    let mut order: Vec<usize> = (0..totals.len()).filter(is_near).collect();
    order.sort_by(|a, b| totals[*b].total_cmp(&totals[*a]).then(a.cmp(b)));
    order.truncate(MAX_DATASETS);
    order
}

/// What an item is, so that nothing comes twice and a dataset that was passed through can be told in full later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Dataset(usize),
    Passing(usize),
    /// Model and relationship.
    Relationship(u32, u32),
    Instructions(u32),
    Query(usize),
    Value(Place),
    Metric(usize),
    /// Dataset and field.
    Field(usize, usize),
}

struct Piece {
    key: Key,
    item: LinkedItem,
}

struct Assembly<'a> {
    linker: &'a Linker,
    request: &'a LinkRequest<'a>,
    question: &'a QuestionWords,
    ranking: &'a Ranking,
    field_scores: Vec<f32>,
    literal_fields: Vec<Place>,
    pieces: Vec<Piece>,
    tokens: usize,
    /// Best first.
    chosen: Vec<usize>,
    /// What did not fit when it was tried last.
    left_out: BTreeSet<Key>,
}

impl Assembly<'_> {
    fn limit(&self, percent: usize) -> usize {
        self.request.budget_tokens.saturating_mul(percent) / 100
    }

    fn has(&self, key: &Key) -> bool {
        self.pieces.iter().any(|piece| piece.key == *key)
    }

    /// What an item takes from the budget: its text and the line break before it.
    fn cost(item: &LinkedItem) -> usize {
        item.tokens + 1
    }

    /// Takes all of the pieces or none; `replacing` goes if they are taken.
    fn take(&mut self, pieces: Vec<Piece>, replacing: Option<&Key>, percent: usize) -> bool {
        let replaced = self.pieces.iter().position(|piece| Some(&piece.key) == replacing);
        let saved = replaced.map_or(0, |at| Self::cost(&self.pieces[at].item));
        let added: usize = pieces.iter().map(|piece| Self::cost(&piece.item)).sum();
        if self.tokens + added - saved > self.limit(percent) {
            return false;
        }
        if let Some(at) = replaced {
            self.pieces.remove(at);
        }
        self.tokens = self.tokens + added - saved;
        for piece in pieces {
            self.left_out.remove(&piece.key);
            self.pieces.push(piece);
        }
        true
    }

    /// Takes one piece, or notes that it was left out.
    fn offer(&mut self, piece: Piece, percent: usize) -> bool {
        let key = piece.key.clone();
        let taken = self.take(vec![piece], None, percent);
        if !taken {
            self.left_out.insert(key);
        }
        taken
    }

    fn item(
        &self,
        kind: LinkedKind,
        model: &str,
        name: String,
        parts: ScoreParts,
        text: String,
    ) -> LinkedItem {
        LinkedItem {
            kind,
            model: model.to_owned(),
            name,
            score: parts.total(),
            parts,
            reasons: Vec::new(),
            tokens: (self.request.count)(&text),
            text,
            value: None,
            join: None,
        }
    }

    /// The best dataset in the fullest form that leaves room for other things, or else in the shortest.
    fn add_best(&mut self, dataset: usize) {
        let forms = DETAILS.iter().map(|detail| self.dataset_piece(dataset, *detail));
        let room = self.limit(UP_TO_DATASETS);
        let mut forms: Vec<Piece> = forms.collect();
        let fits = forms.iter().position(|piece| Self::cost(&piece.item) <= room);
        let piece = forms.swap_remove(fits.unwrap_or(DETAILS.len() - 1));
        self.tokens = Self::cost(&piece.item);
        self.pieces.push(piece);
        self.chosen.push(dataset);
        let (model, position) = self.linker.datasets[dataset];
        let selves = self.relationships(model, position as usize, position as usize);
        self.take(selves, None, 100);
    }

    /// A further dataset with its joins to those chosen before, if all of that fits (K1).
    fn add_dataset(&mut self, dataset: usize, percent: usize) {
        if self.chosen.contains(&dataset) {
            return;
        }
        let joins = self.joins_of(dataset);
        for detail in &DETAILS[..5] {
            let mut pieces = vec![self.dataset_piece(dataset, *detail)];
            pieces
                .extend(joins.iter().map(|piece| Piece { key: piece.key.clone(), item: piece.item.clone() }));
            if self.take(pieces, Some(&Key::Passing(dataset)), percent) {
                self.chosen.push(dataset);
                return;
            }
        }
        self.left_out.insert(Key::Dataset(dataset));
    }

    /// Relationships on the paths from a dataset to each chosen one of its model, and the datasets between them, as far
    /// as they are not there yet.
    fn joins_of(&self, dataset: usize) -> Vec<Piece> {
        let (model, position) = self.linker.datasets[dataset];
        let first = self.linker.first_dataset[model as usize];
        let ends: Vec<usize> = self
            .chosen
            .iter()
            .filter(|chosen| self.linker.datasets[**chosen].0 == model)
            .map(|chosen| chosen - first)
            .collect();
        let mut pieces: BTreeMap<Key, Piece> = BTreeMap::new();
        let mut steps = BTreeSet::from([(position as usize, position as usize)]);
        for path in self.linker.graphs[model as usize].paths(position as usize, &ends) {
            steps.extend(path.windows(2).map(|step| (step[0].min(step[1]), step[0].max(step[1]))));
            let between = path.iter().skip(1).take(path.len().saturating_sub(2));
            for passed in between.map(|passed| first + passed) {
                let key = Key::Passing(passed);
                if !self.chosen.contains(&passed) && !self.has(&key) {
                    pieces.insert(key, self.passing_piece(passed));
                }
            }
        }
        for (one, other) in steps {
            for piece in self.relationships(model, one, other) {
                pieces.insert(piece.key.clone(), piece);
            }
        }
        pieces.into_values().collect()
    }

    /// The relationships between two datasets of a model that are not there yet.
    fn relationships(&self, model: u32, one: usize, other: usize) -> Vec<Piece> {
        let described = &self.linker.models[model as usize];
        let missing = self.linker.graphs[model as usize].between(one, other).iter();
        let missing = missing.filter(|link| !self.has(&Key::Relationship(model, **link)));
        let piece = |position: &u32| {
            let link = &described.relationships[*position as usize];
            let text = text::relationship(link);
            let none = ScoreParts::default();
            let mut item =
                self.item(LinkedKind::Relationship, &described.name, link.name.clone(), none, text);
            item.reasons.push(format!("joins {} and {}", link.from, link.to));
            item.join =
                Some(Join { from: link.from.clone(), to: link.to.clone(), on: text::conditions(link) });
            Piece { key: Key::Relationship(model, *position), item }
        };
        missing.map(piece).collect()
    }

    fn dataset_piece(&self, dataset: usize, detail: Detail) -> Piece {
        let (model, described) = self.linker.dataset(dataset);
        let text = text::dataset(model, described, &self.preferred_fields(dataset), detail);
        let parts = self.ranking.datasets[dataset];
        let mut item = self.item(LinkedKind::Dataset, &model.name, described.name.clone(), parts, text);
        let shared = self.linker.dataset_words.shared(self.question, dataset);
        if !shared.is_empty() {
            item.reasons.push(format!("it speaks of {}", shared.join(", ")));
        }
        if parts.meaning >= 0.5 {
            item.reasons.push("it is close in meaning".to_owned());
        }
        if parts.values > 0.0 {
            item.reasons.push("the question names a value of it".to_owned());
        }
        if parts.queries > 0.0 {
            item.reasons.push("a verified query that asks something like it reads it".to_owned());
        }
        if item.reasons.is_empty() {
            item.reasons.push("it belongs to a model that fits".to_owned());
        }
        Piece { key: Key::Dataset(dataset), item }
    }

    fn passing_piece(&self, dataset: usize) -> Piece {
        let (model, described) = self.linker.dataset(dataset);
        let text = text::passing(model, described);
        // Below every chosen dataset: it is there for the path alone.
        let none = ScoreParts::default();
        let mut item = self.item(LinkedKind::Dataset, &model.name, described.name.clone(), none, text);
        item.reasons.push("it is on the join path between others".to_owned());
        Piece { key: Key::Passing(dataset), item }
    }

    /// Positions of a dataset's fields, most wanted first: named in the question, keys and join columns, the others.
    fn preferred_fields(&self, dataset: usize) -> Vec<usize> {
        let (model, described) = self.linker.dataset(dataset);
        let first = self.linker.first_field[dataset];
        let joins_by = |name: &String| {
            described.primary_key.contains(name)
                || model.relationships.iter().any(|link| {
                    (link.from == described.name && link.from_columns.contains(name))
                        || (link.to == described.name && link.to_columns.contains(name))
                })
        };
        let worth = |at: usize| {
            let literal = self.has_literal(dataset, at);
            let asked = self.field_scores[first + at];
            (if literal { 200.0 } else { 0.0 })
                + asked
                + if joins_by(&described.fields[at].name) { 100.0 } else { 0.0 }
        };
        let mut order: Vec<(usize, f32)> = (0..described.fields.len()).map(|at| (at, worth(at))).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        order.into_iter().map(|(at, _)| at).collect()
    }

    fn has_literal(&self, dataset: usize, field: usize) -> bool {
        let (dataset, field) = (narrow(dataset), narrow(field));
        self.literal_fields.iter().any(|place| place.dataset == dataset && place.field == field)
    }

    fn finish(mut self) -> Link {
        let order = |item: &LinkedItem| match item.kind {
            LinkedKind::Instructions => 0,
            LinkedKind::Dataset => 1,
            LinkedKind::Relationship => 2,
            LinkedKind::Field => 3,
            LinkedKind::Value => 4,
            LinkedKind::Metric => 5,
            LinkedKind::VerifiedQuery => 6,
        };
        let mut models: Vec<&str> = Vec::new();
        for chosen in &self.chosen {
            let name = self.linker.dataset(*chosen).0.name.as_str();
            if !models.contains(&name) {
                models.push(name);
            }
        }
        // Stable: within a kind the order is the one in which things were chosen.
        self.pieces.sort_by_key(|piece| {
            (models.iter().position(|model| *model == piece.item.model), order(&piece.item))
        });
        let mut items: Vec<LinkedItem> = self.pieces.into_iter().map(|piece| piece.item).collect();
        let mut left_out = self.left_out.len();
        let (mut prompt, mut tokens) = put_together(&items, self.request);
        // A counter that finds more in the whole than in its lines: what can go without breaking a join goes.
        while tokens > self.request.budget_tokens {
            let can_go = |item: &LinkedItem| order(item) >= 3 || order(item) == 0;
            let Some(at) = items.iter().rposition(can_go) else { break };
            items.remove(at);
            left_out += 1;
            (prompt, tokens) = put_together(&items, self.request);
        }
        items.sort_by(|a, b| a.kind.cmp(&b.kind).then(b.score.total_cmp(&a.score)));
        Link { items, prompt, tokens, left_out, by_meaning: self.ranking.by_meaning }
    }
}

fn put_together(items: &[LinkedItem], request: &LinkRequest<'_>) -> (String, usize) {
    let prompt = items.iter().map(|item| item.text.as_str()).collect::<Vec<_>>().join("\n");
    let tokens = (request.count)(&prompt);
    (prompt, tokens)
}
