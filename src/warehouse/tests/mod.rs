//! One contract for every warehouse, and what each kind promises besides.

pub mod contract;
mod duckdb;
mod local;
mod postgres;
#[path = "../../../tests/it/postgres_server.rs"]
#[expect(dead_code, reason = "the integration tests need more of it")]
pub mod postgres_server;
mod s3;
pub mod snowflake;
mod sqlite;

use std::path::PathBuf;

/// The shared library of a driver; `None`, with a message, where the tests' set-up has not fetched it.
pub fn driver(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("STEWARD_ADBC_DRIVERS") else {
        println!("skipped: STEWARD_ADBC_DRIVERS is not set; ./test.sh fetches the drivers and sets it");
        return None;
    };
    let path = PathBuf::from(folder).join(format!("lib{name}.so"));
    if !path.is_file() {
        println!("skipped: {} is missing; docker/warehouses/prepare.sh says why", path.display());
        return None;
    }
    Some(path)
}
