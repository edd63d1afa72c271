//! RFC 6749 section 4.1.3 with RFC 7636: a client exchanges the code that a browser has brought it.
//!
//! E1 whoever has no code, a wrong one, one of another client, one that is old or used, or not the verifier, gets one answer.
//! E2 a code that is used again, by somebody who could have used it, kills what it gave (RFC 6749 section 4.1.2).
//!    Others cannot: a code alone, from some log, is not worth a login.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Form, Grants, OAuthRequest, TokenResponse};
use crate::auth::authorize::CodeGrant;
use crate::auth::client::{Client, GrantType};
use crate::auth::family::{FamilyGrant, Member};
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode, Reuse};
use crate::auth::scope::ScopeSet;
use crate::auth::token::TokenSpec;
use crate::auth::user::User;

impl Grants {
    pub(super) async fn authorization_code(
        &self,
        form: &Form<'_>,
        request: OAuthRequest<'_>,
    ) -> Result<TokenResponse, OAuthError> {
        let client = self.client_for(GrantType::AuthorizationCode, form, request).await?;
        let (code, verifier) = (form.require("code")?, form.require("code_verifier")?);
        if !is_verifier(verifier) {
            let text = "code_verifier has 43 to 128 letters, digits and - . _ ~ (RFC 7636 section 4.1)";
            return Err(OAuthError::new(OAuthErrorCode::InvalidRequest, text));
        }
        self.families.catch_up().await?;
        let Some(record) = self.codes.find(code).await? else { return Err(bad_code()) };
        if record.grant.client_id != client.client_id {
            return Err(bad_code());
        }
        let holds = fits(&record.grant.code_challenge, verifier)
            && record.grant.redirect_uri.as_deref().is_none_or(|uri| form.get("redirect_uri") == Some(uri));
        if record.is_used {
            return Err(if holds { self.code_reused(code).await? } else { bad_code() });
        }
        if self.clock.now_ms() >= record.expires_at_ms {
            return Err(bad_code());
        }
        if !holds {
            // One guess a code.
            self.codes.burn(code).await?;
            return Err(bad_code());
        }
        let audience = self.login_target(form, &record.grant.resource)?;
        let user = self.users.still_good(&record.grant.user_id, record.grant.authenticated_at_ms);
        let still = self.clients.still_good(&client.client_id, record.issued_at_ms);
        let (Some(user), Some(client)) = (user, still) else { return Err(bad_code()) };
        let scopes = record.grant.scopes.meet(&client.scopes)?.meet(&user.scopes)?;
        if scopes.is_empty() {
            return Err(bad_code());
        }
        let response = self.issue_for_user(&client, &user, scopes, audience)?;
        let grant = FamilyGrant {
            client_id: client.client_id.clone(),
            user_id: user.user_id,
            scopes: record.grant.scopes,
            resource: record.grant.resource,
            authenticated_at_ms: record.grant.authenticated_at_ms,
        };
        let refreshable = client.grant_types.contains(&GrantType::RefreshToken);
        let member = self.member(&response);
        match self.families.start(&grant, member, refreshable, Some(code)).await? {
            Some((_, refresh_token)) => Ok(TokenResponse { refresh_token, ..response }),
            None => Err(self.code_reused(code).await?),
        }
    }

    /// An access token for a user; what a grant for users ends in.
    pub(super) fn issue_for_user(
        &self,
        client: &Client,
        user: &User,
        scopes: ScopeSet,
        audience: Option<String>,
    ) -> Result<TokenResponse, OAuthError> {
        self.issue(&TokenSpec {
            client_id: client.client_id.clone(),
            subject: user.user_id.to_string(),
            scopes,
            claims: user.claims.clone(),
            actor: None,
            audience,
            exchanged: None,
        })
    }

    /// The access token of an answer as a member of a family.
    pub(super) fn member<'a>(&self, response: &'a TokenResponse) -> Member<'a> {
        let lifetime_ms = i64::try_from(response.expires_in).unwrap_or(i64::MAX).saturating_mul(1000);
        Member { jti: &response.jti, expires_at_ms: self.clock.now_ms().saturating_add(lifetime_ms) }
    }

    /// Kills what the code gave (E2).
    async fn code_reused(&self, code: &str) -> Result<OAuthError, OAuthError> {
        let Some(record) = self.codes.find(code).await? else { return Ok(bad_code()) };
        if record.family_id.is_empty() {
            return Ok(bad_code());
        }
        self.families.revoke(&record.family_id).await?;
        let CodeGrant { client_id, user_id, .. } = record.grant;
        let reuse = Reuse { client_id, user_id, family_id: record.family_id };
        Ok(OAuthError { reuse: Some(Box::new(reuse)), ..bad_code() })
    }
}

/// The one answer to every code that gives nothing (E1).
fn bad_code() -> OAuthError {
    let text = "the code does not hold: it is unknown, used, older than a minute, of another client, or redirect_uri or \
                code_verifier is not that of the request; let the user log in again";
    OAuthError::new(OAuthErrorCode::InvalidGrant, text)
}

/// RFC 7636 section 4.1.
fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
}

/// RFC 7636 section 4.6, S256, in constant time.
fn fits(challenge: &str, verifier: &str) -> bool {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)).as_bytes().ct_eq(challenge.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7636_appendix_b_fits_and_nothing_near_it() {
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(is_verifier(verifier) && fits(challenge, verifier));
        assert!(!fits(challenge, challenge), "plain");
        assert!(!fits(challenge, &verifier.to_lowercase()) && !fits("", verifier));
    }

    #[test]
    fn verifiers_have_the_length_and_the_alphabet_of_the_rfc() {
        for good in ["a".repeat(43), "~".repeat(128)] {
            assert!(is_verifier(&good));
        }
        for bad in ["a".repeat(42), "a".repeat(129), "+".repeat(43), "é".repeat(43), String::new()] {
            assert!(!is_verifier(&bad), "{bad}");
        }
    }
}
