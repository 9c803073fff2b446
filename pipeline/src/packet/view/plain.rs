//! The fast parser for the common frames, which needs a few comparisons.

use std::marker::PhantomData;

use super::{Kind, View};
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family, Version};
use crate::wire::{ethernet, ipv4, tcp, tunnel};

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

    /// Parses a frame as [`View::parse`] does, and returns whether it is [`View::is_plain`] IPv4
    /// and took the fast parser.
    #[inline(always)]
    pub(crate) fn parse_in_place(&mut self, head: &[u8], frame_len: usize) -> bool {
        match Self::plain(head, frame_len) {
            Some(view) => {
                self.assign(view);
                view.kind == Kind::Tcp
            }
            None => {
                self.assign(Self::parse_any(head, frame_len));
                false
            }
        }
    }

    /// Parses the inner packet of the tunnel `outer`, as [`View::inner`] does.
    #[inline(always)]
    pub(crate) fn parse_inner(&mut self, outer: &Self, head: &[u8]) {
        match Self::plain_tcp(head, outer.end as usize, usize::from(outer.payload)) {
            Some(view) => self.assign(view),
            None => self.assign(outer.inner_any(head)),
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

    /// Returns whether this is TCP of this family with its headers at the usual offsets: no VLAN
    /// tags, no IP options, no extension headers.
    #[inline(always)]
    pub fn is_plain<F: Family>(&self) -> bool {
        self.kind == Kind::Tcp
            && self.version == F::VERSION
            && usize::from(self.l3) == ethernet::HEADER
            && usize::from(self.l4) == ethernet::HEADER + F::HEADER
    }

    /// Returns the view of a plain TCP packet with constant offsets, which the compiler can use.
    /// Only the lengths come from `self`.
    #[inline(always)]
    pub(crate) fn as_plain<F: Family>(&self) -> Self {
        Self {
            l3: ethernet::HEADER as u16,
            l4: (ethernet::HEADER + F::HEADER) as u16,
            payload: self.payload,
            end: self.end,
            version: F::VERSION,
            kind: Kind::Tcp,
        }
    }
}

/// The headers of a plain TCP packet. Their offsets are constants, so the compiler removes bounds
/// checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers<'a, F> {
    bytes: &'a [u8],
    family: PhantomData<F>,
}

impl<'a, F: Family> Headers<'a, F> {
    const LENGTH: usize = ethernet::HEADER + F::HEADER + tcp::HEADER;

    /// Returns the headers of a frame for which [`View::is_plain`] is true, or `None` if it is too
    /// short.
    #[inline(always)]
    pub(crate) fn of(head: &'a [u8]) -> Option<Self> {
        Some(Self { bytes: head.get(..Self::LENGTH)?, family: PhantomData })
    }

    /// Returns the bytes from the TCP header on, at least its fixed part.
    #[inline(always)]
    pub(crate) fn tcp(&self) -> &'a [u8] {
        &self.bytes[ethernet::HEADER + F::HEADER..]
    }

    /// Returns the source endpoint.
    #[inline(always)]
    pub(crate) fn source(&self) -> Endpoint<F> {
        let address = F::source(&self.bytes[ethernet::HEADER..]);
        Endpoint::new(address, tcp::source_port(self.tcp()))
    }

    /// Returns the destination endpoint.
    #[inline(always)]
    pub(crate) fn destination(&self) -> Endpoint<F> {
        let address = F::destination(&self.bytes[ethernet::HEADER..]);
        Endpoint::new(address, tcp::destination_port(self.tcp()))
    }
}
