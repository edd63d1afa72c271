//! `steward export`: models of the semantic folder as documents of other systems.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::print;
use super::{CliError, Exit};
use crate::config::Config;
use crate::semantic::export::to_ossie;
use crate::semantic::{Catalog, Model, Severity, did_you_mean};

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Format of the documents
    #[arg(long, value_enum)]
    to: ExportFormat,
    /// Model to export [default: all]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Folder for one file a model [default: stdout, for one model]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// YAML or JSON
    #[arg(long, value_enum, default_value_t = Syntax::Yaml)]
    syntax: Syntax,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// Apache Ossie 0.2.0.dev0, strict; what it has no key for goes into custom_extensions
    Ossie,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Syntax {
    Yaml,
    Json,
}

pub async fn run(config: Config, args: ExportArgs) -> Result<Exit, CliError> {
    tokio::task::spawn_blocking(move || export(&config, &args)).await?
}

fn export(config: &Config, args: &ExportArgs) -> Result<Exit, CliError> {
    let catalog = Catalog::load(&config.semantic.dir);
    let errors: Vec<_> =
        catalog.diagnostics.iter().filter(|finding| finding.severity == Severity::Error).collect();
    if !errors.is_empty() {
        // A model that does not load would be missing from the result without a word.
        for error in errors {
            super::output::remark(&error.render());
        }
        return Err(CliError::Usage(
            "the semantic folder has errors; mend what `steward check` shows".into(),
        ));
    }
    let mut models: Vec<&Model> = Vec::new();
    for name in &args.models {
        let known = || catalog.models.iter().map(|model| model.name.as_str());
        let model = catalog.model(name).ok_or_else(|| {
            CliError::Usage(format!("there is no model `{name}`; {}", did_you_mean(name, known())))
        })?;
        models.push(model);
    }
    if args.models.is_empty() {
        models.extend(catalog.models.iter().map(AsRef::as_ref));
    }
    let ExportFormat::Ossie = args.to;
    let ending = if args.syntax == Syntax::Json { "json" } else { "yaml" };
    let files: Vec<(PathBuf, String)> = models
        .iter()
        .map(|model| (format!("{}.ossie.{ending}", model.name).into(), text(model, args.syntax)))
        .collect();
    match (&args.output, files.as_slice()) {
        (Some(folder), files) => super::import::write_all(folder, files, args.force)?,
        (None, [(_, text)]) => print(text.as_bytes())?,
        (None, files) => {
            return Err(CliError::Usage(format!(
                "there are {} models; name one, or a folder with --output",
                files.len()
            )));
        }
    }
    Ok(Exit::Done)
}

fn text(model: &Model, syntax: Syntax) -> String {
    let document = to_ossie(model);
    match syntax {
        Syntax::Yaml => document.to_yaml(),
        Syntax::Json => format!("{:#}\n", document.to_json()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SemanticConfig;

    fn args(output: PathBuf, syntax: Syntax) -> ExportArgs {
        ExportArgs { to: ExportFormat::Ossie, models: Vec::new(), output: Some(output), syntax, force: false }
    }

    #[test]
    fn every_model_becomes_a_file_and_a_folder_with_errors_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("semantic/a")).unwrap();
        let good = "name: a\ndatasets: [{name: d, source: x}]\n";
        std::fs::write(path("semantic/a/model.yaml"), good).unwrap();
        let config = Config {
            semantic: SemanticConfig { dir: path("semantic"), ..SemanticConfig::default() },
            ..Config::default()
        };
        export(&config, &args(path("out"), Syntax::Json)).unwrap();
        let written = std::fs::read_to_string(path("out/a.ossie.json")).unwrap();
        let document: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(document["datasets"][0]["source"], "x");
        std::fs::write(path("semantic/a/model.yaml"), good.replace("source", "sauce")).unwrap();
        assert!(export(&config, &args(path("none"), Syntax::Yaml)).is_err());
        assert!(!path("none").exists());
    }
}
