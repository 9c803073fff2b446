//! The memory of a table: a page with its header, then its entries.
//!
//! The memory may outlive the process, which may be killed between any two stores. So the content
//! that an entry had before it is changed in several places is in the undo slot until the change is
//! complete. Only the order of the stores in the program counts, because a thread is killed at one
//! point of it: the compiler must keep the order, the processor may do as it likes.
//!
//! An access to an entry costs what an access to a slice costs.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, compiler_fence};

use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw};

use super::header::{BYTES, HAS_CONTENT, Header, PENDING, UNDO, USED};

/// Bytes of a huge page. Less memory than that is in small pages.
const HUGE: usize = 2 << 20;

/// The entries of a table. Dereferences to those that have been used.
pub(super) struct Memory<E> {
    first: NonNull<E>,
    /// How many entries have been used, and so are initialised.
    used: usize,
    capacity: usize,
    /// Begins with the header.
    map: MmapRaw,
}

// SAFETY: the map belongs to this value alone, and so do the entries in it.
unsafe impl<E: Send> Send for Memory<E> {}

/// The word by which a reader knows that an entry is free: its offset, a multiple of 4, and its value.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub(super) at: usize,
    pub(super) value: u32,
}

impl<E: Copy> Memory<E> {
    /// Returns memory of this process alone, for so many entries.
    ///
    /// # Panics
    /// If the process has no address space for it.
    pub(super) fn new(capacity: usize) -> Self {
        const { assert!(size_of::<E>() <= BYTES - UNDO && BYTES.is_multiple_of(align_of::<E>())) };
        const { assert!(UNDO.is_multiple_of(align_of::<E>())) };
        let bytes = Self::bytes_for(capacity);
        let map = MmapOptions::new().len(bytes).map_anon();
        let map = map.unwrap_or_else(|error| panic!("{bytes} bytes for a table: {error}"));
        Self::within(map.into(), capacity)
    }

    /// Returns the bytes of memory for so many entries.
    pub(super) fn bytes_for(capacity: usize) -> usize {
        BYTES.saturating_add(capacity.saturating_mul(size_of::<E>()))
    }

    fn within(map: MmapRaw, capacity: usize) -> Self {
        if map.len() >= HUGE {
            // The kernel may not have any.
            let _ = map.advise(Advice::HugePage);
        }
        // SAFETY: the map is larger than the header, so that the pointer is within it and not null.
        let first = unsafe { NonNull::new_unchecked(map.as_mut_ptr().add(BYTES)) }.cast();
        Self { first, used: 0, capacity, map }
    }

    /// Moves the entries, of which there are none yet, into this memory, and writes its header;
    /// `None` leaves them where they are. Populates the memory.
    pub(super) fn place(&mut self, map: Option<MmapMut>, header: &Header) -> io::Result<()> {
        if self.used > 0 {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the table has entries"));
        }
        if let Some(map) = map.map(MmapRaw::from) {
            let is_aligned = map.as_ptr().addr().is_multiple_of(BYTES);
            if map.len() < Self::bytes_for(self.capacity) || !is_aligned {
                let (needed, length) = (Self::bytes_for(self.capacity), map.len());
                let text = format!("a table of {needed} bytes in memory of {length}");
                return Err(io::Error::new(ErrorKind::InvalidInput, text));
            }
            populate(&map)?;
            *self = Self::within(map, self.capacity);
        } else {
            populate(&self.map)?;
        }
        let fixed = header.bytes();
        let start = self.map.as_mut_ptr();
        // SAFETY: the map begins with a header, which is larger than its fixed part, and to which no
        // reference exists.
        unsafe {
            start.write_bytes(0, BYTES);
            start.copy_from_nonoverlapping(fixed.as_ptr(), fixed.len());
        }
        Ok(())
    }

    /// Returns a word of the header.
    #[inline(always)]
    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the word is in the header, at a multiple of 8, and is initialised as the whole map
        // is. While the table exists it is only accessed here.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    /// Appends an entry. Until [`Memory::settle`], who adopts the memory finds a free one in its
    /// place.
    ///
    /// # Panics
    /// If there is no room for it.
    pub(super) fn push(&mut self, entry: E, free: Mark) {
        assert!(self.used < self.capacity, "a table beyond its capacity");
        self.save_as_free(self.used as u32, free);
        // SAFETY: there is room for as many entries as the capacity says, and the map is writable
        // and aligned for them.
        unsafe { self.first.add(self.used).write(entry) };
        self.point();
        self.used += 1;
        self.word(USED).store(self.used as u64, Release);
        self.point();
    }

