//! The embedder as a running service has it: loaded in the background, asked for its state, tried again on failure.

use std::sync::Arc;

use tokio::sync::watch;

use crate::rag::chunk::TokenCounter;
use crate::rag::embed::{EmbedError, Embedder, FastembedEmbedder, FastembedOptions};

/// Where the embedder comes from.
#[derive(Clone)]
pub enum EmbedderSource {
    /// fastembed, loaded in the background.
    Fastembed(FastembedOptions),
    /// Somebody else's.
    Ready(Arc<dyn Embedder>),
}

/// How far the embedder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbedderState {
    NotLoaded,
    Loading,
    Ready { model: String, dim: usize },
    Failed { reason: String },
}

/// An embedder that is loaded when it is first needed, and tried again after a failure.
pub(crate) struct EmbedderSlot {
    source: EmbedderSource,
    loaded: tokio::sync::Mutex<Option<Arc<dyn Embedder>>>,
    counter: tokio::sync::OnceCell<Arc<TokenCounter>>,
    state: watch::Sender<EmbedderState>,
}

impl EmbedderSlot {
    pub fn new(source: EmbedderSource) -> Self {
        Self {
            source,
            loaded: tokio::sync::Mutex::new(None),
            counter: tokio::sync::OnceCell::new(),
            state: watch::Sender::new(EmbedderState::NotLoaded),
        }
    }

    pub fn state(&self) -> EmbedderState {
        self.state.borrow().clone()
    }

    /// The name under which vectors are kept.
    pub fn model_name(&self) -> &str {
        match &self.source {
            EmbedderSource::Fastembed(options) => &options.model,
            EmbedderSource::Ready(embedder) => embedder.name(),
        }
    }

    /// Whether the token counter needs no more than a file.
    pub fn has_local_counter(&self) -> bool {
        matches!(&self.source, EmbedderSource::Fastembed(options) if options.local_folder().is_some())
    }

    /// The embedder; the first caller loads it, the others wait.
    pub async fn get(&self) -> Result<Arc<dyn Embedder>, EmbedError> {
        let mut loaded = self.loaded.lock().await;
        if let Some(embedder) = &*loaded {
            return Ok(Arc::clone(embedder));
        }
        self.state.send_replace(EmbedderState::Loading);
        let result = match &self.source {
            EmbedderSource::Ready(embedder) => Ok(Arc::clone(embedder)),
            EmbedderSource::Fastembed(options) => {
                let options = options.clone();
                tokio::task::spawn_blocking(move || FastembedEmbedder::load(options))
                    .await
                    .unwrap_or_else(|error| Err(EmbedError::Failed { reason: error.to_string() }))
                    .map(|embedder| Arc::new(embedder) as Arc<dyn Embedder>)
            }
        };
        self.state.send_replace(match &result {
            Ok(embedder) => EmbedderState::Ready { model: embedder.name().to_owned(), dim: embedder.dim() },
            Err(error) => EmbedderState::Failed { reason: error.to_string() },
        });
        let embedder = result?;
        *loaded = Some(Arc::clone(&embedder));
        Ok(embedder)
    }

    /// The token counter; of a local model its file is enough, so that text can be indexed before the model is up.
    pub async fn counter(&self) -> Result<Arc<TokenCounter>, EmbedError> {
        self.counter
            .get_or_try_init(|| async {
                if let EmbedderSource::Fastembed(options) = &self.source
                    && let Some(folder) = options.local_folder()
                {
                    let path = folder.join("tokenizer.json");
                    return tokio::task::spawn_blocking(move || TokenCounter::from_file(&path).map(Arc::new))
                        .await
                        .unwrap_or_else(|error| Err(EmbedError::Failed { reason: error.to_string() }));
                }
                Ok(self.get().await?.counter())
            })
            .await
            .cloned()
    }
}
