//! The moves against connections: pinned ports, blind segments, handshakes, back-off, replays.

use std::net::SocketAddr;

use super::packets::{self, ACK, FIN, Forged, RST, SYN, as_replica, from_inside, from_router};
use super::{Move, Talk, insider, martians, outsider};
use crate::simulation::address::{
    CLIENTS, HOST, Mac, ORIGIN, PORT, REPLICAS, Site, address, service,
};
use crate::simulation::plan::{Configuration, MS, Nanos};
use crate::simulation::station::Frame;
use crate::simulation::world::{Event, World};

/// The attacker's host outside answers after this time: before all others.
const PROMPT: Nanos = 2 * MS;
/// A blind ACK follows its copy so soon: the appliance often gets both in one burst.
const BEHIND: Nanos = 400;
/// Numbers of the insider's addresses, by what they are for.
pub(super) const SHAKER: u8 = 0;
const FILLERS: [u8; 2] = [1, 2];
const BACK_OFF: u8 = 3;
const MARTIAN: u8 = 4;
const LURED: u8 = 5;

impl World {
    /// Does a step of an act, and schedules the next.
    pub(in crate::simulation) fn attack(&mut self, number: usize, step: u32) {
        let Some(act) = self.plan.attack.as_ref().map(|attack| attack.acts[number]) else { return };
        match act.does {
            Move::Pin => self.pin(step),
            Move::Lure => self.lure_again(step),
            Move::PinAtReplicas => self.pin_at_replicas(step),
            Move::Blind => self.blind(),
            Move::FillGateway => self.fill_gateway(step),
            Move::Handshakes => self.shake(step),
            Move::BackOff => self.back_off(step),
            Move::RandomPrefixes => self.random_prefix(step),
            Move::VictimPrefix => self.victim_prefix(step),
            Move::Copies => self.forged_copy(step, false),
            Move::AcknowledgedCopies => self.forged_copy(step, true),
            Move::Replays => self.replay(),
            Move::TooBig => self.too_big(step),
            Move::OtherVlan => self.other_vlan(step),
            Move::Fragments => self.fragments(step),
            Move::Martians => self.martian(step),
        }
        if step + 1 < act.steps {
            self.after(act.gap, Event::Attack(number, step + 1));
        }
    }

    /// Sends a frame of the attacker to an appliance, after a time.
    pub(super) fn strike(&mut self, after: Nanos, site: Site, is_inside: bool, frame: Frame) {
        self.attacker.sent += frame.len() as u64 - 14;
        self.after(after, Event::Station(site, is_inside, frame));
    }

    /// Returns an address of the attacker inside.
    pub(super) fn insider(&self, number: u8, port: u16) -> SocketAddr {
        let is_neighbour = self.plan.attack.as_ref().is_some_and(|attack| attack.is_neighbour);
        SocketAddr::new(insider(self.plan.family, is_neighbour, number), port)
    }

    pub(super) fn service(&self, number: usize) -> SocketAddr {
        SocketAddr::new(service(self.plan.family, number), PORT)
    }

    pub(super) fn outsider(&self) -> SocketAddr {
        SocketAddr::new(outsider(self.plan.family), PORT)
    }

    /// Returns the endpoints and services of pinned connections that have not begun.
    fn targets(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let pinned = self.plan.attack.iter().flat_map(|attack| &attack.pinned);
        let plans = pinned.map(|id| self.plan.connections[*id]);
        let waiting = plans.filter(|plan| plan.at > self.now + 10 * MS);
        waiting
            .map(|plan| {
                let host = address(self.plan.family, CLIENTS, HOST + plan.client as u8);
                (SocketAddr::new(host, plan.port), self.service(plan.service))
            })
            .collect()
    }

    /// Sends a SYN from the inside; the outsider answers it.
    fn lure(&mut self, client: SocketAddr, service: SocketAddr, isn: u32) {
        let syn = Forged::new((client, service), SYN, (isn, 0)).frame(from_inside());
        self.strike(0, CLIENTS, true, syn);
        let outsider = self.outsider();
        self.answer(PROMPT, (outsider, service, client), isn);
    }

