//! The gateway of configuration A, plainly: a map of records and one packet at a time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ipnet::IpNet;
use pipeline::role::gateway::{Service, Settings};
use pipeline::services::Scope;
use pipeline::time::Ticks;
use pipeline::verdict::Verdict;
use pipeline::view::Side;

use super::options::{obstacle, tagged};
use super::packet::{FIN, Packet, RST};

mod related;

/// Races in a row, unanswered up to their second repetition, that give a path up.
const MISSES: u32 = 3;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Tagged start packet sent, no valid acknowledgement yet.
    Racing,
    /// A replica won.
    Replica,
    /// The origin won.
    Origin,
    /// FIN seen both ways, or a RST.
    Closing,
}

/// What the gateway knows of a client endpoint.
#[derive(Clone, Debug)]
pub struct Record {
    /// V.
    pub server: SocketAddrV4,
    /// The start packet's sequence number.
    pub isn: u32,
    /// State.
    pub state: State,
    /// R, once a replica has won.
    pub replica: Option<SocketAddrV4>,
    /// The other server that the endpoint has most recently asked for meanwhile.
    pub second: Option<SocketAddrV4>,
    service: usize,
    repetitions: u32,
    fins: [bool; 2],
    /// Since when the time-out runs.
    since: Duration,
    /// Which of two records with the same `since` came first.
    order: u64,
}

/// What becomes of one received packet.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The name under which it is counted.
    pub verdict: Verdict,
    /// What goes on by the other side.
    pub onward: Onward,
    /// What goes back by the side it came in by.
    pub reset: Option<Packet>,
}

/// What goes on of a received packet.
#[derive(Clone, Debug)]
pub enum Onward {
    /// Nothing.
    Nothing,
    /// The frame, byte for byte.
    Untouched,
    /// The packet, changed.
    Changed(Box<Packet>),
    /// Another frame.
    Frame(Vec<u8>),
}

fn untouched(verdict: Verdict) -> Outcome {
    Outcome { verdict, onward: Onward::Untouched, reset: None }
}

fn dropped(verdict: Verdict) -> Outcome {
    Outcome { verdict, onward: Onward::Nothing, reset: None }
}

fn changed(verdict: Verdict, packet: Packet) -> Outcome {
    Outcome { verdict, onward: Onward::Changed(Box::new(packet)), reset: None }
}

/// The gateway.
pub struct Model {
    settings: Settings,
    records: HashMap<SocketAddrV4, Record>,
    /// By address of V: races that missed in a row, and until when it is left untagged.
    paths: HashMap<Ipv4Addr, (u32, Duration)>,
    fragments: related::Fragments,
    order: u64,
    /// Records that had to make room.
    pub evicted: u64,
}

fn span(ticks: Ticks) -> Duration {
    Duration::from_nanos(ticks.0)
}

impl Model {
    /// A gateway without connections.
    pub fn new(settings: Settings) -> Self {
        let (records, paths) = (HashMap::new(), HashMap::new());
        let fragments = related::Fragments::default();
        Self { settings, records, paths, fragments, order: 0, evicted: 0 }
    }

    /// What is known of a client endpoint.
    pub fn record(&self, client: SocketAddrV4) -> Option<&Record> {
        self.records.get(&client)
    }

    /// Connections in a state.
    pub fn count(&self, state: State) -> usize {
        self.records.values().filter(|record| record.state == state).count()
    }

    /// Time has come so far: what has timed out is gone.
    pub fn pass(&mut self, now: Duration) {
        let timeouts = self.settings.timeouts;
        self.records.retain(|_, record| {
            let limit = match record.state {
                State::Racing => timeouts.racing,
                State::Replica => timeouts.established,
                State::Origin => timeouts.race_window,
                State::Closing => timeouts.closing,
            };
            now - record.since < span(limit)
        });
    }

    /// A TCP packet comes in by `side` in a buffer that has `headroom` to grow, or has not.
    pub fn receive(
        &mut self,
        now: Duration,
        side: Side,
        packet: &Packet,
        headroom: bool,
    ) -> Outcome {
        self.pass(now);
        let client = if side == Side::Inside { packet.from } else { packet.to };
        let known = self.records.get(&client).cloned();
        match (side, known) {
            (Side::Inside, None) if packet.is_start() => self.race(now, packet, headroom),
            (Side::Inside, Some(known)) if packet.is_start() => {
                self.start(now, packet, headroom, &known)
            }
            (_, None) => untouched(Verdict::NoEntry),
            (Side::Inside, Some(known)) => self.client_packet(now, packet, &known),
            (Side::Outside, Some(known)) if packet.is_acknowledgement() => {
                self.acknowledgement(now, packet, &known)
            }
            (Side::Outside, Some(known)) => self.server_packet(now, packet, &known),
        }
    }

