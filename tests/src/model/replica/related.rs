//! Plain ICMP errors about connections, and fragments of web servers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::gateway::about_itself;
use super::{Entry, ReplicaModel};
use crate::model::outcome::{Leaving, Outcome};
use crate::model::packet::Packet;
use crate::model::related::{Fitting, IcmpError, fragment, through_tunnel};

/// How long the decision on a first fragment is remembered.
const MEMORY: Duration = Duration::from_secs(30);

/// The connection of a first fragment.
type Owner = (SocketAddr, Entry);

/// Decisions on first fragments, and their times.
#[derive(Default)]
pub(super) struct Fragments(HashMap<(IpAddr, IpAddr, u16), (Option<Owner>, Duration)>);

impl Fragments {
    /// Notes a first fragment.
    pub(super) fn learn(&mut self, packet: &Packet, owner: Option<Owner>, now: Duration) {
        self.0.insert((packet.from.ip(), packet.to.ip(), packet.id), (owner, now));
    }

    /// Returns the decision on the first fragment, or `None` without one.
    pub(super) fn find(&self, packet: &Packet, now: Duration) -> Option<Option<Owner>> {
        let found = self.0.get(&(packet.from.ip(), packet.to.ip(), packet.id))?;
        (now - found.1 < MEMORY).then_some(found.0.clone())
    }
}

impl ReplicaModel {
    /// Handles a plain ICMP error.
    pub fn error(&mut self, side: Side, error: &IcmpError) -> Outcome {
        let passed = Outcome::untouched(Verdict::Icmp);
        let quoted = &error.quoted;
        let client = if side == Side::Inside { quoted.from } else { quoted.to };
        let known = self.entry(client).filter(|e| e.configuration == Configuration::C).cloned();
        let Some(entry) = known.filter(|_| error.is_sound()) else { return passed };
        match (side, &error.tunnel) {
            (Side::Inside, None) if quoted.to == entry.sends_as() => {
                let mut changed = error.clone();
                changed.quoted.to = entry.server;
                if error.from == entry.replica.ip() {
                    changed.from = entry.server.ip();
                }
                let outer = self.outer(entry.replica.ip(), client, 0);
                let inside = Box::new(Leaving::Frame(changed.frame()));
                Outcome::sends(Verdict::IcmpTranslated, Leaving::Tunnel(outer, inside))
            }
            (Side::Outside, Some(outer))
                if (outer.from, outer.to) == (entry.replica.ip(), client.ip())
                    && quoted.from == entry.server =>
            {
                Outcome::sends(Verdict::IcmpTranslated, about_itself(error.peeled(), &entry))
            }
            _ => passed,
        }
    }

    /// Handles a web server's fragment.
    pub fn fragment(&mut self, now: Duration, packet: &Packet, first: bool) -> Outcome {
        let passed = Outcome::untouched(Verdict::Fragment);
        let owner = if first {
            let known = self.entry(packet.to).cloned();
            let own = known
                .filter(|e| e.configuration != Configuration::A && e.sends_as() == packet.from);
            let owner = own.map(|entry| (packet.to, entry));
            self.fragments.learn(packet, owner.clone(), now);
            owner
        } else {
            match self.fragments.find(packet, now) {
                Some(owner) => owner,
                None => {
                    let from = packet.from.ip();
                    let own = self.web_server(from).is_some() || self.is_service(from);
                    let any = self.entries.keys().any(|c| c.is_ipv6() == packet.is_v6());
                    let translates = &mut self.translates[usize::from(packet.is_v6())];
                    *translates &= any;
                    return if own && *translates {
                        Outcome::dropped(Verdict::FragmentUnknown)
                    } else {
                        passed
                    };
                }
            }
        };
        let Some((client, entry)) = owner else { return passed };
        let changed = packet.sent_by(entry.server);
        match entry.configuration {
            Configuration::A => passed,
            Configuration::B => {
                let frame = Leaving::Frame(fragment(&changed, first));
                Outcome::sends(Verdict::FragmentTranslated, frame)
            }
            Configuration::C => {
                let outer = self.outer(entry.replica.ip(), client, packet.traffic_class);
                let room = self.room(client);
                let fitting = match through_tunnel(&changed, first, room) {
                    // Its receiver finds its own packet quoted.
                    Fitting::Answered(_) => through_tunnel(packet, first, room),
                    fitting => fitting,
                };
                Outcome::fragment(fitting, &outer)
            }
        }
    }
}
