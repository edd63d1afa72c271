//! Bringing a document in: spool, recognise, cut, store, publish; and taking one out again.
//!
//! N1 the body is spooled before anything is known of it in the database, so that a caller that goes away leaves
//!    nothing.  N2 from the first row on, the work runs on a task of its own to its end, or is taken back.
//! N3 the same content from the same owner with the same labels is the same document: it is returned as it is, with
//!    its expiry renewed. What lost its chunks is replaced.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::rag::chunk::{self, ChunkKind, Limits, Preview};
use crate::rag::documents::{Document, DocumentId, DocumentState, Sight, Source, Viewer};
use crate::rag::error::RagError;
use crate::rag::index_file::IndexName;
use crate::rag::rows::ChunkRow;
use crate::rag::{IndexState, Inner, Rag};

const MAX_TITLE_BYTES: usize = 500;
const MAX_METADATA_ENTRIES: usize = 32;
const MAX_METADATA_BYTES: usize = 1024;

/// What comes in besides the body.
#[derive(Debug, Clone)]
pub struct NewDocument {
    pub index: IndexName,
    pub source: Source,
    /// At most 500 bytes; empty is allowed.
    pub title: String,
    /// A media type, with or without parameters.
    pub content_type: String,
    /// Labels to filter by: at most 32, keys and values at most 1,024 bytes each.
    pub metadata: BTreeMap<String, String>,
}

/// What the caller gets instead of the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentHandle {
    pub document_id: DocumentId,
    pub index: IndexName,
    pub bytes: u64,
    /// Over all chunks, breadcrumbs included.
    pub tokens: u64,
    pub chunks: u64,
    pub embedded_chunks: u64,
    pub state: DocumentState,
    /// The body's shape with counts, one line a path.
    pub outline: Vec<String>,
    pub preview: String,
    pub preview_is_cut: bool,
    /// JSON Pointer of the array whose objects make a table; absent if the body holds none.
    pub records: Option<String>,
    pub expires_at_ms: Option<i64>,
    /// Whether this very content was here already.
    pub was_known: bool,
}

impl DocumentHandle {
    fn of(document: Document, was_known: bool) -> Self {
        Self {
            document_id: document.document_id,
            index: document.index,
            bytes: document.size_bytes,
            tokens: document.tokens,
            chunks: document.chunks,
            embedded_chunks: document.embedded_chunks,
            state: document.state,
            outline: document.outline,
            preview: document.preview.text,
            preview_is_cut: document.preview.is_cut,
            records: document.records,
            expires_at_ms: document.expires_at_ms,
            was_known,
        }
    }
}

