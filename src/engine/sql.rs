//! SQL operations: check and run, both behind the guard.

use std::sync::Arc;
use std::time::Duration;

use super::namespace::{ACTIONS, INFORMATION_SCHEMA, SEMANTIC, tag};
use super::responses::names_in;
use super::served::View;
use super::{Context, Done, Engine, EngineError};
use crate::audit::{Event, Outcome};
use crate::auth::{Operation, Sensitivity};
use crate::guard::{self, ApprovedSql, Dialect, Refusal};
use crate::query::{Origin, QueryError, QueryResult, QueryStream, StopReason, StreamReport, Tables};
use crate::warehouse::{RemoteError, RemoteQuery};

/// What a caller may set for one query.
#[derive(Debug, Clone, Default)]
pub struct SqlOptions {
    /// Fewer rows than the client's limit; more has no effect.
    pub max_rows: Option<usize>,
    /// The warehouse that runs the whole query, in its own dialect. One without an engine of its own stands for the
    /// embedded one. Absent: the warehouse that has all that the query names, else the embedded engine.
    pub warehouse: Option<String>,
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
    /// The columns of each that the query names, in any position; an upper bound where names alone cannot tell.
    pub reads: Vec<(String, Vec<String>)>,
    /// Scopes that reading them takes.
    pub scopes: Vec<String>,
    /// Name and type of each column of the result.
    pub columns: Vec<(String, String)>,
    /// The engine's plan, indented.
    pub plan: String,
    /// The dialect in which it was read and would run: `datafusion`, `postgresql` or `snowflake`.
    pub dialect: &'static str,
    /// The warehouse that would run it as a whole; absent: the embedded engine would.
    pub warehouse: Option<String>,
    /// Rows that the engine that would run it expects; absent where it does not say, or the caller sees a part of them
    /// only.
    pub estimated_rows: Option<u64>,
}

impl Engine {
    /// Says whether `sql` would run for this caller, in which form, and with which scopes.
    pub async fn sql_check(&self, context: &Context, sql: &str) -> Result<SqlCheck, EngineError> {
        self.sql_check_with(context, sql, SqlOptions::default()).await
    }

