//! Row filters, masks and hidden columns are proved: a query of a limited caller gives what the same query gives to
//! somebody without limits on a copy of the data that holds the permitted rows and values alone.
//!
//! Both run on one engine, so the copy is also asked of another (`duck`), lest both be wrong alike.
//!
//! World, policies, caller and queries are random; what is permitted is worked out without SQL (`world`). Queries may
//! divide by what is zero on hidden rows only (`query`), so that evaluating them there shows as an error.
//! `PROPTEST_CASES=2000` tries longer.

mod choices;
mod duck;
mod left;
mod query;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestError, TestRng, TestRunner};

use self::choices::Choices;
use self::duck::Duck;
use self::query::{Grammar, Query};
use self::world::{Seen, World};
use super::served::Served;
use super::{Context, Engine, EngineError, Parts, SqlOptions};
use crate::auth::Principal;
use crate::config::{Config, FolderConfig, SemanticConfig, WarehouseConfig};
use crate::error::ErrorKind;
use crate::query::QueryError;
use crate::semantic::Catalog;

/// Worlds, with this many queries each.
const WORLDS: u32 = 40;
const QUERIES: usize = 8;

/// The engine that limits, and one that serves the reduced copies.
struct Pair {
    folder: tempfile::TempDir,
    limited: Engine,
    reduced: Engine,
    /// Another system over the reduced copies, where it is installed.
    third: Option<Duck>,
    worlds: AtomicUsize,
}

#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    with_rows: AtomicUsize,
    refused: AtomicUsize,
    restricted_worlds: AtomicUsize,
    /// Queries that the third system answered too.
    compared: AtomicUsize,
    /// Those that it refused, by what it said.
    not_compared: Mutex<BTreeMap<String, usize>>,
    /// Queries that the engine cannot plan, or fails at on the permitted data itself, by [`BEYOND`].
    beyond_engine: Mutex<BTreeMap<&'static str, usize>>,
    /// Those that it fails at in words that are not known, each with a query.
    unforeseen: Mutex<BTreeMap<String, String>>,
}

/// How DataFusion says what it cannot do, or does wrong, with nothing hidden from the caller.
const BEYOND: &[&str] = &[
    "not supported: ",
    // DISTINCT ON below a join without keys.
    "SanityCheckPlan",
    // UNION of a count and of a count in a correlated subquery.
    "Physical input schema should be the same",
    // Aggregates of constants over an aggregate without groups.
    "aggregate_statistics",
    // Columns of subqueries and joins that are lost on the way, most often where a table is known to be empty. What a
    // caller may not name begins with neither.
    "Schema contains qualified field name",
    // A window over LEFT JOIN LATERAL.
    "Window schema has wrong number of fields",
];

impl Tally {
    /// Whether the engine would fail at the query without a guard too.
    fn is_beyond_engine(&self, error: &(ErrorKind, String), query: &Query) -> bool {
        let (kind, text) = error;
        if let Some(known) = BEYOND.iter().find(|known| text.contains(**known)) {
            *self.beyond_engine.lock().unwrap().entry(known).or_default() += 1;
            return true;
        }
        let is_internal = *kind == ErrorKind::Internal;
        if is_internal {
            self.unforeseen.lock().unwrap().insert(text.clone(), query.sql.clone());
        }
        is_internal
    }

    /// What the third system answers, if it does and our own engine is not known to be wrong.
    fn third_opinion(
        &self,
        answer: Result<Vec<Vec<String>>, String>,
        query: &Query,
        tables: &[Seen],
    ) -> Option<Vec<Vec<String>>> {
        let refused = match answer {
            Ok(_) if left::is_left(&query.sql, tables) => "known to be wrong with us".to_owned(),
            Ok(rows) => {
                self.compared.fetch_add(1, Ordering::Relaxed);
                return Some(rows);
            }
            Err(error) => error.lines().next().unwrap_or_default().to_owned(),
        };
        *self.not_compared.lock().unwrap().entry(refused).or_default() += 1;
        None
    }
}

