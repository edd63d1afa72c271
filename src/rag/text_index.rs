//! Lexical search: one tantivy index a rag index, derived from the chunk table and rebuilt from it when in doubt.
//!
//! Knows tantivy; must not know LanceDB, owners' rights or expiry. Callers pass the documents they may see.
//! X1 every commit carries the chunk table's version that it covers; a different one at open means: rebuild.
//! X2 a query is never a syntax error: it is cut into terms, not parsed.  X3 ids, hashes, codes and numbers are also
//!    indexed whole (`exact`), since stemming splits them and drops what is over 40 characters.
//! X4 one long-lived writer; its lock tells a second process that the folder is taken.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tantivy::collector::TopDocs;
use tantivy::directory::error::LockError;
use tantivy::query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query, TermQuery, TermSetQuery};
use tantivy::schema::{
    Field, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value as _,
};
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, TantivyError, Term};

use crate::rag::documents::DocumentId;
use crate::rag::error::RagError;
use crate::rag::rows::ChunkRow;
use crate::rag::store::Scope;

/// Memory of the writer before it flushes a segment; tantivy's minimum is 15 MB.
const WRITER_BYTES: usize = 32 << 20;

/// Terms of one query; longer queries are cut.
const MAX_QUERY_TERMS: usize = 128;

/// Longest token that is looked up exactly.
const MAX_EXACT_BYTES: usize = 512;

/// A match on an id counts for more than one on a word.
const EXACT_BOOST: f32 = 3.0;

#[derive(Clone, Copy)]
struct Fields {
    chunk_id: Field,
    document_id: Field,
    owner: Field,
    text: Field,
    exact: Field,
    /// The whole row as JSON: hits are read from here by id, which Lance could only do by a scan.
    row: Field,
}

/// The lexical index of one rag index.
pub struct TextIndex {
    fields: Fields,
    index: Index,
    reader: IndexReader,
    /// `None` once closed.
    writer: Mutex<Option<IndexWriter>>,
    /// The chunk table's version that the last commit covers; `None`: rebuild.
    covered: Mutex<Option<u64>>,
    /// Set when a change was lost: until the rebuild at the next open, commits cover no version.
    is_stale: AtomicBool,
}

impl TextIndex {
    /// Opens the index in `folder`; a missing or broken one is made anew, empty, and covers nothing.
    ///
    /// `patience` is how long a predecessor in the same folder may take to go down.
    pub async fn open(folder: PathBuf, patience: Duration) -> Result<Self, RagError> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let path = folder.clone();
            match tokio::task::spawn_blocking(move || Self::open_blocking(&path)).await? {
                Err(RagError::Text(TantivyError::LockFailure(LockError::LockBusy, _))) => {
                    if tokio::time::Instant::now() >= deadline {
                        return Err(RagError::InUse(folder.display().to_string()));
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                opened => return opened,
            }
        }
    }

