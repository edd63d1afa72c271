//! The engine: every operation of the service as a function call. HTTP, MCP, the command line and in-process agents are
//! thin shells round it.
//!
//! Every operation has the same five steps, here and nowhere else: require scope → resolve → do → limit → audit.
//! E1 No operation runs without a [`Principal`] whose scopes cover it. E2 Every outcome is audited, a caller's leaving included.
//! E3 What a principal may not see does not show in any answer, suggestion or count.

mod actions;
mod admin;
mod auth_test;
mod compile;
mod documents;
mod error;
mod generate;
mod haiku;
mod linking;
mod namespace;
mod open;
mod reload;
mod responses;
mod semantic_table;
mod semantics;
mod served;
mod sql;
mod users;
mod warehouses;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use datafusion::datasource::TableProvider;

use crate::actions::{ActionCatalog, ActionDiagnostic, Caller};
use crate::audit::{Audit, Event, Outcome};
use crate::auth::{Auth, Operation, Principal};
use crate::config::Config;
use crate::llm::Llm;
use crate::query::QueryEngine;
use crate::rag::Rag;
use crate::store::Store;

pub use actions::{ActionAnswer, ActionCall, ActionSummary, Respond};
pub use admin::NewSecret;
pub use auth_test::{Greeting, MAX_MESSAGE_CHARACTERS};
pub use documents::{IndexSummary, Stored, Upload};
pub use error::EngineError;
pub use generate::{
    GenerateRequest, GeneratedAnswer, GeneratedSql, Generation, MAX_QUESTION_CHARACTERS, Progress,
    Provenance, Spent,
};
pub use linking::LinkAnswer;
pub use open::{Parts, key_source};
pub use responses::ResponseTable;
pub use served::SemanticState;
use served::Served;
pub use sql::{SqlCheck, SqlOptions};

/// Who asks, under which request id.
#[derive(Debug, Clone)]
pub struct Context {
    pub principal: Arc<Principal>,
    pub request_id: String,
}

impl Context {
    pub fn new(principal: Arc<Principal>, request_id: impl Into<String>) -> Self {
        Self { principal, request_id: request_id.into() }
    }

    /// The owner of the process, with every scope.
    pub fn local(name: &str) -> Self {
        Self::new(Arc::new(Principal::local(name)), uuid::Uuid::now_v7().to_string())
    }
}

/// The whole service without its doors.
pub struct Engine {
    config: Config,
    store: Store,
    auth: Option<Auth>,
    audit: Audit,
    served: Arc<ArcSwap<Served>>,
    /// Takes up changes of the semantic folder; ends with the engine.
    watch: Option<reload::Watch>,
    link_vectors: linking::LinkVectors,
    actions: ActionCatalog,
    action_diagnostics: Vec<ActionDiagnostic>,
    caller: Caller,
    rag: Option<Rag>,
    index_files: Vec<crate::rag::IndexFile>,
    query: QueryEngine,
    /// Absent: nothing is generated.
    llm: Option<Llm>,
    warehouses: warehouses::Warehouses,
    responses_dir: PathBuf,
    /// Held while a table is made or swept, so that none is removed before its document names it.
    response_files: tokio::sync::Mutex<()>,
    /// Opened response tables by name.
    response_providers: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
}

impl Engine {
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The token endpoint and the verifier; absent where the engine was opened without them.
    pub fn auth(&self) -> Option<&Auth> {
        self.auth.as_ref()
    }

    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Retrieval; an error where the engine was opened without it.
    pub fn rag(&self) -> Result<&Rag, EngineError> {
        self.rag.as_ref().ok_or(EngineError::NoRetrieval)
    }

    /// Findings about action files, from the last load.
    pub fn action_diagnostics(&self) -> &[ActionDiagnostic] {
        &self.action_diagnostics
    }

