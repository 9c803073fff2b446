//! The data that clients and servers exchange, so that every byte can be checked.
//!
//! A request is a header and filler, a response is the server's number and filler. The filler
//! depends only on the connection's number and direction, so all replicas respond alike.

use super::plan::{Closer, ConnectionPlan, MS};

/// Bytes of a request's header.
pub const HEADER: usize = 17;
/// Bytes of a response before its filler.
pub const PREFIX: usize = 1;

/// A request, from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The connection's number.
    pub id: u32,
    /// Filler bytes of the request.
    pub request: u32,
    /// Filler bytes of the response.
    pub response: u32,
    /// The side that closes first.
    pub closer: Closer,
    /// Milliseconds before the server responds.
    pub think: u32,
}

impl Request {
    /// Returns the request of a connection.
    #[must_use]
    pub fn new(id: usize, plan: &ConnectionPlan) -> Self {
        let (request, response) = (plan.request as u32, plan.response as u32);
        let think = (plan.think / MS) as u32;
        Self { id: id as u32, request, response, closer: plan.closer, think }
    }

    /// Returns its header.
    #[must_use]
    pub fn header(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.id.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.request.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.response.to_be_bytes());
        bytes[12] = self.closer as u8;
        bytes[13..].copy_from_slice(&self.think.to_be_bytes());
        bytes
    }

    /// Parses a header.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER]) -> Self {
        let word =
            |at| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let closer = [Closer::Client, Closer::Server, Closer::Half][usize::from(bytes[12].min(2))];
        Self { id: word(0), request: word(4), response: word(8), closer, think: word(13) }
    }
}

/// The filler of a connection and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filler {
    /// Returns the filler of a request.
    Request(u32),
    /// Returns the filler of a response.
    Response(u32),
}

impl Filler {
    fn byte(self, at: usize) -> u8 {
        let salt = match self {
            Filler::Request(id) => id.wrapping_mul(2_654_435_761),
            Filler::Response(id) => id.wrapping_mul(2_246_822_519) ^ 0x5a5a,
        } as usize;
        // Neighbouring bytes and neighbouring segments differ.
        (salt ^ (at * 31) ^ ((at >> 8) * 17)) as u8
    }

    /// Writes the filler from offset `at` on.
    pub fn fill(self, at: usize, bytes: &mut [u8]) {
        bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = self.byte(at + i));
    }

    /// Returns whether these are its bytes from offset `at` on.
    #[must_use]
    pub fn is(self, at: usize, bytes: &[u8]) -> bool {
        bytes.iter().enumerate().all(|(i, byte)| *byte == self.byte(at + i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request = Request { id: 7, request: 1, response: 2, closer: Closer::Half, think: 3 };
        assert_eq!(Request::read(&request.header()), request);
    }

    #[test]
    fn filler_knows_its_place() {
        let mut bytes = [0; 64];
        Filler::Response(3).fill(1460, &mut bytes);
        assert!(Filler::Response(3).is(1460, &bytes));
        assert!(!Filler::Response(3).is(0, &bytes) && !Filler::Response(4).is(1460, &bytes));
        assert!(!Filler::Request(3).is(1460, &bytes));
    }
}
