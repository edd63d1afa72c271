//! Expressions of models and callers: parsed, looked at, and their names resolved.
//!
//! A resolved expression names columns by the dataset's position instead of an alias, since the alias depends on the
//! query that it ends up in. X1 after resolving, no name of the text is left that was not looked up.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, Query, Visit, VisitMut, Visitor, VisitorMut, WindowFrameBound, WindowFrameUnits,
    WindowType,
};

use super::dialect::{Dialect, aggregate_name, function_name};
use super::error::{CompileCode, CompileError, Result};
use super::graph::Prepared;
use crate::semantic::parse_expression;

/// What the emitted SQL reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relations {
    /// `model.dataset` with fields as columns: what the guard knows.
    Published,
    /// The sources of the datasets, with the fields' expressions: what a warehouse knows.
    Physical,
}

/// No name that can be written bare begins so.
const MARK: &str = "\u{1}";

pub(super) fn column(dataset: usize, name: Ident) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::new(MARK), Ident::new(dataset.to_string()), name])
}

/// A field whose expression is a window function: computed with its dataset, before anything is joined.
pub(super) fn windowed(dataset: usize, field: &str) -> Expr {
    let mark = Ident::new(MARK);
    Expr::CompoundIdentifier(vec![mark.clone(), Ident::new(dataset.to_string()), Ident::new(field), mark])
}

/// A column of a resolved expression.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ColumnRef {
    pub dataset: usize,
    pub name: Ident,
    /// `name` is that of a windowed field.
    pub windowed: bool,
}

pub(super) fn as_column(expr: &Expr) -> Option<ColumnRef> {
    let Expr::CompoundIdentifier(parts) = expr else { return None };
    let (dataset, name) = match parts.as_slice() {
        [mark, dataset, name] | [mark, dataset, name, _] if mark.value == MARK => (dataset, name),
        _ => return None,
    };
    Some(ColumnRef { dataset: dataset.value.parse().ok()?, name: name.clone(), windowed: parts.len() == 4 })
}

/// Stands for the value of an atom in an expression over aggregates.
pub(super) fn atom(at: usize) -> Expr {
    Expr::Identifier(Ident::new(format!("{MARK}a{at}")))
}

/// Stands for a dimension of the query.
pub(super) fn dimension(at: usize) -> Expr {
    Expr::Identifier(Ident::new(format!("{MARK}d{at}")))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Atom(usize),
    Dimension(usize),
}

pub(super) fn as_slot(expr: &Expr) -> Option<Slot> {
    let Expr::Identifier(ident) = expr else { return None };
    let rest = ident.value.strip_prefix(MARK)?;
    let at = rest.get(1..)?.parse().ok()?;
    if rest.starts_with('a') { Some(Slot::Atom(at)) } else { Some(Slot::Dimension(at)) }
}

/// Replaces every node for which `pick` has another; what it puts in is not looked at again.
pub(super) fn replace(expr: &mut Expr, pick: impl FnMut(&Expr) -> Result<Option<Expr>>) -> Result<()> {
    struct Replace<F>(F);
    impl<F: FnMut(&Expr) -> Result<Option<Expr>>> VisitorMut for Replace<F> {
        type Break = Box<CompileError>;
        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
            ControlFlow::Break(Box::new(CompileError::new(
                CompileCode::UnsupportedInDialect,
                "a subquery stands in an expression; write it as a metric, or filter on a field",
            )))
        }
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
            match (self.0)(expr) {
                Ok(None) => {}
                Ok(Some(other)) => *expr = other,
                Err(error) => return ControlFlow::Break(Box::new(error)),
            }
            ControlFlow::Continue(())
        }
    }
    match VisitMut::visit(expr, &mut Replace(pick)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// The columns of a resolved expression, each once.
pub(super) fn columns(expr: &Expr) -> BTreeSet<ColumnRef> {
    struct Columns(BTreeSet<ColumnRef>);
    impl Visitor for Columns {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            self.0.extend(as_column(expr));
            ControlFlow::Continue(())
        }
    }
    let mut columns = Columns(BTreeSet::new());
    let _ = expr.visit(&mut columns);
    columns.0
}

pub(super) fn datasets(expr: &Expr) -> BTreeSet<usize> {
    columns(expr).into_iter().map(|column| column.dataset).collect()
}

