//! The watchdog: finds a worker that does not come round any more, so that the process can end and be
//! started again. A wire that is stuck is worse than one that is cut for a moment.
//!
//! "Does not come round" is not enough: a machine that is overloaded, suspended or stopped, or a
//! debugger, keeps good workers from running. What counts is evidence that a worker *could* have come
//! round and did not, collected while its pulse stands still:
//!
//! - the CPU time that its thread has used: a round takes microseconds of it;
//! - time for which it was blocked in the kernel: asleep at every look without having run, though not at
//!   the one place where workers sleep.
//!
//! A thread that waits for a CPU uses no time and is not asleep; one that was stopped is in a state of
//! its own. Each look adds a step at most, so that a process that was stopped as a whole, with this
//! thread, adds one step and no more.

use std::time::{Duration, Instant};

use crate::datapath::pulse::{Beat, SharedPulse, Stage};
use crate::sys::thread::{self, Run, Thread};

/// Looks within the time after which a worker counts as stuck.
const LOOKS: u32 = 8;

/// A worker that is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The worker's number.
    pub worker: usize,
    /// Its CPU.
    pub core: u16,
    /// What it did last.
    pub stage: Stage,
    /// How its thread was found.
    pub run: Run,
    /// How often it had come round.
    pub rounds: u64,
}

/// Watches the workers of a process.
#[derive(Debug)]
pub struct Watchdog {
    /// The evidence at which a worker is stuck; zero: never.
    limit: Duration,
    next: Option<Instant>,
    workers: Vec<Watched>,
}

/// A worker that is watched.
#[derive(Debug)]
struct Watched {
    core: u16,
    pulse: SharedPulse,
    beat: Beat,
    used: Duration,
    evidence: Duration,
}

impl Watchdog {
    /// Watches workers by their pulses, each on a CPU. One is stuck that has not come round for `limit`
    /// although it could have; with a limit of zero none is.
    pub fn new(limit: Duration, workers: impl IntoIterator<Item = (u16, SharedPulse)>) -> Self {
        let watched = |(core, pulse): (u16, SharedPulse)| {
            let (beat, none) = (pulse.beat(), Duration::ZERO);
            Watched { core, pulse, beat, used: none, evidence: none }
        };
        Self { limit, next: None, workers: workers.into_iter().map(watched).collect() }
    }

    /// Looks at the workers if it is time to. Returns one that is stuck.
    pub fn step(&mut self, now: Instant) -> Option<Stuck> {
        self.step_with(now, thread::look)
    }

    fn step_with(&mut self, now: Instant, look: impl Fn(i32) -> Option<Thread>) -> Option<Stuck> {
        if self.limit.is_zero() || self.next.is_some_and(|next| now < next) {
            return None;
        }
        let step = self.limit / LOOKS;
        self.next = Some(now + step);
        let limit = self.limit;
        self.workers.iter_mut().enumerate().find_map(|(worker, watched)| {
            let run = watched.look(step, &look)?;
            let (core, stage) = (watched.core, watched.beat.stage());
            let rounds = watched.beat.round();
            (watched.evidence >= limit).then_some(Stuck { worker, core, stage, run, rounds })
        })
    }
}

