//! A flood of SYNs from spoofed clients, and the packets that reach those clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use firstack_packets::tag::{self, SIGNED};
use firstack_packets::{self as packets, Body, Ip, Payload, Tcp, ethernet_frame, tunnel};
use smoltcp::wire::{EthernetFrame, TcpControl};

use super::address::{HOST, ORIGIN, PORT, REPLICAS, ROUTER, Site, address, mac, service};
use super::attack;
use super::plan::{Family, Nanos, Plan, SECOND};
use super::rng::Rng;
use super::segment::{self, Segment};
use super::station::Frame;
use super::watch;

/// The SYN bit.
const SYN: u8 = 0x02;
/// Number of times that Linux retransmits a SYN/ACK: first after a second, then after twice the
/// time each.
const REPETITIONS: u32 = 5;

/// The packets of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tagged SYNs to the service: the switch copies them.
    Tagged,
    /// Direct copies to the first replica's web server, each of them twice.
    Direct,
    /// SYNs to the first replica's web server, plain and without a tag.
    Plain,
}

/// A flood of spoofed SYNs.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Its packets.
    pub kind: Kind,
    /// Its start.
    pub at: Nanos,
    /// Its duration.
    pub span: Nanos,
    /// SYNs per second and prefix.
    pub rate: u64,
    /// Number of spoofed prefixes, and of addresses in each.
    pub victims: (u8, u8),
}

impl Flood {
    /// Returns the number of SYNs.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.span * self.rate / SECOND * u64::from(self.victims.0)
    }

    /// Returns the time of the SYN with this number.
    #[must_use]
    pub fn time(&self, number: u64) -> Nanos {
        self.at + number * SECOND / (self.rate * u64::from(self.victims.0))
    }

    /// Returns the spoofed endpoint of the SYN with this number. All are different.
    #[must_use]
    pub fn victim(&self, family: Family, number: u64) -> SocketAddr {
        let (prefixes, hosts) = (u64::from(self.victims.0), u64::from(self.victims.1));
        let (prefix, nth) = (number % prefixes, number / prefixes);
        let port = 1024 + (nth / hosts) as u16;
        let (prefix, host) = (prefix as u8, 1 + (nth % hosts) as u8);
        let address: IpAddr = match family {
            Family::V4 => Ipv4Addr::new(198, 19, prefix, host).into(),
            Family::V6 => {
                let prefix = 0xa00 + u16::from(prefix);
                Ipv6Addr::new(0x2001, 0xdb8, prefix, 0, 0, 0, 0, host.into()).into()
            }
        };
        SocketAddr::new(address, port)
    }
}

/// Returns whether this address is spoofed by a flood or an attacker.
#[must_use]
pub fn is_victim(address: IpAddr) -> bool {
    let flooded = match address {
        IpAddr::V4(address) => address.octets()[..2] == [198, 19],
        IpAddr::V6(address) => address.segments()[2] & 0xff00 == 0xa00,
    };
    flooded || attack::is_forged(address)
}

/// Returns a SYN of the flood as it reaches the switch, or the first replica, and the site that it
/// reaches. The signature of its tag is wrong if `forged`, else it is unsigned.
#[must_use]
pub fn start(
    plan: &Plan,
    flood: &Flood,
    number: u64,
    forged: bool,
    rng: &mut Rng,
) -> (Site, Frame) {
    let web = SocketAddr::new(
        address(plan.family, REPLICAS, HOST),
        plan.replicas[0].port.unwrap_or(PORT),
    );
    let (site, to) = match flood.kind {
        Kind::Tagged => (ORIGIN, SocketAddr::new(service(plan.family, 0), PORT)),
        Kind::Direct => (REPLICAS, SocketAddr::new(service(plan.family, 0), PORT)),
        Kind::Plain => (REPLICAS, web),
    };
    let flags = tag::flags(plan.configuration as u8);
    let options = match forged {
        _ if flood.kind == Kind::Plain => Vec::new(),
        true => tag::with_mac(flags | SIGNED, 3, rng.next_u64().to_be_bytes()),
        false => tag::unsigned(flags).to_vec(),
    };
    let from = flood.victim(plan.family, number);
    let tcp = Tcp {
        source: from.port(),
        destination: to.port(),
        seq: rng.next_u64() as u32,
        flags: SYN,
        window: 1_000,
        options,
        ..Tcp::default()
    };
    let ip = Ip::new(from.ip(), to.ip(), Payload::Tcp(tcp));
    // The router sends it to the host that has the address.
    let macs = (mac(site, HOST), mac(site, ROUTER));
    let frame = packets::Frame::new(macs, Body::Ip(ip)).bytes();
    let frame = match flood.kind {
        Kind::Direct => {
            let tunnel = tunnel(&from.ip().to_string(), &web.ip().to_string(), 0, &frame[14..]);
            ethernet_frame(macs, &tunnel)
        }
        Kind::Tagged | Kind::Plain => frame,
    };
    (site, frame)
}

