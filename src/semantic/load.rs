//! Reads a folder of semantic YAML (or JSON) into a [`Catalog`], with every finding of every file.
//!
//! L1 A broken file never half-loads: every model that shares its folder stays out, with the reason in `diagnostics`.
//! L2 The result depends on the files' contents alone: files are taken in the order of their paths.
//! L3 On a reload, a model that is broken now and was good before is served as it was, until it is mended or removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Findings, Severity};
use super::files;
use super::model::{Model, Sensitivity};
use super::node::{self, Position};
use super::{access, lint, read};

/// Everything that was loaded, immutable; a reload makes a new one.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Sorted by name.
    pub models: Vec<Arc<Model>>,
    /// Errors first, then by place.
    pub diagnostics: Vec<Diagnostic>,
    /// Number of files found.
    pub files: usize,
    /// Names of the models that are served as they were before their last, broken edit; sorted.
    pub stale: Vec<String>,
}

/// What one file holds.
struct Parsed {
    file: Arc<str>,
    text: String,
    documents: Vec<read::Document>,
    findings: Vec<Diagnostic>,
    is_broken: bool,
}

impl Catalog {
    /// Reads every `.yaml`, `.yml` and `.json` file below `folder`. A missing folder is an empty catalog with a warning.
    pub fn load(folder: &Path) -> Self {
        Self::load_after(folder, &Self::default())
    }

    /// The same on a reload: what is broken now keeps the form that it has in `before` (L3).
    pub fn load_after(folder: &Path, before: &Self) -> Self {
        let walk = files::walk(folder);
        let sources = walk.files.iter().map(|path| path.display().to_string()).collect();
        let parsed = parse_all(sources, |file| files::read(Path::new(file)));
        assemble(parsed, walk.findings, walk.unseen, before)
    }

