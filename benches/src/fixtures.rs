//! Fixtures: the hosts of the benchmarks, and their frames.

use std::net::SocketAddr;
use std::time::Duration;

use firstack_packets::{LINUX_OPTIONS, Segment, tag};
use pipeline::packet::view::Side;
use pipeline::role::Role;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use crate::{BURST, Harness, client, client_v6};

/// V: the service.
pub const SERVER: &str = "203.0.113.10:80";
/// The replica that wins.
pub const REPLICA: &str = "198.51.100.10:80";
/// The losers of every race: another replica, and the origin.
pub const LOSERS: [&str; 2] = ["198.51.100.20:80", "203.0.113.10:80"];
/// The hash secret of every table.
pub const KEY: (u64, u64) = (0x1234_5678, 0x9abc_def0);

/// Service, replica and clients of one family.
#[derive(Clone, Copy)]
pub struct Peers {
    /// V.
    pub server: &'static str,
    /// R.
    pub replica: &'static str,
    /// The client endpoint with a number.
    pub client: fn(usize) -> String,
}

/// The IPv4 hosts.
pub const V4: Peers = Peers { server: SERVER, replica: REPLICA, client };
/// The IPv6 hosts.
pub const V6: Peers =
    Peers { server: "[2001:db8:2::10]:80", replica: "[2001:db8:3::10]:80", client: client_v6 };

/// Returns the address of an endpoint, as text.
pub fn ip(endpoint: &str) -> String {
    endpoint.parse::<SocketAddr>().expect("an endpoint").ip().to_string()
}

/// Returns a replica's frame as it reaches a gateway of this configuration: a SYN/ACK if `answers`,
/// else data.
pub fn from_replica(code: Configuration, peers: Peers, client: &str, answers: bool) -> Vec<u8> {
    let segment = |from: &str| match answers {
        true => Segment::syn_ack(from, client, 5, 8),
        false => Segment::ack(from, client, 6, 8).payload(&[0; 6]).inbound(),
    };
    match (code, answers) {
        (Configuration::A, _) => segment(peers.replica).frame(),
        (Configuration::B, true) => {
            segment(peers.replica).tunnelled(&ip(peers.server), &ip(client))
        }
        (Configuration::B, false) => segment(peers.server).frame(),
        (Configuration::C, _) => segment(peers.server).tunnelled(&ip(peers.replica), &ip(client)),
    }
}

/// Returns a frame of each of the first `count` clients.
pub fn frames(peers: Peers, count: usize, frame: impl Fn(&str) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..count).map(|number| frame(&(peers.client)(number))).collect()
}

/// Runs frames through the role, burst by burst, and returns the role's time.
pub fn run_all<R: Role>(
    harness: &mut Harness<R>,
    side: Side,
    frames: &[Vec<u8>],
    expected: Verdict,
) -> Duration {
    frames.chunks(BURST).map(|b| harness.run(side, b.iter().map(Vec::as_slice), expected)).sum()
}

/// Returns a burst of connections that are far from each other, so that no entry is in cache.
pub fn scattered(frames: &[Vec<u8>], burst: usize) -> impl Iterator<Item = &[u8]> {
    let stride = frames.len() / BURST;
    let first = burst.wrapping_mul(7919) % stride.max(1);
    (0..BURST).map(move |n| frames[(first + n * stride) % frames.len()].as_slice())
}

/// Returns a SYN tagged by a gateway of this configuration.
pub fn tagged(client: &str, server: &str, code: Configuration) -> Segment {
    let tag = tag::unsigned(tag::flags(code as u8));
    let options = [&LINUX_OPTIONS[..], &tag].concat();
    Segment::syn(client, server, 7).options(&options)
}
