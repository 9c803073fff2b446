//! What the kernel says of this process's threads.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// What a thread does, as far as the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It runs, or waits for a CPU.
    Running,
    /// It sleeps in the kernel.
    Asleep,
    /// It is stopped by a signal or a debugger, or is gone.
    Stopped,
}

impl Run {
    /// Returns it in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Asleep => "blocked in the kernel",
            Self::Stopped => "stopped",
        }
    }
}

/// A look at a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The CPU time that it has used.
    pub used: Duration,
    /// What it does.
    pub run: Run,
}

/// Looks at a thread of this process, given by the kernel's number. Returns `None` if there is none.
pub fn look(number: i32) -> Option<Thread> {
    // The clock of a thread's CPU time (linux/posix-timers.h: CPUCLOCK_PERTHREAD, CPUCLOCK_SCHED). It
    // is right while the thread runs, which the figures in /proc are not on a CPU without ticks.
    let clock = ClockId::from_raw(!number << 3 | 6);
    let used = clock_gettime(clock).ok()?.into();
    let stat = std::fs::read_to_string(format!("/proc/self/task/{number}/stat")).ok()?;
    Some(Thread { used, run: state(&stat)? })
}

/// Returns the state in a thread's `stat` file, behind its name, which is in parentheses and may have
/// some itself.
fn state(stat: &str) -> Option<Run> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(match rest.trim_start().chars().next()? {
        'R' => Run::Running,
        'S' | 'D' | 'I' => Run::Asleep,
        _ => Run::Stopped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_the_name() {
        assert_eq!(state("12 (a) S (b)) R 1 2"), Some(Run::Running));
        for (letter, run) in [("D", Run::Asleep), ("S", Run::Asleep), ("t", Run::Stopped)] {
            assert_eq!(state(&format!("1 (x) {letter} 0")), Some(run));
        }
        assert_eq!(state("1 (x)"), None);
    }

    #[test]
    fn a_thread_that_works_uses_time() {
        let own = nix::unistd::gettid().as_raw();
        let before = look(own).unwrap();
        assert_eq!(before.run, Run::Running);
        while look(own).unwrap().used < before.used + Duration::from_millis(5) {}
        assert_eq!(look(i32::MAX - 1), None);
    }
}
