//! Administration over HTTP: clients, signing keys, the audit log.

use std::sync::Arc;

use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use secrecy::ExposeSecret;

use super::ApiTag;
use super::caller::{ApiScope, Caller, failed};
use super::problem::ApiError;
use crate::audit::{AuditQuery, AuditRecord, Outcome};
use crate::auth::{self, ClientChange, KeyInfo, NewClient, ScopeSet};
use crate::engine::{Engine, EngineError};

/// A registered client.
#[derive(Debug, Object)]
pub struct Client {
    pub client_id: String,
    /// For people; need not be unique. Any text: escape it before it becomes HTML.
    pub name: String,
    /// The most that its tokens may hold.
    pub scopes: Vec<String>,
    /// Epoch milliseconds.
    pub created_at_ms: i64,
    /// Epoch milliseconds; null: enabled.
    pub disabled_at_ms: Option<i64>,
    /// Secrets that work, newest first; only where one client is asked for.
    #[oai(skip_serializing_if_is_none)]
    pub secrets: Option<Vec<Secret>>,
}

/// What is known about a secret: not the secret.
#[derive(Debug, Object)]
pub struct Secret {
    pub secret_id: String,
    /// Epoch milliseconds.
    pub created_at_ms: i64,
    /// Epoch milliseconds; null: works until it is replaced.
    pub expires_at_ms: Option<i64>,
}

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct CreateClientRequest {
    /// 1 to 64 characters; also the readable part of the id.
    pub name: String,
    /// Only scopes that you hold yourself.
    pub scopes: Vec<String>,
}

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct UpdateClientRequest {
    /// Absent: stays.
    pub name: Option<String>,
    /// Absent: stay. Taking scopes away ends the client's tokens; giving some takes holding them.
    pub scopes: Option<Vec<String>>,
}

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct RotateSecretRequest {
    /// How long the newest of the old secrets goes on working, up to 30 days.
    #[oai(default = "one_day_s")]
    pub overlap_seconds: u32,
}

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct RotateKeysRequest {
    /// Also if the next key was published only minutes ago: verifiers that cached the JWKS refuse its tokens until
    /// they fetch it again.
    #[oai(default)]
    pub force: bool,
}

/// A client with its secret, which is shown this once.
#[derive(Debug, Object)]
pub struct CreatedClient {
    pub client: Client,
    pub client_secret: String,
    pub token_url: String,
}

/// A secret, which is shown this once.
#[derive(Debug, Object)]
pub struct CreatedSecret {
    pub client_id: String,
    pub client_secret: String,
    /// Secrets that work now, newest first.
    pub secrets: Vec<Secret>,
}

#[derive(ApiResponse)]
pub enum Created {
    /// Registered.
    #[oai(status = 201)]
    Client(Json<CreatedClient>, #[oai(header = "Cache-Control")] String),
}

#[derive(ApiResponse)]
pub enum Rotated {
    /// Made.
    #[oai(status = 201)]
    Secret(Json<CreatedSecret>, #[oai(header = "Cache-Control")] String),
}

#[derive(ApiResponse)]
pub enum Deleted {
    /// Gone.
    #[oai(status = 204)]
    Gone,
}

#[derive(Debug, Object)]
pub struct Key {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// ES256, RS256 or EdDSA.
    pub algorithm: String,
    /// active signs; next will; retired only verifies.
    pub state: String,
    /// Epoch milliseconds; null for a key from the environment.
    pub made_at_ms: Option<i64>,
    /// Epoch milliseconds.
    pub retired_at_ms: Option<i64>,
    /// Epoch milliseconds: by then every token of a retired key has expired.
    pub kept_until_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum AuditOutcome {
    Ok,
    Refused,
    Denied,
    Failed,
}

#[derive(Debug, Object)]
pub struct AuditEvent {
    pub event_id: String,
    /// Epoch milliseconds.
    pub at_ms: i64,
    pub request_id: String,
    pub client_id: String,
    pub subject: String,
    pub operation: String,
    pub target: String,
    /// ok, refused (guard, policy or limit), denied (credentials or scopes) or failed.
    pub outcome: String,
    pub reason: Option<String>,
    pub rows: Option<i64>,
    pub size_bytes: Option<i64>,
    pub elapsed_ms: Option<i64>,
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(prefix_path = "/admin/api", tag = "ApiTag::Admin")]
impl Api {
    /// List the clients, oldest first.
    #[oai(path = "/clients", method = "get", operation_id = "list_clients")]
    async fn clients(
        &self,
        #[oai(scope = "ApiScope::AdminClients")] caller: Caller,
    ) -> Result<Json<Vec<Client>>, ApiError> {
        let list = self.0.list_clients(&caller.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.into_iter().map(client).collect()))
    }

