//! IPv4 header (RFC 791).

use std::net::Ipv4Addr;

use super::checksum::{Delta, Sum};
use super::{put_u16, put_u32, u16_at, u32_at};

/// Length of the header in bytes, without options.
pub const HEADER: usize = 20;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of IPv4 in IP (RFC 2003).
pub const IPIP: u8 = 4;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of IPv6 in IP (RFC 4213).
pub const IPV6: u8 = 41;

const TOTAL_LENGTH: usize = 2;
const FRAGMENT: usize = 6;
const TTL: usize = 8;
/// Offset of the protocol number.
pub const PROTOCOL: usize = 9;
const CHECKSUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// The reason why bytes are not a valid IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// There are fewer bytes than the header has.
    Truncated,
    /// The version is not 4.
    Version,
    /// The header length is below 20 bytes.
    HeaderLength,
    /// The total length is below the header's.
    TotalLength,
    /// The total length is beyond the frame.
    Cut,
}

/// Checks version and lengths, and returns header length and total length in bytes.
///
/// The packet has `available` bytes in the frame, of which `ip` are contiguous. The other functions
/// of this module may panic on bytes that were not checked.
///
/// ```rust
/// use pipeline::wire::ipv4::{self, Malformed};
///
/// let ip = [
///     0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
///     0x01, 0xc0, 0xa8, 0x00, 0xc7,
/// ];
/// assert_eq!(ipv4::check(&ip, 0x73), Ok((20, 0x73)));
/// assert_eq!(ipv4::check(&ip, 0x72), Err(Malformed::Cut));
/// assert_eq!(ipv4::check(&ip[..19], 0x73), Err(Malformed::Truncated));
/// assert!(ipv4::checksum_ok(&ip, 20) && ipv4::dont_fragment(&ip));
/// ```
///
/// # Errors
/// The first field that is not valid.
#[inline]
pub fn check(ip: &[u8], available: usize) -> Result<(usize, usize), Malformed> {
    if ip.len() < HEADER {
        return Err(Malformed::Truncated);
    }
    if ip[0] >> 4 != 4 {
        return Err(Malformed::Version);
    }
    let header = usize::from(ip[0] & 0xf) * 4;
    if header < HEADER {
        return Err(Malformed::HeaderLength);
    }
    if ip.len() < header {
        return Err(Malformed::Truncated);
    }
    let total = usize::from(u16_at(ip, TOTAL_LENGTH));
    if total < header {
        return Err(Malformed::TotalLength);
    }
    if total > available {
        return Err(Malformed::Cut);
    }
    Ok((header, total))
}

/// Returns DSCP and ECN, the former type of service byte.
#[inline]
pub fn traffic_class(ip: &[u8]) -> u8 {
    ip[1]
}

/// Returns the time to live.
#[inline]
pub fn ttl(ip: &[u8]) -> u8 {
    ip[TTL]
}

/// Sets DSCP and ECN and updates the header checksum.
pub fn set_traffic_class(ip: &mut [u8], value: u8) {
    let old = u16_at(ip, 0);
    ip[1] = value;
    apply(ip, Delta::word(old, u16_at(ip, 0)));
}

/// Returns the total length in bytes, header included.
pub fn total_length(ip: &[u8]) -> u16 {
    u16_at(ip, TOTAL_LENGTH)
}

/// Sets the total length and updates the header checksum.
pub fn set_total_length(ip: &mut [u8], length: u16) {
    let delta = Delta::word(total_length(ip), length);
    put_u16(ip, TOTAL_LENGTH, length);
    apply(ip, delta);
}

/// Returns the identification, which all fragments of a packet share.
pub fn identification(ip: &[u8]) -> u16 {
    u16_at(ip, 4)
}

/// Returns whether DF is set, which forbids routers to fragment the packet.
pub fn dont_fragment(ip: &[u8]) -> bool {
    u16_at(ip, FRAGMENT) & DONT_FRAGMENT != 0
}

