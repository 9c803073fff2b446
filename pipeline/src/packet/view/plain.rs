//! The fast parser for the common frames, which needs a few comparisons.

use super::{Kind, View};
use crate::verdict::Verdict;
use crate::wire::family::Version;
use crate::wire::{ethernet, ipv4, ipv6, tcp, tunnel};

/// The shape of a packet: whether it is [`View::is_plain`] TCP, and of which family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Plain TCP over IPv4.
    PlainV4,
    /// Plain TCP over IPv6.
    PlainV6,
    /// Any other packet, or one that the fast parser has left to the general one.
    Other,
}

impl View {
    /// Replaces the view field by field. As a whole the new one would pass through a temporary
    /// whose bytes are stored in smaller pieces than they are loaded in, and the loads would wait
    /// for the stores (a quarter of a packet's time in benchmark `whole_path`).
    #[inline(always)]
    pub(crate) fn assign(&mut self, other: Self) {
        let Self { l3, l4, payload, end, version, kind } = other;
        (self.l3, self.l4, self.payload, self.end) = (l3, l4, payload, end);
        (self.version, self.kind) = (version, kind);
    }

    /// Parses a frame as [`View::parse`] does, and returns its shape.
    #[inline(always)]
    pub(crate) fn parse_in_place(&mut self, head: &[u8], frame_len: usize) -> Shape {
        match Self::plain(head, frame_len) {
            Some(view) => {
                self.assign(view);
                if view.kind == Kind::Tcp { Shape::PlainV4 } else { Shape::Other }
            }
            None => self.parse_rest(head, frame_len),
        }
    }

    /// Parses a frame that is not plain IPv4.
    #[inline(always)]
    pub(super) fn parse_rest(&mut self, head: &[u8], frame_len: usize) -> Shape {
        match Self::plain_v6(head, frame_len) {
            Some(view) => {
                self.assign(view);
                if view.kind == Kind::Tcp { Shape::PlainV6 } else { Shape::Other }
            }
            None => {
                self.parse_any(head, frame_len);
                Shape::Other
            }
        }
    }

    /// Parses the inner packet of the tunnel `outer`, as [`View::inner`] does.
    #[inline(always)]
    pub(crate) fn parse_inner(&mut self, outer: &Self, head: &[u8]) {
        match Self::plain_tcp(head, outer.end as usize, usize::from(outer.payload)) {
            Some(view) => self.assign(view),
            None => self.parse_other_inner(outer, head),
        }
    }

    /// Parses an inner packet that is not plain TCP over IPv4.
    #[inline(never)]
    pub(super) fn parse_other_inner(&mut self, outer: &Self, head: &[u8]) {
        match Self::plain_tcp_v6(head, outer.end as usize, usize::from(outer.payload)) {
            Some(view) => self.assign(view),
            None => self.parse_any_inner(outer, head),
        }
    }

    /// Parses the most common frames with a few comparisons: whole packets of TCP, UDP or an IPv4
    /// packet in a tunnel, over IPv4 without options, in Ethernet without VLAN tags. Returns `None`
    /// for all others, including malformed ones.
    #[inline(always)]
    pub(super) fn plain(head: &[u8], frame_len: usize) -> Option<Self> {
        let bytes: &[u8; ethernet::HEADER + ipv4::HEADER + 1] = head.first_chunk()?;
        if bytes[ethernet::HEADER - 2..ethernet::HEADER] != ethernet::IPV4.to_be_bytes() {
            return None;
        }
        match bytes[ethernet::HEADER + ipv4::PROTOCOL] {
            ipv4::TCP => Self::plain_tcp(head, frame_len, ethernet::HEADER),
            ipv4::IPIP => Self::plain_tunnel(bytes, frame_len),
            tunnel::UDP => Self::plain_udp(head, frame_len),
            _ => None,
        }
    }

    /// Parses UDP that is not a tunnel.
    #[inline(always)]
    fn plain_udp(head: &[u8], frame_len: usize) -> Option<Self> {
        let bytes: &[u8; ethernet::HEADER + ipv4::HEADER + tunnel::UDP_HEADER] =
            head.first_chunk()?;
        let (ip, udp) = bytes[ethernet::HEADER..].split_at(ipv4::HEADER);
        let total = usize::from(ipv4::total_length(ip));
        let is_plain = ipv4::is_plain(ip, tunnel::UDP)
            && !tunnel::is_tunnel_port(udp)
            && (ipv4::HEADER..=frame_len - ethernet::HEADER).contains(&total);
        is_plain.then_some(Self {
            l3: ethernet::HEADER as u16,
            l4: (ethernet::HEADER + ipv4::HEADER) as u16,
            payload: (ethernet::HEADER + ipv4::HEADER) as u16,
            end: (ethernet::HEADER + total) as u32,
            version: Version::V4,
            kind: Kind::Other(Verdict::OtherProtocol),
        })
    }

