//! What is set for a warehouse.
//!
//! S1 A secret is named, not written: a value is `env:NAME` or `file:PATH`, and a value of the file that holds a
//! password is refused. S2 No `Debug`, serialisation or error shows a value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// Where a warehouse's data is. The key in `warehouses` is the first part of a dataset's `source`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
pub enum WarehouseConfig {
    /// Parquet, CSV or NDJSON files: `<path>/<schema>/<table>.<ending>`, or a folder of them.
    Local {
        /// A folder, or `s3://bucket/prefix`.
        path: PathBuf,
        #[serde(default)]
        s3: Option<S3Config>,
    },
    /// A database behind an ADBC driver.
    Adbc(AdbcConfig),
    /// Snowflake, by its own protocol.
    Snowflake(SnowflakeConfig),
}

/// How an object store that speaks S3's protocol is reached. What is left out comes from the variables of the environment
/// that AWS's own tools read, or from the role of the machine, container or service account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// `AWS_REGION`
    pub region: Option<Setting>,
    /// `AWS_ENDPOINT_URL`, for stores other than AWS; only an `http://` endpoint is reached without TLS.
    pub endpoint: Option<Setting>,
    /// `AWS_ACCESS_KEY_ID`
    pub access_key_id: Option<Setting>,
    /// `AWS_SECRET_ACCESS_KEY`
    pub secret_access_key: Option<Setting>,
    /// `AWS_SESSION_TOKEN`; goes with the keys that are set here.
    pub session_token: Option<Setting>,
    /// Whether the bucket stands in the URL's path; else in the host's name.
    pub path_style: bool,
    /// For buckets that everybody may read: requests are not signed.
    pub anonymous: bool,
}

impl Default for S3Config {
    fn default() -> Self {
        let (region, endpoint, access_key_id, secret_access_key, session_token) =
            (None, None, None, None, None);
        Self {
            region,
            endpoint,
            access_key_id,
            secret_access_key,
            session_token,
            path_style: true,
            anonymous: false,
        }
    }
}

/// A database behind an ADBC driver.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdbcConfig {
    /// The driver's shared library: its path, or a name that the system finds, such as `adbc_driver_postgresql`.
    pub driver: PathBuf,
    /// The library's entry point where it is not the usual one, such as `duckdb_adbc_init`.
    #[serde(default)]
    pub entrypoint: Option<String>,
    pub dialect: AdbcDialect,
    /// The driver's own options, such as `uri` or `path`.
    #[serde(default)]
    pub options: BTreeMap<String, Setting>,
    /// Connections at once; queries beyond that wait for one.
    #[serde(default = "connections")]
    pub max_connections: usize,
}

/// What the database behind an ADBC driver speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdbcDialect {
    Postgresql,
    Sqlite,
    Duckdb,
}

/// Snowflake. What is left out comes from the variable of the environment that Snowflake's own tools read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnowflakeConfig {
    /// `SNOWFLAKE_ACCOUNT`: `organisation-account`, or the account locator with its region.
    pub account: Option<Setting>,
    /// `SNOWFLAKE_USER`
    pub user: Option<Setting>,
    /// `SNOWFLAKE_PASSWORD`; the private key wins where both are set.
    pub password: Option<Setting>,
    /// `SNOWFLAKE_PRIVATE_KEY`: RSA, PKCS #8, PEM, not encrypted; or `SNOWFLAKE_PRIVATE_KEY_PATH`, a file of it.
    pub private_key: Option<Setting>,
    /// `SNOWFLAKE_ROLE`
    pub role: Option<Setting>,
    /// `SNOWFLAKE_WAREHOUSE`
    pub warehouse: Option<Setting>,
    /// `SNOWFLAKE_DATABASE`
    pub database: Option<Setting>,
    /// `SNOWFLAKE_SCHEMA`
    pub schema: Option<Setting>,
    /// Sessions at once; queries beyond that wait for one.
    pub max_connections: usize,
}

impl Default for SnowflakeConfig {
    fn default() -> Self {
        let max_connections = connections();
        let (account, user, password, private_key) = (None, None, None, None);
        let (role, warehouse, database, schema) = (None, None, None, None);
        Self { account, user, password, private_key, role, warehouse, database, schema, max_connections }
    }
}

fn connections() -> usize {
    8
}

/// A value, or where it is: `env:NAME`, a variable of the environment, or `file:PATH`, a file's content.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Setting(String);

/// A setting without a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("the environment variable {0} is not set; set it, or leave the setting out")]
    Variable(String),
    #[error("the file {path} cannot be read: {reason}")]
    File { path: String, reason: String },
}

impl From<String> for Setting {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Setting {
    /// The value itself.
    pub fn resolve(&self) -> Result<SecretString, SettingError> {
        if let Some(name) = self.0.strip_prefix("env:") {
            return match std::env::var(name) {
                Ok(value) if !value.is_empty() => Ok(value.into()),
                _ => Err(SettingError::Variable(name.to_owned())),
            };
        }
        if let Some(path) = self.0.strip_prefix("file:") {
            return std::fs::read_to_string(path)
                .map(|text| text.trim_end_matches(['\r', '\n']).into())
                .map_err(|error| SettingError::File { path: path.to_owned(), reason: error.to_string() });
        }
        Ok(self.0.clone().into())
    }

