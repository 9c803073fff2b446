//! ICMP errors about translated packets, and fragments.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use pipeline::verdict::Verdict;
use pipeline::view::Side;

use super::{Model, Onward, Outcome, Record, State, dropped, untouched};
use crate::model::Packet;
use crate::model::related::{IcmpError, fragment};

/// How long it is remembered what became of a first fragment.
const MEMORY: Duration = Duration::from_secs(30);

/// What became of first fragments, and when.
#[derive(Default)]
pub(super) struct Fragments {
    /// By source, destination, identification: the address that went in, if one did.
    packets: std::collections::HashMap<(Ipv4Addr, Ipv4Addr, u16), (Option<Ipv4Addr>, Duration)>,
    /// By source and destination: the last that was translated.
    pairs: std::collections::HashMap<(Ipv4Addr, Ipv4Addr), Duration>,
}

fn translated(verdict: Verdict, frame: Vec<u8>) -> Outcome {
    Outcome { verdict, onward: Onward::Frame(frame), reset: None }
}

fn ends(side: Side, packet: &Packet) -> (SocketAddrV4, SocketAddrV4) {
    if side == Side::Inside { (packet.from, packet.to) } else { (packet.to, packet.from) }
}

impl Model {
    /// V and R of a connection that is translated.
    fn translation(&self, client: SocketAddrV4) -> Option<(SocketAddrV4, SocketAddrV4)> {
        let Record { state, server, replica, .. } = self.record(client)?;
        let is_translated = matches!(state, State::Replica | State::Closing);
        Some((*server, (*replica)?)).filter(|_| is_translated)
    }

    /// An ICMP error comes in by `side`.
    pub fn receive_error(&mut self, now: Duration, side: Side, error: &IcmpError) -> Outcome {
        self.pass(now);
        // What is quoted went the other way.
        let (client, other) = ends(side.other(), &error.quoted);
        let mut changed = error.clone();
        match (self.translation(client), side) {
            (Some((server, replica)), Side::Outside) if other == replica && error.is_sound() => {
                changed.quoted.to = server;
                if error.from == *replica.ip() {
                    changed.from = *server.ip();
                }
            }
            (Some((server, replica)), Side::Inside) if other == server && error.is_sound() => {
                changed.quoted.from = replica;
                if error.to == *server.ip() {
                    changed.to = *replica.ip();
                }
            }
            _ => return untouched(Verdict::Icmp),
        }
        translated(Verdict::IcmpTranslated, changed.frame())
    }

    /// The first or the other fragment of a packet comes in by `side`.
    pub fn receive_fragment(
        &mut self,
        now: Duration,
        side: Side,
        packet: &Packet,
        first: bool,
    ) -> Outcome {
        self.pass(now);
        let (source, destination) = (*packet.from.ip(), *packet.to.ip());
        let id = (source, destination, packet.id);
        if first {
            let (client, other) = ends(side, packet);
            let loser = self.translation(client).is_some_and(|(server, _)| other == server);
            if side == Side::Outside && loser {
                return dropped(Verdict::FromLoser);
            }
            let address = self.first_fragment(side, packet);
            self.fragments.packets.insert(id, (address.map(|to| *to.ip()), now));
            let Some(address) = address else { return untouched(Verdict::Fragment) };
            self.fragments.pairs.insert((source, destination), now);
            return put(side, packet, address, true);
        }
        let lately = |since: &Duration| now - *since < MEMORY;
        match self.fragments.packets.get(&id).filter(|(_, since)| lately(since)) {
            Some((Some(address), _)) => put(side, packet, SocketAddrV4::new(*address, 0), false),
            Some((None, _)) => untouched(Verdict::Fragment),
            None if self.fragments.pairs.get(&(source, destination)).is_some_and(lately) => {
                dropped(Verdict::FragmentUnknown)
            }
            None => untouched(Verdict::Fragment),
        }
    }

    /// What goes in instead of the server's or the replica's endpoint.
    fn first_fragment(&self, side: Side, packet: &Packet) -> Option<SocketAddrV4> {
        let (client, other) = ends(side, packet);
        let (server, replica) = self.translation(client)?;
        match side {
            Side::Inside => (other == server).then_some(replica),
            Side::Outside => (other == replica).then_some(server),
        }
    }
}

fn put(side: Side, packet: &Packet, endpoint: SocketAddrV4, first: bool) -> Outcome {
    let changed = match side {
        Side::Inside => packet.sent_to(endpoint),
        Side::Outside => packet.sent_by(endpoint),
    };
    translated(Verdict::FragmentTranslated, fragment(&changed, first))
}
