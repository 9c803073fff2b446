//! Signatures of tags: SipHash-2-4 over the endpoints and sequence number of the SYN, under keys
//! that gateways, switches and replicas share (docs/protocol.md, 3.4). A host without a
//! key can neither generate a tag nor move one to another connection.

use std::fmt;

use siphasher::sip::SipHasher24;

use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::stage::tag::{self, Tag};
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp;

/// The keys that tags are verified with, and the one that the gateway signs with.
///
/// # Examples
/// A gateway signs with key 3; a switch that knows the key verifies the tag.
///
/// ```
/// use firstack_packets::Segment;
/// use pipeline::packet::buffer::HeapBuffer;
/// use pipeline::packet::view::Packet;
/// use pipeline::stage::sign::{Keys, Verification};
/// use pipeline::stage::tag::{self, Configuration, CopiesWanted, Found, OptionId, Tag};
/// use pipeline::wire::family::V4;
///
/// let syn = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 1000);
/// let mut packet = Packet::new(HeapBuffer::new(&syn.frame()));
/// let tag = Tag::requesting(CopiesWanted::ALL, Configuration::A);
///
/// let gateway = Keys::new([(3, [7; 16])], Some(3));
/// assert_eq!(gateway.tag_space(), 16);
/// assert!(tag::insert::<V4, _>(&mut packet, OptionId::default(), tag, &gateway));
///
/// let Found::Tag(tag, ..) = OptionId::default().find(packet.options()) else { panic!() };
/// let switch = Keys::new([(3, [7; 16])], None);
/// assert_eq!(switch.verify::<V4, _>(&packet, &tag), Verification::Valid);
/// let other = Keys::new([(3, [8; 16])], None);
/// assert_eq!(other.verify::<V4, _>(&packet, &tag), Verification::Invalid);
/// ```
#[derive(Clone, Default)]
pub struct Keys {
    /// By key id; empty when there are no keys.
    all: Box<[Option<[u8; 16]>]>,
    signing: Option<u8>,
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
    Valid,
    /// The signature is wrong, or generated with an unknown key.
    Invalid,
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

impl Keys {
    /// Returns the given keys, each with its id. `signing` is the id of the key to sign with;
    /// `None` leaves tags unsigned.
    pub fn new(keys: impl IntoIterator<Item = (u8, [u8; 16])>, signing: Option<u8>) -> Self {
        let mut all = vec![None; 256].into_boxed_slice();
        let mut any = false;
        for (id, key) in keys {
            all[usize::from(id)] = Some(key);
            any = true;
        }
        if any { Self { all, signing } } else { Self::default() }
    }

    /// Returns how many bytes a tag takes in the option area, padding included.
    pub fn tag_space(&self) -> usize {
        let length = if self.signing.is_some() { tag::SIGNED } else { tag::UNSIGNED };
        length.next_multiple_of(4)
    }

    /// Signs the tag of a SYN: returns key id and signature. `None` when tags are not signed.
    pub fn sign<F: Family, B: Buffer>(&self, packet: &Packet<B>, flags: u8) -> Option<(u8, u64)> {
        let key = self.signing?;
        let flags = flags | tag::KEYED;
        Some((key, self.mac(Signed::<F>::of(packet, flags, key))?))
    }

    /// Verifies the tag of a SYN.
    pub fn verify<F: Family, B: Buffer>(&self, packet: &Packet<B>, tag: &Tag) -> Verification {
        let Some(signature) = tag.signature.filter(|_| !self.all.is_empty()) else {
            return Verification::Unsigned;
        };
        let signed = Signed::<F>::of(packet, signature.flags, signature.key);
        match self.mac(signed) {
            Some(mac) if mac == signature.mac => Verification::Valid,
            _ => Verification::Invalid,
        }
    }

    fn mac<F: Family>(&self, signed: Signed<F>) -> Option<u64> {
        let key = self.all.get(usize::from(signed.key))?.as_ref()?;
        let mut bytes = [0; 2 * (16 + 2) + 4 + 2];
        let length = signed.write(&mut bytes);
        Some(SipHasher24::new_with_key(key).hash(&bytes[..length]))
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

    /// Writes both addresses, both ports, sequence number, flags and key id in network byte order.
    /// Returns the number of bytes written.
    fn write(&self, bytes: &mut [u8]) -> usize {
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

    fn keys(signing: u8) -> Keys {
        Keys::new([(3, [7; 16]), (9, [8; 16])], Some(signing))
    }

    fn signed<F: Family>(syn: &Segment, keys: &Keys) -> (Packet<HeapBuffer>, Tag) {
        let mut packet = Packet::new(HeapBuffer::new(&syn.frame()));
        assert!(tag::insert::<F, _>(&mut packet, OptionId::default(), TAG, keys));
        let Found::Tag(tag, ..) = OptionId::default().find(packet.options()) else {
            panic!("no tag found");
        };
        (packet, tag)
    }

    fn syn() -> Segment {
        Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).options(&LINUX_OPTIONS)
    }

    #[test]
    fn the_signature_covers_the_bytes_that_the_protocol_says() {
        let (packet, _) = signed::<V4>(&syn(), &keys(3));
        let bytes = [198, 18, 1, 10, 203, 0, 113, 10, 0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0x85, 3];
        let mac = SipHasher24::new_with_key(&[7; 16]).hash(&bytes).to_be_bytes();
        let tag = &packet.options()[LINUX_OPTIONS.len()..];
        assert_eq!(tag[..6], [253, 14, 0x4e, 0x52, 0x85, 3]);
        assert_eq!((&tag[6..14], &tag[14..]), (&mac[..], &[1, 1][..]));
        assert!(packet.tcp_checksum_ok::<V4>());
    }

    #[test]
    fn only_holders_of_the_key_can_verify_it() {
        let (packet, tag) = signed::<V4>(&syn(), &keys(3));
        assert_eq!(keys(9).verify::<V4, _>(&packet, &tag), Verification::Valid);
        let others = Keys::new([(3, [6; 16])], None);
        assert_eq!(others.verify::<V4, _>(&packet, &tag), Verification::Invalid);
        let unknown = Keys::new([(9, [7; 16])], None);
        assert_eq!(unknown.verify::<V4, _>(&packet, &tag), Verification::Invalid);
        assert_eq!(Keys::default().verify::<V4, _>(&packet, &tag), Verification::Unsigned);
        assert_eq!(keys(3).verify::<V4, _>(&packet, &TAG), Verification::Unsigned);
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
            assert_eq!(keys(3).verify::<V4, _>(&packet, &tag), Verification::Invalid);
        }
        let mut changed = tag;
        if let Some(signature) = &mut changed.signature {
            signature.flags ^= 2;
        }
        let packet = Packet::new(HeapBuffer::new(&syn().frame()));
        assert_eq!(keys(3).verify::<V4, _>(&packet, &changed), Verification::Invalid);
    }

    #[test]
    fn ipv6_syns_are_signed_and_verified() {
        let syn = Segment::syn("[2001:db8::1]:40000", "[2001:db8::2]:80", 7);
        let (packet, tag) = signed::<V6>(&syn, &keys(9));
        assert!(packet.tcp_checksum_ok::<V6>());
        assert_eq!(keys(3).verify::<V6, _>(&packet, &tag), Verification::Valid);
    }
}
