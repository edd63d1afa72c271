//! Linking questions to the semantic layer: a linker for each view of the catalog, and the operation.
//!
//! L1 a linker is made from one view, what one clearance may see, and lives as long as its catalog.  L2 no question
//! waits for vectors: words rank until every text of the catalog has one, and the answer says so.

mod cache;
mod vectors;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::task::JoinSet;

use super::{Context, Done, Engine, EngineError};
use crate::auth::Operation;
use crate::semantic::{Link, LinkRequest, Linker, Model, Sensitivity, estimate_tokens};
use cache::VectorCache;
use vectors::Progress;

/// Longer questions are not questions.
const MAX_QUESTION_CHARS: usize = 8_000;

/// Linked context and the external operations that may help.
#[derive(Debug, Clone)]
pub struct LinkAnswer {
    pub link: Link,
    /// Why meaning took no part in the ranking, if it didn't.
    pub note: Option<String>,
    /// The model whose tokenizer counted; `None`: tokens are estimated, a token for every three characters.
    pub counted_by: Option<String>,
    /// `(api.operation, summary, score)`, best first.
    pub actions: Vec<(String, String, f64)>,
    /// Tables of API responses that the caller may query.
    pub responses: Vec<String>,
}

/// The linkers of one catalog; clearances share one where nothing is hidden from any of them.
#[derive(Debug)]
pub(super) struct Linking {
    views: [Arc<ViewLinker>; 3],
    progress: Mutex<Progress>,
}

/// The linker of one view, prepared when it is first needed.
#[derive(Debug)]
struct ViewLinker {
    models: Vec<Arc<Model>>,
    linker: OnceLock<Linker>,
}

impl ViewLinker {
    /// Prepares the linker at the first call: seconds for tens of thousands of datasets.
    fn linker(&self) -> &Linker {
        self.linker.get_or_init(|| Linker::new(self.models.clone()))
    }
}

impl Linking {
    /// For the models of each view, by rising clearance.
    pub(super) fn new(views: [&[Arc<Model>]; 3]) -> Self {
        let mut cells: Vec<Arc<ViewLinker>> = Vec::new();
        let views = views.map(|models| {
            let is_same = |cell: &&Arc<ViewLinker>| {
                cell.models.len() == models.len()
                    && cell.models.iter().zip(models).all(|(one, other)| Arc::ptr_eq(one, other))
            };
            if let Some(cell) = cells.iter().find(is_same) {
                return Arc::clone(cell);
            }
            let cell = Arc::new(ViewLinker { models: models.to_vec(), linker: OnceLock::new() });
            cells.push(Arc::clone(&cell));
            cell
        });
        Self { views, progress: Mutex::default() }
    }

    fn view(&self, clearance: Sensitivity) -> &Arc<ViewLinker> {
        &self.views[clearance as usize]
    }

    /// Every linker once.
    fn distinct(&self) -> Vec<Arc<ViewLinker>> {
        let mut distinct: Vec<Arc<ViewLinker>> = Vec::new();
        for view in &self.views {
            if !distinct.iter().any(|known| Arc::ptr_eq(known, view)) {
                distinct.push(Arc::clone(view));
            }
        }
        distinct
    }
}

/// What outlives one catalog: vectors on disk, and the work that makes them.
pub(super) struct LinkVectors {
    cache: Arc<tokio::sync::Mutex<VectorCache>>,
    jobs: Mutex<JoinSet<()>>,
}

impl LinkVectors {
    pub(super) fn new(data_dir: &std::path::Path) -> Self {
        let cache = VectorCache::new(data_dir.join("linking"));
        Self { cache: Arc::new(tokio::sync::Mutex::new(cache)), jobs: Mutex::default() }
    }

    /// Waits for work under way, which ends soon after retrieval began to close.
    pub(super) async fn close(&self) {
        let mut jobs = std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner));
        while jobs.join_next().await.is_some() {}
    }
}

impl Engine {
    /// The context that an agent needs to write SQL for `question`, in at most `budget_tokens` tokens.
    pub async fn link(
        &self,
        context: &Context,
        question: &str,
        budget_tokens: usize,
    ) -> Result<LinkAnswer, EngineError> {
        self.perform(context, Operation::Link, None, async {
            if question.trim().is_empty() {
                return Err(EngineError::InvalidInput(
                    "the question is empty; write what you want to know".to_owned(),
                ));
            }
            if question.len() > MAX_QUESTION_CHARS && question.chars().count() > MAX_QUESTION_CHARS {
                return Err(EngineError::InvalidInput(format!(
                    "the question is longer than {MAX_QUESTION_CHARS} characters; ask for one thing at a time"
                )));
            }
            if !(100..=100_000).contains(&budget_tokens) {
                let message = format!("budget_tokens is {budget_tokens}; use 100 to 100,000");
                return Err(EngineError::InvalidInput(message));
            }
            let (link, note, counted_by) = self.linked(context, question, budget_tokens).await?;
            let may_list = Operation::ListActions.authorize(&context.principal, None).is_ok();
            let actions = if may_list { self.suggest_actions(question) } else { Vec::new() };
            let responses =
                self.response_tables(context, None).await?.into_iter().map(|table| table.name).collect();
            let rows = link.items.len();
            Ok(Done::new(LinkAnswer { link, note, counted_by, actions, responses }).rows(rows))
        })
        .await
    }

    async fn linked(
        &self,
        context: &Context,
        question: &str,
        budget_tokens: usize,
    ) -> Result<(Link, Option<String>, Option<String>), EngineError> {
        self.want_link_vectors();
        let served = self.served.load_full();
        let (mut embedder, mut counter, mut counted_by) = (None, None, None);
        let mut note = Some("words alone rank: there is no embedding model here".to_owned());
        if let Some(rag) = &self.rag {
            let embedding = rag.embedding();
            counter = embedding.counter_at_hand().await;
            counted_by = counter.is_some().then(|| embedding.model_name().to_owned());
            note = vectors::note(&served.linking);
            if note.is_none() {
                // The vectors are of this model, so it is loaded, and this does not wait.
                embedder = embedding.embedder().await.ok();
            }
        }
        let view = Arc::clone(served.linking.view(context.principal.sensitivity()));
        let asked = question.to_owned();
        let link = tokio::task::spawn_blocking(move || {
            let vector = embedder.and_then(|embedder| {
                let vector = embedder.embed_query(&asked);
                vector.inspect_err(|error| tracing::warn!(%error, "a question has no vector")).ok()
            });
            let count: &dyn Fn(&str) -> usize = match &counter {
                Some(counter) => &|text: &str| counter.count(text),
                None => &estimate_tokens,
            };
            let vector = vector.as_deref();
            view.linker().link(&LinkRequest { question: &asked, vector, budget_tokens, count })
        })
        .await?;
        if !link.by_meaning && note.is_none() {
            note = Some("words alone rank: the question could not be embedded".to_owned());
        }
        Ok((link, note, counted_by))
    }

    /// Has vectors made for the catalog that is served, unless they are there or on their way.
    pub(super) fn want_link_vectors(&self) {
        let Some(rag) = &self.rag else { return };
        let served = self.served.load();
        let linking = &served.linking;
        if vectors::claim(linking) {
            let mut jobs = self.link_vectors.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            while jobs.try_join_next().is_some() {}
            let cache = Arc::clone(&self.link_vectors.cache);
            jobs.spawn(vectors::make(Arc::downgrade(linking), rag.embedding(), cache));
        }
    }
}

#[cfg(test)]
mod tests;
