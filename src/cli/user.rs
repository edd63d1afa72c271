//! `steward user`: users, straight in the service database; a running service notices within a second.

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::admin::{audited, claims, open_store, time};
use super::output::{print, print_json, print_line, remark};
use super::password::PasswordArgs;
use super::{CliError, Exit};
use crate::auth::{
    Claims, Clock, NewUser, Operation, ScopeSet, User, UserChange, UserError, UserId, UserWithPassword, Users,
};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Register a user; a password that is made for it is shown once
    Create(CreateArgs),
    /// List the users
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one user
    Show {
        /// Username or id
        user: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Change a user's display name, scopes or claims; taking scopes away or changing claims ends its tokens and logins
    Update(UpdateArgs),
    /// Give a user another password; its tokens and logins end now
    Password(SetPasswordArgs),
    /// Lock a user out; its tokens and logins end now
    Disable {
        /// Username or id
        user: String,
    },
    /// Let a disabled user in again; its old tokens stay dead
    Enable {
        /// Username or id
        user: String,
    },
    /// Delete a user; its tokens and logins end now, what it did stays in the audit
    Delete {
        /// Username or id
        user: String,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What one logs in with, such as ann or ann@example.org
    username: String,
    /// The most that the user's tokens may hold, separated by spaces, such as "semantic:read sql:run:flights.*"
    #[arg(long)]
    scopes: ScopeSet,
    /// What people are shown [default: the username]
    #[arg(long)]
    display_name: Option<String>,
    /// What row filters see of the user, as a JSON object such as '{"carrier": "UA"}'
    #[arg(long, value_name = "JSON", value_parser = claims)]
    claims: Option<Claims>,
    #[command(flatten)]
    password: PasswordArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
pub struct UpdateArgs {
    /// Username or id
    user: String,
    /// What people are shown
    #[arg(long, group = "change")]
    display_name: Option<String>,
    /// All scopes that the user is to have, separated by spaces
    #[arg(long, group = "change")]
    scopes: Option<ScopeSet>,
    /// All claims that the user is to have, as a JSON object
    #[arg(long, group = "change", value_name = "JSON", value_parser = claims)]
    claims: Option<Claims>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct SetPasswordArgs {
    /// Username or id
    user: String,
    #[command(flatten)]
    password: PasswordArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(config: Config, command: UserCommand) -> Result<Exit, CliError> {
    let store = open_store(&config).await?;
    let users = Users::open(store.clone(), Clock::system()).await?;
    match command {
        UserCommand::Create(args) => {
            let password = obtain(args.password, &args.username).await?;
            let new = NewUser {
                username: args.username,
                display_name: args.display_name.unwrap_or_default(),
                password,
                scopes: args.scopes,
                claims: args.claims.unwrap_or_default(),
            };
            let work = async { Ok(users.create(&new).await?) };
            let made = audited(&store, Operation::CreateUser, &new.username, work).await?;
            show_with_password(&made, args.json)?;
        }
        UserCommand::List { json } => {
            let work = async { Ok(users.list().await?) };
            list(&audited(&store, Operation::ListUsers, "", work).await?, json)?;
        }
        UserCommand::Show { user, json } => {
            let found = audited(&store, Operation::GetUser, &user, named(&users, &user)).await?;
            if json { print_json(&as_value(&found))? } else { print(as_text(&found).as_bytes())? }
        }
        UserCommand::Update(args) => {
            let change =
                UserChange { display_name: args.display_name, scopes: args.scopes, claims: args.claims };
            let work = async { Ok(users.update(&named(&users, &args.user).await?.user_id, &change).await?) };
            let changed = audited(&store, Operation::UpdateUser, &args.user, work).await?;
            if args.json { print_json(&as_value(&changed))? } else { print(as_text(&changed).as_bytes())? }
        }
        UserCommand::Password(args) => {
            // Before anybody types a password for nobody.
            let user = named(&users, &args.user).await?;
            let password = obtain(args.password, &user.username).await?;
            let work = async { Ok(users.set_password(&user.user_id, password).await?) };
            let password = audited(&store, Operation::SetUserPassword, &args.user, work).await?;
            remark("steward: the user's tokens and logins are dead");
            show_with_password(&UserWithPassword { user, password }, args.json)?;
        }
        UserCommand::Disable { user } => {
            let work = async { Ok(users.disable(&named(&users, &user).await?.user_id).await?) };
            audited(&store, Operation::DisableUser, &user, work).await?;
            print_line(&format!("{user} is locked out, and its tokens and logins are dead"))?;
        }
        UserCommand::Enable { user } => {
            let work = async { Ok(users.enable(&named(&users, &user).await?.user_id).await?) };
            audited(&store, Operation::EnableUser, &user, work).await?;
            print_line(&format!("{user} may log in again"))?;
        }
        UserCommand::Delete { user } => {
            let work = async { Ok(users.delete(&named(&users, &user).await?.user_id).await?) };
            audited(&store, Operation::DeleteUser, &user, work).await?;
            print_line(&format!("{user} is deleted, and its tokens and logins are dead"))?;
        }
    }
    Ok(Exit::Done)
}

/// Typing takes as long as it takes, and a runtime's thread is not for waiting.
async fn obtain(args: PasswordArgs, whose: &str) -> Result<Option<SecretString>, CliError> {
    let whose = whose.escape_debug().to_string();
    tokio::task::spawn_blocking(move || args.obtain(&whose)).await?
}

/// The user of that id or username.
async fn named(users: &Users, text: &str) -> Result<User, CliError> {
    if let Ok(user_id) = text.parse::<UserId>() {
        return Ok(users.get(&user_id).await?);
    }
    let found = users.find_by_username(text).await?;
    Ok(found.ok_or_else(|| UserError::NotFound { given: text.escape_debug().to_string() })?)
}

fn show_with_password(made: &UserWithPassword, as_json: bool) -> Result<(), CliError> {
    let password = made.password.as_ref().map(ExposeSecret::expose_secret);
    if as_json {
        let mut shown = as_value(&made.user);
        if let Some(password) = password {
            shown["password"] = password.into();
        }
        return print_json(&shown);
    }
    let mut text = as_text(&made.user);
    if let Some(password) = password {
        remark("steward: the password is shown this once; only its hash is kept");
        text += &format!("password      {password}\n");
    }
    print(text.as_bytes())
}

fn list(all: &[User], as_json: bool) -> Result<(), CliError> {
    if as_json {
        return print_json(&all.iter().map(as_value).collect::<Vec<_>>());
    }
    if all.is_empty() {
        remark("steward: there is no user yet; `steward user create --help` says how to make one");
        return Ok(());
    }
    let width = all.iter().map(|user| user.username.len()).max().unwrap_or_default();
    let mut text = String::new();
    for user in all {
        let created = time(user.created_at_ms);
        text += &format!("{:width$}  {created}  {}  {}\n", user.username, state(user), user.scopes);
    }
    print(text.as_bytes())
}

fn state(user: &User) -> String {
    user.disabled_at_ms.map_or_else(|| "active".to_owned(), |at| format!("disabled {}", time(at)))
}

fn as_text(user: &User) -> String {
    let mut text = format!(
        "user_id       {}\nusername      {}\ndisplay_name  {}\nscopes        {}\nstate         {}\n",
        user.user_id,
        user.username,
        user.display_name,
        user.scopes,
        state(user)
    );
    if !user.claims.is_empty() {
        text += &format!("claims        {}\n", json!(user.claims));
    }
    text
}

fn as_value(user: &User) -> Value {
    json!({
        "user_id": user.user_id.as_str(),
        "username": user.username,
        "display_name": user.display_name,
        "scopes": user.scopes.to_string(),
        "claims": user.claims,
        "created_at": time(user.created_at_ms),
        "disabled_at": user.disabled_at_ms.map(time),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::audit::{Audit, AuditQuery};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: UserCommand,
    }

    async fn user(config: &Config, words: &[&str]) -> Result<Exit, CliError> {
        let line = Line::try_parse_from([&["user"], words].concat());
        run(config.clone(), line.map_err(|error| CliError::Usage(error.to_string()))?.command).await
    }

    #[tokio::test]
    async fn a_users_life_at_the_command_line_is_audited_without_a_password() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        let create = [
            "create",
            "Ann",
            "--scopes",
            "semantic:read",
            "--claims",
            r#"{"carrier": "UA"}"#,
            "--generate-password",
        ];
        user(&config, &create).await.unwrap();
        assert!(user(&config, &create).await.is_err(), "a username is taken once");
        user(&config, &["update", "ANN", "--display-name", "Ann Other", "--scopes", "semantic:read sql:run"])
            .await
            .unwrap();
        user(&config, &["disable", "ann"]).await.unwrap();

        let users = Users::open(open_store(&config).await.unwrap(), Clock::system()).await.unwrap();
        let ann = users.find_by_username("ann").await.unwrap().unwrap();
        assert_eq!(
            (ann.display_name.as_str(), ann.scopes.to_string().as_str()),
            ("Ann Other", "semantic:read sql:run")
        );
        assert_eq!(ann.claims["carrier"], "UA");
        assert!(ann.disabled_at_ms.is_some());

        user(&config, &["enable", ann.user_id.as_str()]).await.unwrap();
        user(&config, &["password", "ann", "--generate-password"]).await.unwrap();
        user(&config, &["show", "ann", "--json"]).await.unwrap();
        user(&config, &["list"]).await.unwrap();
        user(&config, &["delete", "ann"]).await.unwrap();
        assert!(users.list().await.unwrap().is_empty());

        let audit = Audit::start(open_store(&config).await.unwrap());
        let events = audit.list(&AuditQuery { limit: 100, ..AuditQuery::default() }).await.unwrap();
        let told: Vec<_> =
            events.iter().map(|event| (event.operation.as_str(), event.outcome.as_str())).collect();
        assert_eq!(
            told,
            [
                ("create_user", "ok"),
                ("create_user", "failed"),
                ("update_user", "ok"),
                ("disable_user", "ok"),
                ("enable_user", "ok"),
                ("set_user_password", "ok"),
                ("get_user", "ok"),
                ("list_users", "ok"),
                ("delete_user", "ok"),
            ]
        );
    }

    #[tokio::test]
    async fn nobody_is_not_found_and_a_password_is_no_argument() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        for words in [["disable", "nobody"], ["delete", "no\u{7}body"], ["show", "user:x"]] {
            let error = user(&config, &words).await.unwrap_err().to_string();
            assert!(error.contains("there is no user") && !error.contains('\u{7}'), "{error}");
        }
        for words in [
            &["create", "ann", "--scopes", "semantic:read", "--password", "correct horse battery"][..],
            &["create", "ann", "--scopes", "semantic:read", "--claims", "[]"],
            &["create", "ann", "--scopes", "nonsense"],
            &["update", "ann"],
            &["password", "ann", "--password-stdin", "--generate-password"],
        ] {
            assert_eq!(user(&config, words).await.unwrap_err().exit_code(), 2, "{words:?}");
        }
    }
}