    /// The same for a query that is to run with `options`.
    pub async fn sql_check_with(
        &self,
        context: &Context,
        sql: &str,
        options: SqlOptions,
    ) -> Result<SqlCheck, EngineError> {
        self.perform(context, Operation::SqlCheck, None, async {
            let found = self.approve(context, sql, &options).await?;
            let (approved, view) = (found.sql.clone(), found.view.clone());
            let warehouse = match &found.place {
                Place::Here(_) => None,
                Place::There(name) => Some(name.clone()),
            };
            let planned = self.planned(context, found).await?;
            let relations: Vec<String> =
                approved.relations().iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
            let mut scopes: Vec<String> = approved
                .relations()
                .iter()
                .filter_map(|(schema, name)| match schema.as_str() {
                    INFORMATION_SCHEMA => None,
                    SEMANTIC => Operation::ListDatasets.required_scope(None),
                    ACTIONS => Operation::ListActions.required_scope(None),
                    _ => Operation::SqlRun.required_scope(Some(&format!("{schema}.{name}"))),
                })
                .map(|scope| scope.to_string())
                .collect();
            scopes.sort();
            scopes.dedup();
            if !approved.calls().is_empty() {
                scopes.extend(Operation::ListDatasets.required_scope(None).map(|scope| scope.to_string()));
                scopes.sort();
                scopes.dedup();
            }
            let touched = Some(relations.join(","));
            let columns_of = |(schema, name): &(String, String)| {
                let of_it =
                    approved.columns().iter().filter(|at| at.schema == *schema && at.relation == *name);
                (format!("{schema}.{name}"), of_it.map(|at| at.column.clone()).collect())
            };
            let reads = approved.relations().iter().map(columns_of).collect();
            // Row filters and masks name what this caller may not know of.
            let tells = context.principal.sensitivity() < Sensitivity::HighlySensitive
                && approved.relations().iter().any(|(schema, name)| view.is_restricted(schema, name));
            let Planned { plan, columns, rows } = planned;
            let (secured_sql, plan, estimated_rows) = match tells {
                false => (approved.sql(), plan, rows),
                true => (sql.to_owned(), HIDDEN_PLAN.to_owned(), None),
            };
            let dialect = name_of(approved.dialect());
            let check = SqlCheck {
                secured_sql,
                relations,
                reads,
                scopes,
                columns,
                plan,
                dialect,
                warehouse,
                estimated_rows,
            };
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
            let Approved { sql: approved, place, .. } = self.approve(context, sql, &options).await?;
            let origin = self.origin(context, &approved, place)?;
            let stream = self.query.stream(context.principal.client_id.as_str(), &approved, origin).await?;
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
                let Approved { sql: approved, place, .. } = self.approve(context, sql, &options).await?;
                let origin = self.origin(context, &approved, place)?;
                let client = context.principal.client_id.as_str();
                let stream = self.query.stream(client, &approved, origin).await?;
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

    /// Checks a query and finds where it runs: whole in a warehouse with an engine of its own, if every dataset that it
    /// names lives there and the guard approves it in that warehouse's dialect; here otherwise, where DataFusion joins
    /// what several warehouses have.
    async fn approve(
        &self,
        context: &Context,
        sql: &str,
        options: &SqlOptions,
    ) -> Result<Approved, EngineError> {
        // One catalog for the whole query, whatever is loaded meanwhile.
        let view = self.view(context);
        let limit = self.query.limits().max_rows;
        let max_rows = options.max_rows.map_or(limit, |wanted| wanted.min(limit));
        if let Some(name) = &options.warehouse {
            self.warehouses.get(name)?;
            if let Some(dialect) = self.warehouses.dialect_of(name) {
                return Ok(self.approve_there(context, &view, sql, (name, dialect), max_rows)?);
            }
        }
        // Tables of responses may be many, each in a file of its own: at first those that the text can mean.
        let named = names_in(sql);
        let mut namespace = self.namespace(context, &view, Some(&named)).await?;
        let mut approved = guard::approve(sql, &namespace, Dialect::DataFusion, max_rows);
        let lists_all = match &approved {
            Ok(approved) => approved.relations().iter().any(|(schema, _)| schema == INFORMATION_SCHEMA),
            // With suggestions from all that there is.
            Err(refusal) => refusal.rule == "unknown-relation",
        };
        if lists_all {
            namespace = self.namespace(context, &view, None).await?;
            approved = guard::approve(sql, &namespace, Dialect::DataFusion, max_rows);
        }
        let approved = match approved {
            Ok(approved) => approved,
            Err(refusal) if options.warehouse.is_some() || ABOUT_THE_CALLER.contains(&refusal.rule) => {
                return Err(refusal.into());
            }
            // It may be the SQL of a warehouse.
            Err(refusal) => {
                let mut told = refusal;
                for there in self.warehouses.whole() {
                    match self.approve_there(context, &view, sql, there, max_rows) {
                        Ok(approved) => return Ok(approved),
                        Err(refusal) if ABOUT_THE_CALLER.contains(&refusal.rule) => {}
                        Err(refusal) => told = refusal,
                    }
                }
                return Err(told.into());
            }
        };
        if options.warehouse.is_none()
            && let Some(there) = self.home(&view, approved.relations())
            && let Ok(approved) = self.approve_there(context, &view, sql, there, max_rows)
        {
            return Ok(approved);
        }
        let tables = self.tables(context, &approved, &namespace, &view).await?;
        Ok(Approved { sql: approved, place: Place::Here(tables), view })
    }

    /// The one warehouse that has all of `relations` and takes whole queries.
    fn home(&self, view: &View, relations: &[(String, String)]) -> Option<(&str, Dialect)> {
        let place = |(model, dataset): &(String, String)| {
            let model = view.models.iter().find(|known| known.name == *model)?;
            self.warehouses.place(model, model.dataset(dataset)?).ok()
        };
        let first = place(relations.first()?)?.warehouse;
        let others = relations[1..].iter().map(place);
        let is_one = others.into_iter().all(|place| place.is_some_and(|place| place.warehouse == first));
        if is_one { self.warehouses.whole().find(|(name, _)| *name == first) } else { None }
    }

    fn approve_there(
        &self,
        context: &Context,
        view: &Arc<View>,
        sql: &str,
        (name, dialect): (&str, Dialect),
        max_rows: usize,
    ) -> Result<Approved, Refusal> {
        let part = view.there(name, dialect, |model, dataset| match self.warehouses.place(model, dataset) {
            Ok(place) if place.warehouse == name => vec![place.schema, place.table],
            _ => Vec::new(),
        });
        let namespace = self.datasets(context, part);
        let approved = guard::approve(sql, &namespace, dialect, max_rows)?;
        if approved.relations().is_empty() {
            let help = "leave out `warehouse`, or name one of its datasets";
            return Err(Refusal::new("other-warehouse", "the query reads nothing of that warehouse", help));
        }
        Ok(Approved { sql: approved, place: Place::There(name.to_owned()), view: view.clone() })
    }

    /// What starts an approved query.
    fn origin(&self, context: &Context, sql: &ApprovedSql, place: Place) -> Result<Origin, EngineError> {
        let name = match place {
            Place::Here(tables) => return Ok(tables.into()),
            Place::There(name) => name,
        };
        let (warehouse, query) = (self.warehouses.get(&name)?.clone(), self.remote_query(context, sql));
        Ok(Origin::There(Box::pin(
            async move { warehouse.remote().ok_or(RemoteError::Failed)?.run(query).await },
        )))
    }

    fn remote_query(&self, context: &Context, sql: &ApprovedSql) -> RemoteQuery {
        let timeout = Duration::from_secs(self.query.limits().timeout_seconds);
        RemoteQuery { sql: sql.into(), timeout, tag: tag(context) }
    }

    /// Plans a query where it would run: the plan in words, the columns of its result, and the rows to expect.
    async fn planned(&self, context: &Context, approved: Approved) -> Result<Planned, EngineError> {
        match approved.place {
            Place::Here(tables) => {
                let planned = self.query.plan(&approved.sql, tables).await?;
                let fields = planned.logical.schema().fields().iter();
                let columns =
                    fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect();
                Ok(Planned {
                    plan: planned.logical.display_indent().to_string(),
                    columns,
                    rows: planned.rows,
                })
            }
            Place::There(name) => {
                let warehouse = self.warehouses.get(&name)?;
                let remote = warehouse.remote().ok_or(EngineError::Interrupted)?;
                let query = self.remote_query(context, &approved.sql);
                let failed = |error| QueryError::from_warehouse(error, &approved.sql);
                let schema = remote.describe(query.clone()).await.map_err(failed)?;
                let rows = remote.estimate(query).await.map_err(failed)?;
                let fields = schema.fields().iter();
                let columns =
                    fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect();
                let plan = format!("runs as a whole in the warehouse `{name}`");
                Ok(Planned { plan, columns, rows })
            }
        }
    }
}

fn name_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::DataFusion => "datafusion",
        Dialect::PostgreSql => "postgresql",
        Dialect::Snowflake => "snowflake",
    }
}

/// Rules about what the caller may name, which are the same whoever runs the query.
const ABOUT_THE_CALLER: [&str; 6] = [
    "unknown-relation",
    "missing-scope",
    "ambiguous-relation",
    "other-warehouse",
    "too-long",
    "one-statement",
];

/// An approved query and where it runs.
struct Approved {
    sql: ApprovedSql,
    place: Place,
    view: Arc<View>,
}

enum Place {
    Here(Tables),
    /// As a whole in the warehouse of this name.
    There(String),
}

struct Planned {
    plan: String,
    columns: Vec<(String, String)>,
    rows: Option<u64>,
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
