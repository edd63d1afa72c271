//! What DataFusion 54 plans wrongly, put right before it runs. Each with the issue by which it is known there; an upgrade
//! that has its mending needs it here no more.
//! M1 <https://github.com/apache/datafusion/issues/22249>: of a recursive CTE, columns are dropped that the outer query does
//! not read, though the recursion does. It fails, or ends too early.
//! M2 <https://github.com/apache/datafusion/issues/24927>: the limit of `SELECT DISTINCT … ORDER BY … LIMIT` is moved
//! between the two halves of the aggregation, where groups still come several times. Rows are lost.
//! M3 <https://github.com/apache/datafusion/issues/25350>: `SELECT DISTINCT` over a window function fails below a limit,
//! which the guard gives to every query.

use std::fmt::Formatter;
use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::limit::LocalLimitExec;

/// The engine's rules, with M1.
pub(super) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let whole = WholeRecursion(OptimizeProjections::new());
    let name = whole.0.name().to_owned();
    let mut rules = Optimizer::new().rules;
    let whole: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(whole);
    for rule in rules.iter_mut().filter(|rule| rule.name() == name) {
        *rule = whole.clone();
    }
    rules
}

/// Drops columns within the two terms of a recursive query as it does elsewhere, and none between it and what reads it.
#[derive(Debug)]
struct WholeRecursion(OptimizeProjections);

impl OptimizerRule for WholeRecursion {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let mut is_recursive = false;
        plan.apply_with_subqueries(|node| {
            is_recursive |= matches!(node, LogicalPlan::RecursiveQuery(_));
            Ok(if is_recursive { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !is_recursive {
            return self.0.rewrite(plan, config);
        }
        let mut has_changed = false;
        let hidden = plan.transform_down_with_subqueries(|node| {
            let LogicalPlan::RecursiveQuery(mut query) = node else { return Ok(Transformed::no(node)) };
            for term in [&mut query.static_term, &mut query.recursive_term] {
                let rewritten = self.rewrite(LogicalPlan::clone(term), config)?;
                has_changed |= rewritten.transformed;
                *term = Arc::new(rewritten.data);
            }
            let node = Arc::new(Hidden(LogicalPlan::RecursiveQuery(query)));
            let node = LogicalPlan::Extension(Extension { node });
            Ok(Transformed::new(node, true, TreeNodeRecursion::Jump))
        })?;
        let rewritten = self.0.rewrite(hidden.data, config)?;
        has_changed |= rewritten.transformed;
        let shown = rewritten.data.transform_down_with_subqueries(|node| {
            let hidden = match &node {
                LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<Hidden>(),
                _ => None,
            };
            match hidden {
                Some(Hidden(query)) => Ok(Transformed::new(query.clone(), true, TreeNodeRecursion::Jump)),
                None => Ok(Transformed::no(node)),
            }
        })?;
        Ok(Transformed::new(shown.data, has_changed, TreeNodeRecursion::Continue))
    }
}

/// A recursive query as a leaf: of which nothing is known but its columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
struct Hidden(LogicalPlan);

impl UserDefinedLogicalNodeCore for Hidden {
    fn name(&self) -> &str {
        "Hidden"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        self.0.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}

/// M2 and M3, after the engine's optimiser.
pub(super) fn mended(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        let Some(aggregate) = node.downcast_ref::<AggregateExec>() else { return Ok(Transformed::no(node)) };
        let limit = aggregate.limit_options();
        let has_no_direction = limit.is_some_and(|limit| limit.descending.is_none())
            && aggregate.get_minmax_desc().is_none()
            && !aggregate.is_unordered_unfiltered_group_by_distinct();
        if has_no_direction {
            return Ok(Transformed::yes(Arc::new(aggregate.with_new_limit_options(None))));
        }
        let is_final = matches!(aggregate.mode(), AggregateMode::Final | AggregateMode::FinalPartitioned);
        match is_final.then(|| without_fetch(aggregate.input())).transpose()?.flatten() {
            Some((input, Some(fetch))) => {
                let whole = node.with_new_children(vec![input])?;
                Ok(Transformed::yes(Arc::new(LocalLimitExec::new(whole, fetch))))
            }
            _ => Ok(Transformed::no(node)),
        }
    })?;
    Ok(plan.data)
}

/// What feeds the second half of an aggregation, without the limits that stand between it and the first half, and the
/// least of them. Nothing where no first half is found.
fn without_fetch(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<(Arc<dyn ExecutionPlan>, Option<usize>)>> {
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        return Ok((*aggregate.mode() == AggregateMode::Partial).then(|| (plan.clone(), None)));
    }
    let children = plan.children();
    let [child] = children.as_slice() else { return Ok(None) };
    let Some((child, below)) = without_fetch(child)? else { return Ok(None) };
    let own = plan.fetch().and_then(|fetch| Some((plan.with_fetch(None)?, fetch)));
    let (plan, least) = match own {
        Some((plan, fetch)) => (plan, Some(below.map_or(fetch, |below| below.min(fetch)))),
        None => (plan.clone(), below),
    };
    match least {
        Some(_) => Ok(Some((plan.with_new_children(vec![child])?, least))),
        None => Ok(Some((plan, None))),
    }
}