async fn engine(folder: &Path, name: &str) -> Engine {
    let empty = |part: &str| FolderConfig { dir: folder.join(name).join(part) };
    let data = WarehouseConfig::local(folder.join("files"));
    let config = Config {
        data_dir: folder.join(name).join("data"),
        semantic: SemanticConfig { dir: folder.join(name).join("semantic"), watch: false, poll_ms: 1000 },
        actions: empty("actions"),
        indexes: empty("indexes"),
        warehouses: [("local".to_owned(), data)].into(),
        ..Config::default()
    };
    Engine::open(config, Parts::QueryOnly).await.unwrap()
}

impl Pair {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("files")).unwrap();
        let (limited, reduced) =
            (engine(folder.path(), "limited").await, engine(folder.path(), "reduced").await);
        Self { folder, limited, reduced, third: Duck::open(), worlds: AtomicUsize::new(0) }
    }

    /// Makes a world and its reduced copy the data of the two engines, and runs the queries on both.
    async fn compare(&self, world: &World, queries: &[Query], tally: &Tally) -> Result<(), String> {
        let number = self.worlds.fetch_add(1, Ordering::Relaxed);
        let (whole, copy) = (format!("whole{number}"), format!("copy{number}"));
        let files = self.folder.path().join("files");
        let seen = world.seen();
        world.write(&files.join(&whole));
        for table in &seen {
            table.write(&files.join(&copy));
        }
        serve(&self.limited, Some(world.model(&whole)));
        let datasets: Vec<_> = seen.iter().map(|table| table.definition(&copy)).collect();
        let model = serde_json::json!({"name": "m", "description": "A copy.", "datasets": datasets});
        // A model of nothing is none.
        serve(&self.reduced, (!seen.is_empty()).then(|| model.to_string()));
        tally.restricted_worlds.fetch_add(world.is_restricted().into(), Ordering::Relaxed);

        if let Some(third) = &self.third {
            third.serve(&files.join(&copy), &seen);
        }

        let principal = Principal::local("limited").with_scopes(world.scopes().parse().unwrap());
        let principal = world
            .caller
            .claims
            .iter()
            .fold(principal, |principal, (name, claim)| principal.with_claim(*name, claim.clone()));
        let limited = Context::new(std::sync::Arc::new(principal), "test");
        let unlimited = Context::local("owner");
        for query in queries {
            let (guarded, permitted) = tokio::join!(
                answer(&self.limited, &limited, query),
                answer(&self.reduced, &unlimited, query)
            );
            let counter = match &guarded {
                Ok(rows) if rows.is_empty() => &tally.answered,
                Ok(_) => {
                    tally.with_rows.fetch_add(1, Ordering::Relaxed);
                    &tally.answered
                }
                Err(_) => &tally.refused,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            let same = match (&guarded, &permitted) {
                // What the optimiser makes of a query depends on the data; so does whether the engine can run the rest.
                // On permitted rows nothing divides by zero, but that what a join's ON says of one side is computed on the
                // other too, before the join, where its equality says that they are the same.
                (_, Err((_, text))) if text.contains("Divide by zero") => true,
                (_, Err(error)) if tally.is_beyond_engine(error, query) => true,
                (Err((_, text)), _) if BEYOND.iter().any(|known| text.contains(known)) => true,
                (Ok(guarded), Ok(permitted)) => guarded == permitted,
                (Err((guarded, _)), Err((permitted, _))) => guarded == permitted,
                _ => false,
            };
            let third = match (&self.third, &permitted) {
                (Some(third), Ok(permitted)) if !query.is_ours_alone && *permitted != cut() => {
                    tally.third_opinion(third.answer(query), query, &seen)
                }
                _ => None,
            };
            let same = same && third.as_ref().is_none_or(|third| Ok(third) == permitted.as_ref());
            if !same {
                let claims = &world.caller.claims;
                return Err(format!(
                    "{}\n  guarded   {guarded:?}\n  permitted {permitted:?}\n  third     {third:?}\n  scopes {} claims {claims:?}\n  model {}\n  permitted tables {seen:?}",
                    query.sql,
                    world.scopes(),
                    world.model("files"),
                ));
            }
        }
        for folder in [whole, copy] {
            // A world without a single file has no folder.
            let _ = std::fs::remove_dir_all(files.join(folder));
        }
        Ok(())
    }
}

fn serve(engine: &Engine, model: Option<String>) {
    let wanted = usize::from(model.is_some());
    let sources = model.map(|text| ("semantic/m/model.yaml".to_owned(), Ok(text)));
    let catalog = Catalog::from_sources(sources, Vec::new());
    assert_eq!(catalog.models.len(), wanted, "{:?}", catalog.diagnostics);
    engine.served.store(std::sync::Arc::new(Served::new(catalog)));
}

