//! What only data can tell: plans every dataset, metric and verified query through the engine, and runs none.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::{Context, Engine, EngineError};
use crate::query::QueryError;
use crate::semantic::{
    Catalog, Dataset, Diagnostic, Model, Severity, Source, columns_of, parse_expression, quote,
};

/// Findings of the rules `bad-source`, `bad-expression` and `verified-query`, all of them errors.
pub async fn findings(engine: &Engine, catalog: &Catalog) -> Vec<Diagnostic> {
    let mut planner =
        Planner { engine, context: Context::local("check"), texts: HashMap::new(), findings: Vec::new() };
    for model in &catalog.models {
        let mut bad = Vec::new();
        for dataset in &model.datasets {
            if !planner.dataset(model, dataset).await {
                bad.push(dataset.name.as_str());
            }
        }
        for metric in &model.metrics {
            // Without a dataset there is no telling which joins it wants; one over bad data would only repeat that.
            if metric.dataset.is_empty() || bad.contains(&metric.dataset.as_str()) {
                continue;
            }
            let from = table(model, &metric.dataset);
            let sql = format!("SELECT {} FROM {from}", metric.expression.text());
            if let Err(error) = planner.plan(&sql).await {
                let (message, help) = told(&error, false);
                let message =
                    format!("metric `{}` does not plan over `{}`: {message}", metric.name, metric.dataset);
                planner.report("bad-expression", &metric.source, message, help);
            }
        }
        for verified in &model.verified_queries {
            if let Err(error) = planner.plan(&verified.sql).await {
                let (message, help) = told(&error, true);
                let message = format!("verified query `{}` would not run: {message}", verified.name);
                planner.report("verified-query", &verified.source, message, help);
            }
        }
    }
    planner.findings
}

struct Planner<'a> {
    engine: &'a Engine,
    context: Context,
    /// Source files, for snippets.
    texts: HashMap<Arc<str>, String>,
    findings: Vec<Diagnostic>,
}

impl Planner<'_> {
    async fn plan(&self, sql: &str) -> Result<(), EngineError> {
        self.engine.sql_check(&self.context, sql).await.map(drop)
    }

    /// Whether the dataset's source opens and holds what its fields need.
    async fn dataset(&mut self, model: &Model, dataset: &Dataset) -> bool {
        let sql = format!("SELECT * FROM {} LIMIT 0", table(model, &dataset.name));
        let Err(error) = self.plan(&sql).await else { return true };
        let (message, help) = told(&error, false);
        // The engine stops at the first column that is not there; the field that needs it is the place to mend.
        let field = match &error {
            EngineError::Query(QueryError::UnknownColumn { name, .. }) => field_needing(dataset, name),
            _ => None,
        };
        match field {
            Some(field) => {
                let message =
                    format!("field `{}` cannot be read from `{}`: {message}", field.name, dataset.relation);
                let source = field.source.clone();
                self.report("bad-source", &source, message, help);
            }
            None => {
                let message = format!(
                    "dataset `{}` cannot be read from `{}`: {message}",
                    dataset.name, dataset.relation
                );
                let help =
                    if help.is_empty() { "check `source` and the warehouse's path".to_owned() } else { help };
                self.report("bad-source", &dataset.source, message, help);
            }
        }
        false
    }

    fn report(&mut self, rule: &'static str, source: &Source, message: String, help: String) {
        let text = self.texts.entry(source.file.clone()).or_insert_with(|| {
            // Read a moment ago; if it is gone, the finding stands without its line.
            std::fs::read_to_string(source.file.as_ref()).unwrap_or_default()
        });
        let line = usize::try_from(source.at.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let snippet = text.lines().nth(line).unwrap_or_default().chars().take(200).collect();
        self.findings.push(Diagnostic {
            severity: Severity::Error,
            rule,
            file: source.file.to_string(),
            line: source.at.line,
            column: source.at.column,
            message,
            help,
            snippet,
        });
    }
}

fn table(model: &Model, dataset: &str) -> String {
    format!("{}.{}", quote(&model.name), quote(dataset))
}

fn field_needing<'a>(dataset: &'a Dataset, column: &str) -> Option<&'a crate::semantic::Field> {
    let column = column.rsplit('.').next().unwrap_or(column).trim_matches('"');
    dataset.fields.iter().find(|field| {
        let text = field.expression.text();
        text == column
            || parse_expression(text)
                .is_ok_and(|expression| columns_of(&expression).iter().any(|(_, name)| name == column))
    })
}

/// The message and the help of an error; for SQL that stands in a file by itself also the place within it.
fn told(error: &EngineError, with_position: bool) -> (String, String) {
    match error {
        EngineError::Refused(refusal) => {
            let place = match refusal.position.filter(|_| with_position) {
                Some((line, column)) => format!(" (line {line}, column {column} of its SQL)"),
                None => String::new(),
            };
            (format!("{}{place}", refusal.message), refusal.help.clone())
        }
        other => {
            let text = other.to_string();
            let (message, help) = text.split_once("; ").unwrap_or((&text, ""));
            (message.to_owned(), help.to_owned())
        }
    }
}
