//! Changing and deleting clients, and who may give them what.
//!
//! Knows the tables of migrations 1 and 4; does not know who may administer clients at all.
//! H1 nobody gives a client what it does not hold itself: neither scopes, nor the secret of a client with more
//!    scopes, nor such a client's way back in. Checked in the transaction of the change, so that no other change
//!    comes in between. Taking away is open to every administrator.
//! H2 a change that takes scopes away, or changes claims, kills the client's tokens; so does deleting it.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::Row;

use super::{
    Client, ClientAuthentication, ClientError, Clients, GrantType, NewClient, check, not_found, words,
};
use crate::auth::MAX_TOKEN_LIFETIME_S;
use crate::auth::principal::{Claims, ClientId};
use crate::auth::scope::{Scope, ScopeSet};
use crate::auth::state::{client_of_row, select_clients};
use crate::auth::token::CLOCK_SKEW_MS;
use crate::store::StoreError;

/// Longest time that an old secret may go on working beside a new one: 30 days.
pub const MAX_OVERLAP_MS: i64 = 30 * 24 * 3600 * 1000;

/// What to change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClientChange {
    pub name: Option<String>,
    pub scopes: Option<ScopeSet>,
    pub claims: Option<Claims>,
    pub authentication: Option<ClientAuthentication>,
    pub grant_types: Option<BTreeSet<GrantType>>,
    pub redirect_uris: Option<Vec<String>>,
    /// `Some(None)` takes the keys away.
    pub jwks: Option<Option<String>>,
    pub audiences: Option<Vec<String>>,
}

/// What may be told about a secret that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// A UUIDv7; no part of the secret.
    pub secret_id: String,
    pub created_at_ms: i64,
    /// When it stops working; `None` for the newest.
    pub expires_at_ms: Option<i64>,
}

type Change = sqlx::Transaction<'static, sqlx::Any>;

impl Clients {
    /// The same registry in the hands of somebody who holds no more than `scopes` (H1).
    pub fn limited_to(&self, scopes: &ScopeSet) -> Self {
        Self { holder: Some(scopes.clone()), ..self.clone() }
    }

    /// Changes what is not `None`. The id stays, though it begins with the old name. If the new scopes do not cover all
    /// of the old, or the claims change, every token issued until now is dead (H2). Scopes that the client already has
    /// need not be held, unless the claims or the ways in change.
    pub async fn update(&self, client_id: &ClientId, change: &ClientChange) -> Result<Client, ClientError> {
        let mut transaction = self.state.begin_change().await?;
        let before = read(&mut transaction, client_id).await?;
        let after = NewClient {
            name: change.name.clone().unwrap_or_else(|| before.name.clone()),
            scopes: change.scopes.clone().unwrap_or_else(|| before.scopes.clone()),
            claims: change.claims.clone().unwrap_or_else(|| before.claims.clone()),
            authentication: change.authentication.unwrap_or(before.authentication),
            grant_types: change.grant_types.clone().unwrap_or_else(|| before.grant_types.clone()),
            redirect_uris: change.redirect_uris.clone().unwrap_or_else(|| before.redirect_uris.clone()),
            jwks: change.jwks.clone().unwrap_or_else(|| before.jwks.clone()),
            audiences: change.audiences.clone().unwrap_or_else(|| before.audiences.clone()),
        };
        check(&after)?;
        self.require_held(after.scopes.iter().filter(|scope| !before.scopes.covers(scope)))?;
        if after.authentication != before.authentication
            || after.jwks != before.jwks
            || after.redirect_uris != before.redirect_uris
            || after.grant_types != before.grant_types
            || after.claims != before.claims
        {
            // Another way in is a way to everything that the client may do, and claims open rows (H1).
            self.require_held(before.scopes.iter())?;
        }
        let narrowed =
            before.scopes.iter().any(|scope| !after.scopes.covers(scope)) || after.claims != before.claims;
        sqlx::query(
            "UPDATE clients SET name = $1, scopes = $2, tokens_not_before_ms = COALESCE($3, tokens_not_before_ms), \
             authentication = $4, grant_types = $5, redirect_uris = $6, jwks = $7, audiences = $8, claims = $9 \
             WHERE client_id = $10",
        )
        .bind(after.name.as_str())
        .bind(after.scopes.to_string())
        .bind(narrowed.then(|| self.state.clock().now_ms()))
        .bind(after.authentication.as_str())
        .bind(words(after.grant_types.iter().map(|grant| grant.as_str())))
        .bind(words(after.redirect_uris.iter().map(String::as_str)))
        .bind(after.jwks.as_deref().unwrap_or_default())
        .bind(words(after.audiences.iter().map(String::as_str)))
        .bind(Value::Object(after.claims.clone().into_iter().collect()).to_string())
        .bind(client_id.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::from)?;
        self.state.commit_change(transaction).await?;
        Ok(Client {
            name: after.name,
            scopes: after.scopes,
            claims: after.claims,
            authentication: after.authentication,
            grant_types: after.grant_types,
            redirect_uris: after.redirect_uris,
            jwks: after.jwks,
            audiences: after.audiences,
            ..before
        })
    }

