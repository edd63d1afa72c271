//! `steward key`: the signing keys in the data folder; a running service notices within a second.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{audited, open_store, time};
use super::output::{print, print_json, remark};
use super::{CliError, Exit};
use crate::auth::{KeyInfo, KeyState, Operation};
use crate::config::Config;
use crate::engine::key_source;
use crate::store::now_ms;

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the signing keys with their states
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Sign with the next key from now on; the active one retires, and no valid token fails
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Also if the next key was made only minutes ago, so that verifiers with a cached JWKS refuse its tokens at first
    #[arg(long)]
    force: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(config: Config, command: KeyCommand) -> Result<Exit, CliError> {
    let store = open_store(&config).await?;
    let source = key_source(&config)?;
    match command {
        KeyCommand::List { json } => {
            let keys = audited(&store, Operation::ListKeys, "", async {
                Ok(tokio::task::spawn_blocking(move || source.open(now_ms())).await??)
            });
            show(&keys.await?.infos(), json)?;
        }
        KeyCommand::Rotate(RotateArgs { force, json }) => {
            let lifetime_s = config.auth.token_expiry_seconds.into();
            let keys = audited(&store, Operation::RotateKeys, "", async {
                Ok(tokio::task::spawn_blocking(move || source.rotate(now_ms(), lifetime_s, force)).await??)
            });
            let keys = keys.await?;
            remark(&format!("steward: {} signs now", keys.active().kid()));
            show(&keys.infos(), json)?;
        }
    }
    Ok(Exit::Done)
}

fn show(keys: &[KeyInfo], as_json: bool) -> Result<(), CliError> {
    if as_json {
        return print_json(&keys.iter().map(as_value).collect::<Vec<_>>());
    }
    let mut text = String::new();
    for key in keys {
        let made = key
            .made_at_ms
            .map_or_else(|| "from JWT_PRIVATE_KEY".to_owned(), |at| format!("made {}", time(at)));
        let kept = match (key.state, key.retired_at_ms, key.kept_until_ms) {
            (KeyState::Retired, Some(since), Some(until)) => {
                format!("  retired {}  kept until {}", time(since), time(until))
            }
            (KeyState::Retired, ..) => "  kept until you remove it".to_owned(),
            _ => String::new(),
        };
        text +=
            &format!("{}  {:5}  {:7}  {made}{kept}\n", key.kid, key.algorithm.as_str(), key.state.as_str());
    }
    print(text.as_bytes())
}

fn as_value(key: &KeyInfo) -> Value {
    json!({
        "kid": key.kid,
        "algorithm": key.algorithm.as_str(),
        "state": key.state.as_str(),
        "made_at": key.made_at_ms.map(time),
        "retired_at": key.retired_at_ms.map(time),
        "kept_until": key.kept_until_ms.map(time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Audit, AuditQuery};

    #[tokio::test]
    async fn rotating_too_early_is_refused_and_forcing_it_is_done_and_both_are_audited() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        run(config.clone(), KeyCommand::List { json: true }).await.unwrap();
        let rotate = |force| KeyCommand::Rotate(RotateArgs { force, json: false });
        let error = run(config.clone(), rotate(false)).await.unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        run(config.clone(), rotate(true)).await.unwrap();
        let keys = key_source(&config).unwrap().open(now_ms()).unwrap().infos();
        assert_eq!(keys.len(), 3);
        let audit = Audit::start(open_store(&config).await.unwrap());
        let events = audit.list(&AuditQuery::default()).await.unwrap();
        let told: Vec<_> =
            events.iter().map(|event| (event.operation.as_str(), event.outcome.as_str())).collect();
        assert_eq!(told, [("list_keys", "ok"), ("rotate_keys", "failed"), ("rotate_keys", "ok")]);
        assert!(events[0].client_id.starts_with("local:"));
    }
}
