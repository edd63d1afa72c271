//! The `documents` table: what was brought in, by whom, how far its indexing is, and who may see it until when.
//!
//! Knows SQL rows; must not know chunks, vectors or files.
//! D1 this table alone decides what exists: a document that is not visible here is in no answer, whatever other
//!    stores still hold of it.  D2 visible means: not `storing`, not expired, and in a private index one's own.
//! D3 documents of other data folders do not exist here: replicas share the table, not the bodies and chunks.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::rag::body::BodyHash;
use crate::rag::chunk::Preview;
use crate::rag::error::RagError;
use crate::rag::index_file::IndexName;
use crate::store::{FolderId, Store, now_ms};

/// A document's id: `doc_` and 32 lowercase hexadecimal digits (a UUIDv7, so that ids sort by time).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DocumentId(String);

/// Why a string is no [`DocumentId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a document id is 'doc_' and 32 lowercase hexadecimal digits; take it from an ingest or a search answer"
)]
pub struct InvalidDocumentId;

impl DocumentId {
    #[expect(clippy::new_without_default, reason = "each call makes another id")]
    pub fn new() -> Self {
        Self(format!("doc_{}", uuid::Uuid::now_v7().simple()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DocumentId {
    type Err = InvalidDocumentId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("doc_").ok_or(InvalidDocumentId)?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if digits.len() == 32 && is_hex { Ok(Self(text.to_owned())) } else { Err(InvalidDocumentId) }
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DocumentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    pub owner: String,
}

/// Where a document came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Upload,
    /// `<api>.<operation>`.
    Action(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload => formatter.write_str("upload"),
            Self::Action(name) => write!(formatter, "action:{name}"),
        }
    }
}

/// How far a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentState {
    /// Being written; invisible, and swept at start if it stays so.
    Storing,
    /// Text search answers; vectors are being made.
    Indexed,
    /// Text and vector search answer.
    Ready,
    /// Text search answers; vectors could not be made, `error` says why.
    Failed,
}

impl DocumentState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Storing => "storing",
            Self::Indexed => "indexed",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }

    fn of(text: &str) -> Self {
        match text {
            "indexed" => Self::Indexed,
            "ready" => Self::Ready,
            "failed" => Self::Failed,
            _ => Self::Storing,
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub document_id: DocumentId,
    pub index: IndexName,
    pub owner: String,
    /// `upload`, or `action:<api>.<operation>`.
    pub source: String,
    pub title: String,
    pub content_type: String,
    pub body: BodyHash,
    pub content_key: String,
    pub size_bytes: u64,
    pub tokens: u64,
    pub chunks: u64,
    pub embedded_chunks: u64,
    pub state: DocumentState,
    pub error: Option<String>,
    pub response_table: Option<String>,
    /// JSON Pointer of the array whose objects are a table's rows.
    pub records: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub outline: Vec<String>,
    pub preview: Preview,
    pub created_at_ms: i64,
    pub expires_at_ms: Option<i64>,
}

const COLUMNS: &str = "document_id, index_name, owner, source, title, content_type, body_sha256, content_key, \
    size_bytes, tokens, chunks, embedded_chunks, state, error, response_table, records_pointer, metadata, outline, \
    preview, preview_is_cut, created_at_ms, expires_at_ms";

/// How long another folder's replica has had to remove an expired document itself: a day, where it takes a minute.
const FOREIGN_EXPIRED_MS: i64 = 24 * 3600 * 1000;

/// `owner` is whose documents only, for a private index; `None` is everybody's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub index: &'a IndexName,
    pub owner: Option<&'a str>,
    pub now_ms: i64,
}

/// The queries of this table.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    store: Store,
    folder: FolderId,
}

