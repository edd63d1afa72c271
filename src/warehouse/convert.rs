//! What drivers return, as what is served: plain Arrow types, one form a kind of value.
//!
//! V1 No value is changed in silence: what the served type cannot hold is an error that names the column.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Decimal256Array, RecordBatch, RecordBatchOptions,
    StringBuilder,
};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, Int64Type, Schema, SchemaRef,
    TimeUnit, i256,
};

use super::RemoteError;
use super::pushdown::Pushes;

/// Digits after the point of a decimal that the server gives no scale for.
const FREE_SCALE: i8 = 18;
/// Numbers with so many digits after the point are quotients and averages, which the server rounded there already.
const COMPUTED_SCALE: i8 = 16;

/// How one column is taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub name: String,
    pub step: Step,
    pub data_type: DataType,
    pub pushes: Pushes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Keep,
    /// Strictly, by Arrow.
    Cast,
    /// Decimals that come as text.
    Decimal,
    /// Decimals that come as text and without a scale: it is that of the first values.
    FreeDecimal,
    /// 16 bytes, as text.
    Uuid,
    /// Hundredths.
    Cents,
    /// In a form that only the server knows; a cast to text can be sent.
    Opaque,
}

/// What a result of `schema` is served as.
pub(super) fn shapes(schema: &Schema) -> Vec<Shape> {
    schema.fields().iter().map(|field| shape(field)).collect()
}

fn shape(field: &Field) -> Shape {
    let metadata = |key: &str| field.metadata().get(key).map(String::as_str);
    let new = |step, data_type, pushes| Shape { name: field.name().clone(), step, data_type, pushes };
    let postgres = metadata("POSTGRESQL:type").or_else(|| metadata("ADBC:postgresql:typname"));
    match (postgres, field.data_type()) {
        (Some("numeric"), DataType::Utf8) => {
            return match metadata("POSTGRESQL:typmod").and_then(precision_and_scale) {
                Some((precision, scale)) if precision <= DECIMAL128_MAX_PRECISION => {
                    new(Step::Decimal, DataType::Decimal128(precision, scale), Pushes::Order)
                }
                Some((precision, scale)) if precision <= DECIMAL256_MAX_PRECISION => {
                    new(Step::Decimal, DataType::Decimal256(precision, scale), Pushes::Nulls)
                }
                _ => new(
                    Step::FreeDecimal,
                    DataType::Decimal128(DECIMAL128_MAX_PRECISION, FREE_SCALE),
                    Pushes::Order,
                ),
            };
        }
        (Some("money"), DataType::Int64) => {
            return new(Step::Cents, DataType::Decimal128(21, 2), Pushes::Nulls);
        }
        (Some("uuid"), DataType::FixedSizeBinary(16)) => {
            return new(Step::Uuid, DataType::Utf8, Pushes::Nulls);
        }
        // Padded with spaces that the server does not compare.
        (Some(postgres), DataType::Utf8) if !matches!(postgres, "text" | "varchar") => {
            return new(Step::Keep, DataType::Utf8, Pushes::Nulls);
        }
        (Some(postgres), DataType::Binary) if postgres != "bytea" => {
            return new(Step::Opaque, DataType::Utf8, Pushes::Nulls);
        }
        _ => {}
    }
    let (step, data_type) = served(field.data_type());
    let pushes = match &data_type {
        DataType::Utf8 => Pushes::Equality,
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32
        | DataType::Timestamp(TimeUnit::Microsecond, _) => Pushes::Order,
        _ => Pushes::Nulls,
    };
    new(step, data_type, pushes)
}

/// Arrow has several types for one kind of value; one of them is served.
fn served(data_type: &DataType) -> (Step, DataType) {
    let plain = match data_type {
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => served(values).1,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, None) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        DataType::Timestamp(unit, Some(_)) => {
            let unit = if *unit == TimeUnit::Nanosecond { *unit } else { TimeUnit::Microsecond };
            DataType::Timestamp(unit, Some("UTC".into()))
        }
        other => other.clone(),
    };
    if plain == *data_type { (Step::Keep, plain) } else { (Step::Cast, plain) }
}

/// PostgreSQL's `typmod` of a numeric: precision and scale.
fn precision_and_scale(typmod: &str) -> Option<(u8, i8)> {
    let packed = typmod.parse::<i32>().ok()?.checked_sub(4).filter(|packed| *packed >= 0)?;
    // The scale has eleven bits and a sign.
    let scale = ((packed & 0x7ff) ^ 0x400) - 0x400;
    let precision = u8::try_from((packed >> 16) & 0xffff).ok()?;
    let scale = i8::try_from(scale).ok()?;
    (scale >= 0 && u8::try_from(scale).is_ok_and(|scale| scale <= precision)).then_some((precision, scale))
}

