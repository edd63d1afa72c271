use std::path::Path;

use datafusion::prelude::SessionContext;

use super::*;
use crate::semantic::introspect::draft;
use crate::semantic::{Catalog, export::to_yaml};

const LIMITS: ProfileLimits = ProfileLimits { max_rows: 1_000_000 };

async fn profiles(folder: &Path, limits: ProfileLimits) -> Vec<crate::semantic::introspect::TableProfile> {
    let state = SessionContext::new().state();
    let files = find_files(&[folder.to_path_buf()]).unwrap();
    profile_files(&state, &files, "local", limits).await.unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

#[tokio::test]
async fn csv_and_ndjson_are_profiled_and_drafted_into_a_model_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().join("shop");
    std::fs::create_dir(&shop).unwrap();
    let orders: String = (1..=40)
        .map(|id| format!("{id},{},2026-01-{:02},{}\n", id % 4, 1 + id % 28, ["new", "no"][id % 2]))
        .collect();
    write(&shop, "orders.csv", &format!("order_id,customer_id,day,state\n{orders}"));
    let customers: String =
        (0..4).map(|id| format!("{{\"id\":{id},\"email\":\"a{id}@b.c\",\"tags\":[1]}}\n")).collect();
    write(&shop, "customers.ndjson", &customers);
    let tables = profiles(&shop, LIMITS).await;
    let (model, notes) = draft("shop", &tables);
    let yaml = to_yaml(&model, &notes, "s");
    let catalog = Catalog::from_sources([("m/model.yaml".to_owned(), Ok(yaml.clone()))], Vec::new());
    assert!(!catalog.has_errors(), "{:#?}\n{yaml}", catalog.diagnostics);
    let model = &catalog.models[0];
    let orders = model.dataset("orders").unwrap();
    assert_eq!(orders.relation, "local.shop.orders");
    assert_eq!(orders.primary_key, ["order_id"], "{yaml}");
    assert_eq!(orders.field("day").unwrap().datatype, "Date", "{yaml}");
    assert_eq!(orders.field("day").unwrap().range.as_ref().unwrap().0, "2026-01-01");
    assert_eq!(*orders.field("state").unwrap().sample_values, ["new", "no"]);
    assert_eq!(model.relationships.len(), 1, "{yaml}");
    assert!(!yaml.contains("@b.c"), "{yaml}");
}

#[tokio::test]
async fn the_demo_data_draft_the_joins_that_its_model_has() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nycflights13");
    let tables = profiles(&folder, ProfileLimits { max_rows: 400_000 }).await;
    let (model, _) = draft("flights", &tables);
    let links: Vec<&str> = model.relationships.iter().map(|link| link.name.as_str()).collect();
    for wanted in [
        "flights_carrier_to_airlines",
        "flights_dest_to_airports",
        "flights_origin_to_airports",
        "flights_tailnum_to_planes",
    ] {
        assert!(links.contains(&wanted), "{wanted} is not among {links:?}");
    }
    assert_eq!(model.dataset("planes").unwrap().primary_key, ["tailnum"]);
    assert_eq!(model.dataset("airports").unwrap().primary_key, ["faa"]);
}

#[tokio::test]
async fn no_more_rows_are_looked_at_than_allowed_and_the_draft_knows() {
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().join("shop");
    std::fs::create_dir(&shop).unwrap();
    let rows: String = (0..100).map(|id| format!("{id}\n")).collect();
    write(&shop, "t.csv", &format!("id\n{rows}"));
    let tables = profiles(&shop, ProfileLimits { max_rows: 10 }).await;
    assert_eq!((tables[0].rows, tables[0].is_whole), (10, false));
}

#[test]
fn paths_that_hold_no_table_and_tables_of_one_name_are_errors_that_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().join("shop");
    std::fs::create_dir(&shop).unwrap();
    let find = || find_files(std::slice::from_ref(&shop)).map_err(|error| error.to_string());
    assert!(find().unwrap_err().contains("no table"));
    write(&shop, "a.csv", "x\n1\n");
    assert_eq!(find().unwrap()[0].schema, "shop");
    write(&shop, "a.json", "{\"x\":1}\n");
    assert!(find().unwrap_err().contains("both the table `a`"));
    std::fs::remove_file(shop.join("a.json")).unwrap();
    write(&shop, "a b.csv", "x\n1\n");
    assert!(find().unwrap_err().contains("`a b`"));
}

