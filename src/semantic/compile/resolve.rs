//! From a request to a plan: every name is looked up, every text parsed, every mistake told.

use std::collections::{BTreeSet, HashMap};

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Ident, TimezoneInfo, TypedString, UnaryOperator, Value,
};
use ecow::EcoString;

use super::dialect::verbatim;
use super::error::{CompileCode, CompileError, Result};
use super::expr::{self, Names};
use super::graph::Prepared;
use super::measure::{Condition, GroupKey, Measures, row_level};
use super::plan::{Axis, Key, Measure, Order, OrderExpr, Plan};
use super::request::*;
use super::time;
use crate::semantic::model::{Field, Grain};

/// Longest name of a result's column.
const MAX_ALIAS: usize = 128;
/// More parts than this in one list of a request are a mistake.
const MAX_PARTS: usize = 200;

/// A plan and what its columns are.
pub(super) struct Resolved<'a> {
    pub plan: Plan<'a>,
    pub columns: Vec<CompiledColumn>,
    pub warnings: Vec<String>,
}

pub(super) fn resolve<'a>(names: Names<'a>, request: &CompileRequest) -> Result<Resolved<'a>> {
    let lists = [
        ("metrics", request.metrics.len()),
        ("dimensions", request.dimensions.len()),
        ("filters", request.filters.len()),
        ("metric_filters", request.metric_filters.len()),
        ("joins", request.joins.len()),
        ("order_by", request.order_by.len()),
    ];
    if let Some((list, _)) = lists.iter().find(|(_, length)| *length > MAX_PARTS) {
        return Err(CompileError::invalid(format!(
            "`{list}` has more than {MAX_PARTS} entries; ask for less"
        )));
    }
    let axis_groups = request.time.as_ref().is_some_and(|time| time.grain.is_some());
    if request.metrics.is_empty() && request.dimensions.is_empty() && !axis_groups {
        let message = "the query is empty; name at least one of metrics and dimensions";
        return Err(CompileError::new(CompileCode::EmptyAggregationQuery, message));
    }
    let graph = names.graph;
    let mut metrics = Vec::new();
    let mut near = BTreeSet::new();
    for name in &request.metrics {
        let at = find_metric(graph, name)?;
        near.extend(graph.find_dataset(&graph.metric(at).dataset));
        metrics.push(at);
    }
    let joins = relationships(graph, &request.joins)?;
    let mut resolver = Resolver { names, near, keys: Vec::new(), columns: Vec::new(), asked: Vec::new() };
    resolver.time_key(request.time.as_ref())?;
    for dimension in &request.dimensions {
        resolver.dimension(dimension)?;
    }
    let axis = resolver.axis(request.time.as_ref(), &metrics)?;
    let filters = request.filters.iter().map(|filter| resolver.filter(filter)).collect::<Result<Vec<_>>>()?;
    let mut measures = Measures {
        names,
        keys: resolver.keys.iter().map(|key| GroupKey { expr: key.expr.clone() }).collect(),
        atoms: Vec::new(),
        default_home: None,
        around: around(&resolver.keys, &filters),
        visited: 0,
        aliases: HashMap::new(),
    };
    let mut outputs = Vec::new();
    for (at, asked) in metrics.iter().zip(&request.metrics) {
        let metric = graph.metric(*at);
        let expr = measures.metric(*at)?;
        resolver.asked.push((asked.clone(), metric.name.clone()));
        resolver.add_column(CompiledColumn {
            name: metric.name.clone(),
            kind: "metric",
            datatype: metric.datatype.clone(),
            unit: metric.unit.clone(),
            description: metric.description.clone(),
        })?;
        outputs.push(Measure { alias: metric.name.clone(), expr });
    }
    let mut having = Vec::new();
    for filter in &request.metric_filters {
        having.push(metric_filter(graph, &mut measures, filter)?);
    }
    let order = request.order_by.iter().map(|order| resolver.order(order)).collect::<Result<_>>()?;
    let mut warnings = Vec::new();
    let offset = measures.atoms.iter().any(|atom| atom.source.shift.is_some());
    if let Some(expr) = axis.as_ref().and_then(|axis| axis.expr.as_ref()).filter(|_| offset) {
        let bounds_time = |filter: &Condition| !expr::columns(&filter.expr).is_disjoint(&expr::columns(expr));
        if filters.iter().any(bounds_time) {
            warnings.push(
                "a filter on the time axis also cuts the earlier periods that an offset metric looks at; bound the axis by time.from and time.to instead".to_owned(),
            );
        }
    }
    let plan = Plan {
        names,
        keys: resolver.keys,
        measures: outputs,
        atoms: measures.atoms,
        filters,
        having,
        order,
        axis,
        joins,
        limit: request.limit,
        default_home: None,
    };
    Ok(Resolved { plan, columns: resolver.columns, warnings })
}

