//! Packets of clients: figure 2, and figure 6 from the client side.

use std::net::SocketAddr;
use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::direct::{Asked, micros};
use super::{Model, Record, State, WINDOW, has_right_checksums, span, unheard};
use crate::model::Packet;
use crate::model::options::{clamped, epoch, obstacle, tag_wanting, tagged};
use crate::model::outcome::Outcome;
use crate::model::packet::{ACK, RST, SYN};
use crate::model::tunnel::overhead;
use crate::model::world;

/// Copies of a SYN that come within this time of it are one SYN.
const ONE_SYN: Duration = Duration::from_millis(900);
/// An untagged SYN says something of the path so long after the tagged ones.
const LATE: Duration = Duration::from_secs(1);

impl Model {
    pub(super) fn start(
        &mut self,
        now: Duration,
        packet: &Packet,
        headroom: bool,
        known: &Record,
    ) -> Outcome {
        // The winner cannot tell the new connection from the one that has ended.
        let ended = matches!(known.state, State::Closed | State::Reset);
        if ended
            && self.configuration != Configuration::C
            && known.replica == Some(packet.to)
            && has_right_checksums(packet)
        {
            self.records.remove(&packet.from);
            return self.race(now, packet, headroom);
        }
        if packet.to != known.server {
            self.change(packet.from).second = Some(packet.to);
            return Outcome::untouched(match self.service(packet.to) {
                Some(_) => Verdict::UntaggedEndpointInUse,
                None => Verdict::NoService,
            });
        }
        let retransmitted = packet.sequence == known.isn;
        let stale = match known.state {
            State::Racing | State::HalfOpen | State::Closed | State::Reset => true,
            State::Replica | State::Origin | State::HalfClosed => {
                unheard(known.heard, now) > span(self.settings.timeouts.reuse_after)
            }
        };
        match (known.state, known.replica) {
            _ if !retransmitted && stale => self.race(now, packet, headroom),
            (State::Racing, _) => self.repetition(now, packet, headroom),
            (State::Origin, _) | (_, None) => Outcome::untouched(Verdict::WithOrigin),
            (_, Some(replica)) => {
                if retransmitted {
                    self.touch(now, packet.from);
                } else {
                    // Who was asked is forgotten.
                    let record = self.change(packet.from);
                    record.pending = Some(packet.sequence);
                    record.asked.clear();
                }
                // Full-size segments must fit the tunnels.
                let packet = match self.configuration {
                    Configuration::C => clamped(packet, self.room(replica.ip())),
                    Configuration::A | Configuration::B => packet.clone(),
                };
                let way = (known.server, replica);
                self.to_replica(&packet, headroom, way, Verdict::SynToWinner)
            }
        }
    }

    /// Starts a new race, which replaces the endpoint's record. A damaged SYN opens no connection
    /// and changes nothing.
    pub(super) fn race(&mut self, now: Duration, packet: &Packet, headroom: bool) -> Outcome {
        let (client, server) = (packet.from, packet.to);
        let refused = match (self.service(server), obstacle(packet, self.key)) {
            (None, _) => Err(Verdict::NoService),
            _ if !world::allows(&self.settings.allowed_clients, client.ip()) => {
                Err(Verdict::UntaggedClientNotAllowed)
            }
            (_, Some(verdict)) => Err(verdict),
            (Some(service), None) => {
                let probes = self.probes.is_probe(client, packet.sequence);
                let untagged = self.is_given_up(server, client, now) && !probes;
                match (self.whom(service, client, now), untagged) {
                    (None, _) => Err(Verdict::LeftToOrigin),
                    (Some(asked), true) if asked.sites.is_empty() => Err(Verdict::UntaggedBackoff),
                    (Some(asked), untagged) => Ok((service, asked, untagged)),
                }
            }
        };
        if let Err(damaged @ (Verdict::UntaggedIpChecksum | Verdict::UntaggedTcpChecksum)) = refused
        {
            return Outcome::untouched(damaged);
        }
        // The old record is removed: the packets of both connections could not be distinguished.
        let earlier = self.records.remove(&client);
        let (service, asked, untagged) = match refused {
            Ok(race) => race,
            Err(verdict) => return Outcome::untouched(verdict),
        };
        let family = usize::from(client.is_ipv6());
        let own = self.records.keys().filter(|other| other.is_ipv6() == client.is_ipv6());
        if own.count() == self.settings.max_connections[family] && !self.make_room(family) {
            return Outcome::untouched(Verdict::UntaggedTableFull);
        }
        if !headroom {
            return Outcome::untouched(Verdict::UntaggedNoHeadroom);
        }
        self.order += 1;
        let record = Record {
            server,
            isn: packet.sequence,
            pending: None,
            next: [packet.sequence.wrapping_add(1), 0],
            state: State::Racing,
            replica: None,
            second: None,
            service,
            repetitions: 0,
            asked: asked.sites.clone(),
            tagged: !untagged,
            untagged,
            untagged_late: false,
            deferred: false,
            held: None,
            fins: [false; 2],
            resets: [false; 2],
            opened: false,
            two_numbers: false,
            heard: now,
            started: now,
            since: now,
            order: self.order,
        };
        self.records.insert(client, record);
        let mut sent = self.sent(packet, service, &asked, untagged);
        let verdict = match earlier {
            _ if untagged => Verdict::UntaggedBackoff,
            _ if self.defers(packet, service, &asked, now) => {
                sent.pop();
                Verdict::SynDeferred
            }
            Some(_) => Verdict::TaggedNewIsn,
            None => Verdict::Tagged,
        };
        Outcome { onward: sent, ..Outcome::dropped(verdict) }
    }

