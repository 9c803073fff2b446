//! What workers report to the memory.

use std::net::{IpAddr, SocketAddr};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::base::time::Ticks;
use crate::memory::Why;
use crate::wire::copies::CopiesWanted;

/// An event of a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The time of the event, on the workers' clock.
    pub at: Ticks,
    /// The number of the service.
    pub service: u16,
    /// The client endpoint C.
    pub client: SocketAddr,
    /// What happened.
    pub event: Event,
}

/// What happened in a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A SYN was sent, with direct copies to the sites of these numbers (one bit each).
    Asked {
        /// The sites that got a direct copy.
        sites: u32,
        /// The copies that the switch was asked for.
        copies: CopiesWanted,
        /// Why it was asked for so many.
        why: Why,
    },
    /// A FIN of the client, or of the replica, that has won the connection: the side's first one. The
    /// client's is reported only if the replica has not sent one before.
    Ended {
        /// The address of the replica.
        replica: IpAddr,
        /// Whether the replica has sent it.
        by_replica: bool,
    },
    /// A SYN/ACK that could have won.
    Answered {
        /// The address of the responder, R or V.
        responder: IpAddr,
        /// Whether it is the origin.
        is_origin: bool,
        /// Whether it answered a direct copy. Of the origin: whether replicas were asked directly.
        is_direct: bool,
        /// Whether it won.
        has_won: bool,
        /// The time since the SYN was sent to the responder; `None` if several SYNs were sent, so
        /// that it is unknown which of them was answered (RFC 6298, section 3).
        after: Option<Ticks>,
    },
}

/// The sending end of a worker's reports.
#[derive(Debug)]
pub struct Reports(Option<Producer<Report>>);

/// The receiving end of a worker's reports.
#[derive(Debug)]
pub struct ReportsReader(Consumer<Report>);

/// Returns both ends of a queue for `capacity` reports.
pub fn reports(capacity: usize) -> (Reports, ReportsReader) {
    let (producer, consumer) = RingBuffer::new(capacity);
    (Reports(Some(producer)), ReportsReader(consumer))
}

impl Reports {
    /// Returns an end without a receiver: reports are ignored.
    pub fn ignored() -> Self {
        Self(None)
    }

    /// Returns whether nobody receives the reports.
    pub fn are_ignored(&self) -> bool {
        self.0.is_none()
    }

    /// Sends a report. Returns `false` when the queue is full and the report is lost.
    #[inline]
    pub fn send(&mut self, report: Report) -> bool {
        self.0.as_mut().is_none_or(|producer| producer.push(report).is_ok())
    }
}

impl ReportsReader {
    /// Returns the oldest report that has not been taken yet.
    pub fn take(&mut self) -> Option<Report> {
        self.0.pop().ok()
    }
}
