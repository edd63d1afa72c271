//! A result while it is made: batches through a channel of one, within the limits of a query.
//!
//! Knows no encoding, no HTTP, no audit.
//! T1 A query keeps its client's slot until its work has really ended, however it ended.
//! T2 Who drops the stream ends the query at its next pause; where those are is in the header of `pause`.
//! T3 A reader that takes nothing for `reader_idle_seconds` loses the query, and so does whatever outlives
//! `timeout_seconds`, the time of a slow reader included.
//! T4 What was cut and what failed is told at the end.
//!
//! Until [`HELD_BYTES`] have come, nothing is handed out: a result that ends before is whole, with its end known, and an
//! error that comes before is an error of the call. Only larger results are streams to their reader.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::pause::{Limit, Work, pausing};
use super::{QueryError, QueryResult, Whole};
use crate::config::SqlLimits;
use crate::error::ErrorKind;
use crate::guard::ApprovedSql;

/// What is collected, as Arrow holds it, before a result counts as large.
pub const HELD_BYTES: usize = 8 * 1024 * 1024;

/// `ORDER BY … LIMIT` of more rows is sorted as a whole.
const MAX_TOP_ROWS: usize = 100_000;

/// How a whole result ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEnd {
    pub rows: usize,
    /// As Arrow holds them.
    pub bytes: u64,
    /// The row limit that cut the result, if one did.
    pub truncated_at: Option<usize>,
    pub elapsed: Duration,
}

/// What there is to say of a stream once it is over, whoever still reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamReport {
    /// Rows that the reader was given, or that were ready for it.
    pub rows: usize,
    pub bytes: u64,
    pub elapsed: Duration,
    /// Absent: the result was whole.
    pub stopped: Option<StopReason>,
}

/// Why a stream ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The reader went away.
    HungUp,
    Failed(ErrorKind),
}

type AtEnd = Box<dyn FnOnce(StreamReport) -> BoxFuture<'static, ()> + Send>;

/// The batches of one query, in order, none of them empty.
pub struct QueryStream {
    schema: SchemaRef,
    max_rows: usize,
    held: VecDeque<RecordBatch>,
    batches: mpsc::Receiver<RecordBatch>,
    ended: oneshot::Receiver<Result<StreamEnd, QueryError>>,
    /// Known once nothing more comes from the query; batches may still be held.
    end: Option<StreamEnd>,
    has_failed: bool,
    at_end: Option<oneshot::Sender<AtEnd>>,
    limit: Arc<Limit>,
    timeout_seconds: u64,
    threads: Handle,
}

/// What a query takes to run.
pub(super) struct Job {
    pub source: Source,
    pub sql: ApprovedSql,
    pub limits: SqlLimits,
    pub permit: OwnedSemaphorePermit,
}

/// What runs it.
pub(super) enum Source {
    Session(Box<SessionState>),
    Warehouse(Whole),
}

