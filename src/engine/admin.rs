//! Administration: clients, signing keys, the audit log.
//!
//! B1 nobody gives away what it does not hold: see `auth::client`; the scopes of the asking token are the measure.
//! B2 nobody locks itself out: an administrator cannot disable or delete the client that it asks as.

use secrecy::SecretString;

use super::{Context, Done, Engine, EngineError};
use crate::audit::{AuditQuery, AuditRecord};
use crate::auth::{
    Auth, Client, ClientChange, ClientError, ClientId, ClientWithSecret, Clients, KeyInfo, NewClient,
    Operation, SecretInfo,
};

/// A secret that will not be shown again, and what is known about the client's secrets now.
#[derive(Debug, Clone)]
pub struct NewSecret {
    pub secret: SecretString,
    pub secrets: Vec<SecretInfo>,
}

impl Engine {
    /// All clients, oldest first, disabled ones among them.
    pub async fn list_clients(&self, context: &Context) -> Result<Vec<Client>, EngineError> {
        self.perform(context, Operation::ListClients, None, async {
            let list = self.registry(context)?.list().await?;
            let rows = list.len();
            Ok(Done::new(list).rows(rows))
        })
        .await
    }

    /// One client with its working secrets, newest first.
    pub async fn get_client(
        &self,
        context: &Context,
        client_id: &str,
    ) -> Result<(Client, Vec<SecretInfo>), EngineError> {
        self.perform(context, Operation::GetClient, Some(client_id), async {
            let (clients, id) = (self.registry(context)?, known(client_id)?);
            Ok(Done::new((clients.get(&id).await?, clients.secrets(&id).await?)))
        })
        .await
    }

    /// Registers a client whose scopes the caller holds (B1).
    pub async fn create_client(
        &self,
        context: &Context,
        new: &NewClient,
    ) -> Result<ClientWithSecret, EngineError> {
        self.perform(context, Operation::CreateClient, None, async {
            let made = self.registry(context)?.create(new).await?;
            let id = made.client.client_id.to_string();
            Ok(Done { touched: Some(id), ..Done::new(made) })
        })
        .await
    }

    /// Changes what is not `None`; the caller must hold the scopes that the client gains, and for other claims or ways in
    /// all of them (B1).
    pub async fn update_client(
        &self,
        context: &Context,
        client_id: &str,
        change: &ClientChange,
    ) -> Result<Client, EngineError> {
        self.perform(context, Operation::UpdateClient, Some(client_id), async {
            Ok(Done::new(self.registry(context)?.update(&known(client_id)?, change).await?))
        })
        .await
    }

    /// Makes a new secret; the newest of the old ones works for another `overlap_ms`. The caller must hold all of the
    /// client's scopes, since the secret is theirs (B1).
    pub async fn rotate_client_secret(
        &self,
        context: &Context,
        client_id: &str,
        overlap_ms: i64,
    ) -> Result<NewSecret, EngineError> {
        self.perform(context, Operation::RotateClientSecret, Some(client_id), async {
            let (clients, id) = (self.registry(context)?, known(client_id)?);
            let secret = clients.rotate_secret(&id, overlap_ms).await?;
            Ok(Done::new(NewSecret { secret, secrets: clients.secrets(&id).await? }))
        })
        .await
    }

    /// Locks a client out (B2).
    pub async fn disable_client(&self, context: &Context, client_id: &str) -> Result<Client, EngineError> {
        self.perform(context, Operation::DisableClient, Some(client_id), async {
            let (clients, id) = (self.registry(context)?, known(client_id)?);
            refuse_oneself(context, &id, "disable")?;
            clients.disable(&id).await?;
            Ok(Done::new(clients.get(&id).await?))
        })
        .await
    }

    /// Lets a client in again whose scopes the caller holds (B1).
    pub async fn enable_client(&self, context: &Context, client_id: &str) -> Result<Client, EngineError> {
        self.perform(context, Operation::EnableClient, Some(client_id), async {
            let (clients, id) = (self.registry(context)?, known(client_id)?);
            clients.enable(&id).await?;
            Ok(Done::new(clients.get(&id).await?))
        })
        .await
    }

    /// Deletes a client (B2).
    pub async fn delete_client(&self, context: &Context, client_id: &str) -> Result<(), EngineError> {
        self.perform(context, Operation::DeleteClient, Some(client_id), async {
            let (clients, id) = (self.registry(context)?, known(client_id)?);
            refuse_oneself(context, &id, "delete")?;
            Ok(Done::new(clients.delete(&id).await?))
        })
        .await
    }

    /// The signing keys in use, the active one first.
    pub async fn list_keys(&self, context: &Context) -> Result<Vec<KeyInfo>, EngineError> {
        self.perform(context, Operation::ListKeys, None, async {
            Ok(Done::new(self.token_service()?.key_ring().list()))
        })
        .await
    }

    /// Next key → active, active → retired, and a fresh next one. `force` skips the time that a key must have been
    /// published for.
    pub async fn rotate_keys(&self, context: &Context, force: bool) -> Result<Vec<KeyInfo>, EngineError> {
        self.perform(context, Operation::RotateKeys, None, async {
            Ok(Done::new(self.token_service()?.key_ring().rotate(force).await?))
        })
        .await
    }

    /// Reads the audit log, up to what was audited before this call.
    pub async fn list_audit_events(
        &self,
        context: &Context,
        query: &AuditQuery,
    ) -> Result<Vec<AuditRecord>, EngineError> {
        self.perform(context, Operation::ListAuditEvents, None, async {
            self.audit.flush().await.map_err(EngineError::AuditQuery)?;
            let list = self.audit.list(query).await.map_err(EngineError::AuditQuery)?;
            let rows = list.len();
            Ok(Done::new(list).rows(rows))
        })
        .await
    }

    pub(super) fn token_service(&self) -> Result<&Auth, EngineError> {
        self.auth.as_ref().ok_or(EngineError::NoTokenService)
    }

    fn registry(&self, context: &Context) -> Result<Clients, EngineError> {
        Ok(self.token_service()?.clients().limited_to(&context.principal.scopes))
    }
}

/// What cannot be an id belongs to no client.
fn known(client_id: &str) -> Result<ClientId, ClientError> {
    let shown = || client_id.chars().take(128).collect();
    client_id.parse().map_err(|_| ClientError::NotFound { client_id: shown() })
}

fn refuse_oneself(context: &Context, id: &ClientId, verb: &'static str) -> Result<(), ClientError> {
    if context.principal.client_id == *id { Err(ClientError::Oneself { verb }) } else { Ok(()) }
}
