//! What differs between the configurations A, B and C at the replica, in one place.
//!
//! | step (operation) | A | B | C |
//! |---|---|---|---|
//! | acknowledgement, or refusal | plain (412) | encap as server (442) | encap as replica, server inside (462) |
//! | later packets to the client | plain | rewrite source | rewrite source, encap |
//! | packets from the gateway | plain | plain | crack, rewrite destination |
//!
//! The configuration comes with the connection's tag, so it is a field of its entry: one
//! replica serves gateways of all three.

use super::Held;
use crate::packet::buffer::Buffer;
use crate::role::gateway::mode::Obstacle;
use crate::wire::family::{Endpoint, Family};
use crate::policy::tunnel_path::Path;
use crate::stage::encap::{self, Outer};
use crate::stage::quote::{self, End, Quoted};
use crate::stage::tag::Code;
use crate::stage::{clamp, rewrite};
use crate::packet::view::Packet;

/// What of a connection's packets decides their form on the way to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The acknowledgement, or the refusal that comes in its place.
    Answer,
    /// A whole packet after it, or the first fragment of one.
    Data,
    /// A later fragment, which has no ports.
    LaterFragment,
}

/// A packet of a web server, on its way to the client (ops 412, 442, 462).
#[inline(always)]
pub(super) fn to_client<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    part: Part,
    client: Endpoint<F>,
    held: &Held<F>,
    path: &Path,
) -> Result<(), Obstacle> {
    match (held.configuration, part) {
        (Code::A, _) => Ok(()),
        // op 442: as the server outside, as the replica inside.
        (Code::B, Part::Answer) => put(packet, held.server.address, client, held),
        (Code::B, _) => {
            as_server(packet, part, held);
            Ok(())
        }
        // op 462: as the replica outside, as the server inside.
        (Code::C, _) => {
            let room = path.room::<F>(held.format);
            if packet.ip_len() > room {
                return Err(Obstacle::TooBig(room));
            }
            as_server(packet, part, held);
            put(packet, held.replica.address, client, held)
        }
    }
}

#[inline(always)]
fn as_server<F: Family, B: Buffer>(packet: &mut Packet<B>, part: Part, held: &Held<F>) {
    match part {
        _ if held.bears_service => {}
        Part::LaterFragment => drop(F::set_source(packet.ip_mut(), held.server.address)),
        Part::Answer | Part::Data => rewrite::source(packet, held.server),
    }
}

#[inline(always)]
fn put<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    source: F::Address,
    client: Endpoint<F>,
    held: &Held<F>,
) -> Result<(), Obstacle> {
    let (format, destination, entropy) = (held.format, client.address, client.entropy());
    let outer = Outer::<F> { format, source, destination, entropy };
    if encap::put(packet, &outer) { Ok(()) } else { Err(Obstacle::NoRoom) }
}

/// A cracked packet on its way to the web server (op 410 and, under C, all later ones).
#[inline(always)]
pub(super) fn to_web_server<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    part: Part,
    held: &Held<F>,
) {
    match part {
        _ if held.bears_service => {}
        Part::LaterFragment => drop(F::set_destination(packet.ip_mut(), held.replica.address)),
        Part::Answer | Part::Data => rewrite::destination(packet, held.replica),
    }
}

/// Under C full segments are to fit the tunnels, both ways; whether the MSS was lowered.
pub(super) fn clamp<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    held: &Held<F>,
    path: &Path,
) -> bool {
    let limit = clamp::limit::<F>(path.room::<F>(held.format));
    held.configuration == Code::C && clamp::mss(packet, limit)
}

/// An ICMP error from the inside about a packet of the client. Under A and B it quotes what the
/// gateway sent, and goes as it is; under C it goes into the tunnel, with the server in it.
pub(super) fn error_to_client<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    client: Endpoint<F>,
    held: &Held<F>,
) -> Result<(), Obstacle> {
    if held.configuration != Code::C {
        return Ok(());
    }
    if !held.bears_service {
        quote::rewrite(packet, quoted, End::Destination, held.server);
    }
    if F::source(packet.ip()) == held.replica.address {
        quote::set_source::<F, B>(packet, held.server.address);
    }
    put(packet, held.replica.address, client, held)
}

/// An ICMP error, cracked or peeled, about a packet that the client got, or would have got, as from
/// the server: the web server must find itself in it.
pub(super) fn error_to_web_server<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    held: &Held<F>,
) {
    let own = if held.bears_service { held.server } else { held.replica };
    quote::rewrite(packet, quoted, End::Source, own);
    if F::destination(packet.ip()) != own.address {
        quote::set_destination::<F, B>(packet, own.address);
    }
}
