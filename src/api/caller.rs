//! From an Authorization header to a [`Context`].

use std::sync::Arc;

use poem::http::header;
use poem::{Request, Response};
use poem_openapi::auth::Bearer;
use poem_openapi::{OAuthScopes, SecurityScheme};

use super::problem::ApiError;
use crate::auth::AuthError;
use crate::engine::{Context, Engine, EngineError};

/// The scopes of the OpenAPI document. A test holds them equal to the engine's table of operations.
#[derive(OAuthScopes)]
pub enum ApiScope {
    /// Read what the data means.
    #[oai(rename = "semantic:read")]
    SemanticRead,
    /// Check SQL.
    #[oai(rename = "sql:generate")]
    SqlGenerate,
    /// Run SQL; narrow it as sql:run:model.dataset.
    #[oai(rename = "sql:run")]
    SqlRun,
    /// See what can be called.
    #[oai(rename = "actions:read")]
    ActionsRead,
    /// Call external APIs; narrow it as actions:call:api.operation.
    #[oai(rename = "actions:call")]
    ActionsCall,
    /// Search and read documents; narrow it as rag:read:index.
    #[oai(rename = "rag:read")]
    RagRead,
    /// Store and delete documents; narrow it as rag:write:index.
    #[oai(rename = "rag:write")]
    RagWrite,
    /// Administer clients.
    #[oai(rename = "admin:clients")]
    AdminClients,
    /// Administer users.
    #[oai(rename = "admin:users")]
    AdminUsers,
    /// List and rotate signing keys.
    #[oai(rename = "admin:keys")]
    AdminKeys,
    /// Read the audit log.
    #[oai(rename = "admin:audit")]
    AdminAudit,
    /// Call the protected endpoints of the example; opens no data.
    #[oai(rename = "protected")]
    Protected,
    /// Call the highly confidential endpoint of the example; opens no data.
    #[oai(rename = "highly_sensitive")]
    HighlySensitive,
}

/// A caller with a valid access token.
#[derive(SecurityScheme)]
#[oai(
    rename = "OAuth2",
    ty = "oauth2",
    flows(
        client_credentials(token_url = "/oauth/token", scopes = "ApiScope"),
        authorization_code(
            authorization_url = "/oauth/authorize",
            token_url = "/oauth/token",
            refresh_url = "/oauth/token",
            scopes = "ApiScope"
        )
    ),
    checker = "check"
)]
pub struct Caller(pub Context);

async fn check(request: &Request, _: Bearer) -> poem::Result<Context> {
    let request_id = super::middleware::current_request_id();
    let engine = request.data::<Arc<Engine>>().ok_or_else(|| poem::Error::from(internal(&request_id)))?;
    let auth = engine.auth().ok_or_else(|| poem::Error::from(internal(&request_id)))?;
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    let (first, second) = (headers.next(), headers.next());
    let verified = match (first.map(|value| value.to_str()), second) {
        (_, Some(_)) | (Some(Err(_)), _) => Err(AuthError::MalformedHeader),
        (Some(Ok(value)), None) => auth.tokens().verify_authorization(Some(value)),
        (None, None) => Err(AuthError::MissingToken),
    };
    match verified {
        Ok(principal) => Ok(Context::new(principal, request_id)),
        Err(error) => {
            if let AuthError::InvalidToken { fault } = &error {
                tracing::info!(request_id, %fault, "access token refused");
            }
            let metadata = auth.issuer().resource_metadata_url();
            Err(ApiError::from_error(&request_id, EngineError::Auth(error), &metadata).into())
        }
    }
}

fn internal(request_id: &str) -> ApiError {
    ApiError::from_error(request_id, EngineError::Interrupted, "")
}

/// The answer to a request whose Authorization header is absent or not Bearer.
pub fn missing_token(request_id: &str) -> Response {
    let error: poem::Error =
        ApiError::from_error(request_id, EngineError::Auth(AuthError::MissingToken), &metadata_url()).into();
    error.into_response()
}

fn metadata_url() -> String {
    METADATA_URL.get().cloned().unwrap_or_default()
}

/// Set once by the routes; errors that the framework raises have no engine at hand.
pub static METADATA_URL: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Maps engine errors for one caller.
pub fn failed(engine: &Engine, context: &Context) -> impl Fn(EngineError) -> ApiError {
    let metadata = engine.auth().map(|auth| auth.issuer().resource_metadata_url()).unwrap_or_default();
    let context = context.clone();
    move |error| ApiError::new(&context, error, &metadata)
}
