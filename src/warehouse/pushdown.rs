//! Which filters a remote table takes over, and the SQL of a scan.
//!
//! D1 A filter is pushed only where the server's meaning is DataFusion's: comparisons of a column with a literal of its
//! own type, IN, BETWEEN, IS NULL, LIKE, and AND, OR, NOT of such. Order of texts depends on collations, so that texts
//! are compared for equality only. D2 Every other filter stays with DataFusion; the rows are the same either way.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use datafusion::sql::unparser::Unparser;

use super::WarehouseDialect;
use super::dialect::{Writing, quoted};

/// What may be asked of a column at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushes {
    /// Whether it is NULL.
    Nulls,
    /// Equality and LIKE too.
    Equality,
    /// Order too.
    Order,
}

/// A column of a remote table.
#[derive(Debug, Clone)]
pub(super) struct RemoteColumn {
    /// As it is published.
    pub name: String,
    /// SQL of its value at the server.
    pub value: String,
    pub data_type: DataType,
    pub pushes: Pushes,
    /// A literal of the type of `value`, where a driver guesses types by the first row.
    pub blank: Option<&'static str>,
}

/// The physical table and its columns.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub dialect: WarehouseDialect,
    /// Quoted, with its schema.
    pub relation: String,
    pub columns: Vec<RemoteColumn>,
}

