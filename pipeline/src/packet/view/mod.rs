//! The parsed view of a packet: its kind and the offsets of its headers. A packet is parsed once on
//! receipt, and again only after a header was added or removed.

mod packet;
mod plain;
mod plain_tunnel;

use std::net::IpAddr;

use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::wire::tunnel::Format;
use crate::wire::{arp::Arp, ethernet, ipv4, ipv6, tcp, tunnel};

pub use packet::Packet;
pub(crate) use plain::Headers;
pub(crate) use plain_tunnel::TunnelHeaders;

/// A side of the appliance, on which packets are received and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Side {
    /// The side of clients, origin servers and web servers.
    Inside,
    /// The side of the WAN.
    Outside,
}

impl Side {
    /// Both sides, in the order of their counters.
    pub const ALL: [Side; 2] = [Side::Inside, Side::Outside];

    /// Returns the opposite side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Side::Inside => Side::Outside,
            Side::Outside => Side::Inside,
        }
    }

    /// Returns the name that configuration, counters and file names use.
    pub fn name(self) -> &'static str {
        match self {
            Side::Inside => "inside",
            Side::Outside => "outside",
        }
    }
}

/// The kind of a packet, as far as the roles distinguish it. [`View::version`] has the IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole TCP packet.
    Tcp,
    /// A tunnel with a supported header, of whatever [`View::tunnel_format`]; not a fragment.
    Tunnel,
    /// A packet with the protocol number or port of a tunnel, but a malformed or unsupported
    /// header.
    BadTunnel,
    /// An ICMP or ICMPv6 packet; not a fragment.
    Icmp,
    /// The first fragment of a TCP packet, with the whole TCP header.
    FirstFragment,
    /// Any other fragment.
    Fragment,
    /// An ARP packet for IPv4 over Ethernet.
    Arp,
    /// A packet that no role acts on. The verdict says why.
    Other(Verdict),
}

impl Kind {
    /// Returns the verdict on a packet of this kind that no role handles.
    pub fn default_verdict(self) -> Verdict {
        match self {
            Kind::Tcp => Verdict::NoEntry,
            Kind::Tunnel | Kind::BadTunnel => Verdict::ForeignTunnel,
            Kind::Icmp => Verdict::Icmp,
            Kind::FirstFragment | Kind::Fragment => Verdict::Fragment,
            Kind::Arp => Verdict::NonIp,
            Kind::Other(verdict) => verdict,
        }
    }
}

/// A parsed packet: its kind, and the offsets of its headers from the first byte of the frame.
///
/// Aligned so that it is copied in one piece. A load from a view that was stored in several pieces
/// waits for all the stores (benchmark `roles`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(16))]
pub struct View {
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the header behind IP options and extension headers, such as the TCP header.
    pub l4: u16,
    /// Offset of the TCP payload, or of the inner IP packet of a tunnel.
    pub payload: u16,
    /// Offset one past the last byte of the IP packet. The rest of the frame is padding.
    pub end: u32,
    /// IP family of the packet.
    pub version: Version,
    /// Kind of the packet.
    pub kind: Kind,
}

impl View {
    /// The view of an empty frame.
    pub(crate) const NOTHING: Self = Self {
        l3: 0,
        l4: 0,
        payload: 0,
        end: 0,
        version: Version::V4,
        kind: Kind::Other(Verdict::EthernetTruncated),
    };

    /// Returns source and destination address of the IP packet whose first segment is `head`.
    pub fn addresses(&self, head: &[u8]) -> (IpAddr, IpAddr) {
        fn of<F: Family>(ip: &[u8]) -> (IpAddr, IpAddr) {
            (F::source(ip).into(), F::destination(ip).into())
        }
        let ip = &head[usize::from(self.l3)..];
        match self.version {
            Version::V4 => of::<V4>(ip),
            Version::V6 => of::<V6>(ip),
        }
    }

    /// Returns the source endpoint of the TCP packet whose first segment is `head`.
    #[inline(always)]
    pub fn source<F: Family>(&self, head: &[u8]) -> Endpoint<F> {
        let port = tcp::source_port(&head[usize::from(self.l4)..]);
        Endpoint::new(F::source(&head[usize::from(self.l3)..]), port)
    }

    /// Returns the destination endpoint of the TCP packet whose first segment is `head`.
    #[inline(always)]
    pub fn destination<F: Family>(&self, head: &[u8]) -> Endpoint<F> {
        let port = tcp::destination_port(&head[usize::from(self.l4)..]);
        Endpoint::new(F::destination(&head[usize::from(self.l3)..]), port)
    }

