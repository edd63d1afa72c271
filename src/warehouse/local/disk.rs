//! The files of a table below a folder of a disk (L1, L2).

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path as ObjectPath;

use super::layout::{Layout, LayoutError, MAX_DEPTH, MAX_FILES, ending_of, file_names, is_hidden};

/// The table's file or folder below the root.
pub(super) fn find(root: &Path, schema: &str, table: &str) -> Option<PathBuf> {
    let folder = root.join(schema);
    let mut files = file_names(table).map(|name| folder.join(name));
    files.find(|path| path.is_file()).or_else(|| Some(folder.join(table)).filter(|path| path.is_dir()))
}

/// Looks through `path`, a data file or a folder, which lies below `root`; both are canonical. `None`: no data in it.
pub(super) fn look(root: &Path, path: &Path) -> Result<Option<Layout>, LayoutError> {
    let mut found = Vec::new();
    walk(root, path, 0, &mut found)?;
    Layout::of(shown(root, path), path.is_dir(), found)
}

pub(super) fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn walk(root: &Path, path: &Path, depth: usize, found: &mut Vec<ObjectMeta>) -> Result<(), LayoutError> {
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
        let is_data = path.file_name().and_then(|name| name.to_str()).and_then(ending_of).is_some();
        // An empty file is one that a writer left or has only just begun.
        if is_data && data.is_file() && data.len() > 0 {
            if found.len() >= MAX_FILES {
                return Err(LayoutError::TooMany { folder: file() });
            }
            let location =
                ObjectPath::parse(file()).map_err(|error| read(std::io::Error::other(error.to_string())))?;
            let last_modified = data.modified().map_or(DateTime::<Utc>::UNIX_EPOCH, DateTime::from);
            let (e_tag, version) = (None, None);
            found.push(ObjectMeta { location, last_modified, size: data.len(), e_tag, version });
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
