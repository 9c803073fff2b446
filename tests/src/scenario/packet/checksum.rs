//! The Internet checksum, computed plainly.

use std::net::IpAddr;

/// A wrong checksum is too big by this, in the arithmetic of RFC 1071: so it is after an
/// incremental update too.
const SPOILED: u32 = 0x0101;

/// The checksum, or one that is wrong.
pub(super) fn spoiled(sum: u16, spoil: bool) -> u16 {
    let wrong = u32::from(sum) + SPOILED;
    if spoil { ((wrong & 0xffff) + (wrong >> 16)) as u16 } else { sum }
}

/// RFC 1071 over parts of which all but the last are of even length.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
            sum += u64::from(u16::from_be_bytes(word));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Over the pseudo-header too: that of RFC 9293 or, between IPv6 addresses, of RFC 8200.
pub(super) fn transport(ends: (IpAddr, IpAddr), protocol: u8, data: &[u8]) -> u16 {
    let ends = [octets(ends.0), octets(ends.1)].concat();
    // Both pseudo-headers add up to the same, zeros apart.
    let length = (data.len() as u32).to_be_bytes();
    checksum(&[&ends, &length, &[0, protocol], data])
}

/// An address as it stands in a header.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_rfc_1071() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }
}
