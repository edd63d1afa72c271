//! Opening, and mending what a crash left behind.
//!
//! In this order: rows that never became visible go; chunks and vectors without a row go; documents that lost their
//! chunks are cut again from their bodies; the text index is rebuilt if it does not cover the chunk table's version;
//! documents without all their vectors are queued; bodies that no row needs go.

use std::collections::HashSet;
use std::sync::Arc;

use indexmap::IndexMap;
use tokio::sync::{Mutex, RwLock, Semaphore, mpsc, watch};

use crate::rag::body::BodyStore;
use crate::rag::documents::{DocumentId, DocumentState, Documents};
use crate::rag::embed_slot::EmbedderSlot;
use crate::rag::error::RagError;
use crate::rag::index_file::IndexFile;
use crate::rag::store::{IndexTables, LanceStore};
use crate::rag::text_index::TextIndex;
use crate::rag::{EmbedJob, IndexState, Inner, Rag, RagOptions, worker};
use crate::store::{FolderId, Store, create_private_folder};

impl Rag {
    /// Opens retrieval in a data folder, mends what a crash left, and starts the background work.
    ///
    /// The embedding model loads in the background: that it is missing shows in [`Rag::embedder_state`], not here.
    pub async fn open(options: RagOptions, indexes: Vec<IndexFile>, store: Store) -> Result<Self, RagError> {
        create_private_folder(&options.data_folder)?;
        let lance = LanceStore::open(&options.data_folder.join("lance")).await?;
        let embedder = EmbedderSlot::new(options.embedder.clone());
        let mut states = IndexMap::new();
        for file in indexes {
            // First, since it holds the lock that says whether another process is at work here.
            let folder = options.data_folder.join("tantivy").join(file.name.as_str());
            let text = TextIndex::open(folder, options.lock_patience).await?;
            let tables = lance.tables(&file.name, embedder.model_name()).await?;
            let state = IndexState {
                tables,
                text,
                chunk_writer: Mutex::new(()),
                vector_writer: Mutex::new(()),
                file: file.clone(),
            };
            states.insert(file.name, Arc::new(state));
        }
        let bodies = BodyStore::open(&options.data_folder.join("bodies"), options.max_body_bytes).await?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            chunking: Semaphore::new(options.max_concurrent_ingests.max(1)),
            indexes: states,
            documents: Documents::open(store, FolderId::of(&options.data_folder)?).await?,
            bodies,
            body_lock: Mutex::new(()),
            embedder,
            jobs,
            changes: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            running: RwLock::new(()),
            options,
        });
        inner.mend().await?;
        let tasks = vec![
            tokio::spawn(worker::embed(Arc::clone(&inner), queue)),
            tokio::spawn(worker::sweep(Arc::clone(&inner))),
        ];
        Ok(Self { inner, tasks: Mutex::new(tasks) })
    }
}

impl Inner {
    async fn mend(self: &Arc<Self>) -> Result<(), RagError> {
        for (id, _) in self.documents.in_states(&[DocumentState::Storing]).await? {
            if let Some(document) = self.documents.find(&id).await? {
                tracing::info!(document = %id, "an ingest was cut off by a crash, it is taken back");
                self.documents.delete(&id, &document.body).await?;
            }
        }
        for state in self.indexes.values() {
            self.mend_index(state).await?;
        }
        let removed = self.bodies.remove_all_but(&self.documents.needed_bodies().await?).await?;
        if removed > 0 {
            tracing::info!(removed, "bodies that no document needs are gone");
        }
        for (document, index) in
            self.documents.in_states(&[DocumentState::Indexed, DocumentState::Failed]).await?
        {
            if self.indexes.contains_key(&index) {
                self.queue_embedding(document, index).await?;
            }
        }
        Ok(())
    }

    /// Makes one index agree with the documents table.
    async fn mend_index(self: &Arc<Self>, state: &Arc<IndexState>) -> Result<(), RagError> {
        let rows = self.documents.all_ids(&state.file.name).await?;
        let stored = state.tables.document_ids().await?;
        let orphans: Vec<DocumentId> = stored
            .chunks
            .union(&stored.vectors)
            .filter(|id| !rows.contains(*id))
            .filter_map(|id| id.parse().ok())
            .collect();
        if !orphans.is_empty() {
            tracing::info!(index = %state.file.name, documents = orphans.len(), "chunks of unknown documents go");
            for some in orphans.chunks(500) {
                state.tables.delete_chunks(some).await?;
                state.tables.delete_vectors(some).await?;
            }
        }
        cover(&state.tables, &state.text).await?;
        for id in rows.iter().filter(|id| !stored.chunks.contains(*id)).filter_map(|id| id.parse().ok()) {
            self.cut_again(state, &id).await?;
        }
        self.notice_lost_vectors(&rows, &stored.vectors).await
    }

    /// Chunks a document anew from its body, if it had chunks.
    async fn cut_again(self: &Arc<Self>, state: &Arc<IndexState>, id: &DocumentId) -> Result<(), RagError> {
        let Some(mut document) = self.documents.find(id).await? else { return Ok(()) };
        if document.chunks == 0 {
            return Ok(());
        }
        tracing::warn!(document = %id, "a document lost its chunks, it is cut again from its body");
        if let Err(error) = self.index_body(state, &mut document).await {
            // Not forgotten: a model that is missing today, or a body on a disk that is not mounted, may come back.
            // The worker marks the document as failed, so that its state says what happened.
            tracing::warn!(document = %id, %error, "it cannot be cut again");
        }
        Ok(())
    }

    /// Documents that count as ready but have no vectors (another model, a lost table) are to be embedded again.
    async fn notice_lost_vectors(
        &self,
        rows: &HashSet<String>,
        with_vectors: &HashSet<String>,
    ) -> Result<(), RagError> {
        for id in rows
            .iter()
            .filter(|id| !with_vectors.contains(*id))
            .filter_map(|id| id.parse::<DocumentId>().ok())
        {
            let Some(document) = self.documents.find(&id).await? else { continue };
            if document.state == DocumentState::Ready && document.chunks > 0 {
                self.documents.set_progress(&id, 0, DocumentState::Indexed, None).await?;
            }
        }
        Ok(())
    }

    /// Marks a document as waiting for vectors and tells the worker.
    pub(super) async fn queue_embedding(
        &self,
        document: DocumentId,
        index: crate::rag::index_file::IndexName,
    ) -> Result<(), RagError> {
        // The worker counts what is there already; until then the row says none.
        self.documents.set_progress(&document, 0, DocumentState::Indexed, None).await?;
        // The receiver is gone only while closing; the next open queues the document again.
        let _ = self.jobs.send(EmbedJob { index, document });
        Ok(())
    }
}

/// Rebuilds the text index from the chunk table unless it covers the table's version.
async fn cover(tables: &IndexTables, text: &TextIndex) -> Result<(), RagError> {
    let version = tables.chunk_version().await?;
    if text.covered_version() == Some(version) {
        return Ok(());
    }
    let started = std::time::Instant::now();
    text.clear()?;
    let mut chunks = 0;
    tables
        .each_chunk(|rows| {
            chunks += rows.len();
            text.add(&rows)
        })
        .await?;
    text.commit(version)?;
    if chunks > 0 {
        tracing::info!(chunks, elapsed_ms = started.elapsed().as_millis() as u64, "text index rebuilt");
    }
    Ok(())
}
