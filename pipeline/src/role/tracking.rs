//! TCP connection tracking, the same for all three roles: the state of one connection, and how a
//! segment changes it.
//!
//! The roles differ in what they can see. The gateway sees both directions (except under B), the
//! replica sees its web server's packets and the client's as far as they pass through it, the
//! switch may see the client's alone. Each role says so in its [`Tracked`] implementation.

use crate::base::time::Ticks;
use crate::packet::view::Side;
use crate::table::{Key, Slot, State, Table};
use crate::wire::tcp::{self, Flags};

/// Grace period after a RST: segments that were in flight when it was sent arrive within it. A
/// connection that continues after it has ignored the RST (RFC 7857, section 2).
const RST_GRACE: Ticks = Ticks::from_secs(3);

/// The events seen of a connection, in one byte of a table entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpTracking(u8);

impl TcpTracking {
    /// FINs: one bit for each side, by the side's number.
    const BOTH_FINS: u8 = 0b11;
    /// The server has been seen: it has answered the SYN.
    const SERVER_SEEN: u8 = 1 << 2;
    /// The client has acknowledged the server's SYN/ACK.
    const ESTABLISHED: u8 = 1 << 3;
    /// The server has been given a later SYN of the same endpoints.
    const CHALLENGED: u8 = 1 << 4;

    #[inline(always)]
    fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Notes a FIN of one side.
    pub(super) fn note_fin(&mut self, from: Side) {
        self.0 |= 1 << from as u8;
    }

    /// Forgets the FINs: a new connection of the same endpoints begins.
    pub(super) fn forget_fins(&mut self) {
        self.0 &= !Self::BOTH_FINS;
    }

    /// Returns whether this side has sent a FIN.
    pub(super) fn has_fin(self, from: Side) -> bool {
        self.has(1 << from as u8)
    }

    /// Returns whether both sides have sent a FIN.
    pub(super) fn has_both_fins(self) -> bool {
        self.has(Self::BOTH_FINS)
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

    /// Returns whether an acknowledgement number of the client establishes the connection: blind
    /// packets must not. `matches` says whether it is the number that acknowledges the server's
    /// SYN/ACK. While the server has not been seen, any number does: its packets may take another
    /// path.
    pub(super) fn is_established_by(self, matches: bool) -> bool {
        !self.server_seen() || matches
    }
}

/// A table entry of a tracked connection.
pub(super) trait Tracked: Copy {
    /// The states of its table.
    type Phase: State + PartialEq;
    /// The state after both FINs, or a RST.
    const CLOSING: Self::Phase;

    /// Returns the connection's tracking.
    fn tracking_mut(&mut self) -> &mut TcpTracking;

    /// Returns whether all FINs have come that this role can see.
    fn is_finished(&self) -> bool;

    /// Returns the state of a closing connection that continues after the grace period, because the
    /// RST was ignored. `None` where a closing connection stays closing.
    fn resumed(&self) -> Option<Self::Phase>;
}

/// Tracks a segment of a connection that passes: restarts the time-out, notes FIN and RST, and
/// resumes a connection that has ignored a RST.
#[inline(always)]
pub(super) fn on_segment<K: Key, V: Tracked>(
    table: &mut Table<K, V::Phase, V>,
    slot: Slot,
    from: Side,
    flags: Flags,
    now: Ticks,
) {
    if table.get(slot).state() == V::CLOSING {
        resume(table, slot, now);
    }
    table.touch(slot, now);
    if flags.fin() || flags.rst() {
        close(table, slot, from, flags, now);
    }
}

#[cold]
fn resume<K: Key, V: Tracked>(table: &mut Table<K, V::Phase, V>, slot: Slot, now: Ticks) {
    let entry = table.get(slot);
    if let Some(phase) = entry.value.resumed()
        && now.since(entry.seen()) >= RST_GRACE
    {
        table.move_to(slot, phase, now);
    }
}

#[cold]
fn close<K: Key, V: Tracked>(
    table: &mut Table<K, V::Phase, V>,
    slot: Slot,
    from: Side,
    flags: Flags,
    now: Ticks,
) {
    let value = table.value_mut(slot);
    if flags.fin() {
        value.tracking_mut().note_fin(from);
    }
    if flags.rst() || value.is_finished() {
        table.move_to(slot, V::CLOSING, now);
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
    use crate::role::phase::Phase;

    #[derive(Clone, Copy, Debug, Default)]
    struct Connection(TcpTracking);

    impl Tracked for Connection {
        type Phase = Phase;
        const CLOSING: Phase = Phase::Closing;

        fn tracking_mut(&mut self) -> &mut TcpTracking {
            &mut self.0
        }

        fn is_finished(&self) -> bool {
            self.0.has_both_fins()
        }

        fn resumed(&self) -> Option<Phase> {
            (!self.0.has_both_fins()).then_some(Phase::Established)
        }
    }

    type Connections =
        Table<crate::wire::family::Endpoint<crate::wire::family::V4>, Phase, Connection>;

    fn established() -> (Connections, Slot) {
        let mut table = Table::new(4, &[Ticks::from_secs(1000); 3], (1, 2));
        let key = crate::testing::endpoint("198.18.1.10:40000");
        let hash = table.hash(key);
        let inserted =
            table.insert(hash, key, Phase::Established, Ticks(0), Connection::default()).unwrap();
        (table, inserted.slot())
    }

    fn phase_after(segments: &[(Side, u8, u64)]) -> Phase {
        let (mut table, slot) = established();
        for &(from, flags, millis) in segments {
            on_segment(&mut table, slot, from, Flags(flags), Ticks::from_millis(millis));
        }
        table.get(slot).state()
    }

    #[test]
    fn both_fins_close_for_good() {
        let (client, server) = ((Side::Inside, Flags::FIN, 1), (Side::Outside, Flags::FIN, 2));
        assert_eq!(phase_after(&[client]), Phase::Established);
        assert_eq!(phase_after(&[client, client]), Phase::Established);
        assert_eq!(phase_after(&[client, server]), Phase::Closing);
        let later = (Side::Inside, Flags::ACK, 9_000);
        assert_eq!(phase_after(&[client, server, later]), Phase::Closing);
    }

    #[test]
    fn a_rst_closes_unless_the_connection_continues_after_the_grace_period() {
        let rst = (Side::Inside, Flags::RST, 0);
        let data = |millis| (Side::Outside, Flags::ACK, millis);
        assert_eq!(phase_after(&[rst]), Phase::Closing);
        assert_eq!(phase_after(&[rst, data(2_999)]), Phase::Closing);
        assert_eq!(phase_after(&[rst, data(3_000)]), Phase::Established);
        // Each segment restarts the grace period.
        assert_eq!(phase_after(&[rst, data(2_000), data(4_000)]), Phase::Closing);
    }

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
        tracking.forget_fins();
        assert!(tracking.is_established() && tracking.is_challenged() && tracking.server_seen());
        assert!(!tracking.has_fin(Side::Inside) && !tracking.has_fin(Side::Outside));
    }

    #[test]
    fn only_the_right_number_establishes_once_the_server_was_seen() {
        let mut tracking = TcpTracking::default();
        assert!(tracking.is_established_by(false));
        tracking.note_server();
        assert!(tracking.is_established_by(true) && !tracking.is_established_by(false));
    }
}
