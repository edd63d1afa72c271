//! Slows down whoever keeps failing to authenticate, by address, so that nobody can lock a client out from elsewhere.
//!
//! Pure but for its memory, which is bounded. Knows addresses and client ids; does not know secrets or HTTP.
//! H1 failures count against an address, and against a client at an address; never against a client as such.
//! H2 a client that has succeeded from an address is not held up by strangers failing from there under other ids.
//! H3 an entry that has fully recovered is as good as none, and goes first when room is needed.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Failures that a client may have at one address before it must wait.
const PAIR_BURST: f64 = 10.0;
/// One such failure is forgiven every 6 s.
const PAIR_PER_MS: f64 = 1.0 / 6_000.0;
/// Failures that an address may have under any ids before it must wait.
const ADDRESS_BURST: f64 = 100.0;
/// One such failure is forgiven every 0.6 s.
const ADDRESS_PER_MS: f64 = 1.0 / 600.0;
/// Entries of each kind; about 1 MB together.
const MAX_ENTRIES: usize = 10_000;

/// A bucket of failures that may still happen.
#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at_ms: i64,
    succeeded: bool,
}

struct Buckets<K> {
    burst: f64,
    per_ms: f64,
    entries: HashMap<K, Bucket>,
}

impl<K: std::hash::Hash + Eq + Clone> Buckets<K> {
    fn new(burst: f64, per_ms: f64) -> Self {
        Self { burst, per_ms, entries: HashMap::new() }
    }

    fn left(&self, key: &K, now_ms: i64) -> f64 {
        self.entries.get(key).map_or(self.burst, |bucket| self.refilled(bucket, now_ms))
    }

    fn refilled(&self, bucket: &Bucket, now_ms: i64) -> f64 {
        let passed_ms = now_ms.saturating_sub(bucket.at_ms).max(0);
        (bucket.left + passed_ms as f64 * self.per_ms).min(self.burst)
    }

    /// Whole seconds until one more failure is allowed; `None` if it is now.
    fn wait_s(&self, key: &K, now_ms: i64) -> Option<u64> {
        let left = self.left(key, now_ms);
        (left < 1.0).then(|| ((1.0 - left) / self.per_ms / 1000.0).ceil().max(1.0) as u64)
    }

    fn touch(&mut self, key: K, now_ms: i64, change: impl FnOnce(&mut Bucket)) {
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            self.make_room(now_ms);
        }
        let mut bucket = match self.entries.get(&key) {
            Some(bucket) => Bucket { left: self.refilled(bucket, now_ms), at_ms: now_ms, ..*bucket },
            None => Bucket { left: self.burst, at_ms: now_ms, succeeded: false },
        };
        change(&mut bucket);
        self.entries.insert(key, bucket);
    }

    /// Forgets what has recovered (H3), then the quarter that was touched longest ago.
    fn make_room(&mut self, now_ms: i64) {
        let (burst, per_ms) = (self.burst, self.per_ms);
        self.entries.retain(|_, bucket| {
            bucket.succeeded || bucket.left + now_ms.saturating_sub(bucket.at_ms) as f64 * per_ms < burst
        });
        if self.entries.len() < MAX_ENTRIES {
            return;
        }
        let mut ages: Vec<(i64, K)> =
            self.entries.iter().map(|(key, bucket)| (bucket.at_ms, key.clone())).collect();
        ages.sort_by_key(|(at_ms, _)| *at_ms);
        for (_, key) in ages.into_iter().take(MAX_ENTRIES / 4) {
            self.entries.remove(&key);
        }
    }
}

struct Tables {
    by_address: Buckets<IpAddr>,
    by_pair: Buckets<(IpAddr, u64)>,
}

/// The failures of the last minutes.
pub struct Throttle {
    tables: Mutex<Tables>,
    hasher: RandomState,
}

impl Throttle {
    /// Nothing has failed yet.
    pub fn new() -> Self {
        let tables = Tables {
            by_address: Buckets::new(ADDRESS_BURST, ADDRESS_PER_MS),
            by_pair: Buckets::new(PAIR_BURST, PAIR_PER_MS),
        };
        Self { tables: Mutex::new(tables), hasher: RandomState::new() }
    }

