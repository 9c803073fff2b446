//! Connections whose entry is lost: forgotten by a restart, evicted, or expired. Both ends are told,
//! so that a client which only receives does not wait for ever (docs/protocol.md, 6.6).
//!
//! What a replica sends to a client without an entry proves nothing: the client may have connected
//! to the replica's own address, and anybody may forge it. Under A the packet goes on as it is.
//! Besides, the gateway *challenges* the client: it sends a RST as from V with a sequence number that
//! is within the client's window but not the next one. A TCP that has the connection answers with an
//! ACK (RFC 5961, section 3.2), and goes on; one that has not is silent. That ACK, from C to V, has
//! the very numbers that the replica's packet had. Then both ends are reset, with numbers that they
//! accept. A connection with the origin has other numbers, and is never harmed.

use super::GatewayFor;
use super::mode::{Mode, Translation};
use super::segments::has_right_checksums;
use crate::base::time::Ticks;
use crate::counters::Generated;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, Side, View};
use crate::policy::allow_list::AllowList;
use crate::policy::clients::ClientHash;
use crate::policy::limiter::Bucket;
use crate::policy::suspects::Suspects;
use crate::role::gateway::{Service, Settings};
use crate::role::{Context, send_generated};
use crate::stage::reset::{self, Way};
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp::{self, Flags};

/// The most challenges of a worker that wait for an answer, in each family.
const PLACES: usize = 1 << 12;
/// An answer to a challenge comes within this time.
const ANSWERED_WITHIN: Ticks = Ticks::from_secs(5);
/// A client is challenged again after this time, if the replica still sends.
const REPEATED_AFTER: Ticks = Ticks::from_millis(500);
/// How far beyond the sequence number of the replica's packet a challenge is: within the smallest
/// window, and not the client's next number, be the packet data or a keep-alive (RFC 9293, section
/// 3.8.4), whose number is one too low.
const BEYOND: u32 = 2;
/// How far the client may be ahead of what the replica has acknowledged.
pub(super) const AHEAD: u32 = 1 << 16;
/// Resets and challenges for lost connections that a worker sends per second.
const PER_SECOND: u64 = 1000;

/// A client that was asked whether it has a connection.
#[derive(Clone, Copy, Debug)]
struct Challenge<F: Family> {
    /// Between which ends the connection would be.
    ends: Translation<F>,
    /// The numbers of the replica's packet.
    sequence: u32,
    ack_number: u32,
    /// When the client was asked.
    at: Ticks,
    /// How often it was asked before, each time for another service that matches.
    attempt: usize,
}

/// What one family's clients were asked.
pub(super) struct Lost<F: Family> {
    suspects: Suspects,
    challenges: Box<[Option<Challenge<F>>]>,
    /// Answers come until then.
    answers_until: Ticks,
    hash: ClientHash,
}

impl<F: Family> Lost<F> {
    pub(super) fn new(settings: &Settings) -> Self {
        let services = settings.services.iter();
        let prefixes = services.flat_map(|service| service.allowed_replicas.prefixes());
        Self {
            suspects: Suspects::new(prefixes),
            challenges: vec![None; PLACES].into_boxed_slice(),
            answers_until: Ticks(0),
            hash: ClientHash::new(settings.hash_key),
        }
    }

    /// Goes on with the replicas that are allowed now. The challenges that wait stay.
    pub(super) fn reload(&mut self, next: &mut Self) {
        std::mem::swap(&mut self.suspects, &mut next.suspects);
        if self.challenges.len() < next.challenges.len() {
            std::mem::swap(&mut self.challenges, &mut next.challenges);
        }
    }

    /// Returns whether a packet without an entry may have to do with a lost connection: under A one
    /// from a possible replica, under A and C one of a client while answers are awaited.
    #[inline(always)]
    pub(super) fn concerns<M: Mode>(&self, from: Side, source: Endpoint<F>, now: Ticks) -> bool {
        match from {
            Side::Outside => !M::SYN_ACK_IN_TUNNEL && self.suspects.has(source.address.into()),
            Side::Inside => M::REPLIES_NEED_LOOKUP && now < self.answers_until,
        }
    }

    fn place(&self, client: Endpoint<F>) -> usize {
        let address = self.hash.address(client.address.into());
        let hash = address ^ u32::from(client.port).wrapping_mul(0x9e37_79b1) >> 16;
        hash as usize % self.challenges.len()
    }
}

