//! Documents and retrieval over HTTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::TryStreamExt;
use poem::{Body, Request};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::{Binary, Json};
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};

use super::ApiTag;
use super::caller::{ApiScope, Caller, failed};
use super::problem::ApiError;
use crate::engine::{Engine, EngineError, Upload};
use crate::rag::{self, ContentRequest, SearchRequest};

#[derive(Debug, Object)]
pub struct Index {
    pub name: String,
    pub description: String,
    /// private: each client sees its own documents. shared: all who may read the index see all.
    pub visibility: String,
    pub ttl_hours: Option<u32>,
}

#[derive(Debug, Object)]
pub struct Document {
    pub document_id: String,
    pub index: String,
    /// upload, or action:api.operation
    pub source: String,
    pub title: String,
    pub content_type: String,
    pub bytes: u64,
    pub tokens: u64,
    pub chunks: u64,
    /// Chunks that vector search finds already; text search finds all of them.
    pub embedded_chunks: u64,
    /// indexed: text search answers; ready: vectors too; failed: no vectors, see `error`.
    pub state: String,
    pub error: Option<String>,
    /// The records as a table for SQL.
    pub table: Option<String>,
    /// Why there is no table although there are records.
    #[oai(skip_serializing_if_is_none)]
    pub table_note: Option<String>,
    pub outline: Vec<String>,
    pub preview: String,
    pub preview_is_cut: bool,
    pub metadata: HashMap<String, String>,
    /// Epoch milliseconds.
    pub created_at_ms: i64,
    /// Epoch milliseconds.
    pub expires_at_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Default)]
#[oai(rename_all = "lowercase")]
pub enum SearchMode {
    /// Words and meaning, fused.
    #[default]
    Hybrid,
    /// By meaning.
    Vector,
    /// By words.
    Text,
}

#[derive(Debug, Object)]
pub struct SearchBody {
    /// What to look for.
    pub query: String,
    #[oai(default)]
    pub mode: SearchMode,
    /// Hits wanted, 1 to 100.
    #[oai(default = "ten")]
    pub k: u32,
    /// Within this document only.
    pub document_id: Option<String>,
    /// Only documents whose metadata has each of these values.
    #[oai(default)]
    pub filter: HashMap<String, String>,
    /// Chunks before and behind each hit, 0 to 3.
    #[oai(default)]
    pub neighbours: u32,
    /// 0 to 1: how much a hit's likeness to those above it counts against it.
    pub diversity: Option<f32>,
    /// Hits of the vector leg below this cosine similarity are dropped.
    pub min_vector_score: Option<f32>,
}

fn ten() -> u32 {
    10
}

#[derive(Debug, Object)]
pub struct NeighbourChunk {
    pub ordinal: u32,
    pub text: String,
}

#[derive(Debug, Object)]
pub struct SearchHit {
    pub chunk_id: String,
    pub document_id: String,
    pub title: String,
    pub source: String,
    pub text: String,
    pub score: f32,
    pub text_score: Option<f32>,
    pub vector_score: Option<f32>,
    pub text_rank: Option<u32>,
    pub vector_rank: Option<u32>,
    /// JSON Pointer of the first value in the chunk.
    pub pointer_first: String,
    /// JSON Pointer of the last value in the chunk.
    pub pointer_last: String,
    /// Exact place in the stored body.
    pub byte_start: u64,
    pub byte_end: u64,
    pub ordinal: u32,
    pub tokens: u32,
    pub neighbours: Vec<NeighbourChunk>,
}

#[derive(Debug, Object)]
pub struct SearchAnswer {
    pub hits: Vec<SearchHit>,
    /// Chunks whose vectors are still being made.
    pub vectors_pending: u64,
    /// Why vectors are missing, if they could not be made.
    pub vectors_error: Option<String>,
}

type Header<T> = T;

/// A page of the stored body, byte for byte.
#[derive(ApiResponse)]
pub enum Content {
    #[oai(status = 200)]
    Page(
        Binary<Vec<u8>>,
        #[oai(header = "Content-Type")] Header<String>,
        /// Bytes of the part in all.
        #[oai(header = "Steward-Total-Bytes")]
        Header<u64>,
        /// Where the next page starts; absent on the last.
        #[oai(header = "Steward-Next-Offset")]
        Header<Option<u64>>,
        /// Where the part stands in the stored body.
        #[oai(header = "Steward-Byte-Range")]
        Header<String>,
    ),
}

