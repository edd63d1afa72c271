//! What goes between us and a browser besides pages: cookies, forms, and the headers that keep both safe.
//!
//! W1 every answer forbids scripts, frames, caching and referrers.
//! W2 a form counts only if the browser does not say that it comes from elsewhere, and then only with its token.

use percent_encoding::{CONTROLS, utf8_percent_encode};
use poem::http::{HeaderMap, HeaderValue, StatusCode, header};
use poem::{Request, Response};
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded;

use super::pages::STYLE_SOURCE;
use crate::auth::Issuer;

/// Most bytes of a form: a request of 8 KB, percent-encoded, and the fields of the page.
const MAX_FORM_BYTES: usize = 40 * 1024;
/// Most fields of a form.
const MAX_FORM_FIELDS: usize = 16;

/// Which cookie.
#[derive(Debug, Clone, Copy)]
pub enum Cookie {
    /// Of somebody who is logged in.
    Session,
    /// Of somebody who is about to be.
    Visit,
}

impl Cookie {
    /// `__Host-` ties a cookie to this very host over https, so that no neighbour can plant one; browsers take it only with
    /// Secure, hence not over http.
    fn name(self, issuer: &Issuer) -> &'static str {
        match (self, issuer.is_https()) {
            (Self::Session, true) => "__Host-steward_session",
            (Self::Session, false) => "steward_session",
            (Self::Visit, true) => "__Host-steward_visit",
            (Self::Visit, false) => "steward_visit",
        }
    }

    /// The cookie's value. None as well if there are two of the name: one of them is planted.
    pub fn read<'a>(self, request: &'a Request, issuer: &Issuer) -> Option<&'a str> {
        read_cookie(request.headers(), self.name(issuer))
    }

    /// Gives the browser a value, until it is closed.
    pub fn set(self, response: &mut Response, issuer: &Issuer, value: &SecretString) {
        self.write(response, issuer, value.expose_secret(), "");
    }

    /// Takes the value away.
    pub fn clear(self, response: &mut Response, issuer: &Issuer) {
        self.write(response, issuer, "", "; Max-Age=0");
    }

    fn write(self, response: &mut Response, issuer: &Issuer, value: &str, rest: &str) {
        let secure = if issuer.is_https() { "; Secure" } else { "" };
        let text = format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{rest}", self.name(issuer));
        if let Ok(mut header) = HeaderValue::from_str(&text) {
            header.set_sensitive(true);
            response.headers_mut().append(header::SET_COOKIE, header);
        }
    }
}

fn read_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(other, _)| *other == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

/// Whether the browser says that a page of another origin sent the form (W2). Pages of ours send `Origin: null`, since they
/// send no referrer; a browser that tells less is held to the form's token alone.
pub fn is_foreign(request: &Request, issuer: &Issuer) -> bool {
    let text = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text("sec-fetch-site") {
        // `none` is the user's own doing, such as reloading the page.
        return !matches!(site, "same-origin" | "none");
    }
    match text("origin") {
        None | Some("null") => false,
        Some(origin) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            origin != issuer.origin() && host != text("host")
        }
    }
}

/// The fields of a form, each at most once.
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a body; `None` if it is none of ours.
    pub fn parse(content_type: Option<&str>, body: &[u8]) -> Option<Self> {
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
            || body.len() > MAX_FORM_BYTES
        {
            return None;
        }
        let fields: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
        let doubled = fields
            .iter()
            .enumerate()
            .any(|(index, (name, _))| fields[..index].iter().any(|(earlier, _)| earlier == name));
        (!doubled && fields.len() <= MAX_FORM_FIELDS).then_some(Self(fields))
    }

    /// A field's value; empty if it is absent.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }
}

/// A page. `destination` is where its forms may end up besides here: Chrome holds the redirect after a form to it.
pub fn html(status: StatusCode, page: String, destination: Option<&str>) -> Response {
    let mut response = Response::builder().status(status).content_type("text/html; charset=utf-8").body(page);
    protect(&mut response, destination);
    response
}

/// Sends the browser on with GET, whatever it came with.
pub fn redirect(uri: &str) -> Response {
    let mut response = Response::builder().status(StatusCode::SEE_OTHER).finish();
    // Registered URIs may hold letters beyond ASCII; a header may not.
    let uri = utf8_percent_encode(uri, CONTROLS).to_string();
    let uri = HeaderValue::try_from(uri).expect("what is left is printable ASCII");
    response.headers_mut().insert(header::LOCATION, uri);
    protect(&mut response, None);
    response
}

fn protect(response: &mut Response, destination: Option<&str>) {
    let safe = |source: &&str| {
        source.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+' | b':' | b'/'))
    };
    let destination = destination.filter(safe).map(|source| format!(" {source}")).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src {}; form-action 'self'{destination}; frame-ancestors 'none'; base-uri 'none'",
        STYLE_SOURCE.as_str()
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::PRAGMA, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&str]) -> HeaderMap {
        let pairs = cookies.iter().map(|text| (header::COOKIE, HeaderValue::from_str(text).unwrap()));
        pairs.collect()
    }

    #[test]
    fn a_cookie_is_read_by_its_whole_name_and_only_if_there_is_one() {
        let read = |cookies: &[&str]| read_cookie(&headers(cookies), "s").map(str::to_owned);
        assert_eq!(read(&["a=1; s=2;xs=3"]).as_deref(), Some("2"));
        assert_eq!(read(&["a=1"]), None);
        assert_eq!(read(&["S=1; ss=2"]), None);
        assert_eq!(read(&["s=1; s=2"]), None, "two of a name");
        assert_eq!(read(&["s=1", "s=1"]), None);
    }

    fn posted(headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.finish()
    }

    #[test]
    fn a_form_from_elsewhere_is_known_by_what_the_browser_says() {
        let issuer: Issuer = "https://steward.example".parse().unwrap();
        let foreign = |headers: &[(&str, &str)]| is_foreign(&posted(headers), &issuer);
        for ours in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "https://steward.example")],
            &[("origin", "null"), ("sec-fetch-site", "same-origin")],
            &[("origin", "http://10.0.0.1:8080"), ("host", "10.0.0.1:8080")],
        ] {
            assert!(!foreign(ours), "{ours:?}");
        }
        for theirs in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site"), ("origin", "https://steward.example")],
            &[("origin", "null"), ("sec-fetch-site", "cross-site")],
            &[("origin", "https://evil.example"), ("host", "steward.example")],
            &[("origin", "https://steward.example.evil.example")],
            &[("origin", "http://steward.example")],
        ] {
            assert!(foreign(theirs), "{theirs:?}");
        }
    }

    #[test]
    fn a_form_has_each_field_once() {
        let urlencoded = Some("application/x-www-form-urlencoded; charset=utf-8");
        let fields = Fields::parse(urlencoded, b"a=1&b=%3C").unwrap();
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("c")), ("1", "<", ""));
        assert!(Fields::parse(urlencoded, b"a=1&a=1").is_none());
        assert!(Fields::parse(Some("text/plain"), b"a=1").is_none());
        assert!(Fields::parse(None, b"a=1").is_none());
        assert!(Fields::parse(urlencoded, &vec![b'a'; MAX_FORM_BYTES + 1]).is_none());
    }
}
