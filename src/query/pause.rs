//! Queries that end when their time is over or their caller leaves, in the midst of computing too.
//!
//! A query runs as tasks, and a task can be ended only between two of its polls. The engine's operators pause where they
//! read a table, so that a join that makes billions of pairs of a few rows computes for minutes in one poll. After the
//! engine's optimiser, [`pausing`] therefore puts two things into a plan:
//! P1 Between any two batches that operators hand to each other, a query that is over ends, and one that has computed for
//! a [`TURN`] lets others run.
//! P2 A join looks at each group of pairs that it tries, a batch at most, whether the query is over, and steps aside after
//! a [`TURN`], whether its condition lets a pair through or not.
//! No work is done for a row: what a query pays is two looks at the clock a batch.
//!
//! What stays whole: the work of one operator on one batch, and the building of a hash table, a sort or a set of groups
//! of what the memory pool holds.

use std::cell::Cell;
use std::fmt::{Display, Formatter};
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Statistics};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::lit;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties};
use futures::{Stream, StreamExt};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::only;

/// How long a task computes before others have their turn.
const TURN: Duration = Duration::from_millis(20);

thread_local! {
    /// When an operator of a query was asked last on this thread, or others had it last.
    static RESUMED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// When a query has to end.
#[derive(Debug)]
pub(super) struct Limit {
    deadline: Instant,
    left: AtomicBool,
}

/// The work of a query, which may go on for a moment in tasks of their own after its stream is dropped.
pub(super) struct Work(mpsc::Receiver<()>);

impl Work {
    /// Waits until the last operator of the query has let go.
    pub async fn ended(mut self) {
        // Nothing is ever sent: what is waited for is that nobody could.
        while self.0.recv().await.is_some() {}
    }
}

/// The query is over: its time is up, or nobody waits for it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the query is over")]
pub(super) struct Over;

impl Limit {
    pub fn new(deadline: Instant) -> Arc<Self> {
        Arc::new(Self { deadline, left: AtomicBool::new(false) })
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Nobody waits for the query any more: what still computes for it ends.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Whether it was left before its time was up.
    pub fn was_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) && Instant::now() < self.deadline
    }

    fn check(&self, now: Instant) -> Result<()> {
        if now >= self.deadline || self.left.load(Ordering::Relaxed) {
            return Err(DataFusionError::External(Box::new(Over)));
        }
        Ok(())
    }
}

/// The same plan, with pauses within `limit`, and what tells when its work is over. It is no more to be optimised.
pub(super) fn pausing(
    plan: Arc<dyn ExecutionPlan>,
    limit: &Arc<Limit>,
) -> Result<(Arc<dyn ExecutionPlan>, Work)> {
    let (alive, ended) = mpsc::channel(1);
    let plan = plan.transform_up(|node| {
        if node.children().is_empty() {
            // The engine's own optimiser sees to these.
            return Ok(Transformed::no(node));
        }
        let input = watched(node, limit)?;
        Ok(Transformed::yes(Arc::new(Pausing { input, limit: limit.clone(), alive: alive.clone() })))
    })?;
    Ok((plan.data, Work(ended)))
}

/// P2: a join with a condition that also looks at the limit. A join that hands out each pair that it finds needs none.
fn watched(node: Arc<dyn ExecutionPlan>, limit: &Arc<Limit>) -> Result<Arc<dyn ExecutionPlan>> {
    let condition = |filter: Option<&JoinFilter>, join_type: JoinType| {
        let is_silent = matches!(
            join_type,
            JoinType::LeftSemi
                | JoinType::RightSemi
                | JoinType::LeftAnti
                | JoinType::RightAnti
                | JoinType::LeftMark
                | JoinType::RightMark
        );
        let new = |inner, columns, schema| {
            Some(JoinFilter::new(Arc::new(Watched { inner, limit: limit.clone() }), columns, schema))
        };
        match filter {
            Some(filter) => {
                new(filter.expression().clone(), filter.column_indices().to_vec(), filter.schema().clone())
            }
            None if is_silent => new(lit(true), Vec::new(), Arc::new(Schema::empty())),
            None => None,
        }
    };
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let filter = condition(join.filter(), *join.join_type());
        return if filter.is_some() { join.builder().with_filter(filter).build_exec() } else { Ok(node) };
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        let filter = condition(join.filter(), *join.join_type());
        let builder = NestedLoopJoinExecBuilder::from(join);
        return Ok(if filter.is_some() { Arc::new(builder.with_filter(filter).build()?) } else { node });
    }
    Ok(node)
}

/// P1: an operator whose batches come with pauses.
#[derive(Debug)]
struct Pausing {
    input: Arc<dyn ExecutionPlan>,
    limit: Arc<Limit>,
    alive: mpsc::Sender<()>,
}

impl DisplayAs for Pausing {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl ExecutionPlan for Pausing {
    fn name(&self) -> &str {
        "Pausing"
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.input.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = only(children)?;
        Ok(Arc::new(Self { input, limit: self.limit.clone(), alive: self.alive.clone() }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let inner = self.input.execute(partition, context)?;
        let (limit, alive) = (self.limit.clone(), self.alive.clone());
        Ok(Box::pin(PausingStream { inner, limit, since: None, _alive: alive }))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        self.input.partition_statistics(partition)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

struct PausingStream {
    inner: SendableRecordBatchStream,
    limit: Arc<Limit>,
    /// When this stream was asked first since the last pause.
    since: Option<Instant>,
    /// Dropped after `inner`.
    _alive: mpsc::Sender<()>,
}

impl RecordBatchStream for PausingStream {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }
}

impl Stream for PausingStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let now = Instant::now();
        if let Err(over) = self.limit.check(now) {
            return Poll::Ready(Some(Err(over)));
        }
        if now - *self.since.get_or_insert(now) > TURN {
            self.since = None;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        RESUMED.set(Some(now));
        let polled = self.inner.poll_next_unpin(context);
        if polled.is_pending() {
            self.since = None;
        }
        polled
    }
}

/// P2: a condition that fails once the query is over.
#[derive(Debug, Clone)]
struct Watched {
    inner: Arc<dyn PhysicalExpr>,
    limit: Arc<Limit>,
}

impl Watched {
    /// Lets others have the thread. What computes within one poll goes on, on a thread that no other task waits for: such a
    /// change costs what the thread's caches hold, and is not made before it is due.
    fn step_aside(now: Instant) {
        let is_due = RESUMED.get().is_none_or(|resumed| now - resumed > TURN);
        let is_worker = || {
            Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
        };
        if is_due && is_worker() {
            tokio::task::block_in_place(|| ());
            RESUMED.set(Some(now));
        }
    }
}

impl Display for Watched {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(formatter)
    }
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let now = Instant::now();
        self.limit.check(now)?;
        Self::step_aside(now);
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { inner: only(children)?, limit: self.limit.clone() }))
    }

    fn fmt_sql(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt_sql(formatter)
    }
}

#[cfg(test)]
mod tests;