#[derive(ApiResponse)]
pub enum Deleted {
    /// It is gone.
    #[oai(status = 204)]
    Gone,
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(prefix_path = "/v1/rag", tag = "ApiTag::Rag")]
impl Api {
    /// List the document indexes that you may read.
    #[oai(path = "/indexes", method = "get", operation_id = "list_indexes")]
    async fn indexes(
        &self,
        #[oai(scope = "ApiScope::RagRead")] caller: Caller,
    ) -> Result<Json<Vec<Index>>, ApiError> {
        let list = self.0.list_indexes(&caller.0).await.map_err(failed(&self.0, &caller.0))?;
        let shown = list.into_iter().map(|item| Index {
            name: item.file.name.to_string(),
            description: item.file.description,
            visibility: match item.file.visibility {
                rag::Visibility::Private => "private".to_owned(),
                rag::Visibility::Shared => "shared".to_owned(),
            },
            ttl_hours: item.file.ttl_hours,
        });
        Ok(Json(shown.collect()))
    }

    /// Store a document, chunk it and index it. The body is the document, its Content-Type says what it is:
    /// application/json, application/x-ndjson, text/markdown, text/plain or text/csv.
    #[oai(path = "/:index/documents", method = "post", operation_id = "ingest_document")]
    async fn ingest(
        &self,
        #[oai(scope = "ApiScope::RagWrite")] caller: Caller,
        index: Path<String>,
        /// A name for people.
        title: Query<Option<String>>,
        /// Labels to filter by, each `key:value`; may be repeated.
        #[oai(explode = true)]
        meta: Query<Vec<String>>,
        request: &Request,
        body: Binary<Body>,
    ) -> Result<Json<Document>, ApiError> {
        let failed = failed(&self.0, &caller.0);
        let mut metadata = BTreeMap::new();
        for label in &meta.0 {
            let Some((key, value)) = label.split_once(':') else {
                let message =
                    format!("meta is `{}`; write key:value", label.chars().take(60).collect::<String>());
                return Err(failed(EngineError::InvalidInput(message)));
            };
            metadata.insert(key.to_owned(), value.to_owned());
        }
        let content_type = request.content_type().unwrap_or_default().to_owned();
        let upload = Upload { title: title.0.unwrap_or_default(), content_type, metadata };
        let stream = body.0.into_bytes_stream().map_err(|error| error.to_string());
        let stored = self.0.ingest_document(&caller.0, &index.0, upload, stream).await.map_err(&failed)?;
        let id = stored.handle.document_id.to_string();
        let mut shown = match self.0.get_document(&caller.0, &index.0, &id).await {
            Ok(found) => document(found),
            // Who may write an index but not read it still gets the handle.
            Err(error) if error.kind() == crate::error::ErrorKind::InsufficientScope => {
                of_handle(stored.handle)
            }
            Err(error) => return Err(failed(error)),
        };
        (shown.table, shown.table_note) = (stored.table, stored.table_note);
        Ok(Json(shown))
    }

    /// List the documents of an index, newest first.
    #[oai(path = "/:index/documents", method = "get", operation_id = "list_documents")]
    async fn documents(
        &self,
        #[oai(scope = "ApiScope::RagRead")] caller: Caller,
        index: Path<String>,
        /// Older than this document.
        before: Query<Option<String>>,
        /// 1 to 1000.
        #[oai(default = "hundred")]
        limit: Query<u32>,
    ) -> Result<Json<Vec<Document>>, ApiError> {
        let list = self.0.list_documents(&caller.0, &index.0, before.0.as_deref(), limit.0).await;
        Ok(Json(list.map_err(failed(&self.0, &caller.0))?.into_iter().map(document).collect()))
    }

    /// Fetch what is known about one document, with the progress of its vectors.
    #[oai(path = "/:index/documents/:id", method = "get", operation_id = "get_document")]
    async fn document(
        &self,
        #[oai(scope = "ApiScope::RagRead")] caller: Caller,
        index: Path<String>,
        id: Path<String>,
    ) -> Result<Json<Document>, ApiError> {
        let found =
            self.0.get_document(&caller.0, &index.0, &id.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(document(found)))
    }

    /// Page through a document, or fetch the part at a JSON Pointer.
    #[oai(path = "/:index/documents/:id/content", method = "get", operation_id = "get_document_content")]
    async fn content(
        &self,
        #[oai(scope = "ApiScope::RagRead")] caller: Caller,
        index: Path<String>,
        id: Path<String>,
        /// JSON Pointer (RFC 6901), or /rows/3-17 of a CSV.
        pointer: Query<Option<String>>,
        /// Bytes to skip.
        #[oai(default)]
        offset: Query<u64>,
        /// Most bytes of the page, 4 to 1,048,576.
        #[oai(default = "page_bytes")]
        max_bytes: Query<u64>,
    ) -> Result<Content, ApiError> {
        let request = ContentRequest { pointer: pointer.0, offset: offset.0, max_bytes: max_bytes.0 };
        let page = self.0.get_document_content(&caller.0, &index.0, &id.0, &request).await;
        let page = page.map_err(failed(&self.0, &caller.0))?;
        let range = format!("{}-{}", page.byte_start, page.byte_end);
        Ok(Content::Page(Binary(page.bytes), page.content_type, page.total_bytes, page.next_offset, range))
    }

