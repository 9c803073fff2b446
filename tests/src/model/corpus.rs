//! A fuzz corpus: frames as an open network sends them. Some are sound packets that the roles
//! process, others are truncated, modified, encapsulated or split.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use firstack_packets::{Arp, Body, Frame, Ip, Mac, Neighbour, Payload, tag as tags};
use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::wire::tunnel::Format;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::frames::{Foreign, options};
use super::options::{Key, tag, tagged};
use super::packet::{ACK, FIN, PSH, Packet, RST, SYN};
use super::related::{IcmpError, fragment, icmp};
use super::tunnel::Outer;
use super::world::router;
use super::{Arrival, CLIENTS, Carrier, FIRST_V6, ISNS, PEERS, PEERS_V6, peers};

mod mutation;
mod samples;

pub use mutation::Mutation;
pub use samples::{forged_copy, prelude, samples};

/// The key of the corpus's valid signatures.
pub const KEY: Key = (3, [7; 16]);
/// A tag without a signature, of configuration A.
pub const UNSIGNED: [u8; 8] = tags::unsigned(tags::PERMITTED);

/// Returns the frame with its IP packet, or the bytes in its place, in a tunnel. A frame without an
/// Ethernet header is returned unchanged.
pub fn tunnelled(frame: &[u8], from: SocketAddr, to: SocketAddr, format: Format) -> Vec<u8> {
    Outer::new(format, from.ip(), to.ip(), 0).around(frame)
}

/// The MAC address that neighbour messages are sent to.
const APPLIANCE_MAC: Mac = [2, 0, 0, 0, 9, 1];

/// Returns an ARP packet.
pub fn arp(operation: u8, mac: Mac, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let (sender, target) = ((mac, sender.into()), ([0; 6], target.into()));
    let arp = Arp { operation: operation.into(), sender, target };
    Frame::new((APPLIANCE_MAC, mac), Body::Arp(arp)).bytes()
}

/// Returns a neighbour solicitation or advertisement from `sender` about `target`, with a MAC
/// address in its option. Both are IPv6 addresses.
pub fn neighbour(advertises: bool, mac: Mac, sender: SocketAddr, target: SocketAddr) -> Vec<u8> {
    let IpAddr::V6(about) = target.ip() else { panic!("{target} is not IPv6") };
    let message = Neighbour {
        solicits: !advertises,
        flags: if advertises { 0x60 } else { 0 },
        target: about,
        mac: Some(mac),
        bad_checksum: false,
    };
    let ip = Ip::new(sender.ip(), target.ip(), Payload::Neighbour(message));
    Frame::new((APPLIANCE_MAC, mac), Body::Ip(Ip { ttl: 255, ..ip })).bytes()
}

/// Returns a SYN with this tag.
pub fn tagged_start(from: SocketAddr, to: SocketAddr, tag: &[u8]) -> Packet {
    let mut packet = Packet::new(from, to, SYN);
    packet.options = [&[2, 4, 5, 0xb4][..], tag].concat();
    packet.options.resize(packet.options.len().next_multiple_of(4), 1);
    packet.sequence = ISNS[2];
    packet
}

/// Returns a SYN with a signed tag of this configuration. The signature is valid.
pub fn signed_start(from: SocketAddr, to: SocketAddr, configuration: Configuration) -> Packet {
    let mut packet = tagged_start(from, to, &[]);
    packet.options.clear();
    let tag = tag(&packet, configuration, Some(KEY));
    tagged(&packet, &tag)
}

fn unsigned_tag() -> BoxedStrategy<Vec<u8>> {
    let signed = |flags| [&[253, 14, 0x4e, 0x52, flags, 3][..], &[7; 8]].concat();
    let unsigned = |flags| vec![253, 5, 0x4e, 0x52, flags];
    prop_oneof![
        4 => select(vec![0x01, 0x03, 0x05]).prop_map(unsigned),
        2 => select(vec![0x00, 0x07, 0x09, 0x79, 0x73]).prop_map(unsigned),
        2 => select(vec![0x81, 0x80, 0x85, 0x89]).prop_map(signed),
        1 => Just(0x81).prop_map(unsigned),
        1 => Just(0x01).prop_map(signed),
    ]
    .boxed()
}

fn client() -> BoxedStrategy<SocketAddr> {
    let few = [&CLIENTS[..3], &CLIENTS[FIRST_V6..FIRST_V6 + 3]].concat();
    prop_oneof![2 => select(few), 1 => select(CLIENTS.to_vec())].boxed()
}

/// Returns servers and replicas of a client's family, configured at some role or at none.
pub fn servers(client: SocketAddr) -> Vec<SocketAddr> {
    if client.is_ipv6() {
        let like = |host: u16| {
            let mut address = PEERS_V6[0];
            address.set_ip(format!("2001:db8:10::{host:x}").parse().expect("an address"));
            address
        };
        let mut all = vec![like(0x10), like(0x10), like(0x10), like(0x20), like(0x55)];
        all.extend(PEERS_V6);
        return all;
    }
    let services = [10, 10, 10, 20, 30, 40].map(|host| [203, 0, 113, host]);
    let mut all: Vec<_> = services.map(|host| SocketAddr::from((host, 80))).to_vec();
    all.extend(PEERS);
    all.push(SocketAddr::from(([198, 51, 100, 20], 8080)));
    all
}

