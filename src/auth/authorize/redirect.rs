//! Where the browser may be sent back to: redirect URIs, compared and completed as texts.
//!
//! Pure. D1 a URI is good if it is a registered one to the byte (RFC 9700 section 2.1), but for the port of a loopback
//! address, which an app on the user's machine gets from its system when it starts (RFC 8252 section 7.3).
//! D2 a URI is never taken apart and put together again: what is redirected to is what was compared.

use url::{Host, Url, form_urlencoded};

use crate::auth::client::is_loopback;

/// Whether `given` is one of `registered` (D1).
pub(super) fn is_registered(given: &str, registered: &[String]) -> bool {
    registered.iter().any(|uri| uri == given || differs_by_loopback_port(given, uri))
}

fn differs_by_loopback_port(given: &str, registered: &str) -> bool {
    let (Some(given_parts), Some(parts)) = (loopback_parts(given), loopback_parts(registered)) else {
        return false;
    };
    // What the URL parser makes of it must be this machine as well: two readings are an attack.
    given_parts == parts
        && [given, registered].iter().all(|uri| Url::parse(uri).is_ok_and(|url| is_loopback(&url)))
}

/// Host and whatever follows the port of `http://host[:port]…`, if the host is one of the spellings of this machine.
fn loopback_parts(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let host = ["127.0.0.1", "[::1]", "localhost"].into_iter().find(|host| rest.starts_with(host))?;
    let rest = &rest[host.len()..];
    let Some(port) = rest.strip_prefix(':') else {
        return (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((host, rest));
    };
    let end = port.find(['/', '?']).unwrap_or(port.len());
    let (port, rest) = port.split_at(end);
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_port.then_some((host, rest))
}

/// The URI with these parameters added to its query (RFC 6749 section 4.1.2), which stays as it is (D2).
pub(super) fn with_parameters(uri: &str, parameters: &[(&str, &str)]) -> String {
    let added = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let separator = match uri.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{uri}{separator}{added}")
}

/// Whom the user is sent to, in words for people: a host, or an app on the device.
pub(super) fn destination(uri: &str) -> String {
    let Ok(url) = Url::parse(uri) else { return uri.to_owned() };
    match (url.scheme(), url.host_str()) {
        ("http", Some(host)) => format!("a program on this device ({host})"),
        (_, Some(host)) => match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        },
        (scheme, None) => format!("the app {scheme} on this device"),
    }
}

/// The source expression of a Content-Security-Policy that lets a form end up there. IPv6 addresses have none, so that
/// their scheme stands for them.
pub(super) fn policy_source(uri: &str) -> Option<String> {
    let url = Url::parse(uri).ok()?;
    match url.host() {
        Some(Host::Domain(_) | Host::Ipv4(_)) if matches!(url.scheme(), "http" | "https") => {
            Some(url.origin().ascii_serialization())
        }
        _ => Some(format!("{}:", url.scheme())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn almost_is_not_registered() {
        let registered = ["https://app.example/cb".to_owned(), "http://127.0.0.1:3000/cb?x=1".to_owned()];
        for uri in &registered {
            assert!(is_registered(uri, &registered));
        }
        for attack in [
            "https://app.example/cb/",
            "https://app.example/cb/../evil",
            "https://app.example/cb/%2e%2e/evil",
            "https://app.example/c%62",
            "https://app.example/CB",
            "https://APP.example/cb",
            "HTTPS://app.example/cb",
            "http://app.example/cb",
            "https://app.example:443/cb",
            "https://app.example:8443/cb",
            "https://app.example/cb#x",
            "https://app.example/cb?",
            "https://app.example/cb?next=https://evil.example",
            "https://app.example.evil.example/cb",
            "https://evil.example/https://app.example/cb",
            "https://app.example@evil.example/cb",
            "https://user@app.example/cb",
            "https://app.example\\@evil.example/cb",
            "https://app.example/cb ",
            "//app.example/cb",
            "/cb",
            "",
            "http://127.0.0.1:3000/cb",
            "http://127.0.0.1:3000/cb?x=2",
            "http://127.0.0.1:3000/cb?x=1#f",
            "http://127.0.0.1:70000/cb?x=1",
            "http://127.0.0.1:/cb?x=1",
            "http://127.0.0.1:+80/cb?x=1",
            "http://127.0.0.1:3000@evil.example/cb?x=1",
            "http://127.0.0.1@evil.example/cb?x=1",
            "http://127.0.0.1.evil.example/cb?x=1",
            "http://127.0.0.1\\@evil.example/cb?x=1",
            "http://127.0.0.2:3000/cb?x=1",
            "http://localhost:3000/cb?x=1",
            "https://127.0.0.1:3000/cb?x=1",
        ] {
            assert!(!is_registered(attack, &registered), "{attack}");
        }
    }

    #[test]
    fn only_the_port_of_a_loopback_address_is_free() {
        let registered = [
            "http://127.0.0.1/cb".to_owned(),
            "http://[::1]:1/cb".to_owned(),
            "http://localhost:1/".to_owned(),
        ];
        for good in ["http://127.0.0.1:49152/cb", "http://[::1]/cb", "http://localhost:8/"] {
            assert!(is_registered(good, &registered), "{good}");
        }
    }

    #[test]
    fn parameters_join_a_query_and_are_encoded() {
        let add = |uri| with_parameters(uri, &[("code", "a"), ("state", "x&y=z #é")]);
        let encoded = "code=a&state=x%26y%3Dz+%23%C3%A9";
        assert_eq!(add("https://a.example/cb"), format!("https://a.example/cb?{encoded}"));
        assert_eq!(add("https://a.example/cb?t=%20"), format!("https://a.example/cb?t=%20&{encoded}"));
        assert_eq!(add("com.example.app:/cb"), format!("com.example.app:/cb?{encoded}"));
    }

    #[test]
    fn policy_sources_are_origins_or_schemes() {
        for (uri, source) in [
            ("https://app.example:8443/cb", "https://app.example:8443"),
            ("http://127.0.0.1:5/cb", "http://127.0.0.1:5"),
            ("http://[::1]:5/cb", "http:"),
            ("com.example.app:/cb", "com.example.app:"),
        ] {
            assert_eq!(policy_source(uri).unwrap(), source);
        }
    }

    proptest! {
        #[test]
        fn what_passes_for_a_registered_loopback_address_is_this_machine(
            tail in "[:@/\\\\?#.%0-9a-z\\[\\]]{0,24}",
        ) {
            let given = format!("http://127.0.0.1{tail}");
            if is_registered(&given, &["http://127.0.0.1/cb".to_owned()]) {
                let url = Url::parse(&given).unwrap();
                prop_assert!(is_loopback(&url) && url.path() == "/cb" && url.query().is_none(), "{given}");
            }
        }
    }
}
