//! Probes of the tunnels to replicas: a replica that does not answer them gets no copies until it
//! answers again. One worker sends the probes, any worker may receive an answer, and the control
//! thread reads the result from [`TunnelHealth`].

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};

use arrayvec::ArrayVec;
use siphasher::sip::SipHasher13;

use super::settings::{Probing, ServiceState, Settings, Tunnel};
use crate::base::time::Ticks;
use crate::counters::{CommonCounters, EarlierNumbers, Generated};
use crate::packet::buffer::Pool;
use crate::packet::view::{Packet, Side};
use crate::role::{Context, send_generated};
use crate::stage::encap;
use crate::stage::probe::{self, Reply, Request};
use crate::wire::ethernet;
use crate::wire::family::{Endpoint, Family, V4, V6};

/// The most probes sent at once: they must fit into one transmit burst.
const AT_ONCE: usize = 32;
/// The shortest time between two updates of the Ethernet header of a service's SYNs.
const HEADER_INTERVAL: Ticks = Ticks::from_secs(1);

/// An Ethernet header, including VLAN tags.
type Header = ArrayVec<u8, { ethernet::MAX_HEADER }>;

/// The health of the tunnels to replicas, shared by all workers and the control thread.
#[derive(Debug)]
pub struct TunnelHealth {
    /// By replica among all configured.
    tunnels: Box<[Health]>,
    /// By the first replica of a service: the Ethernet header of the service's last tagged SYN,
    /// with source and destination exchanged.
    headers: Box<[Mutex<Header>]>,
}

#[derive(Debug)]
struct Health {
    alive: AtomicBool,
    /// The count of the last probe that was answered.
    answered: AtomicU32,
}

impl TunnelHealth {
    /// Returns the health of this many tunnels. All are alive until probes go unanswered.
    pub fn new(replicas: usize) -> Self {
        let health = |_| Health { alive: AtomicBool::new(true), answered: AtomicU32::new(0) };
        Self {
            tunnels: (0..replicas).map(health).collect(),
            headers: (0..replicas).map(|_| Mutex::default()).collect(),
        }
    }

    /// Takes over what `before`, the health before a reload, knows of tunnels that both have;
    /// `earlier` are their numbers in it. Called before `self` is used, by the control thread, and by
    /// the worker that sends the probes when it reloads.
    pub fn inherit(&self, before: &Self, earlier: &EarlierNumbers) {
        for (number, tunnel) in self.tunnels.iter().enumerate() {
            if let Some(known) = earlier.of(number).and_then(|number| before.tunnels.get(number)) {
                tunnel.alive.store(known.alive.load(Relaxed), Relaxed);
                tunnel.answered.fetch_max(known.answered.load(Relaxed), Relaxed);
            }
        }
    }

    /// Returns whether a replica's tunnel is alive. The replica is given by its number among all
    /// configured.
    pub fn is_alive(&self, replica: usize) -> bool {
        self.tunnels.get(replica).is_none_or(|tunnel| tunnel.alive.load(Relaxed))
    }
}

/// The probing worker's state of one tunnel.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The count of the last probe; zero when it was not sent.
    sent: u32,
    /// Results in a row that contradict the tunnel's health: answers of a dead tunnel, or missing
    /// answers of a live one.
    in_a_row: u8,
}

/// A replica that is probed.
#[derive(Debug)]
struct Probed {
    /// The first replica of its service.
    first: usize,
    tunnel: Tunnel,
    state: State,
}

/// One worker's probes.
#[derive(Debug)]
pub(super) struct Probes {
    probing: Option<Probing>,
    health: Arc<TunnelHealth>,
    /// By replica among all configured.
    replicas: Box<[Probed]>,
    /// By the first replica of a service: when this worker last stored an Ethernet header.
    header_stored: Box<[Option<Ticks>]>,
    /// The replica to probe next, and when. The probes are spread evenly over the interval.
    next: (usize, Ticks),
    /// The number of the current round of probes.
    count: u32,
    secret: (u64, u64),
}

