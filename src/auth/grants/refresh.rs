//! RFC 6749 section 6: a new access token for the login of before, and a new refresh token for the old one.
//!
//! G1 scopes may be narrowed for one access token, and never widen beyond those of the login.
//! G2 every use is measured by what client and user may do now; what ended their tokens ended the family.
//! G3 of one refresh token, one use gives something; any other kills the family. There is no grace for an answer that
//!    was lost on its way: see the decision on rotation.

use super::{Form, Grants, OAuthRequest, TokenResponse};
use crate::auth::client::{Client, GrantType};
use crate::auth::family::{Family, FamilyGrant, Presented, REFRESH_PREFIX};
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode, Reuse};
use crate::auth::scope::ScopeSet;
use crate::auth::user::User;

impl Grants {
    pub(super) async fn refresh_token(
        &self,
        form: &Form<'_>,
        request: OAuthRequest<'_>,
    ) -> Result<TokenResponse, OAuthError> {
        let client = self.client_for(GrantType::RefreshToken, form, request).await?;
        let token = form.require("refresh_token")?;
        self.families.catch_up().await?;
        let family = match self.families.find(token).await? {
            Some(Presented::Current(family)) if family.grant.client_id == client.client_id => family,
            Some(Presented::Used(family)) if family.grant.client_id == client.client_id => {
                return Err(self.refresh_reused(family).await?);
            }
            _ => return Err(bad_refresh_token()),
        };
        let audience = self.login_target(form, &family.grant.resource)?;
        let user = self.users.still_good(&family.grant.user_id, family.grant.authenticated_at_ms);
        let client = self.clients.still_good(&client.client_id, family.started_at_ms);
        let (Some(user), Some(client)) = (user, client) else { return Err(bad_refresh_token()) };
        let asked = self.requested_scopes(form, &family.grant.scopes)?;
        let scopes = asked.meet(&client.scopes)?.meet(&user.scopes)?;
        if scopes.is_empty() {
            let text = "client or user no longer has any of these scopes";
            return Err(OAuthError::new(OAuthErrorCode::InvalidScope, text));
        }
        let response = self.issue_for_user(&client, &user, scopes, audience)?;
        match self.families.rotate(&family, token, self.member(&response)).await? {
            Some(next) => Ok(TokenResponse { refresh_token: Some(next), ..response }),
            None => Err(self.refresh_reused(family).await?),
        }
    }

    /// Adds a refresh token to an answer for a user who logged in at `authenticated_at_ms`, if the client is registered for
    /// them: the access token becomes the first of a family with `scopes`, for the resource `audience`.
    pub(super) async fn with_refresh_token(
        &self,
        response: TokenResponse,
        client: &Client,
        user: &User,
        scopes: &ScopeSet,
        audience: Option<String>,
        authenticated_at_ms: i64,
    ) -> Result<TokenResponse, OAuthError> {
        if !client.grant_types.contains(&GrantType::RefreshToken) {
            return Ok(response);
        }
        let grant = FamilyGrant {
            client_id: client.client_id.clone(),
            user_id: user.user_id.clone(),
            scopes: scopes.clone(),
            resource: audience.unwrap_or_default(),
            authenticated_at_ms,
        };
        let started = self.families.start(&grant, self.member(&response), true, None).await?;
        Ok(TokenResponse { refresh_token: started.and_then(|(_, token)| token), ..response })
    }

    /// Kills the family of a refresh token, at the request of its client (RFC 7009 section 2.1): its id, for the audit. An
    /// earlier token of the family does as well: whoever has one means the login. `None` if the token is not good, or not
    /// this client's.
    pub(super) async fn revoke_refresh_token(
        &self,
        token: &str,
        client: &Client,
    ) -> Result<Option<String>, OAuthError> {
        match self.families.find(token).await? {
            Some(Presented::Current(family) | Presented::Used(family))
                if family.grant.client_id == client.client_id =>
            {
                self.families.revoke(&family.family_id).await?;
                Ok(Some(family.family_id))
            }
            _ => Ok(None),
        }
    }

    async fn refresh_reused(&self, family: Family) -> Result<OAuthError, OAuthError> {
        self.families.revoke(&family.family_id).await?;
        let FamilyGrant { client_id, user_id, .. } = family.grant;
        let reuse = Reuse { client_id, user_id, family_id: family.family_id };
        Ok(OAuthError { reuse: Some(Box::new(reuse)), ..bad_refresh_token() })
    }
}

/// Whether a token of unknown kind is a refresh token; the `token_type_hint` of RFC 7009 is not needed.
pub(super) fn is_refresh_token(token: &str) -> bool {
    token.starts_with(REFRESH_PREFIX)
}

/// The one answer to every refresh token that gives nothing.
fn bad_refresh_token() -> OAuthError {
    let text = "the refresh token does not hold: it is unknown, used, expired, revoked or of another client; let the user \
                log in again";
    OAuthError::new(OAuthErrorCode::InvalidGrant, text)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use crate::auth::OAuthRequest;
    use crate::auth::client::{ClientAuthentication, GrantType, NewClient};
    use crate::auth::testing::Fixture;
    use crate::auth::user::NewUser;

    #[tokio::test]
    async fn another_grant_for_users_gives_refresh_tokens_to_clients_that_are_registered_for_them() {
        let fixture = Fixture::new().await;
        let scopes = "semantic:read rag:read".parse().unwrap();
        let new = NewUser { username: "ann".into(), scopes, ..NewUser::default() };
        let user = fixture.auth.users().create(&new).await.unwrap().user;
        let grants = fixture.auth.grants();
        for refreshable in [true, false] {
            let mut grant_types = std::collections::BTreeSet::from([GrantType::Password]);
            grant_types.extend(refreshable.then_some(GrantType::RefreshToken));
            let new = NewClient {
                name: "old".into(),
                scopes: "semantic:read".parse().unwrap(),
                authentication: ClientAuthentication::None,
                grant_types,
                ..NewClient::default()
            };
            let client = fixture.auth.clients().create(&new).await.unwrap().client;
            let response = grants.issue_for_user(&client, &user, client.scopes.clone(), None).unwrap();
            let response = grants
                .with_refresh_token(response, &client, &user, &client.scopes, None, fixture.clock.now_ms())
                .await
                .unwrap();
            assert_eq!(response.refresh_token.is_some(), refreshable);
            let Some(token) = response.refresh_token else { continue };
            let form = [
                ("grant_type", "refresh_token"),
                ("client_id", client.client_id.as_str()),
                ("refresh_token", token.expose()),
            ];
            let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let request = OAuthRequest { form: &form, authorization: None, remote };
            let next = grants.token(request).await.unwrap();
            assert_eq!((next.subject, next.scope), (user.user_id.to_string(), client.scopes));
        }
    }
}
