//! The names that a query uses, whatever they mean in it. Gathered before its relations are resolved: whoever secures a
//! relation then knows which of its columns may be meant.

use std::collections::{HashMap, HashSet};

use datafusion::sql::sqlparser::ast::{Expr, Ident, JoinConstraint, JoinOperator, ObjectName};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::calls;
use super::dialect::Dialect;
use super::namespace::identifiers;

/// All folded as the dialect does.
pub(super) struct Names {
    dialect: Dialect,
    /// Standing alone: columns of any relation in reach, or a relation as a row.
    alone: HashSet<String>,
    /// The first of several: relations, or columns whose fields the others are.
    first: HashSet<String>,
    /// By what stands before the dot.
    qualified: HashMap<String, HashMap<String, Span>>,
    /// `alias.*`.
    whole: HashSet<String>,
    /// Somewhere a `*` stands in an expression.
    has_wildcard: bool,
}

impl Names {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            alone: HashSet::new(),
            first: HashSet::new(),
            qualified: HashMap::new(),
            whole: HashSet::new(),
            has_wildcard: false,
        }
    }

    pub fn expression(&mut self, expr: &Expr) {
        match expr {
            Expr::Identifier(name) => add(&mut self.alone, self.dialect, name),
            Expr::CompoundIdentifier(parts) => {
                for pair in parts.windows(2) {
                    let (before, name) = (self.dialect.fold(&pair[0]), self.dialect.fold(&pair[1]));
                    let names = match self.qualified.get_mut(before.as_ref()) {
                        Some(names) => names,
                        None => self.qualified.entry(before.into_owned()).or_default(),
                    };
                    if !names.contains_key(name.as_ref()) {
                        names.insert(name.into_owned(), pair[1].span);
                    }
                }
                if let Some(first) = parts.first() {
                    add(&mut self.first, self.dialect, first);
                }
            }
            Expr::QualifiedWildcard(name, _) => self.wildcard(name),
            Expr::Wildcard(_) => self.has_wildcard = true,
            Expr::Function(function) => self.has_wildcard |= calls::reads_all(function),
            _ => {}
        }
    }

    /// `USING` names columns of both sides.
    pub fn join(&mut self, operator: &JoinOperator) {
        if let Some(JoinConstraint::Using(columns)) = constraint(operator) {
            for column in columns.iter().filter_map(identifiers).flatten() {
                add(&mut self.alone, self.dialect, column);
            }
        }
    }

    /// `alias.*`.
    pub fn wildcard(&mut self, name: &ObjectName) {
        if let Some(alias) = identifiers(name).and_then(|parts| parts.last().copied()) {
            add(&mut self.whole, self.dialect, alias);
        }
    }

    /// Whether every column of what goes by `alias` may be meant.
    pub fn has_all_of(&self, alias: &str) -> bool {
        // A relation's own name among the expressions is its whole row, but for the embedded engine.
        let is_row = self.dialect.is_remote() && self.alone.contains(alias);
        self.has_wildcard || is_row || self.whole.contains(alias)
    }

    /// Whether `column` of what goes by `alias` may be meant.
    pub fn has(&self, alias: &str, column: &str) -> bool {
        self.alone.contains(column)
            || self.first.contains(column)
            || self.qualified.get(alias).is_some_and(|names| names.contains_key(column))
    }

    /// Every `before.name`, with the place of the name.
    pub fn qualified(&self) -> impl Iterator<Item = (&str, &str, Span)> {
        self.qualified.iter().flat_map(|(before, names)| {
            names.iter().map(move |(name, span)| (before.as_str(), name.as_str(), *span))
        })
    }
}

fn add(names: &mut HashSet<String>, dialect: Dialect, ident: &Ident) {
    let name = dialect.fold(ident);
    if !names.contains(name.as_ref()) {
        names.insert(name.into_owned());
    }
}

pub(super) fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint)
        | JoinOperator::StraightJoin(constraint)
        | JoinOperator::AsOf { constraint, .. } => Some(constraint),
        _ => None,
    }
}
