//! The replica beside its plain model, over both families and for gateways of all three
//! configurations: what leaves, by which side, under which name, and what is held.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use firstack_tests::model::corpus::KEY;
use firstack_tests::model::replica::event::{Event, Incoming, Step, trace};
use firstack_tests::model::replica::{EntryState, ReplicaModel, SERVICES, settings};
use firstack_tests::model::{
    Arrival, CLIENTS, FIRST_V6, Fed, Harness, Key, Tally, replica_of, run,
};
use pipeline::base::time::Ticks;
use pipeline::counters::Scalar;
use pipeline::policy::allow_list::AllowList;
use pipeline::role::Role;
use pipeline::role::replica::{Admission, Replica, Settings, Shares};
use pipeline::verdict::Verdict;
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What a replica can decide here.
const REACHABLE: &[Verdict] = &[
    Verdict::NonIp,
    Verdict::Ipv6Extensions,
    Verdict::OtherProtocol,
    Verdict::Icmp,
    Verdict::Fragment,
    Verdict::ForeignTunnel,
    Verdict::NoEntry,
    Verdict::TooBig,
    Verdict::TooBigDropped,
    Verdict::Fragmented,
    Verdict::IcmpTranslated,
    Verdict::FragmentTranslated,
    Verdict::FragmentUnknown,
    Verdict::Pending,
    Verdict::BadTag,
    Verdict::CopyAccepted,
    Verdict::CopyRetransmit,
    Verdict::CopyDuplicate,
    Verdict::CopyRetransmitLimit,
    Verdict::ToWebServer,
    Verdict::TunnelReset,
    Verdict::FromWebServer,
    Verdict::NeighbourLearned,
    Verdict::ProbeAnswered,
    Verdict::ProbeIgnored,
    Verdict::SynAckUnsolicited,
    Verdict::OutOfService,
    Verdict::Busy,
    Verdict::PeerNotAllowed,
    Verdict::TunnelMalformed,
    Verdict::TunnelChecksum,
    Verdict::TunnelInnerChecksum,
    Verdict::TunnelNested,
    Verdict::TunnelCongestion,
    Verdict::CopyNotSyn,
    Verdict::TunnelIcmp,
    Verdict::CopyData,
    Verdict::CopyNotTagged,
    Verdict::CopyUnknownConfiguration,
    Verdict::CopyNotSigned,
    Verdict::CopyBadSignature,
    Verdict::CopyClientNotAllowed,
    Verdict::CopyEndpointInUse,
    Verdict::CopyNewIsn,
];

/// The clients of a trace; the last of each is behind no permitted gateway.
const CLIENT_SETS: [&[usize]; 3] = [
    &[0, 1, 2, 11],
    &[FIRST_V6, FIRST_V6 + 1, FIRST_V6 + 2, FIRST_V6 + 11],
    &[0, 2, 3, 4, FIRST_V6, FIRST_V6 + 2],
];

/// What happens to a replica between two packets.
#[derive(Clone)]
enum Action {
    Tidy(Duration),
    Admission(bool, bool),
    Reload(Box<Settings>),
}

/// What a reload changes.
#[derive(Clone, Debug)]
enum Change {
    /// A service leaves the configuration, or comes back.
    Retire(usize, bool),
    /// The weight of a web server; 0: it gets no new connection.
    Weight(usize, u32),
    /// The switches whose copies are accepted, and whether those of gateways are.
    Senders(bool, bool),
    /// Time-outs of opening, established and closing connections, in seconds.
    Times([u64; 3]),
    /// Busy from so many connections on, and how many SYN/ACKs may be repeated.
    Limits(usize, u8),
    /// Whether copies have to be signed.
    Signed(bool),
}

impl Change {
    fn apply(&self, settings: &mut Settings, is_keyed: bool) {
        match *self {
            Self::Retire(number, retired) => settings.services[number].retired = retired,
            Self::Weight(number, weight) => settings.services[number].servers[0].weight = weight,
            Self::Senders(all, direct) => {
                let whose = settings_of_all().switches;
                settings.switches = if all { whose } else { AllowList::only([]) };
                settings.direct = direct;
            }
            Self::Times(seconds) => settings.timeouts = seconds.map(Ticks::from_secs),
            Self::Limits(busy, repeats) => {
                (settings.busy_connections, settings.syn_ack_retransmits) = (busy, repeats);
            }
            Self::Signed(signed) => settings.require_signature = signed && is_keyed,
        }
    }
}

fn settings_of_all() -> Settings {
    settings(100, 16)
}

