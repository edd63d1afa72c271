//! Errors as problem+json (RFC 9457): the one mapping from an error kind to a status.

use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Object};
use serde_json::Value;

use crate::engine::{Context, EngineError};
use crate::error::ErrorKind;

/// An error, with what to do about it.
#[derive(Debug, Clone, Object)]
pub struct Problem {
    /// Stable identifier of the kind of error; the last segment names it.
    #[oai(rename = "type")]
    pub kind: String,
    /// The kind of error in words.
    pub title: String,
    pub status: u16,
    /// What went wrong this time and what to do.
    pub detail: String,
    /// Ties the answer to the log and the audit.
    pub request_id: String,
    /// The guard's rule, for refused SQL.
    #[oai(skip_serializing_if_is_none)]
    pub rule: Option<String>,
    /// One-based line of the offending fragment, for refused SQL.
    #[oai(skip_serializing_if_is_none)]
    pub line: Option<u64>,
    /// One-based column of the offending fragment, for refused SQL.
    #[oai(skip_serializing_if_is_none)]
    pub column: Option<u64>,
    /// The scope that would do, for insufficient_scope.
    #[oai(skip_serializing_if_is_none)]
    pub required_scope: Option<String>,
    /// The linked context, where no language model is configured that could write the SQL.
    #[oai(skip_serializing_if_is_none)]
    pub context: Option<Any<Value>>,
}

type Challenge = Option<String>;

/// Every error that an operation can answer with.
#[derive(Debug, ApiResponse)]
pub enum ApiError {
    /// The request is wrong.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// There is no valid access token.
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(Json<Problem>, #[oai(header = "WWW-Authenticate")] Challenge),
    /// The token's scopes do not cover the operation.
    #[oai(status = 403, content_type = "application/problem+json")]
    Forbidden(Json<Problem>, #[oai(header = "WWW-Authenticate")] Challenge),
    /// Nothing of that name that you may see.
    #[oai(status = 404, content_type = "application/problem+json")]
    NotFound(Json<Problem>),
    /// It exists already, or changed meanwhile.
    #[oai(status = 409, content_type = "application/problem+json")]
    Conflict(Json<Problem>),
    /// A body, query or result over its limit.
    #[oai(status = 413, content_type = "application/problem+json")]
    TooLarge(Json<Problem>),
    /// A media type that the operation does not take.
    #[oai(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(Json<Problem>),
    /// The guard refuses this SQL.
    #[oai(status = 422, content_type = "application/problem+json")]
    Unprocessable(Json<Problem>),
    /// Too many requests; try again later.
    #[oai(status = 429, content_type = "application/problem+json")]
    TooManyRequests(Json<Problem>, #[oai(header = "Retry-After")] Option<u64>),
    /// A defect of the service.
    #[oai(status = 500, content_type = "application/problem+json")]
    Internal(Json<Problem>),
    /// Something that the operation needs is not configured.
    #[oai(status = 501, content_type = "application/problem+json")]
    NotConfigured(Json<Problem>),
    /// The external API failed.
    #[oai(status = 502, content_type = "application/problem+json")]
    BadGateway(Json<Problem>),
    /// The service cannot do this now.
    #[oai(status = 503, content_type = "application/problem+json")]
    Unavailable(Json<Problem>, #[oai(header = "Retry-After")] Option<u64>),
    /// A time limit passed, here or at the external API.
    #[oai(status = 504, content_type = "application/problem+json")]
    Timeout(Json<Problem>),
}

/// The status and the words of a kind.
fn words(kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::InvalidInput => (StatusCode::BAD_REQUEST, "The request is wrong"),
        ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, "No valid access token"),
        ErrorKind::InsufficientScope => (StatusCode::FORBIDDEN, "The token's scopes do not cover this"),
        ErrorKind::Refused => (StatusCode::UNPROCESSABLE_ENTITY, "The guard refuses this SQL"),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "Not found"),
        ErrorKind::Conflict => (StatusCode::CONFLICT, "Conflict"),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Over a limit"),
        ErrorKind::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"),
        ErrorKind::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
        ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "Time limit passed"),
        ErrorKind::UpstreamFailed => (StatusCode::BAD_GATEWAY, "The external API failed"),
        ErrorKind::UpstreamTimeout => {
            (StatusCode::GATEWAY_TIMEOUT, "The external API did not answer in time")
        }
        ErrorKind::NotConfigured => (StatusCode::NOT_IMPLEMENTED, "Not configured"),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Not available now"),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
    }
}

impl Problem {
    pub fn new(kind: ErrorKind, detail: String, request_id: &str) -> Self {
        let (status, title) = words(kind);
        Self {
            kind: format!("urn:steward:problem:{}", kind.as_str()),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            request_id: request_id.to_owned(),
            rule: None,
            line: None,
            column: None,
            required_scope: None,
            context: None,
        }
    }

