//! G3: the secured form of a published relation.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Cte, Expr, GroupByExpr, LimitClause, ObjectName, Query, Select, SelectFlavor, SelectItem, SetExpr,
    TableAlias, TableFactor, TableWithJoins, Value, Values, WildcardAdditionalOptions,
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
    let selection = relation.row_filter.clone();
    let select = select(projection, table(physical), selection);
    let limit = relation.row_filter.is_some().then(barrier);
    let subquery = Box::new(query(SetExpr::Select(Box::new(select)), limit));
    TableFactor::Derived { lateral: false, subquery, alias, sample: None }
}

/// `WITH RECURSIVE t (a, b) AS (first UNION …)` with the names in its first half, `SELECT * FROM (first) AS t (a, b)`: the
/// embedded engine gives them to the whole alone, so that the second half does not find them
/// (<https://github.com/apache/datafusion/issues/23097>).
pub(super) fn first_named(cte: &mut Cte) {
    let SetExpr::SetOperation { left, .. } = cte.query.body.as_mut() else { return };
    let columns = std::mem::take(&mut cte.alias.columns);
    if columns.is_empty() {
        return;
    }
    let any =
        Box::new(SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows: Vec::new() }));
    let subquery = Box::new(query(*std::mem::replace(left, any), None));
    let alias = TableAlias { explicit: true, name: cte.alias.name.clone(), columns, at: None };
    let first = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
    let all = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
    **left = SetExpr::Select(Box::new(select(all, first, None)));
}

fn select(projection: Vec<SelectItem>, relation: TableFactor, selection: Option<Expr>) -> Select {
    Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from: vec![TableWithJoins { relation, joins: Vec::new() }],
        lateral_views: Vec::new(),
        prewhere: None,
        selection,
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
    }
}

fn query(body: SetExpr, limit_clause: Option<LimitClause>) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// A limit that cuts nothing, and that no engine moves a condition below: the caller's own conditions are evaluated on
/// permitted rows alone. Without it an engine is free to evaluate `1 / (amount - 100) > 0` on hidden rows first, and its
/// failing would tell that one of them holds 100.
///
/// PostgreSQL neither pulls up a subquery with a LIMIT nor pushes conditions into it (`OFFSET 0` is the same fence by
/// another name; a stronger one takes a view with `security_barrier`). Snowflake documents secure views alone for this:
/// in plain SQL a LIMIT, which no condition may be moved below without changing the result, is what there is.
fn barrier() -> LimitClause {
    LimitClause::LimitOffset { limit: Some(all_rows()), offset: None, limit_by: Vec::new() }
}

/// More rows than there are.
pub(super) fn all_rows() -> Expr {
    Expr::Value(Value::Number(i64::MAX.to_string(), false).with_empty_span())
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
