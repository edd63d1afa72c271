//! Whether a token that was good still is: all that time and administrators change.
//!
//! Pure but for the clock. Knows the copy in memory; does not know signatures.

use tracing::debug;

use super::{CLOCK_SKEW_MS, Tokens, Verified};
use crate::auth::error::{AuthError, TokenFault};
use crate::auth::principal::{ClientId, UserId};
use crate::auth::scope::ScopeSet;
use crate::auth::state::Snapshot;

impl Tokens {
    pub(super) fn check_still_good(&self, verified: &Verified) -> Result<(), AuthError> {
        if self.state.clock().now_ms() >= verified.expires_at_ms {
            return Err(AuthError::ExpiredToken);
        }
        let checked = self.state.checked();
        if checked.at.elapsed() > self.max_staleness {
            return Err(AuthError::RevocationUnknown);
        }
        let snapshot = self.state.snapshot();
        let look =
            Look { snapshot: &snapshot, taken_at_ms: checked.at_ms, issued_at_ms: verified.issued_at_ms };
        look.at(verified).map_err(|fault| {
            debug!(%fault, jti = verified.jti, "token refused");
            AuthError::from(fault)
        })
    }
}

/// One token's time against one copy of the tables.
struct Look<'a> {
    snapshot: &'a Snapshot,
    taken_at_ms: i64,
    issued_at_ms: i64,
}

impl Look<'_> {
    fn at(&self, verified: &Verified) -> Result<(), TokenFault> {
        let ancestors = &verified.ancestors;
        let mut jtis = std::iter::once(&verified.jti).chain(ancestors.iter().map(|ancestor| &ancestor.jti));
        if jtis.any(|jti| self.snapshot.revoked.contains_key(jti)) {
            return Err(TokenFault::Revoked);
        }
        let principal = &verified.principal;
        self.client(&principal.client_id, &principal.scopes)?;
        // It dies with whatever kills what it was exchanged for (T6). Its scopes were that token's, and a client that
        // loses scopes loses its tokens.
        for ancestor in ancestors {
            self.client(&ancestor.client_id, &ScopeSet::default())?;
        }
        if UserId::names(&principal.subject) {
            self.user(&principal.subject, &principal.scopes)?;
        }
        Ok(())
    }

    fn client(&self, client_id: &ClientId, scopes: &ScopeSet) -> Result<(), TokenFault> {
        let Some(record) = self.snapshot.clients.get(client_id.as_str()) else {
            return self.unknown(client_id.as_str(), TokenFault::UnknownClient);
        };
        let client = &record.client;
        let open = client.disabled_at_ms.is_none();
        self.holds(open, record.tokens_not_before_ms, scopes, &client.scopes, TokenFault::ClientRevoked)
    }

    fn user(&self, user_id: &str, scopes: &ScopeSet) -> Result<(), TokenFault> {
        let Some(record) = self.snapshot.users.get(user_id) else {
            return self.unknown(user_id, TokenFault::UnknownUser);
        };
        let user = &record.user;
        let open = user.disabled_at_ms.is_none();
        self.holds(open, record.tokens_not_before_ms, scopes, &user.scopes, TokenFault::UserRevoked)
    }

    fn holds(
        &self,
        open: bool,
        tokens_not_before_ms: Option<i64>,
        scopes: &ScopeSet,
        allowed: &ScopeSet,
        fault: TokenFault,
    ) -> Result<(), TokenFault> {
        let killed = tokens_not_before_ms.is_some_and(|until| self.issued_at_ms <= until);
        let exceeds = scopes.iter().any(|scope| !allowed.covers(scope));
        if killed || exceeds || !open { Err(fault) } else { Ok(()) }
    }

    /// Another replica may have registered it after our last look; if not, it is gone.
    fn unknown(&self, id: &str, fault: TokenFault) -> Result<(), TokenFault> {
        let gone = self.snapshot.deleted.contains(id) || self.issued_at_ms + CLOCK_SKEW_MS < self.taken_at_ms;
        if gone { Err(fault) } else { Ok(()) }
    }
}
