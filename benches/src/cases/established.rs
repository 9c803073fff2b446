//! Connections at the switch and the replica, by state. Data of established ones takes the fast path.
//! Each builder checks that all connections are in the state that the case is named after, so that
//! no case measures another path unnoticed. (The gateway's cases are in [`super::roles`].)

use firstack_packets::Segment;
use pipeline::packet::view::Side;
use pipeline::role::Role;
use pipeline::role::replica::Replica;
use pipeline::role::switch::Switch;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;
use pipeline::wire::family::Version;

use super::roles::{OPEN, arrivals, copy_frames, opened, work};
use super::{Case, Named, Work};
use crate::Harness;
use crate::fixtures::{Peers, V4, V6, frames, ip, run_all};
use crate::roles::{replica_harness, switch_harness};

/// The acknowledgement number that establishes a connection.
const RIGHT: u32 = 6;
/// One that does not.
const WRONG: u32 = 7;

pub(super) fn cases() -> impl Iterator<Item = Case> {
    use Configuration::{A, B, C};
    let all: [Named; 14] = [
        ("switch_to_server_opening", || to_server("opening", V4)),
        ("switch_to_server_unheard", || to_server("unheard", V4)),
        ("switch_to_server_established", || to_server("established", V4)),
        ("switch_from_server_established", || from_server(V4)),
        ("replica_a_to_web_server_opening", || to_web_server(A, "opening", V4)),
        ("replica_a_to_web_server", || to_web_server(A, "established", V4)),
        ("replica_a_from_web_server", || from_web_server(A, V4)),
        ("replica_b_to_web_server", || to_web_server(B, "established", V4)),
        ("replica_b_from_web_server", || from_web_server(B, V4)),
        ("replica_c_to_web_server_opening", || to_web_server(C, "opening", V4)),
        ("replica_c_to_web_server", || to_web_server(C, "established", V4)),
        ("replica_c_from_web_server", || from_web_server(C, V4)),
        ("replica_c_to_web_server_v6", || to_web_server(C, "established", V6)),
        ("replica_c_from_web_server_v6", || from_web_server(C, V6)),
    ];
    all.into_iter().map(|(name, build)| Case::burst(name, "packet", build))
}

/// Panics unless all connections of the role are in this state.
fn assert_all_in<R: Role>(harness: &Harness<R>, state: &str, version: Version) {
    let number = R::STATES.iter().position(|name| *name == state).expect("a state");
    let live = harness.role.common_counters().table_of(version).live[number].get();
    assert_eq!(live, OPEN as u64, "connections that are {state}");
}

fn version(peers: Peers) -> Version {
    Version::of(ip(peers.server).parse().expect("an address"))
}

/// The client's packets, which acknowledge the server's SYN/ACK rightly or wrongly.
fn to_service(peers: Peers, ack_number: u32) -> Vec<Vec<u8>> {
    frames(peers, OPEN, |client| Segment::ack(client, peers.server, 8, ack_number).frame())
}

/// Returns a switch whose connections are in this state, and their clients' next packets.
fn switch(state: &str, peers: Peers) -> (Harness<Switch>, Vec<Vec<u8>>) {
    let syns = frames(peers, OPEN, |client| Segment::syn(client, peers.server, 7).frame());
    let mut harness = opened(switch_harness(), &syns, Verdict::ToServer);
    if state != "unheard" {
        let answer = |client: &str| Segment::syn_ack(peers.server, client, 5, 8).frame();
        let answers = frames(peers, OPEN, answer);
        run_all(&mut harness, Side::Inside, &answers, Verdict::FromServer);
    }
    let packets = to_service(peers, if state == "opening" { WRONG } else { RIGHT });
    run_all(&mut harness, Side::Outside, &packets, Verdict::ToServer);
    assert_all_in(&harness, state, version(peers));
    (harness, packets)
}

fn to_server(state: &str, peers: Peers) -> Box<dyn Work> {
    let (harness, packets) = switch(state, peers);
    work(harness, arrivals(Side::Outside, &packets, Verdict::ToServer))
}

fn from_server(peers: Peers) -> Box<dyn Work> {
    let (harness, _) = switch("established", peers);
    let packets = frames(peers, OPEN, |client| Segment::ack(peers.server, client, 6, 8).frame());
    work(harness, arrivals(Side::Inside, &packets, Verdict::FromServer))
}

/// Returns a replica whose connections are in this state, and their clients' next packets, as they
/// reach the replica.
fn replica(code: Configuration, state: &str, peers: Peers) -> (Harness<Replica>, Vec<Vec<u8>>) {
    let copies = copy_frames(code, peers, OPEN);
    let mut harness = opened(replica_harness(), &copies, Verdict::CopyAccepted);
    let answer = |client: &str| Segment::syn_ack(peers.replica, client, 5, 8).frame();
    run_all(&mut harness, Side::Inside, &frames(peers, OPEN, answer), Verdict::FromWebServer);
    let number = if state == "opening" { WRONG } else { RIGHT };
    let packets = frames(peers, OPEN, |client| match code {
        Configuration::A | Configuration::B => {
            Segment::ack(client, peers.replica, 8, number).inbound().frame()
        }
        Configuration::C => {
            Segment::ack(client, peers.server, 8, number).tunnelled(&ip(client), &ip(peers.replica))
        }
    });
    run_all(&mut harness, Side::Outside, &packets, Verdict::ToWebServer);
    assert_all_in(&harness, state, version(peers));
    (harness, packets)
}

fn to_web_server(code: Configuration, state: &str, peers: Peers) -> Box<dyn Work> {
    let (harness, packets) = replica(code, state, peers);
    work(harness, arrivals(Side::Outside, &packets, Verdict::ToWebServer))
}

fn from_web_server(code: Configuration, peers: Peers) -> Box<dyn Work> {
    let (harness, _) = replica(code, "established", peers);
    let packets = frames(peers, OPEN, |client| Segment::ack(peers.replica, client, 6, 8).frame());
    work(harness, arrivals(Side::Inside, &packets, Verdict::FromWebServer))
}
