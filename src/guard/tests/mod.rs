//! The guard's claims, each with the attack.

mod corpus;
mod dialects;
mod prefix;
mod random;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::semantic::parse_expression;

fn namespace() -> Namespace {
    let column = |name: &str| Column { name: name.to_owned(), expression: None };
    let relation = |schema: &str, name: &str, columns: &[&str]| Relation {
        schema: schema.to_owned(),
        name: name.to_owned(),
        source: Vec::new(),
        columns: columns.iter().map(|name| column(name)).collect(),
        row_filter: None,
        missing_scope: None,
    };
    let mut namespace = Namespace::default();
    let mut flights = relation("air", "flights", &["carrier", "origin", "delay"]);
    flights.row_filter = Some(parse_expression("origin = 'JFK'").unwrap());
    flights.columns[2].expression = Some(Arc::new(parse_expression("dep_delay").unwrap()));
    namespace.insert(flights);
    namespace.insert(relation("air", "airlines", &["carrier", "name"]));
    let mut planes = relation("air", "planes", &["tail"]);
    planes.missing_scope = Some("sql:run:air.planes".to_owned());
    namespace.insert(planes);
    namespace
}

fn ok(sql: &str) -> ApprovedSql {
    approve(sql, &namespace(), Dialect::DataFusion, 100)
        .unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"))
}

fn rule(sql: &str) -> &'static str {
    match approve(sql, &namespace(), Dialect::DataFusion, 100) {
        Ok(approved) => panic!("approved: {sql}\n{}", approved.sql()),
        Err(refusal) => refusal.rule,
    }
}

