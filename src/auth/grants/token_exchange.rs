//! RFC 8693: an agent that was given somebody's token gets one of its own, to act on that one's behalf.
//!
//! X1 only clients that are registered for it may exchange; they have authenticated, by more than an id.
//! X2 the subject token holds now, was issued here, and is for this service: it was meant to be shown here.
//! X3 the new token's scopes are among the subject token's and among the client's; verification has found the subject
//!    token's among those that its user and its client hold now, and does so again for the new one.
//! X4 the new token names who acts (`act`), ends no later than the subject token, and dies with it and with all that
//!    it came from (T6 in `token`). It is no refresh token's, and may be exchanged again a few times only.

use std::sync::Arc;

use super::{Form, Grants, OAuthRequest, TokenResponse};
use crate::auth::client::{Client, GrantType};
use crate::auth::error::AuthError;
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode};
use crate::auth::principal::{Actor, Principal};
use crate::auth::token::{Ancestor, Exchanged, TokenSpec, Verified};
use crate::error::ErrorKind;

/// RFC 8693 section 3.
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
/// Access tokens are JWTs here, so a subject or an actor may be called one.
const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";
/// How often a token may be handed on: user → agent → its helper → its tool, and one to spare.
const MAX_EXCHANGES: usize = 4;

impl Grants {
    pub(super) async fn token_exchange(
        &self,
        form: &Form<'_>,
        request: OAuthRequest<'_>,
    ) -> Result<TokenResponse, OAuthError> {
        let client = self.client_for(GrantType::TokenExchange, form, request).await?;
        if form.get("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN_TYPE) {
            return Err(invalid(format!("requested_token_type must be {ACCESS_TOKEN_TYPE}, or be left out")));
        }
        let audience = self.check_target(form)?;
        let subject = self
            .presented(form, "subject_token", "subject_token_type")?
            .ok_or_else(|| invalid("parameter subject_token is missing".into()))?;
        self.check_actor(form, &client)?;
        if subject.ancestors.len() >= MAX_EXCHANGES {
            return Err(invalid(format!(
                "subject_token has been exchanged {MAX_EXCHANGES} times already; start from the user's own token"
            )));
        }
        let principal = &subject.principal;
        let allowed = principal.scopes.meet(&client.scopes)?;
        if allowed.is_empty() {
            return Err(OAuthError::new(
                OAuthErrorCode::InvalidScope,
                "this client may have none of the scopes that subject_token holds",
            ));
        }
        let scopes = self.requested_scopes(form, &allowed)?;
        let mut claims = principal.claims.clone();
        // Verification puts them there, as they are for whoever shows a token.
        claims.remove("sub");
        claims.remove("client_id");
        let mut response = self.issue(&TokenSpec {
            subject: principal.subject.clone(),
            actor: acting(&client, principal),
            client_id: client.client_id,
            scopes,
            claims,
            audience,
            exchanged: Some(descent(&subject)),
        })?;
        response.issued_token_type = Some(ACCESS_TOKEN_TYPE);
        Ok(response)
    }

    /// The token in the parameter `name`, if there is one; it must hold, and be one of ours for this service (X2).
    /// RFC 8693 section 2.2.2: one that does not is an invalid request.
    fn presented(
        &self,
        form: &Form<'_>,
        name: &str,
        type_name: &str,
    ) -> Result<Option<Arc<Verified>>, OAuthError> {
        let (token, kind) = match (form.get(name), form.get(type_name)) {
            (None, None) => return Ok(None),
            (Some(token), Some(kind)) => (token, kind),
            _ => return Err(invalid(format!("{name} and {type_name} come together"))),
        };
        if kind != ACCESS_TOKEN_TYPE && kind != JWT_TYPE {
            return Err(invalid(format!("{type_name} must be {ACCESS_TOKEN_TYPE}")));
        }
        match self.tokens.verified(token) {
            Ok(verified) => Ok(Some(verified)),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                Err(invalid(format!("{name} is not an access token that holds here; get a new one")))
            }
            Err(error) => Err(AuthError::into(error)),
        }
    }

    /// An actor token says no more than the client's authentication has said already; if one is there, it must say the
    /// same.
    fn check_actor(&self, form: &Form<'_>, client: &Client) -> Result<(), OAuthError> {
        let Some(actor) = self.presented(form, "actor_token", "actor_token_type")? else { return Ok(()) };
        let itself = client.client_id.as_str();
        if actor.principal.client_id.as_str() == itself && actor.principal.subject == itself {
            return Ok(());
        }
        Err(invalid("actor_token must be an access token of the client itself; or leave it out".into()))
    }
}

/// Who acts for the subject (RFC 8693 section 4.1). Nobody, where a client narrows its own token; and a client that
/// exchanges what it acts with already is not named twice.
fn acting(client: &Client, principal: &Principal) -> Option<Actor> {
    let before = principal.actor.clone();
    let itself = client.client_id.as_str();
    let current = before.as_ref().map_or(principal.subject.as_str(), |actor| actor.sub.as_str());
    if current == itself {
        return before;
    }
    Some(Actor { sub: itself.to_owned(), act: before.map(Box::new) })
}

fn descent(subject: &Verified) -> Exchanged {
    let parent = Ancestor { jti: subject.jti.clone(), client_id: subject.principal.client_id.clone() };
    let ancestors = std::iter::once(parent).chain(subject.ancestors.iter().cloned()).collect();
    Exchanged { expires_at_ms: subject.expires_at_ms, ancestors }
}

fn invalid(description: String) -> OAuthError {
    OAuthError::new(OAuthErrorCode::InvalidRequest, description)
}
