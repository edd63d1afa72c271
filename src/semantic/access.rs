//! Row filters and masks: SQL over the fields of one dataset and the claims of the caller.
//!
//! P1 A claim becomes a literal in the parsed expression; its text is never pasted into SQL.
//! P2 A claim that is missing, null, empty or of no plain kind denies: there is then no expression to apply, and whoever
//! enforces the policy gives no row, or no value.
//! P3 A policy names nothing but fields of its own dataset: no other relation, no subquery, no aggregate.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, Ident, ObjectNamePart, Value as SqlValue, Visit, VisitMut, Visitor,
    VisitorMut,
};
use serde_json::Value;

use super::compile::is_aggregate as is_aggregate_name;
use super::diagnostic::did_you_mean;
use super::lint::parse_expression;
use super::load::Reports;
use super::model::{Dataset, Field, Model, Source};
use crate::auth::Claims;

/// A row filter or a mask, as it was written and as it is enforced.
#[derive(Debug, Clone)]
pub struct Policy {
    /// As it stands in the file.
    pub text: String,
    pub source: Source,
    /// Over physical columns; claims are placeholders. Set when the model was found sound.
    resolved: Option<Resolved>,
}

#[derive(Debug, Clone)]
struct Resolved {
    expr: Expr,
    /// By placeholder: `$claim1` is the first.
    claims: Vec<String>,
}

impl Policy {
    pub(super) fn new(text: String, source: Source) -> Self {
        Self { text, source, resolved: None }
    }

    /// The claims that it asks for, in order of appearance.
    pub fn claims(&self) -> &[String] {
        self.resolved.as_ref().map_or(&[], |resolved| &resolved.claims)
    }

    /// The expression over physical columns for a caller with these claims; `None` denies (P2).
    pub fn for_claims(&self, claims: &Claims) -> Option<Expr> {
        let resolved = self.resolved.as_ref()?;
        let mut literals = HashMap::new();
        for (at, name) in resolved.claims.iter().enumerate() {
            literals.insert(placeholder(at), literals_of(claims.get(name)?)?);
        }
        let mut expr = resolved.expr.clone();
        match VisitMut::visit(&mut expr, &mut Fill { literals }) {
            ControlFlow::Continue(()) => Some(expr),
            ControlFlow::Break(()) => None,
        }
    }
}

fn placeholder(at: usize) -> String {
    format!("$claim{}", at + 1)
}

/// A claim as one literal or several; nothing where it denies.
fn literals_of(claim: &Value) -> Option<Vec<Expr>> {
    let literal = |value: &Value| {
        let value = match value {
            Value::String(text) => return Some(text_literal(text)),
            Value::Bool(flag) => SqlValue::Boolean(*flag),
            Value::Number(number) => SqlValue::Number(number.to_string(), false),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some(Expr::Value(value.with_empty_span()))
    };
    match claim {
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => items.iter().map(literal).collect(),
        one => literal(one).map(|literal| vec![literal]),
    }
}

/// A text that stays the same text when it is printed in any dialect: some take a backslash before a quote for an
/// escape, and the printer takes a doubled quote for one that is escaped already. So neither stands in a literal.
fn text_literal(text: &str) -> Expr {
    let literal = |part: &str| Expr::Value(SqlValue::SingleQuotedString(part.to_owned()).with_empty_span());
    let mut parts = Vec::new();
    for part in text.split_inclusive(['\'', '\\']) {
        let odd = part.chars().next_back().filter(|last| matches!(last, '\'' | '\\'));
        parts.push(literal(odd.map_or(part, |_| &part[..part.len() - 1])));
        if let Some(odd) = odd {
            // `chr(39)` and `chr(92)` parse; were it otherwise, NULL permits nothing.
            let null = || Expr::Value(SqlValue::Null.with_empty_span());
            parts.push(parse_expression(&format!("chr({})", odd as u32)).unwrap_or_else(|_| null()));
        }
    }
    // One after the other, as the printed text is read again: the guard compares the trees.
    match parts.into_iter().reduce(concat).unwrap_or_else(|| literal("")) {
        one @ Expr::Value(_) => one,
        several => Expr::Nested(Box::new(several)),
    }
}

fn concat(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::StringConcat, right: Box::new(right) }
}

/// Puts literals in the place of placeholders: one for one, and any number in the list of an IN.
struct Fill {
    literals: HashMap<String, Vec<Expr>>,
}