#[tokio::test]
async fn a_bad_database_url_is_refused_without_being_repeated() {
    let error = profile_postgres("postgres://u:hunter2@[::bad/db", &[], "pg", LIMITS).await.unwrap_err();
    assert!(matches!(error, IntrospectError::BadUrl));
    assert!(!error.to_string().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_is_drafted_from_its_catalogue_and_its_rows_and_not_changed() {
    let Some(postgres) = crate::warehouse::tests::postgres_server::Postgres::start() else { return };
    let url = postgres.database("shop", "postgres").await;
    let statements = "
        CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE TABLE customers (id bigint PRIMARY KEY, \"Full Name\" text NOT NULL, email text, mood mood);
        COMMENT ON TABLE customers IS 'Who bought something.';
        COMMENT ON COLUMN customers.mood IS 'How they felt.';
        CREATE TABLE orders (
            order_id integer PRIMARY KEY, customer bigint NOT NULL REFERENCES customers, day date, net numeric(10, 2),
            code text UNIQUE, note text, tags text[]
        );
        INSERT INTO customers SELECT n, 'C ' || n, 'c' || n || '@example.org', 'ok' FROM generate_series(1, 4) n;
        INSERT INTO orders SELECT n, 1 + n % 4, DATE '2026-01-01' + n % 28, n * 1.5, 'k' || n, nullif(n % 3, 0)
            FROM generate_series(1, 40) n;
        CREATE VIEW \"busy days\" AS SELECT day, count(*) AS orders FROM orders GROUP BY day;
        CREATE SCHEMA hidden;
        CREATE TABLE hidden.secrets (id integer);
        CREATE ROLE reader LOGIN PASSWORD 'reads';
        GRANT SELECT ON customers, orders, \"busy days\" TO reader;
        CREATE TABLE wages (id integer);
    ";
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut connection).await.unwrap();
    let as_reader = url.replace(&format!("steward:{}", postgres.password()), "reader:reads");

    let tables = profile_postgres(&as_reader, &["public".to_owned()], "sales", LIMITS).await.unwrap();
    let (model, notes) = draft("shop", &tables);
    let yaml = to_yaml(&model, &notes, "s");
    let catalog = Catalog::from_sources([("m/model.yaml".to_owned(), Ok(yaml.clone()))], Vec::new());
    assert!(!catalog.has_errors(), "{:#?}\n{yaml}", catalog.diagnostics);
    let model = &catalog.models[0];
    let (customers, orders) = (model.dataset("customers").unwrap(), model.dataset("orders").unwrap());
    assert_eq!(
        (customers.relation.as_str(), customers.description.as_str()),
        ("sales.public.customers", "Who bought something.")
    );
    assert_eq!(
        (customers.primary_key.as_slice(), orders.primary_key.as_slice()),
        (&["id".to_owned()][..], &["order_id".to_owned()][..])
    );
    assert_eq!(orders.unique_keys, [["code"]]);
    let mood = customers.field("mood").unwrap();
    assert_eq!((mood.description.as_str(), mood.is_enum), ("How they felt.", true), "{yaml}");
    assert_eq!(*mood.sample_values, ["sad", "ok"], "all that the type has, in its order");
    let link = model.relationships.iter().find(|link| link.from == "orders").unwrap();
    assert_eq!(
        (link.from.as_str(), link.to.as_str(), link.from_columns.as_slice()),
        ("orders", "customers", &["customer".to_owned()][..])
    );
    // What the catalogue says counts for more than what the rows happen to hold.
    let nullable = |field: &str| orders.field(field).unwrap().nullable;
    assert_eq!(
        [nullable("customer"), nullable("day"), nullable("note")],
        [Some(false), None, Some(true)],
        "{yaml}"
    );
    assert_eq!(orders.field("day").unwrap().range.as_deref().unwrap().0, "2026-01-01");
    let types =
        ["order_id", "net", "day", "code"].map(|field| orders.field(field).unwrap().datatype.as_str());
    assert_eq!(types, ["Integer", "Decimal", "Date", "String"]);
    assert_eq!(tables.len(), 3, "what the user may not read is not there: {yaml}");
    assert!(!yaml.contains("@example.org") && !yaml.contains("reads"), "{yaml}");

    let none = profile_postgres(&as_reader, &["hidden".to_owned()], "sales", LIMITS).await.unwrap_err();
    assert!(none.to_string().contains("hidden has no table that this user may read"), "{none}");
    let wrong =
        profile_postgres(&as_reader.replace(":reads@", ":wrong@"), &["public".to_owned()], "sales", LIMITS)
            .await;
    assert!(!wrong.unwrap_err().to_string().contains("wrong"));
}
