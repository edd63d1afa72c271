//! One branch: the rows of one home dataset with what they are grouped by, and the aggregates over them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::NaiveDateTime;
use datafusion::sql::sqlparser::ast::Expr;

use super::dialect::verbatim;
use super::error::{CompileError, Result};
use super::expr::{self, ColumnRef, as_column};
use super::join::Joins;
use super::measure::{Reach, RowSource};
use super::plan::{Axis, Key, Writer, indented, push_clause};
use super::time::{self, Shift};
use crate::semantic::model::{Grain, TimeSpan};

/// The pieces of `SELECT keys, atoms FROM from WHERE conditions GROUP BY keys`.
pub(super) struct Parts {
    pub keys: Vec<String>,
    /// By the atom's position.
    pub atoms: BTreeMap<usize, String>,
    pub from: String,
    pub conditions: Vec<String>,
}

/// What of the time axis a branch reads, when it is not what the query says.
#[derive(Clone, Copy)]
struct Range {
    from: Option<NaiveDateTime>,
    to: Option<NaiveDateTime>,
    /// Group by periods of this length instead of the query's.
    grain: Option<Grain>,
}

/// Rows before aggregation: a FROM with everything spelt over it.
struct Rows {
    keys: Vec<String>,
    columns: HashMap<ColumnRef, Expr>,
    from: String,
    conditions: Vec<String>,
}

impl Writer<'_, '_> {
    pub fn parts(&mut self, source: &RowSource, atoms: &[usize]) -> Result<Parts> {
        let range = self.range(source)?;
        match (source.reach, self.axis_key()) {
            (None, _) => self.plain(source, atoms, range),
            // Everything up to the end of the range, which is what a total runs up to.
            (Some(Reach::All), None) => self.plain(source, atoms, Range { from: None, ..range }),
            (Some(_), None) => Err(CompileError::invalid(
                "a cumulative metric with a window needs periods to run over; add `time` with a grain",
            )),
            (Some(reach), Some((axis, grain))) => self.cumulative(source, atoms, reach, axis, grain, range),
        }
    }

    /// The bounds of the time axis for this source: an offset moves them.
    fn range(&self, source: &RowSource) -> Result<Range> {
        let Some(axis) = &self.plan.axis else { return Ok(Range { from: None, to: None, grain: None }) };
        let (from, to) = match source.shift {
            None => (axis.from, axis.to),
            Some(Shift::Back(span)) => {
                let back = |at: Option<NaiveDateTime>| at.map(|at| time::shifted(at, span, true)).transpose();
                (back(axis.from)?, back(axis.to)?)
            }
            Some(Shift::ToStartOf(grain)) => (axis.from.map(|at| time::truncate(at, grain)), axis.to),
        };
        Ok(Range { from, to, grain: None })
    }

    fn plain(&mut self, source: &RowSource, atoms: &[usize], range: Range) -> Result<Parts> {
        let mut columns = BTreeSet::new();
        for at in atoms {
            columns.extend(expr::columns(&self.plan.atoms[*at].function));
        }
        let rows = self.read(source, &columns, range, false)?;
        let mut texts = BTreeMap::new();
        for at in atoms {
            texts.insert(*at, self.over(&self.plan.atoms[*at].function, &rows.columns)?);
        }
        Ok(Parts { keys: rows.keys, atoms: texts, from: rows.from, conditions: rows.conditions })
    }

    /// Prints an aggregate over the columns as the rows have them.
    fn over(&self, function: &Expr, columns: &HashMap<ColumnRef, Expr>) -> Result<String> {
        let mut local = function.clone();
        expr::replace(&mut local, |node| {
            Ok(as_column(node).and_then(|column| columns.get(&column).cloned()))
        })?;
        Ok(self.dialect().print(&local))
    }

