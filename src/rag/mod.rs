//! Retrieval over large bodies: stored whole, cut into chunks, found by words and by meaning, paged by pointer.
//!
//! The only folder that names lancedb, tantivy, fastembed or ort. Knows clients by id and index files; must not know
//! HTTP, scopes, actions or SQL sessions: callers have checked that the viewer may read or write the index.
//! R1 text search answers as soon as `ingest` returns; vectors follow in the background, with progress.
//! R2 a crash at any point leaves nothing half visible: the `documents` row decides (see `documents`), LanceDB holds
//!    the chunks, tantivy is derived from LanceDB, and `open` mends what disagrees.
//! R3 privacy and expiry are enforced at read, from the `documents` table, before ranking: chunks that a viewer may
//!    not see take no place in a result and leave no trace in it.

pub mod body;
pub mod chunk;
mod content;
pub mod documents;
pub mod embed;
mod embed_slot;
mod embedding;
mod error;
pub mod index_file;
mod ingest;
mod open;
mod retrieve;
mod rows;
mod store;
mod text_index;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use tokio::sync::{Mutex, RwLock, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

pub use content::{ContentPage, ContentRequest};
pub use documents::{Document, DocumentId, DocumentState, Source, Viewer};
pub use embed::{EmbedError, Embedder, FastembedOptions};
pub use embed_slot::{EmbedderSource, EmbedderState};
pub use embedding::Embedding;
pub use error::RagError;
pub use index_file::{IndexFile, IndexName, Visibility, load_index_files};
pub use ingest::{DocumentHandle, NewDocument};
pub use retrieve::{Fusion, Hit, Neighbour, SearchAnswer, SearchMode, SearchRequest};

use crate::rag::body::BodyStore;
use crate::rag::documents::{Documents, Sight};
use crate::rag::embed_slot::EmbedderSlot;
use crate::rag::store::IndexTables;
use crate::rag::text_index::TextIndex;

/// The time in epoch milliseconds; a function, so that tests can move it.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What [`Rag::open`] needs.
#[derive(Clone)]
pub struct RagOptions {
    /// Bodies, LanceDB and tantivy live below it; one process at a time.
    pub data_folder: PathBuf,
    /// Largest body that is taken.
    pub max_body_bytes: u64,
    /// Bodies that are cut at the same time; each takes a few times its size in memory.
    pub max_concurrent_ingests: usize,
    pub embedder: EmbedderSource,
    /// How long a predecessor in the same folder may take to go down.
    pub lock_patience: Duration,
    pub clock: Clock,
}

impl RagOptions {
    /// The defaults for a data folder: 64 MB bodies, two at a time, the system's clock.
    pub fn new(data_folder: PathBuf, embedder: EmbedderSource) -> Self {
        Self {
            data_folder,
            max_body_bytes: 64 << 20,
            max_concurrent_ingests: 2,
            embedder,
            lock_patience: Duration::from_secs(10),
            clock: Arc::new(crate::store::now_ms),
        }
    }
}

/// Everything that one index needs at run time.
struct IndexState {
    file: IndexFile,
    tables: IndexTables,
    text: TextIndex,
    /// Held for every write to the chunk table and the text index, so that their versions stay in step.
    chunk_writer: Mutex<()>,
    /// Held for every write to the vector table.
    vector_writer: Mutex<()>,
}

impl IndexState {
    /// Whose documents `viewer` sees; `None`: everybody's.
    fn owner_seen_by<'a>(&self, viewer: &'a Viewer) -> Option<&'a str> {
        match self.file.visibility {
            Visibility::Private => Some(&viewer.owner),
            Visibility::Shared => None,
        }
    }
}

/// A document whose vectors are wanted.
#[derive(Debug, Clone)]
struct EmbedJob {
    index: IndexName,
    document: DocumentId,
}

struct Inner {
    options: RagOptions,
    indexes: IndexMap<IndexName, Arc<IndexState>>,
    documents: Documents,
    bodies: BodyStore,
    /// Held where a body gains or loses a reference, so that none is removed while a row is being made for it.
    body_lock: Mutex<()>,
    embedder: EmbedderSlot,
    chunking: Semaphore,
    jobs: mpsc::UnboundedSender<EmbedJob>,
    /// Counts changes of documents; waiting callers watch it.
    changes: watch::Sender<u64>,
    closing: watch::Sender<bool>,
    /// Held shared by each ingest and delete; `close` takes it whole, to wait for them.
    running: RwLock<()>,
}

