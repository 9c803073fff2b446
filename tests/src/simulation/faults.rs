//! Fault injection, and checks of the packets that leave the gateway.

use smoltcp::wire::TcpControl;

use super::address::{self, CLIENTS, ORIGIN, REPLICAS, ROUTER};
use super::client::Call;
use super::control;
use super::flood;
use super::log;
use super::plan::{Configuration, Nanos, SECOND};
use super::segment;
use super::server::Record;
use super::variety::{Change, Signing};
use super::watch;
use super::world::{CABLE, Event, World};

/// Time within which the switch detects a dead tunnel: three unanswered probes, 2 s apart, and a
/// round of the control thread.
const UNANSWERED: Nanos = 10 * SECOND;

impl World {
    pub(super) fn change(&mut self, change: Change) {
        self.log.note(self.now, "control", || format!("{change:?}"));
        match change {
            Change::Turnabout(replica) => self.controls[REPLICAS + replica].turnabout(),
            Change::Dies(replica) => {
                self.dead[REPLICAS + replica] = Some(self.now);
                self.was_dead[REPLICAS + replica] = true;
            }
            Change::Returns(replica) => self.dead[REPLICAS + replica] = None,
            Change::Moves { replica, to_clients, to_origin } => {
                let site = REPLICAS + replica;
                for (other, delay) in [(CLIENTS, to_clients), (ORIGIN, to_origin)] {
                    self.wan.set_delay(site, other, delay);
                }
            }
            Change::WebServer(replica, server) => self.controls[REPLICAS + replica].flip(server),
            Change::Origin(server) => self.controls[ORIGIN].flip(server),
        }
    }

    /// Changes the key of the gateway, or the keys of all others.
    pub(super) fn change_keys(&mut self, gateway: bool) {
        let sites = if gateway { CLIENTS..CLIENTS + 1 } else { ORIGIN..self.plan.sites() };
        for site in sites {
            self.controls[site].keys.publish(control::keys(&self.plan, site, true));
        }
        self.log.note(self.now, "control", || format!("new keys, gateway: {gateway}"));
    }

    /// Sends the next SYN of the flood.
    pub(super) fn flood(&mut self, number: u64) {
        let Some(flood) = self.plan.flood else { return };
        let forged = self.plan.signing != Signing::Not && number.is_multiple_of(2);
        let (site, frame) = flood::start(&self.plan, &flood, number, forged, &mut self.rng);
        if flood.kind == flood::Kind::Direct {
            self.after(SECOND / 50, Event::Station(site, false, frame.clone()));
        }
        self.after(0, Event::Station(site, false, frame));
        if number + 1 < flood.packets() {
            self.after(flood.time(number + 1) - self.now, Event::Flood(number + 1));
        }
    }

    /// Sends a RST from the outside that spoofs the server that a client is connected to.
    pub(super) fn spoof(&mut self, id: usize) {
        let calls = self.clients().flat_map(|client| client.calls.iter().map(move |c| (client, c)));
        let Some((client, call)) = calls.into_iter().find(|(_, call)| call.id == id) else {
            return;
        };
        let (to, mac) = (client.endpoint(call), client.host.mac);
        let connected = self.servers().find_map(|server| {
            let own = |r: &&Record| r.client == to && Some(r.isn) == call.isn;
            let open = |r: &&Record| r.established.is_some() && r.end.is_none();
            server.records.iter().find(|r| own(r) && open(r)).map(|_| server.endpoint())
        });
        let Some(from) = connected else { return };
        // Under B and C, client and gateway see the service's address.
        let from = if self.plan.configuration == Configuration::A { from } else { call.service };
        let ethertype = if to.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
        let header = [&mac[..], &address::mac(CLIENTS, ROUTER), &ethertype].concat();
        let numbers = (self.rng.next_u64() as u32, None);
        let frame = segment::bare(&header, (from, to), TcpControl::Rst, numbers);
        self.log.note(self.now, "spoofer", || log::describe(&frame));
        self.after(CABLE, Event::Station(CLIENTS, false, frame));
    }

    /// Checks that a packet from the gateway to a client does not contain the address of the
    /// replica that has the client's connection.
    pub(super) fn watch(&mut self, frame: &[u8]) {
        // A corrupted packet may belong to another connection, and a full table evicts entries. An
        // attacker can write any address into a packet.
        let strict = self.plan.corrupted == 0
            && self.plan.table >= self.plan.connections.len()
            && self.plan.attack.is_none();
        let named = watch::names_replica(&self.plan, frame);
        let Some((client, site)) = named.filter(|_| strict) else { return };
        let mut calls = self.clients().flat_map(|host| {
            let own = move |call: &&Call| host.endpoint(call) == client && call.outcome.is_none();
            host.calls.iter().filter(own)
        });
        let Some(isn) = calls.next().and_then(|call| call.isn) else { return };
        drop(calls);
        let has = |record: &Record| {
            (record.client, record.isn) == (client, isn)
                && record.established.is_some()
                && record.end.is_none()
        };
        if self.servers().any(|server| server.site == site && server.records.iter().any(has)) {
            self.wrong.push(format!("{} leaves the gateway", log::describe(frame)));
        }
    }

    /// Checks that a replica whose appliance has died gets no copies once the switch has noticed.
    /// The switch probes it from the service's first tagged SYN on.
    pub(super) fn watch_copies(&mut self, frame: &[u8]) {
        let Some(copy) = watch::copy(&self.plan, frame) else { return };
        let first = *self.copied.entry(copy).or_insert(self.now);
        let Some(died) = self.dead[copy.1].filter(|_| self.plan.tunnels.probes) else { return };
        if self.now > died.max(first) + UNANSWERED {
            self.wrong.push(format!("a copy for a replica dead since {died}: {copy:?}"));
        }
    }
}
