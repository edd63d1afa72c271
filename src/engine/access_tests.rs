//! Row filters, masks, search and reload at the engine's door, with the attacks on them.

use std::path::Path;
use std::time::{Duration, Instant};

use datafusion::arrow::util::display::array_value_to_string;

use super::{Context, Engine, EngineError, Parts, SqlOptions};
use crate::auth::Principal;
use crate::config::{Config, FolderConfig, SemanticConfig, WarehouseConfig};

const MODEL: &str = r#"
name: air
description: Flights out of New York.
datasets:
  - name: flights
    source: local.nycflights13.flights
    description: One row a scheduled departure.
    access: {row_filter: "carrier = {{claims.carrier}} AND month = 1"}
    fields:
      - {name: carrier, description: Who flew.}
      - {name: month, description: From 1 to 12.}
      - {name: tail, expression: tailnum, description: Which aircraft., sensitivity: protected,
         access: {mask: "CASE WHEN tail IS NULL THEN NULL ELSE LEFT(tail, 1) || '***' END"}}
      - {name: number, expression: flight, description: Flight number., sensitivity: protected}
  - name: airlines
    source: local.nycflights13.airlines
    description: One row a company.
    access: {row_filter: "carrier IN ({{claims.carriers}})"}
    fields:
      - {name: carrier, description: Two letter code.}
      - {name: title, expression: name, description: Name in full.}
metrics:
  - {name: late_departures, dataset: flights, expression: COUNT(*), description: How many departed late.}
  - {name: aircraft, dataset: flights, expression: COUNT(DISTINCT tail), description: How many aircraft flew.}
"#;

async fn engine(folder: &Path, model: &str, watch: bool) -> Engine {
    let semantic = folder.join("semantic/air");
    std::fs::create_dir_all(&semantic).unwrap();
    std::fs::write(semantic.join("model.yaml"), model).unwrap();
    let empty = |name: &str| FolderConfig { dir: folder.join(name) };
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let config = Config {
        data_dir: folder.join("data"),
        semantic: SemanticConfig { dir: folder.join("semantic"), watch, poll_ms: 20 },
        actions: empty("actions"),
        indexes: empty("indexes"),
        warehouses: [("local".to_owned(), WarehouseConfig::local(examples))].into(),
        ..Config::default()
    };
    let engine = Engine::open(config, Parts::QueryOnly).await.unwrap();
    assert_eq!(engine.semantic_diagnostics(), vec![]);
    engine
}

fn caller(claims: &[(&str, serde_json::Value)], scopes: &str) -> Context {
    let principal = Principal::local("test").with_scopes(scopes.parse().unwrap());
    let principal = claims.iter().fold(principal, |one, (name, value)| one.with_claim(*name, value.clone()));
    Context::new(std::sync::Arc::new(principal), "test")
}

const READER: &str = "semantic:read sql:run sql:generate";

/// The first column of the result as texts.
async fn column(engine: &Engine, context: &Context, sql: &str) -> Vec<String> {
    let result = engine
        .sql_run(context, sql, SqlOptions::default())
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = |batch: &datafusion::arrow::array::RecordBatch| -> Vec<String> {
        (0..batch.num_rows()).map(|row| array_value_to_string(batch.column(0), row).unwrap()).collect()
    };
    result.batches.iter().flat_map(rows).collect()
}

async fn count(engine: &Engine, context: &Context, sql: &str) -> u64 {
    column(engine, context, sql).await[0].parse().unwrap()
}

