//! Thousands of connections that stay open for as long as a test needs them, with content that is
//! verified on both ends: downloads, uploads, receive-only ones whose client never sends, and idle ones.
//! A connection counts as lost if it is reset, ends early, or brings a wrong byte.
//!
//! The client's first eight bytes are the kind and a seed. The server answers with the number of its
//! site, then with what the kind asks for. Content is a function of seed and offset. When the client
//! closes its half, the server ends its content with a record of what it has sent and received, and
//! closes. The sockets of an end are all served by one thread, which looks at each of them in turn.

mod client;
mod server;

use std::net::TcpStream;
use std::time::Duration;

pub use client::{Flows, Report};
pub use server::Server;

/// What passes on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The server sends without a pause.
    Download,
    /// The server sends a few bytes now and then, the client nothing: server-sent events.
    Receive,
    /// The client sends without a pause.
    Upload,
    /// Nobody sends.
    Idle,
    /// The server closes at once.
    Short,
}

impl Kind {
    /// Those that stay open.
    pub const LASTING: [Self; 4] = [Self::Download, Self::Receive, Self::Upload, Self::Idle];
    const ALL: [Self; 5] = [Self::Download, Self::Receive, Self::Upload, Self::Idle, Self::Short];

    /// Whether the client hears of the server all the time.
    fn is_heard(self) -> bool {
        matches!(self, Self::Download | Self::Receive)
    }
}

/// Bytes of a request.
const REQUEST: usize = 8;
/// Bytes of the server's record: sent, received, and whether all that was received was right.
const RECORD: usize = 17;
/// Bytes that are sent at once by a download or an upload.
const CHUNK: usize = 1024;
/// Bytes of an event.
const EVENT: usize = 16;
/// The pause between two looks at all sockets.
const PAUSE: Duration = Duration::from_millis(5);

fn request(kind: Kind, seed: u32) -> [u8; REQUEST] {
    let [a, b, c, d] = seed.to_be_bytes();
    [kind as u8, 0, 0, 0, a, b, c, d]
}

fn parse(request: [u8; REQUEST]) -> Option<(Kind, u32)> {
    let [kind, .., a, b, c, d] = request;
    Some((*Kind::ALL.get(usize::from(kind))?, u32::from_be_bytes([a, b, c, d])))
}

fn record(sent: u64, received: u64, is_right: bool) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(&sent.to_be_bytes());
    record[8..16].copy_from_slice(&received.to_be_bytes());
    record[16] = is_right.into();
    record
}

/// The byte of a content at an offset.
fn byte(seed: u32, offset: u64) -> u8 {
    let mixed = (offset ^ u64::from(seed)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

fn content(seed: u32, offset: u64, length: usize) -> Vec<u8> {
    (offset..offset + length as u64).map(|at| byte(seed, at)).collect()
}

fn is_content(seed: u32, offset: u64, bytes: &[u8]) -> bool {
    (offset..).zip(bytes).all(|(at, found)| byte(seed, at) == *found)
}

/// Prepares a socket for being looked at in turn.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)
}

/// Lets this process have a socket for either end of so many connections, and some files more. Beyond
/// the hard limit that needs CAP_SYS_RESOURCE.
pub fn allow(connections: usize) -> nix::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = 2 * connections as u64 + 100;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_content_are_read_as_they_were_written() {
        for kind in Kind::ALL {
            assert_eq!(parse(request(kind, 0x1234_5678)), Some((kind, 0x1234_5678)));
        }
        assert_eq!(parse([9; 8]), None);
        let bytes = content(7, 1000, 100);
        assert!(is_content(7, 1000, &bytes) && !is_content(7, 1001, &bytes));
        assert!(!is_content(8, 1000, &bytes));
    }
}
