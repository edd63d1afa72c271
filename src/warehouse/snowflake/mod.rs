//! Snowflake, by the crate snowflake-api.
//!
//! S1 Every statement carries its time limit and a tag with client and request. S2 Results come in chunks, in order, a few
//! at a time. S3 A dropped query is cancelled at the server. S4 Snowflake has no read-only session: the role decides, and
//! docs/warehouses.md says which grants it needs.

mod key_pair;
mod session;
mod settings;
mod types;

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::datasource::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use snowflake_api::connection::Connection;
use tokio::sync::Semaphore;

use super::convert::Converter;
use super::dialect::quoted;
use super::names::published_name;
use super::pushdown::{Layout, RemoteColumn};
use super::remote_table::{KnownTables, Reader, RemoteTable, TableShape, external};
use super::{
    QueryTag, Remote, RemoteError, RemoteQuery, RemoteSql, Warehouse, WarehouseDialect, WarehouseError,
};
use crate::config::SnowflakeConfig;
use session::{Answered, Order, Session};
use settings::Account;
use types::Column;

/// Chunks that are fetched ahead.
const AHEAD: usize = 2;

/// A Snowflake account.
#[derive(Debug)]
pub struct SnowflakeWarehouse {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    session: Arc<Session>,
    slots: Arc<Semaphore>,
    timeout: Duration,
    known: KnownTables,
}

impl SnowflakeWarehouse {
    /// Reads the settings; Snowflake is asked at the first use. `timeout` limits the scans of federated queries.
    pub fn open(name: &str, config: &SnowflakeConfig, timeout: Duration) -> Result<Self, WarehouseError> {
        let connection = Connection::new().map_err(|_| WarehouseError::Config {
            warehouse: name.to_owned(),
            message: "cannot start the HTTPS client; check the system's certificates".to_owned(),
        })?;
        Self::over(name, config, connection, timeout)
    }

    /// The same over a connection that is there.
    fn over(
        name: &str,
        config: &SnowflakeConfig,
        connection: Connection,
        timeout: Duration,
    ) -> Result<Self, WarehouseError> {
        let account = Account::read(name, config)?;
        if config.max_connections == 0 {
            let message = "max_connections is 0; set it to 1 or more".to_owned();
            return Err(WarehouseError::Config { warehouse: name.to_owned(), message });
        }
        let session = Arc::new(Session::new(name.to_owned(), connection, account));
        let slots = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
        Ok(Self { inner: Arc::new(Inner { session, slots, timeout, known: KnownTables::default() }) })
    }

    #[cfg(test)]
    pub(super) fn for_test(config: &SnowflakeConfig, connection: Connection, timeout: Duration) -> Self {
        Self::over("test", config, connection, timeout).unwrap()
    }
}

/// Cancels the statement at the server when it is dropped before its end.
struct CancelOnDrop {
    session: Arc<Session>,
    id: Mutex<Option<String>>,
}

impl CancelOnDrop {
    fn started(&self, id: &str) {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
    }

    fn is_over(&self) {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let id = self.id.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Without a runtime the process is ending.
        if let (Some(id), Ok(runtime)) = (id, tokio::runtime::Handle::try_current()) {
            let session = self.session.clone();
            runtime.spawn(async move { session.cancel(&id).await });
        }
    }
}

impl Inner {
    async fn answer(&self, query: &RemoteQuery, describe_only: bool) -> Result<Answered, RemoteError> {
        let RemoteQuery { sql, timeout, tag } = query;
        let cancel = CancelOnDrop { session: self.session.clone(), id: Mutex::default() };
        let order = Order { sql, timeout: *timeout, tag, describe_only };
        let waiting = self.session.answer(&order, |id| cancel.started(id));
        let answered = tokio::time::timeout(*timeout, waiting).await;
        let answered = answered.unwrap_or(Err(RemoteError::Timeout { seconds: timeout.as_secs() }))?;
        cancel.is_over();
        Ok(answered)
    }