    /// The same from texts, for tests and editors: `(file name, content or why it could not be read)`.
    pub fn from_sources(
        sources: impl IntoIterator<Item = (String, Result<String, String>)>,
        diagnostics: Vec<Diagnostic>,
    ) -> Self {
        let parsed = sources.into_iter().map(|(file, content)| parse(&file, content)).collect();
        assemble(parsed, diagnostics, Vec::new(), &Self::default())
    }

    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.binary_search_by(|model| model.name.as_str().cmp(name)).ok().map(|at| &self.models[at])
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

/// Reads and parses files on all cores; the result is in the order of `files`.
fn parse_all(files: Vec<String>, read: impl Fn(&str) -> Result<String, String> + Sync) -> Vec<Parsed> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(file) = files.get(at) else { return done };
            done.push((at, parse(file, read(file))));
        }
    };
    let mut parsed: Vec<(usize, Parsed)> = std::thread::scope(|scope| {
        let spawn = |_| {
            // The parser recurses with the nesting of the text, which is bounded, but deeper than small stacks bear.
            std::thread::Builder::new().stack_size(8 * 1024 * 1024).spawn_scoped(scope, work).ok()
        };
        let others: Vec<_> = (1..workers.min(files.len().div_ceil(8))).filter_map(spawn).collect();
        let mut all = work();
        for other in others {
            match other.join() {
                Ok(more) => all.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    parsed.sort_unstable_by_key(|(at, _)| *at);
    parsed.into_iter().map(|(_, parsed)| parsed).collect()
}

fn parse(file: &str, content: Result<String, String>) -> Parsed {
    let (text, problem) = match content {
        Ok(text) => (text, None),
        Err(problem) => (String::new(), Some(problem)),
    };
    let mut findings = Findings::new(file, &text);
    let mut documents = Vec::new();
    let start = Position { line: 1, column: 1 };
    if let Some(problem) = problem {
        let (message, help) = problem.split_once("; ").unwrap_or((&problem, ""));
        findings.error("unreadable-file", start, message, help);
    } else if let Some(at) = text.find('\0') {
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let at = Position { line: line as u32, column: column as u32 };
        findings.error(
            "yaml-syntax",
            at,
            "there is a NUL byte here",
            "save the file as plain text, in UTF-8",
        );
    } else {
        match node::parse(&text) {
            Ok(root) => documents = read::documents(&root, &mut findings),
            Err(error) => findings.error("yaml-syntax", error.at, error.message, error.help),
        }
    }
    let is_broken = findings.has_errors();
    let findings = findings.finish();
    Parsed { file: file.into(), text, documents, findings, is_broken }
}

fn assemble(
    parsed: Vec<Parsed>,
    mut diagnostics: Vec<Diagnostic>,
    unseen: Vec<PathBuf>,
    before: &Catalog,
) -> Catalog {
    let files = parsed.len();
    let mut parts: BTreeMap<String, Vec<read::Document>> = BTreeMap::new();
    let mut texts: BTreeMap<Arc<str>, String> = BTreeMap::new();
    let mut broken = Broken { unseen, ..Broken::default() };
    for one in parsed {
        if one.is_broken {
            broken.folders.insert(folder_of(&one.file).to_owned());
        }
        for document in one.documents {
            parts.entry(document.model.name.clone()).or_default().push(document);
        }
        diagnostics.extend(one.findings);
        texts.insert(one.file, one.text);
    }
    let mut models = Vec::new();
    let mut rejected = HashSet::new();
    for (name, documents) in parts {
        let mut reports = Reports::new(&texts);
        let mut model = merge(documents, &mut reports);
        access::resolve(&mut model, &mut reports);
        lint::model(&model, &mut reports);
        let is_good = !broken.holds(&model.source.file) && !reports.has_errors();
        if is_good {
            models.push(Arc::new(model));
        } else {
            rejected.insert(name);
        }
        diagnostics.extend(reports.finish());
    }
    let served: HashSet<String> = models.iter().map(|model: &Arc<Model>| model.name.clone()).collect();
    let mut stale = Vec::new();
    for old in &before.models {
        let is_served = served.contains(&old.name);
        if !is_served && (rejected.contains(&old.name) || broken.holds(&old.source.file)) {
            stale.push(old.name.clone());
            models.push(old.clone());
        }
    }
    models.sort_by(|a, b| a.name.cmp(&b.name));
    diagnostics.sort_by(|a, b| {
        (a.severity, &a.file, a.line, a.column).cmp(&(b.severity, &b.file, b.line, b.column))
    });
    Catalog { models, diagnostics, files, stale }
}

/// The findings about parts of one model, which may come from several files.
pub(super) struct Reports<'t> {
    texts: &'t BTreeMap<Arc<str>, String>,
    files: BTreeMap<Arc<str>, Findings<'t>>,
}

impl<'t> Reports<'t> {
    fn new(texts: &'t BTreeMap<Arc<str>, String>) -> Self {
        Self { texts, files: BTreeMap::new() }
    }

    pub fn of(&mut self, file: &Arc<str>) -> &mut Findings<'t> {
        let texts = self.texts;
        self.files.entry(file.clone()).or_insert_with(|| {
            let known = texts.get_key_value(file).map(|(file, text)| (file.as_ref(), text.as_str()));
            let (file, text) = known.unwrap_or_default();
            Findings::new(file, text)
        })
    }

    fn has_errors(&self) -> bool {
        self.files.values().any(Findings::has_errors)
    }

    fn finish(self) -> impl Iterator<Item = Diagnostic> {
        self.files.into_values().flat_map(Findings::finish)
    }
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once(['/', '\\']).map_or("", |(folder, _)| folder)
}

/// Folders of which not everything can be served.
#[derive(Default)]
struct Broken {
    /// With a broken file in them.
    folders: BTreeSet<String>,
    /// Not seen in full, so that anything may be missing in and below them.
    unseen: Vec<PathBuf>,
}

impl Broken {
    fn holds(&self, file: &str) -> bool {
        self.folders.contains(folder_of(file))
            || self.unseen.iter().any(|folder| Path::new(file).starts_with(folder))
    }
}

/// Joins the documents of one model name; a property set in two files is a finding, lists add up.
fn merge(documents: Vec<read::Document>, reports: &mut Reports<'_>) -> Model {
    let base = documents.iter().position(|document| document.has_datasets).unwrap_or(0);
    let mut documents = documents;
    let mut model = documents.remove(base).model;
    let base_folder = folder_of(&model.source.file).to_owned();
    for document in documents {
        let other = document.model;
        let report = reports.of(&other.source.file);
        if folder_of(&other.source.file) != base_folder {
            report.error(
                "duplicate-model",
                other.source.at,
                format!("model `{}` is defined in {} already", model.name, model.source.file),
                "rename one of them; only files of one folder add up to one model",
            );
        }
        let (name, file, at) = (model.name.clone(), model.source.file.clone(), other.source.at);
        model.append(other, |key, _| {
            let message = format!("`{key}` of model `{name}` is set in two files");
            report.error("duplicate-key", at, message, format!("keep the one in {file}"));
        });
    }
    if model.datasets.is_empty() {
        let message = format!("model `{}` has no dataset", model.name);
        reports.of(&model.source.file).error("empty-model", model.source.at, message, "add `datasets:`");
    }
    model
}
