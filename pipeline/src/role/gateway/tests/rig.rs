//! A gateway with a plan that a test makes by hand, and what it sends and reports.

use std::net::SocketAddr;

use super::*;
use crate::memory::{Candidate, Event, Plan, Report, ReportsReader, Why, reports};
use crate::testing::{socket, tunnel_in};
use crate::wire::copies::CopiesWanted;
use crate::wire::tunnel::Format;

/// The hosts of one family's tests.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) version: Version,
    pub(super) client: &'static str,
    pub(super) server: &'static str,
    /// Each is at a site of its own, except that the last one is at the first one's site.
    pub(super) replicas: [&'static str; 4],
}

pub(super) const V4_HOSTS: Hosts = Hosts {
    version: Version::V4,
    client: "198.18.1.10:40000",
    server: "203.0.113.10:80",
    replicas: ["198.51.100.10:80", "198.51.101.10:80", "198.51.102.10:80", "198.51.100.20:80"],
};

pub(super) const V6_HOSTS: Hosts = Hosts {
    version: Version::V6,
    client: "[2001:db8:1::10]:40000",
    server: "[2001:db8:2::10]:80",
    replicas: [
        "[2001:db8:30::10]:80",
        "[2001:db8:31::10]:80",
        "[2001:db8:32::10]:80",
        "[2001:db8:30::20]:80",
    ],
};

/// The sequence number of SYNs.
pub(super) const ISN: u32 = 100;

pub(super) fn ms(millis: u64) -> Ticks {
    Ticks::from_millis(millis)
}

/// Returns the address of an endpoint as text.
pub(super) fn host(endpoint: &str) -> String {
    socket(endpoint).ip().to_string()
}

/// A policy with direct copies.
pub(super) fn direct() -> Policy {
    Policy { direct: 2, ..Policy::default() }
}

/// What has become of a burst.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) verdicts: Vec<Verdict>,
    pub(super) inside: Vec<Vec<u8>>,
    pub(super) outside: Vec<Vec<u8>>,
}

/// A gateway, its memory's ends, and the time.
pub(super) struct Rig<M> {
    pub(super) gateway: Gateway<M>,
    pub(super) pool: HeapPool,
    pub(super) now: Ticks,
    pub(super) hosts: &'static Hosts,
    /// The format of tunnels to replicas.
    pub(super) format: Format,
    /// For how many copies of each packet of a burst the output has room.
    pub(super) copies: usize,
    published: Published<Plans>,
    reports: ReportsReader,
    policy: Policy,
    sent: u64,
}

impl<M: Mode> Rig<M> {
    pub(super) fn new(hosts: &'static Hosts, policy: Policy) -> Self {
        Self::with_settings(hosts, policy, Keys::default(), |_| {})
    }

    pub(super) fn with_settings(
        hosts: &'static Hosts,
        policy: Policy,
        keys: Keys,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let prefix = format!("{}/{}", host(hosts.server), [32, 128][hosts.version as usize]);
        let service = Service {
            scope: Scope::Prefix(prefix.parse().unwrap()),
            ports: vec![80],
            retired: false,
            allowed_replicas: AllowList::Any,
            policy: policy.clone(),
        };
        let mut settings = Settings { max_connections: [256; 2], ..Settings::new(vec![service]) };
        change(&mut settings);
        let published = Published::new(Plans::empty(1));
        let (sender, reader) = reports(1 << 10);
        let shares = Shares { plans: published.reader(), reports: sender };
        let keys = Published::new(keys).reader();
        Self {
            gateway: Gateway::with_memory(settings, keys, shares),
            pool: HeapPool::default(),
            now: Ticks::from_secs(100),
            hosts,
            format: Format::Ipip,
            copies: 10,
            published,
            reports: reader,
            policy,
            sent: 0,
        }
    }

    /// Publishes a plan that asks these replicas, each with its rank in milliseconds. The first
    /// race, which explores, is over; until ten seconds have passed no other does.
    pub(super) fn plan(&mut self, best: &[(usize, u64)], change: impl FnOnce(&mut Plan)) {
        let mut plan = Plan::empty();
        (plan.explore_every, plan.trial_every) = (u32::MAX, 16);
        (plan.copies, plan.why) = (CopiesWanted::at_most(self.policy.explore), Why::Fresh);
        for &(replica, rank) in best {
            let number = self.push(&mut plan, replica, Some(ms(rank)));
            plan.best.push(number);
        }
        change(&mut plan);
        let mut plans = Plans::empty(1);
        plans.set(0, self.hosts.version, plan);
        self.published.publish(plans);
        self.other_race(1);
        self.reported();
    }

