//! The service database: clients, documents, audit. SQLite by default, PostgreSQL where several replicas share it.
//!
//! Knows SQL and migrations, nothing of what the rows mean: each area keeps its own queries in its own folder and
//! borrows the pool. Statements are written once for both databases: `$1` parameters, INTEGER/BIGINT epoch
//! milliseconds for time, TEXT for everything textual, JSON as TEXT.

use std::path::Path;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, SqlStr};

use crate::error::ErrorKind;

/// Every schema change, in order. A landed file never changes; a later one mends it.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "clients", include_str!("../../migrations/0001_clients.sql")),
    (2, "documents", include_str!("../../migrations/0002_documents.sql")),
    (3, "audit", include_str!("../../migrations/0003_audit.sql")),
    (4, "deleted_clients", include_str!("../../migrations/0004_deleted_clients.sql")),
    (5, "users", include_str!("../../migrations/0005_users.sql")),
];

/// What can go wrong below the rows.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the service database: {0}; check DATABASE_URL or the data folder's permissions")]
    Open(#[source] sqlx::Error),
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
            Self::Query(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)) => ErrorKind::Unavailable,
            // SQLITE_FULL (13), SQLITE_BUSY (5), SQLITE_READONLY (8): the service's state, not a defect.
            Self::Query(sqlx::Error::Database(error))
                if matches!(error.code().as_deref(), Some("13" | "5" | "8" | "53100")) =>
            {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Internal,
        }
    }
}

/// A pool on the migrated service database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
}

impl Store {
    /// Opens SQLite at `path`, creating file and folder, and migrates it.
    pub async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            create_private_folder(folder)?;
        }
        Self::open_url(&format!("sqlite://{}?mode=rwc", path.display())).await
    }

    /// Opens `sqlite:`, `postgres:` or `postgresql:` and migrates it.
    pub async fn open_url(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let is_sqlite = url.starts_with("sqlite:");
        let pool = AnyPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(10))
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
            .connect(url)
            .await
            .map_err(StoreError::Open)?;
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
        Migrator::with_migrations(migrations).run(&pool).await?;
        Ok(Self { pool })
    }

    /// The pool, for the queries of each area.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
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
