//! Values that the control thread publishes and workers read, in every interleaving.

use std::sync::Arc as Plain;
use std::sync::Mutex as PlainMutex;

use firstack_loom::published::{Published, Reader};
use loom::thread;

/// A value whose two halves must match, and which records its number when it is freed, and whether
/// the control thread freed it.
struct Value {
    number: u64,
    twice: u64,
    freed: Plain<PlainMutex<Vec<(u64, bool)>>>,
    control: thread::ThreadId,
}

impl Drop for Value {
    fn drop(&mut self) {
        let by_control = thread::current().id() == self.control;
        self.freed.lock().unwrap().push((self.number, by_control));
    }
}

type Notes = Plain<PlainMutex<Vec<(u64, bool)>>>;

fn value(number: u64, notes: &Notes) -> Value {
    let control = thread::current().id();
    Value { number, twice: number * 2, freed: Plain::clone(notes), control }
}

/// Refreshes a few times and checks that values are consistent and never go back.
fn read(mut reader: Reader<Value>, times: usize) -> Reader<Value> {
    let mut last = 0;
    for _ in 0..times {
        let refreshed = reader.refresh();
        let Value { number, twice, .. } = *reader.get();
        assert_eq!(number * 2, twice, "inconsistent value");
        assert!(number >= last, "{number} after {last}");
        assert!(refreshed || number == last, "another value without a refresh");
        last = number;
    }
    reader
}

/// `published` values and `readers` that refresh `times` times while they are published.
fn values_are_whole(published: u64, readers: usize, times: usize) {
    loom::model(move || {
        let notes = Notes::default();
        let control = Published::new(value(0, &notes));
        let threads: Vec<_> = (0..readers)
            .map(|_| {
                let reader = control.reader();
                thread::spawn(move || read(reader, times))
            })
            .collect();
        (1..=published).for_each(|number| control.publish(value(number, &notes)));
        let mut readers: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        for reader in &mut readers {
            // No publisher holds the lock any more: a refresh sees the newest value at once.
            reader.refresh();
            assert_eq!(reader.get().number, published);
        }
        let freed = notes.lock().unwrap().clone();
        assert!(freed.iter().all(|(_, by_control)| *by_control), "freed by a worker: {freed:?}");
        assert!(freed.iter().all(|(number, _)| *number < published), "in use: {freed:?}");
        // The next publication frees what no reader holds any more.
        control.publish(value(published + 1, &notes));
        let mut freed: Vec<_> = notes.lock().unwrap().iter().map(|(number, _)| *number).collect();
        freed.sort_unstable();
        assert_eq!(freed, (0..published).collect::<Vec<_>>());
    });
}

#[test]
fn one_reader_of_two_values() {
    values_are_whole(2, 1, 3);
}

#[test]
fn two_readers_of_one_value() {
    values_are_whole(1, 2, 2);
}

#[test]
fn two_readers_of_two_values() {
    values_are_whole(2, 2, 1);
}
