//! `steward introspect`: a draft of a semantic model, from data files or from a PostgreSQL database.

use std::path::{Path, PathBuf};

use clap::Args;
use datafusion::prelude::SessionContext;

use super::import::{schema_path, write_all};
use super::output::{print, remark};
use super::{CliError, Exit};
use crate::config::{Config, WarehouseConfig};
use crate::semantic::export::{to_files, to_yaml};
use crate::semantic::introspect::draft;
use crate::warehouse::introspect::{DataFile, ProfileLimits, find_files, profile_files, profile_postgres};

#[derive(Debug, Args)]
pub struct IntrospectArgs {
    /// Files or folders of Parquet, CSV or NDJSON; a folder's name is the schema, a file's the table
    #[arg(value_name = "PATHS", required_unless_present = "postgres", conflicts_with = "postgres")]
    paths: Vec<PathBuf>,
    /// PostgreSQL database, postgres://user@host/database; the password comes from PGPASSWORD or ~/.pgpass
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Schemas of the database
    #[arg(long = "schema", value_name = "SCHEMA", default_value = "public", requires = "postgres")]
    schemas: Vec<String>,
    /// Folder for the YAML, usually below `semantic/` [default: stdout]
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Name of the model [default: the output folder's, else the schema's]
    #[arg(long)]
    name: Option<String>,
    /// First part of every `source` [default: the configured warehouse that holds the files; for a database `postgres`]
    #[arg(long)]
    warehouse: Option<String>,
    /// Most rows of a table to look at
    #[arg(long, value_name = "ROWS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    sample_rows: u64,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
}

pub async fn run(config: Config, args: IntrospectArgs) -> Result<Exit, CliError> {
    let limits = ProfileLimits { max_rows: args.sample_rows };
    let (tables, schema) = match &args.postgres {
        Some(url) => {
            let warehouse = args.warehouse.as_deref().unwrap_or("postgres");
            let tables = profile_postgres(url, &args.schemas, warehouse, limits).await?;
            (tables, args.schemas.first().cloned())
        }
        None => {
            let files = find_files(&args.paths)?;
            let warehouse = match &args.warehouse {
                Some(name) => name.clone(),
                None => warehouse_of(&config, &files),
            };
            let state = SessionContext::new().state();
            let schema = files.first().map(|file| file.schema.clone());
            (profile_files(&state, &files, &warehouse, limits).await?, schema)
        }
    };
    let folder =
        args.output.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = args.name.clone().or(folder).or(schema).unwrap_or_else(|| "draft".to_owned());
    let (model, notes) = draft(&name, &tables);
    let target = args.output.as_deref().unwrap_or(Path::new("semantic/draft")).join("model.yaml");
    let schema = schema_path(&target);
    match args.output {
        None => print(to_yaml(&model, &notes, &schema).as_bytes())?,
        Some(folder) => {
            let force = args.force;
            let texts = to_files(&model, &notes, &schema);
            let files: Vec<(PathBuf, String)> =
                texts.into_iter().map(|(name, text)| (PathBuf::from(name), text)).collect();
            let shown = folder.display().to_string();
            tokio::task::spawn_blocking(move || write_all(&folder, &files, force)).await??;
            remark(&format!(
                "wrote {} datasets and {} relationships to {shown}; now write the descriptions, and run `steward check`",
                model.datasets.len(),
                model.relationships.len()
            ));
        }
    }
    Ok(Exit::Done)
}

/// The configured warehouse in which the files are `<schema>/<table>`; says what to configure if there is none.
fn warehouse_of(config: &Config, files: &[DataFile]) -> String {
    let root = files.first().and_then(|file| file.path.parent()?.parent());
    for (name, warehouse) in &config.warehouses {
        let WarehouseConfig::Local { path, .. } = warehouse else { continue };
        if root.is_some() && std::fs::canonicalize(path).ok().as_deref() == root {
            return name.clone();
        }
    }
    if let Some(root) = root {
        remark(&format!(
            "no configured warehouse holds these files; set in steward.yaml: warehouses: {{local: {{kind: local, path: {}}}}}",
            root.display()
        ));
    }
    "local".to_owned()
}
