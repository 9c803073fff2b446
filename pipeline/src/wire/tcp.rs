//! TCP header and options (RFC 9293).

use super::checksum::{Delta, Sum};
use super::{put_u16, put_u32, u16_at, u32_at};

/// Length of the header in bytes, without options.
pub const HEADER: usize = 20;
/// Largest length of the option area in bytes.
pub const MAX_OPTIONS: usize = 40;

const SEQUENCE: usize = 4;
const ACKNOWLEDGEMENT: usize = 8;
const OFFSET_FLAGS: usize = 12;
const CHECKSUM: usize = 16;

/// Option kind: end of option list.
pub const END: u8 = 0;
/// Option kind: no operation, one byte of padding.
pub const NOP: u8 = 1;
/// Option kind: maximum segment size (RFC 9293).
pub const MSS: u8 = 2;
/// Option kind: MD5 signature (RFC 2385).
pub const MD5: u8 = 19;
/// Option kind: TCP authentication option (RFC 5925).
pub const AUTHENTICATION: u8 = 29;
/// Option kind: TCP Fast Open cookie (RFC 7413).
pub const FAST_OPEN: u8 = 34;
/// Option kind of Multipath TCP (RFC 8684, section 3).
pub const MPTCP: u8 = 30;
/// Subtype, in the upper half of the byte behind kind and length, of a SYN that joins an MPTCP
/// connection (RFC 8684, section 3.2).
pub const MP_JOIN: u8 = 1;
/// Option kinds for shared experiments (RFC 4727, RFC 6994).
pub const EXPERIMENTS: [u8; 2] = [253, 254];
/// Experiment identifier of the experimental Fast Open option (RFC 7413, appendix A).
pub const FAST_OPEN_EXID: u16 = 0xf989;

/// The control bits of a segment.
///
/// ```rust
/// use pipeline::wire::tcp::Flags;
///
/// assert!(Flags(Flags::SYN).is_syn());
/// assert!(Flags(Flags::SYN | Flags::ACK).is_syn_ack());
/// assert!(Flags(Flags::ACK).is_data());
/// assert!(!Flags(Flags::FIN | Flags::ACK).is_data());
/// assert!(Flags(Flags::ACK).is_acknowledged_data());
/// assert!(!Flags(0).is_acknowledged_data());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// The sender has no more data.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
    const HANDSHAKE: u8 = Self::FIN | Self::SYN | Self::RST | Self::ACK;

    /// Returns whether the segment opens a connection: SYN without ACK, RST and FIN (op 204).
    pub fn is_syn(self) -> bool {
        self.0 & Self::HANDSHAKE == Self::SYN
    }

    /// Returns whether the segment answers a SYN: SYN and ACK without RST and FIN (op 502).
    pub fn is_syn_ack(self) -> bool {
        self.0 & Self::HANDSHAKE == Self::SYN | Self::ACK
    }

    /// Returns whether the segment neither opens nor ends a connection: no SYN, FIN or RST.
    #[inline(always)]
    pub fn is_data(self) -> bool {
        self.0 & (Self::SYN | Self::FIN | Self::RST) == 0
    }

    /// Returns whether the segment is one of an open connection: ACK, without SYN, FIN and RST.
    #[inline(always)]
    pub fn is_acknowledged_data(self) -> bool {
        self.0 & Self::HANDSHAKE == Self::ACK
    }

    /// Returns whether FIN is set.
    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Returns whether RST is set.
    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }
}

/// The reason why bytes are not a valid TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// There are fewer bytes than the header has.
    Truncated,
    /// The data offset is below 5.
    DataOffset,
}

/// Checks the lengths, and returns the header's length in bytes, options included.
///
/// The segment has `available` bytes, of which `tcp` are contiguous. The other functions of this
/// module may panic on bytes that were not checked.
///
/// # Errors
/// The first length that is not valid.
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

/// Returns the header length in bytes, options included.
#[inline]
pub fn header_length(tcp: &[u8]) -> usize {
    usize::from(tcp[OFFSET_FLAGS] >> 4) * 4
}