impl Rag {
    /// Stores and indexes a body. Text search answers when this returns; vectors follow in the background.
    ///
    /// Errors name what to do: an index that does not take this source, a media type that cannot be cut, a body over
    /// the limit or broken (line and column), a full disk. After an error nothing of the body is left.
    pub async fn ingest<S, E>(
        &self,
        viewer: &Viewer,
        new: NewDocument,
        body: S,
    ) -> Result<DocumentHandle, RagError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: fmt::Display,
    {
        let inner = &self.inner;
        let state = Arc::clone(inner.index(&new.index)?);
        check_request(&state, &new)?;
        let kind = ChunkKind::of_media_type(&new.content_type)
            .ok_or_else(|| RagError::UnsupportedMediaType(new.content_type.chars().take(100).collect()))?;
        if inner.is_closing() {
            return Err(RagError::Closing);
        }
        let spooled = inner.bodies.spool(body).await?;
        let content_key = content_key(spooled.hash.as_str(), kind, &state, &new)?;
        let now_ms = inner.now_ms();
        let sight = Sight { index: &new.index, owner: None, now_ms };
        let expires_at_ms = state.file.expires_at_ms(now_ms);
        if let Some(mut known) = inner.documents.find_same(sight, &viewer.owner, &content_key).await? {
            let is_whole = known.state != DocumentState::Failed
                || state.tables.chunks_of(&known.document_id).await?.len() as u64 >= known.chunks;
            if is_whole {
                inner.documents.set_expiry(&known.document_id, expires_at_ms).await?;
                known.expires_at_ms = expires_at_ms;
                if known.state == DocumentState::Failed {
                    inner.queue_embedding(known.document_id.clone(), new.index).await?;
                    known.state = DocumentState::Indexed;
                }
                return Ok(DocumentHandle::of(known, true));
            }
            // It lost its chunks, and here is its content again.
            inner.forget(std::slice::from_ref(&known)).await?;
        }
        let mut document = Document {
            document_id: DocumentId::new(),
            index: new.index,
            owner: viewer.owner.clone(),
            source: new.source.to_string(),
            title: new.title,
            content_type: new.content_type,
            body: spooled.hash.clone(),
            content_key,
            size_bytes: spooled.size_bytes,
            tokens: 0,
            chunks: 0,
            embedded_chunks: 0,
            state: DocumentState::Storing,
            error: None,
            response_table: None,
            records: None,
            metadata: new.metadata,
            outline: Vec::new(),
            preview: Preview { text: String::new(), is_cut: false },
            created_at_ms: now_ms,
            expires_at_ms,
        };
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            let _running = inner.running.read().await;
            if inner.is_closing() {
                return Err(RagError::Closing);
            }
            {
                let _bodies = inner.body_lock.lock().await;
                spooled.keep(&inner.bodies).await?;
                if let Err(error) = inner.documents.insert(&document).await {
                    inner.drop_body_if_unneeded(&document).await;
                    return Err(error);
                }
            }
            if let Err(error) = inner.index_body(&state, &mut document).await {
                if let Err(undo) = inner.forget(std::slice::from_ref(&document)).await {
                    tracing::warn!(document = %document.document_id, error = %undo, "cannot take an ingest back, the next start will");
                }
                return Err(error);
            }
            if document.state == DocumentState::Indexed {
                inner.queue_embedding(document.document_id.clone(), document.index.clone()).await?;
            }
            inner.changed();
            tracing::info!(
                document = %document.document_id, index = %document.index, bytes = document.size_bytes,
                chunks = document.chunks, tokens = document.tokens, "document ingested"
            );
            Ok(DocumentHandle::of(document, false))
        })
        .await?
    }

    /// [`Rag::ingest`] of a body that is in memory already.
    pub async fn ingest_bytes(
        &self,
        viewer: &Viewer,
        new: NewDocument,
        body: Bytes,
    ) -> Result<DocumentHandle, RagError> {
        self.ingest(viewer, new, futures::stream::iter([Ok::<_, std::convert::Infallible>(body)])).await
    }
}

impl Inner {
    /// Cuts the stored body, stores the chunks for both kinds of search, and makes the document visible.
    pub(super) async fn index_body(
        self: &Arc<Self>,
        state: &Arc<IndexState>,
        document: &mut Document,
    ) -> Result<(), RagError> {
        let kind = ChunkKind::of_media_type(&document.content_type)
            .ok_or_else(|| RagError::UnsupportedMediaType(document.content_type.clone()))?;
        let counter = self.embedder.counter().await?;
        let limits = Limits::from(state.file.chunk);
        let permit = self.chunking.acquire().await.map_err(|_| RagError::Closing)?;
        let body = self.bodies.read(&document.body).await?;
        let chunked =
            tokio::task::spawn_blocking(move || chunk::chunk(&counter, kind, &body, limits)).await??;
        document.outline = chunked.outline;
        document.preview = chunked.preview;
        document.records = chunked.records;
        document.chunks = chunked.chunks.len() as u64;
        document.tokens = chunked.chunks.iter().map(|chunk| u64::from(chunk.tokens)).sum();
        document.embedded_chunks = 0;
        document.state = match document.chunks {
            0 => DocumentState::Ready,
            _ => DocumentState::Indexed,
        };
        let metadata = serde_json::to_string(&document.metadata)
            .map_err(|error| RagError::Internal(error.to_string()))?;
        let (id, owner) = (document.document_id.clone(), document.owner.clone());
        let rows: Vec<ChunkRow> = chunked
            .chunks
            .into_iter()
            .zip(0u32..)
            .map(|(chunk, ordinal)| ChunkRow::new(&id, &owner, &metadata, ordinal, chunk))
            .collect();
        {
            let _writer = state.chunk_writer.lock().await;
            let version = state.tables.append_chunks(&rows).await?;
            let state = Arc::clone(state);
            tokio::task::spawn_blocking(move || {
                let written = state.text.add(&rows).and_then(|()| state.text.commit(version));
                if written.is_err() {
                    // What was added must not come in with the next commit.
                    let _ = state.text.roll_back();
                }
                written
            })
            .await??;
        }
        drop(permit);
        self.documents.publish(document).await
    }

