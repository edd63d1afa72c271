//! Search: by words, by meaning, or both fused.
//!
//! Each leg fetches [`LEG`] candidates of the documents that the viewer sees; ranks are fused, near-duplicates put
//! back if wished, and only then the list is cut to `k` and the texts are fetched.
//! Q1 what is not visible is excluded before ranking (see `documents`, D1).  Q2 an answer says what it lacks: vectors
//! that are still being made, or that could not be made.  Q3 ties go by chunk id, so that equal searches give equal
//! lists.
//! Sources: RRF, Cormack et al. 2009 (k = 60); MMR, Carbonell & Goldstein 1998.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::rag::documents::{DocumentId, DocumentState, Viewer, Visible};
use crate::rag::error::RagError;
use crate::rag::index_file::IndexName;
use crate::rag::rows::ChunkRow;
use crate::rag::store::Scope;
use crate::rag::{IndexState, Rag};

/// Candidates of one leg.
const LEG: usize = 100;

const MAX_K: usize = 100;
const MAX_NEIGHBOURS: u32 = 3;
const MAX_QUERY_BYTES: usize = 8192;

/// Candidates that diversity looks at.
const MAX_DIVERSIFIED: usize = 60;

/// Which legs search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchMode {
    /// By meaning; chunks without a vector are not found.
    Vector,
    /// By words (BM25).
    Text,
    #[default]
    Hybrid,
}

/// How two rankings become one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fusion {
    /// Σ weight / (k + rank), ranks from 1.
    Rrf { k: f32, text_weight: f32, vector_weight: f32 },
    /// Σ weight × score scaled to 0..1 within its leg.
    MinMax { text_weight: f32, vector_weight: f32 },
}

impl Default for Fusion {
    fn default() -> Self {
        Self::Rrf { k: 60.0, text_weight: 1.0, vector_weight: 1.0 }
    }
}

/// A search of one index.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchRequest {
    pub query: String,
    pub mode: SearchMode,
    /// Hits wanted, 1 to 100.
    pub k: usize,
    /// Within this document only.
    pub document_id: Option<DocumentId>,
    /// Only documents whose metadata has each of these values.
    pub filter: BTreeMap<String, String>,
    /// Chunks before and behind each hit to return with it, 0 to 3.
    pub neighbours: u32,
    /// Hits of the vector leg below this cosine similarity are dropped.
    pub min_vector_score: Option<f32>,
    pub fusion: Fusion,
    /// 0 to 1: how much a hit's likeness to those above it counts against it (MMR over word sets); absent: not at all.
    pub diversity: Option<f32>,
}

impl SearchRequest {
    /// Ten hybrid hits without any filter.
    pub fn new(query: impl Into<String>) -> Self {
        Self {
            query: query.into(),
            mode: SearchMode::Hybrid,
            k: 10,
            document_id: None,
            filter: BTreeMap::new(),
            neighbours: 0,
            min_vector_score: None,
            fusion: Fusion::default(),
            diversity: None,
        }
    }

    fn check(&self) -> Result<(), RagError> {
        let refuse = |reason: String| Err(RagError::InvalidRequest(reason));
        if self.query.trim().is_empty() {
            return refuse("query is empty; say what to look for".into());
        }
        if self.query.len() > MAX_QUERY_BYTES {
            return refuse(format!("query is over {MAX_QUERY_BYTES} bytes; shorten it"));
        }
        if !(1..=MAX_K).contains(&self.k) {
            return refuse(format!("k is {}; use 1 to {MAX_K}", self.k));
        }
        if self.neighbours > MAX_NEIGHBOURS {
            return refuse(format!("neighbours is {}; use 0 to {MAX_NEIGHBOURS}", self.neighbours));
        }
        if self.diversity.is_some_and(|diversity| !(0.0..=1.0).contains(&diversity)) {
            return refuse("diversity is out of range; use 0 to 1".into());
        }
        let (numbers, least) = match self.fusion {
            Fusion::Rrf { k, text_weight, vector_weight } => (vec![k, text_weight, vector_weight], k),
            Fusion::MinMax { text_weight, vector_weight } => (vec![text_weight, vector_weight], 0.0),
        };
        if numbers.iter().any(|number| !number.is_finite() || *number < 0.0) || least < 0.0 {
            return refuse("fusion takes finite numbers from 0 on".into());
        }
        Ok(())
    }
}

