//! One cache line of the table.

/// Entries that a bucket holds.
pub(super) const SLOTS: usize = 8;

/// Eight signatures and the entries that they stand for.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Bucket {
    /// Zero marks an empty slot.
    pub(super) signatures: [u16; SLOTS],
    /// The numbers of the entries that the signatures stand for.
    pub(super) entries: [u32; SLOTS],
    /// Entries whose search passes through here on to the next bucket.
    pub(super) overflow: u32,
}

impl Bucket {
    /// A bucket without entries.
    pub(super) const EMPTY: Self =
        Self { signatures: [0; SLOTS], entries: [super::NIL; SLOTS], overflow: 0 };

    /// One bit per slot with this signature. All eight are compared, whatever is found: a search
    /// that stopped at the first would end at another place each time, which no branch predictor
    /// foresees (benchmark `table`).
    #[inline]
    pub(super) fn matches(&self, signature: u16) -> u32 {
        let equal = self.signatures.map(|s| u16::from(s == signature));
        let bits = std::array::from_fn::<u16, SLOTS, _>(|slot| equal[slot] << slot);
        u32::from(bits.iter().fold(0, |mask, bit| mask | bit))
    }
}
