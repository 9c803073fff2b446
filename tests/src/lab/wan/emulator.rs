//! The router between the sites, without sockets and without a clock.
//!
//! A frame that [`Emulator::receive`] takes is answered (ARP, neighbour discovery, echo to the
//! router), refused (no route, TTL, malformed: each counted), or given to the link from its
//! port to the one it leaves by. The link drops it or sets the time of its arrival;
//! [`Emulator::advance`] then puts it into the outbox of its port, once the next hop's hardware
//! address is known.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use firstack_packets::ethernet_frame;

use super::config::{ConfigError, WanConfig};
use super::counters::{PairCounters, PortCounters, Report, ReportLine};
use super::frame::{
    ARP, ETHERNET, Frame, IPV4, IPV6, Mac, decrement_ttl, ip_addresses, ip_length, ipv4_is_sound,
    ipv6_is_sound, mac_at, set_macs, u16_at,
};
use super::icmp::{self, Trouble};
use super::link::{Admission, Generator, Link};
use super::neighbour::{self, Held, Message, Neighbours};
use super::route::{Hop, Routes};

/// One port as the router sees it.
#[derive(Debug)]
struct Port {
    name: String,
    mac: Mac,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    counters: PortCounters,
    outbox: VecDeque<Frame>,
}

/// One direction between two ports, with what it counts.
#[derive(Debug)]
struct Pair {
    link: Link,
    counters: PairCounters,
}

/// A packet on its way.
#[derive(Debug)]
struct Travelling {
    arrival: Duration,
    sequence: u64,
    from: usize,
    hop: Hop,
    frame: Frame,
}

impl Travelling {
    fn key(&self) -> (Duration, u64) {
        (self.arrival, self.sequence)
    }
}

impl PartialEq for Travelling {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Travelling {}

impl PartialOrd for Travelling {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Travelling {
    /// The earliest arrival is the greatest, for a heap that gives out the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// The router and its links. Time is an argument, counted from any start.
#[derive(Debug)]
pub struct Emulator {
    ports: Vec<Port>,
    pairs: Vec<Pair>,
    routes: Routes,
    neighbours: Neighbours,
    travelling: BinaryHeap<Travelling>,
    sequence: u64,
}

impl Emulator {
    /// A router as configured; `macs` are the hardware addresses of its ports, in their order.
    pub fn new(config: &WanConfig, macs: &[Mac]) -> Result<Self, ConfigError> {
        config.check()?;
        let ports = config.ports.iter().zip(macs).map(|(port, mac)| Port {
            name: port.name.clone(),
            mac: *mac,
            v4: port.ipv4.map(|net| net.addr()),
            v6: port.ipv6.map(|net| net.addr()),
            counters: PortCounters::default(),
            outbox: VecDeque::new(),
        });
        let ports: Vec<_> = ports.collect();
        let mut seeds = Generator::new(config.seed);
        let mut pairs = Vec::new();
        for from in 0..ports.len() {
            for to in 0..ports.len() {
                let link = Link::new(&config.link_between(from, to), seeds.next_u64());
                pairs.push(Pair { link, counters: PairCounters::default() });
            }
        }
        Ok(Self {
            ports,
            pairs,
            routes: Routes::new(config)?,
            neighbours: Neighbours::default(),
            travelling: BinaryHeap::new(),
            sequence: 0,
        })
    }

    /// Changes the delay from one port to another, of packets that come in from now on.
    pub fn set_delay(&mut self, from: usize, to: usize, delay: Duration) {
        let ports = self.ports.len();
        self.pairs[from * ports + to].link.set_delay(delay);
    }

    /// Takes a frame that came in by a port.
    pub fn receive(&mut self, at: usize, frame: Frame, now: Duration) {
        let port = &mut self.ports[at];
        port.counters.received += 1;
        port.counters.received_bytes += frame.len() as u64;
        if frame.len() < ETHERNET {
            port.counters.malformed += 1;
            return;
        }
        let to = mac_at(&frame, 0);
        let for_us = to == port.mac;
        match u16_at(&frame, 12) {
            ARP if for_us || to.is_multicast() => match neighbour::parse_arp(&frame) {
                Some(message) => self.neighbour_message(at, message),
                None => port.counters.malformed += 1,
            },
            IPV4 if for_us && ipv4_is_sound(&frame[ETHERNET..]) => self.route(at, frame, now),
            IPV6 if for_us || to.is_multicast() => self.receive_ipv6(at, frame, now),
            IPV4 if for_us => port.counters.malformed += 1,
            _ => port.counters.ignored += 1,
        }
    }

