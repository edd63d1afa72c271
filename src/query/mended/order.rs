//! M12: a sort is left out, or a group given early, because an operator says more of its rows than is true. Of a union,
//! that a column is constant which has one value in each branch (<https://github.com/apache/datafusion/pull/23528>); of an
//! outer join and of grouping sets, that what was constant below still is; of a join, that it keeps the order of both sides
//! (<https://github.com/apache/datafusion/issues/25052>); and grouping sets make use of an order that their nulls break
//! (<https://github.com/apache/datafusion/pull/24422>), and count no row where there is one of totals. Such operators say
//! nothing any more.

use std::fmt::Formatter;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Statistics};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::equivalence::AcrossPartitions;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};

use crate::query::only;

/// To come before the rules that make use of an order.
#[derive(Debug)]
pub(in crate::query) struct Doubted;

impl PhysicalOptimizerRule for Doubted {
    fn name(&self) -> &str {
        "doubted_order"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(doubted).data()
    }
}

fn doubted(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let mut node = Transformed::no(node);
    if node.data.downcast_ref::<AggregateExec>().is_some_and(|group| group.group_expr().has_grouping_set()) {
        let inputs: Vec<_> = node.data.children().into_iter().cloned().collect();
        if inputs.iter().any(says_anything) {
            let inputs =
                inputs.into_iter().map(|input| -> Arc<dyn ExecutionPlan> { Arc::new(Unsaid::of(input)) });
            node = Transformed::yes(node.data.with_new_children(inputs.collect())?);
        }
    }
    Ok(match says_too_much(&node.data) {
        true => Transformed::yes(Arc::new(Unsaid::of(node.data))),
        false => node,
    })
}

fn says_anything(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.output_ordering().is_some() || !node.equivalence_properties().constants().is_empty()
}

fn says_too_much(node: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(group) = node.downcast_ref::<AggregateExec>() {
        return group.group_expr().has_grouping_set();
    }
    if node.is::<UnionExec>() {
        let constants = node.equivalence_properties().constants();
        return constants.iter().any(|known| known.across_partitions == AcrossPartitions::Heterogeneous);
    }
    let fills_with_nulls = |kind| matches!(kind, JoinType::Left | JoinType::Right | JoinType::Full);
    // What is constant may be found later than this rule comes.
    join_type(node).is_some_and(|kind| {
        fills_with_nulls(kind) || node.children().into_iter().any(|input| input.output_ordering().is_some())
    })
}

/// Of the joins that the planner makes; others come with rules after this one.
fn join_type(node: &Arc<dyn ExecutionPlan>) -> Option<JoinType> {
    let hash = node.downcast_ref::<HashJoinExec>().map(|join| *join.join_type());
    let nested = || node.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type());
    let merge = || node.downcast_ref::<SortMergeJoinExec>().map(|join| join.join_type());
    let cross = || node.is::<CrossJoinExec>().then_some(JoinType::Inner);
    hash.or_else(nested).or_else(merge).or_else(cross)
}

/// The rows of an operator, of which no order and no constant is known, and of grouping sets not the number.
#[derive(Debug, Clone)]
struct Unsaid {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Unsaid {
    fn of(input: Arc<dyn ExecutionPlan>) -> Self {
        let known = EquivalenceProperties::new(input.schema());
        let properties = PlanProperties::clone(input.properties()).with_eq_properties(known);
        Self { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for Unsaid {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl ExecutionPlan for Unsaid {
    fn name(&self) -> &str {
        "Unsaid"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// It does, but a sort that moved below would be believed to give what it does not.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::of(only(children)?)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        match self.input.is::<AggregateExec>() {
            true => Ok(Arc::new(Statistics::new_unknown(&self.input.schema()))),
            false => self.input.partition_statistics(partition),
        }
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExec,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let swapped = self.input.try_swapping_with_projection(projection)?;
        Ok(swapped.map(|input| Arc::new(Self::of(input)) as Arc<dyn ExecutionPlan>))
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(parent_filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }
}
