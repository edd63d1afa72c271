//! SQLite behind its ADBC driver.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::super::{AdbcWarehouse, QueryTag, RemoteError, Warehouse};
use super::contract::{self, Subject};
use crate::config::{AdbcConfig, AdbcDialect};

async fn database(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("data.sqlite");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let rows = contract::rows("'2020-02-29 08:11:12'").replace("DATE '", "'").replace("TIMESTAMP '", "'");
    let columns = "(id integer, big bigint, amount decimal(12, 2), ratio double, name text, day date, at timestamp, seen timestamp, ok boolean)";
    for sql in [
        format!("CREATE TABLE every_type {columns}"),
        format!("CREATE TABLE no_rows {columns}"),
        format!("INSERT INTO every_type VALUES {rows}"),
        "CREATE TABLE many (id integer, text text)".to_owned(),
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) INSERT INTO many SELECT i, 't' || i FROM n".to_owned(),
        "CREATE TABLE \"odd-name\" (\"select\" integer, \"Ünï cödé\" text, \"we\"\"ird\" text)".to_owned(),
        format!("INSERT INTO \"odd-name\" VALUES (7, 'x', '{}')", "é".repeat(500_000)),
        // A column that is NULL for longer than the driver looks ahead.
        "CREATE TABLE late (id integer, text text)".to_owned(),
        "INSERT INTO late SELECT id, CASE WHEN id > 5000 THEN text END FROM many".to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_contract_and_is_not_written_to() {
    let Some(driver) = super::driver("adbc_driver_sqlite") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path()).await;
    let config = AdbcConfig {
        driver,
        entrypoint: None,
        dialect: AdbcDialect::Sqlite,
        options: [("uri".to_owned(), path.display().to_string().into())].into(),
        max_connections: 4,
    };
    let warehouse = AdbcWarehouse::open("test", &config, Duration::from_secs(30)).unwrap();
    let subject = Subject {
        warehouse: Arc::new(warehouse),
        schema: "main",
        has_zones: false,
        session: datafusion::prelude::SessionContext::new(),
    };
    contract::holds(&subject).await;
    contract::writes_are_refused(
        &subject,
        &[
            "INSERT INTO many VALUES (0, 'x')",
            "DROP TABLE many",
            "UPDATE many SET id = 0",
            "CREATE TABLE x (a)",
        ],
    )
    .await;
    let session = datafusion::prelude::SessionContext::new();
    let late = subject.warehouse.table("main", "late", &QueryTag::default()).await.unwrap();
    session.register_table("late", late).unwrap();
    let found = session.sql("SELECT count(text) AS n FROM late").await.unwrap().collect().await.unwrap();
    assert!(contract::table(&found).contains("| 95000 |"), "{}", contract::table(&found));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_not_what_its_column_declares_is_an_error_that_names_the_column() {
    let Some(driver) = super::driver("adbc_driver_sqlite") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path()).await;
    let mut connection =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&path)).await.unwrap();
    sqlx::query("UPDATE every_type SET day = 'soon' WHERE id = 1").execute(&mut connection).await.unwrap();
    let config = AdbcConfig {
        driver,
        entrypoint: None,
        dialect: AdbcDialect::Sqlite,
        options: [("uri".to_owned(), path.display().to_string().into())].into(),
        max_connections: 4,
    };
    let warehouse = AdbcWarehouse::open("test", &config, Duration::from_secs(30)).unwrap();
    let session = datafusion::prelude::SessionContext::new();
    let table = warehouse.table("main", "every_type", &QueryTag::default()).await.unwrap();
    session.register_table("t", table).unwrap();
    let error = session.sql("SELECT day FROM t").await.unwrap().collect().await.unwrap_err();
    assert!(matches!(contract::told(error), RemoteError::Column { column, .. } if column == "day"));
}