/// One service of each family stays, so that the replica is not dead.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    let number = || select(vec![0usize, 1, SERVICES, SERVICES + 1]);
    let times = vec![[30, 7440, 120], [10, 600, 20], [60, 7440, 300]];
    let change = prop_oneof![
        3 => (number(), weighted(0.6)).prop_map(|(number, retired)| Change::Retire(number, retired)),
        2 => (number(), 0u32..2).prop_map(|(number, weight)| Change::Weight(number, weight)),
        1 => (weighted(0.7), weighted(0.7)).prop_map(|(all, direct)| Change::Senders(all, direct)),
        2 => select(times).prop_map(Change::Times),
        1 => (select(vec![3usize, 100]), 0u8..3).prop_map(|(busy, n)| Change::Limits(busy, n)),
        1 => any::<bool>().prop_map(Change::Signed),
    ];
    vec(change, 0..4)
}

/// Replica and model side by side.
struct Pair {
    harness: Harness<Replica>,
    shares: Shares,
    model: ReplicaModel,
    now: Duration,
    arrivals: Vec<Arrival>,
    fed: Fed,
    /// What was done behind how many arrivals.
    actions: Vec<(usize, Action)>,
    /// The source port of each client's tunnels.
    ports: HashMap<SocketAddr, u16>,
    settings: Settings,
    key: Option<Key>,
}

fn launch(settings: Settings, key: Option<Key>) -> (Harness<Replica>, Shares) {
    let (replica, shares) = replica_of(settings, |_| true, key);
    (Harness::new(replica, 8), shares)
}

/// Reloads with these settings. The operator's word stays.
fn reload(
    harness: &mut Harness<Replica>,
    shares: &mut Shares,
    settings: Settings,
    key: Option<Key>,
) {
    let settings = Settings { max_connections: [1; 2], ..settings };
    let (next, new) = replica_of(settings, |_| true, key);
    let Admission { dead, busy } = &*shares.admission;
    new.admission.dead.store(dead.load(Relaxed), Relaxed);
    new.admission.busy.store(busy.load(Relaxed), Relaxed);
    *shares = new;
    harness.reload(next, Duration::ZERO);
}

fn act(
    harness: &mut Harness<Replica>,
    shares: &mut Shares,
    key: Option<Key>,
    action: Action,
) -> [Vec<Vec<u8>>; 2] {
    match action {
        Action::Tidy(at) => harness.on_timer(at),
        Action::Reload(settings) => {
            reload(harness, shares, *settings, key);
            Default::default()
        }
        Action::Admission(dead, busy) => {
            shares.admission.dead.store(dead, Relaxed);
            shares.admission.busy.store(busy, Relaxed);
            Default::default()
        }
    }
}

impl Pair {
    fn new(settings: Settings, key: Option<Key>) -> Self {
        let (harness, shares) = launch(settings.clone(), key);
        Self {
            harness,
            shares,
            model: ReplicaModel::new(settings.clone(), key),
            now: Duration::from_secs(1),
            arrivals: Vec::new(),
            fed: Fed::default(),
            actions: Vec::new(),
            ports: HashMap::new(),
            settings,
            key,
        }
    }

    fn step(&mut self, step: &Step) {
        if !step.wait.is_zero() || matches!(step.event, Event::Housekeeping) {
            self.now += step.wait;
            self.tidy();
        }
        if let Event::Admission(dead, busy) = step.event {
            (self.model.dead, self.model.busy) = (dead, busy);
            self.act(Action::Admission(dead, busy));
        }
        if let Some(incoming) = step.happens(&mut self.model, self.now) {
            self.receive(incoming, CLIENTS[step.client]);
        }
    }

    fn act(&mut self, action: Action) -> [Vec<Vec<u8>>; 2] {
        self.actions.push((self.arrivals.len(), action.clone()));
        act(&mut self.harness, &mut self.shares, self.key, action)
    }

    /// The replica is reloaded with other settings.
    fn reload(&mut self, changes: &[Change]) {
        // What has expired is gone before time-outs grow.
        self.tidy();
        changes.iter().for_each(|change| change.apply(&mut self.settings, self.key.is_some()));
        self.model.reload(self.settings.clone());
        self.act(Action::Reload(Box::new(self.settings.clone())));
        // Shorter time-outs hold at once.
        self.tidy();
    }

