//! The tag of a SYN (docs/protocol.md, "The tag"), and its signature.

use std::hash::Hasher;
use std::net::IpAddr;

use super::checksum::octets;

/// The option kind, by default (docs/configuration.md, `[tag]`).
pub const KIND: u8 = 253;
/// The ExID, by default.
pub const EXID: [u8; 2] = [0x4e, 0x52];
/// The flag that permits redirection.
pub const PERMITTED: u8 = 0x01;
/// The flag that announces a key id and a MAC.
pub const SIGNED: u8 = 0x80;

/// A key that tags are signed with.
pub type Key = [u8; 16];

/// A tag to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Offset of the MAC in the option area. Flags and key id precede it.
    pub at: usize,
    /// The key.
    pub key: Key,
    /// The epoch that it is made in.
    pub epoch: u32,
}

impl Signature {
    /// Writes the MAC into the option area of the SYN.
    pub fn write(&self, area: &mut [u8], syn: Signed) {
        let [flags, id] = [area[self.at - 2], area[self.at - 1]];
        area[self.at..self.at + 8].copy_from_slice(&mac(self.key, syn, (flags, id), self.epoch));
    }
}

/// The seconds of an epoch.
pub const EPOCH_SECONDS: u64 = 64;

/// The fields of a SYN that a signature covers, beside flags, key id and epoch.
#[derive(Clone, Copy, Debug)]
pub struct Signed {
    /// Client and service.
    pub ends: (IpAddr, IpAddr),
    /// Their ports.
    pub ports: (u16, u16),
    /// Sequence number.
    pub seq: u32,
}

/// Returns flags that permit redirection by a gateway of this configuration: 0 is A, 1 is B, 2
/// is C.
pub const fn flags(configuration: u8) -> u8 {
    PERMITTED | configuration << 1
}

/// The number of copies wanted that asks for none; 0 asks for all.
pub const NO_COPIES: u8 = 15;

/// Returns these flags with this number of copies wanted, from 0 to [`NO_COPIES`].
pub const fn wanting(flags: u8, copies: u8) -> u8 {
    flags | copies << 3
}

/// Returns the number of copies wanted in these flags.
pub const fn copies(flags: u8) -> u8 {
    flags >> 3 & 0xf
}

/// Returns the option of an unsigned tag, padded with NOPs to whole words.
pub const fn unsigned(flags: u8) -> [u8; 8] {
    [KIND, 5, EXID[0], EXID[1], flags, 1, 1, 1]
}

/// Returns the option of a tag with this key id and MAC, padded with NOPs to whole words. `flags`
/// includes [`SIGNED`], unless the tag is meant to be wrong.
pub fn with_mac(flags: u8, id: u8, mac: [u8; 8]) -> Vec<u8> {
    [&[KIND, 14, EXID[0], EXID[1], flags, id][..], &mac, &[1, 1]].concat()
}

/// Returns the MAC of a tag with these flags and this key id, made in this epoch.
pub fn mac(key: Key, syn: Signed, (flags, id): (u8, u8), epoch: u32) -> [u8; 8] {
    let mut data = [octets(syn.ends.0), octets(syn.ends.1)].concat();
    data.extend(syn.ports.0.to_be_bytes());
    data.extend(syn.ports.1.to_be_bytes());
    data.extend(syn.seq.to_be_bytes());
    data.extend([flags, id]);
    data.extend(epoch.to_be_bytes());
    siphash(key, &data).to_be_bytes()
}

/// Returns SipHash-2-4, as the standard library computes it. The appliance has another
/// implementation.
#[allow(deprecated)]
fn siphash(key: Key, data: &[u8]) -> u64 {
    let [low, high] = [0, 8].map(|at| {
        let mut half = [0; 8];
        half.copy_from_slice(&key[at..at + 8]);
        u64::from_le_bytes(half)
    });
    let mut hasher = std::hash::SipHasher::new_with_keys(low, high);
    hasher.write(data);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_siphash_paper() {
        let message: Vec<u8> = (0..15).collect();
        let key = std::array::from_fn(|at| at as u8);
        assert_eq!(siphash(key, &message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn the_number_of_copies_stands_in_bits_3_to_6() {
        assert_eq!(wanting(flags(2), 1), 0x0d);
        assert_eq!(wanting(flags(0) | SIGNED, NO_COPIES), 0xf9);
        assert_eq!((copies(0x0d), copies(0xf9), copies(flags(1))), (1, NO_COPIES, 0));
    }

    #[test]
    fn a_signature_covers_the_fields_that_the_protocol_lists() {
        let key = [3; 16];
        let syn =
            Signed { ends: ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()), ports: (1, 2), seq: 3 };
        let data = [10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 0, 0, 3, 0x83, 7, 0, 0, 1, 9];
        assert_eq!(mac(key, syn, (0x83, 7), 0x109), siphash(key, &data).to_be_bytes());
        let mut area = with_mac(flags(1) | SIGNED, 7, [0; 8]);
        Signature { at: 6, key, epoch: 0x109 }.write(&mut area, syn);
        assert_eq!(area[6..14], siphash(key, &data).to_be_bytes());
    }
}
