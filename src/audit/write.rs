//! The writer task: takes what has gathered in the queue and commits it, until the queue is closed and empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use crate::audit::{Message, Row};
use crate::store::{Store, StoreError};

/// Most events of one transaction.
const BATCH_EVENTS: usize = 512;
/// Rows of one statement: with 12 values each, below SQLite's old limit of 999.
const STATEMENT_ROWS: usize = 64;
/// The wait before a failed batch is tried again, doubled each time up to the maximum.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

pub(super) async fn run(mut receiver: mpsc::Receiver<Message>, store: Store, pending: Arc<AtomicUsize>) {
    let mut inbox = Vec::with_capacity(BATCH_EVENTS);
    let mut closers: Vec<oneshot::Sender<()>> = Vec::new();
    while receiver.recv_many(&mut inbox, BATCH_EVENTS).await > 0 {
        let mut rows = Vec::with_capacity(inbox.len());
        let mut waiting = Vec::new();
        for message in inbox.drain(..) {
            match message {
                Message::Event(row) => rows.push(row),
                Message::Flush(done) => waiting.push(done),
                Message::Close(done) => {
                    // From now on senders fail; what is queued is still received.
                    receiver.close();
                    closers.push(done);
                }
            }
        }
        insert_until_done(&store, &rows).await;
        pending.fetch_sub(rows.len(), Ordering::Relaxed);
        answer(waiting);
    }
    answer(closers);
}

fn answer(waiting: Vec<oneshot::Sender<()>>) {
    for done in waiting {
        // Whoever waited may have gone meanwhile.
        let _ = done.send(());
    }
}

async fn insert_until_done(store: &Store, rows: &[Box<Row>]) {
    let mut wait = FIRST_RETRY;
    let mut failing = false;
    while let Err(error) = insert(store, rows).await {
        if !failing {
            error!(%error, events = rows.len(), "cannot write audit events; trying until it works");
            failing = true;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_RETRY);
    }
    if failing {
        info!(events = rows.len(), "writing audit events works again");
    }
}

async fn insert(store: &Store, rows: &[Box<Row>]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut transaction = store.pool().begin().await?;
    for chunk in rows.chunks(STATEMENT_ROWS) {
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement(chunk.len())));
        for row in chunk {
            let event = &row.event;
            query = query
                .bind(row.event_id.as_str())
                .bind(row.at_ms)
                .bind(event.request_id.as_str())
                .bind(event.client_id.as_str())
                .bind(event.subject.as_str())
                .bind(event.operation)
                .bind(event.target.as_str())
                .bind(event.outcome.as_str())
                .bind(event.reason)
                .bind(to_i64(event.rows))
                .bind(to_i64(event.size_bytes))
                .bind(to_i64(event.elapsed_ms));
        }
        query.execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

/// A commit whose answer got lost is tried again, hence `DO NOTHING`.
fn statement(rows: usize) -> String {
    let values: Vec<String> = (0..rows)
        .map(|row| {
            let places: Vec<String> = (1..=12).map(|column| format!("${}", row * 12 + column)).collect();
            format!("({})", places.join(", "))
        })
        .collect();
    format!(
        "INSERT INTO audit_events (event_id, at_ms, request_id, client_id, subject, operation, target, outcome, \
         reason, rows_count, size_bytes, elapsed_ms) VALUES {} ON CONFLICT (event_id) DO NOTHING",
        values.join(", ")
    )
}

fn to_i64(value: Option<u64>) -> Option<i64> {
    value.map(|value| i64::try_from(value).unwrap_or(i64::MAX))
}
