//! The gateway of configuration A beside its plain model: what leaves, by which side, under
//! which name, and what is known of every client after each packet.

use std::cell::Cell;
use std::net::SocketAddrV4;
use std::time::Duration;

use firstack_tests::model::event::{Input, Step, crowd, story};
use firstack_tests::model::related::fragment;
use firstack_tests::model::{
    ACK, Arrival, CLIENTS, Carrier, Fed, Model, Onward, Outcome, PEERS, Packet, Rig, SYN, State,
    Tally, gateway, run,
};
use pipeline::configuration::A;
use pipeline::role::Role;
use pipeline::role::gateway::{Gateway, Settings, Timeouts};
use pipeline::time::Ticks;
use pipeline::verdict::{Fate, Verdict};
use pipeline::view::Side;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const SERVER: SocketAddrV4 = PEERS[0];
const REPLICA: SocketAddrV4 = PEERS[4];

/// What configuration A's gateway can decide in the main property.
const REACHABLE: [Verdict; 49] = [
    Verdict::NonIp,
    Verdict::Ipv6,
    Verdict::OtherProtocol,
    Verdict::Icmp,
    Verdict::Fragment,
    Verdict::ForeignTunnel,
    Verdict::NoEntry,
    Verdict::NoService,
    Verdict::EthernetTruncated,
    Verdict::IpTruncated,
    Verdict::IpVersion,
    Verdict::IpHeaderLength,
    Verdict::IpTotalLength,
    Verdict::TcpTruncated,
    Verdict::TcpDataOffset,
    Verdict::Tagged,
    Verdict::TaggedAgain,
    Verdict::TaggedAnew,
    Verdict::UntaggedRepeat,
    Verdict::UntaggedBackoff,
    Verdict::UntaggedNoRoom,
    Verdict::UntaggedData,
    Verdict::UntaggedFastOpen,
    Verdict::UntaggedAlready,
    Verdict::UntaggedSigned,
    Verdict::UntaggedIpChecksum,
    Verdict::UntaggedTcpChecksum,
    Verdict::UntaggedOptions,
    Verdict::UntaggedEndpointBusy,
    Verdict::UntaggedNoHeadroom,
    Verdict::StartToWinner,
    Verdict::ToReplica,
    Verdict::OtherServer,
    Verdict::RaceUndecided,
    Verdict::WithOrigin,
    Verdict::OriginWon,
    Verdict::ReplicaWon,
    Verdict::AcknowledgementRepeated,
    Verdict::ResetByOrigin,
    Verdict::FromReplica,
    Verdict::FromOther,
    Verdict::LoserReset,
    Verdict::WrongAcknowledgement,
    Verdict::NotPermitted,
    Verdict::ResetByReplica,
    Verdict::FromLoser,
    Verdict::IcmpTranslated,
    Verdict::FragmentTranslated,
    Verdict::FragmentUnknown,
];
/// Those and what only damaged acknowledgements bring about.
const DAMAGED: [Verdict; 2] =
    [Verdict::AcknowledgementIpChecksum, Verdict::AcknowledgementTcpChecksum];

/// Gateway and model side by side.
struct Pair {
    rig: Rig<Gateway<A>>,
    model: Model,
    now: Duration,
    /// Everything that came in, and what it came to.
    arrivals: Vec<Arrival>,
    fed: Fed,
    capacity: usize,
}

