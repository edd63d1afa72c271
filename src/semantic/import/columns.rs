//! The columns of one dataset, as fields: foreign models name physical columns where Steward names fields.

use std::collections::HashMap;

use super::{blank, names, sql};
use crate::semantic::{Dataset, Expression, Source};

/// Looks fields up by name and by the column that they show, both without case.
#[derive(Debug, Default)]
pub struct Columns {
    by_name: HashMap<String, String>,
    by_column: HashMap<String, String>,
}

impl Columns {
    pub fn of(dataset: &Dataset) -> Self {
        let mut columns = Self::default();
        for field in &dataset.fields {
            columns.by_name.entry(field.name.to_lowercase()).or_insert_with(|| field.name.clone());
            if let Some(column) = sql::as_column(field.expression.text()) {
                columns.by_column.entry(column.to_lowercase()).or_insert_with(|| field.name.clone());
            }
        }
        columns
    }

    /// The field of that name, or else the one that shows the column of that name.
    pub fn named(&self, name: &str) -> Option<&str> {
        let lower = name.to_lowercase();
        self.by_name.get(&lower).or_else(|| self.by_column.get(&lower)).map(String::as_str)
    }

    /// The field that shows a physical column as it is.
    pub fn showing(&self, column: &str) -> Option<&str> {
        self.by_column.get(&column.to_lowercase()).map(String::as_str)
    }

    /// Adds a field that shows a physical column as it is.
    pub fn add(&mut self, dataset: &mut Dataset, column: &str, source: &Source) -> String {
        let mut name = names::clean(column);
        while self.by_name.contains_key(&name.to_lowercase()) {
            name.push_str("_column");
        }
        let expression = Expression::ansi(sql::identifier(column));
        dataset.fields.push(blank::field(name.clone(), expression, source.clone()));
        self.by_name.insert(name.to_lowercase(), name.clone());
        self.by_column.insert(column.to_lowercase(), name.clone());
        name
    }
}
