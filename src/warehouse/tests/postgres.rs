//! PostgreSQL behind its ADBC driver: a real server, and a role with as few rights as docs/warehouses.md gives it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{AdbcWarehouse, QueryTag, RemoteError, Warehouse, WarehouseError};
use super::contract::{self, Subject, unguarded};
use super::postgres_server::Postgres;
use crate::config::{AdbcConfig, AdbcDialect};

/// A server, a superuser's connection to the data, and the service's view of them.
struct Server {
    _postgres: Postgres,
    owner: sqlx::PgPool,
    subject: Subject,
    uri: String,
}

fn warehouse(uri: &str, max_connections: usize) -> Option<AdbcWarehouse> {
    let config = AdbcConfig {
        driver: super::driver("adbc_driver_postgresql")?,
        entrypoint: None,
        dialect: AdbcDialect::Postgresql,
        options: [("uri".to_owned(), uri.to_owned().into())].into(),
        max_connections,
    };
    Some(AdbcWarehouse::open("test", &config, Duration::from_secs(30)).unwrap())
}

async fn server() -> Option<Server> {
    super::driver("adbc_driver_postgresql")?;
    let postgres = Postgres::start()?;
    let url = postgres.database("data", "postgresql").await;
    let owner = sqlx::PgPool::connect(&url).await.unwrap();
    let password = postgres.password().to_owned();
    let columns = "(id integer, big bigint, amount numeric(12, 2), ratio double precision, name text, day date, at timestamp, seen timestamptz, ok boolean)";
    for sql in [
        format!("CREATE TABLE every_type {columns}"),
        format!("CREATE TABLE no_rows {columns}"),
        format!("INSERT INTO every_type VALUES {}", contract::rows("TIMESTAMPTZ '2020-02-29 10:11:12+02:00'")),
        "CREATE TABLE many AS SELECT n AS id, 't' || n AS text FROM generate_series(1, 100000) AS g(n)".to_owned(),
        "CREATE TABLE \"odd-name\" (\"select\" integer, \"Ünï cödé\" text, \"we\"\"ird\" text)".to_owned(),
        "INSERT INTO \"odd-name\" VALUES (7, 'x', repeat('é', 500000))".to_owned(),
        "CREATE TABLE rest (n numeric, m numeric(40, 3), u uuid, j jsonb, ip inet, c char(5), p money, a int[], i interval)".to_owned(),
        "INSERT INTO rest VALUES (5.123, 1234567890123456789012345678901234567.125, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": 1}', '10.0.0.1', 'ab', 3.5, '{1,2}', '1 day')".to_owned(),
        "CREATE COLLATION case_blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)".to_owned(),
        "CREATE TABLE blind (name text COLLATE case_blind)".to_owned(),
        "INSERT INTO blind VALUES ('a'), ('A')".to_owned(),
        "CREATE TABLE partly (open integer, closed integer)".to_owned(),
        "CREATE TABLE closed (a integer)".to_owned(),
        format!("CREATE ROLE reader LOGIN PASSWORD '{password}'"),
        "GRANT USAGE ON SCHEMA public TO reader".to_owned(),
        "GRANT SELECT ON every_type, no_rows, many, \"odd-name\", rest, blind TO reader".to_owned(),
        "GRANT SELECT (open) ON partly TO reader".to_owned(),
        // More than the service should have: what keeps it from writing is its own session.
        "GRANT INSERT, UPDATE, DELETE ON many TO reader".to_owned(),
        "GRANT CREATE ON SCHEMA public TO reader".to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&owner).await.unwrap();
    }
    let uri = url.replace("//steward:", "//reader:");
    let subject = Subject {
        warehouse: Arc::new(warehouse(&uri, 4)?),
        schema: "public",
        has_zones: true,
        session: datafusion::prelude::SessionContext::new(),
    };
    Some(Server { _postgres: postgres, owner, subject, uri })
}

/// Sessions of the service that run something like `text` now.
async fn running(server: &Server, text: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND state = 'active' AND query LIKE $1",
    )
    .bind(format!("%{text}%"))
    .fetch_one(&server.owner)
    .await
    .unwrap()
}

