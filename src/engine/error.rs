//! What an operation can fail with. `Display` is for the caller; what only the log may see stays in `source()`.

use std::time::Duration;

use crate::actions::ActionError;
use crate::audit::{AuditError, Outcome};
use crate::auth::{AuthError, ClientError, KeyError, UserError};
use crate::error::ErrorKind;
use crate::guard::Refusal;
use crate::llm::LlmError;
use crate::query::{QueryError, RecordsError};
use crate::rag::RagError;
use crate::semantic::compile::CompileError;
use crate::store::StoreError;
use crate::warehouse::WarehouseError;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("{}", refusal_text(.0))]
    Refused(Refusal),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Action(#[from] ActionError),
    #[error(transparent)]
    Rag(#[from] RagError),
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error(transparent)]
    Client(ClientError),
    #[error(transparent)]
    User(UserError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("the service database does not answer; try again")]
    Store(#[from] StoreError),
    #[error("the operation could not be audited, so its result is withheld: {0}")]
    Audit(#[source] AuditError),
    #[error("there is no {what} `{name}`{help}")]
    NotFound { what: &'static str, name: String, help: String },
    #[error("{0}")]
    InvalidInput(String),
    #[error(
        "the answer has {bytes} bytes, more than the {limit} that are handed over inline; call with respond `store` and search or query it"
    )]
    TooLargeInline { bytes: usize, limit: usize },
    #[error("{0}")]
    AuditQuery(#[source] AuditError),
    #[error(
        "clients, users and keys are administered by the running service, or with `steward client`, `steward user` and `steward key`"
    )]
    NoTokenService,
    #[error(transparent)]
    Llm(#[from] LlmError),
    #[error(
        "no language model is configured here (llm in the configuration); let your own write the SQL from `context`, and \
         check it with sql_check"
    )]
    NoLanguageModel {
        /// What it would have been told, as JSON.
        context: Box<serde_json::Value>,
    },
    /// A generation that failed after the language model was asked.
    #[error("{}", generation_text(.spent, .cause))]
    Generation {
        spent: super::Spent,
        #[source]
        cause: Box<EngineError>,
    },
    #[error("retrieval is not available here; it belongs to the running service")]
    NoRetrieval,
    #[error("something went wrong inside the service; the log has the details under this request id")]
    Interrupted,
}

fn refusal_text(refusal: &Refusal) -> String {
    if refusal.help.is_empty() {
        refusal.message.clone()
    } else {
        format!("{}; {}", refusal.message, refusal.help)
    }
}

fn generation_text(spent: &super::Spent, cause: &EngineError) -> String {
    let repairs = match spent.repairs {
        0 => "and no repair is allowed".to_owned(),
        1 => "not after 1 repair either".to_owned(),
        more => format!("not after {more} repairs either"),
    };
    match cause {
        EngineError::Refused(refusal) if refusal.missing_scope.is_some() => {
            format!("the SQL for this question needs a scope that you don't hold: {cause}")
        }
        EngineError::Refused(_) | EngineError::Query(_) => {
            format!("the language model's SQL did not pass, {repairs}; the last was refused: {cause}")
        }
        cause => cause.to_string(),
    }
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ClientError> for EngineError {
    fn from(error: ClientError) -> Self {
        match error {
            // Its text names tables.
            ClientError::Store(error) => Self::Store(error),
            error => Self::Client(error),
        }
    }
}

impl From<UserError> for EngineError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Store(error) => Self::Store(error),
            error => Self::User(error),
        }
    }
}

impl From<tokio::task::JoinError> for EngineError {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::Interrupted
    }
}

