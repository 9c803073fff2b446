//! The control thread's share of races: it takes the reports of the worker every 10 ms and makes
//! plans of them, as in the appliance.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use firstack::control::memory::Remembering;
use pipeline::base::time::Ticks;

/// The time between two turns.
const TURN: Duration = Duration::from_millis(10);

/// The keeper's thread. It ends with this value.
pub struct Keeper(Sender<Vec<Remembering>>);

impl Keeper {
    /// Starts the thread, with the priority and the CPUs of the caller: before those of the caller
    /// change.
    pub fn start() -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || run(&receiver));
        Self(sender)
    }

    /// Keeps these memories instead of the earlier ones.
    pub fn keep(&self, memories: Vec<Remembering>) {
        // The thread lives as long as this end.
        let _ = self.0.send(memories);
    }
}

fn run(receiver: &Receiver<Vec<Remembering>>) {
    let (mut kept, mut since) = (Vec::new(), Instant::now());
    loop {
        match receiver.recv_timeout(TURN) {
            Ok(memories) => (kept, since) = (memories, Instant::now()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Ticks::from_micros(since.elapsed().as_micros() as u64);
        kept.iter_mut().for_each(|memory| memory.step(now));
    }
}
