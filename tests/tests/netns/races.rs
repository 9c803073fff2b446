//! Races, mishaps, an operator, bytes, ports, workers and ends: configuration A over IPv4.

use std::os::fd::AsFd;
use std::time::Duration;

use firstack::control::stats::Snapshot;
use firstack_tests::demo::client::{Held, ask, burst, connect_from};
use firstack_tests::demo::world::World;
use firstack_tests::lab::{Curl, Family, Site};
use firstack_tests::processes::ProcessOptions;
use nix::sys::socket::{setsockopt, sockopt};

use super::{
    AFTER, OrFail, all, alone, comes_true, ended_well, finish, kernel_tcp, made, races, topology,
    winners, world,
};

/// Time that a replica that was dead may take to be given connections again.
const BACK: Duration = Duration::from_secs(20);

#[test]
fn the_nearest_wins_and_the_kernels_of_the_losers_are_reset() {
    let _alone = alone();
    let world = world("race", &[], &ProcessOptions::default());
    assert_eq!(winners(&world, 8), all("replica1", 8));
    std::thread::sleep(AFTER);
    // Connections that a kernel gave up in the state SYN-RECEIVED.
    let given_up = world.topology().servers().iter().map(|at| kernel_tcp(at, "AttemptFails"));
    assert_eq!(given_up.collect::<Vec<_>>(), [8, 0, 8], "origin, replica 1, replica 2");
    let ended = finish(world);
    let [gateway, switch, replica1, replica2] = &ended[..] else { panic!("four processes") };
    assert_eq!(races(&gateway.snapshot, Site::Replica(1)), (8, 0));
    assert_eq!(races(&gateway.snapshot, Site::Replica(2)), (0, 8));
    assert_eq!(races(&gateway.snapshot, Site::Origin), (0, 8));
    assert_eq!(made(&gateway.snapshot, "resets"), 16);
    assert_eq!(switch.snapshot.verdict("fanned_out"), 8);
    assert_eq!(made(&switch.snapshot, "copies"), 16);
    for replica in [replica1, replica2] {
        assert_eq!(replica.snapshot.verdict("cracked"), 8, "{}", replica.name);
    }
}

#[test]
fn dead_and_busy_replicas_leave_the_race_to_others() {
    let _alone = alone();
    let max_connections = vec![None, Some(5)];
    let options = ProcessOptions { max_connections, ..ProcessOptions::default() };
    let mut world = world("mishaps", &[], &options);
    assert_eq!(winners(&world, 2), all("replica1", 2));
    // Its kernel refuses, and a replica that refuses has not won.
    world.kill_server(1).or_fail();
    assert_eq!(winners(&world, 3), all("replica2", 3));
    let gateway = world.fleet().or_fail().gateway().stats().or_fail();
    assert_eq!(gateway.verdict("reset_by_replica"), 3);
    // It is silent.
    world.kill_appliance(1).or_fail();
    assert_eq!(winners(&world, 3), all("replica2", 3));
    // The other one has all the connections that it may have.
    let held = Held::open(world.client(), world.service(Family::V4), 5).or_fail();
    assert_eq!((held.count(), &held.sites), (5, &all("replica2", 5)));
    assert_eq!(winners(&world, 3), all("origin", 3));
    assert_eq!(world.fleet().or_fail().replica(2).stats().or_fail().verdict("busy"), 3);
    drop(held);
    std::thread::sleep(AFTER);
    assert_eq!(winners(&world, 2), all("replica2", 2));
    world.revive(1).or_fail();
    // Nobody has asked it for a while, and the switch may have given it up.
    assert!(comes_true(BACK, || winners(&world, 1) == all("replica1", 1)));
    assert_eq!(winners(&world, 2), all("replica1", 2));
    finish(world);
}

