//! ICMP errors about translated packets, and fragments.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::Model;
use crate::model::outcome::{Leaving, Outcome};
use crate::model::related::{IcmpError, fragment, through_tunnel};
use crate::model::{Packet, world};

/// How long the decision on a first fragment is remembered.
const MEMORY: Duration = Duration::from_secs(30);

/// V and R of a translated connection.
pub(super) type Way = (SocketAddr, SocketAddr);

/// Decisions on first fragments, and their times.
#[derive(Default)]
pub(super) struct Fragments {
    /// By source, destination and identification: the connection, if there is one.
    packets: HashMap<(IpAddr, IpAddr, u16), (Option<Way>, Duration)>,
    /// When the gateway has perhaps noted that a first fragment was forwarded unchanged.
    perhaps: HashMap<(IpAddr, IpAddr, u16), Duration>,
}

impl Fragments {
    /// Notes a first fragment.
    pub(super) fn learn(&mut self, packet: &Packet, way: Option<Way>, now: Duration) {
        self.packets.insert((packet.from.ip(), packet.to.ip(), packet.id), (way, now));
    }

    /// Returns the decision on the first fragment, or `None` without one.
    pub(super) fn find(&self, packet: &Packet, now: Duration) -> Option<Option<Way>> {
        let found = self.packets.get(&(packet.from.ip(), packet.to.ip(), packet.id))?;
        (now - found.1 < MEMORY).then_some(found.0)
    }
}

fn ends(side: Side, packet: &Packet) -> (SocketAddr, SocketAddr) {
    if side == Side::Inside { (packet.from, packet.to) } else { (packet.to, packet.from) }
}

impl Model {
    /// V and R of a connection that is translated.
    pub(super) fn translation(&self, client: SocketAddr) -> Option<Way> {
        let record = self.record(client)?;
        Some((record.server, record.winner()?))
    }

    /// Handles an ICMP error that arrives on `side`.
    pub(super) fn error(&mut self, side: Side, error: &IcmpError) -> Outcome {
        // The quoted packet went in the opposite direction.
        let (client, other) = ends(side.other(), &error.quoted);
        let passed = Outcome::untouched(Verdict::Icmp);
        let Some((server, replica)) = self.translation(client).filter(|_| error.is_sound()) else {
            return passed;
        };
        let tunnelled = error.tunnel.is_some();
        let mut changed = error.clone();
        match (side, self.configuration) {
            (Side::Outside, Configuration::A | Configuration::B)
                if other == replica && !tunnelled =>
            {
                changed.quoted.to = server;
            }
            (Side::Outside, Configuration::C) if other == server && tunnelled => {
                let ends = error.tunnel.as_ref().map(|outer| (outer.from, outer.to));
                if ends != Some((client.ip(), replica.ip())) {
                    return passed;
                }
                changed = error.peeled();
            }
            (Side::Inside, Configuration::A | Configuration::B)
                if other == server && !tunnelled =>
            {
                changed.quoted.from = replica;
                if error.to == server.ip() {
                    changed.to = replica.ip();
                }
            }
            (Side::Inside, Configuration::C) if other == server && !tunnelled => {
                let outer = self.outer(client.ip(), replica.ip(), 0);
                let inside = Box::new(Leaving::Frame(error.frame()));
                let leaving = Leaving::Tunnel(outer, inside);
                return Outcome::sends(Verdict::IcmpTranslated, leaving);
            }
            _ => return passed,
        }
        if side == Side::Outside && error.from == replica.ip() {
            changed.from = server.ip();
        }
        Outcome::sends(Verdict::IcmpTranslated, Leaving::Frame(changed.frame()))
    }

