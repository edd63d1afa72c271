//! What differs between the dialects: names, the secured form, literals, and what is sent.

use datafusion::sql::sqlparser::ast::Expr;

use super::super::*;
use super::corpus::{DIALECTS, namespace as shop};
use crate::semantic::parse_expression;

/// `air.flights` with a filter and a mask, and `air."Mixed"`, whose names are no plain ones.
fn namespace() -> Namespace {
    let column = |name: &str, expression: Option<&str>| Column {
        name: name.to_owned(),
        expression: expression.map(|text| std::sync::Arc::new(parse_expression(text).unwrap())),
    };
    let mut namespace = Namespace::default();
    namespace.insert(Relation {
        schema: "air".to_owned(),
        name: "flights".to_owned(),
        source: ["PROD", "Ops", "FLIGHTS_V2"].map(str::to_owned).to_vec(),
        columns: vec![
            column("carrier", None),
            column("delay", Some("dep_delay")),
            column("tail", Some("NULL")),
        ],
        row_filter: Some(parse_expression("origin = 'JFK'").unwrap()),
        missing_scope: None,
    });
    namespace.insert(Relation {
        schema: "air".to_owned(),
        name: "Mixed".to_owned(),
        source: vec!["mixed".to_owned()],
        columns: vec![column("Order Date", None), column("id", None)],
        row_filter: None,
        missing_scope: None,
    });
    namespace.insert(Relation {
        schema: "semantic".to_owned(),
        name: "fields".to_owned(),
        source: Vec::new(),
        columns: vec![column("name", None)],
        row_filter: None,
        missing_scope: None,
    });
    namespace
}

fn sent(sql: &str, dialect: Dialect) -> String {
    approve(sql, &namespace(), dialect, 10).unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}")).sql()
}

fn rule(sql: &str, dialect: Dialect) -> &'static str {
    match approve(sql, &namespace(), dialect, 10) {
        Ok(approved) => panic!("approved: {sql}\n{}", approved.sql()),
        Err(refusal) => refusal.rule,
    }
}

#[test]
fn a_secured_relation_has_the_names_that_its_warehouse_has() {
    assert_eq!(
        sent("SELECT carrier, delay FROM flights", Dialect::PostgreSql),
        r#"SELECT carrier, delay FROM (SELECT "carrier", dep_delay AS "delay" FROM "PROD"."Ops"."FLIGHTS_V2" WHERE origin = 'JFK' LIMIT 9223372036854775807) AS "flights" LIMIT 11"#
    );
    assert_eq!(
        sent("SELECT carrier, delay FROM flights", Dialect::Snowflake),
        r#"SELECT carrier, delay FROM (SELECT "CARRIER", dep_delay AS "DELAY" FROM "PROD"."Ops"."FLIGHTS_V2" WHERE origin = 'JFK' LIMIT 9223372036854775807) AS "FLIGHTS" LIMIT 11"#
    );
}

