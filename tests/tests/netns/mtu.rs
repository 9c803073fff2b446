//! Path MTU: a link of 1400 bytes, of which nothing is known but what its router says.

use std::time::Instant;

use firstack_tests::demo::client::download;
use firstack_tests::lab::Family::{V4, V6};
use firstack_tests::lab::Site;
use firstack_tests::processes::Configuration::{A, B, C};
use firstack_tests::processes::ProcessOptions;
use firstack_tests::processes::TunnelFormat::{Gre, Gue, Ipip};

use super::network::Network;
use super::{OrFail, Setup, alone, topology};

#[test]
fn a_large_file_passes_a_narrow_link_in_a() {
    assert!(passes(Setup::new(A, V4, Ipip), None) > 0);
}

#[test]
fn a_large_file_passes_a_narrow_link_in_b() {
    assert!(passes(Setup::new(B, V4, Ipip), None) > 0);
}

#[test]
fn a_large_file_passes_a_narrow_link_in_c() {
    assert!(passes(Setup::new(C, V4, Gre), None) > 0);
}

#[test]
fn a_large_file_passes_a_narrow_link_in_c_over_ipv6() {
    assert!(passes(Setup::new(C, V6, Gue), None) > 0);
}

#[test]
fn segments_fit_a_path_whose_mtu_is_configured() {
    assert_eq!(passes(Setup::new(C, V4, Ipip), Some(1400)), 0, "packets that were too big");
}

/// Fetches 100 MB from replica 1 through a link of 1400 bytes, by processes that believe in 1500
/// unless told otherwise; how many packets on their way to the client were too big for it.
fn passes(setup: Setup, path_mtu: Option<u16>) -> u64 {
    let _alone = alone();
    let Setup { configuration, family, .. } = setup;
    let name = format!("mtu{configuration}").to_lowercase();
    let options = ProcessOptions { path_mtu, ..setup.options() };
    let topology = topology().narrow(Site::Client, 1400);
    let network = Network::build(&name, topology, &[("100MB", 100_000_000)], &options);
    let (mut stream, site) = network.connect_to(family, |site| site == "replica1");
    let (_, bytes) = network.file("100MB").or_fail();
    let start = Instant::now();
    assert_eq!(download(&mut stream, ("100MB", &bytes)).or_fail(), site);
    println!("100 MB in {:?}", start.elapsed());
    network.finish().wan.pair("replica1", "client").too_big
}
