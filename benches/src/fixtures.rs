//! Who takes part in the measurements, and the frames that they send.

use std::net::SocketAddr;
use std::time::Duration;

use firstack_packets::{LINUX_OPTIONS, Segment, tag};
use pipeline::role::Role;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;
use pipeline::packet::view::Side;

use crate::{BURST, Harness, client, client_v6};

/// V: what clients ask for.
pub const SERVER: &str = "203.0.113.10:80";
/// The replica that wins.
pub const REPLICA: &str = "198.51.100.10:80";
/// Who answers after it: another replica, and the origin.
pub const LOSERS: [&str; 2] = ["198.51.100.20:80", "203.0.113.10:80"];
/// The hash key of every table.
pub const KEY: (u64, u64) = (0x1234_5678, 0x9abc_def0);

/// Who takes part, of one family.
#[derive(Clone, Copy)]
pub struct Peers {
    /// V.
    pub server: &'static str,
    /// R.
    pub replica: &'static str,
    /// The client endpoint of a number.
    pub client: fn(usize) -> String,
}

/// Over IPv4.
pub const V4: Peers = Peers { server: SERVER, replica: REPLICA, client };
/// Over IPv6.
pub const V6: Peers =
    Peers { server: "[2001:db8:2::10]:80", replica: "[2001:db8:3::10]:80", client: client_v6 };

/// The address of an endpoint, as text.
pub fn ip(endpoint: &str) -> String {
    endpoint.parse::<SocketAddr>().expect("an endpoint").ip().to_string()
}

/// The frame of a replica's packet as a gateway of this configuration gets it; `answers` is an
/// acknowledgement.
pub fn from_replica(code: Configuration, peers: Peers, client: &str, answers: bool) -> Vec<u8> {
    let segment = |from: &str| match answers {
        true => Segment::syn_ack(from, client, 5, 8),
        false => Segment::ack(from, client, 6, 8).payload(&[0; 6]).inbound(),
    };
    match (code, answers) {
        (Configuration::A, _) => segment(peers.replica).frame(),
        (Configuration::B, true) => segment(peers.replica).tunnelled(&ip(peers.server), &ip(client)),
        (Configuration::B, false) => segment(peers.server).frame(),
        (Configuration::C, _) => segment(peers.server).tunnelled(&ip(peers.replica), &ip(client)),
    }
}

/// A frame of each of the first `count` clients.
pub fn frames(peers: Peers, count: usize, frame: impl Fn(&str) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..count).map(|number| frame(&(peers.client)(number))).collect()
}

/// Runs frames through, burst by burst; how long the role took.
pub fn run_all<R: Role>(
    harness: &mut Harness<R>,
    side: Side,
    frames: &[Vec<u8>],
    expected: Verdict,
) -> Duration {
    frames.chunks(BURST).map(|b| harness.run(side, b.iter().map(Vec::as_slice), expected)).sum()
}

/// Bursts of connections that are far from each other, so that none finds its entry in cache.
pub fn scattered(frames: &[Vec<u8>], burst: usize) -> impl Iterator<Item = &[u8]> {
    let stride = frames.len() / BURST;
    let first = burst.wrapping_mul(7919) % stride.max(1);
    (0..BURST).map(move |n| frames[(first + n * stride) % frames.len()].as_slice())
}

/// A tagged SYN, of which the tag says that the gateway is of this configuration.
pub fn tagged(client: &str, server: &str, code: Configuration) -> Segment {
    let tag = tag::unsigned(tag::flags(code as u8));
    let options = [&LINUX_OPTIONS[..], &tag].concat();
    Segment::syn(client, server, 7).options(&options)
}
