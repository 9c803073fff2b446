//! The gateway's entry of a connection.

use super::mode::Translation;
use crate::base::stored::{Stored, stored};
use crate::base::time::Ticks;
use crate::packet::view::Side;
use crate::role::tracking::TcpTracking;
use crate::table::State;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tunnel::Format;

/// The state of a connection at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The tagged SYN was sent; no valid SYN/ACK has come yet.
    Racing,
    /// A replica won, and the client has not acknowledged its SYN/ACK yet. Translated like all
    /// states that follow.
    HalfOpen,
    /// The client has acknowledged the winner's SYN/ACK: packets are translated by configuration.
    Replica,
    /// The origin won: nothing is translated; the entry remains so that losers are reset.
    Origin,
    /// One side has sent a FIN.
    HalfClosed,
    /// Both sides have sent a FIN.
    Closed,
    /// A side has sent a RST, which the other one may have ignored.
    Reset,
}

impl Phase {
    /// The names of the gauges.
    pub const NAMES: &'static [&'static str] =
        &["racing", "half_open", "replica", "origin", "half_closed", "closed", "reset"];

    /// Returns whether a replica has won: the connection's packets are translated.
    #[inline]
    pub fn is_translated(self) -> bool {
        !matches!(self, Phase::Racing | Phase::Origin)
    }

    /// Returns whether the connection has ended: a SYN with another number opens a new one.
    pub fn has_ended(self) -> bool {
        matches!(self, Phase::Closed | Phase::Reset)
    }
}

impl Stored for Phase {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<Self> {
        Self::ALL.get(usize::from(*bytes.first()?)).copied()
    }
}

impl State for Phase {
    const ALL: &'static [Self] = &[
        Phase::Racing,
        Phase::HalfOpen,
        Phase::Replica,
        Phase::Origin,
        Phase::HalfClosed,
        Phase::Closed,
        Phase::Reset,
    ];

    fn queue(self) -> usize {
        self as usize
    }

    fn is_lazy(self) -> bool {
        self == Phase::Replica
    }

    /// Connections that have closed except for a lost FIN are evicted first, then those that no
    /// client has opened yet. A RST may be forged and its connection live: it goes last.
    fn eviction_rank(self) -> Option<u8> {
        match self {
            Phase::Closed => Some(0),
            Phase::Racing | Phase::HalfOpen => Some(1),
            Phase::Reset => Some(2),
            Phase::Replica | Phase::Origin | Phase::HalfClosed => None,
        }
    }
}

/// A connection at the gateway. Its key in the table is the client endpoint C.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Flow<F: Family> {
    /// The sequence number of the SYN.
    pub isn: u32,
    /// The time at which the first SYN of the race was sent, in microseconds; wraps after 71 min.
    started: u32,
    /// The sites that got a direct copy of a SYN of the race, one bit for each number in the plan;
    /// or the pending ISN, if there is one.
    asked_or_pending: u32,
    /// About the sequence number of the client's next packet. Once a replica has won.
    pub next_from_client: u32,
    /// About the sequence number of the winner's next packet: the number that the client has
    /// acknowledged last. Once a replica has won.
    pub next_from_server: u32,
    /// The number of the service.
    pub service: u16,
    /// When the client was heard last. Once the race is over.
    heard: Coarse,
    /// V: the server endpoint that the client connects to (op 212).
    pub server: Endpoint<F>,
    /// R: the winner (op 510). In a race without a winner, the sender of the last SYN/ACK that
    /// waits. Otherwise [`Endpoint::NONE`].
    pub replica: Endpoint<F>,
    /// The number of retransmissions of the SYN.
    pub retransmits: u8,
    /// Which FINs have been seen.
    pub tracking: TcpTracking,
    /// The format of tunnels to the winner, chosen once for the connection.
    pub format: Format,
    /// What else is known of the race.
    pub race: RaceFlags,
}

stored!(Flow<F>, [F: Family] {
    isn: u32,
    started: u32,
    asked_or_pending: u32,
    next_from_client: u32,
    next_from_server: u32,
    service: u16,
    heard: Coarse,
    server: Endpoint<F>,
    replica: Endpoint<F>,
    retransmits: u8,
    tracking: TcpTracking,
    format: Format,
    race: RaceFlags,
});

/// What is known of a race beside its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct RaceFlags(u8);

stored!(RaceFlags, [] { 0: u8 });

impl RaceFlags {
    const UNTAGGED: u8 = 1;
    const DEFERRED: u8 = 1 << 1;
    const ANSWERED: u8 = 1 << 2;
    const TAGGED: u8 = 1 << 3;
    const UNTAGGED_LATE: u8 = 1 << 4;
    const PENDING: u8 = 1 << 5;
    const TWO_NUMBERS: u8 = 1 << 6;
    const REPEATED: u8 = 1 << 7;

