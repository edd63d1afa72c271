//! The models that are measured: pairs of a fact and a dimension that a relationship joins, with a metric over each fact.
//!
//! Half of the value fields are physical columns, half are computed from two of them; all are described, with units,
//! synonyms and sample values. `peers.py` reads these files and says the same in the formats of the peers.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// Fields of a dataset that are no values: keys, time and one text.
const OTHERS: [(&str, usize); 2] = [("fact", 4), ("dimension", 2)];

/// How datasets are spread over models. There is one file a pair either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Every pair is a model of its own.
    Pairs,
    /// All pairs are one model, as in a manifest of the peers.
    One,
}

impl Shape {
    /// The model of a pair.
    pub fn model(self, pair: usize) -> String {
        match self {
            Self::Pairs => format!("model_{pair}"),
            Self::One => "all".to_owned(),
        }
    }

    /// For the printed table.
    pub fn description(self) -> &'static str {
        match self {
            Self::Pairs => "a model a pair",
            Self::One => "one model",
        }
    }
}

/// Writes `pairs` files below `folder`, each dataset with `fields` fields (six or more); returns their size in bytes.
pub fn write(folder: &Path, shape: Shape, pairs: usize, fields: usize) -> io::Result<u64> {
    let mut size_bytes = 0;
    for pair in 0..pairs {
        let parent = match shape {
            Shape::Pairs => folder.join(shape.model(pair)),
            Shape::One => folder.to_owned(),
        };
        std::fs::create_dir_all(&parent)?;
        let text = text(shape, pair, fields);
        size_bytes += text.len() as u64;
        std::fs::write(parent.join(format!("pair_{pair}.yaml")), text)?;
    }
    Ok(size_bytes)
}

fn text(shape: Shape, pair: usize, fields: usize) -> String {
    let mut text = format!("name: {}\n", shape.model(pair));
    // A model has one description, whatever the number of its files.
    if shape == Shape::Pairs || pair == 0 {
        text.push_str("description: Sales by product.\n");
    }
    text.push_str("datasets:\n");
    for (kind, others) in OTHERS {
        let _ = write!(
            text,
            "  - name: {kind}_{pair}\n    source: local.region_{pair}.{kind}\n    primary_key: [{kind}_id]\n    \
             description: One row a {kind} of region {pair}.\n    synonyms: [{kind} of {pair}]\n    fields:\n      \
             - {{name: {kind}_id, description: Counts up from 1., datatype: Integer}}\n"
        );
        text.push_str(match kind {
            "fact" => {
                "      - {name: dimension_key, description: Which product it was., datatype: Integer}\n      \
                 - {name: ordered_at, description: Day of the order., datatype: Date}\n      \
                 - {name: channel, description: Where it was sold., datatype: String}\n"
            }
            _ => "      - {name: category, description: What kind of product., datatype: String}\n",
        });
        values(&mut text, kind, fields.saturating_sub(others).max(2));
    }
    let _ = write!(
        text,
        "relationships:\n  - {{name: products_{pair}, from: fact_{pair}, to: dimension_{pair}, from_columns: [dimension_key], \
         to_columns: [dimension_id]}}\nmetrics:\n  - {{name: sum_{pair}, dataset: fact_{pair}, expression: SUM(fact_value_1), \
         description: All shares of region {pair} together.}}\n"
    );
    text
}

/// Odd ones are computed from their even neighbours.
fn values(text: &mut String, kind: &str, count: usize) {
    for value in 0..count {
        let _ = writeln!(text, "      - name: {kind}_value_{value}");
        if value % 2 == 1 {
            let (part, whole) = (value - 1, (value + 1) % count);
            let _ = writeln!(
                text,
                "        expression: {kind}_value_{part} * 100 / NULLIF({kind}_value_{whole}, 0)"
            );
        }
        let _ = write!(
            text,
            "        description: Share number {value} of the {kind} in the total of its month\n        \
             datatype: Float\n        unit: percent\n        synonyms: [share {value}]\n        \
             sample_values: [12.5, 50, 99.{value}]\n"
        );
    }
}
