//! What entries are found by: a client endpoint, or both ends of a connection.

use super::Blocks;
use crate::wire::family::{Endpoint, Family, Version};

/// What entries are found by.
pub trait Key: Copy + PartialEq + Blocks {
    /// The family of its addresses.
    const VERSION: Version;
}

impl<F: Family> Key for Endpoint<F> {
    const VERSION: Version = F::VERSION;
}

impl<F: Family> Blocks for Endpoint<F> {
    const BLOCKS: usize = F::KEY_WORDS.div_ceil(2);

    #[inline(always)]
    fn block(&self, number: usize) -> u128 {
        let words = F::key(self.address, self.port);
        block(number, |word| words.get(word).copied())
    }
}

/// A connection by both of its ends, for those who share out servers that one client endpoint may
/// use several of.
impl<F: Family> Key for (Endpoint<F>, Endpoint<F>) {
    const VERSION: Version = F::VERSION;
}

impl<F: Family> Blocks for (Endpoint<F>, Endpoint<F>) {
    const BLOCKS: usize = F::KEY_WORDS;

    #[inline(always)]
    fn block(&self, number: usize) -> u128 {
        let ends = [F::key(self.0.address, self.0.port), F::key(self.1.address, self.1.port)];
        let words = F::KEY_WORDS;
        block(number, |word| ends.get(word / words).map(|end| end[word % words]))
    }
}

/// Two words in a row; zero where there are none.
#[inline(always)]
fn block(number: usize, word: impl Fn(usize) -> Option<u64>) -> u128 {
    let word = |at| u128::from(word(at).unwrap_or(0));
    word(2 * number + 1) << 64 | word(2 * number)
}
