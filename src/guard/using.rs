//! `WHERE key = …` over `JOIN … USING (key)`: the embedded engine finds such a key in both tables and calls it ambiguous,
//! in WHERE alone (<https://github.com/apache/datafusion/issues/22881>). There it gets the table that it means.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr, TableFactor, VisitMut,
    VisitorMut,
};

use super::dialect::Dialect;
use super::names::constraint;
use super::namespace::identifiers;

const DIALECT: Dialect = Dialect::DataFusion;

/// Qualifies merged keys in the WHERE of a SELECT whose relations have been secured.
pub(super) fn qualify(select: &mut Select) {
    let [from] = select.from.as_slice() else { return };
    let mut left = vec![Side::of(&from.relation)];
    // By the name of the key, folded.
    let mut merged: HashMap<String, Vec<Ident>> = HashMap::new();
    for join in &from.joins {
        let right = Side::of(&join.relation);
        let keys = match constraint(&join.join_operator) {
            Some(JoinConstraint::Using(columns)) => {
                columns.iter().filter_map(identifiers).flatten().cloned().collect()
            }
            Some(JoinConstraint::Natural) => common(&left, &right),
            _ => {
                // What a further table has as well is ambiguous indeed.
                merged.retain(|key, _| !right.columns.iter().flatten().any(|column| column == key));
                Vec::new()
            }
        };
        for key in keys {
            let name = DIALECT.fold(&key).into_owned();
            let table = match &join.join_operator {
                JoinOperator::Join(_) | JoinOperator::Inner(_) => right.alias.clone(),
                JoinOperator::Left(_) | JoinOperator::LeftOuter(_) if merged.contains_key(&name) => continue,
                JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => the_one_with(&name, &left),
                _ => None,
            };
            if let Some(table) = table {
                merged.insert(name, vec![table, key]);
            }
        }
        left.push(right);
    }
    if !merged.is_empty() {
        let walked: ControlFlow<()> =
            VisitMut::visit(&mut select.selection, &mut Qualify { merged, queries: 0 });
        debug_assert!(walked.is_continue());
    }
}

/// One of the tables that are joined.
struct Side {
    alias: Option<Ident>,
    /// Folded; `None` where they are not known.
    columns: Option<Vec<String>>,
}

impl Side {
    fn of(factor: &TableFactor) -> Self {
        match factor {
            TableFactor::Derived { alias: Some(alias), subquery, .. } => {
                let columns = match alias.columns.is_empty() {
                    true => output(subquery),
                    false => Some(
                        alias.columns.iter().map(|column| DIALECT.fold(&column.name).into_owned()).collect(),
                    ),
                };
                Self { alias: Some(alias.name.clone()), columns }
            }
            TableFactor::Table { name, alias, .. } => {
                let own = || identifiers(name).and_then(|parts| parts.last().map(|part| (*part).clone()));
                Self { alias: alias.as_ref().map(|alias| alias.name.clone()).or_else(own), columns: None }
            }
            _ => Self { alias: None, columns: None },
        }
    }
}

/// The columns of a plain SELECT.
fn output(query: &Query) -> Option<Vec<String>> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let name = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::Identifier(name)) | SelectItem::ExprWithAlias { alias: name, .. } => {
            Some(DIALECT.fold(name).into_owned())
        }
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
            parts.last().map(|name| DIALECT.fold(name).into_owned())
        }
        _ => None,
    };
    select.projection.iter().map(name).collect()
}

/// The keys of a NATURAL join; none where a table's columns are not known.
fn common(left: &[Side], right: &Side) -> Vec<Ident> {
    let known: Option<Vec<&Vec<String>>> = left.iter().map(|side| side.columns.as_ref()).collect();
    let (Some(known), Some(columns)) = (known, &right.columns) else { return Vec::new() };
    let is_common = |column: &&String| known.iter().any(|left| left.contains(column));
    columns.iter().filter(is_common).map(|column| Ident::with_quote('"', column)).collect()
}

fn the_one_with(column: &str, left: &[Side]) -> Option<Ident> {
    let may_have = |side: &&Side| {
        side.columns.as_ref().is_none_or(|columns| columns.iter().any(|known| known == column))
    };
    let mut found = left.iter().filter(may_have);
    match (found.next(), found.next()) {
        (Some(side), None) => side.alias.clone(),
        _ => None,
    }
}

struct Qualify {
    merged: HashMap<String, Vec<Ident>>,
    /// Around the expression at hand: what a name means in those is theirs.
    queries: usize,
}

impl VisitorMut for Qualify {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && self.queries == 0
            && let Some(path) = self.merged.get(DIALECT.fold(name).as_ref())
        {
            *expr = Expr::CompoundIdentifier(path.clone());
        }
        ControlFlow::Continue(())
    }
}
