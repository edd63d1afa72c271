//! G4: functions whose result's size an argument sets get small literals there.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, FunctionArg, FunctionArgExpr, UnaryOperator, Value, ValueWithSpan,
};

use super::constructs::{Step, refuse};
use super::functions;

/// Largest size that `lpad`, `rpad`, `range`, `generate_series` and `generator` may be asked for.
const MAX_SIZE_ARGUMENT: f64 = 1_000_000.0;

/// A call that may stand anywhere.
pub(super) fn function(name: &str, args: &[FunctionArg]) -> Step {
    if !functions::SIZE_BY_ARGUMENT.contains(&name) {
        return ControlFlow::Continue(());
    }
    let named = args.iter().any(|arg| !matches!(arg, FunctionArg::Unnamed(_)));
    match name {
        // Of the text, the length and the filling only the length makes the result long.
        "lpad" | "rpad" if !named => bounded(name, args.iter().skip(1).take(1)),
        _ => bounded(name, args.iter()),
    }
}

/// A call that stands in FROM.
pub(super) fn table(name: &str, args: &[FunctionArg]) -> Step {
    function(name, args)
}

fn bounded<'a>(name: &str, args: impl Iterator<Item = &'a FunctionArg>) -> Step {
    for arg in args {
        let (FunctionArg::Unnamed(arg) | FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. }) =
            arg;
        if !matches!(arg, FunctionArgExpr::Expr(expr) if is_small(expr)) {
            return refuse(
                "size-argument",
                format!("{name} is called with a size that is not a literal of at most {MAX_SIZE_ARGUMENT}"),
                "write a smaller literal",
            );
        }
    }
    ControlFlow::Continue(())
}

/// A literal that is no large number; dates and intervals are bounded by the calendar.
fn is_small(expr: &Expr) -> bool {
    match expr {
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => is_small(expr),
        Expr::Value(value) => is_small_value(value),
        Expr::TypedString(typed) => is_of_the_calendar(&typed.data_type),
        Expr::Interval(interval) => matches!(interval.value.as_ref(), Expr::Value(_)),
        Expr::Cast { data_type, expr, .. } => {
            matches!(expr.as_ref(), Expr::Value(_)) && (is_of_the_calendar(data_type) || is_small(expr))
        }
        _ => false,
    }
}

fn is_small_value(value: &ValueWithSpan) -> bool {
    match &value.value {
        Value::Number(text, _) => text.parse::<f64>().is_ok_and(|size| size <= MAX_SIZE_ARGUMENT),
        // An engine may take a text for a number.
        Value::SingleQuotedString(text) => {
            text.trim().parse::<f64>().map_or(true, |size| size.abs() <= MAX_SIZE_ARGUMENT)
        }
        Value::Boolean(_) | Value::Null => true,
        _ => false,
    }
}

fn is_of_the_calendar(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Date | DataType::Timestamp(..) | DataType::Interval { .. } | DataType::Datetime(_)
    )
}
