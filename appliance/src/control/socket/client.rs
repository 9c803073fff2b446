//! One client of the control socket: its request as it arrives, and its answer as it is read.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;

use super::{Answer, Command, LONGEST, MAX_WAIT, Reply, parse};

/// A client whose end may be slow, silent or gone.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    request: Vec<u8>,
    /// The answer; `None` before the request is complete.
    answer: Option<Vec<u8>>,
    /// How much of it is written, in bytes.
    written: usize,
    /// The time at which waiting for it ends.
    until: Instant,
    /// The request is carried out, and its answer follows.
    waits: bool,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let until = Instant::now() + MAX_WAIT;
        Ok(Self { stream, request: Vec::new(), answer: None, written: 0, until, waits: false })
    }

    /// Reads and writes as much as is possible without waiting. Returns whether there is more to
    /// do: for half a second at most without progress, unless the answer follows later.
    pub(super) fn step(&mut self, answer: &mut impl FnMut(Command) -> Reply) -> io::Result<bool> {
        if self.waits {
            return Ok(true);
        }
        if self.answer.is_none() {
            if !self.is_request_complete()? && Instant::now() < self.until {
                return Ok(true);
            }
            let reply = match parse(&self.request) {
                Ok(Command::Upgrade { .. }) if !self.is_trusted() => {
                    let text = "not upgraded: only root and the user of the process may upgrade it";
                    Answer::Error(text.to_owned()).into()
                }
                Ok(command) => answer(command),
                Err(error) => Answer::Error(format!("cannot parse the request: {error}")).into(),
            };
            match reply {
                Reply::Now(answer) => self.set_answer(&answer)?,
                Reply::Later => {
                    self.waits = true;
                    return Ok(true);
                }
            }
        }
        Ok(!self.write()? && Instant::now() < self.until)
    }

    /// Returns whether its answer follows later.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Gives it its answer, and waits half a second at most for it to take that.
    pub(super) fn give(&mut self, answer: &Answer) -> io::Result<()> {
        self.waits = false;
        self.set_answer(answer)?;
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(MAX_WAIT))?;
        self.write()?;
        self.stream.set_nonblocking(true)
    }

    fn set_answer(&mut self, answer: &Answer) -> io::Result<()> {
        let mut text = serde_json::to_vec(answer)?;
        text.push(b'\n');
        (self.answer, self.until) = (Some(text), Instant::now() + MAX_WAIT);
        Ok(())
    }

    /// Returns whether the client's user may have the process start a program.
    fn is_trusted(&self) -> bool {
        let user = getsockopt(&self.stream, PeerCredentials).map(|peer| peer.uid());
        user.is_ok_and(|user| user == 0 || user == geteuid().as_raw())
    }

    /// Reads what has arrived. Returns whether that is all: a line, the end, or too much.
    fn is_request_complete(&mut self) -> io::Result<bool> {
        let mut part = [0; 256];
        while !self.request.contains(&b'\n') && self.request.len() <= LONGEST {
            match self.stream.read(&mut part) {
                Ok(0) => return Ok(true),
                Ok(count) => self.request.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes what the client takes. Returns whether that is all.
    fn write(&mut self) -> io::Result<bool> {
        let answer = self.answer.as_deref().unwrap_or_default();
        while self.written < answer.len() {
            match self.stream.write(&answer[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.until = Instant::now() + MAX_WAIT;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
