//! One model prepared for compiling: names to look up, relationships as a graph, paths as they were found.
//!
//! Built once for a loaded model. G1 a look-up costs the same at any size of the model. G2 a path is searched for once.
//! G3 of two ways to join the same datasets none is chosen in silence.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, OnceLock};

use datafusion::sql::sqlparser::ast::Expr;

use super::error::{CompileCode, CompileError, Result};
use crate::semantic::model::{Dataset, DatasetRole, Metric, MetricKind, Model, Relationship};
use crate::semantic::{did_you_mean, parse_expression};

/// A relationship between two datasets of the model, by their positions.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub relationship: usize,
    pub from: usize,
    pub to: usize,
    /// One row at most for each combination of the join columns.
    from_unique: bool,
    to_unique: bool,
}

/// One hop over an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Step {
    pub edge: usize,
    /// From `from` to `to`.
    pub forward: bool,
    /// At most one row is met, so that nothing is repeated.
    pub single: bool,
}

pub(super) type Path = Vec<Step>;

/// Longest path that is looked for.
const MAX_HOPS: usize = 10;
/// Hops that may repeat rows on one path: to a bridge and from there to another.
const MAX_FANS: usize = 2;
/// Paths between two datasets that are kept: more than one is ambiguous anyway.
const MAX_PATHS: usize = 8;
/// Hops that one search may try.
const MAX_VISITS: usize = 50_000;
/// Datasets that one expression or query may name.
const MAX_DATASETS: usize = 40;
/// Pairs whose paths are kept at once.
const MAX_KNOWN_PATHS: usize = 50_000;

#[derive(Debug)]
pub(super) struct Prepared {
    pub model: Arc<Model>,
    datasets: HashMap<String, usize>,
    /// The hash of every field's name with its dataset and its place there, sorted: there may be very many fields.
    fields: Box<[(u32, u32, u32)]>,
    hasher: RandomState,
    metrics: HashMap<String, usize>,
    relationships: HashMap<String, usize>,
    pub edges: Vec<Edge>,
    hops: Vec<Vec<Step>>,
    /// A key of each dataset: the primary one, else the shortest unique one.
    keys: Vec<Option<Vec<String>>>,
    paths: Mutex<HashMap<(usize, usize), Arc<Vec<Path>>>>,
    metric_exprs: Vec<OnceLock<Result<Expr, String>>>,
    kinds: Vec<OnceLock<MetricKind>>,
}

fn folded(name: &str) -> String {
    name.to_lowercase()
}

impl Prepared {
    pub fn new(model: Arc<Model>) -> Self {
        let mut datasets = HashMap::with_capacity(model.datasets.len());
        let hasher = RandomState::new();
        let mut fields = Vec::with_capacity(model.datasets.iter().map(|dataset| dataset.fields.len()).sum());
        for (at, dataset) in model.datasets.iter().enumerate() {
            datasets.insert(folded(&dataset.name), at);
            for (position, field) in dataset.fields.iter().enumerate() {
                fields.push((hasher.hash_one(folded(&field.name)) as u32, at as u32, position as u32));
            }
        }
        fields.sort_unstable();
        let metrics =
            model.metrics.iter().enumerate().map(|(at, metric)| (folded(&metric.name), at)).collect();
        let mut relationships = HashMap::new();
        let mut edges = Vec::new();
        let mut hops = vec![Vec::new(); model.datasets.len()];
        for (at, link) in model.relationships.iter().enumerate() {
            relationships.insert(folded(&link.name), at);
            let ends = (datasets.get(&folded(&link.from)), datasets.get(&folded(&link.to)));
            let (Some(&from), Some(&to)) = ends else { continue };
            let edge = Edge {
                relationship: at,
                from,
                to,
                from_unique: is_one_side(link, &model.datasets[from], &link.from_columns, "one_to_one"),
                to_unique: is_one_side(link, &model.datasets[to], &link.to_columns, "many_to_one"),
            };
            let position = edges.len();
            if from != to {
                hops[from].push(Step { edge: position, forward: true, single: edge.to_unique });
                hops[to].push(Step { edge: position, forward: false, single: edge.from_unique });
            }
            edges.push(edge);
        }
        let keys = model.datasets.iter().map(key_of).collect();
        let metric_exprs = model.metrics.iter().map(|_| OnceLock::new()).collect();
        let kinds = model.metrics.iter().map(|_| OnceLock::new()).collect();
        Self {
            datasets,
            fields: fields.into(),
            hasher,
            metrics,
            relationships,
            edges,
            hops,
            keys,
            paths: Mutex::default(),
            metric_exprs,
            kinds,
            model,
        }
    }

