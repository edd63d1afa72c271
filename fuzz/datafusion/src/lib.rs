//! The SQL parser under DataFusion's path, so that the guard is fuzzed without an engine to build.

pub mod sql {
    pub use sqlparser;
}
