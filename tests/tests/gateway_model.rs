//! The gateway of each configuration beside its plain model, over both families: what leaves, by
//! which side, under which name, and what is known of every client after each packet.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use firstack_tests::model::event::{Event, Input, Step, crowd, trace};
use firstack_tests::model::plan::{Drawn, policy, with_policy};
use firstack_tests::model::related::fragment;
use firstack_tests::model::{
    ACK, Arrival, CLIENTS, Carrier, FIRST_V6, Fed, Harness, Key, Model, Outer, Packet, SYN, State,
    Tally, gateway, peers, run,
};
use pipeline::base::published::Published;
use pipeline::base::time::Ticks;
use pipeline::counters::Generated;
use pipeline::memory::{Plans, Policy};
use pipeline::packet::view::Side;
use pipeline::policy::allow_list::AllowList;
use pipeline::role::Role;
use pipeline::role::gateway::mode::{A, B, C, Mode};
use pipeline::role::gateway::{Gateway, Settings, Timeouts};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;
use pipeline::wire::tunnel::Format;
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What is decided of packets that are nobody's business, in every configuration.
const ANYBODY: &[Verdict] = &[
    Verdict::NonIp,
    Verdict::Ipv6Extensions,
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
    Verdict::FrameCut,
    Verdict::TcpTruncated,
    Verdict::TcpDataOffset,
];

/// What every configuration's gateway can decide besides in the main property.
const COMMON: &[Verdict] = &[
    Verdict::Tagged,
    Verdict::TaggedRetransmit,
    Verdict::TaggedNewIsn,
    Verdict::UntaggedRetransmit,
    Verdict::UntaggedBackoff,
    Verdict::UntaggedNoOptionSpace,
    Verdict::UntaggedData,
    Verdict::UntaggedFastOpen,
    Verdict::UntaggedMpJoin,
    Verdict::UntaggedAlreadyTagged,
    Verdict::UntaggedTcpAuth,
    Verdict::UntaggedIpChecksum,
    Verdict::UntaggedTcpChecksum,
    Verdict::UntaggedOptions,
    Verdict::UntaggedEndpointInUse,
    Verdict::UntaggedNoHeadroom,
    Verdict::SynToWinner,
    Verdict::ToReplica,
    Verdict::OtherServer,
    Verdict::RaceUndecided,
    Verdict::AnsweredElsewhere,
    Verdict::WithOrigin,
    Verdict::OriginWon,
    Verdict::ReplicaWon,
    Verdict::SynAckRetransmit,
    Verdict::ResetByOrigin,
    Verdict::FromReplica,
    Verdict::FromOther,
    Verdict::UnlistedReplica,
    Verdict::LoserReset,
    Verdict::SynAckWrongNumber,
    Verdict::ResetByReplica,
    Verdict::FromLoser,
    Verdict::IcmpTranslated,
    Verdict::FragmentTranslated,
    Verdict::FragmentUnknown,
    Verdict::SynAckIpChecksum,
    Verdict::SynAckTcpChecksum,
    Verdict::LeftToOrigin,
    Verdict::UntaggedClientNotAllowed,
    Verdict::SynDeferred,
    Verdict::SynAckHeld,
    Verdict::ShadowReset,
];

/// What is generated because of plans.
const DIRECT: [Generated; 3] =
    [Generated::DirectCopy, Generated::DeferredSyn, Generated::HeldSynAck];

/// What those can decide besides that open tunnels.
const TUNNELS: &[Verdict] = &[
    Verdict::ReplicaNotAllowed,
    Verdict::ConfigurationMismatch,
    Verdict::TunnelChecksum,
    Verdict::TunnelInnerChecksum,
    Verdict::TunnelCongestion,
];

/// What configuration B can decide besides.
const UNDER_B: &[Verdict] = &[Verdict::Passed, Verdict::ConnectionLost];

/// What configuration C can decide besides.
const UNDER_C: &[Verdict] =
    &[Verdict::ConnectionLost, Verdict::TunnelSpoofed, Verdict::TooBig, Verdict::NoBuffer];