    /// Returns the meaning of the bits, for the test that compares layouts.
    #[cfg(test)]
    pub(crate) fn described() -> String {
        let sent = [Self::UNTAGGED, Self::DEFERRED, Self::TAGGED, Self::UNTAGGED_LATE];
        let others = [Self::ANSWERED, Self::PENDING, Self::TWO_NUMBERS, Self::REPEATED];
        format!(
            "untagged, deferred, tagged, untagged late {sent:?}, answered, pending, two numbers, \
             repeated {others:?}"
        )
    }

    /// Notes that the SYN came once more before its retransmission was due.
    pub fn note_repeated(&mut self) {
        self.0 |= Self::REPEATED;
    }

    /// Returns whether the SYN came once more before its retransmission was due: which of them an
    /// answer is to is not known.
    pub fn is_repeated(self) -> bool {
        self.0 & Self::REPEATED != 0
    }

    /// Notes that a SYN of the race was sent to the server with a tag.
    pub fn note_tagged(&mut self) {
        self.0 |= Self::TAGGED;
    }

    /// Returns whether a SYN of the race was sent to the server with a tag.
    pub fn is_tagged(self) -> bool {
        self.0 & Self::TAGGED != 0
    }

    /// Notes that a SYN was sent to the server without a tag, at least a second after the tagged
    /// ones.
    pub fn note_untagged_late(&mut self) {
        self.0 |= Self::UNTAGGED_LATE;
    }

    /// Returns whether a SYN was sent to the server without a tag, at least a second after the
    /// tagged ones.
    pub fn is_untagged_late(self) -> bool {
        self.0 & Self::UNTAGGED_LATE != 0
    }

    /// Notes that a SYN of the race was sent to the server without a tag.
    pub fn note_untagged(&mut self) {
        self.0 |= Self::UNTAGGED;
    }

    /// Returns whether a SYN of the race was sent to the server without a tag.
    pub fn is_untagged(self) -> bool {
        self.0 & Self::UNTAGGED != 0
    }

    /// Notes that the SYN to the server waits.
    pub fn note_deferred(&mut self) {
        self.0 |= Self::DEFERRED;
    }

    /// Returns whether the SYN to the server waits, or has waited.
    pub fn is_deferred(self) -> bool {
        self.0 & Self::DEFERRED != 0
    }

    /// Returns whether a replica's answer would have won.
    pub fn has_shadow_answer(self) -> bool {
        self.0 & Self::ANSWERED != 0
    }

    /// Notes that the winner has answered twice, with different sequence numbers: either may be the
    /// one that the client has accepted.
    pub fn note_two_numbers(&mut self) {
        self.0 |= Self::TWO_NUMBERS;
    }

    /// Returns whether the winner has answered with different sequence numbers.
    pub fn has_two_numbers(self) -> bool {
        self.0 & Self::TWO_NUMBERS != 0
    }

    /// Notes an answer that would have won if the origin did not win all races of the service.
    /// Returns whether it is the first.
    pub fn note_shadow_answer(&mut self) -> bool {
        let is_first = self.0 & Self::ANSWERED == 0;
        self.0 |= Self::ANSWERED;
        is_first
    }
}

/// A time in units of 2^30 ns (1.07 s); wraps after 19.5 hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
struct Coarse(u16);

stored!(Coarse, [] { 0: u16 });

impl Coarse {
    const UNIT: u32 = 30;

    #[inline(always)]
    fn of(time: Ticks) -> Self {
        Self((time.0 >> Self::UNIT) as u16)
    }

    /// Returns the time that has passed since, up to a unit more or less.
    fn until(self, now: Ticks) -> Ticks {
        Ticks(u64::from(Self::of(now).0.wrapping_sub(self.0)) << Self::UNIT)
    }
}

/// What tells a race from other races of the same client endpoint: the sequence number of its SYN,
/// and when that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaceId(u32, u32);

impl<F: Family> Flow<F> {
    /// Returns a race that starts now.
    pub fn new(server: Endpoint<F>, isn: u32, service: u16, now: Ticks) -> Self {
        Self {
            server,
            replica: Endpoint::NONE,
            isn,
            started: now.micros() as u32,
            asked_or_pending: 0,
            next_from_client: 0,
            next_from_server: 0,
            service,
            heard: Coarse::of(now),
            retransmits: 0,
            tracking: TcpTracking::default(),
            format: Format::default(),
            race: RaceFlags::default(),
        }
    }

    /// Returns the time since the first SYN of the race, up to 71 min.
    pub fn elapsed(&self, now: Ticks) -> Ticks {
        Ticks::from_micros((now.micros() as u32).wrapping_sub(self.started).into())
    }

    /// Returns the identity of the race.
    pub fn race_id(&self) -> RaceId {
        RaceId(self.isn, self.started)
    }

