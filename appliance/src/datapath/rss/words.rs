//! The secret words that RSS keys are made of, and how evenly they distribute clients.
//!
//! The `bits` lowest bits of a hash index a table. Under one word each of them is the XOR of some bits of
//! the address, so they are a linear map of the address, and clients that differ in a group of `bits`
//! bits are distributed in exactly equal shares if the map is one to one on this group.
//!
//! **A placed word** has 33 - `bits` bits, and reaches the hash's `bits` lowest bits alone (see
//! [`super::toeplitz`]). It is *regular* if it is one to one on any `bits` adjacent bits of an IPv4
//! address: clients with consecutive addresses, or one client in each /24. Of 26-bit words 11,327 are
//! regular (`bits` = 7), of 27-bit words 15,895 (6), of 22-bit words 2,442 (11). Both of its ends are
//! ones, so as a left-aligned word of 32 bits it shows its own width.
//!
//! **A periodic word** has 32 bits and is repeated. It is used with cards that hash one address alone.
//!
//! Who knows the word can choose addresses that all belong to one worker. So it is drawn at start, and
//! logged nowhere.

/// The fewest bits of a hash that index a table: those of a table of 64 entries.
pub const LEAST_BITS: u32 = 6;
/// The most: those of a table of 2048 entries.
pub const MOST_BITS: u32 = 11;

/// A periodic word that distributes evenly, for tests and benchmarks, which need no secret.
pub(super) const PERIODIC: u32 = 0x6d05_2bbd;
/// Regular placed words for [`LEAST_BITS`] bits and more, likewise.
const PLACED: [u32; 6] =
    [0x996f_c520, 0xd74a_b640, 0xf2f6_be80, 0xdd76_ad00, 0xbe08_0200, 0xad20_0400];

/// The most words that are drawn. At least one in 4,400 periodic and one in 2,600 placed words is good.
const DRAWS: usize = 1 << 18;

/// The bits that a group of address bits may lose if it has two parts.
const LOST: usize = 3;
/// The share of groups of two parts, in percent, on which a word has to be one to one. The mean is 49.
const WHOLE: usize = 45;

/// Draws a placed word from a source of random words, which must be unguessable.
pub(super) fn draw_placed(bits: u32, mut random: impl FnMut() -> u32) -> u32 {
    let ends = 1 << 31 | 1 << (bits - 1);
    let tail = (1 << (bits - 1)) - 1;
    let mut drawn = (0..DRAWS).map(|_| (random() | ends) & !tail);
    let good = drawn.find(|&word| is_regular(word, bits) && spreads_split_groups(word, bits));
    good.unwrap_or_else(|| placed(bits))
}

/// Draws a periodic word likewise.
pub(super) fn draw_periodic(mut random: impl FnMut() -> u32) -> u32 {
    let word = (0..DRAWS).map(|_| random()).find(|word| is_good_periodic(*word));
    word.unwrap_or(PERIODIC)
}

/// Returns a regular word that is no secret.
pub(super) fn placed(bits: u32) -> u32 {
    PLACED[(bits - LEAST_BITS) as usize]
}

/// Returns the `bits` lowest bits of the hash of an address whose only one is bit `bit`, the first being
/// 0, under a placed word.
fn placed_of_bit(word: u32, bits: u32, bit: u32) -> u32 {
    word >> (31 - bit) & ((1 << bits) - 1)
}

/// Returns whether a word is a placed word for tables of 2^`bits` entries and regular.
pub(super) fn is_regular(word: u32, bits: u32) -> bool {
    let of_bit = |bit| placed_of_bit(word, bits, bit);
    word.trailing_zeros() == bits - 1
        && (0..=32 - bits).all(|from| rank((from..from + bits).map(of_bit)) == bits as usize)
}

/// Returns whether a word is also about as good as the mean for groups of address bits in two parts, such
/// as the hosts .0 to .15 of every 16th /24.
fn spreads_split_groups(word: u32, bits: u32) -> bool {
    let (mut groups, mut whole) = (0, 0);
    for first in 1..bits {
        let second = bits - first;
        for from in 0..=32 - bits {
            for then in from + first..=32 - second {
                let group = (from..from + first).chain(then..then + second);
                let rank = rank(group.map(|bit| placed_of_bit(word, bits, bit)));
                if rank + LOST < bits as usize {
                    return false;
                }
                groups += 1;
                whole += usize::from(rank == bits as usize);
            }
        }
    }
    whole * 100 >= groups * WHOLE
}

/// Returns whether a word, repeated, maps any eight adjacent bits of an address one to one to the
/// lowest eight bits of the hash, and the whole address one to one to the whole hash.
pub(super) fn is_good_periodic(word: u32) -> bool {
    // The hash of an address whose only one bit is this one.
    let of_bit = |bit: u32| word.rotate_left(31 - bit) & 0xff;
    word.count_ones() % 2 == 1 && (0..=24).all(|from| rank((from..from + 8).map(of_bit)) == 8)
}

/// Returns how many of some vectors of up to 11 bits are linearly independent.
fn rank(vectors: impl Iterator<Item = u32>) -> usize {
    // By the highest bit.
    let mut basis = [0u32; MOST_BITS as usize];
    let mut rank = 0;
    for mut vector in vectors {
        while let Some(highest) = vector.checked_ilog2() {
            let known = &mut basis[highest as usize];
            if *known == 0 {
                *known = vector;
                rank += 1;
                break;
            }
            vector ^= *known;
        }
    }
    rank
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::testing::random;
    use super::*;

    #[test]
    fn ranks() {
        assert_eq!(rank([].into_iter()), 0);
        assert_eq!(rank([1, 2, 3, 0, 1].into_iter()), 2);
        assert_eq!(rank([0x400, 0x600, 0x700, 1].into_iter()), 4);
    }

    #[test]
    fn each_word_that_is_drawn_is_regular_and_another() {
        for bits in LEAST_BITS..=MOST_BITS {
            assert!(is_regular(placed(bits), bits), "{bits}");
            let words: HashSet<_> = (1..=8).map(|seed| draw_placed(bits, random(seed))).collect();
            assert_eq!(words.len(), 8, "{bits}");
            for word in words {
                assert!(is_regular(word, bits) && spreads_split_groups(word, bits), "{word:#x}");
                assert_eq!(draw_placed(bits, || word), word, "a word that is drawn is taken");
                assert!(!is_regular(word, bits % MOST_BITS + 1), "of another width");
            }
        }
        let periodic: HashSet<_> = (1..=8).map(|seed| draw_periodic(random(seed))).collect();
        assert!(periodic.len() == 8 && periodic.into_iter().all(is_good_periodic));
    }

    #[test]
    fn a_source_that_is_no_good_still_gives_a_word() {
        assert_eq!(draw_placed(7, || 0), placed(7));
        assert_eq!(draw_periodic(|| 0x6d5a_6d5a), PERIODIC);
    }

    /// The usual word of cards' keys is one to one on 10 of the 25 groups of eight adjacent bits.
    #[test]
    fn usual_words_are_refused() {
        assert!(!is_good_periodic(0x6d5a_6d5a) && is_good_periodic(PERIODIC));
        assert!(!is_regular(0x8000_0040, 7), "only the ends");
        assert!(!is_regular(PERIODIC, 7));
    }
}