/// Sets the header length in bytes, a multiple of 4 up to 60. Returns the change for the checksum.
pub fn set_header_length(tcp: &mut [u8], bytes: usize) -> Delta {
    let old = u16_at(tcp, OFFSET_FLAGS);
    tcp[OFFSET_FLAGS] = ((bytes as u8 / 4) << 4) | (tcp[OFFSET_FLAGS] & 0xf);
    Delta::word(old, u16_at(tcp, OFFSET_FLAGS))
}

/// Returns the control bits.
#[inline]
pub fn flags(tcp: &[u8]) -> Flags {
    Flags(tcp[OFFSET_FLAGS + 1])
}

/// Returns the source port.
#[inline]
pub fn source_port(tcp: &[u8]) -> u16 {
    u16_at(tcp, 0)
}

/// Returns the destination port.
#[inline]
pub fn destination_port(tcp: &[u8]) -> u16 {
    u16_at(tcp, 2)
}

/// Sets the source port and returns the change for the checksum.
#[inline]
pub fn set_source_port(tcp: &mut [u8], port: u16) -> Delta {
    let delta = Delta::word(source_port(tcp), port);
    put_u16(tcp, 0, port);
    delta
}

/// Sets the destination port and returns the change for the checksum.
#[inline]
pub fn set_destination_port(tcp: &mut [u8], port: u16) -> Delta {
    let delta = Delta::word(destination_port(tcp), port);
    put_u16(tcp, 2, port);
    delta
}

/// Returns the sequence number.
pub fn sequence(tcp: &[u8]) -> u32 {
    u32_at(tcp, SEQUENCE)
}

/// Returns the acknowledgement number.
pub fn ack_number(tcp: &[u8]) -> u32 {
    u32_at(tcp, ACKNOWLEDGEMENT)
}

/// Applies a change to the checksum field.
#[inline(always)]
pub fn adjust(tcp: &mut [u8], delta: Delta) {
    let checksum = delta.apply(u16_at(tcp, CHECKSUM));
    put_u16(tcp, CHECKSUM, checksum);
}

/// Clears the checksum field.
pub fn clear_checksum(tcp: &mut [u8]) {
    put_u16(tcp, CHECKSUM, 0);
}

/// Returns whether the checksum over the whole segment and its pseudo header is correct.
pub fn checksum_ok(segment: &[u8], pseudo_header: Sum) -> bool {
    Sum::of(segment).plus(pseudo_header).fold() == 0xffff
}

/// Writes a RST of 20 bytes (op 514) with this sequence number, without ACK and options, and with a
/// correct checksum.
///
/// # Panics
/// If `tcp` is shorter than 20 bytes.
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

/// A TCP option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// Offset of the kind byte in the option area.
    pub at: usize,
    /// Kind of the option.
    pub kind: u8,
    /// Bytes of the whole option, kind and length included.
    pub bytes: &'a [u8],
}

/// A malformed option: its length is below 2 or beyond the option area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOption;

/// An iterator over the options of an option area. It skips NOPs and stops at End-of-List.
///
/// After a malformed option the iterator ends.
///
/// ```rust
/// use pipeline::wire::tcp::{BadOption, MSS, Options};
///
/// let mut options = Options::new(&[MSS, 4, 0x05, 0xb4, 1, 1, 8, 10]);
/// let mss = options.next().and_then(Result::ok);
/// assert_eq!(mss.map(|option| (option.kind, option.bytes)), Some((MSS, &[2, 4, 5, 0xb4][..])));
/// // The timestamp option is cut off.
/// assert_eq!(options.next(), Some(Err(BadOption)));
/// assert_eq!(options.next(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Options<'a> {
    area: &'a [u8],
    at: usize,
}

impl<'a> Options<'a> {
    /// Creates an iterator over `area`, the bytes between the fixed header and the data.
    pub fn new(area: &'a [u8]) -> Self {
        Self { area, at: 0 }
    }

