//! What differs between the SQL dialects: names, literals, dates, and functions that go by another name.
//!
//! D1 Text that came from a caller leaves as a literal that the dialect reads as that text and nothing else.
//! D2 A function that is not known to mean the same in the dialect is refused, unless the model wrote it for the dialect.

use std::ops::ControlFlow;

use chrono::NaiveDateTime;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, CastKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, ObjectName, OrderByExpr, Value, ValueWithSpan, VisitMut, VisitorMut,
    WindowType,
};
use serde::{Deserialize, Serialize};

use super::error::{CompileCode, CompileError, Result};
use crate::semantic::model::{Expression, Grain, TimeSpan};

/// A dialect that SQL is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Standard SQL, kept to what engines agree on.
    #[serde(alias = "ansi_sql")]
    Ansi,
    /// The embedded engine's.
    #[default]
    DataFusion,
    #[serde(alias = "postgres")]
    PostgreSql,
    Snowflake,
    DuckDb,
}

/// Functions of ANSI SQL and their common neighbours that mean the same everywhere, sorted.
const PORTABLE: &[&str] = &[
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "avg",
    "ceil",
    "ceiling",
    "char_length",
    "coalesce",
    "concat",
    "corr",
    "cos",
    "cot",
    "count",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "current_date",
    "current_timestamp",
    "date_part",
    "date_trunc",
    "degrees",
    "dense_rank",
    "exp",
    "extract",
    "first_value",
    "floor",
    "greatest",
    "lag",
    "last_value",
    "lead",
    "least",
    "left",
    "length",
    "ln",
    "lower",
    "lpad",
    "ltrim",
    "max",
    "median",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "percentile_cont",
    "percentile_disc",
    "pi",
    "position",
    "power",
    "radians",
    "rank",
    "regr_slope",
    "replace",
    "right",
    "round",
    "row_number",
    "rpad",
    "rtrim",
    "sign",
    "sin",
    "split_part",
    "sqrt",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "tan",
    "trim",
    "upper",
    "var_pop",
    "var_samp",
    "variance",
];

/// Words that cannot be a name without quotes in one dialect or another, sorted.
const RESERVED: &[&str] = &[
    "all",
    "alter",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "at",
    "authorization",
    "between",
    "binary",
    "both",
    "by",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "connect",
    "constraint",
    "create",
    "cross",
    "current",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_user",
    "database",
    "default",
    "delete",
    "desc",
    "distinct",
    "drop",
    "else",
    "end",
    "except",
    "exists",
    "false",
    "fetch",
    "following",
    "for",
    "foreign",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "increment",
    "inner",
    "insert",
    "intersect",
    "interval",
    "into",
    "is",
    "issue",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "minus",
    "natural",
    "not",
    "null",
    "of",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "organization",
    "outer",
    "over",
    "partition",
    "primary",
    "qualify",
    "references",
    "regexp",
    "revoke",
    "right",
    "rlike",
    "row",
    "rows",
    "sample",
    "schema",
    "select",
    "set",
    "similar",
    "some",
    "start",
    "table",
    "tablesample",
    "then",
    "to",
    "top",
    "trailing",
    "trigger",
    "true",
    "try_cast",
    "union",
    "unique",
    "update",
    "user",
    "using",
    "values",
    "view",
    "when",
    "whenever",
    "where",
    "window",
    "with",
];

/// True for a word that SQL keeps for itself.
pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED.binary_search(&word.to_ascii_lowercase().as_str()).is_ok()
}

/// Functions that make one value of many rows, sorted.
const AGGREGATES: &[&str] = &[
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "count_if",
    "covar",
    "covar_pop",
    "covar_samp",
    "listagg",
    "max",
    "max_by",
    "mean",
    "median",
    "min",
    "min_by",
    "mode",
    "percentile_cont",
    "percentile_disc",
    "quantile_cont",
    "regr_slope",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var",
    "var_pop",
    "var_samp",
    "variance",
];

/// Whether the function of this lower-case name makes one value of many rows.
pub(crate) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.binary_search(&name).is_ok()
}

