//! The table lookups of a burst, started before its packets are processed.
//!
//! Three passes over a burst hide the cache misses of the table. The first classifies each packet,
//! hashes its key and prefetches the bucket; the second prefetches the entry that the bucket points
//! to; the third finds both in the cache.

use crate::packet::burst::BURST;
use crate::packet::view::{Kind, View};
use crate::table::{EntryHint, Hash, Key, State, Table};
use crate::wire::family::Version;

/// The path of a packet, as far as its headers decide it. Those of a table are next to each other, so
/// that they are told from others by a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum PathClass {
    /// The fast path: TCP over IPv4 with all headers at their usual places, looked up.
    FastV4,
    /// The fast path: the same in an IPv4-in-IPv4 tunnel, looked up.
    TunnelV4,
    /// The slow path, looked up in the table of IPv4.
    SlowV4,
    /// The fast path: TCP over IPv6 with all headers at their usual places, looked up.
    FastV6,
    /// The fast path: the same in an IPv6-in-IPv6 tunnel, looked up.
    TunnelV6,
    /// The slow path, looked up in the table of IPv6.
    SlowV6,
    /// The slow path, with no key to look up yet.
    Slow,
    /// TCP that passes without a lookup.
    PassThrough,
    /// Traffic that no role handles: bridged unmodified.
    NotHandled,
}

impl PathClass {
    /// Returns the class of a packet on the slow path that is looked up in the table of this
    /// family.
    #[inline(always)]
    pub(super) fn slow(version: Version) -> Self {
        match version {
            Version::V4 => PathClass::SlowV4,
            Version::V6 => PathClass::SlowV6,
        }
    }

    /// Returns the class of a packet that is neither TCP nor a tunnel that the role opens.
    #[inline(always)]
    pub(super) fn of_other(view: &View) -> Self {
        if matches!(view.kind, Kind::Other(_)) { PathClass::NotHandled } else { PathClass::Slow }
    }
}

/// The lookups of one burst, in progress.
pub(super) struct BurstLookup {
    classes: [PathClass; BURST],
    hashes: [Hash; BURST],
    entries: [EntryHint; BURST],
    /// The packets inside tunnels.
    pub(super) inner: [View; BURST],
}

/// The result of the first two passes for one packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct LookupHint {
    /// The hash of its key; [`Hash::NONE`] when it has no key yet.
    pub(super) hash: Hash,
    /// The likely place of its entry.
    pub(super) entry: EntryHint,
    /// The packet inside, when it is a tunnel.
    pub(super) inner: View,
}

impl Default for BurstLookup {
    fn default() -> Self {
        Self {
            classes: [PathClass::Slow; BURST],
            hashes: [Hash::default(); BURST],
            entries: [EntryHint::NONE; BURST],
            inner: [View::NOTHING; BURST],
        }
    }
}

impl BurstLookup {
    /// Pass 1, for a packet that is looked up by `key`: stores its class and hash, and prefetches
    /// the bucket.
    #[inline(always)]
    pub(super) fn prefetch_bucket<K: Key, S: State, V: Copy>(
        &mut self,
        number: usize,
        class: PathClass,
        table: &Table<K, S, V>,
        key: K,
    ) {
        let hash = table.hash(key);
        table.prefetch_bucket(hash);
        self.hashes[number] = hash;
        self.classes[number] = class;
    }

    /// Pass 1, for a packet without a key: stores its class.
    #[inline(always)]
    pub(super) fn without_key(&mut self, number: usize, class: PathClass) {
        self.classes[number] = class;
    }

    /// Pass 2: prefetches the entries of the first `count` packets.
    #[inline(always)]
    pub(super) fn prefetch_entries<K: Key, L: Key, S: State, V: Copy, W: Copy>(
        &mut self,
        count: usize,
        v4: &Table<K, S, V>,
        v6: &Table<L, S, W>,
    ) {
        for number in 0..count.min(BURST) {
            let hash = self.hashes[number];
            self.entries[number] = match self.classes[number] {
                PathClass::FastV4 | PathClass::TunnelV4 | PathClass::SlowV4 => {
                    v4.prefetch_entry(hash)
                }
                PathClass::FastV6 | PathClass::TunnelV6 | PathClass::SlowV6 => {
                    v6.prefetch_entry(hash)
                }
                PathClass::Slow | PathClass::PassThrough | PathClass::NotHandled => continue,
            };
        }
    }

    /// Pass 3: returns the class of a packet, and the likely place of its entry.
    #[inline(always)]
    pub(super) fn class(&self, number: usize) -> (PathClass, EntryHint) {
        (self.classes[number % BURST], self.entries[number % BURST])
    }

    /// Pass 3: returns the result of the first two passes for a packet.
    #[inline]
    pub(super) fn hint(&self, number: usize) -> LookupHint {
        let (hash, entry) = match self.classes[number] {
            PathClass::Slow | PathClass::PassThrough | PathClass::NotHandled => {
                (Hash::NONE, EntryHint::NONE)
            }
            PathClass::FastV4
            | PathClass::FastV6
            | PathClass::TunnelV4
            | PathClass::TunnelV6
            | PathClass::SlowV4
            | PathClass::SlowV6 => (self.hashes[number], self.entries[number]),
        };
        LookupHint { hash, entry, inner: self.inner[number] }
    }
}
