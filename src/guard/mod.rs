//! Guard: the only door between SQL text and a warehouse.
//!
//! Pure: no I/O, no clock. Knows nothing of who asks: it gets the [`Namespace`] that the caller may see, and nothing
//! outside it exists.
//! G1 One statement, a query; nothing that writes, locks, calls or sets.
//! G2 Every relation, in every position, is a published one, a CTE in scope, or an allowed table function.
//! G3 Every published relation is replaced by its secured form: permitted columns, masks, row filter. Of the columns those
//! are left out that nothing in the query can mean.
//! G4 Every function is on the allow-list; every construct is on the list of those understood. What is not, is refused.
//! G5 The result has at most `max_rows + 1` rows, so that truncation is known.
//! G6 [`ApprovedSql`] can be built here alone.
//! G7 A text that is sent to a warehouse parses, in its dialect, to the very tree that was checked.
//! G8 Casts name listed types alone, for a cast to `regclass` reads the catalog as well as a query does.

mod budget;
mod calls;
mod constructs;
mod dialect;
mod exact;
mod functions;
mod limit;
mod names;
mod namespace;
mod operators;
mod prefix;
mod rewrite;
mod secured;
mod sizes;
mod tokens;
mod touched;
mod types;
mod using;

use datafusion::sql::sqlparser::ast::{SetExpr, Statement};

use crate::error::ErrorKind;

pub use dialect::Dialect;
pub use functions::is_allowed as is_function_allowed;
pub use namespace::{Column, Judge, Namespace, Relation, SharedRelations, TableFunction, Verdict};
pub use rewrite::{Argument, TableCall};
pub use secured::PHYSICAL_CATALOG;
pub use tokens::{MAX_SQL_BYTES, MAX_TOKENS};
use touched::Place;
pub use touched::TouchedColumn;

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
    dialect: Dialect,
    /// What a remote warehouse is sent.
    text: Option<String>,
    relations: Vec<(String, String)>,
    columns: Vec<TouchedColumn>,
    places: Vec<Place>,
    calls: Vec<TableCall>,
    max_rows: usize,
    is_capped: bool,
}

impl ApprovedSql {
    /// The secured query.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The secured query as text, in its dialect. With a remote dialect this is what may be sent (G7).
    pub fn sql(&self) -> String {
        self.text.clone().unwrap_or_else(|| self.statement.to_string())
    }

    /// Published relations that it reads: `(schema, name)`, sorted, each once.
    pub fn relations(&self) -> &[(String, String)] {
        &self.relations
    }

    /// Columns of those relations that it names, sorted, each once. An upper bound: what is told from names alone, such
    /// as an unqualified column that two relations have, counts for all that it may mean, and `*` for every column.
    pub fn columns(&self) -> &[TouchedColumn] {
        &self.columns
    }

    /// All columns that the query could read, one after the other: for messages.
    pub fn known_columns(&self) -> impl Iterator<Item = &str> {
        self.places.iter().flat_map(|place| place.columns.iter().map(String::as_str))
    }

    /// Those of the relations that it calls `alias`, in whatever place.
    pub fn columns_behind<'a>(&'a self, alias: &'a str) -> impl Iterator<Item = &'a str> {
        let places = self.places.iter().filter(move |place| place.alias == alias);
        places.flat_map(|place| place.columns.iter().map(String::as_str))
    }

    /// Calls of table functions whose results it reads, in the order in which they stand.
    pub fn calls(&self) -> &[TableCall] {
        &self.calls
    }

    /// Rows to return; the query itself may yield one more, which tells that the result was cut.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// True where the query's limit is the guard's: the caller asked for all rows, or for more.
    pub fn is_capped(&self) -> bool {
        self.is_capped
    }
}

/// Checks one query and secures it. `max_rows` is the caller's row limit.
pub fn approve(
    sql: &str,
    namespace: &Namespace,
    dialect: Dialect,
    max_rows: usize,
) -> Result<ApprovedSql, Refusal> {
    let mut statement = tokens::parse(sql, dialect)?;
    let Statement::Query(query) = &mut statement else {
        return Err(not_a_query(&statement));
    };
    let names = constructs::check(query, dialect)?;
    let secured = rewrite::secure(query, names, namespace, dialect)?;
    let rewrite::Secured { relations, columns, places, calls } = secured;
    let is_capped = limit::limit(query, max_rows)?;
    let text = match dialect.is_remote() {
        true => Some(exact::print(&mut statement, dialect)?),
        false => None,
    };
    Ok(ApprovedSql { statement, dialect, text, relations, columns, places, calls, max_rows, is_capped })
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

/// True for the bodies that a query may consist of.
fn is_query_body(body: &SetExpr) -> bool {
    matches!(body, SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_))
}

#[cfg(test)]
mod tests;
