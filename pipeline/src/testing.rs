//! Frames for tests and benchmarks: built plainly, byte by byte, checksums summed afresh.

use std::net::{IpAddr, SocketAddr};

use crate::wire::checksum::Sum;
use crate::wire::family::{Emit, Endpoint, Family, V4, V6, Version};
use crate::wire::tcp::Flags;
use crate::wire::tunnel::{self, Format};
use crate::wire::{ipv4, ipv6, put_u16, put_u32};

/// The MAC address that stands for the client's or server's side.
pub const INSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
/// The MAC address of the router on the WAN side.
pub const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x20];

/// Options of a SYN from Linux: MSS 1460, SACK permitted, timestamps, NOP, window scale 7.
pub const LINUX_OPTIONS: [u8; 20] =
    [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

/// An endpoint from its text, such as "198.18.1.10:40000". Panics when it is none of the family.
pub fn endpoint<F: Family>(text: &str) -> Endpoint<F> {
    let address = socket(text);
    Endpoint::new(F::from_ip(address.ip()).expect("an address of the family"), address.port())
}

/// Address and port from their text.
pub fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

/// A TCP segment to be built, over the family of its addresses.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
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
            from: socket(from),
            to: socket(to),
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
        put_u16(&mut tcp, 0, self.from.port());
        put_u16(&mut tcp, 2, self.to.port());
        put_u32(&mut tcp, 4, self.sequence);
        put_u32(&mut tcp, 8, self.acknowledgement);
        tcp[12] = ((20 + self.options.len()) as u8 / 4) << 4;
        tcp[13] = self.flags;
        put_u16(&mut tcp, 14, 0xfaf0);
        tcp.extend_from_slice(&self.options);
        tcp.extend_from_slice(&self.payload);
        let (from, to) = (self.from.ip(), self.to.ip());
        let checksum = Sum::of(&tcp).plus(pseudo_header(from, to, 6, tcp.len())).checksum();
        put_u16(&mut tcp, 16, checksum);
        ip_packet(from, to, 6, self.traffic_class, &tcp)
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

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Sum {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => V4::pseudo_header(from, to, protocol, length),
        (IpAddr::V6(from), IpAddr::V6(to)) => V6::pseudo_header(from, to, protocol, length),
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// Of the IP packet at the start of these bytes.
fn version(packet: &[u8]) -> Version {
    match packet.first().map_or(4, |byte| byte >> 4) {
        6 => Version::V6,
        _ => Version::V4,
    }
}

/// `inner` in an outer header, IP in IP.
pub fn tunnel(from: &str, to: &str, traffic_class: u8, inner: &[u8]) -> Vec<u8> {
    tunnel_in(Format::Ipip, (from, to), (traffic_class, 0), inner)
}

/// `inner` in a tunnel of this format; `about` is traffic class and entropy.
pub fn tunnel_in(
    format: Format,
    (from, to): (&str, &str),
    (traffic_class, entropy): (u8, u32),
    inner: &[u8],
) -> Vec<u8> {
    let (from, to, version) = (address(from), address(to), version(inner));
    let mut payload = vec![0; format.header()];
    format.emit(&mut payload, version, inner.len(), entropy);
    payload.extend_from_slice(inner);
    if format == Format::Gue && from.is_ipv6() {
        let pseudo = pseudo_header(from, to, tunnel::UDP, payload.len());
        let checksum = Sum::of(&payload).plus(pseudo).checksum();
        put_u16(&mut payload, tunnel::UDP_CHECKSUM, if checksum == 0 { 0xffff } else { checksum });
    }
    let mut packet = ip_packet(from, to, format.protocol(version), traffic_class, &payload);
    if from.is_ipv6() {
        let word = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
        put_u32(&mut packet, 0, word | entropy & 0x000f_ffff);
    }
    packet
}

/// An IP packet, not to be fragmented, with hop limit 64.
pub fn ip_packet(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    traffic_class: u8,
    payload: &[u8],
) -> Vec<u8> {
    fn build<F: Family>(from: IpAddr, to: IpAddr, emit: Emit<()>, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; F::HEADER];
        let own = |address| F::from_ip(address).expect("both addresses of one family");
        let Emit { traffic_class, protocol, .. } = emit;
        let length = F::HEADER + payload.len();
        let (from, to) = (own(from), own(to));
        F::emit(&mut packet, Emit { traffic_class, length, protocol, from, to, flow_label: 0 });
        packet.extend_from_slice(payload);
        packet
    }
    let emit = Emit { traffic_class, length: 0, protocol, from: (), to: (), flow_label: 0 };
    match from {
        IpAddr::V4(_) => build::<V4>(from, to, emit, payload),
        IpAddr::V6(_) => build::<V6>(from, to, emit, payload),
    }
}

/// An Ethernet frame of an IP packet; `macs` are destination and source.
pub fn ethernet_frame(macs: ([u8; 6], [u8; 6]), packet: &[u8]) -> Vec<u8> {
    let ethertype = version(packet).ethertype().to_be_bytes();
    [&macs.0[..], &macs.1[..], &ethertype, packet].concat()
}

/// The Ethernet frame of an ICMP error, with 1400 in its last word, that quotes these bytes of
/// a packet. Of the family of its addresses.
pub fn icmp_error(from: &str, to: &str, kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    let (from, to) = (address(from), address(to));
    let mut message = vec![kind, code, 0, 0, 0, 0, 0x05, 0x78];
    message.extend_from_slice(quoted);
    let (protocol, pseudo) = match from {
        IpAddr::V4(_) => (ipv4::ICMP, Sum::default()),
        IpAddr::V6(_) => (ipv6::ICMP, pseudo_header(from, to, ipv6::ICMP, message.len())),
    };
    let checksum = Sum::of(&message).plus(pseudo).checksum();
    put_u16(&mut message, 2, checksum);
    let packet = ip_packet(from, to, protocol, 0, &message);
    ethernet_frame((INSIDE_MAC, OUTSIDE_MAC), &packet)
}