/// A chunk that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    pub chunk_id: String,
    pub document_id: DocumentId,
    pub title: String,
    pub source: String,
    pub text: String,
    /// What the list is ordered by: the fused score, or the leg's own where one leg searched.
    pub score: f32,
    /// BM25; absent if the text leg did not find it.
    pub text_score: Option<f32>,
    /// Cosine similarity; absent if the vector leg did not find it.
    pub vector_score: Option<f32>,
    /// Ranks in the legs, from 1.
    pub text_rank: Option<usize>,
    pub vector_rank: Option<usize>,
    pub pointer_first: String,
    pub pointer_last: String,
    pub byte_start: u64,
    pub byte_end: u64,
    pub ordinal: u32,
    pub tokens: u32,
    pub kind: String,
    /// The chunks round it, in document order.
    pub neighbours: Vec<Neighbour>,
}

/// A chunk that stands next to a hit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Neighbour {
    pub ordinal: u32,
    pub text: String,
    pub pointer_first: String,
    pub pointer_last: String,
    pub byte_start: u64,
    pub byte_end: u64,
}

/// Hits, best first, and what the search could not look at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SearchAnswer {
    pub hits: Vec<Hit>,
    /// Chunks of the searched documents whose vectors are still being made; 0 for a text search.
    pub vectors_pending: u64,
    /// Why some chunks have no vectors, if they could not be made, or why no vector was searched.
    pub vectors_error: Option<String>,
}

#[derive(Default)]
struct Candidate {
    text: Option<(usize, f32)>,
    vector: Option<(usize, f32)>,
}

type Leg = Vec<(String, f32)>;

impl Rag {
    /// Searches one index for what this viewer may see.
    ///
    /// A hybrid search without vectors (still being made, or no model) answers from the text leg and says so; a vector
    /// search without a model is an error.
    pub async fn search(
        &self,
        viewer: &Viewer,
        index: &IndexName,
        request: &SearchRequest,
    ) -> Result<SearchAnswer, RagError> {
        request.check()?;
        let state = Arc::clone(self.inner.index(index)?);
        let (visible, scope) = self.scope(viewer, &state, request).await?;
        let is_text_only = request.mode == SearchMode::Text;
        let (text, vector) =
            tokio::join!(self.text_leg(&state, &scope, request), self.vector_leg(&state, &scope, request));
        let (text, (vector, mut vectors_error)) = (text?, vector?);
        let mut candidates: HashMap<String, Candidate> = HashMap::new();
        for (rank, (id, score)) in text.iter().enumerate() {
            candidates.entry(id.clone()).or_default().text = Some((rank + 1, *score));
        }
        for (rank, (id, score)) in vector.iter().enumerate() {
            candidates.entry(id.clone()).or_default().vector = Some((rank + 1, *score));
        }
        let mut ranked: Vec<(String, f32)> = fuse(request, &text, &vector, &candidates);
        // Whatever the stores still hold, the documents table has the last word.
        ranked.retain(|(id, _)| document_of(id).is_some_and(|document| visible.contains_key(document)));
        let wanted = if request.diversity.is_some() { request.k.max(MAX_DIVERSIFIED) } else { request.k };
        ranked.truncate(wanted);
        let ids: Vec<String> = ranked.iter().map(|(id, _)| id.clone()).collect();
        let mut rows: HashMap<String, ChunkRow> =
            rows_by_id(&state, ids).await?.into_iter().map(|row| (row.chunk_id.clone(), row)).collect();
        if let Some(diversity) = request.diversity {
            ranked = diversify(ranked, &rows, diversity, request.k);
        }
        let mut hits = Vec::new();
        for (id, score) in ranked.into_iter().take(request.k) {
            let (Some(row), Some(candidate)) = (rows.remove(&id), candidates.get(&id)) else { continue };
            let Some(document) = visible.get(row.document_id.as_str()) else { continue };
            hits.push(hit_of(row, document, score, candidate));
        }
        if request.neighbours > 0 {
            add_neighbours(&state, &mut hits, request.neighbours).await?;
        }
        let searched = || visible.values();
        let pending = searched().filter(|document| document.state == DocumentState::Indexed);
        let vectors_pending = match is_text_only {
            true => 0,
            false => pending.map(|document| document.chunks.saturating_sub(document.embedded_chunks)).sum(),
        };
        if !is_text_only && vectors_error.is_none() {
            vectors_error = searched()
                .find(|document| document.state == DocumentState::Failed)
                .and_then(|document| document.error.clone());
        }
        Ok(SearchAnswer { hits, vectors_pending, vectors_error })
    }

