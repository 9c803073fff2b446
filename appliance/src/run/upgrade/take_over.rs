//! The new process's side of a hand-over.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pipeline::wire::ethernet::Mac;

use super::channel::Channel;
use super::{FromNew, FromOld, HandedOver, PROTOCOL, Start};
use crate::datapath::clock::monotonic;

/// The time that the old process has to send its first message.
const FIRST: Duration = Duration::from_secs(10);
/// The interval at which frames are discarded while waiting for the old process.
const INTERVAL: Duration = Duration::from_millis(1);

/// The connection to the process that this one takes over from.
#[derive(Debug)]
pub struct TakeOver {
    channel: Channel,
    start: Start,
    /// The old process waits for this one's success or failure.
    is_awaited: bool,
}

/// Why this process does not take over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody hands over.
    #[error("--take-over is for `firstack upgrade`, which starts the new process itself: {0}")]
    Nobody(io::Error),
    /// The old process speaks another protocol.
    #[error("the running process hands over by protocol {theirs}, this one by {PROTOCOL}")]
    Protocol {
        /// The old process's protocol.
        theirs: u32,
    },
    /// The old process has another role.
    #[error("the file is a {own}'s, and the running process is a {theirs}")]
    Role {
        /// The new role.
        own: String,
        /// The old role.
        theirs: String,
    },
    /// The old process has gone, and has not handed over.
    #[error("the process to take over from is gone: {0}")]
    Gone(io::Error),
    /// A signal has ended it.
    #[error("told to end by a signal")]
    Stopped,
}

impl TakeOver {
    /// Takes the connection from stdin, which becomes empty.
    ///
    /// # Errors
    /// If stdin is no connection to a firstack process that hands over by the same protocol.
    pub fn begin() -> Result<Self, Error> {
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(Error::Nobody)?;
        let nothing = File::open("/dev/null").map_err(Error::Nobody)?;
        nix::unistd::dup2_stdin(nothing).map_err(|errno| Error::Nobody(errno.into()))?;
        Self::over(UnixStream::from(stdin))
    }

    fn over(stream: UnixStream) -> Result<Self, Error> {
        let mut channel = Channel::new(stream).map_err(Error::Nobody)?;
        match channel.receive(FIRST).map_err(Error::Nobody)? {
            Some(FromOld::Start(start)) => {
                let theirs = start.protocol;
                let mut take_over = Self { channel, start, is_awaited: true };
                if theirs == PROTOCOL {
                    return Ok(take_over);
                }
                let error = Error::Protocol { theirs };
                take_over.failed(&error.to_string());
                Err(error)
            }
            _ => Err(Error::Nobody(ErrorKind::TimedOut.into())),
        }
    }

    /// Checks that the old process has this role.
    pub(in crate::run) fn check_role(&self, own: &str) -> Result<(), Error> {
        let theirs = self.start.role.clone();
        (own == theirs).then_some(()).ok_or_else(|| Error::Role { own: own.to_owned(), theirs })
    }

    /// Returns a prefix of DPDK's files that the old process does not use: the configured one, or
    /// one that follows from it. Two processes alternate between the two.
    pub(in crate::run) fn file_prefix(&self, configured: &str) -> String {
        match self.start.file_prefix == configured {
            true => format!("{configured}-2"),
            false => configured.to_owned(),
        }
    }

    /// Returns the MAC addresses of the old process's ports.
    pub(in crate::run) fn macs(&self) -> [Mac; 2] {
        self.start.macs
    }

