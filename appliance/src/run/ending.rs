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
    /// Whether a port is a PCI device.
    pub(super) uses_pci: bool,
}

impl Owned {
    /// Lets go of everything. Returns how many buffers did not come back to their pool.
    pub(super) fn let_go(self) -> Result<u32, Error> {
        // The control socket goes last: the next process waits for it.
        let Self { ports, pool, eal, server: _server, .. } = self;
        close(ports, pool, eal)
    }

    /// Hands over to another process. Returns as [`Owned::let_go`] does if that forwards packets;
    /// otherwise this process starts again. The successor knows that the workers have ended; `stopped` is the monotonic time at which the workers had
    /// ended.
    pub(super) fn hand_over(
        self,
        mut successor: Successor,
        stopped: Duration,
    ) -> Result<u32, Error> {
        let Self { ports, pool, eal, mut server, signals, uses_pci } = self;
        server.let_go();
        let mut handed_over =
            HandedOver { stopped: stopped.as_nanos() as u64, ..HandedOver::default() };
        // What the new process does not wait for is done after the gap.
        let mut later = (None, None, 0);
        if successor.is_beside() {
            // Promiscuous mode stays.
            handed_over.promiscuous = ports.each_ref().map(|own| own.port.made_promiscuous());
            later = (Some(ports), Some((pool, eal)), 0);
        } else if uses_pci {
            later.2 = close(ports, pool, eal)?;
        } else {
            close_ports(ports)?;
            later.1 = Some((pool, eal));
        }
        successor.hand_over(handed_over);
        let result = successor.confirm(&signals.stop);
        let (ports, dpdk, mut missing) = later;
        if let Some(ports) = ports {
            for own in ports.iter().filter(|_| result.is_ok()) {
                own.port.set_made_promiscuous(false);
            }
            close_ports(ports)?;
        }
        if let Some((pool, eal)) = dpdk {
            missing = clean_up(pool, eal);
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
    close_ports(ports)?;
    Ok(clean_up(pool, eal))
}

fn close_ports(ports: [Running; 2]) -> Result<(), Error> {
    for running in ports {
        running.port.close()?;
    }
    Ok(())
}

/// Cleans DPDK up. Returns how many buffers did not come back to their pool.
fn clean_up(pool: MbufPool, eal: Eal) -> u32 {
    let missing = pool.size().saturating_sub(pool.available());
    drop((pool, eal));
    missing
}
