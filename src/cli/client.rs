//! `steward client`: clients, straight in the service database; a running service notices within seconds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::admin::{audited, claims, open_store, time};
use super::output::{print, print_json, print_line, remark};
use super::{CliError, Exit};
use crate::auth::{
    Claims, Client, ClientAuthentication, ClientChange, ClientError, ClientId, ClientWithSecret, Clients,
    Clock, Credentials, Ensured, GrantType, NewClient, Operation, ScopeSet, ensure_client,
    write_credentials_file,
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
    /// Show one client
    Show {
        /// Its id, as `steward client list` shows it
        client_id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Change a client's name, scopes, claims or registration; taking scopes away or changing claims ends its tokens
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
    #[command(flatten)]
    registration: RegistrationArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

// No doc comment: clap would make it the help of the commands that flatten this.
// What a client is registered for. Given once or more, an option replaces all that was there.
#[derive(Debug, Args, Default)]
pub struct RegistrationArgs {
    /// What row filters see of it, as a JSON object such as '{"carrier": "UA"}'
    #[arg(long, group = "change", value_name = "JSON", value_parser = claims)]
    claims: Option<Claims>,
    /// client_secret, private_key_jwt, or none for a client that can keep no secret [default: client_secret]
    #[arg(long, group = "change", value_name = "WAY")]
    authentication: Option<ClientAuthentication>,
    /// client_credentials, authorization_code, refresh_token, token_exchange or password; repeat it for more
    /// [default: client_credentials]
    #[arg(long = "grant-type", group = "change", value_name = "GRANT")]
    grant_types: Vec<GrantType>,
    /// Where the browser of its users may be sent back to; repeat it for more; '' for none
    #[arg(long = "redirect-uri", group = "change", value_name = "URI")]
    redirect_uris: Vec<String>,
    /// Its public keys as a JSON Web Key Set (RFC 7517), for private_key_jwt
    #[arg(long, group = "change", value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// A resource whose tokens it may introspect; repeat it for more; '' for none
    #[arg(long = "audience", group = "change", value_name = "URI")]
    audiences: Vec<String>,
}

impl RegistrationArgs {
    fn into_change(self) -> Result<ClientChange, CliError> {
        let list = |items: Vec<String>| {
            (!items.is_empty()).then(|| items.into_iter().filter(|item| !item.is_empty()).collect())
        };
        let jwks = match (self.jwks_file, self.authentication) {
            (Some(path), _) => {
                let text =
                    std::fs::read_to_string(&path).map_err(|source| CliError::Read { path, source })?;
                Some(Some(text.trim().to_owned()))
            }
            (None, None | Some(ClientAuthentication::PrivateKeyJwt)) => None,
            // Another way to authenticate has no use for keys.
            (None, Some(_)) => Some(None),
        };
        let grant_types: BTreeSet<GrantType> = self.grant_types.into_iter().collect();
        Ok(ClientChange {
            claims: self.claims,
            authentication: self.authentication,
            grant_types: (!grant_types.is_empty()).then_some(grant_types),
            redirect_uris: list(self.redirect_uris),
            jwks,
            audiences: list(self.audiences),
            ..ClientChange::default()
        })
    }

    fn into_new(self, name: String, scopes: ScopeSet) -> Result<NewClient, CliError> {
        let (given, default) = (self.into_change()?, NewClient::default());
        Ok(NewClient {
            name,
            scopes,
            claims: given.claims.unwrap_or_default(),
            authentication: given.authentication.unwrap_or_default(),
            grant_types: given.grant_types.unwrap_or(default.grant_types),
            redirect_uris: given.redirect_uris.unwrap_or_default(),
            jwks: given.jwks.flatten(),
            audiences: given.audiences.unwrap_or_default(),
        })
    }
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

// Declared, since clap takes a group that is not for one of which one option alone may be given.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("change").multiple(true)))]
pub struct CreateArgs {
    /// For people to recognise it by; also the beginning of its id
    #[arg(long)]
    name: String,
    /// The most that its tokens may hold, separated by spaces, such as "semantic:read sql:run:flights.*"
    #[arg(long)]
    scopes: ScopeSet,
    #[command(flatten)]
    registration: RegistrationArgs,
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
        ClientCommand::Show { client_id, json } => {
            let work = async { Ok(clients.get(&known_id(&client_id)?).await?) };
            let client = audited(&store, Operation::GetClient, &client_id, work).await?;
            if json { print_json(&as_value(&client))? } else { print(as_text(&client).as_bytes())? }
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
    let new = args.registration.into_new(args.name, args.scopes)?;
    if args.credentials_file.is_some() && new.authentication != ClientAuthentication::ClientSecret {
        let message = "a client that authenticates without a secret has nothing to write to a file; leave --credentials-file out";
        return Err(CliError::Usage(message.to_owned()));
    }
    let Some(path) = args.credentials_file else {
        let made = clients.create(&new).await?;
        if made.usable_secret().is_none() {
            return show_without_secret(&made, &token_url, args.json);
        }
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
    let change = ClientChange { name: args.name, scopes: args.scopes, ..args.registration.into_change()? };
    let client = clients.update(&known_id(&args.client_id)?, &change).await?;
    if args.json {
        return print_json(&as_value(&client));
    }
    print(as_text(&client).as_bytes())
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

fn show_without_secret(made: &ClientWithSecret, token_url: &str, as_json: bool) -> Result<(), CliError> {
    if as_json {
        let mut shown = as_value(&made.client);
        shown["token_url"] = token_url.into();
        return print_json(&shown);
    }
    print(format!("{}token_url       {token_url}\n", as_text(&made.client)).as_bytes())
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
        let (id, scopes) = (client.client_id.as_str(), &client.scopes);
        let (way, grants) = (client.authentication.as_str(), grants(client).join(","));
        text += &format!("{id:width$}  {created}  {state}  {way}  {grants}  {scopes}\n");
    }
    print(text.as_bytes())
}

/// Short names, as the options take them.
fn grants(client: &Client) -> Vec<&'static str> {
    let short = |grant: &GrantType| match grant {
        GrantType::TokenExchange => "token_exchange",
        other => other.as_str(),
    };
    client.grant_types.iter().map(short).collect()
}

fn as_text(client: &Client) -> String {
    let state =
        client.disabled_at_ms.map_or_else(|| "active".to_owned(), |at| format!("revoked {}", time(at)));
    let mut lines = vec![
        ("client_id", client.client_id.to_string()),
        ("name", client.name.clone()),
        ("scopes", client.scopes.to_string()),
        ("authentication", client.authentication.as_str().to_owned()),
        ("grant_types", grants(client).join(" ")),
        ("redirect_uris", client.redirect_uris.join(" ")),
        ("audiences", client.audiences.join(" ")),
        ("state", state),
    ];
    if !client.claims.is_empty() {
        lines.push(("claims", json!(client.claims).to_string()));
    }
    lines
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:14}  {value}\n"))
        .collect()
}

fn as_value(client: &Client) -> Value {
    json!({
        "client_id": client.client_id.as_str(),
        "name": client.name,
        "scopes": client.scopes.to_string(),
        "claims": client.claims,
        "authentication": client.authentication.as_str(),
        "grant_types": client.grant_types,
        "redirect_uris": client.redirect_uris,
        "jwks": client.jwks.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()),
        "audiences": client.audiences,
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
            registration: RegistrationArgs::default(),
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

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: ClientCommand,
    }

    async fn client(config: &Config, words: &[&str]) -> Result<Exit, CliError> {
        let line = <Line as clap::Parser>::try_parse_from([&["client"], words].concat());
        run(config.clone(), line.map_err(|error| CliError::Usage(error.to_string()))?.command).await
    }

    #[tokio::test]
    async fn a_client_is_registered_for_what_the_options_say_and_changed_by_them() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        let app = [
            "create",
            "--name",
            "app",
            "--scopes",
            "semantic:read",
            "--authentication",
            "none",
            "--grant-type",
            "authorization_code",
            "--grant-type",
            "refresh_token",
            "--redirect-uri",
            "https://app.example/cb",
            "--redirect-uri",
            "http://127.0.0.1/cb",
            "--claims",
            r#"{"carrier": "UA"}"#,
        ];
        client(&config, &app).await.unwrap();
        let clients = Clients::open(open_store(&config).await.unwrap(), Clock::system()).await.unwrap();
        let found = clients.find_by_name("app").await.unwrap().unwrap();
        assert_eq!(found.authentication, ClientAuthentication::None);
        assert_eq!(
            found.grant_types,
            BTreeSet::from([GrantType::AuthorizationCode, GrantType::RefreshToken])
        );
        assert_eq!(found.redirect_uris, ["https://app.example/cb", "http://127.0.0.1/cb"]);
        assert_eq!(found.claims["carrier"], "UA");
        let id = found.client_id.as_str();

        let file = folder.path().join("app.json");
        let with_file = [&app[..], &["--credentials-file", file.to_str().unwrap()]].concat();
        assert_eq!(client(&config, &with_file).await.unwrap_err().exit_code(), 2);
        assert!(!file.exists());
        assert!(client(&config, &["rotate-secret", id]).await.is_err(), "it would be of no use");

        let exchange = [
            "update",
            id,
            "--authentication",
            "client_secret",
            "--grant-type",
            "token_exchange",
            "--redirect-uri",
            "",
            "--audience",
            "https://api.example",
            "--claims",
            "{}",
        ];
        client(&config, &exchange).await.unwrap();
        let changed = clients.get(&found.client_id).await.unwrap();
        assert_eq!(changed.grant_types, BTreeSet::from([GrantType::TokenExchange]));
        assert_eq!((changed.redirect_uris.len(), changed.claims.len()), (0, 0));
        assert_eq!(changed.audiences, ["https://api.example"]);
        client(&config, &["show", id, "--json"]).await.unwrap();
        for bad in [
            &["update", id][..],
            &["update", id, "--grant-type", "implicit"],
            &["update", id, "--authentication", "password"],
            &["update", id, "--claims", "UA"],
        ] {
            assert_eq!(client(&config, bad).await.unwrap_err().exit_code(), 2, "{bad:?}");
        }
        let missing = ["update", id, "--jwks-file", "absent.json"];
        assert!(client(&config, &missing).await.unwrap_err().to_string().contains("absent.json"));
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