    fn is_reference(&self) -> bool {
        self.0.starts_with("env:") || self.0.starts_with("file:")
    }

    /// Whether the text itself holds what nobody should read (S1).
    fn holds_secret(&self, key: &str) -> bool {
        let key = key.to_ascii_lowercase();
        let is_secret_key = ["password", "passwd", "secret", "token", "private_key", "auth"]
            .iter()
            .any(|part| key.contains(part));
        let text = self.0.to_ascii_lowercase();
        let in_text = text.contains("password") || text.contains("pwd=");
        // A URL that does not parse may still hold one.
        let in_url = match Url::parse(&self.0) {
            Ok(url) => url.password().is_some(),
            Err(_) => text.contains("://") && text.contains('@'),
        };
        !self.is_reference() && !self.0.is_empty() && (is_secret_key || in_text || in_url)
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_reference() { &self.0 } else { "…" })
    }
}

impl Serialize for Setting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_reference() { &self.0 } else { "" })
    }
}

impl WarehouseConfig {
    /// Files below a folder.
    pub fn local(path: impl Into<PathBuf>) -> Self {
        Self::Local { path: path.into(), s3: None }
    }

    /// The first setting whose text holds a secret, which no file should.
    pub(super) fn literal_secret(&self) -> Option<String> {
        match self {
            Self::Local { s3, .. } => {
                let s3 = s3.as_ref()?;
                let secrets = [
                    ("s3.access_key_id", &s3.access_key_id),
                    ("s3.secret_access_key", &s3.secret_access_key),
                    ("s3.session_token", &s3.session_token),
                ];
                let is_literal = |setting: &Option<Setting>| {
                    setting.as_ref().is_some_and(|setting| !setting.is_reference())
                };
                let in_endpoint =
                    s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.holds_secret("endpoint"));
                let found = secrets.into_iter().find(|(_, setting)| is_literal(setting));
                found.map(|(key, _)| key.to_owned()).or(in_endpoint.then(|| "s3.endpoint".to_owned()))
            }
            Self::Adbc(AdbcConfig { options, .. }) => {
                let found = options.iter().find(|(key, setting)| setting.holds_secret(key));
                found.map(|(key, _)| format!("options.{key}"))
            }
            Self::Snowflake(config) => {
                let secrets = [("password", &config.password), ("private_key", &config.private_key)];
                let is_literal = |setting: &Option<Setting>| {
                    setting.as_ref().is_some_and(|setting| !setting.is_reference())
                };
                let found = secrets.into_iter().find(|(_, setting)| is_literal(setting));
                found.map(|(key, _)| key.to_owned())
            }
        }
    }
}

/// Whether lines of the file may be shown: not if one has what may be a secret (S2).
pub(super) fn may_quote(text: &str) -> bool {
    const KEYS: [&str; 6] = ["passw", "pasw", "secret", "token", "private_key", "access_key"];
    text.lines().all(|line| {
        let lower = line.to_ascii_lowercase();
        KEYS.iter().all(|key| {
            let after =
                lower.split_once(key).map(|(_, rest)| rest.split_once(':').map_or("", |(_, rest)| rest));
            after.is_none_or(|rest| {
                let value = rest.trim_start_matches(['"', '\'', ' ', '\t']);
                value.starts_with("env:")
                    || value.starts_with("file:")
                    || lower.contains("token_expiry_seconds")
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_setting_is_a_value_or_names_where_it_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "of the file\n").unwrap();
        let value =
            |text: &str| Setting(text.to_owned()).resolve().map(|value| value.expose_secret().to_owned());
        assert_eq!(value("/data/x.duckdb").unwrap(), "/data/x.duckdb");
        assert_eq!(value(&format!("file:{}", file.path().display())).unwrap(), "of the file");
        assert_eq!(value("env:PATH").unwrap(), std::env::var("PATH").unwrap());
        let missing = value("env:STEWARD_TEST_OF_A_MISSING_VARIABLE").unwrap_err().to_string();
        assert!(missing.contains("STEWARD_TEST_OF_A_MISSING_VARIABLE"), "{missing}");
        assert!(value("file:/nowhere/at/all").unwrap_err().to_string().contains("/nowhere/at/all"));
    }

    #[test]
    fn a_literal_secret_is_found_in_every_spelling() {
        for (key, text) in [
            ("uri", "postgresql://u:hunter2@h/d"),
            ("uri", "postgresql://u:hunter2@h:bad/d"),
            ("uri", "host=h user=u password=hunter2"),
            ("uri", "postgresql://h/d?password=hunter2"),
            ("password", "hunter2"),
            ("adbc.snowflake.sql.auth_token", "hunter2"),
        ] {
            let setting = Setting(text.to_owned());
            assert!(setting.holds_secret(key), "{key} {text}");
            assert!(!format!("{setting:?}").contains("hunter2"), "{setting:?}");
            assert!(!serde_json::to_string(&setting).unwrap().contains("hunter2"));
        }
        for (key, text) in
            [("uri", "postgresql://u@h/d"), ("uri", "env:PG"), ("password", "env:PASSWORD"), ("path", "/x/y")]
        {
            assert!(!Setting(text.to_owned()).holds_secret(key), "{key} {text}");
        }
    }
}
