//! Index files: `indexes/*.yaml` say which indexes exist, what goes in, how it is cut, who sees it and for how long.
//!
//! Knows YAML and the file system, nothing of storage or search.
//! I1 an unknown key is an error.  I2 all errors of all files come at once, each with file, line and column.
//! I3 a name is unique over the folder, whatever the files are called.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;

/// The name of an index: 1 to 63 characters, `a`–`z` first, then `a`–`z`, `0`–`9` or `_`.
///
/// Safe as a folder name, as part of a table name and as a URL segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct IndexName(String);

/// Why a string is no [`IndexName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an index name: use 1 to 63 characters, a-z first, then a-z, 0-9 or _")]
pub struct InvalidIndexName(String);

impl IndexName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IndexName {
    type Err = InvalidIndexName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = text.bytes();
        let first_ok = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
        let rest_ok = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if first_ok && rest_ok && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidIndexName(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IndexName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who sees the documents of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Each document is seen by the client that brought it in, and by nobody else.
    #[default]
    Private,
    /// Every document is seen by all who may read the index.
    Shared,
}

/// Where documents may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Accepts {
    /// Responses of actions that are too large to be handed over whole.
    pub actions: bool,
    /// Documents that a client uploads.
    pub uploads: bool,
}

impl Default for Accepts {
    fn default() -> Self {
        Self { actions: true, uploads: true }
    }
}

/// How bodies are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChunkSize {
    /// Most tokens of a chunk, the model's two special tokens included; 32 to 256 (the default model reads no more).
    pub tokens: u32,
    /// Tokens that neighbouring chunks of prose share, at most half of `tokens`. Records never overlap.
    pub overlap: u32,
}

impl ChunkSize {
    pub const MIN_TOKENS: u32 = 32;
    pub const MAX_TOKENS: u32 = 256;
}

impl Default for ChunkSize {
    fn default() -> Self {
        Self { tokens: 200, overlap: 0 }
    }
}

/// One index, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexFile {
    pub name: IndexName,
    pub description: String,
    #[serde(default)]
    pub chunk: ChunkSize,
    #[serde(default)]
    pub visibility: Visibility,
    /// Hours until a document is forgotten, counted from its last ingest; absent: kept until deleted.
    #[serde(default)]
    pub ttl_hours: Option<u32>,
    #[serde(default)]
    pub accepts: Accepts,
}

impl IndexFile {
    /// When a document that comes in at `now_ms` expires.
    pub fn expires_at_ms(&self, now_ms: i64) -> Option<i64> {
        self.ttl_hours.map(|hours| now_ms.saturating_add(i64::from(hours) * 3_600_000))
    }

    fn validate(&self) -> Result<(), String> {
        let ChunkSize { tokens, overlap } = self.chunk;
        if !(ChunkSize::MIN_TOKENS..=ChunkSize::MAX_TOKENS).contains(&tokens) {
            return Err(format!(
                "chunk.tokens is {tokens}; use {} to {}",
                ChunkSize::MIN_TOKENS,
                ChunkSize::MAX_TOKENS
            ));
        }
        if overlap > tokens / 2 {
            return Err(format!(
                "chunk.overlap is {overlap}; use at most half of chunk.tokens ({})",
                tokens / 2
            ));
        }
        if self.description.trim().is_empty() {
            return Err("description is empty; say what the index holds, agents choose by it".into());
        }
        if self.ttl_hours == Some(0) {
            return Err(
                "ttl_hours is 0, so nothing would ever be found; leave it out to keep documents".into()
            );
        }
        if !self.accepts.actions && !self.accepts.uploads {
            return Err(
                "accepts neither actions nor uploads, so nothing can come in; allow one of them".into()
            );
        }
        Ok(())
    }
}

/// One thing wrong with one index file; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {message}", path.display())]
pub struct IndexFileError {
    pub path: PathBuf,
    pub line: u64,
    pub column: u64,
    pub message: String,
}

/// Everything wrong with a folder of index files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct IndexFileErrors(pub Vec<IndexFileError>);

impl IndexFileErrors {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// Reads one index file's text; `path` only labels the errors.
pub fn parse_index_file(path: &Path, text: &str) -> Result<IndexFile, IndexFileError> {
    let at = |line, column, message| IndexFileError { path: path.to_owned(), line, column, message };
    let file: IndexFile = serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
        at(line, column, plain_message(&error))
    })?;
    file.validate().map_err(|message| {
        // Point at the line of the key that the message names first.
        let key = message.split([' ', '.']).next().unwrap_or_default().to_owned();
        let line = text.lines().position(|line| line.trim_start().starts_with(&format!("{key}:")));
        at(line.map_or(1, |line| line as u64 + 1), 1, message)
    })?;
    Ok(file)
}

