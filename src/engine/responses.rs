//! Records of stored documents as tables: schema `responses`.
//!
//! One Parquet file a document, below `<data_dir>/responses`; the documents table says which there are and whose.
//! A file without a live document is swept; a document without its file has no table.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use datafusion::datasource::TableProvider;
use serde_json::Value;
use sqlx::Row;

use super::{Context, Engine, EngineError};
use crate::query::{records_to_batch, write_parquet};
use crate::rag::{DocumentHandle, DocumentId, Viewer, Visibility};
use crate::store::{StoreError, now_ms};
use crate::warehouse::{WarehouseError, file_table};

/// Digits at the end of a table's name.
const TAIL: usize = 12;

/// A table of records that the caller may query.
#[derive(Debug, Clone)]
pub struct ResponseTable {
    /// Without the schema.
    pub name: String,
    pub document_id: String,
    pub source: String,
    pub columns: Vec<String>,
}

impl Engine {
    /// The tables of this caller's documents, oldest first; only those that `among` names, if it is given.
    pub(super) async fn response_tables(
        &self,
        context: &Context,
        among: Option<&[String]>,
    ) -> Result<Vec<ResponseTable>, EngineError> {
        if among.is_some_and(<[String]>::is_empty) {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "SELECT document_id, index_name, owner, source, response_table FROM documents \
             WHERE response_table IS NOT NULL AND state <> 'storing' AND (expires_at_ms IS NULL OR expires_at_ms > $1) \
             ORDER BY created_at_ms, document_id",
        )
        .bind(now_ms())
        .fetch_all(self.store.pool())
        .await
        .map_err(StoreError::from)?;
        let mut tables = Vec::new();
        for row in rows {
            let name: String = row.get("response_table");
            if among.is_some_and(|names| !names.contains(&name)) {
                continue;
            }
            let (index, owner): (String, String) = (row.get("index_name"), row.get("owner"));
            // The owner of the process owns every file it can read; others see what retrieval would show them.
            let is_visible = context.principal.jti.is_none()
                && context.principal.client_id.as_str().starts_with("local:")
                || self.index_files.iter().any(|file| {
                    file.name.to_string() == index
                        && (file.visibility == Visibility::Shared || owner == context.principal.owner())
                        && crate::auth::Operation::Search.authorize(&context.principal, Some(&index)).is_ok()
                });
            if !is_visible {
                continue;
            }
            let Ok(provider) = self.response_provider(&name).await else { continue };
            let columns = provider.schema().fields().iter().map(|field| field.name().clone()).collect();
            tables.push(ResponseTable {
                name,
                document_id: row.get("document_id"),
                source: row.get("source"),
                columns,
            });
        }
        Ok(tables)
    }

    pub(super) async fn response_provider(&self, name: &str) -> Result<Arc<dyn TableProvider>, EngineError> {
        let path = self.response_path(name);
        if !path.is_file() {
            return Err(WarehouseError::UnknownTable {
                schema: "responses".to_owned(),
                table: name.to_owned(),
            }
            .into());
        }
        // A name is never used for other data, so what was opened once stays right while the file is there.
        let known = self.response_providers.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(provider) = known {
            return Ok(provider);
        }
        let table = file_table(self.query.state(), &path, "parquet").await;
        let table = table.map_err(|error| WarehouseError::Read(Box::new(error)))?;
        let mut providers = self.response_providers.lock().unwrap_or_else(PoisonError::into_inner);
        providers.insert(name.to_owned(), table.clone());
        Ok(table)
    }

    /// The table of a stored document's records, or why there is none although there are records: the document is safe
    /// by then, so that this is worth a note, not a failure.
    pub(super) async fn tabulate(
        &self,
        viewer: &Viewer,
        handle: &DocumentHandle,
        label: &str,
    ) -> (Option<String>, Option<String>) {
        match self.make_table(viewer, handle, label).await {
            Ok(table) => (table.map(|name| format!("responses.{name}")), None),
            Err(error) => {
                tracing::warn!(%error, document = %handle.document_id, "records could not become a table");
                (None, Some(error.to_string()))
            }
        }
    }

