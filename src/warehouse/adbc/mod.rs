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

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::datasource::TableProvider;
use datafusion::execution::SendableRecordBatchStream;

use super::convert::Converter;
use super::remote_table::{KnownTables, Reader, RemoteTable};
use super::{
    QueryTag, Remote, RemoteError, RemoteQuery, RemoteSql, Warehouse, WarehouseDialect, WarehouseError,
};
use crate::config::AdbcConfig;
use pool::Pool;
use run::{Take, Work};

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
    known: KnownTables,
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
        Ok(Self { inner: Arc::new(Inner { dialect, pool, timeout, known: KnownTables::default() }) })
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
        let look_up = catalog::look_up(&self.inner, schema, table, tag);
        let shape = self.inner.known.get_or(schema, table, look_up).await?;
        Ok(Arc::new(RemoteTable::new(shape, self.inner.clone(), tag.clone())))
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

#[async_trait]
impl Reader for Inner {
    async fn read(
        &self,
        sql: RemoteSql,
        columns: Converter,
        tag: QueryTag,
    ) -> Result<SendableRecordBatchStream, RemoteError> {
        let has_blanks = self.dialect == WarehouseDialect::Sqlite;
        let take = Take::Table { columns, has_blanks };
        let work = Work { sql, timeout: self.timeout, tag, take };
        let started = run::start(self.pool.clone(), work).await;
        if matches!(started, Err(RemoteError::Changed)) {
            self.known.forget();
        }
        started
    }
}
