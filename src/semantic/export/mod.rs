//! Models as files: Steward's own YAML, and strict Ossie.
//!
//! Pure: returns texts, writes no file.

mod ossie;
mod steward;
mod yaml;

pub use ossie::{VENDOR, to_ossie};
pub use steward::{Notes, VERSION, to_files, to_yaml};
pub use yaml::{Map, Yaml};

#[cfg(test)]
pub(super) mod tests;
