//! One loaded API: its published operations, and where and under what bounds they are called.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use url::Url;

use super::super::error::ActionError;
use super::super::file::{ActionFile, Limits, ResponsePolicy};
use super::super::name::{ApiName, OperationName, closest};
use super::super::security::secret::Environment;
use super::super::spec::{ApiSpec, Operation, OperationHead, ResponseDoc, SpecError};

/// One external API, ready to be called.
pub struct Api {
    pub(super) file: ActionFile,
    pub(super) path: String,
    pub(super) spec: ApiSpec,
    /// Where the document came from, for relative servers.
    pub(super) source: Option<Url>,
    pub(super) base_override: Option<Url>,
    /// Published name → name in the document.
    pub(super) published: IndexMap<OperationName, OperationName>,
    /// Document name → published name.
    pub(super) reverse: BTreeMap<OperationName, OperationName>,
    pub(super) environment: Environment,
    pub(super) fingerprint: u64,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("name", &self.file.name)
            .field("operations", &self.published.len())
            .finish()
    }
}

impl Api {
    /// How agents and scopes name it.
    pub fn name(&self) -> &ApiName {
        &self.file.name
    }

    /// The action file's description, or else the document's.
    pub fn description(&self) -> &str {
        let own = self.file.description.as_str();
        if own.is_empty() { self.spec.description().or(self.spec.title()).unwrap_or_default() } else { own }
    }

    /// The document's title.
    pub fn title(&self) -> Option<&str> {
        self.spec.title()
    }

    /// The version of the API that the document states.
    pub fn version(&self) -> Option<&str> {
        self.spec.version()
    }

    /// Path of the action file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Bounds of its calls.
    pub fn limits(&self) -> &Limits {
        &self.file.limits
    }

    /// What becomes of its answers.
    pub fn response_policy(&self) -> &ResponsePolicy {
        &self.file.response
    }

    /// Changes whenever the action file does.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(in crate::actions) fn file(&self) -> &ActionFile {
        &self.file
    }

    #[cfg(test)]
    pub(in crate::actions) fn limits_mut(&mut self) -> &mut Limits {
        &mut self.file.limits
    }

    pub(in crate::actions) fn spec(&self) -> &ApiSpec {
        &self.spec
    }

    pub(in crate::actions) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Published operations with their names, in the document's order.
    pub fn operations(&self) -> impl Iterator<Item = (&OperationName, &OperationHead)> {
        self.published.iter().filter_map(|(name, inner)| Some((name, self.spec.head(inner)?)))
    }

    /// The head of a published operation.
    pub fn head(&self, operation: &str) -> Result<&OperationHead, ActionError> {
        let inner = self.inner(operation)?;
        self.spec.head(inner).ok_or_else(|| ActionError::Internal("a published operation is gone".to_owned()))
    }

    fn inner(&self, operation: &str) -> Result<&OperationName, ActionError> {
        let found = operation.parse::<OperationName>().ok().and_then(|name| self.published.get(&name));
        found.ok_or_else(|| ActionError::UnknownOperation {
            api: self.name().to_string(),
            name: operation.to_owned(),
            suggestion: closest(operation, self.published.keys().map(OperationName::as_str))
                .map(str::to_owned),
        })
    }

    fn spec_error(&self, operation: &str, source: SpecError) -> ActionError {
        ActionError::Spec { api: self.name().to_string(), operation: operation.to_owned(), source }
    }

    /// A published operation, whole. Builds its schemas at first use, which may take milliseconds: see `prepare`.
    pub fn operation(&self, operation: &str) -> Result<Arc<Operation>, ActionError> {
        let inner = self.inner(operation)?;
        match self.spec.operation(inner) {
            Some(built) => built.map_err(|error| self.spec_error(operation, error)),
            None => Err(ActionError::Internal("a published operation is gone".to_owned())),
        }
    }

    /// `operation`, off the async runtime where it is not built yet.
    pub async fn prepare(self: &Arc<Self>, operation: &str) -> Result<Arc<Operation>, ActionError> {
        if self.spec.is_built(self.inner(operation)?) {
            return self.operation(operation);
        }
        let (api, operation) = (self.clone(), operation.to_owned());
        tokio::task::spawn_blocking(move || api.operation(&operation))
            .await
            .map_err(|error| ActionError::Internal(format!("building an operation failed: {error}")))?
    }

    /// What a successful answer looks like, by the document; built at every call, off the runtime if it matters.
    pub fn response_doc(&self, operation: &str) -> Result<Option<ResponseDoc>, ActionError> {
        let inner = self.inner(operation)?;
        self.spec.response_doc(inner).transpose().map_err(|error| self.spec_error(operation, error))
    }

    /// The address that an operation (its name in the document) is under.
    pub(in crate::actions) fn base_url(&self, operation: &OperationName) -> Result<Url, ActionError> {
        self.resolved_base(|spec, source| match spec.server(operation, source) {
            Some(server) => server,
            None => spec.default_server(source),
        })
    }

    /// The address that the document as a whole is under.
    pub(in crate::actions) fn default_base(&self) -> Result<Url, ActionError> {
        self.resolved_base(|spec, source| spec.default_server(source))
    }

    fn resolved_base(
        &self,
        server: impl Fn(&ApiSpec, Option<&Url>) -> Result<Url, SpecError>,
    ) -> Result<Url, ActionError> {
        if let Some(url) = &self.base_override {
            return Ok(url.clone());
        }
        let bad = |reason: String| ActionError::BaseUrl { api: self.name().to_string(), reason };
        match &self.file.base_url {
            Some(base) => {
                let name = base.env.as_deref().unwrap_or("base_url");
                Err(bad(format!("{name} is not set to an http or https URL")))
            }
            None => server(&self.spec, self.source.as_ref()).map_err(|error| bad(error.to_string())),
        }
    }

    /// The published name of an operation of the document.
    pub fn published_name(&self, inner: &OperationName) -> Option<&OperationName> {
        self.reverse.get(inner)
    }
}
