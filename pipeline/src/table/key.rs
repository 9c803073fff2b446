//! The keys of the table: a client endpoint, or both endpoints of a connection.

use std::net::IpAddr;

use super::Blocks;
use crate::wire::family::{Endpoint, Family, Version};

/// A key that entries are found by.
///
/// [`Endpoint`] implements it for tables with one entry per client endpoint, and a pair of
/// endpoints for tables with one entry per connection.
pub trait Key: Copy + PartialEq + Blocks {
    /// The IP family of the addresses in the key.
    const VERSION: Version;

    /// Returns the bits of the client's prefix, which has a share of the table: a /24 of IPv4, a
    /// /48 of IPv6.
    fn client_prefix(&self) -> u64;

    /// Returns the address of the client, which decides who owns the entry.
    fn client(&self) -> IpAddr;
}

impl<F: Family> Key for Endpoint<F> {
    const VERSION: Version = F::VERSION;

    fn client_prefix(&self) -> u64 {
        match self.address.into() {
            IpAddr::V4(address) => u64::from(address.to_bits() >> 8),
            IpAddr::V6(address) => (address.to_bits() >> 80) as u64,
        }
    }

    fn client(&self) -> IpAddr {
        self.address.into()
    }
}

impl<F: Family> Blocks for Endpoint<F> {
    const BLOCKS: usize = F::KEY_WORDS.div_ceil(2);

    #[inline(always)]
    fn block(&self, number: usize) -> u128 {
        let words = F::key(self.address, self.port);
        block(number, |word| words.get(word).copied())
    }
}

/// Identifies a connection by both of its endpoints, the client's first, for roles where one client
/// endpoint may use several servers at once.
impl<F: Family> Key for [Endpoint<F>; 2] {
    const VERSION: Version = F::VERSION;

    fn client_prefix(&self) -> u64 {
        self[0].client_prefix()
    }

    fn client(&self) -> IpAddr {
        self[0].client()
    }
}

impl<F: Family> Blocks for [Endpoint<F>; 2] {
    const BLOCKS: usize = F::KEY_WORDS;

    #[inline(always)]
    fn block(&self, number: usize) -> u128 {
        let ends = self.map(|end| F::key(end.address, end.port));
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
