//! ICMP errors (RFC 792) and the packet they quote.

use super::checksum::Delta;
use super::{ipv4, put_u16, u16_at};

/// Bytes in front of the quoted packet.
pub const HEADER: usize = 8;
const CHECKSUM: usize = 2;
/// What every router quotes of the payload: for TCP the ports and the sequence number.
const LEAST_QUOTED: usize = 8;

/// Whether messages of this type quote the packet that caused them: destination
/// unreachable, source quench, redirect, time exceeded, parameter problem.
pub fn is_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// Where an ICMP error's quoted TCP header begins, from the start of the ICMP message;
/// `None` unless it quotes the beginning of a TCP packet over IPv4.
pub fn quoted_tcp(message: &[u8]) -> Option<usize> {
    let quoted = message.get(HEADER..)?;
    if !is_error(message[0]) || quoted.len() < ipv4::HEADER || quoted[0] >> 4 != 4 {
        return None;
    }
    let header = usize::from(quoted[0] & 0xf) * 4;
    let sound = header >= ipv4::HEADER
        && quoted.len() >= header + LEAST_QUOTED
        && ipv4::protocol(quoted) == ipv4::TCP
        && !ipv4::is_later_fragment(quoted);
    sound.then_some(HEADER + header)
}

/// Applies a change to the message's checksum.
pub fn adjust(message: &mut [u8], delta: Delta) {
    let checksum = delta.apply(u16_at(message, CHECKSUM));
    put_u16(message, CHECKSUM, checksum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Segment;

    #[test]
    fn finds_the_quoted_tcp_header_and_nothing_else() {
        let quoted = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).packet();
        let message = |kind: u8, quoted: &[u8]| [&[kind, 4, 0, 0, 0, 0, 5, 120], quoted].concat();
        assert_eq!(quoted_tcp(&message(3, &quoted)), Some(28));
        assert_eq!(quoted_tcp(&message(3, &quoted[..28])), Some(28));
        assert_eq!(quoted_tcp(&message(3, &quoted[..27])), None);
        assert_eq!(quoted_tcp(&message(8, &quoted)), None, "an echo request");
        assert_eq!(quoted_tcp(&[]), None);
        assert_eq!(quoted_tcp(&message(3, &[])), None);
        let with = |at: usize, value: u8| {
            let mut quoted = quoted.clone();
            quoted[at] = value;
            quoted_tcp(&message(11, &quoted))
        };
        assert_eq!([with(0, 0x65), with(0, 0x44), with(0, 0x4f), with(9, 17)], [None; 4]);
        assert_eq!(with(7, 1), None, "a later fragment");
    }
}