#[tokio::test]
async fn a_caller_sees_the_rows_that_its_claims_open_and_without_the_claim_none() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), MODEL, false).await;
    let all = "SELECT COUNT(*) FROM air.flights";
    let jetblue = caller(&[("carrier", "B6".into())], READER);
    // Counted in the data: flights of B6 in January.
    assert_eq!(count(&engine, &jetblue, all).await, 4_427);
    assert_eq!(column(&engine, &jetblue, "SELECT DISTINCT carrier FROM air.flights").await, ["B6"]);
    assert_eq!(
        count(&engine, &jetblue, "SELECT COUNT(*) FROM air.flights WHERE month = 2 OR TRUE").await,
        4_427
    );
    for claims in [
        vec![],
        vec![("carrier", serde_json::Value::Null)],
        vec![("carrier", serde_json::json!([]))],
        vec![("carrier", serde_json::json!(["B6", "UA"]))],
        vec![("carrier", serde_json::json!({"a": 1}))],
        vec![("carrier", "B6' OR '1'='1".into())],
        vec![("carrier", "$claim1".into())],
        vec![("carriers", "B6".into())],
    ] {
        assert_eq!(count(&engine, &caller(&claims, READER), all).await, 0, "{claims:?}");
    }
    let two = caller(&[("carriers", serde_json::json!(["AA", "UA"]))], READER);
    assert_eq!(column(&engine, &two, "SELECT carrier FROM airlines ORDER BY 1").await, ["AA", "UA"]);
    let one = caller(&[("carriers", "AA".into())], READER);
    assert_eq!(column(&engine, &one, "SELECT carrier FROM airlines").await, ["AA"]);
}

#[tokio::test]
async fn a_condition_of_the_caller_is_never_evaluated_on_rows_that_it_may_not_see() {
    let folder = tempfile::tempdir().unwrap();
    let filtered = MODEL.replace("carrier = {{claims.carrier}} AND month = 1", "month < 12");
    let engine = engine(folder.path(), &filtered, false).await;
    let reader = caller(&[], READER);
    // Fails on any row of December, were it evaluated there; permitted rows are those before.
    for attack in [
        "SELECT COUNT(*) FROM air.flights WHERE 1 / (month - 12) <= 0",
        "SELECT COUNT(*) FROM air.flights WHERE TRUE OR 1 / (month - 12) <= 0",
        "SELECT SUM(1 / (month - 12) + 1) FROM air.flights",
        "SELECT COUNT(*) FROM (SELECT DISTINCT month FROM air.flights) f JOIN (SELECT DISTINCT month FROM air.flights) g ON f.month = g.month AND 1 / (g.month - 12) <= 0",
    ] {
        engine
            .sql_run(&reader, attack, SqlOptions::default())
            .await
            .unwrap_or_else(|error| panic!("{attack}: {error}"));
    }
}

#[tokio::test]
async fn a_mask_stands_for_the_values_until_the_scope_is_there_and_without_a_mask_the_field_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), MODEL, false).await;
    let claim = [("carrier", "B6".into())];
    let (masked, cleared) = (caller(&claim, READER), caller(&claim, &format!("{READER} data:protected")));
    assert_eq!(column(&engine, &masked, "SELECT DISTINCT tail FROM air.flights").await, ["N***"]);
    assert!(count(&engine, &cleared, "SELECT COUNT(DISTINCT tail) FROM air.flights").await > 100);
    assert_eq!(count(&engine, &masked, "SELECT COUNT(*) FROM air.flights WHERE tail = 'N593JB'").await, 0);
    assert!(count(&engine, &cleared, "SELECT COUNT(*) FROM air.flights WHERE tail = 'N593JB'").await > 0);
    for attack in [
        "SELECT tailnum FROM air.flights",
        "SELECT number FROM air.flights",
        "SELECT flights.flight FROM air.flights",
    ] {
        assert!(engine.sql_run(&masked, attack, SqlOptions::default()).await.is_err(), "{attack}");
    }
    let names = "SELECT field FROM semantic.fields WHERE dataset = 'flights' ORDER BY ordinal";
    assert_eq!(column(&engine, &masked, names).await, ["carrier", "month", "tail"]);
    assert_eq!(column(&engine, &cleared, names).await, ["carrier", "month", "tail", "number"]);
    let masks = "SELECT field FROM semantic.fields WHERE is_masked";
    assert_eq!(column(&engine, &masked, masks).await, ["tail"]);
    assert_eq!(column(&engine, &cleared, masks).await, [] as [&str; 0]);
    // Nothing is computed from masked values, and nothing tells of the policies themselves.
    assert_eq!(column(&engine, &masked, "SELECT metric FROM semantic.metrics").await, ["late_departures"]);
    for table in ["row_filters", "masks", "diagnostics"] {
        let sql = format!("SELECT COUNT(*) FROM semantic.{table}");
        assert_eq!(count(&engine, &cleared, &sql).await, 0, "{table}");
    }
    let check = engine.sql_check(&masked, "SELECT carrier FROM air.flights").await.unwrap();
    for told in [&check.secured_sql, &check.plan] {
        assert!(!told.contains("tailnum") && !told.contains("B6") && !told.contains("month"), "{told}");
    }
    let owner = caller(&claim, &format!("{READER} data:highly_sensitive"));
    assert_eq!(column(&engine, &owner, "SELECT field FROM semantic.masks").await, ["tail"]);
    let filters = "SELECT row_filter FROM semantic.row_filters WHERE dataset = 'airlines'";
    assert_eq!(column(&engine, &owner, filters).await, ["carrier IN ({{claims.carriers}})"]);
}

