//! The rows of the two LanceDB tables, to and from Arrow.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, FixedSizeListArray, Int64Array, RecordBatch, StringArray, UInt32Array, types::Float32Type,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::rag::chunk::Chunk;
use crate::rag::documents::DocumentId;
use crate::rag::error::RagError;

/// Under which key a vector table's schema names the model that made its vectors.
pub const MODEL_KEY: &str = "steward.model";

/// A chunk as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChunkRow {
    pub chunk_id: String,
    pub document_id: String,
    pub owner: String,
    pub ordinal: u32,
    pub text: String,
    pub tokens: u32,
    pub pointer_first: String,
    pub pointer_last: String,
    pub byte_start: u64,
    pub byte_end: u64,
    pub kind: String,
    /// The document's metadata, a JSON object of strings.
    pub metadata: String,
}

impl ChunkRow {
    /// The id of a document's chunk: `<document_id>.<ordinal>`.
    pub fn id(document: &DocumentId, ordinal: u32) -> String {
        format!("{document}.{ordinal}")
    }

    pub fn new(document: &DocumentId, owner: &str, metadata: &str, ordinal: u32, chunk: Chunk) -> Self {
        Self {
            chunk_id: Self::id(document, ordinal),
            document_id: document.to_string(),
            owner: owner.to_owned(),
            ordinal,
            text: chunk.text,
            tokens: chunk.tokens,
            pointer_first: chunk.pointer_first,
            pointer_last: chunk.pointer_last,
            byte_start: chunk.byte_start,
            byte_end: chunk.byte_end,
            kind: chunk.kind.as_str().to_owned(),
            metadata: metadata.to_owned(),
        }
    }
}

/// What a vector belongs to.
#[derive(Debug, Clone)]
pub struct ChunkKey {
    pub chunk_id: String,
    pub document_id: String,
    pub owner: String,
}

pub fn chunk_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        text("chunk_id"),
        text("document_id"),
        text("owner"),
        Field::new("ordinal", DataType::UInt32, false),
        text("text"),
        Field::new("tokens", DataType::UInt32, false),
        text("pointer_first"),
        text("pointer_last"),
        Field::new("byte_start", DataType::Int64, false),
        Field::new("byte_end", DataType::Int64, false),
        text("kind"),
        text("metadata"),
    ]))
}

pub fn chunk_batch(rows: &[ChunkRow]) -> Result<RecordBatch, RagError> {
    let text = |of: fn(&ChunkRow) -> &str| Arc::new(StringArray::from_iter_values(rows.iter().map(of)));
    let small = |of: fn(&ChunkRow) -> u32| Arc::new(UInt32Array::from_iter_values(rows.iter().map(of)));
    let large = |of: fn(&ChunkRow) -> u64| {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| of(row) as i64)))
    };
    Ok(RecordBatch::try_new(
        chunk_schema(),
        vec![
            text(|row| &row.chunk_id),
            text(|row| &row.document_id),
            text(|row| &row.owner),
            small(|row| row.ordinal),
            text(|row| &row.text),
            small(|row| row.tokens),
            text(|row| &row.pointer_first),
            text(|row| &row.pointer_last),
            large(|row| row.byte_start),
            large(|row| row.byte_end),
            text(|row| &row.kind),
            text(|row| &row.metadata),
        ],
    )?)
}

pub fn chunk_rows(batch: &RecordBatch) -> Result<Vec<ChunkRow>, RagError> {
    let (chunk_id, document_id) = (strings(batch, "chunk_id")?, strings(batch, "document_id")?);
    let (owner, text, kind) = (strings(batch, "owner")?, strings(batch, "text")?, strings(batch, "kind")?);
    let (first, last) = (strings(batch, "pointer_first")?, strings(batch, "pointer_last")?);
    let metadata = strings(batch, "metadata")?;
    let (ordinal, tokens) =
        (column::<UInt32Array>(batch, "ordinal")?, column::<UInt32Array>(batch, "tokens")?);
    let (start, end) = (column::<Int64Array>(batch, "byte_start")?, column::<Int64Array>(batch, "byte_end")?);
    Ok((0..batch.num_rows())
        .map(|row| ChunkRow {
            chunk_id: chunk_id.value(row).to_owned(),
            document_id: document_id.value(row).to_owned(),
            owner: owner.value(row).to_owned(),
            ordinal: ordinal.value(row),
            text: text.value(row).to_owned(),
            tokens: tokens.value(row),
            pointer_first: first.value(row).to_owned(),
            pointer_last: last.value(row).to_owned(),
            byte_start: start.value(row) as u64,
            byte_end: end.value(row) as u64,
            kind: kind.value(row).to_owned(),
            metadata: metadata.value(row).to_owned(),
        })
        .collect())
}

pub fn vector_batch(model: &str, dim: usize, rows: &[(ChunkKey, Vec<f32>)]) -> Result<RecordBatch, RagError> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let vector = Field::new("vector", DataType::FixedSizeList(item, dim as i32), false);
    let schema = Schema::new_with_metadata(
        vec![text("chunk_id"), text("document_id"), text("owner"), vector],
        HashMap::from([(MODEL_KEY.to_owned(), model.to_owned())]),
    );
    let column = |of: fn(&ChunkKey) -> &str| {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(key, _)| of(key))))
    };
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        rows.iter().map(|(_, vector)| Some(vector.iter().copied().map(Some))),
        dim as i32,
    );
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![
            column(|key| &key.chunk_id),
            column(|key| &key.document_id),
            column(|key| &key.owner),
            Arc::new(vectors),
        ],
    )?)
}

pub fn strings<'batch>(batch: &'batch RecordBatch, name: &str) -> Result<&'batch StringArray, RagError> {
    column::<StringArray>(batch, name)
}

pub fn column<'batch, A: Array + 'static>(
    batch: &'batch RecordBatch,
    name: &str,
) -> Result<&'batch A, RagError> {
    batch
        .column_by_name(name)
        .and_then(|column| column.as_any().downcast_ref::<A>())
        .ok_or_else(|| RagError::Internal(format!("the table's column {name} is missing or of another type")))
}
