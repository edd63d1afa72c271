//! The semantic layer: what the data means, read from YAML, served as tables and as objects.
//!
//! Pure: reads files, asks no warehouse, knows no caller. S1 a model is served whole or not at all.
//! S2 every definition knows its file, line and column. S3 what is above a clearance does not exist for it.

mod diagnostic;
mod link;
mod lint;
mod load;
mod model;
mod node;
mod read;
mod search;
mod tables;
mod visibility;

pub use diagnostic::{Diagnostic, Severity, did_you_mean, suggest};
pub use link::{Link, LinkedItem, LinkedKind, link};
pub use lint::{columns_of, parse_expression};
pub use load::{Catalog, MAX_FILE_BYTES};
pub use model::*;
pub use node::Position;
pub use read::quote;
pub use search::{Ranked, SearchIndex};
pub use tables::{TABLE_NAMES, Tables, table_description};

#[cfg(test)]
mod tests;
