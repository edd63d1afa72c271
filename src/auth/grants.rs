//! The token endpoint's logic, and that of revocation and introspection: RFC 6749, 7009, 7662 without the HTTP.
//!
//! Knows clients, tokens and form fields; does not know a web framework, status codes or the audit.
//! R1 a client authenticates before anything is told to it about scopes, tokens or targets.
//! R2 a token never holds a scope that its client is not registered for.
//! R3 unknown client, wrong secret or key, and disabled client give equal errors.
//! R4 a token of another client is, for a client, as good as unknown: neither introspection nor revocation tells.
//!
//! Each grant has a file of its own below `grants/`; what they share is here.

mod authorization_code;
mod client_credentials;
mod introspection;
mod password;
mod refresh;
mod target;
mod token_exchange;

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use tracing::{debug, info};

use crate::auth::authorize::Codes;
use crate::auth::client::{Client, ClientError, Clients, GrantType};
use crate::auth::clock::Clock;
use crate::auth::family::{Families, RefreshToken};
use crate::auth::form::{ClientCredentials, ClientProof, Form};
use crate::auth::metadata::TOKEN_PATH;
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode};
use crate::auth::principal::ClientId;
use crate::auth::scope::ScopeSet;
use crate::auth::throttle::Throttle;
use crate::auth::token::{AccessToken, Revocation, TokenSpec, Tokens};
use crate::auth::user::Users;
use password::PasswordGrant;

pub use password::PasswordGrantConfig;

pub use introspection::{IntrospectedToken, Introspection};

/// How a client may authenticate. `none`, which a public client does, is not enough for introspection.
pub const CLIENT_AUTHENTICATION_METHODS: &[&str] =
    &["client_secret_basic", "client_secret_post", "private_key_jwt", "none"];

/// A request to one of the OAuth endpoints. Deliberately without the URL: parameters in a query are never read.
#[derive(Clone, Copy)]
pub struct OAuthRequest<'a> {
    /// The fields of the form in the body, decoded, in order, repeats included.
    pub form: &'a [(String, String)],
    /// The value of the Authorization header.
    pub authorization: Option<&'a str>,
    /// Whose failures to count; behind a proxy, the address that the proxy vouches for.
    pub remote: IpAddr,
}

/// RFC 6749 section 5.1. The answer must not be cached (`Cache-Control: no-store`).
#[derive(Debug, Clone, Serialize)]
pub struct TokenResponse {
    pub access_token: AccessToken,
    pub token_type: &'static str,
    pub expires_in: u64,
    pub scope: ScopeSet,
    /// RFC 8693 section 2.2.1; absent for other grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<RefreshToken>,
    /// For the audit.
    #[serde(skip)]
    pub client_id: ClientId,
    /// For the audit.
    #[serde(skip)]
    pub subject: String,
    /// For the audit.
    #[serde(skip)]
    pub jti: String,
}

/// The logic behind the OAuth endpoints.
#[derive(Debug)]
pub struct Grants {
    clients: Clients,
    users: Users,
    tokens: Arc<Tokens>,
    families: Families,
    codes: Codes,
    issuer: String,
    token_endpoint: String,
    throttle: Throttle,
    /// Absent while the password grant is off.
    password: Option<PasswordGrant>,
    clock: Clock,
}

impl Grants {
    pub(super) fn new(
        clients: Clients,
        users: Users,
        tokens: Arc<Tokens>,
        families: Families,
        codes: Codes,
        issuer: String,
        clock: Clock,
    ) -> Self {
        let token_endpoint = format!("{issuer}{TOKEN_PATH}");
        let throttle = Throttle::new();
        Self {
            clients,
            users,
            tokens,
            families,
            codes,
            issuer,
            token_endpoint,
            throttle,
            password: None,
            clock,
        }
    }

    /// The same with the password grant; callers that name no client are `client_id`.
    pub(super) fn with_password_grant(self, client_id: ClientId) -> Self {
        Self { password: Some(PasswordGrant::new(client_id)), ..self }
    }

    /// Answers a token request (RFC 6749 section 3.2).
    pub async fn token(&self, request: OAuthRequest<'_>) -> Result<TokenResponse, OAuthError> {
        let form = Form::parse(request.form)?;
        match self.grant_type(&form)? {
            GrantType::ClientCredentials => self.client_credentials(&form, request).await,
            GrantType::TokenExchange => self.token_exchange(&form, request).await,
            GrantType::Password => self.password(&form, request).await,
            GrantType::AuthorizationCode => self.authorization_code(&form, request).await,
            GrantType::RefreshToken => self.refresh_token(&form, request).await,
        }
    }

