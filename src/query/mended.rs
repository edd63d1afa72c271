//! What DataFusion 54 plans wrongly, put right before it runs. Each with the issue by which it is known there; an upgrade
//! that has its mending needs it here no more.
//! M1 <https://github.com/apache/datafusion/issues/22249>: of a recursive CTE, columns are dropped that the outer query does
//! not read, though the recursion does. It fails, or ends too early.
//! M2 <https://github.com/apache/datafusion/issues/24927>: the limit of `SELECT DISTINCT … ORDER BY … LIMIT` is moved
//! between the two halves of the aggregation, where groups still come several times. Rows are lost.
//! M3 <https://github.com/apache/datafusion/issues/25350>: `SELECT DISTINCT` over a window function fails below a limit,
//! which the guard gives to every query.
//! M4 <https://github.com/apache/datafusion/issues/23027>: `ORDER BY` loses keys that are thought to follow from those before.
//! M5 <https://github.com/apache/datafusion/issues/15734>: `GROUP BY` of constants has a group though there is no row.
//! M6 <https://github.com/apache/datafusion/issues/23626>: `DISTINCT` is left out over what was grouped below an outer join.
//! M7 <https://github.com/apache/datafusion/issues/23440>: groups whose least or greatest value is null are not among the
//! first.
//! M8 <https://github.com/apache/datafusion/issues/23103>: `NOT IN` does not see the nulls of its subquery, which a filter
//! made while the query runs has taken away.
//! M9 <https://github.com/apache/datafusion/issues/22901>: `= ANY`, and IN and EXISTS below OR, may fail while projections
//! are moved. They are planned once more and stay where they are.
//! M10 <https://github.com/apache/datafusion/issues/25336>: `NOT IN` below OR takes nulls for values that are not equal, and
//! fails where its subquery refers to the outer row. Comparisons with ANY and ALL take a column of the outer row for the
//! subquery's, if both have the same name.
//! M11: a condition that names no column moves below an aggregate that has a row though there is none below it.
//! M12: see [`order`].

mod not_in;
mod order;

use std::borrow::Cow;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::limit::LocalLimitExec;

use self::not_in::NotIn;
use self::order::Doubted;

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The engine's rules, with M1, M4 to M6, M10, and M11.
pub(super) fn optimizer_rules() -> Vec<Rule> {
    let mended = |rule: Rule| -> Vec<Rule> {
        match rule.name() {
            "optimize_projections" => vec![Arc::new(WholeRecursion(rule))],
            "eliminate_duplicated_expr" => vec![Arc::new(Except { rule, leaves: sorts })],
            "push_down_filter" => vec![Arc::new(Except { rule, leaves: filters_totals })],
            "eliminate_group_by_constant" => vec![Arc::new(Except { rule, leaves: groups_by_constants })],
            "replace_distinct_aggregate" => vec![Arc::new(AlwaysDistinct), rule],
            _ => vec![rule],
        }
    };
    let not_in: Rule = Arc::new(NotIn);
    std::iter::once(not_in).chain(Optimizer::new().rules.into_iter().flat_map(mended)).collect()
}

/// The engine's rules for what runs, with M12.
pub(super) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let doubted: Arc<dyn PhysicalOptimizerRule + Send + Sync> = Arc::new(Doubted);
    std::iter::once(doubted).chain(PhysicalOptimizer::new().rules).collect()
}

/// M7.
pub(super) fn settings(options: &mut ConfigOptions) {
    options.optimizer.enable_topk_aggregation = false;
}

/// What runs, of an optimised plan.
pub(super) async fn physical(state: &SessionState, logical: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    let is_null_aware =
        logical.exists(|node| Ok(matches!(node, LogicalPlan::Join(join) if join.null_aware)))?;
    let mut state = Cow::Borrowed(state);
    if is_null_aware {
        // M8: without filters that joins make.
        state.to_mut().config_mut().options_mut().optimizer.enable_join_dynamic_filter_pushdown = false;
    }
    // The session's own method would optimise the logical plan once more.
    let planner = state.query_planner().clone();
    match planner.create_physical_plan(logical, &state).await {
        Ok(plan) => mended(plan),
        Err(DataFusionError::Context(rule, _)) if rule == PUSHDOWN => {
            // M9
            let rules =
                state.physical_optimizers().iter().filter(|rule| rule.name() != PUSHDOWN).cloned().collect();
            let plain = SessionStateBuilder::new_from_existing(state.into_owned());
            let plain = plain.with_physical_optimizer_rules(rules).build();
            mended(planner.create_physical_plan(logical, &plain).await?)
        }
        Err(error) => Err(error),
    }
}

/// The rule of the physical optimiser that fails on mark joins.
const PUSHDOWN: &str = "ProjectionPushdown";

/// A rule that leaves some nodes as they are.
struct Except {
    rule: Rule,
    leaves: fn(&LogicalPlan) -> bool,
}

/// M4.
fn sorts(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Sort(_))
}

/// M5: nothing would be left to group by.
fn groups_by_constants(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.iter().any(Expr::any_column_refs))
}

/// M11: conditions on the columns of such an aggregate stay above it anyway.
fn filters_totals(mut node: &LogicalPlan) -> bool {
    let mut names_no_column = false;
    // Filters above each other are moved as one.
    while let LogicalPlan::Filter(filter) = node {
        names_no_column |=
            split_conjunction(&filter.predicate).into_iter().any(|part| !part.any_column_refs());
        node = &filter.input;
    }
    let LogicalPlan::Aggregate(aggregate) = node else { return false };
    names_no_column && matches!(aggregate.group_expr.as_slice(), [] | [Expr::GroupingSet(_)])
}

impl Debug for Except {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        self.rule.fmt(formatter)
    }
}

impl OptimizerRule for Except {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match (self.leaves)(&plan) {
            true => Ok(Transformed::no(plan)),
            false => self.rule.rewrite(plan, config),
        }
    }
}

/// M6.
#[derive(Debug)]
struct AlwaysDistinct;

impl OptimizerRule for AlwaysDistinct {
    fn name(&self) -> &str {
        "always_distinct"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Distinct(Distinct::All(input)) if !input.schema().fields().is_empty() => {
                let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
                let grouped = Aggregate::try_new(input, columns, Vec::new())?;
                Ok(Transformed::yes(LogicalPlan::Aggregate(grouped)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// Drops columns within the two terms of a recursive query as it does elsewhere, and none between it and what reads it.
#[derive(Debug)]
struct WholeRecursion(Rule);

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
fn mended(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
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
