//! Configuration: `steward.yaml`, then environment variables `STEWARD__SECTION__KEY`, then the short names that
//! deployments already use. Unknown keys are errors.
//!
//! C1 Secrets never stand in the file: they come from the environment or from files named here.
//! C2 No error repeats a secret of the file or the environment.

mod database_url;
mod environment;
mod limits;
mod llm;
mod warehouse;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Serialized};
use serde::{Deserialize, Serialize};

pub use database_url::{DatabaseUrl, DatabaseUrlError, shown as shown_database};
pub use environment::{Environment, UnknownEnvironment};
pub use limits::{SqlLimits, UploadLimits};
pub use llm::{KeyReference, LlmConfig};
pub use warehouse::{
    AdbcConfig, AdbcDialect, S3Config, Setting, SettingError, SnowflakeConfig, WarehouseConfig,
};

use crate::auth::SigningAlgorithm;
use crate::error::ErrorKind;
use database_url::without_passwords;

/// Everything that can be set. The defaults serve a checkout on a developer's machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `development`, `test`, `staging` or `production`; the last two demand an https issuer, send HSTS and log JSON.
    pub environment: Environment,
    pub server: ServerConfig,
    /// Everything that the service writes lives below this folder.
    pub data_dir: PathBuf,
    /// `sqlite:`, `postgres:` or `postgresql:` URL of the service database; SQLite in the data folder when empty. With a
    /// password only in the environment (C1); PostgreSQL's own `PGPASSWORD` and `PGPASSFILE` serve too.
    pub database_url: DatabaseUrl,
    pub auth: AuthConfig,
    pub semantic: SemanticConfig,
    pub actions: FolderConfig,
    pub indexes: FolderConfig,
    pub warehouses: BTreeMap<String, WarehouseConfig>,
    pub embedding: EmbeddingConfig,
    pub sql: SqlLimits,
    pub uploads: UploadLimits,
    /// Absent: nothing is generated.
    pub llm: Option<LlmConfig>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    /// How clients reach the service; issuer and audience of its tokens. `http://<listen>` when empty.
    pub public_url: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Lifetime of an access token.
    pub token_expiry_seconds: u32,
    /// How long a refresh token may lie unused.
    pub refresh_idle_seconds: u32,
    /// How long a login may be refreshed in all.
    pub refresh_lifetime_seconds: u32,
    /// Who may be asked for by `resource` (RFC 8707); the issuer when empty.
    pub audience: String,
    /// Further resources that tokens may be asked for: services that verify them by the JWKS.
    pub resources: Vec<String>,
    /// `ES256`, `RS256` or `EdDSA`: of signing keys that are made from now on.
    pub signing_algorithm: SigningAlgorithm,
    /// The signing keys, in a folder that all replicas see; `<data_dir>/keys` when empty.
    pub keys_dir: PathBuf,
    /// Tokens for a user's name and password (RFC 6749 section 4.3), for clients of the old kind that know nothing
    /// better: they see the password.
    pub password_grant: bool,
    /// The id of the public client that callers of that grant are who name none; one called `password-grant` is made
    /// when empty.
    pub password_client: String,
}

/// The folder of semantic models.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SemanticConfig {
    pub dir: PathBuf,
    /// Whether a running service takes up changes of the folder.
    pub watch: bool,
    /// How often it looks for them, in milliseconds; a change is taken up when it has stood for as long.
    pub poll_ms: u64,
}

/// A folder of YAML files.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    pub dir: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddingConfig {
    /// A folder below `models_dir`, or the name of any fastembed model where its hub can be reached.
    pub model: String,
    /// Prepared models; `<data_dir>/models` when empty.
    pub models_dir: PathBuf,
    /// Path of libonnxruntime; `ORT_DYLIB_PATH` when empty.
    pub onnxruntime: PathBuf,
    /// Threads for one embedding call.
    pub threads: usize,
}

impl Default for Config {
    fn default() -> Self {
        let local = WarehouseConfig::local("examples");
        Self {
            environment: Environment::default(),
            server: ServerConfig::default(),
            data_dir: ".steward".into(),
            database_url: DatabaseUrl::default(),
            auth: AuthConfig::default(),
            semantic: SemanticConfig::default(),
            actions: FolderConfig { dir: "actions".into() },
            indexes: FolderConfig { dir: "indexes".into() },
            warehouses: BTreeMap::from([("local".to_owned(), local)]),
            embedding: EmbeddingConfig::default(),
            sql: SqlLimits::default(),
            uploads: UploadLimits::default(),
            llm: None,
        }
    }
}

