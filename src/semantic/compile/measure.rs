//! From metrics to atoms: an atom is one aggregate over the rows of one dataset, a measure is an expression over atoms.
//!
//! M1 an atom knows its home, the dataset of whose rows each counts at most once in a group. M2 metrics that are made of
//! metrics resolve at the query's grain, each with its own filters and offsets. M3 a circle of metrics is an error.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, VisitMut,
    VisitorMut,
};

use super::dialect::{aggregate_name, as_double, is_distinct, verbatim};
use super::error::{CompileCode, CompileError, Result};
use super::expr::{self, Names, Shape, as_slot};
use super::time::Shift;
use crate::semantic::model::{Grain, Metric, MetricInput, MetricKind, TimeSpan};

/// Metrics of metrics that one query may come to; more would make a text that nobody reads.
const MAX_VISITS: usize = 2_000;

/// A condition on rows, resolved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub expr: Expr,
    /// Relationships named for it.
    pub joins: Vec<usize>,
}

/// How far a cumulative metric reaches back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    All,
    Window(TimeSpan),
    ToDate(Grain),
}

/// Only the first or last value in time counts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SemiAdditive {
    pub time: Expr,
    pub latest: bool,
    pub groupings: Vec<Expr>,
}

/// Where an atom's rows come from. Atoms with equal sources are aggregated together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RowSource {
    pub home: usize,
    pub conditions: Vec<Condition>,
    pub joins: Vec<usize>,
    pub shift: Option<Shift>,
    pub reach: Option<Reach>,
    pub semi: Option<SemiAdditive>,
    /// The metric's own time field, resolved.
    pub time: Option<(usize, usize)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Atom {
    pub function: Expr,
    pub source: RowSource,
    /// Counts: no rows are zero of them.
    pub counts: bool,
    /// The function that puts parts of it together, if one does.
    pub combine: Option<&'static str>,
}

/// A dimension as measures see it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupKey {
    /// The expression before its grain is taken; `None` for the time axis of each metric's own.
    pub expr: Option<Expr>,
}

/// Turns measures into expressions over atoms.
pub(super) struct Measures<'a> {
    pub names: Names<'a>,
    pub keys: Vec<GroupKey>,
    pub atoms: Vec<Atom>,
    /// Where `COUNT(*)` counts, if nothing nearer says so.
    pub default_home: Option<usize>,
    /// Datasets that the rest of the query is about, among which `COUNT(*)` takes the finest.
    pub around: BTreeSet<usize>,
    /// Metrics looked into so far, repetitions included.
    pub visited: usize,
    /// Names that the query gave to measures.
    pub aliases: HashMap<String, Expr>,
}

/// What an enclosing metric asks of the metrics that it is made of.
#[derive(Debug, Clone, Default)]
struct Frame {
    conditions: Vec<Condition>,
    joins: Vec<usize>,
    shift: Option<Shift>,
    stack: Vec<usize>,
}

/// The metric, or expression, whose text is being read.
struct Body<'m> {
    what: String,
    /// Datasets whose fields may be named bare.
    near: BTreeSet<usize>,
    home: Option<usize>,
    inputs: HashMap<String, &'m MetricInput>,
    metric: Option<(&'m Metric, MetricKind)>,
    /// In a predicate after aggregation, fields that are no dimension have their own error.
    having: bool,
}

