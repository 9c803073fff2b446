//! The three roles: figures 2, 3, 4, 5 and 6 as prose over the stages.
//!
//! A role gives each packet of a burst one [`Verdict`]; [`finish`] sends, or drops, and counts.

pub mod gateway;
mod oversize;
pub mod replica;
pub mod switch;

use std::net::IpAddr;
use std::sync::Arc;

use crate::buffer::{Buffer, Pool};
use crate::burst::{BURST, Burst, Output};
use crate::counters::{Counters, Generated, TableCounters};
use crate::family::Version;
use crate::table::{Guess, Hash, Key, State, Table};
use crate::time::Ticks;
use crate::verdict::{Fate, Verdict};
use crate::view::{Packet, Side, View};

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

/// What a burst's packets are going to be looked up by: buckets are asked for as each packet is
/// seen, entries once all have been, so that both are at hand when their turn comes.
struct LookAhead {
    hashes: [Hash; BURST],
    /// Where the entries are likely to be.
    guesses: [Guess; BURST],
    /// In which family's table; none for packets that are not looked up.
    tables: [Option<Version>; BURST],
    /// What is in the tunnels.
    inner: [View; BURST],
}

impl Default for LookAhead {
    fn default() -> Self {
        Self {
            hashes: [Hash::default(); BURST],
            guesses: [Guess::NONE; BURST],
            tables: [None; BURST],
            inner: [View::NOTHING; BURST],
        }
    }
}

impl LookAhead {
    /// The packet of this number is going to be looked up by this key.
    #[inline(always)]
    fn bucket<K: Key, S: State, V: Copy>(&mut self, number: usize, table: &Table<K, S, V>, key: K) {
        let hash = table.hash(key);
        table.prefetch_bucket(hash);
        self.hashes[number] = hash;
        self.tables[number] = Some(K::VERSION);
    }

    /// The packet of this number is not going to be looked up by a hash that is known now.
    #[inline]
    fn nothing(&mut self, number: usize) {
        self.tables[number] = None;
    }

    /// Asks for the entries of the first `count` packets.
    #[inline(always)]
    fn entries<K: Key, L: Key, S: State, V: Copy, W: Copy>(
        &mut self,
        count: usize,
        v4: &Table<K, S, V>,
        v6: &Table<L, S, W>,
    ) {
        for number in 0..count.min(BURST) {
            let hash = self.hashes[number];
            self.guesses[number] = match self.tables[number] {
                Some(Version::V4) => v4.prefetch_entry(hash),
                Some(Version::V6) => v6.prefetch_entry(hash),
                None => Guess::NONE,
            };
        }
    }

    /// What is known of the packet of this number.
    #[inline(always)]
    fn of(&self, number: usize) -> Foreseen {
        let (hash, guess) = (self.hashes[number], self.guesses[number]);
        Foreseen { hash, guess, inner: self.inner[number] }
    }
}

/// What is known of a packet before its turn comes.
#[derive(Clone, Copy, Debug)]
struct Foreseen {
    /// Of its key, if it is looked up by one that is known now.
    hash: Hash,
    guess: Guess,
    /// What is in it, when it is a tunnel.
    inner: View,
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

/// Sends a packet on, or drops it, as its verdict says, and counts it.
#[inline(always)]
fn finish<P: Pool>(
    counters: &Counters,
    from: Side,
    frame: P::Buffer,
    verdict: Verdict,
    context: &mut Context<'_, P>,
) {
    counters.side(from).verdicts[verdict as usize].add(1);
    if verdict.fate() == Fate::Forwarded {
        context.out.send(from.other(), frame);
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
