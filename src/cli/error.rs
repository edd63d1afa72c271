//! What can end a command, and with which exit code.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::demo::DemoError;
use super::demo_api::DemoApiError;
use crate::audit::AuditError;
use crate::auth::{ClientError, CredentialsError, KeyError, ScopeError, UserError};
use crate::config::ConfigError;
use crate::engine::EngineError;
use crate::error::ErrorKind;
use crate::query::QueryError;
use crate::store::StoreError;
use crate::warehouse::introspect::IntrospectError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot start: {0}")]
    Open(String),
    #[error("another process uses the data folder {}: {reason}. With another folder: STEWARD__DATA_DIR=… steward …", .folder.display())]
    InUse { folder: PathBuf, reason: String },
    #[error("{address} is taken by another program; stop that one, or choose another address with --listen")]
    AddressTaken { address: SocketAddr },
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot create {}: {source}; check the permissions", .path.display())]
    CreateFolder { path: PathBuf, source: std::io::Error },
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}: {source}; nothing was written", .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot write to stdout: {0}")]
    Stdout(#[source] std::io::Error),
    /// Whoever read stdout has read enough.
    #[error("nobody reads stdout any more")]
    ReaderGone,
    #[error("the terminal failed: {0}")]
    Terminal(String),
    #[error("cancelled")]
    Cancelled,
    /// The details are on stderr already.
    #[error("failed")]
    Told,
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    DemoApi(#[from] DemoApiError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Introspect(#[from] IntrospectError),
    #[error("{0}")]
    NotReady(String),
    #[error("cannot start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
    #[error("steward has crashed, which is a defect of its own; the message is above")]
    Crashed,
}

impl CliError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) => ErrorKind::InvalidInput,
            Self::Config(error) => error.kind(),
            Self::Open(_) => ErrorKind::NotConfigured,
            Self::InUse { .. } | Self::AddressTaken { .. } | Self::NotReady(_) => ErrorKind::Unavailable,
            Self::Listen { source, .. }
            | Self::CreateFolder { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Stdout(source)
            | Self::Runtime(source) => ErrorKind::of_io(source),
            Self::ReaderGone | Self::Terminal(_) | Self::Cancelled | Self::Told | Self::Crashed => {
                ErrorKind::Internal
            }
            Self::Scope(error) => error.kind(),
            Self::Client(error) => error.kind(),
            Self::User(error) => error.kind(),
            Self::Credentials(error) => error.kind(),
            Self::Keys(error) => error.kind(),
            Self::Audit(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Query(error) => error.kind(),
            Self::DemoApi(error) => error.kind(),
            Self::Demo(error) => error.kind(),
            Self::Introspect(error) => error.kind(),
        }
    }

    /// Whether stderr has it already.
    pub(super) fn is_told(&self) -> bool {
        matches!(self, Self::Told)
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Cancelled => 130,
            Self::ReaderGone => 0,
            _ => 1,
        }
    }
}

impl From<tokio::task::JoinError> for CliError {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::Crashed
    }
}
