//! Warehouses: where the data of published datasets lives.
//!
//! W1 Nothing here reads SQL text of a user: queries come as [`crate::guard::ApprovedSql`], by way of `query`.

pub mod introspect;
mod local;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::datasource::TableProvider;

use crate::error::ErrorKind;

pub use local::{LayoutError, LocalWarehouse, file_table};

/// What can go wrong between a dataset's `source` and its rows.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    #[error("there is no warehouse `{name}`; configured: {known}")]
    UnknownWarehouse { name: String, known: String },
    #[error("`{name}` cannot name a schema or table: use letters, digits, `_` and `-`")]
    BadName { name: String },
    #[error("the warehouse has no table `{schema}.{table}`")]
    UnknownTable { schema: String, table: String },
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("the warehouse cannot read its data: {0}")]
    Read(#[source] Box<datafusion::error::DataFusionError>),
}

impl WarehouseError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            // A published dataset without data is for the data steward to mend, not for the caller.
            Self::UnknownWarehouse { .. }
            | Self::BadName { .. }
            | Self::UnknownTable { .. }
            | Self::Layout(_)
            | Self::Read(_) => ErrorKind::Unavailable,
        }
    }
}

/// A source of tables.
///
/// `table` answers with a provider whose schema is that of the data right now; asking twice without a change of the
/// data gives the same schema. An unknown table is [`WarehouseError::UnknownTable`], never an empty one.
#[async_trait]
pub trait Warehouse: Send + Sync + std::fmt::Debug {
    async fn table(&self, schema: &str, table: &str) -> Result<Arc<dyn TableProvider>, WarehouseError>;
}
