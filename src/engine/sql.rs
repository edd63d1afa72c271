//! SQL operations: check and run, both behind the guard.

use super::{Context, Done, Engine, EngineError};
use crate::auth::Operation;
use crate::guard::{self, ApprovedSql};
use crate::query::{QueryResult, Tables};

/// What a caller may set for one query.
#[derive(Debug, Clone, Copy, Default)]
pub struct SqlOptions {
    /// Fewer rows than the client's limit; more has no effect.
    pub max_rows: Option<usize>,
}

/// The guard's verdict with what follows from it.
#[derive(Debug, Clone)]
pub struct SqlCheck {
    /// The query as it would run.
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
            let (approved, tables) = self.approve(context, sql, SqlOptions::default()).await?;
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
            let touched = Some(relations.join(","));
            let check = SqlCheck {
                secured_sql: approved.sql(),
                relations,
                scopes,
                columns,
                plan: plan.display_indent().to_string(),
            };
            Ok(Done { touched, ..Done::new(check) })
        })
        .await
    }

    /// Runs one query within the caller's scopes and limits.
    pub async fn sql_run(
        &self,
        context: &Context,
        sql: &str,
        options: SqlOptions,
    ) -> Result<QueryResult, EngineError> {
        self.perform(context, Operation::SqlRun, None, async {
            let (approved, tables) = self.approve(context, sql, options).await?;
            let result = self.query.run(context.principal.client_id.as_str(), &approved, tables).await?;
            let touched: Vec<String> =
                approved.relations().iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
            let bytes: usize = result.batches.iter().map(|batch| batch.get_array_memory_size()).sum();
            let rows = result.rows;
            Ok(Done { touched: Some(touched.join(",")), ..Done::new(result).rows(rows).bytes(bytes as u64) })
        })
        .await
    }

    async fn approve(
        &self,
        context: &Context,
        sql: &str,
        options: SqlOptions,
    ) -> Result<(ApprovedSql, Tables), EngineError> {
        let namespace = self.namespace(context).await?;
        let limit = self.query.limits().max_rows;
        let max_rows = options.max_rows.map_or(limit, |wanted| wanted.min(limit));
        let approved = guard::approve(sql, &namespace, max_rows)?;
        let tables = self.tables(context, &approved, &namespace).await?;
        Ok((approved, tables))
    }
}
