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
use crate::family::{Endpoint, Family, V4};
use crate::fragments::{Fate, Fragments, PacketId};
use crate::limiter::{Limit, Limiter};
use crate::maglev::Maglev;
use crate::services::{Scope, Services};
use crate::stage::{encap, quote, tag};
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::{Kind, Packet, Side};
use crate::wire::ethernet::{self, Mac};
use crate::wire::{ipv4, tcp};

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
    /// Service and server of fragmented packets.
    fragments: Fragments<(usize, usize)>,
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
            fragments: Fragments::default(),
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
        let Some(number) = self.service(to) else { return Verdict::NoService };
        // op 304
        let is_start = tcp::flags(packet.tcp()).is_start();
        let verdict = match is_start.then(|| self.settings.tag.find(packet.options())) {
            None | Some(tag::Found::None) => Verdict::ToServer,
            Some(tag::Found::Bad) => return Verdict::BadTag,
            Some(tag::Found::Tag(tag, at, length)) => {
                if !packet.ip_checksum_ok() {
                    return Verdict::TagIpChecksum;
                }
                // Data is not copied, and may lie where its sum cannot be formed.
                if !packet.has_data() && !packet.tcp_checksum_ok::<V4>() {
                    return Verdict::TagTcpChecksum;
                }
                let verdict = self.fan_out(packet, number, tag, context);
                tag::strip::<V4, _>(packet, at, length);
                verdict
            }
        };
        let Some(chosen) = self.select(number, packet.source()) else { return Verdict::NoServer };
        if is_start {
            let server = self.settings.services[number].first_server + chosen;
            self.counters.starts[server].add(1);
        }
        self.deliver(packet, number, chosen, verdict)
    }

    fn service(&self, server: Endpoint<V4>) -> Option<usize> {
        self.services.find(server.address.into(), server.port).map(usize::from)
    }

    /// The number of the server that is selected for a client; `None` when none is enabled.
    fn select(&self, number: usize, client: Endpoint<V4>) -> Option<usize> {
        let selection = self.selection[number].as_ref()?;
        Some(match &self.settings.services[number].servers[..] {
            [_] => 0,
            _ => selection.select(client.address.into(), client.port),
        })
    }

    /// An ICMP error from the WAN goes to the server whose packet it quotes.
    fn icmp<B: Buffer>(&self, packet: &mut Packet<B>) -> Verdict {
        let quoted = quote::read(packet);
        let served = quoted.and_then(|quoted| {
            let number = self.service(quoted.source)?;
            Some((number, self.select(number, quoted.destination)?))
        });
        match served {
            Some((number, chosen)) => self.deliver(packet, number, chosen, Verdict::IcmpToServer),
            None => Verdict::Icmp,
        }
    }

    /// A fragment from the WAN goes where its first fragment's ports say.
    fn fragment<B: Buffer>(&mut self, packet: &mut Packet<B>, now: Ticks) -> Verdict {
        let id = PacketId::of(packet.ip());
        let served = match packet.view.kind {
            Kind::FirstFragment4 => {
                let number = self.service(packet.destination());
                let served = number.and_then(|n| Some((n, self.select(n, packet.source())?)));
                self.fragments.learn(id, served, now);
                served
            }
            _ if ipv4::protocol(packet.ip()) != ipv4::TCP => None,
            _ => match self.fragments.find(id, now) {
                Fate::Follow(served) => Some(served),
                // Out of order it may be at the wrong server; dropped, it would be at none.
                Fate::Unknown | Fate::Untouched => None,
            },
        };
        match served {
            Some((n, chosen)) => self.deliver(packet, n, chosen, Verdict::FragmentToServer),
            None => Verdict::Fragment,
        }
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
        let client = packet.source::<V4>();
        let copies = service.replicas.len().min(self.settings.max_copies);
        if !self.limiter.take(client.address.into(), copies as u64, context.now) {
            return Verdict::FanOutLimited;
        }
        // Of more replicas than copies, each client's share begins at another.
        let first = match service.replicas.len() - copies {
            0 => 0,
            _ => {
                (client.address.to_bits() as usize ^ usize::from(client.port))
                    % service.replicas.len()
            }
        };
        let replicas = service.replicas.iter().cycle().skip(first);
        for &(replica, counter) in replicas.take(copies) {
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

    /// op 314: on to the selected server. The verdict, unless there is no room for its tunnel.
    fn deliver<B: Buffer>(
        &self,
        packet: &mut Packet<B>,
        number: usize,
        chosen: usize,
        verdict: Verdict,
    ) -> Verdict {
        let service = &self.settings.services[number];
        match service.servers[chosen].delivery {
            Delivery::None => {}
            Delivery::Direct(mac) => ethernet::set_destination(packet.buffer.head_mut(), mac),
            Delivery::Tunnel(address) => {
                if !encap::ipip(packet, service.source, address) {
                    return Verdict::NoBuffer;
                }
            }
        }
        verdict
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
                (Kind::Icmp4, Side::Outside) => self.icmp(&mut packet),
                (Kind::FirstFragment4 | Kind::Fragment4, Side::Outside) => {
                    self.fragment(&mut packet, context.now)
                }
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
            (Kind::FirstFragment4 | Kind::Fragment4, Side::Outside) => {
                Some(V4::source(packet.ip()).into())
            }
            _ => None,
        }
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}
