//! Packets from the outside, plain or decapsulated: figures 5A, 5B and 5C, and figure 6 from the
//! other side.

use std::net::SocketAddr;
use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::{Model, Record, State};
use crate::model::Packet;
use crate::model::options::clamped;
use crate::model::outcome::{Leaving, Outcome};
use crate::model::packet::{ACK, RST};

impl Model {
    /// Handles a SYN/ACK. `claimant` is the replica that sent it, if it came in a tunnel.
    pub(super) fn acknowledgement(
        &mut self,
        now: Duration,
        packet: &Packet,
        claimant: Option<SocketAddr>,
        known: &Record,
    ) -> Outcome {
        let from = claimant.unwrap_or(packet.from);
        let fits = packet.acknowledgement == known.isn.wrapping_add(1);
        let refers = |isn: u32| packet.acknowledgement == isn.wrapping_add(1);
        if claimant.is_none() && from == known.server && known.state == State::Racing && !fits {
            return Outcome::untouched(Verdict::RaceUndecided);
        }
        // Plain packets of others belong to other connections.
        if claimant.is_none() && from != known.server {
            let is_again = self.configuration == Configuration::A
                && known.winner() == Some(from)
                && known.pending.is_some_and(refers);
            let may_be_replicas =
                if fits { self.may_be_replica(packet.to, known, from) } else { is_again };
            let is_servers = from.ip() == known.server.ip();
            if fits && !is_servers && !self.permits(known.service, from.ip()) {
                return Outcome::untouched(Verdict::UnlistedReplica);
            }
            if !may_be_replicas {
                return Outcome::untouched(Verdict::FromOther);
            }
        }
        if !packet.ip_checksum {
            return Outcome::dropped(Verdict::SynAckIpChecksum);
        }
        if !packet.tcp_checksum {
            return Outcome::dropped(Verdict::SynAckTcpChecksum);
        }
        let is_origin = claimant.is_none() && from == known.server;
        // The origin always responds plainly, replicas in the configuration's form.
        let in_form = is_origin || claimant.is_some() == (self.configuration != Configuration::A);
        let winner = match known.state {
            State::Racing => None,
            State::Origin => Some(known.server).filter(|_| is_origin),
            _ => known.replica.filter(|_| in_form && !is_origin),
        };
        let won = winner == Some(from);
        if !fits && !won {
            return Outcome::dropped(Verdict::SynAckWrongNumber);
        }
        match known.state {
            _ if !in_form => Outcome::dropped(Verdict::ConfigurationMismatch),
            State::Racing if !is_origin && !self.may_be_replica(packet.to, known, from) => {
                Outcome::dropped(Verdict::ReplicaNotAllowed)
            }
            State::Racing => self.decide(now, packet, from, is_origin, known),
            State::Origin if won => {
                if fits {
                    self.origin_answers_again(now, packet.to, known);
                }
                Outcome::untouched(Verdict::SynAckRetransmit)
            }
            _ if won => {
                let accepted = known.pending.filter(|isn| refers(*isn));
                let record = self.change(packet.to);
                match (accepted, known.state) {
                    // The winner has accepted another SYN of the client.
                    (Some(isn), _) => {
                        (record.isn, record.pending) = (isn, None);
                        record.deferred = false;
                        record.untagged = false;
                        self.opens(now, packet);
                    }
                    (None, State::HalfOpen) => {
                        record.two_numbers |= packet.sequence.wrapping_add(1) != record.next[1];
                    }
                    (None, State::Reset) => {}
                    (None, _) => self.touch(now, packet.to),
                }
                self.winners(packet, from, known.server, Verdict::SynAckRetransmit)
            }
            _ => {
                if is_origin {
                    self.origin_answers(packet.to, known);
                } else if self.may_be_replica(packet.to, known, from)
                    && !self.was_asked(known, from, is_origin)
                {
                    self.switch_answers(packet.to, known);
                }
                Outcome::answered(Verdict::LoserReset, self.reset(packet, from, is_origin))
            }
        }
    }

    /// Returns the reset of a loser, in the form of its SYN/ACK.
    pub(super) fn reset(&self, packet: &Packet, from: SocketAddr, is_origin: bool) -> Leaving {
        let reset = Leaving::Packet(Box::new(packet.reset()));
        match (self.configuration, is_origin) {
            (Configuration::C, false) => {
                let outer = self.outer(packet.to.ip(), from.ip(), 0);
                Leaving::Tunnel(outer, Box::new(reset))
            }
            _ => reset,
        }
    }