impl Layout {
    fn column(&self, name: &str) -> Option<&RemoteColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether the server answers `filter` as DataFusion would.
    pub fn takes(&self, filter: &Expr) -> bool {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
                self.takes(left) && self.takes(right)
            }
            Expr::Not(inner) => self.takes(inner),
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => self.pushes(inner).is_some(),
            Expr::Column(_) => {
                self.data_type(filter) == Some(&DataType::Boolean) && self.compares(filter, Pushes::Equality)
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let needed = match op {
                    Operator::Eq | Operator::NotEq => Pushes::Equality,
                    Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => Pushes::Order,
                    _ => return false,
                };
                let fits = |column: &Expr, literal: &Expr| {
                    self.compares(column, needed) && self.is_literal_for(literal, column)
                };
                fits(left, right) || fits(right, left)
            }
            Expr::InList(list) => {
                self.compares(&list.expr, Pushes::Equality)
                    && !list.list.is_empty()
                    && list.list.iter().all(|item| self.is_literal_for(item, &list.expr))
            }
            Expr::Between(Between { expr, low, high, .. }) => {
                self.compares(expr, Pushes::Order)
                    && self.is_literal_for(low, expr)
                    && self.is_literal_for(high, expr)
            }
            Expr::Like(Like { expr, pattern, escape_char, case_insensitive, .. }) => {
                let is_plain = match pattern.as_ref() {
                    Expr::Literal(
                        ScalarValue::Utf8(Some(text))
                        | ScalarValue::Utf8View(Some(text))
                        | ScalarValue::LargeUtf8(Some(text)),
                        _,
                    ) => !text.contains('\\') || !self.dialect.has_plain_backslash_in_like(),
                    _ => false,
                };
                // A pattern that ends in an escape is an error to some.
                let ends_well = is_plain && !ends_in_backslash(pattern);
                ends_well
                    && !case_insensitive
                    && escape_char.is_none()
                    && self.dialect.has_exact_like()
                    && self.compares(expr, Pushes::Equality)
                    && is_text(self.data_type(expr))
                    && self.is_literal_for(pattern, expr)
            }
            _ => false,
        }
    }

    fn pushes(&self, expr: &Expr) -> Option<Pushes> {
        let Expr::Column(column) = expr else { return None };
        self.column(&column.name).map(|column| column.pushes)
    }

    fn data_type(&self, expr: &Expr) -> Option<&DataType> {
        let Expr::Column(column) = expr else { return None };
        self.column(&column.name).map(|column| &column.data_type)
    }

    fn compares(&self, expr: &Expr, needed: Pushes) -> bool {
        match self.pushes(expr) {
            Some(Pushes::Order) => true,
            Some(Pushes::Equality) => needed == Pushes::Equality,
            Some(Pushes::Nulls) | None => false,
        }
    }

    /// A value of the column's own type that every server reads as DataFusion does.
    fn is_literal_for(&self, literal: &Expr, column: &Expr) -> bool {
        let Expr::Literal(value, _) = literal else { return false };
        let Some(wanted) = self.data_type(column) else { return false };
        if value.is_null() {
            return false;
        }
        let same_type =
            value.data_type() == *wanted || (is_text(Some(wanted)) && is_text(Some(&value.data_type())));
        same_type
            && match value {
                ScalarValue::Boolean(_)
                | ScalarValue::Int8(_)
                | ScalarValue::Int16(_)
                | ScalarValue::Int32(_)
                | ScalarValue::Int64(_)
                | ScalarValue::UInt8(_)
                | ScalarValue::UInt16(_)
                | ScalarValue::UInt32(_)
                | ScalarValue::Decimal128(..) => true,
                ScalarValue::Float64(Some(number)) => number.is_finite(),
                ScalarValue::Utf8(Some(text))
                | ScalarValue::Utf8View(Some(text))
                | ScalarValue::LargeUtf8(Some(text)) => !text.contains('\0'),
                // Years of four digits: others are written differently everywhere.
                ScalarValue::Date32(Some(days)) => {
                    self.dialect.has_dates() && (-719_162..2_932_897).contains(days)
                }
                ScalarValue::TimestampMicrosecond(Some(micros), _) => {
                    self.dialect.has_dates()
                        && (-62_135_596_800_000_000..253_402_300_800_000_000).contains(micros)
                }
                _ => false,
            }
    }

    /// The scan of `columns`, by position, of the rows that meet all `filters`, which this takes; `limit` rows at most.
    /// Without columns, each row is a number. Where columns have blanks, a row of them comes first.
    pub fn scan(
        &self,
        columns: &[usize],
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<String, DataFusionError> {
        let mut values: Vec<String> = columns
            .iter()
            .map(|at| &self.columns[*at])
            .map(|column| format!("{} AS {}", column.value, quoted(&column.name)))
            .collect();
        if values.is_empty() {
            values.push("1 AS \"one\"".to_owned());
        }
        let mut sql = format!("SELECT {} FROM {}", values.join(", "), self.relation);
        if !filters.is_empty() {
            let conditions =
                filters.iter().map(|filter| self.condition(filter)).collect::<Result<Vec<_>, _>>()?;
            sql.push_str(" WHERE ");
            sql.push_str(&conditions.join(" AND "));
        }
        // The guard's barrier is a limit that cuts nothing.
        if let Some(limit) = limit.filter(|limit| i64::try_from(*limit).is_ok_and(|limit| limit < i64::MAX)) {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        if self.columns.iter().any(|column| column.blank.is_some()) {
            let mut blanks: Vec<&str> =
                columns.iter().map(|at| self.columns[*at].blank.unwrap_or("NULL")).collect();
            if blanks.is_empty() {
                blanks.push("0");
            }
            // Only of a SELECT in parentheses does a LIMIT hold for that part alone.
            return Ok(format!("SELECT {} UNION ALL SELECT * FROM ({sql})", blanks.join(", ")));
        }
        Ok(sql)
    }

    fn condition(&self, filter: &Expr) -> Result<String, DataFusionError> {
        use datafusion::common::tree_node::{Transformed, TreeNode};
        use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, VisitMut, VisitorMut};

        struct Values<'l>(&'l Layout);
        impl VisitorMut for Values<'_> {
            type Break = String;

            fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> std::ops::ControlFlow<String> {
                let SqlExpr::Identifier(name) = expr else { return std::ops::ControlFlow::Continue(()) };
                match self.0.column(&name.value) {
                    // Printed as it is: a quoted identifier, or a cast of one, made here.
                    Some(column) => {
                        *expr =
                            SqlExpr::Identifier(datafusion::sql::sqlparser::ast::Ident::new(&column.value));
                        std::ops::ControlFlow::Continue(())
                    }
                    None => std::ops::ControlFlow::Break(name.value.clone()),
                }
            }
        }

        // Columns come qualified by the relation of the query; the scan knows one relation.
        let bare = filter.clone().transform(|expr| match expr {
            Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
            other => Ok(Transformed::no(other)),
        })?;
        let mut sql = Unparser::new(&Writing(self.dialect)).expr_to_sql(&bare.data)?;
        if let std::ops::ControlFlow::Break(name) = VisitMut::visit(&mut sql, &mut Values(self)) {
            return Err(DataFusionError::Internal(format!("no column {name} to push a filter to")));
        }
        Ok(format!("({sql})"))
    }
}

fn is_text(data_type: Option<&DataType>) -> bool {
    matches!(data_type, Some(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View))
}

fn ends_in_backslash(pattern: &Expr) -> bool {
    let Expr::Literal(value, _) = pattern else { return true };
    value.try_as_str().flatten().is_none_or(|text| text.ends_with('\\'))
}
