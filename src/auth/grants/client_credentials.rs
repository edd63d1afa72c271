//! RFC 6749 section 4.4: a client asks for a token of its own.

use super::{Form, Grants, OAuthRequest, TokenResponse};
use crate::auth::client::GrantType;
use crate::auth::oauth_error::OAuthError;
use crate::auth::token::TokenSpec;

impl Grants {
    pub(super) async fn client_credentials(
        &self,
        form: &Form<'_>,
        request: OAuthRequest<'_>,
    ) -> Result<TokenResponse, OAuthError> {
        let client = self.client_for(GrantType::ClientCredentials, form, request).await?;
        let audience = self.check_resource(form)?;
        let scopes = self.requested_scopes(form, &client.scopes)?;
        self.issue(&TokenSpec {
            subject: client.client_id.to_string(),
            client_id: client.client_id,
            scopes,
            claims: client.claims,
            actor: None,
            audience,
            exchanged: None,
        })
    }
}
