//! What belongs to a connection without being one of its whole packets: ICMP errors that quote
//! one, and fragments.

use std::net::Ipv4Addr;

use etherparse::{IpNumber, Ipv4Header};

use super::Packet;

/// Bytes of TCP payload in the first of two fragments.
const FIRST: usize = 16;

/// An ICMP message in the form of an error.
#[derive(Clone, Debug)]
pub struct IcmpError {
    /// Who reports it.
    pub from: Ipv4Addr,
    /// To whom.
    pub to: Ipv4Addr,
    /// ICMP type.
    pub kind: u8,
    /// The packet it quotes.
    pub quoted: Packet,
    /// How many bytes behind the quoted IP header it quotes.
    pub bytes: usize,
}

impl IcmpError {
    /// Whether it is an error, and quotes as much as every router does.
    pub fn is_sound(&self) -> bool {
        matches!(self.kind, 3 | 4 | 5 | 11 | 12) && self.bytes >= 8
    }

    /// The Ethernet frame, in the quoted packet's VLAN.
    pub fn frame(&self) -> Vec<u8> {
        let start = 14 + 4 * self.quoted.vlans.len();
        let quoted = self.quoted.frame();
        let end = start + 20 + self.quoted.ip_options.len() + self.bytes;
        let mut message = [&[self.kind, 4, 0, 0, 0, 0, 5, 0x78], &quoted[start..end]].concat();
        let checksum = sum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let (from, to) = (self.from.octets(), self.to.octets());
        let length = u16::try_from(message.len()).expect("short");
        let mut ip = Ipv4Header::new(length, 60, IpNumber::ICMP, from, to).expect("short");
        ip.header_checksum = ip.calc_header_checksum();
        [&quoted[..start], &ip.to_bytes()[..], &message].concat()
    }
}

/// RFC 1071, word by word.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// The first or the other of the two fragments of a packet that carries more than 16 bytes.
pub fn fragment(packet: &Packet, first: bool) -> Vec<u8> {
    let frame = packet.frame();
    let l3 = 14 + 4 * packet.vlans.len();
    let (mut ip, _) = Ipv4Header::from_slice(&frame[l3..]).expect("an IP header");
    let l4 = l3 + ip.header_len();
    let cut = packet.header_len() + FIRST;
    let payload = if first { &frame[l4..cut] } else { &frame[cut..] };
    ip.dont_fragment = false;
    ip.more_fragments = first;
    let units = if first { 0 } else { (cut - l4) / 8 };
    ip.fragment_offset = u16::try_from(units).expect("short").try_into().expect("short");
    ip.set_payload_len(payload.len()).expect("short");
    ip.header_checksum = ip.calc_header_checksum();
    [&frame[..l3], &ip.to_bytes()[..], payload].concat()
}
