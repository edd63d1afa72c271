//! What the guard parses on its own is what the parser would have made of it.

use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::parser::Parser;
use proptest::prelude::*;
use serde::Deserialize;

use super::super::*;
use super::corpus::{DIALECTS, honest};

/// By the parser alone.
fn plainly(sql: &str, dialect: Dialect) -> Option<Vec<Statement>> {
    let parser = Parser::new(dialect.parser()).with_recursion_limit(64);
    parser.try_with_sql(sql).ok()?.parse_statements().ok()
}

fn by_the_guard(sql: &str, dialect: Dialect) -> Option<Vec<Statement>> {
    let mut tokens = datafusion::sql::sqlparser::tokenizer::Tokenizer::new(dialect.parser(), sql);
    tokens::statements(tokens.tokenize_with_location().ok()?, dialect).ok()
}

#[derive(Deserialize)]
struct Text {
    sql: String,
}

#[test]
fn the_corpora_parse_to_the_same_trees() {
    let attacks: Vec<Text> =
        serde_saphyr::from_str(include_str!("../../../tests/guard/attacks.yaml")).unwrap();
    let honest = honest().into_iter().map(|(_, sql)| sql);
    // Of IS DISTINCT FROM the guard makes something else, and means to.
    let texts = attacks.into_iter().map(|attack| attack.sql).chain(honest);
    for sql in texts.filter(|sql| !sql.contains("DISTINCT FROM")) {
        for dialect in DIALECTS {
            let guards = by_the_guard(&sql, dialect);
            // The guard gives up on texts that take the parser too long; the parser is not asked then either.
            if guards.is_some() || sql.len() < 2_000 {
                assert_eq!(guards, plainly(&sql, dialect), "{dialect:?}: {sql}");
            }
        }
    }
}

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a",
        "b",
        "t",
        "x",
        "\"a b\"",
        "date",
        "xml",
        "_utf8",
        "sum",
        "count",
        "f",
        "min",
        "interval",
        "name",
        "point",
        "1",
        "2.5",
        "'s'",
        "N's'",
        "E's'",
        "$1",
        "NULL",
        "*",
        "(",
        ")",
        "(",
        ")",
        "(+)",
        ",",
        ",",
        ".",
        ".",
        "[",
        "]",
        "::",
        ":",
        "->",
        "=>",
        ":=",
        "=",
        "<",
        "<>",
        "+",
        "-",
        "/",
        "||",
        "%",
        "AND",
        "OR",
        "NOT",
        "IS",
        "IN",
        "LIKE",
        "BETWEEN",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "AS",
        "OVER",
        "FILTER",
        "WHERE",
        "ORDER BY",
        "ASC",
        "COLLATE",
        "DISTINCT",
        "AT TIME ZONE",
        "CAST",
        "int",
        "ARRAY",
        "EXISTS",
        "SELECT",
        "FROM",
        "WITHIN GROUP",
        "double precision",
        "timestamp",
        "LIMIT",
        "GROUP BY",
        "-- c\n",
        "/* c */",
        "PRIOR",
        "ANY",
        "INTERVAL '1' DAY",
        "ROW",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn random_expressions_parse_to_the_same_trees(pieces in prop::collection::vec(piece(), 1..14), tight in any::<bool>()) {
        let sql = format!("SELECT {} FROM t", pieces.join(if tight { "" } else { " " }));
        for dialect in DIALECTS {
            prop_assert_eq!(by_the_guard(&sql, dialect), plainly(&sql, dialect), "{:?}: {}", dialect, sql);
        }
    }
}
