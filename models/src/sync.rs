//! Loom's versions of the thread primitives used by the appliance and the pipeline.

pub use std::sync::{PoisonError, TryLockError};

pub use loom::sync::atomic::{AtomicU64, Ordering};
pub use loom::sync::{Arc, Mutex, MutexGuard};

use loom::sync::Condvar;

/// A barrier, which loom does not have.
#[derive(Debug)]
pub struct Barrier {
    wanted: usize,
    /// The number of threads waiting, and the number of completed rounds.
    state: Mutex<(usize, usize)>,
    all: Condvar,
}

impl Barrier {
    /// Creates a barrier for `wanted` threads.
    pub fn new(wanted: usize) -> Self {
        Self { wanted, state: Mutex::new((0, 0)), all: Condvar::new() }
    }

    /// Waits for the other threads.
    ///
    /// # Panics
    /// If a thread panicked at the barrier.
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
