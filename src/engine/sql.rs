//! SQL operations: check and run, both behind the guard.

use std::sync::Arc;

use super::served::View;
use super::{Context, Done, Engine, EngineError};
use crate::audit::{Event, Outcome};
use crate::auth::{Operation, Sensitivity};
use crate::guard::{self, ApprovedSql, Dialect};
use crate::query::{QueryResult, QueryStream, StopReason, StreamReport, Tables};

/// What a caller may set for one query.
#[derive(Debug, Clone, Copy, Default)]
pub struct SqlOptions {
    /// Fewer rows than the client's limit; more has no effect.
    pub max_rows: Option<usize>,
}

/// Stands in the place of a plan that would tell too much.
const HIDDEN_PLAN: &str = "not shown: the query reads datasets of which you see some rows or values only; it runs with those restrictions";

/// The guard's verdict with what follows from it.
#[derive(Debug, Clone)]
pub struct SqlCheck {
    /// The query as it would run; as it was sent where row filters or masks apply that the caller may not see.
    pub secured_sql: String,
    /// `schema.name` of each relation read.
    pub relations: Vec<String>,
    /// Scopes that reading them takes.
    pub scopes: Vec<String>,
    /// Name and type of each column of the result.
    pub columns: Vec<(String, String)>,
    /// The engine's plan, indented.
    pub plan: String,
}

impl Engine {
    /// Says whether `sql` would run for this caller, in which form, and with which scopes.
    pub async fn sql_check(&self, context: &Context, sql: &str) -> Result<SqlCheck, EngineError> {
        self.perform(context, Operation::SqlCheck, None, async {
            let (approved, tables, view) = self.approve(context, sql, SqlOptions::default()).await?;
            let plan = self.query.plan(&approved, tables).await?;
            let relations: Vec<String> =
                approved.relations().iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
            let mut scopes: Vec<String> = approved
                .relations()
                .iter()
                .filter_map(|(schema, name)| match schema.as_str() {
                    "information_schema" => None,
                    "semantic" => Operation::ListDatasets.required_scope(None),
                    "actions" => Operation::ListActions.required_scope(None),
                    _ => Operation::SqlRun.required_scope(Some(&format!("{schema}.{name}"))),
                })
                .map(|scope| scope.to_string())
                .collect();
            scopes.sort();
            scopes.dedup();
            let columns = plan
                .schema()
                .fields()
                .iter()
                .map(|field| (field.name().clone(), field.data_type().to_string()))
                .collect();
            if !approved.calls().is_empty() {
                scopes.extend(Operation::ListDatasets.required_scope(None).map(|scope| scope.to_string()));
                scopes.sort();
                scopes.dedup();
            }
            let touched = Some(relations.join(","));
            // Row filters and masks name what this caller may not know of.
            let tells = context.principal.sensitivity() < Sensitivity::HighlySensitive
                && approved.relations().iter().any(|(schema, name)| view.is_restricted(schema, name));
            let (secured_sql, plan) = match tells {
                false => (approved.sql(), plan.display_indent().to_string()),
                true => (sql.to_owned(), HIDDEN_PLAN.to_owned()),
            };
            let check = SqlCheck { secured_sql, relations, scopes, columns, plan };
            Ok(Done { touched, ..Done::new(check) })
        })
        .await
    }

    /// Runs one query within the caller's scopes and limits, and collects its result.
    pub async fn sql_run(
        &self,
        context: &Context,
        sql: &str,
        options: SqlOptions,
    ) -> Result<QueryResult, EngineError> {
        self.perform(context, Operation::SqlRun, None, async {
            let (approved, tables, _) = self.approve(context, sql, options).await?;
            let stream = self.query.stream(context.principal.client_id.as_str(), &approved, tables).await?;
            let result = stream.collect().await?;
            let bytes: usize = result.batches.iter().map(|batch| batch.get_array_memory_size()).sum();
            let rows = result.rows;
            let touched = Some(touched(&approved));
            Ok(Done { touched, ..Done::new(result).rows(rows).bytes(bytes as u64) })
        })
        .await
    }

    /// Runs one query within the caller's scopes and limits, and hands its result out as it is made.
    ///
    /// A result that is small is complete when this returns ([`QueryStream::end`] is known) and has one audit event, as
    /// that of [`Self::sql_run`]. A larger one has two: one with the reason `started`, taken before the first row is
    /// handed out (E2), and one with rows, bytes and outcome when it is over; a caller that hangs up is `failed`,
    /// `hung_up`.
    pub async fn sql_stream(
        &self,
        context: &Context,
        sql: &str,
        options: SqlOptions,
    ) -> Result<QueryStream, EngineError> {
        let (mut stream, target) = self
            .perform(context, Operation::SqlRun, None, async {
                let (approved, tables, _) = self.approve(context, sql, options).await?;
                let client = context.principal.client_id.as_str();
                let stream = self.query.stream(client, &approved, tables).await?;
                let target = touched(&approved);
                let end = stream.end();
                let done = Done::new((stream, target.clone()));
                let done = match end {
                    Some(end) => done.rows(end.rows).bytes(end.bytes),
                    None => Done { reason: Some("started"), ..done },
                };
                Ok(Done { touched: Some(target), ..done })
            })
            .await?;
        if stream.end().is_none() {
            let operation = Operation::SqlRun.name();
            let event = Event::new(&context.principal, &context.request_id, operation, &target);
            let audit = self.audit.clone();
            stream.at_end(move |report| {
                let event = at_end(event, report);
                Box::pin(async move {
                    if let Err(error) = audit.record(&event).await {
                        // That it was started is in the log of events.
                        tracing::error!(%error, request_id = event.request_id, "the end of a query was not audited");
                    }
                })
            });
        }
        Ok(stream)
    }

    async fn approve(
        &self,
        context: &Context,
        sql: &str,
        options: SqlOptions,
    ) -> Result<(ApprovedSql, Tables, Arc<View>), EngineError> {
        // One catalog for the whole query, whatever is loaded meanwhile.
        let view = self.view(context);
        let namespace = self.namespace(context, &view).await?;
        let limit = self.query.limits().max_rows;
        let max_rows = options.max_rows.map_or(limit, |wanted| wanted.min(limit));
        let approved = guard::approve(sql, &namespace, Dialect::DataFusion, max_rows)?;
        let tables = self.tables(&approved, &namespace, &view).await?;
        Ok((approved, tables, view))
    }
}

/// `schema.name` of each relation, as the audit has them.
fn touched(sql: &ApprovedSql) -> String {
    let names: Vec<String> =
        sql.relations().iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
    names.join(",")
}

fn at_end(mut event: Event, report: StreamReport) -> Event {
    event.rows = u64::try_from(report.rows).ok();
    event.size_bytes = Some(report.bytes);
    event.elapsed_ms = u64::try_from(report.elapsed.as_millis()).ok();
    (event.outcome, event.reason) = match report.stopped {
        None => (Outcome::Ok, None),
        Some(StopReason::HungUp) => (Outcome::Failed, Some("hung_up")),
        Some(StopReason::Failed(kind)) => (EngineError::outcome_of(kind), Some(kind.as_str())),
    };
    event
}
