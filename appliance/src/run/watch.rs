//! Watches the kernel interfaces below virtual ports: one that is deleted takes its port with it, for
//! good, even if another of the same name is made.

use std::time::{Duration, Instant};

use pipeline::packet::view::Side;

use super::ports::Running;
use crate::dpdk::Port;
use crate::sys::interface;

/// The interval at which the interfaces are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// A kernel interface that a port was started on.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    name: String,
    number: u32,
}

impl Interface {
    /// Returns the interface below a port, if it has one.
    pub(super) fn of(port: &Port) -> Option<Self> {
        let number = port.interface()?;
        Some(Self { name: interface::name(number)?, number })
    }

    /// Returns whether the interface is up and has a carrier; `false` if it is gone.
    pub(super) fn has_link(&self) -> bool {
        self.current_name().is_some_and(|name| interface::has_link(&name).unwrap_or(false))
    }

    /// Sets the interface up or down.
    ///
    /// # Errors
    /// If it is gone, or this process may not.
    pub(super) fn set_up(&self, up: bool) -> std::io::Result<()> {
        let name = self.current_name().ok_or(std::io::ErrorKind::NotFound)?;
        interface::set_up(&name, up)
    }

    fn current_name(&self) -> Option<String> {
        interface::name(self.number)
    }

    /// Returns whether the interface still exists, be it under another name.
    pub(super) fn is_there(&self) -> bool {
        interface::name(self.number).is_some()
    }
}

/// Which interfaces have been lost.
pub(super) struct Watch {
    lost: [bool; 2],
    next: Instant,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { lost: [false; 2], next: Instant::now() }
    }

    /// Looks at the interfaces if it is time to, and logs those that have gone.
    pub(super) fn step(&mut self, ports: &[Running; 2]) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + INTERVAL;
        for (side, lost) in Side::ALL.into_iter().zip(&mut self.lost) {
            let interface = ports[side as usize].interface.as_ref();
            if let Some(gone) = interface.filter(|interface| !*lost && !interface.is_there()) {
                *lost = true;
                let again = interface::number(&gone.name).is_some();
                tracing::error!(
                    side = side.name(),
                    interface = gone.name,
                    exists_again = again,
                    "interface was deleted, nothing passes this port until firstack is restarted"
                );
            }
        }
    }
}
