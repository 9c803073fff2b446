//! The fast path and the slow path must do the same, and a reload that changes nothing must not be
//! seen. Each random event sequence is replayed to four instances of a role: to one as it is, to one
//! that takes the slow path only, to one behind a VLAN tag, for which the fast path is not made, and
//! to one that is reloaded now and then. Verdicts, frames that leave, and table states must be
//! equal; of the reloaded one all counters, too.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Context, Role};
use crate::base::published::Published;
use crate::base::time::Ticks;
use crate::neighbours::Neighbours;
use crate::packet::buffer::{HeapBuffer, HeapPool};
use crate::packet::burst::{BURST, Burst, Output};
use crate::packet::view::Side;
use crate::policy::allow_list::AllowList;
use crate::policy::limiter::Limit;
use crate::policy::services::Scope;
use crate::role::gateway::mode::{A, B, C, Mode};
use crate::role::{gateway, replica, switch};
use crate::stage::sign::Keys;
use crate::stage::tag::{Configuration, CopiesWanted};
use crate::testing::Segment;
use crate::verdict::Verdict;
use crate::wire::tcp::Flags;

/// The VLAN tag of one instance.
const TAG: [u8; 4] = [0x81, 0, 0, 5];
const SERVERS: [&str; 2] = ["203.0.113.10:80", "[2001:db8:2::10]:80"];
const REPLICAS: [&str; 2] = ["198.51.100.10:80", "[2001:db8:3::10]:80"];
const OTHERS: [&str; 2] = ["198.51.100.20:80", "[2001:db8:4::20]:80"];
const CLIENTS: [&str; 2] = ["198.18.1.", "2001:db8:1::"];
/// The sequence number of SYNs.
const ISN: u32 = 100;

/// One instance of a role.
struct Instance<R> {
    role: R,
    pool: HeapPool,
    tag: &'static [u8],
    is_slow: bool,
}

impl<R: Role> Instance<R> {
    fn new(role: R, tag: &'static [u8]) -> Self {
        Self { role, pool: HeapPool::default(), tag, is_slow: false }
    }

    /// Processes a burst; returns the verdicts, and the frames that are sent, without the VLAN tag.
    fn pass(&mut self, side: Side, frames: &[Vec<u8>], now: Ticks) -> (Vec<Verdict>, Vec<Vec<u8>>) {
        let (mut burst, mut out) = (Burst::default(), Output::new(8));
        burst.fill(frames.iter().map(|frame| {
            let mut frame = frame.clone();
            frame.splice(12..12, self.tag.iter().copied());
            HeapBuffer::new(&frame)
        }));
        let mut context = Context { now, pool: &mut self.pool, out: &mut out };
        match self.is_slow {
            true => self.role.process_slowly(side, &mut burst, &mut context),
            false => self.role.process(side, &mut burst, &mut context),
        }
        let mut sent = Vec::new();
        for side in Side::ALL {
            for buffer in out.side(side).drain(..) {
                let mut frame = buffer.frame().to_vec();
                assert_eq!(frame[12..12 + self.tag.len()], *self.tag);
                frame.drain(12..12 + self.tag.len());
                sent.push(frame);
            }
        }
        (burst.verdicts().to_vec(), sent)
    }

    /// Returns the gauges of the tables, by family and state.
    fn table_states(&mut self, now: Ticks) -> Vec<u64> {
        let mut out = Output::new(8);
        self.role.on_timer(&mut Context { now, pool: &mut self.pool, out: &mut out });
        let counters = self.role.counters();
        let live = counters.table.live.iter().chain(&counters.table_v6.live);
        live.map(|gauge| gauge.get()).collect()
    }
}

/// A packet of an event sequence, in numbers that each role interprets differently.
#[derive(Clone, Debug)]
struct Event {
    inside: bool,
    family: usize,
    client: u8,
    /// The other end: server, replica or another host.
    peer: usize,
    /// The form of the packet: plain, or one of the tunnels.
    form: usize,
    flags: u8,
    /// Whether sequence and acknowledgement number are right.
    fits: bool,
    payload: usize,
    /// The configuration in the tag, by its number.
    configuration: u8,
    /// The time before the packet, in seconds; zero: in the same burst.
    pause: u64,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    const ACK: u8 = Flags::ACK;
    let flags = prop_oneof![
        2 => Just(Flags::SYN),
        3 => Just(Flags::SYN | ACK),
        8 => prop::sample::select(vec![ACK, ACK | 8]),
        1 => prop::sample::select(vec![Flags::FIN | ACK, Flags::RST, Flags::RST | ACK]),
        1 => prop::sample::select(vec![0, Flags::SYN | Flags::FIN]),
    ];
    let pause = prop::sample::select(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 40, 40, 5000]);
    let family = prop::bool::weighted(0.2).prop_map(usize::from);
    // Mostly one client, and its server or replica.
    let client = prop::sample::select(vec![1, 1, 1, 1, 1, 2, 3]);
    let peer = prop::sample::select(vec![0, 0, 0, 1, 1, 1, 2]);
    let ends = (any::<bool>(), family, client, peer, 0..4usize);
    let contents = (flags, prop::bool::weighted(0.9), 0..3usize, 0..3u8, pause);
    let event = (ends, contents).prop_map(|(ends, contents)| {
        let (inside, family, client, peer, form) = ends;
        let (flags, fits, payload, configuration, pause) = contents;
        Event { inside, family, client, peer, form, flags, fits, payload, configuration, pause }
    });
    prop::collection::vec(event, 1..200)
}

