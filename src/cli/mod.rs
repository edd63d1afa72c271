//! The command line.
pub mod demo_api;
