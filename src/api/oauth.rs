//! The OAuth endpoints: RFC 6749 token, RFC 7662 introspection, RFC 7009 revocation, JWKS and metadata.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use poem::http::{HeaderValue, StatusCode, header};
use poem::web::{Data, RemoteAddr};
use poem::{Body, IntoResponse, Request, Response, handler};
use serde::Serialize;

use crate::audit::{Event, Outcome};
use crate::auth::{Auth, OAuthError, OAuthErrorCode, OAuthRequest, StatusHint};
use crate::engine::Engine;

/// What arrives at an OAuth endpoint, checked for its form only.
struct Incoming {
    form: Vec<(String, String)>,
    authorization: Option<String>,
    remote: IpAddr,
}

impl Incoming {
    fn as_request(&self) -> OAuthRequest<'_> {
        OAuthRequest { form: &self.form, authorization: self.authorization.as_deref(), remote: self.remote }
    }
}

async fn incoming(request: &Request, body: Body, remote: &RemoteAddr) -> Result<Incoming, OAuthError> {
    let invalid = |text: &str| OAuthError::new(OAuthErrorCode::InvalidRequest, text);
    let content_type = request.header(header::CONTENT_TYPE).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(invalid("send the parameters in the body as application/x-www-form-urlencoded"));
    }
    let bytes = body.into_bytes().await.map_err(|_| invalid("the body broke off"))?;
    if std::str::from_utf8(&bytes).is_err() {
        return Err(invalid("the body is not UTF-8"));
    }
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    let authorization = match (headers.next().map(HeaderValue::to_str), headers.next()) {
        (None, _) => None,
        (Some(Ok(value)), None) => Some(value.to_owned()),
        _ => return Err(invalid("send one Authorization header of plain characters")),
    };
    let remote = remote.as_socket_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    let form = url::form_urlencoded::parse(&bytes).into_owned().collect();
    Ok(Incoming { form, authorization, remote })
}

#[handler]
pub async fn token(
    request: &Request,
    body: Body,
    remote: &RemoteAddr,
    engine: Data<&Arc<Engine>>,
) -> Response {
    let mut operation = "issue_token";
    let outcome = async {
        let (auth, incoming) = (auth(&engine)?, incoming(request, body, remote).await?);
        operation = operation_of(&incoming.form);
        auth.grants().token(incoming.as_request()).await
    }
    .await;
    let mut event = event(operation, &outcome);
    match &outcome {
        Ok(token) => {
            event.client_id = token.client_id.to_string();
            event.subject.clone_from(&token.subject);
            event.target.clone_from(&token.jti);
        }
        Err(OAuthError { reuse: Some(reuse), .. }) => {
            event.client_id = reuse.client_id.to_string();
            event.subject = reuse.user_id.to_string();
            event.target.clone_from(&reuse.family_id);
            event.reason = Some("reuse");
        }
        Err(_) => {}
    }
    finish(&engine, event, outcome).await
}

#[handler]
pub async fn introspect(
    request: &Request,
    body: Body,
    remote: &RemoteAddr,
    engine: Data<&Arc<Engine>>,
) -> Response {
    let outcome = async {
        let (auth, incoming) = (auth(&engine)?, incoming(request, body, remote).await?);
        auth.grants().introspect(incoming.as_request()).await
    }
    .await;
    let event = event("introspect_token", &outcome);
    finish(&engine, event, outcome).await
}

#[handler]
pub async fn revoke(
    request: &Request,
    body: Body,
    remote: &RemoteAddr,
    engine: Data<&Arc<Engine>>,
) -> Response {
    let outcome = async {
        let (auth, incoming) = (auth(&engine)?, incoming(request, body, remote).await?);
        auth.grants().revoke(incoming.as_request()).await
    }
    .await;
    let mut event = event("revoke_token", &outcome);
    if let Ok(jti) = &outcome {
        event.target = jti.clone().unwrap_or_default();
    }
    // RFC 7009 section 2.2: 200 whether or not there was such a token.
    finish(&engine, event, outcome.map(|_| serde_json::json!({}))).await
}

#[handler]
pub fn jwks(engine: Data<&Arc<Engine>>) -> Response {
    let mut response = document(&engine, |auth| json(&auth.jwks()));
    if response.is_success() {
        // Half of `PUBLISH_AHEAD_MS`: whoever obeys knows a key well before it signs.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    }
    response
}

#[handler]
pub fn authorization_server(engine: Data<&Arc<Engine>>) -> Response {
    document(&engine, |auth| json(&auth.authorization_server_metadata()))
}

#[handler]
pub fn protected_resource(engine: Data<&Arc<Engine>>) -> Response {
    document(&engine, |auth| json(&auth.protected_resource_metadata()))
}

/// What the audit calls a token request: by its grant, where that says more than that a token was issued.
fn operation_of(form: &[(String, String)]) -> &'static str {
    let grant = form.iter().find(|(name, _)| name == "grant_type").map(|(_, value)| value.as_str());
    match grant {
        Some("authorization_code") => "redeem_code",
        Some("refresh_token") => "refresh_token",
        _ => "issue_token",
    }
}

fn auth(engine: &Engine) -> Result<&Auth, OAuthError> {
    engine
        .auth()
        .ok_or_else(|| OAuthError::new(OAuthErrorCode::ServerError, "the token service is not running"))
}

fn document(engine: &Engine, make: impl Fn(&Auth) -> Response) -> Response {
    match engine.auth() {
        Some(auth) => make(auth),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Who it was is known only to the endpoints that authenticated somebody; they fill it in.
fn event<T>(operation: &'static str, outcome: &Result<T, OAuthError>) -> Event {
    let refused = outcome.as_ref().err();
    Event {
        request_id: super::middleware::current_request_id(),
        client_id: String::new(),
        subject: String::new(),
        operation,
        target: String::new(),
        outcome: if refused.is_some() { Outcome::Denied } else { Outcome::Ok },
        reason: refused.map(|error| error.error.as_str()),
        rows: None,
        size_bytes: None,
        elapsed_ms: None,
    }
}

/// Audits first: what cannot be audited is not answered.
async fn finish<T: Serialize>(engine: &Engine, event: Event, outcome: Result<T, OAuthError>) -> Response {
    if let Err(error) = engine.audit().record(&event).await {
        tracing::error!(%error, "an OAuth request could not be audited");
        return error_response(&OAuthError::new(OAuthErrorCode::TemporarilyUnavailable, "try again"));
    }
    match outcome {
        Ok(value) => {
            let mut response = json(&value);
            no_store(&mut response);
            response
        }
        Err(error) => error_response(&error),
    }
}

fn error_response(error: &OAuthError) -> Response {
    let status = match error.status {
        StatusHint::BadRequest => StatusCode::BAD_REQUEST,
        StatusHint::Unauthorized => StatusCode::UNAUTHORIZED,
        StatusHint::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
        StatusHint::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        StatusHint::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = json(error);
    response.set_status(status);
    if let StatusHint::TooManyRequests { retry_after_s } = error.status {
        response.headers_mut().insert(header::RETRY_AFTER, retry_after_s.into());
    }
    if error.www_authenticate {
        let challenge = HeaderValue::from_static("Basic realm=\"steward\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    no_store(&mut response);
    response
}

fn no_store(response: &mut Response) {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => Response::builder().content_type("application/json").body(bytes),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