impl Default for SemanticConfig {
    fn default() -> Self {
        Self { dir: "semantic".into(), watch: true, poll_ms: 1000 }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)), public_url: String::new() }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            token_expiry_seconds: 3600,
            refresh_idle_seconds: 14 * 86_400,
            refresh_lifetime_seconds: 90 * 86_400,
            audience: String::new(),
            resources: Vec::new(),
            signing_algorithm: SigningAlgorithm::default(),
            keys_dir: PathBuf::new(),
            password_grant: false,
            password_client: String::new(),
        }
    }
}

impl Default for EmbeddingConfig {
    fn default() -> Self {
        Self {
            model: "all-MiniLM-L6-v2-int8".to_owned(),
            models_dir: PathBuf::new(),
            onnxruntime: PathBuf::new(),
            threads: std::thread::available_parallelism().map_or(1, usize::from).min(4),
        }
    }
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}; mend it, or name another file with --config")]
    Read { path: String, source: std::io::Error },
    #[error("{path} is not valid YAML: {message}")]
    Syntax { path: String, message: String },
    #[error(
        "{path}: database_url holds a password, which no file should; set DATABASE_URL in the environment instead, \
         or leave the password out and set PGPASSWORD or PGPASSFILE"
    )]
    PasswordInFile { path: String },
    #[error(
        "llm.api_key holds something that is no reference, perhaps the key itself; write env:NAME or file:path, keep the \
         key there, and change it if this configuration was shared"
    )]
    LiteralKey,
    #[error(
        "{path}: warehouses.{warehouse}.{key} holds a secret, which no file should; write `env:NAME` or `file:PATH` \
         and keep the value there"
    )]
    SecretInFile { path: String, warehouse: String, key: String },
    #[error("configuration: {message}")]
    Invalid { message: String },
    #[error(
        "in {environment}, the service must be reached by https, and `{url}` is not; set ISSUER_URL \
         (server.public_url) to its https address, that of the proxy in front of it"
    )]
    InsecureIssuer { environment: Environment, url: String },
}

impl ConfigError {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl Config {
    /// Reads `path`, or `steward.yaml` in the working folder if there is one, and the environment.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_over(path, Self::default())
    }

    /// The same, without the checkout's demo: folders that neither file nor environment names lie in the data folder.
    pub fn load_without_demo(path: Option<&Path>) -> Result<Self, ConfigError> {
        let data_dir = Self::load(path)?.data_dir;
        let mut defaults = Self::default();
        for folder in defaults.yaml_folders() {
            *folder = data_dir.join(&*folder);
        }
        Self::load_over(path, defaults)
    }

    /// The folders that people write YAML in.
    pub fn yaml_folders(&mut self) -> [&mut PathBuf; 3] {
        [&mut self.semantic.dir, &mut self.actions.dir, &mut self.indexes.dir]
    }

    fn load_over(path: Option<&Path>, defaults: Self) -> Result<Self, ConfigError> {
        let default = Path::new("steward.yaml");
        let path = path.or_else(|| default.is_file().then_some(default));
        let mut figment = Figment::from(Serialized::defaults(defaults));
        if let Some(path) = path {
            let shown = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
            // Checked on its own first: a mistake in the file is told with its line.
            let options =
                serde_saphyr::options! { with_snippet: llm::may_quote(&text) && warehouse::may_quote(&text) };
            serde_saphyr::from_str_with_options::<Option<Self>>(&text, options)
                .map_err(|error| syntax(&shown, &error))
                .and_then(|config| match config {
                    Some(config) if config.database_url.has_password() => {
                        Err(ConfigError::PasswordInFile { path: shown.clone() })
                    }
                    Some(config) => no_literal_secret(&config, &shown),
                    None => Ok(()),
                })?;
            let value: Option<serde_json::Value> =
                serde_saphyr::from_str(&text).map_err(|error| syntax(&shown, &error))?;
            if let Some(value) = value {
                figment = figment.merge(Serialized::defaults(value));
            }
        }
        let config: Self =
            figment.merge(short_names()).merge(Env::prefixed("STEWARD__").split("__")).extract().map_err(
                |error: figment::Error| ConfigError::Invalid {
                    message: without_passwords(&error.to_string()),
                },
            )?;
        match &config.llm {
            Some(llm) if llm.api_key == KeyReference::Literal => Err(ConfigError::LiteralKey),
            _ => Ok(config),
        }
    }