    pub fn dataset(&self, at: usize) -> &Dataset {
        &self.model.datasets[at]
    }

    pub fn name(&self, at: usize) -> &str {
        &self.model.datasets[at].name
    }

    pub fn relationship(&self, edge: usize) -> &Relationship {
        &self.model.relationships[self.edges[edge].relationship]
    }

    pub fn key(&self, at: usize) -> Option<&[String]> {
        self.keys[at].as_deref()
    }

    pub fn find_dataset(&self, name: &str) -> Option<usize> {
        self.datasets.get(&folded(name)).copied()
    }

    pub fn find_field(&self, dataset: usize, name: &str) -> Option<usize> {
        // A model of thousands of datasets may have an `id` in each of them: only this one's are looked at.
        let owner = dataset as u32;
        self.fields_called(name, owner..=owner).last().map(|(_, field)| field)
    }

    /// Datasets that have a field of this name.
    pub fn owners(&self, field: &str) -> Vec<usize> {
        self.fields_called(field, 0..=u32::MAX).map(|(dataset, _)| dataset).collect()
    }

    /// The fields of a name in a range of datasets, each with its dataset.
    fn fields_called(
        &self,
        name: &str,
        datasets: RangeInclusive<u32>,
    ) -> impl Iterator<Item = (usize, usize)> {
        let name = folded(name);
        let hash = self.hasher.hash_one(&name) as u32;
        let (first, last) = ((hash, *datasets.start()), (hash, *datasets.end()));
        let start = self.fields.partition_point(|entry| (entry.0, entry.1) < first);
        let found = self.fields[start..].iter().take_while(move |entry| (entry.0, entry.1) <= last);
        found
            .map(|(_, dataset, field)| (*dataset as usize, *field as usize))
            .filter(move |(dataset, field)| folded(&self.dataset(*dataset).fields[*field].name) == name)
    }

    pub fn find_metric(&self, name: &str) -> Option<usize> {
        self.metrics.get(&folded(name)).copied()
    }

    pub fn metric(&self, at: usize) -> &Metric {
        &self.model.metrics[at]
    }

    /// The metric's type, found out once.
    pub fn kind(&self, at: usize) -> MetricKind {
        *self.kinds[at].get_or_init(|| self.metric(at).kind(&self.model))
    }

    /// The metric's expression in the embedded engine's dialect, parsed once.
    pub fn metric_expr(&self, at: usize) -> Result<Expr> {
        let metric = self.metric(at);
        let parsed = self.metric_exprs[at].get_or_init(|| parse_expression(metric.expression.text()));
        parsed.clone().map_err(|error| {
            let message = format!("the expression of metric `{}` does not parse: {error}", metric.name);
            CompileError::new(CompileCode::Syntax, message)
        })
    }

    /// The edge of a named relationship.
    pub fn find_relationship(&self, name: &str) -> Result<usize> {
        let found = self.relationships.get(&folded(name)).copied();
        let edge = found.and_then(|at| self.edges.iter().position(|edge| edge.relationship == at));
        edge.ok_or_else(|| {
            let help = did_you_mean(name, self.model.relationships.iter().map(|link| link.name.as_str()));
            CompileError::new(
                CompileCode::NameNotFound,
                format!("there is no relationship `{name}`; {}", or_list(help, "list the relationships")),
            )
        })
    }

