//! One statement on a thread of its own; its batches come through a channel.

use std::sync::Arc;
use std::time::Duration;

use adbc_core::options::OptionStatement;
use adbc_core::{Connection, Optionable, Statement};
use adbc_driver_manager::ManagedConnection;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::convert::{Converter, shapes};
use super::super::remote_table::external;
use super::cancel::{CancelOnDrop, Canceller};
use super::fault::Fault;
use super::pool::Pool;
use super::{QueryTag, RemoteError, RemoteSql, WarehouseDialect};

/// About how many bytes PostgreSQL's driver puts into one batch.
const BATCH_BYTES: i64 = 2 * 1024 * 1024;

/// A statement with what holds for it.
pub(super) struct Work {
    pub sql: RemoteSql,
    pub timeout: Duration,
    pub tag: QueryTag,
    pub take: Take,
}

/// What becomes of a result.
#[derive(Debug, Clone)]
pub(super) enum Take {
    /// The result of a query: typed by what the driver says.
    Result,
    /// A scan of a table with these columns; the first row is dropped if it `has_blanks`.
    Table { columns: Converter, has_blanks: bool },
    /// As the driver gives it.
    Raw,
    /// The same, of a statement that explains.
    Plan,
}

/// What the thread sends: the schema first.
enum Message {
    Schema(SchemaRef),
    Batch(RecordBatch),
}

type Sender = mpsc::Sender<Result<Message, RemoteError>>;

/// What is still to come; dropping it cancels the statement.
struct Rows {
    messages: mpsc::Receiver<Result<Message, RemoteError>>,
    deadline: Instant,
    seconds: u64,
    is_over: bool,
    _cancel: CancelOnDrop,
}

impl Rows {
    async fn next(&mut self) -> Option<Result<Message, RemoteError>> {
        if self.is_over {
            return None;
        }
        let message = tokio::time::timeout_at(self.deadline, self.messages.recv()).await;
        let message = message.unwrap_or(Some(Err(RemoteError::Timeout { seconds: self.seconds })));
        self.is_over = !matches!(message, Some(Ok(_)));
        message
    }
}

/// Starts the statement and waits for its first batch, or its end.
pub(super) async fn start(pool: Arc<Pool>, work: Work) -> Result<SendableRecordBatchStream, RemoteError> {
    let deadline = Instant::now() + work.timeout;
    let seconds = work.timeout.as_secs();
    let slot = match tokio::time::timeout_at(deadline, pool.slots.clone().acquire_owned()).await {
        Ok(Ok(slot)) => slot,
        Ok(Err(_)) => return Err(RemoteError::Failed),
        Err(_) => return Err(RemoteError::Busy),
    };
    let (sender, messages) = mpsc::channel(1);
    let canceller = Arc::new(Canceller::default());
    let cancel = CancelOnDrop(canceller.clone());
    tokio::task::spawn_blocking(move || {
        let _slot = slot;
        if let Err(error) = run(&pool, &work, &canceller, &sender) {
            // Nobody may be there to hear it.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let mut rows = Rows { messages, deadline, seconds, is_over: false, _cancel: cancel };
    let schema = match rows.next().await {
        Some(Ok(Message::Schema(schema))) => schema,
        Some(Err(error)) => return Err(error),
        Some(Ok(Message::Batch(_))) | None => return Err(RemoteError::Failed),
    };
    let batches = futures::stream::unfold(rows, |mut rows| async move {
        let batch = match rows.next().await? {
            Ok(Message::Batch(batch)) => Ok(batch),
            Ok(Message::Schema(_)) => Err(external(RemoteError::Failed)),
            Err(error) => Err(external(error)),
        };
        Some((batch, rows))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}

fn run(pool: &Pool, work: &Work, canceller: &Canceller, sender: &Sender) -> Result<(), RemoteError> {
    let told = |fault: Fault| fault.told(&pool.name, pool.dialect, work.timeout.as_secs());
    if canceller.is_wanted() {
        return Ok(());
    }
    let mut connection = pool.take(work.timeout, &work.tag).map_err(told)?;
    let outcome = execute(pool, &mut connection, work, canceller, sender);
    let is_unharmed = canceller.finish();
    match outcome {
        Ok(is_complete) => {
            // A3: what is left of a result is in the connection.
            if is_complete && is_unharmed {
                pool.give_back(connection);
            }
            Ok(())
        }
        Err(Failure::Fault(fault)) => Err(told(fault)),
        Err(Failure::Told(error)) => Err(error),
    }
}

enum Failure {
    Fault(Fault),
    Told(RemoteError),
}

impl<E: Into<Fault>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// True if the result was read to its end.
fn execute(
    pool: &Pool,
    connection: &mut ManagedConnection,
    work: &Work,
    canceller: &Canceller,
    sender: &Sender,
) -> Result<bool, Failure> {
    let mut statement = connection.new_statement()?;
    if pool.dialect == WarehouseDialect::PostgreSql {
        let option = |name: &str| OptionStatement::Other(name.to_owned());
        statement.set_option(option("adbc.postgresql.batch_size_hint_bytes"), BATCH_BYTES.into())?;
        if matches!(work.take, Take::Plan) {
            statement.set_option(option("adbc.postgresql.use_copy"), "false".into())?;
        }
    }
    statement.set_sql_query(work.sql.text())?;
    if !canceller.begin(statement.get_cancel_handle()) {
        return Ok(false);
    }
    // Dropped before the statement, which it reads from.
    let mut reader = statement.execute()?;
    let schema = reader.schema();
    let mut first = reader.next().transpose()?;
    let converter = match &work.take {
        Take::Raw | Take::Plan => None,
        Take::Result => Some(Converter::for_result(shapes(&schema), first.as_ref()).map_err(Failure::Told)?),
        Take::Table { columns, has_blanks } => {
            if !has_blanks && !columns.fits(&schema) {
                return Err(Failure::Told(RemoteError::Changed));
            }
            Some(columns.clone())
        }
    };
    let served = converter.as_ref().map_or(schema, |converter| converter.schema().clone());
    if sender.blocking_send(Ok(Message::Schema(served))).is_err() {
        return Ok(false);
    }
    let mut skip = usize::from(matches!(work.take, Take::Table { has_blanks: true, .. }));
    while let Some(batch) = first {
        let skipped = skip.min(batch.num_rows());
        skip -= skipped;
        let batch = batch.slice(skipped, batch.num_rows() - skipped);
        if batch.num_rows() > 0 {
            let batch = match &converter {
                Some(converter) => converter.convert(&batch).map_err(Failure::Told)?,
                None => batch,
            };
            if sender.blocking_send(Ok(Message::Batch(batch))).is_err() {
                return Ok(false);
            }
        }
        first = reader.next().transpose()?;
    }
    Ok(true)
}
