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
    line(value, 0);
}

/// Prefetches all cache lines of `value`, which is aligned to one, as [`prefetch`] does the first.
#[inline(always)]
pub fn prefetch_all<T>(value: &T) {
    const { assert!(align_of::<T>().is_multiple_of(LINE)) };
    for number in 0..size_of::<T>() / LINE {
        line(value, number);
    }
}

/// Prefetches the cache line that is `number` lines behind the first.
#[inline(always)]
fn line<T>(value: &T, number: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch accesses no memory that the program can observe, and the address is
    // computed without being dereferenced.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(value).cast::<i8>();
        _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(number * LINE));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, number);
}
