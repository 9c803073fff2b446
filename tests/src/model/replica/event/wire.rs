//! Events on the wire: frames, and the outcomes that the model predicts.

use std::time::Duration;

use firstack_packets::tag::{self, PERMITTED, SIGNED};
use pipeline::packet::view::Side;
use pipeline::verdict::Verdict;

use super::{BLIND, Event, Inside, Signature, Step, Tag, Who};
use crate::model::ISNS;
use crate::model::corpus::KEY;
use crate::model::options::{epoch, signature, tagged};
use crate::model::outcome::Outcome;
use crate::model::packet::{ACK, Packet};
use crate::model::related::{IcmpError, fragment, fragmented, icmp};
use crate::model::replica::{ReplicaModel, server_of};
use crate::model::tunnel::Udp;
use crate::model::world::{peers, router};

/// Receiving side, frame and outcome.
pub(super) type Happened = (Side, Vec<u8>, Outcome);

impl Step {
    pub(super) fn copy(&self, model: &mut ReplicaModel, now: Duration) -> Happened {
        let Event::Copy { way, isn, tag, flags, data, checksums } = &self.event else {
            unreachable!("asked of copies only")
        };
        let mut bare = self.packet(self.end(), self.service(), *flags);
        bare.options = vec![2, 4, 5, 0xb4];
        bare.sequence = ISNS[*isn];
        bare.payload = vec![7; usize::from(*data)];
        let outer = self.copies(*way);
        (bare.ip_checksum, bare.tcp_checksum) = (checksums.0 || bare.is_v6(), checksums.1);
        bare.tcp_checksum |= outer.udp == Udp::Wrong;
        let packet = tagged(&bare, &tag_bytes(&bare, *tag, epoch(now)));
        let frame = outer.around(&packet.frame());
        let outcome = model.copy(now, &outer, packet, bare, *tag);
        (Side::Outside, frame, outcome)
    }

    pub(super) fn of_switch(&self, model: &mut ReplicaModel, now: Duration, what: u8) -> Happened {
        let (client, outer) = (self.end(), self.switch());
        let mut packet = self.packet(client, self.service(), ACK);
        let (inside, frame) = match what % 4 {
            0 => {
                let to = peers(client)[4].ip();
                let switch = if what & 4 == 0 { peers(client)[0].ip() } else { router(client) };
                let (word, data) = (0x0007_0009, vec![what; 8]);
                let kind = if client.is_ipv6() { (128, 0) } else { (8, 0) };
                let frame = icmp(&packet, (switch, to), kind, word, &data);
                packet.macs = (packet.macs.1, packet.macs.0);
                (Inside::Echo { switch, to, packet, word, data }, frame)
            }
            1 => {
                // A router's error about V's packet, sent to V.
                let quoted = self.packet(self.service(), client, ACK);
                let kind = if client.is_ipv6() { 2 } else { 3 };
                let error = IcmpError {
                    from: router(client),
                    to: quoted.from.ip(),
                    kind,
                    code: if what & 4 == 0 || client.is_ipv6() { 4 } else { 1 },
                    mtu: 1300,
                    quoted,
                    tunnel: None,
                    bytes: 20,
                };
                let frame = error.frame();
                (Inside::Error(error), frame)
            }
            2 => {
                packet.payload = vec![7; 21];
                let frame = fragment(&packet, what & 4 == 0);
                (Inside::Fragment(packet, what & 4 == 0), frame)
            }
            _ => (Inside::Nested, outer.around(&packet.frame())),
        };
        let whole = outer.around(&frame);
        (Side::Outside, whole, model.of_switch(now, &outer, &inside))
    }

