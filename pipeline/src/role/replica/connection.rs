//! What the replica keeps of a connection.

use crate::wire::family::{Endpoint, Family};
use crate::role::gateway::flow::BOTH_FINS;
use crate::stage::tag;
use crate::wire::tunnel::Format;

/// A connection at the replica. Its tunnels end at the client's address, which is the key.
#[derive(Clone, Copy, Debug)]
pub struct Held<F: Family> {
    /// V: what the client asked for.
    pub server: Endpoint<F>,
    /// R: the web server.
    pub replica: Endpoint<F>,
    /// The SYN's sequence number.
    pub isn: u32,
    /// How gateway and winner exchange packets.
    pub configuration: tag::Code,
    /// How packets to the client are put into tunnels.
    pub format: Format,
    /// Whether the web server bears V itself, and wants packets as the client sent them.
    pub bears_service: bool,
    /// What the client acknowledges when it goes on; known once the web server has answered.
    pub answered: u32,
    /// The sequence number and configuration of a later SYN of the same endpoints, should the web
    /// server accept it.
    pub next: (u32, tag::Code),
    /// Which sides have sent a FIN, one bit each; above them [`ANSWERED`], [`ESTABLISHED`] and
    /// [`ASKED`].
    pub marks: u8,
    /// Acknowledgements that the web server may still send before the client goes on.
    pub credit: u8,
}

/// In [`Held::marks`]: the web server's acknowledgement has been seen.
pub(super) const ANSWERED: u8 = BOTH_FINS + 1;
/// In [`Held::marks`]: the client has gone on.
pub(super) const ESTABLISHED: u8 = ANSWERED << 1;
/// In [`Held::marks`]: the web server has been given a later SYN.
pub(super) const ASKED: u8 = ANSWERED << 2;

impl<F: Family> Held<F> {
    /// Whether both sides have sent a FIN.
    pub(super) fn has_both_fins(&self) -> bool {
        self.marks & BOTH_FINS == BOTH_FINS
    }

    /// Whether a client has gone on with the connection, and it has not ended by FINs. A RST says
    /// nothing, for anybody can send one; nor does quiet.
    pub(super) fn is_live(&self) -> bool {
        self.marks & ESTABLISHED != 0 && !self.has_both_fins()
    }

    /// Whether the web server accepts the later SYN: a live connection's would not (RFC 5961,
    /// section 4).
    pub(super) fn is_succeeded_by(&self, acknowledgement: u32) -> bool {
        self.marks & ASKED != 0 && acknowledgement == self.next.0.wrapping_add(1)
    }

    /// The connection of the later SYN.
    pub(super) fn successor(self) -> Self {
        let (isn, configuration) = self.next;
        Self { isn, configuration, marks: 0, credit: 0, ..self }
    }

    /// Whether an acknowledgement of the client shows that it has got the web server's. What the
    /// web server sends does not have to pass here under A: while nothing has, any does.
    pub(super) fn is_taken_up_by(&self, acknowledgement: u32) -> bool {
        self.marks & ANSWERED == 0 || self.answered == acknowledgement
    }
}