impl Documents {
    /// The documents of that data folder. Those from before folders had ids become its own, and all of them where no
    /// other folder can be in use. Expired ones of other folders go: who would have removed them may be gone itself.
    pub async fn open(store: Store, folder: FolderId) -> Result<Self, RagError> {
        let whose = if store.serves_one() { "folder_id <> $1" } else { "folder_id = ''" };
        let take_over = format!("UPDATE documents SET folder_id = $1 WHERE {whose}");
        sqlx::query(sqlx::AssertSqlSafe(take_over)).bind(folder.as_str()).execute(store.pool()).await?;
        sqlx::query("DELETE FROM documents WHERE folder_id <> $1 AND expires_at_ms < $2")
            .bind(folder.as_str())
            .bind(now_ms().saturating_sub(FOREIGN_EXPIRED_MS))
            .execute(store.pool())
            .await?;
        Ok(Self { store, folder })
    }

    pub async fn insert(&self, document: &Document) -> Result<(), RagError> {
        let placeholders = (1..=23).map(|at| format!("${at}")).collect::<Vec<_>>().join(", ");
        let sql = format!("INSERT INTO documents ({COLUMNS}, folder_id) VALUES ({placeholders})");
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(document.document_id.as_str())
            .bind(document.index.as_str())
            .bind(&document.owner)
            .bind(&document.source)
            .bind(storable(&document.title))
            .bind(storable(&document.content_type))
            .bind(document.body.as_str())
            .bind(&document.content_key)
            .bind(document.size_bytes as i64)
            .bind(document.tokens as i64)
            .bind(document.chunks as i64)
            .bind(document.embedded_chunks as i64)
            .bind(document.state.as_str())
            .bind(document.error.as_deref())
            .bind(document.response_table.as_deref())
            .bind(document.records.as_deref())
            .bind(json_text(&document.metadata)?)
            .bind(json_text(&document.outline)?)
            .bind(storable(&document.preview.text))
            .bind(i64::from(document.preview.is_cut))
            .bind(document.created_at_ms)
            .bind(document.expires_at_ms)
            .bind(self.folder.as_str())
            .execute(self.store.pool())
            .await?;
        Ok(())
    }

    /// From `storing` to visible, with what chunking found.
    pub async fn publish(&self, document: &Document) -> Result<(), RagError> {
        sqlx::query(
            "UPDATE documents SET tokens = $1, chunks = $2, state = $3, records_pointer = $4, outline = $5, \
             preview = $6, preview_is_cut = $7 WHERE document_id = $8",
        )
        .bind(document.tokens as i64)
        .bind(document.chunks as i64)
        .bind(document.state.as_str())
        .bind(document.records.as_deref())
        .bind(json_text(&document.outline)?)
        .bind(storable(&document.preview.text))
        .bind(i64::from(document.preview.is_cut))
        .bind(document.document_id.as_str())
        .execute(self.store.pool())
        .await?;
        Ok(())
    }

