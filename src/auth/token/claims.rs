//! How a token looks, read and written: the header's and the claims' members with their types.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Ancestor;
use crate::auth::principal::{Actor, Claims, ClientId};
use crate::auth::scope::ScopeSet;

/// Exactly these members: anything else (`crit`, `b64`, `jwk`, `jku`, `x5u`, `x5c`, a doubled one) is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JoseHeader<'a> {
    #[serde(borrow)]
    pub(super) alg: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) typ: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) kid: Cow<'a, str>,
}

/// A text, or a list of texts (RFC 7519 section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(in crate::auth) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    /// The one audience. `None` for a list of several: a token that another service also takes could be replayed.
    pub(in crate::auth) fn only(&self) -> Option<&str> {
        match self {
            Self::One(audience) => Some(audience),
            Self::Many(audiences) => match &audiences[..] {
                [audience] => Some(audience),
                _ => None,
            },
        }
    }
}

/// As read: times are integers, everything is checked afterwards. Unknown claims are passed over.
#[derive(Deserialize)]
pub(super) struct TokenClaims {
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) aud: Audience,
    pub(super) exp: i64,
    pub(super) iat: i64,
    #[serde(default, deserialize_with = "present")]
    pub(super) nbf: Option<i64>,
    pub(super) jti: String,
    pub(super) client_id: ClientId,
    pub(super) scope: ScopeSet,
    #[serde(default)]
    pub(super) claims: Claims,
    #[serde(default)]
    pub(super) act: Option<Actor>,
    #[serde(default)]
    pub(super) exchanged_from: Vec<Ancestor>,
}

/// An optional claim that, if it is there, must have its type: `null` is no number.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    i64::deserialize(deserializer).map(Some)
}

/// As written.
#[derive(Serialize)]
pub(super) struct NewClaims<'a> {
    pub(super) iss: &'a str,
    pub(super) sub: &'a str,
    pub(super) aud: &'a str,
    pub(super) exp: i64,
    pub(super) iat: i64,
    pub(super) jti: &'a str,
    pub(super) client_id: &'a ClientId,
    pub(super) scope: &'a ScopeSet,
    #[serde(skip_serializing_if = "Claims::is_empty")]
    pub(super) claims: &'a Claims,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) act: &'a Option<Actor>,
    #[serde(skip_serializing_if = "<[Ancestor]>::is_empty")]
    pub(super) exchanged_from: &'a [Ancestor],
}