impl Watched {
    /// Looks at the worker, and collects evidence if it has not come round. Returns how its thread was
    /// found then.
    fn look(&mut self, step: Duration, look: impl Fn(i32) -> Option<Thread>) -> Option<Run> {
        let beat = self.pulse.beat();
        let has_moved = std::mem::replace(&mut self.beat, beat) != beat;
        let thread = self.pulse.thread().and_then(look);
        let Some(thread) = thread.filter(|_| !matches!(beat.stage(), Stage::Start | Stage::End))
        else {
            self.evidence = Duration::ZERO;
            return None;
        };
        let used = thread.used.saturating_sub(std::mem::replace(&mut self.used, thread.used));
        if has_moved || thread.run == Run::Stopped {
            self.evidence = Duration::ZERO;
            return None;
        }
        let is_blocked = used.is_zero() && thread.run == Run::Asleep && beat.stage() != Stage::Idle;
        self.evidence += if is_blocked { step } else { used.min(step) };
        Some(thread.run)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;
    use crate::datapath::pulse::Heart;

    const MS: Duration = Duration::from_millis(1);
    const LIMIT: Duration = Duration::from_millis(800);
    const STEP: Duration = Duration::from_millis(100);

    /// A watchdog over one worker, whose thread is as a test says.
    struct Bench {
        dog: Watchdog,
        heart: Heart,
        now: Instant,
        thread: Cell<Thread>,
    }

    impl Bench {
        fn new() -> Self {
            let pulse = SharedPulse::default();
            let mut heart = Heart::new(Arc::clone(&pulse));
            heart.begin();
            heart.round();
            heart.at(Stage::RoleInside);
            let thread = Cell::new(Thread { used: MS, run: Run::Running });
            let dog = Watchdog::new(LIMIT, [(3, pulse)]);
            let mut bench = Self { dog, heart, now: Instant::now(), thread };
            assert_eq!(bench.look(STEP, Run::Running, Duration::ZERO), None);
            bench
        }

        /// Some time passes, of which the thread uses a part; then the watchdog looks.
        fn look(&mut self, passes: Duration, run: Run, used: Duration) -> Option<Stuck> {
            self.now += passes;
            self.thread.set(Thread { used: self.thread.get().used + used, run });
            self.dog.step_with(self.now, |_| Some(self.thread.get()))
        }

        /// The same ten times; the number of looks after which the worker was stuck.
        fn looks(&mut self, passes: Duration, run: Run, used: Duration) -> Option<usize> {
            (1..=10).find(|_| self.look(passes, run, used).is_some())
        }
    }

    #[test]
    fn a_worker_that_runs_and_does_not_come_round_is_stuck() {
        let mut bench = Bench::new();
        assert_eq!(bench.looks(STEP, Run::Running, STEP), Some(8));
        let stuck = bench.look(STEP, Run::Running, STEP).unwrap();
        assert_eq!((stuck.worker, stuck.core, stuck.rounds), (0, 3, 1));
        assert_eq!((stuck.stage, stuck.run), (Stage::RoleInside, Run::Running));
        // It has half a CPU: twice the time.
        let mut bench = Bench::new();
        assert_eq!(bench.looks(STEP, Run::Running, STEP / 2), None);
        assert_eq!(bench.looks(STEP, Run::Running, STEP / 2), Some(6));
    }

    #[test]
    fn a_worker_that_comes_round_is_not() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            assert_eq!(bench.looks(STEP, Run::Running, STEP).filter(|looks| *looks < 8), None);
            bench.heart.round();
            bench.heart.at(Stage::RoleInside);
            assert_eq!(bench.look(STEP, Run::Running, STEP), None);
        }
    }

    #[test]
    fn a_worker_that_gets_no_cpu_or_is_stopped_is_not() {
        let none = Duration::ZERO;
        for run in [Run::Running, Run::Stopped] {
            let mut bench = Bench::new();
            for _ in 0..100 {
                assert_eq!(bench.looks(STEP, run, none), None, "{run:?}");
            }
        }
        // The whole process was stopped, time and again, for hours.
        let mut bench = Bench::new();
        for _ in 0..7 {
            assert_eq!(bench.look(3600 * STEP, Run::Running, 5 * MS), None);
        }
    }

    #[test]
    fn a_worker_that_is_blocked_is_stuck_but_not_one_that_sleeps() {
        let none = Duration::ZERO;
        let mut bench = Bench::new();
        bench.heart.at(Stage::ReceiveOutside);
        assert_eq!(bench.look(STEP, Run::Asleep, none), None, "it has just come there");
        assert_eq!(bench.looks(STEP, Run::Asleep, none), Some(8));
        for stage in [Stage::Idle, Stage::End, Stage::Start] {
            let mut bench = Bench::new();
            bench.heart.at(stage);
            assert_eq!(bench.looks(STEP, Run::Asleep, none), None, "{stage:?}");
        }
    }

    #[test]
    fn without_a_limit_nothing_is_looked_at() {
        let mut bench = Bench::new();
        bench.dog.limit = Duration::ZERO;
        assert_eq!(bench.looks(STEP, Run::Running, STEP), None);
    }

    /// A thread that works for its pulse, and then for nothing.
    #[test]
    fn a_real_thread_that_loops_is_found_and_one_that_waits_for_it_is_not() {
        let (looping, waiting) = (SharedPulse::default(), SharedPulse::default());
        let stop = Arc::new(AtomicBool::new(false));
        let run = |pulse: &SharedPulse, stage| {
            let (mut heart, stop) = (Heart::new(Arc::clone(pulse)), Arc::clone(&stop));
            std::thread::spawn(move || {
                heart.begin();
                heart.round();
                heart.at(stage);
                while !stop.load(Relaxed) {
                    match stage {
                        Stage::Idle => std::thread::sleep(MS),
                        _ => std::hint::spin_loop(),
                    }
                }
            })
        };
        let threads = [run(&looping, Stage::Timer), run(&waiting, Stage::Idle)];
        let limit = 200 * MS;
        let mut dog = Watchdog::new(limit, [(7, Arc::clone(&waiting)), (8, Arc::clone(&looping))]);
        let start = Instant::now();
        let stuck = loop {
            if let Some(stuck) = dog.step(Instant::now()) {
                break stuck;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "it is not found");
            std::thread::sleep(MS);
        };
        assert!(start.elapsed() >= limit / 2, "too early");
        assert_eq!((stuck.worker, stuck.core, stuck.stage), (1, 8, Stage::Timer));
        stop.store(true, Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
