//! Administration at the HTTP door: clients, keys, audit, each guard with its attack.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use steward::auth::Operation;

use crate::harness::{Service, read};

const ADMIN: &str = "admin:clients admin:keys admin:audit semantic:read sql:run:flights.*";

async fn call(service: &Service, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request =
        service.http.request(method.parse().unwrap(), format!("{}{path}", service.url)).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    read(request.send().await.unwrap()).await
}

/// An access token by a client's own credentials; `None` if they do not hold.
async fn token_of(service: &Service, id: &str, secret: &str) -> Option<String> {
    let request = service
        .http
        .post(format!("{}/oauth/token", service.url))
        .basic_auth(id, Some(secret))
        .form(&[("grant_type", "client_credentials")]);
    let (status, answer) = read(request.send().await.unwrap()).await;
    (status == 200).then(|| answer["access_token"].as_str().unwrap().to_owned())
}

/// Registers a client over HTTP and returns its id and secret.
async fn create(service: &Service, token: &str, name: &str, scopes: &[&str]) -> (String, String) {
    let body = json!({"name": name, "scopes": scopes});
    let (status, made) = service.post(token, "/admin/api/clients", body).await;
    assert_eq!(status, 201, "{made:#}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&made["client"]["client_id"]), text(&made["client_secret"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_life_from_creation_to_deletion() {
    let service = Service::start().await;
    let admin = service.token(ADMIN).await;
    let (id, secret) = create(&service, &admin, "Reporting", &["semantic:read", "sql:run:flights.*"]).await;
    let path = format!("/admin/api/clients/{id}");
    let first = token_of(&service, &id, &secret).await.unwrap();
    assert_eq!(service.get(&first, "/v1/semantic/models").await.0, 200);

    let (_, shown) = service.get(&admin, &path).await;
    assert_eq!((&shown["name"], &shown["disabled_at_ms"]), (&json!("Reporting"), &Value::Null));
    assert_eq!(shown["secrets"].as_array().unwrap().len(), 1);
    let (_, list) = service.get(&admin, "/admin/api/clients").await;
    for text in [shown.to_string(), list.to_string()] {
        assert!(!text.contains(&secret) && !text.contains("sha256"), "{text}");
    }
    assert!(list.as_array().unwrap().iter().any(|client| client["client_id"] == id.as_str()));

    // A second secret beside the first, then one that ends all others at once.
    let (status, second) =
        service.post(&admin, &format!("{path}/secrets"), json!({"overlap_seconds": 600})).await;
    assert_eq!((status, second["secrets"].as_array().unwrap().len()), (201, 2), "{second:#}");
    let second = second["client_secret"].as_str().unwrap().to_owned();
    assert!(
        token_of(&service, &id, &secret).await.is_some() && token_of(&service, &id, &second).await.is_some()
    );
    let (_, third) = service.post(&admin, &format!("{path}/secrets"), json!({"overlap_seconds": 0})).await;
    let third = third["client_secret"].as_str().unwrap().to_owned();
    assert!(
        token_of(&service, &id, &secret).await.is_none() && token_of(&service, &id, &second).await.is_none()
    );
    let token = token_of(&service, &id, &third).await.unwrap();
    assert_eq!(service.get(&first, "/v1/me").await.0, 200, "tokens outlive the secret that fetched them");

    // Renaming kills nothing, narrowing does.
    let (status, renamed) = call(&service, &admin, "PATCH", &path, Some(json!({"name": "Reports"}))).await;
    assert_eq!((status, &renamed["name"]), (200, &json!("Reports")));
    assert_eq!(service.get(&token, "/v1/me").await.0, 200);
    let narrower = json!({"scopes": ["semantic:read"]});
    assert_eq!(call(&service, &admin, "PATCH", &path, Some(narrower)).await.0, 200);
    assert_eq!(service.get(&token, "/v1/me").await.0, 401);

    let token = token_of(&service, &id, &third).await.unwrap();
    let (status, disabled) = service.post(&admin, &format!("{path}/disable"), json!({})).await;
    assert!(status == 200 && disabled["disabled_at_ms"].is_i64(), "{disabled:#}");
    assert_eq!(service.get(&token, "/v1/me").await.0, 401);
    assert!(token_of(&service, &id, &third).await.is_none());
    assert_eq!(service.post(&admin, &format!("{path}/enable"), json!({})).await.0, 200);
    assert_eq!(service.get(&token, "/v1/me").await.0, 401, "tokens from before stay dead");

    let token = token_of(&service, &id, &third).await.unwrap();
    assert_eq!(call(&service, &admin, "DELETE", &path, None).await.0, 204);
    assert_eq!(service.get(&token, "/v1/me").await.0, 401);
    assert!(token_of(&service, &id, &third).await.is_none());
    assert_eq!(service.get(&admin, &path).await.0, 404);

    // What it did, and what was done to it, stays.
    let (_, events) = service.get(&admin, &format!("/admin/api/audit?client_id={id}")).await;
    assert!(events.as_array().unwrap().iter().any(|event| event["operation"] == "issue_token"), "{events:#}");
    let (_, events) = service.get(&admin, "/admin/api/audit?limit=1000").await;
    assert!(!events.to_string().contains("stw_"));
    let done: BTreeSet<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["target"] == id.as_str() && event["outcome"] == "ok")
        .map(|event| event["operation"].as_str().unwrap())
        .collect();
    use Operation::*;
    for operation in
        [CreateClient, GetClient, RotateClientSecret, UpdateClient, DisableClient, EnableClient, DeleteClient]
    {
        assert!(done.contains(operation.name()), "{operation:?} {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_cannot_give_or_take_over_more_than_it_holds() {
    let service = Service::start().await;
    let admin = service.token("admin:clients semantic:read sql:run:flights.airlines").await;
    for scopes in [
        json!(["sql:run"]),
        json!(["sql:run:flights.*"]),
        json!(["semantic:read", "admin:keys"]),
        json!(["data:highly_sensitive"]),
    ] {
        let body = json!({"name": "x", "scopes": scopes});
        let (status, problem) = service.post(&admin, "/admin/api/clients", body).await;
        assert_eq!(status, 403, "{problem:#}");
        assert!(problem["required_scope"].is_string(), "{problem:#}");
    }
    let (mine, _) = create(&service, &admin, "x", &["semantic:read"]).await;
    let path = format!("/admin/api/clients/{mine}");
    let wider = json!({"scopes": ["semantic:read", "rag:write"]});
    assert_eq!(call(&service, &admin, "PATCH", &path, Some(wider)).await.0, 403);
    assert_eq!(service.get(&admin, &path).await.1["scopes"], json!(["semantic:read"]));

    let (greater, secret) = service.client("rag:write admin:keys").await;
    let path = format!("/admin/api/clients/{greater}");
    let (status, problem) = service.post(&admin, &format!("{path}/secrets"), json!({})).await;
    assert_eq!(status, 403, "its secret would be its scopes: {problem:#}");
    assert!(token_of(&service, &greater, &secret).await.is_some());
    assert_eq!(service.post(&admin, &format!("{path}/disable"), json!({})).await.0, 200);
    assert_eq!(service.post(&admin, &format!("{path}/enable"), json!({})).await.0, 403);

    // A token that was narrowed gives no more than it says, whatever its client may have.
    let (id, secret) = service.client("admin:clients sql:run").await;
    let request = service
        .http
        .post(format!("{}/oauth/token", service.url))
        .basic_auth(&id, Some(&secret))
        .form(&[("grant_type", "client_credentials"), ("scope", "admin:clients")]);
    let narrow = read(request.send().await.unwrap()).await.1["access_token"].as_str().unwrap().to_owned();
    let body = json!({"name": "x", "scopes": ["sql:run"]});
    assert_eq!(service.post(&narrow, "/admin/api/clients", body).await.0, 403);

    // Nobody locks itself out.
    for (method, path) in
        [("DELETE", format!("/admin/api/clients/{id}")), ("POST", format!("/admin/api/clients/{id}/disable"))]
    {
        let (status, problem) = call(&service, &narrow, method, &path, Some(json!({}))).await;
        assert_eq!(status, 409, "{problem:#}");
    }
    assert_eq!(service.get(&narrow, "/v1/me").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_stay_inert_and_bad_requests_change_nothing() {
    let service = Service::start().await;
    let admin = service.token(ADMIN).await;
    let markup = "<img src=x onerror=alert(1)>\"'&";
    let (id, _) = create(&service, &admin, markup, &["semantic:read"]).await;
    assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{id}");
    let answer = service
        .http
        .get(format!("{}/admin/api/clients/{id}", service.url))
        .bearer_auth(&admin)
        .send()
        .await
        .unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/json"));
    assert_eq!(read(answer).await.1["name"], markup);

    let before = service.get(&admin, "/admin/api/clients").await.1;
    for body in [
        json!({"name": "x".repeat(65), "scopes": ["semantic:read"]}),
        json!({"name": "x".repeat(100_000), "scopes": ["semantic:read"]}),
        json!({"name": "", "scopes": ["semantic:read"]}),
        json!({"name": "a\nb", "scopes": ["semantic:read"]}),
        json!({"name": "x", "scopes": []}),
        json!({"name": "x", "scopes": ["semantic:raed"]}),
        json!({"name": "x", "scopes": ["semantic:read sql:run"]}),
        json!({"name": "x", "scopes": ["semantic:read"], "client_id": "chosen"}),
        json!({"name": "x"}),
        json!([]),
    ] {
        let (status, problem) = service.post(&admin, "/admin/api/clients", body.clone()).await;
        assert_eq!(
            (status, &problem["type"]),
            (400, &json!("urn:steward:problem:invalid_input")),
            "{body} {problem:#}"
        );
    }
    for id in ["nobody-00000000", "a%20b", "%00", &"x".repeat(300), "..%2Fkeys"] {
        let path = format!("/admin/api/clients/{id}");
        for (method, path, body) in [
            ("GET", path.clone(), None),
            ("PATCH", path.clone(), Some(json!({"name": "x"}))),
            ("DELETE", path.clone(), None),
            ("POST", format!("{path}/secrets"), Some(json!({}))),
            ("POST", format!("{path}/disable"), None),
            ("POST", format!("{path}/enable"), None),
        ] {
            let (status, problem) = call(&service, &admin, method, &path, body).await;
            assert_eq!(status, 404, "{method} {path} {problem:#}");
        }
    }
    let long = json!({"overlap_seconds": 4_000_000});
    assert_eq!(service.post(&admin, &format!("/admin/api/clients/{id}/secrets"), long).await.0, 400);
    assert_eq!(service.get(&admin, "/admin/api/audit?limit=0").await.0, 400);
    assert_eq!(service.get(&admin, "/admin/api/audit?outcome=maybe").await.0, 400);
    assert_eq!(service.get(&admin, "/admin/api/clients").await.1, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_with_a_secret_may_be_kept_by_no_cache() {
    let service = Service::start().await;
    let admin = service.token(ADMIN).await;
    let (id, _) = create(&service, &admin, "x", &["semantic:read"]).await;
    let bodies = [
        ("/admin/api/clients".to_owned(), json!({"name": "y", "scopes": ["semantic:read"]})),
        (format!("/admin/api/clients/{id}/secrets"), json!({})),
    ];
    for (path, body) in bodies {
        let request = service.http.post(format!("{}{path}", service.url)).bearer_auth(&admin).json(&body);
        let answer = request.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["cache-control"]),
            (201, &"no-store".parse().unwrap())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_filtered_and_paged_and_shows_what_was_just_refused() {
    let service = Service::start().await;
    let admin = service.token(ADMIN).await;
    let outsider = service.token("semantic:read").await;
    assert_eq!(service.get(&outsider, "/admin/api/audit").await.0, 403);
    let path = "/admin/api/audit?operation=list_audit_events&outcome=denied";
    let (_, denied) = service.get(&admin, path).await;
    assert_eq!(denied.as_array().unwrap().len(), 1, "{denied:#}");
    assert_eq!(denied[0]["reason"], "insufficient_scope");
    let at_ms = denied[0]["at_ms"].as_i64().unwrap();
    assert_eq!(service.get(&admin, &format!("{path}&since_ms={}", at_ms + 1)).await.1, json!([]));
    assert_eq!(service.get(&admin, &format!("{path}&until_ms={at_ms}")).await.1, json!([]));

    let (_, newest) = service.get(&admin, "/admin/api/audit?newest_first=true&limit=1").await;
    let id = newest[0]["event_id"].as_str().unwrap();
    let (_, older) =
        service.get(&admin, &format!("/admin/api/audit?newest_first=true&after={id}&limit=1")).await;
    assert!(older[0]["event_id"].as_str().unwrap() < id);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_under_load_without_a_valid_token_refused() {
    let service = Service::start().await;
    let admin = service.token(ADMIN).await;
    let (status, before) = service.get(&admin, "/admin/api/keys").await;
    assert_eq!(status, 200);
    let states = |keys: &Value| -> Vec<String> {
        keys.as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states(&before), ["active", "next"]);
    assert!(!before.to_string().contains("PRIVATE"));
    let (status, problem) = service.post(&admin, "/admin/api/keys/rotate", json!({})).await;
    assert_eq!(status, 409, "the next key was published a moment ago: {problem:#}");

    // Clients fetch tokens and use them, without a pause, while the keys rotate three times: once through this
    // service, twice by another process on the same folder.
    let (id, secret) = service.client("semantic:read").await;
    let rotated = std::sync::atomic::AtomicBool::new(false);
    let folder = steward::auth::KeyFolder::new(
        service.data_dir().join("data/keys"),
        steward::auth::SigningAlgorithm::EdDsa,
    );
    let load = async || {
        let mut kids = BTreeSet::new();
        let mut tokens = Vec::new();
        loop {
            let last = rotated.load(std::sync::atomic::Ordering::SeqCst);
            let token = token_of(&service, &id, &secret).await.unwrap();
            kids.insert(jsonwebtoken::decode_header(&token).unwrap().kid.unwrap());
            tokens.push(token);
            for token in &tokens {
                assert_eq!(service.get(token, "/v1/me").await.0, 200);
            }
            if tokens.len() > 20 {
                tokens.drain(1..10);
            }
            if last {
                return (kids, tokens);
            }
        }
    };
    let rotate = async {
        let force = json!({"force": true});
        let (status, keys) = service.post(&admin, "/admin/api/keys/rotate", force).await;
        assert_eq!((status, &keys[0]["kid"]), (200, &before[1]["kid"]), "{keys:#}");
        assert_eq!(states(&keys), ["active", "next", "retired"]);
        for _ in 0..2 {
            let folder = folder.clone();
            let now_ms = chrono::Utc::now().timestamp_millis();
            let made = tokio::task::spawn_blocking(move || folder.rotate(now_ms, 3600, true))
                .await
                .unwrap()
                .unwrap();
            // The running service takes it over by itself.
            let started = std::time::Instant::now();
            loop {
                let (_, keys) = service.get(&admin, "/admin/api/keys").await;
                if keys[0]["kid"] == made.active().kid() {
                    break;
                }
                assert!(started.elapsed().as_secs() < 10, "not taken over");
            }
        }
        rotated.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let ((kids, tokens), ()) = tokio::join!(load(), rotate);
    assert!(kids.len() >= 2, "{kids:?}");

    let answer = service.http.get(format!("{}/oauth/jwks", service.url)).send().await.unwrap();
    let cached = answer.headers()["cache-control"].to_str().unwrap().to_owned();
    let seconds: i64 = cached.strip_prefix("public, max-age=").unwrap().parse().unwrap();
    assert!(seconds * 1000 < steward::auth::keys::PUBLISH_AHEAD_MS, "a cache may outlive the notice");

    // All of them verify offline by the published keys, of two algorithms by now.
    let (_, jwks) = service.get("", "/oauth/jwks").await;
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(jwks.clone()).unwrap();
    assert_eq!(set.keys.len(), 5, "active, next and three retired: {jwks:#}");
    for token in tokens.iter().chain([&admin]) {
        let header = jsonwebtoken::decode_header(token).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(set.find(&header.kid.unwrap()).unwrap()).unwrap();
        let mut rules = jsonwebtoken::Validation::new(header.alg);
        rules.set_audience(&[&service.url]);
        jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap();
    }
    let algorithms: BTreeSet<&str> =
        jwks["keys"].as_array().unwrap().iter().map(|key| key["alg"].as_str().unwrap()).collect();
    assert_eq!(algorithms, BTreeSet::from(["ES256", "EdDSA"]));
}
