//! Health: web servers that are probed, and replicas that the switch hears or does not.

use std::time::Duration;

use firstack_tests::lab::Family::V4;
use firstack_tests::processes::{Checks, HealthTimes, ProcessOptions};

use super::network::Network;
use super::{MAX_WAIT, OrFail, alone, comes_true};

fn probed(name: &str, checks: Checks) -> Network {
    let health = HealthTimes { interval: Duration::from_millis(500), rise: 2, fall: 3 };
    let options = ProcessOptions { checks, health: Some(health), ..ProcessOptions::patent() };
    Network::new(name, &[], &options)
}

/// Copies that the switch has sent to replica 1 and 2.
fn copies(network: &Network) -> [u64; 2] {
    let switch = network.switch();
    ["replica1", "replica2"].map(|replica| {
        let found = switch.copies.iter().find(|copies| copies.name.ends_with(replica));
        found.map_or(0, |copies| copies.count)
    })
}

#[test]
fn a_replica_whose_web_server_is_down_is_dead_until_it_is_up_again() {
    let _alone = alone();
    let mut network = probed("down", Checks { own: true, ..Checks::default() });
    network.comes_to(V4, "replica1");
    network.kill_server(1).or_fail();
    // Another wins from the first moment on; once the probe has noticed, no copy is accepted. The
    // switch may have noticed too, since a dead replica ignores its probes, and send none.
    let dead = || {
        network.answers_without(V4, 1, &["replica1"]);
        network.replica(1).out_of_service == ["web/replica1: health check failed"]
    };
    assert!(comes_true(MAX_WAIT, dead), "{}", network.replica(1));
    let ignored = || network.replica(1).verdict("probe_ignored") > 0;
    assert!(comes_true(MAX_WAIT, ignored), "{}", network.replica(1));
    let accepted = network.replica(1).verdict("copy_accepted");
    network.answers_without(V4, 3, &["replica1"]);
    assert_eq!(network.replica(1).verdict("copy_accepted"), accepted);
    network.comes_to(V4, "replica2");
    network.start_server(1).or_fail();
    network.comes_to(V4, "replica1");
    network.finish();
}

#[test]
fn a_switch_sends_no_copies_to_a_replica_whose_web_server_it_finds_down() {
    let _alone = alone();
    let mut network = probed("probed", Checks { origin: true, replicas: true, own: false });
    network.comes_to(V4, "replica1");
    network.kill_server(1).or_fail();
    stops_copying(&network);
    network.start_server(1).or_fail();
    network.comes_to(V4, "replica1");
    network.finish();
}

#[test]
fn a_switch_sends_no_copies_to_an_appliance_that_is_silent() {
    let _alone = alone();
    let mut network = probed("silent", Checks::default());
    network.comes_to(V4, "replica1");
    network.kill_appliance(1).or_fail();
    stops_copying(&network);
    network.start_appliance(1).or_fail();
    network.comes_to(V4, "replica1");
    network.finish();
}

/// Connects until replica 1 gets no copies any more; from then on replica 2 alone gets some.
#[track_caller]
fn stops_copying(network: &Network) {
    let mut last = copies(network);
    let stopped = comes_true(MAX_WAIT, || {
        network.answers_without(V4, 1, &["replica1"]);
        let before = std::mem::replace(&mut last, copies(network));
        last[0] == before[0] && last[1] > before[1]
    });
    assert!(stopped, "{last:?} copies");
    network.answers_without(V4, 3, &["replica1"]);
    network.comes_to(V4, "replica2");
    let [near, far] = copies(network);
    assert!(near == last[0] && far > last[1], "{near} and {far} after {last:?}");
}
