//! What the three roles share of TCP connection tracking: the events seen of a connection, and which
//! sequence numbers count.
//!
//! How a segment changes the state is each role's own, because they differ in what they can see. The
//! gateway sees both directions (except under B), the replica sees its web server's packets and the
//! client's as far as they pass through it, the switch may see the client's alone.

use crate::base::stored::stored;
use crate::base::time::Ticks;
use crate::packet::view::Side;
use crate::wire::tcp;

/// Grace period after a RST: segments that were in flight when it was sent arrive within it. A
/// connection that continues after it has ignored the RST (RFC 7857, section 2).
pub(super) const RST_GRACE: Ticks = Ticks::from_secs(3);

/// Half the width of the window around the expected sequence number in which a FIN or a RST
/// counts. Wide enough for what is under way between an appliance and the end whose numbers it
/// knows, 1 MiB; narrow enough that a blind guess hits once in 2048 (RFC 5961, RFC 7857 section 2).
const WINDOW: u32 = 1 << 20;

/// Returns whether a sequence number is within 1 MiB of the one that is expected next.
#[inline]
pub(super) fn is_near(sequence: u32, expected: u32) -> bool {
    sequence.wrapping_sub(expected).wrapping_add(WINDOW) < 2 * WINDOW
}

/// Returns whether a sequence number is the expected one, or less than 1 MiB beyond it.
#[inline]
pub(super) fn follows(sequence: u32, expected: u32) -> bool {
    sequence.wrapping_sub(expected) < WINDOW
}

/// The events seen of a connection, in one byte of a table entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct TcpTracking(u8);

stored!(TcpTracking, [] { 0: u8 });

impl TcpTracking {
    /// FINs: one bit for each side, by the side's number.
    const BOTH_FINS: u8 = 0b11;
    /// The server has been seen: it has answered the SYN.
    const SERVER_SEEN: u8 = 1 << 2;
    /// The client has acknowledged the server's SYN/ACK.
    const ESTABLISHED: u8 = 1 << 3;
    /// The server has been given a later SYN of the same endpoints.
    const CHALLENGED: u8 = 1 << 4;
    /// RSTs: one bit for each side.
    const RSTS: u8 = 0b11 << 5;

    /// Returns the meaning of the bits, for the test that compares layouts.
    #[cfg(test)]
    pub(super) fn described() -> String {
        let (fins, rsts) = (Self::BOTH_FINS, Self::RSTS);
        let (server, established) = (Self::SERVER_SEEN, Self::ESTABLISHED);
        let challenged = Self::CHALLENGED;
        format!(
            "FINs {fins}, server {server}, established {established}, challenged {challenged}, \
             RSTs {rsts}"
        )
    }

    #[inline(always)]
    fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Notes a FIN of one side.
    pub(super) fn note_fin(&mut self, from: Side) {
        self.0 |= 1 << from as u8;
    }

    /// Returns whether this side has sent a FIN.
    pub(super) fn has_fin(self, from: Side) -> bool {
        self.has(1 << from as u8)
    }

    /// Returns whether both sides have sent a FIN.
    pub(super) fn has_both_fins(self) -> bool {
        self.has(Self::BOTH_FINS)
    }

    /// Notes a RST of one side.
    pub(super) fn note_rst(&mut self, from: Side) {
        self.0 |= 1 << 5 << from as u8;
    }

    /// Forgets the RST of one side.
    pub(super) fn forget_rst(&mut self, from: Side) {
        self.0 &= !(1 << 5 << from as u8);
    }

    /// Returns whether either side has sent a RST that is not forgotten.
    pub(super) fn has_rst(self) -> bool {
        self.0 & Self::RSTS != 0
    }

    /// Returns whether either side has sent a FIN.
    pub(super) fn has_any_fin(self) -> bool {
        self.0 & Self::BOTH_FINS != 0
    }

    /// Notes that the server has answered.
    pub(super) fn note_server(&mut self) {
        self.0 |= Self::SERVER_SEEN;
    }

    /// Returns whether the server has answered.
    #[inline(always)]
    pub(super) fn server_seen(self) -> bool {
        self.has(Self::SERVER_SEEN)
    }

    /// Notes that the client has acknowledged the SYN/ACK.
    pub(super) fn establish(&mut self) {
        self.0 |= Self::ESTABLISHED;
    }

    /// Returns whether the client has acknowledged the SYN/ACK.
    #[inline(always)]
    pub(super) fn is_established(self) -> bool {
        self.has(Self::ESTABLISHED)
    }

    /// Notes that the server has been given a later SYN, whose acceptance would end this
    /// connection.
    pub(super) fn note_challenge(&mut self) {
        self.0 |= Self::CHALLENGED;
    }

    /// Returns whether the server has been given a later SYN.
    pub(super) fn is_challenged(self) -> bool {
        self.has(Self::CHALLENGED)
    }
}

/// Returns whether a segment acknowledges the SYN with this sequence number.
#[inline]
pub(super) fn acknowledges(tcp: &[u8], isn: u32) -> bool {
    tcp::ack_number(tcp) == isn.wrapping_add(1)
}

/// Returns whether a segment refuses the SYN with this sequence number: a RST that acknowledges it
/// and has the sequence number zero (RFC 9293, section 3.10.7.1).
pub(super) fn refuses(tcp: &[u8], isn: u32) -> bool {
    tcp::flags(tcp).rst() && tcp::sequence(tcp) == 0 && acknowledges(tcp, isn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_independent() {
        let mut tracking = TcpTracking::default();
        tracking.note_server();
        tracking.note_fin(Side::Outside);
        assert!(tracking.server_seen() && tracking.has_fin(Side::Outside));
        assert!(!tracking.is_established() && !tracking.is_challenged());
        assert!(!tracking.has_fin(Side::Inside) && !tracking.has_both_fins());
        tracking.establish();
        tracking.note_challenge();
        tracking.note_fin(Side::Inside);
        assert!(tracking.is_established() && tracking.is_challenged() && tracking.server_seen());
        assert!(tracking.has_both_fins());
    }

    #[test]
    fn rsts_are_noted_by_side() {
        let mut tracking = TcpTracking::default();
        tracking.note_rst(Side::Inside);
        tracking.note_rst(Side::Outside);
        tracking.note_fin(Side::Outside);
        tracking.forget_rst(Side::Inside);
        assert!(tracking.has_rst() && tracking.has_any_fin() && !tracking.has_fin(Side::Inside));
        tracking.forget_rst(Side::Outside);
        assert!(!tracking.has_rst() && tracking.has_fin(Side::Outside));
    }

    #[test]
    fn numbers_are_near_within_a_mebibyte_on_either_side() {
        for expected in [0, 7, 1 << 31, u32::MAX] {
            assert!(follows(expected, expected) && !follows(expected.wrapping_sub(1), expected));
            for distance in [0, 1, WINDOW - 1] {
                assert!(follows(expected.wrapping_add(distance), expected), "{distance}");
                assert!(is_near(expected.wrapping_add(distance), expected), "{distance}");
                assert!(is_near(expected.wrapping_sub(distance), expected), "{distance}");
            }
            assert!(is_near(expected.wrapping_sub(WINDOW), expected));
            for distance in [WINDOW, WINDOW + 1, 1 << 31] {
                assert!(!is_near(expected.wrapping_add(distance), expected), "{distance}");
                assert!(!follows(expected.wrapping_add(distance), expected), "{distance}");
                assert!(!is_near(expected.wrapping_sub(distance + 1), expected), "{distance}");
            }
        }
    }
}
