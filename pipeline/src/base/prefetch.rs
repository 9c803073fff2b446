//! A hint to the processor to load cache lines.
#![allow(unsafe_code)]

/// Length of a cache line in bytes.
const LINE: usize = 64;

/// Prefetches the cache line of the first byte of `value` into all cache levels.
///
/// The benchmark `table` of the `benches` package shows a gain from about 64 k connections on. Does
/// nothing on other architectures than x86-64.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    line(std::ptr::from_ref(value).cast());
}

/// Prefetches all cache lines of a value that may be anywhere and need not be there.
#[inline(always)]
pub(crate) fn prefetch_lines<T>(value: *const T) {
    for number in 0..size_of::<T>().div_ceil(LINE) {
        line(value.cast::<u8>().wrapping_add(LINE * number));
    }
}

/// Prefetches one cache line.
#[inline(always)]
fn line(first: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch accesses no memory that the program can observe, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(first.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = first;
}
