//! SQL from questions over HTTP: one answer, or events on the way to it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use poem::Request;
use poem::web::sse::Event;
use poem_openapi::payload::{EventStream, Json};
use poem_openapi::types::ToJSON as _;
use poem_openapi::{ApiResponse, Object, OpenApi};
use tokio::sync::mpsc;

use super::ApiTag;
use super::caller::{ApiScope, Caller, failed};
use super::problem::{ApiError, Problem};
use super::sql::ResultColumn;
use crate::engine::{Context, Engine, EngineError, GenerateRequest, GeneratedAnswer, Generation, Progress};

/// Silence after which a comment tells proxies that the stream is alive, and finds out whether anybody still reads.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct SqlGenerateRequest {
    /// What you want to know, in words.
    pub question: String,
    /// Most tokens of the linked context, estimated from above; 400 to 100,000.
    #[oai(default = "default_budget")]
    pub budget_tokens: u32,
}

fn default_budget() -> u32 {
    4_000
}

/// The verified query behind an answer.
#[derive(Debug, Object)]
pub struct VerifiedProvenance {
    /// model.query
    pub name: String,
    /// True: this is the verified SQL itself. False: the language model says that it began from there.
    pub exact: bool,
}

/// Tokens as the language model's endpoint counted them, repairs included.
#[derive(Debug, Object)]
pub struct TokenUsage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

#[derive(Debug, Object)]
pub struct SqlGenerateAnswer {
    /// False: not answerable from this model; `missing` says what it lacks.
    pub answerable: bool,
    /// Passed the guard and the planner; run it as it is.
    pub sql: Option<String>,
    /// The query as it would run.
    pub secured_sql: Option<String>,
    /// What the query computes, by which definitions.
    pub explanation: String,
    /// Relations that it reads.
    pub datasets: Vec<String>,
    /// Scopes that running it takes.
    pub scopes_needed: Vec<String>,
    /// Columns of the result.
    pub columns: Vec<ResultColumn>,
    /// What the data lacks.
    pub missing: Vec<String>,
    pub verified_query: Option<VerifiedProvenance>,
    /// How often SQL that did not pass was mended.
    pub repairs: u32,
    /// The language model that wrote it; absent if none was asked.
    pub model: Option<String>,
    /// Absent where the endpoint does not count.
    pub usage: Option<TokenUsage>,
}

/// A step of the generation. The event's type is `step`.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct SqlGenerateEvent {
    /// linking, asking, checking, repairing; done or failed is the last.
    pub step: String,
    /// Of asking and repairing: for which time, from 1.
    pub number: Option<u32>,
    /// Of repairing: why the SQL did not pass.
    pub reason: Option<String>,
    /// Of done.
    pub answer: Option<SqlGenerateAnswer>,
    /// Of failed.
    pub problem: Option<Problem>,
}

