//! What one caller's SQL may name, and what stands behind each name.
//!
//! N1 A relation is in the namespace only if the caller may know of it; its columns are only those of the caller's
//! clearance. N2 A provider is opened only for relations that the guard approved.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Schema};
use datafusion::datasource::{MemTable, TableProvider};

use super::served::{CallerJudge, Part, View};
use super::{Context, Engine, EngineError};
use crate::auth::Operation;
use crate::guard::{ApprovedSql, Argument, Column, Namespace, Relation, TableCall, TableFunction};
use crate::query::Tables;
use crate::semantic::{self, Dataset, Field, Model};
use crate::warehouse::{Declared, QueryTag, WarehouseError};

pub(super) const INFORMATION_SCHEMA: &str = "information_schema";
pub(super) const SEMANTIC: &str = "semantic";
pub(super) const ACTIONS: &str = "actions";
pub(super) const RESPONSES: &str = "responses";

/// The columns of `information_schema.tables` and `.columns`.
const TABLES_COLUMNS: &[&str] = &["table_catalog", "table_schema", "table_name", "table_type"];
const COLUMNS_COLUMNS: &[&str] =
    &["table_catalog", "table_schema", "table_name", "column_name", "ordinal_position"];
/// Those of `actions.operations`.
const ACTIONS_COLUMNS: [&str; 6] = ["api", "operation", "method", "path", "summary", "description"];
/// The table function that searches the metadata, and how many rows it gives.
const SEARCH: &str = "semantic_search";
const SEARCH_ROWS: i64 = 10;
const MAX_SEARCH_ROWS: i64 = 1_000;

impl Engine {
    /// What this caller may know of the semantic layer now; held to the end of a request.
    pub(super) fn view(&self, context: &Context) -> Arc<View> {
        self.served.load().view(&context.principal).clone()
    }

    /// Everything that this caller's SQL may name; of the tables of responses, `among` alone, if it is given.
    pub(super) async fn namespace(
        &self,
        context: &Context,
        view: &Arc<View>,
        among: Option<&[String]>,
    ) -> Result<Namespace, EngineError> {
        let principal = &context.principal;
        let may_read = Operation::ListDatasets.authorize(principal, None).is_ok();
        let mut namespace = self.datasets(context, view.here());
        if may_read {
            for name in semantic::TABLE_NAMES {
                if let Some(schema) = view.tables.schema(name) {
                    namespace.insert(plain(SEMANTIC, name, names(&schema)));
                }
            }
            let columns = names(&semantic::search_batch(&[]).schema());
            namespace.insert_function(TableFunction { name: SEARCH.to_owned(), columns });
        }
        if Operation::ListActions.authorize(principal, None).is_ok() {
            let columns = ACTIONS_COLUMNS.iter().map(|column| (*column).to_owned());
            namespace.insert(plain(ACTIONS, "operations", columns));
        }
        for table in self.response_tables(context, among).await? {
            let target = format!("{RESPONSES}.{}", table.name);
            if Operation::SqlRun.authorize(principal, Some(&target)).is_ok() {
                namespace.insert(plain(RESPONSES, &table.name, table.columns.iter().cloned()));
            }
        }
        for (name, columns) in [("tables", TABLES_COLUMNS), ("columns", COLUMNS_COLUMNS)] {
            let columns = columns.iter().map(|column| (*column).to_owned());
            namespace.insert(plain(INFORMATION_SCHEMA, name, columns));
        }
        Ok(namespace)
    }

    /// The datasets that this caller's SQL may name, in the form of one engine.
    pub(super) fn datasets(&self, context: &Context, part: Arc<Part>) -> Namespace {
        let principal = context.principal.clone();
        let may_read = Operation::ListDatasets.authorize(&principal, None).is_ok();
        Namespace::over(part.relations(), Arc::new(CallerJudge { principal, may_read, part }))
    }

