//! Steward: a data steward for AI agents.
//!
//! One service that tells an agent what the data means, gives it exactly the slice of a large API response that it
//! needs, and runs its SQL only as far as its OAuth2 scopes allow. [`engine::Engine`] is all of it as function calls.

#![deny(unsafe_code)]

pub mod actions;
pub mod api;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod guard;
pub mod llm;
pub mod query;
pub mod rag;
pub mod semantic;
pub mod store;
pub mod warehouse;
