//! Whole roles: a burst looked at, decided, acted upon, and the housekeeping after it.

use firstack_packets::{Segment, ethernet_frame, ip_packet};
use pipeline::configuration::{A, B, C, Configuration};
use pipeline::role::Role;
use pipeline::role::gateway::Gateway;
use pipeline::stage::tag::Code;
use pipeline::time::Ticks;
use pipeline::verdict::Verdict;
use pipeline::view::Side;

use super::{Case, Named, ROUNDS, Work};
use crate::cast::{Cast, LOSERS, SERVER, V4, V6, frames, from_replica, ip, run_all, tagged};
use crate::rigs::{established, gateway_rig, replica_rig, switch_rig};
use crate::{BURST, Rig};

/// Connections that are open where established ones are measured.
const OPEN: usize = 1024;
/// Connections that are new, 32 a round.
const NEW: usize = ROUNDS * BURST;

pub(super) fn cases() -> Vec<Case> {
    let packets: [Named; 29] = [
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
        ("switch_fan_out_to_2", || switch(|c| tagged(c, SERVER, Code::A), Verdict::FannedOut)),
        ("switch_to_server", || switch(|c| Segment::ack(c, SERVER, 8, 6), Verdict::ToServer)),
        ("replica_a_copy", || copies(Code::A, V4)),
        ("replica_a_to_web_server", || to_web_server(Code::A, V4)),
        ("replica_a_from_web_server", || from_web_server(Code::A, V4)),
        ("replica_b_copy", || copies(Code::B, V4)),
        ("replica_b_to_web_server", || to_web_server(Code::B, V4)),
        ("replica_b_from_web_server", || from_web_server(Code::B, V4)),
        ("replica_c_copy", || copies(Code::C, V4)),
        ("replica_c_to_web_server", || to_web_server(Code::C, V4)),
        ("replica_c_from_web_server", || from_web_server(Code::C, V4)),
        ("replica_c_copy_v6", || copies(Code::C, V6)),
        ("replica_c_to_web_server_v6", || to_web_server(Code::C, V6)),
        ("replica_c_from_web_server_v6", || from_web_server(Code::C, V6)),
        ("replica_a_copy_again", copies_again),
    ];
    let races: [Named; 3] =
        [("race_a", races::<A>), ("race_b", races::<B>), ("race_c", races::<C>)];
    let idle: [Named; 4] = [
        ("gateway_expiry", || expiry(open_races(), Ticks::from_secs(60))),
        ("switch_expiry", || {
            expiry(opened(switch_rig(), &to_switch(), Verdict::FannedOut), Ticks::from_secs(60))
        }),
        ("replica_expiry", || {
            let copies = copy_frames(Code::A, V4, NEW);
            expiry(opened(replica_rig(), &copies, Verdict::Cracked), Ticks::from_secs(60))
        }),
        ("gateway_empty_burst", || expiry(established::<A>(V4, OPEN), Ticks(0))),
    ];
    let packets = packets.map(|(name, build)| Case::burst(name, "packet", build));
    let races =
        races.map(|(name, build)| Case { name, unit: "race", steps: 4, units: BURST, build });
    let idle = idle.map(|(name, build)| Case { name, unit: "burst", steps: 1, units: 1, build });
    packets.into_iter().chain(races).chain(idle).collect()
}

/// Frames that arrive together, and what becomes of all of them.
struct Arrival {
    side: Side,
    frames: Vec<Vec<u8>>,
    expected: Verdict,
}

/// Bursts that arrive one after the other, and again from the first.
struct Arrivals<R> {
    rig: Rig<R>,
    arrivals: Vec<Arrival>,
    next: usize,
}

impl<R: Role> Work for Arrivals<R> {
    fn prepare(&mut self) {
        self.rig.load(self.arrivals[self.next].frames.iter().map(Vec::as_slice));
    }

    fn step(&mut self) {
        self.rig.step(self.arrivals[self.next].side);
    }

    fn check(&mut self) {
        self.rig.unload(self.arrivals[self.next].expected);
        self.next = (self.next + 1) % self.arrivals.len();
    }
}

fn arrivals(side: Side, frames: &[Vec<u8>], expected: Verdict) -> Vec<Arrival> {
    let arrival = |frames: &[Vec<u8>]| Arrival { side, frames: frames.to_vec(), expected };
    frames.chunks(BURST).map(arrival).collect()
}

fn work<R: Role + 'static>(rig: Rig<R>, arrivals: Vec<Arrival>) -> Box<dyn Work> {
    Box::new(Arrivals { rig, arrivals, next: 0 })
}

fn to_replica<Q: Configuration + 'static>(cast: Cast) -> Box<dyn Work> {
    let frames = frames(cast, OPEN, |client| {
        Segment::ack(client, cast.server, 8, 6).payload(&[0; 6]).frame()
    });
    work(established::<Q>(cast, OPEN), arrivals(Side::Inside, &frames, Verdict::ToReplica))
}

fn back<Q: Configuration + 'static>(cast: Cast) -> Box<dyn Work> {
    let frames = frames(cast, OPEN, |client| from_replica(Q::CODE, cast, client, false));
    let expected = if Q::FOLLOWS_PLAIN { Verdict::FromReplica } else { Verdict::Passed };
    work(established::<Q>(cast, OPEN), arrivals(Side::Outside, &frames, expected))
}

fn syn_frames(count: usize) -> Vec<Vec<u8>> {
    frames(V4, count, |client| Segment::syn(client, SERVER, 7).frame())
}

