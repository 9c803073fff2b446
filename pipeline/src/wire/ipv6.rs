//! IPv6 header and extension headers (RFC 8200).

use std::net::Ipv6Addr;

use super::checksum::{Delta, Sum};
use super::{array_at, put_u16, u16_at, u32_at};

/// Length of the header in bytes, without extension headers.
pub const HEADER: usize = 40;
/// Protocol number of ICMPv6 (RFC 4443).
pub const ICMP: u8 = 58;
/// The smallest MTU that a link may have, in bytes (RFC 8200, section 5).
pub const MINIMUM_MTU: u16 = 1280;

const PAYLOAD_LENGTH: usize = 4;
/// Offset of the next header's protocol number.
pub const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const SOURCE: usize = 8;
const DESTINATION: usize = 24;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Largest number of extension headers that are parsed. A packet with more is not handled.
const MAX_EXTENSIONS: usize = 8;
/// Length of a fragment header in bytes.
pub const FRAGMENT_HEADER: usize = 8;

/// The reason why bytes are not a valid IPv6 header, or its extension headers are not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// There are fewer bytes than the header has.
    Truncated,
    /// The version is not 6.
    Version,
    /// The payload length is beyond the frame.
    PayloadLength,
    /// The extension headers are longer than the packet, or too many, or include a routing header
    /// with segments left.
    Extensions,
}

/// Checks version and length, and returns the packet's length in bytes, header included.
///
/// The packet has `available` bytes in the frame, of which `ip` are contiguous. The other functions
/// of this module may panic on bytes that were not checked.
///
/// # Errors
/// The first field that is not valid.
pub fn check(ip: &[u8], available: usize) -> Result<usize, Malformed> {
    if ip.len() < HEADER {
        return Err(Malformed::Truncated);
    }
    if version(ip) != 6 {
        return Err(Malformed::Version);
    }
    match length(ip) {
        length if length > available => Err(Malformed::PayloadLength),
        length => Ok(length),
    }
}

/// The end of a chain of extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Protocol of the payload. For a later fragment it is the next header of its fragment header.
    pub protocol: u8,
    /// Offset of the payload from the start of the IPv6 header.
    pub offset: usize,
    /// Offset of the fragment header. `None` for a packet that is whole in one fragment (RFC 6946),
    /// because it is handled like one without a fragment header.
    pub fragment: Option<usize>,
}

/// Walks the extension headers of a packet of `length` bytes that has passed [`check`].
///
/// A header that authenticates or encrypts the packet (AH, ESP) ends the walk like a payload.
///
/// ```rust
/// use firstack_packets::Segment;
/// use pipeline::wire::ipv6;
///
/// let mut ip = Segment::syn("[2001:db8:1::10]:40000", "[2001:db8:2::10]:80", 7).packet();
/// assert_eq!(ipv6::check(&ip, ip.len()), Ok(80));
/// assert_eq!(ipv6::walk(&ip, 80).map(|chain| (chain.protocol, chain.offset)), Ok((6, 40)));
///
/// // A routing header that is cut off.
/// ip[6] = 43;
/// assert_eq!(ipv6::walk(&ip, 44), Err(ipv6::Malformed::Extensions));
/// ```
///
/// # Errors
/// [`Malformed::Extensions`] if the headers are truncated or not supported.
pub fn walk(ip: &[u8], length: usize) -> Result<Chain, Malformed> {
    let ip = &ip[..length.min(ip.len())];
    let (mut protocol, mut offset, mut fragment) = (ip[NEXT_HEADER], HEADER, None);
    for _ in 0..=MAX_EXTENSIONS {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            return Ok(Chain { protocol, offset, fragment });
        }
        let header = ip.get(offset..offset + 8).ok_or(Malformed::Extensions)?;
        let bytes = match protocol {
            FRAGMENT => FRAGMENT_HEADER,
            // With segments left, the destination address that the checksum covers is not in the
            // IPv6 header.
            ROUTING if header[3] != 0 => return Err(Malformed::Extensions),
            _ => (usize::from(header[1]) + 1) * 8,
        };
        if protocol == FRAGMENT {
            let place = u16_at(header, 2);
            if place & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0 {
                fragment = Some(offset);
            }
            if place & FRAGMENT_OFFSET != 0 {
                return Ok(Chain { protocol: header[0], offset: offset + bytes, fragment });
            }
        }
        protocol = header[0];
        offset += bytes;
        if offset > length {
            return Err(Malformed::Extensions);
        }
    }
    Err(Malformed::Extensions)
}

const FRAGMENT_OFFSET: u16 = 0xfff8;
const MORE_FRAGMENTS: u16 = 0x0001;

