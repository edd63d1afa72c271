//! G1, G4 and G8: only constructs on these lists pass; a construct that is new to the parser is refused until it is
//! listed.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, OrderByKind, Query, Select,
    SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Spanned,
    TableAlias, TableFactor, TableWithJoins, Value, ValueWithSpan, Visit, Visitor,
};

use super::calls::{is_engine_function, last};
use super::dialect::Dialect;
use super::names::Names;
use super::namespace::identifiers;
use super::{Refusal, calls, is_query_body, operators, sizes, types};

/// Walks the whole query and refuses the first construct that is not understood. Returns the names that it met.
pub(super) fn check(query: &Query, dialect: Dialect) -> Result<Names, Refusal> {
    let mut constructs = Constructs { dialect, depth: 0, names: Names::new(dialect) };
    match query.visit(&mut constructs) {
        ControlFlow::Continue(()) => Ok(constructs.names),
        ControlFlow::Break(refusal) => Err(*refusal),
    }
}

struct Constructs {
    dialect: Dialect,
    /// Expressions around the one at hand.
    depth: usize,
    names: Names,
}

/// Depth of expressions and of set operations in a query that is sent as text: the printer recurses.
const MAX_TEXT_DEPTH: usize = 500;

pub(super) type Step = ControlFlow<Box<Refusal>>;

pub(super) fn refuse(rule: &'static str, message: impl Into<String>, help: impl Into<String>) -> Step {
    ControlFlow::Break(Box::new(Refusal::new(rule, message, help)))
}

pub(super) fn unless(fine: bool, what: &str) -> Step {
    if fine {
        ControlFlow::Continue(())
    } else {
        refuse("construct", format!("{what} is not supported"), "write it in plain SQL")
    }
}

impl Visitor for Constructs {
    type Break = Box<Refusal>;

