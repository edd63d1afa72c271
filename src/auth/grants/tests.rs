mod assertions;
mod exchange;
mod introspection;
mod resources;

use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::auth::client::{ClientWithSecret, NewClient};
use crate::auth::oauth_error::StatusHint;
use crate::auth::principal::Claims;
use crate::auth::testing::{Fixture, ISSUER};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const ABROAD: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

fn basic_of(made: &ClientWithSecret) -> String {
    basic(made.client.client_id.as_str(), made.secret.expose_secret())
}

async fn token(
    fixture: &Fixture,
    pairs: &[(&str, &str)],
    authorization: Option<&str>,
) -> Result<TokenResponse, OAuthError> {
    let form = fields(pairs);
    fixture.auth.grants().token(OAuthRequest { form: &form, authorization, remote: HOME }).await
}

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

#[tokio::test]
async fn client_credentials_give_a_token_by_basic_and_by_post() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read sql:run:flights.*").await;
    let by_basic = token(&fixture, &[GRANT], Some(&basic_of(&made))).await.unwrap();
    let id = made.client.client_id.as_str();
    let post = [GRANT, ("client_id", id), ("client_secret", made.secret.expose_secret())];
    let by_post = token(&fixture, &post, None).await.unwrap();
    for response in [by_basic, by_post] {
        let principal = fixture.auth.tokens().verify(response.access_token.expose()).unwrap();
        assert_eq!(principal.client_id, made.client.client_id);
        assert_eq!(principal.scopes, made.client.scopes, "no scope asked for means all registered");
        let body = serde_json::to_value(&response).unwrap();
        let members: Vec<_> = body.as_object().unwrap().keys().collect();
        assert_eq!(members, ["access_token", "token_type", "expires_in", "scope"]);
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3_600)));
        assert_eq!(body["scope"], "semantic:read sql:run:flights.*");
    }
}

#[tokio::test]
async fn a_clients_claims_reach_the_principal() {
    let fixture = Fixture::new().await;
    let claims = Claims::from([("carrier".to_owned(), json!("UA"))]);
    let new = NewClient {
        name: "demo".into(),
        scopes: "semantic:read".parse().unwrap(),
        claims,
        ..NewClient::default()
    };
    let made = fixture.auth.clients().create(&new).await.unwrap();
    let response = token(&fixture, &[GRANT], Some(&basic_of(&made))).await.unwrap();
    let principal = fixture.auth.tokens().verify(response.access_token.expose()).unwrap();
    assert_eq!(principal.claims["carrier"], "UA");
}

#[tokio::test]
async fn the_largest_registration_still_gives_a_token_that_verifies() {
    let fixture = Fixture::new().await;
    let scopes: Vec<String> = (0..45).map(|n| format!("sql:run:{}.{n:02}", "m".repeat(55))).collect();
    let claims = Claims::from([("x".to_owned(), json!("é".repeat(500)))]);
    let new = NewClient {
        name: "m".repeat(64),
        scopes: scopes.join(" ").parse().unwrap(),
        claims,
        ..NewClient::default()
    };
    let made = fixture.auth.clients().create(&new).await.unwrap();
    let response = token(&fixture, &[GRANT], Some(&basic_of(&made))).await.unwrap();
    fixture.auth.tokens().verify(response.access_token.expose()).unwrap();
}

#[tokio::test]
async fn scopes_are_narrowed_as_asked_and_never_widened() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read sql:run:flights.*").await;
    let header = basic_of(&made);
    let ask = async |scope: &str| token(&fixture, &[GRANT, ("scope", scope)], Some(&header)).await;
    assert_eq!(ask("sql:run:flights.airports").await.unwrap().scope.to_string(), "sql:run:flights.airports");
    assert_eq!(ask("").await.unwrap().scope, made.client.scopes);
    for (scope, expected) in [
        ("semantic:read sql:run rag:read", "not granted: 'rag:read', 'sql:run'"),
        ("sql:run:*", "not granted: 'sql:run:*'"),
        ("semantic:raed", "did you mean 'semantic:read'"),
        ("semantic", "no verb"),
        ("sql:run:fli*", "stand alone"),
    ] {
        let error = ask(scope).await.unwrap_err();
        assert_eq!((error.error, error.status), (OAuthErrorCode::InvalidScope, StatusHint::BadRequest));
        assert!(error.error_description.contains(expected), "{}", error.error_description);
    }
}

#[tokio::test]
async fn only_our_own_resource_is_a_target() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let header = basic_of(&made);
    for ours in [ISSUER.to_owned(), format!("{ISSUER}/")] {
        token(&fixture, &[GRANT, ("resource", &ours)], Some(&header)).await.unwrap();
    }
    for other in
        ["https://other.example", "steward", "https://steward.example//", "https://steward.example/x"]
    {
        let error = token(&fixture, &[GRANT, ("resource", ISSUER), ("resource", other)], Some(&header)).await;
        assert_eq!(error.unwrap_err().error, OAuthErrorCode::InvalidTarget, "{other}");
    }
}

#[tokio::test]
async fn requests_without_or_with_another_grant_type_are_told_apart() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let header = basic_of(&made);
    let missing = token(&fixture, &[], Some(&header)).await.unwrap_err();
    assert_eq!(missing.error, OAuthErrorCode::InvalidRequest);
    for grant in ["password", "implicit", "CLIENT_CREDENTIALS", "client_credentials "] {
        let error = token(&fixture, &[("grant_type", grant)], Some(&header)).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::UnsupportedGrantType, "{grant}");
    }
    let twice = token(&fixture, &[GRANT, GRANT], Some(&header)).await.unwrap_err();
    assert_eq!(twice.error, OAuthErrorCode::InvalidRequest);
}

