//! What goes along with the chosen datasets: instructions, verified queries, values, metrics and fields.

use super::super::literals::Literal;
use super::super::rank::ScoreParts;
use super::super::{LinkedKind, ValueMatch, text};
use super::{Assembly, Key, LEAST_METRIC_SHARE, MAX_QUERIES, MAX_VALUES, Piece};

impl Assembly<'_> {
    /// What the models of the chosen datasets tell those who write SQL.
    pub(super) fn add_instructions(&mut self, percent: usize) {
        let mut models: Vec<u32> = Vec::new();
        for chosen in &self.chosen {
            let (model, _) = self.linker.datasets[*chosen];
            if !models.contains(&model) && !self.has(&Key::Instructions(model)) {
                models.push(model);
            }
        }
        for position in models {
            let model = &self.linker.models[position as usize];
            let text = text::instructions(model);
            if text.is_empty() {
                continue;
            }
            let name = model.name.clone();
            let mut item =
                self.item(LinkedKind::Instructions, &model.name, name, ScoreParts::default(), text);
            item.reasons.push("its author tells it to whoever writes SQL".to_owned());
            self.offer(Piece { key: Key::Instructions(position), item }, percent);
        }
    }

    pub(super) fn add_queries(&mut self, least: f32, percent: usize) {
        let likeness = &self.ranking.queries;
        let mut order: Vec<usize> = (0..likeness.len()).filter(|at| likeness[*at] >= least).collect();
        order.sort_by(|a, b| likeness[*b].total_cmp(&likeness[*a]).then(a.cmp(b)));
        for at in order.into_iter().take(MAX_QUERIES) {
            let (model, query) = self.linker.query(at);
            // Its SQL is of no use without the model that it reads.
            let known = self.linker.queries[at].datasets.iter().any(|dataset| self.is_told(*dataset));
            if !known || self.has(&Key::Query(at)) {
                continue;
            }
            let parts = ScoreParts { queries: self.ranking.queries[at], ..ScoreParts::default() };
            let mut item = self.item(
                LinkedKind::VerifiedQuery,
                &model.name,
                query.name.clone(),
                parts,
                text::query(query),
            );
            item.reasons.push("it answers something like the question".to_owned());
            self.offer(Piece { key: Key::Query(at), item }, percent);
        }
    }

    /// Whether the answer has the dataset, or one of the same model, so that its model is known to fit.
    fn is_told(&self, dataset: u32) -> bool {
        let (model, _) = self.linker.datasets[dataset as usize];
        self.chosen.iter().any(|chosen| self.linker.datasets[*chosen].0 == model)
    }

    pub(super) fn add_values(&mut self, literals: &[Literal], percent: usize) {
        let mut count = 0;
        for literal in literals {
            for place in &literal.places {
                let dataset = place.dataset as usize;
                if !self.chosen.contains(&dataset) {
                    continue;
                }
                count += 1;
                if count > MAX_VALUES {
                    return;
                }
                let key = Key::Value(*place);
                let (model, described) = self.linker.dataset(dataset);
                let field = &described.fields[place.field as usize];
                let value = &field.sample_values[place.value as usize];
                if self.has(&key) {
                    continue;
                }
                let text = text::value(model, described, field, value, &literal.text);
                let name = format!("{}.{}", described.name, field.name);
                let parts = ScoreParts { values: 1.0, ..ScoreParts::default() };
                let mut item = self.item(LinkedKind::Value, &model.name, name, parts, text);
                item.reasons.push(format!("the question says {}", literal.text));
                item.value = Some(ValueMatch {
                    field: field.name.clone(),
                    value: value.to_string(),
                    literal: literal.text.clone(),
                });
                self.offer(Piece { key, item }, percent);
            }
        }
    }

    pub(super) fn add_metrics(&mut self, most: usize, percent: usize) {
        let scores = &self.ranking.metrics;
        let best = scores.iter().map(ScoreParts::total).fold(0.0, f32::max);
        let is_near = |parts: &ScoreParts| parts.total() > 0.0 && parts.total() >= LEAST_METRIC_SHARE * best;
        let mut order: Vec<usize> = (0..scores.len()).filter(|at| is_near(&scores[*at])).collect();
        order.sort_by(|a, b| scores[*b].total().total_cmp(&scores[*a].total()).then(a.cmp(b)));
        let fits = |at: &usize| {
            let (model, _, over) = &self.linker.metrics[*at];
            let of_model = |chosen: &usize| self.linker.datasets[*chosen].0 == *model;
            match over.as_slice() {
                [] => self.chosen.iter().any(of_model),
                over => over.iter().any(|dataset| self.chosen.contains(&(*dataset as usize))),
            }
        };
        let order: Vec<usize> = order.into_iter().filter(fits).take(most).collect();
        for at in order {
            if self.has(&Key::Metric(at)) {
                continue;
            }
            let (model, metric) = self.linker.metric(at);
            let parts = self.ranking.metrics[at];
            let mut item = self.item(
                LinkedKind::Metric,
                &model.name,
                metric.name.clone(),
                parts,
                text::metric(model, metric),
            );
            let shared = self.linker.metric_words.shared(self.question, at);
            item.reasons.push(if shared.is_empty() {
                "it is close in meaning".to_owned()
            } else {
                format!("it speaks of {}", shared.join(", "))
            });
            self.offer(Piece { key: Key::Metric(at), item }, percent);
        }
    }

    /// Details of the chosen datasets' fields that share words with the question or have a value of it.
    pub(super) fn add_fields(&mut self, most: usize, percent: usize) {
        let top = self.field_scores.iter().copied().fold(0.0, f32::max).max(1.0);
        let mut order = Vec::new();
        for dataset in &self.chosen {
            let first = self.linker.first_field[*dataset];
            let fields = self.linker.dataset(*dataset).1.fields.len();
            for field in 0..fields {
                let words = self.field_scores[first + field] / top;
                let values = if self.has_literal(*dataset, field) { 1.0 } else { 0.0 };
                if words + values > 0.0 {
                    let parts = ScoreParts { words, values, ..ScoreParts::default() };
                    order.push((*dataset, field, parts));
                }
            }
        }
        let by_score = |(_, _, parts): &(usize, usize, ScoreParts)| parts.total();
        order.sort_by(|a, b| by_score(b).total_cmp(&by_score(a)).then((a.0, a.1).cmp(&(b.0, b.1))));
        for (dataset, field, parts) in order.into_iter().take(most) {
            let key = Key::Field(dataset, field);
            if self.has(&key) {
                continue;
            }
            let (model, described) = self.linker.dataset(dataset);
            let name = format!("{}.{}", described.name, described.fields[field].name);
            let text = text::field(model, described, &described.fields[field]);
            let mut item = self.item(LinkedKind::Field, &model.name, name, parts, text);
            let at = self.linker.first_field[dataset] + field;
            let shared = self.linker.field_words.shared(self.question, at);
            if !shared.is_empty() {
                item.reasons.push(format!("it speaks of {}", shared.join(", ")));
            }
            if parts.values > 0.0 {
                item.reasons.push("the question names a value of it".to_owned());
            }
            self.offer(Piece { key, item }, percent);
        }
    }
}