    /// Progress of embedding; returns whether the document still exists.
    pub async fn set_progress(
        &self,
        document: &DocumentId,
        embedded_chunks: u64,
        state: DocumentState,
        error: Option<&str>,
    ) -> Result<bool, RagError> {
        let done = sqlx::query(
            "UPDATE documents SET embedded_chunks = $1, state = $2, error = $3 WHERE document_id = $4",
        )
        .bind(embedded_chunks as i64)
        .bind(state.as_str())
        .bind(error.map(storable))
        .bind(document.as_str())
        .execute(self.store.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    pub async fn set_response_table(
        &self,
        document: &DocumentId,
        table: Option<&str>,
    ) -> Result<bool, RagError> {
        let done = sqlx::query("UPDATE documents SET response_table = $1 WHERE document_id = $2")
            .bind(table)
            .bind(document.as_str())
            .execute(self.store.pool())
            .await?;
        Ok(done.rows_affected() > 0)
    }

    pub async fn set_expiry(
        &self,
        document: &DocumentId,
        expires_at_ms: Option<i64>,
    ) -> Result<(), RagError> {
        sqlx::query("UPDATE documents SET expires_at_ms = $1 WHERE document_id = $2")
            .bind(expires_at_ms)
            .bind(document.as_str())
            .execute(self.store.pool())
            .await?;
        Ok(())
    }

    /// The row, visible or not.
    pub async fn find(&self, document: &DocumentId) -> Result<Option<Document>, RagError> {
        let sql = format!("SELECT {COLUMNS} FROM documents WHERE document_id = $1 AND folder_id = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(document.as_str())
            .bind(self.folder.as_str())
            .fetch_optional(self.store.pool())
            .await?;
        row.as_ref().map(document_of).transpose()
    }

    /// Visible documents, newest first; `before` is the last id of the page before.
    pub async fn list(
        &self,
        sight: Sight<'_>,
        before: Option<&DocumentId>,
        limit: u32,
    ) -> Result<Vec<Document>, RagError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM documents WHERE index_name = $1 AND ($2 = '' OR owner = $3) AND state <> 'storing' \
             AND (expires_at_ms IS NULL OR expires_at_ms > $4) AND ($5 = '' OR document_id < $6) \
             AND folder_id = $7 ORDER BY document_id DESC LIMIT $8"
        );
        // '' stands for everybody: a client id is never empty.
        let owner = sight.owner.unwrap_or_default();
        let before = before.map_or("", DocumentId::as_str);
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(sight.index.as_str())
            .bind(owner)
            .bind(owner)
            .bind(sight.now_ms)
            .bind(before)
            .bind(before)
            .bind(self.folder.as_str())
            .bind(i64::from(limit))
            .fetch_all(self.store.pool())
            .await?;
        rows.iter().map(document_of).collect()
    }

    /// How many documents of the index there are at all, visible or not.
    pub async fn count_all(&self, index: &IndexName) -> Result<u64, RagError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM documents WHERE index_name = $1 AND folder_id = $2")
            .bind(index.as_str())
            .bind(self.folder.as_str())
            .fetch_one(self.store.pool())
            .await?;
        Ok(row.try_get::<i64, _>("n")? as u64)
    }

