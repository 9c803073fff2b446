//! What one worker of a switch or a replica remembers of the signatures that it has verified: how
//! often each has passed, so that a recorded SYN cannot be sent again and again, and whether clocks
//! seem to be wrong (docs/protocol.md, 3.4).

use super::sign::{Epoch, Keys, Proof, Verification};
use super::tag::Tag;
use crate::base::time::Ticks;
use crate::counters::{CommonCounters, Scalar};
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::wire::family::Family;

/// Signatures remembered at a time.
const SIGNATURES: usize = 1 << 16;
/// Places where one signature may be remembered.
const WAYS: usize = 4;
const SETS: usize = SIGNATURES / WAYS;

/// How far from now the epoch of a wrong signature is looked for: a little over an hour, as by a
/// time zone.
const FARTHEST: i32 = 60;
/// The most wrong signatures in a second whose epoch is looked for. Looking for one takes as long
/// as verifying a hundred.
const SEARCHES_PER_SECOND: u32 = 16;

/// One worker's memory of signatures.
#[derive(Debug)]
pub struct Signatures {
    passes: Passes,
    /// The second in which searches are counted, and their number in it.
    searches: (Ticks, u32),
}

impl Signatures {
    /// Creates a memory in which a signature passes at most `limit` times, up to 15.
    pub fn new(limit: u8) -> Self {
        Self { passes: Passes::new(limit), searches: (Ticks(0), 0) }
    }

    /// Verifies the tag of a SYN, and counts a signature that is right but for its epoch.
    pub fn verify<F: Family, B: Buffer>(
        &mut self,
        keys: &Keys,
        packet: &Packet<B>,
        tag: &Tag,
        now: Ticks,
        counters: &CommonCounters,
    ) -> Verification {
        let verified = keys.at(now).verify::<F, B>(packet, tag);
        if verified == Verification::Invalid
            && self.may_search(now)
            && is_of_another_epoch::<F, B>(keys, packet, tag, now)
        {
            counters.scalar(Scalar::EpochMismatch).add(1);
        }
        verified
    }

    /// Counts that a signature wants to pass, and returns whether it may.
    pub fn pass(&mut self, proof: Proof, keys: &Keys, now: Ticks) -> bool {
        self.passes.pass(proof, keys.at(now).epoch())
    }

    fn may_search(&mut self, now: Ticks) -> bool {
        let (since, count) = &mut self.searches;
        if now.since(*since) >= Ticks::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= SEARCHES_PER_SECOND
    }
}

/// Returns whether a signature that is wrong now would be right within about an hour.
#[cold]
fn is_of_another_epoch<F: Family, B: Buffer>(
    keys: &Keys,
    packet: &Packet<B>,
    tag: &Tag,
    now: Ticks,
) -> bool {
    let keys = keys.at(now);
    let epochs = (2..=FARTHEST).flat_map(|count| [-count, count]);
    keys.find_epoch::<F, B>(packet, tag, epochs.map(|count| keys.epoch().plus(count))).is_some()
}

/// How often signatures have passed: a cache in sets of four. An entry is 24 bits of the MAC, the
/// last 4 bits of its epoch, and a count; 0 is an empty one. A signature that is pushed out may pass
/// anew. Only signatures that are right come here, so nobody without a key can push one out.
struct Passes {
    sets: Box<[[u32; WAYS]]>,
    limit: u8,
}

impl std::fmt::Debug for Passes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passes").field("limit", &self.limit).finish_non_exhaustive()
    }
}

const COUNT: u32 = 0xf;
const EPOCH_SHIFT: u32 = 4;
const MAC_SHIFT: u32 = 8;

impl Passes {
    fn new(limit: u8) -> Self {
        Self { sets: vec![[0; WAYS]; SETS].into(), limit: limit.min(COUNT as u8) }
    }

    fn pass(&mut self, proof: Proof, now: Epoch) -> bool {
        let identity = (proof.mac >> 40) as u32;
        let own = identity << MAC_SHIFT | (proof.epoch.0 & 0xf) << EPOCH_SHIFT;
        let set = &mut self.sets[proof.mac as usize % SETS];
        if let Some(entry) =
            set.iter_mut().find(|entry| is_used(**entry) && **entry & !COUNT == own)
        {
            let may_pass = *entry & COUNT < u32::from(self.limit);
            *entry += u32::from(may_pass);
            return may_pass;
        }
        let free = set.iter().position(|entry| !is_used(*entry) || is_over(*entry, now));
        // No free place: that of an arbitrary one, as the bits of a MAC are.
        let place = free.unwrap_or((proof.mac >> 32) as usize % WAYS);
        set[place] = own | 1;
        self.limit > 0
    }
}

