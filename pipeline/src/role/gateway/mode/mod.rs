//! The differences between the configurations A, B and C at the gateway, in one place. The sibling
//! of this module is `role/replica/mode`.
//!
//! | step (operation) | A | B | C |
//! |---|---|---|---|
//! | SYN/ACK of a replica | plain from R | tunnelled by V, R inside (op 535) | tunnelled by R, V inside (op 554) |
//! | first SYN/ACK | rewrite source (op 512) | decapsulate, rewrite source (op 542) | forward decapsulated (op 564) |
//! | client to replica | rewrite destination (op 612) | rewrite destination (op 636) | encapsulate (op 656) |
//! | replica to client | rewrite source (op 612) | nothing, no lookup (op 632) | decapsulate (op 658) |
//! | reset to a losing replica (op 514) | plain | plain | encapsulate |
//!
//! A mode is a type without a value: the worker's loop is compiled for the one it runs. The trait
//! has no default steps, so that a further mode does not compile until it has decided on each.

mod nat;
mod tunnel;

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::Packet;
use crate::policy::tunnel_path::TunnelPath;
use crate::stage::quote::Quoted;
use crate::stage::{reset, rewrite};
use crate::wire::configuration::Configuration;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tunnel::Format;

/// The addresses of a connection that a replica has won, between which its packets are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation<F: Family> {
    /// C: the client.
    pub client: Endpoint<F>,
    /// V: the server that the client connects to.
    pub server: Endpoint<F>,
    /// R: the replica that won.
    pub replica: Endpoint<F>,
    /// The format of tunnels to the replica.
    pub format: Format,
}

/// Why a packet was not put into a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncapError {
    /// The buffer has no headroom, or the packet exceeds the outer header's length field.
    NoHeadroom,
    /// The packet is larger than the tunnel's inner MTU, which is this many bytes.
    TooBig(usize),
}

/// The possible sender of a tunnelled packet from the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelSource<F: Family> {
    /// A replica with this endpoint.
    Replica(Endpoint<F>),
    /// A host that pretends to be the server (op 658: the authenticity check).
    Spoofed,
    /// A host that has nothing to do with the connection.
    Unknown,
}

/// The steps of one configuration at the gateway.
pub trait Mode: Copy + Default + Send + 'static {
    /// The value in the tag, from which gateway and replica derive the form of their packets.
    const CONFIGURATION: Configuration;
    /// Whether a replica's SYN/ACK comes in a tunnel.
    const SYN_ACK_IN_TUNNEL: bool = Self::CONFIGURATION.syn_ack_in_tunnel();
    /// Whether all later packets of the winner travel in tunnels.
    const DATA_IN_TUNNELS: bool = Self::CONFIGURATION.data_in_tunnels();
    /// Whether plain data from the outside is looked up.
    const REPLIES_NEED_LOOKUP: bool = Self::CONFIGURATION.replies_need_lookup();

    /// Returns the sender of a tunnelled packet of a connection to `server`, by its outer and inner
    /// source.
    fn tunnel_source<F: Family>(
        outer: F::Address,
        inner: Endpoint<F>,
        server: Endpoint<F>,
    ) -> TunnelSource<F>;

    /// Returns the source of the winner's plain packets; `None` when it sends none.
    fn plain_winner<F: Family>(translation: &Translation<F>) -> Option<Endpoint<F>>;

    /// Lowers the MSS of a SYN, where full segments would not fit the tunnels. Returns whether it
    /// was lowered.
    fn clamp_syn<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        path: &TunnelPath,
        format: Format,
    ) -> bool;

    /// Makes a winner's SYN/ACK, plain or decapsulated, one from the server (ops 512, 542, 564).
    /// Returns whether its MSS was lowered.
    fn syn_ack_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        path: &TunnelPath,
    ) -> bool;

    /// Sends a client's packet, whole or first fragment, toward the winner (ops 612, 636, 656).
    ///
    /// # Errors
    /// The packet was not put into its tunnel, and is unchanged.
    fn to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        path: &TunnelPath,
    ) -> Result<(), EncapError>;

    /// Sends a client's later fragment, which has no ports, toward the winner.
    ///
    /// # Errors
    /// The fragment was not put into its tunnel, and is unchanged.
    fn fragment_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        path: &TunnelPath,
    ) -> Result<(), EncapError>;

    /// Makes a winner's packet, whole or first fragment, plain or decapsulated, one from the server
    /// (ops 612, 632, 658).
    fn to_client<F: Family, B: Buffer>(packet: &mut Packet<B>, translation: &Translation<F>);

    /// Makes a winner's later fragment one from the server.
    fn fragment_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
    );

    /// Translates an ICMP error from the outside about a packet to the winner. Returns `false`, and
    /// changes nothing, when the error is about another packet.
    fn error_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        quoted: Quoted<F>,
        translation: &Translation<F>,
    ) -> bool;

    /// Translates an ICMP error from the inside about a packet of the winner.
    ///
    /// # Errors
    /// The error was not put into its tunnel, and is unchanged.
    fn error_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        quoted: Quoted<F>,
        translation: &Translation<F>,
        path: &TunnelPath,
    ) -> Result<(), EncapError>;

    /// Makes the reset that answers a losing replica's SYN/ACK, plain or decapsulated, as from the
    /// client (op 514). `None` when the pool is empty.
    fn reset<F: Family, P: Pool>(
        syn_ack: &Packet<P::Buffer>,
        translation: &Translation<F>,
        pool: &mut P,
    ) -> Option<P::Buffer>;
}

