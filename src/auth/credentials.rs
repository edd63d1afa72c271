//! The file that hands a client's credentials to whoever runs it, and making client and file unless they are there.
//!
//! Knows clients and files; does not know what asks for tokens with them.
//! F1 the file appears whole, readable by its owner only, or not at all.
//! F2 a file that is not one of ours is never overwritten.

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::auth::client::{Client, ClientError, ClientWithSecret, Clients, NewClient};
use crate::error::ErrorKind;

/// What goes wrong with a credentials file.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("cannot read the credentials file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write the credentials file {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} is no credentials file (JSON with client_id and client_secret) and stays as it is; name another, or remove it"
    )]
    NotCredentials { path: PathBuf },
    #[error("{path} holds working credentials of client `{name}` and stays as it is; name another file")]
    OtherClient { path: PathBuf, name: String },
    #[error(
        "client `{name}` ({client_id}) is disabled; run `steward client enable {client_id}`, or take another name"
    )]
    Disabled { name: String, client_id: String },
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl CredentialsError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => ErrorKind::of_io(source),
            Self::NotCredentials { .. } | Self::OtherClient { .. } | Self::Disabled { .. } => {
                ErrorKind::Conflict
            }
            Self::Client(error) => error.kind(),
        }
    }
}

/// The content of a credentials file.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub client_id: String,
    pub client_secret: SecretString,
    /// Where to get tokens.
    pub token_url: String,
    /// Space-separated; the most that can be asked for.
    pub scopes: String,
}

/// The file's members, in its order.
#[derive(Serialize, Deserialize)]
struct OnDisk<'a> {
    client_id: Cow<'a, str>,
    client_secret: Cow<'a, str>,
    #[serde(default)]
    token_url: Cow<'a, str>,
    #[serde(default)]
    scopes: Cow<'a, str>,
}

impl Credentials {
    /// The credentials of a client whose secret was just made.
    pub fn new(made: &ClientWithSecret, token_url: &str) -> Self {
        Self {
            client_id: made.client.client_id.to_string(),
            client_secret: made.secret.clone(),
            token_url: token_url.to_owned(),
            scopes: made.client.scopes.to_string(),
        }
    }

    /// Reads a file; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, CredentialsError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CredentialsError::Read { path: path.to_path_buf(), source }),
        };
        let file: OnDisk<'_> = serde_json::from_slice(&bytes)
            .map_err(|_| CredentialsError::NotCredentials { path: path.to_path_buf() })?;
        Ok(Some(Self {
            client_id: file.client_id.into_owned(),
            client_secret: SecretString::from(file.client_secret.into_owned()),
            token_url: file.token_url.into_owned(),
            scopes: file.scopes.into_owned(),
        }))
    }
}

/// Writes the file with mode 0600, replacing one that is there, by way of a temporary file beside it (F1).
pub fn write_credentials_file(path: &Path, credentials: &Credentials) -> Result<(), CredentialsError> {
    let write_error = |source| CredentialsError::Write { path: path.to_path_buf(), source };
    let on_disk = OnDisk {
        client_id: Cow::from(&credentials.client_id),
        client_secret: Cow::from(credentials.client_secret.expose_secret()),
        token_url: Cow::from(&credentials.token_url),
        scopes: Cow::from(&credentials.scopes),
    };
    let json = serde_json::to_string_pretty(&on_disk).map_err(|error| write_error(error.into()))?;
    let json = SecretString::from(json + "\n");
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        std::fs::create_dir_all(folder).map_err(write_error)?;
    }
    // tempfile creates with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(write_error)?;
    file.write_all(json.expose_secret().as_bytes()).map_err(write_error)?;
    file.as_file().sync_all().map_err(write_error)?;
    file.persist(path).map_err(|error| write_error(error.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(write_error)
}

/// What [`ensure_client`] found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// Client and file are there and fit each other.
    Unchanged,
    /// The client was there; it got a new secret, since the file was missing or did not work.
    Reissued,
    /// There was no client of that name.
    Created,
}