#[test]
fn unquoted_references_find_a_secured_relation_as_the_dialect_folds_them() {
    // Snowflake folds `flights.carrier` to "FLIGHTS"."CARRIER", which is what the secured form calls them.
    let sql = sent("SELECT Flights.Carrier FROM AIR.Flights", Dialect::Snowflake);
    assert!(sql.contains(r#"AS "FLIGHTS""#), "{sql}");
    let sql = sent(r#"SELECT "FLIGHTS"."CARRIER" FROM "AIR"."FLIGHTS""#, Dialect::Snowflake);
    assert!(sql.contains(r#"AS "FLIGHTS""#), "{sql}");
    // The model's own spelling in quotes is understood, and keeps its name.
    let sql = sent(r#"SELECT "flights".carrier FROM "air"."flights""#, Dialect::Snowflake);
    assert!(sql.contains(r#"AS "flights""#), "{sql}");
    assert_eq!(rule(r#"SELECT 1 FROM "Flights""#, Dialect::Snowflake), "unknown-relation");
    assert_eq!(rule(r#"SELECT 1 FROM "FLIGHTS""#, Dialect::PostgreSql), "unknown-relation");
    // Names that are not plain are found in quotes alone, as they stand.
    for dialect in [Dialect::PostgreSql, Dialect::Snowflake] {
        assert!(sent(r#"SELECT "Order Date" FROM "Mixed""#, dialect).contains(r#"FROM "mixed") AS "Mixed""#));
        assert_eq!(rule("SELECT 1 FROM mixed", dialect), "unknown-relation");
    }
}

#[test]
fn a_cte_is_in_scope_under_the_name_to_which_the_dialect_folds() {
    for (dialect, sql) in [
        (Dialect::Snowflake, r#"WITH t AS (SELECT 1 AS x) SELECT * FROM "T""#),
        (Dialect::PostgreSql, r#"WITH T AS (SELECT 1 AS x) SELECT * FROM "t""#),
        (Dialect::DataFusion, r#"WITH T AS (SELECT 1 AS x) SELECT * FROM "t""#),
    ] {
        sent(sql, dialect);
    }
    for (dialect, sql) in [
        (Dialect::Snowflake, r#"WITH t AS (SELECT 1 AS x) SELECT * FROM "t""#),
        (Dialect::PostgreSql, r#"WITH T AS (SELECT 1 AS x) SELECT * FROM "T""#),
        // Inside its own first half, a recursive CTE's name means what it meant before.
        (Dialect::PostgreSql, "WITH RECURSIVE t AS (SELECT * FROM t UNION ALL SELECT 1) SELECT * FROM t"),
        (Dialect::Snowflake, "WITH t AS (SELECT * FROM t UNION ALL SELECT 1) SELECT * FROM t"),
        (Dialect::PostgreSql, "WITH t AS (SELECT 1 UNION ALL SELECT * FROM t) SELECT * FROM t"),
    ] {
        assert_eq!(rule(sql, dialect), "unknown-relation", "{sql}");
    }
    for dialect in DIALECTS {
        let sql = sent(
            "WITH RECURSIVE flights AS (SELECT carrier, 1 AS n FROM flights UNION ALL SELECT carrier, n + 1 FROM flights WHERE n < 3) SELECT * FROM flights",
            dialect,
        );
        assert_eq!(sql.matches("JFK").count(), 1, "{sql}");
    }
}

/// Where engines differ in what a name inside a CTE means, it must not become a table.
#[test]
fn a_cte_is_sent_under_a_name_that_no_table_has() {
    assert_eq!(
        sent(
            "WITH Salaries (a) AS (SELECT 1 UNION SELECT a FROM salaries) SELECT Salaries.a FROM SALARIES",
            Dialect::Snowflake
        ),
        r#"WITH "cte:SALARIES" (a) AS (SELECT 1 UNION SELECT a FROM "cte:SALARIES" AS "SALARIES") SELECT Salaries.a FROM "cte:SALARIES" AS "SALARIES" LIMIT 11"#
    );
    assert_eq!(
        sent("WITH t AS (SELECT 1 AS a) SELECT x.a, t.a FROM t, T AS x", Dialect::PostgreSql),
        r#"WITH "cte:t" AS (SELECT 1 AS a) SELECT x.a, t.a FROM "cte:t" AS "t", "cte:t" AS x LIMIT 11"#
    );
}

#[test]
fn every_spelling_of_a_text_is_sent_as_the_same_text() {
    for (dialect, spelling, text) in [
        (Dialect::PostgreSql, r"'it''s'", r"'it''s'"),
        (Dialect::PostgreSql, r"E'it\'s'", r"'it''s'"),
        (Dialect::PostgreSql, r"$$it's$$", r"'it''s'"),
        (Dialect::PostgreSql, r"$q$ $$ '' $q$", r"E' $$ \'\' '"),
        (Dialect::PostgreSql, r"'a\'", r"E'a\\'"),
        (Dialect::PostgreSql, r"''''''", r"E'\'\''"),
        (Dialect::PostgreSql, r"U&'d\0061ta'", r"'data'"),
        (Dialect::Snowflake, r"'it\'s'", r"'it''s'"),
        (Dialect::Snowflake, r"'a\\b'", r"$$a\b$$"),
        (Dialect::Snowflake, r"'\x41\u0042\103'", r"'ABC'"),
        (Dialect::Snowflake, r"$$a\b'c$$", r"$$a\b'c$$"),
    ] {
        assert_eq!(sent(&format!("SELECT {spelling} AS t"), dialect), format!("SELECT {text} AS t LIMIT 11"));
    }
    // There is no spelling for everything.
    assert_eq!(rule(r"SELECT 'a\\ $$ b'", Dialect::Snowflake), "not-exact");
    assert_eq!(rule("SELECT 'a\0b'", Dialect::PostgreSql), "not-exact");
}

#[test]
fn operators_never_run_together_into_a_comment() {
    for dialect in [Dialect::PostgreSql, Dialect::Snowflake] {
        assert_eq!(sent("SELECT - - 1, - -2", dialect), "SELECT -(-1), -(-2) LIMIT 11");
        assert_eq!(sent("SELECT 1 - -1", dialect), "SELECT 1 - -1 LIMIT 11");
    }
}

#[test]
fn a_relation_of_another_warehouse_is_not_sent_to_this_one() {
    sent("SELECT name FROM semantic.fields", Dialect::DataFusion);
    assert_eq!(rule("SELECT name FROM semantic.fields", Dialect::PostgreSql), "other-warehouse");
    assert_eq!(
        rule("SELECT * FROM flights, (SELECT name FROM semantic.fields) f", Dialect::Snowflake),
        "other-warehouse"
    );
}

#[test]
fn a_pivoted_relation_is_secured_where_it_stands() {
    let sql =
        sent("SELECT * FROM flights PIVOT (sum(delay) FOR carrier IN ('AA', 'UA')) AS p", Dialect::Snowflake);
    assert!(sql.contains("LIMIT 9223372036854775807) PIVOT(SUM(delay)") || sql.contains(") PIVOT("), "{sql}");
    assert!(sql.contains(r#"FROM (SELECT "CARRIER""#), "{sql}");
}

#[test]
fn the_same_query_is_always_sent_as_the_same_text() {
    let namespace = shop();
    for (dialect, sql) in super::corpus::honest() {
        let first = approve(&sql, &namespace, dialect, 100).unwrap();
        let second = approve(&sql, &namespace, dialect, 100).unwrap();
        assert_eq!(first.sql(), second.sql());
        assert_eq!(first.columns(), second.columns());
        if dialect.is_remote() {
            // G7: parsed again, it is the tree that was checked; printed again, the same text.
            let mut again = tokens::reparse(&first.sql(), dialect).unwrap();
            assert_eq!(exact::print(&mut again, dialect).unwrap(), first.sql());
            assert_eq!(&again, first.statement());
            assert!(!first.sql().contains(PHYSICAL_CATALOG));
        }
    }
}

#[test]
fn a_secured_text_is_refused_when_it_comes_back_as_a_query() {
    // Physical names are nobody's to say.
    for dialect in DIALECTS {
        assert_eq!(rule(&sent("SELECT carrier FROM flights", dialect), dialect), "unknown-relation");
    }
}

fn touched(sql: &str, dialect: Dialect) -> Vec<String> {
    let approved = approve(sql, &shop(), dialect, 10).unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    approved.columns().iter().map(|touched| format!("{}.{}", touched.relation, touched.column)).collect()
}

#[test]
fn the_columns_that_a_query_touches_are_told() {
    for dialect in DIALECTS {
        let both = ["airlines.carrier", "airlines.name", "flights.carrier", "flights.dep_delay"];
        let sql = "SELECT a.NAME, avg(dep_delay) FROM flights f JOIN airlines a ON a.carrier = f.carrier GROUP BY a.name";
        assert_eq!(touched(sql, dialect), both);
        assert_eq!(touched("SELECT count(*) FROM airlines", dialect), [""; 0]);
        assert_eq!(touched("SELECT * FROM airlines", dialect), ["airlines.carrier", "airlines.name"]);
        assert_eq!(
            touched("SELECT a.* FROM airlines a, region r WHERE r.r_name = 'x'", dialect),
            ["airlines.carrier", "airlines.name", "region.r_name"]
        );
        assert_eq!(
            touched("SELECT x.name FROM (SELECT name FROM airlines) x ORDER BY 1", dialect),
            ["airlines.name"]
        );
        assert_eq!(
            touched("WITH t AS (SELECT * FROM airlines) SELECT carrier FROM t", dialect),
            ["airlines.carrier", "airlines.name"]
        );
        assert_eq!(
            touched("SELECT 1 FROM airlines NATURAL JOIN (SELECT 'AA' AS carrier) t", dialect),
            ["airlines.carrier", "airlines.name"]
        );
        assert_eq!(
            touched("SELECT 1 FROM airlines JOIN (SELECT 'AA' AS carrier) t USING (carrier)", dialect),
            ["airlines.carrier"]
        );
    }
    // A name that stands for several columns, or for them under another name.
    for (dialect, sql) in [
        (Dialect::PostgreSql, "SELECT a FROM airlines a WHERE a.name = 'x'"),
        (Dialect::PostgreSql, "SELECT (SELECT count(a.*)) FROM airlines a"),
        (Dialect::PostgreSql, "SELECT x.* FROM (airlines a CROSS JOIN (SELECT 1) t) AS x"),
        (Dialect::PostgreSql, "SELECT x.name FROM (airlines a CROSS JOIN (SELECT 1) t) AS x"),
        (Dialect::PostgreSql, "SELECT code FROM airlines AS a(code, label)"),
        (Dialect::DataFusion, "SELECT code FROM airlines AS a(code, label)"),
        (Dialect::DataFusion, "SELECT 1 FROM region, airlines WHERE (SELECT count(airlines.*)) > 1"),
        (Dialect::Snowflake, "SELECT count(airlines.*) FROM airlines"),
        (Dialect::Snowflake, "SELECT 1 FROM airlines WHERE object_construct(*) IS NOT NULL"),
        (Dialect::Snowflake, "SELECT name FROM airlines UNPIVOT (v FOR k IN (carrier)) u"),
    ] {
        let told = touched(sql, dialect);
        assert!(
            ["airlines.carrier", "airlines.name"].iter().all(|column| told.iter().any(|t| t == column)),
            "{sql}: {told:?}"
        );
    }
    // A whole row is all of it.
    assert_eq!(
        touched("SELECT row_to_json(a) FROM airlines a", Dialect::PostgreSql),
        ["airlines.carrier", "airlines.name"]
    );
    assert_eq!(
        touched("SELECT object_construct(*) FROM airlines", Dialect::Snowflake),
        ["airlines.carrier", "airlines.name"]
    );
}

#[test]
fn an_unknown_column_gets_suggestions_from_permitted_ones_alone() {
    let refusal =
        approve("SELECT u.pasword_hash FROM users u", &shop(), Dialect::PostgreSql, 10).unwrap_err();
    assert_eq!(refusal.rule, "unknown-column");
    assert!(!refusal.help.contains("password"), "{}", refusal.help);
    let refusal = approve("SELECT u.contry FROM users u", &shop(), Dialect::PostgreSql, 10).unwrap_err();
    assert_eq!(refusal.help, "did you mean `country`?");
    assert_eq!(refusal.position, Some((1, 10)));
    // A column that is hidden looks like one that is not there.
    let told = |column: &str| {
        let sql = format!("SELECT u.{column} FROM users u");
        approve(&sql, &shop(), Dialect::PostgreSql, 10).unwrap_err().to_string().replace(column, "x")
    };
    assert_eq!(told("ssn"), told("zzq"));
}

#[test]
fn a_secured_relation_has_what_the_query_can_mean_and_no_more() {
    let secured = |sql: &str, dialect: Dialect| {
        let sent =
            approve(sql, &shop(), dialect, 10).unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}")).sql();
        let (_, rest) = sent.split_once("(SELECT \"").unwrap();
        rest.split_once(" FROM").unwrap().0.replace('"', "").to_lowercase()
    };
    for dialect in DIALECTS {
        for (sql, columns) in [
            ("SELECT name FROM airlines", "name"),
            ("SELECT a.NAME FROM airlines a", "name"),
            ("SELECT air.airlines.name FROM air.airlines", "name"),
            // Rows are counted by some column.
            ("SELECT count(*) FROM airlines", "carrier"),
            ("SELECT EXISTS (SELECT 1 FROM airlines)", "carrier"),
            ("SELECT 1 FROM airlines ORDER BY name", "name"),
            ("SELECT 1 FROM airlines GROUP BY carrier, name HAVING max(name) > 'x'", "carrier, name"),
            ("SELECT sum(1) OVER (PARTITION BY name) AS n FROM airlines", "name"),
            ("SELECT 1 FROM airlines a JOIN region r ON r.r_name = a.name", "name"),
            ("SELECT 1 FROM airlines a WHERE EXISTS (SELECT 1 FROM region WHERE r_name = a.name)", "name"),
            ("SELECT * FROM airlines", "carrier, name"),
        ] {
            assert_eq!(secured(sql, dialect), columns, "{sql}");
        }
    }
}

#[test]
fn is_distinct_from_ends_before_and() {
    for dialect in DIALECTS {
        for (sql, operators) in [
            ("SELECT 1 FROM airlines WHERE name IS NOT DISTINCT FROM 'x' AND carrier = 'y'", "AND"),
            ("SELECT 1 FROM airlines WHERE name IS DISTINCT FROM carrier OR carrier = 'y'", "OR"),
            (
                "SELECT 1 FROM airlines WHERE carrier = 'y' AND name IS DISTINCT FROM 'x' OR carrier = 'z'",
                "OR",
            ),
        ] {
            let approved = approve(sql, &shop(), dialect, 10).unwrap();
            let Statement::Query(query) = approved.statement() else { panic!("{sql}") };
            let SetExpr::Select(select) = query.body.as_ref() else { panic!("{sql}") };
            let Some(Expr::BinaryOp { op, .. }) = &select.selection else {
                panic!("{sql}: {:?}", select.selection)
            };
            assert_eq!(op.to_string(), operators, "{sql}");
        }
    }
    // Where the parser is used as it is, it has to be told.
    assert!(parse_expression("a IS DISTINCT FROM 1 AND b = 2").is_err());
    assert!(parse_expression("(a IS DISTINCT FROM 1) AND b = 2").is_ok());
    assert!(parse_expression("b = 2 AND a IS NOT DISTINCT FROM 1").is_ok());
}

#[test]
fn what_the_embedded_engine_gets_wrong_is_refused_there_with_a_way_out() {
    for (sql, help) in [
        ("SELECT carrier FROM flights FULL JOIN airlines USING (carrier)", "coalesce"),
        ("SELECT carrier FROM flights NATURAL RIGHT JOIN airlines", "coalesce"),
        ("SELECT carrier FROM flights EXCEPT ALL SELECT carrier FROM airlines", "row_number"),
        (
            "SELECT 1 FROM (SELECT carrier FROM flights INTERSECT ALL SELECT carrier FROM airlines) AS t",
            "row_number",
        ),
    ] {
        let refusal = approve(sql, &shop(), Dialect::DataFusion, 10).unwrap_err();
        assert!(refusal.rule == "construct" && refusal.help.contains(help), "{sql}: {refusal:?}");
        approve(sql, &shop(), Dialect::PostgreSql, 10).unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    }
}
