//! Figure 4A: tunnelled copies of start packets.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering::Relaxed;

use ipnet::IpNet;

use super::{Held, Phase, Replica};
use crate::buffer::Buffer;
use crate::family::{Endpoint, V4};
use crate::stage::{crack, rewrite, tag};
use crate::table::{Hash, Inserted, Slot};
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::Packet;
use crate::wire::{ethernet, ipv4, tcp};

/// A start packet copy that has been read.
#[derive(Clone, Copy, Debug)]
struct StartCopy {
    service: usize,
    configuration: tag::Code,
    tag_at: usize,
    tag_length: usize,
}

impl Replica {
    /// A tunnelled packet from the WAN (op 402).
    pub(super) fn tunnelled<B: Buffer>(&mut self, packet: &mut Packet<B>, now: Ticks) -> Verdict {
        let outer_destination = ipv4::destination(packet.ip());
        let peer = ipv4::source(packet.ip());
        if !self.settings.tunnel_addresses.contains(&outer_destination) {
            return Verdict::ForeignTunnel;
        }
        let permitted = |net: &IpNet| net.contains(&IpAddr::from(peer));
        if !self.settings.switches.iter().any(permitted) {
            return Verdict::TunnelStranger;
        }
        let copy = match self.open(packet) {
            Ok(copy) => copy,
            Err(verdict) => return verdict,
        };
        self.admit(packet, copy, peer, outer_destination, now)
    }

    /// Cracks (op 410) and reads a copy: its service and its tag.
    fn open<B: Buffer>(&self, packet: &mut Packet<B>) -> Result<StartCopy, Verdict> {
        crack::ipip(packet)?;
        if !tcp::flags(packet.tcp()).is_start() {
            return Err(Verdict::TunnelNotStart);
        }
        if packet.has_data() {
            return Err(Verdict::TunnelData);
        }
        let (configuration, tag_at, tag_length) = match self.settings.tag.find(packet.options()) {
            tag::Found::Tag(tag, at, length) if tag.permitted => (tag.configuration, at, length),
            tag::Found::Bad => return Err(Verdict::BadTag),
            _ => return Err(Verdict::TunnelNotTagged),
        };
        let to = packet.destination::<V4>();
        let service =
            self.services.find(to.address.into(), to.port).ok_or(Verdict::TunnelNotService)?;
        match configuration {
            Some(tag::Code::A) => Ok(StartCopy {
                service: service.into(),
                configuration: tag::Code::A,
                tag_at,
                tag_length,
            }),
            _ => Err(Verdict::TunnelConfiguration),
        }
    }

    /// Past the gates (ops 404-408) and on to a web server (op 410).
    fn admit<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        copy: StartCopy,
        peer: Ipv4Addr,
        outer_destination: Ipv4Addr,
        now: Ticks,
    ) -> Verdict {
        if self.gates.dead.load(Relaxed) {
            return Verdict::Dead;
        }
        let client = packet.source::<V4>();
        let hash = self.held.hash(client);
        let isn = tcp::sequence(packet.tcp());
        let earlier = self.held.find(hash, client, now);
        let repeated = earlier.filter(|&slot| {
            let held = &self.held.get(slot).value;
            held.isn == isn && held.server == packet.destination()
        });
        if repeated.is_none() && self.is_busy(now) {
            return Verdict::Busy;
        }
        let chosen = self.selection[copy.service].select(client.address.into(), client.port);
        let service = &self.settings.services[copy.service];
        let (server, number) = (&service.servers[chosen], service.first_server + chosen);
        // A frame that was sent to the web server's own address bears its MAC address already.
        let keeps_mac = server.mac.is_none() && server.address == outer_destination;
        let mac = server.mac.or_else(|| self.neighbours.find(server.address));
        if mac.is_none() && !keeps_mac {
            return Verdict::NeighbourUnresolved;
        }
        let asked = packet.destination::<V4>();
        let replica = Endpoint::new(server.address, server.port.unwrap_or(asked.port));
        if let Some(slot) = repeated {
            match self.held.get(slot).state() {
                // Its web server had refused, and is asked again.
                Phase::Closing => {
                    self.held.value_mut(slot).fins = 0;
                    self.held.move_to(slot, Phase::Opening, now);
                }
                _ => self.held.touch(slot, now),
            }
        } else {
            let held = Held {
                server: asked,
                replica,
                isn,
                peer,
                configuration: copy.configuration,
                fins: 0,
            };
            if !self.hold(hash, client, earlier, held, now) {
                return Verdict::Busy;
            }
            self.counters.starts[number].add(1);
        }
        tag::strip::<V4, B>(packet, copy.tag_at, copy.tag_length);
        rewrite::destination(packet, replica);
        if let (Some(mac), false) = (mac, keeps_mac) {
            ethernet::set_destination(packet.buffer.head_mut(), mac);
        }
        if repeated.is_some() { Verdict::CrackedAgain } else { Verdict::Cracked }
    }

    /// op 406
    fn is_busy(&mut self, now: Ticks) -> bool {
        let live = self.held.count(Phase::Opening) + self.held.count(Phase::Established);
        let rate = self.settings.busy_syn_rate;
        self.gates.busy.load(Relaxed)
            || live >= self.settings.busy_connections
            || !self.syns.take(1, rate, rate, now)
    }

    fn hold(
        &mut self,
        hash: Hash,
        client: Endpoint<V4>,
        earlier: Option<Slot>,
        held: Held,
        now: Ticks,
    ) -> bool {
        if let Some(slot) = earlier {
            *self.held.value_mut(slot) = held;
            self.held.move_to(slot, Phase::Opening, now);
            return true;
        }
        let inserted = self.held.insert(hash, client, Phase::Opening, now, held);
        let table = &self.counters.table;
        table.inserted.add(u64::from(inserted.is_some()));
        let evicted = matches!(inserted, Some(Inserted::Evicted(_)));
        table.evicted.add(u64::from(evicted));
        inserted.is_some()
    }
}
