//! ICMP errors about the appliance's own tunnels to servers. The appliance sent the tunnelled
//! packet, but the sender of the packet inside has to react, so the error is relayed to that
//! sender.

use std::net::{IpAddr, SocketAddr};

use crate::packet::buffer::Buffer;
use crate::packet::view::{Packet, View};
use crate::stage::quote;
use crate::wire::checksum::Sum;
use crate::wire::family::{Emit, Endpoint, Family, V4, V6, Version};
use crate::wire::{icmp, put_u16, tcp};

/// An ICMP error about a tunnel: the tunnel, and the TCP packet that was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelError {
    /// The tunnel's outer source and destination.
    pub tunnel: (IpAddr, IpAddr),
    /// The source of the TCP packet inside.
    pub sender: SocketAddr,
    /// The destination of the TCP packet inside.
    pub receiver: SocketAddr,
    place: icmp::Place,
}

/// Reads an ICMP error about a tunnel with a TCP packet inside; outer and inner family may differ.
///
/// `None` for any other packet, for an error that is spread over several buffer segments, and for
/// one with a wrong checksum.
pub fn read<F: Family, B: Buffer>(packet: &Packet<B>) -> Option<TunnelError> {
    fn ends<F: Family>(message: &[u8], ip: usize) -> (IpAddr, IpAddr) {
        (F::source(&message[ip..]).into(), F::destination(&message[ip..]).into())
    }
    let View { l4, end, .. } = packet.view;
    let message = packet.buffer.head().get(usize::from(l4)..end as usize)?;
    let place = icmp::quoted_tcp(F::VERSION, message)?;
    let tunnel = ends::<F>(message, place.outer?);
    let (sender, receiver) = match place.version {
        Version::V4 => ends::<V4>(message, place.ip),
        Version::V6 => ends::<V6>(message, place.ip),
    };
    let tcp = &message[place.tcp..];
    let sender = SocketAddr::new(sender, tcp::source_port(tcp));
    let receiver = SocketAddr::new(receiver, tcp::destination_port(tcp));
    quote::checksum_ok::<F, B>(packet).then_some(TunnelError { tunnel, sender, receiver, place })
}

/// Turns an error about a tunnel into an error about the packet inside, addressed to that packet's
/// sender. The MTU that a "too big" reports is lowered by the tunnel's overhead.
///
/// Returns `false`, and changes nothing, when the two families differ and the error is no "too
/// big": other errors have no counterpart in the other family that a sender would act upon.
#[must_use]
pub fn to_sender<F: Family, B: Buffer>(packet: &mut Packet<B>, error: &TunnelError) -> bool {
    match (error.sender.ip(), error.receiver.ip()) {
        (sender, receiver) if error.place.version == F::VERSION => {
            peel::<F, B>(packet, error, sender, receiver).is_some()
        }
        (IpAddr::V4(to), IpAddr::V4(from)) => rebuild::<F, V4, B>(packet, error, from, to),
        (IpAddr::V6(to), IpAddr::V6(from)) => rebuild::<F, V6, B>(packet, error, from, to),
        _ => false,
    }
}

/// Relays an error about a packet of the tunnel's family.
fn peel<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    error: &TunnelError,
    sender: IpAddr,
    receiver: IpAddr,
) -> Option<()> {
    let (sender, receiver) = (F::from_ip(sender)?, F::from_ip(receiver)?);
    let quoted = quote::read::<F, B>(packet)?;
    quote::peel(packet, quoted)?;
    quote::set_destination::<F, B>(packet, sender);
    // The sender does not know the end of the tunnel.
    if F::source(packet.ip()).into() == error.tunnel.1 {
        quote::set_source::<F, B>(packet, receiver);
    }
    Some(())
}

