//! The event loop on a virtual clock: events in the order of their time, then of their creation.
//! There is no other clock, and no randomness except the seed's, so a seed reproduces a run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;

use pipeline::packet::view::Side;

use super::address::{CLIENTS, ORIGIN, REPLICAS, Site};
use super::attack::Attacker;
use super::client::Client;
use super::control::Controls;
use super::flood::Echo;
use super::log::{self, Log};
use super::nodes::{self, Node, Seat};
use super::plan::{Lacks, MS, Nanos, Plan, SECOND, Start};
use super::rng::Rng;
use super::roles;
use super::server::Server;
use super::station::{self, Frame, Mutant, Station};
use super::traffic::Traffic;
use super::variety::Signing;
use super::wan::Wan;
use super::watch;

/// Latest end of a run.
const END: Nanos = 4_000 * SECOND;
/// Longer than the tables keep any entry.
const EXPIRY: Nanos = 3 * 3_600 * SECOND;
/// Delay of a local link.
pub(super) const CABLE: Nanos = 5_000;

/// An event.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A frame reaches a host.
    Host(usize, Frame),
    /// A host's wake-up is due.
    Wake(usize),
    /// A frame reaches an appliance.
    Station(Site, bool, Frame),
    /// An appliance polls, if frames are queued.
    Turn(Site),
    /// An appliance polls, with or without frames.
    Idle(Site),
    /// A frame reaches the router.
    Router(Site, Frame),
    /// The router is due.
    Advance,
    /// A client starts a connection.
    Begin(usize),
    /// A spoofed RST for a client's connection.
    Spoof(usize),
    /// A change of the plan is due.
    Change(usize),
    /// The gateway's keys change, or all others'.
    Keys(bool),
    /// A SYN of the flood reaches the switch.
    Flood(u64),
    /// The attacker does a step of an act.
    Attack(usize, u32),
    /// An appliance is reloaded.
    Reload(Site),
}

/// The whole network.
pub struct World {
    /// The plan.
    pub plan: Plan,
    /// The log.
    pub log: Log,
    /// The current time.
    pub now: Nanos,
    /// Events so far.
    pub events: u64,
    /// Time of the first copied SYN, by service and replica's site.
    pub(super) copied: BTreeMap<(IpAddr, Site), Nanos>,
    /// Copies and SYN/ACKs of a long run.
    pub traffic: Traffic,
    /// Backscatter of a flood.
    pub echo: Echo,
    /// The attacker.
    pub attacker: Attacker,
    pub(super) seats: Vec<Seat>,
    /// Violations by frames on their way.
    pub wrong: Vec<String>,
    /// Times at which appliances died that are still dead.
    pub dead: Vec<Option<Nanos>>,
    /// Whether appliances were ever dead.
    pub was_dead: Vec<bool>,
    /// When appliances were first reloaded.
    pub reloaded: Vec<Option<Nanos>>,
    /// The keys of their tables.
    hash_keys: Vec<(u64, u64)>,
    stations: Vec<Station>,
    pub(super) controls: Vec<Controls>,
    pub(super) wan: Wan,
    advance: Option<Nanos>,
    queue: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    sequence: u64,
    pub(super) rng: Rng,
    to_begin: usize,
}

