//! One client of the control socket: its request as it arrives, and its answer as it is read.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::{Answer, Command, LONGEST, MAX_WAIT, parse};

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
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let until = Instant::now() + MAX_WAIT;
        Ok(Self { stream, request: Vec::new(), answer: None, written: 0, until })
    }

    /// Reads and writes as much as is possible without waiting. Returns whether there is more to
    /// do: for half a second at most without progress.
    pub(super) fn step(&mut self, answer: &mut impl FnMut(Command) -> Answer) -> io::Result<bool> {
        if self.answer.is_none() {
            if !self.is_request_complete()? && Instant::now() < self.until {
                return Ok(true);
            }
            let answer = match parse(&self.request) {
                Ok(command) => answer(command),
                Err(error) => Answer::Error(format!("cannot parse the request: {error}")),
            };
            let mut text = serde_json::to_vec(&answer)?;
            text.push(b'\n');
            (self.answer, self.until) = (Some(text), Instant::now() + MAX_WAIT);
        }
        Ok(!self.write()? && Instant::now() < self.until)
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
