//! External APIs over HTTP.

use std::sync::Arc;

use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object, OpenApi};
use serde_json::Value;

use super::ApiTag;
use super::caller::{ApiScope, Caller, failed};
use super::problem::ApiError;
use super::rag::{SearchHit, hit};
use crate::engine::{self, ActionAnswer, ActionCall, Engine};

#[derive(Debug, Object)]
pub struct ActionSummary {
    pub api: String,
    pub operation: String,
    pub method: String,
    pub path: String,
    pub summary: String,
    pub description: String,
}

#[derive(Debug, Object)]
pub struct ActionDetail {
    pub api: String,
    pub operation: String,
    pub method: String,
    pub path: String,
    pub summary: String,
    pub description: String,
    /// JSON Schema of `arguments`.
    pub arguments_schema: Any<Value>,
}

/// What becomes of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Default)]
#[oai(rename_all = "lowercase")]
pub enum Respond {
    /// Inline if it is small, stored if it is large.
    #[default]
    Auto,
    Inline,
    Store,
}

#[derive(Debug, Object)]
pub struct CallRequest {
    /// Fits the operation's argument schema.
    #[oai(default = "no_arguments")]
    pub arguments: Any<Value>,
    /// If the answer is stored, the chunks that answer this come back at once.
    pub query: Option<String>,
    #[oai(default)]
    pub respond: Respond,
}

fn no_arguments() -> Any<Value> {
    Any(Value::Object(Default::default()))
}

#[derive(Debug, Object)]
pub struct CallAnswer {
    /// The external API's status.
    pub status: u16,
    /// False: `body` is the answer. True: the rest is the handle to it.
    pub stored: bool,
    #[oai(skip_serializing_if_is_none)]
    pub content_type: Option<String>,
    #[oai(skip_serializing_if_is_none)]
    pub body: Option<Any<Value>>,
    #[oai(skip_serializing_if_is_none)]
    pub document_id: Option<String>,
    #[oai(skip_serializing_if_is_none)]
    pub index: Option<String>,
    #[oai(skip_serializing_if_is_none)]
    pub bytes: Option<u64>,
    #[oai(skip_serializing_if_is_none)]
    pub tokens: Option<u64>,
    #[oai(skip_serializing_if_is_none)]
    pub chunks: Option<u64>,
    /// Chunks that vector search finds already; text search finds all of them.
    #[oai(skip_serializing_if_is_none)]
    pub embedded_chunks: Option<u64>,
    /// The body's shape with counts, one line a path.
    #[oai(skip_serializing_if_is_none)]
    pub outline: Option<Vec<String>>,
    #[oai(skip_serializing_if_is_none)]
    pub preview: Option<String>,
    #[oai(skip_serializing_if_is_none)]
    pub preview_is_cut: Option<bool>,
    /// The records as a table for SQL.
    #[oai(skip_serializing_if_is_none)]
    pub table: Option<String>,
    /// Why there is no table although there are records.
    #[oai(skip_serializing_if_is_none)]
    pub table_note: Option<String>,
    /// End of the document's life, in epoch milliseconds.
    #[oai(skip_serializing_if_is_none)]
    pub expires_at_ms: Option<i64>,
    #[oai(skip_serializing_if_is_none)]
    pub hits: Option<Vec<SearchHit>>,
    /// How to go on.
    #[oai(skip_serializing_if_is_none)]
    pub next: Option<Vec<String>>,
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(prefix_path = "/v1/actions", tag = "ApiTag::Actions")]
impl Api {
    /// List the operations of external APIs.
    #[oai(path = "/", method = "get", operation_id = "list_actions")]
    async fn list(
        &self,
        #[oai(scope = "ApiScope::ActionsRead")] caller: Caller,
        /// Words to search for.
        q: Query<Option<String>>,
    ) -> Result<Json<Vec<ActionSummary>>, ApiError> {
        let list =
            self.0.list_actions(&caller.0, q.0.as_deref()).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.into_iter().map(summary).collect()))
    }

    /// List the operations of one external API.
    #[oai(path = "/:api", method = "get", operation_id = "list_api_actions")]
    async fn list_api(
        &self,
        #[oai(scope = "ApiScope::ActionsRead")] caller: Caller,
        api: Path<String>,
    ) -> Result<Json<Vec<ActionSummary>>, ApiError> {
        let list = self.0.list_api_actions(&caller.0, &api.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.into_iter().map(summary).collect()))
    }

    /// Fetch one external operation with its argument schema.
    #[oai(path = "/:api/:operation", method = "get", operation_id = "get_action")]
    async fn get(
        &self,
        #[oai(scope = "ApiScope::ActionsRead")] caller: Caller,
        api: Path<String>,
        operation: Path<String>,
    ) -> Result<Json<ActionDetail>, ApiError> {
        let (head, schema) =
            self.0.get_action(&caller.0, &api.0, &operation.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(ActionDetail {
            api: head.api,
            operation: head.operation,
            method: head.method,
            path: head.path,
            summary: head.summary,
            description: head.description,
            arguments_schema: Any(schema),
        }))
    }

    /// Call an operation of an external API. Large answers are stored, chunked and indexed; you get a handle.
    #[oai(path = "/:api/:operation", method = "post", operation_id = "call_action")]
    async fn call(
        &self,
        #[oai(scope = "ApiScope::ActionsCall")] caller: Caller,
        api: Path<String>,
        operation: Path<String>,
        body: Json<CallRequest>,
    ) -> Result<Json<CallAnswer>, ApiError> {
        let CallRequest { arguments, query, respond } = body.0;
        let respond = match respond {
            Respond::Auto => engine::Respond::Auto,
            Respond::Inline => engine::Respond::Inline,
            Respond::Store => engine::Respond::Store,
        };
        let call = ActionCall { arguments: arguments.0, query, respond };
        let answer = self
            .0
            .call_action(&caller.0, &api.0, &operation.0, call)
            .await
            .map_err(failed(&self.0, &caller.0))?;
        Ok(Json(call_answer(answer)))
    }
}