/// What sort of expression it is.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// The first aggregate function.
    pub aggregate: Option<String>,
    pub window: bool,
    /// An aggregate of an aggregate.
    pub nested_aggregate: bool,
    /// A window over a window.
    pub nested_window: bool,
    /// Names outside of every aggregate.
    pub bare: Vec<String>,
    aggregates: usize,
    windows: usize,
    frame: Option<CompileError>,
}

/// Looks at an expression as it was written.
pub(super) fn shape(expr: &Expr) -> Result<Shape> {
    let mut shape = Shape::default();
    let _ = expr.visit(&mut shape);
    match shape.frame.take() {
        Some(error) => Err(error),
        None => Ok(shape),
    }
}

impl Visitor for Shape {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) if function.over.is_some() => {
                self.window = true;
                self.nested_window |= self.windows > 0;
                self.windows += 1;
                self.check_frame(function);
            }
            Expr::Function(function) => {
                if let Some(name) = aggregate_name(function) {
                    self.aggregate.get_or_insert(name);
                    self.nested_aggregate |= self.aggregates > 0;
                    self.aggregates += 1;
                }
            }
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) if self.aggregates == 0 => {
                self.bare.push(expr.to_string());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            if function.over.is_some() {
                self.windows -= 1;
            } else if aggregate_name(function).is_some() {
                self.aggregates -= 1;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Shape {
    fn check_frame(&mut self, function: &Function) {
        let Some(WindowType::WindowSpec(window)) = &function.over else { return };
        let Some(frame) = &window.window_frame else { return };
        if frame.units == WindowFrameUnits::Groups {
            let message = "the GROUPS frame mode is deferred (§10); use ROWS or RANGE";
            self.frame = Some(CompileError::new(CompileCode::DeferredFrameMode, message));
        }
        let literal = |bound: &WindowFrameBound| match bound {
            WindowFrameBound::Preceding(Some(size)) | WindowFrameBound::Following(Some(size)) => {
                matches!(&**size, Expr::Value(value) if matches!(value.value,
                    datafusion::sql::sqlparser::ast::Value::Number(..)))
            }
            _ => true,
        };
        if !literal(&frame.start_bound) || !frame.end_bound.as_ref().is_none_or(literal) {
            let message = "a frame bound is a parameter or an expression, which is deferred (§10: E_DEFERRED_FRAME_MODE); write a literal integer, UNBOUNDED or CURRENT ROW";
            self.frame = Some(CompileError::new(CompileCode::DeferredFrameBound, message));
        }
    }
}

/// Tokens that one text of a query may have: the tree of a flat chain of operators is as deep as it is long.
const MAX_TOKENS: usize = 1_000;

/// Refuses texts whose tree would be too deep to walk.
pub(super) fn bounded(text: &str, what: &str) -> Result<()> {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
    // No token is shorter than a character, so that most texts need not be counted.
    if text.len() <= MAX_TOKENS {
        return Ok(());
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize()
        .map_err(|error| CompileError::new(CompileCode::Syntax, format!("{what} does not parse: {error}")))?;
    let count = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
    if count <= MAX_TOKENS {
        return Ok(());
    }
    Err(CompileError::invalid(format!(
        "{what} has {count} tokens, more than the {MAX_TOKENS} allowed; write several conditions, or a list of values as {{field, op, values}}"
    )))
}

/// Parses text of a caller or a model.
pub(super) fn parse(text: &str, what: &str) -> Result<Expr> {
    bounded(text, what)?;
    parse_expression(text)
        .map_err(|error| CompileError::new(CompileCode::Syntax, format!("{what} does not parse: {error}")))
}

/// Looks names up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub graph: &'a Prepared,
    pub relations: Relations,
    pub dialect: Dialect,
    /// Only qualified names are fields, as Ossie has it.
    pub strict: bool,
}

impl Names<'_> {
    /// A field by its name as written: `dataset.field`, `model.dataset.field`, or `field` where that says enough.
    /// `near`: datasets whose fields may be named bare.
    pub fn lookup(&self, parts: &[Ident], near: &BTreeSet<usize>) -> Result<Expr> {
        let (qualifier, name) = match parts {
            [name] => (None, name),
            [dataset, name] => (Some(dataset), name),
            [model, dataset, name] if model.value.eq_ignore_ascii_case(&self.graph.model.name) => {
                (Some(dataset), name)
            }
            _ => {
                let written: Vec<String> = parts.iter().map(ToString::to_string).collect();
                let message = format!("`{}` is no field; write `dataset.field`", written.join("."));
                return Err(CompileError::new(CompileCode::NameNotFound, message));
            }
        };
        let dataset = match qualifier {
            Some(dataset) => self
                .graph
                .find_dataset(&dataset.value)
                .ok_or_else(|| self.graph.no_such_dataset(&dataset.value))?,
            None => self.owner(&name.value, near)?,
        };
        self.field(dataset, &name.value)
    }

    fn owner(&self, name: &str, near: &BTreeSet<usize>) -> Result<usize> {
        let owners = self.graph.owners(name);
        let close: Vec<usize> = owners.iter().copied().filter(|owner| near.contains(owner)).collect();
        let candidates = match (close.is_empty(), self.strict) {
            (false, _) => close.as_slice(),
            (true, true) => &[],
            (true, false) => owners.as_slice(),
        };
        match candidates {
            [one] => Ok(*one),
            [] => Err(self.graph.no_such_metric(name)),
            several => {
                let names: Vec<String> =
                    several.iter().map(|at| format!("`{}.{name}`", self.graph.name(*at))).collect();
                let message =
                    format!("`{name}` could be {}; write the dataset before it", names.join(" or "));
                Err(CompileError::new(CompileCode::AmbiguousName, message))
            }
        }
    }

    /// The expression of a field, or of a named filter of the dataset.
    pub fn field(&self, dataset: usize, name: &str) -> Result<Expr> {
        let owner = self.graph.dataset(dataset);
        if let Some(at) = self.graph.find_field(dataset, name) {
            return match self.relations {
                Relations::Published => Ok(column(dataset, self.dialect.ident(&owner.fields[at].name))),
                Relations::Physical => self.expand(dataset, at, &mut Vec::new()),
            };
        }
        let Some(filter) = owner.filters.iter().find(|filter| filter.name.eq_ignore_ascii_case(name)) else {
            return Err(self.graph.no_such_field(dataset, name));
        };
        let (text, own) = self.dialect.pick(&filter.expression);
        let mut expr = parse(text, &format!("the filter `{}.{}`", owner.name, filter.name))?;
        self.resolve(&mut expr, &BTreeSet::from([dataset]))?;
        self.dialect.translate(&mut expr, own)?;
        Ok(Expr::Nested(Box::new(expr)))
    }

    /// Resolves every name of a row-level expression.
    pub fn resolve(&self, expr: &mut Expr, near: &BTreeSet<usize>) -> Result<()> {
        replace(expr, |node| match node {
            Expr::Identifier(_) if as_slot(node).is_some() => Ok(None),
            Expr::Identifier(name) => self.lookup(std::slice::from_ref(name), near).map(Some),
            Expr::CompoundIdentifier(_) if as_column(node).is_some() => Ok(None),
            Expr::CompoundIdentifier(parts) => self.lookup(parts, near).map(Some),
            Expr::CompoundFieldAccess { .. } => Err(CompileError::new(
                CompileCode::UnsupportedInDialect,
                format!("`{node}` reaches into a value; make it a field of the dataset"),
            )),
            _ => Ok(None),
        })
    }

    /// A field's own expression over physical columns. Names in it are physical columns first, then fields.
    fn expand(&self, dataset: usize, at: usize, stack: &mut Vec<(usize, usize)>) -> Result<Expr> {
        let owner = self.graph.dataset(dataset);
        let field = &owner.fields[at];
        let what = format!("field `{}.{}`", owner.name, field.name);
        if stack.contains(&(dataset, at)) {
            let message = format!("{what} is defined by itself; break the circle");
            return Err(CompileError::new(CompileCode::InvalidModel, message));
        }
        let (text, own) = self.dialect.pick(&field.expression);
        let mut expr = parse(text, &what)?;
        let seen = shape(&expr)?;
        if let Some(aggregate) = seen.aggregate {
            let message = format!(
                "{what} contains the aggregate {}; write it as a metric (aggregates in fields are deferred, §10)",
                aggregate.to_uppercase()
            );
            return Err(CompileError::new(CompileCode::AggregateInField, message));
        }
        if seen.nested_window {
            let message = format!(
                "{what} has a nested window; use a single window, or a derived field for the inner one"
            );
            return Err(CompileError::new(CompileCode::NestedWindow, message));
        }
        stack.push((dataset, at));
        self.expand_names(&mut expr, dataset, at, stack)?;
        stack.pop();
        self.dialect.translate(&mut expr, own)?;
        if seen.window {
            return Ok(windowed(dataset, &field.name));
        }
        Ok(if as_column(&expr).is_some() { expr } else { Expr::Nested(Box::new(expr)) })
    }

    fn expand_names(
        &self,
        expr: &mut Expr,
        dataset: usize,
        at: usize,
        stack: &mut Vec<(usize, usize)>,
    ) -> Result<()> {
        let owner = self.graph.dataset(dataset);
        let own_name = &owner.fields[at].name;
        replace(expr, |node| {
            let (qualifier, name) = match node {
                Expr::CompoundIdentifier(_) if as_column(node).is_some() => return Ok(None),
                Expr::Identifier(name) => (None, name),
                Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                    [qualifier, name] => (Some(qualifier), name),
                    _ => return Err(self.graph.no_such_field(dataset, &node.to_string())),
                },
                _ => return Ok(None),
            };
            let home = match qualifier {
                None => dataset,
                Some(other) => self
                    .graph
                    .find_dataset(&other.value)
                    .ok_or_else(|| self.graph.no_such_dataset(&other.value))?,
            };
            if home != dataset {
                self.must_be_coarser(dataset, home, own_name, &node.to_string())?;
            }
            match self.graph.find_field(home, &name.value) {
                Some(other) if home != dataset => self.expand(home, other, stack).map(Some),
                None if home != dataset => Err(self.graph.no_such_field(home, &name.value)),
                Some(other) if other != at && !self.is_physical(home, other) => {
                    self.expand(home, other, stack).map(Some)
                }
                _ => Ok(Some(column(home, name.clone()))),
            }
        })
    }

    /// True if a field's expression names itself, which only a physical column of that name explains.
    fn is_physical(&self, dataset: usize, at: usize) -> bool {
        let field = &self.graph.dataset(dataset).fields[at];
        let Ok(expr) = parse_expression(self.dialect.pick(&field.expression).0) else { return false };
        crate::semantic::columns_of(&expr)
            .iter()
            .any(|(qualifier, name)| qualifier.is_none() && name.eq_ignore_ascii_case(&field.name))
    }

    fn must_be_coarser(&self, from: usize, to: usize, field: &str, written: &str) -> Result<()> {
        if self.graph.reaches_singly(from, to)? {
            return Ok(());
        }
        // Without any path this says so.
        self.graph.choose(from, to, &[])?;
        let message = format!(
            "`{}.{field}` names {written}, of which there are many for each row of `{}`; aggregate it in a metric, or take it from a coarser dataset",
            self.graph.name(from),
            self.graph.name(from)
        );
        Err(CompileError::new(CompileCode::UnaggregatedFinerGrainReference, message))
    }
}

