//! Calls an operation of an external API: check, limit, authenticate, send, retry, hand the body on as a stream.
//!
//! Knows no HTTP server and no store: what becomes of the answer is decided elsewhere.
//! K1 nothing is sent before the arguments hold. K2 only idempotent methods are tried again (but for one renewed token).
//! K3 everything ends by `limits.timeout`, the body included. K4 no credential is in anything that comes out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::arguments::check_arguments;
use super::catalog::Api;
use super::clock::{Clock, SystemClock};
use super::error::ActionError;
use super::net::{Clients, Lookup, authority, system_lookup};
use super::request::{PreparedRequest, build_request};
use super::security::redact::Redactor;
use super::security::token::{TokenContext, Tokens};
use super::security::{self, AppliedCredentials};
use super::spec::Operation;

mod body;
mod exchange;
mod limit;
mod reading;
pub(crate) mod retry;

pub use body::UpstreamBody;

use body::{BodyRules, bounded_body};
use exchange::Exchange;
use limit::{Breakers, Permit, RateLimits};
use reading::{EXCERPT_PATIENCE, advice, clip, kept_headers, read_excerpt};

/// The head of a successful answer, and its body as it arrives.
pub struct UpstreamResponse {
    /// 2xx.
    pub status: u16,
    pub content_type: Option<String>,
    /// etag, last-modified, content-language, link and whatever tells of rate limits; names in lowercase.
    pub headers: BTreeMap<String, String>,
    /// What was asked, without credentials.
    pub url: String,
    /// From the call to the head of the answer, waiting and retries included.
    pub elapsed: Duration,
    /// How often it was tried, from 1.
    pub attempts: u32,
    /// Bytes of the body, where the upstream says so and did not compress it.
    pub content_length: Option<u64>,
    pub body: UpstreamBody,
}

impl std::fmt::Debug for UpstreamResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamResponse")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl UpstreamResponse {
    /// The whole body in memory; bounded by the API's `max_response_bytes`.
    pub async fn bytes(mut self) -> Result<Bytes, ActionError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.body.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok(whole.freeze())
    }
}

/// What a caller is made of; the defaults are the system's clock and name server.
pub struct CallerOptions {
    pub clock: Arc<dyn Clock>,
    pub lookup: Lookup,
}

impl Default for CallerOptions {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), lookup: system_lookup() }
    }
}

/// Calls APIs; holds connections, tokens, rate limits and circuit breakers. One for the whole service.
pub struct Caller {
    clock: Arc<dyn Clock>,
    clients: Clients,
    tokens: Tokens,
    rates: RateLimits,
    breakers: Arc<Breakers>,
}

impl Default for Caller {
    fn default() -> Self {
        Self::new(CallerOptions::default())
    }
}

/// A call waits at most this long for its turn under the API's rate limit.
const MAX_RATE_WAIT: Duration = Duration::from_secs(10);

/// One call on its way.
struct Call<'a> {
    api: &'a Api,
    operation: &'a Operation,
    request: PreparedRequest,
    client: reqwest::Client,
    started: Instant,
    deadline: Instant,
    cancel: &'a CancellationToken,
}

/// How one try ended, other than well.
struct Failure {
    error: ActionError,
    /// Worth another try if the method is idempotent; after how long, where the upstream said.
    retry: Option<Option<Duration>>,
    /// Tokens that the API refused.
    refused: Option<AppliedCredentials>,
}

impl From<ActionError> for Failure {
    fn from(error: ActionError) -> Self {
        Self { error, retry: None, refused: None }
    }
}

impl Caller {
    pub fn new(options: CallerOptions) -> Self {
        Self {
            clients: Clients::new(options.lookup),
            tokens: Tokens::default(),
            rates: RateLimits::new(options.clock.clone()),
            breakers: Breakers::new(options.clock.clone()),
            clock: options.clock,
        }
    }

