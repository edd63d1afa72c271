//! `steward import` and `steward export`: semantic models of other systems in, strict Ossie out.
//!
//! M1 nothing is written unless all input could be read and the result loads; files are made in a folder beside the
//! target and moved, each whole.  M2 a file that is there is overwritten with `--force` alone.
//! M3 exit code 3 says that something was not carried over; the report on stdout says what.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::output::{print, print_json, remark};
use super::{CliError, Exit};
use crate::semantic::Diagnostic;
use crate::semantic::export::{Notes, to_files};
use crate::semantic::import::{ImportOptions, Imported, Kind, Remark, SourceFile, import};

/// Larger files are no semantic models; manifests of 50 MB are usual.
const MAX_INPUT_BYTES: u64 = 256 * 1024 * 1024;

/// Where editors find the schema when no checkout is round the written file.
const SCHEMA: &str = "schemas/semantic.schema.json";

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// What the files are
    #[arg(value_enum)]
    kind: ImportKind,
    /// Files, or folders of YAML and JSON files
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Folder for the YAML, usually below `semantic/`
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Name of the model [default: the input's, or the output folder's]
    #[arg(long)]
    name: Option<String>,
    /// First part of every `source`, instead of the input's database
    #[arg(long)]
    warehouse: Option<String>,
    /// Second part of the sources to which the input gives no schema
    #[arg(long)]
    schema: Option<String>,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ImportKind {
    /// Snowflake Cortex Analyst semantic models and semantic views (YAML)
    Cortex,
    /// dbt: semantic_manifest.json, manifest.json or YAML, of the legacy or the latest spec
    Dbt,
    /// Wren MDL (JSON)
    Wren,
    /// Cube data models (YAML)
    Cube,
    /// Apache Ossie (YAML or JSON)
    Ossie,
}

