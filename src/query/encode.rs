//! Results as bytes: JSON rows, NDJSON, CSV, Arrow IPC stream, Parquet, and a table for terminals.

use std::sync::Arc;

use datafusion::arrow::csv::WriterBuilder as CsvWriterBuilder;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder as JsonWriterBuilder};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;

use super::{QueryError, QueryResult};

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
    let batches: Vec<&RecordBatch> = result.batches.iter().collect();
    let mut bytes = Vec::new();
    match format {
        Format::Json => {
            let mut writer =
                JsonWriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut bytes);
            writer.write_batches(&batches).and_then(|()| writer.finish()).map_err(failed("JSON"))?;
            drop(writer);
            if bytes.is_empty() {
                bytes.extend_from_slice(b"[]");
            }
        }
        Format::Ndjson => {
            let mut writer =
                JsonWriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
            writer.write_batches(&batches).and_then(|()| writer.finish()).map_err(failed("NDJSON"))?;
        }
        Format::Csv => {
            let mut writer = CsvWriterBuilder::new().with_header(true).build(&mut bytes);
            if batches.is_empty() {
                writer.write(&RecordBatch::new_empty(result.schema.clone())).map_err(failed("CSV"))?;
            }
            for batch in batches {
                writer.write(batch).map_err(failed("CSV"))?;
            }
        }
        Format::ArrowStream => {
            let mut writer = StreamWriter::try_new(&mut bytes, &result.schema).map_err(failed("Arrow"))?;
            for batch in batches {
                writer.write(batch).map_err(failed("Arrow"))?;
            }
            writer.finish().map_err(failed("Arrow"))?;
        }
        Format::Parquet => {
            let failed = |error: parquet::errors::ParquetError| QueryError::Encode {
                format: "Parquet",
                message: error.to_string(),
            };
            let mut writer =
                parquet::arrow::ArrowWriter::try_new(&mut bytes, Arc::clone(&result.schema), None)
                    .map_err(failed)?;
            for batch in batches {
                writer.write(batch).map_err(failed)?;
            }
            writer.close().map_err(failed)?;
        }
        Format::Table => {
            let options = FormatOptions::default().with_null("NULL");
            let empty = [RecordBatch::new_empty(result.schema.clone())];
            let shown = if result.batches.is_empty() { &empty[..] } else { &result.batches };
            let table = pretty_format_batches_with_options(shown, &options).map_err(failed("a table"))?;
            bytes.extend_from_slice(table.to_string().as_bytes());
            bytes.push(b'\n');
        }
    }
    Ok(bytes)
}

fn failed(format: &'static str) -> impl Fn(datafusion::arrow::error::ArrowError) -> QueryError {
    move |error| QueryError::Encode { format, message: error.to_string() }
}
