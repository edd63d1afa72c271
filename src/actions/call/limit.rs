//! How often an API may be called, and when a failing host is left alone. Time is the given clock's; waits nowhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::clock::Clock;

/// Token buckets, one for each API.
pub struct RateLimits {
    clock: Arc<dyn Clock>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    per_minute: u32,
    /// Below zero: reserved by calls that wait.
    tokens: f64,
    at: Instant,
}

impl RateLimits {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, buckets: Mutex::default() }
    }

    /// Takes one request's place: how long to wait for it, or, if that is over `max_wait`, when to come back.
    ///
    /// The bucket holds ten seconds' worth of requests, at least one.
    pub fn reserve(&self, api: &str, per_minute: u32, max_wait: Duration) -> Result<Duration, Duration> {
        let now = self.clock.now();
        let capacity = (f64::from(per_minute) / 6.0).max(1.0);
        let per_second = f64::from(per_minute.max(1)) / 60.0;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket =
            buckets.entry(api.to_owned()).or_insert(Bucket { per_minute, tokens: capacity, at: now });
        if bucket.per_minute != per_minute {
            *bucket = Bucket { per_minute, tokens: capacity, at: now };
        }
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * per_second).min(capacity);
        bucket.at = now;
        let after = bucket.tokens - 1.0;
        let wait = if after >= -1e-9 { Duration::ZERO } else { Duration::from_secs_f64(-after / per_second) };
        if wait > max_wait {
            return Err(wait);
        }
        bucket.tokens = after;
        Ok(wait)
    }
}

/// After so many failures in a row a host is left alone…
pub const FAILURES_TO_OPEN: u32 = 5;
/// …for so long; then one call may try.
pub const OPEN_FOR: Duration = Duration::from_secs(30);

/// Circuit breakers, one for each host and port.
pub struct Breakers {
    clock: Arc<dyn Clock>,
    hosts: Mutex<HashMap<String, Circuit>>,
}

#[derive(Default)]
struct Circuit {
    failures: u32,
    open_until: Option<Instant>,
    trying: bool,
}

/// Why a host is not called now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    pub failures: u32,
    pub retry_after: Duration,
}

/// Leave to call a host once; tells the breaker how it went. Dropped without a word, it counts as neither.
pub struct Permit {
    breakers: Arc<Breakers>,
    host: String,
    is_trial: bool,
    settled: bool,
}

impl Breakers {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, hosts: Mutex::default() })
    }

    /// Leave to call the host, unless it is left alone.
    pub fn admit(self: &Arc<Self>, host: &str) -> Result<Permit, Open> {
        let now = self.clock.now();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let circuit = hosts.entry(host.to_owned()).or_default();
        let mut is_trial = false;
        if let Some(until) = circuit.open_until {
            if now < until || circuit.trying {
                let retry_after = until.saturating_duration_since(now).max(Duration::from_secs(1));
                return Err(Open { failures: circuit.failures, retry_after });
            }
            circuit.trying = true;
            is_trial = true;
        }
        Ok(Permit { breakers: self.clone(), host: host.to_owned(), is_trial, settled: false })
    }
}

impl Permit {
    /// The host answered as it should.
    pub fn succeed(mut self) {
        self.settle(|circuit, _| *circuit = Circuit::default());
    }

    /// The host did not answer, or failed.
    pub fn fail(mut self) {
        self.settle(|circuit, now| {
            circuit.failures = circuit.failures.saturating_add(1);
            circuit.trying = false;
            if circuit.failures >= FAILURES_TO_OPEN {
                circuit.open_until = Some(now + OPEN_FOR);
            }
        });
    }

    fn settle(&mut self, change: impl FnOnce(&mut Circuit, Instant)) {
        self.settled = true;
        let now = self.breakers.clock.now();
        let mut hosts = self.breakers.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        change(hosts.entry(self.host.clone()).or_default(), now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled && self.is_trial {
            self.settle(|circuit, _| circuit.trying = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::clock::manual::ManualClock;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate_then_refuses() {
        let clock = ManualClock::new();
        let limits = RateLimits::new(Arc::new(clock.clone()));
        let reserve = || limits.reserve("a", 12, 8 * SECOND);
        assert_eq!((reserve(), reserve()), (Ok(Duration::ZERO), Ok(Duration::ZERO)));
        let wait = reserve().unwrap();
        assert!((wait.as_secs_f64() - 5.0).abs() < 0.01);
        let retry_after = reserve().unwrap_err();
        assert!((retry_after.as_secs_f64() - 10.0).abs() < 0.01);
        assert_eq!(limits.reserve("b", 12, SECOND), Ok(Duration::ZERO));
        clock.advance(10 * SECOND);
        assert_eq!(reserve(), Ok(Duration::ZERO));
    }

    #[test]
    fn a_breaker_opens_tries_once_and_closes() {
        let clock = ManualClock::new();
        let breakers = Breakers::new(Arc::new(clock.clone()));
        for _ in 0..FAILURES_TO_OPEN {
            breakers.admit("h:1").unwrap().fail();
        }
        assert_eq!(breakers.admit("h:1").err().unwrap().retry_after, OPEN_FOR);
        assert!(breakers.admit("h:2").is_ok());
        clock.advance(OPEN_FOR);
        let trial = breakers.admit("h:1").unwrap();
        assert!(breakers.admit("h:1").is_err());
        drop(trial);
        breakers.admit("h:1").unwrap().fail();
        assert!(breakers.admit("h:1").is_err());
        clock.advance(OPEN_FOR);
        breakers.admit("h:1").unwrap().succeed();
        breakers.admit("h:1").unwrap().fail();
        assert!(breakers.admit("h:1").is_ok());
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let breakers = Breakers::new(Arc::new(ManualClock::new()));
        for _ in 0..3 {
            for _ in 1..FAILURES_TO_OPEN {
                breakers.admit("h").unwrap().fail();
            }
            breakers.admit("h").unwrap().succeed();
        }
        assert!(breakers.admit("h").is_ok());
    }
}
