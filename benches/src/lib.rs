//! Shared pieces of the benchmarks: buffers that are used again instead of allocated, and a harness
//! that runs bursts through a role and times nothing but the role.
//!
//! [`fixtures`] has the frames, [`roles`] the roles; [`cases`] is what the test of allocations and the
//! program `instructions` measure.

pub mod cases;
pub mod find;
pub mod fixtures;
pub mod roles;

use std::time::{Duration, Instant};

use pipeline::packet::buffer::{Buffer, Pool};
use pipeline::packet::burst::{Burst, Output};
use pipeline::role::{Context, Role};
use pipeline::base::time::Ticks;
use pipeline::verdict::Verdict;
use pipeline::packet::view::Side;

/// Packets per burst, as the workers' default.
pub const BURST: usize = 32;

const SIZE: usize = 512;
const HEADROOM: usize = 128;

/// A frame in a buffer of fixed size, as an mbuf is.
#[derive(Debug)]
pub struct SlabBuffer {
    bytes: Box<[u8; SIZE]>,
    start: usize,
    end: usize,
}

impl SlabBuffer {
    fn new() -> Self {
        Self { bytes: Box::new([0; SIZE]), start: HEADROOM, end: HEADROOM }
    }

    /// Puts a frame in.
    pub fn set(&mut self, frame: &[u8]) {
        (self.start, self.end) = (HEADROOM, HEADROOM + frame.len());
        self.bytes[self.start..self.end].copy_from_slice(frame);
    }
}

impl Buffer for SlabBuffer {
    #[inline]
    fn head(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    #[inline]
    fn frame_len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        let fits = count <= self.start;
        if fits {
            self.start -= count;
        }
        fits
    }

    #[inline]
    fn trim_front(&mut self, count: usize) {
        self.start += count;
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// Free buffers. What a role drops is lost to the slab, which then makes a new one, untimed
/// except where the role itself asks for more than there are.
#[derive(Debug, Default)]
pub struct Slab(Vec<SlabBuffer>);

impl Slab {
    /// Makes sure of `count` free buffers.
    pub fn refill(&mut self, count: usize) {
        while self.0.len() < count {
            self.0.push(SlabBuffer::new());
        }
    }

    /// A buffer with this frame in it.
    pub fn with(&mut self, frame: &[u8]) -> SlabBuffer {
        let mut buffer = self.0.pop().unwrap_or_else(SlabBuffer::new);
        buffer.set(frame);
        buffer
    }

    /// Takes a buffer back.
    pub fn put(&mut self, buffer: SlabBuffer) {
        self.0.push(buffer);
    }
}

impl Pool for Slab {
    type Buffer = SlabBuffer;

    fn alloc(&mut self, len: usize) -> Option<SlabBuffer> {
        let mut buffer = self.0.pop()?;
        (buffer.start, buffer.end) = (HEADROOM, HEADROOM + len);
        Some(buffer)
    }
}

/// A role and what it needs.
pub struct Harness<R> {
    /// The role under test.
    pub role: R,
    burst: Burst<SlabBuffer>,
    out: Output<SlabBuffer>,
    slab: Slab,
    now: Ticks,
}

impl<R: Role> Harness<R> {
    /// A harness whose packets turn into at most `copies` more each.
    pub fn new(role: R, copies: usize) -> Self {
        let (burst, out) = (Burst::default(), Output::new(copies));
        let (slab, now) = (Slab::default(), Ticks::from_secs(1));
        Self { role, burst, out, slab, now }
    }

    /// Lets time pass.
    pub fn wait(&mut self, span: Ticks) {
        self.now = self.now + span;
    }

    /// Runs frames through in one burst; how long the role took, parsing included, and whether
    /// every packet came to the verdict expected.
    pub fn run<'a>(
        &mut self,
        side: Side,
        frames: impl Iterator<Item = &'a [u8]>,
        expected: Verdict,
    ) -> Duration {
        self.load(frames);
        let start = Instant::now();
        self.step(side);
        let elapsed = start.elapsed();
        self.unload(expected);
        elapsed
    }

    /// Makes a burst of these frames ready.
    pub fn load<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) {
        self.slab.refill(8 * BURST);
        self.burst.frames().extend(frames.map(|frame| self.slab.with(frame)));
    }

    /// What a worker does for a burst, and nothing else: looks at the packets that are ready, has
    /// the role decide and act, and keeps house.
    pub fn step(&mut self, side: Side) {
        let mut context = Context { now: self.now, pool: &mut self.slab, out: &mut self.out };
        self.role.process(side, &mut self.burst, &mut context);
        self.role.on_timer(&mut context);
    }

    /// Takes what leaves back, and makes sure of the verdict that every packet came to.
    pub fn unload(&mut self, expected: Verdict) {
        self.take_back();
        let mut verdicts = self.burst.verdicts().iter();
        assert!(verdicts.all(|&verdict| verdict == expected), "a verdict other than {expected:?}");
    }

    /// The verdicts that the last burst's packets came to.
    pub fn verdicts(&self) -> &[Verdict] {
        self.burst.verdicts()
    }

    /// Takes what leaves back.
    pub fn take_back(&mut self) {
        for side in Side::ALL {
            while let Some(buffer) = self.out.side(side).pop() {
                self.slab.put(buffer);
            }
        }
    }
}

/// The client endpoint of connection `number`, as text: one address for 50,000 ports.
pub fn client(number: usize) -> String {
    let (host, port) = (number / 50_000, 10_000 + number % 50_000);
    format!("198.18.{}.{}:{port}", host / 250, 1 + host % 250)
}

/// The like in IPv6.
pub fn client_v6(number: usize) -> String {
    let (host, port) = (number / 50_000, 10_000 + number % 50_000);
    format!("[2001:db8:1::{:x}]:{port}", 1 + host)
}
