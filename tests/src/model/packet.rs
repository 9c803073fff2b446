//! A TCP packet as fields. The tests' packet builder writes it, and `etherparse` reads it back.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, TcpHeader};
use firstack_packets::{Body, Extension, Frame, Header, Ip, Payload, Tcp, Wrong};

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push the data.
pub const PSH: u8 = 0x08;
/// The acknowledgement number is valid.
pub const ACK: u8 = 0x10;

const VLAN_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// The byte that IP options consist of: NOP in IPv4, Pad1 in IPv6.
const FILLER: [u8; 2] = [1, 0];

/// A TCP packet over IP over Ethernet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Ethernet destination and source.
    pub macs: ([u8; 6], [u8; 6]),
    /// EtherType and value of each VLAN tag.
    pub vlans: Vec<(u16, u16)>,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// IP identification, in IPv6 also the flow label.
    pub id: u16,
    /// IP DF; always set in IPv6.
    pub dont_fragment: bool,
    /// IP time to live, or hop limit.
    pub ttl: u8,
    /// Length of IP options without effect: words of 4 bytes in IPv4, in IPv6 words of 8 bytes of a
    /// hop-by-hop header.
    pub ip_options: usize,
    /// Source address and port.
    pub from: SocketAddr,
    /// Destination address and port, of the same family.
    pub to: SocketAddr,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// The eight control bits.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// TCP option area, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// Data.
    pub payload: Vec<u8>,
    /// Whether the IP header checksum is correct; always `true` in IPv6, which has none.
    pub ip_checksum: bool,
    /// Whether the TCP checksum is correct.
    pub tcp_checksum: bool,
}

impl Packet {
    /// Creates a packet with these fields and correct checksums.
    pub fn new(from: SocketAddr, to: SocketAddr, flags: u8) -> Self {
        Self {
            macs: ([2, 0, 0, 0, 0, 0x20], [2, 0, 0, 0, 0, 0x10]),
            vlans: Vec::new(),
            traffic_class: 0,
            id: 0,
            dont_fragment: true,
            ttl: 64,
            ip_options: 0,
            from,
            to,
            sequence: 0,
            acknowledgement: 0,
            flags,
            window: 0xfaf0,
            options: Vec::new(),
            payload: Vec::new(),
            ip_checksum: true,
            tcp_checksum: true,
        }
    }

