//! However many workers there are, what leaves of each connection is the same.

use firstack_tests::scenario::check::Outcome;
use firstack_tests::scenario::{Scenario, Side};
use serde_json::Value;

use crate::connections::{by_connection, for_each_client};
use crate::harness::{BURST, Harness, Inputs, ended_well, is_conserved, scenario, timeless};

/// CPUs that this process may use.
pub fn cpus() -> Vec<usize> {
    let own = nix::unistd::Pid::from_raw(0);
    let set = nix::sched::sched_getaffinity(own).unwrap();
    (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap()).collect()
}

/// Workers on the CPUs that there are, several on one if need be.
pub fn cores(workers: usize) -> Vec<usize> {
    cpus().into_iter().cycle().take(workers).collect()
}

/// Runs with one to four workers and compares each connection.
pub fn however_many_workers(scenario: &Scenario, inputs: &Inputs) {
    let replayed = Harness::new(scenario, inputs).replay();
    for workers in 1..=4 {
        same_by_connection(&Harness::new(scenario, inputs), &replayed, workers, 1, inputs);
    }
}

/// The same with several queues on each port, in which packets come by both of their addresses, as
/// from a port that cannot hash one alone. Only for packets that come by one side: nobody knows
/// which of two queues is looked at first.
fn however_many_queues(scenario: &Scenario, inputs: &Inputs) {
    assert!(inputs.iter().any(Vec::is_empty));
    let replayed = Harness::new(scenario, inputs).replay();
    for (workers, queues) in [(2, 2), (3, 3), (4, 4), (4, 2)] {
        same_by_connection(&Harness::new(scenario, inputs), &replayed, workers, queues, inputs);
    }
}

fn same_by_connection(
    harness: &Harness,
    replayed: &Outcome,
    workers: usize,
    queues: usize,
    inputs: &Inputs,
) {
    let what = format!("{workers} workers, {queues} queues");
    let counters = ended_well(&harness.run(&cores(workers), queues));
    let left = replayed.left().map(|records| records.map(|r| r.bytes).collect::<Vec<_>>());
    is_conserved(&counters, inputs.each_ref().map(Vec::len), left.each_ref().map(Vec::len));
    for side in Side::ALL {
        let (found, expected) = (harness.sent(side), left[side as usize].clone());
        assert!(
            by_connection(found) == by_connection(expected),
            "{what}: what leaves by the {} is not what a replay sends",
            side.name()
        );
    }
    assert_eq!(timeless(&counters)["sides"], timeless(&replayed.counters)["sides"], "{what}");
    assert_eq!(timeless(&counters)["races"], timeless(&replayed.counters)["races"], "{what}");
    share_the_work(&counters, workers, &what);
}

/// Nothing is lost between workers. How many of them have something to do depends on the word of the
/// RSS key, which is drawn at start: it distributes adjacent addresses evenly, but not these few.
#[track_caller]
pub fn share_the_work(counters: &Value, workers: usize, what: &str) {
    let worker = |at: usize, name: &str| counters["workers"][at][name].as_u64().unwrap();
    let sum = |name: &str| (0..workers).map(|at| worker(at, name)).sum::<u64>();
    assert_eq!(sum("handed_off"), sum("taken_from_workers"), "{what}");
    assert!(workers > 1 || sum("handed_off") == 0, "{what}: handed to nobody");
    let busy = |at: &usize| {
        let sides = counters["workers"][*at]["sides"].as_array().unwrap();
        sides.iter().any(|side| side["received"].as_u64() > Some(0))
    };
    assert!((0..workers).any(|at| busy(&at)), "{what}: nobody has anything to do");
    let steered = if workers > 1 { "software" } else { "none" };
    let ports = counters["ports"].as_array().unwrap();
    let by = |name: &str| ports.iter().all(|port| port[name] == steered);
    assert!(by("steered_by") && by("steered_by_v6"), "{what}: {ports:?}");
}

#[test]
fn gateways_workers_share_connections_without_mixing_them() {
    let scenario = scenario("gateway/tag/added");
    let inside = for_each_client(&scenario, Side::Inside, &["CLIENT > V SYN seq=1000 opts=linux"]);
    let outside = for_each_client(
        &scenario,
        Side::Outside,
        &["R > CLIENT SYN ACK seq=5000 ack=1001 opts=linux"],
    );
    however_many_workers(&scenario, &[inside, outside]);
}

/// One side alone: any number of packets, in any number of bursts.
#[test]
fn one_side_alone_comes_out_in_order() {
    let scenario = scenario("gateway/tag/added");
    let inside = for_each_client(
        &scenario,
        Side::Inside,
        &[
            "CLIENT > V SYN seq=1000 opts=linux",
            "CLIENT > V SYN seq=1000 opts=linux",
            "CLIENT > V SYN seq=2000 opts=linux",
            "CLIENT > V ACK seq=2001 ack=7 data=1000",
            "CLIENT > V2 SYN seq=3000 opts=linux",
            "CLIENT > V udp data=40",
            "CLIENT > V RST seq=2001 win=0",
            "CLIENT > N ACK seq=1 ack=2 data=4000",
            "CLIENT > V SYN seq=2000 opts=linux",
            "arp request host/CLIENT > nobody/P",
        ],
    );
    assert!(inside.len() > 9 * BURST);
    however_many_workers(&scenario, &[inside, Vec::new()]);
    // Between the same two addresses, for others may come in another queue.
    let inside = for_each_client(
        &scenario,
        Side::Inside,
        &[
            "CLIENT > V SYN seq=1000 opts=linux",
            "CLIENT > V SYN seq=1000 opts=linux",
            "CLIENT > V SYN seq=2000 opts=linux",
            "CLIENT > V ACK seq=2001 ack=7 data=1000",
            "CLIENT > V udp data=40",
            "CLIENT > V RST seq=2001 win=0",
            "CLIENT > V SYN seq=2000 opts=linux",
        ],
    );
    however_many_queues(&scenario, &[inside, Vec::new()]);
}

#[test]
fn switches_and_replicas_workers_share_connections_without_mixing_them() {
    let switch = scenario("switch/fan_out/copies");
    let line = "CLIENT > V SYN seq=1000 opts=linux,tag";
    let outside = for_each_client(&switch, Side::Outside, &[line]);
    let inside = for_each_client(&switch, Side::Inside, &["V > CLIENT SYN ACK seq=5000 ack=1001"]);
    however_many_queues(&switch, &[Vec::new(), outside.clone()]);
    however_many_workers(&switch, &[inside, outside]);
    let replica = scenario("replica/forward/under-a");
    let lines = [
        "V > R [ CLIENT > V SYN seq=1000 opts=linux,tag ]",
        "CLIENT > R ACK seq=1001 ack=5001 data=20",
        "V > R [ CLIENT > V SYN seq=1000 opts=linux,tag ]",
    ];
    let outside = for_each_client(&replica, Side::Outside, &lines);
    however_many_workers(&replica, &[Vec::new(), outside]);
    let lines = [
        "V > R [ CLIENT > V SYN seq=1000 opts=linux,tag ]",
        "V > R [ CLIENT > V SYN seq=1000 opts=linux,tag ]",
        "V > R [ CLIENT > V SYN seq=2000 opts=linux,tag ]",
    ];
    let outside = for_each_client(&replica, Side::Outside, &lines);
    however_many_queues(&replica, &[Vec::new(), outside]);
}
