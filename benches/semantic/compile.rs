//! Loading models from YAML, and compiling a metric by a field of the dimension that the fact is joined to.

use std::io;
use std::path::Path;
use std::time::Duration;

use steward::semantic::Catalog;
use steward::semantic::compile::{CompileRequest, Compiled, Compiler, Dialect, DimensionRequest};

use crate::models::{self, Shape};
use crate::times::{Times, cpu, cpu_ms_each, ms};

/// Fields of each dataset.
pub const FIELDS: usize = 12;

pub struct Measured {
    pub datasets: usize,
    pub shape: Shape,
    pub size_bytes: u64,
    /// From files to a catalog that is checked and ready to be served, diagnostics included.
    pub load: Times,
    /// Processor time of a load, in milliseconds; on a busy machine this and the time above are apart.
    pub load_cpu_ms: Option<f64>,
    /// From a catalog to a compiler; made once a load.
    pub prepare: Duration,
    /// One query again and again. Nothing remembers the answer.
    pub same: Times,
    /// The same query of each pair in turn.
    pub others: Times,
    /// Processor time of a compilation, in milliseconds.
    pub compile_cpu_ms: Option<f64>,
    pub sql: String,
}

pub fn measure(
    folder: &Path,
    shape: Shape,
    datasets: usize,
    rounds: usize,
    calls: usize,
) -> io::Result<Measured> {
    let pairs = (datasets / 2).max(1);
    let size_bytes = models::write(folder, shape, pairs, FIELDS)?;
    let (mut load, before) = (Times::default(), cpu());
    let mut catalog = load.take(|| Catalog::load(folder));
    for _ in 1..rounds {
        // The earlier catalog goes first, so that two are never in memory and its end is not in the time.
        drop(std::mem::take(&mut catalog));
        catalog = load.take(|| Catalog::load(folder));
    }
    let load_cpu_ms = cpu_ms_each(before, &load);
    assert_eq!(catalog.diagnostics, [], "the models have no findings");
    let found: usize = catalog.models.iter().map(|model| model.datasets.len()).sum();
    assert_eq!(found, 2 * pairs, "every dataset is loaded");
    let mut prepare = Times::default();
    let compiler = prepare.take(|| Compiler::new(&catalog.models));

    let last = request(shape, pairs - 1);
    let sql = compiled(&compiler, &last).sql;
    let (mut same, before) = (Times::default(), cpu());
    for _ in 0..calls {
        std::hint::black_box(same.take(|| compiled(&compiler, &last)));
    }
    let compile_cpu_ms = cpu_ms_each(before, &same);
    let mut others = Times::default();
    for request in (0..calls).map(|call| request(shape, call % pairs)) {
        std::hint::black_box(others.take(|| compiled(&compiler, &request)));
    }
    let prepare = prepare.median();
    Ok(Measured {
        datasets: 2 * pairs,
        shape,
        size_bytes,
        load,
        load_cpu_ms,
        prepare,
        same,
        others,
        compile_cpu_ms,
        sql,
    })
}

fn request(shape: Shape, pair: usize) -> CompileRequest {
    CompileRequest {
        model: Some(shape.model(pair)),
        metrics: vec![format!("sum_{pair}")],
        dimensions: vec![DimensionRequest::Name(format!("dimension_{pair}.category"))],
        dialect: Dialect::DuckDb,
        ..CompileRequest::default()
    }
}

fn compiled(compiler: &Compiler, request: &CompileRequest) -> Compiled {
    let compiled = compiler.compile(request).expect("the query names what the models have");
    assert_eq!(compiled.joins.len(), 1, "it goes by the relationship");
    compiled
}

impl Measured {
    pub fn json(&self) -> serde_json::Value {
        let times = |times: &Times| {
            let (p50, p99) = (ms(times.median()), ms(times.percentile(99)));
            serde_json::json!({"calls": times.len(), "p50_ms": p50, "p99_ms": p99})
        };
        let mut same = times(&self.same);
        same["cpu_ms"] = self.compile_cpu_ms.into();
        serde_json::json!({
            "datasets": self.datasets,
            "shape": self.shape.description(),
            "size_bytes": self.size_bytes,
            "loads": self.load.len(),
            "load_ms": ms(self.load.median()),
            "load_cpu_ms": self.load_cpu_ms,
            "prepare_ms": ms(self.prepare),
            "same": same,
            "others": times(&self.others),
            "sql": self.sql,
        })
    }

    pub fn print(&self) {
        let Self { datasets, size_bytes, load, prepare, same, others, .. } = self;
        println!(
            "| {datasets} | {} | {:.1} MB | {:.2?} | {prepare:.2?} | {:.1?} | {:.1?} | {:.1?} | {:.1?} |",
            self.shape.description(),
            *size_bytes as f64 / 1e6,
            load.median(),
            same.median(),
            same.percentile(99),
            others.median(),
            others.percentile(99),
        );
    }
}
