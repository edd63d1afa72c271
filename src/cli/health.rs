//! `steward health`: whether the service is ready, for container health checks.

use std::time::Duration;

use clap::Args;

use super::http;
use super::output::print_line;
use super::{CliError, Exit};
use crate::config::Config;

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Address of the service [default: where the configuration says that it listens]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

pub async fn run(config: Config, args: HealthArgs) -> Result<Exit, CliError> {
    let base = match args.url {
        Some(url) => http::base_url(&url)?,
        None => http::local_url(&config),
    };
    let url = format!("{base}/health/ready");
    let not_ready = |why: String| CliError::NotReady(format!("{url}: {why}"));
    let client =
        http::client(&base, Duration::from_secs(5)).map_err(|error| not_ready(http::reason(&error)))?;
    let response = client.get(&url).send().await.map_err(|error| not_ready(http::reason(&error)))?;
    if !response.status().is_success() {
        return Err(not_ready(format!("the service answers {}", response.status())));
    }
    print_line("ready")?;
    Ok(Exit::Done)
}
