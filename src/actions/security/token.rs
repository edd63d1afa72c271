//! OAuth2 access tokens for external APIs: fetched, kept until shortly before they expire, fetched once for all who wait.
//!
//! T1 a token endpoint is https, unless its host is listed as an inner one. T2 no redirect is followed with a secret.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::super::catalog::Api;
use super::super::clock::Clock;
use super::super::error::ActionError;
use super::super::file::{ClientAuthentication, Credential, OAuthCredential};
use super::super::net::{authority, check_url, egress_refusal, host_text, root_cause};
use super::super::spec::{Scheme, SchemeUse};
use super::read_secret;
use super::redact::Redactor;

/// A token is renewed this long before it expires, or at half its life if that is shorter.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);
/// For endpoints that do not say how long a token lives.
const ASSUMED_LIFE: Duration = Duration::from_secs(300);
/// No token answer or discovery document is larger.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// What a token request needs of its call.
pub struct TokenContext<'a> {
    pub client: &'a reqwest::Client,
    pub clock: &'a dyn Clock,
    /// When the call as a whole is over.
    pub deadline: Instant,
}

/// A token in use.
#[derive(Clone)]
pub struct TokenHold {
    pub token: SecretString,
    slot: Arc<tokio::sync::Mutex<Slot>>,
    generation: u64,
}

#[derive(Default)]
struct Slot {
    /// Of the action file that the token was fetched for.
    fingerprint: u64,
    generation: u64,
    current: Option<(SecretString, Instant)>,
    /// The refresh token as configured when it was rotated, and what the endpoint gave in its place.
    rotated: Option<(SecretString, SecretString)>,
    /// OpenID Connect: the token endpoint, as discovered.
    discovered: Option<Url>,
}

/// One slot for each API, scheme and set of scopes.
#[derive(Default)]
pub struct Tokens {
    slots: Mutex<HashMap<(String, String, String), Arc<tokio::sync::Mutex<Slot>>>>,
}

impl TokenHold {
    /// Drops the token, unless somebody renewed it already.
    pub async fn invalidate(&self) {
        let mut slot = self.slot.lock().await;
        if slot.generation == self.generation {
            slot.current = None;
        }
    }
}

/// The parts of a token request, read.
struct Grant {
    fields: Vec<(&'static str, SecretString)>,
    client: Option<(SecretString, Option<SecretString>)>,
    client_authentication: ClientAuthentication,
    refresh_token: Option<SecretString>,
}

impl Tokens {
    /// A valid token, from the slot or from the endpoint.
    pub async fn token(
        &self,
        api: &Api,
        one: &SchemeUse,
        scheme: &Scheme,
        credential: &Credential,
        context: &TokenContext<'_>,
    ) -> Result<TokenHold, ActionError> {
        let scopes = scopes_for(one, credential);
        let key = (api.name().to_string(), one.scheme.clone(), scopes.clone());
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(key).or_default().clone()
        };
        // Held while fetching: whoever comes meanwhile waits for this token.
        let mut held = slot.lock().await;
        if held.fingerprint != api.fingerprint() {
            // A rotated refresh token outlives the reload: the configured one is void by now.
            let rotated = held.rotated.take();
            *held = Slot {
                fingerprint: api.fingerprint(),
                generation: held.generation,
                rotated,
                ..Slot::default()
            };
        }
        if let Some((token, until)) = &held.current
            && context.clock.now() < *until
        {
            return Ok(TokenHold { token: token.clone(), slot: slot.clone(), generation: held.generation });
        }
        let request = TokenRequest { api, one, context };
        let fetched = match request.fetch(scheme, credential, &scopes, &mut held).await {
            Ok(fetched) => fetched,
            Err(error) => {
                // The endpoint may have moved.
                held.discovered = None;
                return Err(error);
            }
        };
        held.generation += 1;
        held.current = Some(fetched.clone());
        Ok(TokenHold { token: fetched.0, slot: slot.clone(), generation: held.generation })
    }
}

/// The scopes to ask for; the operation's, unless the action file says otherwise. A refresh token has its own.
fn scopes_for(one: &SchemeUse, credential: &Credential) -> String {
    match credential {
        Credential::OAuth(OAuthCredential { scopes: Some(scopes), .. }) => scopes.join(" "),
        Credential::OAuth(OAuthCredential { refresh_token: Some(_), .. }) => String::new(),
        _ => one.scopes.join(" "),
    }
}

struct TokenRequest<'a> {
    api: &'a Api,
    one: &'a SchemeUse,
    context: &'a TokenContext<'a>,
}

