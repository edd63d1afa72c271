//! Runs approved queries on DataFusion: one engine for metadata, responses and warehouse data.
//!
//! Q1 A query's session holds the relations that the guard saw it touch, and nothing else: what was not approved is
//! not there to be found. Q2 Limits are enforced here: time, rows, bytes, memory, concurrency.
//! Queries have threads of their own: one that computes for long without a pause delays no other request, its caller
//! hears of the time limit in time, and it keeps its place among the client's concurrent queries until it really ends.
//! Q3 What a caller sees of an engine error names nothing but what the caller wrote.

mod encode;
mod error;
mod records;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::datasource::TableProvider;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::SqlLimits;
use crate::guard::{ApprovedSql, PHYSICAL_CATALOG};

pub use encode::{Format, encode};
pub use error::QueryError;
pub use records::{RecordsError, records_to_batch, write_parquet};

/// What a relation is read from: `(schema, name)` as the guard wrote it, and its rows.
pub type Tables = Vec<((String, String), Arc<dyn TableProvider>)>;

/// A finished result.
#[derive(Debug, Clone)]
pub struct QueryResult {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub rows: usize,
    /// The row limit that cut the result, if one did.
    pub truncated_at: Option<usize>,
    pub elapsed: Duration,
}

/// The DataFusion engine with its limits. Cheap to share.
#[derive(Debug)]
pub struct QueryEngine {
    /// Taken in `drop` alone.
    pool: Option<tokio::runtime::Runtime>,
    template: SessionState,
    limits: SqlLimits,
    running: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl QueryEngine {
    /// Fails only when the engine itself cannot start, such as without a folder for spill files.
    pub fn new(limits: SqlLimits) -> Result<Self, QueryError> {
        let pool = TrackConsumersPool::new(
            FairSpillPool::new(limits.memory_pool_bytes),
            std::num::NonZeroUsize::new(3).expect("three is not zero"),
        );
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .build_arc()
            .map_err(QueryError::from_engine)?;
        let pool = tokio::runtime::Builder::new_multi_thread()
            .thread_name("query")
            // Plans recurse deeply, above all unoptimised.
            .thread_stack_size(8 * 1024 * 1024)
            .enable_all()
            .build()
            .map_err(QueryError::Threads)?;
        let running = Mutex::new(HashMap::new());
        Ok(Self { pool: Some(pool), template: template(runtime), limits, running })
    }

    /// For those who open tables: its object stores and caches.
    pub fn state(&self) -> &SessionState {
        &self.template
    }

    pub fn limits(&self) -> &SqlLimits {
        &self.limits
    }

    /// Plans an approved query without running it. Errors are those of names and types.
    pub async fn plan(&self, sql: &ApprovedSql, tables: Tables) -> Result<LogicalPlan, QueryError> {
        let (state, sql) = (self.session(tables)?, sql.clone());
        self.within_time(async move { plan(&state, &sql).await }).await
    }

    /// Runs an approved query for a client and collects its result within the limits. Dropping the future cancels it.
    pub async fn run(
        &self,
        client: &str,
        sql: &ApprovedSql,
        tables: Tables,
    ) -> Result<QueryResult, QueryError> {
        let permit = self.admit(client)?;
        let started = Instant::now();
        let (state, sql, limit_bytes) = (self.session(tables)?, sql.clone(), self.limits.max_result_bytes);
        let work = async move {
            let _permit = permit;
            collect(&state, &sql, limit_bytes).await
        };
        let mut result = self.within_time(work).await?;
        result.elapsed = started.elapsed();
        Ok(result)
    }

    /// Does `work` on the query threads, until it ends, its time is over, or nobody waits for it any more.
    async fn within_time<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let pool = self.pool.as_ref().ok_or(QueryError::Crashed)?;
        let mut task = AbortOnDrop(pool.spawn(work));
        let seconds = self.limits.timeout_seconds;
        match tokio::time::timeout(Duration::from_secs(seconds), &mut task.0).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => {
                tracing::error!(%error, "a query did not end as it should");
                Err(QueryError::Crashed)
            }
            Err(_) => Err(QueryError::Timeout { seconds }),
        }
    }

    fn admit(&self, client: &str) -> Result<OwnedSemaphorePermit, QueryError> {
        let mut running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Clients that run nothing are forgotten, so that the map stays as small as the load.
        running.retain(|_, slots| Arc::strong_count(slots) > 1);
        let slots = running
            .entry(client.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(self.limits.max_concurrent_queries)));
        slots
            .clone()
            .try_acquire_owned()
            .map_err(|_| QueryError::TooManyQueries { limit: self.limits.max_concurrent_queries })
    }

    /// Q1: a session that knows only `tables`.
    fn session(&self, tables: Tables) -> Result<SessionState, QueryError> {
        let catalog = MemoryCatalogProvider::new();
        for ((schema, name), provider) in tables {
            let schema_provider: Arc<dyn SchemaProvider> = match catalog.schema(&schema) {
                Some(known) => known,
                None => {
                    let new: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                    catalog.register_schema(&schema, new.clone()).map_err(QueryError::from_engine)?;
                    new
                }
            };
            schema_provider.register_table(name, provider).map_err(QueryError::from_engine)?;
        }
        let list = MemoryCatalogProviderList::new();
        list.register_catalog(PHYSICAL_CATALOG.to_owned(), Arc::new(catalog));
        Ok(SessionStateBuilder::new_from_existing(self.template.clone())
            .with_catalog_list(Arc::new(list))
            .build())
    }
}

impl Drop for QueryEngine {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            // Waiting here could block an async thread, for as long as a query computes.
            pool.shutdown_background();
        }
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn collect(
    state: &SessionState,
    sql: &ApprovedSql,
    limit_bytes: usize,
) -> Result<QueryResult, QueryError> {
    let logical = plan(state, sql).await?;
    let physical = state.create_physical_plan(&logical).await.map_err(QueryError::from_engine)?;
    let schema = physical.schema();
    let mut stream = execute_stream(physical, state.task_ctx()).map_err(QueryError::from_engine)?;
    let (mut batches, mut rows, mut bytes) = (Vec::new(), 0, 0);
    let max_rows = sql.max_rows();
    let mut truncated_at = None;
    while let Some(batch) = stream.next().await {
        let mut batch = batch.map_err(QueryError::from_engine)?;
        if rows + batch.num_rows() > max_rows {
            batch = batch.slice(0, max_rows - rows);
            truncated_at = Some(max_rows);
        }
        rows += batch.num_rows();
        bytes += batch.get_array_memory_size();
        if bytes > limit_bytes {
            return Err(QueryError::ResultTooLarge { limit_bytes });
        }
        batches.push(batch);
        if truncated_at.is_some() {
            break;
        }
    }
    Ok(QueryResult { schema, batches, rows, truncated_at, elapsed: Duration::ZERO })
}

async fn plan(state: &SessionState, sql: &ApprovedSql) -> Result<LogicalPlan, QueryError> {
    let statement = Statement::Statement(Box::new(sql.statement().clone()));
    let plan = state.statement_to_plan(statement).await.map_err(QueryError::from_engine)?;
    state.optimize(&plan).map_err(QueryError::from_engine)
}

fn template(runtime: Arc<RuntimeEnv>) -> SessionState {
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(PHYSICAL_CATALOG, "none")
        .with_information_schema(false);
    config.options_mut().sql_parser.dialect = datafusion::config::Dialect::Generic;
    // Text as Utf8 rather than Utf8View: every client of Arrow IPC and Parquet reads it.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().execution.parquet.pushdown_filters = true;
    SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features().build()
}
