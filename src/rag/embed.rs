//! Embedding: texts to vectors, through fastembed and ONNX Runtime. Nothing else names either.
//!
//! Knows models, their files and the runtime library; must not know chunks, documents or tables.
//! E1 a prepared local model (`<models_dir>/<model>/`) needs no network; any model of fastembed's list works by its
//!    name where the hub can be reached.  E2 the runtime library is looked for and loaded under our eyes: a missing
//!    or wrong one is an error that says how to get it, never a panic.  E3 batches are bounded by tokens and hold
//!    texts of like length, so that memory is bounded and little is padded.  E4 queries have a session of their own:
//!    a search does not wait for a batch.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use fastembed::{
    EmbeddingModel, InitOptionsUserDefined, Pooling, TextEmbedding, TextInitOptions, TokenizerFiles,
    UserDefinedEmbeddingModel,
};
use ort::environment::Environment;

use crate::error::ErrorKind;
use crate::rag::chunk::TokenCounter;

/// Tokens of one call, padding included. Measured on one thread with the int8 model: 1,024 gave 6.5k tokens a second
/// in 0.49 GB at most, 2,048 gave 5.6k in 0.58 GB.
const BATCH_TOKENS: usize = 1024;

/// Longest input in tokens; chunks are at most 256 with the model's own two.
const MAX_LENGTH: usize = 512;

/// Turns texts into vectors.
///
/// `embed` returns `texts.len()` rows of `dim()` finite f32 each, in the order of the texts, L2 norm 1 ± 1e-5. The
/// same text gives the same row, up to the rounding of a dynamically quantised model, whose rows depend a little on
/// their batch (cosine ≥ 0.99). Empty in, empty out; an empty text has a row too. Text beyond the model's length is
/// not read. Blocks the thread: call it through `spawn_blocking`.
pub trait Embedder: Send + Sync {
    /// A stable name; vectors of different names are never compared.
    fn name(&self) -> &str;

    /// Length of every row.
    fn dim(&self) -> usize;

    /// Counts tokens as this model reads them.
    fn counter(&self) -> Arc<TokenCounter>;

    /// Embeds texts that are to be found.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError>;

    /// Embeds one text that looks for others; never waits for a running `embed`.
    fn embed_query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        let mut rows = self.embed(&[text])?;
        rows.pop().ok_or_else(|| EmbedError::Failed { reason: "the model returned no row".into() })
    }
}

/// Why there are no vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    #[error(
        "no ONNX Runtime library is named; run docker/model/prepare.sh, then set embedding.onnxruntime or ORT_DYLIB_PATH to libonnxruntime.so"
    )]
    RuntimeNotNamed,
    #[error(
        "cannot load ONNX Runtime from {path}: {reason}; run docker/model/prepare.sh to get one (1.24 or later)"
    )]
    Runtime { path: PathBuf, reason: String },
    #[error("cannot use the model file {path}: {reason}; run docker/model/prepare.sh to get it again")]
    Files { path: PathBuf, reason: String },
    #[error(
        "there is no embedding model '{model}': neither a folder below {models_dir}, nor a model that fastembed knows; run docker/model/prepare.sh for the default, or name one such as Xenova/bge-small-en-v1.5"
    )]
    UnknownModel { model: String, models_dir: PathBuf },
    #[error(
        "cannot fetch the model '{model}' from its hub: {reason}; allow the download, put its files into {folder}, or use the default model (docker/model/prepare.sh)"
    )]
    Hub { model: String, reason: String, folder: PathBuf },
    #[error("embedding failed: {reason}")]
    Failed { reason: String },
}

impl EmbedError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RuntimeNotNamed | Self::Runtime { .. } | Self::Files { .. } | Self::UnknownModel { .. } => {
                ErrorKind::NotConfigured
            }
            Self::Hub { .. } => ErrorKind::Unavailable,
            Self::Failed { .. } => ErrorKind::Internal,
        }
    }
}

/// Which model, from where, with how much of the machine.
#[derive(Debug, Clone)]
pub struct FastembedOptions {
    /// A folder below `models_dir`, or the name or model code of a fastembed model.
    pub model: String,
    pub models_dir: PathBuf,
    /// Path of libonnxruntime.so; absent: ORT_DYLIB_PATH.
    pub onnxruntime: Option<PathBuf>,
    /// Threads of one call; absent: one for each core.
    pub intra_threads: Option<usize>,
}

impl FastembedOptions {
    fn folder(&self) -> PathBuf {
        self.models_dir.join(&self.model)
    }

