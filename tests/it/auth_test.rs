//! The example endpoints: open, protected, highly confidential.

use serde_json::{Value, json};

use crate::harness::{AGENT_SCOPES, Service, read};

const PUBLIC: &str = "/v1/auth-test/public";
const PROTECTED: &str = "/v1/auth-test/protected";
const HAIKU: &str = "/v1/auth-test/protected_post";
const CONFIDENTIAL: &str = "/v1/auth-test/highly_confidential";

#[tokio::test(flavor = "multi_thread")]
async fn the_public_endpoint_answers_everybody_and_looks_at_no_token() {
    let service = Service::start().await;
    let token = service.token("semantic:read").await;
    let plain = read(service.http.get(format!("{}{PUBLIC}", service.url)).send().await.unwrap()).await;
    assert_eq!(plain.0, 200);
    for token in [token.as_str(), "x", ""] {
        assert_eq!(service.get(token, PUBLIC).await, plain);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_endpoint_opens_to_its_own_scope_alone() {
    let service = Service::start().await;
    let everything_else = format!("{AGENT_SCOPES} data:protected data:highly_sensitive admin:clients");
    for (scopes, protected, confidential) in [
        ("protected", 200, 403),
        ("highly_sensitive", 403, 200),
        ("protected highly_sensitive", 200, 200),
        (everything_else.as_str(), 403, 403),
    ] {
        let token = service.token(scopes).await;
        assert_eq!(service.get(&token, PROTECTED).await.0, protected, "{scopes}");
        assert_eq!(service.post(&token, HAIKU, json!({"message": "x"})).await.0, protected, "{scopes}");
        let (status, answer) = service.get(&token, CONFIDENTIAL).await;
        assert_eq!(status, confidential, "{scopes}: {answer:#}");
        if status == 403 {
            assert_eq!(answer["required_scope"], "highly_sensitive");
        } else {
            assert_eq!(answer["scope"], "highly_sensitive");
            assert_eq!(answer["client_id"], answer["subject"], "a client that asks for itself");
        }
    }
    for path in [PROTECTED, CONFIDENTIAL] {
        assert_eq!(service.get("x", path).await.0, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_scopes_open_nothing_but_the_example() {
    let service = Service::start().await;
    let token = service.token("protected highly_sensitive").await;
    let (_, me) = service.get(&token, "/v1/me").await;
    assert_eq!(me["sensitivity"], "public", "{me:#}");
    assert_eq!(
        me["operations"],
        json!(["me", "auth_test_protected", "auth_test_protected_post", "auth_test_highly_confidential"])
    );
    assert_eq!(service.get(&token, "/v1/semantic/models").await.0, 403);
    // Nor do they raise what other scopes show.
    let with = |scopes: &'static str| service.token(scopes);
    let (plain, raised) =
        (with("semantic:read sql:run").await, with("semantic:read sql:run protected highly_sensitive").await);
    let columns =
        "SELECT table_schema, table_name, column_name FROM information_schema.columns ORDER BY 1, 2, 3";
    let shown = async |token: &str| service.sql(token, columns).await.1["rows"].clone();
    assert_eq!(shown(&plain).await, shown(&raised).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_becomes_a_haiku_and_stays_out_of_answer_and_audit() {
    let service = Service::start().await;
    let token = service.token("protected").await;
    let message = json!({"message": "the quick brown fox, 日本"});
    let (status, haiku) = service.post(&token, HAIKU, message.clone()).await;
    assert_eq!(status, 200, "{haiku:#}");
    let lines: Vec<&str> = haiku["lines"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(haiku["haiku"], lines.join("\n"));
    assert!(!haiku.to_string().contains("fox"));
    assert_eq!(service.post(&token, HAIKU, message).await.1, haiku, "same message, same haiku");

    for bad in [
        json!({}),
        json!({"message": ""}),
        json!({"message": " \n"}),
        json!({"message": "x".repeat(1_001)}),
        json!({"message": {}}),
        json!({"message": null}),
        json!({"message": "x", "more": 1}),
        json!(["x"]),
        Value::Null,
    ] {
        let (status, problem) = service.post(&token, HAIKU, bad.clone()).await;
        assert_eq!(status, 400, "{bad:.60}: {problem:#}");
    }
    assert_eq!(service.post(&token, HAIKU, json!({"message": "é".repeat(1_000)})).await.0, 200);
    let form = service.http.post(format!("{}{HAIKU}", service.url)).bearer_auth(&token);
    assert_eq!(read(form.form(&[("message", "x")]).send().await.unwrap()).await.0, 415);

    service.engine.audit().flush().await.unwrap();
    let query = steward::audit::AuditQuery {
        operation: Some("auth_test_protected_post".to_owned()),
        ..Default::default()
    };
    let events = service.engine.audit().list(&query).await.unwrap();
    assert!(events.len() >= 6, "{events:#?}");
    assert!(!format!("{events:?}").contains("fox"));
}
