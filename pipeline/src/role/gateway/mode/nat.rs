//! The steps that A and B share: fragments to the replica, and ICMP errors about rewritten packets.

use super::Translation;
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::stage::quote::{self, End, Quoted};
use crate::wire::family::Family;

/// Rewrites the destination of a client's later fragment, which has no ports.
pub(super) fn fragment_to_replica<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    translation: &Translation<F>,
) {
    F::set_destination(packet.ip_mut(), translation.replica.address);
}

/// Translates an error that quotes a packet to the replica: the client must find the server in it.
pub(super) fn error_to_client<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    translation: &Translation<F>,
) -> bool {
    if quoted.outer.is_some() || quoted.destination != translation.replica {
        return false;
    }
    quote::rewrite(packet, quoted, End::Destination, translation.server);
    if F::source(packet.ip()) == translation.replica.address {
        quote::set_source::<F, B>(packet, translation.server.address);
    }
    true
}

/// Translates an error that quotes a packet as the client received it from the server: the replica
/// must find itself in it.
pub(super) fn error_to_replica<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    translation: &Translation<F>,
) {
    quote::rewrite(packet, quoted, End::Source, translation.replica);
    if F::destination(packet.ip()) == translation.server.address {
        quote::set_destination::<F, B>(packet, translation.replica.address);
    }
}
