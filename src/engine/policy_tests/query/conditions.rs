//! What is true, false or unknown: comparisons, and subqueries that are asked rather than read.

use super::super::world::Kind;
use super::{Grammar, Source};

const COMPARE: &[&str] = &["=", "<>", "<", ">="];
const NOT: &[&str] = &["", "NOT "];
const LIKES: &[&str] = &["a%", "%", "_", "%'", "_%!", "%a", ""];

impl Grammar<'_, '_> {
    pub(super) fn condition(&mut self, scope: &[Source], depth: usize, size: usize) -> String {
        let kind = self.kind();
        match self.choices.pick(if size == 0 { 5 } else { 17 }) {
            0 | 1 => {
                let left = self.expression(kind, scope, 0, size.min(1));
                let right = self.expression(kind, scope, depth, size.min(1));
                format!("{left} {} {right}", self.choices.of(COMPARE))
            }
            2 => format!("{} IS {}NULL", self.leaf(kind, scope), self.not()),
            3 => {
                let null = if self.choices.once_in(8) { ", NULL" } else { "" };
                let (left, not) = (self.leaf(kind, scope), self.not());
                format!("{left} {not}IN ({}, {}{null})", self.literal(kind), self.literal(kind))
            }
            4 => format!("{} {} {}", self.leaf(kind, scope), self.choices.of(COMPARE), self.literal(kind)),
            5 => format!("NOT ({})", self.condition(scope, depth, size - 1)),
            6 | 7 => {
                let operator = *self.choices.of(&["AND", "OR"]);
                let left = self.condition(scope, depth, size - 1);
                format!("({left} {operator} {})", self.condition(scope, 0, size - 1))
            }
            8 => {
                let (value, not) = (self.leaf(kind, scope), self.not());
                format!("{value} {not}BETWEEN {} AND {}", self.literal(kind), self.leaf(kind, scope))
            }
            9 => {
                let like = *self.choices.of(&["LIKE", "NOT LIKE", "ILIKE"]);
                format!("{} {like} '{}'", self.leaf(Kind::Text, scope), self.choices.of(LIKES))
            }
            10 => match self.risky(scope) {
                Some(risky) => format!("{risky} {} 0", self.choices.of(COMPARE)),
                None => "TRUE".to_owned(),
            },
            11 => {
                let truth = *self.choices.of(&["TRUE", "NOT TRUE", "FALSE", "NOT FALSE"]);
                format!("({}) IS {truth}", self.condition(scope, depth, size - 1))
            }
            12 => format!(
                "{} IS {}DISTINCT FROM {}",
                self.leaf(kind, scope),
                self.choices.of(&["NOT ", ""]),
                self.leaf(kind, scope)
            ),
            at if depth > 0 => self.asked(kind, scope, at),
            _ => format!("{} IN ({})", self.leaf(kind, scope), self.literal(kind)),
        }
    }

    /// A condition with a subquery in it.
    fn asked(&mut self, kind: Kind, scope: &[Source], at: usize) -> String {
        let not = self.not();
        let (from, source) = self.source_in_subquery();
        let inner = std::slice::from_ref(&source);
        if at == 13 {
            let condition = self.correlated(inner, scope);
            return format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {condition})");
        }
        let (value, left) = (self.leaf(kind, inner), self.leaf(kind, scope));
        let condition = match self.choices.once_in(4) {
            true => self.correlated(inner, scope),
            false => self.condition(inner, 0, 1),
        };
        let subquery = format!("(SELECT {value} FROM {from} WHERE {condition})");
        match at {
            14 | 15 => format!("{left} {not}IN {subquery}"),
            _ => {
                let quantifier = *self.choices.of(&["ANY", "ALL"]);
                format!("{left} {} {quantifier} {subquery}", self.choices.of(COMPARE))
            }
        }
    }

    /// What ties a subquery to the query around it, and often something more.
    pub(super) fn correlated(&mut self, inner: &[Source], scope: &[Source]) -> String {
        let condition = self.equal(inner, scope).unwrap_or_else(|| "TRUE".to_owned());
        match self.choices.pick(8) {
            0..=3 => condition,
            4..=6 => format!("{condition} AND {}", self.condition(inner, 0, 1)),
            _ => format!("{condition} AND {}", self.unequal(inner, scope)),
        }
    }

    /// `left.x = right.y`, where there are two of a kind.
    pub(super) fn equal(&mut self, left: &[Source], right: &[Source]) -> Option<String> {
        let kind = self.kind();
        Some(format!("{} = {}", self.column(kind, left)?, self.column(kind, right)?))
    }

    /// As `equal`, by another comparison.
    pub(super) fn unequal(&mut self, left: &[Source], right: &[Source]) -> String {
        let kind = self.kind();
        format!("{} {} {}", self.leaf(kind, left), self.choices.of(COMPARE), self.leaf(kind, right))
    }

    pub(super) fn not(&mut self) -> &'static str {
        self.choices.of::<&str>(NOT)
    }
}
