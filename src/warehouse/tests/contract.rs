//! What holds for a warehouse, whatever is behind it.
//!
//! The subject has, in one schema: `every_type` with three rows, `no_rows` of the same columns without rows, `many` with
//! the numbers from 1 to 100,000 and a text each, and `odd-name` with one row and names that need quoting.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;

use super::super::{QueryTag, RemoteError, RemoteQuery, RemoteSql, Warehouse, WarehouseError};

/// A warehouse with the tables of the contract.
pub struct Subject {
    pub warehouse: Arc<dyn Warehouse>,
    pub schema: &'static str,
    /// Whether it tells instants from local times.
    pub has_zones: bool,
    /// The session in which its tables can be read.
    pub session: SessionContext,
}

/// Rows of `every_type`, as SQL that every subject reads; instants go by `seen`.
pub fn rows(seen: &str) -> String {
    format!(
        "(1, 9007199254740993, 12.50, 1.5, 'Zoë ''q'' 中文', DATE '2020-02-29', TIMESTAMP '2020-02-29 10:11:12.123456', {seen}, true), \
         (2, -1, -0.01, -1e300, '', DATE '1970-01-01', TIMESTAMP '1969-12-31 23:59:59', {seen}, false), \
         (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
    )
}

/// Runs the whole contract.
pub async fn holds(subject: &Subject) {
    types_and_values(subject).await;
    a_table_without_rows_has_its_columns(subject).await;
    a_table_that_is_not_there_is_an_error(subject).await;
    columns_counts_and_limits(subject).await;
    a_filter_gives_the_same_rows_there_as_here(subject).await;
    odd_names_and_wide_texts(subject).await;
    many_rows_and_many_readers(subject).await;
}

async fn session(subject: &Subject) -> SessionContext {
    let session = SessionContext::new_with_config_rt(SessionConfig::new(), subject.session.runtime_env());
    for table in ["every_type", "no_rows", "many", "odd-name"] {
        let provider = subject.warehouse.table(subject.schema, table, &QueryTag::default()).await.unwrap();
        session.register_table(format!("\"{table}\""), provider).unwrap();
    }
    session
}

async fn batches(session: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    session.sql(sql).await.unwrap().collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn shown(session: &SessionContext, sql: &str) -> String {
    pretty_format_batches(&batches(session, sql).await).unwrap().to_string()
}

async fn types_and_values(subject: &Subject) {
    let session = session(subject).await;
    let provider = session.table_provider("every_type").await.unwrap();
    let schema = provider.schema();
    let whole = |data_type: &DataType| data_type.is_integer() || *data_type == DataType::Decimal128(38, 0);
    let instant = |data_type: &DataType, has_zone: bool| match data_type {
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, zone) => {
            zone.as_deref() == has_zone.then_some("UTC")
        }
        _ => false,
    };
    for (name, holds) in [
        ("id", &whole as &dyn Fn(&DataType) -> bool),
        ("big", &whole),
        ("amount", &|found| *found == DataType::Decimal128(12, 2)),
        ("ratio", &|found| *found == DataType::Float64),
        ("name", &|found| *found == DataType::Utf8),
        ("day", &|found| *found == DataType::Date32),
        ("at", &|found| instant(found, false)),
        ("seen", &|found| instant(found, subject.has_zones)),
        ("ok", &|found| *found == DataType::Boolean),
    ] {
        let field = schema.field_with_name(name).unwrap();
        assert!(holds(field.data_type()), "{name}: {}", field.data_type());
    }
    let sql = "SELECT CAST(id AS BIGINT) AS id, CAST(big AS BIGINT) AS big, amount, ratio, name, day, \
               CAST(at AS VARCHAR) AS at, CAST(CAST(seen AS TIMESTAMP) AS VARCHAR) AS seen, ok FROM every_type ORDER BY id";
    let expected = "\
+----+------------------+--------+--------+--------------+------------+----------------------------+---------------------+-------+
| id | big              | amount | ratio  | name         | day        | at                         | seen                | ok    |
+----+------------------+--------+--------+--------------+------------+----------------------------+---------------------+-------+
| 1  | 9007199254740993 | 12.50  | 1.5    | Zoë 'q' 中文 | 2020-02-29 | 2020-02-29T10:11:12.123456 | 2020-02-29T08:11:12 | true  |
| 2  | -1               | -0.01  | -1e300 |              | 1970-01-01 | 1969-12-31T23:59:59        | 2020-02-29T08:11:12 | false |
| 3  |                  |        |        |              |            |                            |                     |       |
+----+------------------+--------+--------+--------------+------------+----------------------------+---------------------+-------+";
    assert_eq!(shown(&session, sql).await, expected);
}