    /// Saves the content of an entry before it is changed in several places. Whoever adopts the
    /// memory before [`Memory::settle`] finds that content. Only the last entry that was saved is
    /// changed at a time.
    #[inline]
    pub(super) fn save(&mut self, index: u32) {
        let pending = HAS_CONTENT | u64::from(index);
        if self.word(PENDING).load(Relaxed) == pending {
            // What it was before the first change counts.
            return;
        }
        self.settle();
        let content = self[index as usize];
        // SAFETY: the undo slot is in the header, is aligned for an entry and has room for one; a
        // reference to it exists nowhere.
        unsafe { self.map.as_mut_ptr().add(UNDO).cast::<E>().write(content) };
        self.note_saved(index);
    }

    /// Saves that an entry was free, which costs less than its content.
    #[inline]
    pub(super) fn save_as_free(&mut self, index: u32, free: Mark) {
        if self.word(PENDING).load(Relaxed) == HAS_CONTENT | u64::from(index) {
            return;
        }
        self.settle();
        assert!(free.at + size_of::<u32>() <= size_of::<E>());
        // SAFETY: the undo slot is in the header and has room for an entry, and so for a word at a
        // multiple of 4 within one; a reference to it exists nowhere.
        unsafe { self.map.as_mut_ptr().add(UNDO + free.at).cast::<u32>().write(free.value) };
        self.note_saved(index);
    }

    #[inline]
    fn note_saved(&mut self, index: u32) {
        self.point();
        self.word(PENDING).store(HAS_CONTENT | u64::from(index), Release);
        compiler_fence(SeqCst);
        self.point();
    }

    /// Notes that the changes since [`Memory::save`] are complete.
    #[inline(always)]
    pub(super) fn settle(&mut self) {
        self.word(PENDING).store(0, Release);
        compiler_fence(SeqCst);
        self.point();
    }

    /// Replaces an entry, which must have been saved, unless what is there means nothing.
    pub(super) fn replace(&mut self, index: u32, entry: E) {
        #[cfg(test)]
        super::failpoints::replace_in_steps(self, index as usize, entry);
        self[index as usize] = entry;
        self.point();
    }

    /// Stands between two stores, where tests look at what a killed process would leave.
    #[inline(always)]
    pub(super) fn point(&self) {
        #[cfg(test)]
        super::failpoints::reached(self);
    }

    /// Returns a copy of the memory up to the last entry, as another process would see it. For tests.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        let mut copy = vec![0; Self::bytes_for(self.used)];
        // SAFETY: the map has so many bytes, and the copy is another piece of memory. Padding is
        // copied with the rest, as another process would see it.
        unsafe { copy.as_mut_ptr().copy_from_nonoverlapping(self.map.as_mut_ptr(), copy.len()) };
        copy
    }

    /// Writes eight bytes of an entry, for tests.
    #[cfg(test)]
    pub(super) fn write_word(&mut self, index: usize, word: usize, entry: &E) {
        assert!(index < self.used && word < size_of::<E>() / 8);
        // SAFETY: the entry exists, and the word is within it; what is written is part of an entry.
        unsafe {
            let to = self.first.as_ptr().add(index).cast::<[u8; 8]>().add(word);
            to.copy_from_nonoverlapping(std::ptr::from_ref(entry).cast::<[u8; 8]>().add(word), 1);
        }
    }

    /// Returns whether the content of an entry is saved.
    pub(super) fn is_pending(&self) -> bool {
        self.word(PENDING).load(Relaxed) != 0
    }
}

impl<E> Deref for Memory<E> {
    type Target = [E];

    #[inline(always)]
    fn deref(&self) -> &[E] {
        // SAFETY: `push` has initialised so many entries, one after the other.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.used) }
    }
}

impl<E> DerefMut for Memory<E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as above, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.used) }
    }
}

/// Populates memory, so that no packet waits for a page, and a table that is too large for the
/// machine or its file system fails at the start.
fn populate(map: &MmapRaw) -> io::Result<()> {
    match map.advise(Advice::PopulateWrite) {
        // A kernel before 5.14 populates it when it is touched.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}
