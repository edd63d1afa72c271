//! Profiles of data for `semantic::introspect`: what columns hold, and which keys the source declares.
//!
//! P1 every statement is ours: no text of a user gets into one but as a quoted identifier. P2 nothing is changed:
//! files are read, and a database in a read-only transaction. P3 at most `max_rows` rows of a table are looked at.

mod files;
mod postgres;

use std::collections::HashSet;

use crate::error::ErrorKind;
use crate::semantic::introspect::{ColumnProfile, MAX_ENUM_VALUES, fingerprint};

pub use files::{DataFile, find_files, profile_files};
pub use postgres::profile_postgres;

/// Most values of a column that are kept as hashes: 2 million are 16 MB and up.
const MAX_FINGERPRINTS: usize = 2_000_000;

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub struct ProfileLimits {
    /// Rows of a table.
    pub max_rows: u64,
}

/// Why data cannot be profiled.
#[derive(Debug, thiserror::Error)]
pub enum IntrospectError {
    #[error("cannot read {path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("{path} cannot be read as a table: {source}; leave it out, or mend it")]
    Table { path: String, source: Box<datafusion::error::DataFusionError> },
    #[error("{path} is no table: give files or folders of .parquet, .csv, .ndjson or .json")]
    NoTable { path: String },
    #[error(
        "`{name}` cannot name a schema or table of a warehouse of files: use letters, digits, `_` and `-`"
    )]
    BadName { name: String },
    #[error("{first} and {second} are both the table `{name}`; rename one, or leave it out")]
    SameName { name: String, first: String, second: String },
    /// The URL may hold a password: neither it nor a part of it is shown.
    #[error("this is no URL of a PostgreSQL database: write postgres://user@host:port/database")]
    BadUrl,
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the schema {0} has no table that this user may read; name others with --schema")]
    EmptySchema(String),
}

impl IntrospectError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::Database(_) => ErrorKind::Unavailable,
            _ => ErrorKind::InvalidInput,
        }
    }
}

/// Collects the values of one column with how often each occurs, most frequent first.
#[derive(Debug, Default)]
struct Values {
    nulls: u64,
    distinct: u64,
    values: Vec<String>,
    fingerprints: HashSet<u64>,
    is_cut: bool,
}

impl Values {
    fn add(&mut self, value: Option<&str>, count: u64, is_reference: bool) {
        let Some(value) = value else {
            self.nulls += count;
            return;
        };
        self.distinct += 1;
        if self.values.len() < MAX_ENUM_VALUES {
            self.values.push(value.to_owned());
        }
        if is_reference && !self.is_cut {
            self.fingerprints.insert(fingerprint(value));
            if self.fingerprints.len() > MAX_FINGERPRINTS {
                // Half of a column's values would say what is not so.
                self.is_cut = true;
                self.fingerprints = HashSet::new();
            }
        }
    }

    fn into(self, column: &mut ColumnProfile) {
        column.nulls = self.nulls;
        column.distinct = self.distinct;
        column.values = self.values;
        column.fingerprints = self.fingerprints;
    }
}

/// Whether values of this type may be references to other tables.
fn is_reference(datatype: &str) -> bool {
    matches!(datatype, "String" | "Integer" | "Decimal")
}

#[cfg(test)]
mod tests;
