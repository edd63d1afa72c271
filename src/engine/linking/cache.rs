//! Vectors of the catalog's texts on disk, so that a restart embeds nothing again.
//!
//! One file: a header that names the model by its hash, then records of one length, each the SHA-256 of a text and its
//! vector. C1 the file is a cache: whatever is wrong with it costs time, never an answer.  C2 a record counts only
//! whole and with a vector of length one; a half-written last one is cut off.  C3 the texts themselves are not in it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const MAGIC: &[u8; 12] = b"steward-lnk1";
const HEADER_BYTES: u64 = 12 + 4 + 32;

/// Records that may be of no use any more before the file is written anew.
const SPARE_RECORDS: u64 = 1024;

/// The hash of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

/// The file and what is known of it. Blocks the thread; one process at a time.
#[derive(Debug)]
pub(super) struct VectorCache {
    folder: PathBuf,
    /// The header of what is loaded: nothing is appended to a file that was not read before.
    header: Option<[u8; HEADER_BYTES as usize]>,
    dim: usize,
    records: u64,
}

impl VectorCache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, header: None, dim: 0, records: 0 }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("vectors.bin")
    }

    fn record_bytes(&self) -> u64 {
        32 + 4 * self.dim as u64
    }

    /// The wanted vectors that the file has for this model. A file of another model, or none, is begun anew.
    pub(super) fn load(
        &mut self,
        model: &str,
        dim: usize,
        wanted: impl Fn(&Key) -> bool,
    ) -> HashMap<Key, Vec<f32>> {
        let mut header = [0; HEADER_BYTES as usize];
        header[..12].copy_from_slice(MAGIC);
        header[12..16].copy_from_slice(&u32::try_from(dim).unwrap_or(u32::MAX).to_le_bytes());
        header[16..].copy_from_slice(&Sha256::digest(model.as_bytes()));
        (self.dim, self.records, self.header) = (dim, 0, None);
        let loaded = crate::store::create_private_folder(&self.folder)
            .map_err(|error| std::io::Error::other(error.to_string()))
            .and_then(|()| self.read(&header, wanted));
        match loaded {
            Ok(vectors) => {
                self.header = Some(header);
                vectors
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.path().display(), "cannot keep linking's vectors on disk");
                HashMap::new()
            }
        }
    }

    fn read(
        &mut self,
        header: &[u8; HEADER_BYTES as usize],
        wanted: impl Fn(&Key) -> bool,
    ) -> std::io::Result<HashMap<Key, Vec<f32>>> {
        let path = self.path();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let length = file.metadata()?.len();
        let mut found_header = [0; HEADER_BYTES as usize];
        let mut reader = BufReader::with_capacity(1 << 20, file);
        if length < HEADER_BYTES || reader.read_exact(&mut found_header).is_err() || found_header != *header {
            return write_whole(&path, header, std::iter::empty()).map(|()| HashMap::new());
        }
        let record_bytes = self.record_bytes();
        self.records = (length - HEADER_BYTES) / record_bytes;
        let mut vectors = HashMap::new();
        let mut record = vec![0; 32 + 4 * self.dim];
        for _ in 0..self.records {
            reader.read_exact(&mut record)?;
            let (key, vector) = record.split_at(32);
            let key = Key(key.try_into().expect("split at 32"));
            if !wanted(&key) {
                continue;
            }
            let vector: Vec<f32> = vector
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of four")))
                .collect();
            let norm: f32 = vector.iter().map(|value| value * value).sum();
            if (norm - 1.0).abs() < 1e-3 {
                vectors.insert(key, vector);
            }
        }
        reader.into_inner().set_len(HEADER_BYTES + self.records * record_bytes)?;
        Ok(vectors)
    }

    /// Adds records at the end. What cannot be written is logged, and nothing more is tried until the next load.
    pub(super) fn append(&mut self, rows: &[(Key, Vec<f32>)]) {
        if self.header.is_none() {
            return;
        }
        let mut bytes = Vec::with_capacity(rows.len() * (32 + 4 * self.dim));
        for (key, vector) in rows {
            push_record(&mut bytes, key, vector);
        }
        let end = HEADER_BYTES + self.records * self.record_bytes();
        let written = OpenOptions::new().write(true).open(self.path()).and_then(|mut file| {
            file.seek(SeekFrom::Start(end))?;
            file.write_all(&bytes)
        });
        match written {
            Ok(()) => self.records += rows.len() as u64,
            Err(error) => self.give_up(&error),
        }
    }

    /// Writes the file anew with these vectors alone, if many others are in it.
    pub(super) fn prune(&mut self, vectors: &HashMap<Key, Vec<f32>>) {
        let Some(header) = self.header else { return };
        let used = vectors.len() as u64;
        if self.records <= 2 * used + SPARE_RECORDS {
            return;
        }
        match write_whole(&self.path(), &header, vectors.iter()) {
            Ok(()) => self.records = used,
            Err(error) => self.give_up(&error),
        }
    }

    fn give_up(&mut self, error: &std::io::Error) {
        tracing::warn!(%error, path = %self.path().display(), "cannot keep linking's vectors on disk");
        self.header = None;
    }
}

