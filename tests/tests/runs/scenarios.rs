//! Every scenario that can be one: a run sends what its replay sends.

use std::collections::BTreeSet;

use firstack_tests::scenario::{Scenario, Side};

use crate::harness::{BURST, Inputs, directory, same_as_replayed};

/// The longest frame that one buffer segment of a run holds.
const ONE_SEGMENT: usize = 2048;

/// What comes in in a scenario; `None` when a run could not give what a replay gives: the
/// appliance asks and answers by ARP when it likes, and with MAC addresses of its ports, and probes
/// tunnels when it likes, under an identifier that is random; a gateway that asks directly learns when
/// it likes; a signature is of its time.
fn inputs_of(scenario: &Scenario) -> Option<Inputs> {
    let by_arp = scenario.counters.iter().any(|line| line.contains("neighbour_"));
    let config: toml::Table = scenario.config.parse().unwrap();
    let asks = |switch: &toml::Value| switch.get("tunnel_probes") != Some(&false.into());
    let probes = config.get("switch").is_some_and(asks);
    // In a run the memory learns from the captures' packets when the control thread gets to it.
    let services = config.get("gateway").and_then(|gateway| gateway.get("service"));
    let mut services = services.and_then(toml::Value::as_array).into_iter().flatten();
    let learns = services.any(|service| service.get("direct") != Some(&0.into()));
    let inputs = Side::ALL.map(|side| {
        scenario.input(side).into_iter().map(|record| record.bytes).collect::<Vec<_>>()
    });
    // What decides something has to be in one buffer segment, as it is in a replay.
    let fits = |frames: &Vec<Vec<u8>>| {
        frames.len() <= BURST && frames.iter().all(|frame| frame.len() <= ONE_SEGMENT)
    };
    // It signs, and verifies, by today's time.
    let signs = config.get("tag").is_some_and(|tag| tag.get("keys").is_some());
    (!by_arp && !probes && !learns && !signs && inputs.iter().all(fits)).then_some(inputs)
}

#[test]
fn a_run_sends_what_a_replay_sends() {
    let scenarios: Vec<_> =
        Scenario::load_all(&directory()).into_iter().map(Result::unwrap).collect();
    let runnable: Vec<_> =
        scenarios.iter().filter_map(|scenario| Some((scenario, inputs_of(scenario)?))).collect();
    let roles: BTreeSet<_> = runnable.iter().map(|(s, _)| s.role()).collect();
    assert!(roles.len() == 3 && runnable.len() > 60, "{} scenarios of {roles:?}", runnable.len());
    // Most of a run is waiting: several at a time.
    std::thread::scope(|scope| {
        for some in runnable.chunks(runnable.len().div_ceil(4)) {
            scope.spawn(|| {
                some.iter().for_each(|(scenario, inputs)| same_as_replayed(scenario, inputs))
            });
        }
    });
}