    pub(super) fn gateway(
        &self,
        model: &mut ReplicaModel,
        now: Duration,
        (tunnelled, who, flags): (bool, Who, u8),
    ) -> Happened {
        let client = self.end();
        let known = model.entry(client).cloned();
        let replica = known.as_ref().map(|entry| entry.replica);
        let acknowledgement = match &known {
            Some(entry) if self.acknowledges => entry.awaits(self.sequence == 0),
            _ => BLIND,
        };
        let sequence = match &known {
            Some(entry) if self.acknowledges => entry.sends(flags, self.sequence),
            _ => ISNS[self.sequence],
        };
        // A wrong checksum, now and then.
        let tcp_checksum = self.traffic_class % 8 != 5;
        if !tunnelled {
            let to = self.who(who, replica, server_of(client, self.service));
            let packet = self.packet(client, to, flags);
            let packet = Packet { sequence, acknowledgement, tcp_checksum, ..packet };
            return (Side::Outside, packet.frame(), model.from_gateway(now, &packet));
        }
        let to = self.who(who, known.map(|entry| entry.server), self.service());
        let packet = Packet { sequence, acknowledgement, ..self.packet(client, to, flags) };
        let outer = self.outer(client, replica.unwrap_or(server_of(client, self.service)));
        let frame = outer.around(&packet.frame());
        (Side::Outside, frame, model.tunnelled(now, &outer, &packet))
    }

    pub(super) fn error(&self, model: &mut ReplicaModel) -> Happened {
        let Event::Error(side, tunnelled, kind, bytes, near) = self.event else {
            unreachable!("asked of errors only")
        };
        let client = self.end();
        let known = model.entry(client).cloned();
        let (server, replica) = match &known {
            Some(entry) => (entry.server, entry.replica),
            None => (self.service(), server_of(client, self.service)),
        };
        let sends_as = known.map_or(replica, |entry| entry.sends_as());
        // The packet that the web server or the client received, or should have.
        let quoted = match side {
            Side::Inside => self.packet(client, sends_as, ACK),
            Side::Outside => self.packet(server, client, ACK),
        };
        let [from, to] = [quoted.to.ip(), quoted.from.ip()];
        let from = if near { from } else { router(client) };
        let tunnel = (side == Side::Outside && !tunnelled).then(|| self.outer(replica, client));
        let kind = kind[usize::from(client.is_ipv6())];
        let to = if tunnel.is_some() { replica.ip() } else { to };
        let error = IcmpError { from, to, kind, code: 4, mtu: 1400, quoted, tunnel, bytes };
        if side == Side::Outside && tunnelled {
            let outer = self.outer(client, replica);
            let frame = outer.around(&error.frame());
            return (side, frame, model.tunnelled_error(&outer, &error));
        }
        (side, error.frame(), model.error(side, &error))
    }

    pub(super) fn fragment(&self, model: &mut ReplicaModel, now: Duration) -> Happened {
        let Event::Fragment(side, tunnelled, id, first) = self.event else {
            unreachable!("asked of fragments only")
        };
        let client = self.end();
        let known = model.entry(client).cloned();
        let sends_as = known.as_ref().map(|entry| entry.sends_as());
        let web = server_of(client, self.service);
        let mut packet = match side {
            Side::Inside => self.packet(sends_as.unwrap_or(web), client, ACK),
            Side::Outside => {
                let server = known.as_ref().map(|entry| entry.server);
                self.packet(client, server.unwrap_or(self.service()), ACK)
            }
        };
        fragmented(&mut packet, id);
        let frame = fragment(&packet, first);
        match (side, tunnelled) {
            (Side::Inside, _) => (side, frame, model.fragment(now, &packet, first)),
            (Side::Outside, false) => (side, frame, Outcome::untouched(Verdict::Fragment)),
            (Side::Outside, true) => {
                let outer = self.outer(client, known.map_or(web, |entry| entry.replica));
                let whole = outer.around(&frame);
                (side, whole, model.tunnelled_fragment(now, &outer, &packet, first))
            }
        }
    }
}

/// Returns the bytes of a tag, padded. A right signature is made in this epoch.
fn tag_bytes(packet: &Packet, tag: Tag, epoch: u32) -> Vec<u8> {
    match tag {
        Tag::None => Vec::new(),
        Tag::Bad => tag::unsigned(PERMITTED | SIGNED).to_vec(),
        Tag::Sound { permitted, configuration, signature: signed } => {
            let code = configuration.map_or(3, |code| code as u8);
            let flags = u8::from(permitted) | code << 1;
            if signed == Signature::None {
                return tag::unsigned(flags).to_vec();
            }
            let flags = flags | SIGNED;
            let mut mac = signature(packet, flags, KEY, epoch);
            mac[3] ^= u8::from(signed == Signature::Wrong);
            tag::with_mac(flags, KEY.0, mac)
        }
    }
}
