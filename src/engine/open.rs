//! Opening the engine from a configuration.

use std::sync::Arc;

use arc_swap::ArcSwap;
use secrecy::SecretString;

use super::reload::{self, Watch};
use super::warehouses::Warehouses;
use super::{Engine, Served};
use crate::actions::{ActionCatalog, Caller};
use crate::audit::Audit;
use crate::auth::{
    Auth, AuthConfig, Clock, KeyError, KeyFolder, KeySource, PasswordGrantConfig, RefreshLifetimes,
};
use crate::config::Config;
use crate::llm::Llm;
use crate::query::QueryEngine;
use crate::rag::{EmbedderSource, FastembedOptions, Rag, RagOptions, load_index_files};
use crate::semantic::Catalog;
use crate::store::Store;
use crate::warehouse::Warehouse;

/// Which parts to open. A command line tool beside a running service leaves out what only one process may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Everything: the service.
    All,
    /// Metadata, actions and SQL, without token endpoint and retrieval.
    QueryOnly,
}

/// Anything that keeps the engine from opening, as one sentence with a remedy.
pub type OpenError = Box<dyn std::error::Error + Send + Sync>;

impl Engine {
    /// Opens what `parts` asks for, creating the data folder where it is missing.
    pub async fn open(config: Config, parts: Parts) -> Result<Self, OpenError> {
        Self::open_with(config, parts, Vec::new()).await
    }

    /// The same with warehouses of the program's own, by name, beside those of the configuration. A name that the
    /// configuration has too is an error.
    pub async fn open_with(
        config: Config,
        parts: Parts,
        own: Vec<(String, Arc<dyn Warehouse>)>,
    ) -> Result<Self, OpenError> {
        if parts == Parts::All {
            config.check_environment()?;
        }
        crate::store::create_private_folder(&config.data_dir)?;
        let store = Store::open(&config.database_url, &config.data_dir).await?;
        let query = QueryEngine::new(config.sql.clone(), &config.data_dir.join("spill"))?;
        let warehouses = Warehouses::open(&config, &query, own)?;
        let folder = config.semantic.dir.clone();
        let (served, stamp) = tokio::task::spawn_blocking(move || {
            // Taken before the files are read, so that a change in between is seen later.
            let stamp = reload::stamp(&folder);
            (Served::new(Catalog::load(&folder)), stamp)
        })
        .await?;
        reload::log_errors(&served.catalog);
        let served = Arc::new(ArcSwap::from_pointee(served));
        let (actions, action_diagnostics) = if config.actions.dir.is_dir() {
            ActionCatalog::load(&config.actions.dir).await
        } else {
            Default::default()
        };
        for diagnostic in &action_diagnostics {
            tracing::warn!("{diagnostic}");
        }
        let llm = config.llm.clone().map(Llm::new).transpose()?;
        if let Some(warning) = llm.as_ref().and_then(Llm::warning) {
            tracing::warn!("{warning}");
        }
        let index_files = load_index_files(&config.indexes.dir)?;
        let (auth, rag) = match parts {
            Parts::QueryOnly => (None, None),
            Parts::All => {
                let auth = Auth::open(auth_config(&config)?, store.clone(), Clock::system()).await?;
                let mut options =
                    RagOptions::new(config.data_dir.clone(), EmbedderSource::Fastembed(embedding(&config)));
                options.max_body_bytes = config.uploads.max_body_bytes;
                let rag = Rag::open(options, index_files.clone(), store.clone()).await?;
                (Some(auth), Some(rag))
            }
        };
        let engine = Self {
            responses_dir: config.data_dir.join("responses"),
            response_files: Default::default(),
            response_providers: Default::default(),
            audit: Audit::start(store.clone()),
            watch: config.semantic.watch.then(|| Watch::start(&config.semantic, served.clone(), stamp)),
            served,
            link_vectors: super::linking::LinkVectors::new(&config.data_dir),
            caller: Caller::default(),
            config,
            store,
            auth,
            actions,
            action_diagnostics,
            rag,
            index_files,
            query,
            llm,
            warehouses,
        };
        if parts == Parts::All {
            engine.sweep_response_tables().await?;
            engine.want_link_vectors();
        }
        Ok(engine)
    }
}

fn auth_config(config: &Config) -> Result<AuthConfig, OpenError> {
    let blank = |text: &String| text.trim().is_empty();
    Ok(AuthConfig {
        issuer: config.public_url().parse()?,
        audience: Some(config.auth.audience.clone()).filter(|text| !blank(text)),
        resources: config.auth.resources.clone(),
        token_lifetime_s: config.auth.token_expiry_seconds.into(),
        refresh: RefreshLifetimes {
            idle_s: config.auth.refresh_idle_seconds.into(),
            longest_s: config.auth.refresh_lifetime_seconds.into(),
        },
        keys: key_source(config)?,
        password_grant: config.auth.password_grant.then(|| PasswordGrantConfig {
            client_id: Some(config.auth.password_client.trim().to_owned()).filter(|text| !text.is_empty()),
        }),
    })
}

/// Where the signing keys come from: `JWT_PRIVATE_KEY` (and `JWT_PUBLIC_KEY`), or the folder of keys.
pub fn key_source(config: &Config) -> Result<KeySource, KeyError> {
    let variable = |name| std::env::var(name).ok();
    let folder = KeyFolder::new(config.keys_dir(), config.auth.signing_algorithm);
    KeySource::choose(variable("JWT_PRIVATE_KEY").map(SecretString::from), variable("JWT_PUBLIC_KEY"), folder)
}

fn embedding(config: &Config) -> FastembedOptions {
    let path = &config.embedding.onnxruntime;
    FastembedOptions {
        model: config.embedding.model.clone(),
        models_dir: config.models_dir(),
        onnxruntime: (!path.as_os_str().is_empty()).then(|| path.clone()),
        intra_threads: Some(config.embedding.threads.max(1)),
    }
}
