//! Clients: who may ask for tokens, with which secrets and which scopes at most.
//!
//! Knows the service database; does not know tokens, grants or HTTP.
//! C1 a secret is seen once, when it is made; only its SHA-256 is kept. 256 random bits need no slow hash.
//! C2 an unknown client, a wrong secret and a disabled client are one error, after the same work.
//! C3 disabling a client, or revoking its tokens, kills every token that it was issued until then.

mod assertion;
mod change;
mod registration;

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::Row;
use subtle::{Choice, ConstantTimeEq};
use uuid::Uuid;

use crate::auth::clock::Clock;
use crate::auth::keys::JwksError;
use crate::auth::principal::{Claims, ClientId};
use crate::auth::scope::{ScopeError, ScopeSet};
use crate::auth::state::{ClientRecord, LiveState, client_of_row, select_clients};
use crate::error::ErrorKind;
use crate::store::{Store, StoreError};

pub use change::{ClientChange, MAX_OVERLAP_MS, SecretInfo};
pub use registration::{ClientAuthentication, GrantType, MAX_REDIRECT_URIS, check_redirect_uri, is_loopback};

/// What every client secret begins with, so that scanners and people recognise a leaked one.
pub const SECRET_PREFIX: &str = "stw_";
/// How many secrets of a client may work at a time: one, and its predecessor while the change is rolled out.
pub const MAX_LIVE_SECRETS: usize = 2;
/// Most bytes of JSON that a client's claims may take; they travel in every token.
const MAX_CLAIMS_BYTES: usize = 1024;

/// What can go wrong with clients.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("client authentication failed: unknown client, wrong secret or assertion, or client disabled")]
    BadCredentials,
    #[error("there is no client {client_id}; `steward client list` shows those that exist")]
    NotFound { client_id: String },
    #[error(
        "a client's name has 1 to 64 characters, none of them a control character, and one letter or digit at least"
    )]
    BadName,
    #[error("a client needs at least one scope, such as semantic:read")]
    NoScopes,
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error("claim `{name}` cannot be set: {reason}")]
    BadClaim { name: String, reason: &'static str },
    #[error(
        "this takes scopes that you do not hold: {scopes}; nobody can give a client more than it has, so ask with a token that holds them, or have `steward client` run where the service runs"
    )]
    NotHeld { scopes: ScopeSet },
    #[error("the overlap of secrets is {given_ms} ms; it must be 0 to {MAX_OVERLAP_MS} (30 days)")]
    BadOverlap { given_ms: i64 },
    #[error("you cannot {verb} the client that you are asking as; have another administrator do it")]
    Oneself { verb: &'static str },
    #[error("there is no grant type `{given}`; there are {}", all_grant_types())]
    UnknownGrantType { given: String },
    #[error("a client authenticates by client_secret, private_key_jwt or none; `{given}` is none of them")]
    UnknownAuthentication { given: String },
    #[error("redirect URI `{uri}`: {reason}")]
    BadRedirectUri { uri: String, reason: &'static str },
    #[error("this registration does not hold together: {reason}")]
    BadRegistration { reason: &'static str },
    #[error("the client's key set (jwks) will not do: {0}")]
    BadJwks(#[from] JwksError),
    #[error(
        "this client authenticates by {}, so that a secret would be of no use to it; register it for client_secret first", .way.as_str()
    )]
    TakesNoSecret { way: ClientAuthentication },
    #[error("the operating system gave no random numbers for a secret")]
    NoRandomness,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ClientError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadCredentials => ErrorKind::Unauthenticated,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::BadName
            | Self::NoScopes
            | Self::BadClaim { .. }
            | Self::BadOverlap { .. }
            | Self::UnknownGrantType { .. }
            | Self::UnknownAuthentication { .. }
            | Self::BadRedirectUri { .. }
            | Self::BadRegistration { .. }
            | Self::BadJwks(_) => ErrorKind::InvalidInput,
            Self::NotHeld { .. } => ErrorKind::InsufficientScope,
            Self::Oneself { .. } | Self::TakesNoSecret { .. } => ErrorKind::Conflict,
            Self::Scope(error) => error.kind(),
            Self::NoRandomness => ErrorKind::Internal,
            Self::Store(error) => error.kind(),
        }
    }
}

