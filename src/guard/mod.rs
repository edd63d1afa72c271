//! Guard: the only door between SQL text and a warehouse.
//!
//! Pure: no I/O, no clock. Knows nothing of who asks: it gets the [`Namespace`] that the caller may see, and nothing
//! outside it exists.
//! G1 One statement, a query; nothing that writes, locks, calls or sets.
//! G2 Every relation, in every position, is a published one, a CTE in scope, or an allowed table function.
//! G3 Every published relation is replaced by its secured form: permitted columns, masks, row filter.
//! G4 Every function is on the allow-list; every construct is on the list of those understood. What is not, is refused.
//! G5 The result has at most `max_rows + 1` rows, so that truncation is known.
//! G6 [`ApprovedSql`] can be built here alone.

mod constructs;
mod functions;
mod namespace;
mod rewrite;

use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::ErrorKind;

pub use functions::is_allowed as is_function_allowed;
pub use namespace::{Column, Judge, Namespace, Relation, SharedRelations, TableFunction, Verdict};
pub use rewrite::{Argument, PHYSICAL_CATALOG, TableCall};

/// Longer texts are refused before parsing.
pub const MAX_SQL_BYTES: usize = 128 * 1024;
/// More tokens than this are refused before parsing: the parse tree of a flat chain of operators is as deep as it is long.
pub const MAX_TOKENS: usize = 20_000;
/// Nesting that the parser follows.
const MAX_DEPTH: usize = 64;

/// Why a query was not approved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Stable id of the rule, such as `unknown-relation`.
    pub rule: &'static str,
    pub message: String,
    /// What to do instead; may be empty.
    pub help: String,
    /// One-based line and column of the offending fragment, where it is known.
    pub position: Option<(u64, u64)>,
    /// Scopes any of which would do, for refusals that a scope would lift.
    pub missing_scope: Option<String>,
}

impl Refusal {
    pub(crate) fn new(rule: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { rule, message: message.into(), help: help.into(), position: None, missing_scope: None }
    }

    fn at(mut self, span: datafusion::sql::sqlparser::tokenizer::Span) -> Self {
        if span.start.line > 0 {
            self.position = Some((span.start.line, span.start.column));
        }
        self
    }

    pub fn kind(&self) -> ErrorKind {
        match (&self.missing_scope, self.rule) {
            (Some(_), _) => ErrorKind::InsufficientScope,
            (_, "too-long") => ErrorKind::TooLarge,
            _ => ErrorKind::Refused,
        }
    }
}

/// A query that may run, with what it touches.
#[derive(Debug, Clone)]
pub struct ApprovedSql {
    statement: Statement,
    relations: Vec<(String, String)>,
    calls: Vec<TableCall>,
    max_rows: usize,
}

impl ApprovedSql {
    /// The secured query.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The secured query as text.
    pub fn sql(&self) -> String {
        self.statement.to_string()
    }

    /// Published relations that it reads: `(schema, name)`, sorted, each once.
    pub fn relations(&self) -> &[(String, String)] {
        &self.relations
    }

    /// Calls of table functions whose results it reads, in the order in which they stand.
    pub fn calls(&self) -> &[TableCall] {
        &self.calls
    }

    /// Rows to return; the query itself may yield one more, which tells that the result was cut.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }
}

/// Checks one query and secures it. `max_rows` is the caller's row limit.
pub fn approve(sql: &str, namespace: &Namespace, max_rows: usize) -> Result<ApprovedSql, Refusal> {
    let mut statement = parse(sql)?;
    let Statement::Query(query) = &mut statement else {
        return Err(not_a_query(&statement));
    };
    constructs::check(query)?;
    let rewrite::Secured { relations, calls } = rewrite::secure(query, namespace)?;
    limit(query, max_rows)?;
    Ok(ApprovedSql { statement, relations, calls, max_rows })
}

