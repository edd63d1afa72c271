//! `steward sql`: SQL by the owner of the machine, without a server. The same engine and guard as over HTTP.
//!
//! | file | holds |
//! |---|---|
//! | split | texts into statements; whether a text is finished |
//! | output | formats, and where results go |
//! | problem | errors with the place in the text |
//! | session | running statements |
//! | shell, command, complete, describe | the interactive part |

mod command;
mod complete;
mod describe;
mod output;
mod problem;
mod session;
mod shell;
mod split;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{CliError, Exit};
use crate::config::Config;
use output::{OutputFormat, Target};
use session::Session;

#[derive(Debug, Args)]
pub struct SqlArgs {
    /// SQL to run, one or more statements; may be given several times
    #[arg(short, long, value_name = "SQL")]
    command: Vec<String>,
    /// File with SQL, statements separated by `;`
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// Form of the result [default: by the ending of --output, otherwise table]
    #[arg(long, value_enum)]
    format: Option<OutputFormat>,
    /// File for the result
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Most rows of a result; a cut is told on stderr [default: sql.max_rows of the configuration]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_rows: Option<u32>,
}

/// A text with statements, and what to call it in messages.
struct Script {
    name: String,
    text: String,
}

pub async fn run(config: Config, args: SqlArgs) -> Result<Exit, CliError> {
    let scripts = scripts(&args).await?;
    let statements = scripts.iter().map(|script| split::split(&script.text).len()).sum();
    let target = Target::new(args.format, args.output, std::io::stdout().is_terminal())?;
    if !scripts.is_empty() {
        target.check_statements(statements)?;
    } else if target.is_file() {
        return Err(CliError::Usage("--output needs a statement: give -c, -f, or SQL on stdin".to_owned()));
    }
    let max_rows = args.max_rows.map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
    let session = Session::open(config, max_rows).await?;
    let outcome = if scripts.is_empty() {
        shell::run(session.clone(), target).await
    } else {
        session.run_scripts(scripts, &target).await
    };
    session.close().await;
    outcome.map(|()| Exit::Done)
}

/// What to run; nothing means that somebody sits at a terminal.
async fn scripts(args: &SqlArgs) -> Result<Vec<Script>, CliError> {
    if !args.command.is_empty() {
        let named = |(at, text): (usize, &String)| {
            let name = if args.command.len() == 1 { "-c".to_owned() } else { format!("-c {}", at + 1) };
            Script { name, text: text.clone() }
        };
        return Ok(args.command.iter().enumerate().map(named).collect());
    }
    let path = match &args.file {
        Some(path) if path != Path::new("-") => Some(path.clone()),
        Some(_) => None,
        None if std::io::stdin().is_terminal() => return Ok(Vec::new()),
        None => None,
    };
    let script = tokio::task::spawn_blocking(move || match path {
        Some(path) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| CliError::Read { path: path.clone(), source })?;
            Ok::<_, CliError>(Script { name: path.display().to_string(), text })
        }
        None => {
            let mut text = String::new();
            let read = std::io::stdin().lock().read_to_string(&mut text);
            read.map_err(|source| CliError::Read { path: "stdin".into(), source })?;
            Ok(Script { name: "stdin".to_owned(), text })
        }
    });
    let mut script = script.await??;
    if let Some(text) = script.text.strip_prefix('\u{feff}') {
        script.text = text.to_owned();
    }
    Ok(vec![script])
}
