//! What can go wrong in a query, told to the caller in the caller's own terms.

use std::collections::HashSet;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;

use super::growth::TooMuchGrowth;
use super::pause::Over;
use crate::config::SqlLimits;
use crate::error::ErrorKind;
use crate::guard::ApprovedSql;
use crate::semantic::did_you_mean;
use crate::warehouse::{RemoteError, remote_of};

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("there is no column `{name}`{help}")]
    UnknownColumn { name: String, help: String },
    #[error("the query cannot be planned: {message}")]
    Plan { message: String },
    #[error(
        "not supported: the engine cannot run a subquery of this form; compare columns of the outer query in it by `=` alone, or write a join"
    )]
    Subquery(#[source] Box<DataFusionError>),
    #[error("the query failed while running: {message}")]
    Run { message: String },
    #[error("the query took more than {seconds} s and was cancelled; aggregate or filter more")]
    Timeout { seconds: u64 },
    #[error("the result has more than {limit_bytes} bytes; select fewer columns or rows, or aggregate")]
    ResultTooLarge { limit_bytes: usize },
    #[error(
        "the query needs more memory than the {limit_bytes} bytes of all queries together, and cannot go on on disk; filter before joining, or aggregate less at once"
    )]
    Memory { limit_bytes: usize },
    #[error(
        "the queries that run have spilled more than {limit_bytes} bytes to disk; filter before joining or sorting, or aggregate less at once"
    )]
    Spill { limit_bytes: u64 },
    #[error(transparent)]
    Growth(#[from] TooMuchGrowth),
    /// A warehouse with an engine of its own.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(
        "nobody took rows of the result for {seconds} s, so the query was ended; read it without pauses, or ask for less"
    )]
    SlowReader { seconds: u64 },
    #[error("{limit} queries of this client are running already; wait for one to end")]
    TooManyQueries { limit: usize },
    #[error("the query engine failed; the log has the details")]
    Engine(#[source] Box<DataFusionError>),
    #[error("the query ended in an unforeseen way; the log has the details")]
    Crashed,
    #[error("cannot make the folder for spilled data: {0}")]
    SpillFolder(#[source] std::io::Error),
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
            Self::UnknownColumn { .. }
            | Self::Plan { .. }
            | Self::Subquery(_)
            | Self::Run { .. }
            | Self::Encode { .. } => ErrorKind::InvalidInput,
            Self::Timeout { .. } | Self::SlowReader { .. } => ErrorKind::Timeout,
            Self::ResultTooLarge { .. } | Self::Memory { .. } | Self::Spill { .. } | Self::Growth(_) => {
                ErrorKind::TooLarge
            }
            Self::TooManyQueries { .. } => ErrorKind::RateLimited,
            Self::Remote(error) => error.kind(),
            Self::Engine(_) | Self::Crashed | Self::Threads(_) => ErrorKind::Internal,
            Self::SpillFolder(error) => ErrorKind::of_io(error),
        }
    }

    /// What a warehouse said of `sql`.
    pub fn from_warehouse(error: RemoteError, sql: &ApprovedSql) -> Self {
        let RemoteError::UnknownColumn { name } = &error else { return Self::Remote(error) };
        let column = name.rsplit('.').next().unwrap_or_default().trim_matches('"').to_lowercase();
        let help = match did_you_mean(&column, sql.known_columns()) {
            help if help.is_empty() => help,
            help => format!("; {help}"),
        };
        Self::UnknownColumn { name: name.clone(), help }
    }

    /// As [`Self::from_engine`], of an error that came while `sql` was planned.
    pub(super) fn from_planning(error: DataFusionError, sql: &ApprovedSql, limits: &SqlLimits) -> Self {
        let DataFusionError::SchemaError(schema, _) = error.find_root() else {
            return Self::from_engine(error, limits);
        };
        let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref() else {
            return Self::from_engine(error, limits);
        };
        // The guard left out what the query does not name, which this one meant to.
        let (mut names, mut aliases) = (Vec::new(), HashSet::new());
        for column in valid_fields {
            let alias = column.relation.as_ref().map(|relation| relation.table());
            names.extend(
                alias
                    .filter(|alias| aliases.insert(*alias))
                    .into_iter()
                    .flat_map(|alias| sql.columns_behind(alias)),
            );
            names.push(column.name.as_str());
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
        unknown_column(field, names)
    }

    /// Sorts the engine's errors into those that the caller can mend and those that are ours.
    pub(super) fn from_engine(error: DataFusionError, limits: &SqlLimits) -> Self {
        if let Some(remote) = remote_of(&error) {
            return Self::Remote(remote);
        }
        match error.find_root() {
            DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
                SchemaError::FieldNotFound { field, valid_fields } => {
                    unknown_column(field, valid_fields.iter().map(|column| column.name.as_str()).collect())
                }
                other => Self::Plan { message: plain(&other.to_string()) },
            },
            DataFusionError::Plan(message) => Self::Plan { message: plain(message) },
            DataFusionError::NotImplemented(message) => {
                Self::Plan { message: format!("not supported: {}", plain(message)) }
            }
            DataFusionError::SQL(error, _) => Self::Plan { message: plain(&error.to_string()) },
            // The engine has one error for both.
            DataFusionError::ResourcesExhausted(message) if message.contains("used disk space") => {
                Self::Spill { limit_bytes: limits.max_spill_bytes }
            }
            DataFusionError::ResourcesExhausted(_) => Self::Memory { limit_bytes: limits.memory_pool_bytes },
            DataFusionError::External(inner) if inner.is::<TooMuchGrowth>() => {
                inner.downcast_ref::<TooMuchGrowth>().map_or(Self::Crashed, |growth| Self::Growth(*growth))
            }
            DataFusionError::External(inner) if inner.is::<Over>() => {
                Self::Timeout { seconds: limits.timeout_seconds }
            }
            DataFusionError::Execution(message) => Self::Run { message: plain(message) },
            DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
                ArrowError::ParseError(message) if unread(message).is_some() => {
                    Self::Run { message: unread(message).unwrap_or_default() }
                }
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

fn unknown_column(field: &Column, known: Vec<&str>) -> QueryError {
    let mut help = did_you_mean(&field.name, known.iter().copied());
    if help.is_empty() && !known.is_empty() && known.len() <= 40 {
        help = format!("there are: {}", known.join(", "));
    }
    let help = if help.is_empty() { help } else { format!("; {help}") };
    QueryError::UnknownColumn { name: field.flat_name(), help }
}

/// A value of a text file that is not of its column's type. The reader quotes the whole row, which the caller may not see.
fn unread(message: &str) -> Option<String> {
    let rest =
        message.split_once("Row data:").map(|(told, _)| told).filter(|told| told.contains("' as type '"))?;
    let (_, rest) = rest.rsplit_once("' as type '")?;
    let (data_type, rest) = rest.split_once("' for column ")?;
    let (column, rest) = rest.split_once(" at line ")?;
    let (column, line) = (column.parse::<usize>().ok()?, rest.split('.').next()?.trim());
    Some(format!(
        "line {line} of a file has a value that is no {data_type} in column {}; mend the file, or declare the field as String",
        column + 1
    ))
}

/// The engine's first sentence, without the physical names that the guard wrote.
fn plain(message: &str) -> String {
    let prefix = format!("{}.", crate::guard::PHYSICAL_CATALOG);
    let text = message.replace(&prefix, "").replace(&format!("\"{}\".", crate::guard::PHYSICAL_CATALOG), "");
    let text = text.trim_start_matches("Error during planning: ").trim();
    text.chars().take(600).collect()
}