impl TokenRequest<'_> {
    fn mismatch(&self, reason: impl Into<String>) -> ActionError {
        ActionError::CredentialMismatch {
            api: self.api.name().to_string(),
            scheme: self.one.scheme.clone(),
            reason: reason.into(),
        }
    }

    fn failed(&self, url: &Url, reason: impl Into<String>) -> ActionError {
        ActionError::Token { api: self.api.name().to_string(), host: authority(url), reason: reason.into() }
    }

    async fn fetch(
        &self,
        scheme: &Scheme,
        credential: &Credential,
        scopes: &str,
        slot: &mut Slot,
    ) -> Result<(SecretString, Instant), ActionError> {
        let grant = self.read_grant(credential, scopes, slot).await?;
        let url = self.token_url(scheme, credential, slot).await?;
        let redactor = Redactor::for_messages(
            grant
                .fields
                .iter()
                .filter(|(name, _)| matches!(*name, "password" | "refresh_token"))
                .map(|(_, s)| s)
                .chain(grant.client.iter().filter_map(|(_, secret)| secret.as_ref())),
        );
        let answer = self.ask(&url, &grant, &redactor).await?;
        let text = |key: &str| answer.get(key).and_then(Value::as_str);
        let token = text("access_token").filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.failed(&url, "its answer holds no access_token"))?;
        if let Some(kind) = text("token_type")
            && !kind.eq_ignore_ascii_case("bearer")
        {
            return Err(
                self.failed(&url, format!("it gave a token of type `{kind}`; only bearer is supported"))
            );
        }
        if let (Some(configured), Some(new)) = (&grant.refresh_token, text("refresh_token")) {
            if new != grant.field("refresh_token") {
                tracing::warn!(api = %self.api.name(), scheme = %self.one.scheme,
                    "token endpoint rotates refresh tokens; the newest is kept in memory only");
            }
            slot.rotated = Some((configured.clone(), SecretString::from(new)));
        }
        let life = match answer.get("expires_in") {
            Some(Value::Number(seconds)) => seconds.as_f64().unwrap_or(0.0),
            Some(Value::String(seconds)) => seconds.parse().unwrap_or(ASSUMED_LIFE.as_secs_f64()),
            _ => ASSUMED_LIFE.as_secs_f64(),
        };
        // A year at most: what an endpoint may say is not what `Instant` can hold.
        let life = Duration::from_secs_f64(life.clamp(0.0, 31_536_000.0));
        let until = self.context.clock.now() + (life - EXPIRY_MARGIN.min(life / 2));
        tracing::debug!(api = %self.api.name(), scheme = %self.one.scheme, life_seconds = life.as_secs(), "token fetched");
        Ok((SecretString::from(token), until))
    }

    async fn read_grant(
        &self,
        credential: &Credential,
        scopes: &str,
        slot: &Slot,
    ) -> Result<Grant, ActionError> {
        let read = |reference| read_secret(self.api, &self.one.scheme, reference);
        let word = |text: &str| SecretString::from(text.to_owned());
        let mut grant = Grant {
            fields: Vec::new(),
            client: None,
            client_authentication: ClientAuthentication::default(),
            refresh_token: None,
        };
        match credential {
            Credential::Basic { username, password } => {
                grant.fields.push(("grant_type", word("password")));
                grant.fields.push(("username", read(username).await?));
                grant.fields.push(("password", read(password).await?));
            }
            Credential::OAuth(oauth) => {
                let secret = match &oauth.client_secret {
                    Some(reference) => Some(read(reference).await?),
                    None => None,
                };
                grant.client = Some((read(&oauth.client_id).await?, secret));
                grant.client_authentication = oauth.client_authentication;
                match (&oauth.refresh_token, &oauth.username, &oauth.password) {
                    (Some(reference), ..) => {
                        let configured = read(reference).await?;
                        let newest = match &slot.rotated {
                            Some((was, newest)) if was.expose_secret() == configured.expose_secret() => {
                                newest.clone()
                            }
                            _ => configured.clone(),
                        };
                        grant.fields.push(("grant_type", word("refresh_token")));
                        grant.fields.push(("refresh_token", newest));
                        grant.refresh_token = Some(configured);
                    }
                    (None, Some(username), Some(password)) => {
                        grant.fields.push(("grant_type", word("password")));
                        grant.fields.push(("username", read(username).await?));
                        grant.fields.push(("password", read(password).await?));
                    }
                    (None, None, None) => grant.fields.push(("grant_type", word("client_credentials"))),
                    _ => return Err(self.mismatch("the password grant needs both `username` and `password`")),
                }
            }
            Credential::ApiKey { .. } | Credential::Bearer { .. } => {
                return Err(self.mismatch("it needs client_id and client_secret"));
            }
        }
        if !scopes.is_empty() {
            grant.fields.push(("scope", word(scopes)));
        }
        Ok(grant)
    }

    async fn token_url(
        &self,
        scheme: &Scheme,
        credential: &Credential,
        slot: &mut Slot,
    ) -> Result<Url, ActionError> {
        let own = match credential {
            Credential::OAuth(oauth) => oauth.token_url.clone(),
            _ => None,
        };
        let stated = match (own, scheme) {
            (Some(url), _) => url,
            (None, Scheme::OpenIdConnect { discovery_url }) => {
                if let Some(url) = &slot.discovered {
                    return Ok(url.clone());
                }
                let url = self.discover(discovery_url).await?;
                slot.discovered = Some(url.clone());
                return Ok(url);
            }
            (None, Scheme::OAuth2(flows)) => {
                let url = match credential {
                    Credential::OAuth(oauth) if oauth.refresh_token.is_some() => &flows.refresh,
                    Credential::OAuth(oauth) if oauth.username.is_none() => &flows.client_credentials,
                    _ => &flows.password,
                };
                let any = url.as_ref().or(flows.client_credentials.as_ref()).or(flows.password.as_ref());
                any.or(flows.refresh.as_ref()).cloned().ok_or_else(|| {
                    self.mismatch("the document names no token URL; add `token_url` to the credential")
                })?
            }
            (None, _) => return Err(self.mismatch("it has no token endpoint")),
        };
        self.endpoint(&stated)
    }

    /// Checks an endpoint that secrets go to; relative ones start from the API's base URL.
    fn endpoint(&self, text: &str) -> Result<Url, ActionError> {
        let url = Url::parse(text)
            .or_else(|_| {
                self.api.default_base()?.join(text).map_err(|_| self.mismatch("its token URL is not a URL"))
            })
            .map_err(|_: ActionError| self.mismatch("its token URL is not a URL"))?;
        check_url(&url, &self.api.file().allow_hosts)?;
        if url.scheme() != "https" && !self.api.file().allow_hosts.contains(&host_text(&url)) {
            return Err(
                self.mismatch("its token URL is not https; secrets are sent over http only to allow_hosts")
            );
        }
        Ok(url)
    }

    async fn discover(&self, discovery_url: &str) -> Result<Url, ActionError> {
        let url = self.endpoint(discovery_url)?;
        let request = self.context.client.get(url.clone()).header(ACCEPT, "application/json");
        let answer = self.answer(&url, request, &Redactor::default()).await?;
        let endpoint = answer.get("token_endpoint").and_then(Value::as_str);
        self.endpoint(
            endpoint.ok_or_else(|| self.failed(&url, "its discovery document names no token_endpoint"))?,
        )
    }

    async fn ask(&self, url: &Url, grant: &Grant, redactor: &Redactor) -> Result<Value, ActionError> {
        let mut fields: Vec<(&str, &SecretString)> =
            grant.fields.iter().map(|(name, value)| (*name, value)).collect();
        let mut request = self.context.client.post(url.clone()).header(ACCEPT, "application/json");
        if let Some((id, secret)) = &grant.client {
            match (secret, grant.client_authentication) {
                (Some(secret), ClientAuthentication::Basic) => {
                    request = request.header(AUTHORIZATION, self.basic(id, secret)?);
                }
                (secret, _) => {
                    fields.push(("client_id", id));
                    fields.extend(secret.as_ref().map(|secret| ("client_secret", secret)));
                }
            }
        }
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields.iter().map(|(name, value)| (name, value.expose_secret())))
            .finish();
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        self.answer(url, request, redactor).await
    }

    /// RFC 6749, section 2.3.1: both parts are form-encoded first.
    fn basic(&self, id: &SecretString, secret: &SecretString) -> Result<HeaderValue, ActionError> {
        let encode = |s: &SecretString| {
            url::form_urlencoded::byte_serialize(s.expose_secret().as_bytes()).collect::<String>()
        };
        let pair = BASE64_STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
        let mut value = HeaderValue::from_str(&format!("Basic {pair}"))
            .map_err(|_| self.mismatch("the client's id or secret cannot stand in a header"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn answer(
        &self,
        url: &Url,
        request: reqwest::RequestBuilder,
        redactor: &Redactor,
    ) -> Result<Value, ActionError> {
        let now = self.context.clock.now();
        let left =
            self.context.deadline.saturating_duration_since(now).min(self.api.file().limits.idle_timeout);
        let exchange = async {
            let response = request.send().await.map_err(|error| match egress_refusal(&error) {
                Some(refusal) => ActionError::Egress(refusal),
                None => self.failed(url, root_cause(&error)),
            })?;
            let status = response.status();
            let mut body = Vec::new();
            let mut stream = response.bytes_stream();
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| self.failed(url, root_cause(&error)))?;
                body.extend_from_slice(&piece);
                if body.len() > MAX_ANSWER_BYTES {
                    return Err(self.failed(url, "its answer is far too long"));
                }
            }
            Ok((status, body))
        };
        let (status, body) = tokio::time::timeout(left, exchange)
            .await
            .map_err(|_| self.failed(url, "it did not answer in time"))??;
        if status.is_redirection() {
            return Err(
                self.failed(url, "it redirects, which is not followed; set `token_url` to its new address")
            );
        }
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        if !status.is_success() {
            // RFC 6749, section 5.2: `error` and `error_description`.
            let part = |key: &str| {
                answer.as_ref().and_then(|a| a.get(key)).and_then(Value::as_str).unwrap_or_default()
            };
            let said: String =
                format!("{} {}", part("error"), part("error_description")).chars().take(300).collect();
            let reason =
                format!("it answered {} {}; check the client's credentials", status.as_u16(), said.trim());
            return Err(self.failed(url, redactor.text(&reason)));
        }
        answer.filter(Value::is_object).ok_or_else(|| self.failed(url, "its answer is not a JSON object"))
    }
}

impl Grant {
    fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value.expose_secret())
    }
}
