//! Users: people who log in, and what they may do at most.
//!
//! Knows the service database; does not know tokens, sessions, grants or HTTP.
//! U1 a password is kept as an Argon2id hash only.
//! U2 an unknown user, a wrong password and a disabled user are one error, after the same work.
//! U3 disabling or deleting a user, a new password, and taking scopes away kill the user's tokens and logins.
//! U4 nobody gives a user what it does not hold itself; see [`crate::auth::client`].

mod change;
mod password;

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::Value;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::auth::client::{ClientError, check_claims};
use crate::auth::clock::Clock;
use crate::auth::principal::{Claims, UserId};
use crate::auth::scope::{ScopeError, ScopeSet};
use crate::auth::state::{LiveState, UserRecord};
use crate::error::ErrorKind;
use crate::store::{Store, StoreError};

pub use change::UserChange;
pub use password::{MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARACTERS};

/// Longest username.
const MAX_USERNAME_CHARACTERS: usize = 64;

/// What can go wrong with users.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("login failed: unknown user, wrong password, or user disabled")]
    BadCredentials,
    #[error("there is no user {given}")]
    NotFound { given: String },
    #[error("there is a user {username} already")]
    Exists { username: String },
    #[error("a username has 1 to 64 of a-z, 0-9, and . _ - @ + in between, and no capitals")]
    BadUsername,
    #[error("a display name has 1 to 64 characters, none of them a control character")]
    BadDisplayName,
    #[error("this password will not do: {reason}")]
    BadPassword { reason: &'static str },
    #[error("a user needs at least one scope, such as semantic:read")]
    NoScopes,
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error("claim `{name}` cannot be set: {reason}")]
    BadClaim { name: String, reason: &'static str },
    #[error(
        "this takes scopes that you do not hold: {scopes}; nobody can give a user more than it has, so ask with a token that holds them, or have `steward user` run where the service runs"
    )]
    NotHeld { scopes: ScopeSet },
    #[error("you cannot {verb} the user that you are asking as; have another administrator do it")]
    Oneself { verb: &'static str },
    #[error("the operating system gave no random numbers")]
    NoRandomness,
    #[error("the password could not be hashed")]
    Hashing,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UserError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadCredentials => ErrorKind::Unauthenticated,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } | Self::Oneself { .. } => ErrorKind::Conflict,
            Self::BadUsername
            | Self::BadDisplayName
            | Self::BadPassword { .. }
            | Self::NoScopes
            | Self::BadClaim { .. } => ErrorKind::InvalidInput,
            Self::NotHeld { .. } => ErrorKind::InsufficientScope,
            Self::Scope(error) => error.kind(),
            Self::NoRandomness | Self::Hashing => ErrorKind::Internal,
            Self::Store(error) => error.kind(),
        }
    }
}

/// A registered user.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub user_id: UserId,
    /// What one logs in with; unique, in lower case.
    pub username: String,
    /// What people are shown.
    pub display_name: String,
    /// The most that a token for this user may hold.
    pub scopes: ScopeSet,
    /// What row filters see of the user, besides `sub` and `client_id`.
    pub claims: Claims,
    pub created_at_ms: i64,
    pub disabled_at_ms: Option<i64>,
}

/// Whom to register.
#[derive(Debug, Clone, Default)]
pub struct NewUser {
    /// Taken in lower case.
    pub username: String,
    /// The username if empty.
    pub display_name: String,
    /// One is made if absent.
    pub password: Option<SecretString>,
    pub scopes: ScopeSet,
    pub claims: Claims,
}

/// A new user, with the password if it was made here; it will not be shown again.
#[derive(Debug, Clone)]
pub struct UserWithPassword {
    pub user: User,
    pub password: Option<SecretString>,
}

/// The registry of users. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Users {
    state: Arc<LiveState>,
    /// The most that can be given away; everything, if absent: the owner of the process.
    holder: Option<ScopeSet>,
}

impl Users {
    /// The registry alone, for the command line.
    pub async fn open(store: Store, clock: Clock) -> Result<Self, StoreError> {
        Ok(Self::new(LiveState::load(store, clock).await?))
    }

    pub(super) fn new(state: Arc<LiveState>) -> Self {
        Self { state, holder: None }
    }

    /// The same registry in the hands of somebody who holds no more than `scopes` (U4).
    pub fn limited_to(&self, scopes: &ScopeSet) -> Self {
        Self { state: self.state.clone(), holder: Some(scopes.clone()) }
    }

    /// Registers a user.
    pub async fn create(&self, new: &NewUser) -> Result<UserWithPassword, UserError> {
        let username = username(&new.username)?;
        let display_name =
            if new.display_name.is_empty() { username.clone() } else { new.display_name.clone() };
        check(&display_name, &new.scopes, &new.claims)?;
        self.require_held(new.scopes.iter())?;
        let (password, shown) = match &new.password {
            Some(password) => (password.clone(), None),
            None => {
                let made = password::random()?;
                (made.clone(), Some(made))
            }
        };
        password::check(&username, &password)?;
        let password_hash = password::hash(password).await?;
        let user = User {
            user_id: UserId::random(),
            username,
            display_name,
            scopes: new.scopes.clone(),
            claims: new.claims.clone(),
            created_at_ms: self.state.clock().now_ms(),
            disabled_at_ms: None,
        };
        let mut change = self.state.begin_change().await?;
        let inserted = sqlx::query(
            "INSERT INTO users (user_id, username, display_name, password_hash, scopes, claims, created_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (username) DO NOTHING",
        )
        .bind(user.user_id.as_str())
        .bind(user.username.as_str())
        .bind(user.display_name.as_str())
        .bind(password_hash)
        .bind(user.scopes.to_string())
        .bind(Value::Object(user.claims.clone().into_iter().collect()).to_string())
        .bind(user.created_at_ms)
        .execute(&mut *change)
        .await
        .map_err(StoreError::from)?;
        if inserted.rows_affected() == 0 {
            return Err(UserError::Exists { username: user.username });
        }
        self.state.commit_change(change).await?;
        Ok(UserWithPassword { user, password: shown })
    }

