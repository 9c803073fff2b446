//! Who has which address: ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861), as far as a
//! router between a few stations needs them, and the packets that wait for an answer.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use firstack_packets::{self as packets, Arp, Body, Ip, Payload};
use hashbrown::HashMap;

use super::frame::{ETHERNET, Frame, ICMPV6, IPV6_HEADER, Mac, ipv4_at, ipv6_at, mac_at, u16_at};

/// Packets held per address while it is asked for.
const HELD: usize = 1024;
/// Questions asked before the held packets are given up.
const QUESTIONS: u32 = 5;
/// Time between questions.
const MAX_WAIT: Duration = Duration::from_millis(200);

const ARP_LENGTH: usize = 28;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// A packet that waits for its next hop's hardware address.
#[derive(Debug)]
pub struct Held {
    /// Port where it came in.
    pub from: usize,
    /// The frame.
    pub frame: Frame,
}

#[derive(Debug)]
enum Entry {
    Known(Mac),
    Asking { held: VecDeque<Held>, asked: u32, again: Duration },
}

/// The neighbours of every port.
#[derive(Debug, Default)]
pub struct Neighbours {
    entries: HashMap<(usize, IpAddr), Entry>,
    asking: usize,
}

/// What [`Neighbours::due`] wants done.
#[derive(Debug, Default)]
pub struct Due {
    /// Ask for these addresses at these ports.
    pub ask: Vec<(usize, IpAddr)>,
    /// Nobody answered: port of departure and the packet.
    pub tag_backoffs: Vec<(usize, Held)>,
}

impl Neighbours {
    /// The hardware address, when known.
    #[must_use]
    pub fn find(&self, port: usize, address: IpAddr) -> Option<Mac> {
        match self.entries.get(&(port, address)) {
            Some(Entry::Known(mac)) => Some(*mac),
            _ => None,
        }
    }

    /// Keeps a packet until the address is known. Returns a packet that has to go for it.
    pub fn hold(
        &mut self,
        port: usize,
        address: IpAddr,
        packet: Held,
        now: Duration,
    ) -> Option<Held> {
        let asking = &mut self.asking;
        let entry = self.entries.entry((port, address)).or_insert_with(|| {
            *asking += 1;
            Entry::Asking { held: VecDeque::new(), asked: 0, again: now }
        });
        match entry {
            Entry::Known(_) => Some(packet),
            Entry::Asking { held, .. } => {
                held.push_back(packet);
                if held.len() > HELD { held.pop_front() } else { None }
            }
        }
    }

    /// Notes an address; returns what waited for it.
    pub fn learn(&mut self, port: usize, address: IpAddr, mac: Mac) -> VecDeque<Held> {
        match self.entries.insert((port, address), Entry::Known(mac)) {
            Some(Entry::Asking { held, .. }) => {
                self.asking -= 1;
                held
            }
            _ => VecDeque::new(),
        }
    }

    /// When [`Neighbours::due`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        if self.asking == 0 {
            return None;
        }
        let times = self.entries.values().filter_map(|entry| match entry {
            Entry::Asking { again, .. } => Some(*again),
            Entry::Known(_) => None,
        });
        times.min()
    }

    /// Questions to ask now, and packets whose time is up.
    pub fn due(&mut self, now: Duration) -> Due {
        let mut due = Due::default();
        if self.asking == 0 {
            return due;
        }
        let mut silent = Vec::new();
        for (&(port, address), entry) in &mut self.entries {
            match entry {
                Entry::Asking { asked, again, held } if *again <= now => {
                    if *asked == QUESTIONS {
                        due.tag_backoffs.extend(held.drain(..).map(|packet| (port, packet)));
                        silent.push((port, address));
                    } else {
                        *asked += 1;
                        *again = now + MAX_WAIT;
                        due.ask.push((port, address));
                    }
                }
                _ => {}
            }
        }
        for key in silent {
            self.entries.remove(&key);
            self.asking -= 1;
        }
        // The map has no order of its own: the same packets shall get the same answers.
        due.ask.sort_unstable();
        due.tag_backoffs.sort_by_key(|(port, _)| *port);
        due
    }

    /// Packets that wait, by port of arrival and of departure.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.entries.iter().flat_map(|(&(port, _), entry)| {
            let held = match entry {
                Entry::Asking { held, .. } => Some(held),
                Entry::Known(_) => None,
            };
            held.into_iter().flatten().map(move |packet| (packet.from, port))
        })
    }
}

/// A message of ARP or neighbour discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Whether it asks (ARP request, solicitation) rather than answers.
    pub asks: bool,
    /// Its sender, or for an advertisement the address advertised, when given.
    pub sender: Option<(IpAddr, Mac)>,
    /// The address asked for.
    pub target: IpAddr,
}

