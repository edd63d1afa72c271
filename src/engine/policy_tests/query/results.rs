//! What a SELECT gives: expressions, windows and aggregates.

use super::super::world::Kind;
use super::{Grammar, Source, named};

const DIRECTIONS: &[&str] = &["", " DESC", " NULLS FIRST", " DESC NULLS LAST"];
const FRAMES: &[&str] = &[
    "",
    " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
    " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    " ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
    " ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING",
];

impl Grammar<'_, '_> {
    /// A column of the result: an expression, or a window.
    pub(super) fn item(&mut self, kind: Kind, scope: &[Source], depth: usize) -> String {
        if !self.choices.once_in(5) {
            return self.expression(kind, scope, depth, 2);
        }
        if !self.has_numbered && self.choices.once_in(2) {
            self.has_numbered = true;
            return self.numbered(kind, scope);
        }
        let partition = self.partition(scope);
        let value = self.leaf(kind, scope);
        let order = format!("ORDER BY {}{}", self.leaf(kind, scope), self.direction());
        match (kind, self.choices.pick(6)) {
            (Kind::Int, 0) => format!("SUM({value}) OVER ({partition})"),
            (Kind::Int, 1) => {
                let rank = *self.choices.of(&["RANK", "DENSE_RANK"]);
                format!("CAST({rank}() OVER ({partition}{order}) AS BIGINT)")
            }
            (Kind::Int, 2) => format!("COUNT({value}) OVER ({partition}{order})"),
            (Kind::Int, 3) => format!("SUM({value}) OVER ({partition}{order})"),
            (_, 4) => format!("MIN({value}) OVER ({partition})"),
            _ => format!("MAX({value}) OVER ({partition}{order})"),
        }
    }

    /// A window that tells rows apart, over a total order. One in a SELECT: rows that are equal in all their columns may
    /// come in one order for this and in another for that.
    pub(super) fn numbered(&mut self, kind: Kind, scope: &[Source]) -> String {
        let partition = self.partition(scope);
        let value = self.leaf(kind, scope);
        let columns =
            scope.iter().flat_map(|source| source.columns.iter().map(|column| named(source, column)));
        let columns: Vec<String> = columns.map(|column| column + self.direction()).collect();
        let total = format!("{partition}ORDER BY {}", columns.join(", "));
        let frame = *self.choices.of(FRAMES);
        match (kind, self.choices.pick(7)) {
            (Kind::Int, 0) => format!("CAST(ROW_NUMBER() OVER ({total}) AS BIGINT)"),
            (Kind::Int, 1) => format!("CAST(NTILE(2) OVER ({total}) AS BIGINT)"),
            (Kind::Int, 2) => format!("SUM({value}) OVER ({total}{frame})"),
            (_, 3) => format!("LEAD({value}, 2, {}) OVER ({total})", self.literal(kind)),
            (_, 4) => format!("FIRST_VALUE({value}) OVER ({total}{frame})"),
            (_, 5) => format!("LAST_VALUE({value}) OVER ({total}{frame})"),
            _ => format!("LAG({value}) OVER ({total})"),
        }
    }

    fn partition(&mut self, scope: &[Source]) -> String {
        match self.any_column(scope) {
            Some((name, _)) if self.choices.once_in(2) => format!("PARTITION BY {name} "),
            _ => String::new(),
        }
    }

    pub(super) fn direction(&mut self) -> &'static str {
        self.choices.of::<&str>(DIRECTIONS)
    }

    /// What is grouped by, as the keys' names.
    pub(super) fn groups(&mut self, keys: &[(String, Kind)]) -> String {
        let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
        let all = names.join(", ");
        match self.choices.pick(12) {
            9 => format!("ROLLUP ({all})"),
            10 => format!("CUBE ({all})"),
            11 => format!("GROUPING SETS (({all}), ({}), ())", names[0]),
            _ => all,
        }
    }

    pub(super) fn aggregate(&mut self, kind: Kind, keys: &[(String, Kind)], scope: &[Source]) -> String {
        let own: Vec<&String> =
            keys.iter().filter(|(_, other)| *other == kind).map(|(name, _)| name).collect();
        if !own.is_empty() && self.choices.once_in(2) {
            return (*self.choices.of(&own)).clone();
        }
        let filter = match self.choices.once_in(5) {
            true => format!(" FILTER (WHERE {})", self.condition(scope, 0, 1)),
            false => String::new(),
        };
        let value = self.expression(kind, scope, 0, 1);
        match (kind, self.choices.pick(6)) {
            (Kind::Text, 0 | 1) if !self.has_ordered => {
                self.has_ordered = true;
                format!("STRING_AGG({value}, ',' ORDER BY {value}){filter}")
            }
            (Kind::Text, 0..=3) => format!("MIN({value}){filter}"),
            (Kind::Text, _) => format!("MAX({value}){filter}"),
            (_, 0) => format!("COUNT(*){filter}"),
            (_, 1) => format!("COUNT({value}){filter}"),
            (_, 2) => format!("COUNT(DISTINCT {value}){filter}"),
            (_, 3) => format!("SUM({}{value}){filter}", self.choices.of(&["", "DISTINCT "])),
            // Cast as it is, it would be rounded by some and cut by others.
            (_, 4) => format!("CAST(TRUNC(AVG({value}){filter}) AS BIGINT)"),
            _ => format!("MIN({value}){filter}"),
        }
    }

    /// A window over groups.
    pub(super) fn over_groups(&mut self, keys: &[(String, Kind)], scope: &[Source]) -> String {
        let aggregate = self.aggregate(Kind::Int, keys, scope);
        match self.choices.pick(2) {
            0 => format!("CAST(RANK() OVER (ORDER BY {aggregate}{}) AS BIGINT)", self.direction()),
            _ => format!("SUM({aggregate}) OVER ()"),
        }
    }
}