    /// How many seconds this client must wait at this address; `None` if it may try now.
    pub fn wait_s(&self, address: IpAddr, client_id: &str, now_ms: i64) -> Option<u64> {
        let (address, pair) = self.keys(address, client_id);
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let known_good = tables.by_pair.entries.get(&pair).is_some_and(|bucket| bucket.succeeded);
        let by_address = if known_good { None } else { tables.by_address.wait_s(&address, now_ms) };
        tables.by_pair.wait_s(&pair, now_ms).max(by_address)
    }

    /// Counts a failed attempt.
    pub fn failed(&self, address: IpAddr, client_id: &str, now_ms: i64) {
        let (address, pair) = self.keys(address, client_id);
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let spend = |bucket: &mut Bucket| bucket.left = (bucket.left - 1.0).max(0.0);
        tables.by_address.touch(address, now_ms, spend);
        tables.by_pair.touch(pair, now_ms, spend);
    }

    /// Remembers that this client belongs to this address (H2). What it failed before stays counted.
    pub fn succeeded(&self, address: IpAddr, client_id: &str, now_ms: i64) {
        let (_, pair) = self.keys(address, client_id);
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.by_pair.touch(pair, now_ms, |bucket| bucket.succeeded = true);
    }

    fn keys(&self, address: IpAddr, client_id: &str) -> (IpAddr, (IpAddr, u64)) {
        // Whoever has one IPv6 address usually has the /64 around it.
        let address = match address {
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => IpAddr::V4(v4),
                None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
            },
            v4 => v4,
        };
        (address, (address, self.hasher.hash_one(client_id)))
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Throttle")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn fail(throttle: &Throttle, address: IpAddr, id: &str, times: usize) {
        (0..times).for_each(|_| throttle.failed(address, id, 0));
    }

    #[test]
    fn a_stranger_cannot_lock_a_client_out_from_another_address() {
        let throttle = Throttle::new();
        fail(&throttle, ELSEWHERE, "victim", 1_000);
        assert!(throttle.wait_s(ELSEWHERE, "victim", 0).is_some());
        assert_eq!(throttle.wait_s(HERE, "victim", 0), None);
    }

    #[test]
    fn a_client_known_at_an_address_is_not_held_up_by_others_failing_there() {
        let throttle = Throttle::new();
        throttle.succeeded(HERE, "good", 0);
        (0..200).for_each(|n| throttle.failed(HERE, &format!("guess{n}"), 0));
        assert!(throttle.wait_s(HERE, "newcomer", 0).is_some());
        assert_eq!(throttle.wait_s(HERE, "good", 0), None);
        fail(&throttle, HERE, "good", 10);
        assert!(throttle.wait_s(HERE, "good", 0).is_some(), "its own failures still count");
    }

    #[test]
    fn waiting_as_long_as_told_lets_one_more_attempt_through() {
        let throttle = Throttle::new();
        fail(&throttle, HERE, "x", 9);
        assert_eq!(throttle.wait_s(HERE, "x", 0), None);
        fail(&throttle, HERE, "x", 1);
        let wait_s = i64::try_from(throttle.wait_s(HERE, "x", 0).unwrap()).unwrap();
        assert!(throttle.wait_s(HERE, "x", wait_s * 500).is_some());
        assert_eq!(throttle.wait_s(HERE, "x", wait_s * 1000), None);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let throttle = Throttle::new();
        (0..10u16).for_each(|n| {
            throttle.failed(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, n, 0, 0, n)), "x", 0);
        });
        let same = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0xffff, 0, 0, 9));
        let other = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1));
        assert!(throttle.wait_s(same, "x", 0).is_some());
        assert_eq!(throttle.wait_s(other, "x", 0), None);
    }

    #[test]
    fn memory_stays_bounded_whatever_ids_are_tried() {
        let throttle = Throttle::new();
        for n in 0..25_000u32 {
            throttle.failed(IpAddr::V4(std::net::Ipv4Addr::from_bits(n)), &n.to_string(), i64::from(n));
        }
        let tables = throttle.tables.lock().unwrap();
        assert!(tables.by_pair.entries.len() <= MAX_ENTRIES);
        assert!(tables.by_address.entries.len() <= MAX_ENTRIES);
        let newest = IpAddr::V4(std::net::Ipv4Addr::from_bits(24_999));
        assert!(tables.by_address.entries.contains_key(&newest), "the newest are kept");
    }
}