    /// The documents to search in, by id, and how to tell the stores.
    async fn scope(
        &self,
        viewer: &Viewer,
        state: &IndexState,
        request: &SearchRequest,
    ) -> Result<(HashMap<String, Visible>, Scope), RagError> {
        if let Some(id) = &request.document_id {
            let (document, _) = self.inner.visible(viewer, id).await?;
            if document.index != state.file.name {
                return Err(RagError::UnknownDocument(id.to_string()));
            }
        }
        let all = self.inner.documents.visible(self.inner.sight(state, viewer)).await?;
        let seen = all.len() as u64;
        let matching: HashMap<String, Visible> = all
            .into_iter()
            .filter(|document| request.document_id.as_ref().is_none_or(|id| *id == document.document_id))
            .filter(|document| has_metadata(document, &request.filter))
            .map(|document| (document.document_id.to_string(), document))
            .collect();
        // Counted after the list: a document that came in between only makes the scope stricter.
        let is_everything =
            matching.len() as u64 == seen && self.inner.documents.count_all(&state.file.name).await? == seen;
        let scope = match is_everything {
            true => Scope::All,
            false => Scope::Only(matching.values().map(|document| document.document_id.clone()).collect()),
        };
        Ok((matching, scope))
    }

    async fn text_leg(
        &self,
        state: &Arc<IndexState>,
        scope: &Scope,
        request: &SearchRequest,
    ) -> Result<Leg, RagError> {
        if request.mode == SearchMode::Vector {
            return Ok(Vec::new());
        }
        let (state, scope, query) = (Arc::clone(state), scope.clone(), request.query.clone());
        tokio::task::spawn_blocking(move || state.text.search(&query, &scope, LEG)).await?
    }

    async fn vector_leg(
        &self,
        state: &Arc<IndexState>,
        scope: &Scope,
        request: &SearchRequest,
    ) -> Result<(Leg, Option<String>), RagError> {
        if request.mode == SearchMode::Text {
            return Ok((Vec::new(), None));
        }
        let embedded = async {
            let embedder = self.inner.embedder.get().await?;
            let query = request.query.clone();
            tokio::task::spawn_blocking(move || embedder.embed_query(&query)).await?.map_err(RagError::from)
        };
        let query = match embedded.await {
            Ok(query) => query,
            Err(RagError::Embed(error)) if request.mode == SearchMode::Hybrid => {
                return Ok((Vec::new(), Some(error.to_string())));
            }
            Err(error) => return Err(error),
        };
        let mut found = state.tables.nearest(&query, scope, LEG).await?;
        if let Some(least) = request.min_vector_score {
            found.retain(|(_, score)| *score >= least);
        }
        Ok((found, None))
    }
}

fn has_metadata(document: &Visible, filter: &BTreeMap<String, String>) -> bool {
    if filter.is_empty() {
        return true;
    }
    let metadata: BTreeMap<String, String> = serde_json::from_str(&document.metadata).unwrap_or_default();
    filter.iter().all(|(key, value)| metadata.get(key) == Some(value))
}

/// The document's part of a chunk id.
fn document_of(chunk_id: &str) -> Option<&str> {
    chunk_id.rsplit_once('.').map(|(document, _)| document)
}

