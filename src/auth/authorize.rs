//! The authorization endpoint's logic (RFC 6749 section 4.1, RFC 7636, 8252, 9207, 9700): who is logged in, what the
//! client asks for, whether the user must be asked, and the code in the end.
//!
//! Knows requests, users, sessions, consent and codes; does not know HTTP, cookies' names or HTML.
//! Z1 a code is only made for a [`Granted`], and that only comes from consent: just given, or remembered.
//! Z2 what the user is asked is what is granted: the form is bound to session, request and scopes.
//! Z3 an app that anybody can pass for is asked about every time (RFC 8252 section 8.6): a public client whose redirect
//!    goes to a loopback address or a scheme of its own.
//! Z4 a user never gives more than it has: scopes that it lacks are left out, and the answer says which are in.

mod code;
mod consent;
mod redirect;
mod request;
mod session;

use std::net::IpAddr;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::auth::client::{ClientAuthentication, ClientError, Clients};
use crate::auth::grants::Grants;
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode};
use crate::auth::opaque::{form_token, is_form_token, is_value, new_value};
use crate::auth::scope::{ScopeError, ScopeSet};
use crate::auth::state::LiveState;
use crate::auth::throttle::Throttle;
use crate::auth::user::{User, UserError, Users};
use crate::error::ErrorKind;
use crate::store::StoreError;
use consent::Consents;
use request::Recipient;
use session::Sessions;

pub use code::CODE_LIFETIME_MS;
pub(in crate::auth) use code::{CodeGrant, Codes, claim};
pub use request::{AuthorizationRequest, MAX_REQUEST_BYTES, Prompt, Refusal};
pub use session::{SESSION_IDLE_MS, SESSION_MAX_MS, Session};

/// Why the user gets no further.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    #[error("that username and password do not go together, or the account is disabled")]
    BadCredentials,
    #[error("too many failed attempts; try again in {wait_s} seconds")]
    RateLimited { wait_s: u64 },
    #[error(transparent)]
    User(UserError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AuthorizeError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadCredentials => ErrorKind::Unauthenticated,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::User(error) => error.kind(),
            Self::Client(error) => error.kind(),
            Self::Scope(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}

/// Permission to make a code (Z1).
#[derive(Debug)]
pub struct Granted {
    user: User,
    authenticated_at_ms: i64,
    scopes: ScopeSet,
}

/// What comes next for a request.
#[derive(Debug)]
pub enum Next {
    /// The user must log in.
    LogIn,
    /// The user must be asked for these scopes.
    Ask(ScopeSet),
    /// The user has allowed it before.
    Go(Granted),
    /// It cannot be; tell the client.
    Refuse(Refusal),
}

/// What a form is for; a token of one fits no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormKind {
    LogIn,
    Consent,
    LogOut,
}

impl FormKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::LogIn => "log_in",
            Self::Consent => "consent",
            Self::LogOut => "log_out",
        }
    }
}

/// The logic behind the authorization endpoint.
#[derive(Debug)]
pub struct Authorize {
    state: Arc<LiveState>,
    clients: Clients,
    users: Users,
    grants: Arc<Grants>,
    sessions: Sessions,
    consents: Consents,
    codes: Codes,
    throttle: Throttle,
    issuer: String,
}

impl Authorize {
    pub(super) fn new(
        state: Arc<LiveState>,
        clients: Clients,
        users: Users,
        grants: Arc<Grants>,
        issuer: String,
    ) -> Self {
        Self {
            sessions: Sessions::new(state.clone(), users.clone()),
            consents: Consents::new(state.clone()),
            codes: Codes::new(state.clone()),
            throttle: Throttle::new(),
            state,
            clients,
            users,
            grants,
            issuer,
        }
    }

    /// Checks a request, given as the decoded fields of the URL's query, repeats included.
    pub async fn request(&self, fields: &[(String, String)]) -> Result<AuthorizationRequest, Refusal> {
        // What another replica has changed about the client counts at once.
        if let Err(error) = self.state.refresh().await {
            return Err(Refusal::Page(error.into()));
        }
        let recipient = Recipient::check(fields, |client_id| self.clients.known(client_id))?;
        recipient.accept(fields, &self.issuer, |form| self.grants.check_resource(form))
    }

    /// What must happen for the request to be granted to whoever is logged in.
    pub async fn next(
        &self,
        request: &AuthorizationRequest,
        session: Option<&Session>,
    ) -> Result<Next, AuthorizeError> {
        let Some(session) = session.filter(|_| !request.prompt.login) else {
            return Ok(match request.prompt.none {
                true => self.refused(request, OAuthErrorCode::LoginRequired, "the user is not logged in"),
                false => Next::LogIn,
            });
        };
        let Some(scopes) = scopes_for(request, &session.user)? else {
            let text = "the user has none of the scopes that are asked for";
            return Ok(self.refused(request, OAuthErrorCode::AccessDenied, text));
        };
        let always_asks = request.prompt.consent
            || (request.client.authentication == ClientAuthentication::None && !request.redirect_is_proven());
        let allowed = self.consents.of(&session.user.user_id, &request.client.client_id).await?;
        if !always_asks && scopes.iter().all(|scope| allowed.covers(scope)) {
            return Ok(Next::Go(granted(session, scopes)));
        }
        Ok(match request.prompt.none {
            true => self.refused(request, OAuthErrorCode::ConsentRequired, "the user must be asked"),
            false => Next::Ask(scopes),
        })
    }

