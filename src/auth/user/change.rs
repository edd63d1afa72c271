//! Changing and deleting users.
//!
//! Knows the tables of migration 5. Checks what may be given (U4) in the transaction of the change.

use secrecy::SecretString;

use super::{User, UserError, Users, check, password, select_users, user_of_row};
use crate::auth::MAX_TOKEN_LIFETIME_S;
use crate::auth::principal::{Claims, UserId};
use crate::auth::scope::{Scope, ScopeSet};
use crate::auth::token::CLOCK_SKEW_MS;
use crate::store::StoreError;

/// What to change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserChange {
    pub display_name: Option<String>,
    pub scopes: Option<ScopeSet>,
    pub claims: Option<Claims>,
}

type Change = sqlx::Transaction<'static, sqlx::Any>;

impl Users {
    /// Changes name, scopes and claims. If the new scopes do not cover all of the old, or the claims change, every token
    /// and login until now is dead (U3): tokens carry the claims that row filters go by.
    pub async fn update(&self, user_id: &UserId, change: &UserChange) -> Result<User, UserError> {
        let mut transaction = self.state.begin_change().await?;
        let before = read(&mut transaction, user_id).await?;
        let after = User {
            display_name: change.display_name.clone().unwrap_or_else(|| before.display_name.clone()),
            scopes: change.scopes.clone().unwrap_or_else(|| before.scopes.clone()),
            claims: change.claims.clone().unwrap_or_else(|| before.claims.clone()),
            ..before.clone()
        };
        check(&after.display_name, &after.scopes, &after.claims)?;
        self.require_held(after.scopes.iter().filter(|scope| !before.scopes.covers(scope)))?;
        if after.claims != before.claims {
            // Claims open rows: whoever sets them must hold what they are used with.
            self.require_held(after.scopes.iter())?;
        }
        let narrowed =
            before.scopes.iter().any(|scope| !after.scopes.covers(scope)) || after.claims != before.claims;
        sqlx::query(
            "UPDATE users SET display_name = $1, scopes = $2, claims = $3, \
             tokens_not_before_ms = COALESCE($4, tokens_not_before_ms) WHERE user_id = $5",
        )
        .bind(after.display_name.as_str())
        .bind(after.scopes.to_string())
        .bind(serde_json::Value::Object(after.claims.clone().into_iter().collect()).to_string())
        .bind(narrowed.then(|| self.state.clock().now_ms()))
        .bind(user_id.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::from)?;
        self.state.commit_change(transaction).await?;
        Ok(after)
    }

    /// Gives a user another password, or makes one and returns it. Ends every token and login (U3).
    pub async fn set_password(
        &self,
        user_id: &UserId,
        password: Option<SecretString>,
    ) -> Result<Option<SecretString>, UserError> {
        let username = self.get(user_id).await?.username;
        let (password, shown) = match password {
            Some(password) => (password, None),
            None => {
                let made = password::random()?;
                (made.clone(), Some(made))
            }
        };
        password::check(&username, &password)?;
        let hash = password::hash(password).await?;
        let mut change = self.state.begin_change().await?;
        let user = read(&mut change, user_id).await?;
        // Whoever knows the password can do all that the user may do.
        self.require_held(user.scopes.iter())?;
        sqlx::query("UPDATE users SET password_hash = $1, tokens_not_before_ms = $2 WHERE user_id = $3")
            .bind(hash)
            .bind(self.state.clock().now_ms())
            .bind(user_id.as_str())
            .execute(&mut *change)
            .await
            .map_err(StoreError::from)?;
        self.state.commit_change(change).await?;
        Ok(shown)
    }

    /// Locks a user out and ends its tokens and logins (U3). Disabling twice keeps the first date.
    pub async fn disable(&self, user_id: &UserId) -> Result<(), UserError> {
        let mut change = self.state.begin_change().await?;
        read(&mut change, user_id).await?;
        sqlx::query(
            "UPDATE users SET disabled_at_ms = COALESCE(disabled_at_ms, $1), tokens_not_before_ms = $1 \
             WHERE user_id = $2",
        )
        .bind(self.state.clock().now_ms())
        .bind(user_id.as_str())
        .execute(&mut *change)
        .await
        .map_err(StoreError::from)?;
        Ok(self.state.commit_change(change).await?)
    }

    /// Lets a disabled user in again. Tokens and logins from before stay dead.
    pub async fn enable(&self, user_id: &UserId) -> Result<(), UserError> {
        let mut change = self.state.begin_change().await?;
        let user = read(&mut change, user_id).await?;
        self.require_held(user.scopes.iter())?;
        sqlx::query("UPDATE users SET disabled_at_ms = NULL WHERE user_id = $1")
            .bind(user_id.as_str())
            .execute(&mut *change)
            .await
            .map_err(StoreError::from)?;
        Ok(self.state.commit_change(change).await?)
    }

    /// Removes a user; tokens and logins are dead when this returns, elsewhere within a poll (U3). What the user did stays
    /// in the audit, and what it stored stays until its time to live.
    pub async fn delete(&self, user_id: &UserId) -> Result<(), UserError> {
        let now_ms = self.state.clock().now_ms();
        let mut change = self.state.begin_change().await?;
        read(&mut change, user_id).await?;
        let longest_ms = i64::try_from(MAX_TOKEN_LIFETIME_S).unwrap_or(i64::MAX).saturating_mul(1000);
        sqlx::query("DELETE FROM deleted_users WHERE deleted_at_ms < $1")
            .bind(now_ms.saturating_sub(longest_ms).saturating_sub(CLOCK_SKEW_MS))
            .execute(&mut *change)
            .await
            .map_err(StoreError::from)?;
        sqlx::query("INSERT INTO deleted_users (user_id, deleted_at_ms) VALUES ($1, $2)")
            .bind(user_id.as_str())
            .bind(now_ms)
            .execute(&mut *change)
            .await
            .map_err(StoreError::from)?;
        sqlx::query("DELETE FROM users WHERE user_id = $1")
            .bind(user_id.as_str())
            .execute(&mut *change)
            .await
            .map_err(StoreError::from)?;
        Ok(self.state.commit_change(change).await?)
    }

    /// Refuses unless the holder has each of these scopes (U4).
    pub(super) fn require_held<'a>(&self, scopes: impl Iterator<Item = &'a Scope>) -> Result<(), UserError> {
        let Some(holder) = &self.holder else { return Ok(()) };
        let lacking: Vec<Scope> = scopes.filter(|scope| !holder.covers(scope)).cloned().collect();
        if lacking.is_empty() { Ok(()) } else { Err(UserError::NotHeld { scopes: ScopeSet::new(lacking)? }) }
    }
}

/// The user as the change finds it. Other writers wait until the change ends.
async fn read(change: &mut Change, user_id: &UserId) -> Result<User, UserError> {
    let row = sqlx::query(select_users!("WHERE user_id = $1"))
        .bind(user_id.as_str())
        .fetch_optional(&mut **change)
        .await
        .map_err(StoreError::from)?
        .ok_or_else(|| UserError::NotFound { given: user_id.to_string() })?;
    Ok(user_of_row(&row)?.user)
}
