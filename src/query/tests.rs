//! Limits and streams, on series of numbers: no relation, so that nothing but the engine is in play.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampNanosecondType};
use datafusion::datasource::MemTable;
use tokio::sync::oneshot;

use super::*;
use crate::error::ErrorKind;
use crate::guard::{self, Dialect, Namespace};

const MIB: usize = 1024 * 1024;
/// Some 80 MB, far beyond what is held.
const LARGE: &str =
    "SELECT value, value * 2 AS twice FROM range(0, 1000000) AS a CROSS JOIN range(0, 5) AS b(other)";

fn limits() -> SqlLimits {
    SqlLimits {
        max_rows: 1_000_000_000,
        max_result_bytes: 1024 * MIB,
        timeout_seconds: 300,
        ..SqlLimits::default()
    }
}

fn engine(limits: SqlLimits) -> (QueryEngine, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (QueryEngine::new(limits, &folder.path().join("spill")).unwrap(), folder)
}

fn approved(engine: &QueryEngine, sql: &str) -> ApprovedSql {
    guard::approve(sql, &Namespace::default(), Dialect::DataFusion, engine.limits().max_rows).unwrap()
}

async fn stream(engine: &QueryEngine, sql: &str) -> Result<QueryStream, QueryError> {
    engine.stream("c", &approved(engine, sql), Tables::new()).await
}

async fn run(engine: &QueryEngine, sql: &str) -> Result<QueryResult, QueryError> {
    engine.run("c", &approved(engine, sql), Tables::new()).await
}

/// A stream with the report of its end.
fn watched(mut stream: QueryStream) -> (QueryStream, oneshot::Receiver<StreamReport>) {
    let (tell, told) = oneshot::channel();
    stream.at_end(|report| {
        Box::pin(async move {
            tell.send(report).unwrap();
        })
    });
    (stream, told)
}

#[tokio::test]
async fn a_small_result_is_complete_when_it_is_handed_over() {
    let (engine, _folder) = engine(limits());
    let small = stream(&engine, "SELECT value FROM range(0, 20000)").await.unwrap();
    assert_eq!(small.end().unwrap().rows, 20_000);
    let result = small.collect().await.unwrap();
    assert_eq!((result.rows, result.truncated_at), (20_000, None));
    let empty = stream(&engine, "SELECT value FROM range(0, 9) WHERE value > 9").await.unwrap();
    assert_eq!((empty.end().unwrap().rows, empty.schema().field(0).name().as_str()), (0, "value"));
}

#[tokio::test]
async fn a_large_result_comes_in_parts_with_every_row_once() {
    let (engine, _folder) = engine(limits());
    let (mut stream, report) = watched(stream(&engine, LARGE).await.unwrap());
    assert_eq!(stream.end(), None);
    let (mut rows, mut sum) = (0, 0_i64);
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap();
        rows += batch.num_rows();
        sum += batch.column(1).as_primitive::<Int64Type>().values().iter().sum::<i64>();
    }
    assert_eq!((rows, sum), (5_000_000, 5 * (0..1_000_000_i64).map(|value| 2 * value).sum::<i64>()));
    assert_eq!(stream.end().unwrap().rows, rows);
    let report = report.await.unwrap();
    assert_eq!((report.rows, report.stopped), (rows, None));
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_large_result_is_cut_at_the_row_limit_and_says_so_at_its_end() {
    let (engine, _folder) = engine(SqlLimits { max_rows: 1_234_567, ..limits() });
    let mut stream = stream(&engine, LARGE).await.unwrap();
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        rows += batch.unwrap().num_rows();
    }
    assert_eq!((rows, stream.end().unwrap().truncated_at), (1_234_567, Some(1_234_567)));
}

