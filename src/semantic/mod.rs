//! The semantic layer: what the data means, read from YAML, served as tables and as objects.
//!
//! Pure: reads files, asks no warehouse, knows no caller. S1 a model is served whole or not at all.
//! S2 every definition knows its file, line and column. S3 what is above a clearance does not exist for it.

mod access;
pub mod compile;
mod diagnostic;
pub mod export;
mod files;
mod finder;
mod format;
pub mod import;
pub mod introspect;
mod link;
mod lint;
mod load;
mod model;
mod node;
mod pii;
mod read;
mod rules;
mod schema;
mod search;
mod tables;
mod visibility;

pub use diagnostic::{Diagnostic, Severity, did_you_mean, suggest};
pub use files::{MAX_FILE_BYTES, semantic_files};
pub use finder::{Finder, Match, Thing};
pub use link::{
    Join, Link, LinkRequest, LinkedItem, LinkedKind, Linker, ScoreParts, ValueMatch, estimate_tokens,
};
pub use lint::{columns_of, parse_expression};
pub use load::Catalog;
pub use model::*;
pub use node::Position;
pub use read::quote;
pub use rules::{Found, RULES, Rule, example_files, rule, rules_document};
pub use schema::json_schema;
pub use search::{Ranked, SearchIndex};
pub use tables::{TABLE_NAMES, Table, Tables, search_batch, table_description, tables_document};

#[cfg(test)]
mod tests;
