//! Functions that a query may call, a list for each dialect. What is on none of them is refused in every position.

mod datafusion;
mod postgresql;
mod snowflake;

use super::dialect::Dialect;

fn allowed(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::DataFusion => datafusion::ALLOWED,
        Dialect::PostgreSql => postgresql::ALLOWED,
        Dialect::Snowflake => snowflake::ALLOWED,
    }
}

/// Functions that would make much out of little: their result's size is bounded by an argument, not by the data.
pub(super) const SIZE_BY_ARGUMENT: &[&str] = &["generate_series", "generator", "lpad", "range", "rpad"];

/// True if a query on the embedded engine may call the function of this lower-case name.
pub fn is_allowed(name: &str) -> bool {
    is_allowed_in(Dialect::DataFusion, name)
}

/// True if a query in this dialect may call the function of this lower-case name.
pub(super) fn is_allowed_in(dialect: Dialect, name: &str) -> bool {
    allowed(dialect).binary_search(&name).is_ok()
}

/// True if the function of this lower-case name may stand in FROM.
pub(super) fn is_table_function(dialect: Dialect, name: &str) -> bool {
    let list = match dialect {
        Dialect::DataFusion => datafusion::TABLE,
        Dialect::PostgreSql => postgresql::TABLE,
        Dialect::Snowflake => snowflake::TABLE,
    };
    list.contains(&name)
}

/// The allowed name nearest to `name`, if any is near.
pub(super) fn nearest(dialect: Dialect, name: &str) -> String {
    crate::semantic::did_you_mean(name, allowed(dialect).iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_so_that_look_ups_find_everything() {
        for dialect in [Dialect::DataFusion, Dialect::PostgreSql, Dialect::Snowflake] {
            assert!(allowed(dialect).is_sorted(), "{dialect:?}");
        }
    }

    #[test]
    fn no_list_has_a_function_of_a_family_that_reaches_outside() {
        for name in [Dialect::PostgreSql, Dialect::Snowflake, Dialect::DataFusion].map(allowed).concat() {
            for family in [
                "pg_",
                "lo_",
                "dblink",
                "system",
                "current_setting",
                "query_to",
                "xml",
                "has_",
                "txid",
                "ts_",
            ] {
                assert!(!name.starts_with(family), "{name}");
            }
        }
    }
}
