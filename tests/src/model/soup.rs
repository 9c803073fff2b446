//! Frames as an open network sends them: whole ones that the roles have a part in, and the same
//! cut, bent, wrapped and split.

use std::net::SocketAddr;
use std::time::Duration;

use etherparse::{IpNumber, Ipv4Header};
use pipeline::view::Side;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::frames::options;
use super::packet::{ACK, FIN, PSH, Packet, RST, SYN};
use super::{Arrival, CLIENTS, Carrier, ISNS, PEERS};

/// Where the IP header stands in a frame without VLAN tags.
const L3: usize = 14;

/// The frame's IP packet, or what stands in its place, in an outer IPv4 header. A frame without
/// an Ethernet header stays as it is.
pub fn tunnelled(frame: &[u8], from: [u8; 4], to: [u8; 4], protocol: u8) -> Vec<u8> {
    let Some((ethernet, inner)) = frame.split_at_checked(L3) else { return frame.to_vec() };
    let length = u16::try_from(inner.len()).expect("short frames");
    let mut outer =
        Ipv4Header::new(length, 64, IpNumber(protocol), from, to).expect("short frames");
    outer.header_checksum = outer.calc_header_checksum();
    [ethernet, &outer.to_bytes()[..], inner].concat()
}

/// An ARP packet for IPv4.
pub fn arp(operation: u8, mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head = [0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, operation];
    [&[2, 0, 0, 0, 9, 1][..], &mac, &head, &mac, &sender, &[0; 6], &target].concat()
}

/// A start packet with a tag of these bytes.
pub fn tagged_start(from: SocketAddr, to: SocketAddr, tag: &[u8]) -> Packet {
    let mut packet = Packet::new(from, to, SYN);
    packet.options = [&[2, 4, 5, 0xb4][..], tag].concat();
    packet.options.resize(packet.options.len().next_multiple_of(4), 1);
    packet.sequence = ISNS[2];
    packet
}

fn tag() -> impl Strategy<Value = Vec<u8>> {
    let signed = |flags| [&[253, 14, 0x4e, 0x52, flags, 3][..], &[7; 8]].concat();
    let unsigned = |flags| vec![253, 5, 0x4e, 0x52, flags];
    prop_oneof![
        6 => Just(unsigned(0x01)),
        2 => select(vec![0x00, 0x03, 0x05, 0x07, 0x79]).prop_map(unsigned),
        2 => select(vec![0x81, 0x80, 0x85]).prop_map(signed),
        1 => select(vec![0x81]).prop_map(unsigned),
        1 => select(vec![0x01]).prop_map(signed),
    ]
}

fn client() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![2 => select(CLIENTS[..3].to_vec()), 1 => select(CLIENTS[..12].to_vec())]
}

/// Servers and replicas that any of the three roles knows, and strangers.
fn server() -> impl Strategy<Value = SocketAddr> {
    let services = [10, 10, 10, 20, 30, 40].map(|host| [203, 0, 113, host]);
    let mut all: Vec<_> = services.map(|host| SocketAddr::new(host.into(), 80)).to_vec();
    all.extend(PEERS);
    all.push(SocketAddr::from(([198, 51, 100, 20], 8080)));
    select(all)
}

/// TCP between a client and a server, either way.
fn tcp() -> impl Strategy<Value = Packet> {
    let flags = select(vec![SYN, SYN, SYN | ACK, SYN | ACK, ACK, PSH | ACK, FIN | ACK, RST]);
    let data = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<u8>(), 0..50)];
    let parts = (client(), server(), flags, select(ISNS.to_vec()), options(), data, any::<bool>());
    parts.prop_map(|(client, server, flags, isn, options, payload, outbound)| {
        let to_server = flags == SYN || flags & SYN == 0 && outbound;
        let (from, to) = if to_server { (client, server) } else { (server, client) };
        let mut packet = Packet::new(from, to, flags);
        packet.sequence = isn;
        packet.acknowledgement = isn.wrapping_add(1);
        (packet.options, packet.payload) = (options, payload);
        packet
    })
}