impl Fill {
    fn of(&self, expr: &Expr) -> Option<&Vec<Expr>> {
        named(expr).and_then(|name| self.literals.get(name))
    }
}

impl VisitorMut for Fill {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::InList { list, .. } = expr {
            let filled = list.drain(..).flat_map(|item| match self.of(&item) {
                Some(literals) => literals.clone(),
                None => vec![item],
            });
            *list = filled.collect::<Vec<_>>();
        }
        match self.of(expr).map(Vec::as_slice) {
            None => ControlFlow::Continue(()),
            Some([literal]) => {
                *expr = literal.clone();
                ControlFlow::Continue(())
            }
            // A list where one value is meant.
            Some(_) => ControlFlow::Break(()),
        }
    }
}

/// The name of a placeholder.
fn named(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            SqlValue::Placeholder(name) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

/// Checks the policies of a model and makes them enforceable; what is wrong is reported and stays unenforceable.
pub(super) fn resolve(model: &mut Model, reports: &mut Reports<'_>) {
    for dataset in &mut model.datasets {
        let mut found = Vec::new();
        if let Some(policy) = &dataset.row_filter {
            let what = format!("the row filter of dataset `{}`", dataset.name);
            found.push((None, resolved(policy, &what, dataset, reports)));
        }
        for (at, field) in dataset.fields.iter().enumerate() {
            if let Some(policy) = &field.mask {
                let what = format!("the mask of field `{}.{}`", dataset.name, field.name);
                if field.sensitivity == super::Sensitivity::Public {
                    let help = "set `sensitivity` on the field, or drop the mask";
                    let message = format!("{what} masks it for nobody: everybody may see the values");
                    report(reports, "mask-without-sensitivity", &policy.source, message, help);
                }
                found.push((Some(at), resolved(policy, &what, dataset, reports)));
            }
        }
        for (at, policy) in found {
            match at {
                None => dataset.row_filter = Some(policy),
                Some(at) => dataset.fields[at].mask = Some(policy),
            }
        }
    }
}

fn resolved(policy: &Arc<Policy>, what: &str, dataset: &Dataset, reports: &mut Reports<'_>) -> Arc<Policy> {
    let mut made = Policy::clone(policy);
    match check(&policy.text, dataset) {
        Ok(resolved) => made.resolved = Some(resolved),
        Err(Problem { rule, message, help }) => {
            report(reports, rule, &policy.source, format!("{what} {message}"), help);
        }
    }
    Arc::new(made)
}

fn report(
    reports: &mut Reports<'_>,
    rule: &'static str,
    source: &Source,
    message: String,
    help: impl Into<String>,
) {
    reports.of(&source.file).error(rule, source.at, message, help);
}

struct Problem {
    rule: &'static str,
    message: String,
    help: String,
}

fn problem(rule: &'static str, message: impl Into<String>, help: impl Into<String>) -> Problem {
    Problem { rule, message: message.into(), help: help.into() }
}

fn check(text: &str, dataset: &Dataset) -> Result<Resolved, Problem> {
    let (sql, claims) = templates(text)?;
    let mut expr = parse_expression(&sql).map_err(|error| {
        let help = "write one SQL expression over the dataset's fields; {{claims.x}} stands for a value";
        problem("bad-expression", format!("does not parse: {error}"), help)
    })?;
    let mut walk = Names { dataset, placeholders: Vec::new() };
    if let ControlFlow::Break(problem) = Visit::visit(&expr, &mut walk) {
        return Err(*problem);
    }
    let expected: Vec<String> = (0..claims.len()).map(placeholder).collect();
    let mut seen = walk.placeholders;
    seen.sort();
    let mut wanted = expected.clone();
    wanted.sort();
    if seen != wanted {
        return Err(template_problem("does not use each {{claims.x}} as a value"));
    }
    match VisitMut::visit(&mut expr, &mut ToPhysical { dataset }) {
        ControlFlow::Continue(()) => Ok(Resolved { expr, claims }),
        ControlFlow::Break(problem) => Err(*problem),
    }
}

fn template_problem(message: &str) -> Problem {
    problem(
        "bad-claim",
        message,
        "write {{claims.name}} where a value stands, without quotes round it: name = {{claims.name}}",
    )
}

/// Puts `$claim1`, `$claim2` … in the place of `{{claims.x}}`, and gives the names.
fn templates(text: &str) -> Result<(String, Vec<String>), Problem> {
    let (mut sql, mut claims) = (String::with_capacity(text.len()), Vec::new());
    let mut quote = None;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if rest.starts_with("{{") {
            let end = rest.find("}}").ok_or_else(|| template_problem("has a {{ without its }}"))?;
            if quote.is_some() {
                return Err(template_problem("has {{…}} inside quotes"));
            }
            let inner = rest[2..end].trim();
            let name = inner.strip_prefix("claims.").unwrap_or_default();
            let is_name = !name.is_empty()
                && name.len() <= 128
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/'));
            if !is_name {
                return Err(template_problem("has {{…}} that is not {{claims.name}}"));
            }
            // Apart from its neighbours, so that it is a token of its own.
            sql.push_str(&format!(" {} ", placeholder(claims.len())));
            claims.push(name.to_owned());
            rest = &rest[end + 2..];
            continue;
        }
        match (quote, character) {
            (None, '\'' | '"' | '`') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
        sql.push(character);
        rest = &rest[character.len_utf8()..];
    }
    Ok((sql, claims))
}

fn field_of<'d>(dataset: &'d Dataset, name: &Ident) -> Option<&'d Field> {
    dataset.field(&name.value).or_else(|| match name.quote_style {
        None => dataset.field(&name.value.to_lowercase()),
        Some(_) => None,
    })
}

