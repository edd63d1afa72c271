//! The copy in memory of clients, secrets, users and revocations, so that neither verifying a token nor authenticating a
//! client runs SQL.
//!
//! Knows the tables of migrations 1, 4 and 5; does not know tokens or HTTP.
//! L1 a change by this process is seen when the call that made it returns; one by another process within a poll.
//! L2 when the database cannot be asked, the copy's age tells, and whoever relies on it decides how old is too old.
//!
//! A poll reads one number (`auth_version`); only when it has moved are the tables read again, whole. That costs
//! about 1 ms per thousand rows (clients, secrets, revocations of tokens that haven't expired), at most once a poll.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use sqlx::Row;
use sqlx::any::AnyRow;
use tracing::{error, warn};

use crate::auth::client::{Client, ClientError};
use crate::auth::clock::Clock;
use crate::auth::poll::{self, PollingGuard};
use crate::auth::principal::{Claims, ClientId};
use crate::auth::scope::ScopeSet;
use crate::auth::user::{User, select_users, user_of_row};
use crate::store::{Store, StoreError};

/// How often other replicas' changes are looked for.
pub const POLL_EVERY: Duration = Duration::from_millis(500);

/// A secret's SHA-256 and when it stops working.
#[derive(Clone)]
pub(super) struct SecretHash {
    pub sha256: [u8; 32],
    pub expires_at_ms: Option<i64>,
}

/// A client as the tables hold it.
pub(super) struct ClientRecord {
    pub client: Client,
    pub tokens_not_before_ms: Option<i64>,
    pub secrets: Vec<SecretHash>,
}

/// A user as the table holds it.
pub(super) struct UserRecord {
    pub user: User,
    pub password_hash: String,
    pub tokens_not_before_ms: Option<i64>,
}

/// The tables at one version.
#[derive(Default)]
pub(super) struct Snapshot {
    pub version: i64,
    pub clients: HashMap<String, Arc<ClientRecord>>,
    /// By user id.
    pub users: HashMap<String, Arc<UserRecord>>,
    /// Username → user id.
    pub usernames: HashMap<String, String>,
    /// jti → when the token would have expired.
    pub revoked: HashMap<String, i64>,
    /// Ids of clients and users whose tokens may not have expired yet.
    pub deleted: HashSet<String>,
}

/// When the snapshot was last known to be what the database holds.
#[derive(Clone, Copy)]
pub(super) struct Checked {
    pub at_ms: i64,
    pub at: Instant,
}

/// The snapshot in force, and the means to renew it.
pub struct LiveState {
    store: Store,
    clock: Clock,
    snapshot: ArcSwap<Snapshot>,
    checked: Mutex<Checked>,
    /// Held while refreshing, so that an older snapshot never overwrites a newer one.
    refreshing: tokio::sync::Mutex<()>,
}

impl LiveState {
    /// Reads the tables.
    pub async fn load(store: Store, clock: Clock) -> Result<Arc<Self>, StoreError> {
        let checked = Checked { at_ms: clock.now_ms(), at: Instant::now() };
        let version = read_version(&store).await?;
        let snapshot = read_tables(&store, version, checked.at_ms).await?;
        Ok(Arc::new(Self {
            store,
            clock,
            snapshot: ArcSwap::from_pointee(snapshot),
            checked: Mutex::new(checked),
            refreshing: tokio::sync::Mutex::new(()),
        }))
    }

    /// Brings the copy up to date; true if anything had changed.
    pub async fn refresh(&self) -> Result<bool, StoreError> {
        let _alone = self.refreshing.lock().await;
        // Taken before asking: the answer is at least as new as this.
        let checked = Checked { at_ms: self.clock.now_ms(), at: Instant::now() };
        let version = read_version(&self.store).await?;
        let changed = version != self.snapshot.load().version;
        if changed {
            self.snapshot.store(Arc::new(read_tables(&self.store, version, checked.at_ms).await?));
        }
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = checked;
        Ok(changed)
    }

