//! Events at a gateway: their generation, and the packets that they become once the model's state
//! is known.

use std::net::SocketAddr;
use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::frames::Foreign;
use super::packet::{ACK, Packet, SYN};
use super::plan::Drawn;
use super::related::{IcmpError, fragment, fragmented};
use super::tunnel::{Outer, overhead};
use super::world::{MTU, format, router};
use super::{CLIENTS, Carrier, ISNS, Model, peers};

mod strategy;
mod wrap;

pub use strategy::{crowd, trace};
pub use wrap::{Form, Twist, Wrap};

/// The other end of a connection, at the time of the event.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// V of the client's record, or the first server.
    Server,
    /// The replica that won, or the first replica.
    Winner,
    /// The other server that the client has contacted since, or the second replica.
    Second,
    /// The client's peer with this index in [`peers`].
    Peer(usize),
}

/// A sequence number of a SYN.
#[derive(Clone, Copy, Debug)]
pub enum Isn {
    /// That of the client's record: a retransmission.
    Same,
    /// The one with this index in [`ISNS`].
    Nth(usize),
}

/// The SYN that a peer acknowledges.
#[derive(Clone, Copy, Debug)]
pub enum Acknowledged {
    /// The SYN of the client's record.
    Raced,
    /// The last SYN with another number that was sent to the winner only, or else the record's.
    Winner,
}

/// The contents of a SYN, and its buffer.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Option area.
    pub options: Vec<u8>,
    /// Data.
    pub payload: Vec<u8>,
    /// Whether the IP and the TCP checksum are correct.
    pub checksums: (bool, bool),
    /// Whether its buffer has headroom for a tag.
    pub headroom: bool,
}

/// An event between a client and a peer.
#[derive(Clone, Debug)]
pub enum Event {
    /// The client sends a SYN.
    Start(Isn, Shape),
    /// The peer sends a SYN/ACK for this SYN. Its acknowledgement number is wrong by this addend;
    /// its IP and TCP checksums are correct or wrong.
    Acknowledgement(Acknowledged, u32, (bool, bool)),
    /// Any other packet arrives on a side.
    Segment(Side, Segment),
    /// A packet that is not handled arrives on a side. It resembles the connection's.
    Foreign(Side, Foreign),
    /// An ICMP error about a packet that left by this side arrives.
    Error(Side, IcmpReport),
    /// The first or second fragment of a packet with this identification arrives on a side.
    Fragment(Side, u16, bool),
    /// The gateway does its periodic work.
    Housekeeping,
    /// The memory publishes plans.
    Plan(Drawn),
}

/// An ICMP error, without the packet that it quotes.
#[derive(Clone, Debug)]
pub struct IcmpReport {
    /// ICMP type: in IPv4 and in IPv6.
    pub kind: [u8; 2],
    /// ICMP code.
    pub code: u8,
    /// Bytes quoted behind the IP header, at most 20.
    pub bytes: usize,
    /// Whether an end of the connection sends it, or a router.
    pub end_to_end: bool,
}

/// A packet with any control bits.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Control bits without ECE and CWR.
    pub flags: u8,
    /// Data.
    pub payload: Vec<u8>,
    /// Whether the data are in a separate buffer segment. The TCP checksum is wrong then.
    pub split: bool,
    /// Instead of that data: excess over the tunnel's inner MTU to the winner, and DF.
    pub fill: Option<(i8, bool)>,
    /// Whether its numbers are those of a response that refuses the SYN.
    pub refuses: bool,
    /// Otherwise: the distance of its sequence number from the one that is expected, with the right
    /// acknowledgement number. `None`: both are wrong.
    pub near: Option<i32>,
}

/// Header fields that do not affect the decision.
#[derive(Clone, Debug, Default)]
pub struct Dress {
    /// VLAN tags.
    pub vlans: Vec<(u16, u16)>,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// IP identification.
    pub id: u16,
    /// IP time to live, minus one.
    pub ttl: u8,
    /// Words of IP options.
    pub ip_options: usize,
    /// The control bits ECE and CWR.
    pub ecn_flags: u8,
    /// Padding bytes behind the IP packet.
    pub padding: usize,
}

/// An event with its time and header fields.
#[derive(Clone, Debug)]
pub struct Step {
    /// Time since the previous step.
    pub wait: Duration,
    /// Index in [`CLIENTS`].
    pub client: usize,
    /// The other end.
    pub peer: Who,
    /// The event.
    pub event: Event,
    /// The tunnel of its packet from the outside.
    pub wrap: Wrap,
    /// Header fields of its packet.
    pub dress: Dress,
}

