//! G2 and G3: resolves every relation and replaces it by its secured form.
//!
//! Works inside the parser's own traversal, so that no position is forgotten; common table expressions are taken out
//! of the query while its body is walked, because each sees only those before it.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, LimitClause, ObjectName, Query, Select,
    SelectFlavor, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut,
    With,
};

use super::namespace::{Column, Namespace, Relation, identifiers};
use super::{Refusal, constructs};
use crate::semantic::did_you_mean;

/// The catalog under which secured relations find their physical counterpart. No user query can name it:
/// relations of three parts are never published.
pub const PHYSICAL_CATALOG: &str = "physical";

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
    pub calls: Vec<TableCall>,
}

/// Rewrites `query` in place and returns what it reads.
pub(super) fn secure(query: &mut Query, namespace: &Namespace) -> Result<Secured, Refusal> {
    let mut rewrite = Rewrite {
        namespace,
        scopes: Vec::new(),
        withs: Vec::new(),
        touched: BTreeSet::new(),
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
            Ok(Secured { relations: rewrite.touched.into_iter().collect(), calls: rewrite.calls })
        }
    }
}

struct Rewrite<'n> {
    namespace: &'n Namespace,
    /// Names of the common table expressions in scope, innermost last.
    scopes: Vec<HashSet<String>>,
    /// WITH clauses taken out while the body of their query is walked.
    withs: Vec<Option<With>>,
    touched: BTreeSet<(String, String)>,
    calls: Vec<TableCall>,
    /// Relations announced by the traversal and not yet resolved.
    seen: usize,
}

type Step = ControlFlow<Box<Refusal>>;

/// How a CTE's name is compared: as the engine folds it.
fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

impl VisitorMut for Rewrite<'_> {
    type Break = Box<Refusal>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Step {
        let mut with = query.with.take();
        self.scopes.push(HashSet::new());
        if let Some(with) = &mut with {
            for cte in &mut with.cte_tables {
                let name = folded(&cte.alias.name);
                if with.recursive {
                    // The recursive term sees its own name.
                    self.add_to_scope(name.clone());
                }
                VisitMut::visit(&mut cte.query, self)?;
                self.add_to_scope(name);
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
            return ControlFlow::Continue(());
        };
        self.seen = self.seen.saturating_sub(1);
        if let Some(args) = args {
            if identifiers(name).is_some_and(|parts| constructs::is_engine_function(&parts)) {
                return ControlFlow::Continue(());
            }
            return match self.call(name, &args.args) {
                Ok(relation) => {
                    // Without an alias of its own it goes by the function's name.
                    let alias = alias.take().unwrap_or_else(|| named(&relation.schema));
                    *factor = secured(&relation, Some(alias));
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
            && self.scopes.iter().any(|scope| scope.contains(&folded(single)))
        {
            return ControlFlow::Continue(());
        }
        let relation = match self.namespace.resolve(name) {
            Ok(relation) => relation,
            Err(refusal) => return ControlFlow::Break(Box::new(refusal)),
        };
        self.touched.insert((relation.schema.clone(), relation.name.clone()));
        *factor = secured(&relation, alias.take());
        ControlFlow::Continue(())
    }

    /// `schema.relation.column` loses its schema, since the secured relation goes by its own name alone.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> Step {
        if let Expr::CompoundIdentifier(parts) = expr
            && parts.len() >= 3
            && self.namespace.has(&parts[0], &parts[1])
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
            if let SelectItem::QualifiedWildcard(
                datafusion::sql::sqlparser::ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                _,
            ) = item
            {
                self.unqualify(name);
            }
        }
        ControlFlow::Continue(())
    }
}

impl Rewrite<'_> {
    /// Notes a call of a published table function; its result is then a relation like others.
    fn call(&mut self, name: &ObjectName, args: &[FunctionArg]) -> Result<Relation, Refusal> {
        let Some(function) = self.namespace.function(name) else {
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
            columns: columns.collect(),
            row_filter: None,
            missing_scope: None,
        })
    }

    fn add_to_scope(&mut self, name: String) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name);
        }
    }

    fn unqualify(&self, name: &mut ObjectName) {
        let qualified = matches!(
            identifiers(name).as_deref(),
            Some([schema, table]) if self.namespace.has(schema, table)
        );
        if qualified {
            name.0.remove(0);
        }
    }
}

fn literal(argument: &FunctionArg) -> Option<Argument> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) = argument else { return None };
    match &value.value {
        Value::SingleQuotedString(text) => Some(Argument::Text(text.clone())),
        Value::Number(text, _) => text.parse().ok().map(Argument::Integer),
        _ => None,
    }
}

/// `(SELECT permitted columns FROM physical.schema.name WHERE row filter LIMIT all) AS alias`.
fn secured(relation: &Relation, alias: Option<TableAlias>) -> TableFactor {
    let quoted = |name: &str| Ident::with_quote('"', name);
    let projection = relation
        .columns
        .iter()
        .map(|column| match &column.expression {
            None => SelectItem::UnnamedExpr(Expr::Identifier(quoted(&column.name))),
            Some(expr) => SelectItem::ExprWithAlias { expr: expr.clone(), alias: quoted(&column.name) },
        })
        .collect();
    let physical =
        ObjectName::from(vec![quoted(PHYSICAL_CATALOG), quoted(&relation.schema), quoted(&relation.name)]);
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from: vec![TableWithJoins { relation: table(physical), joins: Vec::new() }],
        lateral_views: Vec::new(),
        prewhere: None,
        selection: relation.row_filter.clone(),
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    let subquery = Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: relation.row_filter.is_some().then(barrier),
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    };
    let alias = alias.unwrap_or_else(|| named(&relation.name));
    TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias: Some(alias), sample: None }
}

/// A limit that cuts nothing, and that no engine moves a condition below: the caller's own conditions are evaluated on
/// permitted rows alone. Without it an engine is free to evaluate `1 / (amount - 100) > 0` on hidden rows first, and its
/// failing would tell that one of them holds 100.
fn barrier() -> LimitClause {
    let rows = Expr::Value(Value::Number(i64::MAX.to_string(), false).with_empty_span());
    LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: Vec::new() }
}

fn named(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: Ident::with_quote('"', name), columns: Vec::new(), at: None }
}

fn table(name: ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}