    /// Forgets documents everywhere: rows first, so that they are invisible at once, then chunks, vectors and bodies.
    pub(super) async fn forget(self: &Arc<Self>, documents: &[Document]) -> Result<(), RagError> {
        for document in documents {
            let _bodies = self.body_lock.lock().await;
            if self.documents.delete(&document.document_id, &document.body).await? == Some(true) {
                self.bodies.remove(&document.body).await?;
            }
        }
        self.changed();
        for state in self.indexes.values() {
            let ids: Vec<DocumentId> = documents
                .iter()
                .filter(|document| document.index == state.file.name)
                .map(|document| document.document_id.clone())
                .collect();
            for ids in ids.chunks(500).map(<[DocumentId]>::to_vec) {
                {
                    let _writer = state.vector_writer.lock().await;
                    state.tables.delete_vectors(&ids).await?;
                }
                let _writer = state.chunk_writer.lock().await;
                let version = state.tables.delete_chunks(&ids).await?;
                let state = Arc::clone(state);
                tokio::task::spawn_blocking(move || {
                    let deleted = state.text.delete(&ids).and_then(|()| state.text.commit(version));
                    if deleted.is_err() {
                        state.text.mark_stale();
                    }
                    deleted
                })
                .await??;
            }
        }
        Ok(())
    }

    pub(super) async fn sweep_expired(self: &Arc<Self>) -> Result<usize, RagError> {
        let _running = self.running.read().await;
        let mut documents = Vec::new();
        for id in self.documents.expired(self.now_ms()).await? {
            documents.extend(self.documents.find(&id).await?);
        }
        self.forget(&documents).await?;
        if !documents.is_empty() {
            tracing::info!(documents = documents.len(), "expired documents are forgotten");
        }
        Ok(documents.len())
    }

    /// After a failed insert: the body may have been new.
    async fn drop_body_if_unneeded(&self, document: &Document) {
        match self.documents.needed_bodies().await {
            Ok(needed) if !needed.contains(document.body.as_str()) => {
                let _ = self.bodies.remove(&document.body).await;
            }
            // The next start removes bodies that no row needs.
            _ => {}
        }
    }
}

fn check_request(state: &IndexState, new: &NewDocument) -> Result<(), RagError> {
    let accepts = state.file.accepts;
    let refused = match new.source {
        Source::Upload => (!accepts.uploads).then_some("uploads"),
        Source::Action(_) => (!accepts.actions).then_some("responses of actions"),
    };
    if let Some(what) = refused {
        return Err(RagError::NotAccepted { index: new.index.clone(), what });
    }
    if new.title.len() > MAX_TITLE_BYTES {
        return Err(RagError::InvalidRequest(format!("title is over {MAX_TITLE_BYTES} bytes; shorten it")));
    }
    if new.metadata.len() > MAX_METADATA_ENTRIES {
        return Err(RagError::InvalidRequest(format!(
            "metadata has over {MAX_METADATA_ENTRIES} entries; drop some"
        )));
    }
    if new
        .metadata
        .iter()
        .any(|(key, value)| key.len().max(value.len()) > MAX_METADATA_BYTES || key.is_empty())
    {
        return Err(RagError::InvalidRequest(format!(
            "metadata keys and values take 1 to {MAX_METADATA_BYTES} bytes each; shorten them"
        )));
    }
    Ok(())
}

/// Everything that makes two ingests the same document, hashed.
fn content_key(
    body: &str,
    kind: ChunkKind,
    state: &IndexState,
    new: &NewDocument,
) -> Result<String, RagError> {
    let parts = serde_json::to_vec(&(
        body,
        kind.as_str(),
        &new.content_type,
        state.file.chunk.tokens,
        state.file.chunk.overlap,
        &new.title,
        new.source.to_string(),
        &new.metadata,
    ))
    .map_err(|error| RagError::Internal(error.to_string()))?;
    Ok(hex::encode(Sha256::digest(parts)))
}
