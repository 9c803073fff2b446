//! Sets of files: a site that is sound, one change for each mistake, and the lines that it must lead to.

use std::path::Path;

use super::{File, Severity, run, together};

const GATEWAY: &str = r#"role = "gateway"
port.inside.device = "net_null0"
port.outside.device = "net_null1"
[tag]
exid = 0x1234
[tunnel]
path_mtu = 1480
[timeouts]
established = "1h"
[gateway]
configuration = "C"
allowed_clients = ["198.18.0.0/15"]
[[gateway.service]]
name = "all"
address = "203.0.113.0/24"
ports = [8080]
allowed_replicas = ["any"]
[[gateway.service]]
name = "shop"
address = "203.0.113.10"
ports = [80, 443]
allowed_replicas = ["198.51.100.0/24"]
direct = 2
"#;

const SWITCH: &str = r#"role = "switch"
port.inside.device = "net_null0"
port.outside.device = "net_null1"
[tag]
exid = 0x1234
[switch]
allowed_clients = ["198.18.0.0/16"]
[[switch.service]]
name = "shop"
address = "203.0.113.10"
ports = [80, 443]
source = "203.0.113.1"
[[switch.service.replica]]
name = "berlin"
address = "198.51.100.10"
[[switch.service.server]]
"#;

const REPLICA: &str = r#"role = "replica"
port.inside.device = "net_null0"
port.outside.device = "net_null1"
[tag]
exid = 0x1234
[tunnel]
path_mtu = 1480
[timeouts]
established = "1h"
[replica]
switches = ["203.0.113.1"]
tunnel_addresses = ["198.51.100.10"]
direct = true
allowed_clients = ["any"]
[[replica.service]]
name = "shop"
address = "203.0.113.10"
ports = [80, 443]
[[replica.service.server]]
address = "198.51.100.11"
has_vip = true
"#;

/// What is said of the three files after a change: the file's name, a text in it, and what takes its
/// place.
fn said(changes: &[(&str, &str, &str)]) -> Vec<String> {
    let files = [("g", GATEWAY), ("s", SWITCH), ("r", REPLICA)].map(|(name, text)| {
        let mut text = text.to_owned();
        for (_, from, to) in changes.iter().filter(|(file, ..)| *file == name) {
            assert!(text.contains(from), "{name} has no {from:?}");
            text = text.replacen(from, to, 1);
        }
        File::parse(name, &text).unwrap_or_else(|errors| panic!("{}\nin\n{text}", errors.0))
    });
    together(&files, false).iter().map(ToString::to_string).collect()
}

#[test]
fn a_sound_site_has_no_mistake() {
    assert_eq!(said(&[]), Vec::<String>::new());
}

/// One change, and the line that it leads to.
type Case = (&'static [(&'static str, &'static str, &'static str)], &'static str);

