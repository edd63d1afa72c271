//! What the guard and its secured relations add to TPC-H: `benches/tpch/run.sh`, or with data at hand
//! `cargo bench --bench tpch -- --data FOLDER`, where FOLDER has `tpch/lineitem.parquet` and the other seven tables.
//!
//! All answers are compared before anything is timed. Prints Markdown, or JSON for `bench.py`, which runs DuckDB and roapi
//! beside this.

mod answers;
mod figures;
mod ways;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Parser, ValueEnum as _};
use figures::{Figures, cpu};
use ways::{Way, Ways};

/// Planning a query recurses deeply, the more so unoptimised; 2 MB, the default, overflow.
const THREAD_STACK_BYTES: usize = 8 * 1024 * 1024;

const QUERIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/tpch/queries");

/// Runs the 22 queries of TPC-H on DataFusion alone and through the engine's door, in turns, and says how long they take.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder with `tpch/<table>.parquet`; `benches/tpch/run.sh` makes one.
    #[arg(long)]
    data: PathBuf,
    /// Only these queries, such as q01,q18.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these ways of running them.
    #[arg(long, value_delimiter = ',')]
    ways: Vec<Way>,
    /// How often each query is timed in each way, in turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Write the guarded answers into this folder, as CSV.
    #[arg(long)]
    answers: Option<PathBuf>,
    /// Write the physical plans, raw and secured, into this folder, and stop.
    #[arg(long)]
    explain: Option<PathBuf>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

struct Query {
    name: String,
    sql: String,
}

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()?;
    // On a worker, not on the main thread, whose stack has the size that the shell gives it.
    runtime.block_on(runtime.spawn(measure(arguments)))?
}

async fn measure(arguments: Arguments) -> Result<(), Box<dyn Error + Send + Sync>> {
    let queries = queries(&arguments.only)?;
    let folder = tempfile::tempdir()?;
    let data = std::path::absolute(&arguments.data)?;
    let ways = Ways::open(&data, folder.path()).await?;
    if let Some(plans) = &arguments.explain {
        std::fs::create_dir_all(plans)?;
        for query in &queries {
            for (way, plan) in ways.plans(&query.sql).await? {
                std::fs::write(plans.join(format!("{}.{way}.txt", query.name)), plan)?;
            }
        }
        return Ok(());
    }

    let chosen = if arguments.ways.is_empty() { Way::value_variants().to_vec() } else { arguments.ways };
    let mut figures = Vec::new();
    for query in &queries {
        let rows = compared(&ways, &chosen, query, arguments.answers.as_deref()).await?;
        figures.push(Figures::new(&query.name, rows, &chosen));
    }
    for round in 0..arguments.rounds {
        for (query, figures) in queries.iter().zip(&mut figures) {
            // None is always the one that finds the caches as another left them.
            for at in 0..chosen.len() {
                let way = chosen[(at + round) % chosen.len()];
                let (before, started) = (cpu(), Instant::now());
                std::hint::black_box(ways.run(way, &query.sql).await?);
                figures.add(way, started.elapsed(), cpu().zip(before).map(|(now, before)| now - before));
            }
        }
    }
    match arguments.json {
        true => println!("{}", figures::json(&figures)),
        false => figures::print(&figures, &chosen),
    }
    ways.close().await;
    Ok(())
}

/// The queries in the order of their names.
fn queries(only: &[String]) -> Result<Vec<Query>, Box<dyn Error + Send + Sync>> {
    let mut queries = Vec::new();
    for entry in std::fs::read_dir(QUERIES)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if only.is_empty() || only.contains(&name) {
            queries.push(Query { name, sql: std::fs::read_to_string(path)? });
        }
    }
    queries.sort_by(|a, b| a.name.cmp(&b.name));
    match queries.len() {
        22 => Ok(queries),
        found if found == only.len() => Ok(queries),
        found => {
            Err(format!("{found} queries in {QUERIES}; there should be 22, or all that --only names").into())
        }
    }
}

/// Runs a query once in each way and compares the answers; returns how many rows they have.
async fn compared(
    ways: &Ways,
    chosen: &[Way],
    query: &Query,
    folder: Option<&Path>,
) -> Result<usize, Box<dyn Error + Send + Sync>> {
    let expected = ways.run(Way::Raw, &query.sql).await?;
    let masked = ways.run(Way::Views, &query.sql).await?;
    for way in chosen {
        let expected = if way.is_masked() { &masked } else { &expected };
        let found = ways.run(*way, &query.sql).await?;
        if let Some(difference) = answers::difference(expected, &found)? {
            return Err(format!("{}: {} answers otherwise: {difference}", query.name, way.name()).into());
        }
    }
    if !query.sql.contains(ways::MASKED)
        && let Some(difference) = answers::difference(&expected, &masked)?
    {
        return Err(format!("{}: the row filter takes rows away: {difference}", query.name).into());
    }
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{}.csv", query.name)), answers::csv(&expected)?)?;
    }
    Ok(expected.rows)
}
