//! What a process that is killed between two stores leaves behind, for tests.

use std::cell::RefCell;

use super::memory::Memory;

thread_local! {
    static SEEN: RefCell<Option<Vec<Vec<u8>>>> = const { RefCell::new(None) };
}

/// Runs `change`, and returns the memory of the table that it changes as it was at each point between
/// two of its stores.
pub(crate) fn killed_in(change: impl FnOnce()) -> Vec<Vec<u8>> {
    SEEN.set(Some(Vec::new()));
    change();
    SEEN.take().unwrap_or_default()
}

/// Notes a point between two stores.
pub(super) fn reached<E: Copy>(memory: &Memory<E>) {
    SEEN.with_borrow_mut(|seen| {
        if let Some(seen) = seen {
            seen.push(memory.snapshot());
        }
    });
}

/// Writes an entry in parts of eight bytes, in an order that no compiler would choose.
pub(super) fn replace_in_steps<E: Copy>(memory: &mut Memory<E>, index: usize, entry: E) {
    if SEEN.with_borrow(Option::is_none) {
        return;
    }
    let words = size_of::<E>() / 8;
    for word in (0..words).map(|word| word * 5 % words) {
        memory.write_word(index, word, &entry);
        reached(memory);
    }
}