/// Start packets of ever new clients, in a table of this many entries.
fn syns(entries: usize) -> Box<dyn Work> {
    let arrivals = arrivals(Side::Inside, &syn_frames(NEW), Verdict::Tagged);
    work(gateway_rig::<A>(entries), arrivals)
}

/// SYN in, tagged out; SYN/ACK in, decided, out; two losers reset: 32 races in four steps.
fn races<Q: Configuration + 'static>() -> Box<dyn Work> {
    let answers = |cast| frames(cast, NEW, |client| from_replica(Q::CODE, cast, client, true));
    let origin = frames(V4, NEW, |client| Segment::syn_ack(LOSERS[1], client, 5, 8).frame());
    let mut parts = [
        arrivals(Side::Inside, &syn_frames(NEW), Verdict::Tagged),
        arrivals(Side::Outside, &answers(V4), Verdict::ReplicaWon),
        arrivals(Side::Outside, &answers(Cast { replica: LOSERS[0], ..V4 }), Verdict::LoserReset),
        arrivals(Side::Outside, &origin, Verdict::LoserReset),
    ]
    .map(Vec::into_iter);
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        all.extend(parts.iter_mut().filter_map(Iterator::next));
    }
    work(gateway_rig::<Q>(NEW), all)
}

/// Packets to a service whose connection the table does not know.
fn no_entry() -> Box<dyn Work> {
    let mut frames = frames(V4, OPEN, |client| Segment::ack(client, SERVER, 8, 6).frame());
    // Clients that have not opened any.
    frames.iter_mut().for_each(|frame| frame[26] = 10);
    work(established::<A>(V4, OPEN), arrivals(Side::Inside, &frames, Verdict::NoEntry))
}

/// Packets that no role has anything to do with: what a burst costs by itself, from the look at
/// each packet to verdicts, counters and output.
fn not_tcp() -> Box<dyn Work> {
    const UDP: u8 = 17;
    let macs = ([2; 6], [2; 6]);
    let frames = frames(V4, OPEN, |client| {
        let ends = (ip(client).parse(), ip(SERVER).parse());
        let (from, to) = (ends.0.expect("an address"), ends.1.expect("an address"));
        ethernet_frame(macs, &ip_packet(from, to, UDP, 0, &[0; 26]))
    });
    work(gateway_rig::<A>(OPEN), arrivals(Side::Inside, &frames, Verdict::OtherProtocol))
}

fn to_switch() -> Vec<Vec<u8>> {
    frames(V4, NEW, |client| tagged(client, SERVER, Code::A).frame())
}

fn switch(segment: fn(&str) -> Segment, expected: Verdict) -> Box<dyn Work> {
    let frames = frames(V4, OPEN, |client| segment(client).frame());
    work(switch_rig(), arrivals(Side::Outside, &frames, expected))
}

/// Copies of start packets as the switch sends them.
fn copy_frames(code: Code, cast: Cast, count: usize) -> Vec<Vec<u8>> {
    frames(cast, count, |client| {
        tagged(client, cast.server, code).tunnelled(&ip(cast.server), &ip(cast.replica))
    })
}

fn copies(code: Code, cast: Cast) -> Box<dyn Work> {
    let frames = copy_frames(code, cast, NEW);
    work(replica_rig(), arrivals(Side::Outside, &frames, Verdict::Cracked))
}

fn copies_again() -> Box<dyn Work> {
    let frames = copy_frames(Code::A, V4, OPEN);
    let rig = opened(replica_rig(), &frames, Verdict::Cracked);
    work(rig, arrivals(Side::Outside, &frames, Verdict::CrackedAgain))
}

fn to_web_server(code: Code, cast: Cast) -> Box<dyn Work> {
    let rig = opened(replica_rig(), &copy_frames(code, cast, OPEN), Verdict::Cracked);
    let frames = frames(cast, OPEN, |client| match code {
        Code::A | Code::B => Segment::ack(client, cast.replica, 8, 6).frame(),
        Code::C => {
            Segment::ack(client, cast.server, 8, 6).tunnelled(&ip(client), &ip(cast.replica))
        }
    });
    work(rig, arrivals(Side::Outside, &frames, Verdict::ToWebServer))
}

fn from_web_server(code: Code, cast: Cast) -> Box<dyn Work> {
    let rig = opened(replica_rig(), &copy_frames(code, cast, OPEN), Verdict::Cracked);
    let frames = frames(cast, OPEN, |client| Segment::ack(cast.replica, client, 6, 8).frame());
    work(rig, arrivals(Side::Inside, &frames, Verdict::FromWebServer))
}

/// After these frames from the outside have opened connections.
fn opened<R: Role>(mut rig: Rig<R>, frames: &[Vec<u8>], expected: Verdict) -> Rig<R> {
    run_all(&mut rig, Side::Outside, frames, expected);
    rig
}

fn open_races() -> Rig<Gateway<A>> {
    let mut rig = gateway_rig(NEW);
    run_all(&mut rig, Side::Inside, &syn_frames(NEW), Verdict::Tagged);
    rig
}

/// Bursts without a packet, after this time: the housekeeping alone, with entries that have
/// expired when there are any.
fn expiry<R: Role + 'static>(mut rig: Rig<R>, after: Ticks) -> Box<dyn Work> {
    rig.wait(after);
    let (side, frames, expected) = (Side::Inside, Vec::new(), Verdict::Passed);
    work(rig, vec![Arrival { side, frames, expected }])
}
