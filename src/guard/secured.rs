//! G3: the secured form of a published relation.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, LimitClause, ObjectName, Query, Select, SelectFlavor, SelectItem, SetExpr, TableAlias,
    TableFactor, TableWithJoins, Value,
};

use super::dialect::{Dialect, quoted};
use super::namespace::{Column, Relation};

/// The catalog under which secured relations find their physical counterpart. No user query can name it:
/// relations of three parts are never published.
pub const PHYSICAL_CATALOG: &str = "physical";

/// `(SELECT columns FROM physical name WHERE row filter LIMIT all) AS alias`. Columns get the names by which
/// unquoted references find them in the dialect; they are of the relation, all of them or some.
pub(super) fn secured(
    relation: &Relation,
    columns: &[&Column],
    dialect: Dialect,
    alias: Option<TableAlias>,
) -> TableFactor {
    let projection = columns
        .iter()
        .map(|column| {
            let name = quoted(dialect.published(&column.name));
            match &column.expression {
                None => SelectItem::UnnamedExpr(Expr::Identifier(name)),
                Some(expr) => SelectItem::ExprWithAlias { expr: Expr::clone(expr), alias: name },
            }
        })
        .collect();
    let physical = match dialect {
        Dialect::DataFusion => [PHYSICAL_CATALOG, &relation.schema, &relation.name].map(quoted).to_vec(),
        _ => relation.source.iter().map(quoted).collect(),
    };
    let physical = ObjectName::from(physical);
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
    TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias, sample: None }
}

/// A limit that cuts nothing, and that no engine moves a condition below: the caller's own conditions are evaluated on
/// permitted rows alone. Without it an engine is free to evaluate `1 / (amount - 100) > 0` on hidden rows first, and its
/// failing would tell that one of them holds 100.
///
/// PostgreSQL neither pulls up a subquery with a LIMIT nor pushes conditions into it (`OFFSET 0` is the same fence by
/// another name; a stronger one takes a view with `security_barrier`). Snowflake documents secure views alone for this:
/// in plain SQL a LIMIT, which no condition may be moved below without changing the result, is what there is.
fn barrier() -> LimitClause {
    let rows = Expr::Value(Value::Number(i64::MAX.to_string(), false).with_empty_span());
    LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: Vec::new() }
}

/// An alias without columns.
pub(super) fn named(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: quoted(name), columns: Vec::new(), at: None }
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
