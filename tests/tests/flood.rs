//! A flood of start packets from spoofed clients, ten times what the switch's token buckets take:
//! those in whose names it is sent get no more acknowledgements from replicas than the buckets
//! allow, and the few repetitions that a prefix gains with time; none where tags are to be signed; and
//! who was connected before goes on undisturbed. A flood of direct copies gets hardly more
//! acknowledgements than start packets, and fewer than one of plain start packets to a web server.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use firstack_tests::simulation::address::ORIGIN;
use firstack_tests::simulation::check;
use firstack_tests::simulation::client::Outcome;
use firstack_tests::simulation::flood::{Flood, Kind};
use firstack_tests::simulation::plan::{
    Behaviour, Closer, Configuration, Family, Gate, GivesUp, Nanos, Permits, Plan, Reach, SECOND,
    Start,
};
use firstack_tests::simulation::variety::{Signing, Source, Strangers};
use firstack_tests::simulation::world::World;

/// Copies per second of each prefix, and as many saved up.
const COPIES: u64 = 50;
/// Replicas that get copies of each start packet.
const REPLICAS: u64 = 2;
/// Prefixes of the victims, and addresses in each.
const VICTIMS: (u8, u8) = (3, 4);
/// How many times the bucket the flood has.
const TIMES: u64 = 10;
/// How long it lasts.
const SPAN: Nanos = 10 * SECOND;

/// Returns how many repetitions of acknowledgements a replica lets pass in this time to clients of a
/// prefix that it has not heard: 8, and one every two seconds.
fn repairs(span: Nanos) -> u64 {
    8 + span / (2 * SECOND) + 1
}

fn plan(configuration: Configuration, family: Family, signing: Signing) -> Plan {
    let mut plan = Plan::draw(0);
    let replica = plan.replicas[0].clone();
    (plan.configuration, plan.family, plan.signing) = (configuration, family, signing);
    plan.replicas = vec![replica; REPLICAS as usize];
    for replica in &mut plan.replicas {
        (replica.gate, replica.behaviour, replica.servers) = (Gate::Open, Behaviour::Serves, 2);
        (replica.reach, replica.repeats, replica.port) = (Reach::Mac, 0, Some(8080));
        replica.has_vip = false;
    }
    (plan.clients, plan.services, plan.origins, plan.origin) = (2, 1, 1, Behaviour::Serves);
    (plan.permits, plan.table, plan.segmented) = (Permits::Any, 64, false);
    (plan.corrupted, plan.buffers_left, plan.fan_out) = (0, usize::MAX, COPIES);
    (plan.strangers, plan.tunnels.source) = (Strangers::Nobody, Source::Service);
    let mut path = plan.paths[0][1];
    (path.loss, path.duplicated, path.drops_options, path.mtu) = (0, 0, false, 1500);
    (path.delay, path.jitter, path.reorder) = (20_000_000, 100_000, false);
    plan.paths = vec![vec![path; 4]; 4];
    // The origin is farther away than the replicas.
    plan.paths[1][0].delay = 60_000_000;
    plan.changes.clear();
    let rate = TIMES * COPIES / REPLICAS;
    plan.flood =
        Some(Flood { kind: Kind::Tagged, at: 2 * SECOND, span: SPAN, rate, victims: VICTIMS });
    let connection = plan.connections[0];
    plan.connections = (0..6).map(|_| connection).collect();
    for (number, own) in plan.connections.iter_mut().enumerate() {
        (own.client, own.service, own.start) = (number % 2, 0, Start::Alone);
        (own.port, own.at) = (40_000 + number as u16, number as u64 * SECOND / 10);
        (own.request, own.response, own.think) = (500, 20_000, 2 * number as u64 * SECOND);
        (own.closer, own.gives_up, own.spoofed) = (Closer::Server, GivesUp::Resets, None);
        own.patience = 500 * SECOND;
    }
    plan
}

/// Runs a flood; what came of it.
fn run(plan: Plan) -> World {
    let mut world = World::new(plan, false, None);
    let done = world.run();
    let wrong = check::check(&mut world, done);
    assert!(wrong.is_empty(), "{wrong:#?}");
    for call in world.clients().flat_map(|client| &client.calls) {
        let by_replica = matches!(call.outcome, Some(Outcome::Completed(server)) if server >= 10);
        assert!(by_replica, "connection {}: {:?}", call.id, call.outcome);
    }
    let flood = world.plan.flood.unwrap();
    if flood.kind != Kind::Tagged {
        return world;
    }
    let origins = world.servers().filter(|server| server.site == ORIGIN);
    let came: Vec<u32> = origins.flat_map(|server| server.crowd.came.values().copied()).collect();
    assert_eq!(came.len() as u64, flood.packets(), "the origin sees every start packet");
    assert!(came.iter().all(|times| *times == 1), "and each of them once");
    world
}

