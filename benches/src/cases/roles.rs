//! Whole roles: a burst is classified, decided and acted upon, with the periodic work after it.

use firstack_packets::{Segment, ethernet_frame, ip_packet};
use pipeline::base::time::Ticks;
use pipeline::packet::view::Side;
use pipeline::role::Role;
use pipeline::role::gateway::Gateway;
use pipeline::role::gateway::mode::{A, B, C, Mode};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::{Case, Named, ROUNDS, Work};
use crate::fixtures::{LOSERS, Peers, SERVER, V4, V6, frames, from_replica, ip, run_all, tagged};
use crate::roles::{established, gateway_harness, replica_harness, switch_harness};
use crate::{BURST, Harness};

/// Open connections in cases of established ones.
pub(super) const OPEN: usize = 1024;
/// New connections, 32 per round.
pub(super) const NEW: usize = ROUNDS * BURST;

pub(super) fn cases() -> Vec<Case> {
    let packets: [Named; 21] = [
        ("gateway_a_to_replica", || to_replica::<A>(V4)),
        ("gateway_a_from_replica", || back::<A>(V4)),
        ("gateway_b_to_replica", || to_replica::<B>(V4)),
        ("gateway_b_from_replica", || back::<B>(V4)),
        ("gateway_c_to_replica", || to_replica::<C>(V4)),
        ("gateway_c_from_replica", || back::<C>(V4)),
        ("gateway_a_to_replica_v6", || to_replica::<A>(V6)),
        ("gateway_a_from_replica_v6", || back::<A>(V6)),
        ("gateway_c_to_replica_v6", || to_replica::<C>(V6)),
        ("gateway_c_from_replica_v6", || back::<C>(V6)),
        ("gateway_syn_tagged", || syns(NEW)),
        ("gateway_syn_in_full_table", || syns(OPEN / 2)),
        ("gateway_no_entry", no_entry),
        ("gateway_not_tcp", not_tcp),
        ("switch_fan_out_to_2", || {
            switch(|c| tagged(c, SERVER, Configuration::A), Verdict::FannedOut)
        }),
        ("switch_to_server_unknown", || {
            switch(|c| Segment::ack(c, SERVER, 8, 6), Verdict::ToServer)
        }),
        ("replica_a_copy", || copies(Configuration::A, V4)),
        ("replica_b_copy", || copies(Configuration::B, V4)),
        ("replica_c_copy", || copies(Configuration::C, V4)),
        ("replica_c_copy_v6", || copies(Configuration::C, V6)),
        ("replica_a_copy_again", copies_again),
    ];
    let races: [Named; 3] =
        [("race_a", races::<A>), ("race_b", races::<B>), ("race_c", races::<C>)];
    let idle: [Named; 4] = [
        ("gateway_expiry", || expiry(open_races(), Ticks::from_secs(60))),
        ("switch_expiry", || {
            expiry(opened(switch_harness(), &to_switch(), Verdict::FannedOut), Ticks::from_secs(60))
        }),
        ("replica_expiry", || {
            let copies = copy_frames(Configuration::A, V4, NEW);
            expiry(opened(replica_harness(), &copies, Verdict::CopyAccepted), Ticks::from_secs(60))
        }),
        ("gateway_empty_burst", || expiry(established::<A>(V4, OPEN), Ticks(0))),
    ];
    let packets = packets.map(|(name, build)| Case::burst(name, "packet", build));
    let races =
        races.map(|(name, build)| Case { name, unit: "race", steps: 4, units: BURST, build });
    let idle = idle.map(|(name, build)| Case { name, unit: "burst", steps: 1, units: 1, build });
    packets.into_iter().chain(races).chain(idle).collect()
}

/// Frames that arrive together, and the verdict on all of them.
pub(super) struct Arrival {
    pub(super) side: Side,
    pub(super) frames: Vec<Vec<u8>>,
    pub(super) expected: Verdict,
}

