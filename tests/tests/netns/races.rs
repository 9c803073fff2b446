//! Races, mishaps, an operator, bytes, ports, workers and ends: configuration A over IPv4.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use firstack::control::stats::Snapshot;
use firstack_tests::demo::client::{connect_from, request};
use firstack_tests::lab::Family::V4;
use firstack_tests::lab::{Curl, Site};
use firstack_tests::processes::ProcessOptions;
use nix::sys::socket::{setsockopt, sockopt};

use super::network::{Network, results};
use super::{MAX_WAIT, OrFail, all, alone, comes_true, ended_well, generated, tagged, topology};

#[test]
fn the_first_answer_wins_and_the_others_are_reset() {
    let _alone = alone();
    let network = Network::new("race", &[], &ProcessOptions::patent());
    network.answers(V4, 8);
    network.comes_to(V4, "replica1");
    network.rest();
    let connections = network.connections();
    let finished = network.finish();
    let [gateway, switch, replica1, replica2] = &finished.ended[..] else { panic!("four") };
    assert!(generated(&gateway.snapshot, "resets") > 0, "{}", gateway.snapshot);
    let copied = switch.snapshot.verdict("fanned_out");
    let copies = |name: &str| {
        let mut all = switch.snapshot.copies.iter();
        all.find(|copies| copies.name.ends_with(name)).map_or(0, |copies| copies.count)
    };
    let [near, far] = ["replica1", "replica2"].map(copies);
    assert_eq!(generated(&switch.snapshot, "copies"), near + far, "{}", switch.snapshot);
    assert!(near.max(far) <= copied && copied <= tagged(&gateway.snapshot));
    let (won, lost) = results(&gateway.snapshot, Site::Origin);
    assert!(won + lost >= connections, "the origin gets every SYN: {}", gateway.snapshot);
    for (replica, copies) in [(replica1, near), (replica2, far)] {
        let verdicts = ["copy_accepted", "copy_retransmit", "copy_new_isn", "copy_endpoint_in_use"];
        let received: u64 = verdicts.iter().map(|name| replica.snapshot.verdict(name)).sum();
        assert_eq!(received, copies, "{}: {}", replica.name, replica.snapshot);
    }
}

#[test]
fn dead_and_busy_replicas_leave_the_race_to_others() {
    let _alone = alone();
    const MOST: usize = 5;
    let max_connections = vec![None, Some(MOST as u32)];
    let options = ProcessOptions { max_connections, ..ProcessOptions::patent() };
    let mut network = Network::new("mishaps", &[], &options);
    network.comes_to(V4, "replica1");
    // Its kernel refuses, and a replica that refuses has not won.
    network.kill_server(1).or_fail();
    let refused = || {
        network.answers_without(V4, 1, &["replica1"]);
        network.gateway().verdict("reset_by_replica") >= 3
    };
    assert!(comes_true(MAX_WAIT, refused), "{}", network.gateway());
    // It is silent.
    network.kill_appliance(1).or_fail();
    network.answers_without(V4, 3, &["replica1"]);
    // The other one has all the connections that it may have.
    let held: Vec<_> =
        (0..MOST).map(|_| network.connect_to(V4, |site| site == "replica2")).collect();
    let busy = || {
        assert_eq!(network.answer(V4), "origin");
        network.replica(2).verdict("busy") >= 3
    };
    assert!(comes_true(MAX_WAIT, busy), "{}", network.replica(2));
    drop(held);
    network.comes_to(V4, "replica2");
    network.revive(1).or_fail();
    // Nobody has asked it for a while, and the switch may have given it up.
    network.comes_to(V4, "replica1");
    network.finish();
}

#[test]
fn an_operator_sees_the_counters_and_drains_replicas() {
    let _alone = alone();
    let network = Network::new("operator", &[], &ProcessOptions::patent());
    let processes = network.processes().or_fail();
    let near = processes.replica(1);
    let (mut open, site) = network.connect_to(V4, |site| site == "replica1");

    assert_eq!(near.command(&["gate", "drain"]).or_fail().stdout, "replica drained\n");
    // It drops copies, until the switch sends none because it ignores the switch's probes too.
    let acts_dead = || {
        network.answers_without(V4, 1, &["replica1"]);
        let replica = network.replica(1);
        replica.verdict("out_of_service") + replica.verdict("probe_ignored") > 0
    };
    assert!(comes_true(MAX_WAIT, acts_dead), "{}", network.replica(1));
    assert_eq!(request(&mut open, false).or_fail(), site, "an open connection goes on");
    assert_eq!(
        processes.replica(2).command(&["gate", "busy"]).or_fail().stdout,
        "busy override set\n"
    );
    assert_eq!(network.answers(V4, 2), all("origin", 2));
    network.rest();
    let text = near.command(&["stats"]).or_fail().stdout;
    assert!(text.starts_with("firstack replica\n") && text.contains("drained"), "{text}");
    let accepted =
        text.lines().find(|line| line.contains("copy_accepted (op 410")).unwrap_or_default();
    let count = accepted.split_whitespace().last().and_then(|count| count.parse().ok());
    assert_eq!(count, Some(network.replica(1).verdict("copy_accepted")), "{text}");
    near.command(&["gate", "undrain"]).or_fail();
    processes.replica(2).command(&["gate", "unbusy"]).or_fail();
    network.comes_to(V4, "replica1");
    drop(open);

    network.rest();
    let text = processes.gateway().command(&["stats"]).or_fail().stdout;
    assert!(text.contains("responder") && text.contains("203.0.113.10 origin"), "{text}");
    let json = processes.gateway().command(&["stats", "--json"]).or_fail().stdout;
    let snapshot: Snapshot = serde_json::from_str(&json).unwrap();
    assert!(tagged(&snapshot) >= network.connections(), "{snapshot}");
    assert!(results(&snapshot, Site::Origin).0 >= 2, "{snapshot}");
    let error = processes.gateway().command(&["gate", "busy"]).expect_err("a gateway was busy");
    assert!(error.to_string().contains("a gateway cannot be busy"), "{error}");
    network.finish();
}

