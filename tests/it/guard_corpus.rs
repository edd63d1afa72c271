//! What the guard approves, given to the engines themselves: the honest queries of `tests/guard` run on DataFusion over
//! tables of one row, and are explained by a real PostgreSQL, both with the schema of `tests/guard/schema.yaml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::datasource::{MemTable, TableProvider};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use steward::config::SqlLimits;
use steward::guard::{ApprovedSql, Column, Dialect, Namespace, Relation, approve};
use steward::query::{QueryEngine, QueryError, Tables};
use steward::semantic::parse_expression;

use crate::postgres_server::Postgres;

#[derive(Deserialize)]
struct Table {
    relation: String,
    source: Vec<String>,
    columns: BTreeMap<String, String>,
    #[serde(default)]
    rest: BTreeMap<String, String>,
    #[serde(default)]
    masks: BTreeMap<String, String>,
    row_filter: Option<String>,
}

#[derive(Deserialize)]
struct Honest {
    r#in: String,
    sql: String,
}

fn tables() -> Vec<Table> {
    serde_saphyr::from_str(include_str!("../guard/schema.yaml")).unwrap()
}

fn namespace() -> Namespace {
    let mut namespace = Namespace::default();
    for table in tables() {
        let (schema, name) = table.relation.split_once('.').unwrap();
        let mask =
            |column: &String| table.masks.get(column).map(|mask| Arc::new(parse_expression(mask).unwrap()));
        let column = |name: &String| Column { name: name.clone(), expression: mask(name) };
        namespace.insert(Relation {
            schema: schema.to_owned(),
            name: name.to_owned(),
            columns: table.columns.keys().map(column).collect(),
            source: table.source.clone(),
            row_filter: table.row_filter.as_ref().map(|filter| parse_expression(filter).unwrap()),
            missing_scope: None,
        });
    }
    namespace
}

