//! The tunnels of configuration C, from client to winner.

use super::{Obstacle, Way};
use crate::packet::buffer::Buffer;
use crate::wire::family::Family;
use crate::policy::tunnel_path::Path;
use crate::stage::clamp;
use crate::stage::encap::{self, Outer};
use crate::stage::quote::{self, Quoted};
use crate::packet::view::Packet;
use crate::wire::tunnel::Format;

/// Puts a packet of the client into its tunnel, if it fits the path.
#[inline(always)]
pub(super) fn put<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    way: &Way<F>,
    path: &Path,
) -> Result<(), Obstacle> {
    let room = path.room::<F>(way.format);
    if packet.ip_len() > room {
        return Err(Obstacle::TooBig(room));
    }
    if put_whatever(packet, way) { Ok(()) } else { Err(Obstacle::NoRoom) }
}

/// Puts a packet into its tunnel, whatever the path.
#[inline(always)]
pub(super) fn put_whatever<F: Family, B: Buffer>(packet: &mut Packet<B>, way: &Way<F>) -> bool {
    let outer = Outer::<F> {
        format: way.format,
        source: way.client.address,
        destination: way.replica.address,
        entropy: way.client.entropy(),
    };
    encap::put(packet, &outer)
}

/// Full segments are to fit the tunnels, both ways.
pub(super) fn clamp<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    path: &Path,
    format: Format,
) -> bool {
    clamp::mss(packet, clamp::limit::<F>(path.room::<F>(format)))
}

/// The error quotes the tunnel: the client must find the packet that it sent.
pub(super) fn error_to_client<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    way: &Way<F>,
) -> bool {
    let tunnel = Some((way.client.address, way.replica.address));
    if quoted.outer != tunnel || quoted.destination != way.server {
        return false;
    }
    if quote::peel(packet, quoted).is_none() {
        return false;
    }
    if F::source(packet.ip()) == way.replica.address {
        quote::set_source::<F, B>(packet, way.server.address);
    }
    true
}
