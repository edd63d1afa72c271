//! The address of the service database, which may hold a password.
//!
//! D1 the password is in no `Debug`, `Display`, serialisation or error.
//! D2 only schemes that the service database speaks get in.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// `sqlite:`, `postgres:` or `postgresql:` and an address; empty: SQLite in the data folder.
#[derive(Clone, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct DatabaseUrl(Option<SecretString>);

/// A text that is no address of a service database. Says nothing of the text but its scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    #[error(
        "DATABASE_URL (database_url) begins with neither sqlite:, postgres: nor postgresql:; \
         write sqlite:///var/lib/steward/steward.sqlite or postgres://user:password@host:5432/database"
    )]
    Scheme,
    #[error(
        "DATABASE_URL (database_url) is not a valid postgres URL: {reason}; \
         percent-encode what the user or the password has besides letters and digits"
    )]
    Malformed { reason: String },
    #[error(
        "DATABASE_URL names an SQLite database in memory, which each connection would have for itself; name a file"
    )]
    InMemory,
}

impl DatabaseUrl {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The whole address, to connect with and nothing else; none if none is given.
    pub fn expose(&self) -> Option<&str> {
        self.0.as_ref().map(ExposeSecret::expose_secret)
    }

    pub fn is_postgres(&self) -> bool {
        self.expose().is_some_and(|url| url.starts_with("postgres"))
    }

    /// Whether the server is on this machine.
    pub fn is_local(&self) -> bool {
        let Some(Ok(url)) = self.expose().filter(|_| self.is_postgres()).map(Url::parse) else { return true };
        // Given in the query, `host` wins (libpq); a socket's folder begins with a slash.
        let host = url.query_pairs().find(|(name, _)| name == "host" || name == "hostaddr");
        match host.map(|(_, host)| host.into_owned()).or_else(|| url.host_str().map(str::to_owned)) {
            None => true,
            Some(host) if host.is_empty() || host.starts_with('/') || host == "localhost" => true,
            Some(host) => match Host::parse(&host) {
                Ok(Host::Ipv4(ip)) => ip.is_loopback(),
                Ok(Host::Ipv6(ip)) => ip.is_loopback(),
                // Percent-encoded paths of sockets are hosts to the parser.
                Ok(Host::Domain(_)) | Err(_) => host.to_ascii_lowercase().starts_with("%2f"),
            },
        }
    }

    /// Whether it holds a password.
    pub fn has_password(&self) -> bool {
        let Some(Ok(url)) = self.expose().filter(|_| self.is_postgres()).map(Url::parse) else {
            return false;
        };
        url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password")
    }

    /// Scheme, host and database, for messages (D1).
    pub fn shown(&self) -> String {
        shown(self.expose().unwrap_or_default())
    }
}

/// Scheme, host, port and path of a database's address: what may be told.
pub fn shown(url: &str) -> String {
    if url.starts_with("sqlite:") {
        return url.split('?').next().unwrap_or_default().to_owned();
    }
    match Url::parse(url) {
        Ok(url) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
        }
        Err(_) => "the address that is configured".to_owned(),
    }
}

/// The text without the passwords of any URL in it.
pub(super) fn without_passwords(text: &str) -> String {
    static PASSWORD: LazyLock<Regex> = LazyLock::new(|| {
        // Greedy up to the last @ before white space: an unescaped @ is part of a password, not its end.
        Regex::new(r"(?<start>[A-Za-z][A-Za-z0-9+.\-]*://[^\s:/@]*:)\S*@|(?<name>(?i:password)=)[^\s&]*")
            .expect("a constant")
    });
    let replaced = PASSWORD.replace_all(text, |found: &regex::Captures<'_>| match found.name("name") {
        Some(name) => format!("{}…", name.as_str()),
        None => format!("{}…@", &found["start"]),
    });
    replaced.into_owned()
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (scheme, rest) = text.split_once(':').ok_or(DatabaseUrlError::Scheme)?;
        match scheme {
            "sqlite" => {
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                let path = path.trim_start_matches('/');
                if path.is_empty() || path == ":memory:" || query.split('&').any(|pair| pair == "mode=memory")
                {
                    return Err(DatabaseUrlError::InMemory);
                }
            }
            "postgres" | "postgresql" => {
                let malformed = |reason: String| DatabaseUrlError::Malformed { reason };
                if !rest.starts_with("//") {
                    return Err(malformed("`//` is missing after the scheme".to_owned()));
                }
                // The parser's reasons quote nothing.
                Url::parse(text).map_err(|error| malformed(error.to_string()))?;
            }
            _ => return Err(DatabaseUrlError::Scheme),
        }
        Ok(Self(Some(SecretString::from(text))))
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = DatabaseUrlError;

    fn try_from(text: String) -> Result<Self, DatabaseUrlError> {
        text.parse()
    }
}

