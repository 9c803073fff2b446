//! The cost of handing a frame to another worker, in nanoseconds per frame, both ends together. It
//! compares the appliance's ring per pair of workers, written and read in bursts, with crossbeam's
//! multi-producer queue, one frame at a time, and handing the parsed view over with parsing the
//! frame again.
//!
//! On one thread the figures contain only instructions. Between two threads on two cores they
//! contain cache line transfers, too.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::queue::ArrayQueue;
use firstack::datapath::handoff::ring::{Receiver, Sender, ring};
use firstack::datapath::handoff::{Handoff, HandoffFrame, capacity};
use firstack_benches::client;
use firstack_packets::Segment;
use pipeline::packet::view::{Packet, Side, View};

const CAPACITY: usize = 2048;
const BURST: usize = 32;

/// Writes a burst at one end of a queue and reads at the other. Returns the number of frames read.
trait Way: Send {
    fn write(&mut self, frames: &mut ArrayVec<HandoffFrame<usize>, BURST>);
}

trait End: Send {
    fn read(&mut self, most: usize) -> usize;
}

impl Way for Sender<HandoffFrame<usize>> {
    fn write(&mut self, frames: &mut ArrayVec<HandoffFrame<usize>, BURST>) {
        self.send(frames);
    }
}

impl End for Receiver<HandoffFrame<usize>> {
    fn read(&mut self, most: usize) -> usize {
        self.take(most, |frame| {
            black_box(frame);
        })
    }
}

type Crossbeam = Arc<ArrayQueue<HandoffFrame<usize>>>;

impl Way for Crossbeam {
    fn write(&mut self, frames: &mut ArrayVec<HandoffFrame<usize>, BURST>) {
        while let Some(frame) = frames.pop() {
            if let Err(frame) = self.push(frame) {
                frames.push(frame);
                return;
            }
        }
    }
}

impl End for Crossbeam {
    fn read(&mut self, most: usize) -> usize {
        let each = std::iter::from_fn(|| self.pop()).take(most);
        each.map(black_box).count()
    }
}

fn queue(name: &str) -> (Box<dyn Way>, Box<dyn End>) {
    if name == "ring" {
        let (sender, receiver) = ring(CAPACITY);
        (Box::new(sender), Box::new(receiver))
    } else {
        let queue = Arc::new(ArrayQueue::new(CAPACITY));
        (Box::new(Arc::clone(&queue)), Box::new(queue))
    }
}

fn fill(frames: &mut ArrayVec<HandoffFrame<usize>, BURST>, count: usize) {
    frames.extend((frames.len()..count).map(|frame| HandoffFrame::transmit(Side::Inside, frame)));
}

fn queues(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handoff/one thread");
    for burst in [1, 8, 32] {
        group.throughput(Throughput::Elements(burst as u64));
        for name in ["ring", "crossbeam"] {
            let (mut way, mut end) = queue(name);
            let mut frames = ArrayVec::new();
            group.bench_function(BenchmarkId::new(name, burst), |bencher| {
                bencher.iter(|| {
                    fill(&mut frames, burst);
                    way.write(&mut frames);
                    assert_eq!(end.read(burst), burst);
                });
            });
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("handoff/two threads");
    group.throughput(Throughput::Elements(BURST as u64)).sample_size(10);
    for name in ["ring", "crossbeam"] {
        group.bench_function(name, |bencher| bencher.iter_custom(|bursts| through(name, bursts)));
    }
    group.finish();
}

/// Returns the time that bursts take from one thread to another.
fn through(name: &str, bursts: u64) -> Duration {
    let (mut way, mut end) = queue(name);
    let mut left = bursts as usize * BURST;
    let mut unread = left;
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut frames = ArrayVec::new();
            while left > 0 {
                fill(&mut frames, BURST.min(left));
                let before = frames.len();
                way.write(&mut frames);
                left -= before - frames.len();
                if before == frames.len() {
                    thread::yield_now();
                }
            }
        });
        while unread > 0 {
            match end.read(BURST) {
                0 => thread::yield_now(),
                count => unread -= count,
            }
        }
    });
    start.elapsed()
}

/// Compares a view that is handed over with one that is parsed again.
fn views(criterion: &mut Criterion) {
    let ack = |number| Segment::ack(&client(number), "203.0.113.10:80", 8, 6).frame();
    let frames: Vec<_> = (0..BURST).map(ack).collect();
    let mut group = criterion.benchmark_group("handoff/whole path");
    group.throughput(Throughput::Elements(BURST as u64));
    for again in [false, true] {
        let name = if again { "view parsed again" } else { "view handed over" };
        let mut workers = Handoff::new(2, capacity(2, 2048));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for frame in &frames {
                    let frame = black_box(&frame[..]);
                    let packet = Packet { view: View::parse(frame, frame.len()), buffer: frame };
                    workers[0].push(1, HandoffFrame::received(Side::Inside, packet), |_| ());
                }
                workers[0].flush(|_| ());
                workers[1].receive(BURST, |received| {
                    let view = received.view().filter(|_| !again);
                    let frame = black_box(received.into_frame());
                    black_box(view.unwrap_or_else(|| View::parse(frame, frame.len())));
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, queues, views);
criterion_main!(benches);
