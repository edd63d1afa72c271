//! Clients that authenticate by private_key_jwt.

use serde_json::Value;

use super::*;
use crate::auth::client::ClientChange;
use crate::auth::testing::{ClientKey, START_MS};
use crate::auth::{Auth, Client, ClientError};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const NOW_S: i64 = START_MS / 1000;

fn claims(client: &Client, jti: &str) -> Value {
    let id = client.client_id.as_str();
    json!({"iss": id, "sub": id, "aud": ISSUER, "exp": NOW_S + 60, "jti": jti})
}

async fn show(auth: &Auth, assertion: &str, more: &[(&str, &str)]) -> Result<TokenResponse, OAuthError> {
    let mut pairs = vec![GRANT, ("client_assertion_type", TYPE), ("client_assertion", assertion)];
    pairs.extend_from_slice(more);
    let form = fields(&pairs);
    auth.grants().token(OAuthRequest { form: &form, authorization: None, remote: HOME }).await
}

fn assert_refused(result: Result<TokenResponse, OAuthError>, why: &str) {
    assert_eq!(result.unwrap_err(), OAuthError::bad_credentials(), "{why}");
}

#[tokio::test]
async fn an_assertion_authenticates_its_client_with_and_without_client_id() {
    let fixture = Fixture::new().await;
    let key = ClientKey::es256();
    let client = fixture.keyed_client("semantic:read", &key).await;
    let id = client.client_id.as_str();
    for (jti, more) in [("1", vec![]), ("2", vec![("client_id", id)])] {
        let response = show(&fixture.auth, &key.sign(&claims(&client, jti)), &more).await.unwrap();
        let principal = fixture.auth.tokens().verify(response.access_token.expose()).unwrap();
        assert_eq!((&principal.client_id, &principal.scopes), (&client.client_id, &client.scopes));
    }
    // The other endpoints take it as well.
    let token = show(&fixture.auth, &key.sign(&claims(&client, "3")), &[]).await.unwrap();
    let at = |jti: &str| {
        let assertion = key.sign(&claims(&client, jti));
        let pairs = [("client_assertion_type", TYPE), ("client_assertion", assertion.as_str())];
        fields(&[&pairs[..], &[("token", token.access_token.expose())]].concat())
    };
    let (introspected, revoked) = (at("4"), at("5"));
    let request = |form| OAuthRequest { form, authorization: None, remote: HOME };
    assert!(fixture.auth.grants().introspect(request(&introspected)).await.unwrap().active);
    assert!(fixture.auth.grants().revoke(request(&revoked)).await.unwrap().is_some());
}

#[tokio::test]
async fn an_assertion_is_taken_once_also_at_the_same_time_and_on_another_replica() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let key = ClientKey::es256();
    let client = fixture.keyed_client("semantic:read", &key).await;
    let once = key.sign(&claims(&client, "once"));
    show(&fixture.auth, &once, &[]).await.unwrap();
    assert_refused(show(&fixture.auth, &once, &[]).await, "again");
    assert_refused(show(&replica, &once, &[]).await, "elsewhere");
    let respelled = key.sign(&claims(&client, "once"));
    assert_refused(show(&fixture.auth, &respelled, &[]).await, "the id counts, not the signature");

    for round in 0..5 {
        let one = key.sign(&claims(&client, &format!("race {round}")));
        let (a, b, c, d) = tokio::join!(
            show(&fixture.auth, &one, &[]),
            show(&replica, &one, &[]),
            show(&fixture.auth, &one, &[]),
            show(&replica, &one, &[]),
        );
        let taken = [a, b, c, d].into_iter().filter(Result::is_ok).count();
        assert_eq!(taken, 1, "round {round}");
        // What failed is forgotten again, so that the throttle does not decide the next round.
        fixture.clock.advance_ms(1_000);
    }

    let other = fixture.keyed_client("semantic:read", &key).await;
    fixture.clock.advance_ms(20_000);
    show(&fixture.auth, &key.sign(&claims(&other, "once")), &[]).await.unwrap();
}

#[tokio::test]
async fn an_assertion_is_used_up_even_if_the_request_fails_and_for_as_long_as_it_could_be_shown() {
    let fixture = Fixture::new().await;
    let key = ClientKey::es256();
    let client = fixture.keyed_client("semantic:read", &key).await;
    let mut long = claims(&client, "long");
    long["exp"] = json!(NOW_S + 600);
    let long = key.sign(&long);
    let failed = show(&fixture.auth, &long, &[("scope", "rag:read")]).await.unwrap_err();
    assert_eq!(failed.error, OAuthErrorCode::InvalidScope);
    for number in 0..5 {
        fixture.clock.advance_ms(119_000);
        let now_s = fixture.clock.now_ms() / 1000;
        let mut fresh = claims(&client, &format!("fresh {number}"));
        fresh["exp"] = json!(now_s + 60);
        show(&fixture.auth, &key.sign(&fresh), &[]).await.unwrap();
        assert_refused(show(&fixture.auth, &long, &[]).await, "still remembered");
    }
    fixture.clock.advance_ms(180_000);
    let mut last = claims(&client, "last");
    last["exp"] = json!(fixture.clock.now_ms() / 1000 + 60);
    show(&fixture.auth, &key.sign(&last), &[]).await.unwrap();
    let store = fixture.store().await;
    let left = sqlx::query("SELECT jti_sha256 FROM used_assertions").fetch_all(store.pool()).await.unwrap();
    assert_eq!(left.len(), 1, "what has expired is removed in passing");
}

