//! Encapsulation: an outer header in front of a packet (ops 442, 462, 656), or of a copy of it (op
//! 312).
//!
//! DSCP and ECN are copied to the outer header (RFC 6040, section 4.1); DF is set, the hop limit is
//! 64, and the identification is zero (RFC 6864). The IPv6 flow label and the source port of GUE
//! are derived from the inner client endpoint (RFC 6438).

use std::net::IpAddr;

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Kind, Packet, View};
use crate::wire::checksum::{Delta, Sum};
use crate::wire::family::{Emit, Family, V4, V6, Version};
use crate::wire::tunnel::{self, Format};
use crate::wire::{ethernet, ipv4, put_u16};

/// The outer header of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Outer<F: Family> {
    /// The format of the tunnel.
    pub format: Format,
    /// The outer source address.
    pub source: F::Address,
    /// The outer destination address.
    pub destination: F::Address,
    /// A hash of the connection: the flow label, and the source port of GUE, follow from it.
    pub entropy: u32,
}

/// [`Outer`] with addresses whose family is known only at run time.
#[derive(Clone, Copy, Debug)]
pub struct OuterIp {
    /// The format of the tunnel.
    pub format: Format,
    /// The outer source address.
    pub source: IpAddr,
    /// The outer destination address, of the same family.
    pub destination: IpAddr,
    /// A hash of the connection: the flow label, and the source port of GUE, follow from it.
    pub entropy: u32,
}

/// Encapsulates a packet in place, sets the frame's EtherType, and removes Ethernet padding.
///
/// Returns `false`, and changes nothing, when the buffer has no headroom, when the packet would
/// exceed the outer header's length field (65,535 bytes), or when a UDP checksum is needed over a
/// packet that is spread over several buffer segments.
#[must_use]
#[inline(always)]
pub fn put<F: Family, B: Buffer>(packet: &mut Packet<B>, outer: &Outer<F>) -> bool {
    match outer.format {
        // For the usual format all lengths are constants, and the header but addresses, length and
        // traffic class is one, too.
        Format::Ipip => put_as(packet, &Outer { format: Format::Ipip, ..*outer }),
        Format::Gre | Format::Gue => put_as(packet, outer),
    }
}

#[inline(always)]
fn put_as<F: Family, B: Buffer>(packet: &mut Packet<B>, outer: &Outer<F>) -> bool {
    let (l3, added) = (usize::from(packet.view.l3), outer.format.overhead::<F>());
    let Some(sum) = inner_sum::<F, B>(packet, outer.format) else { return false };
    if packet.ip_len() + added > usize::from(u16::MAX) || !packet.buffer.prepend(added) {
        return false;
    }
    let view = packet.view;
    packet.buffer.truncate(view.end as usize + added);
    let bytes = packet.buffer.head_mut();
    ethernet::relocate(bytes, added, 0, l3);
    emit(bytes, view, outer, sum);
    packet.view = View {
        l4: (l3 + F::HEADER) as u16,
        payload: (l3 + added) as u16,
        end: view.end + added as u32,
        version: F::VERSION,
        kind: Kind::Tunnel,
        ..view
    };
    true
}

/// Returns an encapsulated copy of a packet, in a frame back to the sender of the packet's frame.
///
/// `None` as [`copy_onward`] says.
pub fn copy_back<F: Family, P: Pool>(
    packet: &Packet<P::Buffer>,
    outer: &Outer<F>,
    pool: &mut P,
) -> Option<P::Buffer> {
    let mut copy = copy_onward(packet, outer, pool)?;
    ethernet::reverse(copy.head_mut());
    Some(copy)
}

/// Returns an encapsulated copy of a packet, in a frame to the receiver of the packet's frame.
///
/// `None` when the pool is empty, when the packet is spread over several buffer segments, or when
/// the copy would exceed the outer header's length field (65,535 bytes).
pub fn copy_onward<F: Family, P: Pool>(
    packet: &Packet<P::Buffer>,
    outer: &Outer<F>,
    pool: &mut P,
) -> Option<P::Buffer> {
    let (l3, added) = (usize::from(packet.view.l3), outer.format.overhead::<F>());
    let inner = packet.buffer.head().get(l3..packet.view.end as usize)?;
    let sum = inner_sum::<F, _>(packet, outer.format)?;
    if inner.len() + added > usize::from(u16::MAX) {
        return None;
    }
    let mut copy = pool.alloc(l3 + added + inner.len())?;
    let frame = copy.head_mut();
    frame[..l3].copy_from_slice(&packet.buffer.head()[..l3]);
    frame[l3 + added..].copy_from_slice(inner);
    emit(frame, packet.view, outer, sum);
    Some(copy)
}

