//! Snowflake's types as Arrow's, and its two forms of results as batches of these.
//!
//! T1 The result's description decides the types, not its chunks, whose whole numbers have as many bits as each needs.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Int64Array, PrimitiveArray,
    RecordBatch, RecordBatchOptions, StringArray, Time64NanosecondArray, TimestampMicrosecondArray,
    TimestampNanosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use serde::Deserialize;
use serde_json::Value;

use super::super::RemoteError;
use super::super::convert::{Shape, Step, strict_cast};
use super::super::pushdown::Pushes;

/// One column of a result, as Snowflake describes it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Column {
    pub name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    scale: Option<u32>,
    #[serde(default)]
    precision: Option<u32>,
}

impl Column {
    /// Digits after the point, of numbers and of seconds.
    fn scale(&self) -> u32 {
        self.scale.unwrap_or(0).min(37)
    }

    /// What it is served as.
    pub fn data_type(&self) -> DataType {
        let unit = if self.scale() <= 6 { TimeUnit::Microsecond } else { TimeUnit::Nanosecond };
        match self.kind.to_ascii_lowercase().as_str() {
            "fixed" => {
                let precision = self.precision.unwrap_or(38).clamp(1, 38).max(self.scale());
                match (self.scale(), precision) {
                    (0, 1..=18) => DataType::Int64,
                    // Both are 38 at most.
                    (scale, precision) => DataType::Decimal128(precision as u8, scale as i8),
                }
            }
            "real" => DataType::Float64,
            "boolean" => DataType::Boolean,
            "binary" => DataType::Binary,
            "date" => DataType::Date32,
            "time" => DataType::Time64(TimeUnit::Nanosecond),
            "timestamp_ntz" => DataType::Timestamp(unit, None),
            "timestamp_ltz" | "timestamp_tz" => DataType::Timestamp(unit, Some("UTC".into())),
            // Text, and what Snowflake itself gives as JSON text.
            _ => DataType::Utf8,
        }
    }

    /// For a table of it.
    pub fn shape(&self, name: String) -> Shape {
        let data_type = self.data_type();
        let pushes = match (&data_type, self.kind.to_ascii_lowercase().as_str()) {
            (DataType::Utf8, "text") => Pushes::Equality,
            (DataType::Utf8 | DataType::Binary | DataType::Time64(_), _) => Pushes::Nulls,
            _ => Pushes::Order,
        };
        Shape { name, step: Step::Keep, data_type, pushes }
    }

    fn wrong(&self) -> RemoteError {
        let message = format!("a value cannot be read as {}; cast it to text", self.data_type());
        RemoteError::Column { column: self.name.clone(), message }
    }

    /// An array of Snowflake's, whose whole numbers stand for decimals, times and instants.
    fn arrow(&self, array: &ArrayRef) -> Result<ArrayRef, RemoteError> {
        let target = self.data_type();
        if *array.data_type() == target {
            return Ok(array.clone());
        }
        if array.data_type().is_integer() {
            let numbers = cast(array, &DataType::Int64).map_err(|_| self.wrong())?;
            return self.scaled(numbers.as_primitive::<Int64Type>());
        }
        if let Some(parts) = array.as_struct_opt()
            && let DataType::Timestamp(unit, zone) = &target
        {
            let part = |name: &str| {
                let numbers = cast(parts.column_by_name(name)?, &DataType::Int64).ok()?;
                Some(numbers.as_primitive::<Int64Type>().clone())
            };
            let epoch = part("epoch").ok_or_else(|| self.wrong())?;
            let Some(fraction) = part("fraction") else { return self.scaled(&epoch) };
            let ticks: Option<Vec<Option<i64>>> = (0..parts.len())
                .map(|row| {
                    if parts.is_null(row) || epoch.is_null(row) {
                        return Some(None);
                    }
                    let per_second: i64 =
                        if *unit == TimeUnit::Microsecond { 1_000_000 } else { 1_000_000_000 };
                    let rest = fraction.value(row) / (1_000_000_000 / per_second);
                    epoch.value(row).checked_mul(per_second)?.checked_add(rest).map(Some)
                })
                .collect();
            return Ok(instants(ticks.ok_or_else(|| self.wrong())?, unit, zone.is_some()));
        }
        strict_cast(array, &target).map_err(|_| self.wrong())
    }

