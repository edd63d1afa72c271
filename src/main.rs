//! The binary: parses the command line, builds the runtime, hands over to [`steward::cli`].

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use steward::cli::{self, Cli, CliError};
use tikv_jemallocator::Jemalloc;

/// Parsing and planning allocate much and little at a time, results much at a time (docs/performance.md).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Planning a query recurses deeply, the more so unoptimised; 2 MB, the default, overflow.
const THREAD_STACK_BYTES: usize = 8 * 1024 * 1024;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()
        .map_err(CliError::Runtime);
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return cli::finish(Err(error)),
    };
    // On a worker, not on the main thread, whose stack has the size that the shell gives it.
    let outcome = runtime.block_on(runtime.spawn(cli::run(cli)));
    // A thread that waits for a terminal or a pipe must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    cli::finish(outcome.unwrap_or(Err(CliError::Crashed)))
}
