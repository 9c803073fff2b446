//! The three roles: figures 2, 3, 4, 5 and 6 as prose over the stages.
//!
//! A role gives each packet of a burst one [`Verdict`]; [`finish`] sends, or drops, and counts.

pub mod gateway;
mod lookup;
mod oversize;
mod phase;
pub mod replica;
pub mod switch;
#[cfg(test)]
mod equivalence;

use std::net::IpAddr;
use std::sync::Arc;

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::burst::{Burst, Output};
use crate::counters::{Counters, Generated, TableCounters};
use crate::table::{Key, State, Table};
use crate::base::time::Ticks;
use crate::verdict::{Fate, Verdict};
use crate::packet::view::{Packet, Side, View};
use lookup::{Foreseen, LookAhead, Shape};

/// Entries looked at for expiry at once.
const EXPIRE_STEP: usize = 16;

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

    /// What is to be done without a packet: expiry, probes. Called between bursts, every 20 us or
    /// so: what is found expired then, a table of 8 million connections is through in 10 s.
    fn housekeep<P: Pool>(&mut self, context: &mut Context<'_, P>);

    /// The client address that places a packet on a worker; `None` for what is nobody's, which
    /// stays where it was received.
    fn owner<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr>;

    /// What this worker counts, to be read by anyone.
    fn counters(&self) -> &Arc<Counters>;

    /// The names of the table's states, in the order of their gauges.
    const STATES: &'static [&'static str];
}

/// Takes a few expired entries out, and brings the table's gauges up to date.
fn tidy<K: Key, S: State, V: Copy>(
    table: &mut Table<K, S, V>,
    counters: &TableCounters,
    now: Ticks,
) {
    table.expire(now, EXPIRE_STEP);
    counters.expired.set(table.expired());
    for (gauge, state) in counters.live.iter().zip(S::ALL) {
        gauge.set(table.count(state) as u64);
    }
}

/// The two ways that a role has for a packet; [`process`] is the same for all roles.
trait Ways: Role {
    /// Finds what the burst's packets are going to be looked up by, and has it fetched.
    fn look_ahead<B: Buffer>(&mut self, from: Side, burst: &mut Burst<B>);

    /// The frame, and the verdict on it if it has gone the short way.
    fn express<B: Buffer>(
        &mut self,
        from: Side,
        number: usize,
        frame: B,
        view: &View,
        now: Ticks,
    ) -> (B, Option<Verdict>);

    /// The long way of any packet.
    fn decide<P: Pool>(
        &mut self,
        from: Side,
        number: usize,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict;
}

/// Takes a burst through a role. Compiled for each side: what depends upon it is decided here,
/// once a burst.
#[inline(always)]
fn process<R: Ways, P: Pool>(
    role: &mut R,
    from: Side,
    burst: &mut Burst<P::Buffer>,
    context: &mut Context<'_, P>,
) {
    match from {
        Side::Inside => process_from(role, Side::Inside, burst, context),
        Side::Outside => process_from(role, Side::Outside, burst, context),
    }
}

#[inline(always)]
fn process_from<R: Ways, P: Pool>(
    role: &mut R,
    from: Side,
    burst: &mut Burst<P::Buffer>,
    context: &mut Context<'_, P>,
) {
    role.look_ahead(from, burst);
    role.counters().side(from).received.add(burst.len() as u64);
    let mut finish = Finish::new(from);
    for (number, (frame, view, verdict)) in burst.decide().enumerate() {
        let (frame, short) = role.express(from, number, frame, view, context.now);
        let frame = match short {
            Some(decided) => {
                *verdict = decided;
                frame
            }
            None => {
                let mut packet = Packet::seen(frame, view);
                *verdict = role.decide(from, number, &mut packet, context);
                packet.buffer
            }
        };
        finish.one(role.counters(), frame, *verdict, context);
    }
    finish.count(role.counters());
}

/// Sends packets on, or drops them, as their verdicts say, and counts them: packets that come to
/// the same follow each other mostly, and are counted at once.
struct Finish {
    from: Side,
    last: Verdict,
    run: u64,
}

impl Finish {
    #[inline(always)]
    fn new(from: Side) -> Self {
        Self { from, last: Verdict::NonIp, run: 0 }
    }

    #[inline(always)]
    fn one<P: Pool>(
        &mut self,
        counters: &Counters,
        frame: P::Buffer,
        verdict: Verdict,
        context: &mut Context<'_, P>,
    ) {
        if verdict != self.last {
            self.count(counters);
            self.last = verdict;
        }
        self.run += 1;
        if verdict.fate() == Fate::Forwarded {
            context.out.send(self.from.other(), frame);
        }
    }

    /// Counts what has not been counted yet. After the last packet, too.
    #[inline(always)]
    fn count(&mut self, counters: &Counters) {
        counters.side(self.from).verdicts[self.last as usize].add(self.run);
        self.run = 0;
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