impl Measures<'_> {
    /// A metric of the model by its position.
    pub fn metric(&mut self, at: usize) -> Result<Expr> {
        self.metric_in(at, &Frame::default())
    }

    /// An expression over aggregates and metrics, from a query. `having`: it is a condition after aggregation.
    pub fn expression(&mut self, expr: Expr, what: &str, having: bool) -> Result<Expr> {
        let body = Body {
            what: what.to_owned(),
            near: BTreeSet::new(),
            home: None,
            inputs: HashMap::new(),
            metric: None,
            having,
        };
        self.body(expr, &body, &Frame::default(), false)
    }

    fn metric_in(&mut self, at: usize, frame: &Frame) -> Result<Expr> {
        let graph = self.names.graph;
        let metric = graph.metric(at);
        if frame.stack.contains(&at) {
            let message = format!("metric `{}` is made of itself; break the circle", metric.name);
            return Err(CompileError::new(CompileCode::InvalidModel, message));
        }
        self.visited += 1;
        if self.visited > MAX_VISITS {
            let message =
                format!("the query comes to more than {MAX_VISITS} metrics of metrics; ask for less at once");
            return Err(CompileError::invalid(message));
        }
        let mut frame = frame.clone();
        frame.stack.push(at);
        let home = match metric.dataset.as_str() {
            "" => None,
            name => Some(graph.find_dataset(name).ok_or_else(|| graph.no_such_dataset(name))?),
        };
        let near: BTreeSet<usize> = home.into_iter().collect();
        for name in &metric.joins {
            frame.joins.push(graph.find_relationship(name)?);
        }
        let what = format!("metric `{}`", metric.name);
        self.add_condition(&mut frame, &metric.filter, &near, &what)?;
        let kind = graph.kind(at);
        let inputs = metric.inputs().map(|input| (input.called().to_lowercase(), input)).collect();
        let body = Body { what, near, home, inputs, metric: Some((metric, kind)), having: false };
        let (text, own) = self.names.dialect.pick(&metric.expression);
        // Expressions in the common dialect are parsed once a model, not once a query.
        let parsed = match own {
            true => expr::parse(text, &body.what)?,
            false => graph.metric_expr(at)?,
        };
        let mut expr = match kind {
            MetricKind::Ratio => self.ratio(metric, &body, &frame)?,
            _ => self.body(parsed, &body, &frame, own)?,
        };
        if matches!(kind, MetricKind::Derived) {
            divide_exactly(&mut expr)?;
        }
        if let Some(value) = &metric.fill_nulls_with {
            expr = call("COALESCE", vec![expr, verbatim(value.as_str())]);
        }
        Ok(expr)
    }

    fn ratio(&mut self, metric: &Metric, body: &Body<'_>, frame: &Frame) -> Result<Expr> {
        let (Some(over), Some(under)) = (&metric.numerator, &metric.denominator) else {
            let message = format!("{} is a ratio without numerator or denominator", body.what);
            return Err(CompileError::new(CompileCode::InvalidModel, message));
        };
        let over = self.input(over, body, frame)?;
        let under = self.input(under, body, frame)?;
        Ok(Expr::Nested(Box::new(Expr::BinaryOp {
            left: Box::new(as_double(over)),
            op: BinaryOperator::Divide,
            right: Box::new(call("NULLIF", vec![under, verbatim("0")])),
        })))
    }

    fn input(&mut self, input: &MetricInput, body: &Body<'_>, frame: &Frame) -> Result<Expr> {
        let at = self
            .names
            .graph
            .find_metric(&input.name)
            .ok_or_else(|| self.names.graph.no_such_metric(&input.name))?;
        let mut frame = frame.clone();
        let metric = self.names.graph.metric(at);
        let near = match metric.dataset.as_str() {
            "" => body.near.clone(),
            name => self.names.graph.find_dataset(name).into_iter().collect(),
        };
        self.add_condition(&mut frame, &input.filter, &near, &format!("the input `{}`", input.name))?;
        let shift = match (input.offset_window, input.offset_to_grain) {
            (Some(span), _) => Some(Shift::Back(span)),
            (None, Some(grain)) => Some(Shift::ToStartOf(grain)),
            (None, None) => None,
        };
        if shift.is_some() && frame.shift.is_some() {
            let message = format!("{} has an offset inside an offset; write one offset", body.what);
            return Err(CompileError::new(CompileCode::InvalidModel, message));
        }
        frame.shift = shift.or(frame.shift);
        self.metric_in(at, &frame)
    }

    fn add_condition(
        &mut self,
        frame: &mut Frame,
        text: &str,
        near: &BTreeSet<usize>,
        what: &str,
    ) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut condition = expr::parse(text, &format!("the filter of {what}"))?;
        let shape = expr::shape(&condition)?;
        row_level(&shape, &format!("the filter of {what}"))?;
        self.names.resolve(&mut condition, near)?;
        self.names.dialect.translate(&mut condition, false)?;
        frame.conditions.push(Condition { expr: condition, joins: Vec::new() });
        Ok(())
    }

    fn body(&mut self, mut expr: Expr, body: &Body<'_>, frame: &Frame, own: bool) -> Result<Expr> {
        let shape = expr::shape(&expr)?;
        if shape.nested_aggregate {
            let message = format!(
                "{} aggregates an aggregate, which is deferred (§10); write the single-step form, such as SUM(x) for SUM(SUM(x))",
                body.what
            );
            return Err(CompileError::new(CompileCode::NestedAggregationDeferred, message));
        }
        if shape.nested_window {
            let message = format!(
                "{} has a nested window; use a single window, and a derived field for the inner one",
                body.what
            );
            return Err(CompileError::new(CompileCode::NestedWindow, message));
        }
        if shape.window && frame.stack.len() > 1 {
            let message = format!(
                "{} has a window and stands inside another metric; composition of windowed metrics is deferred (§10), so query it by itself, or use a derived field",
                body.what
            );
            return Err(CompileError::new(CompileCode::WindowedMetricComposition, message));
        }
        self.names.dialect.translate(&mut expr, own)?;
        let mixed = shape.aggregate.is_some();
        let mut walk = Walk { measures: self, body, frame, mixed };
        match VisitMut::visit(&mut expr, &mut walk) {
            ControlFlow::Continue(()) => {
                Ok(if as_slot(&expr).is_some() { expr } else { Expr::Nested(Box::new(expr)) })
            }
            ControlFlow::Break(error) => Err(*error),
        }
    }

    /// Makes an atom of one aggregate call; equal ones are one.
    fn atom(&mut self, function: &Function, body: &Body<'_>, frame: &Frame) -> Result<Expr> {
        let name = aggregate_name(function).unwrap_or_default();
        let mut call = Expr::Function(function.clone());
        self.names.resolve(&mut call, &body.near)?;
        let home = self.home(&expr::datasets(&call), body, frame)?;
        let counts = matches!(name.as_str(), "count" | "approx_distinct" | "count_if");
        let combine = match (name.as_str(), is_distinct(function)) {
            ("sum" | "count" | "count_if", false) => Some("SUM"),
            ("min", _) => Some("MIN"),
            ("max", _) => Some("MAX"),
            _ => None,
        };
        let atom = Atom { function: call, source: self.source(home, body, frame)?, counts, combine };
        let at = self.atoms.iter().position(|known| *known == atom).unwrap_or_else(|| {
            self.atoms.push(atom);
            self.atoms.len() - 1
        });
        Ok(expr::atom(at))
    }

    /// M1. The dataset that the metric names, else the finest one that the aggregate's arguments come from.
    fn home(&self, used: &BTreeSet<usize>, body: &Body<'_>, frame: &Frame) -> Result<usize> {
        let graph = self.names.graph;
        if let Some(home) = body.home {
            let mut with_home = used.clone();
            with_home.insert(home);
            if graph.finest(&with_home)? == Some(home) {
                return Ok(home);
            }
        }
        if used.is_empty() {
            let mut around = self.around.clone();
            around.extend(frame.conditions.iter().flat_map(|condition| expr::datasets(&condition.expr)));
            let finest = if around.is_empty() { None } else { graph.finest(&around)? };
            return match (body.home.or(self.default_home), finest) {
                (Some(home), _) | (None, Some(home)) => Ok(home),
                _ => {
                    let message =
                        format!("{} counts rows without saying of which dataset; add `dataset:`", body.what);
                    Err(CompileError::new(CompileCode::AmbiguousMeasureGrain, message))
                }
            };
        }
        if let Some(home) = graph.finest(used)? {
            return Ok(home);
        }
        let list: Vec<&str> = used.iter().map(|at| graph.name(*at)).collect();
        let first = used.iter().next().copied().unwrap_or_default();
        let code = match used.iter().all(|at| graph.connected(first, *at)) {
            true => CompileCode::MnNoSafeRewrite,
            false => CompileCode::NoStitchingDimension,
        };
        let message = format!(
            "{} aggregates over {} at once, none of which has one row of the others for each of its own; make a metric of each and combine them, or add a bridge or a shared dimension",
            body.what,
            list.join(" and ")
        );
        Err(CompileError::new(code, message))
    }

    fn source(&self, home: usize, body: &Body<'_>, frame: &Frame) -> Result<RowSource> {
        let mut source = RowSource {
            home,
            conditions: frame.conditions.clone(),
            joins: frame.joins.clone(),
            shift: frame.shift,
            reach: None,
            semi: None,
            time: None,
        };
        let Some((metric, kind)) = body.metric else { return Ok(source) };
        if kind == MetricKind::Cumulative {
            source.reach = Some(match (metric.window, metric.grain_to_date) {
                (Some(span), _) => Reach::Window(span),
                (None, Some(grain)) => Reach::ToDate(grain),
                (None, None) => Reach::All,
            });
        }
        if !metric.time_dimension.is_empty() {
            source.time = Some(self.field_named(&metric.time_dimension, home)?);
        }
        if let Some(semi) = &metric.non_additive_dimension {
            let pick = |name: &str| {
                let (dataset, field) = self.field_named(name, home)?;
                self.names.field(dataset, &self.names.graph.dataset(dataset).fields[field].name)
            };
            source.semi = Some(SemiAdditive {
                time: pick(&semi.name)?,
                latest: semi.latest,
                groupings: semi.window_groupings.iter().map(|name| pick(name)).collect::<Result<_>>()?,
            });
        }
        Ok(source)
    }

    /// A field by `dataset.field`, or by its name in `home`.
    pub fn field_named(&self, name: &str, home: usize) -> Result<(usize, usize)> {
        let graph = self.names.graph;
        let (dataset, field) = match name.rsplit_once('.') {
            Some((dataset, field)) => {
                let dataset = dataset.rsplit('.').next().unwrap_or(dataset);
                (graph.find_dataset(dataset).ok_or_else(|| graph.no_such_dataset(dataset))?, field)
            }
            None => (home, name),
        };
        let at = graph.find_field(dataset, field).ok_or_else(|| graph.no_such_field(dataset, field))?;
        Ok((dataset, at))
    }
}

