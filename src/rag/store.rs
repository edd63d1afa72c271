//! Chunks and vectors in LanceDB: two tables an index, so that text is searchable before vectors exist.
//!
//! Knows lancedb and Arrow; must not know owners' rights, expiry or SQL. Callers pass the documents they may see.
//! L1 `<index>__chunks` is the record of what an index holds; `<index>__vectors` follows it and may lag.
//! L2 one writer at a time a table: the caller holds the index's lock for every method that takes `&self` and writes.
//! L3 searches are exact (flat, prefiltered) up to [`IVF_FROM_ROWS`] rows; above, IVF_FLAT beside a flat scan of what
//!    is not indexed yet.  L4 vectors of another model are dropped at open: they cannot be compared.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::array::Float32Array;
use futures::TryStreamExt;
use lancedb::connection::Connection;
use lancedb::expr::{DfExpr, col, is_in, lit};
use lancedb::index::Index;
use lancedb::index::vector::IvfFlatIndexBuilder;
use lancedb::query::{ExecutableQuery, QueryBase, QueryExecutionOptions, Select};
use lancedb::table::{CompactionOptions, OptimizeAction, Table};
use lancedb::{DistanceType, ObjectStoreRegistry, Session};

use crate::rag::documents::DocumentId;
use crate::rag::error::RagError;
use crate::rag::index_file::IndexName;
use crate::rag::rows::{
    ChunkKey, ChunkRow, MODEL_KEY, chunk_batch, chunk_rows, chunk_schema, column, strings, vector_batch,
};

/// Rows above which a vector index pays (measured: RAG notes, 100k × 384).
pub const IVF_FROM_ROWS: usize = 30_000;

/// Appends and deletes after which a table is compacted.
const WRITES_PER_COMPACTION: u32 = 24;

/// LanceDB's own defaults are 6 GiB and 1 GiB.
const INDEX_CACHE_BYTES: usize = 64 << 20;
const METADATA_CACHE_BYTES: usize = 32 << 20;

/// Which documents a search may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every document of the index.
    All,
    /// These, and no others.
    Only(Vec<DocumentId>),
}

impl Scope {
    fn filter(&self) -> Option<DfExpr> {
        match self {
            Self::All => None,
            Self::Only(ids) => Some(one_of("document_id", ids.iter().map(DocumentId::as_str))),
        }
    }
}

/// The LanceDB folder of one data folder.
pub struct LanceStore {
    connection: Connection,
}

impl LanceStore {
    pub async fn open(folder: &Path) -> Result<Self, RagError> {
        crate::store::create_private_folder(folder)?;
        let session =
            Session::new(INDEX_CACHE_BYTES, METADATA_CACHE_BYTES, Arc::new(ObjectStoreRegistry::default()));
        let connection =
            lancedb::connect(&folder.to_string_lossy()).session(Arc::new(session)).execute().await?;
        Ok(Self { connection })
    }

    /// Opens an index's tables, creating the one for chunks.
    pub async fn tables(&self, index: &IndexName, model: &str) -> Result<IndexTables, RagError> {
        let chunks_name = format!("{index}__chunks");
        let chunks = match self.connection.open_table(&chunks_name).execute().await {
            Err(lancedb::Error::TableNotFound { .. }) => {
                self.connection.create_empty_table(&chunks_name, chunk_schema()).execute().await?
            }
            opened => opened?,
        };
        let vectors_name = format!("{index}__vectors");
        let mut vectors = match self.connection.open_table(&vectors_name).execute().await {
            Err(lancedb::Error::TableNotFound { .. }) => None,
            opened => Some(opened?),
        };
        if let Some(table) = &vectors
            && table.schema().await?.metadata().get(MODEL_KEY).map(String::as_str) != Some(model)
        {
            tracing::info!(index = %index, model, "embedding model changed, vectors are made anew");
            self.connection.drop_table(&vectors_name, &[]).await?;
            vectors = None;
        }
        Ok(IndexTables {
            connection: self.connection.clone(),
            vectors_name,
            chunks,
            vectors: tokio::sync::RwLock::new(vectors),
            chunk_writes: AtomicU32::new(0),
            vector_writes: AtomicU32::new(0),
        })
    }
}