/// The lower-case name of an aggregate function, if the function is one.
pub(super) fn aggregate_name(function: &Function) -> Option<String> {
    function_name(function).filter(|name| is_aggregate(name))
}

pub(super) fn function_name(function: &Function) -> Option<String> {
    match function.name.0.as_slice() {
        [part] => part.as_ident().map(|ident| ident.value.to_lowercase()),
        _ => None,
    }
}

/// SQL text as an expression that prints as it stands. For text that this module made, never for a caller's.
pub(super) fn verbatim(text: impl Into<String>) -> Expr {
    Expr::Value(Value::Number(text.into(), false).with_empty_span())
}

impl Dialect {
    pub const NAMES: &[&str] = &["ansi", "datafusion", "postgresql", "snowflake", "duckdb"];

    /// From its name in any case; `postgres` and `ansi_sql` do as well.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "ansi" | "ansi_sql" | "ossie_sql_2026" => Self::Ansi,
            "datafusion" => Self::DataFusion,
            "postgresql" | "postgres" => Self::PostgreSql,
            "snowflake" => Self::Snowflake,
            "duckdb" => Self::DuckDb,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ansi => "ansi",
            Self::DataFusion => "datafusion",
            Self::PostgreSql => "postgresql",
            Self::Snowflake => "snowflake",
            Self::DuckDb => "duckdb",
        }
    }

    /// The text of an expression for this dialect, and whether it was written for it.
    pub(super) fn pick(self, expression: &Expression) -> (&str, bool) {
        let own = match self {
            Self::DataFusion => "DATAFUSION",
            Self::PostgreSql => "POSTGRESQL",
            Self::Snowflake => "SNOWFLAKE",
            Self::Ansi | Self::DuckDb => "ANSI_SQL",
        };
        match expression.in_dialect(own) {
            Some(text) => (text, own != "ANSI_SQL"),
            None => (expression.text(), false),
        }
    }

    /// A name that the query itself gives, quoted so that it keeps its spelling.
    pub(super) fn alias(self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    /// A name of the model or the warehouse: bare where that reaches it, quoted otherwise.
    pub(super) fn name(self, name: &str) -> String {
        self.ident(name).to_string()
    }

    pub(super) fn ident(self, name: &str) -> Ident {
        let mut characters = name.chars();
        let lower = |c: char| c.is_ascii_lowercase() || c == '_';
        let any = |c: char| c.is_ascii_alphabetic() || c == '_';
        let first = characters.next();
        // Snowflake folds bare names to upper case, where its catalogs have them; the others fold to lower case.
        let plain = match self {
            Self::Snowflake => {
                first.is_some_and(any) && characters.all(|c| any(c) || c.is_ascii_digit() || c == '$')
            }
            _ => first.is_some_and(lower) && characters.all(|c| lower(c) || c.is_ascii_digit()),
        };
        if plain && !is_reserved(name) { Ident::new(name) } else { Ident::with_quote('"', name) }
    }

    /// D1. Snowflake reads backslashes in literals, the others don't.
    pub(super) fn string(self, text: &str) -> String {
        let escaped = text.replace('\'', "''");
        match self {
            Self::Snowflake => format!("'{}'", escaped.replace('\\', "\\\\")),
            _ => format!("'{escaped}'"),
        }
    }

    /// The start of the period that `expr` falls into; a date stays a date.
    pub(super) fn truncate(self, grain: Grain, expr: &str, is_date: bool) -> String {
        if is_date && grain <= Grain::Day {
            return expr.to_owned();
        }
        let truncated = format!("DATE_TRUNC('{}', {expr})", grain.as_str());
        if is_date { format!("CAST({truncated} AS DATE)") } else { truncated }
    }

    /// `expr` moved by a span, backwards if `back`; a date stays a date.
    pub(super) fn shifted(self, expr: &str, span: TimeSpan, back: bool, is_date: bool) -> String {
        let (count, unit) = match span.grain {
            Grain::Quarter => (u64::from(span.count) * 3, Grain::Month),
            Grain::Week => (u64::from(span.count) * 7, Grain::Day),
            grain => (u64::from(span.count), grain),
        };
        let sign = if back { "-" } else { "+" };
        let moved = match self {
            Self::Snowflake => format!("DATEADD({}, {sign}{count}, {expr})", unit.as_str()),
            _ => format!("{expr} {sign} INTERVAL '{count}' {}", unit.as_str().to_uppercase()),
        };
        if is_date { format!("CAST({moved} AS DATE)") } else { moved }
    }

    pub(super) fn instant(self, at: NaiveDateTime, is_date: bool) -> String {
        if is_date {
            format!("DATE '{}'", at.format("%Y-%m-%d"))
        } else {
            format!("TIMESTAMP '{}'", at.format("%Y-%m-%d %H:%M:%S%.f"))
        }
    }

    /// A query of one column, `column`: every start of a period from `first` to `last`.
    pub(super) fn series(
        self,
        first: NaiveDateTime,
        periods: &[NaiveDateTime],
        grain: Grain,
        is_date: bool,
        column: &str,
    ) -> String {
        let column = self.alias(column);
        let last = periods.last().copied().unwrap_or(first);
        let cast = |text: &str| if is_date { format!("CAST({text} AS DATE)") } else { text.to_owned() };
        let (count, unit) = match grain {
            Grain::Quarter => (3, Grain::Month),
            Grain::Week => (7, Grain::Day),
            grain => (1, grain),
        };
        match self {
            Self::Ansi => {
                let rows: Vec<String> =
                    periods.iter().map(|at| format!("({})", self.instant(*at, is_date))).collect();
                format!("SELECT s.{column} FROM (VALUES {}) AS s ({column})", rows.join(", "))
            }
            Self::Snowflake => format!(
                "SELECT {} AS {column} FROM TABLE(GENERATOR(ROWCOUNT => {}))",
                cast(&format!(
                    "DATEADD({}, {count} * (ROW_NUMBER() OVER (ORDER BY SEQ4()) - 1), {})",
                    unit.as_str(),
                    self.instant(first, false)
                )),
                periods.len()
            ),
            _ => format!(
                "SELECT {} AS {column} FROM generate_series({}, {}, INTERVAL '{count}' {}) AS s (\"value\")",
                cast("s.\"value\""),
                self.instant(first, false),
                self.instant(last, false),
                unit.as_str().to_uppercase()
            ),
        }
    }

    /// Prints an expression whose columns are resolved.
    pub(super) fn print(self, expr: &Expr) -> String {
        let mut expr = expr.clone();
        let _ = VisitMut::visit(&mut expr, &mut Literals { dialect: self });
        expr.to_string()
    }

    /// Turns an expression of the model or of a caller into this dialect's. `own`: it was written for the dialect.
    pub(super) fn translate(self, expr: &mut Expr, own: bool) -> Result<()> {
        match VisitMut::visit(expr, &mut Translate { dialect: self, own }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }
}

/// D1. The parser's own printing takes `\'` for an escaped quote, which standard SQL does not.
struct Literals {
    dialect: Dialect,
}

impl VisitorMut for Literals {
    type Break = ();

    fn post_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if let Value::SingleQuotedString(text) = &value.value {
            value.value = Value::Number(self.dialect.string(text), false);
        }
        ControlFlow::Continue(())
    }
}

