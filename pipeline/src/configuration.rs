//! What differs between the configurations A, B and C at the gateway, in one place.
//!
//! | step (operation) | A | B | C |
//! |---|---|---|---|
//! | first acknowledgement | rewrite source (512) | crack, re-address as server (542) | forward cracked (564) |
//! | client to replica | rewrite destination (612) | rewrite destination (636) | encap (656) |
//! | replica to client | rewrite source (612) | nothing, no lookup | crack (658) |
//!
//! Each is a type without a value: the worker's loop is compiled for the one it runs.

use crate::buffer::{Buffer, Pool};
use crate::family::{Endpoint, Family};
use crate::stage::tag::Code;
use crate::stage::{reset, rewrite};
use crate::view::Packet;

/// One configuration's steps.
pub trait Configuration: Copy + Default + 'static {
    /// How the tag names it.
    const CODE: Code;

    /// An acknowledgement of the winner, on its way to the client.
    fn acknowledgement<F: Family, B: Buffer>(packet: &mut Packet<B>, server: Endpoint<F>);

    /// A packet of the client, on its way to the winner.
    fn to_replica<F: Family, B: Buffer>(packet: &mut Packet<B>, replica: Endpoint<F>);

    /// A packet of the winner, on its way to the client.
    fn to_client<F: Family, B: Buffer>(packet: &mut Packet<B>, server: Endpoint<F>);

    /// A reset that answers a loser's acknowledgement (op 514); `None` when the pool is empty.
    fn reset<F: Family, P: Pool>(
        acknowledgement: &Packet<P::Buffer>,
        pool: &mut P,
    ) -> Option<P::Buffer>;
}

/// Full NAT.
#[derive(Clone, Copy, Debug, Default)]
pub struct A;

impl Configuration for A {
    const CODE: Code = Code::A;

    // op 512: replace the replica's source address with the server's, forward to the client.
    fn acknowledgement<F: Family, B: Buffer>(packet: &mut Packet<B>, server: Endpoint<F>) {
        rewrite::source(packet, server);
    }

    // op 612, from the client side: replace the server's destination with the replica's.
    #[inline]
    fn to_replica<F: Family, B: Buffer>(packet: &mut Packet<B>, replica: Endpoint<F>) {
        rewrite::destination(packet, replica);
    }

    // op 612, not from the client side: replace the replica's source with the server's.
    #[inline]
    fn to_client<F: Family, B: Buffer>(packet: &mut Packet<B>, server: Endpoint<F>) {
        rewrite::source(packet, server);
    }

    // op 514: plain, as from the client.
    fn reset<F: Family, P: Pool>(
        acknowledgement: &Packet<P::Buffer>,
        pool: &mut P,
    ) -> Option<P::Buffer> {
        reset::answer::<F, P>(acknowledgement, pool)
    }
}
