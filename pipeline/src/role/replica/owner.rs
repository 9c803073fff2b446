//! The owner of a packet at the replica: the worker that its client's address selects.

use std::net::IpAddr;

use crate::packet::buffer::Buffer;
use crate::packet::view::{Kind, Packet, Side, View};
use crate::stage::quote;
use crate::wire::family::{Family, V4, V6, Version};

/// Returns the client address of a packet; `None` for traffic that the replica does not handle.
///
/// Compiled into its caller as far as nearly every packet needs it: with several workers and a port
/// that does not steer, it is called for each.
#[inline(always)]
pub(super) fn client_address<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
    match (packet.view.kind, from) {
        (Kind::Tcp, Side::Inside) => Some(packet.destination_address()),
        (Kind::Tcp, Side::Outside) => Some(packet.source_address()),
        _ => client_of_other(from, packet),
    }
}

/// Returns the client address of a packet that is not whole TCP.
#[inline(never)]
fn client_of_other<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
    let head = packet.buffer.head();
    let view = match (packet.view.kind, from) {
        // The client is the source of the packet inside.
        (Kind::Tunnel, Side::Outside) => packet.view.inner(head),
        _ => packet.view,
    };
    match (view.kind, from) {
        (Kind::Tcp | Kind::FirstFragment | Kind::Fragment, _) => {
            let (source, destination) = view.addresses(head);
            Some(if from == Side::Inside { destination } else { source })
        }
        (Kind::Icmp, _) => {
            let quoted = match view.version {
                Version::V4 => quoted::<V4>(head, view)?,
                Version::V6 => quoted::<V6>(head, view)?,
            };
            Some(if from == Side::Inside { quoted.0 } else { quoted.1 })
        }
        _ => None,
    }
}

/// Returns source and destination of the packet that an ICMP error quotes.
fn quoted<F: Family>(head: &[u8], view: View) -> Option<(IpAddr, IpAddr)> {
    let quoted = quote::read_at::<F>(head, view)?;
    Some((quoted.source.address.into(), quoted.destination.address.into()))
}
