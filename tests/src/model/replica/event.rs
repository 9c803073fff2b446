//! Events at a replica, and the packets that they become once the model's state is known.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;
use pipeline::wire::tunnel::Format;

use super::{ReplicaModel, server_of, service};
use crate::model::corpus::{arp, neighbour};
use crate::model::frames::Foreign;
use crate::model::outcome::Outcome;
use crate::model::packet::{ACK, Packet, SYN};
use crate::model::related::IcmpError;
use crate::model::tunnel::{Outer, Udp, overhead};
use crate::model::world::{CLIENTS, FIRST_V6, MTU, format, peers};
use crate::model::{Carrier, ISNS};

mod strategy;
mod wire;

pub use strategy::trace;

/// The signature of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// None.
    None,
    /// Valid.
    Right,
    /// Wrong by one bit.
    Wrong,
}

/// The tag of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// No tag.
    None,
    /// A tag whose length contradicts its flags.
    Bad,
    /// A well-formed tag.
    Sound {
        /// Whether it permits redirection.
        permitted: bool,
        /// The configuration; `None` for the undefined value.
        configuration: Option<Configuration>,
        /// Its signature.
        signature: Signature,
    },
}

/// The way that a copy comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a switch.
    Switch,
    /// From the gateway, to the tunnel address.
    ToTunnel,
    /// From the gateway, to the web server of the step's service.
    ToWebServer,
}

/// The contents of a tunnel from a switch.
#[derive(Clone, Debug)]
pub enum Inside {
    /// A copy of a SYN, or a similar packet; the same without its tag; that tag.
    Copy(Packet, Packet, Tag),
    /// An ICMP error.
    Error(IcmpError),
    /// An echo request.
    Echo {
        /// Its sender.
        switch: IpAddr,
        /// Its receiver.
        to: IpAddr,
        /// A packet with the MAC addresses and VLAN tags of a reply.
        packet: Packet,
        /// Identifier and sequence number.
        word: u32,
        /// Its data.
        data: Vec<u8>,
    },
    /// A fragment.
    Fragment(Packet, bool),
    /// Another tunnel.
    Nested,
}

/// The other end of a connection, at the time of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The end of the connection itself.
    Right,
    /// The web server of the step's service.
    WebServer,
    /// The step's service.
    Service,
    /// Another host.
    Stranger,
}

/// A tunnel, and its defects.
#[derive(Clone, Copy, Debug)]
pub struct Wrap {
    /// Its format.
    pub format: Format,
    /// Its UDP checksum.
    pub udp: Udp,
    /// DSCP and ECN of the outer header.
    pub traffic_class: u8,
    /// Whether its outer header checksum is correct.
    pub ip_checksum: bool,
    /// Whether its source is correct.
    pub from_right: bool,
    /// Whether its destination is correct.
    pub to_right: bool,
    /// Whether a switch's tunnel is of another family than its content.
    pub mixed: bool,
}

/// An event between a client and a service.
#[derive(Clone, Debug)]
pub enum Event {
    /// A switch or a gateway sends a copy of a SYN.
    Copy {
        /// The way that it comes by.
        way: Way,
        /// Index in [`crate::model::ISNS`].
        isn: usize,
        /// Its tag.
        tag: Tag,
        /// Control bits: mostly SYN.
        flags: u8,
        /// Number of data bytes.
        data: bool,
        /// Whether IP and TCP checksum are correct.
        checksums: (bool, bool),
    },
    /// A switch sends an echo request, or an unexpected packet.
    OfSwitch(u8),
    /// A web server sends a packet; its excess over the tunnel's inner MTU, and DF.
    Web(Who, u8, Option<(i8, bool)>),
    /// A gateway sends a packet, tunnelled or plain.
    Gateway(bool, Who, u8),
    /// An ICMP error from a side, tunnelled or plain, that quotes this many bytes.
    Error(Side, bool, [u8; 2], usize, bool),
    /// A fragment: side, tunnelled or plain, identification, whether it is the first.
    Fragment(Side, bool, u16, bool),
    /// A foreign frame.
    Foreign(Side, Foreign),
    /// A web server announces its MAC address.
    Learn,
    /// Operator or health check: out of service, busy.
    Admission(bool, bool),
    /// The replica does its periodic work.
    Housekeeping,
    /// The same, after a time in which a copy becomes the client's retransmission.
    Rest,
}

/// An event with its time and place.
#[derive(Clone, Debug)]
pub struct Step {
    /// Time since the previous step.
    pub wait: Duration,
    /// Index in [`CLIENTS`].
    pub client: usize,
    /// Index of the service.
    pub service: usize,
    /// The event.
    pub event: Event,
    /// The tunnel.
    pub wrap: Wrap,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// VLAN tags.
    pub vlans: Vec<(u16, u16)>,
    /// Index in [`ISNS`] of a web server's sequence numbers.
    pub sequence: usize,
    /// Whether the acknowledgement number is correct for the other end's SYN.
    pub acknowledges: bool,
}

/// An acknowledgement number that matches no packet.
const BLIND: u32 = 0x1234_5678;