    /// Asks for the hand-over and waits for it. `beside` is whether the ports are open; then what
    /// they receive is passed to `discard` as long as the old process forwards it too.
    pub(in crate::run) fn wait(
        &mut self,
        beside: bool,
        stop: &AtomicBool,
        mut discard: impl FnMut(),
    ) -> Result<HandedOver, Error> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.channel.send(&FromNew::Ready { version, beside }).map_err(Error::Gone)?;
        let mut forwards = true;
        loop {
            // Before the message is looked at: what has arrived until now, the old one has had.
            if forwards {
                discard();
            }
            match self.channel.receive(INTERVAL).map_err(Error::Gone)? {
                None => {}
                Some(FromOld::Stopped) => {
                    discard();
                    forwards = false;
                }
                Some(FromOld::HandedOver(handed_over)) => return Ok(handed_over),
                Some(FromOld::Start(_)) => return Err(Error::Gone(ErrorKind::InvalidData.into())),
            }
            if stop.load(Relaxed) {
                return Err(Error::Stopped);
            }
        }
    }

    /// Tells the old process that packets are forwarded again, for it to end. Returns the time for
    /// which none was.
    pub(in crate::run) fn forwarding(&mut self, handed_over: &HandedOver) -> Duration {
        let gap = monotonic().saturating_sub(Duration::from_nanos(handed_over.stopped));
        self.is_awaited = false;
        let message = FromNew::Forwarding { gap: gap.as_micros() as u64 };
        if let Err(error) = self.channel.send(&message) {
            tracing::warn!(%error, "the process that handed over is gone");
        }
        gap
    }

    /// Tells the old process, if it waits, why this one gives up.
    pub fn failed(&mut self, reason: &str) {
        if std::mem::take(&mut self.is_awaited) {
            // If it is gone there is nobody to tell.
            let _ = self.channel.send(&FromNew::Failed { reason: reason.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(protocol: u32) -> FromOld {
        let (role, file_prefix) = ("gateway".to_owned(), "fs".to_owned());
        FromOld::Start(Start { protocol, role, file_prefix, macs: [[2; 6]; 2] })
    }

    fn old() -> (Channel, UnixStream) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one).unwrap(), other)
    }

    const WAIT: Duration = Duration::from_secs(9);

    #[test]
    fn what_arrives_is_discarded_until_the_old_workers_have_ended() {
        let (mut old, stream) = old();
        old.send(&start(PROTOCOL)).unwrap();
        let mut new = TakeOver::over(stream).unwrap();
        new.check_role("gateway").unwrap();
        assert!(new.check_role("switch").is_err());
        assert_eq!(new.file_prefix("fs"), "fs-2");
        assert_eq!(new.file_prefix("other"), "other");
        assert_eq!(new.macs(), [[2; 6]; 2]);
        let handed_over = HandedOver { stopped: 7, promiscuous: [true, false] };
        let mut discarded = 0;
        let got = new.wait(true, &AtomicBool::new(false), || {
            discarded += 1;
            if discarded == 2 {
                old.send(&FromOld::Stopped).unwrap();
                old.send(&FromOld::HandedOver(handed_over.clone())).unwrap();
            }
        });
        assert_eq!((got.unwrap(), discarded), (handed_over, 3));
        assert!(matches!(old.receive(WAIT), Ok(Some(FromNew::Ready { beside: true, .. }))));
        new.forwarding(&HandedOver::default());
        assert!(matches!(old.receive(WAIT), Ok(Some(FromNew::Forwarding { gap: 1.. }))));
        // What goes wrong later is not the old one's concern.
        new.failed("later");
        drop(new);
        assert!(old.receive::<FromNew>(WAIT).is_err());
    }

    #[test]
    fn another_protocol_is_refused_with_a_reason() {
        let (mut old, stream) = old();
        old.send(&start(PROTOCOL + 1)).unwrap();
        assert!(matches!(TakeOver::over(stream), Err(Error::Protocol { .. })));
        let Some(FromNew::Failed { reason }) = old.receive(WAIT).unwrap() else { panic!() };
        assert_eq!(reason, "the running process hands over by protocol 2, this one by 1");
    }

    #[test]
    fn it_ends_with_the_old_process_and_by_a_signal() {
        let (mut old, stream) = old();
        old.send(&start(PROTOCOL)).unwrap();
        let mut new = TakeOver::over(stream).unwrap();
        let stopped = new.wait(false, &AtomicBool::new(true), || ());
        assert!(matches!(stopped, Err(Error::Stopped)));
        drop(old);
        let gone = new.wait(false, &AtomicBool::new(false), || ());
        assert!(matches!(gone, Err(Error::Gone(_))));
    }
}
