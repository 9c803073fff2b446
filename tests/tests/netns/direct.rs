//! Direct copies where the switch stands beside the origin, so that no replica wins without them.

use firstack::control::stats::Snapshot;
use firstack_tests::demo::load::kill_nearest;
use firstack_tests::lab::Family::V4;
use firstack_tests::lab::{Curl, Site};
use firstack_tests::processes::{Further, ProcessOptions};

use super::network::{Network, results};
use super::{MAX_WAIT, OrFail, alone, beside_origin, comes_true, generated};

/// Connections for which a gateway may ask the switch for more copies than its policy says: all of
/// its first ones.
const FIRST: usize = 30;

fn with(service: &str) -> ProcessOptions {
    let further = Further { service: service.into(), ..Further::default() };
    ProcessOptions { further, ..ProcessOptions::default() }
}

fn network(name: &str, options: &ProcessOptions) -> Network {
    Network::build(name, beside_origin(), &[("1MB", 1_000_000), ("4KB", 4_000)], options)
}

fn direct_copies(gateway: &Snapshot) -> u64 {
    generated(gateway, "direct_copies")
}

/// Copies that the switch has made.
fn copies(network: &Network) -> u64 {
    generated(&network.switch(), "copies")
}

#[test]
fn a_gateway_without_direct_copies_sends_none() {
    let _alone = alone();
    let network = network("none", &ProcessOptions::patent());
    network.answers(V4, 10);
    let finished = network.finish();
    assert_eq!(direct_copies(finished.gateway()), 0, "{}", finished.gateway());
    let copies = generated(finished.switch(), "copies");
    assert_eq!(copies, 2 * finished.switch().verdict("fanned_out"), "{}", finished.switch());
}

#[test]
fn the_nearest_replica_wins_and_the_switch_makes_fewer_copies() {
    let _alone = alone();
    let network = network("direct", &ProcessOptions::default());
    network.comes_to(V4, "replica1");
    network.answers(V4, FIRST);
    network.rest();
    let before = [copies(&network), direct_copies(&network.gateway()), network.connections()];
    network.burst(V4, "4KB", 200, 10);
    network.rest();
    let after = [copies(&network), direct_copies(&network.gateway()), network.connections()];
    let [by_switch, direct, connections] = [0, 1, 2].map(|at| after[at] - before[at]);
    // Two direct copies in each race, and one explorer but for explorations; with room for
    // repetitions on a machine that is late.
    assert!(direct > connections, "{direct} direct copies of {connections} SYNs");
    assert!(by_switch < 2 * connections, "{by_switch} copies of {connections} SYNs");
    let finished = network.finish();
    assert!(results(finished.gateway(), Site::Replica(1)).0 > 0, "{}", finished.gateway());
}

#[test]
fn workers_share_what_they_learn() {
    let _alone = alone();
    let options = ProcessOptions { gateway_workers: 2, ..ProcessOptions::default() };
    let builder = beside_origin().client_addresses(12);
    let network = Network::build("shared", builder, &[], &options);
    network.comes_to(V4, "replica1");
    for last in 10..22 {
        let address = format!("198.18.1.{last}");
        let curl = Curl::new(&network.origin().url("/")).from(&address);
        let near = || network.fetch(&curl).site == "replica1";
        assert!(comes_true(MAX_WAIT, near), "never from {address}: {}", network.gateway());
    }
    network.finish();
}

#[test]
fn no_new_connection_fails_when_the_nearest_is_killed() {
    let _alone = alone();
    let mut network = network("killed", &ProcessOptions::default());
    network.comes_to(V4, "replica1");
    let run = kill_nearest(&mut network, &[V4], 10).or_fail();
    network.made(run.connections);
    for (_, good, failed) in &run.after {
        assert_eq!(failed, &Vec::<String>::new());
        assert!(good.iter().all(|fetched| fetched.site != "replica1"), "{good:?}");
    }
    network.comes_to(V4, "replica2");
    network.revive(1).or_fail();
    network.comes_to(V4, "replica1");
    network.finish();
}

#[test]
fn a_shadow_measures_and_lets_the_origin_win() {
    let _alone = alone();
    let network = network("shadow", &with("shadow = true\n"));
    let answers = network.answers(V4, 30);
    assert_eq!(answers, super::all("origin", 30));
    network.rest();
    let gateway = network.gateway();
    assert!(direct_copies(&gateway) > 0, "{gateway}");
    assert_eq!(results(&gateway, Site::Replica(1)).0, 0, "{gateway}");
}

#[test]
fn a_warm_replica_is_asked_in_the_first_race() {
    let _alone = alone();
    let replica = Site::Replica(1).address();
    for (name, service, asked) in
        [("cold", String::new(), 0), ("warm", format!("warm = [\"{replica}\"]\n"), 1)]
    {
        let network = network(name, &with(&service));
        network.answer(V4);
        let gateway = network.gateway();
        // A repetition of the SYN asks it again.
        assert_eq!(direct_copies(&gateway).min(1), asked, "{name}: {gateway}");
        network.comes_to(V4, "replica1");
        network.finish();
    }
}
