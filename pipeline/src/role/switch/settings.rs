//! The settings of a switch, fixed until a reload, and the state that is computed from them once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;

use super::Phase;
use crate::base::time::Ticks;
use crate::counters::EarlierNumbers;
use crate::policy::allow_list::AllowList;
use crate::policy::drain::Drain;
use crate::policy::limiter::Limit;
use crate::policy::tunnel_path::TunnelPath;
use crate::stage::encap::OuterIp;
use crate::stage::{clamp, tag};
use crate::table::State;
use crate::wire::ethernet::Mac;
use crate::wire::family::{V4, V6, Version};
use crate::wire::tunnel::Format;

/// The delivery of packets to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Unchanged: the one server is the host behind the inside port.
    None,
    /// By destination MAC address; the server has the service address.
    Direct(Mac),
    /// By destination MAC address, resolved from this address of the server.
    Neighbour(IpAddr),
    /// Tunnelled to the server's own address, of the family of the service's source. A frame that was
    /// addressed to the switch itself gets the MAC address that is resolved for this address.
    Tunnel(IpAddr),
}

/// An origin server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, on which the selection depends.
    pub name: String,
    /// The delivery of packets to it.
    pub delivery: Delivery,
    /// Its share of the clients, relative to the others'; zero disables it.
    pub weight: u32,
}

/// A service, its origin servers and its replicas.
#[derive(Clone, Debug)]
pub struct Service {
    /// The service address, V in the patent.
    pub address: IpAddr,
    /// The TCP ports of the service.
    pub ports: Vec<u16>,
    /// Whether its content is static (op 310).
    pub replicable: bool,
    /// The outer source of the switch's tunnels; its family may differ from that of `address`.
    pub source: IpAddr,
    /// The tunnel addresses of the replicas, of the family of `source`.
    pub replicas: Vec<IpAddr>,
    /// The number of the first of `replicas` among the replicas of all services.
    pub first_replica: usize,
    /// The origin servers.
    pub servers: Vec<Server>,
    /// The number of the first of `servers` among the servers of all services.
    pub first_server: usize,
    /// It has left the configuration: no connection begins, and those that it has stay at their
    /// servers.
    pub retired: bool,
}

/// How long the affinity of a connection lasts in each state, since its last packet.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// The client has not established the connection yet.
    pub opening: Ticks,
    /// The client has established it.
    pub established: Ticks,
    /// A FIN or a RST was seen.
    pub closing: Ticks,
    /// Idleness after which a SYN with a new sequence number begins a new connection.
    pub reuse_after: Ticks,
}

impl Default for Timeouts {
    /// 40 s, 2 h 4 min, 4 min and 60 s.
    fn default() -> Self {
        Self {
            opening: Ticks::from_secs(40),
            established: Ticks::from_secs(2 * 3600 + 4 * 60),
            closing: Ticks::from_secs(240),
            reuse_after: Ticks::from_secs(60),
        }
    }
}

impl Timeouts {
    /// Returns the time-outs of all phases.
    pub(super) fn by_phase(&self) -> [Ticks; Phase::ALL.len()] {
        let Self { opening, established, closing, .. } = *self;
        [opening, established, established, closing, closing, closing]
    }
}

/// The settings of probes of tunnels to replicas.
#[derive(Clone, Copy, Debug)]
pub struct Probing {
    /// The time between two probes of a tunnel, in which an answer must arrive.
    pub interval: Ticks,
    /// After this number of unanswered probes in a row a replica gets no copies.
    pub fall: u8,
    /// After this number of answers in a row it gets them again.
    pub rise: u8,
    /// The probes' ICMP identifier: random, the same for all workers of a process.
    pub id: u16,
}

/// The settings of a switch, fixed until a reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The services, by number. Numbers of services, and of servers within the services of one
    /// address, never change: entries of connections refer to them.
    pub services: Vec<Service>,
    /// The numbers that the replicas of all services had before a reload.
    pub earlier_replicas: EarlierNumbers,
    /// The numbers that the servers of all services had before a reload.
    pub earlier_servers: EarlierNumbers,
    /// The TCP option that is the tag.
    pub tag: tag::OptionId,
    /// Whether a SYN gets no copies unless its tag is signed.
    pub require_signature: bool,
    /// The clients whose SYNs may be copied.
    pub allowed_clients: AllowList,
    /// The most copies of one SYN.
    pub max_copies: usize,
    /// Limits the SYNs that are copied, by source prefix; the same for those that are signed.
    pub fan_out: Limit,
    /// The tunnels to replicas and tunnelled servers.
    pub path: TunnelPath,
    /// Connections whose affinity this worker can store: IPv4, IPv6. A family in which no service
    /// has several servers needs no more than one.
    pub max_connections: [usize; 2],
    /// Time-outs of affinities.
    pub timeouts: Timeouts,
    /// The probes of tunnels to replicas; `None` disables them.
    pub probing: Option<Probing>,
    /// Whether this worker sends the probes: of tunnels, and for MAC addresses.
    pub probes: bool,
    /// MAC addresses of the inside and the outside port.
    pub macs: [Mac; 2],
    /// Secret of the tables' hash and of the probes, the same for all workers.
    pub hash_key: (u64, u64),
    /// What is drained, shared by the workers and the control thread.
    pub drain: Arc<Drain>,
}

