//! The tunnels of configuration C, from client to winner.

use super::{EncapError, Translation};
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::policy::tunnel_path::TunnelPath;
use crate::stage::clamp;
use crate::stage::encap::{self, Outer};
use crate::stage::quote::{self, Quoted};
use crate::wire::family::Family;
use crate::wire::tunnel::Format;

/// Puts a packet of the client into its tunnel, if it fits the path MTU.
#[inline(always)]
pub(super) fn encapsulate<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    translation: &Translation<F>,
    path: &TunnelPath,
) -> Result<(), EncapError> {
    match translation.format {
        // All lengths of the usual format are constants.
        Format::Ipip => {
            encapsulate_as(packet, &Translation { format: Format::Ipip, ..*translation }, path)
        }
        Format::Gre | Format::Gue => encapsulate_as(packet, translation, path),
    }
}

#[inline(always)]
fn encapsulate_as<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    translation: &Translation<F>,
    path: &TunnelPath,
) -> Result<(), EncapError> {
    let inner_mtu = path.inner_mtu::<F>(translation.format);
    if packet.ip_len() > inner_mtu {
        return Err(EncapError::TooBig(inner_mtu));
    }
    if encapsulate_any_size(packet, translation) { Ok(()) } else { Err(EncapError::NoHeadroom) }
}

/// Puts a packet into its tunnel, without regard to the path MTU. Returns whether it did.
#[inline(always)]
pub(super) fn encapsulate_any_size<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    translation: &Translation<F>,
) -> bool {
    let outer = Outer::<F> {
        format: translation.format,
        source: translation.client.address,
        destination: translation.replica.address,
        entropy: translation.client.entropy(),
    };
    encap::put(packet, &outer)
}

/// Lowers the MSS so that full segments fit the tunnels. Returns whether it was lowered.
pub(super) fn clamp<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    path: &TunnelPath,
    format: Format,
) -> bool {
    clamp::mss(packet, clamp::limit::<F>(path.inner_mtu::<F>(format)))
}

/// Translates an error that quotes the tunnel: the client must find the packet that it sent.
pub(super) fn error_to_client<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    translation: &Translation<F>,
) -> bool {
    let tunnel = Some((translation.client.address, translation.replica.address));
    if quoted.outer != tunnel || quoted.destination != translation.server {
        return false;
    }
    if quote::peel(packet, quoted).is_none() {
        return false;
    }
    if F::source(packet.ip()) == translation.replica.address {
        quote::set_source::<F, B>(packet, translation.server.address);
    }
    true
}
