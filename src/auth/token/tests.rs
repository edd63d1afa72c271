use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::auth::testing::{Fixture, ISSUER, START_MS};
use crate::error::ErrorKind;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn payload(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn header(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap()
}

/// A token over any header and claims, signed with the service's own key: what only the checks behind the
/// signature can refuse.
fn signed(fixture: &Fixture, header: &str, claims: &str) -> String {
    let pem = std::fs::read_to_string(fixture.folder.path().join("keys/active.pem")).unwrap();
    let key = jsonwebtoken::EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::ES256).unwrap();
    format!("{message}.{signature}")
}

fn fault(result: Result<Arc<Principal>, AuthError>) -> TokenFault {
    match result {
        Err(AuthError::InvalidToken { fault }) => fault,
        other => panic!("expected an invalid token, got {other:?}"),
    }
}

fn refused(fixture: &Fixture, token: &str) -> TokenFault {
    fault(fixture.auth.tokens().verify(token))
}

#[tokio::test]
async fn a_token_says_what_rfc_9068_wants_and_verifies_offline_by_the_jwks() {
    let fixture = Fixture::new().await;
    let (made, token) = fixture.token("semantic:read sql:run:flights.*").await;
    let jwks = serde_json::to_value(fixture.auth.jwks()).unwrap();
    assert_eq!(header(&token), json!({"typ": "at+jwt", "alg": "ES256", "kid": jwks["keys"][0]["kid"]}));
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwks["keys"][0].clone()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[ISSUER]);
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
    assert_eq!(claims["scope"], "semantic:read sql:run:flights.*");
    assert_eq!(claims["client_id"], made.client.client_id.as_str());
    assert_eq!(claims["sub"], made.client.client_id.as_str());
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3_600);
    assert_eq!(claims["iat"], START_MS / 1000);
    assert_eq!(uuid_time_ms(claims["jti"].as_str().unwrap()), Some(START_MS));
}

#[tokio::test]
async fn a_verified_token_is_the_principal_it_was_issued_to_the_first_time_and_from_memory() {
    let fixture = Fixture::new().await;
    let made = fixture.client("rag:read:notes").await;
    let actor = Some(Actor { sub: "agent".into(), act: None });
    let claims = Claims::from([("carrier".to_owned(), json!("UA")), ("sub".to_owned(), json!("forged"))]);
    let spec = TokenSpec {
        client_id: made.client.client_id.clone(),
        subject: "user-7".into(),
        scopes: made.client.scopes.clone(),
        claims,
        actor: actor.clone(),
        audience: None,
        exchanged: None,
    };
    let issued = fixture.auth.tokens().issue(&spec).unwrap();
    for _ in 0..2 {
        let principal = fixture.auth.tokens().verify(issued.token.expose()).unwrap();
        assert_eq!(principal.client_id, made.client.client_id);
        assert_eq!((principal.subject.as_str(), &principal.actor), ("user-7", &actor));
        assert_eq!(principal.scopes, made.client.scopes);
        assert_eq!(principal.jti.as_ref(), Some(&issued.jti));
        assert_eq!(
            (&principal.claims["carrier"], &principal.claims["sub"]),
            (&json!("UA"), &json!("user-7"))
        );
    }
    assert!(!format!("{issued:?}").contains(issued.token.expose()));
}

