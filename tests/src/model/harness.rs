//! Feeds frames to a role and checks the invariants of every role.

use std::ops::Range;
use std::time::Duration;

use pipeline::base::time::Ticks;
use pipeline::counters::Generated;
use pipeline::packet::buffer::{Buffer, HeapBuffer, HeapPool};
use pipeline::packet::burst::{BURST, Burst, Output};
use pipeline::packet::view::Side;
use pipeline::role::{Context, Role};
use pipeline::verdict::{Fate, Verdict};

/// The layout of a frame in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// One segment.
    Whole,
    /// Two segments, the first of this many bytes.
    Split(usize),
    /// One segment at the front of the buffer, with almost no headroom. The frame is at most 128
    /// bytes long.
    Cramped,
}

/// A received frame.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Time since the start.
    pub at: Duration,
    /// Receiving side.
    pub side: Side,
    /// The frame.
    pub frame: Vec<u8>,
    /// Its layout.
    pub carrier: Carrier,
}

impl Arrival {
    /// Returns the frame in a buffer.
    pub fn buffer(&self) -> HeapBuffer {
        match self.carrier {
            Carrier::Whole => HeapBuffer::new(&self.frame),
            Carrier::Split(first) => HeapBuffer::segmented(&self.frame, first),
            Carrier::Cramped => {
                let mut buffer = HeapBuffer::new(&[]);
                assert!(buffer.prepend(self.frame.len()), "too long to be cramped");
                buffer.head_mut().copy_from_slice(&self.frame);
                buffer
            }
        }
    }
}

/// Divides arrivals into bursts of these sizes, repeated as needed. A burst also ends where the
/// side or the time changes.
pub fn partition(arrivals: &[Arrival], sizes: &[usize]) -> Vec<Range<usize>> {
    let mut sizes = sizes.iter().copied().cycle();
    let mut bursts = Vec::new();
    let mut start = 0;
    while start < arrivals.len() {
        let first = &arrivals[start];
        let alike = |other: &&Arrival| other.at == first.at && other.side == first.side;
        let most = sizes.next().unwrap_or(1).clamp(1, BURST);
        let length = arrivals[start..].iter().take(most).take_while(alike).count();
        bursts.push(start..start + length);
        start += length;
    }
    bursts
}

/// The result of a burst.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// One verdict per packet.
    pub verdicts: Vec<Verdict>,
    /// Transmitted frames, by side.
    pub left: [Vec<Vec<u8>>; 2],
}

impl Fed {
    /// Returns the frames that left by a side.
    pub fn by(&self, side: Side) -> &[Vec<u8>] {
        &self.left[side as usize]
    }

    /// Appends a later result.
    pub fn append(&mut self, mut later: Self) {
        self.verdicts.append(&mut later.verdicts);
        for (mine, theirs) in self.left.iter_mut().zip(&mut later.left) {
            mine.append(theirs);
        }
    }
}

/// A role with its pool, burst and output.
pub struct Harness<R> {
    /// The role.
    pub role: R,
    pool: HeapPool,
    out: Output<HeapBuffer>,
    burst: Burst<HeapBuffer>,
    /// Number of frames transmitted so far.
    sent: u64,
    /// Whether every packet takes the slow path.
    is_slow: bool,
    /// Makes the role that it is reloaded with before every burst of this number.
    successors: Option<(usize, Box<dyn Fn() -> R>)>,
    bursts: usize,
}

impl<R: Role> Harness<R> {
    /// Creates a harness for a role that turns a packet into up to `copies` more.
    pub fn new(role: R, copies: usize) -> Self {
        Self::with_pool(role, copies, HeapPool::default())
    }

    /// Creates a harness with this pool.
    pub fn with_pool(role: R, copies: usize, pool: HeapPool) -> Self {
        Self {
            role,
            pool,
            out: Output::new(copies),
            burst: Burst::default(),
            sent: 0,
            is_slow: false,
            successors: None,
            bursts: 0,
        }
    }

    /// Reloads the role before every `nth` burst, with one that `make` makes.
    pub fn reload_every(&mut self, nth: usize, make: impl Fn() -> R + 'static) {
        self.successors = Some((nth.max(1), Box::new(make)));
    }

    /// Reloads the role.
    pub fn reload(&mut self, next: R, now: Duration) {
        drop(self.role.reload(next, Ticks::from(now)));
        self.check_balance();
    }

    /// Replaces the pool.
    pub fn set_pool(&mut self, pool: HeapPool) {
        self.pool = pool;
    }

    /// Makes every packet take the slow path.
    pub fn take_slow_path(&mut self) {
        self.is_slow = true;
    }

