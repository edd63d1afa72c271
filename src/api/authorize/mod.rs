//! The authorization endpoint at the HTTP door: pages, forms, cookies and redirects. The logic is in `auth::authorize`.
//!
//! X1 a form changes something only if it comes from a page of ours in the same browser; GET never does, but that it
//!    makes a code for what was allowed before.
//! X2 nothing that is wrong with a form ends in a redirect to a client.
//! X3 what happens to logins, consent and codes is in the audit before it is answered.

mod browser;
mod door;
mod html;
mod pages;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, RemoteAddr};
use poem::{Body, IntoResponse, Request, Response, handler};
use secrecy::SecretString;

use self::browser::{Cookie, redirect};
use self::door::{Door, LOGOUT_PATH, lost_page, message, unavailable};
use self::pages::FormParts;
use crate::audit::Outcome;
use crate::auth::{FormKind, Next, ScopeSet};
use crate::engine::Engine;

const STALE_FORM: &str =
    "This page was open for too long, or your browser keeps no cookies for it. Nothing was done.";

/// RFC 6749 section 3.1.
#[handler]
pub async fn authorize(request: &Request, engine: Data<&Arc<Engine>>) -> Response {
    let Some(door) = Door::of(&engine) else { return StatusCode::NOT_FOUND.into_response() };
    let wanted = match door.wanted(request.uri().query().unwrap_or_default()).await {
        Ok(wanted) => wanted,
        Err(refusal) => return door.refused(refusal).await,
    };
    let session = match door.session(request).await {
        Ok(session) => session,
        Err(error) => return door.failed(&wanted, &error),
    };
    match (door.auth.authorize().next(&wanted, session.as_ref()).await, session) {
        (Ok(Next::Go(granted)), Some(session)) => door.issue(&wanted, granted, &session).await,
        (Ok(Next::Ask(scopes)), Some(session)) => door.consent_page(&wanted, &session, &scopes),
        (Ok(Next::Refuse(refusal)), _) => door.refused(refusal).await,
        (Ok(_), _) => door.login_page(request, &wanted, StatusCode::OK, "", None),
        (Err(error), _) => door.failed(&wanted, &error),
    }
}

/// The login form.
#[handler]
pub async fn log_in(
    request: &Request,
    body: Body,
    remote: &RemoteAddr,
    engine: Data<&Arc<Engine>>,
) -> Response {
    let Some(door) = Door::of(&engine) else { return StatusCode::NOT_FOUND.into_response() };
    let (fields, wanted) = match door.submitted(request, body).await {
        Ok(submitted) => submitted,
        Err(response) => return response,
    };
    let (logic, query) = (door.auth.authorize(), fields.get("request"));
    let visit = Cookie::Visit.read(request, door.auth.issuer()).map(SecretString::from);
    if !visit.is_some_and(|visit| logic.is_visit_token(&visit, query, fields.get("form_token"))) {
        // Another tab may have logged in meanwhile; asking again where the user stands harms nobody.
        return match door.session(request).await {
            Ok(Some(_)) => redirect(&door.address_of(&wanted.to_query())),
            _ => door.login_page(request, &wanted, StatusCode::FORBIDDEN, "", Some(STALE_FORM)),
        };
    }
    let username = fields.get("username");
    let remote = remote.as_socket_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    let before = Cookie::Session.read(request, door.auth.issuer());
    let password = SecretString::from(fields.get("password"));
    match logic.log_in(username, &password, remote, before).await {
        Ok((user, secret)) => {
            let event = door.event("log_in", &wanted, user.user_id.as_str());
            if let Err(response) = door.record(&event).await {
                return response;
            }
            let mut response = redirect(&door.address_of(&wanted.to_query_after_login()));
            Cookie::Session.set(&mut response, door.auth.issuer(), &secret);
            Cookie::Visit.clear(&mut response, door.auth.issuer());
            response
        }
        Err(error) => door.login_failed(request, &wanted, username, &error).await,
    }
}