    /// Model names are single folder names here; a hub's `owner/name` is not looked for below `models_dir`.
    pub(crate) fn local_folder(&self) -> Option<PathBuf> {
        let is_name =
            !self.model.is_empty() && !self.model.contains(['/', '\\']) && !self.model.starts_with('.');
        is_name.then(|| self.folder()).filter(|folder| folder.is_dir())
    }
}

/// The embedder that runs fastembed models.
pub struct FastembedEmbedder {
    options: FastembedOptions,
    environment: Environment,
    counter: Arc<TokenCounter>,
    dim: usize,
    /// To the thread that owns the session for batches. One thread for all of them: the C allocator keeps what each
    /// thread freed to itself, and batches on a pool of threads pile up (measured: over 1 GB instead of 0.5 GB).
    batches: mpsc::Sender<Batch>,
    query: Mutex<Option<TextEmbedding>>,
}

/// Texts for the batch thread, and where the rows go.
struct Batch {
    texts: Vec<String>,
    rows: mpsc::SyncSender<Result<Vec<Vec<f32>>, EmbedError>>,
}

impl FastembedEmbedder {
    /// Loads runtime and model; takes half a second or, for a model that must be fetched, as long as that takes.
    pub fn load(options: FastembedOptions) -> Result<Self, EmbedError> {
        let environment = runtime(options.onnxruntime.as_deref())?;
        let mut bulk = load_session(&options, &environment)?;
        let counter = Arc::new(TokenCounter::new(bulk.tokenizer.clone()));
        let probe = bulk.embed(["dimension"], None).map_err(failed)?;
        let dim = probe.first().map_or(0, Vec::len);
        if dim == 0 {
            return Err(EmbedError::Failed {
                reason: format!("the model '{}' returns empty rows", options.model),
            });
        }
        let (batches, queue) = mpsc::channel::<Batch>();
        // The thread ends when the embedder is dropped, and with it the sender.
        std::thread::Builder::new()
            .name("embed".into())
            .spawn(move || {
                for batch in queue {
                    // A caller that went away wants no rows.
                    let _ = batch.rows.send(rows(&mut bulk, dim, &batch.texts));
                }
            })
            .map_err(|error| EmbedError::Failed { reason: format!("cannot start a thread: {error}") })?;
        Ok(Self { options, environment, counter, dim, batches, query: Mutex::new(None) })
    }
}

fn rows<S: AsRef<str> + Send + Sync>(
    session: &mut TextEmbedding,
    dim: usize,
    texts: &[S],
) -> Result<Vec<Vec<f32>>, EmbedError> {
    let rows = session.embed(texts, None).map_err(failed)?;
    if rows.len() != texts.len() {
        return Err(EmbedError::Failed { reason: format!("{} rows for {} texts", rows.len(), texts.len()) });
    }
    for row in &rows {
        if row.len() != dim || row.iter().any(|value| !value.is_finite()) {
            let reason = format!("a row of {} numbers, some perhaps not finite", row.len());
            return Err(EmbedError::Failed { reason });
        }
    }
    Ok(rows)
}

impl Embedder for FastembedEmbedder {
    fn name(&self) -> &str {
        &self.options.model
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn counter(&self) -> Arc<TokenCounter> {
        Arc::clone(&self.counter)
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let lengths: Vec<usize> =
            texts.iter().map(|text| (self.counter.count(text) + 2).min(MAX_LENGTH)).collect();
        let mut rows: Vec<Vec<f32>> = vec![Vec::new(); texts.len()];
        for batch in batches(&lengths) {
            let batch_texts = batch.iter().map(|position| texts[*position].to_owned()).collect();
            let (rows_to, rows_from) = mpsc::sync_channel(1);
            let died =
                || EmbedError::Failed { reason: "the embedding thread died; restart the service".into() };
            self.batches.send(Batch { texts: batch_texts, rows: rows_to }).map_err(|_| died())?;
            let embedded = rows_from.recv().map_err(|_| died())??;
            for (position, row) in batch.into_iter().zip(embedded) {
                rows[position] = row;
            }
        }
        Ok(rows)
    }

    fn embed_query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        let mut session = lock(&self.query);
        let session = match &mut *session {
            Some(session) => session,
            empty => empty.insert(load_session(&self.options, &self.environment)?),
        };
        let mut rows = rows(session, self.dim, &[text])?;
        rows.pop().ok_or_else(|| EmbedError::Failed { reason: "the model returned no row".into() })
    }
}

/// Positions of texts in batches of like length, longest first, each at most [`BATCH_TOKENS`] with its padding.
fn batches(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|position| std::cmp::Reverse(lengths[*position]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for position in order {
        match batches.last_mut() {
            Some(batch) if longest * (batch.len() + 1) <= BATCH_TOKENS => batch.push(position),
            _ => {
                longest = lengths[position];
                batches.push(vec![position]);
            }
        }
    }
    batches
}

/// A panic while the lock was held leaves nothing half done that a later call could trip over.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: fastembed::Error) -> EmbedError {
    EmbedError::Failed { reason: error.to_string() }
}

