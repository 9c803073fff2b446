//! What is known of a burst's packets before their turn comes. Three passes over a burst hide the
//! misses of the table: the first looks at each packet, hashes its key and asks for the bucket; the
//! second asks for the entry that the bucket points to; the third finds both at hand.

use crate::packet::burst::BURST;
use crate::wire::family::{V6, Version};
use crate::table::{Guess, Hash, Key, State, Table};
use crate::packet::view::{Kind, View};

/// How a packet goes on, as far as the first look at it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Shape {
    /// TCP over IPv4 in a frame of the usual shape, looked up.
    PlainV4,
    /// TCP over IPv6 likewise.
    PlainV6,
    /// The long way, looked up in the table of IPv4.
    LongV4,
    /// The long way, looked up in the table of IPv6.
    LongV6,
    /// The long way, without a look-up by a key that is known now.
    Long,
    /// TCP that passes without a look-up.
    Passing,
    /// What no role has a part in.
    Nobodys,
}

impl Shape {
    /// The long way, looked up.
    #[inline(always)]
    pub(super) fn long(version: Version) -> Self {
        match version {
            Version::V4 => Shape::LongV4,
            Version::V6 => Shape::LongV6,
        }
    }

    /// Of TCP over IPv6, in a frame of the usual shape or not.
    #[inline(always)]
    pub(super) fn of_v6(view: &View) -> Self {
        if view.is_plain::<V6>() { Shape::PlainV6 } else { Shape::LongV6 }
    }

    /// Of what is neither TCP nor a tunnel that the role opens.
    #[inline(always)]
    pub(super) fn of_other(view: &View) -> Self {
        if matches!(view.kind, Kind::Other(_)) { Shape::Nobodys } else { Shape::Long }
    }
}

/// What is known of the packets of a burst.
pub(super) struct LookAhead {
    shapes: [Shape; BURST],
    hashes: [Hash; BURST],
    /// Where the entries are likely to be.
    guesses: [Guess; BURST],
    /// What is in the tunnels.
    pub(super) inner: [View; BURST],
}

/// What is known of one packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Foreseen {
    /// Of its key, if it is looked up by one that is known now.
    pub(super) hash: Hash,
    pub(super) guess: Guess,
    /// What is in it, when it is a tunnel.
    pub(super) inner: View,
}

impl Default for LookAhead {
    fn default() -> Self {
        Self {
            shapes: [Shape::Long; BURST],
            hashes: [Hash::default(); BURST],
            guesses: [Guess::NONE; BURST],
            inner: [View::NOTHING; BURST],
        }
    }
}

impl LookAhead {
    /// The packet of this number is going to be looked up by this key.
    #[inline(always)]
    pub(super) fn bucket<K: Key, S: State, V: Copy>(
        &mut self,
        number: usize,
        shape: Shape,
        table: &Table<K, S, V>,
        key: K,
    ) {
        let hash = table.hash(key);
        table.prefetch_bucket(hash);
        self.hashes[number] = hash;
        self.shapes[number] = shape;
    }

    /// The packet of this number is not going to be looked up by a key that is known now.
    #[inline(always)]
    pub(super) fn nothing(&mut self, number: usize, shape: Shape) {
        self.shapes[number] = shape;
    }

    /// Asks for the entries of the first `count` packets.
    #[inline(always)]
    pub(super) fn entries<K: Key, L: Key, S: State, V: Copy, W: Copy>(
        &mut self,
        count: usize,
        v4: &Table<K, S, V>,
        v6: &Table<L, S, W>,
    ) {
        for number in 0..count.min(BURST) {
            let hash = self.hashes[number];
            self.guesses[number] = match self.shapes[number] {
                Shape::PlainV4 | Shape::LongV4 => v4.prefetch_entry(hash),
                Shape::PlainV6 | Shape::LongV6 => v6.prefetch_entry(hash),
                _ => continue,
            };
        }
    }

    /// How the packet of this number goes on, and where its entry is likely to be, when it is
    /// looked up.
    #[inline(always)]
    pub(super) fn shape(&self, number: usize) -> (Shape, Guess) {
        (self.shapes[number % BURST], self.guesses[number % BURST])
    }

    /// All that is known of it.
    #[inline]
    pub(super) fn of(&self, number: usize) -> Foreseen {
        let (hash, guess) = match self.shapes[number] {
            Shape::Long | Shape::Passing | Shape::Nobodys => (Hash::NONE, Guess::NONE),
            _ => (self.hashes[number], self.guesses[number]),
        };
        Foreseen { hash, guess, inner: self.inner[number] }
    }
}