    /// Parses the headers of a frame of `frame_len` bytes, of which `head` is the first segment.
    ///
    /// Never fails: a malformed packet is of kind [`Kind::Other`] with the verdict that says why.
    ///
    /// ```rust
    /// use firstack_packets::Segment;
    /// use pipeline::packet::view::{Kind, View};
    /// use pipeline::verdict::Verdict;
    /// use pipeline::wire::family::V4;
    ///
    /// let frame = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).frame();
    /// let view = View::parse(&frame, frame.len());
    /// assert_eq!((view.kind, view.l3, view.l4), (Kind::Tcp, 14, 34));
    /// assert_eq!(view.destination::<V4>(&frame).port, 80);
    ///
    /// let truncated = View::parse(&frame[..30], 30);
    /// assert_eq!(truncated.kind, Kind::Other(Verdict::IpTruncated));
    /// ```
    #[inline(always)]
    pub fn parse(head: &[u8], frame_len: usize) -> Self {
        match Self::plain(head, frame_len) {
            Some(view) => view,
            None => Self::parse_any(head, frame_len),
        }
    }

    /// Parses the headers of any frame, without the shortcut for common ones.
    #[inline(never)]
    fn parse_any(head: &[u8], frame_len: usize) -> Self {
        let Some((ethertype, l3)) = ethernet::parse(head) else {
            return Self::other(Verdict::EthernetTruncated);
        };
        match ethertype {
            ethernet::IPV4 => Self::parse_ip(head, frame_len, l3, Version::V4),
            ethernet::IPV6 => Self::parse_ip(head, frame_len, l3, Version::V6),
            ethernet::ARP if Arp::parse(&head[l3..]).is_some() => Self {
                l3: l3 as u16,
                l4: l3 as u16,
                end: frame_len as u32,
                kind: Kind::Arp,
                ..Self::NOTHING
            },
            _ => Self::other(Verdict::NonIp),
        }
    }

    /// Returns the view of the inner packet of a tunnel, in the same frame.
    ///
    /// ```rust
    /// use firstack_packets::Segment;
    /// use pipeline::packet::view::{Kind, View};
    /// use pipeline::wire::tunnel::Format;
    ///
    /// let syn = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7);
    /// let frame = syn.tunnelled("203.0.113.1", "198.51.100.10");
    /// let outer = View::parse(&frame, frame.len());
    /// assert_eq!(outer.kind, Kind::Tunnel);
    ///
    /// let inner = outer.inner(&frame);
    /// assert_eq!((inner.kind, inner.l3), (Kind::Tcp, outer.payload));
    /// ```
    #[inline(always)]
    pub fn inner(&self, head: &[u8]) -> Self {
        let at = usize::from(self.payload);
        match Self::plain_tcp(head, self.end as usize, at) {
            Some(view) => view,
            None => self.inner_any(head),
        }
    }

    /// Returns the format of a tunnel, read from its header again: a view that kept it would be a
    /// byte longer, which costs every packet. `None` when the packet is no tunnel.
    pub fn tunnel_format(&self, head: &[u8]) -> Option<Format> {
        if self.kind != Kind::Tunnel {
            return None;
        }
        let ip = &head[usize::from(self.l3)..];
        let protocol = match self.version {
            Version::V4 => ipv4::protocol(ip),
            Version::V6 => ipv6::walk(ip, self.end as usize - usize::from(self.l3)).ok()?.protocol,
        };
        let l4 = usize::from(self.l4);
        Some(tunnel::parse(protocol, &head[l4..], self.end as usize - l4)?.ok()?.format)
    }

    #[inline(never)]
    fn inner_any(&self, head: &[u8]) -> Self {
        let at = usize::from(self.payload);
        match head.get(at).map(|byte| byte >> 4) {
            Some(4) => Self::parse_ip(head, self.end as usize, at, Version::V4),
            Some(6) => Self::parse_ip(head, self.end as usize, at, Version::V6),
            _ => Self::other(Verdict::IpTruncated),
        }
    }

    fn other(verdict: Verdict) -> Self {
        Self { kind: Kind::Other(verdict), ..Self::NOTHING }
    }

    /// Parses an IP packet that starts at `l3` and ends at `limit` or before.
    #[inline(always)]
    fn parse_ip(head: &[u8], limit: usize, l3: usize, version: Version) -> Self {
        match version {
            Version::V4 => Self::parse_ipv4(head, limit, l3),
            // The offset of the packet stays valid: the receiver of a tunnel may report what was in
            // it.
            Version::V6 => Self::parse_ipv6(head, limit, l3).unwrap_or_else(|verdict| Self {
                l3: l3 as u16,
                version,
                ..Self::other(verdict)
            }),
        }
    }

