//! The embedding model by itself, for texts that are no documents, such as descriptions of datasets.

use std::sync::Arc;

use crate::rag::chunk::TokenCounter;
use crate::rag::embed::{EmbedError, Embedder};
use crate::rag::embed_slot::EmbedderState;
use crate::rag::{Inner, Rag};

/// A handle to the model of an open [`Rag`]; cheap to clone.
#[derive(Clone)]
pub struct Embedding {
    inner: Arc<Inner>,
}

impl Rag {
    pub fn embedding(&self) -> Embedding {
        Embedding { inner: Arc::clone(&self.inner) }
    }
}

impl Embedding {
    /// The name under which vectors are kept.
    pub fn model_name(&self) -> &str {
        self.inner.embedder.model_name()
    }

    /// The model; loads it, or waits for whoever does.
    pub async fn embedder(&self) -> Result<Arc<dyn Embedder>, EmbedError> {
        self.inner.embedder.get().await
    }

    /// The model's token counter, if that can be had without waiting for a model.
    pub async fn counter_at_hand(&self) -> Option<Arc<TokenCounter>> {
        let is_at_hand = self.inner.embedder.has_local_counter()
            || matches!(self.inner.embedder.state(), EmbedderState::Ready { .. });
        if !is_at_hand {
            return None;
        }
        self.inner.embedder.counter().await.ok()
    }

    pub fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    /// Returns when retrieval begins to close.
    pub async fn closing(&self) {
        let mut closing = self.inner.closing.subscribe();
        // The sender lives in `inner`; should it be gone, retrieval is closed as well.
        let _ = closing.wait_for(|closing| *closing).await;
    }
}