/// Reads an ARP frame for IPv4 over Ethernet.
#[must_use]
pub fn parse_arp(frame: &[u8]) -> Option<Message> {
    let arp = frame.get(ETHERNET..ETHERNET + ARP_LENGTH)?;
    if arp[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let sender = ipv4_at(arp, 14);
    let known = !sender.is_unspecified();
    Some(Message {
        asks: u16_at(arp, 6) == 1,
        sender: known.then(|| (sender.into(), mac_at(arp, 8))),
        target: ipv4_at(arp, 24).into(),
    })
}

/// Returns an ARP request (`to` is `None`), or a reply to a station.
#[must_use]
pub fn arp(us: (Ipv4Addr, Mac), target: Ipv4Addr, to: Option<Mac>) -> Frame {
    let arp = Arp {
        operation: if to.is_some() { 2 } else { 1 },
        sender: (us.1.0, us.0),
        target: (to.unwrap_or_default().0, target),
    };
    let macs = (to.unwrap_or(Mac::BROADCAST).0, us.1.0);
    packets::Frame::new(macs, Body::Arp(arp)).bytes()
}

/// Reads a neighbour solicitation or advertisement out of a sound IPv6 packet.
#[must_use]
pub fn parse_discovery(packet: &[u8]) -> Option<Message> {
    let message = packet.get(IPV6_HEADER..)?;
    // RFC 4861, 7.1: hop limit 255 proves that no router forwarded it.
    if packet[6] != ICMPV6 || packet[7] != 255 || message.len() < 24 {
        return None;
    }
    let asks = match message[0] {
        SOLICITATION => true,
        ADVERTISEMENT => false,
        _ => return None,
    };
    let target = ipv6_at(message, 8);
    let source = ipv6_at(packet, 8);
    let speaker = if asks { source } else { target };
    let wanted = if asks { 1 } else { 2 };
    let mac = link_layer_option(&message[24..], wanted).filter(|_| !speaker.is_unspecified());
    Some(Message { asks, sender: mac.map(|mac| (speaker.into(), mac)), target: target.into() })
}

fn link_layer_option(mut options: &[u8], wanted: u8) -> Option<Mac> {
    while options.len() >= 8 {
        let length = usize::from(options[1]) * 8;
        if options[0] == wanted && length == 8 {
            return Some(mac_at(options, 2));
        }
        options = options.get(length.max(8)..)?;
    }
    None
}

/// Returns a solicitation for an address (`to` is `None`), or an advertisement of our own address
/// to a station.
#[must_use]
pub fn discovery(us: (Ipv6Addr, Mac), target: Ipv6Addr, to: Option<(Ipv6Addr, Mac)>) -> Frame {
    let (destination, mac) = to.unwrap_or_else(|| {
        let group = packets::Neighbour::solicited_node(target);
        (group, Mac(packets::Neighbour::multicast_mac(group)))
    });
    let message = packets::Neighbour {
        solicits: to.is_none(),
        flags: if to.is_some() { 0xe0 } else { 0 },
        target,
        mac: Some(us.1.0),
        bad_checksum: false,
    };
    let ip = Ip::new(us.0.into(), destination.into(), Payload::Neighbour(message));
    packets::Frame::new((mac.0, us.1.0), Body::Ip(Ip { ttl: 255, ..ip })).bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEM: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn arp_is_written_and_read() {
        let us = (Ipv4Addr::new(198, 18, 1, 1), US);
        let host = Ipv4Addr::new(198, 18, 1, 10);
        let question = parse_arp(&arp(us, host, None)).unwrap();
        assert!(question.asks && question.target == IpAddr::from(host));
        assert_eq!(question.sender, Some((us.0.into(), US)));
        let answer = parse_arp(&arp(us, host, Some(THEM))).unwrap();
        assert!(!answer.asks);
        assert_eq!(parse_arp(&[0; 30]), None);
    }

    #[test]
    fn discovery_is_written_and_read() {
        let us: Ipv6Addr = "2001:db8:1::1".parse().unwrap();
        let host: Ipv6Addr = "2001:db8:1::12:3456".parse().unwrap();
        let question = discovery((us, US), host, None);
        assert_eq!(mac_at(&question, 0), Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
        let read = parse_discovery(&question[ETHERNET..]).unwrap();
        assert!(read.asks && read.target == IpAddr::from(host));
        assert_eq!(read.sender, Some((us.into(), US)));

        let answer = discovery((us, US), us, Some((host, THEM)));
        let packet = &answer[ETHERNET..];
        let ends = (us.into(), host.into());
        let message = &packet[IPV6_HEADER..];
        assert_eq!(packets::checksum::transport(ends, ICMPV6, message), 0);
        let read = parse_discovery(packet).unwrap();
        assert!(!read.asks);
        assert_eq!(read.sender, Some((us.into(), US)));
    }

    #[test]
    fn a_silent_neighbour_is_asked_five_times_and_given_up() {
        let mut table = Neighbours::default();
        let address: IpAddr = "198.18.1.10".parse().unwrap();
        assert!(table.hold(0, address, Held { from: 1, frame: vec![] }, Duration::ZERO).is_none());
        let mut asked = 0;
        loop {
            let now = table.next_due().unwrap();
            let due = table.due(now);
            asked += due.ask.len();
            if !due.tag_backoffs.is_empty() {
                assert_eq!(now, MAX_WAIT * QUESTIONS);
                break;
            }
        }
        assert_eq!(asked, 5);
        assert_eq!(table.next_due(), None);
    }

    #[test]
    fn an_answer_frees_what_waited_in_order() {
        let mut table = Neighbours::default();
        let address: IpAddr = "198.18.1.10".parse().unwrap();
        for i in 0..3 {
            table.hold(0, address, Held { from: 1, frame: vec![i] }, Duration::ZERO);
        }
        assert_eq!(table.waiting().collect::<Vec<_>>(), vec![(1, 0); 3]);
        let freed = table.learn(0, address, THEM);
        assert!(freed.iter().map(|held| held.frame[0]).eq(0..3));
        assert_eq!(table.find(0, address), Some(THEM));
        assert_eq!(table.next_due(), None);
    }
}
