//! Connections that one of the appliances has forgotten.

use std::net::SocketAddr;
use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::services::Scope;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::{Model, Record, State, has_right_checksums, is_near};
use crate::model::Outer;
use crate::model::outcome::{Leaving, Outcome};
use crate::model::packet::{ACK, FIN, Packet, RST, SYN};

/// A client is asked again after this time.
const AGAIN: Duration = Duration::from_millis(500);
/// An answer counts for this time.
const COUNTS: Duration = Duration::from_secs(5);
/// How far the client may be ahead of what the replica has acknowledged.
const AHEAD: u32 = 1 << 16;

/// What a client was asked.
#[derive(Clone, Debug)]
pub(super) struct Challenge {
    server: SocketAddr,
    replica: SocketAddr,
    /// The numbers of the replica's packet.
    sequence: u32,
    acknowledgement: u32,
    at: Duration,
    attempt: usize,
}

/// A reset with this number that goes the way of a packet.
fn along(packet: &Packet, from: SocketAddr, to: SocketAddr, sequence: u32) -> Packet {
    Packet { macs: packet.macs, from, to, sequence, ..packet.reset() }
}

/// A reset with this number that goes back the way of a packet.
fn back(packet: &Packet, from: SocketAddr, to: SocketAddr, sequence: u32) -> Packet {
    Packet { from, to, sequence, ..packet.reset() }
}

fn leaving(packet: Packet) -> Leaving {
    Leaving::Packet(Box::new(packet))
}

impl Model {
    /// Handles a plain packet of a client that has no record.
    pub(super) fn without_entry(&mut self, now: Duration, side: Side, packet: &Packet) -> Outcome {
        match (side, self.configuration) {
            (Side::Outside, Configuration::A) => {
                let (replica, client) = (packet.from, packet.to);
                self.challenge(now, packet, replica, None, Verdict::NoEntry, client)
            }
            (Side::Inside, Configuration::A | Configuration::C) => self.answer(now, packet),
            _ => Outcome::untouched(Verdict::NoEntry),
        }
    }

    /// Handles a segment in a tunnel to a client that has no record.
    pub(super) fn tunnel_without_entry(
        &mut self,
        now: Duration,
        outer: &Outer,
        packet: &Packet,
    ) -> Outcome {
        let foreign = Outcome::untouched(Verdict::ForeignTunnel);
        let (server, client) = (packet.from, packet.to);
        let replica = SocketAddr::new(outer.from, server.port());
        let is_own = self.configuration == Configuration::C
            && self
                .service(server)
                .is_some_and(|service| self.can_be_replicas(service, replica, server, client));
        match is_own {
            true => {
                let server = Some(server);
                self.challenge(now, packet, replica, server, Verdict::ForeignTunnel, client)
            }
            false => foreign,
        }
    }

    fn can_be_replicas(
        &self,
        service: usize,
        replica: SocketAddr,
        server: SocketAddr,
        client: SocketAddr,
    ) -> bool {
        ![server.ip(), client.ip()].contains(&replica.ip()) && self.permits(service, replica.ip())
    }

    /// Asks a client whether it has the connection of this packet, which goes on.
    fn challenge(
        &mut self,
        now: Duration,
        packet: &Packet,
        replica: SocketAddr,
        server: Option<SocketAddr>,
        verdict: Verdict,
        client: SocketAddr,
    ) -> Outcome {
        let untouched = Outcome::untouched(verdict);
        let earlier = self.challenged.get(&client).cloned();
        if packet.flags & (SYN | RST | ACK) != ACK
            || earlier.as_ref().is_some_and(|earlier| now - earlier.at < AGAIN)
        {
            return untouched;
        }
        let same = earlier.filter(|earlier| earlier.replica == replica);
        let attempt = same.map_or(0, |earlier| earlier.attempt + 1);
        let Some(server) = server.or_else(|| self.candidate(replica, client, attempt)) else {
            return untouched;
        };
        let (sequence, acknowledgement) = (packet.sequence, packet.acknowledgement);
        let asked = Challenge { server, replica, sequence, acknowledgement, at: now, attempt };
        self.challenged.insert(client, asked);
        let reset = along(packet, server, client, sequence.wrapping_add(2));
        Outcome { onward: vec![leaving(reset), Leaving::Untouched], ..untouched }
    }

