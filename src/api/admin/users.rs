//! Users over HTTP. A user is named by its id or its username.

use std::sync::Arc;

use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::Password;
use poem_openapi::{ApiResponse, Object, OpenApi};
use secrecy::{ExposeSecret, SecretString};

use super::{ClaimValues, Deleted, claim_values, claims, no_store, scope_set, words};
use crate::api::ApiTag;
use crate::api::caller::{ApiScope, Caller, failed};
use crate::api::problem::ApiError;
use crate::auth::{self, NewUser, UserChange};
use crate::engine::Engine;

/// A registered user.
#[derive(Debug, Object)]
pub struct User {
    /// The claim sub of the user's tokens.
    pub user_id: String,
    /// What one logs in with; unique, in lower case.
    pub username: String,
    /// For people. Any text: escape it before it becomes HTML.
    pub display_name: String,
    /// The most that a token for the user may hold.
    pub scopes: Vec<String>,
    /// What row filters see of the user.
    pub claims: ClaimValues,
    /// Epoch milliseconds.
    pub created_at_ms: i64,
    /// Epoch milliseconds; null: enabled.
    pub disabled_at_ms: Option<i64>,
}

// No Debug: it holds a password.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub struct CreateUserRequest {
    /// 1 to 64 of a-z, 0-9, and . _ - @ + in between.
    pub username: String,
    /// 1 to 64 characters; the username if absent.
    pub display_name: Option<String>,
    /// 12 characters to 1,024 bytes. One is made, and shown once, if absent.
    #[oai(write_only)]
    pub password: Option<Password>,
    /// Only scopes that you hold yourself.
    pub scopes: Vec<String>,
    /// What row filters see of the user: strings, numbers, booleans, or lists of them.
    pub claims: Option<ClaimValues>,
}

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct UpdateUserRequest {
    /// Absent: stays.
    pub display_name: Option<String>,
    /// Absent: stay. Taking scopes away ends the user's tokens and logins; giving some takes holding them.
    pub scopes: Option<Vec<String>>,
    /// Absent: stay. All that the user is to have; changing them ends its tokens and logins, and takes holding all of its
    /// scopes.
    pub claims: Option<ClaimValues>,
}

// No Debug: it holds a password.
#[derive(Object)]
#[oai(deny_unknown_fields)]
pub struct SetPasswordRequest {
    /// 12 characters to 1,024 bytes. One is made, and shown once, if absent.
    #[oai(write_only)]
    pub password: Option<Password>,
}

/// A user, with the password if it was made here: it is shown this once.
#[derive(Object)]
pub struct CreatedUser {
    pub user: User,
    #[oai(skip_serializing_if_is_none)]
    pub password: Option<String>,
}

/// The user whose password has changed, with the password if it was made here: it is shown this once.
#[derive(Object)]
pub struct ChangedPassword {
    pub user_id: String,
    pub username: String,
    #[oai(skip_serializing_if_is_none)]
    pub password: Option<String>,
}

#[derive(ApiResponse)]
pub enum Created {
    /// Registered.
    #[oai(status = 201)]
    User(Json<CreatedUser>, #[oai(header = "Cache-Control")] String),
}

#[derive(ApiResponse)]
pub enum Changed {
    /// Changed.
    #[oai(status = 200)]
    Password(Json<ChangedPassword>, #[oai(header = "Cache-Control")] String),
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(prefix_path = "/admin/api", tag = "ApiTag::Admin")]
impl Api {
    /// List the users by username.
    #[oai(path = "/users", method = "get", operation_id = "list_users")]
    async fn users(
        &self,
        #[oai(scope = "ApiScope::AdminUsers")] caller: Caller,
    ) -> Result<Json<Vec<User>>, ApiError> {
        let list = self.0.list_users(&caller.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.into_iter().map(user).collect()))
    }

    /// Register a user with scopes that you hold yourself; a password that is made for it is shown once.
    #[oai(path = "/users", method = "post", operation_id = "create_user")]
    async fn create(
        &self,
        #[oai(scope = "ApiScope::AdminUsers")] caller: Caller,
        body: Json<CreateUserRequest>,
    ) -> Result<Created, ApiError> {
        let failed = failed(&self.0, &caller.0);
        let new = NewUser {
            username: body.0.username,
            display_name: body.0.display_name.unwrap_or_default(),
            password: body.0.password.map(secret),
            scopes: scope_set(&body.0.scopes).map_err(&failed)?,
            claims: body.0.claims.map(claims).unwrap_or_default(),
        };
        let made = self.0.create_user(&caller.0, &new).await.map_err(&failed)?;
        let shown = CreatedUser { user: user(made.user), password: made.password.map(shown) };
        Ok(Created::User(Json(shown), no_store()))
    }

