//! The random number generator: one per run, so that a seed reproduces the run.

use crate::lab::wan;

/// A seeded random number generator.
#[derive(Debug, Clone)]
pub struct Rng(wan::Generator);

impl Rng {
    /// Creates the generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(wan::Generator::new(seed))
    }

    /// Returns the next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number from `least` to `most`, both inclusive.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        // The modulo bias is negligible: ranges are small against 2^64.
        least + self.next_u64() % (most - least + 1)
    }

    /// Returns a size or count from `least` to `most`, both inclusive.
    pub fn size(&mut self, least: usize, most: usize) -> usize {
        self.between(least as u64, most as u64) as usize
    }

    /// Returns `true` with a probability of `per_mille` / 1000.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.next_u64() % 1000 < per_mille
    }

    /// Returns one of the choices, with probabilities proportional to their weights.
    pub fn pick<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let sum = choices.iter().map(|(weight, _)| weight).sum::<u64>();
        let mut at = self.next_u64() % sum;
        for &(weight, choice) in choices {
            if at < weight {
                return choice;
            }
            at -= weight;
        }
        unreachable!("the weights add up to their sum")
    }
}