/// Takes batches of one result over.
#[derive(Debug, Clone)]
pub(super) struct Converter {
    shapes: Vec<Shape>,
    schema: SchemaRef,
    /// Whether digits of free decimals that do not fit are an error rather than rounded: a stored value would change,
    /// whereas a computed one has as many as the server cared to compute.
    is_exact: bool,
}

impl Converter {
    /// To the types of the shapes, whatever they say: for a table, whose types are published.
    pub fn exact(shapes: Vec<Shape>) -> Self {
        let schema = schema_of(&shapes);
        Self { shapes, schema, is_exact: true }
    }

    /// For the result of a query; `first` is its first batch, if there is any.
    pub fn for_result(mut shapes: Vec<Shape>, first: Option<&RecordBatch>) -> Result<Self, RemoteError> {
        for (at, shape) in shapes.iter_mut().enumerate() {
            if shape.step == Step::Opaque {
                let message = "its type cannot be sent; cast it to text".to_owned();
                return Err(RemoteError::Column { column: shape.name.clone(), message });
            }
            if shape.step == Step::FreeDecimal {
                let texts = first.and_then(|batch| batch.column(at).as_string_opt::<i32>());
                let scale = texts.into_iter().flat_map(|texts| texts.iter().flatten()).map(scale_of).max();
                let scale = scale.unwrap_or_default().min(usize::from(FREE_SCALE.unsigned_abs()));
                let scale = i8::try_from(scale).unwrap_or(FREE_SCALE);
                shape.data_type = DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale);
            }
        }
        let schema = schema_of(&shapes);
        Ok(Self { shapes, schema, is_exact: false })
    }

    /// Whether a driver's result still has the columns that were found, as they were found.
    pub fn fits(&self, schema: &Schema) -> bool {
        let found = shapes(schema);
        let is_same = |known: &Shape, found: &Shape| {
            // What is cast here may come in several types.
            known.name == found.name && (known.data_type == found.data_type || known.step == Step::Cast)
        };
        found.len() == self.shapes.len()
            && self.shapes.iter().zip(&found).all(|(known, found)| is_same(known, found))
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch, RemoteError> {
        if batch.num_columns() != self.shapes.len() {
            return Err(RemoteError::Changed);
        }
        let columns = self
            .shapes
            .iter()
            .zip(batch.columns())
            .map(|(shape, column)| self.column(shape, column))
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|_| RemoteError::Changed)
    }

    fn column(&self, shape: &Shape, column: &ArrayRef) -> Result<ArrayRef, RemoteError> {
        let wrong = |message: String| RemoteError::Column { column: shape.name.clone(), message };
        match &shape.step {
            Step::Keep if column.data_type() == &shape.data_type => Ok(column.clone()),
            // Of a list or struct, only the metadata of the inner fields may differ.
            Step::Keep | Step::Cast | Step::Opaque => strict_cast(column, &shape.data_type)
                .map_err(|_| wrong(format!("a value cannot be read as {}", shape.data_type))),
            Step::Uuid => {
                let bytes = column.as_fixed_size_binary_opt().ok_or(RemoteError::Changed)?;
                let mut texts = StringBuilder::with_capacity(bytes.len(), bytes.len() * 36);
                for value in bytes.iter() {
                    match value.map(uuid::Uuid::from_slice).transpose() {
                        Ok(Some(uuid)) => texts.append_value(uuid.hyphenated().to_string()),
                        Ok(None) => texts.append_null(),
                        Err(_) => return Err(RemoteError::Changed),
                    }
                }
                Ok(Arc::new(texts.finish()))
            }
            Step::Cents => {
                let cents = column.as_primitive_opt::<Int64Type>().ok_or(RemoteError::Changed)?;
                let values: Decimal128Array = cents.iter().map(|value| value.map(i128::from)).collect();
                let array = values.with_precision_and_scale(21, 2).map_err(|_| RemoteError::Changed)?;
                Ok(Arc::new(array))
            }
            Step::Decimal | Step::FreeDecimal => {
                let texts = column.as_string_opt::<i32>().ok_or(RemoteError::Changed)?;
                let is_computed = shape.step == Step::FreeDecimal && !self.is_exact;
                let read = |text: &str, scale: i8| {
                    let may_round = is_computed && scale >= COMPUTED_SCALE;
                    decimal(text, usize::from(scale.unsigned_abs()), may_round).ok_or_else(|| {
                        let help = "has more digits than can be served, or is no number; cast it to double precision \
                                    or to a numeric with precision and scale";
                        wrong(help.to_owned())
                    })
                };
                let failed =
                    |_| wrong("has more digits than can be served; cast it to double precision".to_owned());
                match shape.data_type {
                    DataType::Decimal128(precision, scale) => {
                        let values = texts
                            .iter()
                            .map(|text| text.map(|text| read(text, scale)).transpose())
                            .map(|value| match value? {
                                None => Ok(None),
                                Some(value) => value.to_i128().map(Some).ok_or_else(|| failed(())),
                            })
                            .collect::<Result<Decimal128Array, RemoteError>>()?;
                        let array =
                            values.with_precision_and_scale(precision, scale).map_err(|_| failed(()))?;
                        array.validate_decimal_precision(precision).map_err(|_| failed(()))?;
                        Ok(Arc::new(array))
                    }
                    DataType::Decimal256(precision, scale) => {
                        let values = texts
                            .iter()
                            .map(|text| text.map(|text| read(text, scale)).transpose())
                            .collect::<Result<Decimal256Array, RemoteError>>()?;
                        let array =
                            values.with_precision_and_scale(precision, scale).map_err(|_| failed(()))?;
                        array.validate_decimal_precision(precision).map_err(|_| failed(()))?;
                        Ok(Arc::new(array))
                    }
                    _ => Err(RemoteError::Changed),
                }
            }
        }
    }
}

