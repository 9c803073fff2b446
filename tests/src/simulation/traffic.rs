//! The SYN copies and SYN/ACKs of a run, for tests of who is asked and who answers. Only runs with
//! many connections record them.

use std::net::SocketAddr;

use super::address::Site;
use super::plan::{Nanos, Plan};
use super::watch;

/// A copy of a SYN, in a tunnel to a replica.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// When it was sent.
    pub at: Nanos,
    /// The client.
    pub client: SocketAddr,
    /// The replica's site.
    pub to: Site,
    /// Whether the gateway sent it, not the switch.
    pub is_direct: bool,
}

/// A SYN/ACK of a replica at the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When it arrived.
    pub at: Nanos,
    /// The client.
    pub client: SocketAddr,
    /// The replica's site.
    pub from: Site,
}

/// What was recorded.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Copies in the order of their time.
    pub copies: Vec<Copy>,
    /// Answers in the order of their time.
    pub answers: Vec<Answer>,
}

impl Traffic {
    /// Records a frame that leaves the gateway or the switch by the outside, if it is a copy.
    pub(super) fn note_sent(&mut self, plan: &Plan, frame: &[u8], is_direct: bool, at: Nanos) {
        if let Some((client, to)) = watch::copy_of_syn(plan, frame).filter(|_| plan.is_long()) {
            self.copies.push(Copy { at, client, to, is_direct });
        }
    }

    /// Records a frame that reaches the gateway from the outside, if it is a replica's SYN/ACK.
    pub(super) fn note_received(&mut self, plan: &Plan, frame: &[u8], at: Nanos) {
        if !plan.is_long() || !watch::for_client(frame).is_some_and(|(_, is_syn_ack)| is_syn_ack) {
            return;
        }
        if let Some((client, from)) = watch::names_replica(plan, frame) {
            self.answers.push(Answer { at, client, from });
        }
    }
}