impl QueryStream {
    /// Starts the query on `threads` and waits until it is known to be small, large or wrong.
    pub(super) async fn open(threads: &Handle, job: Job) -> Result<Self, QueryError> {
        let (sender, batches) = mpsc::channel(1);
        let (tell, ended) = oneshot::channel();
        let (at_end, gate) = oneshot::channel();
        let timeout_seconds = job.limits.timeout_seconds;
        let limit = Limit::new(Instant::now() + Duration::from_secs(timeout_seconds));
        let max_rows = job.sql.max_rows();
        threads.spawn(job.run(sender, tell, gate, limit.clone()));
        let mut stream = Self {
            schema: Schema::empty().into(),
            max_rows,
            held: VecDeque::new(),
            batches,
            ended,
            end: None,
            has_failed: false,
            at_end: Some(at_end),
            limit,
            timeout_seconds,
            threads: threads.clone(),
        };
        // The first batch has no row and brings the schema.
        stream.schema = stream.receive().await?.ok_or(QueryError::Crashed)?.schema();
        let mut held_bytes = 0;
        while held_bytes <= HELD_BYTES
            && let Some(batch) = stream.receive().await?
        {
            held_bytes += batch_bytes(&batch);
            stream.held.push_back(batch);
        }
        Ok(stream)
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The row limit in force.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Where its batches are worked on further: on the threads of queries, of which there are few, each with memory of its
    /// own at the allocator.
    pub fn threads(&self) -> &Handle {
        &self.threads
    }

    /// How it ended, once the query is done; [`Self::next`] may still have rows.
    pub fn end(&self) -> Option<StreamEnd> {
        self.end
    }

    /// The next batch; nothing after the last one or after an error. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        match self.held.pop_front() {
            Some(batch) => Some(Ok(batch)),
            None => self.receive().await.transpose(),
        }
    }

    /// All that is left, in memory: `max_result_bytes` at most.
    pub async fn collect(mut self) -> Result<QueryResult, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        let end = self.end.ok_or(QueryError::Crashed)?;
        Ok(QueryResult {
            schema: self.schema.clone(),
            batches,
            rows: end.rows,
            truncated_at: end.truncated_at,
            elapsed: end.elapsed,
        })
    }

    /// Has `report` done when the query is over: whole, failed, or left by its reader. Once at most; not called for a
    /// stream that is dropped without this.
    pub fn at_end(&mut self, report: impl FnOnce(StreamReport) -> BoxFuture<'static, ()> + Send + 'static) {
        if let Some(at_end) = self.at_end.take() {
            // Nobody waits for it only when the query threads are gone, with the whole engine.
            let _ = at_end.send(Box::new(report));
        }
    }

    async fn receive(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        if self.end.is_some() || self.has_failed {
            return Ok(None);
        }
        let (batches, ended) = (&mut self.batches, &mut self.ended);
        let message = async {
            match batches.recv().await {
                Some(batch) => Ok(Ok(batch)),
                None => ended.await.unwrap_or(Err(QueryError::Crashed)).map(Err),
            }
        };
        // The query watches the time too, but hears of it at its next pause only.
        let seconds = self.timeout_seconds;
        let timed = tokio::time::timeout_at(self.limit.deadline(), message).await;
        match timed.unwrap_or(Err(QueryError::Timeout { seconds })) {
            Ok(Ok(batch)) => Ok(Some(batch)),
            Ok(Err(end)) => {
                self.end = Some(end);
                Ok(None)
            }
            Err(error) => {
                self.has_failed = true;
                self.batches.close();
                Err(error)
            }
        }
    }
}

impl Drop for QueryStream {
    fn drop(&mut self) {
        self.limit.leave();
    }
}

impl std::fmt::Debug for QueryStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("QueryStream").field("end", &self.end).finish_non_exhaustive()
    }
}

enum Stop {
    HungUp,
    Failed(QueryError),
}

impl From<QueryError> for Stop {
    fn from(error: QueryError) -> Self {
        Self::Failed(error)
    }
}

#[derive(Default)]
struct Tally {
    rows: usize,
    bytes: u64,
    truncated_at: Option<usize>,
}

impl Job {
    async fn run(
        mut self,
        sender: mpsc::Sender<RecordBatch>,
        tell: oneshot::Sender<Result<StreamEnd, QueryError>>,
        gate: oneshot::Receiver<AtEnd>,
        limit: Arc<Limit>,
    ) {
        let started = Instant::now();
        let seconds = self.limits.timeout_seconds;
        let (mut tally, mut work) = (Tally::default(), None);
        let outcome = tokio::select! {
            biased;
            () = tokio::time::sleep_until(limit.deadline()) => Err(Stop::Failed(QueryError::Timeout { seconds })),
            () = sender.closed() => Err(Stop::HungUp),
            // The panic's message is in the log; the reader must hear of it, and the audit too.
            done = AssertUnwindSafe(self.produce(&sender, &mut tally, &limit, &mut work)).catch_unwind() => {
                done.unwrap_or(Err(Stop::Failed(QueryError::Crashed)))
            }
        };
        let outcome = match outcome {
            // It was told so in the midst of computing.
            Err(Stop::Failed(QueryError::Timeout { .. })) if limit.was_left() => Err(Stop::HungUp),
            other => other,
        };
        let Self { source, permit, .. } = self;
        drop(source);
        // What a row limit cut short, or an error in another part, may still be computing.
        limit.leave();
        if let (Err(_), Some(work)) = (&outcome, work)
            && tokio::time::timeout(Duration::from_secs(seconds), work.ended()).await.is_err()
        {
            tracing::warn!(seconds, "a query that is over still computes; its place is given away");
        }
        // T1: all work has ended here, but for what a whole result needs no more, and what hears of it in a moment.
        drop(permit);
        let elapsed = started.elapsed();
        let Tally { rows, bytes, truncated_at } = tally;
        let (stopped, result) = match outcome {
            Ok(()) => (None, Ok(StreamEnd { rows, bytes, truncated_at, elapsed })),
            Err(Stop::HungUp) => (Some(StopReason::HungUp), Err(QueryError::Crashed)),
            Err(Stop::Failed(error)) => (Some(StopReason::Failed(error.kind())), Err(error)),
        };
        // Whoever read may be gone.
        let _ = tell.send(result);
        drop(sender);
        if let Ok(report) = gate.await {
            report(StreamReport { rows, bytes, elapsed, stopped }).await;
        }
    }