/// Half-open connections of the flood at a server, which responds like Linux.
#[derive(Debug, Default)]
pub struct Crowd {
    /// Received SYNs, by client and sequence number.
    pub came: BTreeMap<(SocketAddr, u32), u32>,
    waiting: BTreeMap<SocketAddr, Waiting>,
    /// Pending SYN/ACK retransmissions, by time.
    due: BTreeMap<(Nanos, SocketAddr), ()>,
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    repeated: u32,
    due: Nanos,
}

impl Crowd {
    /// Handles a packet in a victim's name. Returns the response.
    pub fn take(&mut self, frame: &[u8], segment: &Segment, now: Nanos) -> Option<Frame> {
        if !segment::has_right_checksum(frame) {
            return None;
        }
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let (from, to) = (ethernet.src_addr(), ethernet.dst_addr());
        let header = [from.as_bytes(), to.as_bytes(), &frame[12..14]].concat();
        if !segment.is_syn() {
            let over = self.waiting.remove(&segment.from)?;
            self.due.remove(&(over.due, segment.from));
            // A connection that is open is closed at once: its client says no more.
            let numbers = (segment.acknowledgement, Some(segment.sequence));
            let ends = (segment.to, segment.from);
            return (!segment.rst).then(|| segment::bare(&header, ends, TcpControl::Fin, numbers));
        }
        *self.came.entry((segment.from, segment.sequence)).or_default() += 1;
        let numbers = (segment.sequence ^ 0x5a5a, Some(segment.sequence.wrapping_add(1)));
        let ends = (segment.to, segment.from);
        let answer = segment::bare(&header, ends, TcpControl::Syn, numbers);
        let due = now + SECOND;
        let waiting = Waiting { frame: answer.clone(), repeated: 0, due };
        if let Some(before) = self.waiting.insert(segment.from, waiting) {
            self.due.remove(&(before.due, segment.from));
        }
        self.due.insert((due, segment.from), ());
        Some(answer)
    }

    /// Returns the retransmissions that are due.
    pub fn repeat(&mut self, now: Nanos) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(&(at, client)) = self.due.keys().next().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, client));
            let Some(waiting) = self.waiting.get_mut(&client) else { continue };
            waiting.repeated += 1;
            if waiting.repeated > REPETITIONS {
                self.waiting.remove(&client);
                continue;
            }
            waiting.due = at + (SECOND << waiting.repeated);
            self.due.insert((waiting.due, client), ());
            frames.push(waiting.frame.clone());
        }
        frames
    }

    /// Returns the time of the next retransmission.
    #[must_use]
    pub fn next(&self) -> Option<Nanos> {
        self.due.keys().next().map(|(at, _)| *at)
    }
}

/// Backscatter: packets to the spoofed clients.
#[derive(Debug, Default)]
pub struct Echo {
    /// SYN/ACKs that left a replica's site: time and client.
    pub acknowledgements: Vec<(Nanos, SocketAddr)>,
    /// Other packets.
    pub others: u64,
}

impl Echo {
    /// Records a frame that leaves a replica's site for a victim. Returns whether it is for one.
    pub fn note(&mut self, frame: &[u8], now: Nanos) -> bool {
        let Some((client, acknowledges)) = watch::for_client(frame) else { return false };
        if !is_victim(client.ip()) {
            return false;
        }
        match acknowledges {
            true => self.acknowledgements.push((now, client)),
            false => self.others += 1,
        }
        true
    }
}