impl World {
    /// Creates the network of a plan.
    #[must_use]
    pub fn new(plan: Plan, log: bool, mutant: Option<Mutant>) -> Self {
        let mut rng = Rng::new(plan.seed ^ 0x6669_7273_7461_636b);
        let seats = nodes::seats(&plan, &mut rng);
        let sites = 0..plan.sites();
        let hash_keys: Vec<_> = sites.clone().map(|_| (rng.next_u64(), rng.next_u64())).collect();
        let build = |site| roles::build(&plan, site, hash_keys[site], mutant, Lacks::default());
        let (stations, controls) = sites.clone().map(build).unzip();
        let wan = Wan::new(&plan, &mut rng);
        let mut world = Self {
            to_begin: plan.connections.len(),
            plan,
            log: Log::new(log),
            now: 0,
            events: 0,
            seats,
            wrong: Vec::new(),
            copied: BTreeMap::new(),
            traffic: Traffic::default(),
            echo: Echo::default(),
            attacker: Attacker::default(),
            dead: sites.clone().map(|_| None).collect(),
            was_dead: sites.clone().map(|_| false).collect(),
            reloaded: sites.map(|_| None).collect(),
            hash_keys,
            stations,
            controls,
            wan,
            advance: None,
            queue: BinaryHeap::new(),
            sequence: 0,
            rng,
        };
        for site in 0..world.stations.len() {
            let at = world.rng.between(0, 20 * MS);
            world.after(at, Event::Idle(site));
        }
        for number in 0..world.plan.changes.len() {
            world.after(world.plan.changes[number].0, Event::Change(number));
        }
        for (at, site) in world.plan.reloads.clone() {
            world.after(at, Event::Reload(site));
        }
        if let Some(flood) = world.plan.flood {
            world.after(flood.at, Event::Flood(0));
        }
        let acts = world.plan.attack.iter().flat_map(|attack| &attack.acts);
        let starts: Vec<_> = acts.map(|act| act.at).collect();
        for (number, at) in starts.into_iter().enumerate() {
            world.after(at, Event::Attack(number, 0));
        }
        if let Signing::Rotated { at, after } = world.plan.signing {
            world.after(at, Event::Keys(true));
            // SYNs in flight have been verified by then.
            world.after(at + after.unwrap_or(SECOND), Event::Keys(false));
        }
        for id in 0..world.plan.connections.len() {
            let plan = world.plan.connections[id];
            if plan.start == Start::Alone {
                world.after(plan.at, Event::Begin(id));
            }
        }
        world
    }

