//! The semantic layer: the same facts over REST and over SQL, and broken files that break nothing.

use serde_json::{Value, json};

use crate::harness::{AGENT_SCOPES, Service, checkout};

#[tokio::test(flavor = "multi_thread")]
async fn rest_and_sql_tell_the_same_facts() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let (_, datasets) = service.get(&token, "/v1/semantic/datasets").await;
    let mut from_rest: Vec<Value> = Vec::new();
    for dataset in datasets.as_array().unwrap() {
        for field in dataset["fields"].as_array().unwrap() {
            from_rest.push(json!([dataset["name"], field["name"], field["description"], field["datatype"]]));
        }
    }
    let sql = "SELECT dataset, field, description, datatype FROM semantic.fields ORDER BY dataset, ordinal";
    let (status, rows) = service.sql(&token, sql).await;
    assert_eq!(status, 200, "{rows:#}");
    let mut from_sql: Vec<Value> = rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["dataset"], row["field"], row["description"], row["datatype"]]))
        .collect();
    from_rest.sort_by_key(Value::to_string);
    from_sql.sort_by_key(Value::to_string);
    assert_eq!(from_rest, from_sql);

    for (path, table) in [
        ("models", "models"),
        ("metrics", "metrics"),
        ("relationships", "relationships"),
        ("verified_queries", "verified_queries"),
    ] {
        let (_, list) = service.get(&token, &format!("/v1/semantic/{path}")).await;
        let (_, count) = service.sql(&token, &format!("SELECT count(*) AS n FROM semantic.{table}")).await;
        assert_eq!(count["rows"][0]["n"], list.as_array().unwrap().len(), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flights_model_is_as_rich_as_the_demo_promises() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let number = async |sql: &str| service.sql(&token, sql).await.1["rows"][0]["n"].as_i64().unwrap();
    assert_eq!(number("SELECT count(*) AS n FROM semantic.datasets").await, 4);
    assert!(number("SELECT count(*) AS n FROM semantic.metrics").await >= 10);
    assert!(number("SELECT count(*) AS n FROM semantic.verified_queries").await >= 12);
    assert_eq!(number("SELECT count(*) AS n FROM semantic.fields WHERE description IS NULL").await, 0);
    assert_eq!(number("SELECT count(*) AS n FROM semantic.relationships WHERE cardinality IS NULL").await, 0);
    // Every column of every file is described.
    for table in ["flights", "airlines", "airports", "planes"] {
        let path = checkout().join(format!("examples/nycflights13/{table}.parquet"));
        let file = std::fs::File::open(path).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let (_, dataset) = service.get(&token, &format!("/v1/semantic/datasets/flights.{table}")).await;
        for column in reader.schema().fields() {
            let named = dataset["fields"]
                .as_array()
                .unwrap()
                .iter()
                .any(|field| field["name"] == column.name().as_str());
            assert!(named, "{table}.{} is not described", column.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verified_query_and_every_metric_passes_the_guard_and_runs() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let (_, queries) = service.get(&token, "/v1/semantic/verified_queries").await;
    for query in queries.as_array().unwrap() {
        let (status, result) = service.sql(&token, query["sql"].as_str().unwrap()).await;
        assert_eq!(status, 200, "{}: {result:#}", query["name"]);
        assert!(result["row_count"].as_u64().unwrap() > 0, "{} finds nothing", query["name"]);
    }
    let (_, metrics) = service.get(&token, "/v1/semantic/metrics").await;
    for metric in metrics.as_array().unwrap() {
        let sql = format!(
            "SELECT {} AS value FROM flights.{}",
            metric["expression"].as_str().unwrap(),
            metric["dataset"].as_str().unwrap()
        );
        let (status, result) = service.sql(&token, &sql).await;
        assert_eq!(status, 200, "{sql}: {result:#}");
        assert!(!result["rows"][0]["value"].is_null(), "{} is NULL", metric["name"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_in_half_leaves_the_other_models_serving_and_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(checkout().join("semantic/flights")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::create_dir_all(folder.path().join("flights")).unwrap();
        std::fs::copy(&path, folder.path().join("flights").join(path.file_name().unwrap())).unwrap();
    }
    std::fs::create_dir_all(folder.path().join("broken")).unwrap();
    std::fs::write(folder.path().join("broken/model.yaml"), "name: broken\ndatasets:\n  - name: [a, b\n")
        .unwrap();
    let dir = folder.path().to_owned();
    let service = Service::start_with(|config| config.semantic.dir = dir).await;
    let token = service.token(&format!("{AGENT_SCOPES} data:highly_sensitive")).await;
    let (_, models) = service.get(&token, "/v1/semantic/models").await;
    assert_eq!(models.as_array().unwrap().len(), 1);
    let sql = "SELECT file, line, message, help FROM semantic.diagnostics WHERE severity = 'error'";
    let (_, findings) = service.sql(&token, sql).await;
    let finding = &findings["rows"][0];
    assert!(finding["file"].as_str().unwrap().ends_with("broken/model.yaml"), "{findings:#}");
    assert!(finding["line"].as_i64().unwrap() >= 3 && !finding["help"].as_str().unwrap().is_empty());
    let (status, ready) = service.get("", "/health/ready").await;
    assert_eq!((status, &ready["semantic_errors"]), (200, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn searching_metadata_puts_what_was_meant_first() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let (_, metrics) = service.get(&token, "/v1/semantic/metrics?q=cancelled%20share").await;
    assert_eq!(metrics[0]["name"], "cancellation_rate", "{metrics:#}");
    let (_, actions) = service.get(&token, "/v1/actions?q=hourly%20weather").await;
    assert_eq!(actions[0]["operation"], "get_hourly");
    let (status, problem) = service.get(&token, "/v1/semantic/datasets/flights.plains").await;
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().unwrap().contains("flights.planes"), "{problem:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_served_without_a_restart_and_a_broken_one_shows_in_readiness() {
    let folder = tempfile::tempdir().unwrap();
    let model = |description: &str| {
        format!(
            "name: m\ndescription: {description}\ndatasets:\n  - {{name: d, source: d, description: One row.}}\n"
        )
    };
    let file = folder.path().join("m/model.yaml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, model("Before the edit.")).unwrap();
    let dir = folder.path().to_owned();
    let service = Service::start_with(|config| {
        config.semantic.dir = dir;
        config.semantic.poll_ms = 20;
    })
    .await;
    let token = service.token(AGENT_SCOPES).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    std::fs::write(&file, model("Behind the edit.")).unwrap();
    loop {
        let (_, found) = service.get(&token, "/v1/semantic/models/m").await;
        if found["description"] == "Behind the edit." {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{found:#}");
    }
    std::fs::write(&file, "name: m\ndatasets: nothing\n").unwrap();
    loop {
        let (status, ready) = service.get("", "/health/ready").await;
        assert_eq!(status, 200, "what was good is still served");
        if ready["semantic_stale_models"] == 1 && ready["semantic_errors"].as_u64() > Some(0) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{ready:#}");
    }
    let (_, found) = service.get(&token, "/v1/semantic/models/m").await;
    assert_eq!(found["description"], "Behind the edit.");
    let (_, searched) = service.sql(&token, "SELECT s.name FROM semantic_search('edit', 5) AS s").await;
    assert_eq!(searched["rows"], json!([{"name": "m"}]));
}