#[tokio::test]
async fn another_algorithm_than_the_keys_is_refused_whatever_signs_it() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    let (kid, claims) = (header(&token)["kid"].clone(), payload(&token).to_string());
    let with_alg = |alg: &str| json!({"alg": alg, "typ": "at+jwt", "kid": kid}).to_string();
    for alg in ["none", "None", "NONE", "nOnE", "", "es256", "ES384", "RS256", "PS256", "EdDSA", "HS256"] {
        let unsigned = format!("{}.{}.", b64(with_alg(alg)), b64(&claims));
        assert_eq!(refused(&fixture, &unsigned), TokenFault::WrongAlgorithm, "{alg} without signature");
        let properly_signed = signed(&fixture, &with_alg(alg), &claims);
        assert_eq!(refused(&fixture, &properly_signed), TokenFault::WrongAlgorithm, "{alg} signed");
    }
    // The public key is public: whoever takes it for an HMAC secret can be fooled by anybody.
    let jwk = serde_json::to_value(fixture.auth.jwks()).unwrap()["keys"][0].clone();
    let point = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let raw = [vec![4], point("x"), point("y")].concat();
    for secret in [raw, jwk.to_string().into_bytes()] {
        let message = format!("{}.{}", b64(with_alg("HS256")), b64(&claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        assert_eq!(refused(&fixture, &format!("{message}.{}", b64(tag))), TokenFault::WrongAlgorithm);
    }
}

#[tokio::test]
async fn a_header_with_anything_but_alg_typ_and_kid_is_refused_even_if_we_signed_it() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    let (good, claims) = (header(&token), payload(&token).to_string());
    let jwk = serde_json::to_value(fixture.auth.jwks()).unwrap()["keys"][0].clone();
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
    ] {
        let mut header = good.clone();
        header[name] = value;
        assert_eq!(
            refused(&fixture, &signed(&fixture, &header.to_string(), &claims)),
            TokenFault::BadHeader,
            "{name}"
        );
    }
    let kid = good["kid"].as_str().unwrap();
    for header in [
        format!(r#"{{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"x","kid":"{kid}"}}"#),
        r#"{"alg":"ES256","typ":"at+jwt"}"#.to_owned(),
        format!(r#"{{"typ":"at+jwt","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":["ES256"],"typ":"at+jwt","kid":"{kid}"}}"#),
        "null".to_owned(),
        String::new(),
    ] {
        assert_eq!(refused(&fixture, &signed(&fixture, &header, &claims)), TokenFault::BadHeader, "{header}");
    }
}

#[tokio::test]
async fn the_type_must_be_an_access_tokens() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    for typ in ["JWT", "jwt", "id_token", "AT+JWT", "at+jwt ", "application/at+jwt", "logout+jwt", ""] {
        let mut header = header(&token);
        header["typ"] = json!(typ);
        let token = signed(&fixture, &header.to_string(), &payload(&token).to_string());
        assert_eq!(refused(&fixture, &token), TokenFault::WrongType, "{typ:?}");
    }
}

#[tokio::test]
async fn a_kid_that_is_not_one_of_ours_is_refused_and_never_used_as_a_path_or_query() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    let long = "k".repeat(4_000);
    for kid in
        ["", "unknown", "../../../../dev/null", "active.pem", "x' OR '1'='1", "k\0", &long, &"A".repeat(43)]
    {
        let mut header = header(&token);
        header["kid"] = json!(kid);
        let token = signed(&fixture, &header.to_string(), &payload(&token).to_string());
        assert_eq!(refused(&fixture, &token), TokenFault::UnknownKey, "{kid:?}");
    }
    let stranger = Fixture::new().await;
    assert_eq!(refused(&fixture, &stranger.token("semantic:read").await.1), TokenFault::UnknownKey);
}

#[tokio::test]
async fn a_changed_token_or_a_degenerate_signature_does_not_verify() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    let parts: Vec<&str> = token.split('.').collect();
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    let with_signature = |bytes: &[u8]| format!("{}.{}.{}", parts[0], parts[1], b64(bytes));
    let (r, s) = signature.split_at(32);
    let zero = [0u8; 32];
    // The order of P-256 (FIPS 186): r and s must be below it.
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    for bad in [
        [&zero, s].concat(),
        [r, &zero].concat(),
        [zero, zero].concat(),
        [&order, s].concat(),
        [r, &order].concat(),
        signature[..63].to_vec(),
        [&signature[..], &[0]].concat(),
        vec![],
    ] {
        assert_eq!(refused(&fixture, &with_signature(&bad)), TokenFault::BadSignature, "{bad:02x?}");
    }
    for bit in 0..512 {
        let mut flipped = signature.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(refused(&fixture, &with_signature(&flipped)), TokenFault::BadSignature);
    }
    let mut claims = payload(&token);
    claims["scope"] = json!("admin:clients");
    let raised = format!("{}.{}.{}", parts[0], b64(claims.to_string()), parts[2]);
    assert_eq!(refused(&fixture, &raised), TokenFault::BadSignature);
}