/// Returns whether the fragment header at offset `fragment` is that of a later fragment, without
/// the first bytes of the packet.
pub fn is_later_fragment(ip: &[u8], fragment: usize) -> bool {
    u16_at(ip, fragment + 2) & FRAGMENT_OFFSET != 0
}

/// Returns the identification in the fragment header at offset `fragment`, which all fragments of a
/// packet share.
pub fn identification(ip: &[u8], fragment: usize) -> u32 {
    u32_at(ip, fragment + 4)
}

/// Returns the IP version that the first byte states.
#[inline(always)]
pub fn version(ip: &[u8]) -> u8 {
    ip[0] >> 4
}

/// Returns the length of the packet in bytes, header included.
#[inline(always)]
pub fn length(ip: &[u8]) -> usize {
    HEADER + usize::from(u16_at(ip, PAYLOAD_LENGTH))
}

/// Sets the length of the packet in bytes, header included.
#[inline(always)]
pub fn set_length(ip: &mut [u8], length: usize) {
    put_u16(ip, PAYLOAD_LENGTH, (length - HEADER) as u16);
}

/// Returns DSCP and ECN.
#[inline(always)]
pub fn traffic_class(ip: &[u8]) -> u8 {
    (u16_at(ip, 0) >> 4) as u8
}

/// Returns the hop limit.
#[inline(always)]
pub fn hop_limit(ip: &[u8]) -> u8 {
    ip[HOP_LIMIT]
}

/// Sets DSCP and ECN.
pub fn set_traffic_class(ip: &mut [u8], value: u8) {
    let word = u16_at(ip, 0) & 0xf00f | u16::from(value) << 4;
    put_u16(ip, 0, word);
}

/// Returns the source address.
#[inline(always)]
pub fn source(ip: &[u8]) -> Ipv6Addr {
    address(ip, SOURCE)
}

/// Returns the destination address.
#[inline(always)]
pub fn destination(ip: &[u8]) -> Ipv6Addr {
    address(ip, DESTINATION)
}

#[inline(always)]
fn address(ip: &[u8], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(array_at(ip, at))
}

/// Sets the source address and returns the change for the payload's checksum.
#[inline(always)]
pub fn set_source(ip: &mut [u8], address: Ipv6Addr) -> Delta {
    set_address(ip, SOURCE, address)
}

/// Sets the destination address and returns the change for the payload's checksum.
#[inline(always)]
pub fn set_destination(ip: &mut [u8], address: Ipv6Addr) -> Delta {
    set_address(ip, DESTINATION, address)
}

#[inline(always)]
fn set_address(ip: &mut [u8], at: usize, address: Ipv6Addr) -> Delta {
    let (old, new): ([u8; 16], _) = (array_at(ip, at), address.octets());
    ip[at..at + 16].copy_from_slice(&new);
    // Unrolled by the compiler: the sums of slices are loops.
    let word = |number: usize| Delta::double(u32_at(&old, 4 * number), u32_at(&new, 4 * number));
    word(0).plus(word(1)).plus(word(2)).plus(word(3))
}