/// A registered client.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    pub client_id: ClientId,
    /// For people; need not be unique.
    pub name: String,
    /// The most that a token of this client may hold.
    pub scopes: ScopeSet,
    /// What row filters see of it, besides `sub` and `client_id`.
    pub claims: Claims,
    pub authentication: ClientAuthentication,
    pub grant_types: BTreeSet<GrantType>,
    /// Where the browser of its users may be sent back to.
    pub redirect_uris: Vec<String>,
    /// RFC 7517 key set with its public keys, as JSON; for `private_key_jwt`.
    pub jwks: Option<String>,
    /// The resources (RFC 8707) whose tokens it may introspect, besides its own tokens.
    pub audiences: Vec<String>,
    pub created_at_ms: i64,
    pub disabled_at_ms: Option<i64>,
}

/// What to register.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// 1 to 64 characters; also the readable part of the id.
    pub name: String,
    pub scopes: ScopeSet,
    pub claims: Claims,
    pub authentication: ClientAuthentication,
    pub grant_types: BTreeSet<GrantType>,
    pub redirect_uris: Vec<String>,
    pub jwks: Option<String>,
    pub audiences: Vec<String>,
}

impl Default for NewClient {
    /// A client that asks for tokens of its own with a secret.
    fn default() -> Self {
        Self {
            name: String::new(),
            scopes: ScopeSet::default(),
            claims: Claims::new(),
            authentication: ClientAuthentication::default(),
            grant_types: registration::default_grant_types(),
            redirect_uris: Vec::new(),
            jwks: None,
            audiences: Vec::new(),
        }
    }
}

/// A client with a secret that will not be shown again.
#[derive(Debug, Clone)]
pub struct ClientWithSecret {
    pub client: Client,
    /// Made for every client, so that one can be registered anew for secrets; of no use while it is registered for
    /// another way of authentication.
    pub secret: SecretString,
}

impl ClientWithSecret {
    /// The secret, if the client can authenticate with it: doors show no other.
    pub fn usable_secret(&self) -> Option<&SecretString> {
        (self.client.authentication == ClientAuthentication::ClientSecret).then_some(&self.secret)
    }
}

/// The registry of clients. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clients {
    state: Arc<LiveState>,
    /// The most that can be given away; everything, if absent: the owner of the process.
    holder: Option<ScopeSet>,
    /// Shared by all clones.
    used: Arc<assertion::Cleaning>,
}

impl Clients {
    /// The registry alone, for the command line: no keys are read or made, nothing polls.
    pub async fn open(store: Store, clock: Clock) -> Result<Self, StoreError> {
        Ok(Self::new(LiveState::load(store, clock).await?))
    }

    pub(super) fn new(state: Arc<LiveState>) -> Self {
        Self { state, holder: None, used: Arc::default() }
    }

    /// Registers a client and makes its first secret.
    pub async fn create(&self, new: &NewClient) -> Result<ClientWithSecret, ClientError> {
        check(new)?;
        self.require_held(new.scopes.iter())?;
        let mut change = self.state.begin_change().await?;
        let made = self.insert(&mut change, new).await?;
        self.state.commit_change(change).await?;
        Ok(made)
    }

    /// The client of that name as [`Self::find_by_name`] finds it, or a new one. However many processes ask at once, one
    /// is made.
    pub async fn find_or_create(&self, new: &NewClient) -> Result<Client, ClientError> {
        if let Some(found) = self.find_by_name(&new.name).await? {
            return Ok(found);
        }
        check(new)?;
        self.require_held(new.scopes.iter())?;
        let mut change = self.state.begin_change().await?;
        // Others that make clients wait until this change ends; whoever was first is seen here.
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM clients WHERE name = $1")
            .bind(new.name.as_str())
            .fetch_one(&mut *change)
            .await
            .map_err(StoreError::from)?;
        if count == 0 {
            let made = self.insert(&mut change, new).await?;
            self.state.commit_change(change).await?;
            return Ok(made.client);
        }
        change.rollback().await.map_err(StoreError::from)?;
        let found = self.find_by_name(&new.name).await?;
        found.ok_or_else(|| ClientError::NotFound { client_id: new.name.clone() })
    }

