//! Measurements without a clock: every kind of work on the data path, in reproducible bursts. The
//! test `allocations` counts their allocations, the program `instructions` their instructions.

mod configuration;
mod direct;
mod established;
mod families;
mod parts;
mod roles;

/// Warm-up rounds, which do all one-time work.
pub const WARM_UP: usize = 8;
/// Rounds measured.
pub const MEASURED: usize = 24;
/// Rounds of a case in all.
const ROUNDS: usize = WARM_UP + MEASURED;

/// The work of a case. A step is one burst, or as many calls of a stage.
pub trait Work {
    /// Prepares the next step. Not measured.
    fn prepare(&mut self);
    /// The measured step.
    fn step(&mut self);
    /// Checks and removes the step's results. Not measured.
    fn check(&mut self);
}

/// The name of a case, and the constructor of its work.
type Named = (&'static str, fn() -> Box<dyn Work>);

/// A case to be measured.
pub struct Case {
    /// Its name, also in the baseline.
    pub name: &'static str,
    /// The unit of its figures: `packet`, `race`, `key`, ...
    pub unit: &'static str,
    /// Steps per round.
    pub steps: usize,
    /// Units per round.
    pub units: usize,
    /// Builds the work of all rounds.
    pub build: fn() -> Box<dyn Work>,
}

impl Case {
    /// Creates a case with one step per round, of 32 units.
    const fn burst(name: &'static str, unit: &'static str, build: fn() -> Box<dyn Work>) -> Self {
        Self { name, unit, steps: 1, units: crate::BURST, build }
    }

    /// Runs all rounds. `measure` runs each measured step, by calling [`Work::step`] once.
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

    /// Returns the number of units in all measured steps.
    pub const fn units_measured(&self) -> usize {
        MEASURED * self.units
    }
}

/// Returns all cases, in the order of reports.
pub fn all() -> impl Iterator<Item = Case> {
    let (largest, established) = (configuration::cases(), established::cases());
    let roles = roles::cases().into_iter().chain(established).chain(direct::cases());
    roles.chain(largest).chain(parts::cases()).chain(families::cases())
}
