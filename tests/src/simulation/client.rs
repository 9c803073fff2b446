//! A client host: opens the plan's connections, checks every byte of the responses, and records how
//! each connection ended.

use std::net::SocketAddr;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::address::{CLIENTS, HOST, PORT, address, service};
use super::content::{Filler, HEADER, PREFIX, Request};
use super::host::Host;
use super::plan::{Closer, ConnectionPlan, GivesUp, Nanos, Plan, SECOND};
use super::rng::Rng;
use super::segment;
use super::station::Frame;

/// How long a socket may linger after its connection's end.
const LINGER: Nanos = 300 * SECOND;

/// The end of a connection, as its client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Complete with correct data, from this server.
    Completed(u8),
    /// Its SYN was answered by a RST.
    Refused,
    /// Its SYN was not answered within the client's time-out.
    Unanswered,
    /// An open connection timed out.
    GaveUp,
    /// An open connection was reset, or closed too early.
    Broken(String),
    /// The data was wrong.
    Wrong(String),
}

/// One connection.
#[derive(Debug)]
pub struct Call {
    /// Its number.
    pub id: usize,
    /// Its port.
    pub port: u16,
    /// The service.
    pub service: SocketAddr,
    /// Its SYN's sequence number, once sent.
    pub isn: Option<u32>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// When it began.
    pub begun: Nanos,
    /// SYNs sent.
    pub starts: u32,
    /// Whether it was ever open.
    pub opened: bool,
    /// When it was first open.
    pub opened_at: Option<Nanos>,
    plan: ConnectionPlan,
    request: Request,
    handle: Option<SocketHandle>,
    sent: usize,
    got: usize,
    responder: u8,
    deadline: Nanos,
}

/// A client host.
pub struct Client {
    /// The host.
    pub host: Host,
    /// Its connections, in the order of their start.
    pub calls: Vec<Call>,
    services: Vec<SocketAddr>,
}

impl Client {
    /// Creates the client host with this number.
    pub fn new(plan: &Plan, number: usize, rng: &mut Rng) -> Self {
        let at = HOST + number as u8;
        let own = address(plan.family, CLIENTS, at);
        Self {
            host: Host::new(plan, CLIENTS, at, &[own], rng),
            calls: Vec::new(),
            services: (0..plan.services)
                .map(|number| SocketAddr::new(service(plan.family, number), PORT))
                .collect(),
        }
    }

    /// Starts a connection. The rest of the port's earlier connection is discarded.
    pub fn begin(&mut self, id: usize, plan: ConnectionPlan, now: Nanos) {
        let service = self.services[plan.service];
        let same = |call: &&mut Call| call.port == plan.port && call.service == service;
        for call in self.calls.iter_mut().filter(same) {
            if let Some(handle) = call.handle.take() {
                self.host.forget(handle);
            }
        }
        self.calls.push(Call {
            id,
            port: plan.port,
            service,
            isn: None,
            outcome: None,
            begun: now,
            starts: 0,
            opened: false,
            opened_at: None,
            plan,
            request: Request::new(id, &plan),
            handle: Some(self.host.connect(service, plan.port)),
            sent: 0,
            got: 0,
            responder: 0,
            deadline: now + plan.patience,
        });
    }

    /// Processes a frame, or the passing of time. Returns the connections that have ended.
    pub fn turn(&mut self, frame: Option<Frame>, now: Nanos) -> Vec<usize> {
        let mut ended = Vec::new();
        self.host.poll(frame, now);
        let mut moved = true;
        while moved {
            moved = false;
            for call in &mut self.calls {
                let open = call.outcome.is_none();
                moved |= call.step(&mut self.host, now);
                if open && call.outcome.is_some() {
                    ended.push(call.id);
                }
            }
            if moved {
                self.host.poll(None, now);
            }
        }
        for start in self.host.sending().iter().filter_map(|frame| segment::read(frame)) {
            let own = |call: &&mut Call| {
                call.handle.is_some() && call.port == start.from.port() && call.service == start.to
            };
            if let Some(call) = self.calls.iter_mut().find(own).filter(|_| start.is_syn()) {
                call.isn = Some(start.sequence);
                call.starts += 1;
            }
        }
        ended
    }

    /// Returns the client endpoint of a connection.
    pub fn endpoint(&self, call: &Call) -> SocketAddr {
        SocketAddr::new(self.host.address, call.port)
    }

