//! A packet source of negligible cost, whatever the number of connections: a callback on net_null's
//! receive queues stamps frames into the buffers that the device hands out. They are received at
//! once, from L1, or after [`crate::waiting`], from L3.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firstack::dpdk::{Mbuf, RxQueue};
use firstack_benches::BURST;
use firstack_benches::dpdk::{Error, RxCallback};
use pipeline::packet::buffer::Buffer;

use crate::template::{SHORT, Template};
use crate::waiting::Waiting;

/// Cycles through all connections in large steps.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    at: u32,
    step: u32,
    count: u32,
}

impl Walk {
    /// Cycles through `count` connections, starting `part` / 256 of a cycle ahead.
    pub fn new(count: u32, part: u32) -> Self {
        let count = count.max(1);
        // Steps of the golden section stay far from earlier positions for a long time.
        let mut step = (f64::from(count) * 0.618_034) as u32 | 1;
        while gcd(step, count) != 1 {
            step += 2;
        }
        let step = step % count;
        let ahead = u64::from(count) * u64::from(part) / 256;
        let at = (ahead * u64::from(step) % u64::from(count)) as u32;
        Self { at, step, count }
    }

    /// Returns the next connection.
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

/// The packets that a port receives.
#[derive(Debug, Default)]
pub enum Program {
    /// Nothing.
    #[default]
    Silence,
    /// Packets of all connections, cyclically.
    Round(Template, Walk),
    /// The same, but the receiver finds the frames in L3.
    FromL3(Template, Walk, Box<Waiting>),
    /// Packets of some connections, cyclically in this order.
    Some { template: Template, of: Arc<[u32]>, at: usize },
    /// One packet of each of these connections, in order; then nothing. The first bursts are
    /// skipped, so that the other side is ahead.
    Once { template: Template, next: u32, end: u32, late: u32 },
    /// Several kinds in turn: a number of bursts of each, cyclically.
    Turns { turns: Vec<(Turn, u32)>, at: usize, bursts: u32 },
}

/// Bursts in a cycle of several kinds.
#[derive(Debug)]
pub enum Turn {
    /// Nothing.
    Silence,
    /// Packets of all connections, cyclically.
    Round(Template, Walk),
    /// Packets of the next batch of racers, in their current round.
    Race(Template, Racers),
    /// Packets of random endpoints: a flood.
    Random(Template, Rng),
}

/// Endpoints that race in batches of a burst. After the last one, the first race again with a new
/// sequence number.
#[derive(Clone, Copy, Debug)]
pub struct Racers {
    first: u32,
    count: u32,
    next: u32,
    round: u32,
}

impl Racers {
    /// Creates `count` racers, a multiple of a burst, from connection `first` on.
    pub fn new(first: u32, count: u32) -> Self {
        Self { first, count, next: 0, round: 0 }
    }

    /// Creates the same racers one burst behind: they begin with the burst before the first.
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

/// A fast random number generator (xorshift64*).
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
    /// Creates a cycle of bursts.
    pub fn turns(turns: Vec<(Turn, u32)>) -> Self {
        Program::Turns { turns, at: 0, bursts: 0 }
    }

    /// Returns the length of its frames if they are all of one length, or 0.
    pub fn frame_len(&self) -> usize {
        match self {
            Program::Round(template, _) | Program::FromL3(template, ..) => template.len(),
            _ => 0,
        }
    }

    /// Frees the buffers that it holds.
    fn let_go(&mut self) {
        if let Program::FromL3(_, _, waiting) = self {
            waiting.clear();
        }
    }

    /// Fills a burst. Returns the number of received frames.
    #[inline]
    fn fill(&mut self, frames: &mut [Mbuf]) -> usize {
        match self {
            Program::Silence => 0,
            Program::Round(template, walk) => round(template, walk, frames),
            Program::FromL3(template, walk, waiting) => {
                round(template, walk, frames);
                waiting.exchange(frames, template.len(), |frame| {
                    round(template, walk, std::slice::from_mut(frame));
                })
            }
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

/// Gives `write` the frame's bytes, after setting the template's length.
#[inline(always)]
fn sized(frame: &mut Mbuf, template: &Template, write: impl FnOnce(&mut [u8])) {
    // net_null is configured for frames of the usual length.
    if template.len() != SHORT {
        frame.set_len(template.len() as u16);
    }
    write(frame.head_mut());
}

/// A port's program. It can be replaced while a worker has the port's queue.
#[derive(Debug, Default)]
pub struct Source {
    program: Arc<Mutex<Program>>,
    /// Removes the callback when dropped. Without it the program never runs.
    callback: Option<RxCallback>,
}

impl Source {
    /// Attaches a new source to a queue.
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

    /// Replaces the program.
    pub fn play(&self, program: Program) {
        *locked(&self.program) = program;
    }

    /// Returns the current program, to be continued later. It holds no buffers.
    pub fn take(&self) -> Program {
        let mut program = std::mem::take(&mut *locked(&self.program));
        program.let_go();
        program
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
