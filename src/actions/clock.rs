//! Time as the callers of external APIs see it, so that tests need no waiting.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;

/// A monotonic clock. `sleep(d)` returns once `now()` has moved by at least `d`.
pub trait Clock: Send + Sync {
    fn now(&self) -> Instant;
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
pub(crate) mod manual {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Moves only when told to, or when somebody sleeps on it.
    #[derive(Clone)]
    pub struct ManualClock {
        start: Instant,
        passed: Arc<Mutex<Duration>>,
        slept: Arc<Mutex<Vec<Duration>>>,
    }

    impl ManualClock {
        pub fn new() -> Self {
            Self { start: Instant::now(), passed: Arc::default(), slept: Arc::default() }
        }

        pub fn advance(&self, by: Duration) {
            *self.passed.lock().unwrap() += by;
        }

        pub fn slept(&self) -> Vec<Duration> {
            self.slept.lock().unwrap().clone()
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> Instant {
            self.start + *self.passed.lock().unwrap()
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            self.advance(duration);
            self.slept.lock().unwrap().push(duration);
            Box::pin(std::future::ready(()))
        }
    }
}