    /// All users by username, disabled ones among them.
    pub async fn list(&self) -> Result<Vec<User>, UserError> {
        let rows = sqlx::query(select_users!("ORDER BY username"))
            .fetch_all(self.state.store().pool())
            .await
            .map_err(StoreError::from)?;
        Ok(rows.iter().map(|row| user_of_row(row).map(|record| record.user)).collect::<Result<_, _>>()?)
    }

    /// One user.
    pub async fn get(&self, user_id: &UserId) -> Result<User, UserError> {
        let row = sqlx::query(select_users!("WHERE user_id = $1"))
            .bind(user_id.as_str())
            .fetch_optional(self.state.store().pool())
            .await
            .map_err(StoreError::from)?
            .ok_or_else(|| UserError::NotFound { given: user_id.to_string() })?;
        Ok(user_of_row(&row)?.user)
    }

    /// The user of that name, however it is capitalised.
    pub async fn find_by_username(&self, name: &str) -> Result<Option<User>, UserError> {
        let Ok(name) = username(name) else { return Ok(None) };
        let row = sqlx::query(select_users!("WHERE username = $1"))
            .bind(name)
            .fetch_optional(self.state.store().pool())
            .await
            .map_err(StoreError::from)?;
        Ok(row.map(|row| user_of_row(&row)).transpose()?.map(|record| record.user))
    }

    /// Whether that password is that user's (U2). Some 30 ms of a core; callers count failures with a throttle.
    pub async fn verify(&self, name: &str, password: &SecretString) -> Result<User, UserError> {
        let name = username(name).unwrap_or_default();
        // Another process may just have made, changed or disabled the user. Asked for everybody, since a query for unknown
        // users alone would tell them apart by time.
        self.state.refresh().await?;
        let hash = self.record(&name).map(|record| record.password_hash.clone());
        let matches = password::verify(password.clone(), hash).await?;
        // Looked up again: it may have been disabled while the hash was computed.
        match self.record(&name) {
            Some(record) if matches && record.user.disabled_at_ms.is_none() => Ok(record.user.clone()),
            _ => Err(UserError::BadCredentials),
        }
    }

    /// The user of that id as the copy in memory has it, if it is enabled and `since_ms` is after what last ended its
    /// logins (U3).
    pub fn still_good(&self, user_id: &UserId, since_ms: i64) -> Option<User> {
        let snapshot = self.state.snapshot();
        let record = snapshot.users.get(user_id.as_str())?;
        let ended = record.tokens_not_before_ms.is_some_and(|until| since_ms <= until);
        (!ended && record.user.disabled_at_ms.is_none()).then(|| record.user.clone())
    }

    fn record(&self, username: &str) -> Option<Arc<UserRecord>> {
        let snapshot = self.state.snapshot();
        let id = snapshot.usernames.get(username)?;
        snapshot.users.get(id).cloned()
    }
}

/// The name in lower case, if it is one: ASCII only, so that no two look alike.
fn username(text: &str) -> Result<String, UserError> {
    let name = text.to_ascii_lowercase();
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    let fits = (1..=MAX_USERNAME_CHARACTERS).contains(&name.len())
        && name.chars().all(inner)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric());
    if fits { Ok(name) } else { Err(UserError::BadUsername) }
}

fn check(display_name: &str, scopes: &ScopeSet, claims: &Claims) -> Result<(), UserError> {
    let characters = display_name.chars().count();
    if !(1..=64).contains(&characters) || display_name.chars().any(char::is_control) {
        return Err(UserError::BadDisplayName);
    }
    if scopes.is_empty() {
        return Err(UserError::NoScopes);
    }
    scopes.check_grantable()?;
    check_claims(claims).map_err(|error| match error {
        ClientError::BadClaim { name, reason } => UserError::BadClaim { name, reason },
        _ => UserError::BadClaim { name: "*".into(), reason: "they cannot be read" },
    })
}

/// `SELECT` of what [`user_of_row`] reads, and the rest of the statement.
macro_rules! select_users {
    ($rest:literal) => {
        concat!(
            "SELECT user_id, username, display_name, password_hash, scopes, claims, created_at_ms, disabled_at_ms, \
             tokens_not_before_ms FROM users ",
            $rest
        )
    };
}
pub(super) use select_users;

pub(super) fn user_of_row(row: &AnyRow) -> Result<UserRecord, StoreError> {
    let decode = |column: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        StoreError::Query(sqlx::Error::ColumnDecode { index: column.to_owned(), source: error })
    };
    let text = |column: &str| row.try_get::<String, _>(column);
    let user = User {
        user_id: text("user_id")?.parse().map_err(|error| decode("user_id", Box::new(error)))?,
        username: text("username")?,
        display_name: text("display_name")?,
        scopes: text("scopes")?.parse().map_err(|error| decode("scopes", Box::new(error)))?,
        claims: serde_json::from_str(&text("claims")?).map_err(|error| decode("claims", Box::new(error)))?,
        created_at_ms: row.try_get("created_at_ms")?,
        disabled_at_ms: row.try_get("disabled_at_ms")?,
    };
    Ok(UserRecord {
        user,
        password_hash: text("password_hash")?,
        tokens_not_before_ms: row.try_get("tokens_not_before_ms")?,
    })
}

#[cfg(test)]
mod tests;