fn push_record(bytes: &mut Vec<u8>, key: &Key, vector: &[f32]) {
    bytes.extend_from_slice(&key.0);
    bytes.extend(vector.iter().flat_map(|value| value.to_le_bytes()));
}

/// Appears whole or not at all.
fn write_whole<'v>(
    path: &Path,
    header: &[u8],
    vectors: impl Iterator<Item = (&'v Key, &'v Vec<f32>)>,
) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut bytes = header.to_vec();
    for (key, vector) in vectors {
        push_record(&mut bytes, key, vector);
    }
    let mut file = File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(texts: &[&str]) -> Vec<(Key, Vec<f32>)> {
        let row = |(at, text): (usize, &&str)| {
            let angle = at as f32;
            (Key::of(text), vec![angle.cos(), angle.sin(), 0.0])
        };
        texts.iter().enumerate().map(row).collect()
    }

    fn load(cache: &mut VectorCache) -> HashMap<Key, Vec<f32>> {
        cache.load("model", 3, |_| true)
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart_and_only_for_its_model() {
        let folder = tempfile::tempdir().unwrap();
        let open = || VectorCache::new(folder.path().join("linking"));
        let mut cache = open();
        assert!(load(&mut cache).is_empty());
        let some = rows(&["a", "b", "c"]);
        cache.append(&some[..2]);
        cache.append(&some[2..]);
        let all: HashMap<_, _> = some.iter().cloned().collect();
        assert_eq!(load(&mut open()), all);
        let only_b = open().load("model", 3, |key| *key == Key::of("b"));
        assert_eq!(only_b.len(), 1);
        assert!(open().load("other model", 3, |_| true).is_empty());
        assert!(load(&mut open()).is_empty(), "the file belongs to the last model");
    }

    #[test]
    fn a_record_cut_off_by_a_crash_is_dropped_and_what_follows_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = VectorCache::new(folder.path().to_owned());
        load(&mut cache);
        let some = rows(&["a", "b", "c"]);
        cache.append(&some[..2]);
        let path = cache.path();
        let length = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 5).unwrap();
        assert_eq!(load(&mut cache).len(), 1);
        cache.append(&some[2..]);
        let found = load(&mut cache);
        assert_eq!(found.get(&Key::of("c")), Some(&some[2].1));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_file_of_mostly_forgotten_texts_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = VectorCache::new(folder.path().to_owned());
        load(&mut cache);
        let texts: Vec<String> = (0..1200).map(|at| at.to_string()).collect();
        let many = rows(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        cache.append(&many);
        let used: HashMap<_, _> = many[..10].iter().cloned().collect();
        cache.prune(&used);
        assert_eq!(load(&mut cache), used);
        cache.append(&many[10..11]);
        assert_eq!(load(&mut cache).len(), 11);
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_vectors_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("linking"), "a file in the way").unwrap();
        let mut cache = VectorCache::new(folder.path().join("linking"));
        assert!(load(&mut cache).is_empty());
        cache.append(&rows(&["a"]));
        cache.prune(&HashMap::new());
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_file_only_unit_vectors_come_out(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let folder = tempfile::tempdir().unwrap();
            let mut cache = VectorCache::new(folder.path().to_owned());
            load(&mut cache);
            let mut bytes = std::fs::read(cache.path()).unwrap();
            bytes.extend(&tail);
            std::fs::write(cache.path(), &bytes).unwrap();
            for vector in load(&mut cache).values() {
                let norm: f32 = vector.iter().map(|value| value * value).sum();
                prop_assert!((norm - 1.0).abs() < 1e-3);
            }
            std::fs::write(cache.path(), &tail).unwrap();
            prop_assert!(load(&mut cache).is_empty() || tail.starts_with(MAGIC));
        }
    }
}