fn summary(item: engine::ActionSummary) -> ActionSummary {
    ActionSummary {
        api: item.api,
        operation: item.operation,
        method: item.method,
        path: item.path,
        summary: item.summary,
        description: item.description,
    }
}

fn call_answer(answer: ActionAnswer) -> CallAnswer {
    let mut shown = CallAnswer {
        status: 0,
        stored: false,
        content_type: None,
        body: None,
        document_id: None,
        index: None,
        bytes: None,
        tokens: None,
        chunks: None,
        embedded_chunks: None,
        outline: None,
        preview: None,
        preview_is_cut: None,
        table: None,
        table_note: None,
        expires_at_ms: None,
        hits: None,
        next: None,
    };
    match answer {
        ActionAnswer::Inline { status, content_type, body } => {
            shown.status = status;
            shown.content_type = Some(content_type);
            shown.body = Some(Any(body));
        }
        ActionAnswer::Stored { status, handle, table, table_note, hits, next } => {
            shown.status = status;
            shown.stored = true;
            shown.document_id = Some(handle.document_id.to_string());
            shown.index = Some(handle.index.to_string());
            shown.bytes = Some(handle.bytes);
            shown.tokens = Some(handle.tokens);
            shown.chunks = Some(handle.chunks);
            shown.embedded_chunks = Some(handle.embedded_chunks);
            shown.outline = Some(handle.outline);
            shown.preview = Some(handle.preview);
            shown.preview_is_cut = Some(handle.preview_is_cut);
            shown.expires_at_ms = handle.expires_at_ms;
            shown.table = table;
            shown.table_note = table_note;
            shown.hits = Some(hits.into_iter().map(hit).collect());
            shown.next = Some(next);
        }
    }
    shown
}
