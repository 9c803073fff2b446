//! Keeps the state of the running process up to date for the next one.

use std::time::{Duration, Instant};

use super::{Kept, State};

/// The shortest time between two looks at what has changed.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest time without writing: the workers' clock and the monotonic one drift apart.
const LONGEST: Duration = Duration::from_secs(10);

/// Writes the state of the running process whenever something in it has changed.
#[derive(Debug)]
pub struct Keeper {
    kept: Kept,
    last: State,
    pub(super) written: Instant,
    pub(super) next: Instant,
    /// Whether the last write has failed, which is logged once.
    fails: bool,
}

impl Keeper {
    /// Writes the first state, with which this process's tables count.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin(mut kept: Kept, state: State) -> Result<Self, super::Error> {
        let path = kept.state_file(kept.generation);
        state.write(&path).map_err(super::failed(&path))?;
        kept.stays = true;
        let now = Instant::now();
        Ok(Self { kept, last: state, written: now, next: now + INTERVAL, fails: false })
    }

    /// Removes what earlier processes have left. Called once packets are forwarded.
    pub fn settle(&self) {
        self.kept.settle();
    }

    /// Returns the state as it was last written, to be changed.
    pub fn last(&self) -> &State {
        &self.last
    }

    /// Writes what `change` makes of the last state, if it is time to look and something has changed.
    pub fn step(&mut self, change: impl FnOnce(&mut State)) {
        if Instant::now() >= self.next {
            self.write(change, false);
        }
    }

    /// Writes what `change` makes of the last state at once: before it takes effect, or at the end.
    pub fn write_now(&mut self, change: impl FnOnce(&mut State)) {
        self.write(change, true);
    }

    fn write(&mut self, change: impl FnOnce(&mut State), at_once: bool) {
        let now = Instant::now();
        self.next = now + INTERVAL;
        let mut state = self.last.clone();
        change(&mut state);
        if !at_once && state.is_same(&self.last) && now - self.written < LONGEST {
            return;
        }
        let path = self.kept.state_file(self.kept.generation);
        match state.write(&path) {
            Ok(()) => (self.last, self.written, self.fails) = (state, now, false),
            Err(error) => {
                if !std::mem::replace(&mut self.fails, true) {
                    let file = path.display();
                    tracing::error!(%file, %error, "cannot write the state for the next process");
                }
            }
        }
    }
}
