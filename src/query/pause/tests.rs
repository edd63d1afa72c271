//! Shapes of queries that compute for hours within an operator, ended in the midst of it.

use super::super::*;
use super::*;
use crate::guard::{self, Dialect, Namespace};

/// Hours each, unoptimised as in a test or not.
const SHAPES: &[(&str, &str)] = &[
    (
        "a cross join",
        "SELECT sum(a.value * b.value % 7) AS n FROM range(0, 1000000) AS a CROSS JOIN range(0, 1000000) AS b",
    ),
    (
        "a nested loop that finds nothing",
        "SELECT count(*) AS n FROM range(0, 1000000) AS a JOIN range(0, 1000000) AS b ON a.value + b.value < 0",
    ),
    (
        "a nested loop that keeps what finds nothing",
        "SELECT count(b.value) AS n FROM range(0, 1000000) AS a LEFT JOIN range(0, 1000000) AS b \
         ON a.value + b.value < 0",
    ),
    (
        "a nested loop of both sides",
        "SELECT count(b.value) AS n FROM range(0, 1000000) AS a FULL JOIN range(0, 1000000) AS b \
         ON a.value + b.value < 0",
    ),
    (
        "EXISTS by a nested loop",
        "SELECT count(*) AS n FROM range(0, 1000000) AS a WHERE EXISTS \
         (SELECT 1 FROM range(0, 1000000) AS b WHERE a.value + b.value < 0)",
    ),
    (
        "a semi join without a condition",
        "SELECT count(*) AS n FROM range(0, 1000000) AS a LEFT SEMI JOIN range(0, 1000000) AS b ON TRUE",
    ),
    (
        "a hash join of one key",
        "SELECT count(*) AS n FROM (SELECT value / 2000000 AS k FROM range(0, 1000000)) AS a \
         JOIN (SELECT value / 2000000 AS k FROM range(0, 1000000)) AS b ON a.k = b.k",
    ),
    (
        "a hash join of one key that finds nothing",
        "SELECT count(*) AS n FROM (SELECT value / 2000000 AS k, value AS v FROM range(0, 1000000)) AS a \
         JOIN (SELECT value / 2000000 AS k, value AS v FROM range(0, 1000000)) AS b ON a.k = b.k AND a.v + b.v < 0",
    ),
    (
        "IN of one key",
        "SELECT count(*) AS n FROM (SELECT value / 2000000 AS k FROM range(0, 1000000)) AS a \
         WHERE a.k IN (SELECT value / 2000000 AS k FROM range(0, 1000000))",
    ),
    (
        "NOT EXISTS of one key",
        "SELECT count(*) AS n FROM (SELECT value / 2000000 AS k, value AS v FROM range(0, 1000000)) AS a WHERE NOT EXISTS \
         (SELECT 1 FROM (SELECT value / 2000000 AS k, value AS v FROM range(0, 1000000)) AS b \
         WHERE a.k = b.k AND a.v + b.v < 0)",
    ),
    (
        "a sort below a window",
        "SELECT sum(x * r) AS s FROM (SELECT a.value * 7919 % 1000003 AS x, row_number() OVER \
         (ORDER BY a.value * 7919 % 1000003) AS r FROM range(0, 1000000) AS a CROSS JOIN range(0, 1000) AS b) AS q",
    ),
    (
        "many groups",
        "SELECT count(*) AS n FROM (SELECT a.value * 7919 + b.value AS x FROM range(0, 1000000) AS a \
         CROSS JOIN range(0, 100000) AS b GROUP BY a.value * 7919 + b.value) AS g",
    ),
    (
        "recursion",
        "WITH RECURSIVE steps AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM steps WHERE n < 1000000000) \
         SELECT max(n) AS n FROM steps",
    ),
];

/// Far less than any of them takes, far more than an end does.
const SOON: Duration = Duration::from_secs(15);

fn engine(timeout_seconds: u64) -> (QueryEngine, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let limits = SqlLimits { timeout_seconds, max_concurrent_queries: 1, ..SqlLimits::default() };
    (QueryEngine::new(limits, &folder.path().join("spill")).unwrap(), folder)
}