/// A packet of a replica for which there is no entry.
#[derive(Clone, Copy, Debug)]
struct Stray<F: Family> {
    client: Endpoint<F>,
    replica: Endpoint<F>,
    /// V, if the packet says it.
    server: Option<Endpoint<F>>,
    flags: Flags,
    numbers: (u32, u32),
}

/// Returns the bucket of a worker's challenges and resets.
pub(super) fn tokens() -> Bucket {
    Bucket::full(PER_SECOND, Ticks(0))
}

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Takes the token that telling a connection's ends costs; `false` when there is none.
    pub(super) fn may_tell(&mut self, now: Ticks) -> bool {
        self.common.tells.take(1, PER_SECOND, PER_SECOND, now)
    }

    /// Handles a plain packet without an entry (op 616).
    #[inline]
    pub(super) fn without_entry<P: Pool>(
        &mut self,
        from: Side,
        packet: &Packet<P::Buffer>,
        client: Endpoint<F>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let source = packet.source::<F>();
        if !self.lost.concerns::<M>(from, source, context.now) {
            return Verdict::NoEntry;
        }
        match from {
            Side::Outside => {
                let tcp = packet.tcp();
                let numbers = (tcp::sequence(tcp), tcp::ack_number(tcp));
                let flags = tcp::flags(tcp);
                let stray = Stray { client, replica: source, server: None, flags, numbers };
                self.challenge(stray, packet, context);
                Verdict::NoEntry
            }
            Side::Inside if self.on_answer(packet, client, context) => Verdict::ConnectionLost,
            Side::Inside => Verdict::NoEntry,
        }
    }

    /// Handles a TCP packet in a tunnel from a replica, under C, without an entry: its form says
    /// which connection it is of.
    #[cold]
    pub(super) fn tunnel_without_entry<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        inner: View,
        context: &mut Context<'_, P>,
    ) {
        let head = packet.buffer.head();
        let (client, server) = (inner.destination(head), inner.source::<F>(head));
        let address = F::source(packet.ip());
        let service = self.common.services.find(server.address.into(), server.port);
        let replica = Endpoint::new(address, server.port);
        let is_permitted = |service| self.is_permitted(service, replica, server, client);
        if !M::DATA_IN_TUNNELS || !service.is_some_and(is_permitted) {
            return;
        }
        let tcp = &head[usize::from(inner.l4)..];
        let numbers = (tcp::sequence(tcp), tcp::ack_number(tcp));
        let flags = tcp::flags(tcp);
        let stray = Stray { client, replica, server: Some(server), flags, numbers };
        self.challenge(stray, packet, context);
    }

    fn is_permitted(
        &self,
        service: u16,
        replica: Endpoint<F>,
        server: Endpoint<F>,
        client: Endpoint<F>,
    ) -> bool {
        F::is_unicast(replica.address)
            && replica.address != server.address
            && replica.address != client.address
            && self.allows_replica(service, replica)
    }

    /// Asks a client whether it has the connection that a packet of a replica would be of. Packets
    /// that open a connection or reset one are not answered.
    fn challenge<P: Pool>(
        &mut self,
        stray: Stray<F>,
        packet: &Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) {
        let (now, Stray { client, replica, .. }) = (context.now, stray);
        if stray.flags.0 & (Flags::SYN | Flags::RST | Flags::ACK) != Flags::ACK
            || !context.out.has_room(Side::Inside)
        {
            return;
        }
        let place = self.lost.place(client);
        let earlier = self.lost.challenges[place];
        if earlier.is_some_and(|earlier| now.since(earlier.at) < REPEATED_AFTER) {
            return;
        }
        let same = earlier.filter(|e| (e.ends.client, e.ends.replica) == (client, replica));
        let attempt = same.map_or(0, |earlier| earlier.attempt + 1);
        let server = match stray.server {
            Some(server) => Some(server),
            None => self.candidate(replica, client, attempt),
        };
        let Some(server) = server.filter(|_| self.may_tell(now)) else { return };
        let (sequence, ack_number) = stray.numbers;
        let way = Way::Along(&packet.buffer.head()[..usize::from(packet.view.l3)]);
        let number = sequence.wrapping_add(BEYOND);
        let Some(reset) = reset::make(way, (server, client), number, context.pool) else { return };
        let counters = &self.common.counters.common;
        send_generated(counters, Side::Inside, reset, Generated::Challenge, context);
        let format = self.common.settings.path.format(replica.address.into());
        let ends = Translation { client, server, replica, format };
        self.lost.challenges[place] =
            Some(Challenge { ends, sequence, ack_number, at: now, attempt });
        self.lost.answers_until = now + ANSWERED_WITHIN;
    }

    /// Returns the server endpoint that the client of a replica may be connected to: of several, each
    /// in turn. Only services of single addresses whose replicas are listed count.
    fn candidate(
        &self,
        replica: Endpoint<F>,
        client: Endpoint<F>,
        attempt: usize,
    ) -> Option<Endpoint<F>> {
        let endpoints = |(number, service): (u16, &Service)| {
            let address = service.scope.address().and_then(F::from_ip);
            let server = address.map(|address| Endpoint::new(address, 0));
            let permits = |server: &_| self.is_permitted(number, replica, *server, client);
            let is_listed = service.allowed_replicas != AllowList::Any;
            let server = server.filter(|server| is_listed && permits(server));
            let same = service.ports.contains(&replica.port);
            server.map(move |server| (server.address, same))
        };
        let services = || (0u16..).zip(&self.common.settings.services);
        let all = || {
            services().flat_map(|(number, service)| {
                let found = endpoints((number, service));
                let ports = service.ports.iter();
                found.into_iter().flat_map(move |(address, same)| {
                    let ports = ports.clone().filter(move |port| !same || **port == replica.port);
                    ports.map(move |port| Endpoint::new(address, *port))
                })
            })
        };
        let count = all().count();
        all().nth(attempt.checked_rem(count)?)
    }

    /// Handles a packet of a client that may answer a challenge. If it does, both ends of the
    /// connection are reset. The packet itself goes to V, whose reset is another one for the client.
    #[cold]
    fn on_answer<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        client: Endpoint<F>,
        context: &mut Context<'_, P>,
    ) -> bool {
        let place = self.lost.place(client);
        let Some(challenge) = self.lost.challenges[place] else { return false };
        let Challenge { ends, sequence, ack_number, at, .. } = challenge;
        let (tcp, now) = (packet.tcp(), context.now);
        let is_answer = ends.client == client
            && ends.server == packet.destination()
            && now.since(at) < ANSWERED_WITHIN
            && tcp::flags(tcp).is_acknowledged_data()
            && tcp::ack_number(tcp).wrapping_sub(sequence) <= 1
            && tcp::sequence(tcp).wrapping_sub(ack_number) < AHEAD
            && has_right_checksums::<F, P::Buffer>(packet);
        if !is_answer || !self.may_tell(now) {
            return false;
        }
        self.lost.challenges[place] = None;
        let ethernet = &packet.buffer.head()[..usize::from(packet.view.l3)];
        let numbers = (ack_number, tcp::ack_number(tcp));
        self.reset_both(Way::Along(ethernet), &ends, numbers, context);
        true
    }

    /// Resets both ends of a connection with the sequence numbers that replica and client expect.
    /// `way` is that of a frame of the client.
    pub(super) fn reset_both<P: Pool>(
        &self,
        way: Way<'_>,
        ends: &Translation<F>,
        (from_client, from_server): (u32, u32),
        context: &mut Context<'_, P>,
    ) {
        let (along, back) = match way {
            Way::Along(ethernet) => (way, Way::Back(ethernet)),
            Way::Back(ethernet) => (way, Way::Along(ethernet)),
        };
        let Translation { client, server, .. } = *ends;
        let to_replica = reset::make(along, (client, server), from_client, context.pool);
        if let Some(reset) = to_replica {
            let mut packet = Packet::new(reset);
            if M::to_replica(&mut packet, ends, &self.common.settings.path).is_ok() {
                self.tell(Side::Outside, packet.buffer, context);
            }
        }
        let to_client = reset::make(back, (server, client), from_server, context.pool);
        if let Some(reset) = to_client {
            self.tell(Side::Inside, reset, context);
        }
    }

    /// Sends a reset of a lost connection, if there is room for it.
    pub(super) fn tell<P: Pool>(&self, side: Side, reset: P::Buffer, context: &mut Context<'_, P>) {
        if context.out.has_room(side) {
            let counters = &self.common.counters.common;
            send_generated(counters, side, reset, Generated::LostReset, context);
        }
    }
}