#[tokio::test]
async fn only_the_compact_form_in_its_one_spelling_is_read() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    let parts: Vec<&str> = token.split('.').collect();
    let json = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string();
    let general =
        json!({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": parts[2]}]});
    for other in [
        String::new(),
        "..".to_owned(),
        json,
        general.to_string(),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{}\n.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}. {}.{}", parts[0], parts[1], parts[2]),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{token}."),
        format!("{token}.{}", parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!(".{token}"),
        "é.é.é".to_owned(),
    ] {
        let fault = refused(&fixture, &other);
        assert!(
            matches!(fault, TokenFault::NotCompact | TokenFault::BadHeader | TokenFault::BadSignature),
            "{other:?}: {fault:?}"
        );
    }
    for spelling in
        [format!("{token}="), format!("{token}\r\n"), format!("{}.{}.{}+", parts[0], parts[1], parts[2])]
    {
        assert_eq!(refused(&fixture, &spelling), TokenFault::BadSignature, "{spelling:?}");
    }
    assert_eq!(refused(&fixture, &"a".repeat(MAX_TOKEN_BYTES + 1)), TokenFault::TooLong);
}

#[tokio::test]
async fn claims_must_be_there_once_and_have_their_types() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    let (header, good) = (header(&token).to_string(), payload(&token));
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope"] {
        for value in [None, Some(Value::Null), Some(json!({})), Some(json!(true))] {
            let mut claims = good.clone();
            match value.clone() {
                Some(value) => claims[name] = value,
                None => drop(claims.as_object_mut().unwrap().remove(name)),
            }
            let token = signed(&fixture, &header, &claims.to_string());
            assert_eq!(refused(&fixture, &token), TokenFault::BadClaims, "{name}: {value:?}");
        }
        let twice = good.to_string().replacen('{', &format!("{{\"{name}\":{},", good[name]), 1);
        assert_eq!(
            refused(&fixture, &signed(&fixture, &header, &twice)),
            TokenFault::BadClaims,
            "{name} twice"
        );
    }
    for (name, value) in [
        ("exp", json!("1900000000")),
        ("exp", json!(1_900_000_000.5)),
        ("exp", json!(1e300)),
        ("exp", json!(u64::MAX)),
        ("exp", good["iat"].clone()),
        ("nbf", json!("0")),
        ("nbf", json!(0.5)),
        ("nbf", Value::Null),
        ("iat", json!("0")),
        ("jti", json!("")),
        ("jti", json!("7")),
        ("jti", json!(Uuid::new_v4().to_string())),
        ("jti", json!(good["jti"].as_str().unwrap().to_uppercase())),
        ("jti", json!(format!("{{{}}}", good["jti"].as_str().unwrap()))),
        ("sub", json!("")),
        ("client_id", json!("a b")),
        ("client_id", json!("local:root")),
        ("scope", json!("everything")),
        ("scope", json!(["semantic:read"])),
        ("act", json!("agent")),
        ("claims", json!([])),
    ] {
        let mut claims = good.clone();
        claims[name] = value.clone();
        let token = signed(&fixture, &header, &claims.to_string());
        assert_eq!(refused(&fixture, &token), TokenFault::BadClaims, "{name}: {value}");
    }
    for claims in ["", "null", "[]", "{", "\"x\""] {
        assert_eq!(
            refused(&fixture, &signed(&fixture, &header, claims)),
            TokenFault::BadClaims,
            "{claims:?}"
        );
    }
}

#[tokio::test]
async fn issuer_and_audience_must_be_ours_alone() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    let (header, good) = (header(&token).to_string(), payload(&token));
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signed(&fixture, &header, &claims.to_string())
    };
    for iss in [
        "",
        "https://evil.example",
        "https://steward.example/",
        "https://steward.example.evil",
        "HTTPS://steward.example",
    ] {
        assert_eq!(refused(&fixture, &with("iss", json!(iss))), TokenFault::WrongIssuer, "{iss}");
    }
    for aud in [
        json!(""),
        json!("https://other.example"),
        json!([]),
        json!(["https://other.example"]),
        json!([ISSUER, "https://other.example"]),
        json!([ISSUER, ISSUER]),
        json!("https://steward.example/"),
    ] {
        assert_eq!(refused(&fixture, &with("aud", aud.clone())), TokenFault::WrongAudience, "{aud}");
    }
    fixture.auth.tokens().verify(&with("aud", json!([ISSUER]))).unwrap();
}

