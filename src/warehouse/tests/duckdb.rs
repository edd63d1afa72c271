//! DuckDB behind its own ADBC entry point.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adbc_core::options::{AdbcVersion, OptionDatabase};
use adbc_core::{Connection, Database, Driver, Statement};
use adbc_driver_manager::ManagedDriver;

use super::super::AdbcWarehouse;
use super::contract::{self, Subject};
use crate::config::{AdbcConfig, AdbcDialect};

const ENTRYPOINT: &str = "duckdb_adbc_init";

fn make(driver: &Path, path: &Path) {
    let mut driver =
        ManagedDriver::load_dynamic_from_filename(driver, Some(ENTRYPOINT.as_bytes()), AdbcVersion::V110)
            .unwrap();
    let options = [(OptionDatabase::Other("path".to_owned()), path.to_str().unwrap().into())];
    let mut connection = driver.new_database_with_opts(options).unwrap().new_connection().unwrap();
    let columns = "(id integer, big bigint, amount decimal(12, 2), ratio double, name text, day date, \"at\" timestamp, seen timestamptz, ok boolean)";
    for sql in [
        "SET TimeZone = 'UTC'".to_owned(),
        format!("CREATE TABLE every_type {columns}"),
        format!("CREATE TABLE no_rows {columns}"),
        format!(
            "INSERT INTO every_type VALUES {}",
            contract::rows("TIMESTAMPTZ '2020-02-29 08:11:12+00:00'")
        ),
        "CREATE TABLE many AS SELECT range AS id, 't' || range AS text FROM range(1, 100001)".to_owned(),
        "CREATE TABLE \"odd-name\" (\"select\" integer, \"Ünï cödé\" text, \"we\"\"ird\" text)".to_owned(),
        "INSERT INTO \"odd-name\" VALUES (7, 'x', repeat('é', 500000))".to_owned(),
    ] {
        let mut statement = connection.new_statement().unwrap();
        statement.set_sql_query(&sql).unwrap();
        statement.execute_update().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duckdb_keeps_the_contract_and_neither_writes_nor_reads_other_files() {
    let Some(driver) = super::driver("duckdb") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.duckdb");
    make(&driver, &path);
    let config = AdbcConfig {
        driver,
        entrypoint: Some(ENTRYPOINT.to_owned()),
        dialect: AdbcDialect::Duckdb,
        options: [("path".to_owned(), path.display().to_string().into())].into(),
        max_connections: 4,
    };
    let warehouse = AdbcWarehouse::open("test", &config, Duration::from_secs(30)).unwrap();
    let subject = Subject {
        warehouse: Arc::new(warehouse),
        schema: "main",
        has_zones: true,
        session: datafusion::prelude::SessionContext::new(),
    };
    contract::holds(&subject).await;
    contract::writes_are_refused(
        &subject,
        &[
            "INSERT INTO many VALUES (0, 'x')",
            "DROP TABLE many",
            "CREATE TABLE x (a integer)",
            "SELECT * FROM read_text('/etc/hostname')",
        ],
    )
    .await;
    for sql in
        ["SET enable_external_access = true", "SET lock_configuration = false", "COPY many TO '/tmp/x.csv'"]
    {
        assert!(contract::whole(&subject, sql).await.is_err(), "{sql}");
    }
    contract::time_is_limited(&subject, "SELECT count(*) AS n FROM range(1000000000000) WHERE range % 7 = 3")
        .await;
}
