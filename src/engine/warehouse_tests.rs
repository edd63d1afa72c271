//! Datasets of a real PostgreSQL and of files at the engine's door: whole queries, joins of both, and policies there.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::util::pretty::pretty_format_batches;
use serde_json::json;

use super::{Context, Engine, EngineError, Parts, SqlOptions};
use crate::auth::Principal;
use crate::config::{AdbcConfig, AdbcDialect, Config, FolderConfig, SemanticConfig, WarehouseConfig};
use crate::error::ErrorKind;
use crate::query::QueryError;
use crate::warehouse::tests::driver;
use crate::warehouse::tests::postgres_server::Postgres;

const MODEL: &str = r#"
name: shop
description: Orders and who placed them.
datasets:
  - name: orders
    source: pg.public.orders
    description: One row an order.
    fields:
      - {name: id, description: Number.}
      - {name: partner, description: Who ordered.}
      - {name: amount, description: In euros.}
      - {name: month, expression: {dialects: [{dialect: ANSI_SQL, expression: "date_trunc('month', day)"}, {dialect: POSTGRESQL, expression: "date_trunc('month', day::timestamp)"}]}, description: When.}
  - name: partners
    source: pg.public.partners
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
  - name: broken
    source: pg.public.orders
    description: Names a column that is not there.
    fields:
      - {name: nowhere, description: Is not there.}
"#;

/// Everything ends when it is dropped.
struct Place {
    engine: Engine,
    folder: tempfile::TempDir,
    _postgres: Postgres,
}