#[tokio::test]
async fn a_token_ends_on_its_second_and_may_begin_a_little_early() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    let (header, good) = (header(&token).to_string(), payload(&token));
    let now_s = START_MS / 1000;
    let starting = |name: &str, at_s: i64| {
        let mut claims = good.clone();
        claims[name] = json!(at_s);
        fixture.auth.tokens().verify(&signed(&fixture, &header, &claims.to_string()))
    };
    for name in ["nbf", "iat"] {
        starting(name, now_s + CLOCK_SKEW_MS / 1000).unwrap();
        assert_eq!(fault(starting(name, now_s + CLOCK_SKEW_MS / 1000 + 1)), TokenFault::NotYetValid);
        assert_eq!(fault(starting(name, i64::MAX)), TokenFault::NotYetValid);
    }
    starting("nbf", i64::MIN).unwrap();
    fixture.clock.advance_ms(3_600_000 - START_MS % 1000 - 1);
    fixture.auth.tokens().verify(&token).unwrap();
    fixture.clock.advance_ms(1);
    assert!(matches!(fixture.auth.tokens().verify(&token), Err(AuthError::ExpiredToken)), "also from memory");
}

#[tokio::test]
async fn a_revoked_token_dies_here_at_once_and_elsewhere_at_the_next_poll() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let (made, token) = fixture.token("semantic:read").await;
    let other = fixture.issue(&made);
    fixture.auth.tokens().verify(&token).unwrap();
    replica.tokens().verify(&token).unwrap();
    let done = fixture.auth.tokens().revoke(&token, &made.client.client_id).await.unwrap();
    assert!(matches!(done, Some(Revocation::Done { .. })));
    assert_eq!(refused(&fixture, &token), TokenFault::Revoked);
    replica.refresh().await.unwrap();
    assert_eq!(fault(replica.tokens().verify(&token)), TokenFault::Revoked);
    fixture.auth.tokens().verify(&other).unwrap();
    assert_eq!(fixture.auth.tokens().revoke(&token, &made.client.client_id).await.unwrap(), None);
    let reopened = fixture.replica().await;
    assert_eq!(fault(reopened.tokens().verify(&token)), TokenFault::Revoked, "a restart remembers");
}

#[tokio::test]
async fn a_replica_sees_a_revocation_by_polling_alone() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let (made, token) = fixture.token("semantic:read").await;
    fixture.auth.tokens().revoke(&token, &made.client.client_id).await.unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(20), async {
        while replica.tokens().verify(&token).is_ok() {
            tokio::task::yield_now().await;
        }
    });
    seen.await.expect("the poll brings the revocation");
}

#[tokio::test]
async fn nobody_can_revoke_another_clients_token() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    let stranger = fixture.client("semantic:read").await.client.client_id;
    let answer = fixture.auth.tokens().revoke(&token, &stranger).await.unwrap();
    assert_eq!(answer, Some(Revocation::NotYours));
    fixture.auth.tokens().verify(&token).unwrap();
    assert_eq!(fixture.auth.tokens().revoke("rubbish", &stranger).await.unwrap(), None);
}

#[tokio::test]
async fn disabling_a_client_kills_its_tokens_for_good_but_not_those_that_it_gets_afterwards() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let (made, token) = fixture.token("semantic:read").await;
    let (_, bystander) = fixture.token("semantic:read").await;
    let id = &made.client.client_id;
    fixture.auth.tokens().verify(&token).unwrap();
    fixture.auth.clients().disable(id).await.unwrap();
    assert_eq!(refused(&fixture, &token), TokenFault::ClientRevoked);
    replica.refresh().await.unwrap();
    assert_eq!(fault(replica.tokens().verify(&token)), TokenFault::ClientRevoked);
    fixture.auth.clients().enable(id).await.unwrap();
    assert_eq!(refused(&fixture, &token), TokenFault::ClientRevoked);
    fixture.clock.advance_ms(1);
    let fresh = fixture.issue(&made);
    fixture.auth.tokens().verify(&fresh).unwrap();
    fixture.auth.tokens().verify(&bystander).unwrap();
    fixture.auth.clients().revoke_tokens(id).await.unwrap();
    assert_eq!(refused(&fixture, &fresh), TokenFault::ClientRevoked);
}

