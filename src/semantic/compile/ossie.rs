//! The adapter contract of Ossie's foundation compliance suite: a model file and a query file in, SQL or a code out.
//!
//! What the foundation defers is refused with its code, though Steward itself has it. O1 the model is checked before the
//! query is looked at. O2 relations and columns are the physical ones.

mod model;
mod query;

use std::collections::{BTreeSet, HashMap, HashSet};

use datafusion::sql::sqlparser::ast::Expr;

use super::dialect::Dialect;
use super::error::{CompileCode, CompileError, Result};
use super::expr::{self, Names, Relations};
use super::graph::Prepared;
use super::measure::{GroupKey, Measures};
use super::plan::{Key, Measure, Order, OrderExpr, Plan, Writer};
use super::resolve::{around, where_condition};
use crate::semantic::columns_of;
use query::{Columns, Item, Predicates, Query, ordering, projected};

/// Compiles the query of one file over the model of another.
pub fn compile(model: &str, query: &str, dialect: Dialect) -> Result<String> {
    let graph = model::load(model)?;
    let names = Names { graph: &graph, relations: Relations::Physical, dialect, strict: true };
    model::check(&names)?;
    let query: Query = serde_json::from_str(query).map_err(|error| {
        CompileError::invalid(format!("the query file is not as the contract has it: {error}"))
    })?;
    let has = |items: &Option<Vec<Item>>| items.as_ref().is_some_and(|items| !items.is_empty());
    let grouped = has(&query.dimensions) || has(&query.measures);
    match &query.fields {
        Some(fields) if !fields.is_empty() && (grouped || query.having.is_some()) => Err(CompileError::new(
            CompileCode::MixedQueryShape,
            "the query has Fields, which make it a scalar query, beside Dimensions, Measures or Having; drop one of the two",
        )),
        Some(fields) if !fields.is_empty() => scalar(&names, &query, fields),
        Some(_) if !grouped => Err(CompileError::new(
            CompileCode::EmptyScalarQuery,
            "Fields is empty; a scalar query projects at least one field",
        )),
        _ if !grouped => Err(CompileError::new(
            CompileCode::EmptyAggregationQuery,
            "the query has neither Dimensions nor Measures; name at least one",
        )),
        _ => aggregation(&names, &query),
    }
}

fn measures<'a>(
    names: &Names<'a>,
    keys: Vec<GroupKey>,
    around: BTreeSet<usize>,
    default_home: Option<usize>,
) -> Measures<'a> {
    Measures {
        names: *names,
        keys,
        atoms: Vec::new(),
        default_home,
        around,
        visited: 0,
        aliases: HashMap::new(),
    }
}

fn home_of(names: &Names<'_>, query: &Query) -> Result<Option<usize>> {
    let find =
        |name: &String| names.graph.find_dataset(name).ok_or_else(|| names.graph.no_such_dataset(name));
    query.dataset.as_ref().map(find).transpose()
}

fn aggregation(names: &Names<'_>, query: &Query) -> Result<String> {
    let home = home_of(names, query)?;
    let near: BTreeSet<usize> = home.into_iter().collect();
    let mut columns = Columns(Vec::new());
    let mut keys = Vec::new();
    let mut targets: HashMap<String, String> = HashMap::new();
    for item in query.dimensions.iter().flatten() {
        let projected = projected(item)?;
        let written = projected.expr.to_string().to_lowercase();
        let shape = expr::shape(&projected.expr)?;
        if shape.aggregate.is_some() || shape.window {
            let message = format!(
                "the dimension `{}` is an aggregate or a window; list it under Measures",
                projected.expr
            );
            return Err(CompileError::new(CompileCode::InvalidRequest, message));
        }
        let alias = columns.add(&projected, "dimension")?;
        let mut expr = projected.expr;
        names.resolve(&mut expr, &near)?;
        names.dialect.translate(&mut expr, false)?;
        targets.insert(written, alias.clone());
        keys.push(Key { alias, expr: Some(expr), joins: Vec::new(), grain: None, is_date: false });
    }
    let filters = Predicates::list(&query.filter)
        .iter()
        .map(|text| where_condition(names, text, &near))
        .collect::<Result<Vec<_>>>()?;
    let asked = query.measures.iter().flatten().map(projected).collect::<Result<Vec<_>>>()?;
    let mut about = around(&keys, &filters);
    for one in &asked {
        about.extend(mentioned(names.graph, &one.expr));
    }
    let group = keys.iter().map(|key| GroupKey { expr: key.expr.clone() }).collect();
    let mut measures = measures(names, group, about, home);
    let mut outputs = Vec::new();
    for one in asked {
        let written = one.expr.to_string().to_lowercase();
        let alias = columns.add(&one, "measure")?;
        let expr = measures.expression(one.expr, &format!("the measure `{alias}`"), false)?;
        targets.insert(written, alias.clone());
        measures.aliases.insert(alias.to_lowercase(), expr.clone());
        outputs.push(Measure { alias, expr });
    }
    let mut having = Vec::new();
    for text in Predicates::list(&query.having) {
        let parsed = expr::parse(text, "a Having condition")?;
        having.push(measures.expression(parsed, "Having", true)?);
    }
    let order = orders(query, &columns, &targets, |parsed| measures.expression(parsed, "Order By", false))?;
    let plan = Plan {
        names: *names,
        keys,
        measures: outputs,
        atoms: measures.atoms,
        filters,
        having,
        order,
        axis: None,
        joins: Vec::new(),
        limit: query.limit,
        default_home: home,
    };
    Ok(Writer::new(&plan).aggregation()?.0)
}

