//! The example of an API behind the built-in tokens: one endpoint open, two protected, one highly confidential.

use std::sync::Arc;

use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::ApiTag;
use super::caller::{ApiScope, Caller, failed};
use super::problem::ApiError;
use crate::engine::{self, Engine};

#[derive(Debug, Object)]
pub struct PublicGreeting {
    pub message: String,
}

/// Who was let in, and by what.
#[derive(Debug, Object)]
pub struct Greeting {
    pub message: String,
    pub client_id: String,
    /// On whose behalf the client asked.
    pub subject: String,
    /// The scope that let it in.
    pub scope: String,
}

impl From<engine::Greeting> for Greeting {
    fn from(greeting: engine::Greeting) -> Self {
        let engine::Greeting { client_id, subject, scope } = greeting;
        Self { message: format!("Your token holds the scope {scope}."), client_id, subject, scope }
    }
}

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct HaikuRequest {
    /// 1 to 1,000 characters, not all of them blank.
    pub message: String,
}

/// Same message, same haiku.
#[derive(Debug, Object)]
pub struct Haiku {
    /// The lines, of 5, 7 and 5 syllables, joined by line feeds.
    pub haiku: String,
    pub lines: Vec<String>,
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(tag = "ApiTag::AuthTest")]
impl Api {
    /// Example: an answer for everybody.
    #[oai(path = "/v1/auth-test/public", method = "get", operation_id = "auth_test_public")]
    async fn public(&self) -> Json<PublicGreeting> {
        Json(PublicGreeting { message: "This is for everybody; no token was looked at.".to_owned() })
    }

    /// Example: an answer for holders of the scope protected.
    #[oai(path = "/v1/auth-test/protected", method = "get", operation_id = "auth_test_protected")]
    async fn protected(
        &self,
        #[oai(scope = "ApiScope::Protected")] caller: Caller,
    ) -> Result<Json<Greeting>, ApiError> {
        let greeting = self.0.auth_test_protected(&caller.0).await;
        Ok(Json(greeting.map_err(failed(&self.0, &caller.0))?.into()))
    }

    /// Example: turn a message into a haiku, for holders of the scope protected.
    #[oai(path = "/v1/auth-test/protected_post", method = "post", operation_id = "auth_test_protected_post")]
    async fn protected_post(
        &self,
        #[oai(scope = "ApiScope::Protected")] caller: Caller,
        request: Json<HaikuRequest>,
    ) -> Result<Json<Haiku>, ApiError> {
        let lines = self.0.auth_test_protected_post(&caller.0, &request.0.message).await;
        let lines = lines.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(Haiku { haiku: lines.join("\n"), lines: lines.into() }))
    }

    /// Example: an answer for holders of the scope highly_sensitive.
    #[oai(
        path = "/v1/auth-test/highly_confidential",
        method = "get",
        operation_id = "auth_test_highly_confidential"
    )]
    async fn highly_confidential(
        &self,
        #[oai(scope = "ApiScope::HighlySensitive")] caller: Caller,
    ) -> Result<Json<Greeting>, ApiError> {
        let greeting = self.0.auth_test_highly_confidential(&caller.0).await;
        Ok(Json(greeting.map_err(failed(&self.0, &caller.0))?.into()))
    }
}
