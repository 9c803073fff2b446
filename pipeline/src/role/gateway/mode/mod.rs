//! What differs between the configurations A, B and C at the gateway, in one place.
//!
//! | step (operation) | A | B | C |
//! |---|---|---|---|
//! | acknowledgement of a replica | plain from R | tunnelled by V, R inside (535) | tunnelled by R, V inside (554) |
//! | first acknowledgement | rewrite source (512) | crack, re-address as server (542) | forward cracked (564) |
//! | client to replica | rewrite destination (612) | rewrite destination (636) | encap (656) |
//! | replica to client | rewrite source (612) | nothing, no lookup (632) | crack (658) |
//! | reset to a losing replica (514) | plain | plain | encap |
//!
//! Each is a type without a value: the worker's loop is compiled for the one it runs. What
//! differs at the replica stands in [`crate::role::replica`]'s `form`: there the configuration
//! comes with each connection's tag.

mod nat;
mod tunnel;

use crate::packet::buffer::{Buffer, Pool};
use crate::wire::family::{Endpoint, Family};
use crate::policy::tunnel_path::Path;
use crate::stage::quote::Quoted;
use crate::stage::tag::Code;
use crate::stage::{reset, rewrite};
use crate::packet::view::Packet;
use crate::wire::tunnel::Format;

/// A connection that a replica has won, and how its packets get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way<F: Family> {
    /// C.
    pub client: Endpoint<F>,
    /// V.
    pub server: Endpoint<F>,
    /// R.
    pub replica: Endpoint<F>,
    /// The tunnels' format.
    pub format: Format,
}

/// What keeps a packet from a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The buffer or the outer header's length field has no room.
    NoRoom,
    /// The path has no room: packets of this many bytes fit.
    TooBig(usize),
}

/// Who a tunnelled packet from the outside may be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<F: Family> {
    /// A replica, with this endpoint.
    Replica(Endpoint<F>),
    /// Somebody who says to be the server, and is not (op 658: the authenticity check).
    Forged,
    /// Nobody that the connection knows.
    Stranger,
}

/// One configuration's steps. What is not said of one is rewriting, as A has it.
pub trait Configuration: Copy + Default + Send + 'static {
    /// How the tag names it.
    const CODE: Code;
    /// Whether packets of replicas come in tunnels, the acknowledgement at least.
    const TUNNELS: bool;
    /// Whether plain packets from the outside that are neither acknowledgement nor FIN nor RST
    /// concern the gateway at all (op 632: not under B).
    const FOLLOWS_PLAIN: bool;

    /// Who has sent a tunnelled packet: `outer` is its outer source, `inner` its inner one.
    fn claim<F: Family>(outer: F::Address, inner: Endpoint<F>, server: Endpoint<F>) -> Claim<F>;

    /// The endpoint that the winner's plain packets come from; `None` when none do.
    fn plain_winner<F: Family>(way: &Way<F>) -> Option<Endpoint<F>>;

    /// A start packet that is going to be tagged, or one on its way to the winner; whether its
    /// MSS was lowered.
    fn start<F: Family, B: Buffer>(_: &mut Packet<B>, _: &Path, _: Format) -> bool {
        false
    }

    /// An acknowledgement of the winner, plain or cracked, on its way to the client (ops 512, 542:
    /// as from the server); whether its MSS was lowered.
    fn acknowledgement<F: Family, B: Buffer>(p: &mut Packet<B>, way: &Way<F>, _: &Path) -> bool {
        rewrite::source(p, way.server);
        false
    }

    /// A packet of the client, whole or first fragment, on its way to the winner (ops 612, 636:
    /// the server's destination replaced by the replica's).
    #[inline(always)]
    fn to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        way: &Way<F>,
        _: &Path,
    ) -> Result<(), Obstacle> {
        rewrite::destination(packet, way.replica);
        Ok(())
    }

    /// A later fragment likewise.
    fn fragment_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        way: &Way<F>,
        _: &Path,
    ) -> Result<(), Obstacle> {
        F::set_destination(packet.ip_mut(), way.replica.address);
        Ok(())
    }

    /// A packet of the winner, whole or first fragment, plain or cracked, on its way to the client.
    fn to_client<F: Family, B: Buffer>(packet: &mut Packet<B>, way: &Way<F>);

    /// A later fragment likewise.
    fn fragment_to_client<F: Family, B: Buffer>(packet: &mut Packet<B>, way: &Way<F>);

    /// An ICMP error from the outside about a packet to the winner; `false`, and nothing
    /// changed, when it is about another.
    fn error_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        quoted: Quoted<F>,
        way: &Way<F>,
    ) -> bool {
        nat::error_to_client(packet, quoted, way)
    }

    /// An ICMP error from the inside about a packet of the winner.
    fn error_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        quoted: Quoted<F>,
        way: &Way<F>,
        _: &Path,
    ) -> Result<(), Obstacle> {
        nat::error_to_replica(packet, quoted, way);
        Ok(())
    }

    /// A reset that answers a losing replica's acknowledgement, plain or cracked (op 514: as from
    /// the client); `None` when the pool is empty.
    fn reset<F: Family, P: Pool>(
        acknowledgement: &Packet<P::Buffer>,
        _: &Way<F>,
        pool: &mut P,
    ) -> Option<P::Buffer> {
        reset::answer::<F, P>(acknowledgement, pool)
    }
}

