//! What a valid configuration allows although few operators want it.

use super::{Config, Role};

impl Config {
    /// Returns what the operator should know of this configuration, one sentence each. `check`
    /// prints them, a start logs them, and the counters show them.
    pub fn warnings(&self) -> Vec<String> {
        let Role::Gateway(gateway) = &self.role else { return Vec::new() };
        let open = gateway.services.iter().filter(|service| service.lets_anybody_win());
        open.map(|service| {
            format!(
                "gateway.service {:?}: with allowed_replicas = [\"any\"], any host that sees or \
                 guesses a SYN can answer it from its own address and get the connection; list \
                 the replicas' prefixes",
                service.name
            )
        })
        .collect()
    }
}
