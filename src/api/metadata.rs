//! Who the caller is.

use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::ApiTag;
use super::caller::Caller;
use super::problem::ApiError;
use crate::auth::Operation;

/// What the access token says.
#[derive(Debug, Object)]
pub struct Me {
    pub client_id: String,
    pub subject: String,
    pub scopes: Vec<String>,
    /// The highest sensitivity of columns that exist for you.
    pub sensitivity: String,
    /// End of the token, in epoch milliseconds.
    pub expires_at_ms: Option<i64>,
    /// Operations that at least one of your scopes opens.
    pub operations: Vec<String>,
}

pub struct Api;

#[OpenApi(tag = "ApiTag::Identity")]
impl Api {
    /// Who the token says that you are, and what you may do.
    #[oai(path = "/me", method = "get", operation_id = "me")]
    async fn me(&self, caller: Caller) -> Result<Json<Me>, ApiError> {
        let principal = &caller.0.principal;
        let may = |operation: &&Operation| {
            // An operation on a target is open to whoever holds a grant for some target.
            operation.required_scope(None).is_none_or(|scope| principal.require_some_target(&scope).is_ok())
        };
        Ok(Json(Me {
            client_id: principal.client_id.to_string(),
            subject: principal.subject.clone(),
            scopes: principal.scopes.iter().map(ToString::to_string).collect(),
            sensitivity: principal.sensitivity().as_str().to_owned(),
            expires_at_ms: principal.expires_at_ms,
            operations: Operation::ALL
                .iter()
                .filter(may)
                .map(|operation| operation.name().to_owned())
                .collect(),
        }))
    }
}
