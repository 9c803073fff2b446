//! Figures 4A, 4B and 4C up to the web server: tunnels of switches, with copies of SYNs, probes and
//! copies of ICMP errors in them. Direct copies ([`super::direct`]) join them once decapsulated.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use super::connection::{Connection, CopyTime, MAX_REPEATED_COPIES, NextConfiguration};
use super::mode::{self, Segment};
use super::{Common, Phase, ReplicaFor, Server, Settings};
use crate::base::time::Ticks;
use crate::counters::{Generated, Scalar, Sighting};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Kind, Packet, Side, View};
use crate::role::tracking::TcpTracking;
use crate::role::{Context, insert_counted, send_generated};
use crate::stage::sign::{Proof, Verification};
use crate::stage::{decap, probe, quote, tag};
use crate::table::{Hash, Inserted, Slot};
use crate::verdict::{Fate, Verdict};
use crate::wire::configuration::Configuration;
use crate::wire::family::{Endpoint, Family};
use crate::wire::{ethernet, tcp};

/// A client that was heard within this time has the connection of its endpoint, even if its gateway
/// signs another SYN.
const HEARD_WITHIN: Ticks = Ticks::from_secs(5);

/// A SYN copy that has been read.
#[derive(Clone, Copy, Debug)]
struct SynCopy {
    service: usize,
    configuration: Configuration,
    tag_at: usize,
    tag_length: usize,
    /// Its signature, if it has one.
    proof: Option<Proof>,
    /// The outer destination that it came with.
    outer_destination: IpAddr,
    /// Whether it came from the gateway directly.
    is_direct: bool,
}

