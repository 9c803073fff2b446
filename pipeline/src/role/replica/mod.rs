//! The replica: figure 4A.
//!
//! From the outside: a tunnelled start packet from a permitted switch is dropped when the
//! replica is dead or busy, otherwise cracked and given to a web server ([`copy`]); all else
//! passes. From the inside: under configuration A nothing happens to it but that its connection
//! is followed ([`follow`]), for the busy gate counts what is live.

mod copy;
mod follow;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ipnet::IpNet;

use super::{Context, Role, finish, look_ahead, send_made, tidy};
use crate::buffer::{Buffer, Pool};
use crate::burst::Burst;
use crate::counters::{Counters, Generated};
use crate::family::{Endpoint, V4};
use crate::limiter::Bucket;
use crate::maglev::Maglev;
use crate::neighbours::Neighbours;
use crate::services::{Scope, Services};
use crate::stage::tag;
use crate::table::{Hash, QUEUES, State, Table};
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::{Kind, Packet, Side, View};
use crate::wire::arp;
use crate::wire::ethernet::Mac;
use crate::wire::ipv4;

/// Where a connection stands at the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The start packet went to the web server.
    Opening,
    /// The client has gone on.
    Established,
    /// FIN seen both ways, or a RST.
    Closing,
    /// No connection is ever in this state; the table has room for four.
    Unused,
}

impl State for Phase {
    const ALL: [Self; QUEUES] = [Phase::Opening, Phase::Established, Phase::Closing, Phase::Unused];

    fn queue(self) -> usize {
        self as usize
    }

    fn is_lazy(self) -> bool {
        self == Phase::Established
    }

    fn is_evictable(self) -> bool {
        self == Phase::Opening
    }
}

/// A connection at the replica.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// V: what the client asked for.
    pub server: Endpoint<V4>,
    /// R: the web server.
    pub replica: Endpoint<V4>,
    /// The SYN's sequence number.
    pub isn: u32,
    /// The switch that sent the copy.
    pub peer: Ipv4Addr,
    /// How gateway and winner exchange packets.
    pub configuration: tag::Code,
    /// Which sides have sent a FIN, one bit each.
    pub fins: u8,
}

/// A web server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, which the selection depends on.
    pub name: String,
    /// R's address.
    pub address: Ipv4Addr,
    /// R's port; the one asked for when `None`.
    pub port: Option<u16>,
    /// Its MAC address; resolved by ARP when `None`.
    pub mac: Option<Mac>,
    /// Its share.
    pub weight: u32,
}

/// A service that this replica holds.
#[derive(Clone, Debug)]
pub struct Service {
    /// V's address.
    pub address: Ipv4Addr,
    /// V's ports.
    pub ports: Vec<u16>,
    /// The web servers; the first one's number among all configured.
    pub servers: Vec<Server>,
    /// See `servers`.
    pub first_server: usize,
}

/// What a replica is told at launch.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The services, by number.
    pub services: Vec<Service>,
    /// Switches whose copies are taken.
    pub switches: Vec<IpNet>,
    /// Outer destinations that are the replica's.
    pub tunnel_addresses: Vec<Ipv4Addr>,
    /// The tag's option.
    pub tag: tag::Format,
    /// Live connections of this worker above which it is busy.
    pub busy_connections: usize,
    /// Start packet copies per second of this worker above which it is busy.
    pub busy_syn_rate: u64,
    /// Connections this worker can follow.
    pub max_connections: usize,
    /// Time-outs of Opening, Established, Closing.
    pub timeouts: [Ticks; 3],
    /// MAC addresses of the inside and the outside port.
    pub macs: [Mac; 2],
    /// Whether this worker sends the ARP probes.
    pub probes: bool,
    /// Secret of the table's hash.
    pub hash_key: (u64, u64),
}

/// What an operator, or a health check, says of the replica; shared with the control thread.
#[derive(Debug, Default)]
pub struct Gates {
    /// Dead or drained: takes no new connection (op 404).
    pub dead: AtomicBool,
    /// Busy whatever the counts say (op 406).
    pub busy: AtomicBool,
}

