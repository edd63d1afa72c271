//! Where queries put what does not fit into memory: one folder a process, below the data folder.
//!
//! P1 A folder whose process is gone is removed by the next process that starts; that of a living one never.
//! Both are told apart by a lock on a file, which the system lifts when a process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// This process's folder; removed with it.
#[derive(Debug)]
pub(super) struct SpillFolder {
    path: PathBuf,
    /// Held for its lock.
    _alive: File,
}

const LOCK: &str = "alive.lock";

impl SpillFolder {
    /// Makes a folder below `parent`, which is made too, and removes those of processes that are gone.
    pub fn open(parent: &Path) -> io::Result<Self> {
        crate::store::create_private_folder(parent).map_err(io::Error::other)?;
        // One process at a time, or a folder could be swept between its making and its lock. Where the file system has no
        // locks, nothing is swept.
        let turn = File::create(parent.join("turn.lock"))?;
        if turn.lock().is_ok() {
            sweep(parent);
        }
        let path = parent.join(uuid::Uuid::now_v7().simple().to_string());
        std::fs::create_dir(&path)?;
        let alive = File::create(path.join(LOCK))?;
        if let Err(error) = alive.lock() {
            tracing::warn!(%error, "the folder for spilled data cannot be locked; after a crash it stays");
        }
        Ok(Self { path, _alive: alive })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, "the folder for spilled data could not be removed; the next start does");
        }
    }
}

fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let is_left = match File::open(path.join(LOCK)) {
            Ok(lock) => match lock.try_lock() {
                Ok(()) => true,
                // Where locks do not work, nothing is taken for dead.
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
            },
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if is_left && let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(%error, "data that a query spilled before could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_dead_process_goes_and_that_of_a_living_one_stays() {
        let parent = tempfile::tempdir().unwrap();
        let living = SpillFolder::open(parent.path()).unwrap();
        let dead = parent.path().join("dead");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join(LOCK), "").unwrap();
        std::fs::write(dead.join("spilled"), "rows").unwrap();
        let second = SpillFolder::open(parent.path()).unwrap();
        assert!(!dead.exists());
        assert!(living.path().is_dir() && second.path().is_dir());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