/// Full NAT.
#[derive(Clone, Copy, Debug, Default)]
pub struct A;

/// One-way NAT: replicas write the server's source address.
#[derive(Clone, Copy, Debug, Default)]
pub struct B;

/// Tunnels both ways.
#[derive(Clone, Copy, Debug, Default)]
pub struct C;

impl Configuration for A {
    const CODE: Code = Code::A;
    const TUNNELS: bool = false;
    const FOLLOWS_PLAIN: bool = true;

    fn claim<F: Family>(_: F::Address, _: Endpoint<F>, _: Endpoint<F>) -> Claim<F> {
        Claim::Stranger
    }

    fn plain_winner<F: Family>(way: &Way<F>) -> Option<Endpoint<F>> {
        Some(way.replica)
    }

    // op 612, not from the client side: replace the replica's source with the server's.
    #[inline(always)]
    fn to_client<F: Family, B: Buffer>(packet: &mut Packet<B>, way: &Way<F>) {
        rewrite::source(packet, way.server);
    }

    fn fragment_to_client<F: Family, B: Buffer>(packet: &mut Packet<B>, way: &Way<F>) {
        F::set_source(packet.ip_mut(), way.server.address);
    }
}

impl Configuration for B {
    const CODE: Code = Code::B;
    const TUNNELS: bool = true;
    const FOLLOWS_PLAIN: bool = false;

    // op 535: the outer header is the server's, written by the replica; inside is the replica.
    fn claim<F: Family>(outer: F::Address, inner: Endpoint<F>, server: Endpoint<F>) -> Claim<F> {
        match outer == server.address && inner.address != server.address {
            true => Claim::Replica(inner),
            false => Claim::Stranger,
        }
    }

    fn plain_winner<F: Family>(way: &Way<F>) -> Option<Endpoint<F>> {
        Some(way.server)
    }

    // op 632: not from the client side, not translated: the replica has done it.
    fn to_client<F: Family, B: Buffer>(_: &mut Packet<B>, _: &Way<F>) {}

    fn fragment_to_client<F: Family, B: Buffer>(_: &mut Packet<B>, _: &Way<F>) {}
}

impl Configuration for C {
    const CODE: Code = Code::C;
    const TUNNELS: bool = true;
    const FOLLOWS_PLAIN: bool = true;

    // op 554: the outer header is the replica's; inside is the server, port and all.
    #[inline]
    fn claim<F: Family>(outer: F::Address, inner: Endpoint<F>, server: Endpoint<F>) -> Claim<F> {
        if inner.address != server.address {
            Claim::Stranger
        } else if inner.port != server.port || outer == server.address {
            Claim::Forged
        } else {
            Claim::Replica(Endpoint::new(outer, server.port))
        }
    }

    fn plain_winner<F: Family>(_: &Way<F>) -> Option<Endpoint<F>> {
        None
    }

    fn start<F: Family, B: Buffer>(packet: &mut Packet<B>, path: &Path, format: Format) -> bool {
        tunnel::clamp::<F, B>(packet, path, format)
    }

    // op 564: forwarded cracked.
    fn acknowledgement<F: Family, B: Buffer>(p: &mut Packet<B>, way: &Way<F>, path: &Path) -> bool {
        tunnel::clamp::<F, B>(p, path, way.format)
    }

    // op 656: encapsulate with the replica's destination and the client's source address.
    #[inline(always)]
    fn to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        way: &Way<F>,
        path: &Path,
    ) -> Result<(), Obstacle> {
        tunnel::put(packet, way, path)
    }

    fn fragment_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        way: &Way<F>,
        path: &Path,
    ) -> Result<(), Obstacle> {
        tunnel::put(packet, way, path)
    }

    // op 658: merely cracked.
    fn to_client<F: Family, B: Buffer>(_: &mut Packet<B>, _: &Way<F>) {}

    fn fragment_to_client<F: Family, B: Buffer>(_: &mut Packet<B>, _: &Way<F>) {}

    fn error_to_client<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        quoted: Quoted<F>,
        way: &Way<F>,
    ) -> bool {
        tunnel::error_to_client(packet, quoted, way)
    }

    fn error_to_replica<F: Family, B: Buffer>(
        packet: &mut Packet<B>,
        _: Quoted<F>,
        way: &Way<F>,
        path: &Path,
    ) -> Result<(), Obstacle> {
        tunnel::put(packet, way, path)
    }

    // op 514: tunnelled, as from the client.
    fn reset<F: Family, P: Pool>(
        acknowledgement: &Packet<P::Buffer>,
        way: &Way<F>,
        pool: &mut P,
    ) -> Option<P::Buffer> {
        let mut reset = Packet::new(reset::answer::<F, P>(acknowledgement, pool)?);
        tunnel::put_whatever(&mut reset, way).then_some(reset.buffer)
    }
}