/// A received frame and its predicted outcome.
pub struct Incoming {
    /// Receiving side.
    pub side: Side,
    /// The frame.
    pub frame: Vec<u8>,
    /// Its buffer.
    pub carrier: Carrier,
    /// Its outcome.
    pub outcome: Outcome,
}

impl Step {
    fn end(&self) -> SocketAddr {
        CLIENTS[self.client]
    }

    fn service(&self) -> SocketAddr {
        service(self.end(), self.service)
    }

    /// Returns the received frame and its outcome, or `None` without a frame.
    pub fn happens(&self, model: &mut ReplicaModel, now: Duration) -> Option<Incoming> {
        let (side, frame, outcome) = match &self.event {
            Event::Housekeeping | Event::Rest | Event::Admission(..) => return None,
            Event::Copy { .. } => self.copy(model, now),
            Event::OfSwitch(what) => self.of_switch(model, now, *what),
            Event::Web(who, flags, fill) => {
                let client = self.end();
                let right = model.entry(client).map(|entry| entry.sends_as());
                let from = self.who(*who, right, server_of(client, self.service));
                let mut packet = self.filled(self.packet(from, client, *flags), *fill);
                packet.sequence = ISNS[self.sequence];
                packet.acknowledgement = match model.entry(client) {
                    Some(entry) if self.acknowledges => entry.acknowledged(self.sequence),
                    _ => BLIND,
                };
                let outcome = model.from_web_server(now, &packet);
                (Side::Inside, packet.frame(), outcome)
            }
            Event::Gateway(tunnelled, who, flags) => {
                self.gateway(model, now, (*tunnelled, *who, *flags))
            }
            Event::Error(..) => self.error(model),
            Event::Fragment(..) => self.fragment(model, now),
            Event::Foreign(side, what) => {
                let packet = self.packet(self.end(), self.service(), ACK);
                let (frame, verdict) = what.spoil(&packet);
                (*side, frame, Outcome::untouched(verdict))
            }
            Event::Learn => {
                // Of servers that have to be resolved.
                let number = if self.service == 0 { 0 } else { 4 };
                let address = server_of(self.end(), number);
                let mac = [2, 0, 0, 0, 3, number as u8];
                model.learn(address.ip(), mac);
                let frame = match address.ip() {
                    IpAddr::V4(v4) => arp(2, mac, v4.octets(), [0; 4]),
                    IpAddr::V6(_) => neighbour(true, mac, address, address),
                };
                (Side::Inside, frame, Outcome::dropped(Verdict::NeighbourLearned))
            }
        };
        Some(Incoming { side, frame, carrier: Carrier::Whole, outcome })
    }

    fn who(&self, who: Who, right: Option<SocketAddr>, otherwise: SocketAddr) -> SocketAddr {
        match who {
            Who::Right => right.unwrap_or(otherwise),
            Who::WebServer => server_of(self.end(), self.service),
            Who::Service => self.service(),
            Who::Stranger => peers(self.end())[6],
        }
    }

    fn packet(&self, from: SocketAddr, to: SocketAddr, flags: u8) -> Packet {
        let mut packet = Packet::new(from, to, flags);
        packet.vlans.clone_from(&self.vlans);
        packet.traffic_class = self.traffic_class;
        if flags & SYN != 0 {
            packet.options = vec![2, 4, 5, 0xb4, 1, 3, 3, 9];
        }
        packet
    }

    /// Returns the packet with data so that it exceeds the tunnel's inner MTU by this much.
    fn filled(&self, mut packet: Packet, fill: Option<(i8, bool)>) -> Packet {
        if let Some((over, dont_fragment)) = fill {
            let client = self.end().ip();
            let room = usize::from(MTU) - overhead(format(client), client.is_ipv6());
            packet.payload = vec![7; (room - packet.ip_len()).wrapping_add_signed(over.into())];
            packet.dont_fragment = dont_fragment || packet.is_v6();
        }
        packet
    }

    /// Returns a tunnel between these ends, or wrong ones by its defects.
    fn outer(&self, from: SocketAddr, to: SocketAddr) -> Outer {
        let wrap = &self.wrap;
        let other = |end: SocketAddr| peers(end)[6].ip();
        let from = if wrap.from_right { from.ip() } else { other(from) };
        let to = if wrap.to_right { to.ip() } else { other(to) };
        let mut outer = Outer::new(wrap.format, from, to, wrap.traffic_class);
        outer.ip_checksum = wrap.ip_checksum || from.is_ipv6();
        if wrap.format == Format::Gue {
            outer.udp = wrap.udp;
        }
        outer
    }

    /// Returns the tunnel of a copy.
    fn copies(&self, way: Way) -> Outer {
        let client = self.end();
        match way {
            Way::Switch => self.switch(),
            Way::ToTunnel => self.outer(client, peers(client)[4]),
            Way::ToWebServer => self.outer(client, server_of(client, self.service)),
        }
    }

    /// Returns the tunnel of a switch, of either family.
    fn switch(&self) -> Outer {
        let client = self.end();
        let own = if client.is_ipv6() == self.wrap.mixed { CLIENTS[0] } else { CLIENTS[FIRST_V6] };
        self.outer(peers(own)[0], peers(own)[4])
    }
}
