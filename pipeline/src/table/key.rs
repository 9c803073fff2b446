//! The keys of the table: a client endpoint, or both endpoints of a connection.

use super::Blocks;
use crate::wire::family::{Endpoint, Family, Version};

/// A key that entries are found by.
///
/// [`Endpoint`] implements it for tables with one entry per client endpoint, and a pair of
/// endpoints for tables with one entry per connection.
pub trait Key: Copy + PartialEq + Blocks {
    /// The IP family of the addresses in the key.
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

/// Identifies a connection by both of its endpoints, for roles where one client endpoint may use
/// several servers at once.
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

/// Returns words `2 * number` and `2 * number + 1` as a block, with zero for a word that does not
/// exist.
#[inline(always)]
fn block(number: usize, word: impl Fn(usize) -> Option<u64>) -> u128 {
    let word = |at| u128::from(word(at).unwrap_or(0));
    word(2 * number + 1) << 64 | word(2 * number)
}