#[tokio::test]
async fn a_result_over_its_bytes_ends_with_an_error_before_or_after_its_first_rows() {
    let (small, _folder) = engine(SqlLimits { max_result_bytes: MIB, ..limits() });
    assert!(matches!(stream(&small, LARGE).await, Err(QueryError::ResultTooLarge { limit_bytes: MIB })));
    let (engine, _folder) = engine(SqlLimits { max_result_bytes: 20 * MIB, ..limits() });
    let (mut stream, report) = watched(stream(&engine, LARGE).await.unwrap());
    let (mut rows, mut errors) = (0, Vec::new());
    while let Some(batch) = stream.next().await {
        match batch {
            Ok(batch) => rows += batch.num_rows(),
            Err(error) => errors.push(error),
        }
    }
    assert!(matches!(errors.as_slice(), [QueryError::ResultTooLarge { .. }]), "{errors:?}");
    assert!(rows > 500_000 && stream.end().is_none());
    assert_eq!(report.await.unwrap().stopped, Some(StopReason::Failed(ErrorKind::TooLarge)));
}

#[tokio::test]
async fn a_reader_that_stops_reading_loses_the_query_and_frees_its_slot() {
    let (engine, _folder) =
        engine(SqlLimits { reader_idle_seconds: 1, max_concurrent_queries: 1, ..limits() });
    let (mut stream, report) = watched(stream(&engine, LARGE).await.unwrap());
    assert!(matches!(run(&engine, "SELECT 1").await, Err(QueryError::TooManyQueries { limit: 1 })));
    assert_eq!(report.await.unwrap().stopped, Some(StopReason::Failed(ErrorKind::Timeout)));
    assert_eq!(run(&engine, "SELECT 1").await.unwrap().rows, 1);
    let mut last = None;
    while let Some(batch) = stream.next().await {
        last = Some(batch);
    }
    assert!(matches!(last, Some(Err(QueryError::SlowReader { seconds: 1 }))), "{last:?}");
}

