//! Guarded SQL over HTTP: what runs, in which form, what is refused, and how limits are told.

use serde_json::json;

use crate::harness::{AGENT_SCOPES, Service, read};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_result_comes_as_json_csv_ndjson_arrow_and_parquet() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let sql = "SELECT carrier, count(*) AS flights FROM flights.flights GROUP BY carrier ORDER BY flights DESC, carrier LIMIT 3";
    let fetch = async |accept: &str| {
        let request = service
            .http
            .post(format!("{}/v1/sql/run", service.url))
            .bearer_auth(&token)
            .header("accept", accept)
            .json(&json!({"sql": sql}));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (content_type, answer.bytes().await.unwrap())
    };
    let (content_type, body) = fetch("application/json").await;
    assert_eq!(content_type, "application/json");
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["columns"][1], json!({"name": "flights", "type": "Int64"}));
    assert_eq!((&body["row_count"], &body["truncated"]), (&json!(3), &json!(null)));
    // United, JetBlue and ExpressJet flew most; the counts are those of the data package's own summary.
    assert_eq!(body["rows"][0], json!({"carrier": "UA", "flights": 58665}));

    let (content_type, csv) = fetch("text/csv").await;
    assert!(content_type.starts_with("text/csv"));
    assert!(csv.starts_with(b"carrier,flights\nUA,58665\n"));
    let (_, lines) = fetch("application/x-ndjson").await;
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 3);
    let (_, stream) = fetch("application/vnd.apache.arrow.stream").await;
    let reader = arrow::ipc::reader::StreamReader::try_new(stream.as_ref(), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 3);
    let (_, file) = fetch("application/vnd.apache.parquet").await;
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 3);

    let request = service
        .http
        .post(format!("{}/v1/sql/run", service.url))
        .bearer_auth(&token)
        .header("accept", "image/png")
        .json(&json!({"sql": sql}));
    assert_eq!(request.send().await.unwrap().status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_sql_gets_a_problem_that_names_rule_place_and_remedy() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    for (sql, status, rule, detail) in [
        ("DROP TABLE flights.flights", 422, "query-only", "DROP"),
        ("SELECT 1; SELECT 2", 422, "one-statement", "2 statements"),
        ("SELECT * FROM flights.fligths", 422, "unknown-relation", "flights.flights"),
        ("SELECT * FROM secret_plans", 422, "unknown-relation", "no relation"),
        ("SELECT read_csv('/etc/passwd')", 422, "function", "read_csv"),
        ("SELECT * FROM '/etc/passwd'", 422, "unknown-relation", "no relation"),
        ("SELECT (1", 422, "syntax", "parse"),
    ] {
        let (got, problem) = service.sql(&token, sql).await;
        assert_eq!((got, &problem["rule"]), (status, &json!(rule)), "{sql}: {problem:#}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{sql}: {problem:#}");
    }
    let (status, problem) = service.sql(&token, "SELECT dep_dely FROM flights.flights").await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("`dep_delay`"), "{problem:#}");
    let (status, problem) = service.sql(&token, "SELECT CAST(name AS INT) FROM flights.airlines").await;
    assert_eq!(status, 400, "{problem:#}");
    assert!(!problem["detail"].as_str().unwrap().contains("physical"), "{problem:#}");
    // The service is still up.
    assert_eq!(service.sql(&token, "SELECT 1 AS x").await.1["rows"], json!([{"x": 1}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_result_says_so_in_every_form_and_a_whole_one_does_not() {
    let service = Service::start_with(|config| config.sql.max_rows = 10).await;
    let token = service.token(AGENT_SCOPES).await;
    let (_, cut) = service.sql(&token, "SELECT carrier FROM flights.flights").await;
    assert_eq!((&cut["row_count"], &cut["truncated"]["max_rows"]), (&json!(10), &json!(10)));
    let (_, whole) = service.sql(&token, "SELECT carrier FROM flights.flights LIMIT 10").await;
    assert_eq!((&whole["row_count"], &whole["truncated"]), (&json!(10), &json!(null)));
    let request = service
        .http
        .post(format!("{}/v1/sql/run", service.url))
        .bearer_auth(&token)
        .header("accept", "text/csv")
        .json(&json!({"sql": "SELECT carrier FROM flights.flights"}));
    assert_eq!(request.send().await.unwrap().headers()["steward-truncated"], "rows=10");
    let body = json!({"sql": "SELECT carrier FROM flights.flights", "max_rows": 3});
    assert_eq!(service.post(&token, "/v1/sql/run", body).await.1["row_count"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_and_size_limits_end_a_query_with_a_reason() {
    let slow = "SELECT sum(a.distance * b.distance + p.seats) FROM flights.flights a CROSS JOIN flights.flights b CROSS JOIN flights.planes p";
    let service = Service::start_with(|config| config.sql.timeout_seconds = 1).await;
    let token = service.token(AGENT_SCOPES).await;
    let (status, problem) = service.sql(&token, slow).await;
    assert_eq!(status, 504, "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("1 s"));

    let service = Service::start_with(|config| config.sql.max_result_bytes = 10_000).await;
    let token = service.token(AGENT_SCOPES).await;
    let (status, problem) = service.sql(&token, "SELECT * FROM flights.flights").await;
    assert_eq!(status, 413, "{problem:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_shows_the_secured_query_its_scopes_and_its_columns() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let body = json!({"sql": "SELECT a.name, count(*) AS n FROM flights.flights f JOIN flights.airlines a USING (carrier) GROUP BY a.name"});
    let (status, check) = service.post(&token, "/v1/sql/check", body).await;
    assert_eq!((status, &check["approved"]), (200, &json!(true)), "{check:#}");
    assert_eq!(check["relations"], json!(["flights.airlines", "flights.flights"]));
    let reads = json!([
        {"relation": "flights.airlines", "columns": ["carrier", "name"]},
        {"relation": "flights.flights", "columns": ["carrier"]},
    ]);
    assert_eq!(check["reads"], reads);
    assert_eq!(check["scopes"], json!(["sql:run:flights.airlines", "sql:run:flights.flights"]));
    assert_eq!(check["columns"][1]["name"], "n");
    assert!(check["secured_sql"].as_str().unwrap().contains("LIMIT 10001"));
    for (sql, rows) in [
        ("SELECT carrier FROM flights.airlines", json!(16)),
        ("SELECT carrier FROM flights.airlines LIMIT 3", json!(3)),
        ("SELECT flight FROM flights.flights ORDER BY distance", json!(10_000)),
    ] {
        let (_, check) = service.post(&token, "/v1/sql/check", json!({"sql": sql})).await;
        assert_eq!(check["estimated_rows"], rows, "{sql}: {check:#}");
    }
    let (status, check) =
        service.post(&token, "/v1/sql/check", json!({"sql": "SELECT *\nFROM nowhere"})).await;
    assert_eq!((status, &check["approved"]), (200, &json!(false)));
    assert_eq!(
        (&check["rule"], &check["line"], &check["column"]),
        (&json!("unknown-relation"), &json!(2), &json!(6))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sensitive_columns_do_not_exist_without_the_clearance() {
    let folder = tempfile::tempdir().unwrap();
    let model = "name: people\ndescription: Who flies.\ndatasets:\n  - name: airlines\n    source: local.nycflights13.airlines\n    \
                 primary_key: [carrier]\n    description: Airlines.\n    fields:\n      - {name: carrier, description: The code.}\n      \
                 - {name: name, description: The full name., sensitivity: highly_sensitive}\n";
    std::fs::write(folder.path().join("people.yaml"), model).unwrap();
    let dir = folder.path().to_owned();
    let service = Service::start_with(|config| config.semantic.dir = dir).await;
    let public = service.token("semantic:read sql:generate sql:run").await;
    let cleared = service.token("semantic:read sql:generate sql:run data:highly_sensitive").await;
    let (_, seen) = service.sql(&public, "SELECT * FROM people.airlines LIMIT 1").await;
    assert_eq!(seen["columns"].as_array().unwrap().len(), 1, "{seen:#}");
    let (status, hidden) = service.sql(&public, "SELECT name FROM people.airlines").await;
    let (_, absent) = service.sql(&public, "SELECT nome FROM people.airlines").await;
    assert_eq!(status, 400);
    // A denied column looks exactly like one that does not exist.
    let without_id =
        |problem: &serde_json::Value| problem["detail"].as_str().unwrap().replace("nome", "name");
    assert_eq!(without_id(&hidden), without_id(&absent));
    assert_eq!(service.sql(&cleared, "SELECT name FROM people.airlines LIMIT 1").await.0, 200);
    let (_, dataset) = service.get(&public, "/v1/semantic/datasets/people.airlines").await;
    assert_eq!(dataset["fields"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_request_is_a_problem_too() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let url = format!("{}/v1/sql/run", service.url);
    for (content_type, body, status) in [
        ("application/json", "{\"sql\": ".to_owned(), 400),
        ("application/json", "{}".to_owned(), 400),
        ("text/plain", "SELECT 1".to_owned(), 415),
        ("application/json", format!("{{\"sql\": \"{}\"}}", "x".repeat(2_000_000)), 413),
        ("application/json", format!("{{\"sql\": \"SELECT '{}'\"}}", "x".repeat(500_000)), 413),
    ] {
        let request =
            service.http.post(&url).bearer_auth(&token).header("content-type", content_type).body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let (got, problem) = read(answer).await;
        assert_eq!(got, status, "{problem:#}");
        assert!(!problem["request_id"].as_str().unwrap().is_empty());
    }
    assert_eq!(service.get(&token, "/v1/nowhere").await.0, 404);
}