#[test]
fn an_operator_sees_the_counters_and_drains_replicas() {
    let _alone = alone();
    let world = world("operator", &[], &ProcessOptions::default());
    let fleet = world.fleet().or_fail();
    let near = fleet.replica(1);
    let address = world.service(Family::V4);
    let mut open = connect_from(world.client(), 0, address).or_fail();
    assert_eq!(ask(&mut open, false).or_fail(), "replica1");

    assert_eq!(near.command(&["gate", "drain"]).or_fail().stdout, "replica drained\n");
    assert_eq!(winners(&world, 2), all("replica2", 2));
    assert_eq!(ask(&mut open, false).or_fail(), "replica1", "an open connection goes on");
    assert_eq!(fleet.replica(2).command(&["gate", "busy"]).or_fail().stdout, "busy override set\n");
    assert_eq!(winners(&world, 2), all("origin", 2));
    let text = near.command(&["stats"]).or_fail().stdout;
    assert!(text.starts_with("firstack replica\n") && text.contains("drained"), "{text}");
    let dead = text.lines().find(|line| line.contains("dead (op 404)")).unwrap_or_default();
    assert_eq!(dead.split_whitespace().last(), Some("4"), "{text}");
    near.command(&["gate", "undrain"]).or_fail();
    fleet.replica(2).command(&["gate", "unbusy"]).or_fail();
    assert_eq!(winners(&world, 2), all("replica1", 2));
    drop(open);

    std::thread::sleep(AFTER);
    let text = fleet.gateway().command(&["stats"]).or_fail().stdout;
    assert!(text.contains("races of") && text.contains("203.0.113.10 origin"), "{text}");
    let json = fleet.gateway().command(&["stats", "--json"]).or_fail().stdout;
    let snapshot: Snapshot = serde_json::from_str(&json).unwrap();
    assert_eq!(snapshot.verdict("tagged"), 7);
    assert_eq!(races(&snapshot, Site::Origin).0, 2);
    let error = fleet.gateway().command(&["gate", "drain"]).expect_err("a gateway was drained");
    assert!(error.to_string().contains("a gateway cannot be drained"), "{error}");
    finish(world);
}

#[test]
fn every_byte_of_a_large_file_and_of_many_small_ones_arrives() {
    let _alone = alone();
    let files = [("20MB", 20_000_000), ("4KB", 4_000)];
    let world = world("bytes", &files, &ProcessOptions::default());
    let curl = Curl::new(&world.origin().url("20MB")).digest();
    let fetched = curl.run(&world.client().host).or_fail();
    let (wanted, _) = world.file("20MB").or_fail();
    assert_eq!((fetched.status, fetched.bytes), (200, wanted.bytes));
    assert_eq!(fetched.sha256.as_deref(), Some(wanted.sha256.as_str()));
    assert_eq!(fetched.site, "replica1");

    let (_, bytes) = world.file("4KB").or_fail();
    let small =
        burst(world.client(), world.service(Family::V4), ("4KB", &bytes), 200, 20).or_fail();
    assert_eq!((small.successes(), &small.failed[..]), (200, &[][..]));
    println!("20 MB in {:?}, 200 connections in {:?}", fetched.total, small.total);
    let ended = finish(world);
    let won: u64 = ended[0].snapshot.races.iter().map(|answers| answers.won).sum();
    assert_eq!(won, 201);
}

