//! Where an answer's redirect may lead, and what goes along. Pure.
//!
//! R1 only to the same origin, to https of the same host, or to a host that the action file lists.
//! R2 never from https to http. R3 credentials go along only where scheme, host and port stay.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use url::Url;

use super::host_text;

/// The longest chain that is followed.
pub const MAX_REDIRECTS: usize = 5;

/// A redirect that may be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    pub url: Url,
    pub method: Method,
    /// Whether the body is sent again.
    pub keep_body: bool,
    /// Whether scheme, host and port are those of the request that was redirected.
    pub same_origin: bool,
}

/// Whether the status is one whose Location is followed.
pub fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// What follows from a redirecting answer; the error says why not.
pub fn next_hop(
    from: &Url,
    method: &Method,
    status: StatusCode,
    location: &str,
    allow_redirect_hosts: &BTreeSet<String>,
) -> Result<NextHop, String> {
    let mut url = from.join(location).map_err(|_| "its Location is not a URL".to_owned())?;
    url.set_fragment(None);
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}` is not http", url.scheme()));
    }
    if from.scheme() == "https" && url.scheme() == "http" {
        return Err("it leads from https to http".to_owned());
    }
    let same_origin = from.origin() == url.origin();
    if !same_origin && !is_upgrade(from, &url) && !is_listed(&url, allow_redirect_hosts) {
        return Err(
            "it leads to another host; if that is meant, add it to allow_redirect_hosts in the action file"
                .to_owned(),
        );
    }
    // RFC 9110, section 15.4: 303 always becomes GET; 301 and 302 make a POST a GET by custom.
    let becomes_get = match status.as_u16() {
        303 => *method != Method::HEAD,
        301 | 302 => *method == Method::POST,
        _ => false,
    };
    let method = if becomes_get { Method::GET } else { method.clone() };
    Ok(NextHop { url, method, keep_body: !becomes_get, same_origin })
}

/// From http on its own port to https of the same host on its own.
fn is_upgrade(from: &Url, to: &Url) -> bool {
    from.scheme() == "http"
        && to.scheme() == "https"
        && from.host() == to.host()
        && from.port().is_none()
        && to.port().is_none()
}

/// `host` lists the scheme's own port alone; `host:port` that port.
fn is_listed(url: &Url, allow_redirect_hosts: &BTreeSet<String>) -> bool {
    let host = host_text(url);
    match url.port() {
        None => allow_redirect_hosts.contains(&host),
        Some(port) => allow_redirect_hosts.contains(&format!("{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(from: &str, method: Method, status: u16, location: &str) -> Result<NextHop, String> {
        let listed = ["cdn.example.org".to_owned(), "127.0.0.1:9000".to_owned()].into();
        next_hop(
            &Url::parse(from).unwrap(),
            &method,
            StatusCode::from_u16(status).unwrap(),
            location,
            &listed,
        )
    }

    #[test]
    fn only_the_same_origin_an_upgrade_or_a_listed_host_is_followed() {
        let from = "https://api.example.org/a";
        assert!(hop(from, Method::GET, 302, "/b").unwrap().same_origin);
        assert!(!hop(from, Method::GET, 302, "https://cdn.example.org/x").unwrap().same_origin);
        assert!(
            !hop("http://api.example.org/a", Method::GET, 301, "https://api.example.org/a")
                .unwrap()
                .same_origin
        );
        assert!(hop("http://127.0.0.1:80/a", Method::GET, 302, "http://127.0.0.1:9000/").is_ok());
        for bad in [
            "http://api.example.org/a",
            "https://api.example.org:8443/",
            "https://evil.example/",
            "//evil.example/",
            "http://169.254.169.254/",
            "file:///etc/passwd",
            "https://cdn.example.org:81/",
            "https://api.example.org.evil.example/",
            "https://api.example.org@evil.example/",
        ] {
            assert!(hop(from, Method::GET, 302, bad).is_err(), "{bad}");
        }
        assert!(hop("http://127.0.0.1:80/a", Method::GET, 302, "http://127.0.0.1:6379/").is_err());
    }

    #[test]
    fn methods_change_as_the_rfc_says() {
        for (status, method, expected, keep_body) in [
            (303, Method::PUT, Method::GET, false),
            (303, Method::HEAD, Method::HEAD, true),
            (302, Method::POST, Method::GET, false),
            (302, Method::PUT, Method::PUT, true),
            (307, Method::POST, Method::POST, true),
            (308, Method::DELETE, Method::DELETE, true),
        ] {
            let hop = hop("https://api.example.org/a", method, status, "/b").unwrap();
            assert_eq!((hop.method, hop.keep_body), (expected, keep_body), "{status}");
        }
    }
}
