//! The model of the gateway: a map of records, one packet at a time.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipeline::base::time::Ticks;
use pipeline::packet::view::Side;
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::backoff::Backoff;
use pipeline::policy::services::Scope;
use pipeline::role::gateway::{Service, Settings};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::event::Input;
use super::options::Key;
use super::outcome::{Leaving, Outcome};
use super::packet::{ACK, FIN, Packet, RST, SYN};
use super::related::{fragments, too_big};
use super::tunnel::{Outer, Udp, overhead};
use super::world;

mod direct;
mod inside;
mod lost;
mod outside;
mod paths;
mod related;
mod tunnelled;

pub(super) use tunnelled::{cracked, opened};

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Tagged SYN sent, no valid SYN/ACK yet.
    Racing,
    /// A replica won; the client has not acknowledged its SYN/ACK.
    HalfOpen,
    /// A replica won.
    Replica,
    /// The origin won.
    Origin,
    /// FIN seen in one direction.
    HalfClosed,
    /// FINs seen in both directions.
    Closed,
    /// RST seen.
    Reset,
}

impl State {
    /// All states, in the order of their gauges.
    pub const ALL: [State; 7] = [
        State::Racing,
        State::HalfOpen,
        State::Replica,
        State::Origin,
        State::HalfClosed,
        State::Closed,
        State::Reset,
    ];

    /// Returns whether packets are translated.
    pub(super) fn is_translated(self) -> bool {
        self != State::Racing && self != State::Origin
    }
}

/// The gateway's record of a client endpoint.
#[derive(Clone, Debug)]
pub struct Record {
    /// V.
    pub server: SocketAddr,
    /// The SYN's sequence number.
    pub isn: u32,
    /// Sequence number of the last SYN with another number that was sent to the winner only.
    pub pending: Option<u32>,
    /// About the sequence numbers of the next packets, by side.
    pub next: [u32; 2],
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
    /// Whether a SYN of the race was sent with a tag.
    tagged: bool,
    /// Whether a SYN of the race was sent without a tag.
    untagged: bool,
    /// Whether one was, a second after the tagged ones.
    untagged_late: bool,
    /// Whether the SYN to the origin waits, or has waited.
    deferred: bool,
    /// The sender of the last SYN/ACK that waits.
    held: Option<SocketAddr>,
    fins: [bool; 2],
    /// RSTs that have not been taken back.
    resets: [bool; 2],
    /// Whether the client has acknowledged the winner's SYN/ACK.
    opened: bool,
    /// Whether the winner's SYN/ACKs had different sequence numbers.
    two_numbers: bool,
    /// The time at which the client was heard last.
    heard: Duration,
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
        self.replica.filter(|_| self.state.is_translated())
    }

    /// Returns the state of a connection that a replica has won, without its RST.
    fn open_state(&self) -> State {
        match (self.fins, self.opened) {
            ([true, true], _) => State::Closed,
            (_, false) => State::HalfOpen,
            ([false, false], _) => State::Replica,
            _ => State::HalfClosed,
        }
    }
}

/// The gateway.
pub struct Model {
    /// Its configuration.
    pub configuration: Configuration,
    settings: Settings,
    /// The lists of replicas that services had before reloads.
    earlier_lists: Vec<AllowList>,
    key: Option<Key>,
    /// The time of the latest event.
    now: Duration,
    records: HashMap<SocketAddr, Record>,
    paths: paths::Paths,
    /// Says which SYNs are probes: the secret's only use here.
    probes: Backoff,
    fragments: related::Fragments,
    /// The clients that were asked whether they have a connection.
    challenged: HashMap<SocketAddr, lost::Challenge>,
    direct: direct::Direct,
    order: u64,
    /// The clients with a translated record that has timed out, and that the gateway may not have
    /// expired yet.
    lingering: HashSet<IpAddr>,
    /// Evicted records, by family.
    pub evicted: [u64; 2],
}

/// Grace period after a RST: segments already in flight arrive within it.
const RST_GRACE: Duration = Duration::from_secs(3);

/// A FIN or RST counts within so many bytes of the number that the other side expects.
const WINDOW: i32 = 1 << 20;

/// Returns whether a sequence number is near the expected one, on either side.
fn is_near(sequence: u32, expected: u32) -> bool {
    let distance = sequence.wrapping_sub(expected) as i32;
    (-WINDOW..WINDOW).contains(&distance)
}

fn has_right_checksums(packet: &Packet) -> bool {
    packet.ip_checksum && packet.tcp_checksum
}

/// Returns the time between, as the gateway measures how long a client has not been heard: in units
/// of 2^30 ns, up to 2^16 of them.
fn unheard(since: Duration, now: Duration) -> Duration {
    let units = |time: Duration| time.as_nanos() >> 30;
    let between = (units(now) - units(since)) % (1 << 16);
    Duration::from_nanos((between << 30) as u64)
}