impl Event {
    fn side(&self) -> Side {
        if self.inside { Side::Inside } else { Side::Outside }
    }

    fn client(&self) -> String {
        let address = format!("{}{}", CLIENTS[self.family], self.client);
        if self.family == 0 { format!("{address}:4000") } else { format!("[{address}]:4000") }
    }

    fn segment(&self, from: &str, to: &str, options: &[u8]) -> Segment {
        let sequence = if self.flags & Flags::SYN != 0 && self.fits { ISN } else { 777 };
        let ack_number = if self.fits { ISN + 1 } else { 5 };
        let ack_number = if self.flags & Flags::ACK != 0 { ack_number } else { 0 };
        let segment = Segment::new(from, to, self.flags, sequence, ack_number);
        segment.options(options).payload(&[7; 2][..self.payload.min(2)])
    }
}

fn address(endpoint: &str) -> String {
    endpoint.parse::<std::net::SocketAddr>().unwrap().ip().to_string()
}

/// Replays an event sequence to instances of a role, on each path, and compares them.
fn replay_to_all<R: Role>(
    make: impl Fn() -> R,
    events: &[Event],
    frame: impl Fn(&Event) -> Vec<u8>,
) -> Result<(), TestCaseError> {
    let (mut fast, mut tagged) = (Instance::new(make(), &[]), Instance::new(make(), &TAG));
    let mut slow = Instance { is_slow: true, ..Instance::new(make(), &[]) };
    let mut reloaded = Instance::new(make(), &[]);
    let mut now = Ticks::from_secs(1);
    let mut rest = events;
    while let Some(first) = rest.first() {
        now = now + Ticks::from_secs(first.pause);
        // A burst has one side and one time.
        let same_burst = |event: &&Event| event.inside == first.inside && event.pause == 0;
        let more = rest[1..].iter().take(BURST - 1).take_while(same_burst).count();
        let (burst, after) = rest.split_at(1 + more);
        rest = after;
        let frames: Vec<_> = burst.iter().map(&frame).collect();
        let one = fast.pass(first.side(), &frames, now);
        let states = fast.table_states(now);
        // Making a role takes longer than the burst: not before each.
        if rest.len() % 5 == events.len() % 5 {
            drop(reloaded.role.reload(make(), now));
        }
        for other in [&mut slow, &mut tagged, &mut reloaded] {
            prop_assert_eq!(&one, &other.pass(first.side(), &frames, now), "{:?}", burst);
            prop_assert_eq!(&states, &other.table_states(now));
        }
    }
    let all = |instance: &Instance<R>| format!("{:?}", instance.role.counters());
    prop_assert_eq!(all(&fast), all(&reloaded));
    Ok(())
}

fn keys() -> Published<Keys> {
    Published::new(Keys::default())
}

fn gateway_of<Q: Mode>() -> gateway::Gateway<Q> {
    let service = |server: &&str| gateway::Service {
        scope: Scope::Prefix(address(server).parse::<std::net::IpAddr>().unwrap().into()),
        ports: vec![80],
        retired: false,
        allowed_replicas: AllowList::Any,
        policy: crate::memory::Policy::default(),
    };
    let services = SERVERS.iter().map(service).collect();
    let settings = gateway::Settings {
        max_connections: [2, 2],
        hash_key: (3, 4),
        ..gateway::Settings::new(services)
    };
    gateway::Gateway::new(settings, keys().reader())
}

/// Returns the frame of an event at a gateway: of a client, or of a server or replica in any form.
fn at_gateway(event: &Event) -> Vec<u8> {
    let family = event.family;
    let (client, other) = (event.client(), [SERVERS, REPLICAS, OTHERS][event.peer][family]);
    if event.inside {
        return event.segment(&client, other, &[]).frame();
    }
    let (server, replica) = (SERVERS[family], REPLICAS[family]);
    let to = address(&client);
    match event.form {
        // The tunnels of B and C.
        0 => event.segment(other, &client, &[]).tunnelled(&address(server), &to),
        1 => event.segment(server, &client, &[]).tunnelled(&address(other), &to),
        2 => event.segment(server, &client, &[]).tunnelled(&address(replica), &to),
        _ => event.segment(other, &client, &[]).frame(),
    }
}

