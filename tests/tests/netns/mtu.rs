//! Path MTU: a link of 1400 bytes, of which nothing is known but what its router says.

use std::time::Duration;

use firstack_tests::demo::world::World;
use firstack_tests::lab::Family::{V4, V6};
use firstack_tests::lab::{Curl, Site};
use firstack_tests::processes::Configuration::{A, B, C};
use firstack_tests::processes::ProcessOptions;
use firstack_tests::processes::TunnelFormat::{Gre, Gue, Ipip};

use super::{OrFail, Way, alone, finish_world, options, topology};

#[test]
fn a_large_file_passes_a_narrow_link_in_a() {
    assert!(passes((A, V4, Ipip), None) > 0);
}

#[test]
fn a_large_file_passes_a_narrow_link_in_b() {
    assert!(passes((B, V4, Ipip), None) > 0);
}

#[test]
fn a_large_file_passes_a_narrow_link_in_c() {
    assert!(passes((C, V4, Gre), None) > 0);
}

#[test]
fn a_large_file_passes_a_narrow_link_in_c_over_ipv6() {
    assert!(passes((C, V6, Gue), None) > 0);
}

#[test]
fn segments_fit_a_path_whose_mtu_is_configured() {
    assert_eq!(passes((C, V4, Ipip), Some(1400)), 0, "packets that were too big");
}

/// Fetches 100 MB through a link of 1400 bytes, by processes that believe in 1500 unless told
/// otherwise; how many packets on their way to the client were too big for it.
fn passes(way: Way, path_mtu: Option<u16>) -> u64 {
    let _alone = alone();
    let (configuration, family, _) = way;
    let name = format!("mtu{configuration}").to_lowercase();
    let options = ProcessOptions { path_mtu, ..options(way) };
    let topology = topology().narrow(Site::Client, 1400);
    let world = World::build(&name, topology, &[("100MB", 100_000_000)], Some(&options));
    let world = world.or_fail();
    let curl = Curl::to(world.service(family), "100MB").limit(Duration::from_secs(60)).digest();
    let fetched = curl.run(&world.client().host).or_fail();
    let (wanted, _) = world.file("100MB").or_fail();
    assert_eq!((fetched.status, fetched.bytes), (200, wanted.bytes));
    assert_eq!(fetched.sha256.as_deref(), Some(wanted.sha256.as_str()));
    assert_eq!(fetched.site, "replica1");
    println!("100 MB in {:?}", fetched.total);
    let (_, wan) = finish_world(world);
    wan.pair("replica1", "client").too_big
}