fn parse(sql: &str) -> Result<Statement, Refusal> {
    if sql.len() > MAX_SQL_BYTES {
        let message = format!("the query has {} bytes, more than the {MAX_SQL_BYTES} allowed", sql.len());
        return Err(Refusal::new(
            "too-long",
            message,
            "shorten it; join long lists of values from a table instead",
        ));
    }
    let dialect = GenericDialect {};
    let syntax = |message: String| {
        Refusal::new("syntax", format!("the query does not parse: {message}"), "mend the SQL")
    };
    let tokens =
        Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|error| syntax(error.to_string()))?;
    let count = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if count > MAX_TOKENS {
        let message = format!("the query has {count} tokens, more than the {MAX_TOKENS} allowed");
        return Err(Refusal::new(
            "too-long",
            message,
            "shorten it; join long lists of values from a table instead",
        ));
    }
    let mut statements = Parser::new(&dialect)
        .with_recursion_limit(MAX_DEPTH)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|error| syntax(error.to_string()))?;
    match statements.len() {
        1 => Ok(statements.remove(0)),
        0 => Err(Refusal::new("one-statement", "there is no statement", "send one SELECT")),
        more => Err(Refusal::new(
            "one-statement",
            format!("{more} statements in one request"),
            "send one SELECT at a time",
        )),
    }
}

fn not_a_query(statement: &Statement) -> Refusal {
    let text = statement.to_string();
    let verb = text.split_whitespace().next().unwrap_or_default().to_uppercase();
    let help = match verb.as_str() {
        "SHOW" | "DESCRIBE" | "DESC" | "USE" => {
            "query information_schema.tables and information_schema.columns instead"
        }
        "EXPLAIN" => "ask the check operation for the plan",
        _ => "send one SELECT",
    };
    Refusal::new("query-only", format!("{verb} is not a query"), help)
}

/// G5. A smaller literal limit of the caller's own stays.
fn limit(query: &mut Query, max_rows: usize) -> Result<(), Refusal> {
    use datafusion::sql::sqlparser::ast::{Expr, LimitClause, Value};
    let cap = max_rows.saturating_add(1);
    let number = |expr: &Expr| -> Result<usize, Refusal> {
        match expr {
            Expr::Value(value) => match &value.value {
                Value::Number(text, _) => text.parse().ok(),
                Value::Null => Some(usize::MAX),
                _ => None,
            },
            _ => None,
        }
        .ok_or_else(|| {
            let message = format!("LIMIT {expr} is not a whole number");
            Refusal::new("literal-limit", message, "write a whole number after LIMIT and OFFSET")
        })
    };
    let literal = |rows: usize| Expr::Value(Value::Number(rows.to_string(), false).with_empty_span());
    if let Some(fetch) = query.fetch.take() {
        if fetch.with_ties || fetch.percent {
            return Err(Refusal::new(
                "literal-limit",
                "FETCH WITH TIES and PERCENT are not supported",
                "write LIMIT n",
            ));
        }
        let wanted = fetch.quantity.as_ref().map_or(Ok(1), number)?;
        let (limit, offset) = match query.limit_clause.take() {
            None => (None, None),
            Some(LimitClause::LimitOffset { limit, offset, .. }) => (limit, offset),
            Some(LimitClause::OffsetCommaLimit { .. }) => {
                return Err(Refusal::new(
                    "literal-limit",
                    "LIMIT and FETCH together",
                    "write LIMIT n OFFSET m",
                ));
            }
        };
        if limit.is_some() {
            return Err(Refusal::new("literal-limit", "LIMIT and FETCH together", "write LIMIT n OFFSET m"));
        }
        query.limit_clause =
            Some(LimitClause::LimitOffset { limit: Some(literal(wanted)), offset, limit_by: Vec::new() });
    }
    query.limit_clause = Some(match query.limit_clause.take() {
        None => LimitClause::LimitOffset { limit: Some(literal(cap)), offset: None, limit_by: Vec::new() },
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) => {
            if !limit_by.is_empty() {
                return Err(Refusal::new(
                    "construct",
                    "LIMIT BY is not supported",
                    "use ROW_NUMBER() OVER (PARTITION BY …)",
                ));
            }
            if let Some(offset) = &offset {
                number(&offset.value)?;
            }
            let rows = limit.as_ref().map_or(Ok(usize::MAX), number)?.min(cap);
            LimitClause::LimitOffset { limit: Some(literal(rows)), offset, limit_by }
        }
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
            number(&offset)?;
            let rows = number(&limit)?.min(cap);
            let offset = datafusion::sql::sqlparser::ast::Offset {
                value: offset,
                rows: datafusion::sql::sqlparser::ast::OffsetRows::None,
            };
            LimitClause::LimitOffset {
                limit: Some(literal(rows)),
                offset: Some(offset),
                limit_by: Vec::new(),
            }
        }
    });
    Ok(())
}

/// True for the bodies that a query may consist of.
fn is_query_body(body: &SetExpr) -> bool {
    matches!(body, SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_))
}

#[cfg(test)]
mod tests;