    /// Keeps refreshing until the returned guard is dropped. Needs a tokio runtime.
    pub fn spawn_polling(self: &Arc<Self>, every: Duration) -> PollingGuard {
        poll::spawn(
            self,
            every,
            "clients, users and revocations",
            |state| async move { state.refresh().await },
        )
    }

    pub(super) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    pub(super) fn checked(&self) -> Checked {
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Opens a transaction that changes the tables: it counts the version up first, and so waits for other writers.
    pub(super) async fn begin_change(&self) -> Result<sqlx::Transaction<'static, sqlx::Any>, StoreError> {
        let mut transaction = self.store.pool().begin().await?;
        sqlx::query("UPDATE auth_version SET version = version + 1 WHERE singleton = 1")
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }

    /// Commits and makes the change visible to this process (L1). A refresh that fails is left to the poll.
    pub(super) async fn commit_change(
        &self,
        transaction: sqlx::Transaction<'static, sqlx::Any>,
    ) -> Result<(), StoreError> {
        transaction.commit().await?;
        if let Err(error) = self.refresh().await {
            warn!(%error, "a change to clients or revocations is stored, but not yet in force here");
        }
        Ok(())
    }
}

impl std::fmt::Debug for LiveState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let snapshot = self.snapshot.load();
        f.debug_struct("LiveState")
            .field("version", &snapshot.version)
            .field("clients", &snapshot.clients.len())
            .field("revoked", &snapshot.revoked.len())
            .finish()
    }
}

async fn read_version(store: &Store) -> Result<i64, StoreError> {
    let row =
        sqlx::query("SELECT version FROM auth_version WHERE singleton = 1").fetch_one(store.pool()).await?;
    Ok(row.try_get("version")?)
}

/// Read after the version: what is committed in between is seen now, and read once more at the next poll.
async fn read_tables(store: &Store, version: i64, now_ms: i64) -> Result<Snapshot, StoreError> {
    let clients =
        sqlx::query(select_clients!("ORDER BY created_at_ms, client_id")).fetch_all(store.pool()).await?;
    let secrets =
        sqlx::query("SELECT client_id, sha256_hex, expires_at_ms FROM client_secrets ORDER BY secret_id")
            .fetch_all(store.pool())
            .await?;
    let revoked = sqlx::query("SELECT jti, expires_at_ms FROM revoked_tokens WHERE expires_at_ms > $1")
        .bind(now_ms)
        .fetch_all(store.pool())
        .await?;
    let users = sqlx::query(select_users!("")).fetch_all(store.pool()).await?;
    let deleted = sqlx::query(
        "SELECT client_id AS id FROM deleted_clients UNION ALL SELECT user_id AS id FROM deleted_users",
    )
    .fetch_all(store.pool())
    .await?;
    let rows = Rows { clients, secrets, users, revoked, deleted };
    // A hundred clients take about a millisecond to decode.
    tokio::task::spawn_blocking(move || decode(&rows, version, now_ms))
        .await
        .map_err(|_| StoreError::Query(sqlx::Error::WorkerCrashed))?
}

struct Rows {
    clients: Vec<AnyRow>,
    secrets: Vec<AnyRow>,
    users: Vec<AnyRow>,
    revoked: Vec<AnyRow>,
    deleted: Vec<AnyRow>,
}

