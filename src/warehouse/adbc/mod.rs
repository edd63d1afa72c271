//! A database behind an ADBC driver: PostgreSQL, SQLite, DuckDB.
//!
//! A1 Every statement runs in a read-only session, which the server itself enforces, and on PostgreSQL in a read-only
//! transaction with time limits and a pinned search path of its own. A2 At most `max_connections` statements run at a
//! time; the drivers block, so that each has a blocking thread for as long. A3 A connection whose statement failed or was
//! cancelled is closed, not used again. A4 No option's value is in an error or a log.

mod cancel;
mod catalog;
mod fault;
mod pool;
mod run;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::datasource::TableProvider;
use datafusion::execution::SendableRecordBatchStream;

use super::convert::Converter;
use super::remote_table::{Reader, RemoteTable, TableShape};
use super::{
    QueryTag, Remote, RemoteError, RemoteQuery, RemoteSql, Warehouse, WarehouseDialect, WarehouseError,
};
use crate::config::AdbcConfig;
use pool::Pool;
use run::{Take, Work};

/// How long the columns of a table are taken to be what they were.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// A database behind an ADBC driver.
#[derive(Debug)]
pub struct AdbcWarehouse {
    inner: Arc<Inner>,
}

struct Inner {
    dialect: WarehouseDialect,
    pool: Arc<Pool>,
    /// Of statements that no caller sets a limit for.
    timeout: Duration,
    known: Mutex<HashMap<(String, String), (Instant, TableShape)>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AdbcWarehouse").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl AdbcWarehouse {
    /// Loads the driver; the server is asked at the first use. `timeout` limits the scans of federated queries.
    pub fn open(name: &str, config: &AdbcConfig, timeout: Duration) -> Result<Self, WarehouseError> {
        let pool = Arc::new(Pool::open(name, config)?);
        let dialect = WarehouseDialect::from(config.dialect);
        Ok(Self { inner: Arc::new(Inner { dialect, pool, timeout, known: Mutex::default() }) })
    }

    async fn start(&self, query: RemoteQuery, take: Take) -> Result<SendableRecordBatchStream, RemoteError> {
        let RemoteQuery { sql, timeout, tag } = query;
        run::start(self.inner.pool.clone(), Work { sql, timeout, tag, take }).await
    }
}

#[async_trait]
impl Warehouse for AdbcWarehouse {
    async fn table(
        &self,
        schema: &str,
        table: &str,
        tag: &QueryTag,
    ) -> Result<Arc<dyn TableProvider>, WarehouseError> {
        let key = (schema.to_owned(), table.to_owned());
        let known =
            self.inner.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&key).cloned();
        let shape = match known {
            Some((since, shape)) if since.elapsed() < KNOWN_FOR => shape,
            _ => {
                let shape = catalog::look_up(&self.inner, schema, table, tag).await?;
                let mut known = self.inner.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                known.retain(|_, (since, _)| since.elapsed() < KNOWN_FOR);
                known.insert(key.clone(), (Instant::now(), shape.clone()));
                shape
            }
        };
        let reader = TableReader { inner: self.inner.clone(), key };
        Ok(Arc::new(RemoteTable::new(shape, Arc::new(reader), tag.clone())))
    }

    fn dialect(&self) -> WarehouseDialect {
        self.inner.dialect
    }

    fn remote(&self) -> Option<&dyn Remote> {
        Some(self)
    }
}

#[async_trait]
impl Remote for AdbcWarehouse {
    async fn run(&self, query: RemoteQuery) -> Result<SendableRecordBatchStream, RemoteError> {
        self.start(query, Take::Result).await
    }

    async fn estimate(&self, query: RemoteQuery) -> Result<Option<u64>, RemoteError> {
        if self.inner.dialect != WarehouseDialect::PostgreSql {
            return Ok(None);
        }
        let sql = RemoteSql::made(format!("EXPLAIN (FORMAT JSON) {}", query.sql.text()));
        let texts = catalog::texts(&self.inner, RemoteQuery { sql, ..query }, Take::Plan).await?;
        let plan: Option<serde_json::Value> =
            texts.first().and_then(|row| serde_json::from_str(row.first()?).ok());
        Ok(plan.and_then(|plan| plan.pointer("/0/Plan/Plan Rows")?.as_f64()).map(|rows| rows.max(0.0) as u64))
    }
}

/// Reads scans of one table.
#[derive(Debug)]
struct TableReader {
    inner: Arc<Inner>,
    key: (String, String),
}

#[async_trait]
impl Reader for TableReader {
    async fn read(
        &self,
        sql: RemoteSql,
        columns: Converter,
        tag: QueryTag,
    ) -> Result<SendableRecordBatchStream, RemoteError> {
        let has_blanks = self.inner.dialect == WarehouseDialect::Sqlite;
        let take = Take::Table { columns, has_blanks };
        let work = Work { sql, timeout: self.inner.timeout, tag, take };
        let started = run::start(self.inner.pool.clone(), work).await;
        if matches!(started, Err(RemoteError::Changed)) {
            self.inner.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(&self.key);
        }
        started
    }
}
