//! The attacker's packets.

use std::net::{IpAddr, SocketAddr};

use firstack_packets::tag::{self, SIGNED};
use firstack_packets::{self as packets, Body, Content, Icmp, Ip, Payload, Tcp, icmp};
use firstack_packets::{ethernet_frame, tunnel};

use crate::simulation::address::{CLIENTS, HOST, Mac, ROUTER, Site, mac};
use crate::simulation::plan::{Configuration, Plan};
use crate::simulation::rng::Rng;
use crate::simulation::station::Frame;
use crate::simulation::variety::Signing;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// The attacker's MAC address at the clients' site.
pub(super) fn own_mac() -> Mac {
    mac(CLIENTS, 0x66)
}

/// A forged segment.
#[derive(Clone, Debug)]
pub(super) struct Forged {
    pub(super) ends: (SocketAddr, SocketAddr),
    pub(super) flags: u8,
    pub(super) numbers: (u32, u32),
    pub(super) options: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) bad_checksum: bool,
}

impl Forged {
    pub(super) fn new(ends: (SocketAddr, SocketAddr), flags: u8, numbers: (u32, u32)) -> Self {
        let (options, data) = (Vec::new(), Vec::new());
        Self { ends, flags, numbers, options, data, bad_checksum: false }
    }

    pub(super) fn options(mut self, options: Vec<u8>) -> Self {
        self.options = options;
        self
    }

    pub(super) fn spoiled(mut self, bad_checksum: bool) -> Self {
        self.bad_checksum = bad_checksum;
        self
    }

    /// Returns the IP packet.
    pub(super) fn packet(&self) -> Vec<u8> {
        self.ip().bytes()
    }

    pub(super) fn ip(&self) -> Ip {
        let (from, to) = self.ends;
        let tcp = Tcp {
            source: from.port(),
            destination: to.port(),
            seq: self.numbers.0,
            ack: self.numbers.1,
            flags: self.flags,
            window: 1_000,
            options: self.options.clone(),
            data: self.data.clone(),
            bad_checksum: self.bad_checksum,
            ..Tcp::default()
        };
        Ip::new(from.ip(), to.ip(), Payload::Tcp(tcp))
    }

    /// Returns the frame between two MAC addresses: destination and source.
    pub(super) fn frame(&self, macs: (Mac, Mac)) -> Frame {
        ethernet_frame(macs, &self.packet())
    }

    /// Returns the frame in a tunnel of IP in IP.
    pub(super) fn tunnelled(&self, (from, to): (IpAddr, IpAddr), macs: (Mac, Mac)) -> Frame {
        ethernet_frame(macs, &tunnel(&from.to_string(), &to.to_string(), 0, &self.packet()))
    }
}

/// Returns the MAC addresses of a frame from the router of a site to its first host.
pub(super) fn from_router(site: Site) -> (Mac, Mac) {
    (mac(site, HOST), mac(site, ROUTER))
}

/// Returns the MAC addresses of a frame from the attacker inside to the router.
pub(super) fn from_inside() -> (Mac, Mac) {
    (mac(CLIENTS, ROUTER), own_mac())
}

/// Returns a tag that the attacker can make: unsigned, or with a wrong MAC.
pub(super) fn tag(plan: &Plan, rng: &mut Rng) -> Vec<u8> {
    let flags = tag::flags(plan.configuration as u8);
    match plan.signing {
        Signing::Not => tag::unsigned(flags).to_vec(),
        _ if rng.chance(500) => tag::unsigned(flags).to_vec(),
        _ => tag::with_mac(flags | SIGNED, 3, rng.next_u64().to_be_bytes()),
    }
}

/// Returns a packet that looks to the gateway as if a replica had sent it in the configuration's
/// form. Under B its outer source is the service's address, which the attacker has to forge.
pub(super) fn as_replica(
    plan: &Plan,
    (replica, service, client): (SocketAddr, SocketAddr, SocketAddr),
    flags: u8,
    numbers: (u32, u32),
    macs: (Mac, Mac),
) -> Frame {
    let from = |source| Forged::new((source, client), flags, numbers);
    match plan.configuration {
        Configuration::A => from(replica).frame(macs),
        Configuration::B => from(replica).tunnelled((service.ip(), client.ip()), macs),
        Configuration::C => from(service).tunnelled((replica.ip(), client.ip()), macs),
    }
}

/// Returns a "too big" error with this MTU that quotes a packet's first bytes.
pub(super) fn too_big(
    (from, to): (IpAddr, IpAddr),
    mtu: u32,
    quoted: Vec<u8>,
    macs: (Mac, Mac),
) -> Frame {
    let (protocol, kind, code) = if from.is_ipv6() { (icmp::V6, 2, 0) } else { (icmp::V4, 3, 4) };
    let content = Content { data: quoted, ..Content::default() };
    let message = Icmp { protocol, kind, code, word: mtu, content, bad_checksum: false };
    let ip = Ip::new(from, to, Payload::Icmp(message));
    packets::Frame::new(macs, Body::Ip(ip)).bytes()
}
