//! Expressions of one row.

use super::super::world::{INTS, Kind};
use super::{Column, Grammar, Source, named};

impl Grammar<'_, '_> {
    pub(super) fn kind(&mut self) -> Kind {
        *self.choices.of(&[Kind::Int, Kind::Text])
    }

    pub(super) fn any_column(&mut self, scope: &[Source]) -> Option<(String, Kind)> {
        let columns: Vec<(String, Kind)> = scope
            .iter()
            .flat_map(|source| source.columns.iter().map(|column| (named(source, column), column.kind)))
            .collect();
        (!columns.is_empty()).then(|| self.choices.of(&columns).clone())
    }

    pub(super) fn column(&mut self, kind: Kind, scope: &[Source]) -> Option<String> {
        let fits = |column: &&Column| column.kind == kind || column.kind == Kind::Any;
        let columns: Vec<String> = scope
            .iter()
            .flat_map(|source| source.columns.iter().filter(fits).map(|column| named(source, column)))
            .collect();
        (!columns.is_empty()).then(|| self.choices.of(&columns).clone())
    }

    pub(super) fn literal(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Text => self.choices.of(&["'a'", "'b'", "''", "'B'''", "'***'", "'ü'"]).to_string(),
            _ => (INTS.start + self.choices.pick(8) as i64).to_string(),
        }
    }

    pub(super) fn leaf(&mut self, kind: Kind, scope: &[Source]) -> String {
        match self.column(kind, scope) {
            Some(column) => column,
            None => self.literal(kind),
        }
    }

    /// Fails with a division by zero on rows that the caller may not see, and on no others.
    pub(super) fn risky(&mut self, scope: &[Source]) -> Option<String> {
        let columns: Vec<(String, Vec<i64>)> = scope
            .iter()
            .flat_map(|source| {
                let risky = source.columns.iter().filter(|column| !column.absent.is_empty());
                risky.map(|column| (named(source, column), column.absent.clone()))
            })
            .collect();
        if columns.is_empty() {
            return None;
        }
        let (name, absent) = self.choices.of(&columns).clone();
        Some(format!("60 / ({name} - ({}))", self.choices.of(&absent)))
    }

    pub(super) fn expression(&mut self, kind: Kind, scope: &[Source], depth: usize, size: usize) -> String {
        if size == 0 {
            return self.leaf(kind, scope);
        }
        let more = |this: &mut Self, kind| this.expression(kind, scope, 0, size - 1);
        match (kind, self.choices.pick(13)) {
            (_, 0 | 1) => self.leaf(kind, scope),
            (_, 2) => self.literal(kind),
            (_, 3) => self.case(kind, scope, size - 1),
            (_, 4) => format!("COALESCE({}, {})", more(self, kind), self.literal(kind)),
            (_, 5) if depth > 0 => self.scalar(kind, scope),
            (_, 6) => format!("NULLIF({}, {})", more(self, kind), self.literal(kind)),
            (Kind::Text, 7) => {
                format!("{}({})", self.choices.of(&["UPPER", "LOWER", "TRIM"]), more(self, kind))
            }
            (Kind::Text, 8) => format!("SUBSTR({}, 1, 1)", more(self, kind)),
            (Kind::Text, 9) => format!("REPLACE({}, 'a', 'xa')", more(self, kind)),
            (Kind::Text, 10) => format!("CAST({} AS VARCHAR)", more(self, Kind::Int)),
            (Kind::Text, 11) => format!("CAST({} AS VARCHAR)", self.date(scope)),
            (Kind::Text, _) => format!("({} || '-')", more(self, kind)),
            (_, 7) => format!("CAST(LENGTH(CAST({} AS VARCHAR)) AS BIGINT)", more(self, Kind::Text)),
            (_, 8) => format!("({} / NULLIF({}, 0))", more(self, kind), more(self, kind)),
            (_, 9) => {
                format!("({} {} {})", more(self, kind), self.choices.of(&["+", "-"]), more(self, kind))
            }
            (_, 10) => format!("ABS({} % 3)", more(self, kind)),
            (_, 11) => {
                let part = *self.choices.of(&["DAY", "MONTH", "DOW"]);
                format!("CAST(EXTRACT({part} FROM {}) AS BIGINT)", self.date(scope))
            }
            _ => self.risky(scope).unwrap_or_else(|| self.leaf(kind, scope)),
        }
    }

    fn case(&mut self, kind: Kind, scope: &[Source], size: usize) -> String {
        let more = |this: &mut Self| this.expression(kind, scope, 0, size);
        match self.choices.pick(4) {
            0 => {
                let (value, then, other) = (self.leaf(Kind::Int, scope), more(self), more(self));
                let literal = self.literal(Kind::Int);
                format!("CASE {value} WHEN {literal} THEN {then} ELSE {other} END")
            }
            1 => {
                let (one, two) = (self.condition(scope, 0, size), self.condition(scope, 0, size));
                format!("CASE WHEN {one} THEN {} WHEN {two} THEN {} END", more(self), more(self))
            }
            _ => {
                let condition = self.condition(scope, 0, size);
                format!("CASE WHEN {condition} THEN {} ELSE {} END", more(self), more(self))
            }
        }
    }

    /// A day in February or March 2024.
    fn date(&mut self, scope: &[Source]) -> String {
        let number = self.leaf(Kind::Int, scope);
        let day = format!("CAST('2024-02-2' || CAST(ABS({number} % 10) AS VARCHAR) AS DATE)");
        match self.choices.pick(3) {
            0 => day,
            1 => format!("CAST({day} + INTERVAL '{} day' AS DATE)", 1 + self.choices.pick(9)),
            _ => format!("CAST(DATE_TRUNC('{}', {day}) AS DATE)", self.choices.of(&["month", "week"])),
        }
    }

    /// A subquery that gives one value; correlated or not.
    pub(super) fn scalar(&mut self, kind: Kind, scope: &[Source]) -> String {
        let (from, source) = self.source_in_subquery();
        let inner = std::slice::from_ref(&source);
        let value = self.leaf(kind, inner);
        let condition = match self.choices.once_in(2) {
            true => self.correlated(inner, scope),
            false => self.condition(inner, 0, 1),
        };
        let value = match (kind, self.choices.pick(4)) {
            // Of no rows, a count is a number.
            (Kind::Int, 2) => format!("COUNT({value})"),
            (Kind::Int, 3) => format!("SUM({value})"),
            (_, 1) => format!("MIN({value})"),
            _ => format!("MAX({value})"),
        };
        format!("(SELECT {value} FROM {from} WHERE {condition})")
    }
}
