//! What drivers report, sorted.

use adbc_core::error::{Error, Status};
use datafusion::arrow::error::ArrowError;

use super::super::error::{sqlstate_of, sqlstate_of_sentence};
use super::{RemoteError, WarehouseDialect};

/// A driver's report. Its message may hold values, text of the query and options: it is neither shown nor logged.
#[derive(Debug)]
pub(super) struct Fault {
    status: Status,
    sqlstate: String,
    message: String,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        // c_char is signed on some machines and not on others; SQLSTATE is ASCII.
        let state: String = error
            .sqlstate
            .iter()
            .map(|byte| *byte as u8 as char)
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let sqlstate = match state.as_str() {
            "" | "00000" => sqlstate_of(&error.message).unwrap_or_default().to_owned(),
            _ => state,
        };
        Self { status: error.status, sqlstate, message: error.message }
    }
}

/// Of a result that was being read.
impl From<ArrowError> for Fault {
    fn from(error: ArrowError) -> Self {
        let message = error.to_string();
        let sqlstate = sqlstate_of(&message).or_else(|| sqlstate_of_sentence(&message));
        let sqlstate = sqlstate.unwrap_or_default().to_owned();
        Self { status: Status::Unknown, sqlstate, message }
    }
}

impl Fault {
    /// What the caller is told; what an operator needs goes to the log.
    pub fn told(&self, warehouse: &str, dialect: WarehouseDialect, seconds: u64) -> RemoteError {
        let told = match (dialect, self.sqlstate.as_str(), self.status) {
            (_, "", Status::IO) if dialect == WarehouseDialect::PostgreSql => RemoteError::Unreachable,
            (WarehouseDialect::PostgreSql, sqlstate, _) if !sqlstate.is_empty() => {
                RemoteError::of_postgres(sqlstate, &self.message, seconds)
            }
            _ if self.is_read_only() => RemoteError::NotPermitted,
            (_, _, Status::Cancelled) => RemoteError::Cancelled,
            (_, _, Status::Unauthenticated | Status::Unauthorized) => RemoteError::NotPermitted,
            _ if self.message.contains("Interrupted") || self.message.contains("INTERRUPT Error") => {
                RemoteError::Cancelled
            }
            _ => RemoteError::Failed,
        };
        if !matches!(
            told,
            RemoteError::Statement { .. } | RemoteError::Data { .. } | RemoteError::Timeout { .. }
        ) {
            let (status, sqlstate, reason) = (self.status, self.sqlstate.as_str(), self.reason());
            tracing::warn!(warehouse, ?status, sqlstate, reason, "the database refused or failed");
        }
        told
    }

    /// Why a server cannot be reached: known phrases alone, since the message may hold the address with its password.
    fn reason(&self) -> &'static str {
        const PHRASES: [&str; 9] = [
            "Connection refused",
            "timeout expired",
            "could not translate host name",
            "password authentication failed",
            "no pg_hba.conf entry",
            "SSL",
            "does not exist",
            "remaining connection slots are reserved",
            "server closed the connection unexpectedly",
        ];
        PHRASES.into_iter().find(|phrase| self.message.contains(phrase)).unwrap_or_default()
    }

    fn is_read_only(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        message.contains("read-only")
            || message.contains("readonly database")
            || message.contains("permission error")
    }
}
