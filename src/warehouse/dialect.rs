//! The SQL dialects of warehouses.

use chrono::DateTime;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::datatypes::TimeUnit;
use datafusion::sql::sqlparser::ast::{BinaryOperator, DataType, Expr, Value};
use datafusion::sql::unparser::dialect as unparser;

use crate::config::AdbcDialect;

/// What a warehouse's SQL is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WarehouseDialect {
    /// The embedded engine.
    DataFusion,
    PostgreSql,
    Snowflake,
    Sqlite,
    DuckDb,
}

impl WarehouseDialect {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DataFusion => "datafusion",
            Self::PostgreSql => "postgresql",
            Self::Snowflake => "snowflake",
            Self::Sqlite => "sqlite",
            Self::DuckDb => "duckdb",
        }
    }

    /// Whether a backslash stands for itself in a LIKE pattern without ESCAPE; DataFusion takes it for an escape.
    pub(super) fn has_plain_backslash_in_like(self) -> bool {
        !matches!(self, Self::DataFusion | Self::PostgreSql)
    }

    /// Whether LIKE tells capitals from small letters, as DataFusion's does.
    pub(super) fn has_exact_like(self) -> bool {
        !matches!(self, Self::Sqlite)
    }

    /// Whether dates and instants are types of their own.
    pub(super) fn has_dates(self) -> bool {
        !matches!(self, Self::Sqlite)
    }
}

impl From<AdbcDialect> for WarehouseDialect {
    fn from(dialect: AdbcDialect) -> Self {
        match dialect {
            AdbcDialect::Postgresql => Self::PostgreSql,
            AdbcDialect::Sqlite => Self::Sqlite,
            AdbcDialect::Duckdb => Self::DuckDb,
        }
    }
}

/// An identifier in quotes. SQL knows no name with NUL, and no server takes one.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// How DataFusion's unparser writes for a warehouse.
#[derive(Debug)]
pub(super) struct Writing(pub WarehouseDialect);

impl unparser::Dialect for Writing {
    fn identifier_quote_style(&self, _: &str) -> Option<char> {
        Some('"')
    }

    fn float64_ast_dtype(&self) -> DataType {
        DataType::DoublePrecision
    }

    /// `2020-01-01 10:00:00.000000+00:00`, which every dialect here reads.
    fn timestamp_with_tz_to_string(&self, instant: DateTime<Tz>, _: TimeUnit) -> String {
        instant.to_utc().format("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string()
    }

    /// Neither a quote nor a backslash stands in a literal: what they mean differs by dialect, and the printer takes some
    /// for escaped already. Both are written as calls of `chr`.
    fn string_literal_to_sql(&self, text: &str) -> Option<Expr> {
        text.contains(['\'', '\\']).then(|| self.text(text))
    }
}

impl Writing {
    fn text(&self, text: &str) -> Expr {
        let literal = |part: &str| Expr::Value(Value::SingleQuotedString(part.to_owned()).with_empty_span());
        let chr = if self.0 == WarehouseDialect::Sqlite { "char" } else { "chr" };
        let mut parts = Vec::new();
        for part in text.split_inclusive(['\'', '\\']) {
            let plain = part.trim_end_matches(['\'', '\\']);
            parts.push(literal(plain));
            if let Some(odd) = part[plain.len()..].chars().next() {
                let code = Expr::Value(Value::Number((odd as u32).to_string(), false).with_empty_span());
                parts.push(call(chr, code));
            }
        }
        let joined = parts.into_iter().reduce(|left, right| Expr::BinaryOp {
            left: Box::new(left),
            op: BinaryOperator::StringConcat,
            right: Box::new(right),
        });
        Expr::Nested(Box::new(joined.unwrap_or_else(|| literal(""))))
    }
}

fn call(name: &str, argument: Expr) -> Expr {
    use datafusion::sql::sqlparser::ast::{
        Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    };
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
