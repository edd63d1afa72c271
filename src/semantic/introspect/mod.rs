//! A draft of a semantic model from what data look like: types, keys, relationships, values, with the evidence beside.
//!
//! Pure: profiles in, model out; `warehouse::introspect` makes the profiles. The draft loads without errors, and says
//! nothing that the data do not show: descriptions are for people to write.
//! D1 A value of a column whose name looks personal stands nowhere in the draft. D2 Same profiles, same draft.

mod keys;
mod pii;

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::export::Notes;
use super::import::names;
use super::*;
use keys::Link;

pub use pii::looks_personal;

/// Most distinct values of a column whose values are listed as an enum.
pub const MAX_ENUM_VALUES: usize = 25;

/// Longest value that is shown, in characters.
const MAX_VALUE_LENGTH: usize = 60;

/// What one column holds, in the rows that were looked at.
#[derive(Debug, Clone, Default)]
pub struct ColumnProfile {
    pub name: String,
    /// Ossie's logical type; empty if there is none.
    pub datatype: String,
    /// What the source calls the type.
    pub native_type: String,
    pub nulls: u64,
    /// Distinct values; exact for the rows that were looked at.
    pub distinct: u64,
    pub min: Option<String>,
    pub max: Option<String>,
    /// The most frequent values, most frequent first; all of them if there are at most [`MAX_ENUM_VALUES`].
    pub values: Vec<String>,
    /// Hashes of the values, for the question whether one column's values are another's. Empty: not known.
    pub fingerprints: HashSet<u64>,
    /// All values that the type allows, where the source declares them.
    pub declared_values: Vec<String>,
    pub description: String,
    /// Whether the source says that it is never null, or that it may be; `None` where it says nothing.
    pub required: Option<bool>,
}

