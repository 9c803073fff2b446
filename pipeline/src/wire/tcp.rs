//! TCP header and options (RFC 9293).

use super::checksum::{Delta, Sum};
use super::{put_u16, put_u32, u16_at, u32_at};

/// Header bytes without options.
pub const HEADER: usize = 20;
/// The most bytes that options may take.
pub const MAX_OPTIONS: usize = 40;

const SEQUENCE: usize = 4;
const ACKNOWLEDGEMENT: usize = 8;
const OFFSET_FLAGS: usize = 12;
const CHECKSUM: usize = 16;

/// End of option list.
pub const END: u8 = 0;
/// No operation, one byte of padding.
pub const NOP: u8 = 1;
/// Maximum segment size (RFC 9293).
pub const MSS: u8 = 2;
/// MD5 signature (RFC 2385).
pub const MD5: u8 = 19;
/// TCP authentication option (RFC 5925).
pub const AUTHENTICATION: u8 = 29;
/// TCP Fast Open cookie (RFC 7413).
pub const FAST_OPEN: u8 = 34;
/// Shared experimental options (RFC 4727, RFC 6994).
pub const EXPERIMENTS: [u8; 2] = [253, 254];
/// ExID of Fast Open's experimental form (RFC 7413, appendix A).
pub const FAST_OPEN_EXID: u16 = 0xf989;

/// The control bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
    const HANDSHAKE: u8 = Self::FIN | Self::SYN | Self::RST | Self::ACK;

    /// SYN without ACK, RST, FIN: opens a connection (op 204).
    pub fn is_syn(self) -> bool {
        self.0 & Self::HANDSHAKE == Self::SYN
    }

    /// SYN and ACK without RST, FIN: answers a start packet (op 502).
    pub fn is_syn_ack(self) -> bool {
        self.0 & Self::HANDSHAKE == Self::SYN | Self::ACK
    }

    /// Neither the beginning nor the end of a connection: no SYN, FIN or RST.
    #[inline(always)]
    pub fn is_data(self) -> bool {
        self.0 & (Self::SYN | Self::FIN | Self::RST) == 0
    }

    /// FIN set.
    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// RST set.
    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }
}

/// Why bytes are no TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than the header has, or than it says of itself.
    Truncated,
    /// A data offset below 5.
    DataOffset,
}

/// Checks the lengths against the segment's `available` bytes, of which `tcp` is the
/// contiguous part. Gives the header's length in bytes, options included.
#[inline]
pub fn check(tcp: &[u8], available: usize) -> Result<usize, Malformed> {
    if tcp.len() < HEADER {
        return Err(Malformed::Truncated);
    }
    let header = header_length(tcp);
    if header < HEADER {
        return Err(Malformed::DataOffset);
    }
    if header > available || header > tcp.len() {
        return Err(Malformed::Truncated);
    }
    Ok(header)
}

/// Header length in bytes, options included.
#[inline]
pub fn header_length(tcp: &[u8]) -> usize {
    usize::from(tcp[OFFSET_FLAGS] >> 4) * 4
}

/// Sets the header length; a multiple of 4 up to 60. Gives the change for the checksum.
pub fn set_header_length(tcp: &mut [u8], bytes: usize) -> Delta {
    let old = u16_at(tcp, OFFSET_FLAGS);
    tcp[OFFSET_FLAGS] = ((bytes as u8 / 4) << 4) | (tcp[OFFSET_FLAGS] & 0xf);
    Delta::word(old, u16_at(tcp, OFFSET_FLAGS))
}

/// The control bits.
#[inline]
pub fn flags(tcp: &[u8]) -> Flags {
    Flags(tcp[OFFSET_FLAGS + 1])
}

/// Source port.
#[inline]
pub fn source_port(tcp: &[u8]) -> u16 {
    u16_at(tcp, 0)
}

/// Destination port.
#[inline]
pub fn destination_port(tcp: &[u8]) -> u16 {
    u16_at(tcp, 2)
}

/// Sets the source port; gives the change for the checksum.
#[inline]
pub fn set_source_port(tcp: &mut [u8], port: u16) -> Delta {
    let delta = Delta::word(source_port(tcp), port);
    put_u16(tcp, 0, port);
    delta
}

/// Sets the destination port; gives the change for the checksum.
#[inline]
pub fn set_destination_port(tcp: &mut [u8], port: u16) -> Delta {
    let delta = Delta::word(destination_port(tcp), port);
    put_u16(tcp, 2, port);
    delta
}

/// Sequence number.
pub fn sequence(tcp: &[u8]) -> u32 {
    u32_at(tcp, SEQUENCE)
}

/// Acknowledgement number.
pub fn ack_number(tcp: &[u8]) -> u32 {
    u32_at(tcp, ACKNOWLEDGEMENT)
}

/// Applies a change to the checksum field.
#[inline(always)]
pub fn adjust(tcp: &mut [u8], delta: Delta) {
    let checksum = delta.apply(u16_at(tcp, CHECKSUM));
    put_u16(tcp, CHECKSUM, checksum);
}

/// Whether the checksum over the whole segment and its pseudo header is right.
pub fn checksum_ok(segment: &[u8], pseudo_header: Sum) -> bool {
    Sum::of(segment).plus(pseudo_header).fold() == 0xffff
}

