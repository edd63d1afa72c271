//! Runs approved queries on DataFusion: one engine for metadata, responses and warehouse data.
//!
//! Q1 A query's session holds the relations that the guard saw it touch, and nothing else: what was not approved is
//! not there to be found. Q2 Limits are enforced here: time, rows, bytes, memory, spilled bytes, concurrency.
//! Queries have threads of their own, so that one that computes delays no other request. Their plans pause (`pause`), so
//! that they end in time and leave time to each other. A query keeps its place among the client's concurrent queries until
//! it really ends.
//! Q3 What a caller sees of an engine error names nothing but what the caller wrote.

mod encode;
mod error;
mod growth;
mod mended;
mod pause;
mod records;
mod spill;
mod stream;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::common::internal_err;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{FetchType, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::SqlLimits;
use crate::guard::{ApprovedSql, PHYSICAL_CATALOG};
use crate::warehouse::RemoteError;
use growth::BoundGrowth;
use spill::SpillFolder;
use stream::{Job, Source};

pub use encode::{Encoder, Format, encode};
pub use error::QueryError;
pub use records::{RecordsError, records_to_batch, write_parquet};
pub use stream::{HELD_BYTES, QueryStream, StopReason, StreamEnd, StreamReport};

/// What a relation is read from: `(schema, name)` as the guard wrote it, and its rows.
pub type Tables = Vec<((String, String), Arc<dyn TableProvider>)>;

/// A query that a warehouse runs as a whole: what starts it there.
pub type Whole = BoxFuture<'static, Result<SendableRecordBatchStream, RemoteError>>;

/// Where the rows of a query come from.
pub enum Origin {
    /// From here, over these tables.
    Here(Tables),
    /// From the warehouse that the query was approved for.
    There(Whole),
}

impl From<Tables> for Origin {
    fn from(tables: Tables) -> Self {
        Self::Here(tables)
    }
}

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
    /// Removed after the pool is told to end.
    _spill: SpillFolder,
}

