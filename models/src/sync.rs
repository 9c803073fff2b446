//! loom's kind of what the appliance's and the pipeline's `sync` offer.

pub use std::sync::{PoisonError, TryLockError};

pub use loom::sync::atomic::{AtomicU64, Ordering};
pub use loom::sync::{Arc, Mutex, MutexGuard};

use loom::sync::Condvar;

/// Lets nobody on until all have come; loom has none of its own.
#[derive(Debug)]
pub struct Barrier {
    wanted: usize,
    /// How many have come, and how often all have.
    state: Mutex<(usize, usize)>,
    all: Condvar,
}

impl Barrier {
    /// One for so many threads.
    pub fn new(wanted: usize) -> Self {
        Self { wanted, state: Mutex::new((0, 0)), all: Condvar::new() }
    }

    /// Waits for the others.
    ///
    /// # Panics
    /// When a thread died here.
    pub fn wait(&self) {
        let lock = self.state.lock();
        let Ok(mut state) = lock else { panic!("a thread died at the barrier") };
        let round = state.1;
        state.0 += 1;
        if state.0 == self.wanted {
            *state = (0, round + 1);
            self.all.notify_all();
            return;
        }
        while state.1 == round {
            let Ok(woken) = self.all.wait(state) else { panic!("a thread died at the barrier") };
            state = woken;
        }
    }
}
