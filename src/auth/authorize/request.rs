//! The authorization request (RFC 6749 section 4.1.1, with OAuth 2.1's rules), checked in the order that keeps it safe.
//!
//! Knows clients and parameters; does not know who is asking.
//! Q1 nothing is sent to a redirect URI before client and URI are known to belong together; errors until then are for
//!    the person at the browser, later ones for the client.
//! Q2 code with PKCE by S256 is the one response that there is.
//! Q3 a request that has been checked can be written down as text and checked again: what travels through pages is
//!    that text, bound to its form.

use url::form_urlencoded;

use super::redirect;
use crate::auth::client::{Client, GrantType};
use crate::auth::form::Form;
use crate::auth::oauth_error::{OAuthError, OAuthErrorCode};
use crate::auth::opaque::VALUE_CHARACTERS;
use crate::auth::scope::ScopeSet;

/// Longest request, written as the query of a URL.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// Longest `state`.
const MAX_STATE_BYTES: usize = 2 * 1024;

/// Why a request gets no answer of the kind that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// For the person at the browser: there is nobody who could safely be told (Q1).
    Page(OAuthError),
    /// For the client: send the browser there.
    Redirect { uri: String, error: OAuthErrorCode, client_id: String },
}

/// What the client wants the user to be asked (OpenID Connect Core section 3.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prompt {
    /// Nothing; rather fail.
    pub none: bool,
    /// The password, even if the user is logged in.
    pub login: bool,
    /// For consent, even if it was given.
    pub consent: bool,
}

/// A request whose client and redirect URI belong together, and which can be granted as far as the client is concerned.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthorizationRequest {
    pub client: Client,
    /// The scopes that it asks for, all of which the client is registered for.
    pub scopes: ScopeSet,
    pub prompt: Prompt,
    /// Where the answer goes.
    pub(super) redirect_uri: String,
    /// Whether the request named it, and the token request must therefore do so too.
    pub(super) names_redirect_uri: bool,
    pub(super) state: Option<String>,
    pub(super) resource: String,
    pub(super) code_challenge: String,
    fields: Vec<(String, String)>,
}

/// Client and redirect URI, known to belong together; errors can go there from now on.
pub(super) struct Recipient {
    client: Client,
    redirect_uri: String,
    names_redirect_uri: bool,
    state: Option<String>,
}

impl Recipient {
    /// Checks what must hold before anything is sent anywhere (Q1).
    pub(super) fn check(
        fields: &[(String, String)],
        client: impl Fn(&str) -> Option<Client>,
    ) -> Result<Self, Refusal> {
        let refuse = |text: &str| Err(Refusal::Page(OAuthError::new(OAuthErrorCode::InvalidRequest, text)));
        if encode(fields).len() > MAX_REQUEST_BYTES {
            return refuse("the request is too long; 8 KB is the most that it may take");
        }
        let Ok(client_id) = single(fields, "client_id") else {
            return refuse("client_id appears more than once");
        };
        let Some(client) = client_id.and_then(client).filter(|client| client.disabled_at_ms.is_none()) else {
            return refuse("there is no such client; check client_id, or ask whoever runs this service");
        };
        let given = match single(fields, "redirect_uri") {
            Ok(given) => given,
            Err(()) => return refuse("redirect_uri appears more than once"),
        };
        let redirect_uri = match (given, &client.redirect_uris[..]) {
            (Some(given), registered) if redirect::is_registered(given, registered) => given.to_owned(),
            (Some(_), _) => {
                return refuse("redirect_uri is not one that the client is registered for, to the letter");
            }
            (None, [only]) => only.clone(),
            (None, _) => return refuse("redirect_uri is missing, and the client has not exactly one"),
        };
        let state = single(fields, "state").ok().flatten().filter(|state| is_state(state));
        Ok(Self {
            client,
            redirect_uri,
            names_redirect_uri: given.is_some(),
            state: state.map(str::to_owned),
        })
    }

