//! The plan of a seed: hosts, paths and connections.

pub use pipeline::stage::tag::Configuration;

use super::address::{REPLICAS, Site};
use super::attack::Attack;
use super::draw;
use super::flood::Flood;
use super::racing::Racing;
use super::rng::Rng;
use super::variety::{self, Change, Signing, Strangers, Tunnels};
use super::world::CABLE;

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
    /// Returns the other family.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

/// A server's response to a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Accepts it.
    Serves,
    /// Refuses it by a RST.
    Refuses,
    /// Does not respond.
    Silent,
    /// Accepts it, and then serves nothing.
    Lies,
}

/// What a client does on a time-out of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivesUp {
    /// It sends a RST.
    Resets,
    /// It sends a FIN, as a process that ends does.
    Closes,
    /// It sends nothing.
    Vanishes,
}

/// The state that keeps a replica from accepting SYNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Nothing.
    Open,
    /// It is drained.
    Dead,
    /// It was made busy.
    Busy,
    /// It is busy at this many live connections.
    Limit(usize),
}

/// The source of the web servers' MAC addresses at a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They are configured.
    Mac,
    /// They are resolved.
    Resolved,
    /// Copies are tunnelled to the one web server's own address.
    Bears,
}

/// The replicas whose SYN/ACKs the gateway accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permits {
    /// All.
    Any,
    /// Those at the replicas' sites.
    Sites,
    /// Those at the first replica's site.
    First,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct ReplicaPlan {
    /// Number of web servers.
    pub servers: usize,
    /// Their response to SYNs.
    pub behaviour: Behaviour,
    /// Its admission state.
    pub gate: Gate,
    /// How their MAC addresses are known.
    pub reach: Reach,
    /// Their port, if it differs from the service's.
    pub port: Option<u16>,
    /// Whether they have the services' addresses.
    pub has_vip: bool,
    /// Number of SYN/ACKs that they may retransmit on their own.
    pub repeats: u8,
}

/// The path from one site to another.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Mean delay.
    pub delay: Nanos,
    /// Jitter: the maximum deviation of the delay.
    pub jitter: Nanos,
    /// Whether jitter may reorder packets.
    pub reorder: bool,
    /// Loss, per mille.
    pub loss: u64,
    /// Duplication, per mille.
    pub duplicated: u64,
    /// Whether it drops SYNs with unknown options.
    pub drops_options: bool,
    /// MTU.
    pub mtu: u16,
}

/// The side that closes a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// The client, after the whole response.
    Client,
    /// The server, after the whole response.
    Server,
    /// The client half-closes after the request, the server closes after the response.
    Half,
}

/// The event from which a connection's start time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The start of the run: it has its own port.
    Alone,
    /// The end of this connection, whose port it reuses.
    After(usize),
    /// The start of this connection, whose port it shares, to another service.
    Beside(usize),
}

/// A connection of a client.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionPlan {
    /// Index of the client.
    pub client: usize,
    /// Its port.
    pub port: u16,
    /// Index of the service.
    pub service: usize,
    /// The event from which its start time counts.
    pub start: Start,
    /// Its start time, from then.
    pub at: Nanos,
    /// Bytes of the request.
    pub request: usize,
    /// Bytes of the response.
    pub response: usize,
    /// Time before the server responds.
    pub think: Nanos,
    /// The side that closes first.
    pub closer: Closer,
    /// The client's time-out.
    pub patience: Nanos,
    /// What it does then.
    pub gives_up: GivesUp,
    /// Time of a RST with guessed numbers that spoofs its server.
    pub spoofed: Option<Nanos>,
}

/// Everything that a seed determines in advance.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The gateway's configuration.
    pub configuration: Configuration,
    /// The family.
    pub family: Family,
    /// Hosts at the clients' site.
    pub clients: usize,
    /// Number of services behind the switch. All replicas have all of them.
    pub services: usize,
    /// Servers of each behind the switch.
    pub origins: usize,
    /// Their response to SYNs.
    pub origin: Behaviour,
    /// The replicas.
    pub replicas: Vec<ReplicaPlan>,
    /// How the gateway asks replicas directly.
    pub racing: Racing,
    /// The delay between the switch and the origin's servers: it need not stand beside them.
    pub behind: Nanos,
    /// The paths between sites, by source and destination site.
    pub paths: Vec<Vec<Path>>,
    /// The connections.
    pub connections: Vec<ConnectionPlan>,
    /// Bytes of the hosts' receive and send buffers.
    pub buffers: [usize; 2],
    /// Whether the hosts use TCP timestamps.
    pub timestamps: bool,
    /// The replicas whose SYN/ACKs the gateway accepts.
    pub permits: Permits,
    /// Capacity of the gateway's table.
    pub table: usize,
    /// Packets from the router with a bit error, per mille.
    pub corrupted: u64,
    /// Total number of buffers that the gateway gets from its pool.
    pub buffers_left: usize,
    /// SYNs per second that the switch copies.
    pub fan_out: u64,
    /// The most copies of a SYN that it makes.
    pub max_copies: usize,
    /// Whether buffers have more than one segment.
    pub segmented: bool,
    /// How packets are tunnelled.
    pub tunnels: Tunnels,
    /// How tags are signed.
    pub signing: Signing,
    /// The allowed clients of switch and replicas.
    pub strangers: Strangers,
    /// A flood of spoofed SYNs.
    pub flood: Option<Flood>,
    /// An attacker.
    pub attack: Option<Attack>,
    /// Changes of appliances and servers, and their times.
    pub changes: Vec<(Nanos, Change)>,
    /// Reloads of appliances, and their times.
    pub reloads: Vec<(Nanos, Site)>,
    /// What their changed configuration lacks.
    pub lacks: Lacks,
}

