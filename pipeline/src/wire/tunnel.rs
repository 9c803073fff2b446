//! Tunnel headers, between the outer IP header and the inner packet: none for IP in IP (RFC 2003,
//! RFC 2473, RFC 4213), GRE (RFC 2784), or UDP and GUE variant 0 (draft-ietf-intarea-gue).

use super::{named_values, put_u16, u16_at};
use crate::wire::family::{Family, Version};

named_values! {
    /// A tunnel format.
    ///
    /// ```rust
    /// use pipeline::wire::family::{V4, V6};
    /// use pipeline::wire::tunnel::Format;
    ///
    /// assert_eq!(Format::ALL.map(Format::name), ["ipip", "gre", "gue"]);
    /// assert_eq!(Format::from_name("gre"), Some(Format::Gre));
    /// assert_eq!(Format::from_name("vxlan"), None);
    /// assert_eq!(Format::Gue.overhead::<V4>(), 20 + 8 + 4);
    /// assert_eq!(Format::most_overhead::<V6>(), Format::Gue.overhead::<V6>());
    /// ```
    #[derive(Default)]
    pub enum Format {
        /// IP in IP: the packet follows the outer header.
        #[default]
        Ipip = "ipip",
        /// GRE without key, checksum or sequence number.
        Gre = "gre",
        /// GUE over UDP, variant 0, without optional fields.
        Gue = "gue",
    }
}

/// Protocol number of GRE.
pub const GRE: u8 = 47;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// UDP destination port of GUE.
pub const GUE_PORT: u16 = 6080;
/// Lowest UDP source port of GUE.
const FIRST_SOURCE_PORT: u16 = 49152;
/// Length of a UDP header in bytes.
pub const UDP_HEADER: usize = 8;
/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: usize = 6;
const GRE_HEADER: usize = 4;
const GUE_HEADER: usize = 4;

impl Format {
    /// Returns the number of bytes between the outer IP header and the inner packet.
    pub const fn header(self) -> usize {
        match self {
            Format::Ipip => 0,
            Format::Gre => GRE_HEADER,
            Format::Gue => UDP_HEADER + GUE_HEADER,
        }
    }

    /// Returns the protocol number in the outer IP header.
    pub const fn protocol(self, inner: Version) -> u8 {
        match self {
            Format::Ipip => inner.protocol(),
            Format::Gre => GRE,
            Format::Gue => UDP,
        }
    }

    /// Returns the UDP destination port, or `None` if the format does not use UDP.
    pub const fn udp_port(self) -> Option<u16> {
        match self {
            Format::Ipip | Format::Gre => None,
            Format::Gue => Some(GUE_PORT),
        }
    }

    /// Returns whether the format uses UDP, so that its checksum has to be correct.
    #[inline(always)]
    pub const fn is_udp(self) -> bool {
        self.udp_port().is_some()
    }

    /// Returns the number of bytes that a tunnel adds in front of a packet, outer IP header
    /// included.
    #[inline(always)]
    pub const fn overhead<F: Family>(self) -> usize {
        F::HEADER + self.header()
    }

    /// Returns the largest overhead of all formats.
    pub const fn most_overhead<F: Family>() -> usize {
        let (mut most, mut number) = (0, 0);
        while number < Self::ALL.len() {
            let overhead = Self::ALL[number].overhead::<F>();
            most = if overhead > most { overhead } else { most };
            number += 1;
        }
        most
    }

    /// Returns the format of a packet whose outer IP header has this protocol and is followed by
    /// `bytes`, or `None` if it is not a tunnel.
    fn detect(protocol: u8, bytes: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|format| match format {
            Format::Ipip => Version::from_protocol(protocol).is_some(),
            Format::Gre => protocol == GRE,
            Format::Gue => {
                protocol == UDP && bytes.len() >= UDP_HEADER && u16_at(bytes, 2) == GUE_PORT
            }
        })
    }

    /// Writes the tunnel header in front of an inner packet of `length` bytes, with UDP checksum
    /// zero. `entropy` lets routers that balance load distinguish the connections in a tunnel.
    #[inline]
    pub fn emit(self, bytes: &mut [u8], inner: Version, length: usize, entropy: u32) {
        match self {
            Format::Ipip => {}
            Format::Gre => {
                put_u16(bytes, 0, 0);
                put_u16(bytes, 2, inner.ethertype());
            }
            Format::Gue => {
                put_u16(bytes, 0, FIRST_SOURCE_PORT | entropy as u16 & !FIRST_SOURCE_PORT);
                put_u16(bytes, 2, GUE_PORT);
                put_u16(bytes, 4, (UDP_HEADER + GUE_HEADER + length) as u16);
                put_u16(bytes, UDP_CHECKSUM, 0);
                bytes[8..12].copy_from_slice(&[0, inner.protocol(), 0, 0]);
            }
        }
    }
}