/// The honest queries of a dialect, as they were asked and as they were approved.
fn approved(dialect: Dialect, name: &str) -> Vec<(String, ApprovedSql)> {
    let namespace = namespace();
    let honest: Vec<Honest> = serde_saphyr::from_str(include_str!("../guard/honest.yaml")).unwrap();
    honest
        .into_iter()
        .filter(|entry| entry.r#in == "all" || entry.r#in == name)
        .map(|entry| {
            let approved = approve(&entry.sql, &namespace, dialect, 100).unwrap_or_else(|refusal| {
                panic!("{}: {refusal}", entry.sql);
            });
            (entry.sql, approved)
        })
        .collect()
}

fn arrow_type(name: &str) -> DataType {
    match name {
        "bigint" => DataType::Int64,
        "double" => DataType::Float64,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "boolean" => DataType::Boolean,
        _ => DataType::Utf8,
    }
}

/// One value of a type.
fn value(data_type: &DataType) -> ArrayRef {
    let text = if *data_type == DataType::Utf8 { "a" } else { "1" };
    arrow::compute::cast(&StringArray::from(vec![text]), data_type)
        .or_else(|_| arrow::compute::cast(&arrow::array::Int64Array::from(vec![1]), data_type))
        .unwrap()
}

fn providers(sql: &ApprovedSql, tables: &[Table]) -> Tables {
    let open = |(schema, name): &(String, String)| {
        let table = tables.iter().find(|table| table.relation == format!("{schema}.{name}")).unwrap();
        let columns = table.columns.iter().chain(&table.rest);
        let fields: Vec<Field> =
            columns.map(|(name, kind)| Field::new(name, arrow_type(kind), true)).collect();
        let arrow = Arc::new(Schema::new(fields));
        let row = arrow.fields().iter().map(|field| value(field.data_type())).collect();
        let row = RecordBatch::try_new(arrow.clone(), row).unwrap();
        let provider = MemTable::try_new(arrow, vec![vec![row]]).unwrap();
        ((schema.clone(), name.clone()), Arc::new(provider) as Arc<dyn TableProvider>)
    };
    sql.relations().iter().map(open).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_honest_query_that_is_approved_runs_on_datafusion() {
    let folder = tempfile::tempdir().unwrap();
    let engine = QueryEngine::new(SqlLimits::default(), folder.path()).unwrap();
    let tables = tables();
    let mut failures = Vec::new();
    for (sql, approved) in approved(Dialect::DataFusion, "datafusion") {
        match engine.run("c", &approved, providers(&approved, &tables)).await {
            // That `a` is no date, say.
            Ok(_) | Err(QueryError::Run { .. }) => {}
            Err(error) => failures.push(format!("{sql}\n  {error}\n  {error:?}")),
        }
    }
    assert!(failures.is_empty(), "{}\n{}", failures.len(), failures.join("\n"));
}

/// Statements that make the tables of the schema, as the warehouse has them.
fn definitions() -> Vec<String> {
    let sql_type = |name: &str| match name {
        "double" => "double precision".to_owned(),
        "json" => "jsonb".to_owned(),
        other => other.to_owned(),
    };
    let quoted =
        |parts: &[String]| parts.iter().map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(".");
    let table = |table: &Table| {
        let columns = table.columns.iter().chain(&table.rest);
        let columns: Vec<String> =
            columns.map(|(name, kind)| format!("\"{name}\" {}", sql_type(kind))).collect();
        let schema = &table.source[0];
        [
            format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""),
            format!("CREATE TABLE {} ({})", quoted(&table.source), columns.join(", ")),
        ]
    };
    tables().iter().flat_map(table).collect()
}

async fn connected(postgres: &Postgres, database: &str) -> PgConnection {
    let url = postgres.database(database, "postgres").await;
    PgConnection::connect(&url).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_honest_query_that_is_approved_is_explained_by_postgresql() {
    let Some(postgres) = Postgres::start() else { return };
    let mut connection = connected(&postgres, "honest").await;
    for definition in definitions() {
        connection.execute(AssertSqlSafe(definition)).await.unwrap();
    }
    let mut failures = Vec::new();
    for (sql, approved) in approved(Dialect::PostgreSql, "postgresql") {
        if let Err(error) = connection.execute(AssertSqlSafe(format!("EXPLAIN {}", approved.sql()))).await {
            failures.push(format!("{sql}\n  {error}\n  {}", approved.sql()));
        }
    }
    assert!(failures.is_empty(), "{}\n{}", failures.len(), failures.join("\n"));
}

/// The fence below a row filter: the caller's condition must not see rows that the filter hides, though its failing
/// would tell of them.
#[tokio::test(flavor = "multi_thread")]
async fn no_condition_of_the_caller_meets_a_row_that_a_filter_hides_on_postgresql() {
    let Some(postgres) = Postgres::start() else { return };
    let mut connection = connected(&postgres, "fence").await;
    for definition in definitions() {
        connection.execute(AssertSqlSafe(definition)).await.unwrap();
    }
    let rows =
        "INSERT INTO shop.payments (payment_id, amount, status) VALUES (1, 100, 'test'), (2, 7, 'paid')";
    connection.execute(rows).await.unwrap();
    // A cheap condition that fails on the hidden row, beside a filter that looks dearer.
    let sql = "SELECT payment_id FROM payments WHERE 1 / CAST(amount - 100 AS integer) < 1";
    let mut namespace = namespace();
    let mut payments = namespace.relations().find(|relation| relation.name == "payments").unwrap().clone();
    payments.row_filter = Some(parse_expression("md5(md5(md5(md5(md5(md5(md5(md5(status)))))))) <> md5(md5(md5(md5(md5(md5(md5(md5('test'))))))))").unwrap());
    namespace.insert(payments);
    let approved = approve(sql, &namespace, Dialect::PostgreSql, 10).unwrap();
    let rows = connection.fetch_all(AssertSqlSafe(approved.sql())).await.unwrap();
    let seen: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(seen, [2]);
    // Without the fence the same condition does meet it.
    let open = approved.sql().replace(" LIMIT 9223372036854775807", "");
    assert!(connection.fetch_all(AssertSqlSafe(open)).await.is_err(), "the test proves nothing");
}

/// Texts survive: what the database reads is what the query said, whatever the spelling.
#[tokio::test(flavor = "multi_thread")]
async fn texts_mean_in_postgresql_what_they_mean_in_the_query() {
    let Some(postgres) = Postgres::start() else { return };
    let mut connection = connected(&postgres, "texts").await;
    for text in [
        "it's",
        "''",
        "'''",
        "\\",
        "\\'",
        "a\\b''c",
        "$$",
        "$a$'$a$",
        "--",
        "/*",
        "\n\t\r",
        "é\u{1F600}",
        "\\n",
    ] {
        let doubled = format!("'{}'", text.replace('\'', "''"));
        let escaped = format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        for literal in [doubled, escaped, format!("$q${text}$q$")] {
            let sql = format!("SELECT {literal} AS t");
            let approved = approve(&sql, &Namespace::default(), Dialect::PostgreSql, 10).unwrap();
            let row = connection.fetch_one(AssertSqlSafe(approved.sql())).await.unwrap();
            assert_eq!(row.get::<String, _>(0), text, "{sql}: {}", approved.sql());
        }
    }
}
