//! The owner of a packet at the gateway: the worker that its client's address selects.

use std::net::IpAddr;

use crate::packet::buffer::Buffer;
use crate::packet::view::{Kind, Packet, Side};
use crate::stage::quote;
use crate::wire::family::{Family, V4, V6, Version};

/// Returns the client address of a packet; `None` for traffic that the gateway does not handle.
pub(super) fn client_address<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
    let (source, destination) = match packet.view.kind {
        Kind::Tcp | Kind::Tunnel | Kind::FirstFragment | Kind::Fragment => {
            packet.view.addresses(packet.buffer.head())
        }
        Kind::Icmp => {
            return match packet.view.version {
                Version::V4 => quoted_client::<V4, B>(from, packet),
                Version::V6 => quoted_client::<V6, B>(from, packet),
            };
        }
        Kind::BadTunnel | Kind::Arp | Kind::Other(_) => return None,
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
