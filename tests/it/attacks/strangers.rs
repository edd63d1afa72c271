//! What one client can do to another: its tokens, its data, its way in.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::{Forge, Signer, form};
use crate::harness::{AGENT_SCOPES, Service, read};

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_token_is_inactive_at_introspection_and_untouched_by_revocation() {
    let forge = Forge::new().await;
    let elsewhere = Service::start().await;
    let foreign = elsewhere.token(AGENT_SCOPES).await;
    let (attacker, _) = Signer::of_attacker();
    let forged = attacker.sign(&forge.header.to_string(), &forge.claims.to_string());
    let (head, signature) = forge.token.rsplit_once('.').unwrap();
    let tampered = format!("{head}.A{}", &signature[1..]);
    assert_ne!(tampered, forge.token);
    for (name, token) in [("foreign", &foreign), ("forged", &forged), ("tampered", &tampered)] {
        forge.refused(name, token).await;
        assert_eq!(forge.introspected(token).await, json!({"active": false}), "{name}: not a word more");
    }
    for token in ["x", "a.b.c", "..", &"A".repeat(8_000)] {
        assert_eq!(forge.introspected(token).await, json!({"active": false}), "{token:.20}");
    }

    let (id, secret) = forge.service.client("semantic:read").await;
    // Another client's token is as good as unknown, at either endpoint.
    for token in [forge.token.as_str(), "x"] {
        let answer = form(&forge.service, "/oauth/introspect", &id, &secret, &[("token", token)]).await;
        assert_eq!(answer, (200, json!({"active": false})));
    }
    for token in [forge.token.as_str(), &foreign, &forged, "x"] {
        let answer = form(&forge.service, "/oauth/revoke", &id, &secret, &[("token", token)]).await;
        assert_eq!(answer, (200, json!({})));
    }
    assert_eq!(forge.status(&forge.token).await, 200, "it lives");
    assert_eq!(elsewhere.get(&foreign, "/v1/me").await.0, 200, "nothing happened elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_endpoint_answers_anybody_without_credentials() {
    let forge = Forge::new().await;
    let service = &forge.service;
    for path in ["/oauth/introspect", "/oauth/revoke"] {
        let url = format!("{}{path}", service.url);
        for (name, request) in [
            ("nobody", service.http.post(&url)),
            ("the token itself", service.http.post(&url).bearer_auth(&forge.token)),
            ("an unknown client", service.http.post(&url).basic_auth("nobody-00000000", Some("x"))),
        ] {
            let answer = request.form(&[("token", forge.token.as_str())]).send().await.unwrap();
            assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic"), "{name}");
            let (status, answer) = read(answer).await;
            assert_eq!((status, &answer["error"]), (401, &json!("invalid_client")), "{path} {name}");
        }
    }
    assert_eq!(forge.status(&forge.token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_dead_everywhere_and_looks_like_any_other_that_is_none() {
    let service = Service::start().await;
    let (id, secret) = service.client("semantic:read").await;
    let (_, answer) =
        form(&service, "/oauth/token", &id, &secret, &[("grant_type", "client_credentials")]).await;
    let token = answer["access_token"].as_str().unwrap();
    let active = form(&service, "/oauth/introspect", &id, &secret, &[("token", token)]).await.1;
    assert_eq!((&active["active"], &active["client_id"]), (&json!(true), &json!(id)));
    for _ in 0..2 {
        assert_eq!(
            form(&service, "/oauth/revoke", &id, &secret, &[("token", token)]).await,
            (200, json!({}))
        );
        assert_eq!(service.get(token, "/v1/me").await.0, 401);
        let inactive = form(&service, "/oauth/introspect", &id, &secret, &[("token", token)]).await.1;
        assert_eq!(inactive, json!({"active": false}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_is_the_beginning_of_a_name_opens_nothing_of_that_name() {
    let service = Service::start().await;
    let narrow = "semantic:read sql:run:fl.* sql:run:flight.airlines sql:run:flights.air actions:call:weather.get \
                  actions:call:weath.* rag:read:note rag:read:api rag:write:note";
    let token = service.token(narrow).await;
    for table in ["flights.airlines", "flights.flights", "flights.airports"] {
        let (status, problem) = service.sql(&token, &format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(status, 403, "{table}: {problem:#}");
        assert_eq!(problem["required_scope"], format!("sql:run:{table}"));
    }
    let arguments = json!({"arguments": {"origin": "JFK"}});
    for operation in ["get_daily", "get_hourly"] {
        let path = format!("/v1/actions/weather/{operation}");
        assert_eq!(service.post(&token, &path, arguments.clone()).await.0, 403, "{operation}");
    }
    for index in ["notes", "api_responses"] {
        assert_eq!(service.get(&token, &format!("/v1/rag/{index}/documents")).await.0, 403, "{index}");
        let search = service.post(&token, &format!("/v1/rag/{index}/search"), json!({"query": "x"})).await;
        assert_eq!(search.0, 403, "{index}");
        assert_eq!(service.post(&token, &format!("/v1/rag/{index}/documents"), json!({"a": 1})).await.0, 403);
    }
    assert_eq!(service.get(&token, "/v1/auth-test/protected").await.0, 403);
    // The controls: whole names do.
    let whole = service.token("sql:run:flights.airlines rag:read:notes").await;
    assert_eq!(service.sql(&whole, "SELECT count(*) FROM flights.airlines").await.0, 200);
    assert_eq!(service.get(&whole, "/v1/rag/notes/documents").await.0, 200);
}

/// A client whose connections come from that address of the loopback network.
fn from(address: [u8; 4]) -> reqwest::Client {
    let address = IpAddr::V4(Ipv4Addr::from(address));
    reqwest::Client::builder().no_proxy().local_address(address).build().unwrap()
}

async fn try_secret(
    http: &reqwest::Client,
    service: &Service,
    id: &str,
    secret: &str,
) -> (u16, Option<u64>, Value) {
    let request = http
        .post(format!("{}/oauth/token", service.url))
        .header("x-forwarded-for", "127.0.0.1")
        .header("forwarded", "for=127.0.0.1")
        .basic_auth(id, Some(secret))
        .form(&[("grant_type", "client_credentials")]);
    let answer = request.send().await.unwrap();
    let wait = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    let (status, body) = read(answer).await;
    (status, wait, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_keeps_failing_waits_and_the_client_does_not() {
    let service = Service::start().await;
    let (id, secret) = service.client("semantic:read").await;
    let stranger = from([127, 0, 0, 2]);
    let mut told = None;
    for _ in 0..200 {
        let (status, wait, body) = try_secret(&stranger, &service, &id, "stw_guess").await;
        if status == 429 {
            told = wait;
            assert_eq!(body["error"], "temporarily_unavailable");
            break;
        }
        assert_eq!(status, 401, "{body:#}");
    }
    assert!(told.is_some_and(|seconds| (1..=60).contains(&seconds)), "{told:?}");
    for _ in 0..20 {
        assert_eq!(try_secret(&stranger, &service, &id, "stw_guess").await.0, 429);
        // At its own address, the client goes on; so does another one at the stranger's.
        assert_eq!(try_secret(&from([127, 0, 0, 3]), &service, &id, &secret).await.0, 200);
    }
    let (other, other_secret) = service.client("semantic:read").await;
    assert_eq!(try_secret(&stranger, &service, &other, &other_secret).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_known_at_an_address_is_not_held_up_by_guesses_under_other_names_there() {
    let service = Service::start().await;
    let (id, secret) = service.client("semantic:read").await;
    let shared = from([127, 0, 0, 4]);
    assert_eq!(try_secret(&shared, &service, &id, &secret).await.0, 200);
    let mut held_up = false;
    for n in 0..300 {
        held_up |= try_secret(&shared, &service, &format!("guess-{n:08}"), "x").await.0 == 429;
        if held_up {
            break;
        }
    }
    assert!(held_up, "an address has no end of guesses");
    assert_eq!(try_secret(&shared, &service, &id, &secret).await.0, 200);
}
