//! The configuration as operators see it: which files are accepted, which are refused and with
//! which messages, and that the documentation agrees.

#[path = "config/documentation.rs"]
mod documentation;
#[path = "config/families.rs"]
mod families;
#[path = "config/health.rs"]
mod health;
#[path = "config/mutation.rs"]
mod mutation;
#[path = "config/present.rs"]
mod present;
#[path = "config/refused.rs"]
mod refused;
#[path = "config/values.rs"]
mod values;

use std::path::{Path, PathBuf};

use firstack::config::Config;

/// Returns a path of the repository, independent of the directory in which the tests run.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Returns the text of one of the [`EXAMPLES`].
fn example(name: &str) -> String {
    std::fs::read_to_string(repository(&format!("docs/examples/{name}.toml"))).unwrap()
}

const PORTS: &str = "port.inside.device = \"net_null0\"\nport.outside.device = \"net_null1\"\n";

/// Parses a file with this role, two ports and `text`, which must be accepted.
fn accepted(role: &str, text: &str) -> Config {
    let text = format!("role = {role:?}\n{PORTS}{text}");
    Config::parse("f.toml", &text).unwrap_or_else(|errors| panic!("{errors}\nin\n{text}"))
}

/// Returns the errors of such a file, which must be refused.
fn refused(role: &str, text: &str) -> String {
    let text = format!("role = {role:?}\n{PORTS}{text}");
    match Config::parse("f.toml", &text) {
        Err(errors) => errors.to_string(),
        Ok(_) => panic!("accepted\n{text}"),
    }
}

/// A gateway's service, with nothing but what is required.
const SERVICE: &str = "[[gateway.service]]\naddress = \"any\"\nallowed_replicas = [\"any\"]\n";

/// The example files of the documentation.
const EXAMPLES: [&str; 5] = ["gateway", "gateway-v6", "replica", "switch", "switch-v6"];

/// The roles.
const ROLES: [&str; 3] = ["gateway", "switch", "replica"];