/// A frame that a role has a part in.
fn base() -> impl Strategy<Value = Vec<u8>> {
    let start = || {
        let data = prop_oneof![4 => Just(Vec::new()), 1 => vec(any::<u8>(), 0..50)];
        let checksums = (proptest::bool::weighted(0.95), proptest::bool::weighted(0.95));
        let parts = (client(), server(), tag(), data, checksums);
        parts.prop_map(|(client, server, tag, payload, (ip_checksum, tcp_checksum))| {
            let start = tagged_start(client, server, &tag);
            Packet { payload, ip_checksum, tcp_checksum, ..start }.frame()
        })
    };
    let switches = vec![[203, 0, 113, 10], [203, 0, 113, 10], [198, 18, 99, 1]];
    let ends = vec![[198, 51, 100, 10], [198, 51, 100, 5], [198, 51, 100, 99]];
    let protocol = prop_oneof![8 => Just(4u8), 1 => Just(41u8)];
    let inner = prop_oneof![4 => start().boxed(), 1 => tcp().prop_map(|p| p.frame()).boxed()];
    let tunnel = (inner, select(switches), select(ends), protocol)
        .prop_map(|(inner, from, to, protocol)| tunnelled(&inner, from, to, protocol));
    let mac = select(vec![[2, 0, 0, 0, 3, 1], [2, 0, 0, 0, 9, 1]]);
    let hosts = || select(vec![[198, 51, 100, 10], [198, 51, 100, 5], [10, 0, 0, 9]]);
    let arp = (1u8..3, mac, hosts(), hosts())
        .prop_map(|(operation, mac, sender, target)| arp(operation, mac, sender, target));
    prop_oneof![4 => tcp().prop_map(|packet| packet.frame()), 3 => start(), 4 => tunnel, 1 => arp]
}

/// What befalls a frame on its way.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// It ends early.
    Truncate(Index),
    /// One byte is another.
    Flip(Index, u8),
    /// It gets a VLAN tag.
    Vlan(u16),
    /// Its IP header gets words of options.
    IpOptions(u8),
    /// Its IP total length is off by so much.
    Length(i8),
    /// It gets bytes behind it.
    Pad(u8),
    /// It gets into a tunnel to the replica.
    Wrap,
    /// Its IP header checksum is made right.
    Mend,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<Index>().prop_map(Mutation::Truncate),
        (any::<Index>(), 1u8..).prop_map(|(at, change)| Mutation::Flip(at, change)),
        select(vec![0x8100, 0x88a8, 0x9100]).prop_map(Mutation::Vlan),
        (1u8..11).prop_map(Mutation::IpOptions),
        any::<i8>().prop_map(Mutation::Length),
        any::<u8>().prop_map(Mutation::Pad),
        Just(Mutation::Wrap),
        Just(Mutation::Mend),
    ]
}

impl Mutation {
    /// The frame after it.
    pub fn apply(&self, mut frame: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Truncate(at) => frame.truncate(at.index(frame.len() + 1)),
            Self::Flip(at, change) if !frame.is_empty() => {
                let at = at.index(frame.len());
                frame[at] ^= change;
            }
            Self::Vlan(ethertype) if frame.len() >= L3 => {
                let [a, b] = ethertype.to_be_bytes();
                frame.splice(12..12, [a, b, 0x60, 5]);
            }
            Self::IpOptions(words) if frame.len() >= L3 + 20 => {
                frame.splice(L3 + 20..L3 + 20, vec![1; 4 * usize::from(*words)]);
                frame[L3] = frame[L3].wrapping_add(*words);
                lengthen(&mut frame, 4 * i16::from(*words));
                mend(&mut frame);
            }
            Self::Length(by) if frame.len() >= L3 + 4 => lengthen(&mut frame, i16::from(*by)),
            Self::Pad(count) => frame.resize(frame.len() + usize::from(*count), 0xee),
            Self::Wrap => {
                frame = tunnelled(&frame, [203, 0, 113, 10], [198, 51, 100, 10], 4);
            }
            Self::Mend => mend(&mut frame),
            Self::Flip(..) | Self::Vlan(_) | Self::IpOptions(_) | Self::Length(_) => {}
        }
        frame
    }
}

