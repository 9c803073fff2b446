//! Tunnels of packets from the outside, and their defects.

use std::net::{IpAddr, SocketAddr};

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;
use pipeline::wire::tunnel::Format;

use super::{Incoming, Input, Who, find};
use crate::model::packet::Packet;
use crate::model::tunnel::{Outer, Udp};
use crate::model::{CLIENTS, Carrier, Model, peers};

/// The form of a packet from the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The form of the gateway's configuration.
    Usual,
    /// Plain.
    Plain,
    /// Tunnel with the server as outer source, the peer as inner source.
    AsB,
    /// Tunnel with the peer as outer source, the server as inner source.
    AsC,
}

/// A defect of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    /// Nothing.
    None,
    /// The outer source is this peer.
    OuterSource(usize),
    /// The outer destination is another client.
    OuterDestination,
    /// The inner port is wrong.
    InnerPort,
    /// The outer header's checksum is wrong.
    IpChecksum,
    /// It is of the other family.
    Family,
    /// It contains another tunnel.
    Nested,
}

/// The tunnel of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Wrap {
    /// Its form.
    pub form: Form,
    /// Its format.
    pub format: Format,
    /// Its UDP checksum.
    pub udp: Udp,
    /// DSCP and ECN of the outer header.
    pub traffic_class: u8,
    /// Its defect.
    pub twist: Twist,
}

impl Wrap {
    /// A tunnel without defects.
    pub const USUAL: Self = Self {
        form: Form::Usual,
        format: Format::Ipip,
        udp: Udp::None,
        traffic_class: 0,
        twist: Twist::None,
    };

    /// Returns the tunnel of a peer's packet, and sets the packet's inner source. Returns `None`
    /// for a plain packet.
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
            // Two defects could cancel out.
            packet.tcp_checksum = true;
        }
        outer.to = self.destination(packet.to.ip());
        Some(outer)
    }

    /// Returns a tunnel from this peer, or from another by the defect, to a client.
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

    /// Returns the outer destination of a tunnel to this address.
    pub(super) fn destination(&self, to: IpAddr) -> IpAddr {
        let mut own = CLIENTS.iter().rev().filter(|client| client.is_ipv6() == to.is_ipv6());
        match self.twist {
            Twist::OuterDestination => own.next().map_or(to, |client| client.ip()),
            _ => to,
        }
    }

    /// Returns the meaning of an encapsulated frame.
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
