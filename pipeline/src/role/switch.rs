//! The switch at the origin's side: figure 3.
//!
//! From the outside: a tagged start packet is copied to the service's replicas; every packet to
//! a service goes to the server selected for its client, the tag taken off.
//! From the inside: nothing happens to it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{Context, Role, finish, send_made};
use crate::buffer::{Buffer, Pool};
use crate::burst::Burst;
use crate::counters::{Counters, Generated};
use crate::family::V4;
use crate::limiter::{Limit, Limiter};
use crate::maglev::Maglev;
use crate::services::{Scope, Services};
use crate::stage::{encap, tag};
use crate::verdict::Verdict;
use crate::view::{Kind, Packet, Side};
use crate::wire::ethernet::{self, Mac};
use crate::wire::tcp;

/// How a packet reaches its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As it is: the one server is the host behind the inside port.
    None,
    /// By destination MAC address; the server bears the service address.
    Direct(Mac),
    /// Tunnelled to the server's own address.
    Tunnel(Ipv4Addr),
}

/// An origin server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, which the selection depends on.
    pub name: String,
    /// How it is reached.
    pub delivery: Delivery,
    /// Its share; zero takes it out.
    pub weight: u32,
}

/// A service and who serves it.
#[derive(Clone, Debug)]
pub struct Service {
    /// V's address.
    pub address: Ipv4Addr,
    /// V's ports.
    pub ports: Vec<u16>,
    /// Whether its content is static (op 310).
    pub replicable: bool,
    /// Outer source of what the switch tunnels.
    pub source: Ipv4Addr,
    /// The live replicas' tunnel addresses, and each one's number among all configured.
    pub replicas: Vec<(Ipv4Addr, usize)>,
    /// The origin servers; the first one's number among all configured.
    pub servers: Vec<Server>,
    /// See `servers`.
    pub first_server: usize,
}

/// What a switch is told at launch.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The services, by number.
    pub services: Vec<Service>,
    /// The tag's option.
    pub tag: tag::Format,
    /// The most copies of one start packet.
    pub max_copies: usize,
    /// How many start packets of a source prefix are fanned out.
    pub fan_out: Limit,
    /// Replicas configured in all services.
    pub replicas: usize,
    /// Servers configured in all services.
    pub servers: usize,
}

/// One worker's switch.
pub struct Switch {
    settings: Settings,
    services: Services,
    selection: Vec<Option<Maglev>>,
    limiter: Limiter,
    counters: Arc<Counters>,
}

impl Switch {
    /// A switch; the tables of its selection are made here.
    pub fn new(settings: Settings) -> Self {
        let scopes = settings.services.iter().map(|service| {
            (Scope::Prefix(IpAddr::from(service.address).into()), service.ports.as_slice())
        });
        let maglev = |service: &Service| {
            Maglev::new(service.servers.iter().map(|server| (server.name.as_str(), server.weight)))
        };
        Self {
            services: Services::new(scopes),
            selection: settings.services.iter().map(maglev).collect(),
            limiter: Limiter::new(settings.fan_out),
            counters: Arc::new(Counters::new(settings.replicas, settings.servers)),
            settings,
        }
    }

    /// A TCP packet from the WAN (op 302).
    fn inbound<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let to = packet.destination::<V4>();
        let Some(number) = self.services.find(to.address.into(), to.port).map(usize::from) else {
            return Verdict::NoService;
        };
        // op 304
        let is_start = tcp::flags(packet.tcp()).is_start();
        let verdict = match is_start.then(|| self.settings.tag.find(packet.options())) {
            None | Some(tag::Found::None) => Verdict::ToServer,
            Some(tag::Found::Bad) => return Verdict::BadTag,
            Some(tag::Found::Tag(tag, at, length)) => {
                if !packet.ip_checksum_ok() {
                    return Verdict::TagIpChecksum;
                }
                if !packet.tcp_checksum_ok::<V4>() {
                    return Verdict::TagTcpChecksum;
                }
                let verdict = self.fan_out(packet, number, tag, context);
                tag::strip::<V4, _>(packet, at, length);
                verdict
            }
        };
        self.deliver(packet, number, is_start).err().unwrap_or(verdict)
    }

    /// ops 308-312: a copy to every replica.
    fn fan_out<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        number: usize,
        tag: tag::Tag,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let service = &self.settings.services[number];
        // Data must not be delivered more than once; no gateway tags a start packet with data.
        if !tag.permitted || !service.replicable || packet.has_data() {
            return Verdict::NotFannedOut;
        }
        if service.replicas.is_empty() {
            return Verdict::NoReplica;
        }
        if !self.limiter.take(packet.source::<V4>().address.into(), context.now) {
            return Verdict::FanOutLimited;
        }
        for &(replica, counter) in service.replicas.iter().take(self.settings.max_copies) {
            match encap::copy_back(packet, service.source, replica, context.pool) {
                Some(copy) => {
                    self.counters.copies[counter].add(1);
                    send_made(&self.counters, Side::Outside, copy, Generated::Copy, context);
                }
                None => self.counters.copies_failed.add(1),
            }
        }
        Verdict::FannedOut
    }

    /// op 314: on to the server that is selected for the client.
    fn deliver<B: Buffer>(
        &self,
        packet: &mut Packet<B>,
        number: usize,
        is_start: bool,
    ) -> Result<(), Verdict> {
        let service = &self.settings.services[number];
        let selection = self.selection[number].as_ref().ok_or(Verdict::NoServer)?;
        let chosen = match &service.servers[..] {
            [_] => 0,
            _ => {
                let client = packet.source::<V4>();
                selection.select(client.address.into(), client.port)
            }
        };
        if is_start {
            self.counters.starts[service.first_server + chosen].add(1);
        }
        match service.servers[chosen].delivery {
            Delivery::None => {}
            Delivery::Direct(mac) => ethernet::set_destination(packet.buffer.head_mut(), mac),
            Delivery::Tunnel(address) => {
                if !encap::ipip(packet, service.source, address) {
                    return Err(Verdict::NoBuffer);
                }
            }
        }
        Ok(())
    }
}

impl Role for Switch {
    const STATES: &'static [&'static str] = &[];

    fn process<P: Pool>(
        &mut self,
        from: Side,
        burst: &mut Burst<P::Buffer>,
        context: &mut Context<'_, P>,
    ) {
        self.counters.side(from).received.add(burst.len() as u64);
        let Burst { frames, views, verdicts } = burst;
        for (buffer, view) in frames.drain(..).zip(views.iter()) {
            let mut packet = Packet { buffer, view: *view };
            let verdict = match (view.kind, from) {
                (Kind::Tcp4, Side::Outside) => self.inbound(&mut packet, context),
                (Kind::Tcp4, Side::Inside) => Verdict::FromServer,
                (kind, _) => kind.untouched(),
            };
            verdicts.push(verdict);
            finish(&self.counters, from, packet, verdict, context);
        }
    }

    fn housekeep<P: Pool>(&mut self, _context: &mut Context<'_, P>) {}

    fn owner<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
        match (packet.view.kind, from) {
            (Kind::Tcp4, Side::Outside) => Some(packet.source::<V4>().address.into()),
            (Kind::Tcp4, Side::Inside) => Some(packet.destination::<V4>().address.into()),
            _ => None,
        }
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}
