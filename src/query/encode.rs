//! Results as bytes: JSON rows, NDJSON, CSV, Arrow IPC stream, Parquet, and a table for terminals.
//!
//! N1 An [`Encoder`] holds no more than the batch at hand, or [`ROW_GROUP_BYTES`] of a Parquet file.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::csv::{Writer as CsvWriter, WriterBuilder as CsvWriterBuilder};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::json::writer::{
    JsonArray, LineDelimited, Writer as JsonWriter, WriterBuilder as JsonWriterBuilder,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

use super::{QueryError, QueryResult};

/// A row group of a Parquet file is closed at this size; its reader needs as much at once.
pub const ROW_GROUP_BYTES: usize = 16 * 1024 * 1024;

/// Key of a Parquet file's metadata that tells the row limit which cut the result.
const TRUNCATED_KEY: &str = "steward.truncated_at_rows";

/// The forms that a result can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An array of objects; NULL columns are present as `null`.
    Json,
    Ndjson,
    Csv,
    ArrowStream,
    Parquet,
    /// Drawn with lines, for people.
    Table,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::ArrowStream => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Table => "text/plain; charset=utf-8",
        }
    }
}

/// Encodes the whole result. Blocking: call it off the async threads for large results.
pub fn encode(result: &QueryResult, format: Format) -> Result<Vec<u8>, QueryError> {
    if format == Format::Table {
        return table(result);
    }
    let mut encoder = Encoder::new(format, &result.schema)?;
    let mut bytes = Vec::new();
    for batch in &result.batches {
        bytes.append(&mut encoder.write(batch)?);
    }
    bytes.append(&mut encoder.finish(result.truncated_at)?);
    Ok(bytes)
}

fn table(result: &QueryResult) -> Result<Vec<u8>, QueryError> {
    let options = FormatOptions::default().with_null("NULL");
    let empty = [RecordBatch::new_empty(result.schema.clone())];
    let shown = if result.batches.is_empty() { &empty[..] } else { &result.batches };
    let table = pretty_format_batches_with_options(shown, &options).map_err(failed("a table"))?;
    Ok(format!("{table}\n").into_bytes())
}

/// Encodes batch by batch. What the methods return, put together, is what [`encode`] makes of the whole. Blocking.
pub struct Encoder {
    sink: Sink,
    writer: Writer,
    is_empty: bool,
    schema: SchemaRef,
}

enum Writer {
    Json(JsonWriter<Sink, JsonArray>),
    Ndjson(JsonWriter<Sink, LineDelimited>),
    Csv(Box<CsvWriter<Sink>>),
    Arrow(Box<StreamWriter<Sink>>),
    Parquet(Box<ArrowWriter<Sink>>),
}

impl Encoder {
    /// Fails where the format has no place for a column's type, and for [`Format::Table`], whose widths need all rows.
    pub fn new(format: Format, schema: &SchemaRef) -> Result<Self, QueryError> {
        let sink = Sink::default();
        let json = || JsonWriterBuilder::new().with_explicit_nulls(true);
        let writer = match format {
            Format::Json => Writer::Json(json().build(sink.clone())),
            Format::Ndjson => Writer::Ndjson(json().build(sink.clone())),
            Format::Csv => {
                Writer::Csv(Box::new(CsvWriterBuilder::new().with_header(true).build(sink.clone())))
            }
            Format::ArrowStream => {
                Writer::Arrow(Box::new(StreamWriter::try_new(sink.clone(), schema).map_err(failed("Arrow"))?))
            }
            Format::Parquet => Writer::Parquet(Box::new(
                ArrowWriter::try_new(sink.clone(), schema.clone(), None).map_err(failed_parquet)?,
            )),
            Format::Table => {
                let message = "its widths are those of all rows".to_owned();
                return Err(QueryError::Encode { format: "a stream of table lines", message });
            }
        };
        Ok(Self { sink, writer, is_empty: true, schema: schema.clone() })
    }