impl EngineError {
    /// The caller's view of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Auth(error) => error.kind(),
            Self::Refused(refusal) => refusal.kind(),
            Self::Compile(error) => error.kind(),
            Self::Query(error) => error.kind(),
            Self::Action(error) => error.kind(),
            Self::Rag(error) => error.kind(),
            Self::Warehouse(error) => error.kind(),
            Self::Records(error) => error.kind(),
            Self::Client(error) => error.kind(),
            Self::User(error) => error.kind(),
            Self::Keys(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Audit(error) | Self::AuditQuery(error) => error.kind(),
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::InvalidInput(_) => ErrorKind::InvalidInput,
            Self::TooLargeInline { .. } => ErrorKind::TooLarge,
            Self::NoRetrieval | Self::NoTokenService | Self::NoLanguageModel { .. } => {
                ErrorKind::NotConfigured
            }
            Self::Llm(error) => error.kind(),
            // What the caller gave was a question; that its SQL can't be planned is a refusal of the SQL.
            Self::Generation { cause, .. } => match (cause.as_ref(), cause.kind()) {
                (Self::Query(_), ErrorKind::InvalidInput) => ErrorKind::Refused,
                (_, kind) => kind,
            },
            Self::Interrupted => ErrorKind::Internal,
        }
    }

    /// After how long another try may succeed.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Action(error) => error.retry_after(),
            Self::Llm(error) => error.retry_after(),
            Self::Generation { cause, .. } => cause.retry_after(),
            Self::Query(QueryError::TooManyQueries { .. }) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// The scope whose lack is the reason, for the `WWW-Authenticate` header (RFC 6750 section 3).
    pub fn missing_scope(&self) -> Option<String> {
        match self {
            Self::Auth(AuthError::InsufficientScope { required, .. }) => Some(required.to_string()),
            Self::Refused(refusal) => refusal.missing_scope.clone(),
            Self::Generation { cause, .. } => cause.missing_scope(),
            Self::Client(ClientError::NotHeld { scopes }) | Self::User(UserError::NotHeld { scopes }) => {
                Some(scopes.to_string())
            }
            _ => None,
        }
    }

    /// The guard's refusal, of the caller's own SQL or of the last that was generated.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Generation { cause, .. } => cause.refusal(),
            _ => None,
        }
    }

    /// Writes what is not the caller's to mend into the log, with its causes, which the caller is not told.
    pub fn log(&self, request_id: &str) {
        if !matches!(self.kind(), ErrorKind::Internal | ErrorKind::Unavailable) {
            return;
        }
        let causes = std::iter::successors(std::error::Error::source(self), |cause| cause.source());
        let causes: String = causes.map(|cause| format!(": {cause}")).collect();
        tracing::error!(request_id, kind = self.kind().as_str(), "{self}{causes}");
    }

    /// What the caller is told: the display text, but for failures below the operation, whose texts name files and hosts
    /// that only operators may see. Those go to the log.
    pub fn public(&self) -> String {
        let storage = "the service cannot read or write its storage now, which may be full; try again later, or tell its operator";
        match self {
            Self::Rag(
                RagError::Io { .. } | RagError::Lance(_) | RagError::Text(_) | RagError::Database(_),
            )
            | Self::Records(RecordsError::Io(_) | RecordsError::Write(_))
            | Self::Keys(KeyError::Read { .. } | KeyError::Write { .. }) => storage.to_owned(),
            Self::AuditQuery(AuditError::Store(_)) => {
                "the service database does not answer; try again".to_owned()
            }
            Self::Warehouse(WarehouseError::Read(_) | WarehouseError::Layout(_)) => {
                "the warehouse cannot read the data of this dataset; tell its operator".to_owned()
            }
            Self::Generation { cause, .. } if !matches!(**cause, Self::Refused(_) | Self::Query(_)) => {
                cause.public()
            }
            _ if self.kind() == ErrorKind::Internal => {
                "something went wrong inside the service; the log has the details under this request id"
                    .to_owned()
            }
            _ => self.to_string(),
        }
    }

    /// How the audit records it.
    pub(super) fn audit_outcome(&self) -> (Outcome, &'static str) {
        let kind = self.kind();
        let outcome = Self::outcome_of(kind);
        match (self.refusal(), self) {
            (Some(refusal), _) => (outcome, refusal.rule),
            (None, Self::Compile(error)) => (outcome, error.code.ossie()),
            (None, _) => (outcome, kind.as_str()),
        }
    }

    /// The audit's view of a kind of error.
    pub(super) fn outcome_of(kind: ErrorKind) -> Outcome {
        match kind {
            ErrorKind::Unauthenticated | ErrorKind::InsufficientScope => Outcome::Denied,
            ErrorKind::Refused | ErrorKind::TooLarge | ErrorKind::RateLimited | ErrorKind::Timeout => {
                Outcome::Refused
            }
            _ => Outcome::Failed,
        }
    }
}