    /// Register a client with scopes that you hold yourself; its secret is shown once.
    #[oai(path = "/clients", method = "post", operation_id = "create_client")]
    async fn create(
        &self,
        #[oai(scope = "ApiScope::AdminClients")] caller: Caller,
        body: Json<CreateClientRequest>,
    ) -> Result<Created, ApiError> {
        let failed = failed(&self.0, &caller.0);
        let scopes = scope_set(&body.0.scopes).map_err(&failed)?;
        let new = NewClient { name: body.0.name, scopes, ..NewClient::default() };
        let made = self.0.create_client(&caller.0, &new).await.map_err(&failed)?;
        let shown = CreatedClient {
            client: client(made.client),
            client_secret: made.secret.expose_secret().to_owned(),
            token_url: format!("{}/oauth/token", self.0.config().public_url()),
        };
        Ok(Created::Client(Json(shown), no_store()))
    }

    /// Fetch one client, with what is known about its secrets.
    #[oai(path = "/clients/:id", method = "get", operation_id = "get_client")]
    async fn client(
        &self,
        #[oai(scope = "ApiScope::AdminClients")] caller: Caller,
        id: Path<String>,
    ) -> Result<Json<Client>, ApiError> {
        let (found, secrets) =
            self.0.get_client(&caller.0, &id.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(Client { secrets: Some(secrets.into_iter().map(secret).collect()), ..client(found) }))
    }

    /// Change a client's name or scopes; taking scopes away ends its tokens.
    #[oai(path = "/clients/:id", method = "patch", operation_id = "update_client")]
    async fn update(
        &self,
        #[oai(scope = "ApiScope::AdminClients")] caller: Caller,
        id: Path<String>,
        body: Json<UpdateClientRequest>,
    ) -> Result<Json<Client>, ApiError> {
        let failed = failed(&self.0, &caller.0);
        let scopes = body.0.scopes.as_deref().map(scope_set).transpose().map_err(&failed)?;
        let change = ClientChange { name: body.0.name, scopes, ..ClientChange::default() };
        Ok(Json(client(self.0.update_client(&caller.0, &id.0, &change).await.map_err(&failed)?)))
    }

    /// Delete a client; its tokens end at once, what it did stays in the audit.
    #[oai(path = "/clients/:id", method = "delete", operation_id = "delete_client")]
    async fn delete(
        &self,
        #[oai(scope = "ApiScope::AdminClients")] caller: Caller,
        id: Path<String>,
    ) -> Result<Deleted, ApiError> {
        self.0.delete_client(&caller.0, &id.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Deleted::Gone)
    }

    /// Make a new secret for a client; the old one goes on working for the overlap.
    #[oai(path = "/clients/:id/secrets", method = "post", operation_id = "rotate_client_secret")]
    async fn rotate_secret(
        &self,
        #[oai(scope = "ApiScope::AdminClients")] caller: Caller,
        id: Path<String>,
        body: Json<RotateSecretRequest>,
    ) -> Result<Rotated, ApiError> {
        let overlap_ms = i64::from(body.0.overlap_seconds) * 1000;
        let made = self.0.rotate_client_secret(&caller.0, &id.0, overlap_ms).await;
        let made = made.map_err(failed(&self.0, &caller.0))?;
        let shown = CreatedSecret {
            client_id: id.0,
            client_secret: made.secret.expose_secret().to_owned(),
            secrets: made.secrets.into_iter().map(secret).collect(),
        };
        Ok(Rotated::Secret(Json(shown), no_store()))
    }

    /// Lock a client out; its tokens end at once.
    #[oai(path = "/clients/:id/disable", method = "post", operation_id = "disable_client")]
    async fn disable(
        &self,
        #[oai(scope = "ApiScope::AdminClients")] caller: Caller,
        id: Path<String>,
    ) -> Result<Json<Client>, ApiError> {
        let changed = self.0.disable_client(&caller.0, &id.0).await;
        Ok(Json(client(changed.map_err(failed(&self.0, &caller.0))?)))
    }

    /// Let a disabled client in again.
    #[oai(path = "/clients/:id/enable", method = "post", operation_id = "enable_client")]
    async fn enable(
        &self,
        #[oai(scope = "ApiScope::AdminClients")] caller: Caller,
        id: Path<String>,
    ) -> Result<Json<Client>, ApiError> {
        let changed = self.0.enable_client(&caller.0, &id.0).await;
        Ok(Json(client(changed.map_err(failed(&self.0, &caller.0))?)))
    }