    /// Opens what an approved query reads, and nothing else.
    pub(super) async fn tables(
        &self,
        context: &Context,
        sql: &ApprovedSql,
        namespace: &Namespace,
        view: &Arc<View>,
    ) -> Result<Tables, EngineError> {
        let open = async |(schema, name): &(String, String)| {
            let provider = match schema.as_str() {
                SEMANTIC => view.provider(name).ok_or(EngineError::Interrupted)?,
                ACTIONS => memory(self.actions_batch()?)?,
                INFORMATION_SCHEMA => {
                    let [tables, columns] = information_schema(namespace)?;
                    memory(if name == "tables" { tables } else { columns })?
                }
                RESPONSES => self.response_provider(name).await?,
                model => self.dataset_provider(context, view, model, name).await?,
            };
            Ok::<_, EngineError>(((schema.clone(), name.clone()), provider))
        };
        // At the same time: those of an object store or a server take round trips each.
        let mut tables = futures::future::try_join_all(sql.relations().iter().map(open)).await?;
        for call in sql.calls() {
            tables.push((call.relation.clone(), answer(call, view).await?));
        }
        Ok(tables)
    }

    async fn dataset_provider(
        &self,
        context: &Context,
        view: &View,
        model: &str,
        dataset: &str,
    ) -> Result<Arc<dyn TableProvider>, EngineError> {
        let model = view.models.iter().find(|known| known.name == model).ok_or(EngineError::Interrupted)?;
        let found = model.dataset(dataset).ok_or(EngineError::Interrupted)?;
        let place = self.warehouses.place(model, found)?;
        let warehouse = self.warehouses.get(&place.warehouse)?;
        let provider = warehouse
            .table_as(&place.schema, &place.table, &self.declared(&model.name, dataset), &tag(context))
            .await?;
        if warehouse.remote().is_some() {
            has_columns(&provider.schema(), model, found)?;
        }
        Ok(provider)
    }

    /// The types that the dataset declares of its columns, hidden ones too: a row filter reads them the same for everybody.
    fn declared(&self, model: &str, dataset: &str) -> Declared {
        let served = self.served.load();
        let model = served.catalog.models.iter().find(|known| known.name == model);
        let fields = model.and_then(|model| model.dataset(dataset)).map(|dataset| &dataset.fields);
        let mut declared = Declared::new();
        for field in fields.into_iter().flatten().filter(|field| !field.datatype.is_empty()) {
            let column = field.expression.text_for_engine().and_then(|text| column(field, text));
            if let Some(column) = column {
                declared.entry(column.to_owned()).or_insert_with(|| field.datatype.to_string());
            }
        }
        declared
    }

    fn actions_batch(&self) -> Result<RecordBatch, EngineError> {
        let rows = self.action_rows();
        let text = |pick: fn(&super::ActionSummary) -> &str| -> ArrayRef {
            Arc::new(
                rows.iter()
                    .map(|row| Some(pick(row)).filter(|text| !text.is_empty()))
                    .collect::<StringArray>(),
            )
        };
        let columns = [
            text(|row| &row.api),
            text(|row| &row.operation),
            text(|row| &row.method),
            text(|row| &row.path),
            text(|row| &row.summary),
            text(|row| &row.description),
        ];
        batch(ACTIONS_COLUMNS.iter().copied().zip(columns).collect())
    }
}

/// `tables` and `columns` of everything in the namespace, as SQL's information schema has them; ordered by names.
fn information_schema(namespace: &Namespace) -> Result<[RecordBatch; 2], EngineError> {
    let mut relations: Vec<&Relation> =
        namespace.relations().filter(|relation| relation.schema != INFORMATION_SCHEMA).collect();
    relations.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    let catalog =
        |count| -> ArrayRef { Arc::new(StringArray::from_iter_values((0..count).map(|_| "steward"))) };
    let texts = |values: &mut dyn Iterator<Item = &str>| -> ArrayRef {
        Arc::new(values.map(Some).collect::<StringArray>())
    };
    let tables = batch(vec![
        (TABLES_COLUMNS[0], catalog(relations.len())),
        (TABLES_COLUMNS[1], texts(&mut relations.iter().map(|relation| relation.schema.as_str()))),
        (TABLES_COLUMNS[2], texts(&mut relations.iter().map(|relation| relation.name.as_str()))),
        (TABLES_COLUMNS[3], texts(&mut relations.iter().map(|_| "VIEW"))),
    ])?;
    let columns = || {
        relations.iter().flat_map(|relation| {
            relation.columns.iter().enumerate().map(move |(at, column)| (*relation, at + 1, column))
        })
    };
    let ordinals: ArrayRef = Arc::new(columns().map(|row| Some(row.1 as i64)).collect::<Int64Array>());
    let columns = batch(vec![
        (COLUMNS_COLUMNS[0], catalog(columns().count())),
        (COLUMNS_COLUMNS[1], texts(&mut columns().map(|row| row.0.schema.as_str()))),
        (COLUMNS_COLUMNS[2], texts(&mut columns().map(|row| row.0.name.as_str()))),
        (COLUMNS_COLUMNS[3], texts(&mut columns().map(|row| row.2.name.as_str()))),
        (COLUMNS_COLUMNS[4], ordinals),
    ])?;
    Ok([tables, columns])
}