    /// Returns whether it is a SYN: without ACK, RST, FIN.
    pub fn is_syn(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    /// Returns whether it is a SYN/ACK: without RST, FIN.
    pub fn is_syn_ack(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN | ACK
    }

    /// Returns whether it is IPv6.
    pub fn is_v6(&self) -> bool {
        self.from.is_ipv6()
    }

    /// Returns the packet from another sender.
    #[must_use]
    pub fn sent_by(&self, from: SocketAddr) -> Self {
        Self { from, ..self.clone() }
    }

    /// Returns the packet to another receiver.
    #[must_use]
    pub fn sent_to(&self, to: SocketAddr) -> Self {
        Self { to, ..self.clone() }
    }

    /// Returns the RST in the receiver's name that ends the connection of this SYN/ACK. Its flow
    /// label is unspecified.
    pub fn reset(&self) -> Self {
        Self {
            macs: (self.macs.1, self.macs.0),
            vlans: self.vlans.clone(),
            sequence: self.acknowledgement,
            window: 0,
            ..Self::new(self.to, self.from, RST)
        }
    }

    /// Returns the offset of the IP header.
    pub fn l3(&self) -> usize {
        14 + 4 * self.vlans.len()
    }

    /// Returns the length of the IP header, options included.
    pub fn ip_header_len(&self) -> usize {
        if self.is_v6() { 40 + 8 * self.ip_options } else { 20 + 4 * self.ip_options }
    }

    /// Returns the offset of the TCP payload.
    pub fn header_len(&self) -> usize {
        self.l3() + self.ip_header_len() + 20 + self.options.len()
    }

    /// Returns the length of the IP packet.
    pub fn ip_len(&self) -> usize {
        self.header_len() - self.l3() + self.payload.len()
    }

    /// Returns the Ethernet frame, without padding.
    pub fn frame(&self) -> Vec<u8> {
        self.ethernet(Body::Ip(self.ip())).bytes()
    }

    /// Returns a frame with this body, and this packet's MAC addresses and VLAN tags.
    pub fn ethernet(&self, body: Body) -> Frame {
        Frame { vlans: self.vlans.clone(), ..Frame::new(self.macs, body) }
    }

    /// Returns the IP packet.
    pub fn ip(&self) -> Ip {
        let ip = Ip::new(self.from.ip(), self.to.ip(), Payload::Tcp(self.tcp()));
        let wrong = Wrong { checksum: !self.ip_checksum, ..Wrong::default() };
        Ip {
            tos: self.traffic_class,
            id: self.id.into(),
            ttl: self.ttl,
            header: self.ip_header(),
            wrong,
            ..ip
        }
    }

    fn ip_header(&self) -> Header {
        if !self.is_v6() {
            let options = vec![FILLER[0]; 4 * self.ip_options];
            return Header::V4 { df: self.dont_fragment, options };
        }
        let mut extensions = Vec::new();
        if let Some(length) = (self.ip_options as u8).checked_sub(1) {
            let mut hop_by_hop = vec![FILLER[1]; 8 * self.ip_options - 1];
            hop_by_hop[0] = length;
            extensions.push(Extension::Other(0, hop_by_hop));
        }
        Header::V6 { flow: self.id.into(), extensions }
    }

    fn tcp(&self) -> Tcp {
        Tcp {
            source: self.from.port(),
            destination: self.to.port(),
            seq: self.sequence,
            ack: self.acknowledgement,
            flags: self.flags,
            window: self.window,
            options: self.options.clone(),
            data: self.payload.clone(),
            bad_checksum: !self.tcp_checksum,
            ..Tcp::default()
        }
    }

    /// Parses a frame. Lengths are checked, checksums verified, padding is ignored.
    pub fn read(frame: &[u8]) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (ethernet, rest) = Ethernet2Header::from_slice(frame).map_err(|e| text(&e))?;
        let (ethertype, vlans, rest) = vlans(ethernet.ether_type, rest)?;
        let blank = SocketAddr::from(([0; 4], 0));
        let mut packet = Self::new(blank, blank, 0);
        packet.macs = (ethernet.destination, ethernet.source);
        packet.vlans = vlans;
        let (ends, segment) = match ethertype {
            EtherType::IPV4 => packet.read_ipv4(rest)?,
            EtherType::IPV6 => packet.read_ipv6(rest)?,
            _ => return Err(format!("EtherType {:#x}", ethertype.0)),
        };
        let (tcp, payload) = TcpHeader::from_slice(segment).map_err(|e| text(&e))?;
        Ok(Self {
            from: SocketAddr::new(ends.0, tcp.source_port),
            to: SocketAddr::new(ends.1, tcp.destination_port),
            sequence: tcp.sequence_number,
            acknowledgement: tcp.acknowledgment_number,
            flags: segment[13],
            window: tcp.window_size,
            options: tcp.options.as_slice().to_vec(),
            payload: payload.to_vec(),
            tcp_checksum: Some(tcp.checksum) == checksum(&tcp, ends, payload),
            ..packet
        })
    }

