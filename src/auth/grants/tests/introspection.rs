//! Who is told what about a token.

use serde_json::Value;

use super::*;
use crate::auth::testing::RESOURCE;
use crate::auth::{Client, ClientAuthentication, GrantType, NewUser};

async fn resource_server(fixture: &Fixture, audiences: &[&str]) -> ClientWithSecret {
    let new = NewClient {
        name: "resource".into(),
        scopes: "semantic:read".parse().unwrap(),
        audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
        ..NewClient::default()
    };
    fixture.auth.clients().create(&new).await.unwrap()
}

async fn introspect(fixture: &Fixture, by: &ClientWithSecret, token: &str) -> Value {
    let (form, header) = (fields(&[("token", token)]), basic_of(by));
    let request = OAuthRequest { form: &form, authorization: Some(&header), remote: HOME };
    serde_json::to_value(fixture.auth.grants().introspect(request).await.unwrap()).unwrap()
}

fn issue(fixture: &Fixture, client: &Client, subject: &str, audience: Option<&str>) -> String {
    let spec = TokenSpec {
        client_id: client.client_id.clone(),
        subject: subject.to_owned(),
        scopes: client.scopes.clone(),
        claims: Claims::new(),
        actor: None,
        audience: audience.map(str::to_owned),
        exchanged: None,
    };
    fixture.auth.tokens().issue(&spec).unwrap().token.expose().to_owned()
}

#[tokio::test]
async fn a_client_sees_its_own_tokens_and_those_for_its_audiences_and_no_others() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let stranger = fixture.client("semantic:read").await;
    let weather = resource_server(&fixture, &[RESOURCE]).await;
    let slashed = resource_server(&fixture, &[&format!("{RESOURCE}/")]).await;
    let ours = resource_server(&fixture, &[ISSUER]).await;
    let id = made.client.client_id.as_str();
    let (here, there) =
        (issue(&fixture, &made.client, id, None), issue(&fixture, &made.client, id, Some(RESOURCE)));
    let inactive = json!({"active": false});
    for (by, token, seen) in [
        (&made, &here, true),
        (&made, &there, true),
        (&stranger, &here, false),
        (&stranger, &there, false),
        (&weather, &here, false),
        (&weather, &there, true),
        (&slashed, &there, true),
        (&ours, &here, true),
        (&ours, &there, false),
    ] {
        let answer = introspect(&fixture, by, token).await;
        assert_eq!(answer["active"], seen, "{answer}");
        if !seen {
            assert_eq!(answer, inactive);
            assert_eq!(answer, introspect(&fixture, by, "rubbish").await, "as good as unknown");
        }
    }
    fixture.auth.tokens().revoke(&there, &made.client.client_id).await.unwrap();
    assert_eq!(introspect(&fixture, &weather, &there).await, inactive, "revoked");
}

#[tokio::test]
async fn an_answer_has_the_members_of_rfc_7662_and_the_username_for_resources_only() {
    let fixture = Fixture::new().await;
    let app = fixture.client("semantic:read").await;
    let weather = resource_server(&fixture, &[RESOURCE]).await;
    let new =
        NewUser { username: "ann".into(), scopes: "semantic:read".parse().unwrap(), ..NewUser::default() };
    let ann = fixture.auth.users().create(&new).await.unwrap().user;
    let token = issue(&fixture, &app.client, ann.user_id.as_str(), Some(RESOURCE));
    let answer = introspect(&fixture, &weather, &token).await;
    let iat = crate::auth::testing::START_MS / 1000;
    let expected = json!({
        "active": true,
        "scope": "semantic:read",
        "client_id": app.client.client_id.as_str(),
        "username": "ann",
        "token_type": "Bearer",
        "exp": iat + 3_600,
        "iat": iat,
        "sub": ann.user_id.as_str(),
        "aud": RESOURCE,
        "iss": ISSUER,
        "jti": answer["jti"],
    });
    assert_eq!(answer, expected);
    let own = introspect(&fixture, &app, &token).await;
    assert_eq!(
        (&own["active"], own.get("username")),
        (&json!(true), None),
        "an app need not know who logs in"
    );
}

#[tokio::test]
async fn a_public_client_introspects_nothing_and_revokes_its_own_tokens_only() {
    let fixture = Fixture::new().await;
    let app = NewClient {
        name: "app".into(),
        scopes: "semantic:read".parse().unwrap(),
        authentication: ClientAuthentication::None,
        grant_types: [GrantType::AuthorizationCode].into(),
        redirect_uris: vec!["https://app.example/cb".into()],
        ..NewClient::default()
    };
    let app = fixture.auth.clients().create(&app).await.unwrap().client;
    let other = fixture.client("semantic:read").await;
    let (own, theirs) = (issue(&fixture, &app, "x", None), fixture.issue(&other));
    let form = |token: &str| fields(&[("token", token), ("client_id", app.client_id.as_str())]);
    for token in [&own, &theirs] {
        let form = form(token);
        let request = OAuthRequest { form: &form, authorization: None, remote: HOME };
        let error = fixture.auth.grants().introspect(request).await.unwrap_err();
        assert_eq!(error, OAuthError::bad_credentials());
        fixture.auth.grants().revoke(request).await.unwrap();
    }
    assert!(fixture.auth.tokens().verify(&own).is_err());
    fixture.auth.tokens().verify(&theirs).unwrap();
}
