//! Question → the part of the catalog that an agent needs to write SQL, within a token budget.
//!
//! A [`Linker`] is prepared once from the models that somebody of one clearance may see: nothing else is in its word
//! counts, values, vectors or joins. Vectors come from outside, when they are there; until then words rank.
//! K1 the join path between any two chosen datasets of a model is part of the answer.  K2 the answer never exceeds its
//! budget, but that the best dataset stays, in its shortest form.  K3 same catalog, vectors and question: same answer.
//! K4 what is not in the models that a linker was prepared from has no influence on its answers.

mod answer;
mod corpus;
mod joins;
mod literals;
mod rank;
mod text;
mod words;

use std::sync::{Arc, OnceLock};

use super::model::{Dataset, Field, Metric, Model, VerifiedQuery};
use joins::JoinGraph;
use literals::{LiteralIndex, Place};
pub use rank::ScoreParts;
use words::{QuestionWords, WordIndex};

/// What a linked item is, in the order of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkedKind {
    Dataset,
    Field,
    Metric,
    Relationship,
    VerifiedQuery,
    /// A literal of the question that is a value of a field.
    Value,
    Instructions,
}

impl LinkedKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Field => "field",
            Self::Metric => "metric",
            Self::Relationship => "relationship",
            Self::VerifiedQuery => "verified_query",
            Self::Value => "value",
            Self::Instructions => "instructions",
        }
    }
}

/// One thing worth knowing for the question.
#[derive(Debug, Clone)]
pub struct LinkedItem {
    pub kind: LinkedKind,
    pub model: String,
    /// `dataset`, `dataset.field`, or the metric's, relationship's or query's own name.
    pub name: String,
    /// Comparable among items of one kind.
    pub score: f32,
    /// What the score is made of; nothing for joins and instructions, which come with their datasets.
    pub parts: ScoreParts,
    /// Why it is here, in words.
    pub reasons: Vec<String>,
    /// The lines that the prompt gets.
    pub text: String,
    /// Tokens of `text`, as the request's counter has them.
    pub tokens: usize,
    pub value: Option<ValueMatch>,
    pub join: Option<Join>,
}

/// A literal of the question and the value that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueMatch {
    pub field: String,
    pub value: String,
    /// As the question writes it.
    pub literal: String,
}

/// How two datasets of a model join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    pub from: String,
    pub to: String,
    /// Equations, to be joined by AND.
    pub on: Vec<String>,
}

/// What linking found.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// By kind, in the order of [`LinkedKind`], and best first within each.
    pub items: Vec<LinkedItem>,
    /// All items as text for a prompt: model by model, the best one first.
    pub prompt: String,
    /// Tokens of `prompt`.
    pub tokens: usize,
    /// Items that would have been worth knowing, but for the budget.
    pub left_out: usize,
    /// Whether meaning took part in the ranking, or words alone.
    pub by_meaning: bool,
}

/// What to link, and how much of it.
pub struct LinkRequest<'r> {
    pub question: &'r str,
    /// The question's vector, of the model whose vectors the linker has; `None`: words alone.
    pub vector: Option<&'r [f32]>,
    pub budget_tokens: usize,
    /// Counts tokens. Of texts put together with line breaks, it must not count more than one a text besides the sum.
    pub count: &'r dyn Fn(&str) -> usize,
}

/// Estimates tokens from above for English and SQL, where one holds more than three characters on average: for callers
/// without a tokenizer.
pub fn estimate_tokens(text: &str) -> usize {
    text.chars().count().div_ceil(3)
}

/// What is known of a verified query before any question.
#[derive(Debug)]
struct PreparedQuery {
    /// Sorted stems of its question.
    words: Vec<String>,
    /// Datasets that it reads, by their position in the linker.
    datasets: Vec<u32>,
}

#[derive(Debug)]
struct Vectors {
    dim: usize,
    rows: Vec<f32>,
}