impl QueryEngine {
    /// `spill_dir` is for what sorts, joins and aggregates cannot keep in memory; processes may share it. Fails only when
    /// the engine itself cannot start, such as without that folder.
    pub fn new(limits: SqlLimits, spill_dir: &Path) -> Result<Self, QueryError> {
        let pool = TrackConsumersPool::new(
            FairSpillPool::new(limits.memory_pool_bytes),
            std::num::NonZeroUsize::new(3).expect("three is not zero"),
        );
        let spill = SpillFolder::open(spill_dir).map_err(QueryError::SpillFolder)?;
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![spill.path().to_owned()]))
            .with_max_temp_directory_size(limits.max_spill_bytes);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            // A folder's files are listed anew for each query: a remembered list would hide what came since.
            .with_object_list_cache_limit(0)
            .build_arc()
            .map_err(|error| QueryError::from_engine(error, &limits))?;
        let pool = tokio::runtime::Builder::new_multi_thread()
            .thread_name("query")
            // Plans recurse deeply, above all unoptimised.
            .thread_stack_size(8 * 1024 * 1024)
            .enable_all()
            .build()
            .map_err(QueryError::Threads)?;
        let running = Mutex::new(HashMap::new());
        let template = template(runtime, &limits);
        Ok(Self { pool: Some(pool), template, limits, running, _spill: spill })
    }

    /// For those who open tables: its object stores and caches.
    pub fn state(&self) -> &SessionState {
        &self.template
    }

    pub fn limits(&self) -> &SqlLimits {
        &self.limits
    }

    /// Plans an approved query without running it. Errors are those of names and types.
    pub async fn plan(&self, sql: &ApprovedSql, tables: Tables) -> Result<Planned, QueryError> {
        let (state, sql, limits) = (self.session(tables, sql)?, sql.clone(), self.limits.clone());
        let work = async move {
            let (logical, physical) = plan(&state, &sql, &limits).await?;
            let told = physical.partition_statistics(None);
            let told = told.ok().and_then(|told| told.num_rows.get_value().copied());
            // A scan that stops early is told as a whole one.
            let most = most_rows(&logical).map_or(sql.max_rows(), |most| most.min(sql.max_rows()));
            let rows = told.and_then(|rows| u64::try_from(rows.min(most)).ok());
            Ok(Planned { logical, rows })
        };
        self.within_time(work).await
    }

    /// Runs an approved query for a client. Returns once the result is known to be small, or large, or wrong; what then
    /// holds is in the header of `stream`. Dropping the future or the stream cancels the query.
    pub async fn stream(
        &self,
        client: &str,
        sql: &ApprovedSql,
        origin: impl Into<Origin>,
    ) -> Result<QueryStream, QueryError> {
        let permit = self.admit(client)?;
        let source = match origin.into() {
            Origin::Here(tables) => Source::Session(Box::new(self.session(tables, sql)?)),
            Origin::There(whole) => Source::Warehouse(whole),
        };
        let job = Job { source, sql: sql.clone(), limits: self.limits.clone(), permit };
        let pool = self.pool.as_ref().ok_or(QueryError::Crashed)?;
        QueryStream::open(pool.handle(), job).await
    }

    /// The same, with the whole result in memory.
    pub async fn run(
        &self,
        client: &str,
        sql: &ApprovedSql,
        tables: Tables,
    ) -> Result<QueryResult, QueryError> {
        self.stream(client, sql, tables).await?.collect().await
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
    fn session(&self, tables: Tables, sql: &ApprovedSql) -> Result<SessionState, QueryError> {
        let failed = |error| QueryError::from_engine(error, &self.limits);
        let catalog = MemoryCatalogProvider::new();
        for ((schema, name), provider) in tables {
            let schema_provider: Arc<dyn SchemaProvider> = match catalog.schema(&schema) {
                Some(known) => known,
                None => {
                    let new: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                    catalog.register_schema(&schema, new.clone()).map_err(failed)?;
                    new
                }
            };
            schema_provider.register_table(name, provider).map_err(failed)?;
        }
        let list = MemoryCatalogProviderList::new();
        list.register_catalog(PHYSICAL_CATALOG.to_owned(), Arc::new(catalog));
        let mut state = self.template.clone();
        state.register_catalog_list(Arc::new(list));
        if sql.is_capped() {
            // So many rows come seldom, and until then each scan below would ask for every row whether it is among the first.
            state.config_mut().options_mut().optimizer.enable_topk_dynamic_filter_pushdown = false;
        }
        // What `now()` means.
        state.mark_start_execution();
        Ok(state)
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

/// A query as it would run.
#[derive(Debug)]
pub struct Planned {
    pub logical: LogicalPlan,
    /// Rows of the answer to expect, told from what is known of the tables; `None` where too little is.
    pub rows: Option<u64>,
}

/// Rows that the limits at the top of a plan let through. The plan's own `max_rows` multiplies what joins may give, beyond
/// what a number holds.
fn most_rows(plan: &LogicalPlan) -> Option<usize> {
    match plan {
        LogicalPlan::Limit(limit) => match limit.get_fetch_type() {
            Ok(FetchType::Literal(rows)) => rows,
            _ => None,
        },
        LogicalPlan::Sort(sort) if sort.fetch.is_some() => sort.fetch,
        LogicalPlan::TableScan(scan) => scan.fetch,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Distinct(_) => most_rows(plan.inputs().first()?),
        _ => None,
    }
}

/// The optimised plan of a query, and what runs of it.
async fn plan(
    state: &SessionState,
    sql: &ApprovedSql,
    limits: &SqlLimits,
) -> Result<(LogicalPlan, Arc<dyn ExecutionPlan>), QueryError> {
    let statement = Statement::Statement(Box::new(sql.statement().clone()));
    let named = state.statement_to_plan(statement).await;
    let named = named.map_err(|error| QueryError::from_planning(error, sql, limits))?;
    let failed = |error| QueryError::from_engine(error, limits);
    let has_subqueries = has_subqueries(&named).map_err(failed)?;
    // All names are known by now: what fails for one is a form of subquery that the engine cannot run.
    let is_beyond = |error: &DataFusionError| {
        has_subqueries
            && match error.find_root() {
                DataFusionError::SchemaError(..)
                | DataFusionError::Internal(_)
                | DataFusionError::NotImplemented(_) => true,
                // The caller's own columns of one name were told above.
                DataFusionError::Plan(message) => message.contains("require unique expression names"),
                _ => false,
            }
    };
    let optimised = state.optimize(&named).map_err(|error| match is_beyond(&error) {
        true => QueryError::Subquery(Box::new(error)),
        false => failed(error),
    })?;
    let physical = mended::physical(state, &optimised).await.map_err(|error| match error.find_root() {
        // Its message may show the plan, with what the caller may not see.
        DataFusionError::Plan(_) if !has_subqueries => QueryError::Engine(Box::new(error)),
        DataFusionError::Plan(_) => QueryError::Subquery(Box::new(error)),
        _ if is_beyond(&error) => QueryError::Subquery(Box::new(error)),
        _ => failed(error),
    })?;
    Ok((optimised, physical))
}

fn has_subqueries(plan: &LogicalPlan) -> Result<bool, DataFusionError> {
    plan.exists(|node| {
        let mut found = matches!(node, LogicalPlan::Subquery(_));
        node.apply_subqueries(|_| {
            found = true;
            Ok(TreeNodeRecursion::Stop)
        })?;
        Ok(found)
    })
}

/// The child of an operator or expression that has one.
fn only<T>(children: Vec<T>) -> Result<T, DataFusionError> {
    match <[T; 1]>::try_from(children) {
        Ok([child]) => Ok(child),
        Err(children) => internal_err!("one child is expected, not {}", children.len()),
    }
}

fn template(runtime: Arc<RuntimeEnv>, limits: &SqlLimits) -> SessionState {
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(PHYSICAL_CATALOG, "none")
        .with_information_schema(false);
    mended::settings(config.options_mut());
    config.options_mut().sql_parser.dialect = datafusion::config::Dialect::Generic;
    // Text as Utf8 rather than Utf8View: every client of Arrow IPC and Parquet reads it.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    // A table's folder may hold folders.
    config.options_mut().execution.listing_table_ignore_subdirectory = false;
    // What each sort keeps back to merge what it spilled. The default would leave a small pool nothing.
    let kept_back = &mut config.options_mut().execution.sort_spill_reservation_bytes;
    *kept_back = (*kept_back).min(limits.memory_pool_bytes / 16);
    SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_optimizer_rules(mended::optimizer_rules())
        .with_physical_optimizer_rules(mended::physical_rules())
        // After the rules that settle types.
        .with_analyzer_rule(Arc::new(BoundGrowth::new(limits.memory_pool_bytes)))
        .build()
}

#[cfg(test)]
mod tests;
