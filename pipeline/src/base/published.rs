//! Values that the control thread publishes and workers read, such as tables of servers and keys.
//!
//! A worker refreshes its [`Reader`] once a burst, which costs one load while nothing new has been
//! published. Reading the value after that costs nothing. A worker never waits for the control
//! thread, and it never frees a value, because freeing a large one could take longer than a burst
//! may.

use crate::base::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError, TryLockError};

#[derive(Debug)]
struct Shared<T> {
    /// Number of values published so far. Only written under the lock of `values`.
    version: AtomicU64,
    values: Mutex<Values<T>>,
}

#[derive(Debug)]
struct Values<T> {
    current: Arc<T>,
    /// Earlier values that readers may still use. There is at most one for each reader, and one
    /// more.
    retired: Vec<Arc<T>>,
}

/// The publishing end of a shared value, which the control thread owns.
///
/// Its [`Reader`]s, one for each worker, keep working after it is dropped.
///
/// ```rust
/// use pipeline::base::published::Published;
///
/// let published = Published::new("first");
/// let mut reader = published.reader();
///
/// published.publish("second");
/// assert_eq!(*reader.get(), "first");
/// assert!(reader.refresh());
/// assert_eq!(*reader.get(), "second");
/// assert!(!reader.refresh());
/// ```
#[derive(Debug)]
pub struct Published<T>(Arc<Shared<T>>);

/// The reading end of a shared value, which a worker owns.
///
/// It keeps returning the same value until it is refreshed. See [`Published`] for an example.
#[derive(Debug)]
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
    value: Arc<T>,
}

impl<T> Published<T> {
    /// Creates a publisher with a first value.
    pub fn new(value: T) -> Self {
        let values = Values { current: Arc::new(value), retired: Vec::new() };
        Self(Arc::new(Shared { version: AtomicU64::new(0), values: Mutex::new(values) }))
    }

    /// Replaces the current value and frees the earlier values that no reader uses any more.
    pub fn publish(&self, value: T) {
        let value = Arc::new(value);
        let mut values = self.0.lock();
        let old = std::mem::replace(&mut values.current, value);
        values.retired.push(old);
        // A retired value cannot gain another reader, so one without readers stays without.
        let unread = |value: &mut Arc<T>| Arc::strong_count(value) == 1;
        let freed: Vec<_> = values.retired.extract_if(.., unread).collect();
        // Incremented after the value is in place: a reader that sees the new version finds that
        // value, or a later one.
        self.0.version.fetch_add(1, Ordering::Release);
        drop(values);
        // Freed after the lock is released, because it may take long.
        drop(freed);
    }

    /// Returns the value published last.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().current)
    }

    /// Creates a reader for one more worker. It starts with the current value.
    pub fn reader(&self) -> Reader<T> {
        let values = self.0.lock();
        let seen = self.0.version.load(Ordering::Relaxed);
        Reader { shared: Arc::clone(&self.0), seen, value: Arc::clone(&values.current) }
    }
}

impl<T> Shared<T> {
    /// Locks the values. A panic under the lock leaves them consistent, because each is put in
    /// place in one step.
    fn lock(&self) -> MutexGuard<'_, Values<T>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Reader<T> {
    /// Takes the value published last and returns whether it is a new one.
    ///
    /// Never waits: while another thread holds the lock it keeps the old value and returns `false`,
    /// and the next call tries again.
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
        // This does not free the old value: it is among the retired ones, which the publisher
        // frees.
        self.value = Arc::clone(&values.current);
        true
    }

    /// Returns the value as of the last refresh.
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
    fn a_reader_outlives_its_publisher() {
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
        let guard = published.0.lock();
        assert!(!reader.refresh());
        drop(guard);
        assert!(reader.refresh());
    }

    /// Records the thread that drops it.
    struct Freed(Arc<Mutex<Vec<thread::ThreadId>>>);

    impl Drop for Freed {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(thread::current().id());
        }
    }

    #[test]
    fn values_are_freed_by_the_publisher() {
        let records = Arc::new(Mutex::new(Vec::new()));
        let published = Published::new(Freed(Arc::clone(&records)));
        let mut reader = published.reader();
        published.publish(Freed(Arc::clone(&records)));
        let worker = thread::spawn(move || {
            assert!(reader.refresh());
            reader
        });
        let reader = worker.join().unwrap();
        assert!(records.lock().unwrap().is_empty(), "the worker freed the value that it replaced");
        published.publish(Freed(Arc::clone(&records)));
        assert_eq!(*records.lock().unwrap(), [thread::current().id()]);
        drop(reader);
        published.publish(Freed(Arc::clone(&records)));
        assert_eq!(records.lock().unwrap().len(), 3);
    }

    #[test]
    fn readers_on_other_threads_see_consistent_values_in_order_and_the_last_one() {
        const VALUES: u64 = 20_000;
        let published = Published::new([0; 8]);
        let (ready, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let read = |mut reader: Reader<[u64; 8]>| {
            ready.fetch_add(1, Ordering::Relaxed);
            let (mut last, mut attempts) = (0, 0);
            while last < VALUES {
                // Loaded first: a value published before `done` was set must be seen after it,
                // except in attempts that find the lock taken by the other reader.
                attempts += u32::from(done.load(Ordering::Acquire));
                let refreshed = reader.refresh();
                let value = reader.get();
                assert!(value.iter().all(|word| *word == value[0]), "torn: {value:?}");
                assert!(value[0] >= last && (refreshed || value[0] == last), "{last} {value:?}");
                last = value[0];
                assert!(attempts < 10_000, "{last} is the last value seen");
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
