//! The command line: parses, dispatches, prints. The only place that prints, and that knows exit codes.
//!
//! L1 results go to stdout and nothing else does; logs and remarks go to stderr.
//! L2 exit code 0 is done, 1 is a failure, a refusal or findings, 2 is wrong usage, 3 is done but for what the report
//! names, 130 is Ctrl-C.
//! L3 a reader that goes away (`| head`) ends a command quietly.

mod admin;
mod audit;
mod check;
mod client;
mod compile;
pub mod demo;
pub mod demo_api;
mod error;
mod export;
mod health;
mod http;
mod import;
mod introspect;
mod key;
mod logging;
mod output;
mod password;
mod serve;
mod shutdown;
mod sql;
mod user;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;

use crate::config::Config;

pub use error::CliError;
use logging::LogFormat;

/// A data steward for AI agents: semantic metadata, retrieval over large API responses, guarded SQL.
#[derive(Debug, Parser)]
#[command(name = "steward", version, propagate_version = true)]
pub struct Cli {
    /// Configuration [default: steward.yaml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of the log on stderr, of which RUST_LOG says how much [default: text; json for a service in staging or production]
    #[arg(long, global = true, value_enum)]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve(serve::ServeArgs),
    /// Administer the clients that may ask for tokens
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Administer the users that may log in
    #[command(subcommand)]
    User(user::UserCommand),
    /// List and rotate the keys that sign tokens
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Read who did what, when and with what outcome
    Audit(audit::AuditArgs),
    /// Query metadata, API responses and data with SQL, without a server
    Sql(sql::SqlArgs),
    /// Compile a metric query to SQL, without a server
    Compile(compile::CompileArgs),
    /// Compile as the compliance suite of Apache Ossie asks for it
    #[command(subcommand)]
    CompileOssie(compile::OssieCommand),
    /// Check the semantic, actions and indexes folders
    Check(check::CheckArgs),
    /// Turn semantic models of other systems into Steward's YAML
    Import(import::ImportArgs),
    /// Write the semantic models in another system's format
    Export(export::ExportArgs),
    /// Draft a semantic model from data files or a PostgreSQL database
    Introspect(introspect::IntrospectArgs),
    /// Serve the demo's weather as an external API
    DemoApi(DemoApiArgs),
    /// Walk through the demo as an agent does, over HTTP
    Demo(demo::DemoArgs),
    /// Ask whether the service is ready; exit code 0 or 1
    Health(health::HealthArgs),
}

#[derive(Debug, Args)]
struct DemoApiArgs {
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// nycflights13's hourly weather
    #[arg(long, value_name = "FILE", default_value = "examples/nycflights13/weather.parquet")]
    data: PathBuf,
}

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// It did what it should, and what it found is bad.
    Findings,
    /// It did what it should, but for what its report names.
    Incomplete,
}

impl Cli {
    /// Starts logging to stderr, as loud as the command wants it.
    pub fn start_logging(&self) {
        let quiet = match self.command {
            Command::Serve(_) | Command::DemoApi(_) => logging::SERVICE,
            // What is wrong with the files is this command's result.
            Command::Check(_) | Command::Import(_) => "off",
            _ => "error",
        };
        logging::start(self.log_format.unwrap_or_else(|| self.default_log_format()), quiet);
    }
}

impl Cli {
    /// What is wrong with the configuration is told later, by whatever needs it.
    fn default_log_format(&self) -> LogFormat {
        let serves = matches!(self.command, Command::Serve(_));
        match serves.then(|| Config::load(self.config.as_deref())) {
            Some(Ok(config)) if config.environment.is_deployed() => LogFormat::Json,
            _ => LogFormat::Text,
        }
    }
}

/// Runs a command.
pub async fn run(cli: Cli) -> Result<Exit, CliError> {
    let config = || Config::load(cli.config.as_deref());
    match cli.command {
        Command::Serve(args) => serve::run(args.config(cli.config.as_deref())?, args).await,
        Command::Client(command) => client::run(config()?, command).await,
        Command::User(command) => user::run(config()?, command).await,
        Command::Key(command) => key::run(config()?, command).await,
        Command::Audit(args) => audit::run(config()?, args).await,
        Command::Sql(args) => sql::run(config()?, args).await,
        Command::Compile(args) => compile::run(config()?, args).await,
        Command::CompileOssie(command) => compile::run_ossie(command).await,
        Command::Check(args) => check::run(config()?, args).await,
        Command::Import(args) => import::run(args).await,
        Command::Export(args) => export::run(config()?, args).await,
        Command::Introspect(args) => introspect::run(config()?, args).await,
        Command::DemoApi(args) => serve_demo_api(args).await,
        Command::Demo(args) => demo::run(config()?, args).await,
        Command::Health(args) => health::run(config()?, args).await,
    }
}

/// Tells what went wrong and gives the exit code (L2).
pub fn finish(outcome: Result<Exit, CliError>) -> ExitCode {
    match outcome {
        Ok(Exit::Done) | Err(CliError::ReaderGone) => ExitCode::SUCCESS,
        Ok(Exit::Findings) => ExitCode::FAILURE,
        Ok(Exit::Incomplete) => ExitCode::from(3),
        Err(error) => {
            if !error.is_told() {
                output::remark(&format!("steward: {error}"));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

async fn serve_demo_api(args: DemoApiArgs) -> Result<Exit, CliError> {
    const VARIABLE: &str = "WEATHER_API_KEY";
    let key = std::env::var(VARIABLE).ok().filter(|key| !key.is_empty()).ok_or_else(|| {
        CliError::Usage(format!(
            "set {VARIABLE} to the key that callers of the hourly weather must send, for example {VARIABLE}=demo steward demo-api"
        ))
    })?;
    demo_api::serve(args.listen, &args.data, SecretString::from(key), shutdown::requested()?).await?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_of_the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_lines_of_run_sh_parse() {
        for line in [
            "steward serve --listen 127.0.0.1:8080",
            "steward serve --no-demo --listen 0.0.0.0:80 --log-format json",
            "steward demo-api --listen 127.0.0.1:8090",
            "steward client --help",
        ] {
            let outcome = Cli::try_parse_from(line.split(' '));
            assert!(outcome.as_ref().is_ok_or_help(), "{line}: {outcome:?}");
        }
        let create = [
            "steward",
            "client",
            "create",
            "--if-absent",
            "--name",
            "demo-agent",
            "--scopes",
            "sql:run rag:read",
        ];
        assert!(Cli::try_parse_from(create.iter().chain(&["--credentials-file", "x.json"])).is_ok());
        assert!(Cli::try_parse_from(create).is_err(), "--if-absent has nowhere to put the secret");
    }

    trait OkOrHelp {
        fn is_ok_or_help(&self) -> bool;
    }

    impl OkOrHelp for Result<&Cli, &clap::Error> {
        fn is_ok_or_help(&self) -> bool {
            self.as_ref().map_or_else(|error| error.kind() == clap::error::ErrorKind::DisplayHelp, |_| true)
        }
    }
}