async fn a_table_without_rows_has_its_columns(subject: &Subject) {
    let session = session(subject).await;
    let of = |name: &str| {
        let session = session.clone();
        let name = name.to_owned();
        async move { session.table_provider(name.as_str()).await.unwrap().schema() }
    };
    let types = |schema: datafusion::arrow::datatypes::SchemaRef| -> Vec<(String, DataType)> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    assert_eq!(types(of("no_rows").await), types(of("every_type").await));
    assert!(batches(&session, "SELECT * FROM no_rows").await.iter().all(|batch| batch.num_rows() == 0));
    let count = shown(&session, "SELECT count(*) AS n, max(name) AS m FROM no_rows").await;
    assert!(count.contains("| 0 |"), "{count}");
}

async fn a_table_that_is_not_there_is_an_error(subject: &Subject) {
    for (schema, table) in [
        (subject.schema, "not_there"),
        ("not_there", "every_type"),
        (subject.schema, "every_type\"; DROP TABLE \"many"),
        (subject.schema, "x' OR '1'='1"),
        (subject.schema, ""),
        (subject.schema, "nul\0"),
    ] {
        let found = subject.warehouse.table(schema, table, &QueryTag::default()).await;
        assert!(
            matches!(found, Err(WarehouseError::UnknownTable { .. } | WarehouseError::BadName { .. })),
            "{schema}.{table}: {found:?}"
        );
    }
    assert!(shown(&session(subject).await, "SELECT count(*) AS n FROM many").await.contains("100000"));
}

async fn columns_counts_and_limits(subject: &Subject) {
    let session = session(subject).await;
    let one = |sql: &'static str| {
        let session = session.clone();
        async move { batches(&session, sql).await.iter().map(RecordBatch::num_rows).sum::<usize>() }
    };
    assert_eq!(one("SELECT name FROM every_type").await, 3);
    assert_eq!(one("SELECT 1 FROM every_type").await, 3);
    assert_eq!(one("SELECT ok, id, ok AS again FROM every_type").await, 3);
    assert_eq!(one("SELECT id FROM many LIMIT 7").await, 7);
    assert_eq!(one("SELECT id FROM many LIMIT 0").await, 0);
    assert_eq!(one("SELECT id FROM many OFFSET 99998").await, 2);
    let counted = shown(&session, "SELECT count(*) AS n FROM many WHERE CAST(id AS BIGINT) % 2 = 0").await;
    assert!(counted.contains("| 50000 |"), "{counted}");
}

/// What DataFusion does with the same rows in memory decides.
async fn a_filter_gives_the_same_rows_there_as_here(subject: &Subject) {
    let there = session(subject).await;
    let here = SessionContext::new();
    let rows = batches(&there, "SELECT * FROM every_type").await;
    let schema = there.table_provider("every_type").await.unwrap().schema();
    here.register_table("every_type", Arc::new(MemTable::try_new(schema, vec![rows]).unwrap())).unwrap();
    for condition in [
        "id = 1",
        "id <> 1",
        "big > 0",
        "big = 9007199254740993",
        "NOT (big > 0)",
        "id IN (1, 3)",
        "id NOT IN (1, NULL)",
        "big BETWEEN -5 AND 5",
        "amount = 12.5",
        "amount < 0",
        "amount >= 12.50",
        "ratio > 1",
        "ratio <= -1e299",
        "name = ''",
        "name = 'Zoë ''q'' 中文'",
        "name <> ''",
        "name > 'A'",
        "name LIKE 'Z%'",
        "name LIKE 'z%'",
        "name NOT LIKE '%''q''%'",
        "name LIKE '%\\_%'",
        "name = 'x\\''' OR id = 2",
        "name IN ('', 'Zoë ''q'' 中文', '\\')",
        "name IS NULL",
        "name IS NOT NULL AND ok",
        "NOT ok",
        "ok = false",
        "ok IS TRUE",
        "day = DATE '2020-02-29'",
        "day < DATE '2020-01-01'",
        "at = TIMESTAMP '2020-02-29 10:11:12.123456'",
        "at < TIMESTAMP '1970-01-01 00:00:00'",
        "seen > TIMESTAMP '2020-02-29 08:11:11'",
        "seen <= TIMESTAMP '2020-02-29 08:11:12'",
        "length(name) > 0",
        "upper(name) = 'X' OR id + 1 = 3",
        "id = 1 AND (name = '' OR amount > 10)",
        "(id = 1 OR big IS NULL) AND NOT (ok AND id = 3)",
        "CASE WHEN id = 1 THEN ok ELSE true END",
    ] {
        let sql = format!("SELECT CAST(id AS BIGINT) AS id FROM every_type WHERE {condition} ORDER BY 1");
        assert_eq!(shown(&there, &sql).await, shown(&here, &sql).await, "{condition}");
    }
    if subject.warehouse.remote().is_some() {
        let plan =
            shown(&there, "EXPLAIN SELECT id FROM every_type WHERE id = 1 AND name = 'a' LIMIT 5").await;
        assert!(
            plan.contains("RemoteScan: ") && plan.contains("WHERE") && !plan.contains("FilterExec"),
            "{plan}"
        );
    }
}

