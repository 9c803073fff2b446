//! What happens at a gateway: events, how they are made up, and what they are on the wire once
//! it is known how things stand.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use pipeline::verdict::Verdict;
use pipeline::view::Side;

use super::frames::Foreign;
use super::packet::{ACK, Packet, SYN};
use super::related::{IcmpError, fragment};
use super::{CLIENTS, Carrier, ISNS, Model, PEERS};

mod strategy;

pub use strategy::{crowd, story};

/// Another end of a connection, as things stand when the event happens.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// The V of the client's record, or the first server.
    Server,
    /// The replica that won, or the first replica.
    Winner,
    /// The other server that the client has asked meanwhile, or the second replica.
    Second,
    /// This one of [`PEERS`].
    Peer(usize),
}

/// A sequence number of a start packet.
#[derive(Clone, Copy, Debug)]
pub enum Isn {
    /// That of the client's record: a retransmission.
    Same,
    /// This one of [`ISNS`].
    Nth(usize),
}

/// What stands in a start packet, or about it.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Option area.
    pub options: Vec<u8>,
    /// Data.
    pub payload: Vec<u8>,
    /// Whether the IP and the TCP checksum are right.
    pub checksums: (bool, bool),
    /// Whether its buffer has room for a tag.
    pub headroom: bool,
}

/// One thing that happens between a client and a peer.
#[derive(Clone, Debug)]
pub enum Event {
    /// The client sends a start packet.
    Start(Isn, Shape),
    /// The peer sends an acknowledgement. Its number is right but for this addend; its IP and
    /// its TCP checksum are right or not.
    Acknowledgement(u32, (bool, bool)),
    /// Any other packet comes in by a side.
    Segment(Side, Segment),
    /// By a side comes what is nobody's business, as near to the connection's as can be.
    Foreign(Side, Foreign),
    /// By a side comes an ICMP error about a packet that went out by it.
    Error(Side, IcmpReport),
    /// By a side comes the first fragment of a packet with this identification, or the other.
    Fragment(Side, u16, bool),
    /// The gateway tidies up.
    Housekeeping,
}

/// An ICMP error, but for the packet that it is about.
#[derive(Clone, Debug)]
pub struct IcmpReport {
    /// ICMP type.
    pub kind: u8,
    /// Bytes quoted behind the IP header, at most 20.
    pub bytes: usize,
    /// Whether it is between the ends themselves, or between a router and one of them.
    pub end_to_end: bool,
}

/// A packet with any control bits.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// The control bits but ECE and CWR.
    pub flags: u8,
    /// Data.
    pub payload: Vec<u8>,
    /// Whether the data lie in a buffer segment of their own; the TCP checksum is wrong then.
    pub split: bool,
}

/// What a packet wears beside what matters.
#[derive(Clone, Debug, Default)]
pub struct Dress {
    /// VLAN tags.
    pub vlans: Vec<(u16, u16)>,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// IP identification.
    pub id: u16,
    /// IP time to live, less one.
    pub ttl: u8,
    /// Words of IP options.
    pub ip_options: usize,
    /// The control bits ECE and CWR.
    pub ecn_flags: u8,
    /// Bytes behind the IP packet.
    pub padding: usize,
}

/// An event, when it happens, and in which dress.
#[derive(Clone, Debug)]
pub struct Step {
    /// Time since the step before.
    pub wait: Duration,
    /// Which of [`CLIENTS`].
    pub client: usize,
    /// The other end.
    pub peer: Who,
    /// The event.
    pub event: Event,
    /// The dress of its packet.
    pub dress: Dress,
}

/// An event on the wire.
#[derive(Clone, Debug)]
pub enum Input {
    /// A TCP packet.
    Tcp(Packet),
    /// An ICMP error.
    Error(IcmpError),
    /// The first fragment of a packet, or the other.
    Fragment(Packet, bool),
    /// Something else, which passes untouched with this verdict.
    Foreign(Verdict),
}