    /// Who the caller is; any valid token may ask. Returns the operations that at least one of its scopes opens.
    pub async fn me(&self, context: &Context) -> Result<Vec<Operation>, EngineError> {
        self.perform(context, Operation::Me, None, async {
            let may = |operation: &&Operation| {
                // An operation on a target is open to whoever holds a grant for some target.
                let required = operation.required_scope(None);
                required.is_none_or(|scope| context.principal.require_some_target(&scope).is_ok())
            };
            Ok(Done::new(Operation::ALL.iter().filter(may).copied().collect()))
        })
        .await
    }

    /// Ends background work in order, so that nothing accepted is lost.
    pub async fn close(&self) {
        if let Some(watch) = &self.watch {
            watch.stop();
        }
        if let Some(rag) = &self.rag {
            rag.close().await;
        }
        self.link_vectors.close().await;
        if let Err(error) = self.audit.close(std::time::Duration::from_secs(10)).await {
            tracing::error!(%error, "audit events could not be written at shutdown");
        }
    }

    /// Steps one and five round an operation's own work: authorise, do, audit.
    async fn perform<T>(
        &self,
        context: &Context,
        operation: Operation,
        target: Option<&str>,
        work: impl Future<Output = Result<Done<T>, EngineError>>,
    ) -> Result<T, EngineError> {
        let started = Instant::now();
        let event = Event::new(
            &context.principal,
            context.request_id.as_str(),
            operation.name(),
            target.unwrap_or_default(),
        );
        let mut open = OpenEvent { audit: &self.audit, event: Some(event), started };
        let outcome = match operation.authorize(&context.principal, target) {
            Ok(()) => work.await,
            Err(error) => Err(EngineError::from(error)),
        };
        if let Some(event) = &mut open.event {
            event.elapsed_ms = u64::try_from(started.elapsed().as_millis()).ok();
            match &outcome {
                Ok(done) => {
                    event.outcome = Outcome::Ok;
                    event.rows = done.rows;
                    event.size_bytes = done.bytes;
                    event.reason = done.reason;
                    if let Some(touched) = &done.touched {
                        event.target = touched.clone();
                    }
                }
                Err(error) => {
                    let (outcome, reason) = error.audit_outcome();
                    event.outcome = outcome;
                    event.reason = Some(reason);
                    if let EngineError::Generation { spent, .. } = error {
                        event.target = spent.audit_text(&[]);
                    }
                }
            }
            let recorded = self.audit.record(event).await;
            open.event = None;
            recorded.map_err(EngineError::Audit)?;
        }
        outcome.map(|done| done.value)
    }
}

/// The event of an operation that is under way. If its caller leaves before the end, it is recorded as `hung_up` (E2).
struct OpenEvent<'a> {
    audit: &'a Audit,
    event: Option<Event>,
    started: Instant,
}

impl Drop for OpenEvent<'_> {
    fn drop(&mut self) {
        let Some(mut event) = self.event.take() else { return };
        event.outcome = Outcome::Failed;
        event.reason = Some("hung_up");
        (event.rows, event.size_bytes) = (None, None);
        event.elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).ok();
        let audit = self.audit.clone();
        // Without a runtime the process is ending.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = audit.record(&event).await {
                    tracing::error!(%error, "an operation that its caller left was not audited");
                }
            });
        }
    }
}

/// An operation's result with what the audit wants to know of it.
struct Done<T> {
    value: T,
    rows: Option<u64>,
    bytes: Option<u64>,
    /// What was touched, when that is known only afterwards.
    touched: Option<String>,
    /// Set where another event will tell how it ended.
    reason: Option<&'static str>,
}

impl<T> Done<T> {
    fn new(value: T) -> Self {
        Self { value, rows: None, bytes: None, touched: None, reason: None }
    }

    fn rows(mut self, rows: usize) -> Self {
        self.rows = u64::try_from(rows).ok();
        self
    }

    fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod snowflake_tests;
#[cfg(test)]
mod warehouse_tests;
