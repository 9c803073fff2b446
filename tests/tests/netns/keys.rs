//! Signed tags: who may cause copies, and a change of keys that no connection notices.

use std::time::Duration;

use firstack_tests::demo::client::burst;
use firstack_tests::demo::world::World;
use firstack_tests::lab::Family;
use firstack_tests::processes::ProcessOptions;

use super::{AFTER, OrFail, all, alone, finish, winners, world};

const OLD: &str = "7 00112233445566778899aabbccddeeff";
const NEW: &str = "8 ffeeddccbbaa99887766554433221100";

fn keyed(name: &str) -> World {
    let keys = Some(format!("# the only one\n{OLD} sign\n"));
    world(name, &[("4KB", 4_000)], &ProcessOptions { keys, ..ProcessOptions::default() })
}

#[test]
fn only_a_signed_tag_gets_copies_where_that_is_required() {
    let _alone = alone();
    let world = keyed("signed");
    let fleet = world.fleet().or_fail();
    assert_eq!(winners(&world, 3), all("replica1", 3));
    // A key that the switch does not know, and a wrong one under a number that it knows.
    for wrong in [NEW, &NEW.replacen('8', "7", 1)] {
        fleet.gateway().change_keys(&format!("{wrong} sign\n")).or_fail();
        assert_eq!(winners(&world, 2), all("origin", 2), "signed by {wrong}");
    }
    // Broken files change nothing.
    for broken in ["nonsense\n".to_string(), format!("{OLD}\n")] {
        let error = fleet.gateway().change_keys(&broken).expect_err("a broken file was taken");
        println!("{error}");
        assert_eq!(winners(&world, 1), all("origin", 1));
    }
    fleet.gateway().change_keys(&format!("{OLD} sign\n")).or_fail();
    assert_eq!(winners(&world, 2), all("replica1", 2));
    assert_eq!(fleet.switch().stats().or_fail().verdict("fanned_out"), 5);
    // A replica tests for itself what the switch has let through.
    fleet.replica(1).change_keys(&format!("{NEW}\n")).or_fail();
    assert_eq!(winners(&world, 2), all("replica2", 2));
    finish(world);
}

#[test]
fn keys_change_under_load_without_a_failed_connection() {
    let _alone = alone();
    let world = keyed("rotation");
    let fleet = world.fleet().or_fail();
    let (_, bytes) = world.file("4KB").or_fail();
    let (client, service) = (world.client(), world.service(Family::V4));
    let (both, only) = (format!("{OLD}\n{NEW}\n"), format!("{NEW}\n"));
    let burst = std::thread::scope(|scope| {
        let load = scope.spawn(|| burst(client, service, ("4KB", &bytes), 600, 20));
        let pause = || std::thread::sleep(Duration::from_millis(400));
        let takers = || fleet.all().iter().skip(1);
        pause();
        takers().for_each(|appliance| drop(appliance.change_keys(&both).or_fail()));
        fleet.gateway().change_keys(&format!("{OLD}\n{NEW} sign\n")).or_fail();
        // What was signed by the old one is still on its way.
        pause();
        takers().for_each(|appliance| drop(appliance.change_keys(&only).or_fail()));
        fleet.gateway().change_keys(&format!("{NEW} sign\n")).or_fail();
        assert!(!load.is_finished(), "the load was over before the change");
        load.join().unwrap()
    });
    let burst = burst.or_fail();
    assert_eq!((burst.answered, burst.failed), (all("replica1", 600), Vec::new()));
    assert_eq!(winners(&world, 2), all("replica1", 2));
    std::thread::sleep(AFTER);
    let ended = finish(world);
    assert_eq!(ended[1].snapshot.verdict("fanned_out"), 602);
}
