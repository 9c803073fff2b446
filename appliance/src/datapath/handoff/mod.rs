//! Queues between workers: for packets that arrived at another worker than the one that owns
//! their client, and for frames to leave by a port on which a worker has no queue of its own.

pub mod queues;
pub mod ring;

pub use queues::{Handed, Mail, What, wind_down};

/// Frames that each queue between two of `workers` workers holds, when all queues to one worker
/// together may hold `share`.
pub fn capacity(workers: usize, share: usize) -> usize {
    (share / workers.saturating_sub(1).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use pipeline::view::Side;

    use super::*;

    fn take(mail: &mut Mail<usize>, most: usize) -> Vec<usize> {
        let mut frames = Vec::new();
        let count = mail.take(most, |handed| frames.push(handed.frame));
        assert_eq!(count, frames.len());
        frames
    }

    #[test]
    fn order_is_kept_and_a_full_queue_refuses() {
        let mut mail = Mail::new(2, 100);
        let mut refused = Vec::new();
        let mut taken = Vec::new();
        // More than are collected at once, over the ring's end and over its capacity.
        for round in 0..3 {
            for frame in 0..90 {
                let frame = Handed::transmit(Side::Outside, round * 90 + frame);
                mail[0].put(1, frame, |back| refused.push(back.frame));
            }
            mail[0].send(|back| refused.push(back.frame));
            taken.extend(take(&mut mail[1], 60));
        }
        taken.extend(take(&mut mail[1], 200));
        assert!(refused.is_sorted() && taken.is_sorted(), "{refused:?} {taken:?}");
        assert_eq!((taken.len(), refused.len()), (220, 50));
        taken.extend(refused);
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..270));
    }

    #[test]
    fn each_sender_is_first_in_turn() {
        let mut mail = Mail::new(3, 8);
        for sender in [0, 1] {
            for frame in 0..4 {
                mail[sender].put(2, Handed::transmit(Side::Inside, sender * 10 + frame), |_| ());
            }
            mail[sender].send(|_| panic!("refused"));
        }
        let two: Vec<_> = (0..4).flat_map(|_| take(&mut mail[2], 2)).collect();
        assert_eq!(two, [0, 1, 10, 11, 2, 3, 12, 13]);
        assert!(mail[0].has_others() && !Mail::<usize>::new(1, 8)[0].has_others());
    }

    #[test]
    fn a_frame_takes_half_a_cache_line() {
        assert_eq!(size_of::<Handed<usize>>(), 32);
    }
}