impl ImportKind {
    fn kind(self) -> Kind {
        match self {
            Self::Cortex => Kind::Cortex,
            Self::Dbt => Kind::Dbt,
            Self::Wren => Kind::Wren,
            Self::Cube => Kind::Cube,
            Self::Ossie => Kind::Ossie,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// One line a thing
    Text,
    Json,
}

pub async fn run(args: ImportArgs) -> Result<Exit, CliError> {
    tokio::task::spawn_blocking(move || import_files(&args)).await?
}

fn import_files(args: &ImportArgs) -> Result<Exit, CliError> {
    let files = read_all(&args.files, args.kind)?;
    let folder_name = args.output.file_name().map(|name| name.to_string_lossy().into_owned());
    let by_folder = matches!(args.kind, ImportKind::Dbt | ImportKind::Cube);
    let options = ImportOptions {
        default_name: folder_name.filter(|_| by_folder),
        name: args.name.clone(),
        warehouse: args.warehouse.clone(),
        schema: args.schema.clone(),
    };
    let imported = import(args.kind.kind(), &files, &options)
        .map_err(|error| told(&error.0, args.format, "nothing was written"))?;
    let written = written(&imported, &args.output);
    write_all(&args.output, &written, args.force)?;
    let names: Vec<&Path> = written.iter().map(|(path, _)| path.as_path()).collect();
    report(&imported, &args.output, &names, args.format)?;
    let is_whole = imported.report.iter().all(|remark| !remark.lost);
    Ok(if is_whole { Exit::Done } else { Exit::Incomplete })
}

/// Findings on stdout, as `steward check` writes them; the command has failed then.
fn told(findings: &[Diagnostic], format: ReportFormat, outcome: &str) -> CliError {
    let printed = match format {
        ReportFormat::Text => {
            let text: String = findings.iter().map(|finding| finding.render() + "\n").collect();
            print(text.as_bytes())
        }
        ReportFormat::Json => print_json(&json!({"written": [], "errors": findings})),
    };
    remark(&format!("steward: {} error(s); {outcome}", findings.len()));
    printed.err().unwrap_or(CliError::Told)
}

/// The files of all models: each model below a folder of its own where there are several.
fn written(imported: &Imported, output: &Path) -> Vec<(PathBuf, String)> {
    let is_one = imported.models.len() == 1;
    let mut files = Vec::new();
    for model in &imported.models {
        let folder = if is_one { PathBuf::new() } else { PathBuf::from(&model.name) };
        let schema = schema_path(&output.join(&folder).join("model.yaml"));
        let texts = to_files(model, &Notes::default(), &schema);
        files.extend(texts.into_iter().map(|(name, text)| (folder.join(name), text)));
    }
    files
}

/// The editor's schema, relative to a file: that of the project which the file is in.
pub fn schema_path(file: &Path) -> String {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let found = absolute.ancestors().skip(1).position(|folder| folder.join(SCHEMA).is_file());
    // Without a project round it, the usual place of models is taken: `semantic/<model>/`.
    let up = found.unwrap_or(2);
    format!("{}{SCHEMA}", "../".repeat(up))
}

/// Reads files, and the YAML and JSON files of folders, in the order of their paths.
fn read_all(paths: &[PathBuf], kind: ImportKind) -> Result<Vec<SourceFile>, CliError> {
    let mut files = Vec::new();
    for path in paths {
        let failed = |source| CliError::Read { path: path.clone(), source };
        if std::fs::metadata(path).map_err(failed)?.is_dir() {
            let before = files.len();
            collect(path, kind, &mut files)?;
            if files.len() == before {
                return Err(CliError::Usage(format!("{} holds no YAML or JSON file", path.display())));
            }
        } else {
            files.push(path.clone());
        }
    }
    files.dedup();
    files.into_iter().map(|path| read_one(&path)).collect()
}

fn collect(folder: &Path, kind: ImportKind, files: &mut Vec<PathBuf>) -> Result<(), CliError> {
    let failed = |source| CliError::Read { path: folder.to_path_buf(), source };
    let mut entries = std::fs::read_dir(folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // A link to a folder above would never end.
        let kind_of_file = entry.file_type().map_err(failed)?;
        if is_hidden {
            continue;
        }
        if kind_of_file.is_dir() {
            collect(&path, kind, files)?;
        } else if path.extension().is_some_and(|ending| {
            ending == "yaml" || ending == "yml" || (ending == "json" && kind != ImportKind::Cube)
        }) {
            files.push(path);
        }
    }
    Ok(())
}

fn read_one(path: &Path) -> Result<SourceFile, CliError> {
    let failed = |source| CliError::Read { path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_INPUT_BYTES {
        let message =
            format!("{} has {size} bytes, more than the {MAX_INPUT_BYTES} that are read", path.display());
        return Err(CliError::Usage(message));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(SourceFile { name: path.display().to_string(), text })
}

/// Puts files into a folder, all or none (M1, M2). Blocking.
pub fn write_all(folder: &Path, files: &[(PathBuf, String)], force: bool) -> Result<(), CliError> {
    let there = files.iter().map(|(path, _)| folder.join(path)).find(|path| path.exists());
    if let Some(path) = there.filter(|_| !force) {
        let message =
            format!("{} exists already; overwrite it with --force, or choose another folder", path.display());
        return Err(CliError::Usage(message));
    }
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| CliError::Write { path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    // Beside the files, so that moving them is renaming; hidden, so that nobody loads it half written.
    let scratch = tempfile::Builder::new().prefix(".steward-").tempdir_in(folder).map_err(failed(folder))?;
    let mut moves = Vec::new();
    for (number, (path, text)) in files.iter().enumerate() {
        let from = scratch.path().join(number.to_string());
        super::output::write_file(&from, text.as_bytes())?;
        let to = folder.join(path);
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        moves.push((from, to));
    }
    for (from, to) in moves {
        std::fs::rename(&from, &to).map_err(failed(&to))?;
    }
    Ok(())
}

fn report(imported: &Imported, folder: &Path, files: &[&Path], format: ReportFormat) -> Result<(), CliError> {
    let (lost, changed): (Vec<&Remark>, Vec<&Remark>) =
        imported.report.iter().partition(|remark| remark.lost);
    let sum = |count: fn(&crate::semantic::Model) -> usize| imported.models.iter().map(count).sum::<usize>();
    let counts = [
        ("datasets", sum(|model| model.datasets.len())),
        ("fields", sum(|model| model.datasets.iter().map(|dataset| dataset.fields.len()).sum())),
        ("relationships", sum(|model| model.relationships.len())),
        ("metrics", sum(|model| model.metrics.len())),
        ("verified_queries", sum(|model| model.verified_queries.len())),
    ];
    let files: Vec<String> = files.iter().map(|path| folder.join(path).display().to_string()).collect();
    match format {
        ReportFormat::Json => {
            let counts: serde_json::Map<String, serde_json::Value> =
                counts.into_iter().map(|(what, count)| (what.to_owned(), count.into())).collect();
            print_json(&json!({
                "written": files,
                "carried_over": counts,
                "not_carried_over": lost,
                "changed": changed,
            }))
        }
        ReportFormat::Text => {
            let mut text: String = imported.report.iter().map(|remark| remark.line() + "\n").collect();
            let counts: Vec<String> =
                counts.iter().map(|(what, count)| format!("{count} {}", what.replace('_', " "))).collect();
            text.push_str(&format!("wrote {}: {}\n", files.join(", "), counts.join(", ")));
            text.push_str(&format!("{} not carried over, {} changed\n", lost.len(), changed.len()));
            print(text.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(kind: ImportKind, files: Vec<PathBuf>, output: PathBuf) -> ImportArgs {
        ImportArgs {
            kind,
            files,
            output,
            name: None,
            warehouse: None,
            schema: None,
            force: false,
            format: ReportFormat::Text,
        }
    }

    const CUBE: &str = "cubes:\n  - name: orders\n    sql_table: main.orders\n    measures:\n      - {name: count, type: count}\n";

    #[test]
    fn nothing_is_written_if_one_of_the_files_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("good.yml"), CUBE).unwrap();
        std::fs::write(path("half.yml"), "cubes: [a, {b: ").unwrap();
        let files = vec![path("good.yml"), path("half.yml")];
        let error = import_files(&args(ImportKind::Cube, files, path("out"))).unwrap_err();
        assert!(matches!(error, CliError::Told), "{error}");
        assert!(!path("out").exists());
    }

    #[test]
    fn a_file_that_is_there_stays_unless_it_may_be_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("cube.yml"), CUBE).unwrap();
        let mut args = args(ImportKind::Cube, vec![path("cube.yml")], path("out"));
        assert_eq!(import_files(&args).unwrap(), Exit::Done);
        std::fs::write(path("out/model.yaml"), "mine").unwrap();
        let error = import_files(&args).unwrap_err().to_string();
        assert!(error.contains("--force"), "{error}");
        assert_eq!(std::fs::read_to_string(path("out/model.yaml")).unwrap(), "mine");
        args.force = true;
        assert_eq!(import_files(&args).unwrap(), Exit::Done);
        assert!(std::fs::read_to_string(path("out/model.yaml")).unwrap().contains("name: out"));
        assert_eq!(std::fs::read_dir(path("out")).unwrap().count(), 1, "no scratch folder stays");
    }

    #[test]
    fn what_was_not_carried_over_shows_in_the_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("cube.yml"), format!("{CUBE}    pre_aggregations: [{{name: x}}]\n")).unwrap();
        let exit = import_files(&args(ImportKind::Cube, vec![path("cube.yml")], path("out"))).unwrap();
        assert_eq!(exit, Exit::Incomplete);
    }
}