/// Bursts that arrive one after the other, repeatedly.
pub(super) struct Arrivals<R> {
    harness: Harness<R>,
    arrivals: Vec<Arrival>,
    next: usize,
    /// The time that passes before each of them.
    pause: Ticks,
}

impl<R> Arrivals<R> {
    /// Returns the work of these arrivals, with no time between them.
    pub(super) fn new(harness: Harness<R>, arrivals: Vec<Arrival>) -> Self {
        Self { harness, arrivals, next: 0, pause: Ticks(0) }
    }

    /// Lets this time pass before each arrival.
    pub(super) fn every(self, pause: Ticks) -> Self {
        Self { pause, ..self }
    }

    /// Returns the verdict on the packets that arrive next.
    pub(super) fn expected(&self) -> Verdict {
        self.arrivals[self.next].expected
    }
}

impl<R: Role> Work for Arrivals<R> {
    fn prepare(&mut self) {
        self.harness.wait(self.pause);
        self.harness.load(self.arrivals[self.next].frames.iter().map(Vec::as_slice));
    }

    fn step(&mut self) {
        self.harness.step(self.arrivals[self.next].side);
    }

    fn check(&mut self) {
        self.harness.unload(self.arrivals[self.next].expected);
        self.next = (self.next + 1) % self.arrivals.len();
    }
}

pub(super) fn arrivals(side: Side, frames: &[Vec<u8>], expected: Verdict) -> Vec<Arrival> {
    let arrival = |frames: &[Vec<u8>]| Arrival { side, frames: frames.to_vec(), expected };
    frames.chunks(BURST).map(arrival).collect()
}

pub(super) fn work<R: Role + 'static>(
    harness: Harness<R>,
    arrivals: Vec<Arrival>,
) -> Box<dyn Work> {
    Box::new(Arrivals::new(harness, arrivals))
}

fn to_replica<Q: Mode + 'static>(peers: Peers) -> Box<dyn Work> {
    let frames = frames(peers, OPEN, |client| {
        Segment::ack(client, peers.server, 8, 6).payload(&[0; 6]).frame()
    });
    work(established::<Q>(peers, OPEN), arrivals(Side::Inside, &frames, Verdict::ToReplica))
}

fn back<Q: Mode + 'static>(peers: Peers) -> Box<dyn Work> {
    let frames = frames(peers, OPEN, |client| from_replica(Q::CONFIGURATION, peers, client, false));
    let expected = if Q::REPLIES_NEED_LOOKUP { Verdict::FromReplica } else { Verdict::Passed };
    work(established::<Q>(peers, OPEN), arrivals(Side::Outside, &frames, expected))
}

pub(super) fn syn_frames(count: usize) -> Vec<Vec<u8>> {
    frames(V4, count, |client| Segment::syn(client, SERVER, 7).frame())
}

/// SYNs of ever new clients, with a table of this many entries.
fn syns(entries: usize) -> Box<dyn Work> {
    let arrivals = arrivals(Side::Inside, &syn_frames(NEW), Verdict::Tagged);
    work(gateway_harness::<A>(entries), arrivals)
}

fn races<Q: Mode + 'static>() -> Box<dyn Work> {
    work(gateway_harness::<Q>(NEW), whole_races::<Q>(Verdict::Tagged))
}

/// 32 races in four steps: SYNs are tagged, SYN/ACKs decide the race, two losers are reset. `sent`
/// is the verdict on the SYNs.
pub(super) fn whole_races<Q: Mode>(sent: Verdict) -> Vec<Arrival> {
    in_turn::<Q>([sent, Verdict::ReplicaWon, Verdict::LoserReset, Verdict::LoserReset])
}

