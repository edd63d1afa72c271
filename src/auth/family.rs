//! Families: all tokens that come from one login, held together by a refresh token that changes with every use.
//!
//! Knows the tables of migration 6; does not know who may refresh, nor how access tokens look.
//! V1 of a family, one refresh token is good at a time; what replaces it is decided in one statement of the database.
//! V2 an earlier one that comes back kills the family (RFC 9700 section 4.14.2): one of the two who hold it is a thief.
//! V3 a dead family takes its access tokens with it, on every replica.
//!
//! A refresh token is `stwr_` and 48 random bytes: 16 that lead to the family, the same in all its tokens, and 32 that
//! are new each time. The table has a hash of either, so that a family is one row however often it is refreshed, and
//! every token that it ever had is known for one of its own.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sqlx::Row;
use sqlx::any::AnyRow;
use subtle::ConstantTimeEq;

use crate::auth::MAX_TOKEN_LIFETIME_S;
use crate::auth::authorize::claim;
use crate::auth::client::{ClientError, fill_random};
use crate::auth::opaque::sha256_hex;
use crate::auth::principal::{ClientId, UserId};
use crate::auth::scope::ScopeSet;
use crate::auth::state::LiveState;
use crate::auth::token::CLOCK_SKEW_MS;
use crate::store::StoreError;

/// What every refresh token begins with, so that scanners and people recognise a leaked one.
pub const REFRESH_PREFIX: &str = "stwr_";
const SELECTOR_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;

/// How long refresh tokens live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshLifetimes {
    /// Longest time between two uses.
    pub idle_s: u64,
    /// Longest time from the login to the last use.
    pub longest_s: u64,
}

impl Default for RefreshLifetimes {
    /// Two weeks, and 90 days.
    fn default() -> Self {
        Self { idle_s: 14 * 86_400, longest_s: 90 * 86_400 }
    }
}

/// A refresh token. Shown to its client and nowhere else: `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RefreshToken(String);

impl RefreshToken {
    /// As the client sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(…)")
    }
}

/// Whose family it is, and what it may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FamilyGrant {
    pub client_id: ClientId,
    pub user_id: UserId,
    pub scopes: ScopeSet,
    /// RFC 8707; empty for the service itself.
    pub resource: String,
    /// When the user showed the password.
    pub authenticated_at_ms: i64,
}

/// A family as the table has it.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pub family_id: String,
    pub grant: FamilyGrant,
    pub started_at_ms: i64,
    ends_at_ms: i64,
}

/// An access token of a family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    pub jti: &'a str,
    pub expires_at_ms: i64,
}

/// What a refresh token is, when it is shown.
#[derive(Debug)]
pub(super) enum Presented {
    /// The one that is good.
    Current(Family),
    /// One that has been used (V2).
    Used(Family),
}

/// The parts of a refresh token.
struct Parts {
    selector: [u8; SELECTOR_BYTES],
    secret: [u8; SECRET_BYTES],
}

impl Parts {
    fn random() -> Result<Self, ClientError> {
        let mut parts = Self { selector: [0; SELECTOR_BYTES], secret: [0; SECRET_BYTES] };
        fill_random(&mut parts.selector)?;
        fill_random(&mut parts.secret)?;
        Ok(parts)
    }

