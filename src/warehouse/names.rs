//! Names of tables and columns, as a dataset writes them and as a warehouse has them.

use super::{WarehouseDialect, WarehouseError};

/// `source` of a dataset: `warehouse.schema.table`, `schema.table` or `table`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Absent: the first one configured.
    pub warehouse: Option<String>,
    /// Absent: called as the model.
    pub schema: Option<String>,
    pub table: String,
}

impl Source {
    /// Splits at dots. A part that holds a dot itself stands in double quotes.
    pub fn parse(text: &str) -> Result<Self, WarehouseError> {
        let bad = || WarehouseError::BadName { name: text.to_owned() };
        let mut parts: Vec<String> = Vec::new();
        let mut rest = text.trim();
        loop {
            let (part, after) = match rest.strip_prefix('"') {
                Some(quoted) => {
                    let end = quoted.find('"').ok_or_else(bad)?;
                    (quoted[..end].to_owned(), quoted[end + 1..].trim_start())
                }
                None => {
                    let end = rest.find('.').unwrap_or(rest.len());
                    (rest[..end].trim().to_owned(), &rest[end..])
                }
            };
            if part.is_empty() {
                return Err(bad());
            }
            parts.push(part);
            match after.strip_prefix('.') {
                Some(next) => rest = next.trim_start(),
                None if after.is_empty() => break,
                None => return Err(bad()),
            }
        }
        let mut parts = parts.into_iter().rev();
        let source =
            Self { table: parts.next().ok_or_else(bad)?, schema: parts.next(), warehouse: parts.next() };
        if parts.next().is_some() { Err(bad()) } else { Ok(source) }
    }
}

/// The name that the warehouse knows: Snowflake writes plain names in capitals, and models write them in small letters.
pub fn physical_name(dialect: WarehouseDialect, name: &str) -> String {
    match dialect {
        WarehouseDialect::Snowflake if is_plain(name, char::is_ascii_lowercase) => name.to_ascii_uppercase(),
        _ => name.to_owned(),
    }
}

/// The name under which a physical column is published: the other way round.
pub(super) fn published_name(dialect: WarehouseDialect, name: &str) -> String {
    match dialect {
        WarehouseDialect::Snowflake if is_plain(name, char::is_ascii_uppercase) => name.to_ascii_lowercase(),
        _ => name.to_owned(),
    }
}

fn is_plain(name: &str, letter: impl Fn(&char) -> bool) -> bool {
    name.chars()
        .all(|character| letter(&character) || character.is_ascii_digit() || matches!(character, '_' | '$'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_source_has_one_to_three_parts_and_quotes_keep_dots() {
        let parts = |text: &str| {
            let source = Source::parse(text).unwrap();
            (source.warehouse, source.schema, source.table)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("t"), (None, None, "t".to_owned()));
        assert_eq!(parts("w . s . t"), (some("w"), some("s"), "t".to_owned()));
        assert_eq!(parts("w.s.\"a.b\""), (some("w"), some("s"), "a.b".to_owned()));
        for bad in ["", ".", "a.", ".a", "a..b", "a.b.c.d", "\"a", "\"a\"b", "\"\""] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_source_panics_and_a_name_of_snowflake_comes_back(text in "\\PC{0,20}", name in "[a-zA-Z0-9_$é ]{1,12}") {
            let _ = Source::parse(&text);
            let snowflake = WarehouseDialect::Snowflake;
            let there = physical_name(snowflake, &published_name(snowflake, &name));
            prop_assert!(there == name || there == name.to_ascii_uppercase());
            prop_assert_eq!(physical_name(WarehouseDialect::PostgreSql, &name), name);
        }
    }
}