/// The same with these verdicts on the SYNs, on the SYN/ACKs of two replicas and of the origin.
pub(super) fn in_turn<Q: Mode>([sent, first, second, last]: [Verdict; 4]) -> Vec<Arrival> {
    let answers =
        |peers| frames(peers, NEW, |client| from_replica(Q::CONFIGURATION, peers, client, true));
    let origin = frames(V4, NEW, |client| Segment::syn_ack(LOSERS[1], client, 5, 8).frame());
    let mut parts = [
        arrivals(Side::Inside, &syn_frames(NEW), sent),
        arrivals(Side::Outside, &answers(V4), first),
        arrivals(Side::Outside, &answers(Peers { replica: LOSERS[0], ..V4 }), second),
        arrivals(Side::Outside, &origin, last),
    ]
    .map(Vec::into_iter);
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        all.extend(parts.iter_mut().filter_map(Iterator::next));
    }
    all
}

/// Packets to a service, of connections that the table does not contain.
fn no_entry() -> Box<dyn Work> {
    let mut frames = frames(V4, OPEN, |client| Segment::ack(client, SERVER, 8, 6).frame());
    // Clients without a connection.
    frames.iter_mut().for_each(|frame| frame[26] = 10);
    work(established::<A>(V4, OPEN), arrivals(Side::Inside, &frames, Verdict::NoEntry))
}

/// Packets that no role handles: the fixed cost of a burst, from parsing to verdicts, counters and
/// output.
fn not_tcp() -> Box<dyn Work> {
    const UDP: u8 = 17;
    let macs = ([2; 6], [2; 6]);
    let frames = frames(V4, OPEN, |client| {
        let ends = (ip(client).parse(), ip(SERVER).parse());
        let (from, to) = (ends.0.expect("an address"), ends.1.expect("an address"));
        ethernet_frame(macs, &ip_packet(from, to, UDP, 0, &[0; 26]))
    });
    work(gateway_harness::<A>(OPEN), arrivals(Side::Inside, &frames, Verdict::OtherProtocol))
}

fn to_switch() -> Vec<Vec<u8>> {
    frames(V4, NEW, |client| tagged(client, SERVER, Configuration::A).frame())
}

fn switch(segment: fn(&str) -> Segment, expected: Verdict) -> Box<dyn Work> {
    let frames = frames(V4, OPEN, |client| segment(client).frame());
    work(switch_harness(), arrivals(Side::Outside, &frames, expected))
}

/// Returns copies of SYNs as the switch sends them.
pub(super) fn copy_frames(code: Configuration, peers: Peers, count: usize) -> Vec<Vec<u8>> {
    frames(peers, count, |client| {
        tagged(client, peers.server, code).tunnelled(&ip(peers.server), &ip(peers.replica))
    })
}

fn copies(code: Configuration, peers: Peers) -> Box<dyn Work> {
    let frames = copy_frames(code, peers, NEW);
    work(replica_harness(), arrivals(Side::Outside, &frames, Verdict::CopyAccepted))
}

fn copies_again() -> Box<dyn Work> {
    let frames = copy_frames(Configuration::A, V4, OPEN);
    let mut harness = opened(replica_harness(), &frames, Verdict::CopyAccepted);
    // An earlier one would be a duplicate.
    harness.wait(Ticks::from_secs(1));
    work(harness, arrivals(Side::Outside, &frames, Verdict::CopyRetransmit))
}

/// Returns the harness after these frames from the outside have opened connections.
pub(super) fn opened<R: Role>(
    mut harness: Harness<R>,
    frames: &[Vec<u8>],
    expected: Verdict,
) -> Harness<R> {
    run_all(&mut harness, Side::Outside, frames, expected);
    harness
}

fn open_races() -> Harness<Gateway<A>> {
    let mut harness = gateway_harness(NEW);
    run_all(&mut harness, Side::Inside, &syn_frames(NEW), Verdict::Tagged);
    harness
}

/// Empty bursts after this time: the periodic work alone, which expires entries that are due.
fn expiry<R: Role + 'static>(mut harness: Harness<R>, after: Ticks) -> Box<dyn Work> {
    harness.wait(after);
    let (side, frames, expected) = (Side::Inside, Vec::new(), Verdict::Passed);
    work(harness, vec![Arrival { side, frames, expected }])
}