/// The models of one clearance, prepared for questions; immutable but for the vectors, which come once.
#[derive(Debug)]
pub struct Linker {
    models: Vec<Arc<Model>>,
    graphs: Vec<JoinGraph>,
    /// Of every dataset, model by model: the model's position and its own in the model.
    datasets: Vec<(u32, u32)>,
    /// Of every model, where its datasets start in `datasets`.
    first_dataset: Vec<usize>,
    /// Of every dataset, the stems of its name and of each synonym.
    names: Vec<Vec<Vec<String>>>,
    /// Of every dataset, where its fields start in `field_words`.
    first_field: Vec<usize>,
    /// Of every metric: model, position in the model, and the datasets that it is over.
    metrics: Vec<(u32, u32, Vec<u32>)>,
    query_places: Vec<(u32, u32)>,
    queries: Vec<PreparedQuery>,
    dataset_words: WordIndex,
    field_words: WordIndex,
    metric_words: WordIndex,
    query_words: WordIndex,
    literals: LiteralIndex,
    vectors: OnceLock<Vectors>,
}

fn words_of(text: &str) -> Vec<String> {
    super::search::words(text)
}

fn narrow(position: usize) -> u32 {
    u32::try_from(position).expect("a catalog has fewer than 2^32 things")
}

impl Linker {
    /// Prepares models, which must be reduced to a clearance already. Takes about 30 µs a dataset of ten fields.
    pub fn new(models: Vec<Arc<Model>>) -> Self {
        let mut linker = Self {
            graphs: models.iter().map(|model| JoinGraph::new(model)).collect(),
            datasets: Vec::new(),
            first_dataset: Vec::new(),
            names: Vec::new(),
            first_field: Vec::new(),
            metrics: Vec::new(),
            query_places: Vec::new(),
            queries: Vec::new(),
            dataset_words: WordIndex::default(),
            field_words: WordIndex::default(),
            metric_words: WordIndex::default(),
            query_words: WordIndex::default(),
            literals: LiteralIndex::default(),
            vectors: OnceLock::new(),
            models,
        };
        let models = linker.models.clone();
        for (at, model) in models.iter().enumerate() {
            linker.add(narrow(at), model);
        }
        linker.literals = LiteralIndex::new(&models, &linker.datasets);
        linker
    }

    fn add(&mut self, at: u32, model: &Model) {
        let first = self.datasets.len();
        self.first_dataset.push(first);
        // A metric is found with the datasets that it is over, and by itself.
        let mut of_dataset: Vec<Vec<&Metric>> = vec![Vec::new(); model.datasets.len()];
        for (position, metric) in model.metrics.iter().enumerate() {
            let over = corpus::metric_datasets(model, metric);
            over.iter().for_each(|dataset| of_dataset[*dataset].push(metric));
            let over = over.into_iter().map(|dataset| narrow(first + dataset)).collect();
            self.metrics.push((at, narrow(position), over));
            self.metric_words.add(corpus::metric_words(metric));
        }
        for ((position, dataset), metrics) in model.datasets.iter().enumerate().zip(of_dataset) {
            self.datasets.push((at, narrow(position)));
            let names = std::iter::once(&dataset.name).chain(&dataset.synonyms);
            self.names.push(names.map(|name| words_of(name)).collect());
            let metrics = metrics.into_iter().flat_map(corpus::metric_words);
            self.dataset_words.add(corpus::dataset_words(model, dataset).into_iter().chain(metrics));
            self.first_field.push(self.field_words.len());
            for field in &dataset.fields {
                self.field_words.add(corpus::field_words(field));
            }
        }
        for (position, query) in model.verified_queries.iter().enumerate() {
            self.query_places.push((at, narrow(position)));
            self.query_words.add(corpus::query_words(query));
            let asked = QuestionWords::new(&query.question);
            let mut words: Vec<String> = asked.words.into_iter().map(|(word, _)| word).collect();
            words.sort();
            let datasets = corpus::query_datasets(model, query);
            let datasets = datasets.into_iter().map(|dataset| narrow(first + dataset)).collect();
            self.queries.push(PreparedQuery { words, datasets });
        }
    }