/// Waits for a condition of the server; it has ten seconds.
async fn eventually(server: &Server, text: &str, count: i64) {
    let until = Instant::now() + Duration::from_secs(10);
    while running(server, text).await != count {
        assert!(Instant::now() < until, "not {count} of {text}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_keeps_the_contract() {
    let Some(server) = server().await else { return };
    contract::holds(&server.subject).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_itself_refuses_what_writes_or_leaves_the_session() {
    let Some(server) = server().await else { return };
    contract::writes_are_refused(
        &server.subject,
        &[
            "INSERT INTO public.many VALUES (0, 'x')",
            "UPDATE public.many SET id = 0",
            "DELETE FROM public.many",
            "CREATE TABLE public.x (a integer)",
            "DROP TABLE public.many",
            "SELECT a FROM public.closed",
            "SELECT nextval(pg_get_serial_sequence('public.many', 'id')) FROM public.closed",
        ],
    )
    .await;
    for sql in [
        "SET TRANSACTION READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "COMMIT; DROP TABLE public.many",
        "SELECT 1; DROP TABLE public.many",
    ] {
        assert!(contract::whole(&server.subject, sql).await.is_err(), "{sql}");
    }
    // What a statement changes of its session ends with it.
    let changed = "SELECT set_config('statement_timeout', '0', false), set_config('default_transaction_read_only', 'off', false)";
    contract::whole(&server.subject, changed).await.unwrap();
    let after = "SELECT current_setting('statement_timeout') AS t, current_setting('transaction_read_only') AS r, current_setting('search_path') AS s, current_setting('application_name') AS a";
    let shown = contract::table(&contract::whole(&server.subject, after).await.unwrap());
    assert!(shown.contains("| 30s | on | pg_catalog, pg_temp | steward contract r-1 |"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_query_ends_at_the_server_and_time_is_limited_there() {
    let Some(server) = server().await else { return };
    let endless = "SELECT count(*) AS n FROM public.many a, public.many b, public.many c";
    let remote = server.subject.warehouse.remote().unwrap();
    let mut waiting = remote.run(unguarded(endless, Duration::from_secs(300)));
    tokio::select! {
        _ = &mut waiting => panic!("an endless query ended"),
        () = eventually(&server, "public.many c", 1) => {}
    }
    drop(waiting);
    eventually(&server, "public.many c", 0).await;
    // One whose rows are being read.
    let rows = "SELECT a.id, repeat('x', 1000) AS t FROM public.many a, public.many b";
    let stream = remote.run(unguarded(rows, Duration::from_secs(300))).await.unwrap();
    eventually(&server, "repeat('x', 1000)", 1).await;
    drop(stream);
    eventually(&server, "repeat('x', 1000)", 0).await;
    contract::time_is_limited(&server.subject, endless).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_whole_queries_keep_every_digit_and_name() {
    let Some(server) = server().await else { return };
    let shown = |sql: &'static str| {
        let subject = &server.subject;
        async move {
            let found = contract::whole(subject, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            contract::table(&found)
        }
    };
    let sums =
        shown("SELECT sum(amount) AS s, avg(id) AS a, count(*) AS n, 1 AS x, 2 AS x FROM public.every_type")
            .await;
    assert!(sums.contains("| 12.49 | 2.0000000000000000 | 3 | 1 | 2 |"), "{sums}");
    let rest = shown("SELECT n, m, u, j, c, p, a FROM public.rest").await;
    assert!(
        rest.contains("| 5.123 | 1234567890123456789012345678901234567.125 | a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 | {\"a\": 1} | ab    | 3.50 | [1, 2] |"),
        "{rest}"
    );
    let mixed = "SELECT (CASE WHEN n = 200000 THEN 0.12345 ELSE 1.5 END)::numeric AS v, repeat('x', 100) AS t FROM generate_series(1, 200000) AS g(n)";
    for (sql, column) in
        [("SELECT 'NaN'::numeric AS v", "v"), (mixed, "v"), ("SELECT ip FROM public.rest", "ip")]
    {
        let outcome = contract::whole(&server.subject, sql).await;
        assert!(
            matches!(&outcome, Err(RemoteError::Column { column: found, .. }) if found == column),
            "{sql}: {outcome:?}"
        );
    }
    let empty =
        contract::whole(&server.subject, "SELECT id, name FROM public.every_type WHERE false").await.unwrap();
    assert_eq!((empty[0].num_rows(), empty[0].num_columns()), (0, 2));
    let estimate = server.subject.warehouse.remote().unwrap();
    let rows =
        estimate.estimate(unguarded("SELECT id FROM public.many LIMIT 5", Duration::from_secs(5))).await;
    assert_eq!(rows, Ok(Some(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_with_types_collations_and_columns_of_postgresqls_own_can_be_read() {
    let Some(server) = server().await else { return };
    let session = datafusion::prelude::SessionContext::new();
    for table in ["rest", "blind", "partly"] {
        let provider = server.subject.warehouse.table("public", table, &QueryTag::default()).await.unwrap();
        session.register_table(table, provider).unwrap();
    }
    let shown = |sql: &'static str| {
        let session = session.clone();
        async move { contract::table(&session.sql(sql).await.unwrap().collect().await.unwrap()) }
    };
    let rest = shown(
        "SELECT n, u, ip, p, c FROM rest WHERE u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' AND c = 'ab   '",
    )
    .await;
    assert!(
        rest.contains(
            "| 5.123000000000000000 | a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 | 10.0.0.1/32 | 3.50 | ab    |"
        ) || rest.contains("10.0.0.1 "),
        "{rest}"
    );
    // Equal to the server, not to DataFusion.
    assert!(shown("SELECT count(*) AS n FROM blind WHERE name = 'a'").await.contains("| 1 |"));
    let partly = shown("SELECT * FROM partly").await;
    assert!(!partly.contains("closed"), "{partly}");
    let closed = server.subject.warehouse.table("public", "closed", &QueryTag::default()).await;
    assert!(matches!(closed, Err(WarehouseError::UnknownTable { .. })), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_hold_neither_secrets_nor_values_nor_what_the_guard_wrote() {
    let Some(server) = server().await else { return };
    for (sql, expected) in [
        ("SELECT nocol FROM public.many", Some("nocol")),
        ("SELECT id + 'x'::text FROM public.many", Some("operator")),
        ("SELECT text::int FROM public.many", None),
        ("SELECT 1 / (id - 5) FROM public.many", None),
        ("SELECT * FROM public.not_there", None),
        ("SELECT a FROM public.closed", None),
    ] {
        let error = contract::whole(&server.subject, sql).await.unwrap_err().to_string();
        assert!(expected.is_none_or(|expected| error.contains(expected)), "{sql}: {error}");
        for hidden in ["t1", "LINE", "public.", "closed", "not_there", "libpq", "COPY"] {
            assert!(!error.contains(hidden), "{sql}: {error}");
        }
    }
    let (before, after) = server.uri.split_once("reader:").unwrap();
    let (password, host) = after.split_once('@').unwrap();
    for uri in [
        format!("{before}reader:hunter2@{host}"),
        format!("{before}reader:{password}@127.0.0.1:1/data"),
        format!("{before}reader:{password}@{host}&&&"),
        format!("postgresql//reader:{password}@{host}"),
    ] {
        let warehouse = warehouse(&uri, 1).unwrap();
        let error = warehouse.table("public", "many", &QueryTag::default()).await.unwrap_err();
        let told = format!("{error} {error:?} {warehouse:?}");
        assert!(
            !told.contains(password) && !told.contains("hunter2") && !told.contains("127.0.0.1"),
            "{told}"
        );
        assert_eq!(error.kind(), crate::error::ErrorKind::Unavailable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_closed_are_replaced_and_never_more_than_allowed() {
    let Some(server) = server().await else { return };
    let warehouse = Arc::new(warehouse(&server.uri, 2).unwrap());
    let subject = Subject {
        warehouse: warehouse.clone(),
        schema: "public",
        has_zones: true,
        session: datafusion::prelude::SessionContext::new(),
    };
    let read = || contract::whole(&subject, "SELECT count(*) AS n FROM public.many");
    let all = futures::future::join_all((0..8).map(|_| read())).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let open: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'steward%' OR usename = 'reader'",
    )
    .fetch_one(&server.owner)
    .await
    .unwrap();
    // The driver itself keeps one for its types.
    assert!(open <= 3, "{open}");
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'")
        .execute(&server.owner)
        .await
        .unwrap();
    read().await.unwrap();
    let busy = "SELECT a.id, repeat('x', 1000) AS t FROM public.many a, public.many b";
    let remote = subject.warehouse.remote().unwrap();
    let _one = remote.run(unguarded(busy, Duration::from_secs(60))).await.unwrap();
    let _two = remote.run(unguarded(busy, Duration::from_secs(60))).await.unwrap();
    let waited = remote.run(unguarded("SELECT 1 AS one", Duration::from_secs(1))).await;
    assert!(matches!(waited, Err(RemoteError::Busy)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_between_the_rows_is_told_as_what_fails_before_them() {
    let Some(server) = server().await else { return };
    let subject = Subject {
        warehouse: Arc::new(warehouse(&server.uri, 2).unwrap()),
        schema: "public",
        has_zones: true,
        session: datafusion::prelude::SessionContext::new(),
    };
    for sql in ["SELECT 1 / 0 AS a", "SELECT sum(100 / (id - 2)) AS a FROM public.many"] {
        let outcome = contract::whole(&subject, sql).await;
        assert!(
            matches!(&outcome, Err(RemoteError::Data { message }) if message == "division by zero"),
            "{sql}: {outcome:?}"
        );
    }
}
