//! Queues between workers: for packets that arrived at another worker than the one that owns
//! their client, and for frames to leave by a port on which a worker has no queue of its own.
//!
//! One bounded queue per receiving worker; what each sender puts in stays in order. A full
//! queue refuses, it never blocks.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use pipeline::view::Side;
use siphasher::sip::SipHasher13;

/// A frame for another worker.
#[derive(Debug)]
pub enum Handed<B> {
    /// Received on this side; the other worker owns its client.
    Received(Side, B),
    /// To be sent by this side.
    Transmit(Side, B),
}

/// One worker's way to all the others.
#[derive(Debug)]
pub struct Mail<B> {
    own: usize,
    boxes: Arc<[ArrayQueue<Handed<B>>]>,
}

impl<B> Mail<B> {
    /// The ways of `workers` workers to each other.
    pub fn new(workers: usize, capacity: usize) -> Vec<Self> {
        let boxes: Arc<[_]> = (0..workers).map(|_| ArrayQueue::new(capacity)).collect();
        (0..workers).map(|own| Self { own, boxes: Arc::clone(&boxes) }).collect()
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.boxes.len()
    }

    /// The number of the worker that owns a client.
    #[inline]
    pub fn owner(&self, client: IpAddr) -> usize {
        owner(client, self.boxes.len())
    }

    /// This worker's number.
    pub fn own(&self) -> usize {
        self.own
    }

    /// Gives a frame to another worker; gives it back when that one's queue is full.
    #[inline]
    pub fn send(&self, to: usize, frame: Handed<B>) -> Result<(), Handed<B>> {
        self.boxes[to].push(frame)
    }

    /// The next frame for this worker.
    #[inline]
    pub fn next(&self) -> Option<Handed<B>> {
        self.boxes[self.own].pop()
    }
}

/// Which of `workers` workers owns a client. The key is fixed: nothing is gained by guessing
/// it but an uneven load, which a sender with many addresses can have anyway.
pub fn owner(client: IpAddr, workers: usize) -> usize {
    if workers == 1 {
        return 0;
    }
    let mut hasher = SipHasher13::new_with_keys(0x6f77, 0x006e_6572);
    match client {
        IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
        IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
    }
    ((hasher.finish() >> 32) as usize * workers) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_spread_and_stable() {
        let mut shares = [0; 3];
        for n in 0..3000u32 {
            let client = IpAddr::from((0xc612_0000 + n).to_be_bytes());
            shares[owner(client, 3)] += 1;
            assert_eq!(owner(client, 3), owner(client, 3));
            assert_eq!(owner(client, 1), 0);
        }
        assert!(shares.iter().all(|share| (900..1100).contains(share)), "{shares:?}");
    }

    #[test]
    fn order_is_kept_and_a_full_queue_refuses() {
        let mail = Mail::new(2, 2);
        assert!(mail[0].send(1, Handed::Received(Side::Inside, 'a')).is_ok());
        assert!(mail[0].send(1, Handed::Transmit(Side::Outside, 'b')).is_ok());
        assert!(mail[0].send(1, Handed::Received(Side::Inside, 'c')).is_err());
        assert!(matches!(mail[1].next(), Some(Handed::Received(Side::Inside, 'a'))));
        assert!(matches!(mail[1].next(), Some(Handed::Transmit(Side::Outside, 'b'))));
        assert!(mail[1].next().is_none() && mail[0].next().is_none());
    }
}