    /// Returns the time-out of a connection.
    pub fn deadline(&self) -> Option<Nanos> {
        let open = self.calls.iter().filter(|call| call.handle.is_some());
        open.map(|call| call.deadline).min()
    }

    /// Returns whether the client has finished.
    pub fn is_done(&self) -> bool {
        self.calls.iter().all(|call| call.handle.is_none())
    }
}

impl Call {
    /// Makes progress where possible. Returns whether there was any.
    fn step(&mut self, host: &mut Host, now: Nanos) -> bool {
        let Some(handle) = self.handle else { return false };
        let state = host.socket(handle).state();
        if self.outcome.is_some() {
            if state == State::Closed || now >= self.deadline {
                host.forget(handle);
                self.handle = None;
            }
            return false;
        }
        if state == State::Closed {
            let outcome = match self.opened {
                true => Outcome::Broken(format!("reset after {} bytes", self.got)),
                false => Outcome::Refused,
            };
            return self.end(host, handle, outcome, now);
        }
        if now >= self.deadline {
            let outcome = if self.opened { Outcome::GaveUp } else { Outcome::Unanswered };
            return self.end(host, handle, outcome, now);
        }
        if state == State::SynSent {
            return false;
        }
        self.opened = true;
        self.opened_at.get_or_insert(now);
        let moved = self.send(host, handle);
        if moved && self.sent == HEADER + self.plan.request && self.plan.closer == Closer::Half {
            host.socket(handle).close();
        }
        match self.receive(host, handle) {
            Ok(received) => self.finish(host, handle, now) || moved || received,
            Err(outcome) => self.end(host, handle, outcome, now),
        }
    }

    fn end(&mut self, host: &mut Host, handle: SocketHandle, outcome: Outcome, now: Nanos) -> bool {
        let gives_up = self.plan.gives_up;
        let silent = !self.opened || gives_up == GivesUp::Vanishes && outcome == Outcome::GaveUp;
        self.deadline = now + LINGER;
        match outcome {
            Outcome::Completed(_) => host.socket(handle).close(),
            Outcome::GaveUp if gives_up == GivesUp::Closes => host.socket(handle).close(),
            _ if silent => {
                host.forget(handle);
                self.handle = None;
            }
            _ => host.socket(handle).abort(),
        }
        self.outcome = Some(outcome);
        true
    }

    fn send(&mut self, host: &mut Host, handle: SocketHandle) -> bool {
        let (sent, all) = (self.sent, HEADER + self.plan.request);
        let socket = host.socket(handle);
        if sent == all || !socket.can_send() {
            return false;
        }
        let count = if sent < HEADER {
            socket.send_slice(&self.request.header()[sent..])
        } else {
            let filler = Filler::Request(self.request.id);
            socket.send(|buffer| {
                let count = buffer.len().min(all - sent);
                filler.fill(sent - HEADER, &mut buffer[..count]);
                (count, count)
            })
        };
        self.sent += count.unwrap_or(0);
        self.sent > sent
    }

    fn receive(&mut self, host: &mut Host, handle: SocketHandle) -> Result<bool, Outcome> {
        let before = self.got;
        while host.socket(handle).can_recv() {
            let (id, got) = (self.request.id, self.got);
            let read = host.socket(handle).recv(|bytes| {
                let first = (got == 0).then(|| bytes[0]);
                let filler = if got == 0 { &bytes[1..] } else { &*bytes };
                let right = Filler::Response(id).is(got.saturating_sub(PREFIX), filler);
                (bytes.len(), (bytes.len(), first, right))
            });
            let Ok((count, first, right)) = read else { break };
            self.responder = first.unwrap_or(self.responder);
            self.got += count;
            if !right || self.got > PREFIX + self.plan.response {
                let (got, all) = (self.got, PREFIX + self.plan.response);
                return Err(Outcome::Wrong(format!("a wrong byte up to {got} of {all}")));
            }
        }
        Ok(self.got > before)
    }

    /// Ends a connection that is complete, or can never be.
    fn finish(&mut self, host: &mut Host, handle: SocketHandle, now: Nanos) -> bool {
        let all = PREFIX + self.plan.response;
        let peer_closed = !host.socket(handle).may_recv();
        if self.got == all && (peer_closed || self.plan.closer == Closer::Client) {
            return self.end(host, handle, Outcome::Completed(self.responder), now);
        }
        if peer_closed {
            let outcome = Outcome::Broken(format!("closed after {} of {all} bytes", self.got));
            return self.end(host, handle, outcome, now);
        }
        false
    }
}
