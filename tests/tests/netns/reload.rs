//! Reloads: the configuration of running processes changes under load, and no connection notices.
//!
//! `FIRSTACK_RELOADS` is the number of reloads of the run under load, 40 if it is not given; there are
//! a hundred connections to each (`FIRSTACK_RELOADS=200` for 20,000 connections).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use firstack_tests::demo::client::{Burst, burst_while, request};
use firstack_tests::lab::Family::V4;
use firstack_tests::lab::Site;
use firstack_tests::processes::{Appliance, Configuration, ProcessOptions};

use super::network::Network;
use super::{MAX_WAIT, OrFail, alone, comes_true};

const KEYS: [&str; 2] =
    ["7 00112233445566778899aabbccddeeff", "8 ffeeddccbbaa99887766554433221100"];
/// Connections to each reload.
const EACH: usize = 100;
/// Connections at a time.
const AT_A_TIME: usize = 20;

/// Replaces a part of a file that must be there.
#[track_caller]
fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in:\n{text}");
    text.replace(from, to)
}

#[track_caller]
fn reload(appliance: &Appliance, text: &str) -> String {
    let answer = appliance.reload_with(text).or_fail();
    assert!(answer.starts_with("reloaded "), "{}: {answer}", appliance.name());
    answer
}

/// A service that nobody connects to.
fn another(role: &str) -> String {
    let more = match role {
        "gateway" => "allowed_replicas = [\"198.51.100.0/24\"]\n".to_string(),
        "switch" => "[[switch.service.server]]\nname = \"origin\"\n".to_string(),
        _ => "[[replica.service.server]]\naddress = \"192.0.2.77\"\n".to_string(),
    };
    format!("\n[[{role}.service]]\nname = \"another\"\naddress = \"192.0.2.99\"\n{more}")
}

/// The changes of a gateway's file.
fn gateway_changes(text: &str) -> Vec<String> {
    let service = "name = \"web\"\n";
    vec![
        format!("{text}{}", another("gateway")),
        format!("{text}\n[timeouts]\nestablished = \"1h\"\nracing = \"30s\"\n"),
        with(text, service, "name = \"shop\"\n"),
        with(text, service, &format!("{service}explore = 2\nmemory = \"1m\"\n")),
        format!("{text}\n[log]\nlevel = \"debug\"\n"),
        format!("{text}\n[tunnel]\nformat = \"gre\"\n"),
        text.to_string(),
    ]
}

/// The changes of a switch's file.
fn switch_changes(text: &str) -> Vec<String> {
    let first = format!(
        "\n[[switch.service.replica]]\nname = \"replica2\"\naddress = \"{}\"\n",
        Site::Replica(2).address()
    );
    vec![
        with(text, &first, ""),
        with(text, &first, &format!("{first}enabled = false\n")),
        with(text, "name = \"origin\"\n", "name = \"origin\"\nweight = 3\n"),
        format!("{text}{}", another("switch")),
        with(
            text,
            "\n[[switch.service]]\n",
            "\n[switch]\nmax_copies = 4\nfan_out_rate = 4000\n\n[[switch.service]]\n",
        ),
        format!("{text}\n[tunnel]\nformat = \"gue\"\n"),
        text.to_string(),
    ]
}

/// The changes of a replica's file.
fn replica_changes(text: &str) -> Vec<String> {
    vec![
        with(text, "\n[replica]\n", "\n[replica]\nbusy_syn_rate = 9000\nsyn_ack_retransmits = 1\n"),
        format!("{text}{}", another("replica")),
        format!("{text}weight = 7\n"),
        format!("{text}\n[timeouts]\nestablished = \"1h\"\nclosing = \"2m\"\n"),
        format!("{text}\n[tunnel]\nformat = \"gre\"\n"),
        text.to_string(),
    ]
}

