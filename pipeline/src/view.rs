//! One look at a packet: where its headers are and what kind it is. Parsed once on receipt,
//! again only after a header was put on or taken off.

use crate::buffer::Buffer;
use crate::family::{Endpoint, Family};
use crate::verdict::Verdict;
use crate::wire::{arp::Arp, ethernet, ipv4, tcp};

/// The side of the appliance that a packet came in by or leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// Clients, origin servers, web servers.
    Inside,
    /// The WAN.
    Outside,
}

impl Side {
    /// Both sides, in the order of their counters.
    pub const ALL: [Side; 2] = [Side::Inside, Side::Outside];

    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Side::Inside => Side::Outside,
            Side::Outside => Side::Inside,
        }
    }

    /// Its name in configuration, counters and file names.
    pub fn name(self) -> &'static str {
        match self {
            Side::Inside => "inside",
            Side::Outside => "outside",
        }
    }
}

/// What a packet is, as far as any role needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole TCP over IPv4.
    Tcp4,
    /// IP in IPv4, not a fragment.
    Tunnel4,
    /// ICMP over IPv4, not a fragment.
    Icmp4,
    /// The first fragment of an IPv4 packet, the whole TCP header in it.
    FirstFragment4,
    /// Any other fragment of an IPv4 packet.
    Fragment4,
    /// ARP for IPv4 over Ethernet.
    Arp,
    /// Nothing that any role acts upon; the verdict says what it is.
    Other(Verdict),
}

impl Kind {
    /// The verdict on a packet of this kind that no role has a part in.
    pub fn untouched(self) -> Verdict {
        match self {
            Kind::Tcp4 => Verdict::NoEntry,
            Kind::Tunnel4 => Verdict::ForeignTunnel,
            Kind::Icmp4 => Verdict::Icmp,
            Kind::FirstFragment4 | Kind::Fragment4 => Verdict::Fragment,
            Kind::Arp => Verdict::NonIp,
            Kind::Other(verdict) => verdict,
        }
    }
}

/// Offsets into the frame, from its first byte.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// IP header.
    pub l3: u16,
    /// Header of what IP carries.
    pub l4: u16,
    /// First byte of the TCP payload.
    pub payload: u16,
    /// One past the IP packet's last byte; what follows in the frame is padding.
    pub end: u32,
    /// What the packet is.
    pub kind: Kind,
}

impl View {
    /// The view of no frame at all.
    pub(crate) const NOTHING: Self =
        Self { l3: 0, l4: 0, payload: 0, end: 0, kind: Kind::Other(Verdict::EthernetTruncated) };

    /// Source endpoint of the TCP packet whose first segment is `head`.
    #[inline]
    pub fn source<F: Family>(&self, head: &[u8]) -> Endpoint<F> {
        let port = tcp::source_port(&head[usize::from(self.l4)..]);
        Endpoint::new(F::source(&head[usize::from(self.l3)..]), port)
    }

    /// Destination endpoint likewise.
    #[inline]
    pub fn destination<F: Family>(&self, head: &[u8]) -> Endpoint<F> {
        let port = tcp::destination_port(&head[usize::from(self.l4)..]);
        Endpoint::new(F::destination(&head[usize::from(self.l3)..]), port)
    }

    /// Reads the headers of a frame of `frame_len` bytes of which `head` is contiguous.
    pub fn parse(head: &[u8], frame_len: usize) -> Self {
        let other = |verdict| Self { kind: Kind::Other(verdict), ..Self::NOTHING };
        let Some((ethertype, l3)) = ethernet::parse(head) else {
            return other(Verdict::EthernetTruncated);
        };
        match ethertype {
            ethernet::IPV4 => Self::parse_ipv4(head, frame_len, l3).unwrap_or_else(other),
            ethernet::ARP if Arp::parse(&head[l3..]).is_some() => Self {
                l3: l3 as u16,
                l4: l3 as u16,
                payload: 0,
                end: frame_len as u32,
                kind: Kind::Arp,
            },
            ethernet::IPV6 => other(Verdict::Ipv6),
            _ => other(Verdict::NonIp),
        }
    }

