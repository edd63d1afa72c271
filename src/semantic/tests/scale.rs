//! Large catalogs: what they find, and, with STEWARD_SCALE=<pairs of datasets>, how long things take.

use std::fmt::Write as _;
use std::time::Instant;

use crate::semantic::*;

/// One file a pair of fact and dimension, each with `fields` fields besides its keys.
pub fn pairs(pairs: usize, fields: usize) -> Vec<(String, String)> {
    let pair = |number: usize| {
        let mut text =
            format!("name: model_{number}\ndescription: Sales of region {number} by product.\ndatasets:\n");
        for (kind, other) in [("fact", "dimension"), ("dimension", "fact")] {
            let _ = write!(
                text,
                "  - name: {kind}_{number}\n    source: local.region_{number}.{kind}\n    primary_key: [{kind}_id]\n    description: One row a {kind} of region {number}, unlike the {other}.\n    synonyms: [{kind} of {number}]\n    fields:\n      - {{name: {kind}_id, description: Counts up from 1., datatype: Integer}}\n      - {{name: dimension_key, description: Which product it was., datatype: Integer}}\n"
            );
            for field in 0..fields {
                let _ = write!(
                    text,
                    "      - name: {kind}_value_{field}\n        expression: raw_{field} * 100 / NULLIF(total_{field}, 0)\n        description: Share number {field} of the {kind} in the total of its month\n        datatype: Float\n        unit: percent\n        synonyms: [share {field}]\n        sample_values: [12.5, 50, 99.{field}]\n"
                );
            }
        }
        let _ = write!(
            text,
            "relationships:\n  - {{name: products_{number}, from: fact_{number}, to: dimension_{number}, from_columns: [dimension_key], to_columns: [dimension_id]}}\nmetrics:\n  - {{name: sum_{number}, dataset: fact_{number}, expression: SUM(fact_value_0), description: All shares of region {number} together.}}\n"
        );
        (format!("semantic/model_{number}/model.yaml"), text)
    };
    (0..pairs).map(pair).collect()
}

/// Resident memory of this process in bytes, where the system tells.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * 4096)
}

#[test]
fn a_large_catalog_loads_whole_and_finds_one_field_among_all() {
    let wanted = std::env::var("STEWARD_SCALE").ok().and_then(|text| text.parse().ok());
    let (count, fields) = (wanted.unwrap_or(20), 10);
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in pairs(count, fields) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let total = 2 * count * (fields + 2);
    let before = resident();
    let clock = Instant::now();
    let catalog = Catalog::load(folder.path());
    let loaded = clock.elapsed();
    assert_eq!(catalog.diagnostics, vec![]);
    assert_eq!(catalog.models.len(), count);
    let after_load = resident();
    let clock = Instant::now();
    let tables = Tables::build(&catalog.models);
    let tabled = clock.elapsed();
    let after_tables = resident();
    assert_eq!(tables.get("fields").unwrap().all().num_rows(), total);
    let clock = Instant::now();
    let finder = Finder::new(&catalog.models);
    let indexed = clock.elapsed();
    let after_index = resident();
    let clock = Instant::now();
    let last = count - 1;
    let found = finder.search(&format!("products_{last}")).next().unwrap();
    let searched = clock.elapsed();
    assert_eq!((found.kind(), found.name()), ("relationship", format!("products_{last}").as_str()));
    let clock = Instant::now();
    let linker = Linker::new(catalog.models.clone());
    let prepared = clock.elapsed();
    let after_linker = resident();
    let question = "share 3 of the fact in the month";
    let request = LinkRequest { question, vector: None, budget_tokens: 2_000, count: &estimate_tokens };
    let clock = Instant::now();
    let link = linker.link(&request);
    let linked = clock.elapsed();
    assert!(!link.items.is_empty());
    if wanted.is_some() {
        let each = |from: u64, to: u64| to.saturating_sub(from) / total as u64;
        println!(
            "{} datasets, {total} fields: load {loaded:?}, tables {tabled:?}, index {indexed:?}, search {searched:?}, linker {prepared:?}, \
             link {linked:?}; bytes a field: model {}, tables {}, index {}, linker {}",
            2 * count,
            each(before, after_load),
            each(after_load, after_tables),
            each(after_tables, after_index),
            each(after_index, after_linker),
        );
    }
}
