//! The service database: clients, documents, audit. SQLite by default, PostgreSQL where several replicas share it.
//!
//! Knows SQL and migrations, nothing of what the rows mean: each area keeps its own queries in its own folder and
//! borrows the pool. Statements are written once for both databases: `$1` parameters, INTEGER/BIGINT epoch
//! milliseconds for time, TEXT for everything textual, JSON as TEXT.

mod folder_id;

use std::path::Path;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, Connection, SqlStr};

use crate::config::{DatabaseUrl, shown_database};
use crate::error::ErrorKind;

pub use folder_id::FolderId;

/// How long a request or the start waits for a connection, as when the server is just starting.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Every schema change, in order. A landed file never changes; a later one mends it.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "clients", include_str!("../../migrations/0001_clients.sql")),
    (2, "documents", include_str!("../../migrations/0002_documents.sql")),
    (3, "audit", include_str!("../../migrations/0003_audit.sql")),
    (4, "deleted_clients", include_str!("../../migrations/0004_deleted_clients.sql")),
    (5, "users", include_str!("../../migrations/0005_users.sql")),
    (6, "authorization", include_str!("../../migrations/0006_authorization.sql")),
    (7, "assertions", include_str!("../../migrations/0007_assertions.sql")),
    (8, "document_folders", include_str!("../../migrations/0008_document_folders.sql")),
];

/// What can go wrong below the rows.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `place` has no credentials, nor has any text of sqlx.
    #[error("cannot open the service database at {place}: {source}; {help}")]
    Open { place: String, source: sqlx::Error, help: &'static str },
    #[error(
        "cannot read or make {path}, which says whose documents are here: {source}; restore it from a backup, \
         or check the permissions"
    )]
    FolderId { path: String, source: std::io::Error },
    #[error("cannot create {path}: {source}")]
    CreateFolder { path: String, source: std::io::Error },
    #[error("cannot migrate the service database: {0}; restore the newer binary, or a backup")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("service database: {0}")]
    Query(#[from] sqlx::Error),
}

impl StoreError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            // What came over the connection was no answer of a database: it broke, or another program listens there.
            Self::Query(
                sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::BeginFailed
                | sqlx::Error::WorkerCrashed,
            ) => ErrorKind::Unavailable,
            Self::Query(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| will_pass(&code)) =>
            {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Internal,
        }
    }
}

/// Whether a database's error code tells of its state, not of a defect: five characters are PostgreSQL's (appendix A of
/// its manual), fewer are SQLite's (extended) result codes.
fn will_pass(code: &str) -> bool {
    if code.len() == 5 {
        // Connection lost, resources used up, shutting down or starting, input/output; deadlock, lock, standby.
        return ["08", "53", "57P", "58"].iter().any(|class| code.starts_with(class))
            || ["40001", "40P01", "55P03", "25006"].contains(&code);
    }
    // SQLITE_BUSY, SQLITE_READONLY, SQLITE_FULL.
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 8 | 13))
}

/// What to do about a database that does not open.
fn help(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(|error| error.code());
    match (error, code.as_deref()) {
        (_, Some("28P01" | "28000")) => "check user and password in DATABASE_URL, PGPASSWORD or PGPASSFILE",
        (_, Some("3D000")) => "create it (CREATE DATABASE), or name another in DATABASE_URL",
        (_, Some("42501")) => "the user needs the right to create tables: GRANT CREATE ON SCHEMA public",
        (_, Some("14")) => "check that its folder exists and may be written to",
        (sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut, _) => {
            "check that the server runs and that DATABASE_URL has its host and port"
        }
        (sqlx::Error::Tls(_), _) => {
            "check that the server offers TLS and that its certificate holds: sslmode, sslrootcert"
        }
        _ => "check DATABASE_URL",
    }
}

/// A pool on the migrated service database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    is_sqlite: bool,
}

impl Store {
    /// Opens the database at `url`, or SQLite in the data folder if that is empty, and migrates it.
    pub async fn open(url: &DatabaseUrl, data_dir: &Path) -> Result<Self, StoreError> {
        match url.expose() {
            Some(url) => Self::open_url(url).await,
            None => Self::open_sqlite(&data_dir.join("steward.sqlite")).await,
        }
    }

