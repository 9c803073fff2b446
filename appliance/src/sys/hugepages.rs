//! An allocator that puts tables and buffers into huge pages, populated at once.
//!
//! Finding a packet's connection touches two cache lines far from all others. With pages of 4 KiB
//! the CPU misses the TLB for both, which takes a third of a lookup at a million connections. So
//! each large allocation is aligned to 2 MiB and asks the kernel for transparent huge pages. The
//! kernel grants them if `/sys/kernel/mm/transparent_hugepage/enabled` says `madvise` or `always`;
//! otherwise the pages are small and nothing else differs. The memory is populated at once, so that
//! no packet waits while the kernel clears a page, and a table too large for the machine fails at
//! the start.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of a huge page, and the smallest allocation that is put into huge pages.
const HUGE: usize = 2 << 20;

/// The system allocator, with huge pages for large allocations. Meant as a program's
/// `#[global_allocator]`.
#[derive(Debug)]
pub struct HugePages;

/// `firstack` installs the allocator; so do these tests.
#[cfg(test)]
#[global_allocator]
static MEMORY: HugePages = HugePages;

impl HugePages {
    /// Returns the layout to request from the system: large allocations are aligned to a huge page.
    fn of(layout: Layout) -> Layout {
        match layout.size() < HUGE {
            true => layout,
            // A size that is too large to align is too large for any memory.
            false => layout.align_to(HUGE).unwrap_or(layout),
        }
    }
}

// SAFETY: all calls go to the system allocator, with the same layout for deallocation as for
// allocation, as `of` depends only on the layout. The only addition is advice about the pages of an
// allocation that is new and not shared yet.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout is valid, and `of` only raises its alignment.
        let piece = unsafe { System.alloc(Self::of(layout)) };
        if layout.size() >= HUGE && !piece.is_null() {
            fill(piece, layout.size());
        }
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: the memory was allocated with this layout, as changed by `of`.
        unsafe { System.dealloc(piece, Self::of(layout)) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size().max(size) < HUGE {
            // SAFETY: small before and after, so `of` changes neither layout.
            return unsafe { System.realloc(piece, layout, size) };
        }
        // SAFETY: the caller guarantees that the size is not zero and does not overflow when
        // rounded up. The new allocation holds the smaller of both sizes, and the two do not
        // overlap.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(piece, new, layout.size().min(size));
                self.dealloc(piece, layout);
            }
            new
        }
    }
}

/// Asks for huge pages for an allocation and populates them. If the kernel refuses, the pages are
/// small or are populated when touched.
fn fill(piece: *mut u8, size: usize) {
    let whole = size / HUGE * HUGE;
    // SAFETY: the range lies within the allocation, which begins at a page boundary and is owned by
    // the caller. Neither advice changes its content, which is not initialised yet.
    unsafe {
        libc::madvise(piece.cast(), whole, libc::MADV_HUGEPAGE);
        libc::madvise(piece.cast(), whole, libc::MADV_POPULATE_WRITE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_begin_at_a_huge_page_and_keep_their_content() {
        let mut large = vec![7u64; HUGE / 8];
        for size in [3 * HUGE / 8, 9 * HUGE / 8, HUGE / 16] {
            large.resize(size, 7);
            large.shrink_to_fit();
            let at_boundary = large.as_ptr().addr().is_multiple_of(HUGE);
            assert!(at_boundary || size * 8 < HUGE, "{size} words at {:p}", large.as_ptr());
            assert!(large.iter().all(|&word| word == 7));
        }
        assert_eq!(HugePages::of(Layout::new::<u64>()), Layout::new::<u64>());
    }

    #[test]
    fn what_is_asked_for_is_in_memory_before_it_is_touched() {
        let resident = || -> usize {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let before = resident();
        let large = Vec::<u8>::with_capacity(64 * HUGE);
        let grown = resident().saturating_sub(before);
        // Other tests run at the same time, with less memory.
        assert!(grown > 48 * HUGE, "{grown} bytes of {}", large.capacity());
    }
}