    /// Delete a document and its chunks.
    #[oai(path = "/:index/documents/:id", method = "delete", operation_id = "delete_document")]
    async fn delete(
        &self,
        #[oai(scope = "ApiScope::RagWrite")] caller: Caller,
        index: Path<String>,
        id: Path<String>,
    ) -> Result<Deleted, ApiError> {
        self.0.delete_document(&caller.0, &index.0, &id.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Deleted::Gone)
    }

    /// Search the chunks of an index.
    #[oai(path = "/:index/search", method = "post", operation_id = "search")]
    async fn search(
        &self,
        #[oai(scope = "ApiScope::RagRead")] caller: Caller,
        index: Path<String>,
        body: Json<SearchBody>,
    ) -> Result<Json<SearchAnswer>, ApiError> {
        let failed = failed(&self.0, &caller.0);
        let wanted = body.0;
        let mut request = SearchRequest::new(wanted.query);
        request.mode = match wanted.mode {
            SearchMode::Hybrid => rag::SearchMode::Hybrid,
            SearchMode::Vector => rag::SearchMode::Vector,
            SearchMode::Text => rag::SearchMode::Text,
        };
        request.k = wanted.k as usize;
        request.filter = wanted.filter.into_iter().collect();
        request.neighbours = wanted.neighbours;
        request.diversity = wanted.diversity;
        request.min_vector_score = wanted.min_vector_score;
        request.document_id = match wanted.document_id {
            None => None,
            Some(id) => {
                let unknown = || EngineError::from(rag::RagError::UnknownDocument(id.clone()));
                Some(id.parse().map_err(|_| failed(unknown()))?)
            }
        };
        let answer = self.0.search(&caller.0, &index.0, &request).await.map_err(&failed)?;
        Ok(Json(SearchAnswer {
            hits: answer.hits.into_iter().map(hit).collect(),
            vectors_pending: answer.vectors_pending,
            vectors_error: answer.vectors_error,
        }))
    }
}

fn hundred() -> u32 {
    100
}

fn page_bytes() -> u64 {
    65_536
}

pub(super) fn hit(item: rag::Hit) -> SearchHit {
    let rank = |rank: Option<usize>| rank.and_then(|rank| u32::try_from(rank).ok());
    SearchHit {
        chunk_id: item.chunk_id,
        document_id: item.document_id.to_string(),
        title: item.title,
        source: item.source,
        text: item.text,
        score: item.score,
        text_score: item.text_score,
        vector_score: item.vector_score,
        text_rank: rank(item.text_rank),
        vector_rank: rank(item.vector_rank),
        pointer_first: item.pointer_first,
        pointer_last: item.pointer_last,
        byte_start: item.byte_start,
        byte_end: item.byte_end,
        ordinal: item.ordinal,
        tokens: item.tokens,
        neighbours: item
            .neighbours
            .into_iter()
            .map(|chunk| NeighbourChunk { ordinal: chunk.ordinal, text: chunk.text })
            .collect(),
    }
}

fn document(item: rag::Document) -> Document {
    Document {
        document_id: item.document_id.to_string(),
        index: item.index.to_string(),
        source: item.source,
        title: item.title,
        content_type: item.content_type,
        bytes: item.size_bytes,
        tokens: item.tokens,
        chunks: item.chunks,
        embedded_chunks: item.embedded_chunks,
        state: item.state.as_str().to_owned(),
        error: item.error,
        table_note: None,
        table: item.response_table.map(|name| format!("responses.{name}")),
        outline: item.outline,
        preview: item.preview.text,
        preview_is_cut: item.preview.is_cut,
        metadata: item.metadata.into_iter().collect(),
        created_at_ms: item.created_at_ms,
        expires_at_ms: item.expires_at_ms,
    }
}

fn of_handle(handle: rag::DocumentHandle) -> Document {
    Document {
        document_id: handle.document_id.to_string(),
        index: handle.index.to_string(),
        source: "upload".to_owned(),
        title: String::new(),
        content_type: String::new(),
        bytes: handle.bytes,
        tokens: handle.tokens,
        chunks: handle.chunks,
        embedded_chunks: handle.embedded_chunks,
        state: handle.state.as_str().to_owned(),
        error: None,
        table: None,
        table_note: None,
        outline: handle.outline,
        preview: handle.preview,
        preview_is_cut: handle.preview_is_cut,
        metadata: HashMap::new(),
        created_at_ms: 0,
        expires_at_ms: handle.expires_at_ms,
    }
}
