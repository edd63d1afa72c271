//! Rules across the parts of one model: names, keys, relationships, expressions.
//!
//! Knows the typed model; what needs a warehouse or the guard (verified queries, physical columns) is checked by the engine.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::diagnostic::{Diagnostic, Findings, did_you_mean};
use super::model::{Dataset, Expression, Model, Source};

/// Checks one model; findings come in no particular order.
pub(super) fn model(model: &Model, texts: &BTreeMap<String, String>) -> Vec<Diagnostic> {
    let mut lint = Lint { texts, findings: Vec::new() };
    lint.names(model);
    for dataset in &model.datasets {
        lint.dataset(dataset);
    }
    lint.relationships(model);
    lint.metrics(model);
    lint.findings
}

struct Lint<'t> {
    texts: &'t BTreeMap<String, String>,
    findings: Vec<Diagnostic>,
}

impl Lint<'_> {
    fn error(&mut self, rule: &'static str, source: &Source, message: String, help: impl Into<String>) {
        self.with(source, |findings| findings.error(rule, source.at, message, help));
    }

    fn warn(&mut self, rule: &'static str, source: &Source, message: String, help: impl Into<String>) {
        self.with(source, |findings| findings.warn(rule, source.at, message, help));
    }

    fn with(&mut self, source: &Source, report: impl FnOnce(&mut Findings<'_>)) {
        let text = self.texts.get(source.file.as_ref()).map_or("", String::as_str);
        let mut findings = Findings::new(&source.file, text);
        report(&mut findings);
        self.findings.extend(findings.list);
    }

    fn names(&mut self, model: &Model) {
        if model.description.is_empty() {
            let message = format!("model `{}` has no description", model.name);
            self.warn(
                "missing-description",
                &model.source,
                message,
                "say what the data is, where it is from, its period",
            );
        }
        self.unique("dataset", model.datasets.iter().map(|item| (item.name.as_str(), &item.source)));
        self.unique(
            "relationship",
            model.relationships.iter().map(|item| (item.name.as_str(), &item.source)),
        );
        self.unique("metric", model.metrics.iter().map(|item| (item.name.as_str(), &item.source)));
        self.unique(
            "verified query",
            model.verified_queries.iter().map(|item| (item.name.as_str(), &item.source)),
        );
    }

    /// Names are compared without case: unquoted SQL could not tell them apart otherwise.
    fn unique<'m>(&mut self, what: &str, names: impl Iterator<Item = (&'m str, &'m Source)>) {
        let mut seen: HashMap<String, &Source> = HashMap::new();
        for (name, source) in names {
            if let Some(first) = seen.insert(name.to_lowercase(), source) {
                let message = format!("a second {what} `{name}`");
                let help = format!("the first is at {}:{}; rename one", first.file, first.at.line);
                self.error("duplicate-name", source, message, help);
            }
        }
    }

    fn dataset(&mut self, dataset: &Dataset) {
        let what = format!("dataset `{}`", dataset.name);
        self.described(&what, &dataset.name, &dataset.description, &dataset.source);
        self.unique(
            &format!("field of {what}"),
            dataset.fields.iter().map(|item| (item.name.as_str(), &item.source)),
        );
        let parts: Vec<&str> = dataset.relation.split('.').collect();
        if parts.len() > 3 || parts.iter().any(|part| part.trim().is_empty()) {
            let message = format!("{what} has the source `{}`", dataset.relation);
            self.error(
                "bad-source",
                &dataset.source,
                message,
                "write `warehouse.schema.table`, `schema.table` or `table`",
            );
        }
        for column in dataset.primary_key.iter().chain(dataset.unique_keys.iter().flatten()) {
            if dataset.field(column).is_none() {
                let help = did_you_mean(column, dataset.fields.iter().map(|field| field.name.as_str()));
                self.error(
                    "unknown-field",
                    &dataset.source,
                    format!("a key of {what} names `{column}`, which is no field"),
                    help,
                );
            }
        }
        for field in &dataset.fields {
            let name = format!("field `{}.{}`", dataset.name, field.name);
            self.described(&name, &field.name, &field.description, &field.source);
            self.parse(&name, &field.expression, &field.source);
            if field.is_enum && field.sample_values.is_empty() {
                let message = format!("{name} is an enum without values");
                self.error(
                    "enum-without-values",
                    &field.source,
                    message,
                    "list all values in `sample_values`, or drop `is_enum`",
                );
            }
        }
        for filter in &dataset.filters {
            self.parse(
                &format!("filter `{}.{}`", dataset.name, filter.name),
                &filter.expression,
                &filter.source,
            );
        }
    }

    fn described(&mut self, what: &str, name: &str, description: &str, source: &Source) {
        let words = |text: &str| text.to_lowercase().replace(['_', '-', ' ', '.'], "");
        if description.is_empty() {
            self.warn(
                "missing-description",
                source,
                format!("{what} has no description"),
                "say what it means, its unit and its pitfalls",
            );
        } else if words(description) == words(name) {
            self.warn(
                "echoing-description",
                source,
                format!("the description of {what} repeats its name"),
                "say what the name doesn't",
            );
        }
    }

    fn parse(&mut self, what: &str, expression: &Expression, source: &Source) -> Option<Expr> {
        match parse_expression(expression.text()) {
            Ok(expr) => Some(expr),
            Err(problem) => {
                let message = format!("the expression of {what} does not parse: {problem}");
                self.error("bad-expression", source, message, "write one SQL expression, without SELECT");
                None
            }
        }
    }

    fn relationships(&mut self, model: &Model) {
        for relationship in &model.relationships {
            let what = format!("relationship `{}`", relationship.name);
            let source = &relationship.source;
            if relationship.from_columns.is_empty()
                || relationship.from_columns.len() != relationship.to_columns.len()
            {
                let message = format!(
                    "{what} joins {} columns to {}",
                    relationship.from_columns.len(),
                    relationship.to_columns.len()
                );
                self.error(
                    "relationship-arity",
                    source,
                    message,
                    "list the same number of columns on both sides, at least one",
                );
            }
            for (side, columns) in [
                (&relationship.from, &relationship.from_columns),
                (&relationship.to, &relationship.to_columns),
            ] {
                let Some(dataset) = model.dataset(side) else {
                    let help = did_you_mean(side, model.datasets.iter().map(|dataset| dataset.name.as_str()));
                    self.error(
                        "unknown-dataset",
                        source,
                        format!("{what} names the dataset `{side}`, which does not exist"),
                        help,
                    );
                    continue;
                };
                for column in columns.iter().filter(|column| dataset.field(column).is_none()) {
                    let help = did_you_mean(column, dataset.fields.iter().map(|field| field.name.as_str()));
                    self.error(
                        "unknown-field",
                        source,
                        format!("{what} names `{side}.{column}`, which does not exist"),
                        help,
                    );
                }
            }
            if let Some(to) = model.dataset(&relationship.to)
                && relationship.cardinality != "many_to_many"
            {
                let columns: HashSet<_> = relationship.to_columns.iter().collect();
                let is_key = std::iter::once(&to.primary_key)
                    .chain(&to.unique_keys)
                    .any(|key| !key.is_empty() && key.iter().all(|column| columns.contains(column)));
                if !is_key {
                    let message =
                        format!("{what} goes to columns of `{}` that hold no primary or unique key", to.name);
                    self.warn(
                        "relationship-not-to-key",
                        source,
                        message,
                        "declare the key, or joins over it may multiply rows",
                    );
                }
            }
        }
    }

    fn metrics(&mut self, model: &Model) {
        for metric in &model.metrics {
            let what = format!("metric `{}`", metric.name);
            self.described(&what, &metric.name, &metric.description, &metric.source);
            let Some(expr) = self.parse(&what, &metric.expression, &metric.source) else { continue };
            let base = model.dataset(&metric.dataset);
            if base.is_none() && !metric.dataset.is_empty() {
                let help =
                    did_you_mean(&metric.dataset, model.datasets.iter().map(|dataset| dataset.name.as_str()));
                let message = format!("{what} names the dataset `{}`, which does not exist", metric.dataset);
                self.error("unknown-dataset", &metric.source, message, help);
                continue;
            }
            for (qualifier, column) in columns_of(&expr) {
                let dataset = match qualifier.as_deref() {
                    None => base,
                    Some(name) => model.dataset(name),
                };
                match dataset {
                    Some(dataset) if dataset.field(&column).is_none() => {
                        let help =
                            did_you_mean(&column, dataset.fields.iter().map(|field| field.name.as_str()));
                        let message =
                            format!("{what} names `{}.{column}`, which does not exist", dataset.name);
                        self.error("unknown-field", &metric.source, message, help);
                    }
                    Some(_) => {}
                    None if qualifier.is_some() || model.metrics.iter().any(|other| other.name == column) => {
                    }
                    None => {
                        let message = format!("{what} names `{column}` without saying of which dataset");
                        self.warn(
                            "ambiguous-grain",
                            &metric.source,
                            message,
                            "add `dataset:`, or qualify the column",
                        );
                    }
                }
            }
        }
    }
}

/// Parses one SQL expression and nothing more.
pub fn parse_expression(text: &str) -> Result<Expr, String> {
    let dialect = GenericDialect {};
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(64)
        .try_with_sql(text)
        .map_err(|error| error.to_string())?;
    let expr = parser.parse_expr().map_err(|error| error.to_string())?;
    match parser.peek_token().token {
        datafusion::sql::sqlparser::tokenizer::Token::EOF => Ok(expr),
        token => Err(format!("unexpected `{token}` after the expression")),
    }
}

/// The columns an expression names: `(qualifier, column)`, in order, with repetition.
pub fn columns_of(expr: &Expr) -> Vec<(Option<String>, String)> {
    struct Columns(Vec<(Option<String>, String)>);
    impl Visitor for Columns {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(name) => self.0.push((None, name.value.clone())),
                Expr::CompoundIdentifier(parts) if parts.len() >= 2 => {
                    let qualifier = parts[parts.len() - 2].value.clone();
                    self.0.push((Some(qualifier), parts[parts.len() - 1].value.clone()));
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut columns = Columns(Vec::new());
    let _ = expr.visit(&mut columns);
    columns.0
}