async fn odd_names_and_wide_texts(subject: &Subject) {
    let session = session(subject).await;
    let sql = "SELECT \"select\" AS a, \"Ünï cödé\" AS b, length(\"we\"\"ird\") AS c FROM \"odd-name\" WHERE \"Ünï cödé\" = 'x'";
    let found = shown(&session, sql).await;
    // A megabyte of letters of two bytes.
    assert!(found.contains("| 7 | x | 500000 |"), "{found}");
}

async fn many_rows_and_many_readers(subject: &Subject) {
    let session = session(subject).await;
    let read = |at: usize| {
        let session = session.clone();
        async move {
            let sql = format!(
                "SELECT sum(CAST(a.id AS BIGINT)) AS n, count(DISTINCT b.text) AS m FROM many a JOIN many b ON a.id = b.id WHERE a.id > {at}"
            );
            shown(&session, &sql).await
        }
    };
    let all = futures::future::join_all((0..12).map(read)).await;
    for (at, found) in all.iter().enumerate() {
        let sum = 100_000_u64 * 100_001 / 2 - (at * (at + 1) / 2) as u64;
        assert!(found.contains(&format!("| {sum} | {} |", 100_000 - at)), "{found}");
    }
}

/// A statement that the guard never saw, as if one had come by it.
pub fn unguarded(sql: &str, timeout: Duration) -> RemoteQuery {
    let tag = QueryTag { client: "contract".to_owned(), request_id: "r-1".to_owned() };
    RemoteQuery { sql: RemoteSql::made(sql.to_owned()), timeout, tag }
}

/// Runs a statement as a whole and collects it.
pub async fn whole(subject: &Subject, sql: &str) -> Result<Vec<RecordBatch>, RemoteError> {
    let remote = subject.warehouse.remote().unwrap();
    let stream = remote.run(unguarded(sql, Duration::from_secs(30))).await?;
    let schema = stream.schema();
    let mut found: Vec<RecordBatch> = stream.try_collect().await.map_err(told)?;
    assert!(found.iter().all(|batch| batch.schema() == schema), "{sql}");
    if found.is_empty() {
        found.push(RecordBatch::new_empty(schema));
    }
    Ok(found)
}

pub fn told(error: datafusion::error::DataFusionError) -> RemoteError {
    match error.find_root() {
        datafusion::error::DataFusionError::External(inner) => {
            inner.downcast_ref::<RemoteError>().expect("a remote error").clone()
        }
        other => panic!("not a remote error: {other}"),
    }
}

pub fn table(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

/// The server itself refuses what writes.
pub async fn writes_are_refused(subject: &Subject, statements: &[&str]) {
    for sql in statements {
        let outcome = whole(subject, sql).await;
        assert!(matches!(outcome, Err(RemoteError::NotPermitted)), "{sql}: {outcome:?}");
    }
    assert!(shown(&session(subject).await, "SELECT count(*) AS n FROM many").await.contains("| 100000 |"));
}

/// An endless query ends by its time limit, and the next one finds a connection.
pub async fn time_is_limited(subject: &Subject, endless: &str) {
    let started = std::time::Instant::now();
    let remote = subject.warehouse.remote().unwrap();
    let outcome = match remote.run(unguarded(endless, Duration::from_secs(1))).await {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.map_err(told).map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(outcome, Err(RemoteError::Timeout { seconds: 1 }));
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(whole(subject, "SELECT 1 AS one").await.unwrap()[0].num_rows(), 1);
}
