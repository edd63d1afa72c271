//! The token endpoint's logic, and that of revocation and introspection: RFC 6749, 7009, 7662 without the HTTP.
//!
//! Knows clients, tokens and form fields; does not know a web framework, status codes or the audit.
//! R1 a client authenticates before anything is told to it about scopes, tokens or targets.
//! R2 a token never holds a scope that its client is not registered for.
//! R3 unknown client, wrong secret and disabled client give equal errors.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use tracing::debug;

use crate::auth::client::{Client, ClientError, Clients};
use crate::auth::clock::Clock;
use crate::auth::form::{ClientCredentials, Form};
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode};
use crate::auth::principal::{Actor, ClientId};
use crate::auth::scope::ScopeSet;
use crate::auth::throttle::Throttle;
use crate::auth::token::{AccessToken, Revocation, TokenSpec, Tokens};

/// What `grant_type` may be.
pub const GRANT_TYPES: &[&str] = &["client_credentials"];
/// How a client may authenticate.
pub const CLIENT_AUTHENTICATION_METHODS: &[&str] = &["client_secret_basic", "client_secret_post"];

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
    /// For the audit.
    #[serde(skip)]
    pub client_id: ClientId,
    /// For the audit.
    #[serde(skip)]
    pub jti: String,
}

/// RFC 7662 section 2.2. Of a token that does not hold, only that.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Introspection {
    pub active: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub token: Option<IntrospectedToken>,
}

/// What a token that holds says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IntrospectedToken {
    pub scope: ScopeSet,
    pub client_id: ClientId,
    pub token_type: &'static str,
    /// Epoch seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    pub sub: String,
    pub aud: String,
    pub iss: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
}

/// The logic behind the OAuth endpoints.
#[derive(Debug)]
pub struct Grants {
    clients: Clients,
    tokens: Arc<Tokens>,
    issuer: String,
    throttle: Throttle,
    clock: Clock,
}

impl Grants {
    pub(super) fn new(clients: Clients, tokens: Arc<Tokens>, issuer: String, clock: Clock) -> Self {
        Self { clients, tokens, issuer, throttle: Throttle::new(), clock }
    }

    /// Answers a token request (RFC 6749 section 4.4).
    pub async fn token(&self, request: OAuthRequest<'_>) -> Result<TokenResponse, OAuthError> {
        let form = Form::parse(request.form)?;
        let grant_type = form.require("grant_type")?;
        if !GRANT_TYPES.contains(&grant_type) {
            let description = format!("this grant_type is not supported; use {}", GRANT_TYPES.join(" or "));
            return Err(OAuthError::new(OAuthErrorCode::UnsupportedGrantType, description));
        }
        let client = self.authenticate(&form, request).await?;
        self.check_resource(&form)?;
        let scopes = match form.get("scope") {
            Some(text) => {
                let requested: ScopeSet = text.parse()?;
                if requested.is_empty() {
                    client.scopes.clone()
                } else {
                    requested.check_grantable()?;
                    client.scopes.narrow(&requested)?
                }
            }
            None => client.scopes.clone(),
        };
        let issued = self.tokens.issue(&TokenSpec {
            subject: client.client_id.to_string(),
            client_id: client.client_id.clone(),
            scopes,
            claims: client.claims,
            actor: None,
        })?;
        Ok(TokenResponse {
            access_token: issued.token,
            token_type: "Bearer",
            expires_in: issued.expires_in_s,
            scope: issued.scopes,
            client_id: client.client_id,
            jti: issued.jti,
        })
    }

    /// Answers a revocation request (RFC 7009): the jti of the token that died, or none, since a token that does
    /// not hold needs no revoking and is no error.
    pub async fn revoke(&self, request: OAuthRequest<'_>) -> Result<Option<String>, OAuthError> {
        let form = Form::parse(request.form)?;
        let client = self.authenticate(&form, request).await?;
        match self.tokens.revoke(form.require("token")?, &client.client_id).await? {
            Some(Revocation::Done { jti }) => Ok(Some(jti)),
            Some(Revocation::NotYours) => Err(OAuthError::new(
                OAuthErrorCode::UnauthorizedClient,
                "the token was issued to another client; only that client or an administrator can revoke it",
            )),
            None => Ok(None),
        }
    }

    /// Answers an introspection request (RFC 7662) of any authenticated client: whoever holds a token could read it
    /// anyway, and what this adds is whether it still holds.
    pub async fn introspect(&self, request: OAuthRequest<'_>) -> Result<Introspection, OAuthError> {
        let form = Form::parse(request.form)?;
        self.authenticate(&form, request).await?;
        let principal = match self.tokens.verify(form.require("token")?) {
            Ok(principal) => principal,
            Err(error) if error.kind() == crate::error::ErrorKind::Unauthenticated => {
                return Ok(Introspection::default());
            }
            Err(error) => return Err(error.into()),
        };
        let token = IntrospectedToken {
            scope: principal.scopes.clone(),
            client_id: principal.client_id.clone(),
            token_type: "Bearer",
            exp: principal.expires_at_ms.map(|expires_ms| expires_ms / 1000),
            sub: principal.subject.clone(),
            aud: self.tokens.audience().to_owned(),
            iss: self.issuer.clone(),
            jti: principal.jti.clone(),
            act: principal.actor.clone(),
        };
        Ok(Introspection { active: true, token: Some(token) })
    }

    async fn authenticate(&self, form: &Form<'_>, request: OAuthRequest<'_>) -> Result<Client, OAuthError> {
        let credentials = ClientCredentials::read(form, request.authorization)?;
        let now_ms = self.clock.now_ms();
        if let Some(wait_s) = self.throttle.wait_s(request.remote, &credentials.client_id, now_ms) {
            return Err(OAuthError::rate_limited(wait_s));
        }
        match self.clients.verify(&credentials.client_id, &credentials.client_secret).await {
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

    /// RFC 8707: this service issues tokens for itself alone.
    fn check_resource(&self, form: &Form<'_>) -> Result<(), OAuthError> {
        let ours = self.tokens.audience();
        for resource in form.all("resource") {
            if resource != ours && resource.strip_suffix('/') != Some(ours) {
                let description = format!("tokens are issued for the resource {ours} only");
                return Err(OAuthError::new(OAuthErrorCode::InvalidTarget, description));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