impl<F: Family> ReplicaFor<'_, F> {
    /// Handles a tunnel that belongs to no connection and is no direct copy (op 402).
    pub(super) fn switch_tunnel<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        inner: View,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        // op 402: a copy has come.
        let (peer, outer_destination) = packet.view.addresses(packet.buffer.head());
        let settings = &self.common.settings;
        if !self.common.hosts.is_tunnel_address(outer_destination) {
            return Verdict::ForeignTunnel;
        }
        if !settings.switches.allows(peer) {
            self.watch_tunnel(packet, inner, peer);
            return Verdict::PeerNotAllowed;
        }
        // op 410
        if let Err(verdict) = decap::open(packet, inner) {
            return verdict;
        }
        match packet.view.kind {
            Kind::Tcp => self.copy(packet, outer_destination, false, context.now),
            Kind::Icmp => self.switch_icmp(packet, (peer, outer_destination), context),
            _ => Verdict::TunnelMalformed,
        }
    }

    /// Handles a decapsulated copy, of whichever sender.
    pub(super) fn copy<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        outer_destination: IpAddr,
        is_direct: bool,
        now: Ticks,
    ) -> Verdict {
        match self.read_copy(packet, (outer_destination, is_direct), now) {
            Ok(copy) => self.admit(packet, copy, now),
            Err(verdict) => verdict,
        }
    }

    /// Reads a decapsulated copy: its service and its tag.
    fn read_copy<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        (outer_destination, is_direct): (IpAddr, bool),
        now: Ticks,
    ) -> Result<SynCopy, Verdict> {
        if !packet.tcp_checksum_ok::<F>() {
            return Err(Verdict::TunnelInnerChecksum);
        }
        if !tcp::flags(packet.tcp()).is_syn() {
            return Err(Verdict::CopyNotSyn);
        }
        if packet.has_data() {
            return Err(Verdict::CopyData);
        }
        let client = packet.source::<F>().address;
        let is_martian = self.is_martian(client);
        let Common { settings, keys, signatures, counters, .. } = &mut *self.common;
        let (tag, tag_at, tag_length) = match settings.tag.find(packet.options()) {
            tag::Found::Tag(tag, at, length) if tag.permitted => (tag, at, length),
            tag::Found::Bad => return Err(Verdict::BadTag),
            _ => {
                if let Some(exid) = settings.tag.find_other(packet.options()) {
                    let sightings = &counters.common.sightings;
                    sightings.note(Sighting::OtherTag, client.into(), exid);
                }
                return Err(Verdict::CopyNotTagged);
            }
        };
        let common = &counters.common;
        let proof = match signatures.verify::<F, B>(keys.get(), packet, &tag, now, common) {
            Verification::Invalid => return Err(Verdict::CopyBadSignature),
            Verification::Unsigned if settings.require_signature => {
                return Err(Verdict::CopyNotSigned);
            }
            Verification::Unsigned => None,
            Verification::Valid(proof) => Some(proof),
        };
        let Common { settings, services, .. } = &*self.common;
        let to = packet.destination::<F>();
        let service = services.find(to.address.into(), to.port);
        let Some(service) = service.map(usize::from) else {
            self.watch_port(to);
            return Err(Verdict::CopyNoService);
        };
        if is_martian {
            return Err(Verdict::CopyClientMartian);
        }
        if !settings.allowed_clients.allows(client.into()) {
            return Err(Verdict::CopyClientNotAllowed);
        }
        let configuration = tag.configuration.ok_or(Verdict::CopyUnknownConfiguration)?;
        Ok(SynCopy {
            service,
            configuration,
            tag_at,
            tag_length,
            proof,
            outer_destination,
            is_direct,
        })
    }

    /// Returns whether no client can have this address: it is no unicast address, or one of the
    /// services', of the web servers' or of the appliance's own.
    pub(super) fn is_martian(&self, client: F::Address) -> bool {
        let (hosts, address) = (&self.common.hosts, client.into());
        !F::is_unicast(client)
            || self.common.services.covers(address)
            || hosts.is_tunnel_address(address)
            || hosts.is_server(address)
    }

    /// Gives a copy to a web server (op 410), unless the replica is out of service or busy (ops
    /// 404, 406, 408).
    fn admit<B: Buffer>(&mut self, packet: &mut Packet<B>, copy: SynCopy, now: Ticks) -> Verdict {
        // op 404
        if self.common.admission.dead.load(Relaxed) {
            return Verdict::OutOfService;
        }
        let client = packet.source::<F>();
        let (address, port) = (client.address.into(), client.port);
        let selection = self.common.selection.get();
        let Some(selected) = selection.select(copy.service, address, port) else {
            return Verdict::OutOfService;
        };
        let hash = self.connections.hash(client);
        let isn = tcp::sequence(packet.tcp());
        let earlier = self.connections.find(hash, client, now);
        if let Some(slot) = earlier
            && let connection = &self.connections.get(slot).value
            && connection.is_duplicate(packet.destination(), isn, now)
        {
            return Verdict::CopyDuplicate;
        }
        // A copy that came both ways was given once.
        let Common { keys, signatures, .. } = &mut *self.common;
        if copy.proof.is_some_and(|proof| !signatures.pass(proof, keys.get(), now)) {
            return Verdict::CopyReplayed;
        }
        let repeated = earlier.filter(|&slot| {
            let connection = &self.connections.get(slot).value;
            connection.isn == isn && connection.server == packet.destination()
        });
        if let Some(slot) = repeated
            && self.connections.get(slot).value.copies_left == 0
        {
            return Verdict::CopyRetransmitLimit;
        }
        // op 408
        if self.is_busy(now) {
            return Verdict::Busy;
        }
        if let Some(slot) = repeated {
            self.on_repeated_copy(slot, now);
            self.allow_syn_acks(slot);
            let connection = self.connections.get(slot).value;
            return self.forward_copy(packet, copy, slot, connection, Verdict::CopyRetransmit, now);
        }
        if let Some(slot) = earlier.filter(|slot| self.connections.get(*slot).value.is_live())
            && let Some(verdict) = self.challenge(packet, copy, slot, selected, now)
        {
            return verdict;
        }
        let service = &self.common.settings.services[copy.service];
        let (server, number) = (&service.servers[selected], service.first_server + selected);
        let Some(connection) = self.connection_to(server, packet, copy) else {
            return Verdict::CopyNoService;
        };
        let Some(slot) = self.insert(hash, client, earlier, connection, now) else {
            return Verdict::Busy;
        };
        self.common.counters.syns[number].add(1);
        if copy.is_direct {
            self.common.counters.common.scalar(Scalar::DirectCopies).add(1);
        }
        self.allow_syn_acks(slot);
        self.forward_copy(packet, copy, slot, connection, Verdict::CopyAccepted, now)
    }

    /// Handles a copy for a client endpoint that has a live connection here. The web server's TCP
    /// decides: the connection continues until that accepts the new one. Otherwise anybody who can
    /// have a SYN copied could take over the connection. Where another web server would be asked, the
    /// copy is dropped; `None` if the gateway's word ends the connection: it has signed the SYN, and
    /// the client is quiet.
    fn challenge<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        copy: SynCopy,
        slot: Slot,
        selected: usize,
        now: Ticks,
    ) -> Option<Verdict> {
        let entry = self.connections.get(slot);
        let (connection, seen) = (entry.value, entry.seen());
        let server = &self.common.settings.services[copy.service].servers[selected];
        let endpoints = |c: &Connection<F>| (c.server, c.replica, c.has_vip);
        let next = self.connection_to(server, packet, copy);
        let Some(next) = next.filter(|next| endpoints(next) == endpoints(&connection)) else {
            let is_over = copy.proof.is_some() && now.since(seen) >= HEARD_WITHIN;
            return (!is_over).then_some(Verdict::CopyEndpointInUse);
        };
        self.connections.value_mut(slot).challenge(next.isn, Some(next.configuration));
        *self.translates |= next.configuration.replica_translates();
        Some(self.forward_copy(packet, copy, slot, next, Verdict::CopyNewIsn, now))
    }

    /// Strips the tag of a copy and sends it to the web server of `connection`, which is, or may
    /// become, that of the entry in `slot`.
    fn forward_copy<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        copy: SynCopy,
        slot: Slot,
        connection: Connection<F>,
        verdict: Verdict,
        now: Ticks,
    ) -> Verdict {
        tag::strip::<F, B>(packet, copy.tag_at, copy.tag_length);
        self.clamp(packet, &connection);
        mode::to_web_server(packet, Segment::Data, &connection);
        let server = connection.replica.address.into();
        let verdict = self.send_to_server(packet, server, copy.outer_destination, verdict, now);
        if verdict.fate() != Fate::Dropped {
            self.connections.value_mut(slot).last_copy = Some(CopyTime::at(now));
        }
        verdict
    }

    /// Handles a copy of a SYN whose connection is known.
    fn on_repeated_copy(&mut self, slot: Slot, now: Ticks) {
        let connection = self.connections.value_mut(slot);
        connection.copies_left = connection.copies_left.saturating_sub(1);
        match self.connections.get(slot).state() {
            // The web server had refused, and may accept now.
            Phase::Lost | Phase::Closed => {
                self.connections.value_mut(slot).tracking = TcpTracking::default();
                self.move_to(slot, Phase::Opening, now);
            }
            _ => self.touch(slot, now),
        }
    }

    /// Returns a new connection to this web server; `None` when that is of another family than the
    /// SYN, which no configuration gives.
    fn connection_to<B: Buffer>(
        &self,
        server: &Server,
        packet: &Packet<B>,
        copy: SynCopy,
    ) -> Option<Connection<F>> {
        let destination = packet.destination::<F>();
        let client: IpAddr = packet.source::<F>().address.into();
        let address = F::from_ip(server.address)?;
        Some(Connection {
            server: destination,
            replica: Endpoint::new(address, server.port.unwrap_or(destination.port)),
            isn: tcp::sequence(packet.tcp()),
            configuration: copy.configuration,
            format: self.common.settings.path.format(client),
            has_vip: server.has_vip && copy.configuration.data_in_tunnels(),
            expected: [0; 2],
            next_isn: 0,
            next_configuration: NextConfiguration::default(),
            tracking: TcpTracking::default(),
            syn_acks_left: 0,
            copies_left: MAX_REPEATED_COPIES,
            last_copy: None,
        })
    }

    /// Sends a decapsulated packet to a web server. While its MAC address is unknown the frame is
    /// pending.
    fn send_to_server<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        server: IpAddr,
        outer_destination: IpAddr,
        verdict: Verdict,
        now: Ticks,
    ) -> Verdict {
        let configured = self.common.hosts.mac(server);
        if let Some(mac) = configured {
            ethernet::set_destination(packet.buffer.head_mut(), mac);
            return verdict;
        }
        // A frame that was sent to the web server's own address already has its MAC address.
        if server == outer_destination {
            return verdict;
        }
        self.common.resolver.address(packet, server, verdict, now)
    }

    /// Returns whether this worker is busy (op 406).
    fn is_busy(&mut self, now: Ticks) -> bool {
        let heard = self.common.heard.count(now);
        let Settings { busy_syn_rate: rate, busy_connections, .. } = self.common.settings;
        // op 406: is the replica busy?
        self.common.admission.busy.load(Relaxed)
            || heard >= busy_connections
            || !self.common.syns.take(1, rate, rate, now)
    }

    fn insert(
        &mut self,
        hash: Hash,
        client: Endpoint<F>,
        earlier: Option<Slot>,
        connection: Connection<F>,
        now: Ticks,
    ) -> Option<Slot> {
        let translates = connection.configuration.replica_translates();
        if let Some(slot) = earlier {
            *self.translates |= translates;
            *self.connections.value_mut(slot) = connection;
            self.move_to(slot, Phase::Opening, now);
            return Some(slot);
        }
        let counters = self.common.counters.common.table_of(F::VERSION);
        let opening = Phase::Opening;
        let inserted =
            insert_counted(self.connections, counters, hash, client, opening, connection, now);
        *self.translates |= translates && inserted.is_some();
        inserted.map(Inserted::slot)
    }

    /// Handles decapsulated ICMP of a switch: a probe of the tunnel, or a router's "too big" about
    /// a plain packet with the server's source address.
    fn switch_icmp<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        tunnel: (IpAddr, IpAddr),
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if probe::is_request::<F, _>(packet, tunnel) {
            return self.answer_probe(packet, context);
        }
        let Some(quoted) = quote::read::<F, _>(packet) else { return Verdict::TunnelIcmp };
        if !quote::is_too_big::<F, _>(packet) || !quote::checksum_ok::<F, _>(packet) {
            return Verdict::TunnelIcmp;
        }
        let connection =
            self.connection_of(quoted.destination, context.now).map(|found| found.connection);
        match connection {
            Some(connection)
                if connection.configuration.data_plain_as_server()
                    && quoted.source == connection.server
                    && quoted.outer.is_none() =>
            {
                mode::error_to_web_server(packet, quoted, &connection);
                let (server, verdict) =
                    (connection.replica.address.into(), Verdict::IcmpTranslated);
                self.send_to_server(packet, server, tunnel.1, verdict, context.now)
            }
            _ => Verdict::TunnelIcmp,
        }
    }

    /// Answers a probe of the tunnel. A replica that is out of service does not, and the switch
    /// stops sending it copies.
    fn answer_probe<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if self.common.admission.dead.load(Relaxed) || self.common.selection.get().is_dead() {
            return Verdict::ProbeIgnored;
        }
        let Some(answer) = probe::answer::<F, P>(packet, context.pool) else {
            return Verdict::NoBuffer;
        };
        let (counters, what) = (&self.common.counters.common, Generated::ProbeAnswer);
        send_generated(counters, Side::Outside, answer, what, context);
        Verdict::ProbeAnswered
    }
}
