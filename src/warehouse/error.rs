//! What can go wrong between a dataset's `source` and its rows. `Display` is for the caller; what a server said beyond
//! that is for the log.

use std::sync::LazyLock;

use regex::Regex;

use crate::config::SettingError;
use crate::error::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    #[error("there is no warehouse `{name}`; configured: {known}")]
    UnknownWarehouse { name: String, known: String },
    #[error("`{name}` cannot name a schema or table: use letters, digits, `_` and `-`")]
    BadName { name: String },
    #[error("the warehouse has no table `{schema}.{table}`")]
    UnknownTable { schema: String, table: String },
    #[error(transparent)]
    Layout(#[from] super::LayoutError),
    #[error("the warehouse cannot read its data: {0}")]
    Read(#[source] Box<datafusion::error::DataFusionError>),
    #[error("the table of dataset {dataset} has no column `{column}`; mend the field, or the table")]
    UnknownColumn { dataset: String, column: String },
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("warehouse `{warehouse}`: {source}")]
    Setting { warehouse: String, source: SettingError },
    #[error(
        "warehouse `{warehouse}`: cannot load the ADBC driver {driver}: {reason}; check the path, and its entrypoint"
    )]
    Driver { warehouse: String, driver: String, reason: String },
    #[error("warehouse `{warehouse}`: {message}")]
    Config { warehouse: String, message: String },
}

impl WarehouseError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Remote(error) => error.kind(),
            // A published dataset without data is for the data steward to mend, not for the caller.
            Self::UnknownWarehouse { .. }
            | Self::BadName { .. }
            | Self::UnknownTable { .. }
            | Self::UnknownColumn { .. }
            | Self::Layout(_)
            | Self::Read(_)
            | Self::Setting { .. }
            | Self::Driver { .. }
            | Self::Config { .. } => ErrorKind::Unavailable,
        }
    }
}

/// What a server said, as far as the caller may know it (W4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    #[error("the warehouse does not answer; try again later, or tell its operator")]
    Unreachable,
    #[error("the warehouse lets no more connections in; try again")]
    Busy,
    #[error("the warehouse does not take the query: {message}")]
    Statement { message: String },
    /// As the server writes it.
    #[error("there is no column `{name}`")]
    UnknownColumn { name: String },
    #[error("the query failed while running: {message}")]
    Data { message: String },
    #[error("the warehouse does not permit this to the service; tell its operator")]
    NotPermitted,
    #[error("the query took more than {seconds} s and was cancelled; aggregate or filter more")]
    Timeout { seconds: u64 },
    #[error("the warehouse cancelled the query; try again, or tell its operator")]
    Cancelled,
    #[error("column `{column}`: {message}")]
    Column { column: String, message: String },
    #[error("the table changed while it was read; try again")]
    Changed,
    #[error(
        "the warehouse's bucket does not exist; tell its operator to check the warehouse's path and endpoint"
    )]
    NoBucket,
    /// A file, named below the warehouse's root.
    #[error("`{file}` {problem}; write it again")]
    File { file: String, problem: &'static str },
    #[error("the warehouse failed; the log has the details")]
    Failed,
}

impl RemoteError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Statement { .. } | Self::UnknownColumn { .. } | Self::Data { .. } | Self::Column { .. } => {
                ErrorKind::InvalidInput
            }
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Unreachable
            | Self::Busy
            | Self::NotPermitted
            | Self::Cancelled
            | Self::Changed
            | Self::NoBucket
            | Self::File { .. }
            | Self::Failed => ErrorKind::Unavailable,
        }
    }

    /// From PostgreSQL's SQLSTATE and message (its documentation, appendix A). Errors of class 42 come before a row is
    /// read and name what the query wrote; those of class 22 may quote values, so that only their condition is told.
    pub(super) fn of_postgres(sqlstate: &str, message: &str, seconds: u64) -> Self {
        let data = |message: &str| Self::Data { message: message.to_owned() };
        match (sqlstate.get(..2).unwrap_or_default(), sqlstate) {
            (_, "57014") if message.contains("timeout") => Self::Timeout { seconds },
            (_, "57014") => Self::Cancelled,
            (_, "42501" | "25006") => Self::NotPermitted,
            // The guard wrote the table's name.
            (_, "42P01" | "3F000") => Self::Failed,
            (_, "22012") => data("division by zero"),
            (_, "22003" | "22008") => data("a value is out of range"),
            (_, "22P02" | "22007" | "22018") => data("a text cannot be read as the wanted type"),
            ("22", _) => data(&format!("a value does not fit the operation (SQLSTATE {sqlstate})")),
            ("21", _) => data("a subquery that stands for one value gave several rows"),
            (_, "42703") => {
                let name = unknown_column(&first_line(message), r#"column "?(.+?)"? does not exist"#);
                name.unwrap_or_else(|| Self::Statement { message: first_line(message) })
            }
            ("42" | "0A" | "54", _) => Self::Statement { message: first_line(message) },
            ("53", "53300") | ("55", _) => Self::Busy,
            ("08" | "28" | "57", _) => Self::Unreachable,
            ("40", _) => Self::Cancelled,
            _ => Self::Failed,
        }
    }
}