    /// How clients reach the service, without a slash at the end.
    pub fn public_url(&self) -> String {
        match self.server.public_url.trim_end_matches('/') {
            "" => format!("http://{}", self.server.listen),
            url => url.to_owned(),
        }
    }

    /// The folder of signing keys.
    pub fn keys_dir(&self) -> PathBuf {
        match self.auth.keys_dir.as_os_str().is_empty() {
            true => self.data_dir.join("keys"),
            false => self.auth.keys_dir.clone(),
        }
    }

    /// Prepared embedding models.
    pub fn models_dir(&self) -> PathBuf {
        match self.embedding.models_dir.as_os_str().is_empty() {
            true => self.data_dir.join("models"),
            false => self.embedding.models_dir.clone(),
        }
    }
}

/// C1 for warehouses.
fn no_literal_secret(config: &Config, path: &str) -> Result<(), ConfigError> {
    for (name, warehouse) in &config.warehouses {
        if let Some(key) = warehouse.literal_secret() {
            return Err(ConfigError::SecretInFile { path: path.to_owned(), warehouse: name.clone(), key });
        }
    }
    Ok(())
}

/// The reader's messages show the lines around a mistake (C2).
fn syntax(path: &str, error: &impl std::fmt::Display) -> ConfigError {
    ConfigError::Syntax { path: path.to_owned(), message: without_passwords(&error.to_string()) }
}

