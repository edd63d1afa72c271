//! What users have allowed clients, remembered so that they are not asked twice.
//!
//! Knows the table consents; does not know why somebody is asked.

use std::sync::Arc;

use sqlx::Row;

use crate::auth::principal::{ClientId, UserId};
use crate::auth::scope::{Scope, ScopeSet};
use crate::auth::state::LiveState;
use crate::store::StoreError;

#[derive(Debug)]
pub(super) struct Consents {
    state: Arc<LiveState>,
}

impl Consents {
    pub(super) fn new(state: Arc<LiveState>) -> Self {
        Self { state }
    }

    /// What the user has allowed the client; nothing, if it never was asked.
    pub(super) async fn of(&self, user_id: &UserId, client_id: &ClientId) -> Result<ScopeSet, StoreError> {
        let row = sqlx::query("SELECT scopes FROM consents WHERE user_id = $1 AND client_id = $2")
            .bind(user_id.as_str())
            .bind(client_id.as_str())
            .fetch_optional(self.state.store().pool())
            .await?;
        let Some(row) = row else { return Ok(ScopeSet::default()) };
        // A row that cannot be read has allowed nothing: the user is asked once more.
        Ok(row.try_get::<String, _>("scopes")?.parse().unwrap_or_default())
    }

    /// Adds what the user has just allowed.
    pub(super) async fn remember(
        &self,
        user_id: &UserId,
        client_id: &ClientId,
        scopes: &ScopeSet,
    ) -> Result<(), StoreError> {
        let before = self.of(user_id, client_id).await?;
        let new: Vec<Scope> = scopes.iter().cloned().collect();
        let all = before.iter().filter(|scope| !scopes.covers(scope)).cloned().chain(new);
        // Where the two are too much for one set, what was allowed last counts.
        let all = ScopeSet::new(all).unwrap_or_else(|_| scopes.clone());
        sqlx::query(
            "INSERT INTO consents (user_id, client_id, scopes, given_at_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (user_id, client_id) DO UPDATE SET scopes = excluded.scopes, \
             given_at_ms = excluded.given_at_ms",
        )
        .bind(user_id.as_str())
        .bind(client_id.as_str())
        .bind(all.to_string())
        .bind(self.state.clock().now_ms())
        .execute(self.state.store().pool())
        .await?;
        Ok(())
    }
}