    fn receive_ipv6(&mut self, at: usize, frame: Frame, now: Duration) {
        let packet = &frame[ETHERNET..];
        let port = &mut self.ports[at];
        if !ipv6_is_sound(packet) {
            port.counters.malformed += 1;
        } else if let Some(message) = neighbour::parse_discovery(packet) {
            self.neighbour_message(at, message);
        } else {
            let (source, destination) = ip_addresses(packet);
            let local =
                |address: IpAddr| matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
            if destination.is_multicast() || local(source) || local(destination) {
                port.counters.ignored += 1;
            } else {
                self.route(at, frame, now);
            }
        }
    }

    /// Learns from a message of ARP or neighbour discovery and answers it when it is for us.
    fn neighbour_message(&mut self, at: usize, message: Message) {
        self.ports[at].counters.neighbour += 1;
        let Some((address, mac)) = message.sender else { return };
        for held in self.neighbours.learn(at, address, mac) {
            self.deliver(held.from, at, mac, held.frame);
        }
        if !message.asks {
            return;
        }
        let port = &self.ports[at];
        let answer = match (message.target, address) {
            (IpAddr::V4(target), IpAddr::V4(sender)) if port.v4 == Some(target) => {
                neighbour::arp((target, port.mac), sender, Some(mac))
            }
            (IpAddr::V6(target), IpAddr::V6(sender)) if port.v6 == Some(target) => {
                neighbour::discovery((target, port.mac), target, Some((sender, mac)))
            }
            _ => return,
        };
        self.send_neighbour(at, answer);
    }

    fn send_neighbour(&mut self, at: usize, frame: Frame) {
        self.ports[at].counters.sent_neighbour += 1;
        self.send(at, frame);
    }

    fn send(&mut self, at: usize, frame: Frame) {
        let port = &mut self.ports[at];
        port.counters.sent += 1;
        port.counters.sent_bytes += frame.len() as u64;
        port.outbox.push_back(frame);
    }

    /// Routes a sound packet.
    fn route(&mut self, at: usize, mut frame: Frame, now: Duration) {
        let packet = &mut frame[ETHERNET..];
        let (_, destination) = ip_addresses(packet);
        let ours = |port: &Port| match destination {
            IpAddr::V4(address) => port.v4 == Some(address),
            IpAddr::V6(address) => port.v6 == Some(address),
        };
        if self.ports.iter().any(ours) {
            self.ports[at].counters.for_router += 1;
            if let Some(reply) = icmp::echo_reply(packet) {
                self.originate(at, &reply, now);
            }
            return;
        }
        let Some(hop) = self.routes.find(destination) else {
            self.ports[at].counters.no_route += 1;
            return self.complain(at, &frame, Trouble::NoRoute, now);
        };
        if !decrement_ttl(packet) {
            self.ports[at].counters.ttl_expired += 1;
            return self.complain(at, &frame, Trouble::TimeExceeded, now);
        }
        self.ports[at].counters.forwarded += 1;
        self.offer(at, hop, frame, now);
    }

    /// Gives a packet to the link from `at` to the port of its next hop.
    fn offer(&mut self, at: usize, hop: Hop, frame: Frame, now: Duration) {
        let length = ip_length(&frame[ETHERNET..]);
        let pair = self.pair(at, hop.port);
        pair.counters.offered += 1;
        match pair.link.admit(now, frame.len(), length) {
            Admission::Arrives(arrival) => {
                self.sequence += 1;
                let sequence = self.sequence;
                self.travelling.push(Travelling { arrival, sequence, from: at, hop, frame });
            }
            Admission::Lost => pair.counters.lost += 1,
            Admission::QueueFull => pair.counters.queue_full += 1,
            Admission::TooBig(mtu) => {
                pair.counters.too_big += 1;
                self.complain(at, &frame, Trouble::TooBig(mtu), now);
            }
        }
    }