/// The process's one ONNX Runtime environment; kept for good, since there can be only one.
static RUNTIME: Mutex<Option<Environment>> = Mutex::new(None);

fn runtime(path: Option<&Path>) -> Result<Environment, EmbedError> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => match std::env::var_os("ORT_DYLIB_PATH") {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ => return Err(EmbedError::RuntimeNotNamed),
        },
    };
    let refused = |reason: String| EmbedError::Runtime { path: path.clone(), reason };
    // A relative path would be looked for beside the executable.
    let absolute = path.canonicalize().map_err(|error| refused(error.to_string()))?;
    let mut environment = lock(&RUNTIME);
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let builder = ort::init_from(&absolute).map_err(|error| refused(error.to_string()))?;
    let built = builder
        .with_name("steward")
        .with_telemetry(false)
        .build()
        .map_err(|error| refused(error.to_string()))?;
    Ok(environment.insert(built).clone())
}

fn load_session(options: &FastembedOptions, environment: &Environment) -> Result<TextEmbedding, EmbedError> {
    // No arena: an idle process gives the memory of its largest batch back.
    let providers = vec![ort::ep::CPU::default().with_arena_allocator(false).build()];
    if let Some(folder) = options.local_folder() {
        let mut session = InitOptionsUserDefined::new()
            .with_environment(environment.clone())
            .with_execution_providers(providers)
            .with_max_length(MAX_LENGTH)
            .with_session_config("session.intra_op.allow_spinning", "0");
        session.intra_threads = options.intra_threads;
        let model = UserDefinedEmbeddingModel::new(
            model_file(&folder, "model.onnx")?,
            TokenizerFiles {
                tokenizer_file: model_file(&folder, "tokenizer.json")?,
                config_file: model_file(&folder, "config.json")?,
                special_tokens_map_file: model_file(&folder, "special_tokens_map.json")?,
                tokenizer_config_file: model_file(&folder, "tokenizer_config.json")?,
            },
        )
        .with_pooling(pooling_of(&folder));
        return TextEmbedding::try_new_from_user_defined(model, session)
            .map_err(|error| EmbedError::Files { path: folder, reason: error.to_string() });
    }
    let unknown =
        || EmbedError::UnknownModel { model: options.model.clone(), models_dir: options.models_dir.clone() };
    let model = hub_model(&options.model).ok_or_else(unknown)?;
    let mut session = TextInitOptions::new(model)
        .with_environment(environment.clone())
        .with_execution_providers(providers)
        .with_cache_dir(options.models_dir.join("hub"))
        .with_show_download_progress(false)
        .with_session_config("session.intra_op.allow_spinning", "0");
    session.intra_threads = options.intra_threads;
    TextEmbedding::try_new(session).map_err(|error| EmbedError::Hub {
        model: options.model.clone(),
        reason: reasons(&error),
        folder: options.models_dir.join("hub"),
    })
}

/// A model of fastembed's list, by its name there (`BGESmallENV15`) or its model code (`Xenova/bge-small-en-v1.5`).
fn hub_model(name: &str) -> Option<EmbeddingModel> {
    name.parse().ok().or_else(|| {
        TextEmbedding::list_supported_models()
            .into_iter()
            .find(|info| info.model_code.eq_ignore_ascii_case(name))
            .map(|info| info.model)
    })
}

fn model_file(folder: &Path, name: &str) -> Result<Vec<u8>, EmbedError> {
    let path = folder.join(name);
    std::fs::read(&path).map_err(|error| EmbedError::Files { path, reason: error.to_string() })
}

