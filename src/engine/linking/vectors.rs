//! The background work that gives a catalog's linkers their vectors.
//!
//! V1 nothing is embedded twice: a vector is kept by the hash of its text, on disk.  V2 the linkers get their vectors
//! all at once, since a half would rank above the other half.  V3 the work ends when its catalog is no longer served
//! or retrieval closes; what was made stays on disk.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Linking;
use super::cache::{Key, VectorCache};
use crate::rag::{EmbedError, Embedding};

/// Texts of one call to the model; between calls the work looks whether it is still wanted.
const CALL_TEXTS: usize = 64;

/// After a failure, the next try waits that long.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// How far the vectors of a catalog are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Progress {
    #[default]
    NotBegun,
    Making,
    Ready,
    Failed {
        at: Instant,
    },
}

/// Why meaning takes no part in the ranking now; nothing if it does. Without numbers, since the work is for all
/// clearances and its size would tell of what the caller may not see; the log has them.
pub(super) fn note(linking: &Linking) -> Option<String> {
    match *linking.progress.lock().unwrap_or_else(PoisonError::into_inner) {
        Progress::Ready => None,
        Progress::NotBegun | Progress::Making => {
            Some("words alone rank until the catalog's vectors are made, in the background".to_owned())
        }
        Progress::Failed { .. } => {
            Some("words alone rank: the embedding model does not work now; tell the operator".to_owned())
        }
    }
}

/// Whether the caller is to start the work: nobody has, or the last try failed long enough ago.
pub(super) fn claim(linking: &Linking) -> bool {
    let mut progress = linking.progress.lock().unwrap_or_else(PoisonError::into_inner);
    let is_due = match *progress {
        Progress::NotBegun => true,
        Progress::Failed { at } => at.elapsed() >= RETRY_AFTER,
        Progress::Making | Progress::Ready => false,
    };
    if is_due {
        *progress = Progress::Making;
    }
    is_due
}

fn report(linking: &Weak<Linking>, progress: Progress) {
    if let Some(linking) = linking.upgrade() {
        *linking.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Embed(#[from] EmbedError),
    #[error("the work died: {0}")]
    Died(#[from] tokio::task::JoinError),
    #[error("the linker refused its vectors, though they were made from its own texts")]
    Refused,
}

/// Makes what is missing and hands it to the linkers.
pub(super) async fn make(
    linking: Weak<Linking>,
    embedding: Embedding,
    cache: Arc<tokio::sync::Mutex<VectorCache>>,
) {
    let started = Instant::now();
    match make_all(&linking, &embedding, &cache).await {
        Ok(Some(embedded)) => {
            tracing::info!(
                embedded,
                elapsed_ms = started.elapsed().as_millis() as u64,
                "linking has its vectors"
            );
            report(&linking, Progress::Ready);
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(%error, "no vectors for linking, words alone rank; trying again in a minute");
            report(&linking, Progress::Failed { at: Instant::now() });
        }
    }
}

/// How many texts were embedded; `None` if nobody wants them any more.
async fn make_all(
    linking: &Weak<Linking>,
    embedding: &Embedding,
    cache: &Arc<tokio::sync::Mutex<VectorCache>>,
) -> Result<Option<usize>, Stop> {
    // One catalog at a time: the work for an older one ends at its next look.
    let ready = async { Ok::<_, Stop>((embedding.embedder().await?, Arc::clone(cache).lock_owned().await)) };
    let (embedder, mut cache) = tokio::select! {
        () = embedding.closing() => return Ok(None),
        ready = ready => ready?,
    };
    let Some(held) = linking.upgrade() else { return Ok(None) };
    let model = embedding.model_name().to_owned();
    let dim = embedder.dim();
    let (mut cache_back, texts, mut known) = tokio::task::spawn_blocking(move || {
        let mut texts: HashMap<Key, String> = HashMap::new();
        for view in held.distinct() {
            for text in view.linker().texts() {
                texts.entry(Key::of(&text)).or_insert(text);
            }
        }
        let known = cache.load(&model, dim, |key| texts.contains_key(key));
        (cache, texts, known)
    })
    .await?;

    let mut missing: Vec<(Key, String)> = texts
        .iter()
        .filter(|(key, _)| !known.contains_key(*key))
        .map(|(key, text)| (*key, text.clone()))
        .collect();
    // Of like length together, so that little is padded.
    missing.sort_by(|a, b| (a.1.len(), &a.0).cmp(&(b.1.len(), &b.0)));
    let total = missing.len();
    if total > 0 {
        tracing::info!(texts = total, "making vectors for linking");
    }
    for call in missing.chunks(CALL_TEXTS) {
        if linking.strong_count() == 0 || embedding.is_closing() {
            return Ok(None);
        }
        let call = call.to_vec();
        let embedder = Arc::clone(&embedder);
        let mut cache = cache_back;
        let rows;
        (cache_back, rows) = tokio::task::spawn_blocking(move || {
            let texts: Vec<&str> = call.iter().map(|(_, text)| text.as_str()).collect();
            let rows = embedder.embed(&texts).map(|rows| {
                let rows: Vec<(Key, Vec<f32>)> = call.iter().map(|(key, _)| *key).zip(rows).collect();
                cache.append(&rows);
                rows
            });
            (cache, rows)
        })
        .await?;
        known.extend(rows?);
    }

    let Some(held) = linking.upgrade() else { return Ok(None) };
    tokio::task::spawn_blocking(move || {
        for view in held.distinct() {
            let linker = view.linker();
            let texts = linker.texts();
            let rows: Option<Vec<&[f32]>> =
                texts.iter().map(|text| known.get(&Key::of(text)).map(Vec::as_slice)).collect();
            let is_set = rows.is_some_and(|rows| rows.is_empty() || linker.set_vectors(&rows));
            if !is_set && !linker.has_vectors() {
                return Err(Stop::Refused);
            }
        }
        cache_back.prune(&known);
        Ok(())
    })
    .await??;
    Ok(Some(total))
}
