//! Records of an API response as a typed table.
//!
//! R1 No record and no key is dropped. R2 A column whose values are of several kinds, or of a shape that differs from
//! record to record, is their JSON text. R3 A column whose values are all RFC 3339 instants becomes a timestamp in UTC,
//! one whose values are all ISO dates a date.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, StringArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::infer_json_schema_from_iterator;
use datafusion::arrow::record_batch::RecordBatch;
use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::error::ErrorKind;

/// Why records make no table.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    #[error("the records hold no key")]
    NoColumns,
    #[error("the records have {0} different keys, more than the {MAX_COLUMNS} that a table may have")]
    TooManyColumns(usize),
    #[error("the records cannot be typed: {0}")]
    Typing(#[from] datafusion::arrow::error::ArrowError),
    #[error("cannot write the table: {0}")]
    Write(#[from] parquet::errors::ParquetError),
    #[error("cannot write the table: {0}")]
    Io(#[from] std::io::Error),
}

impl RecordsError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoColumns | Self::TooManyColumns(_) | Self::Typing(_) => ErrorKind::InvalidInput,
            Self::Write(_) => ErrorKind::Unavailable,
            Self::Io(error) => ErrorKind::of_io(error),
        }
    }
}

const MAX_COLUMNS: usize = 2_000;

/// Types the objects among `records`, in order; other elements stand as NULL rows.
pub fn records_to_batch(records: &[Value]) -> Result<RecordBatch, RecordsError> {
    let mut columns: IndexMap<&str, Vec<&Value>> = IndexMap::new();
    for (row, record) in records.iter().enumerate() {
        let Value::Object(object) = record else { continue };
        for (key, value) in object {
            let column = columns.entry(key).or_insert_with(|| Vec::with_capacity(records.len()));
            column.resize(row, &Value::Null);
            column.push(value);
        }
    }
    if columns.is_empty() {
        return Err(RecordsError::NoColumns);
    }
    if columns.len() > MAX_COLUMNS {
        return Err(RecordsError::TooManyColumns(columns.len()));
    }
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays = Vec::with_capacity(columns.len());
    for (name, mut values) in columns {
        values.resize(records.len(), &Value::Null);
        let array = column(&values)?;
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

fn column(values: &[&Value]) -> Result<ArrayRef, RecordsError> {
    let kind = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    };
    let mut kinds: Vec<u8> = values.iter().map(|value| kind(value)).filter(|kind| *kind != 0).collect();
    kinds.sort_unstable();
    kinds.dedup();
    match kinds.as_slice() {
        [] => Ok(Arc::new(StringArray::new_null(values.len()))),
        [3] => {
            let texts: StringArray = values.iter().map(|value| value.as_str()).collect();
            Ok(temporal(&texts).unwrap_or_else(|| Arc::new(texts)))
        }
        [_] => match typed(values) {
            Some(array) => Ok(array),
            None => Ok(json_text(values)),
        },
        _ => Ok(json_text(values)),
    }
}

/// Arrow's own inference, if it takes every value without loss.
fn typed(values: &[&Value]) -> Option<ArrayRef> {
    let row = |value: &&Value| Value::Object(Map::from_iter([("v".to_owned(), (*value).clone())]));
    let schema = infer_json_schema_from_iterator(values.iter().map(|value| Ok(row(value)))).ok()?;
    let mut decoder = ReaderBuilder::new(Arc::new(schema))
        .with_batch_size(values.len())
        .with_strict_mode(true)
        .build_decoder()
        .ok()?;
    let rows: Vec<Value> = values.iter().map(row).collect();
    decoder.serialize(&rows).ok()?;
    let batch = decoder.flush().ok()??;
    let array = batch.column_by_name("v")?.clone();
    // An inferred Null column, or whole numbers beyond 64 bits, would lose values: R1.
    (array.null_count() == values.iter().filter(|value| value.is_null()).count()).then_some(array)
}

fn json_text(values: &[&Value]) -> ArrayRef {
    let texts: StringArray = values
        .iter()
        .map(|value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        })
        .collect();
    Arc::new(texts)
}

