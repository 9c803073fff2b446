//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// A one's complement sum that has not been folded yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes` as big-endian 16-bit words, an odd last byte padded with zero.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        let mut sum = 0u64;
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            sum += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
        }
        let mut tail = [0u8; 4];
        tail[..words.remainder().len()].copy_from_slice(words.remainder());
        Self(sum + u64::from(u32::from_be_bytes(tail)))
    }

    /// The sum of one word.
    pub fn of_word(word: u16) -> Self {
        Self(u64::from(word))
    }

    /// The sum of two words.
    #[inline(always)]
    pub fn of_double(words: u32) -> Self {
        Self(u64::from(words))
    }

    /// The sum of `bytes` that begin at an odd offset of what is summed.
    pub fn of_at_odd(bytes: &[u8]) -> Self {
        Self(u64::from(Self::of(bytes).fold().swap_bytes()))
    }

    /// Both sums together.
    #[must_use]
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The 16-bit one's complement sum.
    #[inline(always)]
    pub fn fold(self) -> u16 {
        // The upper half onto the lower one, twice; a carry counts as one.
        let (sum, carry) = (self.0 as u32).overflowing_add((self.0 >> 32) as u32);
        let sum = sum + u32::from(carry);
        (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
    }

    /// The checksum field for data with this sum.
    #[inline(always)]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// What a change of summed bytes does to their checksum (RFC 1624, equation 3).
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u64);

impl Delta {
    /// One 16-bit word replaced.
    #[inline(always)]
    pub fn word(old: u16, new: u16) -> Self {
        Self(u64::from(!old) + u64::from(new))
    }

    /// A 32-bit field replaced.
    #[inline(always)]
    pub fn double(old: u32, new: u32) -> Self {
        // Two words at once: in sums modulo 2^16 - 1, 2^16 is one.
        Self(u64::from(!old) + u64::from(new))
    }

    /// Bytes with this sum added to what is summed.
    pub fn added(sum: Sum) -> Self {
        Self(u64::from(sum.fold()))
    }

    /// Bytes with this sum taken away from what is summed.
    pub fn removed(sum: Sum) -> Self {
        Self(u64::from(!sum.fold()))
    }

    /// Both changes.
    #[must_use]
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// What the change adds to the sum.
    pub fn sum(self) -> Sum {
        Sum(self.0)
    }

    /// The checksum after the change. A wrong checksum stays just as wrong.
    #[inline(always)]
    pub fn apply(self, checksum: u16) -> u16 {
        !Sum(u64::from(!checksum) + self.0).fold()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of RFC 1071, section 3.
    const EXAMPLE: [u8; 8] = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];

    #[test]
    fn sums_the_example_of_rfc_1071() {
        assert_eq!(Sum::of(&EXAMPLE).fold(), 0xddf2);
        assert_eq!(Sum::of(&EXAMPLE[..7]).fold(), 0xdcfb);
    }

    #[test]
    fn a_sum_of_any_size_is_folded_as_by_long_division() {
        for sum in [0, 1, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_ffff_fffe, u64::MAX, u64::MAX - 0xffff]
        {
            let plain = match sum % 0xffff {
                0 if sum > 0 => 0xffff,
                rest => rest as u16,
            };
            assert_eq!(Sum(sum).fold(), plain, "{sum:#x}");
        }
    }

    #[test]
    fn updates_the_example_of_rfc_1624() {
        // Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000.
        assert_eq!(Delta::word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn an_update_equals_a_new_sum() {
        let mut bytes = EXAMPLE;
        let before = Sum::of(&bytes).checksum();
        bytes[2..6].copy_from_slice(&0x1234_5678u32.to_be_bytes());
        let delta = Delta::double(0xf203_f4f5, 0x1234_5678);
        assert_eq!(delta.apply(before), Sum::of(&bytes).checksum());
    }

    #[test]
    fn bytes_at_an_odd_offset_are_summed_swapped() {
        let whole = [9, 8, 7, 6, 5, 4];
        let split = Sum::of(&[9, 0]).plus(Sum::of_at_odd(&whole[1..5])).plus(Sum::of_word(4));
        assert_eq!(split.fold(), Sum::of(&whole).fold());
    }
}
