//! The model of the gateway: a map of records, one packet at a time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipeline::base::time::Ticks;
use pipeline::packet::view::Side;
use pipeline::policy::services::Scope;
use pipeline::role::gateway::{Service, Settings};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::event::Input;
use super::options::Key;
use super::outcome::{Leaving, Outcome};
use super::packet::{FIN, Packet, RST};
use super::related::{fragments, too_big};
use super::tunnel::{Outer, Udp, overhead};
use super::world;

mod direct;
mod inside;
mod outside;
mod related;
mod tunnelled;

pub(super) use tunnelled::{cracked, opened};

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Tagged SYN sent, no valid SYN/ACK yet.
    Racing,
    /// A replica won.
    Replica,
    /// The origin won.
    Origin,
    /// FINs seen in both directions, or a RST.
    Closing,
}

impl State {
    /// All states, in the order of their gauges.
    pub const ALL: [State; 4] = [State::Racing, State::Replica, State::Origin, State::Closing];
}

/// The gateway's record of a client endpoint.
#[derive(Clone, Debug)]
pub struct Record {
    /// V.
    pub server: SocketAddr,
    /// The SYN's sequence number.
    pub isn: u32,
    /// Sequence number of the last SYN that was sent to the winner only.
    pub last_isn: u32,
    /// State.
    pub state: State,
    /// R, once a replica has won.
    pub replica: Option<SocketAddr>,
    /// The other server that the endpoint has contacted most recently.
    pub second: Option<SocketAddr>,
    service: usize,
    repetitions: u32,
    /// The numbers of the sites that got a direct copy.
    asked: Vec<u8>,
    /// Whether a SYN of the race was sent without a tag.
    untagged: bool,
    /// Whether the SYN to the origin waits, or has waited.
    deferred: bool,
    /// The sender of the last SYN/ACK that waits.
    held: Option<SocketAddr>,
    fins: [bool; 2],
    /// Start of the race.
    started: Duration,
    /// Start of the time-out.
    since: Duration,
    /// Order of records with the same `since`.
    order: u64,
}

impl Record {
    /// Returns R while packets are translated.
    fn winner(&self) -> Option<SocketAddr> {
        let translated = matches!(self.state, State::Replica | State::Closing);
        self.replica.filter(|_| translated)
    }
}

/// The gateway.
pub struct Model {
    /// Its configuration.
    pub configuration: Configuration,
    settings: Settings,
    key: Option<Key>,
    /// The time of the latest event.
    now: Duration,
    records: HashMap<SocketAddr, Record>,
    /// By address of V: consecutive unanswered races, and the end of the tag back-off.
    paths: HashMap<IpAddr, (u32, Duration)>,
    fragments: related::Fragments,
    direct: direct::Direct,
    order: u64,
    /// By family: whether a translated record has timed out that the gateway may not have expired
    /// yet.
    lingering: [bool; 2],
    /// Evicted records, by family.
    pub evicted: [u64; 2],
}

/// Grace period after a RST: segments already in flight arrive within it.
const RST_GRACE: Duration = Duration::from_secs(3);

fn span(ticks: Ticks) -> Duration {
    Duration::from_nanos(ticks.0)
}

impl Model {
    /// Creates a gateway without connections that signs tags with the key.
    pub fn new(configuration: Configuration, settings: Settings, key: Option<Key>) -> Self {
        Self {
            configuration,
            settings,
            key,
            now: Duration::ZERO,
            records: HashMap::new(),
            paths: HashMap::new(),
            fragments: related::Fragments::default(),
            direct: direct::Direct::default(),
            order: 0,
            lingering: [false; 2],
            evicted: [0; 2],
        }
    }

    /// Returns the record of a client endpoint.
    pub fn record(&self, client: SocketAddr) -> Option<&Record> {
        self.records.get(&client)
    }

    /// Returns the number of a family's connections in a state.
    pub fn count(&self, is_v6: bool, state: State) -> usize {
        let own = self.records.iter().filter(|(client, _)| client.is_ipv6() == is_v6);
        own.filter(|(_, record)| record.state == state).count()
    }

    /// Advances the time and expires records.
    pub fn pass(&mut self, now: Duration) {
        self.now = now;
        let timeouts = self.settings.timeouts;
        let lingering = &mut self.lingering;
        self.records.retain(|client, record| {
            let limit = match record.state {
                State::Racing => timeouts.racing,
                State::Replica => timeouts.established,
                State::Origin => timeouts.race_window,
                State::Closing => timeouts.closing,
            };
            let lives = now - record.since < span(limit);
            lingering[usize::from(client.is_ipv6())] |= !lives && record.winner().is_some();
            lives
        });
    }

    /// Notes that the gateway has expired all timed-out records.
    pub fn tidied(&mut self) {
        self.lingering = [false; 2];
    }

    /// Predicts the outcome of a packet that arrives on `side`. `headroom` tells whether its buffer
    /// can grow.
    pub fn receive(&mut self, now: Duration, side: Side, input: &Input, headroom: bool) -> Outcome {
        self.pass(now);
        match input {
            Input::Foreign(verdict) => Outcome::untouched(*verdict),
            Input::Tunnelled(outer, inner) => match (side, self.configuration) {
                (Side::Inside, _) | (_, Configuration::A) => {
                    Outcome::untouched(Verdict::ForeignTunnel)
                }
                _ => self.tunnelled(now, outer, inner),
            },
            Input::Error(error) => self.error(side, error),
            Input::Fragment(packet, first) => self.fragment(now, side, packet, *first),
            Input::Tcp(packet) => self.tcp(now, side, packet, headroom),
        }
    }