    /// Takes a batch; returns what is ready so far, which may be nothing.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        self.is_empty &= batch.num_rows() == 0;
        match &mut self.writer {
            Writer::Json(writer) => writer.write(batch).map_err(failed("JSON"))?,
            Writer::Ndjson(writer) => writer.write(batch).map_err(failed("NDJSON"))?,
            Writer::Csv(writer) => writer.write(batch).map_err(failed("CSV"))?,
            Writer::Arrow(writer) => writer.write(batch).map_err(failed("Arrow"))?,
            Writer::Parquet(writer) => {
                writer.write(batch).map_err(failed_parquet)?;
                if writer.memory_size().max(writer.in_progress_size()) > ROW_GROUP_BYTES {
                    writer.flush().map_err(failed_parquet)?;
                }
            }
        }
        Ok(self.sink.take())
    }

    /// The rest. The row limit that cut the result goes where the format has a place for it: Parquet's metadata.
    pub fn finish(self, truncated_at: Option<usize>) -> Result<Vec<u8>, QueryError> {
        let Self { sink, writer, is_empty, schema } = self;
        match writer {
            Writer::Json(mut writer) => {
                writer.finish().map_err(failed("JSON"))?;
                drop(writer);
                let bytes = sink.take();
                return Ok(if is_empty { b"[]".to_vec() } else { bytes });
            }
            Writer::Ndjson(mut writer) => writer.finish().map_err(failed("NDJSON"))?,
            Writer::Csv(mut writer) => {
                if is_empty {
                    // For the header.
                    writer.write(&RecordBatch::new_empty(schema)).map_err(failed("CSV"))?;
                }
                drop(writer);
            }
            Writer::Arrow(mut writer) => writer.finish().map_err(failed("Arrow"))?,
            Writer::Parquet(mut writer) => {
                if let Some(rows) = truncated_at {
                    writer
                        .append_key_value_metadata(KeyValue::new(TRUNCATED_KEY.to_owned(), rows.to_string()));
                }
                writer.close().map_err(failed_parquet)?;
            }
        }
        Ok(sink.take())
    }
}

/// Bytes that a writer made and nobody has taken yet.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn failed(format: &'static str) -> impl Fn(ArrowError) -> QueryError {
    move |error| QueryError::Encode { format, message: error.to_string() }
}

fn failed_parquet(error: ParquetError) -> QueryError {
    QueryError::Encode { format: "Parquet", message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [Format; 5] =
        [Format::Json, Format::Ndjson, Format::Csv, Format::ArrowStream, Format::Parquet];

    fn batch(values: &[Option<i64>]) -> RecordBatch {
        let fields = vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)];
        let texts: StringArray = values.iter().map(|value| value.map(|n| format!("\"{n},"))).collect();
        let numbers = Int64Array::from(values.to_vec());
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(numbers), Arc::new(texts)]).unwrap()
    }

    #[test]
    fn an_empty_result_is_well_formed_in_every_form() {
        let schema = batch(&[]).schema();
        let bytes = |format| Encoder::new(format, &schema).unwrap().finish(None).unwrap();
        assert_eq!(bytes(Format::Json), b"[]");
        assert_eq!(bytes(Format::Ndjson), b"");
        assert_eq!(bytes(Format::Csv), b"n,s\n");
        assert!(bytes(Format::Parquet).ends_with(b"PAR1"));
        let stream = bytes(Format::ArrowStream);
        let reader = datafusion::arrow::ipc::reader::StreamReader::try_new(stream.as_slice(), None).unwrap();
        assert_eq!((reader.schema(), reader.count()), (schema, 0));
    }

    #[test]
    fn a_row_group_is_written_when_it_is_large_and_the_cut_is_in_the_metadata() {
        // Numbers without pattern, so that no encoding makes them small.
        let mut state = 1_u64;
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            Some(state as i64)
        };
        let mut encoder = Encoder::new(Format::Parquet, &batch(&[]).schema()).unwrap();
        let mut pieces = Vec::new();
        for _ in 0..20 {
            let values: Vec<_> = (0..50_000).map(|_| number()).collect();
            pieces.push(encoder.write(&batch(&values)).unwrap());
        }
        let before_the_end: usize = pieces.iter().map(Vec::len).sum();
        assert!(before_the_end > ROW_GROUP_BYTES / 4, "{before_the_end}");
        pieces.push(encoder.finish(Some(1_000_000)).unwrap());
        let file = bytes::Bytes::from(pieces.concat());
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let metadata = reader.metadata().file_metadata();
        assert_eq!(metadata.num_rows(), 1_000_000);
        assert!(reader.metadata().num_row_groups() > 1);
        let told = metadata.key_value_metadata().unwrap().iter().find(|pair| pair.key == TRUNCATED_KEY);
        assert_eq!(told.unwrap().value.as_deref(), Some("1000000"));
    }

    proptest! {
        #[test]
        fn text_forms_do_not_depend_on_how_the_rows_are_cut_into_batches(
            values in proptest::collection::vec(proptest::option::of(any::<i64>()), 0..40),
            cut in 0_usize..40,
        ) {
            let whole = batch(&values);
            let cut = cut.min(values.len());
            for format in FORMATS.into_iter().take(3) {
                let encoded = |batches: &[RecordBatch]| {
                    let mut encoder = Encoder::new(format, &whole.schema()).unwrap();
                    let mut bytes = Vec::new();
                    for batch in batches {
                        bytes.extend(encoder.write(batch).unwrap());
                    }
                    bytes.extend(encoder.finish(None).unwrap());
                    bytes
                };
                let parts = [whole.slice(0, cut), whole.slice(cut, values.len() - cut)];
                prop_assert_eq!(
                    String::from_utf8(encoded(std::slice::from_ref(&whole))).unwrap(),
                    String::from_utf8(encoded(&parts)).unwrap()
                );
            }
        }
    }
}