    /// The rows of a source. `apart`: as a subquery in any case, for those who need more than a FROM.
    fn read(
        &mut self,
        source: &RowSource,
        columns: &BTreeSet<ColumnRef>,
        range: Range,
        apart: bool,
    ) -> Result<Rows> {
        let dialect = self.dialect();
        let plan = self.plan;
        let mut joins = Joins::new(plan.names, source.home);
        let mut keys = Vec::new();
        for (at, key) in plan.keys.iter().enumerate() {
            keys.push(self.key(&mut joins, key, at, source, range)?);
        }
        let general: [&[usize]; 2] = [&source.joins, &plan.joins];
        let mut conditions = Vec::new();
        for condition in plan.filters.iter().chain(&source.conditions) {
            let hints: [&[usize]; 3] = [&condition.joins, &source.joins, &plan.joins];
            conditions.push(dialect.print(&joins.localize(&condition.expr, &hints)?));
        }
        if let Some(axis) = plan.axis.as_ref().filter(|_| range.from.is_some() || range.to.is_some()) {
            let (text, is_date) = self.axis_text(&mut joins, axis, source)?;
            if let Some(from) = range.from {
                conditions.push(format!("{text} >= {}", dialect.instant(from, is_date)));
            }
            if let Some(to) = range.to {
                conditions.push(format!("{text} < {}", dialect.instant(to, is_date)));
            }
        }
        let mut local = HashMap::new();
        for column in columns {
            let placed = expr::column(column.dataset, column.name.clone());
            let placed =
                if column.windowed { expr::windowed(column.dataset, &column.name.value) } else { placed };
            local.insert(column.clone(), joins.localize(&placed, &general)?);
        }
        let semi = match &source.semi {
            None => None,
            Some(semi) => {
                let value = dialect.print(&joins.localize(&semi.time, &general)?);
                let mut within: Vec<String> = Vec::new();
                for grouping in &semi.groupings {
                    within.push(dialect.print(&joins.localize(grouping, &general)?));
                }
                if let Some((axis, _)) = self.axis_key() {
                    within.push(keys[axis].clone());
                }
                let pick = if semi.latest { "MAX" } else { "MIN" };
                let over = match within.is_empty() {
                    true => String::new(),
                    false => format!("PARTITION BY {}", within.join(", ")),
                };
                Some((value.clone(), format!("{pick}({value}) OVER ({over})")))
            }
        };
        self.touch(&joins);
        if !joins.fans && semi.is_none() && !apart {
            return Ok(Rows { keys, columns: local, from: joins.text()?, conditions });
        }
        // P2. One row for each row of the home dataset and group.
        let mut items = Vec::new();
        if joins.fans {
            for (at, part) in joins.key()?.iter().enumerate() {
                items.push(format!("{} AS \"k{at}\"", dialect.print(part)));
            }
        }
        items.extend(keys.iter().enumerate().map(|(at, key)| format!("{key} AS \"d{at}\"")));
        let mut outer = HashMap::new();
        for (at, column) in columns.iter().enumerate() {
            let text = local.get(column).map(|expr| dialect.print(expr)).unwrap_or_default();
            items.push(format!("{text} AS \"c{at}\""));
            outer.insert(column.clone(), verbatim(format!("r.\"c{at}\"")));
        }
        if let Some((value, picked)) = &semi {
            items.push(format!("{value} AS \"t\", {picked} AS \"picked\""));
        }
        if items.is_empty() {
            items.push("1 AS \"one\"".to_owned());
        }
        let distinct = if joins.fans { "DISTINCT " } else { "" };
        let mut text = format!("SELECT {distinct}{}\nFROM {}", items.join(", "), joins.text()?);
        push_clause(&mut text, "WHERE", &conditions);
        Ok(Rows {
            keys: (0..keys.len()).map(|at| format!("r.\"d{at}\"")).collect(),
            columns: outer,
            from: format!("(\n{}\n) AS r", indented(&text)),
            conditions: semi.iter().map(|_| "r.\"t\" = r.\"picked\"".to_owned()).collect(),
        })
    }

