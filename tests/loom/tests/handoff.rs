//! Workers that hand frames to each other and stop together, in every order of their steps.

use std::ops::Deref;

use arrayvec::ArrayVec;
use firstack_loom::handoff::frame::{HandoffFrame, HandoffKind};
use firstack_loom::handoff::queues::{Handoff, drain};
use firstack_loom::sync::{Arc, Barrier};
use loom::thread;
use pipeline::packet::burst::BURST;
use pipeline::packet::view::{Packet, Side, View};

/// A frame: the worker that received it, and its number there.
type Frame = (usize, usize);

fn handed(kind: HandoffKind, buffer: Frame) -> HandoffFrame<Frame> {
    match kind {
        HandoffKind::Received(side) => {
            HandoffFrame::received(side, Packet { buffer, view: View::parse(&[], 0) })
        }
        HandoffKind::Transmit(side) => HandoffFrame::transmit(side, buffer),
    }
}

const RECEIVED: HandoffKind = HandoffKind::Received(Side::Inside);
const TRANSMIT: HandoffKind = HandoffKind::Transmit(Side::Outside);

/// The frames that one worker saw, by what happened to them.
#[derive(Debug, Default)]
struct Seen {
    /// Processed as their owner, in order.
    owned: Vec<Frame>,
    /// Sent by the port, in order.
    sent: Vec<Frame>,
    /// Rejected by a full queue.
    rejected: Vec<Frame>,
}

/// Takes a burst from the other workers once: processes received frames and transmits them through
/// worker 0, the only one with a transmit queue.
fn process_queued(handoff: &mut Handoff<Frame>, seen: &mut Seen) -> usize {
    let mut own = ArrayVec::<_, BURST>::new();
    let count = handoff.receive(BURST, |handed| match handed.kind() {
        HandoffKind::Received(_) => own.push(handed.into_frame()),
        HandoffKind::Transmit(_) => seen.sent.push(handed.into_frame()),
    });
    own.drain(..).for_each(|frame| process(handoff, seen, frame));
    handoff.flush(|frame| seen.rejected.push(frame.into_frame()));
    count
}

fn process(handoff: &mut Handoff<Frame>, seen: &mut Seen, frame: Frame) {
    seen.owned.push(frame);
    if handoff.worker() == 0 {
        seen.sent.push(frame);
    } else {
        handoff.push(0, handed(TRANSMIT, frame), |frame| seen.rejected.push(frame.into_frame()));
    }
}

/// A worker that receives `bursts` (each number is the owner of one frame), processes its incoming
/// queues after each burst, and stops.
fn worker(mut handoff: Handoff<Frame>, bursts: &[&[usize]], stopped: &Barrier) -> Seen {
    let (own, mut seen, mut number) = (handoff.worker(), Seen::default(), 0);
    for burst in bursts {
        for &owner in *burst {
            let frame = (own, number);
            number += 1;
            if owner == own {
                process(&mut handoff, &mut seen, frame);
            } else {
                handoff.push(owner, handed(RECEIVED, frame), |back| {
                    seen.rejected.push(back.into_frame())
                });
            }
        }
        handoff.flush(|back| seen.rejected.push(back.into_frame()));
        process_queued(&mut handoff, &mut seen);
    }
    drain(stopped, || process_queued(&mut handoff, &mut seen));
    assert_eq!(handoff.receive(1, |_| ()), 0, "left in the queues");
    seen
}

/// Runs workers with the bursts that each receives: in all orders, or with a limited number of
/// preemptions, as three workers have too many orders.
fn model(
    capacity: usize,
    received: &'static [&'static [&'static [usize]]],
    preemptions: Option<usize>,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        let stopped = Arc::new(Barrier::new(received.len()));
        let mut handoffs = Handoff::new(received.len(), capacity).into_iter();
        let first = handoffs.next().unwrap();
        let others: Vec<_> = handoffs
            .zip(&received[1..])
            .map(|(handoff, bursts)| {
                let stopped = Arc::clone(&stopped);
                thread::spawn(move || worker(handoff, bursts, stopped.deref()))
            })
            .collect();
        let mut seen = vec![worker(first, received[0], &stopped)];
        seen.extend(others.into_iter().map(|other| other.join().unwrap()));
        check(&seen, capacity, received);
    });
}

fn check(seen: &[Seen], capacity: usize, received: &[&[&[usize]]]) {
    let all = |of: fn(&Seen) -> &Vec<Frame>| {
        let mut all: Vec<_> = seen.iter().flat_map(|seen| of(seen).iter().copied()).collect();
        all.sort_unstable();
        all
    };
    let mut expected = Vec::new();
    let mut most = 0;
    for (worker, bursts) in received.iter().enumerate() {
        let owners = bursts.iter().flat_map(|burst| burst.iter());
        expected.extend(owners.clone().enumerate().map(|(number, _)| (worker, number)));
        for (number, &owner) in owners.enumerate() {
            let others = (0..seen.len()).filter(|&other| other != owner);
            let wrong = others.filter(|&other| seen[other].owned.contains(&(worker, number)));
            assert_eq!(wrong.count(), 0, "({worker}, {number}) is not its owner's");
        }
        most = most.max(bursts.iter().map(|burst| burst.len()).sum());
    }
    // No frame is lost or duplicated: each is sent, or rejected by a full queue.
    let mut ends = all(|seen| &seen.sent);
    ends.extend(all(|seen| &seen.rejected));
    ends.sort_unstable();
    assert_eq!(ends, expected);
    if capacity >= 2 * most {
        assert!(seen.iter().all(|seen| seen.rejected.is_empty()), "rejected with room left");
    }
    // Frames from one worker to one owner stay in order.
    for seen in seen {
        for frames in [&seen.owned, &seen.sent] {
            for (worker, bursts) in received.iter().enumerate() {
                let owner = |number: usize| bursts.concat()[number];
                for of in 0..received.len() {
                    let numbers = frames.iter().filter(|f| f.0 == worker && owner(f.1) == of);
                    let numbers: Vec<_> = numbers.map(|frame| frame.1).collect();
                    assert!(numbers.is_sorted(), "{numbers:?} of {worker} for {of}");
                }
            }
        }
    }
}

#[test]
fn two_workers_give_each_other_frames() {
    model(8, &[&[&[1, 0, 1], &[1]], &[&[0, 1]]], None);
}

#[test]
fn a_full_queue_rejects() {
    model(1, &[&[&[1, 1], &[1]], &[&[0]]], None);
}

#[test]
fn three_workers_end_together() {
    model(8, &[&[&[1, 2]], &[&[2]], &[]], Some(2));
}

/// Bursts with more frames for one worker than one batch holds.
#[test]
fn more_than_a_burst() {
    const MANY: [usize; BURST + 2] = [1; BURST + 2];
    model(4 * BURST, &[&[&MANY], &[]], None);
}
