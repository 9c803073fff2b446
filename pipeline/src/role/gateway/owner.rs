//! The owner of a packet at the gateway: the worker that its client's address selects.

use std::net::IpAddr;

use crate::packet::buffer::Buffer;
use crate::packet::view::{Kind, Packet, Side};
use crate::stage::quote;
use crate::wire::family::{Family, V4, V6, Version};

/// Returns the client address of a packet; `None` for traffic that the gateway does not handle.
///
/// Compiled into its caller as far as nearly every packet needs it: with several workers and a port
/// that does not steer, it is called for each.
#[inline(always)]
pub(super) fn client_address<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
    match (packet.view.kind, from) {
        (Kind::Tcp, Side::Inside) => Some(packet.source_address()),
        (Kind::Tcp, Side::Outside) => Some(packet.destination_address()),
        _ => client_of_other(from, packet),
    }
}

/// Returns the client address of a packet that is not whole TCP.
#[inline(never)]
fn client_of_other<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
    let (source, destination) = match packet.view.kind {
        Kind::Tunnel | Kind::FirstFragment | Kind::Fragment => {
            packet.view.addresses(packet.buffer.head())
        }
        Kind::Icmp => {
            return match packet.view.version {
                Version::V4 => quoted_client::<V4, B>(from, packet),
                Version::V6 => quoted_client::<V6, B>(from, packet),
            };
        }
        Kind::Tcp | Kind::BadTunnel | Kind::Arp | Kind::Other(_) => return None,
    };
    match (packet.view.kind, from) {
        (Kind::Tunnel, Side::Inside) => None,
        (_, Side::Inside) => Some(source),
        // A tunnel to a client has the client's address outside and inside.
        (_, Side::Outside) => Some(destination),
    }
}

/// Returns the client of the packet that an ICMP error quotes.
fn quoted_client<F: Family, B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
    let quoted = quote::read::<F, B>(packet)?;
    Some(match (from, quoted.outer) {
        (Side::Inside, _) => quoted.destination.address.into(),
        (Side::Outside, Some((source, _))) => source.into(),
        (Side::Outside, None) => quoted.source.address.into(),
    })
}