/// What a warehouse said, wherever in an error's causes it lies.
pub fn remote_of(error: &(dyn std::error::Error + 'static)) -> Option<RemoteError> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<RemoteError>().cloned())
}

/// The column that a message of one line tells of in this way.
pub(super) fn unknown_column(message: &str, pattern: &str) -> Option<RemoteError> {
    let found = Regex::new(pattern).ok()?.captures(message)?.get(1)?;
    Some(RemoteError::UnknownColumn { name: found.as_str().chars().take(200).collect() })
}

/// The server's own sentence, without the driver's and without the lines that quote the query.
fn first_line(message: &str) -> String {
    let from = message.find("ERROR:").map_or(0, |at| at + "ERROR:".len());
    message[from..].lines().next().unwrap_or_default().trim().chars().take(300).collect()
}

/// The SQLSTATE that ends a message of the PostgreSQL driver.
pub(super) fn sqlstate_of(message: &str) -> Option<&str> {
    static STATE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"SQLSTATE: ([0-9A-Z]{5})").expect("a constant"));
    STATE.captures_iter(message).last().and_then(|found| found.get(1)).map(|found| found.as_str())
}

/// The SQLSTATE of PostgreSQL's own sentences, in English: of an error between two batches its driver hands on no code.
pub(super) fn sqlstate_of_sentence(message: &str) -> Option<&'static str> {
    const SENTENCES: [(&str, &str); 10] = [
        ("division by zero", "22012"),
        ("canceling statement due to statement timeout", "57014"),
        ("canceling statement due to", "57014"),
        ("date/time field value out of range", "22008"),
        ("out of range", "22003"),
        ("invalid input syntax", "22P02"),
        ("more than one row returned by a subquery", "21000"),
        ("permission denied", "42501"),
        ("in a read-only transaction", "25006"),
        ("terminating connection", "57P01"),
    ];
    SENTENCES.iter().find(|(sentence, _)| message.contains(sentence)).map(|(_, state)| *state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_may_quote_a_value_or_the_query_is_not_told() {
        let message =
            "[libpq] Failed: ERROR:  invalid input syntax for type integer: \"hidden\"\nLINE 1: SELECT …";
        let told = RemoteError::of_postgres("22P02", message, 1).to_string();
        assert!(!told.contains("hidden") && !told.contains("SELECT"), "{told}");
        let message = "Failed to prepare query: ERROR:  column \"nocol\" does not exist\nLINE 1: SELECT secret\nHINT: x";
        let told = RemoteError::of_postgres("42703", message, 1).to_string();
        assert_eq!(told, "there is no column `nocol`");
        let message = "ERROR:  column o.nocol does not exist";
        assert_eq!(RemoteError::of_postgres("42703", message, 1).to_string(), "there is no column `o.nocol`");
        let message = "ERROR:  relation \"private.orders\" does not exist";
        assert!(!RemoteError::of_postgres("42P01", message, 1).to_string().contains("private"));
        for state in ["", "2", "XX000", "99999", "é"] {
            assert!(
                !RemoteError::of_postgres(state, "ERROR: hidden", 1).to_string().contains("hidden"),
                "{state}"
            );
        }
    }

    #[test]
    fn the_state_of_a_message_is_the_one_at_its_end() {
        let message = "ERROR: text 'SQLSTATE: 00000' …. SQLSTATE: 57014";
        assert_eq!(sqlstate_of(message), Some("57014"));
        assert_eq!(sqlstate_of("nothing"), None);
    }
}
