//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// A one's complement sum that is not folded yet.
///
/// ```rust
/// use pipeline::wire::checksum::Sum;
///
/// // The example of RFC 1071, section 3.
/// let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
/// assert_eq!(Sum::of(&data).fold(), 0xddf2);
/// assert_eq!(Sum::of(&data[..4]).plus(Sum::of(&data[4..])).checksum(), 0x220d);
/// ```
///
/// Inside, the words are in the byte order of the frame, whatever the machine's: the sum of swapped
/// words is the swapped sum (RFC 1071, section 2), so no word that is read is swapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Returns the sum of `bytes` as big-endian 16-bit words. An odd last byte is padded with zero.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        let mut sum = 0u64;
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
        let mut tail = [0u8; 4];
        tail[..words.remainder().len()].copy_from_slice(words.remainder());
        Self(sum + u64::from(u32::from_ne_bytes(tail)))
    }

    /// Returns the sum of an IPv4 header without options.
    #[inline(always)]
    pub fn of_header(header: &[u8; 20]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *header;
        let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let [a, b, c, d, e, f, g, h, rest @ ..] = rest;
        let (sum, carry) = first.overflowing_add(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
        // A carry out of 64 bits counts as one, like one out of 16. The sum of both halves cannot
        // overflow.
        let halves = (sum & 0xffff_ffff) + (sum >> 32) + u64::from(carry);
        Self(halves + u64::from(u32::from_ne_bytes(rest)))
    }

    /// Returns the sum of one 16-bit word.
    #[inline(always)]
    pub fn of_word(word: u16) -> Self {
        Self(u64::from(word.to_be()))
    }

    /// Returns the sum of the two 16-bit words of a 32-bit field.
    #[inline(always)]
    pub fn of_double(words: u32) -> Self {
        Self(u64::from(words.to_be()))
    }

    /// Returns the sum of `bytes` that start at an odd offset of the summed data.
    pub fn of_at_odd(bytes: &[u8]) -> Self {
        Self::of_word(Self::of(bytes).fold().swap_bytes())
    }

    /// Adds two sums.
    #[must_use]
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Returns the 16-bit one's complement sum.
    #[inline(always)]
    pub fn fold(self) -> u16 {
        // Adds the upper half to the lower one, twice.
        u16::from_be(halved(added(self.0 as u32, (self.0 >> 32) as u32)))
    }

    /// Returns the checksum field for data with this sum.
    #[inline(always)]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// Adds so that a carry counts as one.
#[inline(always)]
fn added(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u32::from(carry)
}

/// Adds the upper half to the lower one. A carry counts as one.
#[inline(always)]
fn halved(sum: u32) -> u16 {
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The change of a checksum that follows from a change of the summed data (RFC 1624, equation 3).
///
/// ```rust
/// use pipeline::wire::checksum::{Delta, Sum};
///
/// let mut data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5];
/// let before = Sum::of(&data).checksum();
///
/// data[2..4].copy_from_slice(&[0x12, 0x34]);
/// let delta = Delta::word(0xf203, 0x1234);
/// assert_eq!(delta.apply(before), Sum::of(&data).checksum());
/// ```
///
/// Inside, the words are in the byte order of the frame, as in [`Sum`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u32);

impl Delta {
    /// Returns the change for the replacement of a 16-bit word.
    #[inline(always)]
    pub fn word(old: u16, new: u16) -> Self {
        Self(u32::from(!old.to_be()) + u32::from(new.to_be()))
    }

    /// Returns the change for the replacement of a 32-bit field.
    #[inline(always)]
    pub fn double(old: u32, new: u32) -> Self {
        // Two words at once: modulo 2^16 - 1, 2^16 is one.
        Self(added(!old.to_be(), new.to_be()))
    }

    /// Returns the change for additional bytes with this sum.
    pub fn added(sum: Sum) -> Self {
        Self(u32::from(sum.fold().to_be()))
    }

    /// Returns the change for the removal of bytes with this sum.
    pub fn removed(sum: Sum) -> Self {
        Self(u32::from(!sum.fold().to_be()))
    }

    /// Combines two changes.
    #[must_use]
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        Self(added(self.0, other.0))
    }

    /// Returns the amount that the change adds to the sum.
    pub fn sum(self) -> Sum {
        Sum(u64::from(self.0))
    }

    /// Returns the checksum after the change. An incorrect checksum stays incorrect by the same
    /// amount.
    #[inline(always)]
    pub fn apply(self, checksum: u16) -> u16 {
        u16::from_be(!halved(added(u32::from(!checksum.to_be()), self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of RFC 1071, section 3.
    const EXAMPLE: [u8; 8] = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];

    #[test]
    fn the_example_of_rfc_1071_has_its_sum() {
        assert_eq!(Sum::of(&EXAMPLE).fold(), 0xddf2);
        assert_eq!(Sum::of(&EXAMPLE[..7]).fold(), 0xdcfb);
    }

    #[test]
    fn folding_equals_division_for_sums_of_any_size() {
        for sum in [0, 1, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_ffff_fffe, u64::MAX, u64::MAX - 0xffff]
        {
            let expected = match sum % 0xffff {
                0 if sum > 0 => 0xffff,
                remainder => remainder as u16,
            };
            assert_eq!(Sum(sum).fold().to_be(), expected, "{sum:#x}");
        }
    }

    #[test]
    fn a_header_has_the_sum_of_its_bytes() {
        let mut header = [0xff; 20];
        for (at, byte) in [(3, 0), (0, 0x45), (8, 0), (19, 7), (12, 0x80)] {
            assert_eq!(Sum::of_header(&header).fold(), Sum::of(&header).fold(), "{header:?}");
            header[at] = byte;
        }
        assert_eq!(Sum::of_header(&[0; 20]).fold(), 0);
    }

    #[test]
    fn changes_of_any_size_equal_recomputed_checksums() {
        // Carries out of 16 and 32 bits, and both zeros.
        let words = [0, 1, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_0000, 0xffff_fffe, u32::MAX];
        for number in 0..words.len().pow(3) {
            let [old, third, new] = [1, 8, 64].map(|by| words[number / by % words.len()]);
            let sum = |word: u32| Sum::of_word(0x4500).plus(Sum::of_double(word));
            let changed = Delta::double(old, third).plus(Delta::double(third, new));
            assert_eq!(changed.apply(sum(old).checksum()), sum(new).checksum(), "{old:x} {new:x}");
        }
    }

    #[test]
    fn the_example_of_rfc_1624_has_its_update() {
        // Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000.
        assert_eq!(Delta::word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn an_update_equals_a_recomputed_checksum() {
        let mut bytes = EXAMPLE;
        let before = Sum::of(&bytes).checksum();
        bytes[2..6].copy_from_slice(&0x1234_5678u32.to_be_bytes());
        let delta = Delta::double(0xf203_f4f5, 0x1234_5678);
        assert_eq!(delta.apply(before), Sum::of(&bytes).checksum());
    }

    #[test]
    fn bytes_at_an_odd_offset_have_a_swapped_sum() {
        let whole = [9, 8, 7, 6, 5, 4];
        let split = Sum::of(&[9, 0]).plus(Sum::of_at_odd(&whole[1..5])).plus(Sum::of_word(4));
        assert_eq!(split.fold(), Sum::of(&whole).fold());
    }
}