    /// Checks everything else. Errors go to the client (RFC 6749 section 4.1.2.1, RFC 9207).
    pub(super) fn accept(
        self,
        fields: &[(String, String)],
        issuer: &str,
        check_resource: impl Fn(&Form<'_>) -> Result<Option<String>, OAuthError>,
    ) -> Result<AuthorizationRequest, Refusal> {
        let (scopes, prompt, resource, code_challenge) =
            self.read(fields, check_resource).map_err(|error| {
                refusal(&self.redirect_uri, self.state.as_deref(), issuer, &self.client, &error)
            })?;
        Ok(AuthorizationRequest {
            client: self.client,
            scopes,
            prompt,
            redirect_uri: self.redirect_uri,
            names_redirect_uri: self.names_redirect_uri,
            state: self.state,
            resource,
            code_challenge,
            fields: fields.to_vec(),
        })
    }

    fn read(
        &self,
        fields: &[(String, String)],
        check_resource: impl Fn(&Form<'_>) -> Result<Option<String>, OAuthError>,
    ) -> Result<(ScopeSet, Prompt, String, String), OAuthError> {
        let invalid = |text: &str| OAuthError::new(OAuthErrorCode::InvalidRequest, text);
        let form = Form::parse(fields)?;
        if form.get("state").is_some() && self.state.is_none() {
            return Err(invalid("state is not readable text of 2 KB at most"));
        }
        if !self.client.grant_types.contains(&GrantType::AuthorizationCode) {
            let text = "this client is not registered for the grant authorization_code";
            return Err(OAuthError::new(OAuthErrorCode::UnauthorizedClient, text));
        }
        if form.require("response_type")? != "code" {
            let text = "the only response_type is code";
            return Err(OAuthError::new(OAuthErrorCode::UnsupportedResponseType, text));
        }
        if form.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(invalid("the only response_mode is query"));
        }
        if form.get("request").is_some() || form.get("request_uri").is_some() {
            return Err(invalid("request objects are not taken; send the parameters themselves"));
        }
        let challenge = form.get("code_challenge").ok_or_else(|| {
            invalid("code_challenge is missing: PKCE (RFC 7636) is required of every client")
        })?;
        // Without a method it would be plain (RFC 7636 section 4.3).
        if form.get("code_challenge_method") != Some("S256") {
            return Err(invalid("code_challenge_method must be S256"));
        }
        let is_challenge = challenge.len() == VALUE_CHARACTERS
            && challenge.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !is_challenge {
            return Err(invalid("code_challenge is not a SHA-256 in base64url without padding"));
        }
        let mut prompt = Prompt::default();
        for word in form.get("prompt").unwrap_or_default().split(' ').filter(|word| !word.is_empty()) {
            match word {
                "none" => prompt.none = true,
                "login" => prompt.login = true,
                "consent" => prompt.consent = true,
                _ => return Err(invalid("prompt is none, or of login and consent")),
            }
        }
        if prompt.none && (prompt.login || prompt.consent) {
            return Err(invalid("prompt=none goes with no other"));
        }
        let resource = check_resource(&form)?.unwrap_or_default();
        let requested: ScopeSet = form.get("scope").unwrap_or_default().parse()?;
        let scopes = if requested.is_empty() {
            self.client.scopes.clone()
        } else {
            requested.check_grantable()?;
            self.client.scopes.narrow(&requested)?
        };
        Ok((scopes, prompt, resource, challenge.to_owned()))
    }
}

impl AuthorizationRequest {
    /// The request as the query of a URL (Q3).
    pub fn to_query(&self) -> String {
        encode(&self.fields)
    }

    /// The same for a user that has just shown the password: it is not asked for once more.
    pub fn to_query_after_login(&self) -> String {
        let mut fields = self.fields.clone();
        for (_, value) in fields.iter_mut().filter(|(name, _)| name == "prompt") {
            *value = value.split(' ').filter(|word| *word != "login").collect::<Vec<_>>().join(" ");
        }
        encode(&fields)
    }

    /// Whom the user is sent to, for people.
    pub fn destination(&self) -> String {
        redirect::destination(&self.redirect_uri)
    }

    /// What a Content-Security-Policy must let forms end up at.
    pub fn policy_source(&self) -> Option<String> {
        redirect::policy_source(&self.redirect_uri)
    }

    /// Whether the redirect goes where nobody but the registered client can take it: to an https address, whose name only
    /// its owner can have.
    pub fn redirect_is_proven(&self) -> bool {
        self.redirect_uri.starts_with("https://")
    }

    pub(super) fn refuse(&self, issuer: &str, error: &OAuthError) -> Refusal {
        refusal(&self.redirect_uri, self.state.as_deref(), issuer, &self.client, error)
    }

    /// The answer with the code.
    pub(super) fn answer(&self, issuer: &str, code: &str) -> String {
        let mut parameters = vec![("code", code)];
        parameters.extend(self.state.as_deref().map(|state| ("state", state)));
        parameters.push(("iss", issuer));
        redirect::with_parameters(&self.redirect_uri, &parameters)
    }
}

fn refusal(uri: &str, state: Option<&str>, issuer: &str, client: &Client, error: &OAuthError) -> Refusal {
    let mut parameters =
        vec![("error", error.error.as_str()), ("error_description", error.error_description.as_str())];
    parameters.extend(state.map(|state| ("state", state)));
    parameters.push(("iss", issuer));
    Refusal::Redirect {
        uri: redirect::with_parameters(uri, &parameters),
        error: error.error,
        client_id: client.client_id.to_string(),
    }
}

/// The one value of a parameter; an error if there are several. Empty ones count as absent.
fn single<'a>(fields: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(()),
        (value, None) => Ok(value.filter(|value| !value.is_empty())),
    }
}

/// A replacement character is what is left of bytes that were no UTF-8: the client would get back something else.
fn is_state(state: &str) -> bool {
    state.len() <= MAX_STATE_BYTES
        && !state.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)
}

fn encode(fields: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}