    fn receive(&mut self, incoming: Incoming, client: SocketAddr) {
        let Incoming { side, frame, carrier, outcome } = incoming;
        let arrival = Arrival { at: self.now, side, frame, carrier };
        let fed = self.harness.feed(std::slice::from_ref(&arrival));
        assert_eq!(fed.verdicts, [outcome.verdict]);
        for (side, expected) in [(side.other(), &outcome.onward), (side, &outcome.back)] {
            let left = fed.by(side);
            assert_eq!(left.len(), expected.len(), "by {side:?} left {left:?}");
            for (leaving, frame) in expected.iter().zip(left) {
                if let Some(port) = leaving.check(&arrival.frame, frame)
                    && outcome.verdict == Verdict::FromWebServer
                {
                    assert_eq!(*self.ports.entry(client).or_insert(port), port);
                }
            }
        }
        let counters = self.harness.role.counters();
        let evicted = [&counters.table, &counters.table_v6].map(|table| table.evicted.get());
        assert_eq!(evicted, self.model.evicted, "evictions");
        let direct = counters.scalar(Scalar::DirectCopies).get();
        assert_eq!(direct, self.model.direct_copies, "direct copies");
        self.arrivals.push(arrival);
        self.fed.append(fed);
    }

    /// Housekeeping, after which the gauges are exact.
    fn tidy(&mut self) {
        let released = self.model.pass(self.now);
        let [inside, outside] = self.act(Action::Tidy(self.now));
        assert_eq!((inside.len(), outside.len()), (released.len(), 0), "what waited");
        for (leaving, frame) in released.iter().zip(&inside) {
            leaving.check(&[], frame);
        }
        for (family, live) in self.harness.gauges().into_iter().enumerate() {
            let expected = EntryState::ALL.map(|state| self.model.count(family == 1, state));
            assert_eq!(live[..expected.len()], expected, "entries by state");
        }
    }

    /// What another replica makes of all that came in, in bursts of these sizes.
    fn again(&self, settings: Settings, key: Option<Key>, sizes: &[usize]) -> Fed {
        let (mut harness, mut shares) = launch(settings, key);
        let (mut fed, mut start) = (Fed::default(), 0);
        for (end, action) in &self.actions {
            fed.append(harness.feed_in_bursts(&self.arrivals[start..*end], sizes));
            act(&mut harness, &mut shares, key, action.clone());
            start = *end;
        }
        fed.append(harness.feed_in_bursts(&self.arrivals[start..], sizes));
        fed
    }
}

#[test]
fn does_what_the_model_says_in_bursts_of_any_size() {
    let tally = Tally::default();
    // Busy before it is full, or full before it is busy.
    let limits = select(vec![(4usize, 16usize), (100, 2), (100, 16)]);
    let direct = proptest::bool::weighted(0.8);
    let repeats = (0u8..2, select(vec![0u64, 1, 100]));
    let parameters = (limits, proptest::option::of(Just(KEY)), any::<bool>(), repeats, direct);
    for clients in CLIENT_SETS {
        let case = (parameters.clone(), trace(clients), vec(1usize..=64, 1..6));
        run(1000, &case, |((limits, key, require_signature, repeats, direct), steps, sizes)| {
            let mut settings = settings(limits.0, limits.1);
            settings.require_signature = require_signature && key.is_some();
            (settings.syn_ack_retransmits, settings.syn_ack_repair_rate) = repeats;
            settings.direct = direct;
            let mut pair = Pair::new(settings.clone(), key);
            steps.iter().for_each(|step| pair.step(step));
            pair.tidy();
            tally.add(&pair.fed.verdicts);
            let in_bursts = pair.again(settings, key, &sizes);
            assert_eq!(in_bursts, pair.fed, "bursts of {sizes:?}");
        });
    }
    tally.check(REACHABLE);
}

/// Reloads between any two packets: services come and go, and everything else changes that may.
#[test]
fn reloads_change_what_the_model_says_and_no_connection() {
    let tally = Tally::default();
    for clients in CLIENT_SETS {
        let reloads = vec((any::<prop::sample::Index>(), changes()), 1..6);
        let parameters = (proptest::option::of(Just(KEY)), 0u8..2);
        let case = (parameters, trace(clients), reloads, vec(1usize..=64, 1..6));
        run(300, &case, |((key, repeats), steps, reloads, sizes)| {
            let mut settings = settings_of_all();
            settings.syn_ack_retransmits = repeats;
            let mut pair = Pair::new(settings.clone(), key);
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
            let in_bursts = pair.again(settings, key, &sizes);
            assert_eq!(in_bursts, pair.fed, "bursts of {sizes:?}");
        });
    }
    tally.check(&[
        Verdict::CopyAccepted,
        Verdict::CopyNoService,
        Verdict::OutOfService,
        Verdict::ToWebServer,
        Verdict::FromWebServer,
        Verdict::FragmentTranslated,
    ]);
}
