//! Which keys a reload changes while the process runs, and which need a restart.
//!
//! A key that neither list has counts as one that needs a restart, so that no change is ever taken
//! for applied that was not. A test fails until such a key is in one of them.

/// Keys, and sections in double brackets, that a reload changes.
const LIVE: &[&str] = &[
    "timeouts.racing",
    "timeouts.established",
    "timeouts.closing",
    "timeouts.race_window",
    "timeouts.reuse_after",
    "timeouts.tag_backoff",
    "tag.kind",
    "tag.exid",
    "tag.keys",
    "tag.require_signature",
    "tunnel.format",
    "tunnel.path_mtu",
    "tunnel.peer",
    "tunnel.peer.prefix",
    "tunnel.peer.format",
    "health.interval",
    "health.timeout",
    "health.rise",
    "health.fall",
    "log.level",
    "gateway.allowed_clients",
    "gateway.service",
    "gateway.service.address",
    "gateway.service.ports",
    "gateway.service.allowed_replicas",
    "gateway.service.name",
    "gateway.service.direct",
    "gateway.service.explore",
    "gateway.service.memory",
    "gateway.service.max_sites",
    "gateway.service.site_prefix_v4",
    "gateway.service.site_prefix_v6",
    "gateway.service.warm",
    "gateway.service.origin_after",
    "gateway.service.shadow",
    "gateway.service.affinity",
    "gateway.service.affinity_slack",
    "gateway.service.handicap",
    "gateway.service.handicap.prefix",
    "gateway.service.handicap.time",
    "gateway.share.server",
    "gateway.share.user",
    "gateway.share.password_file",
    "gateway.share.database",
    "gateway.share.interval",
    "gateway.share.prefix",
    "switch.max_copies",
    "switch.fan_out_rate",
    "switch.fan_out_burst",
    "switch.fan_out_total",
    "switch.fan_out_prefix_v4",
    "switch.fan_out_prefix_v6",
    "switch.allowed_clients",
    "switch.hash_key",
    "switch.tunnel_probes",
    "switch.service",
    "switch.service.address",
    "switch.service.ports",
    "switch.service.content",
    "switch.service.source",
    "switch.service.name",
    "switch.service.replica",
    "switch.service.replica.name",
    "switch.service.replica.address",
    "switch.service.replica.enabled",
    "switch.service.replica.check",
    "switch.service.server",
    "switch.service.server.name",
    "switch.service.server.delivery",
    "switch.service.server.mac",
    "switch.service.server.address",
    "switch.service.server.weight",
    "switch.service.server.enabled",
    "switch.service.server.check",
    "replica.name",
    "replica.switches",
    "replica.direct",
    "replica.tunnel_addresses",
    "replica.allowed_clients",
    "replica.busy_connections",
    "replica.busy_syn_rate",
    "replica.syn_ack_retransmits",
    "replica.syn_ack_repair_rate",
    "replica.busy_file",
    "replica.busy_check",
    "replica.drained",
    "replica.service",
    "replica.service.address",
    "replica.service.ports",
    "replica.service.name",
    "replica.service.server",
    "replica.service.server.name",
    "replica.service.server.address",
    "replica.service.server.port",
    "replica.service.server.mac",
    "replica.service.server.weight",
    "replica.service.server.check",
    "replica.service.server.has_vip",
];

/// Returns whether a reload changes the key at `path`, which has no list indices.
pub fn is_live(path: &str) -> bool {
    LIVE.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::KEYS;

    /// Keys that need a restart, and beginnings of their paths: what is made before the first packet.
    const RESTART: &[&str] = &[
        "role",
        "eal.",
        "port.",
        "worker.",
        "memory.",
        "table.",
        "control.",
        "gateway.configuration",
    ];

    #[test]
    fn every_key_is_live_or_needs_a_restart() {
        let needs_restart = |path: &str| {
            let begins = |own: &str| path == own || own.ends_with('.') && path.starts_with(own);
            RESTART.iter().any(|own| begins(own))
        };
        for key in KEYS {
            let (live, restart) = (is_live(key.path), needs_restart(key.path));
            assert!(
                live != restart,
                "{}: decide whether a reload changes it, and put it into LIVE or RESTART of \
                 config/live.rs",
                key.path
            );
        }
        let known = |path: &&&str| KEYS.iter().any(|key| key.path == **path);
        assert_eq!(LIVE.iter().find(|path| !known(path)), None, "is no key");
    }
}
