//! Looking again and again whether what this process keeps in memory has changed elsewhere.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{error, warn};

/// Ends the polling when dropped.
#[derive(Debug)]
#[must_use = "polling ends when this is dropped"]
pub struct PollingGuard(tokio::task::JoinHandle<()>);

impl Drop for PollingGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Refreshes `of` at every tick until the guard, or the last other handle of `of`, is dropped. Failures are logged when
/// they begin and when they end. Needs a tokio runtime.
pub(super) fn spawn<T, R, E, F>(
    of: &Arc<T>,
    every: Duration,
    what: &'static str,
    refresh: impl Fn(Arc<T>) -> F + Send + 'static,
) -> PollingGuard
where
    T: Send + Sync + 'static,
    E: Display,
    F: Future<Output = Result<R, E>> + Send,
{
    let of = Arc::downgrade(of);
    PollingGuard(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let Some(of) = of.upgrade() else { return };
            let failed = refresh(of).await.err();
            match &failed {
                Some(error) if !failing => error!(%error, "cannot read {what}; going by the last known"),
                None if failing => warn!("reading {what} works again"),
                _ => {}
            }
            failing = failed.is_some();
        }
    }))
}