impl Settings {
    /// Returns settings with defaults for everything but the services: any client is allowed;
    /// default tag, unsigned; 8 copies of a SYN, with the default limit for one worker; IP in IP with
    /// a path MTU of 1500 bytes; 65,536 connections per family; default time-outs; no probes; MAC
    /// addresses and hash key of zeros.
    pub fn new(services: Vec<Service>) -> Self {
        Self {
            drain: Arc::new(Drain::new(services.len())),
            services,
            earlier_replicas: EarlierNumbers::default(),
            earlier_servers: EarlierNumbers::default(),
            tag: tag::OptionId::default(),
            require_signature: false,
            allowed_clients: AllowList::Any,
            max_copies: 8,
            fan_out: Limit::default(),
            path: TunnelPath::default(),
            max_connections: [1 << 16; 2],
            timeouts: Timeouts::default(),
            probing: None,
            probes: false,
            macs: [[0; 6]; 2],
            hash_key: (0, 0),
        }
    }

    /// Returns whether any service has several servers, by family: only then is the family's table
    /// used.
    pub fn needs_affinity(services: &[Service]) -> [bool; 2] {
        [Version::V4, Version::V6].map(|version| {
            let mut own = services.iter().filter(|s| Version::of(s.address) == version);
            own.any(|service| service.servers.len() > 1)
        })
    }
}

/// Returns the addresses that the switch answers for on the outside, sorted: those of services, and
/// the sources of tunnels, that no host behind the switch answers for.
///
/// A service address belongs to the host behind the switch with delivery "none". Servers that are
/// reached by MAC address or by tunnel have it, too, but several hosts must not answer for one
/// address. A server's own address is its own.
pub(super) fn own_addresses(services: &[Service]) -> Box<[IpAddr]> {
    let mut others = BTreeSet::new();
    for service in services {
        others.extend(service.servers.iter().filter_map(|server| match server.delivery {
            Delivery::None => Some(service.address),
            Delivery::Neighbour(address) | Delivery::Tunnel(address) => Some(address),
            Delivery::Direct(_) => None,
        }));
    }
    let ends = services.iter().flat_map(|service| [service.address, service.source]);
    let own: BTreeSet<_> = ends.filter(|address| !others.contains(address)).collect();
    own.into_iter().collect()
}

/// A tunnel of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// Outer source and destination.
    pub(super) ends: (IpAddr, IpAddr),
    /// Its format.
    pub(super) format: Format,
    /// The largest packet that fits, in bytes.
    pub(super) inner_mtu: usize,
}

/// The next hop of packets to a server, in the form that the data path uses.
#[derive(Clone, Copy, Debug)]
pub(super) enum NextHop {
    /// Unchanged.
    Unchanged,
    /// By this MAC address.
    Direct(Mac),
    /// By the MAC address of this address.
    Neighbour(IpAddr),
    /// By a tunnel.
    Tunnel(Tunnel),
}

/// Time for which a server's SYN/ACK says that its packets pass the switch.
const PASSES_FOR: Ticks = Ticks::from_secs(600);

/// The most replicas of a service that a reload has removed and that still get copies of errors.
pub(super) const FORMER_REPLICAS: usize = 16;

