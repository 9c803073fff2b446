//! The parsed view of a packet: its kind and the offsets of its headers. A packet is parsed once on
//! receipt, and again only after a header was added or removed.

mod general;
mod headers;
mod packet;
mod plain;
mod plain_tunnel;

use std::net::IpAddr;

use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::wire::tunnel::Format;
use crate::wire::{ipv4, ipv6, tcp, tunnel};

pub(crate) use headers::Headers;
pub use packet::Packet;
pub(crate) use plain::Shape;
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
/// A parser stores the fields of a view one by one, in the place where the view stays, and never
/// returns a view by value on the way of a packet: that would be one wide load right behind the
/// narrow stores, which no processor forwards. The load would wait for all of them (benchmark
/// `families`). Aligned so that a copy of an older view is in one piece.
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
            None => {
                let mut view = Self::NOTHING;
                view.parse_rest(head, frame_len);
                view
            }
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
        match Self::plain_tcp(head, self.end as usize, usize::from(self.payload)) {
            Some(view) => view,
            None => {
                let mut view = Self::NOTHING;
                view.parse_other_inner(self, head);
                view
            }
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
}

#[cfg(test)]
mod tests;
