//! Egress: where requests to external APIs may go. Knows nothing of APIs, credentials or documents.
//!
//! E1 every connection, also after a redirect and for tokens, goes to an address that was checked at that moment:
//!    the resolver that the HTTP client connects by is the check.
//! E2 no proxy of the environment, no cookie jar, no redirect is followed by the client itself.
//! E3 an inner address is reached only where the action file lists the host.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

pub mod address;
pub mod redirect;

use address::{NotPublic, classify};

/// Why a request may not go out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    #[error("`{0}` is not an http or https URL with a host")]
    NotHttp(String),
    #[error("`{0}` holds a user name or password; configure credentials in the action file instead")]
    UserInfo(String),
    #[error(
        "{host} is at {address}, {reason}; if that is meant, add the host to allow_hosts in the action file"
    )]
    NotPublic { host: String, address: IpAddr, reason: &'static str },
    #[error(
        "{host} is at {address}, {reason}; if that is meant, add the address itself to allow_hosts in the action file and use it in base_url"
    )]
    Special { host: String, address: IpAddr, reason: &'static str },
}

/// Turns a host name into addresses; injected, so that tests need no name server.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The system's resolver.
pub fn system_lookup() -> Lookup {
    Arc::new(|host| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// The host as `allow_hosts` lists it: lowercase, addresses without brackets.
pub fn host_text(url: &Url) -> String {
    match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string().to_ascii_lowercase(),
        None => String::new(),
    }
}

/// `host:port`, for messages and for whatever is counted by host.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("{host}:{}", url.port_or_known_default().unwrap_or(0))
}

/// Checks what can be seen of a URL without resolving it. Addresses in it count as resolved.
pub fn check_url(url: &Url, allow_hosts: &BTreeSet<String>) -> Result<(), EgressError> {
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(EgressError::NotHttp(authority(url)));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EgressError::UserInfo(authority(url)));
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        _ => return Ok(()),
    };
    match classify(address) {
        Some(why) if !allow_hosts.contains(&host_text(url)) => {
            Err(EgressError::NotPublic { host: host_text(url), address, reason: why.reason() })
        }
        _ => Ok(()),
    }
}

/// Checks the addresses of a name; one bad address spoils them all.
fn check_addresses(
    host: &str,
    addresses: &[IpAddr],
    allow_hosts: &BTreeSet<String>,
) -> Result<(), EgressError> {
    let listed = allow_hosts.contains(&host.to_ascii_lowercase());
    for &address in addresses {
        match classify(address) {
            Some(NotPublic::Private(reason)) if !listed => {
                return Err(EgressError::NotPublic { host: host.to_owned(), address, reason });
            }
            Some(NotPublic::Special(reason)) => {
                return Err(EgressError::Special { host: host.to_owned(), address, reason });
            }
            _ => {}
        }
    }
    Ok(())
}

struct CheckedResolver {
    allow_hosts: BTreeSet<String>,
    lookup: Lookup,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().trim_end_matches('.').to_owned();
        let allow_hosts = self.allow_hosts.clone();
        let found = (self.lookup)(host.clone());
        Box::pin(async move {
            let addresses = found.await?;
            check_addresses(&host, &addresses, &allow_hosts)?;
            if addresses.is_empty() {
                return Err(
                    std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address").into()
                );
            }
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

type ClientKey = (BTreeSet<String>, Duration);

/// HTTP clients, one for each set of rules, made at first use and kept, so that connections are reused.
pub struct Clients {
    lookup: Lookup,
    made: Mutex<HashMap<ClientKey, Client>>,
}

impl Clients {
    pub fn new(lookup: Lookup) -> Self {
        Self { lookup, made: Mutex::default() }
    }

    /// The client that keeps these rules. The first of its kind reads the system's certificates, off the runtime.
    pub async fn client(
        &self,
        allow_hosts: &BTreeSet<String>,
        connect_timeout: Duration,
    ) -> Result<Client, String> {
        let key = (allow_hosts.clone(), connect_timeout);
        if let Some(client) = self.made().get(&key) {
            return Ok(client.clone());
        }
        let resolver = CheckedResolver { allow_hosts: allow_hosts.clone(), lookup: self.lookup.clone() };
        let client = tokio::task::spawn_blocking(move || {
            Client::builder()
                .user_agent(concat!("steward/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(Arc::new(resolver))
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(connect_timeout)
                .build()
        })
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
        // Whoever was first wins, so that all share one pool of connections.
        Ok(self.made().entry(key).or_insert(client).clone())
    }

    fn made(&self) -> MutexGuard<'_, HashMap<ClientKey, Client>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The egress refusal inside an HTTP client's error, if that is what it is.
pub fn egress_refusal(error: &reqwest::Error) -> Option<EgressError> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(refusal) = error.downcast_ref::<EgressError>() {
            return Some(refusal.clone());
        }
        source = error.source();
    }
    None
}

/// The innermost cause of an HTTP client's error, without the URL, which may hold an API key.
pub fn root_cause(error: &reqwest::Error) -> String {
    let mut text = None;
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = source {
        text = Some(error.to_string());
        source = error.source();
    }
    text.unwrap_or_else(|| "the request failed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|host| (*host).to_owned()).collect()
    }

    #[test]
    fn addresses_in_urls_are_checked_however_they_are_written() {
        let none = hosts(&[]);
        for text in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest",
            "http://user:pw@example.org/",
        ] {
            assert!(check_url(&Url::parse(text).unwrap(), &none).is_err(), "{text}");
        }
        assert!(check_url(&Url::parse("ftp://example.org/").unwrap(), &none).is_err());
        assert!(check_url(&Url::parse("http://127.0.0.1:80/").unwrap(), &hosts(&["127.0.0.1"])).is_ok());
        assert!(check_url(&Url::parse("http://[::1]/").unwrap(), &hosts(&["::1"])).is_ok());
        assert!(
            check_url(&Url::parse("http://169.254.169.254/").unwrap(), &hosts(&["169.254.169.254"])).is_ok()
        );
    }

    #[test]
    fn a_listed_name_may_be_private_but_never_metadata() {
        let check = |address: &str, allow: &[&str]| {
            check_addresses(
                "api.internal",
                &["8.8.8.8".parse().unwrap(), address.parse().unwrap()],
                &hosts(allow),
            )
        };
        assert!(matches!(check("10.0.0.1", &[]), Err(EgressError::NotPublic { .. })));
        assert!(check("10.0.0.1", &["api.internal"]).is_ok());
        assert!(matches!(check("169.254.169.254", &["api.internal"]), Err(EgressError::Special { .. })));
    }
}