pub(super) fn around(keys: &[Key], filters: &[Condition]) -> BTreeSet<usize> {
    let keys = keys.iter().filter_map(|key| key.expr.as_ref());
    keys.chain(filters.iter().map(|filter| &filter.expr)).flat_map(expr::datasets).collect()
}

fn find_metric(graph: &Prepared, name: &str) -> Result<usize> {
    let short = match name.split_once('.') {
        Some((model, short)) if model.eq_ignore_ascii_case(&graph.model.name) => short,
        _ => name,
    };
    graph.find_metric(short).ok_or_else(|| graph.no_such_metric(name))
}

pub(super) fn relationships(graph: &Prepared, names: &[String]) -> Result<Vec<usize>> {
    names.iter().map(|name| graph.find_relationship(name)).collect()
}

struct Resolver<'a> {
    names: Names<'a>,
    /// Datasets of the metrics, whose fields may be named bare.
    near: BTreeSet<usize>,
    keys: Vec<Key>,
    columns: Vec<CompiledColumn>,
    /// As it was asked for, and the column that it became.
    asked: Vec<(String, String)>,
}

/// A field that a request names.
struct Named<'g> {
    field: &'g Field,
    dataset: &'g str,
    expr: Expr,
}

impl<'a> Resolver<'a> {
    fn named(&self, name: &str) -> Result<Named<'a>> {
        let graph = self.names.graph;
        let parts: Vec<Ident> = name.split('.').map(|part| Ident::new(part.trim())).collect();
        let expr = self.names.lookup(&parts, &self.near)?;
        // The look-up has found it; this finds out which field it is.
        let bare = parts.last().map(|part| part.value.as_str()).unwrap_or_default();
        let dataset = match parts.len() {
            1 => expr::datasets(&expr).first().copied(),
            count => graph.find_dataset(&parts[count - 2].value),
        };
        let dataset = dataset.ok_or_else(|| graph.no_such_metric(name))?;
        let at = graph.find_field(dataset, bare).ok_or_else(|| graph.no_such_field(dataset, bare))?;
        Ok(Named { field: &graph.dataset(dataset).fields[at], dataset: graph.name(dataset), expr })
    }

    /// The time axis as the first column, unless a dimension is that already.
    fn time_key(&mut self, time: Option<&TimeRequest>) -> Result<()> {
        let Some((time, grain)) = time.and_then(|time| Some((time, time.grain.as_deref()?))) else {
            return Ok(());
        };
        let grain = self.grain(grain)?;
        match &time.dimension {
            Some(name) => {
                let full = FullDimension {
                    name: name.clone(),
                    grain: Some(grain.as_str().to_owned()),
                    alias: time.alias.clone(),
                    joins: Vec::new(),
                };
                self.dimension(&DimensionRequest::Full(full))
            }
            None => {
                let alias = time.alias.clone().unwrap_or_else(|| format!("time_{}", grain.as_str()));
                self.add_column(CompiledColumn {
                    name: alias.clone(),
                    kind: "time",
                    datatype: String::new(),
                    unit: String::new(),
                    description: "the period, by the time dimension of each metric".to_owned(),
                })?;
                self.keys.push(Key {
                    alias,
                    expr: None,
                    joins: Vec::new(),
                    grain: Some(grain),
                    is_date: false,
                });
                Ok(())
            }
        }
    }

    fn grain(&self, text: &str) -> Result<Grain> {
        let known = Grain::ALL.iter().copied().find(|grain| grain.as_str().eq_ignore_ascii_case(text));
        known.ok_or_else(|| {
            CompileError::invalid(format!(
                "`{}` is no grain; use {}",
                text.escape_debug(),
                Grain::NAMES.join(", ")
            ))
        })
    }

    fn dimension(&mut self, request: &DimensionRequest) -> Result<()> {
        let full = match request {
            DimensionRequest::Name(name) => {
                FullDimension { name: name.clone(), grain: None, alias: None, joins: Vec::new() }
            }
            DimensionRequest::Full(full) => full.clone(),
        };
        let named = self.named(&full.name)?;
        let grain = full.grain.as_deref().map(|grain| self.grain(grain)).transpose()?;
        if let Some(grain) = grain {
            self.fits(&named, grain)?;
        }
        let leaf = match grain {
            Some(grain) => format!("{}_{}", named.field.name, grain.as_str()),
            None => named.field.name.clone(),
        };
        let taken = |name: &str| self.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        let alias = full.alias.clone().unwrap_or_else(|| match taken(&leaf) {
            true => format!("{}_{leaf}", named.dataset),
            false => leaf,
        });
        let is_date = named.field.datatype == "Date";
        self.asked.push((full.name.clone(), alias.clone()));
        self.add_column(CompiledColumn {
            name: alias.clone(),
            kind: if grain.is_some() { "time" } else { "dimension" },
            datatype: named.field.datatype.to_string(),
            unit: named.field.unit.to_string(),
            description: named.field.description.to_string(),
        })?;
        let joins = relationships(self.names.graph, &full.joins)?;
        self.keys.push(Key { alias, expr: Some(named.expr), joins, grain, is_date });
        Ok(())
    }

    /// A field that is no moment has no periods, and one may declare which it has.
    fn fits(&self, named: &Named<'_>, grain: Grain) -> Result<()> {
        let field = named.field;
        let name = format!("`{}.{}`", named.dataset, field.name);
        if !field.is_time {
            let message = format!(
                "{name} is not marked as time, so that it has no periods; set `dimension: {{is_time: true}}` or a datatype of dates"
            );
            return Err(CompileError::invalid(message));
        }
        let listed = |known: &EcoString| known == grain.as_str();
        if !field.time_grains.is_empty() && !field.time_grains.iter().any(listed) {
            let message =
                format!("{name} has the grains {}, not {}", field.time_grains.join(", "), grain.as_str());
            return Err(CompileError::invalid(message));
        }
        if field.datatype == "Date" && grain < Grain::Day {
            let message = format!(
                "{name} is a date and has no {}s; use the grain day or a coarser one",
                grain.as_str()
            );
            return Err(CompileError::invalid(message));
        }
        Ok(())
    }

    fn axis(&self, time: Option<&TimeRequest>, metrics: &[usize]) -> Result<Option<Axis>> {
        let key_by = |expr: &Option<Expr>| {
            let keys = self.keys.iter().enumerate();
            keys.filter(|(_, key)| key.expr == *expr).find_map(|(at, key)| Some((at, key.grain?)))
        };
        let Some(time) = time else {
            // A dimension with a grain is an axis: offsets and running totals go by it.
            let first = self.keys.iter().position(|key| key.grain.is_some());
            return Ok(first.map(|at| {
                let key = &self.keys[at];
                Axis {
                    expr: key.expr.clone(),
                    is_date: key.is_date,
                    joins: key.joins.clone(),
                    key: key.grain.map(|grain| (at, grain)),
                    from: None,
                    to: None,
                    fill: false,
                }
            }));
        };
        let named = time.dimension.as_deref().map(|name| self.named(name)).transpose()?;
        let is_date = match &named {
            Some(named) => named.field.datatype == "Date",
            None => self.all_dates(metrics)?,
        };
        let expr = named.map(|named| named.expr);
        let from = time.from.as_deref().map(time::moment).transpose()?;
        let to = time.to.as_deref().map(time::moment).transpose()?;
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return Err(CompileError::invalid(
                "`time.from` is not before `time.to`, which is the first moment that does not count",
            ));
        }
        let key = key_by(&expr);
        if time.fill_gaps && key.is_none() {
            return Err(CompileError::invalid("fill_gaps needs periods; add `grain` to `time`"));
        }
        let joins = key.map(|(at, _)| self.keys[at].joins.clone()).unwrap_or_default();
        Ok(Some(Axis { expr, is_date, joins, key, from, to, fill: time.fill_gaps }))
    }

    /// Whether the time dimensions of all metrics are dates.
    fn all_dates(&self, metrics: &[usize]) -> Result<bool> {
        let graph = self.names.graph;
        let mut all = !metrics.is_empty();
        let mut queue: Vec<usize> = metrics.to_vec();
        let mut seen = BTreeSet::new();
        while let Some(at) = queue.pop() {
            if !seen.insert(at) {
                continue;
            }
            let metric = graph.metric(at);
            queue.extend(metric.inputs().filter_map(|input| graph.find_metric(&input.name)));
            for (qualifier, name) in crate::semantic::columns_of(&graph.metric_expr(at)?) {
                queue.extend(graph.find_metric(&name).filter(|_| qualifier.is_none()));
            }
            if metric.time_dimension.is_empty() {
                continue;
            }
            let (dataset, field) = match metric.time_dimension.rsplit_once('.') {
                Some((dataset, field)) => (dataset, field),
                None => (metric.dataset.as_str(), metric.time_dimension.as_str()),
            };
            let dataset = graph.find_dataset(dataset).ok_or_else(|| graph.no_such_dataset(dataset))?;
            let field =
                graph.find_field(dataset, field).ok_or_else(|| graph.no_such_field(dataset, field))?;
            all &= graph.dataset(dataset).fields[field].datatype == "Date";
        }
        Ok(all)
    }

    fn filter(&self, request: &FilterRequest) -> Result<Condition> {
        match request {
            FilterRequest::Sql(text) => where_condition(&self.names, text, &self.near),
            FilterRequest::Field(filter) => {
                let named = self.named(&filter.field)?;
                let expr = comparison(named.expr.clone(), filter, &named.field.datatype)?;
                Ok(Condition { expr, joins: relationships(self.names.graph, &filter.joins)? })
            }
        }
    }

    fn order(&self, request: &OrderRequest) -> Result<Order> {
        let (name, direction) = match request {
            OrderRequest::Name(name) => (name, Direction::Asc),
            OrderRequest::Full(full) => (&full.name, full.direction),
        };
        let column = self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        let asked = self.asked.iter().find(|(asked, _)| asked.eq_ignore_ascii_case(name));
        let column =
            column.map(|column| &column.name).or(asked.map(|(_, column)| column)).ok_or_else(|| {
                let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
                let message = format!(
                    "`{}` is no column of the result; order by one of {}",
                    name.escape_debug(),
                    names.join(", ")
                );
                CompileError::new(CompileCode::NameNotFound, message)
            })?;
        Ok(Order {
            expr: OrderExpr::Column(column.clone()),
            descending: direction == Direction::Desc,
            nulls_first: None,
        })
    }

    fn add_column(&mut self, column: CompiledColumn) -> Result<()> {
        check_alias(&column.name)?;
        if self.columns.iter().any(|known| known.name.eq_ignore_ascii_case(&column.name)) {
            let message = format!("two columns would be called `{}`; give one an alias", column.name);
            return Err(CompileError::new(CompileCode::NameCollision, message));
        }
        self.columns.push(column);
        Ok(())
    }
}

