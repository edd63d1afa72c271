//! The audit log over HTTP.

use std::sync::Arc;

use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};

use crate::api::ApiTag;
use crate::api::caller::{ApiScope, Caller, failed};
use crate::api::problem::ApiError;
use crate::audit::{AuditQuery, AuditRecord, Outcome};
use crate::engine::Engine;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum AuditOutcome {
    Ok,
    Refused,
    Denied,
    Failed,
}

#[derive(Debug, Object)]
pub struct AuditEvent {
    pub event_id: String,
    /// Epoch milliseconds.
    pub at_ms: i64,
    pub request_id: String,
    pub client_id: String,
    pub subject: String,
    pub operation: String,
    pub target: String,
    /// ok, refused (guard, policy or limit), denied (credentials or scopes) or failed.
    pub outcome: String,
    pub reason: Option<String>,
    pub rows: Option<i64>,
    pub size_bytes: Option<i64>,
    pub elapsed_ms: Option<i64>,
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(prefix_path = "/admin/api", tag = "ApiTag::Admin")]
impl Api {
    /// Read who did what, when and with what outcome.
    #[oai(path = "/audit", method = "get", operation_id = "list_audit_events")]
    #[expect(clippy::too_many_arguments, reason = "one a query parameter")]
    async fn audit(
        &self,
        #[oai(scope = "ApiScope::AdminAudit")] caller: Caller,
        /// Events at this time or later, in epoch milliseconds.
        since_ms: Query<Option<i64>>,
        /// Events before this time, in epoch milliseconds.
        until_ms: Query<Option<i64>>,
        client_id: Query<Option<String>>,
        /// Such as sql_run.
        operation: Query<Option<String>>,
        outcome: Query<Option<AuditOutcome>>,
        /// The last event_id of the page before.
        after: Query<Option<String>>,
        /// Latest first instead of earliest first.
        #[oai(default)]
        newest_first: Query<bool>,
        /// 1 to 10,000.
        #[oai(default = "hundred")]
        limit: Query<u32>,
    ) -> Result<Json<Vec<AuditEvent>>, ApiError> {
        let query = AuditQuery {
            since_ms: since_ms.0,
            until_ms: until_ms.0,
            client_id: client_id.0,
            operation: operation.0,
            outcome: outcome.0.map(|outcome| match outcome {
                AuditOutcome::Ok => Outcome::Ok,
                AuditOutcome::Refused => Outcome::Refused,
                AuditOutcome::Denied => Outcome::Denied,
                AuditOutcome::Failed => Outcome::Failed,
            }),
            after: after.0,
            newest_first: newest_first.0,
            limit: limit.0 as usize,
        };
        let list = self.0.list_audit_events(&caller.0, &query).await;
        Ok(Json(list.map_err(failed(&self.0, &caller.0))?.into_iter().map(event).collect()))
    }
}

fn hundred() -> u32 {
    100
}

fn event(item: AuditRecord) -> AuditEvent {
    AuditEvent {
        event_id: item.event_id,
        at_ms: item.at_ms,
        request_id: item.request_id,
        client_id: item.client_id,
        subject: item.subject,
        operation: item.operation,
        target: item.target,
        outcome: item.outcome.as_str().to_owned(),
        reason: item.reason,
        rows: item.rows,
        size_bytes: item.size_bytes,
        elapsed_ms: item.elapsed_ms,
    }
}