/// The consent form.
#[handler]
pub async fn consent(request: &Request, body: Body, engine: Data<&Arc<Engine>>) -> Response {
    let Some(door) = Door::of(&engine) else { return StatusCode::NOT_FOUND.into_response() };
    let (fields, wanted) = match door.submitted(request, body).await {
        Ok(submitted) => submitted,
        Err(response) => return response,
    };
    let (logic, query) = (door.auth.authorize(), fields.get("request"));
    let session = match door.session(request).await {
        Ok(Some(session)) => session,
        Ok(None) => return redirect(&door.address_of(&wanted.to_query())),
        Err(error) => return door.failed(&wanted, &error),
    };
    let shown: ScopeSet = fields.get("shown").parse().unwrap_or_default();
    let token = fields.get("form_token");
    if !logic.is_session_token(&session, FormKind::Consent, query, &shown, token) {
        let again = door.address_of(&wanted.to_query());
        return message(StatusCode::FORBIDDEN, "Nothing was allowed", STALE_FORM, Some(&again));
    }
    let mut event = door.event("give_consent", &wanted, session.user.user_id.as_str());
    event.target = shown.to_string();
    match fields.get("decision") {
        "allow" => match logic.allow(&wanted, &session, &shown).await {
            Ok(Some(granted)) => match door.record(&event).await {
                Ok(()) => door.issue(&wanted, granted, &session).await,
                Err(response) => response,
            },
            Ok(None) => redirect(&door.address_of(&wanted.to_query())),
            Err(error) => door.failed(&wanted, &error),
        },
        "deny" => {
            (event.outcome, event.reason) = (Outcome::Denied, Some("access_denied"));
            match door.record(&event).await {
                Ok(()) => door.refused(logic.deny(&wanted)).await,
                Err(response) => response,
            }
        }
        _ => lost_page(StatusCode::BAD_REQUEST),
    }
}

/// Asks whether to log out.
#[handler]
pub async fn log_out_page(request: &Request, engine: Data<&Arc<Engine>>) -> Response {
    let Some(door) = Door::of(&engine) else { return StatusCode::NOT_FOUND.into_response() };
    match door.session(request).await {
        Ok(Some(session)) => {
            let none = ScopeSet::default();
            let token = door.auth.authorize().session_token(&session, FormKind::LogOut, "", &none);
            let action = door.auth.issuer().local_path(LOGOUT_PATH);
            let form = FormParts { action: &action, query: "", token: &token };
            browser::html(StatusCode::OK, pages::log_out(&session.user, &form), None)
        }
        Ok(None) => message(StatusCode::OK, "Not logged in", "There is nothing to log out of.", None),
        Err(error) => unavailable(&error),
    }
}

/// The logout form. With a request in it, the user goes on to log in as somebody else.
#[handler]
pub async fn log_out(request: &Request, body: Body, engine: Data<&Arc<Engine>>) -> Response {
    let Some(door) = Door::of(&engine) else { return StatusCode::NOT_FOUND.into_response() };
    let fields = match door.form(request, body).await {
        Ok(fields) => fields,
        Err(response) => return response,
    };
    let query = fields.get("request");
    let wanted = match query {
        "" => None,
        query => match door.wanted(query).await {
            Ok(wanted) => Some(wanted),
            Err(_) => return lost_page(StatusCode::BAD_REQUEST),
        },
    };
    match door.session(request).await {
        Ok(Some(session)) => {
            let (logic, none) = (door.auth.authorize(), ScopeSet::default());
            let token = fields.get("form_token");
            if !logic.is_session_token(&session, FormKind::LogOut, query, &none, token) {
                let again = door.auth.issuer().local_path(LOGOUT_PATH);
                return message(StatusCode::FORBIDDEN, "You are still logged in", STALE_FORM, Some(&again));
            }
            let event = door.event_of("log_out", session.user.user_id.as_str());
            if let Err(error) = logic.log_out(&session).await {
                return unavailable(&error);
            }
            if let Err(response) = door.record(&event).await {
                return response;
            }
        }
        Ok(None) => {}
        Err(error) => return unavailable(&error),
    }
    let mut response = match wanted {
        Some(wanted) => redirect(&door.address_of(&wanted.to_query())),
        None => message(StatusCode::OK, "Logged out", "You are logged out of this browser.", None),
    };
    Cookie::Session.clear(&mut response, door.auth.issuer());
    response
}

/// Somebody opens the address of a form.
#[handler]
pub fn lost() -> Response {
    lost_page(StatusCode::METHOD_NOT_ALLOWED)
}