/// Returns an encapsulated copy of a packet, as [`copy_back`] does, with an outer header of either
/// family. `None` also when the two outer addresses are of different families.
pub fn copy_back_to<P: Pool>(
    packet: &Packet<P::Buffer>,
    outer: OuterIp,
    pool: &mut P,
) -> Option<P::Buffer> {
    let OuterIp { format, source, destination, entropy } = outer;
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let outer = Outer::<V4> { format, source, destination, entropy };
            copy_back(packet, &outer, pool)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let outer = Outer::<V6> { format, source, destination, entropy };
            copy_back(packet, &outer, pool)
        }
        _ => None,
    }
}

/// Encapsulates a packet in place, as [`put`] does, with an outer header of either family. Returns
/// `false` also when the two outer addresses are of different families.
#[must_use]
pub fn put_to<B: Buffer>(packet: &mut Packet<B>, outer: OuterIp) -> bool {
    let OuterIp { format, source, destination, entropy } = outer;
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            put(packet, &Outer::<V4> { format, source, destination, entropy })
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            put(packet, &Outer::<V6> { format, source, destination, entropy })
        }
        _ => false,
    }
}

/// Writes EtherType, outer header and tunnel header in front of the inner packet. `view` is that
/// packet's view before the headers were put in front of it.
#[inline(always)]
fn emit<F: Family>(frame: &mut [u8], view: View, outer: &Outer<F>, inner_sum: Sum) {
    let (l3, tunnel) = (usize::from(view.l3), outer.format.header());
    // One bounds check: the inner header has at least its traffic class.
    let (front, inner) = frame.split_at_mut(l3 + F::HEADER + tunnel);
    put_u16(front, l3 - 2, F::VERSION.ethertype());
    let (header, tunnel) = front[l3..].split_at_mut(F::HEADER);
    let inner_length = view.end as usize - l3;
    let traffic_class = match view.version {
        Version::V4 => V4::traffic_class(inner),
        Version::V6 => V6::traffic_class(inner),
    };
    let (from, to) = (outer.source, outer.destination);
    let header_fields = Emit {
        traffic_class,
        length: F::HEADER + tunnel.len() + inner_length,
        protocol: outer.format.protocol(view.version),
        from,
        to,
        flow_label: outer.entropy,
    };
    F::emit(header, header_fields);
    outer.format.emit(tunnel, view.version, inner_length, outer.entropy);
    if has_checksum::<F>(outer.format) {
        let length = tunnel.len() + inner_length;
        let pseudo = F::pseudo_header(from, to, tunnel::UDP, length);
        let checksum = Sum::of(tunnel).plus(pseudo).plus(inner_sum).checksum();
        // Zero means "no checksum" (RFC 768).
        let checksum = if checksum == 0 { 0xffff } else { checksum };
        put_u16(tunnel, tunnel::UDP_CHECKSUM, checksum);
    }
}

/// Returns whether the outer UDP header has a checksum: over IPv6 it must (RFC 8200, section 8.1),
/// over IPv4 tunnels go without.
const fn has_checksum<F: Family>(format: Format) -> bool {
    format.is_udp() && matches!(F::VERSION, Version::V6)
}

/// Returns the sum of the packet to be encapsulated; zero where the tunnel has no checksum. `None`
/// when the packet is spread over several buffer segments.
#[inline(always)]
fn inner_sum<F: Family, B: Buffer>(packet: &Packet<B>, format: Format) -> Option<Sum> {
    match has_checksum::<F>(format) {
        true => sum_of(packet.buffer.head(), packet.view),
        false => Some(Sum::default()),
    }
}

