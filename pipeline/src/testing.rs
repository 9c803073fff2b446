//! Frames for tests and benchmarks: built plainly, byte by byte, checksums summed afresh.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::family::{Endpoint, V4};
use crate::wire::checksum::Sum;
use crate::wire::tcp::Flags;
use crate::wire::{ipv4, put_u16, put_u32};

/// The MAC address that stands for the client's or server's side.
pub const INSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
/// The MAC address of the router on the WAN side.
pub const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x20];

/// Options of a SYN from Linux: MSS 1460, SACK permitted, timestamps, NOP, window scale 7.
pub const LINUX_OPTIONS: [u8; 20] =
    [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

/// An IPv4 endpoint from its text, such as "198.18.1.10:40000". Panics when it is none.
pub fn endpoint(text: &str) -> Endpoint<V4> {
    let address: SocketAddrV4 = text.parse().expect("an IPv4 address and port");
    Endpoint::new(*address.ip(), address.port())
}

/// A TCP segment over IPv4 to be built.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Sender.
    pub from: Endpoint<V4>,
    /// Receiver.
    pub to: Endpoint<V4>,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Control bits.
    pub flags: u8,
    /// Option area, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// Data.
    pub payload: Vec<u8>,
    /// Ethernet destination and source.
    pub macs: ([u8; 6], [u8; 6]),
    /// DSCP and ECN.
    pub traffic_class: u8,
}

impl Segment {
    /// A segment with these control bits and neither options nor data.
    pub fn new(from: &str, to: &str, flags: u8, sequence: u32, acknowledgement: u32) -> Self {
        Self {
            from: endpoint(from),
            to: endpoint(to),
            sequence,
            acknowledgement,
            flags,
            options: Vec::new(),
            payload: Vec::new(),
            macs: (OUTSIDE_MAC, INSIDE_MAC),
            traffic_class: 0,
        }
    }

    /// A SYN as Linux sends it.
    pub fn syn(from: &str, to: &str, sequence: u32) -> Self {
        Self::new(from, to, Flags::SYN, sequence, 0).options(&LINUX_OPTIONS)
    }

    /// A SYN/ACK as Linux sends it.
    pub fn syn_ack(from: &str, to: &str, sequence: u32, acknowledgement: u32) -> Self {
        Self::new(from, to, Flags::SYN | Flags::ACK, sequence, acknowledgement)
            .options(&LINUX_OPTIONS)
            .inbound()
    }

    /// A bare ACK.
    pub fn ack(from: &str, to: &str, sequence: u32, acknowledgement: u32) -> Self {
        Self::new(from, to, Flags::ACK, sequence, acknowledgement)
    }

    /// These options instead.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// This data.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// This traffic class.
    #[must_use]
    pub fn traffic_class(mut self, value: u8) -> Self {
        self.traffic_class = value;
        self
    }

    /// From the WAN: the router's MAC address is the source.
    #[must_use]
    pub fn inbound(mut self) -> Self {
        self.macs = (INSIDE_MAC, OUTSIDE_MAC);
        self
    }

    /// The IP packet.
    pub fn packet(&self) -> Vec<u8> {
        let mut tcp = vec![0; 20];
        put_u16(&mut tcp, 0, self.from.port);
        put_u16(&mut tcp, 2, self.to.port);
        put_u32(&mut tcp, 4, self.sequence);
        put_u32(&mut tcp, 8, self.acknowledgement);
        tcp[12] = ((20 + self.options.len()) as u8 / 4) << 4;
        tcp[13] = self.flags;
        put_u16(&mut tcp, 14, 0xfaf0);
        tcp.extend_from_slice(&self.options);
        tcp.extend_from_slice(&self.payload);
        let pseudo = ipv4::pseudo_header(self.from.address, self.to.address, 6, tcp.len() as u16);
        let checksum = Sum::of(&tcp).plus(pseudo).checksum();
        put_u16(&mut tcp, 16, checksum);
        ip_packet(self.from.address, self.to.address, 6, self.traffic_class, &tcp)
    }

    /// The Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        ethernet_frame(self.macs, &self.packet())
    }

    /// The Ethernet frame of this packet in an IPIP tunnel.
    pub fn tunnelled(&self, from: &str, to: &str) -> Vec<u8> {
        ethernet_frame(self.macs, &tunnel(from, to, self.traffic_class, &self.packet()))
    }
}

/// `inner` in an outer IPv4 header.
pub fn tunnel(from: &str, to: &str, traffic_class: u8, inner: &[u8]) -> Vec<u8> {
    let address = |text: &str| text.parse().expect("an IPv4 address");
    ip_packet(address(from), address(to), 4, traffic_class, inner)
}

/// An IPv4 packet with DF set and TTL 64.
pub fn ip_packet(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    traffic_class: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0; ipv4::HEADER];
    let total_length = (ipv4::HEADER + payload.len()) as u16;
    ipv4::Header { traffic_class, total_length, ttl: 64, protocol, source, destination }
        .emit(&mut packet);
    packet.extend_from_slice(payload);
    packet
}

/// An Ethernet frame of an IPv4 packet; `macs` are destination and source.
pub fn ethernet_frame(macs: ([u8; 6], [u8; 6]), packet: &[u8]) -> Vec<u8> {
    [&macs.0[..], &macs.1[..], &[0x08, 0x00], packet].concat()
}

/// The Ethernet frame of an ICMP error that quotes these bytes of a packet.
pub fn icmp_error(from: &str, to: &str, kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0x05, 0x78];
    message.extend_from_slice(quoted);
    let checksum = Sum::of(&message).checksum();
    put_u16(&mut message, 2, checksum);
    let address = |text: &str| text.parse().expect("an IPv4 address");
    let packet = ip_packet(address(from), address(to), ipv4::ICMP, 0, &message);
    ethernet_frame((INSIDE_MAC, OUTSIDE_MAC), &packet)
}
