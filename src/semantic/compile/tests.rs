//! Compiling at its own door: models and queries in, SQL out; and the SQL run in the embedded engine where rows matter.

use std::sync::Arc;

use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{Expr, Value, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::{
    AnsiDialect, DuckDbDialect, GenericDialect, PostgreSqlDialect, SnowflakeDialect,
};
use datafusion::sql::sqlparser::parser::Parser;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::semantic::{Catalog, Sensitivity};

mod fan_out;
mod vectors;

const MODEL: &str = r#"
name: shop
datasets:
  - name: orders
    source: local.shop.orders
    primary_key: [id]
    fields:
      - {name: id}
      - {name: customer_id}
      - {name: seller_id}
      - {name: amount, datatype: Decimal}
      - {name: status}
      - {name: ordered_on, datatype: Date}
      - {name: secret_margin, sensitivity: highly_sensitive}
    filters:
      - {name: paid, expression: "status = 'paid'"}
  - name: returns
    source: local.shop.returns
    primary_key: [id]
    fields: [{name: id}, {name: customer_id}, {name: amount}, {name: returned_at, datatype: DateTime}]
  - name: people
    source: local.shop.people
    primary_key: [id]
    fields: [{name: id}, {name: region}, {name: "order"}]
  - name: notes
    source: local.shop.notes
    fields: [{name: text}, {name: person_id}]
  - name: stock
    source: local.shop.stock
    primary_key: [id]
    fields: [{name: id}, {name: quantity}]
relationships:
  - {name: buyer, from: orders, to: people, from_columns: [customer_id], to_columns: [id]}
  - {name: seller, from: orders, to: people, from_columns: [seller_id], to_columns: [id]}
  - {name: returner, from: returns, to: people, from_columns: [customer_id], to_columns: [id]}
  - {name: about, from: notes, to: people, from_columns: [person_id], to_columns: [id]}
metrics:
  - {name: revenue, dataset: orders, expression: SUM(amount), datatype: Decimal, unit: EUR, description: Paid.}
  - {name: orders_count, dataset: orders, expression: COUNT(*)}
  - {name: middle, dataset: orders, expression: MEDIAN(amount)}
  - {name: paid, dataset: orders, expression: SUM(amount) FILTER (WHERE status = 'paid')}
  - {name: refunds, dataset: returns, expression: SUM(amount), time_dimension: returned_at}
  - {name: note_count, dataset: notes, expression: COUNT(*)}
  - {name: units, dataset: stock, expression: SUM(quantity)}
  - {name: margin, dataset: orders, expression: SUM(secret_margin)}
  - {name: margin_share, expression: margin / revenue}
  - {name: odd, dataset: orders, expression: APPROX_DISTINCT(amount)}
  - {name: a, expression: b + 1}
  - {name: b, expression: a + 1}
  - {name: before, type: derived, expression: then, metrics: [{name: revenue, alias: then, offset_window: 1 month}]}
"#;

fn catalog(text: &str) -> Catalog {
    Catalog::from_sources([("semantic/shop/model.yaml".to_owned(), Ok(text.to_owned()))], Vec::new())
}

fn compiler() -> Compiler {
    let catalog = catalog(MODEL);
    assert_eq!(catalog.models.len(), 1, "{:#?}", catalog.diagnostics);
    Compiler::new(&catalog.models)
}

fn request(query: Json) -> CompileRequest {
    serde_json::from_value(query).unwrap()
}

fn sql(query: Json) -> String {
    compiler().compile(&request(query)).unwrap().sql
}

fn error(query: Json) -> CompileError {
    compiler().compile(&request(query)).expect_err("this compiles")
}

#[test]
fn a_query_is_one_select_with_its_columns_described() {
    let compiled = compiler()
        .compile(&request(json!({"metrics": ["revenue"], "dimensions": ["orders.status"], "limit": 5})))
        .unwrap();
    assert_eq!(
        compiled.sql,
        "SELECT \"orders\".status AS \"status\", SUM(\"orders\".amount) AS \"revenue\"\nFROM shop.orders AS \"orders\"\nGROUP BY \"orders\".status\nLIMIT 5"
    );
    assert_eq!(compiled.datasets, ["shop.orders"]);
    assert_eq!(compiled.joins, Vec::<String>::new());
    let revenue = &compiled.columns[1];
    assert_eq!((revenue.name.as_str(), revenue.kind, revenue.unit.as_str()), ("revenue", "metric", "EUR"));
}

#[test]
fn every_mistake_has_its_code_and_says_what_to_do() {
    use CompileCode::*;
    let cases = [
        (json!({}), EmptyAggregationQuery, "name at least one"),
        (json!({"metrics": ["revenu"]}), NameNotFound, "did you mean `revenue`?"),
        (
            json!({"metrics": ["revenue"], "dimensions": ["order.status"]}),
            NameNotFound,
            "did you mean `orders`?",
        ),
        (
            json!({"metrics": ["revenue"], "dimensions": ["orders.statu"]}),
            NameNotFound,
            "did you mean `status`?",
        ),
        (json!({"metrics": ["revenue"], "dimensions": ["people.region"]}), AmbiguousPath, "buyer, or seller"),
        (
            json!({"metrics": ["revenue"], "dimensions": ["people.region"], "joins": ["byer"]}),
            NameNotFound,
            "`buyer`",
        ),
        (json!({"metrics": ["units"], "dimensions": ["people.region"]}), NoPath, "declare a relationship"),
        (json!({"metrics": ["units", "revenue"]}), NoStitchingDimension, "Cartesian"),
        (json!({"metrics": ["note_count"], "dimensions": ["returns.id"]}), MnNoSafeRewrite, "primary_key"),
        (json!({"metrics": ["revenue"], "filters": ["SUM(orders.amount) > 1"]}), AggregateInWhere, "Having"),
        (json!({"metrics": ["revenue"], "filters": ["units > 1"]}), AggregateInWhere, "Having"),
        (json!({"metrics": ["revenue"], "filters": ["status = "]}), Syntax, "does not parse"),
        (
            json!({"metrics": ["revenue"], "filters": ["status IN (SELECT 1)"]}),
            UnsupportedInDialect,
            "subquery",
        ),
        (
            json!({"metrics": ["revenue"], "metric_filters": ["orders.status = 'x'"]}),
            NonAggregateInHaving,
            "Where",
        ),
        (
            json!({"metrics": ["revenue"], "metric_filters": ["orders.status = 'x' AND SUM(orders.amount) > 1"]}),
            MixedPredicateLevel,
            "split",
        ),
        (json!({"metrics": ["revenue", "revenue"]}), NameCollision, "alias"),
        (json!({"metrics": ["a"]}), InvalidModel, "circle"),
        (json!({"metrics": ["before"]}), InvalidRequest, "add `time` with a grain"),
        (
            json!({"metrics": ["revenue"], "time": {"dimension": "orders.status", "grain": "day"}}),
            InvalidRequest,
            "is_time",
        ),
        (
            json!({"metrics": ["revenue"], "time": {"dimension": "orders.ordered_on", "grain": "hour"}}),
            InvalidRequest,
            "coarser",
        ),
        (
            json!({"metrics": ["revenue"], "time": {"dimension": "orders.ordered_on", "grain": "fortnight"}}),
            InvalidRequest,
            "week",
        ),
        (
            json!({"metrics": ["revenue"], "time": {"dimension": "orders.ordered_on", "from": "soon"}}),
            InvalidRequest,
            "ISO date",
        ),
        (
            json!({"metrics": ["revenue"], "time": {"dimension": "orders.ordered_on", "from": "2020-01-02", "to": "2020-01-02"}}),
            InvalidRequest,
            "not before",
        ),
        (
            json!({"metrics": ["revenue"], "time": {"dimension": "orders.ordered_on", "grain": "day", "fill_gaps": true}}),
            InvalidRequest,
            "`from` and `to`",
        ),
        (
            json!({"metrics": ["before"], "time": {"dimension": "orders.ordered_on", "grain": "week"}}),
            InvalidRequest,
            "finer grain",
        ),
        (json!({"metrics": ["revenue"], "time": {"grain": "day"}}), InvalidRequest, "time.dimension"),
        (json!({"metrics": ["revenue"], "order_by": ["status"]}), NameNotFound, "order by one of revenue"),
        (
            json!({"metrics": ["revenue"], "dimensions": [{"name": "orders.status", "alias": "x\"; DROP"}]}),
            InvalidRequest,
            "letters",
        ),
        (
            json!({"metrics": ["revenue"], "filters": [{"field": "orders.status", "op": "between", "value": 1}]}),
            InvalidRequest,
            "between two",
        ),
        (
            json!({"metrics": ["revenue"], "filters": [{"field": "orders.status", "op": "=", "value": null, "values": [null]}]}),
            InvalidRequest,
            "is_null",
        ),
        (json!({"model": "shops", "metrics": ["revenue"]}), NameNotFound, "did you mean `shop`?"),
        (json!({"metrics": ["odd"], "dialect": "snowflake"}), UnsupportedInDialect, "for that dialect"),
    ];
    for (query, code, help) in cases {
        let found = error(query.clone());
        assert_eq!(found.code, code, "{query}: {found}");
        assert!(found.message.contains(help), "{query}: {found}");
    }
}

#[test]
fn a_text_too_long_to_walk_is_refused_before_it_is_parsed() {
    let long = format!("orders.amount > 1{}", " + 1".repeat(100_000));
    let found = error(json!({"metrics": ["revenue"], "filters": [long]}));
    assert_eq!(found.code, CompileCode::InvalidRequest);
    assert!(found.message.contains("several conditions"), "{found}");
    let values: Vec<String> = (0..5_000).map(|value| value.to_string()).collect();
    sql(
        json!({"metrics": ["revenue"], "filters": [{"field": "orders.status", "op": "in", "values": values}]}),
    );
}

#[test]
fn metrics_of_metrics_that_double_at_every_step_are_refused_in_time() {
    let doubling: String =
        (0..40).map(|at| format!("  - {{name: m{}, expression: m{at} + m{at}}}\n", at + 1)).collect();
    let text = format!("{MODEL}  - {{name: m0, dataset: orders, expression: SUM(amount)}}\n{doubling}");
    let compiler = Compiler::new(&catalog(&text).models);
    let found = compiler.compile(&request(json!({"metrics": ["m40"]}))).unwrap_err();
    assert!(found.message.contains("metrics of metrics"), "{found}");
    assert!(compiler.compile(&request(json!({"metrics": ["m5"]}))).is_ok());
}

#[test]
fn a_second_fact_goes_by_its_own_time_where_the_axis_is_not_its() {
    let text = sql(json!({
        "metrics": ["revenue", "refunds"], "time": {"dimension": "orders.ordered_on", "grain": "month", "from": "2020-01-01"},
    }));
    assert!(text.contains("CAST(\"returns\".returned_at AS DATE)"), "{text}");
    assert!(!text.contains("DISTINCT \"returns\""), "{text}");
}

#[test]
fn two_relationships_of_the_same_pair_join_it_once_by_each_name() {
    let text = sql(json!({
        "metrics": ["revenue"],
        "dimensions": [
            {"name": "people.region", "alias": "buyer_region", "joins": ["buyer"]},
            {"name": "people.region", "alias": "seller_region", "joins": ["seller"]},
        ],
    }));
    assert!(text.contains("AS \"people\" ON \"orders\".customer_id = \"people\".id"), "{text}");
    assert!(text.contains("AS \"people_2\" ON \"orders\".seller_id = \"people_2\".id"), "{text}");
}

#[test]
fn what_the_dialects_have_in_other_words_is_said_in_theirs() {
    let in_dialect = |metric: &str, dialect: &str| {
        sql(
            json!({"metrics": [metric], "dialect": dialect, "time": {"dimension": "orders.ordered_on", "grain": "month"}}),
        )
    };
    assert!(
        in_dialect("middle", "postgresql")
            .contains("PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY \"orders\".amount)")
    );
    assert!(in_dialect("middle", "snowflake").contains("MEDIAN(\"orders\".amount)"));
    let paid = in_dialect("paid", "snowflake");
    assert!(paid.contains("SUM(CASE WHEN \"orders\".status = 'paid' THEN \"orders\".amount END)"), "{paid}");
    assert!(in_dialect("paid", "datafusion").contains("FILTER (WHERE"));
    assert!(
        in_dialect("revenue", "postgresql")
            .contains("CAST(DATE_TRUNC('month', \"orders\".ordered_on) AS DATE)")
    );
    let before = in_dialect("before", "snowflake");
    assert!(before.contains("DATEADD(month, +1, "), "{before}");
    assert!(in_dialect("before", "datafusion").contains("INTERVAL '1' MONTH"));
    let ratio = sql(json!({"metrics": ["margin_share"], "dialect": "postgresql"}));
    assert!(ratio.contains("CAST(SUM(\"orders\".secret_margin) AS DOUBLE PRECISION)"), "{ratio}");
    let reserved = sql(json!({"dimensions": ["people.order"], "dialect": "snowflake"}));
    assert!(reserved.contains("\"people\".\"order\""), "{reserved}");
}

#[test]
fn nulls_sort_as_the_highest_value_in_every_dialect() {
    for dialect in Dialect::NAMES {
        let text = sql(json!({
            "metrics": ["revenue"], "dimensions": ["orders.status"], "dialect": dialect,
            "order_by": [{"name": "revenue", "direction": "desc"}, "orders.status"],
        }));
        assert!(text.ends_with("ORDER BY \"revenue\" DESC NULLS FIRST, \"status\" ASC NULLS LAST"), "{text}");
    }
}

#[test]
fn a_named_filter_of_a_dataset_is_a_condition() {
    let text = sql(json!({"metrics": ["revenue"], "filters": ["orders.paid AND NOT orders.amount > 3"]}));
    assert!(text.contains("WHERE (\"orders\".status = 'paid') AND NOT \"orders\".amount > 3"), "{text}");
}

#[test]
fn what_is_above_a_clearance_neither_compiles_nor_is_suggested() {
    let catalog = catalog(MODEL);
    let public = Compiler::new(&catalog.visible_to(Sensitivity::Public));
    let queries = [
        json!({"metrics": ["margin"]}),
        json!({"metrics": ["margin_share"]}),
        json!({"metrics": ["revenue"], "dimensions": ["orders.secret_margin"]}),
        json!({"metrics": ["revenue"], "filters": ["orders.secret_margin > 1"]}),
        json!({"metrics": ["revenue"], "metric_filters": ["SUM(orders.secret_margin) > 1"]}),
        json!({"metrics": ["margn"]}),
        json!({"metrics": ["revenue"], "dimensions": ["orders.secret_margi"]}),
    ];
    for query in queries {
        let found = public.compile(&request(query.clone())).unwrap_err();
        assert_eq!(found.code, CompileCode::NameNotFound, "{query}: {found}");
        let suggested = found.message.split_once("did you mean").map_or("", |(_, help)| help);
        assert!(!suggested.contains("margin"), "{query}: {found}");
    }
    let cleared = Compiler::new(&catalog.visible_to(Sensitivity::HighlySensitive));
    assert!(cleared.compile(&request(json!({"metrics": ["margin_share"]}))).is_ok());
}

#[test]
fn the_same_request_gives_the_same_text_however_often_and_warm_or_cold() {
    let query =
        json!({"metrics": ["revenue", "refunds"], "dimensions": ["people.region"], "joins": ["buyer"]});
    let one = compiler();
    let texts: Vec<String> = (0..3).map(|_| one.compile(&request(query.clone())).unwrap().sql).collect();
    assert!(texts.iter().all(|text| *text == texts[0]));
    assert_eq!(sql(query), texts[0]);
}

/// The model of the demo with what the comparison adds to it.
fn flights() -> Compiler {
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<std::path::PathBuf> = std::fs::read_dir(checkout.join("semantic/flights"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.push(checkout.join("tests/compile/model.yaml"));
    let sources = files.iter().map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        // Files of one folder make one model.
        let name = if path.ends_with("compile/model.yaml") { "more.yaml" } else { name };
        (format!("semantic/flights/{name}"), Ok(std::fs::read_to_string(path).unwrap()))
    });
    let catalog = Catalog::from_sources(sources, Vec::new());
    assert_eq!(catalog.models.len(), 1, "{:#?}", catalog.diagnostics);
    Compiler::new(&catalog.models)
}

#[test]
fn every_query_of_the_comparison_parses_in_every_dialect() {
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(checkout.join("tests/compile/queries.yaml")).unwrap();
    let cases: Vec<Json> = serde_saphyr::from_str(&text).unwrap();
    assert!(cases.len() >= 40);
    let flights = flights();
    for case in cases {
        for dialect in Dialect::NAMES {
            let mut query = request(case["query"].clone());
            query.dialect = Dialect::from_name(dialect).unwrap();
            let compiled =
                flights.compile(&query).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
            let outcome = match query.dialect {
                Dialect::Ansi => Parser::parse_sql(&AnsiDialect {}, &compiled.sql),
                Dialect::DataFusion => Parser::parse_sql(&GenericDialect {}, &compiled.sql),
                Dialect::PostgreSql => Parser::parse_sql(&PostgreSqlDialect {}, &compiled.sql),
                Dialect::Snowflake => Parser::parse_sql(&SnowflakeDialect {}, &compiled.sql),
                Dialect::DuckDb => Parser::parse_sql(&DuckDbDialect {}, &compiled.sql),
            };
            assert_eq!(outcome.unwrap_or_else(|error| panic!("{error}\n{}", compiled.sql)).len(), 1);
        }
    }
}

fn strings(sql: &str, dialect: Dialect) -> Vec<String> {
    struct Strings(Vec<String>);
    impl Visitor for Strings {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> std::ops::ControlFlow<()> {
            if let Expr::Value(value) = expr
                && let Value::SingleQuotedString(text) = &value.value
            {
                self.0.push(text.clone());
            }
            std::ops::ControlFlow::Continue(())
        }
    }
    let parsed = match dialect {
        Dialect::Snowflake => Parser::parse_sql(&SnowflakeDialect {}, sql),
        Dialect::PostgreSql => Parser::parse_sql(&PostgreSqlDialect {}, sql),
        _ => Parser::parse_sql(&GenericDialect {}, sql),
    };
    let mut strings = Strings(Vec::new());
    let statements = parsed.unwrap_or_else(|error| panic!("{error}: {sql}"));
    assert_eq!(statements.len(), 1, "{sql}");
    let _ = statements.visit(&mut strings);
    strings.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_value_is_the_literal_that_the_dialect_reads_as_that_value(
        value in "[a-z'\\\\\"; -]{0,12}",
        dialect in prop::sample::select(vec![Dialect::DataFusion, Dialect::PostgreSql, Dialect::Snowflake]),
    ) {
        let mut query = request(json!({
            "metrics": ["orders_count"], "filters": [{"field": "orders.status", "op": "=", "value": value.clone()}],
        }));
        query.dialect = dialect;
        let text = compiler().compile(&query).unwrap().sql;
        prop_assert_eq!(strings(&text, dialect), vec![value]);
    }

    #[test]
    fn a_literal_in_filter_text_survives_as_it_was_meant(value in "[a-z'\\\\; -]{0,12}") {
        let condition = format!("orders.status = '{}'", value.replace('\'', "''"));
        let text = sql(json!({"metrics": ["orders_count"], "filters": [condition]}));
        prop_assert_eq!(strings(&text, Dialect::DataFusion), vec![value]);
    }

    #[test]
    fn any_text_is_a_condition_or_an_error_and_never_a_second_statement(text in "[a-z0-9_.,()'\"=<>+*/; -]{0,40}") {
        let query = request(json!({"metrics": ["orders_count"], "filters": [text.clone()], "metric_filters": [text]}));
        if let Ok(compiled) = compiler().compile(&query) {
            strings(&compiled.sql, Dialect::DataFusion);
        }
    }
}

/// Runs SQL in a fresh session in which `setup` was run before; rows as text, sorted.
async fn run(setup: &[String], sql: &str) -> Vec<Vec<Option<String>>> {
    let session = SessionContext::new();
    for statement in setup {
        session.sql(statement).await.unwrap().collect().await.unwrap();
    }
    rows(&session, sql).await
}

async fn rows(session: &SessionContext, sql: &str) -> Vec<Vec<Option<String>>> {
    use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
    let frame = session.sql(sql).await.unwrap_or_else(|error| panic!("{error}\n{sql}"));
    let batches = frame.collect().await.unwrap_or_else(|error| panic!("{error}\n{sql}"));
    let options = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let cell = |(at, formatter): (usize, &ArrayFormatter<'_>)| {
                batch.column(at).is_valid(row).then(|| formatter.value(row).to_string())
            };
            rows.push(columns.iter().enumerate().map(cell).collect());
        }
    }
    rows.sort();
    rows
}

fn models(text: &str) -> Vec<Arc<crate::semantic::Model>> {
    let catalog = catalog(text);
    assert!(!catalog.models.is_empty(), "{:#?}", catalog.diagnostics);
    catalog.models
}
