//! A gateway and its model, fed with the same packets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use firstack_tests::model::event::{Event, Input, Step};
use firstack_tests::model::plan::Drawn;
use firstack_tests::model::related::fragment;
use firstack_tests::model::{
    ACK, Arrival, Carrier, Fed, Harness, Key, Model, Outer, Packet, SYN, State, gateway, peers,
};
use pipeline::base::published::Published;
use pipeline::memory::Plans;
use pipeline::packet::view::Side;
use pipeline::role::Role;
use pipeline::role::gateway::mode::Mode;
use pipeline::role::gateway::{Gateway, Settings, Timeouts};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;
use pipeline::wire::tunnel::Format;

use super::changes::Change;

/// What happens between packets.
#[derive(Clone, Debug)]
pub enum Between {
    /// The gateway does its periodic work at this time.
    Tidy(Duration),
    /// The memory publishes plans.
    Plan(Drawn),
    /// The gateway goes on with these settings.
    Reload(Box<Settings>),
}

/// Gateway and model side by side.
pub struct Pair<C: Mode> {
    pub harness: Harness<Gateway<C>>,
    pub model: Model,
    pub now: Duration,
    /// Everything that came in, and what it came to.
    pub arrivals: Vec<Arrival>,
    pub fed: Fed,
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
    pub fn new(settings: Settings, key: Option<Key>) -> Self {
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

    pub fn step(&mut self, step: &Step) {
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

    pub fn publish(&mut self, plan: &Drawn) {
        self.between.push((self.arrivals.len(), Between::Plan(plan.clone())));
        self.published.publish(plan.published(&self.settings));
        self.model.publish(plan.by_service(&self.settings));
    }

    /// The gateway is reloaded with other settings. The memory has published plans of the services as
    /// they are now.
    pub fn reload(&mut self, changes: &[Change]) {
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

    pub fn receive(&mut self, input: &Input, arrival: Arrival) {
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
    pub fn tidy(&mut self) {
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
    pub fn again(
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

impl<C: Mode> Pair<C> {
    /// A pair at which a replica has won this client's race.
    pub fn won(client: SocketAddr) -> Self {
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

    pub fn pass(&mut self, side: Side, packet: &Packet) {
        self.arrive(&Input::Tcp(packet.clone()), side, packet.frame());
    }

    pub fn pass_tunnelled(&mut self, outer: Outer, packet: &Packet) {
        let frame = outer.around(&packet.frame());
        let inner = Box::new(Input::Tcp(packet.clone()));
        self.arrive(&Input::Tunnelled(outer, inner), Side::Outside, frame);
    }

    pub fn arrive(&mut self, input: &Input, side: Side, frame: Vec<u8>) {
        self.receive(input, Arrival { at: self.now, side, frame, carrier: Carrier::Whole });
    }

    pub fn fragment(&mut self, from: SocketAddr, first: bool) {
        let mut packet = Packet::new(from, peers(from)[0], ACK);
        (packet.id, packet.payload) = (7, vec![1; 21]);
        let frame = fragment(&packet, first);
        self.arrive(&Input::Fragment(packet, first), Side::Inside, frame);
    }
}
