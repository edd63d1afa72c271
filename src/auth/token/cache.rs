//! Tokens that have been verified, by the SHA-256 of their text, so that a signature is checked once.
//!
//! Holds only what never changes for a token: expiry and revocation are checked by the caller each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Ancestor;
use crate::auth::principal::Principal;

/// 16 shards of 512 tokens: some 10 MB with principals of the usual size.
const SHARDS: usize = 16;
const TOKENS_PER_SHARD: usize = 512;

/// A token whose signature and fixed claims held; what may change since is checked each time.
pub(in crate::auth) struct Verified {
    pub(in crate::auth) principal: Arc<Principal>,
    /// Ours, or that of a resource that tokens may be asked for.
    pub(in crate::auth) audience: String,
    pub(super) kid: String,
    pub(in crate::auth) jti: String,
    pub(in crate::auth) issued_at_ms: i64,
    pub(in crate::auth) expires_at_ms: i64,
    /// The tokens that it was exchanged for, the nearest first.
    pub(in crate::auth) ancestors: Vec<Ancestor>,
}

type Digest = [u8; 32];

/// At most 8,192 verified tokens.
#[derive(Default)]
pub(super) struct VerifiedTokens {
    shards: [Mutex<HashMap<Digest, Arc<Verified>>>; SHARDS],
}

impl VerifiedTokens {
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Verified>> {
        self.shard(digest).lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    pub(super) fn insert(&self, digest: Digest, verified: Arc<Verified>, now_ms: i64) {
        let mut shard = self.shard(&digest).lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut shard, now_ms);
        shard.insert(digest, verified);
    }

    fn shard(&self, digest: &Digest) -> &Mutex<HashMap<Digest, Arc<Verified>>> {
        &self.shards[usize::from(digest[0]) % SHARDS]
    }
}

/// Drops expired entries when a shard is full, and if that is not enough some arbitrary eighth of it.
fn make_room(shard: &mut HashMap<Digest, Arc<Verified>>, now_ms: i64) {
    if shard.len() < TOKENS_PER_SHARD {
        return;
    }
    shard.retain(|_, verified| verified.expires_at_ms > now_ms);
    if shard.len() >= TOKENS_PER_SHARD {
        let some: Vec<_> = shard.keys().take(TOKENS_PER_SHARD / 8).copied().collect();
        for digest in some {
            shard.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiring_at(expires_at_ms: i64) -> Arc<Verified> {
        Arc::new(Verified {
            principal: Arc::new(Principal::local("x")),
            audience: String::new(),
            kid: String::new(),
            jti: String::new(),
            issued_at_ms: 0,
            expires_at_ms,
            ancestors: vec![],
        })
    }

    fn digest(number: u16) -> Digest {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&number.to_le_bytes());
        digest
    }

    #[test]
    fn memory_stays_bounded_and_expired_tokens_go_first() {
        let cache = VerifiedTokens::default();
        let held = |cache: &VerifiedTokens| -> usize {
            cache.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
        };
        for number in 0..20_000 {
            cache.insert(digest(number), expiring_at(100), 0);
        }
        assert!(held(&cache) <= SHARDS * TOKENS_PER_SHARD);
        assert!(cache.get(&digest(19_999)).is_some(), "the newest is kept");
        for number in 20_000..20_016 {
            cache.insert(digest(number), expiring_at(300), 200);
        }
        for number in 30_000..40_000 {
            cache.insert(digest(number), expiring_at(100), 200);
        }
        assert!(
            (20_000..20_016).all(|number| cache.get(&digest(number)).is_some()),
            "the living outlast the expired"
        );
    }
}
