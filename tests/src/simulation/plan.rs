//! What a seed stands for: who is there, how they are connected, and who talks to whom.

use super::address::{CLIENTS, ORIGIN, Site};
use super::dice::Dice;

/// Virtual time and spans of it, in nanoseconds.
pub type Nanos = u64;

/// A millisecond.
pub const MS: Nanos = 1_000_000;
/// A second.
pub const SECOND: Nanos = 1_000 * MS;

/// How gateway and winner exchange packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// Full NAT.
    A,
}

/// The IP family of clients and servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
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
    /// A replica that is drained at that time, or open again if it was.
    pub turnabout: Option<(usize, Nanos)>,
}

/// Patience that outlasts whatever the network does.
pub const PATIENT: Nanos = 500 * SECOND;

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let replicas: Vec<_> = (0..dice.size(0, 3)).map(|_| replica(dice)).collect();
        let clients = dice.size(1, 3);
        let turnabout = (!replicas.is_empty() && dice.chance(150))
            .then(|| (dice.size(0, replicas.len() - 1), dice.between(0, 4 * SECOND)));
        let paths = paths(dice, 2 + replicas.len());
        let services = dice.pick(&[(3, 1), (2, 2)]);
        let table = dice.pick(&[(9, 64), (1, 2)]);
        Self {
            seed,
            configuration: Configuration::A,
            family: Family::V4,
            clients,
            services,
            origins: dice.pick(&[(3, 1), (1, 2)]),
            origin: dice.pick(&[(80, Manner::Serves), (10, Manner::Refuses), (10, Manner::Silent)]),
            replicas,
            connections: connections(dice, clients, services),
            buffers: [dice.size(2_000, 16_000), dice.size(2_000, 32_000)],
            timestamps: dice.chance(300),
            permits: dice.pick(&[(6, Permits::Any), (3, Permits::Sites), (1, Permits::First)]),
            table,
            corrupted: if dice.chance(100) { dice.between(1, 20) } else { 0 },
            buffers_left: if dice.chance(30) { dice.size(0, 3) } else { usize::MAX },
            fan_out: dice.pick(&[(95, 1_000), (5, 1)]),
            segmented: dice.chance(150),
            turnabout,
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
    }
}

fn replica(dice: &mut Dice) -> ReplicaPlan {
    let reach = dice.pick(&[(2, Reach::Mac), (2, Reach::Resolved), (1, Reach::Bears)]);
    ReplicaPlan {
        servers: if reach == Reach::Bears { 1 } else { dice.size(1, 2) },
        manner: dice.pick(&[(80, Manner::Serves), (10, Manner::Refuses), (10, Manner::Silent)]),
        gate: dice.pick(&[
            (70, Gate::Open),
            (10, Gate::Dead),
            (10, Gate::Busy),
            (10, Gate::Limit(1)),
        ]),
        reach,
        port: dice.chance(200).then_some(8080),
    }
}

fn paths(dice: &mut Dice, sites: usize) -> Vec<Vec<Path>> {
    let lossy = dice.chance(600);
    let twice = dice.chance(500);
    let reorders = dice.chance(500);
    let drops = dice.chance(100);
    // Packets between clients and origin often take the long way, or no replica would ever win.
    let detour = dice.chance(600);
    let none =
        Path { delay: 0, jitter: 0, reorder: false, loss: 0, duplicated: 0, drops_options: false };
    let mut paths = vec![vec![none; sites]; sites];
    for from in 0..sites {
        for to in 0..from {
            let delay = match detour && (from, to) == (ORIGIN, CLIENTS) {
                true => dice.between(80 * MS, 120 * MS),
                false if detour => dice.between(MS, 60 * MS),
                false => dice.between(MS, 120 * MS),
            };
            for (from, to) in [(from, to), (to, from)] {
                paths[from][to] = Path {
                    delay,
                    jitter: dice.between(1_000, if reorders { delay / 2 } else { delay / 10 }),
                    reorder: reorders,
                    loss: if lossy { dice.between(0, 100) } else { 0 },
                    duplicated: if twice { dice.between(0, 50) } else { 0 },
                    drops_options: drops && (from, to) == (0, ORIGIN),
                };
            }
        }
    }
    paths
}

fn connections(dice: &mut Dice, clients: usize, services: usize) -> Vec<ConnectionPlan> {
    let mut all: Vec<ConnectionPlan> = Vec::new();
    for number in 0..dice.size(1, 6) {
        let start = start(dice, &all, services);
        let (client, port, service) = match start {
            Start::Alone => {
                let service = dice.size(0, services - 1);
                (dice.size(0, clients - 1), 40_000 + number as u16, service)
            }
            Start::After(earlier) => {
                let stays = dice.chance(600);
                let ConnectionPlan { client, port, service, .. } = all[earlier];
                (client, port, if stays { service } else { dice.size(0, services - 1) })
            }
            Start::Beside(other) => (all[other].client, all[other].port, 1 - all[other].service),
        };
        let most_response = dice.pick(&[(60, 3_000), (35, 30_000), (5, 200_000)]);
        all.push(ConnectionPlan {
            client,
            port,
            service,
            start,
            at: dice.pick(&[(1, 0), (2, 50 * MS), (1, 3 * SECOND), (1, 12 * SECOND)])
                + dice.between(0, 200 * MS),
            request: dice.size(0, 3_000.min(most_response)),
            response: dice.size(0, most_response),
            think: if dice.chance(100) { dice.between(0, 40 * SECOND) } else { 0 },
            closer: dice.pick(&[(2, Closer::Client), (2, Closer::Server), (1, Closer::Half)]),
            patience: match dice.chance(120) {
                true => dice.between(20 * MS, 5 * SECOND),
                false => PATIENT,
            },
            vanishes: dice.chance(500),
            spoofed: dice.chance(30).then(|| dice.between(300 * MS, 4 * SECOND)),
        });
    }
    all
}

/// Whether a connection takes over the port of an earlier one, or shares it. Each port is taken
/// over by one at a time, and shared by two at the most.
fn start(dice: &mut Dice, all: &[ConnectionPlan], services: usize) -> Start {
    if all.is_empty() {
        return Start::Alone;
    }
    let earlier = dice.size(0, all.len() - 1);
    let untouched = all
        .iter()
        .all(|other| !matches!(other.start, Start::After(of) | Start::Beside(of) if of == earlier));
    let alone = !matches!(all[earlier].start, Start::Beside(_));
    match dice.pick(&[(60, 0), (30, 1), (10, 2)]) {
        1 if untouched && alone => Start::After(earlier),
        2 if untouched && alone && services == 2 => Start::Beside(earlier),
        _ => Start::Alone,
    }
}