/// A received packet.
#[derive(Clone, Debug)]
pub enum Input {
    /// A TCP packet.
    Tcp(Packet),
    /// An ICMP error.
    Error(IcmpError),
    /// The first or second fragment of a packet.
    Fragment(Packet, bool),
    /// Another frame, which is forwarded unmodified with this verdict.
    Foreign(Verdict),
    /// One of these in a tunnel.
    Tunnelled(Outer, Box<Input>),
}

/// A received frame: side, meaning, bytes and buffer.
pub type Incoming = (Side, Input, Vec<u8>, Carrier);

impl Step {
    fn end(&self) -> SocketAddr {
        CLIENTS[self.client]
    }

    /// Returns the received frame, or `None` for periodic work and for plans.
    pub fn on_the_wire(&self, model: &Model) -> Option<Incoming> {
        let (side, packet, carrier) = match &self.event {
            Event::Housekeeping | Event::Plan(_) => return None,
            Event::Start(isn, shape) => {
                let packet = self.start(model, *isn, shape);
                let fits = packet.header_len() + packet.payload.len() <= CRAMPED;
                let cramped = !shape.headroom && fits;
                (Side::Inside, packet, if cramped { Carrier::Cramped } else { Carrier::Whole })
            }
            Event::Acknowledgement(acknowledged, addend, checksums) => {
                let known = model.record(self.end());
                let mut packet = self.packet(model, Side::Outside, SYN | ACK);
                let isn = known.map_or(ISNS[0], |record| match acknowledged {
                    Acknowledged::Raced => record.isn,
                    Acknowledged::Winner => record.pending.unwrap_or(record.isn),
                });
                packet.acknowledgement = isn.wrapping_add(1).wrapping_add(*addend);
                packet.options = vec![2, 4, 5, 0xb4, 1, 3, 3, 9];
                damage(&mut packet, *checksums);
                return Some(self.incoming(model, packet));
            }
            Event::Segment(side, segment) => {
                let packet = self.segment(model, *side, segment);
                if *side == Side::Outside && packet.tcp_checksum {
                    return Some(self.incoming(model, packet));
                }
                let first = packet.header_len();
                let whole = packet.tcp_checksum;
                (*side, packet, if whole { Carrier::Whole } else { Carrier::Split(first) })
            }
            Event::Error(side, report) => return Some(self.error(model, *side, report)),
            Event::Fragment(side, id, first) => {
                let mut packet = self.packet(model, *side, ACK);
                fragmented(&mut packet, *id);
                if *side == Side::Outside
                    && let Some(outer) = self.wrap.apply(model, self.end(), &mut packet, false)
                {
                    let frame = fragment(&packet, *first);
                    let input = Input::Fragment(packet, *first);
                    return Some(self.wrap.tunnelled(outer, input, &frame));
                }
                let frame = fragment(&packet, *first);
                return Some((*side, Input::Fragment(packet, *first), frame, Carrier::Whole));
            }
            Event::Foreign(side, what) => {
                let packet = self.packet(model, *side, ACK);
                let (frame, verdict) = what.spoil(&packet);
                return Some((*side, Input::Foreign(verdict), frame, Carrier::Whole));
            }
        };
        let mut frame = packet.frame();
        match carrier {
            Carrier::Cramped => frame.resize(CRAMPED, 0xee),
            _ => frame.resize(frame.len() + self.dress.padding, 0xee),
        }
        Some((side, Input::Tcp(packet), frame, carrier))
    }

    /// Returns a packet from the outside, in its tunnel if it has one.
    fn incoming(&self, model: &Model, mut packet: Packet) -> Incoming {
        let is_syn_ack = packet.is_syn_ack();
        match self.wrap.apply(model, self.end(), &mut packet, is_syn_ack) {
            Some(outer) => {
                let frame = packet.frame();
                self.wrap.tunnelled(outer, Input::Tcp(packet), &frame)
            }
            None => {
                let mut frame = packet.frame();
                frame.resize(frame.len() + self.dress.padding, 0xee);
                (Side::Outside, Input::Tcp(packet), frame, Carrier::Whole)
            }
        }
    }

    fn start(&self, model: &Model, isn: Isn, shape: &Shape) -> Packet {
        let mut packet = self.packet(model, Side::Inside, SYN);
        packet.sequence = match (isn, model.record(self.end())) {
            (Isn::Same, Some(record)) => record.isn,
            (Isn::Same, None) => ISNS[0],
            (Isn::Nth(number), _) => ISNS[number],
        };
        packet.options.clone_from(&shape.options);
        packet.payload.clone_from(&shape.payload);
        damage(&mut packet, shape.checksums);
        packet
    }

