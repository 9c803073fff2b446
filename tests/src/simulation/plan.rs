//! What a seed stands for: who is there, how they are connected, and who talks to whom.

pub use pipeline::stage::tag::Configuration as Configuration;

use super::address::Site;
use super::draw;
use super::flood::Flood;
use super::rng::Rng;
use super::variety::{self, Change, Signing, Strangers, Tunnels};

/// Virtual time and spans of it, in nanoseconds.
pub type Nanos = u64;

/// A millisecond.
pub const MS: Nanos = 1_000_000;
/// A second.
pub const SECOND: Nanos = 1_000 * MS;

/// The IP family of clients and servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

/// What the TCP of a server does with a start packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Accepts it.
    Serves,
    /// Refuses it by a reset.
    Refuses,
    /// Says nothing.
    Silent,
}

/// What keeps a replica from taking start packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Nothing.
    Open,
    /// It is drained.
    Dead,
    /// It was made busy.
    Busy,
    /// It is busy from so many live connections on.
    Limit(usize),
}

/// How the appliance of a replica knows the MAC addresses of its web servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They are configured.
    Mac,
    /// It asks for them.
    Resolved,
    /// Copies are tunnelled to the one web server's own address.
    Bears,
}

/// From which replicas the gateway takes acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permits {
    /// From anywhere.
    Any,
    /// From the replicas' sites.
    Sites,
    /// From the first replica's site only.
    First,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct ReplicaPlan {
    /// How many web servers it has.
    pub servers: usize,
    /// What they do.
    pub manner: Manner,
    /// Whether it takes start packets.
    pub gate: Gate,
    /// How they are reached.
    pub reach: Reach,
    /// Their port, when it is another than the one asked for.
    pub port: Option<u16>,
    /// Whether they bear the services' addresses themselves.
    pub has_vip: bool,
    /// How often they may repeat an acknowledgement unasked.
    pub repeats: u8,
}

/// The way from one site to another.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Mean delay.
    pub delay: Nanos,
    /// The delay is up to this much longer or shorter.
    pub jitter: Nanos,
    /// Whether that may change the order.
    pub reorder: bool,
    /// Packets lost, per mille.
    pub loss: u64,
    /// Packets that arrive twice, per mille.
    pub duplicated: u64,
    /// Whether it drops start packets with options that it does not know.
    pub drops_options: bool,
    /// The largest IP packet that gets through.
    pub mtu: u16,
}

/// Who closes a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// The client, when it has all of the answer.
    Client,
    /// The server, when it has sent all of it.
    Server,
    /// The client, its own side, when it has sent the request; the server when it has answered.
    Half,
}

/// What a connection waits for before its time `at` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing: it has a port of its own.
    Alone,
    /// The end of that connection, whose port it takes over.
    After(usize),
    /// The beginning of that connection, whose port it shares: it goes to another service.
    Beside(usize),
}

/// One connection that a client makes.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionPlan {
    /// Which client.
    pub client: usize,
    /// Its port.
    pub port: u16,
    /// Which service.
    pub service: usize,
    /// What it waits for.
    pub start: Start,
    /// When, from then on.
    pub at: Nanos,
    /// Bytes of the request.
    pub request: usize,
    /// Bytes of the answer.
    pub response: usize,
    /// How long the server takes before it answers.
    pub think: Nanos,
    /// Who closes first.
    pub closer: Closer,
    /// How long the client waits for the end.
    pub patience: Nanos,
    /// Whether a client that gives up vanishes without a word.
    pub vanishes: bool,
    /// When somebody sends the client a reset in its server's name, without knowing the numbers.
    pub spoofed: Option<Nanos>,
}

