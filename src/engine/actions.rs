//! Action operations: list, fetch, call; and what becomes of large answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::documents::{index_name, viewer};
use super::{Context, Done, Engine, EngineError};
use crate::actions::{Api, OperationName};
use crate::auth::Operation;
use crate::rag::{DocumentHandle, Hit, NewDocument, SearchRequest, Source};

/// Most bytes that are handed over inline, however the caller asks.
const MAX_INLINE_BYTES: usize = 1024 * 1024;

/// How long a call with a query waits for vectors when no word of the query is in the answer.
const VECTOR_PATIENCE: Duration = Duration::from_secs(3);

/// What becomes of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Respond {
    /// Inline below the API's token threshold, stored above it.
    #[default]
    Auto,
    Inline,
    Store,
}

/// A call of an external operation.
#[derive(Debug, Clone, Default)]
pub struct ActionCall {
    /// A JSON object that fits the operation's argument schema.
    pub arguments: Value,
    /// If the answer is stored, the chunks that answer this come back at once.
    pub query: Option<String>,
    pub respond: Respond,
}

/// An operation that can be called, for lists.
#[derive(Debug, Clone)]
pub struct ActionSummary {
    pub api: String,
    pub operation: String,
    pub method: String,
    pub path: String,
    pub summary: String,
    pub description: String,
}

/// The answer of a call.
#[derive(Debug, Clone)]
pub enum ActionAnswer {
    /// The body as it came: JSON where it is JSON, otherwise text.
    Inline { status: u16, content_type: String, body: Value },
    /// The body was large and is stored.
    Stored {
        status: u16,
        handle: Box<DocumentHandle>,
        /// `responses.<name>`, where the body holds records.
        table: Option<String>,
        /// Why there is no table although there are records.
        table_note: Option<String>,
        /// The best chunks for the call's query.
        hits: Vec<Hit>,
        /// How to go on, one sentence each.
        next: Vec<String>,
    },
}

impl Engine {
    pub async fn list_actions(
        &self,
        context: &Context,
        query: Option<&str>,
    ) -> Result<Vec<ActionSummary>, EngineError> {
        self.perform(context, Operation::ListActions, None, async {
            let list: Vec<ActionSummary> = match query.filter(|query| !query.trim().is_empty()) {
                None => self.action_rows(),
                Some(query) => {
                    let found = self.actions.find(query);
                    found.iter().filter_map(|hit| summary(&hit.api, &hit.operation)).collect()
                }
            };
            let rows = list.len();
            Ok(Done::new(list).rows(rows))
        })
        .await
    }

    /// The operations of one API.
    pub async fn list_api_actions(
        &self,
        context: &Context,
        api: &str,
    ) -> Result<Vec<ActionSummary>, EngineError> {
        self.perform(context, Operation::ListActions, None, async {
            let api = self.actions.api(api)?;
            let list: Vec<ActionSummary> =
                api.operations().filter_map(|(name, _)| summary(api, name)).collect();
            let rows = list.len();
            Ok(Done::new(list).rows(rows))
        })
        .await
    }

    /// One operation with the JSON Schema of its arguments.
    pub async fn get_action(
        &self,
        context: &Context,
        api: &str,
        operation: &str,
    ) -> Result<(ActionSummary, Value), EngineError> {
        self.perform(context, Operation::GetAction, None, async {
            let api = self.actions.api(api)?;
            let prepared = api.prepare(operation).await?;
            let name: &OperationName = &prepared.head.name;
            let shown = summary(api, name).ok_or(EngineError::Interrupted)?;
            Ok(Done::new((shown, prepared.arguments_schema.clone())))
        })
        .await
    }

    /// Calls an external operation as the action file says; the caller sees no credential.
    pub async fn call_action(
        &self,
        context: &Context,
        api: &str,
        operation: &str,
        call: ActionCall,
    ) -> Result<ActionAnswer, EngineError> {
        let target = format!("{api}.{operation}");
        self.perform(context, Operation::CallAction, Some(&target), async {
            let known = self.actions.api(api)?.clone();
            let cancel = CancellationToken::new();
            // Dropping this future, as when the caller hangs up, cancels the call.
            let _guard = cancel.clone().drop_guard();
            let arguments = if call.arguments.is_null() { json!({}) } else { call.arguments };
            let response = self.caller.call(&known, operation, &arguments, &cancel).await?;
            let (status, content_type) = (response.status, response.content_type.clone().unwrap_or_default());
            let body = response.bytes().await?;
            let bytes = body.len() as u64;
            let threshold = known.response_policy().store_over_tokens;
            let store = match call.respond {
                Respond::Inline => false,
                Respond::Store => true,
                Respond::Auto => self.is_over(&body, usize::try_from(threshold).unwrap_or(usize::MAX)).await,
            };
            let answer = if store {
                let stored = StoredCall {
                    api: &known,
                    operation,
                    arguments: &arguments,
                    query: call.query,
                    status,
                    content_type,
                };
                self.store_answer(context, stored, body).await?
            } else {
                inline(status, content_type, body)?
            };
            Ok(Done::new(answer).bytes(bytes))
        })
        .await
    }

    pub(super) fn action_rows(&self) -> Vec<ActionSummary> {
        let mut rows = Vec::new();
        for api in self.actions.apis() {
            rows.extend(api.operations().filter_map(|(name, _)| summary(api, name)));
        }
        rows
    }