/// The two tables of one index.
pub struct IndexTables {
    connection: Connection,
    vectors_name: String,
    chunks: Table,
    vectors: tokio::sync::RwLock<Option<Table>>,
    chunk_writes: AtomicU32,
    vector_writes: AtomicU32,
}

impl IndexTables {
    /// The chunk table's version; it changes with every write.
    pub async fn chunk_version(&self) -> Result<u64, RagError> {
        Ok(self.chunks.version().await?)
    }

    /// Appends chunks in one commit; returns the table's new version.
    pub async fn append_chunks(&self, rows: &[ChunkRow]) -> Result<u64, RagError> {
        if rows.is_empty() {
            return self.chunk_version().await;
        }
        let batches = rows.chunks(4096).map(chunk_batch).collect::<Result<Vec<_>, _>>()?;
        let added = self.chunks.add(batches).execute().await?;
        self.chunk_writes.fetch_add(1, Ordering::Relaxed);
        Ok(added.version)
    }

    /// Deletes documents' chunks; returns the table's new version.
    pub async fn delete_chunks(&self, documents: &[DocumentId]) -> Result<u64, RagError> {
        let deleted =
            self.chunks.delete(&one_of("document_id", documents.iter().map(DocumentId::as_str))).await?;
        self.chunk_writes.fetch_add(1, Ordering::Relaxed);
        Ok(deleted.version)
    }

    /// Every chunk, batch by batch, in no particular order.
    pub async fn each_chunk(
        &self,
        mut take: impl FnMut(Vec<ChunkRow>) -> Result<(), RagError>,
    ) -> Result<(), RagError> {
        let mut stream = self.chunks.query().execute().await?;
        while let Some(batch) = stream.try_next().await? {
            take(chunk_rows(&batch)?)?;
        }
        Ok(())
    }

    /// A document's chunks in order.
    pub async fn chunks_of(&self, document: &DocumentId) -> Result<Vec<ChunkRow>, RagError> {
        let mut rows = self.chunks_where(col("document_id").eq(lit(document.as_str()))).await?;
        rows.sort_by_key(|row| row.ordinal);
        Ok(rows)
    }

