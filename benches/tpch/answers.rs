//! Whether two answers are the same.

use std::error::Error;

use steward::query::{Format, QueryResult, encode};

/// As text, the names of the columns first.
pub fn csv(answer: &QueryResult) -> Result<String, Box<dyn Error + Send + Sync>> {
    Ok(String::from_utf8(encode(answer, Format::Csv)?)?)
}

/// Where two answers differ, as one sentence; rows that an order leaves equal may stand either way round.
pub fn difference(
    expected: &QueryResult,
    found: &QueryResult,
) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
    let (expected, found) = (csv(expected)?, csv(found)?);
    let sorted = |text: &str| {
        let mut rows: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
        rows.sort_unstable();
        rows
    };
    let (expected, found) = (sorted(&expected), sorted(&found));
    if expected.len() != found.len() {
        return Ok(Some(format!("{} rows instead of {}", found.len(), expected.len())));
    }
    let differs = expected.iter().zip(&found).find(|(expected, found)| expected != found);
    Ok(differs.map(|(expected, found)| format!("`{found}` instead of `{expected}`")))
}