    /// The user allows the request: remembers it. `shown` is what the user was asked for; `None` if the user's or the client's
    /// scopes have changed since, so that it must be asked again (Z2).
    pub async fn allow(
        &self,
        request: &AuthorizationRequest,
        session: &Session,
        shown: &ScopeSet,
    ) -> Result<Option<Granted>, AuthorizeError> {
        let Some(scopes) = scopes_for(request, &session.user)?.filter(|scopes| scopes == shown) else {
            return Ok(None);
        };
        self.consents.remember(&session.user.user_id, &request.client.client_id, &scopes).await?;
        Ok(Some(granted(session, scopes)))
    }

    /// The user does not allow the request: where to send the browser.
    pub fn deny(&self, request: &AuthorizationRequest) -> Refusal {
        let error = OAuthError::new(OAuthErrorCode::AccessDenied, "the user did not allow it");
        request.refuse(&self.issuer, &error)
    }

    /// The answer to the client for an error of ours, once it is known who the client is.
    pub fn failed(&self, request: &AuthorizationRequest, error: &AuthorizeError) -> Refusal {
        let (code, text) = match error.kind() {
            ErrorKind::Unavailable => (OAuthErrorCode::TemporarilyUnavailable, "try again"),
            _ => (OAuthErrorCode::ServerError, "the service failed; its log says why"),
        };
        request.refuse(&self.issuer, &OAuthError::new(code, text))
    }

    /// Makes the code; where to send the browser.
    pub async fn issue(
        &self,
        request: &AuthorizationRequest,
        granted: Granted,
    ) -> Result<String, AuthorizeError> {
        let code = self
            .codes
            .issue(&CodeGrant {
                client_id: request.client.client_id.clone(),
                user_id: granted.user.user_id,
                redirect_uri: request.names_redirect_uri.then(|| request.redirect_uri.clone()),
                scopes: granted.scopes,
                resource: request.resource.clone(),
                code_challenge: request.code_challenge.clone(),
                authenticated_at_ms: granted.authenticated_at_ms,
            })
            .await?;
        Ok(request.answer(&self.issuer, code.expose_secret()))
    }

    /// Logs a user in: the value for the cookie, new every time. `before` is the value that the browser had; that session ends.
    /// Failures are counted by address and username, so that nobody can lock a user out from elsewhere.
    pub async fn log_in(
        &self,
        username: &str,
        password: &SecretString,
        remote: IpAddr,
        before: Option<&str>,
    ) -> Result<(User, SecretString), AuthorizeError> {
        // Taken first: a password that is changed meanwhile ends this session too.
        let now_ms = self.state.clock().now_ms();
        let name = username.to_ascii_lowercase();
        if let Some(wait_s) = self.throttle.wait_s(remote, &name, now_ms) {
            return Err(AuthorizeError::RateLimited { wait_s });
        }
        match self.users.verify(username, password).await {
            Ok(user) => {
                self.throttle.succeeded(remote, &name, now_ms);
                let secret = self.sessions.start(&user.user_id, now_ms, before).await?;
                Ok((user, secret))
            }
            Err(UserError::BadCredentials) => {
                self.throttle.failed(remote, &name, now_ms);
                Err(AuthorizeError::BadCredentials)
            }
            Err(UserError::Store(error)) => Err(error.into()),
            Err(error) => Err(AuthorizeError::User(error)),
        }
    }

    /// The login behind a cookie's value, if it holds.
    pub async fn session(&self, value: &str) -> Result<Option<Session>, AuthorizeError> {
        Ok(self.sessions.find(value).await?)
    }

    /// Ends a login.
    pub async fn log_out(&self, session: &Session) -> Result<(), AuthorizeError> {
        Ok(self.sessions.end(session.secret.expose_secret()).await?)
    }

    /// A value for the cookie of a browser that is not logged in, to which its login form is bound.
    pub fn new_visit(&self) -> Result<SecretString, AuthorizeError> {
        Ok(new_value("")?)
    }

    /// Whether a cookie's value has the form of ours.
    pub fn is_cookie_value(&self, value: &str) -> bool {
        is_value("", value)
    }

    /// The hidden value of a login form in the browser with that cookie.
    pub fn visit_token(&self, visit: &SecretString, query: &str) -> String {
        form_token(visit, &[FormKind::LogIn.as_str(), query])
    }

    /// Whether a login form came from a page of ours in that browser.
    pub fn is_visit_token(&self, visit: &SecretString, query: &str, token: &str) -> bool {
        is_form_token(visit, &[FormKind::LogIn.as_str(), query], token)
    }

    /// The hidden value of a form of somebody who is logged in. `shown` is what the form asks (Z2).
    pub fn session_token(&self, session: &Session, kind: FormKind, query: &str, shown: &ScopeSet) -> String {
        form_token(&session.secret, &[kind.as_str(), query, &shown.to_string()])
    }

    /// Whether that form came from a page of ours in that login.
    pub fn is_session_token(
        &self,
        session: &Session,
        kind: FormKind,
        query: &str,
        shown: &ScopeSet,
        token: &str,
    ) -> bool {
        is_form_token(&session.secret, &[kind.as_str(), query, &shown.to_string()], token)
    }

    fn refused(&self, request: &AuthorizationRequest, code: OAuthErrorCode, text: &str) -> Next {
        Next::Refuse(request.refuse(&self.issuer, &OAuthError::new(code, text)))
    }
}

/// What the user can give of what is asked for (Z4); `None` if that is nothing.
fn scopes_for(request: &AuthorizationRequest, user: &User) -> Result<Option<ScopeSet>, ScopeError> {
    let scopes = request.scopes.meet(&user.scopes)?;
    Ok((!scopes.is_empty()).then_some(scopes))
}

fn granted(session: &Session, scopes: ScopeSet) -> Granted {
    Granted { user: session.user.clone(), authenticated_at_ms: session.started_at_ms, scopes }
}

#[cfg(test)]
mod tests;
