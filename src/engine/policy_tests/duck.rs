//! A third opinion: the same query on DuckDB, over the copy that holds the permitted rows and values alone. Both sides
//! of the proof plan with one engine, so that what it plans wrongly for both would go unseen.
//!
//! Where the two systems mean different things by one text, it is settled here, or in the grammar by a form that both
//! read alike:
//! - `/` of integers keeps fractions in DuckDB: set to drop them. Nothing is divided by zero on permitted rows, where
//!   one fails and the other gives NULL.
//! - Nulls are last in DuckDB, whatever the direction: set to PostgreSQL's way, as DataFusion has it.
//! - A join that filters is a LEFT SEMI JOIN here and a SEMI JOIN there; RIGHT ones are not known, and left out.
//! - A sum is wider in DuckDB, a decimal without fraction in Arrow: numbers are compared by value ([`cell`]).
//! - DuckDB rounds where DataFusion cuts when it casts to a whole number: the grammar takes TRUNC before.
//! - The columns of VALUES have other names: the grammar names them.
//! - A column of nothing but NULL has no type with either, so it is an expression in both.

use std::path::Path;
use std::sync::Mutex;

use adbc_core::options::AdbcVersion;
use adbc_core::{Connection, Database, Driver, Statement};
use adbc_driver_manager::{ManagedConnection, ManagedDriver};
use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::query::Query;
use super::world::{Kind, Seen};

pub struct Duck {
    connection: Mutex<ManagedConnection>,
}

impl Duck {
    /// A database in memory; nothing, with a message, where the driver is missing.
    pub fn open() -> Option<Self> {
        let driver = crate::warehouse::tests::driver("duckdb")?;
        let mut driver =
            ManagedDriver::load_dynamic_from_filename(driver, Some(b"duckdb_adbc_init"), AdbcVersion::V110)
                .unwrap();
        let connection = driver.new_database().unwrap().new_connection().unwrap();
        let duck = Self { connection: Mutex::new(connection) };
        for sql in [
            "SET threads = 1",
            // A window may be ordered by a constant.
            "SET order_by_non_integer_literal = true",
            // Of no rows, the first one of ROW_NUMBER was a row of NULL (DuckDB 1.5.5).
            "SET disabled_optimizers = 'top_n_window_elimination'",
            "SET integer_division = true",
            "SET default_null_order = 'nulls_last_on_asc_first_on_desc'",
        ] {
            duck.run(sql).unwrap();
        }
        Some(duck)
    }

    /// Makes the tables the schema `m`, as they were written below `folder`.
    pub fn serve(&self, folder: &Path, tables: &[Seen]) {
        for sql in ["DROP SCHEMA IF EXISTS m CASCADE", "CREATE SCHEMA m", "SET schema = 'm'"] {
            self.run(sql).unwrap();
        }
        for table in tables {
            let column = |(name, kind): &(String, Kind)| match kind {
                Kind::Any => format!("NULL AS {name}"),
                _ => name.clone(),
            };
            let columns = table.columns.iter().map(column).collect::<Vec<_>>().join(", ");
            let file = folder.join(format!("{}.parquet", table.name));
            let sql = format!(
                "CREATE VIEW m.{} AS SELECT {columns} FROM read_parquet('{}')",
                table.name,
                file.display()
            );
            self.run(&sql).unwrap();
        }
    }

    /// The rows as texts, sorted unless the query orders them; or what DuckDB says against the query.
    pub fn answer(&self, query: &Query) -> Result<Vec<Vec<String>>, String> {
        let sql = query.sql.replace("LEFT SEMI JOIN", "SEMI JOIN").replace("LEFT ANTI JOIN", "ANTI JOIN");
        let mut rows = texts(&self.run(&sql)?);
        if !query.is_ordered {
            rows.sort();
        }
        Ok(rows)
    }

    fn run(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        let mut connection = self.connection.lock().unwrap();
        let mut statement = connection.new_statement().map_err(|error| error.to_string())?;
        statement.set_sql_query(sql).map_err(|error| error.to_string())?;
        let reader = statement.execute().map_err(|error| error.to_string())?;
        reader.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }
}

/// Rows as texts that are equal where the values are.
pub fn texts(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| (column.data_type(), ArrayFormatter::try_new(column, &options).unwrap()))
            .collect();
        for row in 0..batch.num_rows() {
            let texts = columns.iter().map(|(kind, column)| cell(kind, column.value(row).to_string()));
            rows.push(texts.collect());
        }
    }
    rows
}

/// A number by its value, whatever its type; fractions to ten digits, since the order of a sum is nobody's promise.
fn cell(kind: &DataType, text: String) -> String {
    match (kind, text.parse::<f64>()) {
        (DataType::Float32 | DataType::Float64 | DataType::Decimal128(..), Ok(number)) => {
            if number.fract() == 0.0 && number.abs() < 1e15 {
                (number as i64).to_string()
            } else {
                format!("{number:.9e}")
            }
        }
        _ => text,
    }
}
