//! Rules across the parts of one model: names, keys, relationships, expressions.
//!
//! Knows the typed model; what needs a warehouse or the guard (verified queries, physical columns) is checked by the
//! engine. The rules are listed, with examples, in `rules`.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Visit, Visitor, visit_expressions};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::diagnostic::did_you_mean;
use super::load::Reports;
use super::model::{Dataset, Expression, Field, Metric, Model, Relationship, Sensitivity, Source};

/// Checks one model.
pub(super) fn model(model: &Model, reports: &mut Reports<'_>) {
    let mut lint = Lint::new(model, reports);
    lint.names();
    for dataset in &model.datasets {
        lint.dataset(dataset);
    }
    for relationship in &model.relationships {
        lint.relationship(relationship);
    }
    for metric in &model.metrics {
        lint.metric(metric);
    }
}

/// Suggestions over long lists of names stop after so many comparisons, so that a large broken model loads in time.
const MAX_COMPARISONS: usize = 200_000;

struct Lint<'m, 'r, 't> {
    model: &'m Model,
    reports: &'r mut Reports<'t>,
    datasets: HashMap<&'m str, &'m Dataset>,
    /// Dataset → names of its fields.
    fields: HashMap<&'m str, HashSet<&'m str>>,
    metrics: HashSet<&'m str>,
    relationships: HashSet<&'m str>,
    comparisons: usize,
}

impl<'m, 'r, 't> Lint<'m, 'r, 't> {
    fn new(model: &'m Model, reports: &'r mut Reports<'t>) -> Self {
        let names = |dataset: &'m Dataset| dataset.fields.iter().map(|field| field.name.as_str()).collect();
        Self {
            model,
            reports,
            datasets: model.datasets.iter().map(|dataset| (dataset.name.as_str(), dataset)).collect(),
            fields: model.datasets.iter().map(|dataset| (dataset.name.as_str(), names(dataset))).collect(),
            metrics: model.metrics.iter().map(|metric| metric.name.as_str()).collect(),
            relationships: model.relationships.iter().map(|link| link.name.as_str()).collect(),
            comparisons: 0,
        }
    }

    fn error(&mut self, rule: &'static str, source: &Source, message: String, help: impl Into<String>) {
        self.reports.of(&source.file).error(rule, source.at, message, help);
    }

    fn warn(&mut self, rule: &'static str, source: &Source, message: String, help: impl Into<String>) {
        self.reports.of(&source.file).warn(rule, source.at, message, help);
    }

    fn near(&mut self, name: &str, known: Vec<&'m str>) -> String {
        self.comparisons += known.len();
        if self.comparisons > MAX_COMPARISONS { String::new() } else { did_you_mean(name, known) }
    }

    fn near_dataset(&mut self, name: &str) -> String {
        self.near(name, self.model.datasets.iter().map(|dataset| dataset.name.as_str()).collect())
    }

    fn near_field(&mut self, name: &str, dataset: &'m Dataset) -> String {
        self.near(name, dataset.fields.iter().map(|field| field.name.as_str()).collect())
    }

    fn has_field(&self, dataset: &Dataset, field: &str) -> bool {
        self.fields.get(dataset.name.as_str()).is_some_and(|fields| fields.contains(field))
    }

