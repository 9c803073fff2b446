//! One cache line of the table.

/// Number of places for entries that belong to a bucket.
pub(super) const SLOTS: usize = 31;
/// One bit for each of them.
const ALL: u32 = (1 << SLOTS) - 1;
/// Index of the word that counts overflows.
const OVERFLOW: usize = 31;
/// The bit above those of the slots, which [`Bucket::search`] sets if no search goes on from a bucket.
pub(super) const LAST: u32 = 1 << SLOTS;

/// The signatures of 31 entries, and how many more there are in other buckets.
///
/// A slot is a bit of the mask that two vector comparisons yield, so that none of its users has to
/// move it: their halves take turns in the mask, eight by eight.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Bucket {
    /// Zero marks a slot without entry. The last word is the number of entries whose search goes on
    /// from here to the next bucket.
    words: [u16; 32],
}

/// Returns the index of a slot's signature.
#[inline(always)]
fn word(slot: usize) -> usize {
    slot & 7 | (slot & 8) << 1 | (slot & 16) >> 1
}

impl Bucket {
    /// A bucket without entries.
    pub(super) const EMPTY: Self = Self { words: [0; 32] };

    /// Returns one bit per slot with this signature.
    #[inline(always)]
    pub(super) fn matches(&self, signature: u16) -> u32 {
        self.search(signature) & ALL
    }

    /// Returns one bit per slot that has an entry.
    #[inline(always)]
    pub(super) fn used(&self) -> u32 {
        !self.search(0) & ALL
    }

    /// Returns one bit per slot without entry.
    #[inline(always)]
    pub(super) fn free(&self) -> u32 {
        self.search(0) & ALL
    }

    /// Gives a slot the signature of an entry.
    #[inline(always)]
    pub(super) fn set(&mut self, slot: usize, signature: u16) {
        self.words[word(slot)] = signature;
    }

    /// Notes that a slot has no entry any more.
    #[inline(always)]
    pub(super) fn clear(&mut self, slot: usize) {
        self.words[word(slot)] = 0;
    }

    /// Returns whether no search goes on from here.
    #[inline(always)]
    pub(super) fn is_last(&self) -> bool {
        self.words[OVERFLOW] == 0
    }

    /// Counts an entry whose search goes on from here. A count that has reached its end stays there,
    /// and searches go on.
    pub(super) fn pass(&mut self) {
        self.words[OVERFLOW] = self.words[OVERFLOW].saturating_add(1);
    }

    /// Undoes [`Bucket::pass`].
    pub(super) fn unpass(&mut self) {
        if self.words[OVERFLOW] != u16::MAX {
            self.words[OVERFLOW] -= 1;
        }
    }

    /// Returns one bit per slot with this signature, and [`LAST`] if no search goes on from here.
    ///
    /// Compares all of them in every case. A search that stopped at the first match would end at a
    /// different place each time, which no branch predictor foresees (benchmark `table`).
    #[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "avx2"))))]
    #[inline]
    fn search_portable(&self, signature: u16) -> u32 {
        let last = if self.is_last() { LAST } else { 0 };
        (0..SLOTS)
            .fold(last, |mask, slot| mask | u32::from(self.words[word(slot)] == signature) << slot)
    }

    #[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
    #[inline]
    pub(super) fn search(&self, signature: u16) -> u32 {
        self.search_portable(signature)
    }

    /// Does what `search_portable` does in seven instructions.
    #[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn search(&self, signature: u16) -> u32 {
        use core::arch::x86_64::{
            _mm256_and_si256, _mm256_cmpeq_epi16, _mm256_load_si256, _mm256_movemask_epi8,
            _mm256_packs_epi16, _mm256_set_epi64x, _mm256_set1_epi16,
        };
        let halves = self.words.as_ptr();
        // SAFETY: the whole program is compiled for AVX2, and the words are two times 32 bytes,
        // aligned to 64.
        unsafe {
            let wanted = _mm256_set1_epi16(signature as i16);
            let first = _mm256_cmpeq_epi16(_mm256_load_si256(halves.cast()), wanted);
            // The count is compared with zero.
            let wanted = _mm256_and_si256(wanted, _mm256_set_epi64x(i64::MAX >> 15, -1, -1, -1));
            let second = _mm256_cmpeq_epi16(_mm256_load_si256(halves.add(16).cast()), wanted);
            _mm256_movemask_epi8(_mm256_packs_epi16(first, second)) as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
    }

    #[test]
    fn a_match_sets_the_bit_of_its_slot_and_no_count_is_one() {
        for slot in 0..SLOTS {
            let mut bucket = Bucket::EMPTY;
            bucket.set(slot, 0x8007);
            assert_eq!(bucket.matches(0x8007), 1 << slot);
            assert_eq!((bucket.used(), bucket.free()), (1 << slot, ALL & !(1 << slot)));
            assert_eq!((bucket.matches(7), bucket.matches(0x7fff)), (0, 0));
            (0..0x8007).for_each(|_| bucket.pass());
            assert_eq!(bucket.matches(0x8007), 1 << slot, "the count");
            bucket.clear(slot);
            assert_eq!((bucket.used(), bucket.matches(0x8007)), (0, 0));
        }
    }

    #[test]
    fn vectors_and_the_portable_version_agree() {
        let mut bucket = Bucket::EMPTY;
        for slot in 0..SLOTS {
            bucket.set(slot, [7, 0x8000, 1, 0xffff, 0, 2][slot * slot % 6]);
        }
        for is_last in [true, false] {
            for signature in [0, 1, 2, 7, 0x7fff, 0x8000, 0xffff] {
                let found = bucket.search(signature);
                assert_eq!(found, bucket.search_portable(signature), "{signature:#x}");
                assert_eq!(found & LAST != 0, is_last);
            }
            bucket.pass();
        }
    }

    #[test]
    fn a_count_at_its_end_stays_there() {
        let mut bucket = Bucket::EMPTY;
        (0..3).for_each(|_| bucket.pass());
        (0..3).for_each(|_| bucket.unpass());
        assert!(bucket.is_last());
        (0..70_000).for_each(|_| bucket.pass());
        (0..70_000).for_each(|_| bucket.unpass());
        assert!(!bucket.is_last());
    }
}
