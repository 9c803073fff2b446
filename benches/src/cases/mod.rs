//! What is measured without a clock: the data path's every kind of work, in bursts that are the
//! same each time. The test `allocations` counts what they allocate, the program `instructions`
//! how many instructions they take.

mod parts;
mod roles;

/// Rounds before measuring: whatever happens once has happened then.
pub const WARM_UP: usize = 8;
/// Rounds measured.
pub const MEASURED: usize = 24;
/// Rounds that a case must have work for.
const ROUNDS: usize = WARM_UP + MEASURED;

/// The work of a case, one burst (or as many calls of a stage) a step.
pub trait Work {
    /// Makes the next step ready; not measured.
    fn prepare(&mut self);
    /// The step: what is measured.
    fn step(&mut self);
    /// Checks what the step came to, and takes it away; not measured.
    fn check(&mut self);
}

/// A name, and the work that it stands for.
type Named = (&'static str, fn() -> Box<dyn Work>);

/// Something to be measured.
pub struct Case {
    /// Its name, which baselines know it by.
    pub name: &'static str,
    /// What the figures are of: `packet`, `race`, `key`, ...
    pub unit: &'static str,
    /// Steps in a round.
    pub steps: usize,
    /// Units in a round.
    pub units: usize,
    /// Builds the work, with all its rounds.
    pub build: fn() -> Box<dyn Work>,
}

impl Case {
    /// A step a round, 32 of this unit in it.
    const fn burst(name: &'static str, unit: &'static str, build: fn() -> Box<dyn Work>) -> Self {
        Self { name, unit, steps: 1, units: crate::BURST, build }
    }

    /// Does all of the work. Each measured step is made by `measure`, which is given the work to
    /// call [`Work::step`] of, once.
    pub fn run(&self, mut measure: impl FnMut(&mut dyn Work)) {
        let mut work = (self.build)();
        for round in 0..ROUNDS {
            for _ in 0..self.steps {
                work.prepare();
                match round < WARM_UP {
                    true => work.step(),
                    false => measure(work.as_mut()),
                }
                work.check();
            }
        }
    }

    /// How many units the measured steps have together.
    pub const fn units_measured(&self) -> usize {
        MEASURED * self.units
    }
}

/// All cases, in the order of reports.
pub fn all() -> impl Iterator<Item = Case> {
    roles::cases().into_iter().chain(parts::cases())
}
