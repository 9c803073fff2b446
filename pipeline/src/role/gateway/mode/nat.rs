//! ICMP errors of connections whose packets are rewritten: under A and B alike.

use super::Way;
use crate::packet::buffer::Buffer;
use crate::wire::family::Family;
use crate::stage::quote::{self, End, Quoted};
use crate::packet::view::Packet;

/// The error quotes what went to the replica: the client must find the server in it.
pub(super) fn error_to_client<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    way: &Way<F>,
) -> bool {
    if quoted.outer.is_some() || quoted.destination != way.replica {
        return false;
    }
    quote::rewrite(packet, quoted, End::Destination, way.server);
    if F::source(packet.ip()) == way.replica.address {
        quote::set_source::<F, B>(packet, way.server.address);
    }
    true
}

/// The error quotes what the client got as from the server: the replica must find itself.
pub(super) fn error_to_replica<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    way: &Way<F>,
) {
    quote::rewrite(packet, quoted, End::Source, way.replica);
    if F::destination(packet.ip()) == way.server.address {
        quote::set_destination::<F, B>(packet, way.replica.address);
    }
}
