//! Finds and reads the files of a semantic folder, within bounds, whatever stands there.
//!
//! F1 Every file that is not read is told. F2 Links that lead in circles, devices, pipes and files that grow while
//! they are read end, with a bound on time and memory.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Severity};

/// Larger files are refused before parsing: hand-written semantics stay far below.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Folders within folders, and files in all.
const MAX_DEPTH: usize = 32;
const MAX_FILES: usize = 100_000;

/// What a walk over a folder found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Every `.yaml`, `.yml` and `.json` file, sorted; hidden files and folders are left out.
    pub files: Vec<PathBuf>,
    pub findings: Vec<Diagnostic>,
    /// Folders of which not everything could be seen.
    pub unseen: Vec<PathBuf>,
}

/// Walks `folder` and what is below it, links included, every real folder once.
pub(super) fn walk(folder: &Path) -> Walk {
    let mut walk = Walk::default();
    let mut visited = HashSet::new();
    if let Ok(real) = folder.canonicalize() {
        visited.insert(real);
    }
    walk.enter(folder, 0, &mut visited);
    walk.files.sort();
    walk
}

/// The files that a load of `folder` would read, in its order.
pub fn semantic_files(folder: &Path) -> Vec<PathBuf> {
    walk(folder).files
}

impl Walk {
    fn enter(&mut self, folder: &Path, depth: usize, visited: &mut HashSet<PathBuf>) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                // The folder itself may be missing at a first start; one inside it that cannot be read hides a model.
                let severity = if depth == 0 { Severity::Warning } else { Severity::Error };
                let help = "create it, check its permissions, or set semantic.dir in the configuration";
                self.problem(severity, "unreadable-folder", folder, format!("cannot read it: {error}"), help);
                self.unseen.push(folder.to_owned());
                return;
            }
        };
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(error) => {
                    let message = format!("cannot read all of it: {error}");
                    self.problem(Severity::Error, "unreadable-folder", folder, message, "try again");
                    self.unseen.push(folder.to_owned());
                    continue;
                }
            };
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            if path.is_dir() {
                self.enter_folder(&path, depth + 1, visited);
            } else if is_ours(&path) {
                if self.files.len() == MAX_FILES {
                    let message = format!("more than {MAX_FILES} files; the rest is not read");
                    self.problem(Severity::Error, "unreadable-folder", folder, message, "move files out");
                    self.unseen.push(folder.to_owned());
                    return;
                }
                self.files.push(path);
            }
        }
    }

    fn enter_folder(&mut self, path: &Path, depth: usize, visited: &mut HashSet<PathBuf>) {
        let is_new = path.canonicalize().is_ok_and(|real| visited.insert(real));
        if !is_new {
            let message = "it is a link to a folder that is read already, perhaps the one that it stands in";
            let help = "remove the link; each folder is read once";
            self.problem(Severity::Warning, "symlink-loop", path, message, help);
        } else if depth > MAX_DEPTH {
            let message = format!("folders are nested more than {MAX_DEPTH} deep");
            self.problem(Severity::Error, "unreadable-folder", path, message, "move it further up");
            self.unseen.push(path.to_owned());
        } else {
            self.enter(path, depth, visited);
        }
    }

    fn problem(
        &mut self,
        severity: Severity,
        rule: &'static str,
        at: &Path,
        message: impl Into<String>,
        help: &str,
    ) {
        self.findings.push(Diagnostic::of_file(severity, rule, at.display().to_string(), message, help));
    }
}

fn is_ours(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

/// The text of a file without its byte order mark, or why there is none: `what is wrong; what to do`.
pub(super) fn read(path: &Path) -> Result<String, String> {
    // Asked before opening: a pipe without a writer would hold the open for ever.
    let metadata = std::fs::metadata(path)
        .map_err(|error| format!("cannot read the file: {error}; check that it is there and readable"))?;
    if !metadata.is_file() {
        return Err("this is no file but a device or pipe; replace it by a file".to_owned());
    }
    let too_large = |size: u64| {
        format!(
            "the file has {size} bytes, more than the {MAX_FILE_BYTES} allowed; split it into several files"
        )
    };
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read the file: {error}; check its permissions"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    decode(bytes)
}

fn decode(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("the file is UTF-16; save it as UTF-8".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..good];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        format!(
            "the file is not UTF-8: line {line}, column {column} holds the byte 0x{:02x}; save it as UTF-8",
            error.as_bytes()[good]
        )
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}