/// The network that the limit is for.
fn network(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets()[..3].to_vec(),
        IpAddr::V6(address) => address.octets()[..6].to_vec(),
    }
}

const ALL: [(Configuration, Family); 6] = [
    (Configuration::A, Family::V4),
    (Configuration::B, Family::V4),
    (Configuration::C, Family::V4),
    (Configuration::A, Family::V6),
    (Configuration::B, Family::V6),
    (Configuration::C, Family::V6),
];

#[test]
fn victims_get_no_more_acknowledgements_than_the_bucket_allows() {
    for (configuration, family) in ALL {
        let world = run(plan(configuration, family, Signing::Not));
        let flood = world.plan.flood.unwrap();
        let mut by_network: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut by_address: BTreeMap<IpAddr, u64> = BTreeMap::new();
        for (at, client) in &world.echo.acknowledgements {
            let since = at - flood.at;
            let allowed = COPIES + since * COPIES / SECOND + 1 + REPLICAS * repairs(since);
            let of_network = by_network.entry(network(client.ip())).or_default();
            *of_network += 1;
            assert!(
                *of_network <= allowed,
                "{configuration:?} {family:?}: {of_network} for {client}"
            );
            *by_address.entry(client.ip()).or_default() += 1;
        }
        let allowed = COPIES + SPAN / SECOND * COPIES;
        // A web server repeats its last acknowledgement 31 s after its first.
        let with_repairs = allowed + REPLICAS * repairs(SPAN + 32 * SECOND);
        let most = |counts: &mut dyn Iterator<Item = u64>| counts.max().unwrap_or(0);
        let network = most(&mut by_network.values().copied());
        let address = most(&mut by_address.values().copied());
        println!(
            "{configuration:?} {family:?}: {} start packets per prefix; at most {network} \
             acknowledgements for a prefix and {address} for an address, {with_repairs} allowed",
            flood.packets() / u64::from(VICTIMS.0),
        );
        assert!(network <= with_repairs && address <= with_repairs);
        // The bucket is used: it is not for want of copies that there are so few.
        assert_eq!(by_network.len(), usize::from(VICTIMS.0));
        assert!(by_network.values().all(|count| *count >= allowed * 9 / 10), "{by_network:?}");
        assert_eq!(world.echo.others, 0);
    }
}

#[test]
fn where_tags_are_to_be_signed_victims_get_nothing() {
    for (configuration, family) in ALL {
        let world = run(plan(configuration, family, Signing::Signed));
        let (acknowledgements, others) = (&world.echo.acknowledgements, world.echo.others);
        assert!(acknowledgements.is_empty() && others == 0, "{configuration:?} {family:?}");
    }
}

/// Runs a flood against the first replica; returns the world, how many SYNs reached its web servers
/// and how many acknowledgements left it.
fn run_at_replica(mut plan: Plan, kind: Kind) -> (World, u64, u64) {
    plan.flood = plan.flood.map(|flood| Flood { kind, ..flood });
    let world = run(plan);
    let crowds = world.servers().map(|server| &server.crowd);
    let came: Vec<u32> = crowds.flat_map(|crowd| crowd.came.values().copied()).collect();
    assert!(came.iter().all(|times| *times == 1), "a web server gets every SYN once");
    let acknowledgements = world.echo.acknowledgements.len() as u64;
    (world, came.len() as u64, acknowledgements)
}

#[test]
fn a_direct_copy_gets_hardly_more_than_one_acknowledgement_and_a_plain_syn_no_fewer() {
    for (configuration, family) in ALL {
        let plan = || plan(configuration, family, Signing::Not);
        let (world, came, direct) = run_at_replica(plan(), Kind::Direct);
        let syns = world.plan.flood.unwrap().packets();
        let mut by_syn: BTreeMap<SocketAddr, u64> = BTreeMap::new();
        for (_, client) in &world.echo.acknowledgements {
            *by_syn.entry(*client).or_default() += 1;
        }
        // Each SYN has an endpoint of its own, and comes twice.
        assert_eq!((came, by_syn.len() as u64, world.echo.others), (syns, syns, 0));
        let repaired = u64::from(VICTIMS.0) * repairs(SPAN + 32 * SECOND);
        assert!(direct <= syns + repaired, "{configuration:?} {family:?}: {direct}");
        let (_, came, plain) = run_at_replica(plan(), Kind::Plain);
        println!("{configuration:?} {family:?}: {syns} SYNs, {direct} or {plain} acknowledgements");
        assert_eq!(came, syns);
        assert!(direct <= plain, "{configuration:?} {family:?}: {direct} and {plain}");
    }
}

#[test]
fn where_tags_are_to_be_signed_direct_copies_get_nothing() {
    for (configuration, family) in ALL {
        let plan = plan(configuration, family, Signing::Signed);
        let (world, came, acknowledgements) = run_at_replica(plan, Kind::Direct);
        assert_eq!((came, acknowledgements, world.echo.others), (0, 0, 0));
    }
}