    fn parse_ipv4(head: &[u8], frame_len: usize, l3: usize) -> Result<Self, Verdict> {
        let ip = &head[l3..];
        let (header, total) = ipv4::check(ip, frame_len - l3).map_err(|error| match error {
            ipv4::Malformed::Truncated => Verdict::IpTruncated,
            ipv4::Malformed::Version => Verdict::IpVersion,
            ipv4::Malformed::HeaderLength => Verdict::IpHeaderLength,
            ipv4::Malformed::TotalLength => Verdict::IpTotalLength,
        })?;
        let l4 = l3 + header;
        let mut view = Self {
            l3: l3 as u16,
            l4: l4 as u16,
            payload: l4 as u16,
            end: (l3 + total) as u32,
            kind: Kind::Fragment4,
        };
        if ipv4::is_fragment(ip) {
            let is_first = ipv4::protocol(ip) == ipv4::TCP && !ipv4::is_later_fragment(ip);
            if let (true, Ok(tcp)) = (is_first, tcp::check(&head[l4..], total - header)) {
                view.payload = (l4 + tcp) as u16;
                view.kind = Kind::FirstFragment4;
            }
            return Ok(view);
        }
        view.kind = match ipv4::protocol(ip) {
            ipv4::TCP => {
                let tcp = tcp::check(&head[l4..], total - header).map_err(|error| match error {
                    tcp::Malformed::Truncated => Verdict::TcpTruncated,
                    tcp::Malformed::DataOffset => Verdict::TcpDataOffset,
                })?;
                view.payload = (l4 + tcp) as u16;
                Kind::Tcp4
            }
            ipv4::IPIP | ipv4::IPV6 => Kind::Tunnel4,
            ipv4::ICMP => Kind::Icmp4,
            _ => Kind::Other(Verdict::OtherProtocol),
        };
        Ok(view)
    }
}

/// A frame and the look that was taken at it.
#[derive(Clone, Debug)]
pub struct Packet<B> {
    /// The frame.
    pub buffer: B,
    /// Where things are in it.
    pub view: View,
}

impl<B: Buffer> Packet<B> {
    /// Looks at a frame.
    #[inline]
    pub fn new(buffer: B) -> Self {
        let view = View::parse(buffer.head(), buffer.frame_len());
        Self { buffer, view }
    }

    /// Looks at the frame again, after its headers changed.
    pub fn look_again(&mut self) {
        self.view = View::parse(self.buffer.head(), self.buffer.frame_len());
    }

