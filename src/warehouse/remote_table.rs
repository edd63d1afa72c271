//! A table of a remote warehouse for DataFusion: filters, columns and limit go to the server, rows stream back.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, TryStreamExt};

use super::convert::{Converter, Shape, Step};
use super::pushdown::Layout;
use super::{QueryTag, RemoteError, RemoteSql};

/// Rows of a scan, as long as nobody knows better.
const GUESSED_ROWS: usize = 100_000;

/// Reads a scan that [`Layout::scan`] wrote. The first row of a layout with blanks is dropped here.
#[async_trait]
pub(super) trait Reader: Send + Sync + fmt::Debug {
    async fn read(
        &self,
        sql: RemoteSql,
        columns: Converter,
        tag: QueryTag,
    ) -> Result<SendableRecordBatchStream, RemoteError>;
}

/// What is known of a table, for as long as it holds.
#[derive(Debug, Clone)]
pub(super) struct TableShape {
    pub layout: Arc<Layout>,
    /// By position of the layout's columns.
    pub shapes: Arc<[Shape]>,
}

/// How long the columns of a table are taken to be what they were.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Tables that were looked up lately, by schema and name.
#[derive(Debug, Default)]
pub(super) struct KnownTables(Mutex<HashMap<(String, String), (Instant, TableShape)>>);

impl KnownTables {
    /// What is known, or else what `look_up` finds.
    pub async fn get_or<E>(
        &self,
        schema: &str,
        table: &str,
        look_up: impl Future<Output = std::result::Result<TableShape, E>>,
    ) -> std::result::Result<TableShape, E> {
        let key = (schema.to_owned(), table.to_owned());
        let known = self.lock().get(&key).cloned();
        if let Some((_, shape)) = known.filter(|(since, _)| since.elapsed() < KNOWN_FOR) {
            return Ok(shape);
        }
        let shape = look_up.await?;
        let mut known = self.lock();
        known.retain(|_, (since, _)| since.elapsed() < KNOWN_FOR);
        known.insert(key, (Instant::now(), shape.clone()));
        Ok(shape)
    }

    /// After a table was found changed.
    pub fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), (Instant, TableShape)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct RemoteTable {
    known: TableShape,
    schema: SchemaRef,
    reader: Arc<dyn Reader>,
    tag: QueryTag,
}

impl RemoteTable {
    pub fn new(known: TableShape, reader: Arc<dyn Reader>, tag: QueryTag) -> Self {
        let schema = Converter::exact(known.shapes.to_vec()).schema().clone();
        Self { known, schema, reader, tag }
    }
}

#[async_trait]
impl TableProvider for RemoteTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.known.layout.takes(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.known.shapes.len()).collect();
        let columns = projection.unwrap_or(&all);
        let sql = self.known.layout.scan(columns, filters, limit)?;
        let shapes: Vec<Shape> = columns.iter().map(|at| self.known.shapes[*at].clone()).collect();
        Ok(Arc::new(RemoteScan::new(sql, shapes, self.reader.clone(), self.tag.clone())))
    }
}

/// A scan at the server.
#[derive(Debug)]
struct RemoteScan {
    sql: RemoteSql,
    shown: String,
    columns: Converter,
    /// Of what is given on, which has no column where only rows are counted.
    properties: Arc<PlanProperties>,
    reader: Arc<dyn Reader>,
    tag: QueryTag,
}

impl RemoteScan {
    fn new(sql: String, mut shapes: Vec<Shape>, reader: Arc<dyn Reader>, tag: QueryTag) -> Self {
        let schema = Converter::exact(shapes.clone()).schema().clone();
        if shapes.is_empty() {
            shapes.push(Shape::counted());
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let columns = Converter::exact(shapes);
        Self {
            shown: sql.clone(),
            sql: RemoteSql::made(sql),
            columns,
            properties: Arc::new(properties),
            reader,
            tag,
        }
    }
}

impl DisplayAs for RemoteScan {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RemoteScan: {}", self.shown)
    }
}

impl ExecutionPlan for RemoteScan {
    fn name(&self) -> &str {
        "RemoteScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    /// A guess, and told to be one. With nothing known, DataFusion takes the guard's barrier, a limit of 2⁶³ − 1 rows, for
    /// the number of rows, and overflows where it multiplies the sides of a join.
    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = Precision::Inexact(GUESSED_ROWS);
        Ok(Arc::new(statistics))
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (reader, sql) = (self.reader.clone(), self.sql.clone());
        let (columns, tag) = (self.columns.clone(), self.tag.clone());
        let schema = self.schema();
        let given = schema.clone();
        let start = async move { reader.read(sql, columns, tag).await.map_err(external) };
        let stream = futures::stream::once(start).try_flatten().map(move |batch| match batch {
            Ok(batch) if given.fields().is_empty() => {
                let options = datafusion::arrow::array::RecordBatchOptions::new()
                    .with_row_count(Some(batch.num_rows()));
                let none = Arc::new(Schema::empty());
                Ok(datafusion::arrow::array::RecordBatch::try_new_with_options(none, Vec::new(), &options)?)
            }
            other => other,
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}

impl Shape {
    /// The number that stands for a row where no column is asked for.
    fn counted() -> Self {
        use datafusion::arrow::datatypes::DataType;
        Self {
            name: "one".to_owned(),
            step: Step::Cast,
            data_type: DataType::Int64,
            pushes: super::pushdown::Pushes::Nulls,
        }
    }
}

/// A remote error inside one of DataFusion.
pub(super) fn external(error: RemoteError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
