use super::*;
use crate::config::Config;

const PORTS: &str = "port.inside.device = \"net_null0\"\nport.outside.device = \"net_null1\"\n";

const SHOP: &str = r#"
[[switch.service]]
name = "shop"
address = "203.0.113.10"
[[switch.service.replica]]
name = "lisbon"
address = "198.51.100.10"
[[switch.service.replica]]
name = "oslo"
address = "198.51.100.20"
enabled = false
[[switch.service.server]]
name = "web1"
delivery = "direct"
mac = "02:00:00:00:00:01"
"#;

/// Returns the lines of the difference between two files of a switch, which are both accepted.
fn lines(old: &str, new: &str) -> Vec<String> {
    let source = |text: &str| {
        let text = format!("role = \"switch\"\n{PORTS}{text}");
        let source = Source::of_text("f.toml", &text);
        source.parse().unwrap_or_else(|errors| panic!("{errors}\nin\n{text}"));
        source
    };
    changes(&source(old), &source(new)).iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_written_otherwise_and_means_the_same_is_no_change() {
    assert_eq!(lines(SHOP, SHOP), [""; 0]);
    let comment = format!("# a comment\n[timeouts]\nracing = \"40s\"\n\n{SHOP}");
    let other =
        "[timeouts]\nracing = \"20s 20s\"\nestablished = \"2h4m\"\n[switch]\nmax_copies = 0x8\n";
    assert_eq!(lines(&comment, &format!("{other}{SHOP}")), [""; 0]);
}

#[test]
fn sections_are_found_again_by_name_wherever_they_stand() {
    let lisbon = "[[switch.service.replica]]\nname = \"lisbon\"\naddress = \"198.51.100.10\"\n";
    let moved = SHOP.replace(lisbon, "") + lisbon;
    assert_eq!(lines(SHOP, &moved), [""; 0]);
    let gone = SHOP.replace(lisbon, "").replace("enabled = false\n", "");
    assert_eq!(
        lines(SHOP, &gone),
        [
            "removed switch.service[shop].replica[lisbon] (was line 8)",
            "changed switch.service[shop].replica[oslo].enabled: false -> true (the default) (line 14)",
        ]
    );
    let added = format!(
        "{SHOP}weight = 3\n[[switch.service.server]]\ndelivery = \"direct\"\n\
         mac = \"02:00:00:00:00:02\"\nweight = 7\n"
    );
    assert_eq!(
        lines(SHOP, &added),
        [
            "changed switch.service[shop].server[web1].weight: 1 (the default) -> 3 (line 19)",
            "added switch.service[shop].server[02:00:00:00:00:02] (line 20)",
        ]
    );
}

#[test]
fn a_service_is_one_line_and_not_one_for_each_of_its_keys() {
    let blog = SHOP.replace("shop", "blog").replace("203.0.113.10", "203.0.113.20");
    assert_eq!(lines(SHOP, &format!("{SHOP}{blog}")), ["added switch.service[blog] (line 20)"]);
    assert_eq!(
        lines(&format!("{SHOP}{blog}"), &blog),
        ["removed switch.service[shop] (was line 5)"]
    );
    // Services without names share an address: the port tells them apart.
    let [one, two] =
        [80, 443].map(|port| SHOP.replace("name = \"shop\"\n", &format!("ports = [{port}]\n")));
    assert_eq!(
        lines(&format!("{one}{two}"), &format!("{two}{one}").replace("oslo", "rome")),
        [
            "added switch.service[203.0.113.10:443].replica[rome] (line 11)",
            "added switch.service[203.0.113.10:80].replica[rome] (line 26)",
            "removed switch.service[203.0.113.10:80].replica[oslo] (was line 11)",
            "removed switch.service[203.0.113.10:443].replica[oslo] (was line 26)",
        ]
    );
}

#[test]
fn a_hash_key_is_compared_but_not_shown() {
    let key = |digit: &str| format!("[switch]\nhash_key = \"{}\"\n{SHOP}", digit.repeat(32));
    let [shown] = lines(&key("a"), &key("b")).try_into().unwrap();
    assert_eq!(shown, "changed switch.hash_key: (not shown) -> (not shown) (line 5)");
}

#[test]
fn every_line_of_every_example_can_be_left_out_or_is_needed() {
    // A file whose keys the difference did not see would be taken for unchanged.
    for name in ["gateway", "gateway-v6", "replica", "switch", "switch-v6"] {
        let path = format!("{}/../docs/examples/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let whole = Source::of_text("f.toml", &text);
        let config = whole.parse().unwrap();
        for (number, _) in text.lines().enumerate() {
            let without = text.lines().enumerate().filter(|(other, _)| *other != number);
            let without: String = without.map(|(_, line)| format!("{line}\n")).collect();
            let Ok(other) = Config::parse("f.toml", &without) else { continue };
            let differs = Config { places: config.places.clone(), ..other } != config;
            let changes = changes(&whole, &Source::of_text("f.toml", &without));
            assert_eq!(differs, !changes.is_empty(), "{name}: {number}: {changes:?}");
        }
    }
}

#[test]
fn what_needs_a_restart_is_marked() {
    let source =
        |text: &str| Source::of_text("f.toml", &format!("role = \"switch\"\n{PORTS}{text}{SHOP}"));
    let new =
        source("[table]\nmax_connections = 100\n[worker]\ncores = [1]\n[log]\nlevel = \"warn\"\n");
    let marked: Vec<_> = changes(&source(""), &new)
        .into_iter()
        .map(|change| (change.path, change.line, change.needs_restart))
        .collect();
    let expected =
        [("table.max_connections", 5, true), ("worker.cores", 7, true), ("log.level", 9, false)];
    assert_eq!(marked, expected.map(|(path, line, restart)| (path.to_owned(), line, restart)));
}
