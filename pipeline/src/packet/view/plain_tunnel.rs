//! The fast parser for plain TCP over IPv4 in an IPv4-in-IPv4 tunnel: every offset is a constant.

use super::View;
use crate::wire::family::{Endpoint, V4};
use crate::wire::{ethernet, ipv4, tcp};

/// Offset of the inner IP header.
const INNER: usize = ethernet::HEADER + ipv4::HEADER;
/// Offset of the inner TCP header.
const TCP: usize = INNER + ipv4::HEADER;

/// The headers of plain TCP over IPv4 in an IPv4-in-IPv4 tunnel, in a frame without VLAN tags: neither
/// IP header has options, and neither packet is a fragment. Their offsets are constants, so the
/// compiler removes bounds checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TunnelHeaders<'a>(&'a [u8; TCP + tcp::HEADER]);

impl View {
    /// Parses the inner packet of the tunnel `outer` into `self`, if both are plain: then the frame
    /// has [`TunnelHeaders`], which are returned. Otherwise it changes nothing.
    #[inline(always)]
    pub(crate) fn parse_plain_inner<'a>(
        &mut self,
        outer: &Self,
        head: &'a [u8],
    ) -> Option<TunnelHeaders<'a>> {
        // No other tunnel is as short: tags, options and other headers take at least four bytes.
        if usize::from(outer.payload) != INNER {
            return None;
        }
        let inner = Self::plain_tcp(head, outer.end as usize, INNER)?;
        self.assign(inner);
        TunnelHeaders::of(head)
    }

    /// Returns this view of an inner packet after the outer header was removed, for a frame with
    /// [`TunnelHeaders`], with constant offsets, which the compiler can use.
    #[inline(always)]
    pub(crate) fn without_plain_outer(&self) -> Self {
        let payload = self.payload - ipv4::HEADER as u16;
        Self { payload, end: self.end - ipv4::HEADER as u32, ..*self }.as_plain::<V4>()
    }
}

impl<'a> TunnelHeaders<'a> {
    /// Returns the headers of a frame for which [`View::parse_plain_inner`] has returned them, or
    /// `None` if it is too short.
    #[inline(always)]
    pub(crate) fn of(head: &'a [u8]) -> Option<Self> {
        Some(Self(head.first_chunk()?))
    }

    /// Returns the outer IP header.
    #[inline(always)]
    pub(crate) fn outer(&self) -> &'a [u8; ipv4::HEADER] {
        self.ip(ethernet::HEADER)
    }

    /// Returns the inner IP header.
    #[inline(always)]
    pub(crate) fn inner(&self) -> &'a [u8; ipv4::HEADER] {
        self.ip(INNER)
    }

    #[inline(always)]
    fn ip(&self, at: usize) -> &'a [u8; ipv4::HEADER] {
        const EMPTY: &[u8; ipv4::HEADER] = &[0; ipv4::HEADER];
        // Always there: the offsets are constants within the array.
        self.0[at..].first_chunk().unwrap_or(EMPTY)
    }

    /// Returns the fixed part of the inner TCP header.
    #[inline(always)]
    pub(crate) fn tcp(&self) -> &'a [u8] {
        &self.0[TCP..]
    }

    /// Returns the inner source endpoint.
    #[inline(always)]
    pub(crate) fn source(&self) -> Endpoint<V4> {
        Endpoint::new(ipv4::source(self.inner()), tcp::source_port(self.tcp()))
    }

    /// Returns the inner destination endpoint.
    #[inline(always)]
    pub(crate) fn destination(&self) -> Endpoint<V4> {
        Endpoint::new(ipv4::destination(self.inner()), tcp::destination_port(self.tcp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::view::Kind;
    use crate::testing::{Segment, endpoint, ethernet_frame, tunnel_in};
    use crate::wire::tunnel::Format;

    const OUTER: (&str, &str) = ("203.0.113.10", "198.51.100.10");

    fn parse(frame: &[u8]) -> Option<(View, TunnelHeaders<'_>)> {
        let outer = View::parse(frame, frame.len());
        assert_eq!(outer.kind, Kind::Tunnel);
        let mut view = View::NOTHING;
        let headers = view.parse_plain_inner(&outer, frame)?;
        assert_eq!(view, outer.inner(frame));
        Some((view, headers))
    }

    #[test]
    fn a_plain_tunnel_has_its_headers_and_the_view_of_what_is_left() {
        let syn = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).payload(b"odd");
        let frame = syn.tunnelled(OUTER.0, OUTER.1);
        let (view, headers) = parse(&frame).unwrap();
        assert_eq!(headers.source(), endpoint("198.18.1.10:40000"));
        assert_eq!(headers.destination(), endpoint("203.0.113.10:80"));
        assert_eq!(headers.outer()[..], frame[14..34]);
        assert_eq!(headers.inner()[..], frame[34..54]);
        assert_eq!(headers.tcp(), &frame[54..74]);
        let plain = syn.frame();
        assert_eq!(view.without_plain_outer(), View::parse(&plain, plain.len()));
    }

    #[test]
    fn no_other_tunnel_is_taken_for_one() {
        let syn = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7);
        let syn_v6 = Segment::syn("[2001:db8::1]:40000", "[2001:db8::2]:80", 7);
        let outer_v6 = ("2001:db8:2::10", "2001:db8:3::10");
        for (format, outer, inner) in [
            (Format::Gre, OUTER, &syn),
            (Format::Gue, OUTER, &syn),
            (Format::Ipip, OUTER, &syn_v6),
            (Format::Ipip, outer_v6, &syn),
            (Format::Ipip, outer_v6, &syn_v6),
        ] {
            let packet = tunnel_in(format, outer, (0, 9), &inner.packet());
            assert!(parse(&ethernet_frame(syn.macs, &packet)).is_none(), "{format:?} {outer:?}");
        }
        // A VLAN tag; options of the outer header; a fragment inside.
        let plain = syn.tunnelled(OUTER.0, OUTER.1);
        let mut tagged = plain.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert!(parse(&tagged).is_none());
        let mut options = plain.clone();
        options.splice(34..34, [1; 4]);
        (options[14], options[17]) = (0x46, options[17] + 4);
        assert!(parse(&options).is_none());
        let mut fragment = plain;
        fragment[34 + 6] = 0x20;
        assert!(parse(&fragment).is_none());
    }
}
