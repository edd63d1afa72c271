//! Which columns a query names, told from names alone.

use std::collections::{BTreeSet, HashMap, HashSet};

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableAlias,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::Refusal;
use super::dialect::Dialect;
use super::namespace::{Relation, identifiers};
use crate::semantic::did_you_mean;

/// A column of a published relation that a query names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TouchedColumn {
    pub schema: String,
    pub relation: String,
    pub column: String,
}

/// A place where a query reads a published relation.
struct Place {
    schema: String,
    relation: String,
    columns: Vec<String>,
    /// By which the query calls it there, folded.
    alias: String,
    reads_all: bool,
}

/// What one SELECT says of the relations in its own FROM.
#[derive(Default)]
struct Frame {
    reads_all: bool,
    places: Vec<usize>,
}

/// Gathered while a query is walked.
pub(super) struct Touched {
    dialect: Dialect,
    places: Vec<Place>,
    frames: Vec<Frame>,
    /// Names that may mean a column of any relation in reach, folded.
    names: HashSet<String>,
    /// `alias.column`, folded.
    qualified: HashMap<(String, String), Span>,
    /// Aliases of what is no published relation: the columns behind them are not known.
    opaque: HashSet<String>,
    /// Aliases all of whose columns are read: `alias.*`.
    whole: HashSet<String>,
}

impl Touched {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            places: Vec::new(),
            frames: Vec::new(),
            names: HashSet::new(),
            qualified: HashMap::new(),
            opaque: HashSet::new(),
            whole: HashSet::new(),
        }
    }

    fn fold(&self, ident: &Ident) -> String {
        self.dialect.fold(ident).into_owned()
    }

    pub fn enter(&mut self, select: &Select) {
        let mut frame = Frame::default();
        for item in &select.projection {
            match item {
                SelectItem::Wildcard(_) => frame.reads_all = true,
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    self.wildcard(name);
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {
                    frame.reads_all = true;
                }
                _ => {}
            }
        }
        self.frames.push(frame);
        for from in &select.from {
            self.joins(&from.joins);
        }
    }

    pub fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        if frame.reads_all {
            for at in frame.places {
                self.places[at].reads_all = true;
            }
        }
    }

    /// `NATURAL` compares every column of the same name; `USING` names some.
    pub fn joins(&mut self, joins: &[Join]) {
        for join in joins {
            match constraint(&join.join_operator) {
                Some(JoinConstraint::Natural) => self.all_of_select(),
                Some(JoinConstraint::Using(columns)) => {
                    for column in columns.iter().filter_map(identifiers).flatten() {
                        let name = self.fold(column);
                        self.names.insert(name);
                    }
                }
                _ => {}
            }
        }
    }

    /// Every column of every relation in the FROM of the innermost SELECT.
    pub fn all_of_select(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.reads_all = true;
        }
    }

    /// `alias.*`.
    pub fn wildcard(&mut self, name: &ObjectName) {
        if let Some(alias) = identifiers(name).and_then(|parts| parts.last().copied()) {
            let alias = self.fold(alias);
            self.whole.insert(alias);
        }
    }

    /// A published relation, and the name that the query gives it.
    pub fn place(&mut self, relation: &Relation, alias: &TableAlias) {
        let renamed = !alias.columns.is_empty();
        let alias = self.fold(&alias.name);
        if renamed {
            self.opaque.insert(alias.clone());
        }
        let place = Place {
            schema: relation.schema.clone(),
            relation: relation.name.clone(),
            columns: relation.columns.iter().map(|column| column.name.clone()).collect(),
            alias,
            // Columns that got other names are not told apart.
            reads_all: renamed || self.frames.is_empty(),
        };
        if let Some(frame) = self.frames.last_mut() {
            frame.places.push(self.places.len());
        }
        self.places.push(place);
    }

    /// An alias of something else.
    pub fn other(&mut self, alias: &Ident) {
        let alias = self.fold(alias);
        self.opaque.insert(alias);
    }

    pub fn expression(&mut self, expr: &Expr) {
        match expr {
            Expr::Identifier(name) => {
                let name = self.fold(name);
                self.names.insert(name);
            }
            Expr::CompoundIdentifier(parts) => {
                for pair in parts.windows(2) {
                    let key = (self.fold(&pair[0]), self.fold(&pair[1]));
                    self.qualified.entry(key).or_insert_with(|| pair[1].span);
                }
                // The first part may be a column whose fields the others are.
                if let Some(first) = parts.first() {
                    let first = self.fold(first);
                    self.names.insert(first);
                }
            }
            Expr::QualifiedWildcard(name, _) => self.wildcard(name),
            Expr::Wildcard(_) => self.all_of_select(),
            _ => {}
        }
    }

    /// The columns, sorted, each once. Where the text is sent to a warehouse, `alias.column` must exist if the alias
    /// can only mean published relations: PostgreSQL takes `alias.name` for a call `name(alias)` if there is no such
    /// column.
    pub fn finish(self) -> Result<Vec<TouchedColumn>, Refusal> {
        let dialect = self.dialect;
        if dialect.is_remote() {
            self.check_qualified()?;
        }
        let mut columns = BTreeSet::new();
        for place in &self.places {
            // A relation's own name among the expressions is its whole row.
            let all = place.reads_all || self.whole.contains(&place.alias) || self.is_whole_row(place);
            for column in &place.columns {
                let name = dialect.published(column);
                let key = (place.alias.clone(), name.into_owned());
                if all || self.names.contains(&key.1) || self.qualified.contains_key(&key) {
                    columns.insert(TouchedColumn {
                        schema: place.schema.clone(),
                        relation: place.relation.clone(),
                        column: column.clone(),
                    });
                }
            }
        }
        Ok(columns.into_iter().collect())
    }

    fn is_whole_row(&self, place: &Place) -> bool {
        self.names.contains(&place.alias) && !self.qualified.keys().any(|(alias, _)| *alias == place.alias)
    }

    fn check_qualified(&self) -> Result<(), Refusal> {
        // By alias, so that a query of many names and relations takes no product of them.
        let mut by_alias: HashMap<&str, Vec<&Place>> = HashMap::new();
        for place in &self.places {
            by_alias.entry(&place.alias).or_default().push(place);
        }
        for ((alias, column), span) in &self.qualified {
            let Some(places) = by_alias.get(alias.as_str()) else { continue };
            let has =
                |place: &&Place| place.columns.iter().any(|name| self.dialect.published(name) == *column);
            if self.opaque.contains(alias) || places.iter().any(has) {
                continue;
            }
            let known = places.iter().flat_map(|place| &place.columns).map(String::as_str);
            let help = match did_you_mean(column, known) {
                help if help.is_empty() => "see information_schema.columns".to_owned(),
                help => help,
            };
            let message = format!("there is no column `{alias}.{column}`");
            return Err(Refusal::new("unknown-column", message, help).at(*span));
        }
        Ok(())
    }
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
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
