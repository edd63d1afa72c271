//! What the commands that talk to a running service share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use url::{Host, Url};

use super::CliError;
use crate::config::Config;

/// Where the service of this configuration can be reached from this machine, without a slash at the end.
pub fn local_url(config: &Config) -> String {
    format!("http://{}", reachable(config.server.listen))
}

/// Nothing connects to "any address".
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Checks an address that a user gave; without a slash at the end.
pub fn base_url(text: &str) -> Result<String, CliError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match url {
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
        None => Err(CliError::Usage(format!(
            "`{text}` is no address of a service, such as http://127.0.0.1:8080"
        ))),
    }
}

/// A client for that service. A proxy of the environment is not asked for this machine's own addresses.
pub fn client(base_url: &str, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    let is_local = Url::parse(base_url).is_ok_and(|url| match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    });
    let builder = reqwest::Client::builder().timeout(timeout);
    let builder = if is_local { builder.no_proxy() } else { builder };
    builder.build()
}

/// The innermost reason of a failed request: the outer ones only repeat the address.
pub fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_on_any_address_is_reached_on_this_machine() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(at("[::]:80"), "[::1]:80");
        assert_eq!(at("10.0.0.7:8080"), "10.0.0.7:8080");
    }

    #[test]
    fn what_is_no_address_of_a_service_is_wrong_usage() {
        assert_eq!(base_url("https://steward.example.org/").unwrap(), "https://steward.example.org");
        for bad in ["127.0.0.1:8080", "file:///etc/passwd", "", "http://"] {
            assert_eq!(base_url(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
