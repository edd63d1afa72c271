//! `steward serve`: the service.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use tracing::{info, warn};

use super::shutdown;
use super::{CliError, Exit};
use crate::api::BoundServer;
use crate::config::{Config, ConfigError};
use crate::engine::{Engine, Parts};
use crate::rag::RagError;

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to serve on [default: server.listen of the configuration]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Serve nothing of the demo: folders that the configuration doesn't name lie, empty at first, in the data folder
    #[arg(long)]
    no_demo: bool,
}

impl ServeArgs {
    pub fn config(&self, path: Option<&Path>) -> Result<Config, ConfigError> {
        if self.no_demo { Config::load_without_demo(path) } else { Config::load(path) }
    }
}

pub async fn run(mut config: Config, args: ServeArgs) -> Result<Exit, CliError> {
    if let Some(listen) = args.listen {
        config.server.listen = listen;
    }
    if args.no_demo {
        crate::store::create_private_folder(&config.data_dir)?;
        for folder in config.yaml_folders() {
            std::fs::create_dir_all(&*folder)
                .map_err(|source| CliError::CreateFolder { path: folder.clone(), source })?;
        }
    }
    // Before anything else is asked to stop, so that no signal is lost.
    let shutdown = shutdown::requested()?;
    let address = config.server.listen;
    config.check_environment()?;
    for hint in config.hints() {
        warn!(environment = %config.environment, "{hint}");
    }
    // Taken now, so that a taken port is told before anything is opened; callers wait meanwhile.
    let server = BoundServer::bind(address).await.map_err(|source| listen_error(address, source))?;
    let (url, data_dir) = (config.public_url(), config.data_dir.clone());
    let environment = config.environment;
    let engine =
        Engine::open(config, Parts::All).await.map_err(|error| match error.downcast_ref::<RagError>() {
            Some(RagError::InUse(_)) => CliError::InUse { folder: data_dir, reason: error.to_string() },
            _ => CliError::Open(error.to_string()),
        })?;
    let engine = Arc::new(engine);
    info!(%address, %environment, docs = format!("{url}/docs"), "steward serves");
    let served = server.run(engine.clone(), shutdown).await;
    engine.close().await;
    info!("steward has stopped");
    served.map_err(|source| listen_error(address, source))?;
    Ok(Exit::Done)
}

fn listen_error(address: SocketAddr, source: std::io::Error) -> CliError {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => CliError::AddressTaken { address },
        _ => CliError::Listen { address, source },
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_told_before_the_engine_opens() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        let error = run(config, ServeArgs { listen: Some(address), no_demo: false }).await.unwrap_err();
        assert!(matches!(error, CliError::AddressTaken { .. }), "{error}");
        assert!(!folder.path().join("data").exists());
    }
}
