//! Every configuration over both families: who wins, what the losers get, and that replicas
//! may be killed.

use firstack_tests::demo::client::{Held, ask, burst, connect_from};
use firstack_tests::demo::world::World;
use firstack_tests::lab::Family::{V4, V6};
use firstack_tests::lab::{Curl, Site};
use firstack_tests::processes::Configuration::{A, B, C};
use firstack_tests::processes::TunnelFormat::{Gre, Gue, Ipip};

use super::{
    AFTER, OrFail, Way, all, alone, finish, kernel_tcp, made, options, races_of, topology,
    winners_of,
};

#[test]
fn a_over_ipv4() {
    serves((A, V4, Ipip));
}

#[test]
fn b_over_ipv4() {
    serves((B, V4, Gre));
}

#[test]
fn c_over_ipv4() {
    serves((C, V4, Gue));
}

#[test]
fn a_over_ipv6() {
    serves((A, V6, Gre));
}

#[test]
fn b_over_ipv6() {
    serves((B, V6, Gue));
}

#[test]
fn c_over_ipv6() {
    serves((C, V6, Ipip));
}

#[test]
fn ipv6_without_a_service_passes_beside_ipv4() {
    let _alone = alone();
    let topology = topology().ipv6(true);
    let world = World::build("beside", topology, &[], Some(&options((A, V4, Ipip)))).or_fail();
    assert_eq!(winners_of(&world, V6, 3), all("origin", 3));
    let mut stream = connect_from(world.client(), 40_000, world.service(V6)).or_fail();
    assert_eq!(ask(&mut stream, true).or_fail(), "origin");
    assert_eq!(winners_of(&world, V4, 3), all("replica1", 3));
    std::thread::sleep(AFTER);
    let gateway = &finish(world)[0].snapshot;
    assert_eq!((gateway.verdict("tagged"), made(gateway, "resets")), (3, 6));
}

fn serves(way: Way) {
    let _alone = alone();
    let (configuration, family, _) = way;
    let name = format!("{configuration}{family}").to_lowercase();
    let files = [("4KB", 4_000), ("5MB", 5_000_000)];
    let mut world = World::build(&name, topology(), &files, Some(&options(way))).or_fail();
    let service = world.service(family);

    assert_eq!(winners_of(&world, family, 4), all("replica1", 4));
    std::thread::sleep(AFTER);
    let given_up = world.topology().servers().iter().map(|at| kernel_tcp(at, "AttemptFails"));
    assert_eq!(given_up.collect::<Vec<_>>(), [4, 0, 4], "origin, replica 1, replica 2");
    connections_that_stay(&world, way);

    let fetched = Curl::to(service, "5MB").digest().run(&world.client().host).or_fail();
    let (wanted, _) = world.file("5MB").or_fail();
    assert_eq!((fetched.status, fetched.bytes), (200, wanted.bytes));
    assert_eq!(fetched.sha256.as_deref(), Some(wanted.sha256.as_str()));
    let (_, bytes) = world.file("4KB").or_fail();
    let small = burst(world.client(), service, ("4KB", &bytes), 60, 20).or_fail();
    assert_eq!((small.answered, small.failed), (all("replica1", 60), Vec::new()));

    // Its kernel refuses; then it is silent.
    world.kill_server(1).or_fail();
    assert_eq!(winners_of(&world, family, 2), all("replica2", 2));
    world.kill_appliance(1).or_fail();
    assert_eq!(winners_of(&world, family, 2), all("replica2", 2));
    std::thread::sleep(AFTER);
    let ended = finish(world);
    let (gateway, switch) = (&ended[0].snapshot, &ended[1].snapshot);
    let races = |site| races_of(gateway, site, family);
    assert_eq!(races(Site::Replica(1)), (4 + 3 + 1 + 60, 0), "{gateway}");
    assert_eq!(races(Site::Replica(2)), (4, 68), "{gateway}");
    assert_eq!(races(Site::Origin), (0, 72), "{gateway}");
    assert_eq!(made(gateway, "resets"), 68 + 72);
    assert_eq!(gateway.verdict("reset_by_replica"), 2);
    assert_eq!(switch.verdict("fanned_out"), 72);
}

/// A few connections at once that are asked several times; then they are closed, by the server
/// and by the client.
fn connections_that_stay(world: &World, (_, family, _): Way) {
    let service = world.service(family);
    let held = Held::open(world.client(), service, 2).or_fail();
    assert_eq!(held.sites, all("replica1", 2));
    let mut stream = connect_from(world.client(), 40_000, service).or_fail();
    for _ in 0..3 {
        assert_eq!(ask(&mut stream, false).or_fail(), "replica1");
    }
    assert_eq!(ask(&mut stream, true).or_fail(), "replica1");
}