    fn read_ipv4<'a>(&mut self, bytes: &'a [u8]) -> Result<((IpAddr, IpAddr), &'a [u8]), String> {
        let (ip, behind) = Ipv4Header::from_slice(bytes).map_err(|e| e.to_string())?;
        let length = ip.payload_len().map_err(|e| e.to_string())?;
        let segment = behind.get(..usize::from(length)).ok_or("IP length beyond the frame")?;
        if ip.protocol != IpNumber::TCP || ip.is_fragmenting_payload() {
            return Err("not whole TCP".into());
        }
        if ip.options.iter().any(|byte| *byte != FILLER[0]) {
            return Err("IP options that say something".into());
        }
        self.traffic_class = ip.dscp.value() << 2 | ip.ecn.value();
        (self.id, self.dont_fragment) = (ip.identification, ip.dont_fragment);
        (self.ttl, self.ip_options) = (ip.time_to_live, ip.options.len() / 4);
        self.ip_checksum = ip.header_checksum == ip.calc_header_checksum();
        Ok(((ip.source.into(), ip.destination.into()), segment))
    }

    fn read_ipv6<'a>(&mut self, bytes: &'a [u8]) -> Result<((IpAddr, IpAddr), &'a [u8]), String> {
        let (ip, behind) = Ipv6Header::from_slice(bytes).map_err(|e| e.to_string())?;
        let length = usize::from(ip.payload_length);
        let mut segment = behind.get(..length).ok_or("IP length beyond the frame")?;
        let mut next = ip.next_header;
        if next == IpNumber(0) {
            let [protocol, more, ..] = *segment else { return Err("extension cut off".into()) };
            self.ip_options = usize::from(more) + 1;
            let extension = segment.get(..8 * self.ip_options).ok_or("extension cut off")?;
            if extension[2..].iter().any(|byte| *byte != FILLER[1]) {
                return Err("IP options that say something".into());
            }
            (next, segment) = (IpNumber(protocol), &segment[extension.len()..]);
        }
        if next != IpNumber::TCP {
            return Err("not whole TCP".into());
        }
        self.traffic_class = ip.traffic_class;
        (self.id, self.ttl) = (ip.flow_label.value() as u16, ip.hop_limit);
        Ok(((ip.source.into(), ip.destination.into()), segment))
    }
}

/// EtherType, VLAN tags, and the bytes behind them.
pub(super) type Tagged<'a> = (EtherType, Vec<(u16, u16)>, &'a [u8]);

/// Strips VLAN tags.
pub(super) fn vlans(mut ethertype: EtherType, mut rest: &[u8]) -> Result<Tagged<'_>, String> {
    let mut vlans = Vec::new();
    while VLAN_TAGS.contains(&ethertype.0) {
        let [a, b, c, d, ..] = *rest else { return Err("VLAN tag cut off".into()) };
        vlans.push((ethertype.0, u16::from_be_bytes([a, b])));
        (ethertype, rest) = (EtherType(u16::from_be_bytes([c, d])), &rest[4..]);
    }
    Ok((ethertype, vlans, rest))
}

fn checksum(tcp: &TcpHeader, ends: (IpAddr, IpAddr), payload: &[u8]) -> Option<u16> {
    match ends {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            tcp.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload).ok()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            tcp.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for (from, to) in [
            ("198.18.1.10:40000", "203.0.113.10:80"),
            ("[2001:db8:1::10]:40000", "[2001:db8:2::10]:80"),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let mut packet = Packet::new(from, to, 0xc0 | SYN | ACK);
            packet.vlans = vec![(0x88a8, 5), (0x8100, 0x6006)];
            (packet.traffic_class, packet.id, packet.ttl) = (0xb9, 77, 3);
            packet.ip_options = 2;
            (packet.sequence, packet.acknowledgement) = (u32::MAX, 0x0102_0304);
            packet.options = vec![2, 4, 5, 0xb4];
            packet.payload = b"odd".to_vec();
            let mut frame = packet.frame();
            frame.extend([0xee; 7]);
            assert_eq!(Packet::read(&frame), Ok(packet.clone()));
            assert_eq!(frame.len(), packet.header_len() + 3 + 7);
            assert_eq!(frame.len(), packet.l3() + packet.ip_len() + 7);
            (packet.ip_checksum, packet.tcp_checksum) = (packet.is_v6(), false);
            assert_eq!(Packet::read(&packet.frame()), Ok(packet.clone()));
            assert!(Packet::read(&frame[..packet.header_len()]).is_err());
        }
    }
}