impl Probes {
    pub(super) fn new(
        settings: &Settings,
        services: &[ServiceState],
        health: Arc<TunnelHealth>,
    ) -> Self {
        let of = |service: &ServiceState| {
            let first = service.first_replica;
            let probed = move |&tunnel| Probed { first, tunnel, state: State::default() };
            service.replicas.iter().map(probed).collect::<Vec<_>>()
        };
        let replicas: Box<[Probed]> = services.iter().flat_map(of).collect();
        Self {
            probing: settings.probing,
            health,
            header_stored: vec![None; replicas.len()].into_boxed_slice(),
            replicas,
            next: (0, Ticks(0)),
            count: 0,
            secret: settings.hash_key,
        }
    }

    /// Goes on with the tunnels and settings of `next`, of the role that has these settings. Tunnels
    /// that are probed before and after keep their state. `services` are the first replicas of each
    /// service, before and after.
    pub(super) fn reload(
        &mut self,
        next: &mut Self,
        settings: &Settings,
        services: impl Iterator<Item = (usize, usize)>,
        now: Ticks,
    ) {
        let earlier = &settings.earlier_replicas;
        let is_shared = Arc::ptr_eq(&self.health, &next.health);
        if settings.probes && !is_shared {
            next.health.inherit(&self.health, earlier);
        }
        let mut at = 0;
        for (number, probed) in next.replicas.iter_mut().enumerate() {
            let Some(before) = earlier.of(number) else { continue };
            if before == self.next.0 {
                at = number;
            }
            if let Some(known) = self.replicas.get(before).filter(|k| k.tunnel == probed.tunnel) {
                probed.state = known.state;
                if before != number {
                    // The answer to its last probe has another number in it.
                    probed.state.sent = 0;
                }
            }
        }
        for (before, first) in services {
            let Some(stored) = next.header_stored.get_mut(first) else { continue };
            *stored = self.header_stored.get(before).copied().flatten();
            if !is_shared
                && settings.probes
                && let Some(header) = self.health.headers.get(before)
            {
                copy_header(header, &next.health.headers[first]);
            }
        }
        let interval = next.probing.map_or(Ticks(0), |probing| probing.interval);
        next.next = (at, self.next.1.min(now + interval));
        next.count = self.count;
        std::mem::swap(self, next);
    }

    /// Notes the Ethernet header of a tagged SYN to the service whose first replica is `first`.
    /// Copies and probes are sent back to the host that the SYN came from.
    #[inline]
    pub(super) fn note_header(&mut self, first: usize, header: &[u8], now: Ticks) {
        if self.probing.is_none() {
            return;
        }
        let Some(stored) = self.header_stored.get_mut(first) else { return };
        if stored.is_none_or(|last| now.since(last) >= HEADER_INTERVAL) {
            *stored = Some(now);
            self.store(first, header);
        }
    }

    #[cold]
    fn store(&self, first: usize, header: &[u8]) {
        let mut reversed: Header = header.iter().copied().take(ethernet::MAX_HEADER).collect();
        ethernet::reverse(&mut reversed);
        // Another worker that has the lock stores a header that is as good.
        if let Ok(mut stored) = self.health.headers[first].try_lock() {
            *stored = reversed;
        }
    }

    /// Returns whether an echo reply answers one of the probes; if so, notes the answer.
    pub(super) fn returned<F: Family>(&self, reply: &Reply<'_, F>) -> bool {
        let number = usize::from(reply.sequence);
        let (Some(probing), Some(probed)) = (self.probing, self.replicas.get(number)) else {
            return false;
        };
        let ends: (IpAddr, IpAddr) = (reply.to.into(), reply.from.into());
        let Some(count) = self.count_in(number, reply.data) else { return false };
        if reply.identifier != probing.id || ends != probed.tunnel.ends {
            return false;
        }
        self.health.tunnels[number].answered.fetch_max(count, Relaxed);
        true
    }

