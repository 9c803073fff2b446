//! The model of the replica: a record per client endpoint, one packet at a time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipeline::base::time::Ticks;
use pipeline::role::replica::{Server, Settings};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::options::Key;
use super::outcome::{Leaving, Outcome};
use super::packet::{ACK, FIN, Packet, RST};
use super::related::{fragments, too_big};
use super::tunnel::{Outer, Udp, overhead};
use super::world::{MTU, format};

mod copy;
pub mod event;
mod gateway;
mod related;
mod world;

pub use world::{SERVICES, server_of, service, settings};

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// The SYN was sent to the web server.
    Opening,
    /// The client has acknowledged.
    Established,
    /// FINs seen in both directions, or a RST.
    Closing,
}

impl EntryState {
    /// All states, in the order of their gauges.
    pub const ALL: [EntryState; 3] =
        [EntryState::Opening, EntryState::Established, EntryState::Closing];
}

/// The replica's record of a client endpoint.
#[derive(Clone, Debug)]
pub struct Entry {
    /// V.
    pub server: SocketAddr,
    /// R.
    pub replica: SocketAddr,
    /// The gateway's configuration.
    pub configuration: Configuration,
    /// Its state.
    pub state: EntryState,
    /// The SYN's sequence number.
    pub isn: u32,
    /// Whether the web server has V's address and gets packets for it.
    bears: bool,
    credit: u32,
    /// Acknowledgement number of the client's first ACK, once the web server has responded.
    answered: Option<u32>,
    /// The client has acknowledged.
    taken: bool,
    /// A later SYN of the same endpoints that was sent to the web server, and its configuration.
    next: Option<(u32, Configuration)>,
    /// When a copy was last given to the web server; `None` once that has refused.
    given: Option<Duration>,
    fins: [bool; 2],
    since: Duration,
    order: u64,
}

impl Entry {
    /// Returns the source of the web server's packets.
    pub fn sends_as(&self) -> SocketAddr {
        if self.bears { self.server } else { self.replica }
    }

    /// Returns the acknowledgement number of the client's first ACK.
    pub(super) fn awaits(&self) -> u32 {
        self.answered.unwrap_or(1)
    }
}

/// Grace period after a RST: segments already in flight arrive within it.
const RST_GRACE: Duration = Duration::from_secs(3);
/// How long a frame is pending for a MAC address.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The replica.
pub struct ReplicaModel {
    settings: Settings,
    key: Option<Key>,
    /// Out of service.
    pub dead: bool,
    /// Set busy.
    pub busy: bool,
    entries: HashMap<SocketAddr, Entry>,
    fragments: related::Fragments,
    /// Learned MAC addresses.
    neighbours: HashMap<IpAddr, [u8; 6]>,
    /// Pending frames: their receivers and times.
    waiting: Vec<(IpAddr, Duration, Vec<u8>)>,
    /// Tokens of the SYN rate limit in billionths, and their time.
    tokens: (u128, Duration),
    /// How often signed tags were admitted.
    admitted: HashMap<Vec<u8>, u32>,
    order: u64,
    /// By family: whether any connection since the table was last empty was of B or C.
    translates: [bool; 2],
    /// Evicted records, by family.
    pub evicted: [u64; 2],
    /// Connections that copies have opened.
    accepted: u64,
    /// Connections that direct copies have opened.
    pub direct_copies: u64,
}

fn span(ticks: Ticks) -> Duration {
    Duration::from_nanos(ticks.0)
}

impl ReplicaModel {
    /// Creates a replica without connections, with this key.
    pub fn new(settings: Settings, key: Option<Key>) -> Self {
        let tokens = (u128::from(settings.busy_syn_rate) * 1_000_000_000, Duration::ZERO);
        Self {
            settings,
            key,
            dead: false,
            busy: false,
            entries: HashMap::new(),
            fragments: related::Fragments::default(),
            neighbours: HashMap::new(),
            waiting: Vec::new(),
            tokens,
            admitted: HashMap::new(),
            order: 0,
            translates: [false; 2],
            evicted: [0; 2],
            accepted: 0,
            direct_copies: 0,
        }
    }

