//! What was accepted is still there after a restart, and the keys still verify.

use serde_json::json;

use crate::harness::{AGENT_SCOPES, Service};

#[tokio::test(flavor = "multi_thread")]
async fn documents_tables_and_clients_survive_a_restart() {
    let service = Service::start().await;
    let (id, secret) = service.client(AGENT_SCOPES).await;
    let token = async |service: &Service| {
        let request = service
            .http
            .post(format!("{}/oauth/token", service.url))
            .basic_auth(&id, Some(&secret))
            .form(&[("grant_type", "client_credentials")]);
        let body: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    };
    let before = token(&service).await;
    let handle = service.hourly_weather(&before).await;
    let (_, keys_before) = service.get("", "/oauth/jwks").await;
    // Stopped while vectors are still being made.
    let service = service.restart().await;
    let (_, keys_after) = service.get("", "/oauth/jwks").await;
    assert_eq!(keys_before, keys_after);
    let after = token(&service).await;
    let search = json!({"query": "precip", "document_id": handle["document_id"], "mode": "text", "k": 1});
    let (_, found) = service.post(&after, "/v1/rag/api_responses/search", search).await;
    assert_eq!(found["hits"].as_array().unwrap().len(), 1, "{found:#}");
    let sql = format!("SELECT count(*) AS n FROM {}", handle["table"].as_str().unwrap());
    assert!(service.sql(&after, &sql).await.1["rows"][0]["n"].as_i64().unwrap() > 8_000);
    assert!(service.data_dir().exists());
}