/// Configuration A, full NAT: the gateway rewrites both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct A;

/// Configuration B, one-way NAT: the gateway rewrites packets to the replica, and the replica
/// writes the server's source address.
#[derive(Clone, Copy, Debug, Default)]
pub struct B;

/// Configuration C: tunnels in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct C;

impl Mode for A {
    const CONFIGURATION: Configuration = Configuration::A;

    fn tunnel_source<F: Family>(_: F::Address, _: Endpoint<F>, _: Endpoint<F>) -> TunnelSource<F> {
        TunnelSource::Unknown
    }

    fn plain_winner<F: Family>(translation: &Translation<F>) -> Option<Endpoint<F>> {
        Some(translation.replica)
    }

    fn clamp_syn<F: Family, B: Buffer>(_: &mut Packet<B>, _: &TunnelPath, _: Format) -> bool {
        false
    }

    // op 512: replace the replica's source with the server's.
    fn syn_ack_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        _: &TunnelPath,
    ) -> bool {
        rewrite::source(packet, translation.server);
        false
    }

    // op 612, from the client side: replace the server's destination with the replica's.
    #[inline(always)]
    fn to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        _: &TunnelPath,
    ) -> Result<(), EncapError> {
        rewrite::destination(packet, translation.replica);
        Ok(())
    }

    fn fragment_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        _: &TunnelPath,
    ) -> Result<(), EncapError> {
        nat::fragment_to_replica(packet, translation);
        Ok(())
    }

    // op 612, not from the client side: replace the replica's source with the server's.
    #[inline(always)]
    fn to_client<F: Family, B: Buffer>(packet: &mut Packet<B>, translation: &Translation<F>) {
        rewrite::source(packet, translation.server);
    }

    fn fragment_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
    ) {
        F::set_source(packet.ip_mut(), translation.server.address);
    }

    fn error_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        quoted: Quoted<F>,
        translation: &Translation<F>,
    ) -> bool {
        nat::error_to_client(packet, quoted, translation)
    }

    fn error_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        quoted: Quoted<F>,
        translation: &Translation<F>,
        _: &TunnelPath,
    ) -> Result<(), EncapError> {
        nat::error_to_replica(packet, quoted, translation);
        Ok(())
    }

    fn reset<F: Family, P: Pool>(
        syn_ack: &Packet<P::Buffer>,
        _: &Translation<F>,
        pool: &mut P,
    ) -> Option<P::Buffer> {
        reset::answer::<F, P>(syn_ack, pool)
    }
}

impl Mode for B {
    const CONFIGURATION: Configuration = Configuration::B;

    // op 535: the replica has written the server's address into the outer header, and its own into
    // the inner one.
    fn tunnel_source<F: Family>(
        outer: F::Address,
        inner: Endpoint<F>,
        server: Endpoint<F>,
    ) -> TunnelSource<F> {
        if outer == server.address && inner.address != server.address {
            TunnelSource::Replica(inner)
        } else {
            TunnelSource::Unknown
        }
    }

    fn plain_winner<F: Family>(translation: &Translation<F>) -> Option<Endpoint<F>> {
        Some(translation.server)
    }