    /// Returns the record of a client endpoint.
    pub fn entry(&self, client: SocketAddr) -> Option<&Entry> {
        self.entries.get(&client)
    }

    /// Returns the number of a family's connections in a state.
    pub fn count(&self, is_v6: bool, state: EntryState) -> usize {
        let own = self.entries.iter().filter(|(client, _)| client.is_ipv6() == is_v6);
        own.filter(|(_, entry)| entry.state == state).count()
    }

    /// Advances the time and expires records. Returns pending frames that have timed out.
    pub fn pass(&mut self, now: Duration) -> Vec<Leaving> {
        let [opening, established, closing] = self.settings.timeouts;
        self.entries.retain(|_, entry| {
            let limit = match entry.state {
                EntryState::Opening => opening,
                EntryState::Established => established,
                EntryState::Closing => closing,
            };
            now - entry.since < span(limit)
        });
        let mut released = Vec::new();
        let neighbours = &self.neighbours;
        self.waiting.retain(|(address, since, frame)| {
            if now - *since > MAX_WAIT {
                return false;
            }
            let Some(mac) = neighbours.get(address) else { return true };
            released.push(Leaving::Frame([&mac[..], &frame[6..]].concat()));
            false
        });
        released
    }

    /// Learns a web server's MAC address.
    pub fn learn(&mut self, address: IpAddr, mac: [u8; 6]) {
        self.neighbours.insert(address, mac);
    }

    /// Handles a packet of a web server.
    pub fn from_web_server(&mut self, now: Duration, packet: &Packet) -> Outcome {
        let client = packet.to;
        let Some(known) = self.entry(client).cloned() else {
            return Outcome::untouched(Verdict::NoEntry);
        };
        if packet.from != known.sends_as() {
            return Outcome::untouched(Verdict::NoEntry);
        }
        let is_syn_ack = packet.is_syn_ack();
        let accepted =
            |(isn, _): &(u32, Configuration)| packet.acknowledgement == isn.wrapping_add(1);
        let next = known.next.filter(accepted).filter(|_| is_syn_ack);
        let known = match next {
            Some((isn, configuration)) => self.succeed(now, client, isn, configuration),
            None => known,
        };
        let opening = known.state == EntryState::Opening;
        if !known.taken && is_syn_ack {
            if known.credit == 0 {
                self.touch(now, client);
                return Outcome::dropped(Verdict::SynAckUnsolicited);
            }
            let entry = self.change(client);
            entry.credit -= 1;
            entry.answered = Some(packet.sequence.wrapping_add(1));
        }
        if packet.flags & RST != 0 {
            self.change(client).given = None;
        }
        // The first refusal, or that of a retransmitted copy.
        let refuses = packet.sequence == 0 && packet.acknowledgement == known.isn.wrapping_add(1);
        let answers = is_syn_ack || packet.flags & RST != 0 && (opening || refuses);
        self.note_flags(now, client, 0, packet.flags);
        let packet = match (known.configuration, is_syn_ack) {
            (Configuration::C, true) => super::options::clamped(packet, self.room(client)),
            _ => packet.clone(),
        };
        self.to_client(packet, client, &known, answers, Verdict::FromWebServer)
    }

    /// The web server has accepted a later SYN of the same endpoints.
    fn succeed(
        &mut self,
        now: Duration,
        client: SocketAddr,
        isn: u32,
        configuration: Configuration,
    ) -> Entry {
        let credit = 1 + u32::from(self.settings.syn_ack_retransmits);
        let entry = self.change(client);
        (entry.isn, entry.configuration, entry.credit) = (isn, configuration, credit);
        (entry.state, entry.fins, entry.taken) = (EntryState::Opening, [false; 2], false);
        (entry.answered, entry.next) = (None, None);
        self.touch(now, client);
        self.change(client).clone()
    }