#[tokio::test]
async fn wrong_keys_and_unknown_or_disabled_clients_are_the_answer_of_a_wrong_secret() {
    let fixture = Fixture::new().await;
    let (key, other_key) = (ClientKey::es256(), ClientKey::es256());
    let client = fixture.keyed_client("semantic:read", &key).await;
    let other = fixture.keyed_client("semantic:read", &other_key).await;
    let auth = &fixture.auth;

    assert_refused(show(auth, &other_key.sign(&claims(&client, "1")), &[]).await, "a stranger's key");
    let mut header = key.header();
    header["kid"] = other_key.jwk["kid"].clone();
    let foreign_kid = other_key.sign_raw(&header.to_string(), &claims(&client, "2").to_string());
    assert_refused(show(auth, &foreign_kid, &[]).await, "the kid of another client");
    let mut unknown = client.clone();
    unknown.client_id = "nobody-12345678".parse().unwrap();
    assert_refused(show(auth, &key.sign(&claims(&unknown, "3")), &[]).await, "unknown");
    let good = key.sign(&claims(&client, "4"));
    let (message, _) = good.rsplit_once('.').unwrap();
    for signature in ["", "AAAA", good.rsplit_once('.').unwrap().1.trim_end_matches(|_: char| true)] {
        assert_refused(show(auth, &format!("{message}.{signature}"), &[]).await, "no signature");
    }
    let secret = fixture.client("semantic:read").await;
    assert_refused(show(auth, &key.sign(&claims(&secret.client, "5")), &[]).await, "no keys registered");
    auth.clients().disable(&other.client_id).await.unwrap();
    assert_refused(show(auth, &other_key.sign(&claims(&other, "6")), &[]).await, "disabled");
    show(auth, &good, &[]).await.unwrap();
}

#[tokio::test]
async fn a_key_of_another_algorithm_or_a_key_that_is_brought_along_does_not_verify() {
    let fixture = Fixture::new().await;
    let key = ClientKey::es256();
    let client = fixture.keyed_client("semantic:read", &key).await;
    let attacker = ClientKey::es256();
    let with = |name: &str, value: Value| {
        let mut header = key.header();
        header[name] = value;
        attacker.sign_raw(&header.to_string(), &claims(&client, "x").to_string())
    };
    for (assertion, expected) in [
        (with("jwk", attacker.jwk.clone()), "header must be"),
        (with("jku", json!("https://evil.example/jwks.json")), "header must be"),
        (with("x5c", json!(["MIIB"])), "header must be"),
        (with("crit", json!([])), "header must be"),
        (with("alg", json!("none")), "alg must be"),
        (with("alg", json!("HS256")), "alg must be"),
    ] {
        let error = show(&fixture.auth, &assertion, &[]).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::InvalidClient);
        assert!(error.error_description.contains(expected), "{}", error.error_description);
    }
    for alg in ["RS256", "PS256", "EdDSA"] {
        let mut header = key.header();
        header["alg"] = json!(alg);
        let assertion = key.sign_raw(&header.to_string(), &claims(&client, alg).to_string());
        assert_refused(show(&fixture.auth, &assertion, &[]).await, alg);
    }
}

#[tokio::test]
async fn an_assertion_for_somebody_else_or_some_other_time_says_so() {
    let fixture = Fixture::new().await;
    let key = ClientKey::es256();
    let client = fixture.keyed_client("semantic:read", &key).await;
    let changed = |name: &str, value: Value| {
        let mut claims = claims(&client, "x");
        claims[name] = value;
        key.sign(&claims)
    };
    for (assertion, expected) in [
        (changed("aud", json!("https://evil.example")), "aud must be https://steward.example"),
        (changed("aud", json!([ISSUER, "https://evil.example"])), "aud must be"),
        (changed("exp", json!(NOW_S)), "expired"),
        (changed("exp", json!(NOW_S + 3_700)), "an hour ahead"),
        (changed("nbf", json!(NOW_S + 300)), "not valid yet"),
        (changed("iss", json!("other")), "iss and sub"),
        (changed("jti", json!("")), "jti"),
        (changed("jti", json!(null)), "claims must be"),
    ] {
        let error = show(&fixture.auth, &assertion, &[]).await.unwrap_err();
        assert_eq!((error.error, error.status), (OAuthErrorCode::InvalidClient, StatusHint::Unauthorized));
        assert!(error.error_description.contains(expected), "{}", error.error_description);
    }
    show(&fixture.auth, &changed("aud", json!(format!("{ISSUER}/oauth/token"))), &[]).await.unwrap();
}