    /// Feeds arrivals of one side and one time as one burst, and returns the result.
    ///
    /// # Panics
    /// When a packet does not get exactly one verdict, a frame vanishes or appears uncounted,
    /// or more leaves than there is room for.
    pub fn feed(&mut self, arrivals: &[Arrival]) -> Fed {
        let Some(first) = arrivals.first() else { return Fed::default() };
        self.bursts += 1;
        if let Some((nth, make)) = &self.successors
            && self.bursts.is_multiple_of(*nth)
        {
            let next = make();
            self.reload(next, first.at);
        }
        for arrival in arrivals {
            let packet = pipeline::packet::view::Packet::new(arrival.buffer());
            let _ = R::owner(arrival.side, &packet);
        }
        self.burst.fill(arrivals.iter().map(Arrival::buffer));
        assert_eq!(self.burst.len(), arrivals.len(), "more than a burst");
        let capacity = Side::ALL.map(|side| self.out.side(side).capacity());
        let before = self.counted();
        let mut context =
            Context { now: Ticks::from(first.at), pool: &mut self.pool, out: &mut self.out };
        match self.is_slow {
            true => self.role.process_slowly(first.side, &mut self.burst, &mut context),
            false => self.role.process(first.side, &mut self.burst, &mut context),
        }
        assert!(self.burst.is_empty(), "packets were left behind");
        let verdicts = self.burst.verdicts().to_vec();
        assert_eq!(verdicts.len(), arrivals.len(), "one verdict per packet");
        let fed = Fed { verdicts, left: self.drain(capacity) };
        self.check_counters(&before, first.side, &fed.verdicts);
        fed
    }

    /// Feeds arrivals in bursts of one.
    pub fn feed_singly(&mut self, arrivals: &[Arrival]) -> Fed {
        self.feed_in_bursts(arrivals, &[1])
    }

    /// Feeds arrivals in bursts as [`partition`] cuts them.
    pub fn feed_in_bursts(&mut self, arrivals: &[Arrival], sizes: &[usize]) -> Fed {
        let mut all = Fed::default();
        for range in partition(arrivals, sizes) {
            all.append(self.feed(&arrivals[range]));
        }
        all
    }

    /// Runs the role's periodic work, and returns the frames that it generates.
    pub fn on_timer(&mut self, now: Duration) -> [Vec<Vec<u8>>; 2] {
        let capacity = Side::ALL.map(|side| self.out.side(side).capacity());
        let mut context =
            Context { now: Ticks::from(now), pool: &mut self.pool, out: &mut self.out };
        self.role.on_timer(&mut context);
        let left = self.drain(capacity);
        self.check_balance();
        left
    }

    /// Returns how many packets of a kind the role has generated.
    pub fn generated(&self, what: Generated) -> u64 {
        self.role.counters().generated[what as usize].get()
    }

    /// Returns the number of entries of each family's table by state, from the gauges as the last
    /// periodic work left them.
    pub fn gauges(&self) -> [Vec<usize>; 2] {
        let counters = self.role.counters();
        [&counters.table, &counters.table_v6].map(|table| {
            table.live.iter().take(R::STATES.len()).map(|gauge| gauge.get() as usize).collect()
        })
    }

    fn drain(&mut self, capacity: [usize; 2]) -> [Vec<Vec<u8>>; 2] {
        Side::ALL.map(|side| {
            let frames = self.out.side(side);
            assert_eq!(frames.capacity(), capacity[side as usize], "the output grew");
            self.sent += frames.len() as u64;
            frames.drain(..).map(|buffer| buffer.frame().to_vec()).collect()
        })
    }

    fn counted(&self) -> [Vec<u64>; 2] {
        let counters = self.role.counters();
        Side::ALL.map(|side| counters.side(side).verdicts.iter().map(|c| c.get()).collect())
    }

    /// Checks that the counters moved by these verdicts and nothing else.
    fn check_counters(&self, before: &[Vec<u64>; 2], from: Side, verdicts: &[Verdict]) {
        let mut expected = before.clone();
        for verdict in verdicts {
            expected[from as usize][*verdict as usize] += 1;
        }
        assert_eq!(self.counted(), expected, "verdicts and counters differ");
        self.check_balance();
    }

    fn check_balance(&self) {
        let counters = self.role.counters();
        let mut forwarded = 0;
        for side in Side::ALL {
            let side = counters.side(side);
            let fates = Fate::ALL.map(|fate| side.fate(fate));
            assert_eq!(side.received.get(), fates.iter().sum::<u64>(), "received = all fates");
            forwarded += fates[0];
        }
        let generated: u64 = counters.generated.iter().map(|counter| counter.get()).sum();
        assert_eq!(forwarded + generated, self.sent, "forwarded + generated = out");
    }
}
