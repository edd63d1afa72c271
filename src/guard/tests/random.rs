//! Random SQL: whatever is approved reads published relations below their secured form, and nothing else.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, Query, Select, SetExpr, Statement, TableFactor, Visit, Visitor,
};
use proptest::prelude::*;

use super::super::namespace::identifiers;
use super::super::*;
use super::corpus::{DIALECTS, namespace};

/// Walks an approved tree with scopes of its own, and says what it should not hold.
struct Claims {
    dialect: Dialect,
    /// Physical names that may be read.
    physical: HashSet<String>,
    /// Columns that nobody may see.
    hidden: &'static [&'static str],
    /// Names of common table expressions, of whatever scope: a bound from above, as the tree is walked once.
    ctes: HashSet<String>,
    broken: Option<String>,
}

impl Claims {
    fn break_with(&mut self, what: String) -> ControlFlow<()> {
        self.broken = Some(what);
        ControlFlow::Break(())
    }
}

impl Visitor for Claims {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.ctes.insert(self.dialect.fold(&cte.alias.name).into_owned());
        }
        let is_read = matches!(
            query.body.as_ref(),
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_)
        );
        match is_read && query.locks.is_empty() {
            true => ControlFlow::Continue(()),
            false => self.break_with(format!("{query}")),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let reads = |name: &ObjectName, physical: &HashSet<String>| physical.contains(&name.to_string());
        let is_secured = select.from.iter().any(
            |from| matches!(&from.relation, TableFactor::Table { name, .. } if reads(name, &self.physical)),
        );
        if is_secured {
            // Directly above a physical relation stands what the guard wrote.
            let text = select.to_string();
            if let Some(hidden) = self.hidden.iter().find(|hidden| text.to_lowercase().contains(*hidden)) {
                return self.break_with(format!("{hidden} in {text}"));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let (name, is_call) = match factor {
            TableFactor::Table { name, args, .. } => (name, args.is_some()),
            TableFactor::Function { name, .. } => (name, true),
            TableFactor::TableFunction { expr: Expr::Function(function), .. } => (&function.name, true),
            TableFactor::TableFunction { .. } => return self.break_with(factor.to_string()),
            _ => return ControlFlow::Continue(()),
        };
        let single = |parts: &[&Ident]| match parts {
            [one] => Some(self.dialect.fold(one).into_owned()),
            _ => None,
        };
        let single = identifiers(name).as_deref().and_then(single);
        let fine = match single {
            Some(name) if is_call => functions::is_table_function(self.dialect, &name.to_ascii_lowercase()),
            Some(name) if self.ctes.contains(&name) => true,
            _ => !is_call && self.physical.contains(&name.to_string()),
        };
        match fine {
            true => ControlFlow::Continue(()),
            false => self.break_with(format!("{name}")),
        }
    }
}

fn broken(approved: &ApprovedSql, namespace: &Namespace) -> Option<String> {
    let dialect = approved.dialect();
    let quoted =
        |parts: &[&str]| parts.iter().map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(".");
    let physical = namespace.relations().map(|relation| match dialect {
        Dialect::DataFusion => quoted(&[PHYSICAL_CATALOG, &relation.schema, &relation.name]),
        _ => quoted(&relation.source.iter().map(String::as_str).collect::<Vec<_>>()),
    });
    let mut claims = Claims {
        dialect,
        physical: physical.collect(),
        hidden: &["password_hash", "ssn", "card_number", "salary", "crew_note"],
        ctes: HashSet::new(),
        broken: None,
    };
    let Statement::Query(query) = approved.statement() else { return Some("no query".to_owned()) };
    let _: ControlFlow<()> = query.visit(&mut claims);
    claims.broken
}

/// A relation, honest or not.
fn relation() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "flights",
        "air.flights",
        "AIR.Flights",
        "\"air\".\"flights\"",
        "\"AIR\".\"FLIGHTS\"",
        "users",
        "shop.users",
        "payments",
        "t",
        "\"t\"",
        "T",
        "\"T\"",
        "secrets",
        "app_users",
        "shop.app_users",
        "pg_class",
        "physical.shop.users",
        "\"public\".\"flights\"",
        "information_schema.tables",
        "@stage",
        "IDENTIFIER('app_users')",
        "'/etc/passwd'",
        "generate_series(1, 3)",
        "TABLE(FLATTEN(input => 1))",
        "TABLE(RESULT_SCAN('x'))",
        "dblink('x')",
        "LATERAL FLATTEN(1)",
        "unnest(ARRAY[1])",
        "VALUES (1)",
        "(VALUES (1))",
        "users AT(OFFSET => -1)",
        "users PIVOT (sum(user_id) FOR plan IN (1))",
        "ROWS FROM (pg_ls_dir('.'))",
        "ONLY users",
        "users TABLESAMPLE SYSTEM (1)",
    ])
    .prop_map(str::to_owned)
}

