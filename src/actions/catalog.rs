//! All action files of a folder with their documents: what can be called.
//!
//! L1 one broken file takes no other down. L2 a loaded catalog never changes; a reload makes another.
//! L3 an API is served if its file and document hold; missing secrets are warnings, and calls say what is missing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::ActionDiagnostic;
use super::error::ActionError;
use super::name::{ApiName, OperationName, closest};
use super::net::{Clients, Lookup, system_lookup};
use super::search::WordIndex;
use super::security::secret::{Environment, process_environment};
use super::spec::Operation;

mod api;
mod load;

pub use api::Api;

use load::{Loader, about_file, action_files};

/// Where a catalog gets its environment and names from; the defaults are the process's and the system's.
pub struct LoadOptions {
    pub environment: Environment,
    pub lookup: Lookup,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { environment: process_environment(), lookup: system_lookup() }
    }
}

/// An operation that a search found.
#[derive(Debug, Clone)]
pub struct FoundOperation {
    pub api: Arc<Api>,
    pub operation: OperationName,
    /// Comparable within one search.
    pub score: f64,
}

/// Every API of a folder.
#[derive(Debug, Default)]
pub struct ActionCatalog {
    apis: BTreeMap<ApiName, Arc<Api>>,
    index: WordIndex,
    indexed: Vec<(ApiName, OperationName)>,
}

impl ActionCatalog {
    /// Loads all `*.yaml` and `*.yml` of a folder, but for OpenAPI documents (`*.openapi.yaml`).
    pub async fn load(folder: &Path) -> (Self, Vec<ActionDiagnostic>) {
        Self::load_with(folder, LoadOptions::default()).await
    }

    /// `load`, with an environment and a resolver of the caller's.
    pub async fn load_with(folder: &Path, options: LoadOptions) -> (Self, Vec<ActionDiagnostic>) {
        let mut diagnostics = Vec::new();
        let paths = match action_files(folder).await {
            Ok(paths) => paths,
            Err(error) => {
                let message = format!("cannot read the folder: {error}");
                diagnostics.push(about_file(
                    folder,
                    "actions/folder",
                    message,
                    "check `actions` in the configuration",
                ));
                Vec::new()
            }
        };
        let loader = Loader { clients: Clients::new(options.lookup), environment: options.environment };
        let mut apis: BTreeMap<ApiName, Arc<Api>> = BTreeMap::new();
        for path in paths {
            let (api, mut found) = loader.load_file(&path).await;
            diagnostics.append(&mut found);
            let Some(api) = api else { continue };
            if let Some(other) = apis.get(api.name()) {
                let message = format!("the name `{}` is taken by {}", api.name(), other.path());
                diagnostics.push(about_file(&path, "actions/duplicate-name", message, "rename one of them"));
                continue;
            }
            apis.insert(api.name().clone(), Arc::new(api));
        }
        let mut catalog = Self { apis, ..Self::default() };
        catalog.build_index();
        (catalog, diagnostics)
    }

    fn build_index(&mut self) {
        for api in self.apis.values() {
            for (name, head) in api.operations() {
                self.index.add(&[
                    (name.as_str(), 4.0),
                    (head.summary.as_deref().unwrap_or_default(), 3.0),
                    (api.name().as_str(), 2.0),
                    (api.description(), 1.0),
                    (&head.path, 2.0),
                    (&head.tags.join(" "), 2.0),
                    (head.description.as_deref().unwrap_or_default(), 1.0),
                ]);
                self.indexed.push((api.name().clone(), name.clone()));
            }
        }
    }

    /// All APIs by name.
    pub fn apis(&self) -> impl Iterator<Item = &Arc<Api>> {
        self.apis.values()
    }

    /// One API; the error suggests a near name.
    pub fn api(&self, name: &str) -> Result<&Arc<Api>, ActionError> {
        let found = name.parse::<ApiName>().ok().and_then(|name| self.apis.get(&name));
        found.ok_or_else(|| ActionError::UnknownApi {
            name: name.to_owned(),
            suggestion: closest(name, self.apis.keys().map(ApiName::as_str)).map(str::to_owned),
        })
    }

    /// One published operation of an API, whole.
    pub fn operation(&self, api: &str, operation: &str) -> Result<(&Arc<Api>, Arc<Operation>), ActionError> {
        let api = self.api(api)?;
        Ok((api, api.operation(operation)?))
    }

    /// Operations that fit the words, best first; ties by API and document order.
    pub fn find(&self, query: &str) -> Vec<FoundOperation> {
        self.index
            .find(query)
            .into_iter()
            .filter_map(|(entry, score)| {
                let (api, operation) = self.indexed.get(entry)?;
                Some(FoundOperation { api: self.apis.get(api)?.clone(), operation: operation.clone(), score })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
