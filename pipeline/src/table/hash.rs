//! The keyed hash of the translation table.
//!
//! Addresses and ports are the attacker's to choose, so the hash has a secret key: four rounds of
//! AES under keys of their own for each block of 16 bytes, which leaves no two inputs likelier to
//! meet than chance has it (Daemen and Rijmen's bound for four rounds: 2^-113), and whose output
//! nobody outside sees. A processor does a round in a cycle: the hash of an IPv4 endpoint costs a
//! third of SipHash-1-3, which stands in where there are no AES instructions (benchmark `table`).
#![allow(unsafe_code)]

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// What is hashed: its bytes in blocks of 16.
pub trait Blocks {
    /// How many.
    const BLOCKS: usize;

    /// One of them.
    fn block(&self, number: usize) -> u128;
}

/// Rounds for each block, and keys: one to begin with.
#[cfg(all(target_arch = "x86_64", target_feature = "aes"))]
const KEYS: usize = 5;

/// A hash function chosen by a secret.
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
        // SAFETY: the function needs no more than what this whole program is compiled for.
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
    fn every_bit_of_input_and_secret_counts_for_about_half_of_the_output() {
        let secret = (1, 2);
        let plain = KeyedHash::new(secret).of(&Two(3, 4));
        let turned = |hash: u64| (plain ^ hash).count_ones();
        let mut least = 64;
        for bit in 0..128 {
            let one = 1 << bit;
            least = least.min(turned(KeyedHash::new(secret).of(&Two(3 ^ one, 4))));
            least = least.min(turned(KeyedHash::new(secret).of(&Two(3, 4 ^ one))));
            let (high, low) = ((one >> 64) as u64, one as u64);
            least = least.min(turned(KeyedHash::new((1 ^ high, 2 ^ low)).of(&Two(3, 4))));
        }
        assert!(least > 12, "one change turned {least} of 64 bits");
    }
}
