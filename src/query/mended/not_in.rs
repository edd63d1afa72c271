//! M10: `x NOT IN (s)` in a condition becomes what is true where it is true, and false where it is false or null, which is
//! the same to a filter. NOT is moved inwards for it. Below AND, without reference to the outer row, the engine's own join
//! knows nulls and is faster.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, plan_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, col, lit,
    scalar_subquery,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

#[derive(Debug)]
pub(super) struct NotIn;

impl OptimizerRule for NotIn {
    fn name(&self) -> &str {
        "not_in"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let filter = match plan {
            LogicalPlan::Filter(filter) if filter.predicate.exists(|expr| Ok(is_subquery(expr)))? => filter,
            other => return Ok(Transformed::no(other)),
        };
        let schema = filter.input.schema();
        let named = filter.predicate.transform_up(|expr| named_apart(expr, schema, config))?;
        let predicate = two_valued(named.data, schema, false)?;
        predicate.data.apply(|expr| {
            if is_captured(expr)? {
                return plan_err!(
                    "a subquery reads two relations of the outer query and has one of the same name; give its own another alias"
                );
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let changed = named.transformed || predicate.transformed;
        let filter = LogicalPlan::Filter(Filter::try_new(predicate.data, filter.input)?);
        Ok(Transformed::new(filter, changed, TreeNodeRecursion::Continue))
    }
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_))
}

/// What is compared with rows of a subquery becomes a condition in it, where a column of the outer row would be taken for
/// one of the subquery that has the same name.
fn named_apart(expr: Expr, schema: &DFSchema, config: &dyn OptimizerConfig) -> Result<Transformed<Expr>> {
    let (Expr::SetComparison(SetComparison { subquery, .. }) | Expr::InSubquery(InSubquery { subquery, .. })) =
        &expr
    else {
        return Ok(Transformed::no(expr));
    };
    let value = Column::from(subquery.subquery.schema().qualified_field(0));
    if !schema.has_column(&value) {
        return Ok(Transformed::no(expr));
    }
    let rows = LogicalPlanBuilder::from(LogicalPlan::clone(&subquery.subquery));
    let rows = Arc::new(rows.alias(config.alias_generator().next("__compared"))?.build()?);
    let renamed = subquery.with_plan(rows);
    Ok(Transformed::yes(match expr {
        Expr::SetComparison(found) => Expr::SetComparison(SetComparison { subquery: renamed, ..found }),
        Expr::InSubquery(found) => Expr::InSubquery(InSubquery { subquery: renamed, ..found }),
        other => other,
    }))
}

/// Whether the engine would take a column of the outer row for one of the subquery: where it refers to two relations of
/// the outer query, of which one has the name of its own.
fn is_captured(expr: &Expr) -> Result<bool> {
    let (compared, subquery) = match expr {
        Expr::SetComparison(SetComparison { expr, subquery, .. }) => (expr.column_refs(), subquery),
        Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::Exists(Exists { subquery, .. })
        | Expr::ScalarSubquery(subquery) => (HashSet::new(), subquery),
        _ => return Ok(false),
    };
    let referred = subquery.outer_ref_columns.iter().filter_map(|reference| match reference {
        Expr::OuterReferenceColumn(_, column) => Some(column),
        _ => None,
    });
    if subquery.outer_ref_columns.is_empty() {
        return Ok(false);
    }
    let outer: Vec<&Column> = compared.into_iter().chain(referred).collect();
    // The engine joins on the conditions that refer to the outer row, and finds the subquery's columns in them by name.
    let is_joined = |node: &LogicalPlan| match node {
        LogicalPlan::Filter(filter) => filter.predicate.contains_outer(),
        LogicalPlan::SubqueryAlias(_) => !node.all_out_ref_exprs().is_empty(),
        _ => false,
    };
    let hides = |node: &LogicalPlan| outer.iter().any(|column| node.schema().has_column(column));
    subquery.subquery.exists(|node| Ok(is_joined(node) && hides(node)))
}

fn two_valued(expr: Expr, schema: &DFSchema, is_below_or: bool) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let is_below_or = is_below_or || op == Operator::Or;
            let left = two_valued(*left, schema, is_below_or)?;
            let right = two_valued(*right, schema, is_below_or)?;
            let changed = left.transformed || right.transformed;
            let expr = BinaryExpr { left: Box::new(left.data), op, right: Box::new(right.data) };
            Ok(Transformed::new(Expr::BinaryExpr(expr), changed, TreeNodeRecursion::Continue))
        }
        Expr::Not(inner) if has_in_subquery(&inner)? => match *inner {
            Expr::Not(inner) => two_valued(*inner, schema, is_below_or),
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                let flipped = Expr::InSubquery(InSubquery { expr, subquery, negated: !negated });
                Ok(Transformed::yes(two_valued(flipped, schema, is_below_or)?.data))
            }
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
                let (op, quantifier) = match (op.negate(), quantifier) {
                    (Some(op), SetQuantifier::Any) => (op, SetQuantifier::All),
                    (Some(op), SetQuantifier::All) => (op, SetQuantifier::Any),
                    (None, _) => {
                        let same = Expr::SetComparison(SetComparison { expr, subquery, op, quantifier });
                        return Ok(Transformed::no(Expr::Not(Box::new(same))));
                    }
                };
                let flipped = Expr::SetComparison(SetComparison { expr, subquery, op, quantifier });
                Ok(Transformed::yes(two_valued(flipped, schema, is_below_or)?.data))
            }
            // De Morgan's laws hold for three values too.
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let op = if op == Operator::And { Operator::Or } else { Operator::And };
                let (left, right) = (Box::new(Expr::Not(left)), Box::new(Expr::Not(right)));
                let moved = Expr::BinaryExpr(BinaryExpr { left, op, right });
                Ok(Transformed::yes(two_valued(moved, schema, is_below_or)?.data))
            }
            inner => Ok(Transformed::no(Expr::Not(Box::new(inner)))),
        },
        // The same by another name, which the engine's own rewriting takes for columns of the subquery.
        Expr::SetComparison(SetComparison {
            expr,
            subquery,
            op: Operator::Eq,
            quantifier: SetQuantifier::Any,
        }) => {
            let same = Expr::InSubquery(InSubquery { expr, subquery, negated: false });
            Ok(Transformed::yes(same))
        }
        Expr::SetComparison(SetComparison {
            expr,
            subquery,
            op: Operator::NotEq,
            quantifier: SetQuantifier::All,
        }) => {
            let same = Expr::InSubquery(InSubquery { expr, subquery, negated: true });
            Ok(Transformed::yes(two_valued(same, schema, is_below_or)?.data))
        }
        Expr::InSubquery(found) if found.negated && !found.subquery.outer_ref_columns.is_empty() => {
            match none_matches(&found, schema)? {
                Some(expr) => Ok(Transformed::yes(expr)),
                None => Ok(Transformed::no(Expr::InSubquery(found))),
            }
        }
        // Of a constant, the engine's join does not look at nulls.
        Expr::InSubquery(InSubquery { expr, subquery, negated: true })
            if is_below_or || expr.column_refs().is_empty() =>
        {
            let mut all = Vec::new();
            if subquery.subquery.schema().field(0).is_nullable() {
                all.push(counted(&subquery, col("rows").eq(col("known")))?);
            }
            if expr.nullable(schema)? {
                let is_empty = counted(&subquery, col("rows").eq(lit(0_i64)))?;
                all.push(Expr::IsNotNull(expr.clone()).or(is_empty));
            }
            let is_in = Expr::InSubquery(InSubquery { expr, subquery, negated: false });
            let all = all.into_iter().fold(Expr::Not(Box::new(is_in)), Expr::and);
            Ok(Transformed::yes(all))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn has_in_subquery(expr: &Expr) -> Result<bool> {
    expr.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_) | Expr::SetComparison(_))))
}

