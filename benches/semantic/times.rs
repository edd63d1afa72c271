//! Times of one thing that was done often, and what the process used of the processors meanwhile.

use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn take<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        self.0.push(started.elapsed());
        result
    }

    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that `percent` of them do not exceed; zero without any.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.0.clone();
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        times.get((last * percent).div_ceil(100)).copied().unwrap_or_default()
    }

    pub fn median(&self) -> Duration {
        self.percentile(50)
    }
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
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

/// Processor time since `before`, shared out over `times`; in milliseconds.
pub fn cpu_ms_each(before: Option<Duration>, times: &Times) -> Option<f64> {
    Some(ms(cpu()?.saturating_sub(before?)) / times.len().max(1) as f64)
}