/// Returns the offset of this fragment's payload in the packet's, in bytes, and whether more
/// fragments follow.
pub fn fragment_place(ip: &[u8]) -> (usize, bool) {
    let field = u16_at(ip, FRAGMENT);
    (usize::from(field & FRAGMENT_OFFSET) * 8, field & MORE_FRAGMENTS != 0)
}

/// Makes the header that of a fragment and updates the header checksum. `offset` is in bytes, a
/// multiple of 8; `more` says whether more fragments follow. Clears DF.
pub fn set_fragment_place(ip: &mut [u8], offset: usize, more: bool) {
    let old = u16_at(ip, FRAGMENT);
    let new = (offset / 8) as u16 & FRAGMENT_OFFSET | if more { MORE_FRAGMENTS } else { 0 };
    put_u16(ip, FRAGMENT, new);
    apply(ip, Delta::word(old, new));
}

/// Returns whether this is a fragment, first or later.
#[inline]
pub fn is_fragment(ip: &[u8]) -> bool {
    u16_at(ip, FRAGMENT) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
}

/// Returns whether this is a later fragment, without the first bytes of the packet.
pub fn is_later_fragment(ip: &[u8]) -> bool {
    u16_at(ip, FRAGMENT) & FRAGMENT_OFFSET != 0
}

/// Returns the protocol of the payload.
#[inline]
pub fn protocol(ip: &[u8]) -> u8 {
    ip[PROTOCOL]
}

/// Returns whether the header has no options, is not a fragment's, and has this protocol. `ip` has
/// at least 20 bytes.
#[inline(always)]
pub fn is_plain(ip: &[u8], protocol: u8) -> bool {
    const PLACE: u32 = ((MORE_FRAGMENTS | FRAGMENT_OFFSET) as u32) << 16;
    // One load covers flags and fragment offset, time to live, and protocol.
    ip[0] == 0x45 && u32_at(ip, FRAGMENT) & (PLACE | 0xff) == u32::from(protocol)
}

/// Returns whether the header checksum is correct. `header` is the header's length in bytes.
#[inline(always)]
pub fn checksum_ok(ip: &[u8], header: usize) -> bool {
    // Nearly all headers have no options: 20 bytes are summed without a loop.
    let sum = match ip.first_chunk::<HEADER>() {
        Some(plain) if header == HEADER => Sum::of_header(plain),
        _ => Sum::of(&ip[..header]),
    };
    sum.fold() == 0xffff
}

/// Returns the source address.
#[inline]
pub fn source(ip: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32_at(ip, SOURCE))
}

/// Returns the destination address.
#[inline]
pub fn destination(ip: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32_at(ip, DESTINATION))
}

/// Sets the source address and updates the header checksum. Returns the change for the payload's
/// checksum.
#[inline]
pub fn set_source(ip: &mut [u8], address: Ipv4Addr) -> Delta {
    set_address(ip, SOURCE, address)
}

/// Sets the destination address and updates the header checksum. Returns the change for the
/// payload's checksum.
#[inline]
pub fn set_destination(ip: &mut [u8], address: Ipv4Addr) -> Delta {
    set_address(ip, DESTINATION, address)
}

#[inline(always)]
fn set_address(ip: &mut [u8], at: usize, address: Ipv4Addr) -> Delta {
    let delta = Delta::double(u32_at(ip, at), address.to_bits());
    ip[at..at + 4].copy_from_slice(&address.octets());
    apply(ip, delta);
    delta
}

#[inline(always)]
fn apply(ip: &mut [u8], delta: Delta) {
    let checksum = delta.apply(u16_at(ip, CHECKSUM));
    put_u16(ip, CHECKSUM, checksum);
}

/// Returns the sum of the pseudo header for the checksum of a payload of `length` bytes with this
/// protocol.
pub fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Sum {
    Sum::of(&source.octets())
        .plus(Sum::of(&destination.octets()))
        .plus(Sum::of_word(u16::from(protocol)))
        .plus(Sum::of_word(length))
}