/// A parsed tunnel header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Format of the tunnel.
    pub format: Format,
    /// Length of the header in bytes, up to the inner packet.
    pub length: usize,
    /// IP family of the inner packet.
    pub inner: Version,
}

/// A tunnel header that is truncated or has a version, flag or option that is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported;

/// Parses the tunnel header behind an outer IP header with this protocol and `length` bytes of
/// payload.
///
/// Returns `None` if the packet is not a tunnel.
///
/// ```rust
/// use pipeline::wire::family::Version;
/// use pipeline::wire::tunnel::{self, Format, Unsupported};
///
/// let mut gre = [0, 0, 0x08, 0x00];
/// let header = tunnel::parse(tunnel::GRE, &gre, 24).and_then(Result::ok);
/// assert_eq!(header.map(|header| header.format), Some(Format::Gre));
/// assert_eq!(header.map(|header| header.inner), Some(Version::V4));
///
/// // A key is not supported.
/// gre[0] = 0x20;
/// assert_eq!(tunnel::parse(tunnel::GRE, &gre, 24), Some(Err(Unsupported)));
/// ```
pub fn parse(protocol: u8, bytes: &[u8], length: usize) -> Option<Result<Header, Unsupported>> {
    let format = Format::detect(protocol, bytes)?;
    let inner = match format {
        Format::Ipip => Version::from_protocol(protocol),
        Format::Gre => gre(bytes),
        Format::Gue => gue(bytes, length),
    };
    Some(match inner {
        Some(inner) => Ok(Header { format, length: format.header(), inner }),
        None => Err(Unsupported),
    })
}

/// Returns whether a UDP header is addressed to the port of a tunnel format.
#[inline(always)]
pub fn is_tunnel_port(udp: &[u8]) -> bool {
    let port = u16_at(udp, 2);
    Format::ALL.into_iter().any(|format| format.udp_port() == Some(port))
}

fn gre(bytes: &[u8]) -> Option<Version> {
    let bytes = bytes.get(..GRE_HEADER)?;
    // Key, checksum, sequence number or another version: not supported.
    if u16_at(bytes, 0) != 0 {
        return None;
    }
    Version::from_ethertype(u16_at(bytes, 2))
}

fn gue(bytes: &[u8], length: usize) -> Option<Version> {
    let header = bytes.get(..UDP_HEADER + GUE_HEADER)?;
    let [first, protocol, flags @ ..] = [header[8], header[9], header[10], header[11]];
    // Another variant, a control message, optional fields or flags: not supported.
    if first != 0 || flags != [0, 0] || usize::from(u16_at(header, 4)) != length {
        return None;
    }
    Version::from_protocol(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_emitted_header_parses_back() {
        for format in Format::ALL {
            for inner in [Version::V4, Version::V6] {
                let mut bytes = [0xee; 32];
                format.emit(&mut bytes, inner, 20, 0xffff_ffff);
                let length = format.header() + 20;
                let parsed = parse(format.protocol(inner), &bytes, length);
                assert_eq!(parsed, Some(Ok(Header { format, length: format.header(), inner })));
            }
        }
    }

    #[test]
    fn the_source_port_of_gue_is_dynamic() {
        for entropy in [0, 1, 0x3fff, 0xc000, u32::MAX] {
            let mut bytes = [0; 12];
            Format::Gue.emit(&mut bytes, Version::V4, 20, entropy);
            assert!(u16_at(&bytes, 0) >= 49152);
            assert_eq!(u16_at(&bytes, 0) & 0x3fff, entropy as u16 & 0x3fff);
        }
    }

    #[test]
    fn unsupported_headers_differ_from_packets_without_a_tunnel() {
        let mut gue = [0; 12];
        Format::Gue.emit(&mut gue, Version::V6, 0, 5);
        let with = |at: usize, value: u8| {
            let mut bytes = gue;
            bytes[at] = value;
            parse(UDP, &bytes, 12)
        };
        assert_eq!(with(3, 0), None, "another port");
        for (at, value) in [(8, 0x40), (8, 0x20), (8, 1), (9, 6), (10, 1), (11, 1), (5, 11)] {
            assert_eq!(with(at, value), Some(Err(Unsupported)), "byte {at} = {value:#x}");
        }
        assert_eq!(parse(UDP, &gue[..11], 12), Some(Err(Unsupported)));
        assert_eq!(parse(UDP, &gue[..7], 12), None);
        assert_eq!(parse(GRE, &[0x20, 0, 8, 0], 4), Some(Err(Unsupported)), "a key");
        assert_eq!(parse(GRE, &[0, 0, 8, 6], 4), Some(Err(Unsupported)), "ARP");
        assert_eq!(parse(GRE, &[0, 0, 8], 3), Some(Err(Unsupported)));
        assert_eq!(parse(6, &[0; 20], 20), None);
    }
}
