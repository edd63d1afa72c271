//! Tokens for other services (RFC 8707).

use super::*;
use crate::auth::error::{AuthError, TokenFault};
use crate::auth::testing::RESOURCE;

#[tokio::test]
async fn a_token_for_another_resource_names_it_alone_and_opens_nothing_here() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let header = basic_of(&made);
    for given in [RESOURCE.to_owned(), format!("{RESOURCE}/")] {
        let response = token(&fixture, &[GRANT, ("resource", &given)], Some(&header)).await.unwrap();
        let access = response.access_token.expose();
        for _ in 0..2 {
            let refused = fixture.auth.tokens().verify(access);
            let fault = TokenFault::WrongAudience;
            assert!(matches!(refused, Err(AuthError::InvalidToken { fault: found }) if found == fault));
            assert_eq!(
                fixture.auth.tokens().inspect(access).unwrap().audience,
                RESOURCE,
                "remembered or not: what is known of it opens no door"
            );
        }
    }
}

#[tokio::test]
async fn a_token_is_for_one_resource() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let header = basic_of(&made);
    let ask = async |resources: &[&str]| {
        let mut pairs = vec![GRANT];
        pairs.extend(resources.iter().map(|resource| ("resource", *resource)));
        token(&fixture, &pairs, Some(&header)).await.map_err(|error| error.error)
    };
    ask(&[RESOURCE, RESOURCE]).await.unwrap();
    for several in [[RESOURCE, ISSUER], [ISSUER, RESOURCE], [RESOURCE, "https://weather.example/v2"]] {
        assert_eq!(ask(&several).await.unwrap_err(), OAuthErrorCode::InvalidTarget);
    }
    for unknown in ["https://weather.example", "https://weather.example/v1/x", "HTTPS://weather.example/v1"] {
        assert_eq!(ask(&[unknown]).await.unwrap_err(), OAuthErrorCode::InvalidTarget, "{unknown}");
    }
}

#[tokio::test]
async fn a_token_for_another_resource_can_be_revoked_by_its_client() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let header = basic_of(&made);
    let response = token(&fixture, &[GRANT, ("resource", RESOURCE)], Some(&header)).await.unwrap();
    let access = response.access_token.expose();
    let form = fields(&[("token", access)]);
    let request = OAuthRequest { form: &form, authorization: Some(&header), remote: HOME };
    assert_eq!(fixture.auth.grants().revoke(request).await.unwrap(), Some(response.jti));
    assert!(fixture.auth.tokens().inspect(access).is_err());
}