/// The rows as texts, sorted unless the query orders them, or the kind of the error with its text.
async fn answer(
    engine: &Engine,
    context: &Context,
    query: &Query,
) -> Result<Vec<Vec<String>>, (ErrorKind, String)> {
    let result = engine.sql_run(context, &query.sql, SqlOptions::default()).await.map_err(|error| {
        let text = match &error {
            // Told to nobody but the log.
            EngineError::Query(QueryError::Engine(cause)) => cause.to_string(),
            other => other.to_string(),
        };
        (error.kind(), text)
    })?;
    if result.truncated_at.is_some() {
        return Ok(cut());
    }
    let mut rows = duck::texts(&result.batches);
    if !query.is_ordered {
        rows.sort();
    }
    Ok(rows)
}

/// Stands for a result that was cut: which rows are left is nobody's promise.
fn cut() -> Vec<Vec<String>> {
    vec![vec!["cut".to_owned()]]
}

/// What of the metadata is asked for besides the random queries.
fn metadata_queries() -> Vec<Query> {
    let query = |sql: &str| Query { sql: sql.to_owned(), is_ordered: true, is_ours_alone: true };
    vec![query(
        "SELECT table_name, column_name, ordinal_position FROM information_schema.columns WHERE table_schema = 'm' ORDER BY 1, 3",
    )]
}

#[test]
fn a_limited_caller_gets_what_anybody_gets_on_a_copy_of_the_permitted_data() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let pair = runtime.block_on(Pair::new());
    let tally = Tally::default();
    let cases = Cases { failure_persistence: None, max_shrink_iters: 24, ..Cases::default() };
    let cases = Cases {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() { cases.cases } else { WORLDS },
        ..cases
    };
    let worlds = cases.cases as usize;
    // The same worlds at each run, and others when more are asked for.
    let mut runner = match std::env::var_os("PROPTEST_CASES") {
        None => TestRunner::new_with_rng(cases, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
        Some(_) => TestRunner::new(cases),
    };
    let numbers = |range: std::ops::Range<usize>| proptest::collection::vec(any::<u32>(), range);
    let strategy = (numbers(40..240), proptest::collection::vec(numbers(10..200), QUERIES));
    let outcome = runner.run(&strategy, |(world, queries)| {
        let world = World::new(&mut Choices::new(&world));
        let (seen, hidden) = (world.seen(), world.hidden_tables());
        let query = |numbers: &Vec<u32>| Grammar::new(&mut Choices::new(numbers), &seen, &hidden).query();
        let queries: Vec<Query> = queries.iter().map(query).chain(metadata_queries()).collect();
        runtime.block_on(pair.compare(&world, &queries, &tally)).map_err(TestCaseError::fail)
    });
    runtime.block_on(async {
        pair.limited.close().await;
        pair.reduced.close().await;
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{}", reason.message()),
        Err(TestError::Abort(reason)) => panic!("{}", reason.message()),
    }
    // Neither the policies nor the queries are so odd that nothing is compared.
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (answered, with_rows, refused) =
        (count(&tally.answered), count(&tally.with_rows), count(&tally.refused));
    println!(
        "{answered} answered, {with_rows} with rows, {refused} refused, {} worlds restricted",
        count(&tally.restricted_worlds)
    );
    let compared = count(&tally.compared);
    let not_compared = tally.not_compared.into_inner().unwrap();
    println!("{compared} compared with DuckDB; not compared: {not_compared:#?}");
    assert!(pair.third.is_none() || compared * 2 > answered, "{compared} of {answered}: {not_compared:#?}");
    let unforeseen = tally.unforeseen.into_inner().unwrap();
    assert!(unforeseen.is_empty(), "the engine fails in words that are not in BEYOND: {unforeseen:#?}");
    let beyond = tally.beyond_engine.into_inner().unwrap();
    println!("beyond the engine: {beyond:?}");
    assert!(
        beyond.values().sum::<usize>() * 20 <= answered,
        "too many queries are beyond the engine: {beyond:?}"
    );
    assert!(answered > 2 * worlds && with_rows > worlds && count(&tally.restricted_worlds) > worlds / 3);
}