    /// Adds a replica's site to a plan.
    pub(super) fn push(&self, plan: &mut Plan, replica: usize, rank: Option<Ticks>) -> u8 {
        let address = socket(self.hosts.replicas[replica]).ip();
        let handicap = self.policy.handicap(address);
        let candidate = Candidate { address, format: self.format, rank, handicap };
        plan.push(self.policy.site(address), candidate).unwrap()
    }

    pub(super) fn wait(&mut self, millis: u64) {
        self.now = self.now + ms(millis);
    }

    pub(super) fn burst(&mut self, side: Side, frames: &[Vec<u8>]) -> Seen {
        let (mut burst, mut out) = (Burst::default(), Output::new(self.copies));
        let room = Side::ALL.map(|side| out.room(side));
        burst.fill(frames.iter().map(|frame| HeapBuffer::new(frame)));
        let mut context = Context { now: self.now, pool: &mut self.pool, out: &mut out };
        self.gateway.process(side, &mut burst, &mut context);
        let left = Side::ALL.map(|side| out.side(side).len());
        assert_eq!(room, [0, 1].map(|side| out.room(Side::ALL[side]) + left[side]), "it grew");
        self.taken(burst.verdicts().to_vec(), &mut out)
    }

    fn taken(&mut self, verdicts: Vec<Verdict>, out: &mut Output<HeapBuffer>) -> Seen {
        let [inside, outside] = [Side::Inside, Side::Outside].map(|side| {
            let frames = out.side(side).drain(..);
            frames.map(|buffer| buffer.frame().to_vec()).collect::<Vec<_>>()
        });
        self.sent += (inside.len() + outside.len()) as u64;
        let counters = self.gateway.counters();
        let fates =
            |fate| Side::ALL.iter().map(|side| counters.side(*side).fate(fate)).sum::<u64>();
        let generated: u64 = counters.generated.iter().map(|counter| counter.get()).sum();
        assert_eq!(fates(crate::verdict::Fate::Forwarded) + generated, self.sent);
        Seen { verdicts, inside, outside }
    }

    pub(super) fn timer(&mut self) -> Seen {
        let mut out = Output::new(self.copies);
        let mut context = Context { now: self.now, pool: &mut self.pool, out: &mut out };
        self.gateway.on_timer(&mut context);
        self.taken(Vec::new(), &mut out)
    }

    pub(super) fn finish(&mut self) -> Seen {
        let mut out = Output::new(1);
        let mut context = Context { now: self.now, pool: &mut self.pool, out: &mut out };
        self.gateway.finish(&mut context);
        self.taken(Vec::new(), &mut out)
    }

    pub(super) fn syn(&self, isn: u32) -> Segment {
        Segment::syn(self.hosts.client, self.hosts.server, isn)
    }

    /// Sends the client's SYN; returns its verdict and what leaves by the outside.
    pub(super) fn send_syn(&mut self, isn: u32) -> (Verdict, Vec<Vec<u8>>) {
        let frame = self.syn(isn).frame();
        let seen = self.burst(Side::Inside, &[frame]);
        assert!(seen.inside.is_empty());
        (seen.verdicts[0], seen.outside)
    }

    /// Runs a race of another client's that nobody answers, and returns what leaves.
    pub(super) fn other_race(&mut self, number: u16) -> (Verdict, Vec<Vec<u8>>) {
        let mut syn = self.syn(ISN);
        syn.from.set_port(number);
        let seen = self.burst(Side::Inside, &[syn.frame()]);
        (seen.verdicts[0], seen.outside)
    }

    /// Runs races of clients in these IPv4 prefixes that miss: the origin answers the first untagged
    /// SYN alone.
    pub(super) fn miss(&mut self, prefixes: &[u8]) {
        let client = |prefix: u8| SocketAddr::from(([198, 19, prefix, 10], 40_000));
        for millis in [1000, 2000, 50] {
            for &prefix in prefixes {
                let syn = Segment { from: client(prefix), ..self.syn(ISN) };
                self.burst(Side::Inside, &[syn.frame()]);
            }
            self.wait(millis);
        }
        for &prefix in prefixes {
            let answer = self.origins_answer_to(client(prefix));
            assert_eq!(self.receive(answer).0, Verdict::OriginWon);
        }
    }

    /// Makes the gateway find that the path to the server drops tagged SYNs.
    pub(super) fn back_off(&mut self) {
        self.miss(&[1, 2, 3]);
        assert_eq!(self.scalar(Scalar::TagBackoffs), 1);
    }