    /// Whole numbers that stand for something with digits after the point.
    fn scaled(&self, numbers: &Int64Array) -> Result<ArrayRef, RemoteError> {
        let scale = self.scale();
        // Ticks of ten to the minus `scale` seconds, in ticks of ten to the minus `digits`.
        let ticks = |digits: u32| -> Result<Vec<Option<i64>>, RemoteError> {
            let factor = 10_i64.checked_pow(digits.saturating_sub(scale)).ok_or_else(|| self.wrong())?;
            let tick = |number: Option<i64>| match number {
                None => Some(None),
                Some(number) => number.checked_mul(factor).map(Some),
            };
            numbers.iter().map(tick).collect::<Option<_>>().ok_or_else(|| self.wrong())
        };
        match self.data_type() {
            DataType::Decimal128(precision, scale) => {
                let values: Decimal128Array = numbers.iter().map(|number| number.map(i128::from)).collect();
                let array = values.with_precision_and_scale(precision, scale).map_err(|_| self.wrong())?;
                array.validate_decimal_precision(precision).map_err(|_| self.wrong())?;
                Ok(Arc::new(array))
            }
            DataType::Time64(_) => Ok(Arc::new(Time64NanosecondArray::from(ticks(9)?))),
            DataType::Timestamp(unit, zone) => {
                let digits = if unit == TimeUnit::Microsecond { 6 } else { 9 };
                Ok(instants(ticks(digits)?, &unit, zone.is_some()))
            }
            DataType::Date32 => {
                cast(&cast(numbers, &DataType::Int32).map_err(|_| self.wrong())?, &DataType::Date32)
                    .map_err(|_| self.wrong())
            }
            other => strict_cast(&(Arc::new(numbers.clone()) as ArrayRef), &other).map_err(|_| self.wrong()),
        }
    }

    /// Values of a JSON result, which are texts: days since 1970 for dates, seconds for times and instants.
    fn texts(&self, values: &[Option<String>]) -> Result<ArrayRef, RemoteError> {
        let each = values.iter().map(Option::as_deref);
        let all = |read: &dyn Fn(&str) -> Option<i64>| -> Result<Vec<Option<i64>>, RemoteError> {
            let value = |text: Option<&str>| match text {
                None => Some(None),
                Some(text) => read(text).map(Some),
            };
            values
                .iter()
                .map(|text| value(text.as_deref()))
                .collect::<Option<_>>()
                .ok_or_else(|| self.wrong())
        };
        match self.data_type() {
            DataType::Utf8 => Ok(Arc::new(each.collect::<StringArray>())),
            DataType::Boolean => {
                let flags = all(&|text| match text {
                    "1" | "true" | "TRUE" => Some(1),
                    "0" | "false" | "FALSE" => Some(0),
                    _ => None,
                })?;
                Ok(Arc::new(
                    flags.into_iter().map(|flag| flag.map(|flag| flag == 1)).collect::<BooleanArray>(),
                ))
            }
            DataType::Binary => {
                let bytes: Result<Vec<Option<Vec<u8>>>, _> =
                    each.map(|text| text.map(hex::decode).transpose()).collect();
                let bytes = bytes.map_err(|_| self.wrong())?;
                Ok(Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>()))
            }
            DataType::Date32 => self.scaled(&Int64Array::from(all(&|text| text.parse().ok())?)),
            DataType::Time64(_) => Ok(Arc::new(Time64NanosecondArray::from(all(&|text| ticks_of(text, 9))?))),
            DataType::Timestamp(unit, zone) => {
                let digits = if unit == TimeUnit::Microsecond { 6 } else { 9 };
                // An instant with a zone has its offset behind a space.
                let ticks = all(&|text| ticks_of(text.split(' ').next()?, digits))?;
                Ok(instants(ticks, &unit, zone.is_some()))
            }
            other => {
                let texts: ArrayRef = Arc::new(each.collect::<StringArray>());
                strict_cast(&texts, &other).map_err(|_| self.wrong())
            }
        }
    }
}

/// Seconds with a fraction, in ticks of ten to the minus `digits` seconds.
fn ticks_of(text: &str, digits: usize) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (sign, whole) = whole.strip_prefix('-').map_or((1, whole), |whole| (-1, whole));
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let kept: String = fraction.chars().chain(std::iter::repeat('0')).take(digits).collect();
    format!("{whole}{kept}").parse::<i64>().ok()?.checked_mul(sign)
}

fn instants(ticks: Vec<Option<i64>>, unit: &TimeUnit, is_utc: bool) -> ArrayRef {
    fn zoned<T: datafusion::arrow::datatypes::ArrowTimestampType>(
        array: PrimitiveArray<T>,
        is_utc: bool,
    ) -> PrimitiveArray<T> {
        if is_utc { array.with_timezone("UTC") } else { array }
    }
    match unit {
        TimeUnit::Microsecond => Arc::new(zoned(TimestampMicrosecondArray::from(ticks), is_utc)),
        _ => Arc::new(zoned(TimestampNanosecondArray::from(ticks), is_utc)),
    }
}

/// The schema of a result.
pub(super) fn schema_of(columns: &[Column]) -> SchemaRef {
    let fields: Vec<Field> =
        columns.iter().map(|column| Field::new(&column.name, column.data_type(), true)).collect();
    Arc::new(Schema::new(fields))
}

/// A batch of a chunk in Arrow's form.
pub(super) fn from_arrow(columns: &[Column], batch: &RecordBatch) -> Result<RecordBatch, RemoteError> {
    if columns.len() != batch.num_columns() {
        return Err(RemoteError::Failed);
    }
    let arrays = columns.iter().zip(batch.columns()).map(|(column, array)| column.arrow(array));
    made(columns, arrays.collect::<Result<_, _>>()?, batch.num_rows())
}