/// Writes a bare reset (op 514): sequence number given, no ACK, no options, checksum right.
pub fn emit_reset(
    tcp: &mut [u8],
    source_port: u16,
    destination_port: u16,
    sequence: u32,
    pseudo: Sum,
) {
    let tcp = &mut tcp[..HEADER];
    tcp.fill(0);
    put_u16(tcp, 0, source_port);
    put_u16(tcp, 2, destination_port);
    put_u32(tcp, SEQUENCE, sequence);
    tcp[OFFSET_FLAGS] = (HEADER as u8 / 4) << 4;
    tcp[OFFSET_FLAGS + 1] = Flags::RST;
    let checksum = Sum::of(tcp).plus(pseudo).checksum();
    put_u16(tcp, CHECKSUM, checksum);
}

/// One option of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// Offset of the kind byte in the option area.
    pub at: usize,
    /// Its kind.
    pub kind: u8,
    /// The whole option, kind and length bytes included.
    pub bytes: &'a [u8],
}

/// An option whose length is below 2 or runs past the area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOption;

/// Walks the option area; NOPs are skipped, End-of-List ends it.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    area: &'a [u8],
    at: usize,
}

impl<'a> Options<'a> {
    /// The options in `area`, the bytes between the fixed header and the data.
    pub fn new(area: &'a [u8]) -> Self {
        Self { area, at: 0 }
    }

    /// Where the walk stands: at the end, the offset behind the last option, which is that
    /// of the End-of-List when there is one.
    pub fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<TcpOption<'a>, BadOption>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.area.get(self.at) == Some(&NOP) {
            self.at += 1;
        }
        let rest = &self.area[self.at..];
        let (&kind, at) = (rest.first()?, self.at);
        if kind == END {
            return None;
        }
        let length = rest.get(1).map_or(0, |&length| usize::from(length));
        if length < 2 || length > rest.len() {
            self.area = &self.area[..self.at];
            return Some(Err(BadOption));
        }
        self.at += length;
        Some(Ok(TcpOption { at, kind, bytes: &rest[..length] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A Linux SYN: 198.18.1.10:40000 to 203.0.113.10:80, MSS, SACK, timestamps, window scale.
    const SYN: [u8; 40] = [
        0x9c, 0x40, 0x00, 0x50, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0, 0, 0,
        0, 0, 2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
    ];

    fn kinds(area: &[u8]) -> Vec<Result<u8, BadOption>> {
        Options::new(area).map(|o| o.map(|o| o.kind)).collect()
    }

    #[test]
    fn reads_a_linux_syn() {
        assert_eq!(check(&SYN, 40), Ok(40));
        assert!(flags(&SYN).is_syn() && !flags(&SYN).is_syn_ack());
        assert_eq!((source_port(&SYN), destination_port(&SYN)), (40000, 80));
        assert_eq!((sequence(&SYN), ack_number(&SYN)), (0x1122_3344, 0));
        assert_eq!(kinds(&SYN[20..]), [Ok(2), Ok(4), Ok(8), Ok(3)]);
    }

    #[test]
    fn says_what_is_malformed() {
        assert_eq!(check(&SYN[..19], 19), Err(Malformed::Truncated));
        assert_eq!(check(&SYN, 39), Err(Malformed::Truncated));
        assert_eq!(check(&SYN[..39], 40), Err(Malformed::Truncated));
        let mut bytes = SYN;
        bytes[OFFSET_FLAGS] = 0x40;
        assert_eq!(check(&bytes, 40), Err(Malformed::DataOffset));
    }

    #[test]
    fn walks_bad_options_without_harm() {
        assert_eq!(kinds(&[]), []);
        assert_eq!(kinds(&[1, 1, 1]), []);
        assert_eq!(kinds(&[1, 0, 9, 9]), []);
        assert_eq!(kinds(&[8]), [Err(BadOption)]);
        assert_eq!(kinds(&[8, 0, 0, 0]), [Err(BadOption)]);
        assert_eq!(kinds(&[8, 1, 0, 0]), [Err(BadOption)]);
        assert_eq!(kinds(&[4, 2, 8, 10, 0]), [Ok(4), Err(BadOption)]);
    }

    #[test]
    fn the_walk_ends_before_the_end_of_list() {
        let mut walk = Options::new(&[2, 4, 5, 0xb4, 1, 0, 0, 0]);
        assert_eq!(walk.by_ref().count(), 1);
        assert_eq!(walk.offset(), 5);
    }

    #[test]
    fn odd_flag_mixes_are_neither_start_nor_acknowledgement() {
        for bits in [Flags::SYN | Flags::FIN, Flags::SYN | Flags::RST, Flags::ACK, 0, 0x3f] {
            assert!(!Flags(bits).is_syn() && !Flags(bits).is_syn_ack(), "{bits:#x}");
        }
        // ECN-setup SYN (RFC 3168) still opens a connection.
        assert!(Flags(0xc0 | Flags::SYN).is_syn());
    }

    #[test]
    fn a_reset_has_a_right_checksum() {
        let pseudo = Sum::of(&[198, 18, 1, 10, 203, 0, 113, 10, 0, 6, 0, 20]);
        let mut bytes = [0xff; 20];
        emit_reset(&mut bytes, 40000, 80, 0x1122_3345, pseudo);
        assert!(checksum_ok(&bytes, pseudo));
        assert_eq!((flags(&bytes), sequence(&bytes)), (Flags(Flags::RST), 0x1122_3345));
    }
}
