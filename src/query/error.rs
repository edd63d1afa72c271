//! What can go wrong in a query, told to the caller in the caller's own terms.

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::error::ErrorKind;
use crate::semantic::did_you_mean;

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("there is no column `{name}`{help}")]
    UnknownColumn { name: String, help: String },
    #[error("the query cannot be planned: {message}")]
    Plan { message: String },
    #[error("the query failed while running: {message}")]
    Run { message: String },
    #[error("the query took more than {seconds} s and was cancelled; aggregate or filter more")]
    Timeout { seconds: u64 },
    #[error("the result has more than {limit_bytes} bytes; select fewer columns or rows, or aggregate")]
    ResultTooLarge { limit_bytes: usize },
    #[error("the query needs more memory than there is; filter before joining, or aggregate less at once")]
    Memory,
    #[error("{limit} queries of this client are running already; wait for one to end")]
    TooManyQueries { limit: usize },
    #[error("the query engine failed; the log has the details")]
    Engine(#[source] Box<DataFusionError>),
    #[error("the query ended in an unforeseen way; the log has the details")]
    Crashed,
    #[error("cannot start the query threads: {0}")]
    Threads(#[source] std::io::Error),
    #[error(
        "the result cannot be written as {format}: {message}; ask for another format, or cast the column"
    )]
    Encode { format: &'static str, message: String },
}

impl QueryError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownColumn { .. } | Self::Plan { .. } | Self::Run { .. } | Self::Encode { .. } => {
                ErrorKind::InvalidInput
            }
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::ResultTooLarge { .. } | Self::Memory => ErrorKind::TooLarge,
            Self::TooManyQueries { .. } => ErrorKind::RateLimited,
            Self::Engine(_) | Self::Crashed | Self::Threads(_) => ErrorKind::Internal,
        }
    }

    /// Sorts the engine's errors into those that the caller can mend and those that are ours.
    pub(super) fn from_engine(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
                SchemaError::FieldNotFound { field, valid_fields } => {
                    let names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
                    let mut help = did_you_mean(&field.name, names.iter().copied());
                    if help.is_empty() && !names.is_empty() && names.len() <= 40 {
                        help = format!("there are: {}", names.join(", "));
                    }
                    let help = if help.is_empty() { help } else { format!("; {help}") };
                    Self::UnknownColumn { name: field.flat_name(), help }
                }
                other => Self::Plan { message: plain(&other.to_string()) },
            },
            DataFusionError::Plan(message) => Self::Plan { message: plain(message) },
            DataFusionError::NotImplemented(message) => {
                Self::Plan { message: format!("not supported: {}", plain(message)) }
            }
            DataFusionError::SQL(error, _) => Self::Plan { message: plain(&error.to_string()) },
            DataFusionError::ResourcesExhausted(_) => Self::Memory,
            DataFusionError::Execution(message) => Self::Run { message: plain(message) },
            DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
                ArrowError::DivideByZero
                | ArrowError::CastError(_)
                | ArrowError::ComputeError(_)
                | ArrowError::ArithmeticOverflow(_)
                | ArrowError::ParseError(_)
                | ArrowError::InvalidArgumentError(_) => Self::Run { message: plain(&arrow.to_string()) },
                _ => Self::Engine(Box::new(error)),
            },
            _ => Self::Engine(Box::new(error)),
        }
    }
}

/// The engine's first sentence, without the physical names that the guard wrote.
fn plain(message: &str) -> String {
    let prefix = format!("{}.", crate::guard::PHYSICAL_CATALOG);
    let text = message.replace(&prefix, "").replace(&format!("\"{}\".", crate::guard::PHYSICAL_CATALOG), "");
    let text = text.trim_start_matches("Error during planning: ").trim();
    text.chars().take(600).collect()
}