/// The clients of a trace: IPv4, with several addresses of a prefix and several prefixes; IPv6; both.
const CLIENT_SETS: [&[usize]; 3] =
    [&[0, 1, 2, 3, 4, FIRST_V6 - 1], &[FIRST_V6, FIRST_V6 + 1, FIRST_V6 + 2], &[0, 1, FIRST_V6]];

/// What happens between packets.
#[derive(Clone, Debug)]
enum Between {
    /// The gateway does its periodic work at this time.
    Tidy(Duration),
    /// The memory publishes plans.
    Plan(Drawn),
    /// The gateway goes on with these settings.
    Reload(Box<Settings>),
}

/// What a reload changes.
#[derive(Clone, Debug)]
enum Change {
    /// A service leaves the configuration, or comes back.
    Retire(usize, bool),
    /// The replicas that may answer for a service.
    Allow(usize, usize),
    /// The time-outs.
    Times(Timeouts),
    /// Who may race.
    Everybody(bool),
    /// How replicas are asked.
    Ask(Policy),
}

/// The lists of replicas that a reload gives a service.
const LISTS: [&[&str]; 4] = [
    &["0.0.0.0/0", "::/0"],
    &["198.51.100.10/32", "2001:db8:30::10/128"],
    &["198.51.100.11/32", "198.18.99.0/24", "2001:db8:30::11/128", "2001:db8:99::/48"],
    &[],
];

fn list(prefixes: &[&str]) -> AllowList {
    AllowList::only(prefixes.iter().map(|text| text.parse().expect("a prefix")))
}