    /// Sends a SYN/ACK in the configuration's form.
    fn answer(&mut self, after: Nanos, ends: (SocketAddr, SocketAddr, SocketAddr), isn: u32) {
        let numbers = (!isn, isn.wrapping_add(1));
        let frame = as_replica(&self.plan, ends, SYN | ACK, numbers, self.to_client());
        self.strike(after, CLIENTS, false, frame);
    }

    fn to_client(&self) -> (Mac, Mac) {
        from_router(CLIENTS)
    }

    fn pin(&mut self, step: u32) {
        for (client, service) in self.targets() {
            // The port's last digits are enough to know the number again.
            let isn = 0x1000_0000 | u32::from(client.port());
            if step == 0 {
                self.lure(client, service, isn);
                continue;
            }
            let flags = match self.plan.configuration {
                // Nothing else of a winner is looked up.
                Configuration::B => SYN | ACK,
                Configuration::A | Configuration::C => ACK,
            };
            let (outsider, numbers) = (self.outsider(), (!isn, isn.wrapping_add(1)));
            let ends = (outsider, service, client);
            let frame = as_replica(&self.plan, ends, flags, numbers, self.to_client());
            self.strike(0, CLIENTS, false, frame);
        }
    }

    fn lure_again(&mut self, step: u32) {
        let client = self.insider(LURED, 1_024 + step as u16);
        self.lure(client, self.service(step as usize % 2), 0x7000_0000 | step);
    }

    /// Answers a SYN that has come to the outsider.
    pub(super) fn answer_seen(&mut self, client: SocketAddr, service: SocketAddr, isn: u32) {
        let delay = self.plan.paths[REPLICAS][CLIENTS].delay / 2;
        self.answer(delay, (self.outsider(), service, client), isn);
    }

    fn pin_at_replicas(&mut self, step: u32) {
        let services = [0, 1].map(|number| self.service(number));
        for (client, service) in self.targets() {
            let other = services[usize::from(service == services[0])];
            let isn = 0x2000_0000 | u32::from(client.port()) << 8 | step;
            for site in REPLICAS..self.plan.sites() {
                self.copy((client, other), isn, site);
                self.blind_acknowledgement(client, isn, site);
            }
        }
    }

    /// Sends an ACK with a wrong checksum to a replica's first web server.
    pub(super) fn blind_acknowledgement(&mut self, client: SocketAddr, isn: u32, site: Site) {
        let web = SocketAddr::new(address(self.plan.family, site, HOST), PORT);
        let numbers = (isn.wrapping_add(1), self.rng.next_u64() as u32);
        let ack = Forged::new((client, web), ACK, numbers).spoiled(true);
        self.strike(BEHIND, site, false, ack.frame(from_router(site)));
    }

    /// Sends segments of numbers that are out of any window, against all live connections.
    fn blind(&mut self) {
        let talks: Vec<_> = self.attacker.talks.iter().map(|(c, talk)| (*c, *talk)).collect();
        for (client, talk) in talks {
            let flags = self.rng.pick(&[
                (3, RST),
                (2, RST | ACK),
                (2, FIN | ACK),
                (1, ACK),
                (1, SYN | ACK),
            ]);
            let off = self.rng.between(1 << 30, 3 << 30) as u32;
            let spoiled = self.rng.chance(500);
            let numbers = (talk.sequence.wrapping_add(off), talk.acknowledgement.wrapping_add(off));
            let from_server = |from| Forged::new((from, client), flags, numbers).spoiled(spoiled);
            let server = match self.plan.configuration {
                Configuration::A => self.winner(client).unwrap_or(talk.server),
                Configuration::B | Configuration::C => talk.server,
            };
            let frame = from_server(server).frame(from_router(CLIENTS));
            self.strike(0, CLIENTS, false, frame);
            if let (Some(winner), Configuration::C) = (self.winner(client), self.plan.configuration)
            {
                let frame = from_server(talk.server)
                    .tunnelled((winner.ip(), client.ip()), from_router(CLIENTS));
                self.strike(0, CLIENTS, false, frame);
            }
            // The same in the client's name, at whatever has the connection.
            let numbers = (numbers.1, numbers.0);
            let from_client = |to| Forged::new((client, to), flags, numbers).spoiled(spoiled);
            let frame = from_client(talk.server).frame(from_router(ORIGIN));
            self.strike(0, ORIGIN, false, frame);
            for site in REPLICAS..self.plan.sites() {
                let web = SocketAddr::new(address(self.plan.family, site, HOST), PORT);
                let frame = from_client(web).frame(from_router(site));
                self.strike(0, site, false, frame);
            }
        }
    }

