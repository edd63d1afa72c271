//! Datasets of Snowflake, spoken to fakesnow on loopback, at the engine's door: whole queries, joins with files, and
//! policies there. What only PostgreSQL can show is in `warehouse_tests`; fakesnow knows no roles, errors of data or plans.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use serde_json::{Value, json};

use super::{Context, Engine, EngineError, Parts, SqlOptions};
use crate::auth::Principal;
use crate::config::{Config, FolderConfig, SemanticConfig, WarehouseConfig};
use crate::error::ErrorKind;
use crate::warehouse::Warehouse;
use crate::warehouse::tests::contract::unguarded;
use crate::warehouse::tests::snowflake::Fakesnow;

const MODEL: &str = r#"
name: shop
description: Orders and who placed them.
datasets:
  - name: orders
    source: snow.public.orders
    description: One row an order.
    fields:
      - {name: id, description: Number.}
      - {name: partner, description: Who ordered.}
      - {name: amount, description: In euros.}
      - {name: month, expression: {dialects: [{dialect: ANSI_SQL, expression: "date_trunc('month', day)"}, {dialect: SNOWFLAKE, expression: "date_trunc('month', day::timestamp_ntz)"}]}, description: When.}
  - name: partners
    source: snow.public.partners
    description: One row a partner.
    access: {row_filter: "region = {{claims.region}}"}
    fields:
      - {name: id, description: Number.}
      - {name: region, description: Where.}
      - {name: tail, description: What follows., sensitivity: protected, access: {mask: "'***'"}}
      - {name: secret, expression: note, description: Notes., sensitivity: highly_sensitive}
  - name: airlines
    source: local.nycflights13.airlines
    description: One row a company.
    fields:
      - {name: carrier, description: Two letter code.}
      - {name: title, expression: name, description: Name in full.}
"#;

/// The time limit of the tests' engine, which is nobody's default.
const SECONDS: u64 = 41;

/// Everything ends when it is dropped.
struct Place {
    engine: Engine,
    seen: Arc<Mutex<Vec<Value>>>,
    _folder: tempfile::TempDir,
    _server: Fakesnow,
}