/// The names that deployments of the kind already set.
fn short_names() -> Env {
    Env::raw()
        .only(&[
            "ENVIRONMENT",
            "ISSUER_URL",
            "TOKEN_EXPIRY_SECONDS",
            "DATABASE_URL",
            "STEWARD_MODELS_DIR",
            "ORT_DYLIB_PATH",
        ])
        .map(|key| {
            let key = key.as_str();
            for (short, long) in [
                ("ENVIRONMENT", "environment"),
                ("ISSUER_URL", "server.public_url"),
                ("TOKEN_EXPIRY_SECONDS", "auth.token_expiry_seconds"),
                ("DATABASE_URL", "database_url"),
                ("STEWARD_MODELS_DIR", "embedding.models_dir"),
                ("ORT_DYLIB_PATH", "embedding.onnxruntime"),
            ] {
                if key.eq_ignore_ascii_case(short) {
                    return long.into();
                }
            }
            key.to_owned().into()
        })
        .split(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()))
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it_and_its_line() {
        let error = load("server:\n  lisen: 127.0.0.1:1\n").unwrap_err().to_string();
        assert!(error.contains("lisen") && error.contains('2'), "{error}");
    }

    #[test]
    fn without_the_demo_only_folders_that_were_named_stay() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // As the checkout's own is called.
        std::fs::write(file.path(), "data_dir: d\nsemantic: {dir: semantic}\nactions: {dir: mine}\n")
            .unwrap();
        let config = Config::load_without_demo(Some(file.path())).unwrap();
        let folders = [&config.semantic.dir, &config.actions.dir, &config.indexes.dir];
        assert_eq!(folders.map(|dir| dir.to_str().unwrap()), ["semantic", "mine", "d/indexes"]);
        std::fs::write(file.path(), "semantic: {watch: false}\n").unwrap();
        let config = Config::load_without_demo(Some(file.path())).unwrap();
        assert_eq!(config.semantic.dir, Path::new(".steward/semantic"));
    }

    #[test]
    fn the_signing_algorithm_is_one_of_three() {
        for (name, algorithm) in [
            ("ES256", SigningAlgorithm::Es256),
            ("RS256", SigningAlgorithm::Rs256),
            ("EdDSA", SigningAlgorithm::EdDsa),
        ] {
            let config = load(&format!("auth: {{signing_algorithm: {name}}}")).unwrap();
            assert_eq!(config.auth.signing_algorithm, algorithm);
        }
        for bad in ["HS256", "none", "es256"] {
            let error = load(&format!("auth: {{signing_algorithm: {bad}}}")).unwrap_err().to_string();
            assert!(error.contains("RS256"), "{error}");
        }
    }

    #[test]
    fn an_unknown_environment_is_an_error_that_names_what_there_is() {
        assert_eq!(load("environment: Staging").unwrap().environment, Environment::Staging);
        let error = load("environment: prod").unwrap_err().to_string();
        assert!(error.contains("development, test, staging, production"), "{error}");
    }

    #[test]
    fn a_password_in_the_file_is_refused_and_not_repeated_by_any_error() {
        for text in [
            "database_url: postgres://u:hunter2@h/d",
            "database_url: postgresql://h/d?password=hunter2",
            "database_url: mysql://u:hunter2@h/d",
            "database_url: postgres://u:hunter2@h:bad/d",
            "database_url: postgres://u:hunter2@h/d\nserver: {lisen: x}",
            "server: {lisen: x}\ndatabase_url: postgres://u:hunter2@h/d",
            "server: {lisen: x}\nwarehouses: {s: {kind: snowflake, password: hunter2}}",
            "warehouses:\n  s:\n    kind: snowflake\n    pasword: hunter2",
            "warehouses:\n  s:\n    kind: adbc\n    dialekt: x\n    options:\n      private_key: hunter2",
            "database_url: [postgres://u:hunter2@h/d]",
            "database_url: \"postgres://u:hunter2@h/d",
        ] {
            let error = load(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}: {error}");
        }
        assert!(load("database_url: postgres://u@h/d").unwrap().database_url.is_postgres());
    }

    #[test]
    fn a_key_in_the_file_is_refused_and_not_repeated_by_any_error() {
        for text in [
            "llm: {api_key: hunter2}",
            "llm: {api_key: 777222}\n",
            "llm:\n  api_key: hunter2\n  modle: x",
            "llm:\n  api_key: >-\n    hunter2\n  modle: x",
            "llm:\n  modle: x\n  api_key: \"hunter2\"",
            "llm: {api_key: \"hunter2",
            "llm: {api_key: [hunter2], retries: none}",
        ] {
            let error = load(text).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains("hunter2") && !told.contains("777222"), "{text}: {told}");
        }
        let config = load("llm: {base_url: \"http://h/v1\", api_key: env:KEY, model: m}").unwrap();
        assert_eq!(config.llm.unwrap().api_key, KeyReference::At("env:KEY".to_owned()));
        assert_eq!(load("").unwrap().llm, None);
    }

    #[test]
    fn a_warehouse_is_told_where_its_secrets_are_and_a_literal_one_is_refused() {
        let adbc = |uri: &str| {
            format!(
                "warehouses: {{pg: {{kind: adbc, driver: d, dialect: postgresql, options: {{uri: \"{uri}\"}}}}}}"
            )
        };
        assert!(load(&adbc("env:PG_URI")).is_ok());
        for uri in ["postgresql://u:hunter2@h/d", "postgresql://u:hunter2@h:bad/d", "host=h password=hunter2"]
        {
            let error = load(&adbc(uri)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
            assert!(error.to_string().contains("env:NAME"), "{error}");
        }
        let snowflake =
            load("warehouses: {s: {kind: snowflake, password: hunter2}}").unwrap_err().to_string();
        assert!(snowflake.contains("warehouses.s.password") && !snowflake.contains("hunter2"), "{snowflake}");
        assert!(load("warehouses: {s: {kind: snowflake, pasword: \"env:X\"}}").is_err());
        assert!(
            load("warehouses: {s: {kind: adbc, driver: d, dialect: oracle}}")
                .unwrap_err()
                .to_string()
                .contains("postgresql")
        );
    }

    #[test]
    fn what_the_file_leaves_out_keeps_its_default_and_an_empty_file_is_fine() {
        let config = load("sql: {max_rows: 5}\nwarehouses: {files: {kind: local, path: /data}}\n").unwrap();
        assert_eq!(config.sql.max_rows, 5);
        assert_eq!(config.sql.timeout_seconds, SqlLimits::default().timeout_seconds);
        assert!(config.warehouses.contains_key("files"));
        assert_eq!(load("").unwrap().data_dir, Path::new(".steward"));
    }
}
