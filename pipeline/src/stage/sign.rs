//! Signatures of tags: SipHash-2-4 over the endpoints and sequence number of the SYN and over the
//! epoch, under keys that gateways, switches and replicas share (docs/protocol.md, 3.4). A host
//! without a key can neither generate a tag, nor move one to another connection, nor use one later.

use std::fmt;

use siphasher::sip::SipHasher24;
use zeroize::Zeroize;

use crate::base::time::{Ticks, UnixClock};
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::stage::tag::{self, Tag};
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp;

/// The length of an epoch. A signature is valid in its own epoch and in those next to it: for two
/// epochs at least after it was made, for three at most, if the clocks agree.
const EPOCH_SECONDS: u64 = 64;

/// The number of an epoch: Unix time in units of 64 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch(pub u32);

impl Epoch {
    /// Returns the epoch at this Unix time in seconds.
    pub fn at(unix_seconds: u64) -> Self {
        Self((unix_seconds / EPOCH_SECONDS) as u32)
    }

    /// Returns the epoch that begins `count` epochs after this one, or before if `count` is
    /// negative.
    #[must_use]
    pub fn plus(self, count: i32) -> Self {
        Self(self.0.wrapping_add_signed(count))
    }
}

/// The keys that tags are verified with, and the one that the gateway signs with. They are
/// overwritten when they are dropped.
///
/// # Examples
/// A gateway signs with key 3; a switch that knows the key verifies the tag.
///
/// ```
/// use firstack_packets::Segment;
/// use pipeline::base::time::Ticks;
/// use pipeline::packet::buffer::HeapBuffer;
/// use pipeline::packet::view::Packet;
/// use pipeline::stage::sign::{Keys, Verification};
/// use pipeline::stage::tag::{self, Configuration, CopiesWanted, Found, OptionId, Tag};
/// use pipeline::wire::family::V4;
///
/// let syn = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 1000);
/// let mut packet = Packet::new(HeapBuffer::new(&syn.frame()));
/// let tag = Tag::requesting(CopiesWanted::ALL, Configuration::A);
/// let now = Ticks::from_secs(1_700_000_000);
///
/// let gateway = Keys::new([(3, [7; 16])], Some(3));
/// assert_eq!(gateway.tag_space(), 16);
/// assert!(tag::insert::<V4, _>(&mut packet, OptionId::default(), tag, gateway.at(now)));
///
/// let Found::Tag(tag, ..) = OptionId::default().find(packet.options()) else { panic!() };
/// let switch = Keys::new([(3, [7; 16])], None);
/// let verified = switch.at(now).verify::<V4, _>(&packet, &tag);
/// assert!(matches!(verified, Verification::Valid(_)));
/// let other = Keys::new([(3, [8; 16])], None);
/// assert_eq!(other.at(now).verify::<V4, _>(&packet, &tag), Verification::Invalid);
/// // Three minutes later the tag is of no use any more.
/// let later = now + Ticks::from_secs(180);
/// assert_eq!(switch.at(later).verify::<V4, _>(&packet, &tag), Verification::Invalid);
/// ```
#[derive(Clone, Default)]
pub struct Keys {
    /// By key id; empty when there are no keys.
    all: Box<[Option<[u8; 16]>]>,
    signing: Option<u8>,
    clock: UnixClock,
}

/// Keys at a point in time.
#[derive(Clone, Copy, Debug)]
pub struct KeysAt<'a> {
    keys: &'a Keys,
    epoch: Epoch,
    /// The neighbour of the epoch that is nearer: the one before it in its first half.
    nearer: i32,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.all.zeroize();
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.all.iter().enumerate().filter(|(_, key)| key.is_some()).map(|(id, _)| id);
        f.debug_set().entries(ids).finish()
    }
}

/// The result of verifying a tag's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The tag has no signature, or there are no keys to verify it with.
    Unsigned,
    /// The signature is right.
    Valid(Proof),
    /// The signature is wrong, of a time that is not now, or generated with an unknown key.
    Invalid,
}

/// A signature that was found right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The message authentication code.
    pub mac: u64,
    /// The epoch that it covers.
    pub epoch: Epoch,
}

/// The input of the signature.
#[derive(Clone, Copy, Debug)]
struct Signed<F: Family> {
    client: Endpoint<F>,
    server: Endpoint<F>,
    sequence: u32,
    flags: u8,
    key: u8,
}

/// The most bytes that a signature covers.
const COVERED: usize = 2 * (16 + 2) + 4 + 2 + 4;

impl Keys {
    /// Returns the given keys, each with its id. `signing` is the id of the key to sign with;
    /// `None` leaves tags unsigned. The origin of [`Ticks`] is that of Unix time until
    /// [`Keys::with_clock`] says otherwise.
    pub fn new(keys: impl IntoIterator<Item = (u8, [u8; 16])>, signing: Option<u8>) -> Self {
        let mut all = vec![None; 256].into_boxed_slice();
        let mut any = false;
        for (id, key) in keys {
            all[usize::from(id)] = Some(key);
            any = true;
        }
        match any {
            true => Self { all, signing, clock: UnixClock::default() },
            false => Self::default(),
        }
    }

