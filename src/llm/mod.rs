//! A language model behind an OpenAI-compatible endpoint: messages in, one answer and its token counts out.
//!
//! Knows chat completions over HTTP; knows no question, no SQL, no scope. Nothing here hosts a model. The egress rules
//! and the references to secrets are those of `actions`.
//! M1 everything ends by the caller's deadline: connecting, waiting, further tries, an answer that drips.
//! M2 an answer is bounded in bytes while it comes.
//! M3 the key leaves in the Authorization header of a request to the configured address, which is never redirected; it
//!    is in no error, log line, `Debug` or answer, not even where the endpoint sends it back.
//! M4 what the endpoint says of an error reaches no caller; of it, names of error kinds alone reach the log.

mod answer;
mod error;
mod events;
mod exchange;
mod form;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::actions::call::retry::backoff;
use crate::actions::clock::{Clock, SystemClock};
use crate::actions::net::{Clients, check_url, host_text, system_lookup};
use crate::actions::security::secret::{Environment, SecretRef, process_environment};
use crate::config::{KeyReference, LlmConfig};

pub use error::LlmError;
pub use form::AnswerForm;

use exchange::{Exchange, Failure};
use form::Takes;

/// Connecting takes no longer than this, or there is nobody.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// Tokens as the endpoint counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

impl Usage {
    /// Both together; what no endpoint counts stays uncounted.
    pub fn add(&mut self, other: Self) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
    }
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    pub text: String,
    /// `None` where the endpoint does not say.
    pub usage: Option<Usage>,
    /// True if the limit on output tokens cut it.
    pub is_cut: bool,
}

/// One endpoint with one model. Cheap to share behind an `Arc`.
pub struct Llm {
    config: LlmConfig,
    endpoint: Url,
    allow_hosts: BTreeSet<String>,
    key: Option<SecretRef>,
    environment: Environment,
    clients: Clients,
    clock: Arc<dyn Clock>,
    /// What the endpoint has been found to take.
    takes: Mutex<Takes>,
    running: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl std::fmt::Debug for Llm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Llm").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Llm {
    /// Checks the configuration; asks nothing of the endpoint.
    pub fn new(config: LlmConfig) -> Result<Self, LlmError> {
        Self::with(config, process_environment(), Arc::new(SystemClock))
    }

    fn with(config: LlmConfig, environment: Environment, clock: Arc<dyn Clock>) -> Result<Self, LlmError> {
        let wrong = |key, problem: &str| LlmError::Config { key, problem: problem.to_owned() };
        let mut endpoint = Url::parse(config.base_url.trim())
            .map_err(|_| wrong("base_url", "is no URL; write one such as https://api.openai.com/v1"))?;
        let allow_hosts = BTreeSet::from([host_text(&endpoint)]);
        if let Err(error) = check_url(&endpoint, &allow_hosts) {
            return Err(LlmError::Config { key: "base_url", problem: format!("cannot be used: {error}") });
        }
        if endpoint.query().is_some() || endpoint.fragment().is_some() {
            return Err(wrong(
                "base_url",
                "has a query or fragment; write what stands before /chat/completions",
            ));
        }
        endpoint
            .path_segments_mut()
            .map_err(|()| wrong("base_url", "is no http URL"))?
            .pop_if_empty()
            .extend(["chat", "completions"]);
        let key = match &config.api_key {
            KeyReference::Absent => None,
            KeyReference::At(reference) => SecretRef::parse(reference, Path::new("")),
            KeyReference::Literal => None,
        };
        if key.is_none() && config.api_key != KeyReference::Absent {
            return Err(wrong(
                "api_key",
                "is no reference; write env:NAME or file:path and keep the key there",
            ));
        }
        if config.model.trim().is_empty() {
            return Err(wrong("model", "is empty; name the model as the endpoint knows it"));
        }
        for (key, value, most) in [
            ("timeout_seconds", config.timeout_seconds, 3_600),
            ("max_output_tokens", config.max_output_tokens.into(), 200_000),
            ("max_concurrent_questions", config.max_concurrent_questions as u64, 10_000),
        ] {
            if !(1..=most).contains(&value) {
                return Err(LlmError::Config { key, problem: format!("is {value}; use 1 to {most}") });
            }
        }
        for (key, value) in [("retries", config.retries), ("max_repairs", config.max_repairs)] {
            if value > 10 {
                return Err(LlmError::Config { key, problem: format!("is {value}; use 0 to 10") });
            }
        }
        Ok(Self {
            config,
            endpoint,
            allow_hosts,
            key,
            environment,
            clients: Clients::new(system_lookup()),
            clock,
            takes: Mutex::default(),
            running: Mutex::default(),
        })
    }