    pub(super) fn suggest_actions(&self, question: &str) -> Vec<(String, String, f64)> {
        let found = self.actions.find(question);
        let named = found.iter().take(5).filter_map(|hit| {
            let summary = summary(&hit.api, &hit.operation)?;
            Some((format!("{}.{}", summary.api, summary.operation), summary.summary, hit.score))
        });
        named.collect()
    }

    /// Whether the body has more tokens than `threshold`, by the embedding model's own count where it can matter.
    async fn is_over(&self, body: &Bytes, threshold: usize) -> bool {
        // A token is at least one byte, and no text has fewer than one token in sixteen bytes of words and digits.
        if body.len() <= threshold {
            return false;
        }
        if body.len() > threshold.saturating_mul(16) {
            return true;
        }
        let text = String::from_utf8_lossy(body).into_owned();
        match &self.rag {
            Some(rag) => rag.count_tokens(text).await.map_or(true, |tokens| tokens > threshold),
            None => true,
        }
    }

    async fn store_answer(
        &self,
        context: &Context,
        call: StoredCall<'_>,
        body: Bytes,
    ) -> Result<ActionAnswer, EngineError> {
        let index = call.api.response_policy().index.to_string();
        let label = format!("{}.{}", call.api.name(), call.operation);
        let viewer = viewer(context);
        let mut metadata = BTreeMap::from([
            ("api".to_owned(), call.api.name().to_string()),
            ("operation".to_owned(), call.operation.to_owned()),
        ]);
        if let Value::Object(arguments) = call.arguments {
            for (key, value) in arguments.iter().take(16) {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                if text.len() <= 256 && key.len() <= 64 {
                    metadata.insert(format!("argument.{key}"), text);
                }
            }
        }
        let content_type =
            if call.content_type.is_empty() { "application/json".to_owned() } else { call.content_type };
        let new = NewDocument {
            index: index_name(&index)?,
            source: Source::Action(label.clone()),
            title: label.clone(),
            content_type,
            metadata,
        };
        let rag = self.rag()?;
        let handle = rag.ingest_bytes(&viewer, new, body).await?;
        let (table, table_note) = self.tabulate(&viewer, &handle, &label).await;
        let hits = match call.query.filter(|query| !query.trim().is_empty()) {
            None => Vec::new(),
            Some(query) => {
                let mut request = SearchRequest::new(query);
                request.document_id = Some(handle.document_id.clone());
                request.k = 5;
                let mut hits = rag.search(&viewer, &handle.index, &request).await?.hits;
                if hits.is_empty() {
                    // No word in common: meaning may find it, once there are vectors. Short answers have them soon.
                    let vectors = rag.wait_embedded(&viewer, &handle.document_id);
                    if tokio::time::timeout(VECTOR_PATIENCE, vectors).await.is_ok() {
                        hits = rag.search(&viewer, &handle.index, &request).await?.hits;
                    }
                }
                hits
            }
        };
        let id = &handle.document_id;
        let mut next = vec![
            format!(
                "search it: POST /v1/rag/{index}/search with {{\"query\": \"…\", \"document_id\": \"{id}\"}}"
            ),
            format!("page it: GET /v1/rag/{index}/documents/{id}/content?pointer=/…"),
        ];
        if let Some(table) = &table {
            next.push(format!("query it: POST /v1/sql/run with {{\"sql\": \"SELECT * FROM {table} LIMIT 10\"}}; it joins with every dataset"));
        }
        Ok(ActionAnswer::Stored {
            status: call.status,
            handle: Box::new(handle),
            table,
            table_note,
            hits,
            next,
        })
    }
}

/// What is known of a call whose answer is to be stored.
struct StoredCall<'a> {
    api: &'a Arc<Api>,
    operation: &'a str,
    arguments: &'a Value,
    query: Option<String>,
    status: u16,
    content_type: String,
}

fn inline(status: u16, content_type: String, body: Bytes) -> Result<ActionAnswer, EngineError> {
    if body.len() > MAX_INLINE_BYTES {
        return Err(EngineError::TooLargeInline { bytes: body.len(), limit: MAX_INLINE_BYTES });
    }
    let is_json = content_type.contains("json");
    let body = match is_json.then(|| serde_json::from_slice::<Value>(&body)) {
        Some(Ok(value)) => value,
        Some(Err(error)) if !body.is_empty() => {
            return Err(EngineError::InvalidInput(format!(
                "the API says that its answer is JSON, but it is not: {error}"
            )));
        }
        Some(Err(_)) => Value::Null,
        None => match String::from_utf8(body.to_vec()) {
            Ok(text) => Value::String(text),
            Err(_) => {
                let message = format!("the API answered with {content_type}, which is neither JSON nor text");
                return Err(EngineError::InvalidInput(message));
            }
        },
    };
    Ok(ActionAnswer::Inline { status, content_type, body })
}

fn summary(api: &Arc<Api>, name: &OperationName) -> Option<ActionSummary> {
    let head = api.operations().find(|(known, _)| *known == name)?.1;
    Some(ActionSummary {
        api: api.name().to_string(),
        operation: name.to_string(),
        method: head.method.to_string(),
        path: head.path.clone(),
        summary: head.summary.clone().unwrap_or_default(),
        description: head.description.clone().unwrap_or_default(),
    })
}