/// Refuses what a policy may not hold, and collects its placeholders.
struct Names<'d> {
    dataset: &'d Dataset,
    placeholders: Vec<String>,
}

impl Visitor for Names<'_> {
    type Break = Box<Problem>;

    fn pre_visit_query(&mut self, _: &datafusion::sql::sqlparser::ast::Query) -> ControlFlow<Box<Problem>> {
        let help = "put what it looks up into a claim, or into a column of the dataset";
        ControlFlow::Break(Box::new(problem("bad-policy", "holds a subquery", help)))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Box<Problem>> {
        let unknown = |name: String, column: &str| {
            let mut help = did_you_mean(column, self.dataset.fields.iter().map(|field| field.name.as_str()));
            if help.is_empty() {
                help = "name a field of this dataset; a text stands in single quotes".to_owned();
            }
            let message = format!("names `{name}`, which is no field of `{}`", self.dataset.name);
            ControlFlow::Break(Box::new(problem("unknown-field", message, help)))
        };
        match expr {
            Expr::Identifier(name) if field_of(self.dataset, name).is_none() => {
                unknown(name.value.clone(), &name.value)
            }
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, column]
                    if table.value == self.dataset.name && field_of(self.dataset, column).is_some() =>
                {
                    ControlFlow::Continue(())
                }
                _ => {
                    let column = parts.last().map_or("", |part| part.value.as_str());
                    unknown(expr.to_string(), column)
                }
            },
            Expr::Function(function) if is_aggregate(function) => {
                let help = "it is applied to each row by itself: compare fields and claims";
                let message = format!("calls {}, which is about many rows", function.name);
                ControlFlow::Break(Box::new(problem("bad-policy", message, help)))
            }
            _ => {
                self.placeholders.extend(named(expr).map(str::to_owned));
                ControlFlow::Continue(())
            }
        }
    }
}

fn is_aggregate(function: &Function) -> bool {
    let name = match function.name.0.last() {
        Some(ObjectNamePart::Identifier(name)) => name.value.to_lowercase(),
        _ => String::new(),
    };
    function.over.is_some()
        || function.filter.is_some()
        || is_aggregate_name(&name)
        || matches!(name.as_str(), "first_value" | "last_value")
}

/// Puts each field's own expression, which is over physical columns, in the field's place.
struct ToPhysical<'d> {
    dataset: &'d Dataset,
}

impl VisitorMut for ToPhysical<'_> {
    type Break = Box<Problem>;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<Problem>> {
        let name = match expr {
            Expr::Identifier(name) => name,
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => &parts[1],
            _ => return ControlFlow::Continue(()),
        };
        let Some(field) = field_of(self.dataset, name) else { return ControlFlow::Continue(()) };
        match field.expression.text_for_engine().map(parse_expression) {
            // Not visited again: this is called behind it.
            Some(Ok(physical)) => {
                *expr = match physical {
                    Expr::Identifier(_) => physical,
                    other => Expr::Nested(Box::new(other)),
                };
                ControlFlow::Continue(())
            }
            _ => {
                let message = format!("names `{}`, which has no SQL expression of its own", field.name);
                let help = "give that field an expression in ANSI_SQL";
                ControlFlow::Break(Box::new(problem("bad-policy", message, help)))
            }
        }
    }
}
