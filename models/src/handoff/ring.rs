//! A queue with the guarantees of the appliance's ring, under a lock: bounded, in order,
//! non-blocking.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use crate::sync::{Arc, Mutex, PoisonError};

type Shared<T> = Arc<Mutex<VecDeque<T>>>;

/// The producer's end.
#[derive(Debug)]
pub struct Sender<T> {
    queue: Shared<T>,
    capacity: usize,
}

/// The consumer's end.
#[derive(Debug)]
pub struct Receiver<T>(Shared<T>);

/// Creates a queue that holds `capacity` items.
pub fn ring<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Mutex::new(VecDeque::new()));
    (Sender { queue: Arc::clone(&queue), capacity }, Receiver(queue))
}

impl<T> Sender<T> {
    /// Moves as many items from the front of `items` into the queue as it has room for.
    pub fn send<const N: usize>(&mut self, items: &mut ArrayVec<T, N>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = items.len().min(self.capacity - queue.len());
        queue.extend(items.drain(..count));
    }
}

impl<T> Receiver<T> {
    /// Passes up to `most` items to `each`, in order. Returns how many.
    pub fn take(&mut self, most: usize, each: impl FnMut(T)) -> usize {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = most.min(queue.len());
        let taken: Vec<_> = queue.drain(..count).collect();
        drop(queue);
        taken.into_iter().for_each(each);
        count
    }
}
