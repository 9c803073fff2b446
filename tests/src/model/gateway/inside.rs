//! Packets of clients: figure 2, and figure 6 from the client side.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::direct::micros;
use super::{Model, Record, State, WINDOW, has_right_checksums, span, unheard};
use crate::model::Packet;
use crate::model::options::{clamped, epoch, obstacle, tag_wanting, tagged};
use crate::model::outcome::Outcome;
use crate::model::packet::{ACK, RST, SYN};
use crate::model::tunnel::overhead;
use crate::model::world;

/// Consecutive races, unanswered up to their second retransmission, after which a path is backed
/// off.
const MISSES: u32 = 3;
/// Time within which a race is answered, if it is, in microseconds: clients retransmit a SYN after
/// that.
const ANSWERED: u32 = 1_000_000;

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
            (_, Some(verdict)) => Err(verdict),
            (Some(service), None) => {
                match (self.whom(service, client, now), self.is_given_up(server, now)) {
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
        if own.count() == self.settings.max_connections[family] && !self.make_room(family, now) {
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
            untagged,
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

    fn is_given_up(&self, server: SocketAddr, now: Duration) -> bool {
        self.paths.get(&server.ip()).is_some_and(|(_, until)| now < *until)
    }

    /// Handles a retransmitted SYN of an undecided race.
    fn repetition(&mut self, now: Duration, packet: &Packet, headroom: bool) -> Outcome {
        if let Some(verdict) = obstacle(packet, self.key) {
            return Outcome::untouched(verdict);
        }
        let tag_backoffs = self.is_given_up(packet.to, now);
        self.touch(now, packet.from);
        let record = self.change(packet.from);
        record.repetitions += 1;
        let (repetitions, was_untagged, service) =
            (record.repetitions, record.untagged, record.service);
        if repetitions == 2 && !was_untagged {
            self.path_missed(packet.to.ip(), now);
        }
        let asked = self.all_of(service);
        let verdict = match repetitions {
            1 if tag_backoffs => Verdict::UntaggedBackoff,
            1 if headroom => Verdict::TaggedRetransmit,
            1 => return Outcome::untouched(Verdict::UntaggedNoHeadroom),
            _ => Verdict::UntaggedRetransmit,
        };
        let untagged = verdict != Verdict::TaggedRetransmit;
        if !headroom && !asked.sites.is_empty() {
            return Outcome::untouched(verdict);
        }
        let record = self.change(packet.from);
        record.untagged |= untagged;
        record.asked.extend(&asked.sites);
        let onward = self.sent(packet, service, &asked, untagged);
        Outcome { onward, ..Outcome::dropped(verdict) }
    }

    pub(super) fn client_packet(
        &mut self,
        now: Duration,
        packet: &Packet,
        headroom: bool,
        known: &Record,
    ) -> Outcome {
        match (known.state, known.replica) {
            _ if packet.to != known.server => Outcome::untouched(Verdict::OtherServer),
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

    /// Notes that a race to this address was not answered.
    fn path_missed(&mut self, server: IpAddr, now: Duration) {
        let until = now + span(self.settings.timeouts.tag_backoff);
        let path = self.paths.entry(server).or_default();
        path.0 += 1;
        if path.0 == MISSES {
            *path = (0, until);
        }
    }

    /// Evicts a record of a family: the oldest that both sides have closed, or the oldest race or
    /// half-open one, or the oldest with a RST. Returns `false` when there is none.
    fn make_room(&mut self, family: usize, now: Duration) -> bool {
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
        let Some(gone) = self.records.remove(&client) else { return false };
        // It had time to be answered, and was evicted before its second retransmission showed that
        // it was not.
        let waited = micros(now).wrapping_sub(micros(gone.started));
        let waited = gone.repetitions < 2 && !gone.untagged && waited >= ANSWERED;
        if gone.state == State::Racing && waited {
            self.path_missed(gone.server.ip(), now);
        }
        true
    }
}
