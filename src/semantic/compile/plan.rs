//! A resolved metric query, and its SQL.
//!
//! P1 every atom is aggregated over its own home dataset, apart from the others (a branch), so that no join of one
//! repeats rows of another. P2 where a join repeats rows of the home dataset itself, each counts once in a group.
//! P3 branches meet on the query's dimensions, NULL with NULL, and no group of any of them is lost.
//! P4 same plan, same text.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDateTime;
use datafusion::sql::sqlparser::ast::Expr;

use super::branch::Parts;
use super::dialect::{Dialect, verbatim};
use super::error::{CompileCode, CompileError, Result};
use super::expr::{self, Names, Slot, as_slot};
use super::measure::{Atom, Condition, RowSource};
use super::time::{self, Shift};
use crate::semantic::model::{Grain, TimeSpan};

/// A column to group by.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub alias: String,
    /// Before its grain is taken; `None`: the time field of each metric's own.
    pub expr: Option<Expr>,
    pub joins: Vec<usize>,
    pub grain: Option<Grain>,
    pub is_date: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Measure {
    pub alias: String,
    pub expr: Expr,
}

/// The time axis: what bounds, offsets and running totals go by.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// `None`: the time field of each metric's own.
    pub expr: Option<Expr>,
    pub is_date: bool,
    pub joins: Vec<usize>,
    /// The key that groups by it, with its grain.
    pub key: Option<(usize, Grain)>,
    pub from: Option<NaiveDateTime>,
    pub to: Option<NaiveDateTime>,
    pub fill: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Order {
    pub expr: OrderExpr,
    pub descending: bool,
    pub nulls_first: Option<bool>,
}

#[derive(Debug, Clone)]
pub(super) enum OrderExpr {
    /// A column of the result.
    Column(String),
    /// An expression over atoms and dimensions.
    Expr(Box<Expr>),
}

/// Everything about one query, resolved.
pub(super) struct Plan<'a> {
    pub names: Names<'a>,
    pub keys: Vec<Key>,
    pub measures: Vec<Measure>,
    pub atoms: Vec<Atom>,
    pub filters: Vec<Condition>,
    pub having: Vec<Expr>,
    pub order: Vec<Order>,
    pub axis: Option<Axis>,
    /// Relationships named for the whole query.
    pub joins: Vec<usize>,
    pub limit: Option<u64>,
    /// The dataset of a query without measures.
    pub default_home: Option<usize>,
}

/// What a query reads and joins by, besides its text.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub datasets: BTreeSet<usize>,
    pub edges: BTreeSet<usize>,
    /// Joins repeated rows of the home dataset and they were taken once a group.
    pub several_groups: BTreeSet<usize>,
}

/// Writes the SQL of one plan.
pub(super) struct Writer<'p, 'a> {
    pub plan: &'p Plan<'a>,
    pub ctes: Vec<(String, String)>,
    pub touched: Touched,
}

/// A branch as it joins the others: its name, and how its periods lie.
struct Joined {
    name: String,
    shift: Option<Shift>,
}

impl<'p, 'a> Writer<'p, 'a> {
    pub fn new(plan: &'p Plan<'a>) -> Self {
        Self { plan, ctes: Vec::new(), touched: Touched::default() }
    }

    pub fn dialect(&self) -> Dialect {
        self.plan.names.dialect
    }

    /// The SQL of an aggregation query.
    pub fn aggregation(mut self) -> Result<(String, Touched)> {
        let branches = self.branches()?;
        self.stitchable(&branches)?;
        let windows = self.has_windows()?;
        for condition in &self.plan.having {
            if expr::shape(condition)?.window {
                let message = "a window function stands in a condition after aggregation; make it a measure and filter the result";
                return Err(CompileError::new(CompileCode::UnsupportedInDialect, message));
            }
        }
        let fills = self.plan.axis.as_ref().is_some_and(|axis| axis.fill);
        let body = match branches.as_slice() {
            [(source, atoms)] if source.shift.is_none() && !fills && !windows => {
                let parts = self.parts(source, atoms)?;
                self.inline(&parts)?
            }
            several => self.joined(several, fills)?,
        };
        Ok((self.finish(body), self.touched))
    }

