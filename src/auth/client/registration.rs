//! What a client is registered for: how it authenticates, which grants it may use, where its users are sent back.
//!
//! Pure. The names are those of the IANA registries behind RFC 7591.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::{ClientError, NewClient};
use crate::auth::keys::PublicKeys;

/// Most redirect URIs of a client.
pub const MAX_REDIRECT_URIS: usize = 16;
/// Longest redirect URI.
const MAX_REDIRECT_URI_BYTES: usize = 512;

/// A way to an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GrantType {
    /// RFC 6749 section 4.4.
    #[serde(rename = "client_credentials")]
    ClientCredentials,
    /// RFC 6749 section 4.1, always with PKCE (RFC 7636).
    #[serde(rename = "authorization_code")]
    AuthorizationCode,
    /// RFC 6749 section 6.
    #[serde(rename = "refresh_token")]
    RefreshToken,
    /// RFC 8693.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange")]
    TokenExchange,
    /// RFC 6749 section 4.3, for clients of the old kind.
    #[serde(rename = "password")]
    Password,
}

impl GrantType {
    /// All of them, in the order of the documents.
    pub const ALL: &'static [Self] = &[
        Self::ClientCredentials,
        Self::AuthorizationCode,
        Self::RefreshToken,
        Self::TokenExchange,
        Self::Password,
    ];

    /// The value of the parameter `grant_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
            Self::Password => "password",
        }
    }
}

impl fmt::Display for GrantType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for GrantType {
    type Err = ClientError;

    /// Takes `token_exchange` for the long name as well.
    fn from_str(text: &str) -> Result<Self, ClientError> {
        let short = if text == "token_exchange" { Self::TokenExchange.as_str() } else { text };
        let found = Self::ALL.iter().copied().find(|grant| grant.as_str() == short);
        found.ok_or_else(|| ClientError::UnknownGrantType { given: text.escape_debug().to_string() })
    }
}

/// How a client shows that it is the one that was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthentication {
    /// With a secret: `client_secret_basic` or `client_secret_post`.
    #[default]
    ClientSecret,
    /// With a signed assertion (RFC 7523): the key never leaves the client.
    PrivateKeyJwt,
    /// Not at all: a public client, such as an app on a phone, which can keep no secret (RFC 6749 section 2.1).
    None,
}

impl ClientAuthentication {
    /// As the database, the configuration and the documents spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecret => "client_secret",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::None => "none",
        }
    }
}

impl FromStr for ClientAuthentication {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        [Self::ClientSecret, Self::PrivateKeyJwt, Self::None]
            .into_iter()
            .find(|way| way.as_str() == text)
            .ok_or_else(|| ClientError::UnknownAuthentication { given: text.escape_debug().to_string() })
    }
}

/// Grants by default: tokens of its own.
pub(super) fn default_grant_types() -> BTreeSet<GrantType> {
    BTreeSet::from([GrantType::ClientCredentials])
}

/// Refuses what does not hold together, or would be unsafe.
pub(super) fn check(new: &NewClient) -> Result<(), ClientError> {
    let refuse = |reason| Err(ClientError::BadRegistration { reason });
    let may = |grant| new.grant_types.contains(&grant);
    if new.grant_types.is_empty() {
        return refuse("a client needs one grant type at least, such as client_credentials");
    }
    if new.redirect_uris.len() > MAX_REDIRECT_URIS {
        return refuse("at most 16 redirect URIs are allowed");
    }
    new.redirect_uris.iter().try_for_each(|uri| check_redirect_uri(uri))?;
    if may(GrantType::AuthorizationCode) && new.redirect_uris.is_empty() {
        return refuse("authorization_code needs a redirect URI");
    }
    if may(GrantType::RefreshToken) && !may(GrantType::AuthorizationCode) && !may(GrantType::Password) {
        return refuse("refresh_token needs authorization_code or password, which give refresh tokens");
    }
    if new.authentication == ClientAuthentication::None {
        if may(GrantType::ClientCredentials) || may(GrantType::TokenExchange) {
            return refuse("a client without authentication cannot use client_credentials or token_exchange");
        }
        if !new.audiences.is_empty() {
            return refuse("a client without authentication cannot introspect tokens");
        }
    }
    let jwks = new.jwks.as_deref().filter(|jwks| !jwks.is_empty());
    if let Some(jwks) = jwks {
        PublicKeys::parse(jwks)?;
    }
    if jwks.is_some() != (new.authentication == ClientAuthentication::PrivateKeyJwt) {
        return refuse("private_key_jwt needs the client's public keys (jwks), and only it takes them");
    }
    for audience in &new.audiences {
        if !Url::parse(audience).is_ok_and(|url| url.fragment().is_none()) || audience.contains(' ') {
            return refuse("an audience is an absolute URI without fragment (RFC 8707 section 2)");
        }
    }
    Ok(())
}

