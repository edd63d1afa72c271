//! `steward check`: everything that is wrong with the folders that a data steward writes, at once.
//!
//! C1 it changes nothing: its engine has a folder of its own, which goes when it ends.
//! C2 findings in files come from the modules that load them; here is added what only data can tell: whether sources
//! open, expressions plan, and verified queries pass the guard.

mod data;
mod report;

use std::path::Path;

use clap::{Args, ValueEnum};

use super::{CliError, Exit};
use crate::actions::{ActionDiagnostic, Severity as ActionSeverity};
use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::rag::load_index_files;
use crate::semantic::{Catalog, Diagnostic, Severity};
use report::Report;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Form of the findings
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    format: CheckFormat,
    /// Fail on warnings too
    #[arg(long)]
    deny_warnings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CheckFormat {
    /// As compilers write them
    Text,
    Json,
    /// SARIF 2.1.0, for code review tools
    Sarif,
}

pub async fn run(config: Config, args: CheckArgs) -> Result<Exit, CliError> {
    let report = check(config).await?;
    match args.format {
        CheckFormat::Text => super::output::print(report.text().as_bytes())?,
        CheckFormat::Json => super::output::print_json(&report.json())?,
        CheckFormat::Sarif => super::output::print_json(&report.sarif())?,
    }
    let is_bad = report.errors() > 0 || (args.deny_warnings && report.warnings() > 0);
    Ok(if is_bad { Exit::Findings } else { Exit::Done })
}

async fn check(mut config: Config) -> Result<Report, CliError> {
    let folder =
        tempfile::tempdir().map_err(|source| CliError::Write { path: std::env::temp_dir(), source })?;
    config.data_dir = folder.path().to_path_buf();
    config.database_url = Default::default();
    let semantic_dir = config.semantic.dir.clone();
    let catalog = tokio::task::spawn_blocking(move || Catalog::load(&semantic_dir)).await?;
    let mut files = catalog.files + count_yaml(&config.actions.dir) + count_yaml(&config.indexes.dir);
    let mut findings = catalog.diagnostics.clone();
    if let Err(errors) = load_index_files(&config.indexes.dir) {
        findings.extend(errors.0.into_iter().map(|error| Diagnostic {
            severity: Severity::Error,
            rule: "index-file",
            file: error.path.display().to_string(),
            line: u32::try_from(error.line).unwrap_or(u32::MAX),
            column: u32::try_from(error.column).unwrap_or(u32::MAX),
            message: error.message,
            help: String::new(),
            snippet: String::new(),
        }));
        // The engine doesn't open with broken ones; the rest can be checked without.
        config.indexes.dir = folder.path().join("no-indexes");
    }
    let engine =
        Engine::open(config, Parts::QueryOnly).await.map_err(|error| CliError::Open(error.to_string()))?;
    findings.extend(engine.action_diagnostics().iter().map(of_action));
    findings.extend(data::findings(&engine, &catalog).await);
    engine.close().await;
    files = files.max(usize::from(!findings.is_empty()));
    Ok(Report::new(findings, files))
}

fn of_action(found: &ActionDiagnostic) -> Diagnostic {
    Diagnostic {
        severity: match found.severity {
            ActionSeverity::Error => Severity::Error,
            ActionSeverity::Warning => Severity::Warning,
        },
        rule: found.rule,
        file: found.file.clone(),
        // Zero stands for the whole file there, which begins at one.
        line: found.line.max(1),
        column: found.column.max(1),
        message: found.message.clone(),
        help: found.help.clone(),
        snippet: String::new(),
    }
}

/// The YAML files of a folder, documents that action files refer to not counted.
fn count_yaml(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let is_counted = |name: &str| {
        (name.ends_with(".yaml") || name.ends_with(".yml"))
            && !name.starts_with('.')
            && !name.contains(".openapi.")
    };
    entries.filter_map(Result::ok).filter(|entry| is_counted(&entry.file_name().to_string_lossy())).count()
}

#[cfg(test)]
mod tests;