/// Returns the sum of a whole IP packet in a frame; `None` when the packet is not contiguous.
///
/// The sum of a TCP packet follows from its headers alone: with a right checksum, its segment and
/// pseudo header add up to zero. A packet with a wrong TCP checksum gets a wrong sum, too, and is
/// dropped at the end of the tunnel instead of at its destination.
pub(super) fn sum_of(head: &[u8], view: View) -> Option<Sum> {
    fn of_tcp<F: Family>(ip: &[u8], header: usize, length: usize) -> Sum {
        let (from, to) = (F::source(ip), F::destination(ip));
        let pseudo = F::pseudo_header(from, to, ipv4::TCP, length - header);
        Sum::of(&ip[..header]).plus(Delta::removed(pseudo).sum())
    }
    let (l3, end) = (usize::from(view.l3), view.end as usize);
    let header = usize::from(view.l4) - l3;
    match (view.kind, view.version) {
        (Kind::Tcp, Version::V4) => Some(of_tcp::<V4>(&head[l3..], header, end - l3)),
        (Kind::Tcp, Version::V6) => Some(of_tcp::<V6>(&head[l3..], header, end - l3)),
        _ => head.get(l3..end).map(Sum::of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::{HeapBuffer, HeapPool};
    use crate::testing::{Segment, ethernet_frame, icmp_error, tunnel_in};

    fn syn(from: &str, to: &str) -> Segment {
        Segment::syn(from, to, 7).traffic_class(0xba).payload(b"odd")
    }

    const ENDS: [(&str, &str); 2] =
        [("198.18.1.10:40000", "203.0.113.10:80"), ("[2001:db8::1]:40000", "[2001:db8::2]:80")];
    const OUTER: [(&str, &str); 2] =
        [("203.0.113.10", "198.51.100.10"), ("2001:db8:2::10", "2001:db8:3::10")];

    fn outer_ip(ends: (&str, &str), (format, entropy): (Format, u32)) -> OuterIp {
        let (source, destination) = (ends.0.parse().unwrap(), ends.1.parse().unwrap());
        OuterIp { format, source, destination, entropy }
    }

    fn put_in(packet: &mut Packet<HeapBuffer>, outer: (&str, &str), format: (Format, u32)) -> bool {
        put_to(packet, outer_ip(outer, format))
    }

    #[test]
    fn the_result_equals_a_tunnel_built_by_the_test_codec_without_padding() {
        for (from, to) in ENDS {
            for outer in OUTER {
                for format in Format::ALL {
                    let mut frame = syn(from, to).frame();
                    frame.extend([0xee; 5]);
                    let mut packet = Packet::new(HeapBuffer::new(&frame));
                    assert!(put_in(&mut packet, outer, (format, 0x1234_5678)));
                    let inner = syn(from, to).packet();
                    let plain = tunnel_in(format, outer, (0xba, 0x1234_5678), &inner);
                    let plain = ethernet_frame(syn(from, to).macs, &plain);
                    assert_eq!(packet.buffer.frame(), plain, "{from} {outer:?} {format:?}");
                    assert_eq!(packet.view, View::parse(&plain, plain.len()));
                }
            }
        }
    }

    #[test]
    fn the_udp_checksum_over_ipv6_covers_icmp_too() {
        let quoted = syn(ENDS[0].0, ENDS[0].1).packet();
        let frame = icmp_error("192.0.2.1", "198.18.1.10", 3, 4, &quoted);
        let mut packet = Packet::new(HeapBuffer::new(&frame));
        assert!(put_in(&mut packet, OUTER[1], (Format::Gue, 9)));
        let plain = tunnel_in(Format::Gue, OUTER[1], (0, 9), &frame[14..]);
        assert_eq!(packet.ip(), plain);
        let mut packet = Packet::new(HeapBuffer::segmented(&frame, 50));
        assert!(!put_in(&mut packet, OUTER[1], (Format::Gue, 9)), "the packet cannot be summed");
        assert!(put_in(&mut packet, OUTER[1], (Format::Gre, 9)), "GRE needs no sum");
    }

    #[test]
    fn a_copy_is_addressed_back_to_the_previous_hop() {
        let syn = syn(ENDS[0].0, ENDS[0].1);
        let packet = Packet::new(HeapBuffer::new(&syn.frame()));
        let copy = |limit| {
            let mut pool = HeapPool::with_limit(limit);
            copy_back_to(&packet, outer_ip(OUTER[0], (Format::Ipip, 0)), &mut pool)
        };
        let mut expected = syn.clone();
        expected.macs = (expected.macs.1, expected.macs.0);
        assert_eq!(copy(1).unwrap().frame(), expected.tunnelled(OUTER[0].0, OUTER[0].1));
        assert!(copy(0).is_none());
    }
}