/// Refuses what must not be redirected to. Compared later by exact text (RFC 9700 section 2.1), but for the port of a
/// loopback address (RFC 8252 section 7.3).
pub fn check_redirect_uri(text: &str) -> Result<(), ClientError> {
    let refuse = |reason| {
        let shown: String = text.chars().take(100).collect();
        Err(ClientError::BadRedirectUri { uri: shown.escape_debug().to_string(), reason })
    };
    if text.len() > MAX_REDIRECT_URI_BYTES || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse("it may hold neither spaces nor control characters, and 512 bytes at most");
    }
    let Ok(url) = Url::parse(text) else {
        return refuse("it must be an absolute URI such as https://app.example/callback");
    };
    if text.contains('#') {
        return refuse("it may have no fragment (RFC 6749 section 3.1.2)");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("it may name no user");
    }
    match url.scheme() {
        "https" if url.host().is_some() => Ok(()),
        "http" if is_loopback(&url) => Ok(()),
        "http" => refuse("http is allowed only to 127.0.0.1, [::1] and localhost; use https"),
        // RFC 8252 section 7.1: a private-use scheme is a reversed domain name, so it has a dot.
        scheme if scheme.contains('.') => Ok(()),
        _ => refuse(
            "its scheme must be https, http to a loopback address, or an app's own such as com.example.app",
        ),
    }
}

/// Whether the host is this machine, whatever it is called.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_keep_a_code_safe_can_be_registered() {
        for good in [
            "https://app.example/cb?tenant=1",
            "http://127.0.0.1/cb",
            "http://[::1]:9000/cb",
            "http://localhost:3000/cb",
            "com.example.app:/cb",
        ] {
            check_redirect_uri(good).unwrap();
        }
        for (bad, reason) in [
            ("http://app.example/cb", "use https"),
            ("http://127.0.0.1.evil.example/cb", "use https"),
            ("https://app.example/cb#x", "fragment"),
            ("https://app.example/cb#", "fragment"),
            ("https://user@app.example/cb", "no user"),
            ("javascript:alert(1)", "scheme"),
            ("data:text/html,x", "scheme"),
            ("/cb", "absolute"),
            ("https://app.example/a b", "spaces"),
            ("https://app.example/\u{85}", "spaces"),
        ] {
            let error = check_redirect_uri(bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
        }
        assert!(check_redirect_uri(&format!("https://a.example/{}", "x".repeat(600))).is_err());
    }

    #[test]
    fn names_lead_back() {
        for grant in GrantType::ALL {
            assert_eq!(grant.as_str().parse::<GrantType>().unwrap(), *grant);
            assert_eq!(serde_json::to_value(grant).unwrap(), grant.as_str());
        }
        assert_eq!("token_exchange".parse::<GrantType>().unwrap(), GrantType::TokenExchange);
        assert!("implicit".parse::<GrantType>().unwrap_err().to_string().contains("client_credentials"));
    }
}
