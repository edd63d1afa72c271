//! G1 and G4: only constructs on these lists pass; a construct that is new to the parser is refused until it is listed.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Select, SelectFlavor,
    SetExpr, Spanned, TableFactor, Value, ValueWithSpan, Visit, Visitor,
};

use super::namespace::identifiers;
use super::{Refusal, functions, is_query_body};

/// Walks the whole query and refuses the first construct that is not understood.
pub(super) fn check(query: &Query) -> Result<(), Refusal> {
    match query.visit(&mut Constructs) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(*refusal),
    }
}

struct Constructs;

type Step = ControlFlow<Box<Refusal>>;

fn refuse(rule: &'static str, message: impl Into<String>, help: impl Into<String>) -> Step {
    ControlFlow::Break(Box::new(Refusal::new(rule, message, help)))
}

fn unless(fine: bool, what: &str) -> Step {
    if fine {
        ControlFlow::Continue(())
    } else {
        refuse("construct", format!("{what} is not supported"), "write it in plain SQL")
    }
}

impl Visitor for Constructs {
    type Break = Box<Refusal>;

    fn pre_visit_query(&mut self, query: &Query) -> Step {
        if !query.locks.is_empty() {
            return refuse("query-only", "FOR UPDATE and FOR SHARE lock rows", "drop the locking clause");
        }
        unless(query.for_clause.is_none(), "FOR XML/JSON/BROWSE")?;
        unless(query.settings.is_none(), "SETTINGS")?;
        unless(query.format_clause.is_none(), "FORMAT")?;
        unless(query.pipe_operators.is_empty(), "the pipe operator")?;
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                unless(cte.from.is_none(), "FROM in a CTE")?;
            }
        }
        body(&query.body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Step {
        if select.into.is_some() {
            return refuse("query-only", "SELECT … INTO writes a table", "drop INTO");
        }
        unless(select.optimizer_hints.is_empty(), "an optimizer hint")?;
        unless(select.select_modifiers.is_none(), "a SELECT modifier")?;
        unless(select.top.is_none(), "TOP")?;
        unless(select.lateral_views.is_empty(), "LATERAL VIEW")?;
        unless(select.prewhere.is_none(), "PREWHERE")?;
        unless(select.connect_by.is_empty(), "CONNECT BY")?;
        unless(
            select.cluster_by.is_empty() && select.distribute_by.is_empty() && select.sort_by.is_empty(),
            "CLUSTER/DISTRIBUTE/SORT BY",
        )?;
        unless(select.value_table_mode.is_none(), "SELECT AS STRUCT/VALUE")?;
        unless(matches!(select.flavor, SelectFlavor::Standard), "a query that starts with FROM")
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Step {
        match factor {
            TableFactor::Table {
                name,
                args,
                with_hints,
                version,
                partitions,
                json_path,
                sample,
                index_hints,
                ..
            } => {
                unless(with_hints.is_empty() && index_hints.is_empty(), "a table hint")?;
                unless(version.is_none(), "time travel")?;
                unless(partitions.is_empty(), "PARTITION")?;
                unless(json_path.is_none(), "a JSON path on a table")?;
                unless(sample.is_none(), "TABLESAMPLE")?;
                match args {
                    None => ControlFlow::Continue(()),
                    Some(args) => {
                        unless(args.settings.is_none(), "SETTINGS")?;
                        table_function(name, &args.args)
                    }
                }
            }
            TableFactor::Derived { sample, .. } => unless(sample.is_none(), "TABLESAMPLE"),
            TableFactor::NestedJoin { .. } | TableFactor::UNNEST { .. } => ControlFlow::Continue(()),
            TableFactor::Function { name, .. } => refuse(
                "table-function",
                format!("the table function {name} is not allowed"),
                "query a published relation",
            ),
            other => {
                let text = other.to_string();
                let shown: String = text.chars().take(60).collect();
                refuse(
                    "construct",
                    format!("`{shown}` is not supported in FROM"),
                    "query a published relation",
                )
            }
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Step {
        match expr {
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::InUnnest { .. }
            | Expr::Between { .. }
            | Expr::BinaryOp { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. }
            | Expr::UnaryOp { .. }
            | Expr::Cast { .. }
            | Expr::AtTimeZone { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Overlay { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::TypedString(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_)
            | Expr::Tuple(_)
            | Expr::Array(_)
            | Expr::Interval(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..) => ControlFlow::Continue(()),
            Expr::Function(function) => called(function),
            other => {
                let text = other.to_string();
                let shown: String = text.chars().take(60).collect();
                let mut refusal =
                    Refusal::new("construct", format!("`{shown}` is not supported"), "write it in plain SQL");
                refusal = refusal.at(other.span());
                ControlFlow::Break(Box::new(refusal))
            }
        }
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> Step {
        match &value.value {
            Value::Placeholder(name) => refuse(
                "construct",
                format!("the placeholder {name} has no value"),
                "write the value into the query",
            ),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn body(expr: &SetExpr) -> Step {
    match expr {
        SetExpr::SetOperation { left, right, .. } => {
            body(left)?;
            body(right)
        }
        other if is_query_body(other) => ControlFlow::Continue(()),
        SetExpr::Table(_) => refuse("construct", "TABLE name is not supported", "write SELECT * FROM name"),
        _ => refuse("query-only", "a statement that writes stands inside the query", "send one SELECT"),
    }
}

fn called(function: &Function) -> Step {
    let span = function.name.span();
    let refused = |rule, message: String, help: String| {
        let mut refusal = Refusal::new(rule, message, help);
        refusal = refusal.at(span);
        ControlFlow::Break(Box::new(refusal))
    };
    let name = match identifiers(&function.name).as_deref() {
        // The engine folds unquoted names; a quoted one must match as it stands.
        Some([name]) if name.quote_style.is_none() => name.value.to_lowercase(),
        Some([name]) => name.value.clone(),
        _ => {
            return refused(
                "function",
                format!("the function {} is not allowed", function.name),
                String::new(),
            );
        }
    };
    if !functions::is_allowed(&name) {
        let mut help = functions::nearest(&name);
        if help.is_empty() {
            help = "use a function that computes from its arguments alone".to_owned();
        }
        return refused("function", format!("the function {} is not allowed", function.name), help);
    }
    unless(!function.uses_odbc_syntax, "{fn …}")?;
    unless(matches!(function.parameters, FunctionArguments::None), "a parametric function")?;
    if functions::SIZE_BY_ARGUMENT.contains(&name.as_str())
        && let FunctionArguments::List(list) = &function.args
    {
        bounded(&name, &list.args)?;
    }
    ControlFlow::Continue(())
}

/// Largest size that `lpad`, `rpad`, `range` and `generate_series` may be asked for.
const MAX_SIZE_ARGUMENT: f64 = 1_000_000.0;

/// Refuses sizes that are not small literals (columns and dates are bounded by the data and the calendar).
fn bounded(name: &str, args: &[FunctionArg]) -> Step {
    for arg in args {
        let expr = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => expr,
            FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. } => expr,
            _ => continue,
        };
        let expr = match expr {
            Expr::UnaryOp { expr, .. } => expr.as_ref(),
            other => other,
        };
        if let Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) = expr {
            if text.parse::<f64>().is_ok_and(|size| size <= MAX_SIZE_ARGUMENT) {
                continue;
            }
        } else if matches!(
            expr,
            Expr::Value(_) | Expr::TypedString(_) | Expr::Interval(_) | Expr::Cast { .. }
        ) {
            continue;
        } else if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
            && matches!(name, "lpad" | "rpad")
        {
            // The text being padded is a column; a column as the length is refused below by its position.
            if std::ptr::eq(arg, &args[0]) {
                continue;
            }
        }
        return refuse(
            "size-argument",
            format!("{name} is called with a size that is not a literal of at most {MAX_SIZE_ARGUMENT}"),
            "write a smaller literal",
        );
    }
    ControlFlow::Continue(())
}

/// Sizes of the engine's own are bounded; others are published functions or refused when relations are resolved.
fn table_function(name: &datafusion::sql::sqlparser::ast::ObjectName, args: &[FunctionArg]) -> Step {
    match identifiers(name) {
        Some(parts) if is_engine_function(&parts) => bounded("generate_series", args),
        _ => ControlFlow::Continue(()),
    }
}

/// Table functions of the engine that compute from their arguments alone.
pub(super) fn is_engine_function(parts: &[&Ident]) -> bool {
    match parts {
        [one] => ["generate_series", "range", "unnest"].contains(&one.value.to_lowercase().as_str()),
        _ => false,
    }
}
