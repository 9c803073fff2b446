//! TCP segments, tunnels and ICMP errors in one line, for tests that need a frame and do not care
//! for every field.

use std::net::{IpAddr, SocketAddr};

use super::{Body, Content, Format, Frame, Header, Icmp, Ip, Mac, Payload, Tcp, Tunnel, icmp};

/// The MAC address of the client's or server's side.
pub const INSIDE_MAC: Mac = [2, 0, 0, 0, 0, 0x10];
/// The MAC address of the router on the WAN side.
pub const OUTSIDE_MAC: Mac = [2, 0, 0, 0, 0, 0x20];

/// Options of a SYN from Linux: MSS 1460, SACK permitted, timestamps, NOP, window scale 7.
pub const LINUX_OPTIONS: [u8; 20] =
    [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// The window of every segment.
const WINDOW: u16 = 0xfaf0;
/// The first dynamic port: the source port of GUE is above it.
const FIRST_DYNAMIC: u16 = 0xc000;

/// Parses an address and a port.
///
/// # Panics
/// When the text is none.
pub fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

/// Parses an address.
///
/// # Panics
/// When the text is none.
pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A TCP segment. Its IP family is that of its addresses.
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
    pub macs: (Mac, Mac),
    /// DSCP and ECN.
    pub traffic_class: u8,
}

impl Segment {
    /// Creates a segment with these control bits, without options and data.
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

    /// Creates a SYN as Linux sends it.
    pub fn syn(from: &str, to: &str, sequence: u32) -> Self {
        Self::new(from, to, SYN, sequence, 0).options(&LINUX_OPTIONS)
    }

    /// Creates a SYN/ACK as Linux sends it, from the WAN.
    pub fn syn_ack(from: &str, to: &str, sequence: u32, acknowledgement: u32) -> Self {
        let segment = Self::new(from, to, SYN | ACK, sequence, acknowledgement);
        segment.options(&LINUX_OPTIONS).inbound()
    }

    /// Creates an ACK.
    pub fn ack(from: &str, to: &str, sequence: u32, acknowledgement: u32) -> Self {
        Self::new(from, to, ACK, sequence, acknowledgement)
    }

    /// Replaces the options.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// Replaces the data.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// Replaces the traffic class.
    #[must_use]
    pub fn traffic_class(mut self, value: u8) -> Self {
        self.traffic_class = value;
        self
    }

    /// Sends it from the WAN: the router's MAC address is the source.
    #[must_use]
    pub fn inbound(mut self) -> Self {
        self.macs = (INSIDE_MAC, OUTSIDE_MAC);
        self
    }

    /// Returns the IP packet.
    pub fn ip(&self) -> Ip {
        let tcp = Tcp {
            source: self.from.port(),
            destination: self.to.port(),
            seq: self.sequence,
            ack: self.acknowledgement,
            flags: self.flags,
            window: WINDOW,
            options: self.options.clone(),
            data: self.payload.clone(),
            ..Tcp::default()
        };
        let ip = Ip::new(self.from.ip(), self.to.ip(), Payload::Tcp(tcp));
        Ip { tos: self.traffic_class, ..ip }
    }

    /// Returns the bytes of the IP packet.
    pub fn packet(&self) -> Vec<u8> {
        self.ip().bytes()
    }

    /// Returns the Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        Frame::new(self.macs, Body::Ip(self.ip())).bytes()
    }

    /// Returns the Ethernet frame of this packet in an IP-in-IP tunnel.
    pub fn tunnelled(&self, from: &str, to: &str) -> Vec<u8> {
        ethernet_frame(self.macs, &tunnel(from, to, self.traffic_class, &self.packet()))
    }
}

/// Returns an IP packet that is not to be fragmented, with hop limit 64.
pub fn ip_packet(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    traffic_class: u8,
    payload: &[u8],
) -> Vec<u8> {
    let ip = Ip::new(from, to, Payload::Other(protocol, payload.to_vec()));
    Ip { tos: traffic_class, ..ip }.bytes()
}

/// Returns the Ethernet frame of an IP packet. `macs` are destination and source.
pub fn ethernet_frame(macs: (Mac, Mac), packet: &[u8]) -> Vec<u8> {
    let is_v6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
    let ethertype = if is_v6 { 0x86dd } else { 0x0800 };
    Frame::new(macs, Body::Other(ethertype, packet.to_vec())).bytes()
}

/// Returns the packet `inner` in an IP-in-IP tunnel.
pub fn tunnel(from: &str, to: &str, traffic_class: u8, inner: &[u8]) -> Vec<u8> {
    tunnel_in(Format::IPIP, (from, to), (traffic_class, 0), inner)
}

/// Returns the packet `inner` in a tunnel of this format. `entropy` selects the source port of
/// GUE and the flow label of IPv6.
pub fn tunnel_in(
    mut format: Format,
    (from, to): (&str, &str),
    (traffic_class, entropy): (u8, u32),
    inner: &[u8],
) -> Vec<u8> {
    if let Format::Gue(gue) = &mut format {
        gue.udp.source = FIRST_DYNAMIC | entropy as u16;
    }
    let content = Content { data: inner.to_vec(), ..Content::default() };
    let payload = Payload::Tunnel(Tunnel { format, content });
    let mut outer = Ip { tos: traffic_class, ..Ip::new(address(from), address(to), payload) };
    if let Header::V6 { flow, .. } = &mut outer.header {
        *flow = entropy & 0x000f_ffff;
    }
    outer.bytes()
}

/// Returns the Ethernet frame of an ICMP error, with 1400 in its second word, that quotes these
/// bytes of a packet. Its family is that of its addresses.
pub fn icmp_error(from: &str, to: &str, kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    let (from, to) = (address(from), address(to));
    let protocol = if from.is_ipv6() { icmp::V6 } else { icmp::V4 };
    let content = Content { data: quoted.to_vec(), ..Content::default() };
    let message = Icmp { protocol, kind, code, word: 1400, content, bad_checksum: false };
    let ip = Ip::new(from, to, Payload::Icmp(message));
    Frame::new((INSIDE_MAC, OUTSIDE_MAC), Body::Ip(ip)).bytes()
}
