//! What one caller's SQL may name, and what stands behind each name.
//!
//! N1 A relation is in the namespace only if the caller may know of it; its columns are only those of the caller's
//! clearance. N2 A provider is opened only for relations that the guard approved.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::{MemTable, TableProvider};

use super::{Context, Engine, EngineError};
use crate::auth::Operation;
use crate::guard::{ApprovedSql, Column, Namespace, Relation};
use crate::query::Tables;
use crate::semantic::{self, Dataset, Model};
use crate::warehouse::WarehouseError;

const INFORMATION_SCHEMA: &str = "information_schema";
const SEMANTIC: &str = "semantic";
const ACTIONS: &str = "actions";
pub(super) const RESPONSES: &str = "responses";

impl Engine {
    /// Everything that this caller's SQL may name.
    pub(super) async fn namespace(&self, context: &Context) -> Result<Namespace, EngineError> {
        let principal = &context.principal;
        let mut namespace = Namespace::default();
        let may_read = Operation::ListDatasets.authorize(principal, None).is_ok();
        let served = &self.served;
        let view = served.view(principal);
        for model in &view.models {
            for dataset in &model.datasets {
                let target = format!("{}.{}", model.name, dataset.name);
                let missing_scope = match Operation::SqlRun.authorize(principal, Some(&target)) {
                    Ok(()) => None,
                    // Who may neither read about it nor run it does not learn that it exists.
                    Err(_) if !may_read => continue,
                    Err(_) => Operation::SqlRun.required_scope(Some(&target)).map(|scope| scope.to_string()),
                };
                namespace.insert(relation(model, dataset, missing_scope)?);
            }
        }
        if may_read {
            for name in semantic::TABLE_NAMES {
                if let Some(schema) = view.tables.schema(name) {
                    namespace.insert(plain(
                        SEMANTIC,
                        name,
                        schema.fields().iter().map(|field| field.name().clone()),
                    ));
                }
            }
        }
        if Operation::ListActions.authorize(principal, None).is_ok() {
            let columns = self.actions_batch()?.schema();
            namespace.insert(plain(
                ACTIONS,
                "operations",
                columns.fields().iter().map(|field| field.name().clone()),
            ));
        }
        for table in self.response_tables(context).await? {
            let target = format!("{RESPONSES}.{}", table.name);
            if Operation::SqlRun.authorize(principal, Some(&target)).is_ok() {
                namespace.insert(plain(RESPONSES, &table.name, table.columns.iter().cloned()));
            }
        }
        for (name, batch) in self.information_schema(&namespace)? {
            let names: Vec<String> =
                batch.schema().fields().iter().map(|field| field.name().clone()).collect();
            namespace.insert(plain(INFORMATION_SCHEMA, name, names));
        }
        Ok(namespace)
    }

    /// Opens what an approved query reads, and nothing else.
    pub(super) async fn tables(
        &self,
        context: &Context,
        sql: &ApprovedSql,
        namespace: &Namespace,
    ) -> Result<Tables, EngineError> {
        let mut tables = Tables::new();
        for (schema, name) in sql.relations() {
            let provider = match schema.as_str() {
                SEMANTIC => {
                    let served = &self.served;
                    let batch = served.view(&context.principal).tables.get(name).cloned();
                    memory(batch.ok_or(EngineError::Interrupted)?)?
                }
                ACTIONS => memory(self.actions_batch()?)?,
                INFORMATION_SCHEMA => {
                    let batch =
                        self.information_schema(namespace)?.into_iter().find(|(known, _)| known == name);
                    memory(batch.ok_or(EngineError::Interrupted)?.1)?
                }
                RESPONSES => self.response_provider(name).await?,
                model => self.dataset_provider(context, model, name).await?,
            };
            tables.push(((schema.clone(), name.clone()), provider));
        }
        Ok(tables)
    }