/// The hash of a value, as [`ColumnProfile::fingerprints`] holds it; the same in every column of one run.
pub fn fingerprint(text: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A foreign key that the source declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignKey {
    pub columns: Vec<String>,
    /// Position of the table that it leads to.
    pub table: usize,
    pub to_columns: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct TableProfile {
    pub name: String,
    /// `warehouse.schema.table`.
    pub source: String,
    /// Rows that were looked at.
    pub rows: u64,
    /// Whether these are all rows.
    pub is_whole: bool,
    pub columns: Vec<ColumnProfile>,
    /// As the source declares it.
    pub primary_key: Vec<String>,
    pub unique_keys: Vec<Vec<String>>,
    pub foreign_keys: Vec<ForeignKey>,
    /// Several columns that are unique together, found by trying.
    pub found_key: Vec<String>,
    pub description: String,
}

/// The draft with its evidence as comments.
pub fn draft(name: &str, tables: &[TableProfile]) -> (Model, Notes) {
    let at = Source { file: Arc::from("introspection"), at: Position { line: 1, column: 1 } };
    let mut notes = Notes::default();
    notes.file.push(
        "Drafted from data by `steward introspect`. Comments give the evidence; delete them as you go."
            .to_owned(),
    );
    notes.file.push(
        "To do: descriptions (what is one row, what does a column mean), units, metrics, verified queries."
            .to_owned(),
    );
    let mut model = import::blank::model(names::clean(name), at.clone());
    let mut taken = names::Unique::default();
    let mut names_of = Vec::new();
    let keys: Vec<keys::Key> = tables.iter().map(keys::primary).collect();
    for (table, key) in tables.iter().zip(&keys) {
        let called = taken.take(&names::clean(&table.name));
        let mut dataset = import::blank::dataset(called.clone(), table.source.clone(), at.clone());
        dataset.description = table.description.trim().to_owned();
        let looked = match (table.is_whole, table.rows) {
            (true, rows) => format!("{} rows.", grouped(rows)),
            (false, rows) => format!("The first {} rows were looked at.", grouped(rows)),
        };
        let mut lines = vec![looked];
        let mut columns: Vec<(&str, String)> = Vec::new();
        let mut unique = names::Unique::default();
        for column in &table.columns {
            let field_name = unique.take(&names::clean(&column.name));
            let (field, evidence) = field(&field_name, column, table, &at);
            if !evidence.is_empty() {
                notes.items.insert(format!("{called}.{field_name}"), vec![evidence]);
            }
            columns.push((&column.name, field_name));
            dataset.fields.push(field);
        }
        let fields_of = |names: &[String]| -> Vec<String> {
            let find = |name: &String| {
                columns.iter().find(|(column, _)| column == name).map(|(_, field)| field.clone())
            };
            names.iter().filter_map(find).collect()
        };
        dataset.primary_key = fields_of(&key.columns);
        if !key.evidence.is_empty() {
            lines.push(key.evidence.clone());
        }
        for unique_key in table.unique_keys.iter().filter(|unique_key| **unique_key != key.columns) {
            dataset.unique_keys.push(fields_of(unique_key));
        }
        notes.items.insert(called.clone(), lines);
        names_of.push((
            called,
            columns.into_iter().map(|(column, field)| (column.to_owned(), field)).collect::<Vec<_>>(),
        ));
        model.datasets.push(dataset);
    }
    let mut taken = names::Unique::default();
    for link in keys::links(tables, &keys) {
        let Link { from, to, from_columns, to_columns, is_unique, evidence } = link;
        let field = |table: usize, name: &String| {
            let (_, columns) = &names_of[table];
            columns.iter().find(|(column, _)| column == name).map(|(_, field)| field.clone())
        };
        let near: Option<Vec<String>> = from_columns.iter().map(|name| field(from, name)).collect();
        let far: Option<Vec<String>> = to_columns.iter().map(|name| field(to, name)).collect();
        let (Some(near), Some(far)) = (near, far) else { continue };
        let (here, there) = (&names_of[from].0, &names_of[to].0);
        // Two joins of the same pair are told apart by their columns.
        let base = format!("{here}_{}_to_{there}", near.join("_"));
        let name = taken.take(&names::clean(&base));
        let mut relationship =
            import::blank::relationship(name.clone(), here.clone(), there.clone(), at.clone());
        relationship.from_columns = near;
        relationship.to_columns = far;
        relationship.cardinality = if is_unique { "one_to_one" } else { "many_to_one" }.to_owned();
        notes.relationships.insert(name, vec![evidence]);
        model.relationships.push(relationship);
    }
    (model, notes)
}

/// A column as a field, and the sentence that says what was seen.
fn field(name: &str, column: &ColumnProfile, table: &TableProfile, at: &Source) -> (Field, String) {
    let expression = if name == column.name { quote(name) } else { quote(&column.name) };
    let mut field = import::blank::field(name.to_owned(), Expression::ansi(expression), at.clone());
    field.datatype = column.datatype.as_str().into();
    field.is_time = matches!(column.datatype.as_str(), "Date" | "Time" | "DateTime" | "DateTimeTz");
    field.description = column.description.trim().into();
    let is_seen = !matches!(column.datatype.as_str(), "" | "Opaque");
    let present = if is_seen { table.rows.saturating_sub(column.nulls) } else { 0 };
    // What the first rows do not show may come later, and what the source allows as well.
    field.nullable = match (column.nulls, column.required) {
        (0, Some(true)) => Some(false),
        (0, None) if table.is_whole && present > 0 => Some(false),
        (0, _) => None,
        _ => Some(true),
    };
    let mut evidence = Vec::new();
    if column.nulls > 0 {
        evidence.push(format!("{} % null", percent(column.nulls, table.rows)));
    }
    if looks_personal(&column.name) {
        field.pii = true;
        field.sensitivity = Sensitivity::Protected;
        evidence.push("the name looks personal: values left out; check `pii` and `sensitivity`".to_owned());
        return (field, evidence.join(", "));
    }
    if present > 0 {
        evidence.push(format!("{} distinct", grouped(column.distinct)));
    }
    let shown: Vec<String> = column
        .values
        .iter()
        .filter(|value| !value.is_empty() && value.chars().count() <= MAX_VALUE_LENGTH)
        .filter(|value| !value.chars().any(char::is_control))
        .cloned()
        .collect();
    let is_listed = column.distinct > 1
        && column.distinct <= MAX_ENUM_VALUES as u64
        && shown.len() as u64 == column.distinct
        // Few rows, few values: that says nothing.
        && present >= 4 * column.distinct;
    match column.datatype.as_str() {
        _ if !column.declared_values.is_empty() => {
            field.is_enum = true;
            field.sample_values = compact(&column.declared_values);
        }
        "String" if is_listed => {
            field.is_enum = table.is_whole;
            field.sample_values = compact(shown);
            field.sample_values.make_mut().sort();
        }
        "String" => field.sample_values = compact(shown.into_iter().take(5)),
        "Integer" | "Decimal" | "Float" | "Date" | "DateTime" | "DateTimeTz" | "Time" => {
            if let (Some(min), Some(max)) = (&column.min, &column.max) {
                field.range = Some(Box::new((min.clone(), max.clone())));
            }
        }
        _ => {}
    }
    if !is_seen {
        evidence.push(format!("of type {}", column.native_type));
    }
    (field, evidence.join(", "))
}

/// A share in percent; what is something is never 0, and what is not all never 100.
fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a share for people to read")]
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    match share {
        share if part > 0 && share < 0.1 => "under 0.1".to_owned(),
        share if part < whole && share > 99.9 => "over 99.9".to_owned(),
        share => format!("{share:.1}").trim_end_matches(".0").to_owned(),
    }
}

/// A number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