/// One list, best first.
fn fuse(
    request: &SearchRequest,
    text: &Leg,
    vector: &Leg,
    candidates: &HashMap<String, Candidate>,
) -> Vec<(String, f32)> {
    if request.mode != SearchMode::Hybrid {
        return if request.mode == SearchMode::Text { text.clone() } else { vector.clone() };
    }
    let scaled = |leg: &Leg, score: f32| {
        let (best, worst) = (leg.first().map_or(0.0, |hit| hit.1), leg.last().map_or(0.0, |hit| hit.1));
        if best > worst { (score - worst) / (best - worst) } else { 1.0 }
    };
    let mut fused: Vec<(String, f32)> = candidates
        .iter()
        .map(|(id, Candidate { text: in_text, vector: in_vector })| {
            let score = match request.fusion {
                Fusion::Rrf { k, text_weight, vector_weight } => {
                    in_text.map_or(0.0, |(rank, _)| text_weight / (k + rank as f32))
                        + in_vector.map_or(0.0, |(rank, _)| vector_weight / (k + rank as f32))
                }
                Fusion::MinMax { text_weight, vector_weight } => {
                    in_text.map_or(0.0, |(_, score)| text_weight * scaled(text, score))
                        + in_vector.map_or(0.0, |(_, score)| vector_weight * scaled(vector, score))
                }
            };
            (id.clone(), score)
        })
        .collect();
    fused.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    fused
}

/// Maximal marginal relevance: each next hit is the one with the best score less its likeness to those chosen.
fn diversify(
    ranked: Vec<(String, f32)>,
    rows: &HashMap<String, ChunkRow>,
    diversity: f32,
    k: usize,
) -> Vec<(String, f32)> {
    let best = ranked.first().map_or(1.0, |hit| hit.1.max(f32::MIN_POSITIVE));
    let words: Vec<HashSet<&str>> = ranked
        .iter()
        .map(|(id, _)| rows.get(id).map(|row| row.text.split_whitespace().collect()).unwrap_or_default())
        .collect();
    let mut likeness = vec![0.0f32; ranked.len()];
    let mut left: Vec<usize> = (0..ranked.len()).collect();
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < k {
        let worth = |at: usize| (1.0 - diversity) * ranked[at].1 / best - diversity * likeness[at];
        // Of equals the one that ranked higher.
        let next = left.iter().enumerate().max_by(|(_, one), (_, other)| {
            worth(**one).total_cmp(&worth(**other)).then_with(|| other.cmp(one))
        });
        let Some((position, _)) = next else { break };
        let at = left.remove(position);
        for other in &left {
            let shared = words[at].intersection(&words[*other]).count();
            let either = words[at].len() + words[*other].len() - shared;
            likeness[*other] = likeness[*other].max(shared as f32 / either.max(1) as f32);
        }
        chosen.push(at);
    }
    chosen.into_iter().map(|at| ranked[at].clone()).collect()
}

fn hit_of(row: ChunkRow, document: &Visible, score: f32, candidate: &Candidate) -> Hit {
    Hit {
        chunk_id: row.chunk_id,
        document_id: document.document_id.clone(),
        title: document.title.clone(),
        source: document.source.clone(),
        text: row.text,
        score,
        text_score: candidate.text.map(|(_, score)| score),
        vector_score: candidate.vector.map(|(_, score)| score),
        text_rank: candidate.text.map(|(rank, _)| rank),
        vector_rank: candidate.vector.map(|(rank, _)| rank),
        pointer_first: row.pointer_first,
        pointer_last: row.pointer_last,
        byte_start: row.byte_start,
        byte_end: row.byte_end,
        ordinal: row.ordinal,
        tokens: row.tokens,
        kind: row.kind,
        neighbours: Vec::new(),
    }
}

async fn rows_by_id(state: &Arc<IndexState>, ids: Vec<String>) -> Result<Vec<ChunkRow>, RagError> {
    let state = Arc::clone(state);
    tokio::task::spawn_blocking(move || state.text.rows_by_id(&ids)).await?
}

