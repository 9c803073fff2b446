//! The fast parser for plain TCP in an IP-in-IP tunnel of the same family: every offset is a constant.

use std::marker::PhantomData;

use super::View;
use crate::wire::family::{Endpoint, Family, Version};
use crate::wire::{ethernet, tcp};

/// The headers of plain TCP in an IP-in-IP tunnel of the same family, in a frame without VLAN tags:
/// neither IP header has options or extension headers, and neither packet is a fragment. Their
/// offsets are constants, so the compiler removes bounds checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TunnelHeaders<'a, F> {
    bytes: &'a [u8],
    family: PhantomData<F>,
}

impl View {
    /// Parses the inner packet of the tunnel `outer` into `self`, if both are plain: then the frame
    /// has [`TunnelHeaders`], which are returned. Otherwise it changes nothing.
    #[inline(always)]
    pub(crate) fn parse_plain_inner<'a, F: Family>(
        &mut self,
        outer: &Self,
        head: &'a [u8],
    ) -> Option<TunnelHeaders<'a, F>> {
        let inner = TunnelHeaders::<F>::INNER;
        // No other tunnel of the family is as short: tags, options and other headers take at least
        // four bytes. An outer header of IPv4 with options may be as long as one of IPv6.
        if outer.version != F::VERSION || usize::from(outer.payload) != inner {
            return None;
        }
        let limit = outer.end as usize;
        self.assign(match F::VERSION {
            Version::V4 => Self::plain_tcp(head, limit, inner)?,
            Version::V6 => Self::plain_tcp_v6(head, limit, inner)?,
        });
        TunnelHeaders::of(head)
    }

    /// Returns this view of an inner packet after the outer header was removed, for a frame with
    /// [`TunnelHeaders`], with constant offsets, which the compiler can use.
    #[inline(always)]
    pub(crate) fn without_plain_outer<F: Family>(&self) -> Self {
        let payload = self.payload - F::HEADER as u16;
        Self { payload, end: self.end - F::HEADER as u32, ..*self }.as_plain::<F>()
    }
}

impl<'a, F: Family> TunnelHeaders<'a, F> {
    /// Offset of the inner IP header.
    const INNER: usize = ethernet::HEADER + F::HEADER;
    /// Offset of the inner TCP header.
    const TCP: usize = Self::INNER + F::HEADER;

    /// Returns the headers of a frame for which [`View::parse_plain_inner`] has returned them, or
    /// `None` if it is too short.
    #[inline(always)]
    pub(crate) fn of(head: &'a [u8]) -> Option<Self> {
        Some(Self { bytes: head.get(..Self::TCP + tcp::HEADER)?, family: PhantomData })
    }