    /// What a search needs of every visible document.
    pub async fn visible(&self, sight: Sight<'_>) -> Result<Vec<Visible>, RagError> {
        let owner = sight.owner.unwrap_or_default();
        let rows = sqlx::query(
            "SELECT document_id, title, source, chunks, embedded_chunks, state, error, metadata FROM documents \
             WHERE index_name = $1 AND ($2 = '' OR owner = $3) AND state <> 'storing' \
             AND (expires_at_ms IS NULL OR expires_at_ms > $4) AND folder_id = $5",
        )
        .bind(sight.index.as_str())
        .bind(owner)
        .bind(owner)
        .bind(sight.now_ms)
        .bind(self.folder.as_str())
        .fetch_all(self.store.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Visible {
                    document_id: id_of(row)?,
                    title: row.try_get("title")?,
                    source: row.try_get("source")?,
                    chunks: row.try_get::<i64, _>("chunks")? as u64,
                    embedded_chunks: row.try_get::<i64, _>("embedded_chunks")? as u64,
                    state: DocumentState::of(&row.try_get::<String, _>("state")?),
                    error: row.try_get("error")?,
                    metadata: row.try_get("metadata")?,
                })
            })
            .collect()
    }

    /// The newest visible document of the same content, owner and index.
    pub async fn find_same(
        &self,
        sight: Sight<'_>,
        owner: &str,
        content_key: &str,
    ) -> Result<Option<Document>, RagError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM documents WHERE content_key = $1 AND index_name = $2 AND owner = $3 \
             AND state <> 'storing' AND (expires_at_ms IS NULL OR expires_at_ms > $4) \
             AND folder_id = $5 ORDER BY document_id DESC LIMIT 1"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(content_key)
            .bind(sight.index.as_str())
            .bind(owner)
            .bind(sight.now_ms)
            .bind(self.folder.as_str())
            .fetch_optional(self.store.pool())
            .await?;
        row.as_ref().map(document_of).transpose()
    }

    /// Documents in one of the states, oldest first.
    pub async fn in_states(
        &self,
        states: &[DocumentState],
    ) -> Result<Vec<(DocumentId, IndexName)>, RagError> {
        let mut found = Vec::new();
        for state in states {
            let rows = sqlx::query(
                "SELECT document_id, index_name FROM documents WHERE state = $1 AND folder_id = $2 \
                 ORDER BY document_id",
            )
            .bind(state.as_str())
            .bind(self.folder.as_str())
            .fetch_all(self.store.pool())
            .await?;
            for row in &rows {
                found.push((id_of(row)?, index_of(row)?));
            }
        }
        Ok(found)
    }

    /// Documents whose time is over.
    pub async fn expired(&self, now_ms: i64) -> Result<Vec<DocumentId>, RagError> {
        let rows = sqlx::query(
            "SELECT document_id FROM documents WHERE expires_at_ms <= $1 AND state <> 'storing' AND folder_id = $2",
        )
        .bind(now_ms)
        .bind(self.folder.as_str())
        .fetch_all(self.store.pool())
        .await?;
        rows.iter().map(id_of).collect()
    }

    /// The ids of all documents of an index, visible or not.
    pub async fn all_ids(&self, index: &IndexName) -> Result<HashSet<String>, RagError> {
        let rows = sqlx::query("SELECT document_id FROM documents WHERE index_name = $1 AND folder_id = $2")
            .bind(index.as_str())
            .bind(self.folder.as_str())
            .fetch_all(self.store.pool())
            .await?;
        rows.iter().map(|row| Ok(row.try_get("document_id")?)).collect()
    }

    /// The hashes of all bodies that some document needs.
    pub async fn needed_bodies(&self) -> Result<HashSet<String>, RagError> {
        let rows = sqlx::query("SELECT DISTINCT body_sha256 FROM documents WHERE folder_id = $1")
            .bind(self.folder.as_str())
            .fetch_all(self.store.pool())
            .await?;
        rows.iter().map(|row| Ok(row.try_get("body_sha256")?)).collect()
    }

    /// Deletes a row; returns whether its body is needed no longer, or `None` if there was no such row.
    ///
    /// The caller holds the body lock, so that no new row for the same body comes between the two statements.
    pub async fn delete(&self, document: &DocumentId, body: &BodyHash) -> Result<Option<bool>, RagError> {
        let mut transaction = self.store.pool().begin().await?;
        let deleted = sqlx::query("DELETE FROM documents WHERE document_id = $1")
            .bind(document.as_str())
            .execute(&mut *transaction)
            .await?;
        let row =
            sqlx::query("SELECT COUNT(*) AS n FROM documents WHERE body_sha256 = $1 AND folder_id = $2")
                .bind(body.as_str())
                .bind(self.folder.as_str())
                .fetch_one(&mut *transaction)
                .await?;
        let needed_by: i64 = row.try_get("n")?;
        transaction.commit().await?;
        Ok((deleted.rows_affected() > 0).then_some(needed_by == 0))
    }
}

/// What a search needs of a document.
#[derive(Debug, Clone)]
pub(crate) struct Visible {
    pub document_id: DocumentId,
    pub title: String,
    pub source: String,
    pub chunks: u64,
    pub embedded_chunks: u64,
    pub state: DocumentState,
    pub error: Option<String>,
    /// JSON object of strings.
    pub metadata: String,
}

/// PostgreSQL takes no NUL in text; what people see of a body loses nothing by it.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn json_text<T: Serialize>(value: &T) -> Result<String, RagError> {
    serde_json::to_string(value).map_err(|error| RagError::Internal(error.to_string()))
}

fn broken(column: &str) -> RagError {
    RagError::Internal(format!("the documents table holds an invalid {column}"))
}

fn id_of(row: &AnyRow) -> Result<DocumentId, RagError> {
    row.try_get::<String, _>("document_id")?.parse().map_err(|_| broken("document_id"))
}

fn index_of(row: &AnyRow) -> Result<IndexName, RagError> {
    row.try_get::<String, _>("index_name")?.parse().map_err(|_| broken("index_name"))
}

