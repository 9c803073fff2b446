//! Health checks.

use std::time::Duration;

use firstack::config::{Check, Health, HttpCheck, Role};

use crate::{SERVICE, accepted, refused};

fn tcp(target: &str) -> Check {
    Check { target: target.parse().unwrap(), http: None }
}

fn http(target: &str, host: &str, path: &str) -> Check {
    let http = HttpCheck { host: host.to_owned(), path: path.to_owned() };
    Check { http: Some(http), ..tcp(target) }
}

#[test]
fn probes_are_as_frequent_and_patient_as_the_file_says() {
    let config = accepted(
        "gateway",
        &format!(
            "[health]\ninterval = \"250ms\"\ntimeout = \"250ms\"\nrise = 1\nfall = 100\n\
             {SERVICE}"
        ),
    );
    let quarter = Duration::from_millis(250);
    assert_eq!(config.health, Health { interval: quarter, timeout: quarter, rise: 1, fall: 100 });
}

/// Parses the check of a switch's server.
fn check(url: &str) -> Option<Check> {
    let text = format!(
        "[[switch.service]]\naddress = \"203.0.113.10\"\n[[switch.service.server]]\ncheck = {url:?}\n"
    );
    let Role::Switch(switch) = accepted("switch", &text).role else { panic!("{text}") };
    switch.services[0].servers[0].check.clone()
}

#[test]
fn checks_connect_or_ask_for_a_page() {
    assert_eq!(check("tcp://203.0.113.21:8080"), Some(tcp("203.0.113.21:8080")));
    assert_eq!(check("tcp://[2001:db8::21]:80"), Some(tcp("[2001:db8::21]:80")));
    // Probes are sent from this host's own network, loopback included.
    assert_eq!(check("tcp://127.0.0.1:65535"), Some(tcp("127.0.0.1:65535")));
    assert_eq!(check("http://[::1]/"), Some(http("[::1]:80", "[::1]", "/")));
    assert_eq!(
        check("http://203.0.113.21/health?deep=1"),
        Some(http("203.0.113.21:80", "203.0.113.21", "/health?deep=1"))
    );
    assert_eq!(
        check("http://203.0.113.21:80/a//b"),
        Some(http("203.0.113.21:80", "203.0.113.21", "/a//b"))
    );
    assert_eq!(
        check("http://[2001:DB8::21]:8080/"),
        Some(http("[2001:db8::21]:8080", "[2001:db8::21]:8080", "/"))
    );
    let longest = format!("/{}", "x".repeat(511));
    assert_eq!(
        check(&format!("http://203.0.113.21{longest}")),
        Some(http("203.0.113.21:80", "203.0.113.21", &longest))
    );
}

#[test]
fn replicas_and_web_servers_are_checked_too() {
    let config = accepted(
        "switch",
        r#"
        [[switch.service]]
        address = "203.0.113.10"
        [[switch.service.replica]]
        address = "198.51.100.10"
        check = "tcp://198.51.100.10:80"
        [[switch.service.server]]
        "#,
    );
    let Role::Switch(switch) = config.role else { panic!("{:?}", config.role) };
    assert_eq!(switch.services[0].replicas[0].check, Some(tcp("198.51.100.10:80")));
    let config = accepted(
        "replica",
        r#"
        [replica]
        switches = ["203.0.113.1"]
        busy_check = "http://198.51.100.10:8080/busy"
        [[replica.service]]
        address = "203.0.113.10"
        [[replica.service.server]]
        address = "198.51.100.10"
        check = "http://198.51.100.10/health"
        "#,
    );
    let Role::Replica(replica) = config.role else { panic!("{:?}", config.role) };
    let busy = http("198.51.100.10:8080", "198.51.100.10:8080", "/busy");
    assert_eq!(replica.busy_check, Some(busy));
    let server = http("198.51.100.10:80", "198.51.100.10", "/health");
    assert_eq!(replica.services[0].servers[0].check, Some(server));
}

#[test]
fn an_interval_below_the_default_timeout_needs_a_timeout_of_its_own() {
    let errors = refused("gateway", &format!("health.interval = \"999ms\"\n{SERVICE}"));
    assert!(errors.contains("health.timeout: the default 1s is longer"), "{errors}");
    accepted("gateway", &format!("health.interval = \"1s\"\n{SERVICE}"));
}