/// Rows in JSON's form: arrays of texts and nulls.
pub(super) fn from_rows(columns: &[Column], rows: &[Vec<Value>]) -> Result<RecordBatch, RemoteError> {
    if rows.iter().any(|row| row.len() != columns.len()) {
        return Err(RemoteError::Failed);
    }
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let arrays = columns.iter().enumerate().map(|(at, column)| {
        let values: Vec<Option<String>> = rows.iter().map(|row| text(&row[at])).collect();
        column.texts(&values)
    });
    made(columns, arrays.collect::<Result<_, _>>()?, rows.len())
}

fn made(columns: &[Column], arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, RemoteError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema_of(columns), arrays, &options).map_err(|_| RemoteError::Failed)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int8Array, Int32Array, StructArray};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn column(kind: &str, precision: u32, scale: u32) -> Column {
        Column { name: "C".into(), kind: kind.into(), scale: Some(scale), precision: Some(precision) }
    }

    fn shown(array: &ArrayRef) -> Vec<String> {
        let options = datafusion::arrow::util::display::FormatOptions::default().with_null("NULL");
        let shown =
            datafusion::arrow::util::display::ArrayFormatter::try_new(array.as_ref(), &options).unwrap();
        (0..array.len()).map(|row| shown.value(row).to_string()).collect()
    }

    #[test]
    fn both_forms_of_a_result_give_the_same_values() {
        let int8 = |values: Vec<Option<i8>>| Arc::new(Int8Array::from(values)) as ArrayRef;
        let int64 = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let epoch = Arc::new(Field::new("epoch", DataType::Int64, true));
        let fraction = Arc::new(Field::new("fraction", DataType::Int32, true));
        let parts = StructArray::from(vec![
            (epoch, int64(vec![Some(-1), Some(1)])),
            (fraction, Arc::new(Int32Array::from(vec![500_000_000, 5])) as ArrayRef),
        ]);
        for (column, arrow, json, expected) in [
            (
                column("fixed", 12, 2),
                int8(vec![Some(-5), None]),
                [json!("-0.05"), json!(null)],
                ["-0.05", "NULL"],
            ),
            (column("fixed", 38, 0), int8(vec![Some(7), None]), [json!("7"), json!(null)], ["7", "NULL"]),
            (column("fixed", 9, 0), int8(vec![Some(7), None]), [json!("7"), json!(null)], ["7", "NULL"]),
            (
                column("timestamp_ntz", 0, 3),
                int64(vec![Some(1_500), None]),
                [json!("1.500"), json!(null)],
                ["1970-01-01T00:00:01.500", "NULL"],
            ),
            (
                column("timestamp_ntz", 0, 9),
                Arc::new(parts),
                [json!("-0.500000000"), json!("1.000000005")],
                ["1969-12-31T23:59:59.500", "1970-01-01T00:00:01.000000005"],
            ),
            (
                column("timestamp_tz", 0, 0),
                int64(vec![Some(60), None]),
                [json!("60 1500"), json!(null)],
                ["1970-01-01T00:01:00Z", "NULL"],
            ),
            (
                column("time", 0, 0),
                int64(vec![Some(3_661), None]),
                [json!("3661"), json!(null)],
                ["01:01:01", "NULL"],
            ),
            (
                column("boolean", 0, 0),
                Arc::new(BooleanArray::from(vec![Some(true), None])),
                [json!("1"), json!(null)],
                ["true", "NULL"],
            ),
        ] {
            let arrow = column.arrow(&arrow).unwrap();
            assert_eq!(shown(&arrow), expected, "{column:?}");
            let rows: Vec<Vec<Value>> = json.into_iter().map(|value| vec![value]).collect();
            let batch = from_rows(std::slice::from_ref(&column), &rows).unwrap();
            assert_eq!(shown(batch.column(0)), expected, "{column:?}");
            assert_eq!(batch.column(0).data_type(), arrow.data_type());
        }
    }

    #[test]
    fn a_value_beyond_its_type_is_an_error_that_names_the_column() {
        let wide = Arc::new(Int64Array::from(vec![i64::MAX])) as ArrayRef;
        for column in [column("fixed", 12, 2), column("timestamp_ntz", 0, 0), column("time", 0, 0)] {
            assert!(matches!(column.arrow(&wide), Err(RemoteError::Column { .. })), "{column:?}");
        }
    }

    proptest! {
        #[test]
        fn no_row_panics(kind in "fixed|real|text|boolean|binary|date|time|timestamp_tz|geography", scale in 0u32..60, text in "\\PC{0,20}|-?[0-9.]{1,30}") {
            let column = column(&kind, 38, scale);
            let _ = from_rows(&[column], &[vec![json!(text)], vec![Value::Null]]);
        }
    }
}