fn a_replica() -> replica::Replica {
    let service = |number: usize| replica::Service {
        address: address(SERVERS[number]).parse().unwrap(),
        ports: vec![80],
        retired: false,
        servers: vec![replica::Server {
            name: "web".into(),
            address: address(REPLICAS[number]).parse().unwrap(),
            port: None,
            mac: Some([2; 6]),
            weight: 1,
            has_vip: false,
        }],
        first_server: number,
    };
    let services = vec![service(0), service(1)];
    let selection = Published::new(replica::Selection::new(&services, |_| true));
    let switches =
        SERVERS.map(|s| ipnet::IpNet::from(address(s).parse::<std::net::IpAddr>().unwrap()));
    let settings = replica::Settings {
        switches: AllowList::only(switches),
        busy_connections: 100,
        busy_syn_rate: 1 << 30,
        max_connections: [2, 2],
        macs: [[2; 6], [3; 6]],
        hash_key: (3, 4),
        ..replica::Settings::new(services)
    };
    let neighbours = Arc::new(Neighbours::default());
    let shares = replica::Shares { admission: Arc::default(), neighbours };
    replica::Replica::new(settings, shares, selection.reader(), keys().reader())
}

fn tagged(configuration: u8) -> Vec<u8> {
    vec![253, 5, 0x4e, 0x52, 1 | configuration << 1, 1, 1, 1]
}

/// Returns the frame of an event at a replica: a switch's copy, a gateway's packet, plain or
/// tunnelled, with a tag or without, or a web server's packet.
fn at_replica(event: &Event) -> Vec<u8> {
    let family = event.family;
    let (client, web) = (event.client(), REPLICAS[family]);
    let server = SERVERS[family];
    if event.inside {
        let from = [web, web, OTHERS[family]][event.peer];
        return event.segment(from, &client, &[]).frame();
    }
    match event.form {
        0 => {
            let copy = Event { flags: Flags::SYN, payload: 0, ..event.clone() };
            let copy = copy.segment(&client, server, &tagged(event.configuration));
            copy.tunnelled(&address(server), &address(web))
        }
        2 => {
            let copy = Event { payload: 0, ..event.clone() };
            let copy = copy.segment(&client, server, &tagged(event.configuration));
            copy.tunnelled(&address(&client), &address(web))
        }
        1 => {
            let segment = event.segment(&client, server, &[]);
            segment.tunnelled(&address(&client), &address(web))
        }
        _ => event.segment(&client, web, &[]).frame(),
    }
}

/// Returns a switch whose services have this many servers.
fn a_switch(servers: u8) -> switch::Switch {
    let server = |last| switch::Server {
        name: "web".into(),
        delivery: switch::Delivery::Direct([2, 0, 0, 0, 1, last]),
        weight: 1,
    };
    let service = |number: usize| switch::Service {
        address: address(SERVERS[number]).parse().unwrap(),
        ports: vec![80],
        retired: false,
        replicable: true,
        source: address(SERVERS[number]).parse().unwrap(),
        replicas: [REPLICAS, OTHERS].map(|all| address(all[number]).parse().unwrap()).into(),
        first_replica: number * 2,
        servers: (0..servers).map(server).collect(),
        first_server: number * usize::from(servers),
    };
    let services = vec![service(0), service(1)];
    let selection = Published::new(switch::Selection::new(&services, &switch::Liveness::default()));
    let most = 1 << 30;
    let limit = Limit { rate: most, burst: most, total: most, ..Limit::default() };
    let limit = Limit { address_rate: most, address_burst: most, ..limit };
    let settings = switch::Settings {
        fan_out: limit,
        max_connections: [2, 2],
        macs: [[2; 6]; 2],
        hash_key: (3, 4),
        ..switch::Settings::new(services)
    };
    let shares = switch::Shares {
        tunnels: Arc::new(switch::TunnelHealth::new(4)),
        neighbours: Arc::new(Neighbours::default()),
    };
    switch::Switch::new(settings, shares, selection.reader(), keys().reader())
}

/// Returns the frame of an event at a switch: a packet of a client, with a tag or without, or of a
/// server.
fn at_switch(event: &Event) -> Vec<u8> {
    let client = event.client();
    let server = [SERVERS, SERVERS, OTHERS][event.peer][event.family];
    if event.inside {
        return event.segment(server, &client, &[]).frame();
    }
    let copies = [CopiesWanted::ALL, CopiesWanted::at_most(1), CopiesWanted::NONE];
    let mut options = Vec::new();
    if event.form == 0 {
        options = tagged(Configuration::A as u8);
        options[4] |= copies[usize::from(event.configuration)].bits() << 3;
    }
    event.segment(&client, server, &options).frame()
}

proptest! {
    #[test]
    fn a_gateway_does_the_same_on_both_paths(sequence in events()) {
        replay_to_all(gateway_of::<A>, &sequence, at_gateway)?;
        replay_to_all(gateway_of::<B>, &sequence, at_gateway)?;
        replay_to_all(gateway_of::<C>, &sequence, at_gateway)?;
    }

    #[test]
    fn a_replica_does_the_same_on_both_paths(sequence in events()) {
        replay_to_all(a_replica, &sequence, at_replica)?;
    }

    #[test]
    fn a_switch_does_the_same_on_both_paths(sequence in events()) {
        replay_to_all(|| a_switch(2), &sequence, at_switch)?;
        replay_to_all(|| a_switch(1), &sequence, at_switch)?;
    }
}