    /// The SQL of a query of rows, without aggregation.
    pub fn rows(mut self, home: usize, fields: &[Measure]) -> Result<(String, Touched)> {
        let mut joins = super::join::Joins::new(self.plan.names, home);
        let dialect = self.dialect();
        let hints: [&[usize]; 1] = [&self.plan.joins];
        let mut items = Vec::new();
        for field in fields {
            let text = dialect.print(&joins.localize(&field.expr, &hints)?);
            items.push(format!("{text} AS {}", dialect.alias(&field.alias)));
        }
        let mut conditions = Vec::new();
        for filter in &self.plan.filters {
            conditions
                .push(dialect.print(&joins.localize(&filter.expr, &[&filter.joins, &self.plan.joins])?));
        }
        let mut order = Vec::new();
        for item in &self.plan.order {
            let text = match &item.expr {
                OrderExpr::Column(name) => dialect.alias(name),
                OrderExpr::Expr(expr) => dialect.print(&joins.localize(expr, &hints)?),
            };
            order.push((text, item.descending, item.nulls_first));
        }
        if joins.fans {
            let others: Vec<&str> = joins
                .datasets()
                .filter(|dataset| *dataset != home)
                .map(|dataset| self.plan.names.graph.name(dataset))
                .collect();
            let message = format!(
                "a scalar query returns one row for each of `{}`, and the join to {} repeats them (fan-out); make it an aggregation query, or choose the finer dataset as the single home",
                self.plan.names.graph.name(home),
                others.join(", ")
            );
            return Err(CompileError::new(CompileCode::FanOutInScalarQuery, message));
        }
        let mut body = format!("SELECT {}\nFROM {}", items.join(", "), joins.text()?);
        push_clause(&mut body, "WHERE", &conditions);
        body.push_str(&order_by(&order));
        self.touch(&joins);
        Ok((self.finish(body), self.touched))
    }

    pub fn touch(&mut self, joins: &super::join::Joins<'_>) {
        self.touched.datasets.extend(joins.datasets());
        self.touched.edges.extend(joins.edges());
        if joins.fans {
            self.touched.several_groups.insert(joins.home());
        }
    }

    fn finish(&self, mut body: String) -> String {
        if let Some(limit) = self.plan.limit {
            body.push_str(&format!("\nLIMIT {limit}"));
        }
        if self.ctes.is_empty() {
            return body;
        }
        let ctes: Vec<String> =
            self.ctes.iter().map(|(name, text)| format!("{name} AS (\n{}\n)", indented(text))).collect();
        format!("WITH {}\n{body}", ctes.join(",\n"))
    }

    /// P1. Atoms by where their rows come from, in the order of their first use.
    fn branches(&self) -> Result<Vec<(RowSource, Vec<usize>)>> {
        let mut branches: Vec<(RowSource, Vec<usize>)> = Vec::new();
        for (at, atom) in self.plan.atoms.iter().enumerate() {
            match branches.iter_mut().find(|(source, _)| *source == atom.source) {
                Some((_, atoms)) => atoms.push(at),
                None => branches.push((atom.source.clone(), vec![at])),
            }
        }
        if branches.is_empty() {
            let home = self.home_of_dimensions()?;
            let source = RowSource {
                home,
                conditions: Vec::new(),
                joins: Vec::new(),
                shift: None,
                reach: None,
                semi: None,
                time: None,
            };
            branches.push((source, Vec::new()));
        }
        Ok(branches)
    }

    fn home_of_dimensions(&self) -> Result<usize> {
        let graph = self.plan.names.graph;
        let mut used: BTreeSet<usize> =
            self.plan.keys.iter().filter_map(|key| key.expr.as_ref()).flat_map(expr::datasets).collect();
        if let (1, Some(only)) = (used.len(), used.first().copied()) {
            return Ok(only);
        }
        used.extend(self.plan.filters.iter().flat_map(|filter| expr::datasets(&filter.expr)));
        if let Some(home) = graph.finest(&used)?.or(self.plan.default_home) {
            return Ok(home);
        }
        // Where nothing connects them this says so.
        let list: Vec<usize> = used.iter().copied().collect();
        for pair in list.windows(2) {
            if let [a, b] = pair {
                graph.choose(*a, *b, &[&self.plan.joins])?;
            }
        }
        let names: Vec<&str> = list.iter().map(|at| graph.name(*at)).collect();
        let message = format!(
            "no dataset among {} has one row of the others for each of its own, so that it is open which rows to list; add a metric",
            names.join(", ")
        );
        Err(CompileError::new(CompileCode::AmbiguousMeasureGrain, message))
    }

