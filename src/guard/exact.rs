//! G7: the text of a secured query means the tree that was checked.
//!
//! The parser's printer is made for people: it guesses whether quotes are escaped already, and puts `-` before `-1`,
//! which starts a comment. So literals get the one spelling that survives, operators that would run together get
//! parentheses, and the text is parsed once more and must give the very same tree.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DollarQuotedString, Expr, Statement, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use super::dialect::Dialect;
use super::{Refusal, tokens};

/// The text that stands for `statement`, which is brought into its canonical spelling.
pub(super) fn print(statement: &mut Statement, dialect: Dialect) -> Result<String, Refusal> {
    canonical(statement, dialect);
    let text = statement.to_string();
    let again = tokens::reparse(&text, dialect).map(|mut again| {
        canonical(&mut again, dialect);
        again
    });
    if again.as_ref() == Some(statement) {
        return Ok(text);
    }
    Err(Refusal::new(
        "not-exact",
        "the query cannot be written down so that it is sure to be read as it was checked",
        "write it more plainly: parentheses around operators, texts without quotes in them, plain names",
    ))
}

fn canonical(statement: &mut Statement, dialect: Dialect) {
    let walked: ControlFlow<()> = VisitMut::visit(statement, &mut Canonical(dialect));
    debug_assert!(walked.is_continue());
}

struct Canonical(Dialect);

impl VisitorMut for Canonical {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        let text = match &mut value.value {
            Value::SingleQuotedString(text)
            | Value::EscapedStringLiteral(text)
            | Value::UnicodeStringLiteral(text) => std::mem::take(text),
            Value::DollarQuotedString(quoted) => std::mem::take(&mut quoted.value),
            _ => return ControlFlow::Continue(()),
        };
        let is_plain = !text.contains('\\') && !text.contains("''");
        value.value = match self.0 {
            _ if is_plain => Value::SingleQuotedString(text),
            Dialect::PostgreSql => Value::EscapedStringLiteral(text),
            _ => Value::DollarQuotedString(DollarQuotedString { value: text, tag: None }),
        };
        ControlFlow::Continue(())
    }

    /// `-(-1)`, not `--1`.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::UnaryOp { expr: inner, .. } = expr
            && matches!(inner.as_ref(), Expr::UnaryOp { .. })
        {
            let bare = std::mem::replace(inner.as_mut(), Expr::Value(Value::Null.with_empty_span()));
            **inner = Expr::Nested(Box::new(bare));
        }
        ControlFlow::Continue(())
    }
}