    /// The texts whose vectors [`Linker::set_vectors`] takes, in its order: one a dataset, metric and verified query.
    pub fn texts(&self) -> Vec<String> {
        let datasets = (0..self.datasets.len()).map(|at| {
            let (model, dataset) = self.dataset(at);
            corpus::dataset_text(model, dataset)
        });
        let metrics = (0..self.metrics.len()).map(|at| corpus::metric_text(self.metric(at).1));
        let queries = (0..self.queries.len()).map(|at| corpus::query_text(self.query(at).1));
        datasets.chain(metrics).chain(queries).collect()
    }

    /// Gives the linker its vectors: L2-normalised rows of one length, a row for each of [`Linker::texts`]. From then
    /// on meaning takes part. False, and nothing changes, if the rows don't fit or there are vectors already.
    pub fn set_vectors(&self, rows: &[&[f32]]) -> bool {
        let dim = rows.first().map_or(0, |row| row.len());
        let expected = self.datasets.len() + self.metrics.len() + self.queries.len();
        if dim == 0 || rows.len() != expected || rows.iter().any(|row| row.len() != dim) {
            return false;
        }
        self.vectors.set(Vectors { dim, rows: rows.concat() }).is_ok()
    }

    pub fn has_vectors(&self) -> bool {
        self.vectors.get().is_some()
    }

    /// Cosine of each text with the question, in the order of [`Linker::texts`]; `None` without fitting vectors.
    fn cosines(&self, question: &[f32]) -> Option<Vec<f32>> {
        let vectors = self.vectors.get().filter(|vectors| vectors.dim == question.len())?;
        Some(vectors.rows.chunks_exact(vectors.dim).map(|row| dot(row, question)).collect())
    }

    /// The ranked context for a question.
    pub fn link(&self, request: &LinkRequest<'_>) -> Link {
        let words = QuestionWords::new(request.question);
        let literals = self.literals.find(request.question, |place| self.field_at(place));
        let ranking = self.rank(&words, &literals, request.vector);
        answer::assemble(self, request, &words, &literals, &ranking)
    }

    /// Every dataset with the parts of its score, in the order of the catalog: the ranking before anything is chosen.
    pub fn rank_datasets(&self, question: &str, vector: Option<&[f32]>) -> Vec<(&str, &str, ScoreParts)> {
        let literals = self.literals.find(question, |place| self.field_at(place));
        let ranking = self.rank(&QuestionWords::new(question), &literals, vector);
        let named = |(at, parts): (usize, ScoreParts)| {
            let (model, dataset) = self.dataset(at);
            (model.name.as_str(), dataset.name.as_str(), parts)
        };
        ranking.datasets.into_iter().enumerate().map(named).collect()
    }

    /// The models of this linker.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    fn dataset(&self, at: usize) -> (&Model, &Dataset) {
        let (model, position) = self.datasets[at];
        let model = &self.models[model as usize];
        (model, &model.datasets[position as usize])
    }

    fn metric(&self, at: usize) -> (&Model, &Metric) {
        let (model, position, _) = &self.metrics[at];
        let model = &self.models[*model as usize];
        (model, &model.metrics[*position as usize])
    }

    fn query(&self, at: usize) -> (&Model, &VerifiedQuery) {
        let (model, position) = self.query_places[at];
        let model = &self.models[model as usize];
        (model, &model.verified_queries[position as usize])
    }

    fn field_at(&self, place: Place) -> Option<&Field> {
        self.dataset(place.dataset as usize).1.fields.get(place.field as usize)
    }
}

/// In lanes, so that the compiler may use vector instructions: floating-point sums are not reordered by themselves.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (left_lanes, right_lanes) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest: f32 =
        left_lanes.remainder().iter().zip(right_lanes.remainder()).map(|(left, right)| left * right).sum();
    for (left, right) in left_lanes.zip(right_lanes) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests;
