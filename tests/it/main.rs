//! The service at its doors: a real server and a real demo API on loopback, a real data folder, the real model.
//!
//! One binary for all, because every test binary links seven hundred crates.

mod access;
mod admin;
mod attacks;
mod auth_test;
mod authorize;
mod bodies;
mod compile;
mod demo_walk;
mod documentation;
mod endless;
mod environment;
mod exchange;
mod generate;
mod guard_corpus;
mod harness;
mod linking;
mod metadata;
mod postgres;
mod postgres_server;
mod restart;
#[path = "../../benches/link/spider.rs"]
mod spider;
mod sql;
mod streaming;
mod users;