fn leaf() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "1",
        "'x'",
        "NULL",
        "carrier",
        "f.carrier",
        "u.user_id",
        "u.ssn",
        "password_hash",
        "\"ssn\"",
        "f.ctid",
        "t.x",
        "*",
        "current_user",
        "$1",
        "$$a'b$$",
        "E'\\''",
        "'a\\'",
        "U&'\\0061'",
        "pg_sleep(1)",
        "SYSTEM$WAIT(1)",
        "version()",
        "lower('A')",
        "count(*)",
        "now()",
        "DATE '2024-01-01'",
        "'pg_class'::regclass",
        "x::int",
        "('x').pg_read_file",
        "f.*",
        "seq.nextval",
        "a:b.c",
        "- -1",
        "ARRAY[1, 2]",
        "'--'",
        "'/*'",
        "\"a\"\"b\"",
        "row_to_json(u)",
    ])
    .prop_map(str::to_owned)
}

fn expression(query: BoxedStrategy<String>) -> BoxedStrategy<String> {
    leaf()
        .prop_recursive(3, 12, 3, move |inner| {
            prop_oneof![
                (
                    inner.clone(),
                    prop::sample::select(vec!["+", "-", "||", "=", "AND", "->>", "<->", "%"]),
                    inner.clone()
                )
                    .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
                inner.clone().prop_map(|expr| format!("-({expr})")),
                inner.clone().prop_map(|expr| format!("NOT {expr}")),
                inner.clone().prop_map(|expr| format!("coalesce({expr}, 'y')")),
                inner.clone().prop_map(|expr| format!("CAST({expr} AS text)")),
                inner.clone().prop_map(|expr| format!("CASE WHEN {expr} THEN {expr} END")),
                query.clone().prop_map(|query| format!("({query})")),
                query.clone().prop_map(|query| format!("EXISTS ({query})")),
                (inner, query.clone()).prop_map(|(expr, query)| format!("{expr} IN ({query})")),
            ]
        })
        .boxed()
}

fn select(factor: BoxedStrategy<String>, expr: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let tail = prop::sample::select(vec![
        "",
        " ORDER BY 1",
        " LIMIT 5",
        " FOR UPDATE",
        " QUALIFY 1 = 1",
        " GROUP BY ALL",
        "; DROP TABLE x",
        " -- x",
    ]);
    let join = prop::sample::select(vec![", ", " JOIN ", " NATURAL JOIN ", " CROSS JOIN ", ", LATERAL "]);
    (expr.clone(), factor.clone(), join, factor, prop::option::of(expr), tail).prop_map(
        |(item, first, join, second, filter, tail)| {
            let filter = filter.map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
            format!("SELECT {item} FROM {first} f{join}{second} u{filter}{tail}")
        },
    )
}