/// Walks the text of one metric: aggregates become atoms, names become metrics, inputs or dimensions.
struct Walk<'w, 'a, 'm> {
    measures: &'w mut Measures<'a>,
    body: &'w Body<'m>,
    frame: &'w Frame,
    /// There are aggregates in the text besides the names.
    mixed: bool,
}

type Step = ControlFlow<Box<CompileError>>;

fn step(outcome: Result<()>) -> Step {
    match outcome {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

impl VisitorMut for Walk<'_, '_, '_> {
    type Break = Box<CompileError>;

    fn pre_visit_query(&mut self, _: &mut Query) -> Step {
        let message = format!("{} contains a subquery; make a metric of it", self.body.what);
        step(Err(CompileError::new(CompileCode::UnsupportedInDialect, message)))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Step {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if expr::needs_window(function) {
            let message = format!("{} calls {} without OVER", self.body.what, function.name);
            return step(Err(CompileError::new(CompileCode::Syntax, message)));
        }
        if aggregate_name(function).is_none() {
            return ControlFlow::Continue(());
        }
        let outcome = if function.over.is_some() {
            self.windowed(function)
        } else {
            self.measures.atom(function, self.body, self.frame).map(|atom| *expr = atom)
        };
        step(outcome)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Step {
        let resolved = match expr {
            Expr::Identifier(_) if as_slot(expr).is_some() => Ok(None),
            Expr::Identifier(name) => {
                let name = name.value.clone();
                self.name(&name, expr).map(Some)
            }
            Expr::CompoundIdentifier(parts) => {
                let near = &self.body.near;
                self.measures.names.lookup(parts, near).and_then(|field| self.key(&field, expr)).map(Some)
            }
            _ => Ok(None),
        };
        step(resolved.map(|other| {
            if let Some(other) = other {
                *expr = other;
            }
        }))
    }
}

impl Walk<'_, '_, '_> {
    /// `SUM(x) OVER (…)` at the query's grain is `SUM(SUM(x)) OVER (…)`: the window runs over groups.
    fn windowed(&mut self, function: &mut Function) -> Result<()> {
        let FunctionArguments::List(list) = &function.args else { return Ok(()) };
        let plain = |arg: &FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(inner)) => {
                expr::shape(inner).map(|shape| shape.aggregate.is_none())
            }
            _ => Ok(true),
        };
        let mut row_level = true;
        for arg in &list.args {
            row_level &= plain(arg)?;
        }
        if !row_level {
            return Ok(());
        }
        let mut inner = function.clone();
        inner.over = None;
        let name = aggregate_name(&inner).unwrap_or_default();
        let outer = match (name.as_str(), is_distinct(&inner)) {
            ("sum" | "count", false) => "SUM",
            ("min", _) => "MIN",
            ("max", _) => "MAX",
            _ => {
                let message = format!(
                    "{} takes {} over a window of groups, which is not the {} of their rows; pre-aggregate it, or use SUM, COUNT, MIN or MAX",
                    self.body.what,
                    name.to_uppercase(),
                    name.to_uppercase()
                );
                return Err(CompileError::new(CompileCode::UnsafeReaggregation, message));
            }
        };
        let atom = self.measures.atom(&inner, self.body, self.frame)?;
        function.name = datafusion::sql::sqlparser::ast::ObjectName::from(vec![
            datafusion::sql::sqlparser::ast::Ident::new(outer),
        ]);
        if let FunctionArguments::List(list) = &mut function.args {
            list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(atom))];
        }
        function.filter = None;
        Ok(())
    }

    /// A bare name outside of aggregates: an input, a metric, a name of the query, or a dimension.
    fn name(&mut self, name: &str, written: &Expr) -> Result<Expr> {
        if let Some(expr) = self.measures.aliases.get(&name.to_lowercase()) {
            return Ok(expr.clone());
        }
        if let Some(input) = self.body.inputs.get(&name.to_lowercase()).copied() {
            return self.measures.input(input, self.body, self.frame);
        }
        let graph = self.measures.names.graph;
        let is_field = self.body.near.iter().any(|dataset| graph.find_field(*dataset, name).is_some());
        match graph.find_metric(name) {
            Some(at) if !is_field => self.measures.metric_in(at, self.frame),
            _ => {
                let parts = [datafusion::sql::sqlparser::ast::Ident::new(name)];
                let field = self.measures.names.lookup(&parts, &self.body.near)?;
                self.key(&field, written)
            }
        }
    }

    /// A field outside of aggregates has one value in a group only if it is grouped by.
    fn key(&self, field: &Expr, written: &Expr) -> Result<Expr> {
        let known = self.measures.keys.iter().position(|key| key.expr.as_ref() == Some(field));
        if let Some(at) = known {
            return Ok(expr::dimension(at));
        }
        let (code, message) = match (self.body.having, self.mixed) {
            (true, true) => (
                CompileCode::MixedPredicateLevel,
                format!(
                    "`{written}` is row-level and stands beside an aggregate; split the condition: the row-level half belongs to Where"
                ),
            ),
            (true, false) => (
                CompileCode::NonAggregateInHaving,
                format!(
                    "`{written}` is neither an aggregate nor grouped by; a Having condition on rows belongs to Where"
                ),
            ),
            (false, _) => (
                CompileCode::UnaggregatedFinerGrainReference,
                format!(
                    "{} names {written} outside of an aggregate; aggregate it, or group by it",
                    self.body.what
                ),
            ),
        };
        Err(CompileError::new(code, message))
    }
}