    fn key(
        &self,
        joins: &mut Joins<'_>,
        key: &Key,
        at: usize,
        source: &RowSource,
        range: Range,
    ) -> Result<String> {
        let dialect = self.dialect();
        let grain = match (range.grain, self.axis_key()) {
            (Some(grain), Some((axis, _))) if axis == at => Some(grain),
            _ => key.grain,
        };
        let is_axis = self.axis_key().is_some_and(|(axis, _)| axis == at);
        let own = is_axis && self.goes_by_its_own_time(source)?;
        let (text, is_date) = match &key.expr {
            Some(expr) if !own => {
                let hints: [&[usize]; 3] = [&key.joins, &source.joins, &self.plan.joins];
                (dialect.print(&joins.localize(expr, &hints)?), key.is_date)
            }
            _ => {
                let axis = self.plan.axis.as_ref().ok_or_else(super::plan::unresolved)?;
                self.axis_text(joins, axis, source)?
            }
        };
        Ok(match grain {
            Some(grain) => dialect.truncate(grain, &text, is_date),
            None => text,
        })
    }

    /// A metric with a time dimension goes by that where a row of it does not have one moment on the query's axis.
    fn goes_by_its_own_time(&self, source: &RowSource) -> Result<bool> {
        let Some(expr) = self.plan.axis.as_ref().and_then(|axis| axis.expr.as_ref()) else { return Ok(true) };
        let mut single = true;
        for dataset in expr::datasets(expr) {
            single &= self.plan.names.graph.reaches_singly(source.home, dataset)?;
        }
        Ok(!single && source.time.is_some())
    }

    /// The field that the time axis is for this source, and whether it is a date.
    fn axis_text(&self, joins: &mut Joins<'_>, axis: &Axis, source: &RowSource) -> Result<(String, bool)> {
        let dialect = self.dialect();
        let own = self.goes_by_its_own_time(source)?;
        if let Some(expr) = axis.expr.as_ref().filter(|_| !own) {
            let hints: [&[usize]; 3] = [&axis.joins, &source.joins, &self.plan.joins];
            return Ok((dialect.print(&joins.localize(expr, &hints)?), axis.is_date));
        }
        let graph = self.plan.names.graph;
        let Some((dataset, field)) = source.time else {
            return Err(CompileError::invalid(format!(
                "a metric over `{}` has no `time_dimension`; name the field in `time.dimension`",
                graph.name(source.home)
            )));
        };
        let field = &graph.dataset(dataset).fields[field];
        let expr = self.plan.names.field(dataset, &field.name)?;
        let text = dialect.print(&joins.localize(&expr, &[&source.joins, &self.plan.joins])?);
        // Metrics with fields of several types meet as moments.
        let is_date = field.datatype == "Date";
        Ok(match (is_date, axis.is_date) {
            (true, false) => (format!("CAST({text} AS TIMESTAMP)"), false),
            (false, true) => (format!("CAST({text} AS DATE)"), true),
            _ => (text, is_date),
        })
    }

