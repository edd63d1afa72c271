//! What lies in a table's folder: the data files, their format, and the columns that its folders' names give.
//!
//! L1 Nothing outside of the warehouse's root is followed, whatever link leads there.
//! L2 Folders and files whose names begin with `.` or `_` do not exist (`_SUCCESS`, `_temporary`, `.crc`).
//! L3 What cannot be read as one table is an error that names the file: never some of the rows.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::SystemTime;

use chrono::NaiveDate;
use datafusion::arrow::datatypes::DataType;

/// The endings of data files.
pub(super) const ENDINGS: [&str; 4] = ["parquet", "csv", "ndjson", "json"];
/// Nesting of folders; more is taken for links in a circle.
const MAX_DEPTH: usize = 24;
/// What Hive, Spark and their kin write for NULL.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Why a folder is not a table. Files are named below the warehouse's root.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error(
        "`{file}` is a link that leaves the warehouse's folder; put the file there, or a link to a place within"
    )]
    Outside { file: String },
    #[error("`{file}` lies {MAX_DEPTH} folders deep or is a link in a circle; flatten the folder")]
    TooDeep { file: String },
    #[error("`{file}` is not of the format of `{other}`; keep one format in a table's folder")]
    Formats { file: String, other: String },
    #[error(
        "`{file}` lies in other partition folders than `{other}`; every file needs the same `name=value` folders, from the table's own folder on"
    )]
    Partitions { file: String, other: String },
    #[error("the partition folder of `{file}` {problem}")]
    PartitionValue { file: String, problem: &'static str },
    #[error(
        "`{file}` {difference} `{other}`; the files of a table need the same columns with the same types: write it again, or give it a table of its own"
    )]
    Schema { file: String, other: String, difference: String },
    #[error("`{file}` is not a Lance dataset that can be read; the log has the details")]
    Lance { file: String },
    #[error("cannot read `{file}`: {source}")]
    Read { file: String, source: std::io::Error },
}

/// The files of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub ending: &'static str,
    /// Paths below the root with `/`, sorted.
    pub files: Vec<String>,
    /// Columns that the folders' names give, outermost first.
    pub partitions: Vec<(String, DataType)>,
    /// Another one when a file came, went or changed.
    pub stamp: u64,
}

struct Found {
    /// Below the root.
    path: String,
    ending: &'static str,
    size: u64,
    modified: Option<SystemTime>,
}

/// Looks through `path`, a data file or a folder, which lies below `root`; both are canonical. `None`: no data in it.
pub(super) fn look(root: &Path, path: &Path) -> Result<Option<Layout>, LayoutError> {
    let mut found = Vec::new();
    walk(root, path, 0, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let Some(first) = found.first() else { return Ok(None) };
    let below = shown(root, path);
    let mut values: Vec<BTreeSet<&str>> = Vec::new();
    let mut keys: Option<Vec<&str>> = None;
    for file in &found {
        if file.ending != first.ending {
            return Err(LayoutError::Formats { file: file.path.clone(), other: first.path.clone() });
        }
        let folders = match file.path[below.len()..].trim_start_matches('/').rsplit_once('/') {
            Some((folders, _)) => folders.split('/').collect(),
            None => Vec::new(),
        };
        let pairs: Vec<(&str, &str)> = folders.iter().map_while(|folder| folder.split_once('=')).collect();
        let own: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
        let is_late = folders[pairs.len()..].iter().any(|folder| folder.contains('='));
        if is_late || keys.as_ref().is_some_and(|keys| *keys != own) {
            return Err(LayoutError::Partitions { file: file.path.clone(), other: first.path.clone() });
        }
        values.resize_with(own.len(), BTreeSet::new);
        for (seen, (key, value)) in values.iter_mut().zip(&pairs) {
            if let Some(problem) = unreadable(key, value) {
                return Err(LayoutError::PartitionValue { file: file.path.clone(), problem });
            }
            seen.insert(value);
        }
        keys = Some(own);
    }
    let names = keys.unwrap_or_default().into_iter().map(str::to_owned);
    let partitions = names.zip(values.iter().map(type_of)).collect();
    let mut hasher = DefaultHasher::new();
    for file in &found {
        (&file.path, file.size, file.modified).hash(&mut hasher);
    }
    let (ending, stamp) = (first.ending, hasher.finish());
    Ok(Some(Layout { ending, files: found.into_iter().map(|file| file.path).collect(), partitions, stamp }))
}

/// Whether this name is hidden (L2).
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

pub(super) fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn walk(root: &Path, path: &Path, depth: usize, found: &mut Vec<Found>) -> Result<(), LayoutError> {
    let file = || shown(root, path);
    let read = |source| LayoutError::Read { file: file(), source };
    let real = match path.canonicalize() {
        Ok(real) => real,
        // Gone since its folder was read, or a link to nothing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(read(error)),
    };
    if !real.starts_with(root) {
        return Err(LayoutError::Outside { file: file() });
    }
    if depth > MAX_DEPTH {
        return Err(LayoutError::TooDeep { file: file() });
    }
    let data = real.metadata().map_err(read)?;
    if !data.is_dir() {
        let ending = path.extension().and_then(|ending| ENDINGS.iter().find(|known| ending == **known));
        // An empty file is one that a writer left or has only just begun.
        if let Some(ending) = ending.filter(|_| data.is_file() && data.len() > 0) {
            found.push(Found { path: file(), ending, size: data.len(), modified: data.modified().ok() });
        }
        return Ok(());
    }
    for entry in std::fs::read_dir(&real).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        if !is_hidden(&name.to_string_lossy()) {
            walk(root, &path.join(name), depth + 1, found)?;
        }
    }
    Ok(())
}

/// Refuses a folder in which anything, hidden or not, is a link that leaves the root (L1).
pub(super) fn check_within(root: &Path, path: &Path) -> Result<(), LayoutError> {
    let mut open = vec![(path.to_path_buf(), 0)];
    while let Some((path, depth)) = open.pop() {
        let file = || shown(root, &path);
        let read = |source| LayoutError::Read { file: file(), source };
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(read(error)),
        };
        if !real.starts_with(root) {
            return Err(LayoutError::Outside { file: file() });
        }
        if depth > MAX_DEPTH {
            return Err(LayoutError::TooDeep { file: file() });
        }
        if real.is_dir() {
            for entry in std::fs::read_dir(&real).map_err(read)? {
                open.push((path.join(entry.map_err(read)?.file_name()), depth + 1));
            }
        }
    }
    Ok(())
}

/// Why a partition cannot be taken as it stands.
fn unreadable(key: &str, value: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("has no name before its `=`; write it as name=value");
    }
    if value == NULL_PARTITION {
        return Some("stands for NULL, which is not supported; give these rows a value");
    }
    let is_encoded = value
        .split('%')
        .skip(1)
        .any(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
    is_encoded
        .then_some("is percent-encoded, which is not supported; name it with letters, digits, `-` and `_`")
}

/// Whole numbers and dates are typed where every value is written as one; a leading zero makes a text of it.
fn type_of(values: &BTreeSet<&str>) -> DataType {
    let is_integer = |text: &&str| text.parse::<i64>().is_ok_and(|number| number.to_string() == **text);
    let is_date = |text: &&str| text.len() == 10 && NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
    if values.iter().all(is_integer) {
        DataType::Int64
    } else if values.iter().all(is_date) {
        DataType::Date32
    } else {
        DataType::Utf8
    }
}