    fn names(&mut self) {
        let model = self.model;
        if model.description.is_empty() {
            let message = format!("model `{}` has no description", model.name);
            let help = "say what the data is, where it is from, its period";
            self.warn("missing-description", &model.source, message, help);
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

    fn unique(&mut self, what: &str, names: impl Iterator<Item = (&'m str, &'m Source)>) {
        let mut seen: HashMap<String, (&str, &Source)> = HashMap::new();
        for (name, source) in names {
            let Some((other, first)) = seen.insert(name.to_lowercase(), (name, source)) else { continue };
            let place = format!("at {}:{}", first.file, first.at.line);
            if other == name {
                let help = format!("the first is {place}; rename one");
                self.error("duplicate-name", source, format!("a second {what} `{name}`"), help);
            } else {
                // SQL tells them apart only in quotes.
                let message = format!("{what} `{name}` differs from `{other}` by case alone");
                let help = format!("the other is {place}; rename one, or every query has to quote both");
                self.warn("name-differs-by-case", source, message, help);
            }
        }
    }

    fn dataset(&mut self, dataset: &'m Dataset) {
        let what = format!("dataset `{}`", dataset.name);
        self.described(&what, &dataset.name, &dataset.description, &dataset.source);
        self.unique(
            &format!("field of {what},"),
            dataset.fields.iter().map(|item| (item.name.as_str(), &item.source)),
        );
        let parts: Vec<&str> = dataset.relation.split('.').collect();
        if parts.len() > 3 || parts.iter().any(|part| part.trim().is_empty() || part.trim().contains(' ')) {
            let message = format!("{what} has a `source` that is no table, so it cannot be queried");
            let help = "write `warehouse.schema.table`, `schema.table` or `table`; make a view of a query";
            self.warn("unreadable-source", &dataset.source, message, help);
        }
        for column in dataset.primary_key.iter().chain(dataset.unique_keys.iter().flatten()) {
            self.key_column(&format!("a key of {what}"), column, dataset, &dataset.source);
        }
        for field in &dataset.fields {
            self.field(dataset, field);
        }
        for filter in &dataset.filters {
            let name = format!("filter `{}.{}`", dataset.name, filter.name);
            if let Some(expr) = self.parse(&name, &filter.expression, &filter.source) {
                self.columns(&name, &expr, Some(dataset), &filter.source);
            }
        }
    }

    fn field(&mut self, dataset: &'m Dataset, field: &'m Field) {
        let name = format!("field `{}.{}`", dataset.name, field.name);
        self.described(&name, &field.name, &field.description, &field.source);
        self.parse(&name, &field.expression, &field.source);
        if field.is_enum && field.sample_values.is_empty() {
            let message = format!("{name} is an enum without values");
            let help = "list all values in `sample_values`, or drop `is_enum`";
            self.error("enum-without-values", &field.source, message, help);
        }
        let sensitivity = field.sensitivity.max(dataset.sensitivity);
        if field.pii && sensitivity == Sensitivity::Public {
            let message = format!("{name} holds personal data, and everybody may read it");
            let help = "set `sensitivity: protected` or higher, or `pii: false` if it is none";
            self.warn("public-pii", &field.source, message, help);
        }
    }

    fn described(&mut self, what: &str, name: &str, description: &str, source: &Source) {
        let is_echo = || {
            let letters = |text: &'_ str| -> String {
                text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
            };
            let words = letters(description);
            let words = words.strip_prefix("the").unwrap_or(&words);
            words == letters(name)
        };
        if description.is_empty() {
            let help = "say what it means, its unit and its pitfalls";
            self.warn("missing-description", source, format!("{what} has no description"), help);
        } else if description.len() <= 2 * name.len() + 8 && is_echo() {
            let message = format!("the description of {what} repeats its name");
            self.warn("echoing-description", source, message, "say what the name doesn't");
        }
    }

    fn parse(&mut self, what: &str, expression: &Expression, source: &Source) -> Option<Expr> {
        let Some(text) = expression.text_for_engine() else {
            let dialect = expression.dialects().next().map_or("", |(dialect, _)| dialect);
            let message = format!("{what} has an expression in {dialect} alone, so it cannot be queried");
            self.warn("foreign-expression", source, message, "add one in ANSI_SQL");
            return None;
        };
        if let Some(plain) = plain_column(text) {
            return Some(plain);
        }
        match parse_expression(text) {
            Ok(expr) => Some(expr),
            Err(problem) => {
                let message = format!("the expression of {what} does not parse: {problem}");
                self.error("bad-expression", source, message, "write one SQL expression, without SELECT");
                None
            }
        }
    }

    /// SQL that stands beside an expression, such as a metric's filter.
    fn parse_sql(&mut self, what: &str, text: &str, source: &Source) -> Option<Expr> {
        if text.is_empty() { None } else { self.parse(what, &Expression::ansi(text), source) }
    }

    /// Columns of keys and relationships may be physical ones in Ossie, so that an unknown one is no error.
    fn key_column(&mut self, what: &str, column: &str, dataset: &'m Dataset, source: &Source) {
        if !self.has_field(dataset, column) {
            let mut help = self.near_field(column, dataset);
            if help.is_empty() {
                help = "add a field for it, or no query can join by it".to_owned();
            }
            let message = format!("{what} names `{}.{column}`, which is no field", dataset.name);
            self.warn("key-without-field", source, message, help);
        }
    }

    fn relationship(&mut self, link: &'m Relationship) {
        let what = format!("relationship `{}`", link.name);
        let source = &link.source;
        if link.from_columns.len() != link.to_columns.len() {
            let (from, to) = (link.from_columns.len(), link.to_columns.len());
            let message = format!("{what} joins {from} columns to {to}");
            let help = "list the same number of columns on both sides, at least one";
            self.error("relationship-arity", source, message, help);
        }
        for (side, columns) in [(&link.from, &link.from_columns), (&link.to, &link.to_columns)] {
            match self.datasets.get(side.as_str()).copied() {
                None => self.unknown_dataset(&what, side, source),
                Some(dataset) => {
                    for column in columns {
                        self.key_column(&what, column, dataset, source);
                    }
                }
            }
        }
        if let Some(to) = self.datasets.get(link.to.as_str()).copied()
            && link.cardinality != "many_to_many"
        {
            let columns: HashSet<_> = link.to_columns.iter().collect();
            let is_key = std::iter::once(&to.primary_key)
                .chain(&to.unique_keys)
                .any(|key| !key.is_empty() && key.iter().all(|column| columns.contains(column)));
            if !is_key {
                let message =
                    format!("{what} goes to columns of `{}` that hold no primary or unique key", to.name);
                let help = "declare the key, or joins over it may multiply rows";
                self.warn("relationship-not-to-key", source, message, help);
            }
        }
    }

    fn unknown_dataset(&mut self, what: &str, name: &str, source: &Source) {
        let help = self.near_dataset(name);
        let message = format!("{what} names the dataset `{name}`, which does not exist");
        self.error("unknown-dataset", source, message, help);
    }

    fn metric(&mut self, metric: &'m Metric) {
        let what = format!("metric `{}`", metric.name);
        let source = &metric.source;
        self.described(&what, &metric.name, &metric.description, source);
        let base = self.datasets.get(metric.dataset.as_str()).copied();
        if base.is_none() && !metric.dataset.is_empty() {
            self.unknown_dataset(&what, &metric.dataset, source);
            return;
        }
        for input in metric.inputs() {
            if !self.metrics.contains(input.name.as_str()) {
                let help = self.near(
                    &input.name,
                    self.model.metrics.iter().map(|metric| metric.name.as_str()).collect(),
                );
                let message = format!("{what} is made of the metric `{}`, which does not exist", input.name);
                self.error("unknown-metric", source, message, help);
            }
            self.parse_sql(&format!("the input `{}` of {what}", input.name), &input.filter, source);
        }
        for name in &metric.joins {
            if !self.relationships.contains(name.as_str()) {
                let known = self.model.relationships.iter().map(|link| link.name.as_str()).collect();
                let help = self.near(name, known);
                let message = format!("{what} joins by the relationship `{name}`, which does not exist");
                self.error("unknown-relationship", source, message, help);
            }
        }
        let semi = metric.non_additive_dimension.iter();
        let fields = semi.flat_map(|semi| std::iter::once(&semi.name).chain(&semi.window_groupings));
        for name in fields.chain(Some(&metric.time_dimension).filter(|name| !name.is_empty())) {
            let (owner, field) = name.rsplit_once('.').unwrap_or((metric.dataset.as_str(), name));
            let owner = self.datasets.get(owner).copied();
            if !owner.is_some_and(|owner| self.has_field(owner, field)) {
                let help = "write `dataset.field`, or set `dataset` and write the field";
                let message = format!("{what} names `{name}`, which is no field");
                self.error("unknown-field", source, message, help);
            }
        }
        if let Some(expr) = self.parse_sql(&format!("the filter of {what}"), &metric.filter, source) {
            self.columns(&what, &expr, base, source);
        }
        let Some(expr) = self.parse(&what, &metric.expression, source) else { return };
        for (qualifier, column) in columns_of(&expr) {
            match qualifier.as_deref().map_or(base, |name| self.datasets.get(name).copied()) {
                Some(dataset) => self.column(&what, &column, dataset, source),
                None => match qualifier {
                    // A part of a structured column.
                    Some(name) if base.is_some_and(|base| self.has_field(base, &name)) => {}
                    Some(name) => self.unknown_dataset(&what, &name, source),
                    None if self.metrics.contains(column.as_str()) => {}
                    None if metric.inputs().any(|input| input.called() == column) => {}
                    None => {
                        let message = format!("{what} names `{column}` without saying of which dataset");
                        let help = "add `dataset:`, or qualify the column";
                        self.warn("ambiguous-grain", source, message, help);
                    }
                },
            }
        }
    }

    fn columns(&mut self, what: &str, expr: &Expr, base: Option<&'m Dataset>, source: &Source) {
        for (qualifier, column) in columns_of(expr) {
            let dataset = qualifier.as_deref().map_or(base, |name| self.datasets.get(name).copied());
            match (dataset, qualifier) {
                (Some(dataset), _) => self.column(what, &column, dataset, source),
                (None, Some(name)) if base.is_some_and(|base| self.has_field(base, &name)) => {}
                (None, Some(name)) => self.unknown_dataset(what, &name, source),
                (None, None) => {}
            }
        }
    }

    fn column(&mut self, what: &str, column: &str, dataset: &'m Dataset, source: &Source) {
        if !self.has_field(dataset, column) && !self.has_field(dataset, &column.to_lowercase()) {
            let help = self.near_field(column, dataset);
            let message = format!("{what} names `{}.{column}`, which does not exist", dataset.name);
            self.error("unknown-field", source, message, help);
        }
    }
}

/// The commonest expression, without the parser's cost: the name of a column, plain or in quotes.
fn plain_column(text: &str) -> Option<Expr> {
    use datafusion::sql::sqlparser::ast::Ident;
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.is_empty() && !inner.contains('"')).then(|| Expr::Identifier(Ident::with_quote('"', inner)))
}

/// Parses one SQL expression and nothing more.
pub fn parse_expression(text: &str) -> Result<Expr, String> {
    let dialect = GenericDialect {};
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(64)
        .try_with_sql(text)
        .map_err(|error| error.to_string())?;
    let expr = parser.parse_expr().map_err(|error| error.to_string())?;
    if has_wide_distinct(&expr) {
        return Err("`IS DISTINCT FROM` before AND or OR needs parentheses around it".to_owned());
    }
    match parser.peek_token().token {
        datafusion::sql::sqlparser::tokenizer::Token::EOF => Ok(expr),
        token => Err(format!("unexpected `{token}` after the expression")),
    }
}

/// Whether the parser took what follows the right side of an `IS [NOT] DISTINCT FROM` for a part of it
/// (<https://github.com/apache/datafusion-sqlparser-rs/pull/2436>).
fn has_wide_distinct(expr: &Expr) -> bool {
    let walked = visit_expressions(expr, |expr| match expr {
        Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) => match right.as_ref() {
            Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. } => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    });
    walked.is_break()
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
