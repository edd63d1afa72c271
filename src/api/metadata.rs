//! Who the caller is.

use std::sync::Arc;

use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::ApiTag;
use super::caller::{Caller, failed};
use super::problem::ApiError;
use crate::engine::Engine;

/// What the access token says.
#[derive(Debug, Object)]
pub struct Me {
    pub client_id: String,
    pub subject: String,
    /// The clients that act for the subject, the one acting now first; empty where the client asks for itself, or a
    /// user's token was not handed on.
    pub actors: Vec<String>,
    pub scopes: Vec<String>,
    /// The highest sensitivity of columns that exist for you.
    pub sensitivity: String,
    /// End of the token, in epoch milliseconds.
    pub expires_at_ms: Option<i64>,
    /// Operations that at least one of your scopes opens.
    pub operations: Vec<String>,
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(tag = "ApiTag::Identity")]
impl Api {
    /// Who the token says that you are, and what you may do.
    #[oai(path = "/v1/me", method = "get", operation_id = "me")]
    async fn me(&self, caller: Caller) -> Result<Json<Me>, ApiError> {
        let operations = self.0.me(&caller.0).await.map_err(failed(&self.0, &caller.0))?;
        let principal = &caller.0.principal;
        Ok(Json(Me {
            client_id: principal.client_id.to_string(),
            subject: principal.subject.clone(),
            actors: principal.actors().map(str::to_owned).collect(),
            scopes: principal.scopes.iter().map(ToString::to_string).collect(),
            sensitivity: principal.sensitivity().as_str().to_owned(),
            expires_at_ms: principal.expires_at_ms,
            operations: operations.into_iter().map(|operation| operation.name().to_owned()).collect(),
        }))
    }
}
