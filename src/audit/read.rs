//! Reading the audit log: filters, paging by event id.

use sqlx::Row;

use crate::audit::{AuditError, Outcome};
use crate::store::{Store, StoreError};

/// Most rows of one page.
pub const MAX_LIST_ROWS: usize = 10_000;

/// Which events to read. Absent filters let everything through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Events at this time or later, in epoch milliseconds.
    pub since_ms: Option<i64>,
    /// Events before this time.
    pub until_ms: Option<i64>,
    pub client_id: Option<String>,
    pub operation: Option<String>,
    pub outcome: Option<Outcome>,
    /// The last event id of the page before: the next one begins behind it, in the order asked for.
    pub after: Option<String>,
    /// Latest first instead of earliest first.
    pub newest_first: bool,
    /// 1 to [`MAX_LIST_ROWS`].
    pub limit: usize,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self {
            since_ms: None,
            until_ms: None,
            client_id: None,
            operation: None,
            outcome: None,
            after: None,
            newest_first: false,
            limit: 100,
        }
    }
}

/// An event as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// A UUIDv7.
    pub event_id: String,
    pub at_ms: i64,
    pub request_id: String,
    pub client_id: String,
    pub subject: String,
    pub operation: String,
    pub target: String,
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub rows: Option<i64>,
    pub size_bytes: Option<i64>,
    pub elapsed_ms: Option<i64>,
}

enum Bound<'a> {
    Number(i64),
    Text(&'a str),
}

pub(super) async fn list(store: &Store, query: &AuditQuery) -> Result<Vec<AuditRecord>, AuditError> {
    if !(1..=MAX_LIST_ROWS).contains(&query.limit) {
        return Err(AuditError::Limit { given: query.limit });
    }
    let (direction, beyond) = if query.newest_first { ("DESC", "event_id <") } else { ("ASC", "event_id >") };
    let filters = [
        ("at_ms >=", query.since_ms.map(Bound::Number)),
        ("at_ms <", query.until_ms.map(Bound::Number)),
        ("client_id =", query.client_id.as_deref().map(Bound::Text)),
        ("operation =", query.operation.as_deref().map(Bound::Text)),
        ("outcome =", query.outcome.map(|outcome| Bound::Text(outcome.as_str()))),
        (beyond, query.after.as_deref().map(Bound::Text)),
    ];
    let mut sql =
        "SELECT event_id, at_ms, request_id, client_id, subject, operation, target, outcome, reason, \
                   rows_count, size_bytes, elapsed_ms FROM audit_events"
            .to_owned();
    let mut bounds = Vec::new();
    for (condition, bound) in filters {
        let Some(bound) = bound else { continue };
        bounds.push(bound);
        let joint = if bounds.len() == 1 { "WHERE" } else { "AND" };
        sql.push_str(&format!(" {joint} {condition} ${}", bounds.len()));
    }
    sql.push_str(&format!(" ORDER BY event_id {direction} LIMIT {}", query.limit));
    // Only the fixed texts above and numbers are in it; every value is bound.
    let mut statement = sqlx::query(sqlx::AssertSqlSafe(sql));
    for bound in bounds {
        statement = match bound {
            Bound::Number(number) => statement.bind(number),
            Bound::Text(text) => statement.bind(text),
        };
    }
    let rows = statement.fetch_all(store.pool()).await.map_err(StoreError::from)?;
    Ok(rows.iter().map(record).collect::<Result<_, _>>().map_err(StoreError::from)?)
}

fn record(row: &sqlx::any::AnyRow) -> Result<AuditRecord, sqlx::Error> {
    let outcome: String = row.try_get("outcome")?;
    let outcome = Outcome::from_str(&outcome).ok_or_else(|| sqlx::Error::ColumnDecode {
        index: "outcome".to_owned(),
        source: format!("unknown outcome {outcome:?}").into(),
    })?;
    Ok(AuditRecord {
        event_id: row.try_get("event_id")?,
        at_ms: row.try_get("at_ms")?,
        request_id: row.try_get("request_id")?,
        client_id: row.try_get("client_id")?,
        subject: row.try_get("subject")?,
        operation: row.try_get("operation")?,
        target: row.try_get("target")?,
        outcome,
        reason: row.try_get("reason")?,
        rows: row.try_get("rows_count")?,
        size_bytes: row.try_get("size_bytes")?,
        elapsed_ms: row.try_get("elapsed_ms")?,
    })
}
