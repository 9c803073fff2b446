//! Frames that are nobody's business and leave as they came.

use std::net::Ipv4Addr;

use crate::scenario::notation::parse;
use crate::scenario::{Scenario, Side};

/// Header bytes of a frame of the lines below: Ethernet, IPv4, TCP.
const HEADERS: usize = 54;
/// The lengths of frames that are sent both ways, in bytes, without checksum. 2,048 is a buffer.
const LENGTHS: [usize; 14] =
    [60, 61, 64, 128, 590, 1513, 1514, 1518, 2048, 2049, 4000, 4097, 8192, 9014];

/// A frame, and what it shows.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) what: String,
    pub(super) side: Side,
    pub(super) bytes: Vec<u8>,
}

/// What a port and a card may touch, and must not: by the side that it comes in by.
const LINES: [(&str, Side, &str); 17] = [
    ("ARP", Side::Inside, "arp request host/C > nobody/P pad=18"),
    ("ARP", Side::Outside, "arp request router/P > nobody/C pad=18"),
    ("VLAN", Side::Inside, "C > N ACK seq=1 ack=2 data=50 vlan=5"),
    ("VLAN", Side::Outside, "N > C ACK seq=1 ack=2 data=50 vlan=8100:12287"),
    ("VLAN, full frame", Side::Inside, "C > N ACK seq=1 ack=2 data=1460 vlan=7"),
    ("QinQ", Side::Inside, "C > N ACK seq=1 ack=2 data=50 vlan=88a8:7,8100:5"),
    ("QinQ", Side::Outside, "N > C ACK seq=1 ack=2 data=50 vlan=8100:7,8100:5"),
    ("wrong TCP checksum", Side::Inside, "C > N ACK badtcp seq=1 ack=2 data=30"),
    ("wrong IP checksum", Side::Inside, "C > N badip ACK seq=1 ack=2 data=30"),
    ("wrong UDP checksum", Side::Outside, "N > C udp badudp data=30"),
    ("UDP without checksum", Side::Inside, "C > N udp nosum data=30"),
    ("fragment", Side::Inside, "C > N id=7 mf ACK seq=1 ack=2 data=1236"),
    ("later fragment", Side::Inside, "C > N id=7 frag=1256 proto=6 data=160"),
    ("IPv6", Side::Inside, "C6 > N6 ACK seq=1 ack=2 data=33"),
    ("IPv6", Side::Outside, "N6 > C6 ACK seq=1 ack=2 data=1440"),
    ("IPv6 extension headers", Side::Inside, "C6 > N6 ext=hop,dst ACK seq=1 ack=2 data=33"),
    ("another EtherType", Side::Outside, "ether=88cc data=60"),
];

fn frame(scenario: &Scenario, side: Side, line: &str) -> Result<Vec<u8>, String> {
    let scope = scenario.scope(side.other(), None);
    Ok(parse(line, scope).map_err(|error| format!("{line}: {error}"))?.bytes())
}

/// Returns all frames of at most `longest` bytes.
pub(super) fn plain(scenario: &Scenario, longest: usize) -> Result<Vec<Plain>, String> {
    let mut frames = Vec::new();
    for length in LENGTHS.into_iter().filter(|length| *length <= longest) {
        for (side, ends) in [(Side::Inside, "C > N"), (Side::Outside, "N > C")] {
            let line = format!("{ends} ACK seq=1 ack=2 data={}", length - HEADERS);
            let bytes = frame(scenario, side, &line)?;
            frames.push(Plain { what: format!("{length} bytes"), side, bytes });
        }
    }
    for (what, side, line) in LINES {
        let bytes = frame(scenario, side, line)?;
        frames.push(Plain { what: what.to_owned(), side, bytes });
    }
    Ok(frames)
}

/// Returns packets of so many IPv4 clients, each to and from servers and ports of its own, both ways.
pub(super) fn of_many_clients(scenario: &Scenario, count: u32) -> Result<Vec<Plain>, String> {
    let mut frames = Vec::new();
    for number in 0..count {
        // Odd multiples: neighbouring numbers are not neighbouring addresses and ports.
        let client = Ipv4Addr::from_bits(0x6440_0000 | number.wrapping_mul(40503) & 0x3_ffff);
        let server = Ipv4Addr::from_bits(0x1400_0000 | number.wrapping_mul(2_654_435_761) >> 8);
        let (from, to) = (1024 + number * 7919 % 60_000, 1 + number * 31 % 70);
        for (side, ends) in [
            (Side::Inside, format!("{client}:{from} > {server}:{to}")),
            (Side::Outside, format!("{server}:{to} > {client}:{from}")),
        ] {
            let bytes = frame(scenario, side, &format!("{ends} ACK seq=1 ack=2 data=20"))?;
            frames.push(Plain { what: ends, side, bytes });
        }
    }
    Ok(frames)
}
