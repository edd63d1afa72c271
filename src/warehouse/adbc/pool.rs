//! The driver, the database and its connections. Everything here blocks.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adbc_core::options::{AdbcVersion, OptionDatabase, OptionValue};
use adbc_core::{Connection, Database, Driver, Statement};
use adbc_driver_manager::{ManagedConnection, ManagedDatabase, ManagedDriver};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use super::fault::Fault;
use super::{QueryTag, WarehouseDialect, WarehouseError};
use crate::config::AdbcConfig;

/// Seconds to wait for a server that does not answer, where the options do not say.
const CONNECT_TIMEOUT_SECONDS: u64 = 10;
/// How long a statement waits for a lock, in seconds: readers wait for none but those of a table that is being changed.
const LOCK_TIMEOUT_SECONDS: u64 = 5;

pub(super) struct Pool {
    pub name: String,
    pub dialect: WarehouseDialect,
    /// A statement holds one.
    pub slots: Arc<Semaphore>,
    driver: ManagedDriver,
    options: Vec<(String, SecretString)>,
    /// Opened at the first use, which may fail and be tried again.
    database: Mutex<Option<ManagedDatabase>>,
    idle: Mutex<Vec<ManagedConnection>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("name", &self.name)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// Loads the driver and reads the options' values. Asks no server.
    pub fn open(name: &str, config: &AdbcConfig) -> Result<Self, WarehouseError> {
        let dialect = WarehouseDialect::from(config.dialect);
        let options = config
            .options
            .iter()
            .map(|(key, setting)| Ok((key.clone(), setting.resolve()?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| WarehouseError::Setting { warehouse: name.to_owned(), source })?;
        let driver =
            load(&config.driver, config.entrypoint.as_deref()).map_err(|error| WarehouseError::Driver {
                warehouse: name.to_owned(),
                driver: config.driver.display().to_string(),
                reason: error.message.lines().next().unwrap_or_default().to_owned(),
            })?;
        if config.max_connections == 0 {
            let message = "max_connections is 0; set it to 1 or more".to_owned();
            return Err(WarehouseError::Config { warehouse: name.to_owned(), message });
        }
        Ok(Self {
            name: name.to_owned(),
            dialect,
            slots: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            driver,
            options,
            database: Mutex::default(),
            idle: Mutex::default(),
        })
    }

    /// A connection that is ready for one statement: one that was given back, as long as it still answers, or a new one.
    pub fn take(&self, timeout: Duration, tag: &QueryTag) -> Result<ManagedConnection, Fault> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut connection) = idle else { break };
            // The server may have gone away since.
            if self.begin(&mut connection, timeout, tag).is_ok() {
                return Ok(connection);
            }
        }
        let mut connection = self.connect()?;
        self.begin(&mut connection, timeout, tag)?;
        Ok(connection)
    }

    /// For the next statement. Closes it if it cannot be brought back to its first state.
    pub fn give_back(&self, mut connection: ManagedConnection) {
        let is_clean = match self.dialect {
            WarehouseDialect::PostgreSql => execute(&mut connection, "ROLLBACK").is_ok(),
            _ => true,
        };
        if is_clean {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }

    fn connect(&self) -> Result<ManagedConnection, Fault> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match &*database {
            Some(opened) => opened.clone(),
            None => database.insert(self.open_database()?).clone(),
        };
        drop(database);
        let mut connection = opened.new_connection()?;
        match self.dialect {
            WarehouseDialect::PostgreSql => {
                execute(&mut connection, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")?;
            }
            WarehouseDialect::Sqlite => execute(&mut connection, "PRAGMA query_only = ON")?,
            _ => {}
        }
        Ok(connection)
    }

    fn open_database(&self) -> Result<ManagedDatabase, Fault> {
        let mut driver = self.driver.clone();
        let mut options: Vec<(OptionDatabase, OptionValue)> = Vec::new();
        for (key, value) in &self.options {
            let value = match (self.dialect, key.as_str()) {
                (WarehouseDialect::PostgreSql, "uri") => with_connect_timeout(value.expose_secret()),
                // Ours.
                (WarehouseDialect::DuckDb, "access_mode") => continue,
                _ => value.expose_secret().to_owned(),
            };
            options.push((OptionDatabase::from(key.as_str()), value.into()));
        }
        if self.dialect == WarehouseDialect::DuckDb {
            options.push((OptionDatabase::Other("access_mode".to_owned()), "READ_ONLY".into()));
        }
        let database = driver.new_database_with_opts(options)?;
        if self.dialect == WarehouseDialect::DuckDb {
            // They hold for the database: the last one closes the door behind us.
            let mut connection = database.new_connection()?;
            for statement in [
                "SET enable_external_access = false",
                "SET GLOBAL TimeZone = 'UTC'",
                "SET lock_configuration = true",
            ] {
                execute(&mut connection, statement)?;
            }
        }
        Ok(database)
    }

    /// A1.
    fn begin(
        &self,
        connection: &mut ManagedConnection,
        timeout: Duration,
        tag: &QueryTag,
    ) -> Result<(), Fault> {
        if self.dialect != WarehouseDialect::PostgreSql {
            return Ok(());
        }
        let milliseconds = timeout.as_millis().clamp(1, i32::MAX as u128);
        let lock = (u128::from(LOCK_TIMEOUT_SECONDS) * 1000).min(milliseconds);
        let text = format!(
            "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY; \
             SET LOCAL statement_timeout = {milliseconds}; \
             SET LOCAL lock_timeout = {lock}; \
             SET LOCAL idle_in_transaction_session_timeout = {milliseconds}; \
             SET LOCAL search_path = pg_catalog, pg_temp; \
             SET LOCAL standard_conforming_strings = on; \
             SET LOCAL TimeZone = 'UTC'; \
             SET LOCAL DateStyle = 'ISO, YMD'; \
             SELECT pg_catalog.set_config('application_name', '{}', true)",
            // A query, so that the transaction's mode can no longer be set.
            application_name(tag)
        );
        execute(connection, &text)
    }
}