    fn segment(&self, model: &Model, side: Side, segment: &Segment) -> Packet {
        let mut packet = self.packet(model, side, segment.flags);
        packet.payload.clone_from(&segment.payload);
        if let (Some(distance), Some(record)) = (segment.near, model.record(self.end())) {
            packet.sequence = record.next[side as usize].wrapping_add_signed(distance);
            packet.acknowledgement = record.next[side.other() as usize];
        }
        if segment.refuses {
            let isn = model.record(self.end()).map_or(ISNS[0], |record| record.isn);
            (packet.sequence, packet.acknowledgement) = (0, isn.wrapping_add(1));
        }
        if let Some((over, dont_fragment)) = segment.fill {
            let winner = find(model, self.end(), Who::Winner).ip();
            let room = usize::from(MTU) - overhead(format(winner), winner.is_ipv6());
            packet.payload.clear();
            packet.payload = vec![7; (room - packet.ip_len()).wrapping_add_signed(over.into())];
            packet.dont_fragment = dont_fragment || packet.is_v6();
        }
        // SYNs and SYN/ACKs need their checksum in the first segment.
        let split = segment.split && segment.fill.is_none() && !packet.is_syn_ack();
        packet.tcp_checksum = !split;
        packet
    }

    fn error(&self, model: &Model, side: Side, report: &IcmpReport) -> Incoming {
        let mut quoted = self.packet(model, side.other(), ACK);
        let (mut from, mut to) = (quoted.to.ip(), quoted.from.ip());
        if !report.end_to_end {
            match side {
                Side::Inside => to = router(self.end()),
                Side::Outside => from = router(self.end()),
            }
        }
        // Only a quoted tunnel, or the tunnel of the error itself, is opened.
        let form = self.wrap.form;
        let under_c =
            model.configuration == Configuration::C && matches!(form, Form::Usual | Form::AsC);
        let peer = quoted.to;
        let mut tunnel = None;
        if side == Side::Outside && under_c {
            quoted.to = find(model, self.end(), Who::Server);
            tunnel = Some(Outer::new(self.wrap.format, quoted.from.ip(), peer.ip(), 0));
            if self.wrap.twist == Twist::OuterDestination {
                tunnel = None;
            }
        }
        let kind = report.kind[usize::from(quoted.is_v6())];
        let IcmpReport { code, bytes, .. } = *report;
        let mut error = IcmpError { from, to, kind, code, mtu: 1400, quoted, tunnel, bytes };
        if form == Form::AsC && side == Side::Outside {
            // The replica has encapsulated it.
            error.tunnel = None;
            if let Some(mut outer) = self.wrap.around(self.end(), peer) {
                outer.to = self.wrap.destination(error.to);
                let frame = error.frame();
                return self.wrap.tunnelled(outer, Input::Error(error), &frame);
            }
        }
        let frame = error.frame();
        (side, Input::Error(error), frame, Carrier::Whole)
    }

    /// Returns a packet between client and peer that arrives on `side`.
    fn packet(&self, model: &Model, side: Side, flags: u8) -> Packet {
        let client = self.end();
        let peer = find(model, client, self.peer);
        let (from, to) = if side == Side::Inside { (client, peer) } else { (peer, client) };
        let dress = &self.dress;
        let mut packet = Packet::new(from, to, flags | dress.ecn_flags);
        if side == Side::Outside {
            packet.macs = (packet.macs.1, packet.macs.0);
        }
        packet.vlans.clone_from(&dress.vlans);
        (packet.traffic_class, packet.id) = (dress.traffic_class, dress.id);
        packet.ttl = dress.ttl.saturating_add(1);
        packet.ip_options = dress.ip_options;
        (packet.sequence, packet.acknowledgement) = (0x1234_5678, 0x9abc_def0);
        packet
    }
}

fn damage(packet: &mut Packet, (ip, tcp): (bool, bool)) {
    (packet.ip_checksum, packet.tcp_checksum) = (ip || packet.is_v6(), tcp);
}

/// Length of a frame that leaves 4 bytes of headroom in its buffer.
const CRAMPED: usize = pipeline::packet::buffer::HEADROOM - 4;

fn find(model: &Model, client: SocketAddr, who: Who) -> SocketAddr {
    let (record, peers) = (model.record(client), peers(client));
    match who {
        Who::Server => record.map_or(peers[0], |record| record.server),
        Who::Winner => record.and_then(|record| record.replica).unwrap_or(peers[4]),
        Who::Second => record.and_then(|record| record.second).unwrap_or(peers[5]),
        Who::Peer(number) => peers[number],
    }
}