async fn place() -> Option<Place> {
    let driver = driver("adbc_driver_postgresql")?;
    let postgres = Postgres::start()?;
    let url = postgres.database("shop", "postgresql").await;
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    for sql in [
        "CREATE TABLE orders (id integer, partner integer, amount numeric(12, 2), day date, hidden text)",
        "INSERT INTO orders SELECT n, n % 4, n * 1.25, DATE '2020-01-01' + n, 'h' || n FROM generate_series(1, 100) AS g(n)",
        "CREATE TABLE partners (id integer, region text, tail text, note text)",
        "INSERT INTO partners VALUES (0, 'AA', 'a@x', 'n0'), (1, 'UA', 'b@x', 'n1'), (2, 'AA', 'c@x', 'n2'), (3, 'it''s', 'd@x', 'n3')",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let folder = tempfile::tempdir().unwrap();
    let semantic = folder.path().join("semantic/shop");
    std::fs::create_dir_all(&semantic).unwrap();
    std::fs::write(semantic.join("model.yaml"), MODEL).unwrap();
    let empty = |name: &str| FolderConfig { dir: folder.path().join(name) };
    let adbc = AdbcConfig {
        driver,
        entrypoint: None,
        dialect: AdbcDialect::Postgresql,
        options: [("uri".to_owned(), url.into())].into(),
        max_connections: 4,
    };
    let local = WarehouseConfig::local(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
    let config = Config {
        data_dir: folder.path().join("data"),
        semantic: SemanticConfig { dir: folder.path().join("semantic"), watch: false, poll_ms: 1000 },
        actions: empty("actions"),
        indexes: empty("indexes"),
        warehouses: BTreeMap::from([
            ("local".to_owned(), local),
            ("pg".to_owned(), WarehouseConfig::Adbc(adbc)),
        ]),
        ..Config::default()
    };
    let engine = Engine::open(config, Parts::QueryOnly).await.unwrap();
    assert_eq!(engine.semantic_diagnostics(), vec![]);
    Some(Place { engine, folder, _postgres: postgres })
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

impl Place {
    async fn shown(&self, context: &Context, sql: &str, options: SqlOptions) -> String {
        let result = self.engine.sql_run(context, sql, options).await;
        let result = result.unwrap_or_else(|error| panic!("{sql}: {error}"));
        pretty_format_batches(&result.batches).unwrap().to_string()
    }

    /// The warehouse that would run it whole.
    async fn home(&self, context: &Context, sql: &str) -> Option<String> {
        let check = self.engine.sql_check(context, sql).await;
        let check = check.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(check.dialect, if check.warehouse.is_some() { "postgresql" } else { "datafusion" });
        check.warehouse
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_over_one_warehouse_runs_there_and_one_over_two_is_joined_here() {
    let Some(place) = place().await else { return };
    let reader = caller(Some("AA"), READER);
    let whole = "SELECT partner, sum(amount) AS s, count(*) AS n FROM shop.orders WHERE id <= 8 GROUP BY partner ORDER BY 1";
    assert_eq!(place.home(&reader, whole).await.as_deref(), Some("pg"));
    let there = place.shown(&reader, whole, SqlOptions::default()).await;
    let here = place.shown(&reader, whole, on("local")).await;
    assert_eq!(there, here);
    assert!(there.contains("| 0       | 15.00 | 2 |"), "{there}");
    let both = "SELECT a.title, o.id FROM shop.partners p JOIN airlines a ON a.carrier = p.region JOIN orders o ON o.partner = p.id WHERE o.id < 5 ORDER BY 2";
    assert_eq!(place.home(&reader, both).await, None);
    let joined = place.shown(&reader, both, SqlOptions::default()).await;
    assert!(joined.contains("American Airlines Inc.") && joined.matches("American").count() == 2, "{joined}");
    // What a dataset computes is written in the dialect of whoever computes it.
    let month = "SELECT count(DISTINCT month) AS n FROM shop.orders";
    assert_eq!(place.shown(&reader, month, on("pg")).await, place.shown(&reader, month, on("local")).await);
    let check = place.engine.sql_check(&reader, "SELECT id FROM orders LIMIT 3").await.unwrap();
    assert_eq!(
        (check.estimated_rows, check.relations.as_slice()),
        (Some(3), ["shop.orders".to_owned()].as_slice())
    );
    assert!(
        check.secured_sql.contains("\"public\".\"orders\"") && check.columns[0].1 == "Int32",
        "{check:?}"
    );
    drop(place.folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_filters_masks_and_clearances_hold_in_the_warehouse_as_they_do_here() {
    let Some(place) = place().await else { return };
    for (claim, scopes, expected) in [
        (Some("AA"), READER, "| 0 | AA | *** || 2 | AA | *** |"),
        (Some("AA"), "semantic:read sql:run data:protected", "| 0 | AA | a@x || 2 | AA | c@x |"),
        (Some("it's"), READER, "| 3 | it's | *** |"),
        (Some("AA' OR '1'='1"), READER, ""),
        (Some("\\"), READER, ""),
        (None, READER, ""),
    ] {
        let caller = caller(claim, scopes);
        for options in [SqlOptions::default(), on("pg"), on("local")] {
            let sql = "SELECT * FROM shop.partners ORDER BY id";
            let result = place.engine.sql_run(&caller, sql, options.clone()).await.unwrap();
            let shown = pretty_format_batches(&result.batches).unwrap().to_string();
            let rows: String = shown
                .lines()
                .skip(3)
                .filter(|line| line.starts_with('|'))
                .map(|line| {
                    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
                    format!("| {} |", cells.join(" | "))
                })
                .collect();
            assert_eq!(rows, expected, "{claim:?} {options:?}");
        }
    }
    let reader = caller(Some("AA"), READER);
    for sql in [
        "SELECT note FROM shop.partners",
        "SELECT secret FROM shop.partners",
        "SELECT hidden FROM shop.orders",
        "SELECT nocol FROM shop.orders",
    ] {
        let error = place.engine.sql_run(&reader, sql, on("pg")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{sql}: {error}");
        let column = sql.split(' ').nth(1).unwrap();
        // One that is hidden looks as one that is not there.
        assert_eq!(error.to_string().replace(column, "x"), "there is no column `x`");
    }
    // What the query could have named is suggested, though it is not sent along.
    for sql in ["SELECT amuont FROM shop.orders", "SELECT id FROM shop.orders AS o ORDER BY amuont"] {
        let error = place.engine.sql_run(&reader, sql, on("pg")).await.unwrap_err().to_string();
        assert_eq!(error, "there is no column `amuont`; did you mean `amount`?");
        assert_eq!(place.engine.sql_check_with(&reader, sql, on("pg")).await.unwrap_err().to_string(), error);
    }
    // Nothing of the filter shows, not even by an error of what the caller computes.
    let oracle = "SELECT count(*) AS n FROM shop.partners WHERE 1 / (id - 1) < 5";
    assert!(place.shown(&reader, oracle, on("pg")).await.contains("| 2 |"));
    let check = place.engine.sql_check(&reader, "SELECT id FROM shop.partners").await.unwrap();
    assert!(!check.secured_sql.contains("region") && check.estimated_rows.is_none(), "{check:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_run_in_a_warehouse_is_refused_before_it() {
    let Some(place) = place().await else { return };
    let reader = caller(Some("AA"), READER);
    for (sql, rule) in [
        ("SELECT pg_sleep(60) FROM shop.orders", "function"),
        ("SELECT * FROM pg_catalog.pg_authid", "unknown-relation"),
        ("SELECT * FROM public.orders", "unknown-relation"),
        ("SELECT carrier FROM shop.airlines", "other-warehouse"),
        ("SELECT 1", "other-warehouse"),
        ("DELETE FROM shop.orders", "query-only"),
        ("SELECT 1; DROP TABLE orders", "one-statement"),
    ] {
        match place.engine.sql_run(&reader, sql, on("pg")).await {
            Err(EngineError::Refused(refusal)) => assert_eq!(refusal.rule, rule, "{sql}: {refusal}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    let limited = caller(Some("AA"), "semantic:read sql:run:shop.orders");
    let missing = place.engine.sql_run(&limited, "SELECT id FROM shop.partners", on("pg")).await.unwrap_err();
    assert_eq!(missing.missing_scope().as_deref(), Some("sql:run:shop.partners"));
    let unknown = place.engine.sql_run(&reader, "SELECT 1", on("nowhere")).await.unwrap_err();
    assert!(unknown.to_string().contains("local, pg"), "{unknown}");
    // A dataset that names a column which its table lacks tells no other.
    let broken = place.engine.sql_run(&reader, "SELECT * FROM shop.broken", on("local")).await.unwrap_err();
    assert!(broken.to_string().contains("nowhere") && !broken.to_string().contains("hidden"), "{broken}");
    let rows = SqlOptions { max_rows: Some(5), ..on("pg") };
    let cut = place.engine.sql_run(&reader, "SELECT id FROM shop.orders", rows).await.unwrap();
    assert_eq!((cut.rows, cut.truncated_at), (5, Some(5)));
    let data = place.engine.sql_run(&reader, "SELECT 1 / (id - 5) AS x FROM shop.orders", on("pg")).await;
    assert!(matches!(data, Err(EngineError::Query(QueryError::Remote(_)))), "{data:?}");
}
