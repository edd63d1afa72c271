//! Metric queries: what is compiled passes the guard, runs, and gives what SQL written by hand gives.

use std::path::Path;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Value, json};
use steward::engine::{Context, Engine, Parts, SqlOptions};

use crate::harness::{Service, checkout};

/// An engine over the demo's model with the datasets and metrics that the comparison adds.
async fn engine(folder: &Path) -> Engine {
    let semantic = folder.join("semantic/flights");
    std::fs::create_dir_all(&semantic).unwrap();
    for entry in std::fs::read_dir(checkout().join("semantic/flights")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, semantic.join(path.file_name().unwrap())).unwrap();
    }
    std::fs::copy(checkout().join("tests/compile/model.yaml"), semantic.join("more.yaml")).unwrap();
    let mut config = crate::harness::config(&folder.join("service"), "127.0.0.1:0".parse().unwrap());
    config.semantic.dir = folder.join("semantic");
    Engine::open(config, Parts::QueryOnly).await.unwrap()
}

/// Rows as text, numbers to nine digits, sorted.
async fn rows(engine: &Engine, context: &Context, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let result = engine
        .sql_run(context, sql, SqlOptions::default())
        .await
        .map_err(|error| format!("{error}\n{sql}"))?;
    assert_eq!(result.truncated_at, None, "{sql}");
    let options = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in &result.batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let cell = |(at, formatter): (usize, &ArrayFormatter<'_>)| match batch.column(at).is_valid(row) {
                true => cell(&formatter.value(row).to_string()),
                false => "NULL".to_owned(),
            };
            rows.push(columns.iter().enumerate().map(cell).collect());
        }
    }
    rows.sort();
    Ok(rows)
}

fn cell(text: &str) -> String {
    text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| format!("{number:.9e}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_metrics_give_what_sql_written_by_hand_gives() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let context = Context::local("test");
    let text = std::fs::read_to_string(checkout().join("tests/compile/queries.yaml")).unwrap();
    let cases: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let request = serde_json::from_value(case["query"].clone()).unwrap();
        let compiled = match engine.compile(&context, &request).await {
            Ok(compiled) => compiled,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let ours = rows(&engine, &context, &compiled.sql).await;
        let theirs = rows(&engine, &context, case["sql"].as_str().unwrap()).await;
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) if ours == theirs && !ours.is_empty() => {}
            (ours, theirs) => wrong.push(format!("{name}: {ours:?} is not {theirs:?}\n{}", compiled.sql)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_query_over_http_gives_sql_that_runs_and_says_what_its_columns_are() {
    let service = Service::start().await;
    let token = service.token("semantic:read sql:generate sql:run").await;
    let query = json!({
        "metrics": ["cancellation_rate", "flight_count"],
        "dimensions": ["airlines.name"],
        "filters": [{"field": "flights.origin", "op": "=", "value": "JFK"}, "flights.month = 2"],
        "order_by": [{"name": "cancellation_rate", "direction": "desc"}],
        "limit": 3,
    });
    let (status, answer) = service.post(&token, "/v1/semantic/compile", query).await;
    assert_eq!(status, 200, "{answer:#}");
    assert_eq!(answer["datasets"], json!(["flights.airlines", "flights.flights"]));
    assert_eq!(answer["joins"], json!(["flights_airline"]));
    assert_eq!(answer["columns"][1]["unit"], "fraction (0 to 1)");
    let (status, result) = service.sql(&token, answer["sql"].as_str().unwrap()).await;
    assert_eq!(status, 200, "{result:#}");
    assert_eq!(result["row_count"], 3);
    let columns: Vec<&Value> =
        result["columns"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(columns, ["name", "cancellation_rate", "flight_count"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_compile_is_a_problem_with_the_remedy() {
    let service = Service::start().await;
    let token = service.token("semantic:read sql:generate").await;
    for (query, help) in [
        (json!({"metrics": ["flight_cnt"]}), "flight_count"),
        (json!({"metrics": ["flight_count"], "dimensions": ["airports.name"]}), "flights_origin_airport"),
        (json!({"metrics": ["flight_count"], "dialect": "cobol"}), "snowflake"),
        (json!({"metrics": ["flight_count"], "dimensions": [7]}), "dimensions[0]"),
        (
            json!({"metrics": ["flight_count"], "filters": [{"field": "flights.origin", "op": "~"}]}),
            "filters[0]",
        ),
    ] {
        let (status, problem) = service.post(&token, "/v1/semantic/compile", query.clone()).await;
        assert!((400..500).contains(&status), "{query}: {status} {problem:#}");
        assert!(problem["detail"].as_str().unwrap().contains(help), "{query}: {problem:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_metadata_learns_no_name_from_a_refusal() {
    let service = Service::start().await;
    let token = service.token("sql:generate sql:run:flights.airlines").await;
    let mut told = Vec::new();
    for query in [
        json!({"metrics": ["flight_cnt"]}),
        json!({"metrics": ["flight_count"]}),
        json!({"metrics": ["flight_count"], "dimensions": ["airports.name"]}),
    ] {
        let (status, problem) = service.post(&token, "/v1/semantic/compile", query.clone()).await;
        assert!((400..500).contains(&status), "{query}: {status} {problem:#}");
        told.push(problem["detail"].clone());
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    let open = json!({"dimensions": ["airlines.name"]});
    let (status, answer) = service.post(&token, "/v1/semantic/compile", open).await;
    assert_eq!(status, 200, "{answer:#}");
}

#[test]
fn the_adapter_of_the_compliance_suite_prints_sql_alone_or_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let model = write(
        "model.yaml",
        "name: m\ndatasets:\n  - {name: t, source: t, primary_key: [id], fields: [{name: id, expression: id}, {name: x, expression: x}]}\nmetrics: [{name: total, expression: SUM(t.x)}]\n",
    );
    let adapter = |query: &Path, dialect: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_steward"))
            .args(["compile-ossie", "sql", "--model"])
            .arg(&model)
            .arg("--query-file")
            .arg(query)
            .args(["--dialect", dialect])
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let good =
        write("good.json", r#"{"dimensions": ["t.id"], "measures": [{"name": "s", "metric": "total"}]}"#);
    let done = adapter(&good, "duckdb");
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    let sql = String::from_utf8(done.stdout).unwrap();
    assert!(sql.starts_with("SELECT ") && sql.contains("FROM t AS \"t\""), "{sql}");
    let bad = write("bad.json", r#"{"dimensions": ["t.id"], "where": "total > 1"}"#);
    let done = adapter(&bad, "snowflake");
    assert_eq!(done.status.code(), Some(1));
    assert!(done.stdout.is_empty());
    assert!(String::from_utf8(done.stderr).unwrap().starts_with("E_AGGREGATE_IN_WHERE: "));
    assert_eq!(adapter(&good, "cobol").status.code(), Some(2));
}
