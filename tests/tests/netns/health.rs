//! Health: web servers that are probed, and replicas that the switch hears or does not.

use std::time::Duration;

use firstack::control::stats::Snapshot;
use firstack_tests::demo::world::World;
use firstack_tests::lab::Site;
use firstack_tests::processes::{Checks, HealthTimes, ProcessOptions};

use super::{OrFail, all, alone, comes_true, finish, topology, winners};

/// Time in which anything is noticed.
const NOTICED: Duration = Duration::from_secs(8);

fn probed(name: &str, checks: Checks) -> World {
    let health = HealthTimes { interval: Duration::from_millis(200), rise: 2, fall: 3 };
    let options = ProcessOptions { checks, health: Some(health), ..ProcessOptions::default() };
    World::build(name, topology(), &[], Some(&options)).or_fail()
}

fn stats(world: &World, of: Site) -> Snapshot {
    let fleet = world.fleet().or_fail();
    match of {
        Site::Client => fleet.gateway(),
        Site::Origin => fleet.switch(),
        Site::Replica(number) => fleet.replica(number),
    }
    .stats()
    .or_fail()
}

/// Copies that the switch has sent to replica 1 and 2.
fn copies(world: &World) -> [u64; 2] {
    let switch = stats(world, Site::Origin);
    ["replica1", "replica2"].map(|replica| {
        let found = switch.copies.iter().find(|copies| copies.name.ends_with(replica));
        found.map_or(0, |copies| copies.count)
    })
}

#[test]
fn a_replica_whose_web_server_is_down_is_dead_until_it_is_up_again() {
    let _alone = alone();
    let mut world = probed("down", Checks { own: true, ..Checks::default() });
    let near = Site::Replica(1);
    assert!(comes_true(NOTICED, || winners(&world, 1) == all("replica1", 1)));
    world.kill_server(1).or_fail();
    // Another wins from the first moment on; once the probe has noticed, no copy is cracked.
    let dead = || {
        assert_eq!(winners(&world, 1), all("replica2", 1));
        stats(&world, near).verdict("dead") > 0
    };
    assert!(comes_true(NOTICED, dead), "{}", stats(&world, near));
    let cracked = stats(&world, near).verdict("cracked");
    assert_eq!(winners(&world, 3), all("replica2", 3));
    assert_eq!(stats(&world, near).verdict("cracked"), cracked);
    world.start_server(1).or_fail();
    assert!(comes_true(NOTICED, || winners(&world, 1) == all("replica1", 1)));
    assert_eq!(winners(&world, 3), all("replica1", 3));
    finish(world);
}

#[test]
fn a_switch_sends_no_copies_to_a_replica_whose_web_server_it_finds_down() {
    let _alone = alone();
    let mut world = probed("probed", Checks { origin: true, replicas: true, own: false });
    assert!(comes_true(NOTICED, || winners(&world, 1) == all("replica1", 1)));
    world.kill_server(1).or_fail();
    stops_copying(&world);
    world.start_server(1).or_fail();
    assert!(comes_true(NOTICED, || winners(&world, 1) == all("replica1", 1)));
    finish(world);
}

#[test]
fn a_switch_sends_no_copies_to_an_appliance_that_is_silent() {
    let _alone = alone();
    let mut world = probed("silent", Checks::default());
    assert_eq!(winners(&world, 2), all("replica1", 2));
    world.kill_appliance(1).or_fail();
    stops_copying(&world);
    world.start_appliance(1).or_fail();
    assert!(comes_true(NOTICED, || winners(&world, 1) == all("replica1", 1)));
    finish(world);
}

/// Connects until replica 1 gets no copies any more; replica 2 wins all the time.
#[track_caller]
fn stops_copying(world: &World) {
    let mut last = copies(world);
    let stopped = comes_true(NOTICED, || {
        assert_eq!(winners(world, 1), all("replica2", 1));
        let [before, _] = std::mem::replace(&mut last, copies(world));
        last[0] == before
    });
    assert!(stopped, "{:?} copies", last);
    assert_eq!(winners(world, 3), all("replica2", 3));
    assert_eq!(copies(world), [last[0], last[1] + 3]);
}