/// A service as packets see it.
#[derive(Clone, Debug)]
pub(super) struct ServiceState {
    /// Whether SYNs are copied.
    pub(super) replicable: bool,
    /// The tunnels to all configured replicas.
    pub(super) replicas: Box<[Tunnel]>,
    /// The number of the first replica among all configured.
    pub(super) first_replica: usize,
    /// The next hops to all configured servers.
    pub(super) servers: Box<[NextHop]>,
    /// The outer addresses of the tunnels to servers.
    tunnels: HashSet<(IpAddr, IpAddr)>,
    /// The number of the first server among all configured.
    pub(super) first_server: usize,
    /// When each server's SYN/ACK was last seen.
    pub(super) heard: Box<[Option<Ticks>]>,
    /// Where the next explorers begin among the live replicas.
    pub(super) next_explorer: usize,
    /// Whether the first server was selected for new connections at any time.
    pub(super) was_selected: bool,
    /// The first server was the only one before a reload, and has connections without entries. Until
    /// this time they get them.
    pub(super) unstored: Option<Ticks>,
    /// The tunnels to replicas that a reload has removed, and that may have connections.
    pub(super) former_replicas: Vec<Tunnel>,
    /// Whether it has left the configuration.
    pub(super) retired: bool,
    /// The largest MSS with which full segments fit the tunnels to its servers; `None` when no
    /// server is tunnelled to.
    pub(super) mss: Option<u16>,
}

impl ServiceState {
    pub(super) fn new(service: &Service, path: &TunnelPath) -> Self {
        let tunnel = |address: &IpAddr| Tunnel::new(service.source, *address, path);
        let next_hop = |server: &Server| match server.delivery {
            Delivery::None => NextHop::Unchanged,
            Delivery::Direct(mac) => NextHop::Direct(mac),
            Delivery::Neighbour(address) => NextHop::Neighbour(address),
            Delivery::Tunnel(address) => NextHop::Tunnel(tunnel(&address)),
        };
        let servers: Box<[NextHop]> = service.servers.iter().map(next_hop).collect();
        let limit = |hop: &NextHop| match (hop, service.address) {
            (NextHop::Tunnel(tunnel), IpAddr::V4(_)) => Some(clamp::limit::<V4>(tunnel.inner_mtu)),
            (NextHop::Tunnel(tunnel), IpAddr::V6(_)) => Some(clamp::limit::<V6>(tunnel.inner_mtu)),
            _ => None,
        };
        Self {
            replicable: service.replicable,
            replicas: service.replicas.iter().map(tunnel).collect(),
            first_replica: service.first_replica,
            mss: servers.iter().filter_map(limit).min(),
            tunnels: servers.iter().filter_map(NextHop::ends).collect(),
            heard: vec![None; servers.len()].into_boxed_slice(),
            servers,
            first_server: service.first_server,
            next_explorer: 0,
            was_selected: false,
            unstored: None,
            former_replicas: Vec::new(),
            retired: service.retired,
        }
    }

    /// Returns whether the affinity of its connections is stored: with one server there is no need.
    #[inline]
    pub(super) fn has_affinity(&self) -> bool {
        self.servers.len() > 1
    }

    /// Returns whether its first server may have connections without entries.
    pub(super) fn has_unstored(&self, now: Ticks) -> bool {
        self.unstored.is_some_and(|until| now < until)
    }

    /// Returns whether a tunnel to a server has these outer addresses.
    pub(super) fn has_tunnel(&self, ends: (IpAddr, IpAddr)) -> bool {
        self.tunnels.contains(&ends)
    }

    /// Notes that a server's SYN/ACK has passed the switch.
    pub(super) fn note_heard(&mut self, server: u8, now: Ticks) {
        if let Some(heard) = self.heard.get_mut(usize::from(server)) {
            *heard = Some(now);
        }
    }

    /// Returns whether a server's packets pass the switch.
    pub(super) fn passes(&self, server: u8, now: Ticks) -> bool {
        let heard = self.heard.get(usize::from(server)).copied().flatten();
        heard.is_some_and(|heard| now.since(heard) < PASSES_FOR)
    }
}

impl NextHop {
    /// Returns the outer addresses of a tunnel.
    fn ends(&self) -> Option<(IpAddr, IpAddr)> {
        match self {
            Self::Tunnel(tunnel) => Some(tunnel.ends),
            Self::Unchanged | Self::Direct(_) | Self::Neighbour(_) => None,
        }
    }
}

impl Tunnel {
    fn new(source: IpAddr, destination: IpAddr, path: &TunnelPath) -> Self {
        let format = path.format(destination);
        let inner_mtu = match Version::of(source) {
            Version::V4 => path.inner_mtu::<V4>(format),
            Version::V6 => path.inner_mtu::<V6>(format),
        };
        Self { ends: (source, destination), format, inner_mtu }
    }

    /// Returns the outer header for a connection with this entropy.
    pub(super) fn outer(&self, entropy: u32) -> OuterIp {
        let (source, destination) = self.ends;
        OuterIp { format: self.format, source, destination, entropy }
    }
}
