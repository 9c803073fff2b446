//! The differences between the configurations A, B and C at the replica, in one place. The sibling
//! of this module is `role/gateway/mode`.
//!
//! | step (operation) | A | B | C |
//! |---|---|---|---|
//! | SYN/ACK, or refusal | plain (op 412) | encapsulate as server (op 442) | encapsulate as replica, server inside (op 462) |
//! | later packets to the client | plain | rewrite source | rewrite source, encapsulate |
//! | packets from the gateway | plain | plain | decapsulate, rewrite destination |
//!
//! The configuration comes with the connection's tag, so it is a field of its entry: one replica
//! serves gateways of all three at once. Differences that need no more than a
//! yes or no are methods of [`Configuration`].

use super::connection::Connection;
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::policy::tunnel_path::TunnelPath;
use crate::role::gateway::mode::EncapError;
use crate::stage::encap::{self, Outer};
use crate::stage::quote::{self, End, Quoted};
use crate::stage::{clamp, rewrite};
use crate::wire::configuration::Configuration;
use crate::wire::family::{Endpoint, Family};

/// The kind of a packet within its connection, which decides its form toward the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// The SYN/ACK, or the refusal in its place.
    SynAck,
    /// A later whole packet, or the first fragment of one.
    Data,
    /// A later fragment, which has no ports.
    LaterFragment,
}

/// Puts a web server's packet into the form in which the client's gateway expects it (ops 412, 442,
/// 462).
#[inline(always)]
pub(super) fn to_client<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    segment: Segment,
    client: Endpoint<F>,
    connection: &Connection<F>,
    path: &TunnelPath,
) -> Result<(), EncapError> {
    match (connection.configuration, segment) {
        // op 412: as the replica, plain.
        (Configuration::A, _) => Ok(()),
        // op 442: as the server outside, as the replica inside.
        (Configuration::B, Segment::SynAck) => {
            encapsulate(packet, connection.server.address, client, connection)
        }
        (Configuration::B, Segment::Data | Segment::LaterFragment) => {
            rewrite_as_server(packet, segment, connection);
            Ok(())
        }
        // op 462: as the replica outside, as the server inside.
        (Configuration::C, _) => {
            let inner_mtu = path.inner_mtu::<F>(connection.format);
            if packet.ip_len() > inner_mtu {
                return Err(EncapError::TooBig(inner_mtu));
            }
            rewrite_as_server(packet, segment, connection);
            encapsulate(packet, connection.replica.address, client, connection)
        }
    }
}

#[inline(always)]
fn rewrite_as_server<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    segment: Segment,
    connection: &Connection<F>,
) {
    match segment {
        _ if connection.has_vip => {}
        Segment::LaterFragment => {
            F::set_source(packet.ip_mut(), connection.server.address);
        }
        Segment::SynAck | Segment::Data => rewrite::source(packet, connection.server),
    }
}

#[inline(always)]
fn encapsulate<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    source: F::Address,
    client: Endpoint<F>,
    connection: &Connection<F>,
) -> Result<(), EncapError> {
    let (format, destination, entropy) = (connection.format, client.address, client.entropy());
    let outer = Outer::<F> { format, source, destination, entropy };
    if encap::put(packet, &outer) { Ok(()) } else { Err(EncapError::NoHeadroom) }
}

/// Addresses a decapsulated packet to the web server (op 410 and, under C, every later packet).
#[inline(always)]
pub(super) fn to_web_server<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    segment: Segment,
    connection: &Connection<F>,
) {
    match segment {
        _ if connection.has_vip => {}
        Segment::LaterFragment => {
            F::set_destination(packet.ip_mut(), connection.replica.address);
        }
        Segment::SynAck | Segment::Data => rewrite::destination(packet, connection.replica),
    }
}

/// Lowers the MSS where full segments would not fit the tunnels. Returns whether it was lowered.
pub(super) fn clamp<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    connection: &Connection<F>,
    path: &TunnelPath,
) -> bool {
    let limit = clamp::limit::<F>(path.inner_mtu::<F>(connection.format));
    connection.configuration.data_in_tunnels() && clamp::mss(packet, limit)
}

/// Translates an ICMP error from the inside about a packet of the client. Where data is plain, the
/// error quotes a packet as the gateway sent it, and is forwarded unchanged; where data is
/// tunnelled, the error is put into the tunnel, and quotes the server.
pub(super) fn error_to_client<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    client: Endpoint<F>,
    connection: &Connection<F>,
) -> Result<(), EncapError> {
    if !connection.configuration.data_in_tunnels() {
        return Ok(());
    }
    if !connection.has_vip {
        quote::rewrite(packet, quoted, End::Destination, connection.server);
    }
    if F::source(packet.ip()) == connection.replica.address {
        quote::set_source::<F, B>(packet, connection.server.address);
    }
    encapsulate(packet, connection.replica.address, client, connection)
}

/// Translates an ICMP error, decapsulated or peeled, about a packet that was to reach the client
/// as from the server: the web server must find itself in it.
pub(super) fn error_to_web_server<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    connection: &Connection<F>,
) {
    let own = connection.sends_as();
    quote::rewrite(packet, quoted, End::Source, own);
    if F::destination(packet.ip()) != own.address {
        quote::set_destination::<F, B>(packet, own.address);
    }
}
