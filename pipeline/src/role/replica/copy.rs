//! Figures 4A, 4B and 4C up to the web server: tunnelled copies of start packets, and what else
//! a switch sends.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use super::mode::{self, Part};
use super::connection::ASKED;
use super::{Door, Held, Phase, Server, Settings, live};
use crate::packet::buffer::{Buffer, Pool};
use crate::counters::Generated;
use crate::wire::family::{Endpoint, Family};
use crate::role::{Context, send_made};
use crate::stage::sign::Worth;
use crate::stage::{decap, probe, quote, tag};
use crate::table::{Hash, Inserted, Slot};
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Kind, Packet, Side, View};
use crate::wire::{ethernet, tcp};

/// A start packet copy that has been read.
#[derive(Clone, Copy, Debug)]
struct StartCopy {
    service: usize,
    configuration: tag::Code,
    tag_at: usize,
    tag_length: usize,
}

/// How a copy's web server is found on the wire.
#[derive(Clone, Copy, Debug)]
enum Hop {
    /// The frame bears its MAC address already.
    Kept,
    /// It is to bear this one.
    Set(ethernet::Mac),
    /// It is to be asked for.
    Unknown,
}

impl<F: Family> Door<'_, F> {
    /// A tunnelled packet that is no gateway's (op 402).
    pub(super) fn of_switch<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        inner: View,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let (peer, outer_destination) = packet.view.addresses(packet.buffer.head());
        let settings = &self.common.settings;
        if !settings.tunnel_addresses.contains(&outer_destination) {
            return Verdict::ForeignTunnel;
        }
        if !settings.is_switch(peer) {
            return Verdict::TunnelStranger;
        }
        if let Err(verdict) = decap::open(packet, inner) {
            return verdict;
        }
        match packet.view.kind {
            Kind::Tcp => match self.read(packet) {
                Ok(copy) => self.admit(packet, copy, outer_destination, context.now),
                Err(verdict) => verdict,
            },
            Kind::Icmp => self.icmp_of_switch(packet, (peer, outer_destination), context),
            _ => Verdict::TunnelMalformed,
        }
    }

    /// Reads a cracked copy: its service and its tag.
    fn read<B: Buffer>(&self, packet: &Packet<B>) -> Result<StartCopy, Verdict> {
        if !packet.tcp_checksum_ok::<F>() {
            return Err(Verdict::TunnelInnerChecksum);
        }
        if !tcp::flags(packet.tcp()).is_start() {
            return Err(Verdict::TunnelNotStart);
        }
        if packet.has_data() {
            return Err(Verdict::TunnelData);
        }
        let settings = &self.common.settings;
        let (tag, tag_at, tag_length) = match settings.tag.find(packet.options()) {
            tag::Found::Tag(tag, at, length) if tag.permitted => (tag, at, length),
            tag::Found::Bad => return Err(Verdict::BadTag),
            _ => return Err(Verdict::TunnelNotTagged),
        };
        match self.common.keys.get().judge::<F, B>(packet, &tag) {
            Worth::Forged => return Err(Verdict::TunnelBadSignature),
            Worth::Unsigned if settings.require_signature => return Err(Verdict::TunnelNotSigned),
            Worth::Unsigned | Worth::Genuine => {}
        }
        let to = packet.destination::<F>();
        let service = self
            .common
            .services
            .find(to.address.into(), to.port)
            .ok_or(Verdict::TunnelNotService)?
            .into();
        let client: IpAddr = packet.source::<F>().address.into();
        if !settings.gateways.is_empty() && !settings.gateways.iter().any(|n| n.contains(&client)) {
            return Err(Verdict::ClientStranger);
        }
        let configuration = tag.configuration.ok_or(Verdict::TunnelConfiguration)?;
        Ok(StartCopy { service, configuration, tag_at, tag_length })
    }

    /// Past the gates (ops 404-408) and on to a web server (op 410).
    fn admit<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        copy: StartCopy,
        outer_destination: IpAddr,
        now: Ticks,
    ) -> Verdict {
        if self.common.gates.dead.load(Relaxed) {
            return Verdict::Dead;
        }
        let client = packet.source::<F>();
        let (address, port) = (client.address.into(), client.port);
        let selection = self.common.selection.get();
        let Some(chosen) = selection.select(copy.service, address, port) else {
            return Verdict::Dead;
        };
        let hash = self.held.hash(client);
        let isn = tcp::sequence(packet.tcp());
        let earlier = self.held.find(hash, client, now);
        let repeated = earlier.filter(|&slot| {
            let held = &self.held.get(slot).value;
            held.isn == isn && held.server == packet.destination()
        });
        if repeated.is_none() {
            if self.is_busy(now) {
                return Verdict::Busy;
            }
            if let Some(slot) = earlier.filter(|slot| self.held.get(*slot).value.is_live()) {
                return self.ask(packet, copy, (slot, chosen), outer_destination, now);
            }
        }
        let service = &self.common.settings.services[copy.service];
        let (server, number) = (&service.servers[chosen], service.first_server + chosen);
        let slot = match repeated {
            Some(slot) => {
                self.again(slot, now);
                slot
            }
            None => {
                let Some(held) = self.hold_of(server, packet, copy) else {
                    return Verdict::TunnelNotService;
                };
                let Some(slot) = self.hold(hash, client, earlier, held, now) else {
                    return Verdict::Busy;
                };
                self.common.counters.starts[number].add(1);
                slot
            }
        };
        self.grant(slot);
        let held = self.held.get(slot).value;
        let verdict = if repeated.is_some() { Verdict::CrackedAgain } else { Verdict::Cracked };
        self.send_to_web_server(packet, copy, &held, outer_destination, verdict, now)
    }

    /// A copy for a client endpoint that has a live connection here. Whoever can have a start packet
    /// copied could else take that over: the web server's TCP is asked, and the connection goes on
    /// until it accepts the new one.
    fn ask<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        copy: StartCopy,
        (slot, chosen): (Slot, usize),
        outer_destination: IpAddr,
        now: Ticks,
    ) -> Verdict {
        let held = self.held.get(slot).value;
        let server = &self.common.settings.services[copy.service].servers[chosen];
        let next = self.hold_of(server, packet, copy);
        let same = |next: &Held<F>| {
            let ends = |held: &Held<F>| (held.server, held.replica, held.bears_service);
            ends(next) == ends(&held)
        };
        let Some(next) = next.filter(same) else { return Verdict::EndpointLive };
        let entry = self.held.value_mut(slot);
        entry.next = (next.isn, next.configuration);
        entry.marks |= ASKED;
        *self.translates |= next.configuration != tag::Code::A;
        self.send_to_web_server(packet, copy, &next, outer_destination, Verdict::CrackedAnew, now)
    }

    /// Rids a copy of its tag and sends it to its web server.
    fn send_to_web_server<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        copy: StartCopy,
        held: &Held<F>,
        outer_destination: IpAddr,
        verdict: Verdict,
        now: Ticks,
    ) -> Verdict {
        tag::strip::<F, B>(packet, copy.tag_at, copy.tag_length);
        if mode::clamp(packet, held, &self.common.settings.path) {
            self.common.counters.clamped.add(1);
        }
        mode::to_web_server(packet, Part::Data, held);
        self.give(packet, held.replica.address.into(), outer_destination, verdict, now)
    }

    /// A copy of a start packet that is known.
    fn again(&mut self, slot: Slot, now: Ticks) {
        match self.held.get(slot).state() {
            // Its web server had refused, and is asked again.
            Phase::Closing if !self.held.get(slot).value.is_live() => {
                self.held.value_mut(slot).marks = 0;
                self.held.move_to(slot, Phase::Opening, now);
            }
            _ => self.held.touch(slot, now),
        }
    }

    /// What is to be held of a connection to this web server; `None` when that is of another
    /// family than the start packet, which no configuration gives.
    fn hold_of<B: Buffer>(
        &self,
        server: &Server,
        packet: &Packet<B>,
        copy: StartCopy,
    ) -> Option<Held<F>> {
        let asked = packet.destination::<F>();
        let client: IpAddr = packet.source::<F>().address.into();
        let address = F::from_ip(server.address)?;
        Some(Held {
            server: asked,
            replica: Endpoint::new(address, server.port.unwrap_or(asked.port)),
            isn: tcp::sequence(packet.tcp()),
            configuration: copy.configuration,
            format: self.common.settings.path.format(client),
            bears_service: server.bears_service && copy.configuration == tag::Code::C,
            answered: 0,
            next: (0, copy.configuration),
            marks: 0,
            credit: 0,
        })
    }

    /// Sends a cracked packet to a web server, or has it wait for that one's MAC address.
    fn give<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        server: IpAddr,
        outer_destination: IpAddr,
        verdict: Verdict,
        now: Ticks,
    ) -> Verdict {
        match self.hop(server, outer_destination) {
            Hop::Kept => verdict,
            Hop::Set(mac) => {
                ethernet::set_destination(packet.buffer.head_mut(), mac);
                verdict
            }
            Hop::Unknown if !packet.buffer.is_contiguous() => Verdict::NeighbourUnresolved,
            Hop::Unknown => match self.common.waiting.hold(server, packet.buffer.head(), now) {
                true => Verdict::Held,
                false => Verdict::NeighbourUnresolved,
            },
        }
    }

    fn hop(&self, server: IpAddr, outer_destination: IpAddr) -> Hop {
        let configured = self.common.settings.server(server).and_then(|server| server.mac);
        match configured.or_else(|| self.common.neighbours.find(server)) {
            // A frame that was sent to the web server's own address bears its MAC address already.
            _ if configured.is_none() && server == outer_destination => Hop::Kept,
            Some(mac) => Hop::Set(mac),
            None => Hop::Unknown,
        }
    }

    /// op 406
    fn is_busy(&mut self, now: Ticks) -> bool {
        let live = live(self.held) + self.others;
        let Settings { busy_syn_rate: rate, busy_connections, .. } = self.common.settings;
        self.common.gates.busy.load(Relaxed)
            || live >= busy_connections
            || !self.common.syns.take(1, rate, rate, now)
    }

    fn hold(
        &mut self,
        hash: Hash,
        client: Endpoint<F>,
        earlier: Option<Slot>,
        held: Held<F>,
        now: Ticks,
    ) -> Option<Slot> {
        let translates = held.configuration != tag::Code::A;
        if let Some(slot) = earlier {
            *self.translates |= translates;
            *self.held.value_mut(slot) = held;
            self.held.move_to(slot, Phase::Opening, now);
            return Some(slot);
        }
        let inserted = self.held.insert(hash, client, Phase::Opening, now, held);
        let table = self.common.counters.table_of(F::VERSION);
        *self.translates |= translates && inserted.is_some();
        table.inserted.add(u64::from(inserted.is_some()));
        table.evicted.add(u64::from(matches!(inserted, Some(Inserted::Evicted(..)))));
        inserted.map(Inserted::slot)
    }

    /// Cracked ICMP of a switch: a probe of the tunnel, or a router's word that a packet of a
    /// connection of configuration B was too big, which came to the address that the packet bore.
    fn icmp_of_switch<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        tunnel: (IpAddr, IpAddr),
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if probe::is_request::<F, _>(packet, tunnel) {
            return self.answer_probe(packet, context);
        }
        let Some(quoted) = quote::read::<F, _>(packet) else { return Verdict::TunnelIcmp };
        if !quote::is_too_big::<F, _>(packet) || !quote::checksum_ok::<F, _>(packet) {
            return Verdict::TunnelIcmp;
        }
        match self.carried(quoted.destination, context).map(|carried| carried.held) {
            Some(held)
                if held.configuration == tag::Code::B
                    && quoted.source == held.server
                    && quoted.outer.is_none() =>
            {
                mode::error_to_web_server(packet, quoted, &held);
                let (server, verdict) = (held.replica.address.into(), Verdict::IcmpTranslated);
                self.give(packet, server, tunnel.1, verdict, context.now)
            }
            _ => Verdict::TunnelIcmp,
        }
    }

    /// Dead or drained, the replica is silent, and the switch stops sending it copies.
    fn answer_probe<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if self.common.gates.dead.load(Relaxed) || self.common.selection.get().is_dead() {
            return Verdict::ProbeIgnored;
        }
        let Some(answer) = probe::answer::<F, P>(packet, context.pool) else {
            return Verdict::NoBuffer;
        };
        let what = Generated::ProbeAnswer;
        send_made(&self.common.counters, Side::Outside, answer, what, context);
        Verdict::ProbeAnswered
    }
}