/// Reads every `*.yaml` and `*.yml` of a folder, in order of file name. A folder that isn't there has no indexes.
pub fn load_index_files(folder: &Path) -> Result<Vec<IndexFile>, IndexFileErrors> {
    let broken = |path: &Path, error: std::io::Error| IndexFileError {
        path: path.to_owned(),
        line: 1,
        column: 1,
        message: format!("cannot be read: {error}"),
    };
    let mut paths = Vec::new();
    let mut errors = Vec::new();
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => paths.push(entry.path()),
                    Err(error) => errors.push(broken(folder, error)),
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => errors.push(broken(folder, error)),
    }
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"));
    paths.sort();
    let mut files: Vec<(PathBuf, IndexFile)> = Vec::new();
    for path in paths {
        let parsed = std::fs::read_to_string(&path)
            .map_err(|error| broken(&path, error))
            .and_then(|text| parse_index_file(&path, &text));
        match parsed {
            Ok(file) => match files.iter().find(|(_, other)| other.name == file.name) {
                Some((other, _)) => errors.push(IndexFileError {
                    message: format!("index '{}' is already defined in {}", file.name, other.display()),
                    path,
                    line: 1,
                    column: 1,
                }),
                None => files.push((path, file)),
            },
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(files.into_iter().map(|(_, file)| file).collect())
    } else {
        Err(IndexFileErrors(errors))
    }
}

/// The parser's message without its own snippet and place: the place is ours to print, once.
fn plain_message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    match text.rfind(" at line ") {
        Some(cut) => text[..cut].to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<IndexFile, IndexFileError> {
        parse_index_file(Path::new("indexes/x.yaml"), text)
    }

    #[test]
    fn the_shipped_index_files_load() {
        let files = load_index_files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/indexes"))).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["api_responses", "notes"]);
        assert_eq!(files[0].visibility, Visibility::Private);
        assert_eq!(files[0].expires_at_ms(0), Some(24 * 3_600_000));
        assert_eq!(files[1].visibility, Visibility::Shared);
        assert_eq!(files[1].expires_at_ms(0), None);
    }

    #[test]
    fn what_a_file_leaves_out_is_private_and_kept_for_good() {
        let file = parse("name: a\ndescription: d\n").unwrap();
        assert_eq!(file.visibility, Visibility::Private);
        assert_eq!(file.ttl_hours, None);
        assert_eq!(file.chunk, ChunkSize { tokens: 200, overlap: 0 });
    }

    #[test]
    fn an_unknown_key_is_an_error_at_its_line() {
        let error = parse("name: a\ndescription: d\nvisiblity: shared\n").unwrap_err();
        assert_eq!(error.line, 3, "{error}");
        assert!(error.to_string().starts_with("indexes/x.yaml:3:"), "{error}");
        assert!(error.message.contains("visiblity"), "{error}");
    }

    #[test]
    fn an_unknown_key_one_level_down_is_an_error_too() {
        let error = parse("name: a\ndescription: d\nchunk:\n  token: 100\n").unwrap_err();
        assert_eq!(error.line, 4, "{error}");
    }

    #[test]
    fn values_out_of_range_are_errors_that_name_the_range() {
        for (text, word) in [
            ("name: a\ndescription: d\nchunk: {tokens: 1000}\n", "32 to 256"),
            ("name: a\ndescription: d\nchunk: {tokens: 100, overlap: 51}\n", "half"),
            ("name: a\ndescription: ' '\n", "description"),
            ("name: a\ndescription: d\nttl_hours: 0\n", "ttl_hours"),
            ("name: a\ndescription: d\naccepts: {actions: false, uploads: false}\n", "accepts"),
            ("name: Über\ndescription: d\n", "a-z"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn all_errors_of_a_folder_come_at_once_and_names_are_unique() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "name: same\ndescription: d\n").unwrap();
        std::fs::write(folder.path().join("b.yml"), "name: same\ndescription: d\n").unwrap();
        std::fs::write(folder.path().join("c.yaml"), "name: [").unwrap();
        std::fs::write(folder.path().join("ignored.txt"), "no").unwrap();
        let errors = load_index_files(folder.path()).unwrap_err();
        assert_eq!(errors.0.len(), 2, "{errors}");
        assert!(errors.to_string().contains("already defined in"), "{errors}");
        assert_eq!(load_index_files(&folder.path().join("absent")).unwrap(), []);
    }
}
