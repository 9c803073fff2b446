//! A source of packets that costs next to nothing, however many connections they are of: a
//! receive callback on net_null's queues stamps frames into the buffers that the device hands out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firstack::dpdk::{Mbuf, RxQueue};
use firstack_benches::BURST;
use firstack_benches::dpdk::{Error, RxCallback};
use pipeline::packet::buffer::Buffer;

use crate::template::{SHORT, Template};

/// Goes round all connections in steps that take it far from where it was.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    at: u32,
    step: u32,
    count: u32,
}

impl Walk {
    /// Round `count` connections; begins `part` of 256 parts of a round ahead.
    pub fn new(count: u32, part: u32) -> Self {
        let count = count.max(1);
        // The golden section: steps of it come nowhere near an earlier place for long.
        let mut step = (f64::from(count) * 0.618_034) as u32 | 1;
        while gcd(step, count) != 1 {
            step += 2;
        }
        let step = step % count;
        let ahead = u64::from(count) * u64::from(part) / 256;
        let at = (ahead * u64::from(step) % u64::from(count)) as u32;
        Self { at, step, count }
    }

    /// The next connection.
    #[inline(always)]
    pub fn next(&mut self) -> u32 {
        let at = self.at;
        let next = at + self.step;
        self.at = if next >= self.count { next - self.count } else { next };
        at
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What a port receives.
#[derive(Debug, Default)]
pub enum Program {
    /// Nothing.
    #[default]
    Silence,
    /// Packets of connections that go round, for ever.
    Round(Template, Walk),
    /// Packets of some connections, which go round in this order.
    Some { template: Template, of: Arc<[u32]>, at: usize },
    /// Of these connections once, in order; then nothing. The first bursts are left out, for the
    /// other side is to be ahead.
    Once { template: Template, next: u32, end: u32, late: u32 },
    /// What comes by turns: so many bursts of each, and again from the first.
    Turns { turns: Vec<(Turn, u32)>, at: usize, bursts: u32 },
}

/// Bursts in a cycle of several kinds.
#[derive(Debug)]
pub enum Turn {
    /// None.
    Silence,
    /// Of connections that go round.
    Round(Template, Walk),
    /// Of the next batch of racers, in this round of theirs.
    Race(Template, Racers),
    /// Of random endpoints: a flood.
    Random(Template, Rng),
}

/// Endpoints that race in batches of a burst, and begin again with another number when all have.
#[derive(Clone, Copy, Debug)]
pub struct Racers {
    first: u32,
    count: u32,
    next: u32,
    round: u32,
}

impl Racers {
    /// `count` racers, a whole number of bursts, from connection `first` on.
    pub fn new(first: u32, count: u32) -> Self {
        Self { first, count, next: 0, round: 0 }
    }

    /// One burst behind: it begins with what would have been the burst before the first.
    pub fn late(mut self) -> Self {
        (self.next, self.round) = (self.count - BURST as u32, 2_u32.wrapping_neg());
        self
    }

    #[inline(always)]
    fn next(&mut self) -> (u32, u32) {
        let racer = (self.first + self.next, self.round);
        self.next += 1;
        if self.next >= self.count {
            (self.next, self.round) = (0, self.round.wrapping_add(2));
        }
        racer
    }
}

/// Random numbers, quickly (xorshift64*).
#[derive(Clone, Copy, Debug)]
pub struct Rng(pub u64);

impl Rng {
    #[inline(always)]
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

impl Program {
    /// Bursts by turns, from the first on.
    pub fn turns(turns: Vec<(Turn, u32)>) -> Self {
        Program::Turns { turns, at: 0, bursts: 0 }
    }

    /// Fills a burst; how many of its frames are received.
    #[inline]
    fn fill(&mut self, frames: &mut [Mbuf]) -> usize {
        match self {
            Program::Silence => 0,
            Program::Round(template, walk) => round(template, walk, frames),
            Program::Some { template, of, at } => {
                for frame in &mut *frames {
                    sized(frame, template, |bytes| template.stamp(bytes, of[*at]));
                    *at = if *at + 1 < of.len() { *at + 1 } else { 0 };
                }
                frames.len()
            }
            Program::Once { template, next, end, late } => {
                if *late > 0 {
                    *late -= 1;
                    return 0;
                }
                let count = frames.len().min((*end - *next) as usize);
                for frame in &mut frames[..count] {
                    sized(frame, template, |bytes| template.stamp(bytes, *next));
                    *next += 1;
                }
                count
            }
            Program::Turns { turns, at, bursts } => {
                let (turn, times) = &mut turns[*at];
                *bursts += 1;
                if *bursts >= *times {
                    (*at, *bursts) = (*at + 1, 0);
                }
                let count = turn.fill(frames);
                *at = if *at == turns.len() { 0 } else { *at };
                count
            }
        }
    }
}

impl Turn {
    fn fill(&mut self, frames: &mut [Mbuf]) -> usize {
        match self {
            Turn::Silence => return 0,
            Turn::Round(template, walk) => return round(template, walk, frames),
            Turn::Race(template, racers) => {
                for frame in &mut *frames {
                    let (racer, round) = racers.next();
                    sized(frame, template, |bytes| template.stamp_in(bytes, racer, round));
                }
            }
            Turn::Random(template, rng) => {
                for frame in &mut *frames {
                    let n = rng.next();
                    sized(frame, template, |bytes| template.stamp_anywhere(bytes, n));
                }
            }
        }
        frames.len()
    }
}

#[inline(always)]
fn round(template: &Template, walk: &mut Walk, frames: &mut [Mbuf]) -> usize {
    for frame in &mut *frames {
        let connection = walk.next();
        sized(frame, template, |bytes| template.stamp(bytes, connection));
    }
    frames.len()
}

/// Lets `write` have the frame's bytes, once there are as many as the template has.
#[inline(always)]
fn sized(frame: &mut Mbuf, template: &Template, write: impl FnOnce(&mut [u8])) {
    // net_null is told to receive frames of the usual length.
    if template.len() != SHORT {
        frame.set_len(template.len() as u16);
    }
    write(frame.head_mut());
}

/// One port's program, which can be changed while a worker has the port's queue.
#[derive(Debug, Default)]
pub struct Source {
    program: Arc<Mutex<Program>>,
    /// Without one the program is never asked.
    callback: Option<RxCallback>,
}

impl Source {
    /// Adds a new source to a queue, for as long as it is kept.
    ///
    /// # Errors
    /// If DPDK refuses the callback.
    pub fn add(queue: &mut RxQueue) -> Result<Self, Error> {
        let program = Arc::<Mutex<Program>>::default();
        let shared = Arc::clone(&program);
        let fill = move |frames: &mut [Mbuf]| locked(&shared).fill(frames);
        let callback = Some(RxCallback::add(queue, fill)?);
        Ok(Self { program, callback })
    }

    /// Sets what comes from now on.
    pub fn play(&self, program: Program) {
        *locked(&self.program) = program;
    }

    /// Takes the present program out, to be continued later; nothing comes meanwhile.
    pub fn take(&self) -> Program {
        std::mem::take(&mut *locked(&self.program))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.callback = None;
        // The callback's share of the program stays in memory: with nothing in it.
        self.play(Program::Silence);
    }
}

#[inline(always)]
fn locked(program: &Mutex<Program>) -> MutexGuard<'_, Program> {
    program.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_comes_round_every_connection_and_never_stays_near() {
        for count in [1, 2, 3, 1_000, 64_000, 100_003] {
            for part in [0, 128] {
                let mut walk = Walk::new(count, part);
                let mut seen = vec![false; count as usize];
                let mut last = None;
                for _ in 0..count {
                    let at = walk.next();
                    assert!(
                        !std::mem::replace(&mut seen[at as usize], true),
                        "{count}: {at} twice"
                    );
                    let near = last.is_some_and(|last: u32| last.abs_diff(at) < count / 4);
                    assert!(!near, "{count}: {at} after {last:?}");
                    last = Some(at);
                }
            }
        }
    }

    #[test]
    fn racers_take_another_number_when_all_have_raced() {
        let mut racers = Racers::new(100, 2);
        let seen: Vec<_> = (0..5).map(|_| racers.next()).collect();
        assert_eq!(seen, [(100, 0), (101, 0), (100, 2), (101, 2), (100, 4)]);
    }
}
