//! `steward compile`: metric queries to SQL, without a server; `steward compile-ossie`: the adapter of Ossie's
//! compliance suite.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{CliError, Exit, output};
use crate::config::Config;
use crate::engine::{Context, Engine, Parts};
use crate::semantic::MAX_FILE_BYTES;
use crate::semantic::compile::{
    CompileRequest, Dialect, DimensionRequest, FilterRequest, OrderRequest, TimeRequest, ossie,
};

#[derive(Debug, Args)]
pub struct CompileArgs {
    /// File with a metric query as JSON, `-` for stdin; the options below add to it
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Model of the names that follow
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Metric; may be given several times
    #[arg(short, long = "metric", value_name = "METRIC")]
    metrics: Vec<String>,
    /// Field to group by, dataset.field; may be given several times
    #[arg(short, long = "dimension", value_name = "FIELD")]
    dimensions: Vec<String>,
    /// Condition on rows; may be given several times
    #[arg(short, long = "filter", value_name = "SQL")]
    filters: Vec<String>,
    /// Time field to group by
    #[arg(long, value_name = "FIELD")]
    time: Option<String>,
    /// Length of the periods to group by: day, week, month, …
    #[arg(long, value_name = "GRAIN")]
    grain: Option<String>,
    /// Column to sort by; may be given several times
    #[arg(long = "order-by", value_name = "COLUMN")]
    order_by: Vec<String>,
    /// Most rows of the result
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// ansi, datafusion, postgresql, snowflake, duckdb
    #[arg(long, value_parser = dialect)]
    dialect: Option<Dialect>,
    /// Print the whole answer as JSON: SQL, columns, datasets, joins, warnings
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub enum OssieCommand {
    /// Print the SQL of a query, or a code on stderr
    Sql(OssieArgs),
}

#[derive(Debug, Args)]
pub struct OssieArgs {
    /// Model as YAML or JSON
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Query as JSON
    #[arg(long, value_name = "FILE")]
    query_file: PathBuf,
    /// ansi, datafusion, postgresql, snowflake, duckdb
    #[arg(long, value_parser = dialect, default_value = "ansi")]
    dialect: Dialect,
}

fn dialect(text: &str) -> Result<Dialect, String> {
    Dialect::from_name(text)
        .ok_or_else(|| format!("there is no such dialect; use {}", Dialect::NAMES.join(", ")))
}

pub async fn run(config: Config, args: CompileArgs) -> Result<Exit, CliError> {
    let json = args.json;
    let request = tokio::task::spawn_blocking(move || request(args)).await??;
    let engine =
        Engine::open(config, Parts::QueryOnly).await.map_err(|error| CliError::Open(error.to_string()))?;
    let user =
        std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "owner".to_owned());
    let outcome = engine.compile(&Context::local(&user), &request).await;
    engine.close().await;
    let compiled = outcome?;
    if json {
        output::print_json(&compiled)?;
        return Ok(Exit::Done);
    }
    for warning in &compiled.warnings {
        output::remark(&format!("steward: {warning}"));
    }
    output::print_line(&compiled.sql)?;
    Ok(Exit::Done)
}

fn request(args: CompileArgs) -> Result<CompileRequest, CliError> {
    let mut request = match &args.file {
        None => CompileRequest::default(),
        Some(path) => {
            let text = read(path)?;
            serde_json::from_str(&text)
                .map_err(|error| CliError::Usage(format!("{} is no metric query: {error}", path.display())))?
        }
    };
    request.model = args.model.or(request.model);
    request.metrics.extend(args.metrics);
    request.dimensions.extend(args.dimensions.into_iter().map(DimensionRequest::Name));
    request.filters.extend(args.filters.into_iter().map(FilterRequest::Sql));
    request.order_by.extend(args.order_by.into_iter().map(OrderRequest::Name));
    if args.time.is_some() || args.grain.is_some() {
        let time = request.time.get_or_insert_with(TimeRequest::default);
        time.dimension = args.time.or(time.dimension.take());
        time.grain = args.grain.or(time.grain.take());
    }
    request.limit = args.limit.or(request.limit);
    request.dialect = args.dialect.unwrap_or(request.dialect);
    Ok(request)
}

fn read(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::Read { path: path.to_path_buf(), source };
    let mut text = String::new();
    if path == Path::new("-") {
        let read = std::io::stdin().lock().take(MAX_FILE_BYTES).read_to_string(&mut text);
        read.map_err(|source| CliError::Read { path: "stdin".into(), source })?;
        return Ok(text);
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        let message =
            format!("{} has more than the {MAX_FILE_BYTES} bytes allowed; split it", path.display());
        return Err(CliError::Usage(message));
    }
    Ok(text)
}

/// SQL alone on stdout, or `CODE: message` on stderr and exit code 1.
pub async fn run_ossie(command: OssieCommand) -> Result<Exit, CliError> {
    let OssieCommand::Sql(args) = command;
    let outcome = tokio::task::spawn_blocking(move || {
        let (model, query) = (read(&args.model)?, read(&args.query_file)?);
        Ok::<_, CliError>(ossie::compile(&model, &query, args.dialect))
    });
    match outcome.await?? {
        Ok(sql) => {
            output::print_line(&sql)?;
            Ok(Exit::Done)
        }
        Err(error) => {
            output::remark(&format!("{}: {error}", error.code.ossie()));
            Err(CliError::Told)
        }
    }
}