#[test]
fn every_byte_of_a_large_file_and_of_many_small_ones_arrives() {
    let _alone = alone();
    let files = [("20MB", 20_000_000), ("4KB", 4_000)];
    let network = Network::new("bytes", &files, &ProcessOptions::patent());
    let fetched = network.fetch(&Curl::new(&network.origin().url("20MB")).digest());
    let (wanted, _) = network.file("20MB").or_fail();
    assert_eq!(fetched.bytes, wanted.bytes);
    assert_eq!(fetched.sha256.as_deref(), Some(wanted.sha256.as_str()));
    let small = network.burst(V4, "4KB", 200, 20);
    println!("20 MB in {:?}, 200 connections in {:?}", fetched.total, small.total);
    network.finish();
}

/// Connects from a port that another connection may have had until just now.
#[track_caller]
fn connect_again(network: &Network, port: u16, to: SocketAddr) -> TcpStream {
    let mut stream = None;
    let connected = comes_true(MAX_WAIT, || {
        stream = connect_from(network.client(), port, to).ok();
        stream.is_some()
    });
    assert!(connected, "port {port} stays taken");
    network.made(1);
    stream.unwrap()
}

#[test]
fn a_client_port_serves_two_servers_and_is_used_again() {
    let _alone = alone();
    let options = ProcessOptions { any_service: true, ..ProcessOptions::patent() };
    let network = Network::new("ports", &[], &options);
    let service = network.service(V4);
    let other = network.topology().replicas()[1].web(V4);

    // Replica 2 shall lose that race: until it is reset it holds the very same endpoints.
    let (mut first, site) = network.connect_to(V4, |site| site != "replica2");
    let port = first.local_addr().unwrap().port();
    network.rest();
    // The table has one entry for this client endpoint, and that is the first connection's.
    let mut second = network.connect(port, other);
    assert_eq!(request(&mut second, false).or_fail(), "replica2");
    assert!(network.gateway().verdict("untagged_endpoint_in_use") > 0, "{}", network.gateway());
    assert_eq!(request(&mut first, false).or_fail(), site);
    assert_eq!(request(&mut second, true).or_fail(), "replica2");
    assert_eq!(request(&mut first, true).or_fail(), site);

    // The server closes first, so the client's port is free once its own FIN is acknowledged.
    for _ in 0..3 {
        request(&mut connect_again(&network, 40_001, service), true).or_fail();
        // The losers are reset: what they repeat would belong to no connection any more.
        network.rest();
    }
    // The client ends by a reset.
    for _ in 0..3 {
        let mut stream = connect_again(&network, 40_002, service);
        request(&mut stream, false).or_fail();
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&stream.as_fd(), sockopt::Linger, &linger).unwrap();
        drop(stream);
        network.rest();
    }
    let curl = Curl::new(&network.origin().url("/")).local_port(40_100);
    assert_eq!(network.fetch(&curl).local_port, 40_100);
    let raced = network.connections() - 1;
    let finished = network.finish();
    let won: u64 = finished.gateway().races.iter().map(|answers| answers.won).sum();
    assert_eq!(won, raced, "{}", finished.gateway());
}

#[test]
fn a_gateway_of_two_workers_steers_in_software() {
    let _alone = alone();
    let options = ProcessOptions { gateway_workers: 2, ..ProcessOptions::patent() };
    let builder = topology().client_addresses(12);
    let network = Network::build("workers", builder, &[("100KB", 100_000)], &options);
    let (wanted, _) = network.file("100KB").or_fail();
    for last in 10..22 {
        let address = format!("198.18.1.{last}");
        let curl = Curl::new(&network.origin().url("100KB")).from(&address).digest();
        let fetched = network.fetch(&curl);
        assert_eq!(fetched.sha256.as_deref(), Some(wanted.sha256.as_str()), "from {address}");
    }
    network.burst(V4, "100KB", 60, 10);
    let finished = network.finish();
    let gateway = finished.gateway();
    let [first, second] = &gateway.workers[..] else { panic!("two workers: {gateway}") };
    // Which of them has how many of these few clients depends on the word of the RSS key, which is
    // drawn at start.
    let handed_off = first.handed_off + second.handed_off;
    assert_eq!(handed_off, first.taken_from_workers + second.taken_from_workers);
}

#[test]
fn processes_told_to_end_under_load_give_everything_back() {
    let _alone = alone();
    let files = [("20MB", 20_000_000)];
    let options = ProcessOptions { gateway_workers: 2, ..ProcessOptions::patent() };
    let mut network = Network::new("end", &files, &options);
    let url = network.origin().url("20MB");
    let client = network.client().host.clone();
    // It takes 20 s, and gives up when nothing has come for 3 s.
    let download = std::thread::spawn(move || {
        let options = ["--limit-rate", "1M", "--speed-limit", "1", "--speed-time", "3"];
        let curl = Curl::new(&url).discard();
        options.into_iter().fold(curl, |curl, option| curl.option(option)).run(&client)
    });
    let flows = || network.gateway().sides[1].received > 200;
    assert!(comes_true(MAX_WAIT, flows), "{}", network.gateway());
    let ended = network.take_processes().or_fail().stop().or_fail();
    ended.iter().for_each(ended_well);
    let error = download.join().unwrap().expect_err("the download went on without a gateway");
    assert!(error.to_string().contains("curl: (28)"), "{error}");
}
