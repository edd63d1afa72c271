//! OpenAPI 2.0, 3.0 and 3.1 documents → operations with one JSON Schema of their arguments each.
//!
//! Pure: no I/O; knows no credential and no HTTP client.
//! S1 reading a document looks at every operation's head only; an operation's schemas are built at first use.
//! S2 operation names are unique, and the same for the same document.
//! S3 a mistake in one operation spoils that operation alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use reqwest::Method;
use serde_json::{Map, Value};

use super::name::OperationName;
use crate::error::ErrorKind;

pub mod document;
pub mod operation;
mod parameter;
mod schema;
pub mod scheme;
mod server;

pub use operation::{Body, BodyKind, Operation};
pub use parameter::{Parameter, Place, Style};
pub use scheme::{KeyPlace, Requirements, Scheme, SchemeUse};

use document::{Document, flag_of, text_of};
use schema::{Direction, SchemaBuilder};

/// Why a document, or one of its operations, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("the document is neither JSON nor YAML: {0}")]
    Syntax(String),
    #[error("the document has neither `openapi` nor `swagger`; it is not an OpenAPI document")]
    NotOpenApi,
    #[error("OpenAPI version {0} is not supported; use 2.0, 3.0 or 3.1")]
    Version(String),
    #[error("`{0}` refers outside the document; bundle the document into one file")]
    ExternalReference(String),
    #[error("`{0}` refers to nothing in the document; mend the document")]
    DanglingReference(String),
    #[error("`{0}` refers to itself; mend the document")]
    CircularReference(String),
    #[error("the document should have {what} at {at}; mend the document")]
    Malformed { what: &'static str, at: String },
    #[error("the document's schema of the arguments does not hold: {0}; mend the document")]
    Schema(String),
    #[error(
        "the body of this operation is {0}, which is not supported; only JSON, forms and text can be sent"
    )]
    UnsupportedBody(String),
    #[error("the document names no absolute server; add `base_url:` to the action file")]
    NoServer,
    #[error("the document's server `{0}` is not an http(s) URL; add `base_url:` to the action file")]
    BadServer(String),
}

impl SpecError {
    /// The caller's view of the failure: the administrator has to mend something.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::NotConfigured
    }
}

/// The head of an operation: what lists and searches show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationHead {
    pub name: OperationName,
    /// As the document writes it.
    pub operation_id: Option<String>,
    pub method: Method,
    /// Path template as the document writes it.
    pub path: String,
    pub summary: Option<String>,
    pub description: Option<String>,
    pub tags: Vec<String>,
    pub deprecated: bool,
}

/// What a successful answer looks like, for readers.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseDoc {
    /// As the document writes it: `200`, `2XX`, `default`.
    pub status: String,
    pub content_type: Option<String>,
    pub description: Option<String>,
    /// Self-contained JSON Schema 2020-12; `true` where the document gives none.
    pub schema: Value,
}

struct Entry {
    head: OperationHead,
    /// Key of the path item in `paths`.
    path_key: String,
    /// Lowercase method: the key in the path item.
    method_key: &'static str,
    built: OnceLock<Result<Arc<Operation>, SpecError>>,
}

/// A document and its operations.
pub struct ApiSpec {
    document: Document,
    title: Option<String>,
    version: Option<String>,
    description: Option<String>,
    schemes: IndexMap<String, Scheme>,
    operations: IndexMap<OperationName, Entry>,
    by_id: HashMap<String, OperationName>,
}

impl std::fmt::Debug for ApiSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiSpec")
            .field("title", &self.title)
            .field("operations", &self.operations.len())
            .finish()
    }
}

/// The methods of a path item, in the order of the specification.
const METHODS: [(&str, Method); 8] = [
    ("get", Method::GET),
    ("put", Method::PUT),
    ("post", Method::POST),
    ("delete", Method::DELETE),
    ("options", Method::OPTIONS),
    ("head", Method::HEAD),
    ("patch", Method::PATCH),
    ("trace", Method::TRACE),
];