#[tokio::test]
async fn an_assertion_is_one_way_and_for_one_client() {
    let fixture = Fixture::new().await;
    let key = ClientKey::es256();
    let client = fixture.keyed_client("semantic:read", &key).await;
    let other = fixture.keyed_client("semantic:read", &key).await;
    let assertion = key.sign(&claims(&client, "1"));
    let invalid = async |pairs: &[(&str, &str)], authorization: Option<&str>| {
        let error = token(&fixture, pairs, authorization).await.unwrap_err();
        assert_eq!(error.error, OAuthErrorCode::InvalidRequest, "{pairs:?}");
    };
    let shown = [GRANT, ("client_assertion_type", TYPE), ("client_assertion", &assertion)];
    invalid(&[&shown[..], &[("client_id", other.client_id.as_str())]].concat(), None).await;
    invalid(&[&shown[..], &[("client_secret", "x")]].concat(), None).await;
    invalid(&shown, Some(&basic("a", "b"))).await;
    invalid(&shown[..2], None).await;
    invalid(&[shown[0], shown[2]], None).await;
    let saml = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer");
    invalid(&[GRANT, saml, shown[2]], None).await;
    token(&fixture, &shown, None).await.unwrap();

    let wrong_way = token(&fixture, &[GRANT, ("client_id", client.client_id.as_str())], None).await;
    assert_refused(wrong_way, "the id alone");
    let error = fixture.auth.clients().rotate_secret(&client.client_id, 0).await.unwrap_err();
    assert!(matches!(error, ClientError::TakesNoSecret { .. }), "a secret would be of no use to it: {error}");
}

#[tokio::test]
async fn assertions_that_do_not_verify_are_slowed_down() {
    let fixture = Fixture::new().await;
    let key = ClientKey::es256();
    let client = fixture.keyed_client("semantic:read", &key).await;
    let forged = ClientKey::es256().sign(&claims(&client, "x"));
    for _ in 0..10 {
        assert_refused(show(&fixture.auth, &forged, &[]).await, "forged");
    }
    let error = show(&fixture.auth, &forged, &[]).await.unwrap_err();
    assert!(matches!(error.status, StatusHint::TooManyRequests { .. }));
    let form = fields(&[
        GRANT,
        ("client_assertion_type", TYPE),
        ("client_assertion", &key.sign(&claims(&client, "y"))),
    ]);
    let elsewhere = OAuthRequest { form: &form, authorization: None, remote: ABROAD };
    fixture.auth.grants().token(elsewhere).await.unwrap();
}

#[tokio::test]
async fn a_new_key_works_at_once_on_every_replica_and_a_removed_one_no_more() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let (old, new) = (ClientKey::es256(), ClientKey::new(crate::auth::SigningAlgorithm::EdDsa));
    let client = fixture.keyed_client("semantic:read", &old).await;
    show(&replica, &old.sign(&claims(&client, "1")), &[]).await.unwrap();
    let change = ClientChange { jwks: Some(Some(new.jwks())), ..ClientChange::default() };
    fixture.auth.clients().update(&client.client_id, &change).await.unwrap();
    show(&replica, &new.sign(&claims(&client, "2")), &[]).await.unwrap();
    assert_refused(show(&replica, &old.sign(&claims(&client, "3")), &[]).await, "the old key");
}

#[tokio::test]
async fn a_key_set_that_could_not_serve_is_refused_at_registration() {
    let fixture = Fixture::new().await;
    let key = ClientKey::es256();
    let client = fixture.keyed_client("semantic:read", &key).await;
    for (jwks, expected) in [
        (json!({"keys": [key.jwk_with("d", json!("AQ"))]}).to_string(), "take it out of use"),
        ("{}".to_owned(), "list `keys`"),
        (r#"{"keys": []}"#.to_owned(), "0 keys"),
    ] {
        let new = NewClient {
            name: "keyed".into(),
            scopes: "semantic:read".parse().unwrap(),
            authentication: crate::auth::ClientAuthentication::PrivateKeyJwt,
            jwks: Some(jwks.clone()),
            ..NewClient::default()
        };
        let created = fixture.auth.clients().create(&new).await.unwrap_err();
        let change = ClientChange { jwks: Some(Some(jwks)), ..ClientChange::default() };
        let updated = fixture.auth.clients().update(&client.client_id, &change).await.unwrap_err();
        for error in [created, updated] {
            assert!(matches!(error, ClientError::BadJwks(_)), "{error:?}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