    /// Fetch one user.
    #[oai(path = "/users/:id", method = "get", operation_id = "get_user")]
    async fn user(
        &self,
        #[oai(scope = "ApiScope::AdminUsers")] caller: Caller,
        id: Path<String>,
    ) -> Result<Json<User>, ApiError> {
        let found = self.0.get_user(&caller.0, &id.0).await;
        Ok(Json(user(found.map_err(failed(&self.0, &caller.0))?)))
    }

    /// Change a user's display name, scopes or claims; taking scopes away or changing claims ends its tokens and logins.
    #[oai(path = "/users/:id", method = "patch", operation_id = "update_user")]
    async fn update(
        &self,
        #[oai(scope = "ApiScope::AdminUsers")] caller: Caller,
        id: Path<String>,
        body: Json<UpdateUserRequest>,
    ) -> Result<Json<User>, ApiError> {
        let failed = failed(&self.0, &caller.0);
        let change = UserChange {
            display_name: body.0.display_name,
            scopes: body.0.scopes.as_deref().map(scope_set).transpose().map_err(&failed)?,
            claims: body.0.claims.map(claims),
        };
        Ok(Json(user(self.0.update_user(&caller.0, &id.0, &change).await.map_err(&failed)?)))
    }

    /// Delete a user; its tokens and logins end at once, what it did stays in the audit.
    #[oai(path = "/users/:id", method = "delete", operation_id = "delete_user")]
    async fn delete(
        &self,
        #[oai(scope = "ApiScope::AdminUsers")] caller: Caller,
        id: Path<String>,
    ) -> Result<Deleted, ApiError> {
        self.0.delete_user(&caller.0, &id.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Deleted::Gone)
    }

    /// Give a user another password; its tokens and logins end at once. Takes holding all of its scopes.
    #[oai(path = "/users/:id/password", method = "post", operation_id = "set_user_password")]
    async fn set_password(
        &self,
        #[oai(scope = "ApiScope::AdminUsers")] caller: Caller,
        id: Path<String>,
        body: Json<SetPasswordRequest>,
    ) -> Result<Changed, ApiError> {
        let changed = self.0.set_user_password(&caller.0, &id.0, body.0.password.map(secret)).await;
        let changed = changed.map_err(failed(&self.0, &caller.0))?;
        let shown = ChangedPassword {
            user_id: changed.user.user_id.to_string(),
            username: changed.user.username,
            password: changed.password.map(shown),
        };
        Ok(Changed::Password(Json(shown), no_store()))
    }

    /// Lock a user out; its tokens and logins end at once.
    #[oai(path = "/users/:id/disable", method = "post", operation_id = "disable_user")]
    async fn disable(
        &self,
        #[oai(scope = "ApiScope::AdminUsers")] caller: Caller,
        id: Path<String>,
    ) -> Result<Json<User>, ApiError> {
        let changed = self.0.disable_user(&caller.0, &id.0).await;
        Ok(Json(user(changed.map_err(failed(&self.0, &caller.0))?)))
    }

    /// Let a disabled user in again. Takes holding all of its scopes.
    #[oai(path = "/users/:id/enable", method = "post", operation_id = "enable_user")]
    async fn enable(
        &self,
        #[oai(scope = "ApiScope::AdminUsers")] caller: Caller,
        id: Path<String>,
    ) -> Result<Json<User>, ApiError> {
        let changed = self.0.enable_user(&caller.0, &id.0).await;
        Ok(Json(user(changed.map_err(failed(&self.0, &caller.0))?)))
    }
}

fn secret(password: Password) -> SecretString {
    SecretString::from(password.0)
}

fn shown(password: SecretString) -> String {
    password.expose_secret().to_owned()
}

fn user(item: auth::User) -> User {
    User {
        user_id: item.user_id.to_string(),
        username: item.username,
        display_name: item.display_name,
        scopes: words(&item.scopes),
        claims: claim_values(item.claims),
        created_at_ms: item.created_at_ms,
        disabled_at_ms: item.disabled_at_ms,
    }
}