const COLUMNS: [&str; 3] = [r#""carrier""#, r#""origin""#, r#"dep_delay AS "delay""#];

/// How often `air.flights` is read in its secured form, of which it has some columns; nothing else may read it.
fn secured_places(sql: &str) -> usize {
    let parts: Vec<&str> = sql.split(r#" FROM "physical"."air"."flights""#).collect();
    for pair in parts.windows(2) {
        let (_, columns) = pair[0].rsplit_once("(SELECT ").unwrap();
        assert!(columns.split(", ").all(|column| COLUMNS.contains(&column)), "{sql}");
        assert!(pair[1].starts_with(" WHERE origin = 'JFK' LIMIT 9223372036854775807)"), "{sql}");
    }
    parts.len() - 1
}

#[test]
fn a_relation_becomes_its_secured_form_wherever_it_stands() {
    for sql in [
        "SELECT carrier FROM flights",
        "SELECT carrier FROM air.flights",
        "SELECT f.carrier FROM AIR.Flights f",
        r#"SELECT carrier FROM "air"."flights""#,
        "WITH x AS (SELECT * FROM flights) SELECT * FROM x",
        "SELECT 1 UNION ALL SELECT delay FROM flights",
        "SELECT * FROM airlines WHERE EXISTS (SELECT 1 FROM flights WHERE flights.carrier = airlines.carrier)",
        "SELECT (SELECT max(delay) FROM flights)",
        "SELECT * FROM airlines ORDER BY (SELECT count(*) FROM flights)",
        "SELECT * FROM airlines a JOIN flights f ON a.carrier = f.carrier AND f.delay IN (SELECT 1)",
        "SELECT * FROM airlines a CROSS JOIN LATERAL (SELECT * FROM flights f WHERE f.carrier = a.carrier) x",
        "SELECT count(*) FILTER (WHERE delay IN (SELECT delay FROM flights)) FROM (VALUES (1)) v(delay)",
        "SELECT sum(d) OVER (PARTITION BY (SELECT 1 FROM flights)) FROM (VALUES (1)) v(d)",
        "SELECT CASE WHEN 1 IN (SELECT delay FROM flights) THEN 1 END",
        "SELECT * FROM (airlines JOIN flights USING (carrier))",
        "VALUES ((SELECT max(delay) FROM flights))",
        "SELECT carrier FROM airlines GROUP BY carrier HAVING count(*) > (SELECT 1 FROM flights)",
        "SELECT * FROM airlines, LATERAL (SELECT 1 FROM flights) t",
    ] {
        let approved = ok(sql);
        assert_eq!(secured_places(&approved.sql()), 1, "{sql}\n{}", approved.sql());
        assert!(approved.relations().contains(&("air".to_owned(), "flights".to_owned())));
    }
}

#[test]
fn a_cte_hides_a_dataset_of_its_name_only_where_it_is_in_scope() {
    // Inside its own definition the name still means the dataset.
    assert!(
        ok("WITH flights AS (SELECT * FROM flights) SELECT * FROM flights").sql().matches("physical").count()
            == 1
    );
    // An earlier CTE does not see a later one.
    let sql = "WITH a AS (SELECT * FROM flights), flights AS (SELECT 1 AS x) SELECT * FROM a, flights";
    assert_eq!(ok(sql).sql().matches("physical").count(), 1);
    // A name of two parts is never a CTE.
    let sql = "WITH flights AS (SELECT 1 AS x) SELECT * FROM air.flights";
    assert_eq!(ok(sql).sql().matches("physical").count(), 1);
    // Out of its query the CTE is gone.
    assert_eq!(
        rule("SELECT * FROM (WITH secret AS (SELECT 1) SELECT * FROM secret) x, secret"),
        "unknown-relation"
    );
}

fn with_search() -> Namespace {
    let mut namespace = namespace();
    let columns = vec!["name".to_owned(), "score".to_owned()];
    namespace.insert_function(TableFunction { name: "semantic_search".to_owned(), columns });
    namespace
}

#[test]
fn a_published_table_function_becomes_a_relation_that_the_service_answers() {
    let sql = "SELECT s.name FROM semantic_search('late', 5) AS s JOIN airlines a ON a.name = s.name, semantic_search('x')";
    let approved = approve(sql, &with_search(), Dialect::DataFusion, 10).unwrap();
    let [first, second] = approved.calls() else { panic!("{:?}", approved.calls()) };
    assert_eq!(first.arguments, [Argument::Text("late".to_owned()), Argument::Integer(5)]);
    assert_eq!(second.arguments, [Argument::Text("x".to_owned())]);
    assert_ne!(first.relation, second.relation);
    let secured = r#"(SELECT "name", "score" FROM "physical"."semantic_search"."call_1") AS s"#;
    assert!(approved.sql().contains(secured), "{}", approved.sql());
    assert!(approved.sql().contains(r#"AS "semantic_search""#), "{}", approved.sql());
    assert_eq!(approved.relations(), [("air".to_owned(), "airlines".to_owned())]);
}

#[test]
fn a_table_function_takes_literals_alone_and_exists_only_where_it_is_published() {
    for sql in [
        "SELECT * FROM semantic_search(name)",
        "SELECT * FROM semantic_search((SELECT max(name) FROM airlines))",
        "SELECT * FROM semantic_search('a' || 'b')",
        "SELECT * FROM semantic_search(query => 'a')",
        "SELECT * FROM airlines a, LATERAL (SELECT * FROM semantic_search(a.name)) s",
        "SELECT * FROM \"Semantic_Search\"('x')",
        "SELECT * FROM air.semantic_search('x')",
        "SELECT * FROM semantic_searc('x')",
    ] {
        let refusal =
            approve(sql, &with_search(), Dialect::DataFusion, 10).map(|approved| approved.sql()).unwrap_err();
        assert_eq!(refusal.rule, "table-function", "{sql}");
    }
    assert_eq!(rule("SELECT * FROM semantic_search('x')"), "table-function");
    let refusal =
        approve("SELECT * FROM semantic_searc('x')", &with_search(), Dialect::DataFusion, 10).unwrap_err();
    assert_eq!(refusal.help, "did you mean `semantic_search`?");
    let many = ["SELECT name FROM semantic_search('x')"; 9].join(" UNION ALL ");
    assert_eq!(approve(&many, &with_search(), Dialect::DataFusion, 10).unwrap_err().rule, "table-function");
    assert_eq!(
        approve("SELECT * FROM semantic_search", &with_search(), Dialect::DataFusion, 10).unwrap_err().rule,
        "unknown-relation"
    );
}

/// Lets nobody know of the first relation, wants a scope for the second, and filters and masks the third.
struct Strict;

impl Judge for Strict {
    fn may_know(&self, position: usize, _: &Relation) -> bool {
        position > 0
    }

    fn judge(&self, position: usize, _: &Relation) -> Verdict {
        match position {
            0 => Verdict::Absent,
            1 => Verdict::Needs("sql:run:air.planes".to_owned()),
            _ => Verdict::Open {
                row_filter: Some(Box::new(parse_expression("origin = 'JFK'").unwrap())),
                columns: vec![(1, Arc::new(parse_expression("NULL").unwrap()))],
            },
        }
    }
}

#[test]
fn shared_relations_are_judged_for_the_caller_each_time() {
    let column = |name: &str| Column { name: name.to_owned(), expression: None };
    let relation = |name: &str| Relation {
        schema: "air".to_owned(),
        name: name.to_owned(),
        source: Vec::new(),
        columns: vec![column("carrier"), column("delay")],
        row_filter: None,
        missing_scope: None,
    };
    let shared = SharedRelations::new(["secret", "planes", "flights"].map(relation).into());
    let namespace = Namespace::over(Arc::new(shared), Arc::new(Strict));
    let refusal = |sql: &str| approve(sql, &namespace, Dialect::DataFusion, 10).unwrap_err();
    assert_eq!(refusal("SELECT * FROM air.secret").rule, "unknown-relation");
    assert!(!refusal("SELECT * FROM air.secre").help.contains("secret"), "nothing tells of it");
    assert_eq!(refusal("SELECT * FROM planes").missing_scope.as_deref(), Some("sql:run:air.planes"));
    let sql = approve("SELECT air.flights.delay FROM AIR.FLIGHTS", &namespace, Dialect::DataFusion, 10)
        .unwrap()
        .sql();
    let secured = r#"(SELECT NULL AS "delay" FROM "physical"."air"."flights" WHERE origin = 'JFK' LIMIT 9223372036854775807)"#;
    assert!(sql.contains(secured), "{sql}");
    let known: Vec<&str> = namespace.relations().map(|relation| relation.name.as_str()).collect();
    assert_eq!(known, ["planes", "flights"]);
}

#[test]
fn only_one_query_passes() {
    for sql in [
        "DROP TABLE flights",
        "DELETE FROM flights",
        "UPDATE flights SET delay = 0",
        "INSERT INTO flights VALUES (1)",
        "CREATE TABLE x AS SELECT * FROM flights",
        "COPY flights TO '/tmp/x'",
        "SET a = 1",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
        "CALL f()",
        "TRUNCATE TABLE flights",
        "GRANT ALL ON flights TO x",
        "DESCRIBE flights",
        "WITH x AS (INSERT INTO flights VALUES (1) RETURNING *) SELECT * FROM x",
        "SELECT * INTO x FROM flights",
        "SELECT * FROM flights FOR UPDATE",
    ] {
        let rule = rule(sql);
        assert!(["query-only", "syntax", "construct"].contains(&rule), "{sql}: {rule}");
    }
    for sql in
        ["SELECT 1; SELECT 2", "SELECT 1; DROP TABLE flights", "", ";", "-- nothing", "SELECT 1;;SELECT 2"]
    {
        assert_eq!(rule(sql), "one-statement", "{sql}");
    }
    ok("SELECT 1;");
}

#[test]
fn what_is_not_published_does_not_exist_in_any_position() {
    for sql in [
        "SELECT * FROM secret",
        "SELECT * FROM physical.air.flights",
        "SELECT * FROM \"physical\".\"air\".\"flights\"",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM pg_catalog.pg_class",
        "SELECT * FROM air.secret",
        "SELECT (SELECT 1 FROM secret)",
        "SELECT * FROM airlines ORDER BY (SELECT 1 FROM secret)",
        "SELECT * FROM 'file.parquet'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM \"FLIGHTS\"",
        "SELECT * FROM airlines WHERE carrier = ANY (SELECT 1 FROM secret)",
        "SELECT * FROM airlines LIMIT (SELECT 1 FROM secret)",
        "SELECT * FROM airlines JOIN airlines b ON EXISTS (SELECT * FROM secret)",
    ] {
        assert_eq!(rule(sql), "unknown-relation", "{sql}");
    }
}

#[test]
fn functions_outside_the_list_are_refused_everywhere() {
    for sql in [
        "SELECT pg_sleep(10)",
        "SELECT * FROM airlines ORDER BY pg_sleep(1)",
        "SELECT read_file('/etc/passwd')",
        "SELECT count(*) FILTER (WHERE version() = '') FROM airlines",
        "SELECT PG_SLEEP(1)",
        "SELECT \"pg_sleep\"(1)",
        "SELECT system.sleep(1)",
        "SELECT input_file_name()",
    ] {
        assert_eq!(rule(sql), "function", "{sql}");
    }
    for sql in [
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM TABLE(f(1))",
        "SELECT * FROM parquet_metadata('x')",
        "SELECT * FROM LATERAL FLATTEN(input => 1)",
    ] {
        assert!(["table-function", "construct"].contains(&rule(sql)), "{sql}");
    }
    assert_eq!(rule("SELECT repeat('x', 1000000000)"), "function");
    assert_eq!(rule("SELECT lpad('x', 1000000000)"), "size-argument");
    assert_eq!(rule("SELECT * FROM generate_series(1, 100000000000)"), "size-argument");
}

#[test]
fn a_missing_scope_is_named_and_an_unknown_name_gets_suggestions_of_what_is_visible() {
    let refusal = approve("SELECT * FROM air.planes", &namespace(), Dialect::DataFusion, 10).unwrap_err();
    assert_eq!(refusal.missing_scope.as_deref(), Some("sql:run:air.planes"));
    assert_eq!(refusal.kind(), ErrorKind::InsufficientScope);
    let refusal = approve("SELECT *\nFROM air.flihgts", &namespace(), Dialect::DataFusion, 10).unwrap_err();
    assert_eq!(refusal.help, "did you mean `air.flights`?");
    assert_eq!(refusal.position, Some((2, 6)));
}

#[test]
fn every_result_has_a_limit_one_above_the_allowed_rows() {
    let limit = |sql: &str| ok(sql).sql().rsplit_once("LIMIT ").map(|(_, rest)| rest.to_owned()).unwrap();
    assert_eq!(limit("SELECT * FROM flights"), "101");
    assert_eq!(limit("SELECT * FROM flights LIMIT 5"), "5");
    assert_eq!(limit("SELECT * FROM flights LIMIT 100000"), "101");
    assert_eq!(limit("SELECT * FROM flights LIMIT ALL"), "101");
    assert_eq!(limit("SELECT * FROM flights LIMIT 7 OFFSET 3"), "7 OFFSET 3");
    assert_eq!(limit("SELECT 1 UNION SELECT 2"), "101");
    assert_eq!(limit("SELECT * FROM flights FETCH FIRST 9 ROWS ONLY"), "9");
    assert_eq!(rule("SELECT * FROM flights LIMIT 1 + 1"), "literal-limit");
    for (sql, is_capped) in [
        ("SELECT * FROM flights", true),
        ("SELECT * FROM flights LIMIT ALL OFFSET 3", true),
        ("SELECT * FROM flights FETCH FIRST 5000 ROWS ONLY", true),
        ("SELECT * FROM flights LIMIT 100", false),
        ("SELECT * FROM flights FETCH FIRST 9 ROWS ONLY", false),
        ("SELECT * FROM (SELECT * FROM flights LIMIT 9) AS few", true),
    ] {
        assert_eq!(ok(sql).is_capped(), is_capped, "{sql}");
    }
}

#[test]
fn names_with_a_schema_reach_the_secured_columns() {
    let sql = ok("SELECT air.flights.carrier, flights.origin FROM air.flights").sql();
    assert!(sql.starts_with("SELECT flights.carrier, flights.origin FROM"), "{sql}");
    assert!(ok("SELECT air.flights.* FROM air.flights").sql().starts_with("SELECT flights.* FROM"));
}

#[test]
fn oversize_and_overdeep_queries_are_refused_without_a_crash() {
    assert_eq!(rule(&format!("SELECT '{}'", "x".repeat(MAX_SQL_BYTES))), "too-long");
    assert_eq!(rule(&format!("SELECT 1{}", "+1".repeat(MAX_TOKENS))), "too-long");
    assert_eq!(rule(&format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000))), "syntax");
    ok(&format!("SELECT 1{}", "+1".repeat(4000)));
    ok(&format!("SELECT * FROM airlines WHERE carrier IN ({})", vec!["'AA'"; 4000].join(",")));
}

/// The parser tries some constructs twice, and what is in them then four times, and so on.
#[test]
fn no_nesting_keeps_the_parser_busy() {
    let openers = [
        "abs(",
        "OVERLAY(",
        "POSITION(",
        "CONVERT(",
        "INTERVAL (",
        "STRUCT(",
        "ROW(",
        "ROLLUP (",
        "f(a => ",
        "(",
        "NOT ",
        "TABLE(",
        "CAST(",
        "f(SELECT ",
        "VALUES ((",
        "x -> (",
        "(x, y) -> (",
        "[",
        "{'a': ",
        "CASE WHEN ",
        "EXISTS (SELECT ",
        "ARRAY(SELECT ",
        "TRIM(",
        "SUBSTRING(",
        "EXTRACT(year FROM ",
        "- ",
        "1 IN (",
        "a[",
        "TRY_CAST(",
        "XMLTABLE(",
    ];
    for opener in openers {
        for before in ["SELECT ", "SELECT * FROM "] {
            let closers: String = opener.chars().rev().filter_map(closer).collect();
            let closed = format!("{before}{}1{}", opener.repeat(60), closers.repeat(60));
            for dialect in corpus::DIALECTS {
                // Whatever it says, it says so.
                let _ = approve(&closed, &namespace(), dialect, 10);
                let _ = approve(&format!("{before}{}", opener.repeat(60)), &namespace(), dialect, 10);
            }
        }
    }
}

fn closer(opener: char) -> Option<char> {
    match opener {
        '(' => Some(')'),
        '[' => Some(']'),
        '{' => Some('}'),
        _ => None,
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_guard_panic(sql in "\\PC{0,200}") {
        let _ = approve(&sql, &namespace(), Dialect::DataFusion, 10);
    }

    #[test]
    fn no_soup_of_sql_words_reaches_an_unpublished_relation(words in proptest::collection::vec(
        prop_oneof![
            Just("SELECT"), Just("*"), Just("FROM"), Just("secret"), Just("flights"), Just("("), Just(")"), Just("WITH"),
            Just("AS"), Just("UNION"), Just("JOIN"), Just("ON"), Just("1"), Just(","), Just("WHERE"), Just("EXISTS"),
            Just("LATERAL"), Just("TABLE"), Just("physical.air.flights"), Just("LIMIT"), Just("ORDER BY"), Just("="),
        ], 1..24)) {
        if let Ok(approved) = approve(&words.join(" "), &namespace(), Dialect::DataFusion, 10) {
            let sql = approved.sql();
            // Whatever was approved reads physical relations through the secured form alone.
            prop_assert_eq!(sql.matches("\"physical\"").count(), secured_places(&sql));
            prop_assert!(!sql.contains("FROM physical."));
        }
    }
}
