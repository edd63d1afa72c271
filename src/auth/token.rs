//! Access tokens: RFC 9068 JWTs, signed here and accepted only as they are signed here.
//!
//! Knows keys, principals and the copy of revocations in memory; runs no SQL, except to revoke.
//! T1 only this service's tokens pass: the header is exactly alg, typ and kid; alg is the key's own; issuer and
//!    audience are ours alone; nothing in a token ever chooses the key's material or the algorithm. A token that was
//!    issued here for another resource opens nothing here: [`Tokens::inspect`] says what it is, and only that.
//! T2 nothing in a token is believed before its signature holds.
//! T3 a revoked token, or one of a disabled client, is refused from the moment the revocation is known here, also
//!    if it has been verified before.
//! T4 if revocations could not be read for [`MAX_STALENESS`], no token passes and none is issued.
//! T5 a token holds no scope that its client, or the user that it is for, does not hold now: one that a replica issued
//!    by what it knew before these scopes shrank is refused.
//! T6 a token that was exchanged (RFC 8693) ends no later than the token that it was exchanged for, and dies with it.
//!
//! Leeway: none for `exp` (RFC 7519 allows none; the clock is the issuer's own or a replica's), 5 s for `nbf` and
//! `iat`, so that a replica whose clock is behind takes a token from one whose clock is ahead.

mod cache;
mod claims;
mod standing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::debug;
use uuid::{NoContext, Timestamp, Uuid};

use crate::auth::error::{AuthError, TokenFault};
use crate::auth::jws::Compact;
use crate::auth::keys::{KeySet, TOKEN_TYPE};
use crate::auth::principal::{Actor, Claims, ClientId, Principal};
use crate::auth::scope::ScopeSet;
use crate::auth::state::LiveState;
use crate::store::StoreError;
pub(super) use cache::Verified;
use cache::VerifiedTokens;
pub(super) use claims::Audience;
use claims::{JoseHeader, NewClaims, TokenClaims};

/// Longest token that is looked at.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far clocks of replicas may differ.
pub const CLOCK_SKEW_MS: i64 = 5_000;
/// How long tokens pass while the service database does not answer.
pub const MAX_STALENESS: Duration = Duration::from_secs(30);
/// A kid is a SHA-256 thumbprint in base64url.
const KID_BYTES: usize = 43;

/// A signed token. Shown to its client and nowhere else: `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct AccessToken(String);

impl AccessToken {
    /// The compact JWS.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

/// What a token is to say. The grants decide it; nothing is checked here any more.
#[derive(Debug, Clone)]
pub struct TokenSpec {
    pub client_id: ClientId,
    pub subject: String,
    pub scopes: ScopeSet,
    pub claims: Claims,
    pub actor: Option<Actor>,
    /// The resource that it is for, as [`Tokens::resource`] gives it; this service if `None`.
    pub audience: Option<String>,
    /// What it is exchanged for, if it is (T6).
    pub exchanged: Option<Exchanged>,
}

/// A token that another one is issued for in exchange, with those that it came from itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanged {
    /// When the first of them ends.
    pub expires_at_ms: i64,
    /// The nearest first.
    pub ancestors: Vec<Ancestor>,
}

/// A token that another one descends from by exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    pub jti: String,
    /// To whom it was issued.
    pub client_id: ClientId,
}

/// A new token and what the answer and the audit say of it.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    pub token: AccessToken,
    pub jti: String,
    pub expires_in_s: u64,
    pub scopes: ScopeSet,
}

/// Signs and verifies.
pub struct Tokens {
    issuer: String,
    audience: String,
    /// Others that tokens may be asked for.
    resources: Vec<String>,
    lifetime_s: u64,
    max_staleness: Duration,
    keys: ArcSwap<KeySet>,
    state: Arc<LiveState>,
    cache: VerifiedTokens,
}

impl Tokens {
    pub(super) fn new(
        issuer: String,
        audience: String,
        resources: Vec<String>,
        lifetime_s: u64,
        keys: KeySet,
        state: Arc<LiveState>,
    ) -> Self {
        Self {
            issuer,
            audience,
            resources,
            lifetime_s,
            max_staleness: MAX_STALENESS,
            keys: ArcSwap::from_pointee(keys),
            state,
            cache: VerifiedTokens::default(),
        }
    }

    /// This service's resource identifier: the audience of a token that is asked for without `resource`.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The resource that a request names (RFC 8707), if tokens are issued for it: this service, or one of those
    /// configured. A slash at the end makes no difference.
    pub fn resource(&self, given: &str) -> Option<&str> {
        self.audiences().find(|known| is_same_resource(known, given))
    }