/// Returns whether an entry is in use: it has passed once at least.
fn is_used(entry: u32) -> bool {
    entry & COUNT != 0
}

/// Returns whether an entry's signature is not valid any more.
fn is_over(entry: u32, now: Epoch) -> bool {
    let age = now.0.wrapping_sub(entry >> EPOCH_SHIFT) & 0xf;
    !matches!(age, 0 | 1 | 0xf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::HeapBuffer;
    use crate::stage::tag::{self, Configuration, CopiesWanted, Found, OptionId};
    use crate::testing::Segment;
    use crate::wire::family::{V4, V6};

    const NOW: Epoch = Epoch(26_562_500);

    fn proof(mac: u64) -> Proof {
        Proof { mac, epoch: NOW }
    }

    #[test]
    fn a_signature_passes_so_often_and_its_next_epoch_begins_anew() {
        let mut passes = Passes::new(3);
        let mac = 0x0123_4567_89ab_cdef;
        let often: Vec<_> = (0..20).map(|_| passes.pass(proof(mac), NOW)).collect();
        assert_eq!(often.iter().filter(|passed| **passed).count(), 3);
        assert_eq!(often[..4], [true, true, true, false]);
        // Another one of the same set, and the same bits of another epoch.
        assert!(passes.pass(proof(mac ^ 1 << 63), NOW));
        assert!(passes.pass(Proof { mac, epoch: NOW.plus(1) }, NOW));
        assert!(!passes.pass(proof(mac), NOW.plus(1)));
    }

    #[test]
    fn places_of_signatures_that_are_over_are_used_first() {
        let mut passes = Passes::new(1);
        let of_set = |number: u64| number << 40 | 7;
        for number in 1..=4 {
            assert!(passes.pass(proof(of_set(number)), NOW));
        }
        // Still in their time: all are known.
        for (number, now) in [(1, 0), (2, 1), (3, 1), (4, -1)] {
            assert!(!passes.pass(proof(of_set(number)), NOW.plus(now)));
        }
        let later = NOW.plus(2);
        for number in 11..=14 {
            assert!(passes.pass(Proof { mac: of_set(number), epoch: later }, later));
        }
        for number in 11..=14 {
            assert!(!passes.pass(Proof { mac: of_set(number), epoch: later }, later));
        }
    }

    #[test]
    fn a_full_worker_of_honest_signatures_refuses_none() {
        let mut passes = Passes::new(2);
        let mut mac = 1u64;
        for _ in 0..SIGNATURES {
            mac =
                mac.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            assert!(passes.pass(proof(mac), NOW) && passes.pass(proof(mac), NOW));
        }
    }

    fn check_mismatch<F: Family>(client: &str, server: &str) {
        let keys = Keys::new([(3, [7; 16])], Some(3));
        let now = Ticks::from_secs(1_700_000_000);
        let counters = CommonCounters::default();
        let count = || counters.scalar(Scalar::EpochMismatch).get();
        let mut signatures = Signatures::new(3);
        let mut receive = |signed_at: Ticks, received_at: Ticks, wrong: bool| {
            let mut packet = Packet::new(HeapBuffer::new(&Segment::syn(client, server, 7).frame()));
            let tag = Tag::requesting(CopiesWanted::ALL, Configuration::A);
            let id = OptionId::default();
            assert!(tag::insert::<F, _>(&mut packet, id, tag, keys.at(signed_at)));
            let Found::Tag(mut tag, ..) = id.find(packet.options()) else { panic!() };
            if let Some(signature) = &mut tag.signature {
                signature.mac ^= u64::from(wrong);
            }
            signatures.verify::<F, _>(&keys, &packet, &tag, received_at, &counters)
        };
        let hour = Ticks::from_secs(3600);
        assert!(matches!(receive(now, now, false), Verification::Valid(_)));
        assert_eq!((receive(now, now + hour, false), count()), (Verification::Invalid, 1));
        assert_eq!((receive(now + hour, now, false), count()), (Verification::Invalid, 1 + 1));
        assert_eq!((receive(now, now + hour, true), count()), (Verification::Invalid, 2));
        assert_eq!((receive(now, now + hour + hour, false), count()), (Verification::Invalid, 2));
        // A flood of wrong ones costs a bounded number of searches.
        let later = now + hour + hour + Ticks::from_secs(10);
        for _ in 0..100 {
            receive(later, later + hour, false);
        }
        assert_eq!(count() - 2, u64::from(SEARCHES_PER_SECOND));
    }

    #[test]
    fn wrong_clocks_are_counted_and_floods_cost_a_bounded_number_of_searches() {
        check_mismatch::<V4>("198.18.1.10:40000", "203.0.113.10:80");
        check_mismatch::<V6>("[2001:db8::1]:40000", "[2001:db8::2]:80");
    }
}