/// The fields of a header to write.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Length of header and payload in bytes.
    pub total_length: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Header {
    /// Writes a header of 20 bytes with DF set, identification zero (RFC 6864: an atomic datagram)
    /// and a correct checksum.
    #[inline(always)]
    pub fn emit(&self, ip: &mut [u8]) {
        // Summed before it is written: reading back in large pieces what was written in small ones
        // makes the load wait for the stores.
        let first =
            0x4500_0000 | u32::from(self.traffic_class) << 16 | u32::from(self.total_length);
        let second = u32::from(DONT_FRAGMENT);
        let third = u32::from(self.ttl) << 24 | u32::from(self.protocol) << 16;
        let (source, destination) = (self.source.to_bits(), self.destination.to_bits());
        let sum = Sum::of_double(first)
            .plus(Sum::of_double(second))
            .plus(Sum::of_double(third))
            .plus(Sum::of_double(source))
            .plus(Sum::of_double(destination));
        let ip = &mut ip[..HEADER];
        put_u32(ip, 0, first);
        put_u32(ip, 4, second);
        put_u32(ip, 8, third | u32::from(sum.checksum()));
        put_u32(ip, SOURCE, source);
        put_u32(ip, DESTINATION, destination);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A well-known worked example: 192.168.0.1 to 192.168.0.199, UDP.
    const EXAMPLE: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn the_example_has_its_fields() {
        assert_eq!(check(&EXAMPLE, 0x73), Ok((20, 0x73)));
        assert!(checksum_ok(&EXAMPLE, 20));
        assert!(!is_fragment(&EXAMPLE));
        assert_eq!((protocol(&EXAMPLE), total_length(&EXAMPLE)), (17, 0x73));
        assert_eq!(source(&EXAMPLE), Ipv4Addr::new(192, 168, 0, 1));
        assert_eq!(destination(&EXAMPLE), Ipv4Addr::new(192, 168, 0, 199));
    }

    #[test]
    fn the_example_is_emitted() {
        let mut bytes = [0xff; 20];
        Header {
            traffic_class: 0,
            total_length: 0x73,
            ttl: 64,
            protocol: 17,
            source: source(&EXAMPLE),
            destination: destination(&EXAMPLE),
        }
        .emit(&mut bytes);
        assert_eq!(bytes, EXAMPLE);
    }

    #[test]
    fn setters_update_the_checksum() {
        let mut bytes = EXAMPLE;
        set_source(&mut bytes, Ipv4Addr::new(10, 1, 2, 3));
        set_destination(&mut bytes, Ipv4Addr::new(203, 0, 113, 255));
        set_total_length(&mut bytes, 1499);
        set_traffic_class(&mut bytes, 0xb9);
        assert!(checksum_ok(&bytes, 20));
        assert_eq!(source(&bytes), Ipv4Addr::new(10, 1, 2, 3));
        assert_eq!((total_length(&bytes), traffic_class(&bytes)), (1499, 0xb9));
    }

    #[test]
    fn check_finds_malformed_fields() {
        assert_eq!(check(&EXAMPLE[..19], 19), Err(Malformed::Truncated));
        let mut bytes = EXAMPLE;
        bytes[0] = 0x65;
        assert_eq!(check(&bytes, 0x73), Err(Malformed::Version));
        bytes[0] = 0x44;
        assert_eq!(check(&bytes, 0x73), Err(Malformed::HeaderLength));
        bytes[0] = 0x46;
        assert_eq!(check(&bytes, 0x73), Err(Malformed::Truncated));
        assert_eq!(check(&EXAMPLE, 0x72), Err(Malformed::Cut));
        bytes = EXAMPLE;
        put_u16(&mut bytes, TOTAL_LENGTH, 19);
        assert_eq!(check(&bytes, 0x73), Err(Malformed::TotalLength));
    }

    #[test]
    fn first_and_later_fragments_are_recognised() {
        let mut bytes = EXAMPLE;
        put_u16(&mut bytes, FRAGMENT, MORE_FRAGMENTS);
        assert!(is_fragment(&bytes) && !is_later_fragment(&bytes));
        put_u16(&mut bytes, FRAGMENT, 185);
        assert!(is_fragment(&bytes) && is_later_fragment(&bytes));
    }
}