fn decode(rows: &Rows, version: i64, now_ms: i64) -> Result<Snapshot, StoreError> {
    let mut records = HashMap::with_capacity(rows.clients.len());
    for row in &rows.clients {
        match client_of_row(row) {
            Ok((client, tokens_not_before_ms)) => {
                let id = client.client_id.as_str().to_owned();
                records.insert(id, ClientRecord { client, tokens_not_before_ms, secrets: vec![] });
            }
            // One bad row must not keep everybody else out.
            Err(error) => error!(%error, "a row of table clients cannot be read; that client cannot get in"),
        }
    }
    for row in &rows.secrets {
        let expires_at_ms: Option<i64> = row.try_get("expires_at_ms")?;
        let mut sha256 = [0; 32];
        let readable = hex::decode_to_slice(row.try_get::<String, _>("sha256_hex")?, &mut sha256).is_ok();
        let live = expires_at_ms.is_none_or(|expires| expires > now_ms);
        let record = records.get_mut(&row.try_get::<String, _>("client_id")?);
        if let (true, true, Some(record)) = (readable, live, record) {
            record.secrets.push(SecretHash { sha256, expires_at_ms });
        }
    }
    let revoked = rows
        .revoked
        .iter()
        .map(|row| Ok((row.try_get("jti")?, row.try_get("expires_at_ms")?)))
        .collect::<Result<_, sqlx::Error>>()?;
    let deleted = rows.deleted.iter().map(|row| row.try_get("id")).collect::<Result<_, sqlx::Error>>()?;
    let clients = records.into_iter().map(|(id, record)| (id, Arc::new(record))).collect();
    let mut users = HashMap::with_capacity(rows.users.len());
    let mut usernames = HashMap::with_capacity(rows.users.len());
    for row in &rows.users {
        match user_of_row(row) {
            Ok(record) => {
                let id = record.user.user_id.as_str().to_owned();
                usernames.insert(record.user.username.clone(), id.clone());
                users.insert(id, Arc::new(record));
            }
            Err(error) => error!(%error, "a row of table users cannot be read; that user cannot get in"),
        }
    }
    Ok(Snapshot { version, clients, users, usernames, revoked, deleted })
}

/// `SELECT` of what [`client_of_row`] reads, and the rest of the statement. Columns by name: with `*`, a statement that
/// PostgreSQL has prepared breaks when a newer replica adds a column.
macro_rules! select_clients {
    ($rest:literal) => {
        concat!(
            "SELECT client_id, name, scopes, claims, created_at_ms, disabled_at_ms, tokens_not_before_ms, \
             authentication, grant_types, redirect_uris, jwks, audiences FROM clients ",
            $rest
        )
    };
}
pub(super) use select_clients;

/// The client, and until when its tokens are dead.
pub(super) fn client_of_row(row: &AnyRow) -> Result<(Client, Option<i64>), StoreError> {
    let decode = |column: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        StoreError::Query(sqlx::Error::ColumnDecode { index: column.to_owned(), source: error })
    };
    let client_id: ClientId = row
        .try_get::<String, _>("client_id")?
        .parse()
        .map_err(|error| decode("client_id", Box::new(error)))?;
    let scopes: ScopeSet =
        row.try_get::<String, _>("scopes")?.parse().map_err(|error| decode("scopes", Box::new(error)))?;
    let claims: Claims = serde_json::from_str(&row.try_get::<String, _>("claims")?)
        .map_err(|error| decode("claims", Box::new(error)))?;
    let list = |column: &str| -> Result<Vec<String>, StoreError> {
        Ok(row
            .try_get::<String, _>(column)?
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect())
    };
    let authentication = row
        .try_get::<String, _>("authentication")?
        .parse()
        .map_err(|error: ClientError| decode("authentication", Box::new(error)))?;
    let grant_types = list("grant_types")?
        .iter()
        .map(|grant| grant.parse())
        .collect::<Result<_, ClientError>>()
        .map_err(|error| decode("grant_types", Box::new(error)))?;
    let client = Client {
        client_id,
        name: row.try_get("name")?,
        scopes,
        claims,
        authentication,
        grant_types,
        redirect_uris: list("redirect_uris")?,
        jwks: Some(row.try_get::<String, _>("jwks")?).filter(|jwks| !jwks.is_empty()),
        audiences: list("audiences")?,
        created_at_ms: row.try_get("created_at_ms")?,
        disabled_at_ms: row.try_get("disabled_at_ms")?,
    };
    Ok((client, row.try_get("tokens_not_before_ms")?))
}
