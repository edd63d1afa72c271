//! Queries that compute for minutes without a row to show: they end at the time limit, and when their caller leaves.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{AGENT_SCOPES, Service};

/// Each a loop of another kind inside one operator; what it would take is hours.
const SHAPES: &[(&str, &str)] = &[
    (
        "a join of three by a condition that nothing fulfils",
        "SELECT count(*) AS n FROM flights.airlines AS a, flights.flights AS b, flights.flights AS c \
         WHERE length(a.carrier) + b.distance * c.distance = -1",
    ),
    (
        "a join of two by a condition that nothing fulfils",
        "SELECT count(*) AS n FROM flights.flights AS a JOIN flights.flights AS b ON a.distance + b.distance < 0",
    ),
    (
        "an outer join by such a condition",
        "SELECT count(b.origin) AS n FROM flights.flights AS a LEFT JOIN flights.flights AS b \
         ON a.distance * b.distance < 0",
    ),
    (
        "a cross join",
        "SELECT sum(a.distance % 7 * b.distance) AS n FROM flights.flights AS a CROSS JOIN flights.flights AS b",
    ),
    (
        "a join by a key of three values",
        "SELECT sum(a.distance % 7 * b.distance) AS n FROM flights.flights AS a \
         JOIN flights.flights AS b ON a.origin = b.origin",
    ),
    (
        "the same with a condition that nothing fulfils",
        "SELECT count(*) AS n FROM flights.flights AS a JOIN flights.flights AS b \
         ON a.origin = b.origin AND a.distance + b.distance < 0",
    ),
    (
        "a subquery that is compared row by row",
        "SELECT count(*) AS n FROM flights.flights AS a WHERE NOT EXISTS (SELECT 1 FROM flights.flights AS b \
         WHERE a.distance + b.distance < 0)",
    ),
    (
        "a subquery with a key of three values",
        "SELECT count(*) AS n FROM flights.flights AS a WHERE NOT EXISTS (SELECT 1 FROM flights.flights AS b \
         WHERE a.origin = b.origin AND a.distance + b.distance < 0)",
    ),
];

/// How much later than told an end may come on a busy machine, with an engine that is not optimised.
const MARGIN: Duration = Duration::from_secs(30);

async fn service(timeout_seconds: u64) -> Service {
    Service::start_with(|config| {
        config.sql.timeout_seconds = timeout_seconds;
        config.sql.max_concurrent_queries = 1;
    })
    .await
}

/// Waits until the client's only place is free, or taken.
async fn becomes(service: &Service, token: &str, wanted: u16, shape: &str) {
    let asked = async { while service.sql(token, "SELECT 1 AS x").await.0 != wanted {} };
    let waited = tokio::time::timeout(MARGIN, asked).await;
    waited.unwrap_or_else(|_| panic!("{shape}: the place did not get {wanted} in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_never_pauses_ends_at_the_time_limit_and_frees_its_place() {
    let service = service(2).await;
    let token = service.token(AGENT_SCOPES).await;
    for (shape, sql) in SHAPES {
        let begun = Instant::now();
        let (status, body) = service.sql(&token, sql).await;
        assert_eq!(
            (status, &body["type"]),
            (504, &json!("urn:steward:problem:timeout")),
            "{shape}: {body:#}"
        );
        assert!(begun.elapsed() >= Duration::from_secs(2), "{shape}: {:?}", begun.elapsed());
        becomes(&service, &token, 200, shape).await;
        assert!(begun.elapsed() < Duration::from_secs(2) + MARGIN, "{shape}: {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_never_pauses_ends_when_its_caller_hangs_up_and_holds_up_nobody_meanwhile() {
    let service = service(3600).await;
    let (token, neighbour) = (service.token(AGENT_SCOPES).await, service.token(AGENT_SCOPES).await);
    for (shape, sql) in SHAPES {
        let connection = loop {
            let connection = send(&service, &token, sql).await;
            // It may be refused itself, for a short query that has the only place.
            tokio::select! {
                _ = connection.readable() => continue,
                () = becomes(&service, &token, 429, shape) => break connection,
            }
        };
        let asked = tokio::time::timeout(
            MARGIN,
            service.sql(&neighbour, "SELECT count(*) AS n FROM flights.airports"),
        );
        let (status, body) = asked.await.unwrap_or_else(|_| panic!("{shape}: it held up another client"));
        assert_eq!(status, 200, "{shape}: {body:#}");
        drop(connection);
        becomes(&service, &token, 200, shape).await;
    }
}

/// A request on a connection of its own, which can be closed at any moment.
async fn send(service: &Service, token: &str, sql: &str) -> TcpStream {
    let address = service.url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let body = json!({"sql": sql}).to_string();
    let request = format!(
        "POST /v1/sql/run HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    connection
}