#[tokio::test]
async fn the_time_limit_covers_the_reading_too() {
    let (engine, _folder) = engine(SqlLimits { timeout_seconds: 8, reader_idle_seconds: 60, ..limits() });
    let (stream, report) = watched(stream(&engine, LARGE).await.unwrap());
    assert_eq!(report.await.unwrap().stopped, Some(StopReason::Failed(ErrorKind::Timeout)));
    assert!(matches!(stream.collect().await, Err(QueryError::Timeout { seconds: 8 })));
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_query_and_frees_its_slot() {
    let (engine, _folder) = engine(SqlLimits { max_concurrent_queries: 1, ..limits() });
    let (mut stream, report) = watched(stream(&engine, LARGE).await.unwrap());
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(report.await.unwrap().stopped, Some(StopReason::HungUp));
    assert_eq!(run(&engine, "SELECT 1").await.unwrap().rows, 1);
}

#[tokio::test]
async fn a_sort_beyond_the_memory_pool_goes_on_on_disk_within_the_spill_limit() {
    let sql = "SELECT concat('a text that takes some room, number ', (value * 7919) % 1000003) AS text \
               FROM range(0, 1000000) ORDER BY text";
    let (roomy, _folder) = engine(limits());
    let expected = run(&roomy, sql).await.unwrap();
    let texts = |result: &QueryResult| -> Vec<String> {
        let columns = result.batches.iter().map(|batch| batch.column(0).as_string::<i32>().clone());
        columns
            .flat_map(|column| column.iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>())
            .collect()
    };
    let tight = SqlLimits { memory_pool_bytes: 64 * MIB, ..limits() };
    let (spilling, folder) = engine(tight.clone());
    assert!(texts(&expected) == texts(&run(&spilling, sql).await.unwrap()));
    assert!(spilling.state().runtime_env().disk_manager.used_disk_space() == 0);
    drop(spilling);
    let left = std::fs::read_dir(folder.path().join("spill")).unwrap();
    assert_eq!(left.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(), 0);
    let (full, _folder) = engine(SqlLimits { max_spill_bytes: MIB as u64, ..tight });
    let error = run(&full, sql).await.unwrap_err();
    assert!(matches!(error, QueryError::Spill { .. }), "{error:?}");
    assert!(error.to_string().contains("1048576 bytes"), "{error}");
}

#[tokio::test]
async fn functions_that_make_much_out_of_little_end_with_an_error_that_names_them() {
    let (engine, _folder) = engine(SqlLimits { memory_pool_bytes: 64 * MIB, ..limits() });
    let texts = "(SELECT concat('', value) AS s FROM range(0, 9000)) AS t";
    let doubling = |body: &str| {
        let mut sql = "WITH t0 AS (SELECT concat('v', value) AS s FROM range(0, 9000))".to_owned();
        for level in 1..=30 {
            sql.push_str(&format!(", t{level} AS (SELECT {body} AS s FROM t{})", level - 1));
        }
        format!("{sql} SELECT sum(length(s)) AS n FROM t30")
    };
    for (function, sql) in [
        ("||", doubling("s || s")),
        ("concat", doubling("concat(s, s)")),
        ("concat_ws", doubling("concat_ws('-', s, s)")),
        ("replace", doubling("replace(s, 'v', s)")),
        ("overlay", doubling("overlay(s placing s from 1 for 0)")),
        ("regexp_replace", doubling("regexp_replace(s, '(.*)', '\\1\\1')")),
        ("lpad", format!("SELECT sum(length(lpad(s, 1000000, 'y'))) FROM {texts}")),
        ("rpad", format!("SELECT sum(length(rpad(s, 900000, 'y'))) FROM {texts}")),
        ("lpad", "SELECT lpad('x', 1000000, 'y') AS a FROM range(0, 9000)".to_owned()),
        ("range", "SELECT range(0, 1000000) AS s FROM range(0, 9000)".to_owned()),
        (
            "generate_series",
            "SELECT generate_series(TIMESTAMP '2013-01-01', TIMESTAMP '2030-01-01', INTERVAL '1' SECOND) AS s \
             FROM range(0, 9000)"
                .to_owned(),
        ),
        ("make_array", {
            let copies = vec!["s"; 200].join(", ");
            let wide = format!("SELECT lpad(s, 500, 'y') AS s FROM {texts}");
            format!("SELECT cardinality(make_array({copies})) AS n FROM ({wide}) AS w")
        }),
    ] {
        let error = run(&engine, &sql).await.map(|result| result.rows).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{function}: {error:?}");
        assert!(error.to_string().contains(&format!("`{function}`")), "{function}: {error}");
    }
    let many: Vec<String> =
        (0..501).map(|column| format!("concat('{column}', value) AS c{column}")).collect();
    let error = run(&engine, &format!("SELECT {} FROM range(0, 9)", many.join(", "))).await.unwrap_err();
    assert!(error.to_string().contains("501 times"), "{error}");
}

#[tokio::test]
async fn bounded_functions_keep_their_names_types_and_nulls() {
    let (engine, _folder) = engine(limits());
    let sql = "SELECT 'a' || 1 AS mixed, 'a' || NULL AS none, concat('a', NULL, 2) AS some, \
               'n' || value, value || '-' || value AS both FROM range(3, 4)";
    let result = run(&engine, sql).await.unwrap();
    let shown = String::from_utf8(encode(&result, Format::Json).unwrap()).unwrap();
    let row: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let row = row[0].as_object().unwrap();
    let cells: Vec<Option<&str>> = row.values().map(serde_json::Value::as_str).collect();
    assert_eq!(cells, [Some("a1"), None, Some("a2"), Some("n3"), Some("3-3")], "{shown}");
    assert!(row.keys().any(|name| name.contains("||")), "{shown}");
    let grouped = "SELECT 'k' || (value % 2) AS k, count(*) AS n FROM range(0, 10) \
                   GROUP BY 'k' || (value % 2) HAVING max('k' || value) <> '' ORDER BY 'k' || (value % 2)";
    assert_eq!(run(&engine, grouped).await.unwrap().rows, 2);
}

/// Functions of which the engine has to be told something before it runs them, and one clock for the whole query.
#[tokio::test]
async fn a_query_has_one_now() {
    let (engine, _folder) = engine(limits());
    let before = chrono::Utc::now();
    let sql = "SELECT CAST(now() AS TIMESTAMP) AS t, now() = current_timestamp AS same, current_date = CAST(now() AS DATE) AS day FROM range(0, 2)";
    let result = run(&engine, sql).await.unwrap();
    let batch = &result.batches[0];
    let told = batch.column(0).as_primitive::<TimestampNanosecondType>();
    assert_eq!(told.value(0), told.value(1));
    assert!(told.value(0) >= before.timestamp_nanos_opt().unwrap());
    assert!(batch.column(1).as_boolean().value(0) && batch.column(2).as_boolean().value(0));
    // Each query has its own.
    let later = run(&engine, sql).await.unwrap();
    assert!(later.batches[0].column(0).as_primitive::<TimestampNanosecondType>().value(0) > told.value(0));
}

#[tokio::test]
async fn an_unknown_column_is_told_with_those_that_the_query_could_have_named() {
    let (engine, _folder) = engine(limits());
    let mut namespace = Namespace::default();
    let column = |name: &str| guard::Column { name: name.to_owned(), expression: None };
    namespace.insert(guard::Relation {
        schema: "air".to_owned(),
        name: "flights".to_owned(),
        source: Vec::new(),
        columns: ["carrier", "dep_delay", "dest"].map(column).into(),
        row_filter: None,
        missing_scope: None,
    });
    let names = ["carrier", "dep_delay", "dest", "secret"];
    let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
    let told = async |sql: &str| {
        let table = MemTable::try_new(Arc::new(Schema::new(fields.clone())), vec![vec![]]).unwrap();
        let table: Arc<dyn TableProvider> = Arc::new(table);
        let sql = guard::approve(sql, &namespace, Dialect::DataFusion, 10).unwrap();
        let tables = vec![(("air".to_owned(), "flights".to_owned()), table)];
        engine.run("c", &sql, tables).await.unwrap_err().to_string()
    };
    let message = told("SELECT carrier, dep_dely FROM flights").await;
    assert_eq!(message, "there is no column `dep_dely`; did you mean `dep_delay`?");
    let message = told("SELECT f.zzzz FROM flights f").await;
    assert_eq!(message, "there is no column `f.zzzz`; there are: carrier, dep_delay, dest");
    assert_eq!(told("SELECT secret FROM flights").await, message.replace("f.zzzz", "secret"));
}

async fn numbers(engine: &QueryEngine, sql: &str) -> Vec<i64> {
    let result = run(engine, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let column = |batch: &RecordBatch| {
        arrow::compute::cast(batch.column(0), &DataType::Int64)
            .unwrap()
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    };
    result.batches.iter().flat_map(column).collect()
}

/// M1.
#[tokio::test]
async fn a_recursion_reads_columns_that_nobody_else_reads() {
    let (engine, _folder) = engine(limits());
    let sql = "WITH RECURSIVE t AS (SELECT 1 k, 10 v UNION ALL SELECT 2, 20 FROM t WHERE k = 1) SELECT v FROM t ORDER BY v";
    assert_eq!(numbers(&engine, sql).await, [10, 20]);
    let sql = "WITH RECURSIVE fib AS (SELECT 1 AS n, 0 AS a, 1 AS b UNION ALL SELECT n + 1, b, a + b FROM fib WHERE n < 9) SELECT a FROM fib ORDER BY n";
    assert_eq!(numbers(&engine, sql).await, [0, 1, 1, 2, 3, 5, 8, 13, 21]);
    // In a subquery, beside a join that reads few columns of many, and one in the other.
    let sql = "SELECT count(*) FROM range(0, 5) AS r(x) WHERE x IN (WITH RECURSIVE t AS (SELECT 1 AS a, 0 AS d UNION ALL SELECT t.a, t.d + 1 FROM t WHERE t.d < 2) SELECT d FROM t)";
    assert_eq!(numbers(&engine, sql).await, [3]);
    let sql = "WITH RECURSIVE t AS (SELECT 1 AS a, 0 AS d UNION ALL SELECT t.a + 1, t.d + 1 FROM t WHERE t.a < 3), \
               u AS (SELECT 0 AS x, 1 AS y UNION ALL SELECT u.x + 1, u.y FROM u JOIN t ON t.a = u.y WHERE u.x < 3) \
               SELECT u.x FROM u JOIN t ON t.d = u.x ORDER BY u.x";
    assert_eq!(numbers(&engine, sql).await, [0, 1, 2]);
}

/// M2.
#[tokio::test]
async fn a_limit_of_distinct_rows_counts_each_once() {
    let (engine, _folder) = engine(limits());
    let sql = "WITH s(x) AS (SELECT * FROM (VALUES (0), (1), (2)) AS v ORDER BY 1 LIMIT 3), \
               t AS (SELECT * FROM s UNION ALL SELECT * FROM s UNION ALL SELECT * FROM s) \
               SELECT DISTINCT x FROM t ORDER BY x LIMIT ";
    for (limit, expected) in
        [("3", &[0, 1, 2][..]), ("2", &[0, 1]), ("2 OFFSET 1", &[1, 2]), ("9", &[0, 1, 2])]
    {
        assert_eq!(numbers(&engine, &format!("{sql}{limit}")).await, expected, "{limit}");
    }
    let sql = sql.replace(
        "SELECT DISTINCT x FROM t ORDER BY x",
        "SELECT x FROM t GROUP BY x HAVING count(*) = 3 ORDER BY x",
    );
    assert_eq!(numbers(&engine, &format!("{sql}3")).await, [0, 1, 2]);
}

/// M3.
#[tokio::test]
async fn distinct_rows_of_window_functions_have_a_limit() {
    let (engine, _folder) = engine(limits());
    let sql = "SELECT DISTINCT count(*) OVER (PARTITION BY value % 3) AS n, value % 3 AS k FROM range(0, 10)";
    let mut found = numbers(&engine, sql).await;
    found.sort_unstable();
    assert_eq!(found, [3, 3, 4]);
    assert_eq!(numbers(&engine, &format!("{sql} LIMIT 2")).await.len(), 2);
    assert_eq!(numbers(&engine, "SELECT DISTINCT value % 3 AS k FROM range(0, 10) LIMIT 2").await.len(), 2);
}

/// M4 to M12, and what the guard writes otherwise for the engine's sake: queries with the answers that PostgreSQL gives.
#[tokio::test]
async fn what_the_engine_would_answer_wrongly_is_answered_rightly() {
    let (engine, _folder) = engine(limits());
    let cases: [(&str, &[i64]); 48] = [
        // M4: the second key decides.
        (
            "SELECT month FROM (SELECT CASE WHEN month < 4 THEN 1 ELSE 2 END AS half, month, count(*) AS n \
             FROM (SELECT (value * 7) % 6 AS month FROM range(0, 60)) AS t GROUP BY month ORDER BY half, month LIMIT 3) AS u",
            &[0, 1, 2],
        ),
        (
            "SELECT x FROM (SELECT 'a' AS o, value % 5 AS x, count(*) FROM range(0, 50) GROUP BY value % 5 ORDER BY o, x DESC LIMIT 2) AS u",
            &[4, 3],
        ),
        // M5
        ("SELECT count(*) FROM range(0, 9) WHERE value > 99 GROUP BY 'a'", &[]),
        ("SELECT count(*) FROM range(0, 9) GROUP BY 'a', 'b'", &[9]),
        // M6
        (
            "SELECT count(*) FROM (SELECT DISTINCT t.k FROM range(0, 5) AS a(x) LEFT JOIN \
             (SELECT value AS k, count(*) AS n FROM range(0, 2) GROUP BY value) AS t ON t.k = a.x) AS u",
            &[3],
        ),
        // M7
        (
            "SELECT CASE WHEN k IS NULL THEN -1 ELSE k END FROM (SELECT max(CASE WHEN value < 3 THEN NULL ELSE value END) AS k \
             FROM range(0, 9) GROUP BY value % 4 + CASE WHEN value < 3 THEN 100 ELSE 0 END ORDER BY k DESC NULLS FIRST LIMIT 4) AS u",
            &[-1, -1, -1, 8],
        ),
        // NOT IN with nulls
        (
            "SELECT count(*) FROM range(0, 9) WHERE value NOT IN (SELECT CASE WHEN value = 1 THEN NULL ELSE value END FROM range(0, 3))",
            &[0],
        ),
        ("SELECT count(*) FROM range(0, 9) WHERE value NOT IN (SELECT value FROM range(0, 3))", &[6]),
        // M10
        (
            "SELECT count(*) FROM range(0, 9) WHERE value = 8 OR value NOT IN (SELECT nullif(value, 1) FROM range(0, 3))",
            &[1],
        ),
        (
            "SELECT count(*) FROM range(0, 9) WHERE value = 8 OR value NOT IN (SELECT value FROM range(0, 3))",
            &[6],
        ),
        (
            "SELECT count(*) FROM range(0, 9) WHERE value = 8 OR nullif(value, 5) NOT IN (SELECT value FROM range(0, 3))",
            &[5],
        ),
        (
            "SELECT count(*) FROM range(0, 9) WHERE value = 8 OR nullif(value, 5) NOT IN (SELECT value FROM range(0, 3) WHERE value > 7)",
            &[9],
        ),
        (
            "SELECT count(*) FROM range(0, 9) WHERE value > 2 AND (value = 8 OR value NOT IN (SELECT nullif(value, 1) FROM range(0, 3)))",
            &[1],
        ),
        (
            "SELECT count(*) FROM range(0, 9) WHERE NOT (value IN (SELECT nullif(value, 1) FROM range(0, 3)) AND value < 8)",
            &[1],
        ),
        (
            "SELECT count(*) FROM range(0, 9) WHERE NOT (NOT (value IN (SELECT nullif(value, 1) FROM range(0, 3))))",
            &[2],
        ),
        // M10, of the outer row: 6 is not in {0, 3}; nothing is known of 1 and 7 by {null, 4}; 5 and 8 are not in {2}.
        (
            "SELECT x FROM range(0, 9) AS a(x) WHERE x NOT IN \
             (SELECT nullif(y, 1) FROM range(0, 5) AS b(y) WHERE y % 3 = a.x % 3) ORDER BY x",
            &[5, 6, 8],
        ),
        (
            "SELECT x FROM range(0, 9) AS a(x) WHERE x = 1 OR NOT x IN \
             (SELECT nullif(y, 1) FROM range(0, 5) AS b(y) WHERE y % 3 = a.x % 3) ORDER BY x",
            &[1, 5, 6, 8],
        ),
        // Null is not in a set without rows.
        (
            "SELECT x FROM range(0, 9) AS a(x) WHERE nullif(x, 5) NOT IN \
             (SELECT y FROM range(0, 5) AS b(y) WHERE y = a.x) ORDER BY x",
            &[5, 6, 7, 8],
        ),
        (
            "SELECT x FROM range(0, 9) AS a(x) WHERE nullif(x, 3) NOT IN \
             (SELECT y + 1 FROM range(0, 5) AS b(y) WHERE y = a.x) AND x < 6 ORDER BY x",
            &[0, 1, 2, 4, 5],
        ),
        (
            "SELECT x FROM range(0, 6) AS a(x) WHERE x NOT IN \
             (SELECT max(b.value) + 1 FROM range(0, 5) AS b WHERE b.value = a.x) ORDER BY x",
            &[0, 1, 2, 3, 4],
        ),
        // Of a constant, and by another name.
        ("SELECT count(*) FROM range(0, 9) WHERE 7 NOT IN (SELECT nullif(value, 1) FROM range(0, 3))", &[0]),
        ("SELECT count(*) FROM range(0, 9) WHERE 7 NOT IN (SELECT value FROM range(0, 3))", &[9]),
        (
            "SELECT r.value FROM range(0, 4) AS r WHERE r.value <> ALL (SELECT r.value + 1 FROM range(0, 2) AS r) ORDER BY 1",
            &[0, 3],
        ),
        (
            "SELECT r.value FROM range(0, 4) AS r WHERE r.value = ANY (SELECT r.value + 1 FROM range(0, 2) AS r) ORDER BY 1",
            &[1, 2],
        ),
        (
            "SELECT r.value FROM range(0, 4) AS r WHERE NOT r.value = ANY (SELECT nullif(r.value, 1) FROM range(0, 3) AS r) ORDER BY 1",
            &[],
        ),
        (
            "SELECT r.value FROM range(0, 4) AS r WHERE r.value >= ALL (SELECT r.value FROM range(0, 3) AS r) ORDER BY 1",
            &[2, 3],
        ),
        (
            "SELECT r.value FROM range(0, 4) AS r WHERE r.value < ANY (SELECT r.value FROM range(0, 3) AS r) ORDER BY 1",
            &[0, 1],
        ),
        (
            "SELECT r.value FROM range(0, 4) AS r WHERE NOT r.value < ANY (SELECT nullif(r.value, 0) FROM range(0, 3) AS r) ORDER BY 1",
            &[],
        ),
        // M11
        (
            "SELECT b.n FROM (SELECT count(*) AS n FROM range(0, 3)) AS b \
             LEFT JOIN (SELECT value AS k, 'z' AS s FROM range(0, 3) WHERE value > 7) AS a ON a.k = b.n \
             WHERE a.s NOT IN ('x', 'y')",
            &[],
        ),
        (
            "SELECT n FROM (SELECT count(*) AS n FROM range(0, 3)) AS b WHERE n > 2 AND EXISTS (SELECT 1 FROM range(0, 9) WHERE value > 9)",
            &[],
        ),
        (
            "SELECT n FROM (SELECT value, count(*) AS n FROM range(0, 3) GROUP BY GROUPING SETS ((value), ())) AS b \
             WHERE (SELECT max(value) FROM range(0, 3)) > 2",
            &[],
        ),
        (
            "SELECT n FROM (SELECT * FROM (SELECT count(*) AS n FROM range(0, 3)) AS b WHERE (SELECT max(value) FROM range(0, 3)) > 2) AS c WHERE n >= 0",
            &[],
        ),
        // M12: a union of constants, both sides of an outer join, and grouping sets.
        (
            "SELECT k * 10 + v FROM (SELECT 2 AS k, value AS v FROM range(0, 3) UNION ALL SELECT 1, value FROM range(0, 3)) AS t ORDER BY k, v",
            &[10, 11, 12, 20, 21, 22],
        ),
        (
            "SELECT a.x FROM (SELECT value AS y, value % 2 AS k FROM range(0, 6)) AS b RIGHT JOIN range(0, 6) AS a(x) \
             ON a.x = b.y AND b.k = 1 ORDER BY b.k, a.x",
            &[1, 3, 5, 0, 2, 4],
        ),
        (
            "SELECT a.x FROM range(0, 6) AS a(x) LEFT JOIN (SELECT k, y FROM \
             (SELECT value AS y, value % 2 AS k FROM range(2, 6) LIMIT 9) AS c WHERE k = 1) AS b ON a.x = b.y \
             ORDER BY b.k NULLS FIRST, a.x DESC",
            &[4, 2, 1, 0, 5, 3],
        ),
        (
            "SELECT a.x FROM (SELECT value AS y, 1 AS k FROM range(2, 4)) AS b FULL JOIN range(0, 6) AS a(x) ON a.x = b.y \
             ORDER BY b.k NULLS FIRST, a.x DESC",
            &[5, 4, 1, 0, 3, 2],
        ),
        (
            "SELECT n FROM (SELECT value % 2 AS a, 7 AS b, count(*) AS n FROM range(0, 5) GROUP BY GROUPING SETS ((value % 2), (7))) AS t \
             ORDER BY b NULLS FIRST, a DESC",
            &[2, 3, 5],
        ),
        (
            "SELECT n FROM (SELECT a, b, count(*) AS n FROM (SELECT value % 2 AS a, value / 3 AS b FROM range(0, 6) ORDER BY a, b LIMIT 6) AS s \
             GROUP BY GROUPING SETS ((a), (b))) AS t ORDER BY a, b",
            &[3, 3, 3, 3],
        ),
        (
            "SELECT count(*) FROM (SELECT value FROM range(0, 6) WHERE FALSE GROUP BY ROLLUP (value)) AS t",
            &[1],
        ),
        (
            "SELECT l.v FROM (SELECT value AS v, value / 4 AS j FROM range(0, 3) ORDER BY v LIMIT 3) AS l \
             JOIN (SELECT value / 2 AS k, value / 4 AS j FROM range(0, 4) ORDER BY k LIMIT 4) AS r ON l.j = r.j ORDER BY r.k, l.v",
            &[0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2],
        ),
        // M9
        (
            "SELECT a.value FROM range(0, 9) AS a JOIN range(0, 9) AS b ON a.value = b.value \
             WHERE b.value = ANY (SELECT value FROM range(3, 5)) ORDER BY a.value",
            &[3, 4],
        ),
        // An order with an offset, below what does not read its key.
        (
            "SELECT sum(k) FROM (SELECT value AS k, count(*) AS n FROM range(0, 100) GROUP BY value ORDER BY n DESC, (value * 37) % 101 OFFSET 98) AS t",
            &[30 + 60],
        ),
        // Keys that a join merged.
        (
            "SELECT u FROM (VALUES (1), (2)) AS a(u) JOIN (VALUES (1), (3)) AS b(u) USING (u) WHERE u = 1",
            &[1],
        ),
        (
            "SELECT u FROM (VALUES (1), (2)) AS a(u) LEFT JOIN (VALUES (1), (3)) AS b(u) USING (u) WHERE u < 9 ORDER BY u",
            &[1, 2],
        ),
        (
            "SELECT u FROM (VALUES (1), (2)) AS a(u) NATURAL JOIN (VALUES (2), (3)) AS b(u) WHERE U + 0 > 1",
            &[2],
        ),
        (
            "WITH a AS (SELECT 1 AS u, 5 AS v), b AS (SELECT 1 AS u, 7 AS w), c AS (SELECT 7 AS w, 9 AS x) \
             SELECT x FROM a JOIN b USING (u) JOIN c USING (w) WHERE u = 1 AND w = 7 AND EXISTS (SELECT 1 FROM b WHERE u = 1)",
            &[9],
        ),
        // The form of the textbooks.
        (
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 4) SELECT n FROM t ORDER BY n",
            &[1, 2, 3, 4],
        ),
        (
            "WITH RECURSIVE t(n, m) AS (VALUES (1, 2) UNION ALL SELECT n + 1, m * 2 FROM t WHERE n < 4) SELECT sum(m) FROM t",
            &[30],
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(numbers(&engine, sql).await, expected, "{sql}");
    }
}

/// The engine's checks of its own plans quote them.
#[tokio::test]
async fn a_subquery_that_cannot_run_is_told_with_a_way_out() {
    let (engine, _folder) = engine(limits());
    for condition in [
        "(SELECT count(*) FROM range(0, 5) AS b WHERE b.value < a.x) > 2",
        "x NOT IN (SELECT max(b.value) FROM range(0, 5) AS b WHERE b.value % 3 = a.x % 3 GROUP BY b.value % 2)",
    ] {
        let sql = format!("SELECT x FROM range(0, 6) AS a(x) WHERE {condition}");
        let error = run(&engine, &sql).await.unwrap_err();
        assert!(matches!(error, QueryError::Subquery(_)), "{condition}: {error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

/// Which the engine would take for each other.
#[tokio::test]
async fn names_that_a_subquery_hides_are_told() {
    let (engine, _folder) = engine(limits());
    let from = "SELECT x FROM range(0, 6) AS a(x) CROSS JOIN range(0, 6) AS c(y)";
    for condition in [
        "x NOT IN (SELECT a.x FROM range(0, 3) AS a(x) WHERE a.x <= c.y)",
        "x < ANY (SELECT a.x FROM range(0, 3) AS a(x) WHERE a.x <= c.y)",
        "EXISTS (SELECT 1 FROM (SELECT a.x AS z FROM range(0, 3) AS a(x) WHERE a.x <= c.y) AS d WHERE d.z = a.x)",
    ] {
        let error = run(&engine, &format!("{from} WHERE {condition}")).await.unwrap_err();
        assert!(error.to_string().contains("another alias"), "{condition}: {error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn an_error_of_the_planner_shows_no_plan() {
    let (engine, _folder) = engine(limits());
    let sql = "SELECT value FROM range(0, 9) EXCEPT (SELECT DISTINCT value FROM range(3, 5) ORDER BY value)";
    match run(&engine, sql).await {
        Ok(result) => assert_eq!(result.rows, 7),
        Err(error) => assert!(!error.to_string().contains("Exec"), "{error}"),
    }
}