const CASES: [Case; 22] = [
    (
        &[("r", "0x1234", "0x4E52")],
        "r:5: tag.exid: 0x4e52, but g:5 (tag.exid) is 0x1234; expected the same in all files, or no \
         tag is found",
    ),
    (
        &[("s", "exid = 0x1234", "")],
        "s:4: tag.exid: 0x4e52, but g:5 (tag.exid) is 0x1234; expected the same in all files, or no \
         tag is found",
    ),
    (
        &[("s", "exid = 0x1234", "exid = 0x1234\nkind = 254")],
        "s:6: tag.kind: 254, but g:4 (tag.kind) is 253; expected the same in all files, or no tag is \
         found",
    ),
    (
        &[("s", "exid = 0x1234", "exid = 0x1234\nkeys = \"/keys\"\nrequire_signature = true")],
        "s:7: tag.require_signature: true, but g:4 (tag.keys) names no keys, and sends unsigned tags; \
         expected keys there, or false here",
    ),
    (
        &[("s", "ports = [80, 443]", "ports = [80]")],
        "g:21: gateway.service[1].ports: 203.0.113.10:443 is tagged, but s:11 \
         (switch.service[0].ports) lacks it, and the origin gets the tag; expected the same ports on \
         both sides",
    ),
    (
        &[("g", "ports = [80, 443]", "ports = [80]")],
        "s:11: switch.service[0].ports: 203.0.113.10:443 is tagged by no gateway: g:21 \
         (gateway.service[1].ports) lacks it; expected the same ports on both sides",
    ),
    (
        &[("s", "address = \"203.0.113.10\"", "address = \"203.0.113.11\"")],
        "g:20: gateway.service[1].address: 203.0.113.10 is a service of no switch, the first s:8 \
         (switch.service); expected [[switch.service]] with it, or no copies are made",
    ),
    (
        &[("r", "ports = [80, 443]", "ports = [80]")],
        "r:18: replica.service[0].ports: lacks 203.0.113.10:443, whose SYNs s:11 \
         (switch.service[0].ports) copies to it; expected the service and its port here",
    ),
    (
        &[("r", "address = \"203.0.113.10\"", "address = \"203.0.113.12\"")],
        "r:15: replica.service: lacks 203.0.113.10:80, whose SYNs s:11 (switch.service[0].ports) \
         copies to it; expected the service and its port here",
    ),
    (
        &[("r", "switches = [\"203.0.113.1\"]", "switches = [\"203.0.113.10\"]")],
        "r:11: replica.switches: lacks 203.0.113.1, from which s:12 (switch.service[0].source) sends \
         its copies; expected it here, or no copy is accepted",
    ),
    (
        &[("s", "\"198.51.100.10\"", "\"198.51.100.110\"")],
        "r:12: replica.tunnel_addresses: 198.51.100.10: no switch sends copies there, s:8 \
         (switch.service) lists others; expected one of these as the address of a \
         [[switch.service.replica]]",
    ),
    (
        &[("s", "\"198.51.100.10\"", "\"198.51.100.110\"")],
        "s:15: warning: switch.service[0].replica[0].address: 198.51.100.110 is in none of the \
         replicas' files, the first r:12 (replica.tunnel_addresses); expected the file of the replica \
         that has it",
    ),
    (
        &[("g", "[\"198.51.100.0/24\"]", "[\"192.0.2.0/24\"]")],
        "r:20: replica.service[0].server[0].address: 198.51.100.11 is not in g:22 \
         (gateway.service[1].allowed_replicas), so its answers win nothing; expected a prefix there \
         that contains it",
    ),
    (
        &[("r", "direct = true", "direct = false")],
        "r:13: replica.direct: false, but g:23 (gateway.service[1].direct) is 2: the copies are \
         dropped; expected true, or 0 there",
    ),
    (
        &[("r", "has_vip = true", "has_vip = true\nport = 8080")],
        "r:22: replica.service[0].server[0].port: 8080, but under g:11 (gateway.configuration) = \"C\" \
         a server with has_vip gets the packets to the port that the client asked for; expected no \
         port, or has_vip = false",
    ),
    (
        &[("r", "established = \"1h\"", "established = \"30m\"")],
        "r:9: timeouts.established: 30m, shorter than g:9 (timeouts.established) = 1h: under C an idle \
         connection that the replica has forgotten hangs; expected at least as long",
    ),
    (
        &[
            ("g", "configuration = \"C\"", "configuration = \"A\""),
            ("g", "established = \"1h\"", "reuse_after = \"20s\""),
        ],
        "g:9: timeouts.reuse_after: 20s, but r:15 (replica.service) takes a SYN from a port used \
         before for the same client's for 10s only; expected at most that under A",
    ),
    (
        &[("r", "path_mtu = 1480", "path_mtu = 1500")],
        "r:7: warning: tunnel.path_mtu: 1500, but g:7 (tunnel.path_mtu) is 1480, and both are for the \
         path between the two under g:11 (gateway.configuration) = \"C\"; expected the same",
    ),
    (
        &[(
            "s",
            "[switch]",
            "[[tunnel.peer]]\nprefix = \"198.51.100.0/24\"\nformat = \"gue\"\n[switch]",
        )],
        "g:6: warning: tunnel.format: tunnels to 198.51.100.10 are ipip, but s:6 (tunnel.peer) has \
         gue for it; expected the same where only one format passes",
    ),
    (
        &[("s", "allowed_clients = [\"198.18.0.0/16\"]", "allowed_clients = [\"192.0.2.0/24\"]")],
        "s:7: switch.allowed_clients: clients of g:12 (gateway.allowed_clients[0]) are not among \
         these, and race in vain; expected 198.18.0.0/15 as well",
    ),
    (
        &[("r", "allowed_clients = [\"any\"]", "allowed_clients = [\"192.0.2.0/24\"]")],
        "r:14: replica.allowed_clients: clients of g:12 (gateway.allowed_clients[0]) are not among \
         these, and race in vain; expected 198.18.0.0/15 as well",
    ),
    (
        &[
            ("g", "\"203.0.113.10\"", "\"203.0.113.10\""),
            ("r", "ports = [80, 443]", "ports = [80, 443, 25]"),
        ],
        "r:18: warning: replica.service[0].ports: 203.0.113.10:25 is a service of no switch, the first \
         s:8 (switch.service); expected it there, or gateways that ask directly",
    ),
];

#[test]
fn each_mistake_between_files_is_named_with_both_places() {
    for (changes, expected) in CASES {
        let said = said(changes);
        assert!(
            said.iter().any(|line| line == expected),
            "{changes:?}:\n  expected\n    {expected}\n  said\n    {}",
            said.join("\n    ")
        );
    }
}