    /// The batches of a query's result with its columns.
    async fn rows(
        &self,
        query: RemoteQuery,
    ) -> Result<
        (Vec<Column>, futures::stream::BoxStream<'static, Result<RecordBatch, RemoteError>>),
        RemoteError,
    > {
        let deadline = tokio::time::Instant::now() + query.timeout;
        let seconds = query.timeout.as_secs();
        let slot = match tokio::time::timeout_at(deadline, self.slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) => return Err(RemoteError::Failed),
            Err(_) => return Err(RemoteError::Busy),
        };
        let Answered { rowtype, rowset, rowset_base64, chunks, chunk_headers, qrmk, .. } =
            self.answer(&query, false).await?;
        let columns: Arc<[Column]> = rowtype.clone().into();
        let mut first = Vec::new();
        if let Some(rows) = rowset {
            first.push(types::from_rows(&columns, &rows)?);
        }
        if let Some(text) = rowset_base64.filter(|text| !text.is_empty()) {
            let bytes = STANDARD.decode(text).map_err(|_| RemoteError::Failed)?;
            first.extend(batches(&columns, &bytes)?);
        }
        let headers = match qrmk.filter(|_| chunk_headers.is_empty()) {
            Some(key) => HashMap::from([
                ("x-amz-server-side-encryption-customer-algorithm".to_owned(), "AES256".to_owned()),
                ("x-amz-server-side-encryption-customer-key".to_owned(), key),
            ]),
            None => chunk_headers,
        };
        let (session, headers) = (self.session.clone(), Arc::new(headers));
        let fetched = futures::stream::iter(chunks).map(move |chunk| {
            let (session, headers, columns) = (session.clone(), headers.clone(), columns.clone());
            async move {
                let fetched = tokio::time::timeout_at(deadline, session.chunk(&chunk, &headers)).await;
                let bytes = fetched.unwrap_or(Err(RemoteError::Timeout { seconds }))?;
                // Decoding takes a while for megabytes.
                tokio::task::spawn_blocking(move || batches(&columns, &bytes))
                    .await
                    .unwrap_or(Err(RemoteError::Failed))
            }
        });
        let rest = fetched
            .buffered(AHEAD)
            .map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok::<_, RemoteError>)));
        let all = futures::stream::iter(first.into_iter().map(Ok)).chain(rest.try_flatten());
        // The slot is held to the end.
        let all = all.map(move |batch| {
            let _held = &slot;
            batch
        });
        Ok((rowtype, all.boxed()))
    }

    async fn describe(&self, query: &RemoteQuery) -> Result<Vec<Column>, RemoteError> {
        Ok(self.answer(query, true).await?.rowtype)
    }

    async fn look_up(&self, schema: &str, table: &str, tag: &QueryTag) -> Result<TableShape, WarehouseError> {
        let relation = format!("{}.{}", quoted(schema), quoted(table));
        let sql = RemoteSql::made(format!("SELECT * FROM {relation}"));
        let query = RemoteQuery { sql, timeout: self.timeout, tag: tag.clone() };
        let columns = match self.describe(&query).await {
            Ok(columns) => columns,
            // Snowflake does not tell a table that is not there from one that may not be read.
            Err(RemoteError::Failed | RemoteError::Statement { .. }) => {
                return Err(WarehouseError::UnknownTable {
                    schema: schema.to_owned(),
                    table: table.to_owned(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        let published = |column: &Column| published_name(WarehouseDialect::Snowflake, &column.name);
        let shapes: Vec<_> = columns.iter().map(|column| column.shape(published(column))).collect();
        let columns = columns.iter().zip(&shapes).map(|(column, shape)| RemoteColumn {
            name: shape.name.clone(),
            value: quoted(&column.name),
            data_type: shape.data_type.clone(),
            pushes: shape.pushes,
            blank: None,
        });
        let layout = Layout { dialect: WarehouseDialect::Snowflake, relation, columns: columns.collect() };
        Ok(TableShape { layout: Arc::new(layout), shapes: shapes.into() })
    }
}

/// The batches of one chunk.
fn batches(columns: &[Column], bytes: &[u8]) -> Result<Vec<RecordBatch>, RemoteError> {
    let (schema, rest) = lenient(bytes).ok_or(RemoteError::Failed)?;
    let reader = StreamReader::try_new(schema.as_slice().chain(rest), None);
    let reader = reader.map_err(|_| RemoteError::Failed)?;
    reader.map(|batch| types::from_arrow(columns, &batch.map_err(|_| RemoteError::Failed)?)).collect()
}

/// The schema message of an IPC stream, with every field nullable, and what follows it. Parts of instants are declared
/// never to be null, and are where the instant is: a strict reader refuses that.
fn lenient(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    // Streams of before Arrow 0.15 have no marker before the length.
    let (length, start) = match word(0)? {
        u32::MAX => (word(4)?, 8_usize),
        length => (length, 4),
    };
    let rest = bytes.get(start.checked_add(usize::try_from(length).ok()?)?..)?;
    let schema = StreamReader::try_new(bytes, None).ok()?.schema();
    let fields: Fields = schema.fields().iter().map(|field| nullable(field)).collect();
    let writer = StreamWriter::try_new(Vec::new(), &Schema::new(fields)).ok()?;
    Some((writer.get_ref().clone(), rest))
}

fn nullable(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Struct(parts) => DataType::Struct(parts.iter().map(|part| nullable(part)).collect()),
        other => other.clone(),
    };
    Field::new(field.name(), data_type, true)
}

#[async_trait]
impl Warehouse for SnowflakeWarehouse {
    async fn table(
        &self,
        schema: &str,
        table: &str,
        tag: &QueryTag,
    ) -> Result<Arc<dyn TableProvider>, WarehouseError> {
        let look_up = self.inner.look_up(schema, table, tag);
        let shape = self.inner.known.get_or(schema, table, look_up).await?;
        Ok(Arc::new(RemoteTable::new(shape, self.inner.clone(), tag.clone())))
    }

    fn dialect(&self) -> WarehouseDialect {
        WarehouseDialect::Snowflake
    }

    fn remote(&self) -> Option<&dyn Remote> {
        Some(self)
    }
}

#[async_trait]
impl Remote for SnowflakeWarehouse {
    async fn run(&self, query: RemoteQuery) -> Result<SendableRecordBatchStream, RemoteError> {
        let (columns, rows) = self.inner.rows(query).await?;
        let stream = rows.map_err(external);
        Ok(Box::pin(RecordBatchStreamAdapter::new(types::schema_of(&columns), stream)))
    }

    async fn describe(&self, query: RemoteQuery) -> Result<SchemaRef, RemoteError> {
        Ok(types::schema_of(&self.inner.describe(&query).await?))
    }

    /// Snowflake counts rows of partitions, not of results.
    async fn estimate(&self, _: RemoteQuery) -> Result<Option<u64>, RemoteError> {
        Ok(None)
    }
}

#[async_trait]
impl Reader for Inner {
    async fn read(
        &self,
        sql: RemoteSql,
        columns: Converter,
        tag: QueryTag,
    ) -> Result<SendableRecordBatchStream, RemoteError> {
        let (found, rows) = self.rows(RemoteQuery { sql, timeout: self.timeout, tag }).await?;
        let schema = columns.schema().clone();
        // The statement lists its columns, so their places name them; case may be lost on the way.
        let names = schema.fields().iter().map(|field| field.name());
        let given: Fields =
            names.zip(&found).map(|(name, column)| Field::new(name, column.data_type(), true)).collect();
        if found.len() != schema.fields().len() || !columns.fits(&Schema::new(given)) {
            self.known.forget();
            return Err(RemoteError::Changed);
        }
        let stream = rows.map(move |batch| batch.and_then(|batch| columns.convert(&batch)).map_err(external));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}