    /// Bytes from the IP header on.
    #[inline]
    pub fn ip(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l3)..]
    }

    /// Bytes from the IP header on, to be changed.
    #[inline]
    pub fn ip_mut(&mut self) -> &mut [u8] {
        let l3 = usize::from(self.view.l3);
        &mut self.buffer.head_mut()[l3..]
    }

    /// Bytes from the TCP header on, of a packet of kind [`Kind::Tcp4`].
    #[inline]
    pub fn tcp(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l4)..]
    }

    /// Bytes from the TCP header on, to be changed.
    #[inline]
    pub fn tcp_mut(&mut self) -> &mut [u8] {
        let l4 = usize::from(self.view.l4);
        &mut self.buffer.head_mut()[l4..]
    }

    /// The TCP option area.
    pub fn options(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l4) + tcp::HEADER..usize::from(self.view.payload)]
    }

    /// Source endpoint of a TCP packet.
    #[inline]
    pub fn source<F: Family>(&self) -> Endpoint<F> {
        self.view.source(self.buffer.head())
    }

    /// Destination endpoint of a TCP packet.
    #[inline]
    pub fn destination<F: Family>(&self) -> Endpoint<F> {
        self.view.destination(self.buffer.head())
    }

    /// Whether TCP data follows the header.
    pub fn has_data(&self) -> bool {
        self.view.end > u32::from(self.view.payload)
    }

    /// Whether the IPv4 header checksum is right.
    pub fn ip_checksum_ok(&self) -> bool {
        ipv4::checksum_ok(self.ip(), usize::from(self.view.l4 - self.view.l3))
    }

    /// Whether the TCP checksum is right. A segment spread over several buffer segments counts
    /// as wrong: none that may decide anything is that long.
    pub fn tcp_checksum_ok<F: Family>(&self) -> bool {
        let Some(segment) =
            self.buffer.head().get(usize::from(self.view.l4)..self.view.end as usize)
        else {
            return false;
        };
        let ip = self.ip();
        let pseudo = F::pseudo_header(F::source(ip), F::destination(ip), segment.len() as u16);
        tcp::checksum_ok(segment, pseudo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::HeapBuffer;
    use crate::family::V4;
    use crate::testing::{self, Segment};

    fn kind(frame: &[u8]) -> Kind {
        Packet::new(HeapBuffer::new(frame)).view.kind
    }

    #[test]
    fn sees_tcp_behind_vlan_tags_and_ip_options() {
        let frame = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).frame();
        let packet = Packet::new(HeapBuffer::new(&frame));
        assert_eq!(packet.view.kind, Kind::Tcp4);
        assert_eq!(packet.source::<V4>(), testing::endpoint("198.18.1.10:40000"));
        assert_eq!(packet.destination::<V4>(), testing::endpoint("203.0.113.10:80"));
        assert!(packet.ip_checksum_ok() && packet.tcp_checksum_ok::<V4>());

        let mut tagged = frame.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        let packet = Packet::new(HeapBuffer::new(&tagged));
        assert_eq!((packet.view.kind, packet.view.l3), (Kind::Tcp4, 18));
        assert!(packet.tcp_checksum_ok::<V4>());
    }

    #[test]
    fn padding_is_not_part_of_the_packet() {
        let mut frame = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).frame();
        let end = frame.len();
        frame.resize(60, 0xee);
        let packet = Packet::new(HeapBuffer::new(&frame));
        assert_eq!(packet.view.end as usize, end);
        assert!(!packet.has_data() && packet.tcp_checksum_ok::<V4>());
    }

    #[test]
    fn names_what_is_malformed() {
        let frame = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).frame();
        let with = |at: usize, value: u8| {
            let mut frame = frame.clone();
            frame[at] = value;
            kind(&frame)
        };
        assert_eq!(kind(&frame[..13]), Kind::Other(Verdict::EthernetTruncated));
        assert_eq!(kind(&frame[..33]), Kind::Other(Verdict::IpTruncated));
        assert_eq!(with(14, 0x55), Kind::Other(Verdict::IpVersion));
        assert_eq!(with(14, 0x44), Kind::Other(Verdict::IpHeaderLength));
        assert_eq!(with(17, 0xff), Kind::Other(Verdict::IpTotalLength));
        assert_eq!(with(46, 0x40), Kind::Other(Verdict::TcpDataOffset));
        assert_eq!(with(46, 0xf0), Kind::Other(Verdict::TcpTruncated));
        assert_eq!(with(23, 17), Kind::Other(Verdict::OtherProtocol));
        assert_eq!(with(20, 0x20), Kind::FirstFragment4);
        assert_eq!(with(21, 0x20), Kind::Fragment4);
        assert_eq!(with(23, 4), Kind::Tunnel4);
        assert_eq!(with(12, 0x99), Kind::Other(Verdict::NonIp));
    }

    #[test]
    fn headers_split_over_segments_are_not_touched() {
        let frame = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).frame();
        let packet = Packet::new(HeapBuffer::segmented(&frame, 50));
        assert_eq!(packet.view.kind, Kind::Other(Verdict::TcpTruncated));
    }
}
