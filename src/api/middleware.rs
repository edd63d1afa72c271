//! What every request passes through: a request id, a span, a bound on its body.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use poem::http::{HeaderName, HeaderValue, header};
use poem::{Body, Endpoint, IntoResponse, Request, Response, Result};
use tracing::Instrument;

use crate::error::ErrorKind;

/// Bodies other than documents are short.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// What is read beyond that only to be able to answer.
const MAX_DROPPED_BYTES: usize = 16 * 1024 * 1024;

tokio::task_local! {
    static REQUEST_ID: Arc<str>;
}

/// The id of the request that is being served, for code that has no context yet.
pub fn current_request_id() -> String {
    REQUEST_ID.try_with(|id| id.to_string()).unwrap_or_default()
}

/// Gives each request an id: the trace id of a W3C `traceparent` if there is one, otherwise a new UUIDv7.
/// It comes back as `X-Request-Id`. Adds the headers that every answer carries.
pub async fn request_id<E: Endpoint>(
    endpoint: Arc<E>,
    request: Request,
    transport_security: Option<HeaderValue>,
) -> Result<Response> {
    let id: Arc<str> = trace_id(&request).unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string()).into();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = std::time::Instant::now();
    let span = tracing::info_span!("request", id = %id);
    let served = REQUEST_ID.scope(id.clone(), endpoint.call(request)).instrument(span);
    let mut response = match served.await {
        Ok(response) => response.into_response(),
        Err(error) => error.into_response(),
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(value) = transport_security {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    let elapsed_ms = started.elapsed().as_millis();
    tracing::info!(request_id = %id, %method, path, status = response.status().as_u16(), elapsed_ms, "request");
    Ok(response)
}

fn trace_id(request: &Request) -> Option<String> {
    let mut parts = request.header("traceparent")?.split('-');
    let (_, id) = (parts.next()?, parts.next()?);
    let is_valid = id.len() == 32
        && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && id != "0".repeat(32);
    is_valid.then(|| id.to_owned())
}

/// Reads bodies within their limit. Documents pass as streams: retrieval bounds them while it stores them.
pub async fn limit_body<E: Endpoint>(endpoint: Arc<E>, mut request: Request) -> Result<Response> {
    let path = request.uri().path();
    let is_document = path.starts_with("/v1/rag/") && path.trim_end_matches('/').ends_with("/documents");
    if !is_document {
        let refused = match read_body(request.take_body()).await {
            Ok(bytes) => {
                request.set_body(Body::from_bytes(bytes));
                None
            }
            Err(BodyError::TooLarge) => Some((
                ErrorKind::TooLarge,
                format!("the body has more than {MAX_BODY_BYTES} bytes; send less"),
            )),
            Err(BodyError::Broken) => {
                Some((ErrorKind::InvalidInput, "the body broke off; send it again".to_owned()))
            }
        };
        if let Some((kind, detail)) = refused {
            return Ok(super::problem::response(kind, detail, &current_request_id()));
        }
    }
    endpoint.call(request).await.map(IntoResponse::into_response)
}

enum BodyError {
    TooLarge,
    Broken,
}

/// The whole body within its limit. A somewhat larger one is read to its end and dropped: closing the connection while
/// the client still sends would often keep the answer from it.
async fn read_body(body: Body) -> Result<Bytes, BodyError> {
    let mut stream = std::pin::pin!(body.into_bytes_stream());
    let (mut kept, mut seen) = (BytesMut::new(), 0);
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| BodyError::Broken)?;
        seen += piece.len();
        if seen > MAX_BODY_BYTES + MAX_DROPPED_BYTES {
            break;
        }
        if seen <= MAX_BODY_BYTES {
            kept.extend_from_slice(&piece);
        }
    }
    if seen > MAX_BODY_BYTES { Err(BodyError::TooLarge) } else { Ok(kept.freeze()) }
}

/// A fixed JSON document.
pub fn json_document(text: String) -> impl Endpoint<Output = Response> {
    let bytes = Bytes::from(text);
    poem::endpoint::make_sync(move |_| {
        Response::builder().content_type("application/json").body(Body::from_bytes(bytes.clone()))
    })
}
