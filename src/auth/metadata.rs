//! What the service publishes about itself for OAuth clients: RFC 8414 and RFC 9728 documents.
//!
//! Pure. Knows the issuer's URL and what the grants support; does not know HTTP. The paths below are the contract
//! with `api`, which serves them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use url::Url;

use crate::auth::client::GrantType;
use crate::auth::grants::CLIENT_AUTHENTICATION_METHODS;
use crate::auth::keys::CLIENT_ALGORITHMS;
use crate::auth::scope::KNOWN_SCOPES;
use crate::error::ErrorKind;

pub const AUTHORIZATION_PATH: &str = "/oauth/authorize";
pub const TOKEN_PATH: &str = "/oauth/token";
pub const REVOCATION_PATH: &str = "/oauth/revoke";
pub const INTROSPECTION_PATH: &str = "/oauth/introspect";
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// The service's own address as tokens and metadata name it: http or https, without query, fragment, user and
/// trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer(Url);

/// A text that cannot be the issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be the service's public address: {reason}")]
pub struct IssuerError {
    text: String,
    reason: &'static str,
}

impl IssuerError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl FromStr for Issuer {
    type Err = IssuerError;

    fn from_str(text: &str) -> Result<Self, IssuerError> {
        let refuse = |reason| Err(IssuerError { text: text.escape_debug().to_string(), reason });
        let Ok(url) = Url::parse(text) else {
            return refuse("it must be a URL such as https://steward.example.org");
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return refuse("it must begin with https:// (or http://) and a host");
        }
        if url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return refuse("it may have no query, no fragment and no user");
        }
        // Challenges quote it; the URL parser has already escaped quotes and spaces.
        Ok(Self(url))
    }
}

impl Issuer {
    /// As the claim `iss` and the metadata hold it.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// The address of a path below the issuer.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.as_str())
    }

    /// The path of that address alone, for links within the service's own pages.
    pub fn local_path(&self, path: &str) -> String {
        format!("{}{path}", self.0.path().trim_end_matches('/'))
    }

    /// Scheme, host and port, as a browser's `Origin` header spells them.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Whether browsers reach the service by https.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Where a well-known document about this issuer is: the suffix goes before the issuer's own path
    /// (RFC 8414 section 3.1, RFC 9728 section 3.1).
    pub fn well_known(&self, suffix: &str) -> String {
        let path = self.0.path().trim_end_matches('/');
        let origin = &self.as_str()[..self.as_str().len() - path.len()];
        format!("{origin}/.well-known/{suffix}{path}")
    }

    /// Where the protected resource metadata is; what `WWW-Authenticate` names.
    pub fn resource_metadata_url(&self) -> String {
        self.well_known("oauth-protected-resource")
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// RFC 8414 section 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuthorizationServerMetadata {
    pub issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub jwks_uri: String,
    pub scopes_supported: Vec<&'static str>,
    pub response_types_supported: Vec<&'static str>,
    pub response_modes_supported: Vec<&'static str>,
    /// RFC 7636: S256 alone.
    pub code_challenge_methods_supported: Vec<&'static str>,
    /// RFC 9207.
    pub authorization_response_iss_parameter_supported: bool,
    pub grant_types_supported: Vec<&'static str>,
    pub token_endpoint_auth_methods_supported: Vec<&'static str>,
    pub token_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    pub revocation_endpoint: String,
    pub revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    pub revocation_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
    pub introspection_endpoint: String,
    pub introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    pub introspection_endpoint_auth_signing_alg_values_supported: Vec<&'static str>,
}