fn ends() -> BoxedStrategy<(SocketAddr, SocketAddr)> {
    (client(), any::<Index>())
        .prop_map(|(client, index)| {
            let all = servers(client);
            (client, all[index.index(all.len())])
        })
        .boxed()
}

/// TCP between a client and a server, in either direction.
fn tcp() -> BoxedStrategy<Packet> {
    let flags = select(vec![SYN, SYN, SYN | ACK, SYN | ACK, ACK, PSH | ACK, FIN | ACK, RST]);
    let data = prop_oneof![
        30 => Just(Vec::new()),
        9 => vec(any::<u8>(), 0..50),
        1 => (1200usize..1500).prop_map(|length| vec![9; length]),
    ];
    let parts =
        (ends(), flags, select(ISNS.to_vec()), options(), data, any::<[bool; 2]>(), 0usize..3);
    parts
        .prop_map(|((client, server), flags, isn, options, payload, [outbound, df], ip_options)| {
            let to_server = flags == SYN || flags & SYN == 0 && outbound;
            let (from, to) = if to_server { (client, server) } else { (server, client) };
            let mut packet = Packet::new(from, to, flags);
            packet.sequence = isn;
            packet.acknowledgement = isn.wrapping_add(1);
            packet.dont_fragment = df || packet.is_v6();
            // Mostly none.
            packet.ip_options = ip_options / 2;
            (packet.options, packet.payload) = (options, payload);
            packet
        })
        .boxed()
}

/// A tagged SYN.
fn start() -> BoxedStrategy<Packet> {
    let data = prop_oneof![4 => Just(Vec::new()), 1 => vec(any::<u8>(), 0..50)];
    let checksums = (proptest::bool::weighted(0.95), proptest::bool::weighted(0.95));
    let code = select(vec![Configuration::A, Configuration::B, Configuration::C]);
    let tag = prop_oneof![
        2 => unsigned_tag().prop_map(Ok),
        1 => code.prop_map(Err),
    ];
    (ends(), tag, data, checksums)
        .prop_map(|((client, server), tag, payload, checksums)| {
            let start = match tag {
                Ok(tag) => tagged_start(client, server, &tag),
                Err(code) => signed_start(client, server, code),
            };
            let (ip_checksum, tcp_checksum) = (checksums.0 || start.is_v6(), checksums.1);
            Packet { payload, ip_checksum, tcp_checksum, ..start }
        })
        .boxed()
}

/// An ICMP error about TCP, plain or tunnelled, in either direction.
fn error() -> BoxedStrategy<Vec<u8>> {
    let kind = select(vec![[3u8, 2], [3, 1], [11, 3], [0, 129], [8, 128]]);
    let quoted = (tcp(), proptest::option::of(select(Format::ALL.to_vec())));
    (quoted, kind, 0usize..=20, any::<bool>())
        .prop_map(|((quoted, format), kind, bytes, near)| {
            let [from, to] = [quoted.from, quoted.to].map(|end| end.ip());
            let (peer, client) = (peers(quoted.from)[4].ip(), quoted.from.ip());
            let tunnel = format.map(|format| Outer::new(format, client, peer, 0));
            let reporter = if near { to } else { router(quoted.from) };
            let kind = kind[usize::from(quoted.is_v6())];
            let error = IcmpError {
                from: reporter,
                to: from,
                kind,
                code: 4,
                mtu: 1400,
                quoted,
                tunnel,
                bytes,
            };
            error.frame()
        })
        .boxed()
}

/// The first or the second fragment of a TCP packet.
fn part() -> BoxedStrategy<Vec<u8>> {
    (ends(), any::<[bool; 2]>(), 0u16..3)
        .prop_map(|((client, server), [outbound, first], id)| {
            let (from, to) = if outbound { (client, server) } else { (server, client) };
            let mut packet = Packet::new(from, to, ACK);
            (packet.id, packet.payload) = (id, vec![0x5a; 21]);
            fragment(&packet, first)
        })
        .boxed()
}

/// An ICMP echo request or reply from a switch to a replica.
fn echo() -> BoxedStrategy<Vec<u8>> {
    (client(), select(vec![[8u8, 128], [0, 129]]), 0usize..40)
        .prop_map(|(client, kind, length)| {
            let (switch, replica) = (peers(client)[0], peers(client)[4]);
            let packet = Packet::new(switch, replica, 0);
            let ends = (switch.ip(), replica.ip());
            let kind = (kind[usize::from(client.is_ipv6())], 0);
            icmp(&packet, ends, kind, 0x0001_0002, &vec![7; length])
        })
        .boxed()
}

