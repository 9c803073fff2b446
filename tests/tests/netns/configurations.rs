//! Every configuration over both families: connections of all kinds, what the losers get, and that
//! replicas may be killed.

use firstack_tests::demo::client::request;
use firstack_tests::lab::Family::{self, V4, V6};
use firstack_tests::lab::{Curl, Place, Race, Site};
use firstack_tests::processes::Configuration::{A, B, C};
use firstack_tests::processes::TunnelFormat::{Gre, Gue, Ipip};

use super::network::{Network, results};
use super::{MAX_WAIT, OrFail, Setup, alone, comes_true, generated, tagged, topology};

#[test]
fn a_over_ipv4() {
    serves(Setup::new(A, V4, Ipip));
}

#[test]
fn b_over_ipv4() {
    serves(Setup::new(B, V4, Gre));
}

#[test]
fn c_over_ipv4() {
    serves(Setup::new(C, V4, Gue));
}

#[test]
fn a_over_ipv6() {
    serves(Setup::new(A, V6, Gre));
}

#[test]
fn b_over_ipv6() {
    serves(Setup::new(B, V6, Gue));
}

#[test]
fn c_over_ipv6() {
    serves(Setup::new(C, V6, Ipip));
}

#[test]
fn a_with_direct_copies_over_ipv4() {
    serves(Setup::direct(A, V4, Gue));
}

#[test]
fn b_with_direct_copies_over_ipv4() {
    serves(Setup::direct(B, V4, Ipip));
}

#[test]
fn c_with_direct_copies_over_ipv4() {
    serves(Setup::direct(C, V4, Gre));
}

#[test]
fn a_with_direct_copies_over_ipv6() {
    serves(Setup::direct(A, V6, Ipip));
}

#[test]
fn b_with_direct_copies_over_ipv6() {
    serves(Setup::direct(B, V6, Gre));
}

#[test]
fn c_with_direct_copies_over_ipv6() {
    serves(Setup::direct(C, V6, Gue));
}

#[test]
fn ipv6_without_a_service_passes_beside_ipv4() {
    let _alone = alone();
    let options = Setup::new(A, V4, Ipip).options();
    let network = Network::build("beside", topology().ipv6(true), &[], &options);
    for _ in 0..3 {
        assert_eq!(network.answer(V6), "origin");
    }
    let gateway = network.gateway();
    assert_eq!((tagged(&gateway), results(&gateway, Site::Origin)), (0, (0, 0)), "{gateway}");
    network.comes_to(V4, "replica1");
    let of_v4 = network.connections() - 3;
    let finished = network.finish_with(of_v4);
    assert!(tagged(finished.gateway()) >= of_v4, "{}", finished.gateway());
    let mut of_v6 = finished.races.iter().filter(|race| race.client.is_ipv6());
    assert!(of_v6.all(|race| race.answers == ["origin"]), "{:?}", finished.races);
}

fn serves(setup: Setup) {
    let _alone = alone();
    let Setup { configuration, family, .. } = setup;
    let name = format!("{configuration}{family}").to_lowercase();
    let files = [("4KB", 4_000), ("5MB", 5_000_000)];
    let mut network = Network::build(&name, setup.topology(), &files, &setup.options());

    network.answers(family, 4);
    network.rest();
    kernels_gave_up_what_lost(&network);
    connections_that_stay(&network, family);

    let fetched = network.fetch(&Curl::to(network.service(family), "5MB").digest());
    let (wanted, _) = network.file("5MB").or_fail();
    assert_eq!(fetched.bytes, wanted.bytes);
    assert_eq!(fetched.sha256.as_deref(), Some(wanted.sha256.as_str()));
    network.burst(family, "4KB", 60, 20);
    network.comes_to(family, "replica1");

    // Its kernel refuses, which wins no race; then it is silent.
    network.kill_server(1).or_fail();
    network.answers_without(family, 2, &["replica1"]);
    let refused = || {
        network.answers_without(family, 1, &["replica1"]);
        network.gateway().verdict("reset_by_replica") > 0
    };
    assert!(comes_true(MAX_WAIT, refused), "{}", network.gateway());
    network.kill_appliance(1).or_fail();
    network.answers_without(family, 2, &["replica1"]);
    network.comes_to(family, "replica2");

    let connections = network.connections();
    let finished = network.finish();
    let (gateway, switch) = (finished.gateway(), finished.switch());
    let [origin, near, far] =
        [Site::Origin, Site::Replica(1), Site::Replica(2)].map(|site| results(gateway, site));
    assert!(near.0 > 0 && far.0 > 0, "{gateway}");
    // The origin gets every SYN, and answers it.
    assert!(origin.0 + origin.1 >= connections, "{gateway}");
    let copied = switch.verdict("fanned_out");
    assert!(copied > 0 && copied <= tagged(gateway), "{switch}");
    assert_eq!(generated(gateway, "direct_copies") > 0, setup.direct, "{gateway}");
}

/// The kernels of servers that lost a race have given their half of the connection up, and nobody
/// else's.
fn kernels_gave_up_what_lost(network: &Network) {
    let before = network.races();
    let tag_backoffs = |place: &Place| kernel_tcp(place, "AttemptFails");
    let tag_backoffs: Vec<_> = network.topology().servers().iter().map(tag_backoffs).collect();
    let after = network.races();
    for (place, tag_backoffs) in network.topology().servers().iter().zip(tag_backoffs) {
        let name = place.site.name();
        // One at least for each race that it lost, and at most one for each SYN/ACK.
        let least = before.iter().filter(|race| race.lost_by(&name) > 0).count() as u64;
        let most: u64 = after.iter().map(|race| race.lost_by(&name)).sum();
        assert!(
            (least..=most).contains(&tag_backoffs),
            "{name}: {tag_backoffs} given up: {after:?}"
        );
    }
    let lost = |race: &Race| race.answers.iter().any(|at| at != race.winner());
    assert!(before.iter().any(lost), "nobody has lost: {before:?}");
}

/// A figure of the kernel's TCP, as in /proc/net/snmp.
fn kernel_tcp(place: &Place, name: &str) -> u64 {
    let text = place.host.run(&["cat", "/proc/net/snmp"]).or_fail().stdout;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut figures = names.split(' ').zip(values.split(' '));
    figures.find(|(of, _)| *of == name).unwrap().1.parse().unwrap()
}

/// A few connections at once that are asked several times, each answered by one server; then they
/// are closed, by the server and by the client.
fn connections_that_stay(network: &Network, family: Family) {
    let open = |_| network.connect_to(family, |_| true);
    let mut streams: Vec<_> = (0..3).map(open).collect();
    for close in [false, false, true] {
        for (number, (stream, site)) in streams.iter_mut().enumerate() {
            assert_eq!(request(stream, close && number == 0).or_fail(), *site);
        }
    }
}