    /// Expects what [`check`] and [`Self::require_held`] let through.
    async fn insert(
        &self,
        change: &mut sqlx::Transaction<'static, sqlx::Any>,
        new: &NewClient,
    ) -> Result<ClientWithSecret, ClientError> {
        let client = Client {
            client_id: new_client_id(&new.name)?,
            name: new.name.clone(),
            scopes: new.scopes.clone(),
            claims: new.claims.clone(),
            authentication: new.authentication,
            grant_types: new.grant_types.clone(),
            redirect_uris: new.redirect_uris.clone(),
            jwks: new.jwks.clone(),
            audiences: new.audiences.clone(),
            created_at_ms: self.state.clock().now_ms(),
            disabled_at_ms: None,
        };
        sqlx::query(
            "INSERT INTO clients (client_id, name, scopes, claims, created_at_ms, authentication, grant_types, \
             redirect_uris, jwks, audiences) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(client.client_id.as_str())
        .bind(client.name.as_str())
        .bind(client.scopes.to_string())
        .bind(Value::Object(client.claims.clone().into_iter().collect()).to_string())
        .bind(client.created_at_ms)
        .bind(client.authentication.as_str())
        .bind(words(client.grant_types.iter().map(|grant| grant.as_str())))
        .bind(words(client.redirect_uris.iter().map(String::as_str)))
        .bind(client.jwks.as_deref().unwrap_or_default())
        .bind(words(client.audiences.iter().map(String::as_str)))
        .execute(&mut **change)
        .await
        .map_err(StoreError::from)?;
        let secret = self.insert_secret(change, &client.client_id).await?;
        Ok(ClientWithSecret { client, secret })
    }

    /// All clients, oldest first, disabled ones among them.
    pub async fn list(&self) -> Result<Vec<Client>, ClientError> {
        let rows = sqlx::query(select_clients!("ORDER BY created_at_ms, client_id"))
            .fetch_all(self.state.store().pool())
            .await
            .map_err(StoreError::from)?;
        Ok(rows.iter().map(|row| client_of_row(row).map(|(client, _)| client)).collect::<Result<_, _>>()?)
    }

    /// One client.
    pub async fn get(&self, client_id: &ClientId) -> Result<Client, ClientError> {
        let row = sqlx::query(select_clients!("WHERE client_id = $1"))
            .bind(client_id.as_str())
            .fetch_optional(self.state.store().pool())
            .await
            .map_err(StoreError::from)?
            .ok_or_else(|| not_found(client_id))?;
        Ok(client_of_row(&row)?.0)
    }

    /// The oldest enabled client of that name; where all are disabled, the oldest.
    pub async fn find_by_name(&self, name: &str) -> Result<Option<Client>, ClientError> {
        let row = sqlx::query(select_clients!(
            "WHERE name = $1 \
             ORDER BY CASE WHEN disabled_at_ms IS NULL THEN 0 ELSE 1 END, created_at_ms, client_id LIMIT 1"
        ))
        .bind(name)
        .fetch_optional(self.state.store().pool())
        .await
        .map_err(StoreError::from)?;
        Ok(row.map(|row| client_of_row(&row)).transpose()?.map(|(client, _)| client))
    }

    /// Locks a client out and kills its tokens (C3). Disabling twice keeps the first date.
    pub async fn disable(&self, client_id: &ClientId) -> Result<(), ClientError> {
        self.execute(
            client_id,
            "UPDATE clients SET disabled_at_ms = COALESCE(disabled_at_ms, $1), tokens_not_before_ms = $1 \
             WHERE client_id = $2",
        )
        .await
    }

    /// Lets a disabled client in again. Tokens from before stay dead. Enabling an enabled one changes nothing.
    pub async fn enable(&self, client_id: &ClientId) -> Result<(), ClientError> {
        let mut change = self.state.begin_change().await?;
        let client = change::read(&mut change, client_id).await?;
        self.require_held(client.scopes.iter())?;
        sqlx::query(
            "UPDATE clients SET tokens_not_before_ms = $1, disabled_at_ms = NULL \
             WHERE client_id = $2 AND disabled_at_ms IS NOT NULL",
        )
        .bind(self.state.clock().now_ms())
        .bind(client_id.as_str())
        .execute(&mut *change)
        .await
        .map_err(StoreError::from)?;
        Ok(self.state.commit_change(change).await?)
    }

    /// Kills every token that the client was issued until now (C3); it may get new ones.
    pub async fn revoke_tokens(&self, client_id: &ClientId) -> Result<(), ClientError> {
        self.execute(client_id, "UPDATE clients SET tokens_not_before_ms = $1 WHERE client_id = $2").await
    }

    async fn execute(&self, client_id: &ClientId, sql: &'static str) -> Result<(), ClientError> {
        let mut change = self.state.begin_change().await?;
        let updated = sqlx::query(sql)
            .bind(self.state.clock().now_ms())
            .bind(client_id.as_str())
            .execute(&mut *change)
            .await
            .map_err(StoreError::from)?;
        if updated.rows_affected() == 0 {
            return Err(not_found(client_id));
        }
        Ok(self.state.commit_change(change).await?)
    }

    /// Makes a new secret. The newest of the old ones works for another `overlap_ms`, all others end now.
    pub async fn rotate_secret(
        &self,
        client_id: &ClientId,
        overlap_ms: i64,
    ) -> Result<SecretString, ClientError> {
        if !(0..=MAX_OVERLAP_MS).contains(&overlap_ms) {
            return Err(ClientError::BadOverlap { given_ms: overlap_ms });
        }
        let now_ms = self.state.clock().now_ms();
        let mut change = self.state.begin_change().await?;
        let client = change::read(&mut change, client_id).await?;
        self.require_held(client.scopes.iter())?;
        if client.authentication != ClientAuthentication::ClientSecret {
            return Err(ClientError::TakesNoSecret { way: client.authentication });
        }
        // secret_id is a UUIDv7: its order is the order of making.
        let live = sqlx::query(
            "SELECT secret_id, expires_at_ms FROM client_secrets \
             WHERE client_id = $1 AND (expires_at_ms IS NULL OR expires_at_ms > $2) ORDER BY secret_id DESC",
        )
        .bind(client_id.as_str())
        .bind(now_ms)
        .fetch_all(&mut *change)
        .await
        .map_err(StoreError::from)?;
        for (age, row) in live.iter().enumerate() {
            let secret_id: String = row.try_get("secret_id").map_err(StoreError::from)?;
            let expires_at_ms: Option<i64> = row.try_get("expires_at_ms").map_err(StoreError::from)?;
            let survives = age + 1 < MAX_LIVE_SECRETS;
            let until = if survives { now_ms.saturating_add(overlap_ms) } else { now_ms };
            sqlx::query("UPDATE client_secrets SET expires_at_ms = $1 WHERE secret_id = $2")
                .bind(expires_at_ms.map_or(until, |already| already.min(until)))
                .bind(secret_id)
                .execute(&mut *change)
                .await
                .map_err(StoreError::from)?;
        }
        let secret = self.insert_secret(&mut change, client_id).await?;
        self.state.commit_change(change).await?;
        Ok(secret)
    }

    async fn insert_secret(
        &self,
        change: &mut sqlx::Transaction<'static, sqlx::Any>,
        client_id: &ClientId,
    ) -> Result<SecretString, ClientError> {
        let mut bytes = [0; 32];
        fill_random(&mut bytes)?;
        let secret = SecretString::from(format!("{SECRET_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)));
        sqlx::query(
            "INSERT INTO client_secrets (secret_id, client_id, sha256_hex, created_at_ms) VALUES ($1, $2, $3, $4)",
        )
        .bind(Uuid::now_v7().to_string())
        .bind(client_id.as_str())
        .bind(hex::encode(Sha256::digest(secret.expose_secret())))
        .bind(self.state.clock().now_ms())
        .execute(&mut **change)
        .await
        .map_err(StoreError::from)?;
        Ok(secret)
    }

    /// Whether that secret is that client's. SQL runs only on failure, and then once whatever the cause (C2): it
    /// looks whether another process has just made the client or the secret.
    pub async fn verify(&self, client_id: &str, secret: &SecretString) -> Result<Client, ClientError> {
        if let Some(client) = self.verify_now(client_id, secret) {
            return Ok(client);
        }
        self.state.refresh().await?;
        self.verify_now(client_id, secret).ok_or(ClientError::BadCredentials)
    }

    fn verify_now(&self, client_id: &str, secret: &SecretString) -> Option<Client> {
        let presented: [u8; 32] = Sha256::digest(secret.expose_secret()).into();
        let snapshot = self.state.snapshot();
        let record = snapshot.clients.get(client_id);
        let matches = matches_any(record.map(Arc::as_ref), &presented, self.state.clock().now_ms());
        record.filter(|_| bool::from(matches)).map(|record| record.client.clone())
    }

    /// The public client of that id: registered to authenticate by nothing, and enabled. Anything else is the error
    /// of a wrong secret.
    pub async fn public(&self, client_id: &str) -> Result<Client, ClientError> {
        if let Some(client) = self.public_now(client_id) {
            return Ok(client);
        }
        self.state.refresh().await?;
        self.public_now(client_id).ok_or(ClientError::BadCredentials)
    }

    fn public_now(&self, client_id: &str) -> Option<Client> {
        let snapshot = self.state.snapshot();
        let client = &snapshot.clients.get(client_id)?.client;
        let open = client.authentication == ClientAuthentication::None && client.disabled_at_ms.is_none();
        open.then(|| client.clone())
    }

    /// The client of that id as the copy in memory has it, if it is enabled and `since_ms` is after what last killed its
    /// tokens (C3).
    pub fn still_good(&self, client_id: &ClientId, since_ms: i64) -> Option<Client> {
        let snapshot = self.state.snapshot();
        let record = snapshot.clients.get(client_id.as_str())?;
        let ended = record.tokens_not_before_ms.is_some_and(|until| since_ms <= until);
        (!ended && record.client.disabled_at_ms.is_none()).then(|| record.client.clone())
    }

    /// The client of that id in the copy in memory, disabled ones among them.
    pub fn known(&self, client_id: &str) -> Option<Client> {
        self.state.snapshot().clients.get(client_id).map(|record| record.client.clone())
    }
}

/// Compares with as many hashes for every client, known or not, and stops at none.
fn matches_any(record: Option<&ClientRecord>, presented: &[u8; 32], now_ms: i64) -> Choice {
    let mut matches = Choice::from(0);
    for slot in 0..MAX_LIVE_SECRETS {
        let secret = record.and_then(|record| record.secrets.iter().rev().nth(slot));
        let live = secret.is_some_and(|secret| secret.expires_at_ms.is_none_or(|expires| expires > now_ms));
        let hash = secret.map_or([0; 32], |secret| secret.sha256);
        matches |= hash.ct_eq(presented) & Choice::from(u8::from(live));
    }
    let open = record.is_some_and(|record| {
        record.client.disabled_at_ms.is_none()
            && record.client.authentication == ClientAuthentication::ClientSecret
    });
    matches & Choice::from(u8::from(open))
}

fn not_found(client_id: &ClientId) -> ClientError {
    ClientError::NotFound { client_id: client_id.to_string() }
}

fn check(new: &NewClient) -> Result<(), ClientError> {
    let characters = new.name.chars().count();
    let readable = new.name.chars().any(|c| c.is_ascii_alphanumeric());
    if !(1..=64).contains(&characters) || !readable || new.name.chars().any(char::is_control) {
        return Err(ClientError::BadName);
    }
    if new.scopes.is_empty() {
        return Err(ClientError::NoScopes);
    }
    new.scopes.check_grantable()?;
    registration::check(new)?;
    check_claims(&new.claims)
}

/// Refuses claims that a token should not carry; users have the same.
pub(super) fn check_claims(claims: &Claims) -> Result<(), ClientError> {
    let scalar = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    for (name, value) in claims {
        let refuse = |reason| Err(ClientError::BadClaim { name: name.clone(), reason });
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return refuse("its name may hold only letters, digits and _");
        }
        if matches!(name.as_str(), "sub" | "client_id") {
            return refuse("the name is taken; it always says who the caller is");
        }
        if !scalar(value) && !value.as_array().is_some_and(|items| items.iter().all(scalar)) {
            return refuse("its value must be a string, a number, a boolean, or a list of them");
        }
    }
    let size_bytes = serde_json::to_string(claims).map_or(usize::MAX, |json| json.len());
    if size_bytes > MAX_CLAIMS_BYTES {
        let reason = "the claims together take more than 1,024 bytes of JSON";
        return Err(ClientError::BadClaim { name: "*".into(), reason });
    }
    Ok(())
}

fn all_grant_types() -> String {
    GrantType::ALL.iter().map(|grant| grant.as_str()).collect::<Vec<_>>().join(", ")
}

/// A list as the database holds it.
fn words<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.collect::<Vec<_>>().join(" ")
}

/// The name in lower case with dashes, and 8 random characters: readable in logs, and unique.
fn new_client_id(name: &str) -> Result<ClientId, ClientError> {
    // RFC 4648 base32 in lower case: 5 bits of each byte, without bias.
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    let suffix: String = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
    format!("{slug}-{suffix}").parse().map_err(|_| ClientError::BadName)
}

pub(super) fn fill_random(bytes: &mut [u8]) -> Result<(), ClientError> {
    SystemRandom::new().fill(bytes).map_err(|_| ClientError::NoRandomness)
}

#[cfg(test)]
mod tests;
