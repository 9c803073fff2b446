//! The Internet checksum (RFC 1071), computed plainly. It is the only one in tests and benchmarks.

use std::net::IpAddr;

/// What a wrong checksum differs by, in the arithmetic of RFC 1071. An incremental update
/// preserves the difference.
const ERROR: u32 = 0x0101;

/// Returns the checksum, or a wrong one.
pub(super) fn spoiled(sum: u16, spoil: bool) -> u16 {
    let wrong = u32::from(sum) + ERROR;
    if spoil { ((wrong & 0xffff) + (wrong >> 16)) as u16 } else { sum }
}

/// Returns the checksum of data whose 16-bit words add up to `sum`: the complement of the sum
/// with all carries added in.
#[inline(always)]
pub const fn complement(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Returns the checksum over parts. All but the last part have an even length, and all together
/// at most 128 KiB. It is 0 over data that contains its own correct checksum.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    };
    complement(parts.iter().flat_map(|part| part.chunks(2)).map(word).sum())
}

/// Returns the checksum of a transport segment, pseudo-header included: that of RFC 9293 or,
/// between IPv6 addresses, of RFC 8200 section 8.1.
pub fn transport(ends: (IpAddr, IpAddr), protocol: u8, segment: &[u8]) -> u16 {
    let ends = [octets(ends.0), octets(ends.1)].concat();
    // The two pseudo-headers differ only in zeros, which add nothing.
    let length = (segment.len() as u32).to_be_bytes();
    checksum(&[&ends, &length, &[0, protocol], segment])
}

/// Returns an address in network byte order.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn all_carries_are_added_in() {
        assert_eq!(complement(0xffff_ffff), 0);
        assert_eq!(complement(0x0001_ffff), !1);
        assert_eq!(checksum(&[&[0xff; 0x10000], &[0xff]]), !0xff00);
    }
}
