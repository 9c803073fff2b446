//! The three roles: figures 2, 3, 4, 5 and 6 as prose over the stages.
//!
//! A role gives each packet of a burst one [`Verdict`]; [`finish`] sends, or drops, and counts.

pub mod gateway;
pub mod replica;
pub mod switch;

use std::net::IpAddr;
use std::sync::Arc;

use crate::buffer::{Buffer, Pool};
use crate::burst::{BURST, Burst, Output};
use crate::counters::{Counters, Generated, TableCounters};
use crate::family::{Endpoint, V4};
use crate::table::{Hash, State, Table};
use crate::time::Ticks;
use crate::verdict::{Fate, Verdict};
use crate::view::{Kind, Packet, Side, View};

/// Entries looked at for expiry between two bursts.
const EXPIRE_STEP: usize = 8;

/// What a role uses while it processes a burst.
#[derive(Debug)]
pub struct Context<'a, P: Pool> {
    /// The time, the same for the whole burst.
    pub now: Ticks,
    /// Where new frames come from.
    pub pool: &'a mut P,
    /// What leaves.
    pub out: &'a mut Output<P::Buffer>,
}

/// One of the three roles, as one worker runs it: its state is this worker's alone.
pub trait Role {
    /// Decides and acts on a burst from one side; leaves a verdict per packet in it.
    fn process<P: Pool>(
        &mut self,
        from: Side,
        burst: &mut Burst<P::Buffer>,
        context: &mut Context<'_, P>,
    );

    /// What is to be done without a packet: expiry, probes. Called between bursts, often.
    fn housekeep<P: Pool>(&mut self, context: &mut Context<'_, P>);

    /// The client address that places a packet on a worker; `None` for what is nobody's, which
    /// stays where it was received.
    fn owner<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr>;

    /// What this worker counts, to be read by anyone.
    fn counters(&self) -> &Arc<Counters>;

    /// The names of the table's states, in the order of their gauges.
    const STATES: &'static [&'static str];
}

/// Hashes the client endpoints of a burst's TCP packets and asks for their buckets, then for their
/// entries, so that they are at hand when their turn comes.
#[inline]
fn look_ahead<B: Buffer, S: State, V: Copy>(
    table: &Table<V4, S, V>,
    burst: &Burst<B>,
    client: impl Fn(&[u8], &View) -> Endpoint<V4>,
) -> [Hash; BURST] {
    let mut hashes = [Hash::default(); BURST];
    for (hash, (head, view)) in hashes.iter_mut().zip(burst.looks()) {
        if view.kind == Kind::Tcp4 {
            *hash = table.hash(client(head, view));
            table.prefetch_bucket(*hash);
        }
    }
    for (hash, (_, view)) in hashes.iter().zip(burst.looks()) {
        if view.kind == Kind::Tcp4 {
            table.prefetch_entry(*hash);
        }
    }
    hashes
}

/// Takes a few expired entries out, and brings the table's gauges up to date.
fn tidy<S: State, V: Copy>(table: &mut Table<V4, S, V>, counters: &TableCounters, now: Ticks) {
    table.expire(now, EXPIRE_STEP);
    counters.expired.set(table.expired());
    for (gauge, state) in counters.live.iter().zip(S::ALL) {
        gauge.set(table.count(state) as u64);
    }
}

/// Sends a packet on, or drops it, as its verdict says, and counts it.
#[inline]
fn finish<P: Pool>(
    counters: &Counters,
    from: Side,
    packet: Packet<P::Buffer>,
    verdict: Verdict,
    context: &mut Context<'_, P>,
) {
    counters.side(from).verdicts[verdict as usize].add(1);
    if verdict.fate() == Fate::Forwarded {
        context.out.send(from.other(), packet.buffer);
    }
}

/// Sends a frame that the appliance made, and counts it.
fn send_made<P: Pool>(
    counters: &Counters,
    side: Side,
    frame: P::Buffer,
    what: Generated,
    context: &mut Context<'_, P>,
) {
    counters.made(what);
    context.out.send(side, frame);
}