    fn audiences(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.audience).chain(&self.resources).map(String::as_str)
    }

    /// The keys in use.
    pub fn keys(&self) -> Arc<KeySet> {
        self.keys.load_full()
    }

    /// Puts other keys in use. Tokens of a key that is no longer among them stop working at once.
    pub fn replace_keys(&self, keys: KeySet) {
        self.keys.store(Arc::new(keys));
    }

    /// Signs a token (about 0.03 ms with ES256 and EdDSA; RS256 takes a millisecond). Refused while what is known of
    /// clients and revocations is too old (T4): verifiers elsewhere go by the signature alone.
    pub fn issue(&self, spec: &TokenSpec) -> Result<IssuedToken, AuthError> {
        if self.state.checked().at.elapsed() > self.max_staleness {
            return Err(AuthError::RevocationUnknown);
        }
        let now_ms = self.state.clock().now_ms();
        let now_s = now_ms.div_euclid(1000);
        let millisecond = u32::try_from(now_ms.rem_euclid(1000)).unwrap_or(0);
        let jti =
            Uuid::new_v7(Timestamp::from_unix(NoContext, now_s.unsigned_abs(), millisecond * 1_000_000));
        let jti = jti.to_string();
        let latest_s = now_s.saturating_add(i64::try_from(self.lifetime_s).unwrap_or(i64::MAX));
        let exchanged = spec.exchanged.as_ref();
        let exp = exchanged.map_or(latest_s, |from| latest_s.min(from.expires_at_ms.div_euclid(1000)));
        let token = self.keys.load().active().sign(&NewClaims {
            iss: &self.issuer,
            sub: &spec.subject,
            aud: spec.audience.as_deref().unwrap_or(&self.audience),
            exp,
            iat: now_s,
            jti: &jti,
            client_id: &spec.client_id,
            scope: &spec.scopes,
            claims: &spec.claims,
            act: &spec.actor,
            exchanged_from: exchanged.map_or(&[], |from| &from.ancestors),
        });
        match token {
            // Scopes and claims are limited where they are registered, so that this holds (see scope, client), but for
            // a long chain of exchanges.
            Some(token) if token.len() <= MAX_TOKEN_BYTES => Ok(IssuedToken {
                token: AccessToken(token),
                jti,
                expires_in_s: exp.saturating_sub(now_s).max(0).unsigned_abs(),
                scopes: spec.scopes.clone(),
            }),
            Some(_) => Err(AuthError::OversizeToken),
            None => Err(AuthError::Signing),
        }
    }

    /// Who the token says is asking, if it holds. No I/O; about 0.1 ms the first time, some microseconds after that.
    pub fn verify(&self, token: &str) -> Result<Arc<Principal>, AuthError> {
        Ok(self.verified(token)?.principal.clone())
    }

    /// The same with all else that the token says.
    pub(super) fn verified(&self, token: &str) -> Result<Arc<Verified>, AuthError> {
        let verified = self.inspect(token)?;
        if verified.audience != self.audience {
            debug!(jti = verified.jti, "token for another resource refused");
            return Err(TokenFault::WrongAudience.into());
        }
        Ok(verified)
    }

    /// The principal behind an `Authorization` header's value.
    pub fn verify_authorization(&self, header: Option<&str>) -> Result<Arc<Principal>, AuthError> {
        let header = header.ok_or(AuthError::MissingToken)?;
        match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                // RFC 9110 section 11.4 allows more than one space; anything else in the token is refused below.
                let token = token.trim_start_matches(' ');
                if token.is_empty() { Err(AuthError::MalformedHeader) } else { self.verify(token) }
            }
            None if header.eq_ignore_ascii_case("bearer") => Err(AuthError::MalformedHeader),
            // Another scheme is no access token at all.
            _ => Err(AuthError::MissingToken),
        }
    }

    /// What a token says that holds, whichever resource it is for. For telling about it, or ending it: whom it lets in
    /// here is for [`Self::verify`] to say.
    pub(super) fn inspect(&self, token: &str) -> Result<Arc<Verified>, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::TooLong.into());
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let verified = match self.cache.get(&digest) {
            // A key may have been withdrawn since.
            Some(verified) if self.keys.load().find(&verified.kid).is_some() => verified,
            _ => {
                let verified =
                    Arc::new(self.check_token(token).inspect_err(|fault| debug!(%fault, "token refused"))?);
                self.cache.insert(digest, verified.clone(), self.state.clock().now_ms());
                verified
            }
        };
        self.check_still_good(&verified)?;
        Ok(verified)
    }

    /// All that never changes for one token and one set of keys.
    fn check_token(&self, token: &str) -> Result<Verified, TokenFault> {
        let compact = Compact::split(token).ok_or(TokenFault::NotCompact)?;
        let header: JoseHeader<'_> =
            serde_json::from_slice(&compact.header).map_err(|_| TokenFault::BadHeader)?;
        if header.typ != TOKEN_TYPE {
            return Err(TokenFault::WrongType);
        }
        let keys = self.keys.load();
        let key = (header.kid.len() == KID_BYTES).then(|| keys.find(&header.kid)).flatten();
        let key = key.ok_or(TokenFault::UnknownKey)?;
        if header.alg != key.algorithm().as_str() {
            return Err(TokenFault::WrongAlgorithm);
        }
        if !key.verifies(compact.signed, compact.signature) {
            return Err(TokenFault::BadSignature);
        }
        let claims = compact.claims().ok_or(TokenFault::NotCompact)?;
        let claims: TokenClaims = serde_json::from_slice(&claims).map_err(|_| TokenFault::BadClaims)?;
        if claims.iss != self.issuer {
            return Err(TokenFault::WrongIssuer);
        }
        let audience = claims.aud.only().and_then(|given| self.audiences().find(|known| *known == given));
        let audience = audience.ok_or(TokenFault::WrongAudience)?.to_owned();
        let latest_ms = self.state.clock().now_ms().saturating_add(CLOCK_SKEW_MS);
        let starts_s = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
        if starts_s.saturating_mul(1000) > latest_ms {
            return Err(TokenFault::NotYetValid);
        }
        if claims.sub.is_empty() || claims.exp <= claims.iat {
            return Err(TokenFault::BadClaims);
        }
        // iat has seconds; the jti knows the millisecond, so that a token made right after a revocation lives.
        let issued_at_ms = uuid_time_ms(&claims.jti).ok_or(TokenFault::BadClaims)?;
        let expires_at_ms = claims.exp.saturating_mul(1000);
        let mut principal = Principal {
            client_id: claims.client_id,
            subject: claims.sub,
            scopes: claims.scope,
            jti: Some(claims.jti.clone()),
            expires_at_ms: Some(expires_at_ms),
            actor: claims.act,
            claims: claims.claims,
        };
        principal.add_own_claims();
        Ok(Verified {
            principal: Arc::new(principal),
            audience,
            kid: key.kid().to_owned(),
            jti: claims.jti,
            issued_at_ms,
            expires_at_ms,
            ancestors: claims.exchanged_from,
        })
    }

    /// Kills one token for all replicas, and those exchanged for it, if it is `by`'s own. A token that does not hold needs no killing: `None`.
    pub async fn revoke(&self, token: &str, by: &ClientId) -> Result<Option<Revocation>, AuthError> {
        let verified = match self.inspect(token) {
            Ok(verified) => verified,
            Err(AuthError::InvalidToken { .. } | AuthError::ExpiredToken) => return Ok(None),
            // Not known whether it holds: no answer may pretend that it does not.
            Err(error) => return Err(error),
        };
        if verified.principal.client_id != *by {
            return Ok(Some(Revocation::NotYours));
        }
        self.revoke_jti(&verified.jti, by, verified.expires_at_ms).await?;
        Ok(Some(Revocation::Done { jti: verified.jti.clone() }))
    }

    /// Kills the token of that id; `expires_at_ms` says how long it must be remembered. Revoking twice is fine.
    pub async fn revoke_jti(
        &self,
        jti: &str,
        client_id: &ClientId,
        expires_at_ms: i64,
    ) -> Result<(), StoreError> {
        let now_ms = self.state.clock().now_ms();
        let mut change = self.state.begin_change().await?;
        sqlx::query("DELETE FROM revoked_tokens WHERE expires_at_ms < $1")
            .bind(now_ms.saturating_sub(CLOCK_SKEW_MS))
            .execute(&mut *change)
            .await?;
        sqlx::query(
            "INSERT INTO revoked_tokens (jti, client_id, revoked_at_ms, expires_at_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (jti) DO NOTHING",
        )
        .bind(jti)
        .bind(client_id.as_str())
        .bind(now_ms)
        .bind(expires_at_ms)
        .execute(&mut *change)
        .await?;
        self.state.commit_change(change).await
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("lifetime_s", &self.lifetime_s)
            .finish_non_exhaustive()
    }
}

/// What became of a request to revoke a token that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    Done {
        jti: String,
    },
    /// It was issued to another client, and stays valid.
    NotYours,
}

/// Whether two texts name one resource: a slash at the end makes no difference.
pub(super) fn is_same_resource(one: &str, other: &str) -> bool {
    one.strip_suffix('/').unwrap_or(one) == other.strip_suffix('/').unwrap_or(other)
}

/// The time in a version 7 UUID of the usual spelling.
fn uuid_time_ms(jti: &str) -> Option<i64> {
    let id = Uuid::try_parse(jti).ok()?;
    if id.get_version_num() != 7 || id.to_string() != jti {
        return None;
    }
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))
}

#[cfg(test)]
mod tests;
