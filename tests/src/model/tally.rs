//! Runs of a property test, and the coverage of verdicts in a whole run.

use std::cell::RefCell;

use pipeline::verdict::Verdict;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestError, TestRunner};

/// Counts of verdicts.
pub struct Tally(RefCell<[u64; Verdict::COUNT]>);

impl Default for Tally {
    fn default() -> Self {
        Self(RefCell::new([0; Verdict::COUNT]))
    }
}

impl Tally {
    /// Counts these verdicts.
    pub fn add(&self, verdicts: &[Verdict]) {
        let mut counts = self.0.borrow_mut();
        verdicts.iter().for_each(|verdict| counts[*verdict as usize] += 1);
    }

    /// # Panics
    /// When one of these verdicts never occurred.
    pub fn check(&self, reachable: &[Verdict]) {
        let counts = self.0.borrow();
        let unseen: Vec<_> = reachable.iter().filter(|v| counts[**v as usize] == 0).collect();
        assert!(unseen.is_empty(), "never happened: {unseen:?}");
    }
}

/// Tests a property with `cases` inputs, or with `PROPTEST_CASES` if that is more.
///
/// # Panics
/// With the smallest failing input.
pub fn run<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value)) {
    let default = Config::default();
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if asked { default.cases.max(cases) } else { cases };
    let config = Config { cases, failure_persistence: None, ..default };
    let attempt = |value| {
        property(value);
        Ok(())
    };
    match TestRunner::new(config).run(strategy, attempt) {
        Ok(()) => {}
        Err(TestError::Fail(reason, input)) => panic!("{reason}\nsmallest input: {input:?}"),
        Err(error) => panic!("{error}"),
    }
}