    /// Opens SQLite at `path`, creating file and folder, and migrates it.
    pub async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            create_private_folder(folder)?;
        }
        Self::open_url(&format!("sqlite://{}?mode=rwc", path.display())).await
    }

    /// Opens `sqlite:`, `postgres:` or `postgresql:` and migrates it. An SQLite file is created unless the URL has a
    /// mode of its own. Of processes that start together on an empty PostgreSQL database, one migrates and the others
    /// wait.
    pub async fn open_url(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let is_sqlite = url.starts_with("sqlite:");
        let url = match url.split_once('?') {
            None if is_sqlite => format!("{url}?mode=rwc"),
            Some((_, query)) if is_sqlite && !query.contains("mode=") => format!("{url}&mode=rwc"),
            _ => url.to_owned(),
        };
        let place = || shown_database(&url);
        let pool = AnyPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if is_sqlite {
                        // WAL: readers never wait for the writer. NORMAL keeps every commit across a process crash.
                        for pragma in [
                            "PRAGMA journal_mode = WAL",
                            "PRAGMA synchronous = NORMAL",
                            "PRAGMA busy_timeout = 10000",
                            "PRAGMA foreign_keys = ON",
                        ] {
                            sqlx::query(pragma).execute(&mut *connection).await?;
                        }
                    }
                    Ok(())
                })
            })
            .connect(&url)
            .await;
        let pool = match pool {
            Ok(pool) => pool,
            Err(error) => {
                let source = cause(&url, error).await;
                return Err(StoreError::Open { place: place(), help: help(&source), source });
            }
        };
        let migrations = MIGRATIONS
            .iter()
            .map(|(version, name, sql)| {
                Migration::new(
                    *version,
                    (*name).into(),
                    MigrationType::Simple,
                    SqlStr::from_static(sql),
                    false,
                )
            })
            .collect();
        let migrated = Migrator::with_migrations(migrations).run(&pool).await;
        migrated.map_err(|error| match error {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _)
                if source.as_database_error().is_some() =>
            {
                StoreError::Open { place: place(), help: help(&source), source }
            }
            error => StoreError::Migrate(error),
        })?;
        Ok(Self { pool, is_sqlite })
    }

    /// Whether one service alone uses this database, as with SQLite; several may share PostgreSQL.
    pub fn serves_one(&self) -> bool {
        self.is_sqlite
    }

    /// The pool, for the queries of each area.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }
}

/// The pool waits for a server that may be starting, and forgets why it had to: one more attempt tells.
async fn cause(url: &str, error: sqlx::Error) -> sqlx::Error {
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error;
    }
    match tokio::time::timeout(Duration::from_secs(2), AnyConnection::connect(url)).await {
        Ok(Err(cause)) => cause,
        Ok(Ok(_)) | Err(_) => error,
    }
}

/// Creates a folder that only this user can enter; secrets and response bodies live below it.
pub fn create_private_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(|source| StoreError::CreateFolder { path: folder.display().to_string(), source })
}

/// Milliseconds since the Unix epoch, as every time column holds them.
pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restart_or_some_space_mends_is_unavailable_and_the_rest_is_ours() {
        for code in
            ["57P01", "57P02", "57P03", "53300", "53100", "08006", "40001", "25006", "5", "517", "8", "13"]
        {
            assert!(will_pass(code), "{code}");
        }
        for code in ["23505", "42P01", "28P01", "22021", "1", "19", "2067", "11", ""] {
            assert!(!will_pass(code), "{code}");
        }
    }

    #[tokio::test]
    async fn an_sqlite_file_is_made_unless_the_url_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let url = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
        Store::open_url(&url("made.sqlite")).await.unwrap();
        assert!(folder.path().join("made.sqlite").is_file());
        let error =
            Store::open_url(&format!("{}?mode=rw", url("absent.sqlite"))).await.unwrap_err().to_string();
        assert!(error.contains("absent.sqlite") && !error.contains("mode="), "{error}");
        let error = Store::open_url(&url("no/folder/x.sqlite")).await.unwrap_err().to_string();
        assert!(error.contains("check that its folder exists"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_without_the_password() {
        // Bound and closed: nobody listens there now.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("postgres://someone:hunter2@127.0.0.1:{port}/steward");
        let refused = AnyConnection::connect(&url);
        sqlx::any::install_default_drivers();
        let error = refused.await.unwrap_err();
        let told = StoreError::Open { place: shown_database(&url), help: help(&error), source: error };
        assert!(told.to_string().contains(&format!("127.0.0.1:{port}/steward")), "{told}");
        assert!(told.to_string().contains("server runs"), "{told}");
        assert!(!format!("{told} {told:?}").contains("hunter2"), "{told:?}");
    }

    #[tokio::test]
    async fn what_is_no_answer_of_a_database_is_an_outage() {
        sqlx::any::install_default_drivers();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://someone:hunter2@{}/steward", listener.local_addr().unwrap());
        // Says what it hears, as a connection that the system made with itself does.
        let echo = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut heard, mut said) = stream.split();
            tokio::io::copy(&mut heard, &mut said).await.unwrap();
        };
        let error = tokio::select! {
            answer = AnyConnection::connect(&url) => answer.unwrap_err(),
            () = echo => panic!("the connection ended without an answer"),
        };
        assert_eq!(StoreError::Query(error).kind(), ErrorKind::Unavailable);
    }
}
