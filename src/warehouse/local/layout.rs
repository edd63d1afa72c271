//! What lies in a table's folder: the data files, their format, and the columns that its folders' names give. The same
//! for a disk and an object store: both hand in the files that they found.
//!
//! L1 Nothing outside of the warehouse's root is followed, whatever link leads there.
//! L2 Folders and files whose names begin with `.` or `_` do not exist (`_SUCCESS`, `_temporary`, `.crc`).
//! L3 What cannot be read as one table is an error that names the file: never some of the rows.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use datafusion::arrow::datatypes::DataType;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::object_store::ObjectMeta;

/// The formats of data files, by the ending of their names; where a table has files of several, the first counts.
const FORMATS: [&str; 4] = ["parquet", "csv", "ndjson", "json"];
/// What follows the format in the name of a file that is compressed as a whole, which Parquet never is.
const PACKINGS: [(&str, FileCompressionType); 4] = [
    (".gz", FileCompressionType::GZIP),
    (".zst", FileCompressionType::ZSTD),
    (".bz2", FileCompressionType::BZIP2),
    (".xz", FileCompressionType::XZ),
];
/// Nesting of folders; more is taken for links in a circle.
pub(super) const MAX_DEPTH: usize = 24;
/// Files of one table; their names alone take some 20 MB.
pub(super) const MAX_FILES: usize = 100_000;
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
    #[error("`{folder}` holds more than {MAX_FILES} files; write fewer and larger ones")]
    TooMany { folder: String },
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
    #[error(
        "`{file}` is a clone whose rows lie in another folder, or has files in several; a dataset is read from its own folder alone: write it as a whole"
    )]
    LanceElsewhere { file: String },
    #[error("cannot read `{file}`: {source}")]
    Read { file: String, source: std::io::Error },
}

/// The files of a table; another one when a file came, went or changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub ending: &'static str,
    /// The table's file or folder below the root, with `/`.
    pub below: String,
    pub is_folder: bool,
    /// Sorted by their places below the root. Size, time and entity tag tell one content from another.
    pub files: Vec<ObjectMeta>,
    /// Columns that the folders' names give, outermost first.
    pub partitions: Vec<(String, DataType)>,
}

impl Layout {
    /// Of the data files that were found at `below`, in any order. `None`: there are none.
    pub fn of(
        below: String,
        is_folder: bool,
        mut files: Vec<ObjectMeta>,
    ) -> Result<Option<Self>, LayoutError> {
        if files.len() > MAX_FILES {
            return Err(LayoutError::TooMany { folder: below });
        }
        files.sort_by(|a, b| a.location.cmp(&b.location));
        let Some(first) = files.first() else { return Ok(None) };
        let first = first.location.as_ref();
        let Some(ending) = ending_of(first) else { return Ok(None) };
        let mut values: Vec<BTreeSet<&str>> = Vec::new();
        let mut keys: Option<Vec<&str>> = None;
        for file in &files {
            let path = file.location.as_ref();
            let (file, other) = (|| path.to_owned(), || first.to_owned());
            if ending_of(path) != Some(ending) {
                return Err(LayoutError::Formats { file: file(), other: other() });
            }
            let inner = path.strip_prefix(below.as_str()).unwrap_or(path).trim_start_matches('/');
            let folders = match inner.rsplit_once('/') {
                Some((folders, _)) => folders.split('/').collect(),
                None => Vec::new(),
            };
            let pairs: Vec<(&str, &str)> =
                folders.iter().map_while(|folder| folder.split_once('=')).collect();
            let own: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
            let is_late = folders[pairs.len()..].iter().any(|folder| folder.contains('='));
            if is_late || keys.as_ref().is_some_and(|keys| *keys != own) {
                return Err(LayoutError::Partitions { file: file(), other: other() });
            }
            values.resize_with(own.len(), BTreeSet::new);
            for (seen, (key, value)) in values.iter_mut().zip(&pairs) {
                if let Some(problem) = unreadable(key, value) {
                    return Err(LayoutError::PartitionValue { file: file(), problem });
                }
                seen.insert(value);
            }
            keys = Some(own);
        }
        let names = keys.unwrap_or_default().into_iter().map(str::to_owned);
        let partitions = names.zip(values.iter().map(type_of)).collect();
        Ok(Some(Self { ending, below, is_folder, files, partitions }))
    }

    /// Whether any file is compressed as a whole.
    pub fn is_packed(&self) -> bool {
        self.files.iter().any(|file| packing_of(file.location.as_ref()).is_some())
    }
}

/// Whether this name is hidden (L2).
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// How the file of this name is compressed as a whole.
pub(super) fn packing_of(name: &str) -> Option<FileCompressionType> {
    PACKINGS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, packing)| *packing)
}

/// The format of the data file of this name; `None` if it is no data file.
pub(super) fn ending_of(name: &str) -> Option<&'static str> {
    let plain = PACKINGS.iter().find_map(|(ending, _)| name.strip_suffix(ending));
    let (_, ending) = plain.unwrap_or(name).rsplit_once('.')?;
    let found = FORMATS.into_iter().find(|known| *known == ending)?;
    (plain.is_none() || found != "parquet").then_some(found)
}

/// The names that the file of a table can have; the first that is there counts.
pub(super) fn file_names(table: &str) -> impl Iterator<Item = String> + '_ {
    FORMATS.into_iter().flat_map(move |format| {
        let packed = PACKINGS.iter().filter(move |_| format != "parquet").map(|(ending, _)| *ending);
        std::iter::once("").chain(packed).map(move |packing| format!("{table}.{format}{packing}"))
    })
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
