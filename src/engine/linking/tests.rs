//! The work in the background: what it embeds, what it keeps, what it says meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::rag::chunk::TokenCounter;
use crate::rag::embed::tests::model_options;
use crate::rag::{EmbedError, Embedder, EmbedderSource, Rag, RagOptions};
use crate::semantic::Catalog;
use crate::store::Store;

/// Embeds into the plane and counts; or fails.
struct Fake {
    embedded: AtomicUsize,
    works: bool,
}

impl Embedder for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn dim(&self) -> usize {
        2
    }

    fn counter(&self) -> Arc<TokenCounter> {
        let path =
            model_options("all-MiniLM-L6-v2-int8").models_dir.join("all-MiniLM-L6-v2-int8/tokenizer.json");
        Arc::new(TokenCounter::from_file(&path).unwrap())
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        if !self.works {
            return Err(EmbedError::Failed { reason: "out of order".into() });
        }
        self.embedded.fetch_add(texts.len(), Ordering::SeqCst);
        let row = |text: &&str| {
            let angle = text.len() as f32;
            vec![angle.cos(), angle.sin()]
        };
        Ok(texts.iter().map(row).collect())
    }
}

fn fake(works: bool) -> Arc<Fake> {
    Arc::new(Fake { embedded: AtomicUsize::new(0), works })
}

async fn rag(folder: &Path, embedder: &Arc<Fake>) -> Rag {
    let store = Store::open_sqlite(&folder.join("steward.sqlite")).await.unwrap();
    let options =
        RagOptions::new(folder.to_owned(), EmbedderSource::Ready(Arc::clone(embedder) as Arc<dyn Embedder>));
    Rag::open(options, Vec::new(), store).await.unwrap()
}

/// Two datasets, the fields of one of them visible to few.
fn linking() -> Arc<Linking> {
    let text = "name: m\ndatasets:\n  - name: open\n    source: a.b.c\n    fields:\n      - {name: plain}\n  - name: half\n    source: a.b.d\n    fields:\n      - {name: plain}\n      - {name: rare, sensitivity: highly_sensitive}\n";
    let catalog = Catalog::from_sources([("semantic/m/m.yaml".to_owned(), Ok(text.to_owned()))], Vec::new());
    assert!(!catalog.has_errors(), "{:#?}", catalog.diagnostics);
    let views = [Sensitivity::Public, Sensitivity::Protected, Sensitivity::HighlySensitive]
        .map(|clearance| catalog.visible_to(clearance));
    Arc::new(Linking::new([&views[0], &views[1], &views[2]]))
}

fn cache(folder: &Path) -> Arc<tokio::sync::Mutex<VectorCache>> {
    Arc::new(tokio::sync::Mutex::new(VectorCache::new(folder.join("linking"))))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_text_is_embedded_once_and_never_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let embedder = fake(true);
    let rag = rag(folder.path(), &embedder).await;
    // The query session is warmed up in the background, through the same fake; the count begins after that.
    embedder.embed_query("x").unwrap();
    let run = async || {
        let linking = linking();
        let before = embedder.embedded.load(Ordering::SeqCst);
        assert!(vectors::claim(&linking) && !vectors::claim(&linking));
        assert!(vectors::note(&linking).unwrap().contains("words alone"));
        vectors::make(Arc::downgrade(&linking), rag.embedding(), cache(folder.path())).await;
        assert_eq!(vectors::note(&linking), None);
        assert!(linking.distinct().iter().all(|view| view.linker().has_vectors()));
        embedder.embedded.load(Ordering::SeqCst) - before
    };
    let first = run().await;
    // `open`, `half` with `rare`, and `half` without; the warm-up may fall into the first run.
    assert!((3..=4).contains(&first), "{first}");
    assert_eq!(run().await, 0);
    rag.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_fails_leaves_words_ranking_and_is_not_hammered() {
    let folder = tempfile::tempdir().unwrap();
    let rag = rag(folder.path(), &fake(false)).await;
    let linking = linking();
    assert!(vectors::claim(&linking));
    vectors::make(Arc::downgrade(&linking), rag.embedding(), cache(folder.path())).await;
    let note = vectors::note(&linking).unwrap();
    assert!(note.contains("words alone") && !note.contains("out of order"), "{note}");
    assert!(!vectors::claim(&linking), "the next try waits");
    rag.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_embedded_for_a_catalog_that_is_gone_or_a_service_that_closes() {
    let folder = tempfile::tempdir().unwrap();
    let embedder = fake(true);
    let rag = rag(folder.path(), &embedder).await;
    let gone = Arc::downgrade(&linking());
    vectors::make(gone, rag.embedding(), cache(folder.path())).await;
    rag.close().await;
    let linking = linking();
    vectors::make(Arc::downgrade(&linking), rag.embedding(), cache(folder.path())).await;
    assert!(linking.distinct().iter().all(|view| !view.linker().has_vectors()));
    assert!(embedder.embedded.load(Ordering::SeqCst) <= 1, "but for the warm-up");
}

#[test]
fn clearances_that_see_the_same_share_a_linker() {
    assert_eq!(linking().distinct().len(), 3, "one model is reduced for two of them");
    let text = "name: m\ndatasets:\n  - {name: open, source: a.b.c, fields: [{name: plain}]}\n";
    let catalog = Catalog::from_sources([("semantic/m/m.yaml".to_owned(), Ok(text.to_owned()))], Vec::new());
    let models = catalog.visible_to(Sensitivity::Public);
    let all = catalog.visible_to(Sensitivity::HighlySensitive);
    assert_eq!(Linking::new([&models, &models, &all]).distinct().len(), 1);
}
