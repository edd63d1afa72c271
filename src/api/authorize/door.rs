//! What the handlers of the authorization endpoint have in common: a request, a login, a page, an event.

use poem::http::{StatusCode, header};
use poem::{Body, Request, Response};
use secrecy::SecretString;
use url::form_urlencoded;

use super::browser::{self, Cookie, Fields, is_foreign, redirect};
use super::pages::{self, FormParts};
use crate::audit::{Event, Outcome};
use crate::auth::authorize::Granted;
use crate::auth::metadata::AUTHORIZATION_PATH;
use crate::auth::{
    Auth, AuthorizationRequest, AuthorizeError, ClientAuthentication, FormKind, Refusal, ScopeSet, Session,
};
use crate::engine::Engine;
use crate::error::ErrorKind;

pub const LOGIN_PATH: &str = "/oauth/login";
pub const CONSENT_PATH: &str = "/oauth/consent";
pub const LOGOUT_PATH: &str = "/oauth/logout";

/// What the handlers have in common.
pub struct Door<'a> {
    engine: &'a Engine,
    pub auth: &'a Auth,
}

impl<'a> Door<'a> {
    pub fn of(engine: &'a Engine) -> Option<Self> {
        engine.auth().map(|auth| Self { engine, auth })
    }

    pub async fn wanted(&self, query: &str) -> Result<AuthorizationRequest, Refusal> {
        let fields: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        self.auth.authorize().request(&fields).await
    }

    pub async fn session(&self, request: &Request) -> Result<Option<Session>, AuthorizeError> {
        match Cookie::Session.read(request, self.auth.issuer()) {
            Some(value) => self.auth.authorize().session(value).await,
            None => Ok(None),
        }
    }

    /// The fields of a form that may be ours, or the answer to one that is not.
    pub async fn form(&self, request: &Request, body: Body) -> Result<Fields, Response> {
        if is_foreign(request, self.auth.issuer()) {
            let text = "The form was sent by another site. Nothing was done.";
            return Err(message(StatusCode::FORBIDDEN, "Refused", text, None));
        }
        let bytes = body.into_bytes().await.map_err(|_| lost_page(StatusCode::BAD_REQUEST))?;
        Fields::parse(request.header(header::CONTENT_TYPE), &bytes)
            .ok_or_else(|| lost_page(StatusCode::BAD_REQUEST))
    }

    /// The fields of one of our forms, and the request that it is about.
    pub async fn submitted(
        &self,
        request: &Request,
        body: Body,
    ) -> Result<(Fields, AuthorizationRequest), Response> {
        let fields = self.form(request, body).await?;
        match self.wanted(fields.get("request")).await {
            Ok(wanted) => Ok((fields, wanted)),
            Err(_) => Err(lost_page(StatusCode::BAD_REQUEST)),
        }
    }

    /// The authorization endpoint with that request.
    pub fn address_of(&self, query: &str) -> String {
        format!("{}?{query}", self.auth.issuer().local_path(AUTHORIZATION_PATH))
    }

    pub fn login_page(
        &self,
        request: &Request,
        wanted: &AuthorizationRequest,
        status: StatusCode,
        username: &str,
        problem: Option<&str>,
    ) -> Response {
        let (logic, issuer) = (self.auth.authorize(), self.auth.issuer());
        let present = Cookie::Visit.read(request, issuer).filter(|value| logic.is_cookie_value(value));
        let visit = match present.map(|value| Ok(SecretString::from(value))) {
            Some(visit) => visit,
            None => logic.new_visit(),
        };
        let visit = match visit {
            Ok(visit) => visit,
            Err(error) => return self.failed(wanted, &error),
        };
        let query = wanted.to_query();
        let token = logic.visit_token(&visit, &query);
        let action = issuer.local_path(LOGIN_PATH);
        let form = FormParts { action: &action, query: &query, token: &token };
        let page = pages::log_in(wanted, &form, username, problem);
        let mut response = browser::html(status, page, wanted.policy_source().as_deref());
        Cookie::Visit.set(&mut response, issuer, &visit);
        response
    }

    pub async fn login_failed(
        &self,
        request: &Request,
        wanted: &AuthorizationRequest,
        username: &str,
        error: &AuthorizeError,
    ) -> Response {
        let (status, reason) = match error {
            AuthorizeError::BadCredentials => (StatusCode::FORBIDDEN, "bad_credentials"),
            AuthorizeError::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            error => return self.failed(wanted, error),
        };
        // Who it was is said only if there is such a user: people type passwords into the wrong field.
        let user = self.auth.users().find_by_username(username).await.ok().flatten();
        let mut event = self.event("log_in", wanted, user.as_ref().map_or("", |user| user.user_id.as_str()));
        (event.outcome, event.reason) = (Outcome::Denied, Some(reason));
        if let Err(response) = self.record(&event).await {
            return response;
        }
        let mut text = error.to_string();
        // Errors are lower case; this one is a sentence on a page.
        text[..1].make_ascii_uppercase();
        text.push('.');
        let mut response = self.login_page(request, wanted, status, username, Some(&text));
        if let AuthorizeError::RateLimited { wait_s } = error {
            response.headers_mut().insert(header::RETRY_AFTER, (*wait_s).into());
        }
        response
    }

