//! The frame of a record. Each byte is one decision:
//!
//! ```text
//! 0 kind, side   1 client      2 peer      3 flags or subkind   4 numbers   5 options
//! 6 data         7 dress       8 tunnel    9 pause              10, 11 mutation
//! ```

use std::net::{IpAddr, SocketAddr};

use firstack_tests::model::corpus::{
    arp, neighbour, samples, servers, signed_start, tagged_start, tunnelled,
};
use firstack_tests::model::related::{IcmpError, fragment, icmp};
use firstack_tests::model::{
    ACK, CLIENTS, FIN, FIRST_V6, ISNS, Outer, PSH, Packet, RST, SYN, router,
};
use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::wire::tunnel::Format;

const FLAGS: [u8; 16] = [
    ACK,
    PSH | ACK,
    SYN,
    SYN | ACK,
    FIN | ACK,
    RST,
    RST | ACK,
    FIN | PSH | ACK,
    SYN | 0xc0,
    SYN | ACK | 0x40,
    ACK,
    ACK | 0x80,
    SYN | FIN,
    SYN | RST,
    0,
    0xff,
];
const DATA: [usize; 16] = [0, 0, 0, 0, 1, 5, 20, 60, 300, 536, 1199, 1200, 1220, 1240, 1400, 1460];
/// Small numbers, the ISNs and what follows them.
const NUMBERS: [u32; 16] = [
    ISNS[2],
    ISNS[2] + 1,
    ISNS[1],
    ISNS[1] + 1,
    ISNS[0],
    ISNS[0].wrapping_add(1),
    ISNS[2] + 2,
    ISNS[2] + 1461,
    0x1234_5678,
    0x1234_5679,
    5000,
    5001,
    0x8000_0000,
    ISNS[2] - 1,
    1,
    u32::MAX - 1,
];
const OPTIONS: [&[u8]; 24] = [
    &[],
    &[2, 4, 5, 0xb4],
    &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
    &[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 1],
    &[2, 4, 0xff, 0xff],
    &[1, 2, 4, 5, 0xb4, 1, 1, 1],
    &[253, 5, 0x4e, 0x52, 1, 1, 1, 1],
    &[253, 5, 0x4e, 0x52, 3, 1, 1, 1],
    &[253, 5, 0x4e, 0x52, 5, 1, 1, 1],
    &[253, 5, 0x4e, 0x52, 9, 0, 0, 0],
    &[253, 5, 0x4e, 0x52, 7, 1, 1, 1],
    &[253, 14, 0x4e, 0x52, 0x81, 3, 7, 7, 7, 7, 7, 7, 7, 7, 1, 1],
    &[253, 14, 0x4e, 0x52, 0x85, 9, 7, 7, 7, 7, 7, 7, 7, 7, 1, 1],
    &[19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
    &[29, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[34, 2, 1, 1],
    &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1],
    &[30, 12, 0x10, 1, 0, 0, 0, 7, 0, 0, 0, 1],
    &[30, 12, 0, 0x81, 0, 0, 0, 7, 0, 0, 0, 1],
    &[5, 10, 0, 0, 0, 1, 0, 0, 0, 9, 1, 1],
    &[254, 0, 1, 1],
    &[8, 60, 0, 0],
    &[1; 40],
    &[
        2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7, 254, 16, 1, 2, 3, 4, 5, 6,
        7, 8, 9, 0, 1, 2, 3, 4, 1, 1, 1, 0,
    ],
];
const MACS: [[u8; 6]; 4] = [[2, 0, 0, 0, 3, 1], [2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 1, 1], [0xff; 6]];

fn of<T: Copy>(all: &[T], byte: u8) -> T {
    all[usize::from(byte) % all.len()]
}

/// Returns the frame of a record and the side that it comes from; `sent` are frames of the role.
pub(super) fn frame(record: &[u8; 12], sent: &[(Side, Vec<u8>)]) -> (Side, Vec<u8>) {
    let side = if record[0] & 0x80 == 0 { Side::Inside } else { Side::Outside };
    let client = match record[1] {
        few @ 0..=179 => of(&[0, 1, 2, FIRST_V6, FIRST_V6 + 1, FIRST_V6 + 2], few),
        any => usize::from(any) % CLIENTS.len(),
    };
    let client = CLIENTS[client];
    let all = servers(client);
    let peer = of(&all, record[2]);
    let packet = || segment(record, client, peer);
    let bare = match record[0] & 0x1f {
        0..=6 => packet().frame(),
        // A SYN, with whatever options.
        7..=9 => {
            let data = if record[6] & 0x80 == 0 { 0 } else { DATA[usize::from(record[6] & 15)] };
            let payload = vec![0x5a; data];
            dressed(
                Packet { flags: SYN | record[3] & 0xc0, payload, ..towards(record, client, peer) },
                record,
            )
            .frame()
        }
        10 => dressed(tagged_start(client, peer, of(&OPTIONS[6..13], record[5])), record).frame(),
        11 | 12 => {
            let code = of(&[Configuration::A, Configuration::B, Configuration::C], record[5]);
            dressed(signed_start(client, peer, code), record).frame()
        }
        // What a server answers.
        13..=15 => {
            let mut answer = Packet::new(peer, client, SYN | ACK | record[3] & 0x40);
            answer.acknowledgement = of(&NUMBERS, record[4]).wrapping_add(1);
            answer.sequence = of(&NUMBERS, record[4] >> 4);
            answer.options = OPTIONS[usize::from(record[5]) % 6].to_vec();
            dressed(answer, record).frame()
        }
        16 | 17 => error(record, &packet(), None),
        18 => {
            let outer = Outer::new(format(record), client.ip(), peer.ip(), 0);
            error(record, &packet(), Some(outer))
        }
        19 | 20 => {
            let mut packet = packet();
            packet.id = u16::from(record[4] & 3);
            packet.payload = vec![0x5a; if record[6] & 1 == 0 { 30 } else { 1400 }];
            packet.options.clear();
            fragment(&packet, record[3] & 1 == 0)
        }
        21 => {
            let kinds = if client.is_ipv6() { [128, 129, 135] } else { [8, 0, 13] };
            let kind = (of(&kinds, record[3]), 0);
            let (from, to) = (peer.ip(), servers(client)[usize::from(record[4]) % all.len()].ip());
            let word = 0x0001_0000 + u32::from(record[5] & 3);
            icmp(&packet(), (from, to), kind, word, &vec![7; usize::from(record[6] & 63)])
        }
        22 => resolution(record, client, peer),
        23 => of_samples(record[1]),
        _ => return again(record, side, sent).unwrap_or_else(|| (side, packet().frame())),
    };
    (side, tunnel(record, client, peer, bare))
}

/// Returns the frame, mostly as it is, or in a tunnel.
fn tunnel(record: &[u8; 12], client: SocketAddr, peer: SocketAddr, frame: Vec<u8>) -> Vec<u8> {
    let all = servers(client);
    let (server, replica) = (all[5], all[9]);
    let (from, to) = match record[8] {
        0..=127 => return frame,
        // A switch's copy, a gateway's copy and packets, a replica's under B and under C.
        128..=159 => (server, replica),
        160..=183 => (client, replica),
        184..=199 => (all[5], client),
        200..=223 => (peer, client),
        224..=239 => (replica, client),
        other => (of(&all, other), of(&all, record[2].wrapping_add(other))),
    };
    tunnelled(&frame, from, to, format(record))
}

fn format(record: &[u8; 12]) -> Format {
    of(&Format::ALL, record[8])
}

fn towards(record: &[u8; 12], client: SocketAddr, peer: SocketAddr) -> Packet {
    let mut packet = Packet::new(client, peer, 0);
    packet.sequence = of(&NUMBERS, record[4] >> 4);
    packet.options = of(&OPTIONS, record[5]).to_vec();
    packet
}

/// Returns any TCP packet between the two, by the record's side in either direction.
fn segment(record: &[u8; 12], client: SocketAddr, peer: SocketAddr) -> Packet {
    let is_back = (record[0] & 0x80 != 0) != (record[0] & 0x40 != 0);
    let (from, to) = if is_back { (peer, client) } else { (client, peer) };
    let mut packet = Packet { flags: of(&FLAGS, record[3]), ..towards(record, from, to) };
    if packet.flags & SYN == 0 {
        packet.options = of(&OPTIONS[..4], record[5]).to_vec();
    }
    packet.acknowledgement = of(&NUMBERS, record[4]);
    packet.payload = vec![0x5a; of(&DATA, record[6])];
    if is_back {
        packet.macs = (packet.macs.1, packet.macs.0);
    }
    dressed(packet, record)
}

/// Gives a packet header fields that do not decide.
fn dressed(mut packet: Packet, record: &[u8; 12]) -> Packet {
    let dress = record[7];
    if dress & 0x80 != 0 {
        let vlans = [(0x8100, 5), (0x88a8, 0x6006), (0x9100, 7)];
        packet.vlans = vlans[..usize::from(dress & 3)].to_vec();
        packet.ip_options = usize::from(dress >> 2 & 3);
        packet.traffic_class = of(&[0, 0xb8, 1, 3], dress >> 4);
    }
    packet.dont_fragment = dress & 0x40 == 0 || packet.is_v6();
    packet.ttl = if dress & 0x20 == 0 { 64 } else { dress & 3 };
    packet.ip_checksum = packet.is_v6() || record[6] & 0x40 == 0 || record[6] & 0x20 == 0;
    packet.tcp_checksum = record[6] & 0x40 == 0 || record[6] & 0x10 == 0;
    packet
}

fn error(record: &[u8; 12], quoted: &Packet, tunnel: Option<Outer>) -> Vec<u8> {
    let kinds = [[3u8, 2], [3, 1], [11, 3], [12, 4], [4, 1], [5, 137], [0, 129], [8, 128]];
    let kind = of(&kinds, record[3])[usize::from(quoted.is_v6())];
    let near = record[3] & 0x80 == 0;
    let from = if near { router(quoted.from) } else { quoted.to.ip() };
    let (to, mtu) = (quoted.from.ip(), of(&[1400, 1280, 576, 68], record[4]));
    let bytes = usize::from(record[6]) % 21;
    let code = if record[4] & 0x80 == 0 { 4 } else { record[4] & 15 };
    IcmpError { from, to, kind, code, mtu, quoted: quoted.clone(), tunnel, bytes }.frame()
}

fn resolution(record: &[u8; 12], client: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mac = of(&MACS, record[4]);
    let other = of(&servers(client), record[5]);
    match (peer.ip(), other.ip()) {
        (IpAddr::V4(sender), IpAddr::V4(target)) => {
            arp(1 + (record[3] & 1), mac, sender.octets(), target.octets())
        }
        _ => neighbour(record[3] & 1 != 0, mac, peer, other),
    }
}

fn of_samples(number: u8) -> Vec<u8> {
    thread_local! {
        static SAMPLES: Vec<Vec<u8>> = samples();
    }
    SAMPLES.with(|samples| samples[usize::from(number) % samples.len()].clone())
}

/// A frame that the role has sent comes again, is answered, is quoted in an error, or is put into a
/// tunnel.
fn again(record: &[u8; 12], side: Side, sent: &[(Side, Vec<u8>)]) -> Option<(Side, Vec<u8>)> {
    // The latest come first.
    let number = usize::from(record[1]).checked_rem(sent.len())?;
    let (by, frame) = &sent[sent.len() - 1 - number];
    let peeled = Outer::peel(frame).ok().map(|(_, inner, _)| inner);
    let packet = Packet::read(frame).ok().or_else(|| Packet::read(peeled.as_ref()?).ok());
    match record[0] & 0x1f {
        24 => Some((side, frame.clone())),
        25 => Some((*by, frame.clone())),
        26..=28 => {
            let asked = packet?;
            let mut answer = Packet::new(asked.to, asked.from, of(&FLAGS, record[3]));
            answer.macs = (asked.macs.1, asked.macs.0);
            let length = asked.payload.len() as u32 + u32::from(asked.is_syn());
            answer.acknowledgement = asked.sequence.wrapping_add(length);
            answer.sequence = asked.acknowledgement;
            if asked.is_syn() {
                (answer.flags, answer.sequence) = (SYN | ACK, of(&NUMBERS, record[4]));
                answer.options = OPTIONS[usize::from(record[5]) % 6].to_vec();
            }
            answer.payload = vec![0x5a; of(&DATA, record[6])];
            if asked.is_syn() || answer.flags & (RST | SYN) != 0 {
                answer.payload.clear();
            }
            let client = if *by == Side::Outside { asked.from } else { asked.to };
            let answer = dressed(answer, record);
            Some((*by, tunnel(record, client, asked.to, answer.frame())))
        }
        29 => Some((*by, error(record, &packet?, None))),
        _ => {
            let packet = packet?;
            let (from, to) = (packet.from, packet.to);
            Some((side, tunnelled(&packet.frame(), from, to, format(record))))
        }
    }
}
