//! Queries that DataFusion is known to answer wrongly, by their shape: they are not held against another system's answer.
//! What is left stands in docs/adr/0032; what is mended goes from here.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Query, UnaryOperator, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::world::{Kind, Seen};

/// Whether `sql` has such a shape.
pub fn is_left(sql: &str, tables: &[Seen]) -> bool {
    let has_untyped = tables.iter().any(|table| table.columns.iter().any(|(_, kind)| *kind == Kind::Any));
    let Ok(statements) = Parser::parse_sql(&GenericDialect {}, sql) else { return true };
    let mut search = Search { has_untyped, places: vec![Place::default()] };
    statements.visit(&mut search).is_break()
}

/// Where a condition stands in the query next around it.
#[derive(Default)]
struct Place {
    /// Where unknown is something else than false.
    below_not: usize,
}

struct Search {
    /// Whether there are columns that are NULL and nothing else.
    has_untyped: bool,
    places: Vec<Place>,
}

impl Search {
    fn place(&mut self) -> &mut Place {
        self.places.last_mut().unwrap()
    }

    fn step(&mut self, expr: &Expr, by: isize) {
        let place = self.place();
        let depth = match expr {
            Expr::UnaryOp { op: UnaryOperator::Not, expr } if is_moved_through(expr) => return,
            Expr::UnaryOp { op: UnaryOperator::Not, .. }
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::Case { .. } => &mut place.below_not,
            _ => return,
        };
        *depth = depth.saturating_add_signed(by);
    }

    fn is_wrong(&mut self, expr: &Expr) -> bool {
        let has_untyped = self.has_untyped;
        let Place { below_not } = *self.place();
        match expr {
            // What is neither in nor not in counts as not in.
            Expr::InSubquery { .. } if below_not > 0 => true,
            // A column of a subquery may turn out to be a constant, of which nulls are not looked at.
            Expr::InSubquery { expr, negated: true, .. } => has_untyped || !is_table_column(expr),
            // As IN.
            Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => {
                matches!(right.as_ref(), Expr::Subquery(_))
                    && (below_not > 0 || has_untyped || !is_table_column(left))
            }
            _ => false,
        }
    }
}

impl Visitor for Search {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.places.push(Place::default());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.places.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.is_wrong(expr) {
            return ControlFlow::Break(());
        }
        self.step(expr, 1);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.step(expr, -1);
        ControlFlow::Continue(())
    }
}

/// Of a table, by its name, and not of a subquery that could give it a constant.
fn is_table_column(expr: &Expr) -> bool {
    matches!(expr, Expr::CompoundIdentifier(parts) if parts.last().is_some_and(|name| {
        name.value.strip_prefix('c').is_some_and(|number| number.parse::<usize>().is_ok())
    }))
}

/// Whether NOT is moved inwards from it, to where it does no harm.
fn is_moved_through(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_moved_through(inner),
        Expr::UnaryOp { op: UnaryOperator::Not, .. }
        | Expr::InSubquery { .. }
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. } => true,
        Expr::BinaryOp { op, .. } => matches!(op, BinaryOperator::And | BinaryOperator::Or),
        _ => false,
    }
}