impl ApiSpec {
    /// Reads a document of JSON or YAML text.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let document = Document::parse(text)?;
        let empty = Map::new();
        let info = document.root().get("info").and_then(Value::as_object).unwrap_or(&empty);
        let own = |key| text_of(info, key).map(str::to_owned);
        let (title, version, description) = (own("title"), own("version"), own("description"));
        let schemes = scheme::read_schemes(&document);
        let operations = index_operations(&document);
        let by_id = operations
            .values()
            .filter_map(|entry| Some((entry.head.operation_id.clone()?, entry.head.name.clone())))
            .collect();
        Ok(Self { document, title, version, description, schemes, operations, by_id })
    }

    /// The document's title.
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// The version of the API, as the document states it.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The document's own description.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Security schemes by name, in the document's order.
    pub fn schemes(&self) -> &IndexMap<String, Scheme> {
        &self.schemes
    }

    /// All operations, in the document's order.
    pub fn heads(&self) -> impl Iterator<Item = &OperationHead> {
        self.operations.values().map(|entry| &entry.head)
    }

    /// The name of the operation with this name or operationId.
    pub fn find(&self, name_or_id: &str) -> Option<&OperationName> {
        if let Some(name) = self.by_id.get(name_or_id) {
            return Some(name);
        }
        let name: OperationName = name_or_id.parse().ok()?;
        self.operations.get_key_value(&name).map(|(name, _)| name)
    }

    /// The head of an operation.
    pub fn head(&self, name: &OperationName) -> Option<&OperationHead> {
        self.operations.get(name).map(|entry| &entry.head)
    }

    /// Whether the operation was built already, so that `operation` costs nothing.
    pub fn is_built(&self, name: &OperationName) -> bool {
        self.operations.get(name).is_some_and(|entry| entry.built.get().is_some())
    }

    /// The whole operation, built at first use (milliseconds for large schemas).
    /// `None`: no such operation.
    pub fn operation(&self, name: &OperationName) -> Option<Result<Arc<Operation>, SpecError>> {
        let entry = self.operations.get(name)?;
        let built = entry.built.get_or_init(|| {
            let (item, map) = self.parts(entry)?;
            operation::build(&self.document, &self.schemes, &entry.head, item, map).map(Arc::new)
        });
        Some(built.clone())
    }

    /// What a successful answer of the operation looks like; built at every call.
    pub fn response_doc(&self, name: &OperationName) -> Option<Result<ResponseDoc, SpecError>> {
        let entry = self.operations.get(name)?;
        self.parts(entry).and_then(|(_, map)| self.build_response(map)).transpose()
    }

    /// The server of an operation, variables filled in; relative ones are joined to where the document came from.
    pub fn server(
        &self,
        name: &OperationName,
        source: Option<&url::Url>,
    ) -> Option<Result<url::Url, SpecError>> {
        let entry = self.operations.get(name)?;
        Some(self.parts(entry).and_then(|(item, map)| server::choose(&self.document, item, map, source)))
    }

    /// The server of the document, where it has no operation to ask for.
    pub fn default_server(&self, source: Option<&url::Url>) -> Result<url::Url, SpecError> {
        let empty = Map::new();
        server::choose(&self.document, &empty, &empty, source)
    }

    /// The security of an operation, without building it; empty: none. `None`: no such operation.
    pub fn requirements(&self, name: &OperationName) -> Option<Requirements> {
        let (_, operation) = self.parts(self.operations.get(name)?).ok()?;
        let stated = scheme::read_requirements(operation);
        Some(
            stated
                .or_else(|| scheme::read_requirements(self.document.root().as_object()?))
                .unwrap_or_default(),
        )
    }

    fn parts<'a>(
        &'a self,
        entry: &Entry,
    ) -> Result<(&'a Map<String, Value>, &'a Map<String, Value>), SpecError> {
        let missing = || SpecError::Malformed { what: "an operation", at: entry.path_key.clone() };
        let item = self.document.root().get("paths").and_then(|paths| paths.get(&entry.path_key));
        let item = self.document.object(item.ok_or_else(missing)?)?;
        let operation = item.get(entry.method_key).and_then(Value::as_object).ok_or_else(missing)?;
        Ok((item, operation))
    }

    fn build_response(&self, operation: &Map<String, Value>) -> Result<Option<ResponseDoc>, SpecError> {
        let Some(Value::Object(responses)) = operation.get("responses") else { return Ok(None) };
        let Some((status, response)) = best_response(responses) else { return Ok(None) };
        let response = self.document.object(response)?;
        let content = response.get("content").and_then(Value::as_object);
        let (content_type, schema) = match content {
            Some(content) => match parameter::preferred_media(content) {
                Some((media, value)) => (Some(media.to_owned()), value.get("schema")),
                None => (None, None),
            },
            None => (None, response.get("schema")),
        };
        let schema = match schema {
            None => Value::Bool(true),
            Some(schema) => {
                let mut builder = SchemaBuilder::new(&self.document, Direction::Response);
                let mut schema = builder.convert(schema)?;
                let definitions = builder.finish()?;
                if let Value::Object(map) = &mut schema
                    && !definitions.is_empty()
                {
                    map.insert("$defs".to_owned(), Value::Object(definitions));
                }
                schema
            }
        };
        Ok(Some(ResponseDoc {
            status: status.to_owned(),
            content_type,
            description: text_of(response, "description").map(str::to_owned),
            schema,
        }))
    }
}

/// The lowest 2xx, else `default`.
fn best_response(responses: &Map<String, Value>) -> Option<(&str, &Value)> {
    responses
        .iter()
        .filter(|(status, _)| status.starts_with('2'))
        .min_by_key(|(status, _)| status.to_ascii_uppercase())
        .or_else(|| responses.iter().find(|(status, _)| *status == "default"))
        .map(|(status, response)| (status.as_str(), response))
}

fn index_operations(document: &Document) -> IndexMap<OperationName, Entry> {
    let mut operations = IndexMap::new();
    let Some(Value::Object(paths)) = document.root().get("paths") else { return operations };
    let mut taken = HashSet::new();
    for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("x-")) {
        let Ok(item) = document.object(item) else { continue };
        for (method_key, method) in METHODS {
            let Some(operation) = item.get(method_key).and_then(Value::as_object) else { continue };
            let operation_id = text_of(operation, "operationId").map(str::to_owned);
            let base = match &operation_id {
                Some(id) => OperationName::derive(id),
                None => OperationName::derive(&format!("{method_key} {path}")),
            };
            let name = unique_name(base, &mut taken);
            let tags = operation.get("tags").and_then(Value::as_array);
            let own = |key| text_of(operation, key).or_else(|| text_of(item, key)).map(str::to_owned);
            let head = OperationHead {
                name: name.clone(),
                operation_id,
                method,
                path: path.clone(),
                summary: own("summary"),
                description: own("description"),
                tags: tags
                    .map(|tags| tags.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                    .unwrap_or_default(),
                deprecated: flag_of(operation, "deprecated"),
            };
            let entry = Entry { head, path_key: path.clone(), method_key, built: OnceLock::new() };
            operations.insert(name, entry);
        }
    }
    operations
}

fn unique_name(base: OperationName, taken: &mut HashSet<OperationName>) -> OperationName {
    let mut name = base.clone();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = base.numbered(number);
        number += 1;
    }
    name
}

#[cfg(test)]
mod tests;