/// Relays a "too big" about a packet of family `G` in a tunnel of family `F`. The new headers are
/// written in front of the quoted inner packet, where they take no more space than the old ones
/// did.
fn rebuild<F: Family, G: Family, B: Buffer>(
    packet: &mut Packet<B>,
    error: &TunnelError,
    from: G::Address,
    to: G::Address,
) -> bool {
    let View { l3, l4, end, .. } = packet.view;
    let (l3, l4) = (usize::from(l3), usize::from(l4));
    let message = &mut packet.buffer.head_mut()[l4..end as usize];
    if !icmp::is_too_big(F::VERSION, message) {
        return false;
    }
    let icmp::Place { ip, outer, .. } = error.place;
    let overhead = (ip - outer.unwrap_or(ip)) as u32;
    let mtu = icmp::mtu(F::VERSION, message).saturating_sub(overhead);
    let limit = icmp::take_quote_length(F::VERSION, message).unwrap_or(message.len());
    let quoted = limit.clamp(ip, message.len()) - ip;
    let quoted = quoted.min(G::QUOTED);
    let start = l4 + ip - icmp::HEADER - G::HEADER;
    let bytes = packet.buffer.head_mut();
    put_u16(bytes, l3 - 2, G::VERSION.ethertype());
    bytes.copy_within(0..l3, start - l3);
    packet.buffer.trim_front(start - l3);
    let length = G::HEADER + icmp::HEADER + quoted;
    packet.buffer.truncate(l3 + length);
    let emit = Emit {
        traffic_class: 0,
        length,
        protocol: G::ICMP,
        from,
        to,
        flow_label: Endpoint::<G>::new(to, 0).entropy(),
    };
    G::emit(packet.ip_mut(), emit);
    let message = &mut packet.ip_mut()[G::HEADER..length];
    let pseudo = match G::VERSION {
        Version::V4 => Sum::default(),
        Version::V6 => G::pseudo_header(from, to, G::ICMP, message.len()),
    };
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    icmp::emit_too_big(message, G::VERSION, mtu, pseudo);
    packet.reparse();
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::HeapBuffer;
    use crate::packet::view::Kind;
    use crate::testing::{Segment, icmp_error, socket, tunnel_in};
    use crate::wire::tunnel::Format;

    const CLIENT: &str = "[2001:db8:1::10]:40000";
    const SERVICE: &str = "[2001:db8:2::10]:80";
    const ENDS: (&str, &str) = ("203.0.113.10", "203.0.113.21");

    fn inner() -> Segment {
        Segment::ack(CLIENT, SERVICE, 7, 9).payload(&[3; 1400])
    }

    /// Returns an error about IPv6 in a tunnel over IPv4 that quotes this many bytes of the tunnel.
    fn error_frame(code: u8, quoted: usize) -> Vec<u8> {
        let outer = tunnel_in(Format::Ipip, ENDS, (0, 0), &inner().packet());
        icmp_error("192.0.2.1", ENDS.0, 3, code, &outer[..quoted])
    }

    fn packet(frame: &[u8]) -> Packet<HeapBuffer> {
        Packet::new(HeapBuffer::new(frame))
    }

    #[test]
    fn reads_the_tunnel_and_the_endpoints_inside() {
        let error = read::<V4, _>(&packet(&error_frame(4, 68))).unwrap();
        assert_eq!((error.sender, error.receiver), (socket(CLIENT), socket(SERVICE)));
        assert_eq!(error.tunnel, (ENDS.0.parse().unwrap(), ENDS.1.parse().unwrap()));
        // One byte less does not reach the end of the ports.
        assert_eq!(read::<V4, _>(&packet(&error_frame(4, 67))), None);
        let segmented = HeapBuffer::segmented(&error_frame(4, 68), 60);
        assert_eq!(read::<V4, _>(&Packet::new(segmented)), None);
        let plain = icmp_error("192.0.2.1", "198.18.1.10", 3, 4, &inner().packet());
        assert_eq!(read::<V4, _>(&packet(&plain)), None);
    }

    #[test]
    fn the_relayed_error_quotes_as_much_as_the_error_did() {
        for quoted in [68, 69, 80, 600, 1400] {
            let mut packet = packet(&error_frame(4, quoted));
            let error = read::<V4, _>(&packet).unwrap();
            assert!(to_sender::<V4, _>(&mut packet, &error));
            assert_eq!((packet.view.version, packet.view.kind), (Version::V6, Kind::Icmp));
            assert!(quote::checksum_ok::<V6, _>(&packet) && quote::is_too_big::<V6, _>(&packet));
            let inner_bytes = (quoted - 20).min(V6::QUOTED);
            assert_eq!(packet.buffer.frame()[62..], inner().packet()[..inner_bytes]);
            let message = &packet.ip()[V6::HEADER..];
            assert_eq!(icmp::mtu(Version::V6, message), 1380);
            assert_eq!(V6::destination(packet.ip()).to_string(), "2001:db8:1::10");
        }
    }

    #[test]
    fn icmp_extensions_are_not_taken_for_quoted_bytes() {
        let mut frame = error_frame(4, 128);
        frame.extend([9; 20]);
        let length = frame.len() - 14;
        V4::set_length(&mut frame[14..], length);
        frame[34 + 5] = 32;
        icmp::set_checksum(&mut frame[34..], Sum::default());
        let mut packet = packet(&frame);
        let error = read::<V4, _>(&packet).unwrap();
        assert!(to_sender::<V4, _>(&mut packet, &error));
        assert_eq!(packet.buffer.frame()[62..], inner().packet()[..108]);
    }

    #[test]
    fn an_error_without_a_counterpart_in_the_other_family_is_not_changed() {
        let frame = error_frame(1, 200);
        let mut packet = packet(&frame);
        let error = read::<V4, _>(&packet).unwrap();
        assert!(!to_sender::<V4, _>(&mut packet, &error));
        assert_eq!(packet.buffer.frame(), frame);
    }
}