    async fn dataset_provider(
        &self,
        context: &Context,
        model: &str,
        dataset: &str,
    ) -> Result<Arc<dyn TableProvider>, EngineError> {
        let models = self.models(context);
        let found = models.iter().find(|known| known.name == model).and_then(|known| known.dataset(dataset));
        let source = &found.ok_or(EngineError::Interrupted)?.relation;
        let parts: Vec<&str> = source.split('.').map(str::trim).collect();
        let default = self.warehouses.keys().next().map(String::as_str).unwrap_or_default();
        let (warehouse, schema, table) = match parts.as_slice() {
            [table] => (default, model, *table),
            [schema, table] => (default, *schema, *table),
            [warehouse, schema, table] => (*warehouse, *schema, *table),
            _ => return Err(WarehouseError::BadName { name: source.clone() }.into()),
        };
        let Some(opened) = self.warehouses.get(warehouse) else {
            let known = self.warehouses.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(WarehouseError::UnknownWarehouse { name: warehouse.to_owned(), known }.into());
        };
        Ok(opened.table(schema, table).await?)
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
        batch(vec![
            ("api", text(|row| &row.api)),
            ("operation", text(|row| &row.operation)),
            ("method", text(|row| &row.method)),
            ("path", text(|row| &row.path)),
            ("summary", text(|row| &row.summary)),
            ("description", text(|row| &row.description)),
        ])
    }

    /// `tables` and `columns` of everything in the namespace, as SQL's information schema has them.
    fn information_schema(
        &self,
        namespace: &Namespace,
    ) -> Result<Vec<(&'static str, RecordBatch)>, EngineError> {
        let relations: Vec<&Relation> =
            namespace.relations().filter(|relation| relation.schema != INFORMATION_SCHEMA).collect();
        let texts = |values: Vec<String>| -> ArrayRef {
            Arc::new(values.into_iter().map(Some).collect::<StringArray>())
        };
        let tables = batch(vec![
            ("table_catalog", texts(relations.iter().map(|_| "steward".to_owned()).collect())),
            ("table_schema", texts(relations.iter().map(|relation| relation.schema.clone()).collect())),
            ("table_name", texts(relations.iter().map(|relation| relation.name.clone()).collect())),
            ("table_type", texts(relations.iter().map(|_| "VIEW".to_owned()).collect())),
        ])?;
        let columns: Vec<(&Relation, usize, &Column)> = relations
            .iter()
            .flat_map(|relation| {
                relation.columns.iter().enumerate().map(move |(at, column)| (*relation, at + 1, column))
            })
            .collect();
        let ordinals: ArrayRef =
            Arc::new(columns.iter().map(|row| Some(row.1 as i64)).collect::<Int64Array>());
        let columns = batch(vec![
            ("table_catalog", texts(columns.iter().map(|_| "steward".to_owned()).collect())),
            ("table_schema", texts(columns.iter().map(|row| row.0.schema.clone()).collect())),
            ("table_name", texts(columns.iter().map(|row| row.0.name.clone()).collect())),
            ("column_name", texts(columns.iter().map(|row| row.2.name.clone()).collect())),
            ("ordinal_position", ordinals),
        ])?;
        Ok(vec![("tables", tables), ("columns", columns)])
    }
}

fn relation(
    model: &Model,
    dataset: &Dataset,
    missing_scope: Option<String>,
) -> Result<Relation, EngineError> {
    let mut columns = Vec::with_capacity(dataset.fields.len());
    for field in &dataset.fields {
        let text = field.expression.text();
        let is_plain = text == field.name || text == semantic::quote(&field.name);
        let expression = match is_plain {
            true => None,
            // Parsed before, when the model was loaded; a model that fails here was not served.
            false => Some(semantic::parse_expression(text).map_err(|_| EngineError::Interrupted)?),
        };
        columns.push(Column { name: field.name.clone(), expression });
    }
    Ok(Relation {
        schema: model.name.clone(),
        name: dataset.name.clone(),
        columns,
        row_filter: None,
        missing_scope,
    })
}

fn plain(schema: &str, name: &str, columns: impl IntoIterator<Item = String>) -> Relation {
    let columns = columns.into_iter().map(|name| Column { name, expression: None }).collect();
    Relation {
        schema: schema.to_owned(),
        name: name.to_owned(),
        columns,
        row_filter: None,
        missing_scope: None,
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, EngineError> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, DataType::clone(array.data_type()), true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
        .map_err(|_| EngineError::Interrupted)
}

fn memory(batch: RecordBatch) -> Result<Arc<dyn TableProvider>, EngineError> {
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(|_| EngineError::Interrupted)?;
    Ok(Arc::new(table))
}