    /// A running total: for each period the rows from as far back as it reaches. Aggregates that add up are taken of
    /// fine periods first, the others of the rows.
    fn cumulative(
        &mut self,
        source: &RowSource,
        atoms: &[usize],
        reach: Reach,
        axis: usize,
        grain: Grain,
        range: Range,
    ) -> Result<Parts> {
        let dialect = self.dialect();
        let is_date = self.plan.axis.as_ref().is_some_and(|axis| axis.is_date);
        let unit = match reach {
            Reach::All => grain,
            Reach::Window(span) => time::common(grain, span.grain),
            Reach::ToDate(to) if to < grain => {
                return Err(CompileError::invalid(format!(
                    "the metric starts anew each {}, which is finer than the query's {}; use a finer grain",
                    to.as_str(),
                    grain.as_str()
                )));
            }
            Reach::ToDate(to) => time::common(grain, to),
        };
        let unit = if is_date { unit.max(Grain::Day) } else { unit };
        let from = match (reach, range.from) {
            (Reach::All, _) | (_, None) => None,
            (Reach::Window(span), Some(from)) => {
                Some(time::shifted(time::truncate(from, grain), span, true)?)
            }
            (Reach::ToDate(to), Some(from)) => Some(time::truncate(from, to)),
        };
        let reading = Range { from, to: range.to, grain: Some(unit) };
        let base = self.cte_name(&format!("base_{}", self.ctes.len() + 1));
        let adds_up = atoms.iter().all(|at| self.plan.atoms[*at].combine.is_some());
        let mut texts = BTreeMap::new();
        let body = if adds_up {
            let parts = self.plain(source, atoms, reading)?;
            let mut items: Vec<String> =
                parts.keys.iter().enumerate().map(|(at, text)| format!("{text} AS \"d{at}\"")).collect();
            for (at, text) in &parts.atoms {
                items.push(format!("{text} AS \"m{at}\""));
                let combine = self.plan.atoms[*at].combine.unwrap_or("SUM");
                texts.insert(*at, format!("{combine}(b.\"m{at}\")"));
            }
            let mut text = format!("SELECT {}\nFROM {}", items.join(", "), parts.from);
            push_clause(&mut text, "WHERE", &parts.conditions);
            text.push_str(&format!("\nGROUP BY {}", parts.keys.join(", ")));
            text
        } else {
            let mut columns = BTreeSet::new();
            for at in atoms {
                columns.extend(expr::columns(&self.plan.atoms[*at].function));
            }
            let rows = self.read(source, &columns, reading, true)?;
            let mut items: Vec<String> =
                rows.keys.iter().enumerate().map(|(at, text)| format!("{text} AS \"d{at}\"")).collect();
            let mut local = HashMap::new();
            for (at, column) in columns.iter().enumerate() {
                items.push(format!("r.\"c{at}\""));
                local.insert(column.clone(), verbatim(format!("b.\"c{at}\"")));
            }
            for at in atoms {
                texts.insert(*at, self.over(&self.plan.atoms[*at].function, &local)?);
            }
            let mut text = format!("SELECT {}\nFROM {}", items.join(", "), rows.from);
            push_clause(&mut text, "WHERE", &rows.conditions);
            text
        };
        self.ctes.push((base.clone(), body));
        let moment = format!("b.\"d{axis}\"");
        let fills = self.plan.axis.as_ref().is_some_and(|axis| axis.fill);
        let periods = if fills && source.shift.is_none() {
            self.series(grain)?
        } else {
            let mut text = format!(
                "SELECT DISTINCT {} AS \"t\"\nFROM {base} AS b\nWHERE {moment} IS NOT NULL",
                dialect.truncate(grain, &moment, is_date)
            );
            if let Some(from) = range.from {
                let start = dialect.instant(time::truncate(from, grain), is_date);
                text.push_str(&format!(" AND {moment} >= {start}"));
            }
            text
        };
        let end = dialect.shifted("p.\"t\"", TimeSpan { count: 1, grain }, false, is_date);
        let mut on = format!("{moment} < {end}");
        match reach {
            Reach::All => {}
            Reach::Window(span) => {
                on.push_str(&format!(" AND {moment} >= {}", dialect.shifted(&end, span, true, is_date)));
            }
            Reach::ToDate(to) => {
                on.push_str(&format!(" AND {moment} >= {}", dialect.truncate(to, "p.\"t\"", is_date)));
            }
        }
        let keys = (0..self.plan.keys.len())
            .map(|at| if at == axis { "p.\"t\"".to_owned() } else { format!("b.\"d{at}\"") })
            .collect();
        let from = format!("(\n{}\n) AS p\nINNER JOIN {base} AS b ON {on}", indented(&periods));
        Ok(Parts { keys, atoms: texts, from, conditions: Vec::new() })
    }
}