/// R3: strict, so that one odd value keeps the column text.
fn temporal(texts: &StringArray) -> Option<ArrayRef> {
    let sample = texts.iter().flatten().next()?;
    let bytes = sample.as_bytes();
    let is_date = bytes.len() == 10 && bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-');
    let is_instant = bytes.len() >= 20 && matches!(bytes.get(10), Some(b'T' | b' '));
    let target = match () {
        () if is_date => DataType::Date32,
        () if is_instant && texts.iter().flatten().all(has_zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        () => return None,
    };
    if is_date && texts.iter().flatten().any(|text| text.len() != 10) {
        return None;
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(texts, &target, &strict).ok()
}

/// True if the text says which instant it means, not just a local time.
fn has_zone(text: &str) -> bool {
    text.ends_with(['Z', 'z']) || text.get(19..).is_some_and(|rest| rest.contains(['+', '-']))
}

/// Writes the batch as Parquet, whole or not at all.
pub fn write_parquet(batch: &RecordBatch, path: &Path) -> Result<u64, RecordsError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut writer = parquet::arrow::ArrowWriter::try_new(file.as_file_mut(), batch.schema(), None)?;
    writer.write(batch)?;
    writer.close()?;
    file.as_file().sync_all()?;
    let size = file.as_file().metadata()?.len();
    file.persist(path).map_err(|error| error.error)?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn types(records: &[Value]) -> Vec<String> {
        let batch = records_to_batch(records).unwrap();
        assert_eq!(batch.num_rows(), records.len());
        batch
            .schema()
            .fields()
            .iter()
            .map(|field| format!("{}: {}", field.name(), field.data_type()))
            .collect()
    }

    #[test]
    fn columns_are_typed_from_all_values() {
        let records = [
            json!({"at": "2013-01-01T10:00:00Z", "day": "2013-01-01", "n": 1, "x": 1, "ok": true, "s": "a", "none": null}),
            json!({"at": null, "day": "2013-01-02", "n": null, "x": 2.5, "ok": false, "s": "2013-01-01", "late": [1, 2]}),
        ];
        assert_eq!(
            types(&records),
            [
                "at: Timestamp(µs, \"UTC\")",
                "day: Date32",
                "n: Int64",
                "x: Float64",
                "ok: Boolean",
                "s: Utf8",
                "none: Utf8",
                "late: List(Int64)",
            ]
        );
    }

    #[test]
    fn mixed_or_odd_values_become_text_and_nothing_is_lost() {
        let records = [
            json!({"v": 1, "w": {"a": 1}, "day": "2013-01-01", "big": 18446744073709551615u64}),
            json!({"v": "x", "w": {"a": {"b": 2}}, "day": "soon", "big": 1}),
            json!(7),
        ];
        let batch = records_to_batch(&records).unwrap();
        let text = |name: &str, row: usize| {
            let array =
                batch.column_by_name(name).unwrap().as_any().downcast_ref::<StringArray>().unwrap().clone();
            array.value(row).to_owned()
        };
        assert_eq!(text("v", 0), "1");
        assert_eq!(text("w", 1), r#"{"a":{"b":2}}"#);
        assert_eq!(text("day", 1), "soon");
        assert_eq!(batch.num_rows(), 3);
    }

    proptest! {
        #[test]
        fn any_records_keep_every_row_and_every_non_null_value(
            rows in proptest::collection::vec(proptest::collection::btree_map("[a-c]", prop_oneof![
                Just(json!(null)), any::<i64>().prop_map(|n| json!(n)), any::<f64>().prop_map(|n| json!(n)),
                any::<bool>().prop_map(|b| json!(b)), "[0-9T:Z-]{0,20}".prop_map(|s| json!(s)),
                Just(json!([1, "x"])), Just(json!({"k": 1})), Just(json!({"k": "v"})),
            ], 0..4), 1..12)
        ) {
            let records: Vec<Value> = rows.into_iter().map(|row| Value::Object(row.into_iter().collect())).collect();
            let keys: std::collections::BTreeSet<&String> = records.iter().flat_map(|r| r.as_object().unwrap().keys()).collect();
            match records_to_batch(&records) {
                Err(RecordsError::NoColumns) => prop_assert!(keys.is_empty()),
                Err(other) => prop_assert!(false, "{other}"),
                Ok(batch) => {
                    prop_assert_eq!(batch.num_rows(), records.len());
                    for key in keys {
                        let column = batch.column_by_name(key).unwrap();
                        let nulls = records.iter().filter(|record| record.get(key).is_none_or(Value::is_null)).count();
                        prop_assert_eq!(column.null_count(), nulls, "{}", key);
                    }
                }
            }
        }
    }
}
