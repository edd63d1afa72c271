//! A table of the semantic layer for the query engine: in memory, and found by name without reading all of it.
//!
//! T1 A scan yields every row that its filters could keep; the engine applies the filters again.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::{Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::ScalarValue;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

/// Below this, reading everything is as fast.
const INDEX_FROM_ROWS: usize = 4_096;
/// Rows in one batch of a full scan.
const BATCH_ROWS: usize = 16_384;

#[derive(Debug)]
pub(super) struct SemanticTable {
    batch: RecordBatch,
    /// By column: its rows in the order of its values; made when first asked for.
    orders: Vec<OnceLock<Vec<u32>>>,
}

impl SemanticTable {
    pub fn new(batch: RecordBatch) -> Self {
        let orders = (0..batch.num_columns()).map(|_| OnceLock::new()).collect();
        Self { batch, orders }
    }

    /// The column and the text of a filter `column = 'text'` that an index serves.
    fn equality<'e>(&self, filter: &'e Expr) -> Option<(usize, &'e str)> {
        let Expr::BinaryExpr(binary) = filter else { return None };
        if binary.op != Operator::Eq || self.batch.num_rows() < INDEX_FROM_ROWS {
            return None;
        }
        let (column, text) = match (binary.left.as_ref(), binary.right.as_ref()) {
            (Expr::Column(column), Expr::Literal(ScalarValue::Utf8(Some(text)), _))
            | (Expr::Literal(ScalarValue::Utf8(Some(text)), _), Expr::Column(column)) => (column, text),
            _ => return None,
        };
        let at = self.batch.schema_ref().index_of(&column.name).ok()?;
        self.texts(at).map(|_| (at, text.as_str()))
    }

    fn texts(&self, column: usize) -> Option<&StringArray> {
        self.batch.column(column).as_any().downcast_ref::<StringArray>()
    }

    /// Rows that hold `text` in a column.
    fn rows(&self, column: usize, text: &str) -> &[u32] {
        let Some(texts) = self.texts(column) else { return &[] };
        let value = |row: u32| texts.is_valid(row as usize).then(|| texts.value(row as usize));
        let order = self.orders[column].get_or_init(|| {
            let mut rows: Vec<u32> = (0..texts.len() as u32).collect();
            // Stable: rows of one value keep the order of the table.
            rows.sort_by(|a, b| value(*a).cmp(&value(*b)));
            rows
        });
        let start = order.partition_point(|row| value(*row) < Some(text));
        let end = start + order[start..].partition_point(|row| value(*row) == Some(text));
        &order[start..end]
    }

    /// The fewest rows that one of the filters leaves.
    fn narrowed(&self, filters: &[Expr]) -> Option<Result<RecordBatch>> {
        let found = filters.iter().filter_map(|filter| self.equality(filter));
        let rows = found.map(|(column, text)| self.rows(column, text)).min_by_key(|rows| rows.len())?;
        Some(take_record_batch(&self.batch, &UInt32Array::from(rows.to_vec())).map_err(Into::into))
    }
}

#[async_trait]
impl TableProvider for SemanticTable {
    fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.equality(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = match self.narrowed(filters) {
            Some(batch) => vec![vec![batch?]],
            None => self.partitions(state.config().target_partitions()),
        };
        let plan = MemorySourceConfig::try_new_exec(&partitions, self.schema(), projection.cloned())?;
        Ok(plan)
    }
}

impl SemanticTable {
    /// The whole table, cut so that several threads can read it; nothing is copied.
    fn partitions(&self, count: usize) -> Vec<Vec<RecordBatch>> {
        let rows = self.batch.num_rows();
        if rows <= BATCH_ROWS {
            return vec![vec![self.batch.clone()]];
        }
        let mut partitions = vec![Vec::new(); count.max(1)];
        for (at, start) in (0..rows).step_by(BATCH_ROWS).enumerate() {
            let length = BATCH_ROWS.min(rows - start);
            let last = partitions.len();
            partitions[at % last].push(self.batch.slice(start, length));
        }
        partitions
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::ArrayRef;
    use datafusion::prelude::SessionContext;
    use proptest::prelude::*;

    use super::*;

    fn table(names: &[Option<&str>]) -> SemanticTable {
        let names: ArrayRef = Arc::new(names.iter().copied().collect::<StringArray>());
        SemanticTable::new(RecordBatch::try_from_iter([("name", names)]).unwrap())
    }

    #[tokio::test]
    async fn a_look_up_by_name_gives_what_a_full_scan_gives_in_the_same_order() {
        let names: Vec<Option<String>> =
            (0..20_000).map(|n| (n % 7 != 0).then(|| format!("n{}", n % 501))).collect();
        let table = table(&names.iter().map(Option::as_deref).collect::<Vec<_>>());
        let context = SessionContext::new();
        context.register_table("t", Arc::new(table)).unwrap();
        for (name, negated) in [("n5", false), ("n500", false), ("absent", false), ("n5", true)] {
            let condition = if negated { "<>" } else { "=" };
            let sql = format!("SELECT count(*) AS n FROM t WHERE name {condition} '{name}'");
            let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
            let found = batches[0].column(0).as_any().downcast_ref::<datafusion::arrow::array::Int64Array>();
            let expected =
                names.iter().flatten().filter(|known| (known.as_str() == name) != negated).count() as i64;
            assert_eq!(found.unwrap().value(0), expected, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn the_index_finds_exactly_the_rows_of_a_value(names in proptest::collection::vec(proptest::option::of("[ab]{0,2}"), 0..60)) {
            let table = table(&names.iter().map(Option::as_deref).collect::<Vec<_>>());
            for wanted in ["", "a", "b", "ab", "zz"] {
                let expected: Vec<u32> = (0..names.len() as u32).filter(|row| names[*row as usize].as_deref() == Some(wanted)).collect();
                prop_assert_eq!(table.rows(0, wanted), expected.as_slice());
            }
        }
    }
}