    #[inline(always)]
    fn parse_ipv4(head: &[u8], limit: usize, l3: usize) -> Self {
        let ip = &head[l3..];
        let (header, total) = match ipv4::check(ip, limit.saturating_sub(l3)) {
            Ok(lengths) => lengths,
            Err(error) => return Self { l3: l3 as u16, ..Self::malformed_ipv4(error) },
        };
        let l4 = l3 + header;
        let view = Self {
            l3: l3 as u16,
            l4: l4 as u16,
            payload: l4 as u16,
            end: (l3 + total) as u32,
            version: Version::V4,
            kind: Kind::Fragment,
        };
        if ipv4::is_fragment(ip) {
            let is_first = ipv4::protocol(ip) == ipv4::TCP && !ipv4::is_later_fragment(ip);
            return if is_first { view.first_fragment(head) } else { view };
        }
        match ipv4::protocol(ip) {
            ipv4::TCP => view.carrying_tcp(head),
            protocol => view.carrying(head, protocol, ipv4::ICMP),
        }
    }

    #[cold]
    fn malformed_ipv4(error: ipv4::Malformed) -> Self {
        Self::other(match error {
            ipv4::Malformed::Truncated => Verdict::IpTruncated,
            ipv4::Malformed::Version => Verdict::IpVersion,
            ipv4::Malformed::HeaderLength => Verdict::IpHeaderLength,
            ipv4::Malformed::TotalLength => Verdict::IpTotalLength,
            ipv4::Malformed::Cut => Verdict::FrameCut,
        })
    }

    fn parse_ipv6(head: &[u8], limit: usize, l3: usize) -> Result<Self, Verdict> {
        let ip = &head[l3..];
        let malformed = |error| match error {
            ipv6::Malformed::Truncated => Verdict::IpTruncated,
            ipv6::Malformed::Version => Verdict::IpVersion,
            ipv6::Malformed::PayloadLength => Verdict::FrameCut,
            ipv6::Malformed::Extensions => Verdict::Ipv6Extensions,
        };
        let total = ipv6::check(ip, limit.saturating_sub(l3)).map_err(malformed)?;
        let chain = ipv6::walk(ip, total).map_err(malformed)?;
        let l4 = l3 + chain.offset;
        if l4 > head.len() {
            return Err(Verdict::Ipv6Extensions);
        }
        let view = Self {
            l3: l3 as u16,
            l4: l4 as u16,
            payload: l4 as u16,
            end: (l3 + total) as u32,
            version: Version::V6,
            kind: Kind::Fragment,
        };
        if let Some(fragment) = chain.fragment {
            let is_first = chain.protocol == ipv4::TCP && !ipv6::is_later_fragment(ip, fragment);
            return Ok(if is_first { view.first_fragment(head) } else { view });
        }
        Ok(match chain.protocol {
            ipv4::TCP => view.carrying_tcp(head),
            protocol => view.carrying(head, protocol, ipv6::ICMP),
        })
    }

    /// Marks the packet as a first fragment if it has the whole TCP header.
    fn first_fragment(self, head: &[u8]) -> Self {
        let available = self.end as usize - usize::from(self.l4);
        match tcp::check(&head[usize::from(self.l4)..], available) {
            Ok(tcp) => Self { payload: self.l4 + tcp as u16, kind: Kind::FirstFragment, ..self },
            Err(_) => self,
        }
    }

    /// Completes the view of an IP packet that carries a whole TCP segment.
    #[inline(always)]
    fn carrying_tcp(self, head: &[u8]) -> Self {
        let l4 = usize::from(self.l4);
        let verdict = match tcp::check(&head[l4..], self.end as usize - l4) {
            Ok(tcp) => return Self { payload: (l4 + tcp) as u16, kind: Kind::Tcp, ..self },
            Err(tcp::Malformed::Truncated) => Verdict::TcpTruncated,
            Err(tcp::Malformed::DataOffset) => Verdict::TcpDataOffset,
        };
        Self { kind: Kind::Other(verdict), ..self }
    }

    /// Completes the view of an IP packet that carries another protocol than TCP and is not a
    /// fragment.
    fn carrying(self, head: &[u8], protocol: u8, icmp: u8) -> Self {
        if protocol == icmp {
            return Self { kind: Kind::Icmp, ..self };
        }
        let l4 = usize::from(self.l4);
        match tunnel::parse(protocol, &head[l4..], self.end as usize - l4) {
            None => Self { kind: Kind::Other(Verdict::OtherProtocol), ..self },
            Some(Err(tunnel::Unsupported)) => Self { kind: Kind::BadTunnel, ..self },
            Some(Ok(header)) => {
                let payload = l4 + header.length;
                let nibble = head.get(payload).map(|byte| byte >> 4);
                let expected = if header.inner == Version::V4 { 4 } else { 6 };
                let is_valid = nibble == Some(expected) && payload < self.end as usize;
                let kind = if is_valid { Kind::Tunnel } else { Kind::BadTunnel };
                Self { payload: payload as u16, kind, ..self }
            }
        }
    }
}

#[cfg(test)]
mod tests;