    fn parse(token: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(REFRESH_PREFIX)?).ok()?;
        let (selector, secret) = bytes.split_at_checked(SELECTOR_BYTES)?;
        Some(Self { selector: selector.try_into().ok()?, secret: secret.try_into().ok()? })
    }

    fn successor(&self) -> Result<Self, ClientError> {
        Ok(Self { selector: self.selector, ..Self::random()? })
    }

    fn family_id(&self) -> String {
        sha256_hex(self.selector)
    }

    fn secret_sha256(&self) -> String {
        sha256_hex(self.secret)
    }

    fn to_token(&self) -> RefreshToken {
        let bytes = [&self.selector[..], &self.secret[..]].concat();
        RefreshToken(format!("{REFRESH_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }
}

type Change = sqlx::Transaction<'static, sqlx::Any>;

/// The registry of families.
#[derive(Debug)]
pub(super) struct Families {
    state: Arc<LiveState>,
    idle_ms: i64,
    longest_ms: i64,
}

impl Families {
    pub(super) fn new(state: Arc<LiveState>, lifetimes: RefreshLifetimes) -> Self {
        let milliseconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
        Self { state, idle_ms: milliseconds(lifetimes.idle_s), longest_ms: milliseconds(lifetimes.longest_s) }
    }

    /// Brings the copy in memory of clients and users up to date: a family outlives many changes to them.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        self.state.refresh().await.map(|_| ())
    }

    /// Begins a family with its first access token, and with a refresh token if the client gets them. `code` is used up in the
    /// same transaction; `None` if somebody was first to use it.
    pub(super) async fn start(
        &self,
        grant: &FamilyGrant,
        member: Member<'_>,
        refreshable: bool,
        code: Option<&str>,
    ) -> Result<Option<(String, Option<RefreshToken>)>, ClientError> {
        let parts = Parts::random()?;
        let family_id = parts.family_id();
        let now_ms = self.state.clock().now_ms();
        let ends_at_ms = now_ms.saturating_add(self.longest_ms);
        let expires_at_ms =
            if refreshable { self.next_end(now_ms, ends_at_ms) } else { member.expires_at_ms };
        let mut change = self.state.store().pool().begin().await.map_err(StoreError::from)?;
        if let Some(code) = code {
            let forget_at_ms = ends_at_ms.max(member.expires_at_ms);
            if !claim(&mut change, code, &family_id, now_ms, forget_at_ms).await? {
                change.rollback().await.map_err(StoreError::from)?;
                return Ok(None);
            }
        }
        forget(&mut change, now_ms).await?;
        sqlx::query(
            "INSERT INTO token_families (family_id, client_id, user_id, scopes, resource, authenticated_at_ms, \
             started_at_ms, ends_at_ms, expires_at_ms, refresh_sha256) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(family_id.as_str())
        .bind(grant.client_id.as_str())
        .bind(grant.user_id.as_str())
        .bind(grant.scopes.to_string())
        .bind(grant.resource.as_str())
        .bind(grant.authenticated_at_ms)
        .bind(now_ms)
        .bind(ends_at_ms)
        .bind(expires_at_ms)
        .bind(if refreshable { parts.secret_sha256() } else { String::new() })
        .execute(&mut *change)
        .await
        .map_err(StoreError::from)?;
        insert_member(&mut change, &family_id, member).await?;
        change.commit().await.map_err(StoreError::from)?;
        Ok(Some((family_id, refreshable.then(|| parts.to_token()))))
    }

    /// What that token is; `None` if it is none of ours, or its family has ended.
    pub(super) async fn find(&self, token: &str) -> Result<Option<Presented>, StoreError> {
        let Some(parts) = Parts::parse(token) else { return Ok(None) };
        let row = sqlx::query(
            "SELECT family_id, client_id, user_id, scopes, resource, authenticated_at_ms, started_at_ms, \
             ends_at_ms, expires_at_ms, refresh_sha256, revoked_at_ms FROM token_families WHERE family_id = $1",
        )
        .bind(parts.family_id())
        .fetch_optional(self.state.store().pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let expires_at_ms: i64 = row.try_get("expires_at_ms")?;
        let kept: String = row.try_get("refresh_sha256")?;
        let revoked: Option<i64> = row.try_get("revoked_at_ms")?;
        if revoked.is_some() || kept.is_empty() || self.state.clock().now_ms() >= expires_at_ms {
            return Ok(None);
        }
        let family = family_of_row(&row)?;
        let is_current: bool = kept.as_bytes().ct_eq(parts.secret_sha256().as_bytes()).into();
        Ok(Some(if is_current { Presented::Current(family) } else { Presented::Used(family) }))
    }

    /// Replaces the token by its successor (V1); `None` if somebody was first, or the family has died.
    pub(super) async fn rotate(
        &self,
        family: &Family,
        token: &str,
        member: Member<'_>,
    ) -> Result<Option<RefreshToken>, ClientError> {
        let Some(parts) = Parts::parse(token) else { return Ok(None) };
        let successor = parts.successor()?;
        let now_ms = self.state.clock().now_ms();
        let mut change = self.state.store().pool().begin().await.map_err(StoreError::from)?;
        let updated = sqlx::query(
            "UPDATE token_families SET refresh_sha256 = $1, expires_at_ms = $2 \
             WHERE family_id = $3 AND refresh_sha256 = $4 AND revoked_at_ms IS NULL",
        )
        .bind(successor.secret_sha256())
        .bind(self.next_end(now_ms, family.ends_at_ms))
        .bind(family.family_id.as_str())
        .bind(parts.secret_sha256())
        .execute(&mut *change)
        .await
        .map_err(StoreError::from)?;
        if updated.rows_affected() == 0 {
            change.rollback().await.map_err(StoreError::from)?;
            return Ok(None);
        }
        sqlx::query("DELETE FROM family_tokens WHERE family_id = $1 AND expires_at_ms < $2")
            .bind(family.family_id.as_str())
            .bind(now_ms.saturating_sub(CLOCK_SKEW_MS))
            .execute(&mut *change)
            .await
            .map_err(StoreError::from)?;
        insert_member(&mut change, &family.family_id, member).await?;
        change.commit().await.map_err(StoreError::from)?;
        Ok(Some(successor.to_token()))
    }

    /// Kills a family with all its tokens (V3). Killing a dead one, or none, is fine.
    pub(super) async fn revoke(&self, family_id: &str) -> Result<(), StoreError> {
        let now_ms = self.state.clock().now_ms();
        let mut change = self.state.begin_change().await?;
        // The family's row first: whoever is refreshing it has done so, or will find it dead.
        sqlx::query(
            "UPDATE token_families SET revoked_at_ms = COALESCE(revoked_at_ms, $1) WHERE family_id = $2",
        )
        .bind(now_ms)
        .bind(family_id)
        .execute(&mut *change)
        .await?;
        sqlx::query("DELETE FROM revoked_tokens WHERE expires_at_ms < $1")
            .bind(now_ms.saturating_sub(CLOCK_SKEW_MS))
            .execute(&mut *change)
            .await?;
        let rows = sqlx::query(
            "SELECT m.jti, m.expires_at_ms, f.client_id FROM family_tokens m \
             JOIN token_families f ON f.family_id = m.family_id WHERE m.family_id = $1 AND m.expires_at_ms > $2",
        )
        .bind(family_id)
        .bind(now_ms)
        .fetch_all(&mut *change)
        .await?;
        for row in rows {
            sqlx::query(
                "INSERT INTO revoked_tokens (jti, client_id, revoked_at_ms, expires_at_ms) \
                 VALUES ($1, $2, $3, $4) ON CONFLICT (jti) DO NOTHING",
            )
            .bind(row.try_get::<String, _>("jti")?)
            .bind(row.try_get::<String, _>("client_id")?)
            .bind(now_ms)
            .bind(row.try_get::<i64, _>("expires_at_ms")?)
            .execute(&mut *change)
            .await?;
        }
        self.state.commit_change(change).await
    }

    fn next_end(&self, now_ms: i64, ends_at_ms: i64) -> i64 {
        now_ms.saturating_add(self.idle_ms).min(ends_at_ms)
    }
}

async fn insert_member(change: &mut Change, family_id: &str, member: Member<'_>) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO family_tokens (jti, family_id, expires_at_ms) VALUES ($1, $2, $3)")
        .bind(member.jti)
        .bind(family_id)
        .bind(member.expires_at_ms)
        .execute(&mut **change)
        .await?;
    Ok(())
}

/// Removes families that have ended, and whose last access token has.
async fn forget(change: &mut Change, now_ms: i64) -> Result<(), StoreError> {
    let longest_ms = i64::try_from(MAX_TOKEN_LIFETIME_S).unwrap_or(i64::MAX).saturating_mul(1000);
    sqlx::query("DELETE FROM token_families WHERE expires_at_ms < $1")
        .bind(now_ms.saturating_sub(longest_ms).saturating_sub(CLOCK_SKEW_MS))
        .execute(&mut **change)
        .await?;
    Ok(())
}

fn family_of_row(row: &AnyRow) -> Result<Family, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let decode = |column: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        StoreError::Query(sqlx::Error::ColumnDecode { index: column.to_owned(), source: error })
    };
    Ok(Family {
        family_id: text("family_id")?,
        grant: FamilyGrant {
            client_id: text("client_id")?.parse().map_err(|error| decode("client_id", Box::new(error)))?,
            user_id: text("user_id")?.parse().map_err(|error| decode("user_id", Box::new(error)))?,
            scopes: text("scopes")?.parse().map_err(|error| decode("scopes", Box::new(error)))?,
            resource: text("resource")?,
            authenticated_at_ms: row.try_get("authenticated_at_ms")?,
        },
        started_at_ms: row.try_get("started_at_ms")?,
        ends_at_ms: row.try_get("ends_at_ms")?,
    })
}

#[cfg(test)]
mod tests;
