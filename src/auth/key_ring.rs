//! The keys of a running service: rotated here or by another process, and put in use without a restart.
//!
//! Knows key sources and [`Tokens`]; does not know who may rotate.
//! R1 a change of the key folder by another process is in use within a poll; one by this process, at once.
//! R2 a folder that cannot be read changes nothing: the keys in use stay.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::info;

use crate::auth::clock::Clock;
use crate::auth::keys::{Fingerprint, KeyError, KeyInfo, KeySource};
use crate::auth::poll::{self, PollingGuard};
use crate::auth::token::Tokens;

/// Source and users of the keys.
#[derive(Debug)]
pub struct KeyRing {
    source: KeySource,
    tokens: Arc<Tokens>,
    token_lifetime_s: u64,
    clock: Clock,
    /// What the folder looked like when its keys were put in use. Held while it is looked at, so that older keys
    /// never replace newer ones.
    seen: Mutex<Option<Fingerprint>>,
}

impl KeyRing {
    pub(super) fn new(source: KeySource, tokens: Arc<Tokens>, token_lifetime_s: u64, clock: Clock) -> Self {
        Self { source, tokens, token_lifetime_s, clock, seen: Mutex::default() }
    }

    /// The keys in use, the active one first.
    pub fn list(&self) -> Vec<KeyInfo> {
        self.tokens.keys().infos()
    }

    /// See [`crate::auth::KeyFolder::rotate`]. The new active key signs when this returns.
    pub async fn rotate(self: &Arc<Self>, force: bool) -> Result<Vec<KeyInfo>, KeyError> {
        self.blocking(move |ring| {
            ring.source.rotate(ring.clock.now_ms(), ring.token_lifetime_s, force)?;
            ring.look()
        })
        .await?;
        Ok(self.list())
    }

    /// Puts the folder's keys in use if they have changed, and removes retired ones whose time has come; true if
    /// anything had changed.
    pub async fn refresh(self: &Arc<Self>) -> Result<bool, KeyError> {
        self.blocking(|ring| {
            if let KeySource::Folder(folder) = &ring.source {
                folder.prune(ring.clock.now_ms())?;
            }
            ring.look()
        })
        .await
    }

    fn look(&self) -> Result<bool, KeyError> {
        let KeySource::Folder(folder) = &self.source else { return Ok(false) };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref() == Some(&folder.fingerprint()?) {
            return Ok(false);
        }
        let (keys, fingerprint) = folder.read()?;
        // The first look finds what was opened.
        let changed = keys.infos() != self.tokens.keys().infos();
        if changed {
            info!(kid = keys.active().kid(), "signing keys have changed");
            self.tokens.replace_keys(keys);
        }
        *seen = Some(fingerprint);
        Ok(changed)
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let ring = self.clone();
        tokio::task::spawn_blocking(move || work(&ring)).await.unwrap_or(Err(KeyError::Interrupted))
    }

    /// Keeps refreshing until the returned guard is dropped. Needs a tokio runtime.
    pub(super) fn spawn_polling(self: &Arc<Self>, every: Duration) -> PollingGuard {
        poll::spawn(self, every, "the signing keys", |ring| async move { ring.refresh().await })
    }
}
