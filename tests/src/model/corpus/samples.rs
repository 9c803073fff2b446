//! Chosen frames: the start of every fuzzed run, and one frame of each kind.

use std::net::SocketAddr;
use std::time::Duration;

use firstack_packets::tag::with_mac;
use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::wire::tunnel::Format;

use super::{KEY, UNSIGNED, arp, neighbour, signed_start, tagged_start, tunnelled};
use crate::model::options::signature;
use crate::model::packet::{ACK, PSH, Packet, RST, SYN};
use crate::model::related::{IcmpError, fragment};
use crate::model::tunnel::Outer;
use crate::model::world::router;
use crate::model::{Arrival, CLIENTS, Carrier, FIRST_V6, ISNS, peers};

/// Returns the frames that every fuzzed run begins with, for each family: three races at a gateway
/// of any configuration, of which a replica wins one and the origin another; copies of SYNs of all
/// three configurations for a replica, and its web servers' SYN/ACKs.
pub fn prelude(at: Duration) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    let mut add = |side, frame| {
        arrivals.push(Arrival { at, side, frame, carrier: Carrier::Whole });
    };
    for own in [&CLIENTS[..], &CLIENTS[FIRST_V6..]] {
        let peers = peers(own[0]);
        let (server, replica) = (peers[0], peers[4]);
        for client in &own[..3] {
            let start = Packet { sequence: ISNS[2], ..Packet::new(*client, server, SYN) };
            add(Side::Inside, start.frame());
        }
        let answer = |from, to| {
            let mut answer = Packet::new(from, to, SYN | ACK);
            answer.acknowledgement = ISNS[2] + 1;
            answer.frame()
        };
        // In the format of every configuration. The gateway accepts only its own.
        add(Side::Outside, answer(replica, own[0]));
        let tunnel = |frame: Vec<u8>, from| tunnelled(&frame, from, own[0], Format::Gue);
        add(Side::Outside, tunnel(answer(replica, own[0]), server));
        add(Side::Outside, tunnel(answer(server, own[0]), replica));
        add(Side::Outside, answer(server, own[1]));
        for (number, code) in
            [Configuration::A, Configuration::B, Configuration::C].into_iter().enumerate()
        {
            let start = signed_start(own[number], server, code);
            let copy = tunnelled(&start.frame(), server, replica, Format::ALL[number]);
            add(Side::Outside, copy);
            add(Side::Inside, answer(replica, own[number]));
        }
    }
    arrivals
}

/// Returns one sound frame of each kind and family.
pub fn samples() -> Vec<Vec<u8>> {
    [CLIENTS[0], CLIENTS[FIRST_V6]].into_iter().flat_map(samples_of).collect()
}

fn samples_of(client: SocketAddr) -> Vec<Vec<u8>> {
    let peers = peers(client);
    let (server, replica) = (peers[0], peers[4]);
    let start = tagged_start(client, server, &UNSIGNED);
    let with_data = Packet { payload: b"data".to_vec(), ..start.clone() };
    let plain = Packet { options: vec![2, 4, 5, 0xb4], ..start.clone() };
    let answer = |from| {
        let mut packet = Packet::new(from, client, SYN | ACK);
        packet.acknowledgement = ISNS[2].wrapping_add(1);
        packet.options = vec![2, 4, 5, 0xb4];
        packet
    };
    let mut data = Packet::new(client, server, PSH | ACK);
    data.payload = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    let tunnel = |inner: &Packet, format| tunnelled(&inner.frame(), server, replica, format);
    let nested = tunnelled(&tunnel(&start, Format::Ipip), server, replica, Format::Ipip);
    let mut tagged = plain.clone();
    tagged.vlans = vec![(0x88a8, 5), (0x8100, 6)];
    tagged.ip_options = 2;
    let to_client = |format| tunnelled(&data_back(&data).frame(), replica, client, format);
    let quoted = data.clone();
    let outer = Outer::new(Format::Gue, client.ip(), replica.ip(), 0);
    let kind = if client.is_ipv6() { 2 } else { 3 };
    let error = IcmpError {
        from: router(client),
        to: client.ip(),
        kind,
        code: 4,
        mtu: 1400,
        quoted,
        tunnel: Some(outer),
        bytes: 20,
    };
    let plain_error = IcmpError { tunnel: None, quoted: data.sent_to(replica), ..error.clone() };
    let resolution = match client.is_ipv6() {
        true => [false, true]
            .map(|advertises| neighbour(advertises, [2, 0, 0, 0, 3, 1], replica, replica)),
        false => [
            arp(1, [2, 0, 0, 0, 3, 1], [10, 0, 0, 9], [198, 51, 100, 5]),
            arp(2, [2, 0, 0, 0, 3, 1], [198, 51, 100, 10], [0, 0, 0, 0]),
        ],
    };
    let mut all = vec![
        plain.frame(),
        start.frame(),
        signed_start(client, server, Configuration::C).frame(),
        with_data.frame(),
        answer(server).frame(),
        answer(replica).frame(),
        data.frame(),
        Packet { flags: RST, ..data.sent_to(replica) }.frame(),
        tunnel(&start, Format::Ipip),
        tunnel(&start, Format::Gue),
        tunnel(&plain, Format::Gre),
        tunnel(&with_data, Format::Ipip),
        tunnelled(&start.frame(), client, replica, Format::Gre),
        nested,
        tagged.frame(),
        to_client(Format::Gre),
        to_client(Format::Gue),
        error.frame(),
        plain_error.frame(),
        fragment(&data_of(&data), true),
        fragment(&data_of(&data), false),
    ];
    all.extend(resolution);
    all
}

/// Returns the packet in the opposite direction.
fn data_back(data: &Packet) -> Packet {
    Packet { from: data.to, to: data.from, ..data.clone() }
}

/// Returns the packet with enough data for two fragments.
fn data_of(data: &Packet) -> Packet {
    Packet { payload: vec![0x5a; 30], id: 9, ..data.clone() }
}

/// Returns a copy of a SYN whose signature is wrong in one bit.
pub fn forged_copy(client: SocketAddr) -> Vec<u8> {
    let (server, replica) = (peers(client)[0], peers(client)[4]);
    let mut start = tagged_start(client, server, &[]);
    let mut mac = signature(&start, 0x81, KEY, 0);
    mac[7] ^= 1;
    start.options = with_mac(0x81, KEY.0, mac);
    tunnelled(&start.frame(), server, replica, Format::Ipip)
}