    /// Sets the clock that tells the epoch.
    #[must_use]
    pub fn with_clock(mut self, clock: UnixClock) -> Self {
        self.clock = clock;
        self
    }

    /// Returns the keys as they are used at `now`.
    #[inline]
    pub fn at(&self, now: Ticks) -> KeysAt<'_> {
        let seconds = self.clock.seconds(now);
        let nearer = if seconds % EPOCH_SECONDS < EPOCH_SECONDS / 2 { -1 } else { 1 };
        KeysAt { keys: self, epoch: Epoch::at(seconds), nearer }
    }

    /// Returns how many bytes a tag takes in the option area, padding included.
    pub fn tag_space(&self) -> usize {
        let length = if self.signing.is_some() { tag::SIGNED } else { tag::UNSIGNED };
        length.next_multiple_of(4)
    }

    fn mac<F: Family>(&self, signed: Signed<F>, epoch: Epoch) -> Option<u64> {
        let key = self.all.get(usize::from(signed.key))?.as_ref()?;
        let mut bytes = [0; COVERED];
        let length = signed.write(epoch, &mut bytes);
        Some(SipHasher24::new_with_key(key).hash(&bytes[..length]))
    }
}

impl KeysAt<'_> {
    /// Returns the current epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Signs the tag of a SYN: returns key id and signature. `None` when tags are not signed.
    pub fn sign<F: Family, B: Buffer>(&self, packet: &Packet<B>, flags: u8) -> Option<(u8, u64)> {
        let key = self.keys.signing?;
        let flags = flags | tag::KEYED;
        Some((key, self.keys.mac(Signed::<F>::of(packet, flags, key), self.epoch)?))
    }

    /// Verifies the tag of a SYN: by the current epoch, then by its two neighbours.
    pub fn verify<F: Family, B: Buffer>(&self, packet: &Packet<B>, tag: &Tag) -> Verification {
        if tag.signature.is_none() || self.keys.all.is_empty() {
            return Verification::Unsigned;
        }
        let epochs = [0, self.nearer, -self.nearer].map(|count| self.epoch.plus(count));
        self.find_epoch::<F, B>(packet, tag, epochs)
            .map_or(Verification::Invalid, Verification::Valid)
    }

    /// Returns the first of these epochs by which the signature of a SYN's tag is right.
    pub(super) fn find_epoch<F: Family, B: Buffer>(
        &self,
        packet: &Packet<B>,
        tag: &Tag,
        epochs: impl IntoIterator<Item = Epoch>,
    ) -> Option<Proof> {
        let signature = tag.signature?;
        let signed = Signed::<F>::of(packet, signature.flags, signature.key);
        for epoch in epochs {
            // `None` when the key is unknown: it is in all epochs.
            let mac = self.keys.mac(signed, epoch)?;
            if mac == signature.mac {
                return Some(Proof { mac, epoch });
            }
        }
        None
    }
}

impl<F: Family> Signed<F> {
    fn of<B: Buffer>(packet: &Packet<B>, flags: u8, key: u8) -> Self {
        Self {
            client: packet.source(),
            server: packet.destination(),
            sequence: tcp::sequence(packet.tcp()),
            flags,
            key,
        }
    }

    /// Writes both addresses, both ports, sequence number, flags, key id and epoch in network byte
    /// order. Returns the number of bytes written.
    fn write(&self, epoch: Epoch, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        for address in [self.client.address, self.server.address] {
            match address.into() {
                std::net::IpAddr::V4(address) => put(&address.octets()),
                std::net::IpAddr::V6(address) => put(&address.octets()),
            }
        }
        put(&self.client.port.to_be_bytes());
        put(&self.server.port.to_be_bytes());
        put(&self.sequence.to_be_bytes());
        put(&[self.flags, self.key]);
        put(&epoch.0.to_be_bytes());
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::HeapBuffer;
    use crate::stage::tag::{Configuration, CopiesWanted, Found, OptionId};
    use crate::testing::{LINUX_OPTIONS, Segment};
    use crate::wire::family::{V4, V6};

    const TAG: Tag = Tag::requesting(CopiesWanted::ALL, Configuration::C);
    /// The first second of the epoch 0x01954fc4.
    const NOW: Ticks = Ticks::from_secs(0x0195_4fc4 * EPOCH_SECONDS);

    fn keys(signing: u8) -> Keys {
        Keys::new([(3, [7; 16]), (9, [8; 16])], Some(signing))
    }

    fn signed<F: Family>(syn: &Segment, keys: &Keys) -> (Packet<HeapBuffer>, Tag) {
        let mut packet = Packet::new(HeapBuffer::new(&syn.frame()));
        assert!(tag::insert::<F, _>(&mut packet, OptionId::default(), TAG, keys.at(NOW)));
        let Found::Tag(tag, ..) = OptionId::default().find(packet.options()) else {
            panic!("no tag found");
        };
        (packet, tag)
    }

    fn is_valid(verified: Verification) -> bool {
        matches!(verified, Verification::Valid(_))
    }

    fn syn() -> Segment {
        Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).options(&LINUX_OPTIONS)
    }

