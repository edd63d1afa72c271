//! The published relations that one caller may see.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart};

use super::Refusal;
use super::dialect::Dialect;
use crate::semantic::did_you_mean;

/// A column as it is given out: the expression over the physical relation, already masked where it has to be.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// Written as it is, with the warehouse's rules for names. `None`: the physical column that the unquoted name means,
    /// or the name itself where it is not a plain lower-case one.
    pub expression: Option<Arc<Expr>>,
}

/// One published relation in its secured form.
#[derive(Debug, Clone)]
pub struct Relation {
    pub schema: String,
    pub name: String,
    /// The parts of the physical name, as the warehouse has them: they are written quoted. For remote dialects alone;
    /// without it the relation cannot be read in one.
    pub source: Vec<String>,
    /// Permitted columns, in order; at least one, or the relation can't be selected from.
    pub columns: Vec<Column>,
    /// Rows that the caller may see.
    pub row_filter: Option<Expr>,
    /// The scope without which it may be known but not read; `None` when it may be read.
    pub missing_scope: Option<String>,
}

/// Relations that many callers share, made once and judged for a caller when they are named. There may be very many:
/// what they hold is what messages need, and the judge adds the rest to those that a query names.
#[derive(Debug, Default)]
pub struct SharedRelations {
    relations: Vec<Relation>,
    /// By the name in lower case.
    by_name: HashMap<String, Vec<usize>>,
}

impl SharedRelations {
    pub fn new(relations: Vec<Relation>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, relation) in relations.iter().enumerate() {
            by_name.entry(relation.name.to_lowercase()).or_default().push(at);
        }
        Self { relations, by_name }
    }

    fn named(&self, table: &Ident, dialect: Dialect) -> impl Iterator<Item = (usize, &Relation)> {
        let found = self.by_name.get(&table.value.to_lowercase()).map_or(&[][..], Vec::as_slice);
        let relations = found.iter().map(|at| (*at, &self.relations[*at]));
        relations.filter(move |(_, relation)| dialect.is(&relation.name, table))
    }
}

/// What a caller may do with a shared relation.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It does not exist for the caller.
    Absent,
    /// It may be known, and read with this scope.
    Needs(String),
    Open {
        /// Rows that the caller may see.
        row_filter: Option<Box<Expr>>,
        /// Columns, by position, that are otherwise than the shared relation has them: computed, or masked. Where a
        /// position comes twice the last one counts.
        columns: Vec<(usize, Arc<Expr>)>,
    },
}

/// Judges shared relations for one caller; `position` is the relation's place among them.
pub trait Judge: Send + Sync {
    fn may_know(&self, position: usize, relation: &Relation) -> bool;
    fn judge(&self, position: usize, relation: &Relation) -> Verdict;
}

/// A function that stands in FROM and is answered by the service itself.
#[derive(Debug, Clone)]
pub struct TableFunction {
    pub name: String,
    /// Of its result.
    pub columns: Vec<String>,
}

/// Everything that a query may name. What isn't in it does not exist.
#[derive(Clone, Default)]
pub struct Namespace {
    relations: BTreeMap<(String, String), Relation>,
    shared: Option<(Arc<SharedRelations>, Arc<dyn Judge>)>,
    functions: Vec<TableFunction>,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Namespace").field("own", &self.relations.len()).finish_non_exhaustive()
    }
}

impl Namespace {
    /// Shared relations as this caller may see them, besides those that are inserted.
    pub fn over(shared: Arc<SharedRelations>, judge: Arc<dyn Judge>) -> Self {
        Self { shared: Some((shared, judge)), ..Self::default() }
    }

    pub fn insert(&mut self, relation: Relation) {
        self.relations.insert((relation.schema.clone(), relation.name.clone()), relation);
    }

    pub fn insert_function(&mut self, function: TableFunction) {
        self.functions.push(function);
    }

