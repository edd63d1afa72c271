//! Runs statements as the owner of the process, and hands out what they gave.

use std::sync::Arc;

use super::Script;
use super::complete::Names;
use super::output::{Target, rows};
use super::problem;
use super::split::split;
use crate::cli::CliError;
use crate::cli::output::remark;
use crate::config::Config;
use crate::engine::{Context, Engine, EngineError, Parts, SqlOptions};
use crate::query::QueryResult;

/// Rows that the shell's own look-ups may have, whatever the user's limit is.
const LOOKUP_ROWS: usize = 200_000;

/// An engine without its service, and who asks. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    engine: Arc<Engine>,
    user: String,
    max_rows: usize,
}

impl Session {
    /// `max_rows` is the user's own limit; the machine's owner may raise it over the configuration's.
    pub async fn open(mut config: Config, max_rows: Option<usize>) -> Result<Self, CliError> {
        let max_rows = max_rows.unwrap_or(config.sql.max_rows);
        config.sql.max_rows = max_rows.max(config.sql.max_rows).max(LOOKUP_ROWS);
        // Nobody else's queries are there to be protected from a large result.
        config.sql.max_result_bytes = config.sql.max_result_bytes.max(config.sql.memory_pool_bytes);
        let engine = Engine::open(config, Parts::QueryOnly)
            .await
            .map_err(|error| CliError::Open(error.to_string()))?;
        let user =
            std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "owner".to_owned());
        Ok(Self { engine: Arc::new(engine), user, max_rows })
    }

    pub fn config(&self) -> &Config {
        self.engine.config()
    }

    pub async fn close(&self) {
        self.engine.close().await;
    }

    fn context(&self) -> Context {
        Context::local(&self.user)
    }

    /// One statement of the user's.
    pub async fn query(&self, sql: &str) -> Result<QueryResult, EngineError> {
        self.engine
            .sql_run(
                &self.context(),
                sql,
                SqlOptions { max_rows: Some(self.max_rows), ..SqlOptions::default() },
            )
            .await
    }

    /// A look-up of the shell's own.
    pub async fn look_up(&self, sql: &str) -> Result<QueryResult, EngineError> {
        self.engine.sql_run(&self.context(), sql, SqlOptions::default()).await
    }

    /// Name and type of each column of a query's result.
    pub async fn columns(&self, sql: &str) -> Result<Vec<(String, String)>, EngineError> {
        Ok(self.engine.sql_check(&self.context(), sql).await?.columns)
    }

    /// Every table and column that there is.
    pub async fn names(&self) -> Result<Names, EngineError> {
        let columns = self
            .look_up(
                "SELECT table_schema, table_name, column_name FROM information_schema.columns \
                 ORDER BY table_schema, table_name, ordinal_position",
            )
            .await?;
        Ok(Names::from_rows(text_rows(&columns)))
    }

    /// All statements of all scripts, up to the first that fails.
    pub async fn run_scripts(&self, scripts: Vec<Script>, target: &Target) -> Result<(), CliError> {
        for script in scripts {
            self.run_text(&script.name, &script.text, target, false).await?;
        }
        Ok(())
    }

    /// All statements of one text, up to the first that fails; an error is told here.
    pub async fn run_text(
        &self,
        name: &str,
        text: &str,
        target: &Target,
        timing: bool,
    ) -> Result<(), CliError> {
        let statements = split(text);
        if statements.is_empty() {
            remark("-- there is no statement here");
        }
        for statement in statements {
            let sql = problem::padded(text, statement);
            // In a task of its own: one poll of a query may compute for long, and Ctrl-C must not wait for that.
            let session = self.clone();
            let mut running = tokio::spawn(async move { session.query(&sql).await });
            let result = tokio::select! {
                result = &mut running => result?,
                _ = tokio::signal::ctrl_c() => {
                    running.abort();
                    return Err(CliError::Cancelled);
                }
            };
            let result = result.map_err(|error| {
                error.log("steward sql");
                remark(&problem::render(&error, name, text));
                CliError::Told
            })?;
            self.hand_out(result, target, timing).await?;
        }
        Ok(())
    }

    async fn hand_out(&self, result: QueryResult, target: &Target, timing: bool) -> Result<(), CliError> {
        let (count, truncated_at, elapsed) = (result.rows, result.truncated_at, result.elapsed);
        let target = target.clone();
        tokio::task::spawn_blocking(move || target.write(&result)).await??;
        if let Some(limit) = truncated_at {
            remark(&format!("-- cut at {}; there are more, --max-rows N raises the limit", rows(limit)));
        }
        if timing {
            remark(&format!("-- {} in {:.1} ms", rows(count), elapsed.as_secs_f64() * 1000.0));
        }
        Ok(())
    }
}

/// The cells of a result as text, NULL as nothing.
pub fn text_rows(result: &QueryResult) -> Vec<Vec<String>> {
    use datafusion::arrow::array::Array;
    use datafusion::arrow::util::display::array_value_to_string;
    let mut rows = Vec::with_capacity(result.rows);
    for batch in &result.batches {
        for row in 0..batch.num_rows() {
            let cell = |column: &Arc<dyn Array>| {
                if column.is_null(row) {
                    String::new()
                } else {
                    array_value_to_string(column, row).unwrap_or_default()
                }
            };
            rows.push(batch.columns().iter().map(cell).collect());
        }
    }
    rows
}