struct Translate {
    dialect: Dialect,
    own: bool,
}

type Step = ControlFlow<Box<CompileError>>;

fn refuse(message: String) -> Step {
    ControlFlow::Break(Box::new(CompileError::new(CompileCode::UnsupportedInDialect, message)))
}

impl VisitorMut for Translate {
    type Break = Box<CompileError>;

    fn post_visit_value(&mut self, value: &mut ValueWithSpan) -> Step {
        match &value.value {
            Value::Number(..) | Value::SingleQuotedString(_) | Value::Boolean(_) | Value::Null => {
                ControlFlow::Continue(())
            }
            other => refuse(format!("the literal {other} is not portable; write a number or '…'")),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Step {
        match expr {
            Expr::Cast { kind, data_type, .. } => {
                if *kind == CastKind::DoubleColon {
                    *kind = CastKind::Cast;
                }
                if self.dialect == Dialect::PostgreSql && matches!(data_type, DataType::Double(_)) {
                    *data_type = DataType::DoublePrecision;
                }
                if self.dialect == Dialect::PostgreSql && matches!(data_type, DataType::String(_)) {
                    *data_type = DataType::Text;
                }
            }
            Expr::Substring { special, .. } => *special = true,
            Expr::Function(function) => return self.function(function),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Translate {
    fn function(&mut self, function: &mut Function) -> Step {
        let Some(name) = function_name(function) else {
            return refuse(format!("the function {} is not known; call it by one name", function.name));
        };
        let rename = |function: &mut Function, to: &str| {
            function.name = ObjectName::from(vec![Ident::new(to.to_uppercase())]);
        };
        match (name.as_str(), self.dialect) {
            ("variance" | "var", _) => rename(function, "var_samp"),
            ("mean", _) => rename(function, "avg"),
            ("string_agg", Dialect::Snowflake) => rename(function, "listagg"),
            ("listagg", Dialect::PostgreSql | Dialect::DataFusion | Dialect::DuckDb) => {
                rename(function, "string_agg");
            }
            ("median", Dialect::PostgreSql | Dialect::Ansi) => percentile(function),
            _ if self.own
                || self.dialect == Dialect::DataFusion
                || PORTABLE.binary_search(&name.as_str()).is_ok() => {}
            _ => {
                return refuse(format!(
                    "{} is not known to mean the same in {}; give the expression for that dialect in the model",
                    function.name,
                    self.dialect.as_str()
                ));
            }
        }
        if self.dialect == Dialect::Snowflake && function.filter.is_some() {
            filter_as_case(function);
        }
        if let Some(WindowType::WindowSpec(window)) = &mut function.over {
            window.order_by.iter_mut().for_each(place_nulls);
        }
        ControlFlow::Continue(())
    }
}

/// NULL is the high end: last ascending, first descending, as SQL:2003 has it, whatever the engine's own habit.
fn place_nulls(order: &mut OrderByExpr) {
    let descending = order.options.asc == Some(false);
    order.options.nulls_first.get_or_insert(descending);
}

/// `MEDIAN(x)` as `PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY x)`.
fn percentile(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(value))) = list.args.pop() else { return };
    list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(verbatim("0.5"))));
    function.name = ObjectName::from(vec![Ident::new("PERCENTILE_CONT")]);
    function.within_group = vec![OrderByExpr { expr: value, options: Default::default(), with_fill: None }];
}

/// `AGG(x) FILTER (WHERE c)` as `AGG(CASE WHEN c THEN x END)`; `COUNT(*)` counts ones.
fn filter_as_case(function: &mut Function) {
    let Some(condition) = function.filter.take() else { return };
    let FunctionArguments::List(list) = &mut function.args else { return };
    if let Some(FunctionArg::Unnamed(arg)) = list.args.first_mut() {
        let value = match arg {
            FunctionArgExpr::Expr(value) => value.clone(),
            _ => verbatim("1"),
        };
        *arg = FunctionArgExpr::Expr(case_when(*condition, value));
    }
}

/// `CASE WHEN condition THEN result END`.
pub(crate) fn case_when(condition: Expr, result: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: None,
    }
}

/// `CAST(expr AS DOUBLE PRECISION)`, which every dialect has, so that a ratio of integers is no integer.
pub(super) fn as_double(expr: Expr) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type: DataType::DoublePrecision,
        array: false,
        format: None,
    }
}

pub(super) fn is_distinct(function: &Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list)
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_so_that_look_ups_find_everything() {
        assert!(PORTABLE.is_sorted() && RESERVED.is_sorted() && AGGREGATES.is_sorted());
    }

    #[test]
    fn a_quote_behind_a_backslash_does_not_end_the_literal() {
        let text = r"\' OR 1=1 --";
        let expr = Expr::Value(Value::SingleQuotedString(text.into()).with_empty_span());
        assert_eq!(Dialect::DataFusion.print(&expr), r"'\'' OR 1=1 --'");
        assert_eq!(Dialect::Snowflake.print(&expr), r"'\\'' OR 1=1 --'");
    }
}