#[tokio::test]
async fn a_token_of_a_client_that_is_gone_dies_but_one_of_a_client_that_is_new_elsewhere_lives() {
    let fixture = Fixture::new().await;
    let (made, token) = fixture.token("semantic:read").await;
    let store = fixture.store().await;
    sqlx::query("DELETE FROM client_secrets").execute(store.pool()).await.unwrap();
    sqlx::query("DELETE FROM clients").execute(store.pool()).await.unwrap();
    let replica = fixture.replica().await;
    replica
        .tokens()
        .verify(&token)
        .expect("for all that the replica knows, the client may be younger than its copy");
    fixture.clock.advance_ms(CLOCK_SKEW_MS + 1);
    replica.refresh().await.unwrap();
    assert_eq!(fault(replica.tokens().verify(&token)), TokenFault::UnknownClient);
    drop(made);
}

#[tokio::test]
async fn without_news_of_revocations_for_too_long_no_token_passes() {
    let fixture = Fixture::new().await;
    let (made, token) = fixture.token("semantic:read").await;
    let keys = fixture.keys();
    let store = fixture.store().await;
    let state = LiveState::load(store, fixture.clock.clone()).await.unwrap();
    let mut tokens = Tokens::new(ISSUER.into(), ISSUER.into(), vec![], 60, keys, state);
    tokens.verify(&token).unwrap();
    tokens.max_staleness = Duration::ZERO;
    let error = tokens.verify(&token).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = tokens.revoke(&token, &made.client.client_id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "and no revocation is taken for done");
    let spec = TokenSpec {
        client_id: made.client.client_id.clone(),
        subject: made.client.client_id.to_string(),
        scopes: made.client.scopes.clone(),
        claims: Claims::new(),
        actor: None,
        audience: None,
        exchanged: None,
    };
    assert_eq!(tokens.issue(&spec).unwrap_err().kind(), ErrorKind::Unavailable, "and none is issued");
}

#[tokio::test]
async fn tokens_of_a_withdrawn_key_die_and_those_of_a_retired_one_live() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    fixture.auth.tokens().verify(&token).unwrap();
    let folder = fixture.folder.path().join("keys");
    std::fs::rename(folder.join("active.pem"), folder.join("retired-1.pem")).unwrap();
    fixture.auth.tokens().replace_keys(fixture.keys());
    fixture.auth.tokens().verify(&token).unwrap();
    std::fs::remove_file(folder.join("retired-1.pem")).unwrap();
    fixture.auth.tokens().replace_keys(fixture.keys());
    assert_eq!(refused(&fixture, &token), TokenFault::UnknownKey);
}

#[tokio::test]
async fn a_rotation_by_another_process_is_taken_over_and_no_token_fails_at_any_moment() {
    let fixture = Fixture::new().await;
    let replica = fixture.replica().await;
    let (made, before) = fixture.token("semantic:read").await;
    fixture.clock.advance_ms(crate::auth::keys::PUBLISH_AHEAD_MS);
    fixture.auth.key_ring().rotate(false).await.unwrap();
    let after = fixture.issue(&made);
    assert_ne!(header(&before)["kid"], header(&after)["kid"]);
    // The replica may have heard of the rotation already, or not: nothing depends on it.
    let meanwhile = {
        let spec = TokenSpec {
            client_id: made.client.client_id.clone(),
            subject: "x".into(),
            scopes: made.client.scopes.clone(),
            claims: Claims::new(),
            actor: None,
            audience: None,
            exchanged: None,
        };
        replica.refresh().await.unwrap();
        replica.tokens().issue(&spec).unwrap().token.expose().to_owned()
    };
    for round in 0..2 {
        for token in [&before, &meanwhile, &after] {
            fixture.auth.tokens().verify(token).unwrap();
            replica.tokens().verify(token).unwrap();
        }
        replica.key_ring().refresh().await.unwrap();
        assert_eq!(replica.key_ring().list(), fixture.auth.key_ring().list(), "round {round}");
    }
    assert_eq!(header(&fixture.issue(&made))["kid"], header(&after)["kid"]);
    // Longer than any of its tokens lived: the retired key goes.
    fixture.clock.advance_ms(3_600_000 + 120_000);
    fixture.auth.key_ring().refresh().await.unwrap();
    assert_eq!(fixture.auth.key_ring().list().len(), 2);
    let fresh = fixture.issue(&made);
    fixture.auth.tokens().verify(&fresh).unwrap();
}

