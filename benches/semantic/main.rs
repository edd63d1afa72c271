//! How fast semantic models load and metrics compile: `cargo bench --bench semantic`, with `-- --help` for the sizes.
//!
//! Everything is written into a temporary folder first. Look-ups go through the engine, hence are authorised, guarded and
//! audited. Prints Markdown, or JSON for `bench.py`, which runs wren-core and MetricFlow beside this.

mod compile;
mod lookups;
mod models;
mod times;

use std::error::Error;
use std::path::PathBuf;

use clap::{Parser, ValueEnum as _};
use models::Shape;

/// Planning a query recurses deeply, the more so unoptimised; 2 MB, the default, overflow.
const THREAD_STACK_BYTES: usize = 8 * 1024 * 1024;

/// Loads semantic models, compiles metrics and looks metadata up, and says how long it takes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Datasets to load and compile over, one or more sizes; 0 for none.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    sizes: Vec<usize>,
    /// How datasets are spread over models; both if left out.
    #[arg(long)]
    shape: Option<Shape>,
    /// Loads of each size; the median is told.
    #[arg(long, default_value_t = 5, value_parser = positive)]
    rounds: usize,
    /// Compilations of each size.
    #[arg(long, default_value_t = 5_000, value_parser = positive)]
    calls: usize,
    /// Fields of the catalog that is served for look-ups; 0 for none.
    #[arg(long, default_value_t = 500_000)]
    fields: usize,
    /// Look-ups of each kind.
    #[arg(long, default_value_t = 200, value_parser = positive)]
    lookups: usize,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Write the models of the first size into this folder, and stop.
    #[arg(long)]
    write: Option<PathBuf>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "give a whole number above 0".to_owned())
}

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments = Arguments::parse();
    if let Some(folder) = &arguments.write {
        let datasets = arguments.sizes.first().copied().unwrap_or_default();
        let shape = arguments.shape.unwrap_or(Shape::One);
        models::write(folder, shape, (datasets / 2).max(1), compile::FIELDS)?;
        return Ok(());
    }

    let lookups = match arguments.fields {
        0 => None,
        fields => Some(serve(fields, arguments.lookups)?),
    };
    if let (Some(lookups), false) = (&lookups, arguments.json) {
        lookups.print();
    }

    let shapes = match arguments.shape {
        Some(shape) => vec![shape],
        None => Shape::value_variants().to_vec(),
    };
    if !arguments.json {
        println!(
            "| datasets | as | YAML | load | prepare | compile, p50 | p99 | another query each time, p50 | p99 |\n\
             |---|---|---|---|---|---|---|---|---|"
        );
    }
    let mut sizes = Vec::new();
    for datasets in arguments.sizes.iter().copied().filter(|datasets| *datasets > 0) {
        for shape in &shapes {
            let folder = tempfile::tempdir()?;
            let measured =
                compile::measure(folder.path(), *shape, datasets, arguments.rounds, arguments.calls)?;
            if !arguments.json {
                measured.print();
            }
            sizes.push(measured.json());
        }
    }
    if arguments.json {
        let lookups = lookups.map(|lookups| lookups.json());
        println!("{}", serde_json::json!({"sizes": sizes, "served": lookups}));
    }
    Ok(())
}

/// Look-ups, on threads like those of the service.
fn serve(fields: usize, calls: usize) -> Result<lookups::Measured, Box<dyn Error + Send + Sync>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    // Not on the main thread, whose stack has the size that the shell gives it.
    std::thread::scope(|scope| {
        let work = || runtime.block_on(lookups::measure(path, fields, calls));
        let thread = std::thread::Builder::new().stack_size(THREAD_STACK_BYTES).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