    /// Returns the SYN with a tag that asks for so many copies.
    pub(super) fn tagged(&self, packet: &Packet, copies: u8) -> Packet {
        let key = self.key.map(|key| (key, epoch(self.now)));
        let tag = tag_wanting(packet, self.configuration, copies, key);
        self.fitting(&tagged(packet, &tag))
    }

    /// Returns the SYN of a race. Under C its MSS is clamped for the tunnel to any replica, since
    /// the winner is unknown.
    pub(super) fn fitting(&self, packet: &Packet) -> Packet {
        if self.configuration != Configuration::C {
            return packet.clone();
        }
        let outer = overhead(self.settings.path.format, packet.is_v6());
        clamped(packet, usize::from(world::MTU) - outer)
    }

    /// Handles a retransmitted SYN of an undecided race.
    fn repetition(&mut self, now: Duration, packet: &Packet, headroom: bool) -> Outcome {
        if let Some(verdict) = obstacle(packet, self.key) {
            return Outcome::untouched(verdict);
        }
        let record = self.change(packet.from).clone();
        let since_last = now - record.since;
        if since_last < ONE_SYN {
            return self.same_syn(now, packet, headroom, &record);
        }
        let tag_backoffs = self.is_given_up(packet.to, packet.from, now);
        self.touch(now, packet.from);
        let asked = self.all_of(record.service);
        let verdict = match record.repetitions {
            0 if tag_backoffs => Verdict::UntaggedBackoff,
            0 if headroom => Verdict::TaggedRetransmit,
            0 => Verdict::UntaggedNoHeadroom,
            _ => Verdict::UntaggedRetransmit,
        };
        let untagged = matches!(verdict, Verdict::UntaggedBackoff | Verdict::UntaggedRetransmit);
        let change = self.change(packet.from);
        change.repetitions += 1;
        change.untagged_late |=
            untagged && record.tagged && (record.untagged || since_last >= LATE);
        if verdict == Verdict::UntaggedNoHeadroom || !headroom && !asked.sites.is_empty() {
            return Outcome::untouched(verdict);
        }
        change.untagged |= untagged;
        change.tagged |= !untagged;
        change.asked.extend(&asked.sites);
        let onward = self.sent(packet, record.service, &asked, untagged);
        Outcome { onward, ..Outcome::dropped(verdict) }
    }

    /// Handles one more copy of the last SYN of an undecided race.
    fn same_syn(&self, now: Duration, packet: &Packet, headroom: bool, race: &Record) -> Outcome {
        let waits = span(self.settings.services[race.service].policy.origin_after);
        let elapsed = micros(now).wrapping_sub(micros(race.started));
        if race.deferred && race.repetitions == 0 && u128::from(elapsed) < waits.as_micros() {
            return Outcome::dropped(Verdict::SynDeferred);
        }
        if race.untagged {
            return Outcome::untouched(match race.repetitions {
                0 | 1 => Verdict::UntaggedBackoff,
                _ => Verdict::UntaggedRetransmit,
            });
        }
        if !headroom {
            return Outcome::untouched(Verdict::UntaggedNoHeadroom);
        }
        let is_first = race.repetitions == 0 && !race.asked.is_empty();
        let asked = if is_first { self.by_switch(race.service) } else { Asked::default() };
        let onward = self.sent(packet, race.service, &asked, false);
        Outcome { onward, ..Outcome::dropped(Verdict::TaggedRetransmit) }
    }

    pub(super) fn client_packet(
        &mut self,
        now: Duration,
        packet: &Packet,
        headroom: bool,
        known: &Record,
    ) -> Outcome {
        match (known.state, known.replica) {
            _ if packet.to != known.server => self.packet_to_other_server(now, packet, known),
            (State::Racing, _) => {
                let behind = packet.sequence.wrapping_sub(known.next[0]);
                let continues = packet.flags & (SYN | ACK | RST) == ACK
                    && behind < WINDOW as u32
                    && has_right_checksums(packet);
                if !continues {
                    return Outcome::untouched(Verdict::RaceUndecided);
                }
                self.goes_to_origin(now, packet.from);
                Outcome::untouched(Verdict::AnsweredElsewhere)
            }
            (State::Origin, _) | (_, None) => {
                self.change(packet.from).heard = now;
                Outcome::untouched(Verdict::WithOrigin)
            }
            (_, Some(replica)) => {
                self.track(now, Side::Inside, packet);
                self.to_replica(packet, headroom, (known.server, replica), Verdict::ToReplica)
            }
        }
    }

    /// The origin has won, or refused.
    pub(super) fn goes_to_origin(&mut self, now: Duration, client: SocketAddr) {
        self.touch(now, client);
        let record = self.change(client);
        (record.state, record.heard) = (State::Origin, now);
    }

    /// Evicts a record of a family: the oldest that both sides have closed, or the oldest race or
    /// half-open one, or the oldest with a RST. Returns `false` when there is none.
    fn make_room(&mut self, family: usize) -> bool {
        let own = || self.records.iter().filter(|(key, _)| usize::from(key.is_ipv6()) == family);
        let rank = |state| match state {
            State::Closed => Some(0),
            State::Racing | State::HalfOpen => Some(1),
            State::Reset => Some(2),
            State::Replica | State::Origin | State::HalfClosed => None,
        };
        let first = own()
            .filter_map(|(key, record)| {
                // Races before half-open ones of the same time.
                let is_half_open = record.state == State::HalfOpen;
                Some((rank(record.state)?, record.since, is_half_open, record.order, *key))
            })
            .min();
        let Some((.., client)) = first else { return false };
        self.evicted[family] += 1;
        self.records.remove(&client).is_some()
    }
}
