//! Bodies that are too large, not what they say, or break off: a clear error, nothing half written, the service up.

use bytes::Bytes;
use serde_json::json;

use crate::harness::{AGENT_SCOPES, Service, read};

async fn upload(
    service: &Service,
    token: &str,
    content_type: &str,
    body: reqwest::Body,
) -> (u16, serde_json::Value) {
    let request = service
        .http
        .post(format!("{}/v1/rag/notes/documents", service.url))
        .bearer_auth(token)
        .header("content-type", content_type.to_owned())
        .body(body);
    read(request.send().await.unwrap()).await
}

/// Files below the body store.
fn stored(service: &Service) -> usize {
    fn count(folder: &std::path::Path) -> usize {
        let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
        entries
            .filter_map(Result::ok)
            .map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 })
            .sum()
    }
    count(&service.engine.config().data_dir.join("bodies"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_two_hundred_megabytes_is_refused_and_leaves_nothing() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let pieces = futures::stream::iter((0..200).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    let request = service
        .http
        .post(format!("{}/v1/rag/notes/documents", service.url))
        .bearer_auth(&token)
        .header("content-type", "text/plain")
        .body(reqwest::Body::wrap_stream(pieces));
    // The server may close the connection while we still send: an answer, if one arrives, must be 413.
    if let Ok(answer) = request.send().await {
        let (status, problem) = read(answer).await;
        assert_eq!(status, 413, "{problem:#}");
        assert!(problem["detail"].as_str().unwrap().contains("67108864"), "{problem:#}");
    }
    assert_eq!(stored(&service), 0);
    assert_eq!(service.get(&token, "/v1/rag/notes/documents").await.1, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_what_it_says_is_refused_with_its_place() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let (status, problem) =
        upload(&service, &token, "application/json", "{\"a\": 1,\n \"b\": oops}".into()).await;
    assert_eq!(status, 400, "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("line 2"), "{problem:#}");
    let (status, problem) = upload(&service, &token, "text/plain", vec![0xff, 0xfe, 0x00].into()).await;
    assert_eq!(status, 400, "{problem:#}");
    assert_eq!(upload(&service, &token, "image/png", vec![1, 2, 3].into()).await.0, 415);
    let (status, _) = upload(
        &service,
        &token,
        "application/json",
        format!("{}{}", "[".repeat(9000), "]".repeat(9000)).into(),
    )
    .await;
    assert_eq!(status, 400);
    assert_eq!(stored(&service), 0);
    let (status, document) =
        upload(&service, &token, "application/json", "[{\"a\": 1}, {\"a\": 2}]".into()).await;
    assert_eq!(status, 200);
    let table = document["table"].as_str().unwrap();
    let (_, sum) = service.sql(&token, &format!("SELECT sum(a) AS total FROM {table}")).await;
    assert_eq!(sum["rows"], json!([{"total": 3}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_document_is_gone_from_search_content_and_sql() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let (_, document) =
        upload(&service, &token, "application/json", "[{\"word\": \"zebra\"}, {\"word\": \"gnu\"}]".into())
            .await;
    let path = format!("/v1/rag/notes/documents/{}", document["document_id"].as_str().unwrap());
    let content =
        service.http.get(format!("{}{path}/content?pointer=/1/word", service.url)).bearer_auth(&token);
    assert_eq!(content.send().await.unwrap().text().await.unwrap(), "\"gnu\"");
    let search = json!({"query": "zebra", "mode": "text"});
    let hits = service.post(&token, "/v1/rag/notes/search", search.clone()).await.1["hits"].clone();
    assert_eq!(hits.as_array().unwrap().len(), 1);
    let gone =
        service.http.delete(format!("{}{path}", service.url)).bearer_auth(&token).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(service.get(&token, &path).await.0, 404);
    assert_eq!(service.post(&token, "/v1/rag/notes/search", search).await.1["hits"], json!([]));
    let (status, _) =
        service.sql(&token, &format!("SELECT * FROM {}", document["table"].as_str().unwrap())).await;
    assert_eq!(status, 422);
    assert_eq!(stored(&service), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_refuses_wrong_arguments_and_hands_small_answers_over_inline() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let (status, problem) =
        service.post(&token, "/v1/actions/weather/get_daily", json!({"arguments": {"orign": "JFK"}})).await;
    assert_eq!(status, 400, "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("origin"), "{problem:#}");
    assert_eq!(service.post(&token, "/v1/actions/wether/get_daily", json!({})).await.0, 404);
    let arguments = json!({"origin": "LGA", "from": "2013-07-01", "to": "2013-07-03"});
    let (status, answer) =
        service.post(&token, "/v1/actions/weather/get_daily", json!({"arguments": arguments})).await;
    assert_eq!((status, &answer["stored"]), (200, &json!(false)), "{answer:#}");
    assert_eq!(answer["body"]["records"].as_array().unwrap().len(), 3);
    let (_, stored) = service
        .post(
            &token,
            "/v1/actions/weather/get_daily",
            json!({"arguments": arguments, "respond": "store", "query": "rain"}),
        )
        .await;
    assert_eq!(stored["stored"], true);
    assert!(!stored["hits"].as_array().unwrap().is_empty());
}