impl Inner {
    fn now_ms(&self) -> i64 {
        (self.options.clock)()
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    fn index(&self, name: &IndexName) -> Result<&Arc<IndexState>, RagError> {
        self.indexes.get(name).ok_or_else(|| RagError::UnknownIndex(name.clone()))
    }

    fn sight<'a>(&self, state: &'a IndexState, viewer: &'a Viewer) -> Sight<'a> {
        Sight { index: &state.file.name, owner: state.owner_seen_by(viewer), now_ms: self.now_ms() }
    }

    /// The document, if this viewer sees it.
    async fn visible(
        &self,
        viewer: &Viewer,
        id: &DocumentId,
    ) -> Result<(Document, &Arc<IndexState>), RagError> {
        let unknown = || RagError::UnknownDocument(id.to_string());
        let document = self.documents.find(id).await?.ok_or_else(unknown)?;
        // An index whose file is gone has no readers.
        let state = self.indexes.get(&document.index).ok_or_else(unknown)?;
        let is_live = document.state != DocumentState::Storing
            && document.expires_at_ms.is_none_or(|expiry| expiry > self.now_ms());
        let is_theirs = state.owner_seen_by(viewer).is_none_or(|owner| owner == document.owner);
        if is_live && is_theirs { Ok((document, state)) } else { Err(unknown()) }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// The facade; cheap to share behind an `Arc`. Dropping it stops its background work; [`Rag::close`] also waits.
pub struct Rag {
    inner: Arc<Inner>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Rag {
    /// The indexes, in the order of their files.
    pub fn indexes(&self) -> impl Iterator<Item = &IndexFile> {
        self.inner.indexes.values().map(|state| &state.file)
    }

    /// How far the embedding model is; it is loaded in the background after `open`.
    pub fn embedder_state(&self) -> EmbedderState {
        self.inner.embedder.state()
    }

    /// Tokens of a text, as the embedding model counts them.
    pub async fn count_tokens(&self, text: String) -> Result<usize, RagError> {
        let counter = self.inner.embedder.counter().await?;
        Ok(tokio::task::spawn_blocking(move || counter.count(&text)).await?)
    }

    /// A document's row.
    pub async fn document(&self, viewer: &Viewer, id: &DocumentId) -> Result<Document, RagError> {
        Ok(self.inner.visible(viewer, id).await?.0)
    }

    /// An index's documents, newest first, at most `limit` (1 to 1000) of them, older than `before` where it is given.
    pub async fn documents(
        &self,
        viewer: &Viewer,
        index: &IndexName,
        before: Option<&DocumentId>,
        limit: u32,
    ) -> Result<Vec<Document>, RagError> {
        if !(1..=1000).contains(&limit) {
            return Err(RagError::InvalidRequest(format!("limit is {limit}; use 1 to 1000")));
        }
        let state = self.inner.index(index)?;
        self.inner.documents.list(self.inner.sight(state, viewer), before, limit).await
    }

    /// Notes under which name the document's records are a table.
    pub async fn set_response_table(
        &self,
        viewer: &Viewer,
        id: &DocumentId,
        table: Option<&str>,
    ) -> Result<(), RagError> {
        self.inner.visible(viewer, id).await?;
        self.inner.documents.set_response_table(id, table).await?;
        Ok(())
    }

    /// The whole body of a document, as it was stored.
    pub async fn body(&self, viewer: &Viewer, id: &DocumentId) -> Result<Vec<u8>, RagError> {
        let (document, _) = self.inner.visible(viewer, id).await?;
        self.inner.bodies.read(&document.body).await
    }

    /// Forgets a document: at once for every reader, then its chunks, vectors and, if nothing else needs it, its body.
    ///
    /// In a shared index whoever sees a document may delete it, so callers check the right to write.
    pub async fn delete(&self, viewer: &Viewer, id: &DocumentId) -> Result<(), RagError> {
        let (document, _) = self.inner.visible(viewer, id).await?;
        let inner = Arc::clone(&self.inner);
        // On a task of its own: a caller that goes away must not leave it half done.
        tokio::spawn(async move {
            let _running = inner.running.read().await;
            if inner.is_closing() {
                return Err(RagError::Closing);
            }
            inner.forget(&[document]).await
        })
        .await?
    }

    /// Forgets every expired document; returns how many. Runs by itself once a minute.
    pub async fn sweep_expired(&self) -> Result<usize, RagError> {
        self.inner.sweep_expired().await
    }

    /// Waits until no more vectors are to be made for the document; returns it as it is then: ready, or failed.
    pub async fn wait_embedded(&self, viewer: &Viewer, id: &DocumentId) -> Result<Document, RagError> {
        let mut changes = self.inner.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let document = self.document(viewer, id).await?;
            if document.state != DocumentState::Indexed {
                return Ok(document);
            }
            if self.inner.is_closing() || changes.changed().await.is_err() {
                return Err(RagError::Closing);
            }
        }
    }

    /// Stops taking work, lets running ingests finish, stores the vectors made so far, stops the background, and gives
    /// the data folder free. Searches still answer.
    pub async fn close(&self) {
        self.inner.closing.send_replace(true);
        self.inner.changed();
        drop(self.inner.running.write().await);
        for task in self.tasks.lock().await.drain(..) {
            // A task that died has been logged by its panic; there is nothing left to wait for.
            let _ = task.await;
        }
        for state in self.inner.indexes.values().cloned() {
            let closed = tokio::task::spawn_blocking(move || state.text.close()).await;
            if let Err(error) = closed.map_err(RagError::from).and_then(|closed| closed) {
                tracing::warn!(%error, "a text index did not close, the next start will mend it");
            }
        }
    }
}

impl Drop for Rag {
    fn drop(&mut self) {
        self.inner.closing.send_replace(true);
    }
}

#[cfg(test)]
mod tests;
