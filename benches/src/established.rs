//! Roles with established connections of either family, and the packets of these in both
//! directions: plain ones, and those that differ in one thing from what is usual.

use std::sync::Arc;
use std::time::Duration;

use firstack_packets::icmp::{self, Icmp};
use firstack_packets::{
    Content, Extension, Format, Header, Ip, Payload, Segment, address, ethernet_frame, tunnel_in,
};
use pipeline::base::published::Published;
use pipeline::neighbours::Neighbours;
use pipeline::packet::view::Side;
use pipeline::policy::allow_list::AllowList;
use pipeline::role::Role;
use pipeline::role::gateway::Gateway;
use pipeline::role::gateway::mode::Mode;
use pipeline::role::replica::{self, Replica};
use pipeline::role::switch::{self, Delivery, Switch};
use pipeline::stage::sign::Keys;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use crate::Harness;
use crate::fixtures::{KEY, Peers, frames, from_replica, ip, run_all, scattered, tagged};
use crate::roles::established;

/// A name for the packets of connections in one direction, with the verdict on all of them.
pub struct Direction {
    /// The name.
    pub name: &'static str,
    /// The side from which they come.
    pub side: Side,
    /// One frame of each connection.
    pub frames: Vec<Vec<u8>>,
    /// The verdict on each.
    pub verdict: Verdict,
}

/// A role, and the packets of its connections.
pub struct Established<R> {
    /// The role.
    pub harness: Harness<R>,
    /// The packets, by direction.
    pub directions: Vec<Direction>,
}

/// [`Established`] of any role.
pub trait Subject {
    /// Returns the directions.
    fn directions(&self) -> &[Direction];
    /// Runs a burst of connections that are far from each other, and returns the role's time.
    fn run(&mut self, direction: usize, burst: usize) -> Duration;
}

impl<R: Role> Subject for Established<R> {
    fn directions(&self) -> &[Direction] {
        &self.directions
    }

    fn run(&mut self, direction: usize, burst: usize) -> Duration {
        let Direction { side, frames, verdict, .. } = &self.directions[direction];
        self.harness.run(*side, scattered(frames, burst), *verdict)
    }
}

/// The payload of all data.
const DATA: [u8; 6] = [0; 6];

/// Returns a gateway whose races a replica has won.
pub fn gateway<Q: Mode>(peers: Peers, count: usize) -> Established<Gateway<Q>> {
    let back = if Q::REPLIES_NEED_LOOKUP { Verdict::FromReplica } else { Verdict::Passed };
    let to = frames(peers, count, |client| to_server(client, peers).frame());
    let from = frames(peers, count, |client| from_replica(Q::CONFIGURATION, peers, client, false));
    let directions = vec![
        Direction::new("to_replica", Side::Inside, to, Verdict::ToReplica),
        Direction::new("from_replica", Side::Outside, from, back),
    ];
    Established { harness: established::<Q>(peers, count), directions }
}

/// Returns a gateway of configuration A, with packets in unusual forms: VLAN tags, IP options or
/// extension headers, and ICMP that is no error.
pub fn unusual_at_gateway<Q: Mode>(peers: Peers, count: usize) -> Established<Gateway<Q>> {
    let segments = |form: fn(Segment) -> Vec<u8>| {
        frames(peers, count, |client| form(to_server(client, peers)))
    };
    let echo = frames(peers, count, |client| echo_to_server(client, peers));
    let (side, verdict) = (Side::Inside, Verdict::ToReplica);
    let directions = vec![
        Direction::new("vlan", side, segments(|segment| with_vlan(segment.frame())), verdict),
        Direction::new("options", side, segments(with_options), verdict),
        Direction::new("icmp", side, echo, Verdict::Icmp),
    ];
    Established { harness: established::<Q>(peers, count), directions }
}

/// Returns a gateway of configuration C, with the winner's packets in tunnels other than IP in IP.
pub fn tunnels_at_gateway<Q: Mode>(peers: Peers, count: usize) -> Established<Gateway<Q>> {
    let tunnelled = |format: &Format| {
        frames(peers, count, |client| {
            let inner = Segment::ack(peers.server, client, 6, 8).payload(&DATA).inbound();
            let ends = (ip(peers.replica), ip(client));
            let outer = tunnel_in(format.clone(), (&ends.0, &ends.1), (0, 9), &inner.packet());
            ethernet_frame(inner.macs, &outer)
        })
    };
    let (side, verdict) = (Side::Outside, Verdict::FromReplica);
    let directions = vec![
        Direction::new("gre", side, tunnelled(&Format::GRE), verdict),
        Direction::new("gue", side, tunnelled(&Format::GUE), verdict),
    ];
    Established { harness: established::<Q>(peers, count), directions }
}

/// Returns a switch whose servers have answered.
pub fn switch(peers: Peers, count: usize) -> Established<Switch> {
    let mut harness = empty_switch(peers, count);
    let syns = frames(peers, count, |c| tagged(c, peers.server, Configuration::A).frame());
    run_all(&mut harness, Side::Outside, &syns, Verdict::FannedOut);
    let answers = frames(peers, count, |c| Segment::syn_ack(peers.server, c, 5, 8).frame());
    run_all(&mut harness, Side::Inside, &answers, Verdict::FromServer);
    let to = frames(peers, count, |client| to_server(client, peers).inbound().frame());
    let from = frames(peers, count, |client| {
        Segment::ack(peers.server, client, 6, 8).payload(&DATA).frame()
    });
    run_all(&mut harness, Side::Outside, &to, Verdict::ToServer);
    let directions = vec![
        Direction::new("to_server", Side::Outside, to, Verdict::ToServer),
        Direction::new("from_server", Side::Inside, from, Verdict::FromServer),
    ];
    Established { harness, directions }
}

