//! ICMP errors about the appliance's own tunnels, from the way to a tunnelled server: the sender
//! of what was in the tunnel is the one who has to know.

use std::net::{IpAddr, SocketAddr};

use crate::buffer::Buffer;
use crate::family::{Emit, Endpoint, Family, V4, V6, Version};
use crate::stage::quote;
use crate::view::{Packet, View};
use crate::wire::checksum::Sum;
use crate::wire::{icmp, put_u16, tcp};

/// What such an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The tunnel's outer source and destination.
    pub tunnel: (IpAddr, IpAddr),
    /// Who sent the TCP packet in it.
    pub sender: SocketAddr,
    /// Whom it was for.
    pub receiver: SocketAddr,
    place: icmp::Place,
}

/// Reads an error about a tunnel with a TCP packet in it, of whatever families. `None` for all
/// else, and for one that is not all in one buffer segment, or has a wrong checksum.
pub fn read<F: Family, B: Buffer>(packet: &Packet<B>) -> Option<About> {
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
    quote::checksum_ok::<F, B>(packet).then_some(About { tunnel, sender, receiver, place })
}

/// Makes it an error about the packet in the tunnel, to that packet's sender. What a "too big"
/// says gets through is less by what the tunnel takes. `false`, and nothing changed, for an error
/// about a tunnel of another family than the packet in it, unless it is a "too big": the others
/// have no counterpart that a sender would act upon.
#[must_use]
pub fn to_sender<F: Family, B: Buffer>(packet: &mut Packet<B>, about: &About) -> bool {
    match (about.sender.ip(), about.receiver.ip()) {
        (sender, receiver) if about.place.version == F::VERSION => {
            peeled::<F, B>(packet, about, (sender, receiver)).is_some()
        }
        (IpAddr::V4(to), IpAddr::V4(from)) => rebuilt::<F, V4, B>(packet, about, (from, to)),
        (IpAddr::V6(to), IpAddr::V6(from)) => rebuilt::<F, V6, B>(packet, about, (from, to)),
        _ => false,
    }
}

fn peeled<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    about: &About,
    (sender, receiver): (IpAddr, IpAddr),
) -> Option<()> {
    let (sender, receiver) = (F::from_ip(sender)?, F::from_ip(receiver)?);
    let quoted = quote::read::<F, B>(packet)?;
    quote::peel(packet, quoted)?;
    quote::set_destination::<F, B>(packet, sender);
    // The tunnel's end is unknown to the sender.
    if F::source(packet.ip()).into() == about.tunnel.1 {
        quote::set_source::<F, B>(packet, receiver);
    }
    Some(())
}

/// In place, in front of the inner packet as it was quoted: the headers that go there take no
/// more than those that were there.
fn rebuilt<F: Family, G: Family, B: Buffer>(
    packet: &mut Packet<B>,
    about: &About,
    (from, to): (G::Address, G::Address),
) -> bool {
    let View { l3, l4, end, .. } = packet.view;
    let (l3, l4) = (usize::from(l3), usize::from(l4));
    let message = &mut packet.buffer.head_mut()[l4..end as usize];
    if !icmp::is_too_big(F::VERSION, message) {
        return false;
    }
    let icmp::Place { ip, outer, .. } = about.place;
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
    packet.look_again();
    true
}