async fn add_neighbours(state: &Arc<IndexState>, hits: &mut [Hit], reach: u32) -> Result<(), RagError> {
    let round = |hit: &Hit| {
        let (document, at) = (hit.document_id.clone(), hit.ordinal);
        (at.saturating_sub(reach)..=at.saturating_add(reach))
            .filter(move |ordinal| *ordinal != at)
            .map(move |ordinal| ChunkRow::id(&document, ordinal))
    };
    let ids: HashSet<String> = hits.iter().flat_map(round).collect();
    let rows = rows_by_id(state, ids.into_iter().collect()).await?;
    let rows: HashMap<String, ChunkRow> = rows.into_iter().map(|row| (row.chunk_id.clone(), row)).collect();
    for hit in hits {
        hit.neighbours = round(hit)
            .filter_map(|id| rows.get(&id))
            .map(|row| Neighbour {
                ordinal: row.ordinal,
                text: row.text.clone(),
                pointer_first: row.pointer_first.clone(),
                pointer_last: row.pointer_last.clone(),
                byte_start: row.byte_start,
                byte_end: row.byte_end,
            })
            .collect();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(hits: &[(&str, f32)]) -> Leg {
        hits.iter().map(|(id, score)| ((*id).to_owned(), *score)).collect()
    }

    fn fused(request: &SearchRequest, text: &Leg, vector: &Leg) -> Vec<String> {
        let mut candidates: HashMap<String, Candidate> = HashMap::new();
        for (rank, (id, score)) in text.iter().enumerate() {
            candidates.entry(id.clone()).or_default().text = Some((rank + 1, *score));
        }
        for (rank, (id, score)) in vector.iter().enumerate() {
            candidates.entry(id.clone()).or_default().vector = Some((rank + 1, *score));
        }
        fuse(request, text, vector, &candidates).into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn what_both_legs_find_comes_before_what_one_finds_first() {
        let (text, vector) = (leg(&[("a", 9.0), ("both", 8.0)]), leg(&[("b", 0.9), ("both", 0.8)]));
        let request = SearchRequest::new("q");
        assert_eq!(fused(&request, &text, &vector), ["both", "a", "b"]);
    }

    #[test]
    fn weights_decide_between_the_legs() {
        let (text, vector) = (leg(&[("a", 9.0)]), leg(&[("b", 0.9)]));
        for fusion in [
            Fusion::Rrf { k: 60.0, text_weight: 0.5, vector_weight: 1.0 },
            Fusion::MinMax { text_weight: 0.5, vector_weight: 1.0 },
        ] {
            let request = SearchRequest { fusion, ..SearchRequest::new("q") };
            assert_eq!(fused(&request, &text, &vector), ["b", "a"]);
        }
    }

    #[test]
    fn requests_out_of_range_say_what_the_range_is() {
        let good = SearchRequest::new("q");
        for (request, words) in [
            (SearchRequest { query: "  ".into(), ..good.clone() }, "query is empty"),
            (SearchRequest { k: 0, ..good.clone() }, "1 to 100"),
            (SearchRequest { k: 101, ..good.clone() }, "1 to 100"),
            (SearchRequest { neighbours: 4, ..good.clone() }, "0 to 3"),
            (SearchRequest { diversity: Some(f32::NAN), ..good.clone() }, "0 to 1"),
            (
                SearchRequest {
                    fusion: Fusion::Rrf { k: -1.0, text_weight: 1.0, vector_weight: 1.0 },
                    ..good.clone()
                },
                "from 0",
            ),
        ] {
            let error = request.check().unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        good.check().unwrap();
    }

    #[test]
    fn diversity_puts_near_duplicates_back() {
        let row = |id: &str, text: &str| {
            let row = ChunkRow {
                chunk_id: id.into(),
                document_id: String::new(),
                owner: String::new(),
                ordinal: 0,
                text: text.into(),
                tokens: 0,
                pointer_first: String::new(),
                pointer_last: String::new(),
                byte_start: 0,
                byte_end: 0,
                kind: String::new(),
                metadata: String::new(),
            };
            (id.to_owned(), row)
        };
        let rows = HashMap::from([
            row("a", "wind at jfk was strong"),
            row("b", "wind at jfk was strong today"),
            row("c", "rain at ewr"),
        ]);
        let ranked = leg(&[("a", 1.0), ("b", 0.99), ("c", 0.8)]);
        let order = |diversity| -> Vec<String> {
            diversify(ranked.clone(), &rows, diversity, 3).into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(order(0.0), ["a", "b", "c"]);
        assert_eq!(order(0.5), ["a", "c", "b"]);
    }
}