#[tokio::test]
async fn semantic_search_is_a_relation_that_shows_what_the_caller_may_know() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), MODEL, false).await;
    let (public, cleared) = (caller(&[], READER), caller(&[], &format!("{READER} data:protected")));
    let sql = "SELECT s.name FROM semantic_search('late departures', 10) AS s WHERE s.kind = 'metric'";
    assert_eq!(column(&engine, &public, sql).await, ["late_departures"]);
    let joined = "SELECT f.description FROM semantic_search('aircraft') s JOIN semantic.fields f ON f.field = s.name AND f.dataset = s.dataset WHERE s.kind = 'field'";
    assert_eq!(column(&engine, &public, joined).await, ["Which aircraft."]);
    let hidden = "SELECT COUNT(*) FROM semantic_search('number', 100) WHERE name = 'number'";
    assert_eq!(count(&engine, &public, hidden).await, 0);
    assert_eq!(count(&engine, &cleared, hidden).await, 1);
    for bad in [
        "semantic_search('a', 0)",
        "semantic_search('a', 100000)",
        "semantic_search(5)",
        "semantic_search('a', 'b')",
        "semantic_search()",
    ] {
        let outcome = engine.sql_run(&public, &format!("SELECT * FROM {bad}"), SqlOptions::default()).await;
        assert!(matches!(outcome, Err(EngineError::InvalidInput(_))), "{bad}: {outcome:?}");
    }
    let no_reader = caller(&[], "sql:run");
    let refused =
        engine.sql_run(&no_reader, "SELECT * FROM semantic_search('a')", SqlOptions::default()).await;
    assert!(matches!(refused, Err(EngineError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn information_schema_lists_what_may_be_known_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), MODEL, false).await;
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'air' ORDER BY 1";
    assert_eq!(column(&engine, &caller(&[], READER), tables).await, ["airlines", "flights"]);
    assert_eq!(column(&engine, &caller(&[], "sql:run:air.airlines"), tables).await, ["airlines"]);
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'flights' ORDER BY ordinal_position";
    assert_eq!(column(&engine, &caller(&[], READER), columns).await, ["carrier", "month", "tail"]);
}

