//! Clients over HTTP.

use std::collections::BTreeSet;
use std::sync::Arc;

use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{ClaimValues, Deleted, claim_values, claims, no_store, scope_set, words};
use crate::api::ApiTag;
use crate::api::caller::{ApiScope, Caller, failed};
use crate::api::problem::ApiError;
use crate::auth::{self, ClientAuthentication, ClientChange, GrantType, NewClient};
use crate::engine::{Engine, EngineError};

/// How a client shows that it is the one that was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum Authentication {
    /// With a secret.
    ClientSecret,
    /// With a signed assertion (RFC 7523).
    PrivateKeyJwt,
    /// Not at all: it can keep no secret.
    None,
}

/// A registered client.
#[derive(Debug, Object)]
pub struct Client {
    pub client_id: String,
    /// For people; need not be unique. Any text: escape it before it becomes HTML.
    pub name: String,
    /// The most that its tokens may hold.
    pub scopes: Vec<String>,
    /// What row filters see of it.
    pub claims: ClaimValues,
    pub authentication: Authentication,
    /// As the token endpoint takes them.
    pub grant_types: Vec<String>,
    /// Where the browser of its users may be sent back to.
    pub redirect_uris: Vec<String>,
    /// Its public keys (RFC 7517), for private_key_jwt.
    #[oai(skip_serializing_if_is_none)]
    pub jwks: Option<Any<Value>>,
    /// The resources whose tokens it may introspect, besides its own tokens.
    pub audiences: Vec<String>,
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
    /// What row filters see of it: strings, numbers, booleans, or lists of them.
    pub claims: Option<ClaimValues>,
    /// client_secret if absent.
    pub authentication: Option<Authentication>,
    /// client_credentials if absent; token_exchange is short for its URN.
    pub grant_types: Option<Vec<String>>,
    /// https, http to a loopback address, or an app's own scheme; for authorization_code.
    pub redirect_uris: Option<Vec<String>>,
    /// Its public keys (RFC 7517), for private_key_jwt.
    pub jwks: Option<Any<Value>>,
    /// The resources whose tokens it may introspect, besides its own tokens.
    pub audiences: Option<Vec<String>>,
}

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct UpdateClientRequest {
    /// Absent: stays.
    pub name: Option<String>,
    /// Absent: stay. Taking scopes away ends the client's tokens; giving some takes holding them.
    pub scopes: Option<Vec<String>>,
    /// Absent: stay. All that it is to have; changing them ends its tokens, and takes holding all of its scopes, as do
    /// authentication, grant types, redirect URIs and keys.
    pub claims: Option<ClaimValues>,
    /// Absent: stays. Another way than private_key_jwt takes the keys away.
    pub authentication: Option<Authentication>,
    /// Absent: stay.
    pub grant_types: Option<Vec<String>>,
    /// Absent: stay.
    pub redirect_uris: Option<Vec<String>>,
    /// Absent: stay.
    pub jwks: Option<Any<Value>>,
    /// Absent: stay.
    pub audiences: Option<Vec<String>>,
}

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct RotateSecretRequest {
    /// How long the newest of the old secrets goes on working, up to 30 days.
    #[oai(default = "one_day_s")]
    pub overlap_seconds: u32,
}

/// A client with its secret, which is shown this once.
#[derive(Debug, Object)]
pub struct CreatedClient {
    pub client: Client,
    /// Absent where the client authenticates otherwise.
    #[oai(skip_serializing_if_is_none)]
    pub client_secret: Option<String>,
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
        let new = new_client(body.0).map_err(&failed)?;
        let made = self.0.create_client(&caller.0, &new).await.map_err(&failed)?;
        let shown = CreatedClient {
            client_secret: made.usable_secret().map(|secret| secret.expose_secret().to_owned()),
            client: client(made.client),
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
        // One that authenticates otherwise has some too, which are of no use.
        let useful = found.authentication == ClientAuthentication::ClientSecret;
        let secrets = secrets.into_iter().filter(|_| useful).map(secret).collect();
        Ok(Json(Client { secrets: Some(secrets), ..client(found) }))
    }