    /// Calls `operation` (its published name) with an object of arguments. A status other than 2xx is an error.
    ///
    /// Dropping the future, or the body, ends the exchange; so does `cancel`, with `ActionError::Cancelled`.
    pub async fn call(
        &self,
        api: &Arc<Api>,
        operation: &str,
        arguments: &Value,
        cancel: &CancellationToken,
    ) -> Result<UpstreamResponse, ActionError> {
        let started = self.clock.now();
        let name = format!("{}.{operation}", api.name());
        let operation = api.prepare(operation).await?;
        let invalid = |problems| ActionError::InvalidArguments { operation: name.clone(), problems };
        check_arguments(&operation, arguments).map_err(invalid)?;
        let base = api.base_url(&operation.head.name)?;
        let request = build_request(&operation, &base, arguments).map_err(invalid)?;
        let limits = &api.file().limits;
        let client = self
            .clients
            .client(&api.file().allow_hosts, limits.connect_timeout)
            .await
            .map_err(|error| ActionError::Internal(format!("no HTTP client: {error}")))?;
        let deadline = started + limits.timeout;
        let call = Call { api, operation: &operation, request, client, started, deadline, cancel };
        let result = self.try_until_done(&call).await;
        let elapsed_ms = self.clock.now().saturating_duration_since(started).as_millis();
        match &result {
            Ok(response) => {
                tracing::info!(action = %name, status = response.status, attempts = response.attempts,
                elapsed_ms, "action called")
            }
            Err(error) => {
                tracing::warn!(action = %name, kind = error.kind().as_str(), elapsed_ms, "action failed")
            }
        }
        result
    }

    async fn try_until_done(&self, call: &Call<'_>) -> Result<UpstreamResponse, ActionError> {
        let idempotent = retry::is_idempotent(&call.request.method);
        let mut retries = 0;
        let mut renewed = false;
        loop {
            let failure = match self.try_once(call, retries + 1 + u32::from(renewed)).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            if let Some(credentials) = &failure.refused
                && !renewed
            {
                renewed = true;
                for hold in &credentials.tokens {
                    hold.invalidate().await;
                }
                continue;
            }
            let Some(asked) =
                failure.retry.filter(|_| idempotent && retries < call.api.file().limits.max_retries)
            else {
                return Err(failure.error);
            };
            let wait = asked.unwrap_or_default().max(retry::backoff(retries, random()));
            if wait >= call.deadline.saturating_duration_since(self.clock.now()) {
                return Err(failure.error);
            }
            tracing::debug!(api = %call.api.name(), wait_ms = wait.as_millis(), "trying again");
            self.sleep(wait, call.cancel).await?;
            retries += 1;
        }
    }