    /// Handles the first or second fragment of a packet that arrives on `side`.
    pub(super) fn fragment(
        &mut self,
        now: Duration,
        side: Side,
        packet: &Packet,
        first: bool,
    ) -> Outcome {
        let passed = Outcome::untouched(Verdict::Fragment);
        if side == Side::Outside && self.configuration == Configuration::B {
            return passed;
        }
        let way = if first {
            let way = match self.first_fragment(side, packet) {
                Ok(way) => way,
                Err(verdict) => return Outcome::dropped(verdict),
            };
            match way {
                None => self.learn_untranslated(side, packet, now),
                way => self.fragments.learn(packet, way, now),
            }
            way
        } else {
            match self.fragments.find(packet, now) {
                Some(way) => way,
                None => return self.unknown_fragment(side, packet, passed),
            }
        };
        let Some(way) = way else { return passed };
        match (side, self.configuration) {
            (Side::Inside, Configuration::A | Configuration::B) => {
                put(packet.sent_to(way.1), first)
            }
            (Side::Outside, Configuration::A) => put(packet.sent_by(way.0), first),
            (Side::Inside, Configuration::C) => {
                let outer = self.outer(packet.from.ip(), way.1.ip(), packet.traffic_class);
                Outcome::fragment(through_tunnel(packet, first, self.room(way.1.ip())), &outer)
            }
            // It belongs to a tunnelled packet, but arrived plain.
            (Side::Outside, _) => passed,
        }
    }

    /// Notes a first fragment of no translated connection. Under C one from the outside does not
    /// replace the winner's.
    pub(super) fn learn_untranslated(&mut self, side: Side, packet: &Packet, now: Duration) {
        let others = self.configuration == Configuration::C && side == Side::Outside;
        let followed = matches!(self.fragments.find(packet, now), Some(Some(_)));
        match self.may_follow(side, packet) {
            _ if followed && others => {}
            Some(false) if !followed => {}
            None if !followed => {
                let id = (packet.from.ip(), packet.to.ip(), packet.id);
                self.fragments.perhaps.insert(id, now);
            }
            _ => self.fragments.learn(packet, None, now),
        }
    }

    /// Returns the connection of a plain first fragment.
    fn first_fragment(&self, side: Side, packet: &Packet) -> Result<Option<Way>, Verdict> {
        let (client, other) = ends(side, packet);
        let Some(way) = self.translation(client) else { return Ok(None) };
        match (side, self.configuration) {
            (Side::Inside, _) => Ok((other == way.0).then_some(way)),
            (Side::Outside, Configuration::A) if other == way.1 => Ok(Some(way)),
            (Side::Outside, _) if other == way.0 => Err(Verdict::FromLoser),
            (Side::Outside, _) => Ok(None),
        }
    }

    /// A later fragment whose first has not been seen: it may be of a translated connection.
    pub(super) fn unknown_fragment(&self, side: Side, packet: &Packet, passed: Outcome) -> Outcome {
        let dropped = Outcome::dropped(Verdict::FragmentUnknown);
        let noted = self.fragments.perhaps.get(&(packet.from.ip(), packet.to.ip(), packet.id));
        match self.may_follow(side, packet) {
            Some(false) => passed,
            Some(true) if noted.is_none() => dropped,
            // The gateway may not have noticed that the last one has timed out.
            _ => Outcome { or: Some(Box::new(dropped)), ..passed },
        }
    }

    /// Returns whether a fragment may be of a translated connection of its client's address; `None`
    /// if only connections that have timed out make it so.
    fn may_follow(&self, side: Side, packet: &Packet) -> Option<bool> {
        let client = if side == Side::Inside { packet.from } else { packet.to };
        let suspect = match (side, self.configuration) {
            (Side::Outside, Configuration::A) => {
                let now = self.settings.services.iter().map(|service| &service.allowed_replicas);
                let mut lists = now.chain(&self.earlier_lists);
                lists.any(|list| world::allows(list, packet.from.ip()))
            }
            (Side::Outside, _) => self.is_service(packet.from.ip()),
            (Side::Inside, _) => self.is_service(packet.to.ip()),
        };
        let own = self.records.iter().filter(|(known, _)| known.ip() == client.ip());
        let is_translated = own.filter(|(_, record)| record.winner().is_some()).count() > 0;
        match (suspect, is_translated, self.lingering.contains(&client.ip())) {
            (false, ..) | (_, false, false) => Some(false),
            (_, true, _) => Some(true),
            (_, false, true) => None,
        }
    }
}

fn put(packet: Packet, first: bool) -> Outcome {
    let frame = Leaving::Frame(fragment(&packet, first));
    Outcome::sends(Verdict::FragmentTranslated, frame)
}