fn span(ticks: Ticks) -> Duration {
    Duration::from_nanos(ticks.0)
}

impl Model {
    /// Creates a gateway without connections that signs tags with the key.
    pub fn new(configuration: Configuration, settings: Settings, key: Option<Key>) -> Self {
        Self {
            configuration,
            probes: Backoff::new(Ticks(0), settings.hash_key, 0),
            settings,
            earlier_lists: Vec::new(),
            key,
            now: Duration::ZERO,
            records: HashMap::new(),
            paths: paths::Paths::default(),
            fragments: related::Fragments::default(),
            challenged: HashMap::new(),
            direct: direct::Direct::default(),
            order: 0,
            lingering: HashSet::new(),
            evicted: [0; 2],
        }
    }

    /// Goes on by other settings. Records stay as they are.
    pub fn reload(&mut self, settings: Settings) {
        let earlier = std::mem::replace(&mut self.settings, settings);
        let lists = earlier.services.into_iter().map(|service| service.allowed_replicas);
        self.earlier_lists.extend(lists);
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
                State::Racing | State::HalfOpen => timeouts.racing,
                State::Replica => timeouts.established,
                State::Origin => timeouts.race_window,
                State::HalfClosed | State::Closed | State::Reset => timeouts.closing,
            };
            let lives = now - record.since < span(limit);
            if !lives && record.winner().is_some() {
                lingering.insert(client.ip());
            }
            lives
        });
    }

    /// Notes that the gateway has expired all timed-out records.
    pub fn tidied(&mut self) {
        self.lingering.clear();
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
            (_, None) => self.without_entry(now, side, packet),
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

    /// Notes a packet of a translated connection that came from this side.
    fn track(&mut self, now: Duration, side: Side, packet: &Packet) {
        let client = if side == Side::Inside { packet.from } else { packet.to };
        let is_b = self.configuration == Configuration::B;
        let controls = packet.flags & (SYN | ACK | FIN | RST);
        let record = self.change(client);
        // Who goes on has not sent the RST. Under B servers are not heard.
        let quiet = now - record.since >= RST_GRACE;
        if record.state == State::Reset && controls & RST == 0 && quiet {
            record.resets[side as usize] = false;
            if is_b && side == Side::Inside {
                record.resets = [false; 2];
            }
            if record.resets == [false; 2] {
                record.state = record.open_state();
                self.touch(now, client);
            }
        }
        let record = self.change(client);
        let acknowledges = controls & (SYN | ACK | RST) == ACK
            && (record.two_numbers || is_near(packet.acknowledgement, record.next[1]))
            && has_right_checksums(packet);
        if record.state == State::HalfOpen && side == Side::Inside && acknowledges {
            record.opened = true;
            record.state = record.open_state();
            self.touch(now, client);
        }
        if !matches!(self.change(client).state, State::HalfOpen | State::Reset) {
            self.touch(now, client);
            let record = self.change(client);
            if side == Side::Inside {
                record.heard = now;
            }
            if controls == ACK {
                record.next[side.other() as usize] = packet.acknowledgement;
                if is_b && side == Side::Inside {
                    record.next[0] = packet.sequence;
                }
            }
        }
        if controls & (FIN | RST) != 0 {
            self.end(now, side, packet, client);
        }
    }

    /// Notes a FIN or RST, if it may be from who it says.
    fn end(&mut self, now: Duration, side: Side, packet: &Packet, client: SocketAddr) {
        let is_reset = packet.flags & RST != 0;
        let record = self.change(client);
        let refused = record.pending.map(|isn| isn.wrapping_add(1));
        let refuses = side == Side::Outside && is_reset && refused == Some(packet.acknowledgement);
        let is_near = is_near(packet.sequence, record.next[side as usize]);
        if !(is_near || refuses) || !has_right_checksums(packet) {
            return;
        }
        let before = record.state;
        record.fins[side as usize] |= packet.flags & FIN != 0;
        record.state = match before {
            State::Closed => State::Closed,
            _ if is_reset => {
                record.resets[side as usize] = true;
                State::Reset
            }
            State::Reset if record.fins != [true; 2] => State::Reset,
            _ => record.open_state(),
        };
        if record.state != before {
            self.touch(now, client);
        }
    }

    /// Returns whether a replica of the record's service may send from this address.
    fn may_be_replica(&self, client: SocketAddr, known: &Record, from: SocketAddr) -> bool {
        from.ip() != client.ip()
            && from.ip() != known.server.ip()
            && self.permits(known.service, from.ip())
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
            _ if service.retired || !service.ports.contains(&server.port()) => None,
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