    async fn produce(
        &mut self,
        sender: &mpsc::Sender<RecordBatch>,
        tally: &mut Tally,
        limit: &Arc<Limit>,
        work: &mut Option<Work>,
    ) -> Result<(), Stop> {
        let limits = &self.limits;
        let failed = |error| Stop::Failed(QueryError::from_engine(error, limits));
        let mut stream = match &mut self.source {
            Source::Warehouse(whole) => {
                let sql = &self.sql;
                whole.await.map_err(|error| QueryError::from_warehouse(error, sql))?
            }
            Source::Session(state) => {
                let (_, physical) = super::plan(state, &self.sql, limits).await?;
                let physical = spillable(physical).map_err(failed)?;
                let (physical, begun) = pausing(physical, limit).map_err(failed)?;
                *work = Some(begun);
                execute_stream(physical, state.task_ctx()).map_err(failed)?
            }
        };
        send(sender, RecordBatch::new_empty(stream.schema()), limits).await?;
        while let Some(batch) = stream.next().await {
            let mut batch = batch.map_err(failed)?;
            let left = self.sql.max_rows() - tally.rows;
            if batch.num_rows() > left {
                batch = batch.slice(0, left);
                tally.truncated_at = Some(self.sql.max_rows());
            }
            if batch.num_rows() > 0 {
                let (rows, bytes) = (batch.num_rows(), batch_bytes(&batch) as u64);
                if tally.bytes + bytes > limits.max_result_bytes as u64 {
                    return Err(QueryError::ResultTooLarge { limit_bytes: limits.max_result_bytes }.into());
                }
                send(sender, batch, limits).await?;
                tally.rows += rows;
                tally.bytes += bytes;
            }
            if tally.truncated_at.is_some() {
                break;
            }
        }
        Ok(())
    }
}

/// T3.
async fn send(
    sender: &mpsc::Sender<RecordBatch>,
    batch: RecordBatch,
    limits: &SqlLimits,
) -> Result<(), Stop> {
    let seconds = limits.reader_idle_seconds;
    match tokio::time::timeout(Duration::from_secs(seconds), sender.send(batch)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Stop::HungUp),
        Err(_) => Err(QueryError::SlowReader { seconds }.into()),
    }
}

/// The first rows of an order are kept in memory, which cannot spill; where they are many, all is sorted instead, which can.
fn spillable(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let sorted = plan.transform_up(|node| {
        let Some(sort) = node.downcast_ref::<SortExec>() else { return Ok(Transformed::no(node)) };
        let Some(fetch) = sort.fetch().filter(|rows| *rows > MAX_TOP_ROWS) else {
            return Ok(Transformed::no(node));
        };
        let whole: Arc<dyn ExecutionPlan> = Arc::new(sort.with_fetch(None));
        Ok(Transformed::yes(Arc::new(LocalLimitExec::new(whole, fetch))))
    })?;
    Ok(sorted.data)
}

/// Bytes of the rows of a batch, which may share its buffers with other batches.
fn batch_bytes(batch: &RecordBatch) -> usize {
    let bytes = |column: &dyn Array| {
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    batch.columns().iter().map(|column| bytes(column.as_ref())).sum()
}
