//! Retrieval operations: indexes, documents, content, search.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::Stream;

use super::{Context, Done, Engine, EngineError};
use crate::auth::Operation;
use crate::rag::{
    ContentPage, ContentRequest, Document, DocumentHandle, DocumentId, IndexFile, IndexName, NewDocument,
    SearchAnswer, SearchRequest, Source, Viewer,
};

/// An index that the caller may read.
#[derive(Debug, Clone)]
pub struct IndexSummary {
    pub file: IndexFile,
}

/// A document that has been stored.
#[derive(Debug, Clone)]
pub struct Stored {
    pub handle: DocumentHandle,
    /// `responses.<name>`, where the body holds records.
    pub table: Option<String>,
    /// Why there is no table although there are records.
    pub table_note: Option<String>,
}

/// A document to store.
#[derive(Debug, Clone)]
pub struct Upload {
    pub title: String,
    pub content_type: String,
    pub metadata: BTreeMap<String, String>,
}

impl Engine {
    pub async fn list_indexes(&self, context: &Context) -> Result<Vec<IndexSummary>, EngineError> {
        self.perform(context, Operation::ListIndexes, None, async {
            let may_read = |file: &&IndexFile| {
                Operation::Search.authorize(&context.principal, Some(&file.name.to_string())).is_ok()
            };
            let list: Vec<IndexSummary> = self
                .index_files
                .iter()
                .filter(may_read)
                .map(|file| IndexSummary { file: file.clone() })
                .collect();
            Ok(Done::new(list))
        })
        .await
    }

    /// Stores, chunks and indexes a body; text search finds it when this returns, and its records are a table.
    pub async fn ingest_document<S, E>(
        &self,
        context: &Context,
        index: &str,
        upload: Upload,
        body: S,
    ) -> Result<Stored, EngineError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display,
    {
        self.perform(context, Operation::IngestDocument, Some(index), async {
            let viewer = viewer(context);
            let label = if upload.title.is_empty() { "upload".to_owned() } else { upload.title.clone() };
            let new = NewDocument {
                index: index_name(index)?,
                source: Source::Upload,
                title: upload.title,
                content_type: upload.content_type,
                metadata: upload.metadata,
            };
            let handle = self.rag()?.ingest(&viewer, new, body).await?;
            let (table, table_note) = self.tabulate(&viewer, &handle, &label).await;
            let bytes = handle.bytes;
            Ok(Done::new(Stored { handle, table, table_note }).bytes(bytes))
        })
        .await
    }

    /// Newest first, at most `limit`, older than `before`.
    pub async fn list_documents(
        &self,
        context: &Context,
        index: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, EngineError> {
        self.perform(context, Operation::ListDocuments, Some(index), async {
            let before = before.map(document_id).transpose()?;
            let list =
                self.rag()?.documents(&viewer(context), &index_name(index)?, before.as_ref(), limit).await?;
            let rows = list.len();
            Ok(Done::new(list).rows(rows))
        })
        .await
    }

    pub async fn get_document(
        &self,
        context: &Context,
        index: &str,
        id: &str,
    ) -> Result<Document, EngineError> {
        self.perform(context, Operation::GetDocument, Some(index), async {
            Ok(Done::new(self.document_of(context, index, id).await?))
        })
        .await
    }

    pub async fn get_document_content(
        &self,
        context: &Context,
        index: &str,
        id: &str,
        request: &ContentRequest,
    ) -> Result<ContentPage, EngineError> {
        self.perform(context, Operation::GetDocumentContent, Some(index), async {
            let document = self.document_of(context, index, id).await?;
            let page = self.rag()?.content(&viewer(context), &document.document_id, request).await?;
            let bytes = page.bytes.len() as u64;
            Ok(Done::new(page).bytes(bytes))
        })
        .await
    }

    pub async fn delete_document(&self, context: &Context, index: &str, id: &str) -> Result<(), EngineError> {
        self.perform(context, Operation::DeleteDocument, Some(index), async {
            let document = self.document_of(context, index, id).await?;
            self.rag()?.delete(&viewer(context), &document.document_id).await?;
            self.sweep_response_tables().await?;
            Ok(Done::new(()))
        })
        .await
    }

    pub async fn search(
        &self,
        context: &Context,
        index: &str,
        request: &SearchRequest,
    ) -> Result<SearchAnswer, EngineError> {
        self.perform(context, Operation::Search, Some(index), async {
            let answer = self.rag()?.search(&viewer(context), &index_name(index)?, request).await?;
            let rows = answer.hits.len();
            Ok(Done::new(answer).rows(rows))
        })
        .await
    }

    /// The document, if it is in the index that the caller named: a scope for one index opens no other.
    async fn document_of(&self, context: &Context, index: &str, id: &str) -> Result<Document, EngineError> {
        let document = self.rag()?.document(&viewer(context), &document_id(id)?).await?;
        if document.index != index_name(index)? {
            return Err(crate::rag::RagError::UnknownDocument(id.to_owned()).into());
        }
        Ok(document)
    }
}

pub(super) fn viewer(context: &Context) -> Viewer {
    Viewer { owner: context.principal.owner().to_owned() }
}

pub(super) fn index_name(name: &str) -> Result<IndexName, EngineError> {
    name.parse().map_err(|_| EngineError::NotFound {
        what: "index",
        name: name.to_owned(),
        help: String::new(),
    })
}

fn document_id(id: &str) -> Result<DocumentId, EngineError> {
    id.parse().map_err(|_| crate::rag::RagError::UnknownDocument(id.to_owned()).into())
}
