//! A table of the semantic layer for the query engine: made as it is read, and found by name without reading all of it.
//!
//! T1 A scan yields every row that its filters could keep; the engine applies the filters again.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::{Array, StringArray};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::ScalarValue;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use crate::semantic::Table;

/// With fewer parts, reading everything is as fast as looking.
const INDEX_FROM_PARTS: usize = 4;
/// What one batch holds, as [`Table::weight`] counts; a part is never cut.
const BATCH_WEIGHT: usize = 8_192;
/// Less than this is made at once, in the order of the table: an engine that knows how little it is plans no threads.
const STREAM_FROM_WEIGHT: usize = 32_768;

#[derive(Debug)]
pub(super) struct SemanticTable {
    table: Arc<Table>,
    /// By column: hashes of its values with the parts that hold them, sorted; made when first asked for.
    indexes: Vec<OnceLock<Vec<(u32, u32)>>>,
    hasher: RandomState,
}

impl SemanticTable {
    pub fn new(table: Table) -> Self {
        let indexes = table.schema().fields().iter().map(|_| OnceLock::new()).collect();
        Self { table: Arc::new(table), indexes, hasher: RandomState::new() }
    }

    /// The column and the text of a filter `column = 'text'` that an index serves.
    fn equality<'e>(&self, filter: &'e Expr) -> Option<(usize, &'e str)> {
        let Expr::BinaryExpr(binary) = filter else { return None };
        if binary.op != Operator::Eq || self.table.parts() < INDEX_FROM_PARTS {
            return None;
        }
        let (column, text) = match (binary.left.as_ref(), binary.right.as_ref()) {
            (Expr::Column(column), Expr::Literal(ScalarValue::Utf8(Some(text)), _))
            | (Expr::Literal(ScalarValue::Utf8(Some(text)), _), Expr::Column(column)) => (column, text),
            _ => return None,
        };
        let schema = self.table.schema();
        let at = schema.index_of(&column.name).ok()?;
        (schema.field(at).data_type() == &DataType::Utf8).then_some((at, text.as_str()))
    }

    fn hash(&self, text: &str) -> u32 {
        // Two texts of one hash cost a part that is read in vain.
        self.hasher.hash_one(text) as u32
    }

    /// Parts that may hold `text` in a column: all that do, in order.
    fn parts(&self, column: usize, text: &str) -> Vec<usize> {
        let index = self.indexes[column].get_or_init(|| {
            let mut index = Vec::new();
            for part in 0..self.table.parts() {
                let batch = self.table.batch(&[part], Some(&[column]));
                let Some(texts) = batch.column(0).as_any().downcast_ref::<StringArray>() else { continue };
                let mut last = None;
                for text in texts.iter().flatten().filter(|text| last.replace(*text) != Some(*text)) {
                    index.push((self.hash(text), part as u32));
                }
            }
            index.sort_unstable();
            index.dedup();
            index.shrink_to_fit();
            index
        });
        let hash = self.hash(text);
        let found = &index[index.partition_point(|entry| entry.0 < hash)..];
        found.iter().take_while(|entry| entry.0 == hash).map(|entry| entry.1 as usize).collect()
    }

    /// The fewest parts that one of the filters leaves; all without such a filter.
    fn narrowed(&self, filters: &[Expr]) -> Vec<usize> {
        let found = filters.iter().filter_map(|filter| self.equality(filter));
        let fewest = found.map(|(column, text)| self.parts(column, text)).min_by_key(Vec::len);
        fewest.unwrap_or_else(|| (0..self.table.parts()).collect())
    }
}

