//! What the administrative commands share: the service database, and the audit of what the owner does.
//!
//! The owner of the process may do everything; that it was done is in the audit all the same.

use std::future::Future;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat};

use super::CliError;
use crate::audit::{Audit, Event, Outcome};
use crate::auth::{Claims, Operation, Principal};
use crate::config::Config;
use crate::store::Store;

/// The service database, beside a running service or without one.
pub async fn open_store(config: &Config) -> Result<Store, CliError> {
    Ok(Store::open(&config.database_url, &config.data_dir).await?)
}

/// Does the work and records how it ended; fails if that could not be recorded, though the work is done then.
pub async fn audited<T>(
    store: &Store,
    operation: Operation,
    target: &str,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let started = Instant::now();
    let outcome = work.await;
    let user = std::env::var("USER").unwrap_or_else(|_| "owner".to_owned());
    let request_id = uuid::Uuid::now_v7().to_string();
    let mut event = Event::new(&Principal::local(&user), &request_id, operation.name(), target);
    event.elapsed_ms = u64::try_from(started.elapsed().as_millis()).ok();
    if let Err(error) = &outcome {
        event.outcome = Outcome::Failed;
        event.reason = Some(error.kind().as_str());
    }
    let audit = Audit::start(store.clone());
    audit.record(&event).await?;
    audit.close(Duration::from_secs(10)).await?;
    outcome
}

/// Claims as somebody writes them at the command line.
pub fn claims(text: &str) -> Result<Claims, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("claims are a JSON object such as {{\"carrier\": \"UA\"}}: {error}"))
}

/// RFC 3339 in UTC, to the second.
pub fn time(epoch_ms: i64) -> String {
    DateTime::from_timestamp_millis(epoch_ms)
        .map_or_else(|| epoch_ms.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}