    async fn sleep(&self, wait: Duration, cancel: &CancellationToken) -> Result<(), ActionError> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(ActionError::Cancelled),
            () = self.clock.sleep(wait) => Ok(()),
        }
    }

    async fn try_once(&self, call: &Call<'_>, attempt: u32) -> Result<UpstreamResponse, Failure> {
        let host = authority(&call.request.url);
        self.wait_for_turn(call).await?;
        let credentials = self.authenticate(call).await?;
        let permit = self.breakers.admit(&host).map_err(|open| ActionError::CircuitOpen {
            host: host.clone(),
            failures: open.failures,
            retry_after: open.retry_after,
        })?;
        let exchange = Exchange {
            api: call.api,
            client: &call.client,
            request: &call.request,
            credentials: &credentials,
            clock: &self.clock,
            deadline: call.deadline,
            timeout: call.api.file().limits.timeout,
            cancel: call.cancel,
        };
        let response = match exchange.send().await {
            Ok(response) => response,
            Err(error) => {
                let failed = matches!(
                    error,
                    ActionError::Connect { .. }
                        | ActionError::UpstreamTimeout { .. }
                        | ActionError::UpstreamProtocol { .. }
                );
                if failed {
                    permit.fail();
                }
                // A connection that broke before any answer is as good as none.
                let retry =
                    matches!(error, ActionError::Connect { .. } | ActionError::UpstreamProtocol { .. });
                let retry = retry.then_some(None);
                return Err(Failure { error, retry, refused: None });
            }
        };
        if response.status().is_success() {
            self.accept(call, response, credentials.data_redactor(), permit, attempt).map_err(Failure::from)
        } else {
            Err(self.refuse(call, response, credentials, permit).await)
        }
    }

    async fn wait_for_turn(&self, call: &Call<'_>) -> Result<(), ActionError> {
        let Some(per_minute) = call.api.file().limits.requests_per_minute else { return Ok(()) };
        let left = call.deadline.saturating_duration_since(self.clock.now());
        let wait = self.rates.reserve(call.api.name().as_str(), per_minute, MAX_RATE_WAIT.min(left));
        let wait = wait.map_err(|retry_after| ActionError::RateLimited {
            api: call.api.name().to_string(),
            per_minute,
            retry_after,
        })?;
        if wait.is_zero() { Ok(()) } else { self.sleep(wait, call.cancel).await }
    }

    async fn authenticate(&self, call: &Call<'_>) -> Result<AppliedCredentials, ActionError> {
        let context = TokenContext { client: &call.client, clock: &*self.clock, deadline: call.deadline };
        let left = call.deadline.saturating_duration_since(self.clock.now());
        tokio::select! {
            biased;
            () = call.cancel.cancelled() => Err(ActionError::Cancelled),
            applied = tokio::time::timeout(left, security::apply(call.api, call.operation, &self.tokens, &context)) => {
                applied.unwrap_or_else(|_| Err(ActionError::UpstreamTimeout {
                    host: format!("the token endpoint of {}", call.api.name()),
                    what: "answer",
                    after: call.api.file().limits.timeout,
                    limit: "timeout_seconds",
                }))
            }
        }
    }

    fn accept(
        &self,
        call: &Call<'_>,
        response: Response,
        redactor: Redactor,
        permit: Permit,
        attempt: u32,
    ) -> Result<UpstreamResponse, ActionError> {
        let limits = &call.api.file().limits;
        let host = authority(response.url());
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING).and_then(|value| value.to_str().ok())
            && !encoding.eq_ignore_ascii_case("identity")
        {
            let reason = format!("it answered in `{encoding}`, which was not asked for");
            return Err(ActionError::UpstreamProtocol { host, reason });
        }
        let has_body = call.request.method != Method::HEAD && response.status() != StatusCode::NO_CONTENT;
        let expected =
            response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let expected = expected.filter(|_| has_body);
        if expected.is_some_and(|length: u64| length > limits.max_response_bytes) {
            return Err(ActionError::ResponseTooLarge { host, limit: limits.max_response_bytes });
        }
        let headers = kept_headers(response.headers(), &redactor);
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.map(|text| redactor.text(text));
        let rules = BodyRules {
            host,
            max_bytes: limits.max_response_bytes,
            idle_timeout: limits.idle_timeout,
            timeout: limits.timeout,
            deadline: call.deadline,
            clock: self.clock.clone(),
            cancel: call.cancel.clone(),
            expected,
        };
        Ok(UpstreamResponse {
            status: response.status().as_u16(),
            content_type,
            headers,
            url: call.request.url.to_string(),
            elapsed: self.clock.now().saturating_duration_since(call.started),
            attempts: attempt,
            content_length: expected,
            body: bounded_body(response.bytes_stream().boxed(), redactor, permit, rules),
        })
    }

    async fn refuse(
        &self,
        call: &Call<'_>,
        response: Response,
        credentials: AppliedCredentials,
        permit: Permit,
    ) -> Failure {
        let status = response.status();
        if status.is_server_error() {
            permit.fail();
        } else {
            permit.succeed();
        }
        let retry_after = retry::retry_after(response.headers(), chrono::Utc::now());
        let host = authority(response.url());
        let left = call.deadline.saturating_duration_since(self.clock.now());
        let excerpt = tokio::time::timeout(left.min(EXCERPT_PATIENCE), read_excerpt(response))
            .await
            .unwrap_or_default();
        let advice = advice(status, credentials.is_anonymous(), retry_after);
        let excerpt = clip(&credentials.message_redactor().text(&excerpt));
        let error =
            ActionError::UpstreamStatus { host, status: status.as_u16(), advice, excerpt, retry_after };
        let refused =
            (status == StatusCode::UNAUTHORIZED && !credentials.tokens.is_empty()).then_some(credentials);
        Failure { error, retry: retry::is_worth_retrying(status).then_some(retry_after), refused }
    }
}

fn random() -> u32 {
    let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests;