impl Pair {
    fn new(settings: Settings) -> Self {
        Self {
            capacity: settings.max_connections,
            model: Model::new(settings.clone()),
            rig: Rig::gateway(settings),
            now: Duration::from_secs(1),
            arrivals: Vec::new(),
            fed: Fed::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        self.now += step.wait;
        self.model.pass(self.now);
        match step.on_the_wire(&self.model) {
            Some((side, input, frame, carrier)) => {
                self.receive(&input, Arrival { at: self.now, side, frame, carrier });
            }
            None => self.tidy(),
        }
    }

    fn receive(&mut self, input: &Input, arrival: Arrival) {
        let outcome = match input {
            Input::Tcp(packet) => {
                let headroom = arrival.carrier != Carrier::Cramped;
                self.model.receive(self.now, arrival.side, packet, headroom)
            }
            Input::Error(error) => self.model.receive_error(self.now, arrival.side, error),
            Input::Fragment(packet, first) => {
                self.model.receive_fragment(self.now, arrival.side, packet, *first)
            }
            Input::Foreign(verdict) => {
                Outcome { verdict: *verdict, onward: Onward::Untouched, reset: None }
            }
        };
        let fed = self.rig.feed(std::slice::from_ref(&arrival));
        assert_eq!(fed.verdicts, [outcome.verdict]);
        check_onward(&arrival, &outcome, fed.by(arrival.side.other()));
        match (&outcome.reset, fed.by(arrival.side)) {
            (None, back) => assert!(back.is_empty(), "sent back: {back:?}"),
            (Some(reset), [back]) => assert_eq!(&Packet::read(back).unwrap(), reset),
            (Some(_), back) => panic!("not one reset: {back:?}"),
        }
        let evicted = self.rig.role.counters().table.evicted.get();
        assert_eq!(evicted, self.model.evicted, "evictions");
        self.arrivals.push(arrival);
        self.fed.append(fed);
    }

    /// Housekeeping, after which the gauges are exact.
    fn tidy(&mut self) {
        let made = self.rig.housekeep(self.now);
        assert_eq!(made, [Vec::<Vec<u8>>::new(), Vec::new()]);
        let states = [State::Racing, State::Replica, State::Origin, State::Closing];
        let expected = states.map(|state| self.model.count(state));
        let live = self.rig.gauges();
        assert_eq!(live, expected, "entries by state");
        assert!(live.iter().sum::<usize>() <= self.capacity);
    }
}

fn check_onward(arrival: &Arrival, outcome: &Outcome, onward: &[Vec<u8>]) {
    match (&outcome.onward, onward) {
        (Onward::Nothing, []) => assert_ne!(outcome.verdict.fate(), Fate::Forwarded),
        (Onward::Untouched, [frame]) => assert_eq!(frame, &arrival.frame),
        (Onward::Frame(expected), [frame]) => assert_eq!(frame, expected),
        (Onward::Changed(expected), [frame]) => {
            let packet = Packet::read(frame).expect("what leaves is whole");
            assert_eq!(&packet, &**expected);
        }
        (expected, got) => panic!("expected {expected:?}, got {got:02x?}"),
    }
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    let usual = Timeouts::default();
    // Origins live on long enough for the reuse of their endpoint to be met.
    let long_window = Timeouts { race_window: Ticks::from_secs(120), ..usual };
    prop_oneof![2 => Just(usual), 1 => Just(long_window)]
}

#[test]
fn does_what_the_model_says_in_bursts_of_any_size() {
    let tally = Tally::default();
    let case = (timeouts(), story(3), vec(1usize..=64, 1..6));
    run(4000, &case, |(timeouts, steps, sizes)| {
        let settings = gateway(64, timeouts);
        let mut pair = Pair::new(settings.clone());
        steps.iter().for_each(|step| pair.step(step));
        pair.tidy();
        tally.add(&pair.fed.verdicts);
        let in_bursts = Rig::gateway(settings).feed_in_bursts(&pair.arrivals, &sizes);
        assert_eq!(in_bursts, pair.fed, "bursts of {sizes:?}");
    });
    tally.check(&REACHABLE);
    tally.check(&DAMAGED);
}

#[test]
fn a_full_table_gives_up_the_expired_then_the_oldest_race_and_nothing_else() {
    let tally = Tally::default();
    let evicted = Cell::new(0);
    let case = (crowd(CLIENTS.len()), select(vec![1usize, 4, 7]));
    run(2000, &case, |(steps, capacity)| {
        let mut pair = Pair::new(gateway(capacity, Timeouts::default()));
        for step in &steps {
            pair.step(step);
        }
        still_translated(&mut pair);
        tally.add(&pair.fed.verdicts);
        evicted.set(evicted.get() + pair.model.evicted);
    });
    tally.check(&[Verdict::UntaggedTableFull, Verdict::Tagged, Verdict::ToReplica]);
    assert!(evicted.take() > 0, "nothing was ever evicted");
}

/// Every connection that a replica has won and that has not timed out is translated.
fn still_translated(pair: &mut Pair) {
    for client in CLIENTS {
        let Some(record) = pair.model.record(client).cloned() else { continue };
        if record.state != State::Replica {
            continue;
        }
        let packet = Packet::new(client, record.server, ACK);
        let arrival = Arrival {
            at: pair.now,
            side: Side::Inside,
            frame: packet.frame(),
            carrier: Carrier::Whole,
        };
        pair.receive(&Input::Tcp(packet), arrival);
        assert_eq!(pair.fed.verdicts.last(), Some(&Verdict::ToReplica));
    }
}

impl Pair {
    /// A pair at which a replica has won the first client's race.
    fn won() -> Self {
        let mut pair = Self::new(gateway(64, Timeouts::default()));
        let mut answer = Packet::new(REPLICA, CLIENTS[0], SYN | ACK);
        answer.acknowledgement = 1;
        pair.pass(Side::Inside, &Packet::new(CLIENTS[0], SERVER, SYN));
        pair.pass(Side::Outside, &answer);
        assert_eq!(pair.fed.verdicts, [Verdict::Tagged, Verdict::ReplicaWon]);
        pair
    }

    fn pass(&mut self, side: Side, packet: &Packet) {
        self.arrive(&Input::Tcp(packet.clone()), side, packet.frame());
    }

    fn arrive(&mut self, input: &Input, side: Side, frame: Vec<u8>) {
        self.receive(input, Arrival { at: self.now, side, frame, carrier: Carrier::Whole });
    }

    fn fragment(&mut self, from: SocketAddrV4, first: bool) {
        let mut packet = Packet::new(from, SERVER, ACK);
        (packet.id, packet.payload) = (7, vec![1; 21]);
        let frame = fragment(&packet, first);
        self.arrive(&Input::Fragment(packet, first), Side::Inside, frame);
    }
}

/// The host of the first client has another connection to the same server, untranslated.
#[test]
fn fragments_of_an_untranslated_connection_pass_beside_a_translated_one() {
    let mut pair = Pair::won();
    pair.fragment(CLIENTS[0], true);
    pair.fragment(CLIENTS[0], false);
    assert_eq!(pair.fed.verdicts[2..], [Verdict::FragmentTranslated; 2]);
    pair.fragment(CLIENTS[1], true);
    pair.fragment(CLIENTS[1], false);
    assert_eq!(pair.fed.verdicts[4..], [Verdict::Fragment; 2]);
}

#[test]
fn an_identification_that_recurs_is_remembered_anew() {
    let mut pair = Pair::won();
    pair.fragment(CLIENTS[0], true);
    pair.now += Duration::from_secs(29);
    pair.fragment(CLIENTS[0], true);
    pair.now += Duration::from_secs(2);
    pair.fragment(CLIENTS[0], false);
    assert_eq!(pair.fed.verdicts[2..], [Verdict::FragmentTranslated; 3]);
}