fn load(driver: &Path, entrypoint: Option<&str>) -> Result<ManagedDriver, adbc_core::error::Error> {
    let entrypoint = entrypoint.map(str::as_bytes);
    let version = AdbcVersion::V110;
    let is_path = driver.components().count() > 1 || driver.extension().is_some();
    match driver.to_str() {
        Some(name) if !is_path => ManagedDriver::load_dynamic_from_name(name, entrypoint, version),
        _ => ManagedDriver::load_dynamic_from_filename(driver, entrypoint, version),
    }
}

/// A statement of ours without a result.
fn execute(connection: &mut ManagedConnection, sql: &str) -> Result<(), Fault> {
    let mut statement = connection.new_statement()?;
    statement.set_sql_query(sql)?;
    statement.execute_update()?;
    Ok(())
}

/// libpq waits for the operating system's patience otherwise, which is minutes.
fn with_connect_timeout(uri: &str) -> String {
    if uri.contains("connect_timeout") {
        return uri.to_owned();
    }
    match uri.contains("://") {
        true => {
            let separator = if uri.contains('?') { '&' } else { '?' };
            format!("{uri}{separator}connect_timeout={CONNECT_TIMEOUT_SECONDS}")
        }
        false => format!("{uri} connect_timeout={CONNECT_TIMEOUT_SECONDS}"),
    }
}

/// What PostgreSQL shows of a session: 63 bytes without a quote.
fn application_name(tag: &QueryTag) -> String {
    let plain = |text: &str| -> String {
        let is_plain =
            |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
        text.chars().map(|character| if is_plain(character) { character } else { '_' }).collect()
    };
    let name = format!("steward {} {}", plain(&tag.client), plain(&tag.request_id));
    name.trim_end().chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_calls_itself_cannot_leave_the_quotes() {
        let tag = QueryTag { client: "x'; DROP TABLE t; --\\é".to_owned(), request_id: "1".repeat(100) };
        let name = application_name(&tag);
        assert!(name.len() <= 63 && !name.contains(['\'', '\\', ';']), "{name}");
        assert_eq!(application_name(&QueryTag::default()), "steward");
    }

    #[test]
    fn a_server_that_does_not_answer_is_given_up_on_in_every_form_of_address() {
        for (uri, expected) in [
            ("postgresql://h/d", "postgresql://h/d?connect_timeout=10"),
            ("postgresql://h/d?sslmode=require", "postgresql://h/d?sslmode=require&connect_timeout=10"),
            ("host=h dbname=d", "host=h dbname=d connect_timeout=10"),
            ("postgresql://h/d?connect_timeout=3", "postgresql://h/d?connect_timeout=3"),
        ] {
            assert_eq!(with_connect_timeout(uri), expected);
        }
    }
}
