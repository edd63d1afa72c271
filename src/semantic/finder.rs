//! Search over everything that models name and describe: made once for the models that a clearance may see, then only
//! read, by `?q=` and by `semantic_search`.
//!
//! D1 What is not in the models that it was made of is not found, counted or weighed.

use std::collections::HashMap;
use std::sync::Arc;

use super::model::{Dataset, Field, Metric, Model, NamedFilter, Relationship, VerifiedQuery};
use super::search::SearchIndex;

/// A search index with the models that it is of.
#[derive(Debug)]
pub struct Finder {
    models: Vec<Arc<Model>>,
    index: SearchIndex,
    places: Vec<Place>,
}

/// Where a thing stands in the models.
#[derive(Debug, Clone, Copy)]
struct Place {
    model: u32,
    kind: Kind,
    at: u32,
    inner: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Dataset,
    Field,
    Filter,
    Metric,
    Relationship,
    VerifiedQuery,
}

/// A thing in a model.
#[derive(Debug, Clone, Copy)]
pub enum Thing<'f> {
    Model,
    Dataset(&'f Dataset),
    Field(&'f Dataset, &'f Field),
    Filter(&'f Dataset, &'f NamedFilter),
    Metric(&'f Metric),
    Relationship(&'f Relationship),
    VerifiedQuery(&'f VerifiedQuery),
}

/// A thing that was found.
#[derive(Debug, Clone, Copy)]
pub struct Match<'f> {
    pub model: &'f Arc<Model>,
    pub thing: Thing<'f>,
    /// Higher is better.
    pub score: f32,
}

impl<'f> Match<'f> {
    pub fn kind(&self) -> &'static str {
        match self.thing {
            Thing::Model => "model",
            Thing::Dataset(_) => "dataset",
            Thing::Field(..) => "field",
            Thing::Filter(..) => "filter",
            Thing::Metric(_) => "metric",
            Thing::Relationship(_) => "relationship",
            Thing::VerifiedQuery(_) => "verified_query",
        }
    }

    pub fn name(&self) -> &'f str {
        match self.thing {
            Thing::Model => &self.model.name,
            Thing::Dataset(dataset) => &dataset.name,
            Thing::Field(_, field) => &field.name,
            Thing::Filter(_, filter) => &filter.name,
            Thing::Metric(metric) => &metric.name,
            Thing::Relationship(link) => &link.name,
            Thing::VerifiedQuery(query) => &query.name,
        }
    }

    /// The dataset that it belongs to or is; empty if there is none.
    pub fn dataset(&self) -> &'f str {
        match self.thing {
            Thing::Dataset(dataset) | Thing::Field(dataset, _) | Thing::Filter(dataset, _) => &dataset.name,
            Thing::Metric(metric) => &metric.dataset,
            Thing::Model | Thing::Relationship(_) | Thing::VerifiedQuery(_) => "",
        }
    }

    pub fn description(&self) -> &'f str {
        match self.thing {
            Thing::Model => &self.model.description,
            Thing::Dataset(dataset) => &dataset.description,
            Thing::Field(_, field) => &field.description,
            Thing::Filter(_, filter) => &filter.description,
            Thing::Metric(metric) => &metric.description,
            Thing::Relationship(link) => &link.description,
            Thing::VerifiedQuery(query) => &query.question,
        }
    }
}

const NO_SYNONYMS: &[&str] = &[];

impl Finder {
    pub fn new(models: &[Arc<Model>]) -> Self {
        let mut finder = Self { models: models.to_vec(), index: SearchIndex::default(), places: Vec::new() };
        for (at, model) in models.iter().enumerate() {
            finder.add_model(at, model);
        }
        finder.index.shrink_to_fit();
        finder.places.shrink_to_fit();
        finder
    }

