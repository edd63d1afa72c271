//! RFC 6749 section 4.3: a client sends a user's name and password. Off unless configured; OAuth 2.1 drops it.
//!
//! W1 the client comes first, then the password, then scopes: nobody learns of one before the other holds.
//! W2 unknown user, wrong password and disabled user give equal errors after the same work.
//! W3 failures count against an address, and a user at an address: guessing ends, and nobody locks a user out from
//!    elsewhere. They are looked at again after the password was checked, so that guesses sent at once gain nothing.
//! W4 a token holds no more than the client and the user both may.
//!
//! Clients of the old kind send `username` and `password` and nothing else: no grant_type, no client. They are taken for
//! one public client, which an administrator narrows or disables like any other.

use std::fmt;

use secrecy::SecretString;
use tracing::{debug, info, warn};

use super::{Form, Grants, OAuthRequest, TokenResponse};
use crate::auth::AuthSetupError;
use crate::auth::client::{Client, ClientAuthentication, ClientError, Clients, GrantType, NewClient};
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode};
use crate::auth::principal::ClientId;
use crate::auth::scope::ScopeSet;
use crate::auth::throttle::Throttle;
use crate::auth::user::UserError;

/// The name of the client that is made when none is configured.
const MADE_CLIENT: &str = "password-grant";
/// What the parameters and the header of an authenticating client are called.
const CLIENT_PARAMETERS: [&str; 4] =
    ["client_id", "client_secret", "client_assertion", "client_assertion_type"];

/// How the password grant is configured.
#[derive(Debug, Clone, Default)]
pub struct PasswordGrantConfig {
    /// Whom callers are taken for that name no client; one is made if absent.
    pub client_id: Option<String>,
}

impl PasswordGrantConfig {
    /// The client for callers that name none. It must be public and registered for the grant; a disabled one will do,
    /// since somebody may want just that.
    pub(in crate::auth) async fn client(&self, clients: &Clients) -> Result<ClientId, AuthSetupError> {
        let client = match &self.client_id {
            Some(given) => {
                let refuse = |reason| {
                    let given = given.chars().take(128).collect();
                    AuthSetupError::PasswordClient { given, reason }
                };
                let id: ClientId = given.parse().map_err(|_| refuse("which is no client's id"))?;
                let client = match clients.get(&id).await {
                    Ok(client) => client,
                    Err(ClientError::NotFound { .. }) => return Err(refuse("which does not exist")),
                    Err(error) => return Err(error.into()),
                };
                if client.authentication != ClientAuthentication::None {
                    return Err(refuse("which must authenticate, so that nobody can be taken for it"));
                }
                if !client.grant_types.contains(&GrantType::Password) {
                    return Err(refuse("which is not registered for the grant type password"));
                }
                client
            }
            None => clients.find_or_create(&made_client()).await?,
        };
        let client_id = &client.client_id;
        if client.disabled_at_ms.is_none() && takes_logins(&client) {
            info!(%client_id, "the password grant is on");
        } else {
            warn!(%client_id, "password logins without a client are refused: theirs is disabled, must authenticate, or is not registered for the grant");
        }
        Ok(client.client_id)
    }
}

/// Whether somebody who names no client can be taken for this one.
fn takes_logins(client: &Client) -> bool {
    client.authentication == ClientAuthentication::None && client.grant_types.contains(&GrantType::Password)
}

/// May hand out everything, so that a token holds what its user may; narrow it to keep passwords from opening more.
fn made_client() -> NewClient {
    NewClient {
        name: MADE_CLIENT.to_owned(),
        scopes: ScopeSet::everything(),
        authentication: ClientAuthentication::None,
        grant_types: [GrantType::Password, GrantType::RefreshToken].into(),
        ..NewClient::default()
    }
}

/// The grant while it is on.
pub(super) struct PasswordGrant {
    /// Whom callers are taken for that name no client.
    client_id: ClientId,
    /// Failed logins, apart from failed authentications of clients.
    throttle: Throttle,
}

impl PasswordGrant {
    pub(super) fn new(client_id: ClientId) -> Self {
        Self { client_id, throttle: Throttle::new() }
    }
}

impl fmt::Debug for PasswordGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordGrant").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl Grants {
    /// Whether a request without grant_type is one for this grant: clients of the old kind leave it out.
    pub(super) fn means_password(&self, form: &Form<'_>) -> bool {
        let has = |name| form.get(name).is_some();
        self.password.is_some() && !has("grant_type") && has("username") && has("password")
    }

    pub(super) async fn password(
        &self,
        form: &Form<'_>,
        request: OAuthRequest<'_>,
    ) -> Result<TokenResponse, OAuthError> {
        let Some(grant) = &self.password else { return Err(self.unsupported(GrantType::Password.as_str())) };
        let client = self.password_client(grant, form, request).await?;
        let audience = self.check_resource(form)?;
        let (username, password) = (form.require("username")?, form.require("password")?);
        // However it is written, it is one user.
        let login = username.to_ascii_lowercase();
        let wait_s = || grant.throttle.wait_s(request.remote, &login, self.clock.now_ms());
        if let Some(wait_s) = wait_s() {
            return Err(OAuthError::rate_limited(wait_s));
        }
        // A password that is changed while this one is hashed ends what comes of this login.
        let begun_ms = self.clock.now_ms();
        let verified = self.users.verify(username, &SecretString::from(password)).await;
        // Others may have failed meanwhile: of many guesses at once, no more are answered than one after the other (W3).
        if let Some(wait_s) = wait_s() {
            return Err(OAuthError::rate_limited(wait_s));
        }
        let user = verified.inspect_err(|error| {
            if matches!(error, UserError::BadCredentials) {
                grant.throttle.failed(request.remote, &login, self.clock.now_ms());
                debug!(remote = %request.remote, "a login with a password failed");
            }
        })?;
        grant.throttle.succeeded(request.remote, &login, self.clock.now_ms());
        let allowed = client.scopes.meet(&user.scopes)?;
        if allowed.is_empty() {
            let description = "this user and this client have no scope in common";
            return Err(OAuthError::new(OAuthErrorCode::InvalidScope, description));
        }
        let scopes = self.requested_scopes(form, &allowed)?;
        let response = self.issue_for_user(&client, &user, scopes.clone(), audience.clone())?;
        self.with_refresh_token(response, &client, &user, &scopes, audience, begun_ms).await
    }

    /// The client behind the request; the configured one where the request names none.
    async fn password_client(
        &self,
        grant: &PasswordGrant,
        form: &Form<'_>,
        request: OAuthRequest<'_>,
    ) -> Result<Client, OAuthError> {
        let names_client = CLIENT_PARAMETERS.iter().any(|name| form.get(name).is_some())
            || request.authorization.is_some_and(|header| !is_empty_basic(header));
        if names_client {
            return self.client_for(GrantType::Password, form, request).await;
        }
        match self.clients.public(grant.client_id.as_str()).await {
            Ok(client) if takes_logins(&client) => Ok(client),
            Ok(_) | Err(ClientError::BadCredentials) => {
                let description = "logins without a client are not taken any more; authenticate as a client that is registered for the grant password";
                Err(OAuthError::new(OAuthErrorCode::InvalidClient, description))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Basic credentials with neither id nor secret: what a form sends whose fields for the client were left empty, as that of
/// Swagger UI.
fn is_empty_basic(header: &str) -> bool {
    // base64 of a colon, with or without padding
    header.split_once(' ').is_some_and(|(scheme, encoded)| {
        scheme.eq_ignore_ascii_case("basic") && matches!(encoded.trim(), "Og==" | "Og")
    })
}

#[cfg(test)]
mod tests;
