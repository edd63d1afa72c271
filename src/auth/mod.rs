//! OAuth2: who may ask for tokens, what tokens are, and what they allow.
//!
//! Knows the service database, keys and RFCs; has no HTTP types: `api` maps requests to [`grants::OAuthRequest`] and
//! errors to statuses. The only place that names jsonwebtoken.
//!
//! A1 [`Tokens::verify`] is the only way from a token to a [`Principal`].
//! A2 what an operation requires is in `operations` and nowhere else.
//! A3 no secret, token or private key is in a log line, an error or a `Debug` text.
//!
//! | file | holds |
//! |---|---|
//! | scope, operations, principal | what is allowed, pure |
//! | client, credentials | the registry of clients, and handing out their secrets |
//! | user | the registry of people, and their passwords |
//! | keys, key_ring, token, jws | signing and verifying, rotation |
//! | assertion | what a client signs to authenticate |
//! | state | clients, users and revocations in memory, polled, so that no request waits for SQL |
//! | grants, form, oauth_error, throttle | the token endpoint's logic, and that of revocation and introspection |
//! | authorize, family, opaque | logins in a browser, consent, codes; refresh tokens |
//! | metadata | what is published about the service |
//!
//! What comes later finds its place: another grant is another branch of `Grants::token` and ends in a
//! [`token::TokenSpec`] (which has `subject` and `actor` already).

mod assertion;
pub mod authorize;
pub mod client;
pub mod clock;
pub mod credentials;
pub mod error;
mod family;
mod form;
pub mod grants;
mod jws;
pub mod key_ring;
pub mod keys;
pub mod metadata;
pub mod oauth_error;
mod opaque;
pub mod operations;
mod poll;
pub mod principal;
pub mod scope;
mod state;
mod throttle;
pub mod token;
pub mod user;

use std::sync::Arc;

pub use authorize::{
    AuthorizationRequest, Authorize, AuthorizeError, FormKind, MAX_REQUEST_BYTES, Next, Refusal, Session,
};
pub use client::{
    Client, ClientAuthentication, ClientChange, ClientError, ClientWithSecret, Clients, GrantType,
    MAX_OVERLAP_MS, NewClient, SecretInfo,
};
pub use clock::Clock;
pub use credentials::{Credentials, CredentialsError, Ensured, ensure_client, write_credentials_file};
pub use error::{AuthError, TokenFault};
pub use family::{RefreshLifetimes, RefreshToken};
pub use grants::{Grants, Introspection, OAuthRequest, PasswordGrantConfig, TokenResponse};
pub use key_ring::KeyRing;
pub use keys::{
    Jwks, JwksError, KeyError, KeyFolder, KeyInfo, KeySet, KeySource, KeyState, SigningAlgorithm,
};
pub use metadata::{AuthorizationServerMetadata, Issuer, ProtectedResourceMetadata};
pub use oauth_error::{OAuthError, OAuthErrorCode, StatusHint};
pub use operations::{Operation, TargetRule};
pub use principal::{Actor, Claims, ClientId, Principal, Sensitivity, UserId};
pub use scope::{Scope, ScopeError, ScopeSet};
pub use token::{AccessToken, Ancestor, Exchanged, IssuedToken, TokenSpec, Tokens};
pub use user::{NewUser, User, UserChange, UserError, UserWithPassword, Users};

use crate::error::ErrorKind;
use crate::store::{Store, StoreError};
use authorize::Codes;
use family::Families;
use poll::PollingGuard;
use state::{LiveState, POLL_EVERY};

/// Lifetime of access tokens unless configured.
pub const DEFAULT_TOKEN_LIFETIME_S: u64 = 3_600;
/// Longest lifetime that can be configured: seven days.
pub const MAX_TOKEN_LIFETIME_S: u64 = 604_800;
/// Longest time that a login may be refreshed: a year.
pub const MAX_REFRESH_LIFETIME_S: u64 = 31_536_000;

/// What the token service needs to know.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// The service's public address.
    pub issuer: Issuer,
    /// The resource identifier that tokens are for; the issuer if none is given.
    pub audience: Option<String>,
    /// Further resources that tokens may be asked for (RFC 8707): services that verify our tokens by the JWKS.
    pub resources: Vec<String>,
    /// `TOKEN_EXPIRY_SECONDS`: 1 to 604,800.
    pub token_lifetime_s: u64,
    /// Of refresh tokens: 60 s to [`MAX_REFRESH_LIFETIME_S`], idle no longer than in all.
    pub refresh: RefreshLifetimes,
    /// `JWT_PRIVATE_KEY`, or `<data_dir>/keys`.
    pub keys: KeySource,
    /// The password grant, for clients of the old kind; off if absent.
    pub password_grant: Option<PasswordGrantConfig>,
}