    /// Returns the sites that got a direct copy of a SYN of the race: one bit for each number in
    /// the plan.
    #[inline]
    pub fn asked(&self) -> u32 {
        if self.race.0 & RaceFlags::PENDING == 0 { self.asked_or_pending } else { 0 }
    }

    /// Notes sites that got a direct copy of a SYN of the race.
    pub fn note_asked(&mut self, sites: u32) {
        self.asked_or_pending = self.asked() | sites;
    }

    /// Returns the sequence number of the last SYN of another connection that was sent to the
    /// winner alone.
    pub fn pending_isn(&self) -> Option<u32> {
        (self.race.0 & RaceFlags::PENDING != 0).then_some(self.asked_or_pending)
    }

    /// Notes that the SYN of another connection was sent to the winner alone. Who was asked in the
    /// race is forgotten.
    pub fn note_pending(&mut self, isn: u32) {
        self.race.0 |= RaceFlags::PENDING;
        self.asked_or_pending = isn;
    }

    /// Notes that the client was heard. Called for every packet of the client.
    #[inline(always)]
    pub fn note_heard(&mut self, now: Ticks) {
        self.heard = Coarse::of(now);
    }

    /// Returns the time since the client was heard last, up to 1.1 s more or less.
    pub fn unheard_for(&self, now: Ticks) -> Ticks {
        self.heard.until(now)
    }

    /// Returns about the sequence number of the next packet from this side.
    pub fn next_from(&self, side: Side) -> u32 {
        match side {
            Side::Inside => self.next_from_client,
            Side::Outside => self.next_from_server,
        }
    }

    /// Notes that the winner has accepted a new connection of the same endpoints, whose SYN has
    /// the sequence number `isn`, with a SYN/ACK whose sequence number is `iss`.
    pub fn restart(&mut self, isn: u32, iss: u32) {
        self.isn = isn;
        self.race = RaceFlags::default();
        self.asked_or_pending = 0;
        self.open(iss);
    }

    /// Notes that a replica has won with a SYN/ACK whose sequence number is `iss`; `format` is the
    /// format of tunnels to it, should there be any.
    pub fn won_by(&mut self, replica: Endpoint<F>, format: Format, iss: u32) {
        self.replica = replica;
        self.format = format;
        self.open(iss);
    }

    fn open(&mut self, iss: u32) {
        self.tracking = TcpTracking::default();
        self.next_from_client = self.isn.wrapping_add(1);
        self.next_from_server = iss.wrapping_add(1);
    }

    /// Returns the addresses between which packets of this connection are translated, once a
    /// replica has won.
    #[inline]
    pub fn translation(&self, client: Endpoint<F>) -> Translation<F> {
        Translation { client, server: self.server, replica: self.replica, format: self.format }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Entry;
    use crate::wire::family::V4;

    #[test]
    fn an_ipv4_connection_is_one_cache_line() {
        assert_eq!(size_of::<Entry<Endpoint<V4>, Phase, Flow<V4>>>(), 64);
    }

    #[test]
    fn a_restart_forgets_the_fins_and_keeps_the_winner() {
        let mut flow = Flow::<V4>::new(Endpoint::NONE, 7, 0, Ticks(0));
        flow.won_by(Endpoint::NONE, Format::Gue, 100);
        assert_eq!((flow.next_from_client, flow.next_from_server), (8, 101));
        flow.tracking.note_fin(Side::Inside);
        flow.tracking.note_fin(Side::Outside);
        flow.restart(9, 200);
        assert_eq!((flow.isn, flow.format), (9, Format::Gue));
        assert_eq!((flow.next_from_client, flow.next_from_server), (10, 201));
        assert!(!flow.tracking.has_both_fins());
    }

    #[test]
    fn a_pending_number_takes_the_place_of_who_was_asked() {
        let mut flow = Flow::<V4>::new(Endpoint::NONE, 7, 0, Ticks(0));
        flow.note_asked(0b01);
        flow.note_asked(0b10);
        assert_eq!((flow.asked(), flow.pending_isn()), (0b11, None));
        flow.note_pending(9);
        assert_eq!((flow.asked(), flow.pending_isn()), (0, Some(9)));
        flow.restart(9, 0);
        assert_eq!((flow.asked(), flow.pending_isn()), (0, None));
    }

    #[test]
    fn the_time_since_the_client_was_heard_is_right_to_a_second_or_so() {
        let mut flow = Flow::<V4>::new(Endpoint::NONE, 7, 0, Ticks(0));
        for (heard, now) in [(0, 0), (9, 10), (100, 7300), (70_000, 70_003), (1, 60_000)] {
            flow.note_heard(Ticks::from_secs(heard));
            let unheard = flow.unheard_for(Ticks::from_secs(now)).micros() as f64 / 1e6;
            assert!((unheard - (now - heard) as f64).abs() < 1.1, "{heard} {now}: {unheard}");
        }
    }
}
