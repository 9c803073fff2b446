//! Packets of clients: figure 2, and figure 6 from the client side.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::{Model, Record, State, span};
use crate::model::Packet;
use crate::model::options::{clamped, obstacle, tag, tagged};
use crate::model::outcome::Outcome;
use crate::model::tunnel::overhead;
use crate::model::world;

/// Consecutive races, unanswered up to their second retransmission, after which a path is backed
/// off.
const MISSES: u32 = 3;
/// Time within which a race is answered, if it is: clients retransmit a SYN after that.
const ANSWERED: Duration = Duration::from_secs(1);

impl Model {
    pub(super) fn start(
        &mut self,
        now: Duration,
        packet: &Packet,
        headroom: bool,
        known: &Record,
    ) -> Outcome {
        if packet.to != known.server {
            self.change(packet.from).second = Some(packet.to);
            return Outcome::untouched(match self.service(packet.to) {
                Some(_) => Verdict::UntaggedEndpointInUse,
                None => Verdict::NoService,
            });
        }
        let retransmitted = packet.sequence == known.isn;
        let idle = now - known.since;
        let stale = match known.state {
            State::Racing | State::Closing => true,
            State::Replica | State::Origin => idle > span(self.settings.timeouts.reuse_after),
        };
        match (known.state, known.replica) {
            _ if !retransmitted && stale => self.race(now, packet, headroom),
            (State::Racing, _) => self.repetition(now, packet, headroom),
            (State::Origin, _) | (_, None) => Outcome::untouched(Verdict::WithOrigin),
            (State::Replica | State::Closing, Some(replica)) => {
                if retransmitted {
                    self.touch(now, packet.from);
                }
                self.change(packet.from).last_isn = packet.sequence;
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
            _ if self.is_given_up(server, now) => Err(Verdict::UntaggedBackoff),
            (Some(service), None) => Ok(service),
        };
        if let Err(damaged @ (Verdict::UntaggedIpChecksum | Verdict::UntaggedTcpChecksum)) = refused
        {
            return Outcome::untouched(damaged);
        }
        // The old record is removed: the packets of both connections could not be distinguished.
        let earlier = self.records.remove(&client);
        let service = match refused {
            Ok(service) => service,
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
            last_isn: packet.sequence,
            state: State::Racing,
            replica: None,
            second: None,
            service,
            repetitions: 0,
            fins: [false; 2],
            started: now,
            since: now,
            order: self.order,
        };
        self.records.insert(client, record);
        let verdict = if earlier.is_some() { Verdict::TaggedNewIsn } else { Verdict::Tagged };
        Outcome::changed(verdict, self.tagged(packet))
    }

    /// Returns the tagged SYN. Under C its MSS is clamped for the tunnel to any replica, since the
    /// winner is unknown.
    fn tagged(&self, packet: &Packet) -> Packet {
        let tagged = tagged(packet, &tag(packet, self.configuration, self.key));
        if self.configuration != Configuration::C {
            return tagged;
        }
        let outer = overhead(self.settings.path.format, packet.is_v6());
        clamped(&tagged, usize::from(world::MTU) - outer)
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
        match record.repetitions {
            1 if tag_backoffs => Outcome::untouched(Verdict::UntaggedBackoff),
            1 if headroom => Outcome::changed(Verdict::TaggedRetransmit, self.tagged(packet)),
            1 => Outcome::untouched(Verdict::UntaggedNoHeadroom),
            2 => {
                self.path_missed(packet.to.ip(), now);
                Outcome::untouched(Verdict::UntaggedRetransmit)
            }
            _ => Outcome::untouched(Verdict::UntaggedRetransmit),
        }
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
            (State::Racing, _) => Outcome::untouched(Verdict::RaceUndecided),
            (State::Origin, _) | (_, None) => Outcome::untouched(Verdict::WithOrigin),
            (State::Replica | State::Closing, Some(replica)) => {
                self.note_flags(now, Side::Inside, packet.from, packet.flags);
                self.to_replica(packet, headroom, (known.server, replica), Verdict::ToReplica)
            }
        }
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

    /// Evicts a record of a family: the one that has been closing for the longest time, or the race
    /// with the oldest last SYN. Returns `false` when there is neither.
    fn make_room(&mut self, family: usize, now: Duration) -> bool {
        let own = || self.records.iter().filter(|(key, _)| usize::from(key.is_ipv6()) == family);
        let oldest = |state| {
            let such = own().filter(|(_, record)| record.state == state);
            such.min_by_key(|(_, record)| record.order).map(|(key, _)| *key)
        };
        let Some(client) = oldest(State::Closing).or_else(|| oldest(State::Racing)) else {
            return false;
        };
        self.evicted[family] += 1;
        let Some(gone) = self.records.remove(&client) else { return false };
        // It had time to be answered, and was evicted before its second retransmission showed that
        // it was not.
        if gone.state == State::Racing && gone.repetitions < 2 && now - gone.started >= ANSWERED {
            self.path_missed(gone.server.ip(), now);
        }
        true
    }
}