/// Names of columns are kept to what every engine and every reader of the result takes.
pub(super) fn check_alias(alias: &str) -> Result<()> {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | '.');
    if !alias.is_empty() && alias.chars().count() <= MAX_ALIAS && alias.chars().all(good) {
        return Ok(());
    }
    Err(CompileError::invalid(format!(
        "`{}` cannot name a column; use letters, digits, `_`, `-` and spaces, at most {MAX_ALIAS}",
        alias.escape_debug()
    )))
}

/// A condition on rows from SQL text.
pub(super) fn where_condition(names: &Names<'_>, text: &str, near: &BTreeSet<usize>) -> Result<Condition> {
    let mut expr = expr::parse(text, "a filter")?;
    let shape = expr::shape(&expr)?;
    row_level(&shape, "a filter")?;
    for name in &shape.bare {
        let is_field = near.iter().any(|dataset| names.graph.find_field(*dataset, name).is_some());
        if !is_field && names.graph.find_metric(name).is_some() {
            let message = format!(
                "`{name}` is a metric, an aggregate, and stands in Where; move the condition to Having"
            );
            return Err(CompileError::new(CompileCode::AggregateInWhere, message));
        }
    }
    names.resolve(&mut expr, near)?;
    names.dialect.translate(&mut expr, false)?;
    Ok(Condition { expr, joins: Vec::new() })
}