    pub fn no_such_dataset(&self, name: &str) -> CompileError {
        let help = did_you_mean(name, self.model.datasets.iter().map(|dataset| dataset.name.as_str()));
        CompileError::new(
            CompileCode::NameNotFound,
            format!("there is no dataset `{name}`; {}", or_list(help, "list the datasets")),
        )
    }

    pub fn no_such_field(&self, dataset: usize, name: &str) -> CompileError {
        let dataset = self.dataset(dataset);
        let help = did_you_mean(name, dataset.fields.iter().map(|field| field.name.as_str()));
        CompileError::new(
            CompileCode::NameNotFound,
            format!(
                "there is no field `{}.{name}`; {}",
                dataset.name,
                or_list(help, "look at the dataset's fields")
            ),
        )
    }

    pub fn no_such_metric(&self, name: &str) -> CompileError {
        let help = did_you_mean(name, self.model.metrics.iter().map(|metric| metric.name.as_str()));
        CompileError::new(
            CompileCode::NameNotFound,
            format!(
                "there is no metric `{name}` in the global names of the model; {}",
                or_list(help, "list the metrics")
            ),
        )
    }

    /// All paths from `from` to `to` with the fewest hops that may repeat rows; none if they are not connected.
    pub fn paths(&self, from: usize, to: usize) -> Result<Arc<Vec<Path>>> {
        let poisoned = || {
            CompileError::new(CompileCode::InvalidModel, "the join paths cannot be read; reload the models")
        };
        if let Some(known) = self.paths.lock().map_err(|_| poisoned())?.get(&(from, to)) {
            return Ok(known.clone());
        }
        let mut found = Vec::new();
        for fans in 0..=MAX_FANS {
            let mut search = Search {
                graph: self,
                to,
                fans,
                path: Vec::new(),
                on: BTreeSet::from([from]),
                visits: 0,
                found,
            };
            search.walk(from);
            found = search.found;
            if !found.is_empty() {
                break;
            }
        }
        found.sort();
        let found = Arc::new(found);
        let mut known = self.paths.lock().map_err(|_| poisoned())?;
        if known.len() >= MAX_KNOWN_PATHS {
            known.clear();
        }
        known.insert((from, to), found.clone());
        Ok(found)
    }

    /// True if every row of `from` meets at most one row of `to`.
    pub fn reaches_singly(&self, from: usize, to: usize) -> Result<bool> {
        Ok(from == to || self.paths(from, to)?.iter().any(|path| path.iter().all(|step| step.single)))
    }

    /// The one path to go by. `hints`: groups of relationships named for this, the most specific group first.
    pub fn choose(&self, from: usize, to: usize, hints: &[&[usize]]) -> Result<Path> {
        let reflexive = |edge: &usize| self.edges[*edge].from == from && self.edges[*edge].to == from;
        if from == to {
            // A dataset that joins itself is reached only by name: an employee's manager.
            let by = hints.first().and_then(|group| group.iter().copied().find(reflexive));
            let step = |edge: usize| Step { edge, forward: true, single: self.edges[edge].to_unique };
            return Ok(by.map(|edge| vec![step(edge)]).unwrap_or_default());
        }
        let all = self.paths(from, to)?;
        let uses =
            |path: &Path, group: &[usize]| path.iter().filter(|step| group.contains(&step.edge)).count();
        let mut left: Vec<&Path> = all.iter().collect();
        for group in hints {
            if left.len() <= 1 {
                break;
            }
            let most = left.iter().map(|path| uses(path, group)).max().unwrap_or(0);
            if most > 0 {
                left.retain(|path| uses(path, group) == most);
            }
        }
        match left.as_slice() {
            [path] => Ok((*path).clone()),
            [] => Err(self.no_path(from, to)),
            several => Err(self.ambiguous(from, to, several)),
        }
    }

    fn no_path(&self, from: usize, to: usize) -> CompileError {
        let (from, to) = (self.name(from), self.name(to));
        CompileError::new(
            CompileCode::NoPath,
            format!(
                "no path: no relationship connects `{from}` and `{to}`; declare a relationship between them, or a bridge dataset with one to each if they are many to many (there is no safe rewrite without, E3012_MN_NO_SAFE_REWRITE)"
            ),
        )
    }