/// One model a pair of fact and dimension; with STEWARD_SCALE=<pairs>, how long queries over them take.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_a_large_catalog_is_found_by_name_and_counted_whole() {
    let wanted = std::env::var("STEWARD_SCALE").ok().and_then(|text| text.parse().ok());
    let pairs: usize = wanted.unwrap_or(40);
    const FIELDS: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), MODEL, false).await;
    let file = |number: usize| {
        let field = |at: usize| {
            format!("      - {{name: value_{number}_{at}, description: Number {at} of {number}.}}\n")
        };
        let dataset = |kind: &str| {
            let fields: String = (0..FIELDS).map(field).collect();
            format!(
                "  - name: {kind}_{number}\n    source: local.s.{kind}\n    description: One row a thing.\n    fields:\n{fields}"
            )
        };
        let text = format!(
            "name: m{number}\ndescription: One of many.\ndatasets:\n{}{}",
            dataset("fact"),
            dataset("dimension")
        );
        (format!("semantic/m{number}/model.yaml"), Ok(text))
    };
    let catalog = crate::semantic::Catalog::from_sources((0..pairs).map(file), Vec::new());
    assert_eq!(catalog.models.len(), pairs);
    let clock = Instant::now();
    engine.served.store(std::sync::Arc::new(super::Served::new(catalog)));
    let prepared = clock.elapsed();
    let reader = caller(&[], READER);
    let last = pairs - 1;
    let timed = async |sql: &str, expected: &str| {
        let mut times = Vec::new();
        for _ in 0..9 {
            let clock = Instant::now();
            assert_eq!(column(&engine, &reader, sql).await, [expected], "{sql}");
            times.push(clock.elapsed());
        }
        times.sort_unstable();
        times[4]
    };
    let total = (2 * pairs * FIELDS).to_string();
    let by_name = timed(&format!("SELECT description FROM semantic.fields WHERE dataset = 'fact_{last}' AND field = 'value_{last}_7'"), &format!("Number 7 of {last}.")).await;
    let grouped =
        timed("SELECT SUM(n) FROM (SELECT model, COUNT(*) AS n FROM semantic.fields GROUP BY model)", &total)
            .await;
    let plan = timed("SELECT 1", "1").await;
    let columns = format!("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = 'm{last}'");
    let information = timed(&columns, &(2 * FIELDS).to_string()).await;
    let clock = Instant::now();
    let found = engine.get_dataset(&reader, &format!("m{last}.fact_{last}")).await.unwrap();
    assert_eq!(found.1.fields.len(), FIELDS);
    let fetched = clock.elapsed();
    if wanted.is_some() {
        println!(
            "{total} fields: prepare {prepared:?}; medians: look-up {by_name:?}, GROUP BY {grouped:?}, SELECT 1 {plan:?}, \
             information_schema {information:?}; REST fetch {fetched:?}"
        );
    }
}

/// Asks until `found` says yes.
async fn until(what: &str, mut found: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !found().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_taken_up_whole_and_a_broken_one_leaves_the_last_good_catalog_serving() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), MODEL, true).await;
    let file = folder.path().join("semantic/air/model.yaml");
    let owner = caller(&[], &format!("{READER} data:highly_sensitive"));
    let describes = async |text: &str| {
        let sql = "SELECT description FROM semantic.models WHERE model = 'air'";
        column(&engine, &owner, sql).await == [text]
    };
    let before = engine.view(&owner);
    std::fs::write(&file, MODEL.replace("Flights out of New York.", "Flights out of Newark.")).unwrap();
    until("an edit", async || describes("Flights out of Newark.").await).await;
    assert_eq!(
        before.models[0].description, "Flights out of New York.",
        "a request under way keeps its catalog"
    );

    std::fs::write(&file, "name: air\ndatasets: [").unwrap();
    until("the findings of a broken edit", async || engine.semantic_state().errors > 0).await;
    assert!(describes("Flights out of Newark.").await);
    assert_eq!(engine.semantic_state().stale, 1);
    let findings = "SELECT rule FROM semantic.diagnostics WHERE severity = 'error'";
    assert_eq!(column(&engine, &owner, findings).await, ["yaml-syntax"]);
    // A second model is taken up while the first is still broken.
    let other = folder.path().join("semantic/other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("model.yaml"), MODEL.replace("name: air\n", "name: other\n")).unwrap();
    until("a new model", async || engine.semantic_state().models == 2).await;
    assert!(describes("Flights out of Newark.").await);

    std::fs::write(&file, MODEL).unwrap();
    until("the mended file", async || describes("Flights out of New York.").await).await;
    assert_eq!((engine.semantic_state().errors, engine.semantic_state().stale), (0, 0));
    std::fs::remove_dir_all(folder.path().join("semantic/air")).unwrap();
    until("a removed model", async || engine.semantic_state().models == 1).await;
    // The whole folder going away is an accident of a mount, not an edit.
    std::fs::rename(folder.path().join("semantic"), folder.path().join("gone")).unwrap();
    until("the loss of the folder", async || engine.semantic_state().stale == 1).await;
    assert_eq!(engine.semantic_state().models, 1);
}