    fn start(&mut self, now: Duration, packet: &Packet, headroom: bool, known: &Record) -> Outcome {
        if packet.to != known.server && known.state != State::Closing {
            self.change(packet.from).second = Some(packet.to);
            return untouched(match self.service(packet.to) {
                Some(_) => Verdict::UntaggedEndpointBusy,
                None => Verdict::NoService,
            });
        }
        let retransmitted = packet.to == known.server && packet.sequence == known.isn;
        let idle = now - known.since;
        let stale = match known.state {
            State::Racing | State::Closing => true,
            State::Replica | State::Origin => idle > span(self.settings.timeouts.reuse_after),
        };
        match (known.state, known.replica) {
            _ if !retransmitted && stale => self.race(now, packet, headroom),
            (State::Racing, _) => self.repetition(now, packet, headroom),
            (State::Origin, _) | (_, None) => untouched(Verdict::WithOrigin),
            (State::Replica | State::Closing, Some(replica)) => {
                if retransmitted {
                    self.change(packet.from).since = now;
                }
                changed(Verdict::StartToWinner, packet.sent_to(replica))
            }
        }
    }

    /// A fresh race, which replaces whatever the endpoint had.
    fn race(&mut self, now: Duration, packet: &Packet, headroom: bool) -> Outcome {
        let (client, server) = (packet.from, packet.to);
        let earlier = self.records.remove(&client);
        let refused = match (self.service(server), obstacle(packet)) {
            (None, _) => Err(Verdict::NoService),
            (_, Some(verdict)) => Err(verdict),
            _ if self.paths.get(server.ip()).is_some_and(|(_, until)| now < *until) => {
                Err(Verdict::UntaggedBackoff)
            }
            (Some(service), None) => Ok(service),
        };
        let service = match (refused, earlier.clone()) {
            (Ok(service), _) => service,
            (Err(verdict), earlier) => {
                // The connection before it, to another server, is told from it and goes on.
                if let Some(earlier) = earlier.filter(|earlier| earlier.server != server) {
                    self.records.insert(client, Record { second: Some(server), ..earlier });
                }
                return untouched(verdict);
            }
        };
        if self.records.len() == self.settings.max_connections && !self.make_room() {
            return untouched(Verdict::UntaggedTableFull);
        }
        if !headroom {
            return untouched(Verdict::UntaggedNoHeadroom);
        }
        self.order += 1;
        let record = Record {
            server,
            isn: packet.sequence,
            state: State::Racing,
            replica: None,
            second: None,
            service,
            repetitions: 0,
            fins: [false; 2],
            since: now,
            order: self.order,
        };
        self.records.insert(client, record);
        let verdict = if earlier.is_some() { Verdict::TaggedAnew } else { Verdict::Tagged };
        changed(verdict, tagged(packet))
    }

    /// The start packet of an undecided race once more.
    fn repetition(&mut self, now: Duration, packet: &Packet, headroom: bool) -> Outcome {
        if let Some(verdict) = obstacle(packet) {
            return untouched(verdict);
        }
        self.order += 1;
        let order = self.order;
        let given_up = self.paths.get(packet.to.ip()).is_some_and(|(_, until)| now < *until);
        let record = self.change(packet.from);
        (record.since, record.order) = (now, order);
        record.repetitions += 1;
        match record.repetitions {
            1 if given_up => untouched(Verdict::UntaggedBackoff),
            1 if headroom => changed(Verdict::TaggedAgain, tagged(packet)),
            1 => untouched(Verdict::UntaggedNoHeadroom),
            2 => {
                let until = now + span(self.settings.timeouts.tag_backoff);
                let path = self.paths.entry(*packet.to.ip()).or_default();
                path.0 += 1;
                if path.0 == MISSES {
                    *path = (0, until);
                }
                untouched(Verdict::UntaggedRepeat)
            }
            _ => untouched(Verdict::UntaggedRepeat),
        }
    }

    fn client_packet(&mut self, now: Duration, packet: &Packet, known: &Record) -> Outcome {
        match (known.state, known.replica) {
            _ if packet.to != known.server => untouched(Verdict::OtherServer),
            (State::Racing, _) => untouched(Verdict::RaceUndecided),
            (State::Origin, _) | (_, None) => untouched(Verdict::WithOrigin),
            (State::Replica | State::Closing, Some(replica)) => {
                self.heard(now, Side::Inside, packet.from, packet.flags);
                changed(Verdict::ToReplica, packet.sent_to(replica))
            }
        }
    }