    fn open_blocking(folder: &Path) -> Result<Self, RagError> {
        match Self::open_folder(folder) {
            Ok(index) => Ok(index),
            Err(busy @ RagError::Text(TantivyError::LockFailure(LockError::LockBusy, _))) => Err(busy),
            Err(error) if error.kind() == crate::error::ErrorKind::Unavailable => Err(error),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "text index is broken, it is made anew");
                if folder.exists() {
                    std::fs::remove_dir_all(folder).map_err(RagError::io("remove", folder))?;
                }
                Self::open_folder(folder)
            }
        }
    }

    fn open_folder(folder: &Path) -> Result<Self, RagError> {
        crate::store::create_private_folder(folder)?;
        let (schema, fields) = schema();
        let directory = tantivy::directory::MmapDirectory::open(folder).map_err(TantivyError::from)?;
        let index = Index::open_or_create(directory, schema)?;
        let writer = index.writer_with_num_threads(1, WRITER_BYTES)?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let covered = index.load_metas()?.payload.and_then(|payload| payload.parse().ok());
        Ok(Self {
            fields,
            index,
            reader,
            writer: Mutex::new(Some(writer)),
            covered: Mutex::new(covered),
            is_stale: AtomicBool::new(false),
        })
    }

    /// The chunk table's version that this index covers.
    pub fn covered_version(&self) -> Option<u64> {
        *self.covered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the folder free, after running merges; whatever was not committed is dropped.
    pub fn close(&self) -> Result<(), RagError> {
        match self.lock_writer().take() {
            Some(writer) => Ok(writer.wait_merging_threads()?),
            None => Ok(()),
        }
    }

    fn lock_writer(&self) -> MutexGuard<'_, Option<IndexWriter>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds chunks; they are found after [`Self::commit`].
    pub fn add(&self, rows: &[ChunkRow]) -> Result<(), RagError> {
        let writer = self.lock_writer();
        let writer = writer.as_ref().ok_or(RagError::Closing)?;
        for row in rows {
            let mut document = TantivyDocument::default();
            document.add_text(self.fields.chunk_id, &row.chunk_id);
            document.add_text(self.fields.document_id, &row.document_id);
            document.add_text(self.fields.owner, &row.owner);
            document.add_text(self.fields.text, &row.text);
            for token in exact_tokens(&row.text) {
                document.add_text(self.fields.exact, token);
            }
            let stored = serde_json::to_string(row).map_err(|error| RagError::Internal(error.to_string()))?;
            document.add_text(self.fields.row, stored);
            writer.add_document(document)?;
        }
        Ok(())
    }

    /// Forgets documents; takes effect at [`Self::commit`].
    pub fn delete(&self, documents: &[DocumentId]) -> Result<(), RagError> {
        let writer = self.lock_writer();
        let writer = writer.as_ref().ok_or(RagError::Closing)?;
        for document in documents {
            writer.delete_term(Term::from_field_text(self.fields.document_id, document.as_str()));
        }
        Ok(())
    }

    /// Forgets everything; takes effect at [`Self::commit`].
    pub fn clear(&self) -> Result<(), RagError> {
        self.lock_writer().as_ref().ok_or(RagError::Closing)?.delete_all_documents()?;
        Ok(())
    }

    /// Notes that a change of the chunk table did not get in here.
    pub fn mark_stale(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    /// Takes back whatever was added or deleted since the last commit.
    pub fn roll_back(&self) -> Result<(), RagError> {
        self.lock_writer().as_mut().ok_or(RagError::Closing)?.rollback()?;
        Ok(())
    }

    /// Makes the changes durable and visible, as covering that version of the chunk table.
    pub fn commit(&self, version: u64) -> Result<(), RagError> {
        {
            let mut writer = self.lock_writer();
            let mut prepared = writer.as_mut().ok_or(RagError::Closing)?.prepare_commit()?;
            let covers = (!self.is_stale.load(Ordering::Relaxed)).then_some(version);
            prepared.set_payload(&covers.map_or("stale".to_owned(), |version| version.to_string()));
            prepared.commit()?;
            *self.covered.lock().unwrap_or_else(PoisonError::into_inner) = covers;
        }
        self.reader.reload()?;
        Ok(())
    }

    /// The `limit` best chunks for the query's words with their BM25 scores, best first.
    pub fn search(&self, query: &str, scope: &Scope, limit: usize) -> Result<Vec<(String, f32)>, RagError> {
        let Some(words) = self.words(query)? else { return Ok(Vec::new()) };
        let query: Box<dyn Query> = match scope {
            Scope::All => words,
            Scope::Only(documents) => {
                let terms = documents
                    .iter()
                    .map(|document| Term::from_field_text(self.fields.document_id, document.as_str()));
                let allowed = ConstScoreQuery::new(Box::new(TermSetQuery::new(terms)), 0.0);
                Box::new(BooleanQuery::new(vec![(Occur::Must, words), (Occur::Must, Box::new(allowed))]))
            }
        };
        let searcher = self.reader.searcher();
        let mut found = Vec::new();
        for (score, address) in
            searcher.search(&query, &TopDocs::with_limit(limit.max(1)).order_by_score())?
        {
            let document: TantivyDocument = searcher.doc(address)?;
            if let Some(id) = document.get_first(self.fields.chunk_id).and_then(|value| value.as_str()) {
                found.push((id.to_owned(), score));
            }
        }
        found.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        Ok(found)
    }

    /// Chunks by their ids; ids that don't exist are left out.
    pub fn rows_by_id(&self, ids: &[String]) -> Result<Vec<ChunkRow>, RagError> {
        let searcher = self.reader.searcher();
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            let term = Term::from_field_text(self.fields.chunk_id, id);
            let query = TermQuery::new(term, IndexRecordOption::Basic);
            for (_, address) in searcher.search(&query, &TopDocs::with_limit(1).order_by_score())? {
                let document: TantivyDocument = searcher.doc(address)?;
                let stored = document.get_first(self.fields.row).and_then(|value| value.as_str());
                let row = serde_json::from_str(stored.unwrap_or_default())
                    .map_err(|error| RagError::Internal(format!("a stored row is broken: {error}")))?;
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Chunks that can be found.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.reader.searcher().num_docs()
    }

    fn words(&self, query: &str) -> Result<Option<Box<dyn Query>>, RagError> {
        let mut terms: Vec<Term> = Vec::new();
        let mut analyzer = self.index.tokenizer_for_field(self.fields.text)?;
        let mut stream = analyzer.token_stream(query);
        while let Some(token) = stream.next() {
            terms.push(Term::from_field_text(self.fields.text, &token.text));
        }
        drop(stream);
        let exact = exact_tokens(query).map(|token| Term::from_field_text(self.fields.exact, &token));
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for term in terms.into_iter().chain(exact) {
            if clauses.len() >= MAX_QUERY_TERMS || !seen.insert(term.clone()) {
                continue;
            }
            let is_exact = term.field() == self.fields.exact;
            let word = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
            clauses.push(match is_exact {
                true => (Occur::Should, Box::new(BoostQuery::new(word, EXACT_BOOST)) as Box<dyn Query>),
                false => (Occur::Should, word as Box<dyn Query>),
            });
        }
        Ok((!clauses.is_empty()).then(|| Box::new(BooleanQuery::new(clauses)) as Box<dyn Query>))
    }
}

fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let stemmed = TextFieldIndexing::default()
        .set_tokenizer("en_stem")
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let fields = Fields {
        chunk_id: builder.add_text_field("chunk_id", STRING | STORED),
        document_id: builder.add_text_field("document_id", STRING),
        owner: builder.add_text_field("owner", STRING),
        text: builder.add_text_field("text", TextOptions::default().set_indexing_options(stemmed)),
        exact: builder.add_text_field("exact", STRING),
        row: builder.add_text_field("row", STORED),
    };
    (builder.build(), fields)
}

/// Tokens that are looked up whole, lower-cased: those with a digit and those over 40 characters.
fn exact_tokens(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|character: char| character.is_whitespace() || "\"'`,;()[]{}<>|".contains(character))
        .map(|token| token.trim_matches([':', '.', '?', '!', '=', '#']))
        .filter(|token| {
            let is_code = token.len() > 40 || token.chars().any(|character| character.is_numeric());
            token.len() > 1 && token.len() <= MAX_EXACT_BYTES && is_code
        })
        .map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(document: &DocumentId, ordinal: u32, text: &str) -> ChunkRow {
        ChunkRow {
            chunk_id: ChunkRow::id(document, ordinal),
            document_id: document.to_string(),
            owner: "owner".into(),
            ordinal,
            text: text.into(),
            tokens: 1,
            pointer_first: String::new(),
            pointer_last: String::new(),
            byte_start: 0,
            byte_end: 0,
            kind: "text".into(),
            metadata: "{}".into(),
        }
    }

    async fn index_of(folder: &Path, texts: &[&str]) -> (TextIndex, DocumentId) {
        let index = TextIndex::open(folder.to_owned(), Duration::ZERO).await.unwrap();
        let document = DocumentId::new();
        let rows: Vec<_> = texts.iter().zip(0..).map(|(text, at)| row(&document, at, text)).collect();
        index.add(&rows).unwrap();
        index.commit(7).unwrap();
        (index, document)
    }

    #[tokio::test]
    async fn words_are_stemmed_and_codes_are_found_whole() {
        let folder = tempfile::tempdir().unwrap();
        let hash = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
        let texts = [
            "delayed departures in rain",
            &format!("launch id: {hash}"),
            "flight UA-1545 left",
            "nothing here",
        ];
        let (index, document) = index_of(folder.path(), &texts).await;
        let best =
            |query: &str| index.search(query, &Scope::All, 10).unwrap().first().map(|(id, _)| id.clone());
        assert_eq!(best("delays"), Some(ChunkRow::id(&document, 0)));
        assert_eq!(best(hash), Some(ChunkRow::id(&document, 1)));
        assert_eq!(best(&format!("what is \"{}\"?", hash.to_uppercase())), Some(ChunkRow::id(&document, 1)));
        assert_eq!(best("ua-1545"), Some(ChunkRow::id(&document, 2)));
        let rows = index.rows_by_id(&[ChunkRow::id(&document, 2), "nope".into()]).unwrap();
        assert_eq!(rows, [row(&document, 2, "flight UA-1545 left")]);
        assert_eq!(best("elephants"), None);
        assert_eq!(best(""), None);
    }

    #[tokio::test]
    async fn only_documents_of_the_scope_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (index, document) = index_of(folder.path(), &["wind", "wind wind"]).await;
        assert_eq!(index.search("wind", &Scope::Only(vec![document.clone()]), 10).unwrap().len(), 2);
        assert_eq!(index.search("wind", &Scope::Only(vec![DocumentId::new()]), 10).unwrap(), []);
        assert_eq!(index.search("wind", &Scope::Only(vec![]), 10).unwrap(), []);
        index.delete(&[document]).unwrap();
        index.commit(8).unwrap();
        assert_eq!(index.search("wind", &Scope::All, 10).unwrap(), []);
    }

    #[tokio::test]
    async fn the_covered_version_survives_and_a_broken_folder_covers_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (index, _) = index_of(folder.path(), &["wind"]).await;
        drop(index);
        let index = TextIndex::open(folder.path().to_owned(), Duration::ZERO).await.unwrap();
        assert_eq!(index.covered_version(), Some(7));
        index.commit(9).unwrap();
        assert_eq!((index.covered_version(), index.count()), (Some(9), 1));
        drop(index);
        std::fs::write(folder.path().join("meta.json"), "{ broken").unwrap();
        let index = TextIndex::open(folder.path().to_owned(), Duration::ZERO).await.unwrap();
        assert_eq!((index.covered_version(), index.count()), (None, 0));
    }

    #[tokio::test]
    async fn a_lost_change_means_a_rebuild_at_the_next_open_and_closing_frees_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (index, _) = index_of(folder.path(), &["wind"]).await;
        index.mark_stale();
        index.commit(8).unwrap();
        index.close().unwrap();
        assert!(matches!(index.commit(9), Err(RagError::Closing)));
        let index = TextIndex::open(folder.path().to_owned(), Duration::ZERO).await.unwrap();
        assert_eq!(index.covered_version(), None);
    }

    #[tokio::test]
    async fn a_folder_in_use_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let _first = TextIndex::open(folder.path().to_owned(), Duration::ZERO).await.unwrap();
        let second = TextIndex::open(folder.path().to_owned(), Duration::ZERO).await.err().unwrap();
        assert!(matches!(&second, RagError::InUse(_)), "{second}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn no_query_is_an_error(query in "(\\PC|[\"+:()*^~\\[\\]\\\\ -]){0,60}") {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let folder = tempfile::tempdir().unwrap();
            runtime.block_on(async {
                let (index, _) = index_of(folder.path(), &["wind and rain"]).await;
                assert!(index.search(&query, &Scope::All, 10).is_ok());
            });
        }
    }
}
