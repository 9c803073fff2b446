//! The tunnels that packets from the outside come in, and what may be wrong with them.

use std::net::{IpAddr, SocketAddr};

use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;
use pipeline::packet::view::Side;
use pipeline::wire::tunnel::Format;

use super::{Incoming, Input, Who, find};
use crate::model::packet::Packet;
use crate::model::tunnel::{Outer, Udp};
use crate::model::{CLIENTS, Carrier, Model, peers};

/// In which form a packet from the outside comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the gateway's configuration has it.
    Usual,
    /// Plain.
    Plain,
    /// Outer source the server's, inner source the peer's.
    AsB,
    /// Outer source the peer's, inner source the server's.
    AsC,
}

/// What is wrong with a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    /// Nothing.
    None,
    /// Its outer source is this peer's.
    OuterSource(usize),
    /// Its outer destination is another client's.
    OuterDestination,
    /// The port within is another.
    InnerPort,
    /// The outer header's checksum.
    IpChecksum,
    /// It is of the other family.
    Family,
    /// There is another tunnel in it.
    Nested,
}

/// The tunnel of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Wrap {
    /// What is in it.
    pub form: Form,
    /// How it is in it.
    pub format: Format,
    /// Its UDP checksum.
    pub udp: Udp,
    /// DSCP and ECN of the outer header.
    pub traffic_class: u8,
    /// What is wrong with it.
    pub twist: Twist,
}

impl Wrap {
    /// What nothing is wrong with.
    pub const USUAL: Self = Self {
        form: Form::Usual,
        format: Format::Ipip,
        udp: Udp::None,
        traffic_class: 0,
        twist: Twist::None,
    };

    /// The tunnel that a packet of a peer comes in, which is given its inner source; `None` when
    /// it comes plain.
    pub(super) fn apply(
        &self,
        model: &Model,
        client: SocketAddr,
        packet: &mut Packet,
        is_syn_ack: bool,
    ) -> Option<Outer> {
        let (peer, server) = (packet.from, find(model, client, Who::Server));
        let form = match (self.form, model.configuration) {
            (Form::Usual, _) if peer == server => Form::Plain,
            (Form::Usual, Configuration::B) if is_syn_ack => Form::AsB,
            (Form::Usual, Configuration::B) => {
                // The replica writes the server's address.
                let winner = find(model, client, Who::Winner);
                packet.from = if peer == winner { server } else { peer };
                Form::Plain
            }
            (Form::Usual, Configuration::C) => Form::AsC,
            (Form::Usual, Configuration::A) => Form::Plain,
            (form, _) => form,
        };
        let mut outer = match form {
            Form::Usual | Form::Plain => return None,
            Form::AsB => self.around(client, server)?,
            Form::AsC => {
                packet.from = server;
                self.around(client, peer)?
            }
        };
        if self.twist == Twist::InnerPort {
            packet.from.set_port(packet.from.port() ^ 1);
        }
        if outer.udp == Udp::Wrong {
            // Two wrongs might make a right.
            packet.tcp_checksum = true;
        }
        outer.to = self.destination(packet.to.ip());
        Some(outer)
    }

    /// A tunnel from this peer, or whom the twist says, to a client.
    pub(super) fn around(&self, client: SocketAddr, peer: SocketAddr) -> Option<Outer> {
        let from = match self.twist {
            Twist::OuterSource(number) => peers(client)[number].ip(),
            _ => peer.ip(),
        };
        let mut outer = Outer::new(self.format, from, client.ip(), self.traffic_class);
        if self.format == Format::Gue {
            outer.udp = self.udp;
        }
        outer.ip_checksum = self.twist != Twist::IpChecksum || from.is_ipv6();
        Some(outer)
    }

    /// The outer destination of a tunnel around what goes to this address.
    pub(super) fn destination(&self, to: IpAddr) -> IpAddr {
        let mut own = CLIENTS.iter().rev().filter(|client| client.is_ipv6() == to.is_ipv6());
        match self.twist {
            Twist::OuterDestination => own.next().map_or(to, |client| client.ip()),
            _ => to,
        }
    }

    /// What comes in of a frame that is put into a tunnel.
    pub(super) fn tunnelled(&self, mut outer: Outer, input: Input, frame: &[u8]) -> Incoming {
        let (input, frame) = match self.twist {
            Twist::Nested => (Input::Foreign(Verdict::ForeignTunnel), outer.around(frame)),
            _ => (input, frame.to_vec()),
        };
        if self.twist == Twist::Family {
            let other = if outer.from.is_ipv6() { CLIENTS[0] } else { CLIENTS[CLIENTS.len() - 1] };
            (outer.from, outer.to) = (peers(other)[4].ip(), other.ip());
            (outer.ip_checksum, outer.udp) = (true, Udp::None);
        }
        let whole = outer.around(&frame);
        (Side::Outside, Input::Tunnelled(outer, Box::new(input)), whole, Carrier::Whole)
    }
}
