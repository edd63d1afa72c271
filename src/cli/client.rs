//! `steward client`: clients, straight in the service database; a running service notices within seconds.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::admin::{audited, open_store, time};
use super::output::{print, print_json, print_line, remark};
use super::{CliError, Exit};
use crate::auth::{
    Client, ClientChange, ClientError, ClientId, Clients, Clock, Credentials, Ensured, NewClient, Operation,
    ScopeSet, ensure_client, write_credentials_file,
};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Register a client; its secret is shown once, or goes into a file
    Create(CreateArgs),
    /// List the clients
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Change a client's name or scopes; taking scopes away ends its tokens
    Update(UpdateArgs),
    /// Make a new secret; the old one goes on working for the overlap
    RotateSecret(RotateSecretArgs),
    /// Lock a client out; every token that it has ends now
    #[command(alias = "disable")]
    Revoke {
        /// Its id, as `steward client list` shows it
        client_id: String,
    },
    /// Let a revoked client in again; its old tokens stay dead
    Enable {
        /// Its id, as `steward client list` shows it
        client_id: String,
    },
    /// Delete a client; its tokens end now, what it did stays in the audit
    Delete {
        /// Its id, as `steward client list` shows it
        client_id: String,
    },
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
pub struct UpdateArgs {
    /// Its id, as `steward client list` shows it
    client_id: String,
    /// A new name; the id stays
    #[arg(long, group = "change")]
    name: Option<String>,
    /// All scopes that it is to have, separated by spaces
    #[arg(long, group = "change")]
    scopes: Option<ScopeSet>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct RotateSecretArgs {
    /// Its id, as `steward client list` shows it
    client_id: String,
    /// How long the newest of the old secrets goes on working; 0 ends it now
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    overlap_seconds: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// For people to recognise it by; also the beginning of its id
    #[arg(long)]
    name: String,
    /// The most that its tokens may hold, separated by spaces, such as "semantic:read sql:run:flights.*"
    #[arg(long)]
    scopes: ScopeSet,
    /// Do nothing if the file holds working credentials of a client of that name
    #[arg(long, requires = "credentials_file")]
    if_absent: bool,
    /// Write id, secret and token URL to this file, readable by you alone, instead of showing them
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(config: Config, command: ClientCommand) -> Result<Exit, CliError> {
    let store = open_store(&config).await?;
    let clients = Clients::open(store.clone(), Clock::system()).await?;
    match command {
        ClientCommand::Create(args) => {
            let name = args.name.clone();
            audited(&store, Operation::CreateClient, &name, create(&config, &clients, args)).await?;
        }
        ClientCommand::List { json } => {
            audited(&store, Operation::ListClients, "", list(&clients, json)).await?;
        }
        ClientCommand::Update(args) => {
            let id = args.client_id.clone();
            audited(&store, Operation::UpdateClient, &id, update(&clients, args)).await?;
        }
        ClientCommand::RotateSecret(args) => {
            let id = args.client_id.clone();
            let work = rotate_secret(&config, &clients, args);
            audited(&store, Operation::RotateClientSecret, &id, work).await?;
        }
        ClientCommand::Revoke { client_id } => {
            audited(&store, Operation::DisableClient, &client_id, async {
                Ok(clients.disable(&known_id(&client_id)?).await?)
            })
            .await?;
            print_line(&format!("{client_id} is locked out, and its tokens are dead"))?;
        }
        ClientCommand::Enable { client_id } => {
            audited(&store, Operation::EnableClient, &client_id, async {
                Ok(clients.enable(&known_id(&client_id)?).await?)
            })
            .await?;
            print_line(&format!("{client_id} may ask for tokens again"))?;
        }
        ClientCommand::Delete { client_id } => {
            audited(&store, Operation::DeleteClient, &client_id, async {
                Ok(clients.delete(&known_id(&client_id)?).await?)
            })
            .await?;
            print_line(&format!("{client_id} is deleted, and its tokens are dead"))?;
        }
    }
    Ok(Exit::Done)
}

/// What cannot be an id belongs to no client.
fn known_id(text: &str) -> Result<ClientId, CliError> {
    text.parse().map_err(|_| ClientError::NotFound { client_id: text.to_owned() }.into())
}

async fn create(config: &Config, clients: &Clients, args: CreateArgs) -> Result<(), CliError> {
    let token_url = format!("{}/oauth/token", config.public_url());
    let new = NewClient { name: args.name, scopes: args.scopes, ..NewClient::default() };
    let Some(path) = args.credentials_file else {
        let made = clients.create(&new).await?;
        let credentials = Credentials::new(&made, &token_url);
        return show(&made.client.name, &credentials, args.json);
    };
    let (client, ensured) = if args.if_absent {
        ensure_client(clients, &new, &path, &token_url).await?
    } else {
        if path.exists() {
            let shown = path.display();
            let message = format!(
                "{shown} exists and stays as it is; name another file, or add --if-absent to keep its client"
            );
            return Err(CliError::Usage(message));
        }
        let made = clients.create(&new).await?;
        write_credentials_file(&path, &Credentials::new(&made, &token_url))?;
        (made.client, Ensured::Created)
    };
    if client.scopes != new.scopes {
        remark(&format!("steward: client {} keeps its scopes: {}", client.client_id, client.scopes));
    }
    tell_file(&client, ensured, &path, args.json)
}

async fn update(clients: &Clients, args: UpdateArgs) -> Result<(), CliError> {
    let change = ClientChange { name: args.name, scopes: args.scopes, ..ClientChange::default() };
    let client = clients.update(&known_id(&args.client_id)?, &change).await?;
    if args.json {
        return print_json(&as_value(&client));
    }
    print_line(&format!("{} is `{}` and may have: {}", client.client_id, client.name, client.scopes))
}

async fn rotate_secret(config: &Config, clients: &Clients, args: RotateSecretArgs) -> Result<(), CliError> {
    let id = known_id(&args.client_id)?;
    let client_secret = clients.rotate_secret(&id, i64::from(args.overlap_seconds) * 1000).await?;
    let client = clients.get(&id).await?;
    let credentials = Credentials {
        client_id: id.to_string(),
        client_secret,
        token_url: format!("{}/oauth/token", config.public_url()),
        scopes: client.scopes.to_string(),
    };
    show(&client.name, &credentials, args.json)
}

fn show(name: &str, credentials: &Credentials, as_json: bool) -> Result<(), CliError> {
    let secret = credentials.client_secret.expose_secret();
    let Credentials { client_id, token_url, scopes, .. } = credentials;
    if as_json {
        return print_json(&json!({
            "client_id": client_id, "client_secret": secret, "name": name, "token_url": token_url, "scopes": scopes,
        }));
    }
    remark("steward: the secret is shown this once; only its hash is kept");
    print(format!("client_id      {client_id}\nclient_secret  {secret}\ntoken_url      {token_url}\nscopes         {scopes}\n").as_bytes())
}

fn tell_file(client: &Client, ensured: Ensured, path: &Path, as_json: bool) -> Result<(), CliError> {
    let (status, told) = match ensured {
        Ensured::Created => ("created", "is registered; its credentials are in"),
        Ensured::Reissued => ("reissued", "has a new secret, in"),
        Ensured::Unchanged => ("unchanged", "is there already, and its credentials work; they are in"),
    };
    if as_json {
        let file = path.display().to_string();
        let mut shown = as_value(client);
        shown["status"] = status.into();
        shown["credentials_file"] = file.into();
        return print_json(&shown);
    }
    print_line(&format!("client {} {told} {}", client.client_id, path.display()))
}

async fn list(clients: &Clients, as_json: bool) -> Result<(), CliError> {
    let all = clients.list().await?;
    if as_json {
        return print_json(&all.iter().map(as_value).collect::<Vec<_>>());
    }
    if all.is_empty() {
        remark("steward: there is no client yet; `steward client create --help` says how to make one");
        return Ok(());
    }
    let width = all.iter().map(|client| client.client_id.as_str().len()).max().unwrap_or_default();
    let mut text = String::new();
    for client in &all {
        let state =
            client.disabled_at_ms.map_or_else(|| "active".to_owned(), |at| format!("revoked {}", time(at)));
        let created = time(client.created_at_ms);
        text += &format!("{:width$}  {created}  {state}  {}\n", client.client_id.as_str(), client.scopes);
    }
    print(text.as_bytes())
}

fn as_value(client: &Client) -> Value {
    json!({
        "client_id": client.client_id.as_str(),
        "name": client.name,
        "scopes": client.scopes.to_string(),
        "created_at": time(client.created_at_ms),
        "disabled_at": client.disabled_at_ms.map(time),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn run_create(config: &Config, file: Option<&Path>, if_absent: bool) -> Result<(), CliError> {
        let args = CreateArgs {
            name: "agent".to_owned(),
            scopes: "sql:run".parse().unwrap(),
            if_absent,
            credentials_file: file.map(Path::to_path_buf),
            json: true,
        };
        run(config.clone(), ClientCommand::Create(args)).await.map(drop)
    }

    #[tokio::test]
    async fn credentials_files_are_private_work_and_are_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        let file = folder.path().join("agent.json");
        run_create(&config, Some(&file), false).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let before = std::fs::read(&file).unwrap();
        assert_eq!(run_create(&config, Some(&file), false).await.unwrap_err().exit_code(), 2);
        run_create(&config, Some(&file), true).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), before);

        let clients = Clients::open(open_store(&config).await.unwrap(), Clock::system()).await.unwrap();
        assert_eq!(clients.list().await.unwrap().len(), 1);
        let credentials = Credentials::read(&file).unwrap().unwrap();
        assert_eq!(credentials.token_url, "http://127.0.0.1:8080/oauth/token");
        let client = clients.verify(&credentials.client_id, &credentials.client_secret).await.unwrap();
        let revoke = ClientCommand::Revoke { client_id: client.client_id.to_string() };
        run(config.clone(), revoke).await.unwrap();
        let clients = Clients::open(open_store(&config).await.unwrap(), Clock::system()).await.unwrap();
        let error = clients.verify(&credentials.client_id, &credentials.client_secret).await.unwrap_err();
        assert!(matches!(error, ClientError::BadCredentials), "{error}");
    }

    #[tokio::test]
    async fn an_unknown_client_cannot_be_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        for id in ["nobody", "no such:id"] {
            let command = ClientCommand::Revoke { client_id: id.to_owned() };
            let error = run(config.clone(), command).await.unwrap_err();
            assert!(error.to_string().contains("steward client list"), "{error}");
        }
    }
}
