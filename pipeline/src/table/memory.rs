//! The memory of a table: a page with its header, then places for entries.
//!
//! New memory is zeros, which stand for a free place. So nothing is written before entries come, and
//! any place can be looked at.
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

use super::header::{BYTES, FREED, HAS_CONTENT, Header, PENDING, PLACES, UNDO};
use crate::base::prefetch::prefetch_lines;
use crate::base::stored::Stored;

/// Bytes of a huge page. Less memory than that is in small pages.
const HUGE: usize = 2 << 20;

/// The places of a table. Dereferences to all of them, used or not.
pub(super) struct Memory<E> {
    first: NonNull<E>,
    places: usize,
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

impl<E: Copy + Stored> Memory<E> {
    /// Returns memory of this process alone, with so many places.
    ///
    /// # Panics
    /// If the process has no address space for it, or zeros are no entry.
    pub(super) fn new(places: usize) -> Self {
        const { assert!(size_of::<E>() <= BYTES - UNDO && BYTES.is_multiple_of(align_of::<E>())) };
        const { assert!(UNDO.is_multiple_of(align_of::<E>())) };
        // What `Stored` reads from bytes is the value that they are in memory.
        assert!(E::read(&[0; BYTES]).is_some(), "zeros are no entry");
        let bytes = Self::bytes_for(places);
        let map = MmapOptions::new().len(bytes).map_anon();
        let map = map.unwrap_or_else(|error| panic!("{bytes} bytes for a table: {error}"));
        let map = MmapRaw::from(map);
        ask_for_huge_pages(&map);
        Self::within(map, places)
    }
}

impl<E: Copy> Memory<E> {
    /// Returns the bytes of memory with so many places.
    pub(super) const fn bytes_for(places: usize) -> usize {
        BYTES.saturating_add(places.saturating_mul(size_of::<E>()))
    }

    fn within(map: MmapRaw, places: usize) -> Self {
        // SAFETY: the map is larger than the header, so that the pointer is within it and not null.
        let first = unsafe { NonNull::new_unchecked(map.as_mut_ptr().add(BYTES)) }.cast();
        Self { first, places, map }
    }

    /// Moves the places, none of which has ever been used, into this memory of zeros, and writes its
    /// header; `None` leaves them where they are. Populates the memory.
    pub(super) fn place(&mut self, map: Option<MmapMut>, header: &Header) -> io::Result<()> {
        if let Some(map) = map.map(MmapRaw::from) {
            let is_aligned = map.as_ptr().addr().is_multiple_of(BYTES);
            if map.len() < Self::bytes_for(self.places) || !is_aligned {
                let (needed, length) = (Self::bytes_for(self.places), map.len());
                let text = format!("a table of {needed} bytes in memory of {length}");
                return Err(io::Error::new(ErrorKind::InvalidInput, text));
            }
            ask_for_huge_pages(&map);
            populate(&map)?;
            if !is_zeros(&map) {
                let text = "memory for a table that is not all zeros";
                return Err(io::Error::new(ErrorKind::InvalidInput, text));
            }
            *self = Self::within(map, self.places);
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
        self.word(PLACES).store(self.places as u64, Release);
        Ok(())
    }

    /// Returns a word of the header.
    #[inline(always)]
    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the word is in the header, at a multiple of 8, and is initialised as the whole map
        // is. While the table exists it is only accessed here.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    /// Prefetches all cache lines of a place, or of something else if there is no such place.
    #[inline(always)]
    pub(super) fn prefetch(&self, index: usize) {
        prefetch_lines(self.first.as_ptr().wrapping_add(index));
    }

    /// Returns whether who adopts the memory now does not look at what is in a place.
    #[inline]
    fn is_saved(&self, index: u32) -> bool {
        // No entry is in place 0.
        let pending = self.word(PENDING).load(Relaxed);
        pending as u32 == index || (pending >> FREED) as u32 == index
    }

    /// Saves the content of an entry before it is changed in several places. Whoever adopts the
    /// memory before [`Memory::settle`] finds that content. Only the last entry that was saved is
    /// changed at a time.
    #[inline]
    pub(super) fn save(&mut self, index: u32) {
        // What it was before the first change counts.
        if !self.is_saved(index) {
            self.settle();
            self.save_content(index);
            self.note_saved(u64::from(index));
        }
    }

    /// Saves the content of an entry that a new one, in another place, replaces. Whoever adopts the
    /// memory before [`Memory::settle`] finds the old one and not the new one.
    pub(super) fn save_replaced(&mut self, old: u32, new: u32) {
        if self.word(PENDING).load(Relaxed) as u32 != old {
            self.settle();
            self.save_content(old);
        }
        self.note_saved(u64::from(old) | u64::from(new) << FREED);
    }

    fn save_content(&mut self, index: u32) {
        let content = self[index as usize];
        // SAFETY: the undo slot is in the header, is aligned for an entry and has room for one; a
        // reference to it exists nowhere.
        unsafe { self.map.as_mut_ptr().add(UNDO).cast::<E>().write(content) };
    }

    /// Saves that a place was free, which costs less than its content.
    #[inline]
    pub(super) fn save_as_free(&mut self, index: u32, free: Mark) {
        if self.is_saved(index) {
            return;
        }
        self.settle();
        assert!(free.at + size_of::<u32>() <= size_of::<E>());
        // SAFETY: the undo slot is in the header and has room for an entry, and so for a word at a
        // multiple of 4 within one; a reference to it exists nowhere.
        unsafe { self.map.as_mut_ptr().add(UNDO + free.at).cast::<u32>().write(free.value) };
        self.note_saved(u64::from(index));
    }

    #[inline]
    fn note_saved(&mut self, places: u64) {
        self.point();
        self.word(PENDING).store(HAS_CONTENT | places, Release);
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

    /// Returns a copy of the memory, as another process would see it. For tests.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        let mut copy = vec![0; Self::bytes_for(self.places)];
        // SAFETY: the map has so many bytes, and the copy is another piece of memory. Padding is
        // copied with the rest, as another process would see it.
        unsafe { copy.as_mut_ptr().copy_from_nonoverlapping(self.map.as_mut_ptr(), copy.len()) };
        copy
    }

    /// Writes eight bytes of an entry, for tests.
    #[cfg(test)]
    pub(super) fn write_word(&mut self, index: usize, word: usize, entry: &E) {
        assert!(index < self.places && word < size_of::<E>() / 8);
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
        // SAFETY: the map has so many places, aligned for entries. Each holds an entry that was written
        // here, or zeros, which are an entry, too, as `new` has checked.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.places) }
    }
}

impl<E> DerefMut for Memory<E> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as above, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.places) }
    }
}

/// Asks for huge pages, before any is populated. The kernel may not have them.
fn ask_for_huge_pages(map: &MmapRaw) {
    if map.len() >= HUGE {
        let _ = map.advise(Advice::HugePage);
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

/// Returns whether memory is zeros, without which its places would not be free. A page takes 100 ns.
fn is_zeros(map: &MmapRaw) -> bool {
    // SAFETY: the map belongs to the caller, and nothing writes to it meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(map.as_ptr(), map.len()) };
    // Without a branch for each byte, so that it takes many at a time.
    bytes.chunks(BYTES).all(|page| page.iter().fold(0, |bits, byte| bits | byte) == 0)
}
