//! The connection between the old and the new process.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message in bytes.
const LONGEST: usize = 64 << 10;
/// The longest time to wait for the other end to take a message.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Channel {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(MAX_WAIT))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends a message.
    pub(super) fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Returns the next message; `None` if none arrives within this time.
    ///
    /// # Errors
    /// `UnexpectedEof` if the other end is closed, `InvalidData` if it sends something else.
    pub(super) fn receive<T: DeserializeOwned>(&mut self, wait: Duration) -> io::Result<Option<T>> {
        // A time-out of zero would be none.
        self.stream.set_read_timeout(Some(wait.max(Duration::from_micros(1))))?;
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let message = serde_json::from_slice(&line);
                return message.map(Some).map_err(|_| ErrorKind::InvalidData.into());
            }
            if self.received.len() > LONGEST {
                return Err(ErrorKind::InvalidData.into());
            }
            let mut part = [0; 1024];
            match self.stream.read(&mut part) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&part[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(None),
                    // So that a signal's flag is looked at.
                    ErrorKind::Interrupted => return Ok(None),
                    _ => return Err(error),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FromNew, FromOld, Start};
    use super::*;

    fn pair() -> (Channel, UnixStream) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one).unwrap(), other)
    }

    fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn messages_arrive_whole_and_one_at_a_time_however_they_are_cut() {
        let (mut channel, mut other) = pair();
        assert!(matches!(channel.receive::<FromOld>(Duration::ZERO), Ok(None)));
        other.write_all(b"{\"start\":{\"protocol\":1,\"role\":\"switch\",").unwrap();
        assert!(matches!(channel.receive::<FromOld>(Duration::ZERO), Ok(None)));
        other.write_all(b"\"file_prefix\":\"p\",\"later\":1}}\n\"stopped\"\n").unwrap();
        let (role, file_prefix) = ("switch".into(), "p".into());
        let start = Start { protocol: 1, role, file_prefix, macs: [[0; 6]; 2] };
        let wait = Duration::from_secs(9);
        assert_eq!(channel.receive(wait).unwrap(), Some(FromOld::Start(start)));
        assert_eq!(channel.receive(wait).unwrap(), Some(FromOld::Stopped));
        drop(other);
        assert_eq!(kind(channel.receive::<FromOld>(wait)), Some(ErrorKind::UnexpectedEof));
    }

    #[test]
    fn what_is_no_message_ends_the_hand_over() {
        let (mut channel, mut other) = pair();
        let wait = Duration::from_secs(9);
        for wrong in ["hello\n", "{\"ready\":{}}\n", "\n"] {
            other.write_all(wrong.as_bytes()).unwrap();
            let kind = kind(channel.receive::<FromNew>(wait));
            assert_eq!(kind, Some(ErrorKind::InvalidData), "{wrong}");
        }
        other.write_all(&[b'x'; LONGEST + 1]).unwrap();
        assert_eq!(kind(channel.receive::<FromNew>(wait)), Some(ErrorKind::InvalidData));
    }

    #[test]
    fn an_end_that_reads_nothing_holds_nobody_up() {
        let (mut channel, _other) = pair();
        let reason = "x".repeat(LONGEST / 2);
        let failed = FromNew::Failed { reason };
        let error = (0..100).find_map(|_| channel.send(&failed).err());
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::WouldBlock));
    }
}
