//! The slot through which the control thread gives a worker the successor of its role, and gets back
//! what the worker does not need any more.
//!
//! A worker looks once a poll, which costs one load while there is nothing. It never waits for the
//! control thread, and it neither allocates nor frees anything here.

use crate::sys::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError, TryLockError};

#[derive(Debug)]
struct Shared<R> {
    /// 1 while a successor waits. Only written under the lock.
    waiting: AtomicU64,
    content: Mutex<Content<R>>,
}

#[derive(Debug)]
enum Content<R> {
    Empty,
    /// For the worker to take.
    Successor(R),
    /// For the control thread to free.
    Done(R),
}

/// Returns the two ends of an empty slot.
pub fn slot<R>() -> (Giver<R>, Taker<R>) {
    let content = Mutex::new(Content::Empty);
    let shared = Arc::new(Shared { waiting: AtomicU64::new(0), content });
    (Giver(Arc::clone(&shared)), Taker(shared))
}

/// The control thread's end.
#[derive(Debug)]
pub struct Giver<R>(Arc<Shared<R>>);

/// The worker's end.
#[derive(Debug)]
pub struct Taker<R>(Arc<Shared<R>>);

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, Content<R>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Giver<R> {
    /// Gives the worker a successor. One that it has not taken yet is freed, and it gets this one
    /// instead.
    pub fn give(&self, successor: R) {
        let mut content = self.0.lock();
        let before = std::mem::replace(&mut *content, Content::Successor(successor));
        self.0.waiting.store(1, Ordering::Relaxed);
        drop(content);
        // Freed after the lock is released, because it may take long.
        drop(before);
    }

    /// Returns whether the worker has taken what it was given last, and frees what it gave back.
    pub fn is_taken(&self) -> bool {
        let mut content = self.0.lock();
        if matches!(*content, Content::Successor(_)) {
            return false;
        }
        let done = std::mem::replace(&mut *content, Content::Empty);
        drop(content);
        drop(done);
        true
    }
}

impl<R> Taker<R> {
    /// Returns a slot that nothing is given through.
    pub fn none() -> Self {
        slot().1
    }

    /// Returns whether a successor waits.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) != 0
    }

    /// Takes the successor: `reload` goes on with it, and returns what is not needed any more. While
    /// the control thread has the lock nothing happens, and the next call tries again.
    #[cold]
    pub fn take(&self, reload: impl FnOnce(R) -> R) {
        let mut content = match self.0.content.try_lock() {
            Ok(content) => content,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.0.waiting.store(0, Ordering::Relaxed);
        *content = match std::mem::replace(&mut *content, Content::Empty) {
            Content::Successor(successor) => Content::Done(reload(successor)),
            other => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what waits, as a worker does that has `role`.
    fn poll(taker: &Taker<Vec<u8>>, role: &mut Vec<u8>) -> bool {
        let waits = taker.is_waiting();
        if waits {
            taker.take(|next| std::mem::replace(role, next));
        }
        waits
    }

    #[test]
    fn a_successor_is_taken_once_and_what_it_replaces_comes_back() {
        let (giver, taker) = slot();
        let mut role = vec![1];
        assert!(giver.is_taken() && !poll(&taker, &mut role));
        giver.give(vec![2]);
        assert!(!giver.is_taken());
        assert!(poll(&taker, &mut role) && !poll(&taker, &mut role));
        assert_eq!(role, [2]);
        assert!(matches!(&*giver.0.lock(), Content::Done(old) if *old == [1]));
        assert!(giver.is_taken());
        assert!(matches!(&*giver.0.lock(), Content::Empty));
    }

    #[test]
    fn one_that_was_not_taken_is_replaced() {
        let (giver, taker) = slot();
        let mut role = vec![1];
        giver.give(vec![2]);
        giver.give(vec![3]);
        assert!(poll(&taker, &mut role) && !poll(&taker, &mut role));
        assert_eq!(role, [3]);
    }

    #[test]
    fn a_worker_does_not_wait_for_the_lock() {
        let (giver, taker) = slot();
        let mut role = vec![1];
        giver.give(vec![2]);
        let guard = giver.0.lock();
        assert!(poll(&taker, &mut role));
        assert_eq!(role, [1], "tried again");
        drop(guard);
        assert!(poll(&taker, &mut role));
        assert_eq!(role, [2]);
        assert!(!Taker::<u8>::none().is_waiting());
    }
}
