//! Which columns of published relations a query may mean, told from its names alone: an upper bound.

use std::collections::{BTreeSet, HashMap, HashSet};

use datafusion::sql::sqlparser::ast::{
    Ident, Join, JoinConstraint, Select, SelectItem, SelectItemQualifiedWildcardKind, TableAlias,
};

use super::Refusal;
use super::dialect::Dialect;
use super::names::{Names, constraint};
use super::namespace::{Column, Relation};
use crate::semantic::did_you_mean;

/// A column of a published relation that a query names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TouchedColumn {
    pub schema: String,
    pub relation: String,
    pub column: String,
}

/// A place where a query reads a published relation.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// By which the query calls it there, folded.
    pub alias: String,
    /// All that it could read there.
    pub columns: Vec<String>,
}

/// Gathered while the relations of a query are resolved.
pub(super) struct Touched {
    dialect: Dialect,
    names: Names,
    /// Whether the SELECTs around, innermost last, read all columns of what stands in their FROM.
    frames: Vec<bool>,
    places: Vec<Place>,
    columns: BTreeSet<TouchedColumn>,
    /// Aliases of what is no published relation: the columns behind them are not known.
    opaque: HashSet<String>,
}

impl Touched {
    pub fn new(names: Names, dialect: Dialect) -> Self {
        Self {
            dialect,
            names,
            frames: Vec::new(),
            places: Vec::new(),
            columns: BTreeSet::new(),
            opaque: HashSet::new(),
        }
    }

    /// Its relations are not resolved yet.
    pub fn enter(&mut self, select: &Select) {
        let reads_all = |item: &SelectItem| match item {
            SelectItem::Wildcard(_) => true,
            SelectItem::QualifiedWildcard(kind, _) => {
                matches!(kind, SelectItemQualifiedWildcardKind::Expr(_))
            }
            _ => false,
        };
        self.frames.push(select.projection.iter().any(reads_all));
        for from in &select.from {
            self.joins(&from.joins);
        }
    }

    pub fn leave(&mut self) {
        self.frames.pop();
    }

    /// `NATURAL` compares every column of the same name.
    pub fn joins(&mut self, joins: &[Join]) {
        let is_natural =
            |join: &Join| matches!(constraint(&join.join_operator), Some(JoinConstraint::Natural));
        if joins.iter().any(is_natural) {
            self.all_of_select();
        }
    }

    /// Every column of what is still to be resolved of the innermost SELECT's FROM.
    pub fn all_of_select(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            *frame = true;
        }
    }

    /// A published relation and the name that the query gives it. Returns the columns that may be meant, and one where
    /// there is none: `SELECT count(*)` reads rows too.
    pub fn place<'r>(&mut self, relation: &'r Relation, alias: &TableAlias) -> Vec<&'r Column> {
        // Columns that got other names are not told apart.
        let is_renamed = !alias.columns.is_empty();
        let alias = self.dialect.fold(&alias.name).into_owned();
        if is_renamed {
            self.opaque.insert(alias.clone());
        }
        let all = is_renamed || self.frames.last().copied().unwrap_or(true) || self.names.has_all_of(&alias);
        let is_meant =
            |column: &&Column| all || self.names.has(&alias, &self.dialect.published(&column.name));
        let mut meant: Vec<&Column> = relation.columns.iter().filter(is_meant).collect();
        self.columns.extend(meant.iter().map(|column| TouchedColumn {
            schema: relation.schema.clone(),
            relation: relation.name.clone(),
            column: column.name.clone(),
        }));
        if meant.is_empty() {
            let plain = relation.columns.iter().find(|column| column.expression.is_none());
            meant.extend(plain.or(relation.columns.first()));
        }
        let columns = relation.columns.iter().map(|column| column.name.clone()).collect();
        self.places.push(Place { alias, columns });
        meant
    }

    /// An alias of something else.
    pub fn other(&mut self, alias: &Ident) {
        let alias = self.dialect.fold(alias).into_owned();
        self.opaque.insert(alias);
    }

    /// The columns, sorted, each once, and the places. Where the text is sent to a warehouse, `alias.column` must exist if
    /// the alias can only mean published relations: PostgreSQL takes `alias.name` for a call `name(alias)` if there is no
    /// such column.
    pub fn finish(self) -> Result<(Vec<TouchedColumn>, Vec<Place>), Refusal> {
        if self.dialect.is_remote() {
            self.check_qualified()?;
        }
        Ok((self.columns.into_iter().collect(), self.places))
    }

    fn check_qualified(&self) -> Result<(), Refusal> {
        // By alias, so that a query of many names and relations takes no product of them.
        let mut by_alias: HashMap<&str, Vec<&Place>> = HashMap::new();
        for place in &self.places {
            by_alias.entry(&place.alias).or_default().push(place);
        }
        for (alias, column, span) in self.names.qualified() {
            let Some(places) = by_alias.get(alias) else { continue };
            let has =
                |place: &&Place| place.columns.iter().any(|name| self.dialect.published(name) == column);
            if self.opaque.contains(alias) || places.iter().any(has) {
                continue;
            }
            let known = places.iter().flat_map(|place| &place.columns).map(String::as_str);
            let help = match did_you_mean(column, known) {
                help if help.is_empty() => "see information_schema.columns".to_owned(),
                help => help,
            };
            let message = format!("there is no column `{alias}.{column}`");
            return Err(Refusal::new("unknown-column", message, help).at(span));
        }
        Ok(())
    }
}
