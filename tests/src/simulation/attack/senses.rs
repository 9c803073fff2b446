//! What reaches the attacker and the hosts in whose name it sends, and what it has seen on the way.

use std::net::IpAddr;

use super::floods::FIRST_VICTIM;
use super::packets::{from_router, own_mac};
use super::steps::SHAKER;

use super::{SynAt, Talk, is_forged, is_insider, is_stranger, martians, outsider};
use crate::simulation::address::{CLIENTS, ORIGIN, REPLICAS, ROUTER, Site, address, mac};
use crate::simulation::attack::scene::AT;
use crate::simulation::log;
use crate::simulation::plan::{Nanos, SECOND};
use crate::simulation::segment::{self, Segment};
use crate::simulation::station::Frame;
use crate::simulation::watch;
use crate::simulation::world::{Event, World};

/// Recorded frames, at most.
const RECORDS: usize = 200;
/// How long they are recorded.
const RECORDING: Nanos = 60 * SECOND;
/// A signature is not valid any more after three epochs.
const VALID: Nanos = 192 * SECOND;

impl World {
    /// Takes a frame that leaves an appliance's outside for an address of the attacker, or for one
    /// that it forges; notes what passes. Returns whether the frame has arrived so.
    pub(in crate::simulation) fn attacker_takes(&mut self, site: Site, frame: &Frame) -> bool {
        if self.plan.attack.is_none() {
            return false;
        }
        self.record(site, frame);
        let Some((_, to)) = segment::addresses(frame) else { return false };
        if site == CLIENTS && martians(self.plan.family).contains(&to) {
            self.wrong.push(format!("to nobody leaves {}", log::describe(frame)));
            return true;
        }
        if to == outsider(self.plan.family) {
            self.hear(frame);
            return true;
        }
        let is_victim = is_stranger(to) || self.is_neighbour_victim(to);
        if is_victim && site != ORIGIN {
            self.attacker.echoed += frame.len() as u64 - 14;
        }
        if is_insider(to) && site != CLIENTS {
            let mut frame = frame.clone();
            frame[..6].copy_from_slice(&own_mac());
            frame[6..12].copy_from_slice(&mac(CLIENTS, ROUTER));
            let delay = self.plan.paths[site][CLIENTS].delay;
            self.after(delay, Event::Station(CLIENTS, false, frame));
        }
        is_forged(to)
    }

    /// Returns whether this is an address of the honest clients' prefix that the switch is flooded
    /// in the name of.
    fn is_neighbour_victim(&self, of: IpAddr) -> bool {
        let victim = |number| address(self.plan.family, CLIENTS, FIRST_VICTIM + number) == of;
        (0..100).any(victim)
    }

    /// Notes what an observer on the path sees: tagged SYNs of honest clients, copies, and copies of
    /// errors.
    fn record(&mut self, site: Site, frame: &Frame) {
        if site == ORIGIN && watch::is_tunnelled_error(frame) {
            self.attacker.errors[1] += frame.len() as u64 - 14;
        }
        let copy = watch::copy_of_syn(&self.plan, frame).filter(|_| site == ORIGIN);
        let inner = copy.and_then(|_| watch::decapsulated(frame));
        let Some(syn) = segment::read(inner.as_ref().unwrap_or(frame)).filter(Segment::is_syn)
        else {
            return;
        };
        if is_forged(syn.from.ip()) || copy.is_none() && !(site == CLIENTS && syn.unusual_option) {
            return;
        }
        if let Some((_, replica)) = copy {
            self.count((syn.from, syn.sequence, replica, true));
        }
        if self.attacker.recorded.len() < RECORDS && self.now < AT + RECORDING {
            let to = copy.map_or(ORIGIN, |(_, replica)| replica);
            let mut frame = frame.clone();
            let macs = from_router(to);
            frame[..6].copy_from_slice(&macs.0);
            frame[6..12].copy_from_slice(&macs.1);
            self.attacker.recorded.push((to, frame));
        }
    }

    fn count(&mut self, syn: SynAt) {
        let times = self.attacker.copies.entry(syn).or_default();
        if times.all == 0 {
            times.first = self.now;
        }
        times.all += 1;
        times.late += u64::from(self.now > times.first + VALID);
    }

    /// Notes a frame that leaves a replica for its web server.
    pub(in crate::simulation) fn note_given(&mut self, site: Site, frame: &Frame) {
        let syn = segment::read(frame).filter(Segment::is_syn);
        if let Some(syn) = syn.filter(|syn| self.plan.attack.is_some() && !is_forged(syn.from.ip()))
        {
            self.count((syn.from, syn.sequence, site, false));
        }
    }

    /// Notes a honest client's segment that has come to the attacker's host outside.
    fn hear(&mut self, frame: &Frame) {
        let inner = watch::decapsulated(frame);
        let Some(segment) = segment::read(inner.as_ref().unwrap_or(frame)) else { return };
        let is_live = self.clients().any(|host| {
            host.calls
                .iter()
                .any(|call| host.endpoint(call) == segment.from && call.outcome.is_none())
        });
        if is_live && segment.is_syn() {
            self.answer_seen(segment.from, segment.to, segment.sequence);
        }
        if is_live && !segment.rst {
            self.attacker.heard.push(log::describe(frame));
        }
    }

    /// Handles a frame that leaves the gateway towards the clients. Returns whether it is for a
    /// port that an honest client does not have yet, or for the attacker.
    pub(in crate::simulation) fn attacker_hears(&mut self, frame: &Frame) -> bool {
        let Some(attack) = &self.plan.attack else { return false };
        let Some(segment) = segment::read(frame) else { return false };
        let client = segment.to;
        if is_insider(client.ip()) {
            let is_shaker =
                client.ip() == super::insider(self.plan.family, attack.is_neighbour, SHAKER);
            if segment.syn && segment.ack && is_shaker {
                self.complete(client, talk(&segment));
            }
            return true;
        }
        let begun = self.clients().find_map(|host| {
            host.calls
                .iter()
                .rfind(|call| host.endpoint(call) == client)
                .map(|call| call.outcome.is_none())
        });
        match begun {
            None => return true,
            Some(true) => drop(self.attacker.talks.insert(client, talk(&segment))),
            Some(false) => drop(self.attacker.talks.remove(&client)),
        }
        false
    }

    /// Returns the number of replicas.
    pub(super) fn replicas(&self) -> u64 {
        (self.plan.sites() - REPLICAS) as u64
    }
}

fn talk(segment: &Segment) -> Talk {
    Talk {
        server: segment.from,
        sequence: segment.sequence,
        acknowledgement: segment.acknowledgement,
    }
}