/// The rows of a table function.
async fn answer(call: &TableCall, view: &Arc<View>) -> Result<Arc<dyn TableProvider>, EngineError> {
    let (words, rows) = match call.arguments.as_slice() {
        [Argument::Text(words)] => (words.clone(), SEARCH_ROWS),
        [Argument::Text(words), Argument::Integer(rows)] if (1..=MAX_SEARCH_ROWS).contains(rows) => {
            (words.clone(), *rows)
        }
        _ => {
            let message = format!(
                "{} takes the words to search for and a number of rows from 1 to {MAX_SEARCH_ROWS}, such as {SEARCH}('late departures', 10)",
                call.function
            );
            return Err(EngineError::InvalidInput(message));
        }
    };
    let rows = usize::try_from(rows).unwrap_or_default();
    let view = view.clone();
    let found = move || {
        let matches: Vec<semantic::Match<'_>> = view.finder().search(&words).take(rows).collect();
        semantic::search_batch(&matches)
    };
    memory(tokio::task::spawn_blocking(found).await?)
}

/// The column that an expression is, if it is one as it stands.
fn column<'a>(field: &'a Field, text: &'a str) -> Option<&'a str> {
    if text == field.name || text == semantic::quote(&field.name) {
        return Some(&field.name);
    }
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    // Without quotes, the engine reads a name in small letters.
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match quoted {
        Some(name) => Some(name).filter(|name| !name.contains('"')),
        None => Some(text)
            .filter(|text| !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(is_plain)),
    }
}

/// Who asks, as a warehouse's server is told.
pub(super) fn tag(context: &Context) -> QueryTag {
    QueryTag { client: context.principal.client_id.to_string(), request_id: context.request_id.clone() }
}

/// A field that is a column by itself is told by name; the engine's own message would list columns that are not
/// published.
fn has_columns(schema: &Schema, model: &Model, dataset: &Dataset) -> Result<(), WarehouseError> {
    let plain = |field: &&Field| {
        let text = field.expression.text_for_engine();
        text.is_some_and(|text| text == field.name || text == semantic::quote(&field.name))
    };
    match dataset.fields.iter().filter(plain).find(|field| schema.index_of(&field.name).is_err()) {
        None => Ok(()),
        Some(field) => Err(WarehouseError::UnknownColumn {
            dataset: format!("{}.{}", model.name, dataset.name),
            column: field.name.clone(),
        }),
    }
}

fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

fn plain(schema: &str, name: &str, columns: impl IntoIterator<Item = String>) -> Relation {
    let columns = columns.into_iter().map(|name| Column { name, expression: None }).collect();
    Relation {
        schema: schema.to_owned(),
        name: name.to_owned(),
        source: Vec::new(),
        columns,
        row_filter: None,
        missing_scope: None,
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, EngineError> {
    let fields: Vec<ArrowField> = columns
        .iter()
        .map(|(name, array)| ArrowField::new(*name, DataType::clone(array.data_type()), true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
        .map_err(|_| EngineError::Interrupted)
}

fn memory(batch: RecordBatch) -> Result<Arc<dyn TableProvider>, EngineError> {
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(|_| EngineError::Interrupted)?;
    Ok(Arc::new(table))
}
