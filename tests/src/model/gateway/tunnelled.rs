//! What comes in tunnels, under B and C: looked up by what is inside.

use std::net::SocketAddr;
use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::{Model, Record, State};
use crate::model::event::Input;
use crate::model::outcome::{Leaving, Outcome};
use crate::model::packet::{Packet, RST};
use crate::model::related::{IcmpError, fragment};
use crate::model::tunnel::{Outer, Udp, decapsulated_class};

/// What is wrong with a tunnel that is to be opened; the class is that of what is inside.
/// Gives the class that it has then.
pub fn opened(outer: &Outer, ip_checksum: bool, tcp: bool, class: u8) -> Result<u8, Verdict> {
    // A checksum over a corrupt packet is not told from a wrong one.
    if !outer.ip_checksum || outer.udp == Udp::Wrong || outer.udp == Udp::Right && !tcp {
        return Err(Verdict::TunnelChecksum);
    }
    if !ip_checksum {
        return Err(Verdict::TunnelInnerChecksum);
    }
    decapsulated_class(class, outer.traffic_class).ok_or(Verdict::TunnelCongestion)
}

/// The packet in a tunnel, as it comes out.
pub fn cracked(outer: &Outer, packet: &Packet) -> Result<Packet, Verdict> {
    let class = opened(outer, packet.ip_checksum, packet.tcp_checksum, packet.traffic_class)?;
    Ok(Packet { traffic_class: class, ..packet.clone() })
}

impl Model {
    pub(super) fn tunnelled(&mut self, now: Duration, outer: &Outer, inner: &Input) -> Outcome {
        let foreign = Outcome::untouched(Verdict::ForeignTunnel);
        let to = match inner {
            Input::Tcp(packet) | Input::Fragment(packet, _) => packet.to.ip(),
            Input::Error(error) => error.to,
            Input::Foreign(_) | Input::Tunnelled(..) => return foreign,
        };
        // Both headers are addressed to the client; the outer one is of its family then.
        if outer.to != to {
            return foreign;
        }
        match (inner, self.configuration) {
            (Input::Tcp(packet), _) => self.tunnelled_tcp(now, outer, packet),
            (Input::Error(error), Configuration::C) => self.tunnelled_error(outer, error),
            (Input::Fragment(packet, first), Configuration::C) => {
                self.tunnelled_fragment(now, outer, packet, *first)
            }
            // Under B acknowledgements alone are tunnelled.
            _ => foreign,
        }
    }

    fn tunnelled_tcp(&mut self, now: Duration, outer: &Outer, packet: &Packet) -> Outcome {
        let foreign = Outcome::untouched(Verdict::ForeignTunnel);
        let Some(known) = self.records.get(&packet.to).cloned() else {
            return self.tunnel_without_entry(now, outer, packet);
        };
        let server = known.server;
        let claimant = match self.configuration {
            Configuration::B if outer.from == server.ip() && packet.from.ip() != server.ip() => {
                packet.from
            }
            Configuration::A | Configuration::B => return foreign,
            Configuration::C if packet.from.ip() != server.ip() => return foreign,
            Configuration::C
                if packet.from.port() != server.port() || outer.from == server.ip() =>
            {
                return Outcome::dropped(Verdict::TunnelSpoofed);
            }
            Configuration::C => SocketAddr::new(outer.from, server.port()),
        };
        if !packet.is_syn_ack() {
            return self.tunnelled_data(now, outer, packet, claimant, &known);
        }
        match cracked(outer, packet) {
            Ok(packet) => self.acknowledgement(now, &packet, Some(claimant), &known),
            Err(verdict) => Outcome::dropped(verdict),
        }
    }

    fn tunnelled_data(
        &mut self,
        now: Duration,
        outer: &Outer,
        packet: &Packet,
        claimant: SocketAddr,
        known: &Record,
    ) -> Outcome {
        let is_reset = packet.flags & RST != 0;
        match known.state {
            State::Racing if is_reset && self.may_be_replica(packet.to, known, claimant) => {
                Outcome::dropped(Verdict::ResetByReplica)
            }
            State::Racing => Outcome::untouched(Verdict::RaceUndecided),
            // A loser refuses.
            _ if is_reset && known.replica != Some(claimant) => {
                Outcome::dropped(Verdict::ResetByReplica)
            }
            _ if self.configuration == Configuration::B => {
                Outcome::dropped(Verdict::ConfigurationMismatch)
            }
            _ if known.winner() == Some(claimant) => match cracked(outer, packet) {
                Ok(inside) => {
                    self.track(now, Side::Outside, &inside);
                    Outcome::changed(Verdict::FromReplica, inside)
                }
                Err(verdict) => Outcome::dropped(verdict),
            },
            _ => Outcome::dropped(Verdict::TunnelSpoofed),
        }
    }

    /// An error from the replica's site about a packet of the client.
    fn tunnelled_error(&mut self, outer: &Outer, error: &IcmpError) -> Outcome {
        let quoted = &error.quoted;
        let about = self.translation(quoted.from).filter(|(server, _)| *server == quoted.to);
        match about {
            Some((_, replica)) if error.is_sound() && error.tunnel.is_none() => {
                let frame = error.frame();
                Self::of_winner(outer, replica, frame, 0, Verdict::IcmpTranslated)
            }
            _ => Outcome::untouched(Verdict::ForeignTunnel),
        }
    }

    fn tunnelled_fragment(
        &mut self,
        now: Duration,
        outer: &Outer,
        packet: &Packet,
        first: bool,
    ) -> Outcome {
        let way = self.translation(packet.to).filter(|(server, _)| *server == packet.from);
        let way = if first {
            if way.is_none() {
                self.learn_untranslated(Side::Outside, packet, now);
            }
            way
        } else {
            match self.fragments.find(packet, now) {
                Some(way) => way,
                None => {
                    let passed = Outcome::untouched(Verdict::ForeignTunnel);
                    return self.unknown_fragment(Side::Outside, packet, passed);
                }
            }
        };
        let Some((_, replica)) = way else {
            return Outcome::untouched(Verdict::ForeignTunnel);
        };
        let frame = fragment(packet, first);
        let verdict = Verdict::FragmentTranslated;
        let outcome = Self::of_winner(outer, replica, frame, packet.traffic_class, verdict);
        match outcome.verdict {
            Verdict::FragmentTranslated => {
                let class = decapsulated_class(packet.traffic_class, outer.traffic_class);
                let class = class.expect("it has been opened");
                if first {
                    self.fragments.learn(packet, way, now);
                }
                let packet = Packet { traffic_class: class, ..packet.clone() };
                Outcome::sends(verdict, Leaving::Frame(fragment(&packet, first)))
            }
            _ => outcome,
        }
    }

    /// A frame out of its tunnel, when that is the winner's.
    fn of_winner(
        outer: &Outer,
        replica: SocketAddr,
        frame: Vec<u8>,
        class: u8,
        verdict: Verdict,
    ) -> Outcome {
        if outer.from != replica.ip() {
            return Outcome::dropped(Verdict::TunnelSpoofed);
        }
        match opened(outer, true, true, class) {
            Ok(_) => Outcome::sends(verdict, Leaving::Frame(frame)),
            Err(wrong) => Outcome::dropped(wrong),
        }
    }
}
