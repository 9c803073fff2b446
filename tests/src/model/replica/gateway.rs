//! Packets of gateways: plain under A and B, in tunnels under C.

use std::net::SocketAddr;
use std::time::Duration;

use pipeline::role::replica::Service;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::{Entry, EntryState, GATEWAY_SENDS_WITHIN, ReplicaModel};
use crate::model::gateway::{cracked, opened};
use crate::model::options::clamped;
use crate::model::outcome::{Leaving, Outcome};
use crate::model::packet::{ACK, Packet, RST, SYN};
use crate::model::related::{IcmpError, fragment};
use crate::model::tunnel::{Outer, decapsulated_class};
use crate::model::world;

impl Entry {
    /// Returns whether a plain SYN to the web server is no gateway's of this connection.
    fn is_not_for(&self, syn: &Packet, now: Duration) -> bool {
        if self.configuration == Configuration::C {
            return true;
        }
        match self.next {
            _ if self.isn == syn.sequence => false,
            Some((isn, configuration)) if isn == syn.sequence => configuration.is_none(),
            _ => {
                use EntryState::{Closed, Lost, Reset};
                let over = matches!(self.state, Closed | Reset | Lost);
                over || now - self.since >= GATEWAY_SENDS_WITHIN
            }
        }
    }
}

impl ReplicaModel {
    /// Handles a plain packet from the outside.
    pub fn from_gateway(&mut self, now: Duration, packet: &Packet) -> Outcome {
        let entry = self.entry(packet.from).filter(|entry| entry.replica == packet.to);
        let Some(entry) = entry else { return Outcome::untouched(Verdict::NoEntry) };
        if packet.is_syn() && entry.is_not_for(packet, now) {
            self.change(packet.from).next = Some((packet.sequence, None));
            return Outcome::untouched(Verdict::NoEntry);
        }
        if entry.configuration == Configuration::C {
            return Outcome::untouched(Verdict::NoEntry);
        }
        self.client_goes_on(now, packet.from, packet);
        Outcome::untouched(Verdict::ToWebServer)
    }

    /// Handles a tunnelled packet that is not a switch's.
    pub fn tunnelled(&mut self, now: Duration, outer: &Outer, packet: &Packet) -> Outcome {
        let known = self.entry(packet.from).cloned();
        let is_known = known.is_some();
        let own = known.filter(|e| is_tunnel(e, outer, packet.from) && e.server == packet.to);
        let Some(entry) = own else {
            let lost = if is_known { None } else { self.lost(outer, packet) };
            return lost.unwrap_or_else(|| self.foreign_tunnel(outer));
        };
        let inside = match cracked(outer, packet) {
            Ok(inside) => inside,
            Err(verdict) => return Outcome::dropped(verdict),
        };
        let inside = match inside.is_syn() {
            true => clamped(&inside, self.room(packet.from)),
            false => inside,
        };
        self.client_goes_on(now, packet.from, packet);
        Outcome::changed(Verdict::ToWebServer, inside.sent_to(entry.sends_as()))
    }

    /// Resets both ends of a connection of which a gateway's tunnel is, and which is not known.
    fn lost(&self, outer: &Outer, packet: &Packet) -> Option<Outcome> {
        let (client, server) = (packet.from, packet.to);
        if packet.flags & (SYN | RST | ACK) != ACK || outer.from != client.ip() {
            return None;
        }
        let serves = |service: &&Service| {
            !service.retired
                && service.address == server.ip()
                && service.ports.contains(&server.port())
        };
        let service = self.settings.services.iter().find(serves)?;
        let own: Vec<_> = service.servers.iter().filter(|own| own.address == outer.to).collect();
        let [own] = own[..] else { return None };
        let replica = match own.has_vip {
            true => server,
            false => SocketAddr::new(outer.to, own.port.unwrap_or(server.port())),
        };
        if let Err(verdict) = cracked(outer, packet) {
            return Some(Outcome::dropped(verdict));
        }
        if !packet.tcp_checksum {
            return Some(Outcome::dropped(Verdict::TunnelInnerChecksum));
        }
        let back = Leaving::Packet(Box::new(packet.reset()));
        let tunnel = Outer::new(world::format(client.ip()), outer.to, client.ip(), 0);
        let on = Packet { macs: packet.macs, from: client, to: replica, ..packet.reset() };
        let on = Packet { sequence: packet.sequence, ..on };
        Some(Outcome {
            onward: vec![Leaving::Packet(Box::new(on))],
            back: vec![Leaving::Tunnel(tunnel, Box::new(back))],
            ..Outcome::dropped(Verdict::TunnelReset)
        })
    }

