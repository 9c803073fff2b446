//! A server: accepts connections, checks every byte of the requests, responds, and records every
//! accepted SYN with its result.

use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{self, State};

use super::address::Site;
use super::backlog::{self, Judgement};
use super::content::{Filler, HEADER, PREFIX, Request};
use super::flood::{self, Crowd};
use super::host::Host;
use super::liar::Liar;
use super::plan::{Behaviour, Closer, MS, Nanos, Plan, SECOND};
use super::rng::Rng;
use super::segment::{self, Segment};
use super::station::Frame;

/// Maximum number of simultaneous connections, in a usual run and in one with many connections.
const SLOTS: [usize; 2] = [8, 24];
/// How long a connection may stay half-open: as with Linux, the last of five retransmissions is
/// after 31 s, the time-out after 63 s.
const HALF_OPEN: Nanos = 62 * SECOND;
/// How long an open connection may be idle.
const STANDSTILL: Nanos = 250 * SECOND;

/// The end of a connection, as its server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides closed it.
    Closed,
    /// The client reset it.
    Reset,
    /// It was never acknowledged.
    TimedOut,
    /// It was idle, so the server reset it.
    Aborted,
    /// A new one of the same client replaced it.
    Replaced,
}

/// A SYN that a server accepted, and its result.
#[derive(Clone, Debug)]
pub struct Record {
    /// The client.
    pub client: SocketAddr,
    /// Its SYN's sequence number.
    pub isn: u32,
    /// Arrival of the SYN.
    pub since: Nanos,
    /// Time of the client's ACK.
    pub established: Option<Nanos>,
    /// Its end, and the time of it.
    pub end: Option<(Nanos, End)>,
    /// The error in the request, if any.
    pub wrong: Option<String>,
}

/// A connection in progress.
#[derive(Debug, Default)]
pub(super) struct Talk {
    pub(super) record: usize,
    /// The socket's last segment: its headers are used for segments that smoltcp does not send.
    pub(super) last: Option<(Segment, Frame)>,
    /// Time of the last challenge ACK.
    pub(super) challenged: Option<Nanos>,
    header: [u8; HEADER],
    got: usize,
    sent: usize,
    moved: Nanos,
    /// Time at which the request was complete.
    asked: Option<Nanos>,
}

pub(super) struct Slot {
    pub(super) handle: SocketHandle,
    pub(super) talk: Option<Talk>,
}

/// A server host.
pub struct Server {
    /// Its number, which its responses contain.
    pub number: u8,
    /// Its site.
    pub site: Site,
    /// The host.
    pub host: Host,
    /// Accepted SYNs, in order.
    pub records: Vec<Record>,
    /// Half-open connections of a flood.
    pub crowd: Crowd,
    /// Clients that it has lied to.
    pub liar: Liar,
    pub(super) slots: Vec<Slot>,
    port: u16,
    behaviour: Behaviour,
    last_start: Option<Segment>,
}

impl Server {
    /// Creates a server at a site. `own` is the number of its MAC address.
    pub fn new(
        plan: &Plan,
        (site, own, bears): (Site, u8, &[IpAddr]),
        (behaviour, port): (Behaviour, u16),
        number: u8,
        rng: &mut Rng,
    ) -> Self {
        let mut server = Self {
            number,
            site,
            host: Host::new(plan, site, own, bears, rng),
            records: Vec::new(),
            crowd: Crowd::default(),
            liar: Liar::default(),
            slots: Vec::new(),
            port,
            behaviour,
            last_start: None,
        };
        if behaviour == Behaviour::Serves {
            for _ in 0..SLOTS[usize::from(plan.is_long())] {
                let handle = server.host.open();
                server.slots.push(Slot { handle, talk: None });
                server.listen(server.slots.len() - 1);
            }
        }
        server
    }

    /// Prepares a slot for the next connection.
    fn listen(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        slot.talk = None;
        self.host.forget(slot.handle);
        slot.handle = self.host.open();
        let socket = self.host.socket(slot.handle);
        socket.listen(self.port).expect("a new socket listens");
    }

    /// Processes a frame, or the passing of time.
    pub fn turn(&mut self, frame: Option<Frame>, now: Nanos) {
        let segment = frame.as_deref().and_then(segment::read);
        let repeated = self.crowd.repeat(now);
        self.host.sending().extend(repeated);
        let victim = |segment: &Segment| flood::is_victim(segment.from.ip());
        if let (Some(segment), Some(frame)) = (segment.filter(victim), &frame) {
            let own = frame[..6] == self.host.mac;
            let answer = own.then(|| self.crowd.take(frame, &segment, now)).flatten();
            self.host.sending().extend(answer);
            return;
        }
        if self.behaviour == Behaviour::Silent && segment.is_some() {
            return;
        }
        if let (Behaviour::Lies, Some(segment), Some(frame)) = (self.behaviour, segment, &frame) {
            let own = frame[..6] == self.host.mac;
            let answer = own.then(|| self.liar.take(frame, &segment, now)).flatten();
            self.host.sending().extend(answer);
            return;
        }
        if let Some(start) = segment.filter(Segment::is_syn) {
            self.last_start = Some(start);
            match backlog::judge(self, &start, now) {
                Judgement::Take => {}
                Judgement::TakeInstead(slot) => {
                    self.end(slot, End::Replaced, now);
                    self.listen(slot);
                }
                Judgement::Answer(answer) => {
                    self.host.sending().extend(answer);
                    return;
                }
            }
        }
        let had = self.host.sending().len();
        self.host.poll(frame, now);
        let mut moved = true;
        while moved {
            moved = false;
            for slot in 0..self.slots.len() {
                moved |= self.serve(slot, now);
            }
            if moved {
                self.host.poll(None, now);
            }
        }
        backlog::remember(self, had);
    }