    /// List the signing keys with their states, the active one first.
    #[oai(path = "/keys", method = "get", operation_id = "list_keys")]
    async fn keys(
        &self,
        #[oai(scope = "ApiScope::AdminKeys")] caller: Caller,
    ) -> Result<Json<Vec<Key>>, ApiError> {
        let list = self.0.list_keys(&caller.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.into_iter().map(key).collect()))
    }

    /// Sign with the next key from now on, and retire the active one. 409 while the next key is too young.
    #[oai(path = "/keys/rotate", method = "post", operation_id = "rotate_keys")]
    async fn rotate_keys(
        &self,
        #[oai(scope = "ApiScope::AdminKeys")] caller: Caller,
        body: Json<RotateKeysRequest>,
    ) -> Result<Json<Vec<Key>>, ApiError> {
        let list = self.0.rotate_keys(&caller.0, body.0.force).await;
        Ok(Json(list.map_err(failed(&self.0, &caller.0))?.into_iter().map(key).collect()))
    }

    /// Read who did what, when and with what outcome.
    #[oai(path = "/audit", method = "get", operation_id = "list_audit_events")]
    #[expect(clippy::too_many_arguments, reason = "one a query parameter")]
    async fn audit(
        &self,
        #[oai(scope = "ApiScope::AdminAudit")] caller: Caller,
        /// Events at this time or later, in epoch milliseconds.
        since_ms: Query<Option<i64>>,
        /// Events before this time, in epoch milliseconds.
        until_ms: Query<Option<i64>>,
        client_id: Query<Option<String>>,
        /// Such as sql_run.
        operation: Query<Option<String>>,
        outcome: Query<Option<AuditOutcome>>,
        /// The last event_id of the page before.
        after: Query<Option<String>>,
        /// Latest first instead of earliest first.
        #[oai(default)]
        newest_first: Query<bool>,
        /// 1 to 10,000.
        #[oai(default = "hundred")]
        limit: Query<u32>,
    ) -> Result<Json<Vec<AuditEvent>>, ApiError> {
        let query = AuditQuery {
            since_ms: since_ms.0,
            until_ms: until_ms.0,
            client_id: client_id.0,
            operation: operation.0,
            outcome: outcome.0.map(|outcome| match outcome {
                AuditOutcome::Ok => Outcome::Ok,
                AuditOutcome::Refused => Outcome::Refused,
                AuditOutcome::Denied => Outcome::Denied,
                AuditOutcome::Failed => Outcome::Failed,
            }),
            after: after.0,
            newest_first: newest_first.0,
            limit: limit.0 as usize,
        };
        let list = self.0.list_audit_events(&caller.0, &query).await;
        Ok(Json(list.map_err(failed(&self.0, &caller.0))?.into_iter().map(event).collect()))
    }
}

fn hundred() -> u32 {
    100
}

fn one_day_s() -> u32 {
    86_400
}

/// Secrets belong in no cache (RFC 6749 section 5.1).
fn no_store() -> String {
    "no-store".to_owned()
}

fn scope_set(scopes: &[String]) -> Result<ScopeSet, EngineError> {
    scopes
        .iter()
        .map(|scope| scope.parse())
        .collect::<Result<Vec<_>, _>>()
        .and_then(ScopeSet::new)
        .map_err(|error| EngineError::InvalidInput(error.to_string()))
}

fn client(item: auth::Client) -> Client {
    Client {
        client_id: item.client_id.to_string(),
        name: item.name,
        scopes: item.scopes.iter().map(ToString::to_string).collect(),
        created_at_ms: item.created_at_ms,
        disabled_at_ms: item.disabled_at_ms,
        secrets: None,
    }
}

fn secret(item: auth::SecretInfo) -> Secret {
    Secret { secret_id: item.secret_id, created_at_ms: item.created_at_ms, expires_at_ms: item.expires_at_ms }
}

fn key(item: KeyInfo) -> Key {
    Key {
        kid: item.kid,
        algorithm: item.algorithm.to_string(),
        state: item.state.as_str().to_owned(),
        made_at_ms: item.made_at_ms,
        retired_at_ms: item.retired_at_ms,
        kept_until_ms: item.kept_until_ms,
    }
}

fn event(item: AuditRecord) -> AuditEvent {
    AuditEvent {
        event_id: item.event_id,
        at_ms: item.at_ms,
        request_id: item.request_id,
        client_id: item.client_id,
        subject: item.subject,
        operation: item.operation,
        target: item.target,
        outcome: item.outcome.as_str().to_owned(),
        reason: item.reason,
        rows: item.rows,
        size_bytes: item.size_bytes,
        elapsed_ms: item.elapsed_ms,
    }
}
