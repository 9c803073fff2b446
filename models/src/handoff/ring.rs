//! What the appliance's queue promises, under a lock: bounded, in order, never waited for.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use crate::sync::{Arc, Mutex, PoisonError};

type Shared<T> = Arc<Mutex<VecDeque<T>>>;

/// The end that one worker writes.
#[derive(Debug)]
pub struct Sender<T> {
    queue: Shared<T>,
    capacity: usize,
}

/// The end that one other worker reads.
#[derive(Debug)]
pub struct Receiver<T>(Shared<T>);

/// A queue that holds so many.
pub fn ring<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Mutex::new(VecDeque::new()));
    (Sender { queue: Arc::clone(&queue), capacity }, Receiver(queue))
}

impl<T> Sender<T> {
    /// Takes as many from the front of `items` as there is room for; the rest stays.
    pub fn send<const N: usize>(&mut self, items: &mut ArrayVec<T, N>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = items.len().min(self.capacity - queue.len());
        queue.extend(items.drain(..count));
    }
}

impl<T> Receiver<T> {
    /// Gives up to `most` to `each`, in order; how many.
    pub fn take(&mut self, most: usize, each: impl FnMut(T)) -> usize {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = most.min(queue.len());
        let taken: Vec<_> = queue.drain(..count).collect();
        drop(queue);
        taken.into_iter().for_each(each);
        count
    }
}
