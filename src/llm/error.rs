//! Why the language model gave no answer. Every text may be shown to callers: none names a host, a key, or what the
//! endpoint said.

use std::time::Duration;

use crate::actions::security::secret::SecretError;
use crate::error::ErrorKind;

/// No answer, by cause.
#[derive(Debug, thiserror::Error)]
pub enum LlmError {
    #[error("llm.{key} in the configuration {problem}")]
    Config { key: &'static str, problem: String },
    #[error("the language model's key cannot be read; tell the operator of this service")]
    KeyUnreadable(#[source] SecretError),
    #[error("the language model's key does not fit into a header; tell the operator of this service")]
    KeyUnusable,
    #[error("the language model's endpoint refuses this service; tell its operator to renew the key")]
    KeyRefused,
    #[error("the quota of this service at the language model is used up; tell its operator")]
    QuotaUsed,
    #[error(
        "the language model's endpoint has nothing at its address, or no such model; tell the operator of this service"
    )]
    NotThere,
    #[error(
        "the language model's endpoint redirects; tell the operator to set llm.base_url to its final address"
    )]
    Redirected,
    #[error("the language model's endpoint does not take the request; tell the operator of this service")]
    Rejected,
    #[error("the language model's endpoint is not set up; tell the operator of this service")]
    NoClient(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "the question with its context is too long for the language model; ask with a smaller budget_tokens"
    )]
    PromptTooLong,
    #[error("the language model is busy; try again later")]
    Busy { retry_after: Option<Duration> },
    #[error("the language model's endpoint failed; try again later")]
    Failed,
    #[error("the language model cannot be reached; try again later")]
    Unreachable,
    #[error("the language model broke off its answer; try again")]
    BrokenOff,
    #[error(
        "the language model's endpoint answered with something that is no chat completion: {what}; try again"
    )]
    Garbage { what: &'static str },
    #[error("the language model did not stop: its answer is over {limit_bytes} bytes; ask for less at once")]
    Endless { limit_bytes: usize },
    #[error(
        "the language model needed more than {max_output_tokens} tokens for its answer; ask for less at once, or have \
         llm.max_output_tokens raised"
    )]
    CutOff { max_output_tokens: u32 },
    #[error("the language model declined to answer; put the question in other words")]
    Declined,
    #[error(
        "the language model did not answer in the form asked for; put the question in other words, or try again"
    )]
    NoForm,
    #[error("the language model took more than {seconds} s; ask for less at once, or try again later")]
    Timeout { seconds: u64 },
    #[error("{limit} questions of this client are being answered already; wait for one to end")]
    TooManyAtOnce { limit: usize },
}

impl LlmError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } => ErrorKind::InvalidInput,
            Self::KeyUnreadable(_)
            | Self::KeyUnusable
            | Self::KeyRefused
            | Self::QuotaUsed
            | Self::NotThere
            | Self::Redirected
            | Self::Rejected
            | Self::NoClient(_)
            | Self::Busy { .. } => ErrorKind::Unavailable,
            Self::PromptTooLong => ErrorKind::TooLarge,
            Self::Failed
            | Self::Unreachable
            | Self::BrokenOff
            | Self::Garbage { .. }
            | Self::Endless { .. }
            | Self::CutOff { .. }
            | Self::Declined
            | Self::NoForm => ErrorKind::UpstreamFailed,
            Self::Timeout { .. } => ErrorKind::UpstreamTimeout,
            Self::TooManyAtOnce { .. } => ErrorKind::RateLimited,
        }
    }

    /// How long to wait before trying again, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => *retry_after,
            _ => None,
        }
    }
}
