//! The frames that a role receives from each side, by configuration (compare docs/protocol.md).

use firstack_packets::{
    Body, Frame, INSIDE_MAC, Ip, LINUX_OPTIONS, OUTSIDE_MAC, Payload, Segment, Sum, Udp, socket,
    tag,
};
use pipeline::packet::view::Side;
use pipeline::role::gateway::mode::Mode;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use crate::system_under_test::Opening;
use crate::template::{CLIENTS, Client, Template, UNKNOWN_CLIENTS, UNSPECIFIED};

/// The service, and the replica that wins.
pub const SERVER: &str = "203.0.113.10:80";
pub const REPLICA: &str = "198.51.100.10:80";
/// The losers: another replica, and the origin.
pub const LOSERS: [&str; 2] = ["198.51.100.20:80", SERVER];
/// A server that is no service.
const OTHER: &str = "192.0.2.1:22";

/// Data that fills a TCP packet up to the minimum frame length.
const FILL: [u8; 6] = [0; 6];

/// Returns the address of an endpoint.
pub fn ip(endpoint: &str) -> &str {
    endpoint.split(':').next().unwrap_or(endpoint)
}

fn from_client(frame: &[u8]) -> Template {
    Template::new(frame, Client::Source, CLIENTS, false)
}

fn to_client(frame: &[u8]) -> Template {
    Template::new(frame, Client::Destination, CLIENTS, false)
}

/// Returns a frame in a tunnel to the client.
fn tunnelled_to_client(segment: &Segment, from: &str) -> Template {
    let frame = segment.tunnelled(from, ip(UNSPECIFIED));
    Template::new(&frame, Client::Destination, CLIENTS, true)
}

/// Returns a SYN at the gateway's inside.
pub fn syn() -> Template {
    from_client(&Segment::syn(UNSPECIFIED, SERVER, 7).frame())
}

/// Returns a replica's SYN/ACK in the format of a configuration.
pub fn syn_ack(code: Configuration, from: &str) -> Template {
    let answer = |from| Segment::syn_ack(from, UNSPECIFIED, 5, 8);
    match code {
        Configuration::A => to_client(&answer(from).frame()),
        Configuration::B => tunnelled_to_client(&answer(from), ip(SERVER)),
        Configuration::C => tunnelled_to_client(&answer(SERVER), ip(from)),
    }
}

/// Returns the origin's SYN/ACK.
pub fn origin_syn_ack() -> Template {
    to_client(&Segment::syn_ack(SERVER, UNSPECIFIED, 5, 8).frame())
}

/// Returns the client's RST.
pub fn client_reset() -> Template {
    from_client(&Segment::new(UNSPECIFIED, SERVER, 4, 8, 0).payload(&FILL).frame())
}

/// Returns the packets of a gateway.
pub fn gateway<C: Mode>() -> Opening {
    let data = |from| Segment::ack(from, UNSPECIFIED, 6, 8).payload(&FILL).inbound();
    let back = match C::CONFIGURATION {
        Configuration::A => to_client(&data(REPLICA).frame()),
        Configuration::B => to_client(&data(SERVER).frame()),
        Configuration::C => tunnelled_to_client(&data(SERVER), ip(REPLICA)),
    };
    let there = from_client(&Segment::ack(UNSPECIFIED, SERVER, 8, 6).payload(&FILL).frame());
    let gone = if C::REPLIES_NEED_LOOKUP { Verdict::FromReplica } else { Verdict::Passed };
    Opening {
        first: Side::Inside,
        opening: [syn(), syn_ack(C::CONFIGURATION, REPLICA)],
        opened: [Verdict::Tagged, Verdict::ReplicaWon],
        going: [there, back],
        gone: [Verdict::ToReplica, gone],
    }
}

/// Returns TCP packets that belong to no service, in both directions.
pub fn unknown_tcp() -> [Template; 2] {
    let there = Segment::ack(UNSPECIFIED, OTHER, 8, 6).payload(&FILL).frame();
    let back = Segment::ack(OTHER, UNSPECIFIED, 6, 8).payload(&FILL).inbound().frame();
    [
        Template::new(&there, Client::Source, UNKNOWN_CLIENTS, false),
        Template::new(&back, Client::Destination, UNKNOWN_CLIENTS, false),
    ]
}

/// Returns UDP packets of the TCP packets' length, in both directions.
pub fn unknown_udp() -> [Template; 2] {
    let frame = |macs, from: &str, to: &str, [source, destination]: [u16; 2]| {
        let [from, to] = [from, to].map(|endpoint| socket(endpoint).ip());
        // Without a checksum: it would depend on the client's address.
        let udp = Udp { source, destination, sum: Sum::Zero, data: vec![0; 18], ..Udp::default() };
        Frame::new(macs, Body::Ip(Ip::new(from, to, Payload::Udp(udp)))).bytes()
    };
    let there = frame((OUTSIDE_MAC, INSIDE_MAC), UNSPECIFIED, OTHER, [0, 53]);
    let back = frame((INSIDE_MAC, OUTSIDE_MAC), OTHER, UNSPECIFIED, [53, 0]);
    [
        Template::new(&there, Client::Source, UNKNOWN_CLIENTS, false),
        Template::new(&back, Client::Destination, UNKNOWN_CLIENTS, false),
    ]
}

fn tagged(code: Configuration) -> Segment {
    let tag = tag::unsigned(tag::flags(code as u8));
    Segment::syn(UNSPECIFIED, SERVER, 7).options(&[&LINUX_OPTIONS[..], &tag].concat())
}

/// Returns the packets of a switch.
pub fn switch() -> Opening {
    let answer = Segment::syn_ack(SERVER, UNSPECIFIED, 5, 8).frame();
    let there = Segment::ack(UNSPECIFIED, SERVER, 8, 6).payload(&FILL).frame();
    let back = Segment::ack(SERVER, UNSPECIFIED, 6, 8).payload(&FILL).frame();
    Opening {
        first: Side::Outside,
        opening: [to_client(&answer), from_client(&tagged(Configuration::A).frame())],
        opened: [Verdict::FromServer, Verdict::FannedOut],
        going: [to_client(&back), from_client(&there)],
        gone: [Verdict::FromServer, Verdict::ToServer],
    }
}

/// Returns the packets of a replica under this configuration.
pub fn replica(code: Configuration) -> Opening {
    let copy = tagged(code).tunnelled(ip(SERVER), ip(REPLICA));
    let answer = Segment::syn_ack(REPLICA, UNSPECIFIED, 5, 8).frame();
    let data = |to| Segment::ack(UNSPECIFIED, to, 8, 6).payload(&FILL);
    let there = match code {
        Configuration::A | Configuration::B => from_client(&data(REPLICA).frame()),
        Configuration::C => {
            let frame = data(SERVER).tunnelled(ip(UNSPECIFIED), ip(REPLICA));
            Template::new(&frame, Client::Source, CLIENTS, true)
        }
    };
    let back = Segment::ack(REPLICA, UNSPECIFIED, 6, 8).payload(&FILL).frame();
    Opening {
        first: Side::Outside,
        opening: [to_client(&answer), from_client(&copy)],
        opened: [Verdict::FromWebServer, Verdict::CopyAccepted],
        going: [to_client(&back), there],
        gone: [Verdict::FromWebServer, Verdict::ToWebServer],
    }
}
