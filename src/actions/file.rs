//! One action file, typed: which API, which operations, whose credentials, what limits.
//!
//! Pure: reads no file and no environment; knows nothing of the OpenAPI document it names.
//! F1 an unknown key is an error. F2 a credential is a reference (`env:NAME`, `file:path`), never a value.
//! F3 all mistakes of a file are found at once, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_saphyr::Location;
use url::Url;

use super::name::{ApiName, OperationName};
use super::security::secret::SecretRef;

mod credential;
mod read;

pub use read::parse_action_file;

/// A whole action file.
#[derive(Debug, Clone)]
pub struct ActionFile {
    pub name: ApiName,
    pub description: String,
    pub spec: SpecSource,
    pub base_url: Option<BaseUrl>,
    /// Hosts that may be reached although their addresses are private, lowercase.
    pub allow_hosts: BTreeSet<String>,
    /// `host` (on the scheme's own port) or `host:port` that redirects may lead to besides the API's own.
    pub allow_redirect_hosts: BTreeSet<String>,
    pub publish: Publish,
    /// By the document's name of the security scheme.
    pub credentials: BTreeMap<String, PlacedCredential>,
    pub limits: Limits,
    pub response: ResponsePolicy,
    /// Where later findings about the document and the base URL point.
    pub spec_at: Location,
    pub base_url_at: Location,
}

/// Where the OpenAPI document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecSource {
    File(PathBuf),
    Url(Url),
}

/// An address in place of the document's servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Environment variable that is read first.
    pub env: Option<String>,
    /// Used without the variable, or where it is unset.
    pub default: Option<String>,
}

/// Which operations agents may see.
#[derive(Debug, Clone)]
pub enum Publish {
    All,
    /// By operationId or derived name, as written.
    Listed(Vec<PublishedOperation>),
}

/// One line under `operations`.
#[derive(Debug, Clone)]
pub struct PublishedOperation {
    pub wanted: String,
    pub publish: bool,
    pub rename: Option<OperationName>,
    pub at: Location,
}

/// A credential and where it stands.
#[derive(Debug, Clone)]
pub struct PlacedCredential {
    pub credential: Credential,
    pub at: Location,
}

/// How to satisfy one security scheme; every part is a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// `value`, sent after the literal `prefix` where the API wants one (`Token `).
    ApiKey { value: SecretRef, prefix: String },
    /// `username` and `password`: HTTP basic, or OAuth2's password grant.
    Basic { username: SecretRef, password: SecretRef },
    /// A token made elsewhere.
    Bearer { token: SecretRef },
    /// OAuth2 or OpenID Connect: the grant follows from what is given (refresh token, then user, then client).
    OAuth(OAuthCredential),
}

/// What an OAuth2 token request is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthCredential {
    pub client_id: SecretRef,
    /// Absent for public clients.
    pub client_secret: Option<SecretRef>,
    pub username: Option<SecretRef>,
    pub password: Option<SecretRef>,
    pub refresh_token: Option<SecretRef>,
    /// In place of the document's.
    pub token_url: Option<String>,
    /// In place of the operation's.
    pub scopes: Option<Vec<String>>,
    pub client_authentication: ClientAuthentication,
}

/// How the client proves itself at the token endpoint (RFC 6749, section 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuthentication {
    #[default]
    Basic,
    Post,
}

/// Bounds of one call, and of calls a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Everything: waiting, retries, redirects and the body.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    /// Longest silence of an upstream, before or within its answer.
    pub idle_timeout: Duration,
    /// Counted after decompression.
    pub max_response_bytes: u64,
    /// Shared by all callers of the API; none: unlimited.
    pub requests_per_minute: Option<u32>,
    /// Besides the first try; idempotent methods only.
    pub max_retries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(15),
            max_response_bytes: 64 << 20,
            requests_per_minute: None,
            max_retries: 2,
        }
    }
}

/// What becomes of an answer; carried out elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponsePolicy {
    /// An answer of more tokens is stored and indexed, and comes back as a handle.
    pub store_over_tokens: u64,
    /// Name of the index it goes to.
    pub index: String,
}

impl Default for ResponsePolicy {
    fn default() -> Self {
        Self { store_over_tokens: 2000, index: "api_responses".to_owned() }
    }
}

#[cfg(test)]
mod tests;
