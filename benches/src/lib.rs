//! The library of the benchmarks: reusable buffers, and a harness that runs bursts through a role
//! and times only the role.
//!
//! [`fixtures`] has the frames, [`roles`] the roles, [`direct`] whom gateways ask directly,
//! [`established`] roles with open connections, [`configuration`] roles with configurations of any size,
//! [`cases`] the cases of the test `allocations` and the program `instructions`.

pub mod cases;
pub mod configuration;
pub mod direct;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod established;
pub mod find;
pub mod fixtures;
pub mod roles;

use std::time::{Duration, Instant};

use pipeline::base::time::Ticks;
use pipeline::packet::buffer::{Buffer, Pool};
use pipeline::packet::burst::{Burst, Output};
use pipeline::packet::view::Side;
use pipeline::role::{Context, Role};
use pipeline::verdict::Verdict;

/// Packets per burst: the workers' default.
pub const BURST: usize = 32;

const SIZE: usize = 512;
const HEADROOM: usize = 128;

/// A buffer of fixed size, like an mbuf.
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

    /// Writes a frame into the buffer.
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

/// Free buffers. Buffers that a role drops are lost, and replaced outside the timed part, unless
/// the role itself allocates more than there are.
#[derive(Debug, Default)]
pub struct Slab(Vec<SlabBuffer>);

impl Slab {
    /// Ensures that there are `count` free buffers.
    pub fn refill(&mut self, count: usize) {
        while self.0.len() < count {
            self.0.push(SlabBuffer::new());
        }
    }

    /// Returns a buffer with this frame.
    pub fn with(&mut self, frame: &[u8]) -> SlabBuffer {
        let mut buffer = self.0.pop().unwrap_or_else(SlabBuffer::new);
        buffer.set(frame);
        buffer
    }

    /// Returns a buffer to the slab.
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

/// A role with its burst, output, buffers and time.
pub struct Harness<R> {
    /// The role.
    pub role: R,
    burst: Burst<SlabBuffer>,
    out: Output<SlabBuffer>,
    slab: Slab,
    now: Ticks,
}

impl<R: Role> Harness<R> {
    /// Creates a harness. A packet turns into at most `copies` more.
    pub fn new(role: R, copies: usize) -> Self {
        let (burst, out) = (Burst::default(), Output::new(copies));
        let (slab, now) = (Slab::default(), Ticks::from_secs(1));
        Self { role, burst, out, slab, now }
    }

    /// Advances the time.
    pub fn wait(&mut self, span: Ticks) {
        self.now = self.now + span;
    }

    /// Runs frames through the role in one burst, and returns the role's time, parsing included.
    /// Panics when a packet gets another verdict than `expected`.
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

    /// Prepares a burst of these frames.
    pub fn load<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) {
        self.slab.refill(8 * BURST);
        self.burst.frames().extend(frames.map(|frame| self.slab.with(frame)));
    }

    /// Processes the prepared packets and does the role's periodic work, as a worker does for a
    /// burst.
    pub fn step(&mut self, side: Side) {
        let mut context = Context { now: self.now, pool: &mut self.slab, out: &mut self.out };
        self.role.process(side, &mut self.burst, &mut context);
        self.role.on_timer(&mut context);
    }

    /// Takes transmitted buffers back, and checks the verdict of every packet.
    pub fn unload(&mut self, expected: Verdict) {
        self.take_back();
        let mut verdicts = self.burst.verdicts().iter();
        assert!(verdicts.all(|&verdict| verdict == expected), "a verdict other than {expected:?}");
    }

    /// Returns the verdicts of the last burst.
    pub fn verdicts(&self) -> &[Verdict] {
        self.burst.verdicts()
    }

    /// Takes transmitted buffers back.
    pub fn take_back(&mut self) {
        for side in Side::ALL {
            while let Some(buffer) = self.out.side(side).pop() {
                self.slab.put(buffer);
            }
        }
    }
}

/// Returns the client endpoint of connection `number`, as text: 50,000 ports per address.
pub fn client(number: usize) -> String {
    let (host, port) = (number / 50_000, 10_000 + number % 50_000);
    format!("198.18.{}.{}:{port}", host / 250, 1 + host % 250)
}

/// Returns the IPv6 client endpoint of connection `number`, as text.
pub fn client_v6(number: usize) -> String {
    let (host, port) = (number / 50_000, 10_000 + number % 50_000);
    format!("[2001:db8:1::{:x}]:{port}", 1 + host)
}
