//! A TCP packet as fields. Bytes are made and read by `etherparse`, not by the pipeline.

use std::net::SocketAddrV4;

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, TcpHeader};

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push the data on.
pub const PSH: u8 = 0x08;
/// The acknowledgement number counts.
pub const ACK: u8 = 0x10;

/// What is laid over a checksum to make it wrong.
const WRONG: u16 = 0x5a5a;
const VLAN_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// A TCP packet over IPv4 over Ethernet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Ethernet destination and source.
    pub macs: ([u8; 6], [u8; 6]),
    /// EtherType and value of each VLAN tag.
    pub vlans: Vec<(u16, u16)>,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// IP identification.
    pub id: u16,
    /// IP DF.
    pub dont_fragment: bool,
    /// IP time to live.
    pub ttl: u8,
    /// IP options, a multiple of 4 bytes.
    pub ip_options: Vec<u8>,
    /// Source address and port.
    pub from: SocketAddrV4,
    /// Destination address and port.
    pub to: SocketAddrV4,
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
    /// Whether the IP header checksum is right.
    pub ip_checksum: bool,
    /// Whether the TCP checksum is right.
    pub tcp_checksum: bool,
}

impl Packet {
    /// A packet with these fields, right checksums and nothing unusual.
    pub fn new(from: SocketAddrV4, to: SocketAddrV4, flags: u8) -> Self {
        Self {
            macs: ([2, 0, 0, 0, 0, 0x20], [2, 0, 0, 0, 0, 0x10]),
            vlans: Vec::new(),
            traffic_class: 0,
            id: 0,
            dont_fragment: true,
            ttl: 64,
            ip_options: Vec::new(),
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

    /// SYN without ACK, RST, FIN.
    pub fn is_start(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    /// SYN and ACK without RST, FIN.
    pub fn is_acknowledgement(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN | ACK
    }

    /// The same from another sender.
    #[must_use]
    pub fn sent_by(&self, from: SocketAddrV4) -> Self {
        Self { from, ..self.clone() }
    }

    /// The same to another receiver.
    #[must_use]
    pub fn sent_to(&self, to: SocketAddrV4) -> Self {
        Self { to, ..self.clone() }
    }

    /// The reset, as from the receiver, that ends what this acknowledgement opened.
    pub fn reset(&self) -> Self {
        Self {
            macs: (self.macs.1, self.macs.0),
            vlans: self.vlans.clone(),
            sequence: self.acknowledgement,
            window: 0,
            ..Self::new(self.to, self.from, RST)
        }
    }

    /// Bytes in front of the TCP payload.
    pub fn header_len(&self) -> usize {
        14 + 4 * self.vlans.len() + 20 + self.ip_options.len() + 20 + self.options.len()
    }

    /// The Ethernet frame, without padding.
    pub fn frame(&self) -> Vec<u8> {
        let mut ip = Ipv4Header {
            dscp: (self.traffic_class >> 2).try_into().expect("six bits"),
            ecn: (self.traffic_class & 3).try_into().expect("two bits"),
            identification: self.id,
            dont_fragment: self.dont_fragment,
            time_to_live: self.ttl,
            protocol: IpNumber::TCP,
            source: self.from.ip().octets(),
            destination: self.to.ip().octets(),
            options: self.ip_options[..].try_into().expect("whole words of IP options"),
            ..Ipv4Header::default()
        };
        let tcp = self.tcp_header(&ip);
        ip.set_payload_len(tcp.header_len() + self.payload.len()).expect("fits IPv4");
        ip.header_checksum = ip.calc_header_checksum() ^ wrong(self.ip_checksum);
        let mut frame = [&self.macs.0[..], &self.macs.1[..]].concat();
        for (ethertype, value) in &self.vlans {
            frame.extend(ethertype.to_be_bytes());
            frame.extend(value.to_be_bytes());
        }
        frame.extend([0x08, 0x00]);
        frame.extend(ip.to_bytes());
        frame.extend(tcp.to_bytes());
        frame.extend(&self.payload);
        frame
    }

    fn tcp_header(&self, ip: &Ipv4Header) -> TcpHeader {
        let bit = |number: u8| self.flags & 1 << number != 0;
        let mut tcp = TcpHeader::new(self.from.port(), self.to.port(), self.sequence, self.window);
        [tcp.fin, tcp.syn, tcp.rst, tcp.psh] = [bit(0), bit(1), bit(2), bit(3)];
        [tcp.ack, tcp.urg, tcp.ece, tcp.cwr] = [bit(4), bit(5), bit(6), bit(7)];
        tcp.acknowledgment_number = self.acknowledgement;
        tcp.set_options_raw(&self.options).expect("at most 40 bytes of TCP options");
        let checksum = tcp.calc_checksum_ipv4(ip, &self.payload).expect("fits IPv4");
        tcp.checksum = checksum ^ wrong(self.tcp_checksum);
        tcp
    }

    /// Reads a frame back: lengths checked, checksums judged, padding left out.
    pub fn read(frame: &[u8]) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (ethernet, mut rest) = Ethernet2Header::from_slice(frame).map_err(|e| text(&e))?;
        let mut ethertype = ethernet.ether_type;
        let mut vlans = Vec::new();
        while VLAN_TAGS.contains(&ethertype.0) {
            let [a, b, c, d, ..] = *rest else { return Err("VLAN tag cut off".into()) };
            vlans.push((ethertype.0, u16::from_be_bytes([a, b])));
            (ethertype, rest) = (EtherType(u16::from_be_bytes([c, d])), &rest[4..]);
        }
        if ethertype != EtherType::IPV4 {
            return Err(format!("EtherType {:#x}", ethertype.0));
        }
        let (ip, behind) = Ipv4Header::from_slice(rest).map_err(|e| text(&e))?;
        let length = ip.payload_len().map_err(|e| text(&e))?;
        let segment = behind.get(..usize::from(length)).ok_or("IP length beyond the frame")?;
        if ip.protocol != IpNumber::TCP || ip.is_fragmenting_payload() {
            return Err("not whole TCP".into());
        }
        let (tcp, payload) = TcpHeader::from_slice(segment).map_err(|e| text(&e))?;
        let right = tcp.calc_checksum_ipv4(&ip, payload).map_err(|e| text(&e))?;
        Ok(Self {
            macs: (ethernet.destination, ethernet.source),
            vlans,
            traffic_class: ip.dscp.value() << 2 | ip.ecn.value(),
            id: ip.identification,
            dont_fragment: ip.dont_fragment,
            ttl: ip.time_to_live,
            ip_options: ip.options.to_vec(),
            from: SocketAddrV4::new(ip.source.into(), tcp.source_port),
            to: SocketAddrV4::new(ip.destination.into(), tcp.destination_port),
            sequence: tcp.sequence_number,
            acknowledgement: tcp.acknowledgment_number,
            flags: segment[13],
            window: tcp.window_size,
            options: tcp.options.as_slice().to_vec(),
            payload: payload.to_vec(),
            ip_checksum: ip.header_checksum == ip.calc_header_checksum(),
            tcp_checksum: tcp.checksum == right,
        })
    }
}

fn wrong(is_right: bool) -> u16 {
    if is_right { 0 } else { WRONG }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let from = "198.18.1.10:40000".parse().unwrap();
        let mut packet = Packet::new(from, "203.0.113.10:80".parse().unwrap(), 0xc0 | SYN | ACK);
        packet.vlans = vec![(0x88a8, 5), (0x8100, 0x6006)];
        (packet.traffic_class, packet.id, packet.ttl) = (0xb9, 77, 3);
        packet.ip_options = vec![1; 4];
        (packet.sequence, packet.acknowledgement) = (u32::MAX, 0x0102_0304);
        packet.options = vec![2, 4, 5, 0xb4];
        packet.payload = b"odd".to_vec();
        let mut frame = packet.frame();
        frame.extend([0xee; 7]);
        assert_eq!(Packet::read(&frame), Ok(packet.clone()));
        assert_eq!(frame.len(), packet.header_len() + 3 + 7);
        (packet.ip_checksum, packet.tcp_checksum) = (false, false);
        assert_eq!(Packet::read(&packet.frame()), Ok(packet.clone()));
        assert!(Packet::read(&frame[..packet.header_len()]).is_err());
    }
}
