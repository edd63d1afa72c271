//! `steward demo`: the walk of an agent that has credentials and a question, over HTTP.
//!
//! "Did wind or rain delay departures from JFK more?" The flights are in the warehouse, the weather is behind an
//! external API whose answer no context window holds: link, call, search, and one query that joins both.

mod answer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::{Value, json};

use super::output::{print_json, print_line};
use super::{CliError, Exit, http};
use crate::auth::{Credentials, CredentialsError};
use crate::config::Config;
use crate::error::ErrorKind;

pub use answer::{WeatherAnswer, weather_sql};

/// What the demo asks.
pub const QUESTION: &str = "Did wind or rain delay departures from JFK more?";
/// A year of hourly weather is fetched, chunked and indexed within one request.
const TIMEOUT: Duration = Duration::from_secs(180);

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Address of the service [default: where the configuration says that it listens]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Credentials of a client, as `steward client create --credentials-file` writes them
    #[arg(long, value_name = "FILE", default_value = ".steward/demo-agent.json")]
    credentials: PathBuf,
    /// All steps as one JSON document
    #[arg(long)]
    json: bool,
}

/// Why the walk ends early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("there is no {}; start the demo with ./run.sh, which makes it, or name another with --credentials", .path.display())]
    NoCredentials { path: PathBuf },
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("{url} does not answer: {reason}; start the service with ./run.sh, or name another with --url")]
    Unreachable { url: String, reason: String },
    #[error("step {step}: the service answers {status}: {detail}")]
    Refused { step: &'static str, status: u16, detail: String },
    #[error("step {step}: the answer lacks {what}; does this binary fit the service's version?")]
    Unexpected { step: &'static str, what: &'static str },
}

impl DemoError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCredentials { .. } => ErrorKind::NotFound,
            Self::Credentials(error) => error.kind(),
            Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::Refused { .. } | Self::Unexpected { .. } => ErrorKind::UpstreamFailed,
        }
    }
}

/// One request of the walk. Holds neither token nor secret.
#[derive(Debug, Clone, Serialize)]
pub struct DemoStep {
    pub name: &'static str,
    pub method: &'static str,
    pub path: String,
    pub request: Value,
    pub status: u16,
    pub response: Value,
    pub elapsed_ms: u64,
    /// What came back, in a line.
    pub summary: String,
}

/// The whole walk.
#[derive(Debug, Clone, Serialize)]
pub struct DemoReport {
    pub question: &'static str,
    pub steps: Vec<DemoStep>,
    pub answer: WeatherAnswer,
    pub sentence: String,
}

pub async fn run(config: Config, args: DemoArgs) -> Result<Exit, CliError> {
    let credentials = Credentials::read(&args.credentials).map_err(DemoError::from)?;
    let credentials = credentials.ok_or(DemoError::NoCredentials { path: args.credentials })?;
    let base_url = match args.url {
        Some(url) => http::base_url(&url)?,
        None => http::local_url(&config),
    };
    if args.json {
        print_json(&walk(&base_url, &credentials).await?)?;
        return Ok(Exit::Done);
    }
    print_line(&format!("An agent asks: {QUESTION}\n"))?;
    let mut number = 0;
    let report = walk_with(&base_url, &credentials, |step| {
        number += 1;
        let shown = format!(
            "{number}. {} {}\n   {} ({} ms)\n",
            step.method, step.path, step.summary, step.elapsed_ms
        );
        print_line(&shown)
    })
    .await?;
    print_line(&report.sentence)?;
    Ok(Exit::Done)
}

/// Walks through the demo as a client of the service at `base_url`.
pub async fn walk(base_url: &str, credentials: &Credentials) -> Result<DemoReport, DemoError> {
    walk_with(base_url, credentials, |_| Ok(())).await
}

async fn walk_with<E: From<DemoError>>(
    base_url: &str,
    credentials: &Credentials,
    mut told: impl FnMut(&DemoStep) -> Result<(), E>,
) -> Result<DemoReport, E> {
    let mut agent = Agent::new(base_url)?;
    let mut steps = Vec::new();
    let mut keep = |step: DemoStep| {
        told(&step)?;
        steps.push(step);
        Ok::<(), E>(())
    };

    keep(agent.sign_in(credentials).await?)?;

    let request = json!({"question": QUESTION, "budget_tokens": 4000});
    let mut step = agent.post("link", "/v1/semantic/link", request).await?;
    step.summary = summary_of_link(&step.response);
    keep(step)?;

    const WHAT: &str = "heavy rain and strong wind at JFK";
    let request = json!({
        "arguments": {"origin": "JFK", "from": "2013-01-01", "to": "2013-12-31"}, "query": WHAT, "respond": "auto",
    });
    let mut step = agent.post("call", "/v1/actions/weather/get_hourly", request).await?;
    let handle = step.response.clone();
    let text = |name: &str| handle[name].as_str().unwrap_or_default().to_owned();
    let (document_id, index, table) = (text("document_id"), text("index"), text("table"));
    if handle["stored"] != Value::Bool(true) || document_id.is_empty() {
        return Err(DemoError::Unexpected { step: "call", what: "the handle of a stored document" }.into());
    }
    let count = |name: &str| grouped(handle[name].as_u64().unwrap_or_default());
    step.summary = format!(
        "too large to hand over: {} bytes, {} tokens; stored in {index} as {} chunks, and as the table {table}",
        count("bytes"),
        count("tokens"),
        count("chunks"),
    );
    keep(step)?;
    let sql =
        weather_sql(&table).ok_or(DemoError::Unexpected { step: "call", what: "a table of its records" })?;

    let request = json!({"query": WET_DAY, "document_id": document_id, "mode": "text", "k": 3});
    let mut step = agent.post("search", &format!("/v1/rag/{index}/search"), request).await?;
    step.summary = summary_of_search(&step.response);
    keep(step)?;

    let mut step = agent.post("query", "/v1/sql/run", json!({"sql": sql})).await?;
    let row = step.response["rows"][0].clone();
    let answer: WeatherAnswer = serde_json::from_value(row)
        .map_err(|_| DemoError::Unexpected { step: "query", what: "the numbers asked for" })?;
    step.summary = format!(
        "one query over the warehouse and the API's answer: {} flights matched with the weather of their hour",
        grouped(answer.matched_flights)
    );
    keep(step)?;

    let sentence = answer.sentence();
    Ok(DemoReport { question: QUESTION, steps, answer, sentence })
}

