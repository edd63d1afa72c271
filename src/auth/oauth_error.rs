//! The errors of the OAuth endpoints, in the form of RFC 6749 section 5.2.

use serde::Serialize;
use tracing::error;

use crate::auth::assertion::AssertionFault;
use crate::auth::client::ClientError;
use crate::auth::error::AuthError;
use crate::auth::principal::{ClientId, UserId};
use crate::auth::scope::ScopeError;
use crate::auth::user::UserError;
use crate::error::ErrorKind;
use crate::store::StoreError;

/// The codes of RFC 6749 section 5.2, RFC 8707 section 2 and, for what is our fault, of section 4.1.2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OAuthErrorCode {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    InvalidTarget,
    /// RFC 7009 section 2.2.1.
    UnsupportedTokenType,
    /// The user said no.
    AccessDenied,
    UnsupportedResponseType,
    /// OpenID Connect Core section 3.1.2.6: `prompt=none`, and the user must log in.
    LoginRequired,
    /// The same, and the user must be asked.
    ConsentRequired,
    TemporarilyUnavailable,
    ServerError,
}

impl OAuthErrorCode {
    /// As the answer and the audit spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::AccessDenied => "access_denied",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::LoginRequired => "login_required",
            Self::ConsentRequired => "consent_required",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }
}

/// Which status the answer should have, without naming one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusHint {
    /// The request is wrong.
    BadRequest,
    /// The client is not authenticated.
    Unauthorized,
    /// Too many failures; try again after so many seconds.
    TooManyRequests { retry_after_s: u64 },
    /// The service cannot do it now.
    Unavailable,
    /// A defect of ours.
    Internal,
}

/// The body of an OAuth error answer, with a hint at its status. Two errors with one cause in the caller's eyes are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{error_description}")]
pub struct OAuthError {
    pub error: OAuthErrorCode,
    /// What to do about it. Only the characters that RFC 6749 allows: printable ASCII but `"` and `\`.
    pub error_description: String,
    #[serde(skip)]
    pub status: StatusHint,
    /// Whether the answer must carry `WWW-Authenticate: Basic` (every 401 must, RFC 9110 section 15.5.2).
    #[serde(skip)]
    pub www_authenticate: bool,
    /// For the audit, never for the caller: something that is good once was used again, and whose it was.
    #[serde(skip)]
    pub reuse: Option<Box<Reuse>>,
}

/// A code or a refresh token was used a second time, and every token of its family is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reuse {
    pub client_id: ClientId,
    pub user_id: UserId,
    pub family_id: String,
}

impl OAuthError {
    /// An error with the status that its code has by default.
    pub fn new(error: OAuthErrorCode, description: impl Into<String>) -> Self {
        let status = match error {
            OAuthErrorCode::InvalidClient => StatusHint::Unauthorized,
            OAuthErrorCode::TemporarilyUnavailable => StatusHint::Unavailable,
            OAuthErrorCode::ServerError => StatusHint::Internal,
            _ => StatusHint::BadRequest,
        };
        let error_description = description
            .into()
            .chars()
            .map(|c| match c {
                '`' | '"' | '\\' => '\'',
                ' '..='~' => c,
                _ => '?',
            })
            .collect();
        let www_authenticate = status == StatusHint::Unauthorized;
        Self { error, error_description, status, www_authenticate, reuse: None }
    }

    /// Too many failed attempts.
    pub fn rate_limited(retry_after_s: u64) -> Self {
        let description =
            format!("too many failed attempts from this address; try again in {retry_after_s} s");
        let status = StatusHint::TooManyRequests { retry_after_s };
        Self { status, ..Self::new(OAuthErrorCode::TemporarilyUnavailable, description) }
    }

    /// The one answer to an unknown client, a wrong secret and a disabled client.
    pub(super) fn bad_credentials() -> Self {
        Self::new(OAuthErrorCode::InvalidClient, ClientError::BadCredentials.to_string())
    }

    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self.status {
            StatusHint::BadRequest => ErrorKind::InvalidInput,
            StatusHint::Unauthorized => ErrorKind::Unauthenticated,
            StatusHint::TooManyRequests { .. } => ErrorKind::RateLimited,
            StatusHint::Unavailable => ErrorKind::Unavailable,
            StatusHint::Internal => ErrorKind::Internal,
        }
    }

    fn ours(kind: ErrorKind, cause: &dyn std::fmt::Display) -> Self {
        error!(%cause, "a token request failed by our own fault");
        match kind {
            ErrorKind::Unavailable => Self::new(
                OAuthErrorCode::TemporarilyUnavailable,
                "the service database does not answer; try again",
            ),
            _ => Self::new(OAuthErrorCode::ServerError, "the service failed; its log says why"),
        }
    }
}

impl From<ScopeError> for OAuthError {
    fn from(error: ScopeError) -> Self {
        Self::new(OAuthErrorCode::InvalidScope, error.to_string())
    }
}

impl From<ClientError> for OAuthError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::BadCredentials => Self::bad_credentials(),
            ClientError::Scope(error) => error.into(),
            other => Self::ours(other.kind(), &other),
        }
    }
}

impl From<UserError> for OAuthError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::BadCredentials => Self::new(OAuthErrorCode::InvalidGrant, error.to_string()),
            UserError::Scope(error) => error.into(),
            other => Self::ours(other.kind(), &other),
        }
    }
}

impl From<AuthError> for OAuthError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::OversizeToken => Self::new(OAuthErrorCode::InvalidScope, error.to_string()),
            other => Self::ours(other.kind(), &other),
        }
    }
}

impl From<AssertionFault> for OAuthError {
    fn from(fault: AssertionFault) -> Self {
        // RFC 7521 section 4.2.1. The fault is in the assertion alone, so that it tells nothing about any client.
        Self::new(OAuthErrorCode::InvalidClient, format!("client_assertion: {fault}"))
    }
}

impl From<StoreError> for OAuthError {
    fn from(error: StoreError) -> Self {
        Self::ours(error.kind(), &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_hold_only_what_rfc_6749_allows() {
        let error = OAuthError::new(OAuthErrorCode::InvalidScope, "a `b` \"c\" \\ \u{e9}\n");
        assert_eq!(error.error_description, "a 'b' 'c' ' ??");
        assert_eq!(
            serde_json::to_string(&OAuthError::new(OAuthErrorCode::InvalidClient, "x")).unwrap(),
            r#"{"error":"invalid_client","error_description":"x"}"#
        );
    }
}