    /// Returns the winner's SYN/ACK as the client gets it.
    fn winners(
        &self,
        packet: &Packet,
        from: SocketAddr,
        server: SocketAddr,
        verdict: Verdict,
    ) -> Outcome {
        let packet = match self.configuration {
            Configuration::C => clamped(packet, self.room(from.ip())),
            Configuration::A | Configuration::B => packet.clone(),
        };
        Outcome::changed(verdict, packet.sent_by(server))
    }

    fn decide(
        &mut self,
        now: Duration,
        packet: &Packet,
        from: SocketAddr,
        is_origin: bool,
        known: &Record,
    ) -> Outcome {
        if is_origin {
            self.origin_answers_first(now, packet.to, known);
        } else if !self.was_asked(known, from, is_origin) {
            self.switch_answers(packet.to, known);
        }
        if self.settings.services[known.service].policy.shadow && !is_origin {
            let reset = self.reset(packet, from, is_origin);
            return Outcome::answered(Verdict::ShadowReset, reset);
        }
        if self.holds(now, packet, from, is_origin, known) {
            return Outcome::dropped(Verdict::SynAckHeld);
        }
        self.wins(now, packet, from, is_origin)
    }

    /// Lets the sender of this SYN/ACK win.
    pub(super) fn wins(
        &mut self,
        now: Duration,
        packet: &Packet,
        from: SocketAddr,
        is_origin: bool,
    ) -> Outcome {
        self.prefer(now, packet.to, from, is_origin);
        if is_origin {
            self.goes_to_origin(now, packet.to);
            return Outcome::changed(Verdict::OriginWon, packet.clone());
        }
        self.opens(now, packet);
        let record = self.change(packet.to);
        record.replica = Some(from);
        let server = record.server;
        self.winners(packet, from, server, Verdict::ReplicaWon)
    }

    /// A connection begins with this SYN/ACK.
    fn opens(&mut self, now: Duration, syn_ack: &Packet) {
        self.touch(now, syn_ack.to);
        let record = self.change(syn_ack.to);
        record.state = State::HalfOpen;
        record.next = [record.isn.wrapping_add(1), syn_ack.sequence.wrapping_add(1)];
        (record.fins, record.resets) = ([false; 2], [false; 2]);
        (record.opened, record.two_numbers) = (false, false);
    }

    /// Handles plain packets other than SYN/ACKs.
    pub(super) fn server_packet(
        &mut self,
        now: Duration,
        packet: &Packet,
        known: &Record,
    ) -> Outcome {
        let is_reset = packet.flags & RST != 0;
        let is_origin = packet.from == known.server;
        // Returns the source of the winner's plain packets, if it sends any.
        let winner = known.winner().and_then(|replica| match self.configuration {
            Configuration::A => Some(replica),
            Configuration::B => Some(known.server),
            Configuration::C => None,
        });
        let answers = packet.acknowledgement == known.isn.wrapping_add(1);
        // A refusal of the SYN is not from the winner, which has accepted it.
        let refusal = is_origin && is_reset && packet.sequence == 0 && answers;
        // The client's TCP accepts only these RSTs of the origin.
        let minded =
            answers && packet.flags & ACK != 0 && packet.ip_checksum && packet.tcp_checksum;
        match known.state {
            state if state.is_translated() && winner == Some(packet.from) && !refusal => {
                self.track(now, Side::Outside, packet);
                // Under B it is unmodified.
                Outcome::changed(Verdict::FromReplica, packet.sent_by(known.server))
            }
            state if state.is_translated() && is_origin => Outcome::dropped(Verdict::FromLoser),
            State::Racing if is_reset && is_origin && minded => {
                self.origin_answers(packet.to, known);
                self.goes_to_origin(now, packet.to);
                Outcome::untouched(Verdict::ResetByOrigin)
            }
            // Under B and C replicas refuse in tunnels.
            State::Racing
                if is_reset
                    && answers
                    && packet.flags & ACK != 0
                    && !is_origin
                    && self.configuration == Configuration::A
                    && self.may_be_replica(packet.to, known, packet.from) =>
            {
                Outcome::dropped(Verdict::ResetByReplica)
            }
            State::Racing => Outcome::untouched(Verdict::RaceUndecided),
            State::Origin if is_origin => Outcome::untouched(Verdict::WithOrigin),
            state if state.is_translated() => self.packet_from_winners_own(now, packet, known),
            _ => Outcome::untouched(Verdict::FromOther),
        }
    }
}
