//! Warehouses: where the data of published datasets lives.
//!
//! W1 Nothing here reads SQL text of a user: what is sent is text of [`crate::guard::ApprovedSql`], or made here of a
//! filter that DataFusion pushed down ([`RemoteSql`] has no other constructor).
//! W2 A remote warehouse is read, never written: each session is read-only at the server too, with time limits there.
//! W3 Who drops a result cancels its query at the server. W4 No error says what a hidden row holds, or a secret.

mod adbc;
mod convert;
mod dialect;
mod error;
pub mod introspect;
mod local;
mod names;
mod pushdown;
mod remote;
mod remote_table;
mod snowflake;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::datasource::TableProvider;

pub use adbc::AdbcWarehouse;
pub use dialect::WarehouseDialect;
pub use error::{RemoteError, WarehouseError, remote_of};
pub use local::{LayoutError, LocalWarehouse, data_ending, file_table};
pub use names::{Source, physical_name};
pub use remote::{QueryTag, Remote, RemoteQuery, RemoteSql};
pub use snowflake::SnowflakeWarehouse;

/// What a dataset's fields declare of the columns that they read as they are: the logical type (`String`, `Date`, …) by
/// the column's name.
pub type Declared = BTreeMap<String, String>;

/// A source of tables.
///
/// `table` answers with a provider whose schema is that of the data right now; asking twice without a change of the
/// data gives the same schema. An unknown table is [`WarehouseError::UnknownTable`], never an empty one.
#[async_trait]
pub trait Warehouse: Send + Sync + std::fmt::Debug {
    /// `tag` is who asks, for the logs of a server.
    async fn table(
        &self,
        schema: &str,
        table: &str,
        tag: &QueryTag,
    ) -> Result<Arc<dyn TableProvider>, WarehouseError>;

    /// The table for a dataset that declares types. They count where the data itself has none, as in CSV: a value that
    /// does not fit is then an error of the query that reads it.
    async fn table_as(
        &self,
        schema: &str,
        table: &str,
        _declared: &Declared,
        tag: &QueryTag,
    ) -> Result<Arc<dyn TableProvider>, WarehouseError> {
        self.table(schema, table, tag).await
    }

    /// What its SQL is written in.
    fn dialect(&self) -> WarehouseDialect {
        WarehouseDialect::DataFusion
    }

    /// Its own engine, which takes whole queries; nothing where DataFusion is the engine.
    fn remote(&self) -> Option<&dyn Remote> {
        None
    }
}

#[cfg(test)]
pub(crate) mod tests;