    #[test]
    fn the_signature_covers_the_bytes_that_the_protocol_says() {
        let (packet, _) = signed::<V4>(&syn(), &keys(3));
        let bytes = [
            198, 18, 1, 10, 203, 0, 113, 10, 0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0x85, 3, 1, 0x95, 0x4f,
            0xc4,
        ];
        let mac = SipHasher24::new_with_key(&[7; 16]).hash(&bytes).to_be_bytes();
        let tag = &packet.options()[LINUX_OPTIONS.len()..];
        assert_eq!(tag[..6], [253, 14, 0x4e, 0x52, 0x85, 3]);
        assert_eq!((&tag[6..14], &tag[14..]), (&mac[..], &[1, 1][..]));
        assert!(packet.tcp_checksum_ok::<V4>());
    }

    #[test]
    fn only_holders_of_the_key_can_verify_it() {
        let (packet, tag) = signed::<V4>(&syn(), &keys(3));
        assert!(is_valid(keys(9).at(NOW).verify::<V4, _>(&packet, &tag)));
        let others = Keys::new([(3, [6; 16])], None);
        assert_eq!(others.at(NOW).verify::<V4, _>(&packet, &tag), Verification::Invalid);
        let unknown = Keys::new([(9, [7; 16])], None);
        assert_eq!(unknown.at(NOW).verify::<V4, _>(&packet, &tag), Verification::Invalid);
        assert_eq!(Keys::default().at(NOW).verify::<V4, _>(&packet, &tag), Verification::Unsigned);
        assert_eq!(keys(3).at(NOW).verify::<V4, _>(&packet, &TAG), Verification::Unsigned);
    }

    #[test]
    fn is_invalid_on_another_connection() {
        let (_, tag) = signed::<V4>(&syn(), &keys(3));
        for other in [
            Segment::syn("198.18.1.11:40000", "203.0.113.10:80", 7),
            Segment::syn("198.18.1.10:40001", "203.0.113.10:80", 7),
            Segment::syn("198.18.1.10:40000", "203.0.113.11:80", 7),
            Segment::syn("198.18.1.10:40000", "203.0.113.10:81", 7),
            Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 8),
        ] {
            let packet = Packet::new(HeapBuffer::new(&other.frame()));
            assert_eq!(keys(3).at(NOW).verify::<V4, _>(&packet, &tag), Verification::Invalid);
        }
        let mut changed = tag;
        if let Some(signature) = &mut changed.signature {
            signature.flags ^= 2;
        }
        let packet = Packet::new(HeapBuffer::new(&syn().frame()));
        assert_eq!(keys(3).at(NOW).verify::<V4, _>(&packet, &changed), Verification::Invalid);
    }

    #[test]
    fn ipv6_syns_are_signed_and_verified() {
        let syn = Segment::syn("[2001:db8::1]:40000", "[2001:db8::2]:80", 7);
        let (packet, tag) = signed::<V6>(&syn, &keys(9));
        assert!(packet.tcp_checksum_ok::<V6>());
        assert!(is_valid(keys(3).at(NOW).verify::<V6, _>(&packet, &tag)));
    }

    #[test]
    fn a_signature_is_valid_in_its_epoch_and_in_those_next_to_it() {
        for signed_at in [0, 31, 32, 63] {
            let (packet, tag) = {
                let mut packet = Packet::new(HeapBuffer::new(&syn().frame()));
                let now = NOW + Ticks::from_secs(signed_at);
                let keys = keys(3);
                let id = OptionId::default();
                assert!(tag::insert::<V4, _>(&mut packet, id, TAG, keys.at(now)));
                let Found::Tag(tag, ..) = id.find(packet.options()) else { panic!() };
                (packet, tag)
            };
            for (seconds, expected) in
                [(-65, false), (-64, true), (-1, true), (0, true), (127, true), (128, false)]
            {
                let now = Ticks(NOW.0.wrapping_add_signed(seconds * 1_000_000_000));
                let verified = keys(9).at(now).verify::<V4, _>(&packet, &tag);
                assert_eq!(is_valid(verified), expected, "{seconds}");
                if let Verification::Valid(proof) = verified {
                    assert_eq!(proof.epoch, Epoch(0x0195_4fc4));
                }
            }
        }
    }

    #[test]
    fn the_clock_tells_the_epoch() {
        let clock = UnixClock::default();
        let keys = keys(3).with_clock(clock.clone());
        assert_eq!(keys.at(Ticks::from_secs(128)).epoch(), Epoch(2));
        let unix = std::time::Duration::from_secs(1_700_000_000);
        clock.set(unix, Ticks::from_secs(100));
        assert_eq!(keys.at(Ticks::from_secs(100)).epoch(), Epoch(26_562_500));
        assert_eq!(keys.at(Ticks::from_secs(99)).epoch(), Epoch(26_562_499));
        // A clock that is set back.
        clock.set(std::time::Duration::ZERO, Ticks::from_secs(100));
        assert_eq!(keys.at(Ticks::from_secs(164)).epoch(), Epoch(1));
    }
}