/// One worker's replica.
pub struct Replica {
    settings: Settings,
    services: Services,
    selection: Vec<Maglev>,
    held: Table<V4, Phase, Held>,
    syns: Bucket,
    gates: Arc<Gates>,
    neighbours: Arc<Neighbours>,
    counters: Arc<Counters>,
}

impl Replica {
    /// A replica with an empty table.
    pub fn new(settings: Settings, gates: Arc<Gates>, neighbours: Arc<Neighbours>) -> Self {
        let scopes = settings.services.iter().map(|service| {
            (Scope::Prefix(IpAddr::from(service.address).into()), service.ports.as_slice())
        });
        let maglev = |service: &Service| {
            Maglev::new(service.servers.iter().map(|server| (server.name.as_str(), server.weight)))
        };
        let [opening, established, closing] = settings.timeouts;
        let timeouts = [opening, established, closing, closing];
        let servers = settings.services.iter().map(|service| service.servers.len()).sum();
        let counters = Counters::new(0, servers);
        let held = Table::new(settings.max_connections, timeouts, settings.hash_key);
        counters.table.capacity.set(held.capacity() as u64);
        Self {
            services: Services::new(scopes),
            selection: settings.services.iter().filter_map(maglev).collect(),
            held,
            syns: Bucket::full(settings.busy_syn_rate, Ticks(0)),
            gates,
            neighbours,
            counters: Arc::new(counters),
            settings,
        }
    }

    /// The client endpoint of a TCP packet: its one key in the table.
    #[inline]
    fn client(from: Side, head: &[u8], view: &View) -> Endpoint<V4> {
        match from {
            Side::Inside => view.destination(head),
            Side::Outside => view.source(head),
        }
    }

    #[inline]
    fn decide<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        hash: Hash,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match (packet.view.kind, from) {
            (Kind::Tcp4, _) => self.follow(from, packet, hash, context.now),
            (Kind::Tunnel4, Side::Outside) => self.tunnelled(packet, context.now),
            (Kind::Arp, _) => self.arp(from, packet, context),
            (kind, _) => kind.untouched(),
        }
    }
}

impl Role for Replica {
    const STATES: &'static [&'static str] = &["opening", "established", "closing"];

    fn process<P: Pool>(
        &mut self,
        from: Side,
        burst: &mut Burst<P::Buffer>,
        context: &mut Context<'_, P>,
    ) {
        let hashes = look_ahead(&self.held, burst, |head, view| Self::client(from, head, view));
        self.counters.side(from).received.add(burst.len() as u64);
        let Burst { frames, views, verdicts } = burst;
        for (buffer, (view, hash)) in frames.drain(..).zip(views.iter().zip(hashes)) {
            let mut packet = Packet { buffer, view: *view };
            let verdict = self.decide(from, &mut packet, hash, context);
            verdicts.push(verdict);
            finish(&self.counters, from, packet, verdict, context);
        }
    }

    fn housekeep<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        tidy(&mut self.held, &self.counters.table, context.now);
        if !self.settings.probes {
            return;
        }
        let own = self.settings.macs[Side::Inside as usize];
        for probe in self.neighbours.due_probes(own, context.now) {
            let Some(mut frame) = context.pool.alloc(arp::FRAME) else { return };
            probe.emit_broadcast(frame.head_mut());
            send_made(&self.counters, Side::Inside, frame, Generated::ArpProbe, context);
        }
    }

    fn owner<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
        match (packet.view.kind, from) {
            (Kind::Tcp4, _) => {
                Some(Self::client(from, packet.buffer.head(), &packet.view).address.into())
            }
            // The client is the source of the packet within.
            (Kind::Tunnel4, Side::Outside) => {
                let inner = packet.buffer.head().get(usize::from(packet.view.l4)..)?;
                (inner.len() >= ipv4::HEADER).then(|| ipv4::source(inner).into())
            }
            _ => None,
        }
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}
