//! The configuration as an operator meets it: what is accepted, what is refused and in which
//! words, and that the documentation tells the truth about both.

#[path = "config/documentation.rs"]
mod documentation;
#[path = "config/mutation.rs"]
mod mutation;
#[path = "config/refused.rs"]
mod refused;
#[path = "config/values.rs"]
mod values;

use std::path::{Path, PathBuf};

/// A path of the repository, found from this crate wherever the tests are started.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A complete file of the role, every key of which can be replaced by [`with`].
fn example(role: &str) -> String {
    std::fs::read_to_string(repository(&format!("docs/examples/{role}.toml"))).unwrap()
}

/// The roles.
const ROLES: [&str; 3] = ["gateway", "switch", "replica"];