fn approved(sql: &str) -> ApprovedSql {
    guard::approve(sql, &Namespace::default(), Dialect::DataFusion, 1000)
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn run(engine: &QueryEngine, client: &str, sql: &str) -> Result<QueryResult, QueryError> {
    engine.run(client, &approved(sql), Tables::new()).await
}

/// Waits until the client's only place is free and no task computes any more.
async fn freed(engine: &QueryEngine, shape: &str) {
    let free = async {
        while matches!(run(engine, "c", "SELECT 1 AS x").await, Err(QueryError::TooManyQueries { .. })) {
            tokio::task::yield_now().await;
        }
        while engine.pool.as_ref().unwrap().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(SOON, free).await;
    waited.unwrap_or_else(|_| panic!("{shape}: it goes on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_ends_at_the_time_limit() {
    let (engine, _folder) = engine(1);
    for (shape, sql) in SHAPES {
        let error = run(&engine, "c", sql).await.map(|result| result.rows).unwrap_err();
        assert!(matches!(error, QueryError::Timeout { seconds: 1 }), "{shape}: {error}");
        freed(&engine, shape).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_ends_when_nobody_waits_for_it() {
    let (engine, _folder) = engine(3600);
    for (shape, sql) in SHAPES {
        let left = tokio::time::timeout(Duration::from_millis(500), run(&engine, "c", sql)).await;
        assert!(left.is_err(), "{shape}: {left:?}");
        freed(&engine, shape).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_compute_leave_time_to_others() {
    let (engine, _folder) = engine(3600);
    // More of them than there are threads, in the joins that hand out nothing.
    let silent = SHAPES.iter().filter(|(shape, _)| shape.contains("finds nothing")).cycle();
    let clients = 2 * std::thread::available_parallelism().unwrap().get() + 2;
    let engine = Arc::new(engine);
    let busy: Vec<_> = silent
        .take(clients)
        .enumerate()
        .map(|(at, (_, sql))| {
            let (engine, client) = (engine.clone(), format!("busy{at}"));
            tokio::spawn(async move { run(&engine, &client, sql).await.map(|result| result.rows) })
        })
        .collect();
    for _ in 0..20 {
        let other = run(&engine, "c", "SELECT sum(value) AS n FROM range(0, 100000)");
        let answered = tokio::time::timeout(SOON, other).await.expect("a short query has its turn");
        assert_eq!(answered.unwrap().rows, 1);
    }
    for task in busy {
        assert!(!task.is_finished());
        task.abort();
    }
}

#[tokio::test]
async fn pauses_change_no_result() {
    let (engine, _folder) = engine(300);
    let numbers = "(SELECT value AS v, value % 7 AS k FROM range(0, 3000))";
    for (sql, expected) in [
        (
            format!("SELECT count(*) FROM {numbers} AS a JOIN {numbers} AS b ON a.k = b.k AND a.v < b.v"),
            641_358,
        ),
        (format!("SELECT count(*) FROM {numbers} AS a JOIN {numbers} AS b ON a.v + b.v = 2999"), 3000),
        (format!("SELECT count(*) FROM {numbers} AS a LEFT JOIN {numbers} AS b ON a.v + b.v < 1"), 3000),
        (format!("SELECT count(*) FROM {numbers} AS a LEFT SEMI JOIN {numbers} AS b ON TRUE"), 3000),
        (format!("SELECT count(*) FROM {numbers} AS a LEFT ANTI JOIN {numbers} AS b ON a.v > b.v"), 1),
        (
            format!(
                "SELECT count(*) FROM {numbers} AS a WHERE a.k IN (SELECT v FROM {numbers} AS b WHERE b.v < 3)"
            ),
            1287,
        ),
        (
            format!(
                "SELECT count(*) FROM {numbers} AS a WHERE a.v NOT IN (SELECT v FROM {numbers} AS b WHERE b.k = 0)"
            ),
            2571,
        ),
        (
            format!(
                "SELECT count(*) FROM {numbers} AS a WHERE a.k = 0 OR EXISTS (SELECT 1 FROM {numbers} AS b WHERE b.v = a.v + 2999)"
            ),
            429,
        ),
        (
            format!("SELECT max(s) FROM (SELECT sum(v) OVER (ORDER BY v) AS s FROM {numbers} AS a) AS w"),
            4_498_500,
        ),
    ] {
        let result = run(&engine, "c", &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let shown = encode(&result, Format::Csv).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(shown.lines().nth(1), Some(expected.to_string().as_str()), "{sql}");
    }
}
