//! The model of the replica: a record per client endpoint, one packet at a time.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipeline::base::time::Ticks;
use pipeline::role::replica::{Server, Settings};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::options::Key;
use super::outcome::{Leaving, Outcome};
use super::packet::{ACK, FIN, Packet, RST, SYN};
use super::related::{fragments, too_big};
use super::tunnel::{Outer, Udp, overhead};
use super::world::{MTU, format};

mod copy;
pub mod event;
mod gateway;
mod related;
mod repair;
mod world;

pub use world::{SERVICES, server_of, service, settings};

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// The SYN was sent to the web server.
    Opening,
    /// The client has acknowledged.
    Established,
    /// A FIN was seen.
    HalfClosed,
    /// FINs were seen in both directions.
    Closed,
    /// A RST was seen.
    Reset,
    /// Reset before the client had acknowledged.
    Lost,
}

impl EntryState {
    /// All states, in the order of their gauges.
    pub const ALL: [EntryState; 6] = [
        EntryState::Opening,
        EntryState::Established,
        EntryState::HalfClosed,
        EntryState::Closed,
        EntryState::Reset,
        EntryState::Lost,
    ];
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
    /// Acknowledgement numbers of the client's first ACK, once the web server has responded: to its
    /// first SYN/ACK, and to its last.
    answered: Option<(u32, u32)>,
    /// The client has acknowledged.
    taken: bool,
    /// The sequence number that the web server expects.
    expects: u32,
    /// A later SYN of the same endpoints that was sent to the web server, and its configuration;
    /// `None` for one that is no gateway's.
    next: Option<(u32, Option<Configuration>)>,
    /// How many more copies of the SYN are taken.
    copies_left: u32,
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

    /// Returns the acknowledgement number of the client's first ACK: for its last SYN/ACK, or for
    /// its first.
    pub(super) fn awaits(&self, last: bool) -> u32 {
        let (first, latest) = self.answered.unwrap_or((1, 1));
        if last { latest } else { first }
    }

    /// Returns the sequence number of the client's next packet.
    pub(super) fn expects(&self) -> u32 {
        if self.taken { self.expects } else { self.isn.wrapping_add(1) }
    }

    /// Returns an acknowledgement number of the web server: of the SYN, of a later one, or of data.
    pub(super) fn acknowledged(&self, choice: usize) -> u32 {
        let isn = match (choice, self.next) {
            (1, Some((next, _))) => next,
            (2, _) => self.isn.wrapping_add(77),
            _ => self.isn,
        };
        isn.wrapping_add(1)
    }

    /// Returns a sequence number of the client: of its SYN or a later one, or the next, or one
    /// somewhat ahead.
    pub(super) fn sends(&self, flags: u8, choice: usize) -> u32 {
        match (flags & SYN != 0, choice) {
            (true, 0) => self.isn,
            (true, 1) => self.next.map_or(4711, |(next, _)| next),
            (true, _) => 4711,
            (false, 0) => self.expects(),
            (false, 1) => self.expects().wrapping_add(WINDOW - 1),
            (false, _) => self.expects().wrapping_add(WINDOW),
        }
    }

    /// Returns whether FIN or RST of the client may be its own.
    fn may_end(&self, packet: &Packet) -> bool {
        let ahead = packet.sequence.wrapping_sub(self.expects());
        let fits = match self.taken {
            true => self.answered.is_none() || ahead < WINDOW,
            false => ahead == 0,
        };
        fits && packet.tcp_checksum
    }

    /// Returns whether the web server has the connection, as its packet shows.
    fn is_shown_by(&self, packet: &Packet) -> bool {
        let acknowledged = packet.acknowledgement.wrapping_sub(self.isn.wrapping_add(1));
        let says = !packet.payload.is_empty() || packet.flags & FIN != 0;
        packet.flags & (SYN | RST) == 0 && acknowledged < WINDOW && (says || acknowledged > 0)
    }
}