    fn pre_visit_query(&mut self, query: &Query) -> Step {
        if !query.locks.is_empty() {
            return refuse("query-only", "FOR UPDATE and FOR SHARE lock rows", "drop the locking clause");
        }
        unless(query.for_clause.is_none(), "FOR XML/JSON/BROWSE")?;
        unless(query.settings.is_none(), "SETTINGS")?;
        unless(query.format_clause.is_none(), "FORMAT")?;
        unless(query.pipe_operators.is_empty(), "the pipe operator")?;
        if let Some(order) = &query.order_by {
            unless(order.interpolate.is_none(), "INTERPOLATE")?;
            if let OrderByKind::Expressions(list) = &order.kind {
                unless(list.iter().all(|item| item.with_fill.is_none()), "WITH FILL")?;
            }
        }
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                unless(cte.from.is_none(), "FROM in a CTE")?;
                self.alias(&cte.alias)?;
            }
        }
        self.body(&query.body, 0)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Step {
        if select.into.is_some() {
            return refuse("query-only", "SELECT … INTO writes a table", "drop INTO");
        }
        unless(select.optimizer_hints.is_empty(), "an optimizer hint")?;
        unless(select.select_modifiers.is_none(), "a SELECT modifier")?;
        unless(select.top.is_none(), "TOP")?;
        unless(select.exclude.is_none(), "EXCLUDE behind the columns")?;
        unless(select.lateral_views.is_empty(), "LATERAL VIEW")?;
        unless(select.prewhere.is_none(), "PREWHERE")?;
        unless(select.connect_by.is_empty(), "CONNECT BY")?;
        unless(
            select.cluster_by.is_empty() && select.distribute_by.is_empty() && select.sort_by.is_empty(),
            "CLUSTER/DISTRIBUTE/SORT BY",
        )?;
        unless(select.value_table_mode.is_none(), "SELECT AS STRUCT/VALUE")?;
        unless(matches!(select.flavor, SelectFlavor::Standard), "a query that starts with FROM")?;
        unless(select.qualify.is_none() || self.dialect != Dialect::PostgreSql, "QUALIFY")?;
        for item in &select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
            {
                self.names.wildcard(name);
            }
        }
        select.from.iter().try_for_each(|from| self.joins(from))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Step {
        match factor {
            TableFactor::Table { .. } => self.table(factor),
            TableFactor::Derived { sample, alias, .. } => {
                unless(sample.is_none(), "TABLESAMPLE")?;
                self.optional_alias(alias)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.joins(table_with_joins)?;
                self.optional_alias(alias)
            }
            TableFactor::UNNEST { alias, .. } => {
                unless(self.dialect != Dialect::Snowflake, "UNNEST")?;
                self.optional_alias(alias)
            }
            TableFactor::Function { name, args, alias, .. } => {
                self.function_in_from(name)?;
                sizes::table(&last(name), args)?;
                self.optional_alias(alias)
            }
            TableFactor::TableFunction { expr: Expr::Function(function), alias }
                if self.dialect == Dialect::Snowflake =>
            {
                self.function_in_from(&function.name)?;
                self.optional_alias(alias)
            }
            TableFactor::Pivot { alias, .. } | TableFactor::Unpivot { alias, .. }
                if self.dialect == Dialect::Snowflake =>
            {
                self.optional_alias(alias)
            }
            other => {
                let shown: String = other.to_string().chars().take(60).collect();
                refuse(
                    "construct",
                    format!("`{shown}` is not supported in FROM"),
                    "query a published relation",
                )
            }
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Step {
        self.depth += 1;
        if self.dialect.is_remote() && self.depth > MAX_TEXT_DEPTH {
            return self.too_deep();
        }
        self.names.expression(expr);
        self.expression(expr)
    }

    fn post_visit_expr(&mut self, _: &Expr) -> Step {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> Step {
        match &value.value {
            Value::Placeholder(name) => refuse(
                "construct",
                format!("the placeholder {name} has no value"),
                "write the value into the query",
            ),
            Value::Number(_, false)
            | Value::SingleQuotedString(_)
            | Value::HexStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null => ControlFlow::Continue(()),
            _ => unless(!self.dialect.is_remote(), "a literal of that kind"),
        }
    }
}

impl Constructs {
    fn too_deep(&self) -> Step {
        let message = format!("operators or set operations nest more than {MAX_TEXT_DEPTH} deep");
        refuse("too-deep", message, "use IN (…) for long lists, or join them from a table")
    }

    fn body(&self, expr: &SetExpr, depth: usize) -> Step {
        if self.dialect.is_remote() && depth > MAX_TEXT_DEPTH {
            return self.too_deep();
        }
        match expr {
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                let keeps = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
                if keeps && *op != SetOperator::Union && self.dialect == Dialect::DataFusion {
                    // <https://github.com/apache/datafusion/issues/12955>, 12956.
                    return refuse(
                        "construct",
                        format!("{op} ALL does not count rows that come several times"),
                        "leave out ALL, or tell equal rows apart with row_number()",
                    );
                }
                self.body(left, depth + 1)?;
                self.body(right, depth + 1)
            }
            other if is_query_body(other) => ControlFlow::Continue(()),
            SetExpr::Table(_) => {
                refuse("construct", "TABLE name is not supported", "write SELECT * FROM name")
            }
            _ => refuse("query-only", "a statement that writes stands inside the query", "send one SELECT"),
        }
    }

    fn table(&self, factor: &TableFactor) -> Step {
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            partitions,
            json_path,
            sample,
            index_hints,
            ..
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        unless(with_hints.is_empty() && index_hints.is_empty(), "a table hint")?;
        unless(version.is_none(), "time travel")?;
        unless(partitions.is_empty(), "PARTITION")?;
        unless(json_path.is_none(), "a JSON path on a table")?;
        unless(sample.is_none(), "TABLESAMPLE")?;
        self.optional_alias(alias)?;
        let Some(args) = args else { return ControlFlow::Continue(()) };
        unless(args.settings.is_none(), "SETTINGS")?;
        match identifiers(name) {
            Some(parts) if is_engine_function(&parts, self.dialect) => sizes::table(&last(name), &args.args),
            // Published functions or refused, when relations are resolved.
            _ => ControlFlow::Continue(()),
        }
    }

    /// A function that stands in FROM without being a call like others there.
    fn function_in_from(&self, name: &ObjectName) -> Step {
        let fine = self.dialect.is_remote()
            && identifiers(name).is_some_and(|parts| is_engine_function(&parts, self.dialect));
        if fine {
            return ControlFlow::Continue(());
        }
        refuse(
            "table-function",
            format!("the table function {name} is not allowed"),
            "query a published relation",
        )
    }

    fn optional_alias(&self, alias: &Option<TableAlias>) -> Step {
        alias.as_ref().map_or(ControlFlow::Continue(()), |alias| self.alias(alias))
    }

    fn alias(&self, alias: &TableAlias) -> Step {
        unless(alias.at.is_none(), "AT in an alias")?;
        let typed = alias.columns.iter().filter_map(|column| column.data_type.as_ref());
        typed.into_iter().try_for_each(|data_type| self.of_type(data_type))
    }

    fn of_type(&self, data_type: &datafusion::sql::sqlparser::ast::DataType) -> Step {
        if types::is_allowed(self.dialect, data_type) {
            return ControlFlow::Continue(());
        }
        let shown: String = data_type.to_string().chars().take(60).collect();
        refuse(
            "type",
            format!("the type {shown} is not allowed"),
            "cast to a plain type such as text or integer",
        )
    }

    fn joins(&mut self, from: &TableWithJoins) -> Step {
        from.joins.iter().try_for_each(|join| self.join(join))
    }

    fn join(&mut self, join: &Join) -> Step {
        self.names.join(&join.join_operator);
        unless(!join.global, "GLOBAL JOIN")?;
        let constraint = match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => constraint,
            JoinOperator::Semi(constraint)
            | JoinOperator::LeftSemi(constraint)
            | JoinOperator::RightSemi(constraint)
            | JoinOperator::Anti(constraint)
            | JoinOperator::LeftAnti(constraint)
            | JoinOperator::RightAnti(constraint)
                if self.dialect == Dialect::DataFusion =>
            {
                constraint
            }
            JoinOperator::AsOf { constraint, .. } if self.dialect == Dialect::Snowflake => constraint,
            _ => return unless(false, "this kind of join"),
        };
        let keeps_right = matches!(
            join.join_operator,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
        );
        if keeps_right
            && matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural)
            && self.dialect == Dialect::DataFusion
        {
            // The engine takes the left one for both: <https://github.com/apache/datafusion/issues/22881>.
            return refuse(
                "construct",
                "RIGHT and FULL JOIN with USING or NATURAL are not supported",
                "write ON a.key = b.key, and coalesce(a.key, b.key) where the key is meant",
            );
        }
        match constraint {
            JoinConstraint::Using(columns) => {
                unless(columns.iter().all(|column| column.0.len() == 1), "a qualified name in USING")
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn expression(&self, expr: &Expr) -> Step {
        let (postgres, snowflake) = (self.dialect == Dialect::PostgreSql, self.dialect == Dialect::Snowflake);
        match expr {
            Expr::Identifier(name) => self.bare(name),
            Expr::CompoundIdentifier(parts) => {
                let next = |part: &Ident| snowflake && part.value.eq_ignore_ascii_case("nextval");
                if parts.iter().any(next) {
                    return refuse("function", "NEXTVAL advances a sequence", "leave it out");
                }
                ControlFlow::Continue(())
            }
            // `(value).name` is a call name(value) in PostgreSQL.
            Expr::CompoundFieldAccess { access_chain, .. } => unless(
                !postgres || access_chain.iter().all(|step| matches!(step, AccessExpr::Subscript(_))),
                "the dot behind an expression",
            ),
            Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::InUnnest { .. }
            | Expr::Between { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::AtTimeZone { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Overlay { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_)
            | Expr::Tuple(_)
            | Expr::Array(_)
            | Expr::Interval(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..) => ControlFlow::Continue(()),
            Expr::BinaryOp { op, .. } => operators::binary(self.dialect, op),
            Expr::AnyOp { compare_op, .. } | Expr::AllOp { compare_op, .. } => {
                operators::binary(self.dialect, compare_op)
            }
            Expr::UnaryOp { op, .. } => operators::unary(self.dialect, op),
            Expr::Cast { data_type, .. } => self.of_type(data_type),
            Expr::TypedString(typed) => self.of_type(&typed.data_type),
            Expr::Collate { collation, .. } if postgres && collation.0.len() == 1 => {
                ControlFlow::Continue(())
            }
            Expr::JsonAccess { .. }
            | Expr::RLike { .. }
            | Expr::Lambda(_)
            | Expr::Dictionary(_)
            | Expr::OuterJoin(_)
                if snowflake =>
            {
                ControlFlow::Continue(())
            }
            Expr::Function(function) => calls::check(self.dialect, function),
            other => {
                let shown: String = other.to_string().chars().take(60).collect();
                let refusal =
                    Refusal::new("construct", format!("`{shown}` is not supported"), "write it in plain SQL");
                ControlFlow::Break(Box::new(refusal.at(other.span())))
            }
        }
    }

    /// Names that are no columns but functions without parentheses.
    fn bare(&self, name: &Ident) -> Step {
        let functions: &[&str] = match self.dialect {
            Dialect::DataFusion => &[],
            Dialect::PostgreSql => &[
                "current_catalog",
                "current_role",
                "current_schema",
                "current_user",
                "session_user",
                "system_user",
                "user",
            ],
            Dialect::Snowflake => &["current_user"],
        };
        if name.quote_style.is_none() && functions.contains(&name.value.to_ascii_lowercase().as_str()) {
            let message = format!("the function {name} is not allowed");
            let refusal = Refusal::new("function", message, "put a column of that name in double quotes");
            return ControlFlow::Break(Box::new(refusal.at(name.span)));
        }
        ControlFlow::Continue(())
    }
}
