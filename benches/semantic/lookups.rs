//! Metadata of a large catalog at the engine's door: look-ups, aggregation over all of it, and what it takes in memory.

use std::path::Path;
use std::time::{Duration, Instant};

use steward::config::{Config, FolderConfig, SemanticConfig};
use steward::engine::{Context, Engine, EngineError, Parts, SqlOptions};
use steward::semantic::compile::{CompileRequest, DimensionRequest};

use crate::models::{self, Shape};
use crate::times::{Times, ms};

/// Fields of each dataset.
const FIELDS: usize = 60;

pub struct Measured {
    pub fields: usize,
    /// From nothing to an engine that serves.
    pub open: Duration,
    /// Growth of resident memory a field, in bytes: of the open engine, and with everything that is made at first use.
    pub open_bytes: Option<u64>,
    pub used_bytes: Option<u64>,
    pub rows: Vec<(&'static str, Times)>,
}

/// Take it first of all in a process: memory that something else gave back would hide what this takes.
pub async fn measure(
    folder: &Path,
    fields: usize,
    calls: usize,
) -> Result<Measured, Box<dyn std::error::Error + Send + Sync>> {
    let pairs = (fields / (2 * FIELDS)).max(1);
    let fields = 2 * FIELDS * pairs;
    models::write(&folder.join("semantic"), Shape::Pairs, pairs, FIELDS)?;
    let empty = |name: &str| FolderConfig { dir: folder.join(name) };
    let config = Config {
        data_dir: folder.join("data"),
        semantic: SemanticConfig { dir: folder.join("semantic"), watch: false, poll_ms: 1_000 },
        actions: empty("actions"),
        indexes: empty("indexes"),
        warehouses: Default::default(),
        ..Config::default()
    };
    let before = resident();
    let started = Instant::now();
    let engine = Engine::open(config, Parts::QueryOnly).await?;
    let open = started.elapsed();
    let a_field =
        |now: Option<u64>| Some(now?.saturating_sub(before?) / u64::try_from(fields).unwrap_or(u64::MAX));
    let open_bytes = a_field(resident());

    let caller = Context::local("bench");
    let last = pairs - 1;
    let point = format!(
        "SELECT description FROM semantic.fields WHERE dataset = 'fact_{last}' AND field = 'fact_value_7'"
    );
    let grouped = "SELECT model, COUNT(*) AS n FROM semantic.fields GROUP BY model ORDER BY n DESC LIMIT 10";
    let columns =
        format!("SELECT column_name FROM information_schema.columns WHERE table_schema = 'model_{last}'");
    let mut rows = Vec::new();
    for (what, sql, expected) in [
        ("`SELECT 1`", "SELECT 1", 1),
        ("one field by dataset and name, SQL", &point, 1),
        ("`GROUP BY model` over all fields", grouped, pairs.min(10)),
        ("columns of one model, `information_schema`", &columns, 2 * FIELDS),
    ] {
        rows.push((what, repeated(calls, async || sql_rows(&engine, &caller, sql).await, expected).await?));
    }
    let name = format!("model_{last}.fact_{last}");
    let fetch = async || Ok(engine.get_dataset(&caller, &name).await?.1.fields.len());
    rows.push(("one dataset by name, as the REST fetch", repeated(calls, fetch, FIELDS).await?));

    // Search and compiler are made at their first use; both are part of what a served catalog takes.
    let words = format!("share number 7 of the fact in region {last}");
    engine.list_datasets(&caller, Some(&words)).await?;
    let request = CompileRequest {
        model: Some(format!("model_{last}")),
        metrics: vec![format!("sum_{last}")],
        dimensions: vec![DimensionRequest::Name(format!("dimension_{last}.category"))],
        ..CompileRequest::default()
    };
    let compile = async || Ok(engine.compile(&caller, &request).await?.joins.len());
    rows.push(("a metric compiled, audited", repeated(calls, compile, 1).await?));
    let used_bytes = a_field(resident());
    engine.close().await;
    Ok(Measured { fields, open, open_bytes, used_bytes, rows })
}

/// Times of `calls` answers of the expected size, after one that is not counted.
async fn repeated(
    calls: usize,
    mut work: impl AsyncFnMut() -> Result<usize, EngineError>,
    expected: usize,
) -> Result<Times, EngineError> {
    let mut times = Times::default();
    for call in 0..=calls {
        let started = Instant::now();
        let found = work().await?;
        let elapsed = started.elapsed();
        assert_eq!(found, expected, "the answer is whole");
        if call > 0 {
            times.push(elapsed);
        }
    }
    Ok(times)
}

async fn sql_rows(engine: &Engine, caller: &Context, sql: &str) -> Result<usize, EngineError> {
    Ok(engine.sql_run(caller, sql, SqlOptions::default()).await?.rows)
}

/// Resident memory of this process in bytes, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

impl Measured {
    pub fn json(&self) -> serde_json::Value {
        let row = |(what, times): &(&str, Times)| {
            let (p50, p99) = (ms(times.median()), ms(times.percentile(99)));
            serde_json::json!({"what": what, "calls": times.len(), "p50_ms": p50, "p99_ms": p99})
        };
        serde_json::json!({
            "fields": self.fields,
            "open_ms": ms(self.open),
            "open_bytes_a_field": self.open_bytes,
            "used_bytes_a_field": self.used_bytes,
            "lookups": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }

    pub fn print(&self) {
        let bytes =
            |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string());
        println!(
            "{} fields: open {:.2?}; resident bytes a field: {} open, {} with search and compiler\n",
            self.fields,
            self.open,
            bytes(self.open_bytes),
            bytes(self.used_bytes)
        );
        println!("| at the engine's door | p50 | p99 |\n|---|---|---|");
        for (what, times) in &self.rows {
            println!("| {what} | {:.2?} | {:.2?} |", times.median(), times.percentile(99));
        }
        println!();
    }
}
