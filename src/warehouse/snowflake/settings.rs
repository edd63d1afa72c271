//! Who the service is to Snowflake: configuration first, then the variables that Snowflake's own tools read.

use secrecy::{ExposeSecret, SecretString};

use super::super::WarehouseError;
use crate::config::{Setting, SnowflakeConfig};

/// An account with a way to log in.
pub(super) struct Account {
    /// As in the host's name.
    pub identifier: String,
    pub user: String,
    pub secret: Secret,
    /// Parameters of the login: warehouse, database, schema and role, those that are set.
    pub parameters: Vec<(&'static str, String)>,
}

pub(super) enum Secret {
    Password(SecretString),
    /// RSA, PKCS #8, PEM.
    PrivateKey(SecretString),
}

impl Account {
    /// Fails with the variable to set.
    pub fn read(name: &str, config: &SnowflakeConfig) -> Result<Self, WarehouseError> {
        let failed = |source| WarehouseError::Setting { warehouse: name.to_owned(), source };
        let resolve = |setting: &Option<Setting>,
                       variable: &str|
         -> Result<Option<SecretString>, WarehouseError> {
            match setting {
                Some(setting) => setting.resolve().map(Some).map_err(failed),
                None => Ok(std::env::var(variable).ok().filter(|value| !value.is_empty()).map(Into::into)),
            }
        };
        let plain = |setting: &Option<Setting>, variable: &str| -> Result<Option<String>, WarehouseError> {
            Ok(resolve(setting, variable)?.map(|value| value.expose_secret().to_owned()))
        };
        let missing = |message: &str| WarehouseError::Config {
            warehouse: name.to_owned(),
            message: message.to_owned(),
        };
        let identifier = plain(&config.account, "SNOWFLAKE_ACCOUNT")?
            .ok_or_else(|| missing("no account; set SNOWFLAKE_ACCOUNT"))?;
        // It becomes a part of the host's name, to which credentials are sent.
        let is_host =
            |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
        if identifier.is_empty() || !identifier.chars().all(is_host) {
            return Err(missing(
                "the account has characters that no account has; write it as in <account>.snowflakecomputing.com, \
                 without the host's ending",
            ));
        }
        let user =
            plain(&config.user, "SNOWFLAKE_USER")?.ok_or_else(|| missing("no user; set SNOWFLAKE_USER"))?;
        let key = match resolve(&config.private_key, "SNOWFLAKE_PRIVATE_KEY")? {
            Some(key) => Some(key),
            None => match std::env::var("SNOWFLAKE_PRIVATE_KEY_PATH").ok().filter(|path| !path.is_empty()) {
                Some(path) => Some(Setting::from(format!("file:{path}")).resolve().map_err(failed)?),
                None => None,
            },
        };
        let secret = match key {
            Some(key) => Secret::PrivateKey(key),
            None => Secret::Password(resolve(&config.password, "SNOWFLAKE_PASSWORD")?.ok_or_else(|| {
                missing("no credential; set SNOWFLAKE_PRIVATE_KEY (PEM), SNOWFLAKE_PRIVATE_KEY_PATH or SNOWFLAKE_PASSWORD")
            })?),
        };
        let mut parameters = Vec::new();
        for (parameter, setting, variable) in [
            ("warehouse", &config.warehouse, "SNOWFLAKE_WAREHOUSE"),
            ("databaseName", &config.database, "SNOWFLAKE_DATABASE"),
            ("schemaName", &config.schema, "SNOWFLAKE_SCHEMA"),
            ("roleName", &config.role, "SNOWFLAKE_ROLE"),
        ] {
            parameters.extend(plain(setting, variable)?.map(|value| (parameter, value)));
        }
        Ok(Self { identifier, user, secret, parameters })
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Account").field("identifier", &self.identifier).finish_non_exhaustive()
    }
}