    pub fn config(&self) -> &LlmConfig {
        &self.config
    }

    /// What an operator should know before the first question: a key that cannot be read now, or that travels in the
    /// clear.
    pub fn warning(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        if let Err(error) = key.check(&self.environment) {
            return Some(format!("llm.api_key leads nowhere: {error}"));
        }
        let is_here = matches!(self.endpoint.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        (self.endpoint.scheme() == "http" && !is_here)
            .then(|| "llm.base_url is http, so the key travels unencrypted; use https".to_owned())
    }

    /// A place for one more question of this client, given back when dropped.
    pub fn admit(&self, client: &str) -> Result<OwnedSemaphorePermit, LlmError> {
        let limit = self.config.max_concurrent_questions;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Clients that ask nothing are forgotten, so that the map stays as small as the load.
        running.retain(|_, slots| Arc::strong_count(slots) > 1);
        let slots = running.entry(client.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(limit)));
        slots.clone().try_acquire_owned().map_err(|_| LlmError::TooManyAtOnce { limit })
    }

    /// When a question that begins now must be answered.
    pub fn deadline(&self) -> Instant {
        self.clock.now() + Duration::from_secs(self.config.timeout_seconds)
    }

    /// Asks once. Tries again within `deadline` where the endpoint is busy, fails or breaks off, and more plainly where
    /// it does not take a member of the request. Dropping the future ends the exchange.
    pub async fn complete(
        &self,
        messages: &[Message],
        form: &AnswerForm,
        deadline: Instant,
    ) -> Result<Completion, LlmError> {
        let key = match &self.key {
            Some(key) => Some(key.read(&self.environment).await.map_err(LlmError::KeyUnreadable)?),
            None => None,
        };
        let client = self
            .clients
            .client(&self.allow_hosts, CONNECT_TIMEOUT)
            .await
            .map_err(|reason| LlmError::NoClient(reason.into()))?;
        let mut tries = 0;
        loop {
            let takes = *self.takes.lock().unwrap_or_else(PoisonError::into_inner);
            let exchange = Exchange {
                client: &client,
                endpoint: &self.endpoint,
                key: key.as_ref(),
                max_output_tokens: self.config.max_output_tokens,
                body: form::request(&self.config, takes, messages, form),
                takes,
            };
            let left = deadline.saturating_duration_since(self.clock.now());
            let timeout = || LlmError::Timeout { seconds: self.config.timeout_seconds };
            let outcome = tokio::time::timeout(left, exchange.run()).await.map_err(|_| timeout())?;
            let (error, asked) = match outcome {
                Ok(completion) => return Ok(completion),
                Err(Failure::Simpler(simpler)) => {
                    // Ends: every step leaves something out for good.
                    *self.takes.lock().unwrap_or_else(PoisonError::into_inner) = simpler;
                    continue;
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again { error, after }) => (error, after),
            };
            if tries >= self.config.retries {
                return Err(error);
            }
            let wait = asked.unwrap_or_default().max(backoff(tries, random()));
            if wait >= deadline.saturating_duration_since(self.clock.now()) {
                return Err(error);
            }
            self.clock.sleep(wait).await;
            tries += 1;
        }
    }
}

fn random() -> u32 {
    let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests;
