//! The type of a column whose dataset declares one: values of a text file are written without a type, so that the first
//! rows of a file only hint at it.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};

/// The type for a column of which `inferred` was seen. Values of JSON have types of their own: there, a declaration
/// counts where texts are dates, where whole numbers stand for others, and where no value was seen.
pub(super) fn as_declared(datatype: &str, inferred: &DataType, is_csv: bool) -> DataType {
    let is_number = matches!(inferred, DataType::Int64 | DataType::Float64);
    let is_local_time = matches!(inferred, DataType::Timestamp(_, None));
    let declared = match datatype {
        "String" => DataType::Utf8,
        "Integer" => DataType::Int64,
        "Float" => DataType::Float64,
        // How many digits follow the point is not declared.
        "Decimal" if is_number => return inferred.clone(),
        "Decimal" => DataType::Float64,
        "Boolean" => DataType::Boolean,
        // A day written with a time is still read.
        "Date" | "DateTime" if is_local_time => return inferred.clone(),
        "Date" => DataType::Date32,
        "DateTime" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "DateTimeTz" => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        "Time" => DataType::Time64(TimeUnit::Microsecond),
        _ => return inferred.clone(),
    };
    let is_taken = is_csv
        || match inferred {
            DataType::Null => true,
            DataType::Int64 => declared == DataType::Float64,
            DataType::Utf8 => declared.is_temporal(),
            _ => false,
        };
    if is_taken { declared } else { inferred.clone() }
}
