//! G2 and G3: resolves every relation and replaces it by its secured form.
//!
//! Works inside the parser's own traversal, so that no position is forgotten; common table expressions are taken out
//! of the query while its body is walked, because each sees only those before it.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Cte, Expr, FunctionArg, FunctionArgExpr, Ident, LimitClause, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, TableFactor, Value, VisitMut, VisitorMut, With,
};

use super::dialect::{Dialect, quoted};
use super::names::Names;
use super::namespace::{Column, Namespace, Relation, identifiers};
use super::secured::{all_rows, first_named, named, secured};
use super::touched::{Place, Touched, TouchedColumn};
use super::{Refusal, calls, using};
use crate::semantic::did_you_mean;

/// Calls of table functions in one query.
const MAX_CALLS: usize = 8;

/// A call of a table function that the service answers; its result is read as `relation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCall {
    pub function: String,
    pub arguments: Vec<Argument>,
    /// Schema and name under which the secured query finds the result.
    pub relation: (String, String),
}

/// A literal argument of a table function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    Text(String),
    Integer(i64),
}

/// What a secured query reads.
pub(super) struct Secured {
    pub relations: Vec<(String, String)>,
    pub columns: Vec<TouchedColumn>,
    pub places: Vec<Place>,
    pub calls: Vec<TableCall>,
}

/// Rewrites `query`, which uses `names`, in place and returns what it reads.
pub(super) fn secure(
    query: &mut Query,
    names: Names,
    namespace: &Namespace,
    dialect: Dialect,
) -> Result<Secured, Refusal> {
    let mut rewrite = Rewrite {
        namespace,
        dialect,
        scopes: Vec::new(),
        withs: Vec::new(),
        bare: 0,
        relations: BTreeSet::new(),
        touched: Touched::new(names, dialect),
        calls: Vec::new(),
        seen: 0,
    };
    match VisitMut::visit(query, &mut rewrite) {
        ControlFlow::Break(refusal) => Err(*refusal),
        // Every name that the parser takes for a relation must have come by as a table factor.
        ControlFlow::Continue(()) if rewrite.seen != 0 => Err(Refusal::new(
            "construct",
            "a relation stands in a position that is not supported",
            "write it in plain SQL",
        )),
        ControlFlow::Continue(()) => {
            let (columns, places) = rewrite.touched.finish()?;
            let relations = rewrite.relations.into_iter().collect();
            Ok(Secured { relations, columns, places, calls: rewrite.calls })
        }
    }
}

struct Rewrite<'n> {
    namespace: &'n Namespace,
    dialect: Dialect,
    /// Names of the common table expressions in scope, innermost last.
    scopes: Vec<HashSet<String>>,
    /// WITH clauses taken out while the body of their query is walked.
    withs: Vec<Option<With>>,
    /// Relations ahead that get no alias: in `FROM x PIVOT (…)` there is no place for one.
    bare: usize,
    relations: BTreeSet<(String, String)>,
    touched: Touched,
    calls: Vec<TableCall>,
    /// Relations announced by the traversal and not yet resolved.
    seen: usize,
}

type Step = ControlFlow<Box<Refusal>>;

