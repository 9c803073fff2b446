//! The three roles, gateway, switch and replica: figures 2 to 6 of the patent, in terms of the
//! stages.
//!
//! A role gives each packet of a burst one [`Verdict`]. [`process`] takes a burst through any role in
//! three passes: classify packets and prefetch buckets; prefetch entries; fast path or slow path. It
//! forwards or drops each packet as its verdict says, and counts it.

#[cfg(test)]
mod equivalence;
pub mod gateway;
mod lookup;
mod oversize;
pub mod replica;
mod resolver;
pub mod switch;
#[cfg(test)]
mod tests;
mod tracking;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crate::base::time::Ticks;
use crate::counters::{CommonCounters, Generated, RoleCounters, TableCounters};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::burst::{Burst, Output};
use crate::packet::view::{Packet, Side, View};
use crate::table::{Hash, Imported, Inserted, Kept, Key, Refused, State, Table};
use crate::verdict::{Fate, Roles, Verdict};
use lookup::{BurstLookup, LookupHint, PathClass};
use memmap2::MmapMut;

pub use crate::counters::EarlierNumbers;

/// Entries examined for expiry at once.
const EXPIRE_STEP: usize = 16;

/// The environment in which a role processes a burst.
#[derive(Debug)]
pub struct Context<'a, P: Pool> {
    /// The time, the same for the whole burst.
    pub now: Ticks,
    /// The pool for new frames.
    pub pool: &'a mut P,
    /// The frames that leave.
    pub out: &'a mut Output<P::Buffer>,
}

/// One of the three roles, as one worker runs it. Its state belongs to this worker alone.
pub trait Role {
    /// Processes a burst from one side, and leaves one verdict per packet in it.
    fn process<P: Pool>(
        &mut self,
        from: Side,
        burst: &mut Burst<P::Buffer>,
        context: &mut Context<'_, P>,
    );

    /// Processes a burst as [`Role::process`] does, by the slow path alone. Nothing that can be seen
    /// may differ; tests compare the two.
    #[doc(hidden)]
    fn process_slowly<P: Pool>(
        &mut self,
        from: Side,
        burst: &mut Burst<P::Buffer>,
        context: &mut Context<'_, P>,
    );