    fn clamp_syn<F: Family, B: Buffer>(_: &mut Packet<B>, _: &TunnelPath, _: Format) -> bool {
        false
    }

    // op 542: as from the server.
    fn syn_ack_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        _: &TunnelPath,
    ) -> bool {
        rewrite::source(packet, translation.server);
        false
    }

    // op 636: replace the server's destination with the replica's.
    #[inline(always)]
    fn to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        _: &TunnelPath,
    ) -> Result<(), EncapError> {
        rewrite::destination(packet, translation.replica);
        Ok(())
    }

    fn fragment_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        _: &TunnelPath,
    ) -> Result<(), EncapError> {
        nat::fragment_to_replica(packet, translation);
        Ok(())
    }

    // op 632: not from the client side, so not translated: the replica has translated it.
    fn to_client<F: Family, B: Buffer>(_: &mut Packet<B>, _: &Translation<F>) {}

    fn fragment_to_client<F: Family, B: Buffer>(_: &mut Packet<B>, _: &Translation<F>) {}

    fn error_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        quoted: Quoted<F>,
        translation: &Translation<F>,
    ) -> bool {
        nat::error_to_client(packet, quoted, translation)
    }

    fn error_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        quoted: Quoted<F>,
        translation: &Translation<F>,
        _: &TunnelPath,
    ) -> Result<(), EncapError> {
        nat::error_to_replica(packet, quoted, translation);
        Ok(())
    }

    fn reset<F: Family, P: Pool>(
        syn_ack: &Packet<P::Buffer>,
        _: &Translation<F>,
        pool: &mut P,
    ) -> Option<P::Buffer> {
        reset::answer::<F, P>(syn_ack, pool)
    }
}

impl Mode for C {
    const CONFIGURATION: Configuration = Configuration::C;

    // op 554: the outer source is the replica's; the inner one is the server's, port included.
    #[inline]
    fn tunnel_source<F: Family>(
        outer: F::Address,
        inner: Endpoint<F>,
        server: Endpoint<F>,
    ) -> TunnelSource<F> {
        if inner.address != server.address {
            TunnelSource::Unknown
        } else if inner.port != server.port || outer == server.address {
            TunnelSource::Spoofed
        } else {
            TunnelSource::Replica(Endpoint::new(outer, server.port))
        }
    }

    fn plain_winner<F: Family>(_: &Translation<F>) -> Option<Endpoint<F>> {
        None
    }

    fn clamp_syn<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        path: &TunnelPath,
        format: Format,
    ) -> bool {
        tunnel::clamp::<F, B>(packet, path, format)
    }

    // op 564: forwarded as decapsulated.
    fn syn_ack_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        path: &TunnelPath,
    ) -> bool {
        tunnel::clamp::<F, B>(packet, path, translation.format)
    }

    // op 656: encapsulate with the replica's destination and the client's source address.
    #[inline(always)]
    fn to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        path: &TunnelPath,
    ) -> Result<(), EncapError> {
        tunnel::encapsulate(packet, translation, path)
    }

    fn fragment_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        translation: &Translation<F>,
        path: &TunnelPath,
    ) -> Result<(), EncapError> {
        tunnel::encapsulate(packet, translation, path)
    }

    // op 658: decapsulated, and not changed beyond that.
    fn to_client<F: Family, B: Buffer>(_: &mut Packet<B>, _: &Translation<F>) {}

    fn fragment_to_client<F: Family, B: Buffer>(_: &mut Packet<B>, _: &Translation<F>) {}

    fn error_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        quoted: Quoted<F>,
        translation: &Translation<F>,
    ) -> bool {
        tunnel::error_to_client(packet, quoted, translation)
    }

    fn error_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        _: Quoted<F>,
        translation: &Translation<F>,
        path: &TunnelPath,
    ) -> Result<(), EncapError> {
        tunnel::encapsulate(packet, translation, path)
    }

    // op 514: tunnelled, as from the client.
    fn reset<F: Family, P: Pool>(
        syn_ack: &Packet<P::Buffer>,
        translation: &Translation<F>,
        pool: &mut P,
    ) -> Option<P::Buffer> {
        let mut reset = Packet::new(reset::answer::<F, P>(syn_ack, pool)?);
        tunnel::encapsulate_any_size(&mut reset, translation).then_some(reset.buffer)
    }
}