    fn ambiguous(&self, from: usize, to: usize, paths: &[&Path]) -> CompileError {
        let ways: Vec<String> = paths
            .iter()
            .map(|path| {
                path.iter()
                    .map(|step| self.relationship(step.edge).name.as_str())
                    .collect::<Vec<_>>()
                    .join(" → ")
            })
            .collect();
        CompileError::new(
            CompileCode::AmbiguousPath,
            format!(
                "`{}` joins `{}` in more than one way: {}; name the relationship to use in `joins`",
                self.name(from),
                self.name(to),
                ways.join(", or ")
            ),
        )
    }

    /// The dataset among `candidates` whose rows meet at most one row of every other; `None` if there is none.
    pub fn finest(&self, candidates: &BTreeSet<usize>) -> Result<Option<usize>> {
        if candidates.len() > MAX_DATASETS {
            let message = format!(
                "the query is about {} datasets at once, more than {MAX_DATASETS}; ask for less",
                candidates.len()
            );
            return Err(CompileError::invalid(message));
        }
        for home in candidates {
            let mut all = true;
            for other in candidates {
                all &= self.reaches_singly(*home, *other)?;
            }
            if all {
                return Ok(Some(*home));
            }
        }
        Ok(None)
    }

    /// True if some path of relationships, of any kind, joins the two.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        let mut seen = BTreeSet::from([a]);
        let mut queue = vec![a];
        while let Some(at) = queue.pop() {
            if at == b {
                return true;
            }
            for step in &self.hops[at] {
                let next = self.end(*step);
                if seen.insert(next) {
                    queue.push(next);
                }
            }
        }
        false
    }

    /// Where a hop leads.
    pub fn end(&self, step: Step) -> usize {
        let edge = &self.edges[step.edge];
        if step.forward { edge.to } else { edge.from }
    }
}

struct Search<'g> {
    graph: &'g Prepared,
    to: usize,
    /// Hops that may still repeat rows.
    fans: usize,
    path: Path,
    on: BTreeSet<usize>,
    visits: usize,
    found: Vec<Path>,
}

impl Search<'_> {
    fn walk(&mut self, at: usize) {
        if self.path.len() >= MAX_HOPS {
            return;
        }
        for step in &self.graph.hops[at] {
            self.visits += 1;
            if self.visits > MAX_VISITS || self.found.len() >= MAX_PATHS {
                return;
            }
            if !step.single && self.fans == 0 {
                continue;
            }
            let next = self.graph.end(*step);
            if next == self.to {
                let mut path = self.path.clone();
                path.push(*step);
                self.found.push(path);
                continue;
            }
            // A declared fact is measured, it does not stand for a many-to-many relation between others.
            let through_fact = !step.single && self.graph.dataset(next).role == Some(DatasetRole::Fact);
            if through_fact || !self.on.insert(next) {
                continue;
            }
            self.path.push(*step);
            self.fans -= usize::from(!step.single);
            self.walk(next);
            self.fans += usize::from(!step.single);
            self.path.pop();
            self.on.remove(&next);
        }
    }
}

/// One row at most on this side: a key says so, or the relationship declares it.
fn is_one_side(link: &Relationship, dataset: &Dataset, columns: &[String], declared: &str) -> bool {
    let covers = |key: &Vec<String>| {
        !key.is_empty()
            && key.iter().all(|part| columns.iter().any(|column| column.eq_ignore_ascii_case(part)))
    };
    let by_key = covers(&dataset.primary_key) || dataset.unique_keys.iter().any(covers);
    by_key || link.cardinality == "one_to_one" || link.cardinality == declared
}

fn key_of(dataset: &Dataset) -> Option<Vec<String>> {
    let unique = || dataset.unique_keys.iter().filter(|key| !key.is_empty()).min_by_key(|key| key.len());
    Some(&dataset.primary_key).filter(|key| !key.is_empty()).or_else(unique).cloned()
}

pub(super) fn or_list(help: String, otherwise: &str) -> String {
    if help.is_empty() { otherwise.to_owned() } else { help }
}