/// ARP and neighbour discovery.
fn resolution() -> BoxedStrategy<Vec<u8>> {
    let mac = select(vec![[2, 0, 0, 0, 3, 1], [2, 0, 0, 0, 9, 1]]);
    let hosts = || select(vec![[198, 51, 100, 10], [198, 51, 100, 5], [10, 0, 0, 9]]);
    let six = |number: usize| match number {
        0 => "[2001:db8:30::5]:0".parse().expect("an endpoint"),
        1 => "[2001:db8:10::55]:0".parse().expect("an endpoint"),
        number => PEERS_V6[number],
    };
    let arp = (1u8..3, mac.clone(), hosts(), hosts())
        .prop_map(|(operation, mac, sender, target)| arp(operation, mac, sender, target));
    let nd = (any::<bool>(), mac, 0usize..6, 0usize..6).prop_map(
        move |(advertises, mac, sender, target)| {
            neighbour(advertises, mac, six(sender), six(target))
        },
    );
    prop_oneof![arp, nd].boxed()
}

/// A frame that a role processes, outside tunnels.
fn plain() -> BoxedStrategy<Vec<u8>> {
    let foreign = (tcp(), Foreign::any()).prop_map(|(packet, what)| {
        let bare = Packet { options: Vec::new(), payload: Vec::new(), ..packet };
        what.spoil(&bare).0
    });
    prop_oneof![
        8 => tcp().prop_map(|packet| packet.frame()),
        6 => start().prop_map(|packet| packet.frame()),
        2 => error(),
        2 => part(),
        1 => echo(),
        1 => foreign,
    ]
    .boxed()
}

/// A frame in a tunnel: from a switch, a direct copy, or part of a connection.
fn tunnel() -> BoxedStrategy<Vec<u8>> {
    let format = || select(Format::ALL.to_vec());
    let six = || proptest::bool::weighted(0.4);
    let inner = || {
        prop_oneof![
            4 => start().prop_map(|packet| packet.frame()),
            1 => tcp().prop_map(|packet| packet.frame()),
            1 => echo(),
            1 => plain(),
        ]
    };
    let of_switch = (inner(), six(), 0usize..8, 0usize..6, format()).prop_map(
        |(inner, six, switch, end, format)| {
            let all = if six { &PEERS_V6 } else { &PEERS };
            // Sometimes a peer that is not allowed.
            let switch = if switch == 0 { all[6] } else { all[0] };
            let mut end = all[4 + usize::from(end == 0)];
            if !six && format != Format::Gre {
                end.set_ip([198, 51, 100, 5].into());
            }
            tunnelled(&inner, switch, end, format)
        },
    );
    let of_connection = (tcp(), 0usize..7, format()).prop_map(|(packet, other, format)| {
        let all = peers(packet.from);
        let outbound = CLIENTS.contains(&packet.from);
        let (from, to) = if outbound { (packet.from, all[other]) } else { (all[other], packet.to) };
        tunnelled(&packet.frame(), from, to, format)
    });
    let direct = (start(), 0usize..8, format()).prop_map(|(start, other, format)| {
        let all = peers(start.from);
        // Sometimes not a replica, or not the client itself.
        let to = all[if other == 0 { 6 } else { 4 }];
        let from = if other == 1 { peers(start.from)[6] } else { start.from };
        tunnelled(&start.frame(), from, to, format)
    });
    prop_oneof![3 => of_switch, 2 => of_connection, 1 => direct].boxed()
}

/// A frame that a role processes.
fn base() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![6 => plain(), 4 => tunnel(), 1 => resolution()].boxed()
}

fn carrier() -> impl Strategy<Value = Option<Index>> {
    prop_oneof![6 => Just(None), 1 => any::<Index>().prop_map(Some)]
}

/// Returns frames that arrive on both sides. For each damaged frame, about `sane` are intact.
pub fn fuzzed(sane: u32) -> BoxedStrategy<Vec<Arrival>> {
    let damaged = (base(), vec(Mutation::any(), 1..5)).prop_map(|(frame, mutations)| {
        mutations.iter().fold(frame, |frame, mutation| mutation.apply(frame))
    });
    let noise = vec(any::<u8>(), 0..200);
    let frame = prop_oneof![8 * sane => base(), 7 => damaged, 1 => noise];
    let side = select(vec![Side::Inside, Side::Outside]);
    let wait = prop_oneof![12 => Just(0), 2 => 1u64..100, 1 => 1_000u64..40_000];
    let part = (frame, side, wait, carrier(), proptest::bool::weighted(0.1));
    vec(part, 1..120)
        .prop_map(|parts| {
            let mut at = Duration::from_secs(1);
            let arrival =
                |(frame, side, wait, split, cramped): (Vec<u8>, _, _, Option<Index>, _)| {
                    at += Duration::from_millis(wait);
                    let carrier = match split {
                        Some(first) => Carrier::Split(first.index(frame.len() + 1)),
                        None if cramped && frame.len() <= 128 => Carrier::Cramped,
                        None => Carrier::Whole,
                    };
                    Arrival { at, side, frame, carrier }
                };
            let first = prelude(Duration::from_secs(1));
            first.into_iter().chain(parts.into_iter().map(arrival)).collect()
        })
        .boxed()
}