    pub(super) fn after(&mut self, span: Nanos, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + span, self.sequence, event)));
    }

    /// Runs until all hosts have finished, or the latest end. Returns whether they have finished.
    pub fn run(&mut self) -> bool {
        while let Some(Reverse((at, _, event))) = self.queue.pop() {
            if at > END {
                return false;
            }
            self.now = at;
            self.events += 1;
            self.happen(event);
            if self.to_begin == 0 && self.events.is_multiple_of(64) && self.is_done() {
                return true;
            }
        }
        unreachable!("the appliances never rest")
    }

    /// Runs until the tables' entries have expired.
    pub fn expire(&mut self) {
        self.now += EXPIRY;
        for site in 0..self.stations.len() {
            // A poll checks a few entries.
            for _ in 0..64 {
                self.stations[site].turn(self.now, &mut self.rng, &mut self.log);
            }
            let mut left = u64::MAX;
            while station::live(&*self.stations[site]) < left {
                left = station::live(&*self.stations[site]);
                self.stations[site].turn(self.now, &mut self.rng, &mut self.log);
            }
        }
    }

    fn is_done(&self) -> bool {
        let quiet = |event: &Event| matches!(event, Event::Idle(_) | Event::Wake(_));
        self.seats.iter().all(|seat| seat.node.is_done())
            && self.wan.next_event().is_none()
            && self.queue.iter().all(|Reverse((_, _, event))| quiet(event))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Host(host, frame) => self.host(host, Some(frame)),
            Event::Wake(host) => {
                if self.seats[host].wake.is_some_and(|at| at <= self.now) {
                    self.seats[host].wake = None;
                    self.host(host, None);
                }
            }
            Event::Station(site, ..) if self.dead[site].is_some() => {}
            Event::Station(site, inside, frame) => {
                let side = if inside { Side::Inside } else { Side::Outside };
                if site == CLIENTS && side == Side::Outside {
                    self.traffic.note_received(&self.plan, &frame, self.now);
                }
                if self.stations[site].receive(side, frame) {
                    let wait = self.rng.pick(&[(3, 2_000), (2, 50_000), (1, 1_000_000)]);
                    let wait = self.rng.between(500, wait);
                    self.after(wait, Event::Turn(site));
                }
            }
            Event::Turn(site) => self.turn(site),
            Event::Idle(site) => {
                self.controls[site].look();
                if !self.stations[site].waits() {
                    self.turn(site);
                }
                let wait = self.rng.between(SECOND / 2, SECOND);
                self.after(wait, Event::Idle(site));
            }
            Event::Router(site, frame) => {
                if self.attacker_takes(site, &frame) {
                    return;
                }
                if site >= REPLICAS && self.echo.note(&frame, self.now) {
                    return;
                }
                self.wan.receive(site, frame, self.now, &mut self.log);
                self.advance();
            }
            Event::Advance => {
                if self.advance.is_some_and(|at| at <= self.now) {
                    self.advance = None;
                }
                self.advance();
            }
            Event::Begin(id) => self.begin(id),
            Event::Spoof(id) => self.spoof(id),
            Event::Change(number) => self.change(self.plan.changes[number].1),
            Event::Keys(gateway) => self.change_keys(gateway),
            Event::Flood(number) => self.flood(number),
            Event::Attack(number, step) => self.attack(number, step),
            Event::Reload(site) => self.reload(site),
        }
    }

    /// Reloads an appliance with the changed configuration, or with that one once more.
    fn reload(&mut self, site: Site) {
        if self.dead[site].is_some() {
            return;
        }
        self.log.note(self.now, "control", || format!("site {site} is reloaded"));
        let is_changed = self.reloaded[site].is_none();
        self.reloaded[site].get_or_insert(self.now);
        let (key, lacks) = (self.hash_keys[site], Lacks { is_changed, ..self.plan.lacks });
        let (next, controls) = roles::build(&self.plan, site, key, None, lacks);
        self.controls[site].reload(controls);
        self.stations[site].reload(next, self.now);
    }

    fn begin(&mut self, id: usize) {
        let plan = self.plan.connections[id];
        self.to_begin -= 1;
        if let Some(at) = plan.spoofed {
            self.after(at, Event::Spoof(id));
        }
        if let Node::Client(client) = &mut self.seats[plan.client].node {
            client.begin(id, plan, self.now);
        }
        self.host(plan.client, None);
        self.passed(Start::Beside(id));
    }

    fn host(&mut self, host: usize, frame: Option<Frame>) {
        let seat = &mut self.seats[host];
        if let Some(tunnel) = frame.as_deref().filter(|frame| watch::is_tunnel(frame))
            && tunnel[..6] == seat.node.mac()
            && seat.site != CLIENTS
            && self.plan.corrupted == 0
        {
            let (site, what) = (seat.site, log::describe(tunnel));
            self.wrong.push(format!("a host at site {site} gets {what}"));
        }
        let (ended, deadline) = match &mut seat.node {
            Node::Client(client) => (client.turn(frame, self.now), client.deadline()),
            Node::Server(server) => {
                server.turn(frame, self.now);
                (Vec::new(), server.deadline())
            }
        };
        let site = seat.site;
        let stack = seat.node.host();
        let next = stack.next_poll(self.now).into_iter().chain(deadline).min();
        let sent = stack.send();
        if let Some(at) = next.map(|at| at.max(self.now + 1_000))
            && self.seats[host].wake.is_none_or(|before| at < before)
        {
            self.seats[host].wake = Some(at);
            self.after(at - self.now, Event::Wake(host));
        }
        for frame in sent {
            self.segment(site, Some(host), frame);
        }
        for id in ended {
            self.passed(Start::After(id));
        }
    }

    /// Starts the timers of connections that waited for this one.
    fn passed(&mut self, start: Start) {
        for next in 0..self.plan.connections.len() {
            let plan = self.plan.connections[next];
            if plan.start == start {
                self.after(plan.at, Event::Begin(next));
            }
        }
    }

    /// Delivers a frame on the segment behind an appliance, to its destination or to all hosts.
    fn segment(&mut self, site: Site, from: Option<usize>, frame: Frame) {
        let all = 0..self.seats.len();
        let here = |seat: &Seat| seat.site == site;
        let to = all
            .clone()
            .find(|at| here(&self.seats[*at]) && self.seats[*at].node.mac() == frame[..6]);
        // A neighbour of the origin's servers is beside them, wherever the switch stands.
        let is_far = site == ORIGIN && watch::is_ip(&frame) && !watch::is_icmp(&frame);
        let cable = if is_far { self.plan.behind } else { CABLE };
        if let Some(to) = to {
            return self.after(cable, Event::Host(to, frame));
        }
        for to in all.filter(|at| here(&self.seats[*at]) && Some(*at) != from).collect::<Vec<_>>() {
            self.after(cable, Event::Host(to, frame.clone()));
        }
        if from.is_some() {
            self.after(cable, Event::Station(site, true, frame));
        }
    }

    fn turn(&mut self, site: Site) {
        if self.dead[site].is_some() {
            return;
        }
        if site == CLIENTS && self.stations[site].waits() {
            let waits: Vec<_> = self.plan.racing.waits().collect();
            waits.into_iter().for_each(|span| self.after(span, Event::Turn(site)));
        }
        let leaving = self.stations[site].turn(self.now, &mut self.rng, &mut self.log);
        let [mut inside, outside] = leaving;
        if site == CLIENTS {
            inside.retain(|frame| !self.attacker_hears(frame));
            inside.iter().for_each(|frame| self.watch(frame));
        }
        if site >= REPLICAS {
            inside.iter().for_each(|frame| self.note_given(site, frame));
        }
        inside.into_iter().for_each(|frame| self.segment(site, None, frame));
        if site == ORIGIN {
            outside.iter().for_each(|frame| self.watch_copies(frame));
        }
        if site == ORIGIN || site == CLIENTS {
            let (plan, is_direct) = (&self.plan, site == CLIENTS);
            let mut note = |frame| self.traffic.note_sent(plan, frame, is_direct, self.now);
            outside.iter().for_each(|frame| note(frame));
        }
        outside.into_iter().for_each(|frame| self.after(CABLE, Event::Router(site, frame)));
        if self.stations[site].waits() {
            self.after(2_000, Event::Turn(site));
        }
    }

    /// Takes the router's frames for the sites, and schedules its next event.
    fn advance(&mut self) {
        for (site, frame) in self.wan.advance(self.now, &mut self.log) {
            self.after(CABLE, Event::Station(site, false, frame));
        }
        if let Some(at) = self.wan.next_event().map(|at| at.max(self.now + 1))
            && self.advance.is_none_or(|before| at < before)
        {
            self.advance = Some(at);
            self.after(at - self.now, Event::Advance);
        }
    }

    /// Returns the clients.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.seats.iter().filter_map(|seat| match &seat.node {
            Node::Client(client) => Some(client),
            Node::Server(_) => None,
        })
    }

    /// Returns the servers.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.seats.iter().filter_map(|seat| match &seat.node {
            Node::Server(server) => Some(server),
            Node::Client(_) => None,
        })
    }

    /// Returns ICMP errors about packets that a host has not sent, with its site.
    pub fn stray_errors(&self) -> impl Iterator<Item = (Site, &String)> {
        self.seats.iter().flat_map(|seat| {
            let paths = match &seat.node {
                Node::Client(client) => &client.host.paths,
                Node::Server(server) => &server.host.paths,
            };
            paths.wrong.iter().map(|what| (seat.site, what))
        })
    }

    /// Returns the appliances, by site.
    #[must_use]
    pub fn stations(&self) -> &[Station] {
        &self.stations
    }
}