/// The answer as JSON, or the way to it as `text/event-stream`.
#[derive(ApiResponse)]
#[expect(clippy::large_enum_variant, reason = "one a request, and payloads cannot be boxed")]
pub enum SqlGenerateResponse {
    #[oai(status = 200)]
    Answer(Json<SqlGenerateAnswer>),
    #[oai(status = 200)]
    Events(EventStream<BoxStream<'static, SqlGenerateEvent>>),
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(prefix_path = "/v1/sql", tag = "ApiTag::Sql")]
impl Api {
    /// Generate checked SQL from a question. With Accept: text/event-stream, the steps come as events. Without a
    /// language model, 501 with the linked `context`, for a model of your own.
    #[oai(path = "/generate", method = "post", operation_id = "sql_generate")]
    async fn generate(
        &self,
        #[oai(scope = "ApiScope::SqlGenerate")] caller: Caller,
        request: &Request,
        body: Json<SqlGenerateRequest>,
    ) -> Result<SqlGenerateResponse, ApiError> {
        let failed = failed(&self.0, &caller.0);
        let asked =
            GenerateRequest { question: body.0.question, budget_tokens: body.0.budget_tokens as usize };
        if !wants_events(request.header("accept").unwrap_or_default()) {
            let found = self.0.sql_generate(&caller.0, &asked, &|_| {}).await.map_err(failed)?;
            return Ok(SqlGenerateResponse::Answer(Json(answer(found))));
        }
        let request_id = caller.0.request_id.clone();
        let mut steps = steps(self.0.clone(), caller.0.clone(), asked).boxed();
        // What fails before anything takes long is an error with a status of its own.
        let first = match steps.next().await {
            Some(Step::End(outcome)) => Step::End(Ok(outcome.map_err(failed)?)),
            Some(step) => step,
            None => return Err(failed(EngineError::Interrupted)),
        };
        let events = stream::once(async { first }).chain(steps).map(move |step| event(step, &request_id));
        let events = EventStream::new(events.boxed())
            .to_event(|event| Event::message(event.to_json_string()).event_type(event.step))
            .keep_alive(KEEP_ALIVE);
        Ok(SqlGenerateResponse::Events(events))
    }
}

/// Whether events are among what is accepted (RFC 9110 section 12.5.1).
fn wants_events(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_events = parts.next().is_some_and(|text| text.eq_ignore_ascii_case("text/event-stream"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        is_events && weight.is_ok_and(|weight| weight > 0.0)
    })
}

enum Step {
    Progress(Progress),
    End(Result<Generation, EngineError>),
}

/// The generation as a stream that ends with its outcome. It works only while it is read, and ends when dropped: a
/// caller who hangs up stops it.
fn steps(
    engine: Arc<Engine>,
    context: Context,
    request: GenerateRequest,
) -> impl stream::Stream<Item = Step> {
    // A handful of messages: a few for each of a bounded number of repairs.
    let (sender, receiver) = mpsc::unbounded_channel();
    let work = async move {
        let progress = |step| {
            let _ = sender.send(Step::Progress(step));
        };
        let outcome = engine.sql_generate(&context, &request, &progress).await;
        let _ = sender.send(Step::End(outcome));
    };
    stream::unfold((receiver, Some(Box::pin(work))), |(mut receiver, mut work)| async move {
        loop {
            let Some(working) = &mut work else {
                return receiver.recv().await.map(|step| (step, (receiver, work)));
            };
            tokio::select! {
                biased;
                step = receiver.recv() => return step.map(|step| (step, (receiver, work))),
                () = working => work = None,
            }
        }
    })
}

fn event(step: Step, request_id: &str) -> SqlGenerateEvent {
    let named = |step: &str| SqlGenerateEvent {
        step: step.to_owned(),
        number: None,
        reason: None,
        answer: None,
        problem: None,
    };
    match step {
        Step::Progress(Progress::Linking) => named("linking"),
        Step::Progress(Progress::Asking { attempt }) => {
            SqlGenerateEvent { number: Some(attempt), ..named("asking") }
        }
        Step::Progress(Progress::Checking) => named("checking"),
        Step::Progress(Progress::Repairing { repair, reason }) => {
            SqlGenerateEvent { number: Some(repair), reason: Some(reason), ..named("repairing") }
        }
        Step::End(Ok(found)) => SqlGenerateEvent { answer: Some(answer(found)), ..named("done") },
        Step::End(Err(error)) => {
            SqlGenerateEvent { problem: Some(Problem::of(request_id, &error)), ..named("failed") }
        }
    }
}

fn answer(found: Generation) -> SqlGenerateAnswer {
    let Generation { answer, spent } = found;
    let usage = spent.usage.map(|usage| TokenUsage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
    });
    let nothing = SqlGenerateAnswer {
        answerable: false,
        sql: None,
        secured_sql: None,
        explanation: String::new(),
        datasets: Vec::new(),
        scopes_needed: Vec::new(),
        columns: Vec::new(),
        missing: Vec::new(),
        verified_query: None,
        repairs: spent.repairs,
        model: spent.model,
        usage,
    };
    match answer {
        GeneratedAnswer::NotAnswerable { missing, explanation } => {
            SqlGenerateAnswer { missing, explanation, ..nothing }
        }
        GeneratedAnswer::Sql(found) => SqlGenerateAnswer {
            answerable: true,
            sql: Some(found.sql),
            secured_sql: Some(found.check.secured_sql),
            explanation: found.explanation,
            datasets: found.check.relations,
            scopes_needed: found.check.scopes,
            columns: found
                .check
                .columns
                .into_iter()
                .map(|(name, data_type)| ResultColumn { name, data_type })
                .collect(),
            verified_query: found
                .verified_query
                .map(|query| VerifiedProvenance { name: query.name, exact: query.is_exact }),
            ..nothing
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_sent_to_those_who_ask_for_them() {
        for accept in ["text/event-stream", "application/json, Text/Event-Stream;q=0.5"] {
            assert!(wants_events(accept), "{accept}");
        }
        for accept in ["", "*/*", "application/json", "text/event-stream;q=0", "text/event-stream;q=x"] {
            assert!(!wants_events(accept), "{accept}");
        }
    }
}