/// Makes connections while `work` is done, which is told how many have begun.
fn load(network: &Network, count: usize, work: impl FnOnce(&AtomicUsize)) -> Burst {
    let (_, bytes) = network.file("4KB").or_fail();
    let (client, service) = (network.client(), network.service(V4));
    let begun = AtomicUsize::new(0);
    let goes_on = || begun.fetch_add(1, Relaxed) < count;
    let burst = std::thread::scope(|scope| {
        let load =
            scope.spawn(|| burst_while(client, service, ("4KB", &bytes), AT_A_TIME, goes_on));
        work(&begun);
        load.join().unwrap()
    });
    let burst = burst.or_fail();
    network.made(burst.successes() + burst.failed.len());
    assert_eq!(burst.failed, Vec::<String>::new());
    assert_eq!(burst.successes(), count);
    burst
}

/// Reloads one of the processes, each in its turn with the next of its changes.
fn one_reload(turn: usize, appliances: &[Appliance], changes: &[Vec<String>]) {
    let number = turn % appliances.len();
    let own = &changes[number];
    reload(&appliances[number], &own[turn / appliances.len() % own.len()]);
    if turn % 10 == 9 {
        // The gateway signs with the other key; everybody else knows both.
        let sign = turn / 10 % 2;
        let [first, second] = KEYS;
        let keys = match sign {
            0 => format!("{first}\n{second} sign\n"),
            _ => format!("{first} sign\n{second}\n"),
        };
        appliances[0].change_keys(&keys).or_fail();
    }
}

#[test]
fn reloads_under_load_lose_no_connection() {
    reloads_under_load("reload", Configuration::A, 40);
}

#[test]
fn reloads_under_load_lose_no_connection_of_configurations_b_and_c() {
    reloads_under_load("reload-b", Configuration::B, 12);
    reloads_under_load("reload-c", Configuration::C, 12);
}

/// Reloads so many times, or as often as the environment says.
fn reloads_under_load(name: &str, configuration: Configuration, reloads: usize) {
    let _alone = alone();
    let wanted = std::env::var("FIRSTACK_RELOADS").ok().and_then(|text| text.parse().ok());
    let reloads = wanted.unwrap_or(reloads);
    let [first, second] = KEYS;
    let keys = Some(format!("{first} sign\n{second}\n"));
    let options = ProcessOptions { configuration, keys, ..ProcessOptions::patent() };
    let network = Network::new(name, &[("4KB", 4_000)], &options);
    network.comes_to(V4, "replica1");
    let without = load(&network, reloads * EACH, |_| ());
    // Connections that stay open throughout: some at a replica, one at whoever comes first.
    let mut open: Vec<_> =
        (0..3).map(|_| network.connect_to(V4, |site| site == "replica1")).collect();
    open.push(network.connect_to(V4, |_| true));
    let processes = network.processes().or_fail();
    let appliances = processes.all();
    let text = |appliance: &Appliance| appliance.text().or_fail();
    let mut changes =
        vec![gateway_changes(&text(&appliances[0])), switch_changes(&text(&appliances[1]))];
    changes.extend(appliances[2..].iter().map(|replica| replica_changes(&text(replica))));
    let mut slowest = std::time::Duration::ZERO;
    let during = load(&network, reloads * EACH, |begun| {
        for turn in 0..reloads {
            let due = turn * EACH;
            assert!(comes_true(MAX_WAIT, || begun.load(Relaxed) >= due), "the load stands still");
            let start = std::time::Instant::now();
            one_reload(turn, appliances, &changes);
            slowest = slowest.max(start.elapsed());
            if turn % 10 == 9 || turn + 1 == reloads {
                for (stream, site) in &mut open {
                    assert_eq!(&request(stream, false).or_fail(), site, "after {turn} reloads");
                }
            }
        }
    });
    drop(open);
    println!(
        "{configuration}: {reloads} reloads, the slowest in {slowest:?}; {} connections",
        reloads * EACH
    );
    for (name, burst) in [("without", &without), ("with", &during)] {
        let [connect, all] = [burst.connect_quantile(0.99), burst.quantile(0.99)];
        let [half, half_all] = [burst.connect_quantile(0.5), burst.quantile(0.5)];
        println!(
            "{name}: connected p50 {half:?}, p99 {connect:?}; transferred p50 {half_all:?}, p99 \
             {all:?}; {:?}; {:?}",
            burst.total, burst.answered
        );
    }
    let finished = network.finish();
    for ended in &finished.ended {
        assert!(ended.log.contains("configuration reloaded"), "{}: {}", ended.name, ended.log);
    }
}

