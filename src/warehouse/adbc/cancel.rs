//! Ends a statement at the server when nobody waits for it any more.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use adbc_core::CancelHandle;

/// Between two tries: one may come before the server has begun.
const PAUSE: Duration = Duration::from_millis(100);
/// After which the server's own time limit is left to it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the waiting side and the working side know of each other.
#[derive(Default)]
pub(super) struct Canceller {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_wanted: bool,
    is_done: bool,
    handle: Option<Arc<dyn CancelHandle>>,
}

impl Canceller {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `handle` ends the work. False: it need not begin.
    pub fn begin(&self, handle: Box<dyn CancelHandle>) -> bool {
        let mut state = self.lock();
        state.handle = Some(handle.into());
        !state.is_wanted
    }

    /// The work is over. False: a cancellation may be on its way, and could hit what the connection does next.
    pub fn finish(&self) -> bool {
        let mut state = self.lock();
        state.is_done = true;
        state.handle = None;
        self.changed.notify_all();
        !state.is_wanted
    }

    pub fn is_wanted(&self) -> bool {
        self.lock().is_wanted
    }

    /// Tries until the work is over.
    fn pursue(&self) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let handle = match self.lock() {
                state if state.is_done => return,
                state => state.handle.clone(),
            };
            // A driver that cannot cancel ends at its next batch.
            let can = handle.is_none_or(|handle| handle.try_cancel().is_ok());
            let state = self.lock();
            if state.is_done || !can {
                return;
            }
            drop(self.changed.wait_timeout(state, PAUSE));
        }
    }
}

/// Cancels when dropped, unless the work is over.
pub(super) struct CancelOnDrop(pub Arc<Canceller>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_wanted = true;
        let is_done = state.is_done;
        drop(state);
        if !is_done {
            let canceller = self.0.clone();
            // Cancelling asks the server over the network: not on the thread that drops.
            let spawned =
                std::thread::Builder::new().name("cancel".to_owned()).spawn(move || canceller.pursue());
            if let Err(error) = spawned {
                tracing::warn!(%error, "a query is left to its time limit at the server");
            }
        }
    }
}
