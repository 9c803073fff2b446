//! What a switch is told at launch, and what is worked out of it once.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::wire::family::{Family, V4, V6, Version};
use crate::policy::limiter::Limit;
use crate::policy::tunnel_path::Path;
use crate::stage::{clamp, tag};
use crate::base::time::Ticks;
use crate::wire::ethernet::Mac;
use crate::wire::tunnel::Format;

/// How a packet reaches its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As it is: the one server is the host behind the inside port.
    None,
    /// By destination MAC address; the server bears the service address.
    Direct(Mac),
    /// Likewise, by the MAC address that belongs to this address of the server.
    Neighbour(IpAddr),
    /// Tunnelled to the server's own address, of the family of the service's source.
    Tunnel(IpAddr),
}

/// An origin server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, which the selection depends on.
    pub name: String,
    /// How it is reached.
    pub delivery: Delivery,
    /// Its share; zero takes it out for good.
    pub weight: u32,
}

/// A service and who serves it.
#[derive(Clone, Debug)]
pub struct Service {
    /// V's address.
    pub address: IpAddr,
    /// V's ports.
    pub ports: Vec<u16>,
    /// Whether its content is static (op 310).
    pub replicable: bool,
    /// Outer source of what the switch tunnels; may be of another family than V.
    pub source: IpAddr,
    /// The replicas' tunnel addresses, of the family of the source; the first one's number
    /// among all configured.
    pub replicas: Vec<IpAddr>,
    /// See `replicas`.
    pub first_replica: usize,
    /// The origin servers; the first one's number among all configured.
    pub servers: Vec<Server>,
    /// See `servers`.
    pub first_server: usize,
}

/// How long a connection is kept in each state, since its last packet.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// The client has not gone on yet.
    pub opening: Ticks,
    /// It has.
    pub established: Ticks,
    /// FIN seen both ways, or a RST.
    pub closing: Ticks,
    /// Idleness after which a start packet with a new sequence number is a new connection's.
    pub reuse_after: Ticks,
}

/// How the tunnels to replicas are probed.
#[derive(Clone, Copy, Debug)]
pub struct Probing {
    /// Between two probes of a tunnel; an answer has as long to arrive.
    pub interval: Ticks,
    /// Probes in a row without an answer after which a replica gets no copies.
    pub fall: u8,
    /// Answers in a row after which it gets them again.
    pub rise: u8,
    /// The probes' ICMP identifier: random, the same for all workers of a process.
    pub id: u16,
}

/// What a switch is told at launch.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The services, by number.
    pub services: Vec<Service>,
    /// The tag's option.
    pub tag: tag::Format,
    /// Whether a start packet gets no copies unless its tag is signed.
    pub require_signature: bool,
    /// Prefixes of the clients of permitted gateways; any client's when empty.
    pub gateways: Vec<IpNet>,
    /// The most copies of one start packet.
    pub max_copies: usize,
    /// How many copies of a source prefix's packets are made.
    pub fan_out: Limit,
    /// The way to replicas and tunnelled servers.
    pub path: Path,
    /// Connections this worker can keep at their servers: IPv4, IPv6. A family in which no
    /// service has several servers needs no more than one.
    pub max_connections: [usize; 2],
    /// Time-outs of what is kept.
    pub timeouts: Timeouts,
    /// How tunnels to replicas are probed, if they are.
    pub probing: Option<Probing>,
    /// Whether this worker sends the probes: of tunnels, and for MAC addresses.
    pub probes: bool,
    /// MAC addresses of the inside and the outside port.
    pub macs: [Mac; 2],
    /// Secret of the tables' hash and of the probes, the same for all workers.
    pub hash_key: (u64, u64),
}

impl Settings {
    /// Whether any service has several servers, by family: which tables are used at all.
    pub fn keeps(services: &[Service]) -> [bool; 2] {
        [Version::V4, Version::V6].map(|version| {
            let mut own = services.iter().filter(|s| Version::of(s.address) == version);
            own.any(|service| service.servers.len() > 1)
        })
    }
}

/// The other end of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// Outer source and destination.
    pub(super) ends: (IpAddr, IpAddr),
    /// How packets are put in.
    pub(super) format: Format,
    /// The largest packet that fits.
    pub(super) room: usize,
}

/// How a packet reaches its server, worked out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    /// As it is.
    AsItIs,
    /// By this MAC address.
    Direct(Mac),
    /// By this address's MAC address.
    Neighbour(IpAddr),
    /// By a tunnel.
    Tunnel(Tunnel),
}

/// A service as packets meet it.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    /// Whether start packets are copied.
    pub(super) replicable: bool,
    /// The tunnels to all configured replicas.
    pub(super) replicas: Box<[Tunnel]>,
    /// The first one's number among all configured.
    pub(super) first_replica: usize,
    /// The ways to all configured servers.
    pub(super) servers: Box<[Route]>,
    /// The first one's number among all configured.
    pub(super) first_server: usize,
    /// Whether the first server has been given connections at any time.
    pub(super) opened: bool,
    /// The largest MSS with which full segments fit the tunnels to its servers; none when no
    /// server is tunnelled to.
    pub(super) mss: Option<u16>,
}

impl Serving {
    pub(super) fn new(service: &Service, path: &Path) -> Self {
        let tunnel = |address: &IpAddr| Tunnel::new(service.source, *address, path);
        let route = |server: &Server| match server.delivery {
            Delivery::None => Route::AsItIs,
            Delivery::Direct(mac) => Route::Direct(mac),
            Delivery::Neighbour(address) => Route::Neighbour(address),
            Delivery::Tunnel(address) => Route::Tunnel(tunnel(&address)),
        };
        let servers: Box<[Route]> = service.servers.iter().map(route).collect();
        let limit = |route: &Route| match (route, service.address) {
            (Route::Tunnel(tunnel), IpAddr::V4(_)) => Some(clamp::limit::<V4>(tunnel.room)),
            (Route::Tunnel(tunnel), IpAddr::V6(_)) => Some(clamp::limit::<V6>(tunnel.room)),
            _ => None,
        };
        Self {
            replicable: service.replicable,
            replicas: service.replicas.iter().map(tunnel).collect(),
            first_replica: service.first_replica,
            mss: servers.iter().filter_map(limit).min(),
            servers,
            first_server: service.first_server,
            opened: false,
        }
    }

    /// Whether its connections are kept at their servers: with one server there is no need.
    #[inline]
    pub(super) fn keeps(&self) -> bool {
        self.servers.len() > 1
    }

    /// The tunnel to a server, from its outer ends.
    pub(super) fn tunnel_of(&self, ends: (IpAddr, IpAddr)) -> Option<&Tunnel> {
        self.servers.iter().find_map(|route| match route {
            Route::Tunnel(tunnel) if tunnel.ends == ends => Some(tunnel),
            _ => None,
        })
    }
}

impl Tunnel {
    fn new(source: IpAddr, destination: IpAddr, path: &Path) -> Self {
        fn room<F: Family>(path: &Path, format: Format) -> usize {
            path.room::<F>(format)
        }
        let format = path.format(destination);
        let room = match Version::of(source) {
            Version::V4 => room::<V4>(path, format),
            Version::V6 => room::<V6>(path, format),
        };
        Self { ends: (source, destination), format, room }
    }
}