    /// Returns the outer IP header.
    #[inline(always)]
    pub(crate) fn outer(&self) -> &'a [u8] {
        &self.bytes[ethernet::HEADER..Self::INNER]
    }

    /// Returns the inner IP header.
    #[inline(always)]
    pub(crate) fn inner(&self) -> &'a [u8] {
        &self.bytes[Self::INNER..Self::TCP]
    }

    /// Returns the fixed part of the inner TCP header.
    #[inline(always)]
    pub(crate) fn tcp(&self) -> &'a [u8] {
        &self.bytes[Self::TCP..]
    }

    /// Returns the inner source endpoint.
    #[inline(always)]
    pub(crate) fn source(&self) -> Endpoint<F> {
        Endpoint::new(F::source(self.inner()), tcp::source_port(self.tcp()))
    }

    /// Returns the inner destination endpoint.
    #[inline(always)]
    pub(crate) fn destination(&self) -> Endpoint<F> {
        Endpoint::new(F::destination(self.inner()), tcp::destination_port(self.tcp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::view::Kind;
    use crate::testing::{Segment, endpoint, ethernet_frame, tunnel_in};
    use crate::wire::family::{V4, V6};
    use crate::wire::tunnel::Format;

    const OUTER: (&str, &str) = ("203.0.113.10", "198.51.100.10");
    const OUTER_V6: (&str, &str) = ("2001:db8:2::10", "2001:db8:3::10");

    fn parse<F: Family>(frame: &[u8]) -> Option<(View, TunnelHeaders<'_, F>)> {
        let outer = View::parse(frame, frame.len());
        assert_eq!(outer.kind, Kind::Tunnel);
        let mut view = View::NOTHING;
        let headers = view.parse_plain_inner(&outer, frame)?;
        assert_eq!(view, outer.inner(frame));
        Some((view, headers))
    }

    fn syn() -> Segment {
        Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).payload(b"odd")
    }

    fn syn_v6() -> Segment {
        Segment::syn("[2001:db8::1]:40000", "[2001:db8::2]:80", 7).payload(b"odd")
    }

    fn check<F: Family>(syn: &Segment, outer: (&str, &str), ends: [&str; 2]) {
        let (frame, plain) = (syn.tunnelled(outer.0, outer.1), syn.frame());
        let (view, headers) = parse::<F>(&frame).unwrap();
        assert_eq!([headers.source(), headers.destination()], ends.map(endpoint::<F>));
        let (inner, tcp) = (14 + F::HEADER, 14 + 2 * F::HEADER);
        assert_eq!(headers.outer(), &frame[14..inner]);
        assert_eq!(headers.inner(), &frame[inner..tcp]);
        assert_eq!(headers.tcp(), &frame[tcp..tcp + 20]);
        assert_eq!(view.without_plain_outer::<F>(), View::parse(&plain, plain.len()));
    }

    #[test]
    fn a_plain_tunnel_has_its_headers_and_the_view_of_what_is_left() {
        check::<V4>(&syn(), OUTER, ["198.18.1.10:40000", "203.0.113.10:80"]);
        check::<V6>(&syn_v6(), OUTER_V6, ["[2001:db8::1]:40000", "[2001:db8::2]:80"]);
    }

    #[test]
    fn no_other_tunnel_is_taken_for_one() {
        for (format, outer, inner) in [
            (Format::Gre, OUTER, &syn()),
            (Format::Gue, OUTER, &syn()),
            (Format::Gre, OUTER_V6, &syn_v6()),
            (Format::Gue, OUTER_V6, &syn_v6()),
            (Format::Ipip, OUTER, &syn_v6()),
            (Format::Ipip, OUTER_V6, &syn()),
        ] {
            let packet = tunnel_in(format, outer, (0, 9), &inner.packet());
            let frame = ethernet_frame(inner.macs, &packet);
            assert!(parse::<V4>(&frame).is_none(), "{format:?} {outer:?}");
            assert!(parse::<V6>(&frame).is_none(), "{format:?} {outer:?}");
        }
        assert!(parse::<V6>(&syn().tunnelled(OUTER.0, OUTER.1)).is_none());
        assert!(parse::<V4>(&syn_v6().tunnelled(OUTER_V6.0, OUTER_V6.1)).is_none());
        // A VLAN tag; options of the outer header; a fragment inside.
        let plain = syn().tunnelled(OUTER.0, OUTER.1);
        let mut tagged = plain.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert!(parse::<V4>(&tagged).is_none());
        let mut options = plain.clone();
        options.splice(34..34, [1; 4]);
        (options[14], options[17]) = (0x46, options[17] + 4);
        assert!(parse::<V4>(&options).is_none());
        let mut fragment = plain;
        fragment[34 + 6] = 0x20;
        assert!(parse::<V4>(&fragment).is_none());
        // An outer header of IPv4 that is as long as one of IPv6.
        let mut long = syn_v6().tunnelled(OUTER.0, OUTER.1);
        long.splice(34..34, [1; 20]);
        (long[14], long[17]) = (0x4a, long[17] + 20);
        assert_eq!(View::parse(&long, long.len()).payload, 54);
        assert!(parse::<V6>(&long).is_none());
        // An extension header outside, and one inside.
        for at in [54, 94] {
            let mut extended = syn_v6().tunnelled(OUTER_V6.0, OUTER_V6.1);
            let next = extended[at - 34];
            extended.splice(at..at, [next, 0, 1, 4, 0, 0, 0, 0]);
            extended[at - 34] = 60;
            for length in (19..at).step_by(40) {
                extended[length] += 8;
            }
            assert!(parse::<V6>(&extended).is_none(), "{at}");
        }
    }
}