fn lengthen(frame: &mut [u8], by: i16) {
    let length = u16::from_be_bytes([frame[L3 + 2], frame[L3 + 3]]).wrapping_add_signed(by);
    frame[L3 + 2..L3 + 4].copy_from_slice(&length.to_be_bytes());
}

fn mend(frame: &mut [u8]) {
    let Some(ip) = frame.get_mut(L3..) else { return };
    if let Ok((header, _)) = Ipv4Header::from_slice(ip) {
        ip[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    }
}

fn carrier() -> impl Strategy<Value = Option<Index>> {
    prop_oneof![6 => Just(None), 1 => any::<Index>().prop_map(Some)]
}

/// Frames that come in by both sides: one part damaged, `sane` parts not.
pub fn soup(sane: u32) -> BoxedStrategy<Vec<Arrival>> {
    let damaged = (base(), vec(mutation(), 1..5)).prop_map(|(frame, mutations)| {
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
            prelude().into_iter().chain(parts.into_iter().map(arrival)).collect()
        })
        .boxed()
}

/// At the soup's first moment: three races at a gateway, one of which a replica wins and one the
/// origin; copies of start packets for a replica.
fn prelude() -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    let mut add = |side, frame| {
        let (at, carrier) = (Duration::from_secs(1), Carrier::Whole);
        arrivals.push(Arrival { at, side, frame, carrier });
    };
    for client in &CLIENTS[..3] {
        let start = Packet { sequence: ISNS[2], ..Packet::new(*client, PEERS[0], SYN) };
        add(Side::Inside, start.frame());
    }
    for (client, from) in [(CLIENTS[0], PEERS[4]), (CLIENTS[1], PEERS[0])] {
        let mut answer = Packet::new(from, client, SYN | ACK);
        answer.acknowledgement = ISNS[2] + 1;
        add(Side::Outside, answer.frame());
    }
    for (number, client) in CLIENTS[..6].iter().enumerate() {
        let start = tagged_start(*client, PEERS[0], &[253, 5, 0x4e, 0x52, 1]);
        // To the first web server's own address, and to the one that the replica bears.
        let end = if number < 3 { 10 } else { 5 };
        let copy = tunnelled(&start.frame(), [203, 0, 113, 10], [198, 51, 100, end], 4);
        add(Side::Outside, copy);
    }
    arrivals
}

/// One sound frame of each sort, for what is to be tried with every one of them.
pub fn samples() -> Vec<Vec<u8>> {
    let (client, server, replica) = (CLIENTS[0], PEERS[0], PEERS[4]);
    let start = tagged_start(client, server, &[253, 5, 0x4e, 0x52, 1]);
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
    let tunnel =
        |inner: &Packet| tunnelled(&inner.frame(), [203, 0, 113, 10], [198, 51, 100, 10], 4);
    let nested = tunnelled(&tunnel(&start), [203, 0, 113, 10], [198, 51, 100, 10], 4);
    let mut tagged = plain.clone();
    tagged.vlans = vec![(0x88a8, 5), (0x8100, 6)];
    tagged.ip_options = 2;
    vec![
        plain.frame(),
        start.frame(),
        with_data.frame(),
        answer(server).frame(),
        answer(replica).frame(),
        data.frame(),
        Packet { flags: RST, ..data.sent_to(replica) }.frame(),
        tunnel(&start),
        tunnel(&plain),
        tunnel(&with_data),
        nested,
        tagged.frame(),
        arp(1, [2, 0, 0, 0, 3, 1], [10, 0, 0, 9], [198, 51, 100, 5]),
        arp(2, [2, 0, 0, 0, 3, 1], [198, 51, 100, 10], [0, 0, 0, 0]),
    ]
}
