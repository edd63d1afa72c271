//! Takes up changes of the semantic folder while the service runs.
//!
//! R1 A change is loaded when the folder has stood still for one poll: editors write in several steps, and a checkout
//! takes a while. R2 What was read while files changed is thrown away and read again. R3 The new catalog takes the old
//! one's place at once and whole; requests under way keep theirs. R4 What is broken keeps its last good form.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

use super::Served;
use crate::config::SemanticConfig;
use crate::semantic::{Catalog, Severity, semantic_files};

/// A task that watches a folder; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch(JoinHandle<()>);

impl Watch {
    /// `stamp` is that of the folder just before `served` was loaded.
    pub fn start(config: &SemanticConfig, served: Arc<ArcSwap<Served>>, stamp: u64) -> Self {
        let (folder, poll) = (config.dir.clone(), Duration::from_millis(config.poll_ms.max(10)));
        // Weak: the task must not keep alive what its engine has let go.
        Self(tokio::spawn(watch(folder, poll, Arc::downgrade(&served), stamp)))
    }

    pub fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(folder: PathBuf, poll: Duration, served: Weak<ArcSwap<Served>>, mut loaded: u64) {
    let mut seen = loaded;
    loop {
        tokio::time::sleep(poll).await;
        let path = folder.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || stamp(&path)).await else { return };
        let has_settled = now == seen;
        seen = now;
        if now == loaded || !has_settled {
            continue;
        }
        let Some(place) = served.upgrade() else { return };
        let path = folder.clone();
        let reloaded = tokio::task::spawn_blocking(move || reload(&path, &place, now)).await;
        match reloaded {
            Ok(true) => loaded = now,
            // Changed meanwhile: the next polls will see it settle.
            Ok(false) => {}
            Err(error) => {
                // Tried again when the folder changes, not every second.
                tracing::error!(%error, "the semantic folder could not be loaded; the last catalog stays");
                loaded = now;
            }
        }
    }
}

/// Loads the folder into `place`, unless it changes meanwhile.
fn reload(folder: &Path, place: &ArcSwap<Served>, before: u64) -> bool {
    let started = std::time::Instant::now();
    let old = place.load_full();
    let catalog = Catalog::load_after(folder, &old.catalog);
    if stamp(folder) != before {
        return false;
    }
    log_errors(&catalog);
    let served = Served::new(catalog);
    let state = served.state();
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    place.store(Arc::new(served));
    if state.errors == 0 {
        tracing::info!(state.models, elapsed_ms, "semantic catalog reloaded");
    } else {
        tracing::warn!(
            state.models,
            state.errors,
            state.stale,
            elapsed_ms,
            "semantic catalog reloaded with errors; what is broken stays as it was"
        );
    }
    true
}

/// Tells the operator what is not served, and why.
pub(super) fn log_errors(catalog: &Catalog) {
    for found in catalog.diagnostics.iter().filter(|found| found.severity == Severity::Error) {
        tracing::error!(file = found.file, line = found.line, rule = found.rule, "{}", found.message);
    }
}

/// A number that changes when a file of the folder comes, goes or changes.
pub(super) fn stamp(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in semantic_files(folder) {
        path.hash(&mut hasher);
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        metadata.len().hash(&mut hasher);
        metadata.modified().ok().hash(&mut hasher);
        #[cfg(unix)]
        {
            // Unlike the other time, this one cannot be set back.
            use std::os::unix::fs::MetadataExt;
            (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()).hash(&mut hasher);
        }
    }
    hasher.finish()
}
