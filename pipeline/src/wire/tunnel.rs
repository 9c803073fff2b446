//! What stands between the outer IP header and the packet in a tunnel: nothing (IP in IP,
//! RFC 2003, RFC 2473, RFC 4213), GRE (RFC 2784), or UDP and GUE variant 0
//! (draft-ietf-intarea-gue).

use super::{named_values, put_u16, u16_at};
use crate::wire::family::{Family, Version};

named_values! {
    /// How a packet is put into another: the tunnel format, from the configuration file to the wire.
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
/// UDP source ports of GUE: these and all above.
const FIRST_SOURCE_PORT: u16 = 49152;
/// Bytes of a UDP header.
pub const UDP_HEADER: usize = 8;
/// Where the checksum is in a UDP header.
pub const UDP_CHECKSUM: usize = 6;
const GRE_HEADER: usize = 4;
const GUE_HEADER: usize = 4;

impl Format {
    /// Bytes between the outer IP header and the inner packet.
    pub const fn header(self) -> usize {
        match self {
            Format::Ipip => 0,
            Format::Gre => GRE_HEADER,
            Format::Gue => UDP_HEADER + GUE_HEADER,
        }
    }

    /// Protocol of the outer header's payload.
    pub const fn protocol(self, inner: Version) -> u8 {
        match self {
            Format::Ipip => inner.protocol(),
            Format::Gre => GRE,
            Format::Gue => UDP,
        }
    }

    /// UDP destination port of the formats that travel over UDP.
    pub const fn udp_port(self) -> Option<u16> {
        match self {
            Format::Ipip | Format::Gre => None,
            Format::Gue => Some(GUE_PORT),
        }
    }

    /// Whether the format travels over UDP, whose checksum then has to be right.
    #[inline(always)]
    pub const fn is_udp(self) -> bool {
        self.udp_port().is_some()
    }

    /// Bytes that a tunnel of this format adds in front of a packet: outer IP header included.
    #[inline(always)]
    pub const fn overhead<F: Family>(self) -> usize {
        F::HEADER + self.header()
    }

    /// The most bytes that a tunnel of any format adds.
    pub const fn most_overhead<F: Family>() -> usize {
        let (mut most, mut number) = (0, 0);
        while number < Self::ALL.len() {
            let overhead = Self::ALL[number].overhead::<F>();
            most = if overhead > most { overhead } else { most };
            number += 1;
        }
        most
    }

    /// The format of a packet whose outer IP header names `protocol` and is followed by `bytes`;
    /// `None` when it is no tunnel.
    fn detect(protocol: u8, bytes: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|format| match format {
            Format::Ipip => Version::from_protocol(protocol).is_some(),
            Format::Gre => protocol == GRE,
            Format::Gue => {
                protocol == UDP && bytes.len() >= UDP_HEADER && u16_at(bytes, 2) == GUE_PORT
            }
        })
    }

    /// Writes the header in front of an inner packet of `length` bytes, UDP checksum zero.
    /// `entropy` tells the connections of a tunnel apart for routers that share out load.
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

/// A tunnel header that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The tunnel's format.
    pub format: Format,
    /// Bytes up to the inner packet.
    pub length: usize,
    /// Family of the inner packet.
    pub inner: Version,
}

/// A tunnel header with a version, flag or option that firstack does not implement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported;

/// Reads the tunnel header behind an outer IP header that names `protocol` and has `length` bytes
/// of payload. Returns `None` when the packet is no tunnel.
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

/// Whether a UDP header is addressed to the port of a tunnel format.
#[inline(always)]
pub fn is_tunnel_port(udp: &[u8]) -> bool {
    let port = u16_at(udp, 2);
    Format::ALL.into_iter().any(|format| format.udp_port() == Some(port))
}

fn gre(bytes: &[u8]) -> Option<Version> {
    let bytes = bytes.get(..GRE_HEADER)?;
    // Key, checksum, sequence number, another version: not ours.
    if u16_at(bytes, 0) != 0 {
        return None;
    }
    Version::from_ethertype(u16_at(bytes, 2))
}

fn gue(bytes: &[u8], length: usize) -> Option<Version> {
    let header = bytes.get(..UDP_HEADER + GUE_HEADER)?;
    let [first, protocol, flags @ ..] = [header[8], header[9], header[10], header[11]];
    // Another variant, a control message, optional fields, flags.
    if first != 0 || flags != [0, 0] || usize::from(u16_at(header, 4)) != length {
        return None;
    }
    Version::from_protocol(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_read_as_it_is_written() {
        for format in Format::ALL {
            for inner in [Version::V4, Version::V6] {
                let mut bytes = [0xee; 32];
                format.emit(&mut bytes, inner, 20, 0xffff_ffff);
                let length = format.header() + 20;
                let read = parse(format.protocol(inner), &bytes, length);
                assert_eq!(read, Some(Ok(Header { format, length: format.header(), inner })));
            }
        }
    }

    #[test]
    fn the_source_port_of_gue_is_a_dynamic_one() {
        for entropy in [0, 1, 0x3fff, 0xc000, u32::MAX] {
            let mut bytes = [0; 12];
            Format::Gue.emit(&mut bytes, Version::V4, 20, entropy);
            assert!(u16_at(&bytes, 0) >= 49152);
            assert_eq!(u16_at(&bytes, 0) & 0x3fff, entropy as u16 & 0x3fff);
        }
    }

    #[test]
    fn unsupported_headers_are_told_from_packets_that_are_no_tunnel() {
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