#[test]
fn a_connection_outlives_its_service_at_every_role() {
    let _alone = alone();
    let network = Network::new("retired", &[], &ProcessOptions::patent());
    let processes = network.processes().or_fail();
    let (mut stream, _) = network.connect_to(V4, |site| site == "replica1");
    let mut goes_on = |what: &str| {
        assert_eq!(request(&mut stream, false).or_fail(), "replica1", "{what}");
    };
    let moved = |text: &str| {
        let own = format!("address = \"{}\"", Site::Origin.address());
        with(&with(text, &own, "address = \"192.0.2.99\""), "name = \"web\"", "name = \"another\"")
    };
    // Its replica leaves the switch's file, then its service that of each role.
    let switch = processes.switch().text().or_fail();
    let replica = format!(
        "\n[[switch.service.replica]]\nname = \"replica1\"\naddress = \"{}\"\n",
        Site::Replica(1).address()
    );
    reload(processes.switch(), &with(&switch, &replica, ""));
    goes_on("without its replica");
    network.comes_to(V4, "replica2");
    network.answers_without(V4, 5, &["replica1"]);
    reload(processes.switch(), &moved(&switch));
    goes_on("without its service at the switch");
    network.answers_without(V4, 5, &["replica1", "replica2"]);
    let own = processes.replica(1);
    let text = own.text().or_fail();
    reload(own, &moved(&text));
    goes_on("without its service at the replica");
    reload(own, &text);
    reload(processes.switch(), &switch);
    network.comes_to(V4, "replica1");
    // Without the service at the gateway nothing races.
    let raced = network.connections();
    let text = processes.gateway().text().or_fail();
    reload(processes.gateway(), &moved(&text));
    goes_on("without its service at the gateway");
    assert_eq!(network.answers(V4, 5), super::all("origin", 5));
    let not_raced = network.connections() - raced;
    reload(processes.gateway(), &text);
    network.comes_to(V4, "replica1");
    goes_on("with everything as it was");
    drop(stream);
    let raced = network.connections() - not_raced;
    network.finish_with(raced);
}

#[test]
fn a_file_that_cannot_be_had_changes_nothing() {
    let _alone = alone();
    let network = Network::new("refused", &[], &ProcessOptions::patent());
    let processes = network.processes().or_fail();
    let gateway = processes.gateway();
    let text = gateway.text().or_fail();
    for (wrong, code, expected) in [
        (
            format!("{text}\n[timeouts]\nracing = \"soon\"\n"),
            2,
            "timeouts.racing: \"soon\" is not a duration",
        ),
        (
            format!("{text}\n[table]\nmax_connections = 5000\n"),
            1,
            "changed table.max_connections: 65536",
        ),
        (with(&text, "mbufs = 8192", "mbufs = 9000"), 1, "changed memory.mbufs: 8192 -> 9000"),
    ] {
        let error = gateway.reload_with(&wrong).expect_err("a file was taken").to_string();
        assert!(
            error.contains(expected) && error.contains(&format!("exit status: {code}")),
            "{error}"
        );
    }
    network.comes_to(V4, "replica1");
    // SIGHUP does what the command does.
    let text = with(&text, "name = \"web\"\n", "name = \"shop\"\n");
    std::fs::write(gateway.config(), &text).unwrap();
    gateway.signal(nix::sys::signal::Signal::SIGHUP).or_fail();
    let renamed = || network.gateway().races.iter().all(|race| race.service == "shop");
    assert!(comes_true(MAX_WAIT, renamed), "{}", network.gateway());
    let nothing = gateway.command(&["reload"]).or_fail().stdout;
    assert!(nothing.starts_with("nothing to do"), "{nothing}");
    network.comes_to(V4, "replica1");
    network.finish();
}