/// Returns the sum of the pseudo header for the checksum of a TCP, UDP or ICMPv6 payload of
/// `length` bytes.
pub fn pseudo_header(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> Sum {
    Sum::of(&source.octets())
        .plus(Sum::of(&destination.octets()))
        .plus(Sum::of_word(u16::from(protocol)))
        .plus(Sum::of(&length.to_be_bytes()))
}

/// The fields of a header to write.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, the lower 20 bits (RFC 6437).
    pub flow_label: u32,
    /// Length of header and payload in bytes.
    pub length: usize,
    /// Hop limit.
    pub hop_limit: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Header {
    /// Writes a header of 40 bytes.
    #[inline(always)]
    pub fn emit(&self, ip: &mut [u8]) {
        // One bounds check for all fields.
        let ip = &mut ip[..HEADER];
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        ip[..4].copy_from_slice(&first.to_be_bytes());
        set_length(ip, self.length);
        ip[NEXT_HEADER] = self.protocol;
        ip[HOP_LIMIT] = self.hop_limit;
        ip[SOURCE..SOURCE + 16].copy_from_slice(&self.source.octets());
        ip[DESTINATION..DESTINATION + 16].copy_from_slice(&self.destination.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
    const V: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10);

    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut ip = vec![0; HEADER];
        let length = HEADER + payload.len();
        Header {
            traffic_class: 0xba,
            flow_label: 0x12345,
            length,
            hop_limit: 64,
            protocol,
            source: C,
            destination: V,
        }
        .emit(&mut ip);
        ip.extend_from_slice(payload);
        ip
    }

    fn chain(protocol: u8, payload: &[u8]) -> Result<Chain, Malformed> {
        let ip = packet(protocol, payload);
        walk(&ip, ip.len())
    }

    #[test]
    fn an_emitted_header_parses_back() {
        let mut ip = packet(6, &[0; 20]);
        assert_eq!(ip[..4], [0x6b, 0xa1, 0x23, 0x45]);
        assert_eq!(check(&ip, 60), Ok(60));
        assert_eq!((source(&ip), destination(&ip), traffic_class(&ip)), (C, V, 0xba));
        set_traffic_class(&mut ip, 0x45);
        assert_eq!(ip[..4], [0x64, 0x51, 0x23, 0x45]);
        assert_eq!(check(&ip, 59), Err(Malformed::PayloadLength));
        assert_eq!(check(&ip[..39], 60), Err(Malformed::Truncated));
        ip[0] = 0x45;
        assert_eq!(check(&ip, 60), Err(Malformed::Version));
    }

    #[test]
    fn an_address_change_updates_the_payload_checksum() {
        let mut ip = packet(6, &[0; 20]);
        let before = pseudo_header(C, V, 6, 20).checksum();
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 1, 2, 3, 4, 5);
        let delta = set_source(&mut ip, other).plus(set_destination(&mut ip, C));
        assert_eq!(delta.apply(before), pseudo_header(other, C, 6, 20).checksum());
    }

    proptest::proptest! {
        #[test]
        fn any_address_change_updates_the_payload_checksum(
            from in addresses(), to in addresses(), wrong in 0u16..2,
        ) {
            let mut ip = packet(6, &[0; 20]);
            set_source(&mut ip, from);
            let before = pseudo_header(from, V, 6, 20).checksum();
            let after = set_source(&mut ip, to).apply(before ^ wrong);
            let right = pseudo_header(to, V, 6, 20).checksum();
            proptest::prop_assert_eq!((source(&ip), destination(&ip)), (to, V));
            proptest::prop_assert_eq!(after == right, wrong == 0);
        }
    }

    /// Any address, and those of which sums wrap around.
    fn addresses() -> impl proptest::strategy::Strategy<Value = Ipv6Addr> {
        use proptest::prelude::{Strategy, any};
        let high = u128::from(u64::MAX) << 64;
        let wrapping = [0, u128::MAX, high, !high, 1, !1, high | 1, 1 << 64];
        let wrapping = proptest::sample::select(wrapping.to_vec());
        proptest::prop_oneof![any::<u128>(), wrapping].prop_map(Ipv6Addr::from)
    }

    #[test]
    fn the_walk_over_extension_headers_is_bounded() {
        let plain = Chain { protocol: 6, offset: 40, fragment: None };
        assert_eq!(chain(6, &[0; 20]), Ok(plain));
        let hop = [60, 0, 1, 4, 0, 0, 0, 0, 6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(chain(HOP_BY_HOP, &hop), Ok(Chain { offset: 64, ..plain }));
        assert_eq!(chain(HOP_BY_HOP, &hop[..23]), Err(Malformed::Extensions));
        assert_eq!(chain(ROUTING, &[6, 0, 0, 0, 0, 0, 0, 0]), Ok(Chain { offset: 48, ..plain }));
        assert_eq!(chain(ROUTING, &[6, 0, 0, 1, 0, 0, 0, 0]), Err(Malformed::Extensions));
        let many = |count: usize| {
            let mut bytes = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
            bytes[(count - 1) * 8] = 6;
            chain(DESTINATION_OPTIONS, &bytes)
        };
        assert_eq!(many(8), Ok(Chain { offset: 40 + 64, ..plain }));
        assert_eq!(many(9), Err(Malformed::Extensions));
        assert_eq!(chain(51, &[0; 20]).map(|chain| chain.protocol), Ok(51), "AH ends the walk");
    }

    #[test]
    fn first_and_later_fragments_are_recognised() {
        let first = chain(FRAGMENT, &[6, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(first, Ok(Chain { protocol: 6, offset: 48, fragment: Some(40) }));
        let later = packet(FRAGMENT, &[6, 0, 0, 8, 0, 0, 0, 9]);
        let found = walk(&later, later.len()).unwrap();
        assert!(is_later_fragment(&later, found.fragment.unwrap()));
        assert_eq!(identification(&later, 40), 9);
        // RFC 6946: an atomic fragment is a whole packet.
        assert_eq!(chain(FRAGMENT, &[6, 0, 0, 0, 0, 0, 0, 9]).unwrap().fragment, None);
    }
}