/// The datasets that an expression over aggregates names, through the metrics that it names.
fn mentioned(graph: &Prepared, expr: &Expr) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut seen = HashSet::new();
    let mut queue = vec![expr.clone()];
    while let Some(expr) = queue.pop() {
        for (qualifier, name) in columns_of(&expr) {
            match qualifier {
                Some(dataset) => found.extend(graph.find_dataset(&dataset)),
                None => {
                    if let Some(at) = graph.find_metric(&name).filter(|at| seen.insert(*at)) {
                        found.extend(graph.find_dataset(&graph.metric(at).dataset));
                        queue.extend(graph.metric_expr(at));
                    }
                }
            }
        }
    }
    found
}

fn scalar(names: &Names<'_>, query: &Query, fields: &[Item]) -> Result<String> {
    let graph = names.graph;
    let given = home_of(names, query)?;
    let near: BTreeSet<usize> = given.into_iter().collect();
    let mut columns = Columns(Vec::new());
    let mut outputs = Vec::new();
    let mut targets: HashMap<String, String> = HashMap::new();
    let mut used = BTreeSet::new();
    for item in fields {
        let projected = projected(item)?;
        let shape = expr::shape(&projected.expr)?;
        let metric = shape.bare.iter().find(|name| {
            let short = name.rsplit('.').next().unwrap_or(name);
            let is_field = match name.split_once('.') {
                Some((dataset, field)) => graph
                    .find_dataset(dataset)
                    .is_some_and(|dataset| graph.find_field(dataset, field).is_some()),
                None => near.iter().any(|dataset| graph.find_field(*dataset, name).is_some()),
            };
            !is_field && graph.find_metric(short).is_some()
        });
        if let Some(aggregate) = metric.cloned().or(shape.aggregate.map(|name| name.to_uppercase())) {
            let message = format!(
                "`{aggregate}` is an aggregate and has no value for single rows, which a scalar query returns; make it an aggregation query with Dimensions and Measures"
            );
            return Err(CompileError::new(CompileCode::AggregateInScalarQuery, message));
        }
        if shape.nested_window {
            let message = "a nested window stands in Fields; use a single window, and a derived field for the inner one";
            return Err(CompileError::new(CompileCode::NestedWindow, message));
        }
        let written = projected.expr.to_string().to_lowercase();
        let alias = columns.add(&projected, "field")?;
        let mut expr = projected.expr;
        names.resolve(&mut expr, &near)?;
        names.dialect.translate(&mut expr, false)?;
        used.extend(expr::datasets(&expr));
        targets.insert(written, alias.clone());
        outputs.push(Measure { alias, expr });
    }
    let filters = Predicates::list(&query.filter)
        .iter()
        .map(|text| where_condition(names, text, &near))
        .collect::<Result<Vec<_>>>()?;
    let home = match (given, graph.finest(&used)?) {
        (Some(given), _) => given,
        (None, Some(finest)) if !used.is_empty() => finest,
        _ => return Err(several_homes(graph, &used)),
    };
    let order = orders(query, &columns, &targets, |mut parsed| {
        names.resolve(&mut parsed, &near)?;
        names.dialect.translate(&mut parsed, false)?;
        Ok(parsed)
    })?;
    let plan = Plan {
        names: *names,
        keys: Vec::new(),
        measures: Vec::new(),
        atoms: Vec::new(),
        filters,
        having: Vec::new(),
        order,
        axis: None,
        joins: Vec::new(),
        limit: query.limit,
        default_home: Some(home),
    };
    Ok(Writer::new(&plan).rows(home, &outputs)?.0)
}

/// What to sort by: a column of the result, as it is named or written there, or what `resolve` makes of an expression.
fn orders(
    query: &Query,
    columns: &Columns,
    targets: &HashMap<String, String>,
    mut resolve: impl FnMut(Expr) -> Result<Expr>,
) -> Result<Vec<Order>> {
    let order = |item| {
        let (target, descending, nulls_first) = ordering(item)?;
        let column = columns.0.iter().find(|name| name.eq_ignore_ascii_case(&target));
        let expr = match column.or_else(|| targets.get(&target.to_lowercase())) {
            Some(column) => OrderExpr::Column(column.clone()),
            None => OrderExpr::Expr(Box::new(resolve(expr::parse(&target, "Order By")?)?)),
        };
        Ok(Order { expr, descending, nulls_first })
    };
    query.order_by.iter().map(order).collect()
}

fn several_homes(graph: &Prepared, used: &BTreeSet<usize>) -> CompileError {
    let names: Vec<&str> = used.iter().map(|at| graph.name(*at)).collect();
    let list: Vec<usize> = used.iter().copied().collect();
    let apart = list.windows(2).find(|pair| !graph.connected(pair[0], pair[1]));
    if let Some(Err(error)) = apart.map(|pair| graph.choose(pair[0], pair[1], &[])) {
        return error;
    }
    let message = format!(
        "the Fields of {} are rows of several facts, and a scalar query would repeat them (fan-out); make it an aggregation query, or choose a single home",
        names.join(", ")
    );
    CompileError::new(CompileCode::FanOutInScalarQuery, message)
}