    /// Sends the ICMP error about a frame, where one is due.
    fn complain(&mut self, at: usize, frame: &[u8], trouble: Trouble, now: Duration) {
        let port = &self.ports[at];
        if let Some(error) = icmp::error(&frame[ETHERNET..], trouble, port.v4, port.v6) {
            self.originate(at, &error, now);
        }
    }

    /// Sends a packet of the router's own, as if it had come in by that port.
    fn originate(&mut self, at: usize, packet: &[u8], now: Duration) {
        let (_, destination) = ip_addresses(packet);
        if let Some(hop) = self.routes.find(destination) {
            // The hop's link writes the MAC addresses.
            let frame = ethernet_frame(([0; 6], [0; 6]), packet);
            self.ports[at].counters.generated += 1;
            self.offer(at, hop, frame, now);
        }
    }

    /// Moves what has arrived by `now` to the outboxes, and asks for neighbours again.
    pub fn advance(&mut self, now: Duration) {
        while self.travelling.peek().is_some_and(|next| next.arrival <= now) {
            let Some(arrived) = self.travelling.pop() else { break };
            let Travelling { from, hop, frame, .. } = arrived;
            self.pair(from, hop.port).link.arrived(frame.len());
            match hop.mac.or_else(|| self.neighbours.find(hop.port, hop.address)) {
                Some(mac) => self.deliver(from, hop.port, mac, frame),
                None => {
                    let held = Held { from, frame };
                    if let Some(out) = self.neighbours.hold(hop.port, hop.address, held, now) {
                        self.pair(out.from, hop.port).counters.unresolved += 1;
                    }
                }
            }
        }
        let due = self.neighbours.due(now);
        for (port, held) in due.tag_backoffs {
            self.pair(held.from, port).counters.unresolved += 1;
        }
        for (at, address) in due.ask {
            self.ask(at, address);
        }
    }

    fn ask(&mut self, at: usize, address: IpAddr) {
        let Port { mac, v4, v6, .. } = self.ports[at];
        let question = match (address, v4, v6) {
            (IpAddr::V4(target), Some(us), _) => neighbour::arp((us, mac), target, None),
            (IpAddr::V6(target), _, Some(us)) => neighbour::discovery((us, mac), target, None),
            _ => return,
        };
        self.send_neighbour(at, question);
    }

    fn deliver(&mut self, from: usize, to: usize, mac: Mac, mut frame: Frame) {
        set_macs(&mut frame, mac, self.ports[to].mac);
        let counters = &mut self.pair(from, to).counters;
        counters.delivered += 1;
        counters.delivered_bytes += frame.len() as u64;
        self.send(to, frame);
    }

    fn pair(&mut self, from: usize, to: usize) -> &mut Pair {
        let at = from * self.ports.len() + to;
        &mut self.pairs[at]
    }

    /// When [`Emulator::advance`] has something to do next.
    #[must_use]
    pub fn next_event(&self) -> Option<Duration> {
        let arrival = self.travelling.peek().map(|next| next.arrival);
        arrival.into_iter().chain(self.neighbours.next_due()).min()
    }

    /// Frames to send by a port, in order.
    pub fn outbox(&mut self, at: usize) -> &mut VecDeque<Frame> {
        &mut self.ports[at].outbox
    }

    /// Counters of a port, for what only its socket knows.
    pub fn port_counters(&mut self, at: usize) -> &mut PortCounters {
        &mut self.ports[at].counters
    }

    /// All counters as they stand.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut counters: Vec<_> = self.pairs.iter().map(|pair| pair.counters).collect();
        let on_the_way = self.travelling.iter().map(|packet| (packet.from, packet.hop.port));
        for (from, to) in on_the_way.chain(self.neighbours.waiting()) {
            counters[from * self.ports.len() + to].under_way += 1;
        }
        let ports = self
            .ports
            .iter()
            .map(|port| ReportLine::Port { name: port.name.clone(), counters: port.counters });
        let pairs = counters.iter().enumerate().filter_map(|(at, counters)| {
            let (from, to) = (at / self.ports.len(), at % self.ports.len());
            // A port with itself is worth a line only when something turned round there.
            (from != to || counters.offered > 0).then(|| ReportLine::Pair {
                from: self.ports[from].name.clone(),
                to: self.ports[to].name.clone(),
                counters: *counters,
            })
        });
        Report(ports.chain(pairs).collect())
    }
}
