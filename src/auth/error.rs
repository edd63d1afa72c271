//! What an access token can fail at, told twice: the display text is for the caller, [`TokenFault`] for the log.

use crate::auth::scope::Scope;
use crate::error::ErrorKind;
use crate::store::StoreError;

/// Why a token does not hold. For the log only: the caller learns no more than that it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenFault {
    #[error("token over the size limit")]
    TooLong,
    #[error("not three base64url parts joined by dots")]
    NotCompact,
    #[error("header is not a JSON object of exactly alg, typ and kid")]
    BadHeader,
    #[error("algorithm is not the key's")]
    WrongAlgorithm,
    #[error("typ is not at+jwt")]
    WrongType,
    #[error("kid is not one of our keys")]
    UnknownKey,
    #[error("signature does not match")]
    BadSignature,
    #[error("claims are missing, doubled or of the wrong type")]
    BadClaims,
    #[error("issued by someone else")]
    WrongIssuer,
    #[error("meant for another audience")]
    WrongAudience,
    #[error("not valid yet")]
    NotYetValid,
    #[error("token was revoked, or one that it was exchanged for")]
    Revoked,
    #[error(
        "client is disabled, lost scopes that the token holds, or had its tokens revoked; or one whose token it was exchanged for"
    )]
    ClientRevoked,
    #[error("client is not registered")]
    UnknownClient,
    #[error("user is disabled, lost scopes that the token holds, or had its tokens revoked")]
    UserRevoked,
    #[error("user is not registered")]
    UnknownUser,
}

/// Why a request is not let through.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error(
        "this needs an access token; get one from the token endpoint and send it as `Authorization: Bearer <token>`"
    )]
    MissingToken,
    #[error("the Authorization header is not `Bearer` followed by one access token")]
    MalformedHeader,
    #[error("the access token is not valid here; get a new one from the token endpoint")]
    InvalidToken { fault: TokenFault },
    #[error("the access token has expired; get a new one from the token endpoint")]
    ExpiredToken,
    #[error("this needs the scope {required}; ask for a token with {}", alternatives(.would_do))]
    InsufficientScope { required: Scope, would_do: Vec<Scope> },
    #[error(
        "cannot tell whether the token was revoked, since the service database does not answer; try again"
    )]
    RevocationUnknown,
    #[error("the token could not be signed")]
    Signing,
    #[error("the token would take more than 8,192 bytes; ask for fewer scopes")]
    OversizeToken,
    #[error("the service database does not answer; try again")]
    Store(#[from] StoreError),
}

fn alternatives(scopes: &[Scope]) -> String {
    scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" or ")
}

impl AuthError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::MissingToken | Self::MalformedHeader | Self::InvalidToken { .. } | Self::ExpiredToken => {
                ErrorKind::Unauthenticated
            }
            Self::InsufficientScope { .. } => ErrorKind::InsufficientScope,
            Self::RevocationUnknown => ErrorKind::Unavailable,
            Self::Signing => ErrorKind::Internal,
            Self::OversizeToken => ErrorKind::InvalidInput,
            Self::Store(error) => error.kind(),
        }
    }

    /// RFC 6750 section 3.1's error code; none where no token was sent, or the fault is ours.
    pub fn bearer_error(&self) -> Option<&'static str> {
        match self {
            Self::MalformedHeader => Some("invalid_request"),
            Self::InvalidToken { .. } | Self::ExpiredToken => Some("invalid_token"),
            Self::InsufficientScope { .. } => Some("insufficient_scope"),
            _ => None,
        }
    }

    /// The value of a `WWW-Authenticate` header (RFC 6750 section 3, RFC 9728 section 5.1), where one is due.
    /// `resource_metadata` is the address of the protected resource metadata.
    pub fn challenge(&self, resource_metadata: &str) -> Option<String> {
        if !matches!(self.kind(), ErrorKind::Unauthenticated | ErrorKind::InsufficientScope) {
            return None;
        }
        let mut challenge = format!("Bearer resource_metadata=\"{resource_metadata}\"");
        if let Some(code) = self.bearer_error() {
            // The texts come from this file and from scopes, neither of which holds a quote or a backslash.
            challenge.push_str(&format!(", error=\"{code}\", error_description=\"{self}\""));
        }
        if let Self::InsufficientScope { required, .. } = self {
            challenge.push_str(&format!(", scope=\"{required}\""));
        }
        Some(challenge)
    }
}

impl From<TokenFault> for AuthError {
    fn from(fault: TokenFault) -> Self {
        Self::InvalidToken { fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_not_told_why_a_token_does_not_hold() {
        let forged = AuthError::from(TokenFault::BadSignature);
        let revoked = AuthError::from(TokenFault::Revoked);
        assert_eq!(forged.to_string(), revoked.to_string());
        assert_eq!(forged.challenge("https://x/m"), revoked.challenge("https://x/m"));
    }

    #[test]
    fn challenges_name_the_error_and_the_scope_and_quote_nothing_twice() {
        let required: Scope = "sql:run:flights.airports".parse().unwrap();
        let error = AuthError::InsufficientScope { would_do: required.would_do(), required };
        assert_eq!(
            error.challenge("https://x/m").unwrap(),
            "Bearer resource_metadata=\"https://x/m\", error=\"insufficient_scope\", error_description=\"this needs \
             the scope sql:run:flights.airports; ask for a token with sql:run:flights.airports or sql:run:flights.* \
             or sql:run\", scope=\"sql:run:flights.airports\""
        );
        assert_eq!(
            AuthError::MissingToken.challenge("https://x/m").unwrap(),
            "Bearer resource_metadata=\"https://x/m\"",
            "RFC 6750: no error code where no token was sent"
        );
        assert_eq!(AuthError::Signing.challenge("https://x/m"), None);
    }
}
