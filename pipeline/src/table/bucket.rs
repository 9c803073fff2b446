//! One cache line of the table.

/// Number of entries in a bucket.
pub(super) const SLOTS: usize = 8;

/// Eight signatures with the numbers of their entries.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Bucket {
    /// The signatures of the entries. Zero marks an empty slot.
    pub(super) signatures: [u16; SLOTS],
    /// The numbers of the entries, in the same order.
    pub(super) entries: [u32; SLOTS],
    /// Number of entries whose search continues from here to the next bucket.
    pub(super) overflow: u32,
}

impl Bucket {
    /// A bucket without entries.
    pub(super) const EMPTY: Self =
        Self { signatures: [0; SLOTS], entries: [super::NIL; SLOTS], overflow: 0 };

    /// Returns one bit per slot with this signature.
    ///
    /// Compares all eight signatures in every case. A search that stopped at the first match would
    /// end at a different place each time, which no branch predictor foresees (benchmark `table`).
    #[cfg(not(target_arch = "x86_64"))]
    #[inline]
    pub(super) fn matches(&self, signature: u16) -> u32 {
        let equal = self.signatures.map(|s| u16::from(s == signature));
        let bits = std::array::from_fn::<u16, SLOTS, _>(|slot| equal[slot] << slot);
        u32::from(bits.iter().fold(0, |mask, bit| mask | bit))
    }

    /// Returns one bit per slot with this signature, in five instructions instead of the portable
    /// version's twenty.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn matches(&self, signature: u16) -> u32 {
        use core::arch::x86_64::{
            _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
            _mm_setzero_si128,
        };
        // SAFETY: every x86-64 processor has SSE2, and the eight signatures are the 16 bytes read.
        unsafe {
            let own = _mm_loadu_si128(self.signatures.as_ptr().cast());
            let equal = _mm_cmpeq_epi16(own, _mm_set1_epi16(signature as i16));
            _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_sets_the_bit_of_its_slot() {
        let mut bucket = Bucket::EMPTY;
        bucket.signatures = [7, 0x8000, 7, 1, 0xffff, 7, 2, 0x7fff];
        let expected =
            [(7, 0b10_0101), (0x8000, 0b10), (0xffff, 0b1_0000), (0x7fff, 1 << 7), (9, 0)];
        for (signature, bits) in expected {
            assert_eq!(bucket.matches(signature), bits, "{signature:#x}");
        }
    }
}
