//! Client assertions (RFC 7523 section 3, RFC 7521 section 4.2; `private_key_jwt` of OpenID Connect Core section 9): what
//! one says, and whether it is meant for this service, now.
//!
//! Pure. Knows headers and claims; does not know clients, keys or what has been used: see `client::assertion`.
//! B1 the header is exactly alg, and typ and kid where present: nothing in it brings or names a key's material.
//! B2 the audience is this service alone, so that no other server that was shown an assertion can use it here, and none
//!    that was written for this service can name another one as well (CVE-2025-27370, CVE-2025-27371).
//! B3 it ends within [`MAX_LIFETIME_MS`] and has an id, so that it can be remembered until then and taken once.
//!
//! Nothing here depends on whether there is such a client: these errors may say what is wrong.

use serde::{Deserialize, Deserializer};
use serde_json::Number;

use crate::auth::jws::Compact;
use crate::auth::keys::{CLIENT_ALGORITHMS, ClientAlgorithm};
use crate::auth::principal::ClientId;
use crate::auth::token::Audience;

/// The value of `client_assertion_type` (RFC 7523 section 2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far ahead an assertion may end, by its client's clock. Authlib asks for an hour unless told otherwise.
pub const MAX_LIFETIME_MS: i64 = 3_600_000;
/// How far a client's clock may be ahead of ours. None for `exp`: a clock that is behind asks for more time.
pub const MAX_CLOCK_AHEAD_MS: i64 = 30_000;
/// Longest `jti`.
const MAX_JTI_BYTES: usize = 256;
/// The type of assertions that are for the issuer alone (draft-ietf-oauth-rfc7523bis).
const EXPLICIT_TYPE: &str = "client-authentication+jwt";

/// Why an assertion cannot be taken, whoever its client is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssertionFault {
    #[error("it is not three base64url parts joined by dots")]
    NotCompact,
    #[error("its header must be a JSON object of alg and, if wanted, typ and kid, and of nothing else")]
    BadHeader,
    #[error("its typ must be JWT or {EXPLICIT_TYPE}, or be absent")]
    WrongType,
    #[error("its alg must be {}", CLIENT_ALGORITHMS.join(", "))]
    WrongAlgorithm,
    #[error("its claims must be a JSON object with iss, sub, aud, exp and jti, each once and of its type")]
    BadClaims,
    #[error("its iss and sub must both be the client's id")]
    NotItself,
    #[error("its jti must have 1 to {MAX_JTI_BYTES} bytes")]
    BadJti,
    #[error("its aud must be {issuer}, and nothing besides")]
    WrongAudience { issuer: String },
    #[error("it has expired")]
    Expired,
    #[error("its exp is more than an hour ahead; make a new one for each request")]
    TooFarAhead,
    #[error("it is not valid yet; set the client's clock")]
    NotYetValid,
}

/// As written by the client; nothing in it is believed before its signature holds.
pub(super) struct Assertion<'a> {
    pub(super) algorithm: ClientAlgorithm,
    pub(super) kid: Option<String>,
    /// What the signature is over.
    pub(super) signed: &'a str,
    /// In base64url.
    pub(super) signature: &'a str,
    pub(super) client_id: ClientId,
    pub(super) jti: String,
    pub(super) expires_at_ms: i64,
    explicit: bool,
    audience: Audience,
    issued_at_ms: Option<i64>,
    not_before_ms: Option<i64>,
}

/// Exactly these members (B1).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: NumericDate,
    #[serde(default, deserialize_with = "present")]
    iat: Option<NumericDate>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<NumericDate>,
    jti: String,
}

/// RFC 7519 section 2: seconds, with or without a fraction; held as milliseconds.
#[derive(Clone, Copy)]
struct NumericDate(i64);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = Number::deserialize(deserializer)?.as_f64().unwrap_or(f64::NAN);
        // Year 9999: what follows fits, and is exact to the millisecond.
        if !(0.0..253_402_300_800.0).contains(&seconds) {
            return Err(serde::de::Error::custom("no date"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked above")]
        Ok(Self((seconds * 1000.0) as i64))
    }
}

/// An optional member that, if it is there, must have its type: `null` is none.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'a> Assertion<'a> {
    /// Reads what it says; [`Self::check`] has the rest.
    pub(super) fn parse(text: &'a str) -> Result<Self, AssertionFault> {
        let compact = Compact::split(text).ok_or(AssertionFault::NotCompact)?;
        let claims = compact.claims().ok_or(AssertionFault::NotCompact)?;
        let header: Header =
            serde_json::from_slice(&compact.header).map_err(|_| AssertionFault::BadHeader)?;
        let explicit = match header.typ.as_deref() {
            None | Some("JWT") => false,
            Some(EXPLICIT_TYPE) => true,
            Some(_) => return Err(AssertionFault::WrongType),
        };
        let algorithm = ClientAlgorithm::named(&header.alg).ok_or(AssertionFault::WrongAlgorithm)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| AssertionFault::BadClaims)?;
        if claims.iss != claims.sub {
            return Err(AssertionFault::NotItself);
        }
        let client_id = claims.sub.parse().map_err(|_| AssertionFault::NotItself)?;
        if !(1..=MAX_JTI_BYTES).contains(&claims.jti.len()) {
            return Err(AssertionFault::BadJti);
        }
        Ok(Self {
            algorithm,
            kid: header.kid,
            signed: compact.signed,
            signature: compact.signature,
            client_id,
            jti: claims.jti,
            expires_at_ms: claims.exp.0,
            explicit,
            audience: claims.aud,
            issued_at_ms: claims.iat.map(|date| date.0),
            not_before_ms: claims.nbf.map(|date| date.0),
        })
    }

    /// Whether it is for this service, now. The audience is the issuer, or for clients of before 2025 the token
    /// endpoint, also where another endpoint is asked.
    pub(super) fn check(
        &self,
        issuer: &str,
        token_endpoint: &str,
        now_ms: i64,
    ) -> Result<(), AssertionFault> {
        let audience = self.audience.only();
        if audience != Some(issuer) && (self.explicit || audience != Some(token_endpoint)) {
            return Err(AssertionFault::WrongAudience { issuer: issuer.to_owned() });
        }
        if self.expires_at_ms <= now_ms {
            return Err(AssertionFault::Expired);
        }
        let latest_ms = now_ms.saturating_add(MAX_CLOCK_AHEAD_MS);
        if self.expires_at_ms > latest_ms.saturating_add(MAX_LIFETIME_MS) {
            return Err(AssertionFault::TooFarAhead);
        }
        let starts_ms = self.issued_at_ms.max(self.not_before_ms);
        if starts_ms.is_some_and(|starts_ms| starts_ms > latest_ms || starts_ms >= self.expires_at_ms) {
            return Err(AssertionFault::NotYetValid);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
