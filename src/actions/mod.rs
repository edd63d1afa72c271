//! Actions: external REST APIs as operations that agents call without ever seeing a credential.
//!
//! An action file (`actions/*.yaml`) names an OpenAPI document, the operations to publish, credentials by reference,
//! limits, and what becomes of large answers. This module loads them, checks arguments, and makes the calls.
//!
//! Knows no HTTP server, no engine and no index: scopes are checked before, answers are stored after.
//! 1 a credential leaves this module only inside a request to the API that it is for.
//! 2 no argument, redirect or name server leads a request anywhere but where the action file allows.
//! 3 a body is handed on whole or ends in an error; it is never cut in silence.
//! 4 messages say what to do: the agent's mistakes to the agent, the configuration's by key and file.

pub mod arguments;
pub mod call;
pub mod catalog;
pub mod clock;
pub mod diagnostic;
pub mod error;
pub mod file;
pub mod name;
pub mod net;
pub mod request;
mod search;
pub mod security;
pub mod spec;
mod yaml;

pub use arguments::ArgumentProblem;
pub use call::{Caller, CallerOptions, UpstreamBody, UpstreamResponse};
pub use catalog::{ActionCatalog, Api, FoundOperation, LoadOptions};
pub use diagnostic::{ActionDiagnostic, Severity};
pub use error::ActionError;
pub use file::{Limits, ResponsePolicy};
pub use name::{ApiName, OperationName};
pub use spec::{Operation, OperationHead, ResponseDoc, SpecError};
