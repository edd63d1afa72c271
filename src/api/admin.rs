//! Administration over HTTP: clients, users, signing keys, the audit log.

pub mod audit;
pub mod clients;
pub mod keys;
pub mod users;

use std::collections::BTreeMap;

use poem_openapi::ApiResponse;
use poem_openapi::types::Any;
use serde_json::Value;

use crate::auth::{Claims, ScopeSet};
use crate::engine::EngineError;

/// A claim's value is a string, a number, a boolean, or a list of them.
type ClaimValues = BTreeMap<String, Any<Value>>;

#[derive(ApiResponse)]
pub enum Deleted {
    /// Gone.
    #[oai(status = 204)]
    Gone,
}

/// Secrets belong in no cache (RFC 6749 section 5.1).
fn no_store() -> String {
    "no-store".to_owned()
}

fn scope_set(scopes: &[String]) -> Result<ScopeSet, EngineError> {
    scopes
        .iter()
        .map(|scope| scope.parse())
        .collect::<Result<Vec<_>, _>>()
        .and_then(ScopeSet::new)
        .map_err(|error| EngineError::InvalidInput(error.to_string()))
}

fn words(scopes: &ScopeSet) -> Vec<String> {
    scopes.iter().map(ToString::to_string).collect()
}

fn claims(values: ClaimValues) -> Claims {
    values.into_iter().map(|(name, value)| (name, value.0)).collect()
}

fn claim_values(claims: Claims) -> ClaimValues {
    claims.into_iter().map(|(name, value)| (name, Any(value))).collect()
}
