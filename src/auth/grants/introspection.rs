//! RFC 7662: what a token says, for the client that it was issued to and for the resource that it is for.

use serde::Serialize;
use tracing::debug;

use super::{Form, Grants, OAuthRequest};
use crate::auth::client::{Client, ClientAuthentication};
use crate::auth::oauth_error::OAuthError;
use crate::auth::principal::{Actor, ClientId, UserId};
use crate::auth::scope::ScopeSet;
use crate::auth::token::{Verified, is_same_resource};
use crate::error::ErrorKind;

/// RFC 7662 section 2.2. Of a token that does not hold, or is none of the caller's business, only that.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Introspection {
    pub active: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub token: Option<IntrospectedToken>,
}

/// What a token that holds says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IntrospectedToken {
    pub scope: ScopeSet,
    pub client_id: ClientId,
    /// Whom `sub` is a user's id of. For resources alone: an administrator has let those in, where any client's users
    /// may only have let it act for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    pub token_type: &'static str,
    /// Epoch seconds.
    pub exp: i64,
    /// Epoch seconds.
    pub iat: i64,
    pub sub: String,
    pub aud: String,
    pub iss: String,
    pub jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
}

impl Grants {
    /// Answers an introspection request of a client that has authenticated. It is told about tokens that were issued to
    /// it, and about those for a resource among its registered audiences; any other token is as good as unknown.
    pub async fn introspect(&self, request: OAuthRequest<'_>) -> Result<Introspection, OAuthError> {
        let form = Form::parse(request.form)?;
        let client = self.authenticate(&form, request).await?;
        if client.authentication == ClientAuthentication::None {
            // RFC 7662 section 4: without authentication, anybody could scan for tokens.
            return Err(OAuthError::bad_credentials());
        }
        let verified = match self.tokens.inspect(form.require("token")?) {
            Ok(verified) => verified,
            Err(error) if error.kind() == ErrorKind::Unauthenticated => return Ok(Introspection::default()),
            Err(error) => return Err(error.into()),
        };
        let for_it = serves(&client, &verified.audience);
        if !for_it && verified.principal.client_id != client.client_id {
            debug!(client_id = %client.client_id, jti = verified.jti, "introspection of a stranger's token");
            return Ok(Introspection::default());
        }
        Ok(Introspection { active: true, token: Some(self.introspected(&verified, for_it)) })
    }

    fn introspected(&self, verified: &Verified, with_username: bool) -> IntrospectedToken {
        let principal = &verified.principal;
        let user_id = principal.subject.parse::<UserId>().ok().filter(|_| with_username);
        let user = user_id.and_then(|user_id| self.users.still_good(&user_id, verified.issued_at_ms));
        IntrospectedToken {
            scope: principal.scopes.clone(),
            client_id: principal.client_id.clone(),
            username: user.map(|user| user.username),
            token_type: "Bearer",
            exp: verified.expires_at_ms.div_euclid(1000),
            iat: verified.issued_at_ms.div_euclid(1000),
            sub: principal.subject.clone(),
            aud: verified.audience.clone(),
            iss: self.issuer.clone(),
            jti: verified.jti.clone(),
            act: principal.actor.clone(),
        }
    }
}

/// Whether the client is registered as the resource of that name.
fn serves(client: &Client, audience: &str) -> bool {
    client.audiences.iter().any(|registered| is_same_resource(registered, audience))
}
