//! Who is asking: the result of verifying a token, or of being the owner of the process.
//!
//! Pure. Knows scopes; does not know how a token looks. Every engine function takes a `&Principal` first.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auth::error::AuthError;
use crate::auth::scope::{Scope, ScopeSet};
use crate::error::ErrorKind;

/// Facts about the caller that row filters refer to as `{{claims.x}}`: strings, numbers, booleans, or lists of them.
pub type Claims = BTreeMap<String, Value>;

/// A registered client's id: 1 to 128 of `A-Z a-z 0-9 . _ -`. `local:` and a name, for callers within the process,
/// can only be built by [`Principal::local`] and hence never belongs to a registered client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientId(String);

/// A text that is no client id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a client id has 1 to 128 letters, digits, dots, dashes and underscores")]
pub struct ClientIdError;

impl ClientIdError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl ClientId {
    /// The id as it stands in tokens and in the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientId {
    type Err = ClientIdError;

    fn from_str(text: &str) -> Result<Self, ClientIdError> {
        let fits = (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits { Ok(Self(text.to_owned())) } else { Err(ClientIdError) }
    }
}

impl TryFrom<String> for ClientId {
    type Error = ClientIdError;

    fn try_from(text: String) -> Result<Self, ClientIdError> {
        text.parse()
    }
}

impl From<ClientId> for String {
    fn from(id: ClientId) -> Self {
        id.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a user's id begins with. No client id holds a colon, so that no client can pass for a user (RFC 9068 section 5).
const USER_PREFIX: &str = "user:";

/// A user's id and the claim `sub` of the user's tokens: `user:` and a UUID in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

/// A text that is no user id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a user id is `user:` and a UUID")]
pub struct UserIdError;

impl UserIdError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl UserId {
    /// A new one.
    pub fn random() -> Self {
        Self(format!("{USER_PREFIX}{}", uuid::Uuid::new_v4()))
    }

    /// The id as it stands in tokens and in the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a subject is a user's, rather than a client's own.
    pub fn names(subject: &str) -> bool {
        subject.starts_with(USER_PREFIX)
    }
}

impl FromStr for UserId {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<Self, UserIdError> {
        let uuid = text.strip_prefix(USER_PREFIX).and_then(|uuid| uuid::Uuid::try_parse(uuid).ok());
        match uuid {
            Some(uuid) if text[USER_PREFIX.len()..] == uuid.to_string() => Ok(Self(text.to_owned())),
            _ => Err(UserIdError),
        }
    }
}

impl TryFrom<String> for UserId {
    type Error = UserIdError;

    fn try_from(text: String) -> Result<Self, UserIdError> {
        text.parse()
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> Self {
        id.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who acts on behalf of the subject, as in RFC 8693 section 4.1: the outermost is the one acting now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The acting party.
    pub sub: String,
    /// On whose behalf it acts in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Actor>>,
}

/// How sensitive a column may be and still exist for somebody. Ordered: the greater sees more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Sensitivity {
    #[default]
    Public,
    /// Needs `data:protected`.
    Protected,
    /// Needs `data:highly_sensitive`.
    HighlySensitive,
}

impl Sensitivity {
    /// As YAML files and tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Protected => "protected",
            Self::HighlySensitive => "highly_sensitive",
        }
    }
}

/// Somebody whom the engine does things for.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// The client that holds the token.
    pub client_id: ClientId,
    /// On whose behalf: a user, or the client itself.
    pub subject: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The token's id; none within the process.
    pub jti: Option<String>,
    /// When the token ends, in epoch milliseconds; none within the process.
    pub expires_at_ms: Option<i64>,
    /// Who acts for the subject, if not the subject.
    pub actor: Option<Actor>,
    /// What `{{claims.x}}` in row filters is replaced by; always holds `sub` and `client_id`.
    pub claims: Claims,
}

impl Principal {
    /// The owner of the process (CLI, library): every scope, no expiry. Characters of `name` that a client id
    /// cannot hold become `_`.
    pub fn local(name: &str) -> Self {
        let name: String = name
            .chars()
            .take(64)
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
            .collect();
        let client_id = ClientId(format!("local:{name}"));
        let mut principal = Self {
            subject: client_id.0.clone(),
            client_id,
            scopes: ScopeSet::everything(),
            jti: None,
            expires_at_ms: None,
            actor: None,
            claims: Claims::new(),
        };
        principal.add_own_claims();
        principal
    }