#[tokio::test]
async fn a_token_that_holds_more_than_its_client_does_now_is_refused() {
    let fixture = Fixture::new().await;
    let made = fixture.client("semantic:read sql:run:flights.*").await;
    let with = |scopes: &str| {
        let spec = TokenSpec {
            client_id: made.client.client_id.clone(),
            subject: "x".into(),
            scopes: scopes.parse().unwrap(),
            claims: Claims::new(),
            actor: None,
            audience: None,
            exchanged: None,
        };
        fixture.auth.tokens().issue(&spec).unwrap().token.expose().to_owned()
    };
    // As a replica would sign it that has not heard yet that the client's scopes have shrunk.
    for scopes in ["rag:read", "semantic:read sql:run", "sql:run:other.x"] {
        assert_eq!(refused(&fixture, &with(scopes)), TokenFault::ClientRevoked, "{scopes}");
    }
    for scopes in ["", "semantic:read", "sql:run:flights.airports semantic:read"] {
        fixture.auth.tokens().verify(&with(scopes)).unwrap();
    }
}

#[tokio::test]
async fn every_algorithm_serves_and_a_token_cannot_choose_another_than_its_keys() {
    use crate::auth::{KeyFolder, KeySource, SigningAlgorithm};
    for algorithm in [SigningAlgorithm::Rs256, SigningAlgorithm::EdDsa] {
        let fixture = Fixture::new().await;
        let made = fixture.client("semantic:read").await;
        let source = KeySource::Folder(KeyFolder::new(fixture.folder.path().join("others"), algorithm));
        fixture.auth.tokens().replace_keys(source.open(START_MS).unwrap());
        let token = fixture.issue(&made);
        assert_eq!(header(&token)["alg"], algorithm.as_str());
        fixture.auth.tokens().verify(&token).unwrap();
        let (_, rest) = token.split_once('.').unwrap();
        for alg in ["ES256", "RS256", "EdDSA", "HS256", "PS256", "none"] {
            if alg == algorithm.as_str() {
                continue;
            }
            let kid = header(&token)["kid"].clone();
            let forged = json!({"alg": alg, "typ": "at+jwt", "kid": kid}).to_string();
            assert_eq!(refused(&fixture, &format!("{}.{rest}", b64(forged))), TokenFault::WrongAlgorithm);
        }
    }
}

#[tokio::test]
async fn the_authorization_header_is_read_as_rfc_6750_says() {
    let fixture = Fixture::new().await;
    let (_, token) = fixture.token("semantic:read").await;
    let verify = |header: Option<&str>| fixture.auth.tokens().verify_authorization(header);
    verify(Some(&format!("Bearer {token}"))).unwrap();
    verify(Some(&format!("bearer  {token}"))).unwrap();
    assert!(matches!(verify(None), Err(AuthError::MissingToken)));
    assert!(matches!(verify(Some("Basic YTpi")), Err(AuthError::MissingToken)));
    assert!(matches!(verify(Some(&token)), Err(AuthError::MissingToken)));
    for malformed in ["Bearer", "Bearer ", "Bearer   "] {
        assert!(matches!(verify(Some(malformed)), Err(AuthError::MalformedHeader)), "{malformed:?}");
    }
    assert_eq!(fault(verify(Some(&format!("Bearer {token}, Bearer {token}")))), TokenFault::NotCompact);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reading_a_header_or_claims_never_panics(header in "\\PC{0,60}", claims in "\\PC{0,60}", raw in "\\PC{0,80}") {
            let fixture = FIXTURE.get_or_init(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(Fixture::new())
            });
            let tokens = fixture.auth.tokens();
            prop_assert!(tokens.verify(&raw).is_err());
            let forged = format!("{}.{}.{}", b64(&header), b64(&claims), b64([1; 64]));
            prop_assert!(tokens.verify(&forged).is_err());
            prop_assert!(tokens.verify(&signed(fixture, &header, &claims)).is_err());
        }
    }

    static FIXTURE: std::sync::OnceLock<Fixture> = std::sync::OnceLock::new();
}
