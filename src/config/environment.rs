//! What kind of deployment this is, and what follows from that.
//!
//! V1 deployed (`staging`, `production`), the service refuses to start where tokens would travel in the clear.
//! V2 what is merely unwise there is told at start, and served.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::{Config, ConfigError};

/// `ENVIRONMENT`: what kind of deployment this is. Read in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Environment {
    /// A developer's machine: nothing is demanded.
    #[default]
    Development,
    /// A test run: as development.
    Test,
    /// A rehearsal of production: as production.
    Staging,
    /// For real.
    Production,
}

/// A text that names no environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no environment `{given}`; ENVIRONMENT is one of development, test, staging, production")]
pub struct UnknownEnvironment {
    given: String,
}

impl Environment {
    pub const ALL: [Self; 4] = [Self::Development, Self::Test, Self::Staging, Self::Production];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Test => "test",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    /// Whether others than its developers use it: staging and production.
    pub fn is_deployed(self) -> bool {
        matches!(self, Self::Staging | Self::Production)
    }
}

impl FromStr for Environment {
    type Err = UnknownEnvironment;

    /// Blank is the default, as for a variable that a Compose file passes on unset.
    fn from_str(text: &str) -> Result<Self, UnknownEnvironment> {
        let name = text.trim();
        if name.is_empty() {
            return Ok(Self::default());
        }
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name)).ok_or_else(|| {
            UnknownEnvironment { given: name.chars().take(40).flat_map(char::escape_debug).collect() }
        })
    }
}

impl TryFrom<String> for Environment {
    type Error = UnknownEnvironment;

    fn try_from(text: String) -> Result<Self, UnknownEnvironment> {
        text.parse()
    }
}

impl From<Environment> for String {
    fn from(environment: Environment) -> Self {
        environment.as_str().to_owned()
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Config {
    /// Refuses what its environment does not allow (V1).
    pub fn check_environment(&self) -> Result<(), ConfigError> {
        let url = self.public_url();
        if !self.environment.is_deployed() || url.starts_with("https://") || is_loopback(&url) {
            return Ok(());
        }
        Err(ConfigError::InsecureIssuer { environment: self.environment, url })
    }

    /// What is unwise in its environment, and what to do about it (V2).
    pub fn hints(&self) -> Vec<String> {
        if !self.environment.is_deployed() {
            return Vec::new();
        }
        let mut hints = Vec::new();
        if self.database_url.is_postgres() {
            if self.auth.keys_dir.as_os_str().is_empty() && std::env::var_os("JWT_PRIVATE_KEY").is_none() {
                hints.push(
                    "the signing keys lie in the data folder; replicas that share this database need the same keys: \
                     set auth.keys_dir to a folder that all of them see, or JWT_PRIVATE_KEY"
                        .to_owned(),
                );
            }
            if !self.database_url.is_local() {
                hints.push(
                    "the connection to PostgreSQL is not encrypted; keep it inside a private network"
                        .to_owned(),
                );
            }
        } else {
            hints.push(
                "the service database is SQLite, which serves one process; \
                 set DATABASE_URL to a postgres: URL for several replicas"
                    .to_owned(),
            );
        }
        hints
    }

    /// The `Strict-Transport-Security` of its answers (RFC 6797): where it is deployed and reached by https.
    pub fn strict_transport_security(&self) -> Option<&'static str> {
        // One year. Without includeSubDomains: other services' hosts are not ours to decide about.
        let is_https = self.environment.is_deployed() && self.public_url().starts_with("https://");
        is_https.then_some("max-age=31536000")
    }
}

fn is_loopback(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        // RFC 6761 section 6.3 reserves the name and everything below it.
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(environment: &str, public_url: &str, database_url: &str) -> Config {
        let mut config = Config { environment: environment.parse().unwrap(), ..Config::default() };
        config.server.public_url = public_url.to_owned();
        config.database_url = database_url.parse().unwrap();
        config
    }

    #[test]
    fn environments_are_read_in_any_case_and_unknown_ones_are_told_what_there_is() {
        for (text, expected) in [
            ("", Environment::Development),
            (" ", Environment::Development),
            ("development", Environment::Development),
            ("Production", Environment::Production),
            ("STAGING", Environment::Staging),
            (" test ", Environment::Test),
        ] {
            assert_eq!(text.parse::<Environment>().unwrap(), expected, "{text:?}");
        }
        for bad in ["prod", "dev", "production2", "productión", "a\nb"] {
            let error = bad.parse::<Environment>().unwrap_err().to_string();
            assert!(error.contains("development, test, staging, production"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn deployed_the_issuer_is_https_or_on_this_machine() {
        for (url, allowed) in [
            ("https://steward.example.org", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost:8080/steward", true),
            ("", true),
            ("http://steward.example.org", false),
            ("http://localhost.example.org", false),
            ("http://127.0.0.1.example.org", false),
            ("http://0.0.0.0:8080", false),
            ("http://10.0.0.7", false),
        ] {
            for environment in ["production", "staging"] {
                let checked = config(environment, url, "").check_environment();
                assert_eq!(checked.is_ok(), allowed, "{environment} {url}: {checked:?}");
            }
            config("development", url, "").check_environment().unwrap();
            config("test", url, "").check_environment().unwrap();
        }
        let error = config("production", "http://x.example", "").check_environment().unwrap_err().to_string();
        assert!(error.contains("https") && error.contains("ISSUER_URL"), "{error}");
    }

    #[test]
    fn an_issuer_that_listens_everywhere_by_default_is_not_loopback() {
        let mut config = config("production", "", "");
        config.server.listen = "0.0.0.0:8080".parse().unwrap();
        assert!(config.check_environment().is_err());
    }

    #[test]
    fn hsts_is_sent_only_where_the_service_is_deployed_behind_https() {
        let hsts = |environment, url| config(environment, url, "").strict_transport_security();
        assert_eq!(hsts("production", "https://s.example"), Some("max-age=31536000"));
        assert_eq!(hsts("production", "http://localhost"), None);
        assert_eq!(hsts("development", "https://s.example"), None);
    }

    #[test]
    fn hints_are_for_deployments_and_hold_no_credentials() {
        assert!(config("development", "", "postgres://u:hunter2@db.example/x").hints().is_empty());
        let remote = config("production", "", "postgres://u:hunter2@db.example/x").hints().join("\n");
        assert!(remote.contains("keys_dir") && remote.contains("not encrypted"), "{remote}");
        assert!(!remote.contains("hunter2"), "{remote}");
        let local = config("production", "", "postgres://u@localhost/x").hints().join("\n");
        assert!(!local.contains("encrypted"), "{local}");
        assert!(config("production", "", "").hints().join("\n").contains("SQLite"));
    }
}
