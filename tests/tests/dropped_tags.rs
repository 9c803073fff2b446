//! A path that drops tagged SYNs costs a few connections a few seconds, and then is given up; no
//! other path is.

use firstack_tests::simulation::address::{CLIENTS, ORIGIN};
use firstack_tests::simulation::check;
use firstack_tests::simulation::client::Outcome;
use firstack_tests::simulation::plan::{
    Behaviour, Closer, Configuration, Family, Gate, GivesUp, Permits, Plan, Reach, SECOND, Start,
};
use firstack_tests::simulation::variety::{Signing, Source, Strangers};
use firstack_tests::simulation::world::World;
use pipeline::counters::Scalar;

/// Connections, one after the other, of four clients.
const CONNECTIONS: usize = 12;

fn plan(configuration: Configuration, family: Family, drops_options: bool) -> Plan {
    let mut plan = Plan::draw(0);
    let replica = plan.replicas[0].clone();
    (plan.configuration, plan.family, plan.signing) = (configuration, family, Signing::Not);
    plan.replicas = vec![replica; 2];
    for replica in &mut plan.replicas {
        (replica.gate, replica.behaviour, replica.servers) = (Gate::Open, Behaviour::Serves, 2);
        (replica.reach, replica.repeats, replica.port) = (Reach::Mac, 0, Some(8080));
        replica.has_vip = false;
    }
    (plan.clients, plan.services, plan.origins, plan.origin) = (4, 1, 1, Behaviour::Serves);
    (plan.permits, plan.table, plan.segmented) = (Permits::Any, 64, false);
    (plan.corrupted, plan.buffers_left, plan.fan_out) = (0, usize::MAX, 1000);
    (plan.strangers, plan.tunnels.source) = (Strangers::Nobody, Source::Service);
    let mut path = plan.paths[0][1];
    (path.loss, path.duplicated, path.drops_options, path.mtu) = (0, 0, false, 1500);
    (path.delay, path.jitter, path.reorder) = (20_000_000, 100_000, false);
    plan.paths = vec![vec![path; 4]; 4];
    plan.paths[CLIENTS][ORIGIN].drops_options = drops_options;
    plan.changes.clear();
    plan.flood = None;
    let connection = plan.connections[0];
    plan.connections = (0..CONNECTIONS).map(|_| connection).collect();
    for (number, own) in plan.connections.iter_mut().enumerate() {
        (own.client, own.service, own.start) = (number % 4, 0, Start::Alone);
        (own.port, own.at) = (40_000 + number as u16, number as u64 * 2 * SECOND);
        (own.request, own.response, own.think) = (500, 20_000, 0);
        (own.closer, own.gives_up, own.spoofed) = (Closer::Server, GivesUp::Resets, None);
        own.patience = 500 * SECOND;
    }
    plan
}

#[test]
fn only_a_path_that_drops_tags_is_given_up() {
    for configuration in [Configuration::A, Configuration::B, Configuration::C] {
        for family in [Family::V4, Family::V6] {
            for drops in [false, true] {
                let mut world = World::new(plan(configuration, family, drops), false, None);
                let done = world.run();
                let wrong = check::check(&mut world, done);
                assert!(wrong.is_empty(), "{wrong:#?}");
                let calls = world.clients().flat_map(|client| &client.calls);
                let served = calls.filter(|c| matches!(c.outcome, Some(Outcome::Completed(_))));
                assert_eq!(served.count(), CONNECTIONS);
                let counters = world.stations()[CLIENTS].counters();
                let backoffs = counters.scalar(Scalar::TagBackoffs).get();
                assert_eq!(backoffs > 0, drops, "{configuration:?} {family:?} {drops}");
            }
        }
    }
}
