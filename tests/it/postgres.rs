//! The service on a real PostgreSQL, which the test starts for itself; skipped with a message where none is installed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use steward::config::Config;

use crate::environment::{Place, Variables, text};
use crate::harness::{AGENT_SCOPES, Service, read};
use crate::postgres_server::Postgres;

const ISSUER: &str = "http://steward.test";
const ADMIN: &str = "admin:clients admin:keys admin:audit semantic:read";

/// A service on that database, with the issuer and the signing keys that all replicas share.
async fn replica(url: &str, keys: &std::path::Path) -> Service {
    Service::start_with(|config: &mut Config| {
        config.database_url = url.parse().unwrap();
        config.server.public_url = ISSUER.to_owned();
        config.auth.keys_dir = keys.to_path_buf();
    })
    .await
}

/// What the token endpoint answers.
async fn token_answer(service: &Service, id: &str, secret: &str) -> (u16, Value) {
    let request = service
        .http
        .post(format!("{}/oauth/token", service.url))
        .basic_auth(id, Some(secret))
        .form(&[("grant_type", "client_credentials")]);
    read(request.send().await.unwrap()).await
}

async fn token_of(service: &Service, id: &str, secret: &str) -> String {
    let (status, answer) = token_answer(service, id, secret).await;
    assert_eq!(status, 200, "{answer:#}");
    answer["access_token"].as_str().unwrap().to_owned()
}