/// Returns a replica whose connections of gateways of this configuration the clients have
/// established.
pub fn replica(code: Configuration, peers: Peers, count: usize) -> Established<Replica> {
    let mut harness = empty_replica(peers, count);
    let copies = frames(peers, count, |client| {
        tagged(client, peers.server, code).tunnelled(&ip(peers.server), &ip(peers.replica))
    });
    run_all(&mut harness, Side::Outside, &copies, Verdict::CopyAccepted);
    let answers = frames(peers, count, |c| Segment::syn_ack(peers.replica, c, 5, 8).frame());
    run_all(&mut harness, Side::Inside, &answers, Verdict::FromWebServer);
    let to = frames(peers, count, |client| match code {
        Configuration::A | Configuration::B => {
            Segment::ack(client, peers.replica, 8, 6).payload(&DATA).inbound().frame()
        }
        Configuration::C => {
            to_server(client, peers).inbound().tunnelled(&ip(client), &ip(peers.replica))
        }
    });
    run_all(&mut harness, Side::Outside, &to, Verdict::ToWebServer);
    let from = frames(peers, count, |client| {
        Segment::ack(peers.replica, client, 6, 8).payload(&DATA).frame()
    });
    let directions = vec![
        Direction::new("to_web_server", Side::Outside, to, Verdict::ToWebServer),
        Direction::new("from_web_server", Side::Inside, from, Verdict::FromWebServer),
    ];
    Established { harness, directions }
}

impl Direction {
    fn new(name: &'static str, side: Side, frames: Vec<Vec<u8>>, verdict: Verdict) -> Self {
        Self { name, side, frames, verdict }
    }
}

fn to_server(client: &str, peers: Peers) -> Segment {
    Segment::ack(client, peers.server, 8, 6).payload(&DATA)
}

fn with_vlan(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0, 5]);
    frame
}

/// Returns the frame of a segment with IPv4 options, or with IPv6 destination options.
fn with_options(segment: Segment) -> Vec<u8> {
    const DESTINATION_OPTIONS: u8 = 60;
    const NO_OPERATION: u8 = 1;
    let mut ip = segment.ip();
    match &mut ip.header {
        Header::V4 { options, .. } => options.extend([NO_OPERATION; 4]),
        Header::V6 { extensions, .. } => {
            // Four bytes of padding: option 1.
            let padding = vec![0, 1, 4, 0, 0, 0, 0];
            extensions.push(Extension::Other(DESTINATION_OPTIONS, padding));
        }
    }
    ethernet_frame(segment.macs, &ip.bytes())
}

fn echo_to_server(client: &str, peers: Peers) -> Vec<u8> {
    let (from, to) = (address(&ip(client)), address(&ip(peers.server)));
    let protocol = if from.is_ipv4() { icmp::V4 } else { icmp::V6 };
    let [kind, _] = Icmp::echo(protocol);
    let content = Content { data: DATA.to_vec(), ..Content::default() };
    let echo = Icmp { protocol, kind, code: 0, word: 7, content, bad_checksum: false };
    ethernet_frame(([2; 6], [2; 6]), &Ip::new(from, to, Payload::Icmp(echo)).bytes())
}

/// Returns a switch with a service of two servers and one replica, for this many connections.
fn empty_switch(peers: Peers, count: usize) -> Harness<Switch> {
    let server = |name: &str, last| switch::Server {
        name: name.to_owned(),
        delivery: Delivery::Direct([2, 0, 0, 0, 1, last]),
        weight: 1,
    };
    let services = vec![switch::Service {
        address: address(&ip(peers.server)),
        ports: vec![80],
        retired: false,
        replicable: true,
        source: address(&ip(peers.server)),
        replicas: vec![address(&ip(peers.replica))],
        first_replica: 0,
        servers: vec![server("web1", 1), server("web2", 2)],
        first_server: 0,
    }];
    let selection = switch::Selection::new(&services, &switch::Liveness::default());
    let settings = switch::Settings {
        max_connections: [count; 2],
        hash_key: KEY,
        ..firstack_fixtures::switch(services)
    };
    let shares = switch::Shares {
        tunnels: Arc::new(switch::TunnelHealth::new(1)),
        neighbours: Arc::new(Neighbours::default()),
    };
    let (selection, keys) = (Published::new(selection), Published::new(Keys::default()));
    Harness::new(Switch::new(settings, shares, selection.reader(), keys.reader()), 8)
}

/// Returns a replica with a service of one web server, for this many connections.
fn empty_replica(peers: Peers, count: usize) -> Harness<Replica> {
    let services = vec![replica::Service {
        address: address(&ip(peers.server)),
        ports: vec![80],
        retired: false,
        servers: vec![replica::Server {
            name: "web".to_owned(),
            address: address(&ip(peers.replica)),
            port: None,
            mac: None,
            weight: 1,
            has_vip: false,
        }],
        first_server: 0,
    }];
    let selection = Published::new(replica::Selection::new(&services, |_| true));
    let settings = replica::Settings {
        switches: AllowList::only([address(&ip(peers.server)).into()]),
        max_connections: [count; 2],
        hash_key: KEY,
        ..firstack_fixtures::replica(services)
    };
    let shares =
        replica::Shares { admission: Arc::default(), neighbours: Arc::new(Neighbours::default()) };
    let keys = Published::new(Keys::default());
    Harness::new(Replica::new(settings, shares, selection.reader(), keys.reader()), 1)
}