#[async_trait]
impl TableProvider for SemanticTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
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
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(projection) => Arc::new(self.table.schema().project(projection)?),
            None => self.table.schema(),
        };
        let batches = self.batches(self.narrowed(filters));
        let weight = batches.iter().flatten().map(|part| self.table.weight(*part)).sum::<usize>();
        if weight < STREAM_FROM_WEIGHT {
            let made = batches.iter().map(|parts| self.table.batch(parts, projection.map(Vec::as_slice)));
            return Ok(MemorySourceConfig::try_new_exec(&[made.collect()], schema, None)?);
        }
        let threads = state.config().target_partitions().max(1);
        let mut each = vec![Vec::new(); threads];
        for (at, batch) in batches.into_iter().enumerate() {
            each[at % threads].push(batch);
        }
        let stream = |batches| -> Arc<dyn PartitionStream> {
            let (table, projection) = (self.table.clone(), projection.cloned());
            Arc::new(Stream { table, schema: schema.clone(), projection, batches })
        };
        let streams = each.into_iter().map(stream).collect();
        let plan = StreamingTableExec::try_new(schema.clone(), streams, None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

impl SemanticTable {
    /// Parts put together to batches.
    fn batches(&self, parts: Vec<usize>) -> Vec<Vec<usize>> {
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut weight = BATCH_WEIGHT;
        for part in parts {
            if weight >= BATCH_WEIGHT {
                batches.push(Vec::new());
                weight = 0;
            }
            weight += self.table.weight(part);
            if let Some(batch) = batches.last_mut() {
                batch.push(part);
            }
        }
        batches
    }
}

/// What one thread reads.
#[derive(Debug)]
struct Stream {
    table: Arc<Table>,
    schema: SchemaRef,
    projection: Option<Vec<usize>>,
    batches: Vec<Vec<usize>>,
}

impl PartitionStream for Stream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (table, projection) = (self.table.clone(), self.projection.clone());
        let batches = self.batches.clone().into_iter();
        let made = batches.map(move |parts| Ok(table.batch(&parts, projection.as_deref())));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::iter(made)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::Int64Array;
    use datafusion::prelude::SessionContext;
    use proptest::prelude::*;

    use super::*;
    use crate::semantic::{Catalog, Tables};

    /// A model of each list of datasets; a dataset is the names of its fields.
    fn tables(models: &[Vec<Vec<String>>]) -> Tables {
        let file = |(at, datasets): (usize, &Vec<Vec<String>>)| {
            let mut text = format!("name: m{at}\ndescription: d.\ndatasets:\n");
            for (number, fields) in datasets.iter().enumerate() {
                text +=
                    &format!("  - name: t{number}\n    source: s.t\n    description: Rows.\n    fields:\n");
                for field in fields {
                    text += &format!("      - {{name: {field}, description: A {field}.}}\n");
                }
            }
            (format!("m{at}/m.yaml"), Ok(text))
        };
        let catalog = Catalog::from_sources(models.iter().enumerate().map(file), Vec::new());
        assert_eq!(catalog.models.len(), models.len(), "{:?}", catalog.diagnostics);
        Tables::build(&catalog.models)
    }

    async fn count(table: &Table, condition: &str) -> i64 {
        let context = SessionContext::new();
        context.register_table("t", Arc::new(SemanticTable::new(table.clone()))).unwrap();
        let sql = format!("SELECT count(*) AS n FROM t {condition}");
        let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
        batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0)
    }

    #[tokio::test]
    async fn a_look_up_by_name_gives_what_a_full_scan_gives() {
        // One model of many parts, and many models of one.
        let dataset = |at: usize| (0..700).map(|n| format!("f{}", n * (at + 1))).collect::<Vec<_>>();
        let mut models = vec![(0..40).map(dataset).collect::<Vec<_>>()];
        models.extend((0..30).map(|at| vec![vec![format!("own{at}"), "shared".to_owned()]]));
        let tables = tables(&models);
        let fields = tables.get("fields").unwrap();
        let names: Vec<&String> = models.iter().flatten().flatten().collect();
        assert!(fields.parts() > 40 && fields.all().num_rows() == names.len());
        assert_eq!(count(fields, "").await, names.len() as i64);
        for wanted in ["f0", "f12", "f27261", "own7", "shared", "absent"] {
            let expected = names.iter().filter(|name| name.as_str() == wanted).count() as i64;
            assert_eq!(count(fields, &format!("WHERE field = '{wanted}'")).await, expected, "{wanted}");
            let others = count(fields, &format!("WHERE field <> '{wanted}'")).await;
            assert_eq!(others, names.len() as i64 - expected, "{wanted}");
        }
        assert_eq!(count(fields, "WHERE model = 'm0' AND dataset = 't39' AND field = 'f40'").await, 1);
    }

    #[tokio::test]
    async fn columns_come_as_they_are_asked_for_and_small_tables_in_their_order() {
        let tables = tables(&[vec![vec!["b".into(), "a".into()], vec!["c".into()]], vec![vec!["a".into()]]]);
        let context = SessionContext::new();
        let table = SemanticTable::new(tables.get("fields").unwrap().clone());
        context.register_table("t", Arc::new(table)).unwrap();
        let batches =
            context.sql("SELECT ordinal, field, model FROM t").await.unwrap().collect().await.unwrap();
        let shown = datafusion::arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        let rows: Vec<String> = shown
            .lines()
            .skip(3)
            .map(|line| line.replace([' ', '|'], ""))
            .filter(|row| !row.starts_with('+'))
            .collect();
        assert_eq!(rows, ["1bm0", "2am0", "1cm0", "1am1"], "{shown}");
    }

    proptest! {
        #[test]
        fn the_index_leaves_out_no_part_that_holds_a_value(
            models in proptest::collection::vec(proptest::collection::vec(proptest::collection::btree_set("[ab]{1,2}", 1..4), 1..3), 1..12)
        ) {
            let models: Vec<Vec<Vec<String>>> = models
                .into_iter()
                .map(|model| model.into_iter().map(|fields| fields.into_iter().collect()).collect())
                .collect();
            let tables = tables(&models);
            let table = SemanticTable::new(tables.get("fields").unwrap().clone());
            let column = table.schema().index_of("field").unwrap();
            for wanted in ["a", "b", "ab", "zz"] {
                let holds = |part: &usize| {
                    let batch = table.table.batch(&[*part], Some(&[column]));
                    let texts = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
                    texts.iter().any(|text| text == Some(wanted))
                };
                let expected: Vec<usize> = (0..table.table.parts()).filter(holds).collect();
                prop_assert_eq!(table.parts(column, wanted), expected);
            }
        }
    }
}