    /// The problem that an engine error is for its caller; what only the log may see goes there.
    pub fn of(request_id: &str, error: &EngineError) -> Self {
        let kind = error.kind();
        error.log(request_id);
        let mut problem = Self::new(kind, error.public(), request_id);
        problem.required_scope = error.missing_scope();
        problem.rule = error.refusal().map(|refusal| refusal.rule.to_owned());
        match error {
            EngineError::Refused(refusal) => (problem.line, problem.column) = refusal.position.unzip(),
            EngineError::NoLanguageModel { context } => problem.context = Some(Any(Value::clone(context))),
            _ => {}
        }
        problem
    }
}

impl ApiError {
    /// Maps an engine error for the request of `context`; what only the log may see goes there.
    pub fn new(context: &Context, error: EngineError, resource_metadata: &str) -> Self {
        Self::from_error(&context.request_id, error, resource_metadata)
    }

    pub fn from_error(request_id: &str, error: EngineError, resource_metadata: &str) -> Self {
        let kind = error.kind();
        let problem = Problem::of(request_id, &error);
        let challenge = match &error {
            EngineError::Auth(error) => error.challenge(resource_metadata),
            _ => problem.required_scope.as_ref().map(|scope| {
                format!("Bearer resource_metadata=\"{resource_metadata}\", error=\"insufficient_scope\", scope=\"{scope}\"")
            }),
        };
        let retry_after = error.retry_after().map(|after| after.as_secs().max(1));
        Self::of(kind, problem, challenge, retry_after)
    }

    fn of(kind: ErrorKind, problem: Problem, challenge: Challenge, retry_after: Option<u64>) -> Self {
        let problem = Json(problem);
        match kind {
            ErrorKind::InvalidInput => Self::BadRequest(problem),
            ErrorKind::Unauthenticated => Self::Unauthorized(problem, challenge),
            ErrorKind::InsufficientScope => Self::Forbidden(problem, challenge),
            ErrorKind::NotFound => Self::NotFound(problem),
            ErrorKind::Conflict => Self::Conflict(problem),
            ErrorKind::TooLarge => Self::TooLarge(problem),
            ErrorKind::UnsupportedMediaType => Self::UnsupportedMediaType(problem),
            ErrorKind::Refused => Self::Unprocessable(problem),
            ErrorKind::RateLimited => Self::TooManyRequests(problem, retry_after.or(Some(1))),
            ErrorKind::Internal => Self::Internal(problem),
            ErrorKind::NotConfigured => Self::NotConfigured(problem),
            ErrorKind::UpstreamFailed => Self::BadGateway(problem),
            ErrorKind::Unavailable => Self::Unavailable(problem, retry_after),
            ErrorKind::Timeout | ErrorKind::UpstreamTimeout => Self::Timeout(problem),
        }
    }
}

/// A problem outside the documented operations.
pub fn response(kind: ErrorKind, detail: String, request_id: &str) -> Response {
    let (status, _) = words(kind);
    with_status(status, Problem::new(kind, detail, request_id))
}

fn with_status(status: StatusCode, mut problem: Problem) -> Response {
    use poem_openapi::types::ToJSON;
    problem.status = status.as_u16();
    let mut response = problem.to_json_string().with_status(status).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// Errors that the framework raises before a handler runs: unknown routes, malformed bodies, wrong parameters.
pub async fn from_framework(error: poem::Error) -> Response {
    if error.is_from_response() {
        return error.into_response();
    }
    let request_id = super::middleware::current_request_id();
    let status = error.status();
    if error.is::<poem_openapi::error::AuthorizationError>() {
        return super::caller::missing_token(&request_id);
    }
    let (kind, detail) = match status {
        StatusCode::NOT_FOUND => {
            (ErrorKind::NotFound, "there is nothing at this address; /docs lists what there is".to_owned())
        }
        StatusCode::METHOD_NOT_ALLOWED => (
            ErrorKind::InvalidInput,
            "this address does not take that method; /docs lists what it takes".to_owned(),
        ),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            ErrorKind::UnsupportedMediaType,
            "the body's Content-Type is not one that this operation takes; send application/json".to_owned(),
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorKind::TooLarge, error.to_string()),
        status if status.is_client_error() => (ErrorKind::InvalidInput, error.to_string()),
        _ => {
            tracing::error!(request_id, status = status.as_u16(), "{error}");
            (
                ErrorKind::Internal,
                "something went wrong inside the service; the log has the details".to_owned(),
            )
        }
    };
    with_status(status, Problem::new(kind, detail, &request_id))
}
