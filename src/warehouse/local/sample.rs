//! The columns of a file of text, from its first rows.
//!
//! T1 At most some megabytes of a file are looked at, however long its lines or well packed it is. T2 A number that a
//! number's type would change is text: `01234`, or one of more digits than an integer holds.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::reader::infer_json_schema;
use datafusion::object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore};
use futures::StreamExt;

use super::layout::packing_of;
use super::store::Files;

const SAMPLE_BYTES: usize = 4 << 20;
const SAMPLE_ROWS: usize = 1_000;

/// Why a file's columns cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum SampleError {
    #[error(transparent)]
    Store(#[from] Error),
    /// Its text may quote a row.
    #[error("its first rows do not have one form")]
    Rows(#[source] ArrowError),
    #[error("its first row is longer than {} MB", SAMPLE_BYTES >> 20)]
    Wide,
    #[error("interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// The columns of a file of CSV (`is_csv`, with a first line of names) or NDJSON.
pub(super) async fn schema(store: &Files, file: &ObjectMeta, is_csv: bool) -> Result<Schema, SampleError> {
    let mut options = GetOptions::default();
    if packing_of(file.location.as_ref()).is_none() && file.size > SAMPLE_BYTES as u64 {
        options.range = Some(GetRange::Bounded(0..SAMPLE_BYTES as u64 + 1));
    }
    let mut stream = store.get_opts(&file.location, options).await?.into_stream();
    let mut sample: Vec<u8> = Vec::new();
    let mut is_cut = false;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        let room = SAMPLE_BYTES - sample.len();
        is_cut = piece.len() > room;
        sample.extend_from_slice(&piece[..piece.len().min(room)]);
        if is_cut {
            break;
        }
    }
    drop(stream);
    if is_cut {
        let end = sample.iter().rposition(|byte| *byte == b'\n').ok_or(SampleError::Wide)?;
        sample.truncate(end + 1);
    }
    let sample = Bytes::from(sample);
    let infer = move || if is_csv { csv_schema(&sample, is_cut) } else { json_schema(&sample) };
    tokio::task::spawn_blocking(infer).await?.map_err(SampleError::Rows)
}

fn json_schema(sample: &Bytes) -> Result<Schema, ArrowError> {
    infer_json_schema(Cursor::new(sample), Some(SAMPLE_ROWS)).map(|(schema, _)| schema)
}

fn csv_schema(sample: &Bytes, is_cut: bool) -> Result<Schema, ArrowError> {
    let format = csv::reader::Format::default().with_header(true);
    let mut rows = SAMPLE_ROWS;
    let (schema, rows) = loop {
        match format.infer_schema(Cursor::new(sample), Some(rows)) {
            Ok(found) => break found,
            // The last line may be the first half of a row that holds line breaks.
            Err(_) if is_cut && rows > 1 => rows /= 2,
            Err(error) => return Err(error),
        }
    };
    if rows == 0 {
        return Ok(schema);
    }
    let text = |field: &Arc<Field>| Field::new(field.name(), DataType::Utf8, true);
    let texts = Arc::new(Schema::new(schema.fields().iter().map(text).collect::<Vec<_>>()));
    let reader = csv::ReaderBuilder::new(texts).with_header(true).with_batch_size(rows);
    let Some(batch) = reader.build(Cursor::new(sample))?.next().transpose()? else { return Ok(schema) };
    let fields = schema.fields().iter().zip(batch.columns()).map(|(field, values)| {
        let is_changed = match field.data_type() {
            DataType::Int64 => values.as_string::<i32>().iter().flatten().any(is_no_integer),
            DataType::Float64 => values.as_string::<i32>().iter().flatten().any(has_leading_zero),
            _ => false,
        };
        let data_type = if is_changed { DataType::Utf8 } else { field.data_type().clone() };
        field.as_ref().clone().with_data_type(data_type)
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

fn is_no_integer(text: &str) -> bool {
    has_leading_zero(text) || (!text.is_empty() && text.parse::<i64>().is_err())
}

fn has_leading_zero(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']).as_bytes();
    digits.len() > 1 && digits[0] == b'0' && digits[1].is_ascii_digit()
}