    /// Those inserted, sorted by schema and name, then the shared ones that the caller may know of, in their order.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        let shared = self.shared.iter().flat_map(|(shared, judge)| {
            let may_know = |(at, relation): &(usize, &Relation)| judge.may_know(*at, relation);
            shared.relations.iter().enumerate().filter(may_know).map(|(_, relation)| relation)
        });
        self.relations.values().chain(shared)
    }

    /// Whether `schema.table` is a relation here.
    pub(super) fn has(&self, schema: &Ident, table: &Ident, dialect: Dialect) -> bool {
        self.candidates(table, dialect).any(|(_, relation)| dialect.is(&relation.schema, schema))
    }

    pub(super) fn function(&self, name: &ObjectName, dialect: Dialect) -> Option<&TableFunction> {
        match identifiers(name)?.as_slice() {
            [one] => self.functions.iter().find(|function| dialect.is(&function.name, one)),
            _ => None,
        }
    }

    /// Names of the functions, for messages.
    pub(super) fn function_names(&self) -> impl Iterator<Item = &str> {
        self.functions.iter().map(|function| function.name.as_str())
    }

    /// Relations of this name that the caller may know of; shared ones with their position.
    fn candidates(
        &self,
        table: &Ident,
        dialect: Dialect,
    ) -> impl Iterator<Item = (Option<usize>, &Relation)> {
        let own = self.relations.values().filter(move |relation| dialect.is(&relation.name, table));
        let shared = self.shared.iter().flat_map(move |(shared, judge)| {
            shared.named(table, dialect).filter(|(at, relation)| judge.may_know(*at, relation))
        });
        own.map(|relation| (None, relation)).chain(shared.map(|(at, relation)| (Some(at), relation)))
    }

    /// Finds what `name` means: `schema.name`, or `name` alone where it is unique.
    pub(super) fn resolve(&self, name: &ObjectName, dialect: Dialect) -> Result<Cow<'_, Relation>, Refusal> {
        let Some(parts) = identifiers(name) else {
            return Err(Refusal::new(
                "unknown-relation",
                format!("`{name}` is not a plain name"),
                "name a published relation",
            ));
        };
        let found: Vec<(Option<usize>, &Relation)> = match parts.as_slice() {
            [table] => self.candidates(table, dialect).collect(),
            [schema, table] => self
                .candidates(table, dialect)
                .filter(|(_, relation)| dialect.is(&relation.schema, schema))
                .collect(),
            _ => Vec::new(),
        };
        let span = parts[0].span;
        match found.as_slice() {
            [(position, relation)] => self.judged(*position, relation).map_err(|refusal| refusal.at(span)),
            [] => Err(self.unknown(name, &parts).at(span)),
            several => {
                let names: Vec<String> = several
                    .iter()
                    .map(|(_, relation)| format!("{}.{}", relation.schema, relation.name))
                    .collect();
                let message = format!("`{name}` could be any of {}", names.join(", "));
                Err(Refusal::new("ambiguous-relation", message, "write schema.name").at(span))
            }
        }
    }

    /// The relation as the caller may read it.
    fn judged<'n>(
        &'n self,
        position: Option<usize>,
        relation: &'n Relation,
    ) -> Result<Cow<'n, Relation>, Refusal> {
        let missing = |scope: &str| {
            let message = format!("reading {}.{} needs the scope {scope}", relation.schema, relation.name);
            let mut refusal = Refusal::new("missing-scope", message, "ask for a token with that scope");
            refusal.missing_scope = Some(scope.to_owned());
            refusal
        };
        if let Some(scope) = &relation.missing_scope {
            return Err(missing(scope));
        }
        let (Some(position), Some((_, judge))) = (position, &self.shared) else {
            return Ok(Cow::Borrowed(relation));
        };
        match judge.judge(position, relation) {
            Verdict::Absent => Err(Refusal::new(
                "unknown-relation",
                format!("there is no relation `{}.{}`", relation.schema, relation.name),
                "see information_schema.tables",
            )),
            Verdict::Needs(scope) => Err(missing(&scope)),
            Verdict::Open { row_filter: None, columns } if columns.is_empty() => Ok(Cow::Borrowed(relation)),
            Verdict::Open { row_filter, columns } => {
                let mut secured = relation.clone();
                secured.row_filter = row_filter.map(|filter| *filter);
                for (at, expression) in columns {
                    secured.columns[at].expression = Some(expression);
                }
                Ok(Cow::Owned(secured))
            }
        }
    }

    fn unknown(&self, name: &ObjectName, parts: &[&Ident]) -> Refusal {
        let full: Vec<String> =
            self.relations().map(|relation| format!("{}.{}", relation.schema, relation.name)).collect();
        let wanted = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
        let mut help = did_you_mean(&wanted, full.iter().map(String::as_str));
        if help.is_empty()
            && let Some(table) = parts.last()
        {
            let near = did_you_mean(&table.value, self.relations().map(|relation| relation.name.as_str()));
            help = near;
        }
        if help.is_empty() {
            help = match full.len() {
                0 => "nothing is published to you".to_owned(),
                count if count <= 20 => format!("published to you: {}", full.join(", ")),
                _ => "see information_schema.tables".to_owned(),
            };
        }
        Refusal::new("unknown-relation", format!("there is no relation `{name}`"), help)
    }
}

/// The identifiers of a plain dotted name.
pub(super) fn identifiers(name: &ObjectName) -> Option<Vec<&Ident>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(ident),
            ObjectNamePart::Function(_) => None,
        })
        .collect()
}