/// Why the token service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AuthSetupError {
    #[error("TOKEN_EXPIRY_SECONDS is {given}; it must be 1 to {MAX_TOKEN_LIFETIME_S}")]
    Lifetime { given: u64 },
    #[error(
        "auth.refresh_idle_seconds is {idle_s} and auth.refresh_lifetime_seconds {longest_s}; both must be 60 to {MAX_REFRESH_LIFETIME_S}, and the first no more than the second"
    )]
    RefreshLifetimes { idle_s: u64, longest_s: u64 },
    #[error(
        "the audience `{given}` is no absolute URI without fragment, such as https://steward.example.org"
    )]
    Audience { given: String },
    #[error(
        "auth.password_client names `{given}`, {reason}; leave it out to have a client made, or register one with `steward client create --name NAME --scopes SCOPES --grant-type password --authentication none`"
    )]
    PasswordClient { given: String, reason: &'static str },
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("reading the signing keys was interrupted")]
    Interrupted,
}

impl AuthSetupError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lifetime { .. }
            | Self::RefreshLifetimes { .. }
            | Self::Audience { .. }
            | Self::PasswordClient { .. } => ErrorKind::InvalidInput,
            Self::Client(error) => error.kind(),
            Self::Keys(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Interrupted => ErrorKind::Internal,
        }
    }
}

/// The whole token service, one a process. Share it in an `Arc`; dropping it ends its polling of the database.
#[derive(Debug)]
pub struct Auth {
    issuer: Issuer,
    clients: Clients,
    users: Users,
    tokens: Arc<Tokens>,
    grants: Arc<Grants>,
    authorize: Authorize,
    ring: Arc<KeyRing>,
    state: Arc<LiveState>,
    _polling: [PollingGuard; 2],
}

impl Auth {
    /// Reads (or makes) the keys, reads clients and revocations, and begins to poll for changes of other replicas.
    pub async fn open(config: AuthConfig, store: Store, clock: Clock) -> Result<Self, AuthSetupError> {
        if !(1..=MAX_TOKEN_LIFETIME_S).contains(&config.token_lifetime_s) {
            return Err(AuthSetupError::Lifetime { given: config.token_lifetime_s });
        }
        let RefreshLifetimes { idle_s, longest_s } = config.refresh;
        if idle_s < 60 || idle_s > longest_s || longest_s > MAX_REFRESH_LIFETIME_S {
            return Err(AuthSetupError::RefreshLifetimes { idle_s, longest_s });
        }
        let audience = match config.audience {
            Some(given) => checked_resource(given)?.trim_end_matches('/').to_owned(),
            None => config.issuer.to_string(),
        };
        let resources = config.resources.into_iter().map(checked_resource).collect::<Result<Vec<_>, _>>()?;
        let (source, now_ms) = (config.keys.clone(), clock.now_ms());
        let keys = tokio::task::spawn_blocking(move || source.open(now_ms))
            .await
            .map_err(|_| AuthSetupError::Interrupted)??;
        let state = LiveState::load(store, clock.clone()).await?;
        let clients = Clients::new(state.clone());
        let users = Users::new(state.clone());
        let issuer = config.issuer.to_string();
        let tokens = Arc::new(Tokens::new(
            issuer.clone(),
            audience,
            resources,
            config.token_lifetime_s,
            keys,
            state.clone(),
        ));
        let ring =
            Arc::new(KeyRing::new(config.keys, tokens.clone(), config.token_lifetime_s, clock.clone()));
        let families = Families::new(state.clone(), config.refresh);
        let codes = Codes::new(state.clone());
        let mut grants = Grants::new(
            clients.clone(),
            users.clone(),
            tokens.clone(),
            families,
            codes,
            issuer.clone(),
            clock,
        );
        if let Some(password) = &config.password_grant {
            grants = grants.with_password_grant(password.client(&clients).await?);
        }
        let grants = Arc::new(grants);
        let authorize = Authorize::new(state.clone(), clients.clone(), users.clone(), grants.clone(), issuer);
        let polling = [state.spawn_polling(POLL_EVERY), ring.spawn_polling(POLL_EVERY)];
        Ok(Self {
            issuer: config.issuer,
            clients,
            users,
            tokens,
            grants,
            authorize,
            ring,
            state,
            _polling: polling,
        })
    }

    /// The registry of clients.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The registry of users.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Signing, verifying, revoking.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The logic of the OAuth endpoints.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The logic of the authorization endpoint.
    pub fn authorize(&self) -> &Authorize {
        &self.authorize
    }

    /// The service's own address.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The document behind `jwks_uri`.
    pub fn jwks(&self) -> Jwks {
        self.tokens.keys().jwks()
    }

    /// Listing, rotating and renewing the keys.
    pub fn key_ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// The RFC 8414 document.
    pub fn authorization_server_metadata(&self) -> AuthorizationServerMetadata {
        AuthorizationServerMetadata::new(&self.issuer, &self.grants.grant_types())
    }

    /// The RFC 9728 document.
    pub fn protected_resource_metadata(&self) -> ProtectedResourceMetadata {
        ProtectedResourceMetadata::new(&self.issuer, self.tokens.audience())
    }

    /// Looks for changes now instead of at the next poll; true if there were any.
    pub async fn refresh(&self) -> Result<bool, StoreError> {
        self.state.refresh().await
    }
}

/// RFC 8707 section 2: an absolute URI without fragment.
fn checked_resource(given: String) -> Result<String, AuthSetupError> {
    let fits = url::Url::parse(&given).is_ok_and(|url| url.fragment().is_none());
    if fits && !given.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Ok(given)
    } else {
        Err(AuthSetupError::Audience { given })
    }
}

#[cfg(test)]
pub(crate) mod testing;
