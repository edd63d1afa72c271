//! The three dialects: how they are parsed, how they fold names, and under which name a published one is found.

use std::borrow::Cow;

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::dialect::{
    Dialect as ParserDialect, GenericDialect, PostgreSqlDialect, SnowflakeDialect,
};

/// The dialect in which a query is written, and in which its secured form is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The embedded engine, which takes the syntax tree itself.
    DataFusion,
    /// PostgreSQL, which takes text.
    PostgreSql,
    /// Snowflake, which takes text.
    Snowflake,
}

impl Dialect {
    pub(super) fn parser(self) -> &'static dyn ParserDialect {
        match self {
            Self::DataFusion => &GenericDialect {},
            Self::PostgreSql => &PostgreSqlDialect {},
            Self::Snowflake => &SnowflakeDialect,
        }
    }

    /// Whether the secured query goes to another system as text.
    pub fn is_remote(self) -> bool {
        self != Self::DataFusion
    }

    /// The name that an identifier means. Quoted ones are exact; of others the letters of ASCII fold, and no more:
    /// no engine here folds other letters in every configuration.
    pub(super) fn fold(self, ident: &Ident) -> Cow<'_, str> {
        if ident.quote_style.is_some() {
            return Cow::Borrowed(&ident.value);
        }
        let folds = |byte: u8| match self {
            Self::Snowflake => byte.is_ascii_lowercase(),
            _ => byte.is_ascii_uppercase(),
        };
        match (ident.value.bytes().any(folds), self) {
            (false, _) => Cow::Borrowed(&ident.value),
            (true, Self::Snowflake) => Cow::Owned(ident.value.to_ascii_uppercase()),
            (true, _) => Cow::Owned(ident.value.to_ascii_lowercase()),
        }
    }

    /// The name by which queries find a published relation, alias or column: for plain lower-case names the one to
    /// which the unquoted name folds (`origin` is `"ORIGIN"` on Snowflake), for others the name as it stands.
    pub fn published(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::Snowflake if is_plain(name) => Cow::Owned(name.to_ascii_uppercase()),
            _ => Cow::Borrowed(name),
        }
    }

    /// Whether `ident`, as a query writes it, means the published `name`. A quoted name may also be written as the
    /// model has it.
    pub(super) fn is(self, name: &str, ident: &Ident) -> bool {
        self.fold(ident) == self.published(name) || (ident.quote_style.is_some() && ident.value == name)
    }
}

/// Lower-case letters of ASCII, digits and underscores, no digit first: what unquoted names fold from.
fn is_plain(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    name.bytes().next().is_some_and(first) && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
}

/// A quoted identifier.
pub(super) fn quoted(name: impl Into<String>) -> Ident {
    Ident::with_quote('"', name)
}