    /// Returns the replica's web server that has the connection of a client.
    fn winner(&self, client: SocketAddr) -> Option<SocketAddr> {
        let replicas = self.servers().filter(|server| server.site >= REPLICAS);
        let has = |server: &&crate::simulation::server::Server| {
            let open = |r: &&crate::simulation::server::Record| {
                r.client == client && r.established.is_some() && r.end.is_none()
            };
            server.records.iter().any(|record| open(&record))
        };
        replicas.into_iter().find(has).map(|server| server.endpoint())
    }

    fn fill_gateway(&mut self, step: u32) {
        let number = FILLERS[step as usize % 2];
        let client = self.insider(number, 1_024 + (step / 2) as u16);
        self.lure(client, self.service(0), 0x3000_0000 | step);
    }

    fn shake(&mut self, step: u32) {
        let client = self.insider(SHAKER, 1_024 + step as u16);
        let syn = Forged::new((client, self.service(0)), SYN, (0x4000_0000 | step, 0));
        self.strike(0, CLIENTS, true, syn.frame(from_inside()));
    }

    fn back_off(&mut self, step: u32) {
        for endpoint in 0..3 {
            let client = self.insider(BACK_OFF, 1_024 + 3 * step as u16 + endpoint);
            let isn = 0x5000_0000 | u32::from(client.port());
            let service = self.service(step as usize % 2);
            let syn = Forged::new((client, service), SYN, (isn, 0)).frame(from_inside());
            (0..3).for_each(|nth| self.strike(nth * 1_000, CLIENTS, true, syn.clone()));
        }
    }

    fn replay(&mut self) {
        if self.attacker.recorded.is_empty() {
            return;
        }
        let at = self.rng.size(0, self.attacker.recorded.len() - 1);
        let (site, frame) = self.attacker.recorded[at].clone();
        self.strike(0, site, false, frame);
    }

    fn martian(&mut self, step: u32) {
        let all = martians(self.plan.family);
        let client = self.insider(MARTIAN, 1_024 + step as u16);
        let (service, isn) = (self.service(0), 0x6000_0000 | step);
        let syn = Forged::new((client, service), SYN, (isn, 0)).frame(from_inside());
        self.strike(0, CLIENTS, true, syn);
        let own = [client.ip(), service.ip()];
        let martian = all.into_iter().chain(own).nth(step as usize % 6).unwrap_or(own[0]);
        let port = if martian == service.ip() { 22 } else { PORT };
        let martian = SocketAddr::new(martian, port);
        self.answer(PROMPT, (martian, service, client), isn);
        let data =
            Forged::new((client, service), ACK, (isn.wrapping_add(1), (!isn).wrapping_add(1)));
        self.strike(2 * PROMPT, CLIENTS, true, data.frame(from_inside()));
    }

    /// Acknowledges the answer to an insider's SYN, and says no more.
    pub(super) fn complete(&mut self, client: SocketAddr, talk: Talk) {
        let ends = (client, talk.server);
        let numbers = (talk.acknowledgement, talk.sequence.wrapping_add(1));
        let ack = Forged::new(ends, ACK, numbers).frame(packets::from_inside());
        self.strike(MS, CLIENTS, true, ack);
    }
}
