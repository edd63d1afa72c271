//! What can go wrong in retrieval, by cause; `kind()` is the caller's view of it.

use std::path::Path;

use crate::error::ErrorKind;
use crate::rag::chunk::ChunkError;
use crate::rag::embed::EmbedError;
use crate::rag::index_file::IndexName;
use crate::store::StoreError;

/// A failure of ingest, search, paging or upkeep.
#[derive(Debug, thiserror::Error)]
pub enum RagError {
    #[error("there is no index '{0}'; list the indexes to see what there is")]
    UnknownIndex(IndexName),
    #[error("there is no document '{0}' here; it may have expired, or belong to another client")]
    UnknownDocument(String),
    #[error("index '{index}' does not take {what}; choose one whose file accepts them")]
    NotAccepted { index: IndexName, what: &'static str },
    #[error(
        "cannot index a body of type '{0}'; send application/json, application/x-ndjson, text/markdown, text/plain or text/csv"
    )]
    UnsupportedMediaType(String),
    #[error(
        "the body is larger than the limit of {limit_bytes} bytes; ask for less of it, or raise uploads.max_body_bytes"
    )]
    BodyTooLarge { limit_bytes: u64 },
    #[error("the body broke off while it was read: {0}; send it again")]
    BodyStream(String),
    #[error("{0}")]
    Body(#[from] ChunkError),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("{0}")]
    Pointer(String),
    #[error("{0}")]
    Embed(#[from] EmbedError),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{0}")]
    Database(#[from] StoreError),
    #[error("the disk of the data folder is full; free some space and try again")]
    DiskFull(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("vector store: {0}")]
    Lance(#[source] lancedb::Error),
    #[error("text index: {0}")]
    Text(#[source] tantivy::TantivyError),
    #[error("{0} is in use by another process; stop it, or give this one its own data folder")]
    InUse(String),
    #[error("its chunks were lost and could not be made again; ingest it again")]
    LostChunks,
    #[error("retrieval is shutting down; try again in a moment")]
    Closing,
    #[error("{0}")]
    Internal(String),
}

impl RagError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownIndex(_) | Self::UnknownDocument(_) | Self::Pointer(_) => ErrorKind::NotFound,
            Self::NotAccepted { .. } | Self::InvalidRequest(_) | Self::BodyStream(_) => {
                ErrorKind::InvalidInput
            }
            Self::UnsupportedMediaType(_) => ErrorKind::UnsupportedMediaType,
            Self::BodyTooLarge { .. } => ErrorKind::TooLarge,
            Self::Body(error) => error.kind(),
            Self::Embed(error) => error.kind(),
            Self::Io { source, .. } => kind_of_io(source),
            Self::Database(error) => error.kind(),
            Self::Lance(error) => kind_of_chain(error),
            Self::Text(error) => kind_of_chain(error),
            Self::DiskFull(_) | Self::InUse(_) | Self::Closing => ErrorKind::Unavailable,
            Self::LostChunks | Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// For `map_err`: an I/O failure while doing `what` to `path`.
    pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let what = format!("{what} {}", path.display());
        move |source| Self::Io { what, source }
    }
}

impl From<sqlx::Error> for RagError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(StoreError::Query(error))
    }
}

impl From<arrow::error::ArrowError> for RagError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::from(lancedb::Error::Arrow { source: error })
    }
}

impl From<tokio::task::JoinError> for RagError {
    fn from(error: tokio::task::JoinError) -> Self {
        if error.is_cancelled() { Self::Closing } else { Self::Internal(format!("a worker died: {error}")) }
    }
}

impl From<lancedb::Error> for RagError {
    fn from(error: lancedb::Error) -> Self {
        if is_full_disk(&error) { Self::DiskFull(Box::new(error)) } else { Self::Lance(error) }
    }
}

impl From<tantivy::TantivyError> for RagError {
    fn from(error: tantivy::TantivyError) -> Self {
        if is_full_disk(&error) { Self::DiskFull(Box::new(error)) } else { Self::Text(error) }
    }
}

/// Missing rights are the service's state as much as a full disk.
fn kind_of_io(error: &std::io::Error) -> ErrorKind {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::Unavailable,
        _ => ErrorKind::of_io(error),
    }
}

/// Looks down a chain of sources for the I/O error at its root.
fn kind_of_chain(error: &(dyn std::error::Error + 'static)) -> ErrorKind {
    let is_denied =
        |error: &(dyn std::error::Error + 'static)| error.to_string().contains("Permission denied");
    let of_link =
        |error: &(dyn std::error::Error + 'static)| error.downcast_ref::<std::io::Error>().map(kind_of_io);
    match chain(error).find_map(of_link) {
        Some(kind) if kind != ErrorKind::Internal => kind,
        _ if chain(error).any(is_denied) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

/// Layers in between keep no more than the text of the cause, so the text is what counts (ENOSPC and EDQUOT, and as
/// std words them where there is no errno).
fn is_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).any(|error| {
        let text = error.to_string();
        ["No space left on device", "Disk quota exceeded", "no storage space", "quota exceeded"]
            .iter()
            .any(|words| text.contains(words))
    })
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_unavailable_however_deep_it_is_wrapped() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let wrapped = lancedb::Error::CreateDir { path: "x".into(), source: full() };
        assert!(matches!(RagError::from(wrapped), RagError::DiskFull(_)));
        let wrapped = tantivy::TantivyError::IoError(std::sync::Arc::new(full()));
        assert_eq!(RagError::from(wrapped).kind(), ErrorKind::Unavailable);
        // As tantivy and Lance hand it on: the text alone.
        let text = std::io::Error::other("No space left on device (os error 28)");
        let wrapped = tantivy::TantivyError::IoError(std::sync::Arc::new(text));
        let error = RagError::from(wrapped);
        assert!(matches!(&error, RagError::DiskFull(_)) && error.to_string().contains("free some space"));
        assert_eq!(RagError::io("write", Path::new("x"))(full()).kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn missing_rights_are_unavailable_and_other_io_is_internal() {
        let of = |kind| RagError::io("read", Path::new("x"))(std::io::Error::from(kind)).kind();
        assert_eq!(of(std::io::ErrorKind::PermissionDenied), ErrorKind::Unavailable);
        assert_eq!(of(std::io::ErrorKind::InvalidData), ErrorKind::Internal);
    }
}