/// Makes sure that there is a client of that name and a file with credentials that work (`--if-absent`).
/// An existing client keeps its scopes and claims. Two calls at the same time may make two clients of one name; the
/// file then belongs to the later.
pub async fn ensure_client(
    clients: &Clients,
    new: &NewClient,
    path: &Path,
    token_url: &str,
) -> Result<(Client, Ensured), CredentialsError> {
    let owned = path.to_path_buf();
    let present =
        tokio::task::spawn_blocking(move || Credentials::read(&owned)).await.unwrap_or_else(|join| {
            Err(CredentialsError::Read { path: path.to_path_buf(), source: std::io::Error::other(join) })
        })?;
    let in_use = match &present {
        Some(file) => match clients.verify(&file.client_id, &file.client_secret).await {
            Ok(client) => Some(client),
            Err(ClientError::BadCredentials) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    match in_use {
        Some(client) if client.name == new.name => return Ok((client, Ensured::Unchanged)),
        Some(client) => {
            return Err(CredentialsError::OtherClient { path: path.to_path_buf(), name: client.name });
        }
        None => {}
    }
    let (made, ensured) = match clients.find_by_name(&new.name).await? {
        // Somebody has locked it out; a restart must not let it in again.
        Some(Client { client_id, name, disabled_at_ms: Some(_), .. }) => {
            return Err(CredentialsError::Disabled { name, client_id: client_id.to_string() });
        }
        Some(client) => {
            let secret = clients.rotate_secret(&client.client_id, 0).await?;
            (ClientWithSecret { client, secret }, Ensured::Reissued)
        }
        None => (clients.create(new).await?, Ensured::Created),
    };
    let (owned, credentials) = (path.to_path_buf(), Credentials::new(&made, token_url));
    tokio::task::spawn_blocking(move || write_credentials_file(&owned, &credentials)).await.unwrap_or_else(
        |join| Err(CredentialsError::Write { path: path.to_path_buf(), source: std::io::Error::other(join) }),
    )?;
    Ok((made.client, ensured))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::auth::testing::Fixture;

    fn demo() -> NewClient {
        NewClient { name: "demo".into(), scopes: "semantic:read".parse().unwrap(), ..NewClient::default() }
    }

    #[tokio::test]
    async fn ensuring_twice_changes_nothing_the_second_time() {
        let fixture = Fixture::new().await;
        let path = fixture.folder.path().join("made/demo.json");
        let clients = fixture.auth.clients();
        let (client, ensured) = ensure_client(clients, &demo(), &path, "http://x/oauth/token").await.unwrap();
        assert_eq!(ensured, Ensured::Created);
        let before = std::fs::read(&path).unwrap();
        let again = ensure_client(clients, &demo(), &path, "http://x/oauth/token").await.unwrap();
        assert_eq!(again, (client.clone(), Ensured::Unchanged));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let file: serde_json::Value = serde_json::from_slice(&before).unwrap();
        assert_eq!(file["client_id"], client.client_id.as_str());
        assert_eq!(file["token_url"], "http://x/oauth/token");
        assert_eq!(file["scopes"], "semantic:read");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_lost_file_gets_a_new_secret_for_the_same_client_and_ends_the_old_one() {
        let fixture = Fixture::new().await;
        let path = fixture.folder.path().join("demo.json");
        let clients = fixture.auth.clients();
        let (client, _) = ensure_client(clients, &demo(), &path, "u").await.unwrap();
        let lost = Credentials::read(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let (same, ensured) = ensure_client(clients, &demo(), &path, "u").await.unwrap();
        assert_eq!((same.client_id, ensured), (client.client_id, Ensured::Reissued));
        assert!(clients.verify(&lost.client_id, &lost.client_secret).await.is_err());
        let found = Credentials::read(&path).unwrap().unwrap();
        clients.verify(&found.client_id, &found.client_secret).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_from_a_lost_database_is_replaced_and_a_foreign_file_is_not() {
        let fixture = Fixture::new().await;
        let path = fixture.folder.path().join("demo.json");
        ensure_client(Fixture::new().await.auth.clients(), &demo(), &path, "u").await.unwrap();
        let (_, ensured) = ensure_client(fixture.auth.clients(), &demo(), &path, "u").await.unwrap();
        assert_eq!(ensured, Ensured::Created);
        std::fs::write(&path, "precious").unwrap();
        let error = ensure_client(fixture.auth.clients(), &demo(), &path, "u").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn another_clients_file_stays_and_a_disabled_client_is_not_let_in_again() {
        let fixture = Fixture::new().await;
        let path = fixture.folder.path().join("demo.json");
        let clients = fixture.auth.clients();
        let (client, _) = ensure_client(clients, &demo(), &path, "u").await.unwrap();
        let before = std::fs::read(&path).unwrap();
        let other = NewClient { name: "other".into(), ..demo() };
        let error = ensure_client(clients, &other, &path, "u").await.unwrap_err();
        assert!(matches!(error, CredentialsError::OtherClient { .. }), "{error}");
        clients.disable(&client.client_id).await.unwrap();
        let error = ensure_client(clients, &demo(), &path, "u").await.unwrap_err();
        assert!(error.to_string().contains("client enable demo-"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(clients.list().await.unwrap().len(), 1);
    }
}
