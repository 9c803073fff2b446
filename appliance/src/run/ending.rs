//! The end of a run: what only one process can have is let go of, or handed over.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Error;
use super::ports::Running;
use super::signals::Signals;
use super::upgrade::{HandedOver, Successor, again};
use crate::control::socket::{Answer, Server};
use crate::dpdk::{Eal, MbufPool};
use crate::sys::notify::notify;

/// What a process has whose workers have ended.
pub(super) struct Owned {
    pub(super) ports: [Running; 2],
    pub(super) pool: MbufPool,
    pub(super) eal: Eal,
    pub(super) server: Server,
    pub(super) signals: Signals,
}

impl Owned {
    /// Lets go of everything. Returns how many buffers did not come back to their pool.
    pub(super) fn let_go(self) -> Result<u32, Error> {
        // The control socket goes last: the next process waits for it.
        let Self { ports, pool, eal, server: _server, .. } = self;
        close(ports, pool, eal)
    }

    /// Hands over to another process. Returns as [`Owned::let_go`] does if that forwards packets;
    /// otherwise this process starts again. `stopped` is the monotonic time at which the workers had
    /// ended.
    pub(super) fn hand_over(
        self,
        mut successor: Successor,
        stopped: Duration,
    ) -> Result<u32, Error> {
        let Self { ports, pool, eal, mut server, signals } = self;
        successor.stopped();
        server.let_go();
        let mut handed_over =
            HandedOver { stopped: stopped.as_nanos() as u64, ..HandedOver::default() };
        let mut kept = None;
        let mut missing = 0;
        if successor.is_beside() {
            // Closed after the gap, and promiscuous mode stays.
            handed_over.promiscuous = ports.each_ref().map(|own| own.port.made_promiscuous());
            kept = Some((ports, pool, eal));
        } else {
            missing = close(ports, pool, eal)?;
        }
        successor.hand_over(handed_over);
        let result = successor.confirm(&signals.stop);
        if let Some((ports, pool, eal)) = kept {
            for own in ports.iter().filter(|_| result.is_ok()) {
                own.port.set_made_promiscuous(false);
            }
            missing = close(ports, pool, eal)?;
        }
        match result {
            Ok(text) => {
                tracing::info!("{text}");
                notify(&format!("MAINPID={}", successor.pid()));
                server.answer_waiting(&Answer::Done(text));
                Ok(missing)
            }
            Err(reason) => {
                let text = format!("not upgraded: {reason}; the old process starts again");
                tracing::error!("{text}");
                server.answer_waiting(&Answer::Error(text));
                match signals.stop.load(Relaxed) {
                    true => Ok(missing),
                    false => Err(Error::Again(again())),
                }
            }
        }
    }
}

/// Closes the ports and cleans DPDK up. Returns how many buffers did not come back to their pool.
fn close(ports: [Running; 2], pool: MbufPool, eal: Eal) -> Result<u32, Error> {
    for running in ports {
        running.port.close()?;
    }
    let missing = pool.size().saturating_sub(pool.available());
    drop((pool, eal));
    Ok(missing)
}