fn metric_filter(graph: &Prepared, measures: &mut Measures<'_>, request: &FilterRequest) -> Result<Expr> {
    match request {
        FilterRequest::Sql(text) => {
            let expr = expr::parse(text, "a metric filter")?;
            measures.expression(expr, "a metric filter", true)
        }
        FilterRequest::Field(filter) => {
            let at = find_metric(graph, &filter.field)?;
            let value = measures.metric(at)?;
            comparison(value, filter, &graph.metric(at).datatype)
        }
    }
}

fn comparison(field: Expr, filter: &FieldFilter, datatype: &str) -> Result<Expr> {
    let name = &filter.field;
    let count = filter.values.len() + usize::from(filter.value.is_some());
    let all: Vec<&serde_json::Value> = match &filter.value {
        Some(serde_json::Value::Array(values)) => values.iter().chain(&filter.values).collect(),
        Some(value) => std::iter::once(value).chain(&filter.values).collect(),
        None => filter.values.iter().collect(),
    };
    let literals = all.iter().map(|value| literal(value, datatype, name)).collect::<Result<Vec<_>>>()?;
    let wanted = match filter.op {
        FilterOp::IsNull | FilterOp::IsNotNull => count == 0,
        FilterOp::In | FilterOp::NotIn => !literals.is_empty(),
        FilterOp::Between => literals.len() == 2,
        _ => literals.len() == 1,
    };
    if !wanted {
        let message = format!(
            "the filter on `{name}` has {} values; is_null takes none, between two, in any number, the others one",
            literals.len()
        );
        return Err(CompileError::invalid(message));
    }
    let mut literals = literals.into_iter();
    let mut next = || Box::new(literals.next().unwrap_or_else(|| verbatim("NULL")));
    let field = Box::new(field);
    let binary = |op, right| Expr::BinaryOp { left: field.clone(), op, right };
    Ok(match filter.op {
        FilterOp::Eq => binary(BinaryOperator::Eq, next()),
        FilterOp::NotEq => binary(BinaryOperator::NotEq, next()),
        FilterOp::Lt => binary(BinaryOperator::Lt, next()),
        FilterOp::LtEq => binary(BinaryOperator::LtEq, next()),
        FilterOp::Gt => binary(BinaryOperator::Gt, next()),
        FilterOp::GtEq => binary(BinaryOperator::GtEq, next()),
        FilterOp::In | FilterOp::NotIn => {
            Expr::InList { expr: field, list: literals.collect(), negated: filter.op == FilterOp::NotIn }
        }
        FilterOp::Between => Expr::Between { expr: field, negated: false, low: next(), high: next() },
        FilterOp::Like | FilterOp::NotLike => Expr::Like {
            negated: filter.op == FilterOp::NotLike,
            any: false,
            expr: field,
            pattern: next(),
            escape_char: None,
        },
        FilterOp::IsNull => Expr::IsNull(field),
        FilterOp::IsNotNull => Expr::IsNotNull(field),
    })
}

