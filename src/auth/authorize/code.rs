//! Authorization codes: what a browser carries from the consent page to the client (RFC 6749 section 4.1.2).
//!
//! Knows the table authorization_codes; does not know who may redeem a code.
//! K1 a code is good once and for [`CODE_LIFETIME_MS`]; of two that use it at the same time, one has it.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::auth::client::ClientError;
use crate::auth::opaque::{is_value, new_value, sha256_hex};
use crate::auth::principal::{ClientId, UserId};
use crate::auth::scope::ScopeSet;
use crate::auth::state::LiveState;
use crate::store::StoreError;

/// What every code begins with.
const CODE_PREFIX: &str = "stwc_";
/// RFC 6749 section 4.1.2 allows ten minutes; the client has it within a second.
pub const CODE_LIFETIME_MS: i64 = 60_000;

/// What a code stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::auth) struct CodeGrant {
    pub client_id: ClientId,
    pub user_id: UserId,
    /// As the request gave it; `None` if it gave none.
    pub redirect_uri: Option<String>,
    pub scopes: ScopeSet,
    /// RFC 8707; empty for the service itself.
    pub resource: String,
    pub code_challenge: String,
    /// When the user showed the password.
    pub authenticated_at_ms: i64,
}

/// A code as the table has it.
#[derive(Debug, Clone)]
pub(in crate::auth) struct CodeRecord {
    pub grant: CodeGrant,
    pub issued_at_ms: i64,
    pub expires_at_ms: i64,
    pub is_used: bool,
    /// Of the tokens that it gave; empty if it gave none.
    pub family_id: String,
}

#[derive(Debug, Clone)]
pub(in crate::auth) struct Codes {
    state: Arc<LiveState>,
}

impl Codes {
    pub(in crate::auth) fn new(state: Arc<LiveState>) -> Self {
        Self { state }
    }

    /// Makes a code, and forgets those that nobody can mean any more.
    pub(in crate::auth) async fn issue(&self, grant: &CodeGrant) -> Result<SecretString, ClientError> {
        let code = new_value(CODE_PREFIX)?;
        let pool = self.state.store().pool();
        let now_ms = self.state.clock().now_ms();
        sqlx::query("DELETE FROM authorization_codes WHERE forget_at_ms < $1")
            .bind(now_ms)
            .execute(pool)
            .await
            .map_err(StoreError::from)?;
        sqlx::query(
            "INSERT INTO authorization_codes (code_sha256, client_id, user_id, redirect_uri, scopes, resource, \
             code_challenge, authenticated_at_ms, issued_at_ms, expires_at_ms, forget_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)",
        )
        .bind(sha256_hex(code.expose_secret()))
        .bind(grant.client_id.as_str())
        .bind(grant.user_id.as_str())
        .bind(grant.redirect_uri.as_deref().unwrap_or_default())
        .bind(grant.scopes.to_string())
        .bind(grant.resource.as_str())
        .bind(grant.code_challenge.as_str())
        .bind(grant.authenticated_at_ms)
        .bind(now_ms)
        .bind(now_ms.saturating_add(CODE_LIFETIME_MS))
        .execute(pool)
        .await
        .map_err(StoreError::from)?;
        Ok(code)
    }

    /// What is known about a code, used ones among them.
    pub(in crate::auth) async fn find(&self, code: &str) -> Result<Option<CodeRecord>, StoreError> {
        if !is_value(CODE_PREFIX, code) {
            return Ok(None);
        }
        let row = sqlx::query(
            "SELECT client_id, user_id, redirect_uri, scopes, resource, code_challenge, authenticated_at_ms, \
             issued_at_ms, expires_at_ms, used_at_ms, family_id FROM authorization_codes WHERE code_sha256 = $1",
        )
        .bind(sha256_hex(code))
        .fetch_optional(self.state.store().pool())
        .await?;
        row.map(|row| code_of_row(&row)).transpose()
    }

    /// Uses a code up without giving anything for it.
    pub(in crate::auth) async fn burn(&self, code: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE authorization_codes SET used_at_ms = $1 WHERE code_sha256 = $2 AND used_at_ms IS NULL",
        )
        .bind(self.state.clock().now_ms())
        .bind(sha256_hex(code))
        .execute(self.state.store().pool())
        .await?;
        Ok(())
    }
}

/// Takes a code for that family within the transaction that makes the family; false if somebody was first (K1).
pub(in crate::auth) async fn claim(
    change: &mut sqlx::Transaction<'static, sqlx::Any>,
    code: &str,
    family_id: &str,
    now_ms: i64,
    forget_at_ms: i64,
) -> Result<bool, StoreError> {
    let updated = sqlx::query(
        "UPDATE authorization_codes SET used_at_ms = $1, family_id = $2, forget_at_ms = $3 \
         WHERE code_sha256 = $4 AND used_at_ms IS NULL",
    )
    .bind(now_ms)
    .bind(family_id)
    .bind(forget_at_ms)
    .bind(sha256_hex(code))
    .execute(&mut **change)
    .await?;
    Ok(updated.rows_affected() == 1)
}

fn code_of_row(row: &AnyRow) -> Result<CodeRecord, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let decode = |column: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        StoreError::Query(sqlx::Error::ColumnDecode { index: column.to_owned(), source: error })
    };
    Ok(CodeRecord {
        grant: CodeGrant {
            client_id: text("client_id")?.parse().map_err(|error| decode("client_id", Box::new(error)))?,
            user_id: text("user_id")?.parse().map_err(|error| decode("user_id", Box::new(error)))?,
            redirect_uri: Some(text("redirect_uri")?).filter(|uri| !uri.is_empty()),
            scopes: text("scopes")?.parse().map_err(|error| decode("scopes", Box::new(error)))?,
            resource: text("resource")?,
            code_challenge: text("code_challenge")?,
            authenticated_at_ms: row.try_get("authenticated_at_ms")?,
        },
        issued_at_ms: row.try_get("issued_at_ms")?,
        expires_at_ms: row.try_get("expires_at_ms")?,
        is_used: row.try_get::<Option<i64>, _>("used_at_ms")?.is_some(),
        family_id: text("family_id")?,
    })
}
