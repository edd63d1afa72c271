//! Logins of people in a browser: who the holder of a cookie is.
//!
//! Knows the table browser_sessions; does not know cookies or passwords.
//! N1 a session belongs to one user and ends with the user's tokens: disabled, deleted, other password, fewer scopes.
//! N2 it ends after [`SESSION_IDLE_MS`] without use and after [`SESSION_MAX_MS`] in any case.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use sqlx::Row;

use super::AuthorizeError;
use crate::auth::opaque::{is_value, new_value, sha256_hex};
use crate::auth::principal::UserId;
use crate::auth::state::LiveState;
use crate::auth::user::{User, Users};
use crate::store::StoreError;

/// Longest time between two uses: an hour.
pub const SESSION_IDLE_MS: i64 = 3_600_000;
/// Longest session: eight hours.
pub const SESSION_MAX_MS: i64 = 8 * 3_600_000;
/// How exactly the last use is known.
const TOUCH_EVERY_MS: i64 = 60_000;

/// A login that holds.
#[derive(Clone)]
pub struct Session {
    pub user: User,
    /// When the password was shown.
    pub started_at_ms: i64,
    /// The cookie's value, to which forms are bound.
    pub(super) secret: SecretString,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("user_id", &self.user.user_id).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Sessions {
    state: Arc<LiveState>,
    users: Users,
}

impl Sessions {
    pub(super) fn new(state: Arc<LiveState>, users: Users) -> Self {
        Self { state, users }
    }

    /// A new session, always under a new value, and the end of the one that the browser had.
    pub(super) async fn start(
        &self,
        user_id: &UserId,
        started_at_ms: i64,
        before: Option<&str>,
    ) -> Result<SecretString, AuthorizeError> {
        let secret = new_value("")?;
        let pool = self.state.store().pool();
        sqlx::query("DELETE FROM browser_sessions WHERE started_at_ms < $1")
            .bind(started_at_ms.saturating_sub(SESSION_MAX_MS))
            .execute(pool)
            .await
            .map_err(StoreError::from)?;
        sqlx::query(
            "INSERT INTO browser_sessions (session_sha256, user_id, started_at_ms, used_at_ms) \
             VALUES ($1, $2, $3, $3)",
        )
        .bind(sha256_hex(secret.expose_secret()))
        .bind(user_id.as_str())
        .bind(started_at_ms)
        .execute(pool)
        .await
        .map_err(StoreError::from)?;
        if let Some(before) = before {
            self.end(before).await?;
        }
        Ok(secret)
    }

    /// The session of that value, if it holds (N1, N2); it counts as used.
    pub(super) async fn find(&self, value: &str) -> Result<Option<Session>, StoreError> {
        if !is_value("", value) {
            return Ok(None);
        }
        // What another replica has changed about the user counts at once.
        self.state.refresh().await?;
        let sha256 = sha256_hex(value);
        let pool = self.state.store().pool();
        let row = sqlx::query(
            "SELECT user_id, started_at_ms, used_at_ms FROM browser_sessions WHERE session_sha256 = $1",
        )
        .bind(sha256.as_str())
        .fetch_optional(pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (started_at_ms, used_at_ms): (i64, i64) =
            (row.try_get("started_at_ms")?, row.try_get("used_at_ms")?);
        let now_ms = self.state.clock().now_ms();
        let user_id: Option<UserId> = row.try_get::<String, _>("user_id")?.parse().ok();
        let user = user_id.and_then(|user_id| self.users.still_good(&user_id, started_at_ms));
        let is_young = now_ms < started_at_ms.saturating_add(SESSION_MAX_MS)
            && now_ms < used_at_ms.saturating_add(SESSION_IDLE_MS);
        let Some(user) = user.filter(|_| is_young) else {
            self.end(value).await?;
            return Ok(None);
        };
        if now_ms >= used_at_ms.saturating_add(TOUCH_EVERY_MS) {
            sqlx::query("UPDATE browser_sessions SET used_at_ms = $1 WHERE session_sha256 = $2")
                .bind(now_ms)
                .bind(sha256)
                .execute(pool)
                .await?;
        }
        Ok(Some(Session { user, started_at_ms, secret: SecretString::from(value) }))
    }

    /// Ends the session of that value, if there is one.
    pub(super) async fn end(&self, value: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM browser_sessions WHERE session_sha256 = $1")
            .bind(sha256_hex(value))
            .execute(self.state.store().pool())
            .await?;
        Ok(())
    }
}