    fn tcp(&mut self, now: Duration, side: Side, packet: &Packet, headroom: bool) -> Outcome {
        let ends = packet.flags & (FIN | RST) != 0 || packet.is_syn_ack();
        if self.configuration == Configuration::B && side == Side::Outside && !ends {
            return Outcome::untouched(Verdict::Passed);
        }
        let client = if side == Side::Inside { packet.from } else { packet.to };
        let known = self.records.get(&client).cloned();
        match (side, known) {
            (Side::Inside, None) if packet.is_syn() => self.race(now, packet, headroom),
            (Side::Inside, Some(known)) if packet.is_syn() => {
                self.start(now, packet, headroom, &known)
            }
            (_, None) => Outcome::untouched(Verdict::NoEntry),
            (Side::Inside, Some(known)) => self.client_packet(now, packet, headroom, &known),
            (Side::Outside, Some(known)) if packet.is_syn_ack() => {
                self.acknowledgement(now, packet, None, &known)
            }
            (Side::Outside, Some(known)) => self.server_packet(now, packet, &known),
        }
    }

    /// Forwards a packet of the client to the winner, in the form of the configuration.
    fn to_replica(
        &self,
        packet: &Packet,
        headroom: bool,
        (server, replica): (SocketAddr, SocketAddr),
        verdict: Verdict,
    ) -> Outcome {
        if self.configuration != Configuration::C {
            return Outcome::changed(verdict, packet.sent_to(replica));
        }
        debug_assert_eq!(packet.to, server);
        let outer = self.outer(packet.from.ip(), replica.ip(), packet.traffic_class);
        let room = self.room(replica.ip());
        if packet.ip_len() > room && packet.dont_fragment {
            let error = Leaving::Frame(too_big(packet, room));
            return Outcome::answered(Verdict::TooBig, error);
        }
        if packet.ip_len() > room {
            let tunnelled =
                |fragment| Leaving::Tunnel(outer.clone(), Box::new(Leaving::Frame(fragment)));
            let onward = fragments(packet, room).into_iter().map(tunnelled).collect();
            return Outcome { onward, ..Outcome::dropped(Verdict::Fragmented) };
        }
        if !headroom {
            return Outcome::dropped(Verdict::NoBuffer);
        }
        // The sum of a packet follows from a correct checksum, without its data. With a wrong one,
        // the tunnel's checksum is wrong by as much.
        let udp = match outer.udp {
            Udp::Right if !packet.tcp_checksum => Udp::Wrong,
            udp => udp,
        };
        let inside = Leaving::Packet(Box::new(packet.clone()));
        Outcome::sends(verdict, Leaving::Tunnel(Outer { udp, ..outer }, Box::new(inside)))
    }

    /// Returns the tunnel from a client to a replica.
    fn outer(&self, client: IpAddr, replica: IpAddr, class: u8) -> Outer {
        Outer::new(world::format(replica), client, replica, class)
    }

    /// Returns the inner MTU of the tunnel to this replica.
    fn room(&self, replica: IpAddr) -> usize {
        usize::from(world::MTU) - overhead(world::format(replica), replica.is_ipv6())
    }

    /// Notes a packet of a translated connection.
    fn note_flags(&mut self, now: Duration, side: Side, client: SocketAddr, flags: u8) {
        let idle = now - self.change(client).since;
        self.touch(now, client);
        let record = self.change(client);
        // Notes that a RST has not closed its connection.
        if record.state == State::Closing && record.fins != [true; 2] && idle >= RST_GRACE {
            record.state = State::Replica;
        }
        record.fins[side as usize] |= flags & FIN != 0;
        if flags & RST != 0 || flags & FIN != 0 && record.fins == [true; 2] {
            record.state = State::Closing;
        }
    }

    /// Restarts the record's time-out.
    fn touch(&mut self, now: Duration, client: SocketAddr) {
        self.order += 1;
        let order = self.order;
        let record = self.change(client);
        (record.since, record.order) = (now, order);
    }

    fn change(&mut self, client: SocketAddr) -> &mut Record {
        self.records.get_mut(&client).expect("a known client")
    }

    /// Returns the most specific service that covers this endpoint.
    fn service(&self, server: SocketAddr) -> Option<usize> {
        let reach = |service: &Service| match service.scope {
            _ if !service.ports.contains(&server.port()) => None,
            Scope::Any => Some(-1),
            Scope::Prefix(net) => net.contains(&server.ip()).then(|| i16::from(net.prefix_len())),
        };
        let all = self.settings.services.iter().enumerate();
        let covering = all.filter_map(|(number, service)| Some((reach(service)?, number)));
        covering.max_by_key(|(length, _)| *length).map(|(_, number)| number)
    }

    /// Returns whether an address belongs to a service, at any port.
    fn is_service(&self, address: IpAddr) -> bool {
        self.settings.services.iter().any(|service| match service.scope {
            Scope::Any => true,
            Scope::Prefix(net) => net.contains(&address),
        })
    }

    fn permits(&self, service: usize, from: IpAddr) -> bool {
        world::allows(&self.settings.services[service].allowed_replicas, from)
    }
}