    /// Does the periodic work: expiry, probes, pending frames. Called between bursts, about every
    /// 20 us: at that rate the expiry of a table of 8 million connections takes 10 s.
    fn on_timer<P: Pool>(&mut self, context: &mut Context<'_, P>);

    /// Sends frames that wait, because there will be no more time to: called at the end, and again,
    /// with an empty output, until it sends nothing.
    fn finish<P: Pool>(&mut self, _context: &mut Context<'_, P>) {}

    /// Tells both ends of connections that end with this process, because its tables are not kept:
    /// called at the end, after [`Role::finish`], and again, with an empty output, until it sends
    /// nothing.
    fn say_goodbye<P: Pool>(&mut self, _context: &mut Context<'_, P>) {}

    /// Goes on with the settings of `next`, a role that was built from a changed configuration and has
    /// seen no packet, and keeps the connections. Called between two bursts. Returns what is not needed
    /// any more, for the control thread to free.
    ///
    /// Services and servers have the same numbers in both. The tables of `next` are not used: they
    /// should be as small as can be. Its counters go on from the present values, and are those that
    /// [`Role::counters`] returns from then on.
    #[must_use]
    fn reload(&mut self, next: Self, now: Ticks) -> Self
    where
        Self: Sized;

    /// Returns the bytes of memory that the table of each family takes, IPv4 and IPv6, header
    /// included.
    fn table_bytes(&self) -> [usize; 2];

    /// Gives the empty tables their memory before packets come: for each family, memory that outlives
    /// the process, of zeros and of at least [`Role::table_bytes`]; `None` leaves a table in memory of
    /// this process alone. All of it is populated, so that no packet waits for a page.
    ///
    /// # Errors
    /// If a table has entries, if its new memory is too small or is not aligned to a page, or if the
    /// kernel has no pages for it. The tables then are as they were, but for those before it.
    fn place_tables(&mut self, memory: [Option<MmapMut>; 2]) -> io::Result<()>;

    /// Returns copies of the tables' memory, as another process would see it once they have been
    /// placed. For tests.
    #[doc(hidden)]
    fn table_memory(&self) -> [Vec<u8>; 2];

    /// Returns whether [`Role::import`] can read a table that another process has left.
    ///
    /// # Errors
    /// If it is the table of another role or configuration, or has another layout.
    fn may_import(kept: &Kept<'_>) -> Result<(), Refused>;

    /// Takes over the connections that another process, or another number of workers, has left in
    /// tables of either family: those whose client this worker `owns`. Called once, after
    /// [`Role::place_tables`] and before packets come, with all tables that were left: those that
    /// [`Role::may_import`] refuses are passed over.
    fn import(&mut self, kept: &[Kept<'_>], owns: impl Fn(IpAddr) -> bool, now: Ticks) -> Imported;

    /// Returns the client address that decides which worker owns a packet; `None` for traffic that
    /// the role does not handle, which stays where it was received.
    fn owner<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr>;

    /// Returns the counters that every role has, for this worker.
    fn common_counters(&self) -> &CommonCounters;

    /// Returns all counters that this worker writes, for other threads to read.
    fn counters(&self) -> Arc<dyn RoleCounters>;

    /// The names of the table's states, in the order of their gauges.
    const STATES: &'static [&'static str];
}

/// A role as [`process`] sees it.
trait BurstRole: Role {
    /// The role, as a set of one.
    const ROLE: Roles;

    /// Pass 1: parses and classifies the burst's packets, hashes their keys, and prefetches the
    /// buckets.
    fn classify_and_prefetch_buckets<B: Buffer>(&mut self, from: Side, burst: &mut Burst<B>);

    /// Pass 2: prefetches the entries of the first `count` packets.
    fn prefetch_entries(&mut self, count: usize);

    /// Pass 3, for nearly every packet: data of an established connection with all headers at
    /// their usual places. Does what the slow path would do, in fewer steps. Where anything is out
    /// of the ordinary it returns no verdict and has changed nothing.
    fn fast_path<B: Buffer>(
        &mut self,
        from: Side,
        number: usize,
        frame: &mut B,
        view: &View,
        now: Ticks,
    ) -> Option<Verdict>;

    /// Pass 3, for every other packet.
    fn slow_path<P: Pool>(
        &mut self,
        from: Side,
        number: usize,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict;
}

/// Takes a burst through a role: compiled once for each side, so that the side is tested once a
/// burst and not once a packet. Without `FAST` every packet takes the slow path.
#[inline(always)]
fn process<const FAST: bool, R: BurstRole, P: Pool>(
    role: &mut R,
    from: Side,
    burst: &mut Burst<P::Buffer>,
    context: &mut Context<'_, P>,
) {
    match from {
        Side::Inside => process_from::<FAST, R, P>(role, Side::Inside, burst, context),
        Side::Outside => process_from::<FAST, R, P>(role, Side::Outside, burst, context),
    }
}

#[inline(always)]
fn process_from<const FAST: bool, R: BurstRole, P: Pool>(
    role: &mut R,
    from: Side,
    burst: &mut Burst<P::Buffer>,
    context: &mut Context<'_, P>,
) {
    role.classify_and_prefetch_buckets(from, burst);
    let count = burst.len();
    role.prefetch_entries(count);
    role.common_counters().side(from).received.add(count as u64);
    let (mut runs, to, now) = (Runs::new(from), from.other(), context.now);
    let (mut frames, views, verdicts) = burst.decide();
    let mut number = 0;
    loop {
        // Nearly all packets: the fast path leads to the same verdict as before. Whatever else there
        // is to do stands behind this loop, so that the loop is short.
        let rest = views[number..].iter().zip(&mut verdicts[number..]);
        let mut other = None;
        for (frame, (view, place)) in frames.rest().iter_mut().zip(rest) {
            let fast = match FAST {
                true => role.fast_path(from, number, frame, view, now),
                false => None,
            };
            number += 1;
            match fast {
                Some(verdict) if runs.goes_on(verdict) => *place = verdict,
                _ => {
                    other = Some((fast, view, place));
                    break;
                }
            }
        }
        frames.decide(number);
        let Some((fast, view, place)) = other else { break };
        // Frames before this one leave before it and what it causes.
        let Some(verdict) = fast else {
            let mut packet = Packet::parsed(frames.take(context.out.side(to)), view);
            let verdict = role.slow_path(from, number - 1, &mut packet, context);
            debug_assert!(verdict.roles().has(R::ROLE), "{verdict:?}");
            *place = verdict;
            if runs.turn(role.common_counters(), number - 1, verdict) {
                context.out.send(to, packet.buffer);
            }
            continue;
        };
        debug_assert!(verdict.roles().has(R::ROLE), "{verdict:?}");
        *place = verdict;
        if !runs.turn(role.common_counters(), number - 1, verdict) {
            drop(frames.take(context.out.side(to)));
        }
    }
    frames.send(context.out.side(to));
    runs.end(role.common_counters(), count);
}

/// Counts packets by verdict. Packets with the same verdict mostly follow each other, and are counted
/// together.
struct Runs {
    from: Side,
    verdict: Verdict,
    /// Whether packets with this verdict are forwarded.
    forwards: bool,
    /// The number of the first packet of the run.
    start: usize,
}

impl Runs {
    #[inline(always)]
    fn new(from: Side) -> Self {
        // No packet of the fast path goes on with a run that does not forward.
        Self { from, verdict: Verdict::NonIp, forwards: false, start: 0 }
    }

    /// Returns whether a packet with this verdict goes on with the run, and is forwarded.
    #[inline(always)]
    fn goes_on(&self, verdict: Verdict) -> bool {
        verdict == self.verdict && self.forwards
    }

    /// Counts the packet with this number, which may begin another run. Returns whether it is
    /// forwarded.
    #[inline]
    fn turn(&mut self, counters: &CommonCounters, number: usize, verdict: Verdict) -> bool {
        if verdict != self.verdict {
            self.end(counters, number);
            self.verdict = verdict;
        }
        self.forwards = verdict.fate() == Fate::Forwarded;
        self.forwards
    }

    /// Ends a run in front of the packet with this number.
    #[inline]
    fn end(&mut self, counters: &CommonCounters, number: usize) {
        let count = (number - self.start) as u64;
        counters.side(self.from).verdicts[self.verdict as usize].add(count);
        self.start = number;
    }
}

/// Sends a frame that the appliance generated, and counts it.
fn send_generated<P: Pool>(
    counters: &CommonCounters,
    side: Side,
    frame: P::Buffer,
    generated: Generated,
    context: &mut Context<'_, P>,
) {
    counters.count_generated(generated);
    context.out.send(side, frame);
}

/// Removes a few expired entries, and updates the table's gauges.
fn expire_some<K: Key, S: State, V: Copy>(
    table: &mut Table<K, S, V>,
    counters: &TableCounters,
    now: Ticks,
) {
    counters.expired.set(table.expired());
    // An empty table, of a family that is not used, has nothing to do.
    if table.is_empty() && counters.live.iter().all(|gauge| gauge.get() == 0) {
        return;
    }
    table.expire(now, EXPIRE_STEP);
    counters.expired.set(table.expired());
    for (gauge, &state) in counters.live.iter().zip(S::ALL) {
        gauge.set(table.count(state) as u64);
    }
}

/// Inserts an entry and counts it, and the entry that was evicted for it. `None` when the table is
/// full of entries that must not be evicted, or the client's prefix has its share of it.
fn insert_counted<K: Key, S: State, V: Copy>(
    table: &mut Table<K, S, V>,
    counters: &TableCounters,
    hash: Hash,
    key: K,
    state: S,
    value: V,
    now: Ticks,
) -> Option<Inserted<S, V>> {
    let inserted = table.insert(hash, key, state, now, value);
    match &inserted {
        None => counters.refused_by_share.set(table.refused_by_share()),
        Some(inserted) => {
            counters.inserted.add(1);
            if matches!(inserted, Inserted::Evicted(..)) {
                counters.evicted.add(1);
                counters.evicted_for_share.set(table.evicted_for_share());
            }
        }
    }
    inserted
}
