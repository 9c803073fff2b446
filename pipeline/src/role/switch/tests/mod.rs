//! The switch, packet by packet. Scenarios test it from the outside too; here are families,
//! formats and changes of liveness.

mod affinity;
mod corpus;
mod deliver;
mod fan_out;
mod probe;
mod related;

use super::*;
use crate::base::published::Published;
use crate::counters::Generated;
use crate::packet::buffer::{HeapBuffer, HeapPool};
use crate::packet::burst::Output;
use crate::policy::limiter::Limit;
use crate::policy::tunnel_path::TunnelPath;
use crate::stage::tag;
use crate::testing::{INSIDE_MAC, LINUX_OPTIONS, OUTSIDE_MAC, Segment, ethernet_frame, tunnel_in};
use crate::verdict::Fate;
use crate::wire::ethernet::Mac;
use crate::wire::tunnel::Format;

/// What one family's tests use.
#[derive(Clone, Copy)]
struct Plan {
    client: &'static str,
    service: &'static str,
    replicas: [&'static str; 2],
    servers: [&'static str; 3],
}

const V4_PLAN: Plan = Plan {
    client: "198.18.1.10:40000",
    service: "203.0.113.10:80",
    replicas: ["198.51.100.10", "198.51.100.20"],
    servers: ["203.0.113.21", "203.0.113.22", "203.0.113.23"],
};

const V6_PLAN: Plan = Plan {
    client: "[2001:db8:1::10]:40000",
    service: "[2001:db8:2::10]:80",
    replicas: ["2001:db8:3::10", "2001:db8:3::20"],
    servers: ["2001:db8:2::21", "2001:db8:2::22", "2001:db8:2::23"],
};

const PLANS: [Plan; 2] = [V4_PLAN, V6_PLAN];

/// A port of the plan's client.
fn client(plan: Plan, port: u16) -> String {
    let mut client = crate::testing::socket(plan.client);
    client.set_port(port);
    client.to_string()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The address of an endpoint.
fn host(endpoint: &str) -> String {
    crate::testing::socket(endpoint).ip().to_string()
}

fn server_mac(number: usize) -> Mac {
    [2, 0, 0, 0, 0, 0x31 + number as u8]
}

/// A service with so many servers, by MAC address, and tunnels as the outer plan says.
fn service(plan: Plan, outer: Plan, servers: usize) -> Service {
    let endpoint = crate::testing::socket(plan.service);
    let server = |number| Server {
        name: format!("web{number}"),
        delivery: Delivery::Direct(server_mac(number)),
        weight: 1,
    };
    Service {
        address: endpoint.ip(),
        ports: vec![endpoint.port()],
        replicable: true,
        source: crate::testing::socket(outer.service).ip(),
        replicas: outer.replicas.iter().map(|text| ip(text)).collect(),
        first_replica: 0,
        servers: (0..servers).map(server).collect(),
        first_server: 0,
    }
}

fn settings(service: Service) -> Settings {
    Settings {
        fan_out: Limit { rate: 100, burst: 100, prefix_v4: 24, prefix_v6: 48 },
        max_connections: [256; 2],
        timeouts: Timeouts {
            opening: Ticks::from_secs(30),
            established: Ticks::from_secs(3600),
            closing: Ticks::from_secs(10),
            reuse_after: Ticks::from_secs(60),
        },
        probes: true,
        macs: [INSIDE_MAC, OUTSIDE_MAC],
        hash_key: (3, 4),
        ..Settings::new(vec![service])
    }
}

struct Bench {
    switch: Switch,
    services: Vec<Service>,
    selection: Published<Selection>,
    shares: Shares,
    pool: HeapPool,
    now: Ticks,
    /// What left by the outside at the last call, and by the inside.
    outside: Vec<Vec<u8>>,
    inside: Vec<Vec<u8>>,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        Self::with_keys(settings, Keys::default())
    }

    fn with_keys(settings: Settings, keys: Keys) -> Self {
        let services = settings.services.clone();
        let replicas = services.iter().map(|service| service.replicas.len()).sum();
        let neighbours =
            services.iter().flat_map(|s| &s.servers).filter_map(|server| match server.delivery {
                Delivery::Neighbour(address) => Some(address),
                _ => None,
            });
        let shares = Shares {
            tunnels: Arc::new(TunnelHealth::new(replicas)),
            neighbours: Arc::new(Neighbours::new(neighbours)),
        };
        let selection = Published::new(Selection::new(&services, &Liveness::default()));
        let keys = Published::new(keys).reader();
        Self {
            switch: Switch::new(settings, shares.clone(), selection.reader(), keys),
            services,
            selection,
            shares,
            pool: HeapPool::default(),
            now: Ticks::from_secs(1),
            outside: Vec::new(),
            inside: Vec::new(),
        }
    }

    /// From now on these servers get new connections.
    fn servers(&mut self, alive: &[bool]) {
        let alive = Liveness { servers: alive.to_vec(), ..Liveness::default() };
        self.selection.publish(Selection::new(&self.services, &alive));
    }

    /// From now on these replicas get copies.
    fn replicas(&mut self, alive: &[bool]) {
        let alive = Liveness { replicas: alive.to_vec(), ..Liveness::default() };
        self.selection.publish(Selection::new(&self.services, &alive));
    }

    /// One frame; `inside` and `outside` are what leaves.
    fn pass(&mut self, side: Side, frame: &[u8]) -> Verdict {
        self.pass_buffer(side, HeapBuffer::new(frame))
    }

    fn pass_buffer(&mut self, side: Side, buffer: HeapBuffer) -> Verdict {
        let (mut burst, mut out) = (Burst::default(), Output::new(8));
        burst.fill(std::iter::once(buffer));
        let mut context = Context { now: self.now, pool: &mut self.pool, out: &mut out };
        self.switch.process(side, &mut burst, &mut context);
        self.take(out);
        burst.verdicts()[0]
    }

    fn on_timer(&mut self) {
        let mut out = Output::new(8);
        let mut context = Context { now: self.now, pool: &mut self.pool, out: &mut out };
        self.switch.on_timer(&mut context);
        self.take(out);
    }

    fn take(&mut self, mut out: Output<HeapBuffer>) {
        let mut frames = |side| -> Vec<Vec<u8>> {
            out.side(side).drain(..).map(|buffer| buffer.frame().to_vec()).collect()
        };
        (self.inside, self.outside) = (frames(Side::Inside), frames(Side::Outside));
    }

    /// A packet from the client that is given to a server: which.
    fn server_of(&mut self, frame: &[u8]) -> Option<usize> {
        let verdict = self.pass(Side::Outside, frame);
        if verdict.fate() != Fate::Forwarded {
            return None;
        }
        let [left] = &self.inside[..] else { panic!("{} frames left", self.inside.len()) };
        Some(usize::from(left[5]) - 0x31)
    }

    fn made(&self, what: Generated) -> u64 {
        self.switch.common.counters.common.generated[what as usize].get()
    }

    fn table(&self, plan: Plan) -> (u64, [usize; 3]) {
        fn counts<F: Family>(state: &FamilyState<F>) -> [usize; 3] {
            [Phase::Opening, Phase::Established, Phase::Closing].map(|p| state.affinities.count(p))
        }
        let counters = &self.switch.common.counters.common;
        match ip(plan.servers[0]) {
            IpAddr::V4(_) => (counters.table.inserted.get(), counts(&self.switch.v4)),
            IpAddr::V6(_) => (counters.table_v6.inserted.get(), counts(&self.switch.v6)),
        }
    }
}

/// Options with an unsigned tag in front of nothing.
fn tagged_options(flags: u8) -> Vec<u8> {
    [&LINUX_OPTIONS[..], &[253, 5, 0x4e, 0x52, flags, 1, 1, 1]].concat()
}

/// A start packet as it comes from the WAN.
fn syn(plan: Plan) -> Segment {
    Segment::syn(plan.client, plan.service, 1000).inbound()
}

fn ack(plan: Plan) -> Segment {
    Segment::ack(plan.client, plan.service, 1001, 5001).inbound()
}

/// The frame in a tunnel.
fn in_tunnel(
    format: Format,
    ends: (&str, &str),
    entropy: u32,
    macs: (Mac, Mac),
    segment: &Segment,
) -> Vec<u8> {
    let about = (segment.traffic_class, entropy);
    ethernet_frame(macs, &tunnel_in(format, ends, about, &segment.packet()))
}

fn entropy(endpoint: &str) -> u32 {
    match crate::testing::socket(endpoint).ip() {
        IpAddr::V4(_) => crate::testing::endpoint::<V4>(endpoint).entropy(),
        IpAddr::V6(_) => crate::testing::endpoint::<V6>(endpoint).entropy(),
    }
}

#[test]
fn packets_are_placed_by_the_client_that_they_concern() {
    let owner = |side, frame: &[u8]| Switch::owner(side, &Packet::new(HeapBuffer::new(frame)));
    for plan in PLANS {
        let client = Some(ip(&host(plan.client)));
        let from = |to: &str| Segment::ack(plan.client, to, 1, 1);
        let back = Segment::ack(plan.service, plan.client, 1, 1);
        assert_eq!(owner(Side::Outside, &from(plan.service).frame()), client);
        assert_eq!(owner(Side::Inside, &back.frame()), client);
        let (kind, code) = if host(plan.client).contains(':') { (2, 0) } else { (3, 4) };
        let error = |to: &str, quoted: &[u8]| {
            crate::testing::icmp_error(&host(plan.service), to, kind, code, quoted)
        };
        let about_answer = error(&host(plan.service), &back.packet());
        assert_eq!(owner(Side::Outside, &about_answer), client);
        let about_request = error(&host(plan.client), &from(plan.service).packet());
        assert_eq!(owner(Side::Inside, &about_request), client);
        let ends = (&*host(plan.service), plan.servers[0]);
        for inner in PLANS {
            let packet = Segment::ack(inner.client, inner.service, 1, 1).packet();
            let quoted = tunnel_in(Format::Gre, ends, (0, 0), &packet);
            let about_tunnel = error(&host(plan.service), &quoted);
            let client = Some(ip(&host(inner.client)));
            assert_eq!(owner(Side::Inside, &about_tunnel), client);
        }
        let tunnel = in_tunnel(Format::Ipip, ends, 0, syn(plan).macs, &syn(plan));
        assert_eq!(owner(Side::Outside, &tunnel), None);
    }
}

#[test]
fn what_is_nobodys_passes() {
    for plan in PLANS {
        let mut bench = Bench::new(settings(service(plan, plan, 3)));
        let mut other = ack(plan);
        other.to.set_port(22);
        for (side, frame, expected) in [
            (Side::Outside, other.frame(), Verdict::NoService),
            (Side::Inside, other.frame(), Verdict::FromServer),
            (Side::Outside, syn(plan).tunnelled("10.0.0.1", "10.0.0.2"), Verdict::ForeignTunnel),
        ] {
            assert_eq!(bench.pass(side, &frame), expected);
            let left = if side == Side::Outside { &bench.inside } else { &bench.outside };
            assert_eq!(left, &[frame]);
        }
        assert_eq!(bench.table(plan), (0, [0, 0, 0]));
    }
}