fn schema_of(shapes: &[Shape]) -> SchemaRef {
    // Servers do not tell of a result what cannot be NULL.
    let fields: Vec<Field> =
        shapes.iter().map(|shape| Field::new(&shape.name, shape.data_type.clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

pub(super) fn strict_cast(
    column: &ArrayRef,
    to: &DataType,
) -> Result<ArrayRef, datafusion::arrow::error::ArrowError> {
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Digits after the point.
fn scale_of(text: &str) -> usize {
    text.split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

/// A plain decimal number times ten to the `scale`. Digits beyond it are rounded half away from zero, or, without
/// leave to round, must be zeros.
fn decimal(text: &str, scale: usize, may_round: bool) -> Option<i256> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (kept, beyond) = fraction.split_at(fraction.len().min(scale));
    if !may_round && beyond.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let mut number = format!("{whole}{kept}");
    number.extend(std::iter::repeat_n('0', scale - kept.len()));
    let mut value = i256::from_string(&number)?;
    if beyond.as_bytes().first().is_some_and(|digit| *digit >= b'5') {
        value = value.checked_add(i256::ONE)?;
    }
    if is_negative { value.checked_neg() } else { Some(value) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn precision_and_scale_are_read_from_the_type_modifier() {
        assert_eq!(precision_and_scale("786438"), Some((12, 2)));
        assert_eq!(precision_and_scale("-1"), None);
        for odd in ["", "x", "3", "2147483647", "-2147483648"] {
            assert_eq!(precision_and_scale(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_decimal_that_does_not_fit_is_an_error_and_never_another_number() {
        assert_eq!(decimal("-12.50", 2, false), Some(i256::from_i128(-1250)));
        assert_eq!(decimal("12.500", 2, false), Some(i256::from_i128(1250)));
        assert_eq!(decimal("12.505", 2, false), None);
        assert_eq!(decimal("12.505", 2, true), Some(i256::from_i128(1251)));
        for text in ["NaN", "Infinity", "-Infinity", "", "-", ".", "1e5", "١", "1.2.3", "--1", "+1"] {
            assert_eq!(decimal(text, 2, true), None, "{text}");
        }
        let long = "9".repeat(90);
        assert_eq!(decimal(&long, 0, true), None);
    }

    proptest! {
        #[test]
        fn every_number_with_few_enough_digits_is_itself(number in -10i128.pow(30)..10i128.pow(30), scale in 0usize..18) {
            let digits = format!("{:0width$}", number.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let sign = if number < 0 { "-" } else { "" };
            let text = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
            prop_assert_eq!(decimal(&text, scale, false), Some(i256::from_i128(number)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", scale in 0usize..40) {
            let _ = decimal(&text, scale, true);
        }
    }
}
