//! Reads a folder of semantic YAML (or JSON) into a [`Catalog`], with every finding of every file.
//!
//! L1 A broken file never half-loads: every model that shares its folder stays out, with the reason in `diagnostics`.
//! L2 The result depends on the files' contents alone: files are read in the order of their paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Findings, Severity};
use super::model::{Model, Sensitivity};
use super::node::{self, Position};
use super::{lint, read};

/// Larger files are refused before parsing: hand-written semantics stay far below.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Everything that was loaded, immutable; a reload makes a new one.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Sorted by name.
    pub models: Vec<Arc<Model>>,
    pub diagnostics: Vec<Diagnostic>,
    /// Number of files read.
    pub files: usize,
}

impl Catalog {
    /// Reads every `.yaml`, `.yml` and `.json` file below `folder`. A missing folder is an empty catalog with a warning.
    pub fn load(folder: &Path) -> Self {
        let mut files = Vec::new();
        let mut diagnostics = Vec::new();
        if let Err(error) = collect(folder, &mut files) {
            diagnostics.push(file_diagnostic(
                Severity::Warning,
                "unreadable-folder",
                folder.display().to_string(),
                format!("cannot read the semantic folder: {error}"),
                "create it, or set semantic.dir in the configuration".into(),
            ));
        }
        files.sort();
        let sources = files.iter().map(|path| (path.display().to_string(), read_file(path)));
        Self::from_sources(sources, diagnostics)
    }

    /// The same from texts, for tests and editors: `(file name, content or why it could not be read)`.
    pub fn from_sources(
        sources: impl IntoIterator<Item = (String, Result<String, String>)>,
        mut diagnostics: Vec<Diagnostic>,
    ) -> Self {
        let mut parts: BTreeMap<String, Vec<read::Document>> = BTreeMap::new();
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        let mut broken_folders = BTreeSet::new();
        let mut files = 0;
        for (file, content) in sources {
            files += 1;
            let text = match content {
                Ok(text) => text,
                Err(problem) => {
                    broken_folders.insert(folder_of(&file).to_owned());
                    let (message, help) = problem.split_once("; ").unwrap_or((&problem, ""));
                    diagnostics.push(file_diagnostic(
                        Severity::Error,
                        "unreadable-file",
                        file,
                        message.to_owned(),
                        help.to_owned(),
                    ));
                    continue;
                }
            };
            let mut findings = Findings::new(&file, &text);
            match node::parse(&text) {
                Ok(root) => {
                    for document in read::documents(&root, &mut findings) {
                        parts.entry(document.model.name.clone()).or_default().push(document);
                    }
                }
                Err(error) => findings.error(
                    "yaml-syntax",
                    error.at,
                    error.message,
                    "mend the YAML here or on the line above; check indentation, quotes and brackets",
                ),
            }
            let findings = findings.list;
            if findings.iter().any(|finding| finding.severity == Severity::Error) {
                broken_folders.insert(folder_of(&file).to_owned());
            }
            diagnostics.extend(findings);
            texts.insert(file, text);
        }

        let mut models = Vec::new();
        for (_, documents) in parts {
            let (model, mut findings) = merge(documents, &texts);
            findings.extend(lint::model(&model, &texts));
            let folder = folder_of(&model.source.file).to_owned();
            let good = !broken_folders.contains(&folder)
                && findings.iter().all(|finding| finding.severity != Severity::Error);
            if good {
                models.push(Arc::new(model));
            }
            diagnostics.extend(findings);
        }
        diagnostics.sort_by(|a, b| {
            (a.severity, &a.file, a.line, a.column).cmp(&(b.severity, &b.file, b.line, b.column))
        });
        Self { models, diagnostics, files }
    }

    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.iter().find(|model| model.name == name)
    }

    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// What somebody of this clearance may know of: fields and datasets above it do not exist for them, and neither do
    /// metrics, filters, relationships and verified queries that would name one of those.
    pub fn visible_to(&self, clearance: Sensitivity) -> Vec<Arc<Model>> {
        self.models.iter().map(|model| super::visibility::reduce(model, clearance)).collect()
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot read the file: {error}"))?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("the file has {size} bytes, more than the {MAX_FILE_BYTES} allowed; split it"));
    }
    let bytes = std::fs::read(path)
        .map_err(|error| format!("cannot read the file: {error}; check its permissions"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        format!("not UTF-8: bad byte at offset {}; save the file as UTF-8", error.utf8_error().valid_up_to())
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once(['/', '\\']).map_or("", |(folder, _)| folder)
}

fn file_diagnostic(
    severity: Severity,
    rule: &'static str,
    file: String,
    message: String,
    help: String,
) -> Diagnostic {
    Diagnostic { severity, rule, file, line: 1, column: 1, message, help, snippet: String::new() }
}

/// Joins the documents of one model name; a property set in two files is a finding, lists add up.
fn merge(documents: Vec<read::Document>, texts: &BTreeMap<String, String>) -> (Model, Vec<Diagnostic>) {
    let mut findings = Vec::new();
    let base = documents.iter().position(|document| document.has_datasets).unwrap_or(0);
    let mut documents = documents;
    let mut model = documents.swap_remove(base).model;
    let base_folder = folder_of(&model.source.file).to_owned();
    for document in documents {
        let other = document.model;
        let text = texts.get(other.source.file.as_ref()).map_or("", String::as_str);
        let mut report = Findings::new(&other.source.file, text);
        if folder_of(&other.source.file) != base_folder {
            report.error(
                "duplicate-model",
                other.source.at,
                format!("model `{}` is defined in {} already", model.name, model.source.file),
                "rename one of them; only files of one folder add up to one model",
            );
        }
        for (key, ours, theirs) in [
            ("description", &mut model.description, &other.description),
            ("custom_instructions", &mut model.custom_instructions, &other.custom_instructions),
            ("ai_context", &mut model.ai_context.instructions, &other.ai_context.instructions),
        ] {
            if ours.is_empty() {
                ours.clone_from(theirs);
            } else if !theirs.is_empty() {
                report.error(
                    "duplicate-key",
                    other.source.at,
                    format!("`{key}` of model `{}` is set in two files", other.name),
                    format!("keep the one in {}", model.source.file),
                );
            }
        }
        model.synonyms.extend(other.synonyms);
        model.ai_context.examples.extend(other.ai_context.examples);
        model.datasets.extend(other.datasets);
        model.relationships.extend(other.relationships);
        model.metrics.extend(other.metrics);
        model.verified_queries.extend(other.verified_queries);
        model.custom_extensions.extend(other.custom_extensions);
        findings.extend(report.list);
    }
    if model.datasets.is_empty() {
        let text = texts.get(model.source.file.as_ref()).map_or("", String::as_str);
        let mut report = Findings::new(&model.source.file, text);
        let at = Position { line: 1, column: 1 };
        report.error("empty-model", at, format!("model `{}` has no dataset", model.name), "add `datasets:`");
        findings.extend(report.list);
    }
    (model, findings)
}