/// What a changed configuration lacks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lacks {
    /// The site of a replica: the gateway does not allow it, and the switch does not copy to it.
    pub replica: Option<Site>,
    /// A service, at the gateway and the replicas.
    pub service: Option<usize>,
    /// Whether the configuration before lacked nothing.
    pub is_changed: bool,
}

/// The most copies of a SYN, unless a plan says otherwise.
const COPIES: usize = 8;

/// A time-out longer than any disturbance of the network.
pub const PATIENT: Nanos = 500 * SECOND;

impl Plan {
    /// Draws the plan of a seed, with reloads of all appliances at any time. The changed configurations
    /// may lack a replica or a service.
    #[must_use]
    pub fn with_reloads(seed: u64) -> Self {
        let mut plan = Self::draw(seed);
        let rng = &mut Rng::new(!seed);
        let sites = plan.sites();
        let at = |rng: &mut Rng| rng.pick(&[(2, SECOND), (2, 4 * SECOND), (1, 40 * SECOND)]);
        let reload = |rng: &mut Rng| {
            let latest = at(rng);
            (rng.between(0, latest), rng.size(0, sites - 1))
        };
        plan.reloads = (0..rng.size(1, 12)).map(|_| reload(rng)).collect();
        // Where the origin serves, connections complete without replicas.
        if plan.origin == Behaviour::Serves {
            if !plan.replicas.is_empty() && rng.chance(500) {
                plan.lacks.replica = Some(rng.size(REPLICAS, sites - 1));
            }
            plan.lacks.service = rng.chance(300).then(|| rng.size(0, plan.services - 1));
        }
        plan
    }

    /// Draws the plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let rng = &mut Rng::new(seed);
        // All six combinations of configuration and family in turn.
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
            origin: rng.pick(&[
                (80, Behaviour::Serves),
                (10, Behaviour::Refuses),
                (10, Behaviour::Silent),
            ]),
            connections: draw::connections(rng, clients, services),
            buffers: [rng.size(2_000, 16_000), rng.size(2_000, 32_000)],
            timestamps: rng.chance(300),
            permits: rng.pick(&[(6, Permits::Any), (3, Permits::Sites), (1, Permits::First)]),
            table: rng.pick(&[(9, 64), (1, 2)]),
            corrupted: if rng.chance(100) { rng.between(1, 20) } else { 0 },
            buffers_left: if rng.chance(30) { rng.size(0, 3) } else { usize::MAX },
            fan_out: rng.pick(&[(95, 1_000), (5, 1)]),
            max_copies: COPIES,
            segmented: rng.chance(150),
            tunnels: Tunnels::draw(rng, (configuration, family), mtu, replicas.len()),
            signing: Signing::draw(rng),
            strangers: Strangers::draw(rng),
            behind: CABLE,
            racing: Racing::draw(&mut Rng::new(seed ^ 0x7261_6369_6e67)),
            flood: None,
            attack: None,
            changes: variety::changes(rng, origins, &replicas),
            reloads: Vec::new(),
            lacks: Lacks::default(),
            replicas,
            paths,
        }
    }

    /// Returns the number of sites: the clients', the origin's, and the replicas'.
    #[must_use]
    pub fn sites(&self) -> usize {
        2 + self.replicas.len()
    }

    /// Returns whether the run has many connections, so that hosts and tables have to be large.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.connections.len() > 20
    }

    /// Returns whether the path between two sites is lossless.
    #[must_use]
    pub fn is_lossless(&self, from: Site, to: Site) -> bool {
        let path = &self.paths[from][to];
        path.loss == 0 && !path.drops_options && self.corrupted == 0 && self.fan_out > 1
    }

    /// Returns whether all paths are lossless.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let sites = 0..self.sites();
        sites.clone().all(|from| sites.clone().all(|to| self.is_lossless(from, to)))
            && self.buffers_left == usize::MAX
            && self.changes.is_empty()
    }
}