    fn origins_answer_to(&self, client: SocketAddr) -> Vec<u8> {
        Segment { to: client, ..Segment::syn_ack(self.hosts.server, CLIENT, 500, ISN + 1) }.frame()
    }

    /// Returns a replica's SYN/ACK in the configuration's form.
    pub(super) fn answer(&self, replica: usize, acknowledgement: u32) -> Vec<u8> {
        self.answer_to(self.hosts.client, replica, acknowledgement)
    }

    /// Returns a replica's SYN/ACK to another client.
    pub(super) fn answer_to(&self, client: &str, replica: usize, acknowledgement: u32) -> Vec<u8> {
        let Hosts { server, replicas, .. } = self.hosts;
        let replica = replicas[replica];
        let (from, outer) = match M::CONFIGURATION {
            Configuration::A => (replica, None),
            Configuration::B => (replica, Some(*server)),
            Configuration::C => (*server, Some(replica)),
        };
        let segment = Segment::syn_ack(from, client, 500, acknowledgement);
        match outer {
            None => segment.frame(),
            Some(outer) => segment.tunnelled(&host(outer), &host(client)),
        }
    }

    /// Returns the origin's SYN/ACK.
    pub(super) fn origins_answer(&self, acknowledgement: u32) -> Vec<u8> {
        Segment::syn_ack(self.hosts.server, self.hosts.client, 500, acknowledgement).frame()
    }

    pub(super) fn receive(&mut self, frame: Vec<u8>) -> (Verdict, Seen) {
        let seen = self.burst(Side::Outside, &[frame]);
        (seen.verdicts[0], seen)
    }

    /// Receives the SYN/ACK of a replica in the race of [`ISN`].
    pub(super) fn receive_answer(&mut self, replica: usize) -> (Verdict, Seen) {
        self.receive(self.answer(replica, ISN + 1))
    }

    pub(super) fn receive_origins(&mut self) -> (Verdict, Seen) {
        self.receive(self.origins_answer(ISN + 1))
    }

    /// Where the client's data goes.
    pub(super) fn data(&mut self) -> Verdict {
        let data = Segment::ack(self.hosts.client, self.hosts.server, ISN + 1, 501).frame();
        self.burst(Side::Inside, &[data]).verdicts[0]
    }

    /// Where a segment of the client goes that does not belong to the race's connection.
    pub(super) fn stray(&mut self) -> Verdict {
        let stray = Segment::ack(self.hosts.client, self.hosts.server, 1 << 31, 501).frame();
        self.burst(Side::Inside, &[stray]).verdicts[0]
    }

    /// Returns the reports since the last call.
    pub(super) fn reported(&mut self) -> Vec<Report> {
        std::iter::from_fn(|| self.reports.take()).collect()
    }

    /// Returns the answers reported since the last call: by whom, whether directly, whether it won,
    /// and after how many milliseconds.
    pub(super) fn answers(&mut self) -> Vec<(String, bool, bool, Option<u64>)> {
        let answered = |report: Report| match report.event {
            Event::Answered { responder, is_direct, has_won, after, .. } => {
                let after = after.map(|after| after.micros() / 1000);
                Some((responder.to_string(), is_direct, has_won, after))
            }
            Event::Asked { .. } | Event::Ended { .. } => None,
        };
        self.reported().into_iter().filter_map(answered).collect()
    }

    pub(super) fn scalar(&self, scalar: Scalar) -> u64 {
        self.gateway.counters().scalar(scalar).get()
    }

    /// Returns the copy of a tagged SYN that a replica gets.
    pub(super) fn copy(&self, tagged: &[u8], replica: usize, format: Format) -> Vec<u8> {
        let Hosts { client, replicas, version, .. } = self.hosts;
        let entropy = match version {
            Version::V4 => endpoint::<V4>(client).entropy(),
            Version::V6 => endpoint::<V6>(client).entropy(),
        };
        let ends = (host(client), host(replicas[replica]));
        let packet = tunnel_in(format, (&ends.0, &ends.1), (0, entropy), &tagged[14..]);
        ethernet_frame(self.syn(0).macs, &packet)
    }
}

/// Returns the number of copies that a tagged SYN asks the switch for; `None`: it has no tag.
pub(super) fn copies_wanted(frame: &[u8]) -> Option<CopiesWanted> {
    use crate::stage::tag::{Found, OptionId};
    let packet = Packet::new(HeapBuffer::new(frame));
    match OptionId::default().find(packet.options()) {
        Found::Tag(tag, ..) => Some(tag.copies),
        _ => None,
    }
}

pub(super) use crate::stage::tag::Configuration;