    async fn chunks_where(&self, filter: DfExpr) -> Result<Vec<ChunkRow>, RagError> {
        let mut stream = self.chunks.query().only_if_expr(filter).execute().await?;
        let mut rows = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            rows.extend(chunk_rows(&batch)?);
        }
        Ok(rows)
    }

    /// The ids of all documents that have chunks, and of all that have vectors here.
    pub async fn document_ids(&self) -> Result<StoredIds, RagError> {
        let mut ids = StoredIds { chunks: distinct_documents(&self.chunks).await?, vectors: HashSet::new() };
        if let Some(table) = self.vectors.read().await.clone() {
            ids.vectors = distinct_documents(&table).await?;
        }
        Ok(ids)
    }

    /// Appends vectors of one length, made by `model`, creating their table at the first.
    pub async fn append_vectors(&self, model: &str, rows: &[(ChunkKey, Vec<f32>)]) -> Result<(), RagError> {
        let Some(dim) = rows.first().map(|(_, vector)| vector.len()) else { return Ok(()) };
        let batch = vector_batch(model, dim, rows)?;
        let mut vectors = self.vectors.write().await;
        match &*vectors {
            Some(table) => {
                table.add(batch).execute().await?;
            }
            None => {
                *vectors = Some(self.connection.create_table(&self.vectors_name, batch).execute().await?);
            }
        }
        self.vector_writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Deletes documents' vectors.
    pub async fn delete_vectors(&self, documents: &[DocumentId]) -> Result<(), RagError> {
        if let Some(table) = self.vectors.read().await.clone() {
            table.delete(&one_of("document_id", documents.iter().map(DocumentId::as_str))).await?;
            self.vector_writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The ids of a document's chunks that have vectors.
    pub async fn embedded_ids(&self, document: &DocumentId) -> Result<HashSet<String>, RagError> {
        let Some(table) = self.vectors.read().await.clone() else { return Ok(Default::default()) };
        let filter = col("document_id").eq(lit(document.as_str()));
        let query = table.query().only_if_expr(filter).select(Select::columns(&["chunk_id"]));
        let mut stream = query.execute().await?;
        let mut ids = HashSet::new();
        while let Some(batch) = stream.try_next().await? {
            ids.extend(strings(&batch, "chunk_id")?.iter().flatten().map(str::to_owned));
        }
        Ok(ids)
    }

    /// The `limit` nearest chunks with their cosine similarity, best first.
    pub async fn nearest(
        &self,
        query: &[f32],
        scope: &Scope,
        limit: usize,
    ) -> Result<Vec<(String, f32)>, RagError> {
        let Some(table) = self.vectors.read().await.clone() else { return Ok(Vec::new()) };
        let mut search = table
            .query()
            .nearest_to(query)?
            .distance_type(DistanceType::Cosine)
            .limit(limit)
            .select(Select::columns(&["chunk_id", "_distance"]));
        if let Some(filter) = scope.filter() {
            search = search.only_if_expr(filter);
        }
        let mut stream = search.execute_with_options(QueryExecutionOptions::default()).await?;
        let mut found = Vec::new();
        while let Some(batch) = stream.try_next().await? {
            let ids = strings(&batch, "chunk_id")?;
            let distances = column::<Float32Array>(&batch, "_distance")?;
            for row in 0..batch.num_rows() {
                found.push((ids.value(row).to_owned(), 1.0 - distances.value(row)));
            }
        }
        found.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        Ok(found)
    }

    /// Rows of both tables.
    #[cfg(test)]
    pub async fn row_counts(&self) -> Result<(usize, usize), RagError> {
        let vectors = match self.vectors.read().await.clone() {
            Some(table) => table.count_rows(None).await?,
            None => 0,
        };
        Ok((self.chunks.count_rows(None).await?, vectors))
    }

    /// Whether [`Self::compact_chunks`] would pay.
    pub fn chunks_want_compaction(&self) -> bool {
        self.chunk_writes.load(Ordering::Relaxed) >= WRITES_PER_COMPACTION
    }

    /// Merges the chunk table's small files and drops old versions; returns its new version.
    pub async fn compact_chunks(&self) -> Result<u64, RagError> {
        self.chunk_writes.store(0, Ordering::Relaxed);
        compact(&self.chunks).await?;
        self.chunk_version().await
    }

    /// Compacts the vectors when that pays, and builds or extends their index above [`IVF_FROM_ROWS`] rows.
    pub async fn tend_vectors(&self) -> Result<(), RagError> {
        if self.vector_writes.load(Ordering::Relaxed) < WRITES_PER_COMPACTION {
            return Ok(());
        }
        let Some(table) = self.vectors.read().await.clone() else { return Ok(()) };
        self.vector_writes.store(0, Ordering::Relaxed);
        compact(&table).await?;
        if table.count_rows(None).await? < IVF_FROM_ROWS {
            return Ok(());
        }
        if table.list_indices().await?.is_empty() {
            let index = IvfFlatIndexBuilder::default().distance_type(DistanceType::Cosine);
            table.create_index(&["vector"], Index::IvfFlat(index)).execute().await?;
        } else {
            table.optimize(OptimizeAction::Index(Default::default())).await?;
        }
        Ok(())
    }
}

/// The documents that each table holds something of.
pub struct StoredIds {
    pub chunks: HashSet<String>,
    pub vectors: HashSet<String>,
}

async fn distinct_documents(table: &Table) -> Result<HashSet<String>, RagError> {
    let mut ids: HashSet<String> = HashSet::new();
    let mut stream = table.query().select(Select::columns(&["document_id"])).execute().await?;
    while let Some(batch) = stream.try_next().await? {
        for id in strings(&batch, "document_id")?.iter().flatten() {
            // Chunks of a document stand together: most ids are there already.
            if !ids.contains(id) {
                ids.insert(id.to_owned());
            }
        }
    }
    Ok(ids)
}

async fn compact(table: &Table) -> Result<(), RagError> {
    let options = CompactionOptions { target_rows_per_fragment: 100_000, ..Default::default() };
    table.optimize(OptimizeAction::Compact { options, remap_options: None }).await?;
    // A running search reads one version to its end; none takes ten minutes.
    let older_than = chrono::Duration::try_minutes(10);
    table
        .optimize(OptimizeAction::Prune {
            older_than,
            delete_unverified: None,
            error_if_tagged_old_versions: None,
        })
        .await?;
    Ok(())
}

fn one_of<'a>(column: &str, values: impl Iterator<Item = &'a str>) -> DfExpr {
    is_in(col(column), values.map(lit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(document: &DocumentId, ordinal: u32) -> ChunkRow {
        ChunkRow {
            chunk_id: ChunkRow::id(document, ordinal),
            document_id: document.to_string(),
            owner: "o'wner".into(),
            ordinal,
            text: format!("text {ordinal}"),
            tokens: 2,
            pointer_first: format!("/{ordinal}"),
            pointer_last: format!("/{ordinal}"),
            byte_start: 1 << 40,
            byte_end: (1 << 40) + 1,
            kind: "json".into(),
            metadata: "{}".into(),
        }
    }

    fn vector(document: &DocumentId, ordinal: u32, angle: f32) -> (ChunkKey, Vec<f32>) {
        let key = ChunkKey {
            chunk_id: ChunkRow::id(document, ordinal),
            document_id: document.to_string(),
            owner: "o'wner".into(),
        };
        (key, vec![angle.cos(), angle.sin(), 0.0])
    }

    #[tokio::test]
    async fn chunks_come_back_as_they_went_in_and_versions_grow() {
        let folder = tempfile::tempdir().unwrap();
        let store = LanceStore::open(folder.path()).await.unwrap();
        let index: IndexName = "notes".parse().unwrap();
        let tables = store.tables(&index, "model").await.unwrap();
        let (first, second) = (DocumentId::new(), DocumentId::new());
        let version = tables.chunk_version().await.unwrap();
        let rows = vec![row(&first, 1), row(&first, 0), row(&second, 0)];
        let appended = tables.append_chunks(&rows).await.unwrap();
        assert!(appended > version);
        assert_eq!(appended, tables.chunk_version().await.unwrap());
        assert_eq!(tables.chunks_of(&first).await.unwrap(), [row(&first, 0), row(&first, 1)]);
        assert_eq!(tables.chunks_of(&second).await.unwrap(), [row(&second, 0)]);
        let deleted = tables.delete_chunks(std::slice::from_ref(&first)).await.unwrap();
        assert!(deleted > appended);
        // A second opening sees the same.
        drop(tables);
        let tables = LanceStore::open(folder.path()).await.unwrap().tables(&index, "model").await.unwrap();
        assert_eq!(tables.chunk_version().await.unwrap(), deleted);
        let mut all = Vec::new();
        tables
            .each_chunk(|rows| {
                all.extend(rows);
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(all, [row(&second, 0)]);
        let compacted = tables.compact_chunks().await.unwrap();
        assert!(compacted >= deleted);
        assert_eq!(tables.row_counts().await.unwrap(), (1, 0));
    }

    #[tokio::test]
    async fn the_nearest_come_first_and_only_from_the_scope() {
        let folder = tempfile::tempdir().unwrap();
        let store = LanceStore::open(folder.path()).await.unwrap();
        let index: IndexName = "notes".parse().unwrap();
        let tables = store.tables(&index, "model").await.unwrap();
        let (mine, other) = (DocumentId::new(), DocumentId::new());
        assert_eq!(tables.nearest(&[1.0, 0.0, 0.0], &Scope::All, 5).await.unwrap(), []);
        let rows: Vec<_> = (0..50).map(|at| vector(&other, at, at as f32 * 0.01)).collect();
        tables.append_vectors("model", &rows).await.unwrap();
        let rows: Vec<_> = (0..3).map(|at| vector(&mine, at, 1.0 + at as f32 * 0.1)).collect();
        tables.append_vectors("model", &rows).await.unwrap();
        let found = tables.nearest(&[1.0, 0.0, 0.0], &Scope::All, 2).await.unwrap();
        assert_eq!(found[0].0, ChunkRow::id(&other, 0));
        assert!((found[0].1 - 1.0).abs() < 1e-5 && found[1].1 < found[0].1);
        // The filter comes before the limit: none of the 50 nearer ones crowds these out.
        let scope = Scope::Only(vec![mine.clone()]);
        let found = tables.nearest(&[1.0, 0.0, 0.0], &scope, 3).await.unwrap();
        let ids: Vec<_> = found.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(ids, [0, 1, 2].map(|at| ChunkRow::id(&mine, at)));
        assert_eq!(tables.nearest(&[1.0, 0.0, 0.0], &Scope::Only(Vec::new()), 3).await.unwrap(), []);
        assert_eq!(tables.embedded_ids(&mine).await.unwrap().len(), 3);
        tables.delete_vectors(&[other]).await.unwrap();
        assert_eq!(tables.row_counts().await.unwrap(), (0, 3));
    }

    #[tokio::test]
    async fn vectors_of_another_model_are_dropped_at_open() {
        let folder = tempfile::tempdir().unwrap();
        let store = LanceStore::open(folder.path()).await.unwrap();
        let index: IndexName = "notes".parse().unwrap();
        let tables = store.tables(&index, "one").await.unwrap();
        tables.append_vectors("one", &[vector(&DocumentId::new(), 0, 0.0)]).await.unwrap();
        assert_eq!(store.tables(&index, "one").await.unwrap().row_counts().await.unwrap(), (0, 1));
        assert_eq!(store.tables(&index, "two").await.unwrap().row_counts().await.unwrap(), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn beyond_the_flat_scan_an_index_finds_the_same_and_what_came_later() {
        let folder = tempfile::tempdir().unwrap();
        let store = LanceStore::open(folder.path()).await.unwrap();
        let index: IndexName = "notes".parse().unwrap();
        let tables = store.tables(&index, "model").await.unwrap();
        // Eight numbers a vector, spread by a linear congruence; the scan is exact on any.
        let mut seed = 1u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let documents: Vec<DocumentId> = (0..WRITES_PER_COMPACTION).map(|_| DocumentId::new()).collect();
        let each = (IVF_FROM_ROWS as u32 + 1000) / WRITES_PER_COMPACTION;
        for document in &documents {
            let rows: Vec<_> = (0..each)
                .map(|at| (vector(document, at, 0.0).0, (0..8).map(|_| next()).collect::<Vec<f32>>()))
                .collect();
            tables.append_vectors("model", &rows).await.unwrap();
        }
        let query: Vec<f32> = (0..8).map(|_| next()).collect();
        let narrow = Scope::Only(vec![documents[3].clone()]);
        let exact = tables.nearest(&query, &Scope::All, 10).await.unwrap();
        let exact_narrow = tables.nearest(&query, &narrow, 10).await.unwrap();
        tables.tend_vectors().await.unwrap();
        let table = tables.vectors.read().await.clone().unwrap();
        assert_eq!(table.list_indices().await.unwrap().len(), 1);
        let ids = |found: &[(String, f32)]| found.iter().map(|(id, _)| id.clone()).collect::<HashSet<_>>();
        let indexed = tables.nearest(&query, &Scope::All, 10).await.unwrap();
        assert!(ids(&indexed).intersection(&ids(&exact)).count() >= 9, "{indexed:?} / {exact:?}");
        // A filter beside an index must neither lose rows nor let others in.
        let indexed = tables.nearest(&query, &narrow, 10).await.unwrap();
        assert_eq!(indexed.len(), 10);
        assert!(ids(&indexed).intersection(&ids(&exact_narrow)).count() >= 9);
        let late = DocumentId::new();
        tables.append_vectors("model", &[(vector(&late, 0, 0.0).0, query.clone())]).await.unwrap();
        let found = tables.nearest(&query, &Scope::All, 1).await.unwrap();
        assert_eq!(found[0].0, ChunkRow::id(&late, 0));
    }
}