/// The wettest day of the year at JFK, with what its records call rain and wind.
const WET_DAY: &str = "2013-06-07 precip wind_gust";

/// A client of the service.
struct Agent {
    base_url: String,
    client: reqwest::Client,
    token: Option<secrecy::SecretString>,
}

impl Agent {
    fn new(base_url: &str) -> Result<Self, DemoError> {
        let base_url = base_url.trim_end_matches('/').to_owned();
        let client = http::client(&base_url, TIMEOUT).map_err(|error| DemoError::Unreachable {
            url: base_url.clone(),
            reason: http::reason(&error),
        })?;
        Ok(Self { base_url, client, token: None })
    }

    async fn sign_in(&mut self, credentials: &Credentials) -> Result<DemoStep, DemoError> {
        const STEP: &str = "token";
        // The secret goes to the service that was named, whatever another address the file has.
        let path = match credentials.token_url.strip_prefix(&self.base_url) {
            Some(path) if path.starts_with('/') => path.to_owned(),
            _ => "/oauth/token".to_owned(),
        };
        let request = self
            .client
            .post(format!("{}{path}", self.base_url))
            .basic_auth(&credentials.client_id, Some(credentials.client_secret.expose_secret()))
            .form(&[("grant_type", "client_credentials")]);
        let shown = json!({"grant_type": "client_credentials", "client_id": credentials.client_id});
        let mut step = self.send(STEP, path, request, shown).await?;
        let token = step.response["access_token"].take();
        let token = token.as_str().ok_or(DemoError::Unexpected { step: STEP, what: "an access token" })?;
        self.token = Some(secrecy::SecretString::from(token.to_owned()));
        if let Some(members) = step.response.as_object_mut() {
            members.remove("access_token");
        }
        let seconds = step.response["expires_in"].as_u64().unwrap_or_default();
        let scopes = step.response["scope"].as_str().unwrap_or_default();
        step.summary = format!("a token for {seconds} s, which allows {scopes}");
        Ok(step)
    }

    async fn post(&self, step: &'static str, path: &str, body: Value) -> Result<DemoStep, DemoError> {
        let mut request = self.client.post(format!("{}{path}", self.base_url)).json(&body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        self.send(step, path.to_owned(), request, body).await
    }

    async fn send(
        &self,
        step: &'static str,
        path: String,
        request: reqwest::RequestBuilder,
        shown: Value,
    ) -> Result<DemoStep, DemoError> {
        let unreachable = |error: reqwest::Error| DemoError::Unreachable {
            url: format!("{}{path}", self.base_url),
            reason: http::reason(&error),
        };
        let started = Instant::now();
        let answer = request.header("Accept", "application/json").send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(unreachable)?;
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let response: Option<Value> = serde_json::from_slice(&body).ok();
        if !status.is_success() {
            let detail = refusal_text(response.as_ref(), &body);
            return Err(DemoError::Refused { step, status: status.as_u16(), detail });
        }
        let response = response.ok_or(DemoError::Unexpected { step, what: "JSON" })?;
        let status = status.as_u16();
        Ok(DemoStep {
            name: step,
            method: "POST",
            path,
            request: shown,
            status,
            response,
            elapsed_ms,
            summary: String::new(),
        })
    }
}

/// RFC 9457's detail, RFC 6749's description, or the beginning of whatever came.
fn refusal_text(problem: Option<&Value>, body: &[u8]) -> String {
    let told = ["detail", "error_description", "title", "error"]
        .iter()
        .find_map(|name| problem?.get(*name)?.as_str().map(str::to_owned));
    told.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(300).collect())
}

fn summary_of_link(answer: &Value) -> String {
    let tokens = answer["tokens"].as_u64().unwrap_or_default();
    let items = answer["items"].as_array().map_or(0, Vec::len);
    let action = answer["actions"][0]["name"].as_str().unwrap_or("none");
    format!("{items} things to know in {} tokens; the best external operation: {action}", grouped(tokens))
}

fn summary_of_search(answer: &Value) -> String {
    let hits = answer["hits"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    let Some(best) = hits.first() else { return "no chunk fits".to_owned() };
    let place = |name: &str| best[name].as_str().unwrap_or_default();
    let text: String =
        best["text"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let begin: String = text.chars().take(160).collect();
    format!(
        "{} chunks; the best is {} to {}: {begin} …",
        hits.len(),
        place("pointer_first"),
        place("pointer_last")
    )
}

/// 2,345,678.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