impl VisitorMut for Rewrite<'_> {
    type Break = Box<Refusal>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Step {
        if self.dialect == Dialect::DataFusion
            && let Some(LimitClause::LimitOffset { limit: limit @ None, offset: Some(_), .. }) =
                &mut query.limit_clause
        {
            // Where an order has an OFFSET and no LIMIT the engine may forget the order:
            // <https://github.com/apache/datafusion/issues/23534>.
            *limit = Some(all_rows());
        }
        let mut with = query.with.take();
        self.scopes.push(HashSet::new());
        if let Some(with) = &mut with {
            for cte in &mut with.cte_tables {
                // Snowflake needs no RECURSIVE.
                match with.recursive || self.dialect == Dialect::Snowflake {
                    true => self.recursive(cte)?,
                    false => VisitMut::visit(&mut cte.query, self)?,
                }
                self.add_to_scope(&cte.alias.name);
                if with.recursive && self.dialect == Dialect::DataFusion {
                    first_named(cte);
                }
                if self.dialect.is_remote() {
                    cte.alias.name = quoted(cte_name(&self.dialect.fold(&cte.alias.name)));
                }
            }
        }
        self.withs.push(with);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> Step {
        query.with = self.withs.pop().flatten();
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, _: &mut ObjectName) -> Step {
        self.seen += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> Step {
        let TableFactor::Table { name, alias, args, with_ordinality, .. } = factor else {
            self.note_alias(factor);
            return ControlFlow::Continue(());
        };
        self.seen = self.seen.saturating_sub(1);
        let bare = std::mem::take(&mut self.bare) > 0;
        if let Some(args) = args {
            if identifiers(name).is_some_and(|parts| calls::is_engine_function(&parts, self.dialect)) {
                self.note_alias(factor);
                return ControlFlow::Continue(());
            }
            return match self.call(name, &args.args) {
                Ok(relation) => {
                    // Without an alias of its own it goes by the function's name.
                    let alias = alias.take().unwrap_or_else(|| named(&relation.schema));
                    self.touched.other(&alias.name);
                    let columns: Vec<&Column> = relation.columns.iter().collect();
                    *factor = secured(&relation, &columns, self.dialect, Some(alias));
                    ControlFlow::Continue(())
                }
                Err(refusal) => ControlFlow::Break(Box::new(refusal)),
            };
        }
        if *with_ordinality {
            let refusal = Refusal::new("construct", "WITH ORDINALITY is not supported", "use ROW_NUMBER()");
            return ControlFlow::Break(Box::new(refusal));
        }
        if let Some([single]) = identifiers(name).as_deref()
            && self.scopes.iter().any(|scope| scope.contains(self.dialect.fold(single).as_ref()))
        {
            self.touched.other(alias.as_ref().map_or(single, |alias| &alias.name));
            if self.dialect.is_remote() {
                let folded = self.dialect.fold(single).into_owned();
                if alias.is_none() && !bare {
                    *alias = Some(named(&folded));
                }
                *name = ObjectName::from(vec![quoted(cte_name(&folded))]);
            }
            return ControlFlow::Continue(());
        }
        let relation = match self.namespace.resolve(name, self.dialect) {
            Ok(relation) => relation,
            Err(refusal) => return ControlFlow::Break(Box::new(refusal)),
        };
        if self.dialect.is_remote() && relation.source.is_empty() {
            let message = format!(
                "{}.{} is not in the warehouse that would run this query",
                relation.schema, relation.name
            );
            let refusal = Refusal::new("other-warehouse", message, "query it by itself");
            return ControlFlow::Break(Box::new(refusal));
        }
        self.relations.insert((relation.schema.clone(), relation.name.clone()));
        // Without an alias of its own it goes by the name that the query uses.
        let table =
            identifiers(name).and_then(|parts| parts.last().map(|part| self.dialect.fold(part).into_owned()));
        let alias = alias.take().unwrap_or_else(|| named(table.as_deref().unwrap_or(&relation.name)));
        let columns = self.touched.place(&relation, &alias);
        *factor = secured(&relation, &columns, self.dialect, (!bare).then_some(alias));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Step {
        match factor {
            TableFactor::Pivot { table, .. } | TableFactor::Unpivot { table, .. } => {
                // What is neither pivoted nor named still makes the groups.
                self.touched.all_of_select();
                if matches!(table.as_ref(), TableFactor::Table { alias: None, .. }) {
                    self.bare = 1;
                }
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.touched.joins(&table_with_joins.joins);
                if alias.is_some() {
                    // Their columns go by that name alone.
                    self.touched.all_of_select();
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// `schema.relation.column` loses its schema, since the secured relation goes by its own name alone.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> Step {
        if let Expr::CompoundIdentifier(parts) = expr
            && parts.len() >= 3
            && self.namespace.has(&parts[0], &parts[1], self.dialect)
        {
            parts.remove(0);
        }
        if let Expr::QualifiedWildcard(name, _) = expr {
            self.unqualify(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Step {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
            {
                self.unqualify(name);
            }
        }
        self.touched.enter(select);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> Step {
        self.touched.leave();
        if self.dialect == Dialect::DataFusion {
            using::qualify(select);
        }
        ControlFlow::Continue(())
    }
}

impl Rewrite<'_> {
    /// A CTE that may name itself, which it may only in the second half of a UNION: in the first the name still means
    /// what it meant before, to the engines as well.
    fn recursive(&mut self, cte: &mut Cte) -> Step {
        let query = cte.query.as_mut();
        if !matches!(query.body.as_ref(), SetExpr::SetOperation { op: SetOperator::Union, .. }) {
            return VisitMut::visit(query, self);
        }
        self.pre_visit_query(query)?;
        if let SetExpr::SetOperation { left, right, .. } = query.body.as_mut() {
            VisitMut::visit(left, self)?;
            self.add_to_scope(&cte.alias.name);
            VisitMut::visit(right, self)?;
        }
        // What is left of a query that passed the constructs.
        VisitMut::visit(&mut query.order_by, self)?;
        VisitMut::visit(&mut query.limit_clause, self)?;
        VisitMut::visit(&mut query.fetch, self)?;
        self.post_visit_query(query)
    }

    /// Remembers what goes by a name without being a published relation.
    fn note_alias(&mut self, factor: &TableFactor) {
        let (TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. }
        | TableFactor::Pivot { alias: Some(alias), .. }
        | TableFactor::Unpivot { alias: Some(alias), .. }) = factor
        else {
            return;
        };
        self.touched.other(&alias.name);
    }

    /// Notes a call of a published table function; its result is then a relation like others.
    fn call(&mut self, name: &ObjectName, args: &[FunctionArg]) -> Result<Relation, Refusal> {
        let known = self.namespace.function(name, self.dialect);
        let Some(function) = known.filter(|_| !self.dialect.is_remote()) else {
            let mut help = did_you_mean(&name.to_string(), self.namespace.function_names());
            if help.is_empty() {
                help = "query a published relation".to_owned();
            }
            let message = format!("the table function {name} is not allowed");
            return Err(Refusal::new("table-function", message, help));
        };
        let arguments = args.iter().map(literal).collect::<Option<Vec<Argument>>>().ok_or_else(|| {
            let message = format!("{} is called with more than literals", function.name);
            Refusal::new("table-function", message, "write texts and whole numbers as its arguments")
        })?;
        if self.calls.len() == MAX_CALLS {
            let message = format!("more than {MAX_CALLS} calls of table functions");
            return Err(Refusal::new("table-function", message, "call it once, in a WITH, and use that"));
        }
        let relation = format!("call_{}", self.calls.len() + 1);
        self.calls.push(TableCall {
            function: function.name.clone(),
            arguments,
            relation: (function.name.clone(), relation.clone()),
        });
        let columns = function.columns.iter().map(|name| Column { name: name.clone(), expression: None });
        Ok(Relation {
            schema: function.name.clone(),
            name: relation,
            source: Vec::new(),
            columns: columns.collect(),
            row_filter: None,
            missing_scope: None,
        })
    }

    fn add_to_scope(&mut self, name: &Ident) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(self.dialect.fold(name).into_owned());
        }
    }

    fn unqualify(&self, name: &mut ObjectName) {
        let qualified = matches!(
            identifiers(name).as_deref(),
            Some([schema, table]) if self.namespace.has(schema, table, self.dialect)
        );
        if qualified {
            name.0.remove(0);
        }
    }
}

/// The name under which a CTE is sent to a warehouse: one that no table there has. So a warehouse that sees scopes
/// otherwise than the guard does finds nothing, and no table that goes by the CTE's name.
fn cte_name(folded: &str) -> String {
    format!("cte:{folded}")
}

fn literal(argument: &FunctionArg) -> Option<Argument> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) = argument else { return None };
    match &value.value {
        Value::SingleQuotedString(text) => Some(Argument::Text(text.clone())),
        Value::Number(text, _) => text.parse().ok().map(Argument::Integer),
        _ => None,
    }
}
