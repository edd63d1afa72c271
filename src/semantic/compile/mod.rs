//! Compile: metric queries to SQL.
//!
//! A metric query names metrics, dimensions, filters and a time axis; the answer is one SELECT in a dialect. Pure: asks
//! no warehouse, knows no caller; what it is given is all that there is. C1 no join repeats what a metric counts: each
//! aggregate is taken of its own dataset before it meets another (`plan`), rows that a join would repeat are taken once a
//! group (`branch`), and what cannot be computed so is refused with the reason and the remedy. C2 no row of a measured
//! dataset is dropped by a join. C3 no text of a caller reaches the SQL but as a parsed expression whose every name was
//! looked up, or as a literal (`dialect`). C4 same models, same request, same SQL.
//!
//! The semantics are those of Ossie's foundational semantics; `ossie` speaks the adapter contract of its compliance suite.

mod branch;
mod dialect;
mod error;
mod expr;
mod graph;
mod join;
mod measure;
pub mod ossie;
mod plan;
mod request;
mod resolve;
mod time;

use std::collections::HashMap;
use std::sync::Arc;

pub use dialect::Dialect;
pub(crate) use dialect::{case_when, is_aggregate};
pub use error::{CompileCode, CompileError};
pub use expr::Relations;
pub use request::*;

use crate::semantic::Model;
use expr::Names;
use graph::Prepared;
use plan::Writer;

/// Models prepared for compiling: names by hash, relationships as a graph. Made once a load.
#[derive(Debug, Default)]
pub struct Compiler {
    models: Vec<Prepared>,
    by_name: HashMap<String, usize>,
}

impl Compiler {
    pub fn new(models: &[Arc<Model>]) -> Self {
        let by_name = models.iter().enumerate().map(|(at, model)| (model.name.to_lowercase(), at)).collect();
        Self { models: models.iter().map(|model| Prepared::new(model.clone())).collect(), by_name }
    }

    /// Compiles over the published relations, `model.dataset`, as the guard knows them.
    pub fn compile(&self, request: &CompileRequest) -> Result<Compiled, CompileError> {
        self.compile_over(request, Relations::Published)
    }

    /// Compiles over the relations of choice. Physical ones name sources that only operators should see.
    pub fn compile_over(
        &self,
        request: &CompileRequest,
        relations: Relations,
    ) -> Result<Compiled, CompileError> {
        let graph = self.model_of(request)?;
        let names = Names { graph, relations, dialect: request.dialect, strict: false };
        let resolve::Resolved { plan, columns, mut warnings } = resolve::resolve(names, request)?;
        let (sql, touched) = Writer::new(&plan).aggregation()?;
        for home in &touched.several_groups {
            warnings.push(format!(
                "rows of `{}` meet several rows of what they are grouped or filtered by: each counts once in a group, and may count in several groups",
                graph.name(*home)
            ));
        }
        let model = &graph.model.name;
        let mut datasets: Vec<String> =
            touched.datasets.iter().map(|at| format!("{model}.{}", graph.name(*at))).collect();
        datasets.sort();
        let mut joins: Vec<String> =
            touched.edges.iter().map(|edge| graph.relationship(*edge).name.clone()).collect();
        joins.sort();
        Ok(Compiled { sql, dialect: request.dialect, columns, datasets, joins, warnings })
    }

    /// The model that a request is about.
    fn model_of(&self, request: &CompileRequest) -> Result<&Prepared, CompileError> {
        let known = || self.models.iter().map(|graph| graph.model.name.as_str());
        if let Some(name) = &request.model {
            let at = self.by_name.get(&name.to_lowercase()).ok_or_else(|| {
                let help = graph::or_list(crate::semantic::did_you_mean(name, known()), "list the models");
                let message = format!("there is no model `{}`; {help}", name.escape_debug());
                CompileError::new(CompileCode::NameNotFound, message)
            })?;
            return Ok(&self.models[*at]);
        }
        if let [only] = self.models.as_slice() {
            return Ok(only);
        }
        let prefixed = request.metrics.iter().find_map(|name| {
            let (model, _) = name.split_once('.')?;
            self.by_name.get(&model.to_lowercase())
        });
        if let Some(at) = prefixed {
            return Ok(&self.models[*at]);
        }
        let datasets: Vec<&str> = request
            .dimensions
            .iter()
            .map(|dimension| match dimension {
                DimensionRequest::Name(name) => name.as_str(),
                DimensionRequest::Full(full) => full.name.as_str(),
            })
            .filter_map(|name| name.rsplit_once('.').map(|(dataset, _)| dataset))
            .collect();
        let fits = |graph: &&Prepared| {
            request.metrics.iter().all(|name| graph.find_metric(name).is_some())
                && datasets.iter().all(|name| graph.find_dataset(name).is_some())
        };
        let mut candidates = self.models.iter().filter(fits);
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(CompileError::new(
                CompileCode::AmbiguousName,
                "several models have these names; say which in `model`",
            )),
            (None, _) => Err(CompileError::new(
                CompileCode::NameNotFound,
                "no model has all of these metrics and dimensions; say which in `model`, or list the metrics",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