/// Mean pooling, unless the model's own sentence-transformers file asks for the first token.
fn pooling_of(folder: &Path) -> Pooling {
    let config = std::fs::read(folder.join("1_Pooling/config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    if config["pooling_mode_cls_token"] == true { Pooling::Cls } else { Pooling::Mean }
}

fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The prepared model; test.sh says where it is.
    pub(crate) fn model_options(model: &str) -> FastembedOptions {
        let models_dir = std::env::var_os("STEWARD_MODELS_DIR").expect(
            "STEWARD_MODELS_DIR is not set: run the tests through test.sh, or run docker/model/prepare.sh",
        );
        assert!(
            std::env::var_os("ORT_DYLIB_PATH").is_some(),
            "ORT_DYLIB_PATH is not set: run the tests through test.sh, or run docker/model/prepare.sh"
        );
        FastembedOptions {
            model: model.into(),
            models_dir: models_dir.into(),
            onnxruntime: None,
            intra_threads: Some(1),
        }
    }

    fn cosine(left: &[f32], right: &[f32]) -> f32 {
        left.iter().zip(right).map(|(left, right)| left * right).sum()
    }

    /// What [`Embedder`] promises; every implementation runs it.
    fn check_contract(embedder: &dyn Embedder, least_cosine: f32) {
        let long = "the wind delayed the departure. ".repeat(200);
        let texts = ["wind and rain at JFK", "", "émigré 中文 🙂", &long, "wind and rain at JFK"];
        let rows = embedder.embed(&texts).unwrap();
        assert_eq!(rows.len(), texts.len());
        for row in &rows {
            assert_eq!(row.len(), embedder.dim());
            let norm = cosine(row, row).sqrt();
            assert!((norm - 1.0).abs() < 1e-5, "{norm}");
        }
        assert!(cosine(&rows[0], &rows[4]) >= least_cosine);
        assert!(cosine(&rows[0], &embedder.embed_query(texts[0]).unwrap()) >= least_cosine);
        assert_eq!(embedder.embed(&[]).unwrap(), Vec::<Vec<f32>>::new());
        let near =
            embedder.embed(&["strong gusts held up the plane", "storms delay flights", "a recipe for soup"]);
        let near = near.unwrap();
        assert!(cosine(&near[0], &near[1]) > cosine(&near[0], &near[2]));
    }

    #[test]
    fn the_fp32_model_keeps_the_contract_exactly() {
        check_contract(&FastembedEmbedder::load(model_options("all-MiniLM-L6-v2-fp32")).unwrap(), 0.9999);
    }

    #[test]
    fn the_int8_model_keeps_the_contract_within_its_rounding() {
        check_contract(&FastembedEmbedder::load(model_options("all-MiniLM-L6-v2-int8")).unwrap(), 0.98);
    }

    #[test]
    fn the_counter_agrees_with_the_models_own_tokenizer() {
        let path = model_options("x").models_dir.join("all-MiniLM-L6-v2-int8/tokenizer.json");
        let counter = TokenCounter::from_file(&path).unwrap();
        for text in [
            "Did wind or rain delay departures from JFK more?",
            "temp: 39.02\ndewp: 26.06\ntime_hour: 2013-01-01T06:00:00Z",
            "unaffable antidisestablishmentarianism 5eb87cd9ffd86e000604b32a",
            "[CLS] and [SEP], [mask]; <s> [UNK][PAD]",
            "café naïve 東京 ½ \u{200b}x\u{7f}y\u{b}z",
            "",
        ] {
            assert_eq!(counter.count(text), counter.count_with_tokenizer(text), "{text}");
        }
    }

    #[test]
    fn missing_and_broken_parts_are_errors_that_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let options = |model: &str, library: Option<PathBuf>| FastembedOptions {
            onnxruntime: library,
            models_dir: folder.path().to_owned(),
            ..model_options(model)
        };
        let load = |options| FastembedEmbedder::load(options).err().expect("this cannot load");
        let error = load(options("all-MiniLM-L6-v2-int8", Some(folder.path().join("absent.so"))));
        assert!(matches!(&error, EmbedError::Runtime { .. }), "{error}");
        assert!(error.to_string().contains("prepare.sh"), "{error}");
        let error = load(options("no-such-model", None));
        assert!(matches!(&error, EmbedError::UnknownModel { .. }), "{error}");
        std::fs::create_dir(folder.path().join("half")).unwrap();
        let error = load(options("half", None));
        assert!(error.to_string().contains("model.onnx"), "{error}");
        for name in [
            "model.onnx",
            "tokenizer.json",
            "config.json",
            "special_tokens_map.json",
            "tokenizer_config.json",
        ] {
            std::fs::write(folder.path().join("half").join(name), "{}").unwrap();
        }
        let error = load(options("half", None));
        assert!(matches!(&error, EmbedError::Files { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
    }

    #[test]
    fn hub_models_are_known_by_name_and_by_code() {
        assert_eq!(hub_model("bgesmallenv15"), Some(EmbeddingModel::BGESmallENV15));
        assert_eq!(hub_model("xenova/bge-small-en-v1.5"), Some(EmbeddingModel::BGESmallENV15));
        assert_eq!(hub_model("no/such"), None);
    }

    #[test]
    fn batches_hold_every_text_once_and_keep_to_the_token_limit() {
        let lengths: Vec<usize> = (0..500).map(|at| 2 + (at * 37) % 511).collect();
        let batches = batches(&lengths);
        let mut seen: Vec<usize> = batches.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        for batch in batches {
            let longest = batch.iter().map(|position| lengths[*position]).max().unwrap();
            assert!(longest * batch.len() <= BATCH_TOKENS);
        }
    }
}