    fn add_model(&mut self, number: usize, model: &Model) {
        self.add(
            number,
            Kind::Model,
            0,
            0,
            &[(&model.name, 3.0), (&model.description, 1.0)],
            &model.synonyms,
        );
        for (at, dataset) in model.datasets.iter().enumerate() {
            let parts = [(dataset.name.as_str(), 3.0), (&dataset.description, 1.0), (&model.name, 0.5)];
            self.add(number, Kind::Dataset, at, 0, &parts, &dataset.synonyms);
            for (inner, field) in dataset.fields.iter().enumerate() {
                let values = field.sample_values.join(" ");
                let parts = [
                    (field.name.as_str(), 3.0),
                    (&field.label, 2.0),
                    (&field.description, 1.0),
                    (&values, 0.5),
                ];
                self.add(number, Kind::Field, at, inner, &parts, &field.synonyms);
            }
            for (inner, filter) in dataset.filters.iter().enumerate() {
                let parts = [(filter.name.as_str(), 3.0), (&filter.description, 1.0)];
                self.add(number, Kind::Filter, at, inner, &parts, &filter.synonyms);
            }
        }
        for (at, metric) in model.metrics.iter().enumerate() {
            let parts = [(metric.name.as_str(), 3.0), (&metric.description, 1.0)];
            self.add(number, Kind::Metric, at, 0, &parts, &metric.synonyms);
        }
        for (at, link) in model.relationships.iter().enumerate() {
            let parts =
                [(link.name.as_str(), 3.0), (&link.from, 1.0), (&link.to, 1.0), (&link.description, 1.0)];
            self.add(number, Kind::Relationship, at, 0, &parts, NO_SYNONYMS);
        }
        for (at, query) in model.verified_queries.iter().enumerate() {
            let parts = [(query.question.as_str(), 2.0), (&query.name, 1.0), (&query.description, 0.5)];
            self.add(number, Kind::VerifiedQuery, at, 0, &parts, NO_SYNONYMS);
        }
    }

    fn add(
        &mut self,
        model: usize,
        kind: Kind,
        at: usize,
        inner: usize,
        parts: &[(&str, f32)],
        synonyms: &[impl AsRef<str>],
    ) {
        let mut parts = parts.to_vec();
        parts.extend(synonyms.iter().map(|synonym| (synonym.as_ref(), 2.0)));
        self.index.add(&parts);
        self.places.push(Place { model: model as u32, kind, at: at as u32, inner: inner as u32 });
    }

    fn at(&self, position: usize, score: f32) -> Match<'_> {
        let Place { model, kind, at, inner } = self.places[position];
        let (at, inner) = (at as usize, inner as usize);
        let model = &self.models[model as usize];
        let thing = match kind {
            Kind::Model => Thing::Model,
            Kind::Dataset => Thing::Dataset(&model.datasets[at]),
            Kind::Field => Thing::Field(&model.datasets[at], &model.datasets[at].fields[inner]),
            Kind::Filter => Thing::Filter(&model.datasets[at], &model.datasets[at].filters[inner]),
            Kind::Metric => Thing::Metric(&model.metrics[at]),
            Kind::Relationship => Thing::Relationship(&model.relationships[at]),
            Kind::VerifiedQuery => Thing::VerifiedQuery(&model.verified_queries[at]),
        };
        Match { model, thing, score }
    }

    /// Everything that shares a word with `query`, best first; ties in the order of the models.
    pub fn search<'f>(&'f self, query: &str) -> impl Iterator<Item = Match<'f>> + use<'f> {
        self.index.search(query).into_iter().map(|hit| self.at(hit.document, hit.score))
    }

    /// Datasets that share a word with `query`, by themselves or through a field, best first.
    pub fn datasets(&self, query: &str) -> Vec<(&Arc<Model>, &Dataset)> {
        let mut best: HashMap<*const Dataset, f32> = HashMap::new();
        let mut found: Vec<(&Arc<Model>, &Dataset)> = Vec::new();
        for hit in self.search(query) {
            let (dataset, score) = match hit.thing {
                Thing::Dataset(dataset) => (dataset, hit.score),
                Thing::Field(dataset, _) => (dataset, hit.score * 0.5),
                _ => continue,
            };
            let known = best.entry(std::ptr::from_ref(dataset)).or_insert_with(|| {
                found.push((hit.model, dataset));
                0.0
            });
            *known = known.max(score);
        }
        let score = |dataset: &Dataset| best.get(&std::ptr::from_ref(dataset)).copied().unwrap_or_default();
        found.sort_by(|a, b| score(b.1).total_cmp(&score(a.1)));
        found
    }
}