impl Step {
    /// What comes in, by which side, in which frame and buffer; `None` for housekeeping.
    pub fn on_the_wire(&self, model: &Model) -> Option<(Side, Input, Vec<u8>, Carrier)> {
        let (side, packet, carrier) = match &self.event {
            Event::Housekeeping => return None,
            Event::Start(isn, shape) => {
                let packet = self.start(model, *isn, shape);
                let fits = packet.header_len() + packet.payload.len() <= CRAMPED;
                let cramped = !shape.headroom && fits;
                (Side::Inside, packet, if cramped { Carrier::Cramped } else { Carrier::Whole })
            }
            Event::Acknowledgement(addend, checksums) => {
                let known = model.record(CLIENTS[self.client]);
                let mut packet = self.packet(model, Side::Outside, SYN | ACK);
                let isn = known.map_or(ISNS[0], |record| record.isn);
                packet.acknowledgement = isn.wrapping_add(1).wrapping_add(*addend);
                packet.options = vec![2, 4, 5, 0xb4, 1, 3, 3, 9];
                (packet.ip_checksum, packet.tcp_checksum) = *checksums;
                (Side::Outside, packet, Carrier::Whole)
            }
            Event::Segment(side, segment) => {
                let mut packet = self.packet(model, *side, segment.flags);
                packet.payload.clone_from(&segment.payload);
                // What opens or answers is judged by a checksum that must be within reach.
                let split = segment.split && !packet.is_acknowledgement();
                packet.tcp_checksum = !split;
                let first = packet.header_len();
                let carrier = if split { Carrier::Split(first) } else { Carrier::Whole };
                (*side, packet, carrier)
            }
            Event::Error(side, report) => {
                let error = self.error(model, *side, report);
                let frame = error.frame();
                return Some((*side, Input::Error(error), frame, Carrier::Whole));
            }
            Event::Fragment(side, id, first) => {
                let mut packet = self.packet(model, *side, ACK);
                packet.dont_fragment = false;
                packet.id = *id;
                packet.payload = vec![0x5a; 21];
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

    fn start(&self, model: &Model, isn: Isn, shape: &Shape) -> Packet {
        let mut packet = self.packet(model, Side::Inside, SYN);
        packet.sequence = match (isn, model.record(CLIENTS[self.client])) {
            (Isn::Same, Some(record)) => record.isn,
            (Isn::Same, None) => ISNS[0],
            (Isn::Nth(number), _) => ISNS[number],
        };
        packet.options.clone_from(&shape.options);
        packet.payload.clone_from(&shape.payload);
        (packet.ip_checksum, packet.tcp_checksum) = shape.checksums;
        packet
    }

    fn error(&self, model: &Model, side: Side, report: &IcmpReport) -> IcmpError {
        let quoted = self.packet(model, side.other(), ACK);
        let (mut from, mut to) = (*quoted.to.ip(), *quoted.from.ip());
        if !report.end_to_end {
            match side {
                Side::Inside => to = ROUTER,
                Side::Outside => from = ROUTER,
            }
        }
        IcmpError { from, to, kind: report.kind, quoted, bytes: report.bytes }
    }

    /// A packet between client and peer that comes in by `side`.
    fn packet(&self, model: &Model, side: Side, flags: u8) -> Packet {
        let client = CLIENTS[self.client];
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
        packet.ip_options = vec![1; 4 * dress.ip_options];
        (packet.sequence, packet.acknowledgement) = (0x1234_5678, 0x9abc_def0);
        packet
    }
}

/// Neither client nor server.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Length of a frame that leaves its buffer 4 bytes of headroom.
const CRAMPED: usize = pipeline::buffer::HEADROOM - 4;

fn find(model: &Model, client: SocketAddrV4, who: Who) -> SocketAddrV4 {
    let record = model.record(client);
    match who {
        Who::Server => record.map_or(PEERS[0], |record| record.server),
        Who::Winner => record.and_then(|record| record.replica).unwrap_or(PEERS[4]),
        Who::Second => record.and_then(|record| record.second).unwrap_or(PEERS[5]),
        Who::Peer(number) => PEERS[number],
    }
}