/// Asks until the status is that, and says how long it took.
async fn until(service: &Service, token: &str, wanted: u16, patience: Duration) -> Duration {
    let started = Instant::now();
    loop {
        let (status, answer) = service.get(token, "/v1/me").await;
        if status == wanted {
            return started.elapsed();
        }
        assert!(started.elapsed() < patience, "still {status} after {patience:?}: {answer:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_the_service_stores_works_on_postgresql() {
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.database("everything", "postgres").await;
    let keys = tempfile::tempdir().unwrap();
    let service = replica(&url, &keys.path().join("keys")).await;
    let admin = service.token(&format!("{ADMIN} {AGENT_SCOPES}")).await;

    // A client's life.
    let call = async |method: &str, path: &str, body: Value| {
        let request = service.http.request(method.parse().unwrap(), format!("{}{path}", service.url));
        read(request.bearer_auth(&admin).json(&body).send().await.unwrap()).await
    };
    let body = json!({"name": "Reporting", "scopes": ["semantic:read", "rag:read"]});
    let (status, made) = call("POST", "/admin/api/clients", body).await;
    assert_eq!(status, 201, "{made:#}");
    let (id, secret) =
        (made["client"]["client_id"].as_str().unwrap(), made["client_secret"].as_str().unwrap());
    let path = format!("/admin/api/clients/{id}");
    let token = token_of(&service, id, secret).await;
    for (method, path, body, expected) in [
        // With and without an end of tokens: both forms of the statement's NULL.
        ("PATCH", path.clone(), json!({"name": "Reports"}), 200),
        ("PATCH", path.clone(), json!({"scopes": ["semantic:read"]}), 200),
        ("POST", format!("{path}/secrets"), json!({"overlap_seconds": 600}), 201),
        ("POST", format!("{path}/secrets"), json!({"overlap_seconds": 0}), 201),
        ("POST", format!("{path}/disable"), json!({}), 200),
        ("POST", format!("{path}/enable"), json!({}), 200),
    ] {
        let (status, answer) = call(method, &path, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer:#}");
    }
    assert_eq!(service.get(&token, "/v1/me").await.0, 401, "narrowed and disabled meanwhile");
    let (_, shown) = service.get(&admin, &path).await;
    assert_eq!((&shown["name"], &shown["disabled_at_ms"]), (&json!("Reports"), &Value::Null));
    assert_eq!(service.get(&admin, "/admin/api/clients").await.1.as_array().unwrap().len(), 2);
    assert_eq!(call("DELETE", &path, json!({})).await.0, 204);
    assert_eq!(service.get(&admin, &path).await.0, 404);

    // Documents: with a NUL in them, twice the same, with a table.
    let upload = async |body: &'static str, kind: &'static str| {
        let request =
            service.http.post(format!("{}/v1/rag/notes/documents", service.url)).bearer_auth(&admin);
        let request = request.header("content-type", kind).body(body);
        read(request.send().await.unwrap()).await
    };
    let (status, first) = upload("A note about lighthouses \u{0} and their keepers.", "text/plain").await;
    assert!([200, 201].contains(&status), "{first:#}");
    let (_, again) = upload("A note about lighthouses \u{0} and their keepers.", "text/plain").await;
    assert_eq!(first["document_id"], again["document_id"]);
    let (status, second) = upload("{\"island\": \"Skellig \\u0000\"}", "application/json").await;
    assert!([200, 201].contains(&status), "{second:#}");
    let (_, found) =
        service.post(&admin, "/v1/rag/notes/search", json!({"query": "lighthouses", "mode": "text"})).await;
    assert_eq!(found["hits"][0]["document_id"], first["document_id"], "{found:#}");
    let (status, listed) = service.get(&admin, "/v1/rag/notes/documents?limit=1").await;
    assert_eq!((status, listed.as_array().map(Vec::len)), (200, Some(1)), "{listed:#}");
    let handle = service.hourly_weather(&admin).await;
    let table = handle["table"].as_str().unwrap();
    let (status, counted) = service.sql(&admin, &format!("SELECT count(*) AS n FROM {table}")).await;
    assert!(status == 200 && counted["rows"][0]["n"].as_i64().unwrap() > 8_000, "{counted:#}");
    let document = format!("/v1/rag/notes/documents/{}", first["document_id"].as_str().unwrap());
    assert!(call("DELETE", &document, json!({})).await.0 < 300);
    assert_eq!(service.get(&admin, &document).await.0, 404);

    // The audit, with every filter.
    let (status, events) = service.get(&admin, "/admin/api/audit?limit=500").await;
    assert_eq!(status, 200, "{events:#}");
    let shown = events.to_string();
    for operation in ["issue_token", "create_client", "ingest_document", "sql_run", "call_action", "search"] {
        assert!(shown.contains(operation), "{operation}: {events:#}");
    }
    for filter in ["outcome=ok", "operation=search", &format!("client_id={id}"), "since_ms=0", "until_ms=1"] {
        let (status, events) = service.get(&admin, &format!("/admin/api/audit?{filter}")).await;
        assert_eq!(status, 200, "{filter}: {events:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_start_together_and_act_as_one() {
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.database("replicas", "postgresql").await;
    let shared = tempfile::tempdir().unwrap();
    let keys = shared.path().join("keys");
    // On an empty database and without keys: one migrates and makes them, the other waits.
    let (first, second) = tokio::join!(replica(&url, &keys), replica(&url, &keys));
    let (id, secret) = first.client("semantic:read").await;
    let token = token_of(&second, &id, &secret).await;
    for service in [&first, &second] {
        assert_eq!(
            service.get(&token, "/v1/me").await.0,
            200,
            "made by one, asked at the other, good at both"
        );
    }

    let mut waits = Vec::new();
    for _ in 0..3 {
        let token = token_of(&first, &id, &secret).await;
        until(&second, &token, 200, Duration::from_secs(5)).await;
        let revoke = first.http.post(format!("{}/oauth/revoke", first.url)).basic_auth(&id, Some(&secret));
        assert_eq!(revoke.form(&[("token", token.as_str())]).send().await.unwrap().status(), 200);
        assert_eq!(first.get(&token, "/v1/me").await.0, 401, "at once where it was asked for");
        waits.push(until(&second, &token, 401, Duration::from_secs(5)).await);
    }
    waits.sort();
    println!("a revocation is known at the other replica after {waits:?}");
    assert!(waits[1] <= Duration::from_secs(1), "the middle one of {waits:?}");

    // Keys rotate at one; tokens from before and after are good at both.
    let admin = first.token(ADMIN).await;
    let (status, rotated) = first.post(&admin, "/admin/api/keys/rotate", json!({"force": true})).await;
    assert_eq!(status, 200, "{rotated:#}");
    let after = token_of(&first, &id, &secret).await;
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    assert_ne!(kid(&token), kid(&after));
    let deadline = Instant::now() + Duration::from_secs(5);
    while kid(&token_of(&second, &id, &secret).await) != kid(&after) {
        assert!(Instant::now() < deadline, "the other replica goes on with the old key");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (service, token) in [(&first, &token), (&first, &after), (&second, &token), (&second, &after)] {
        assert_eq!(service.get(token, "/v1/me").await.0, 200);
    }

    // Disabled at one, locked out of both.
    second.engine.auth().unwrap().clients().disable(&id.parse().unwrap()).await.unwrap();
    assert_eq!(second.get(&after, "/v1/me").await.0, 401);
    until(&first, &after, 401, Duration::from_secs(5)).await;
    assert_eq!(token_answer(&first, &id, &secret).await.0, 401);

    // One audit of both: what was asked at one under this trace id is read at the other.
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let ask = second.http.get(format!("{}/v1/me", second.url)).bearer_auth(&admin);
    let asked = ask.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")).send().await.unwrap();
    assert_eq!(asked.status(), 200);
    second.engine.audit().flush().await.unwrap();
    let (_, events) = first.get(&admin, "/admin/api/audit?operation=me&limit=500").await;
    assert!(events.to_string().contains(trace), "{events:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_later_leaves_the_documents_of_the_others_alone() {
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.database("documents", "postgres").await;
    let shared = tempfile::tempdir().unwrap();
    let keys = shared.path().join("keys");
    let first = replica(&url, &keys).await;
    let (id, secret) = first.client(AGENT_SCOPES).await;
    let token = token_of(&first, &id, &secret).await;
    let handle = first.hourly_weather(&token).await;
    let path = format!("/v1/rag/api_responses/documents/{}", handle["document_id"].as_str().unwrap());
    let before = first.get(&token, &path).await.1["chunks"].clone();
    let second = replica(&url, &keys).await;
    assert_eq!(second.get(&token, &path).await.0, 404, "its chunks lie elsewhere");
    assert_eq!(second.get(&token, "/v1/rag/api_responses/documents").await.1, json!([]));
    let other = second.hourly_weather(&token).await;
    assert_ne!(other["document_id"], handle["document_id"], "stored once in each folder");
    let (status, kept) = first.get(&token, &path).await;
    assert_eq!((status, &kept["chunks"]), (200, &before), "{kept:#}");
    assert_ne!(kept["state"], "failed", "{kept:#}");
    let search = json!({"query": "precip", "mode": "text", "k": 1});
    for service in [&first, &second] {
        let (_, found) = service.post(&token, "/v1/rag/api_responses/search", search.clone()).await;
        assert_eq!(found["hits"].as_array().unwrap().len(), 1, "{found:#}");
    }
    let count = format!("SELECT count(*) AS n FROM {}", handle["table"].as_str().unwrap());
    assert_eq!(first.sql(&token, &count).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_the_service_fails_closed_in_time_and_recovers_by_itself() {
    let Some(mut postgres) = Postgres::start() else { return };
    let url = postgres.database("outage", "postgres").await;
    let keys = tempfile::tempdir().unwrap();
    let service = replica(&url, &keys.path().join("keys")).await;
    let (id, secret) = service.client("semantic:read").await;
    let token = token_of(&service, &id, &secret).await;
    let admin = service.token(ADMIN).await;
    let stopped = Instant::now();
    postgres.stop();

    // What is known goes on for a while; what would have to be asked or written is told off.
    assert_eq!(service.get(&token, "/v1/me").await.0, 200);
    let (unknown, created, ready) = tokio::join!(
        token_answer(&service, "nobody-00000000", "x"),
        service.post(&admin, "/admin/api/clients", json!({"name": "x", "scopes": ["semantic:read"]})),
        service.get("", "/health/ready"),
    );
    assert_eq!((unknown.0, &unknown.1["error"]), (503, &json!("temporarily_unavailable")), "{unknown:?}");
    assert_eq!(created.0, 503, "{created:?}");
    assert_eq!((ready.0, &ready.1["database"]), (503, &json!("does not answer")), "{ready:?}");
    for told in [unknown.1.to_string(), created.1.to_string(), ready.1.to_string()] {
        assert!(!told.contains("postgres") && !told.contains(postgres.password()), "{told}");
    }

    // Then nothing is let in that could have been revoked meanwhile, and nothing is issued.
    until(&service, &token, 503, Duration::from_secs(60)).await;
    let closed_after = stopped.elapsed();
    println!("fails closed {closed_after:?} after the database went");
    // Counted from the last poll, half a second before the database went or less.
    assert!(closed_after >= steward::auth::token::MAX_STALENESS - Duration::from_secs(1), "{closed_after:?}");
    assert!(
        closed_after <= steward::auth::token::MAX_STALENESS + Duration::from_secs(15),
        "{closed_after:?}"
    );
    assert_eq!(token_answer(&service, &id, &secret).await.0, 503, "the right secret is no help");

    let started = Instant::now();
    postgres.resume();
    until(&service, &token, 200, Duration::from_secs(60)).await;
    println!("lets tokens in again {:?} after the database came back", started.elapsed());
    token_of(&service, &id, &secret).await;
    assert_eq!(service.get("", "/health/ready").await.0, 200);
    // What was done without the database was kept until it could be written.
    let (_, events) = service.get(&admin, "/admin/api/audit?operation=me&outcome=ok&limit=10").await;
    assert!(events.as_array().unwrap().len() >= 2, "{events:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_starts_on_postgresql_and_tells_nobody_the_password() {
    let Some(postgres) = Postgres::start() else { return };
    let place = Place::new();
    let url = postgres.database("of_the_binary", "postgresql").await;
    let variables: Variables<'_> = &[
        ("ENVIRONMENT", "production"),
        ("ISSUER_URL", "https://steward.example.org"),
        ("DATABASE_URL", &url),
        ("RUST_LOG", "debug,sqlx=trace"),
    ];
    let running = place.serve(variables).await;
    let token = place.token(&running, "protected", variables).await;
    assert_eq!(token["scope"], "protected");
    let log = running.log();
    assert!(log.contains("auth.keys_dir"), "the hint about replicas");
    assert!(!log.contains(postgres.password()), "the log holds the password");
    assert!(!place.path("data/steward.sqlite").exists());
    drop(running);

    // PostgreSQL 15 and later let only a database's owner create tables.
    postgres.execute(format!("CREATE ROLE visitor LOGIN PASSWORD '{}'", postgres.password())).await;
    let visitor = postgres.database("of_another", "postgres").await.replace("//steward:", "//visitor:");
    let wrong = url.replace(postgres.password(), "hunter2");
    let absent = url.replace("/of_the_binary", "/absent");
    for (url, expected) in [
        (&wrong, "check user and password in DATABASE_URL"),
        (&absent, "CREATE DATABASE"),
        (&visitor, "the right to create tables"),
        (&format!("{url}?sslmode=require"), "offers TLS"),
    ] {
        for arguments in [vec!["serve", "--no-demo"], vec!["client", "list"], vec!["audit"]] {
            let output = place.run(&arguments, &[("DATABASE_URL", url), ("RUST_LOG", "debug,sqlx=trace")]);
            let told = text(&output);
            assert!(!output.status.success(), "{arguments:?}: {told}");
            assert!(told.contains(expected), "{arguments:?}: {told}");
            assert!(
                !told.contains(postgres.password()) && !told.contains("hunter2"),
                "{arguments:?}: {told}"
            );
        }
    }
    // The password may come from PostgreSQL's own variable instead.
    let bare = url.replace(&format!(":{}@", postgres.password()), "@");
    let listed =
        place.run(&["client", "list"], &[("DATABASE_URL", &bare), ("PGPASSWORD", postgres.password())]);
    assert!(listed.status.success(), "{}", text(&listed));
}
