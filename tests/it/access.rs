//! Tokens and scopes at the HTTP door, each guard with its attack.

use serde_json::{Value, json};
use steward::auth::Operation;

use crate::harness::{AGENT_SCOPES, Service, read};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_and_an_unknown_client_get_the_same_answer() {
    let service = Service::start().await;
    let (id, _) = service.client("semantic:read").await;
    let mut answers = Vec::new();
    for (id, secret) in [(id.as_str(), "stw_wrong"), ("nobody-00000000", "stw_wrong")] {
        let request = service
            .http
            .post(format!("{}/oauth/token", service.url))
            .basic_auth(id, Some(secret))
            .form(&[("grant_type", "client_credentials")]);
        let answer = request.send().await.unwrap();
        assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic"));
        assert_eq!(answer.headers()["cache-control"], "no-store");
        answers.push(read(answer).await);
    }
    assert_eq!(answers[0].0, 401);
    assert_eq!(answers[0].1["error"], "invalid_client");
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_to_authenticate_work_and_credentials_in_the_query_do_not() {
    let service = Service::start().await;
    let (id, secret) = service.client("semantic:read").await;
    let url = format!("{}/oauth/token", service.url);
    let post = [("grant_type", "client_credentials"), ("client_id", &id), ("client_secret", &secret)];
    let (status, token) = read(service.http.post(&url).form(&post).send().await.unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(token["token_type"], "Bearer");
    assert_eq!(token["scope"], "semantic:read");
    let (status, _) = service.get(token["access_token"].as_str().unwrap(), "/v1/semantic/models").await;
    assert_eq!(status, 200);

    let request = service.http.post(&url).query(&post).form(&[("grant_type", "client_credentials")]);
    assert_eq!(read(request.send().await.unwrap()).await.0, 401);
    let json_body = service.http.post(&url).json(&json!({"grant_type": "client_credentials"}));
    let (status, error) = read(json_body.send().await.unwrap()).await;
    assert_eq!((status, &error["error"]), (400, &json!("invalid_request")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_an_rfc_9068_jwt_that_the_published_keys_verify() {
    let service = Service::start().await;
    let token = service.token("semantic:read").await;
    let (_, metadata) = service.get("", "/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["issuer"], service.url.as_str());
    assert_eq!(metadata["token_endpoint"], format!("{}/oauth/token", service.url));
    let jwks_uri = metadata["jwks_uri"].as_str().unwrap();
    let (_, jwks) = read(service.http.get(jwks_uri).send().await.unwrap()).await;
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(jwks).unwrap();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let key = set.find(header.kid.as_deref().unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.set_audience(&[&service.url]);
    rules.set_issuer(&[&service.url]);
    let claims =
        jsonwebtoken::decode::<Value>(&token, &jsonwebtoken::DecodingKey::from_jwk(key).unwrap(), &rules)
            .unwrap();
    for claim in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope"] {
        assert!(!claims.claims[claim].is_null(), "RFC 9068 section 2.2 wants {claim}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_token_every_door_says_how_to_get_one() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let (head, signature) = token.rsplit_once('.').unwrap();
    let flipped = if signature.as_bytes()[20] == b'A' { "B" } else { "A" };
    let tampered = format!("{head}.{}{flipped}{}", &signature[..20], &signature[21..]);
    let attacks: Vec<(&str, Option<String>)> = vec![
        ("none", None),
        ("not bearer", Some("Basic abc".to_owned())),
        ("garbage", Some("Bearer abc".to_owned())),
        ("tampered", Some(format!("Bearer {tampered}"))),
        ("empty", Some("Bearer ".to_owned())),
    ];
    for (name, header) in attacks {
        let mut request = service.http.get(format!("{}/v1/semantic/models", service.url));
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let answer = request.send().await.unwrap();
        let challenge =
            answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{name}");
        let (status, problem) = read(answer).await;
        assert_eq!(status, 401, "{name}: {problem:#}");
        assert!(challenge.unwrap().contains("resource_metadata="), "{name}");
        assert_eq!(problem["type"], "urn:steward:problem:unauthenticated", "{name}");
    }
    let in_query = service.http.get(format!("{}/v1/me?access_token={token}", service.url));
    assert_eq!(in_query.send().await.unwrap().status(), 401);
    let doubled = service.http.get(format!("{}/v1/me", service.url)).bearer_auth(&token).bearer_auth(&token);
    assert_eq!(doubled.send().await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_dies_with_its_time_and_with_its_client() {
    let service = Service::start_with(|config| config.auth.token_expiry_seconds = 1).await;
    let (id, secret) = service.client("semantic:read").await;
    let request = service
        .http
        .post(format!("{}/oauth/token", service.url))
        .basic_auth(&id, Some(&secret))
        .form(&[("grant_type", "client_credentials")]);
    let token = read(request.send().await.unwrap()).await.1["access_token"].as_str().unwrap().to_owned();
    let claims: Value = {
        use base64::Engine as _;
        let middle = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(middle).unwrap())
            .unwrap()
    };
    // Asked until it is refused; the refusal must not come before its time.
    loop {
        let (status, problem) = service.get(&token, "/v1/me").await;
        if status == 401 {
            assert!(problem["detail"].as_str().unwrap().contains("expired"), "{problem:#}");
            assert!(chrono::Utc::now().timestamp() >= claims["exp"].as_i64().unwrap());
            break;
        }
        assert!(chrono::Utc::now().timestamp() <= claims["exp"].as_i64().unwrap() + 1, "outlived its time");
    }

    let other = Service::start().await;
    let (id, secret) = other.client("semantic:read").await;
    let request = other
        .http
        .post(format!("{}/oauth/token", other.url))
        .basic_auth(&id, Some(&secret))
        .form(&[("grant_type", "client_credentials")]);
    let token = read(request.send().await.unwrap()).await.1["access_token"].as_str().unwrap().to_owned();
    assert_eq!(other.get(&token, "/v1/me").await.0, 200);
    other.engine.auth().unwrap().clients().disable(&id.parse().unwrap()).await.unwrap();
    assert_eq!(other.get(&token, "/v1/me").await.0, 401);
}

/// How each operation is called; the path parameters name things that exist, but for clients, users and documents.
fn calls() -> Vec<(Operation, &'static str, String, Option<Value>)> {
    use Operation::*;
    let get = |operation, path: &str| (operation, "GET", path.to_owned(), None);
    let post = |operation, path: &str, body: Value| (operation, "POST", path.to_owned(), Some(body));
    let id = "/v1/rag/notes/documents/0197b1f0-0000-7000-8000-000000000000";
    let client = "/admin/api/clients/nobody-00000000";
    let user = "/admin/api/users/nobody";
    vec![
        get(Me, "/v1/me"),
        get(ListModels, "/v1/semantic/models"),
        get(GetModel, "/v1/semantic/models/flights"),
        get(ListDatasets, "/v1/semantic/datasets"),
        get(GetDataset, "/v1/semantic/datasets/flights.planes"),
        get(ListMetrics, "/v1/semantic/metrics"),
        get(GetMetric, "/v1/semantic/metrics/flights.flight_count"),
        get(ListRelationships, "/v1/semantic/relationships"),
        get(GetRelationship, "/v1/semantic/relationships/flights.flights_airlines"),
        get(ListVerifiedQueries, "/v1/semantic/verified_queries"),
        get(GetVerifiedQuery, "/v1/semantic/verified_queries/flights.airlines_by_flights"),
        post(Link, "/v1/semantic/link", json!({"question": "delays"})),
        post(Compile, "/v1/semantic/compile", json!({"metrics": ["flight_count"]})),
        post(SqlGenerate, "/v1/sql/generate", json!({"question": "delays"})),
        post(SqlCheck, "/v1/sql/check", json!({"sql": "SELECT 1"})),
        post(SqlRun, "/v1/sql/run", json!({"sql": "SELECT 1"})),
        get(ListActions, "/v1/actions"),
        get(GetAction, "/v1/actions/weather/get_daily"),
        post(CallAction, "/v1/actions/weather/get_daily", json!({"arguments": {"origin": "JFK"}})),
        get(ListIndexes, "/v1/rag/indexes"),
        post(IngestDocument, "/v1/rag/notes/documents", json!({"a": 1})),
        get(ListDocuments, "/v1/rag/notes/documents"),
        get(GetDocument, id),
        get(GetDocumentContent, &format!("{id}/content")),
        (DeleteDocument, "DELETE", id.to_owned(), None),
        post(Search, "/v1/rag/notes/search", json!({"query": "x"})),
        get(ListClients, "/admin/api/clients"),
        get(GetClient, client),
        post(CreateClient, "/admin/api/clients", json!({"name": "x", "scopes": ["admin:clients"]})),
        (UpdateClient, "PATCH", client.to_owned(), Some(json!({"name": "x"}))),
        (DeleteClient, "DELETE", client.to_owned(), None),
        post(RotateClientSecret, &format!("{client}/secrets"), json!({})),
        post(DisableClient, &format!("{client}/disable"), json!({})),
        post(EnableClient, &format!("{client}/enable"), json!({})),
        get(ListUsers, "/admin/api/users"),
        get(GetUser, user),
        post(CreateUser, "/admin/api/users", json!({"username": "x", "scopes": ["admin:users"]})),
        (UpdateUser, "PATCH", user.to_owned(), Some(json!({"display_name": "x"}))),
        (DeleteUser, "DELETE", user.to_owned(), None),
        post(SetUserPassword, &format!("{user}/password"), json!({})),
        post(DisableUser, &format!("{user}/disable"), json!({})),
        post(EnableUser, &format!("{user}/enable"), json!({})),
        get(ListKeys, "/admin/api/keys"),
        post(RotateKeys, "/admin/api/keys/rotate", json!({})),
        get(ListAuditEvents, "/admin/api/audit"),
        get(AuthTestProtected, "/v1/auth-test/protected"),
        post(AuthTestProtectedPost, "/v1/auth-test/protected_post", json!({"message": "x"})),
        get(AuthTestHighlyConfidential, "/v1/auth-test/highly_confidential"),
    ]
}

#[test]
fn every_operation_is_called_here() {
    let called: Vec<Operation> = calls().into_iter().map(|(operation, ..)| operation).collect();
    for operation in Operation::ALL {
        assert!(called.contains(operation), "{operation:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_refused_without_its_scope_and_opened_by_it() {
    let service = Service::start().await;
    let all: Vec<String> = AGENT_SCOPES.split(' ').map(str::to_owned).collect();
    for (operation, method, path, body) in calls() {
        let Some(scope) = operation.required_scope(None) else { continue };
        let without: Vec<&str> =
            all.iter().map(String::as_str).filter(|known| *known != scope.as_str()).collect();
        for (scopes, allowed) in [(without.join(" "), false), (scope.to_string(), true)] {
            let token = service.token(&scopes).await;
            let mut request = service
                .http
                .request(method.parse().unwrap(), format!("{}{path}", service.url))
                .bearer_auth(&token);
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = request.send().await.unwrap();
            let challenge =
                answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
            let (status, problem) = read(answer).await;
            if allowed {
                assert!(![401, 403].contains(&status), "{method} {path} with {scopes}: {problem:#}");
                continue;
            }
            assert_eq!(status, 403, "{method} {path} with {scopes}: {problem:#}");
            let challenge = challenge.unwrap();
            assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
            assert!(problem["required_scope"].as_str().unwrap().starts_with(scope.as_str()), "{problem:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn narrow_scopes_open_their_target_and_nothing_beside_it() {
    let service = Service::start().await;
    let token =
        service.token("sql:run:flights.airlines actions:call:weather.get_daily rag:write:notes").await;
    assert_eq!(service.sql(&token, "SELECT count(*) FROM flights.airlines").await.0, 200);
    let (status, problem) = service.sql(&token, "SELECT count(*) FROM flights.planes").await;
    // Without semantic:read, what may not be run does not exist.
    assert_eq!((status, &problem["rule"]), (422, &json!("unknown-relation")), "{problem:#}");
    assert!(!problem["detail"].as_str().unwrap().contains("flights.flights"), "{problem:#}");

    let knowing = service.token("semantic:read sql:run:flights.airlines").await;
    let (status, problem) = service.sql(&knowing, "SELECT count(*) FROM flights.planes").await;
    assert_eq!((status, &problem["required_scope"]), (403, &json!("sql:run:flights.planes")), "{problem:#}");

    let arguments = json!({"arguments": {"origin": "JFK", "from": "2013-01-01", "to": "2013-01-02"}});
    assert_eq!(service.post(&token, "/v1/actions/weather/get_daily", arguments.clone()).await.0, 200);
    assert_eq!(service.post(&token, "/v1/actions/weather/get_hourly", arguments).await.0, 403);
    assert_eq!(service.post(&token, "/v1/rag/api_responses/documents", json!({})).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_sees_nothing_of_anothers_responses() {
    let service = Service::start().await;
    let (mine, theirs) = (service.token(AGENT_SCOPES).await, service.token(AGENT_SCOPES).await);
    let handle = service.hourly_weather(&mine).await;
    let (id, table) = (handle["document_id"].as_str().unwrap(), handle["table"].as_str().unwrap());
    let path = format!("/v1/rag/api_responses/documents/{id}");
    assert_eq!(service.get(&mine, &path).await.0, 200);
    assert_eq!(service.get(&theirs, &path).await.0, 404);
    assert_eq!(service.get(&theirs, &format!("{path}/content")).await.0, 404);
    assert_eq!(service.get(&theirs, "/v1/rag/api_responses/documents").await.1, json!([]));
    let (_, found) =
        service.post(&theirs, "/v1/rag/api_responses/search", json!({"query": "JFK", "mode": "text"})).await;
    assert_eq!(found["hits"], json!([]));
    let count = format!("SELECT count(*) AS n FROM {table}");
    assert_eq!(service.sql(&mine, &count).await.0, 200);
    let (status, problem) = service.sql(&theirs, &count).await;
    assert_eq!((status, &problem["rule"]), (422, &json!("unknown-relation")));
    let listed = "SELECT count(*) AS n FROM information_schema.tables WHERE table_schema = 'responses'";
    assert_eq!(service.sql(&theirs, listed).await.1["rows"], json!([{"n": 0}]));
    // Whose they are finds them however it names them, and is told of them.
    let bare = table.trim_start_matches("responses.");
    for own in [
        listed.replace("information_schema.", ""),
        format!("SELECT 1 AS n FROM {} LIMIT 1", bare.to_uppercase()),
    ] {
        assert_eq!(service.sql(&mine, &own).await.1["rows"], json!([{"n": 1}]), "{own}");
    }
    let misspelt = format!("SELECT 1 FROM responses.{}", &bare[..bare.len() - 1]);
    let told = |problem: serde_json::Value| problem["detail"].as_str().unwrap().contains(table);
    assert!(told(service.sql(&mine, &misspelt).await.1));
    assert!(!told(service.sql(&theirs, &misspelt).await.1));
    // A document of one index is not to be had through another.
    assert_eq!(service.get(&mine, &format!("/v1/rag/notes/documents/{id}")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_and_refused_is_in_the_audit_without_its_text() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    service.sql(&token, "SELECT count(*) FROM flights.airlines WHERE name = 'a-literal'").await;
    service.sql(&token, "DROP TABLE flights.airlines").await;
    service.engine.audit().flush().await.unwrap();
    let query = steward::audit::AuditQuery { limit: 100, ..Default::default() };
    let events = service.engine.audit().list(&query).await.unwrap();
    let shown = format!("{events:#?}");
    let run: Vec<_> = events.iter().filter(|record| record.operation == "sql_run").collect();
    assert_eq!(run.len(), 2, "{shown}");
    assert_eq!(run[0].target, "flights.airlines");
    assert_eq!(run[1].reason.as_deref(), Some("query-only"));
    assert!(events.iter().any(|record| record.operation == "issue_token"));
    assert!(!shown.contains("a-literal") && !shown.contains("DROP"));
}
