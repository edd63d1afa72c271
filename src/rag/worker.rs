//! Background work: vectors for what was ingested, upkeep of the tables, forgetting what has expired.
//!
//! W1 documents take turns, [`TURN_CHUNKS`] chunks each, so that a large one does not hold up the small ones behind
//!    it.  W2 progress is stored with each turn and nothing is embedded twice: what is missing is the difference
//!    between the two tables.  W3 a failure marks the document, and text search of it stays.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::rag::documents::{DocumentId, DocumentState};
use crate::rag::error::RagError;
use crate::rag::rows::{ChunkKey, ChunkRow};
use crate::rag::{EmbedJob, IndexState, Inner};

/// Chunks of one document between two others' turns, and rows of one append.
const TURN_CHUNKS: usize = 256;

/// Chunks of one call to the model; between calls the worker looks whether it should stop.
const CALL_CHUNKS: usize = 48;

/// Documents whose texts are in memory at the same time.
const MAX_ACTIVE: usize = 4;

const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Forgets expired documents once a minute.
pub(super) async fn sweep(inner: Arc<Inner>) {
    let mut closing = inner.closing.subscribe();
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = inner.sweep_expired().await {
            tracing::warn!(%error, "cannot forget expired documents, trying again in a minute");
        }
    }
}

/// A document whose turn comes round.
struct Active {
    state: Arc<IndexState>,
    document: DocumentId,
    /// What has no vector yet, longest last.
    missing: Vec<ChunkRow>,
    embedded: u64,
}

/// Embeds what the queue names, until closing.
pub(super) async fn embed(inner: Arc<Inner>, mut queue: mpsc::UnboundedReceiver<EmbedJob>) {
    let mut closing = inner.closing.subscribe();
    // The model is loaded now and not with the first document, which would wait for it.
    tokio::select! {
        _ = closing.wait_for(|closing| *closing) => return,
        () = warm_up(&inner) => {}
    }
    let mut waiting: VecDeque<EmbedJob> = VecDeque::new();
    let mut active: VecDeque<Active> = VecDeque::new();
    loop {
        while let Ok(job) = queue.try_recv() {
            waiting.push_back(job);
        }
        if active.is_empty() && waiting.is_empty() {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return,
                job = queue.recv() => match job {
                    Some(job) => waiting.push_back(job),
                    None => return,
                },
            }
        }
        if inner.is_closing() {
            return;
        }
        while active.len() < MAX_ACTIVE {
            let Some(job) = waiting.pop_front() else { break };
            match activate(&inner, &job).await {
                Ok(Some(next)) => active.push_back(next),
                Ok(None) => {}
                Err(error) => fail(&inner, &job.document, &error).await,
            }
        }
        if let Some(mut turn) = active.pop_front() {
            match take_turn(&inner, &mut turn).await {
                Ok(true) => active.push_back(turn),
                Ok(false) => {}
                Err(error) => fail(&inner, &turn.document, &error).await,
            }
            if let Err(error) = tend(&inner).await {
                tracing::warn!(%error, "cannot compact the tables, trying again later");
            }
        }
    }
}

/// Loads the model's sessions for batches and for queries.
async fn warm_up(inner: &Inner) {
    let warmed = match inner.embedder.get().await {
        Ok(embedder) => {
            tokio::task::spawn_blocking(move || embedder.embed_query("warm up").map(|_| ())).await
        }
        Err(error) => Ok(Err(error)),
    };
    match warmed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "no embedding model, text search only"),
        Err(error) => tracing::warn!(%error, "the embedding model did not come up"),
    }
}

