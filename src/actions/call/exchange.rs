//! One try of a request: connect, send, follow redirects by the egress rules, up to the head of the answer.
//!
//! X1 once a redirect has left the origin, credentials and cookies stay behind for good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderValue, LOCATION};
use reqwest::{Method, Response};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::catalog::Api;
use super::super::clock::Clock;
use super::super::error::ActionError;
use super::super::net::redirect::{MAX_REDIRECTS, is_redirect, next_hop};
use super::super::net::{authority, check_url, egress_refusal, root_cause};
use super::super::request::{PreparedRequest, UNRESERVED};
use super::super::security::AppliedCredentials;

/// What one try needs.
pub struct Exchange<'a> {
    pub api: &'a Api,
    pub client: &'a reqwest::Client,
    pub request: &'a PreparedRequest,
    pub credentials: &'a AppliedCredentials,
    pub clock: &'a Arc<dyn Clock>,
    pub deadline: Instant,
    pub timeout: Duration,
    pub cancel: &'a CancellationToken,
}

impl Exchange<'_> {
    /// The head of the final answer, whatever its status.
    pub async fn send(&self) -> Result<Response, ActionError> {
        let mut url = self.request.url.clone();
        let mut method = self.request.method.clone();
        let mut with_body = true;
        let mut at_home = true;
        for _ in 0..=MAX_REDIRECTS {
            check_url(&url, &self.api.file().allow_hosts)?;
            let response = self.hop(&url, &method, with_body, at_home).await?;
            let status = response.status();
            let location = response.headers().get(LOCATION).filter(|_| is_redirect(status));
            let Some(location) = location else { return Ok(response) };
            // A Location may hold any octets; browsers read them as UTF-8.
            let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
            let hop = next_hop(&url, &method, status, &location, &self.api.file().allow_redirect_hosts)
                .map_err(|reason| self.refused(&url, &location, reason))?;
            (url, method) = (hop.url, hop.method);
            with_body &= hop.keep_body;
            at_home &= hop.same_origin;
        }
        Err(ActionError::TooManyRedirects { host: authority(&self.request.url), limit: MAX_REDIRECTS })
    }

    /// Names the target's scheme and host alone: what follows may hold a token.
    fn refused(&self, from: &Url, location: &str, reason: String) -> ActionError {
        let target = match from.join(location) {
            Ok(url) if url.has_host() => format!("{}://{}", url.scheme(), authority(&url)),
            Ok(url) => format!("{}:", url.scheme()),
            Err(_) => "(no URL)".to_owned(),
        };
        let target = self.credentials.message_redactor().text(&target);
        ActionError::RedirectRefused { host: authority(from), target, reason }
    }

    async fn hop(
        &self,
        url: &Url,
        method: &Method,
        with_body: bool,
        at_home: bool,
    ) -> Result<Response, ActionError> {
        let mut headers = self.request.headers.clone();
        if !with_body {
            headers.remove(CONTENT_TYPE);
        }
        let mut target = url.clone();
        self.set_query(&mut target, at_home);
        if at_home {
            for (name, value) in &self.credentials.headers {
                headers.insert(name.clone(), value.clone());
            }
            if let Some(cookies) = self.cookies()? {
                headers.insert(COOKIE, cookies);
            }
        }
        let mut request = self.client.request(method.clone(), target).headers(headers);
        if with_body && let Some(body) = &self.request.body {
            request = request.body(body.clone());
        }
        let limits = &self.api.file().limits;
        let left = self.deadline.saturating_duration_since(self.clock.now());
        let patience = left.min(limits.connect_timeout + limits.idle_timeout);
        let answer = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(ActionError::Cancelled),
            answer = tokio::time::timeout(patience, request.send()) => answer,
        };
        match answer {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.failed(url, &error)),
            Err(_) if patience < left => Err(ActionError::UpstreamTimeout {
                host: authority(url),
                what: "begin its answer",
                after: limits.idle_timeout,
                limit: "idle_timeout_seconds",
            }),
            Err(_) => Err(ActionError::UpstreamTimeout {
                host: authority(url),
                what: "answer",
                after: self.timeout,
                limit: "timeout_seconds",
            }),
        }
    }

    fn failed(&self, url: &Url, error: &reqwest::Error) -> ActionError {
        if let Some(refusal) = egress_refusal(error) {
            return ActionError::Egress(refusal);
        }
        let host = authority(url);
        if error.is_connect() {
            let reason = if error.is_timeout() { "it took too long".to_owned() } else { root_cause(error) };
            return ActionError::Connect { host, reason };
        }
        let reason = self.credentials.message_redactor().text(&root_cause(error));
        ActionError::UpstreamProtocol { host, reason: format!("no proper answer came ({reason})") }
    }

    /// Puts API keys into the query at home, replacing members of their names; takes them out elsewhere.
    fn set_query(&self, url: &mut Url, at_home: bool) {
        if self.credentials.query.is_empty() {
            return;
        }
        let is_key = |pair: &str| {
            let name = pair.split('=').next().unwrap_or_default();
            let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
            self.credentials.query.iter().any(|(key, _)| *key == name)
        };
        let mut pairs: Vec<String> = url
            .query()
            .map(|query| {
                query.split('&').filter(|pair| !pair.is_empty() && !is_key(pair)).map(str::to_owned).collect()
            })
            .unwrap_or_default();
        if at_home {
            let encode = |text: &str| percent_encoding::utf8_percent_encode(text, UNRESERVED).to_string();
            for (name, value) in &self.credentials.query {
                pairs.push(format!("{}={}", encode(name), encode(value.expose_secret())));
            }
        }
        url.set_query(if pairs.is_empty() { None } else { Some(pairs.join("&")) }.as_deref());
    }

    fn cookies(&self) -> Result<Option<HeaderValue>, ActionError> {
        let own = |name: &str| self.credentials.cookies.iter().any(|(key, _)| key == name);
        let mut cookies: Vec<String> = self
            .request
            .cookies
            .iter()
            .filter(|(name, _)| !own(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        for (name, value) in &self.credentials.cookies {
            // Sent as it is: servers compare cookies literally. What would end the cookie is refused.
            let value = value.expose_secret();
            if value.contains([';', ',', ' ', '"', '\\']) || value.chars().any(char::is_control) {
                return Err(ActionError::CredentialMismatch {
                    api: self.api.name().to_string(),
                    scheme: name.clone(),
                    reason: "the value holds characters that no cookie may hold".to_owned(),
                });
            }
            cookies.push(format!("{name}={value}"));
        }
        if cookies.is_empty() {
            return Ok(None);
        }
        let mut header = HeaderValue::from_str(&cookies.join("; "))
            .map_err(|_| ActionError::Internal("a cookie does not fit into a header".to_owned()))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}
