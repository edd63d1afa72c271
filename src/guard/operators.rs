//! Operators that a query may use: those that engines have of their own. `OPERATOR(schema.name)` and signs that a
//! user may have defined are not among them.

use datafusion::sql::sqlparser::ast::{BinaryOperator as Binary, UnaryOperator as Unary};

use super::constructs::{Step, unless};
use super::dialect::Dialect;

pub(super) fn binary(dialect: Dialect, operator: &Binary) -> Step {
    let fine = match operator {
        Binary::Plus
        | Binary::Minus
        | Binary::Multiply
        | Binary::Divide
        | Binary::Modulo
        | Binary::StringConcat
        | Binary::Gt
        | Binary::Lt
        | Binary::GtEq
        | Binary::LtEq
        | Binary::Eq
        | Binary::NotEq
        | Binary::And
        | Binary::Or => true,
        Binary::Custom(_) | Binary::PGCustomBinaryOperator(_) | Binary::Assignment => false,
        Binary::BitwiseOr
        | Binary::BitwiseAnd
        | Binary::PGBitwiseXor
        | Binary::PGBitwiseShiftLeft
        | Binary::PGBitwiseShiftRight
        | Binary::PGExp
        | Binary::PGOverlap
        | Binary::PGRegexMatch
        | Binary::PGRegexIMatch
        | Binary::PGRegexNotMatch
        | Binary::PGRegexNotIMatch
        | Binary::PGLikeMatch
        | Binary::PGILikeMatch
        | Binary::PGNotLikeMatch
        | Binary::PGNotILikeMatch
        | Binary::PGStartsWith
        | Binary::Arrow
        | Binary::LongArrow
        | Binary::HashArrow
        | Binary::HashLongArrow
        | Binary::HashMinus
        | Binary::AtArrow
        | Binary::ArrowAt
        | Binary::AtQuestion
        | Binary::Question
        | Binary::QuestionAnd
        | Binary::QuestionPipe
        | Binary::Overlaps => dialect != Dialect::Snowflake,
        // The engine's planner knows the rest or says that it does not.
        _ => dialect == Dialect::DataFusion,
    };
    unless(fine, &format!("the operator {operator}"))
}

pub(super) fn unary(dialect: Dialect, operator: &Unary) -> Step {
    let fine = match operator {
        Unary::Plus | Unary::Minus | Unary::Not => true,
        Unary::BitwiseNot => dialect != Dialect::Snowflake,
        _ => dialect == Dialect::DataFusion,
    };
    unless(fine, &format!("the operator {operator}"))
}