    /// Change a client's name, scopes, claims or registration; taking scopes away or changing claims ends its tokens.
    #[oai(path = "/clients/:id", method = "patch", operation_id = "update_client")]
    async fn update(
        &self,
        #[oai(scope = "ApiScope::AdminClients")] caller: Caller,
        id: Path<String>,
        body: Json<UpdateClientRequest>,
    ) -> Result<Json<Client>, ApiError> {
        let failed = failed(&self.0, &caller.0);
        let change = change(body.0).map_err(&failed)?;
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
}

fn one_day_s() -> u32 {
    86_400
}

fn new_client(body: CreateClientRequest) -> Result<NewClient, EngineError> {
    let default = NewClient::default();
    Ok(NewClient {
        name: body.name,
        scopes: scope_set(&body.scopes)?,
        claims: body.claims.map(claims).unwrap_or_default(),
        authentication: body.authentication.map_or(default.authentication, way),
        grant_types: body.grant_types.as_deref().map(grants).transpose()?.unwrap_or(default.grant_types),
        redirect_uris: body.redirect_uris.unwrap_or_default(),
        jwks: body.jwks.map(jwks).transpose()?,
        audiences: body.audiences.unwrap_or_default(),
    })
}

fn change(body: UpdateClientRequest) -> Result<ClientChange, EngineError> {
    Ok(ClientChange {
        name: body.name,
        scopes: body.scopes.as_deref().map(scope_set).transpose()?,
        claims: body.claims.map(claims),
        authentication: body.authentication.map(way),
        grant_types: body.grant_types.as_deref().map(grants).transpose()?,
        redirect_uris: body.redirect_uris,
        jwks: match (body.jwks, body.authentication) {
            (Some(keys), _) => Some(Some(jwks(keys)?)),
            (None, None | Some(Authentication::PrivateKeyJwt)) => None,
            (None, Some(_)) => Some(None),
        },
        audiences: body.audiences,
    })
}

fn grants(names: &[String]) -> Result<BTreeSet<GrantType>, EngineError> {
    Ok(names.iter().map(|name| name.parse()).collect::<Result<_, auth::ClientError>>()?)
}

fn jwks(keys: Any<Value>) -> Result<String, EngineError> {
    match keys.0 {
        Value::Object(_) => Ok(keys.0.to_string()),
        _ => Err(EngineError::InvalidInput(
            "jwks must be an object whose member `keys` lists the client's public keys (RFC 7517 section 5)"
                .to_owned(),
        )),
    }
}

fn way(given: Authentication) -> ClientAuthentication {
    match given {
        Authentication::ClientSecret => ClientAuthentication::ClientSecret,
        Authentication::PrivateKeyJwt => ClientAuthentication::PrivateKeyJwt,
        Authentication::None => ClientAuthentication::None,
    }
}

fn client(item: auth::Client) -> Client {
    Client {
        client_id: item.client_id.to_string(),
        name: item.name,
        scopes: words(&item.scopes),
        claims: claim_values(item.claims),
        authentication: match item.authentication {
            ClientAuthentication::ClientSecret => Authentication::ClientSecret,
            ClientAuthentication::PrivateKeyJwt => Authentication::PrivateKeyJwt,
            ClientAuthentication::None => Authentication::None,
        },
        grant_types: item.grant_types.iter().map(ToString::to_string).collect(),
        redirect_uris: item.redirect_uris,
        jwks: item.jwks.and_then(|text| serde_json::from_str(&text).ok()).map(Any),
        audiences: item.audiences,
        created_at_ms: item.created_at_ms,
        disabled_at_ms: item.disabled_at_ms,
        secrets: None,
    }
}

fn secret(item: auth::SecretInfo) -> Secret {
    Secret { secret_id: item.secret_id, created_at_ms: item.created_at_ms, expires_at_ms: item.expires_at_ms }
}