async fn place() -> Option<Place> {
    let server = Fakesnow::start().await?;
    let seen = Arc::default();
    let warehouse = Arc::new(server.warehouse(&seen));
    for sql in [
        "CREATE TABLE orders (id integer, partner integer, amount number(12, 2), day date, hidden text)",
        "INSERT INTO orders SELECT n, n % 4, n * 1.25, DATEADD(day, n, '2020-01-01'::date), 'h' || n FROM (SELECT row_number() OVER (ORDER BY 1) AS n FROM TABLE(GENERATOR(ROWCOUNT => 100))) AS g",
        "CREATE TABLE partners (id integer, region text, tail text, note text)",
        "INSERT INTO partners VALUES (0, 'AA', 'a@x', 'n0'), (1, 'UA', 'b@x', 'n1'), (2, 'AA', 'c@x', 'n2'), (3, 'it''s', 'd@x', 'n3')",
    ] {
        let made = warehouse.remote().unwrap().run(unguarded(sql, Duration::from_secs(60))).await;
        let rows: Result<Vec<_>, _> =
            made.unwrap_or_else(|error| panic!("{sql}: {error}")).try_collect().await;
        rows.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let semantic = folder.path().join("semantic/shop");
    std::fs::create_dir_all(&semantic).unwrap();
    std::fs::write(semantic.join("model.yaml"), MODEL).unwrap();
    let empty = |name: &str| FolderConfig { dir: folder.path().join(name) };
    let local = WarehouseConfig::local(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
    let mut config = Config {
        data_dir: folder.path().join("data"),
        semantic: SemanticConfig { dir: folder.path().join("semantic"), watch: false, poll_ms: 1000 },
        actions: empty("actions"),
        indexes: empty("indexes"),
        warehouses: [("local".to_owned(), local)].into(),
        ..Config::default()
    };
    config.sql.timeout_seconds = SECONDS;
    let own: Vec<(String, Arc<dyn Warehouse>)> = vec![("snow".to_owned(), warehouse)];
    let engine = Engine::open_with(config.clone(), Parts::QueryOnly, own.clone()).await.unwrap();
    assert_eq!(engine.semantic_diagnostics(), vec![]);
    let twice = own.into_iter().map(|(_, warehouse)| ("local".to_owned(), warehouse)).collect();
    let error = Engine::open_with(config, Parts::QueryOnly, twice).await.err().unwrap();
    assert!(error.to_string().contains("rename one"), "{error}");
    Some(Place { engine, seen, _folder: folder, _server: server })
}

fn caller(region: Option<&str>, scopes: &str) -> Context {
    let principal = Principal::local("test").with_scopes(scopes.parse().unwrap());
    let principal = match region {
        Some(region) => principal.with_claim("region", json!(region)),
        None => principal,
    };
    Context::new(Arc::new(principal), "r-7")
}

const READER: &str = "semantic:read sql:run sql:generate";

fn on(warehouse: &str) -> SqlOptions {
    SqlOptions { warehouse: Some(warehouse.to_owned()), ..SqlOptions::default() }
}

/// A cell without its blanks; a number without the zeros after its point, of which fakesnow has its own opinion.
fn plain(cell: &str) -> String {
    let text = cell.trim();
    text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| number.to_string())
}

impl Place {
    /// The rows, cell by cell.
    async fn rows(&self, context: &Context, sql: &str, options: SqlOptions) -> Vec<String> {
        let result = self.engine.sql_run(context, sql, options).await;
        let result = result.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let shown = pretty_format_batches(&result.batches).unwrap().to_string();
        let rows = shown.lines().skip(3).filter(|line| line.starts_with('|'));
        rows.map(|line| {
            let cells: Vec<String> = line.trim_matches('|').split('|').map(plain).collect();
            cells.join(",")
        })
        .collect()
    }

    /// The statements that Snowflake was sent since the last time.
    fn statements(&self) -> Vec<Value> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.into_iter().filter(|body| body.get("sqlText").is_some()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_over_snowflake_runs_there_as_it_was_checked_and_one_with_files_is_joined_here() {
    let Some(place) = place().await else { return };
    let reader = caller(Some("AA"), READER);
    let owner = caller(Some("AA"), "semantic:read sql:run sql:generate data:highly_sensitive");
    for (sql, expected) in [
        (
            "SELECT partner, sum(amount) AS s, count(*) AS n FROM shop.orders WHERE id <= 8 GROUP BY partner ORDER BY 1",
            vec!["0,15,2", "1,7.5,2", "2,10,2", "3,12.5,2"],
        ),
        (
            "SELECT p.region, sum(o.amount) AS s FROM shop.orders AS o JOIN shop.partners AS p ON p.id = o.partner \
             WHERE o.id <= 8 GROUP BY p.region",
            vec!["AA,25"],
        ),
        (
            "WITH few AS (SELECT id, partner FROM orders WHERE id BETWEEN 5 AND 7) SELECT f.id, p.tail FROM few AS f \
             LEFT JOIN partners AS p ON p.id = f.partner ORDER BY f.id DESC",
            vec!["7,", "6,***", "5,"],
        ),
        ("SELECT count(DISTINCT month) AS n FROM shop.orders", vec!["4"]),
    ] {
        let check =
            place.engine.sql_check(&reader, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!((check.dialect, check.warehouse.as_deref()), ("snowflake", Some("snow")), "{sql}");
        place.statements();
        assert_eq!(place.rows(&reader, sql, SqlOptions::default()).await, expected, "{sql}");
        let sent = place.statements();
        // S1: one statement, with the time limit and who asks.
        assert_eq!(sent.len(), 1, "{sent:#?}");
        let parameters = &sent[0]["parameters"];
        assert_eq!(parameters["STATEMENT_TIMEOUT_IN_SECONDS"], SECONDS);
        assert_eq!(parameters["MULTI_STATEMENT_COUNT"], 1);
        let tag: Value = serde_json::from_str(parameters["QUERY_TAG"].as_str().unwrap()).unwrap();
        assert_eq!((&tag["client"], &tag["request_id"]), (&json!("local:test"), &json!("r-7")));
        // The owner sees what is sent.
        let checked = place.engine.sql_check(&owner, sql).await.unwrap();
        assert!(!place.statements().is_empty(), "a check asks for the columns of the result");
        place.rows(&owner, sql, SqlOptions::default()).await;
        assert_eq!(place.statements()[0]["sqlText"], checked.secured_sql);
        // The same rows where the embedded engine computes.
        assert_eq!(place.rows(&reader, sql, on("local")).await, expected, "{sql}");
    }
    let both = "SELECT a.title, o.id FROM shop.partners p JOIN airlines a ON a.carrier = p.region \
                JOIN orders o ON o.partner = p.id WHERE o.id < 5 ORDER BY 2";
    let check = place.engine.sql_check(&reader, both).await.unwrap();
    assert_eq!((check.dialect, check.warehouse), ("datafusion", None));
    place.statements();
    let joined = place.rows(&reader, both, SqlOptions::default()).await;
    assert_eq!(joined, ["American Airlines Inc.,2", "American Airlines Inc.,4"]);
    let sent = place.statements();
    assert!(
        sent.iter().all(|body| body["parameters"]["STATEMENT_TIMEOUT_IN_SECONDS"] == SECONDS
            || body["parameters"]["STATEMENT_TIMEOUT_IN_SECONDS"] == 60),
        "{sent:#?}"
    );
    // The filter of the rows goes along, and no column that is not asked for.
    let of = |table: &str| {
        let sent = sent.iter().filter(|body| body["describeOnly"] == false);
        let texts: Vec<&str> = sent.filter_map(|body| body["sqlText"].as_str()).collect();
        texts.into_iter().find(|text| text.contains(table)).unwrap().to_owned()
    };
    assert!(of("\"PARTNERS\"").contains("'AA'") && !of("\"PARTNERS\"").contains("NOTE"), "{sent:#?}");
    assert!(of("\"ORDERS\"").contains("< 5") && !of("\"ORDERS\"").contains("AMOUNT"), "{sent:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_filters_masks_and_clearances_hold_in_snowflake_as_they_do_here() {
    let Some(place) = place().await else { return };
    for (claim, scopes, expected) in [
        (Some("AA"), READER, vec!["0,AA,***", "2,AA,***"]),
        (Some("AA"), "semantic:read sql:run data:protected", vec!["0,AA,a@x", "2,AA,c@x"]),
        (Some("AA"), "semantic:read sql:run data:highly_sensitive", vec!["0,AA,a@x,n0", "2,AA,c@x,n2"]),
        (Some("it's"), READER, vec!["3,it's,***"]),
        (Some("AA' OR '1'='1"), READER, vec![]),
        (Some("\\"), READER, vec![]),
        (None, READER, vec![]),
    ] {
        let caller = caller(claim, scopes);
        for options in [SqlOptions::default(), on("snow"), on("local")] {
            let rows = place.rows(&caller, "SELECT * FROM shop.partners ORDER BY id", options.clone()).await;
            assert_eq!(rows, expected, "{claim:?} {scopes} {options:?}");
        }
    }
    let reader = caller(Some("AA"), READER);
    let check = place.engine.sql_check(&reader, "SELECT id FROM shop.partners").await.unwrap();
    assert!(!check.secured_sql.contains("REGION") && check.estimated_rows.is_none(), "{check:?}");
    let owner = caller(Some("AA"), "semantic:read sql:run sql:generate data:highly_sensitive");
    let check = place.engine.sql_check(&owner, "SELECT id FROM shop.partners").await.unwrap();
    assert!(check.secured_sql.contains("\"REGION\" = 'AA'"), "{}", check.secured_sql);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_in_snowflake_looks_as_what_is_not_there() {
    let Some(place) = place().await else { return };
    let reader = caller(Some("AA"), READER);
    let mut told: Vec<String> = Vec::new();
    for sql in [
        "SELECT note FROM shop.partners",
        "SELECT secret FROM shop.partners",
        "SELECT hidden FROM shop.orders",
        "SELECT nocol FROM shop.orders",
    ] {
        let column = sql.split(' ').nth(1).unwrap();
        for options in [on("snow"), on("local")] {
            let error = place.engine.sql_run(&reader, sql, options.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{sql}: {error}");
            // What is there instead may be told; that must be the caller's.
            let text = error.to_string().to_lowercase().replace(column, "x");
            assert!(
                !["note", "secret", "hidden", "day"].iter().any(|name| text.contains(name)),
                "{sql}: {text}"
            );
            if options.warehouse.as_deref() == Some("snow") {
                told.push(text);
            }
        }
    }
    told.dedup();
    assert_eq!(told.len(), 1, "what is hidden and what is not there are told alike: {told:#?}");
    place.statements();
    for (sql, rule) in [
        ("SELECT SYSTEM$CANCEL_QUERY('1') FROM shop.orders", "function"),
        ("SELECT * FROM information_schema.tables", "unknown-relation"),
        ("SELECT * FROM public.orders", "unknown-relation"),
        ("SELECT * FROM db.public.orders", "unknown-relation"),
        ("SELECT carrier FROM shop.airlines", "other-warehouse"),
        ("SELECT 1", "other-warehouse"),
        ("DELETE FROM shop.orders", "query-only"),
        ("SELECT 1; DROP TABLE orders", "one-statement"),
    ] {
        match place.engine.sql_run(&reader, sql, on("snow")).await {
            Err(EngineError::Refused(refusal)) => assert_eq!(refusal.rule, rule, "{sql}: {refusal}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    assert_eq!(place.statements(), Vec::<Value>::new(), "what is refused is not sent");
    let limited = caller(Some("AA"), "semantic:read sql:run:shop.orders");
    let missing =
        place.engine.sql_run(&limited, "SELECT id FROM shop.partners", on("snow")).await.unwrap_err();
    assert_eq!(missing.missing_scope().as_deref(), Some("sql:run:shop.partners"));
    let rows = SqlOptions { max_rows: Some(5), ..on("snow") };
    let cut = place.engine.sql_run(&reader, "SELECT id FROM shop.orders", rows).await.unwrap();
    assert_eq!((cut.rows, cut.truncated_at), (5, Some(5)));
}