    fn acknowledgement(&mut self, now: Duration, packet: &Packet, known: &Record) -> Outcome {
        let client = packet.to;
        let fits = packet.acknowledgement == known.isn.wrapping_add(1);
        if known.second == Some(packet.from) && !fits {
            return untouched(Verdict::FromOther);
        }
        if !packet.ip_checksum {
            return dropped(Verdict::AcknowledgementIpChecksum);
        }
        if !packet.tcp_checksum {
            return dropped(Verdict::AcknowledgementTcpChecksum);
        }
        let is_origin = packet.from == known.server;
        let winner = match known.state {
            State::Racing => None,
            State::Origin => Some(known.server),
            State::Replica | State::Closing => known.replica,
        };
        if !fits && winner != Some(packet.from) {
            return dropped(Verdict::WrongAcknowledgement);
        }
        match known.state {
            State::Racing if !is_origin && !self.permits(known.service, packet.from) => {
                dropped(Verdict::NotPermitted)
            }
            State::Racing => self.decide(now, packet, known),
            State::Origin if is_origin => untouched(Verdict::AcknowledgementRepeated),
            State::Replica | State::Closing if known.replica == Some(packet.from) => {
                self.change(client).since = now;
                changed(Verdict::AcknowledgementRepeated, packet.sent_by(known.server))
            }
            State::Origin | State::Replica | State::Closing => {
                let (verdict, reset) = (Verdict::LoserReset, Some(packet.reset()));
                Outcome { verdict, onward: Onward::Nothing, reset }
            }
        }
    }

    fn decide(&mut self, now: Duration, packet: &Packet, known: &Record) -> Outcome {
        if known.repetitions < 2 {
            self.paths.remove(known.server.ip());
        }
        let record = self.change(packet.to);
        record.since = now;
        if packet.from == known.server {
            record.state = State::Origin;
            return untouched(Verdict::OriginWon);
        }
        record.state = State::Replica;
        record.replica = Some(packet.from);
        changed(Verdict::ReplicaWon, packet.sent_by(known.server))
    }

    fn server_packet(&mut self, now: Duration, packet: &Packet, known: &Record) -> Outcome {
        let is_reset = packet.flags & RST != 0;
        let is_origin = packet.from == known.server;
        match known.state {
            State::Replica | State::Closing if known.replica == Some(packet.from) => {
                self.heard(now, Side::Outside, packet.to, packet.flags);
                changed(Verdict::FromReplica, packet.sent_by(known.server))
            }
            State::Replica | State::Closing if is_origin => dropped(Verdict::FromLoser),
            State::Racing if is_reset && is_origin => {
                if known.repetitions < 2 {
                    self.paths.remove(known.server.ip());
                }
                let record = self.change(packet.to);
                (record.state, record.since) = (State::Origin, now);
                untouched(Verdict::ResetByOrigin)
            }
            State::Racing if is_reset && known.second != Some(packet.from) => {
                if self.permits(known.service, packet.from) {
                    return dropped(Verdict::ResetByReplica);
                }
                untouched(Verdict::RaceUndecided)
            }
            State::Racing => untouched(Verdict::RaceUndecided),
            State::Origin if is_origin => untouched(Verdict::WithOrigin),
            State::Origin | State::Replica | State::Closing => untouched(Verdict::FromOther),
        }
    }

    /// A packet of a translated connection has passed.
    fn heard(&mut self, now: Duration, side: Side, client: SocketAddrV4, flags: u8) {
        let record = self.change(client);
        record.since = now;
        record.fins[side as usize] |= flags & FIN != 0;
        if flags & RST != 0 || record.fins == [true; 2] {
            record.state = State::Closing;
        }
    }

    fn change(&mut self, client: SocketAddrV4) -> &mut Record {
        self.records.get_mut(&client).expect("a known client")
    }

    /// Takes the race out whose last start packet is the oldest; `false` when there is none.
    fn make_room(&mut self) -> bool {
        let racing = self.records.iter().filter(|(_, record)| record.state == State::Racing);
        let Some(client) = racing.min_by_key(|(_, record)| record.order).map(|(key, _)| *key)
        else {
            return false;
        };
        self.evicted += 1;
        self.records.remove(&client).is_some()
    }

    /// The most specific service that covers this endpoint.
    fn service(&self, server: SocketAddrV4) -> Option<usize> {
        let reach = |service: &Service| match service.scope {
            _ if !service.ports.contains(&server.port()) => None,
            Scope::Any => Some(-1),
            Scope::Prefix(net) => {
                net.contains(&IpAddr::from(*server.ip())).then(|| i16::from(net.prefix_len()))
            }
        };
        let all = self.settings.services.iter().enumerate();
        let covering = all.filter_map(|(number, service)| Some((reach(service)?, number)));
        covering.max_by_key(|(length, _)| *length).map(|(_, number)| number)
    }

    fn permits(&self, service: usize, from: SocketAddrV4) -> bool {
        let nets: &[IpNet] = &self.settings.services[service].replicas;
        nets.is_empty() || nets.iter().any(|net| net.contains(&IpAddr::from(*from.ip())))
    }
}