/// The windowed field's expression over the columns of its own dataset, for the subquery that computes it.
pub(super) fn window_of(names: &Names<'_>, dataset: usize, field: &str) -> Result<Expr> {
    let at =
        names.graph.find_field(dataset, field).ok_or_else(|| names.graph.no_such_field(dataset, field))?;
    let definition = &names.graph.dataset(dataset).fields[at];
    let (text, own) = names.dialect.pick(&definition.expression);
    let mut expr = parse(text, field)?;
    names.expand_names(&mut expr, dataset, at, &mut vec![(dataset, at)])?;
    names.dialect.translate(&mut expr, own)?;
    if columns(&expr).iter().any(|column| column.dataset != dataset || column.windowed) {
        let message = format!(
            "the window of `{}.{field}` reaches outside of its dataset; use columns of the dataset itself",
            names.graph.name(dataset)
        );
        return Err(CompileError::new(CompileCode::AmbiguousMeasureGrain, message));
    }
    Ok(expr)
}

/// True for the functions that rank or look around, which make sense only with OVER.
pub(super) fn needs_window(function: &Function) -> bool {
    const NAMES: &[&str] = &[
        "cume_dist",
        "dense_rank",
        "first_value",
        "lag",
        "last_value",
        "lead",
        "nth_value",
        "ntile",
        "percent_rank",
        "rank",
        "row_number",
    ];
    function.over.is_none() && function_name(function).is_some_and(|name| NAMES.contains(&name.as_str()))
}
