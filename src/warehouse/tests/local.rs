//! Files.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::compute::concat_batches;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{ParquetReadOptions, SessionContext};

use super::super::LocalWarehouse;
use super::contract::{self, Subject};

#[tokio::test]
async fn files_keep_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let session = SessionContext::new();
    write_tables(folder.path(), &session).await;
    let warehouse = LocalWarehouse::new(folder.path().to_owned(), session.state());
    contract::holds(&Subject { warehouse: Arc::new(warehouse), schema: "data", has_zones: true, session })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lance_datasets_keep_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let session = SessionContext::new();
    write_datasets(folder.path(), &session).await;
    let warehouse = LocalWarehouse::new(folder.path().to_owned(), session.state());
    contract::holds(&Subject { warehouse: Arc::new(warehouse), schema: "data", has_zones: true, session })
        .await;
}

/// The tables of the contract as Lance datasets below `folder`.
pub async fn write_datasets(folder: &Path, session: &SessionContext) {
    let files = tempfile::tempdir().unwrap();
    write_tables(files.path(), session).await;
    let connection = lancedb::connect(folder.join("data").to_str().unwrap()).execute().await.unwrap();
    for entry in std::fs::read_dir(files.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        let rows = session.read_parquet(path.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
        let schema = Arc::new(rows.schema().as_arrow().clone());
        let rows = concat_batches(&schema, &rows.collect().await.unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        connection.create_table(name, rows).execute().await.unwrap();
    }
}

/// The tables of the contract as files below `folder`.
pub async fn write_tables(folder: &Path, session: &SessionContext) {
    let seen = "arrow_cast('2020-02-29T08:11:12Z', 'Timestamp(Microsecond, Some(\"UTC\"))')";
    let every = format!(
        "SELECT arrow_cast(id, 'Int32') AS id, big, arrow_cast(amount, 'Decimal128(12, 2)') AS amount, \
         arrow_cast(ratio, 'Float64') AS ratio, name, day, arrow_cast(at, 'Timestamp(Microsecond, None)') AS at, seen, ok \
         FROM (VALUES {}) AS t(id, big, amount, ratio, name, day, at, seen, ok)",
        contract::rows(seen)
    );
    for (table, sql) in [
        ("every_type", every.clone()),
        ("no_rows", format!("{every} WHERE id > 3")),
        (
            "many",
            "SELECT value AS id, 't' || value AS text FROM generate_series(1, 100000) AS g(value)".to_owned(),
        ),
        (
            "odd-name",
            "SELECT 7 AS \"select\", 'x' AS \"Ünï cödé\", repeat('é', 500000) AS \"we\"\"ird\"".to_owned(),
        ),
    ] {
        let path = folder.join(format!("data/{table}.parquet"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let frame = session.sql(&sql).await.unwrap();
        let options = DataFrameWriteOptions::new().with_single_file_output(true);
        frame.write_parquet(path.to_str().unwrap(), options, None).await.unwrap();
    }
}
