//! Memory of tables and buffers: large pieces lie in huge pages, and are there from the start.
//!
//! A packet finds its connection by two lines far from all others, and with pages of 4 KiB the
//! processor first has to find the pages of both: a third of a look-up's time at a million
//! connections. So each large allocation begins at a boundary of 2 MiB and asks the kernel for
//! transparent huge pages, which it gives where `/sys/kernel/mm/transparent_hugepage/enabled` says
//! `madvise` or `always`; else the pages are small and nothing else differs. It is filled at once,
//! so that no packet waits while the kernel clears a page, and a table that there is no memory for
//! is found out at the start.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of a huge page, and of the smallest allocation that lies in some.
const HUGE: usize = 2 << 20;

/// The system's allocator, but for large pieces. To be a program's `#[global_allocator]`.
#[derive(Debug)]
pub struct HugePages;

/// Programs choose it, as `firstack` does; these tests are one.
#[cfg(test)]
#[global_allocator]
static MEMORY: HugePages = HugePages;

impl HugePages {
    /// What is asked of the system: a large piece at a huge page's boundary.
    fn of(layout: Layout) -> Layout {
        match layout.size() < HUGE {
            true => layout,
            // A size that is too large for the boundary is too large for any memory.
            false => layout.align_to(HUGE).unwrap_or(layout),
        }
    }
}

// SAFETY: all is the system allocator's, asked with the same layout when memory is given back as
// when it was taken: `of` depends upon nothing but the layout. What is added is advice about the
// pages of a piece that was just handed out and that nobody else knows of yet.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout is sound, and `of` only raises its alignment.
        let piece = unsafe { System.alloc(Self::of(layout)) };
        if layout.size() >= HUGE && !piece.is_null() {
            fill(piece, layout.size());
        }
        piece
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: the piece was taken with this layout, as `of` has it.
        unsafe { System.dealloc(piece, Self::of(layout)) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size().max(size) < HUGE {
            // SAFETY: small before and after, so the layout is the system's own.
            return unsafe { System.realloc(piece, layout, size) };
        }
        // SAFETY: the caller's promises: the size is not zero and, rounded up, no overflow. The new
        // piece holds the smaller of both sizes, and the two are apart.
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

/// Has whole huge pages for a piece, and has them now. Refused, the pages are small, or come when
/// they are touched.
fn fill(piece: *mut u8, size: usize) {
    let whole = size / HUGE * HUGE;
    // SAFETY: the range lies within the piece, which begins at a page's boundary and is the
    // caller's alone. Neither advice changes what is in it: it is not initialised yet.
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
        // Other tests come and go beside this one, with less.
        assert!(grown > 48 * HUGE, "{grown} bytes of {}", large.capacity());
    }
}
