//! Types that a query may cast to: those whose input is a computation. What looks names up in the catalog, such as
//! PostgreSQL's `regclass`, or belongs to a user is not among them.

use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType, ObjectName};

use super::dialect::Dialect;
use super::namespace::identifiers;

/// Types that the parser has no variant for, lower case.
const POSTGRESQL: &[&str] = &[
    "bpchar",
    "cidr",
    "datemultirange",
    "daterange",
    "inet",
    "int4multirange",
    "int4range",
    "int8range",
    "jsonpath",
    "macaddr",
    "money",
    "nummultirange",
    "numrange",
    "timetz",
    "timestamptz",
    "tsrange",
    "tstzrange",
];
const SNOWFLAKE: &[&str] = &[
    "array",
    "byteint",
    "geography",
    "geometry",
    "number",
    "object",
    "timestamp_ltz",
    "timestamp_ntz",
    "timestamp_tz",
    "timestampltz",
    "timestampntz",
    "timestamptz",
    "variant",
];

/// True if a query may cast to this type.
pub(super) fn is_allowed(dialect: Dialect, data_type: &DataType) -> bool {
    match data_type {
        DataType::Character(_)
        | DataType::Char(_)
        | DataType::CharacterVarying(_)
        | DataType::CharVarying(_)
        | DataType::Varchar(_)
        | DataType::Nvarchar(_)
        | DataType::Uuid
        | DataType::Binary(_)
        | DataType::Varbinary(_)
        | DataType::Bytea
        | DataType::Text
        | DataType::String(_)
        | DataType::Numeric(_)
        | DataType::Decimal(_)
        | DataType::Dec(_)
        | DataType::Float(_)
        | DataType::TinyInt(_)
        | DataType::Int2(_)
        | DataType::SmallInt(_)
        | DataType::Int(_)
        | DataType::Int4(_)
        | DataType::Int8(_)
        | DataType::Int64
        | DataType::Integer(_)
        | DataType::BigInt(_)
        | DataType::Float4
        | DataType::Float8
        | DataType::Float64
        | DataType::Real
        | DataType::Double(_)
        | DataType::DoublePrecision
        | DataType::Bool
        | DataType::Boolean
        | DataType::Date
        | DataType::Time(..)
        | DataType::Datetime(_)
        | DataType::Timestamp(..)
        | DataType::TimestampNtz(_)
        | DataType::Interval { .. } => true,
        DataType::JSON
        | DataType::JSONB
        | DataType::Bit(_)
        | DataType::BitVarying(_)
        | DataType::VarBit(_) => dialect == Dialect::PostgreSql,
        DataType::TinyIntUnsigned(_)
        | DataType::SmallIntUnsigned(_)
        | DataType::IntUnsigned(_)
        | DataType::IntegerUnsigned(_)
        | DataType::BigIntUnsigned(_)
        | DataType::Bytes(_) => dialect == Dialect::DataFusion,
        DataType::Array(ArrayElemTypeDef::None) => dialect == Dialect::Snowflake,
        DataType::Array(
            ArrayElemTypeDef::AngleBracket(inner)
            | ArrayElemTypeDef::SquareBracket(inner, _)
            | ArrayElemTypeDef::Parenthesis(inner),
        ) => is_allowed(dialect, inner),
        DataType::Custom(name, _) => is_listed(dialect, name),
        _ => false,
    }
}

fn is_listed(dialect: Dialect, name: &ObjectName) -> bool {
    let list = match dialect {
        Dialect::DataFusion => &[][..],
        Dialect::PostgreSql => POSTGRESQL,
        Dialect::Snowflake => SNOWFLAKE,
    };
    match identifiers(name).as_deref() {
        Some([one]) if one.quote_style.is_none() => list.contains(&one.value.to_ascii_lowercase().as_str()),
        _ => false,
    }
}