/// Loads what of a document has no vector yet; `None` if there is nothing to do.
async fn activate(inner: &Arc<Inner>, job: &EmbedJob) -> Result<Option<Active>, RagError> {
    let state = Arc::clone(inner.index(&job.index)?);
    let Some(document) = inner.documents.find(&job.document).await? else { return Ok(None) };
    let embedded = state.tables.embedded_ids(&job.document).await?;
    let mut missing = state.tables.chunks_of(&job.document).await?;
    if (missing.len() as u64) < document.chunks {
        return Err(RagError::LostChunks);
    }
    missing.retain(|row| !embedded.contains(&row.chunk_id));
    let embedded = embedded.len() as u64;
    if missing.is_empty() {
        inner.documents.set_progress(&job.document, document.chunks, DocumentState::Ready, None).await?;
        inner.changed();
        return Ok(None);
    }
    inner.documents.set_progress(&job.document, embedded, DocumentState::Indexed, None).await?;
    // Texts of like length belong together in a batch.
    missing.sort_by_key(|row| row.tokens);
    Ok(Some(Active { state, document: job.document.clone(), missing, embedded }))
}

/// Embeds and stores some chunks; returns whether the document has more.
async fn take_turn(inner: &Arc<Inner>, active: &mut Active) -> Result<bool, RagError> {
    let embedder = inner.embedder.get().await?;
    let model = inner.embedder.model_name().to_owned();
    let from = active.missing.len().saturating_sub(TURN_CHUNKS);
    let mut rows = active.missing.split_off(from);
    let mut vectors: Vec<(ChunkKey, Vec<f32>)> = Vec::with_capacity(rows.len());
    while !rows.is_empty() && !inner.is_closing() {
        let call = rows.split_off(rows.len().saturating_sub(CALL_CHUNKS));
        let embedder = Arc::clone(&embedder);
        let embedded = tokio::task::spawn_blocking(move || {
            let texts: Vec<&str> = call.iter().map(|row| row.text.as_str()).collect();
            let embedded = embedder.embed(&texts)?;
            let keys = call.iter().map(|row| ChunkKey {
                chunk_id: row.chunk_id.clone(),
                document_id: row.document_id.clone(),
                owner: row.owner.clone(),
            });
            Ok::<_, RagError>(keys.zip(embedded).collect::<Vec<_>>())
        })
        .await??;
        vectors.extend(embedded);
    }
    let _writer = active.state.vector_writer.lock().await;
    // Under the lock: a document that is deleted now has its vectors deleted after these are in.
    if inner.documents.find(&active.document).await?.is_none() {
        return Ok(false);
    }
    active.state.tables.append_vectors(&model, &vectors).await?;
    active.embedded += vectors.len() as u64;
    let done = active.missing.is_empty() && rows.is_empty();
    let state = if done { DocumentState::Ready } else { DocumentState::Indexed };
    inner.documents.set_progress(&active.document, active.embedded, state, None).await?;
    inner.changed();
    Ok(!done)
}

/// Compaction and vector indexes, where they pay; of all indexes, since an ingest that gets no vectors grows its
/// chunk table as well.
async fn tend(inner: &Inner) -> Result<(), RagError> {
    for state in inner.indexes.values() {
        if state.tables.chunks_want_compaction() {
            let _writer = state.chunk_writer.lock().await;
            let version = state.tables.compact_chunks().await?;
            let state = Arc::clone(state);
            tokio::task::spawn_blocking(move || state.text.commit(version)).await??;
        }
        let _writer = state.vector_writer.lock().await;
        state.tables.tend_vectors().await?;
    }
    Ok(())
}

async fn fail(inner: &Arc<Inner>, document: &DocumentId, error: &RagError) {
    tracing::warn!(document = %document, %error, "no vectors for a document, text search of it stays");
    let embedded = match inner.documents.find(document).await {
        Ok(Some(row)) => row.embedded_chunks,
        _ => 0,
    };
    let marked = inner
        .documents
        .set_progress(document, embedded, DocumentState::Failed, Some(&error.to_string()))
        .await;
    if let Err(error) = marked {
        tracing::warn!(document = %document, %error, "cannot mark the document as failed");
    }
    inner.changed();
}