    /// Forwards to the client, in the form of the connection.
    fn to_client(
        &self,
        packet: Packet,
        client: SocketAddr,
        known: &Entry,
        answers: bool,
        verdict: Verdict,
    ) -> Outcome {
        match known.configuration {
            Configuration::A => Outcome::untouched(verdict),
            Configuration::B if answers => self.tunnel(packet, known.server.ip(), client, verdict),
            Configuration::B => Outcome::changed(verdict, packet.sent_by(known.server)),
            Configuration::C => {
                let room = self.room(client);
                if packet.ip_len() > room && packet.dont_fragment {
                    let error = Leaving::Frame(too_big(&packet, room));
                    return Outcome::answered(Verdict::TooBig, error);
                }
                let whole = packet.sent_by(known.server);
                if packet.ip_len() > room {
                    let outer = self.outer(known.replica.ip(), client, packet.traffic_class);
                    let tunnelled = |fragment| {
                        Leaving::Tunnel(outer.clone(), Box::new(Leaving::Frame(fragment)))
                    };
                    let onward = fragments(&whole, room).into_iter().map(tunnelled).collect();
                    return Outcome { onward, ..Outcome::dropped(Verdict::Fragmented) };
                }
                self.tunnel(whole, known.replica.ip(), client, verdict)
            }
        }
    }

    fn tunnel(
        &self,
        packet: Packet,
        from: IpAddr,
        client: SocketAddr,
        verdict: Verdict,
    ) -> Outcome {
        let mut outer = self.outer(from, client, packet.traffic_class);
        if outer.udp == Udp::Right && !packet.tcp_checksum {
            outer.udp = Udp::Wrong;
        }
        Outcome::sends(verdict, Leaving::Tunnel(outer, Box::new(Leaving::Packet(Box::new(packet)))))
    }

    fn outer(&self, from: IpAddr, client: SocketAddr, class: u8) -> Outer {
        Outer::new(format(client.ip()), from, client.ip(), class)
    }

    /// Returns the inner MTU of the tunnel to this client.
    fn room(&self, client: SocketAddr) -> usize {
        usize::from(MTU) - overhead(format(client.ip()), client.is_ipv6())
    }

    /// Notes a packet of the client.
    fn client_goes_on(&mut self, now: Duration, client: SocketAddr, packet: &Packet) {
        let more = 1 + u32::from(self.settings.syn_ack_retransmits);
        let entry = self.change(client);
        if packet.is_syn() {
            entry.credit += more;
        }
        let fits = entry.answered.is_none_or(|number| number == packet.acknowledgement);
        if packet.flags & ACK != 0 && fits {
            match entry.state {
                EntryState::Opening => (entry.state, entry.taken) = (EntryState::Established, true),
                // By a RST that the peer may not have accepted.
                EntryState::Closing => entry.taken |= entry.answered.is_some(),
                EntryState::Established => {}
            }
        }
        self.note_flags(now, client, 1, packet.flags);
    }

    fn note_flags(&mut self, now: Duration, client: SocketAddr, side: usize, flags: u8) {
        let entry = self.change(client);
        let quiet = now - entry.since >= RST_GRACE;
        if entry.state == EntryState::Closing && entry.fins != [true; 2] && quiet {
            entry.state = if entry.taken { EntryState::Established } else { EntryState::Opening };
        }
        self.touch(now, client);
        let entry = self.change(client);
        entry.fins[side] |= flags & FIN != 0;
        if flags & RST != 0 || flags & FIN != 0 && entry.fins == [true; 2] {
            entry.state = EntryState::Closing;
        }
    }

    /// Restarts the record's time-out.
    fn touch(&mut self, now: Duration, client: SocketAddr) {
        self.order += 1;
        let order = self.order;
        let entry = self.change(client);
        (entry.since, entry.order) = (now, order);
    }

    fn change(&mut self, client: SocketAddr) -> &mut Entry {
        self.entries.get_mut(&client).expect("a known client")
    }

    fn web_server(&self, address: IpAddr) -> Option<&Server> {
        let mut all = self.settings.services.iter().flat_map(|service| &service.servers);
        all.find(|server| server.address == address)
    }

    fn is_service(&self, address: IpAddr) -> bool {
        self.settings.services.iter().any(|service| service.address == address)
    }
}
