//! Large results over HTTP: sent as they are made, told how they ended, left when the caller leaves.

use std::time::Duration;

use serde_json::{Value, json};
use steward::audit::{AuditQuery, AuditRecord, Outcome};
use steward::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{AGENT_SCOPES, Service};

/// Some 67 MB in memory: 3.4 million rows.
const LARGE: &str = "SELECT f.distance, f.air_time, a.n FROM flights.flights AS f CROSS JOIN (VALUES (1), (2), (3), (4), (5), \
     (6), (7), (8), (9), (10)) AS a(n)";
const ROWS: usize = 3_367_760;

fn generous(config: &mut Config) {
    config.sql.max_rows = 100_000_000;
    config.sql.max_result_bytes = 4 * 1024 * 1024 * 1024;
    config.sql.timeout_seconds = 300;
}

async fn ask(service: &Service, token: &str, accept: &str, sql: &str) -> reqwest::Response {
    service
        .http
        .post(format!("{}/v1/sql/run", service.url))
        .bearer_auth(token)
        .header("accept", accept)
        .timeout(Duration::from_secs(300))
        .json(&json!({"sql": sql}))
        .send()
        .await
        .unwrap()
}

/// The events of SQL, once there are `count`.
async fn runs(service: &Service, count: usize) -> Vec<AuditRecord> {
    let query = AuditQuery { operation: Some("sql_run".to_owned()), ..AuditQuery::default() };
    let found = async {
        loop {
            service.engine.audit().flush().await.unwrap();
            let events = service.engine.audit().list(&query).await.unwrap();
            if events.len() >= count {
                return events;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_arrives_whole_in_every_form() {
    let service = Service::start_with(generous).await;
    let token = service.token(AGENT_SCOPES).await;
    let answer = ask(&service, &token, "text/csv", LARGE).await;
    assert_eq!((answer.status().as_u16(), answer.content_length()), (200, None));
    assert_eq!(answer.headers()["steward-row-limit"], "100000000");
    assert!(!answer.headers().contains_key("steward-truncated"));
    let csv = answer.bytes().await.unwrap();
    assert!(csv.starts_with(b"distance,air_time,n\n"));
    assert_eq!(csv.iter().filter(|byte| **byte == b'\n').count(), ROWS + 1);
    drop(csv);
    let stream =
        ask(&service, &token, "application/vnd.apache.arrow.stream", LARGE).await.bytes().await.unwrap();
    let reader = arrow::ipc::reader::StreamReader::try_new(stream.as_ref(), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), ROWS);
    let file = ask(&service, &token, "application/vnd.apache.parquet", LARGE).await.bytes().await.unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), ROWS as i64);
    let lines = ask(&service, &token, "application/x-ndjson", LARGE).await.bytes().await.unwrap();
    let last: Value =
        serde_json::from_slice(lines.trim_ascii_end().rsplit(|b| *b == b'\n').next().unwrap()).unwrap();
    assert!(last["distance"].is_number(), "{last}");
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), ROWS);
    // Two events each: the start, before anything is sent, and the end.
    let events = runs(&service, 8).await;
    assert_eq!(events.len(), 8, "{events:#?}");
    for pair in events.chunks(2) {
        assert_eq!((pair[0].reason.as_deref(), pair[0].rows), (Some("started"), None));
        assert_eq!((pair[1].outcome, pair[1].reason.as_deref()), (Outcome::Ok, None));
        assert_eq!((pair[1].rows, pair[1].target.as_str()), (Some(ROWS as i64), "flights.flights"));
        assert!(pair[1].size_bytes.unwrap() > 60_000_000);
        assert_eq!(pair[0].request_id, pair[1].request_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_that_is_cut_says_so_at_its_end() {
    let service = Service::start_with(|config| {
        generous(config);
        config.sql.max_rows = 700_000;
    })
    .await;
    let token = service.token(AGENT_SCOPES).await;
    let body: Value = ask(&service, &token, "application/json", LARGE).await.json().await.unwrap();
    assert_eq!(body["rows"].as_array().unwrap().len(), 700_000);
    assert_eq!((&body["row_count"], &body["truncated"]["max_rows"]), (&json!(700_000), &json!(700_000)));
    assert_eq!((&body["error"], &body["columns"][2]["name"]), (&json!(null), &json!("n")));
    let lines = ask(&service, &token, "application/x-ndjson", LARGE).await.text().await.unwrap();
    let last: Value = serde_json::from_str(lines.trim_end().rsplit('\n').next().unwrap()).unwrap();
    assert_eq!(last["truncated"]["max_rows"], 700_000);
    assert_eq!(lines.lines().count(), 700_001);
    let answer = ask(&service, &token, "text/csv", LARGE).await;
    assert_eq!(answer.headers()["steward-row-limit"], "700000");
    assert_eq!(answer.text().await.unwrap().lines().count(), 700_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_after_the_first_rows_shows_in_every_form() {
    let service = Service::start_with(|config| {
        generous(config);
        config.sql.max_result_bytes = 20_000_000;
    })
    .await;
    let token = service.token(AGENT_SCOPES).await;
    let answer = ask(&service, &token, "application/json", LARGE).await;
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["type"], "urn:steward:problem:too_large", "{}", body["error"]);
    assert!(body["error"]["detail"].as_str().unwrap().contains("20000000 bytes"));
    let rows = body["rows"].as_array().unwrap().len();
    assert!(rows > 0 && body["row_count"] == rows);
    let lines = ask(&service, &token, "application/x-ndjson", LARGE).await.text().await.unwrap();
    let last: Value = serde_json::from_str(lines.trim_end().rsplit('\n').next().unwrap()).unwrap();
    assert_eq!(last["error"]["status"], 413);
    for accept in ["text/csv", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"] {
        let answer = ask(&service, &token, accept, LARGE).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.is_err(), "{accept} looks complete");
    }
    let events = runs(&service, 10).await;
    let ends: Vec<_> = events.iter().filter(|event| event.reason.as_deref() == Some("too_large")).collect();
    assert_eq!(ends.len(), 5, "{events:#?}");
    assert!(ends.iter().all(|end| end.outcome == Outcome::Refused && end.rows.unwrap() > 0));
}

/// A request on a connection of its own, which can be closed at any moment.
async fn send(service: &Service, token: &str, sql: &str) -> TcpStream {
    let address = service.url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let body = json!({"sql": sql}).to_string();
    let request = format!(
        "POST /v1/sql/run HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\naccept: text/csv\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_in_the_midst_of_a_result_ends_the_query() {
    let service = Service::start_with(|config| {
        generous(config);
        config.sql.max_concurrent_queries = 1;
    })
    .await;
    let token = service.token(AGENT_SCOPES).await;
    let free = async || {
        let asked = async { while service.sql(&token, "SELECT 1 AS x").await.0 != 200 {} };
        tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap();
    };
    let mut connection = send(&service, &token, LARGE).await;
    let mut seen = vec![0; 100_000];
    connection.read_exact(&mut seen).await.unwrap();
    assert!(seen.starts_with(b"HTTP/1.1 200"));
    drop(connection);
    free().await;
    let is_left = |event: &&AuditRecord| event.reason.as_deref() == Some("hung_up");
    let mut left = Vec::new();
    let waited = async {
        while left.is_empty() {
            left = runs(&service, 1).await.iter().filter(is_left).cloned().collect();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap();
    assert_eq!(left[0].outcome, Outcome::Failed);
    assert!(left[0].rows.unwrap() > 0, "{left:#?}");
}

/// Minutes of work before its first row; other kinds of such work are in the tests of `query/pause`.
const SLOW: &str =
    "SELECT sum(a.value * b.value % 7) AS n FROM range(0, 1000) AS a CROSS JOIN range(0, 1000000) AS b";

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_before_the_first_byte_ends_the_query() {
    let service = Service::start_with(|config| {
        generous(config);
        config.sql.max_concurrent_queries = 1;
    })
    .await;
    let token = service.token(AGENT_SCOPES).await;
    let status = async || service.sql(&token, "SELECT 1 AS x").await.0;
    let becomes = async |wanted: u16| {
        let asked = async { while status().await != wanted {} };
        tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap();
    };
    let connection = 'sent: loop {
        let connection = send(&service, &token, SLOW).await;
        // It may be refused itself, for a short query that has the only place, or has yet to leave it.
        tokio::select! {
            _ = connection.readable() => continue,
            () = becomes(429) => {}
        }
        for _ in 0..50 {
            if status().await != 429 {
                continue 'sent;
            }
        }
        break connection;
    };
    // The control: while its caller waits, the query goes on.
    let mut other = send(&service, &token, "SELECT 1 AS x").await;
    other.read_exact(&mut [0; 12]).await.unwrap();
    drop(other);
    assert_eq!(status().await, 429);
    drop(connection);
    becomes(200).await;
    let left = runs(&service, 1).await;
    assert!(left.iter().any(|event| event.reason.as_deref() == Some("hung_up")), "{left:#?}");
}
