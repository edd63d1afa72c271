//! The name of a data folder, so that several can share one service database.
//!
//! What a row says of bodies, chunks and vectors holds for the folder that they lie in, and for no other.
//! F1 a folder has one id for good; processes that open it together agree on it.

use std::io::{ErrorKind as IoErrorKind, Write};
use std::path::Path;

use super::{StoreError, create_private_folder};

const FILE: &str = "folder-id";

/// A data folder's id: 32 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderId(String);

impl FolderId {
    /// Reads the id of a data folder, and first makes one if it has none. Blocking, for a moment.
    pub fn of(data_folder: &Path) -> Result<Self, StoreError> {
        create_private_folder(data_folder)?;
        let path = data_folder.join(FILE);
        let failed = |source| StoreError::FolderId { path: path.display().to_string(), source };
        match std::fs::read_to_string(&path) {
            Ok(text) => return Self::parse(&text).ok_or_else(|| failed(IoErrorKind::InvalidData.into())),
            Err(error) if error.kind() == IoErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let made = uuid::Uuid::new_v4().simple().to_string();
        let mut file = tempfile::NamedTempFile::new_in(data_folder).map_err(failed)?;
        file.write_all(made.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(Self(made)),
            // Another process was faster; its id is the one (F1).
            Err(error) if error.error.kind() == IoErrorKind::AlreadyExists => {
                let text = std::fs::read_to_string(&path).map_err(failed)?;
                Self::parse(&text).ok_or_else(|| failed(IoErrorKind::InvalidData.into()))
            }
            Err(error) => Err(failed(error.error)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_id = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_id_and_no_other_has_it() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = [0, 1].map(|at| FolderId::of(folders[at].path()).unwrap());
        assert_ne!(first, second);
        assert_eq!(FolderId::of(folders[0].path()).unwrap(), first);
    }

    #[test]
    fn processes_that_open_a_folder_together_agree() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<FolderId> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| FolderId::of(folder.path()).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn a_file_that_is_no_id_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "x").unwrap();
        let error = FolderId::of(folder.path()).unwrap_err().to_string();
        assert!(error.contains("folder-id") && error.contains("restore"), "{error}");
    }
}