impl AuthorizationServerMetadata {
    /// The document of this issuer.
    pub fn new(issuer: &Issuer, grant_types: &[GrantType]) -> Self {
        let methods = CLIENT_AUTHENTICATION_METHODS.to_vec();
        let by_more_than_an_id = methods.iter().copied().filter(|method| *method != "none").collect();
        let algorithms = CLIENT_ALGORITHMS.to_vec();
        Self {
            issuer: issuer.to_string(),
            authorization_endpoint: issuer.endpoint(AUTHORIZATION_PATH),
            token_endpoint: issuer.endpoint(TOKEN_PATH),
            jwks_uri: issuer.endpoint(JWKS_PATH),
            scopes_supported: scopes(),
            response_types_supported: vec!["code"],
            response_modes_supported: vec!["query"],
            code_challenge_methods_supported: vec!["S256"],
            authorization_response_iss_parameter_supported: true,
            grant_types_supported: grant_types.iter().map(|grant| grant.as_str()).collect(),
            token_endpoint_auth_methods_supported: methods.clone(),
            token_endpoint_auth_signing_alg_values_supported: algorithms.clone(),
            revocation_endpoint: issuer.endpoint(REVOCATION_PATH),
            revocation_endpoint_auth_methods_supported: methods,
            revocation_endpoint_auth_signing_alg_values_supported: algorithms.clone(),
            introspection_endpoint: issuer.endpoint(INTROSPECTION_PATH),
            introspection_endpoint_auth_methods_supported: by_more_than_an_id,
            introspection_endpoint_auth_signing_alg_values_supported: algorithms,
        }
    }
}

/// RFC 9728 section 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProtectedResourceMetadata {
    pub resource: String,
    pub authorization_servers: Vec<String>,
    pub jwks_uri: String,
    pub scopes_supported: Vec<&'static str>,
    pub bearer_methods_supported: Vec<&'static str>,
    pub resource_name: &'static str,
}

impl ProtectedResourceMetadata {
    /// The document of the resource that `audience` identifies.
    pub fn new(issuer: &Issuer, audience: &str) -> Self {
        Self {
            resource: audience.to_owned(),
            authorization_servers: vec![issuer.to_string()],
            jwks_uri: issuer.endpoint(JWKS_PATH),
            scopes_supported: scopes(),
            bearer_methods_supported: vec!["header"],
            resource_name: "Steward",
        }
    }
}

fn scopes() -> Vec<&'static str> {
    KNOWN_SCOPES.iter().map(|known| known.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_loses_its_trailing_slash_and_keeps_its_path() {
        let plain: Issuer = "https://steward.example.org/".parse().unwrap();
        assert_eq!(plain.as_str(), "https://steward.example.org");
        assert_eq!(plain.well_known("x"), "https://steward.example.org/.well-known/x");
        let tenant: Issuer = "http://localhost:8080/a/b/".parse().unwrap();
        assert_eq!(tenant.endpoint(TOKEN_PATH), "http://localhost:8080/a/b/oauth/token");
        assert_eq!(tenant.well_known("x"), "http://localhost:8080/.well-known/x/a/b");
    }

    #[test]
    fn what_cannot_be_an_issuer_is_refused() {
        for bad in ["", "steward", "ftp://x", "https://x?y", "https://x#y", "https://u@x", "mailto:a@b"] {
            assert!(bad.parse::<Issuer>().is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_names_the_endpoints_and_every_scope() {
        let issuer: Issuer = "https://s.example".parse().unwrap();
        let json =
            serde_json::to_value(AuthorizationServerMetadata::new(&issuer, &[GrantType::ClientCredentials]))
                .unwrap();
        assert_eq!(json["issuer"], "https://s.example");
        assert_eq!(json["token_endpoint"], "https://s.example/oauth/token");
        assert_eq!(json["authorization_endpoint"], "https://s.example/oauth/authorize");
        assert_eq!(json["response_types_supported"], serde_json::json!(["code"]));
        assert_eq!(json["code_challenge_methods_supported"], serde_json::json!(["S256"]));
        assert_eq!(json["authorization_response_iss_parameter_supported"], true);
        assert_eq!(json["grant_types_supported"], serde_json::json!(["client_credentials"]));
        assert_eq!(json["scopes_supported"].as_array().unwrap().len(), KNOWN_SCOPES.len());
        let json =
            serde_json::to_value(ProtectedResourceMetadata::new(&issuer, "https://s.example")).unwrap();
        assert_eq!(json["authorization_servers"][0], "https://s.example");
    }
}