    pub fn consent_page(
        &self,
        wanted: &AuthorizationRequest,
        session: &Session,
        scopes: &ScopeSet,
    ) -> Response {
        let (logic, issuer) = (self.auth.authorize(), self.auth.issuer());
        let query = wanted.to_query();
        let token = logic.session_token(session, FormKind::Consent, &query, scopes);
        let out_token = logic.session_token(session, FormKind::LogOut, &query, &ScopeSet::default());
        let (action, out_action) = (issuer.local_path(CONSENT_PATH), issuer.local_path(LOGOUT_PATH));
        let form = FormParts { action: &action, query: &query, token: &token };
        let out_form = FormParts { action: &out_action, query: &query, token: &out_token };
        let warns =
            wanted.client.authentication == ClientAuthentication::None && !wanted.redirect_is_proven();
        let page = pages::consent(wanted, &session.user, scopes, &form, &out_form, warns);
        browser::html(StatusCode::OK, page, wanted.policy_source().as_deref())
    }

    pub async fn issue(
        &self,
        wanted: &AuthorizationRequest,
        granted: Granted,
        session: &Session,
    ) -> Response {
        match self.auth.authorize().issue(wanted, granted).await {
            Ok(uri) => {
                let event = self.event("issue_code", wanted, session.user.user_id.as_str());
                match self.record(&event).await {
                    Ok(()) => redirect(&uri),
                    Err(response) => response,
                }
            }
            Err(error) => self.failed(wanted, &error),
        }
    }

    pub async fn refused(&self, refusal: Refusal) -> Response {
        let mut event = self.event_of("authorize", "");
        event.outcome = Outcome::Denied;
        let response = match refusal {
            Refusal::Page(error) => {
                event.reason = Some(error.error.as_str());
                let status = match error.kind() {
                    ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                    ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
                    _ => StatusCode::BAD_REQUEST,
                };
                let text = format!(
                    "The app that sent you here made a mistake: {}. Tell whoever runs it.",
                    error.error_description
                );
                message(status, "This cannot be answered", &text, None)
            }
            Refusal::Redirect { uri, error, client_id } => {
                event.client_id = client_id;
                event.reason = Some(error.as_str());
                redirect(&uri)
            }
        };
        match self.record(&event).await {
            Ok(()) => response,
            Err(unavailable) => unavailable,
        }
    }

    /// Our own fault, told to the client.
    pub fn failed(&self, wanted: &AuthorizationRequest, error: &AuthorizeError) -> Response {
        tracing::error!(%error, "an authorization request failed by our own fault");
        match self.auth.authorize().failed(wanted, error) {
            Refusal::Redirect { uri, .. } => redirect(&uri),
            Refusal::Page(_) => unavailable(error),
        }
    }

    pub fn event(&self, operation: &'static str, wanted: &AuthorizationRequest, subject: &str) -> Event {
        Event { client_id: wanted.client.client_id.to_string(), ..self.event_of(operation, subject) }
    }

    pub fn event_of(&self, operation: &'static str, subject: &str) -> Event {
        Event {
            request_id: crate::api::middleware::current_request_id(),
            client_id: String::new(),
            subject: subject.to_owned(),
            operation,
            target: String::new(),
            outcome: Outcome::Ok,
            reason: None,
            rows: None,
            size_bytes: None,
            elapsed_ms: None,
        }
    }

    /// What cannot be audited is not answered.
    pub async fn record(&self, event: &Event) -> Result<(), Response> {
        self.engine.audit().record(event).await.map_err(|error| {
            tracing::error!(%error, "an authorization request could not be audited");
            message(StatusCode::SERVICE_UNAVAILABLE, "Not now", "Please try again in a moment.", None)
        })
    }
}

pub fn message(status: StatusCode, title: &'static str, text: &str, again: Option<&str>) -> Response {
    let is_error = !status.is_success();
    browser::html(status, pages::message(title, text, is_error, again), None)
}

pub fn lost_page(status: StatusCode) -> Response {
    message(
        status,
        "Nothing to do here",
        "Go back to the app that sent you here, and start again there.",
        None,
    )
}

pub fn unavailable(error: &AuthorizeError) -> Response {
    tracing::error!(%error, "a login could not be looked up");
    message(StatusCode::SERVICE_UNAVAILABLE, "Not now", "Please try again in a moment.", None)
}