    async fn make_table(
        &self,
        viewer: &Viewer,
        handle: &DocumentHandle,
        label: &str,
    ) -> Result<Option<String>, EngineError> {
        let Some(pointer) = handle.records.clone() else { return Ok(None) };
        let rag = self.rag()?;
        let document = rag.document(viewer, &handle.document_id).await?;
        if let Some(name) = document.response_table
            && self.response_path(&name).is_file()
        {
            return Ok(Some(name));
        }
        let body = rag.body(viewer, &handle.document_id).await?;
        let _files = self.response_files.lock().await;
        let name = table_name(label, &handle.document_id);
        let path = self.response_path(&name);
        let is_ndjson = document.content_type.contains("ndjson") || document.content_type.contains("jsonl");
        tokio::task::spawn_blocking(move || -> Result<(), EngineError> {
            let records = if is_ndjson { lines(&body)? } else { at_pointer(&body, &pointer)? };
            let batch = records_to_batch(&records)?;
            write_parquet(&batch, &path)?;
            Ok(())
        })
        .await??;
        rag.set_response_table(viewer, &handle.document_id, Some(&name)).await?;
        Ok(Some(name))
    }

    /// Removes files whose document is gone.
    pub(super) async fn sweep_response_tables(&self) -> Result<(), EngineError> {
        let _files = self.response_files.lock().await;
        let rows = sqlx::query("SELECT response_table FROM documents WHERE response_table IS NOT NULL")
            .fetch_all(self.store.pool())
            .await
            .map_err(StoreError::from)?;
        let live: std::collections::HashSet<String> =
            rows.iter().map(|row| row.get::<String, _>(0)).collect();
        let mut providers = self.response_providers.lock().unwrap_or_else(PoisonError::into_inner);
        providers.retain(|name, _| live.contains(name));
        drop(providers);
        let Ok(entries) = std::fs::read_dir(&self.responses_dir) else { return Ok(()) };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            if !live.contains(name)
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::warn!(%error, "a response table without a document could not be removed");
            }
        }
        Ok(())
    }

    fn response_path(&self, name: &str) -> PathBuf {
        self.responses_dir.join(format!("{name}.parquet"))
    }
}

/// The names of tables of responses that `sql` may mean, quoted or not: there can be many, and most queries mean none.
pub(super) fn names_in(sql: &str) -> Vec<String> {
    let words = sql.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let is_name = |word: &&str| {
        let tail = word.rsplit_once('_').map_or("", |(_, tail)| tail);
        tail.len() == TAIL && tail.chars().all(|char| char.is_ascii_hexdigit())
    };
    let mut names: Vec<String> = words.filter(is_name).map(str::to_ascii_lowercase).collect();
    names.sort();
    names.dedup();
    names
}

/// `weather_get_hourly_1a2b3c4d5e6f`: says where it is from, and is never used twice.
fn table_name(label: &str, id: &DocumentId) -> String {
    let plain = |text: &str| -> String {
        text.chars()
            .map(
                |character| {
                    if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '_' }
                },
            )
            .collect()
    };
    let id: String = plain(id.as_str()).chars().filter(char::is_ascii_alphanumeric).collect();
    // The end of a UUIDv7 is random, its start is time.
    let tail = &id[id.len().saturating_sub(TAIL)..];
    let mut label = plain(label);
    label.truncate(60);
    if !label.starts_with(|character: char| character.is_ascii_alphabetic()) {
        label.insert_str(0, "t_");
    }
    format!("{}_{tail}", label.trim_end_matches('_'))
}

fn at_pointer(body: &[u8], pointer: &str) -> Result<Vec<Value>, EngineError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut value: Value =
        serde_json::from_slice(body).map_err(|error| EngineError::InvalidInput(error.to_string()))?;
    match value.pointer_mut(pointer).map(Value::take) {
        Some(Value::Array(records)) => Ok(records),
        _ => Err(EngineError::InvalidInput(format!("there is no array at `{pointer}`"))),
    }
}

fn lines(body: &[u8]) -> Result<Vec<Value>, EngineError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::Deserializer::from_slice(body)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| EngineError::InvalidInput(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_plain_identifiers_whatever_the_label_and_are_found_in_sql() {
        let id = DocumentId::new();
        for label in ["weather.get_hourly", "Übersicht 2013.csv", "9", "", "a\"; DROP"] {
            let name = table_name(label, &id);
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
            for sql in [
                format!("SELECT * FROM responses.{name} AS r"),
                format!("SELECT \"{name}\".n FROM Responses.\"{name}\""),
                format!("SELECT 1 FROM/**/{}", name.to_uppercase()),
            ] {
                assert_eq!(names_in(&sql), [name.as_str()], "{sql}");
            }
        }
    }
}