    /// Returns the current offset in the area. At the end it is the offset behind the last option,
    /// which is that of the End-of-List if there is one.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Returns the offset behind the last option of an area, which is that of the End-of-List if there
    /// is one, and that of the first malformed option otherwise.
    pub fn end(area: &[u8]) -> usize {
        let mut at = 0;
        loop {
            match area.get(at) {
                None | Some(&END) => return at,
                Some(&NOP) => at += 1,
                Some(_) => match area.get(at + 1).map_or(0, |&length| usize::from(length)) {
                    length if length < 2 || length > area.len() - at => return at,
                    length => at += length,
                },
            }
        }
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
    fn a_linux_syn_has_its_fields() {
        assert_eq!(check(&SYN, 40), Ok(40));
        assert!(flags(&SYN).is_syn() && !flags(&SYN).is_syn_ack());
        assert_eq!((source_port(&SYN), destination_port(&SYN)), (40000, 80));
        assert_eq!((sequence(&SYN), ack_number(&SYN)), (0x1122_3344, 0));
        assert_eq!(kinds(&SYN[20..]), [Ok(2), Ok(4), Ok(8), Ok(3)]);
    }

    #[test]
    fn check_finds_malformed_fields() {
        assert_eq!(check(&SYN[..19], 19), Err(Malformed::Truncated));
        assert_eq!(check(&SYN, 39), Err(Malformed::Truncated));
        assert_eq!(check(&SYN[..39], 40), Err(Malformed::Truncated));
        let mut bytes = SYN;
        bytes[OFFSET_FLAGS] = 0x40;
        assert_eq!(check(&bytes, 40), Err(Malformed::DataOffset));
    }

    #[test]
    fn a_malformed_option_ends_the_walk() {
        assert_eq!(kinds(&[]), []);
        assert_eq!(kinds(&[1, 1, 1]), []);
        assert_eq!(kinds(&[1, 0, 9, 9]), []);
        assert_eq!(kinds(&[8]), [Err(BadOption)]);
        assert_eq!(kinds(&[8, 0, 0, 0]), [Err(BadOption)]);
        assert_eq!(kinds(&[8, 1, 0, 0]), [Err(BadOption)]);
        assert_eq!(kinds(&[4, 2, 8, 10, 0]), [Ok(4), Err(BadOption)]);
    }

    #[test]
    fn the_end_of_an_area_is_where_the_iterator_ends() {
        // All areas of up to four bytes that can matter, and the Linux SYN's cut short.
        let bytes = [END, NOP, 2, 3, 4, 5, 0xff];
        for number in 0..bytes.len().pow(4) {
            let area = [1, 7, 49, 343].map(|by| bytes[number / by % bytes.len()]);
            for length in 0..=area.len() {
                let mut walk = Options::new(&area[..length]);
                walk.by_ref().for_each(drop);
                assert_eq!(Options::end(&area[..length]), walk.offset(), "{:?}", &area[..length]);
            }
        }
        for length in 20..=SYN.len() {
            let mut walk = Options::new(&SYN[20..length]);
            walk.by_ref().for_each(drop);
            assert_eq!(Options::end(&SYN[20..length]), walk.offset());
        }
    }

    #[test]
    fn the_walk_ends_before_the_end_of_list() {
        let mut walk = Options::new(&[2, 4, 5, 0xb4, 1, 0, 0, 0]);
        assert_eq!(walk.by_ref().count(), 1);
        assert_eq!(walk.offset(), 5);
    }

    #[test]
    fn other_flag_combinations_are_neither_syn_nor_syn_ack() {
        for bits in [Flags::SYN | Flags::FIN, Flags::SYN | Flags::RST, Flags::ACK, 0, 0x3f] {
            assert!(!Flags(bits).is_syn() && !Flags(bits).is_syn_ack(), "{bits:#x}");
        }
        // ECN-setup SYN (RFC 3168) still opens a connection.
        assert!(Flags(0xc0 | Flags::SYN).is_syn());
    }

    #[test]
    fn a_reset_has_a_correct_checksum() {
        let pseudo = Sum::of(&[198, 18, 1, 10, 203, 0, 113, 10, 0, 6, 0, 20]);
        let mut bytes = [0xff; 20];
        emit_reset(&mut bytes, 40000, 80, 0x1122_3345, pseudo);
        assert!(checksum_ok(&bytes, pseudo));
        assert_eq!((flags(&bytes), sequence(&bytes)), (Flags(Flags::RST), 0x1122_3345));
    }
}