#[test]
fn a_client_port_serves_two_servers_and_is_used_again() {
    let _alone = alone();
    let options = ProcessOptions { any_service: true, ..ProcessOptions::default() };
    let world = world("ports", &[], &options);
    let service = world.service(Family::V4);
    let other = world.topology().replicas()[1].web(Family::V4);
    let connect = |port, to| connect_from(world.client(), port, to).or_fail();
    let verdict = |name| world.fleet().or_fail().gateway().stats().or_fail().verdict(name);

    let mut first = connect(40_000, service);
    assert_eq!(ask(&mut first, false).or_fail(), "replica1");
    // Replica 2 has lost that race, and until it is reset holds the very same endpoints.
    std::thread::sleep(AFTER);
    // The table has one entry for this client endpoint, and that is the first connection's.
    let mut second = connect(40_000, other);
    assert_eq!(ask(&mut second, false).or_fail(), "replica2");
    assert_eq!(verdict("untagged_endpoint_busy"), 1);
    assert_eq!(ask(&mut first, false).or_fail(), "replica1");
    assert_eq!(ask(&mut second, true).or_fail(), "replica2");
    assert_eq!(ask(&mut first, true).or_fail(), "replica1");

    // The server closes first, so the client's port is free once its own FIN is acknowledged.
    for _ in 0..3 {
        assert_eq!(ask(&mut connect(40_001, service), true).or_fail(), "replica1");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The client ends by a reset.
    for _ in 0..3 {
        let mut stream = connect(40_002, service);
        assert_eq!(ask(&mut stream, false).or_fail(), "replica1");
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&stream.as_fd(), sockopt::Linger, &linger).unwrap();
        drop(stream);
    }
    let curl = Curl::new(&world.origin().url("/")).local_port(40_100);
    let fetched = curl.run(&world.client().host).or_fail();
    assert_eq!((fetched.site.as_str(), fetched.local_port), ("replica1", 40_100));
    std::thread::sleep(AFTER);
    let gateway = &finish(world)[0].snapshot;
    let won: u64 = gateway.races.iter().map(|answers| answers.won).sum();
    assert_eq!(won, 8, "{gateway}");
}

#[test]
fn a_gateway_of_two_workers_steers_in_software() {
    let _alone = alone();
    let options = ProcessOptions { gateway_workers: 2, ..ProcessOptions::default() };
    let builder = topology().client_addresses(12);
    let world = World::build("workers", builder, &[("100KB", 100_000)], Some(&options)).or_fail();
    let (wanted, bytes) = world.file("100KB").or_fail();
    for last in 10..22 {
        let address = format!("198.18.1.{last}");
        let curl = Curl::new(&world.origin().url("100KB")).from(&address).digest();
        let fetched = curl.run(&world.client().host).or_fail();
        assert_eq!((fetched.status, fetched.site.as_str()), (200, "replica1"), "from {address}");
        assert_eq!(fetched.sha256.as_deref(), Some(wanted.sha256.as_str()), "from {address}");
    }
    let many =
        burst(world.client(), world.service(Family::V4), ("100KB", &bytes), 60, 10).or_fail();
    assert_eq!((many.successes(), &many.failed[..]), (60, &[][..]));
    let gateway = &finish(world)[0].snapshot;
    let [first, second] = &gateway.workers[..] else { panic!("two workers: {gateway}") };
    for worker in [first, second] {
        let received: u64 = worker.sides.iter().map(|side| side.received).sum();
        assert!(received > 0, "a worker had nothing to do: {gateway}");
    }
    let handed_off = first.handed_off + second.handed_off;
    assert!(handed_off > 0, "nothing was handed over: {gateway}");
    assert_eq!(handed_off, first.taken_over + second.taken_over);
    assert_eq!(gateway.verdict("handoff_full"), 0);
    let won: u64 = gateway.races.iter().map(|answers| answers.won).sum();
    assert_eq!(won, 72);
}

#[test]
fn processes_told_to_end_under_load_give_everything_back() {
    let _alone = alone();
    let files = [("20MB", 20_000_000)];
    let options = ProcessOptions { gateway_workers: 2, ..ProcessOptions::default() };
    let mut world = world("end", &files, &options);
    let fleet = world.take_fleet().or_fail();
    let url = world.origin().url("20MB");
    let client = world.client().host.clone();
    let download = std::thread::spawn(move || {
        let curl = Curl::new(&url).discard().limit(Duration::from_secs(3));
        curl.option("--limit-rate").option("4M").run(&client)
    });
    std::thread::sleep(Duration::from_millis(800));
    let ended = fleet.stop().or_fail();
    ended.iter().for_each(ended_well);
    assert!(ended[0].snapshot.verdict("from_replica") > 100, "{}", ended[0].snapshot);
    let error = download.join().unwrap().expect_err("the download went on without a gateway");
    assert!(error.to_string().contains("timed out"), "{error}");
}