    /// Returns the time-out of a connection.
    pub fn deadline(&self) -> Option<Nanos> {
        let talks = self.slots.iter().filter_map(|slot| slot.talk.as_ref());
        let next = |talk: &Talk| match talk.asked {
            Some(asked) if talk.sent == 0 => asked + think(talk),
            _ => talk.moved + self.patience(talk),
        };
        talks.map(next).chain(self.crowd.next()).min()
    }

    fn patience(&self, talk: &Talk) -> Nanos {
        match self.records[talk.record].established {
            Some(_) => STANDSTILL,
            None => HALF_OPEN,
        }
    }

    /// Returns the endpoint that it listens on.
    pub fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.host.address, self.port)
    }

    /// Returns whether no connection is left.
    pub fn is_done(&self) -> bool {
        self.slots.iter().all(|slot| slot.talk.is_none()) && self.crowd.next().is_none()
    }

    fn end(&mut self, slot: usize, end: End, now: Nanos) {
        if let Some(talk) = &self.slots[slot].talk {
            self.records[talk.record].end.get_or_insert((now, end));
        }
    }

    /// Makes progress in one slot where possible. Returns whether there was any.
    fn serve(&mut self, slot: usize, now: Nanos) -> bool {
        let state = self.host.socket(self.slots[slot].handle).state();
        let Some(talk) = &self.slots[slot].talk else {
            let start = self.last_start.filter(|_| state != State::Listen);
            start.inspect(|start| self.take(slot, start, now));
            return start.is_some();
        };
        let answered = talk.got >= HEADER && talk.sent == PREFIX + self.response(talk);
        let late = now >= talk.moved + self.patience(talk);
        let record = talk.record;
        let end = match state {
            State::Listen => End::Reset,
            State::Closed if answered => End::Closed,
            State::Closed => End::Reset,
            State::SynReceived if late => End::TimedOut,
            State::SynReceived => return false,
            _ if late => {
                self.end(slot, End::Aborted, now);
                self.host.socket(self.slots[slot].handle).abort();
                return true;
            }
            _ => {
                self.records[record].established.get_or_insert(now);
                return self.talk(slot, now);
            }
        };
        self.end(slot, end, now);
        self.listen(slot);
        true
    }

    fn response(&self, talk: &Talk) -> usize {
        Request::read(&talk.header).response as usize
    }

    fn take(&mut self, slot: usize, start: &Segment, now: Nanos) {
        let record = self.records.len();
        self.slots[slot].talk = Some(Talk { record, moved: now, ..Talk::default() });
        self.records.push(Record {
            client: start.from,
            isn: start.sequence,
            since: now,
            established: None,
            end: None,
            wrong: None,
        });
    }

    /// Reads the request, responds, and closes.
    fn talk(&mut self, slot: usize, now: Nanos) -> bool {
        let Slot { handle, talk: Some(talk) } = &mut self.slots[slot] else { return false };
        let socket = self.host.socket(*handle);
        let before = (talk.got, talk.sent, socket.state());
        if let Err(why) = talk.hear(socket) {
            self.records[talk.record].wrong.get_or_insert(why);
        }
        let request = Request::read(&talk.header);
        let whole = talk.got >= HEADER && talk.got - HEADER >= request.request as usize;
        if whole {
            talk.asked.get_or_insert(now);
        }
        if talk.asked.is_some_and(|asked| now >= asked + think(talk)) {
            talk.answer(socket, self.number);
        }
        let answered = talk.sent == PREFIX + request.response as usize;
        let finished = whole && answered && request.closer == Closer::Server;
        if finished || !socket.may_recv() && (!whole || answered) {
            socket.close();
        }
        let moved = before != (talk.got, talk.sent, socket.state());
        if moved {
            talk.moved = now;
        }
        moved
    }
}

impl Talk {
    /// Reads the available part of the request. Returns its error, if any.
    fn hear(&mut self, socket: &mut tcp::Socket<'_>) -> Result<(), String> {
        while socket.can_recv() {
            let (got, header) = (self.got, &mut self.header);
            let read = socket.recv(|bytes| {
                if got < HEADER {
                    let count = bytes.len().min(HEADER - got);
                    header[got..got + count].copy_from_slice(&bytes[..count]);
                    return (count, (count, true));
                }
                let request = Request::read(header);
                let fits = got - HEADER + bytes.len() <= request.request as usize;
                let right = Filler::Request(request.id).is(got - HEADER, bytes);
                (bytes.len(), (bytes.len(), fits && right))
            });
            let Ok((count, right)) = read else { break };
            self.got += count;
            if !right {
                return Err(format!("a wrong byte up to {}", self.got));
            }
        }
        Ok(())
    }

    /// Sends as much of the response as there is room for.
    fn answer(&mut self, socket: &mut tcp::Socket<'_>, number: u8) {
        let request = Request::read(&self.header);
        let all = PREFIX + request.response as usize;
        while self.sent < all && socket.can_send() {
            let sent = self.sent;
            let count = socket.send(|buffer| {
                let count = buffer.len().min(all - sent);
                let first = PREFIX.saturating_sub(sent);
                buffer[..first].fill(number);
                Filler::Response(request.id).fill(sent + first - PREFIX, &mut buffer[first..count]);
                (count, count)
            });
            match count {
                Ok(count) if count > 0 => self.sent += count,
                _ => break,
            }
        }
    }
}

fn think(talk: &Talk) -> Nanos {
    Nanos::from(Request::read(&talk.header).think) * MS
}