fn document_of(row: &AnyRow) -> Result<Document, RagError> {
    let count = |column: &str| -> Result<u64, RagError> { Ok(row.try_get::<i64, _>(column)? as u64) };
    Ok(Document {
        document_id: id_of(row)?,
        index: index_of(row)?,
        owner: row.try_get("owner")?,
        source: row.try_get("source")?,
        title: row.try_get("title")?,
        content_type: row.try_get("content_type")?,
        body: row.try_get::<String, _>("body_sha256")?.parse().map_err(|_| broken("body_sha256"))?,
        content_key: row.try_get("content_key")?,
        size_bytes: count("size_bytes")?,
        tokens: count("tokens")?,
        chunks: count("chunks")?,
        embedded_chunks: count("embedded_chunks")?,
        state: DocumentState::of(&row.try_get::<String, _>("state")?),
        error: row.try_get("error")?,
        response_table: row.try_get("response_table")?,
        records: row.try_get("records_pointer")?,
        metadata: serde_json::from_str(&row.try_get::<String, _>("metadata")?)
            .map_err(|_| broken("metadata"))?,
        outline: serde_json::from_str(&row.try_get::<String, _>("outline")?)
            .map_err(|_| broken("outline"))?,
        preview: Preview {
            text: row.try_get("preview")?,
            is_cut: row.try_get::<i64, _>("preview_is_cut")? != 0,
        },
        created_at_ms: row.try_get("created_at_ms")?,
        expires_at_ms: row.try_get("expires_at_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(index: &str, owner: &str) -> Document {
        Document {
            document_id: DocumentId::new(),
            index: index.parse().unwrap(),
            owner: owner.into(),
            source: "upload".into(),
            title: "t".into(),
            content_type: "text/plain".into(),
            body: "0".repeat(64).parse().unwrap(),
            content_key: "key".into(),
            size_bytes: 3,
            tokens: 1,
            chunks: 1,
            embedded_chunks: 0,
            state: DocumentState::Indexed,
            error: None,
            response_table: None,
            records: Some("/rows".into()),
            metadata: BTreeMap::from([("a".into(), "b".into())]),
            outline: vec!["x".into()],
            preview: Preview { text: "p".into(), is_cut: true },
            created_at_ms: 1,
            expires_at_ms: None,
        }
    }

    async fn open() -> (tempfile::TempDir, Documents) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("s.db")).await.unwrap();
        let id = FolderId::of(folder.path()).unwrap();
        (folder, Documents::open(store, id).await.unwrap())
    }

    #[test]
    fn ids_are_checked_and_sort_by_time() {
        let (first, second) = (DocumentId::new(), DocumentId::new());
        assert!(first < second);
        assert_eq!(first.to_string().parse::<DocumentId>().unwrap(), first);
        for wrong in ["", "doc_", "doc_XYZ", "doc_0' OR 1=1", &"doc_0".repeat(9)] {
            assert!(wrong.parse::<DocumentId>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_row_comes_back_as_it_went_in() {
        let (_folder, documents) = open().await;
        let row = document("notes", "me");
        documents.insert(&row).await.unwrap();
        assert_eq!(documents.find(&row.document_id).await.unwrap(), Some(row));
        assert_eq!(documents.find(&DocumentId::new()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn documents_of_another_data_folder_are_not_there() {
        let (_folder, here) = open().await;
        let elsewhere = tempfile::tempdir().unwrap();
        let id = FolderId::of(elsewhere.path()).unwrap();
        // As on PostgreSQL, which others may be using: nothing is taken over.
        let there = Documents { store: here.store.clone(), folder: id };
        let (row, old) = (document("notes", "me"), document("notes", "me"));
        here.insert(&row).await.unwrap();
        there.insert(&old).await.unwrap();
        let index: IndexName = "notes".parse().unwrap();
        let sight = Sight { index: &index, owner: Some("me"), now_ms: 10 };
        for (documents, mine, foreign) in [(&here, &row, &old), (&there, &old, &row)] {
            assert_eq!(documents.find(&mine.document_id).await.unwrap().as_ref(), Some(mine));
            assert_eq!(documents.find(&foreign.document_id).await.unwrap(), None);
            assert_eq!(documents.list(sight, None, 10).await.unwrap(), std::slice::from_ref(mine));
            assert_eq!(documents.visible(sight).await.unwrap().len(), 1);
            assert_eq!(documents.all_ids(&index).await.unwrap().len(), 1);
            assert_eq!(documents.count_all(&index).await.unwrap(), 1);
            assert_eq!(documents.in_states(&[DocumentState::Indexed]).await.unwrap().len(), 1);
            let same = documents.find_same(sight, "me", "key").await.unwrap().unwrap();
            assert_eq!(same.document_id, mine.document_id);
        }
        // The other folder's row for the same body keeps nothing alive here.
        assert_eq!(there.delete(&old.document_id, &old.body).await.unwrap(), Some(true));
    }

    #[tokio::test]
    async fn where_one_service_alone_uses_the_database_a_new_folder_takes_its_documents_over() {
        let (_folder, lost) = open().await;
        let row = document("notes", "me");
        lost.insert(&row).await.unwrap();
        let fresh = tempfile::tempdir().unwrap();
        let id = FolderId::of(fresh.path()).unwrap();
        let found = Documents::open(lost.store.clone(), id).await.unwrap();
        assert_eq!(found.find(&row.document_id).await.unwrap(), Some(row));
    }

    #[tokio::test]
    async fn text_that_holds_nul_is_stored_without_it() {
        let (_folder, documents) = open().await;
        let preview = Preview { text: "a\0b".into(), is_cut: false };
        let row =
            Document { title: "t\0".into(), preview, outline: vec!["o\0".into()], ..document("notes", "me") };
        documents.insert(&row).await.unwrap();
        let found = documents.find(&row.document_id).await.unwrap().unwrap();
        assert_eq!((found.title.as_str(), found.preview.text.as_str()), ("t\u{fffd}", "a\u{fffd}b"));
        assert_eq!(found.outline, row.outline, "as JSON, it is escaped");
    }

    #[tokio::test]
    async fn storing_expired_and_foreign_rows_are_not_seen() {
        let (_folder, documents) = open().await;
        let mine = document("notes", "me");
        let storing = Document { state: DocumentState::Storing, ..document("notes", "me") };
        let expired = Document { expires_at_ms: Some(10), ..document("notes", "me") };
        let foreign = document("notes", "other");
        let elsewhere = document("more", "me");
        for row in [&mine, &storing, &expired, &foreign, &elsewhere] {
            documents.insert(row).await.unwrap();
        }
        let index: IndexName = "notes".parse().unwrap();
        let sight = |owner, now_ms| Sight { index: &index, owner, now_ms };
        let ids = |rows: Vec<Document>| rows.into_iter().map(|row| row.document_id).collect::<Vec<_>>();
        let listed = ids(documents.list(sight(Some("me"), 10), None, 10).await.unwrap());
        assert_eq!(listed, std::slice::from_ref(&mine.document_id));
        let listed = ids(documents.list(sight(None, 9), None, 10).await.unwrap());
        assert_eq!(listed, [&foreign, &expired, &mine].map(|row| row.document_id.clone()));
        let page = ids(documents.list(sight(None, 9), Some(&foreign.document_id), 1).await.unwrap());
        assert_eq!(page, std::slice::from_ref(&expired.document_id));
        assert_eq!(documents.visible(sight(Some("me"), 10)).await.unwrap().len(), 1);
        assert_eq!(documents.count_all(&index).await.unwrap(), 4);
        assert_eq!(documents.expired(10).await.unwrap(), [expired.document_id]);
        let same = documents.find_same(sight(None, 10), "me", "key").await.unwrap().unwrap();
        assert_eq!(same.document_id, mine.document_id);
    }

    #[tokio::test]
    async fn the_last_document_of_a_body_says_that_it_is_needed_no_longer() {
        let (_folder, documents) = open().await;
        let (first, second) = (document("notes", "me"), document("notes", "you"));
        documents.insert(&first).await.unwrap();
        documents.insert(&second).await.unwrap();
        assert_eq!(documents.delete(&first.document_id, &first.body).await.unwrap(), Some(false));
        assert_eq!(documents.delete(&first.document_id, &first.body).await.unwrap(), None);
        assert_eq!(documents.delete(&second.document_id, &second.body).await.unwrap(), Some(true));
        assert!(!documents.set_progress(&second.document_id, 1, DocumentState::Ready, None).await.unwrap());
    }
}
