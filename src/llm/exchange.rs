//! One request and its answer. X1 a body is read up to a bound and no further (M2).

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::answer::Gathered;
use super::events::Events;
use super::form::Takes;
use super::{Completion, LlmError};
use crate::actions::call::retry::retry_after;
use crate::actions::net::root_cause;
use crate::actions::security::redact::Redactor;

/// What an answer may have besides its tokens: identifiers, counts, log probabilities that nobody asked for.
const FRAME_BYTES: usize = 256 << 10;
/// A token is some four characters; escaped as `\uXXXX` pairs they are at most 48 bytes.
const TOKEN_BYTES: usize = 48;
/// In a stream, each token may come in an event of its own, of some 300 bytes.
const TOKEN_EVENT_BYTES: usize = 1 << 10;
/// How much of an error is read, and how long it is waited for.
const ERROR_BYTES: usize = 16 << 10;
const ERROR_PATIENCE: Duration = Duration::from_secs(2);

/// Why one try gave nothing.
pub(super) enum Failure {
    /// Trying again would not help.
    Final(LlmError),
    /// Trying again may help, after the time that the endpoint asks for.
    Again { error: LlmError, after: Option<Duration> },
    /// The endpoint may take a plainer request.
    Simpler(Takes),
}

impl From<LlmError> for Failure {
    fn from(error: LlmError) -> Self {
        match error {
            LlmError::BrokenOff | LlmError::Unreachable | LlmError::Failed => {
                Self::Again { error, after: None }
            }
            error => Self::Final(error),
        }
    }
}

/// What one try needs.
pub(super) struct Exchange<'a> {
    pub client: &'a Client,
    pub endpoint: &'a Url,
    pub key: Option<&'a SecretString>,
    pub max_output_tokens: u32,
    pub body: Value,
    pub takes: Takes,
}

impl Exchange<'_> {
    pub(super) async fn run(&self) -> Result<Completion, Failure> {
        let mut request = self
            .client
            .post(self.endpoint.clone())
            .header(ACCEPT, "application/json, text/event-stream")
            .json(&self.body);
        if let Some(key) = self.key {
            let mut header = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
                .map_err(|_| LlmError::KeyUnusable)?;
            header.set_sensitive(true);
            request = request.header(AUTHORIZATION, header);
        }
        let response = request.send().await.map_err(|error| {
            let reason = root_cause(&error);
            tracing::warn!(host = self.endpoint.host_str(), reason, "the language model cannot be reached");
            LlmError::Unreachable
        })?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let is_stream =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value.trim_start().to_ascii_lowercase().starts_with("text/event-stream")
            });
        let mut completion = match is_stream {
            true => self.streamed(response).await?,
            false => self.whole(response).await?,
        };
        if let Some(key) = self.key {
            completion.text = Redactor::for_data([key]).text(&completion.text);
        }
        Ok(completion)
    }

    async fn whole(&self, response: Response) -> Result<Completion, LlmError> {
        let limit_bytes = FRAME_BYTES + TOKEN_BYTES * self.max_output_tokens as usize;
        let (mut bytes, mut pieces) = (Vec::new(), response.bytes_stream());
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| LlmError::BrokenOff)?;
            if bytes.len() + piece.len() > limit_bytes {
                return Err(LlmError::Endless { limit_bytes });
            }
            bytes.extend_from_slice(&piece);
        }
        let mut gathered = Gathered::default();
        gathered.take(&bytes)?;
        gathered.finish()
    }

    async fn streamed(&self, response: Response) -> Result<Completion, LlmError> {
        let limit_bytes = FRAME_BYTES + TOKEN_EVENT_BYTES * self.max_output_tokens as usize;
        let (mut read, mut pieces) = (0, response.bytes_stream());
        let (mut events, mut gathered) = (Events::default(), Gathered::default());
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| LlmError::BrokenOff)?;
            read += piece.len();
            if read > limit_bytes {
                return Err(LlmError::Endless { limit_bytes });
            }
            for data in events.push(&piece) {
                if data.trim() == "[DONE]" {
                    return gathered.finish();
                }
                gathered.take(data.as_bytes())?;
            }
        }
        if gathered.is_finished() { gathered.finish() } else { Err(LlmError::BrokenOff) }
    }

    /// What an answer other than 2xx means.
    async fn refused(&self, response: Response) -> Failure {
        let status = response.status();
        let after = retry_after(response.headers(), chrono::Utc::now());
        let said = tokio::time::timeout(ERROR_PATIENCE, read_error(response)).await.unwrap_or_default();
        let names = Redactor::for_messages(self.key).text(&error_names(&said));
        tracing::warn!(
            host = self.endpoint.host_str(),
            status = status.as_u16(),
            names,
            "the language model's endpoint answered with an error"
        );
        let is_about = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
        let is_too_long = is_about(&["context_length_exceeded", "maximum context length", "context length"]);
        Failure::Final(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => LlmError::KeyRefused,
            StatusCode::PAYLOAD_TOO_LARGE => LlmError::PromptTooLong,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE => LlmError::NotThere,
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY if is_too_long => {
                LlmError::PromptTooLong
            }
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => match self.takes.simpler(&said) {
                Some(simpler) => return Failure::Simpler(simpler),
                None => LlmError::Rejected,
            },
            StatusCode::TOO_MANY_REQUESTS if is_about(&["insufficient_quota"]) => LlmError::QuotaUsed,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Failure::Again { error: LlmError::Busy { retry_after: after }, after };
            }
            StatusCode::REQUEST_TIMEOUT => return Failure::Again { error: LlmError::Failed, after },
            status if status.is_server_error() => {
                return Failure::Again { error: LlmError::Failed, after };
            }
            status if status.is_redirection() => LlmError::Redirected,
            _ => LlmError::Rejected,
        })
    }
}

/// The beginning of an error's body, as far as it comes.
async fn read_error(response: Response) -> String {
    let (mut bytes, mut pieces) = (Vec::new(), response.bytes_stream());
    while let Some(Ok(piece)) = pieces.next().await {
        bytes.extend_from_slice(&piece[..piece.len().min(ERROR_BYTES - bytes.len())]);
        if bytes.len() >= ERROR_BYTES {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The error's `type`, `code` and `param`, where they look like names: its message may quote the prompt (M4).
fn error_names(said: &str) -> String {
    let Ok(body) = serde_json::from_str::<Value>(said) else { return String::new() };
    let error = body.get("error").unwrap_or(&body);
    let is_name = |text: &&str| {
        text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    let names: Vec<&str> = ["type", "code", "param"]
        .iter()
        .filter_map(|name| error.get(name).and_then(Value::as_str).filter(is_name))
        .collect();
    names.join(" ")
}