    /// The grant types that this service is configured for.
    pub fn grant_types(&self) -> Vec<GrantType> {
        let mut supported = vec![
            GrantType::ClientCredentials,
            GrantType::AuthorizationCode,
            GrantType::RefreshToken,
            GrantType::TokenExchange,
        ];
        if self.password.is_some() {
            supported.push(GrantType::Password);
        }
        supported
    }

    fn grant_type(&self, form: &Form<'_>) -> Result<GrantType, OAuthError> {
        if self.means_password(form) {
            return Ok(GrantType::Password);
        }
        let given = form.require("grant_type")?;
        let supported = self.grant_types();
        let grant = supported.into_iter().find(|grant| grant.as_str() == given);
        grant.ok_or_else(|| self.unsupported(given))
    }

    fn unsupported(&self, given: &str) -> OAuthError {
        let supported: Vec<_> = self.grant_types().into_iter().map(GrantType::as_str).collect();
        debug!(given, "unsupported grant_type");
        let description = format!("this grant_type is not supported; use {}", supported.join(" or "));
        OAuthError::new(OAuthErrorCode::UnsupportedGrantType, description)
    }

    /// The requested scopes, each of which must be among `allowed`; all of these if none is requested.
    fn requested_scopes(&self, form: &Form<'_>, allowed: &ScopeSet) -> Result<ScopeSet, OAuthError> {
        let requested: ScopeSet = form.get("scope").unwrap_or_default().parse()?;
        if requested.is_empty() {
            return Ok(allowed.clone());
        }
        requested.check_grantable()?;
        Ok(allowed.narrow(&requested)?)
    }

    fn issue(&self, spec: &TokenSpec) -> Result<TokenResponse, OAuthError> {
        let issued = self.tokens.issue(spec)?;
        Ok(TokenResponse {
            access_token: issued.token,
            token_type: "Bearer",
            expires_in: issued.expires_in_s,
            scope: issued.scopes,
            issued_token_type: None,
            refresh_token: None,
            client_id: spec.client_id.clone(),
            subject: spec.subject.clone(),
            jti: issued.jti,
        })
    }

    /// Answers a revocation request (RFC 7009): the jti of the access token that died, or the id of the family of a refresh
    /// token, or none, since a token that does not hold, or is another client's (R4), is no error. Public clients may
    /// revoke their own.
    pub async fn revoke(&self, request: OAuthRequest<'_>) -> Result<Option<String>, OAuthError> {
        let form = Form::parse(request.form)?;
        let client = self.authenticate(&form, request).await?;
        let token = form.require("token")?;
        if refresh::is_refresh_token(token) {
            return self.revoke_refresh_token(token, &client).await;
        }
        match self.tokens.revoke(token, &client.client_id).await? {
            Some(Revocation::Done { jti }) => Ok(Some(jti)),
            // R4. RFC 7009 section 2.1 would have the client told, which would tell any client whether a token holds.
            Some(Revocation::NotYours) => {
                info!(client_id = %client.client_id, "a client asked to revoke a token of another; it stays");
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// The client behind the request, which must be registered for this grant.
    async fn client_for(
        &self,
        grant: GrantType,
        form: &Form<'_>,
        request: OAuthRequest<'_>,
    ) -> Result<Client, OAuthError> {
        let client = self.authenticate(form, request).await?;
        if client.grant_types.contains(&grant) {
            return Ok(client);
        }
        let description = format!("this client is not registered for the grant {grant}");
        Err(OAuthError::new(OAuthErrorCode::UnauthorizedClient, description))
    }

    /// The client behind the request. A public client only says its id: callers that tell or give anything for the id
    /// alone must refuse it.
    async fn authenticate(&self, form: &Form<'_>, request: OAuthRequest<'_>) -> Result<Client, OAuthError> {
        let credentials = ClientCredentials::read(form, request.authorization)?;
        let now_ms = self.clock.now_ms();
        if let ClientProof::Assertion(assertion) = &credentials.proof {
            assertion.check(&self.issuer, &self.token_endpoint, now_ms)?;
        }
        if let Some(wait_s) = self.throttle.wait_s(request.remote, &credentials.client_id, now_ms) {
            return Err(OAuthError::rate_limited(wait_s));
        }
        let verified = match &credentials.proof {
            ClientProof::Secret(secret) => self.clients.verify(&credentials.client_id, secret).await,
            ClientProof::Assertion(assertion) => self.clients.by_assertion(assertion).await,
            ClientProof::None => self.clients.public(&credentials.client_id).await,
        };
        match verified {
            Ok(client) => {
                self.throttle.succeeded(request.remote, &credentials.client_id, now_ms);
                Ok(client)
            }
            Err(ClientError::BadCredentials) => {
                self.throttle.failed(request.remote, &credentials.client_id, now_ms);
                debug!(remote = %request.remote, "client authentication failed");
                Err(OAuthError::bad_credentials())
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
