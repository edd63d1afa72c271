//! Times of one query in each way.

use std::time::Duration;

use crate::ways::Way;

pub struct Figures {
    query: String,
    rows: usize,
    ways: Vec<(Way, Times)>,
}

#[derive(Default)]
struct Times {
    wall: Vec<Duration>,
    /// Processor time of all of them together.
    cpu: Duration,
}

impl Times {
    fn min(&self) -> Duration {
        self.wall.iter().min().copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        let mut sorted = self.wall.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

impl Figures {
    pub fn new(query: &str, rows: usize, ways: &[Way]) -> Self {
        let ways = ways.iter().map(|way| (*way, Times::default())).collect();
        Self { query: query.to_owned(), rows, ways }
    }

    pub fn add(&mut self, way: Way, wall: Duration, cpu: Option<Duration>) {
        if let Some((_, times)) = self.ways.iter_mut().find(|(known, _)| *known == way) {
            times.wall.push(wall);
            times.cpu += cpu.unwrap_or_default();
        }
    }

    fn of(&self, way: Way) -> Option<&Times> {
        self.ways.iter().find(|(known, _)| *known == way).map(|(_, times)| times)
    }
}

/// Processor time of this process so far, all threads, in steps of 10 ms; where the system tells.
pub fn cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may hold anything; user and system time are the 12th and 13th field after it.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub fn json(figures: &[Figures]) -> serde_json::Value {
    let queries: Vec<serde_json::Value> = figures
        .iter()
        .map(|figures| {
            let mut query = serde_json::json!({"query": figures.query, "rows": figures.rows});
            for (way, times) in &figures.ways {
                let wall: Vec<f64> = times.wall.iter().map(|wall| ms(*wall)).collect();
                query[way.name()] = serde_json::json!({"ms": wall, "cpu_ms": ms(times.cpu)});
            }
            query
        })
        .collect();
    serde_json::Value::from(queries)
}

/// Shortest and median time of each query, all of them together, and how the ways compare with raw DataFusion.
pub fn print(figures: &[Figures], ways: &[Way]) {
    let names: Vec<String> = ways.iter().map(|way| format!("{}, min | median", way.name())).collect();
    println!("| query | rows | {} |\n|---|---|{}", names.join(" | "), "---|---|".repeat(ways.len()));
    for figures in figures {
        let cells: Vec<String> = figures
            .ways
            .iter()
            .map(|(_, times)| format!("{:.1} | {:.1}", ms(times.min()), ms(times.median())))
            .collect();
        println!("| {} | {} | {} |", figures.query, figures.rows, cells.join(" | "));
    }
    let total = |way: Way, of: fn(&Times) -> Duration| -> f64 {
        figures.iter().filter_map(|figures| figures.of(way)).map(|times| ms(of(times))).sum()
    };
    let cells: Vec<String> = ways
        .iter()
        .map(|way| format!("{:.1} | {:.1}", total(*way, Times::min), total(*way, Times::median)))
        .collect();
    println!("| all, ms | | {} |", cells.join(" | "));
    let ratio = |way: Way, of: fn(&Times) -> Duration| total(way, of) / total(Way::Raw, of);
    let cells: Vec<String> = ways
        .iter()
        .map(|way| format!("{:.3} | {:.3}", ratio(*way, Times::min), ratio(*way, Times::median)))
        .collect();
    println!("| times raw | | {} |", cells.join(" | "));
    let cells: Vec<String> =
        ways.iter().map(|way| format!("{:.3} | ", ratio(*way, |times| times.cpu))).collect();
    println!("| times raw, processor time | | {} |", cells.join(" | "));
}