fn literal(value: &serde_json::Value, datatype: &str, field: &str) -> Result<Expr> {
    let text = |text: &str| Value::SingleQuotedString(text.to_owned()).with_empty_span();
    let moment = |written: &str, data_type: DataType, format: &str| -> Result<Expr> {
        let at = time::moment(written)?;
        let value = text(&at.format(format).to_string());
        Ok(Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: false }))
    };
    match value {
        serde_json::Value::String(written) => match datatype {
            "Date" => moment(written, DataType::Date, "%Y-%m-%d"),
            "DateTime" | "DateTimeTz" => {
                moment(written, DataType::Timestamp(None, TimezoneInfo::None), "%Y-%m-%d %H:%M:%S%.f")
            }
            _ => Ok(Expr::Value(text(written))),
        },
        serde_json::Value::Number(number) => {
            let digits = number.to_string();
            Ok(match digits.strip_prefix('-') {
                Some(positive) => Expr::Nested(Box::new(Expr::UnaryOp {
                    op: UnaryOperator::Minus,
                    expr: Box::new(verbatim(positive)),
                })),
                None => verbatim(digits),
            })
        }
        serde_json::Value::Bool(truth) => Ok(Expr::Value(Value::Boolean(*truth).with_empty_span())),
        serde_json::Value::Null => Err(CompileError::invalid(format!(
            "a value of the filter on `{field}` is null; use is_null or is_not_null"
        ))),
        _ => Err(CompileError::invalid(format!(
            "a value of the filter on `{field}` is a list or an object; write plain values"
        ))),
    }
}
