//! `\d`: what tables there are, and what is in one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;

use super::complete::Names;
use super::session::{Session, text_rows};
use crate::engine::EngineError;
use crate::query::QueryResult;
use crate::semantic::{TABLE_NAMES, did_you_mean, quote, table_description};

/// All tables with what a row of each is.
pub async fn tables(session: &Session, names: &Names) -> Result<QueryResult, EngineError> {
    let described = session.look_up("SELECT model, dataset, description FROM semantic.datasets").await?;
    let mut meanings: HashMap<String, String> = text_rows(&described)
        .into_iter()
        .filter_map(|row| <[String; 3]>::try_from(row).ok())
        .map(|[model, name, description]| (format!("{model}.{name}"), description))
        .collect();
    for name in TABLE_NAMES {
        meanings.insert(format!("semantic.{name}"), table_description(name).to_owned());
    }
    let rows = names.tables().map(|table| {
        let meaning = meanings.remove(&table).unwrap_or_default();
        vec![table, first_words(&meaning)]
    });
    Ok(table(&["table", "description"], rows.collect()))
}

/// The columns of one table with their types and meanings.
pub async fn columns(session: &Session, names: &Names, name: &str) -> Result<QueryResult, EngineError> {
    let (schema, relation) = names.resolve(name).map_err(|choices| {
        let all: Vec<String> = names.tables().collect();
        let help = match choices.as_slice() {
            [] => did_you_mean(name, all.iter().map(String::as_str)),
            several => format!("it could be {}", several.join(" or ")),
        };
        let help = if help.is_empty() { "; \\d lists the tables".to_owned() } else { format!("; {help}") };
        EngineError::NotFound { what: "table", name: name.to_owned(), help }
    })?;
    let types = session.columns(&format!("SELECT * FROM {}.{}", quote(schema), quote(relation))).await?;
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let described = session
        .look_up(&format!(
            "SELECT field, unit, description FROM semantic.fields WHERE model = {} AND dataset = {}",
            literal(schema),
            literal(relation)
        ))
        .await?;
    let mut meanings: HashMap<String, (String, String)> = text_rows(&described)
        .into_iter()
        .filter_map(|row| <[String; 3]>::try_from(row).ok())
        .map(|[name, unit, description]| (name, (unit, description)))
        .collect();
    let rows = types.into_iter().map(|(name, data_type)| {
        let (unit, meaning) = meanings.remove(&name).unwrap_or_default();
        vec![name, data_type, unit, first_words(&meaning)]
    });
    Ok(table(&["column", "type", "unit", "description"], rows.collect()))
}

/// So much of a description as fits beside the rest in a terminal.
fn first_words(text: &str) -> String {
    const WIDTH: usize = 90;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= WIDTH {
        return text;
    }
    let head: String = text.chars().take(WIDTH - 1).collect();
    let cut = head.rfind(' ').unwrap_or(head.len());
    format!("{} …", head[..cut].trim_end_matches([',', ';', ':']))
}

fn table(columns: &[&str], rows: Vec<Vec<String>>) -> QueryResult {
    let fields: Vec<Field> = columns.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = (0..columns.len()).map(|at| {
        let cells = rows.iter().map(|row| row.get(at).map(String::as_str));
        Arc::new(cells.collect::<StringArray>()) as ArrayRef
    });
    let batch =
        RecordBatch::try_new(schema.clone(), arrays.collect()).expect("every column has a cell for each row");
    QueryResult {
        schema,
        rows: batch.num_rows(),
        batches: vec![batch],
        truncated_at: None,
        elapsed: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_descriptions_end_at_a_word_and_say_that_they_go_on() {
        assert_eq!(first_words("Short\n  and plain."), "Short and plain.");
        let long = first_words(&"word ".repeat(40));
        assert!(long.ends_with("word …") && long.chars().count() <= 90, "{long}");
    }
}