fn query() -> BoxedStrategy<String> {
    let simple = relation().prop_map(|relation| format!("SELECT * FROM {relation}")).boxed();
    simple
        .prop_recursive(3, 24, 4, |inner| {
            let inner = inner.boxed();
            let factor =
                prop_oneof![relation(), inner.clone().prop_map(|query| format!("({query})"))].boxed();
            let name = prop::sample::select(vec!["t", "\"t\"", "T", "flights", "secrets", "\"USERS\""]);
            prop_oneof![
                select(factor, expression(inner.clone())),
                (prop::bool::ANY, name, inner.clone(), inner.clone()).prop_map(
                    |(recursive, name, cte, body)| {
                        let recursive = if recursive { "RECURSIVE " } else { "" };
                        format!("WITH {recursive}{name} AS ({cte}) {body}")
                    }
                ),
                (inner.clone(), inner).prop_map(|(left, right)| format!("{left} UNION ALL {right}")),
            ]
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_approved_reads_published_relations_alone(sql in query()) {
        let namespace = namespace();
        for dialect in DIALECTS {
            if let Ok(approved) = approve(&sql, &namespace, dialect, 10) {
                prop_assert_eq!(broken(&approved, &namespace), None, "{}\n{}", sql, approved.sql());
            }
        }
    }

    #[test]
    fn no_soup_of_tokens_panics_or_escapes(words in prop::collection::vec(prop_oneof![
        relation(), leaf(),
        prop::sample::select(vec![
            "SELECT", "FROM", "WHERE", "WITH", "RECURSIVE", "AS", "(", ")", ",", "UNION", "JOIN", "ON", "USING", "LATERAL",
            "TABLE", "VALUES", "INTO", "FOR", "UPDATE", "ORDER BY", "GROUP BY", "LIMIT", "OVER", "FILTER", "PIVOT", "QUALIFY",
            "CASE", "WHEN", "END", "::", ".", ";", "--", "/*", "*/", "'", "\"", "$$", "\\", "E'", "@", ":", "?", "[", "]",
            "{", "}", "\u{200b}", "\u{212a}", "\0", "INSERT", "DELETE", "RETURNING", "EXECUTE", "IMMEDIATE", "BEGIN",
        ]).prop_map(str::to_owned)
    ], 1..20)) {
        let namespace = namespace();
        let sql = words.join(" ");
        for dialect in DIALECTS {
            if let Ok(approved) = approve(&sql, &namespace, dialect, 10) {
                prop_assert_eq!(broken(&approved, &namespace), None, "{}\n{}", sql, approved.sql());
            }
        }
    }

    /// A text in any spelling is the same text afterwards, whatever is in it.
    #[test]
    fn any_text_survives_the_way_to_the_warehouse(text in "[\\PC\n\t]{0,12}", quotes in "['\\\\$\"]{0,4}", at in 0..8usize) {
        let mut chars: Vec<char> = text.chars().collect();
        chars.splice(at.min(chars.len())..at.min(chars.len()), quotes.chars());
        let text: String = chars.into_iter().collect();
        let doubled = text.replace('\'', "''");
        for (dialect, sql) in [
            (Dialect::PostgreSql, format!("SELECT '{doubled}' AS t")),
            (Dialect::Snowflake, format!("SELECT '{}' AS t", doubled.replace('\\', "\\\\"))),
        ] {
            match approve(&sql, &Namespace::default(), dialect, 10) {
                Ok(approved) => prop_assert_eq!(read_back(&approved.sql(), dialect), Some(text.clone())),
                Err(refusal) => prop_assert_eq!(refusal.rule, "not-exact", "{}", sql),
            }
        }
    }
}

/// The first literal of a query, decoded by rules that are written here once more.
fn read_back(sql: &str, dialect: Dialect) -> Option<String> {
    let rest = sql.strip_prefix("SELECT ")?;
    if let Some(rest) = rest.strip_prefix("$$") {
        return rest.split_once("$$ AS t").map(|(text, _)| text.to_owned());
    }
    let (escapes, rest) = match rest.strip_prefix("E'") {
        Some(rest) => (true, rest),
        None => (dialect == Dialect::Snowflake, rest.strip_prefix('\'')?),
    };
    let (mut text, mut chars) = (String::new(), rest.chars().peekable());
    loop {
        match chars.next()? {
            '\'' if chars.peek() == Some(&'\'') => {
                chars.next();
                text.push('\'');
            }
            '\'' => return Some(text),
            '\\' if escapes => text.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            other => text.push(other),
        }
    }
}
