//! The one hint to the processor that the pipeline gives.
#![allow(unsafe_code)]

/// Asks for the cache line of `value`, to be read soon. Pays for itself in the benchmark
/// `table` of the `benches` package, from about 64 k connections on.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing; the address is that of a live reference anyway.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
