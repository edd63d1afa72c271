//! G4: calls of functions.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident, ObjectName,
    Spanned,
};

use super::constructs::{Step, unless};
use super::dialect::Dialect;
use super::namespace::identifiers;
use super::{Refusal, functions, sizes};

/// Refuses a call of what is not on the dialect's list, or of an unusual form.
pub(super) fn check(dialect: Dialect, function: &Function) -> Step {
    let refused = |help: String| {
        let message = format!("the function {} is not allowed", function.name);
        let refusal = Refusal::new("function", message, help);
        ControlFlow::Break(Box::new(refusal.at(function.name.span())))
    };
    let name = match identifiers(&function.name).as_deref() {
        Some([name]) if name.quote_style.is_none() => name.value.to_ascii_lowercase(),
        // A quoted name must match as it stands; Snowflake's own functions have names in upper case.
        Some([name]) if dialect != Dialect::Snowflake => name.value.clone(),
        _ => return refused(String::new()),
    };
    if !functions::is_allowed_in(dialect, &name) {
        let mut help = functions::nearest(dialect, &name);
        if help.is_empty() {
            help = "use a function that computes from its arguments alone".to_owned();
        }
        return refused(help);
    }
    unless(!function.uses_odbc_syntax, "{fn …}")?;
    unless(matches!(function.parameters, FunctionArguments::None), "a parametric function")?;
    match &function.args {
        FunctionArguments::None => ControlFlow::Continue(()),
        FunctionArguments::Subquery(_) => {
            unless(dialect == Dialect::PostgreSql && name == "array", "a query as an argument")
        }
        FunctionArguments::List(list) => {
            for clause in &list.clauses {
                let fine = matches!(
                    clause,
                    FunctionArgumentClause::IgnoreOrRespectNulls(_)
                        | FunctionArgumentClause::OrderBy(_)
                        | FunctionArgumentClause::OnOverflow(_)
                        | FunctionArgumentClause::JsonNullClause(_)
                );
                unless(fine, "this clause in a function's arguments")?;
            }
            let array = dialect == Dialect::PostgreSql && name == "array";
            unless(!array, "ARRAY() without a query")?;
            sizes::function(&name, &list.args)
        }
    }
}

/// The function's own name, in lower case.
pub(super) fn last(name: &ObjectName) -> String {
    identifiers(name)
        .and_then(|parts| parts.last().map(|part| part.value.to_ascii_lowercase()))
        .unwrap_or_default()
}

/// Table functions of the engine that compute from their arguments alone.
pub(super) fn is_engine_function(parts: &[&Ident], dialect: Dialect) -> bool {
    match parts {
        [one] if one.quote_style.is_none() || dialect == Dialect::DataFusion => {
            functions::is_table_function(dialect, &one.value.to_ascii_lowercase())
        }
        _ => false,
    }
}

/// Whether a call reads every column of the relations around it: `object_construct(*)`, not `count(*)`. `count(t.*)` does:
/// Snowflake counts rows without any null.
pub(super) fn reads_all(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    let plain = [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)];
    if list.args == plain && list.duplicate_treatment.is_none() && last(&function.name) == "count" {
        return false;
    }
    let is_wildcard = |arg: &FunctionArg| {
        let (FunctionArg::Unnamed(arg) | FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. }) =
            arg;
        !matches!(arg, FunctionArgExpr::Expr(_))
    };
    list.args.iter().any(is_wildcard)
}
