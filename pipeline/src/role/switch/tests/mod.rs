//! The switch, packet by packet: both families, all formats, and changes of liveness. Scenarios
//! test it from the outside.

mod affinity;
mod corpus;
mod deliver;
mod fan_out;
mod kept;
mod probe;
mod related;
mod track;

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

/// The addresses of one family's tests.
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

/// Returns an endpoint of the plan's client with this port.
fn client(plan: Plan, port: u16) -> String {
    let mut client = crate::testing::socket(plan.client);
    client.set_port(port);
    client.to_string()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Returns the address of an endpoint.
fn host(endpoint: &str) -> String {
    crate::testing::socket(endpoint).ip().to_string()
}

fn server_mac(number: usize) -> Mac {
    [2, 0, 0, 0, 0, 0x31 + number as u8]
}

/// Returns a service with this many servers, reached by MAC address. The tunnels' addresses are
/// those of the outer plan.
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
        fan_out: Limit { rate: 100, burst: 100, ..Limit::default() },
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

/// A switch, and the shared state, buffers and time that it runs with.
struct Harness {
    switch: Switch,
    services: Vec<Service>,
    selection: Published<Selection>,
    shares: Shares,
    pool: HeapPool,
    now: Ticks,
    /// The frames sent by the outside at the last call.
    outside: Vec<Vec<u8>>,
    /// The frames sent by the inside at the last call.
    inside: Vec<Vec<u8>>,
}

impl Harness {
    fn new(settings: Settings) -> Self {
        Self::with_keys(settings, Keys::default())
    }

    fn with_keys(settings: Settings, keys: Keys) -> Self {
        let services = settings.services.clone();
        let replicas = services.iter().map(|service| service.replicas.len()).sum();
        let deliveries = || services.iter().flat_map(|s| &s.servers).map(|s| s.delivery);
        let neighbours = deliveries().filter_map(|delivery| match delivery {
            Delivery::Neighbour(address) => Some(address),
            _ => None,
        });
        let tunnelled = deliveries().filter_map(|delivery| match delivery {
            Delivery::Tunnel(address) => Some(address),
            _ => None,
        });
        let shares = Shares {
            tunnels: Arc::new(TunnelHealth::new(replicas)),
            neighbours: Arc::new(Neighbours::with_optional(neighbours, tunnelled)),
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

    /// Sets which servers get new connections.
    fn servers(&mut self, alive: &[bool]) {
        let alive = Liveness { servers: alive.to_vec(), ..Liveness::default() };
        self.selection.publish(Selection::new(&self.services, &alive));
    }

    /// Sets which replicas get copies.
    fn replicas(&mut self, alive: &[bool]) {
        let alive = Liveness { replicas: alive.to_vec(), ..Liveness::default() };
        self.selection.publish(Selection::new(&self.services, &alive));
    }

    /// Processes a frame, and stores the frames that are sent in `inside` and `outside`.
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

    /// Processes a packet from the client; returns the number of the server that it is sent to.
    fn server_of(&mut self, frame: &[u8]) -> Option<usize> {
        let verdict = self.pass(Side::Outside, frame);
        if verdict.fate() != Fate::Forwarded {
            return None;
        }
        let [sent] = &self.inside[..] else { panic!("{} frames sent", self.inside.len()) };
        Some(usize::from(sent[5]) - 0x31)
    }

    fn generated(&self, generated: Generated) -> u64 {
        self.switch.common.counters.common.generated[generated as usize].get()
    }

    /// Returns the number of insertions into the table of the plan's family, and how many of its
    /// connections are opening, open, and have ended.
    fn table(&self, plan: Plan) -> (u64, [usize; 3]) {
        fn counts<F: Family>(state: &FamilyState<F>) -> [usize; 3] {
            let count = |phases: &[Phase]| phases.iter().map(|p| state.affinities.count(*p)).sum();
            let open = [Phase::Unheard, Phase::Established, Phase::HalfClosed];
            [count(&[Phase::Opening]), count(&open), count(&[Phase::Closed, Phase::Reset])]
        }
        let counters = &self.switch.common.counters.common;
        match ip(plan.servers[0]) {
            IpAddr::V4(_) => (counters.table.inserted.get(), counts(&self.switch.v4)),
            IpAddr::V6(_) => (counters.table_v6.inserted.get(), counts(&self.switch.v6)),
        }
    }
}

/// Returns the options of a Linux SYN, followed by an unsigned tag with these flags.
fn tagged_options(flags: u8) -> Vec<u8> {
    [&LINUX_OPTIONS[..], &[253, 5, 0x4e, 0x52, flags, 1, 1, 1]].concat()
}

/// Returns a SYN from the WAN.
fn syn(plan: Plan) -> Segment {
    Segment::syn(plan.client, plan.service, 1000).inbound()
}

fn ack(plan: Plan) -> Segment {
    Segment::ack(plan.client, plan.service, 1001, 5001).inbound()
}

/// Returns a frame with a segment in a tunnel.
fn in_tunnel(
    format: Format,
    ends: (&str, &str),
    entropy: u32,
    macs: (Mac, Mac),
    segment: &Segment,
) -> Vec<u8> {
    let class_and_entropy = (segment.traffic_class, entropy);
    ethernet_frame(macs, &tunnel_in(format, ends, class_and_entropy, &segment.packet()))
}

fn entropy(endpoint: &str) -> u32 {
    match crate::testing::socket(endpoint).ip() {
        IpAddr::V4(_) => crate::testing::endpoint::<V4>(endpoint).entropy(),
        IpAddr::V6(_) => crate::testing::endpoint::<V6>(endpoint).entropy(),
    }
}

#[test]
fn the_owner_is_the_client_that_a_packet_concerns() {
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
        let from_outside = error(&host(plan.service), &back.packet());
        assert_eq!(owner(Side::Outside, &from_outside), client);
        let from_inside = error(&host(plan.client), &from(plan.service).packet());
        assert_eq!(owner(Side::Inside, &from_inside), client);
        let ends = (&*host(plan.service), plan.servers[0]);
        for inner in PLANS {
            let packet = Segment::ack(inner.client, inner.service, 1, 1).packet();
            let quoted = tunnel_in(Format::Gre, ends, (0, 0), &packet);
            let tunnel_error = error(&host(plan.service), &quoted);
            let client = Some(ip(&host(inner.client)));
            assert_eq!(owner(Side::Inside, &tunnel_error), client);
        }
        let tunnel = in_tunnel(Format::Ipip, ends, 0, syn(plan).macs, &syn(plan));
        assert_eq!(owner(Side::Outside, &tunnel), None);
    }
}

#[test]
fn packets_of_no_service_pass() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 3)));
        let mut other = ack(plan);
        other.to.set_port(22);
        for (side, frame, expected) in [
            (Side::Outside, other.frame(), Verdict::NoService),
            (Side::Inside, other.frame(), Verdict::FromServer),
            (Side::Outside, syn(plan).tunnelled("10.0.0.1", "10.0.0.2"), Verdict::ForeignTunnel),
        ] {
            assert_eq!(harness.pass(side, &frame), expected);
            let sent = if side == Side::Outside { &harness.inside } else { &harness.outside };
            assert_eq!(sent, &[frame]);
        }
        assert_eq!(harness.table(plan), (0, [0, 0, 0]));
    }
}
