//! Clients that authenticate by a signed assertion: is it by the client's key, and is it new?
//!
//! Knows the registered keys and the table of migration 7; does not know what an assertion must say, which `assertion`
//! beside this folder has checked already.
//! A1 an unknown or disabled client, one that is registered for another way, a wrong key and a used assertion are one
//!    error.
//! A2 an assertion is taken once among all replicas: the row that remembers it is the decision. If it cannot be
//!    written, the assertion is not taken.
//!
//! That the time of the answer differs by a verified signature (some 0.1 ms) between these causes is accepted: client
//! ids are no secrets, and the throttle allows ten failures.

use std::sync::atomic::{AtomicI64, Ordering};

use sha2::{Digest, Sha256};
use tracing::{debug, warn};

use super::{Client, ClientAuthentication, ClientError, Clients};
use crate::auth::assertion::Assertion;
use crate::auth::keys::PublicKeys;
use crate::store::StoreError;

/// How often a process removes what has expired.
const CLEAN_EVERY_MS: i64 = 60_000;
/// How long rows outlive their assertion: another replica's clock may be behind by as much.
const KEPT_LONGER_MS: i64 = 60_000;

/// When this process last removed expired rows.
#[derive(Debug, Default)]
pub(super) struct Cleaning(AtomicI64);

impl Clients {
    /// The client whose assertion this is (A1), which is then used up (A2). The caller has checked what it says.
    pub(in crate::auth) async fn by_assertion(
        &self,
        assertion: &Assertion<'_>,
    ) -> Result<Client, ClientError> {
        let client = match self.signed_by(assertion) {
            Some(client) => client,
            None => {
                // Another process may just have registered the client, or its new key.
                self.state.refresh().await?;
                self.signed_by(assertion).ok_or(ClientError::BadCredentials)?
            }
        };
        self.use_up(assertion).await?;
        Ok(client)
    }

    fn signed_by(&self, assertion: &Assertion<'_>) -> Option<Client> {
        let snapshot = self.state.snapshot();
        let client = &snapshot.clients.get(assertion.client_id.as_str())?.client;
        if client.authentication != ClientAuthentication::PrivateKeyJwt || client.disabled_at_ms.is_some() {
            return None;
        }
        let keys = PublicKeys::parse(client.jwks.as_deref()?)
            .inspect_err(
                |error| warn!(client_id = %client.client_id, %error, "the client's keys cannot be read"),
            )
            .ok()?;
        let kid = assertion.kid.as_deref();
        let holds = keys.verify(assertion.algorithm, kid, assertion.signed, assertion.signature);
        holds.then(|| client.clone())
    }

    async fn use_up(&self, assertion: &Assertion<'_>) -> Result<(), ClientError> {
        self.forget_expired().await;
        let inserted = sqlx::query(
            "INSERT INTO used_assertions (client_id, jti_sha256, expires_at_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (client_id, jti_sha256) DO NOTHING",
        )
        .bind(assertion.client_id.as_str())
        .bind(hex::encode(Sha256::digest(&assertion.jti)))
        .bind(assertion.expires_at_ms)
        .execute(self.state.store().pool())
        .await
        .map_err(StoreError::from)?;
        if inserted.rows_affected() == 1 {
            return Ok(());
        }
        debug!(client_id = %assertion.client_id, "a client assertion was shown again");
        Err(ClientError::BadCredentials)
    }

    /// In passing, and by one request at a time; what stays for now goes the next time.
    async fn forget_expired(&self) {
        let (now_ms, last) = (self.state.clock().now_ms(), &self.used.0);
        let last_ms = last.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(last_ms) >= CLEAN_EVERY_MS
            && last.compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !due {
            return;
        }
        let deleted = sqlx::query("DELETE FROM used_assertions WHERE expires_at_ms < $1")
            .bind(now_ms.saturating_sub(KEPT_LONGER_MS))
            .execute(self.state.store().pool())
            .await;
        if let Err(error) = deleted {
            warn!(%error, "used client assertions that have expired could not be removed");
        }
    }
}