    /// Two facts without any shared dimension may stand side by side only if something relates them.
    fn stitchable(&self, branches: &[(RowSource, Vec<usize>)]) -> Result<()> {
        let graph = self.plan.names.graph;
        let Some(((first, _), rest)) = branches.split_first() else { return Ok(()) };
        if !self.plan.keys.is_empty() {
            return Ok(());
        }
        for (other, _) in rest {
            if !graph.connected(first.home, other.home) {
                let message = format!(
                    "`{}` and `{}` have no shared dimension and no relationship, so that their totals side by side would be a Cartesian product; ask for each alone, or add a shared dimension",
                    graph.name(first.home),
                    graph.name(other.home)
                );
                return Err(CompileError::new(CompileCode::NoStitchingDimension, message));
            }
        }
        Ok(())
    }

    fn has_windows(&self) -> Result<bool> {
        let ordered = self.plan.order.iter().filter_map(|order| match &order.expr {
            OrderExpr::Expr(expr) => Some(&**expr),
            OrderExpr::Column(_) => None,
        });
        let all =
            self.plan.measures.iter().map(|measure| &measure.expr).chain(&self.plan.having).chain(ordered);
        for expr in all {
            if expr::shape(expr)?.window {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One branch that needs nothing after it: a plain SELECT … GROUP BY.
    fn inline(&self, parts: &Parts) -> Result<String> {
        let slots = |slot: Slot| match slot {
            Slot::Atom(at) => parts.atoms.get(&at).cloned(),
            Slot::Dimension(at) => parts.keys.get(at).cloned(),
        };
        let mut body = format!("SELECT {}\nFROM {}", self.select_list(&slots)?.join(", "), parts.from);
        push_clause(&mut body, "WHERE", &parts.conditions);
        if !parts.keys.is_empty() {
            body.push_str(&format!("\nGROUP BY {}", parts.keys.join(", ")));
        }
        push_clause(&mut body, "HAVING", &self.conditions_after(&slots)?);
        body.push_str(&order_by(&self.order(&slots)?));
        Ok(body)
    }

    fn select_list(&self, slots: &dyn Fn(Slot) -> Option<String>) -> Result<Vec<String>> {
        let dialect = self.dialect();
        let mut items = Vec::new();
        for (at, key) in self.plan.keys.iter().enumerate() {
            let text = slots(Slot::Dimension(at)).ok_or_else(unresolved)?;
            items.push(format!("{text} AS {}", dialect.alias(&key.alias)));
        }
        for measure in &self.plan.measures {
            items.push(format!(
                "{} AS {}",
                self.fill_slots(&measure.expr, slots)?,
                dialect.alias(&measure.alias)
            ));
        }
        Ok(items)
    }

    fn conditions_after(&self, slots: &dyn Fn(Slot) -> Option<String>) -> Result<Vec<String>> {
        self.plan.having.iter().map(|condition| self.fill_slots(condition, slots)).collect()
    }

    fn order(&self, slots: &dyn Fn(Slot) -> Option<String>) -> Result<Vec<(String, bool, Option<bool>)>> {
        let one = |order: &Order| {
            let text = match &order.expr {
                OrderExpr::Column(name) => self.dialect().alias(name),
                OrderExpr::Expr(expr) => self.fill_slots(expr, slots)?,
            };
            Ok((text, order.descending, order.nulls_first))
        };
        self.plan.order.iter().map(one).collect()
    }

    /// Prints an expression over atoms and dimensions, whose texts `slots` gives.
    fn fill_slots(&self, expr: &Expr, slots: &dyn Fn(Slot) -> Option<String>) -> Result<String> {
        let mut expr = match expr {
            Expr::Nested(inner) => Expr::clone(inner),
            other => other.clone(),
        };
        expr::replace(&mut expr, |node| match as_slot(node) {
            Some(slot) => slots(slot).map(|text| Some(verbatim(text))).ok_or_else(unresolved),
            None => Ok(None),
        })?;
        Ok(self.dialect().print(&expr))
    }

    /// P3. Several branches, or one that needs more: each a CTE, put together on the groups of all.
    fn joined(&mut self, branches: &[(RowSource, Vec<usize>)], fills: bool) -> Result<String> {
        let mut joined = Vec::new();
        let mut columns: BTreeMap<usize, String> = BTreeMap::new();
        for (number, (source, atoms)) in branches.iter().enumerate() {
            self.check_shift(source)?;
            let parts = self.parts(source, atoms)?;
            let name = self.cte_name(&format!("branch_{}", number + 1));
            let mut items: Vec<String> =
                parts.keys.iter().enumerate().map(|(at, text)| format!("{text} AS \"d{at}\"")).collect();
            for (at, text) in &parts.atoms {
                items.push(format!("{text} AS \"m{at}\""));
                columns.insert(*at, format!("{name}.\"m{at}\""));
            }
            let mut text = format!("SELECT {}\nFROM {}", items.join(", "), parts.from);
            push_clause(&mut text, "WHERE", &parts.conditions);
            if !parts.keys.is_empty() {
                text.push_str(&format!("\nGROUP BY {}", parts.keys.join(", ")));
            }
            self.ctes.push((name.clone(), text));
            joined.push(Joined { name, shift: source.shift });
        }
        let alone = joined.len() == 1 && joined[0].shift.is_none() && !fills;
        let (from, groups) = if self.plan.keys.is_empty() {
            let names: Vec<&str> = joined.iter().map(|branch| branch.name.as_str()).collect();
            (names.join("\nCROSS JOIN "), String::new())
        } else if alone {
            (joined[0].name.clone(), joined[0].name.clone())
        } else {
            let groups = self.groups(&joined, fills)?;
            let mut from = groups.clone();
            for branch in &joined {
                from.push_str(&format!("\nLEFT JOIN {} ON {}", branch.name, self.meeting(branch, &groups)?));
            }
            (from, groups)
        };
        // Without keys each branch has its one row, and otherwise a missing one has counted nothing.
        let outer = !alone && !self.plan.keys.is_empty();
        let slots = |slot: Slot| match slot {
            Slot::Dimension(at) => Some(format!("{groups}.\"d{at}\"")),
            Slot::Atom(at) => {
                let column = columns.get(&at)?;
                // Nothing counted in a period is zero; an earlier period without rows is unknown.
                let zero = outer && self.plan.atoms[at].counts && self.plan.atoms[at].source.shift.is_none();
                Some(match zero {
                    true => format!("COALESCE({column}, 0)"),
                    false => column.clone(),
                })
            }
        };
        let mut body = format!("SELECT {}\nFROM {from}", self.select_list(&slots)?.join(", "));
        push_clause(&mut body, "WHERE", &self.conditions_after(&slots)?);
        body.push_str(&order_by(&self.order(&slots)?));
        Ok(body)
    }

    /// The CTE of all groups: those of every branch, or all periods if gaps are filled.
    fn groups(&mut self, joined: &[Joined], fills: bool) -> Result<String> {
        let keys = self.plan.keys.len();
        let axis = self.axis_key();
        let columns = |skip: Option<usize>| -> Vec<String> {
            (0..keys).filter(|at| Some(*at) != skip).map(|at| format!("\"d{at}\"")).collect()
        };
        let mut plain: Vec<String> = joined
            .iter()
            .filter(|branch| branch.shift.is_none())
            .map(|branch| format!("SELECT {} FROM {}", columns(None).join(", "), branch.name))
            .collect();
        if plain.is_empty() {
            plain = joined.iter().map(|branch| self.groups_later(branch)).collect::<Result<_>>()?;
        }
        let union = plain.join("\nUNION\n");
        let name = self.cte_name("all_groups");
        let text = match (fills, axis) {
            (true, Some((axis, grain))) => {
                let series = self.series(grain)?;
                let periods = self.cte_name("all_periods");
                self.ctes.push((periods.clone(), series));
                let others = columns(Some(axis));
                let select: Vec<String> =
                    (0..keys)
                        .map(|at| {
                            if at == axis { format!("p.\"t\" AS \"d{at}\"") } else { format!("o.\"d{at}\"") }
                        })
                        .collect();
                let rest = match others.is_empty() {
                    true => String::new(),
                    false => format!(
                        "\nCROSS JOIN (SELECT DISTINCT {} FROM (\n{}\n) AS g) AS o",
                        others.join(", "),
                        indented(&union)
                    ),
                };
                format!("SELECT {}\nFROM {periods} AS p{rest}", select.join(", "))
            }
            _ => union,
        };
        self.ctes.push((name.clone(), text));
        Ok(name)
    }

    /// The groups that a branch of an earlier time has a value for.
    fn groups_later(&self, branch: &Joined) -> Result<String> {
        let axis = self.axis_key().map(|(at, _)| at);
        let is_date = self.plan.axis.as_ref().is_some_and(|axis| axis.is_date);
        let Some(Shift::Back(span)) = branch.shift else {
            return Err(CompileError::invalid(
                "a metric at the start of a period has no groups of its own; ask for it together with a metric that is not offset, or set fill_gaps",
            ));
        };
        let column = |at: usize| match Some(at) == axis {
            true => format!(
                "{} AS \"d{at}\"",
                self.dialect().shifted(&format!("\"d{at}\""), span, false, is_date)
            ),
            false => format!("\"d{at}\""),
        };
        let columns: Vec<String> = (0..self.plan.keys.len()).map(column).collect();
        Ok(format!("SELECT {} FROM {}", columns.join(", "), branch.name))
    }

    fn meeting(&self, branch: &Joined, groups: &str) -> Result<String> {
        let axis = self.axis_key();
        let is_date = self.plan.axis.as_ref().is_some_and(|axis| axis.is_date);
        let one = |at: usize| {
            let (ours, theirs) = (format!("{groups}.\"d{at}\""), format!("{}.\"d{at}\"", branch.name));
            match (branch.shift, axis) {
                (Some(Shift::Back(span)), Some((key, _))) if key == at => {
                    format!("{theirs} = {}", self.dialect().shifted(&ours, span, true, is_date))
                }
                (Some(Shift::ToStartOf(grain)), Some((key, _))) if key == at => {
                    format!("{theirs} = {}", self.dialect().truncate(grain, &ours, is_date))
                }
                // The parser takes what follows for a part of the right side, hence the brackets.
                _ => format!("({theirs} IS NOT DISTINCT FROM {ours})"),
            }
        };
        Ok((0..self.plan.keys.len()).map(one).collect::<Vec<_>>().join(" AND "))
    }

    fn check_shift(&self, source: &RowSource) -> Result<()> {
        let Some(shift) = source.shift else { return Ok(()) };
        let Some((_, grain)) = self.axis_key() else {
            return Err(CompileError::invalid(
                "a metric with an offset needs periods to be offset by; add `time` with a grain",
            ));
        };
        let fits = match shift {
            Shift::Back(span) => time::is_aligned(span, grain),
            Shift::ToStartOf(to) => {
                to >= grain
                    && time::is_aligned(TimeSpan { count: 1, grain: to }, grain)
                    && (grain != Grain::Week || to == Grain::Week)
            }
        };
        if fits {
            return Ok(());
        }
        let shift = match shift {
            Shift::Back(span) => span.to_string(),
            Shift::ToStartOf(to) => format!("the start of the {}", to.as_str()),
        };
        Err(CompileError::invalid(format!(
            "an offset of {shift} does not lead from one {0} to another; use a finer grain than {0}",
            grain.as_str()
        )))
    }

    /// The key that is the time axis, with its grain.
    pub fn axis_key(&self) -> Option<(usize, Grain)> {
        self.plan.axis.as_ref().and_then(|axis| axis.key)
    }

    /// All periods of the range, as a query of one column `t`.
    pub fn series(&self, grain: Grain) -> Result<String> {
        let axis = self.plan.axis.as_ref().ok_or_else(unresolved)?;
        let (Some(from), Some(to)) = (axis.from, axis.to) else {
            return Err(CompileError::invalid(
                "fill_gaps needs the range to fill; add `from` and `to` to `time`",
            ));
        };
        if axis.is_date && grain < Grain::Day {
            return Err(CompileError::invalid(
                "a date has no hours to fill; use the grain day or a coarser one",
            ));
        }
        let periods = time::periods(from, to, grain)?;
        if periods.is_empty() {
            return Err(CompileError::invalid("`time.from` is not before `time.to`"));
        }
        Ok(self.dialect().series(time::truncate(from, grain), &periods, grain, axis.is_date, "t"))
    }

    /// A name for a CTE that no source of the model has.
    pub fn cte_name(&self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let model = &self.plan.names.graph.model;
        while self.plan.names.relations == expr::Relations::Physical
            && model.datasets.iter().any(|dataset| dataset.relation.trim().eq_ignore_ascii_case(&name))
        {
            name.push('_');
        }
        name
    }
}

pub(super) fn push_clause(text: &mut String, keyword: &str, conditions: &[String]) {
    match conditions {
        [] => {}
        [one] => text.push_str(&format!("\n{keyword} {one}")),
        several => {
            let each: Vec<String> = several.iter().map(|condition| format!("({condition})")).collect();
            text.push_str(&format!("\n{keyword} {}", each.join(" AND ")));
        }
    }
}

fn order_by(order: &[(String, bool, Option<bool>)]) -> String {
    if order.is_empty() {
        return String::new();
    }
    let one = |(text, descending, nulls_first): &(String, bool, Option<bool>)| {
        let direction = if *descending { "DESC" } else { "ASC" };
        let nulls = if nulls_first.unwrap_or(*descending) { "FIRST" } else { "LAST" };
        format!("{text} {direction} NULLS {nulls}")
    };
    format!("\nORDER BY {}", order.iter().map(one).collect::<Vec<_>>().join(", "))
}

pub(super) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

pub(super) fn unresolved() -> CompileError {
    CompileError::new(
        CompileCode::InvalidModel,
        "a part of the query could not be resolved; report this query",
    )
}
