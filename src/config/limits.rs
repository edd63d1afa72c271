//! Limits on what one request may cost.

use serde::{Deserialize, Serialize};

/// Limits on SQL. Per client unless said otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqlLimits {
    /// Rows of one result; more are cut off, and the answer says so.
    pub max_rows: usize,
    /// Bytes of one result, as they are in memory before they are written; a larger one is an error.
    pub max_result_bytes: usize,
    /// Wall time of one query, until the last of its result is taken.
    pub timeout_seconds: u64,
    /// How long a query waits for its reader to take the next part of its result.
    pub reader_idle_seconds: u64,
    /// Queries of one client that run at the same time.
    pub max_concurrent_queries: usize,
    /// Memory for sorts, joins and aggregates of all queries together; they spill to disk beyond it.
    pub memory_pool_bytes: usize,
    /// Bytes on disk of all queries together, below `<data_dir>/spill`.
    pub max_spill_bytes: u64,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            max_rows: 10_000,
            max_result_bytes: 64 * 1024 * 1024,
            timeout_seconds: 30,
            reader_idle_seconds: 10,
            max_concurrent_queries: 4,
            memory_pool_bytes: 1024 * 1024 * 1024,
            max_spill_bytes: 10 * 1024 * 1024 * 1024,
        }
    }
}

/// Limits on documents that come in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UploadLimits {
    /// Bytes of one document or upstream response.
    pub max_body_bytes: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { max_body_bytes: 64 * 1024 * 1024 }
    }
}
