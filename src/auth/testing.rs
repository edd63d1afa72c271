//! A token service over a database of its own and a clock that stands still.
//!
//! The database is an SQLite file, or a new database on the PostgreSQL server at `STEWARD_TEST_POSTGRES`
//! (`postgres://user@host:port`, a user that may create databases) if that is set.

mod client_key;

pub(crate) use client_key::ClientKey;

use super::*;

pub(crate) const START_MS: i64 = 1_800_000_000_250;
pub(crate) const ISSUER: &str = "https://steward.example";
/// Another service that tokens may be asked for.
pub(crate) const RESOURCE: &str = "https://weather.example/v1";

pub(crate) struct Fixture {
    pub auth: Auth,
    pub clock: Clock,
    pub folder: tempfile::TempDir,
    url: String,
}

/// The address of a new and empty database.
pub(crate) async fn new_database(folder: &std::path::Path) -> String {
    let Ok(server) = std::env::var("STEWARD_TEST_POSTGRES") else {
        return format!("sqlite://{}?mode=rwc", folder.join("service.db").display());
    };
    sqlx::any::install_default_drivers();
    let name = format!("steward_{}", uuid::Uuid::new_v4().simple());
    let mut connection =
        <sqlx::AnyConnection as sqlx::Connection>::connect(&format!("{server}/postgres")).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(create).execute(&mut connection).await.unwrap();
    format!("{server}/{name}")
}

fn key_folder(folder: &tempfile::TempDir) -> KeyFolder {
    KeyFolder::new(folder.path().join("keys"), SigningAlgorithm::default())
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START_MS);
        let url = new_database(folder.path()).await;
        let auth = Self::replica_in(&folder, &url, &clock, |config| config).await.unwrap();
        Self { auth, clock, folder, url }
    }

    /// Another process's view of the same database and keys.
    pub(crate) async fn replica(&self) -> Auth {
        Self::replica_in(&self.folder, &self.url, &self.clock, |config| config).await.unwrap()
    }

    /// The same with another configuration.
    pub(crate) async fn replica_with(
        &self,
        change: impl FnOnce(AuthConfig) -> AuthConfig,
    ) -> Result<Auth, AuthSetupError> {
        Self::replica_in(&self.folder, &self.url, &self.clock, change).await
    }

    async fn replica_in(
        folder: &tempfile::TempDir,
        url: &str,
        clock: &Clock,
        change: impl FnOnce(AuthConfig) -> AuthConfig,
    ) -> Result<Auth, AuthSetupError> {
        let config = AuthConfig {
            issuer: ISSUER.parse().unwrap(),
            audience: None,
            resources: vec![RESOURCE.to_owned()],
            token_lifetime_s: DEFAULT_TOKEN_LIFETIME_S,
            refresh: RefreshLifetimes::default(),
            keys: KeySource::Folder(key_folder(folder)),
            password_grant: None,
        };
        let config = change(config);
        let store = Store::open_url(url).await.unwrap();
        Auth::open(config, store, clock.clone()).await
    }

    /// The keys as the folder has them now; missing ones are made.
    pub(crate) fn keys(&self) -> KeySet {
        key_folder(&self.folder).open(self.clock.now_ms()).unwrap()
    }

    /// Another pool on the same database.
    pub(crate) async fn store(&self) -> Store {
        Store::open_url(&self.url).await.unwrap()
    }

    pub(crate) async fn client(&self, scopes: &str) -> ClientWithSecret {
        let new = NewClient { name: "demo".into(), scopes: scopes.parse().unwrap(), ..NewClient::default() };
        self.auth.clients().create(&new).await.unwrap()
    }

    pub(crate) async fn token(&self, scopes: &str) -> (ClientWithSecret, String) {
        let made = self.client(scopes).await;
        let token = self.issue(&made);
        (made, token)
    }

    /// A client that authenticates by that key and may do whatever such a client may.
    pub(crate) async fn keyed_client(&self, scopes: &str, key: &ClientKey) -> Client {
        let new = NewClient {
            name: "keyed".into(),
            scopes: scopes.parse().unwrap(),
            authentication: ClientAuthentication::PrivateKeyJwt,
            grant_types: [GrantType::ClientCredentials, GrantType::TokenExchange].into(),
            jwks: Some(key.jwks()),
            ..NewClient::default()
        };
        self.auth.clients().create(&new).await.unwrap().client
    }

    pub(crate) fn issue(&self, made: &ClientWithSecret) -> String {
        let spec = TokenSpec {
            client_id: made.client.client_id.clone(),
            subject: made.client.client_id.to_string(),
            scopes: made.client.scopes.clone(),
            claims: made.client.claims.clone(),
            actor: None,
            audience: None,
            exchanged: None,
        };
        self.auth.tokens().issue(&spec).unwrap().token.expose().to_owned()
    }
}
