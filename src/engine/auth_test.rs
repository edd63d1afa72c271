//! The example of an API behind the built-in tokens: what the endpoints below `/v1/auth-test` do.
//!
//! Knows nothing of the rest: the example's scopes (`protected`, `highly_sensitive`) open these operations alone.

use super::haiku::haiku;
use super::{Context, Done, Engine, EngineError};
use crate::auth::{Operation, Scope};

/// Longest message that becomes a haiku.
pub const MAX_MESSAGE_CHARACTERS: usize = 1_000;

/// Who was let in, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    pub client_id: String,
    pub subject: String,
    /// The scope that the operation required.
    pub scope: String,
}

impl Engine {
    /// Greets a holder of `protected`.
    pub async fn auth_test_protected(&self, context: &Context) -> Result<Greeting, EngineError> {
        self.greet(context, Operation::AuthTestProtected).await
    }

    /// Greets a holder of `highly_sensitive`.
    pub async fn auth_test_highly_confidential(&self, context: &Context) -> Result<Greeting, EngineError> {
        self.greet(context, Operation::AuthTestHighlyConfidential).await
    }

    /// A haiku for a message of 1 to [`MAX_MESSAGE_CHARACTERS`] characters, for a holder of `protected`; same message,
    /// same haiku.
    pub async fn auth_test_protected_post(
        &self,
        context: &Context,
        message: &str,
    ) -> Result<[String; 3], EngineError> {
        self.perform(context, Operation::AuthTestProtectedPost, None, async {
            let characters = message.chars().count();
            if message.trim().is_empty() || characters > MAX_MESSAGE_CHARACTERS {
                return Err(EngineError::InvalidInput(format!(
                    "the message has {characters} characters; send 1 to {MAX_MESSAGE_CHARACTERS}, not all of them blank"
                )));
            }
            Ok(Done::new(haiku(message)))
        })
        .await
    }

    async fn greet(&self, context: &Context, operation: Operation) -> Result<Greeting, EngineError> {
        self.perform(context, operation, None, async {
            Ok(Done::new(Greeting {
                client_id: context.principal.client_id.to_string(),
                subject: context.principal.subject.clone(),
                scope: operation.required_scope(None).as_ref().map(Scope::to_string).unwrap_or_default(),
            }))
        })
        .await
    }
}