    /// Removes a client with its secrets; its tokens are dead when this returns, elsewhere within a poll (H2). What it
    /// did stays in the audit, and what it stored stays until its time to live.
    pub async fn delete(&self, client_id: &ClientId) -> Result<(), ClientError> {
        let now_ms = self.state.clock().now_ms();
        let mut transaction = self.state.begin_change().await?;
        read(&mut transaction, client_id).await?;
        let oldest_ms = now_ms
            .saturating_sub(i64::try_from(MAX_TOKEN_LIFETIME_S).unwrap_or(i64::MAX).saturating_mul(1000))
            .saturating_sub(CLOCK_SKEW_MS);
        sqlx::query("DELETE FROM deleted_clients WHERE deleted_at_ms < $1")
            .bind(oldest_ms)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::from)?;
        sqlx::query("INSERT INTO deleted_clients (client_id, deleted_at_ms) VALUES ($1, $2)")
            .bind(client_id.as_str())
            .bind(now_ms)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::from)?;
        for sql in
            ["DELETE FROM client_secrets WHERE client_id = $1", "DELETE FROM clients WHERE client_id = $1"]
        {
            sqlx::query(sql)
                .bind(client_id.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::from)?;
        }
        Ok(self.state.commit_change(transaction).await?)
    }

    /// The secrets that work now, newest first.
    pub async fn secrets(&self, client_id: &ClientId) -> Result<Vec<SecretInfo>, ClientError> {
        let rows = sqlx::query(
            "SELECT secret_id, created_at_ms, expires_at_ms FROM client_secrets \
             WHERE client_id = $1 AND (expires_at_ms IS NULL OR expires_at_ms > $2) ORDER BY secret_id DESC",
        )
        .bind(client_id.as_str())
        .bind(self.state.clock().now_ms())
        .fetch_all(self.state.store().pool())
        .await
        .map_err(StoreError::from)?;
        let info = |row: &sqlx::any::AnyRow| {
            Ok(SecretInfo {
                secret_id: row.try_get("secret_id")?,
                created_at_ms: row.try_get("created_at_ms")?,
                expires_at_ms: row.try_get("expires_at_ms")?,
            })
        };
        Ok(rows.iter().map(info).collect::<Result<_, sqlx::Error>>().map_err(StoreError::from)?)
    }

    /// Refuses unless the holder has each of these scopes (H1).
    pub(super) fn require_held<'a>(
        &self,
        scopes: impl Iterator<Item = &'a Scope>,
    ) -> Result<(), ClientError> {
        let Some(holder) = &self.holder else { return Ok(()) };
        let lacking: Vec<Scope> = scopes.filter(|scope| !holder.covers(scope)).cloned().collect();
        if lacking.is_empty() {
            Ok(())
        } else {
            Err(ClientError::NotHeld { scopes: ScopeSet::new(lacking)? })
        }
    }
}

/// The client as the change finds it. Other writers wait until the change ends.
pub(super) async fn read(change: &mut Change, client_id: &ClientId) -> Result<Client, ClientError> {
    let row = sqlx::query(select_clients!("WHERE client_id = $1"))
        .bind(client_id.as_str())
        .fetch_optional(&mut **change)
        .await
        .map_err(StoreError::from)?
        .ok_or_else(|| not_found(client_id))?;
    Ok(client_of_row(&row)?.0)
}
