//! loom's counterpart of the appliance's and the pipeline's `sync`.

pub use std::sync::{PoisonError, TryLockError};

pub use loom::sync::atomic::{AtomicU64, Ordering};
pub use loom::sync::{Arc, Mutex, MutexGuard};

use loom::sync::Condvar;

/// Blocks threads until all of them have arrived. loom offers no barrier.
#[derive(Debug)]
pub struct Barrier {
    threads: usize,
    /// How many have arrived in this round, and the number of completed rounds.
    state: Mutex<(usize, usize)>,
    released: Condvar,
}

impl Barrier {
    /// Creates a barrier for this many threads.
    pub fn new(threads: usize) -> Self {
        Self { threads, state: Mutex::new((0, 0)), released: Condvar::new() }
    }

    /// Waits for the other threads.
    ///
    /// # Panics
    /// When a thread panicked here.
    pub fn wait(&self) {
        let lock = self.state.lock();
        let Ok(mut state) = lock else { panic!("a thread panicked at the barrier") };
        let round = state.1;
        state.0 += 1;
        if state.0 == self.threads {
            *state = (0, round + 1);
            self.released.notify_all();
            return;
        }
        while state.1 == round {
            let Ok(woken) = self.released.wait(state) else {
                panic!("a thread panicked at the barrier")
            };
            state = woken;
        }
    }
}
