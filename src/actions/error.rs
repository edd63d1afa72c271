//! Why an external API could not be called. Every message may be shown to the agent: none holds a credential.

use std::time::Duration;

use super::arguments::ArgumentProblem;
use super::net::EgressError;
use super::security::secret::SecretError;
use super::spec::SpecError;
use crate::error::ErrorKind;

/// A failed call, by cause.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ActionError {
    #[error("there is no API `{name}`{}", did_you_mean(.suggestion.as_deref()))]
    UnknownApi { name: String, suggestion: Option<String> },
    #[error("API {api} has no operation `{name}`{}", did_you_mean(.suggestion.as_deref()))]
    UnknownOperation { api: String, name: String, suggestion: Option<String> },
    #[error("{api}.{operation}: {source}")]
    Spec { api: String, operation: String, source: SpecError },
    #[error("the arguments of {operation} do not fit: {}", list_problems(.problems))]
    InvalidArguments { operation: String, problems: Vec<ArgumentProblem> },
    #[error("{api}: {reason}; set base_url in the action file, or the environment variable it names")]
    BaseUrl { api: String, reason: String },
    #[error("{api}.{operation} needs credentials that are not configured: {missing}")]
    MissingCredentials { api: String, operation: String, missing: String },
    #[error("the credential of {api} for security scheme `{scheme}` cannot be read: {source}")]
    Secret { api: String, scheme: String, source: SecretError },
    #[error("the credential of {api} for security scheme `{scheme}` does not fit it: {reason}")]
    CredentialMismatch { api: String, scheme: String, reason: String },
    #[error("no access token for {api} from {host}: {reason}")]
    Token { api: String, host: String, reason: String },
    #[error(transparent)]
    Egress(#[from] EgressError),
    #[error("{host} redirected to {target}, which is refused: {reason}")]
    RedirectRefused { host: String, target: String, reason: String },
    #[error("{host} redirected more than {limit} times; the API or its base_url is misconfigured")]
    TooManyRedirects { host: String, limit: usize },
    #[error("cannot connect to {host}: {reason}; check that the API is up and base_url is right")]
    Connect { host: String, reason: String },
    #[error("{host} answered {status}: {advice}{}", said(.excerpt))]
    UpstreamStatus {
        host: String,
        status: u16,
        advice: String,
        excerpt: String,
        retry_after: Option<Duration>,
    },
    #[error("{host} did not {what} within {seconds} s; ask for less, or raise limits.{limit} in the action file",
        seconds = .after.as_secs_f32())]
    UpstreamTimeout { host: String, what: &'static str, after: Duration, limit: &'static str },
    #[error("{host} closed the connection after {received} of {} bytes; nothing was kept, try again",
        .expected.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string()))]
    UpstreamClosed { host: String, received: u64, expected: Option<u64> },
    #[error("{host} broke the protocol: {reason}")]
    UpstreamProtocol { host: String, reason: String },
    #[error(
        "the answer of {host} is over {limit} bytes; ask for less, or raise limits.max_response_bytes in the action file"
    )]
    ResponseTooLarge { host: String, limit: u64 },
    #[error("{api} takes {per_minute} requests a minute, and they are used up; retry after {} s", .retry_after.as_secs() + 1)]
    RateLimited { api: String, per_minute: u32, retry_after: Duration },
    #[error("{host} failed {failures} times in a row and is left alone; retry after {} s", .retry_after.as_secs() + 1)]
    CircuitOpen { host: String, failures: u32, retry_after: Duration },
    #[error("the call was cancelled")]
    Cancelled,
    #[error("internal: {0}")]
    Internal(String),
}

impl ActionError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownApi { .. } | Self::UnknownOperation { .. } => ErrorKind::NotFound,
            Self::InvalidArguments { .. } => ErrorKind::InvalidInput,
            Self::Spec { source, .. } => source.kind(),
            Self::BaseUrl { .. }
            | Self::MissingCredentials { .. }
            | Self::Secret { .. }
            | Self::CredentialMismatch { .. }
            | Self::Egress(_) => ErrorKind::NotConfigured,
            Self::Token { .. }
            | Self::RedirectRefused { .. }
            | Self::TooManyRedirects { .. }
            | Self::Connect { .. }
            | Self::UpstreamStatus { .. }
            | Self::UpstreamClosed { .. }
            | Self::UpstreamProtocol { .. } => ErrorKind::UpstreamFailed,
            Self::UpstreamTimeout { .. } => ErrorKind::UpstreamTimeout,
            Self::ResponseTooLarge { .. } => ErrorKind::TooLarge,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::CircuitOpen { .. } | Self::Cancelled => ErrorKind::Unavailable,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// How long to wait before trying again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::UpstreamStatus { retry_after, .. } => *retry_after,
            Self::RateLimited { retry_after, .. } | Self::CircuitOpen { retry_after, .. } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(near) => format!("; did you mean `{near}`?"),
        None => "; list what can be called first".to_owned(),
    }
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; it said: {text}") }
}

/// How many problems a message lists; `InvalidArguments` holds all.
const LISTED_PROBLEMS: usize = 20;

fn list_problems(problems: &[ArgumentProblem]) -> String {
    let mut text =
        problems.iter().take(LISTED_PROBLEMS).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if problems.len() > LISTED_PROBLEMS {
        text.push_str(&format!("; and {} more", problems.len() - LISTED_PROBLEMS));
    }
    text
}
