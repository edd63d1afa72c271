//! What a warehouse with an engine of its own can do.

use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;

use super::RemoteError;
use crate::guard::ApprovedSql;

/// SQL text that may be sent to a warehouse (W1): approved by the guard, or made by this module alone.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteSql(String);

impl RemoteSql {
    /// Made here, of quoted names and literals.
    pub(super) fn made(text: String) -> Self {
        Self(text)
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl From<&ApprovedSql> for RemoteSql {
    fn from(approved: &ApprovedSql) -> Self {
        Self(approved.sql())
    }
}

impl std::fmt::Debug for RemoteSql {
    /// Literals of a caller go into no log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RemoteSql({} bytes)", self.0.len())
    }
}

/// Who asks, for the server's own logs and statistics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryTag {
    pub client: String,
    pub request_id: String,
}

/// One query with what holds for it.
#[derive(Debug, Clone)]
pub struct RemoteQuery {
    pub sql: RemoteSql,
    /// Enforced at the server where it can be, and here.
    pub timeout: Duration,
    pub tag: QueryTag,
}

/// An engine that runs queries of its own dialect.
///
/// `run` answers once the first rows are there, or the last: an error that comes before is an error of the call. Batches
/// have the stream's schema, rows come in the order of the query, an empty result is a stream without rows. An error in
/// the stream is a [`RemoteError`] inside `DataFusionError::External`. Dropping future or stream cancels the query at the
/// server (W3).
#[async_trait]
pub trait Remote: Send + Sync {
    async fn run(&self, query: RemoteQuery) -> Result<SendableRecordBatchStream, RemoteError>;

    /// The schema of a query's result, without running it: errors are those of names and types.
    async fn describe(&self, query: RemoteQuery) -> Result<SchemaRef, RemoteError> {
        // As a subquery, so that a limit of its own stays what it is.
        let sql = RemoteSql(format!("SELECT * FROM ({}) AS \"described\" LIMIT 0", query.sql.text()));
        Ok(self.run(RemoteQuery { sql, ..query }).await?.schema())
    }

    /// Rows that the server expects of a query, without running it; nothing where it does not say.
    async fn estimate(&self, query: RemoteQuery) -> Result<Option<u64>, RemoteError>;
}
