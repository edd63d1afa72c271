//! The signing keys over HTTP.

use std::sync::Arc;

use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use crate::api::ApiTag;
use crate::api::caller::{ApiScope, Caller, failed};
use crate::api::problem::ApiError;
use crate::auth::KeyInfo;
use crate::engine::Engine;

#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
pub struct RotateKeysRequest {
    /// Also if the next key was published only minutes ago: verifiers that cached the JWKS refuse its tokens until
    /// they fetch it again.
    #[oai(default)]
    pub force: bool,
}

#[derive(Debug, Object)]
pub struct Key {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// ES256, RS256 or EdDSA.
    pub algorithm: String,
    /// active signs; next will; retired only verifies.
    pub state: String,
    /// Epoch milliseconds; null for a key from the environment.
    pub made_at_ms: Option<i64>,
    /// Epoch milliseconds.
    pub retired_at_ms: Option<i64>,
    /// Epoch milliseconds: by then every token of a retired key has expired.
    pub kept_until_ms: Option<i64>,
}

pub struct Api(pub Arc<Engine>);

#[OpenApi(prefix_path = "/admin/api", tag = "ApiTag::Admin")]
impl Api {
    /// List the signing keys with their states, the active one first.
    #[oai(path = "/keys", method = "get", operation_id = "list_keys")]
    async fn keys(
        &self,
        #[oai(scope = "ApiScope::AdminKeys")] caller: Caller,
    ) -> Result<Json<Vec<Key>>, ApiError> {
        let list = self.0.list_keys(&caller.0).await.map_err(failed(&self.0, &caller.0))?;
        Ok(Json(list.into_iter().map(key).collect()))
    }

    /// Sign with the next key from now on, and retire the active one. 409 while the next key is too young.
    #[oai(path = "/keys/rotate", method = "post", operation_id = "rotate_keys")]
    async fn rotate_keys(
        &self,
        #[oai(scope = "ApiScope::AdminKeys")] caller: Caller,
        body: Json<RotateKeysRequest>,
    ) -> Result<Json<Vec<Key>>, ApiError> {
        let list = self.0.rotate_keys(&caller.0, body.0.force).await;
        Ok(Json(list.map_err(failed(&self.0, &caller.0))?.into_iter().map(key).collect()))
    }
}

fn key(item: KeyInfo) -> Key {
    Key {
        kid: item.kid,
        algorithm: item.algorithm.to_string(),
        state: item.state.as_str().to_owned(),
        made_at_ms: item.made_at_ms,
        retired_at_ms: item.retired_at_ms,
        kept_until_ms: item.kept_until_ms,
    }
}