impl Serialize for DatabaseUrl {
    /// Serialised are the defaults alone, where it is empty.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { "…" })
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.shown())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> DatabaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn only_sqlite_and_postgres_get_in() {
        assert!(parse("").is_empty() && parse("  ").is_empty());
        assert!(!parse("sqlite:///var/lib/s.sqlite").is_postgres());
        assert!(parse("postgres://u:p@h/d").is_postgres() && parse("postgresql:///d").is_postgres());
        for (bad, expected) in [
            ("mysql://u:hunter2@h/d", "neither sqlite:"),
            ("hunter2", "neither sqlite:"),
            ("postgres:u:hunter2@h/d", "`//` is missing"),
            ("postgres://u:hunter2@h:99999/d", "invalid port"),
            ("postgres://u:hunter2/x@h/d", "invalid port"),
            ("sqlite::memory:", "in memory"),
            ("sqlite:", "in memory"),
            ("sqlite://x?mode=memory", "in memory"),
        ] {
            let error = bad.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_is_shown_leads_to_the_database_and_not_into_it() {
        for (url, expected) in [
            (
                "postgres://u:hunter2@db.example:5433/steward?sslmode=require",
                "postgres://db.example:5433/steward",
            ),
            ("postgresql://db/steward?user=u&password=hunter2", "postgresql://db/steward"),
            ("sqlite:///data/s.sqlite?mode=rwc", "sqlite:///data/s.sqlite"),
        ] {
            assert_eq!(parse(url).shown(), expected);
            let told = format!("{:?} {}", parse(url), serde_json::to_string(&parse(url)).unwrap());
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn a_password_is_noticed_wherever_it_stands() {
        assert!(parse("postgres://u:p@h/d").has_password());
        assert!(parse("postgres://h/d?password=p").has_password());
        assert!(!parse("postgres://u@h/d").has_password() && !parse("sqlite:x").has_password());
    }

    #[test]
    fn servers_on_this_machine_are_told_from_others() {
        for (url, local) in [
            ("postgres://localhost/d", true),
            ("postgres://127.0.0.1/d", true),
            ("postgres://[::1]/d", true),
            ("postgres:///d?host=/run/postgresql", true),
            ("postgres://%2Frun%2Fpostgresql/d", true),
            ("postgres://db.example/d", false),
            ("postgres://10.0.0.7/d", false),
            ("postgres://localhost/d?host=db.example", false),
            ("sqlite:x", true),
        ] {
            assert_eq!(parse(url).is_local(), local, "{url}");
        }
    }

    #[test]
    fn text_loses_the_passwords_in_it_and_nothing_else() {
        let shown =
            without_passwords("3 | database_url: postgres://u:hun@ter2@h/d # http://a/b, at 9:15 x@y");
        assert_eq!(shown, "3 | database_url: postgres://u:…@h/d # http://a/b, at 9:15 x@y");
        assert!(!without_passwords("postgres://h/d?password=hunter2&x=1").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_password_is_ever_shown(password in "[A-Za-z0-9]{6,20}", scheme in "postgres|postgresql") {
            let url = format!("{scheme}://someone:{password}@db.example/steward?password={password}");
            let url = parse(&url);
            let told = format!("{:?} {}", url, url.shown());
            prop_assert!(!told.contains(&password));
            prop_assert!(!without_passwords(url.expose().unwrap()).contains(&password));
        }

        #[test]
        fn parsing_never_panics(text in "(sqlite|postgres|postgresql)?:?/{0,3}\\PC{0,30}") {
            if let Ok(url) = text.parse::<DatabaseUrl>() {
                let _ = (url.shown(), url.is_local(), url.has_password());
            }
        }
    }
}
