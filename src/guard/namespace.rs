//! The published relations that one caller may see.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart};

use super::Refusal;
use crate::semantic::did_you_mean;

/// A column as it is given out: the expression over the physical relation, already masked where it has to be.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// `None`: the physical column of the same name, as it is.
    pub expression: Option<Expr>,
}

/// One published relation in its secured form.
#[derive(Debug, Clone)]
pub struct Relation {
    pub schema: String,
    pub name: String,
    /// Permitted columns, in order; at least one, or the relation can't be selected from.
    pub columns: Vec<Column>,
    /// Rows that the caller may see.
    pub row_filter: Option<Expr>,
    /// The scope without which it may be known but not read; `None` when it may be read.
    pub missing_scope: Option<String>,
}

/// Everything that a query may name. What isn't in it does not exist.
#[derive(Debug, Clone, Default)]
pub struct Namespace {
    relations: BTreeMap<(String, String), Relation>,
}

impl Namespace {
    pub fn insert(&mut self, relation: Relation) {
        self.relations.insert((relation.schema.clone(), relation.name.clone()), relation);
    }

    pub fn get(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.relations.get(&(schema.to_owned(), name.to_owned()))
    }

    /// Sorted by schema and name.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    /// Finds what `name` means: `schema.name`, or `name` alone where it is unique.
    pub(super) fn resolve(&self, name: &ObjectName) -> Result<&Relation, Refusal> {
        let Some(parts) = identifiers(name) else {
            return Err(Refusal::new(
                "unknown-relation",
                format!("`{name}` is not a plain name"),
                "name a published relation",
            ));
        };
        let found: Vec<&Relation> = match parts.as_slice() {
            [table] => self.relations().filter(|relation| same(&relation.name, table)).collect(),
            [schema, table] => self
                .relations()
                .filter(|relation| same(&relation.schema, schema) && same(&relation.name, table))
                .collect(),
            _ => Vec::new(),
        };
        let span = parts[0].span;
        match found.as_slice() {
            [relation] => match &relation.missing_scope {
                None => Ok(relation),
                Some(scope) => {
                    let message =
                        format!("reading {}.{} needs the scope {scope}", relation.schema, relation.name);
                    let mut refusal =
                        Refusal::new("missing-scope", message, "ask for a token with that scope").at(span);
                    refusal.missing_scope = Some(scope.clone());
                    Err(refusal)
                }
            },
            [] => Err(self.unknown(name, &parts).at(span)),
            several => {
                let names: Vec<String> =
                    several.iter().map(|relation| format!("{}.{}", relation.schema, relation.name)).collect();
                let message = format!("`{name}` could be any of {}", names.join(", "));
                Err(Refusal::new("ambiguous-relation", message, "write schema.name").at(span))
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

/// SQL's rule: quoted names are exact, others fold to lower case, as the engine folds them.
pub(super) fn same(name: &str, ident: &Ident) -> bool {
    match ident.quote_style {
        Some(_) => name == ident.value,
        None => name == ident.value.to_lowercase(),
    }
}
