//! The one packet builder of firstack's tests and benchmarks.
//!
//! A [`Frame`] is built from its fields. Every length and checksum is computed from the bytes,
//! unless the frame asks for a wrong one. [`Segment`] and its neighbours build common frames in
//! one line.
//!
//! The scenarios, the model, the WAN emulator, the simulation and the benchmarks share this code.
//! It does not depend on the pipeline, whose output it is compared with, and must never do so.

use std::net::Ipv4Addr;

pub mod checksum;
pub mod icmp;
pub mod ip;
mod segment;
pub mod tag;
pub mod transport;
pub mod tunnel;

pub use icmp::{Icmp, Neighbour};
pub use ip::{Extension, Header, Ip, Payload, Wrong};
pub use segment::{
    INSIDE_MAC, LINUX_OPTIONS, OUTSIDE_MAC, Segment, address, ethernet_frame, icmp_error,
    ip_packet, socket, tunnel, tunnel_in,
};
pub use transport::{FLAGS, Sum, Tcp, Udp};
pub use tunnel::{Content, Format, Gre, Gue, Tunnel};

/// A MAC address.
pub type Mac = [u8; 6];

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Destination.
    pub to: Mac,
    /// Source.
    pub from: Mac,
    /// VLAN tags, outer one first: TPID and TCI.
    pub vlans: Vec<(u16, u16)>,
    /// Its payload.
    pub body: Body,
    /// Number of padding bytes behind the packet.
    pub padding: usize,
    /// Length that the frame is cut off at.
    pub cut: Option<usize>,
    /// Bytes overwritten last, by offset in the frame.
    pub patches: Vec<(usize, Vec<u8>)>,
}

/// The payload of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// IPv4 or IPv6, with the EtherType of the family.
    Ip(Ip),
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// Any bytes with this EtherType.
    Other(u16, Vec<u8>),
    /// The whole frame, Ethernet header included.
    Raw(Vec<u8>),
}

/// An ARP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 for a request, 2 for a reply.
    pub operation: u16,
    /// Sender.
    pub sender: (Mac, Ipv4Addr),
    /// Target.
    pub target: (Mac, Ipv4Addr),
}

impl Frame {
    /// Creates a frame without VLAN tags and padding. `macs` are destination and source.
    pub fn new((to, from): (Mac, Mac), body: Body) -> Self {
        let (vlans, patches) = (Vec::new(), Vec::new());
        Self { to, from, vlans, body, padding: 0, cut: None, patches }
    }

    /// Returns the bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let (kind, body) = match &self.body {
            Body::Ip(ip) => (ip_type(ip), ip.bytes()),
            Body::Arp(arp) => (0x0806, arp.bytes()),
            Body::Other(kind, data) => (*kind, data.clone()),
            Body::Raw(data) => (0, data.clone()),
        };
        let mut bytes = Vec::new();
        if !matches!(self.body, Body::Raw(_)) {
            bytes.extend(self.to);
            bytes.extend(self.from);
            for (tpid, tci) in &self.vlans {
                bytes.extend(tpid.to_be_bytes());
                bytes.extend(tci.to_be_bytes());
            }
            bytes.extend(kind.to_be_bytes());
        }
        bytes.extend(body);
        bytes.resize(bytes.len() + self.padding, PADDING);
        if let Some(cut) = self.cut {
            bytes.truncate(cut);
        }
        for (at, patch) in &self.patches {
            bytes[*at..at + patch.len()].copy_from_slice(patch);
        }
        bytes
    }

    /// Returns whether a strict decoder accepts the frame: every field is correct, and the payload
    /// is a real protocol's.
    pub fn is_sound(&self) -> bool {
        let body = match &self.body {
            Body::Ip(ip) => ip.is_sound(),
            Body::Arp(_) => true,
            Body::Other(..) | Body::Raw(_) => false,
        };
        body && self.cut.is_none() && self.patches.is_empty()
    }
}

fn ip_type(ip: &Ip) -> u16 {
    match ip.header {
        Header::V4 { .. } => 0x0800,
        Header::V6 { .. } => 0x86dd,
    }
}

/// The byte that padding consists of. It is not zero, so that misplaced padding is noticed.
pub const PADDING: u8 = 0xee;

impl Arp {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0x08, 0x00, 6, 4];
        bytes.extend(self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            bytes.extend(mac);
            bytes.extend(address.octets());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_checksum_is_that_of_the_textbook_example() {
        let payload = Payload::Other(17, vec![0; 0x73 - 20]);
        let [source, destination] = [[192, 168, 0, 1], [192, 168, 0, 199]].map(Into::into);
        assert_eq!(Ip::new(source, destination, payload).bytes()[10..12], [0xb8, 0x61]);
    }

    #[test]
    fn lengths_follow_the_parts() {
        let tcp = Tcp { options: vec![1; 8], data: vec![7; 3], ..Tcp::default() };
        let [source, destination] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(Into::into);
        let mut ip = Ip::new(source, destination, Payload::Tcp(tcp));
        ip.header = Header::V4 { df: true, options: vec![1; 4] };
        let bytes = ip.bytes();
        assert_eq!((bytes.len(), bytes[0], bytes[3], bytes[24 + 12] >> 4), (55, 0x46, 55, 7));
        let content = Content { packet: Some(Box::new(ip)), ..Content::default() };
        let tunnel = Tunnel { format: Format::Ipip(None), content };
        let outer = Ip::new(source, destination, Payload::Tunnel(tunnel.clone()));
        assert_eq!(outer.bytes()[20..], bytes);
        let [source, destination] = [1u128, 2].map(|bits| std::net::Ipv6Addr::from(bits).into());
        let mut outer = Ip::new(source, destination, Payload::Tunnel(tunnel));
        let wide = outer.bytes();
        assert_eq!((wide.len(), wide[0], wide[5], wide[6], wide[7]), (95, 0x60, 55, 4, 64));
        assert_eq!(wide[40..], bytes);
        outer.piece(16, 39).unwrap();
        assert_eq!(outer.bytes()[48..], bytes[16..]);
        assert_eq!(outer.bytes()[40..44], [4, 0, 0, 16]);
    }
}