    /// Parses an IPv4-in-IPv4 tunnel from the outer headers and the byte behind them.
    #[inline(always)]
    fn plain_tunnel(
        bytes: &[u8; ethernet::HEADER + ipv4::HEADER + 1],
        frame_len: usize,
    ) -> Option<Self> {
        const INNER: usize = ethernet::HEADER + ipv4::HEADER;
        let ip = &bytes[ethernet::HEADER..];
        let end = ethernet::HEADER + usize::from(ipv4::total_length(ip));
        let is_plain = ipv4::is_plain(ip, ipv4::IPIP)
            && bytes[INNER] >> 4 == 4
            && (INNER + 1..=frame_len).contains(&end);
        is_plain.then_some(Self {
            l3: ethernet::HEADER as u16,
            l4: INNER as u16,
            payload: INNER as u16,
            end: end as u32,
            version: Version::V4,
            kind: Kind::Tunnel,
        })
    }

    /// Parses plain TCP in an IP packet that starts at `l3` and ends at `limit` or before.
    #[inline(always)]
    pub(super) fn plain_tcp(head: &[u8], limit: usize, l3: usize) -> Option<Self> {
        let headers: &[u8; ipv4::HEADER + tcp::HEADER] = head.get(l3..)?.first_chunk()?;
        let (ip, tcp) = headers.split_at(ipv4::HEADER);
        let total = usize::from(ipv4::total_length(ip));
        let header = tcp::header_length(tcp);
        let l4 = l3 + ipv4::HEADER;
        let is_plain = ipv4::is_plain(ip, ipv4::TCP)
            && header >= tcp::HEADER
            && ipv4::HEADER + header <= total
            && l3 + total <= limit
            && l4 + header <= head.len();
        is_plain.then_some(Self {
            l3: l3 as u16,
            l4: l4 as u16,
            payload: (l4 + header) as u16,
            end: (l3 + total) as u32,
            version: Version::V4,
            kind: Kind::Tcp,
        })
    }

    /// Parses the most common frames of IPv6 with a few comparisons: whole packets of TCP, or an IP
    /// packet in a tunnel, without extension headers, in Ethernet without VLAN tags. Returns `None`
    /// for all others, including malformed ones.
    #[inline(always)]
    pub(super) fn plain_v6(head: &[u8], frame_len: usize) -> Option<Self> {
        let bytes: &[u8; ethernet::HEADER + ipv6::HEADER + 1] = head.first_chunk()?;
        if bytes[ethernet::HEADER - 2..ethernet::HEADER] != ethernet::IPV6.to_be_bytes() {
            return None;
        }
        match bytes[ethernet::HEADER + ipv6::NEXT_HEADER] {
            ipv4::TCP => Self::plain_tcp_v6(head, frame_len, ethernet::HEADER),
            ipv4::IPV6 => Self::plain_tunnel_v6(bytes, frame_len, 6),
            ipv4::IPIP => Self::plain_tunnel_v6(bytes, frame_len, 4),
            _ => None,
        }
    }

    /// Parses an IP-in-IPv6 tunnel from the outer headers and the byte behind them, which has the
    /// IP version of the inner packet.
    #[inline(always)]
    fn plain_tunnel_v6(
        bytes: &[u8; ethernet::HEADER + ipv6::HEADER + 1],
        frame_len: usize,
        inner: u8,
    ) -> Option<Self> {
        const INNER: usize = ethernet::HEADER + ipv6::HEADER;
        let ip = &bytes[ethernet::HEADER..];
        let end = ethernet::HEADER + ipv6::length(ip);
        let is_plain = ipv6::version(ip) == 6
            && bytes[INNER] >> 4 == inner
            && (INNER + 1..=frame_len).contains(&end);
        is_plain.then_some(Self {
            l3: ethernet::HEADER as u16,
            l4: INNER as u16,
            payload: INNER as u16,
            end: end as u32,
            version: Version::V6,
            kind: Kind::Tunnel,
        })
    }

    /// Parses plain TCP in an IPv6 packet that starts at `l3` and ends at `limit` or before.
    #[inline(always)]
    pub(super) fn plain_tcp_v6(head: &[u8], limit: usize, l3: usize) -> Option<Self> {
        let headers: &[u8; ipv6::HEADER + tcp::HEADER] = head.get(l3..)?.first_chunk()?;
        let (ip, tcp) = headers.split_at(ipv6::HEADER);
        let total = ipv6::length(ip);
        let header = tcp::header_length(tcp);
        let l4 = l3 + ipv6::HEADER;
        let is_plain = ipv6::version(ip) == 6
            && ip[ipv6::NEXT_HEADER] == ipv4::TCP
            && header >= tcp::HEADER
            && ipv6::HEADER + header <= total
            && l3 + total <= limit
            && l4 + header <= head.len();
        is_plain.then_some(Self {
            l3: l3 as u16,
            l4: l4 as u16,
            payload: (l4 + header) as u16,
            end: (l3 + total) as u32,
            version: Version::V6,
            kind: Kind::Tcp,
        })
    }
}
