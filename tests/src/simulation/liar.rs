//! A server that lies: it answers every SYN at once, and serves nothing.

use std::net::SocketAddr;

use smoltcp::wire::{ETHERNET_HEADER_LEN, TcpControl};

use super::plan::Nanos;
use super::segment::{self, Segment};
use super::station::Frame;

/// What a lying server sends as its sequence numbers, XORed with the client's.
const NUMBER: u32 = 0x5a5a;

/// A client whose SYN a liar has answered.
#[derive(Clone, Copy, Debug)]
pub struct Lured {
    /// The client.
    pub client: SocketAddr,
    /// Its SYN's sequence number.
    pub isn: u32,
    /// When the SYN arrived.
    pub since: Nanos,
    /// Whether the client has acknowledged the answer.
    pub established: bool,
}

/// What a liar remembers. Only the tests need it: it answers without any state.
#[derive(Debug, Default)]
pub struct Liar {
    /// Clients in the order of their SYNs.
    pub lured: Vec<Lured>,
}

impl Liar {
    /// Handles a segment to the liar. Returns its answer, if any.
    pub(super) fn take(&mut self, frame: &[u8], segment: &Segment, now: Nanos) -> Option<Frame> {
        let (client, isn) = (segment.from, segment.sequence);
        if !segment.is_syn() {
            let own = |lured: &&mut Lured| {
                lured.client == client && segment.acknowledgement == answer_to(lured.isn) + 1
            };
            if let Some(lured) = self.lured.iter_mut().rev().find(own).filter(|_| !segment.rst) {
                lured.established = true;
            }
            return None;
        }
        if !self.lured.iter().any(|lured| (lured.client, lured.isn) == (client, isn)) {
            self.lured.push(Lured { client, isn, since: now, established: false });
        }
        let (to, from) = (&frame[..6], &frame[6..12]);
        let header = [from, to, &frame[12..ETHERNET_HEADER_LEN]].concat();
        let numbers = (answer_to(isn), Some(isn.wrapping_add(1)));
        Some(segment::bare(&header, (segment.to, client), TcpControl::Syn, numbers))
    }
}

/// Returns the sequence number of the answer to a SYN.
fn answer_to(isn: u32) -> u32 {
    // Never the last one, so that the next is one more.
    (isn ^ NUMBER) & 0x7fff_ffff
}
