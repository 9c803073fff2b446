//! Values that the control thread makes and workers read: tables of live servers, keys.
//!
//! A worker refreshes its [`Reader`] once a burst and reads without any cost from then on. While
//! nothing has been published that is one load. It never waits for the control thread, and it
//! never frees a value: a large one would take longer to free than a burst has.

use crate::base::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError, TryLockError};

#[derive(Debug)]
struct Shared<T> {
    /// Counts what was published; written under the lock of `values` alone.
    version: AtomicU64,
    values: Mutex<Values<T>>,
}

#[derive(Debug)]
struct Values<T> {
    current: Arc<T>,
    /// Earlier values that readers may still hold; at most one for each reader and one more.
    retired: Vec<Arc<T>>,
}

/// The control thread's end.
#[derive(Debug)]
pub struct Published<T>(Arc<Shared<T>>);

/// A worker's end: holds a value until it is refreshed.
#[derive(Debug)]
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
    value: Arc<T>,
}

impl<T> Published<T> {
    /// Publishes a first value.
    pub fn new(value: T) -> Self {
        let values = Values { current: Arc::new(value), retired: Vec::new() };
        Self(Arc::new(Shared { version: AtomicU64::new(0), values: Mutex::new(values) }))
    }

    /// Puts another value in place of the current one, and frees those that nobody reads any more.
    pub fn publish(&self, value: T) {
        let value = Arc::new(value);
        let mut values = self.0.lock();
        let old = std::mem::replace(&mut values.current, value);
        values.retired.push(old);
        // Nobody can take a retired value anew, so one that is held here alone stays so.
        let unread = |value: &mut Arc<T>| Arc::strong_count(value) == 1;
        let freed: Vec<_> = values.retired.extract_if(.., unread).collect();
        // After the value: who sees the new version finds it, or a later one.
        self.0.version.fetch_add(1, Ordering::Release);
        drop(values);
        // Without the lock, however long it takes.
        drop(freed);
    }

    /// The current value.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().current)
    }

    /// An end for one more worker; it has the current value.
    pub fn reader(&self) -> Reader<T> {
        let values = self.0.lock();
        let seen = self.0.version.load(Ordering::Relaxed);
        Reader { shared: Arc::clone(&self.0), seen, value: Arc::clone(&values.current) }
    }
}

impl<T> Shared<T> {
    /// A thread that died under the lock has left a sound value behind: each is put in place at
    /// once.
    fn lock(&self) -> MutexGuard<'_, Values<T>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Reader<T> {
    /// Takes the value published last, if there is a new one; says whether there was. While
    /// somebody else is at it, the old one stays for another burst.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        self.shared.version.load(Ordering::Acquire) != self.seen && self.take()
    }

    #[cold]
    fn take(&mut self) -> bool {
        let values = match self.shared.values.try_lock() {
            Ok(values) => values,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        self.seen = self.shared.version.load(Ordering::Relaxed);
        // Not the last to hold the old one: it is retired, and freed by the other end.
        self.value = Arc::clone(&values.current);
        true
    }

    /// The value as of the last refresh.
    #[inline]
    pub fn get(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::thread;

    use super::*;

    #[test]
    fn a_reader_keeps_its_value_until_it_is_refreshed() {
        let published = Published::new("first");
        let mut reader = published.reader();
        assert!(!reader.refresh());
        published.publish("second");
        published.publish("third");
        assert_eq!((*reader.get(), *published.current()), ("first", "third"));
        assert!(reader.refresh());
        assert_eq!(*reader.get(), "third");
        assert!(!reader.refresh());
        assert_eq!(*published.reader().get(), "third");
    }

    #[test]
    fn a_reader_outlives_the_other_end() {
        let published = Published::new(1);
        let mut reader = published.reader();
        published.publish(2);
        drop(published);
        assert!(reader.refresh());
        assert_eq!(*reader.get(), 2);
    }

    #[test]
    fn a_reader_does_not_wait_for_the_lock() {
        let published = Published::new(1);
        let mut reader = published.reader();
        published.publish(2);
        let held = published.0.lock();
        assert!(!reader.refresh());
        drop(held);
        assert!(reader.refresh());
    }

    /// Notes where it is freed.
    struct Freed(Arc<Mutex<Vec<thread::ThreadId>>>);

    impl Drop for Freed {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(thread::current().id());
        }
    }

    #[test]
    fn values_are_freed_by_the_end_that_publishes() {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let published = Published::new(Freed(Arc::clone(&notes)));
        let mut reader = published.reader();
        published.publish(Freed(Arc::clone(&notes)));
        let worker = thread::spawn(move || {
            assert!(reader.refresh());
            reader
        });
        let reader = worker.join().unwrap();
        assert!(notes.lock().unwrap().is_empty(), "the worker freed what it gave back");
        published.publish(Freed(Arc::clone(&notes)));
        assert_eq!(*notes.lock().unwrap(), [thread::current().id()]);
        drop(reader);
        published.publish(Freed(Arc::clone(&notes)));
        assert_eq!(notes.lock().unwrap().len(), 3);
    }

    #[test]
    fn readers_on_other_threads_see_whole_values_in_order_and_the_last_one() {
        const VALUES: u64 = 20_000;
        let published = Published::new([0; 8]);
        let (ready, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let read = |mut reader: Reader<[u64; 8]>| {
            ready.fetch_add(1, Ordering::Relaxed);
            let (mut last, mut tries) = (0, 0);
            while last < VALUES {
                // Asked first: what was published before the end must be seen after it, but for
                // the tries at which the other reader has the lock.
                tries += u32::from(done.load(Ordering::Acquire));
                let refreshed = reader.refresh();
                let value = reader.get();
                assert!(value.iter().all(|part| *part == value[0]), "torn: {value:?}");
                assert!(value[0] >= last && (refreshed || value[0] == last), "{last} {value:?}");
                last = value[0];
                assert!(tries < 10_000, "{last} is the last that was seen");
            }
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                let reader = published.reader();
                scope.spawn(move || read(reader));
            }
            while ready.load(Ordering::Relaxed) < 2 {
                thread::yield_now();
            }
            (1..=VALUES).for_each(|value| published.publish([value; 8]));
            done.store(true, Ordering::Release);
        });
    }
}