/// Refuses aggregates and windows where rows are filtered.
pub(super) fn row_level(shape: &Shape, what: &str) -> Result<()> {
    if let Some(aggregate) = &shape.aggregate {
        let aggregate = aggregate.to_uppercase();
        if !shape.bare.is_empty() {
            let message = format!(
                "{what} mixes row-level names ({}) with the aggregate {aggregate}; split it: rows are filtered by Where, aggregates by Having",
                shape.bare.join(", ")
            );
            return Err(CompileError::new(CompileCode::MixedPredicateLevel, message));
        }
        let message = format!("{what} has the aggregate {aggregate} in Where; move the condition to Having");
        return Err(CompileError::new(CompileCode::AggregateInWhere, message));
    }
    if shape.window {
        let message = format!(
            "{what} has a window function in Where, which runs before windows; use Having (Qualify is deferred), or a derived field, which becomes a subquery"
        );
        return Err(CompileError::new(CompileCode::WindowInWhere, message));
    }
    Ok(())
}

/// Makes every division of a derived metric one of doubles: many engines truncate that of integers.
fn divide_exactly(expr: &mut Expr) -> Result<()> {
    expr::replace(expr, |node| {
        let Expr::BinaryOp { left, op: BinaryOperator::Divide, right } = node else { return Ok(None) };
        if matches!(**left, Expr::Cast { .. }) {
            return Ok(None);
        }
        let left = Box::new(as_double(Expr::clone(left)));
        Ok(Some(Expr::BinaryOp { left, op: BinaryOperator::Divide, right: right.clone() }))
    })
}

pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    use datafusion::sql::sqlparser::ast::{FunctionArgumentList, Ident, ObjectName};
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