#[tokio::test]
async fn failed_authentication_is_one_answer_whatever_the_cause() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let disabled = fixture.client("semantic:read").await;
    fixture.auth.clients().disable(&disabled.client.client_id).await.unwrap();
    let id = made.client.client_id.as_str();
    let wrong = token(&fixture, &[GRANT], Some(&basic(id, "stw_wrong"))).await.unwrap_err();
    let empty = token(&fixture, &[GRANT], Some(&basic(id, ""))).await.unwrap_err();
    let unknown = token(&fixture, &[GRANT], Some(&basic("nobody", "stw_wrong"))).await.unwrap_err();
    let off = token(&fixture, &[GRANT], Some(&basic_of(&disabled))).await.unwrap_err();
    let sql = token(&fixture, &[GRANT], Some(&basic("%27+OR+%271%27%3D%271", "x"))).await.unwrap_err();
    assert_eq!(wrong.error, OAuthErrorCode::InvalidClient);
    assert!(wrong.www_authenticate && wrong.status == StatusHint::Unauthorized);
    for other in [empty, unknown, off, sql] {
        assert_eq!(wrong, other);
        assert_eq!(serde_json::to_string(&wrong).unwrap(), serde_json::to_string(&other).unwrap());
    }
}

#[tokio::test]
async fn failing_too_often_must_wait_here_but_not_elsewhere() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let (good, bad) = (basic_of(&made), basic(made.client.client_id.as_str(), "guess"));
    let form = fields(&[GRANT]);
    let from = async |remote: IpAddr, authorization: &str| {
        fixture
            .auth
            .grants()
            .token(OAuthRequest { form: &form, authorization: Some(authorization), remote })
            .await
    };
    let mut tries = 0;
    let retry_after_s = loop {
        tries += 1;
        assert!(tries < 50, "guessing is never slowed down");
        match from(ABROAD, &bad).await.unwrap_err().status {
            StatusHint::TooManyRequests { retry_after_s } => break retry_after_s,
            status => assert_eq!(status, StatusHint::Unauthorized),
        }
    };
    let blocked = from(ABROAD, &good).await.unwrap_err();
    assert!(matches!(blocked.status, StatusHint::TooManyRequests { .. }), "a lucky guess must wait as well");
    from(HOME, &good).await.unwrap();
    fixture.clock.advance_ms(i64::try_from(retry_after_s).unwrap() * 1000);
    from(ABROAD, &good).await.unwrap();
}

#[tokio::test]
async fn revocation_kills_the_clients_own_token_and_answers_well_to_rubbish() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let stranger = fixture.client("semantic:read").await;
    let access = fixture.issue(&made);
    let form = fields(&[("token", &access), ("token_type_hint", "access_token")]);
    let revoke = async |form: &[(String, String)], authorization: Option<&str>| {
        fixture.auth.grants().revoke(OAuthRequest { form, authorization, remote: HOME }).await
    };
    assert_eq!(revoke(&form, None).await.unwrap_err().error, OAuthErrorCode::InvalidClient);
    let theirs = revoke(&form, Some(&basic_of(&stranger))).await.unwrap();
    assert_eq!(theirs, None, "the answer for rubbish, so that it tells nobody whether a found token holds");
    fixture.auth.tokens().verify(&access).unwrap();
    assert!(revoke(&form, Some(&basic_of(&made))).await.unwrap().is_some());
    assert!(fixture.auth.tokens().verify(&access).is_err());
    assert_eq!(revoke(&form, Some(&basic_of(&made))).await.unwrap(), None, "again is fine");
    assert_eq!(revoke(&fields(&[("token", "rubbish")]), Some(&basic_of(&made))).await.unwrap(), None);
    let missing = revoke(&[], Some(&basic_of(&made))).await.unwrap_err();
    assert_eq!(missing.error, OAuthErrorCode::InvalidRequest);
}

#[tokio::test]
async fn introspection_tells_authenticated_clients_whether_a_token_holds_and_nothing_of_one_that_does_not() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read").await;
    let access = fixture.issue(&made);
    let introspect = async |token: &str, authorization: Option<String>| {
        let form = fields(&[("token", token)]);
        let request = OAuthRequest { form: &form, authorization: authorization.as_deref(), remote: HOME };
        let answer = fixture.auth.grants().introspect(request).await;
        answer.map(|answer| serde_json::to_value(answer).unwrap())
    };
    assert_eq!(introspect(&access, None).await.unwrap_err().error, OAuthErrorCode::InvalidClient);
    let answer = introspect(&access, Some(basic_of(&made))).await.unwrap();
    assert_eq!(answer["active"], true);
    assert_eq!(answer["client_id"], made.client.client_id.as_str());
    assert_eq!(
        (&answer["scope"], &answer["iss"], &answer["aud"]),
        (&json!("semantic:read"), &json!(ISSUER), &json!(ISSUER))
    );
    fixture.auth.tokens().revoke(&access, &made.client.client_id).await.unwrap();
    for dead in [access.as_str(), "rubbish"] {
        assert_eq!(introspect(dead, Some(basic_of(&made))).await.unwrap(), json!({"active": false}));
    }
}