    /// The server to ask for: those of services with one address and listed replicas, in turn.
    fn candidate(
        &self,
        replica: SocketAddr,
        client: SocketAddr,
        attempt: usize,
    ) -> Option<SocketAddr> {
        let mut all = Vec::new();
        for (number, service) in self.settings.services.iter().enumerate() {
            let Scope::Prefix(net) = service.scope else { continue };
            let address = net.addr();
            let is_single = net.prefix_len() == net.max_prefix_len();
            if !is_single
                || address.is_ipv4() != client.is_ipv4()
                || service.allowed_replicas == AllowList::Any
                || !self.can_be_replicas(number, replica, SocketAddr::new(address, 0), client)
            {
                continue;
            }
            let same = service.ports.contains(&replica.port());
            let ports = service.ports.iter().filter(|port| !same || **port == replica.port());
            all.extend(ports.map(|port| SocketAddr::new(address, *port)));
        }
        all.get(attempt.checked_rem(all.len())?).copied()
    }

    /// Handles what may be a client's answer.
    fn answer(&mut self, now: Duration, packet: &Packet) -> Outcome {
        let no_entry = Outcome::untouched(Verdict::NoEntry);
        let Some(asked) = self.challenged.get(&packet.from).cloned() else { return no_entry };
        let is_answer = now - asked.at < COUNTS
            && packet.to == asked.server
            && packet.flags & (SYN | ACK | FIN | RST) == ACK
            && packet.acknowledgement.wrapping_sub(asked.sequence) <= 1
            && packet.sequence.wrapping_sub(asked.acknowledgement) < AHEAD
            && has_right_checksums(packet);
        if !is_answer {
            return no_entry;
        }
        let client = packet.from;
        self.challenged.remove(&client);
        let to_replica = match self.configuration {
            Configuration::C => {
                let inside = along(packet, client, asked.server, asked.acknowledgement);
                let outer = self.outer(client.ip(), asked.replica.ip(), 0);
                Leaving::Tunnel(outer, Box::new(leaving(inside)))
            }
            _ => leaving(along(packet, client, asked.replica, asked.acknowledgement)),
        };
        Outcome {
            onward: vec![to_replica, Leaving::Untouched],
            back: vec![leaving(back(packet, asked.server, client, packet.acknowledgement))],
            ..Outcome::untouched(Verdict::ConnectionLost)
        }
    }

    /// Handles a client's packet to another server: under B perhaps its reset of what the winner
    /// sends as itself.
    pub(super) fn packet_to_other_server(
        &mut self,
        now: Duration,
        packet: &Packet,
        known: &Record,
    ) -> Outcome {
        let open = matches!(known.state, State::HalfOpen | State::Replica | State::HalfClosed);
        let tells = self.configuration == Configuration::B
            && open
            && known.winner() == Some(packet.to)
            && packet.flags & (SYN | RST) == RST
            && packet.sequence == known.next[0]
            && has_right_checksums(packet);
        if !tells {
            return Outcome::untouched(Verdict::OtherServer);
        }
        self.is_lost(now, packet.from, Side::Inside);
        let reset = back(packet, known.server, packet.from, known.next[1]);
        let untouched = Outcome::untouched(Verdict::ConnectionLost);
        Outcome { back: vec![leaving(reset)], ..untouched }
    }

    /// Handles a plain packet that is not from V, nor the winner's of configuration A.
    pub(super) fn packet_from_winners_own(
        &mut self,
        now: Duration,
        packet: &Packet,
        known: &Record,
    ) -> Outcome {
        let other = Outcome::untouched(Verdict::FromOther);
        let Some(replica) = known.winner() else { return other };
        let is_sound = has_right_checksums(packet);
        match self.configuration {
            Configuration::B
                if packet.from == replica
                    && packet.flags & RST != 0
                    && is_near(packet.sequence, known.next[1])
                    && is_sound =>
            {
                self.track(now, Side::Outside, packet);
                Outcome::changed(Verdict::FromReplica, packet.sent_by(known.server))
            }
            Configuration::C
                if packet.from.ip() == replica.ip()
                    && known.state != State::Closed
                    && packet.flags & (SYN | RST | ACK) == ACK
                    && known.next[1].wrapping_sub(packet.sequence) <= 1
                    && packet.acknowledgement.wrapping_sub(known.next[0]) < AHEAD
                    && is_sound =>
            {
                self.is_lost(now, packet.to, Side::Outside);
                let to_client = along(packet, known.server, packet.to, known.next[1]);
                Outcome {
                    onward: vec![leaving(to_client), Leaving::Untouched],
                    back: vec![leaving(packet.reset())],
                    ..Outcome::untouched(Verdict::ConnectionLost)
                }
            }
            _ => other,
        }
    }

    fn is_lost(&mut self, now: Duration, client: SocketAddr, side: Side) {
        let record = self.change(client);
        record.state = State::Reset;
        record.resets[side as usize] = true;
        self.touch(now, client);
    }
}