    /// Returns the data of a probe: its count, and a keyed hash of it that no other host can
    /// compute.
    fn data(&self, number: usize, count: u32) -> [u8; 8] {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write_usize(number);
        hasher.write_u32(count);
        let [a, b, c, d] = count.to_be_bytes();
        let [e, f, g, h, ..] = hasher.finish().to_be_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// Returns the count in the data of a reply, if the hash is right.
    fn count_in(&self, number: usize, data: &[u8]) -> Option<u32> {
        let [a, b, c, d, ..] = *data else { return None };
        let count = u32::from_be_bytes([a, b, c, d]);
        (data == self.data(number, count)).then_some(count)
    }

    /// Updates the health of the tunnels that are due, and probes them. Must be called by one
    /// worker only.
    pub(super) fn send_due<P: Pool>(
        &mut self,
        counters: &CommonCounters,
        context: &mut Context<'_, P>,
    ) {
        let Some(probing) = self.probing else { return };
        let (replicas, now) = (self.replicas.len(), context.now);
        if replicas == 0 || now < self.next.1 {
            return;
        }
        // After a pause, missed probes are not made up for.
        if now.since(self.next.1) >= probing.interval {
            self.next.1 = now;
        }
        for _ in 0..AT_ONCE {
            let (number, due) = self.next;
            if now < due || !context.out.has_room(Side::Outside) {
                break;
            }
            self.count = self.count.wrapping_add(u32::from(number == 0)).max(1);
            self.update_health(number, probing);
            self.probe(number, probing, counters, context);
            let step = Ticks((probing.interval.0 / replicas as u64).max(1));
            self.next = ((number + 1) % replicas, due + step);
        }
    }

    /// Updates a tunnel's health by whether its last probe was answered.
    fn update_health(&mut self, number: usize, probing: Probing) {
        let state = &mut self.replicas[number].state;
        let health = &self.health.tunnels[number];
        if state.sent == 0 {
            return;
        }
        let answered = health.answered.load(Relaxed) == state.sent;
        let alive = health.alive.load(Relaxed);
        if answered == alive {
            state.in_a_row = 0;
            return;
        }
        state.in_a_row += 1;
        let limit = if alive { probing.fall } else { probing.rise };
        if state.in_a_row >= limit {
            health.alive.store(!alive, Relaxed);
            state.in_a_row = 0;
        }
    }

    /// Sends a probe to a replica, if a SYN has shown the next hop.
    fn probe<P: Pool>(
        &mut self,
        number: usize,
        probing: Probing,
        counters: &CommonCounters,
        context: &mut Context<'_, P>,
    ) {
        let count = self.count;
        let data = self.data(number, count);
        let probed = &mut self.replicas[number];
        probed.state.sent = 0;
        let header = match self.health.headers[probed.first].try_lock() {
            Ok(header) if !header.is_empty() => header.clone(),
            _ => return,
        };
        let (identifier, sequence) = (probing.id, number as u16);
        let frame = match probed.tunnel.ends {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let echo = Request::<V4> { from, to, identifier, sequence, data };
                tunnelled::<V4, P>(&header, &echo, &probed.tunnel, context.pool)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let echo = Request::<V6> { from, to, identifier, sequence, data };
                tunnelled::<V6, P>(&header, &echo, &probed.tunnel, context.pool)
            }
            _ => None,
        };
        let Some(frame) = frame else { return };
        probed.state.sent = count;
        send_generated(counters, Side::Outside, frame, Generated::TunnelProbe, context);
    }
}

/// Copies the Ethernet header of a service, unless one of the two is just being stored.
fn copy_header(from: &Mutex<Header>, to: &Mutex<Header>) {
    if let (Ok(from), Ok(mut to)) = (from.try_lock(), to.try_lock()) {
        *to = from.clone();
    }
}

/// Returns a probe in its tunnel; `None` when the pool is empty.
fn tunnelled<F: Family, P: Pool>(
    header: &[u8],
    echo: &Request<F>,
    tunnel: &Tunnel,
    pool: &mut P,
) -> Option<P::Buffer> {
    let mut packet = Packet::new(probe::request::<F, P>(header, echo, pool)?);
    let entropy = Endpoint::<F>::new(echo.from, echo.sequence).entropy();
    encap::put_to(&mut packet, tunnel.outer(entropy)).then_some(packet.buffer)
}
