//! The OpenAPI document: what the handlers declare, and what depends on the configuration.
//!
//! P1 `/openapi.json` and the page at `/docs` show one document, but for the form of one address (see [`TokenUrl`]).
//! P2 every operation can be used with a token however it was got: by OAuth2, or as plain bearer.
//! P3 a media type is named without parameters: client generators look for `application/json`, and without it drop the
//!    body.

use poem::endpoint::make_sync;
use poem::web::Html;
use poem::{Endpoint, Route, get};
use serde_json::{Map, Value, json};

use super::Service;
use crate::auth::metadata::TOKEN_PATH;
use crate::auth::{Auth, GrantType};
use crate::engine::Engine;

/// The scheme that the handlers declare.
const OAUTH2: &str = "OAuth2";
/// The scheme beside it: a token got by other means.
const BEARER: &str = "HTTPBearer";

/// How the password flow's token address is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenUrl {
    /// `oauth/token`: clients of the old kind join the server's address, a slash and this.
    Joined,
    /// Whole: browsers resolve a relative address, which loses the last segment of a server's path.
    Whole,
}

/// The document as text.
pub(super) fn document(service: &Service, engine: &Engine, token_url: TokenUrl) -> String {
    let text = service.spec();
    let Ok(mut document) = serde_json::from_str::<Value>(&text) else { return text };
    complete(&mut document, engine.auth(), &engine.config().public_url(), token_url);
    serde_json::to_string_pretty(&document).unwrap_or(text)
}

/// The page that shows the document.
pub(super) fn page(service: &Service, engine: &Engine) -> impl Endpoint + use<> {
    // The page holds the declared document as it is; another takes its place.
    let shown = document(service, engine, TokenUrl::Whole);
    let html = service.swagger_ui_html().replacen(&service.spec(), &shown, 1);
    Route::new()
        .at("/", get(make_sync(move |_| Html(html.clone()))))
        .at("/oauth-receiver.html", service.swagger_ui())
}

fn complete(document: &mut Value, auth: Option<&Auth>, public_url: &str, token_url: TokenUrl) {
    if let Some(schemes) = document.pointer_mut("/components/securitySchemes").and_then(Value::as_object_mut)
    {
        let password = auth.is_some_and(|auth| auth.grants().grant_types().contains(&GrantType::Password));
        complete_schemes(schemes, password, public_url, token_url);
    }
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else { return };
    let operations = paths.values_mut().filter_map(Value::as_object_mut).flat_map(|item| item.values_mut());
    for security in operations.filter_map(|operation| operation.get_mut("security")?.as_array_mut()) {
        if security.iter().any(|way| way.get(OAUTH2).is_some()) {
            security.push(json!({ BEARER: [] }));
        }
    }
    paths.values_mut().for_each(bare_media_types);
}

/// Drops `; charset=utf-8` and the like from the names of media types, at whatever depth.
fn bare_media_types(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(content) = members.get_mut("content").and_then(Value::as_object_mut) {
                let named = std::mem::take(content).into_iter();
                *content = named
                    .map(|(name, media)| {
                        (name.split(';').next().unwrap_or_default().trim().to_owned(), media)
                    })
                    .collect();
            }
            members.values_mut().for_each(bare_media_types);
        }
        Value::Array(items) => items.iter_mut().for_each(bare_media_types),
        _ => {}
    }
}

fn complete_schemes(schemes: &mut Map<String, Value>, password: bool, public_url: &str, token_url: TokenUrl) {
    if let Some(flows) = schemes.get_mut(OAUTH2).and_then(|scheme| scheme["flows"].as_object_mut()) {
        for flow in flows.values_mut().filter_map(Value::as_object_mut) {
            for name in ["tokenUrl", "authorizationUrl", "refreshUrl"] {
                // Handlers do not know the service's address; OpenAPI 3.0 wants a URL.
                if let Some(url) = flow.get_mut(name)
                    && let Some(path) = url.as_str().filter(|path| path.starts_with('/'))
                {
                    *url = format!("{public_url}{path}").into();
                }
            }
        }
        if password {
            let scopes = flows.values().find_map(|flow| flow.get("scopes")).cloned().unwrap_or(json!({}));
            let address = match token_url {
                TokenUrl::Joined => TOKEN_PATH.trim_start_matches('/').to_owned(),
                TokenUrl::Whole => format!("{public_url}{TOKEN_PATH}"),
            };
            flows.insert("password".to_owned(), json!({"tokenUrl": address, "scopes": scopes}));
        }
    }
    schemes.insert(
        BEARER.to_owned(),
        json!({
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An access token of this service, however it was got.",
        }),
    );
}