    /// Whom private things belong to: the user, whichever client the user came through; else the client.
    pub fn owner(&self) -> &str {
        &self.subject
    }

    /// Who acts for the subject, the one acting now first.
    pub fn actors(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(self.actor.as_ref(), |actor| actor.act.as_deref())
            .map(|actor| actor.sub.as_str())
    }

    /// The same principal with these scopes instead.
    pub fn with_scopes(self, scopes: ScopeSet) -> Self {
        Self { scopes, ..self }
    }

    /// The same principal with this claim; `sub` and `client_id` stay what they are.
    pub fn with_claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self.add_own_claims();
        self
    }

    /// Puts `sub` and `client_id` among the claims, over whatever stood there.
    pub(super) fn add_own_claims(&mut self) {
        self.claims.insert("sub".into(), Value::from(self.subject.as_str()));
        self.claims.insert("client_id".into(), Value::from(self.client_id.as_str()));
    }

    /// Refuses unless a granted scope covers `required`; the error lists what would do.
    pub fn require(&self, required: &Scope) -> Result<(), AuthError> {
        if self.scopes.covers(required) { Ok(()) } else { Err(insufficient(required)) }
    }

    /// Refuses unless there is a granted scope of that area and verb, for whatever target.
    /// Only for entering an operation whose parts are required one by one.
    pub fn require_some_target(&self, required: &Scope) -> Result<(), AuthError> {
        if self.scopes.covers_some_target(required) { Ok(()) } else { Err(insufficient(required)) }
    }

    /// The highest sensitivity that the `data:*` scopes open.
    pub fn sensitivity(&self) -> Sensitivity {
        let holds = |verb: &str| {
            self.scopes.iter().any(|s| s.area() == "data" && s.verb() == verb && s.target().is_none())
        };
        match (holds("protected"), holds("highly_sensitive")) {
            (_, true) => Sensitivity::HighlySensitive,
            (true, false) => Sensitivity::Protected,
            (false, false) => Sensitivity::Public,
        }
    }
}

fn insufficient(required: &Scope) -> AuthError {
    AuthError::InsufficientScope { required: required.clone(), would_do: required.would_do() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_registered_client_can_have_a_local_callers_id() {
        let local = Principal::local("me@host:x").client_id;
        assert_eq!(local.as_str(), "local:me_host_x");
        assert!(local.as_str().parse::<ClientId>().is_err());
    }

    #[test]
    fn client_ids_hold_only_their_alphabet() {
        assert!("demo-a1b2c3d4".parse::<ClientId>().is_ok());
        for bad in ["", "a b", "a:b", "a/b", "a\0", "ä", &"a".repeat(129)] {
            assert!(bad.parse::<ClientId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sensitivity_follows_the_highest_data_scope() {
        let with = |scopes: &str| Principal::local("x").with_scopes(scopes.parse().unwrap()).sensitivity();
        assert_eq!(with("sql:run"), Sensitivity::Public);
        assert_eq!(with("data:protected"), Sensitivity::Protected);
        assert_eq!(with("data:highly_sensitive"), Sensitivity::HighlySensitive);
        assert_eq!(with("data:protected data:highly_sensitive"), Sensitivity::HighlySensitive);
        assert_eq!(with("data:protected:x"), Sensitivity::Public, "no such scope can be granted");
        assert_eq!(
            with("protected highly_sensitive"),
            Sensitivity::Public,
            "the example's scopes open no data"
        );
    }

    #[test]
    fn a_missing_scope_is_named_with_what_would_do() {
        let principal = Principal::local("x").with_scopes("sql:run:flights.planes".parse().unwrap());
        let error = principal.require(&"sql:run:flights.airports".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InsufficientScope);
        assert!(error.to_string().contains("sql:run:flights.* or sql:run"), "{error}");
    }

    #[test]
    fn a_claim_cannot_pretend_to_be_another_subject() {
        let principal = Principal::local("x").with_claim("sub", "root").with_claim("carrier", "UA");
        assert_eq!(principal.claims["sub"], "local:x");
        assert_eq!(principal.claims["carrier"], "UA");
    }
}