impl Change {
    fn apply(&self, settings: &mut Settings) {
        match self {
            Self::Retire(number, retired) => settings.services[*number].retired = *retired,
            Self::Allow(number, prefixes) => {
                settings.services[*number].allowed_replicas = list(LISTS[*prefixes]);
            }
            Self::Times(timeouts) => settings.timeouts = *timeouts,
            Self::Everybody(true) => settings.allowed_clients = AllowList::Any,
            Self::Everybody(false) => settings.allowed_clients = some_clients(),
            Self::Ask(policy) => {
                for service in &mut settings.services {
                    // Sites keep their numbers, which another prefix would change.
                    let site_prefix = service.policy.site_prefix;
                    service.policy = Policy { site_prefix, ..policy.clone() };
                }
            }
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let usual = Timeouts::default();
    let s = Ticks::from_secs;
    let short = Timeouts { racing: s(20), established: s(600), closing: s(30), ..usual };
    let long = Timeouts { race_window: s(120), reuse_after: s(9), closing: s(400), ..usual };
    let change = prop_oneof![
        3 => (0..4usize, weighted(0.6)).prop_map(|(number, retired)| Change::Retire(number, retired)),
        3 => (0..4usize, 0..LISTS.len()).prop_map(|(number, list)| Change::Allow(number, list)),
        2 => select(vec![usual, short, long]).prop_map(Change::Times),
        1 => any::<bool>().prop_map(Change::Everybody),
        2 => policy().prop_map(Change::Ask),
    ];
    vec(change, 0..4)
}

/// Gateway and model side by side.
struct Pair<C: Mode> {
    harness: Harness<Gateway<C>>,
    model: Model,
    now: Duration,
    /// Everything that came in, and what it came to.
    arrivals: Vec<Arrival>,
    fed: Fed,
    published: Published<Plans>,
    settings: Settings,
    /// What happened besides, behind how many arrivals.
    between: Vec<(usize, Between)>,
    /// The source port of each client's tunnels.
    ports: HashMap<SocketAddr, u16>,
    capacity: [usize; 2],
    key: Option<Key>,
}

/// Returns the role that a gateway is reloaded with. Its tables and its plans are not used.
fn successor<C: Mode>(settings: &Settings, key: Option<Key>) -> Gateway<C> {
    let settings = Settings { max_connections: [1; 2], ..settings.clone() };
    Harness::gateway(settings, key).role
}

impl<C: Mode> Pair<C> {
    fn new(settings: Settings, key: Option<Key>) -> Self {
        let published = Published::new(Plans::empty(settings.services.len()));
        Self {
            capacity: settings.max_connections,
            model: Model::new(C::CONFIGURATION, settings.clone(), key),
            harness: Harness::planned(settings.clone(), key, &published),
            published,
            settings,
            now: Duration::from_secs(1),
            arrivals: Vec::new(),
            fed: Fed::default(),
            between: Vec::new(),
            ports: HashMap::new(),
            key,
        }
    }

    fn step(&mut self, step: &Step) {
        self.now += step.wait;
        self.model.pass(self.now);
        match (&step.event, step.on_the_wire(&self.model)) {
            (_, Some((side, input, frame, carrier))) => {
                self.receive(&input, Arrival { at: self.now, side, frame, carrier });
            }
            (Event::Plan(plan), None) => self.publish(plan),
            (_, None) => self.tidy(),
        }
    }

    fn publish(&mut self, plan: &Drawn) {
        self.between.push((self.arrivals.len(), Between::Plan(plan.clone())));
        self.published.publish(plan.published(&self.settings));
        self.model.publish(plan.by_service(&self.settings));
    }

    /// The gateway is reloaded with other settings. The memory has published plans of the services as
    /// they are now.
    fn reload(&mut self, changes: &[Change]) {
        // What has expired is gone before time-outs grow.
        self.tidy();
        changes.iter().for_each(|change| change.apply(&mut self.settings));
        self.model.reload(self.settings.clone());
        // Shorter time-outs hold at once.
        self.model.pass(self.now);
        self.harness.reload(successor(&self.settings, self.key), self.now);
        self.between.push((self.arrivals.len(), Between::Reload(Box::new(self.settings.clone()))));
        self.publish(&Drawn::usual());
    }

    fn receive(&mut self, input: &Input, arrival: Arrival) {
        let headroom = arrival.carrier != Carrier::Cramped;
        let mut outcome = self.model.receive(self.now, arrival.side, input, headroom);
        let fed = self.harness.feed(std::slice::from_ref(&arrival));
        if let Some(other) = outcome.or.take().filter(|or| fed.verdicts == [or.verdict]) {
            outcome = *other;
        }
        assert_eq!(fed.verdicts, [outcome.verdict]);
        let onward = arrival.side.other();
        for (side, expected) in [(onward, &outcome.onward), (arrival.side, &outcome.back)] {
            let left = fed.by(side);
            assert_eq!(left.len(), expected.len(), "by {side:?} left {left:?}");
            for (leaving, frame) in expected.iter().zip(left) {
                let port = leaving.check(&arrival.frame, frame);
                // All tunnels of a client endpoint take one path (protocol.md 4.1).
                if let (Some(port), Input::Tcp(packet)) = (port, input) {
                    let client = if arrival.side == Side::Inside { packet.from } else { packet.to };
                    assert_eq!(*self.ports.entry(client).or_insert(port), port);
                }
            }
        }
        let counters = self.harness.role.counters();
        let evicted = [&counters.table, &counters.table_v6].map(|table| table.evicted.get());
        assert_eq!(evicted, self.model.evicted, "evictions");
        self.arrivals.push(arrival);
        self.fed.append(fed);
    }

    /// Housekeeping, after which the gauges are exact.
    fn tidy(&mut self) {
        let made = self.harness.on_timer(self.now);
        let expected = self.model.release(self.now);
        for (frames, expected) in made.iter().zip(&expected) {
            assert_eq!(frames.len(), expected.len(), "released {frames:?}");
            for (leaving, frame) in expected.iter().zip(frames) {
                leaving.check(&[], frame);
            }
        }
        self.fed.append(Fed { verdicts: Vec::new(), left: made });
        self.model.tidied();
        self.between.push((self.arrivals.len(), Between::Tidy(self.now)));
        for (family, live) in self.harness.gauges().into_iter().enumerate() {
            let expected = State::ALL.map(|state| self.model.count(family == 1, state));
            assert_eq!(live, expected, "entries by state");
            assert!(live.iter().sum::<usize>() <= self.capacity[family]);
        }
    }

    /// What another gateway makes of all that came in, in bursts of these sizes.
    fn again(
        &self,
        mut settings: Settings,
        key: Option<Key>,
        sizes: &[usize],
        reload_every: Option<usize>,
    ) -> Fed {
        let published = Published::new(Plans::empty(settings.services.len()));
        let mut harness = Harness::<Gateway<C>>::planned(settings.clone(), key, &published);
        if let Some(nth) = reload_every {
            let same = settings.clone();
            harness.reload_every(nth, move || successor(&same, key));
        }
        let (mut fed, mut start) = (Fed::default(), 0);
        for (end, between) in &self.between {
            fed.append(harness.feed_in_bursts(&self.arrivals[start..*end], sizes));
            match between {
                Between::Tidy(at) => {
                    let left = harness.on_timer(*at);
                    fed.append(Fed { verdicts: Vec::new(), left });
                }
                Between::Plan(plan) => published.publish(plan.published(&settings)),
                Between::Reload(changed) => {
                    settings = (**changed).clone();
                    harness.reload(
                        successor(changed, key),
                        self.arrivals[..*end].last().map_or(Duration::ZERO, |a| a.at),
                    );
                }
            }
            start = *end;
        }
        fed.append(harness.feed_in_bursts(&self.arrivals[start..], sizes));
        fed
    }
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    let usual = Timeouts::default();
    // Origins live on long enough for the reuse of their endpoint to be met.
    let long_window = Timeouts { race_window: Ticks::from_secs(120), ..usual };
    prop_oneof![2 => Just(usual), 1 => Just(long_window)]
}

fn key() -> impl Strategy<Value = Option<Key>> {
    prop_oneof![Just(None), any::<(u8, [u8; 16])>().prop_map(Some)]
}

/// The first clients of each family.
fn some_clients() -> AllowList {
    list(&["198.18.1.0/24", "2001:db8:1::/48"])
}

/// Two sets of services: one has a service that takes replicas from anywhere. Without `everybody`,
/// only the first clients of each family race.
fn settings(timeouts: Timeouts, anywhere: bool, everybody: bool) -> Settings {
    let mut settings = gateway(64, timeouts);
    if !everybody {
        settings.allowed_clients = some_clients();
    }
    if !anywhere {
        let net = |text: &str| text.parse().expect("a prefix");
        for service in settings.services.iter_mut().filter(|s| s.allowed_replicas == AllowList::Any)
        {
            let prefixes = vec![net("198.51.100.11/32"), net("2001:db8:30::11/128")];
            service.allowed_replicas = AllowList::only(prefixes);
        }
    }
    settings
}

fn beside_the_model<C: Mode>(cases: u32, reachable: &[&[Verdict]]) {
    let tally = Tally::default();
    let generated = [const { Cell::new(0) }; 3];
    let number = Cell::new(0);
    for clients in CLIENT_SETS {
        let parameters = (timeouts(), any::<bool>(), weighted(0.75), key(), policy());
        let case = (parameters, trace(clients), vec(1usize..=64, 1..6));
        run(cases, &case, |((timeouts, anywhere, everybody, key, policy), steps, sizes)| {
            let settings = with_policy(settings(timeouts, anywhere, everybody), &policy);
            let mut pair = Pair::<C>::new(settings.clone(), key);
            steps.iter().for_each(|step| pair.step(step));
            pair.tidy();
            tally.add(&pair.fed.verdicts);
            let counters = pair.harness.role.counters();
            for (total, what) in generated.iter().zip(DIRECT) {
                total.set(total.get() + counters.generated[what as usize].get());
            }
            let in_bursts = pair.again(settings.clone(), key, &sizes, None);
            assert_eq!(in_bursts, pair.fed, "bursts of {sizes:?}");
            number.set(number.get() + 1);
            if number.get() % 8 == 0 {
                let reloaded = pair.again(settings, key, &[1], Some(sizes[0] % 7));
                assert_eq!(reloaded, pair.fed, "a reload that changes nothing");
            }
        });
    }
    tally.check(&[&[ANYBODY, COMMON], reachable].concat().concat());
    assert!(generated.iter().all(|count| count.get() > 0), "{DIRECT:?} {generated:?}");
}

#[test]
fn under_a_it_does_what_the_model_says_in_bursts_of_any_size() {
    beside_the_model::<A>(800, &[]);
}

#[test]
fn under_b_it_does_what_the_model_says_in_bursts_of_any_size() {
    beside_the_model::<B>(800, &[TUNNELS, UNDER_B]);
}

#[test]
fn under_c_it_does_what_the_model_says_in_bursts_of_any_size() {
    beside_the_model::<C>(800, &[TUNNELS, UNDER_C]);
}

/// Reloads between any two packets: services come and go, and everything else changes that may.
fn reloaded_beside_the_model<C: Mode>(cases: u32) {
    let tally = Tally::default();
    for clients in CLIENT_SETS {
        let reloads = vec((any::<prop::sample::Index>(), changes()), 1..6);
        let parameters = (timeouts(), any::<bool>(), key(), policy());
        let case = (parameters, trace(clients), reloads, vec(1usize..=64, 1..6));
        run(cases, &case, |((timeouts, anywhere, key, policy), steps, reloads, sizes)| {
            let settings = with_policy(settings(timeouts, anywhere, true), &policy);
            let mut pair = Pair::<C>::new(settings.clone(), key);
            for (number, step) in steps.iter().enumerate() {
                for (at, changes) in &reloads {
                    if at.index(steps.len()) == number {
                        pair.reload(changes);
                    }
                }
                pair.step(step);
            }
            pair.tidy();
            tally.add(&pair.fed.verdicts);
            let in_bursts = pair.again(settings, key, &sizes, None);
            assert_eq!(in_bursts, pair.fed, "bursts of {sizes:?}");
        });
    }
    tally.check(&[
        Verdict::NoService,
        Verdict::ReplicaWon,
        Verdict::ToReplica,
        Verdict::FromReplica,
        Verdict::UnlistedReplica,
        Verdict::FragmentTranslated,
        Verdict::IcmpTranslated,
        Verdict::SynDeferred,
        Verdict::SynAckHeld,
    ]);
}

#[test]
fn under_a_reloads_change_what_the_model_says_and_no_connection() {
    reloaded_beside_the_model::<A>(300);
}

#[test]
fn under_c_reloads_change_what_the_model_says_and_no_connection() {
    reloaded_beside_the_model::<C>(300);
}

#[test]
fn a_full_table_gives_up_the_expired_then_the_closing_then_the_oldest_race() {
    fill_tables::<A>();
    fill_tables::<B>();
    fill_tables::<C>();
}

fn fill_tables<C: Mode>() {
    let tally = Tally::default();
    let evicted = Cell::new([0; 2]);
    let clients: Vec<_> = (0..CLIENTS.len()).collect();
    let case = (crowd(&clients), select(vec![1usize, 4, 7]));
    run(700, &case, |(steps, capacity)| {
        let mut pair = Pair::<C>::new(gateway(capacity, Timeouts::default()), None);
        for step in &steps {
            pair.step(step);
        }
        still_translated(&mut pair);
        tally.add(&pair.fed.verdicts);
        let [v4, v6] = evicted.get();
        evicted.set([v4 + pair.model.evicted[0], v6 + pair.model.evicted[1]]);
    });
    tally.check(&[Verdict::UntaggedTableFull, Verdict::Tagged, Verdict::ToReplica]);
    assert!(evicted.take().into_iter().all(|count| count > 0), "nothing was ever evicted");
}

/// Every connection that a replica has won and that has not timed out is translated.
fn still_translated<C: Mode>(pair: &mut Pair<C>) {
    for client in CLIENTS {
        let Some(record) = pair.model.record(client).cloned() else { continue };
        if record.state != State::Replica {
            continue;
        }
        pair.pass(Side::Inside, &Packet::new(client, record.server, ACK));
        assert_eq!(pair.fed.verdicts.last(), Some(&Verdict::ToReplica));
    }
}

impl<C: Mode> Pair<C> {
    /// A pair at which a replica has won this client's race.
    fn won(client: SocketAddr) -> Self {
        let mut pair = Self::new(gateway(64, Timeouts::default()), None);
        let (server, replica) = (peers(client)[0], peers(client)[4]);
        pair.pass(Side::Inside, &Packet::new(client, server, SYN));
        let mut answer = Packet::new(replica, client, SYN | ACK);
        answer.acknowledgement = 1;
        let outer = |from: SocketAddr| Outer::new(Format::Ipip, from.ip(), client.ip(), 0);
        match C::CONFIGURATION {
            Configuration::A => pair.pass(Side::Outside, &answer),
            Configuration::B => pair.pass_tunnelled(outer(server), &answer),
            Configuration::C => pair.pass_tunnelled(outer(replica), &answer.sent_by(server)),
        }
        assert_eq!(pair.fed.verdicts, [Verdict::Tagged, Verdict::ReplicaWon]);
        pair
    }

    fn pass(&mut self, side: Side, packet: &Packet) {
        self.arrive(&Input::Tcp(packet.clone()), side, packet.frame());
    }

    fn pass_tunnelled(&mut self, outer: Outer, packet: &Packet) {
        let frame = outer.around(&packet.frame());
        let inner = Box::new(Input::Tcp(packet.clone()));
        self.arrive(&Input::Tunnelled(outer, inner), Side::Outside, frame);
    }

    fn arrive(&mut self, input: &Input, side: Side, frame: Vec<u8>) {
        self.receive(input, Arrival { at: self.now, side, frame, carrier: Carrier::Whole });
    }

    fn fragment(&mut self, from: SocketAddr, first: bool) {
        let mut packet = Packet::new(from, peers(from)[0], ACK);
        (packet.id, packet.payload) = (7, vec![1; 21]);
        let frame = fragment(&packet, first);
        self.arrive(&Input::Fragment(packet, first), Side::Inside, frame);
    }
}

/// The host of the first client has another connection to the same server, untranslated.
#[test]
fn fragments_of_an_untranslated_connection_pass_beside_a_translated_one() {
    fn beside<C: Mode>(number: usize) {
        let mut pair = Pair::<C>::won(CLIENTS[number]);
        pair.fragment(CLIENTS[number], true);
        pair.fragment(CLIENTS[number], false);
        assert_eq!(pair.fed.verdicts[2..], [Verdict::FragmentTranslated; 2]);
        pair.fragment(CLIENTS[number + 1], true);
        pair.fragment(CLIENTS[number + 1], false);
        assert_eq!(pair.fed.verdicts[4..], [Verdict::Fragment; 2]);
    }
    for number in [0, FIRST_V6] {
        beside::<A>(number);
        beside::<B>(number);
        beside::<C>(number);
    }
}

#[test]
fn an_identification_that_recurs_is_remembered_anew() {
    let mut pair = Pair::<C>::won(CLIENTS[0]);
    pair.fragment(CLIENTS[0], true);
    pair.now += Duration::from_secs(29);
    pair.fragment(CLIENTS[0], true);
    pair.now += Duration::from_secs(2);
    pair.fragment(CLIENTS[0], false);
    assert_eq!(pair.fed.verdicts[2..], [Verdict::FragmentTranslated; 3]);
}

/// RFC 1812, section 4.3.2.8: who floods a gateway with packets that are too big makes it send
/// no flood of errors.
#[test]
fn errors_about_packets_that_are_too_big_are_limited() {
    let client = CLIENTS[FIRST_V6];
    let mut pair = Pair::<C>::won(client);
    let mut packet = Packet::new(client, peers(client)[0], ACK);
    packet.payload = vec![7; 1280];
    for _ in 0..100 {
        pair.pass(Side::Inside, &packet);
    }
    let arrival = pair.arrivals.last().cloned().expect("a hundred");
    let fed = pair.harness.feed(&[arrival]);
    assert_eq!(fed.verdicts, [Verdict::TooBigDropped]);
    assert_eq!(fed.left, [Vec::<Vec<u8>>::new(), Vec::new()]);
    pair.now += Duration::from_millis(10);
    pair.pass(Side::Inside, &packet);
    assert_eq!(pair.fed.verdicts[2..], [Verdict::TooBig; 101]);
}