/// For a subquery that refers to the outer row: no row of it is equal to `x`, or null, or anything while `x` is null.
/// `None` where the engine could not tell such rows apart: `x` has references of its own, or aggregates and limits are
/// between the subquery and its references.
fn none_matches(found: &InSubquery, schema: &DFSchema) -> Result<Option<Expr>> {
    let InSubquery { expr, subquery, .. } = found;
    let is_beyond = |expr: &Expr| matches!(expr, Expr::OuterReferenceColumn(..)) || is_subquery(expr);
    let is_summed = |plan: &LogicalPlan| {
        matches!(plan, LogicalPlan::Aggregate(_) | LogicalPlan::Limit(_) | LogicalPlan::Window(_))
    };
    if is_one_row(&subquery.subquery) {
        let value = Expr::ScalarSubquery(subquery.clone());
        return Ok(Some(expr.as_ref().clone().not_eq(value)));
    }
    if expr.exists(|expr| Ok(is_beyond(expr)))? || subquery.subquery.exists(|plan| Ok(is_summed(plan)))? {
        return Ok(None);
    }
    let mut outer_ref_columns = subquery.outer_ref_columns.clone();
    let outer = expr.as_ref().clone().transform(|expr| match expr {
        Expr::Column(column) => {
            let reference = Expr::OuterReferenceColumn(schema.field_from_column(&column)?.clone(), column);
            outer_ref_columns.push(reference.clone());
            Ok(Transformed::yes(reference))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let inner = subquery.subquery.schema();
    let value = Expr::Column(Column::from(inner.qualified_field(0)));
    let mut matches = value.clone().eq(outer.data.clone());
    if inner.field(0).is_nullable() {
        matches = matches.or(value.is_null());
    }
    if expr.nullable(schema)? {
        matches = matches.or(outer.data.is_null());
    }
    let rows = LogicalPlanBuilder::from(LogicalPlan::clone(&subquery.subquery));
    let subquery = Arc::new(rows.filter(matches)?.build()?);
    let subquery = Subquery { subquery, outer_ref_columns, spans: Default::default() };
    Ok(Some(Expr::Exists(Exists { subquery, negated: true })))
}

/// An aggregate without groups.
fn is_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            plan.inputs().into_iter().all(is_one_row)
        }
        _ => false,
    }
}

/// A condition on a subquery's `rows` and those of them that are `known`, no nulls.
fn counted(subquery: &Subquery, condition: Expr) -> Result<Expr> {
    let value = Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
    let counts = [count(lit(1)).alias("rows"), count(value).alias("known")];
    let rows = LogicalPlanBuilder::from(LogicalPlan::clone(&subquery.subquery));
    let plan = rows.aggregate(Vec::<Expr>::new(), counts)?.project([condition])?.build()?;
    Ok(scalar_subquery(Arc::new(plan)))
}