/// Everything that a seed decides in advance.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How gateway and winner exchange packets.
    pub configuration: Configuration,
    /// The family.
    pub family: Family,
    /// Hosts at the clients' site.
    pub clients: usize,
    /// Services behind the switch; all replicas have all of them.
    pub services: usize,
    /// Servers of each behind the switch.
    pub origins: usize,
    /// What they do.
    pub origin: Manner,
    /// The replicas.
    pub replicas: Vec<ReplicaPlan>,
    /// The ways between sites, by site of departure and of arrival.
    pub paths: Vec<Vec<Path>>,
    /// The connections.
    pub connections: Vec<ConnectionPlan>,
    /// Bytes of the hosts' receive and send buffers.
    pub buffers: [usize; 2],
    /// Whether the hosts' segments bear timestamps.
    pub timestamps: bool,
    /// From which replicas the gateway takes acknowledgements.
    pub permits: Permits,
    /// Connections that the gateway's table holds.
    pub table: usize,
    /// Packets from the router in which one bit is wrong, per mille.
    pub corrupted: u64,
    /// Buffers that the gateway gets from its pool, all in all.
    pub buffers_left: usize,
    /// Start packets per second that the switch copies.
    pub fan_out: u64,
    /// Whether frames come in buffers of more than one segment.
    pub segmented: bool,
    /// How packets are tunnelled.
    pub tunnels: Tunnels,
    /// How tags are signed.
    pub signing: Signing,
    /// Whose clients' copies are made, and taken.
    pub strangers: Strangers,
    /// What somebody sends in others' names.
    pub flood: Option<Flood>,
    /// What happens to the appliances and servers, and when.
    pub changes: Vec<(Nanos, Change)>,
}

/// Patience that outlasts whatever the network does.
pub const PATIENT: Nanos = 500 * SECOND;

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let rng = &mut Rng::new(seed);
        // All six mixtures in turn, whatever else is drawn.
        let configuration =
            [Configuration::A, Configuration::B, Configuration::C][seed as usize % 3];
        let family = [Family::V4, Family::V6][seed as usize / 3 % 2];
        let replicas: Vec<_> = (0..rng.size(0, 3)).map(|_| draw::replica(rng)).collect();
        let clients = rng.size(1, 3);
        let paths = draw::paths(rng, 2 + replicas.len());
        let services = rng.pick(&[(3, 1), (2, 2)]);
        let origins = rng.pick(&[(5, 1), (3, 2), (2, 3)]);
        let mtu = paths.iter().flatten().map(|path| path.mtu).min().unwrap_or(1500);
        Self {
            seed,
            configuration,
            family,
            clients,
            services,
            origins,
            origin: rng.pick(&[(80, Manner::Serves), (10, Manner::Refuses), (10, Manner::Silent)]),
            connections: draw::connections(rng, clients, services),
            buffers: [rng.size(2_000, 16_000), rng.size(2_000, 32_000)],
            timestamps: rng.chance(300),
            permits: rng.pick(&[(6, Permits::Any), (3, Permits::Sites), (1, Permits::First)]),
            table: rng.pick(&[(9, 64), (1, 2)]),
            corrupted: if rng.chance(100) { rng.between(1, 20) } else { 0 },
            buffers_left: if rng.chance(30) { rng.size(0, 3) } else { usize::MAX },
            fan_out: rng.pick(&[(95, 1_000), (5, 1)]),
            segmented: rng.chance(150),
            tunnels: Tunnels::draw(rng, (configuration, family), mtu, replicas.len()),
            signing: Signing::draw(rng),
            strangers: Strangers::draw(rng),
            flood: None,
            changes: variety::changes(rng, origins, &replicas),
            replicas,
            paths,
        }
    }

    /// How many sites there are: the clients', the origin's, and the replicas'.
    #[must_use]
    pub fn sites(&self) -> usize {
        2 + self.replicas.len()
    }

    /// Whether nothing is lost on the way from one site to another.
    #[must_use]
    pub fn is_lossless(&self, from: Site, to: Site) -> bool {
        let path = &self.paths[from][to];
        path.loss == 0 && !path.drops_options && self.corrupted == 0 && self.fan_out > 1
    }

    /// Whether nothing is lost between any sites.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let sites = 0..self.sites();
        sites.clone().all(|from| sites.clone().all(|to| self.is_lossless(from, to)))
            && self.buffers_left == usize::MAX
            && self.changes.is_empty()
    }
}
