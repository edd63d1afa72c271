//! The body store: every stored body once, under the SHA-256 of its bytes (`bodies/ab/<sha256>`).
//!
//! Knows files and hashes; must not know documents, owners or media types.
//! B1 a body is visible under its name only when it is complete and on disk: hashed while it is written to a
//!    temporary file, synced, then renamed.  B2 whatever fails, nothing is left behind; what a crash left in `tmp/`
//!    goes at the next open.  B3 callers count references and serialise [`Spooled::keep`] against
//!    [`BodyStore::remove`].

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::rag::error::RagError;
use crate::store::create_private_folder;

/// The SHA-256 of a body: 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BodyHash(String);

/// Why a string is no [`BodyHash`].
#[derive(Debug, thiserror::Error)]
#[error("a body hash is 64 lowercase hexadecimal digits")]
pub struct InvalidBodyHash;

impl FromStr for BodyHash {
    type Err = InvalidBodyHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if text.len() == 64 && digits { Ok(Self(text.to_owned())) } else { Err(InvalidBodyHash) }
    }
}

impl fmt::Display for BodyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl BodyHash {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bodies in one folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyStore {
    folder: PathBuf,
    temporary: PathBuf,
    max_body_bytes: u64,
}

/// A complete body that has no name yet; dropping it removes it.
#[derive(Debug)]
pub struct Spooled {
    pub hash: BodyHash,
    pub size_bytes: u64,
    file: tempfile::TempPath,
}

impl BodyStore {
    /// Opens the store in `folder`, creating it, and removes what a crash left half written.
    pub async fn open(folder: &Path, max_body_bytes: u64) -> Result<Self, RagError> {
        let temporary = folder.join("tmp");
        match tokio::fs::remove_dir_all(&temporary).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(RagError::io("clear", &temporary)(error));
            }
            _ => {}
        }
        create_private_folder(&temporary)?;
        Ok(Self { folder: folder.to_owned(), temporary, max_body_bytes })
    }

    /// Writes a stream to a temporary file, hashing on the way.
    ///
    /// Errors: [`RagError::BodyTooLarge`] as soon as the limit is passed, [`RagError::BodyStream`] when the stream
    /// fails, [`RagError::Io`] when the disk does.
    pub async fn spool<S, E>(&self, stream: S) -> Result<Spooled, RagError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: fmt::Display,
    {
        let temporary = tempfile::Builder::new()
            .prefix("body-")
            .tempfile_in(&self.temporary)
            .map_err(RagError::io("create a file in", &self.temporary))?;
        let (file, path) = temporary.into_parts();
        let mut file = tokio::io::BufWriter::with_capacity(1 << 18, tokio::fs::File::from_std(file));
        let mut hasher = Sha256::new();
        let mut size_bytes = 0u64;
        let mut stream = std::pin::pin!(stream);
        while let Some(part) = stream.next().await {
            let part = part.map_err(|error| RagError::BodyStream(error.to_string()))?;
            size_bytes += part.len() as u64;
            if size_bytes > self.max_body_bytes {
                return Err(RagError::BodyTooLarge { limit_bytes: self.max_body_bytes });
            }
            hasher.update(&part);
            file.write_all(&part).await.map_err(RagError::io("write", &path))?;
        }
        file.flush().await.map_err(RagError::io("write", &path))?;
        file.get_ref().sync_all().await.map_err(RagError::io("sync", &path))?;
        let hash = BodyHash(hex::encode(hasher.finalize()));
        Ok(Spooled { hash, size_bytes, file: path })
    }

    /// Where a body of this hash is, or would be.
    pub fn path(&self, hash: &BodyHash) -> PathBuf {
        self.folder.join(&hash.0[..2]).join(&hash.0)
    }

    /// All bytes of a body.
    pub async fn read(&self, hash: &BodyHash) -> Result<Vec<u8>, RagError> {
        let path = self.path(hash);
        tokio::fs::read(&path).await.map_err(RagError::io("read", &path))
    }

    /// Up to `max_bytes` bytes from `offset`; fewer at the end, none past it.
    pub async fn read_range(
        &self,
        hash: &BodyHash,
        offset: u64,
        max_bytes: u64,
    ) -> Result<Vec<u8>, RagError> {
        let path = self.path(hash);
        let mut file = tokio::fs::File::open(&path).await.map_err(RagError::io("open", &path))?;
        file.seek(std::io::SeekFrom::Start(offset)).await.map_err(RagError::io("seek in", &path))?;
        let mut bytes = Vec::new();
        file.take(max_bytes).read_to_end(&mut bytes).await.map_err(RagError::io("read", &path))?;
        Ok(bytes)
    }

    /// Removes a body; that it is gone already is no error.
    pub async fn remove(&self, hash: &BodyHash) -> Result<(), RagError> {
        let path = self.path(hash);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(RagError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes every body that is not in `needed`; returns how many went. For start-up, before anything is ingested.
    pub async fn remove_all_but(&self, needed: &HashSet<String>) -> Result<usize, RagError> {
        let mut removed = 0;
        let mut folders =
            tokio::fs::read_dir(&self.folder).await.map_err(RagError::io("list", &self.folder))?;
        while let Some(folder) = folders.next_entry().await.map_err(RagError::io("list", &self.folder))? {
            if folder.file_name().len() != 2 {
                continue;
            }
            let path = folder.path();
            let mut files = tokio::fs::read_dir(&path).await.map_err(RagError::io("list", &path))?;
            while let Some(file) = files.next_entry().await.map_err(RagError::io("list", &path))? {
                let Some(hash) = file.file_name().to_str().and_then(|name| BodyHash::from_str(name).ok())
                else {
                    continue;
                };
                if !needed.contains(hash.as_str()) {
                    self.remove(&hash).await?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

impl Spooled {
    /// Gives the body its name. The same bytes may be there already; then this copy is dropped.
    pub async fn keep(self, store: &BodyStore) -> Result<(), RagError> {
        let target = store.path(&self.hash);
        if tokio::fs::try_exists(&target).await.map_err(RagError::io("look for", &target))? {
            return Ok(());
        }
        let parent = target.parent().expect("a body's path has two segments below the folder").to_owned();
        create_private_folder(&parent)?;
        let file = self.file;
        tokio::task::spawn_blocking(move || {
            file.persist(&target).map_err(|error| RagError::io("rename to", &target)(error.error))?;
            // The rename itself must survive a power cut.
            std::fs::File::open(&parent)
                .and_then(|folder| folder.sync_all())
                .map_err(RagError::io("sync", &parent))
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn parts(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + use<> {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        futures::stream::iter(parts)
    }

    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
        }
        found
    }

    #[tokio::test]
    async fn a_body_is_stored_once_under_its_hash_and_read_back_in_ranges() {
        let folder = tempfile::tempdir().unwrap();
        let store = BodyStore::open(folder.path(), 100).await.unwrap();
        let first = store.spool(parts(&["hello ", "world"])).await.unwrap();
        // sha256sum of "hello world".
        assert_eq!(first.hash.as_str(), "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
        assert_eq!(first.size_bytes, 11);
        let hash = first.hash.clone();
        first.keep(&store).await.unwrap();
        store.spool(parts(&["hello world"])).await.unwrap().keep(&store).await.unwrap();
        assert_eq!(files_below(folder.path()), [store.path(&hash)]);
        assert_eq!(store.read(&hash).await.unwrap(), b"hello world");
        assert_eq!(store.read_range(&hash, 6, 3).await.unwrap(), b"wor");
        assert_eq!(store.read_range(&hash, 9, 100).await.unwrap(), b"ld");
        assert_eq!(store.read_range(&hash, 100, 1).await.unwrap(), b"");
        store.remove(&hash).await.unwrap();
        store.remove(&hash).await.unwrap();
        assert_eq!(files_below(folder.path()), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn too_much_names_the_limit_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = BodyStore::open(folder.path(), 10).await.unwrap();
        store.spool(parts(&["12345", "67890"])).await.unwrap();
        let error = store.spool(parts(&["12345", "678901"])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("10 bytes"), "{error}");
        assert_eq!(files_below(folder.path()), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn a_stream_that_breaks_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = BodyStore::open(folder.path(), 100).await.unwrap();
        let broken = parts(&["abc"]).chain(futures::stream::iter([Err(std::io::Error::other("reset"))]));
        let error = store.spool(broken).await.unwrap_err();
        assert!(error.to_string().contains("reset"), "{error}");
        assert_eq!(files_below(folder.path()), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn a_folder_that_went_away_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = BodyStore::open(folder.path(), 100).await.unwrap();
        std::fs::remove_dir_all(folder.path().join("tmp")).unwrap();
        let error = store.spool(parts(&["abc"])).await.unwrap_err();
        assert!(matches!(error, RagError::Io { .. }) && error.to_string().contains("tmp"), "{error}");
        assert_eq!(files_below(folder.path()), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn what_a_crash_left_goes_at_open_and_orphans_on_request() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tmp")).unwrap();
        std::fs::write(folder.path().join("tmp/body-half"), "x").unwrap();
        let store = BodyStore::open(folder.path(), 100).await.unwrap();
        assert_eq!(files_below(folder.path()), Vec::<PathBuf>::new());
        let kept = store.spool(parts(&["kept"])).await.unwrap();
        let orphan = store.spool(parts(&["orphan"])).await.unwrap();
        let (kept_hash, orphan_hash) = (kept.hash.clone(), orphan.hash.clone());
        kept.keep(&store).await.unwrap();
        orphan.keep(&store).await.unwrap();
        let needed = HashSet::from([kept_hash.to_string()]);
        assert_eq!(store.remove_all_but(&needed).await.unwrap(), 1);
        assert!(store.read(&kept_hash).await.is_ok() && store.read(&orphan_hash).await.is_err());
    }
}
