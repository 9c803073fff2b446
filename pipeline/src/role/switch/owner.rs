//! The owner of a packet at the switch: the worker that its client's address selects.

use std::net::IpAddr;

use crate::packet::buffer::Buffer;
use crate::packet::view::{Kind, Packet, Side};
use crate::stage::{icmp_relay, quote};
use crate::wire::family::{Family, V4, V6, Version};

/// Returns the client address of a packet; `None` for traffic that the switch does not handle.
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
    match (packet.view.kind, from) {
        (Kind::FirstFragment | Kind::Fragment, Side::Outside) => {
            Some(packet.view.addresses(packet.buffer.head()).0)
        }
        (Kind::Icmp, _) => match packet.view.version {
            Version::V4 => client_of_error::<V4, B>(from, packet),
            Version::V6 => client_of_error::<V6, B>(from, packet),
        },
        _ => None,
    }
}

/// Returns the client that an ICMP error is about.
fn client_of_error<F: Family, B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
    match from {
        Side::Outside => Some(quote::read::<F, B>(packet)?.destination.address.into()),
        Side::Inside => match icmp_relay::read::<F, B>(packet) {
            Some(error) => Some(error.sender.ip()),
            None => Some(quote::read::<F, B>(packet)?.source.address.into()),
        },
    }
}
