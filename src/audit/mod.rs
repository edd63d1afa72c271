//! Audit: who did what, when, how much, with what outcome.
//!
//! Knows the table `audit_events`; does not know what operations mean or how they are reported.
//! U1 append-only: nothing here updates or deletes.
//! U2 an event that [`Audit::record`] has taken is written, however often the database has to be asked again; a full
//!    queue makes the caller wait. Only a process that dies loses what it had not written yet: the queue and one batch at most.
//! U3 no secret, SQL text, argument or document text gets in: operation and reason are texts of the program,
//!    targets are names, cut to a length at which no text of a user's fits.
//!
//! Requests hand events to a channel; one task writes them, as many to a transaction as have gathered meanwhile, so
//! that an idle service writes at once and a busy one in batches.

mod read;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::auth::principal::Principal;
use crate::error::ErrorKind;
use crate::store::{Store, StoreError, now_ms};

pub use read::{AuditQuery, AuditRecord, MAX_LIST_ROWS};

/// Events that may wait to be written before callers wait.
const QUEUE_EVENTS: usize = 4_096;
/// Longest text of a column, in characters; longer ones are cut and end in `…`.
const MAX_TEXT_CHARACTERS: usize = 256;

/// Why an event was not taken, or the log not read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the service is shutting down and audits nothing more; try again")]
    Closed,
    #[error("{pending} audit events could not be written in time; the service database does not answer")]
    NotWritten { pending: usize },
    #[error("limit {given} is out of range; it must be 1 to {MAX_LIST_ROWS}")]
    Limit { given: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AuditError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Closed | Self::NotWritten { .. } => ErrorKind::Unavailable,
            Self::Limit { .. } => ErrorKind::InvalidInput,
            Self::Store(error) => error.kind(),
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// The guard, a policy or a limit said no.
    Refused,
    /// Credentials or scopes did not suffice.
    Denied,
    /// It was allowed, and failed.
    Failed,
}

impl Outcome {
    /// As the table holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }

    fn from_str(text: &str) -> Option<Self> {
        [Self::Ok, Self::Refused, Self::Denied, Self::Failed]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// One thing that somebody did or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Ties the event to the request's log lines and answer.
    pub request_id: String,
    pub client_id: String,
    pub subject: String,
    /// `Operation::name()`, or another name from the program's text.
    pub operation: &'static str,
    /// What it was applied to, by name or id: `model.dataset`, `api.operation`, an index, a document id. Never SQL,
    /// arguments or content.
    pub target: String,
    pub outcome: Outcome,
    /// A rule id or an error kind; static, so that no text of a request can get in (U3).
    pub reason: Option<&'static str>,
    pub rows: Option<u64>,
    pub size_bytes: Option<u64>,
    pub elapsed_ms: Option<u64>,
}

impl Event {
    /// An event of this principal, successful and without measures until set otherwise.
    pub fn new(principal: &Principal, request_id: &str, operation: &'static str, target: &str) -> Self {
        Self {
            request_id: request_id.to_owned(),
            client_id: principal.client_id.to_string(),
            subject: principal.subject.clone(),
            operation,
            target: target.to_owned(),
            outcome: Outcome::Ok,
            reason: None,
            rows: None,
            size_bytes: None,
            elapsed_ms: None,
        }
    }
}

/// An event with its id and time, fit to be stored.
struct Row {
    event_id: String,
    at_ms: i64,
    event: Event,
}

enum Message {
    Event(Box<Row>),
    /// Answered once everything before it is committed.
    Flush(oneshot::Sender<()>),
    /// The same, and nothing is taken after it.
    Close(oneshot::Sender<()>),
}

/// The audit log. Cheap to clone; the last clone to go lets the writer finish what is queued.
#[derive(Clone)]
pub struct Audit {
    sender: mpsc::Sender<Message>,
    pending: Arc<AtomicUsize>,
    store: Store,
}

impl Audit {
    /// Starts the writer. Needs a tokio runtime, which must live until [`Self::close`] has returned.
    pub fn start(store: Store) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_EVENTS);
        let pending = Arc::new(AtomicUsize::new(0));
        tokio::spawn(write::run(receiver, store.clone(), pending.clone()));
        Self { sender, pending, store }
    }

    /// Takes an event, to be written soon. Returns at once unless the queue is full, and then waits (U2). A call
    /// that is dropped while it waits has recorded nothing.
    pub async fn record(&self, event: &Event) -> Result<(), AuditError> {
        let permit = self.sender.reserve().await.map_err(|_| AuditError::Closed)?;
        let mut event = event.clone();
        for text in [&mut event.request_id, &mut event.client_id, &mut event.subject, &mut event.target] {
            make_storable(text);
        }
        self.pending.fetch_add(1, Ordering::Relaxed);
        // The id is made here, so that its order is that of the calls. now_v7 counts up within a millisecond.
        permit.send(Message::Event(Box::new(Row {
            event_id: Uuid::now_v7().to_string(),
            at_ms: now_ms(),
            event,
        })));
        Ok(())
    }

    /// Returns when every event recorded before is in the database.
    pub async fn flush(&self) -> Result<(), AuditError> {
        let (done, wait) = oneshot::channel();
        self.sender.send(Message::Flush(done)).await.map_err(|_| AuditError::Closed)?;
        wait.await.map_err(|_| AuditError::Closed)
    }

    /// Takes no more events and returns when all that were taken are in the database, or with an error that counts
    /// those that are not after `within`. Closing twice is fine.
    pub async fn close(&self, within: Duration) -> Result<(), AuditError> {
        let (done, wait) = oneshot::channel();
        let closing = async {
            if self.sender.send(Message::Close(done)).await.is_ok() {
                let _ = wait.await;
            }
            // Where another call was first, its writer may still be at it.
            self.sender.closed().await;
        };
        let ended = tokio::time::timeout(within, closing).await.is_ok();
        match self.pending.load(Ordering::Relaxed) {
            0 if ended => Ok(()),
            pending => Err(AuditError::NotWritten { pending }),
        }
    }

    /// Reads the log, ordered by event id, hence by time.
    pub async fn list(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, AuditError> {
        read::list(&self.store, query).await
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit")
            .field("pending", &self.pending.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// Replaces control characters, which no name holds (and PostgreSQL takes no NUL), and cuts visibly.
fn make_storable(text: &mut String) {
    if text.chars().any(char::is_control) {
        *text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    }
    if let Some((cut, _)) = text.char_indices().nth(MAX_TEXT_CHARACTERS) {
        text.truncate(cut);
        text.push('…');
    }
}

#[cfg(test)]
mod tests;