/// FINs and RSTs count whose numbers are so far ahead.
const WINDOW: u32 = 1 << 20;
/// Copies of one SYN that are taken after the first.
const MORE_COPIES: u32 = 8;
/// Time for which a lost connection is remembered.
const LOST: Duration = Duration::from_secs(10);
/// A plain SYN within this time of a packet may be the gateway's.
const GATEWAY_SENDS_WITHIN: Duration = Duration::from_secs(10);

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
    /// Web servers whose SYN/ACKs have passed.
    answering: HashSet<IpAddr>,
    /// Repeated SYN/ACKs that may pass.
    repairs: repair::Repairs,
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
        let repairs = repair::Repairs::new(settings.syn_ack_repair_rate);
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
            answering: HashSet::new(),
            repairs,
            translates: [false; 2],
            evicted: [0; 2],
            accepted: 0,
            direct_copies: 0,
        }
    }

    /// Goes on by other settings. Records stay as they are.
    pub fn reload(&mut self, settings: Settings) {
        self.settings = settings;
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
                EntryState::HalfClosed | EntryState::Closed | EntryState::Reset => closing,
                EntryState::Lost => return now - entry.since < span(closing).min(LOST),
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
        let mut known = known;
        if let Some((isn, configuration)) = known.next
            && packet.acknowledgement == isn.wrapping_add(1)
        {
            let refuses = packet.flags & RST != 0 && packet.sequence == 0;
            match configuration {
                None if is_syn_ack => {
                    self.entries.remove(&client);
                    return Outcome::untouched(Verdict::NoEntry);
                }
                None if refuses => return Outcome::untouched(Verdict::NoEntry),
                Some(configuration) if is_syn_ack => {
                    known = self.succeed(now, client, isn, configuration);
                }
                _ => {}
            }
        }
        let opening = known.state == EntryState::Opening;
        if !known.taken && is_syn_ack && !self.may_answer(now, client, packet) {
            self.touch(now, client);
            return Outcome::dropped(Verdict::SynAckUnsolicited);
        }
        if opening && known.is_shown_by(packet) {
            self.establish(now, client);
        }
        if packet.flags & RST != 0 {
            self.change(client).given = None;
        }
        // The first refusal, or that of a retransmitted copy.
        let refuses = packet.sequence == 0 && packet.acknowledgement == known.isn.wrapping_add(1);
        let answers = is_syn_ack || packet.flags & RST != 0 && (opening || refuses);
        self.note_flags(now, client, 0, packet);
        let entry = self.change(client);
        if packet.flags & (SYN | RST) == 0 && entry.taken {
            entry.expects = packet.acknowledgement;
        }
        let packet = match (known.configuration, is_syn_ack) {
            (Configuration::C, true) => super::options::clamped(packet, self.room(client)),
            _ => packet.clone(),
        };
        self.to_client(packet, client, &known, answers, Verdict::FromWebServer)
    }

    /// Takes what a SYN/ACK needs that comes before the client has acknowledged one.
    fn may_answer(&mut self, now: Duration, client: SocketAddr, packet: &Packet) -> bool {
        let entry = self.change(client);
        if let Some(left) = entry.credit.checked_sub(1) {
            entry.credit = left;
        } else if entry.state != EntryState::Opening || !self.repairs.take(client.ip(), now) {
            return false;
        }
        let number = packet.sequence.wrapping_add(1);
        let entry = self.change(client);
        let first = entry.answered.map_or(number, |(first, _)| first);
        entry.answered = Some((first, number));
        let server = entry.replica.ip();
        self.answering.insert(server);
        true
    }

    /// Both sides have the connection.
    fn establish(&mut self, now: Duration, client: SocketAddr) {
        self.repairs.earn(client.ip());
        let entry = self.change(client);
        (entry.state, entry.taken) = (EntryState::Established, true);
        entry.expects = entry.isn.wrapping_add(1);
        self.touch(now, client);
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
        (entry.answered, entry.next, entry.copies_left) = (None, None, MORE_COPIES);
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
            if packet.sequence == entry.isn {
                entry.credit += more;
            } else if entry.next.is_none_or(|(isn, _)| isn != packet.sequence) {
                entry.next = Some((packet.sequence, Some(entry.configuration)));
            }
        } else if packet.flags & (SYN | ACK | RST) == ACK && entry.state == EntryState::Opening {
            let (configuration, server) = (entry.configuration, entry.replica.ip());
            let fits = match entry.answered {
                Some((first, last)) => [first, last].contains(&packet.acknowledgement),
                None => configuration == Configuration::A && !self.answering.contains(&server),
            };
            if fits && packet.tcp_checksum {
                self.establish(now, client);
            }
        }
        self.note_flags(now, client, 1, packet);
    }

    fn note_flags(&mut self, now: Duration, client: SocketAddr, side: usize, packet: &Packet) {
        let entry = self.change(client);
        if entry.state == EntryState::Reset && now - entry.since >= RST_GRACE {
            entry.state = match entry.fins.contains(&true) {
                true => EntryState::HalfClosed,
                false => EntryState::Established,
            };
        }
        self.touch(now, client);
        let entry = self.change(client);
        let (fin, rst) = (packet.flags & FIN != 0, packet.flags & RST != 0);
        if !fin && !rst || side == 1 && !entry.may_end(packet) {
            return;
        }
        entry.fins[side] |= fin && entry.taken;
        entry.state = match entry.state {
            EntryState::Opening | EntryState::Lost if !rst => entry.state,
            EntryState::Opening | EntryState::Lost => EntryState::Lost,
            _ if entry.fins == [true; 2] => EntryState::Closed,
            _ if rst => EntryState::Reset,
            EntryState::Established => EntryState::HalfClosed,
            state => state,
        };
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
