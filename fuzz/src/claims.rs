//! What must hold of every approved query, whatever the text was.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement, TableFactor, Visit, Visitor};

use crate::guard::{Column, Dialect, Namespace, PHYSICAL_CATALOG, Relation, approve};
use crate::semantic::parse_expression;

const DIALECTS: [Dialect; 3] = [Dialect::DataFusion, Dialect::PostgreSql, Dialect::Snowflake];

static NAMESPACE: LazyLock<Namespace> = LazyLock::new(|| {
    let mut namespace = Namespace::default();
    for (name, columns) in
        [("flights", ["carrier", "origin", "delay"]), ("users", ["carrier", "name", "email"])]
    {
        let column = |name: &str| Column { name: name.to_owned(), expression: None };
        namespace.insert(Relation {
            schema: "air".to_owned(),
            name: name.to_owned(),
            source: vec!["public".to_owned(), format!("physical_{name}")],
            columns: columns.map(column).to_vec(),
            row_filter: parse_expression("origin = 'JFK'").ok(),
            missing_scope: None,
        });
    }
    namespace
});

/// Panics where a claim does not hold.
pub fn hold(text: &str) {
    for dialect in DIALECTS {
        let Ok(approved) = approve(text, &NAMESPACE, dialect, 10) else { continue };
        let Statement::Query(query) = approved.statement() else { panic!("no query: {text}") };
        let mut tables = Tables { dialect, text, secured: 0 };
        let _: ControlFlow<()> = query.visit(&mut tables);
        // The text parses, and nothing in it reaches what the tree does not.
        let sent = approved.sql();
        if dialect.is_remote() {
            assert_eq!(sent.matches("\"physical_").count(), tables.secured, "{text}\n{sent}");
        }
        let again = approve(text, &NAMESPACE, dialect, 10).map(|again| again.sql());
        assert_eq!(again.as_ref(), Ok(&sent), "{text}");
    }
}

struct Tables<'t> {
    dialect: Dialect,
    text: &'t str,
    secured: usize,
}

impl Visitor for Tables<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor {
            let name = name.to_string();
            let physical = match self.dialect {
                Dialect::DataFusion => format!("\"{PHYSICAL_CATALOG}\"."),
                _ => "\"public\".\"physical_".to_owned(),
            };
            if name.starts_with(&physical) {
                self.secured += 1;
            } else {
                // A CTE: one name, without a schema.
                assert!(
                    !name.replace("\"\"", "").trim_matches('"').contains("\".\""),
                    "{name}: {}",
                    self.text
                );
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        assert!(query.locks.is_empty(), "{}", self.text);
        assert!(
            matches!(
                query.body.as_ref(),
                SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_)
            ),
            "{}",
            self.text
        );
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_claims_hold_of_plain_queries() {
        for text in ["SELECT * FROM flights", "WITH t AS (SELECT 1 AS x) SELECT * FROM t, users u"] {
            super::hold(text);
        }
    }
}