#[test]
fn ipv6_has_room_in_the_replicas_tunnels_too() {
    let v6 = |text: &str| {
        text.replace("203.0.113.10", "2001:db8::80")
            .replace("203.0.113.0/24", "2001:db8::/64")
            .replace("198.51.100.0/24", "2001:db8:1::/48")
            .replace("198.51.100.11", "2001:db8:1::11")
            .replace("198.18.0.0/15", "any")
            .replace("198.18.0.0/16", "any")
    };
    let texts = [("g", v6(GATEWAY)), ("r", v6(REPLICA).replace("1480", "1300"))];
    let files = texts.map(|(name, text)| File::parse(name, &text).map_err(|e| e.0).unwrap());
    let said: Vec<_> = together(&files, false).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["r:7: tunnel.path_mtu: 1300 has no room for the IPv6 packets of 1280 bytes that g:11 \
          (gateway.configuration) = \"C\" tunnels; expected at least 1320"]
    );
}

#[test]
fn two_replicas_have_addresses_of_their_own() {
    let files = ["r1", "r2"].map(|name| File::parse(name, REPLICA).map_err(|e| e.0).unwrap());
    let said: Vec<_> = together(&files, false).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "r2:12: replica.tunnel_addresses: 198.51.100.10 is one of r1:12 (replica.tunnel_addresses) \
          as well; expected each replica's own"
        ]
    );
}

#[test]
fn keys_that_sign_are_keys_that_verify() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let key = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let [one, two] = ["000102030405060708090a0b0c0d0e0f", "f0e1d2c3b4a5968778695a4b3c2d1e0f"];
    let signs = key("g", &format!("1 {one}\n2 {two} sign\n"));
    let with = |name, text: &str, keys: &str| {
        let text = text.replace("exid = 0x1234", &format!("exid = 0x1234\nkeys = {keys:?}"));
        File::parse(name, &text).map_err(|e| e.0).unwrap()
    };
    for (keys, expected) in [
        (format!("2 {two}\n"), None),
        (format!("1 {one}\n"), Some("lacks key 2, with which g:6 (tag.keys) signs")),
        (format!("2 {one}\n"), Some("key 2 differs from that of g:6 (tag.keys)")),
    ] {
        let files = [with("g", GATEWAY, &signs), with("s", SWITCH, &key("s", &keys))];
        let said: Vec<_> = together(&files, true).iter().map(ToString::to_string).collect();
        match expected {
            None => assert!(said.is_empty(), "{said:?}"),
            Some(text) => {
                let is_it = said.len() == 1 && said[0].starts_with("s:6: tag.keys: ");
                assert!(is_it && said[0].contains(text), "{said:?}");
            }
        }
        assert!(together(&files, false).is_empty(), "the keys are not looked at");
    }
}

#[test]
fn the_examples_of_the_documentation_fit_together() {
    let example = |name: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        root.join(format!("docs/examples/{name}.toml"))
    };
    for set in [&["gateway", "switch", "replica"][..], &["gateway-v6", "switch-v6"]] {
        let files: Vec<_> = set.iter().map(|name| example(name)).collect();
        let outcome = run(&files, false);
        assert!(!outcome.has_mistakes, "{}", outcome.said.join("\n"));
        assert_eq!(outcome.sound.len(), files.len() + 1);
    }
    // Those of different sites do not.
    let outcome = run(&[example("replica"), example("switch-v6")], false);
    assert!(outcome.has_mistakes && outcome.said.join("\n").contains("replica.switches"));
}

#[test]
fn a_file_with_mistakes_of_its_own_is_left_out_of_the_comparison() {
    let directory = tempfile::tempdir().unwrap();
    let paths = [("g", GATEWAY), ("s", "role = \"switch\"\n")].map(|(name, text)| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    });
    let outcome = run(&paths, false);
    assert!(outcome.has_mistakes && outcome.sound.len() == 1, "{outcome:?}");
    let mistakes = outcome.said.iter().filter(|line| !line.contains("warning: "));
    let of_switch = |lines: &String| lines.lines().all(|line| line.contains("/s:1: "));
    assert!(mistakes.clone().count() == 1 && mistakes.clone().all(of_switch), "{outcome:?}");
}

#[test]
fn a_warning_is_no_mistake() {
    let files = [("g", GATEWAY), ("r", REPLICA)];
    let files = files.map(|(name, text)| {
        let text = text.replace("ports = [80, 443]", "ports = [80]").replace("\"C\"", "\"A\"");
        File::parse(name, &text.replacen("path_mtu = 1480", "path_mtu = 1500", 1)).map_err(|e| e.0)
    });
    let files = files.map(Result::unwrap);
    assert!(together(&files, false).iter().all(|found| found.severity == Severity::Warning));
}