    /// Returns the outcome of a tunnel that is neither a gateway's nor a switch's.
    pub(super) fn foreign_tunnel(&self, outer: &Outer) -> Outcome {
        match self.settings.tunnel_addresses.contains(&outer.to) {
            true => Outcome::dropped(Verdict::PeerNotAllowed),
            false => Outcome::untouched(Verdict::ForeignTunnel),
        }
    }

    /// Handles a tunnelled error from the client's side about a packet of the web server.
    pub fn tunnelled_error(&mut self, outer: &Outer, error: &IcmpError) -> Outcome {
        let (client, server) = (error.quoted.to, error.quoted.from);
        let known = self.entry(client).cloned();
        let own = known.filter(|e| is_tunnel(e, outer, client) && e.server == server);
        let own = own.filter(|_| error.is_sound() && error.tunnel.is_none());
        let Some(entry) = own else { return self.foreign_tunnel(outer) };
        if let Err(verdict) = opened(outer, true, true, 0) {
            return Outcome::dropped(verdict);
        }
        Outcome::sends(Verdict::IcmpTranslated, about_itself(error.clone(), &entry))
    }

    /// Handles a tunnelled fragment of the client.
    pub fn tunnelled_fragment(
        &mut self,
        now: Duration,
        outer: &Outer,
        packet: &Packet,
        first: bool,
    ) -> Outcome {
        let client = packet.from;
        let entry = if first {
            let known = self.entry(client).cloned();
            let own = known.filter(|e| is_tunnel(e, outer, client) && e.server == packet.to);
            let Some(entry) = own else { return self.foreign_tunnel(outer) };
            self.fragments.learn(packet, Some((client, entry.clone())), now);
            entry
        } else {
            match self.fragments.find(packet, now) {
                Some(Some((client, entry))) if is_tunnel(&entry, outer, client) => entry,
                None if outer.from == client.ip()
                    && self.web_server(outer.to).is_some()
                    && self.is_service(packet.to.ip()) =>
                {
                    return Outcome::dropped(Verdict::FragmentUnknown);
                }
                _ => return self.foreign_tunnel(outer),
            }
        };
        if let Err(verdict) = opened(outer, true, true, packet.traffic_class) {
            return Outcome::dropped(verdict);
        }
        let class = decapsulated_class(packet.traffic_class, outer.traffic_class);
        let class = class.expect("it has been opened");
        let inside = Packet { traffic_class: class, ..packet.sent_to(entry.sends_as()) };
        let frame = fragment(&inside, first);
        Outcome::sends(Verdict::FragmentTranslated, Leaving::Frame(frame))
    }
}

/// Returns whether this is the tunnel of a connection's gateway.
fn is_tunnel(entry: &Entry, outer: &Outer, client: std::net::SocketAddr) -> bool {
    entry.configuration == Configuration::C
        && (outer.from, outer.to) == (client.ip(), entry.replica.ip())
}

/// Returns an error for the web server, which must find its own packet quoted.
pub(super) fn about_itself(mut error: IcmpError, entry: &Entry) -> Leaving {
    error.quoted.from = entry.sends_as();
    error.to = entry.sends_as().ip();
    Leaving::Frame(error.frame())
}
