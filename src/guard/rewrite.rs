//! G2 and G3: resolves every relation and replaces it by its secured form.
//!
//! Works inside the parser's own traversal, so that no position is forgotten; common table expressions are taken out
//! of the query while its body is walked, because each sees only those before it.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, ObjectName, Query, Select, SelectFlavor, SelectItem, SetExpr, TableAlias,
    TableFactor, TableWithJoins, VisitMut, VisitorMut, With,
};

use super::Refusal;
use super::namespace::{Namespace, Relation, identifiers, same};

/// The catalog under which secured relations find their physical counterpart. No user query can name it:
/// relations of three parts are never published.
pub const PHYSICAL_CATALOG: &str = "physical";

/// Rewrites `query` in place and returns the relations that it reads.
pub(super) fn secure(query: &mut Query, namespace: &Namespace) -> Result<Vec<(String, String)>, Refusal> {
    let mut rewrite =
        Rewrite { namespace, scopes: Vec::new(), withs: Vec::new(), touched: BTreeSet::new(), seen: 0 };
    match VisitMut::visit(query, &mut rewrite) {
        ControlFlow::Break(refusal) => Err(*refusal),
        // Every name that the parser takes for a relation must have come by as a table factor.
        ControlFlow::Continue(()) if rewrite.seen != 0 => Err(Refusal::new(
            "construct",
            "a relation stands in a position that is not supported",
            "write it in plain SQL",
        )),
        ControlFlow::Continue(()) => Ok(rewrite.touched.into_iter().collect()),
    }
}

struct Rewrite<'n> {
    namespace: &'n Namespace,
    /// Names of the common table expressions in scope, innermost last.
    scopes: Vec<HashSet<String>>,
    /// WITH clauses taken out while the body of their query is walked.
    withs: Vec<Option<With>>,
    touched: BTreeSet<(String, String)>,
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
        if args.is_some() {
            return ControlFlow::Continue(());
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
        *factor = secured(relation, alias.take());
        ControlFlow::Continue(())
    }

    /// `schema.relation.column` loses its schema, since the secured relation goes by its own name alone.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> Step {
        if let Expr::CompoundIdentifier(parts) = expr
            && parts.len() >= 3
            && self
                .namespace
                .relations()
                .any(|relation| same(&relation.schema, &parts[0]) && same(&relation.name, &parts[1]))
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
    fn add_to_scope(&mut self, name: String) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name);
        }
    }

    fn unqualify(&self, name: &mut ObjectName) {
        let qualified = matches!(
            identifiers(name).as_deref(),
            Some([schema, table])
                if self.namespace.relations().any(|relation| same(&relation.schema, schema) && same(&relation.name, table))
        );
        if qualified {
            name.0.remove(0);
        }
    }
}

/// `(SELECT permitted columns FROM physical.schema.name WHERE row filter) AS alias`.
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
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    };
    let alias = alias.unwrap_or_else(|| TableAlias {
        explicit: true,
        name: quoted(&relation.name),
        columns: Vec::new(),
        at: None,
    });
    TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias: Some(alias), sample: None }
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
