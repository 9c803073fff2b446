//! The keyed hash of the translation table.
//!
//! An attacker chooses addresses and ports, so the hash has a secret key and its output never
//! leaves the process. It applies four AES rounds with separate round keys to each block of 16
//! bytes. The differential bound for four rounds (Daemen and Rijmen: 2^-113) means that no chosen
//! pair of inputs is more likely to collide than a random pair. A processor does a round in a
//! cycle: hashing an IPv4 endpoint costs a third of SipHash-1-3, which is used where there are no
//! AES instructions (benchmark `table`).
#![allow(unsafe_code)]

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// A value that can be hashed in blocks of 16 bytes.
pub trait Blocks {
    /// Number of blocks.
    const BLOCKS: usize;

    /// Returns the block with this number, which is below [`Blocks::BLOCKS`].
    fn block(&self, number: usize) -> u128;
}

/// Number of keys: one to start with, and one for each round of a block.
#[cfg(all(target_arch = "x86_64", target_feature = "aes"))]
const KEYS: usize = 5;

/// A hash function selected by a secret.
#[derive(Clone, Debug)]
pub(super) struct KeyedHash {
    #[cfg(all(target_arch = "x86_64", target_feature = "aes"))]
    keys: [u128; KEYS],
    #[cfg(not(all(target_arch = "x86_64", target_feature = "aes")))]
    secret: (u64, u64),
}

impl KeyedHash {
    #[cfg(all(target_arch = "x86_64", target_feature = "aes"))]
    pub(super) fn new(secret: (u64, u64)) -> Self {
        let word = |number: usize| {
            let mut hasher = SipHasher13::new_with_keys(secret.0, secret.1);
            hasher.write_usize(number);
            u128::from(hasher.finish())
        };
        Self { keys: std::array::from_fn(|n| word(2 * n) << 64 | word(2 * n + 1)) }
    }

    #[cfg(all(target_arch = "x86_64", target_feature = "aes"))]
    #[inline(always)]
    pub(super) fn of<K: Blocks>(&self, key: &K) -> u64 {
        // SAFETY: the function needs AES instructions, which `target_feature` says that the whole
        // program is compiled for.
        unsafe { aes_rounds(&self.keys, key) }
    }

    #[cfg(not(all(target_arch = "x86_64", target_feature = "aes")))]
    pub(super) fn new(secret: (u64, u64)) -> Self {
        Self { secret }
    }

    #[cfg(not(all(target_arch = "x86_64", target_feature = "aes")))]
    #[inline]
    pub(super) fn of<K: Blocks>(&self, key: &K) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        (0..K::BLOCKS).for_each(|number| hasher.write_u128(key.block(number)));
        hasher.finish()
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "aes"))]
#[target_feature(enable = "aes")]
#[inline]
fn aes_rounds<K: Blocks>(keys: &[u128; KEYS], key: &K) -> u64 {
    use core::arch::x86_64::{
        __m128i, _mm_aesenc_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_xor_si128,
    };
    #[target_feature(enable = "sse2")]
    #[inline]
    fn vector(block: u128) -> __m128i {
        _mm_set_epi64x((block >> 64) as i64, block as i64)
    }
    let [first, rounds @ ..] = keys;
    let mut state = vector(*first);
    for number in 0..K::BLOCKS {
        state = _mm_xor_si128(state, vector(key.block(number)));
        for round in rounds {
            state = _mm_aesenc_si128(state, vector(*round));
        }
    }
    _mm_cvtsi128_si64(state) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two(u128, u128);

    impl Blocks for Two {
        const BLOCKS: usize = 2;

        fn block(&self, number: usize) -> u128 {
            [self.0, self.1][number]
        }
    }

    #[test]
    fn every_bit_of_input_and_secret_flips_about_half_of_the_output() {
        let secret = (1, 2);
        let plain = KeyedHash::new(secret).of(&Two(3, 4));
        let flipped = |hash: u64| (plain ^ hash).count_ones();
        let mut least = 64;
        for bit in 0..128 {
            let mask = 1 << bit;
            least = least.min(flipped(KeyedHash::new(secret).of(&Two(3 ^ mask, 4))));
            least = least.min(flipped(KeyedHash::new(secret).of(&Two(3, 4 ^ mask))));
            let (high, low) = ((mask >> 64) as u64, mask as u64);
            least = least.min(flipped(KeyedHash::new((1 ^ high, 2 ^ low)).of(&Two(3, 4))));
        }
        assert!(least > 12, "one changed bit flipped {least} of 64 bits");
    }
}
