//! Queues between workers: for packets received by a worker that does not own their client, and
//! for frames that leave by a port on which a worker has no transmit queue.

pub mod frame;
pub mod queues;
pub mod ring;

pub use frame::{HandoffFrame, HandoffKind};
pub use queues::{Handoff, drain};

/// Returns the capacity in frames of each queue between two of `workers` workers when all queues
/// to one worker together may hold `share` frames.
pub fn capacity(workers: usize, share: usize) -> usize {
    (share / workers.saturating_sub(1).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use pipeline::packet::view::Side;

    use super::*;

    fn receive(handoff: &mut Handoff<usize>, limit: usize) -> Vec<usize> {
        let mut frames = Vec::new();
        let count = handoff.receive(limit, |received| frames.push(received.into_frame()));
        assert_eq!(count, frames.len());
        frames
    }

    #[test]
    fn order_is_kept_and_a_full_queue_rejects() {
        let mut workers = Handoff::new(2, 100);
        let mut rejected = Vec::new();
        let mut received = Vec::new();
        // More than one batch, over the ring's end and over its capacity.
        for round in 0..3 {
            for frame in 0..90 {
                let frame = HandoffFrame::transmit(Side::Outside, round * 90 + frame);
                workers[0].push(1, frame, |back| rejected.push(back.into_frame()));
            }
            workers[0].flush(|back| rejected.push(back.into_frame()));
            received.extend(receive(&mut workers[1], 60));
        }
        received.extend(receive(&mut workers[1], 200));
        assert!(rejected.is_sorted() && received.is_sorted(), "{rejected:?} {received:?}");
        assert_eq!((received.len(), rejected.len()), (220, 50));
        received.extend(rejected);
        received.sort_unstable();
        assert!(received.into_iter().eq(0..270));
    }

    #[test]
    fn senders_take_turns() {
        let mut workers = Handoff::new(3, 8);
        for sender in [0, 1] {
            for frame in 0..4 {
                let frame = HandoffFrame::transmit(Side::Inside, sender * 10 + frame);
                workers[sender].push(2, frame, |_| ());
            }
            workers[sender].flush(|_| panic!("rejected"));
        }
        let two: Vec<_> = (0..4).flat_map(|_| receive(&mut workers[2], 2)).collect();
        assert_eq!(two, [0, 1, 10, 11, 2, 3, 12, 13]);
        assert!(workers[0].has_others() && !Handoff::<usize>::new(1, 8)[0].has_others());
    }
}
